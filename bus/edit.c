/* An operator gives a held delivery another event. The delivery stays what it is, in its place of
 * its lane and with the attempts it had; from then on its event is another one. */
#include "bus/internal.h"

/* Behind all of its lane: a planted bug. */
static void lose_place(struct mr_bus *bus, struct mr__delivery *d)
{
    struct mr__delivery *next = d->lane_next;
    if (next == NULL || next->where != MR__BLOCKED || d->lane_prev != NULL) {
        return;
    }
    struct mr__lane *lane = d->lane;
    lane->first = next;
    next->lane_prev = NULL;
    d->lane_prev = lane->last;
    d->lane_next = NULL;
    lane->last->lane_next = d;
    lane->last = d;
    mr__state_wait(bus, next, 0);
}

void mr__apply_edit(struct mr_bus *bus, struct mr__delivery *d, const struct mr__arrival *arrival)
{
    MR_ASSERT(!d->in_stage);
    mr__snap_touch(d);
    mr__segment_live(bus, d->position, -1);
    d->position = arrival->position;
    d->size = arrival->size;
    d->expires_ns = arrival->expires_ns;
    d->bundle_key = 0;
    d->loading = false;
    mr_event_unref(d->event); /* if it was kept since it was read */
    d->event = NULL;
    d->attempts = 0;
    d->refusals = 0;
    if (mr_position_segment(d->position) == 0) {
        mr__stage_created(bus, d);
    } else {
        mr__segment_live(bus, d->position, 1);
    }
    if (MR_PLANTED(EDIT_MOVES)) {
        lose_place(bus, d);
    }
    mr__state_wait(bus, d, arrival->due_ns);
}

enum mr_status mr__fold_edit(struct mr_bus *bus, struct mr__sub *sub,
                             const struct mr_log_group *group, const struct mr_record *record,
                             const struct mr_record *event)
{
    struct mr__delivery *d = mr__delivery_find(sub, record->offset);
    uint64_t size = group->header.size;
    if (record->d < MR_GROUP_HEADER_SIZE || record->d > size ||
        mr_record_size(record->b) > size - record->d) {
        return MR_E_CORRUPT;
    }
    if (d == NULL) {
        return MR_OK; /* settled before what this recovery starts from */
    }
    struct mr__arrival arrival = {.position = group->position + record->d, .size = record->b};
    if (event->kind == MR_RECORD_EVENT && event->offset == record->c) {
        mr__arrival_times(&arrival, event->body);
    }
    if (MR_PLANTED(EDIT_FORGOTTEN)) {
        arrival.position = d->position;
        arrival.size = d->size;
    }
    if (d->where != MR__HELD) {
        mr__state_hold(bus, d); /* it was: the record that says so is lost */
    }
    mr__apply_edit(bus, d, &arrival);
    return MR_OK;
}

enum mr_status mr_bus_edit(struct mr_bus *bus, struct mr_now now, uint32_t subscription,
                           uint64_t offset, struct mr_event *event, uint64_t *ret_offset)
{
    mr__clock_advance(bus, now);
    struct mr__delivery *d = subscription < bus->sub_count
                                 ? mr__delivery_find(bus->subs[subscription], offset)
                                 : NULL;
    if (d == NULL || d->where != MR__HELD || bus->faulty) {
        return bus->faulty ? MR_E_FAULTY : d == NULL ? MR_E_NOT_FOUND : MR_E_CONFLICT;
    }
    const struct mr__group *stage = &bus->stage;
    enum mr_status r =
        d->in_stage ? MR_E_AGAIN
                    : mr__stage_reserve(bus, mr_record_size(event->size) + 2 * mr_record_size(0));
    r = r == MR_E_FULL && stage->size > 0 ? MR_E_AGAIN : r; /* the next group has more room */
    r = r == MR_OK ? mr__stage_reserve_created(bus, 1) : r;
    if (r != MR_OK) {
        return r;
    }
    struct mr__arrival arrival = {
        .position = stage->size == 0 ? MR_GROUP_HEADER_SIZE : stage->size, .size = event->size};
    mr__arrival_times(&arrival, mr_event_record(event));
    mr__fanout_forget(bus);
    *ret_offset =
        mr__event_append(bus, event, MR_SOURCE_BUS, subscription, offset, NULL, 0);
    bus->unmatched--; /* it goes to the one that it is for */
    struct mr_record record = {
        .kind = MR_RECORD_EDIT,
        .offset = offset,
        .a = subscription,
        .b = event->size,
        .c = *ret_offset,
        .d = arrival.position,
    };
    (void)mr__stage_record(bus, &record); /* where it lies does not matter */
    mr__shed_note(d, mr_event_record(event));
    mr__apply_edit(bus, d, &arrival);
    return MR_OK;
}
