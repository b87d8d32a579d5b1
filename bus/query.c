/* Questions, and the invariants the simulation checks after every step. */
#include "bus/internal.h"

#include <stdio.h>

#include "core/alloc.h"
#include "core/hash.h"

#define OPEN_SEEN_MAX 4096u /* deliveries looked at in one go: the bus does other things, too */

/* --- times ------------------------------------------------------------------------------------ */

const uint64_t mr_histogram_bounds_ns[MR_HISTOGRAM_BOUNDS] = {
    MR_MS,      5 * MR_MS,     10 * MR_MS, 50 * MR_MS,     100 * MR_MS,     500 * MR_MS,
    MR_SECOND,  5 * MR_SECOND, MR_MINUTE,  10 * MR_MINUTE, 60 * MR_MINUTE, 6 * MR_HOUR,
};

static void observe(struct mr_histogram *histogram, uint64_t ns)
{
    size_t i = 0;
    while (i < MR_HISTOGRAM_BOUNDS && ns > mr_histogram_bounds_ns[i]) {
        i++;
    }
    histogram->counts[i]++;
    histogram->sum_ns += ns;
}

/* Made when first wanted: most of many subscriptions are idle. Memory short: not counted. */
static struct mr__times *times_of(struct mr__sub *sub)
{
    if (sub->times == NULL) {
        sub->times = mr_calloc(1, sizeof(*sub->times));
    }
    return sub->times;
}

void mr__time_delivery(struct mr__sub *sub, uint64_t ns)
{
    struct mr__times *times = times_of(sub);
    if (times != NULL) {
        observe(&times->delivery, ns);
    }
}

void mr__time_attempt(struct mr__sub *sub, uint64_t ns)
{
    struct mr__times *times = times_of(sub);
    if (times != NULL) {
        observe(&times->attempt, ns);
    }
}

void mr__count_verdict(struct mr__sub *sub, enum mr_verdict verdict)
{
    struct mr__times *times = times_of(sub);
    if (times != NULL) {
        times->verdicts[verdict]++;
    }
}

void mr__count_shed(struct mr__sub *sub, uint32_t count)
{
    struct mr__times *times = times_of(sub);
    if (times != NULL) {
        times->shed += count;
    }
}

/* --- questions -------------------------------------------------------------------------------- */

static uint64_t waiting_in_window(const struct mr__sub *sub)
{
    return sub->deliveries.count - sub->in_flight - sub->counts.held;
}

static void fill_counts(const struct mr__sub *sub, struct mr_counts *ret_counts)
{
    *ret_counts = sub->counts;
    ret_counts->in_flight = sub->in_flight;
    ret_counts->waiting = waiting_in_window(sub) + sub->behind;
}

bool mr_bus_is_faulty(const struct mr_bus *bus)
{
    return bus->faulty;
}

uint32_t mr_bus_subscription_count(const struct mr_bus *bus)
{
    return bus->sub_count;
}

/* How many wait for what. Those that are ready or logged ahead wait for their own target; of these
 * two only the sum is known for each target, and of several they count as logged ahead. */
static void count_blocked(const struct mr__sub *sub, struct mr_subscription_info *info)
{
    bool several = sub->share_count > 1;
    for (int where = 0; where < MR__WHERE_MAX; where++) {
        bool own = where == MR__READY || where == MR__ARMED || where == MR__QUEUED;
        if (!several || !own) {
            enum mr_blocked_on reason = mr__blocked_where(sub->shares, (enum mr__where)where);
            info->blocked[reason] += sub->where_count[where];
        }
    }
    for (uint32_t i = 0; i < sub->share_count && several; i++) {
        const struct mr__share *share = &sub->shares[i];
        info->blocked[mr__blocked_where(share, MR__READY)] += share->ready_count;
        info->blocked[mr__blocked_where(share, MR__QUEUED)] += share->ahead;
    }
}

