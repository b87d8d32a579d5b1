/* The segments that groups go to: made ready ahead, sealed when full, given up when nothing needs
 * them any more. */
#include "bus/internal.h"

#include "core/alloc.h"

#define PREPARE_AGAIN_NS (100 * MR_MS) /* after memory was short */
#define FOR_ANSWERS 4u /* this part of a segment */
#define SPARES 2u /* made ahead when fewer are there */
#define SPARES_KEPT 3u /* several go at once behind a checkpoint, and making one costs its writes */

static bool push_segment(struct mr_bus *bus)
{
    struct mr__segment *grown =
        mr_realloc(bus->segments, (bus->segment_count + 1) * sizeof(*grown));
    if (grown == NULL) {
        return false;
    }
    bus->segments = grown;
    return true;
}

/* Room for every one that may be on its way to become a spare. @return false: no memory */
static bool reserve_spares(struct mr_bus *bus)
{
    size_t count = (size_t)bus->spare_count + bus->segment_count + 1;
    uint64_t *grown = mr_realloc(bus->spares, count * sizeof(*grown));
    if (grown == NULL) {
        return false;
    }
    bus->spares = grown;
    return true;
}

/* With those on their way. */
static uint32_t spares(const struct mr_bus *bus)
{
    uint32_t count = bus->spare_count + bus->sparing;
    for (uint32_t i = 0; i < bus->segment_count; i++) {
        count += bus->segments[i].retiring;
    }
    return count;
}

/* A log that grows finds its next files filled with zeros already: filling one while it is awaited
 * costs a fifth of the rate. Not before this process has filled a segment: most never do. */
static void spare_ahead(struct mr_bus *bus)
{
    uint64_t size = bus->options.log.segment_size;
    if (!bus->sealed_one || bus->sparing || bus->disk_low || bus->faulty || bus->closing ||
        spares(bus) >= SPARES ||
        mr__log_bytes(bus) + (bus->spare_count + 3ull) * size > bus->options.log.max_size) {
        return;
    }
    struct mr_log_request *request = mr__request(bus, MR_LOG_SPARE);
    if (request == NULL || !reserve_spares(bus)) {
        mr_free(request);
        return; /* tried again with the next step */
    }
    request->from = bus->next_spare_number++;
    request->header.size = size;
    bus->sparing = true;
    mr__send(bus, request);
}

void mr__spare_made(struct mr_bus *bus, struct mr_log_request *request)
{
    bus->sparing = false;
    if (request->result == MR_OK) {
        bus->spares[bus->spare_count++] = request->from;
    } else {
        bus->sealed_one = false; /* no room: when another segment is full; files are filled then */
    }
    mr_free(request);
}

/* Keeps one prepared segment beyond the one being written. */
static void prepare_next(struct mr_bus *bus)
{
    bool ready = (int64_t)bus->segment_count > bus->current + 1;
    bool awaited = bus->sparing && bus->spare_count == 0; /* no second one is filled beside it */
    if (ready || awaited || bus->preparing || bus->faulty ||
        bus->now.mono_ns < bus->prepare_after_mono_ns) {
        return;
    }
    struct mr_log_request *request = mr__request(bus, MR_LOG_PREPARE);
    if (request == NULL || !push_segment(bus)) {
        mr_free(request);
        return; /* tried again with the next step */
    }
    bool first = bus->current < 0;
    uint64_t size = first && bus->options.first_segment_size != 0
                        ? bus->options.first_segment_size
                        : bus->options.log.segment_size;
    request->number = bus->next_segment_number++;
    request->durable = bus->options.log.sync == MR_SYNC_ALWAYS;
    if (!first && bus->spare_count > 0) {
        request->has_from = true;
        request->from = bus->spares[--bus->spare_count];
    }
    request->header = (struct mr_segment_header){
        .number = request->number,
        .size = size,
        .salt = mr_rng_next(&bus->rng),
        .log_id = bus->log_id,
        .wall_ns = bus->now.wall_ns,
    };
    bus->preparing = true;
    mr__send(bus, request);
}

void mr__segment_prepared(struct mr_bus *bus, struct mr_log_request *request)
{
    bus->preparing = false;
    if (request->result == MR_E_DISK_LOW) {
        /* No room for another segment: sources wait until there is. What stands in the present
         * one goes on, so settles can still free space. */
        bus->disk_low = true;
        bus->prepare_after_mono_ns = bus->now.mono_ns + MR_SECOND;
        mr__flow_update(bus);
    } else if (request->result == MR_E_NOMEM) {
        /* Nothing was written that counts; another number, a little later. */
        bus->prepare_after_mono_ns = bus->now.mono_ns + PREPARE_AGAIN_NS;
    } else if (request->result != MR_OK) {
        mr__fail(bus, "a segment cannot be prepared", request->result);
    } else { /* prepare_next() made room for it, and only one is prepared at a time */
        bus->segments[bus->segment_count++] = (struct mr__segment){
            .number = request->number,
            .size = request->header.size,
            .used = MR_LOG_BLOCK,
            .salt = request->header.salt,
            .wall_ns = bus->now.wall_ns,
            .file = request->file,
        };
        mr__flow_update(bus);
    }
    mr_free(request);
}

