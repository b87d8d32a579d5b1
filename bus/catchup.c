/* Subscriptions that are behind: one whose window was full reads its matches from its cursor on;
 * when it has caught up with the stage it is live again.
 *
 * A step reads a bounded number of records for all of them, in turn, and the next step goes on:
 * what comes in meanwhile is not kept waiting. Those that stand at the same place walk together, so
 * that a group is decoded once however many want it. */
#include "bus/internal.h"

#include "core/alloc.h"

/* One unit is a record that was looked at; a delivery that was made costs as much as several, with
 * the attempt and the end that come of it. */
#define LOAD_UNITS 16u
#define TURN_UNITS 128u  /* of one subscription, before it is another's turn */
#define STEP_UNITS 128u  /* of a step in which events came in, */
#define EVENT_UNITS 2u   /* more for each of them, so that who is nearly there arrives, */
#define IDLE_UNITS 1024u /* and of one in which nothing did: a fraction of a millisecond */
#define UNREAD_MAX 3u    /* reads that may fail before the place counts as rotten */

enum walk {
    WALK_DONE = 0, /* the whole group */
    WALK_PAUSED,   /* the turn is over */
};

struct walking {
    struct mr_bus *bus;
    const uint8_t *data;
    size_t size;
    uint64_t base;   /* position of the group, 0 for the stage */
    uint32_t count;  /* of those that walk together */
    uint64_t seen;   /* offset of the last match that was looked at */
    size_t resume;   /* where the next turn goes on */
};

/* --- one match -------------------------------------------------------------------------------- */

/* One that was behind is not any more. Where rot took its match from a start that had its attempt,
 * that attempt was taken for another's, and this one is counted anew. */
static void leave_behind(struct mr__sub *sub)
{
    if (sub->behind > 0) {
        sub->behind--;
    } else {
        sub->counts.matched++;
    }
}

/* Whether so much is ready that the events of more are not kept in memory but read again. */
static bool has_read_enough(const struct mr_bus *bus, const struct mr__sub *sub)
{
    uint64_t memory = bus->options.read_memory / 16 * COLD_READY;
    uint64_t most = memory / (bus->not_live == 0 ? 1 : bus->not_live);
    uint64_t ready = 0;
    for (uint32_t i = 0; i < sub->share_count; i++) {
        ready += sub->shares[i].ready_size;
    }
    return ready > most;
}

static void load_match(struct mr_bus *bus, struct mr__sub *sub, const uint8_t *entry,
                       uint64_t position, const struct mr_record *event, bool in_stage)
{
    struct mr__arrival arrival = {
        .offset = event->offset,
        .lane = mr_get_u64(entry + 8),
        .cancels = (uint8_t)mr_get_u32(entry + 4),
        .level = entry[5],
        .position = position,
        .arrival_ns = mr__age_start(sub, event->body, event->c),
        .size = (uint32_t)event->body.size,
    };
    mr__arrival_times(&arrival, event->body);
    struct mr__delivery *d = mr__state_load(bus, sub, &arrival);
    leave_behind(sub);
    mr__shed_note(d, event->body);
    if (in_stage) {
        mr__stage_created(bus, d);
        return;
    }
    mr__segment_live(bus, position, 1);
    if (d->where == MR__READY && !has_read_enough(bus, sub) &&
        mr_event_check(event->body) == MR_OK) {
        d->event = mr_event_from_record(event->body); /* NULL: read again when it begins */
    }
}

enum taken {
    TAKEN = 0, /* it was known, or is lost */
    TAKEN_LOADED,
    TAKEN_FULL, /* the window is: nothing happened */
};

/* The match @p entry of @p sub with the event @p offset enters the window. @p event: its record, at
 * @p position, a byte in the stage if @p in_stage; NULL: it is rotten */
static enum taken match_take(struct mr_bus *bus, struct mr__sub *sub, const uint8_t *entry,
                             uint64_t offset, uint64_t position, const struct mr_record *event,
                             bool in_stage)
{
    if (mr_map_remove(&sub->skip, offset) || mr__delivery_find(sub, offset) != NULL ||
        mr__dead_find(sub, offset) >= 0) {
        return TAKEN; /* known from a record behind the cursor */
    }
    uint16_t epoch = (uint16_t)(mr_get_u32(entry + 4) >> MR_MATCH_EPOCH_SHIFT);
    bool lane = mr_get_u64(entry + 8) != 0;
    if (!mr__window_has_room(bus, sub, epoch, lane) ||
        mr__state_reserve(bus, sub, 1, lane) != MR_OK ||
        (in_stage && mr__stage_reserve_created(bus, 1) != MR_OK)) {
        sub->barred = !mr__order_fits(sub, epoch);
        return TAKEN_FULL;
    }
    sub->window_epoch = epoch;
    if (event != NULL) {
        load_match(bus, sub, entry, position, event, in_stage);
        return TAKEN_LOADED;
    }
    /* Its event is rotten: the delivery cannot be made, it is lost. */
    leave_behind(sub);
    sub->counts.lost++;
    bus->lost_events++;
    const struct mr__end end = {.state = MR_STATE_LOST};
    mr__fanout_ended(bus, sub->id, offset, &end);
    return TAKEN;
}

