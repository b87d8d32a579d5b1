#include "core/alloc.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Counters are relaxed: they order nothing, they only count. */
static _Atomic uint64_t made_count;
static _Atomic uint64_t fail_from; /* 0 = never; else the allocation number that fails */
static _Atomic int fail_for_ever;
static _Atomic int64_t live_count;

static int must_fail(void)
{
    uint64_t from = atomic_load_explicit(&fail_from, memory_order_relaxed);
    if (from == 0) {
        return 0;
    }
    uint64_t n = atomic_fetch_add_explicit(&made_count, 1, memory_order_relaxed) + 1;
    if (n == from) {
        return 1;
    }
    return n > from && atomic_load_explicit(&fail_for_ever, memory_order_relaxed);
}

static void *counted(void *p)
{
    if (p != NULL) {
        atomic_fetch_add_explicit(&live_count, 1, memory_order_relaxed);
    }
    return p;
}

void *mr_alloc(size_t size)
{
    return must_fail() ? NULL : counted(malloc(size == 0 ? 1 : size));
}

void *mr_calloc(size_t count, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(count, size, &total)) {
        return NULL;
    }
    return must_fail() ? NULL : counted(calloc(1, total == 0 ? 1 : total));
}

void *mr_realloc(void *p, size_t size)
{
    if (must_fail()) {
        return NULL;
    }
    void *q = realloc(p, size == 0 ? 1 : size);
    return p == NULL ? counted(q) : q;
}

void *mr_alloc_aligned(size_t alignment, size_t size)
{
    void *p = NULL;
    if (must_fail() || posix_memalign(&p, alignment, size == 0 ? alignment : size) != 0) {
        return NULL;
    }
    return counted(p);
}

char *mr_strdup(const char *text)
{
    return text == NULL ? NULL : mr_strndup(text, strlen(text));
}

char *mr_strndup(const char *text, size_t size)
{
    char *copy = mr_alloc(size + 1);
    if (copy != NULL) {
        if (size > 0) {
            memcpy(copy, text, size);
        }
        copy[size] = '\0';
    }
    return copy;
}

void mr_free(void *p)
{
    if (p != NULL) {
        atomic_fetch_sub_explicit(&live_count, 1, memory_order_relaxed);
        free(p);
    }
}

void mr_free_p(void *p)
{
    void *block;
    memcpy(&block, p, sizeof(block));
    mr_free(block);
}

uint64_t mr_alloc_fail_at(uint64_t nth, int for_ever)
{
    uint64_t made = atomic_exchange_explicit(&made_count, 0, memory_order_relaxed);
    atomic_store_explicit(&fail_for_ever, for_ever, memory_order_relaxed);
    atomic_store_explicit(&fail_from, nth, memory_order_relaxed);
    return made;
}

int64_t mr_alloc_live(void)
{
    return atomic_load_explicit(&live_count, memory_order_relaxed);
}
