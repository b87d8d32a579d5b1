/* Opening a log, and taking a configuration. */
#include "bus/internal.h"

#include <inttypes.h>
#include <stdio.h>

#include "core/alloc.h"
#include "core/hash.h"

#define GROUP_SIZE_SOFT_DEFAULT (1u * MR_MIB)
#define AHEAD_DEFAULT 32u
#define MARK_AFTER_DEFAULT (200 * MR_MS)
#define LINGER_DEFAULT MR_MS

/* --- recovery --------------------------------------------------------------------------------- */

static enum mr_status adopt_segments(struct mr_bus *bus, const struct mr_log_index *index)
{
    bus->segments = mr_calloc(index->segment_count + 1u, sizeof(*bus->segments));
    bus->spares = mr_calloc(index->spare_count + 1u, sizeof(*bus->spares));
    if (bus->segments == NULL || bus->spares == NULL) {
        return MR_E_NOMEM;
    }
    bus->next_segment_number = 1; /* a position in segment 0 means: a byte in the stage */
    for (uint32_t i = 0; i < index->segment_count; i++) {
        const struct mr_log_segment *s = &index->segments[i];
        if (s->number >= bus->next_segment_number) {
            bus->next_segment_number = s->number + 1;
        }
        if (!s->usable && !s->blank) {
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
        bus->log_id = s->usable ? s->header.log_id : bus->log_id;
    }
    for (uint32_t i = 0; i < index->spare_count; i++) {
        bus->spares[bus->spare_count++] = index->spares[i];
        if (index->spares[i] >= bus->next_spare_number) {
            bus->next_spare_number = index->spares[i] + 1;
        }
    }
    return MR_OK;
}

static enum mr_status read_slot(struct mr_io *io, int slot, uint8_t **ret_data, size_t *ret_size)
{
    const char *name = slot == 0 ? "checkpoint-0" : "checkpoint-1";
    int file;
    uint64_t size = 0;
    enum mr_status r = io->ops->open(io, name, MR_IO_READ_ONLY, &file);
    if (r != MR_OK) {
        return r;
    }
    r = io->ops->size(io, file, &size);
    uint8_t *data = r == MR_OK ? mr_alloc((size_t)size) : NULL;
    size_t got = 0;
    if (r == MR_OK) {
        r = data == NULL ? MR_E_NOMEM : io->ops->pread(io, file, data, (size_t)size, 0, &got);
    }
    io->ops->close(io, file);
    if (r != MR_OK) {
        mr_free(data);
        return r;
    }
    *ret_data = data;
    *ret_size = got;
    return MR_OK;
}

static enum mr_status sync_slot(struct mr_io *io, int slot)
{
    int file;
    enum mr_status r =
        io->ops->open(io, slot == 0 ? "checkpoint-0" : "checkpoint-1", MR_IO_WRITE, &file);
    if (r == MR_OK) {
        r = io->ops->sync(io, file);
        io->ops->close(io, file);
    }
    return r == MR_OK ? io->ops->sync_dir(io) : r;
}

/* Loads the newer good slot. One that cannot be read now is no torn one: where the other is no good
 * either, what it says may stand nowhere else any more.
 * @param[out] ret_head sequence 0 when there is none */
static enum mr_status load_checkpoint(struct mr_bus *bus, struct mr_io *io,
                                      const struct mr_log_index *index,
                                      struct mr__checkpoint_head *ret_head,
                                      struct mr_problem *problem)
{
    enum mr_status unread = MR_OK;
    struct mr__checkpoint_head heads[2] = {0};
    uint8_t *data[2] = {NULL, NULL};
    size_t sizes[2] = {0, 0};
    int best = -1;
    enum mr_status r = MR_OK;
    for (int i = 0; i < 2; i++) {
        if (!index->has_checkpoint[i]) {
            continue;
        }
        r = read_slot(io, i, &data[i], &sizes[i]);
        if (r == MR_E_NOMEM) {
            break;
        }
        unread = r == MR_OK ? unread : r;
        r = MR_OK;
        if (data[i] == NULL ||
            mr__checkpoint_check(mr_bytes(data[i], sizes[i]), &heads[i]) != MR_OK ||
            (bus->log_id != 0 && heads[i].log_id != bus->log_id)) {
            heads[i] = (struct mr__checkpoint_head){0};
            continue;
        }
        /* A process that was killed may have left it in the page cache alone; from here on the
         * other slot is written over and this one must be able to stand for both. */
        r = MR_PLANTED(SLOT_UNSYNCED) ? MR_OK : sync_slot(io, i);
        if (r != MR_OK) {
            break;
        }
        bus->checkpoint_slot_position[i] = heads[i].position;
        if (best < 0 || heads[i].generation > heads[best].generation) {
            best = i;
        }
    }
    if (r == MR_OK && best >= 0) {
        r = mr__checkpoint_load(bus, mr_bytes(data[best], sizes[best]));
        bus->checkpoint_generation = heads[best].generation;
        bus->checkpoint_position = heads[best].position;
        bus->log_id = heads[best].log_id;
        *ret_head = heads[best];
    }
    mr_free(data[0]);
    mr_free(data[1]);
    if (r == MR_OK && best < 0 && unread != MR_OK) {
        return mr_problem_set(problem, unread,
                              "cannot read the checkpoints of the log: %s; start again, or see "
                              "`millrace log verify`",
                              mr_status_text(unread));
    }
    return r;
}

static enum mr_status fold_group(struct mr_bus *bus, const struct mr_log_group *group,
                                 struct mr_problem *problem)
{
    uint32_t at = 0;
    uint64_t position;
    struct mr_record record;
    struct mr_record event = {0};
    bus->result_read = (struct mr_record){0}; /* borrowed from the group before */
    uint64_t event_position = 0;
    if (group->header_good) {
        bus->now.mono_ns = group->header.mono_ns;
        bus->now.wall_ns = group->header.wall_ns;
        bus->now.boot_id = group->header.boot_id;
        bus->log_ns = group->header.log_ns;
    }
    while (mr_log_next_record(group, &at, &position, &record)) {
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

static enum mr_status replay(struct mr_bus *bus, struct mr_io *io,
                             const struct mr_log_index *index,
                             const struct mr__checkpoint_head *head, struct mr_bus_opened *opened,
                             struct mr_problem *problem)
{
    struct mr_log_reader *reader;
    enum mr_status r = mr_log_reader_create(
        io, index, head->position, head->sequence == 0 ? 0 : head->sequence + 1,
        head->previous_crc, head->sequence, &reader);
    if (r != MR_OK) {
        return r;
    }
    bus->next_sequence = head->sequence + 1;
    bus->previous_crc = head->previous_crc;
    struct mr_log_group group;
    uint64_t synced = 0;
    while ((r = mr_log_reader_next(reader, &group)) == MR_OK) {
        if (group.decision == MR_RECOVERY_TAKE || group.decision == MR_RECOVERY_ROTTEN) {
            bus->lost_events += group.lost_end - group.lost_first;
            opened->lost_events += group.lost_end - group.lost_first;
            if (group.lost_end > bus->next_offset) {
                bus->next_offset = group.lost_end;
            }
            r = fold_group(bus, &group, problem);
            if (r != MR_OK) {
                break;
            }
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

/* What lies behind the checkpoint, in whole files: a bus that is killed again and again comes to
 * its checkpoints all the same, so its starts stay short and its old segments go. */
static uint64_t tail_size(const struct mr_bus *bus, const struct mr__checkpoint_head *head)
{
    uint64_t size = 0;
    for (uint32_t i = 0; i < bus->segment_count; i++) {
        if (bus->segments[i].number >= mr_position_segment(head->position)) {
            size += bus->segments[i].size;
        }
    }
    return size;
}

static void set_defaults(struct mr_bus_options *o)
{
    o->group_size_soft = o->group_size_soft == 0 ? GROUP_SIZE_SOFT_DEFAULT : o->group_size_soft;
    o->ahead = o->ahead == 0 ? AHEAD_DEFAULT : o->ahead;
    o->linger_ns = o->linger_ns == 0 ? LINGER_DEFAULT : o->linger_ns;
    o->mark_after_ns = o->mark_after_ns == 0 ? MARK_AFTER_DEFAULT : o->mark_after_ns;
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
    bus->log_ns = now.wall_ns;
    bus->now = now;
    struct mr_log_index index = {0};
    struct mr__checkpoint_head head = {0};
    struct mr_bus_opened opened = {0};
    enum mr_status r = mr_log_index(io, &index, problem);
    bool fresh = r == MR_OK && index.segment_count == 0;
    r = r == MR_OK ? adopt_segments(bus, &index) : r;
    r = r == MR_OK ? load_checkpoint(bus, io, &index, &head, problem) : r;
    r = r == MR_OK ? replay(bus, io, &index, &head, &opened, problem) : r;
    if (r == MR_OK) {
        if (fresh && head.sequence == 0) {
            bus->now = now;
            bus->log_ns = now.wall_ns;
        }
        mr__clock_resume(bus, now);
        bus->bytes_since_checkpoint = tail_size(bus, &head);
        r = mr__state_interrupt_all(bus, bus->log_ns, &opened.interrupted);
    }
    bus->log_id = bus->log_id == 0 ? mr_rng_next(&bus->rng) | 1 : bus->log_id;
    bus->current = (int64_t)bus->segment_count - 1; /* none of the old ones is written to */
    bus->recovering = false;
    r = r == MR_OK ? log_start(bus, &opened) : r;
    mr_log_index_release(&index);
    if (r != MR_OK) {
        if (problem->text[0] == '\0') {
            (void)mr_problem_set(problem, r, "cannot open the log: %s", mr_status_text(r));
        }
        mr_bus_destroy(bus);
        return r;
    }
    opened.from_checkpoint = head.sequence != 0;
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
    group_release(&bus->stage);
    group_release(&bus->flight);
    free_chain_of_batches(bus->pending);
    while (bus->deferred != NULL) {
        struct mr_handout *next = (struct mr_handout *)bus->deferred->op.next;
        mr_handout_destroy(bus->deferred);
        bus->deferred = next;
    }
    for (uint32_t i = 0; i < bus->sub_count; i++) {
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
    if (bus->checkpoint != NULL && !bus->checkpoint_writing) {
        mr_free(bus->checkpoint->buf);
        mr_free(bus->checkpoint);
    }
    mr__cache_release(bus);
    mr__bundles_destroy(bus);
    mr__fanouts_destroy(bus);
    mr_map_release(&bus->names);
    mr_matches_release(&bus->rematch);
    mr_free(bus->subs);
    mr_free(bus->targets);
    mr_free(bus->sources);
    mr_free(bus->segments);
    mr_free(bus->spares);
    mr_free(bus->heap);
    mr_free(bus->sub_of_index);
    mr_free(bus);
}

/* --- configuration ---------------------------------------------------------------------------- */

/* Everything that can fail, before anything changes. */
static enum mr_status reserve_configuration(struct mr_bus *bus, const struct mr_config *config,
                                            uint32_t **ret_ids, struct mr__shared **ret_shared)
{
    uint32_t *ids = mr_calloc(config->subscription_count + 1u, sizeof(*ids));
    if (ids == NULL) {
        return MR_E_NOMEM;
    }
    enum mr_status r = MR_OK;
    for (uint32_t i = 0; i < config->target_count && r == MR_OK; i++) {
        const char *name = config->targets[i].name;
        if (mr__name_find(bus, MR_NAME_TARGET, name) == UINT32_MAX &&
            mr__target_add(bus, name) == NULL) {
            r = MR_E_NOMEM;
        }
        if (r == MR_OK) {
            struct mr__target *target = bus->targets[mr__name_find(bus, MR_NAME_TARGET, name)];
            r = mr__limit_prepare(target->limit, config->targets[i].rates, &target->limit_next);
        }
    }
    for (uint32_t i = 0; i < config->source_count && r == MR_OK; i++) {
        const char *name = config->sources[i].name;
        if (mr__name_find(bus, MR_NAME_SOURCE, name) == UINT32_MAX &&
            mr__source_add(bus, name) == NULL) {
            r = MR_E_NOMEM;
        }
    }
    static const char *const built_in[] = {MR_SOURCE_SEND_NAME, MR_SOURCE_API_NAME};
    for (size_t i = 0; i < MR_ARRAY_COUNT(built_in) && r == MR_OK; i++) {
        if (mr__name_find(bus, MR_NAME_SOURCE, built_in[i]) == UINT32_MAX &&
            mr__source_add(bus, built_in[i]) == NULL) {
            r = MR_E_NOMEM;
        }
    }
    size_t bytes = mr_record_size(strlen(config->canonical_json)) + 4096;
    for (uint32_t i = 0; i < config->subscription_count && r == MR_OK; i++) {
        const char *name = config->subscriptions[i].name;
        ids[i] = mr__name_find(bus, MR_NAME_SUBSCRIPTION, name);
        if (ids[i] == UINT32_MAX) {
            struct mr__sub *sub = mr__sub_add(bus, name);
            r = sub == NULL ? MR_E_NOMEM : MR_OK;
            ids[i] = sub == NULL ? 0 : sub->id;
        }
        if (r == MR_OK) {
            struct mr__sub *sub = bus->subs[ids[i]];
            r = mr__limit_prepare(sub->limit, config->subscriptions[i].rates, &sub->limit_next);
        }
        if (r == MR_OK) {
            r = mr__shares_prepare(bus, bus->subs[ids[i]], &config->subscriptions[i], config,
                                   &bytes);
        }
        bytes += mr_record_size(0);
    }
    for (uint32_t i = 0; i < bus->sub_count; i++) {
        bytes += mr_record_size(0) + mr__unarm_size(bus->subs[i]);
    }
    r = r == MR_OK ? mr__fanouts_reserve(bus, config) : r;
    r = r == MR_OK ? mr__names_reserve(bus) : r;
    r = r == MR_OK ? mr__stage_reserve(bus, bytes) : r;
    r = r == MR_OK ? mr__shared_prepare(bus, config, ret_shared) : r;
    if (r != MR_OK) {
        mr_free(ids);
        return r;
    }
    *ret_ids = ids;
    return MR_OK;
}

static void set_targets_and_sources(struct mr_bus *bus, const struct mr_config *config)
{
    for (uint32_t i = 0; i < bus->target_count; i++) {
        bus->targets[i]->conf = NULL;
        bus->targets[i]->has_levels = false;
    }
    for (uint32_t i = 0; i < config->target_count; i++) {
        uint32_t id = mr__name_find(bus, MR_NAME_TARGET, config->targets[i].name);
        bus->targets[id]->conf = &config->targets[i];
        mr__limit_apply(&bus->targets[id]->limit, &bus->targets[id]->limit_next);
    }
    for (uint32_t i = 0; i < bus->source_count; i++) {
        bus->sources[i]->index = -1;
    }
    for (uint32_t i = 0; i < config->source_count; i++) {
        const struct mr_source_config *conf = &config->sources[i];
        uint32_t id = mr__name_find(bus, MR_NAME_SOURCE, conf->name);
        bus->sources[id]->index = i;
        mr__seen_configure(bus, &bus->sources[id]->seen, conf->dedupe_window_ns,
                           conf->dedupe_keys);
    }
}

static uint64_t order_hash(const struct mr_subscription_config *conf)
{
    uint64_t hash = conf->order_key == NULL ? 0 : mr_hash(conf->order_key, strlen(conf->order_key));
    return mr_hash_u64(hash + (uint64_t)conf->order) | 1;
}

static void set_subscription(struct mr_bus *bus, struct mr__sub *sub,
                             const struct mr_subscription_config *conf)
{
    uint64_t order = order_hash(conf);
    if (sub->order_hash != 0 && sub->order_hash != order) {
        sub->order_epoch++;
    }
    sub->order_hash = order; /* logged with the names, which this group begins or ends with */
    sub->conf = conf;
    sub->shared = bus->shared;
    mr__shares_apply(bus, sub);
    mr__state_set_width(bus, sub);
    mr__limit_apply(&sub->limit, &sub->limit_next);
    if (sub->removed_log_ns != 0) {
        struct mr_record record = {.kind = MR_RECORD_REMOVED, .a = sub->id, .b = 0};
        (void)mr__stage_record(bus, &record);
        mr__apply_removed(bus, sub, 0, 0);
    }
    mr__turn_add_all(sub);
    mr__shed_look(bus, sub);
}

static void remove_subscription(struct mr_bus *bus, struct mr__sub *sub)
{
    sub->conf = NULL;
    if (sub->removed_log_ns != 0 || sub->ingest) {
        return;
    }
    struct mr_record record = {
        .kind = MR_RECORD_REMOVED, .a = sub->id, .b = 1, .c = bus->log_ns};
    (void)mr__stage_record(bus, &record);
    mr__apply_removed(bus, sub, 1, bus->log_ns);
    mr__unarm(bus, sub, NULL);
}

enum mr_status mr_bus_configure(struct mr_bus *bus, struct mr_now now,
                                const struct mr_config *config, const struct mr_router *router,
                                uint64_t generation)
{
    mr__clock_advance(bus, now);
    MR_ASSERT(generation != 0); /* 0 stands for matches that are ids already */
    uint32_t *ids = NULL;
    struct mr__shared *shared = NULL;
    enum mr_status r = reserve_configuration(bus, config, &ids, &shared);
    if (r != MR_OK) {
        return r;
    }
    mr__pending_hold(bus);
    bus->names_due = true;
    bus->options.log.retain_size = config->log.retain_size;
    bus->options.log.retain_age_ns = config->log.retain_age_ns;
    bus->options.log.max_size = config->log.max_size;
    bus->options.log.disk_low = config->log.disk_low;
    set_targets_and_sources(bus, config);
    for (uint32_t i = 0; i < bus->sub_count; i++) {
        bus->subs[i]->conf = NULL; /* set again below, or removed */
    }
    mr__shared_apply(bus, shared, config->limit_count);
    for (uint32_t i = 0; i < config->subscription_count; i++) {
        set_subscription(bus, bus->subs[ids[i]], &config->subscriptions[i]);
    }
    for (uint32_t i = 0; i < bus->sub_count; i++) {
        if (bus->subs[i]->conf == NULL) {
            remove_subscription(bus, bus->subs[i]);
        }
    }
    if (bus->config_hash_logged != config->hash) {
        struct mr_record record = {.kind = MR_RECORD_CONFIG,
                                   .c = config->hash,
                                   .body = mr_bytes_of(config->canonical_json)};
        (void)mr__stage_record(bus, &record);
        bus->config_hash_logged = config->hash;
        bus->config_due = false;
    }
    mr__shared_recount(bus);
    mr__fanouts_configure(bus, config);
    mr_free(bus->sub_of_index);
    bus->sub_of_index = ids;
    bus->sub_of_index_count = config->subscription_count;
    bus->config = config;
    bus->router = router;
    bus->generation = generation;
    mr__pending_rematch(bus);
    mr__timers_reset(bus);
    mr__flow_update(bus);
    return MR_OK;
}

uint32_t mr_bus_source_id(const struct mr_bus *bus, const char *name)
{
    return mr__name_find(bus, MR_NAME_SOURCE, name);
}

uint32_t mr_bus_target_id(const struct mr_bus *bus, const char *name)
{
    return mr__name_find(bus, MR_NAME_TARGET, name);
}

uint32_t mr_bus_subscription_id(const struct mr_bus *bus, const char *name)
{
    return mr__name_find(bus, MR_NAME_SUBSCRIPTION, name);
}
