#include "router/program.h"

#include <stdio.h>

#include "core/assert.h"

const char *mr__op_name(uint8_t op)
{
    static const char *const names[MR__OP_MAX] = {"exact", "prefix", "suffix", "range", "range",
                                                  "range", "range",  "exists", "cidr",  "sql"};
    MR_ASSERT(op < MR__OP_MAX);
    return names[op];
}

static bool test_text(enum mr__op op, struct mr_bytes actual, struct mr_bytes wanted)
{
    if (op == MR__EXACT) {
        return mr_bytes_equal(actual, wanted);
    }
    return op == MR__PREFIX ? mr_bytes_starts(actual, wanted) : mr_bytes_ends(actual, wanted);
}

static bool test_range(enum mr__op op, struct mr_bytes actual, struct mr_bytes bound)
{
    if (!mr_decimal_is(actual)) {
        return false;
    }
    int order = mr_decimal_compare(actual, bound);
    return op == MR__ABOVE ? order > 0 : op == MR__FROM ? order >= 0
                                     : op == MR__BELOW ? order < 0
                                                       : order <= 0;
}

static bool test_data(const struct mr__program *program, const struct mr__clause *c,
                      const struct mr__view *view)
{
    const struct mr__datum *data = mr__view_data(view);
    const struct mr__datum *datum = data == NULL ? NULL : &data[c->attr & ~MR__IN_DATA];
    struct mr_bytes wanted = mr__clause_value(program, c);
    if (c->op == MR__EXISTS) {
        bool there = datum != NULL && datum->kind != MR__DATUM_NONE;
        return there == mr_bytes_equal(wanted, MR_BYTES_LITERAL("true"));
    }
    bool has_text = datum != NULL && (datum->kind == MR__DATUM_STRING ||
                                      datum->kind == MR__DATUM_NUMBER ||
                                      datum->kind == MR__DATUM_BOOLEAN);
    if (!has_text) {
        return false;
    }
    if (c->op < MR__OP_KEYS) {
        return test_text((enum mr__op)c->op, datum->text, wanted);
    }
    return c->op == MR__CIDR ? mr__network_holds(wanted, datum->text)
                             : test_range((enum mr__op)c->op, datum->text, wanted);
}

bool mr__clause_test(const struct mr__program *program, uint16_t clause,
                     const struct mr__view *view)
{
    MR_ASSERT(clause < program->clause_count);
    const struct mr__clause *c = &program->clauses[clause];
    struct mr_bytes actual;
    if (c->op == MR__SQL) {
        enum mr__sql_error error;
        bool holds = mr__sql_holds(mr__clause_sql(program, c), view, &error);
        view->reading->failures += error != MR__SQL_OK;
        return holds;
    }
    if ((c->attr & MR__IN_DATA) != 0) {
        return test_data(program, c, view);
    }
    return mr__view_find(view, c->attr, &actual) &&
           test_text((enum mr__op)c->op, actual, mr__clause_value(program, c));
}

uint16_t mr__program_run(const struct mr__program *program, const struct mr__view *view,
                         uint16_t from, uint16_t end, uint16_t *ret_last)
{
    uint16_t at = from;
    while (at < end) {
        const struct mr__clause *c = &program->clauses[at];
        if (ret_last != NULL) {
            *ret_last = at;
        }
        uint16_t next = mr__clause_test(program, at, view) ? c->on_true : c->on_false;
        MR_ASSERT(next > at);
        at = next;
    }
    return at;
}

/* One step of a path: what stands for being member @p index of a group. */
static int print_step(char *to, size_t size, const struct mr__group *group, uint16_t index)
{
    switch ((enum mr__kind)group->kind) {
    case MR__LIST:
        return group->count > 1 ? snprintf(to, size, "[%u]", index) : 0;
    case MR__ALL:
        return snprintf(to, size, ".all[%u]", index);
    case MR__ANY:
        return snprintf(to, size, ".any[%u]", index);
    case MR__NOT:
        return snprintf(to, size, ".not");
    case MR__DATA:
        return snprintf(to, size, ".data");
    case MR__EACH:
    case MR__IN:
        break;
    }
    return 0; /* the attribute's name tells members apart; values of `in` need not be */
}

void mr__path(const struct mr__group *groups, uint16_t group, uint16_t index,
              char path[MR__PATH_SIZE])
{
    uint16_t group_of[MR_FILTER_DEPTH_MAX + 2];
    uint16_t index_of[MR_FILTER_DEPTH_MAX + 2];
    size_t depth = 0;
    while (group != MR__GROUP_NONE) {
        MR_ASSERT(depth < MR_ARRAY_COUNT(group_of));
        group_of[depth] = group;
        index_of[depth] = index;
        depth++;
        index = groups[group].index;
        group = groups[group].parent;
    }
    int size = snprintf(path, MR__PATH_SIZE, "filter");
    while (depth > 0) {
        depth--;
        int n = print_step(path + size, MR__PATH_SIZE - (size_t)size, &groups[group_of[depth]],
                           index_of[depth]);
        MR_ASSERT(n >= 0 && (size_t)(size + n) < MR__PATH_SIZE);
        size += n;
    }
}
