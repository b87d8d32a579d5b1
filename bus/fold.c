/* Recovery: one record after another becomes state, with the same calls the live bus makes. */
#include "bus/internal.h"

#include <stdio.h>

#include "core/alloc.h"

#define FOLD_WINDOW (16u * MR_MIB) /* the configuration is not known yet */

/* Objects up to @p id exist: a record may name one before its NAME record (or, if that rotted,
 * without one), which then goes by "recovered-ID". */
enum mr_status mr__ids_reach(struct mr_bus *bus, enum mr_name_kind kind, uint32_t id)
{
    const uint32_t *count = kind == MR_NAME_SUBSCRIPTION ? &bus->sub_count
                            : kind == MR_NAME_SOURCE     ? &bus->source_count
                                                         : &bus->target_count;
    if (id >= *count && id - *count > MR_SUBSCRIPTIONS_MAX) {
        return MR_E_CORRUPT;
    }
    while (*count <= id) {
        char recovered[32];
        (void)snprintf(recovered, sizeof(recovered), "recovered-%u", (unsigned)*count);
        bool added = kind == MR_NAME_SUBSCRIPTION ? mr__sub_add(bus, recovered) != NULL
                     : kind == MR_NAME_SOURCE     ? mr__source_add(bus, recovered) != NULL
                                                  : mr__target_add(bus, recovered) != NULL;
        if (!added) {
            return MR_E_NOMEM;
        }
    }
    return MR_OK;
}

static struct mr__sub *sub_of(struct mr_bus *bus, uint32_t id)
{
    return mr__ids_reach(bus, MR_NAME_SUBSCRIPTION, id) == MR_OK ? bus->subs[id] : NULL;
}

static enum mr_status rename_object(struct mr_bus *bus, enum mr_name_kind kind, uint32_t id,
                                    struct mr_bytes text)
{
    char *name = mr_strndup((const char *)text.data, text.size);
    if (name == NULL) {
        return MR_E_NOMEM;
    }
    enum mr_status r = MR_OK;
    if (mr__name_find(bus, kind, name) != id) {
        r = mr__name_set(bus, kind, id, name);
    }
    mr_free(name);
    return r;
}

static enum mr_status fold_name(struct mr_bus *bus, uint64_t position,
                                const struct mr_record *record)
{
    enum mr_name_kind kind = (enum mr_name_kind)record->b;
    uint32_t id = record->a;
    if (kind == MR_NAME_FANOUT) {
        return mr__fanout_name(bus, id, record->body);
    }
    if (kind > MR_NAME_TARGET) {
        return MR_OK; /* nothing in this version bears it */
    }
    enum mr_status r = mr__ids_reach(bus, kind, id);
    if (r != MR_OK) {
        return r;
    }
    if (kind == MR_NAME_SUBSCRIPTION && position >= bus->subs[id]->folded_to) {
        bus->subs[id]->order_hash = record->c;
        bus->subs[id]->order_epoch = (uint16_t)record->d;
    }
    return rename_object(bus, kind, id, record->body);
}

static bool fold_has_room(const struct mr_bus *bus, const struct mr__sub *sub, uint16_t epoch,
                          bool lane)
{
    return mr__order_fits(sub, epoch) && sub->window_bytes < FOLD_WINDOW &&
           mr__memory_has_room(bus, sub, lane);
}

static enum mr_status load_and_begin(struct mr_bus *bus, struct mr__sub *sub,
                                     const struct mr__arrival *arrival, uint32_t fence)
{
    enum mr_status r = mr__state_reserve(bus, sub, 1, arrival->lane != 0);
    struct mr__delivery *d = r == MR_OK ? mr__state_load(bus, sub, arrival) : NULL;
    if (d == NULL) {
        return MR_E_NOMEM;
    }
    mr__segment_live(bus, arrival->position, 1);
    if (fence > 0) {
        mr__state_begin(bus, d, fence);
    } else {
        mr__timer_set(bus, d);
    }
    return MR_OK;
}

