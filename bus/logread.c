#include "bus/logread.h"


#include "bus/planted.h"
#include "core/alloc.h"
#include "core/assert.h"
#include "core/hash.h"

/* Decisions of one place in the log; docs/log-format.md has the reasons in prose.
 *
 *   GROUP    whatever follows                       take it: chained, salted and whole
 *   EMPTY    nothing later, not covered             the clean end
 *   EMPTY    covered or proof                       acknowledged bytes are gone: rotten
 *   DAMAGED  nothing later, not covered             torn: its write never returned
 *   DAMAGED  covered or proof                       rotten
 *   either   later but unsynced                     the disk reordered unpromised groups: cut */
enum mr_recovery mr_recovery_decide(enum mr_place place, enum mr_later later, bool covered)
{
    MR_ASSERT(place < MR_PLACE_MAX);
    MR_ASSERT(later < MR_LATER_MAX);
    if (place == MR_PLACE_GROUP) {
        return MR_RECOVERY_TAKE;
    }
    if (covered || later == MR_LATER_PROOF) {
        return MR_RECOVERY_ROTTEN;
    }
    if (later == MR_LATER_UNSYNCED) {
        return MR_RECOVERY_CUT_UNSYNCED;
    }
    return place == MR_PLACE_EMPTY ? MR_RECOVERY_END : MR_RECOVERY_CUT_TORN;
}

/* --- the directory ---------------------------------------------------------------------------- */

struct lister {
    struct mr_log_index *index;
    enum mr_status status;
};

static bool push_segment(struct mr_log_index *index, uint64_t number)
{
    struct mr_log_segment *grown =
        mr_realloc(index->segments, (index->segment_count + 1) * sizeof(*grown));
    if (grown == NULL) {
        return false;
    }
    index->segments = grown;
    grown[index->segment_count++] = (struct mr_log_segment){.number = number};
    return true;
}

static bool push_spare(struct mr_log_index *index, uint64_t number)
{
    uint64_t *grown = mr_realloc(index->spares, (index->spare_count + 1) * sizeof(*grown));
    if (grown == NULL) {
        return false;
    }
    index->spares = grown;
    grown[index->spare_count++] = number;
    return true;
}

static void take_name(void *context, const char *name)
{
    struct lister *l = context;
    uint64_t number;
    bool ok = true;
    if (mr_log_name_parse(name, "seg-", &number)) {
        ok = push_segment(l->index, number);
    } else if (mr_log_name_parse(name, "free-", &number)) {
        ok = push_spare(l->index, number);
    } else if (strcmp(name, "checkpoint-0") == 0) {
        l->index->has_checkpoint[0] = true;
    } else if (strcmp(name, "checkpoint-1") == 0) {
        l->index->has_checkpoint[1] = true;
    }
    if (!ok) {
        l->status = MR_E_NOMEM;
    }
}

static enum mr_status read_segment_header(struct mr_io *io, struct mr_log_segment *segment,
                                          struct mr_problem *problem)
{
    char name[MR_LOG_NAME_SIZE];
    mr_segment_name(segment->number, name);
    int file;
    enum mr_status r = io->ops->open(io, name, MR_IO_READ_ONLY, &file);
    if (r != MR_OK) {
        return mr_problem_set(problem, r, "cannot open %s: %s", name, mr_status_text(r));
    }
    uint8_t block[MR_LOG_BLOCK];
    size_t size = 0;
    r = io->ops->pread(io, file, block, sizeof(block), 0, &size);
    if (r == MR_OK) {
        r = io->ops->size(io, file, &segment->file_size);
    }
    io->ops->close(io, file);
    if (r != MR_OK) {
        return mr_problem_set(problem, r, "cannot read %s: %s", name, mr_status_text(r));
    }
    enum mr_status header =
        size == sizeof(block) ? mr_segment_header_decode(block, &segment->header) : MR_E_CORRUPT;
    if (header == MR_E_UNSUPPORTED) {
        return mr_problem_set(problem, header,
                              "%s was written by a later version of Millrace (format %u, this "
                              "one reads %u)",
                              name, (unsigned)mr_get_u32(block + 8), MR_LOG_VERSION);
    }
    segment->usable = header == MR_OK && segment->header.number == segment->number;
    bool zeros = true;
    for (size_t i = 0; i < size && zeros; i++) {
        zeros = block[i] == 0;
    }
    segment->blank = !segment->usable && (header == MR_OK || zeros);
    return MR_OK;
}

