/* Opening a log: recovery, and its end. */
#include "bus/internal.h"

#include <inttypes.h>
#include <stdio.h>

#include "core/alloc.h"

#define GROUP_SIZE_SOFT_DEFAULT (1u * MR_MIB)
#define AHEAD_DEFAULT 32u
#define MARK_AFTER_DEFAULT (200 * MR_MS)
#define LINGER_DEFAULT MR_MS

/* --- recovery --------------------------------------------------------------------------------- */

static enum mr_status adopt_segments(struct mr_bus *bus, const struct mr_log_index *index,
                                     struct mr_bus_opened *opened)
{
    bus->segments = mr_calloc(index->segment_count + 1u, sizeof(*bus->segments));
    bus->spares = mr_calloc(index->spare_count + 1u, sizeof(*bus->spares));
    bus->keeps = mr_calloc(index->keep_count + 1u, sizeof(*bus->keeps));
    if (bus->segments == NULL || bus->spares == NULL || bus->keeps == NULL) {
        return MR_E_NOMEM;
    }
    bus->next_segment_number = 1; /* a position in segment 0 means: a byte in the stage */
    for (uint32_t i = 0; i < index->segment_count; i++) {
        const struct mr_log_segment *s = &index->segments[i];
        if (s->number >= bus->next_segment_number) {
            bus->next_segment_number = s->number + 1;
        }
        opened->mended += s->usable && s->header.mended;
        if (!s->usable && !s->blank) {
            opened->doubtful++;
            continue; /* in doubt: left alone, `log verify` names it */
        }
        bus->segments[bus->segment_count++] = (struct mr__segment){
            .number = s->number,
            .size = s->file_size,
            .used = MR_LOG_BLOCK,
            .salt = s->usable ? s->header.salt : 0,
            .wall_ns = s->usable ? s->header.wall_ns : 0,
            .file = -1,
            .sealed = true,
        };
        bus->log_id = s->usable && !s->salvaged ? s->header.log_id : bus->log_id;
    }
    for (uint32_t i = 0; i < index->keep_count; i++) { /* what their records are worth, these say */
        const struct mr_log_segment *s = &index->keeps[i];
        if (s->number >= bus->next_segment_number) {
            bus->next_segment_number = s->number + 1;
        }
        bus->keep_bytes += s->file_size;
        bus->keeps[bus->keep_count++] = (struct mr__segment){
            .number = s->number,
            .size = s->file_size,
            .used = s->file_size,
            .salt = s->usable ? s->header.salt : 0,
            .of = MR_LOG_OF_SURVIVORS,
            .file = -1,
            .sealed = true,
        };
    }
    for (uint32_t i = 0; i < index->spare_count; i++) {
        bus->spares[bus->spare_count++] = index->spares[i];
        if (index->spares[i] >= bus->next_spare_number) {
            bus->next_spare_number = index->spares[i] + 1;
        }
    }
    return MR_OK;
}

/* @param[out] ret_events how many of the events it brought are whole */
static enum mr_status fold_group(struct mr_bus *bus, const struct mr_log_group *group,
                                 uint64_t *ret_events, struct mr_problem *problem)
{
    *ret_events = 0;
    uint32_t at = 0;
    uint64_t position;
    struct mr_record record;
    struct mr_record event = {0};
    bus->result_read = (struct mr_record){0}; /* borrowed from the group before */
    uint64_t event_position = 0;
    if (group->header_good && group->position >= bus->base_to) {
        bus->now.mono_ns = group->header.mono_ns;
        bus->now.wall_ns = group->header.wall_ns;
        bus->now.boot_id = group->header.boot_id;
        bus->log_ns = group->header.log_ns;
    }
    while (mr_log_next_record(group, &at, &position, &record)) {
        *ret_events += record.kind == MR_RECORD_EVENT;
        enum mr_status r = mr__fold(bus, group, position, &record, &event, &event_position);
        if (r == MR_E_UNSUPPORTED) {
            return mr_problem_set(problem, r,
                                  "the log holds a record of kind %u that this version does not "
                                  "know; run the version that wrote it",
                                  (unsigned)record.kind);
        }
        if (r == MR_E_CORRUPT) {
            return mr_problem_set(problem, r,
                                  "record of kind %s at position %" PRIx64
                                  " has a good checksum and makes no sense; see `millrace log "
                                  "verify`",
                                  mr_record_kind_text(record.kind), position);
        }
        if (r != MR_OK) {
            return mr_problem_set(problem, r, "recovery: %s", mr_status_text(r));
        }
    }
    if (group->header_good && group->header.next_offset > bus->next_offset) {
        bus->next_offset = group->header.next_offset;
    }
    return MR_OK;
}

