/* Checkpoints, written: the state of all deliveries, piece by piece, in two slots in turn.
 *
 * What is written must be true at one place of the log, and the core must not stand still for it.
 * So each section (checkpoint.h) is true at a place of its own: when its turn comes, with nothing
 * staged, the state is what the log says up to its end. A subscription that is too large for one
 * turn is saved over several: mr__snap_touch() saves what is about to change before it does.
 *
 * One chunk is outside at a time, and the head, which makes the slot valid, is written last, when
 * every group that is in it is durable: the other slot is whole all the while. */
#include "bus/checkpoint.h"
#include "bus/internal.h"

#include "core/alloc.h"
#include "core/hash.h"

#define CHUNK_SIZE_DEFAULT (256u * MR_KIB)
#define CHUNK_SIZE_MAX (1u << 30)
/* So many times what a checkpoint takes is logged before the next: what is written for it is a
 * fraction of the log, however much waits. */
#define PACE 8u
#define PACE_LEAST 2u /* the same, while disk is kept for the slots alone, or beyond: */
#define PACE_BYTES_MAX (192 * MR_MIB) /* a start reads them again, and takes a second at most */
#define IDLE_NS MR_SECOND /* without a write, and so long more as one takes at this rate: */
#define IDLE_RATE (4 * MR_MIB) /* bytes a second */

static void chunk_begins(struct mr__snap *snap)
{
    static const uint8_t head[MR__CHUNK_HEAD_SIZE] = {0};
    mr_buf_init(&snap->buf, CHUNK_SIZE_MAX);
    snap->failed = snap->failed || mr_buf_append(&snap->buf, head, sizeof(head)) != MR_OK;
    snap->continues = snap->in_section;
}

uint64_t mr__checkpoint_pace(const struct mr_bus *bus)
{
    /* What is on disk for the slots alone stays small beside what is kept anyhow. */
    bool pins = bus->pinned_bytes > (bus->options.log.retain_size + bus->keep_bytes) / 8;
    uint64_t least = bus->snap.last_size * PACE_LEAST;
    uint64_t pace = bus->snap.last_size * PACE;
    pace = pace < PACE_BYTES_MAX ? pace : PACE_BYTES_MAX;
    pace = pins || pace < least ? least : pace;
    return pace < bus->options.log.checkpoint_size ? bus->options.log.checkpoint_size : pace;
}

uint64_t mr__checkpoint_hasten_ns(const struct mr_bus *bus)
{
    const struct mr__snap *snap = &bus->snap;
    if (bus->pinned_bytes == 0 || snap->active || snap->request != NULL || bus->stage.size > 0 ||
        bus->current < 0 || bus->faulty || bus->closing) {
        return UINT64_MAX;
    }
    if (bus->slow_told) { /* at once, but for one that found the disk full itself */
        return snap->failed ? bus->checkpoint_ended_mono_ns + IDLE_NS : bus->now.mono_ns;
    }
    uint64_t takes = snap->last_size * (MR_SECOND / MR_MIB) / (IDLE_RATE / MR_MIB);
    uint64_t last = bus->last_write_mono_ns > bus->checkpoint_ended_mono_ns
                        ? bus->last_write_mono_ns
                        : bus->checkpoint_ended_mono_ns;
    return bus->writing ? UINT64_MAX : last + IDLE_NS + takes;
}

void mr__checkpoint_hasten(struct mr_bus *bus)
{
    if (bus->now.mono_ns >= mr__checkpoint_hasten_ns(bus)) {
        mr__checkpoint_begin(bus);
    }
}

bool mr__checkpoint_is_due(const struct mr_bus *bus)
{
    uint64_t pace = mr__checkpoint_pace(bus);
    return !bus->snap.active && bus->snap.request == NULL &&
           bus->bytes_since_checkpoint >= pace;
}

