/* What an operator does: pause, redrive, purge; and names and removal, which the fold shares. */
#include "bus/internal.h"

#include "core/alloc.h"

#define UNARMED_BODY_MAX 96u

/* --- names ------------------------------------------------------------------------------------ */

enum mr_status mr__name_set(struct mr_bus *bus, enum mr_name_kind kind, uint32_t id,
                            const char *name)
{
    char *copy = mr_strdup(name);
    if (copy == NULL || mr_map_reserve(&bus->names, 1) != MR_OK) {
        mr_free(copy);
        return MR_E_NOMEM;
    }
    char **slot = NULL;
    if (kind == MR_NAME_SUBSCRIPTION && id < bus->sub_count) {
        slot = &bus->subs[id]->name;
        bus->subs[id]->ingest = strncmp(name, "ingest:", 7) == 0;
    } else if (kind == MR_NAME_SOURCE && id < bus->source_count) {
        slot = &bus->sources[id]->name;
    } else if (kind == MR_NAME_TARGET && id < bus->target_count) {
        slot = &bus->targets[id]->name;
    }
    if (slot == NULL) {
        mr_free(copy);
        return MR_OK; /* an id out of all bounds: its name is of no use */
    }
    /* The entry of the old name stays and finds nothing: names are compared. */
    mr_free(*slot);
    *slot = copy;
    mr__name_enter(bus, kind, id, copy);
    return MR_OK;
}

/* --- removal ---------------------------------------------------------------------------------- */

void mr__removed_gone(struct mr_bus *bus, struct mr__sub *sub)
{
    mr__fanout_gone(bus, sub, MR_STATE_EXPIRED, "subscription removed");
}

void mr__apply_removed(struct mr_bus *bus, struct mr__sub *sub, uint32_t what, uint64_t log_ns)
{
    if (what == 2) { /* what was on disk for it expires */
        sub->counts.expired += sub->behind;
        sub->behind = 0;
        if (!sub->live) {
            mr__cursor_end(bus, sub);
        }
        return;
    }
    sub->removed_log_ns = what == 1 ? log_ns : 0;
}

void mr__timers_reset(struct mr_bus *bus)
{
    for (uint32_t i = 0; i < bus->sub_count; i++) {
        struct mr__sub *sub = bus->subs[i];
        for (struct mr__delivery *d = sub->oldest; d != NULL; d = d->newer) {
            d->bundle_key = 0; /* a batch may go by something else now */
            if (d->where == MR__READY && mr__debounced_ns(bus, d) > d->due_ns) {
                mr__state_wait(bus, d, d->due_ns);
            } else {
                mr__timer_set(bus, d);
            }
        }
    }
}

/* An attempt that was logged and not handed out: it costs nothing. */
static void log_unarmed(struct mr_bus *bus, struct mr__delivery *d)
{
    struct mr_result result = {
        .verdict = MR_VERDICT_NONE,
        .attempts = d->attempts,
        .refusals = d->refusals,
        .interruptions = d->interruptions,
        .exit_code = -1,
        .alone = d->alone,
        .reason = MR_BYTES_LITERAL("not handed out"),
    };
    uint8_t memory[UNARMED_BODY_MAX];
    struct mr_buf body = {.data = memory, .capacity = sizeof(memory), .size_max = sizeof(memory)};
    enum mr_status r = mr_result_encode(&result, &body);
    MR_ASSERT(r == MR_OK);
    struct mr_record record = {
        .kind = MR_RECORD_RETRY,
        .extra = MR_STATE_WAITING,
        .offset = d->offset,
        .a = d->sub->id,
        .b = d->fence,
        .body = mr_buf_bytes(&body),
    };
    (void)mr__stage_record(bus, &record); /* found by its offset */
    mr__state_wait(bus, d, 0);
}

size_t mr__unarm_size(const struct mr__sub *sub)
{
    return sub->begun * mr_record_size(UNARMED_BODY_MAX);
}

