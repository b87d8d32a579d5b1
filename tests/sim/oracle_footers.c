/* Footers against their segments: one that is believed says what the segment holds, no less and
 * nothing else. The segment's bytes are read here once more, record by record. */
#include <stdlib.h>

#include "admin/lookup.h"
#include "core/assert.h"
#include "oracle_internal.h"
#include "schemas/event.h"

#define EVENTS_MAX 8192u
#define RECORDS_MAX 32768u
#define POSTINGS_EACH 7u /* asked for at a time: few, so that lists are gone on with */

struct seen_event {
    uint64_t offset;
    uint64_t place;
    uint64_t group; /* place of its group */
    uint64_t end; /* of its MATCH */
    struct mr_bytes body;
    struct mr_bytes entries;
};

struct seen_segment {
    const struct oracle *oracle;
    const char *where;
    uint64_t number;
    uint64_t salt;
    uint8_t *data; /* owned */
    size_t size;
    struct seen_event events[EVENTS_MAX];
    uint32_t count;
    uint64_t records[RECORDS_MAX]; /* the offsets of all */
    uint32_t record_count;
    uint64_t wanted; /* of the search that runs */
    bool found;
    uint32_t shown;
};

static void fail(const struct seen_segment *seen, const char *what, uint64_t number)
{
    sim_fail(seen->oracle->world, "%s: the footer of segment %llu %s (%llu)", seen->where,
             (unsigned long long)seen->number, what, (unsigned long long)number);
}

static bool read_segment(struct seen_segment *seen, struct mr_io *io, uint64_t size)
{
    char name[MR_LOG_NAME_SIZE];
    int file;
    struct mr_segment_header header;
    mr_segment_name(seen->number, name);
    seen->data = calloc(1, (size_t)size + 1);
    MR_ASSERT(seen->data != NULL);
    if (io->ops->open(io, name, MR_IO_READ_ONLY, &file) != MR_OK) {
        return false;
    }
    enum mr_status r = io->ops->pread(io, file, seen->data, (size_t)size, 0, &seen->size);
    io->ops->close(io, file);
    return r == MR_OK && seen->size >= MR_LOG_BLOCK &&
           mr_segment_header_decode(seen->data, &header) == MR_OK && header.salt == seen->salt;
}

static void see_group(struct seen_segment *seen, uint64_t at, uint32_t size)
{
    struct seen_event *event = NULL;
    for (uint64_t here = at + MR_GROUP_HEADER_SIZE; here < at + size;) {
        struct mr_record record;
        enum mr_status r =
            mr_record_decode(seen->data + here, (size_t)(at + size - here), &record, NULL);
        if (r == MR_E_CORRUPT) {
            return;
        }
        uint64_t end = here + mr_record_size(record.body.size);
        MR_ASSERT(seen->record_count < RECORDS_MAX);
        seen->records[seen->record_count++] = record.offset;
        if (record.kind == MR_RECORD_EVENT && r == MR_OK) {
            MR_ASSERT(seen->count < EVENTS_MAX);
            event = &seen->events[seen->count++];
            *event = (struct seen_event){
                .offset = record.offset,
                .place = here,
                .group = at,
                .end = end,
                .body = record.body};
        } else if (record.kind == MR_RECORD_MATCH && r == MR_OK && event != NULL) {
            event->end = end;
            event->entries = record.body;
        }
        here = end;
    }
}

static void see_groups(struct seen_segment *seen)
{
    for (uint64_t at = MR_LOG_BLOCK; at + MR_GROUP_HEADER_SIZE <= seen->size;) {
        struct mr_group_header header;
        if (mr_group_header_decode(seen->data + at, seen->salt, &header) != MR_OK ||
            at + header.padded > seen->size) {
            at += MR_LOG_BLOCK;
            continue;
        }
        see_group(seen, at, header.size);
        at += header.padded;
    }
}

static bool is_place(void *context, uint64_t place)
{
    struct seen_segment *seen = context;
    seen->found = seen->found || place == seen->wanted;
    return true;
}

static void check_event(struct seen_segment *seen, const struct mr_footer *footer,
                        const struct seen_event *event)
{
    seen->wanted = event->place;
    seen->found = false;
    enum mr_status r = mr_footer_find_id(footer, mr_footer_id_hash(mr_event_id(event->body)),
                                         is_place, seen);
    if (r != MR_OK || !seen->found) {
        fail(seen, "does not know an event by its id", event->offset);
    }
    seen->wanted = event->group;
    static const char *const names[MR_FOOTER_VALUE_MAX] = {"type", "source", "subject"};
    for (int i = 0; i < MR_FOOTER_VALUE_MAX; i++) {
        struct mr_bytes value = mr_event_value(event->body, names[i]);
        seen->found = value.size == 0;
        r = mr_footer_find_value(footer, (enum mr_footer_value)i, value, is_place, seen);
        if (r != MR_OK || !seen->found) {
            fail(seen, "does not know an event by a value", event->offset);
        }
    }
}

