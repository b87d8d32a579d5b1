/* What the state in memory may take, and who may have more of it.
 *
 * memory.state bounds all that grows with the number of deliveries. Of it, dedupe and fan-outs have
 * parts of their own, and a little is kept back (mr_memory_parts()). Half of the rest is given out:
 * every configured subscription has its share for itself, whatever the others do. The other half
 * is for those that want more than their share: each may have three times what is left of it, so
 * that one alone has most of it and whoever comes later still finds some. A subscription that gets
 * no more stops its cursor, and what it matches waits on disk.
 *
 * Fan-outs of one batch of events may go beyond their part until the next step, which ends the
 * oldest of all (joined.c). Their part is what is left, where subscriptions have more than they get
 * or much is idle.
 *
 * What a subscription has is computed from its counts, here and nowhere else. A delivery is counted
 * with what it needs should it end as a dead letter: that is never refused. */
#include "bus/internal.h"

#define DELIVERY_MEMORY (sizeof(struct mr__delivery) + 24u) /* and two places in the heap */
#define LANE_MEMORY (sizeof(struct mr__lane) + 1u)
#define ABOVE_SHARE 3u
#define REDRIVEN_ALWAYS 64u

struct wish { /* what is to come */
    uint64_t deliveries;
    uint64_t lanes;
    uint64_t dead;
    uint64_t bytes;
};

static uint64_t map_bytes(const struct mr_map *map, uint64_t more)
{
    return mr_map_capacity(map, more) * sizeof(struct mr_map_slot);
}

uint64_t mr__dead_capacity(uint64_t count)
{
    return count == 0 ? 0 : count + count / 8 + 2;
}

/* Of dead letters, and of all that may become some. */
static uint64_t dead_bytes(const struct mr__sub *sub, const struct wish *wish)
{
    uint64_t most = sub->dead_count + sub->deliveries.count + wish->deliveries + wish->dead;
    uint64_t capacity = mr__dead_capacity(most);
    capacity = capacity > sub->dead_capacity ? capacity : sub->dead_capacity;
    const struct mr_map *lanes = &sub->dead_lanes;
    uint64_t bytes = capacity * sizeof(*sub->dead) + map_bytes(lanes, 0);
    if (sub->lanes.count + wish->lanes > 0) {
        bytes += map_bytes(lanes, most > lanes->count ? most - lanes->count : 0) -
                 map_bytes(lanes, 0);
    }
    return bytes;
}

static uint64_t memory_of(const struct mr__sub *sub, const struct wish *wish)
{
    uint64_t notes = sub->window_bytes - sub->deliveries.count * DELIVERY_COST -
                     sub->lanes.count * sizeof(struct mr__lane);
    return (sub->deliveries.count + wish->deliveries) * DELIVERY_MEMORY +
           (sub->lanes.count + wish->lanes) * LANE_MEMORY + notes + notes / 8 +
           map_bytes(&sub->deliveries, wish->deliveries) + map_bytes(&sub->lanes, wish->lanes) +
           map_bytes(&sub->skip, 0) + dead_bytes(sub, wish) + wish->bytes;
}

uint64_t mr__memory_share(const struct mr_bus *bus, const struct mr__sub *sub)
{
    return sub->conf == NULL ? 0 : bus->memory_share;
}

static uint64_t above(uint64_t bytes, uint64_t share)
{
    return bytes > share ? bytes - share : 0;
}

void mr__memory_update(struct mr_bus *bus, struct mr__sub *sub)
{
    uint64_t share = mr__memory_share(bus, sub);
    uint64_t now = memory_of(sub, &(struct wish){0});
    bus->memory_above += above(now, share) - above(sub->memory, share);
    bus->state_bytes += now - sub->memory;
    sub->memory = now;
}

/* --- all of it -------------------------------------------------------------------------------- */

/* Places that were made and that nothing is in. */
static uint64_t idle_bytes(const struct mr_bus *bus)
{
    uint64_t heap = bus->heap_capacity * sizeof(struct mr__delivery *);
    return bus->deliveries.free_count * sizeof(struct mr__delivery) +
           bus->lanes.free_count * sizeof(struct mr__lane) +
           above(heap, bus->delivery_count * 2 * sizeof(struct mr__delivery *));
}