/* What is logged ahead and not handed out goes back to ready, so that a subscription that is
 * paused, removed or moved to another target holds none of its target's places. @p share: what of
 * it; NULL: all. Room was reserved with mr__unarm_size(). */
void mr__unarm(struct mr_bus *bus, struct mr__sub *sub, const struct mr__share *share)
{
    for (struct mr__delivery *d = sub->oldest; d != NULL; d = d->newer) {
        if ((d->where == MR__ARMED || d->where == MR__QUEUED) &&
            (share == NULL || mr__share_of(d) == share)) {
            log_unarmed(bus, d);
        }
    }
}

void mr__unarm_all(struct mr_bus *bus)
{
    for (uint32_t i = 0; i < bus->sub_count; i++) {
        struct mr__sub *sub = bus->subs[i];
        if (sub->begun > sub->in_flight &&
            mr__stage_reserve(bus, mr__unarm_size(sub)) == MR_OK) {
            mr__unarm(bus, sub, NULL);
        }
    }
}

/* --- actions ---------------------------------------------------------------------------------- */

enum mr_status mr_bus_log_action(struct mr_bus *bus, const char *json)
{
    enum mr_status r = mr__stage_reserve(bus, mr_record_size(strlen(json)));
    if (r == MR_OK) {
        struct mr_record record = {.kind = MR_RECORD_OPERATOR,
                                   .flags = MR_RECORD_SKIPPABLE,
                                   .body = mr_bytes_of(json)};
        (void)mr__stage_record(bus, &record);
    }
    return bus->faulty ? MR_E_FAULTY : r;
}

enum mr_status mr_bus_pause(struct mr_bus *bus, uint32_t subscription, bool paused)
{
    if (subscription >= bus->sub_count) {
        return MR_E_NOT_FOUND;
    }
    struct mr__sub *sub = bus->subs[subscription];
    size_t bytes = mr_record_size(0) + mr__unarm_size(sub) + mr__shares_restore_size(sub);
    enum mr_status r = bus->faulty ? MR_E_FAULTY : mr__stage_reserve(bus, bytes);
    if (r != MR_OK) {
        return r;
    }
    if (sub->paused != paused) {
        struct mr_record record = {
            .kind = MR_RECORD_PAUSE, .a = subscription, .b = paused ? 1 : 0};
        (void)mr__stage_record(bus, &record);
        sub->paused = paused;
        if (paused) {
            mr__unarm(bus, sub, NULL);
        }
        mr__turn_add_all(sub);
    }
    if (!paused) {
        mr__shares_restore(bus, sub);
    }
    return MR_OK;
}

/* A dead letter comes back into the window with a fresh budget; a held delivery goes on. */
enum mr_status mr__apply_redrive(struct mr_bus *bus, struct mr__sub *sub, uint64_t offset)
{
    struct mr__delivery *held = mr__delivery_find(sub, offset);
    if (held != NULL) {
        if (held->where == MR__HELD) {
            mr__snap_touch(held);
            held->attempts = 0;
            held->refusals = 0;
            mr__state_wait(bus, held, 0);
        }
        return MR_OK;
    }
    int64_t at = mr__dead_find(sub, offset);
    if (at < 0) {
        return MR_OK;
    }
    struct mr_dead_letter letter = sub->dead[at].letter;
    enum mr_status r = mr__state_reserve(bus, sub, 1, letter.lane != 0);
    struct mr__arrival arrival = {
        .offset = offset,
        .lane = letter.lane,
        .position = letter.event_position,
        .arrival_ns = bus->log_ns,
        .size = letter.event_size,
        .fence = letter.fence,
        .level = letter.level,
    };
    struct mr__delivery *d = r == MR_OK ? mr__state_load(bus, sub, &arrival) : NULL;
    if (d == NULL) {
        return MR_E_NOMEM;
    }
    mr__segment_live(bus, letter.event_position, 1);
    mr__state_remove_dead(bus, sub, (uint64_t)at);
    MR_ASSERT(sub->counts.dead > 0);
    sub->counts.dead--;
    return MR_OK;
}

