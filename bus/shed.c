/* What a subscription sheds: when more than `max` of its deliveries wait, the oldest or the newest
 * of them are dropped until `to` wait, and in the same group, so that no crash comes between, an
 * event enters that tells of all that this group drops.
 *
 * That this ends, whoever takes these events: one never goes to the subscription it tells of, and
 * one that tells of such events goes to no subscription that sheds. So with nothing else coming in,
 * those that shed get a finite number of them, and each time at least one delivery goes. What goes
 * round through handlers ends with the hop limit: mrhops is one more than the highest of what was
 * dropped. */
#include "bus/internal.h"

#include <stdio.h>

#include "core/alloc.h"
#include "schemas/adapter.h"

#define SHED_MAX 256u     /* of one subscription in one group */
#define SHED_END_SIZE 256u /* of the record of each, about */

struct shedding { /* one subscription in one group */
    struct mr__sub *sub;
    uint32_t count;
    bool tells; /* among them is an event that tells of shedding */
    struct mr_event *event;
    struct mr_matches matches;
    bool loop; /* the event is past the hop limit */
    struct mr__delivery *victims[SHED_MAX];
    struct mr__ending *ends[SHED_MAX]; /* owned */
};

static bool waits(const struct mr__delivery *d)
{
    return d->where == MR__READY || d->where == MR__BLOCKED || d->where == MR__WAITING ||
           d->where == MR__DELAYED || (MR_PLANTED(SHED_RUNNING) && d->where == MR__FLIGHT);
}

static uint64_t waiting(const struct mr__sub *sub)
{
    return sub->behind + sub->where_count[MR__READY] + sub->where_count[MR__BLOCKED] +
           sub->where_count[MR__WAITING] + sub->where_count[MR__DELAYED];
}

static bool is_over(const struct mr__sub *sub)
{
    return sub->conf != NULL && sub->conf->shed_max > 0 &&
           waiting(sub) + (MR_PLANTED(SHED_EARLY) ? 1u : 0u) > sub->conf->shed_max;
}

static void list(struct mr_bus *bus, struct mr__sub *sub)
{
    if (sub->shed_listed) {
        return;
    }
    sub->shed_listed = true;
    sub->shed_next = NULL;
    *(bus->shed_last == NULL ? &bus->shed_first : &bus->shed_last->shed_next) = sub;
    bus->shed_last = sub;
}

void mr__shed_look(struct mr_bus *bus, struct mr__sub *sub)
{
    if (is_over(sub)) {
        list(bus, sub);
    }
}

void mr__shed_note(struct mr__delivery *d, struct mr_bytes record)
{
    if (d->sub->conf == NULL || d->sub->conf->shed_max == 0) {
        return;
    }
    uint32_t hops = mr_event_hops(record);
    d->hops = hops > UINT8_MAX ? UINT8_MAX : (uint8_t)hops;
    d->tells = mr_bytes_equal(mr_event_type(record), MR_BYTES_LITERAL(MR_SHED_TYPE));
}

void mr__shed_check(const struct mr__sub *sub)
{
    MR_ASSERT(sub->shed_listed || !is_over(sub));
}

/* --- which ------------------------------------------------------------------------------------ */

/* Those that go now. What is older than all of the window, or newer, and is just being read is
 * waited for; with no room to read it, the window alone is looked at. */
static void choose(const struct mr_bus *bus, struct shedding *shedding)
{
    struct mr__sub *sub = shedding->sub;
    bool newest = MR_PLANTED(SHED_WRONG_END) ? !sub->conf->shed_newest : sub->conf->shed_newest;
    bool reading =
        mr__catches_up(bus, sub) && mr__window_has_room(bus, sub, sub->window_epoch, true);
    uint64_t most = waiting(sub) - sub->conf->shed_to + (MR_PLANTED(SHED_DEEP) ? 1u : 0u);
    uint64_t fitting = mr__group_size_max(bus) / 4 / SHED_END_SIZE;
    most = most < SHED_MAX ? most : SHED_MAX;
    most = most < fitting ? most : fitting;
    struct mr__delivery *d = newest ? sub->newest : sub->oldest;
    for (; d != NULL && shedding->count < most; d = newest ? d->older : d->newer) {
        if (!waits(d)) {
            continue;
        }
        if (reading && (newest || d->offset >= sub->cursor_offset)) {
            break;
        }
        shedding->victims[shedding->count++] = d;
    }
}