void mr_bus_subscription_info(const struct mr_bus *bus, struct mr_now now, uint32_t id,
                              struct mr_subscription_info *ret_info)
{
    (void)now; /* ages run on the log clock */
    MR_ASSERT(id < bus->sub_count);
    const struct mr__sub *sub = bus->subs[id];
    struct mr_subscription_info info = {
        .id = id,
        .name = sub->name,
        .index = sub->conf == NULL ? -1 : (int64_t)(sub->conf - bus->config->subscriptions),
        .behind = sub->behind,
        .window_bytes = sub->window_bytes,
        .dead_letters = sub->dead_count - sub->dead_staged,
        .lanes = sub->lanes.count,
        .paused = sub->paused,
        .returned = sub->returned_count,
        .live = sub->live,
    };
    fill_counts(sub, &info.counts);
    info.behind_on = sub->conf == NULL                              ? MR_BLOCKED_REMOVED
                     : sub->barred && sub->deliveries.count > 0 ? MR_BLOCKED_ORDER
                                                                    : MR_BLOCKED_MEMORY;
    info.blocked[info.behind_on] += sub->behind;
    if (sub->times != NULL) {
        info.delivery_time = sub->times->delivery;
        info.attempt_time = sub->times->attempt;
        memcpy(info.attempts, sub->times->verdicts, sizeof(info.attempts));
        info.shed = sub->times->shed;
    }
    count_blocked(sub, &info);
    if (info.blocked[MR_BLOCKED_BACKOFF] >= sub->ramp_count) { /* removed: they wait for that */
        info.blocked[MR_BLOCKED_BACKOFF] -= sub->ramp_count;
        info.blocked[MR_BLOCKED_RAMP] = sub->ramp_count;
    }
    if (sub->oldest != NULL && bus->log_ns > sub->oldest->arrival_ns) {
        info.oldest_age_ns = bus->log_ns - sub->oldest->arrival_ns;
    }
    *ret_info = info;
}

uint32_t mr_bus_subscription_shares(const struct mr_bus *bus, uint32_t id,
                                    struct mr_share_info ret_shares[MR_SHARES_MAX])
{
    MR_ASSERT(id < bus->sub_count);
    const struct mr__sub *sub = bus->subs[id];
    uint32_t count = sub->conf == NULL || sub->conf->share_count == 0 ? 0 : sub->share_count;
    for (uint32_t i = 0; i < count; i++) {
        const struct mr__share *share = &sub->shares[i];
        ret_shares[i] = (struct mr_share_info){
            .weight = share->weight, .returned = share->returned, .ready = share->ready_count};
        (void)snprintf(ret_shares[i].target, sizeof(ret_shares[i].target), "%s",
                       share->target->name); /* names are bounded */
    }
    return count;
}

uint32_t mr_bus_target_count(const struct mr_bus *bus)
{
    return bus->target_count;
}

void mr_bus_source_info(const struct mr_bus *bus, uint32_t id, struct mr_source_info *ret_info)
{
    MR_ASSERT(id < bus->source_count);
    const struct mr__source *s = bus->sources[id];
    *ret_info = (struct mr_source_info){
        .name = s->name,
        .duplicates = s->duplicates,
        .keys = s->seen.count,
        .keys_early = s->keys_early,
    };
}

void mr_bus_target_info(const struct mr_bus *bus, uint32_t id, struct mr_target_info *ret_info)
{
    MR_ASSERT(id < bus->target_count);
    const struct mr__target *t = bus->targets[id];
    bool open = t->breaker.open_until_ns != 0;
    *ret_info = (struct mr_target_info){
        .id = id,
        .name = t->name,
        .slots = t->slots,
        .in_flight = t->in_flight,
        .queued = t->told_queued,
        .breaker_open = open,
        .breaker_until_mono_ns =
            open && t->breaker.open_until_ns > bus->log_ns
                ? bus->now.mono_ns + (t->breaker.open_until_ns - bus->log_ns)
                : 0,
    };
}

uint32_t mr_bus_source_count(const struct mr_bus *bus)
{
    return bus->source_count;
}

const char *mr_bus_source_name(const struct mr_bus *bus, uint32_t id)
{
    return id < bus->source_count ? bus->sources[id]->name : "bus";
}

