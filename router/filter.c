#include <stdio.h>

#include "core/alloc.h"
#include "core/assert.h"
#include "core/logger.h"
#include "router/filter.h"
#include "router/router.h"

/* From JSON text to a program, in three steps: (1) check and parse (filter_text.c), (2) walk the
 * tree with a stack of our own into clauses and groups, (3) set the jumps. */

#define KNOWN_DIALECTS "exact, prefix, suffix, all, any, not, sql, data"
#define KNOWN_OPERATORS "exact, prefix, suffix, in, range, exists, cidr, all, any, not"

_Static_assert(MR_FILTER_NODES_MAX < MR__REJECT, "clause numbers must fit a jump");

/* --- (2) the tree -------------------------------------------------------------------------- */

enum mr_status mr__filter_refuse(const struct mr__compiler *c, struct mr__spot spot,
                                 const char *behind, enum mr_status status, const char *reason,
                                 struct mr_problem *problem)
{
    char path[MR__PATH_SIZE];
    mr__path(c->groups, spot.group, spot.index, path);
    char clean[2 * MR_ATTR_NAME_SIZE_MAX + 1];
    mr_text_clean(clean, sizeof(clean), mr_bytes_of(behind));
    return mr_problem_set(problem, status, "%s%s%s %s", path, clean[0] == '\0' ? "" : ".", clean,
                          reason);
}

static enum mr_status refuse_size(struct mr_problem *problem)
{
    return mr_problem_set(problem, MR_E_INVALID, "filter has more than %u parts; split it into "
                          "several subscriptions", MR_FILTER_NODES_MAX);
}

enum mr_status mr__filter_add_group(struct mr__compiler *c, enum mr__kind kind,
                                    struct mr__spot spot, int count, struct mr_problem *problem)
{
    MR_ASSERT(count > 0 || kind == MR__LIST);
    if (kind != MR__LIST &&
        (c->node_count >= MR_FILTER_NODES_MAX || count > (int)MR_FILTER_NODES_MAX)) {
        return refuse_size(problem);
    }
    c->node_count += kind != MR__LIST;
    c->groups[c->group_count++] = (struct mr__group){
        .parent = spot.group,
        .index = spot.index,
        .count = (uint16_t)count,
        .clause_first = (uint16_t)c->clause_count,
        .kind = (uint8_t)kind,
    };
    return MR_OK;
}

enum mr_status mr__filter_add_clause(struct mr__compiler *c, enum mr__op op, uint32_t attr,
                                     struct mr__spot spot, struct mr_bytes value,
                                     struct mr_problem *problem)
{
    if (c->node_count >= MR_FILTER_NODES_MAX) {
        return refuse_size(problem);
    }
    size_t at = c->values.size;
    enum mr_status r = mr_buf_append_bytes(&c->values, value);
    if (r != MR_OK) {
        return r;
    }
    c->node_count++;
    c->clauses[c->clause_count++] = (struct mr__clause){
        .attr = attr,
        .value_at = (uint32_t)at,
        .value_size = (uint32_t)value.size,
        .group = spot.group,
        .index = spot.index,
        .op = (uint8_t)op,
    };
    return MR_OK;
}

/* Opens a group whose members, the chain @p first, are compiled next. */
static enum mr_status push_group(struct mr__compiler *c, enum mr__kind kind, struct mr__spot spot,
                                 const cJSON *first, int count, struct mr_problem *problem)
{
    bool data = kind == MR__DATA || (c->depth > 0 && c->frames[c->depth - 1].data);
    if (c->depth == MR_FILTER_DEPTH_MAX) {
        return mr_problem_set(problem, MR_E_INVALID, "filter is nested more than %u deep",
                              MR_FILTER_DEPTH_MAX);
    }
    enum mr_status r = mr__filter_add_group(c, kind, spot, count, problem);
    if (r == MR_OK) {
        c->frames[c->depth++] = (struct mr__frame){
            .next = first, .group = (uint16_t)(c->group_count - 1), .data = data};
    }
    return r;
}