enum mr_status mr_log_index(struct mr_io *io, struct mr_log_index *ret_index,
                            struct mr_problem *problem)
{
    struct mr_log_index index = {0};
    struct lister lister = {.index = &index};
    enum mr_status r = io->ops->list(io, take_name, &lister);
    if (r == MR_OK) {
        r = lister.status;
    }
    for (uint32_t i = 0; i < index.segment_count && r == MR_OK; i++) {
        r = read_segment_header(io, &index.segments[i], problem);
    }
    if (r != MR_OK) {
        mr_log_index_release(&index);
        return r;
    }
    *ret_index = index;
    return MR_OK;
}

void mr_log_index_release(struct mr_log_index *index)
{
    mr_free(index->segments);
    mr_free(index->spares);
    *index = (struct mr_log_index){0};
}

/* --- the reader ------------------------------------------------------------------------------- */

#define READ_AHEAD (1u * MR_MIB)

struct mr_log_reader {
    struct mr_io *io;
    const struct mr_log_index *index;
    uint32_t segment;      /* index in index->segments */
    uint64_t at;           /* byte in the segment of the next place */
    uint64_t sequence;     /* wanted next; 0: anything */
    uint32_t previous_crc; /* wanted chain; valid when sequence is */
    uint64_t next_offset;  /* events before it are known */
    uint64_t durable_floor;
    bool chained;          /* sequence and previous_crc are to be checked */
    bool ended;
    int file;              /* of `segment`, -1 when closed */
    uint8_t *data;         /* owned: bytes [data_at, data_at + data_size) of the segment */
    size_t data_capacity;
    uint64_t data_at;
    size_t data_size;
};

enum mr_status mr_log_reader_create(struct mr_io *io, const struct mr_log_index *index,
                                    uint64_t position, uint64_t sequence, uint32_t previous_crc,
                                    uint64_t durable_floor, struct mr_log_reader **ret_reader)
{
    struct mr_log_reader *reader = mr_calloc(1, sizeof(*reader));
    if (reader == NULL) {
        return MR_E_NOMEM;
    }
    *reader = (struct mr_log_reader){
        .io = io,
        .index = index,
        .at = MR_LOG_BLOCK,
        .sequence = sequence,
        .previous_crc = previous_crc,
        .durable_floor = durable_floor,
        .chained = sequence != 0,
        .file = -1,
    };
    bool trimmed = index->has_checkpoint[0] && index->has_checkpoint[1] &&
                   index->segment_count > 0 && index->segments[0].number > 1;
    if (sequence == 0 && !trimmed && position <= mr_position(1, MR_LOG_BLOCK)) {
        /* The log from its beginning: nothing goes before both checkpoints stood, so the first
         * group is wanted, and a later one standing first is not the start of anything. Asked for
         * a later segment, whatever stands there. */
        reader->sequence = 1;
        reader->next_offset = 1;
        reader->chained = true;
    }
    if (position != 0) {
        while (reader->segment < index->segment_count &&
               index->segments[reader->segment].number < mr_position_segment(position)) {
            reader->segment++;
        }
        bool found = reader->segment < index->segment_count &&
                     index->segments[reader->segment].number == mr_position_segment(position);
        if (found && mr_position_at(position) >= MR_LOG_BLOCK) {
            reader->at = mr_position_at(position);
        }
    }
    *ret_reader = reader;
    return MR_OK;
}

static void close_file(struct mr_log_reader *reader)
{
    if (reader->file >= 0) {
        reader->io->ops->close(reader->io, reader->file);
        reader->file = -1;
    }
    reader->data_size = 0;
}

void mr_log_reader_destroy(struct mr_log_reader *reader)
{
    if (reader != NULL) {
        close_file(reader);
        mr_free(reader->data);
        mr_free(reader);
    }
}

