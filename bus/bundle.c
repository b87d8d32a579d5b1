/* Batches for handlers. A delivery stays what it is: its attempt, its answer, its retry are its
 * own. A bundle says which of them were handed out together, so that they take one place and are
 * judged together when they fail together: then none of them pays, and they go again in halves,
 * down to one alone, which does. (The batches of ports.h are what sources bring.) */
#include "bus/internal.h"

#include "core/alloc.h"

#define LOOK_MAX 4096u /* deliveries looked at beyond the maximum of a batch, for those that fit */

/* --- life ------------------------------------------------------------------------------------- */

struct mr__bundle *mr__bundle_create(struct mr_bus *bus)
{
    struct mr__bundle *b = mr_calloc(1, sizeof(*b));
    if (b == NULL) {
        return NULL;
    }
    b->number = ++bus->bundle_number;
    b->outside = 1; /* the hold */
    b->next = bus->bundles;
    if (b->next != NULL) {
        b->next->prev = b;
    }
    bus->bundles = b;
    return b;
}

static void free_unused(struct mr_bus *bus, struct mr__bundle *b)
{
    if (b->begun > 0 || b->outside > 0) {
        return;
    }
    *(b->prev == NULL ? &bus->bundles : &b->prev->next) = b->next;
    if (b->next != NULL) {
        b->next->prev = b->prev;
    }
    mr_free(b);
}

void mr__bundle_drop(struct mr_bus *bus, struct mr__bundle *b)
{
    MR_ASSERT(b->outside > 0);
    b->outside--;
    free_unused(bus, b);
}

void mr__bundles_destroy(struct mr_bus *bus)
{
    while (bus->bundles != NULL) {
        struct mr__bundle *next = bus->bundles->next;
        mr_free(bus->bundles);
        bus->bundles = next;
    }
    mr_free(bus->gathered);
}

/* --- places ----------------------------------------------------------------------------------- */

bool mr__bundle_enter(const struct mr__delivery *d)
{
    return d->bundle == NULL || d->bundle->begun++ == 0;
}

bool mr__bundle_leave(struct mr_bus *bus, struct mr__delivery *d)
{
    struct mr__bundle *b = d->bundle;
    if (b == NULL) {
        return true;
    }
    d->bundle = NULL;
    MR_ASSERT(b->begun > 0);
    bool last = --b->begun == 0;
    free_unused(bus, b);
    return last;
}

void mr__bundle_out(struct mr_handout *h, struct mr__bundle *b)
{
    if (b != NULL) {
        h->batch = b->number;
        h->bundle = b;
        b->outside++;
    }
}

bool mr__bundle_back(struct mr_bus *bus, struct mr_handout *h)
{
    struct mr__bundle *b = h->bundle;
    if (b == NULL) {
        return true;
    }
    h->bundle = NULL;
    MR_ASSERT(b->outside > 0);
    bool last = --b->outside == 0;
    free_unused(bus, b);
    return last;
}

uint64_t mr__bundle_places(const struct mr__sub *sub, uint64_t count)
{
    uint64_t max = sub->conf == NULL || sub->conf->batch_max == 0 ? 1 : sub->conf->batch_max;
    return count / max + (count % max != 0);
}

/* --- failing together ------------------------------------------------------------------------- */

static bool is_of_all(const struct mr_answer *answer)
{
    bool several = answer->suspects > 1 && !MR_PLANTED(BATCH_PAYS);
    return (several && answer->verdict == MR_VERDICT_CRASH) ||
           (several && answer->verdict == MR_VERDICT_RETRY) ||
           (answer->verdict == MR_VERDICT_TIMEOUT && !MR_PLANTED(BATCH_PAYS));
}

bool mr__bundle_tells(const struct mr_handout *h)
{
    struct mr__bundle *b = h->bundle;
    if (b == NULL || !is_of_all(&h->answer)) {
        return true;
    }
    bool first = !b->counted;
    b->counted = true;
    return first;
}

uint32_t mr__bundle_share(const struct mr__delivery *d, const struct mr_answer *answer)
{
    struct mr__bundle *b = d->where == MR__FLIGHT ? d->bundle : NULL;
    if (b == NULL || !is_of_all(answer)) {
        return 0;
    }
    if (b->share == 0 && b->begun > 1) {
        b->share = MR_PLANTED(BATCH_WHOLE) ? b->begun : (b->begun + 1) / 2;
    }
    return b->share;
}