/* What was read from groups that were never synced may stand in the page cache alone: it is synced
 * before anything is built on it. */
static enum mr_status sync_segment(struct mr_io *io, uint64_t number)
{
    char name[MR_LOG_NAME_SIZE];
    mr_segment_name(number, name);
    int file;
    enum mr_status r = io->ops->open(io, name, MR_IO_WRITE, &file);
    if (r == MR_OK) {
        r = io->ops->sync(io, file);
        io->ops->close(io, file);
    }
    return r;
}

/* A group that was taken: the chain goes on behind it, its segment is used up to there. */
static void passed_group(struct mr_bus *bus, const struct mr_log_group *group,
                         struct mr_bus_opened *opened)
{
    bus->next_sequence = group->header.sequence + 1;
    bus->previous_crc = group->header.crc;
    struct mr__segment *segment = mr__segment_of(bus, group->position);
    uint64_t end = mr_position_at(group->position) + group->header.padded;
    if (segment != NULL && end > segment->used) {
        segment->first_offset = segment->used == MR_LOG_BLOCK ? group->header.first_offset
                                                              : segment->first_offset;
        segment->used = end;
        segment->wall_ns = group->header.wall_ns;
    }
    opened->groups_folded++;
    opened->tail_bytes += group->header.padded;
}

/* Of the files from @p position on. */
static uint64_t size_from(const struct mr_bus *bus, uint64_t position)
{
    uint64_t size = 0;
    for (uint32_t i = 0; i < bus->segment_count; i++) {
        uint64_t number = bus->segments[i].number;
        uint64_t before = number == mr_position_segment(position) ? mr_position_at(position) : 0;
        if (number >= mr_position_segment(position) && bus->segments[i].size > before) {
            size += bus->segments[i].size - before;
        }
    }
    return size;
}

/* Tells how far the log is read, now and then. @return whether to go on */
static bool tell_progress(const struct mr_bus *bus, const struct mr__checkpoint_start *start,
                          uint64_t position, uint64_t read, uint64_t *told)
{
    if (bus->options.progress == NULL || read < *told || position == 0) {
        return true;
    }
    *told = read + MR__PROGRESS_STEP;
    uint64_t total = size_from(bus, start->position);
    uint64_t left = size_from(bus, position);
    return bus->options.progress(bus->options.progress_context, "log",
                                 total > left ? total - left : 0, total);
}

/* Events that a rotten place had and that are not there any more: of a group whose header is whole,
 * all that are not among the @p events it still brought; else all up to the next group. */
static void count_lost(struct mr_bus *bus, const struct mr_log_group *group, uint64_t next_offset,
                       uint64_t events, struct mr_bus_opened *opened)
{
    opened->mended += group->mended;
    if (group->decision != MR_RECOVERY_ROTTEN) {
        return;
    }
    uint64_t end = group->header_good ? group->header.next_offset : group->lost_end;
    uint64_t brought = end > next_offset ? end - next_offset : 0;
    uint64_t lost = brought > events ? brought - events : 0;
    bus->lost_events += lost;
    opened->lost_events += lost;
    opened->rotten++;
    if (end > bus->next_offset) {
        bus->next_offset = end;
    }
}

