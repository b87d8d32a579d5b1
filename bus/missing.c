/* What is missing of a log. A segment is given up once nothing in it is needed and both checkpoint
 * slots are true behind it, whatever its neighbours: so a whole log has holes. What is needed of a
 * file that is missing, the newest slot says, less what the log behind it has ended or moved. */
#include "bus/missing.h"

#include <stdlib.h>

#include "bus/checkpoint.h"
#include "core/alloc.h"

/* One record that something alive has in a missing file. */
struct need {
    uint64_t offset;
    uint64_t position;
    uint32_t sub;
    bool dead_record; /* else the event */
    bool ended;
};

struct needs {
    const struct mr_log_index *index;
    struct mr__slot slots[2]; /* the newer one that is of use first */
    struct need *items;       /* owned; by offset once all are found */
    size_t count;
    size_t capacity;
};

/* --- the slots -------------------------------------------------------------------------------- */

static uint64_t log_id_of(const struct mr_log_index *index)
{
    for (uint32_t i = 0; i < index->segment_count; i++) {
        if (index->segments[i].usable && !index->segments[i].salvaged) {
            return index->segments[i].header.log_id;
        }
    }
    return 0;
}

/* What cannot be read, or is of another log, is of generation 0. */
static enum mr_status read_slots(struct mr_io *io, const struct mr_log_index *index,
                                 struct mr__slot slots[2])
{
    uint64_t log_id = log_id_of(index);
    for (unsigned i = 0; i < 2; i++) {
        uint8_t *data;
        size_t size;
        enum mr_status r = mr__slot_read(io, mr__slot_names[i], &data, &size);
        r = r == MR_OK ? mr__slot_parse(&slots[i], data, size) : r;
        if (r == MR_E_NOMEM) {
            return r;
        }
        if (r != MR_OK || (log_id != 0 && slots[i].head.log_id != log_id)) {
            slots[i].head.generation = 0;
        }
    }
    if (slots[0].head.generation < slots[1].head.generation) {
        struct mr__slot newer = slots[1];
        slots[1] = slots[0];
        slots[0] = newer;
    }
    return MR_OK;
}

/* The items of a section; none of an old version's, which has no sections. */
static bool open_section(const struct mr__slot *slot, enum mr__item kind, uint32_t id,
                         struct mr__items *ret_items, struct mr__loader *ret_l)
{
    bool usable = slot->head.generation != 0 && slot->chunks != NULL;
    const struct mr__section *section = usable ? mr__slot_find(slot, kind, id) : NULL;
    if (section == NULL) {
        return false;
    }
    uint64_t number;
    *ret_items = (struct mr__items){.slot = slot, .chunk = section->chunk, .at = section->at};
    return mr__items_next(ret_items, &number, ret_l) == kind;
}

/* The base lists the segments of its time. */
static void heed_base(struct mr_log_index *index, const struct mr__slot *slot)
{
    struct mr__items items;
    struct mr__loader l;
    if (!open_section(slot, MR__ITEM_BASE, 0, &items, &l)) {
        return;
    }
    for (unsigned i = 0; i < 8; i++) {
        (void)mr__load_u64(&l);
    }
    uint64_t segments = mr__load_u64(&l);
    for (uint64_t i = 0; i < segments && l.status == MR_OK; i++) {
        uint64_t number = mr__load_u64(&l);
        uint64_t used = mr__load_u64(&l);
        (void)mr__load_u64(&l);
        (void)mr__load_u64(&l);
        struct mr_log_segment *segment =
            mr_log_file_find(index->segments, index->segment_count, number);
        if (segment != NULL && l.status == MR_OK && used > segment->used) {
            segment->used = used;
        }
    }
}

/* A file that was used before, and whose header a power cut tore as it was made ready, looks like
 * the first segment when those before it are gone. The slots list every segment of their time, and
 * what stood in it. */
static void forget_unlisted(struct mr_log_index *index)
{
    for (uint32_t i = 0; i < index->segment_count; i++) {
        struct mr_log_segment *segment = &index->segments[i];
        if (segment->salvaged && segment->number < index->given_up &&
            segment->used <= MR_LOG_BLOCK) {
            segment->usable = segment->salvaged = false;
            segment->blank = true;
            segment->first_sequence = 0;
        }
    }
    mr_log_index_judge(index); /* what comes later than what */
}

