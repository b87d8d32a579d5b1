/* The recent groups, kept in memory as they were written: a ring, ascending position. Older bytes
 * of the log come from the files (reads.c). */
#include "bus/internal.h"

#include "core/alloc.h"

static struct mr__chunk *cache_at(const struct mr_bus *bus, uint32_t i)
{
    return &bus->cache[(bus->cache_first + i) % bus->cache_capacity];
}

static void cache_evict(struct mr_bus *bus)
{
    struct mr__chunk *chunk = cache_at(bus, 0);
    bus->cache_bytes -= chunk->capacity;
    mr_free(chunk->data);
    *chunk = (struct mr__chunk){0};
    bus->cache_first = (bus->cache_first + 1) % bus->cache_capacity;
    bus->cache_count--;
}

static bool cache_grow(struct mr_bus *bus)
{
    if (bus->cache_count < bus->cache_capacity) {
        return true;
    }
    uint32_t capacity = bus->cache_capacity == 0 ? 64 : bus->cache_capacity * 2;
    struct mr__chunk *grown = mr_calloc(capacity, sizeof(*grown));
    if (grown == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < bus->cache_count; i++) {
        grown[i] = *cache_at(bus, i);
    }
    mr_free(bus->cache);
    bus->cache = grown;
    bus->cache_first = 0;
    bus->cache_capacity = capacity;
    return true;
}

/* The written group's memory moves into the cache; a small group in a large buffer is copied. */
void mr__cache_add(struct mr_bus *bus, struct mr__group *group)
{
    struct mr__chunk chunk = {
        .position = group->position, .size = group->padded, .data = group->data,
        .capacity = group->capacity};
    if (group->capacity / 2 > group->padded) {
        uint8_t *copy = mr_alloc(group->padded);
        if (copy != NULL) {
            memcpy(copy, group->data, group->size);
            memset(copy + group->size, 0, group->padded - group->size);
            chunk.data = copy;
            chunk.capacity = group->padded;
        }
    }
    bool kept = cache_grow(bus);
    if (kept) {
        *cache_at(bus, bus->cache_count++) = chunk;
        bus->cache_bytes += chunk.capacity;
    } else if (chunk.data != group->data) {
        mr_free(chunk.data);
    }
    if (kept && chunk.data == group->data) {
        group->data = NULL;
        group->capacity = 0;
    }
    if (bus->stage.data == NULL && group->data != NULL) {
        bus->stage.data = group->data; /* used again, saves an allocation a group */
        bus->stage.capacity = group->capacity;
        group->data = NULL;
    }
    mr_free(group->data);
    group->data = NULL;
    group->capacity = 0;
    group->size = 0;
    while (bus->cache_bytes + bus->sketch_bytes > bus->options.log.cache_size &&
           bus->cache_count > 0) {
        cache_evict(bus);
    }
}

static const uint8_t *in_cache(const struct mr_bus *bus, uint64_t position, size_t size)
{
    uint32_t low = 0;
    uint32_t high = bus->cache_count;
    while (low < high) { /* the last chunk at or before position */
        uint32_t mid = low + (high - low) / 2;
        if (cache_at(bus, mid)->position <= position) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    if (low == 0) {
        return NULL;
    }
    const struct mr__chunk *chunk = cache_at(bus, low - 1);
    return position + size <= chunk->position + chunk->size
               ? chunk->data + (position - chunk->position)
               : NULL;
}

const uint8_t *mr__bytes_at(struct mr_bus *bus, uint64_t position, size_t size)
{
    const struct mr__group *flight = &bus->flight;
    if (bus->writing && position >= flight->position &&
        position + size <= flight->position + flight->padded) {
        return flight->data + (position - flight->position);
    }
    const uint8_t *data = in_cache(bus, position, size);
    return data != NULL ? data : mr__read_bytes(bus, position, size);
}

void mr__cache_release(struct mr_bus *bus)
{
    while (bus->cache_count > 0) {
        cache_evict(bus);
    }
    mr_free(bus->cache);
    mr__reads_release(bus);
}
