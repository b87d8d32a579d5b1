/* A segment walked once for its footer: what is found is gathered as numbers. */
#include "bus/footer_build.h"

#include "bus/planted.h"
#include "core/alloc.h"
#include "core/assert.h"
#include "schemas/event.h"

#define READ_SIZE (1u * MR_MIB)
#define SECTION_SIZE_MAX (64u * MR_MIB)

/* --- reading the segment ---------------------------------------------------------------------- */

/* Room for @p size bytes; the first @p kept from @p data on come along. Aligned, as is what is
 * read: it goes past the page cache, where it is not (the log is written past it) and would drive
 * out what is needed. */
static enum mr_status make_room(struct mr__footer_builder *b, const uint8_t *data, size_t kept,
                                size_t size)
{
    uint8_t *to = b->data;
    if (size > b->data_capacity) {
        to = mr_alloc_aligned(MR_LOG_BLOCK, size);
        if (to == NULL) {
            return MR_E_NOMEM;
        }
    }
    if (kept > 0) {
        memmove(to, data, kept);
    }
    if (to != b->data) {
        mr_free(b->data);
        b->data = to;
        b->data_capacity = size;
    }
    return MR_OK;
}

/* Makes [at, at + size) available; *ret_data is NULL when the file ends before. What was read ahead
 * and lies behind @p at is kept. @p at is where a block begins. */
static enum mr_status fetch(struct mr__footer_builder *b, uint64_t at, size_t size,
                            const uint8_t **ret_data)
{
    uint64_t data_end = b->data_at + b->data_size;
    if (at >= b->data_at && at + size <= data_end) {
        *ret_data = b->data + (at - b->data_at);
        return MR_OK;
    }
    *ret_data = NULL;
    size_t kept = at >= b->data_at && at < data_end ? (size_t)(data_end - at) : 0;
    kept -= kept % MR_LOG_BLOCK;
    size_t least = mr_round_up(size, MR_LOG_BLOCK);
    uint64_t left = mr_round_up(b->head.used - at, MR_LOG_BLOCK);
    size_t want = least < READ_SIZE ? READ_SIZE : least;
    want = want > left ? (size_t)left : want;
    want = want < least ? least : want;
    enum mr_status r = make_room(b, kept > 0 ? b->data + (at - b->data_at) : NULL, kept, want);
    if (r != MR_OK) {
        return r;
    }
    b->data_at = at;
    b->data_size = kept;
    size_t got = 0;
    r = b->io->ops->pread(b->io, b->file, b->data + kept, want - kept, at + kept, &got);
    if (r != MR_OK && want > least) { /* not what is read ahead, but what is wanted */
        r = b->io->ops->pread(b->io, b->file, b->data + kept, least - kept, at + kept, &got);
    }
    if (r == MR_OK) {
        b->data_size = kept + got;
    }
    *ret_data = b->data_size >= size ? b->data : NULL;
    return r;
}

static enum mr_status take_value(struct mr__footer_builder *b, enum mr_footer_value which,
                                 struct mr_bytes value)
{
    if (value.size == 0) {
        return MR_OK;
    }
    uint64_t number =
        (uint64_t)footer_value_key(which, value) << 32 | b->group_at / MR_LOG_BLOCK;
    if (b->values.count > 0 && number == b->last_values[which]) {
        return MR_OK;
    }
    b->last_values[which] = number;
    return mr__numbers_add(&b->values, number);
}

static enum mr_status take_event(struct mr__footer_builder *b, uint64_t at,
                                 const struct mr_record *record)
{
    struct mr_footer_head *head = &b->head;
    uint64_t size = mr_record_size(record->body.size);
    head->first_offset = head->events == 0 ? record->offset : head->first_offset;
    head->next_offset = record->offset + 1;
    head->events++;
    b->event_at = at;
    b->event_offset = record->offset;
    enum mr_status r = mr__numbers_add(&b->events, (at / 8) << 32 | size / 8);
    if (r == MR_OK) {
        uint64_t hash = mr_footer_id_hash(mr_event_id(record->body));
        r = mr__numbers_add(&b->ids, (uint64_t)footer_id_key(hash) << 32 | at / 8);
        r = r == MR_OK ? mr__numbers_add(&b->hashes, hash) : r;
    }
    static const char *const names[MR_FOOTER_VALUE_MAX] = {"type", "source", "subject"};
    for (int i = 0; i < MR_FOOTER_VALUE_MAX && r == MR_OK; i++) {
        r = take_value(b, (enum mr_footer_value)i, mr_event_value(record->body, names[i]));
    }
    return r;
}

