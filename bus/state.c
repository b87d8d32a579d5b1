/* The state of deliveries: lanes, places, counts. The same calls serve the live bus (after a record
 * was logged) and recovery (after it was read). None of them logs or reads anything. */
#include "bus/internal.h"

#include <stdlib.h>

#include "core/alloc.h"

#define AGE_SEARCH 64u /* places looked at for one that comes out of turn */

/* --- lanes ------------------------------------------------------------------------------------ */

static bool is_ahead(enum mr__where where)
{
    return where == MR__ARMED || where == MR__QUEUED;
}

void mr__set_where(struct mr__delivery *d, enum mr__where where)
{
    struct mr__sub *sub = d->sub;
    mr__snap_touch(d);
    if (d->ramp) {
        d->ramp = false;
        sub->ramp_count--;
    }
    MR_ASSERT(sub->where_count[d->where] > 0);
    sub->where_count[d->where]--;
    sub->where_count[where]++;
    mr__share_of(d)->ahead -= is_ahead(d->where);
    mr__share_of(d)->ahead += is_ahead(where);
    d->where = (uint8_t)where;
}

/* Waiting because a start lets go only so many at once; until its place changes. */
void mr__set_ramp(struct mr__delivery *d)
{
    if (d->where == MR__WAITING && !d->ramp) {
        mr__snap_touch(d);
        d->ramp = true;
        d->sub->ramp_count++;
    }
}

/* By age: nearly always the newest; one that is redriven is among the oldest. */
static void age_insert(struct mr__sub *sub, struct mr__delivery *d)
{
    struct mr__delivery *after = sub->newest;
    if (sub->oldest != NULL && d->offset < sub->oldest->offset) {
        after = NULL;
    }
    for (uint32_t i = 0; after != NULL && after->offset > d->offset && i < AGE_SEARCH; i++) {
        after = after->older;
    }
    d->older = after;
    d->newer = after == NULL ? sub->oldest : after->newer;
    *(d->older == NULL ? &sub->oldest : &d->older->newer) = d;
    *(d->newer == NULL ? &sub->newest : &d->newer->older) = d;
}

static void age_remove(struct mr__sub *sub, struct mr__delivery *d)
{
    *(d->older == NULL ? &sub->oldest : &d->older->newer) = d->newer;
    *(d->newer == NULL ? &sub->newest : &d->newer->older) = d->older;
}

/* Nothing of its lane is before d: it is ready, or waits for its time. */
static void let_go(struct mr_bus *bus, struct mr__delivery *d)
{
    mr__snap_touch(d);
    d->due_ns = mr__debounced_ns(bus, d);
    if (d->due_ns != 0 && !MR_PLANTED(DELAY_IGNORED)) {
        mr__set_where(d, d->fence == 0 ? MR__DELAYED : MR__WAITING);
    } else {
        mr__set_where(d, MR__READY);
        d->started_ns = bus->log_ns;
        mr__ready_push(d);
    }
    mr__timer_set(bus, d);
}

static struct mr__lane *lane_find(const struct mr__sub *sub, uint64_t key)
{
    uint64_t value;
    return mr_map_get(&sub->lanes, key, &value) ? (struct mr__lane *)(uintptr_t)value : NULL;
}

bool mr__lane_has_way(const struct mr__delivery *d)
{
    const struct mr__delivery *before = d->lane_prev;
    uint32_t count = 0;
    if (d->only_cancels && before != NULL) {
        return false; /* it waits for the end of those before it, and is never handed out */
    }
    const struct mr__sub *sub = d->sub;
    for (; before != NULL && count <= sub->lane_width; before = before->lane_prev) {
        count++;
    }
    /* Where more were let go side by side before, later ones than d may run. */
    const struct mr__delivery *later = d->lane_next;
    for (uint32_t rank = count + 1; rank < sub->lane_widest && later != NULL &&
                                    sub->lane_widest > sub->lane_width; rank++) {
        count += mr__is_begun(later);
        later = later->lane_next;
    }
    return count < sub->lane_width + MR_PLANTED(LANE_WIDE);
}

/* What may go of those at its head. */
static void lane_let_go(struct mr_bus *bus, const struct mr__sub *sub, struct mr__lane *lane)
{
    struct mr__delivery *d = lane->first;
    for (uint32_t i = 0; i < sub->lane_width && d != NULL; i++) {
        struct mr__delivery *next = d->lane_next;
        if (d->where == MR__BLOCKED && mr__lane_has_way(d)) {
            let_go(bus, d);
        }
        d = next;
    }
}