enum mr_status mr_missing_heed(struct mr_io *io, struct mr_log_index *index)
{
    struct mr__slot slots[2] = {0};
    enum mr_status r = read_slots(io, index, slots);
    for (unsigned i = 0; i < 2 && r == MR_OK; i++) {
        uint64_t number = mr_position_segment(slots[i].head.position);
        if (slots[i].head.generation != 0) {
            index->given_up = i == 0 || number < index->given_up ? number : index->given_up;
            heed_base(index, &slots[i]);
        }
    }
    forget_unlisted(index);
    mr__slot_release(&slots[0]);
    mr__slot_release(&slots[1]);
    return r;
}

/* --- what is needed --------------------------------------------------------------------------- */

static enum mr_status need(struct needs *n, uint32_t sub, uint64_t offset, uint64_t position,
                           bool dead_record)
{
    uint64_t number = mr_position_segment(position);
    const struct mr_log_index *index = n->index;
    if (number == 0 || mr_log_file_find(index->segments, index->segment_count, number) != NULL ||
        mr_log_file_find(index->keeps, index->keep_count, number) != NULL) {
        return MR_OK;
    }
    if (n->count == n->capacity) {
        size_t capacity = n->capacity * 2 + 64;
        struct need *grown = mr_realloc(n->items, capacity * sizeof(*grown));
        if (grown == NULL) {
            return MR_E_NOMEM;
        }
        n->items = grown;
        n->capacity = capacity;
    }
    n->items[n->count++] = (struct need){
        .offset = offset, .position = position, .sub = sub, .dead_record = dead_record};
    return MR_OK;
}

static enum mr_status find_in_section(struct needs *n, const struct mr__slot *slot, uint32_t sub)
{
    struct mr__items items;
    struct mr__loader l;
    if (!open_section(slot, MR__ITEM_SUB, sub, &items, &l)) {
        return MR_OK;
    }
    enum mr_status r = MR_OK;
    uint64_t offset;
    for (enum mr__item kind = MR__ITEM_SUB; kind != MR__ITEM_END && r == MR_OK;) {
        kind = mr__items_next(&items, &offset, &l);
        if (kind == MR__ITEM_DELIVERY || kind == MR__ITEM_DEAD) {
            r = need(n, sub, offset, mr__load_u64(&l), false);
        }
        if (kind == MR__ITEM_DEAD && r == MR_OK) {
            r = need(n, sub, offset, mr__load_u64(&l), true);
        }
    }
    return r;
}

/* As a start takes them: what the newer slot has not whole from the other. A section that is whole
 * in neither is folded from the log: it says nothing here. */
static enum mr_status find_needs(struct needs *n)
{
    enum mr_status r = MR_OK;
    for (unsigned i = 0; i < 2; i++) {
        const struct mr__slot *slot = &n->slots[i];
        uint64_t count = slot->head.generation == 0 ? 0 : slot->section_count;
        for (uint64_t k = 0; k < count && r == MR_OK; k++) {
            const struct mr__section *section = &slot->sections[k];
            if (section->kind == MR__ITEM_SUB &&
                (i == 0 || mr__slot_find(&n->slots[0], MR__ITEM_SUB, section->id) == NULL)) {
                r = find_in_section(n, slot, section->id);
            }
        }
    }
    return r;
}

/* --- what has ended since --------------------------------------------------------------------- */

