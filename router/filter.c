#include <stdio.h>

#include "core/alloc.h"
#include "core/assert.h"
#include "core/logger.h"
#include "router/program.h"
#include "router/router.h"

#include <cjson/cJSON.h>

/* From JSON text to a program, in four steps: (1) check what cJSON is lax about, (2) parse,
 * (3) walk the tree with a stack of our own into clauses and groups, (4) set the jumps. */

#define KNOWN_DIALECTS "exact, prefix, suffix, all, any, not"

struct frame {
    const cJSON *next; /* borrowed: the member compiled next, NULL at the end */
    uint16_t group;
    uint16_t index; /* of next */
};

struct mr__compiler {
    struct mr__names *names; /* borrowed */
    uint32_t clause_count;
    uint32_t group_count;
    uint32_t depth;
    struct mr_buf values;
    struct frame frames[MR_FILTER_DEPTH_MAX];
    struct mr__clause clauses[MR_FILTER_NODES_MAX];
    struct mr__group groups[MR_FILTER_NODES_MAX + 1]; /* + 1: the list */
};

_Static_assert(MR_FILTER_NODES_MAX < MR__REJECT, "clause numbers must fit a jump");

/* --- (1) the text -------------------------------------------------------------------------- */

static bool is_hex(uint8_t c)
{
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f');
}

/* The end of the string that begins at @p at, or 0. cJSON lets control bytes pass and takes a bad
 * \u escape for NUL, which would cut the value silently. */
static size_t check_string(struct mr_bytes json, size_t at)
{
    for (size_t i = at + 1; i < json.size; i++) {
        uint8_t c = json.data[i];
        if (c == '"') {
            return i + 1;
        }
        if (c < 0x20) {
            return 0;
        }
        if (c != '\\') {
            continue;
        }
        i++;
        if (i < json.size && json.data[i] == 'u') {
            if (json.size - i < 5 || memcmp(json.data + i + 1, "0000", 4) == 0) {
                return 0;
            }
            for (size_t k = 1; k <= 4; k++) {
                if (!is_hex(json.data[i + k])) {
                    return 0;
                }
            }
        }
    }
    return 0;
}

static enum mr_status check_text(struct mr_bytes json, struct mr_problem *problem)
{
    if (json.size > MR_CONFIG_SIZE_MAX) {
        return mr_problem_set(problem, MR_E_TOO_BIG, "filter is larger than %u bytes",
                              MR_CONFIG_SIZE_MAX);
    }
    if (!mr_bytes_is_utf8(json)) {
        return mr_problem_set(problem, MR_E_INVALID, "filter is not UTF-8");
    }
    uint32_t depth = 0;
    size_t i = 0;
    while (i < json.size) {
        uint8_t c = json.data[i];
        size_t next = i + 1;
        if (c == '"') {
            next = check_string(json, i);
        } else if (c >= 0x7F || (c < 0x20 && c != '\t' && c != '\n' && c != '\r')) {
            next = 0;
        } else if (c == '[' || c == '{') {
            depth++;
        } else if ((c == ']' || c == '}') && depth > 0) {
            depth--;
        }
        if (next == 0) {
            return mr_problem_set(problem, MR_E_INVALID, "filter is not JSON (at byte %zu)", i);
        }
        /* Two brackets a level at most: deeper text is refused before cJSON recurses on it. */
        if (depth > 2 * MR_FILTER_DEPTH_MAX + 3) {
            return mr_problem_set(problem, MR_E_INVALID, "filter is nested more than %u deep",
                                  MR_FILTER_DEPTH_MAX);
        }
        i = next;
    }
    return MR_OK;
}

static cJSON *parse_text(struct mr_bytes json)
{
    const char *text = (const char *)json.data;
    const char *end = NULL;
    cJSON *root = json.size == 0 ? NULL : cJSON_ParseWithLengthOpts(text, json.size, &end, 0);
    while (root != NULL && end < text + json.size) {
        if (*end != ' ' && *end != '\t' && *end != '\n' && *end != '\r') {
            cJSON_Delete(root);
            return NULL;
        }
        end++;
    }
    return root;
}