/* As many of them as memory lets end. */
static size_t make_ends(const struct mr_bus *bus, struct shedding *shedding)
{
    char reason[64];
    (void)snprintf(reason, sizeof(reason), "shed: more than %u waited",
                   shedding->sub->conf->shed_max); /* it fits */
    size_t bytes = 0;
    for (uint32_t i = 0; i < shedding->count; i++) {
        const struct mr__delivery *d = shedding->victims[i];
        struct mr__ending *end = mr__ending_plain(bus, d, MR_STATE_DROPPED, reason);
        if (end == NULL) {
            shedding->count = i;
            break;
        }
        shedding->ends[i] = end;
        shedding->tells = shedding->tells || d->tells;
        bytes += mr_record_size(end->result.size + (d->notes == NULL ? 0 : d->notes->size));
    }
    return bytes;
}

/* --- the event -------------------------------------------------------------------------------- */

static enum mr_status make_event(struct mr_bus *bus, struct shedding *shedding)
{
    const struct mr__sub *sub = shedding->sub;
    const struct mr__delivery *first = shedding->victims[0];
    const struct mr__delivery *last = shedding->victims[shedding->count - 1];
    uint32_t hops = 0;
    for (uint32_t i = 0; i < shedding->count; i++) {
        hops = shedding->victims[i]->hops > hops ? shedding->victims[i]->hops : hops;
    }
    if (first->offset > last->offset) {
        const struct mr__delivery *other = first;
        first = last;
        last = other;
    }
    const struct mr_shed shed = {
        .subscription = sub->name,
        .dropped = shedding->count,
        .max = sub->conf->shed_max,
        .to = sub->conf->shed_to,
        .waiting = waiting(sub) - shedding->count,
        .newest = sub->conf->shed_newest,
        .hops = hops + 1,
        .first_offset = first->offset,
        .first_wall_ns = first->arrival_ns,
        .last_offset = last->offset,
        .last_wall_ns = last->arrival_ns,
    };
    shedding->loop = shed.hops > bus->config->hops_max;
    return mr_adapt_shed(&shed, bus->now.wall_ns, &shedding->event);
}

static enum mr_status match_event(struct mr_bus *bus, struct shedding *shedding)
{
    struct mr_matches *matches = &shedding->matches;
    if (shedding->loop) {
        return MR_OK;
    }
    enum mr_status r = mr_router_match(bus->router, UINT32_MAX,
                                       mr_event_record(shedding->event), matches);
    uint32_t kept = 0;
    for (uint32_t i = 0; r == MR_OK && i < matches->count; i++) {
        struct mr_match match = matches->items[i];
        match.subscription = bus->sub_of_index[match.subscription];
        const struct mr__sub *to = bus->subs[match.subscription];
        bool round = to == shedding->sub ||
                     (shedding->tells && to->conf != NULL && to->conf->shed_max > 0);
        if (!round || MR_PLANTED(SHED_ROUND)) {
            matches->items[kept++] = match;
        }
    }
    matches->count = kept;
    return r;
}