static bool is_matched(const struct seen_event *event, uint32_t sub)
{
    for (size_t at = 0; at < event->entries.size; at += MR_MATCH_ENTRY_SIZE) {
        if (mr_get_u32(event->entries.data + at) == sub) {
            return true;
        }
    }
    return false;
}

static void check_postings(struct seen_segment *seen, const struct mr_footer *footer, uint32_t sub)
{
    struct mr_footer_range items[POSTINGS_EACH];
    uint32_t count = 0;
    uint32_t at = 0;
    uint64_t from = 0;
    for (uint32_t i = 0; i < seen->count; i++) {
        const struct seen_event *event = &seen->events[i];
        if (!is_matched(event, sub)) {
            continue;
        }
        if (at == count) {
            at = 0;
            if (mr_footer_postings(footer, sub, from, items, POSTINGS_EACH, &count) != MR_OK) {
                fail(seen, "has no postings", sub);
            }
        }
        if (at == count || items[at].place != event->place ||
            items[at].place + items[at].size != event->end) {
            fail(seen, "does not know a match", event->offset);
        }
        from = items[at++].place + 1;
    }
    if (mr_footer_postings(footer, sub, from, items, POSTINGS_EACH, &count) != MR_OK ||
        (at == 0 ? count : count > 0)) {
        fail(seen, "knows a match that is none", sub);
    }
}

static void check_agrees(struct seen_segment *seen, const struct mr_footer *footer)
{
    const struct mr_footer_head *head = &footer->head;
    see_groups(seen);
    if (head->rotten != 0 || head->events != seen->count) {
        fail(seen, "knows another number of events", head->events);
    }
    for (uint32_t i = 0; i < seen->count; i++) {
        check_event(seen, footer, &seen->events[i]);
    }
    for (uint32_t sub = 0; sub < ORACLE_SUBS; sub++) {
        check_postings(seen, footer, sub);
    }
}

bool oracle_check_footer(const struct oracle *o, struct mr_io *io, uint64_t number, uint64_t salt,
                         const char *where)
{
    struct mr_footer *footer;
    if (mr_footer_check(io, number, salt, NULL) != MR_OK ||
        mr_footer_open(io, number, salt, &footer) != MR_OK) {
        return false;
    }
    struct seen_segment *seen = calloc(1, sizeof(*seen));
    MR_ASSERT(seen != NULL);
    *seen = (struct seen_segment){.oracle = o, .where = where, .number = number, .salt = salt};
    bool there = read_segment(seen, io, footer->head.used);
    if (!there && !o->rotten) {
        fail(seen, "is of no such segment", salt);
    }
    if (there && !o->rotten) {
        check_agrees(seen, footer);
    }
    mr_footer_close(footer);
    free(seen->data);
    free(seen);
    return true;
}

void oracle_check_footers(const struct oracle *o, struct mr_io *io, const char *where)
{
    struct mr_log_index index;
    if (mr_log_index(io, &index, NULL) != MR_OK) {
        sim_fail(o->world, "%s: the log cannot be listed", where);
    }
    for (uint32_t i = 0; i < index.footer_count; i++) {
        uint32_t k = 0;
        while (k < index.segment_count && index.segments[k].number != index.footers[i]) {
            k++;
        }
        if (k == index.segment_count) {
            sim_fail(o->world, "%s: the footer of segment %llu has outlived it", where,
                     (unsigned long long)index.footers[i]);
        }
        /* One that speaks of groups the crash took back is found out before it is used. */
        if (index.segments[k].usable && o->always) {
            (void)oracle_check_footer(o, io, index.footers[i],
                                      index.segments[k].header.salt, where);
        }
    }
    mr_log_index_release(&index);
}