const char *mr_bus_source_cursor(const struct mr_bus *bus, uint32_t id)
{
    return id < bus->source_count ? bus->sources[id]->cursor : NULL;
}

static uint64_t checkpoint_bytes(const struct mr__snap *snap)
{
    return snap->buf.capacity + (snap->request == NULL ? 0 : snap->request->size) +
           snap->settled.capacity * sizeof(struct mr_map_slot);
}

void mr_bus_status(const struct mr_bus *bus, struct mr_bus_status *ret_status)
{
    struct mr_bus_status status = {
        .next_offset = bus->next_offset,
        .next_sequence = bus->next_sequence,
        .durable_sequence = bus->durable_sequence,
        .segments = bus->segment_count,
        .spare_segments = bus->spare_count,
        .survivor_files = bus->keep_count,
        .survivor_bytes = bus->keep_bytes,
        .survivors_copied = bus->survive.copied_bytes,
        .oldest_position =
            bus->segment_count == 0 ? 0 : mr_position(bus->segments[0].number, MR_LOG_BLOCK),
        .memory_used = {[MR_BUDGET_STATE] = mr__memory_used(bus),
                        [MR_BUDGET_CACHE] = bus->cache_bytes + bus->sketch_bytes,
                        [MR_BUDGET_READS] = bus->cold_events.bytes + bus->cold_behind.bytes,
                        [MR_BUDGET_GROUPS] = bus->stage.capacity + bus->flight.capacity,
                        [MR_BUDGET_CHECKPOINT] = checkpoint_bytes(&bus->snap)},
        .lost_events = bus->lost_events,
        .groups_written = bus->groups_written,
        .bytes_written = bus->bytes_written,
        .late_answers = bus->late_answers,
        .unmatched = bus->unmatched,
        .checkpoints = bus->checkpoints,
        .footer_failures = bus->footer_failures,
        .faulty = bus->faulty,
        .slow = bus->slow_told,
        .clock_frozen = bus->clock_frozen,
        .log_ns = bus->log_ns,
    };
    for (uint32_t i = 0; i < bus->segment_count; i++) {
        status.log_bytes += bus->segments[i].size;
    }
    if (bus->writing) {
        status.durable_position = bus->flight.position;
    } else if (bus->current >= 0 && bus->current < (int64_t)bus->segment_count) {
        const struct mr__segment *s = &bus->segments[bus->current];
        status.durable_position = mr_position(s->number, s->used);
    }
    mr__scrub_status(bus, &status);
    status.footers = mr__footers_count(bus, &status.footers_pending);
    *ret_status = status;
}

enum mr_status mr_bus_delivery_info(const struct mr_bus *bus, struct mr_now now,
                                    uint32_t subscription, uint64_t offset,
                                    struct mr_delivery_info *ret_info)
{
    (void)now; /* due times are on the log clock */
    const struct mr__delivery *d =
        subscription < bus->sub_count ? mr__delivery_find(bus->subs[subscription], offset) : NULL;
    if (d == NULL) {
        return MR_E_NOT_FOUND;
    }
    *ret_info = (struct mr_delivery_info){
        .state = d->where == MR__FLIGHT ? MR_STATE_IN_FLIGHT
                 : d->where == MR__HELD ? MR_STATE_HELD
                                        : MR_STATE_WAITING,
        .blocked_on = mr__blocked_on(d),
        .due_log_ns = d->where == MR__WAITING || d->where == MR__DELAYED ? d->due_ns : 0,
        .attempts = d->attempts,
        .refusals = d->refusals,
        .interruptions = d->interruptions,
        .fence = d->fence,
        .started_wall_ns = d->where == MR__FLIGHT ? d->started_wall_ns : 0,
        .lane = d->lane == NULL ? 0 : d->lane->key,
        .event_position = d->in_stage ? 0 : d->position,
    };
    return MR_OK;
}