enum mr_status mr_bus_redrive(struct mr_bus *bus, struct mr_now now, uint32_t subscription,
                              uint64_t offset, bool out_of_order, uint64_t *ret_later)
{
    mr__clock_advance(bus, now);
    *ret_later = 0;
    if (subscription >= bus->sub_count) {
        return MR_E_NOT_FOUND;
    }
    struct mr__sub *sub = bus->subs[subscription];
    struct mr__delivery *held = mr__delivery_find(sub, offset);
    int64_t at = mr__dead_find(sub, offset);
    if (at < 0 && (held == NULL || held->where != MR__HELD)) {
        return MR_E_NOT_FOUND;
    }
    if (sub->ingest || bus->faulty) {
        return sub->ingest ? MR_E_UNSUPPORTED : MR_E_FAULTY;
    }
    if (at >= 0 && mr_position_segment(sub->dead[at].letter.event_position) == 0) {
        return MR_E_AGAIN; /* it died within the group being gathered */
    }
    if (at >= 0) {
        *ret_later = mr__dead_later(sub, &sub->dead[at]);
        if (*ret_later > 0 && !out_of_order) {
            return MR_E_CONFLICT;
        }
    }
    enum mr_status r = mr__stage_reserve(bus, mr_record_size(0));
    if (r == MR_OK && at >= 0 && !mr__memory_has_redrive(bus, sub)) {
        r = MR_E_FULL;
    }
    if (r == MR_OK) {
        r = mr__apply_redrive(bus, sub, offset);
    }
    if (r == MR_OK) {
        struct mr_record record = {
            .kind = MR_RECORD_REDRIVE, .offset = offset, .a = subscription};
        (void)mr__stage_record(bus, &record);
    }
    return r;
}

bool mr__drop(struct mr_bus *bus, struct mr__delivery *d, const char *reason)
{
    if (d->where == MR__ARMED || d->where == MR__QUEUED) {
        if (mr__stage_reserve(bus, mr_record_size(UNARMED_BODY_MAX)) != MR_OK) {
            return false;
        }
        log_unarmed(bus, d);
    }
    const struct mr__target *target = mr__share_of(d)->target;
    bool told = d->where == MR__FLIGHT && target != NULL;
    uint32_t sub = d->sub->id;
    uint64_t offset = d->offset;
    uint32_t fence = d->fence;
    if (!mr__finish_plain(bus, d, MR_STATE_DROPPED, reason)) {
        return false;
    }
    if (told) {
        bus->ports.cancel(bus->ports.context, target->id, sub, offset, fence);
    }
    return true;
}

enum mr_status mr_bus_skip(struct mr_bus *bus, struct mr_now now, uint32_t subscription,
                           uint64_t offset)
{
    mr__clock_advance(bus, now);
    struct mr__delivery *d = subscription < bus->sub_count
                                 ? mr__delivery_find(bus->subs[subscription], offset)
                                 : NULL;
    if (d == NULL || d->where == MR__ENDING || bus->faulty) {
        return bus->faulty ? MR_E_FAULTY : d == NULL ? MR_E_NOT_FOUND : MR_E_AGAIN;
    }
    return mr__drop(bus, d, "skipped by an operator") ? MR_OK : MR_E_AGAIN; /* no room now */
}

enum mr_status mr_bus_purge(struct mr_bus *bus, uint32_t subscription, uint64_t offset)
{
    if (subscription >= bus->sub_count) {
        return MR_E_NOT_FOUND;
    }
    struct mr__sub *sub = bus->subs[subscription];
    int64_t at = mr__dead_find(sub, offset);
    if (at < 0) {
        return MR_E_NOT_FOUND;
    }
    enum mr_status r = bus->faulty ? MR_E_FAULTY : mr__stage_reserve(bus, mr_record_size(0));
    if (r == MR_OK) {
        struct mr_record record = {.kind = MR_RECORD_PURGE, .offset = offset, .a = subscription};
        (void)mr__stage_record(bus, &record);
        mr__state_remove_dead(bus, sub, (uint64_t)at);
    }
    return r;
}
