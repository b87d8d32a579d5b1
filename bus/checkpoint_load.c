/* Checkpoints, taken: what stands in an item becomes state, with the calls that recovery makes.
 * Which items of which slot, open.c and checkpoint_old.c say. */
#include "bus/checkpoint.h"
#include "bus/internal.h"

#include <stdlib.h>

#include "core/alloc.h"

#define PREFETCHED 16u /* deliveries ahead: what a miss of the cache takes */

/* --- deliveries ------------------------------------------------------------------------------- */

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

static struct saved_delivery get_delivery(struct mr__loader *l)
{
    struct saved_delivery d = {0};
    d.offset = mr__load_u64(l) & MR__ITEM_NUMBER;
    d.position = mr__load_u64(l);
    d.lane = mr__load_u64(l);
    d.arrival = mr__load_u64(l);
    d.expires = mr__load_u64(l);
    d.due = mr__load_u64(l);
    uint64_t v = mr__load_u64(l);
    d.size = (uint32_t)(v >> 32);
    d.fence = (uint32_t)v;
    v = mr__load_u64(l);
    d.attempts = (uint16_t)(v >> 48);
    d.refusals = (uint16_t)(v >> 32);
    d.interruptions = (uint16_t)(v >> 16);
    d.where = (uint8_t)(v >> 8);
    d.alone = (v & 1) != 0;
    d.ramp = (v & 2) != 0;
    d.cancels = (uint8_t)(((v & 4) != 0 ? MR_MATCH_CANCELS : 0) |
                          ((v & 8) != 0 ? MR_MATCH_ONLY_CANCELS : 0));
    d.level = v >> 4 & 0xf;
    d.notes = mr__load_text(l);
    return d;
}

