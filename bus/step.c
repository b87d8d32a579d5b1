/* One turn of the core: the clock, the timers, dispatch, the next write. */
#include "bus/internal.h"

#include "core/alloc.h"

/* --- the log clock ---------------------------------------------------------------------------- */

static void freeze(struct mr_bus *bus)
{
    if (bus->clock_frozen) {
        return;
    }
    bus->clock_frozen = true;
    if (!bus->recovering && mr__stage_reserve(bus, mr_record_size(0)) == MR_OK) {
        struct mr_record record = {.kind = MR_RECORD_CLOCK, .a = 1, .c = bus->log_ns};
        (void)mr__stage_record(bus, &record); /* for the fold; a start looks for itself */
    }
    bus->ports.alarm(bus->ports.context,
                     "the wall clock jumped by more than an hour: expiry is frozen until `millrace "
                     "clock accept`");
}

static bool jumped(uint64_t wall, uint64_t expected)
{
    uint64_t difference = wall > expected ? wall - expected : expected - wall;
    return difference > CLOCK_JUMP_NS;
}

void mr__clock_advance(struct mr_bus *bus, struct mr_now now)
{
    uint64_t elapsed = now.mono_ns > bus->now.mono_ns ? now.mono_ns - bus->now.mono_ns : 0;
    bus->log_ns += elapsed;
    if (jumped(now.wall_ns, bus->now.wall_ns + elapsed)) {
        freeze(bus);
    }
    now.mono_ns = bus->now.mono_ns + elapsed;
    bus->now = now;
}

void mr__clock_resume(struct mr_bus *bus, struct mr_now now)
{
    struct mr_now last = bus->now;
    if (now.boot_id == last.boot_id && now.mono_ns >= last.mono_ns) {
        uint64_t elapsed = now.mono_ns - last.mono_ns;
        bus->log_ns += elapsed;
        if (jumped(now.wall_ns, last.wall_ns + elapsed)) {
            freeze(bus);
        }
    } else if (now.wall_ns + CLOCK_JUMP_NS < last.wall_ns ||
               (now.wall_ns > last.wall_ns && now.wall_ns - last.wall_ns > OFFLINE_BELIEVED_NS)) {
        freeze(bus);
    } else if (now.wall_ns > last.wall_ns) {
        bus->log_ns += now.wall_ns - last.wall_ns;
    }
    bus->now = now;
}

void mr_bus_clock_accept(struct mr_bus *bus, struct mr_now now)
{
    mr__clock_advance(bus, now);
    if (!bus->clock_frozen || mr__stage_reserve(bus, mr_record_size(0)) != MR_OK) {
        return; /* the caller sees that it is still frozen, and tries again */
    }
    bus->clock_frozen = false;
    struct mr_record record = {.kind = MR_RECORD_CLOCK, .a = 0, .c = bus->log_ns};
    (void)mr__stage_record(bus, &record);
    mr__timers_reset(bus);
}

/* --- a step ----------------------------------------------------------------------------------- */

static void mark_when_idle(struct mr_bus *bus)
{
    bool idle = bus->mark_wanted && !bus->writing && bus->stage.size == 0 && !bus->faulty &&
                bus->now.mono_ns - bus->last_write_mono_ns >= bus->options.mark_after_ns;
    if (idle && mr__stage_reserve(bus, mr_record_size(0)) == MR_OK) {
        struct mr_record record = {.kind = MR_RECORD_MARK, .flags = MR_RECORD_SKIPPABLE};
        (void)mr__stage_record(bus, &record);
    }
}

static void sync_when_due(struct mr_bus *bus)
{
    if (bus->options.log.sync != MR_SYNC_INTERVAL || bus->syncing || bus->faulty ||
        bus->current < 0 || bus->synced_sequence >= bus->durable_sequence ||
        bus->now.mono_ns < bus->next_sync_mono_ns || bus->writing || bus->sealing > 0) {
        return;
    }
    struct mr_log_request *request = mr__request(bus, MR_LOG_SYNC);
    if (request == NULL) {
        return; /* with the next step */
    }
    request->file = bus->segments[bus->current].file;
    request->number = bus->segments[bus->current].number;
    request->at = bus->durable_sequence;
    bus->syncing = true;
    bus->next_sync_mono_ns = bus->now.mono_ns + bus->options.log.sync_interval_ns;
    mr__send(bus, request);
}

/* Subscriptions that were removed 7 days ago: what is on disk for them expires as well. */
static void expire_removed(struct mr_bus *bus)
{
    if (bus->not_live == 0 || bus->clock_frozen) {
        return;
    }
    for (uint32_t i = 0; i < bus->sub_count; i++) {
        struct mr__sub *sub = bus->subs[i];
        if (sub->removed_log_ns == 0 || sub->live ||
            bus->log_ns < sub->removed_log_ns + REMOVED_KEEP_NS ||
            mr__stage_reserve(bus, mr_record_size(0)) != MR_OK) {
            continue;
        }
        struct mr_record record = {
            .kind = MR_RECORD_REMOVED, .a = sub->id, .b = 2, .c = sub->removed_log_ns};
        (void)mr__stage_record(bus, &record);
        mr__removed_gone(bus, sub);
        mr__apply_removed(bus, sub, 2, sub->removed_log_ns);
    }
}

