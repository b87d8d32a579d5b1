/* The bytes of the log in memory and on disk, and subscriptions that are behind.
 *
 * Recent groups stay in memory (the cache); what is older is read in chunks. A subscription whose
 * window was full reads its matches from its cursor on; when it has caught up with the stage it is
 * live again. */
#include "bus/internal.h"

#include "core/alloc.h"

/* --- the cache: a ring of groups, ascending position ------------------------------------------ */

static struct mr__chunk *cache_at(const struct mr_bus *bus, uint32_t i)
{
    return &bus->cache[(bus->cache_first + i) % bus->cache_capacity];
}

static void cache_evict(struct mr_bus *bus)
{
    struct mr__chunk *chunk = cache_at(bus, 0);
    bus->cache_bytes -= chunk->capacity;
    mr_free(chunk->data);
    *chunk = (struct mr__chunk){0};
    bus->cache_first = (bus->cache_first + 1) % bus->cache_capacity;
    bus->cache_count--;
}

static bool cache_grow(struct mr_bus *bus)
{
    if (bus->cache_count < bus->cache_capacity) {
        return true;
    }
    uint32_t capacity = bus->cache_capacity == 0 ? 64 : bus->cache_capacity * 2;
    struct mr__chunk *grown = mr_calloc(capacity, sizeof(*grown));
    if (grown == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < bus->cache_count; i++) {
        grown[i] = *cache_at(bus, i);
    }
    mr_free(bus->cache);
    bus->cache = grown;
    bus->cache_first = 0;
    bus->cache_capacity = capacity;
    return true;
}

/* The written group's memory moves into the cache; a small group in a large buffer is copied. */
void mr__cache_add(struct mr_bus *bus, struct mr__group *group)
{
    struct mr__chunk chunk = {
        .position = group->position, .size = group->padded, .data = group->data,
        .capacity = group->capacity};
    if (group->capacity / 2 > group->padded) {
        uint8_t *copy = mr_alloc(group->padded);
        if (copy != NULL) {
            memcpy(copy, group->data, group->size);
            memset(copy + group->size, 0, group->padded - group->size);
            chunk.data = copy;
            chunk.capacity = group->padded;
        }
    }
    bool kept = cache_grow(bus);
    if (kept) {
        *cache_at(bus, bus->cache_count++) = chunk;
        bus->cache_bytes += chunk.capacity;
    } else if (chunk.data != group->data) {
        mr_free(chunk.data);
    }
    if (kept && chunk.data == group->data) {
        group->data = NULL;
        group->capacity = 0;
    }
    if (bus->stage.data == NULL && group->data != NULL) {
        bus->stage.data = group->data; /* used again, saves an allocation a group */
        bus->stage.capacity = group->capacity;
        group->data = NULL;
    }
    mr_free(group->data);
    group->data = NULL;
    group->capacity = 0;
    group->size = 0;
    while (bus->cache_bytes > bus->options.log.cache_size && bus->cache_count > 0) {
        cache_evict(bus);
    }
}

