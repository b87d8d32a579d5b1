#include "bus/logread.h"

#include "bus/logwindow.h"
#include "bus/mend.h"
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

static bool push_file(struct mr_log_segment **files, uint32_t *count, enum mr_log_file of,
                      uint64_t number)
{
    struct mr_log_segment *grown = mr_realloc(*files, (*count + 1) * sizeof(*grown));
    if (grown == NULL) {
        return false;
    }
    *files = grown;
    grown[(*count)++] = (struct mr_log_segment){.number = number, .of = of};
    return true;
}

static bool push_number(uint64_t **numbers, uint32_t *count, uint64_t number)
{
    uint64_t *grown = mr_realloc(*numbers, (*count + 1) * sizeof(*grown));
    if (grown == NULL) {
        return false;
    }
    *numbers = grown;
    grown[(*count)++] = number;
    return true;
}

static void take_name(void *context, const char *name)
{
    struct lister *l = context;
    uint64_t number;
    bool ok = true;
    if (mr_log_name_parse(name, "seg-", &number)) {
        ok = push_file(&l->index->segments, &l->index->segment_count, MR_LOG_OF_SEGMENT, number);
    } else if (mr_log_name_parse(name, "keep-", &number)) {
        ok = push_file(&l->index->keeps, &l->index->keep_count, MR_LOG_OF_SURVIVORS, number);
    } else if (mr_log_name_parse(name, "free-", &number)) {
        ok = push_number(&l->index->spares, &l->index->spare_count, number);
    } else if (mr_log_name_parse(name, "foot-", &number)) {
        ok = push_number(&l->index->footers, &l->index->footer_count, number);
    } else if (mr_log_name_parse(name, "ids-", &number)) {
        ok = push_number(&l->index->ids, &l->index->ids_count, number);
    } else if (strcmp(name, "checkpoint-0") == 0) {
        l->index->has_checkpoint[0] = true;
    } else if (strcmp(name, "checkpoint-1") == 0) {
        l->index->has_checkpoint[1] = true;
    }
    if (!ok) {
        l->status = MR_E_NOMEM;
    }
}

/* Sets first_sequence, and for a segment whose header is of no use whether it ever had one, and
 * what stands in for it: all groups of a file carry its salt, and the chain proves them. */
static void judge_unusable(struct mr_log_segment *segment, enum mr_status header,
                           const uint8_t *block, size_t size)
{
    const uint8_t *first = block + MR_LOG_BLOCK;
    struct mr_group_header group;
    uint64_t salt = segment->header.salt;
    if (!segment->usable && size >= MR_LOG_BLOCK + MR_GROUP_HEADER_SIZE) {
        salt = mr_get_u64(first + 8);
    }
    bool good = size >= MR_LOG_BLOCK + MR_GROUP_HEADER_SIZE &&
                mr_group_header_decode(first, salt, &group) == MR_OK;
    segment->first_sequence = good ? group.sequence : 0;
    if (segment->usable) {
        return;
    }
    bool zeros = true;
    for (size_t i = 0; i < size && zeros; i++) {
        zeros = block[i] == 0;
    }
    /* A recycled file that waits for its header has the old one, and groups of that time. */
    bool recycled = header == MR_OK && (!good || segment->header.salt == salt);
    segment->blank = recycled || zeros;
    if (recycled) {
        segment->first_sequence = 0;
    } else if (good) {
        segment->header = (struct mr_segment_header){.file = segment->of,
                                                     .number = segment->number,
                                                     .size = segment->file_size,
                                                     .salt = salt,
                                                     .wall_ns = group.wall_ns};
    }
}