/* Makes [at, at + size) of the present segment available. Bytes past the end of the file are
 * missing: *ret_data is NULL then. A read that fails is an error, never a torn tail: what could not
 * be read may have been acknowledged, and the next try may read it. */
static enum mr_status fetch(struct mr_log_reader *reader, uint64_t at, size_t size,
                            const uint8_t **ret_data)
{
    *ret_data = NULL;
    const struct mr_log_segment *segment = &reader->index->segments[reader->segment];
    if (at + size > segment->file_size) {
        return MR_OK;
    }
    if (at >= reader->data_at && at + size <= reader->data_at + reader->data_size) {
        *ret_data = reader->data + (at - reader->data_at);
        return MR_OK;
    }
    if (reader->file < 0) {
        char name[MR_LOG_NAME_SIZE];
        mr_segment_name(segment->number, name);
        enum mr_status opened =
            reader->io->ops->open(reader->io, name, MR_IO_READ_ONLY, &reader->file);
        if (opened != MR_OK) {
            reader->file = -1;
            return opened;
        }
    }
    size_t want = size < READ_AHEAD ? READ_AHEAD : size;
    if (want > reader->data_capacity) {
        uint8_t *grown = mr_realloc(reader->data, want);
        if (grown == NULL) {
            return MR_E_NOMEM;
        }
        reader->data = grown;
        reader->data_capacity = want;
    }
    reader->data_at = at;
    reader->data_size = 0;
    size_t got = 0;
    const struct mr_io_ops *ops = reader->io->ops;
    enum mr_status r = ops->pread(reader->io, reader->file, reader->data, want, at, &got);
    if (r != MR_OK && want > size) {
        r = ops->pread(reader->io, reader->file, reader->data, size, at, &got);
    }
    if (r != MR_OK) {
        return r; /* not what was read ahead, but what is wanted */
    }
    reader->data_size = got;
    if (got >= size) {
        *ret_data = reader->data;
    }
    return MR_OK;
}

/* Walks the records of a group. @return how many were unreadable; *ret_events counts the EVENT
 * records that are whole */
static uint32_t check_records(const uint8_t *data, const struct mr_group_header *header)
{
    uint32_t at = MR_GROUP_HEADER_SIZE;
    uint32_t good = 0;
    uint32_t bad = 0;
    uint32_t sum = 0;
    while (at < header->size) {
        struct mr_record record;
        uint32_t head_crc = 0;
        enum mr_status r = mr_record_decode(data + at, header->size - at, &record, &head_crc);
        if (r == MR_E_CORRUPT) {
            /* Lengths are lost: so is the rest of the group. What a recycled file still holds may
             * have made up the number. */
            return good < header->records ? header->records - good : 1;
        }
        uint8_t le[4];
        mr_put_u32(le, head_crc);
        sum = mr_crc32c(sum, le, sizeof(le));
        bad += r != MR_OK;
        good += r == MR_OK;
        at += (uint32_t)mr_record_size(record.body.size);
    }
    if (bad == 0 && (good != header->records || sum != header->records_crc)) {
        return header->records == 0 ? 1 : header->records;
    }
    return bad;
}

/* What stands at the reader's place; header and data set when they can be used. */
static enum mr_status look(struct mr_log_reader *reader, uint64_t at, bool want_sequence,
                           struct mr_log_group *group, enum mr_place *ret_place)
{
    const struct mr_log_segment *segment = &reader->index->segments[reader->segment];
    const uint8_t *head;
    *group = (struct mr_log_group){.position = mr_position(segment->number, at)};
    *ret_place = MR_PLACE_EMPTY;
    enum mr_status r = fetch(reader, at, MR_GROUP_HEADER_SIZE, &head);
    if (r != MR_OK || head == NULL) {
        /* The end of the file, or a block the disk cannot read any more. */
        *ret_place = head == NULL && at + MR_LOG_BLOCK <= segment->file_size ? MR_PLACE_DAMAGED
                                                                             : MR_PLACE_EMPTY;
        return r;
    }
    enum mr_status h = mr_group_header_decode(head, segment->header.salt, &group->header);
    if (h == MR_E_NOT_FOUND) {
        return MR_OK;
    }
    *ret_place = MR_PLACE_DAMAGED;
    if (h != MR_OK) {
        return MR_OK;
    }
    want_sequence = want_sequence && !MR_PLANTED(NO_CHAIN) && !MR_PLANTED(NO_SALT);
    if (want_sequence && (group->header.sequence != reader->sequence ||
                          group->header.previous_crc != reader->previous_crc)) {
        return MR_OK;
    }
    group->header_good = true;
    r = fetch(reader, at, group->header.size, &group->data);
    if (r != MR_OK || group->data == NULL) {
        group->bad_records = group->header.records;
        return r;
    }
    group->bad_records = check_records(group->data, &group->header);
    *ret_place = group->bad_records == 0 ? MR_PLACE_GROUP : MR_PLACE_DAMAGED;
    return MR_OK;
}

