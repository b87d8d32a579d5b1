/* The match index: which subscriptions an event could match, by one necessary condition of each.
 *
 * Every condition is a key: (attribute, dialect, hash of the text). A subscription is entered
 * under the rarest condition that it cannot match without; an `any` is entered under each of its
 * branches; a `sources` list competes as one more condition. Places in data are as good as
 * attributes, and an expression of the dialect sql counts by its hints (program.h). What has no
 * such condition is residual and always a candidate. A key is only a hash: two texts that share one
 * give a candidate too many, never one too few, because candidates still run their program.
 *
 * Prefixes and suffixes are hashes too. The bytes of a value are hashed once from each end, and at
 * every length that some filter uses the table is asked; long ones are entered under a shorter
 * part, so that there are at most MR__LENGTHS lengths. Immutable once built. Private to router/. */
#ifndef MR_ROUTER_INDEX_H
#define MR_ROUTER_INDEX_H

#include "router/view.h"

#define MR__LENGTHS 124u /* 1 to 64 by one, up to 1024 by sixteen */

struct mr__rule;

struct mr__slot {
    uint64_t key;   /* 0 = free */
    uint32_t count; /* entries */
    uint32_t first; /* in entries */
};

struct mr__table {
    struct mr__slot *slots; /* owned; open addressing, at most half full */
    uint32_t capacity;      /* a power of two, or 0 */
    uint32_t count;
};

/* Which lookups an attribute, or a place in data, is worth: bit n stands for the nth length. */
struct mr__attr_keys {
    uint64_t prefix[2];
    uint64_t suffix[2];
    uint32_t exact_max; /* the longest text that is looked for */
    bool exact;
};

struct mr__index {
    struct mr__attr_keys *attrs; /* owned; by number of the name */
    uint32_t attr_count;
    struct mr__attr_keys *places; /* owned; by place in data */
    uint32_t place_count;
    bool looks_into_data; /* some place has a key */
    struct mr__table table;
    uint32_t *entries;      /* owned; subscriptions, ascending under each key */
    uint32_t *source_first; /* owned; source_count + 1 offsets into source_entries */
    uint32_t *source_entries; /* owned */
    uint32_t source_count;
    uint32_t *residual; /* owned; ascending */
    uint32_t residual_count;
};

/** @param rules by subscription; borrowed for the call; those that are the default are left out
 * @return MR_E_NOMEM: nothing to release */
MR_MUST_USE enum mr_status mr__index_build(struct mr__index *index, const struct mr__rule *rules,
                                           uint32_t rule_count, const struct mr__names *names,
                                           uint32_t source_count);
void mr__index_release(struct mr__index *index);

typedef enum mr_status (*mr__candidates_fn)(void *context, const uint32_t *subscriptions,
                                            uint32_t count);

/** Calls @p fn with runs of candidates, each ascending; a candidate may come more than once.
 * @return the first failure of @p fn */
MR_MUST_USE enum mr_status mr__index_find(const struct mr__index *index,
                                          const struct mr__view *view, uint32_t source,
                                          mr__candidates_fn fn, void *context);

#endif
