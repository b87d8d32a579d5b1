/* Which delivery goes next, and to whom. Attempts are logged (armed) a little ahead of the free
 * slots, so that a freed slot is refilled without waiting for the disk; an armed attempt whose
 * group is durable is queued at its target and handed out in order. */
#include "bus/internal.h"

#include <inttypes.h>
#include <stdio.h>

#include "core/alloc.h"

#define DEMAND_SUBS_MAX 64u /* looked at to tell a target's demand; beyond, it is busy anyway */

/* --- breaker: failures of a target within a sliding window ------------------------------------ */

void mr__breaker_count(struct mr_bus *bus, struct mr__target *target, bool ok)
{
    const struct mr_target_config *conf = target->conf;
    struct mr__breaker *b = &target->breaker;
    if (conf == NULL || conf->breaker_percent == 0) {
        return;
    }
    if (b->open_until_ns != 0) {
        if (!b->half_open) {
            return; /* an answer from before it opened */
        }
        b->half_open = false;
        if (ok) {
            *b = (struct mr__breaker){.window.bucket_ns = bus->log_ns};
        } else {
            b->open_until_ns = bus->log_ns + conf->breaker_open_ns;
        }
        return;
    }
    mr__window_count(&b->window, conf->breaker_window_ns, bus->log_ns, ok);
    if (!ok && mr__window_is_over(&b->window, conf->breaker_calls, conf->breaker_percent)) {
        b->open_until_ns = bus->log_ns + conf->breaker_open_ns;
    }
}

/* How many hand-outs the target may hold now. */
static uint32_t slots_now(const struct mr_bus *bus, const struct mr__target *target)
{
    const struct mr__breaker *b = &target->breaker;
    if (b->open_until_ns == 0) {
        return target->slots;
    }
    if (bus->log_ns < b->open_until_ns) {
        return 0;
    }
    return target->slots > 0 ? 1 : 0; /* half open: one tells */
}

/* --- arming ----------------------------------------------------------------------------------- */

/* What is logged ahead goes in that order, whatever comes: none where some goes before others. */
static uint32_t ahead_of(const struct mr_bus *bus, const struct mr__target *target, uint32_t slots)
{
    if (slots == 0 || target->has_levels) {
        return 0;
    }
    uint32_t half = slots / 2;
    return half > bus->options.ahead ? half : bus->options.ahead;
}

/* When the rates of @p share, of its target and those it shares with others grant one more,
 * monotonic. @p ahead: beyond what has begun and is not handed out */
static uint64_t limits_due_ns(const struct mr__share *share, bool ahead)
{
    const struct mr__sub *sub = share->sub;
    uint64_t due = mr__limit_due_ns(share->target->limit, ahead ? share->target->armed : 0);
    uint64_t own =
        mr__limit_due_ns(sub->limit, ahead ? sub->places - sub->places_in_flight : 0);
    uint64_t shared = mr__shared_due_ns(sub, ahead);
    due = own > due ? own : due;
    return shared > due ? shared : due;
}

static bool is_limited(const struct mr__share *share)
{
    return share->sub->limit != NULL || share->target->limit != NULL ||
           mr__shared_has_rate(share->sub);
}

/* @p far: beyond the free slots, so that the next one is durable when a slot is freed */
static bool may_begin(const struct mr_bus *bus, const struct mr__share *share, bool far)
{
    const struct mr__sub *sub = share->sub;
    const struct mr__target *target = share->target;
    if (sub->paused || sub->conf == NULL || target == NULL || target->conf == NULL ||
        bus->draining || bus->faulty) {
        return false;
    }
    if ((sub->conf->concurrency != 0 && sub->places >= sub->conf->concurrency) ||
        !mr__shared_has_place(sub)) {
        return false;
    }
    uint32_t slots = slots_now(bus, target);
    bool probing = target->breaker.open_until_ns != 0;
    /* What a rate lets go goes at once: nothing is logged far ahead of it. */
    bool ahead = far && !probing && !is_limited(share);
    uint32_t bound = slots + (ahead ? ahead_of(bus, target, slots) : 0);
    return target->armed + target->in_flight < bound &&
           (!is_limited(share) || limits_due_ns(share, true) <= bus->now.mono_ns);
}