enum mr_status mr_log_segment_read(struct mr_io *io, struct mr_log_segment *segment,
                                   struct mr_problem *problem)
{
    char name[MR_LOG_NAME_SIZE];
    mr_log_file_name(segment->of, segment->number, name);
    int file;
    enum mr_status r = io->ops->open(io, name, MR_IO_READ_ONLY, &file);
    if (r != MR_OK) {
        return mr_problem_set(problem, r, "cannot open %s: %s", name, mr_status_text(r));
    }
    uint8_t block[2 * MR_LOG_BLOCK];
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
        size >= MR_LOG_BLOCK ? mr_segment_header_decode(block, &segment->header) : MR_E_CORRUPT;
    if (header == MR_E_UNSUPPORTED) {
        return mr_problem_set(problem, header,
                              "%s was written by a later version of Millrace (format %u, this "
                              "one reads %u)",
                              name, (unsigned)mr_get_u32(block + 8), MR_LOG_VERSION);
    }
    segment->usable = header == MR_OK && segment->header.number == segment->number &&
                      segment->header.file == segment->of;
    struct mr_log_mend mend = {.of = segment->of, .number = segment->number, .until = MR_LOG_BLOCK};
    if (!segment->usable && mr_io_has_copy(io) && mr_log_mend(io, &mend, 0) == MR_OK) {
        r = mr_io_read_copy(io, 0, name, MR_IO_READ_ONLY, block, sizeof(block), 0, &size);
        segment->usable = r == MR_OK && size >= MR_LOG_BLOCK &&
                          mr_segment_header_decode(block, &segment->header) == MR_OK;
    }
    judge_unusable(segment, header, block, size);
    bool alone = segment->of == MR_LOG_OF_SURVIVORS; /* no other file says anything of it */
    if (alone && !segment->usable && !segment->blank && segment->first_sequence == 1) {
        segment->usable = segment->salvaged = true;
    }
    return MR_OK;
}

/* A recycled file whose preparation was cut off shows groups of its time before: older ones than in
 * the segments before it. The same number stands in two when a start died over its first group. One
 * that is alone has never been another: no file is used again before there are checkpoints, and
 * these say themselves what stands behind them. */
static bool is_in_order(const struct mr_log_index *index, const struct mr_log_segment *segment)
{
    for (uint32_t i = 0; i < index->segment_count; i++) {
        const struct mr_log_segment *other = &index->segments[i];
        if (other == segment || !other->usable || other->first_sequence == 0) {
            continue;
        }
        bool before = other->number < segment->number;
        if (before ? other->first_sequence > segment->first_sequence
                   : other->first_sequence < segment->first_sequence) {
            return false;
        }
    }
    return true;
}

void mr_log_index_judge(struct mr_log_index *index)
{
    for (uint32_t i = 0; i < index->segment_count; i++) {
        struct mr_log_segment *segment = &index->segments[i];
        if (segment->usable || segment->first_sequence == 0 || MR_PLANTED(UNSALVAGED)) {
            continue;
        }
        if (is_in_order(index, segment)) {
            segment->usable = true;
            segment->salvaged = true;
            segment->blank = false;
        }
    }
    uint64_t later = UINT64_MAX;
    for (uint32_t i = index->segment_count; i-- > 0;) {
        struct mr_log_segment *segment = &index->segments[i];
        segment->later_sequence = later;
        if (segment->usable && segment->first_sequence != 0 && segment->first_sequence < later) {
            later = segment->first_sequence;
        }
    }
}

enum mr_status mr_log_index_names(struct mr_io *io, struct mr_log_index *ret_index)
{
    struct mr_log_index index = {0};
    struct lister lister = {.index = &index};
    enum mr_status r = io->ops->list(io, take_name, &lister);
    if (r == MR_OK) {
        r = lister.status;
    }
    if (r != MR_OK) {
        mr_log_index_release(&index);
        return r;
    }
    *ret_index = index;
    return MR_OK;
}

enum mr_status mr_log_index(struct mr_io *io, struct mr_log_index *ret_index,
                            struct mr_problem *problem)
{
    struct mr_log_index index = {0};
    enum mr_status r = mr_log_index_names(io, &index);
    for (uint32_t i = 0; i < index.segment_count && r == MR_OK; i++) {
        r = mr_log_segment_read(io, &index.segments[i], problem);
    }
    mr_log_index_judge(&index);
    for (uint32_t i = 0; i < index.keep_count && r == MR_OK; i++) {
        r = mr_log_segment_read(io, &index.keeps[i], problem);
        index.keeps[i].later_sequence = UINT64_MAX; /* each is read by itself */
    }
    if (r != MR_OK) {
        mr_log_index_release(&index);
        return r;
    }
    *ret_index = index;
    return MR_OK;
}

