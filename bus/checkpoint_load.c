/* Checkpoints, read: which of two slots is good, and the state of one. What is damaged is refused,
 * and the log is folded from further back. */
#include "bus/checkpoint.h"
#include "bus/internal.h"

#include "core/alloc.h"
#include "core/hash.h"

enum mr_status mr__checkpoint_check(struct mr_bytes slot, struct mr__checkpoint_head *ret_head)
{
    const uint8_t *at = slot.data;
    if (slot.size < MR__CHECKPOINT_HEAD_SIZE ||
        memcmp(at, MR__CHECKPOINT_MAGIC, 8) != 0 ||
        mr_get_u32(at + 60) != mr_crc32c(0, at, 60) || mr_get_u64(at + 48) > slot.size ||
        mr_get_u64(at + 48) < MR__CHECKPOINT_HEAD_SIZE) {
        return MR_E_CORRUPT;
    }
    if (mr_get_u32(at + 8) == 0 || mr_get_u32(at + 8) > MR__CHECKPOINT_VERSION) {
        return MR_E_UNSUPPORTED;
    }
    size_t body = (size_t)mr_get_u64(at + 48) - MR__CHECKPOINT_HEAD_SIZE;
    if (mr_get_u32(at + 12) != mr_crc32c(0, at + MR__CHECKPOINT_HEAD_SIZE, body)) {
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
                 (saved->where != MR__SAVED_BEGUN || saved->fence > 0) &&
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
            /* The head of its lane goes. */
            .due_ns = saved->where == MR__SAVED_READY ? saved->due : 0,
            .size = saved->size,
            .fence = saved->where == MR__SAVED_BEGUN ? 0 : saved->fence, /* begins with it below */
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
    if (saved->where == MR__SAVED_BEGUN) {
        mr__state_begin(bus, d, saved->fence);
    } else {
        d->fence = saved->fence;
        if (saved->where == MR__SAVED_HELD) {
            mr__state_hold(bus, d);
        } else if (saved->where == MR__SAVED_WAITING) {
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
            if (l->status == MR_OK && (saved.where == MR__SAVED_BEGUN) == (pass == 0)) {
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
    bool sense = count <= limit && count <= l->left / 32 && limit <= MR_DEDUPE_KEYS_MAX;
    if (l->status == MR_OK && !sense) {
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
    struct loader l = {.at = slot.data + MR__CHECKPOINT_HEAD_SIZE,
                       .left = (size_t)mr_get_u64(slot.data + 48) - MR__CHECKPOINT_HEAD_SIZE,
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