static enum mr_status take_match(struct mr__footer_builder *b, uint64_t at,
                                 const struct mr_record *record)
{
    size_t index = b->events.count - 1;
    uint64_t size = at + mr_record_size(record->body.size) - b->event_at;
    b->events.items[index] = (b->event_at / 8) << 32 | size / 8;
    enum mr_status r = MR_OK;
    for (uint32_t i = 0; i < record->a && r == MR_OK; i++) {
        uint64_t sub = mr_get_u32(record->body.data + (size_t)i * MR_MATCH_ENTRY_SIZE);
        r = mr__numbers_add(&b->matches, sub << 32 | index);
    }
    return r;
}

/* One record that is whole. @return MR_E_CORRUPT: it is not of this group */
static enum mr_status take_record(struct mr__footer_builder *b, const struct mr_group_header *group,
                                  uint64_t at, const struct mr_record *record)
{
    const struct mr_footer_head *head = &b->head;
    if (record->kind == MR_RECORD_EVENT) {
        b->event_offset = 0;
        bool fits = record->offset >= group->first_offset && record->offset < group->next_offset &&
                    (head->events == 0 || (record->offset >= head->next_offset &&
                                           record->offset - head->first_offset <= UINT32_MAX));
        return fits && mr_event_check(record->body) == MR_OK ? take_event(b, at, record)
                                                             : MR_E_CORRUPT;
    }
    if (record->kind != MR_RECORD_MATCH) {
        return MR_OK;
    }
    bool fits = record->offset != 0 && record->offset == b->event_offset &&
                (uint64_t)record->a * MR_MATCH_ENTRY_SIZE <= record->body.size;
    return fits ? take_match(b, at, record) : MR_E_CORRUPT;
}

static enum mr_status add_about(struct mr__footer_builder *b, uint64_t about)
{
    uint64_t number = about << 16 | b->group_at / MR_LOG_BLOCK;
    if (number == b->last_about) {
        return MR_OK;
    }
    b->last_about = number;
    return mr__numbers_add(&b->abouts, number);
}

static enum mr_status add_about_event(struct mr__footer_builder *b, uint64_t offset)
{
    if (offset == 0) {
        return MR_OK;
    }
    struct mr_footer_head *head = &b->head;
    head->about_first = offset < head->about_first ? offset : head->about_first;
    return add_about(b, footer_about(offset));
}

/* Which events a record concerns. */
static enum mr_status take_about(struct mr__footer_builder *b, const struct mr_record *record)
{
    if (footer_is_about_all(record)) {
        b->head.about_all++;
        return add_about(b, FOOTER_ABOUT_ALL);
    }
    if (MR_PLANTED(FOOTER_ENDLESS) && record->kind == MR_RECORD_SETTLE) {
        return MR_OK;
    }
    enum mr_status r = add_about_event(b, record->offset);
    return r == MR_OK ? add_about_event(b, footer_about_other(record)) : r;
}

static enum mr_status take_group(struct mr__footer_builder *b, uint64_t at,
                                 const struct mr_group_header *group, const uint8_t *data)
{
    uint32_t sum = 0;
    uint32_t bad = 0;
    uint32_t good = 0;
    enum mr_status r = MR_OK;
    b->group_at = at;
    b->event_offset = 0;
    for (uint32_t here = MR_GROUP_HEADER_SIZE; here < group->size;) {
        struct mr_record record;
        uint32_t crc = 0;
        r = mr_record_decode(data + here, group->size - here, &record, &crc);
        if (r == MR_E_CORRUPT) {
            bad++;
            break; /* lengths are lost: so is the rest of the group */
        }
        uint8_t le[4];
        mr_put_u32(le, crc);
        sum = mr_crc32c(sum, le, sizeof(le));
        r = r == MR_OK ? take_about(b, &record) : r;
        r = r == MR_OK ? take_record(b, group, at + here, &record) : r;
        if (r == MR_E_NOMEM) {
            return r;
        }
        b->event_offset = r != MR_OK && record.kind == MR_RECORD_EVENT ? 0 : b->event_offset;
        good += r == MR_OK;
        bad += r != MR_OK;
        here += (uint32_t)mr_record_size(record.body.size);
    }
    bool whole = bad == 0 && good == group->records && sum == group->records_crc;
    b->head.rotten += !whole;
    return MR_OK;
}

