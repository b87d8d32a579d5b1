/* Rates: at most so many hand-outs within any span of time. A ring holds when the last ones were; a
 * large count is kept in groups, which grants a little less, never more. */
#include "bus/internal.h"

#include "core/alloc.h"

#define RATE_GROUPS_MAX 256u

struct mr__rate {
    struct mr_rate rate;
    uint32_t groups; /* of the ring */
    uint32_t each;   /* hand-outs in a group; groups * each <= rate.count */
    uint32_t at;     /* the group being filled */
    uint32_t filled; /* of it */
    uint64_t last_ns[]; /* monotonic, of the last hand-out of each group; 0: never */
};

static struct mr__rate *rate_create(const struct mr_rate *rate)
{
    uint32_t groups = rate->count < RATE_GROUPS_MAX ? (uint32_t)rate->count : RATE_GROUPS_MAX;
    struct mr__rate *r = mr_calloc(1, sizeof(*r) + groups * sizeof(*r->last_ns));
    if (r != NULL) {
        r->rate = *rate;
        r->groups = groups;
        r->each = (uint32_t)(rate->count / groups);
        r->filled = r->each; /* the next one opens a group */
    }
    return r;
}

/* When the hand-out after @p more others may be. */
static uint64_t rate_due_ns(const struct mr__rate *r, uint64_t more)
{
    uint64_t room = r->each - r->filled;
    if (more < room) {
        return 0;
    }
    uint64_t groups = 1 + (more - room) / r->each;
    if (groups > r->groups) {
        return UINT64_MAX;
    }
    uint64_t last = r->last_ns[(r->at + groups) % r->groups];
    uint64_t due;
    if (last == 0) {
        return 0;
    }
    return __builtin_add_overflow(last, r->rate.per_ns, &due) ? UINT64_MAX : due;
}

static void rate_take(struct mr__rate *r, uint64_t now_ns)
{
    if (r->filled == r->each) {
        r->at = (r->at + 1) % r->groups;
        r->filled = 0;
    }
    r->filled++;
    r->last_ns[r->at] = now_ns;
}

/* --- the limits of a subscription or target --------------------------------------------------- */

static bool is_same(const struct mr__limit *limit, const struct mr_rates *rates)
{
    bool same = limit != NULL && limit->count == rates->count;
    for (uint32_t i = 0; same && i < rates->count; i++) {
        same = rates->items[i].count == limit->rates[i]->rate.count &&
               rates->items[i].per_ns == limit->rates[i]->rate.per_ns;
    }
    return same;
}

enum mr_status mr__limit_prepare(struct mr__limit *limit, const struct mr_rates *rates,
                                 struct mr__limit **next)
{
    if (*next != limit) {
        mr__limit_destroy(*next); /* of a configuration that failed */
    }
    *next = NULL;
    if (rates == NULL || is_same(limit, rates)) {
        *next = rates == NULL ? NULL : limit;
        return MR_OK;
    }
    struct mr__limit *made = mr_calloc(1, sizeof(*made));
    if (made == NULL) {
        return MR_E_NOMEM;
    }
    for (uint32_t i = 0; i < rates->count; i++) {
        made->rates[i] = rate_create(&rates->items[i]);
        if (made->rates[i] == NULL) {
            mr__limit_destroy(made);
            return MR_E_NOMEM;
        }
        made->count++;
    }
    *next = made;
    return MR_OK;
}

void mr__limit_apply(struct mr__limit **limit, struct mr__limit **next)
{
    if (*limit != *next) {
        mr__limit_destroy(*limit);
        *limit = *next;
    }
    *next = NULL;
}

void mr__limit_destroy(struct mr__limit *limit)
{
    for (uint32_t i = 0; limit != NULL && i < limit->count; i++) {
        mr_free(limit->rates[i]);
    }
    mr_free(limit);
}

uint64_t mr__limit_due_ns(const struct mr__limit *limit, uint64_t more)
{
    uint64_t due = 0;
    for (uint32_t i = 0; limit != NULL && i < limit->count; i++) {
        uint64_t one = rate_due_ns(limit->rates[i], more);
        due = one > due ? one : due;
    }
    return MR_PLANTED(RATE_IGNORED) ? 0 : due;
}

void mr__limit_take(struct mr__limit *limit, uint64_t now_ns)
{
    for (uint32_t i = 0; limit != NULL && i < limit->count; i++) {
        rate_take(limit->rates[i], now_ns);
    }
}

/* --- limits that several subscriptions share -------------------------------------------------- */

static struct mr__shared *shared_find(const struct mr_bus *bus, const char *name)
{
    for (uint32_t i = 0; i < bus->shared_count; i++) {
        if (strcmp(bus->shared[i].conf->name, name) == 0) {
            return &bus->shared[i];
        }
    }
    return NULL;
}

