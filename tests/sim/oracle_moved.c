/* What outlives its segment: copied as it was, moved only to where it was copied, and neither place
 * given up before the other counts. */
#include "oracle_internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "bus/keep_verify.h"
#include "bus/missing.h"
#include "core/assert.h"

static bool is_needed(const struct oracle_delivery *d)
{
    return d->letter || d->state == MR_STATE_WAITING || d->state == MR_STATE_IN_FLIGHT ||
           d->state == MR_STATE_HELD;
}

static uint64_t segment_of(const struct oracle *o, const struct oracle_delivery *d)
{
    return d->moved_to != 0 ? d->moved_to : oracle_payload_of(o, d)->segment;
}

/* The record at @p position, its body in @p data. @return false: there is no whole one */
static bool read_place(struct mr_io *io, uint64_t position, uint8_t *data, size_t capacity,
                       struct mr_record *ret_record)
{
    size_t got = 0;
    static const enum mr_log_file files[] = {MR_LOG_OF_SEGMENT, MR_LOG_OF_SURVIVORS};
    for (size_t i = 0; i < MR_ARRAY_COUNT(files); i++) {
        char name[MR_LOG_NAME_SIZE];
        int file;
        mr_log_file_name(files[i], mr_position_segment(position), name);
        if (io->ops->open(io, name, MR_IO_READ_ONLY, &file) == MR_OK) {
            enum mr_status r =
                io->ops->pread(io, file, data, capacity, mr_position_at(position), &got);
            MR_ASSERT(r == MR_OK); /* no fault is armed now */
            io->ops->close(io, file);
        }
    }
    return mr_record_decode(data, got, ret_record, NULL) == MR_OK;
}

/* Any record fits: segments are no larger. */
static size_t place_size(void)
{
    return (size_t)1 << MR_SEGMENT_SHIFT;
}

void oracle_copied(struct oracle *o, const struct mr_log_request *request)
{
    uint8_t *data = malloc(place_size());
    MR_ASSERT(data != NULL);
    for (uint32_t i = 0; i < request->copy_count && !o->rotten; i++) {
        const struct mr_log_copy *copy = &request->copies[i];
        struct mr_record r;
        const struct oracle_delivery *d = oracle_delivery_of(o, copy->subscription, copy->offset);
        uint64_t from = mr_position_segment(copy->from);
        bool there = d != NULL && is_needed(d) && /* what has ended may be gone meanwhile */
                     (copy->kind == MR_RECORD_EVENT ? segment_of(o, d) == from
                                                    : d->letter && d->record_segment == from);
        if (copy->to == 0 && there && !sim_reads_failed(o->world)) {
            sim_fail(o->world, "%u:%llu cannot be copied, the disk kept its word",
                     copy->subscription, LLU(copy->offset));
        }
        if (copy->to == 0) {
            continue;
        }
        bool event = copy->kind == MR_RECORD_EVENT;
        if (!o->world->disks.rots &&
            (mr_position_segment(copy->to) != request->number ||
             !read_place(o->world->disks.io, copy->to, data, place_size(), &r) ||
             r.kind != copy->kind ||
             (event ? r.body_crc != o->events[r.offset - 1].crc : r.offset != copy->offset))) {
            sim_fail(o->world, "%u:%llu is another where it was copied to", copy->subscription,
                     LLU(copy->offset));
        }
        o->copies = oracle_grow(o->copies, sizeof(*o->copies), o->copy_count + 1,
                                &o->copy_capacity);
        o->copies[o->copy_count++] = *copy;
        sim_fired[SIM_COPIED]++;
        sim_fired[SIM_COPIED_LETTER] += !event;
        sim_fired[SIM_COPIED_TWICE] += copy->file == MR_LOG_OF_SURVIVORS;
    }
    free(data);
}

static const struct mr_log_copy *copy_at(const struct oracle *o, uint32_t sub, uint64_t offset,
                                         uint64_t to)
{
    for (uint32_t i = o->copy_count; i-- > 0;) {
        const struct mr_log_copy *copy = &o->copies[i];
        if (copy->to == to && copy->offset == offset && copy->subscription == sub) {
            return copy;
        }
    }
    return NULL;
}

