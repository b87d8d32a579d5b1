/* When something is due for a delivery: one binary heap by (time, subscription, offset). */
#include "bus/internal.h"

#include "core/alloc.h"

static bool earlier(const struct mr__delivery *a, const struct mr__delivery *b)
{
    if (a->timer_ns != b->timer_ns) {
        return a->timer_ns < b->timer_ns;
    }
    return a->sub->id != b->sub->id ? a->sub->id < b->sub->id : a->offset < b->offset;
}

static void heap_put(struct mr_bus *bus, uint32_t at, struct mr__delivery *d)
{
    *mr__heap_at(bus, at) = d;
    d->heap_at = at;
}

static void heap_up(struct mr_bus *bus, uint32_t at)
{
    struct mr__delivery *d = *mr__heap_at(bus, at);
    while (at > 0 && earlier(d, *mr__heap_at(bus, (at - 1) / 2))) {
        heap_put(bus, at, *mr__heap_at(bus, (at - 1) / 2));
        at = (at - 1) / 2;
    }
    heap_put(bus, at, d);
}

static void heap_down(struct mr_bus *bus, uint32_t at)
{
    struct mr__delivery *d = *mr__heap_at(bus, at);
    for (;;) {
        uint32_t child = at * 2 + 1;
        if (child >= bus->heap_count) {
            break;
        }
        if (child + 1 < bus->heap_count &&
            earlier(*mr__heap_at(bus, child + 1), *mr__heap_at(bus, child))) {
            child++;
        }
        if (!earlier(*mr__heap_at(bus, child), d)) {
            break;
        }
        heap_put(bus, at, *mr__heap_at(bus, child));
        at = child;
    }
    heap_put(bus, at, d);
}

void mr__timer_clear(struct mr_bus *bus, struct mr__delivery *d)
{
    uint32_t at = d->heap_at;
    if (at == NO_HEAP) {
        return;
    }
    MR_ASSERT(*mr__heap_at(bus, at) == d);
    d->heap_at = NO_HEAP;
    struct mr__delivery *last = *mr__heap_at(bus, --bus->heap_count);
    if (last != d) {
        heap_put(bus, at, last);
        heap_up(bus, at);
        heap_down(bus, last->heap_at);
    }
}

uint64_t mr__expiry(const struct mr_bus *bus, const struct mr__delivery *d)
{
    const struct mr_subscription_config *conf = d->sub->conf;
    uint64_t expiry = d->expires_ns == 0 ? UINT64_MAX : d->expires_ns;
    if (conf != NULL && conf->max_age_ns != 0) {
        uint64_t age_end;
        if (__builtin_add_overflow(d->arrival_ns, conf->max_age_ns, &age_end)) {
            age_end = UINT64_MAX;
        }
        expiry = age_end < expiry ? age_end : expiry;
    }
    if (d->sub->removed_log_ns != 0 && d->sub->removed_log_ns + REMOVED_KEEP_NS < expiry) {
        expiry = d->sub->removed_log_ns + REMOVED_KEEP_NS;
    }
    return bus->clock_frozen ? UINT64_MAX : expiry;
}

/* The one moment at which something happens to d by itself; room in the heap was reserved. */
void mr__timer_set(struct mr_bus *bus, struct mr__delivery *d)
{
    uint64_t when = UINT64_MAX;
    switch ((enum mr__where)d->where) {
    case MR__READY:
    case MR__BLOCKED:
    case MR__HELD:
        when = mr__expiry(bus, d);
        break;
    case MR__WAITING:
    case MR__DELAYED:
        when = mr__expiry(bus, d);
        when = d->due_ns < when ? d->due_ns : when;
        break;
    case MR__FLIGHT:
        when = d->lease_ns;
        break;
    case MR__ARMED:
    case MR__QUEUED:
    case MR__ENDING:
    case MR__WHERE_MAX:
        break;
    }
    if (mr__overtaken(d) != NULL) {
        when = 0;
    }
    mr__timer_clear(bus, d);
    if (when != UINT64_MAX) {
        MR_ASSERT(bus->heap_count < bus->heap_capacity);
        d->timer_ns = when;
        *mr__heap_at(bus, bus->heap_count) = d;
        d->heap_at = bus->heap_count++;
        heap_up(bus, d->heap_at);
    }
}

enum mr_status mr__timer_reserve(struct mr_bus *bus, uint64_t count)
{
    if (count <= bus->heap_capacity) {
        return MR_OK;
    }
    uint64_t chunks = (count + HEAP_CHUNK - 1) / HEAP_CHUNK;
    if (chunks * HEAP_CHUNK > UINT32_MAX) {
        return MR_E_NOMEM;
    }
    struct mr__delivery ***grown = mr_realloc(bus->heap, chunks * sizeof(struct mr__delivery **));
    if (grown == NULL) {
        return MR_E_NOMEM;
    }
    bus->heap = grown;
    while (bus->heap_capacity < count) {
        struct mr__delivery **chunk = mr_alloc(HEAP_CHUNK * sizeof(struct mr__delivery *));
        if (chunk == NULL) {
            return MR_E_NOMEM; /* those that were made will do for the next */
        }
        bus->heap[bus->heap_capacity / HEAP_CHUNK] = chunk;
        bus->heap_capacity += HEAP_CHUNK;
    }
    return MR_OK;
}

void mr__timers_release(struct mr_bus *bus)
{
    for (uint32_t i = 0; i < bus->heap_capacity / HEAP_CHUNK; i++) {
        mr_free(bus->heap[i]);
    }
    mr_free(bus->heap);
}
