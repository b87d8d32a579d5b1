/* Copying what outlived its segment: MR_LOG_COPY.
 *
 * Records are read one by one, verified, and put as they are into one group of the survivor file,
 * which is synced before the request comes back. Nothing refers to them until the core has logged
 * where they are: a copy that was cut off is bytes that nobody reads. */
#include "bus/logdisk.h"

#include <stdlib.h>

#include "bus/mend.h"
#include "bus/planted.h"
#include "core/alloc.h"
#include "core/hash.h"

#define COPY_SIZE MR_MIB      /* of a group, unless one record is larger */
#define READ_SIZE MR_LOG_BLOCK /* of a record, at first */

struct copy_group { /* being gathered */
    uint8_t *data; /* owned; aligned */
    size_t capacity;
    size_t size;
    size_t size_max; /* of the group with its padding: what is left of the file */
    uint32_t records;
    uint32_t records_crc;
    uint64_t position;
    bool fresh;            /* it is the first of its file */
    struct mr_record last; /* without its body, */
    uint64_t last_from;    /* where it was, */
    uint64_t last_to;      /* and will be */
};

struct copy_source { /* the file read last */
    int file; /* -1: none */
    uint64_t number;
    enum mr_status opened;
    bool mended; /* what the other copy can give has been asked for */
};

static int by_place(const void *a, const void *b)
{
    const struct mr_log_copy *x = a;
    const struct mr_log_copy *y = b;
    return x->from < y->from ? -1 : x->from > y->from;
}

static bool grow(struct copy_group *group, size_t size)
{
    if (size <= group->capacity) {
        return true;
    }
    uint8_t *data = mr_alloc_aligned(MR_LOG_BLOCK, (size_t)mr_round_up(size, COPY_SIZE));
    if (data == NULL) {
        return false;
    }
    if (group->data != NULL) {
        memcpy(data, group->data, group->size);
    }
    mr_free(group->data);
    group->data = data;
    group->capacity = (size_t)mr_round_up(size, COPY_SIZE);
    return true;
}

static void open_source(struct mr_io *io, struct copy_source *source,
                        const struct mr_log_copy *copy)
{
    uint64_t number = mr_position_segment(copy->from);
    if (source->number == number) {
        return;
    }
    char name[MR_LOG_NAME_SIZE];
    mr_log_file_name((enum mr_log_file)copy->file, number, name);
    if (source->file >= 0) {
        io->ops->close(io, source->file);
    }
    source->number = number;
    source->mended = !mr_io_has_copy(io);
    source->file = -1;
    source->opened = io->ops->open(io, name, MR_IO_READ_ONLY, &source->file);
    if (source->opened != MR_OK) {
        source->file = -1;
    }
}

/* Bytes that the record at hand may fill: the file stays within its size, unless one record alone
 * is larger than that. */
static size_t room_of(const struct copy_group *group)
{
    size_t most = group->size_max < COPY_SIZE ? group->size_max : COPY_SIZE;
    if (group->records == 0) {
        most = group->fresh ? ((size_t)1 << MR_SEGMENT_SHIFT) - MR_LOG_BLOCK : group->size_max;
    }
    return most;
}

/* The bytes of the record of @p copy, behind what is gathered. @return MR_E_FULL: it goes into the
 * next group; MR_E_CORRUPT: it cannot be read */
static enum mr_status read_record(struct mr_io *io, struct copy_source *source,
                                  const struct mr_log_copy *copy, struct copy_group *group)
{
    open_source(io, source, copy);
    if (source->opened != MR_OK) {
        return source->opened == MR_E_NOMEM ? MR_E_NOMEM : MR_E_CORRUPT;
    }
    if (!grow(group, group->size + READ_SIZE)) {
        return MR_E_NOMEM;
    }
    const struct mr_io_ops *ops = io->ops;
    uint64_t at = mr_position_at(copy->from);
    uint8_t *to = group->data + group->size;
    size_t got = 0;
    enum mr_status r = ops->pread(io, source->file, to, READ_SIZE, at, &got);
    if (r != MR_OK || got < MR_RECORD_HEADER_SIZE ||
        mr_get_u32(to + 44) != mr_crc32c(0, to, 44)) {
        return MR_E_CORRUPT;
    }
    size_t size = mr_record_size(mr_get_u32(to));
    if (mr_round_up(group->size + size, MR_LOG_BLOCK) > room_of(group)) {
        return MR_E_FULL;
    }
    if (size > got) {
        if (!grow(group, group->size + size)) {
            return MR_E_NOMEM;
        }
        size_t more = 0;
        r = ops->pread(io, source->file, group->data + group->size + got, size - got, at + got,
                       &more);
        return r == MR_OK && more == size - got ? MR_OK : MR_E_CORRUPT;
    }
    return MR_OK;
}

static bool is_wanted(const struct mr_record *record, const struct mr_log_copy *copy)
{
    return copy->kind == MR_RECORD_DEAD
               ? record->kind == MR_RECORD_DEAD && record->offset == copy->offset &&
                     record->a == copy->subscription
               : mr_record_is_event_of(record, copy->subscription, copy->offset);
}

/* The record behind what is gathered, when it is the wanted one and whole. */
static bool decode(const struct copy_group *group, const struct mr_log_copy *copy,
                   struct mr_record *ret_record, uint32_t *ret_head_crc)
{
    return mr_record_decode(group->data + group->size, group->capacity - group->size, ret_record,
                            ret_head_crc) == MR_OK &&
           is_wanted(ret_record, copy);
}