/* --- which go together ------------------------------------------------------------------------ */

uint32_t mr__bundle_row(const struct mr__delivery *d)
{
    const struct mr__bundle *b = d->bundle;
    uint32_t count = 1;
    while (b != NULL && d->next != NULL && d->next->bundle == b) {
        d = d->next;
        count++;
    }
    MR_ASSERT(b == NULL || count == b->begun); /* armed in a row, durable in one group */
    return count;
}

/* The event's bytes may have to come from the disk first. @return false: not now; @p d may be
 * gone */
static bool knows_key(struct mr_bus *bus, struct mr__sub *sub, struct mr__delivery *d)
{
    if (sub->conf->batch_by == MR_ORDER_NONE || d->bundle_key != 0) {
        return true;
    }
    uint64_t offset = d->offset;
    mr__load_event(bus, d);
    if (mr__delivery_find(sub, offset) != d || d->event == NULL) {
        return false;
    }
    uint32_t index = (uint32_t)(sub->conf - bus->config->subscriptions);
    uint64_t key = mr_router_batch_key(bus->router, index, mr_event_record(d->event));
    d->bundle_key = MR_PLANTED(BATCH_MIXED) || key == 0 ? 1 : key; /* without one: together */
    mr_event_unref(d->event);
    d->event = NULL;
    return true;
}

static bool gathered_reserve(struct mr_bus *bus, uint32_t count)
{
    if (count <= bus->gathered_capacity) {
        return true;
    }
    struct mr__delivery **grown = mr_realloc(bus->gathered, count * sizeof(struct mr__delivery *));
    if (grown == NULL) {
        return false;
    }
    bus->gathered = grown;
    bus->gathered_capacity = count;
    return true;
}

static bool is_suspect(const struct mr__delivery *d)
{
    return d->alone || d->together != 0;
}

/* How many may go with @p d, itself included. */
static uint32_t most_with(const struct mr__delivery *d, uint32_t max)
{
    uint32_t most = d->alone ? 1 : d->together == 0 ? max : d->together;
    return most < max ? most : max;
}

/* Whether there can be enough, before each is looked at. */
static bool may_be_full(const struct mr__share *share, uint32_t max)
{
    return share->ready_count >= max || share->ready_size >= share->sub->conf->batch_size;
}

uint32_t mr__bundle_gather(struct mr_bus *bus, struct mr__share *share, uint64_t *ret_due_ns)
{
    struct mr__sub *sub = share->sub;
    const struct mr_subscription_config *conf = sub->conf;
    uint32_t max = conf->batch_max + MR_PLANTED(BATCH_LARGE);
    uint64_t size = 0;
    uint32_t count = 0;
    uint32_t limit = max;
    bool full = false;
    const struct mr__delivery *first = NULL;
    struct mr__delivery *head = gathered_reserve(bus, max) ? mr__ready_next(share) : NULL;
    uint8_t first_level = head == NULL ? 0 : head->level;
    struct mr__delivery *next = head;
    for (uint64_t looked = 0; next != NULL && looked < max + LOOK_MAX && !full; looked++) {
        struct mr__delivery *d = next;
        next = mr__ready_after(share, first_level, d);
        if (mr__overtaken(d) != NULL || !knows_key(bus, sub, d)) {
            continue;
        }
        if (first == NULL) {
            first = d;
            uint64_t due = d->started_ns + conf->batch_window_ns;
            *ret_due_ns = is_suspect(d) || due <= bus->log_ns ? 0 : due;
            if (*ret_due_ns != 0 && !may_be_full(share, max)) {
                return 1; /* it waits: which others there are can be seen then */
            }
        }
        uint32_t most = most_with(d, max);
        if (count >= most || is_suspect(d) != is_suspect(first) ||
            d->bundle_key != first->bundle_key) {
            continue;
        }
        full = count > 0 && size + d->size > conf->batch_size;
        if (!full) {
            bus->gathered[count++] = d;
            size += d->size;
            limit = most < limit ? most : limit;
            full = count == limit || size >= conf->batch_size;
        }
    }
    *ret_due_ns = full ? 0 : *ret_due_ns;
    return count;
}