static enum mr_status fold_match(struct mr_bus *bus, const struct mr_log_group *group,
                                 uint64_t position, const struct mr_record *record,
                                 const struct mr_record *event,
                                 uint64_t event_position)
{
    if (record->body.size < (size_t)record->a * MR_MATCH_ENTRY_SIZE) {
        return MR_E_CORRUPT;
    }
    bool event_good = event->kind == MR_RECORD_EVENT && event->offset == record->offset;
    struct mr__arrival arrival = {
        .offset = record->offset,
        .position = event_position,
        .arrival_ns = event->c,
        .size = (uint32_t)event->body.size,
    };
    bool timed = false; /* looked for in the event when the first needs it: most are behind */
    for (uint32_t i = 0; i < record->a; i++) {
        const uint8_t *entry = record->body.data + (size_t)i * MR_MATCH_ENTRY_SIZE;
        struct mr__sub *sub = sub_of(bus, mr_get_u32(entry));
        if (sub == NULL) {
            return MR_E_NOMEM;
        }
        if (position < sub->folded_to) {
            continue;
        }
        if (mr__delivery_find(sub, record->offset) != NULL) {
            continue; /* never twice, whatever a damaged log says */
        }
        sub->counts.matched++;
        if (!event_good) {
            sub->counts.lost++;
            continue;
        }
        bool begun = (mr_get_u32(entry + 4) & MR_MATCH_BEGUN) != 0;
        uint16_t epoch = (uint16_t)(mr_get_u32(entry + 4) >> MR_MATCH_EPOCH_SHIFT);
        arrival.lane = mr_get_u64(entry + 8);
        if (begun || (sub->live && fold_has_room(bus, sub, epoch, arrival.lane != 0))) {
            if (!timed) {
                mr__arrival_times(&arrival, event->body);
                timed = true;
            }
            sub->window_epoch = epoch;
            arrival.level = entry[5];
            arrival.cancels = MR_PLANTED(CANCEL_FORGOTTEN) ? 0 : (uint8_t)mr_get_u32(entry + 4);
            enum mr_status r = load_and_begin(bus, sub, &arrival, begun ? 1 : 0);
            if (r != MR_OK) {
                return r;
            }
            continue;
        }
        if (sub->live) {
            sub->live = false;
            bus->not_live++;
            sub->cursor_position = group->position;
            sub->cursor_offset = record->offset;
        }
        sub->behind++;
    }
    return MR_OK;
}

/* An attempt of a delivery that recovery had left on disk: it was in the window then. */
static enum mr_status fold_attempt(struct mr_bus *bus, const struct mr_log_group *group,
                                   uint64_t at, const struct mr_record *record)
{
    struct mr__sub *sub = sub_of(bus, record->a);
    if (sub == NULL) {
        return MR_E_NOMEM;
    }
    if (at < sub->folded_to) {
        return MR_OK;
    }
    struct mr__delivery *d = mr__delivery_find(sub, record->offset);
    if (d != NULL) {
        if (!mr__is_begun(d) && record->b > d->fence) {
            if (d->where == MR__HELD) {
                mr__state_wait(bus, d, 0); /* it went on: the record that says so is lost */
            }
            mr__state_begin(bus, d, record->b);
        }
        return MR_OK;
    }
    if (record->body.size < 16 || sub->live || record->offset < sub->cursor_offset ||
        sub->behind == 0) {
        return MR_OK; /* settled before what this recovery starts from */
    }
    uint64_t position = record->d;
    if (mr_position_segment(position) == 0) {
        position += group->position;
    }
    sub->behind--;
    struct mr__arrival arrival = {
        .offset = record->offset,
        .lane = record->c,
        .position = position,
        .arrival_ns = mr_get_u64(record->body.data + 8),
        .size = mr_get_u32(record->body.data),
        .level = record->body.data[4],
    };
    return load_and_begin(bus, sub, &arrival, record->b);
}