/* The same, and the cursor moves. @return false: no room, it stands before it */
static bool take_match(struct mr_bus *bus, struct mr__sub *sub, const uint8_t *entry,
                       uint64_t offset, uint64_t position, const struct mr_record *event,
                       bool in_stage)
{
    enum taken taken = match_take(bus, sub, entry, offset, position, event, in_stage);
    if (taken == TAKEN_FULL) {
        sub->full = true;
        sub->cursor_offset = offset;
        sub->turn_over = true;
        return false;
    }
    sub->cursor_offset = offset + 1;
    if (taken == TAKEN_LOADED) {
        bus->catch_units -= LOAD_UNITS;
        bus->step_again = true; /* to hand it out */
    }
    return true;
}

bool mr__cursor_take(struct mr_bus *bus, struct mr__sub *sub, const uint8_t *entry,
                     uint64_t position, const struct mr_record *event)
{
    return take_match(bus, sub, entry, event->offset, position, event, false);
}

/* --- a group ---------------------------------------------------------------------------------- */

static bool same_place(const struct mr__sub *a, const struct mr__sub *b)
{
    return a->cursor_in_stage == b->cursor_in_stage && a->walk_at == b->walk_at &&
           (a->cursor_in_stage || a->cursor_position == b->cursor_position);
}

static void gather_walkers(struct walking *w, const struct mr__sub *leader)
{
    for (uint32_t i = 0; i < w->bus->behind_count; i++) {
        struct mr__sub *sub = w->bus->behind[i];
        sub->walking = !sub->turn_over && same_place(sub, leader);
        w->count += sub->walking;
    }
}

/* What of @p match is for those that walk. */
static void take_entries(struct walking *w, const struct mr_record *match,
                         const struct mr_record *event, uint64_t event_at)
{
    struct mr_bus *bus = w->bus;
    for (uint32_t i = 0; i < match->a; i++) {
        const uint8_t *entry = match->body.data + (size_t)i * MR_MATCH_ENTRY_SIZE;
        uint32_t id = mr_get_u32(entry);
        struct mr__sub *sub = id < bus->sub_count ? bus->subs[id] : NULL;
        if (sub == NULL || !sub->walking || match->offset < sub->cursor_offset) {
            continue;
        }
        bool whole = event->offset == match->offset;
        if (!take_match(bus, sub, entry, match->offset, w->base + event_at, whole ? event : NULL,
                        w->base == 0)) {
            sub->walk_at = (uint32_t)w->resume;
            sub->walking = false;
            w->count--;
        }
    }
}

/* Loads what those that walk matched in one group, from @p at on. */
static enum walk walk_records(struct walking *w, size_t at, int64_t until)
{
    struct mr_record event = {0};
    uint64_t event_at = 0;
    size_t start = at;
    w->resume = at;
    while (at < w->size && w->count > 0) {
        if (w->bus->catch_units <= until && w->resume > start) {
            return MR_PLANTED(TURN_FORGOTTEN) ? WALK_DONE : WALK_PAUSED;
        }
        struct mr_record record;
        enum mr_status r = mr_record_decode(w->data + at, w->size - at, &record, NULL);
        if (r == MR_E_CORRUPT) {
            return WALK_DONE; /* what is lost here shows when the cursor reaches the end */
        }
        w->bus->catch_units--;
        size_t here = at;
        at += mr_record_size(record.body.size);
        if (record.kind == MR_RECORD_EVENT) {
            event = record;
            event_at = here;
            w->resume = here;
            if (r != MR_OK) {
                event.offset = 0;
            }
            continue;
        }
        if (r == MR_OK && record.kind == MR_RECORD_MATCH) {
            take_entries(w, &record, &event, event_at);
            w->seen = record.offset;
            w->resume = at;
        } else if (w->resume == here) {
            w->resume = at;
        }
    }
    return WALK_DONE;
}

void mr__cursor_move(struct mr__sub *sub, uint64_t position)
{
    sub->cursor_position = position;
    sub->cursor_size = 0;
    sub->walk_at = 0;
    sub->unread = 0;
}

void mr__cursor_end(struct mr_bus *bus, struct mr__sub *sub)
{
    bus->cursors_in_stage -= sub->cursor_in_stage;
    sub->cursor_in_stage = false;
    mr__cursor_move(sub, 0);
    mr__postings_leave(bus, sub);
    sub->live = true;
    sub->turn_over = true;
    bus->not_live--;
    mr_map_release(&sub->skip);
    mr__memory_update(bus, sub);
}