uint64_t mr_bus_open_deliveries(const struct mr_bus *bus, struct mr_now now, uint32_t subscription,
                                uint64_t after,
                                bool (*fn)(void *context, const struct mr_open_delivery *delivery),
                                void *context)
{
    if (subscription >= bus->sub_count) {
        return UINT64_MAX;
    }
    const struct mr__sub *sub = bus->subs[subscription];
    const struct mr__delivery *last = after == 0 ? NULL : mr__delivery_find(sub, after);
    const struct mr__delivery *d = last != NULL ? last->newer : sub->oldest;
    for (uint32_t seen = 0; d != NULL; d = d->newer) {
        if (last == NULL && d->offset <= after) {
            continue; /* the one to go on behind was settled meanwhile */
        }
        struct mr_open_delivery delivery = {
            .offset = d->offset,
            .arrival_log_ns = d->arrival_ns,
        };
        enum mr_status r =
            mr_bus_delivery_info(bus, now, subscription, d->offset, &delivery.info);
        MR_ASSERT(r == MR_OK);
        if (!fn(context, &delivery) || ++seen == OPEN_SEEN_MAX) {
            return d->newer == NULL ? UINT64_MAX : d->offset;
        }
    }
    return UINT64_MAX;
}

void mr_bus_dead_letters(const struct mr_bus *bus, uint32_t subscription,
                         bool (*fn)(void *context, const struct mr_dead_letter *letter),
                         void *context)
{
    if (subscription >= bus->sub_count) {
        return;
    }
    const struct mr__sub *sub = bus->subs[subscription];
    for (uint64_t i = 0; i < sub->dead_count; i++) {
        const struct mr_dead_letter *letter = &sub->dead[i].letter;
        /* One that died within the group being gathered can be shown once that is written. */
        if (!mr__dead_is_staged(letter) && !fn(context, letter)) {
            return;
        }
    }
}

/* --- invariants ------------------------------------------------------------------------------- */

static bool sum_holds(const struct mr__sub *sub)
{
    struct mr_counts c;
    fill_counts(sub, &c);
    return c.matched == c.done + c.dead + c.dropped + c.expired + c.lost + c.held + c.waiting +
                            c.in_flight;
}

bool mr_bus_conserves(const struct mr_bus *bus, uint32_t *ret_subscription)
{
    for (uint32_t i = 0; i < bus->sub_count; i++) {
        if (!sum_holds(bus->subs[i])) {
            *ret_subscription = i;
            return false;
        }
    }
    return true;
}

static void check_lane(const struct mr__sub *sub, const struct mr__lane *lane)
{
    MR_ASSERT(lane->first != NULL && lane->last != NULL);
    MR_ASSERT(lane->first->lane_prev == NULL && lane->last->lane_next == NULL);
    uint32_t rank = 0;
    for (const struct mr__delivery *d = lane->first; d != NULL; d = d->lane_next, rank++) {
        MR_ASSERT(d->lane == lane && d->sub == sub);
        MR_ASSERT(d->lane_next == NULL || d->lane_next->lane_prev == d);
        MR_ASSERT(d->where != MR__BLOCKED || d->only_cancels || !mr__lane_has_way(d));
        MR_ASSERT(rank < sub->lane_width || d->where != MR__READY);
        MR_ASSERT(rank < sub->lane_width || rank < sub->lane_widest || !mr__is_begun(d));
    }
}

static void check_delivery(const struct mr_bus *bus, const struct mr__sub *sub,
                           const struct mr__delivery *d)
{
    MR_ASSERT(d->sub == sub);
    MR_ASSERT(d->where < MR__WHERE_MAX);
    MR_ASSERT(d->heap_at == NO_HEAP || *mr__heap_at(bus, d->heap_at) == d);
    MR_ASSERT(d->share < sub->share_count);
    const struct mr__share *share = mr__share_of(d);
    MR_ASSERT((d->where == MR__READY) == (d->list != NULL && d->list->share == share));
    MR_ASSERT(d->where != MR__QUEUED || d->list == &share->target->queue);
    MR_ASSERT(d->where != MR__FLIGHT || d->list == NULL);
    MR_ASSERT(d->where != MR__FLIGHT || d->heap_at != NO_HEAP);
    MR_ASSERT(d->where != MR__WAITING || d->heap_at != NO_HEAP);
    MR_ASSERT(d->where != MR__DELAYED || (d->heap_at != NO_HEAP && d->fence == 0));
    MR_ASSERT((d->where == MR__ENDING) == (d->ending != NULL));
    MR_ASSERT(d->bundle == NULL || mr__is_begun(d));
}

