/* Checkpoints: the whole delivery state at the end of one group, in two slots written in turn.
 * Either slot alone is enough: the other may be torn, old or missing.
 *
 *     0  u64 magic "MRCKPT01"      40  u64 sequence of the last group that is in it
 *     8  u32 version 2, 3 or 4     48  u64 size of the file
 *    12  u32 checksum of the body  56  u32 header checksum of that group (the chain)
 *    16  u64 generation            60  u32 checksum of bytes 0..59
 *    24  u64 log id                64  body
 *    32  u64 position behind that group
 *
 * The body is what save_state() writes, in that order; docs/log-format.md lists it. It is built
 * when its group is submitted and written once that group is durable. */
#include "bus/checkpoint.h"
#include "bus/internal.h"

#include <stdlib.h>

#include "core/alloc.h"
#include "core/hash.h"

#define CHECKPOINT_SIZE_MAX (4ull << 30)

/* --- writing ---------------------------------------------------------------------------------- */

struct saver {
    struct mr_buf buf;
    enum mr_status status;
};

static void put64(struct saver *s, uint64_t v)
{
    uint8_t le[8];
    mr_put_u64(le, v);
    if (s->status == MR_OK) {
        s->status = mr_buf_append(&s->buf, le, sizeof(le));
    }
}

static void put_text(struct saver *s, struct mr_bytes text)
{
    put64(s, text.size);
    if (s->status == MR_OK) {
        s->status = mr_buf_append_bytes(&s->buf, text);
    }
}

static enum mr__saved saved_where(const struct mr__delivery *d)
{
    /* An end that is decided and not logged is decided again after a crash. */
    bool ending = d->where == MR__ENDING && d->ending != NULL;
    switch ((enum mr__where)(ending ? d->ending->where : d->where)) {
    case MR__WAITING:
    case MR__DELAYED:
        return MR__SAVED_WAITING;
    case MR__ARMED:
    case MR__QUEUED:
    case MR__FLIGHT:
        return MR__SAVED_BEGUN;
    case MR__HELD:
        return MR__SAVED_HELD;
    case MR__READY:
    case MR__BLOCKED:
    case MR__ENDING:
    case MR__WHERE_MAX:
        break;
    }
    return MR__SAVED_READY;
}

static int by_offset(const void *a, const void *b)
{
    const struct mr__delivery *const *x = a;
    const struct mr__delivery *const *y = b;
    return (*x)->offset < (*y)->offset ? -1 : (*x)->offset > (*y)->offset;
}

static void save_delivery(struct saver *s, const struct mr__delivery *d)
{
    put64(s, d->offset);
    put64(s, d->position);
    put64(s, d->lane == NULL ? 0 : d->lane->key);
    put64(s, d->arrival_ns);
    put64(s, d->expires_ns);
    put64(s, d->due_ns);
    put64(s, (uint64_t)d->size << 32 | d->fence);
    put64(s, (uint64_t)d->attempts << 48 | (uint64_t)d->refusals << 32 |
                 (uint64_t)d->interruptions << 16 | (uint64_t)saved_where(d) << 8 |
                 (d->alone ? 1u : 0u) | (d->ramp ? 2u : 0u) | (d->cancels ? 4u : 0u) |
                 (d->only_cancels ? 8u : 0u) | (uint64_t)d->level << 4);
    put_text(s, d->notes == NULL ? mr_bytes(NULL, 0) : mr_bytes(d->notes->data, d->notes->size));
}

static int by_number(const void *a, const void *b)
{
    const uint64_t *x = a;
    const uint64_t *y = b;
    return *x < *y ? -1 : *x > *y;
}

static void save_skip(struct saver *s, const struct mr__sub *sub)
{
    put64(s, sub->skip.count);
    uint64_t *keys = mr_alloc(sub->skip.count * sizeof(*keys));
    if (keys == NULL) {
        s->status = MR_E_NOMEM;
        return;
    }
    uint64_t n = 0;
    for (uint64_t i = 0; i < sub->skip.capacity; i++) {
        if (sub->skip.slots[i].key != 0) {
            keys[n++] = sub->skip.slots[i].key;
        }
    }
    if (n > 0) {
        qsort(keys, n, sizeof(*keys), by_number);
    }
    for (uint64_t i = 0; i < n; i++) {
        put64(s, keys[i]);
    }
    mr_free(keys);
}