void mr__checkpoint_begin(struct mr_bus *bus)
{
    struct mr__snap *snap = &bus->snap;
    MR_ASSERT(!snap->active && snap->request == NULL);
    *snap = (struct mr__snap){
        .active = true,
        .generation = ++bus->checkpoint_generation,
        .turn = MR__SNAP_SUBS,
        .slot = MR_PLANTED(ONE_SLOT) ? 0 : bus->checkpoint_slot,
        .position = mr__snap_position(bus),
        .sequence = bus->next_sequence - 1,
        .previous_crc = bus->previous_crc,
        .last_sequence = bus->next_sequence - 1,
        .last_size = snap->last_size,
        .at = MR_LOG_BLOCK,
        .chunk_size = bus->options.checkpoint_chunk == 0 ? CHUNK_SIZE_DEFAULT
                                                         : bus->options.checkpoint_chunk,
    };
    /* No two have the same, also not one that a crash cut off and the next of that generation. */
    snap->stamp = mr_hash_u64(mr_hash_u64(snap->position ^ (uint64_t)snap->previous_crc << 32) +
                              mr_hash_u64(snap->sequence) + snap->generation);
    bus->bytes_since_checkpoint = 0;
    chunk_begins(snap);
    mr__snap_base(snap, bus);
}

/* What was begun and not saved is marked as if it were: the next one begins with all alike. */
static void give_up(struct mr_bus *bus)
{
    struct mr__snap *snap = &bus->snap;
    struct mr__sub *sub = snap->sub;
    if (sub != NULL) {
        for (struct mr__delivery *d = sub->oldest; d != NULL; d = d->newer) {
            d->snapped = sub->snapped;
        }
        for (uint64_t i = 0; i < sub->dead_count; i++) {
            sub->dead[i].letter.snapped = sub->snapped;
        }
        sub->snap = NULL;
    }
    for (struct mr__join *join = bus->join_first; join != NULL && snap->joins; join = join->next) {
        join->snapped = bus->joins_snapped;
    }
    mr_buf_release(&snap->buf);
    mr_map_release(&snap->settled);
    struct mr_log_request *request = snap->request;
    *snap = (struct mr__snap){.request = request, .last_size = snap->last_size, .failed = true};
    bus->checkpoint_ended_mono_ns = bus->now.mono_ns;
    bus->bytes_since_checkpoint = bus->options.log.checkpoint_size / 2; /* again a little later */
}

void mr__checkpoint_abandon(struct mr_bus *bus)
{
    if (bus->snap.active) {
        give_up(bus);
    }
}

static void send_chunk(struct mr_bus *bus)
{
    struct mr__snap *snap = &bus->snap;
    struct mr_log_request *request = mr__request(bus, MR_LOG_CHECKPOINT);
    if (request == NULL) {
        give_up(bus);
        return;
    }
    uint8_t *at = snap->buf.data;
    size_t size = snap->buf.size;
    mr_put_u32(at, MR__CHUNK_MAGIC);
    mr_put_u32(at + 4, (uint32_t)size);
    mr_put_u64(at + 8, snap->stamp);
    mr_put_u64(at + 16, bus->log_id);
    mr_put_u32(at + 24, snap->chunks);
    mr_put_u32(at + 28, snap->continues ? 1 : 0);
    mr_put_u32(at + 32, mr_crc32c(0, at + MR__CHUNK_HEAD_SIZE, size - MR__CHUNK_HEAD_SIZE));
    mr_put_u32(at + 60, mr_crc32c(0, at, 60));
    request->number = snap->slot;
    request->at = snap->at;
    request->buf = at;
    request->size = size;
    /* From here on this slot is neither what it was nor what it will be. */
    bus->checkpoint_slot_position[snap->slot] = 0;
    bus->checkpoint_slot_sequence[snap->slot] = 0;
    snap->chunks++;
    snap->content += size;
    snap->at += mr_round_up(size, MR_LOG_BLOCK);
    snap->request = request;
    chunk_begins(snap);
    mr__send(bus, request);
}