static void check_ages(const struct mr__sub *sub)
{
    uint64_t count = 0;
    uint64_t ramp = 0;
    uint32_t where[MR__WHERE_MAX] = {0};
    for (const struct mr__delivery *d = sub->oldest; d != NULL; d = d->newer) {
        MR_ASSERT((d->older == NULL ? sub->oldest : d->older->newer) == d);
        MR_ASSERT(d->newer != NULL || d == sub->newest);
        count++;
        ramp += d->ramp;
        where[d->where]++;
    }
    MR_ASSERT(count == sub->deliveries.count);
    MR_ASSERT(ramp == sub->ramp_count);
    MR_ASSERT(memcmp(where, sub->where_count, sizeof(where)) == 0);
}

static void check_shared(const struct mr_bus *bus)
{
    for (uint32_t i = 0; i < bus->shared_count; i++) {
        uint64_t begun = 0;
        uint64_t in_flight = 0;
        for (uint32_t k = 0; k < bus->sub_count; k++) {
            const struct mr__sub *sub = bus->subs[k];
            for (uint32_t n = 0; sub->conf != NULL && n < sub->conf->limit_count; n++) {
                begun += sub->conf->limits[n] == i ? sub->places : 0;
                in_flight += sub->conf->limits[n] == i ? sub->places_in_flight : 0;
            }
        }
        MR_ASSERT(begun == bus->shared[i].begun && in_flight == bus->shared[i].in_flight);
    }
}

static void check_shares(const struct mr__sub *sub, uint64_t ready, uint64_t ready_size)
{
    uint32_t ahead = sub->where_count[MR__ARMED] + sub->where_count[MR__QUEUED];
    for (uint32_t i = 0; i < sub->share_count; i++) {
        const struct mr__share *share = &sub->shares[i];
        MR_ASSERT(share->sub == sub && share->ready.share == share);
        MR_ASSERT(share->ready_count == 0 || share->target == NULL || share->on_turn ||
                  sub->paused);
        uint64_t listed = share->ready.count;
        for (uint32_t k = 0; k < MR_PRIORITY_MAX && share->levels != NULL; k++) {
            listed += share->levels[k].count;
        }
        MR_ASSERT(listed == share->ready_count);
        ready -= share->ready_count;
        ready_size -= share->ready_size;
        ahead -= share->ahead;
    }
    MR_ASSERT(ready == 0 && ready_size == 0 && ahead == 0);
}

