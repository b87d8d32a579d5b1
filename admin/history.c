#include "admin/history.h"

#include "admin/lookup.h"

/* The first place of the segment where a group begins, and its header: what is rotten before it
 * does not hide the rest. Its first block, as a rule. @return MR_E_NOT_FOUND: there is none */
static enum mr_status find_group(struct mr_io *io, const struct mr_log_segment *segment,
                                 uint64_t *ret_at, struct mr_group_header *ret_header)
{
    char name[MR_LOG_NAME_SIZE];
    int file;
    mr_segment_name(segment->number, name);
    enum mr_status r = io->ops->open(io, name, MR_IO_READ_ONLY, &file);
    if (r != MR_OK) {
        return r;
    }
    enum mr_status found = MR_E_NOT_FOUND;
    uint64_t at = 0;
    while (found != MR_OK && segment->usable && at + 2 * MR_LOG_BLOCK <= segment->file_size) {
        uint8_t block[MR_LOG_BLOCK];
        size_t got = 0;
        at += MR_LOG_BLOCK;
        r = io->ops->pread(io, file, block, sizeof(block), at, &got);
        found = r == MR_OK && got == sizeof(block)
                    ? mr_group_header_decode(block, segment->header.salt, ret_header)
                    : MR_E_CORRUPT; /* a block that the disk cannot read */
    }
    io->ops->close(io, file);
    *ret_at = at;
    return found == MR_OK ? MR_OK : MR_E_NOT_FOUND;
}

enum mr_status mr_history_groups(struct mr_history *history, uint64_t number, bool alone,
                                 bool (*visit)(void *context, const struct mr_log_group *group),
                                 void *context)
{
    struct mr_log_index view = history->index;
    while (view.segment_count > 0 && view.segments[0].number < number) {
        view.segments++;
        view.segment_count--;
    }
    if (view.segment_count == 0) {
        return MR_OK;
    }
    if (alone) {
        view.segment_count = 1;
    }
    struct mr_log_reader *reader;
    uint64_t at = 0;
    struct mr_group_header first;
    enum mr_status r = MR_E_NOT_FOUND;
    while (r == MR_E_NOT_FOUND && view.segment_count > 0) {
        if (mr_position(view.segments[0].number, MR_LOG_BLOCK) >= history->end_position) {
            return MR_OK;
        }
        r = find_group(history->io, &view.segments[0], &at, &first);
        if (r == MR_E_NOT_FOUND) { /* not one is left in it */
            view.segments++;
            view.segment_count--;
        }
    }
    if (r != MR_OK) {
        return r == MR_E_NOT_FOUND ? MR_OK : r;
    }
    r = mr_log_reader_create(history->io, &view, mr_position(view.segments[0].number, at),
                             first.sequence, first.previous_crc, 0, &reader);
    if (r != MR_OK) {
        return r;
    }
    bool more = true;
    while (r == MR_OK && more) {
        struct mr_log_group group;
        r = mr_log_reader_next(reader, &group);
        if (r != MR_OK || group.position >= history->end_position) {
            break;
        }
        more = visit(context, &group);
        /* Behind the last durable group stands what is being written: do not even look. */
        if (group.header_good &&
            group.position + group.header.padded >= history->end_position) {
            break;
        }
    }
    mr_log_reader_destroy(reader);
    return r == MR_E_NOT_FOUND ? MR_OK : r;
}

struct record_scan {
    bool (*visit)(void *context, const struct mr_history_record *record);
    void *context;
};

static bool visit_records(void *context, const struct mr_log_group *group)
{
    const struct record_scan *scan = context;
    if (group->data == NULL || !group->header_good) {
        return true;
    }
    struct mr_history_record seen = {.wall_ns = group->header.wall_ns,
                                     .log_ns = group->header.log_ns};
    uint32_t at = 0;
    while (mr_log_next_record(group, &at, &seen.position, &seen.record)) {
        if (!scan->visit(scan->context, &seen)) {
            return false;
        }
    }
    return true;
}

enum mr_status mr_history_scan(struct mr_history *history, uint64_t number, bool alone,
                               bool (*visit)(void *context, const struct mr_history_record *record),
                               void *context)
{
    struct record_scan scan = {.visit = visit, .context = context};
    return mr_history_groups(history, number, alone, visit_records, &scan);
}