/* It may not go any more. */
static void lane_block(struct mr_bus *bus, struct mr__delivery *d)
{
    mr__list_remove(d);
    mr__set_where(d, MR__BLOCKED);
    mr__timer_set(bus, d);
}

/* Puts d into its lane by offset: at the end, except for what is redriven. */
static void lane_insert(struct mr__lane *lane, struct mr__delivery *d)
{
    struct mr__delivery *after = lane->last;
    while (after != NULL && after->offset > d->offset && !mr__is_begun(after)) {
        after = after->lane_prev;
    }
    d->lane = lane;
    d->lane_prev = after;
    d->lane_next = after == NULL ? lane->first : after->lane_next;
    if (d->lane_next != NULL) {
        d->lane_next->lane_prev = d;
    } else {
        lane->last = d;
    }
    if (after != NULL) {
        after->lane_next = d;
    } else {
        lane->first = d;
    }
}

static void lane_leave(struct mr_bus *bus, struct mr__delivery *d)
{
    struct mr__lane *lane = d->lane;
    if (lane == NULL) {
        return;
    }
    if (d->lane_prev != NULL) {
        d->lane_prev->lane_next = d->lane_next;
    } else {
        lane->first = d->lane_next;
    }
    if (d->lane_next != NULL) {
        d->lane_next->lane_prev = d->lane_prev;
    } else {
        lane->last = d->lane_prev;
    }
    struct mr__delivery *before = d->lane_prev;
    d->lane = NULL;
    d->lane_next = NULL;
    d->lane_prev = NULL;
    if (lane->cancelled_before == d->offset) {
        lane->cancelled_before = 0; /* what it cancelled is gone */
    }
    if (before != NULL) {
        mr__timer_set(bus, before); /* it may be the latest now */
    }
    if (lane->first == NULL) {
        bool removed = mr_map_remove(&d->sub->lanes, lane->key);
        MR_ASSERT(removed);
        mr_map_shrink(&d->sub->lanes);
        d->sub->window_bytes -= sizeof(*lane);
        mr__pool_give(&bus->lanes, lane);
    } else {
        lane_let_go(bus, d->sub, lane);
    }
}

/* --- a delivery's life ------------------------------------------------------------------------ */

bool mr__is_begun(const struct mr__delivery *d)
{
    return d->where == MR__ARMED || d->where == MR__QUEUED || d->where == MR__FLIGHT;
}

struct mr__delivery *mr__delivery_find(const struct mr__sub *sub, uint64_t offset)
{
    /* Most that are asked for are new: a table of millions costs a miss of the cache. */
    uint64_t value;
    return offset < sub->loaded_to && mr_map_get(&sub->deliveries, offset, &value)
               ? (struct mr__delivery *)(uintptr_t)value
               : NULL;
}

bool mr__order_fits(const struct mr__sub *sub, uint16_t epoch)
{
    return sub->deliveries.count == 0 || sub->window_epoch == epoch || MR_PLANTED(NO_BARRIER);
}

bool mr__window_has_room(const struct mr_bus *bus, const struct mr__sub *sub, uint16_t epoch,
                         bool lane)
{
    uint64_t window = sub->conf == NULL ? 0 : sub->conf->window_size;
    return mr__order_fits(sub, epoch) && sub->window_bytes + DELIVERY_COST <= window &&
           mr__memory_has_room(bus, sub, lane);
}

/* @p lanes of them in lanes: each may be the first of its. */
static enum mr_status reserve_deliveries(struct mr_bus *bus, uint64_t count, uint64_t lanes)
{
    enum mr_status r =
        mr__pool_reserve(&bus->deliveries, sizeof(struct mr__delivery), count);
    return r == MR_OK ? mr__pool_reserve(&bus->lanes, sizeof(struct mr__lane), lanes) : r;
}

enum mr_status mr__state_reserve(struct mr_bus *bus, struct mr__sub *sub, uint64_t deliveries,
                                 uint64_t lanes)
{
    enum mr_status r = reserve_deliveries(bus, deliveries, lanes);
    if (r == MR_OK) {
        r = mr__timer_reserve(bus, bus->delivery_count + deliveries);
    }
    if (r == MR_OK) {
        r = mr_map_reserve(&sub->deliveries, deliveries);
    }
    if (r == MR_OK) {
        r = mr_map_reserve(&sub->lanes, lanes);
    }
    mr__memory_update(bus, sub);
    return r;
}