void oracle_fold_moved(struct fold *f, const struct mr_record *r)
{
    struct oracle *o = f->o;
    for (size_t at = 0; at < r->body.size; at += MR_MOVED_ENTRY_SIZE) {
        const uint8_t *entry = r->body.data + at;
        const struct mr_record of = {.kind = r->kind,
                                     .a = mr_get_u32(entry),
                                     .offset = mr_get_u64(entry + 4)};
        uint64_t from = mr_get_u64(entry + 12);
        uint64_t to = mr_get_u64(entry + 20);
        struct oracle_delivery *d = oracle_find(f, &of);
        const struct mr_log_copy *copy = copy_at(o, d->sub, d->offset, to);
        if (copy == NULL || copy->from != from || !is_needed(d)) {
            FAIL(f, "%u:%llu (%s) moves to where it was not copied", d->sub, LLU(d->offset),
                 mr_state_text((enum mr_state)d->state));
        }
        bool event = copy->kind == MR_RECORD_EVENT;
        uint64_t *place = event ? &d->moved_to : &d->record_segment;
        if ((event ? segment_of(o, d) : *place) != mr_position_segment(from) ||
            (!event && !d->letter)) {
            FAIL(f, "%u:%llu moves out of segment %llu, where it is not", d->sub, LLU(d->offset),
                 LLU(mr_position_segment(from)));
        }
        *place = mr_position_segment(to);
        d->moved_from = mr_position_segment(from);
        d->moved_sequence = f->sequence;
        sim_fired[SIM_MOVED]++;
    }
}

void oracle_retire(struct oracle *o, uint64_t segment)
{
    bool never = o->world->options.log.sync == MR_SYNC_NEVER;
    uint64_t safe = never ? o->written : o->floor;
    for (uint32_t i = 0; i < o->delivery_count && !o->rotten; i++) {
        const struct oracle_delivery *d = &o->deliveries[i];
        bool here = segment_of(o, d) == segment || (d->letter && d->record_segment == segment);
        bool early = d->moved_from == segment && d->moved_sequence > safe;
        if (is_needed(d) && (here || early)) {
            sim_fail(o->world, "segment %llu is retired, but delivery %u:%llu (%s%s) %s",
                     LLU(segment), d->sub, LLU(d->offset),
                     mr_state_text((enum mr_state)d->state), d->letter ? ", dead letter" : "",
                     here ? "lies in it" : "may have to be found in it again");
        }
    }
}

/* --- what a start has found ------------------------------------------------------------------- */

struct places {
    const struct oracle *o;
    struct mr_io *io;
    const char *where;
    uint8_t *data;
    uint32_t sub;
};

static void check_event(const struct places *p, uint64_t offset, uint64_t position)
{
    struct mr_record r;
    bool good = mr_position_segment(position) == 0 ||
                (read_place(p->io, position, p->data, place_size(), &r) &&
                 mr_record_is_event_of(&r, p->sub, offset) && r.offset <= p->o->event_count &&
                 r.body_crc == p->o->events[r.offset - 1].crc);
    if (!good) {
        sim_fail(p->o->world, "%s: the event of %u:%llu is not at %llx", p->where, p->sub,
                 LLU(offset), LLU(position));
    }
}

static bool check_letter(void *context, const struct mr_dead_letter *letter)
{
    const struct places *p = context;
    struct mr_record r;
    check_event(p, letter->offset, letter->event_position);
    bool good = mr_position_segment(letter->record_position) == 0 ||
                (read_place(p->io, letter->record_position, p->data, place_size(), &r) &&
                 r.kind == MR_RECORD_DEAD && r.a == p->sub && r.offset == letter->offset);
    if (!good) {
        sim_fail(p->o->world, "%s: the record of dead letter %u:%llu is not at %llx", p->where,
                 p->sub, LLU(letter->offset), LLU(letter->record_position));
    }
    return true;
}