/* Segments [at, end) read as one stretch, from byte @p from of the first on. */
struct stretch {
    struct record_scan scan;
    uint64_t from_position;
    uint64_t end_position;
    bool more;
    bool is_any; /* something was read */
};

static bool visit_stretch(void *context, const struct mr_log_group *group)
{
    struct stretch *stretch = context;
    if (group->position >= stretch->end_position) {
        return false;
    }
    stretch->more =
        group->position < stretch->from_position || visit_records(&stretch->scan, group);
    return stretch->more;
}

static enum mr_status read_stretch(struct mr_history *history, uint32_t at, uint64_t from,
                                   uint32_t end, struct stretch *stretch)
{
    const struct mr_log_index *index = &history->index;
    uint64_t number = index->segments[at].number;
    stretch->from_position = mr_position(number, from);
    stretch->end_position = end < index->segment_count
                                ? mr_position(index->segments[end].number, 0)
                                : UINT64_MAX;
    return mr_history_groups(history, number, false, visit_stretch, stretch);
}

enum mr_status mr_history_follow(struct mr_history *history, uint64_t number, uint64_t offset,
                                 bool (*visit)(void *context,
                                               const struct mr_history_record *record),
                                 void *context)
{
    const struct mr_log_index *index = &history->index;
    struct stretch stretch = {.scan = {.visit = visit, .context = context}, .more = true};
    struct mr__lookup lookup;
    enum mr_status r = mr__lookup_begin(&lookup, history, mr_footer_about_hash(offset), true,
                                        number);
    uint32_t at = 0;
    while (at < index->segment_count && index->segments[at].number < number) {
        at++;
    }
    while (at < index->segment_count && r == MR_OK && stretch.more) {
        const struct mr_footer_head *head = mr_history_footer(history, at);
        uint64_t from = 0;
        r = head != NULL ? mr__lookup_about(&lookup, head, offset, visit_records, &stretch.scan,
                                            &from, &stretch.more)
                         : mr__lookup_sketched(history, at, mr_footer_about_hash(offset), true,
                                               visit_records, &stretch.scan, &from, &stretch.more);
        if (r == MR_OK) {
            at++;
            continue;
        }
        uint32_t end = at + 1;
        while (end < index->segment_count && mr_history_footer(history, end) == NULL) {
            end++; /* read in one go: what can be read of one may depend on the next */
        }
        if (r == MR_OK || r == MR_E_CORRUPT) {
            history->whole += end - at;
            r = read_stretch(history, at, from, end, &stretch);
        }
        at = end;
    }
    mr__lookup_release(&lookup);
    return r;
}

static bool visit_any(void *context, const struct mr_log_group *group)
{
    struct stretch *stretch = context;
    stretch->is_any = true;
    return visit_records(&stretch->scan, group);
}

enum mr_status mr_history_scan_value(struct mr_history *history, uint32_t at,
                                     enum mr_footer_value which, struct mr_bytes value,
                                     bool (*visit)(void *context,
                                                   const struct mr_history_record *r),
                                     void *context, bool *ret_any)
{
    const struct mr_footer_head *head = mr_history_footer(history, at);
    struct stretch stretch = {.scan = {.visit = visit, .context = context}, .more = true};
    uint64_t from = 0;
    enum mr_status r = MR_E_CORRUPT;
    if (head != NULL) {
        r = mr__lookup_value(history->io, head, which, value, visit_any, &stretch, &from,
                             &stretch.more);
    }
    if (r == MR_E_CORRUPT) {
        stretch.is_any = true;
        r = read_stretch(history, at, from, at + 1, &stretch);
    }
    *ret_any = stretch.is_any;
    return r;
}

bool mr_history_is_kept(const struct mr_history *history, uint64_t position)
{
    uint32_t i = 0;
    while (i < history->index.keep_count &&
           history->index.keeps[i].number != mr_position_segment(position)) {
        i++;
    }
    return i < history->index.keep_count;
}