/* Looks for a good group behind the reader's place, in this segment and the next ones.
 * @param[out] ret_segment, ret_at where the first one is */
static enum mr_status search_later(struct mr_log_reader *reader, enum mr_later *ret_later,
                                   uint32_t *ret_segment, uint64_t *ret_at)
{
    uint32_t segment_before = reader->segment;
    uint64_t at = reader->at + MR_LOG_BLOCK;
    *ret_later = MR_LATER_NONE;
    enum mr_status r = MR_OK;
    for (; reader->segment < reader->index->segment_count && r == MR_OK;
         reader->segment++, at = MR_LOG_BLOCK, close_file(reader)) {
        const struct mr_log_segment *segment = &reader->index->segments[reader->segment];
        if (!segment->usable) {
            continue;
        }
        for (; at + MR_GROUP_HEADER_SIZE <= segment->file_size; at += MR_LOG_BLOCK) {
            struct mr_log_group group;
            enum mr_place place;
            r = look(reader, at, false, &group, &place);
            if (r != MR_OK) {
                break;
            }
            if (place != MR_PLACE_GROUP || group.header.sequence < reader->sequence) {
                continue;
            }
            if (*ret_later == MR_LATER_NONE) {
                *ret_segment = reader->segment;
                *ret_at = at;
                *ret_later = MR_LATER_UNSYNCED;
            }
            if (group.header.durable >= reader->sequence) {
                *ret_later = MR_LATER_PROOF;
                goto out;
            }
            at += group.header.padded - MR_LOG_BLOCK;
        }
    }
out:
    close_file(reader);
    reader->segment = segment_before;
    return r;
}

/* Whether a later segment begins with the group that continues the chain: the end of a segment was
 * reached, or a start cut a torn tail here and went on in a new segment (perhaps several times). */
static enum mr_status continues_in_next(struct mr_log_reader *reader, bool *ret_continues)
{
    *ret_continues = false;
    uint32_t segment_before = reader->segment;
    enum mr_status r = MR_OK;
    for (uint32_t next = segment_before + 1;
         next < reader->index->segment_count && r == MR_OK && !*ret_continues; next++) {
        if (!reader->index->segments[next].usable) {
            continue;
        }
        close_file(reader);
        reader->segment = next;
        struct mr_log_group group;
        enum mr_place place;
        r = look(reader, MR_LOG_BLOCK, reader->chained, &group, &place);
        /* A first group with the right chain and a bad record is still the continuation. */
        *ret_continues = r == MR_OK && group.header_good;
    }
    if (*ret_continues) {
        reader->at = MR_LOG_BLOCK;
    } else {
        close_file(reader);
        reader->segment = segment_before;
    }
    return r;
}

static void advance(struct mr_log_reader *reader, const struct mr_log_group *group)
{
    reader->at = mr_position_at(group->position) + group->header.padded;
    reader->sequence = group->header.sequence + 1;
    reader->previous_crc = group->header.crc;
    reader->next_offset = group->header.next_offset;
    reader->chained = true;
}