static void free_delivery(struct mr_bus *bus, struct mr__delivery *d)
{
    mr__walk_forget(&bus->survive.walk, d);
    mr__walk_forget(&bus->scrub.walk, d);
    mr__timer_clear(bus, d);
    mr__list_remove(d);
    if (d->in_stage) {
        mr__stage_forget(bus, d);
    } else {
        mr__segment_live(bus, d->position, -1);
    }
    mr_event_unref(d->event);
    if (d->notes != NULL) {
        d->sub->window_bytes -= d->notes->capacity;
        mr_free(d->notes);
    }
    if (d->ending != NULL) {
        mr_buf_release(&d->ending->result);
        mr_free(d->ending->result_json);
        mr_free(d->ending);
    }
    bool removed = mr_map_remove(&d->sub->deliveries, d->offset);
    MR_ASSERT(removed);
    age_remove(d->sub, d);
    d->sub->ramp_count -= d->ramp;
    d->sub->where_count[d->where]--;
    mr__share_of(d)->ahead -= is_ahead(d->where);
    mr_map_shrink(&d->sub->deliveries);
    d->sub->window_bytes -= DELIVERY_COST;
    bus->delivery_count--;
    memset(d, 0, sizeof(*d));
    mr__pool_give(&bus->deliveries, d);
}

enum mr_status mr__state_reserve_total(struct mr_bus *bus, uint64_t more, uint64_t lanes)
{
    enum mr_status r = reserve_deliveries(bus, more, lanes);
    return r == MR_OK ? mr__timer_reserve(bus, bus->delivery_count + more) : r;
}

/* A moment as an event gives it; 0: none, or no RFC 3339 time. */
static uint64_t moment_of(struct mr_bytes record, const char *name)
{
    struct mr_bytes text = mr_event_value(record, name);
    int64_t ns;
    if (text.size == 0 || !mr_time_parse(text, &ns)) {
        return 0;
    }
    return ns <= 0 ? 1 : (uint64_t)ns;
}

void mr__arrival_times(struct mr__arrival *arrival, struct mr_bytes record)
{
    arrival->expires_ns = moment_of(record, "expirytime");
    arrival->due_ns = moment_of(record, "mrnotbefore");
}

uint64_t mr__age_start(const struct mr__sub *sub, struct mr_bytes record, uint64_t arrival_ns)
{
    uint64_t ns = sub->conf != NULL && sub->conf->max_age_from_time ? moment_of(record, "time") : 0;
    return ns > 1 && ns < arrival_ns ? ns : arrival_ns; /* before 1970: no clock was set */
}

_Static_assert(DELIVERY_COST + sizeof(struct mr__lane) <= MR_DELIVERY_SIZE,
              "what the configuration takes a delivery for");

struct mr__delivery *mr__state_load(struct mr_bus *bus, struct mr__sub *sub,
                                    const struct mr__arrival *arrival)
{
    struct mr__lane *lane = arrival->lane == 0 ? NULL : lane_find(sub, arrival->lane);
    if (arrival->lane != 0 && lane == NULL) {
        lane = mr__pool_take(&bus->lanes);
        *lane = (struct mr__lane){.key = arrival->lane};
        mr_map_set(&sub->lanes, arrival->lane, (uint64_t)(uintptr_t)lane);
        sub->window_bytes += sizeof(*lane);
    }
    struct mr__delivery *d = mr__pool_take(&bus->deliveries);
    *d = (struct mr__delivery){
        .sub = sub,
        .offset = arrival->offset,
        .position = arrival->position,
        .size = arrival->size,
        .arrival_ns = arrival->arrival_ns,
        .expires_ns = arrival->expires_ns,
        .due_ns = arrival->due_ns,
        .fence = arrival->fence,
        .level = arrival->level & 0xfu,
        .cancels = (arrival->cancels & MR_MATCH_CANCELS) != 0,
        .only_cancels = (arrival->cancels & MR_MATCH_ONLY_CANCELS) != 0,
        .snapped = sub->snapped,
        .heap_at = NO_HEAP,
    };
    mr_map_set(&sub->deliveries, arrival->offset, (uint64_t)(uintptr_t)d);
    sub->loaded_to = sub->loaded_to > arrival->offset ? sub->loaded_to : arrival->offset + 1;
    sub->where_count[d->where]++;
    age_insert(sub, d);
    sub->window_bytes += DELIVERY_COST;
    bus->delivery_count++;
    mr__memory_update(bus, sub);
    if (lane != NULL) {
        lane_insert(lane, d);
    }
    if (!mr__lane_has_way(d) && !MR_PLANTED(LANE_OVERTAKES)) {
        mr__set_where(d, MR__BLOCKED);
        mr__timer_set(bus, d);
        mr__overtaken_enter(bus, d);
        mr__shed_look(bus, sub);
        return d;
    }
    struct mr__delivery *beyond = d->lane_next;
    for (uint32_t i = 0; i <= sub->lane_width && beyond != NULL; i++) {
        if (beyond->where == MR__READY && !mr__lane_has_way(beyond)) {
            lane_block(bus, beyond); /* a redriven delivery goes before what waits */
        }
        beyond = beyond->lane_next;
    }
    let_go(bus, d);
    mr__overtaken_enter(bus, d);
    mr__shed_look(bus, sub);
    return d;
}