static void save_sub(struct saver *s, const struct mr__sub *sub)
{
    put_text(s, mr_bytes_of(sub->name));
    put64(s, (sub->paused ? 1u : 0u) | (sub->live ? 2u : 0u));
    put64(s, sub->order_hash);
    put64(s, (uint64_t)sub->window_epoch << 16 | sub->order_epoch);
    put64(s, sub->removed_log_ns);
    put64(s, sub->counts.matched);
    put64(s, sub->counts.done);
    put64(s, sub->counts.dead);
    put64(s, sub->counts.dropped);
    put64(s, sub->counts.expired);
    put64(s, sub->counts.lost);
    put64(s, sub->behind);
    put64(s, sub->cursor_position);
    put64(s, sub->cursor_offset);
    save_skip(s, sub);
    put64(s, sub->dead_count);
    for (uint64_t i = 0; i < sub->dead_count; i++) {
        const struct mr_dead_letter *l = &sub->dead[i].letter;
        put64(s, l->offset);
        put64(s, l->event_position);
        put64(s, l->record_position);
        put64(s, l->died_log_ns);
        put64(s, (uint64_t)l->attempts << 32 | l->fence);
        put64(s, (uint64_t)l->level << 32 | l->event_size);
        put64(s, l->lane);
        put64(s, mr__dead_later(sub, &sub->dead[i]));
    }
    put64(s, sub->deliveries.count);
    struct mr__delivery **all = mr_alloc(sub->deliveries.count * sizeof(struct mr__delivery *));
    if (all == NULL) {
        s->status = MR_E_NOMEM;
        return;
    }
    uint64_t n = 0;
    for (uint64_t i = 0; i < sub->deliveries.capacity; i++) {
        if (sub->deliveries.slots[i].key != 0) {
            all[n++] = (struct mr__delivery *)(uintptr_t)sub->deliveries.slots[i].value;
        }
    }
    if (n > 0) {
        qsort(all, n, sizeof(struct mr__delivery *), by_offset);
    }
    for (uint64_t i = 0; i < n && s->status == MR_OK; i++) {
        save_delivery(s, all[i]);
    }
    mr_free(all);
}

static bool has_keys(const struct mr_bus *bus)
{
    return bus->seen_bytes > 0;
}

static void save_keys(struct saver *s, const struct mr__seen *seen)
{
    put64(s, seen->window_ns);
    put64(s, seen->limit);
    put64(s, seen->count);
    for (uint64_t i = 0; i < seen->count && s->status == MR_OK; i++) {
        const struct mr__seen_key *key = mr__seen_at(seen, i);
        uint8_t le[32]; /* in one piece: there may be many */
        mr_put_u64(le, key->key.low);
        mr_put_u64(le + 8, key->key.high);
        mr_put_u64(le + 16, key->offset);
        mr_put_u64(le + 24, key->log_ns);
        s->status = mr_buf_append(&s->buf, le, sizeof(le));
    }
}

static bool has_weights(const struct mr_bus *bus)
{
    bool any = false;
    for (uint32_t i = 0; i < bus->sub_count && !any; i++) {
        any = bus->subs[i]->returned_count > 0;
    }
    return any;
}

static void save_weights(struct saver *s, const struct mr_bus *bus)
{
    for (uint32_t i = 0; i < bus->sub_count; i++) {
        const struct mr__sub *sub = bus->subs[i];
        put64(s, sub->returned_count);
        for (uint32_t k = 0; k < sub->returned_count; k++) {
            put64(s, sub->returned[k].target);
            put64(s, sub->returned[k].hash);
        }
    }
}

static void save_fanouts(struct saver *s, const struct mr_bus *bus)
{
    put64(s, bus->fanout_count);
    for (uint32_t i = 0; i < bus->fanout_count; i++) {
        put_text(s, mr_bytes_of(bus->fanouts[i].name));
    }
    if (bus->fanout_count == 0) {
        return;
    }
    put64(s, bus->join_count);
    const struct mr__join *join = bus->join_first;
    for (; join != NULL && s->status == MR_OK; join = join->next) {
        put64(s, join->offset);
        put64(s, join->due_ns);
        put_text(s, mr_event_record(join->head));
        put64(s, (uint64_t)join->fanout << 32 | join->count);
        for (uint32_t i = 0; i < join->count; i++) {
            const struct mr__join_member *member = &join->members[i];
            put64(s, (uint64_t)member->sub << 32 | (uint64_t)member->attempts << 16 |
                         (uint64_t)member->state << 8 | (member->truncated ? 1u : 0u));
            put_text(s, mr_bytes(member->texts, member->reason_size));
            put_text(s, mr_bytes(member->texts == NULL ? NULL
                                                       : member->texts + member->reason_size,
                                 member->result_size));
        }
    }
}

/* Names alone are not worth a version: they are logged with the configuration that has them. */
static bool has_fanouts(const struct mr_bus *bus)
{
    bool has = bus->join_count > 0;
    for (uint32_t i = 0; i < bus->fanout_count; i++) {
        has = has || bus->fanouts[i].conf != NULL;
    }
    return has;
}

/* The lowest version that holds all there is. */
static uint32_t version_of(const struct mr_bus *bus)
{
    bool newest = has_fanouts(bus) || has_weights(bus);
    return newest ? MR__CHECKPOINT_VERSION : has_keys(bus) ? 3u : 2u;
}