static bool seal_current(struct mr_bus *bus)
{
    struct mr__segment *segment = &bus->segments[bus->current];
    struct mr_log_request *request = mr__request(bus, MR_LOG_SEAL);
    if (request == NULL) {
        return false;
    }
    request->number = segment->number;
    request->file = segment->file;
    request->durable = bus->options.log.sync == MR_SYNC_ALWAYS;
    bus->sealing++;
    segment->file = -1;
    bus->sealed_one = true;
    segment->sealed = true;
    mr__send(bus, request);
    return true;
}

struct mr__segment *mr__segment_for(struct mr_bus *bus, uint32_t padded)
{
    if (bus->current >= 0) {
        struct mr__segment *segment = &bus->segments[bus->current];
        bool open = segment->file >= 0; /* not one of an earlier process */
        if (open && segment->used + padded <= segment->size) {
            return segment;
        }
    }
    int64_t next = bus->current + 1;
    while (next < (int64_t)bus->segment_count &&
           bus->segments[next].used + padded > bus->segments[next].size) {
        /* Too small a first segment for this group: it is left empty. */
        if (bus->current >= 0 && bus->segments[bus->current].file >= 0 && !seal_current(bus)) {
            return NULL;
        }
        bus->current = next++;
    }
    if (next >= (int64_t)bus->segment_count) {
        prepare_next(bus);
        return NULL;
    }
    if (bus->current >= 0 && bus->segments[bus->current].file >= 0 && !seal_current(bus)) {
        return NULL;
    }
    bus->current = next;
    bus->names_due = true;
    bus->config_due = true;
    bus->segments[next].first_offset = bus->stage.first_offset;
    return &bus->segments[next];
}

/* A disk that is full says so late, when the next segment has been filled in vain. Had events taken
 * the rest of this one meanwhile, nothing could end, and nothing ever make room. */
bool mr__segment_takes_events(const struct mr_bus *bus, size_t bytes)
{
    if ((int64_t)bus->segment_count > bus->current + 1) {
        return true;
    }
    if (bus->current < 0 || bus->segments[bus->current].file < 0) {
        return false;
    }
    const struct mr__segment *segment = &bus->segments[bus->current];
    return segment->used + bus->stage.size + bytes + MR_LOG_BLOCK <=
           segment->size - segment->size / FOR_ANSWERS;
}

bool mr__slots_know_moved(const struct mr_bus *bus, const struct mr__segment *segment)
{
    for (int i = 0; i < (MR_PLANTED(ONE_SLOT) ? 1 : 2); i++) {
        if (bus->checkpoint_slot_sequence[i] < segment->moved_sequence) {
            return MR_PLANTED(MOVED_EARLY);
        }
    }
    return true;
}

static bool slot_needs(const struct mr_bus *bus, const struct mr__segment *segment)
{
    for (int i = 0; i < (MR_PLANTED(ONE_SLOT) ? 1 : 2); i++) {
        if (mr_position_segment(bus->checkpoint_slot_position[i]) <= segment->number) {
            return true; /* this slot's replay begins at or before it (or there is no slot) */
        }
    }
    /* For an older slot what has moved may still be here, or has yet to be read here: its MOVED
     * record alone does not have it. */
    return !mr__slots_know_moved(bus, segment);
}

uint64_t mr__lowest_cursor(const struct mr_bus *bus)
{
    uint64_t lowest = UINT64_MAX;
    for (uint32_t i = 0; i < bus->sub_count; i++) {
        const struct mr__sub *sub = bus->subs[i];
        if (!sub->live && !sub->cursor_in_stage) {
            uint64_t number = mr_position_segment(sub->cursor_position);
            lowest = number < lowest ? number : lowest;
        }
    }
    return lowest;
}

uint64_t mr__log_bytes(const struct mr_bus *bus)
{
    uint64_t bytes = bus->keep_bytes;
    for (uint32_t i = 0; i < bus->segment_count; i++) {
        bytes += bus->segments[i].size;
    }
    return bytes;
}

