#include <stdio.h>

#include "core/alloc.h"
#include "core/assert.h"
#include "core/logger.h"
#include "router/internal.h"

#define SHOWN_MAX 100u /* bytes of a value that a sentence shows */
#define SHOWN_ATTRS_MAX 4u

/* Sentences are short and bounded, so they are made here first and appended whole. */
struct sentence {
    struct mr_buf text;
    enum mr_status status; /* the first failure */
    uint8_t memory[4096];
};

static void note(struct sentence *s, enum mr_status status)
{
    s->status = s->status == MR_OK ? status : s->status;
}

static void add_text(struct sentence *s, const char *text)
{
    note(s, mr_buf_append_text(&s->text, text));
}

static void add_value(struct sentence *s, struct mr_bytes value)
{
    char clean[SHOWN_MAX + 1];
    bool cut = value.size > SHOWN_MAX;
    mr_text_clean(clean, sizeof(clean), value);
    note(s, mr_buf_append_json(&s->text, mr_bytes_of(clean)));
    if (cut) {
        add_text(s, "…");
    }
}

/* --- one clause ------------------------------------------------------------------------------ */

/* The path of the clause up to its operator; members of `in` and of one object share it. */
static void add_path(struct sentence *s, const struct mr__program *program,
                     const struct mr__clause *clause)
{
    uint16_t group = clause->group;
    uint16_t index = clause->index;
    const char *name = mr__op_name(clause->op);
    while (program->groups[group].kind == MR__EACH || program->groups[group].kind == MR__IN) {
        name = program->groups[group].kind == MR__IN ? "in" : name;
        index = program->groups[group].index;
        group = program->groups[group].parent;
    }
    char path[MR__PATH_SIZE];
    mr__path(program->groups, group, index, path);
    add_text(s, path);
    add_text(s, ".");
    add_text(s, name);
}

static void add_wanted(struct sentence *s, const struct mr__program *program,
                       const struct mr__clause *clause, bool holds)
{
    static const char *const bounds[] = {"more than ", "at least ", "less than ", "at most "};
    const struct mr__group *group = &program->groups[clause->group];
    struct mr_bytes value = mr__clause_value(program, clause);
    if (clause->op == MR__EXISTS) {
        add_text(s, mr_bytes_equal(value, MR_BYTES_LITERAL("true")) != holds
                        ? " wants it to be there" : " wants it not to be there");
        return;
    }
    /* A clause that holds decides against the event only below a `not`. */
    add_text(s, holds ? " wants anything but " : " wants ");
    if (group->kind == MR__IN && group->count > 1 && !holds) {
        note(s, mr_buf_printf(&s->text, "one of %u values, the last of them ", group->count));
    }
    if (clause->op >= MR__ABOVE && clause->op <= MR__UPTO) {
        add_text(s, bounds[clause->op - MR__ABOVE]);
        note(s, mr_buf_append_bytes(&s->text, value.size > SHOWN_MAX
                                                  ? mr_bytes(value.data, SHOWN_MAX)
                                                  : value));
        return;
    }
    if (clause->op == MR__CIDR) {
        add_text(s, "an address in ");
    }
    add_value(s, value);
}

static void add_datum(struct sentence *s, const struct mr__datum *data, uint32_t place)
{
    static const char *const kinds[] = {
        [MR__DATUM_NONE] = "none",        [MR__DATUM_STRING] = "",
        [MR__DATUM_NUMBER] = "",          [MR__DATUM_BOOLEAN] = "",
        [MR__DATUM_NULL] = "null",        [MR__DATUM_OBJECT] = "an object",
        [MR__DATUM_ARRAY] = "an array",   [MR__DATUM_BAD] = "a string that cannot be read",
    };
    if (data == NULL) {
        add_text(s, ", the event has no JSON data");
        return;
    }
    add_text(s, ", the data has ");
    if (data[place].text.data == NULL) {
        add_text(s, kinds[data[place].kind]);
    } else if (data[place].kind == MR__DATUM_STRING) {
        add_value(s, data[place].text);
    } else {
        struct mr_bytes text = data[place].text;
        char clean[SHOWN_MAX + 1];
        mr_text_clean(clean, sizeof(clean), text);
        add_text(s, clean);
        add_text(s, text.size > SHOWN_MAX ? "…" : "");
    }
}