/* What was answered stands before the settle, in the same group. */
static void tell_fanouts(struct mr_bus *bus, const struct mr_record *record,
                         const struct mr_result *last)
{
    const struct mr_record *result = &bus->result_read;
    bool ours = result->kind == MR_RECORD_RESULT && result->offset == record->offset &&
                result->a == record->a && result->b == record->b;
    const struct mr__end end = {.state = (enum mr_state)record->extra,
                                .attempts = last->attempts,
                                .reason = last->reason,
                                .result = ours ? result->body : mr_bytes(NULL, 0)};
    if (!MR_PLANTED(JOIN_FORGETS)) {
        mr__fanout_ended(bus, record->a, record->offset, &end);
    }
    bus->result_read = (struct mr_record){0};
}

static enum mr_status fold_end(struct mr_bus *bus, uint64_t position,
                               const struct mr_record *record, const struct mr_record *event,
                               uint64_t event_position)
{
    struct mr__sub *sub = sub_of(bus, record->a);
    if (sub == NULL) {
        return MR_E_NOMEM;
    }
    struct mr__delivery *d = mr__delivery_find(sub, record->offset);
    bool dead = record->kind == MR_RECORD_DEAD;
    struct mr_result result = {0};
    if (mr_result_decode(record->body, &result, NULL) != MR_OK) {
        result = (struct mr_result){0}; /* a dead letter made while memory was short */
    }
    if (record->extra < MR_STATE_DONE || record->extra >= MR_STATE_MAX) {
        return MR_E_CORRUPT;
    }
    if (position >= bus->joins_to) {
        tell_fanouts(bus, record, &result);
    }
    if (position < sub->folded_to) {
        return MR_OK;
    }
    if (d == NULL && dead && sub->ingest) {
        enum mr_status r = mr__state_reserve_dead(bus, sub);
        bool event_good = event->kind == MR_RECORD_EVENT && event->offset == record->offset;
        if (r != MR_OK) {
            return r;
        }
        sub->counts.matched++;
        sub->counts.dead++;
        struct mr_dead_letter letter = {
            .offset = record->offset,
            .event_position = event_good ? event_position : 0,
            .record_position = position,
            .died_log_ns = bus->log_ns,
            .event_size = event_good ? (uint32_t)event->body.size : 0,
        };
        mr__state_add_dead(bus, sub, &letter);
        return MR_OK;
    }
    if (d == NULL) {
        if (!sub->live && record->offset >= sub->cursor_offset && sub->behind > 0 && !dead) {
            enum mr_status r = mr_map_reserve(&sub->skip, 1);
            if (r != MR_OK) {
                return r;
            }
            mr_map_set(&sub->skip, record->offset, 1);
            mr__memory_update(bus, sub);
            sub->behind--;
            mr__count_end(sub, (enum mr_state)record->extra);
        }
        return MR_OK;
    }
    if (dead) {
        enum mr_status r = mr__state_reserve_dead(bus, sub);
        if (r != MR_OK) {
            return r;
        }
        struct mr_dead_letter letter = {
            .offset = d->offset,
            .event_position = d->position,
            .record_position = position,
            .died_log_ns = bus->log_ns,
            .attempts = result.attempts,
            .fence = d->fence,
            .event_size = d->size,
            .lane = d->lane == NULL ? 0 : d->lane->key,
            .level = d->level,
        };
        mr__state_add_dead(bus, sub, &letter);
        mr__state_end(bus, d, MR_STATE_DEAD);
        return MR_OK;
    }
    mr__state_end(bus, d, (enum mr_state)record->extra);
    return MR_OK;
}