void mr_bus_step(struct mr_bus *bus, struct mr_now now)
{
    mr__clock_advance(bus, now);
    if (!bus->faulty) {
        mr__deferred_run(bus);
        if (bus->draining) {
            mr__unarm_all(bus);
        }
        mr__timers_run(bus);
        expire_removed(bus);
        mr__fanouts_run(bus);
        if (bus->loading.count > 0) {
            mr__loading_run(bus);
        }
        mr__ingest_pending(bus);
        mr__dispatch(bus);
        mr__shed_run(bus);
        mark_when_idle(bus);
        mr__stage_submit(bus);
        mr__checkpoint_hasten(bus);
        mr__checkpoint_run(bus);
        sync_when_due(bus);
        mr__segments_maintain(bus);
        mr__footers_maintain(bus);
        mr__scrub_run(bus);
        mr__catch_up(bus); /* last: what came in goes before what waited */
        mr__survive_run(bus);
    } else {
        mr__deferred_run(bus);
        mr__ingest_pending(bus);
        mr__stage_refuse(bus);
    }
}

static uint64_t mono_at(const struct mr_bus *bus, uint64_t log_ns)
{
    if (log_ns <= bus->log_ns) {
        return bus->now.mono_ns;
    }
    uint64_t wait = log_ns - bus->log_ns;
    uint64_t mono;
    return __builtin_add_overflow(bus->now.mono_ns, wait, &mono) ? UINT64_MAX : mono;
}

bool mr_bus_has_more(const struct mr_bus *bus)
{
    return (bus->step_again && !bus->faulty) || mr__checkpoint_wants_step(bus);
}

uint64_t mr_bus_next_timer(const struct mr_bus *bus)
{
    if (mr_bus_has_more(bus)) {
        return bus->now.mono_ns;
    }
    uint64_t next = UINT64_MAX;
    if (bus->heap_count > 0 && !bus->faulty) {
        next = mono_at(bus, (*mr__heap_at(bus, 0))->timer_ns);
    }
    if (bus->mark_wanted && !bus->faulty) {
        uint64_t mark = bus->last_write_mono_ns + bus->options.mark_after_ns;
        next = mark < next ? mark : next;
    }
    uint64_t checkpoint = mr__checkpoint_hasten_ns(bus);
    next = checkpoint < next ? checkpoint : next;
    uint64_t fanout = mr__fanout_due_ns(bus);
    if (fanout > bus->log_ns && !bus->faulty && mono_at(bus, fanout) < next) {
        next = mono_at(bus, fanout); /* one that is over waits for room */
    }
    if (bus->limit_due_ns < next && !bus->faulty) {
        next = bus->limit_due_ns;
    }
    uint64_t scrub = mr__scrub_due_ns(bus);
    if (scrub > bus->now.mono_ns && scrub < next) { /* what is due waits for what is on its way */
        next = scrub;
    }
    uint64_t footer = mr__footers_due_ns(bus);
    next = footer < next ? footer : next;
    uint64_t group = mr__stage_due_ns(bus);
    if (group > bus->now.mono_ns && group < next) { /* one that is due waits for its room */
        next = group;
    }
    if (bus->options.log.sync == MR_SYNC_INTERVAL &&
        bus->synced_sequence < bus->durable_sequence && bus->next_sync_mono_ns < next) {
        next = bus->next_sync_mono_ns;
    }
    if (bus->prepare_after_mono_ns > bus->now.mono_ns && bus->prepare_after_mono_ns < next) {
        next = bus->prepare_after_mono_ns;
    }
    for (uint32_t i = 0; i < bus->target_count && !bus->faulty; i++) {
        uint64_t until = bus->targets[i]->breaker.open_until_ns;
        if (until > bus->log_ns && mono_at(bus, until) < next) {
            next = mono_at(bus, until);
        }
    }
    return next;
}

void mr_bus_drain(struct mr_bus *bus, bool drain)
{
    bus->draining = drain;
}

void mr_bus_close(struct mr_bus *bus)
{
    bus->closing = true;
}

bool mr_bus_is_quiet(const struct mr_bus *bus)
{
    for (uint32_t i = 0; i < bus->target_count; i++) {
        if (bus->targets[i]->in_flight > 0) {
            return false;
        }
    }
    return bus->faulty || (bus->deferred == NULL && bus->pending == NULL && !bus->writing &&
                           bus->stage.size == 0 && bus->loading.count == 0);
}