/* `filter.all[1].suffix.subject wants ".jpg", the event has "photo.png"` */
static void explain_plain(struct sentence *s, const struct mr_router *router,
                          const struct mr__program *program, uint16_t at,
                          const struct mr__view *view)
{
    const struct mr__clause *clause = &program->clauses[at];
    bool in_data = (clause->attr & MR__IN_DATA) != 0;
    uint32_t place = clause->attr & ~MR__IN_DATA;
    add_path(s, program, clause);
    add_text(s, ".");
    if (in_data) {
        note(s, mr__paths_text(&router->names.paths, place, &s->text));
    } else {
        note(s, mr_buf_append_bytes(&s->text, mr__names_text(&router->names, clause->attr)));
    }
    add_wanted(s, program, clause, mr__clause_test(program, at, view));
    struct mr_bytes actual;
    if (in_data) {
        add_datum(s, mr__view_data(view), place);
    } else if (mr__view_find(view, clause->attr, &actual)) {
        add_text(s, ", the event has ");
        add_value(s, actual);
    } else {
        add_text(s, ", the event has none");
    }
}

/* --- expressions ----------------------------------------------------------------------------- */

/* Where the members of the conjunction that the expression is end, in order; one when it is none.
 */
static uint32_t find_ends(const struct mr__sql *sql, uint16_t ends[MR_SQL_STEPS_MAX])
{
    const struct mr__sql_step *steps = mr__sql_steps(sql);
    uint32_t count = 0;
    uint16_t root = (uint16_t)(sql->step_count - 1);
    while (steps[root].op == MR__SQL_OP_AND) {
        uint16_t left = (uint16_t)(root - 1);
        while (steps[left].then != MR__SQL_THEN_AND || steps[left].to != root) {
            MR_ASSERT(left > 0);
            left--;
        }
        ends[count++] = root;
        root = left;
    }
    ends[count++] = (uint16_t)(root + 1);
    for (uint32_t i = 0; i < count / 2; i++) {
        uint16_t swapped = ends[i];
        ends[i] = ends[count - 1 - i];
        ends[count - 1 - i] = swapped;
    }
    return count;
}

/* The attributes that the steps mention: `, the event has type "a", no subject`. */
static void add_attributes(struct sentence *s, const struct mr_router *router,
                           const struct mr__sql *sql, uint16_t from, uint16_t end,
                           const struct mr__view *view)
{
    const struct mr__sql_step *steps = mr__sql_steps(sql);
    uint32_t shown[SHOWN_ATTRS_MAX];
    uint32_t count = 0;
    for (uint16_t i = from; i < end && count < SHOWN_ATTRS_MAX; i++) {
        bool is_new = steps[i].op == MR__SQL_OP_ATTRIBUTE || steps[i].op == MR__SQL_OP_EXISTS;
        for (uint32_t k = 0; k < count; k++) {
            is_new = is_new && shown[k] != steps[i].value;
        }
        if (!is_new) {
            continue;
        }
        struct mr_bytes actual;
        bool there = mr__view_find(view, steps[i].value, &actual);
        add_text(s, count == 0 ? ", the event has " : ", ");
        add_text(s, there ? "" : "no ");
        note(s, mr_buf_append_bytes(&s->text, mr__names_text(&router->names, steps[i].value)));
        if (there) {
            add_text(s, " ");
            add_value(s, actual);
        }
        shown[count++] = steps[i].value;
    }
}

static void add_source(struct sentence *s, const struct mr__sql *sql, uint16_t step)
{
    char clean[SHOWN_MAX + 1];
    struct mr_bytes source = mr__sql_source(sql, step);
    mr_text_clean(clean, sizeof(clean), source);
    add_text(s, "`");
    add_text(s, clean);
    add_text(s, source.size > SHOWN_MAX ? "…`" : "`");
}