static bool is_batched(const struct mr__sub *sub)
{
    return sub->conf != NULL && sub->conf->batch_max > 0;
}

bool mr__may_begin(const struct mr_bus *bus, const struct mr__share *share)
{
    return !is_batched(share->sub) && may_begin(bus, share, true);
}

void mr__arm(struct mr_bus *bus, struct mr__delivery *d, uint32_t fence, struct mr_event *event)
{
    mr__state_begin(bus, d, fence);
    if (event != NULL) {
        d->event = mr_event_ref(event);
    }
    mr__list_push(&bus->stage.armed, d);
}

/* @return false: no room */
static bool arm_one(struct mr_bus *bus, struct mr__delivery *d, struct mr__bundle *bundle)
{
    const struct mr__sub *sub = d->sub;
    uint8_t body[16] = {0};
    if (mr__stage_reserve(bus, mr_record_size(sizeof(body))) != MR_OK) {
        return false;
    }
    mr_put_u32(body, d->size);
    mr_put_u32(body + 4, d->level);
    mr_put_u64(body + 8, d->arrival_ns);
    struct mr_record record = {
        .kind = MR_RECORD_ATTEMPT,
        .extra = (uint16_t)(d->attempts + 1),
        .offset = d->offset,
        .a = sub->id,
        .b = d->fence + 1,
        .c = d->lane == NULL ? 0 : d->lane->key,
        .d = d->position,
        .body = mr_bytes(body, sizeof(body)),
    };
    (void)mr__stage_record(bus, &record); /* found by its offset and fence */
    const struct mr__target *target = mr__share_of(d)->target;
    if (target->has_levels || target->queue.count * 2 < ahead_of(bus, target, target->slots)) {
        bus->stage.urgent = true; /* the target would soon wait for it */
    }
    d->bundle = bundle;
    mr__arm(bus, d, d->fence + 1, NULL);
    return true;
}

static bool arm_single(struct mr_bus *bus, struct mr__share *share)
{
    struct mr__delivery *d = mr__ready_next(share);
    if (mr__overtaken(d) != NULL || !may_begin(bus, share, true) || !arm_one(bus, d, NULL)) {
        return false;
    }
    mr__load_event(bus, d);
    return true;
}

/* All that are there when a slot is free and they need not wait; ahead of that only a full batch:
 * another would grow meanwhile. */
static bool arm_batch(struct mr_bus *bus, struct mr__share *share)
{
    uint64_t due = 0;
    bool has_place = may_begin(bus, share, false);
    uint64_t least = has_place ? 1 : share->sub->conf->batch_max;
    share->gathering = false;
    if (share->ready_count < least || !may_begin(bus, share, true)) {
        return false;
    }
    uint32_t count = mr__bundle_gather(bus, share, &due);
    if (due != 0) {
        uint64_t at = bus->now.mono_ns + (due - bus->log_ns);
        bus->limit_due_ns = at < bus->limit_due_ns ? at : bus->limit_due_ns;
        share->gathering = has_place;
    }
    if (due != 0 || count < least) {
        return false;
    }
    struct mr__bundle *bundle = mr__bundle_create(bus);
    uint32_t armed = 0;
    while (bundle != NULL && armed < count && arm_one(bus, bus->gathered[armed], bundle)) {
        armed++;
    }
    for (uint32_t i = 0; i < armed; i++) {
        mr__load_event(bus, bus->gathered[i]); /* one that is lost ends here */
    }
    if (bundle != NULL) {
        mr__bundle_drop(bus, bundle);
    }
    return armed > 0;
}

