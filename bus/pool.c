/* Pools: many objects of one size, made some at a time, so that each costs its own bytes and no
 * allocation can fail once there is room. What is given back is used again; the memory goes when
 * the pool does. */
#include "bus/internal.h"

#include "core/alloc.h"

#define SLAB_SIZE (16u * MR_KIB)

struct slab {
    struct slab *next;
    uint64_t items[];
};

struct free_item {
    struct free_item *next;
};

static bool grow(struct mr__pool *pool, size_t item_size)
{
    size_t count = (SLAB_SIZE - sizeof(struct slab)) / item_size;
    struct slab *slab = mr_alloc(sizeof(*slab) + count * item_size);
    if (slab == NULL) {
        return false;
    }
    slab->next = pool->slabs;
    pool->slabs = slab;
    for (size_t i = 0; i < count; i++) {
        mr__pool_give(pool, (uint8_t *)slab->items + i * item_size);
    }
    return true;
}

enum mr_status mr__pool_reserve(struct mr__pool *pool, size_t item_size, uint64_t count)
{
    while (pool->free_count < count) {
        if (!grow(pool, item_size)) {
            return MR_E_NOMEM;
        }
    }
    return MR_OK;
}

void *mr__pool_take(struct mr__pool *pool)
{
    struct free_item *item = pool->free;
    MR_ASSERT(item != NULL); /* it was reserved */
    pool->free = item->next;
    pool->free_count--;
    return item;
}

void mr__pool_give(struct mr__pool *pool, void *object)
{
    struct free_item *item = object;
    item->next = pool->free;
    pool->free = item;
    pool->free_count++;
}

void mr__pool_release(struct mr__pool *pool)
{
    while (pool->slabs != NULL) {
        struct slab *next = pool->slabs->next;
        mr_free(pool->slabs);
        pool->slabs = next;
    }
    *pool = (struct mr__pool){0};
}