/* A rotten place: go on at the next good group, naming the events between. */
static enum mr_status step_over_rot(struct mr_log_reader *reader, struct mr_log_group *group,
                                    bool found, uint32_t segment, uint64_t at)
{
    group->lost_first = reader->next_offset;
    if (group->header_good && group->data != NULL) {
        /* The header is whole: its good records count, its bad ones are named one by one by the
         * caller, which walks them. */
        group->lost_end = group->lost_first;
        advance(reader, group);
        return MR_OK;
    }
    group->header_good = false;
    group->data = NULL;
    if (!found) {
        reader->ended = true;
        group->lost_end = group->lost_first;
        return MR_OK;
    }
    close_file(reader);
    reader->segment = segment;
    reader->at = at;
    struct mr_log_group next;
    enum mr_place place;
    enum mr_status r = look(reader, at, false, &next, &place);
    if (r != MR_OK || place != MR_PLACE_GROUP) {
        return r == MR_OK ? MR_E_IO : r;
    }
    group->lost_end = next.header.first_offset > group->lost_first ? next.header.first_offset
                                                                   : group->lost_first;
    reader->sequence = next.header.sequence;
    reader->previous_crc = next.header.previous_crc;
    reader->next_offset = next.header.first_offset;
    reader->chained = true;
    return MR_OK;
}

enum mr_status mr_log_reader_next(struct mr_log_reader *reader, struct mr_log_group *ret_group)
{
    while (!reader->ended && reader->segment < reader->index->segment_count &&
           !reader->index->segments[reader->segment].usable) {
        reader->segment++;
        reader->at = MR_LOG_BLOCK;
    }
    if (reader->ended) {
        return MR_E_NOT_FOUND;
    }
    if (reader->segment >= reader->index->segment_count) {
        reader->ended = true;
        *ret_group = (struct mr_log_group){.decision = MR_RECOVERY_END};
        return MR_OK;
    }
    struct mr_log_group group;
    enum mr_place place;
    enum mr_status r = look(reader, reader->at, reader->chained, &group, &place);
    bool continues = true;
    while (r == MR_OK && place != MR_PLACE_GROUP && continues) {
        r = continues_in_next(reader, &continues);
        continues = continues && !MR_PLANTED(ONE_TORN_TAIL);
        if (r == MR_OK) { /* there (torn again, perhaps), or here: the search moved the window */
            r = look(reader, reader->at, reader->chained, &group, &place);
        }
    }
    if (r != MR_OK) {
        return r;
    }
    if (place == MR_PLACE_GROUP) {
        if (!reader->chained) {
            reader->next_offset = group.header.first_offset;
        }
        advance(reader, &group);
        group.decision = MR_RECOVERY_TAKE;
        *ret_group = group;
        return MR_OK;
    }
    enum mr_later later;
    uint32_t later_segment = 0;
    uint64_t later_at = 0;
    r = search_later(reader, &later, &later_segment, &later_at);
    if (r != MR_OK) {
        return r;
    }
    bool covered = reader->chained && reader->sequence <= reader->durable_floor;
    group.decision = mr_recovery_decide(place, later, covered);
    if (!reader->chained && group.decision == MR_RECOVERY_END && later == MR_LATER_NONE) {
        reader->ended = true;
        *ret_group = group;
        return MR_OK;
    }
    if (group.decision == MR_RECOVERY_ROTTEN) {
        if (group.header_good && group.header.size > 0) {
            const uint8_t *again; /* the search moved the window */
            r = fetch(reader, mr_position_at(group.position), group.header.size, &again);
            group.data = again;
        }
        if (r == MR_OK) {
            r = step_over_rot(reader, &group, later != MR_LATER_NONE, later_segment, later_at);
        }
    } else {
        reader->ended = true;
        group.data = NULL;
    }
    if (r == MR_OK) {
        *ret_group = group;
    }
    return r;
}

bool mr_log_next_record(const struct mr_log_group *group, uint32_t *at, uint64_t *ret_position,
                        struct mr_record *ret_record)
{
    if (group->data == NULL) {
        return false;
    }
    if (*at == 0) {
        *at = MR_GROUP_HEADER_SIZE;
    }
    while (*at < group->header.size) {
        uint32_t here = *at;
        enum mr_status r = mr_record_decode(group->data + here, group->header.size - here,
                                            ret_record, NULL);
        if (r == MR_E_CORRUPT) {
            return false;
        }
        *at += (uint32_t)mr_record_size(ret_record->body.size);
        if (r == MR_OK) {
            *ret_position = group->position + here;
            return true;
        }
    }
    return false;
}
