/* The event of one delivery: wanted when it begins, and by ends that are told with their event. */
#include "bus/internal.h"

#include "core/alloc.h"

#define GAP_MAX (16u * MR_KIB) /* between two events: read as well, rather than each by itself */
#define LOADING_STEP 1024u /* events that one step looks for */

bool mr__event_lost(struct mr_bus *bus, struct mr__delivery *d)
{
    mr_event_unref(d->event);
    d->event = NULL;
    if (!mr__finish_lost(bus, d)) {
        d->loading = true; /* no room in this group: found again at the next try */
        if (d->list == NULL) {
            mr__list_push(&bus->loading, d);
        }
        return false;
    }
    bus->lost_events++;
    bus->ports.alarm(bus->ports.context,
                     "an event could not be read back from the log: its deliveries end lost");
    return true;
}

/* How much is read with the event of @p d: those of its subscription that came after it, as far as
 * they stand close together; they are likely wanted next. */
static size_t size_ahead(const struct mr__delivery *d)
{
    uint64_t end = d->position + mr_record_size(d->size);
    for (const struct mr__delivery *next = d->newer; next != NULL; next = next->newer) {
        uint64_t next_end = next->position + mr_record_size(next->size);
        if (next->in_stage || next->position < end || next->position - end > GAP_MAX ||
            next_end - d->position > COLD_CHUNK) {
            break;
        }
        end = next_end;
    }
    return (size_t)(end - d->position);
}

/* Gets d's event from memory, or asks the disk; queued and ending deliveries come back here. */
void mr__load_event(struct mr_bus *bus, struct mr__delivery *d)
{
    if (d->event != NULL && d->where != MR__ENDING) {
        return;
    }
    size_t size = mr_record_size(d->size);
    const uint8_t *data = NULL;
    if (d->in_stage) {
        data = bus->stage.data + d->position;
    } else {
        data = mr__bytes_at(bus, d->position, size);
    }
    if (data == NULL) {
        d->loading = true;
        (void)mr__bytes_want(bus, d->position, size, size_ahead(d)); /* or asked again */
        if (d->where == MR__ENDING && d->list == NULL) {
            mr__list_push(&bus->loading, d);
        }
        return;
    }
    d->loading = false;
    struct mr_record record;
    bool good = mr_record_decode(data, size, &record, NULL) == MR_OK &&
                mr_record_is_event_of(&record, d->sub->id, d->offset) &&
                mr_event_check(record.body) == MR_OK;
    if (!good) {
        d->loading = true;
        (void)mr__event_lost(bus, d); /* now, or tried again */
        return;
    }
    if (d->event == NULL) {
        d->event = mr_event_from_record(record.body);
        if (d->event == NULL) {
            if (d->where == MR__ENDING && d->list == NULL) {
                mr__list_push(&bus->loading, d);
            }
            return; /* memory short: tried again with the next step */
        }
    }
    if (d->where == MR__ENDING) {
        mr__list_remove(d);
        mr__ending_ready(bus, d);
    }
}

/* In the order in which they came, as those in front have asked for their bytes: these are used
 * before others take their place in memory. */
void mr__loading_run(struct mr_bus *bus)
{
    uint64_t most = bus->loading.count < LOADING_STEP ? bus->loading.count : LOADING_STEP;
    struct mr__delivery *d = bus->loading.first;
    for (uint64_t i = 0; i < most && d != NULL; i++) {
        struct mr__delivery *next = d->next;
        mr__load_event(bus, d);
        d = next;
    }
}