/* What a rate refused now is looked at again when it grants it. */
static void note_limit(struct mr_bus *bus, const struct mr__share *share)
{
    uint64_t due = is_limited(share) ? limits_due_ns(share, true) : 0;
    if (due > bus->now.mono_ns && due < bus->limit_due_ns) {
        bus->limit_due_ns = due;
    }
}

/* One delivery of each subscription in turn, until the target or all subscriptions are full. Only
 * when half of what was logged ahead is used up: then many attempts share one write. */
static void arm_target(struct mr_bus *bus, struct mr__target *target)
{
    uint32_t ahead = ahead_of(bus, target, target->slots);
    if (target->armed + target->in_flight >= target->slots + ahead / 2) {
        return;
    }
    struct mr__share *stuck = NULL; /* they may not begin now: back on the ring after */
    struct mr__share *stuck_last = NULL;
    while (target->turn_first != NULL) {
        uint32_t slots = slots_now(bus, target);
        bool probing = target->breaker.open_until_ns != 0;
        uint32_t bound = probing ? slots : slots + ahead_of(bus, target, slots);
        if (target->armed + target->in_flight >= bound) {
            break;
        }
        struct mr__share *share = mr__turn_take(target);
        if (share->ready_count == 0 || share->target != target || share->sub->paused) {
            continue; /* back on the ring when something is ready, or when it resumes */
        }
        if (is_batched(share->sub) ? arm_batch(bus, share) : arm_single(bus, share)) {
            mr__turn_add(share);
            continue;
        }
        note_limit(bus, share);
        if (share->on_turn) {
            continue; /* one that was looked at has ended, and put it back */
        }
        share->on_turn = true;
        if (stuck_last != NULL) {
            stuck_last->turn_next = share;
        } else {
            stuck = share;
        }
        stuck_last = share;
    }
    if (stuck != NULL) {
        stuck_last->turn_next = target->turn_first;
        target->turn_first = stuck;
        if (target->turn_last == NULL) {
            target->turn_last = stuck_last;
        }
    }
}

/* --- handing out ------------------------------------------------------------------------------ */

static uint64_t policy_timeout(const struct mr__delivery *d)
{
    const struct mr_subscription_config *conf = d->sub->conf;
    return conf->timeout_ns != 0 ? conf->timeout_ns : mr__share_of(d)->target->conf->timeout_ns;
}

/* Fills @p h for @p d, whose place is counted, and gives it away. */
static void hand_out_one(struct mr_bus *bus, struct mr__target *target, struct mr__delivery *d,
                         struct mr_handout *h)
{
    h->op.next = NULL;
    h->target = target->id;
    h->subscription = d->sub->id;
    h->offset = d->offset;
    h->fence = d->fence;
    h->attempt = d->attempts + 1u;
    h->last = d->attempts >= d->sub->conf->retry.step_count;
    h->alone = d->alone;
    h->timeout_ns = policy_timeout(d);
    h->max_run_ns = target->conf->max_run_ns;
    h->deadline_wall_ns = bus->now.wall_ns + h->timeout_ns;
    (void)snprintf(h->name, sizeof(h->name), "%s", d->sub->name);
    (void)snprintf(h->delivery, sizeof(h->delivery), "%s:%" PRIu64, d->sub->name, d->offset);
    h->event = MR_TAKE(d->event);
    mr__bundle_out(h, d->bundle);
    mr__list_remove(d);
    mr__set_where(d, MR__FLIGHT);
    d->sub->in_flight++;
    d->started_ns = bus->log_ns;
    d->started_wall_ns = bus->now.wall_ns;
    if (__builtin_add_overflow(bus->log_ns, h->timeout_ns, &d->lease_ns)) {
        d->lease_ns = UINT64_MAX;
    }
    mr__timer_set(bus, d);
    bus->ports.handout(bus->ports.context, h);
}