static enum mr_status check_clause(const struct mr__compiler *c, struct mr__spot spot,
                                   const char *dialect, const cJSON *item,
                                   struct mr_problem *problem)
{
    char behind[MR_ATTR_NAME_SIZE_MAX + 16];
    const char *name = item->string;
    (void)snprintf(behind, sizeof(behind), "%s.%s", dialect, name); /* cut: it is only shown */
    struct mr_bytes bytes = mr_bytes_of(name);
    if (bytes.size == 0) {
        return mr__filter_refuse(c, spot, dialect, MR_E_INVALID, "has an empty attribute name",
                                 problem);
    }
    if (mr_bytes_equal(bytes, MR_BYTES_LITERAL("data"))) {
        return mr__filter_refuse(c, spot, behind, MR_E_INVALID,
                      "names no attribute: data cannot be compared by this dialect", problem);
    }
    if (!mr__name_is_legal(bytes)) {
        return mr__filter_refuse(c, spot, behind, MR_E_INVALID,
                      "names no attribute: names are a-z and 0-9, at most 64 characters", problem);
    }
    if (!cJSON_IsString(item)) {
        return mr__filter_refuse(c, spot, behind, MR_E_INVALID,
                      "must be a string: write the value in double quotes", problem);
    }
    if (item->valuestring[0] == '\0') {
        return mr__filter_refuse(c, spot, behind, MR_E_INVALID, "must not be empty", problem);
    }
    for (const cJSON *before = item->prev; before->next != NULL; before = before->prev) {
        if (strcmp(before->string, name) == 0) {
            return mr__filter_refuse(c, spot, behind, MR_E_INVALID, "stands there twice", problem);
        }
    }
    return MR_OK;
}

static enum mr_status add_clause(struct mr__compiler *c, enum mr__op op, struct mr__spot spot,
                                 const cJSON *item, struct mr_problem *problem)
{
    uint32_t attr;
    enum mr_status r = mr__names_add(c->names, mr_bytes_of(item->string), &attr);
    return r == MR_OK ? mr__filter_add_clause(c, op, attr, spot, mr_bytes_of(item->valuestring),
                                              problem)
                      : r;
}

/* {"exact": {"type": "a", "source": "b"}}: one clause, or a group of them. */
static enum mr_status compile_clauses(struct mr__compiler *c, enum mr__op op, struct mr__spot spot,
                                      const cJSON *body, struct mr_problem *problem)
{
    const char *dialect = mr__op_name((uint8_t)op);
    if (!cJSON_IsObject(body)) {
        return mr__filter_refuse(c, spot, dialect, MR_E_INVALID,
                      "must be an object of attribute names and strings", problem);
    }
    int count = cJSON_GetArraySize(body);
    if (count == 0) {
        return mr__filter_refuse(c, spot, dialect, MR_E_INVALID, "names no attribute", problem);
    }
    enum mr_status r = MR_OK;
    struct mr__spot inner = spot;
    if (count > 1) {
        r = mr__filter_add_group(c, MR__EACH, spot, count, problem);
        inner = (struct mr__spot){.group = (uint16_t)(c->group_count - 1)};
    }
    for (const cJSON *item = body->child; item != NULL && r == MR_OK; item = item->next) {
        r = check_clause(c, spot, dialect, item, problem);
        if (r == MR_OK) {
            r = add_clause(c, op, inner, item, problem);
        }
        inner.index++;
    }
    if (r == MR_OK && count > 1) {
        c->groups[inner.group].clause_end = (uint16_t)c->clause_count;
    }
    return r;
}

