/* The group being gathered and the one being written.
 *
 * Group commit without a timer: records gather in the stage while a write is in flight; when it
 * returns, the stage becomes the next one. A group never shares a block with another. */
#include "bus/internal.h"

#include <stdio.h>

#include "core/alloc.h"
#include "core/hash.h"

#define STAGE_FIRST_CAPACITY (64u * MR_KIB)
#define STAGE_LARGE (128u * MR_KIB) /* a write of it costs half as much again as one of a block */
#define STAGE_GUESS_MAX (1u * MR_MIB)

/* --- requests -------------------------------------------------------------------------------- */

struct mr_log_request *mr__request(struct mr_bus *bus, enum mr_log_io kind)
{
    (void)bus;
    struct mr_log_request *request = mr_calloc(1, sizeof(*request));
    if (request != NULL) {
        request->kind = kind;
        request->file = -1;
    }
    return request;
}

void mr__send(struct mr_bus *bus, struct mr_log_request *request)
{
    bus->io_pending++;
    bus->ports.io(bus->ports.context, request);
}

void mr__fail(struct mr_bus *bus, const char *what, enum mr_status status)
{
    if (bus->faulty) {
        return;
    }
    bus->faulty = true;
    char text[256];
    (void)snprintf(text, sizeof(text),
                   "the log is faulty: %s: %s; nothing more is acknowledged, restart once the disk "
                   "is mended",
                   what, mr_status_text(status)); /* cut at worst */
    bus->ports.alarm(bus->ports.context, text);
    mr__flow_update(bus);
}

/* The last sequence that a crash cannot take back; under `never` nothing is promised, and what was
 * written counts. */
uint64_t mr__promised_sequence(const struct mr_bus *bus)
{
    return bus->options.log.sync == MR_SYNC_INTERVAL ? bus->synced_sequence
                                                     : bus->durable_sequence;
}

/* --- gathering -------------------------------------------------------------------------------- */

size_t mr__group_size_max(const struct mr_bus *bus)
{
    return (size_t)bus->options.log.segment_size - MR_LOG_BLOCK;
}

enum mr_status mr__stage_reserve(struct mr_bus *bus, size_t bytes)
{
    struct mr__group *stage = &bus->stage;
    size_t have = stage->size == 0 ? MR_GROUP_HEADER_SIZE : stage->size;
    size_t need = (size_t)mr_round_up(have + bytes, MR_LOG_BLOCK);
    if (need > mr__group_size_max(bus)) {
        return MR_E_FULL;
    }
    if (need <= stage->capacity) {
        return MR_OK;
    }
    size_t capacity = stage->capacity == 0 ? STAGE_FIRST_CAPACITY : stage->capacity;
    size_t least = need;
    if (stage->capacity == 0 && bus->flight.padded > need) {
        /* Likely as large as the group before: growing to that copies it nearly twice. */
        least = bus->flight.padded < STAGE_GUESS_MAX ? bus->flight.padded : STAGE_GUESS_MAX;
        least = least < need ? need : least;
    }
    while (capacity < least) {
        capacity *= 2;
    }
    uint8_t *data = mr_alloc_aligned(MR_LOG_BLOCK, capacity);
    if (data == NULL) {
        return MR_E_NOMEM;
    }
    if (stage->size > 0) {
        memcpy(data, stage->data, stage->size);
    }
    mr_free(stage->data);
    stage->data = data;
    stage->capacity = capacity;
    return MR_OK;
}

uint64_t mr__stage_record(struct mr_bus *bus, const struct mr_record *record)
{
    struct mr__group *stage = &bus->stage;
    if (stage->size == 0) {
        stage->size = MR_GROUP_HEADER_SIZE;
        stage->records = 0;
        stage->records_crc = 0;
        stage->first_offset = bus->next_offset;
        stage->since_ns = bus->now.mono_ns;
        stage->urgent = false;
    }
    if (record->kind != MR_RECORD_SETTLE && record->kind != MR_RECORD_RETRY &&
        record->kind != MR_RECORD_ATTEMPT && record->kind != MR_RECORD_MOVED) {
        stage->urgent = true;
    }
    size_t at = stage->size;
    size_t size = mr_record_size(record->body.size);
    MR_ASSERT(at + size <= stage->capacity);
    uint8_t le[4];
    mr_put_u32(le, mr_record_encode(record, stage->data + at));
    stage->records_crc = mr_crc32c(stage->records_crc, le, sizeof(le));
    stage->records++;
    mr__sketch_note(bus, record);
    stage->size += size;
    return at;
}