enum mr_status mr_history_kept(struct mr_history *history,
                               bool (*visit)(void *context, const struct mr_history_record *record),
                               void *context)
{
    struct record_scan scan = {.visit = visit, .context = context};
    bool more = true;
    for (uint32_t i = history->index.keep_count; i-- > 0 && more;) {
        struct mr_log_segment *keep = &history->index.keeps[i];
        enum mr_status r = mr_log_segment_read(history->io, keep, NULL);
        keep->later_sequence = UINT64_MAX; /* it is read by itself */
        if (r == MR_E_NOT_FOUND) {
            continue; /* given up meanwhile */
        }
        const struct mr_log_index view = mr_log_index_of_keep(&history->index, i);
        struct mr_log_reader *reader;
        r = r == MR_OK ? mr_log_reader_create(history->io, &view, 0, 1, 0, 0, &reader) : r;
        if (r != MR_OK) {
            return r;
        }
        struct mr_log_group group;
        while (more && (r = mr_log_reader_next(reader, &group)) == MR_OK) {
            more = visit_records(&scan, &group);
        }
        mr_log_reader_destroy(reader);
        if (r != MR_OK && r != MR_E_NOT_FOUND) { /* not found: its end, or given up meanwhile */
            return r;
        }
    }
    return MR_OK;
}

static enum mr_status read_bytes(struct mr_io *io, int file, uint64_t at, size_t size,
                                 struct mr_buf *to)
{
    enum mr_status r = mr_buf_reserve(to, size);
    if (r != MR_OK) {
        return r;
    }
    size_t got = 0;
    r = io->ops->pread(io, file, to->data + to->size, size, at, &got);
    if (r == MR_OK && got != size) {
        r = MR_E_NOT_FOUND;
    }
    if (r == MR_OK) {
        to->size += size;
    }
    return r;
}

static enum mr_status read_record(const struct mr_history *history, uint64_t position,
                                  struct mr_buf *body, struct mr_record *ret_record)
{
    char name[MR_LOG_NAME_SIZE];
    mr_log_file_name(MR_LOG_OF_SEGMENT, mr_position_segment(position), name);
    mr_buf_clear(body);
    struct mr_io *io = history->io;
    int file;
    enum mr_status r = io->ops->open(io, name, MR_IO_READ_ONLY, &file);
    if (r == MR_E_NOT_FOUND) { /* it is in one or the other: numbers are not used twice */
        mr_log_file_name(MR_LOG_OF_SURVIVORS, mr_position_segment(position), name);
        r = io->ops->open(io, name, MR_IO_READ_ONLY, &file);
    }
    if (r != MR_OK) {
        return r;
    }
    uint64_t at = mr_position_at(position);
    r = read_bytes(io, file, at, MR_RECORD_HEADER_SIZE, body);
    if (r == MR_OK) {
        size_t rest = mr_record_size(mr_get_u32(body->data)) - MR_RECORD_HEADER_SIZE;
        r = rest > MR_SEGMENT_SIZE_MAX
                ? MR_E_NOT_FOUND
                : read_bytes(io, file, at + MR_RECORD_HEADER_SIZE, rest, body);
    }
    io->ops->close(io, file);
    if (r == MR_OK) {
        r = mr_record_decode(body->data, body->size, ret_record, NULL);
    }
    return r == MR_OK || r == MR_E_NOMEM ? r : MR_E_NOT_FOUND; /* reused meanwhile, or rotten */
}

enum mr_status mr_history_read(struct mr_history *history, uint64_t position, uint8_t kind,
                               uint64_t offset, struct mr_buf *body, struct mr_record *ret_record)
{
    struct mr_record record = {0};
    enum mr_status r = read_record(history, position, body, &record);
    if (r == MR_OK && (record.kind != kind || record.offset != offset)) {
        return MR_E_NOT_FOUND;
    }
    *ret_record = record;
    return r;
}

enum mr_status mr_history_read_event(struct mr_history *history, uint64_t position,
                                     uint32_t subscription, uint64_t offset, struct mr_buf *body,
                                     struct mr_record *ret_record)
{
    struct mr_record record = {0};
    enum mr_status r = read_record(history, position, body, &record);
    if (r == MR_OK && !mr_record_is_event_of(&record, subscription, offset)) {
        return MR_E_NOT_FOUND;
    }
    *ret_record = record;
    return r;
}

struct search {
    struct mr_bytes id;
    uint64_t offset;
    struct mr_buf *body;
    struct mr_history_record found;
    bool is_found;
    enum mr_status status;
};