/* Of a log that is kept twice: its file is made whole from the other copy, once.
 * @return false: there is nothing to be had from it */
static bool mend_source(struct mr_io *io, struct copy_source *source,
                        const struct mr_log_copy *copy)
{
    if (source->mended) {
        return false;
    }
    source->mended = true;
    struct mr_log_mend mend = {.of = (enum mr_log_file)copy->file, .number = source->number};
    return mr_log_mend(io, &mend, 0) == MR_OK;
}

/* One more record into the group; several deliveries may need the same. */
static enum mr_status take_record(struct mr_io *io, struct copy_source *source,
                                  struct mr_log_copy *copy, struct copy_group *group)
{
    copy->to = 0;
    if (group->records > 0 && copy->from == group->last_from) {
        copy->to = is_wanted(&group->last, copy) ? group->last_to : 0;
        return MR_OK;
    }
    uint32_t head_crc;
    struct mr_record record;
    enum mr_status r = read_record(io, source, copy, group);
    bool good = r == MR_OK && decode(group, copy, &record, &head_crc);
    if (!good && (r == MR_OK || r == MR_E_CORRUPT) && mend_source(io, source, copy)) {
        r = read_record(io, source, copy, group);
        good = r == MR_OK && decode(group, copy, &record, &head_crc);
    }
    if (!good) {
        return r == MR_E_CORRUPT ? MR_OK : r;
    }
    uint8_t le[4];
    mr_put_u32(le, head_crc);
    group->records_crc = mr_crc32c(group->records_crc, le, sizeof(le));
    group->records++;
    group->last = record;
    group->last.body = mr_bytes(NULL, 0); /* its place may move */
    group->last_from = copy->from;
    group->last_to = copy->to = group->position + group->size;
    group->size += mr_record_size(record.body.size);
    return MR_OK;
}

/* The group behind what the file holds, or behind its header, which begins it. */
static enum mr_status write_group(struct mr_io *io, struct mr_log_request *request,
                                  struct copy_group *group)
{
    bool fresh = group->fresh;
    struct mr_group_header header = {
        .salt = request->header.salt,
        .sequence = request->sequence,
        .durable = request->sequence - 1,
        .wall_ns = request->header.wall_ns,
        .size = (uint32_t)group->size,
        .padded = (uint32_t)mr_round_up(group->size, MR_LOG_BLOCK),
        .records = group->records,
        .previous_crc = request->chain,
        .records_crc = group->records_crc,
    };
    uint8_t *block = fresh ? mr_alloc_aligned(MR_LOG_BLOCK, MR_LOG_BLOCK) : NULL;
    if ((fresh && block == NULL) || !grow(group, header.padded)) {
        mr_free(block);
        return MR_E_NOMEM;
    }
    mr_group_header_encode(&header, group->data);
    memset(group->data + group->size, 0, header.padded - group->size);
    const struct mr_io_ops *ops = io->ops;
    char name[MR_LOG_NAME_SIZE];
    mr_log_file_name(MR_LOG_OF_SURVIVORS, request->number, name);
    int file = -1;
    enum mr_status r = ops->open(io, name, MR_IO_WRITE | (fresh ? MR_IO_CREATE : 0u), &file);
    if (r == MR_OK && fresh) {
        mr_segment_header_encode(&request->header, block);
        r = ops->pwrite(io, file, block, MR_LOG_BLOCK, 0);
    }
    if (r == MR_OK && MR_PLANTED(COPY_ALONE) && mr_io_has_copy(io)) {
        r = mr_io_write_copy(io, 0, name, group->data, header.padded,
                             mr_position_at(group->position));
    } else if (r == MR_OK) {
        r = ops->pwrite(io, file, group->data, header.padded, mr_position_at(group->position));
    }
    if (r == MR_OK && !MR_PLANTED(COPY_UNSYNCED)) {
        r = ops->sync(io, file);
    }
    if (file >= 0) {
        ops->close(io, file);
    }
    if (r == MR_OK && fresh) {
        r = ops->sync_dir(io);
    }
    mr_free(block);
    request->chain = header.crc;
    request->result_size = header.padded;
    if (r != MR_OK && fresh) {
        (void)ops->unlink(io, name); /* half a file is of no use; a start finds it and drops it */
    }
    return r;
}

enum mr_status mr__log_copy(struct mr_io *io, struct mr_log_request *request)
{
    if (!request->sorted) {
        qsort(request->copies, request->copy_count, sizeof(*request->copies), by_place);
        request->sorted = true;
    }
    bool fresh = request->at == 0;
    struct copy_group group = {
        .size = MR_GROUP_HEADER_SIZE,
        .size_max = request->size,
        .fresh = fresh,
        .position = mr_position(request->number, fresh ? MR_LOG_BLOCK : request->at),
    };
    struct copy_source source = {.file = -1};
    enum mr_status r = MR_OK;
    uint32_t done = 0;
    while (done < request->copy_count && done < request->copy_max) {
        r = take_record(io, &source, &request->copies[done], &group);
        if (r != MR_OK) {
            break;
        }
        done++;
    }
    if (source.file >= 0) {
        io->ops->close(io, source.file);
    }
    r = r == MR_E_FULL ? MR_OK : r;
    if (r == MR_OK && group.records > 0) {
        r = write_group(io, request, &group);
    }
    mr_free(group.data);
    request->copy_count = done;
    return r;
}