static enum mr_status compile_members(struct mr__compiler *c, enum mr__kind kind,
                                      struct mr__spot spot, const char *dialect, const cJSON *body,
                                      struct mr_problem *problem)
{
    if (kind == MR__NOT || kind == MR__DATA) {
        if (!cJSON_IsObject(body)) {
            return mr__filter_refuse(c, spot, dialect, MR_E_INVALID, "must be one filter object",
                                     problem);
        }
        return push_group(c, kind, spot, body, 1, problem); /* body has no sibling */
    }
    if (!cJSON_IsArray(body)) {
        return mr__filter_refuse(c, spot, dialect, MR_E_INVALID, "must be a list of filters",
                                 problem);
    }
    if (body->child == NULL) {
        return mr__filter_refuse(c, spot, dialect, MR_E_INVALID, "must hold at least one filter",
                                 problem);
    }
    return push_group(c, kind, spot, body->child, cJSON_GetArraySize(body), problem);
}

static enum mr_status refuse_name(const struct mr__compiler *c, struct mr__spot spot,
                                  const char *name, bool data, struct mr_problem *problem)
{
    if (strcmp(name, "time") == 0 || strcmp(name, "rate") == 0) {
        return mr__filter_refuse(c, spot, name, MR_E_UNSUPPORTED,
                                 "is not available in this release; there are " KNOWN_DIALECTS,
                                 problem);
    }
    return mr__filter_refuse(c, spot, name, MR_E_INVALID,
                             data ? "is an unknown operator; data knows " KNOWN_OPERATORS
                                  : "is an unknown dialect; known are " KNOWN_DIALECTS, problem);
}

static enum mr_status check_filter(const struct mr__compiler *c, struct mr__spot spot,
                                   const cJSON *item, struct mr_problem *problem)
{
    bool data = c->frames[c->depth - 1].data;
    if (!cJSON_IsObject(item)) {
        return mr__filter_refuse(c, spot, "", MR_E_INVALID, data
                                 ? "must be an object like {\"exact\": {\"order.shop\": \"…\"}}"
                                 : "must be an object like {\"exact\": {\"type\": \"…\"}}",
                                 problem);
    }
    if (item->child == NULL) {
        return mr__filter_refuse(c, spot, "", MR_E_INVALID,
                                 data ? "is empty; it must hold one of " KNOWN_OPERATORS
                                      : "is empty; it must hold one of " KNOWN_DIALECTS, problem);
    }
    if (item->child->next != NULL) {
        return mr__filter_refuse(c, spot, "", MR_E_INVALID,
                                 "has two members; write two filters, in a list or under all",
                                 problem);
    }
    return MR_OK;
}

static enum mr_status compile_filter(struct mr__compiler *c, const cJSON *item,
                                     struct mr__spot spot, struct mr_problem *problem)
{
    static const struct {
        const char *name;
        int op;   /* enum mr__op, or -1 */
        int kind; /* enum mr__kind otherwise */
    } dialects[] = {
        {"exact", MR__EXACT, 0}, {"prefix", MR__PREFIX, 0}, {"suffix", MR__SUFFIX, 0},
        {"all", -1, MR__ALL},    {"any", -1, MR__ANY},      {"not", -1, MR__NOT},
        {"data", -1, MR__DATA},
    };
    bool data = c->frames[c->depth - 1].data;
    enum mr_status r = check_filter(c, spot, item, problem);
    if (r != MR_OK) {
        return r;
    }
    const char *name = item->child->string;
    if (strcmp(name, "sql") == 0 && !data) {
        return mr__filter_compile_sql(c, spot, item->child, problem);
    }
    for (size_t i = 0; i < MR_ARRAY_COUNT(dialects); i++) {
        if (strcmp(name, dialects[i].name) != 0 || (data && dialects[i].kind == MR__DATA)) {
            continue;
        }
        if (dialects[i].op < 0) {
            return compile_members(c, (enum mr__kind)dialects[i].kind, spot, name, item->child,
                                   problem);
        }
        if (!data) {
            return compile_clauses(c, (enum mr__op)dialects[i].op, spot, item->child, problem);
        }
    }
    r = data ? mr__filter_compile_data(c, spot, item->child, problem) : MR_E_NOT_FOUND;
    return r == MR_E_NOT_FOUND ? refuse_name(c, spot, name, data, problem) : r;
}

