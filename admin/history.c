#include "admin/history.h"

#include "core/assert.h"

enum mr_status mr_history_open(const char *folder, uint64_t end_position,
                               struct mr_history *ret_history, struct mr_problem *problem)
{
    struct mr_history history = {.end_position = end_position};
    enum mr_status r = mr_io_create(folder, false, false, &history.io);
    if (r != MR_OK) {
        return mr_problem_set(problem, r, "cannot read %s: %s", folder, mr_status_text(r));
    }
    /* A segment retired between the listing and its opening makes one listing fail. */
    for (int tries = 0; tries < 3; tries++) {
        r = mr_log_index(history.io, &history.index, problem);
        if (r != MR_E_NOT_FOUND) {
            break;
        }
    }
    if (r != MR_OK) {
        history.io->ops->destroy(history.io);
        return r;
    }
    *ret_history = history;
    return MR_OK;
}

void mr_history_release(struct mr_history *history)
{
    if (history->io != NULL) {
        mr_log_index_release(&history->index);
        history->io->ops->destroy(history->io);
        history->io = NULL;
    }
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
    uint64_t position = mr_position(view.segments[0].number, MR_LOG_BLOCK);
    if (position >= history->end_position) {
        return MR_OK;
    }
    enum mr_status r = mr_log_reader_create(history->io, &view, position, 0, 0, 0, &reader);
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
    mr_segment_name(mr_position_segment(position), name);
    mr_buf_clear(body);
    struct mr_io *io = history->io;
    int file;
    enum mr_status r = io->ops->open(io, name, MR_IO_READ_ONLY, &file);
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

enum mr_status mr_history_find(struct mr_history *history, struct mr_bytes id, uint64_t offset,
                               struct mr_buf *body, struct mr_history_record *ret_record)
{
    struct search search = {.id = id, .offset = offset, .body = body, .status = MR_OK};
    for (uint32_t i = history->index.segment_count; i-- > 0 && !search.is_found;) {
        if (!history->index.segments[i].usable) {
            continue;
        }
        enum mr_status r = mr_history_scan(history, history->index.segments[i].number, true,
                                           search_event, &search);
        if (r != MR_OK || search.status != MR_OK) {
            return r != MR_OK ? r : search.status;
        }
    }
    if (!search.is_found) {
        return MR_E_NOT_FOUND;
    }
    *ret_record = search.found;
    return MR_OK;
}