static struct mr_handout *create_chain(uint32_t count)
{
    struct mr_handout *chain = NULL;
    for (uint32_t i = 0; i < count; i++) {
        struct mr_handout *h = mr_handout_create();
        if (h != NULL) {
            h->op.next = chain == NULL ? NULL : &chain->op;
            chain = h;
            continue;
        }
        while (chain != NULL) {
            h = (struct mr_handout *)chain->op.next;
            mr_handout_destroy(chain);
            chain = h;
        }
        return NULL;
    }
    return chain;
}

/* Hands out @p d and those behind it, @p count altogether, in one place. @return false: memory is
 * short, nothing happened */
static bool hand_out(struct mr_bus *bus, struct mr__target *target, struct mr__delivery *d,
                     uint32_t count)
{
    struct mr_handout *chain = create_chain(count);
    if (chain == NULL) {
        return false;
    }
    struct mr__sub *sub = d->sub;
    MR_ASSERT(target->armed > 0);
    target->armed--;
    target->in_flight++;
    target->breaker.half_open = target->breaker.open_until_ns != 0;
    mr__limit_take(target->limit, bus->now.mono_ns);
    mr__limit_take(sub->limit, bus->now.mono_ns);
    mr__shared_take(sub, bus->now.mono_ns);
    sub->places_in_flight++;
    mr__shared_count(sub, 0, 1);
    while (chain != NULL) {
        struct mr_handout *h = chain;
        struct mr__delivery *next = d->next;
        chain = (struct mr_handout *)h->op.next;
        h->batch_count = d->bundle == NULL ? 0 : count;
        hand_out_one(bus, target, d, h);
        d = next;
    }
    return true;
}

/* Whether @p d and those behind it, @p count altogether, can go: none is paused, removed or about
 * to be cancelled, and their events are here. */
static bool is_complete(struct mr_bus *bus, struct mr__delivery *d, uint32_t count)
{
    bool complete = !d->sub->paused && d->sub->conf != NULL;
    for (uint32_t i = 0; i < count && complete; i++) {
        complete = mr__overtaken(d) == NULL;
        struct mr__delivery *next = d->next;
        if (complete && d->event == NULL) {
            mr__load_event(bus, d); /* its bytes are on their way, or lost: then it ends */
            complete = false;
        }
        d = next;
    }
    return complete;
}

static void serve_queue(struct mr_bus *bus, struct mr__target *target)
{
    struct mr__delivery *d = target->queue.first;
    while (d != NULL && !bus->draining && !bus->faulty &&
           target->in_flight < slots_now(bus, target)) {
        uint32_t count = mr__bundle_row(d);
        struct mr__delivery *next = d;
        for (uint32_t i = 0; i < count; i++) {
            next = next->next;
        }
        uint64_t due = limits_due_ns(mr__share_of(d), false);
        if (due > bus->now.mono_ns) { /* armed when it was granted, written later */
            bus->limit_due_ns = due < bus->limit_due_ns ? due : bus->limit_due_ns;
        } else if (is_complete(bus, d, count) && !hand_out(bus, target, d, count)) {
            return;
        }
        d = next;
    }
}

static void tell_demand(struct mr_bus *bus, struct mr__target *target)
{
    uint64_t queued = target->armed;
    uint64_t oldest = 0;
    uint32_t looked = 0;
    for (struct mr__share *share = target->turn_first; share != NULL && looked < DEMAND_SUBS_MAX;
         share = share->turn_next, looked++) {
        queued += mr__bundle_places(share->sub, share->ready_count + share->sub->behind);
        const struct mr__delivery *next = mr__ready_next(share);
        if (next != NULL && bus->log_ns > next->arrival_ns) {
            uint64_t age = bus->log_ns - next->arrival_ns;
            oldest = age > oldest ? age : oldest;
        }
    }
    if (queued != target->told_queued || !target->told) {
        target->told = true;
        target->told_queued = queued;
        bus->ports.demand(bus->ports.context, target->id, queued, oldest);
    }
}