static void save_state(struct saver *s, const struct mr_bus *bus)
{
    uint32_t version = version_of(bus);
    put64(s, bus->next_offset);
    put64(s, bus->log_ns);
    put64(s, bus->now.mono_ns);
    put64(s, bus->now.wall_ns);
    put64(s, bus->now.boot_id);
    put64(s, bus->clock_frozen);
    put64(s, bus->lost_events);
    put64(s, bus->config_hash_logged);
    put64(s, bus->segment_count);
    for (uint32_t i = 0; i < bus->segment_count; i++) {
        const struct mr__segment *g = &bus->segments[i];
        put64(s, g->number);
        put64(s, g->used);
        put64(s, g->first_offset);
        put64(s, g->wall_ns);
    }
    put64(s, bus->target_count);
    for (uint32_t i = 0; i < bus->target_count; i++) {
        put_text(s, mr_bytes_of(bus->targets[i]->name));
    }
    put64(s, bus->source_count);
    for (uint32_t i = 0; i < bus->source_count; i++) {
        put_text(s, mr_bytes_of(bus->sources[i]->name));
        put64(s, bus->sources[i]->cursor != NULL);
        put_text(s, mr_bytes_of(bus->sources[i]->cursor));
    }
    put64(s, bus->sub_count);
    for (uint32_t i = 0; i < bus->sub_count && s->status == MR_OK; i++) {
        save_sub(s, bus->subs[i]);
    }
    for (uint32_t i = 0; i < bus->source_count && version >= 3; i++) {
        save_keys(s, &bus->sources[i]->seen);
    }
    if (version >= 4) {
        save_fanouts(s, bus);
        save_weights(s, bus);
    }
}

void mr__checkpoint_build(struct mr_bus *bus, uint64_t sequence, uint64_t position)
{
    if (bus->checkpoint != NULL || bus->cursors_in_stage > 0) {
        return; /* one at a time; the next group tries again */
    }
    struct saver s = {.status = MR_OK};
    mr_buf_init(&s.buf, CHECKPOINT_SIZE_MAX);
    uint8_t head[MR__CHECKPOINT_HEAD_SIZE] = {0};
    struct mr_log_request *request = mr__request(bus, MR_LOG_CHECKPOINT);
    s.status = request == NULL ? MR_E_NOMEM : mr_buf_append(&s.buf, head, sizeof(head));
    save_state(&s, bus);
    if (s.status != MR_OK) {
        mr_buf_release(&s.buf);
        mr_free(request);
        bus->bytes_since_checkpoint /= 2; /* memory short: again later, the log alone is enough */
        return;
    }
    uint8_t *at = s.buf.data;
    memcpy(at, MR__CHECKPOINT_MAGIC, 8);
    mr_put_u32(at + 8, version_of(bus));
    mr_put_u32(at + 12,
               mr_crc32c(0, at + MR__CHECKPOINT_HEAD_SIZE, s.buf.size - MR__CHECKPOINT_HEAD_SIZE));
    mr_put_u64(at + 16, bus->checkpoint_generation + 1);
    mr_put_u64(at + 24, bus->log_id);
    mr_put_u64(at + 32, position);
    mr_put_u64(at + 40, sequence);
    mr_put_u64(at + 48, s.buf.size);
    mr_put_u32(at + 56, bus->previous_crc);
    mr_put_u32(at + 60, mr_crc32c(0, at, 60));
    request->buf = s.buf.data;
    request->size = s.buf.size;
    request->number = MR_PLANTED(ONE_SLOT) ? 0 : (bus->checkpoint_generation + 1) & 1;
    bus->checkpoint = request;
    bus->checkpoint_sequence = sequence;
    bus->checkpoint_pending_position = position;
    bus->bytes_since_checkpoint = 0;
}

void mr__checkpoint_group_durable(struct mr_bus *bus)
{
    uint64_t durable = mr__promised_sequence(bus);
    if (bus->checkpoint == NULL || bus->checkpoint_writing || bus->closing ||
        (bus->checkpoint_sequence > durable && !MR_PLANTED(CHECKPOINT_EARLY))) {
        return;
    }
    bus->checkpoint_writing = true;
    /* From here on this slot is neither what it was nor what it will be. */
    bus->checkpoint_slot_position[bus->checkpoint->number] = 0;
    mr__send(bus, bus->checkpoint);
}

void mr__checkpoint_done(struct mr_bus *bus, struct mr_log_request *request)
{
    MR_ASSERT(request == bus->checkpoint);
    if (request->result == MR_OK) {
        bus->checkpoint_generation++;
        bus->checkpoint_slot_position[request->number] = bus->checkpoint_pending_position;
        bus->checkpoint_position = bus->checkpoint_pending_position;
        bus->checkpoints++;
    } else if (request->result != MR_E_DISK_LOW && request->result != MR_E_NOMEM) {
        mr__fail(bus, "a checkpoint cannot be written", request->result);
    }
    mr_free(request->buf);
    mr_free(request);
    bus->checkpoint = NULL;
    bus->checkpoint_writing = false;
}
