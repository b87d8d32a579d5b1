#include "admin/lookup.h"

#include "core/alloc.h"
#include "schemas/event.h"

#define PLACES_MAX 65536u /* as many groups as a segment has, and a few ids */
#define ANNOUNCED_MAX 64u /* footers, of which one of fifty is asked for nothing */

struct places {
    struct mr_buf list; /* of uint64_t */
    enum mr_status status;
};

static bool take_place(void *context, uint64_t place)
{
    struct places *places = context;
    uint8_t bytes[8];
    mr_put_u64(bytes, place);
    places->status = mr_buf_append_bytes(&places->list, mr_bytes(bytes, sizeof(bytes)));
    return places->status == MR_OK;
}

static uint64_t place_at(const struct places *places, size_t i)
{
    return mr_get_u64(places->list.data + i * 8);
}

/* What cannot be read or makes no sense is answered from the segment itself. */
static enum mr_status as_corrupt(enum mr_status r)
{
    return r == MR_OK || r == MR_E_NOMEM ? r : MR_E_CORRUPT;
}

/* What is looked for in a footer. */
struct wish {
    enum { WISH_ID, WISH_ABOUT, WISH_VALUE } of;
    struct mr_bytes value; /* or the id */
    enum mr_footer_value which;
    uint64_t offset; /* what it is about */
};

/* The places that the footer names: of groups, or, with an id, of events. */
static enum mr_status ask_footer(struct mr_io *io, const struct mr_footer_head *head,
                                 const struct wish *wish, struct places *places)
{
    struct mr_footer *footer;
    *places = (struct places){.status = MR_OK};
    mr_buf_init(&places->list, PLACES_MAX * 8);
    enum mr_status r = mr_footer_open_again(io, head, &footer);
    if (r != MR_OK) {
        return as_corrupt(r);
    }
    switch (wish->of) {
    case WISH_ID:
        r = mr_footer_find_id(footer, mr_footer_id_hash(wish->value), take_place, places);
        break;
    case WISH_ABOUT:
        r = mr_footer_find_about(footer, wish->offset, take_place, places);
        break;
    case WISH_VALUE:
        r = mr_footer_find_value(footer, wish->which, wish->value, take_place, places);
        break;
    }
    mr_footer_close(footer);
    return as_corrupt(r == MR_OK ? places->status : r);
}

struct reader {
    struct mr_io *io;
    const struct mr_footer_head *head;
    int file;
    bool is_open;
    struct mr_buf bytes; /* of a group or a record */
};

static enum mr_status open_segment(struct reader *reader)
{
    char name[MR_LOG_NAME_SIZE];
    mr_segment_name(reader->head->number, name);
    mr_buf_init(&reader->bytes, MR_SEGMENT_SIZE_MAX);
    enum mr_status r = reader->io->ops->open(reader->io, name, MR_IO_READ_ONLY, &reader->file);
    reader->is_open = r == MR_OK;
    return as_corrupt(r);
}

static void close_segment(struct reader *reader)
{
    mr_buf_release(&reader->bytes);
    if (reader->is_open) {
        reader->io->ops->close(reader->io, reader->file);
    }
}

static enum mr_status read_bytes(struct reader *reader, uint64_t at, size_t size)
{
    mr_buf_clear(&reader->bytes);
    enum mr_status r = mr_buf_reserve(&reader->bytes, size);
    size_t got = 0;
    r = r == MR_OK ? reader->io->ops->pread(reader->io, reader->file, reader->bytes.data, size, at,
                                            &got)
                   : r;
    reader->bytes.size = r == MR_OK ? got : 0;
    return r == MR_OK && got != size ? MR_E_CORRUPT : as_corrupt(r);
}