static const uint8_t *in_cache(const struct mr_bus *bus, uint64_t position, size_t size)
{
    uint32_t low = 0;
    uint32_t high = bus->cache_count;
    while (low < high) { /* the last chunk at or before position */
        uint32_t mid = low + (high - low) / 2;
        if (cache_at(bus, mid)->position <= position) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    if (low == 0) {
        return NULL;
    }
    const struct mr__chunk *chunk = cache_at(bus, low - 1);
    return position + size <= chunk->position + chunk->size
               ? chunk->data + (position - chunk->position)
               : NULL;
}

static const struct mr__chunk *cold_chunk(const struct mr_bus *bus, uint64_t position, size_t size)
{
    for (uint32_t i = 0; i < COLD_CHUNKS_MAX; i++) {
        const struct mr__chunk *chunk = &bus->cold[i];
        if (chunk->data != NULL && position >= chunk->position &&
            position + size <= chunk->position + chunk->size) {
            return chunk;
        }
    }
    return NULL;
}

const uint8_t *mr__bytes_at(const struct mr_bus *bus, uint64_t position, size_t size)
{
    const struct mr__group *flight = &bus->flight;
    if (bus->writing && position >= flight->position &&
        position + size <= flight->position + flight->padded) {
        return flight->data + (position - flight->position);
    }
    const uint8_t *data = in_cache(bus, position, size);
    if (data == NULL) {
        const struct mr__chunk *chunk = cold_chunk(bus, position, size);
        data = chunk == NULL ? NULL : chunk->data + (position - chunk->position);
    }
    return data;
}

void mr__cache_release(struct mr_bus *bus)
{
    while (bus->cache_count > 0) {
        cache_evict(bus);
    }
    mr_free(bus->cache);
    for (uint32_t i = 0; i < COLD_CHUNKS_MAX; i++) {
        mr_free(bus->cold[i].data);
    }
}

/* --- reads ------------------------------------------------------------------------------------ */

/* How much may be read from @p position on: not beyond its segment, where the positions of the next
 * one may begin; in the segment that is being written to, only what was written when the read is
 * asked for. Behind that are zeros now and groups later. */
static size_t readable(struct mr_bus *bus, uint64_t position, size_t want)
{
    const struct mr__segment *segment = mr__segment_of(bus, position);
    if (segment == NULL || MR_PLANTED(READ_AHEAD)) {
        return want;
    }
    uint64_t rest = segment->size - mr_position_at(position);
    if (rest < want && !MR_PLANTED(READ_ACROSS)) {
        want = (size_t)rest;
    }
    if (segment->sealed) {
        return want;
    }
    uint64_t end = mr_position(segment->number, segment->used);
    if (bus->writing && mr_position_segment(bus->flight.position) == segment->number) {
        end = bus->flight.position;
    }
    return position < end && end - position < want ? (size_t)(end - position) : want;
}

bool mr__bytes_want(struct mr_bus *bus, uint64_t position, size_t size)
{
    int slot = -1;
    for (int i = 0; i < (int)READS_MAX; i++) {
        const struct mr_log_request *read = bus->reads[i];
        if (read == NULL) {
            slot = i;
            continue;
        }
        uint64_t start = mr_position(read->number, read->at);
        if (position >= start && position + size <= start + read->size) {
            return true; /* already on its way */
        }
    }
    if (slot < 0 || bus->faulty || bus->closing) {
        return false;
    }
    size_t want = size > COLD_CHUNK ? (size_t)mr_round_up(size, MR_LOG_BLOCK) : COLD_CHUNK;
    want = readable(bus, position, want);
    struct mr_log_request *read = mr__request(bus, MR_LOG_READ);
    uint8_t *buf = read == NULL ? NULL : mr_alloc(want);
    if (buf == NULL) {
        mr_free(read);
        return false;
    }
    read->number = mr_position_segment(position);
    read->at = mr_position_at(position);
    read->buf = buf;
    read->size = want;
    bus->reads[slot] = read;
    mr__send(bus, read);
    return true;
}

static void lose_waiting(struct mr_bus *bus, uint64_t position, size_t size);

void mr__read_done(struct mr_bus *bus, struct mr_log_request *request)
{
    for (int i = 0; i < (int)READS_MAX; i++) {
        if (bus->reads[i] == request) {
            bus->reads[i] = NULL;
        }
    }
    uint64_t position = mr_position(request->number, request->at);
    if (request->result == MR_OK && request->result_size > 0) {
        struct mr__chunk *chunk = &bus->cold[bus->cold_next];
        bus->cold_next = (bus->cold_next + 1) % COLD_CHUNKS_MAX;
        mr_free(chunk->data);
        *chunk = (struct mr__chunk){.position = position,
                                    .size = request->result_size,
                                    .data = request->buf,
                                    .capacity = request->size};
        if (request->result_size < request->size) {
            /* The file ends here: what was wanted beyond is not there. */
            lose_waiting(bus, position + request->result_size,
                         request->size - request->result_size);
        }
    } else {
        mr_free(request->buf);
        lose_waiting(bus, position, request->size);
    }
    mr_free(request);
    struct mr__list retry = bus->loading;
    bus->loading = (struct mr__list){0};
    for (struct mr__delivery *d = retry.first; d != NULL;) {
        struct mr__delivery *next = d->next;
        d->list = NULL;
        d->next = NULL;
        d->prev = NULL;
        mr__load_event(bus, d);
        d = next;
    }
}

/* --- the event of one delivery ---------------------------------------------------------------- */

static void mark_lost(struct mr_bus *bus, struct mr__delivery *d)
{
    bus->lost_events++;
    bus->ports.alarm(bus->ports.context,
                     "an event could not be read back from the log: its deliveries end lost");
    mr_event_unref(d->event);
    d->event = NULL;
    if (d->ending != NULL) {
        mr_buf_release(&d->ending->result);
        mr_free(d->ending->result_json);
        mr_free(d->ending);
        d->ending = NULL;
    }
    if (!mr__finish_plain(bus, d, MR_STATE_LOST, "the log gave back damaged bytes")) {
        d->loading = true; /* no room in this group: found again at the next try */
        if (d->list == NULL) {
            mr__list_push(&bus->loading, d);
        }
    }
}

/* Reads that failed: whoever wanted those bytes ends lost. */
static void lose_waiting(struct mr_bus *bus, uint64_t position, size_t size)
{
    if (bus->faulty) {
        return;
    }
    for (uint32_t i = 0; i < bus->sub_count; i++) {
        struct mr__sub *sub = bus->subs[i];
        for (uint64_t k = 0; k < sub->deliveries.capacity; k++) {
            struct mr__delivery *d =
                (struct mr__delivery *)(uintptr_t)sub->deliveries.slots[k].value;
            if (sub->deliveries.slots[k].key != 0 && d->loading && !d->in_stage &&
                d->position >= position && d->position < position + size) {
                mark_lost(bus, d);
                k = UINT64_MAX; /* the map has moved: from the start */
            }
        }
    }
}

/* Gets d's event from memory, or asks the disk; queued and ending deliveries come back here. */
void mr__load_event(struct mr_bus *bus, struct mr__delivery *d)
{
    if (d->event != NULL && d->where != MR__ENDING) {
        return;
    }
    size_t size = mr_record_size(d->size);
    const uint8_t *data = NULL;
    if (d->in_stage) {
        data = bus->stage.data + d->position;
    } else {
        data = mr__bytes_at(bus, d->position, size);
    }
    if (data == NULL) {
        d->loading = true;
        (void)mr__bytes_want(bus, d->position, size); /* refused: asked again from the queue */
        if (d->where == MR__ENDING && d->list == NULL) {
            mr__list_push(&bus->loading, d);
        }
        return;
    }
    d->loading = false;
    struct mr_record record;
    bool good = mr_record_decode(data, size, &record, NULL) == MR_OK &&
                mr_record_is_event_of(&record, d->sub->id, d->offset) &&
                mr_event_check(record.body) == MR_OK;
    if (!good) {
        d->loading = true;
        mark_lost(bus, d);
        return;
    }
    if (d->event == NULL) {
        d->event = mr_event_from_record(record.body);
        if (d->event == NULL) {
            if (d->where == MR__ENDING && d->list == NULL) {
                mr__list_push(&bus->loading, d);
            }
            return; /* memory short: tried again with the next step */
        }
    }
    if (d->where == MR__ENDING) {
        mr__list_remove(d);
        mr__ending_ready(bus, d);
    }
}

/* --- subscriptions that are behind ------------------------------------------------------------ */

enum walk {
    WALK_DONE = 0, /* the whole group */
    WALK_FULL,     /* the window is full: the cursor stands at what did not fit */
};

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
    } else {
        mr__segment_live(bus, position, 1);
    }
}