static bool search_event(void *context, const struct mr_history_record *seen)
{
    struct search *search = context;
    if (seen->record.kind != MR_RECORD_EVENT) {
        return true;
    }
    bool fits = search->id.size > 0 ? mr_bytes_equal(mr_event_id(seen->record.body), search->id)
                                    : seen->record.offset == search->offset;
    if (fits) {
        mr_buf_clear(search->body);
        search->status = mr_buf_append_bytes(search->body, seen->record.body);
        search->found = *seen;
        search->found.record.body = mr_buf_bytes(search->body);
        search->is_found = search->status == MR_OK;
    }
    /* The same id may come again later: the newest is meant. An offset is there once. */
    return search->status == MR_OK && !(fits && search->id.size == 0);
}

/* The newest such event of segment @p at while it has no footer. @return MR_E_CORRUPT: read it */
static enum mr_status look_up_sketched(const struct mr_history *history, uint32_t at,
                                       struct search *search)
{
    bool by_id = search->id.size > 0;
    struct record_scan scan = {.visit = search_event, .context = search};
    uint64_t from;
    bool more;
    return mr__lookup_sketched(history, at,
                               by_id ? mr_footer_id_hash(search->id)
                                     : mr_footer_about_hash(search->offset),
                               !by_id, visit_records, &scan, &from, &more);
}

/* From its footer. @return likewise */
static enum mr_status look_up(struct mr_history *history, uint32_t at, struct mr__lookup *lookup,
                              struct search *search)
{
    const struct mr_footer_head *head = mr_history_footer(history, at);
    struct record_scan scan = {.visit = search_event, .context = search};
    if (head == NULL) {
        return look_up_sketched(history, at, search);
    }
    uint64_t offset = search->offset;
    uint64_t from;
    bool more;
    enum mr_status r = MR_OK;
    if (search->id.size > 0) {
        r = mr__lookup_id(lookup, head, search->id, &offset);
    } else if (offset < head->first_offset || offset >= head->next_offset) {
        r = MR_E_NOT_FOUND;
    }
    if (r != MR_OK) {
        return r == MR_E_NOT_FOUND ? MR_OK : r;
    }
    struct mr__lookup alone = {.io = history->io}; /* the segment is known: no group is asked */
    r = mr__lookup_about(&alone, head, offset, visit_records, &scan, &from, &more);
    bool is_told = search->is_found || search->id.size == 0; /* an id was seen a moment ago */
    return r == MR_OK && !is_told && search->status == MR_OK ? MR_E_CORRUPT : r;
}

static enum mr_status find_in_segments(struct mr_history *history, struct mr__lookup *lookup,
                                       struct search *search)
{
    enum mr_status r = MR_OK;
    for (uint32_t i = history->index.segment_count; i-- > 0 && !search->is_found && r == MR_OK;) {
        if (!history->index.segments[i].usable) {
            continue;
        }
        r = look_up(history, i, lookup, search);
        if (r == MR_E_CORRUPT) {
            search->is_found = false;
            history->whole++;
            r = mr_history_scan(history, history->index.segments[i].number, true, search_event,
                                search);
        }
        r = r == MR_OK ? search->status : r;
    }
    return r;
}

enum mr_status mr_history_find(struct mr_history *history, struct mr_bytes id, uint64_t offset,
                               struct mr_buf *body, struct mr_history_record *ret_record)
{
    struct search search = {.id = id, .offset = offset, .body = body, .status = MR_OK};
    struct mr__lookup lookup = {.io = history->io};
    if (id.size > 0) {
        search.status = mr__lookup_begin(&lookup, history, mr_footer_id_hash(id), false, 0);
    }
    enum mr_status r = search.status == MR_OK ? find_in_segments(history, &lookup, &search)
                                              : search.status;
    mr__lookup_release(&lookup);
    if (r == MR_OK && !search.is_found) {
        r = mr_history_kept(history, search_event, &search);
    }
    r = r == MR_OK ? search.status : r;
    if (r != MR_OK || !search.is_found) {
        return r != MR_OK ? r : MR_E_NOT_FOUND;
    }
    *ret_record = search.found;
    return MR_OK;
}