static enum mr_status replay(struct mr_bus *bus, struct mr_io *io,
                             const struct mr_log_index *index,
                             const struct mr__checkpoint_start *start, struct mr_bus_opened *opened,
                             struct mr_problem *problem)
{
    struct mr_log_reader *reader;
    enum mr_status r = mr_log_reader_create(
        io, index, start->position, start->sequence == 0 ? 0 : start->sequence + 1,
        start->previous_crc, start->durable, &reader);
    if (r != MR_OK) {
        return r;
    }
    bus->next_sequence = start->sequence + 1;
    bus->previous_crc = start->previous_crc;
    struct mr_log_group group;
    uint64_t next_offset = bus->next_offset;
    uint64_t synced = 0;
    uint64_t told = 0;
    while ((r = mr_log_reader_next(reader, &group)) == MR_OK) {
        if (!tell_progress(bus, start, group.position, opened->tail_bytes, &told)) {
            r = mr_problem_set(problem, MR_E_CLOSED, "stopped while the log was read");
            break;
        }
        if (group.decision == MR_RECOVERY_TAKE || group.decision == MR_RECOVERY_ROTTEN) {
            uint64_t events;
            r = fold_group(bus, &group, &events, problem);
            if (r != MR_OK) {
                break;
            }
            count_lost(bus, &group, next_offset, events, opened);
            next_offset = bus->next_offset;
        }
        if (group.header_good && group.decision != MR_RECOVERY_CUT_TORN &&
            group.decision != MR_RECOVERY_CUT_UNSYNCED) {
            passed_group(bus, &group, opened);
            uint64_t number = mr_position_segment(group.position);
            if (group.header.flags != MR_SYNC_ALWAYS && number != synced) {
                r = sync_segment(io, number);
                synced = number;
                if (r != MR_OK) {
                    break;
                }
            }
        }
        opened->torn = opened->torn || group.decision == MR_RECOVERY_CUT_TORN;
    }
    mr_log_reader_destroy(reader);
    if (r != MR_E_NOT_FOUND) {
        return problem->text[0] != '\0' ? r : mr_problem_set(problem, r, "cannot read the log: %s",
                                                             mr_status_text(r));
    }
    bus->durable_sequence = bus->next_sequence - 1;
    bus->synced_sequence = bus->durable_sequence;
    return MR_OK;
}

/* But for those that the checkpoint does not know: mr_missing_heed() says what they are. */
static void count_salvaged(struct mr_bus *bus, const struct mr_log_index *index,
                           const struct mr__checkpoint_start *start, struct mr_bus_opened *opened)
{
    for (uint32_t i = 0; i < index->segment_count; i++) {
        const struct mr_log_segment *s = &index->segments[i];
        const struct mr__segment *segment =
            s->salvaged ? mr__segment_of(bus, mr_position(s->number, 0)) : NULL;
        bool known = s->number >= mr_position_segment(start->position) ||
                     (segment != NULL && segment->used > MR_LOG_BLOCK);
        opened->salvaged += s->salvaged && known;
    }
}

/* Survivor files whose headers are unreadable: a start reads no more of them. One that nothing
 * refers to is a copy that was cut off. */
static void count_keeps(const struct mr_bus *bus, const struct mr_log_index *index,
                        struct mr_bus_opened *opened)
{
    for (uint32_t i = 0; i < index->keep_count; i++) {
        const struct mr_log_segment *keep = &index->keeps[i];
        bool needed = bus->keeps[i].live > 0;
        opened->mended += keep->usable && keep->header.mended;
        opened->salvaged += keep->salvaged && needed;
        opened->doubtful += !keep->usable && needed;
    }
}

static void set_defaults(struct mr_bus_options *o)
{
    o->group_size_soft = o->group_size_soft == 0 ? GROUP_SIZE_SOFT_DEFAULT : o->group_size_soft;
    o->ahead = o->ahead == 0 ? AHEAD_DEFAULT : o->ahead;
    o->linger_ns = o->linger_ns == 0 ? LINGER_DEFAULT : o->linger_ns;
    o->mark_after_ns = o->mark_after_ns == 0 ? MARK_AFTER_DEFAULT : o->mark_after_ns;
    o->read_memory = o->read_memory == 0 ? MR_READ_MEMORY : o->read_memory;
    if (o->first_segment_size > o->log.segment_size) {
        o->first_segment_size = (uint32_t)o->log.segment_size;
    }
}

