#include "bus/map.h"

#include "core/alloc.h"
#include "core/assert.h"
#include "core/hash.h"

#define MAP_FIRST_CAPACITY 16u

void mr_map_release(struct mr_map *map)
{
    mr_free(map->slots);
    *map = (struct mr_map){0};
}

static uint64_t home(const struct mr_map *map, uint64_t key)
{
    return mr_hash_u64(key) & (map->capacity - 1);
}

static void place(struct mr_map *map, uint64_t key, uint64_t value)
{
    uint64_t i = home(map, key);
    while (map->slots[i].key != 0 && map->slots[i].key != key) {
        i = (i + 1) & (map->capacity - 1);
    }
    map->count += map->slots[i].key == 0;
    map->slots[i] = (struct mr_map_slot){key, value};
}

enum mr_status mr_map_reserve(struct mr_map *map, uint64_t more)
{
    uint64_t need = map->count + more;
    if (need * 4 <= map->capacity * 3) {
        return MR_OK;
    }
    uint64_t capacity = map->capacity == 0 ? MAP_FIRST_CAPACITY : map->capacity;
    while (need * 4 > capacity * 3) {
        capacity *= 2;
    }
    struct mr_map grown = {.slots = mr_calloc(capacity, sizeof(*grown.slots)),
                           .capacity = capacity};
    if (grown.slots == NULL) {
        return MR_E_NOMEM;
    }
    for (uint64_t i = 0; i < map->capacity; i++) {
        if (map->slots[i].key != 0) {
            place(&grown, map->slots[i].key, map->slots[i].value);
        }
    }
    mr_free(map->slots);
    *map = grown;
    return MR_OK;
}

void mr_map_set(struct mr_map *map, uint64_t key, uint64_t value)
{
    MR_ASSERT(key != 0);
    MR_ASSERT(map->count < map->capacity);
    place(map, key, value);
}

bool mr_map_get(const struct mr_map *map, uint64_t key, uint64_t *ret_value)
{
    if (map->count == 0) {
        return false;
    }
    for (uint64_t i = home(map, key); map->slots[i].key != 0; i = (i + 1) & (map->capacity - 1)) {
        if (map->slots[i].key == key) {
            *ret_value = map->slots[i].value;
            return true;
        }
    }
    return false;
}

bool mr_map_remove(struct mr_map *map, uint64_t key)
{
    if (map->count == 0) {
        return false;
    }
    uint64_t mask = map->capacity - 1;
    uint64_t i = home(map, key);
    while (map->slots[i].key != key) {
        if (map->slots[i].key == 0) {
            return false;
        }
        i = (i + 1) & mask;
    }
    /* Close the gap: move back whatever would no longer be found. */
    uint64_t gap = i;
    for (uint64_t j = (i + 1) & mask; map->slots[j].key != 0; j = (j + 1) & mask) {
        uint64_t wanted = home(map, map->slots[j].key);
        if (((j - wanted) & mask) >= ((j - gap) & mask)) {
            map->slots[gap] = map->slots[j];
            gap = j;
        }
    }
    map->slots[gap] = (struct mr_map_slot){0, 0};
    map->count--;
    return true;
}