/* Loads what @p sub matched in one group. @p base: position of the group, 0 for the stage. */
static enum walk walk_group(struct mr_bus *bus, struct mr__sub *sub, const uint8_t *data,
                            size_t size, uint64_t base)
{
    struct mr_record event = {0};
    uint64_t event_at = 0;
    size_t at = MR_GROUP_HEADER_SIZE;
    while (at < size) {
        struct mr_record record;
        enum mr_status r = mr_record_decode(data + at, size - at, &record, NULL);
        if (r == MR_E_CORRUPT) {
            return WALK_DONE; /* what is lost here shows when the cursor reaches the end */
        }
        size_t here = at;
        at += mr_record_size(record.body.size);
        if (record.kind == MR_RECORD_EVENT) {
            event = record;
            event_at = here;
            if (r != MR_OK) {
                event.offset = 0;
            }
        }
        if (r != MR_OK || record.kind != MR_RECORD_MATCH || record.offset < sub->cursor_offset) {
            continue;
        }
        for (uint32_t i = 0; i < record.a; i++) {
            const uint8_t *entry = record.body.data + (size_t)i * MR_MATCH_ENTRY_SIZE;
            if (mr_get_u32(entry) != sub->id) {
                continue;
            }
            if (mr_map_remove(&sub->skip, record.offset) ||
                mr__delivery_find(sub, record.offset) != NULL ||
                mr__dead_find(sub, record.offset) >= 0) {
                break; /* known from a record behind the cursor */
            }
            uint16_t epoch = (uint16_t)(mr_get_u32(entry + 4) >> MR_MATCH_EPOCH_SHIFT);
            if (!mr__window_has_room(bus, sub, epoch) || mr__state_reserve(bus, sub, 1) != MR_OK ||
                (base == 0 && mr__stage_reserve_created(bus, 1) != MR_OK)) {
                sub->cursor_offset = record.offset;
                sub->barred = !mr__order_fits(sub, epoch);
                return WALK_FULL;
            }
            sub->window_epoch = epoch;
            if (event.offset == record.offset) {
                load_match(bus, sub, entry, base + event_at, &event, base == 0);
            } else {
                /* Its event is rotten: the delivery cannot be made, it is lost. */
                leave_behind(sub);
                sub->counts.lost++;
                bus->lost_events++;
                const struct mr__end end = {.state = MR_STATE_LOST};
                mr__fanout_ended(bus, sub->id, record.offset, &end);
            }
            break;
        }
        sub->cursor_offset = record.offset + 1;
    }
    return WALK_DONE;
}

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