/* The first group of this process: everything that was in flight is interrupted from here on. */
static enum mr_status log_start(struct mr_bus *bus, const struct mr_bus_opened *opened)
{
    enum mr_status r = mr__names_reserve(bus);
    r = r == MR_OK ? mr__stage_reserve(bus, 16 * MR_KIB) : r;
    if (r != MR_OK) {
        return r;
    }
    struct mr_record start = {.kind = MR_PLANTED(START_UNLOGGED) ? MR_RECORD_MARK : MR_RECORD_START,
                              .flags = MR_PLANTED(START_UNLOGGED) ? MR_RECORD_SKIPPABLE : 0,
                              .c = bus->now.boot_id};
    (void)mr__stage_record(bus, &start); /* its place does not matter */
    if (opened->lost_events > 0) {
        struct mr_record lost = {
            .kind = MR_RECORD_LOST, .flags = MR_RECORD_SKIPPABLE, .d = opened->lost_events};
        (void)mr__stage_record(bus, &lost);
    }
    if (bus->clock_frozen) {
        struct mr_record clock = {.kind = MR_RECORD_CLOCK, .a = 1, .c = bus->log_ns};
        (void)mr__stage_record(bus, &clock);
    }
    bus->names_due = true;
    return MR_OK;
}

/* A slot that is no good alone is what a crash leaves behind when it comes during a checkpoint. */
static void tell_damage(const struct mr_bus *bus, struct mr_bus_opened *opened, bool both_slots)
{
    if (MR_PLANTED(ROT_UNTOLD)) {
        opened->rotten = opened->lost_events = opened->mended = 0;
        opened->salvaged = opened->doubtful = 0;
        return;
    }
    bool blind = both_slots && opened->bad_slots == 2;
    if (opened->rotten + opened->mended + opened->salvaged + opened->doubtful == 0 && !blind) {
        return;
    }
    char text[320];
    (void)snprintf(text, sizeof(text),
                   "the log is damaged: %" PRIu64 " places cannot be read, %" PRIu64
                   " events are lost; %" PRIu64 " wrong bits and %u headers of files were made "
                   "good, %u files are left alone%s; see `millrace log verify`",
                   opened->rotten, opened->lost_events, opened->mended, opened->salvaged,
                   opened->doubtful,
                   blind ? ", both checkpoints are unreadable: counts begin with what the segments "
                           "still hold"
                         : ""); /* fits: numbers have 20 digits at most */
    bus->ports.alarm(bus->ports.context, text);
}

enum mr_status mr_bus_open(struct mr_io *io, const struct mr_bus_options *options,
                           const struct mr_bus_ports *ports, struct mr_now now,
                           struct mr_bus **ret_bus, struct mr_bus_opened *ret_opened,
                           struct mr_problem *problem)
{
    struct mr_problem ignored = {{0}};
    problem = problem == NULL ? &ignored : problem;
    problem->text[0] = '\0';
    struct mr_bus *bus = mr_calloc(1, sizeof(*bus));
    if (bus == NULL) {
        return mr_problem_set(problem, MR_E_NOMEM, "no memory for the bus");
    }
    bus->ports = *ports;
    bus->options = *options;
    set_defaults(&bus->options);
    mr_rng_init(&bus->rng, options->seed);
    bus->current = -1;
    bus->next_offset = 1;
    bus->recovering = true;
    mr__memory_configure(bus, NULL);
    bus->log_ns = now.wall_ns;
    bus->now = now;
    struct mr_log_index index = {0};
    struct mr__checkpoint_start start = {0};
    struct mr_bus_opened opened = {0};
    enum mr_status r = mr_log_index(io, &index, problem);
    bool fresh = r == MR_OK && index.segment_count == 0;
    r = r == MR_OK ? adopt_segments(bus, &index, &opened) : r;
    if (r == MR_OK) {
        mr__footers_adopt(bus, io, &index);
    }
    r = r == MR_OK ? mr__checkpoint_recover(bus, io, &index, &start, &opened, problem) : r;
    mr__memory_configure(bus, NULL);
    r = r == MR_OK ? replay(bus, io, &index, &start, &opened, problem) : r;
    if (r == MR_OK) {
        count_salvaged(bus, &index, &start, &opened);
        count_keeps(bus, &index, &opened);
        if (fresh && start.durable == 0) {
            bus->now = now;
            bus->log_ns = now.wall_ns;
        }
        mr__clock_resume(bus, now);
        /* In whole files: a bus that is killed again and again comes to its checkpoints all the
         * same, so its starts stay short and its old segments go. */
        uint64_t file = mr_position(mr_position_segment(start.position), 0);
        bus->bytes_since_checkpoint = size_from(bus, file);
        r = mr__state_interrupt_all(bus, UINT64_MAX, bus->log_ns, &opened.interrupted);
    }
    bus->log_id = bus->log_id == 0 ? mr_rng_next(&bus->rng) | 1 : bus->log_id;
    bus->current = (int64_t)bus->segment_count - 1; /* none of the old ones is written to */
    bus->recovering = false;
    bus->memory_recovered = mr__memory_used(bus);
    r = r == MR_OK ? log_start(bus, &opened) : r;
    if (r == MR_OK) {
        tell_damage(bus, &opened, index.has_checkpoint[0] && index.has_checkpoint[1]);
    }
    mr_log_index_release(&index);
    if (r != MR_OK) {
        if (problem->text[0] == '\0') {
            (void)mr_problem_set(problem, r, "cannot open the log: %s", mr_status_text(r));
        }
        mr_bus_destroy(bus);
        return r;
    }
    opened.from_checkpoint = start.durable != 0;
    opened.events = bus->next_offset - 1;
    *ret_opened = opened;
    *ret_bus = bus;
    return MR_OK;
}