static void count_group(struct mr_footer_head *head, const struct mr_group_header *group)
{
    bool first = head->groups++ == 0;
    head->first_wall_ns =
        first || group->wall_ns < head->first_wall_ns ? group->wall_ns : head->first_wall_ns;
    head->last_wall_ns = group->wall_ns > head->last_wall_ns ? group->wall_ns : head->last_wall_ns;
    head->first_log_ns =
        first || group->log_ns < head->first_log_ns ? group->log_ns : head->first_log_ns;
    head->last_log_ns = group->log_ns > head->last_log_ns ? group->log_ns : head->last_log_ns;
}

/* What stands at @p at. @param[out] ret_size bytes to the next place; a block when it is rotten */
static enum mr_status take_place(struct mr__footer_builder *b, uint64_t at, bool *ret_rotten,
                                 uint32_t *ret_size)
{
    struct mr_group_header group;
    const uint8_t *data;
    *ret_rotten = true;
    *ret_size = MR_LOG_BLOCK;
    enum mr_status r = fetch(b, at, MR_GROUP_HEADER_SIZE, &data);
    if (r != MR_OK || data == NULL) {
        return r == MR_E_NOMEM ? r : MR_OK;
    }
    if (mr_group_header_decode(data, b->head.salt, &group) != MR_OK ||
        group.sequence <= b->sequence || at + group.padded > b->head.used) {
        return MR_OK;
    }
    r = fetch(b, at, group.size, &data);
    if (r != MR_OK || data == NULL) {
        return r == MR_E_NOMEM ? r : MR_OK;
    }
    *ret_rotten = false;
    *ret_size = group.padded;
    b->sequence = group.sequence;
    count_group(&b->head, &group);
    return MR_PLANTED(FOOTER_SHORT) && at + group.padded >= b->head.used
               ? MR_OK
               : take_group(b, at, &group, data);
}

static enum mr_status walk(struct mr__footer_builder *b)
{
    const uint8_t *block;
    struct mr_segment_header header;
    enum mr_status r = fetch(b, 0, MR_LOG_BLOCK, &block);
    if (r != MR_OK || block == NULL) {
        return r == MR_OK ? MR_E_CORRUPT : r;
    }
    r = mr_segment_header_decode(block, &header);
    if (r != MR_OK || header.number != b->head.number || header.salt != b->head.salt) {
        return r == MR_OK ? MR_E_CORRUPT : r;
    }
    b->head.log_id = header.log_id;
    bool rotten = false;
    uint32_t size = 0;
    for (uint64_t at = MR_LOG_BLOCK; at < b->head.used && r == MR_OK; at += size) {
        bool before = rotten;
        r = take_place(b, at, &rotten, &size);
        b->head.rotten += rotten && !before; /* blocks of one rotten place count once */
    }
    return r;
}

static void close_file(struct mr__footer_builder *b)
{
    if (b->file >= 0) {
        b->io->ops->close(b->io, b->file);
        b->file = -1;
    }
}

static void release(struct mr__footer_builder *b)
{
    close_file(b);
    mr_free(b->data);
    struct mr__numbers *const all[] = {&b->events, &b->matches, &b->ids, &b->hashes,
                                   &b->values, &b->abouts};
    for (size_t i = 0; i < MR_ARRAY_COUNT(all); i++) {
        mr_free(all[i]->items);
    }
    for (int i = 0; i < MR_FOOTER_SECTION_MAX; i++) {
        mr_buf_release(&b->sections[i].bytes);
        mr_free(b->sections[i].fences.items);
    }
}

enum mr_status mr_footer_build(struct mr_io *io, uint64_t number, uint64_t salt, uint64_t used)
{
    MR_ASSERT(used <= MR_SEGMENT_SIZE_MAX);
    struct mr__footer_builder b = {.io = io,
                        .file = -1,
                        .last_about = UINT64_MAX,
                        .head = {.number = number,
                                 .salt = salt,
                                 .used = used,
                                 .about_first = UINT64_MAX}};
    for (int i = 0; i < MR_FOOTER_SECTION_MAX; i++) {
        mr_buf_init(&b.sections[i].bytes, SECTION_SIZE_MAX);
    }
    char name[MR_LOG_NAME_SIZE];
    mr_segment_name(number, name);
    enum mr_status r = io->ops->open(io, name, MR_IO_READ_ONLY | MR_IO_DIRECT, &b.file);
    if (r != MR_OK) {
        return r;
    }
    r = walk(&b);
    close_file(&b);
    r = r == MR_OK ? mr__footer_lay(&b) : r;
    release(&b);
    return r;
}