static void send_head(struct mr_bus *bus)
{
    struct mr__snap *snap = &bus->snap;
    struct mr_log_request *request = mr__request(bus, MR_LOG_CHECKPOINT);
    uint8_t *at = request == NULL ? NULL : mr_calloc(1, MR_LOG_BLOCK);
    if (at == NULL) {
        mr_free(request);
        give_up(bus);
        return;
    }
    memcpy(at, MR__CHECKPOINT_MAGIC, 8);
    mr_put_u32(at + 8, MR__CHECKPOINT_VERSION);
    mr_put_u32(at + 12, snap->chunks);
    mr_put_u64(at + 16, snap->generation);
    mr_put_u64(at + 24, bus->log_id);
    mr_put_u64(at + 32, snap->position);
    mr_put_u64(at + 40, snap->sequence);
    mr_put_u64(at + 48, snap->at);
    mr_put_u32(at + 56, snap->previous_crc);
    mr_put_u32(at + 60, mr_crc32c(0, at, 60));
    mr_put_u64(at + 64, snap->stamp);
    mr_put_u32(at + 72, mr_crc32c(0, at + 64, 8));
    request->number = snap->slot;
    request->buf = at;
    request->size = MR_LOG_BLOCK;
    request->file_size = snap->at;
    snap->request = request;
    mr__send(bus, request);
}

void mr__checkpoint_run(struct mr_bus *bus)
{
    struct mr__snap *snap = &bus->snap;
    if (!snap->active || snap->request != NULL || bus->closing || bus->faulty) {
        return;
    }
    if (snap->turn < MR__SNAP_DONE && bus->stage.size == 0) {
        mr__snap_save(snap, bus);
    }
    if (snap->failed) {
        give_up(bus); /* memory is short: the log alone is enough */
    } else if (mr__snap_is_full(snap) ||
               (snap->turn == MR__SNAP_DONE && snap->buf.size > MR__CHUNK_HEAD_SIZE)) {
        send_chunk(bus);
    } else if (snap->turn == MR__SNAP_DONE &&
               (snap->last_sequence <= mr__promised_sequence(bus) ||
                MR_PLANTED(CHECKPOINT_EARLY))) {
        send_head(bus);
    }
}

void mr__checkpoint_done(struct mr_bus *bus, struct mr_log_request *request)
{
    struct mr__snap *snap = &bus->snap;
    MR_ASSERT(request == snap->request);
    snap->request = NULL;
    bool is_head = request->file_size > 0;
    if (request->result == MR_OK && is_head && snap->active) {
        bus->checkpoint_slot_position[snap->slot] = snap->position;
        bus->checkpoint_slot_sequence[snap->slot] = snap->sequence;
        bus->checkpoint_position = snap->position;
        bus->checkpoint_slot = 1 - snap->slot;
        bus->checkpoints++;
        bus->checkpoint_ended_mono_ns = bus->now.mono_ns;
        bus->pinned_bytes = 0; /* counted anew */
        mr_buf_release(&snap->buf);
        *snap = (struct mr__snap){.last_size = snap->content};
    } else if (request->result == MR_E_DISK_LOW || request->result == MR_E_NOMEM) {
        mr__checkpoint_abandon(bus);
    } else if (request->result != MR_OK) {
        mr__fail(bus, "a checkpoint cannot be written", request->result);
    }
    mr_free(request->buf);
    mr_free(request);
}

bool mr__checkpoint_wants_step(const struct mr_bus *bus)
{
    const struct mr__snap *snap = &bus->snap;
    return snap->active && snap->request == NULL && !bus->closing && !bus->faulty &&
           (snap->turn < MR__SNAP_DONE ? bus->stage.size == 0
                                       : snap->last_sequence <= mr__promised_sequence(bus));
}

void mr__checkpoint_release(struct mr_bus *bus)
{
    mr_buf_release(&bus->snap.buf);
    mr_map_release(&bus->snap.settled);
    bus->snap = (struct mr__snap){0};
}