uint64_t mr__segments_staying(const struct mr_bus *bus)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < bus->segment_count; i++) {
        bytes += bus->segments[i].retiring ? 0 : bus->segments[i].size;
    }
    return bytes;
}

bool mr__segment_retire(struct mr_bus *bus, struct mr__segment *segment)
{
    struct mr_log_request *request = mr__request(bus, MR_LOG_RETIRE);
    if (request == NULL || !reserve_spares(bus)) {
        mr_free(request);
        return false;
    }
    request->number = segment->number;
    request->of = segment->of;
    request->keep = segment->of == MR_LOG_OF_SEGMENT &&
                    segment->size == bus->options.log.segment_size &&
                    spares(bus) < SPARES_KEPT && !bus->disk_low;
    request->from = bus->next_spare_number++;
    request->footed = segment->has_footer;
    request->last = segment->has_footer && mr__footers_is_last(bus, segment);
    segment->retiring = true;
    mr__send(bus, request);
    return true;
}

/* Retention gives way when space is short, rather than the sources for ever. */
bool mr__segment_is_past(const struct mr_bus *bus, const struct mr__segment *segment,
                         uint64_t bytes, uint64_t cursor)
{
    const struct mr_log_options *log = &bus->options.log;
    bool is_short = bytes + bus->keep_bytes + 2 * log->segment_size > log->max_size ||
                    bus->disk_short > 0;
    bool old = bytes > log->retain_size || is_short ||
               (log->retain_age_ns != 0 && bus->now.wall_ns > segment->wall_ns &&
                bus->now.wall_ns - segment->wall_ns > log->retain_age_ns);
    return !segment->retiring && !mr__footers_busy(bus, segment) &&
           !mr__scrub_is_at(bus, segment) && segment->sealed && old && segment->number < cursor;
}

/* Nothing alive or dead-lettered in it, and the records that say so durable: a crash could take
 * them back. */
bool mr__segment_is_free(const struct mr_bus *bus, const struct mr__segment *segment)
{
    bool early = MR_PLANTED(TRIM_EARLY) || (MR_PLANTED(MOVED_EARLY) && segment->moved_sequence > 0);
    return (segment->live == 0 || MR_PLANTED(TRIM_LIVE)) &&
           (segment->freed_sequence <= mr__promised_sequence(bus) || early);
}

/* Whether @p segment may go, but for what the checkpoint slots need. */
static bool is_settled(const struct mr_bus *bus, const struct mr__segment *segment, uint64_t bytes,
                       uint64_t cursor)
{
    return mr__segment_is_free(bus, segment) && mr__segment_is_past(bus, segment, bytes, cursor);
}

/* What is settled and what no checkpoint slot needs goes, the oldest first. */
void mr__segments_maintain(struct mr_bus *bus)
{
    prepare_next(bus);
    spare_ahead(bus);
    uint64_t bytes = mr__segments_staying(bus);
    uint64_t cursor = mr__lowest_cursor(bus);
    uint64_t pinned = 0;
    for (uint32_t i = 0; i < bus->segment_count && (int64_t)i < bus->current; i++) {
        struct mr__segment *segment = &bus->segments[i];
        if (!is_settled(bus, segment, bytes, cursor)) {
            continue;
        }
        if (slot_needs(bus, segment)) {
            bool past = mr__segment_is_past(bus, segment, bytes - pinned, cursor);
            pinned += past ? segment->size : 0;
            continue;
        }
        if (!mr__segment_retire(bus, segment)) {
            return;
        }
        bytes -= segment->size;
        bus->disk_short -= segment->size < bus->disk_short ? segment->size : bus->disk_short;
    }
    bus->pinned_bytes = pinned;
    mr__keeps_retire(bus);
}

void mr__segment_retired(struct mr_bus *bus, struct mr_log_request *request)
{
    if (request->result != MR_OK) {
        mr__fail(bus, "a segment cannot be retired", request->result);
        mr_free(request);
        return;
    }
    if (request->keep) {
        bus->spares[bus->spare_count++] = request->from;
    }
    bool keep = request->of == MR_LOG_OF_SURVIVORS;
    struct mr__segment *all = keep ? bus->keeps : bus->segments;
    uint32_t *count = keep ? &bus->keep_count : &bus->segment_count;
    for (uint32_t i = 0; i < *count; i++) {
        if (all[i].number == request->number) {
            bus->keep_bytes -= keep ? all[i].used : 0;
            mr__sketch_drop(bus, &all[i]);
            memmove(all + i, all + i + 1, (*count - i - 1) * sizeof(*all));
            (*count)--;
            bus->current -= keep ? 0 : 1;
            break;
        }
    }
    mr_free(request);
    mr__flow_update(bus);
}
