#include "bus/keep_verify.h"

#include "bus/checkpoint.h"
#include "core/alloc.h"

struct mr_keeps {
    struct mr_io *io;
    const struct mr_log_index *index;
    void (*found)(void *context, const struct mr_keep_finding *finding);
    void *context;
    uint64_t records;
    uint64_t needed[]; /* by file: the last byte that something is said to begin at; 0: none */
};

enum mr_status mr_keeps_create(struct mr_io *io, const struct mr_log_index *index,
                               struct mr_keeps **ret_keeps)
{
    struct mr_keeps *keeps =
        mr_calloc(1, sizeof(*keeps) + index->keep_count * sizeof(keeps->needed[0]));
    if (keeps == NULL) {
        return MR_E_NOMEM;
    }
    keeps->io = io;
    keeps->index = index;
    *ret_keeps = keeps;
    return MR_OK;
}

void mr_keeps_destroy(struct mr_keeps *keeps)
{
    mr_free(keeps);
}

/* --- what has to be there --------------------------------------------------------------------- */

static void note(struct mr_keeps *keeps, uint64_t position)
{
    const struct mr_log_index *index = keeps->index;
    const struct mr_log_segment *file =
        mr_log_file_find(index->keeps, index->keep_count, mr_position_segment(position));
    uint64_t *needed = file == NULL ? NULL : &keeps->needed[file - index->keeps];
    if (needed != NULL && mr_position_at(position) > *needed) {
        *needed = mr_position_at(position);
    }
}

void mr_keeps_note(struct mr_keeps *keeps, const struct mr_record *record)
{
    size_t size = record->kind == MR_RECORD_MOVED ? record->body.size : 0;
    for (size_t at = 0; at + MR_MOVED_ENTRY_SIZE <= size; at += MR_MOVED_ENTRY_SIZE) {
        note(keeps, mr_get_u64(record->body.data + at + 20));
    }
}

/* What is whole of a slot speaks of positions, wherever it stands. */
static void note_chunk(struct mr_keeps *keeps, const struct mr__slot *slot, uint32_t chunk)
{
    struct mr__items items = {.slot = slot, .chunk = chunk};
    while (items.chunk == chunk && items.at < slot->chunks[chunk].size) {
        size_t before = items.at;
        uint64_t number;
        struct mr__loader l = {.status = MR_OK};
        enum mr__item kind = mr__items_next(&items, &number, &l);
        if (items.at == before) {
            return; /* a checksum that fits, and no sense */
        }
        if (kind == MR__ITEM_DELIVERY || kind == MR__ITEM_DEAD) {
            note(keeps, mr__load_u64(&l));
        }
        if (kind == MR__ITEM_DEAD) {
            note(keeps, mr__load_u64(&l));
        }
    }
}

static enum mr_status note_slots(struct mr_keeps *keeps, uint64_t log_id)
{
    for (unsigned i = 0; i < 2; i++) {
        struct mr__slot slot = {0};
        uint8_t *data;
        size_t size;
        enum mr_status r = mr__slot_read(keeps->io, mr__slot_names[i], &data, &size);
        if (r == MR_OK) {
            r = mr__slot_parse(&slot, data, size);
        }
        bool ours = r == MR_OK && (log_id == 0 || slot.head.log_id == log_id);
        for (uint32_t c = 0; ours && slot.chunks != NULL && c < slot.head.chunks; c++) {
            if (slot.chunks[c].items != NULL) {
                note_chunk(keeps, &slot, c);
            }
        }
        mr__slot_release(&slot);
        if (r == MR_E_NOMEM) {
            return r;
        }
    }
    return MR_OK;
}

/* --- what is there ---------------------------------------------------------------------------- */

static void tell(struct mr_keeps *keeps, uint64_t number, enum mr_keep_damage damage, uint64_t at,
                 uint32_t count)
{
    char name[MR_LOG_NAME_SIZE];
    mr_log_file_name(MR_LOG_OF_SURVIVORS, number, name);
    const struct mr_keep_finding finding = {
        .damage = damage, .file = name, .at = at, .count = count};
    keeps->found(keeps->context, &finding);
}

/* @param needed as of struct mr_keeps */
static enum mr_status verify_groups(struct mr_keeps *keeps, const struct mr_log_index *view,
                                    uint64_t needed)
{
    struct mr_log_reader *reader;
    enum mr_status r = mr_log_reader_create(keeps->io, view, 0, 1, 0, 0, &reader);
    if (r != MR_OK) {
        return r;
    }
    uint64_t number = view->segments[0].number;
    uint64_t end = MR_LOG_BLOCK; /* of what is whole, or told */
    bool read = false; /* to where it ends: nobody took the file away */
    struct mr_log_group group;
    while ((r = mr_log_reader_next(reader, &group)) == MR_OK) {
        bool rotten = group.decision == MR_RECOVERY_ROTTEN;
        if (!rotten && group.decision != MR_RECOVERY_TAKE) {
            read = true;
            continue;
        }
        uint64_t at = mr_position_at(group.position);
        if (group.header_good) {
            end = at + group.header.padded;
            keeps->records += group.header.records - group.bad_records;
        }
        if (group.mended > 0) {
            tell(keeps, number, MR_KEEP_BITS, at, group.mended);
        }
        if (rotten) {
            tell(keeps, number, MR_KEEP_ROTTEN, at, group.header_good ? group.bad_records : 0);
        }
    }
    mr_log_reader_destroy(reader);
    if (r == MR_E_NOT_FOUND && read && needed >= end) {
        tell(keeps, number, MR_KEEP_ROTTEN, end, 0);
    }
    return r == MR_E_NOT_FOUND ? MR_OK : r;
}

/* Its header is read once more: who runs beside may have appended since. */
static enum mr_status verify_file(struct mr_keeps *keeps, uint32_t i)
{
    struct mr_log_segment keep = {.number = keeps->index->keeps[i].number,
                                  .of = MR_LOG_OF_SURVIVORS};
    uint64_t needed = keeps->needed[i];
    enum mr_status r = mr_log_segment_read(keeps->io, &keep, NULL);
    if (r != MR_OK) {
        return r == MR_E_NOT_FOUND ? MR_OK : r; /* it has gone meanwhile */
    }
    keep.later_sequence = UINT64_MAX; /* it is read by itself */
    if (!keep.usable && needed > 0) {
        tell(keeps, keep.number, MR_KEEP_HEADLESS, 0, 0);
    }
    if (!keep.usable) {
        return MR_OK;
    }
    if (keep.header.mended || (keep.salvaged && needed > 0)) {
        tell(keeps, keep.number, MR_KEEP_HEADER, 0, 0);
    }
    const struct mr_log_index view = {.segments = &keep, .segment_count = 1};
    return verify_groups(keeps, &view, needed);
}

enum mr_status mr_keeps_verify(struct mr_keeps *keeps, uint64_t log_id,
                               void (*found)(void *context,
                                             const struct mr_keep_finding *finding),
                               void *context, uint64_t *ret_records)
{
    keeps->found = found;
    keeps->context = context;
    keeps->records = 0;
    enum mr_status r = note_slots(keeps, log_id);
    for (uint32_t i = 0; i < keeps->index->keep_count && r == MR_OK; i++) {
        r = verify_file(keeps, i);
    }
    *ret_records = keeps->records;
    return r;
}
