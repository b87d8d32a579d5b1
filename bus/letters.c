/* Dead letters, and the notes of earlier attempts that go with them. */
#include "bus/internal.h"

#include "core/alloc.h"

#define DEAD_KEPT 16u /* places that stay */

/* --- dead letters ----------------------------------------------------------------------------- */

/* Lanes that no dead letter is of any more go, before there would be room for them and others. */
static enum mr_status forget_lanes(struct mr__sub *sub)
{
    struct mr_map kept = {0};
    for (uint64_t i = 0; i < sub->dead_count; i++) {
        uint64_t lane = sub->dead[i].letter.lane;
        uint64_t settled;
        if (lane != 0 && mr_map_get(&sub->dead_lanes, lane, &settled)) {
            if (mr_map_reserve(&kept, 1) != MR_OK) {
                mr_map_release(&kept);
                return MR_E_NOMEM;
            }
            mr_map_set(&kept, lane, settled);
        }
    }
    mr_map_release(&sub->dead_lanes);
    sub->dead_lanes = kept;
    return MR_OK;
}

static enum mr_status reserve_lanes(struct mr__sub *sub, uint64_t more)
{
    enum mr_status r = MR_OK;
    if (!mr_map_has_room(&sub->dead_lanes, more) &&
        sub->dead_lanes.count > sub->dead_count) {
        r = forget_lanes(sub);
    }
    return r == MR_OK ? mr_map_reserve(&sub->dead_lanes, more) : r;
}

static enum mr_status resize(struct mr__sub *sub, uint64_t capacity)
{
    struct mr__dead *resized = mr_realloc(sub->dead, capacity * sizeof(*resized));
    if (resized == NULL) {
        return MR_E_NOMEM;
    }
    sub->dead = resized;
    sub->dead_capacity = capacity;
    return MR_OK;
}

enum mr_status mr__state_reserve_dead(struct mr_bus *bus, struct mr__sub *sub)
{
    return mr__state_reserve_dead_more(bus, sub, 1);
}

enum mr_status mr__state_reserve_dead_more(struct mr_bus *bus, struct mr__sub *sub, uint64_t more)
{
    enum mr_status r = MR_OK;
    if (sub->lanes.count > 0 || bus->recovering) {
        r = reserve_lanes(sub, more);
    }
    if (r == MR_OK && sub->dead_count + more > sub->dead_capacity) {
        r = resize(sub, mr__dead_capacity(sub->dead_count + more));
    }
    mr__memory_update(bus, sub);
    return r;
}

uint64_t mr__dead_lower(const struct mr__sub *sub, uint64_t offset)
{
    uint64_t low = 0;
    uint64_t high = sub->dead_count;
    while (low < high) {
        uint64_t mid = low + (high - low) / 2;
        if (sub->dead[mid].letter.offset < offset) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

int64_t mr__dead_find(const struct mr__sub *sub, uint64_t offset)
{
    uint64_t at = mr__dead_lower(sub, offset);
    return at < sub->dead_count && sub->dead[at].letter.offset == offset ? (int64_t)at : -1;
}

void mr__state_add_dead(struct mr_bus *bus, struct mr__sub *sub, const struct mr_dead_letter *l)
{
    MR_ASSERT(sub->dead_count < sub->dead_capacity);
    uint64_t at = mr__dead_lower(sub, l->offset);
    if (sub->snap != NULL) {
        mr__snap_dead_comes(sub->snap, at);
    }
    memmove(sub->dead + at + 1, sub->dead + at, (sub->dead_count - at) * sizeof(*sub->dead));
    sub->dead_count++;
    sub->dead_staged += mr__dead_is_staged(l);
    uint64_t settled = 0;
    if (l->lane != 0 && !mr_map_get(&sub->dead_lanes, l->lane, &settled)) {
        mr_map_set(&sub->dead_lanes, l->lane, 0);
    }
    sub->dead[at] = (struct mr__dead){.letter = *l, .later_before = settled};
    sub->dead[at].letter.snapped = sub->snapped;
    mr__memory_update(bus, sub);
    mr__segment_live(bus, l->event_position, 1);
    mr__segment_live(bus, l->record_position, 1);
}

uint64_t mr__dead_later(const struct mr__sub *sub, const struct mr__dead *dead)
{
    uint64_t settled = 0;
    if (dead->letter.lane == 0 || !mr_map_get(&sub->dead_lanes, dead->letter.lane, &settled)) {
        return 0;
    }
    return settled - dead->later_before;
}

void mr__state_remove_dead(struct mr_bus *bus, struct mr__sub *sub, uint64_t at)
{
    MR_ASSERT(at < sub->dead_count);
    if (sub->snap != NULL) {
        mr__snap_dead_goes(sub->snap, sub, at);
    }
    struct mr_dead_letter letter = sub->dead[at].letter;
    sub->dead_count--;
    sub->dead_staged -= mr__dead_is_staged(&letter);
    memmove(sub->dead + at, sub->dead + at + 1, (sub->dead_count - at) * sizeof(*sub->dead));
    mr__segment_live(bus, letter.event_position, -1);
    mr__segment_live(bus, letter.record_position, -1);
    if (sub->dead_count == 0) {
        mr_map_release(&sub->dead_lanes);
    }
    if (sub->dead_capacity > DEAD_KEPT && sub->dead_count * 2 < sub->dead_capacity) {
        (void)resize(sub, mr__dead_capacity(sub->dead_count)); /* memory short: it stays as large */
    }
    mr__memory_update(bus, sub);
}

/* --- notes of earlier attempts ---------------------------------------------------------------- */

void mr__note_add(struct mr_bus *bus, struct mr__delivery *d, uint32_t fence, uint64_t started,
                  uint64_t ended,
                  const struct mr_result *result)
{
    struct mr_result small = *result;
    small.stderr_tail = mr_bytes(NULL, 0); /* it stays in the RETRY record */
    struct mr_buf buf;
    mr_buf_init(&buf, NOTES_SIZE_MAX);
    uint8_t head[24] = {0};
    mr_put_u32(head + 4, fence);
    mr_put_u64(head + 8, started);
    mr_put_u64(head + 16, ended);
    uint32_t have = d->notes == NULL ? 0 : d->notes->size;
    if (mr_buf_append(&buf, head, sizeof(head)) == MR_OK &&
        mr_result_encode(&small, &buf) == MR_OK && have + buf.size <= NOTES_SIZE_MAX) {
        mr_put_u32(buf.data, (uint32_t)buf.size - 4);
        uint32_t need = have + (uint32_t)buf.size;
        uint32_t capacity = (uint32_t)mr_round_up(need, 128);
        uint64_t more = capacity - (d->notes == NULL ? 0 : d->notes->capacity);
        struct mr__notes *grown = mr__memory_has_bytes(bus, d->sub, more + more / 8 + 1)
                                      ? mr_realloc(d->notes, sizeof(*grown) + capacity)
                                      : NULL;
        /* Memory short or too many: the attempt is still in the log, only not in the summary. */
        if (grown != NULL) {
            uint32_t before = d->notes == NULL ? 0 : grown->capacity;
            d->notes = grown;
            memcpy(grown->data + have, buf.data, buf.size);
            grown->size = need;
            grown->capacity = capacity;
            d->sub->window_bytes += capacity - before;
            mr__memory_update(bus, d->sub);
        }
    }
    mr_buf_release(&buf);
}