void mr__dispatch(struct mr_bus *bus)
{
    bus->limit_due_ns = UINT64_MAX;
    bus->target_turn = bus->target_count == 0 ? 0 : (bus->target_turn + 1) % bus->target_count;
    for (uint32_t i = 0; i < bus->target_count; i++) {
        struct mr__target *target = bus->targets[(bus->target_turn + i) % bus->target_count];
        if (target->conf == NULL) {
            continue;
        }
        if (target->breaker.open_until_ns != 0 && bus->log_ns >= target->breaker.open_until_ns &&
            target->in_flight == 0) {
            target->breaker.half_open = false; /* the one that was to tell came back unnoticed */
        }
        serve_queue(bus, target);
        arm_target(bus, target);
        tell_demand(bus, target);
    }
}

void mr_bus_capacity(struct mr_bus *bus, struct mr_now now, uint32_t target, uint32_t slots)
{
    mr__clock_advance(bus, now);
    MR_ASSERT(target < bus->target_count);
    bus->targets[target]->slots = slots;
}

/* --- why it waits ----------------------------------------------------------------------------- */

const char *mr_blocked_text(enum mr_blocked_on b)
{
    static const char *const texts[MR_BLOCKED_MAX] = {
        "nothing", "lane head", "concurrency", "breaker", "no instance", "back-off",
        "paused",  "held",      "memory",      "disk",    "ramp",        "removed",
        "order change", "rate",        "limit", "not before",
        "batch",
    };
    return (unsigned)b < MR_BLOCKED_MAX ? texts[b] : texts[0];
}

enum mr_blocked_on mr__blocked_where(const struct mr__share *share, enum mr__where where)
{
    const struct mr__sub *sub = share->sub;
    const struct mr__target *target = share->target;
    if (where == MR__FLIGHT) {
        return MR_BLOCKED_NOTHING;
    }
    if (sub->conf == NULL || target == NULL || target->conf == NULL) {
        return MR_BLOCKED_REMOVED;
    }
    switch (where) {
    case MR__HELD:
        return MR_BLOCKED_HELD;
    case MR__BLOCKED:
        return MR_BLOCKED_LANE;
    case MR__WAITING:
        return MR_BLOCKED_BACKOFF;
    case MR__DELAYED:
        return MR_BLOCKED_NOT_BEFORE;
    case MR__ENDING:
        return MR_BLOCKED_DISK;
    case MR__READY:
    case MR__ARMED:
    case MR__QUEUED:
    case MR__FLIGHT:
    case MR__WHERE_MAX:
        break;
    }
    if (sub->paused) {
        return MR_BLOCKED_PAUSED;
    }
    if (target->breaker.open_until_ns != 0) {
        return MR_BLOCKED_BREAKER;
    }
    if (target->slots == 0) {
        return MR_BLOCKED_NO_INSTANCE;
    }
    if (where == MR__ARMED) {
        return MR_BLOCKED_DISK;
    }
    if (!mr__shared_has_place(sub)) {
        return MR_BLOCKED_LIMIT;
    }
    if (where == MR__READY && share->gathering) {
        return MR_BLOCKED_BATCH;
    }
    bool has_place = target->armed + target->in_flight < target->slots;
    return has_place && is_limited(share) ? MR_BLOCKED_RATE : MR_BLOCKED_CONCURRENCY;
}

enum mr_blocked_on mr__blocked_on(const struct mr__delivery *d)
{
    enum mr_blocked_on reason = mr__blocked_where(mr__share_of(d), (enum mr__where)d->where);
    if (reason == MR_BLOCKED_BACKOFF && d->ramp) {
        return MR_BLOCKED_RAMP;
    }
    bool unread = d->where == MR__QUEUED && d->event == NULL;
    return reason == MR_BLOCKED_CONCURRENCY && unread ? MR_BLOCKED_DISK : reason;
}