static void free_chain_of_batches(struct mr_batch *batch)
{
    while (batch != NULL) {
        struct mr_batch *next = (struct mr_batch *)batch->op.next;
        mr_batch_destroy(batch);
        batch = next;
    }
}

static void group_release(struct mr__group *group)
{
    free_chain_of_batches(group->batches);
    mr_free(group->data);
    mr_free(group->created);
    mr_free(group->dead);
}

void mr_bus_destroy(struct mr_bus *bus)
{
    if (bus == NULL) {
        return;
    }
    mr__checkpoint_release(bus);
    group_release(&bus->stage);
    group_release(&bus->flight);
    free_chain_of_batches(bus->pending);
    while (bus->deferred != NULL) {
        struct mr_handout *next = (struct mr_handout *)bus->deferred->op.next;
        mr_handout_destroy(bus->deferred);
        bus->deferred = next;
    }
    for (uint32_t i = 0; i < bus->sub_count; i++) {
        mr__postings_leave(bus, bus->subs[i]);
        mr__sub_destroy(bus->subs[i]);
    }
    mr__shared_apply(bus, NULL, 0);
    for (uint32_t i = 0; i < bus->target_count; i++) {
        mr_free(bus->targets[i]->name);
        if (bus->targets[i]->limit_next != bus->targets[i]->limit) {
            mr__limit_destroy(bus->targets[i]->limit_next);
        }
        mr__limit_destroy(bus->targets[i]->limit);
        mr_free(bus->targets[i]);
    }
    for (uint32_t i = 0; i < bus->source_count; i++) {
        mr_free(bus->sources[i]->name);
        mr_free(bus->sources[i]->cursor);
        mr__seen_release(bus, &bus->sources[i]->seen);
        mr_free(bus->sources[i]);
    }
    mr__pool_release(&bus->deliveries);
    mr__pool_release(&bus->lanes);
    mr__cache_release(bus);
    mr__survive_release(bus);
    mr__scrub_release(bus);
    mr__bundles_destroy(bus);
    mr__fanouts_destroy(bus);
    mr_map_release(&bus->names);
    mr_matches_release(&bus->rematch);
    mr_free(bus->subs);
    mr_free(bus->targets);
    mr_free(bus->sources);
    for (uint32_t i = 0; i < bus->segment_count; i++) {
        mr__sketch_drop(bus, &bus->segments[i]);
    }
    mr_free(bus->noted.items);
    mr_free(bus->segments);
    mr_free(bus->spares);
    mr__timers_release(bus);
    mr_free(bus->behind);
    mr_free(bus->sub_of_index);
    mr_free(bus);
}
