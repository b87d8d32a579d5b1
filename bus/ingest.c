/* Events in: sequenced, appended with their matches, their deliveries loaded and, where a slot is
 * free, begun in the same group. */
#include "bus/internal.h"

#include <stdio.h>

#include "core/alloc.h"
#include "core/hash.h"

/* --- names ------------------------------------------------------------------------------------ */

void mr__name_log(struct mr_bus *bus, enum mr_name_kind kind, uint32_t id, const char *name)
{
    struct mr_record record = {
        .kind = MR_RECORD_NAME, .a = id, .b = (uint32_t)kind, .body = mr_bytes_of(name)};
    if (kind == MR_NAME_SUBSCRIPTION) {
        record.c = bus->subs[id]->order_hash;
        record.d = bus->subs[id]->order_epoch;
    }
    (void)mr__stage_record(bus, &record); /* where it lies does not matter */
}

static size_t name_size(const char *name)
{
    return mr_record_size(strlen(name));
}

enum mr_status mr__names_reserve(struct mr_bus *bus)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < bus->sub_count; i++) {
        bytes += name_size(bus->subs[i]->name);
    }
    for (uint32_t i = 0; i < bus->source_count; i++) {
        bytes += name_size(bus->sources[i]->name);
    }
    for (uint32_t i = 0; i < bus->target_count; i++) {
        bytes += name_size(bus->targets[i]->name);
    }
    for (uint32_t i = 0; i < bus->fanout_count; i++) {
        bytes += name_size(bus->fanouts[i].name);
    }
    return mr__stage_reserve(bus, bytes);
}

/* The pseudo-subscription that holds what a source sent and nobody could read. */
struct mr__sub *mr__ingest_sub(struct mr_bus *bus, uint32_t source)
{
    char name[MR_NAME_SIZE_MAX + 16];
    const char *source_name = source == MR_SOURCE_BUS ? "bus" : bus->sources[source]->name;
    (void)snprintf(name, sizeof(name), "ingest:%s", source_name); /* names are bounded */
    uint32_t id = mr__name_find(bus, MR_NAME_SUBSCRIPTION, name);
    if (id != UINT32_MAX) {
        return bus->subs[id];
    }
    if (mr__stage_reserve(bus, name_size(name)) != MR_OK) {
        return NULL;
    }
    struct mr__sub *sub = mr__sub_add(bus, name);
    if (sub != NULL) {
        mr__name_log(bus, MR_NAME_SUBSCRIPTION, sub->id, name);
    }
    return sub;
}

/* --- one event -------------------------------------------------------------------------------- */

static uint64_t append_event_record(struct mr_bus *bus, const struct mr_event *event,
                                    uint32_t source, uint32_t cause_sub, uint64_t cause_offset,
                                    uint64_t *ret_at)
{
    uint64_t offset = bus->next_offset;
    struct mr_record record = {
        .kind = MR_RECORD_EVENT,
        .offset = offset,
        .a = source,
        .b = cause_sub,
        .c = bus->log_ns,
        .d = cause_offset,
        .body_crc = event->crc,
        .body = mr_event_record(event),
    };
    *ret_at = mr__stage_record(bus, &record);
    bus->next_offset++; /* after the record: the stage's first offset is taken with it */
    return offset;
}

static void go_behind(struct mr_bus *bus, struct mr__sub *sub, uint64_t offset)
{
    sub->live = false;
    bus->not_live++;
    sub->cursor_in_stage = true;
    bus->cursors_in_stage++;
    sub->cursor_position = 0;
    sub->cursor_offset = offset;
}

/* One matched subscription: into the window if there is room, and begun if a slot is free.
 * @return the flags of its MATCH entry */