uint64_t mr__memory_used(const struct mr_bus *bus)
{
    return bus->state_bytes + idle_bytes(bus);
}

/* Subscriptions have more than what is given out: since a start, since there are other shares, or
 * by letters of events that go round in a loop, which nobody can be asked to take back. */
static bool is_over(const struct mr_bus *bus)
{
    return bus->memory_above > bus->memory_free;
}

/* memory.state, or what a start found to be in use. */
static uint64_t bound_of(const struct mr_bus *bus)
{
    uint64_t bound = bus->options.memory_state;
    return bound > bus->memory_recovered ? bound : bus->memory_recovered;
}

uint64_t mr__memory_joins_over(const struct mr_bus *bus)
{
    uint64_t part = bus->options.memory_state / 4;
    uint64_t left = above(bound_of(bus), mr__memory_used(bus) - bus->join_bytes);
    return above(bus->join_bytes, part < left ? part : left);
}

/* Idle once @p wish has come true. */
static uint64_t idle_after(const struct mr_bus *bus, const struct wish *wish)
{
    return idle_bytes(bus) +
           mr__pool_growth(&bus->deliveries, sizeof(struct mr__delivery), wish->deliveries) +
           mr__pool_growth(&bus->lanes, sizeof(struct mr__lane), wish->lanes) -
           wish->deliveries * sizeof(struct mr__delivery) - wish->lanes * sizeof(struct mr__lane);
}

static bool has_room(const struct mr_bus *bus, const struct mr__sub *sub, const struct wish *wish)
{
    uint64_t share = mr__memory_share(bus, sub);
    uint64_t bytes = memory_of(sub, wish);
    uint64_t idle = idle_after(bus, wish);
    uint64_t used = bus->state_bytes - sub->memory + bytes + idle;
    if (used > bus->options.memory_state && !MR_PLANTED(MEMORY_UNBOUND)) {
        return false;
    }
    if (bytes <= share || MR_PLANTED(MEMORY_UNBOUND) || MR_PLANTED(MEMORY_UNFAIR)) {
        return true;
    }
    uint64_t most = bus->memory_free;
    uint64_t all = bus->memory_above - above(sub->memory, share) + above(bytes, share);
    /* Idle places are as good as free for the shares, half of which are for such places. More of
     * them than that goes with what else is in their slabs: one delivery may always go on. */
    uint64_t spare = sub->deliveries.count == 0 ? 0 : above(idle, most / 2);
    return all + spare <= most &&
           above(bytes, share) <= above(most, bus->memory_above) * ABOVE_SHARE;
}

bool mr__memory_has_room(const struct mr_bus *bus, const struct mr__sub *sub, bool lane)
{
    return has_room(bus, sub, &(struct wish){.deliveries = 1, .lanes = lane});
}

bool mr__memory_has_bytes(const struct mr_bus *bus, const struct mr__sub *sub, uint64_t bytes)
{
    return has_room(bus, sub, &(struct wish){.bytes = bytes});
}

bool mr__memory_has_dead(const struct mr_bus *bus, const struct mr__sub *sub, uint64_t more)
{
    return has_room(bus, sub, &(struct wish){.dead = more});
}

bool mr__memory_refills(const struct mr_bus *bus, const struct mr__sub *sub)
{
    if (sub->deliveries.count == 0 && mr__memory_has_room(bus, sub, true)) {
        return true;
    }
    uint64_t left = above(bus->memory_free, bus->memory_above);
    uint64_t most = mr__memory_share(bus, sub) + left * ABOVE_SHARE;
    return sub->memory <= most / 4 * 3;
}

/* A redrive makes a delivery of a dead letter: a few may always, or who has nothing but dead
 * letters would never get rid of them. */
bool mr__memory_has_redrive(const struct mr_bus *bus, const struct mr__sub *sub)
{
    return sub->deliveries.count < REDRIVEN_ALWAYS || mr__memory_has_room(bus, sub, true);
}

/* --- shares ----------------------------------------------------------------------------------- */