enum mr_status mr__stage_reserve_created(struct mr_bus *bus, uint32_t more)
{
    struct mr__group *stage = &bus->stage;
    uint32_t need = stage->created_count + more;
    if (need <= stage->created_capacity) {
        return MR_OK;
    }
    uint32_t capacity = stage->created_capacity == 0 ? 64 : stage->created_capacity;
    while (capacity < need) {
        capacity *= 2;
    }
    struct mr__delivery **grown =
        mr_realloc(stage->created, capacity * sizeof(struct mr__delivery *));
    if (grown == NULL) {
        return MR_E_NOMEM;
    }
    stage->created = grown;
    stage->created_capacity = capacity;
    return MR_OK;
}

enum mr_status mr__stage_reserve_dead(struct mr_bus *bus, uint32_t more)
{
    struct mr__group *stage = &bus->stage;
    uint32_t need = stage->dead_count + more;
    if (need <= stage->dead_capacity) {
        return MR_OK;
    }
    uint32_t capacity = need * 2;
    struct mr__dead_ref *grown = mr_realloc(stage->dead, capacity * sizeof(*grown));
    if (grown == NULL) {
        return MR_E_NOMEM;
    }
    stage->dead = grown;
    stage->dead_capacity = capacity;
    return MR_OK;
}

void mr__stage_dead(struct mr_bus *bus, uint32_t sub, uint64_t offset)
{
    MR_ASSERT(bus->stage.dead_count < bus->stage.dead_capacity);
    bus->stage.dead[bus->stage.dead_count++] = (struct mr__dead_ref){offset, sub};
}

void mr__stage_created(struct mr_bus *bus, struct mr__delivery *d)
{
    MR_ASSERT(bus->stage.created_count < bus->stage.created_capacity);
    d->in_stage = true;
    bus->stage.created[bus->stage.created_count++] = d;
}

void mr__stage_forget(struct mr_bus *bus, struct mr__delivery *d)
{
    for (uint32_t i = bus->stage.created_count; i-- > 0;) {
        if (bus->stage.created[i] == d) {
            bus->stage.created[i] = NULL;
            break;
        }
    }
    d->in_stage = false;
}

/* --- writing ---------------------------------------------------------------------------------- */

static void log_names(struct mr_bus *bus)
{
    for (uint32_t i = 0; i < bus->sub_count; i++) {
        mr__name_log(bus, MR_NAME_SUBSCRIPTION, i, bus->subs[i]->name);
    }
    for (uint32_t i = 0; i < bus->source_count; i++) {
        mr__name_log(bus, MR_NAME_SOURCE, i, bus->sources[i]->name);
    }
    for (uint32_t i = 0; i < bus->target_count; i++) {
        mr__name_log(bus, MR_NAME_TARGET, i, bus->targets[i]->name);
    }
    for (uint32_t i = 0; i < bus->fanout_count; i++) {
        mr__name_log(bus, MR_NAME_FANOUT, i, bus->fanouts[i].name);
    }
    bus->names_due = false;
}

/* Each segment has the configuration that its events were matched by, so that the snapshot is there
 * as long as they are. One too large for the room that is left waits for the next group. */
static void log_config(struct mr_bus *bus)
{
    struct mr_bytes json = mr_bytes_of(bus->config->canonical_json);
    if (mr__stage_reserve(bus, mr_record_size(json.size)) == MR_OK) {
        struct mr_record record = {
            .kind = MR_RECORD_CONFIG, .c = bus->config_hash_logged, .body = json};
        (void)mr__stage_record(bus, &record); /* found by its hash */
        bus->config_due = false;
    }
}

/* A position whose segment is 0 is a byte in the stage: segments are numbered from 1. */
static void settle_letter(struct mr_bus *bus, struct mr__sub *sub, struct mr_dead_letter *l,
                          uint64_t base)
{
    if (mr__dead_is_staged(l)) {
        sub->dead_staged--;
        l->record_position += base;
        mr__segment_live(bus, l->record_position, 1);
    }
    if (mr_position_segment(l->event_position) == 0) {
        l->event_position += base;
        mr__segment_live(bus, l->event_position, 1);
    }
}

