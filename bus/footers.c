/* Which sealed segments get their footer (bus/footer.h), and when: one at a time, in the
 * background. None is needed for anything but speed, so a failure is no fault of the log: it is
 * counted, and tried again later.
 *
 * A segment is read whole for it, and the disk that reads does not write meanwhile: footers made
 * one after another took 40 % of the events from a bus that writes as fast as its disk can. So
 * after each there is a pause, seven times as long as it took while something is being written: an
 * eighth of the disk at most. */
#include "bus/internal.h"

#include "bus/footer_ids.h"
#include "core/alloc.h"

#define IDS_EACH 8u /* footers until the file of their group is made again */
#define PAUSES_BUSY 7u
#define QUIET_NS (10 * MR_MS)
#define AGAIN_NS (30 * MR_SECOND) /* after one that failed: a full disk, short memory */

/* The files of groups none of whose segments is there. */
static void adopt_ids(const struct mr_bus *bus, struct mr_io *io, const struct mr_log_index *index)
{
    for (uint32_t i = 0; i < index->ids_count; i++) {
        bool wanted = bus->next_segment_number / MR_FOOTER_GROUP == index->ids[i];
        for (uint32_t k = 0; k < index->segment_count && !wanted; k++) {
            wanted = index->segments[k].number / MR_FOOTER_GROUP == index->ids[i];
        }
        if (!wanted) {
            char name[MR_LOG_NAME_SIZE];
            mr_footer_ids_name(index->ids[i], name);
            (void)io->ops->unlink(io, name); /* else with the next start */
        }
    }
}

void mr__footers_adopt(struct mr_bus *bus, struct mr_io *io, const struct mr_log_index *index)
{
    uint32_t at = 0;
    uint32_t segment = 0;
    for (uint32_t i = 0; i < index->footer_count; i++) {
        uint64_t number = index->footers[i];
        while (at < index->segment_count && index->segments[at].number < number) {
            at++;
        }
        while (segment < bus->segment_count && bus->segments[segment].number < number) {
            segment++;
        }
        if (segment < bus->segment_count && bus->segments[segment].number == number) {
            bus->segments[segment].has_footer = true;
        } else if ((at >= index->segment_count || index->segments[at].number != number) &&
                   !MR_PLANTED(FOOTER_OUTLIVES)) {
            char name[MR_LOG_NAME_SIZE];
            mr_footer_name(number, name);
            (void)io->ops->unlink(io, name); /* else with the next start */
        }
    }
    adopt_ids(bus, io, index);
}

/* Whether it is to have one and none is known to be good. */
static bool wants_footer(const struct mr_bus *bus, uint32_t i)
{
    const struct mr__segment *segment = &bus->segments[i];
    return (int64_t)i < bus->current && segment->sealed && !segment->footed &&
           !segment->retiring && segment->used > MR_LOG_BLOCK;
}

static struct mr__segment *choose(struct mr_bus *bus)
{
    struct mr__segment *first = NULL;
    for (uint32_t i = 0; i < bus->segment_count; i++) {
        if (!wants_footer(bus, i)) {
            continue;
        }
        if (bus->segments[i].number > bus->footer_last) {
            return &bus->segments[i];
        }
        first = first == NULL ? &bus->segments[i] : first;
    }
    return first; /* round again: one that failed does not hold up the others */
}

bool mr__footers_busy(const struct mr_bus *bus, const struct mr__segment *segment)
{
    return segment->footing || bus->ids_making == segment->number / MR_FOOTER_GROUP + 1;
}

bool mr__footers_is_last(const struct mr_bus *bus, const struct mr__segment *segment)
{
    uint64_t group = segment->number / MR_FOOTER_GROUP;
    bool last = bus->next_segment_number / MR_FOOTER_GROUP != group;
    for (uint32_t i = 0; i < bus->segment_count && last; i++) {
        const struct mr__segment *other = &bus->segments[i];
        last = other == segment || other->retiring || other->number / MR_FOOTER_GROUP != group;
    }
    return last;
}

static void send(struct mr_bus *bus, struct mr_log_request *request)
{
    bus->footing = true;
    bus->footer_sent_mono_ns = bus->now.mono_ns;
    mr__send(bus, request);
}