static int by_offset(const void *a, const void *b)
{
    const struct need *x = a;
    const struct need *y = b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static size_t lower(const struct needs *n, uint64_t offset)
{
    size_t low = 0;
    size_t high = n->count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (n->items[mid].offset < offset) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

/* @param position  what moved from there alone; 0: wherever it is */
static void end_needs(const struct needs *n, uint32_t sub, uint64_t offset, uint64_t position,
                      bool dead_record_alone)
{
    for (size_t i = lower(n, offset); i < n->count && n->items[i].offset == offset; i++) {
        struct need *item = &n->items[i];
        bool is_it = item->sub == sub && (position == 0 || item->position == position);
        item->ended = item->ended || (is_it && (item->dead_record || !dead_record_alone));
    }
}

static void end_by_record(const struct needs *n, const struct mr_record *record)
{
    switch (record->kind) {
    case MR_RECORD_SETTLE:
    case MR_RECORD_PURGE:
    case MR_RECORD_EDIT: /* it has another event */
        end_needs(n, record->a, record->offset, 0, false);
        break;
    case MR_RECORD_REDRIVE:
        end_needs(n, record->a, record->offset, 0, true);
        break;
    case MR_RECORD_MOVED:
        for (size_t at = 0; at + MR_MOVED_ENTRY_SIZE <= record->body.size;
             at += MR_MOVED_ENTRY_SIZE) {
            const uint8_t *entry = record->body.data + at;
            end_needs(n, mr_get_u32(entry), mr_get_u64(entry + 4), mr_get_u64(entry + 12), false);
        }
        break;
    default:
        break;
    }
}

/* From the older slot on: a section may be its. */
static enum mr_status read_tail(struct mr_io *io, const struct needs *n)
{
    const struct mr__checkpoint_head *head =
        n->slots[1].head.generation != 0 ? &n->slots[1].head : &n->slots[0].head;
    struct mr_log_reader *reader;
    enum mr_status r =
        mr_log_reader_create(io, n->index, head->position, head->sequence + 1, head->previous_crc,
                             head->sequence, &reader);
    if (r != MR_OK) {
        return r;
    }
    struct mr_log_group group;
    while ((r = mr_log_reader_next(reader, &group)) == MR_OK) {
        uint32_t at = 0;
        uint64_t position;
        struct mr_record record;
        while (mr_log_next_record(&group, &at, &position, &record)) {
            end_by_record(n, &record);
        }
    }
    mr_log_reader_destroy(reader);
    return r == MR_E_NOT_FOUND ? MR_OK : r;
}

/* --- told ------------------------------------------------------------------------------------- */

static int by_position(const void *a, const void *b)
{
    const struct need *x = a;
    const struct need *y = b;
    return x->position < y->position ? -1 : x->position > y->position;
}

/* A running bus may have made it since the folder was listed. */
static bool is_there(struct mr_io *io, uint64_t number)
{
    static const enum mr_log_file kinds[] = {MR_LOG_OF_SEGMENT, MR_LOG_OF_SURVIVORS};
    enum mr_status r = MR_E_NOT_FOUND;
    for (size_t i = 0; i < MR_ARRAY_COUNT(kinds) && r == MR_E_NOT_FOUND; i++) {
        char name[MR_LOG_NAME_SIZE];
        int file;
        mr_log_file_name(kinds[i], number, name);
        r = io->ops->open(io, name, MR_IO_READ_ONLY, &file);
        if (r == MR_OK) {
            io->ops->close(io, file);
        }
    }
    return r != MR_E_NOT_FOUND;
}

static void tell(struct mr_io *io, struct needs *n,
                 void (*found)(void *context, const struct mr_missing *missing), void *context)
{
    qsort(n->items, n->count, sizeof(n->items[0]), by_position);
    for (size_t i = 0; i < n->count;) {
        uint64_t number = mr_position_segment(n->items[i].position);
        struct mr_missing missing = {.number = number, .first = UINT64_MAX};
        for (; i < n->count && mr_position_segment(n->items[i].position) == number; i++) {
            const struct need *item = &n->items[i];
            if (!item->ended) {
                missing.first = item->offset < missing.first ? item->offset : missing.first;
                missing.last = item->offset > missing.last ? item->offset : missing.last;
                missing.count++;
            }
        }
        if (missing.count > 0 && !is_there(io, number)) {
            found(context, &missing);
        }
    }
}

enum mr_status mr_missing_tell(struct mr_io *io, const struct mr_log_index *index,
                               void (*found)(void *context, const struct mr_missing *missing),
                               void *context)
{
    struct needs n = {.index = index};
    enum mr_status r = read_slots(io, index, n.slots);
    r = r == MR_OK ? find_needs(&n) : r;
    if (r == MR_OK && n.count > 0) {
        qsort(n.items, n.count, sizeof(n.items[0]), by_offset);
        r = read_tail(io, &n);
    }
    if (r == MR_OK && n.count > 0) {
        tell(io, &n, found, context);
    }
    mr__slot_release(&n.slots[0]);
    mr__slot_release(&n.slots[1]);
    mr_free(n.items);
    return r;
}