static enum mr_status compile_tree(struct mr__compiler *c, const cJSON *root,
                                   struct mr_problem *problem)
{
    if (!cJSON_IsArray(root) && !cJSON_IsObject(root)) {
        return mr_problem_set(problem, MR_E_INVALID, "filter must be a list of filters");
    }
    int count = cJSON_IsArray(root) ? cJSON_GetArraySize(root) : 1;
    if (count > (int)MR_FILTER_NODES_MAX) {
        return refuse_size(problem);
    }
    enum mr_status r =
        push_group(c, MR__LIST, (struct mr__spot){.group = MR__GROUP_NONE},
                   cJSON_IsArray(root) ? root->child : root, count, problem);
    while (r == MR_OK && c->depth > 0) {
        struct mr__frame *frame = &c->frames[c->depth - 1];
        const cJSON *item = frame->next;
        if (item == NULL) {
            c->groups[frame->group].clause_end = (uint16_t)c->clause_count;
            c->depth--;
            continue;
        }
        struct mr__spot spot = {.group = frame->group, .index = frame->index++};
        frame->next = item->next;
        r = compile_filter(c, item, spot, problem);
    }
    return r;
}

/* --- (3) the jumps ------------------------------------------------------------------------- */

/* Where to go on after @p clause turned out @p value: outwards as long as that decides the group,
 * else to the first clause behind what is decided. Each member holds at least one clause. */
static uint16_t jump_of(const struct mr__program *p, uint16_t clause, bool value)
{
    uint16_t end = (uint16_t)(clause + 1);
    uint16_t at = p->clauses[clause].group;
    for (;;) {
        const struct mr__group *group = &p->groups[at];
        bool undecided = mr__group_is_any(group) ? !value : value;
        if (group->kind == MR__NOT) {
            value = !value;
        } else if (undecided && end < group->clause_end) {
            return end;
        }
        if (at == 0) {
            return value ? MR__ACCEPT : MR__REJECT;
        }
        end = group->clause_end;
        at = group->parent;
    }
}

static struct mr__program *make_program(const struct mr__compiler *c)
{
    size_t clauses_size = c->clause_count * sizeof(struct mr__clause);
    size_t hints_size = c->hint_count * sizeof(struct mr__clause);
    size_t groups_size = c->group_count * sizeof(struct mr__group);
    struct mr__program *p =
        mr_alloc(sizeof(*p) + clauses_size + hints_size + groups_size + c->values.size);
    if (p == NULL) {
        return NULL;
    }
    p->clause_count = (uint16_t)c->clause_count;
    p->hint_count = (uint16_t)c->hint_count;
    p->group_count = (uint16_t)c->group_count;
    p->clauses = (void *)(p + 1);
    p->groups = (void *)(p->clauses + c->clause_count + c->hint_count);
    p->values = (void *)(p->groups + c->group_count);
    memcpy(p->clauses, c->clauses, clauses_size);
    memcpy(p->clauses + c->clause_count, c->hints, hints_size);
    memcpy(p->groups, c->groups, groups_size);
    if (c->values.size > 0) {
        memcpy(p->values, c->values.data, c->values.size);
    }
    for (uint16_t i = 0; i < p->clause_count; i++) {
        p->clauses[i].on_true = jump_of(p, i, true);
        p->clauses[i].on_false = jump_of(p, i, false);
    }
    return p;
}

/* --- the calls ----------------------------------------------------------------------------- */

static void delete_tree(cJSON **tree)
{
    cJSON_Delete(*tree);
}