static uint32_t arrive(struct mr_bus *bus, struct mr__sub *sub, struct mr__arrival *arrival,
                       struct mr_event *event)
{
    sub->counts.matched++;
    struct mr__delivery *d = NULL;
    bool lane = arrival->lane != 0;
    if (sub->live && mr__window_has_room(bus, sub, sub->order_epoch, lane) &&
        mr__arrival_has_place(bus, sub, lane)) {
        sub->window_epoch = sub->order_epoch;
        arrival->arrival_ns = mr__age_start(sub, mr_event_record(event), bus->log_ns);
        d = mr__state_load(bus, sub, arrival);
    }
    if (d == NULL) {
        if (sub->live) {
            go_behind(bus, sub, arrival->offset);
        }
        sub->behind++;
        mr__shed_look(bus, sub);
        return 0;
    }
    mr__shed_note(d, mr_event_record(event));
    mr__stage_created(bus, d);
    const struct mr__share *share = mr__share_of(d);
    if (d->where == MR__READY && mr__ready_next(share) == d && mr__overtaken(d) == NULL &&
        mr__may_begin(bus, share)) {
        mr__arm(bus, d, 1, event);
        return MR_MATCH_BEGUN;
    }
    return 0;
}

uint64_t mr__event_append(struct mr_bus *bus, struct mr_event *event, uint32_t source,
                          uint32_t cause_sub, uint64_t cause_offset,
                          const struct mr_match *matches, uint32_t count)
{
    uint64_t at;
    uint64_t offset = append_event_record(bus, event, source, cause_sub, cause_offset, &at);
    bus->unmatched += count == 0;
    struct mr__group *stage = &bus->stage;
    size_t body_size = (size_t)count * MR_MATCH_ENTRY_SIZE;
    /* The entries are written in their place; the record is closed behind them. */
    uint8_t *entries = stage->data + stage->size + MR_RECORD_HEADER_SIZE;
    MR_ASSERT(stage->size + mr_record_size(body_size) <= stage->capacity);
    struct mr__arrival arrival = {.offset = offset, .position = at, .size = event->size};
    if (count > 0) {
        mr__arrival_times(&arrival, mr_event_record(event));
    }
    for (uint32_t i = 0; i < count; i++) {
        struct mr__sub *sub = bus->subs[matches[i].subscription];
        arrival.lane = matches[i].lane;
        arrival.level = matches[i].level > MR_PRIORITY_MAX ? MR_PRIORITY_MAX : matches[i].level;
        arrival.cancels = (uint8_t)((matches[i].cancels ? MR_MATCH_CANCELS : 0) |
                                    (matches[i].only_cancels ? MR_MATCH_ONLY_CANCELS : 0));
        uint32_t flags = arrival.cancels | arrive(bus, sub, &arrival, event);
        uint8_t *entry = entries + (size_t)i * MR_MATCH_ENTRY_SIZE;
        mr_put_u32(entry, sub->id);
        mr_put_u32(entry + 4, flags | (uint32_t)arrival.level << MR_MATCH_LEVEL_SHIFT |
                                  (uint32_t)sub->order_epoch << MR_MATCH_EPOCH_SHIFT);
        mr_put_u64(entry + 8, matches[i].lane);
    }
    struct mr_record record = {
        .kind = MR_RECORD_MATCH,
        .offset = offset,
        .a = count,
        .b = event->size,
        .c = bus->config_hash_logged,
        .body = mr_bytes(entries, body_size),
    };
    (void)mr__stage_record(bus, &record); /* found through its EVENT record */
    if (bus->join_prepared != NULL) {
        mr__fanout_open(bus, event, offset);
    }
    return offset;
}

