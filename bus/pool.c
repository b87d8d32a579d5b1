/* Pools: many objects of one size, made some at a time, so that each costs its own bytes and no
 * allocation can fail once there is room. What is given back is used again; a slab with nothing
 * left in it goes, unless what was reserved needs it or it is the last spare one. */
#include "bus/internal.h"

#include "core/alloc.h"

#ifndef MR_SLAB_SIZE
#define MR_SLAB_SIZE (16u * MR_KIB) /* a power of two; the simulation has less of everything */
#endif
#define SLAB_BYTES (MR_SLAB_SIZE - 16u) /* so that the allocator puts them side by side */

struct free_item {
    struct free_item *next;
};

struct slab { /* at a multiple of its size: an object finds it */
    struct slab *next; /* of those with something free, or of those that are full */
    struct slab *prev;
    struct free_item *free;
    uint32_t count; /* of these */
    uint32_t all;
    uint64_t items[];
};

static uint32_t per_slab(size_t item_size)
{
    return (uint32_t)((SLAB_BYTES - sizeof(struct slab)) / item_size);
}

static struct slab *slab_of(void *object)
{
    return (struct slab *)((uintptr_t)object & ~(uintptr_t)(MR_SLAB_SIZE - 1));
}

static void push(struct slab **list, struct slab *slab)
{
    slab->prev = NULL;
    slab->next = *list;
    if (slab->next != NULL) {
        slab->next->prev = slab;
    }
    *list = slab;
}

static void unlink_slab(struct slab **list, struct slab *slab)
{
    *(slab->prev == NULL ? list : &slab->prev->next) = slab->next;
    if (slab->next != NULL) {
        slab->next->prev = slab->prev;
    }
}

uint64_t mr__pool_growth(const struct mr__pool *pool, size_t item_size, uint64_t count)
{
    uint64_t each = per_slab(item_size);
    uint64_t more = count > pool->free_count ? count - pool->free_count : 0;
    return (more + each - 1) / each * MR_SLAB_SIZE;
}

static bool grow(struct mr__pool *pool, size_t item_size)
{
    struct slab *slab = mr_alloc_aligned(MR_SLAB_SIZE, SLAB_BYTES);
    if (slab == NULL) {
        return false;
    }
    *slab = (struct slab){.all = per_slab(item_size)};
    for (uint32_t i = slab->all; i-- > 0;) {
        struct free_item *item = (struct free_item *)((uint8_t *)slab->items + i * item_size);
        item->next = slab->free;
        slab->free = item;
    }
    slab->count = slab->all;
    pool->free_count += slab->all;
    push(&pool->slabs, slab);
    return true;
}

enum mr_status mr__pool_reserve(struct mr__pool *pool, size_t item_size, uint64_t count)
{
    pool->reserved = count;
    while (pool->free_count < count) {
        if (!grow(pool, item_size)) {
            return MR_E_NOMEM;
        }
    }
    return MR_OK;
}

void *mr__pool_take(struct mr__pool *pool)
{
    struct slab *slab = pool->slabs;
    MR_ASSERT(slab != NULL); /* it was reserved */
    struct free_item *item = slab->free;
    slab->free = item->next;
    pool->free_count--;
    pool->reserved -= pool->reserved > 0;
    if (--slab->count == 0) {
        unlink_slab(&pool->slabs, slab);
        push(&pool->full, slab);
    }
    return item;
}

void mr__pool_give(struct mr__pool *pool, void *object)
{
    struct slab *slab = slab_of(object);
    struct free_item *item = object;
    item->next = slab->free;
    slab->free = item;
    pool->free_count++;
    if (slab->count++ == 0) {
        unlink_slab(&pool->full, slab);
        push(&pool->slabs, slab);
    }
    if (slab->count == slab->all && pool->free_count >= pool->reserved + 2u * slab->all) {
        unlink_slab(&pool->slabs, slab);
        pool->free_count -= slab->all;
        mr_free(slab);
    }
}

static void release(struct slab *slab)
{
    while (slab != NULL) {
        struct slab *next = slab->next;
        mr_free(slab);
        slab = next;
    }
}

void mr__pool_release(struct mr__pool *pool)
{
    release(pool->slabs);
    release(pool->full);
    *pool = (struct mr__pool){0};
}
