/* A hash map from a 64-bit number (not 0) to a 64-bit value; open addressing, linear probing,
 * deletion by backward shift. Iteration order depends on the keys alone, so it is deterministic. */
#ifndef MR_BUS_MAP_H
#define MR_BUS_MAP_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"

struct mr_map {
    struct mr_map_slot *slots; /* owned; NULL while empty */
    uint64_t capacity;         /* a power of two */
    uint64_t count;
};

struct mr_map_slot {
    uint64_t key; /* 0 = free */
    uint64_t value;
};

void mr_map_release(struct mr_map *map);
/** Room for @p more further keys, so that as many mr_map_set() cannot fail. */
MR_MUST_USE enum mr_status mr_map_reserve(struct mr_map *map, uint64_t more);
/** Adds or replaces. There must be room (mr_map_reserve), which is asserted. */
void mr_map_set(struct mr_map *map, uint64_t key, uint64_t value);
bool mr_map_get(const struct mr_map *map, uint64_t key, uint64_t *ret_value);
bool mr_map_remove(struct mr_map *map, uint64_t key);

#endif