uint64_t mr__event_append_rejected(struct mr_bus *bus, struct mr_event *event, uint32_t source,
                                   uint32_t ingest_sub, const char *reason)
{
    uint64_t at;
    uint64_t offset = append_event_record(bus, event, source, UINT32_MAX, 0, &at);
    struct mr__sub *sub = bus->subs[ingest_sub];
    struct mr_result result = {
        .verdict = MR_VERDICT_DEAD,
        .exit_code = -1,
        .error = mr_bytes_of(reason),
        .reason = MR_BYTES_LITERAL("cannot be normalised"),
    };
    struct mr_buf body;
    mr_buf_init(&body, 4096);
    if (mr_result_encode(&result, &body) != MR_OK) {
        mr_buf_clear(&body); /* memory short: a dead letter without its reason */
    }
    struct mr_record record = {
        .kind = MR_RECORD_DEAD,
        .extra = MR_STATE_DEAD,
        .offset = offset,
        .a = ingest_sub,
        .c = bus->now.wall_ns,
        .d = bus->now.wall_ns,
        .body = mr_buf_bytes(&body),
    };
    uint64_t record_at = mr__stage_record(bus, &record);
    mr_buf_release(&body);
    sub->counts.matched++;
    sub->counts.dead++;
    struct mr_dead_letter letter = {
        .offset = offset,
        .event_position = at,
        .record_position = record_at,
        .died_log_ns = bus->log_ns,
        .event_size = event->size,
    };
    mr__state_add_dead(bus, sub, &letter);
    mr__stage_dead(bus, ingest_sub, offset);
    return offset;
}

/* --- batches ---------------------------------------------------------------------------------- */

static void refuse(struct mr_bus *bus, struct mr_batch *batch, enum mr_status why)
{
    batch->op.next = NULL;
    batch->result = why;
    bus->ports.batch_done(bus->ports.context, batch);
}

/* Matches of another configuration are no good: match again with the present one, then turn
 * configuration indexes into subscription ids. */
static enum mr_status settle_matches(struct mr_bus *bus, struct mr_batch *batch)
{
    bool again = batch->generation != bus->generation;
    int64_t source = bus->sources[batch->source]->index;
    for (uint32_t i = 0; i < batch->count; i++) {
        struct mr_batch_item *item = &batch->items[i];
        if (item->rejected != NULL) {
            continue;
        }
        if (again) {
            enum mr_status r = mr_router_match(
                bus->router, source < 0 ? UINT32_MAX : (uint32_t)source,
                mr_event_record(item->event), &item->matches);
            if (r != MR_OK) {
                return r;
            }
        }
        for (uint32_t k = 0; k < item->matches.count; k++) {
            uint32_t index = item->matches.items[k].subscription;
            MR_ASSERT(index < bus->sub_of_index_count);
            item->matches.items[k].subscription = bus->sub_of_index[index];
        }
    }
    batch->generation = 0; /* ids now; 0 is no generation */
    return MR_OK;
}

void mr__pending_hold(struct mr_bus *bus)
{
    for (struct mr_batch *batch = bus->pending; batch != NULL;
         batch = (struct mr_batch *)batch->op.next) {
        if (batch->addressed && batch->generation == bus->generation) {
            enum mr_status r = settle_matches(bus, batch); /* ids outlive the configuration */
            MR_ASSERT(r == MR_OK); /* nothing is matched again */
        }
    }
}

void mr__pending_rematch(struct mr_bus *bus)
{
    for (struct mr_batch *batch = bus->pending; batch != NULL;
         batch = (struct mr_batch *)batch->op.next) {
        if (!batch->addressed) {
            batch->generation = UINT64_MAX; /* none: matched by what was before */
            continue;
        }
        for (uint32_t i = 0; i < bus->sub_of_index_count; i++) {
            for (uint32_t k = 0; k < batch->count; k++) {
                struct mr_batch_item *item = &batch->items[k];
                if (item->matches.count > 0 &&
                    item->matches.items[0].subscription == bus->sub_of_index[i]) {
                    struct mr_bytes record = mr_event_record(item->event);
                    item->matches.items[0].lane = mr_router_lane(bus->router, i, record);
                    item->matches.items[0].level = mr_router_level(bus->router, i, record);
                }
            }
        }
    }
}