void mr_bus_check(const struct mr_bus *bus)
{
    check_shared(bus);
    uint64_t all = 0;
    uint32_t not_live = 0;
    uint32_t in_stage = 0;
    uint64_t batched = 0;
    for (uint32_t i = 0; i < bus->sub_count; i++) {
        const struct mr__sub *sub = bus->subs[i];
        uint64_t begun = 0;
        uint64_t flying = 0;
        uint64_t held = 0;
        uint64_t ready = 0;
        uint64_t ready_size = 0;
        uint64_t places = 0;
        uint64_t lanes = 0;
        for (const struct mr__delivery *d = sub->oldest; d != NULL; d = d->newer) {
            MR_ASSERT(mr__delivery_find(sub, d->offset) == d);
            check_delivery(bus, sub, d);
            if (d->lane != NULL && d->lane->first == d) {
                check_lane(sub, d->lane);
                lanes++;
            }
            begun += mr__is_begun(d);
            flying += d->where == MR__FLIGHT;
            held += d->where == MR__HELD;
            ready += d->where == MR__READY;
            ready_size += d->where == MR__READY ? d->size : 0;
            places += mr__is_begun(d) && d->bundle == NULL;
            batched += d->bundle != NULL;
        }
        check_ages(sub);
        mr__shed_check(sub);
        MR_ASSERT(begun == sub->begun);
        MR_ASSERT(flying == sub->in_flight);
        MR_ASSERT(held == sub->counts.held);
        check_shares(sub, ready, ready_size);
        MR_ASSERT(places <= sub->places && sub->places <= begun);
        MR_ASSERT(sum_holds(sub));
        MR_ASSERT(lanes == sub->lanes.count);
        uint64_t staged = 0;
        for (uint64_t k = 0; k < sub->dead_count; k++) {
            MR_ASSERT(k == 0 || sub->dead[k - 1].letter.offset < sub->dead[k].letter.offset);
            staged += mr__dead_is_staged(&sub->dead[k].letter);
        }
        MR_ASSERT(staged == sub->dead_staged);
        all += sub->deliveries.count;
        not_live += !sub->live;
        in_stage += sub->cursor_in_stage;
    }
    uint64_t keys = 0;
    for (uint32_t i = 0; i < bus->source_count; i++) {
        mr__seen_check(&bus->sources[i]->seen);
        keys += bus->sources[i]->seen.count;
    }
    MR_ASSERT(keys * MR_DEDUPE_KEY_COST == bus->seen_bytes);
    MR_ASSERT(all == bus->delivery_count);
    mr__fanouts_check(bus);
    mr__memory_check(bus);
    MR_ASSERT(not_live == bus->not_live);
    MR_ASSERT(in_stage == bus->cursors_in_stage);
    for (uint32_t i = 1; i < bus->heap_count; i++) {
        MR_ASSERT((*mr__heap_at(bus, (i - 1) / 2))->timer_ns <= (*mr__heap_at(bus, i))->timer_ns);
    }
    for (uint32_t i = 0; i < bus->target_count; i++) {
        const struct mr__target *t = bus->targets[i];
        MR_ASSERT(t->queue.count == 0 || t->armed > 0);
    }
    for (const struct mr__bundle *b = bus->bundles; b != NULL; b = b->next) {
        MR_ASSERT(b->begun > 0 || b->outside > 0);
        batched -= b->begun;
    }
    MR_ASSERT(batched == 0);
    MR_ASSERT(bus->next_sequence > bus->durable_sequence);
}

static uint64_t mix(uint64_t hash, uint64_t value)
{
    return mr_hash_u64(hash ^ (value + 0x9e3779b97f4a7c15ull));
}

/* The sum over deliveries does not depend on their order. */
uint64_t mr_bus_state_hash(const struct mr_bus *bus)
{
    uint64_t hash = mix(0, bus->next_offset);
    for (uint32_t i = 0; i < bus->sub_count; i++) {
        const struct mr__sub *sub = bus->subs[i];
        hash = mix(hash, mr_hash(sub->name, strlen(sub->name)));
        hash = mix(hash, sub->counts.matched);
        hash = mix(hash, sub->counts.done);
        hash = mix(hash, sub->counts.dead);
        hash = mix(hash, sub->counts.dropped);
        hash = mix(hash, sub->counts.expired);
        hash = mix(hash, sub->counts.lost);
        hash = mix(hash, sub->paused);
        hash = mix(hash, sub->behind + sub->deliveries.count);
        uint64_t sum = 0;
        for (const struct mr__delivery *d = sub->oldest; d != NULL; d = d->newer) {
            uint64_t one = mix(d->offset, d->fence);
            one = mix(one, (uint64_t)d->attempts << 32 | (uint64_t)d->refusals << 16 |
                               d->interruptions);
            one = mix(one, (uint64_t)mr__is_begun(d) << 1 | (d->where == MR__HELD));
            one = mix(one, d->lane == NULL ? 0 : d->lane->key);
            sum += one;
        }
        hash = mix(hash, sum);
        for (uint64_t k = 0; k < sub->dead_count; k++) {
            hash = mix(hash, sub->dead[k].letter.offset);
        }
    }
    for (uint32_t i = 0; i < bus->source_count; i++) {
        for (uint64_t k = 0; k < bus->sources[i]->seen.count; k++) {
            const struct mr__seen_key *key = mr__seen_at(&bus->sources[i]->seen, k);
            hash = mix(mix(hash, key->key.low), key->offset);
        }
    }
    return mix(hash, mr__fanouts_hash(bus));
}