/* Positions become absolute now that the group has its place. */
static void settle_positions(struct mr_bus *bus, struct mr__group *group)
{
    for (uint32_t i = 0; i < group->created_count; i++) {
        struct mr__delivery *d = group->created[i];
        if (d != NULL) {
            d->position += group->position;
            d->in_stage = false;
            mr__segment_live(bus, d->position, 1);
        }
    }
    group->created_count = 0;
    for (uint32_t i = 0; i < group->dead_count; i++) {
        struct mr__sub *sub = bus->subs[group->dead[i].sub];
        int64_t at = mr__dead_find(sub, group->dead[i].offset);
        if (at >= 0) {
            settle_letter(bus, sub, &sub->dead[at].letter, group->position);
        }
    }
    group->dead_count = 0;
    for (uint32_t i = 0; i < bus->sub_count && bus->cursors_in_stage > 0; i++) {
        struct mr__sub *sub = bus->subs[i];
        if (sub->cursor_in_stage) {
            sub->cursor_in_stage = false;
            sub->cursor_position = group->position;
            bus->cursors_in_stage--;
        }
    }
}

static void encode_header(struct mr_bus *bus, struct mr__group *group, uint64_t salt)
{
    struct mr_group_header header = {
        .salt = salt,
        .sequence = group->sequence,
        .durable = bus->options.log.sync == MR_SYNC_ALWAYS ? bus->durable_sequence
                                                           : bus->synced_sequence,
        .first_offset = group->first_offset,
        .next_offset = bus->next_offset,
        .wall_ns = bus->now.wall_ns,
        .mono_ns = bus->now.mono_ns,
        .boot_id = bus->now.boot_id,
        .log_ns = bus->log_ns,
        .size = (uint32_t)group->size,
        .padded = group->padded,
        .records = group->records,
        .previous_crc = bus->previous_crc,
        .records_crc = group->records_crc,
        .flags = (uint32_t)bus->options.log.sync,
        .checkpoint = bus->checkpoint_position,
    };
    mr_group_header_encode(&header, group->data);
    bus->previous_crc = header.crc;
}

void mr__batch_answer(struct mr_bus *bus, struct mr_batch *batch, enum mr_status result)
{
    static const enum mr_durability durable[] = {
        [MR_SYNC_ALWAYS] = MR_DURABLE_DISK,
        [MR_SYNC_INTERVAL] = MR_DURABLE_INTERVAL,
        [MR_SYNC_NEVER] = MR_DURABLE_NEVER,
    };
    batch->op.next = NULL;
    batch->result = result;
    batch->durable = durable[bus->options.log.sync];
    bus->ports.batch_done(bus->ports.context, batch);
}

static void answer_batches(struct mr_bus *bus, struct mr__group *group, enum mr_status result)
{
    struct mr_batch *batch = group->batches;
    group->batches = NULL;
    group->batches_last = NULL;
    while (batch != NULL) {
        struct mr_batch *next = (struct mr_batch *)batch->op.next;
        mr__batch_answer(bus, batch, result);
        batch = next;
    }
}

void mr__stage_refuse(struct mr_bus *bus)
{
    MR_ASSERT(bus->faulty);
    answer_batches(bus, &bus->stage, MR_E_FAULTY);
}

/* The attempts of a durable group wait for their targets now. */
static void queue_armed(struct mr__group *group)
{
    while (group->armed.first != NULL) {
        struct mr__delivery *d = group->armed.first;
        mr__list_remove(d);
        MR_ASSERT(d->where == MR__ARMED);
        mr__set_where(d, MR__QUEUED);
        mr__list_push(&mr__share_of(d)->target->queue, d);
    }
}

uint64_t mr__stage_due_ns(const struct mr_bus *bus)
{
    const struct mr__group *stage = &bus->stage;
    if (stage->size == 0 || bus->writing || bus->faulty) {
        return UINT64_MAX;
    }
    bool now = stage->urgent || bus->draining || stage->size >= STAGE_LARGE;
    return now ? 0 : stage->since_ns + bus->options.linger_ns;
}