/* The group at @p place, if it is whole. */
static enum mr_status read_group(struct reader *reader, uint64_t place, struct mr_log_group *group)
{
    *group = (struct mr_log_group){.position = mr_position(reader->head->number, place),
                                   .decision = MR_RECOVERY_TAKE,
                                   .header_good = true};
    enum mr_status r = read_bytes(reader, place, MR_LOG_BLOCK);
    r = r == MR_OK ? mr_group_header_decode(reader->bytes.data, reader->head->salt, &group->header)
                   : r;
    if (r != MR_OK || place + group->header.padded > reader->head->used) {
        return r == MR_E_NOMEM ? r : MR_E_CORRUPT;
    }
    if (group->header.size > MR_LOG_BLOCK) {
        r = read_bytes(reader, place, group->header.size);
    }
    group->data = reader->bytes.data;
    group->size = group->header.size;
    uint32_t at = 0;
    uint32_t records = 0;
    uint64_t position;
    struct mr_record record;
    while (r == MR_OK && mr_log_next_record(group, &at, &position, &record)) {
        records++;
    }
    bool is_whole = records == group->header.records && at == group->header.size;
    return r == MR_OK && !is_whole ? MR_E_CORRUPT : r;
}

/* Whether the file of its group speaks of the segment, and what it says. */
static bool is_told(const struct mr__lookup *lookup, const struct mr_footer_head *head,
                    bool *ret_may)
{
    uint64_t i = head->number % MR_FOOTER_GROUP;
    uint32_t at = 0;
    while (at < lookup->count && lookup->groups[at] != head->number / MR_FOOTER_GROUP) {
        at++;
    }
    if (at == lookup->count) {
        return false;
    }
    const struct mr_footer_ids_answer *answer = &lookup->answers[at];
    *ret_may = (answer->may >> i & 1) != 0;
    return (answer->covered >> i & 1) != 0 && answer->salts[i] == head->salt;
}

static bool may_have(const struct mr__lookup *lookup, const struct mr_footer_head *head)
{
    bool may = true;
    return !is_told(lookup, head, &may) || may;
}

enum mr_status mr__lookup_begin(struct mr__lookup *lookup, struct mr_history *history,
                                uint64_t hash, bool is_about, uint64_t from)
{
    uint32_t count = history->ids_count;
    *lookup = (struct mr__lookup){.io = history->io, .hash = hash, .count = count};
    lookup->answers = mr_calloc(count + 1u, sizeof(*lookup->answers));
    lookup->groups = mr_calloc(count + 1u, sizeof(*lookup->groups));
    if (lookup->answers == NULL || lookup->groups == NULL) {
        return MR_E_NOMEM;
    }
    mr_footer_ids_ask(history->io, history->ids, count, hash, lookup->answers);
    for (uint32_t i = 0; i < count; i++) {
        lookup->groups[i] = history->ids[i].group;
    }
    uint32_t announced = 0;
    for (uint32_t i = history->index.segment_count; i-- > 0 && announced < ANNOUNCED_MAX;) {
        const struct mr_footer_head *head = &history->footers[i];
        if (head->pages > 0 && head->number >= from && may_have(lookup, head)) {
            mr_footer_will_need(history->io, head, hash, is_about);
            announced++;
        }
    }
    return MR_OK;
}

void mr__lookup_release(struct mr__lookup *lookup)
{
    mr_free(MR_TAKE(lookup->answers));
    mr_free(MR_TAKE(lookup->groups));
}

/* Shows the groups at those places of the segment that @p head is about. */
static enum mr_status show_places(struct mr_io *io, const struct mr_footer_head *head,
                                  const struct places *places,
                                  bool (*visit)(void *context, const struct mr_log_group *group),
                                  void *context, uint64_t *ret_from, bool *ret_more)
{
    if (places->list.size == 0) {
        return MR_OK;
    }
    struct reader reader = {.io = io, .head = head};
    enum mr_status r = open_segment(&reader);
    for (size_t i = 0; r == MR_OK && i < places->list.size / 8 && *ret_more; i++) {
        struct mr_log_group group;
        *ret_from = place_at(places, i);
        if (*ret_from >= head->used) {
            break; /* it is being written */
        }
        r = read_group(&reader, *ret_from, &group);
        *ret_more = r != MR_OK || visit(context, &group);
    }
    close_segment(&reader);
    return r;
}

/* Shows the groups that the footer names. */
static enum mr_status show_groups(struct mr_io *io, const struct mr_footer_head *head,
                                  const struct wish *wish,
                                  bool (*visit)(void *context, const struct mr_log_group *group),
                                  void *context, uint64_t *ret_from, bool *ret_more)
{
    struct places places;
    *ret_from = 0;
    *ret_more = true;
    enum mr_status r = ask_footer(io, head, wish, &places);
    r = r == MR_OK ? show_places(io, head, &places, visit, context, ret_from, ret_more) : r;
    mr_buf_release(&places.list);
    return r;
}