static void restore_delivery(struct mr_bus *bus, struct mr__sub *sub, struct mr__loader *l,
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
        mr__memory_update(bus, sub);
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

static uint64_t offset_at(const uint8_t *at)
{
    return mr_get_u64(at) & MR__ITEM_NUMBER;
}

static int by_offset(const void *a, const void *b)
{
    const uint8_t *const *x = a;
    const uint8_t *const *y = b;
    uint64_t left = offset_at(*x);
    uint64_t right = offset_at(*y);
    return left < right ? -1 : left > right;
}

static bool is_begun(const uint8_t *at)
{
    return (uint8_t)(mr_get_u64(at + 56) >> 8) == MR__SAVED_BEGUN;
}

/* By offset, and in two passes: what was begun is the head of its lane, whatever its offset. */
enum mr_status mr__load_deliveries(struct mr_bus *bus, struct mr__sub *sub, const uint8_t **at,
                                   uint64_t count)
{
    bool sorted = true;
    uint64_t lanes = 0;
    for (uint64_t i = 0; i < count; i++) {
        sorted = sorted && (i == 0 || offset_at(at[i - 1]) < offset_at(at[i]));
        lanes += mr_get_u64(at[i] + 16) != 0;
    }
    if (!sorted) {
        qsort(at, count, sizeof(const uint8_t *), by_offset);
    }
    enum mr_status r = mr__state_reserve(bus, sub, count, lanes);
    for (int pass = 0; pass < 2 && r == MR_OK; pass++) {
        for (uint64_t i = 0; i < count && r == MR_OK; i++) {
            if (is_begun(at[i]) != (pass == 0)) {
                continue;
            }
            if (i + PREFETCHED < count) {
                mr_map_prefetch(&sub->deliveries, offset_at(at[i + PREFETCHED]));
            }
            struct mr__loader l = {
                .at = at[i], .left = mr__delivery_item_size(at[i]), .status = MR_OK};
            struct saved_delivery saved = get_delivery(&l);
            if (l.status == MR_OK) {
                restore_delivery(bus, sub, &l, &saved);
            }
            r = l.status;
        }
    }
    return r;
}

void mr__load_dead(struct mr_bus *bus, struct mr__sub *sub, uint64_t offset, struct mr__loader *l)
{
    struct mr_dead_letter letter = {.offset = offset};
    letter.event_position = mr__load_u64(l);
    letter.record_position = mr__load_u64(l);
    letter.died_log_ns = mr__load_u64(l);
    uint64_t v = mr__load_u64(l);
    letter.attempts = (uint32_t)(v >> 32);
    letter.fence = (uint32_t)v;
    v = mr__load_u64(l);
    letter.event_size = (uint32_t)v;
    letter.level = (uint8_t)(v >> 32) > MR_PRIORITY_MAX ? 0 : (uint8_t)(v >> 32);
    letter.lane = mr__load_u64(l);
    uint64_t later = mr__load_u64(l);
    if (l->status == MR_OK && (offset == 0 || mr__dead_find(sub, offset) >= 0)) {
        l->status = MR_E_CORRUPT;
    }
    if (l->status == MR_OK) {
        l->status = mr__state_reserve_dead(bus, sub);
    }
    if (l->status != MR_OK) {
        return;
    }
    mr__state_add_dead(bus, sub, &letter);
    int64_t at = mr__dead_find(sub, letter.offset);
    sub->dead[at].later_before = 0 - later; /* counters start at 0 again */
}

void mr__load_skip(struct mr__sub *sub, uint64_t offset)
{
    if (offset != 0) { /* room was reserved */
        mr_map_set(&sub->skip, offset, 1);
    }
}

/* --- subscriptions ---------------------------------------------------------------------------- */

struct mr__sub *mr__load_sub(struct mr_bus *bus, struct mr__loader *l, bool has_order)
{
    char *name = mr__load_name(l);
    struct mr__sub *sub = name == NULL ? NULL : mr__sub_add(bus, name);
    mr_free(name);
    if (sub == NULL) {
        l->status = l->status == MR_OK ? MR_E_NOMEM : l->status;
        return NULL;
    }
    uint64_t flags = mr__load_u64(l);
    sub->paused = (flags & 1) != 0;
    sub->live = (flags & 2) != 0;
    bus->not_live += !sub->live;
    if (has_order) {
        sub->order_hash = mr__load_u64(l);
        uint64_t epochs = mr__load_u64(l);
        sub->order_epoch = (uint16_t)epochs;
        sub->window_epoch = (uint16_t)(epochs >> 16);
    }
    sub->removed_log_ns = mr__load_u64(l);
    sub->counts.matched = mr__load_u64(l);
    sub->counts.done = mr__load_u64(l);
    sub->counts.dead = mr__load_u64(l);
    sub->counts.dropped = mr__load_u64(l);
    sub->counts.expired = mr__load_u64(l);
    sub->counts.lost = mr__load_u64(l);
    sub->behind = mr__load_u64(l);
    sub->cursor_position = mr__load_u64(l);
    sub->cursor_offset = mr__load_u64(l);
    return sub;
}

/* --- keys ------------------------------------------------------------------------------------- */

enum mr_status mr__load_keys(struct mr_bus *bus, struct mr__seen *seen, uint64_t window_ns,
                             uint64_t limit, uint64_t count)
{
    if (count > limit || limit > MR_DEDUPE_KEYS_MAX) {
        return MR_E_CORRUPT;
    }
    if (window_ns == 0 || limit == 0) {
        return MR_OK;
    }
    mr__seen_configure(bus, seen, window_ns, limit);
    return count == 0 ? MR_OK : mr__seen_reserve(bus, seen);
}

void mr__load_key(struct mr_bus *bus, struct mr__seen *seen, struct mr__seen_key *key)
{
    if (seen->limit > 0 && mr_dedupe_key_is_set(&key->key) && !MR_PLANTED(KEYS_UNSAVED)) {
        (void)mr__seen_enter(bus, seen, key); /* it was counted when it came */
    }
}

/* --- fan-outs that are open ------------------------------------------------------------------- */

static enum mr_status load_member(const struct mr_bus *bus, struct mr__join_member *member,
                                  struct mr__loader *l)
{
    uint64_t v = mr__load_u64(l);
    struct mr_bytes reason = mr__load_text(l);
    struct mr_bytes result = mr__load_text(l);
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

void mr__load_join(struct mr_bus *bus, uint64_t offset, struct mr__loader *l)
{
    struct mr__join_saved saved = {.offset = offset, .due_ns = mr__load_u64(l)};
    saved.head = mr__load_text(l);
    uint64_t v = mr__load_u64(l);
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

/* --- the base --------------------------------------------------------------------------------- */

enum mr_status mr__load_base(struct mr_bus *bus, struct mr__loader *l)
{
    bus->next_offset = mr__load_u64(l);
    bus->log_ns = mr__load_u64(l);
    bus->now.mono_ns = mr__load_u64(l);
    bus->now.wall_ns = mr__load_u64(l);
    bus->now.boot_id = mr__load_u64(l);
    bus->clock_frozen = mr__load_u64(l) != 0;
    bus->lost_events = mr__load_u64(l);
    bus->config_hash_logged = mr__load_u64(l);
    uint64_t segments = mr__load_u64(l);
    for (uint64_t i = 0; i < segments && l->status == MR_OK; i++) {
        uint64_t number = mr__load_u64(l);
        uint64_t used = mr__load_u64(l);
        uint64_t first_offset = mr__load_u64(l);
        uint64_t wall_ns = mr__load_u64(l);
        struct mr__segment *segment = mr__segment_of(bus, mr_position(number, 0));
        if (segment != NULL && used > segment->used && used <= segment->size) {
            segment->used = used;
            segment->first_offset = first_offset;
            segment->wall_ns = wall_ns;
        }
    }
    uint64_t targets = mr__load_u64(l);
    for (uint64_t i = 0; i < targets && l->status == MR_OK; i++) {
        char *name = mr__load_name(l);
        if (name != NULL && mr__target_add(bus, name) == NULL) {
            l->status = MR_E_NOMEM;
        }
        mr_free(name);
    }
    uint64_t sources = mr__load_u64(l);
    for (uint64_t i = 0; i < sources && l->status == MR_OK; i++) {
        char *name = mr__load_name(l);
        struct mr__source *source = name == NULL ? NULL : mr__source_add(bus, name);
        mr_free(name);
        bool has_cursor = mr__load_u64(l) != 0;
        char *cursor = mr__load_name(l);
        if (source == NULL || cursor == NULL) {
            l->status = l->status == MR_OK ? MR_E_NOMEM : l->status;
            mr_free(cursor);
        } else if (has_cursor) {
            source->cursor = cursor;
        } else {
            mr_free(cursor);
        }
    }
    return l->status;
}