static enum mr_status fold_retry(struct mr_bus *bus, uint64_t position,
                                 const struct mr_record *record)
{
    struct mr__sub *sub = sub_of(bus, record->a);
    struct mr__delivery *d = sub == NULL ? NULL : mr__delivery_find(sub, record->offset);
    struct mr_result result;
    if (d == NULL || position < sub->folded_to ||
        mr_result_decode(record->body, &result, NULL) != MR_OK) {
        return sub == NULL ? MR_E_NOMEM : MR_OK;
    }
    if (record->b > 0 && result.verdict != MR_VERDICT_NONE) {
        mr__note_add(bus, d, record->b, record->c, record->d, &result);
    }
    result.attempts = MR_PLANTED(ATTEMPTS_FORGOTTEN) ? 0 : result.attempts;
    d->attempts = (uint16_t)(result.attempts > UINT16_MAX ? UINT16_MAX : result.attempts);
    d->refusals = (uint16_t)(result.refusals > UINT16_MAX ? UINT16_MAX : result.refusals);
    d->alone = result.alone;
    if (record->extra == MR_STATE_HELD && !MR_PLANTED(HELD_FORGOTTEN)) {
        mr__state_hold(bus, d);
    } else {
        mr__state_wait(bus, d, result.due_ns);
    }
    return MR_OK;
}

/* An event that is lost may come again. */
static enum mr_status fold_key(struct mr_bus *bus, uint64_t position,
                               const struct mr_record *record,
                               const struct mr_record *event)
{
    bool event_good = event->kind == MR_RECORD_EVENT && event->offset == record->offset;
    enum mr_status r = mr__ids_reach(bus, MR_NAME_SOURCE, record->a);
    if (r != MR_OK || !event_good || record->b == 0 || record->extra == 0 ||
        position < bus->sources[record->a]->keys_to ||
        record->extra > MR_DEDUPE_KEYS_MAX / 1000 ||
        MR_PLANTED(KEYS_UNREAD)) {
        return r;
    }
    struct mr__seen *seen = &bus->sources[record->a]->seen;
    mr__seen_configure(bus, seen, record->b * MR_MS, record->extra * 1000u);
    r = mr__seen_reserve(bus, seen);
    if (r == MR_OK) {
        const struct mr__seen_key key = {
            .key = {record->c, record->d}, .offset = record->offset, .log_ns = event->c};
        (void)mr__seen_enter(bus, seen, &key); /* it was counted when it came */
    }
    return r;
}

static enum mr_status fold_fanout(struct mr_bus *bus, uint64_t position,
                                  const struct mr_record *record,
                                  const struct mr_record *event)
{
    if (position < bus->joins_to) {
        return MR_OK;
    }
    for (size_t at = 0; at + sizeof(uint32_t) <= record->body.size; at += sizeof(uint32_t)) {
        if (sub_of(bus, mr_get_u32(record->body.data + at)) == NULL) {
            return MR_E_NOMEM;
        }
    }
    return mr__fold_fanout(bus, record, event);
}

static enum mr_status fold_operator(struct mr_bus *bus, uint64_t position,
                                    const struct mr_record *record)
{
    struct mr__sub *sub = sub_of(bus, record->a);
    if (sub == NULL) {
        return MR_E_NOMEM;
    }
    if (record->kind == MR_RECORD_REMOVED && record->b == 2 && position >= bus->joins_to) {
        mr__removed_gone(bus, sub);
    }
    if (position < sub->folded_to) {
        return MR_OK;
    }
    switch (record->kind) {
    case MR_RECORD_REDRIVE:
        return mr__apply_redrive(bus, sub, record->offset);
    case MR_RECORD_PURGE: {
        int64_t at = mr__dead_find(sub, record->offset);
        if (at >= 0) {
            mr__state_remove_dead(bus, sub, (uint64_t)at);
        }
        return MR_OK;
    }
    case MR_RECORD_PAUSE:
        sub->paused = record->b != 0;
        return MR_OK;
    case MR_RECORD_REMOVED:
        mr__apply_removed(bus, sub, record->b, record->c);
        return MR_OK;
    case MR_RECORD_WEIGHT:
        return MR_PLANTED(WEIGHT_FORGOTTEN) ? MR_OK
                                            : mr__state_weight(sub, record->b, record->c);
    default:
        return MR_OK;
    }
}