static bool has_keys(const struct mr_batch_item *item)
{
    return mr_dedupe_key_is_set(&item->keys[0]) || mr_dedupe_key_is_set(&item->keys[1]);
}

static size_t batch_bytes(const struct mr_bus *bus, const struct mr_batch *batch)
{
    size_t bytes = batch->cursor == NULL ? 0 : mr_record_size(strlen(batch->cursor));
    for (uint32_t i = 0; i < batch->count; i++) {
        const struct mr_batch_item *item = &batch->items[i];
        bytes += mr_record_size(item->event->size) +
                 mr_record_size((size_t)item->matches.count * MR_MATCH_ENTRY_SIZE);
        if (item->rejected != NULL) {
            bytes += mr_record_size(256 + strlen(item->rejected)) + mr_record_size(128);
        }
        bytes += mr__fanout_size(bus, item->matches.count);
        bytes += has_keys(item) ? MR_DEDUPE_BY_MAX * mr_record_size(0) : 0;
    }
    return bytes;
}

/* An event that is addressed is meant, however often it came before. */
static bool dedupes(const struct mr_bus *bus, const struct mr_batch *batch)
{
    return bus->sources[batch->source]->seen.window_ns > 0 && !batch->addressed;
}

static void reserve_arrivals(struct mr_bus *bus, const struct mr_batch *batch)
{
    mr__arrivals_begin(bus);
    for (uint32_t i = 0; i < batch->count; i++) {
        if (batch->items[i].rejected == NULL) {
            mr__arrivals_wish(bus, &batch->items[i].matches);
        }
    }
    for (uint32_t i = 0; i < batch->count; i++) {
        if (batch->items[i].rejected == NULL) {
            mr__arrivals_reserve(bus, &batch->items[i].matches);
        }
    }
}

static enum mr_status reserve_batch(struct mr_bus *bus, struct mr_batch *batch, size_t bytes,
                                    char **ret_cursor)
{
    enum mr_status r = mr__stage_reserve(bus, bytes);
    uint32_t matches = 0;
    uint32_t rejected = 0;
    mr__fanout_forget(bus);
    for (uint32_t i = 0; i < batch->count && r == MR_OK; i++) {
        struct mr_batch_item *item = &batch->items[i];
        if (item->rejected != NULL) {
            struct mr__sub *sub = mr__ingest_sub(bus, batch->source);
            r = sub == NULL || !mr__memory_has_dead(bus, sub, ++rejected)
                    ? MR_E_NOMEM
                    : mr__state_reserve_dead_more(bus, sub, rejected);
            continue;
        }
        if (has_keys(item) && dedupes(bus, batch)) {
            r = mr__seen_reserve(bus, &bus->sources[batch->source]->seen);
        }
        matches += item->matches.count;
        if (r == MR_OK && !batch->addressed) { /* else it is meant for one alone */
            r = mr__fanout_prepare(bus, item->event, item->matches.items, item->matches.count, 0);
        }
    }
    if (r == MR_OK) {
        reserve_arrivals(bus, batch);
        r = mr__stage_reserve_created(bus, matches);
    }
    if (r == MR_OK) {
        r = mr__stage_reserve_dead(bus, rejected);
    }
    if (r == MR_OK && batch->cursor != NULL) {
        *ret_cursor = mr_strdup(batch->cursor);
        r = *ret_cursor == NULL ? MR_E_NOMEM : MR_OK;
    }
    return r;
}

/* @return false: it is no repeat */
static bool is_repeat(struct mr_bus *bus, struct mr_batch *batch, struct mr_batch_item *item)
{
    struct mr__seen *seen = &bus->sources[batch->source]->seen;
    uint64_t first = 0;
    for (uint32_t k = 0; k < MR_DEDUPE_BY_MAX && first == 0; k++) {
        if (mr_dedupe_key_is_set(&item->keys[k])) {
            first = mr__seen_find(bus, seen, &item->keys[k]);
        }
    }
    if (first == 0) {
        return false;
    }
    item->offset = first;
    item->duplicate = true;
    batch->duplicates++;
    bus->sources[batch->source]->duplicates++;
    return true;
}