static void delete_tree(cJSON **tree)
{
    cJSON_Delete(*tree);
}

/* --- (3) the tree -------------------------------------------------------------------------- */

struct place {
    uint16_t group;
    uint16_t index;
};

/* A refusal: the path of the place, what stands behind it (or ""), and the reason. */
static enum mr_status refuse(const struct mr__compiler *c, struct place place, const char *behind,
                             enum mr_status status, const char *reason, struct mr_problem *problem)
{
    char path[MR__PATH_SIZE];
    mr__path(c->groups, place.group, place.index, path);
    char clean[MR_ATTR_NAME_SIZE_MAX + 1];
    mr_text_clean(clean, sizeof(clean), mr_bytes_of(behind));
    return mr_problem_set(problem, status, "%s%s%s %s", path, clean[0] == '\0' ? "" : ".", clean,
                          reason);
}

static enum mr_status add_group(struct mr__compiler *c, enum mr__kind kind, struct place place,
                                int count, struct mr_problem *problem)
{
    MR_ASSERT(count > 0 || kind == MR__LIST);
    if (c->group_count > 0 && (c->group_count + c->clause_count > MR_FILTER_NODES_MAX ||
                               count > (int)MR_FILTER_NODES_MAX)) {
        return mr_problem_set(problem, MR_E_INVALID, "filter has more than %u parts; split it "
                              "into several subscriptions", MR_FILTER_NODES_MAX);
    }
    c->groups[c->group_count++] = (struct mr__group){
        .parent = place.group,
        .index = place.index,
        .count = (uint16_t)count,
        .clause_first = (uint16_t)c->clause_count,
        .kind = (uint8_t)kind,
    };
    return MR_OK;
}

/* Opens a group whose members, the chain @p first, are compiled next. */
static enum mr_status push_group(struct mr__compiler *c, enum mr__kind kind, struct place place,
                                 const cJSON *first, int count, struct mr_problem *problem)
{
    if (c->depth == MR_FILTER_DEPTH_MAX) {
        return mr_problem_set(problem, MR_E_INVALID, "filter is nested more than %u deep",
                              MR_FILTER_DEPTH_MAX);
    }
    enum mr_status r = add_group(c, kind, place, count, problem);
    if (r == MR_OK) {
        c->frames[c->depth++] =
            (struct frame){.next = first, .group = (uint16_t)(c->group_count - 1)};
    }
    return r;
}

static enum mr_status check_clause(const struct mr__compiler *c, struct place place,
                                   const char *dialect, const cJSON *item,
                                   struct mr_problem *problem)
{
    char behind[MR_ATTR_NAME_SIZE_MAX + 16];
    const char *name = item->string;
    (void)snprintf(behind, sizeof(behind), "%s.%s", dialect, name); /* cut: it is only shown */
    struct mr_bytes bytes = mr_bytes_of(name);
    if (bytes.size == 0) {
        return refuse(c, place, dialect, MR_E_INVALID, "has an empty attribute name", problem);
    }
    if (mr_bytes_equal(bytes, MR_BYTES_LITERAL("data"))) {
        return refuse(c, place, behind, MR_E_INVALID,
                      "names no attribute: data cannot be compared by this dialect", problem);
    }
    if (!mr__name_is_legal(bytes)) {
        return refuse(c, place, behind, MR_E_INVALID,
                      "names no attribute: names are a-z and 0-9, at most 64 characters", problem);
    }
    if (!cJSON_IsString(item)) {
        return refuse(c, place, behind, MR_E_INVALID,
                      "must be a string: write the value in double quotes", problem);
    }
    if (item->valuestring[0] == '\0') {
        return refuse(c, place, behind, MR_E_INVALID, "must not be empty", problem);
    }
    for (const cJSON *before = item->prev; before->next != NULL; before = before->prev) {
        if (strcmp(before->string, name) == 0) {
            return refuse(c, place, behind, MR_E_INVALID, "stands there twice", problem);
        }
    }
    return MR_OK;
}