static void add_result(struct sentence *s, const struct mr__sql_result *result)
{
    const struct mr__sql_value *value = &result->value;
    if (result->error != MR__SQL_OK) {
        note(s, mr_buf_printf(&s->text, " cannot be evaluated (%s)",
                              mr__sql_error_name(result->error)));
    } else if (value->type == MR__SQL_BOOLEAN) {
        add_text(s, value->integer != 0 ? " is true" : " is false");
    } else if (value->type == MR__SQL_INTEGER) {
        note(s, mr_buf_printf(&s->text, " is %d, not true", value->integer));
    } else {
        add_text(s, " is ");
        add_value(s, value->text);
        add_text(s, ", not true");
    }
}

/* `filter.sql: `type = 'b'` is false, the event has type "a"`: of a conjunction, the first member
 * that is not true. */
static void explain_sql(struct sentence *s, const struct mr_router *router,
                        const struct mr__program *program, const struct mr__clause *clause,
                        const struct mr__view *view)
{
    const struct mr__sql *sql = mr__clause_sql(program, clause);
    uint16_t ends[MR_SQL_STEPS_MAX];
    uint32_t count = find_ends(sql, ends);
    struct mr__sql_arena arena = {.heap = NULL};
    struct mr__sql_result result = {.error = MR__SQL_OK};
    uint16_t from = 0;
    uint32_t i = 0;
    for (;; i++) {
        arena.used = 0;
        arena.heap_used = 0;
        mr__sql_run(sql, view, from, ends[i], &arena, &result);
        if (i + 1 == count || result.error != MR__SQL_OK ||
            result.value.type != MR__SQL_BOOLEAN || result.value.integer == 0) {
            break;
        }
        from = (uint16_t)(ends[i] + (i > 0)); /* past the AND that ended it */
    }
    bool whole = result.error == MR__SQL_OK && result.value.integer != 0;
    add_path(s, program, clause);
    add_text(s, ": ");
    if (result.error != MR__SQL_OK) {
        add_source(s, sql, result.step);
    } else { /* true can only be the whole, below a `not` */
        add_source(s, sql, whole ? (uint16_t)(sql->step_count - 1) : (uint16_t)(ends[i] - 1));
    }
    add_result(s, &result);
    add_attributes(s, router, sql, whole ? 0 : from, whole ? sql->step_count : ends[i], view);
    mr_free(arena.heap);
}

static void explain_clause(struct sentence *s, const struct mr_router *router,
                           const struct mr__program *program, uint16_t at,
                           const struct mr__view *view)
{
    if (program->clauses[at].op == MR__SQL) {
        explain_sql(s, router, program, &program->clauses[at], view);
    } else {
        explain_plain(s, router, program, at, view);
    }
}

/* --- the whole filter ------------------------------------------------------------------------ */

/* The outermost `any` that failed because of @p clause, or MR__GROUP_NONE. */
static uint16_t find_failed_any(const struct mr__program *program, uint16_t clause, bool value)
{
    uint16_t found = MR__GROUP_NONE;
    for (uint16_t at = program->clauses[clause].group; at != MR__GROUP_NONE;
         at = program->groups[at].parent) {
        const struct mr__group *group = &program->groups[at];
        if (group->kind == MR__NOT) {
            value = !value;
        } else if (group->kind == MR__ANY && !value && group->count > 1) {
            found = at;
        }
    }
    return found;
}

/* Where the first member of @p any ends. */
static uint16_t first_member_end(const struct mr__program *program, uint16_t any)
{
    uint16_t next = (uint16_t)(any + 1);
    bool is_group = next < program->group_count && program->groups[next].parent == any &&
                    program->groups[next].index == 0;
    return is_group ? program->groups[next].clause_end
                    : (uint16_t)(program->groups[any].clause_first + 1);
}

static void explain_filter(struct sentence *s, const struct mr_router *router,
                           const struct mr__program *program, uint16_t last,
                           const struct mr__view *view)
{
    uint16_t any = find_failed_any(program, last, mr__clause_test(program, last, view));
    if (any == MR__GROUP_NONE) {
        explain_clause(s, router, program, last, view);
        return;
    }
    const struct mr__group *group = &program->groups[any];
    char path[MR__PATH_SIZE];
    mr__path(program->groups, group->parent, group->index, path);
    note(s, mr_buf_printf(&s->text, "%s.any has %u members and none holds; the first: ", path,
                          group->count));
    uint16_t decided = group->clause_first;
    (void)mr__program_run(program, view, group->clause_first, first_member_end(program, any),
                          &decided); /* only where it ended matters */
    explain_clause(s, router, program, decided, view);
}

