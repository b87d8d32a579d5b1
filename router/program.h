/* A compiled filter: clauses in document order, each with the place to go on at when it holds and
 * when it does not. Jumps lead forward only, so a run takes at most clause_count steps and needs
 * no stack. The groups (all, any, not, …) remain beside the clauses for the index, which asks
 * what is necessary, and for explain, which names the clause.
 *
 * Behind the clauses stand hints, which are never run: what must hold, as exact, prefix and suffix,
 * for a clause of the dialect sql to hold. They have groups of their own below the group of their
 * clause, and serve the index. Private to router/. */
#ifndef MR_ROUTER_PROGRAM_H
#define MR_ROUTER_PROGRAM_H

#include "core/decimal.h"
#include "core/problem.h"
#include "router/sql.h"
#include "router/view.h"

#define MR__ACCEPT UINT16_MAX
#define MR__REJECT (UINT16_MAX - 1u)
#define MR__GROUP_NONE UINT16_MAX
#define MR__PATH_SIZE 320u /* "filter" and MR_FILTER_DEPTH_MAX times ".all[65535]", with slack */
#define MR__IN_DATA 0x80000000u /* of a clause's attr: it is a place in data */
#define MR__INDEX_NONE UINT16_MAX
#define MR__GROUPS_MAX (2 * MR_FILTER_NODES_MAX + 1) /* the list, groups, groups of hints */

enum mr__op {
    MR__EXACT = 0, /* the first three have keys in the index */
    MR__PREFIX,
    MR__SUFFIX,
    MR__OP_KEYS,
    MR__ABOVE = MR__OP_KEYS, /* the four of `range`, and the rest: only data has them */
    MR__FROM,
    MR__BELOW,
    MR__UPTO,
    MR__EXISTS,
    MR__CIDR,
    MR__SQL, /* attr is unused, the value a struct mr__sql */
    MR__OP_MAX,
};

enum mr__kind {
    MR__LIST = 0, /* the filters array; always group 0 */
    MR__ALL,
    MR__ANY,
    MR__NOT,
    MR__EACH, /* {"exact": {two or more attributes}} */
    MR__DATA, /* what is below looks into data */
    MR__IN,   /* {"in": {one path: [values]}} */
};

struct mr__clause {
    uint32_t attr; /* number in the names, or MR__IN_DATA | place */
    uint32_t value_at;
    uint32_t value_size;
    uint16_t on_true;
    uint16_t on_false;
    uint16_t group; /* the innermost around it */
    uint16_t index; /* among the members of the group */
    uint8_t op;     /* enum mr__op */
    bool hinted;    /* SQL: there are hints for it */
};

struct mr__group {
    uint16_t parent; /* a smaller number; MR__GROUP_NONE for the list */
    uint16_t index;  /* among the members of the parent; MR__INDEX_NONE: of hints */
    uint16_t count;  /* members */
    uint16_t clause_first;
    uint16_t clause_end;
    uint8_t kind; /* enum mr__kind */
};

struct mr__program {
    uint16_t clause_count;
    uint16_t hint_count; /* clauses behind those */
    uint16_t group_count;
    struct mr__clause *clauses; /* these three lie in the block of the program itself */
    struct mr__group *groups;
    uint8_t *values;
};

struct mr__compiler;

/** Room to compile filters one after the other. @param names borrowed: gets the names they use */
MR_MUST_USE enum mr_status mr__compiler_create(struct mr__names *names,
                                               struct mr__compiler **ret_compiler);
void mr__compiler_destroy(struct mr__compiler *compiler);

/** @param[out] ret_program one block, freed with mr_free()
 * @return as mr_filter_create() */
MR_MUST_USE enum mr_status mr__compile(struct mr__compiler *compiler, struct mr_bytes json,
                                       struct mr__program **ret_program,
                                       struct mr_problem *problem);

static inline struct mr_bytes mr__clause_value(const struct mr__program *program,
                                               const struct mr__clause *clause)
{
    return mr_bytes(program->values + clause->value_at, clause->value_size);
}

static inline const struct mr__sql *mr__clause_sql(const struct mr__program *program,
                                                   const struct mr__clause *clause)
{
    return (const struct mr__sql *)(const void *)(program->values + clause->value_at);
}

/* Members of the group are alternatives. */
static inline bool mr__group_is_any(const struct mr__group *group)
{
    return group->kind == MR__ANY || group->kind == MR__IN;
}

const char *mr__op_name(uint8_t op);
/** An evaluation of sql that fails is false, and counted in view->reading. */
bool mr__clause_test(const struct mr__program *program, uint16_t clause,
                     const struct mr__view *view);
/** Runs clauses from @p from while they lie below @p end. @p ret_last, unless NULL, gets the last
 * one run. @return where the run left the range: MR__ACCEPT, MR__REJECT or a clause */
uint16_t mr__program_run(const struct mr__program *program, const struct mr__view *view,
                         uint16_t from, uint16_t end, uint16_t *ret_last);
static inline bool mr__program_holds(const struct mr__program *program,
                                     const struct mr__view *view)
{
    return program->clause_count == 0 ||
           mr__program_run(program, view, 0, program->clause_count, NULL) == MR__ACCEPT;
}

/** The path of member @p index of @p group, as `filter.all[1].not`; one-member lists show none. */
void mr__path(const struct mr__group *groups, uint16_t group, uint16_t index,
              char path[MR__PATH_SIZE]);

/* Addresses in data (compare.c), by text. */

/** Whether @p text is an address or a network, IPv4 or IPv6, as `10.0.0.0/8`. */
bool mr__network_is(struct mr_bytes text);
/** Whether @p text is an address inside @p network. */
bool mr__network_holds(struct mr_bytes network, struct mr_bytes text);

#endif