static void remember(struct mr_bus *bus, struct mr_batch *batch, const struct mr_batch_item *item)
{
    struct mr__seen *seen = &bus->sources[batch->source]->seen;
    for (uint32_t k = 0; k < MR_DEDUPE_BY_MAX; k++) {
        if (!mr_dedupe_key_is_set(&item->keys[k])) {
            continue;
        }
        struct mr_record record = {
            .kind = MR_RECORD_KEY,
            .flags = MR_RECORD_SKIPPABLE,
            .extra = (uint16_t)((seen->wanted + 999) / 1000),
            .offset = item->offset,
            .a = batch->source,
            .b = (uint32_t)(seen->window_ns / MR_MS),
            .c = item->keys[k].low,
            .d = item->keys[k].high,
        };
        (void)mr__stage_record(bus, &record); /* its place does not matter */
        const struct mr__seen_key key = {
            .key = item->keys[k], .offset = item->offset, .log_ns = bus->log_ns};
        bus->sources[batch->source]->keys_early += mr__seen_enter(bus, seen, &key);
    }
}

static void wait_with(struct mr__group *group, struct mr_batch *batch)
{
    batch->op.next = NULL;
    if (group->batches_last != NULL) {
        group->batches_last->op.next = &batch->op;
    } else {
        group->batches = batch;
    }
    group->batches_last = batch;
}

/* Nothing but repeats: answered once the last of what they repeat is durable. */
static void answer_repeats(struct mr_bus *bus, struct mr_batch *batch)
{
    uint64_t last = 0;
    for (uint32_t i = 0; i < batch->count; i++) {
        last = batch->items[i].offset > last ? batch->items[i].offset : last;
    }
    if (MR_PLANTED(REPEAT_EARLY)) {
        mr__batch_answer(bus, batch, MR_OK);
    } else if (bus->stage.size > 0 && last >= bus->stage.first_offset) {
        wait_with(&bus->stage, batch);
    } else if (bus->writing && last >= bus->flight.first_offset) {
        wait_with(&bus->flight, batch);
    } else {
        mr__batch_answer(bus, batch, MR_OK);
    }
}

static void append_batch(struct mr_bus *bus, struct mr_batch *batch, char *cursor)
{
    bool asks = dedupes(bus, batch);
    batch->duplicates = 0;
    for (uint32_t i = 0; i < batch->count; i++) {
        struct mr_batch_item *item = &batch->items[i];
        bool has_key = asks && item->rejected == NULL && has_keys(item);
        if (has_key && is_repeat(bus, batch, item)) {
            continue;
        }
        if (item->rejected != NULL) {
            struct mr__sub *sub = mr__ingest_sub(bus, batch->source);
            MR_ASSERT(sub != NULL);
            item->offset = mr__event_append_rejected(bus, item->event, batch->source, sub->id,
                                                     item->rejected);
        } else {
            item->offset = mr__event_append(bus, item->event, batch->source, UINT32_MAX, 0,
                                            item->matches.items, item->matches.count);
        }
        if (has_key) {
            remember(bus, batch, item);
        }
    }
    if (cursor != NULL) {
        struct mr_record record = {
            .kind = MR_RECORD_CURSOR, .a = batch->source, .body = mr_bytes_of(cursor)};
        (void)mr__stage_record(bus, &record); /* the last one of a source counts */
        mr_free(bus->sources[batch->source]->cursor);
        bus->sources[batch->source]->cursor = cursor;
    }
    if (cursor == NULL && batch->duplicates == batch->count) {
        answer_repeats(bus, batch);
    } else {
        wait_with(&bus->stage, batch);
    }
}