void mr__state_begin(struct mr_bus *bus, struct mr__delivery *d, uint32_t fence)
{
    MR_ASSERT(!mr__is_begun(d));
    MR_ASSERT(fence > d->fence);
    mr__list_remove(d);
    mr__snap_touch(d);
    d->fence = fence;
    mr__set_where(d, MR__ARMED);
    d->timed_out = false;
    d->sub->begun++;
    if (mr__bundle_enter(d)) {
        d->sub->places++;
        mr__shared_count(d->sub, 1, 0);
        if (!bus->recovering) {
            mr__share_of(d)->target->armed++;
        }
    }
    mr__timer_set(bus, d);
}

static void leave_begun(struct mr_bus *bus, struct mr__delivery *d)
{
    if (d->where == MR__HELD) {
        MR_ASSERT(d->sub->counts.held > 0);
        d->sub->counts.held--;
    }
    if (mr__is_begun(d)) {
        bool flies = d->where == MR__FLIGHT;
        MR_ASSERT(d->sub->begun > 0);
        d->sub->begun--;
        d->sub->in_flight -= flies;
        if (mr__bundle_leave(bus, d)) {
            d->sub->places--;
            d->sub->places_in_flight -= flies;
            mr__shared_count(d->sub, -1, flies ? -1 : 0);
            struct mr__target *target = mr__share_of(d)->target;
            if (!flies && target != NULL && !bus->recovering) {
                MR_ASSERT(target->armed > 0);
                target->armed--;
            }
        }
    }
    mr__list_remove(d);
    mr_event_unref(d->event);
    d->event = NULL;
}

/* d does not run any more: beyond the width, it was in the way of those before it. */
static void stop_beyond(struct mr_bus *bus, const struct mr__delivery *d)
{
    if (d->lane != NULL && d->sub->lane_widest > d->sub->lane_width) {
        lane_let_go(bus, d->sub, d->lane);
    }
}

void mr__state_wait(struct mr_bus *bus, struct mr__delivery *d, uint64_t due_ns)
{
    mr__snap_touch(d);
    leave_begun(bus, d);
    d->due_ns = due_ns;
    if (!mr__lane_has_way(d)) {
        mr__set_where(d, MR__BLOCKED); /* a redriven one has got before it, or they are fewer now */
        mr__timer_set(bus, d);
    } else {
        let_go(bus, d);
    }
    stop_beyond(bus, d);
    mr__shed_look(bus, d->sub);
}

void mr__state_hold(struct mr_bus *bus, struct mr__delivery *d)
{
    leave_begun(bus, d);
    mr__set_where(d, MR__HELD);
    d->sub->counts.held++;
    mr__timer_set(bus, d);
    stop_beyond(bus, d);
}

void mr__state_set_width(struct mr_bus *bus, struct mr__sub *sub)
{
    uint32_t width = sub->conf->lane_concurrency;
    width = width == 0 ? 1 : width;
    if (width == sub->lane_width) {
        return;
    }
    sub->lane_widest = sub->lane_widest > width ? sub->lane_widest : width;
    sub->lane_width = width;
    for (struct mr__delivery *d = sub->oldest; d != NULL; d = d->newer) {
        bool way = mr__lane_has_way(d);
        if (d->where == MR__READY && !way) {
            lane_block(bus, d);
        } else if (d->where == MR__BLOCKED && way) {
            let_go(bus, d);
        }
    }
}

void mr__state_ending(struct mr_bus *bus, struct mr__delivery *d, struct mr__ending *end)
{
    mr__snap_touch(d);
    end->where = d->where;
    leave_begun(bus, d); /* its place in the lane stays */
    mr__set_where(d, MR__ENDING);
    d->ending = end;
    mr__timer_set(bus, d);
}