void mr__memory_configure(struct mr_bus *bus, const struct mr_config *config)
{
    uint64_t all = bus->options.memory_state;
    if (config == NULL) {
        bus->memory_share = 0; /* recovery: what was begun comes on top */
        bus->memory_free = all / 2;
    } else {
        const struct mr_memory_parts parts = mr_memory_parts(config, all);
        bus->memory_share = parts.share;
        bus->memory_free = parts.free;
    }
    bus->memory_above = 0;
    for (uint32_t i = 0; i < bus->sub_count; i++) {
        struct mr__sub *sub = bus->subs[i];
        sub->memory_wished = 0;
        sub->memory_wished_lanes = 0;
        bus->memory_above += above(sub->memory, mr__memory_share(bus, sub));
        mr__memory_update(bus, sub);
    }
}

/* --- what is about to arrive ------------------------------------------------------------------ */

void mr__arrivals_begin(struct mr_bus *bus)
{
    bus->arrivals = 0;
    bus->arrival_lanes = 0;
}

void mr__arrivals_wish(struct mr_bus *bus, const struct mr_matches *matches)
{
    for (uint32_t i = 0; i < matches->count; i++) {
        struct mr__sub *sub = bus->subs[matches->items[i].subscription];
        sub->memory_wished += sub->live;
        sub->memory_wished_lanes += sub->live && matches->items[i].lane != 0;
    }
}

/* As many as there is room for; the rest goes to disk. */
static void grant(struct mr_bus *bus, struct mr__sub *sub)
{
    struct wish wish = {.deliveries = sub->memory_wished, .lanes = sub->memory_wished_lanes};
    sub->memory_wished = 0;
    sub->memory_wished_lanes = 0;
    while (wish.deliveries > 0 && !has_room(bus, sub, &wish)) {
        wish.deliveries /= 2;
        wish.lanes = wish.lanes < wish.deliveries ? wish.lanes : wish.deliveries;
    }
    if (wish.deliveries > 0 &&
        mr__state_reserve(bus, sub, wish.deliveries, wish.lanes) == MR_OK &&
        mr__state_reserve_total(bus, bus->arrivals + wish.deliveries,
                                bus->arrival_lanes + wish.lanes) == MR_OK) {
        bus->arrivals += wish.deliveries;
        bus->arrival_lanes += wish.lanes;
    }
}

void mr__arrivals_reserve(struct mr_bus *bus, const struct mr_matches *matches)
{
    for (uint32_t i = 0; i < matches->count; i++) {
        struct mr__sub *sub = bus->subs[matches->items[i].subscription];
        if (sub->memory_wished > 0) {
            grant(bus, sub);
        }
    }
}

bool mr__arrival_has_place(const struct mr_bus *bus, const struct mr__sub *sub, bool lane)
{
    return mr_map_has_room(&sub->deliveries, 1) &&
           (!lane || (mr_map_has_room(&sub->lanes, 1) &&
                      bus->lanes.free_count > 0)) &&
           bus->deliveries.free_count > 0 && bus->delivery_count < bus->heap_capacity;
}

/* --- invariants ------------------------------------------------------------------------------- */

/* One that has not got its share is never refused, unless others still have what was theirs, or
 * more lies idle in slabs than is kept back for that. */
static bool has_room_below(const struct mr_bus *bus, const struct mr__sub *sub)
{
    const struct wish wish = {.deliveries = 1, .lanes = 1};
    bool scattered = idle_bytes(bus) > bus->options.memory_state / 16;
    return is_over(bus) || mr__memory_joins_over(bus) > 0 || scattered ||
           memory_of(sub, &wish) > mr__memory_share(bus, sub) ||
           has_room(bus, sub, &wish);
}

void mr__memory_check(const struct mr_bus *bus)
{
    uint64_t bytes = bus->seen_bytes + bus->join_bytes;
    uint64_t high = 0;
    for (uint32_t i = 0; i < bus->sub_count; i++) {
        const struct mr__sub *sub = bus->subs[i];
        MR_ASSERT(sub->memory == memory_of(sub, &(struct wish){0}));
        bytes += sub->memory;
        high += above(sub->memory, mr__memory_share(bus, sub));
        MR_ASSERT(bus->recovering || has_room_below(bus, sub));
    }
    MR_ASSERT(bytes == bus->state_bytes);
    MR_ASSERT(high == bus->memory_above);
    MR_ASSERT(bus->memory_recovered <= bus->options.memory_state * 2);
    MR_ASSERT(mr__memory_used(bus) <= bound_of(bus) + mr__memory_joins_over(bus) ||
              bus->recovering);
}
