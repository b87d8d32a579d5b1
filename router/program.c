#include "router/program.h"

#include <stdio.h>

#include "core/assert.h"

const char *mr__op_name(uint8_t op)
{
    static const char *const names[MR__OP_MAX] = {"exact", "prefix", "suffix"};
    MR_ASSERT(op < MR__OP_MAX);
    return names[op];
}

bool mr__clause_test(const struct mr__program *program, uint16_t clause,
                     const struct mr__view *view)
{
    MR_ASSERT(clause < program->clause_count);
    const struct mr__clause *c = &program->clauses[clause];
    struct mr_bytes actual;
    if (!mr__view_find(view, c->attr, &actual)) {
        return false;
    }
    struct mr_bytes wanted = mr__clause_value(program, c);
    if (c->op == MR__EXACT) {
        return mr_bytes_equal(actual, wanted);
    }
    return c->op == MR__PREFIX ? mr_bytes_starts(actual, wanted) : mr_bytes_ends(actual, wanted);
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
    case MR__EACH:
        break;
    }
    return 0; /* the attribute's name tells its members apart */
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