void mr__count_end(struct mr__sub *sub, enum mr_state state)
{
    switch (state) {
    case MR_STATE_DONE:
        sub->counts.done++;
        break;
    case MR_STATE_DEAD:
        sub->counts.dead++;
        break;
    case MR_STATE_DROPPED:
        sub->counts.dropped++;
        break;
    case MR_STATE_EXPIRED:
        sub->counts.expired += MR_PLANTED(EXPIRED_TWICE) ? 2 : 1;
        break;
    case MR_STATE_LOST:
        sub->counts.lost++;
        break;
    case MR_STATE_NONE:
    case MR_STATE_WAITING:
    case MR_STATE_IN_FLIGHT:
    case MR_STATE_HELD:
    case MR_STATE_MAX:
        MR_ASSERT(state == MR_STATE_DONE); /* not an end: a bug of ours */
    }
}

void mr__skip_behind(struct mr__sub *sub, uint64_t offset)
{
    if (!sub->live && offset >= sub->cursor_offset &&
        mr_map_reserve(&sub->skip, 1) == MR_OK) { /* memory short: it is found settled, or runs
                                                     again, which recovery is allowed */
        mr_map_set(&sub->skip, offset, 1);
    }
}

void mr__state_end(struct mr_bus *bus, struct mr__delivery *d, enum mr_state state)
{
    struct mr__sub *sub = d->sub;
    uint64_t settled;
    if (sub->snap != NULL) {
        mr__snap_delivery_ends(sub->snap, d);
    }
    if (d->lane != NULL && mr_map_get(&sub->dead_lanes, d->lane->key, &settled) &&
        state != MR_STATE_DEAD) {
        mr_map_set(&sub->dead_lanes, d->lane->key, settled + 1);
        if (sub->snap != NULL) {
            mr__snap_lane_settled(sub->snap, d->lane->key);
        }
    }
    mr__skip_behind(sub, d->offset);
    leave_begun(bus, d);
    mr__count_end(sub, state);
    lane_leave(bus, d);
    free_delivery(bus, d);
    mr__memory_update(bus, sub);
    mr__turn_add_all(sub);
}

/* --- a start ---------------------------------------------------------------------------------- */

/* When the nth interrupted delivery may go again: 200 in the first second, twice as many in each
 * one after, so that a start does not become a storm. Integer arithmetic: the same everywhere. */
static uint64_t ramp_due(uint64_t log_ns, uint64_t n)
{
    uint64_t second = 0;
    uint64_t rate = RAMP_FIRST_PER_S;
    while (n >= rate && second < 30) {
        n -= rate;
        rate *= 2;
        second++;
    }
    return log_ns + second * MR_SECOND + n * (MR_SECOND / rate);
}

static int by_offset(const void *a, const void *b)
{
    const struct mr__delivery *const *x = a;
    const struct mr__delivery *const *y = b;
    return (*x)->offset < (*y)->offset ? -1 : (*x)->offset > (*y)->offset;
}

/* The begun deliveries of @p sub in order of offset. */
static enum mr_status collect_begun(const struct mr__sub *sub, struct mr__delivery ***ret_begun)
{
    struct mr__delivery **begun = mr_alloc(sub->begun * sizeof(struct mr__delivery *));
    if (begun == NULL) {
        return MR_E_NOMEM;
    }
    uint64_t count = 0;
    for (struct mr__delivery *d = sub->oldest; d != NULL; d = d->newer) {
        if (mr__is_begun(d)) {
            MR_ASSERT(count < sub->begun);
            begun[count++] = d;
        }
    }
    MR_ASSERT(count == sub->begun);
    qsort(begun, count, sizeof(struct mr__delivery *), by_offset);
    *ret_begun = begun;
    return MR_OK;
}

enum mr_status mr__state_interrupt_all(struct mr_bus *bus, uint64_t position, uint64_t log_ns,
                                       uint64_t *ret_count)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < bus->sub_count; i++) {
        struct mr__sub *sub = bus->subs[i];
        struct mr__delivery **begun = NULL;
        uint64_t count = sub->begun;
        if (count == 0 || position < sub->folded_to) {
            continue;
        }
        enum mr_status r = collect_begun(sub, &begun);
        if (r != MR_OK) {
            return r;
        }
        for (uint64_t k = 0; k < count; k++) {
            struct mr__delivery *d = begun[k];
            d->attempts = (uint16_t)(d->attempts + MR_PLANTED(INTERRUPTION_COUNTED));
            d->fence = MR_PLANTED(FENCE_REUSED) ? 0 : d->fence;
            d->interruptions = (uint16_t)(d->interruptions + (d->interruptions < UINT16_MAX));
            d->alone = d->alone || d->interruptions >= INTERRUPTIONS_ALONE;
            mr__state_wait(bus, d, ramp_due(log_ns, n++));
            mr__set_ramp(d);
        }
        mr_free(begun);
    }
    *ret_count = n;
    return MR_OK;
}
