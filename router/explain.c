#include <stdio.h>

#include "core/assert.h"
#include "core/logger.h"
#include "router/internal.h"

#define SHOWN_MAX 100u /* bytes of a value that a sentence shows */

/* Sentences are short and bounded, so they are made here first and appended whole. */
struct sentence {
    struct mr_buf text;
    enum mr_status status; /* the first failure */
    uint8_t memory[2048];
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

/* `filter.all[1].suffix.subject wants ".jpg", the event has "photo.png"` */
static void explain_clause(struct sentence *s, const struct mr_router *router,
                           const struct mr__program *program, uint16_t at,
                           const struct mr__view *view)
{
    const struct mr__clause *clause = &program->clauses[at];
    uint16_t group = clause->group;
    uint16_t index = clause->index;
    if (program->groups[group].kind == MR__EACH) {
        index = program->groups[group].index;
        group = program->groups[group].parent;
    }
    char path[MR__PATH_SIZE];
    mr__path(program->groups, group, index, path);
    add_text(s, path);
    add_text(s, ".");
    add_text(s, mr__op_name(clause->op));
    add_text(s, ".");
    note(s, mr_buf_append_bytes(&s->text, mr__names_text(&router->names, clause->attr)));
    /* A clause that holds decides against the event only below a `not`. */
    add_text(s, mr__clause_test(program, at, view) ? " wants anything but " : " wants ");
    add_value(s, mr__clause_value(program, clause));
    struct mr_bytes actual;
    if (mr__view_find(view, clause->attr, &actual)) {
        add_text(s, ", the event has ");
        add_value(s, actual);
    } else {
        add_text(s, ", the event has none");
    }
}

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
    mr__view_init(&view, &router->names, record);
    bool matches = false;
    uint16_t last = 0;
    if (rule->program == NULL) {
        add_text(&s, "is not matched: it carries the outcomes of another subscription");
    } else if (!mr__rule_takes_source(rule, source)) {
        explain_source(&s, router, rule, source);
    } else if (rule->program->clause_count > 0 &&
               mr__program_run(rule->program, &view, 0, rule->program->clause_count, &last) !=
                   MR__ACCEPT) {
        explain_filter(&s, router, rule->program, last, &view);
    } else {
        add_text(&s, "matches");
        matches = true;
    }
    MR_ASSERT(s.status == MR_OK);
    note(&s, mr_buf_append_bytes(out, mr_buf_bytes(&s.text))); /* no room: nothing is appended */
    return matches;
}