enum mr_status mr__fold(struct mr_bus *bus, const struct mr_log_group *group, uint64_t position,
                        const struct mr_record *record, struct mr_record *event,
                        uint64_t *event_position)
{
    uint64_t interrupted;
    switch (record->kind) {
    case MR_RECORD_EVENT:
        *event = *record;
        *event_position = position;
        if (record->offset >= bus->next_offset) {
            bus->next_offset = record->offset + 1;
        }
        return mr_event_check(record->body) == MR_OK ? MR_OK : MR_E_CORRUPT;
    case MR_RECORD_MATCH:
        return fold_match(bus, group, position, record, event, *event_position);
    case MR_RECORD_ATTEMPT:
        return fold_attempt(bus, group, position, record);
    case MR_RECORD_SETTLE:
    case MR_RECORD_DEAD:
        return fold_end(bus, position, record, event, *event_position);
    case MR_RECORD_RETRY:
        return fold_retry(bus, position, record);
    case MR_RECORD_REDRIVE:
    case MR_RECORD_PURGE:
    case MR_RECORD_PAUSE:
    case MR_RECORD_REMOVED:
    case MR_RECORD_WEIGHT:
        return fold_operator(bus, position, record);
    case MR_RECORD_KEY:
        return fold_key(bus, position, record, event);
    case MR_RECORD_CURSOR: {
        enum mr_status r = mr__ids_reach(bus, MR_NAME_SOURCE, record->a);
        char *cursor = mr_strndup((const char *)record->body.data, record->body.size);
        if (r != MR_OK || cursor == NULL) {
            mr_free(cursor);
            return r == MR_OK ? MR_E_NOMEM : r;
        }
        if (position < bus->base_to) {
            mr_free(cursor);
            return MR_OK;
        }
        mr_free(bus->sources[record->a]->cursor);
        bus->sources[record->a]->cursor = cursor;
        return MR_OK;
    }
    case MR_RECORD_CONFIG:
        bus->config_hash_logged = position < bus->base_to ? bus->config_hash_logged : record->c;
        return MR_OK;
    case MR_RECORD_NAME:
        return fold_name(bus, position, record);
    case MR_RECORD_START:
        return mr__state_interrupt_all(bus, position, group->header.log_ns, &interrupted);
    case MR_RECORD_CLOCK:
        bus->clock_frozen = position < bus->base_to ? bus->clock_frozen : record->a != 0;
        return MR_OK;
    case MR_RECORD_LOST:
        return MR_OK; /* counted when the rot was first seen, and in checkpoints since */
    case MR_RECORD_OPERATOR:
    case MR_RECORD_MARK:
    case MR_RECORD_LATE:
        return MR_OK;
    case MR_RECORD_MOVED:
        return MR_PLANTED(MOVED_UNREAD) ? MR_OK : mr__fold_moved(bus, record);
    case MR_RECORD_RESULT:
        bus->result_read = *record;
        return MR_OK;
    case MR_RECORD_EDIT: {
        struct mr__sub *sub = sub_of(bus, record->a);
        return sub == NULL                  ? MR_E_NOMEM
               : position < sub->folded_to ? MR_OK
                                           : mr__fold_edit(bus, sub, group, record, event);
    }
    case MR_RECORD_FANOUT:
        return fold_fanout(bus, position, record, event);
    case MR_RECORD_JOINED:
        if (position >= bus->joins_to) {
            mr__fold_joined(bus, record);
        }
        return MR_OK;
    default:
        return (record->flags & MR_RECORD_SKIPPABLE) != 0 ? MR_OK : MR_E_UNSUPPORTED;
    }
}