void oracle_found_places(struct oracle *o, const struct mr_bus *bus)
{
    for (uint32_t i = 0; i < o->delivery_count && !o->rotten; i++) {
        struct oracle_delivery *d = &o->deliveries[i];
        struct mr_delivery_info info;
        if (d->letter) {
            continue;
        }
        enum mr_status r =
            mr_bus_delivery_info(bus, sim_now(o->world), d->sub, d->offset, &info);
        uint64_t number = r == MR_OK ? mr_position_segment(info.event_position) : 0;
        d->moved_to = number == oracle_payload_of(o, d)->segment ? 0 : number;
        d->moved_from = 0;
    }
}

void oracle_check_places(const struct oracle *o, const struct mr_bus *bus, struct mr_io *io,
                         const char *where)
{
    struct places p = {.o = o, .io = io, .where = where, .data = malloc(place_size())};
    MR_ASSERT(p.data != NULL);
    for (uint32_t i = 0; i < o->delivery_count && !o->rotten; i++) {
        const struct oracle_delivery *d = &o->deliveries[i];
        struct mr_delivery_info info;
        p.sub = d->sub;
        if (mr_bus_delivery_info(bus, sim_now(o->world), d->sub, d->offset, &info) == MR_OK) {
            check_event(&p, d->offset, info.event_position);
        }
    }
    for (p.sub = 0; p.sub < mr_bus_subscription_count(bus) && !o->rotten; p.sub++) {
        mr_bus_dead_letters(bus, p.sub, check_letter, &p);
    }
    free(p.data);
}

/* --- the files -------------------------------------------------------------------------------- */

static void count_finding(void *context, const struct mr_keep_finding *finding)
{
    uint32_t *count = context;
    (*count)++;
    if (sim_verbose) {
        printf("  %s at %llu: finding %d\n", finding->file, LLU(finding->at),
               (int)finding->damage);
    }
}

uint32_t oracle_verify_keeps(struct mr_io *io)
{
    struct mr_log_index index;
    struct mr_log_reader *reader;
    struct mr_keeps *keeps;
    struct mr_log_group group;
    uint64_t records;
    uint32_t count = 0;
    enum mr_status r = mr_log_index(io, &index, NULL);
    MR_ASSERT(r == MR_OK);
    r = mr_log_reader_create(io, &index, 0, 0, 0, 0, &reader);
    MR_ASSERT(r == MR_OK);
    r = mr_keeps_create(io, &index, &keeps);
    MR_ASSERT(r == MR_OK);
    while (mr_log_reader_next(reader, &group) == MR_OK) {
        uint32_t at = 0;
        uint64_t position;
        struct mr_record record;
        while (mr_log_next_record(&group, &at, &position, &record)) {
            mr_keeps_note(keeps, &record);
        }
    }
    r = mr_keeps_verify(keeps, 0, count_finding, &count, &records);
    MR_ASSERT(r == MR_OK);
    mr_keeps_destroy(keeps);
    mr_log_reader_destroy(reader);
    mr_log_index_release(&index);
    return count;
}

static void count_missing(void *context, const struct mr_missing *missing)
{
    uint32_t *count = context;
    (*count)++;
    if (sim_verbose) {
        printf("  file %llu is missing: %llu records\n", LLU(missing->number),
               LLU(missing->count));
    }
}

uint32_t oracle_verify_log(struct mr_io *io)
{
    struct mr_log_index index;
    struct mr_log_reader *reader;
    struct mr_log_group group;
    uint32_t count = 0;
    enum mr_status r = mr_log_index(io, &index, NULL);
    MR_ASSERT(r == MR_OK);
    r = mr_missing_heed(io, &index);
    MR_ASSERT(r == MR_OK);
    r = mr_log_reader_create(io, &index, 0, 0, 0, 0, &reader);
    MR_ASSERT(r == MR_OK);
    while (mr_log_reader_next(reader, &group) == MR_OK) {
        count += group.decision == MR_RECOVERY_ROTTEN;
        if (group.decision == MR_RECOVERY_ROTTEN && sim_verbose) {
            printf("  rotten at %llu\n", LLU(group.position));
        }
    }
    r = mr_missing_tell(io, &index, count_missing, &count);
    MR_ASSERT(r == MR_OK);
    mr_log_reader_destroy(reader);
    mr_log_index_release(&index);
    return count;
}