enum mr_status mr__compiler_create(struct mr__names *names, struct mr__compiler **ret_compiler)
{
    struct mr__compiler *c = mr_calloc(1, sizeof(*c));
    if (c == NULL) {
        return MR_E_NOMEM;
    }
    c->names = names;
    mr_buf_init(&c->values, MR_CONFIG_SIZE_MAX);
    *ret_compiler = c;
    return MR_OK;
}

void mr__compiler_destroy(struct mr__compiler *compiler)
{
    if (compiler != NULL) {
        if (compiler->sql != NULL) {
            mr__sql_compiler_release(compiler->sql);
            mr_free(compiler->sql);
        }
        mr_buf_release(&compiler->values);
        mr_free(compiler);
    }
}

enum mr_status mr__compile(struct mr__compiler *compiler, struct mr_bytes json,
                           struct mr__program **ret_program, struct mr_problem *problem)
{
    MR_CLEANUP(delete_tree) cJSON *root = NULL;
    enum mr_status r = mr__filter_parse(json, &root, problem);
    if (r != MR_OK) {
        return r;
    }
    compiler->node_count = 0;
    compiler->clause_count = 0;
    compiler->hint_count = 0;
    compiler->group_count = 0;
    compiler->depth = 0;
    mr_buf_clear(&compiler->values);
    r = compile_tree(compiler, root, problem);
    if (r == MR_OK) {
        struct mr__program *program = make_program(compiler);
        if (program != NULL) {
            *ret_program = program;
            return MR_OK;
        }
        r = MR_E_NOMEM;
    }
    return r == MR_E_NOMEM ? mr_problem_set(problem, r, "out of memory") : r;
}

struct mr_filter {
    struct mr__names names;
    struct mr__program *program; /* owned */
};

enum mr_status mr_filter_create(struct mr_bytes json, struct mr_filter **ret_filter,
                                struct mr_problem *problem)
{
    struct mr_filter *filter = mr_calloc(1, sizeof(*filter));
    if (filter == NULL) {
        return mr_problem_set(problem, MR_E_NOMEM, "out of memory");
    }
    mr__names_init(&filter->names);
    struct mr__compiler *compiler = NULL;
    enum mr_status r = mr__compiler_create(&filter->names, &compiler);
    if (r == MR_OK) {
        r = mr__compile(compiler, json, &filter->program, problem);
    } else {
        (void)mr_problem_set(problem, r, "out of memory"); /* returns r */
    }
    mr__compiler_destroy(compiler);
    if (r != MR_OK) {
        mr_filter_destroy(filter);
        return r;
    }
    *ret_filter = filter;
    return MR_OK;
}

void mr_filter_destroy(struct mr_filter *filter)
{
    if (filter != NULL) {
        mr_free(filter->program);
        mr__names_release(&filter->names);
        mr_free(filter);
    }
}

bool mr_filter_test(const struct mr_filter *filter, struct mr_bytes record)
{
    struct mr__view view;
    struct mr__reading reading;
    mr__view_init(&view, &filter->names, record, &reading);
    bool holds = mr__program_holds(filter->program, &view);
    mr__view_release(&view);
    return holds;
}

struct mr_bytes mr_filter_exact(const struct mr_filter *filter, const char *attribute)
{
    const struct mr__program *p = filter->program;
    for (uint32_t c = 0; c < (uint32_t)p->clause_count + p->hint_count; c++) {
        const struct mr__clause *clause = &p->clauses[c];
        bool is_it = clause->op == MR__EXACT && (clause->attr & MR__IN_DATA) == 0 &&
                     mr_bytes_equal(mr__names_text(&filter->names, clause->attr),
                                    mr_bytes_of(attribute));
        for (uint16_t g = clause->group; is_it && g != MR__GROUP_NONE; g = p->groups[g].parent) {
            is_it = !mr__group_is_any(&p->groups[g]) && p->groups[g].kind != MR__NOT;
        }
        if (is_it) {
            return mr__clause_value(p, clause);
        }
    }
    return mr_bytes(NULL, 0);
}