static void send_ids(struct mr_bus *bus)
{
    struct mr_log_request *request = mr__request(bus, MR_LOG_IDS);
    uint8_t *salts = request == NULL ? NULL : mr_calloc(MR_FOOTER_GROUP, 8);
    if (salts == NULL) {
        mr_free(request);
        return; /* with the next step */
    }
    request->number = bus->ids_due - 1;
    request->header.log_id = bus->log_id;
    request->buf = salts;
    for (uint32_t i = 0; i < bus->segment_count; i++) {
        const struct mr__segment *segment = &bus->segments[i];
        uint32_t n = (uint32_t)(segment->number % MR_FOOTER_GROUP);
        if (segment->number / MR_FOOTER_GROUP == request->number && segment->footed) {
            mr_put_u64(salts + (size_t)n * 8, segment->salt);
            request->from |= 1ull << n;
        }
    }
    bus->ids_due = 0;
    if (request->from == 0) { /* they are all gone */
        mr_free(salts);
        mr_free(request);
        return;
    }
    bus->ids_making = request->number + 1;
    send(bus, request);
}

/* Whether one is wanted and none is on its way. */
static bool is_waiting(const struct mr_bus *bus)
{
    bool idle = bus->footers_idle && bus->ids_due == 0;
    return !bus->footing && !idle && !bus->options.footers_off && !bus->faulty && !bus->closing &&
           bus->sealing == 0;
}

/* When it may be made: after the pause where nothing was written for a while, else after seven. */
static uint64_t due_ns(const struct mr_bus *bus)
{
    uint64_t quiet = bus->last_write_mono_ns + QUIET_NS;
    uint64_t due = quiet > bus->footers_due_mono_ns ? quiet : bus->footers_due_mono_ns;
    return bus->writing || due > bus->footers_busy_due_mono_ns ? bus->footers_busy_due_mono_ns
                                                               : due;
}

uint64_t mr__footers_due_ns(const struct mr_bus *bus)
{
    uint64_t due = is_waiting(bus) ? due_ns(bus) : 0;
    return due > bus->now.mono_ns ? due : UINT64_MAX; /* else with any step */
}

void mr__footers_maintain(struct mr_bus *bus)
{
    if (!is_waiting(bus) || bus->now.mono_ns < due_ns(bus)) {
        return;
    }
    if (bus->ids_due != 0) {
        send_ids(bus);
        return;
    }
    struct mr__segment *segment = choose(bus);
    struct mr_log_request *request =
        segment == NULL ? NULL : mr__request(bus, MR_LOG_FOOTER);
    bus->footers_idle = segment == NULL;
    if (request == NULL) {
        return; /* memory short: with the next step */
    }
    request->number = segment->number;
    request->size = segment->used;
    request->header.salt = segment->salt;
    segment->footing = true;
    segment->has_footer = true;
    bus->footer_last = segment->number;
    send(bus, request);
}

void mr__footer_done(struct mr_bus *bus, struct mr_log_request *request)
{
    bus->footing = false;
    bus->ids_making = 0;
    uint64_t took = bus->now.mono_ns - bus->footer_sent_mono_ns;
    bus->footers_due_mono_ns = bus->now.mono_ns + took;
    bus->footers_busy_due_mono_ns = bus->now.mono_ns + PAUSES_BUSY * took;
    for (uint32_t i = 0; i < bus->segment_count; i++) {
        struct mr__segment *segment = &bus->segments[i];
        if (request->kind == MR_LOG_FOOTER && segment->number == request->number) {
            segment->footing = false;
            segment->footed = request->result == MR_OK;
            if (segment->footed) {
                mr__sketch_drop(bus, segment);
            }
            bool full = segment->footed && segment->number % IDS_EACH == IDS_EACH - 1;
            bus->ids_due = full ? segment->number / MR_FOOTER_GROUP + 1 : bus->ids_due;
        }
    }
    if (request->result != MR_OK) {
        bus->footer_failures++;
        bus->footers_due_mono_ns = bus->now.mono_ns + AGAIN_NS;
        bus->footers_busy_due_mono_ns = bus->footers_due_mono_ns;
    }
    mr_free(request->buf);
    mr_free(request);
}

void mr__footer_distrust(struct mr_bus *bus, struct mr__segment *segment)
{
    segment->footed = false;
    bus->footers_idle = false;
}

uint64_t mr__footers_count(const struct mr_bus *bus, uint64_t *ret_pending)
{
    uint64_t footed = 0;
    uint64_t pending = 0;
    for (uint32_t i = 0; i < bus->segment_count; i++) {
        footed += bus->segments[i].footed;
        pending += wants_footer(bus, i) && !bus->options.footers_off;
    }
    *ret_pending = pending;
    return footed;
}
