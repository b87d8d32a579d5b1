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
#include "bus/internal.h"

#include <stdlib.h>

#include "core/alloc.h"
#include "core/hash.h"

#define CHECKPOINT_HEAD_SIZE 64u
/* 1 had no order of a subscription, 2 no keys, 3 no fan-outs and no weights; they are read still,
 * and the lowest that holds what there is is written, which a release before can read. */
#define CHECKPOINT_VERSION 4u
#define CHECKPOINT_SIZE_MAX (4ull << 30)

static const uint8_t checkpoint_magic[8] = {'M', 'R', 'C', 'K', 'P', 'T', '0', '1'};

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

enum saved_where {
    SAVED_READY = 0,
    SAVED_WAITING,
    SAVED_BEGUN,
    SAVED_HELD,
};

static enum saved_where saved_where(const struct mr__delivery *d)
{
    /* An end that is decided and not logged is decided again after a crash. */
    bool ending = d->where == MR__ENDING && d->ending != NULL;
    switch ((enum mr__where)(ending ? d->ending->where : d->where)) {
    case MR__WAITING:
    case MR__DELAYED:
        return SAVED_WAITING;
    case MR__ARMED:
    case MR__QUEUED:
    case MR__FLIGHT:
        return SAVED_BEGUN;
    case MR__HELD:
        return SAVED_HELD;
    case MR__READY:
    case MR__BLOCKED:
    case MR__ENDING:
    case MR__WHERE_MAX:
        break;
    }
    return SAVED_READY;
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
    return newest ? CHECKPOINT_VERSION : has_keys(bus) ? 3u : 2u;
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
    uint8_t head[CHECKPOINT_HEAD_SIZE] = {0};
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
    memcpy(at, checkpoint_magic, sizeof(checkpoint_magic));
    mr_put_u32(at + 8, version_of(bus));
    mr_put_u32(at + 12,
               mr_crc32c(0, at + CHECKPOINT_HEAD_SIZE, s.buf.size - CHECKPOINT_HEAD_SIZE));
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

/* --- reading ---------------------------------------------------------------------------------- */

enum mr_status mr__checkpoint_check(struct mr_bytes slot, struct mr__checkpoint_head *ret_head)
{
    const uint8_t *at = slot.data;
    if (slot.size < CHECKPOINT_HEAD_SIZE ||
        memcmp(at, checkpoint_magic, sizeof(checkpoint_magic)) != 0 ||
        mr_get_u32(at + 60) != mr_crc32c(0, at, 60) || mr_get_u64(at + 48) > slot.size ||
        mr_get_u64(at + 48) < CHECKPOINT_HEAD_SIZE) {
        return MR_E_CORRUPT;
    }
    if (mr_get_u32(at + 8) == 0 || mr_get_u32(at + 8) > CHECKPOINT_VERSION) {
        return MR_E_UNSUPPORTED;
    }
    size_t body = (size_t)mr_get_u64(at + 48) - CHECKPOINT_HEAD_SIZE;
    if (mr_get_u32(at + 12) != mr_crc32c(0, at + CHECKPOINT_HEAD_SIZE, body)) {
        return MR_E_CORRUPT;
    }
    *ret_head = (struct mr__checkpoint_head){
        .generation = mr_get_u64(at + 16),
        .log_id = mr_get_u64(at + 24),
        .position = mr_get_u64(at + 32),
        .sequence = mr_get_u64(at + 40),
        .size = mr_get_u64(at + 48),
        .previous_crc = mr_get_u32(at + 56),
    };
    return MR_OK;
}

struct loader {
    const uint8_t *at;
    size_t left;
    uint32_t version;
    enum mr_status status;
};

static uint64_t get64(struct loader *l)
{
    if (l->status != MR_OK || l->left < 8) {
        l->status = l->status == MR_OK ? MR_E_CORRUPT : l->status;
        return 0;
    }
    uint64_t v = mr_get_u64(l->at);
    l->at += 8;
    l->left -= 8;
    return v;
}

static struct mr_bytes get_text(struct loader *l)
{
    uint64_t size = get64(l);
    if (l->status != MR_OK || l->left < size) {
        l->status = l->status == MR_OK ? MR_E_CORRUPT : l->status;
        return mr_bytes(NULL, 0);
    }
    struct mr_bytes text = mr_bytes(l->at, (size_t)size);
    l->at += size;
    l->left -= (size_t)size;
    return text;
}

static char *get_name(struct loader *l)
{
    struct mr_bytes text = get_text(l);
    char *name = l->status == MR_OK ? mr_strndup((const char *)text.data, text.size) : NULL;
    if (name == NULL && l->status == MR_OK) {
        l->status = MR_E_NOMEM;
    }
    return name;
}

struct saved_delivery {
    uint64_t offset, position, lane, arrival, expires, due;
    uint32_t size, fence;
    uint16_t attempts, refusals, interruptions;
    uint8_t where;
    bool alone, ramp;
    uint8_t cancels;
    uint8_t level;
    struct mr_bytes notes;
};

static struct saved_delivery get_delivery(struct loader *l)
{
    struct saved_delivery d = {0};
    d.offset = get64(l);
    d.position = get64(l);
    d.lane = get64(l);
    d.arrival = get64(l);
    d.expires = get64(l);
    d.due = get64(l);
    uint64_t v = get64(l);
    d.size = (uint32_t)(v >> 32);
    d.fence = (uint32_t)v;
    v = get64(l);
    d.attempts = (uint16_t)(v >> 48);
    d.refusals = (uint16_t)(v >> 32);
    d.interruptions = (uint16_t)(v >> 16);
    d.where = (uint8_t)(v >> 8);
    d.alone = (v & 1) != 0;
    d.ramp = (v & 2) != 0;
    d.cancels = (uint8_t)(((v & 4) != 0 ? MR_MATCH_CANCELS : 0) |
                          ((v & 8) != 0 ? MR_MATCH_ONLY_CANCELS : 0));
    d.level = v >> 4 & 0xf;
    d.notes = get_text(l);
    return d;
}

static void restore_delivery(struct mr_bus *bus, struct mr__sub *sub, struct loader *l,
                             const struct saved_delivery *saved)
{
    struct mr__delivery *d = NULL;
    bool sense = saved->offset != 0 && mr__delivery_find(sub, saved->offset) == NULL &&
                 (saved->where != SAVED_BEGUN || saved->fence > 0) &&
                 saved->level <= MR_PRIORITY_MAX;
    if (!sense) {
        l->status = MR_E_CORRUPT;
        return;
    }
    if (l->status == MR_OK) {
        struct mr__arrival arrival = {
            .offset = saved->offset,
            .lane = saved->lane,
            .position = saved->position,
            .arrival_ns = saved->arrival,
            .expires_ns = saved->expires,
            .due_ns = saved->where == SAVED_READY ? saved->due : 0, /* the head of its lane goes */
            .size = saved->size,
            .fence = saved->where == SAVED_BEGUN ? 0 : saved->fence, /* begins with it below */
            .cancels = saved->cancels,
            .level = saved->level,
        };
        d = mr__state_load(bus, sub, &arrival);
    }
    struct mr__notes *notes = NULL;
    uint32_t capacity = (uint32_t)mr_round_up(saved->notes.size, 128);
    if (d != NULL && saved->notes.size > 0) {
        notes = mr_alloc(sizeof(*notes) + capacity);
    }
    if (d == NULL || (saved->notes.size > 0 && notes == NULL)) {
        l->status = MR_E_NOMEM;
        mr_free(notes);
        return;
    }
    if (notes != NULL) {
        memcpy(notes->data, saved->notes.data, saved->notes.size);
        notes->size = (uint32_t)saved->notes.size;
        notes->capacity = capacity;
        d->notes = notes;
        sub->window_bytes += capacity;
        bus->state_bytes += capacity;
    }
    mr__segment_live(bus, d->position, 1);
    d->attempts = saved->attempts;
    d->refusals = saved->refusals;
    d->interruptions = saved->interruptions;
    d->alone = saved->alone;
    if (saved->where == SAVED_BEGUN) {
        mr__state_begin(bus, d, saved->fence);
    } else {
        d->fence = saved->fence;
        if (saved->where == SAVED_HELD) {
            mr__state_hold(bus, d);
        } else if (saved->where == SAVED_WAITING) {
            mr__state_wait(bus, d, saved->due);
        }
    }
    if (saved->ramp) {
        mr__set_ramp(d);
    }
    mr__timer_set(bus, d);
}

/* Two passes: what was begun is the head of its lane, whatever its offset. */
static void load_deliveries(struct mr_bus *bus, struct mr__sub *sub, struct loader *l)
{
    uint64_t count = get64(l);
    if (l->status == MR_OK && count > l->left / 64) {
        l->status = MR_E_CORRUPT;
    }
    if (l->status == MR_OK) {
        l->status = mr__state_reserve(bus, sub, count);
    }
    struct loader start = *l;
    for (int pass = 0; pass < 2 && l->status == MR_OK; pass++) {
        *l = start;
        for (uint64_t i = 0; i < count && l->status == MR_OK; i++) {
            struct saved_delivery saved = get_delivery(l);
            if (l->status == MR_OK && (saved.where == SAVED_BEGUN) == (pass == 0)) {
                restore_delivery(bus, sub, l, &saved);
            }
        }
    }
}

static void load_dead(struct mr_bus *bus, struct mr__sub *sub, struct loader *l)
{
    uint64_t count = get64(l);
    if (l->status == MR_OK && count > l->left / 64) {
        l->status = MR_E_CORRUPT;
    }
    for (uint64_t i = 0; i < count && l->status == MR_OK; i++) {
        struct mr_dead_letter letter = {0};
        letter.offset = get64(l);
        letter.event_position = get64(l);
        letter.record_position = get64(l);
        letter.died_log_ns = get64(l);
        uint64_t v = get64(l);
        letter.attempts = (uint32_t)(v >> 32);
        letter.fence = (uint32_t)v;
        v = get64(l);
        letter.event_size = (uint32_t)v;
        letter.level = (uint8_t)(v >> 32) > MR_PRIORITY_MAX ? 0 : (uint8_t)(v >> 32);
        letter.lane = get64(l);
        uint64_t later = get64(l);
        if (l->status == MR_OK) {
            l->status = mr__state_reserve_dead(sub);
        }
        if (l->status != MR_OK) {
            return;
        }
        mr__state_add_dead(bus, sub, &letter);
        int64_t at = mr__dead_find(sub, letter.offset);
        sub->dead[at].later_before = 0 - later; /* counters start at 0 again */
    }
}

static void load_sub(struct mr_bus *bus, struct loader *l)
{
    char *name = get_name(l);
    struct mr__sub *sub = name == NULL ? NULL : mr__sub_add(bus, name);
    mr_free(name);
    if (sub == NULL) {
        l->status = l->status == MR_OK ? MR_E_NOMEM : l->status;
        return;
    }
    uint64_t flags = get64(l);
    sub->paused = (flags & 1) != 0;
    sub->live = (flags & 2) != 0;
    bus->not_live += !sub->live;
    if (l->version >= 2) {
        sub->order_hash = get64(l);
        uint64_t epochs = get64(l);
        sub->order_epoch = (uint16_t)epochs;
        sub->window_epoch = (uint16_t)(epochs >> 16);
    }
    sub->removed_log_ns = get64(l);
    sub->counts.matched = get64(l);
    sub->counts.done = get64(l);
    sub->counts.dead = get64(l);
    sub->counts.dropped = get64(l);
    sub->counts.expired = get64(l);
    sub->counts.lost = get64(l);
    sub->behind = get64(l);
    sub->cursor_position = get64(l);
    sub->cursor_offset = get64(l);
    uint64_t skips = get64(l);
    if (l->status == MR_OK && skips > l->left / 8) {
        l->status = MR_E_CORRUPT;
    }
    if (l->status == MR_OK) {
        l->status = mr_map_reserve(&sub->skip, skips);
    }
    for (uint64_t i = 0; i < skips && l->status == MR_OK; i++) {
        uint64_t offset = get64(l);
        if (offset != 0) {
            mr_map_set(&sub->skip, offset, 1);
        }
    }
    if (l->status == MR_OK) {
        load_dead(bus, sub, l);
    }
    if (l->status == MR_OK) {
        load_deliveries(bus, sub, l);
    }
}

static void load_keys(struct mr_bus *bus, struct mr__seen *seen, struct loader *l)
{
    uint64_t window_ns = get64(l);
    uint64_t limit = get64(l);
    uint64_t count = get64(l);
    if (l->status == MR_OK && (count > limit || count > l->left / 32 || limit > UINT32_MAX / 4)) {
        l->status = MR_E_CORRUPT;
    }
    if (l->status == MR_OK && window_ns > 0 && limit > 0) {
        mr__seen_configure(bus, seen, window_ns, limit);
        l->status = count == 0 ? MR_OK : mr__seen_reserve(bus, seen);
    }
    for (uint64_t i = 0; i < count && l->status == MR_OK; i++) {
        struct mr__seen_key key;
        key.key.low = get64(l);
        key.key.high = get64(l);
        key.offset = get64(l);
        key.log_ns = get64(l);
        if (seen->limit > 0 && mr_dedupe_key_is_set(&key.key) && !MR_PLANTED(KEYS_UNSAVED)) {
            (void)mr__seen_enter(bus, seen, &key); /* it was counted when it came */
        }
    }
}

static void load_weights(struct mr_bus *bus, struct loader *l)
{
    for (uint32_t i = 0; i < bus->sub_count && l->status == MR_OK; i++) {
        uint64_t count = get64(l);
        for (uint64_t k = 0; k < count && l->status == MR_OK; k++) {
            uint64_t target = get64(l);
            uint64_t hash = get64(l);
            if (l->status == MR_OK && (target >= bus->target_count || hash == 0)) {
                l->status = MR_E_CORRUPT;
            } else if (l->status == MR_OK) {
                l->status = mr__state_weight(bus->subs[i], (uint32_t)target, hash);
            }
        }
    }
}

static enum mr_status load_member(const struct mr_bus *bus, struct mr__join_member *member,
                                  struct loader *l)
{
    uint64_t v = get64(l);
    struct mr_bytes reason = get_text(l);
    struct mr_bytes result = get_text(l);
    *member = (struct mr__join_member){
        .sub = (uint32_t)(v >> 32),
        .attempts = (uint16_t)(v >> 16),
        .state = (uint8_t)(v >> 8),
        .truncated = (v & 1) != 0,
    };
    if (l->status != MR_OK || member->sub >= bus->sub_count || member->state >= MR_STATE_MAX ||
        reason.size > MR_KIB || result.size > MR_FANOUT_RESULT_SIZE_MAX) {
        return l->status == MR_OK ? MR_E_CORRUPT : l->status;
    }
    if (reason.size + result.size > 0) {
        member->texts = mr_alloc(reason.size + result.size);
        if (member->texts == NULL) {
            return MR_E_NOMEM;
        }
        memcpy(member->texts, reason.data, reason.size);
        memcpy(member->texts + reason.size, result.data, result.size);
        member->reason_size = (uint32_t)reason.size;
        member->result_size = (uint32_t)result.size;
    }
    return MR_OK;
}

static void load_join(struct mr_bus *bus, struct loader *l)
{
    struct mr__join_saved saved = {.offset = get64(l), .due_ns = get64(l)};
    saved.head = get_text(l);
    uint64_t v = get64(l);
    saved.fanout = (uint32_t)(v >> 32);
    saved.count = (uint32_t)v;
    if (l->status == MR_OK && (saved.offset == 0 || saved.count > l->left / 24)) {
        l->status = MR_E_CORRUPT;
    }
    struct mr__join *join = NULL;
    if (l->status == MR_OK) {
        l->status = mr__join_restore(bus, &saved, &join);
    }
    for (uint32_t i = 0; i < saved.count && l->status == MR_OK; i++) {
        l->status = load_member(bus, &join->members[i], l);
    }
    if (join != NULL && (l->status != MR_OK || MR_PLANTED(JOINS_UNSAVED))) {
        mr__join_unmake(join);
    } else if (join != NULL) {
        l->status = mr__join_restored(bus, join);
    }
}

static void load_fanouts(struct mr_bus *bus, struct loader *l)
{
    uint64_t names = get64(l);
    for (uint64_t i = 0; i < names && l->status == MR_OK; i++) {
        struct mr_bytes name = get_text(l);
        l->status = l->status == MR_OK ? mr__fanout_name(bus, (uint32_t)i, name) : l->status;
    }
    uint64_t joins = names == 0 ? 0 : get64(l);
    for (uint64_t i = 0; i < joins && l->status == MR_OK; i++) {
        load_join(bus, l);
    }
}

enum mr_status mr__checkpoint_load(struct mr_bus *bus, struct mr_bytes slot)
{
    struct loader l = {.at = slot.data + CHECKPOINT_HEAD_SIZE,
                       .left = (size_t)mr_get_u64(slot.data + 48) - CHECKPOINT_HEAD_SIZE,
                       .version = mr_get_u32(slot.data + 8)};
    bus->next_offset = get64(&l);
    bus->log_ns = get64(&l);
    bus->now.mono_ns = get64(&l);
    bus->now.wall_ns = get64(&l);
    bus->now.boot_id = get64(&l);
    bus->clock_frozen = get64(&l) != 0;
    bus->lost_events = get64(&l);
    bus->config_hash_logged = get64(&l);
    uint64_t segments = get64(&l);
    for (uint64_t i = 0; i < segments && l.status == MR_OK; i++) {
        uint64_t number = get64(&l);
        uint64_t used = get64(&l);
        uint64_t first_offset = get64(&l);
        uint64_t wall_ns = get64(&l);
        struct mr__segment *segment = mr__segment_of(bus, mr_position(number, 0));
        if (segment != NULL && used > segment->used && used <= segment->size) {
            segment->used = used;
            segment->first_offset = first_offset;
            segment->wall_ns = wall_ns;
        }
    }
    uint64_t targets = get64(&l);
    for (uint64_t i = 0; i < targets && l.status == MR_OK; i++) {
        char *name = get_name(&l);
        if (name != NULL && mr__target_add(bus, name) == NULL) {
            l.status = MR_E_NOMEM;
        }
        mr_free(name);
    }
    uint64_t sources = get64(&l);
    for (uint64_t i = 0; i < sources && l.status == MR_OK; i++) {
        char *name = get_name(&l);
        struct mr__source *source = name == NULL ? NULL : mr__source_add(bus, name);
        mr_free(name);
        bool has_cursor = get64(&l) != 0;
        char *cursor = get_name(&l);
        if (source == NULL || cursor == NULL) {
            l.status = l.status == MR_OK ? MR_E_NOMEM : l.status;
            mr_free(cursor);
        } else if (has_cursor) {
            source->cursor = cursor;
        } else {
            mr_free(cursor);
        }
    }
    uint64_t subs = get64(&l);
    for (uint64_t i = 0; i < subs && l.status == MR_OK; i++) {
        load_sub(bus, &l);
    }
    for (uint32_t i = 0; i < bus->source_count && l.version >= 3; i++) {
        load_keys(bus, &bus->sources[i]->seen, &l);
    }
    if (l.version >= 4 && l.status == MR_OK) {
        load_fanouts(bus, &l);
        load_weights(bus, &l);
    }
    return l.status;
}
