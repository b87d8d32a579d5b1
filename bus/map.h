/* A hash map from a 64-bit number (not 0) to a 64-bit value; open addressing, linear probing,
 * deletion by backward shift. Iteration order depends on what was done to it alone, so it is
 * deterministic. A large map that grows or shrinks moves into its new slots a few at a time, with
 * each call that changes it, and gives the old ones back a few at a time: none of them takes long,
 * however large it is. */
#ifndef MR_BUS_MAP_H
#define MR_BUS_MAP_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"

struct mr_map_slot {
    uint64_t key; /* 0 = free */
    uint64_t value;
};

struct mr_map {
    struct mr_map_slot *slots; /* owned; NULL while empty */
    uint64_t capacity;         /* a power of two */
    uint64_t count;            /* of both tables */
    struct mr_map_slot *old;   /* owned; what has not moved yet; NULL: all has */
    uint64_t old_capacity;
    uint64_t old_count;
    uint64_t old_end;  /* those from here on are free: the next slot to move is the one before */
    uint64_t old_room; /* slots that `old` still has memory for; its end goes back as it empties */
};

void mr_map_release(struct mr_map *map);
/** How many slots are allocated once there is room for @p more further keys. */
uint64_t mr_map_capacity(const struct mr_map *map, uint64_t more);
/** Whether there is room for @p more further keys. */
bool mr_map_has_room(const struct mr_map *map, uint64_t more);
/** Room for @p more further keys, so that as many mr_map_set() cannot fail. */
MR_MUST_USE enum mr_status mr_map_reserve(struct mr_map *map, uint64_t more);
/** Adds or replaces. There must be room (mr_map_reserve), which is asserted. */
void mr_map_set(struct mr_map *map, uint64_t key, uint64_t value);
bool mr_map_get(const struct mr_map *map, uint64_t key, uint64_t *ret_value);
/** Begins to bring into the cache where @p key is or would be, for a call that is soon to come. */
void mr_map_prefetch(const struct mr_map *map, uint64_t key);
bool mr_map_remove(struct mr_map *map, uint64_t key);
/** Gives memory back where hardly anything is left. */
void mr_map_shrink(struct mr_map *map);
/** Moves up to @p keys from the old table. @return whether all has moved: what is to be looked at
 * slot by slot stands in `slots` alone then */
bool mr_map_settle(struct mr_map *map, uint64_t keys);

#endif