static bool is_used(const struct mr__shared *by, uint32_t count, const struct mr__limit *limit)
{
    for (uint32_t i = 0; i < count; i++) {
        if (by[i].limit == limit) {
            return true;
        }
    }
    return false;
}

/* Frees those that were prepared, but for what the present ones use. */
static void shared_discard(const struct mr_bus *bus, struct mr__shared *next, uint32_t count)
{
    for (uint32_t i = 0; next != NULL && i < count; i++) {
        if (!is_used(bus->shared, bus->shared_count, next[i].limit)) {
            mr__limit_destroy(next[i].limit);
        }
    }
    mr_free(next);
}

enum mr_status mr__shared_prepare(struct mr_bus *bus, const struct mr_config *config,
                                  struct mr__shared **ret_next)
{
    struct mr__shared *next = mr_calloc(config->limit_count + 1u, sizeof(*next));
    enum mr_status r = next == NULL ? MR_E_NOMEM : MR_OK;
    for (uint32_t i = 0; i < config->limit_count && r == MR_OK; i++) {
        const struct mr__shared *before = shared_find(bus, config->limits[i].name);
        next[i].conf = &config->limits[i];
        r = mr__limit_prepare(before == NULL ? NULL : before->limit, config->limits[i].rates,
                              &next[i].limit);
    }
    if (r != MR_OK) {
        shared_discard(bus, next, config->limit_count);
        return r;
    }
    *ret_next = next;
    return MR_OK;
}

void mr__shared_apply(struct mr_bus *bus, struct mr__shared *next, uint32_t count)
{
    for (uint32_t i = 0; i < bus->shared_count; i++) {
        if (!is_used(next, count, bus->shared[i].limit)) {
            mr__limit_destroy(bus->shared[i].limit);
        }
    }
    mr_free(bus->shared);
    bus->shared = next;
    bus->shared_count = count;
}

static struct mr__shared *shared_of(const struct mr__sub *sub, uint32_t i)
{
    return &sub->shared[sub->conf->limits[i]];
}

static uint32_t shared_count_of(const struct mr__sub *sub)
{
    return sub->conf == NULL || sub->shared == NULL ? 0 : sub->conf->limit_count;
}

void mr__shared_recount(struct mr_bus *bus)
{
    for (uint32_t i = 0; i < bus->shared_count; i++) {
        bus->shared[i].begun = 0;
        bus->shared[i].in_flight = 0;
    }
    for (uint32_t i = 0; i < bus->sub_count; i++) {
        const struct mr__sub *sub = bus->subs[i];
        for (uint32_t k = 0; k < shared_count_of(sub); k++) {
            shared_of(sub, k)->begun += sub->places;
            shared_of(sub, k)->in_flight += sub->places_in_flight;
        }
    }
}

void mr__shared_count(struct mr__sub *sub, int begun, int in_flight)
{
    for (uint32_t k = 0; k < shared_count_of(sub); k++) {
        struct mr__shared *shared = shared_of(sub, k);
        shared->begun += (uint64_t)(int64_t)begun;
        shared->in_flight += (uint64_t)(int64_t)in_flight;
        MR_ASSERT(shared->in_flight <= shared->begun);
    }
}

bool mr__shared_has_place(const struct mr__sub *sub)
{
    for (uint32_t k = 0; k < shared_count_of(sub); k++) {
        const struct mr__shared *shared = shared_of(sub, k);
        if (shared->conf->concurrency != 0 && shared->begun >= shared->conf->concurrency &&
            !MR_PLANTED(LIMIT_IGNORED)) {
            return false;
        }
    }
    return true;
}

bool mr__shared_has_rate(const struct mr__sub *sub)
{
    for (uint32_t k = 0; k < shared_count_of(sub); k++) {
        if (shared_of(sub, k)->limit != NULL) {
            return true;
        }
    }
    return false;
}

uint64_t mr__shared_due_ns(const struct mr__sub *sub, bool ahead)
{
    uint64_t due = 0;
    for (uint32_t k = 0; k < shared_count_of(sub); k++) {
        const struct mr__shared *shared = shared_of(sub, k);
        uint64_t one =
            mr__limit_due_ns(shared->limit, ahead ? shared->begun - shared->in_flight : 0);
        due = one > due ? one : due;
    }
    return due;
}

void mr__shared_take(struct mr__sub *sub, uint64_t now_ns)
{
    for (uint32_t k = 0; k < shared_count_of(sub); k++) {
        mr__limit_take(shared_of(sub, k)->limit, now_ns);
    }
}