/* The footers and the files of groups as the commands that look for events have them. */
static void open_history(struct mr_history *history, struct mr_io *io)
{
    *history = (struct mr_history){.io = io};
    bool listed = mr_log_index(io, &history->index, NULL) == MR_OK;
    MR_ASSERT(listed);
    const struct mr_log_index *index = &history->index;
    history->footers = calloc(index->segment_count + 1, sizeof(*history->footers));
    history->ids = calloc(index->ids_count + 1, sizeof(*history->ids));
    MR_ASSERT(history->footers != NULL && history->ids != NULL);
    uint64_t log_id = 0;
    for (uint32_t i = 0; i < index->segment_count; i++) {
        const struct mr_log_segment *segment = &index->segments[i];
        struct mr_footer_head *head = &history->footers[i];
        log_id = segment->usable ? segment->header.log_id : log_id;
        if (!segment->usable ||
            mr_footer_check(io, segment->number, segment->header.salt, head) != MR_OK) {
            *head = (struct mr_footer_head){0};
        }
    }
    for (uint32_t i = 0; i < index->ids_count; i++) {
        struct mr_footer_ids_head *head = &history->ids[history->ids_count];
        history->ids_count +=
            mr_footer_ids_open(io, index->ids[i], log_id, head) == MR_OK;
    }
}

static void close_history(struct mr_history *history)
{
    mr_log_index_release(&history->index);
    free(history->footers);
    free(history->ids);
}

static void check_id(struct seen_segment *seen, struct mr_history *history,
                     const struct mr_footer_head *head, const struct seen_event *event)
{
    struct mr__lookup lookup;
    struct mr_bytes id = mr_event_id(event->body);
    uint64_t offset = 0;
    enum mr_status r = mr__lookup_begin(&lookup, history, mr_footer_id_hash(id), false, 0);
    r = r == MR_OK ? mr__lookup_id(&lookup, head, id, &offset) : r;
    mr__lookup_release(&lookup);
    if (r != MR_OK || offset < event->offset) {
        fail(seen, "or its group hides an event from a search", event->offset);
    }
}

static bool count_about(void *context, const struct mr_log_group *group)
{
    struct seen_segment *seen = context;
    uint32_t at = 0;
    uint64_t position;
    struct mr_record record;
    while (mr_log_next_record(group, &at, &position, &record)) {
        seen->shown += record.offset == seen->wanted;
    }
    return true;
}

/* Every record of one event in the segment, and no other segment's footer, tells of it. */
static void check_about(struct seen_segment *seen, struct mr_history *history,
                        const struct mr_footer_head *head, uint64_t offset)
{
    struct mr__lookup lookup;
    uint32_t there = 0;
    uint64_t from;
    bool more;
    for (uint32_t i = 0; i < seen->record_count; i++) {
        there += seen->records[i] == offset;
    }
    seen->wanted = offset;
    seen->shown = 0;
    enum mr_status r =
        mr__lookup_begin(&lookup, history, mr_footer_about_hash(offset), true, 0);
    r = r == MR_OK ? mr__lookup_about(&lookup, head, offset, count_about, seen, &from, &more) : r;
    mr__lookup_release(&lookup);
    if (r != MR_OK || seen->shown != there) {
        fail(seen, "or its group hides what became of an event", offset);
    }
}

static void check_search(struct seen_segment *seen, struct mr_history *history,
                         const struct mr_footer_head *head)
{
    uint32_t step = seen->count < 3 ? 1 : seen->count / 3;
    for (uint32_t i = 0; i < seen->count; i += step) {
        check_id(seen, history, head, &seen->events[i]);
    }
    step = seen->record_count < 5 ? 1 : seen->record_count / 5;
    for (uint32_t i = 0; i < seen->record_count; i += step) {
        if (seen->records[i] != 0) {
            check_about(seen, history, head, seen->records[i]);
        }
    }
}

void oracle_check_search(const struct oracle *o, struct sim_disk *disk)
{
    if (o->rotten) {
        return;
    }
    struct mr_history history;
    open_history(&history, &disk->io);
    for (uint32_t i = 0; i < history.index.segment_count; i++) {
        const struct mr_log_segment *segment = &history.index.segments[i];
        const struct mr_footer_head *head = &history.footers[i];
        struct seen_segment *seen = calloc(1, sizeof(*seen));
        MR_ASSERT(seen != NULL);
        *seen = (struct seen_segment){.oracle = o,
                                      .where = "search",
                                      .number = segment->number,
                                      .salt = segment->header.salt};
        /* Behind what it speaks of lie groups that a start cut. */
        if (head->pages > 0 && head->rotten == 0 && read_segment(seen, &disk->io, head->used)) {
            see_groups(seen);
            check_search(seen, &history, head);
        }
        free(seen->data);
        free(seen);
    }
    close_history(&history);
}