enum mr_status mr__lookup_sketched(const struct mr_history *history, uint32_t at, uint64_t hash,
                                   bool is_about,
                                   bool (*visit)(void *context, const struct mr_log_group *group),
                                   void *context, uint64_t *ret_from, bool *ret_more)
{
    const struct mr_log_segment *segment = &history->index.segments[at];
    uint64_t end = history->end_position;
    struct mr_footer_head head = {
        .number = segment->number,
        .salt = segment->header.salt,
        .used = segment->number == mr_position_segment(end) ? mr_position_at(end)
                                                            : segment->file_size};
    struct places places = {.status = MR_OK};
    *ret_from = 0;
    *ret_more = true;
    if (segment->number > mr_position_segment(end)) {
        return MR_OK; /* nothing of it is durable for who asks */
    }
    mr_buf_init(&places.list, PLACES_MAX * 8);
    bool known = history->sketched != NULL && segment->usable &&
                 history->sketched(history->sketch_context, segment->number, hash, is_about,
                                   &places.list);
    enum mr_status r = MR_E_CORRUPT;
    if (known) {
        r = show_places(history->io, &head, &places, visit, context, ret_from, ret_more);
    }
    mr_buf_release(&places.list);
    return r;
}

enum mr_status mr__lookup_about(struct mr__lookup *lookup, const struct mr_footer_head *head,
                                uint64_t offset,
                                bool (*visit)(void *context, const struct mr_log_group *group),
                                void *context, uint64_t *ret_from, bool *ret_more)
{
    struct wish wish = {.of = WISH_ABOUT, .offset = offset};
    *ret_from = 0;
    *ret_more = true;
    if (head->about_all == 0 && (offset < head->about_first || !may_have(lookup, head))) {
        return MR_OK;
    }
    return show_groups(lookup->io, head, &wish, visit, context, ret_from, ret_more);
}

enum mr_status mr__lookup_value(struct mr_io *io, const struct mr_footer_head *head,
                                enum mr_footer_value which, struct mr_bytes value,
                                bool (*visit)(void *context, const struct mr_log_group *group),
                                void *context, uint64_t *ret_from, bool *ret_more)
{
    struct wish wish = {.of = WISH_VALUE, .which = which, .value = value};
    return show_groups(io, head, &wish, visit, context, ret_from, ret_more);
}

/* The record at @p place, if it is whole. */
static enum mr_status read_record(struct reader *reader, uint64_t place, struct mr_record *record)
{
    enum mr_status r = read_bytes(reader, place, MR_RECORD_HEADER_SIZE);
    if (r != MR_OK) {
        return r;
    }
    uint64_t size = mr_record_size(mr_get_u32(reader->bytes.data));
    if (place + size > reader->head->used) {
        return MR_E_CORRUPT;
    }
    r = read_bytes(reader, place, (size_t)size);
    return r == MR_OK ? as_corrupt(mr_record_decode(reader->bytes.data, (size_t)size, record, NULL))
                      : r;
}

enum mr_status mr__lookup_id(struct mr__lookup *lookup, const struct mr_footer_head *head,
                             struct mr_bytes id, uint64_t *ret_offset)
{
    if (!may_have(lookup, head)) {
        return MR_E_NOT_FOUND;
    }
    struct places places;
    struct reader reader = {.io = lookup->io, .head = head};
    struct wish wish = {.of = WISH_ID, .value = id};
    enum mr_status r = ask_footer(lookup->io, head, &wish, &places);
    bool found = false;
    if (r == MR_OK && places.list.size > 0) {
        r = open_segment(&reader);
        for (size_t i = places.list.size / 8; r == MR_OK && i-- > 0 && !found;) {
            struct mr_record record;
            r = read_record(&reader, place_at(&places, i), &record);
            found = r == MR_OK && record.kind == MR_RECORD_EVENT &&
                    mr_bytes_equal(mr_event_id(record.body), id);
            *ret_offset = found ? record.offset : 0;
        }
        close_segment(&reader);
    }
    mr_buf_release(&places.list);
    return r == MR_OK && !found ? MR_E_NOT_FOUND : r;
}