/* Everything written was read: the subscription is live again. Matches that were never found were
 * in groups that rotted. */
static void become_live(struct mr_bus *bus, struct mr__sub *sub)
{
    if (sub->behind > 0) {
        sub->counts.lost += sub->behind;
        bus->lost_events += sub->behind;
        sub->behind = 0;
        mr__fanout_gone(bus, sub, MR_STATE_LOST, "its match could not be read back from the log");
        bus->ports.alarm(bus->ports.context,
                         "matches in damaged groups of the log could not be read: they end lost");
    }
    mr__cursor_end(bus, sub);
}

/* One group, or the stage, for @p leader and all that stand where it does. @p header: of the group;
 * NULL: the stage */
static void walk_group(struct mr_bus *bus, const struct mr__sub *leader, const uint8_t *data,
                       const struct mr_group_header *header, int64_t until)
{
    struct walking w = {.bus = bus, .data = data,
                        .size = header == NULL ? bus->stage.size : header->size,
                        .base = header == NULL ? 0 : leader->cursor_position};
    gather_walkers(&w, leader);
    size_t at = leader->walk_at == 0 ? MR_GROUP_HEADER_SIZE : leader->walk_at;
    enum walk end = walk_records(&w, at, until);
    for (uint32_t i = 0; i < bus->behind_count; i++) {
        struct mr__sub *sub = bus->behind[i];
        if (!sub->walking) {
            continue;
        }
        sub->walking = false;
        uint64_t next = w.seen + 1;
        if (end == WALK_DONE && header != NULL) {
            next = header->next_offset;
            mr__cursor_move(sub, sub->cursor_position + header->padded);
        }
        sub->cursor_offset = next > sub->cursor_offset ? next : sub->cursor_offset;
        if (end == WALK_PAUSED) {
            sub->walk_at = (uint32_t)w.resume;
        } else if (header == NULL) {
            become_live(bus, sub);
        }
    }
}

/* --- a turn ----------------------------------------------------------------------------------- */

/* The position behind @p position's segment when that segment is used up. */
static uint64_t next_position(struct mr_bus *bus, uint64_t position)
{
    for (;;) {
        struct mr__segment *segment = mr__segment_of(bus, position);
        if (segment != NULL && mr_position_at(position) < segment->used) {
            return position;
        }
        uint64_t number = mr_position_segment(position);
        uint32_t i = 0;
        while (i < bus->segment_count && bus->segments[i].number <= number) {
            i++;
        }
        if (i >= bus->segment_count || (int64_t)i > bus->current) {
            return UINT64_MAX; /* the end of what was written */
        }
        position = mr_position(bus->segments[i].number, MR_LOG_BLOCK);
    }
}

/* With all that have come to the same end. */
static void enter_stage(struct mr_bus *bus, struct mr__sub *sub, uint64_t end)
{
    if (!sub->turn_over && !sub->cursor_in_stage && sub->cursor_position == end) {
        mr__cursor_move(sub, 0);
        sub->cursor_in_stage = true;
        bus->cursors_in_stage++;
    }
}

static void catch_up_stage(struct mr_bus *bus, struct mr__sub *sub, int64_t until)
{
    if (bus->stage.size == 0) {
        become_live(bus, sub);
        return;
    }
    uint64_t end = sub->cursor_position;
    bool enters = !sub->cursor_in_stage;
    for (uint32_t i = 0; i < bus->behind_count && enters; i++) {
        enter_stage(bus, bus->behind[i], end);
    }
    walk_group(bus, sub, bus->stage.data, NULL, until);
}

/* The bytes at the cursor, as many as it is known to want, or NULL: they are on their way, or are
 * to be asked for again. */
static const uint8_t *cursor_bytes(struct mr_bus *bus, struct mr__sub *sub)
{
    size_t size = sub->cursor_size == 0 ? MR_GROUP_HEADER_SIZE : sub->cursor_size;
    const uint8_t *data = mr__bytes_at(bus, sub->cursor_position, size);
    if (data == NULL && sub->unread < UNREAD_MAX) {
        (void)mr__walk_want(bus, sub, sub->cursor_position, size); /* refused: with its next turn */
        sub->turn_over = true;
    }
    return data;
}