static void explain_source(struct sentence *s, const struct mr_router *router,
                           const struct mr__rule *rule, uint32_t source)
{
    const struct mr_config *config = router->config;
    add_text(s, "sources wants ");
    add_value(s, mr_bytes_of(config->sources[rule->sources[0]].name));
    if (rule->source_count > 1) {
        note(s, mr_buf_printf(&s->text, " or one of %u others", rule->source_count - 1));
    }
    if (source < config->source_count) {
        add_text(s, ", the event came from ");
        add_value(s, mr_bytes_of(config->sources[source].name));
    } else {
        add_text(s, ", the event was made by the bus");
    }
}

/* The first subscription, other than defaults, that takes the event; UINT32_MAX when none does. */
static uint32_t find_taker(const struct mr_router *router, uint32_t source,
                           const struct mr__view *view)
{
    for (uint32_t i = 0; i < router->rule_count; i++) {
        const struct mr__rule *rule = &router->rules[i];
        if (mr__rule_is_indexed(rule) && !rule->cancels && mr__rule_takes_source(rule, source) &&
            mr__program_holds(rule->program, view)) {
            return i;
        }
    }
    return UINT32_MAX;
}

/* An event that is not for a subscription may still cancel what it holds. */
static void explain_cancel(struct sentence *s, const struct mr_router *router,
                           uint32_t subscription, uint32_t source, const struct mr__view *view)
{
    for (uint32_t i = router->config->subscription_count; i < router->rule_count; i++) {
        const struct mr__rule *rule = &router->rules[i];
        if (rule->subscription == subscription && mr__rule_takes_source(rule, source) &&
            mr__program_holds(rule->program, view)) {
            add_text(s, "; cancel_on matches: it cancels what is before it in its lane");
        }
    }
}

static void explain_default(struct sentence *s, const struct mr_router *router, uint32_t taker)
{
    add_text(s, "it is the default: it takes what no other subscription takes, and ");
    const char *name = router->config->subscriptions[taker].name;
    add_value(s, mr_bytes_of(name == NULL ? "" : name));
    add_text(s, " does");
}

bool mr_router_explain(const struct mr_router *router, uint32_t subscription, uint32_t source,
                       struct mr_bytes record, struct mr_buf *out)
{
    MR_ASSERT(subscription < router->rule_count);
    const struct mr__rule *rule = &router->rules[subscription];
    struct sentence s;
    s.status = MR_OK;
    s.text = (struct mr_buf){
        .data = s.memory, .capacity = sizeof(s.memory), .size_max = sizeof(s.memory)};
    struct mr__view view;
    struct mr__reading reading;
    mr__view_init(&view, &router->names, record, &reading);
    bool matches = false;
    uint16_t last = 0;
    uint32_t taker = rule->is_default ? find_taker(router, source, &view) : UINT32_MAX;
    if (rule->program == NULL) {
        add_text(&s, "is not matched: it carries the outcomes of another subscription");
    } else if (!mr__rule_takes_source(rule, source)) {
        explain_source(&s, router, rule, source);
    } else if (rule->program->clause_count > 0 &&
               mr__program_run(rule->program, &view, 0, rule->program->clause_count, &last) !=
                   MR__ACCEPT) {
        explain_filter(&s, router, rule->program, last, &view);
    } else if (taker != UINT32_MAX) {
        explain_default(&s, router, taker);
    } else {
        add_text(&s, "matches");
        matches = true;
    }
    explain_cancel(&s, router, subscription, source, &view);
    mr__view_release(&view);
    MR_ASSERT(s.status == MR_OK);
    note(&s, mr_buf_append_bytes(out, mr_buf_bytes(&s.text))); /* no room: nothing is appended */
    return matches;
}
