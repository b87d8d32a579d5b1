#include "bus/map.h"

#include "core/alloc.h"
#include "core/assert.h"
#include "core/hash.h"

#define MAP_FIRST_CAPACITY 16u
#define AT_ONCE 1024u /* slots: a table of so few moves as a whole, in 20 us */
#define GIVEN_BACK 65536u /* slots: a megabyte */
#define MOVED_EACH 16u /* keys; the new table has room for twice as many as come meanwhile */

void mr_map_release(struct mr_map *map)
{
    mr_free(map->slots);
    mr_free(map->old);
    *map = (struct mr_map){0};
}

static uint64_t home(uint64_t capacity, uint64_t key)
{
    return mr_hash_u64(key) & (capacity - 1);
}

/* --- one table -------------------------------------------------------------------------------- */

/* Where @p key is, or the free slot where it would be; slots from @p end on are free and may not be
 * there. */
static uint64_t find(const struct mr_map_slot *slots, uint64_t capacity, uint64_t end, uint64_t key)
{
    uint64_t i = home(capacity, key);
    while (i < end && slots[i].key != 0 && slots[i].key != key) {
        i = (i + 1) & (capacity - 1);
    }
    return i;
}

/* Frees slot @p gap, and moves back whatever would no longer be found. */
static void close_gap(struct mr_map_slot *slots, uint64_t capacity, uint64_t end, uint64_t gap)
{
    uint64_t mask = capacity - 1;
    for (uint64_t j = (gap + 1) & mask; j < end && slots[j].key != 0; j = (j + 1) & mask) {
        uint64_t wanted = home(capacity, slots[j].key);
        if (((j - wanted) & mask) >= ((j - gap) & mask)) {
            slots[gap] = slots[j];
            gap = j;
        }
    }
    slots[gap] = (struct mr_map_slot){0, 0};
}

/* --- from the old table to the new ------------------------------------------------------------ */

static bool is_in_old(const struct mr_map *map, uint64_t key, uint64_t *ret_at)
{
    if (map->old == NULL) {
        return false;
    }
    *ret_at = find(map->old, map->old_capacity, map->old_end, key);
    return *ret_at < map->old_end && map->old[*ret_at].key == key;
}

/* To give a table of hundreds of megabytes back at once takes the system milliseconds. */
static void give_back(struct mr_map *map)
{
    if (map->old_count == 0) {
        map->old_end -= map->old_end < GIVEN_BACK ? map->old_end : GIVEN_BACK;
    }
    if (map->old_end == 0) {
        mr_free(map->old);
        map->old = NULL;
        map->old_capacity = 0;
    } else if (map->old_room - map->old_end >= GIVEN_BACK) {
        struct mr_map_slot *shorter = mr_realloc(map->old, map->old_end * sizeof(*shorter));
        map->old = shorter == NULL ? map->old : shorter;
        map->old_room = map->old_end;
    }
}

/* Moves so many @p keys at most, the last slots first: each is taken out as if it were removed, so
 * what is left is found as before. */
static void move_some(struct mr_map *map, uint64_t keys)
{
    if (map->old == NULL) {
        return;
    }
    uint64_t looked = 0;
    while (map->old_count > 0 && keys > 0 && looked < AT_ONCE) {
        const struct mr_map_slot moved = map->old[map->old_end - 1];
        if (moved.key == 0) {
            map->old_end--;
            looked++;
            continue;
        }
        close_gap(map->old, map->old_capacity, map->old_end, map->old_end - 1);
        map->old_count--;
        map->slots[find(map->slots, map->capacity, map->capacity, moved.key)] = moved;
        keys--;
    }
    give_back(map);
}

static void move_all(struct mr_map *map)
{
    while (map->old != NULL) {
        move_some(map, UINT64_MAX);
    }
}

static enum mr_status resize(struct mr_map *map, uint64_t capacity)
{
    move_all(map);
    struct mr_map_slot *slots = mr_calloc(capacity, sizeof(*slots));
    if (slots == NULL) {
        return MR_E_NOMEM;
    }
    map->old = map->slots;
    map->old_capacity = map->capacity;
    map->old_count = map->count;
    map->old_end = map->capacity;
    map->old_room = map->capacity;
    map->slots = slots;
    map->capacity = capacity;
    move_some(map, map->old_capacity <= AT_ONCE ? UINT64_MAX : MOVED_EACH);
    return MR_OK;
}

/* --- room ------------------------------------------------------------------------------------- */

static uint64_t capacity_for(const struct mr_map *map, uint64_t more)
{
    uint64_t need = map->count + more;
    uint64_t capacity = map->capacity == 0 && need > 0 ? MAP_FIRST_CAPACITY : map->capacity;
    while (need * 4 > capacity * 3) {
        capacity *= 2;
    }
    return capacity;
}

uint64_t mr_map_capacity(const struct mr_map *map, uint64_t more)
{
    uint64_t capacity = capacity_for(map, more);
    return capacity == map->capacity ? capacity + map->old_capacity : capacity + map->capacity;
}

bool mr_map_has_room(const struct mr_map *map, uint64_t more)
{
    return capacity_for(map, more) == map->capacity;
}

enum mr_status mr_map_reserve(struct mr_map *map, uint64_t more)
{
    uint64_t capacity = capacity_for(map, more);
    return capacity == map->capacity ? MR_OK : resize(map, capacity);
}

void mr_map_shrink(struct mr_map *map)
{
    if (map->capacity > MAP_FIRST_CAPACITY && map->count * 8 <= map->capacity &&
        map->old == NULL) {
        (void)resize(map, map->capacity / 2); /* memory short: it stays as large */
    }
}

/* --- keys ------------------------------------------------------------------------------------- */

void mr_map_set(struct mr_map *map, uint64_t key, uint64_t value)
{
    MR_ASSERT(key != 0);
    MR_ASSERT(map->count < map->capacity);
    move_some(map, MOVED_EACH);
    uint64_t at;
    if (is_in_old(map, key, &at)) {
        map->old[at].value = value;
        return;
    }
    at = find(map->slots, map->capacity, map->capacity, key);
    map->count += map->slots[at].key == 0;
    map->slots[at] = (struct mr_map_slot){key, value};
}

bool mr_map_get(const struct mr_map *map, uint64_t key, uint64_t *ret_value)
{
    if (map->count == 0 || key == 0) {
        return false;
    }
    uint64_t at = find(map->slots, map->capacity, map->capacity, key);
    if (map->slots[at].key == key) {
        *ret_value = map->slots[at].value;
        return true;
    }
    if (!is_in_old(map, key, &at)) {
        return false;
    }
    *ret_value = map->old[at].value;
    return true;
}

void mr_map_prefetch(const struct mr_map *map, uint64_t key)
{
    if (map->capacity > 0) {
        __builtin_prefetch(&map->slots[home(map->capacity, key)]);
    }
}

bool mr_map_remove(struct mr_map *map, uint64_t key)
{
    if (map->count == 0 || key == 0) {
        return false;
    }
    move_some(map, MOVED_EACH);
    uint64_t at = find(map->slots, map->capacity, map->capacity, key);
    if (map->slots[at].key == key) {
        close_gap(map->slots, map->capacity, map->capacity, at);
        map->count--;
        return true;
    }
    if (!is_in_old(map, key, &at)) {
        return false;
    }
    close_gap(map->old, map->old_capacity, map->old_end, at);
    map->old_count--;
    map->count--;
    return true;
}

bool mr_map_settle(struct mr_map *map, uint64_t keys)
{
    move_some(map, keys);
    return map->old == NULL;
}