/* @return false: no room now, it stays pending */
static bool take_batch(struct mr_bus *bus, struct mr_batch *batch)
{
    if (bus->faulty || bus->draining || bus->slow_told) {
        refuse(bus, batch, bus->faulty     ? MR_E_FAULTY
                           : bus->draining ? MR_E_CLOSED
                                           : MR_E_DISK_LOW);
        return true;
    }
    if (batch->count == 0 && batch->cursor == NULL) {
        refuse(bus, batch, MR_OK);
        return true;
    }
    enum mr_status r = batch->generation == 0 ? MR_OK : settle_matches(bus, batch);
    size_t bytes = batch_bytes(bus, batch);
    if (r == MR_OK && bytes + MR_GROUP_HEADER_SIZE > mr__group_size_max(bus)) {
        r = MR_E_TOO_BIG;
    }
    bool full = bus->stage.size > 0 && bus->stage.size + bytes > bus->options.group_size_soft;
    if (r == MR_OK && (full || !mr__segment_takes_events(bus, bytes))) {
        return false;
    }
    char *cursor = NULL;
    if (r == MR_OK) {
        r = reserve_batch(bus, batch, bytes, &cursor);
    }
    if (r == MR_E_FULL) {
        mr_free(cursor);
        return false;
    }
    if (r != MR_OK) {
        mr_free(cursor);
        refuse(bus, batch, r);
        return true;
    }
    append_batch(bus, batch, cursor);
    return true;
}

void mr_bus_ingest(struct mr_bus *bus, struct mr_now now, struct mr_batch *batch)
{
    mr__clock_advance(bus, now);
    MR_ASSERT(batch->source < bus->source_count);
    if (bus->pending == NULL && take_batch(bus, batch)) {
        mr__stage_submit_large(bus);
        return;
    }
    if (MR_PLANTED(CURSOR_AHEAD) && batch->cursor != NULL &&
        mr__stage_reserve(bus, mr_record_size(strlen(batch->cursor))) == MR_OK) {
        struct mr_record record = {
            .kind = MR_RECORD_CURSOR, .a = batch->source, .body = mr_bytes_of(batch->cursor)};
        (void)mr__stage_record(bus, &record); /* planted */
    }
    batch->op.next = NULL;
    if (bus->pending_last != NULL) {
        bus->pending_last->op.next = &batch->op;
    } else {
        bus->pending = batch;
    }
    bus->pending_last = batch;
}

void mr__ingest_pending(struct mr_bus *bus)
{
    while (bus->pending != NULL) {
        struct mr_batch *batch = bus->pending;
        struct mr_batch *next = (struct mr_batch *)batch->op.next;
        if (!take_batch(bus, batch)) {
            return;
        }
        bus->pending = next;
        if (next == NULL) {
            bus->pending_last = NULL;
        }
    }
}

/* --- when the disk is short ------------------------------------------------------------------- */

void mr__flow_update(struct mr_bus *bus)
{
    bool slow = bus->faulty || bus->disk_low || mr__log_bytes(bus) > bus->options.log.max_size;
    if (slow != bus->slow_told) {
        bus->slow_told = slow;
        bus->ports.slow(bus->ports.context, slow);
    }
}

void mr_bus_disk(struct mr_bus *bus, struct mr_now now, uint64_t free_bytes, uint64_t total_bytes)
{
    mr__clock_advance(bus, now);
    bus->disk_free = free_bytes;
    /* A disk smaller than twice the limit is judged by a tenth of itself. */
    uint64_t limit = bus->options.log.disk_low;
    if (total_bytes / 2 < limit) {
        limit = total_bytes / 10;
    }
    bool segment_ready = (int64_t)bus->segment_count > bus->current + 1;
    bool was_low = bus->disk_low;
    uint64_t wanted = limit + (segment_ready ? 0 : bus->options.log.segment_size);
    bus->disk_low = free_bytes < (was_low ? wanted : limit);
    bus->disk_short = bus->disk_low ? wanted - free_bytes : 0;
    mr__flow_update(bus);
}