/* Room for all of it, so that nothing of it can fail any more. */
static enum mr_status reserve(struct mr_bus *bus, struct shedding *shedding, size_t ends_size)
{
    const struct mr_matches *matches = &shedding->matches;
    enum mr_status r = MR_OK;
    if (shedding->loop) {
        struct mr__sub *ingest = mr__ingest_sub(bus, MR_SOURCE_BUS); /* may stage its name */
        r = ingest == NULL ? MR_E_FULL : mr__state_reserve_dead_more(bus, ingest, 1);
        r = r == MR_OK ? mr__stage_reserve_dead(bus, 1) : r;
    }
    if (r == MR_OK) {
        r = mr__stage_reserve(bus, ends_size + mr_record_size(shedding->event->size) + 1024 +
                                       mr_record_size(matches->count * MR_MATCH_ENTRY_SIZE) +
                                       mr__fanout_size(bus, matches->count));
    }
    r = r == MR_OK ? mr__state_reserve_dead(bus, shedding->sub) : r;
    r = r == MR_OK ? mr__stage_reserve_created(bus, matches->count) : r;
    mr__arrivals_begin(bus);
    mr__arrivals_wish(bus, matches);
    mr__arrivals_reserve(bus, matches);
    mr__fanout_forget(bus);
    return r == MR_OK ? mr__fanout_prepare(bus, shedding->event, matches->items, matches->count, 0)
                      : r;
}

/* Before the ends, which have joins of their own to make ready. */
static void append_event(struct mr_bus *bus, struct shedding *shedding)
{
    if (MR_PLANTED(SHED_UNTOLD)) {
        return;
    }
    if (shedding->loop) {
        (void)mr__event_append_rejected(bus, shedding->event, MR_SOURCE_BUS,
                                        mr__ingest_sub(bus, MR_SOURCE_BUS)->id,
                                        "hop limit reached: what is shed goes round in a loop");
        return;
    }
    (void)mr__event_append(bus, shedding->event, MR_SOURCE_BUS, shedding->sub->id,
                           shedding->victims[0]->offset, shedding->matches.items,
                           shedding->matches.count);
}

/* --- a turn ----------------------------------------------------------------------------------- */

/* All of it or nothing. @return how many are gone */
static uint32_t drop(struct mr_bus *bus, struct shedding *shedding)
{
    size_t bytes = make_ends(bus, shedding);
    enum mr_status r = shedding->count == 0 ? MR_E_NOMEM : make_event(bus, shedding);
    r = r == MR_OK ? match_event(bus, shedding) : r;
    r = r == MR_OK ? reserve(bus, shedding, bytes) : r;
    if (r == MR_OK) {
        append_event(bus, shedding);
    }
    for (uint32_t i = 0; i < shedding->count; i++) {
        if (r != MR_OK) {
            mr__ending_release(shedding->ends[i]);
            continue;
        }
        enum mr_status ended =
            mr__finish_or_wait(bus, shedding->victims[i], shedding->ends[i], NULL);
        MR_ASSERT(ended == MR_OK); /* there is room, and what is dropped has no outcome */
    }
    if (r == MR_OK) {
        mr__count_shed(shedding->sub, shedding->count);
        shedding->sub->shed_sequence = bus->next_sequence;
    }
    mr_event_unref(shedding->event);
    mr_matches_release(&shedding->matches);
    return r == MR_OK ? shedding->count : 0;
}

/* @return whether it has no more to shed */
static bool shed(struct mr_bus *bus, struct mr__sub *sub)
{
    bool configured = sub->conf != NULL && sub->conf->shed_max > 0;
    if (!is_over(sub) && !(configured && sub->shedding && waiting(sub) > sub->conf->shed_to)) {
        sub->shedding = false;
        return true;
    }
    if (sub->shed_sequence == bus->next_sequence) {
        return false; /* one event in each group */
    }
    struct shedding shedding = {.sub = sub};
    choose(bus, &shedding);
    if (drop(bus, &shedding) > 0) {
        sub->shedding = waiting(sub) > sub->conf->shed_to; /* on with it in the next group */
    }
    return !sub->shedding && !is_over(sub);
}

void mr__shed_run(struct mr_bus *bus)
{
    struct mr__sub *sub = bus->draining ? NULL : bus->shed_first;
    if (sub == NULL) {
        return;
    }
    bus->shed_first = NULL;
    bus->shed_last = NULL;
    while (sub != NULL) { /* an event that tells of one may put others on the list anew */
        struct mr__sub *next = sub->shed_next;
        sub->shed_listed = false;
        if (!shed(bus, sub)) {
            list(bus, sub);
        }
        sub = next;
    }
}