/* One group from the files or the cache. @return false: stop for now (full, reading, or at the
 * end) */
static bool catch_up_group(struct mr_bus *bus, struct mr__sub *sub)
{
    uint64_t position = next_position(bus, sub->cursor_position);
    if (position == UINT64_MAX) {
        return false;
    }
    sub->cursor_position = position;
    struct mr__segment *segment = mr__segment_of(bus, position);
    const uint8_t *head = mr__bytes_at(bus, position, MR_GROUP_HEADER_SIZE);
    if (head == NULL) {
        (void)mr__bytes_want(bus, position, MR_GROUP_HEADER_SIZE); /* refused: asked again later */
        return false;
    }
    struct mr_group_header header;
    if (mr_group_header_decode(head, segment->salt, &header) != MR_OK) {
        /* Rotten: on to the next block; the matches that stood here end lost at the end. */
        sub->cursor_position += MR_LOG_BLOCK;
        return true;
    }
    const uint8_t *data = mr__bytes_at(bus, position, header.size);
    if (data == NULL) {
        (void)mr__bytes_want(bus, position, header.size); /* refused: asked with the next step */
        return false;
    }
    if (walk_group(bus, sub, data, header.size, position) == WALK_FULL) {
        return false;
    }
    sub->cursor_position = position + header.padded;
    if (header.next_offset > sub->cursor_offset) {
        sub->cursor_offset = header.next_offset;
    }
    return true;
}

/* Everything written was read: what is in the stage is loaded too, then the subscription is live
 * again. Matches that were never found were in groups that rotted. */
static void become_live(struct mr_bus *bus, struct mr__sub *sub)
{
    if (bus->stage.size > 0) {
        sub->cursor_in_stage = true;
        bus->cursors_in_stage++;
        if (walk_group(bus, sub, bus->stage.data, bus->stage.size, 0) == WALK_FULL) {
            return;
        }
        sub->cursor_in_stage = false;
        bus->cursors_in_stage--;
    }
    if (sub->behind > 0) {
        sub->counts.lost += sub->behind;
        bus->lost_events += sub->behind;
        sub->behind = 0;
        mr__fanout_gone(bus, sub, MR_STATE_LOST, "its match could not be read back from the log");
        bus->ports.alarm(bus->ports.context,
                         "matches in damaged groups of the log could not be read: they end lost");
    }
    sub->live = true;
    bus->not_live--;
    mr_map_release(&sub->skip);
}

bool mr__catches_up(const struct mr_bus *bus, const struct mr__sub *sub)
{
    if (sub->live || bus->faulty || sub->conf == NULL) {
        return false;
    }
    if (sub->deliveries.count == 0) {
        return true;
    }
    /* Not for every freed place: a chunk is read for a quarter of the window at least. */
    return !sub->barred && sub->window_bytes <= sub->conf->window_size / 4 * 3;
}

void mr__catch_up(struct mr_bus *bus)
{
    for (uint32_t i = 0; i < bus->sub_count && bus->not_live > 0; i++) {
        struct mr__sub *sub = bus->subs[i];
        if (!mr__catches_up(bus, sub)) {
            continue;
        }
        sub->barred = false;
        if (sub->cursor_in_stage) {
            bus->cursors_in_stage--;
            sub->cursor_in_stage = false;
            become_live(bus, sub);
            continue;
        }
        uint32_t groups = 0;
        while (groups < 64 && catch_up_group(bus, sub)) {
            groups++;
        }
        if (next_position(bus, sub->cursor_position) == UINT64_MAX) {
            become_live(bus, sub);
        }
    }
}