/* One group from the files or the cache. */
static void catch_up_group(struct mr_bus *bus, struct mr__sub *sub, int64_t until)
{
    struct mr_group_header header = {0};
    const uint8_t *data = cursor_bytes(bus, sub);
    if (sub->turn_over) {
        return;
    }
    bus->catch_units--;
    const struct mr__segment *segment = mr__segment_of(bus, sub->cursor_position);
    if (data == NULL || mr_group_header_decode(data, segment->salt, &header) != MR_OK) {
        /* Rotten: on to what is behind; the matches that stood here end lost at the end. */
        uint64_t rotten = sub->cursor_size == 0 ? MR_LOG_BLOCK : sub->cursor_size;
        mr__cursor_move(sub, sub->cursor_position + mr_round_up(rotten, MR_LOG_BLOCK));
        return;
    }
    if (sub->cursor_size < header.size) {
        sub->cursor_size = header.size;
        return;
    }
    mr__read_ahead(bus, sub);
    walk_group(bus, sub, data, &header, until);
}

static void take_turn(struct mr_bus *bus, struct mr__sub *sub)
{
    int64_t until = bus->catch_units - (int64_t)TURN_UNITS;
    until = until < 0 ? 0 : until;
    sub->full = false;
    if (bus->reads_next == sub) {
        bus->reads_next = NULL;
    }
    while (!sub->turn_over && bus->catch_units > until) {
        uint64_t position = UINT64_MAX;
        if (!sub->cursor_in_stage) {
            position = next_position(bus, sub->cursor_position);
        }
        if (position == UINT64_MAX) {
            catch_up_stage(bus, sub, until);
            continue;
        }
        if (position != sub->cursor_position) {
            mr__cursor_move(sub, position);
        }
        if (!mr__postings_turn(bus, sub, mr__segment_of(bus, position), until)) {
            catch_up_group(bus, sub, until);
        }
    }
}

/* --- a step ----------------------------------------------------------------------------------- */

bool mr__catches_up(const struct mr_bus *bus, const struct mr__sub *sub)
{
    bool skips = sub->snap != NULL && sub->snap->phase == MR__SNAP_SKIP; /* see save_skips() */
    if (sub->live || bus->faulty || sub->conf == NULL || skips || !mr__memory_refills(bus, sub)) {
        return false;
    }
    if (sub->deliveries.count == 0) {
        return true;
    }
    /* What was read once is not to be read again, unless the choice is better where more wait. */
    if (sub->posted != NULL && sub->conf->batch_max == 0 && sub->conf->shed_max == 0 &&
        has_read_enough(bus, sub)) {
        return false;
    }
    /* Not for every freed place: a chunk is read for a quarter of the window at least. */
    return !sub->barred && sub->window_bytes <= sub->conf->window_size / 4 * 3;
}

bool mr__goes_on(const struct mr_bus *bus, const struct mr__sub *sub)
{
    return !sub->full && mr__catches_up(bus, sub);
}

/* Those that can go on, from the one whose turn it is. @return false: memory is short */
static bool gather_behind(struct mr_bus *bus)
{
    bus->behind_count = 0;
    if (bus->behind_capacity < bus->sub_count) {
        struct mr__sub **grown =
            mr_realloc(bus->behind, bus->sub_count * sizeof(struct mr__sub *));
        if (grown == NULL) {
            return false;
        }
        bus->behind = grown;
        bus->behind_capacity = bus->sub_count;
    }
    for (uint32_t i = 0; i < bus->sub_count; i++) {
        struct mr__sub *sub = bus->subs[(bus->catch_turn + i) % bus->sub_count];
        if (mr__catches_up(bus, sub)) {
            sub->barred = false;
            sub->turn_over = false;
            bus->behind[bus->behind_count++] = sub;
        }
    }
    return true;
}

static int64_t units_of_step(struct mr_bus *bus)
{
    uint64_t came = bus->next_offset - bus->catch_offset;
    bus->catch_offset = bus->next_offset;
    if (bus->options.walk_max > 0) {
        return bus->options.walk_max;
    }
    uint64_t units = STEP_UNITS + came * EVENT_UNITS;
    return came == 0 || units > IDLE_UNITS ? (int64_t)IDLE_UNITS : (int64_t)units;
}

void mr__catch_up(struct mr_bus *bus)
{
    bus->step_again = false;
    mr__reads_settle(bus);
    if (bus->not_live == 0 || !gather_behind(bus)) {
        return;
    }
    bus->catch_units = units_of_step(bus);
    uint32_t over = 0; /* in a row */
    for (uint32_t i = 0; over < bus->behind_count && bus->catch_units > 0;
         i = (i + 1) % bus->behind_count) {
        struct mr__sub *sub = bus->behind[i];
        if (!sub->turn_over) {
            take_turn(bus, sub);
            bus->catch_turn = sub->id + 1;
        }
        over = sub->turn_over ? over + 1 : 0;
    }
    bool refused = bus->reads_next != NULL && mr__catches_up(bus, bus->reads_next);
    bus->step_again = bus->step_again || over < bus->behind_count ||
                      (refused && bus->read_count == 0); /* by what was used up since */
}