struct mr_log_segment *mr_log_file_find(struct mr_log_segment *files, uint32_t count,
                                        uint64_t number)
{
    uint32_t low = 0;
    uint32_t high = count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (files[mid].number < number) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low < count && files[low].number == number ? &files[low] : NULL;
}

void mr_log_index_release(struct mr_log_index *index)
{
    mr_free(index->segments);
    mr_free(index->keeps);
    mr_free(index->spares);
    mr_free(index->footers);
    mr_free(index->ids);
    *index = (struct mr_log_index){0};
}

struct mr_log_index mr_log_index_of_keep(const struct mr_log_index *index, uint32_t i)
{
    MR_ASSERT(i < index->keep_count);
    return (struct mr_log_index){.segments = &index->keeps[i], .segment_count = 1};
}

/* --- the reader ------------------------------------------------------------------------------- */

struct mr_log_reader {
    const struct mr_log_index *index;
    uint32_t segment;      /* index in index->segments */
    uint64_t at;           /* byte in the segment of the next place */
    uint64_t sequence;     /* wanted next; 0: anything */
    uint32_t previous_crc; /* wanted chain; valid when sequence is */
    uint64_t next_offset;  /* events before it are known */
    uint64_t durable_floor;
    bool chained;          /* sequence and previous_crc are to be checked */
    bool ended;
    bool has_copy; /* the log is kept twice */
    struct mr__log_window window;
};

/* A file that was cut off as it was made stays when those behind it go: as empty as it was, or with
 * a torn header and nothing in it that a checkpoint knows. */
static bool never_was(const struct mr_log_index *index, const struct mr_log_segment *segment)
{
    return segment->blank ||
           (!segment->usable && segment->used <= MR_LOG_BLOCK &&
            segment->number < index->given_up);
}

