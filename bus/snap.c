/* What a checkpoint is made of: the items of its sections, as far as one chunk holds them, and what
 * is about to change before it was saved. */
#include "bus/checkpoint.h"
#include "bus/internal.h"

#include "core/alloc.h"

#define SETTLED_AT_ONCE 4096u

/* --- items ------------------------------------------------------------------------------------ */

static void put64(struct mr__snap *snap, uint64_t v)
{
    uint8_t le[8];
    mr_put_u64(le, v);
    if (!snap->failed && mr_buf_append(&snap->buf, le, sizeof(le)) != MR_OK) {
        snap->failed = true;
    }
}

static void put_item(struct mr__snap *snap, enum mr__item kind, uint64_t number)
{
    MR_ASSERT(number >> MR__ITEM_SHIFT == 0);
    put64(snap, (uint64_t)kind << MR__ITEM_SHIFT | number);
}

static void put_text(struct mr__snap *snap, struct mr_bytes text)
{
    put64(snap, text.size);
    if (!snap->failed && mr_buf_append_bytes(&snap->buf, text) != MR_OK) {
        snap->failed = true;
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

static void save_delivery(struct mr__snap *snap, struct mr__delivery *d)
{
    MR_ASSERT(!d->in_stage);
    put_item(snap, MR__ITEM_DELIVERY, d->offset);
    put64(snap, d->position);
    put64(snap, d->lane == NULL ? 0 : d->lane->key);
    put64(snap, d->arrival_ns);
    put64(snap, d->expires_ns);
    put64(snap, d->due_ns);
    put64(snap, (uint64_t)d->size << 32 | d->fence);
    put64(snap, (uint64_t)d->attempts << 48 | (uint64_t)d->refusals << 32 |
                    (uint64_t)d->interruptions << 16 | (uint64_t)saved_where(d) << 8 |
                    (d->alone ? 1u : 0u) | (d->ramp ? 2u : 0u) | (d->cancels ? 4u : 0u) |
                    (d->only_cancels ? 8u : 0u) | (uint64_t)d->level << 4);
    put_text(snap, d->notes == NULL ? mr_bytes(NULL, 0)
                                    : mr_bytes(d->notes->data, d->notes->size));
    d->snapped = d->sub->snapped;
}

static void save_dead(struct mr__snap *snap, struct mr__sub *sub, struct mr__dead *dead)
{
    struct mr_dead_letter *l = &dead->letter;
    MR_ASSERT(!mr__dead_is_staged(l));
    uint64_t since = 0; /* settles of its lane behind the place where this is true */
    if (l->lane != 0) {
        (void)mr_map_get(&snap->settled, l->lane, &since); /* none: it stays 0 */
    }
    put_item(snap, MR__ITEM_DEAD, l->offset);
    put64(snap, l->event_position);
    put64(snap, l->record_position);
    put64(snap, l->died_log_ns);
    put64(snap, (uint64_t)l->attempts << 32 | l->fence);
    put64(snap, (uint64_t)l->level << 32 | l->event_size);
    put64(snap, l->lane);
    put64(snap, mr__dead_later(sub, dead) - since);
    l->snapped = sub->snapped;
}

void mr__snap_base(struct mr__snap *snap, const struct mr_bus *bus)
{
    size_t at = snap->buf.size;
    put_item(snap, MR__ITEM_BASE, 0);
    put64(snap, bus->next_offset);
    put64(snap, bus->log_ns);
    put64(snap, bus->now.mono_ns);
    put64(snap, bus->now.wall_ns);
    put64(snap, bus->now.boot_id);
    put64(snap, bus->clock_frozen);
    put64(snap, bus->lost_events);
    put64(snap, bus->config_hash_logged);
    put64(snap, bus->segment_count);
    for (uint32_t i = 0; i < bus->segment_count; i++) {
        const struct mr__segment *g = &bus->segments[i];
        put64(snap, g->number);
        put64(snap, g->used);
        put64(snap, g->first_offset);
        put64(snap, g->wall_ns);
    }
    put64(snap, bus->target_count);
    for (uint32_t i = 0; i < bus->target_count; i++) {
        put_text(snap, mr_bytes_of(bus->targets[i]->name));
    }
    put64(snap, bus->source_count);
    for (uint32_t i = 0; i < bus->source_count; i++) {
        put_text(snap, mr_bytes_of(bus->sources[i]->name));
        put64(snap, bus->sources[i]->cursor != NULL);
        put_text(snap, mr_bytes_of(bus->sources[i]->cursor));
    }
    put64(snap, bus->fanout_count);
    for (uint32_t i = 0; i < bus->fanout_count; i++) {
        put_text(snap, mr_bytes_of(bus->fanouts[i].name));
    }
    if (!snap->failed) {
        mr_put_u64(snap->buf.data + at,
                   (uint64_t)MR__ITEM_BASE << MR__ITEM_SHIFT | (snap->buf.size - at - 8));
    }
}

static void save_join(struct mr__snap *snap, struct mr_bus *bus, struct mr__join *join)
{
    size_t at = snap->buf.size;
    put_item(snap, MR__ITEM_JOIN, join->offset);
    put64(snap, 0);
    put64(snap, join->due_ns);
    put_text(snap, mr_event_record(join->head));
    put64(snap, (uint64_t)join->fanout << 32 | join->count);
    for (uint32_t i = 0; i < join->count; i++) {
        const struct mr__join_member *member = &join->members[i];
        put64(snap, (uint64_t)member->sub << 32 | (uint64_t)member->attempts << 16 |
                        (uint64_t)member->state << 8 | (member->truncated ? 1u : 0u));
        put_text(snap, mr_bytes(member->texts, member->reason_size));
        put_text(snap, mr_bytes(member->texts == NULL ? NULL
                                                      : member->texts + member->reason_size,
                                member->result_size));
    }
    if (!snap->failed) {
        mr_put_u64(snap->buf.data + at + 8, snap->buf.size - at - 16);
    }
    join->snapped = bus->joins_snapped;
}

/* --- sections --------------------------------------------------------------------------------- */

uint64_t mr__snap_position(const struct mr_bus *bus)
{
    MR_ASSERT(bus->stage.size == 0 && bus->cursors_in_stage == 0);
    const struct mr__segment *segment = &bus->segments[bus->current];
    return mr_position(segment->number, 0) + segment->used; /* of a full one: the next */
}

static void section_begins(struct mr__snap *snap, const struct mr_bus *bus)
{
    snap->in_section = true;
    snap->last_sequence = bus->next_sequence - 1;
}

static void section_ends(struct mr__snap *snap)
{
    put_item(snap, MR__ITEM_END, 0);
    snap->in_section = false;
    snap->next++;
}

static void sub_begins(struct mr__snap *snap, struct mr_bus *bus, struct mr__sub *sub)
{
    section_begins(snap, bus);
    put_item(snap, MR__ITEM_SUB, sub->id);
    put64(snap, mr__snap_position(bus));
    put_text(snap, mr_bytes_of(sub->name));
    put64(snap, (sub->paused ? 1u : 0u) | (sub->live ? 2u : 0u));
    put64(snap, sub->order_hash);
    put64(snap, (uint64_t)sub->window_epoch << 16 | sub->order_epoch);
    put64(snap, sub->removed_log_ns);
    put64(snap, sub->counts.matched);
    put64(snap, sub->counts.done);
    put64(snap, sub->counts.dead);
    put64(snap, sub->counts.dropped);
    put64(snap, sub->counts.expired);
    put64(snap, sub->counts.lost);
    put64(snap, sub->behind);
    put64(snap, sub->cursor_position);
    put64(snap, sub->cursor_offset);
    put64(snap, sub->skip.count);
    put64(snap, sub->dead_count);
    put64(snap, sub->deliveries.count);
    for (uint32_t k = 0; k < sub->returned_count; k++) {
        put_item(snap, MR__ITEM_WEIGHT, sub->returned[k].target);
        put64(snap, sub->returned[k].hash);
    }
    sub->snapped = !sub->snapped; /* of nothing in it is that true now */
    sub->snap = snap;
    snap->sub = sub;
    snap->phase = MR__SNAP_SKIP;
    snap->skip_at = 0;
    snap->skip_capacity = sub->skip.capacity;
    snap->dead_at = 0;
    snap->delivery = sub->oldest;
}

bool mr__snap_is_full(const struct mr__snap *snap)
{
    return snap->failed || snap->buf.size >= snap->chunk_size;
}

/* While it lasts the cursor stays (mr__catches_up()), so that nothing leaves the map; one entry
 * twice does no harm. */
static void save_skips(struct mr__snap *snap, const struct mr__sub *sub)
{
    if (sub->skip.capacity != snap->skip_capacity) {
        snap->skip_capacity = sub->skip.capacity; /* it has grown: all stand elsewhere */
        snap->skip_at = 0;
    }
    for (; snap->skip_at < sub->skip.capacity && !mr__snap_is_full(snap); snap->skip_at++) {
        if (sub->skip.slots[snap->skip_at].key != 0) {
            put_item(snap, MR__ITEM_SKIP, sub->skip.slots[snap->skip_at].key);
        }
    }
}

static void save_letters(struct mr__snap *snap, struct mr__sub *sub)
{
    for (; snap->dead_at < sub->dead_count && !mr__snap_is_full(snap); snap->dead_at++) {
        struct mr__dead *dead = &sub->dead[snap->dead_at];
        if (dead->letter.snapped != sub->snapped) {
            save_dead(snap, sub, dead);
        }
    }
}

/* @return false: with the next turn */
static bool sub_goes_on(struct mr__snap *snap)
{
    struct mr__sub *sub = snap->sub;
    if (snap->phase == MR__SNAP_SKIP && !mr_map_settle(&sub->skip, SETTLED_AT_ONCE)) {
        return false; /* the map grows */
    }
    if (snap->phase == MR__SNAP_SKIP) {
        save_skips(snap, sub);
        snap->phase += snap->skip_at >= sub->skip.capacity;
    }
    if (snap->phase == MR__SNAP_DEAD) {
        save_letters(snap, sub);
        snap->phase += !mr__snap_is_full(snap);
    }
    while (snap->phase == MR__SNAP_DELIVERIES && snap->delivery != NULL &&
           !mr__snap_is_full(snap)) {
        struct mr__delivery *d = snap->delivery;
        snap->delivery = d->newer;
        if (d->snapped != sub->snapped) {
            save_delivery(snap, d);
        }
    }
    if (snap->phase == MR__SNAP_DELIVERIES && snap->delivery == NULL) {
        snap->sub = NULL;
        sub->snap = NULL;
        mr_map_release(&snap->settled);
        section_ends(snap);
    }
    return true;
}

static void save_subs(struct mr__snap *snap, struct mr_bus *bus)
{
    while (!mr__snap_is_full(snap) && (snap->sub != NULL || snap->next < bus->sub_count)) {
        if (snap->sub == NULL) {
            sub_begins(snap, bus, bus->subs[snap->next]);
        }
        if (!sub_goes_on(snap)) {
            return;
        }
    }
    if (snap->sub == NULL && snap->next >= bus->sub_count) {
        snap->saved_subs = snap->next;
        snap->next = 0;
        snap->turn = MR__SNAP_KEYS;
    }
}

/* Keys come at one end and go at the other: what has gone meanwhile need not be known. */
static void save_keys(struct mr__snap *snap, struct mr_bus *bus)
{
    while (!mr__snap_is_full(snap) && snap->next < bus->source_count) {
        const struct mr__seen *seen = &bus->sources[snap->next]->seen;
        if (!snap->in_section) {
            section_begins(snap, bus);
            put_item(snap, MR__ITEM_KEYS, snap->next);
            put64(snap, mr__snap_position(bus));
            put64(snap, seen->window_ns);
            put64(snap, seen->limit);
            put64(snap, seen->count);
            snap->key_at = seen->dropped;
            snap->key_end = seen->dropped + seen->count;
        }
        snap->key_at = snap->key_at < seen->dropped ? seen->dropped : snap->key_at;
        for (; snap->key_at < snap->key_end && !mr__snap_is_full(snap); snap->key_at++) {
            const struct mr__seen_key *key = mr__seen_at(seen, snap->key_at - seen->dropped);
            put_item(snap, MR__ITEM_KEY, key->offset);
            put64(snap, key->key.low);
            put64(snap, key->key.high);
            put64(snap, key->log_ns);
        }
        if (snap->key_at >= snap->key_end) {
            section_ends(snap);
        }
    }
    if (!snap->in_section && snap->next >= bus->source_count) {
        snap->next = 0;
        snap->turn = MR__SNAP_JOINS;
    }
}

static void save_joins(struct mr__snap *snap, struct mr_bus *bus)
{
    if (!snap->in_section) {
        section_begins(snap, bus);
        put_item(snap, MR__ITEM_JOINS, bus->join_count);
        put64(snap, mr__snap_position(bus));
        bus->joins_snapped = !bus->joins_snapped;
        snap->joins = true;
        snap->join = bus->join_first;
    }
    while (snap->join != NULL && !mr__snap_is_full(snap)) {
        struct mr__join *join = snap->join;
        snap->join = join->next;
        if (join->snapped != bus->joins_snapped) {
            save_join(snap, bus, join);
        }
    }
    if (snap->join == NULL) {
        snap->joins = false;
        section_ends(snap);
        put_item(snap, MR__ITEM_LAST, snap->saved_subs);
        put64(snap, bus->source_count);
        snap->turn = MR__SNAP_DONE;
    }
}

void mr__snap_save(struct mr__snap *snap, struct mr_bus *bus)
{
    if (snap->turn == MR__SNAP_SUBS) {
        save_subs(snap, bus);
    }
    if (snap->turn == MR__SNAP_KEYS && !mr__snap_is_full(snap)) {
        save_keys(snap, bus);
    }
    if (snap->turn == MR__SNAP_JOINS && !mr__snap_is_full(snap)) {
        save_joins(snap, bus);
    }
}

/* --- before something changes ----------------------------------------------------------------- */

void mr__snap_delivery(struct mr__snap *snap, struct mr__delivery *d)
{
    if (d->snapped != d->sub->snapped && !MR_PLANTED(SNAP_UNTOUCHED)) {
        save_delivery(snap, d);
    }
}

void mr__snap_delivery_ends(struct mr__snap *snap, struct mr__delivery *d)
{
    mr__snap_delivery(snap, d);
    if (snap->delivery == d) {
        snap->delivery = d->newer;
    }
}

void mr__snap_lane_settled(struct mr__snap *snap, uint64_t lane)
{
    if (snap->phase > MR__SNAP_DEAD) {
        return;
    }
    uint64_t count = 0;
    (void)mr_map_get(&snap->settled, lane, &count); /* none: it stays 0 */
    if (mr_map_reserve(&snap->settled, 1) != MR_OK) {
        snap->failed = true; /* given up with the next turn; the slot before stands */
        return;
    }
    mr_map_set(&snap->settled, lane, count + 1);
}

void mr__snap_dead_comes(struct mr__snap *snap, uint64_t at)
{
    snap->dead_at += at < snap->dead_at;
}

void mr__snap_dead_goes(struct mr__snap *snap, struct mr__sub *sub, uint64_t at)
{
    if (sub->dead[at].letter.snapped != sub->snapped) {
        save_dead(snap, sub, &sub->dead[at]);
    }
    snap->dead_at -= at < snap->dead_at;
}

void mr__snap_join(struct mr_bus *bus, struct mr__join *join)
{
    struct mr__snap *snap = &bus->snap;
    if (snap->joins && join->snapped != bus->joins_snapped) {
        save_join(snap, bus, join);
    }
}

void mr__snap_join_closes(struct mr_bus *bus, struct mr__join *join)
{
    mr__snap_join(bus, join);
    if (bus->snap.joins && bus->snap.join == join) {
        bus->snap.join = join->next;
    }
}