static enum mr_status add_clause(struct mr__compiler *c, enum mr__op op, struct place place,
                                 const cJSON *item, struct mr_problem *problem)
{
    if (c->group_count - 1 + c->clause_count >= MR_FILTER_NODES_MAX) {
        return mr_problem_set(problem, MR_E_INVALID, "filter has more than %u parts; split it "
                              "into several subscriptions", MR_FILTER_NODES_MAX);
    }
    struct mr_bytes value = mr_bytes_of(item->valuestring);
    uint32_t attr;
    enum mr_status r = mr__names_add(c->names, mr_bytes_of(item->string), &attr);
    size_t at = c->values.size;
    if (r == MR_OK) {
        r = mr_buf_append_bytes(&c->values, value);
    }
    if (r == MR_OK) {
        c->clauses[c->clause_count++] = (struct mr__clause){
            .attr = attr,
            .value_at = (uint32_t)at,
            .value_size = (uint32_t)value.size,
            .group = place.group,
            .index = place.index,
            .op = (uint8_t)op,
        };
    }
    return r;
}

/* {"exact": {"type": "a", "source": "b"}}: one clause, or a group of them. */
static enum mr_status compile_clauses(struct mr__compiler *c, enum mr__op op, struct place place,
                                      const cJSON *body, struct mr_problem *problem)
{
    const char *dialect = mr__op_name((uint8_t)op);
    if (!cJSON_IsObject(body)) {
        return refuse(c, place, dialect, MR_E_INVALID,
                      "must be an object of attribute names and strings", problem);
    }
    int count = cJSON_GetArraySize(body);
    if (count == 0) {
        return refuse(c, place, dialect, MR_E_INVALID, "names no attribute", problem);
    }
    enum mr_status r = MR_OK;
    struct place inner = place;
    if (count > 1) {
        r = add_group(c, MR__EACH, place, count, problem);
        inner = (struct place){.group = (uint16_t)(c->group_count - 1)};
    }
    for (const cJSON *item = body->child; item != NULL && r == MR_OK; item = item->next) {
        r = check_clause(c, place, dialect, item, problem);
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
                                      struct place place, const char *dialect, const cJSON *body,
                                      struct mr_problem *problem)
{
    if (kind == MR__NOT) {
        if (!cJSON_IsObject(body)) {
            return refuse(c, place, dialect, MR_E_INVALID, "must be one filter object", problem);
        }
        return push_group(c, kind, place, body, 1, problem); /* body has no sibling */
    }
    if (!cJSON_IsArray(body)) {
        return refuse(c, place, dialect, MR_E_INVALID, "must be a list of filters", problem);
    }
    if (body->child == NULL) {
        return refuse(c, place, dialect, MR_E_INVALID, "must hold at least one filter", problem);
    }
    return push_group(c, kind, place, body->child, cJSON_GetArraySize(body), problem);
}

static enum mr_status refuse_dialect(const struct mr__compiler *c, struct place place,
                                     const char *name, struct mr_problem *problem)
{
    static const char *const later[] = {"sql", "data", "time", "rate"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(later); i++) {
        if (strcmp(name, later[i]) == 0) {
            return refuse(c, place, name, MR_E_UNSUPPORTED,
                          "is not available in this release; there are " KNOWN_DIALECTS, problem);
        }
    }
    return refuse(c, place, name, MR_E_INVALID,
                  "is an unknown dialect; known are " KNOWN_DIALECTS, problem);
}

static enum mr_status compile_filter(struct mr__compiler *c, const cJSON *item, struct place place,
                                     struct mr_problem *problem)
{
    static const struct {
        const char *name;
        int op;   /* enum mr__op, or -1 */
        int kind; /* enum mr__kind otherwise */
    } dialects[] = {
        {"exact", MR__EXACT, 0}, {"prefix", MR__PREFIX, 0}, {"suffix", MR__SUFFIX, 0},
        {"all", -1, MR__ALL},    {"any", -1, MR__ANY},      {"not", -1, MR__NOT},
    };
    if (!cJSON_IsObject(item)) {
        return refuse(c, place, "", MR_E_INVALID, "must be an object like "
                      "{\"exact\": {\"type\": \"…\"}}", problem);
    }
    if (item->child == NULL) {
        return refuse(c, place, "", MR_E_INVALID,
                      "is empty; it must hold one of " KNOWN_DIALECTS, problem);
    }
    if (item->child->next != NULL) {
        return refuse(c, place, "", MR_E_INVALID,
                      "has two members; write two filters, in a list or under all", problem);
    }
    const char *name = item->child->string;
    for (size_t i = 0; i < MR_ARRAY_COUNT(dialects); i++) {
        if (strcmp(name, dialects[i].name) == 0) {
            return dialects[i].op >= 0
                       ? compile_clauses(c, (enum mr__op)dialects[i].op, place, item->child,
                                         problem)
                       : compile_members(c, (enum mr__kind)dialects[i].kind, place, name,
                                         item->child, problem);
        }
    }
    return refuse_dialect(c, place, name, problem);
}

static enum mr_status compile_tree(struct mr__compiler *c, const cJSON *root,
                                   struct mr_problem *problem)
{
    if (!cJSON_IsArray(root) && !cJSON_IsObject(root)) {
        return mr_problem_set(problem, MR_E_INVALID, "filter must be a list of filters");
    }
    int count = cJSON_IsArray(root) ? cJSON_GetArraySize(root) : 1;
    if (count > (int)MR_FILTER_NODES_MAX) {
        return mr_problem_set(problem, MR_E_INVALID, "filter has more than %u parts; split it "
                              "into several subscriptions", MR_FILTER_NODES_MAX);
    }
    enum mr_status r =
        push_group(c, MR__LIST, (struct place){.group = MR__GROUP_NONE},
                   cJSON_IsArray(root) ? root->child : root, count, problem);
    while (r == MR_OK && c->depth > 0) {
        struct frame *frame = &c->frames[c->depth - 1];
        const cJSON *item = frame->next;
        if (item == NULL) {
            c->groups[frame->group].clause_end = (uint16_t)c->clause_count;
            c->depth--;
            continue;
        }
        struct place place = {.group = frame->group, .index = frame->index++};
        frame->next = item->next;
        r = compile_filter(c, item, place, problem);
    }
    return r;
}

/* --- (4) the jumps ------------------------------------------------------------------------- */

/* Where to go on after @p clause turned out @p value: outwards as long as that decides the group,
 * else to the first clause behind what is decided. Each member holds at least one clause. */
static uint16_t jump_of(const struct mr__program *p, uint16_t clause, bool value)
{
    uint16_t end = (uint16_t)(clause + 1);
    uint16_t at = p->clauses[clause].group;
    for (;;) {
        const struct mr__group *group = &p->groups[at];
        bool undecided = group->kind == MR__ANY ? !value : value;
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
    size_t groups_size = c->group_count * sizeof(struct mr__group);
    struct mr__program *p =
        mr_alloc(sizeof(*p) + clauses_size + groups_size + c->values.size);
    if (p == NULL) {
        return NULL;
    }
    p->clause_count = (uint16_t)c->clause_count;
    p->group_count = (uint16_t)c->group_count;
    p->clauses = (void *)(p + 1);
    p->groups = (void *)(p->clauses + c->clause_count);
    p->values = (void *)(p->groups + c->group_count);
    memcpy(p->clauses, c->clauses, clauses_size);
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
        mr_buf_release(&compiler->values);
        mr_free(compiler);
    }
}

enum mr_status mr__compile(struct mr__compiler *compiler, struct mr_bytes json,
                           struct mr__program **ret_program, struct mr_problem *problem)
{
    enum mr_status r = check_text(json, problem);
    if (r != MR_OK) {
        return r;
    }
    MR_CLEANUP(delete_tree) cJSON *root = parse_text(json);
    if (root == NULL) {
        return mr_problem_set(problem, MR_E_INVALID, "filter is not JSON");
    }
    compiler->clause_count = 0;
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
    mr__view_init(&view, &filter->names, record);
    return mr__program_holds(filter->program, &view);
}