enum mr_status mr_log_reader_create(struct mr_io *io, const struct mr_log_index *index,
                                    uint64_t position, uint64_t sequence, uint32_t previous_crc,
                                    uint64_t durable_floor, struct mr_log_reader **ret_reader)
{
    struct mr_log_reader *reader = mr_calloc(1, sizeof(*reader));
    if (reader == NULL) {
        return MR_E_NOMEM;
    }
    *reader = (struct mr_log_reader){
        .index = index,
        .at = MR_LOG_BLOCK,
        .sequence = sequence,
        .previous_crc = previous_crc,
        .durable_floor = durable_floor,
        .chained = sequence != 0,
        .has_copy = mr_io_has_copy(io),
    };
    mr__window_init(&reader->window, io, index);
    uint32_t first = 0;
    while (first < index->segment_count && never_was(index, &index->segments[first])) {
        first++;
    }
    bool trimmed = index->has_checkpoint[0] && index->has_checkpoint[1] &&
                   first < index->segment_count && index->segments[first].number > 1;
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

void mr_log_reader_destroy(struct mr_log_reader *reader)
{
    if (reader != NULL) {
        mr__window_release(&reader->window);
        mr_free(reader);
    }
}

/* Of the present segment; mr__window_fetch() says when there is nothing. */
static enum mr_status fetch(struct mr_log_reader *reader, uint64_t at, size_t size,
                            const uint8_t **ret_data)
{
    return mr__window_fetch(&reader->window, reader->segment, at, size, ret_data);
}

/* Where a group whose records do not add up is to be left: at its first bad record, or at an event
 * that is not the next. A block that is another's may hold records of its own, good ones that begin
 * where one of ours would: when nothing else shows it, what lies in the block of the header is all
 * that is known to be of this group. */
static uint32_t trusted_size(const uint8_t *data, uint32_t size,
                             const struct mr_group_header *header, uint32_t *ret_good)
{
    uint32_t at = MR_GROUP_HEADER_SIZE;
    uint64_t offset = header->first_offset;
    uint32_t good = 0;
    uint32_t good_in_block = 0;
    uint32_t block_end = MR_GROUP_HEADER_SIZE;
    *ret_good = 0;
    while (at < size) {
        struct mr_record record;
        enum mr_status r = mr_record_decode(data + at, size - at, &record, NULL);
        bool next = r == MR_OK && (record.kind != MR_RECORD_EVENT || record.offset == offset);
        if (!next) {
            *ret_good = good;
            return at;
        }
        offset += record.kind == MR_RECORD_EVENT;
        at += (uint32_t)mr_record_size(record.body.size);
        good++;
        good_in_block = at <= MR_LOG_BLOCK ? good : good_in_block;
        block_end = at <= MR_LOG_BLOCK ? at : block_end;
    }
    if (size < header->size) { /* the file ends here */
        *ret_good = good;
        return size;
    }
    *ret_good = good_in_block;
    return block_end;
}

/* Walks the records of a group. @return how many are unreadable
 * @param size of data; what cannot be trusted is cut off */
static uint32_t check_records(const uint8_t *data, uint32_t *size,
                              const struct mr_group_header *header, uint32_t *ret_mended)
{
    uint32_t at = MR_GROUP_HEADER_SIZE;
    uint32_t good = 0;
    uint32_t bad = 0;
    uint32_t sum = 0;
    while (at < *size) {
        struct mr_record record;
        uint32_t head_crc = 0;
        enum mr_status r = mr_record_decode(data + at, *size - at, &record, &head_crc);
        if (r == MR_E_CORRUPT) {
            break; /* lengths are lost: so is the rest of the group */
        }
        uint8_t le[4];
        mr_put_u32(le, head_crc);
        sum = mr_crc32c(sum, le, sizeof(le));
        *ret_mended += record.mended;
        bad += r != MR_OK;
        good += r == MR_OK;
        at += (uint32_t)mr_record_size(record.body.size);
    }
    if (at >= header->size && good + bad == header->records && sum == header->records_crc) {
        return bad; /* every header is of this group */
    }
    *size = trusted_size(data, *size, header, &good);
    return good < header->records ? header->records - good : 1;
}

bool mr_log_group_is_whole(const uint8_t *data, size_t left, uint64_t salt,
                           struct mr_group_header *ret_header)
{
    if (left < MR_GROUP_HEADER_SIZE || mr_group_header_decode(data, salt, ret_header) != MR_OK ||
        ret_header->size > left) {
        return false;
    }
    uint32_t size = ret_header->size;
    uint32_t mended = 0;
    return check_records(data, &size, ret_header, &mended) == 0 && mended == 0 &&
           !ret_header->mended && size == ret_header->size;
}

/* What one copy has at the reader's place; header and data set when they can be used. */
static enum mr_status look_once(struct mr_log_reader *reader, uint64_t at, bool want_sequence,
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
    uint64_t left = segment->file_size - at;
    group->size = left < group->header.size ? (uint32_t)left : group->header.size;
    r = fetch(reader, at, group->size, &group->data);
    if (r != MR_OK || group->data == NULL) {
        group->bad_records = group->header.records;
        return r;
    }
    group->mended = group->header.mended;
    group->bad_records =
        check_records(group->data, &group->size, &group->header, &group->mended);
    group->verified = group->bad_records == 0 && group->mended == 0;
    *ret_place = group->bad_records == 0 ? MR_PLACE_GROUP : MR_PLACE_DAMAGED;
    return MR_OK;
}

/* What stands at the reader's place. What one copy of the log has damaged or not at all is repaired
 * from the other, where that continues the chain. */
static enum mr_status look(struct mr_log_reader *reader, uint64_t at, bool want_sequence,
                           struct mr_log_group *group, enum mr_place *ret_place)
{
    enum mr_status r = look_once(reader, at, want_sequence, group, ret_place);
    if (!want_sequence || !reader->has_copy || (r == MR_OK && *ret_place == MR_PLACE_GROUP) ||
        MR_PLANTED(LOST_UNASKED) ||
        !mr_log_mend_group(reader->window.io, &reader->index->segments[reader->segment], at,
                           reader->sequence, reader->previous_crc)) {
        return r;
    }
    struct mr_io *io = reader->window.io;
    mr__window_release(&reader->window); /* what was read before */
    mr__window_init(&reader->window, io, reader->index);
    return look_once(reader, at, want_sequence, group, ret_place);
}

/* The first whole group of segment @p number; sequence 0: it has none. */
static enum mr_status first_group(struct mr_log_reader *reader, uint32_t number,
                                  uint64_t *ret_sequence, uint64_t *ret_at)
{
    const struct mr_log_segment *segment = &reader->index->segments[number];
    enum mr_status r = MR_OK;
    *ret_sequence = 0;
    reader->segment = number;
    for (uint64_t at = MR_LOG_BLOCK;
         r == MR_OK && *ret_sequence == 0 && at + MR_GROUP_HEADER_SIZE <= segment->file_size;
         at += MR_LOG_BLOCK) {
        struct mr_log_group group;
        enum mr_place place;
        r = look_once(reader, at, false, &group, &place);
        if (r == MR_OK && place == MR_PLACE_GROUP) {
            *ret_sequence = group.header.sequence;
            *ret_at = at;
        }
    }
    return r;
}

/* A later segment that begins with no later a group than @p sequence: what stands before it was cut
 * by a start that went on there. */
static enum mr_status pass_left_behind(struct mr_log_reader *reader, uint64_t sequence,
                                       uint32_t *ret_segment, uint64_t *ret_at)
{
    const struct mr_log_index *index = reader->index;
    enum mr_status r = MR_OK;
    for (uint32_t next = *ret_segment + 1; next < index->segment_count && r == MR_OK; next++) {
        if (!index->segments[next].usable || index->segments[next].first_sequence > sequence) {
            continue;
        }
        uint64_t first = 0;
        uint64_t at = MR_LOG_BLOCK;
        r = first_group(reader, next, &first, &at);
        if (r == MR_OK && first >= reader->sequence && first <= sequence) {
            *ret_segment = next;
            *ret_at = at;
            sequence = first;
        }
    }
    return r;
}

/* Where the groups of a segment end at the latest. Behind what the checkpoints know of it stands at
 * most what a start has cut: of writes that were not synced, a later one may be there alone. */
static uint64_t groups_end(const struct mr_log_index *index, const struct mr_log_segment *segment)
{
    bool is_known = segment->used > 0 && segment->number < index->given_up;
    return is_known ? segment->used : segment->file_size;
}

/* Looks for a good group at the reader's place (whole, and not the one that is wanted: what was
 * before it is gone) and behind it, in this segment and the next ones.
 * @param[out] ret_segment, ret_at where the first one is */
static enum mr_status search_later(struct mr_log_reader *reader, enum mr_later *ret_later,
                                   uint32_t *ret_segment, uint64_t *ret_at)
{
    uint32_t segment_before = reader->segment;
    uint64_t at = reader->at;
    uint64_t sequence = 0; /* of that group */
    *ret_later = MR_LATER_NONE;
    enum mr_status r = MR_OK;
    for (; reader->segment < reader->index->segment_count && r == MR_OK;
         reader->segment++, at = MR_LOG_BLOCK) {
        const struct mr_log_segment *segment = &reader->index->segments[reader->segment];
        if (!segment->usable) {
            continue;
        }
        uint64_t end = groups_end(reader->index, segment);
        for (; at + MR_GROUP_HEADER_SIZE <= end; at += MR_LOG_BLOCK) {
            struct mr_log_group group;
            enum mr_place place;
            r = look_once(reader, at, false, &group, &place);
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
                sequence = group.header.sequence;
            }
            if (group.header.durable >= reader->sequence) {
                *ret_later = MR_LATER_PROOF;
                goto out;
            }
            at += group.header.padded - MR_LOG_BLOCK;
        }
    }
out:
    if (r == MR_OK && *ret_later != MR_LATER_NONE) {
        r = pass_left_behind(reader, sequence, ret_segment, ret_at);
    }
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

/* What stands at a rotten place with a whole header may be a torn tail that a start left behind,
 * and what replaced it is gone: the good group that follows tells whether it is the one before. */
static enum mr_status check_successor(struct mr_log_reader *reader, struct mr_log_group *group,
                                      uint32_t segment, uint64_t at)
{
    uint32_t segment_before = reader->segment;
    reader->segment = segment;
    struct mr_log_group next;
    enum mr_place place;
    enum mr_status r = look_once(reader, at, false, &next, &place);
    if (r == MR_OK && next.header_good) {
        bool follows = next.header.sequence == group->header.sequence + 1;
        group->header_good = follows ? next.header.previous_crc == group->header.crc
                                     : next.header.first_offset >= group->header.next_offset;
    }
    reader->segment = segment_before;
    return r;
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
    reader->segment = segment;
    reader->at = at;
    struct mr_log_group next;
    enum mr_place place;
    enum mr_status r = look_once(reader, at, false, &next, &place);
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

/* Whether nothing is lost between the reader's @p place and the good group at @p at of the later
 * @p segment: what stood there was given up when nothing needed it any more. A torn tail that a
 * start left behind may stand at the place, when a checkpoint says that nothing else does. */
static bool is_given_up(const struct mr_log_reader *reader, enum mr_place place, uint32_t segment,
                        uint64_t at)
{
    const struct mr_log_index *index = reader->index;
    const struct mr_log_segment *here = &index->segments[reader->segment];
    uint64_t number = index->segments[segment].number;
    uint64_t missing = number - here->number - (segment - reader->segment);
    for (uint32_t i = 0; i < index->keep_count; i++) {
        missing -= index->keeps[i].number > here->number && index->keeps[i].number < number;
    }
    bool ends = reader->at >= here->used && (place == MR_PLACE_EMPTY || here->used > 0);
    return ends && reader->chained && number <= index->given_up && missing > 0 &&
           at == MR_LOG_BLOCK && !MR_PLANTED(GAPS_LOST);
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
    /* A write that never was durable may show up again, where a start has gone on elsewhere. */
    bool left = r == MR_OK && place == MR_PLACE_GROUP &&
                group.header.sequence >= reader->index->segments[reader->segment].later_sequence;
    while (r == MR_OK && (place != MR_PLACE_GROUP || left) && continues) {
        r = continues_in_next(reader, &continues);
        continues = continues && !MR_PLANTED(ONE_TORN_TAIL);
        if (r == MR_OK) { /* there (torn again, perhaps), or here: the search moved the window */
            r = look(reader, reader->at, reader->chained, &group, &place);
        }
        left = false;
    }
    if (r != MR_OK) {
        return r;
    }
    enum mr_later later = MR_LATER_NONE;
    uint32_t later_segment = 0;
    uint64_t later_at = 0;
    if (place != MR_PLACE_GROUP) {
        r = search_later(reader, &later, &later_segment, &later_at);
        if (r == MR_OK && later != MR_LATER_NONE &&
            is_given_up(reader, place, later_segment, later_at)) {
            reader->segment = later_segment;
            reader->chained = false; /* it begins anew */
            r = look_once(reader, later_at, false, &group, &place);
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
    bool covered = reader->chained && reader->sequence <= reader->durable_floor;
    group.decision = mr_recovery_decide(place, later, covered);
    if (!reader->chained && group.decision == MR_RECOVERY_END && later == MR_LATER_NONE) {
        reader->ended = true;
        *ret_group = group;
        return MR_OK;
    }
    if (group.decision == MR_RECOVERY_ROTTEN) {
        if (group.header_good && later != MR_LATER_NONE) {
            r = check_successor(reader, &group, later_segment, later_at);
        }
        if (r == MR_OK && group.header_good && group.header.size > 0) {
            const uint8_t *again; /* the search moved the window */
            r = fetch(reader, mr_position_at(group.position), group.size, &again);
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
    while (*at < group->size) {
        uint32_t here = *at;
        enum mr_status r = MR_OK;
        if (group->verified) {
            mr_record_view(group->data + here, ret_record);
        } else {
            r = mr_record_decode(group->data + here, group->size - here, ret_record, NULL);
        }
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