void mr__stage_submit(struct mr_bus *bus)
{
    if (mr__stage_due_ns(bus) > bus->now.mono_ns) {
        return;
    }
    if (bus->names_due && mr__names_reserve(bus) == MR_OK) {
        log_names(bus);
    }
    if (bus->config_due && bus->config != NULL) {
        log_config(bus);
    }
    uint32_t padded = (uint32_t)mr_round_up(bus->stage.size, MR_LOG_BLOCK);
    struct mr__segment *segment = mr__segment_for(bus, padded);
    if (segment == NULL) {
        return;
    }
    struct mr__group done = bus->flight; /* its memory is the next stage's */
    bus->flight = bus->stage;
    bus->stage = (struct mr__group){.created = done.created,
                                    .created_capacity = done.created_capacity,
                                    .dead = done.dead,
                                    .dead_capacity = done.dead_capacity};
    struct mr__group *group = &bus->flight;
    for (struct mr__delivery *d = group->armed.first; d != NULL; d = d->next) {
        d->list = &group->armed; /* the list head moved */
    }
    group->padded = padded;
    group->sequence = bus->next_sequence++;
    group->position = mr_position(segment->number, segment->used);
    mr__sketch_group(bus, segment, segment->used);
    memset(group->data + group->size, 0, padded - group->size);
    encode_header(bus, group, segment->salt);
    segment->used += padded;
    segment->wall_ns = bus->now.wall_ns;
    settle_positions(bus, group);
    bus->bytes_since_checkpoint += padded;
    bus->writing = true;
    bus->write_request = (struct mr_log_request){
        .kind = MR_LOG_WRITE,
        .file = segment->file,
        .number = segment->number,
        .at = mr_position_at(group->position),
        .buf = group->data,
        .size = padded,
    };
    if (MR_PLANTED(ACK_EARLY)) {
        answer_batches(bus, group, MR_OK);
    }
    mr__send(bus, &bus->write_request);
    if (MR_PLANTED(HAND_OUT_EARLY)) {
        queue_armed(group);
    }
    if (mr__checkpoint_is_due(bus)) {
        mr__checkpoint_begin(bus);
    }
    mr__checkpoint_run(bus);
}

void mr__stage_submit_large(struct mr_bus *bus)
{
    if (!bus->writing && bus->stage.size >= STAGE_LARGE) {
        mr__stage_submit(bus);
    }
}

/* --- written ---------------------------------------------------------------------------------- */


void mr__stage_written(struct mr_bus *bus, struct mr_log_request *request)
{
    struct mr__group *group = &bus->flight;
    if (MR_PLANTED(WRITE_AGAIN) && request->result != MR_OK && request->result_size == 0) {
        request->result_size = 1; /* once */
        mr__send(bus, request);
        return;
    }
    bus->writing = false;
    if (request->result != MR_OK) {
        mr__fail(bus, "a write failed", request->result);
    }
    if (bus->faulty) {
        answer_batches(bus, group, MR_E_FAULTY);
        return;
    }
    bus->durable_sequence = group->sequence;
    bus->groups_written++;
    bus->bytes_written += group->padded;
    bus->last_write_mono_ns = bus->now.mono_ns;
    bus->mark_wanted =
        group->records > 1 || group->data[MR_GROUP_HEADER_SIZE + 4] != MR_RECORD_MARK;
    answer_batches(bus, group, MR_OK);
    queue_armed(group);
    mr__cache_add(bus, group);
    mr__checkpoint_run(bus);
}

/* --- all requests ----------------------------------------------------------------------------- */

void mr_bus_io_done(struct mr_bus *bus, struct mr_now now, struct mr_log_request *request)
{
    mr__clock_advance(bus, now);
    MR_ASSERT(bus->io_pending > 0);
    bus->io_pending--;
    switch (request->kind) {
    case MR_LOG_WRITE:
        mr__stage_written(bus, request);
        break;
    case MR_LOG_SYNC:
        bus->syncing = false;
        if (request->result != MR_OK) {
            mr__fail(bus, "a sync failed", request->result);
        } else {
            bus->synced_sequence = request->at; /* the sequence it was sent for */
        }
        mr_free(request);
        break;
    case MR_LOG_PREPARE:
        mr__segment_prepared(bus, request);
        break;
    case MR_LOG_SPARE:
        mr__spare_made(bus, request);
        break;
    case MR_LOG_READ:
        mr__read_done(bus, request);
        break;
    case MR_LOG_CHECKPOINT:
        mr__checkpoint_done(bus, request);
        break;
    case MR_LOG_SEAL:
        bus->sealing--;
        bus->footers_idle = false;
        if (request->result != MR_OK) {
            mr__fail(bus, "a segment cannot be closed", request->result);
        }
        mr_free(request);
        break;
    case MR_LOG_COPY:
        mr__copied(bus, request);
        break;
    case MR_LOG_RETIRE:
        mr__segment_retired(bus, request);
        break;
    case MR_LOG_FOOTER:
    case MR_LOG_IDS:
        mr__footer_done(bus, request);
        break;
    case MR_LOG_SCRUB:
        mr__scrub_done(bus, request);
        break;
    }
}
