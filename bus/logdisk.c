#include "bus/logdisk.h"

#include "bus/footer_ids.h"
#include "bus/mend.h"
#include "bus/planted.h"
#include "core/alloc.h"
#include "core/assert.h"
#include "core/hash.h"

#define ZERO_CHUNK (1u * MR_MIB)
#define SCRUB_TRIES 3u

static enum mr_status zero_fill(struct mr_io *io, int file, uint64_t size)
{
    size_t chunk = size < ZERO_CHUNK ? (size_t)size : ZERO_CHUNK;
    uint8_t *zeros = mr_alloc_aligned(MR_LOG_BLOCK, chunk);
    if (zeros == NULL) {
        return MR_E_NOMEM;
    }
    memset(zeros, 0, chunk);
    enum mr_status r = MR_OK;
    for (uint64_t at = 0; at < size && r == MR_OK; at += chunk) {
        size_t n = size - at < chunk ? (size_t)(size - at) : chunk;
        r = io->ops->pwrite(io, file, zeros, n, at);
    }
    mr_free(zeros);
    return r;
}

/* Makes file @p name, which may be there, as large as @p size, all of it written: nothing is
 * allocated any more when the log writes to it. One that is large enough was made so before. */
static enum mr_status fill_up(struct mr_io *io, const char *name, uint64_t size)
{
    int file;
    uint64_t have = 0;
    enum mr_status r =
        io->ops->open(io, name, MR_IO_WRITE | MR_IO_CREATE | MR_IO_DIRECT, &file);
    if (r != MR_OK) {
        return r;
    }
    r = io->ops->size(io, file, &have);
    if (r == MR_OK && have < size) {
        r = zero_fill(io, file, size);
        r = r == MR_OK ? io->ops->sync(io, file) : r;
    }
    io->ops->close(io, file);
    if (r != MR_OK) {
        (void)io->ops->unlink(io, name); /* half a file is of no use; recovery skips it */
    }
    return r;
}

static enum mr_status make_spare(struct mr_io *io, const struct mr_log_request *request)
{
    char name[MR_LOG_NAME_SIZE];
    mr_free_name(request->from, name);
    enum mr_status r = fill_up(io, name, request->header.size);
    return r == MR_OK ? io->ops->sync_dir(io) : r;
}

/* Steps: 1 get a file of the right size whose blocks are written, under its spare or new name;
 * 2 give it its segment's name; 3 write the header that makes it this segment; 4 sync file and
 * directory. Until 3 is durable a reader sees a file whose header is of no or another segment and
 * leaves it alone. */
static enum mr_status prepare(struct mr_io *io, struct mr_log_request *request)
{
    char name[MR_LOG_NAME_SIZE];
    char spare[MR_LOG_NAME_SIZE];
    mr_segment_name(request->number, name);
    enum mr_status r = MR_OK;
    int file = -1;
    uint8_t *block = mr_alloc_aligned(MR_LOG_BLOCK, MR_LOG_BLOCK);
    if (block == NULL) {
        return MR_E_NOMEM; /* before any file is touched */
    }
    if (request->has_from) {
        mr_free_name(request->from, spare);
        r = io->ops->rename(io, spare, name);
    }
    r = r == MR_OK ? fill_up(io, name, request->header.size) : r;
    if (r != MR_OK) {
        mr_free(block);
        return r;
    }
    mr_segment_header_encode(&request->header, block);
    r = io->ops->open(io, name, MR_IO_WRITE | (request->durable ? MR_IO_DURABLE : MR_IO_DIRECT),
                      &file);
    if (r == MR_OK) {
        r = io->ops->pwrite(io, file, block, MR_LOG_BLOCK, 0);
        if (r == MR_OK) {
            r = io->ops->sync(io, file);
        }
        if (r == MR_OK) {
            r = MR_PLANTED(NAME_UNSYNCED) ? MR_OK : io->ops->sync_dir(io);
        }
        if (r != MR_OK) {
            io->ops->close(io, file);
        }
    }
    mr_free(block);
    if (r == MR_OK) {
        request->file = file;
    }
    return r;
}

/* All of them are announced first, so that the disk works at all while the first is waited for. */
static enum mr_status read_spans(struct mr_io *io, int file, struct mr_log_request *request)
{
    struct mr_log_span *spans = (struct mr_log_span *)(void *)request->buf;
    for (uint32_t i = 0; i < request->spans && io->ops->will_need != NULL; i++) {
        io->ops->will_need(io, file, spans[i].at, spans[i].size);
    }
    enum mr_status r = MR_OK;
    size_t to = request->spans * sizeof(spans[0]);
    for (uint32_t i = 0; i < request->spans && r == MR_OK; i++) {
        size_t got = 0;
        MR_ASSERT(to + spans[i].size <= request->size);
        r = io->ops->pread(io, file, request->buf + to, spans[i].size, spans[i].at, &got);
        if (r == MR_OK && got < spans[i].size) {
            r = MR_E_CORRUPT; /* the file ends before */
        }
        to += spans[i].size;
    }
    request->result_size = to;
    return r;
}

static enum mr_status read_once(struct mr_io *io, struct mr_log_request *request)
{
    char name[MR_LOG_NAME_SIZE];
    mr_log_file_name(request->of, request->number, name);
    int file;
    enum mr_status r = io->ops->open(io, name, MR_IO_READ_ONLY, &file);
    if (r != MR_OK) {
        return r;
    }
    if (request->spans > 0) {
        r = read_spans(io, file, request);
    } else {
        r = io->ops->pread(io, file, request->buf, request->size, request->at,
                           &request->result_size);
    }
    io->ops->close(io, file);
    return r;
}

/* Whether what was read of a segment, up to where its groups end, is not damaged. */
static bool is_whole(const struct mr_log_request *request)
{
    uint64_t used = request->header.size;
    uint64_t salt = request->header.salt;
    if (request->spans == 0) {
        uint64_t left = used > request->at ? used - request->at : 0;
        size_t size = left < request->size ? (size_t)left : request->size;
        return request->result_size >= size &&
               mr_log_bytes_are_whole(request->buf, size, request->at, salt);
    }
    const struct mr_log_span *spans = (const struct mr_log_span *)(const void *)request->buf;
    size_t at = request->spans * sizeof(spans[0]);
    bool whole = true;
    for (uint32_t i = 0; i < request->spans && whole; i++) {
        whole = mr_log_bytes_are_whole(request->buf + at, (size_t)spans[i].size, spans[i].at, salt);
        at += (size_t)spans[i].size;
    }
    return whole;
}

/* Of a log that is kept twice, what is damaged in the one copy is repaired from the other before
 * anybody sees it. */
static enum mr_status read_file(struct mr_io *io, struct mr_log_request *request)
{
    enum mr_status r = read_once(io, request);
    if (request->of == MR_LOG_OF_FOOTER || !mr_io_has_copy(io) || MR_PLANTED(LOST_UNASKED) ||
        request->header.size == 0 || (r == MR_OK && is_whole(request))) {
        return r;
    }
    struct mr_log_mend mend = {
        .of = request->of, .number = request->number, .until = request->header.size};
    if (request->spans == 0 && request->at + request->size < mend.until) {
        mend.until = request->at + request->size;
    }
    enum mr_status mended = mr_log_mend(io, &mend, 0);
    return mended == MR_OK ? read_once(io, request) : r; /* or another thread has mended it */
}

static enum mr_status write_checkpoint(struct mr_io *io, const struct mr_log_request *request)
{
    const char *name = request->number == 0 ? "checkpoint-0" : "checkpoint-1";
    int file;
    enum mr_status r = io->ops->open(io, name, MR_IO_WRITE | MR_IO_CREATE, &file);
    if (r != MR_OK) {
        return r;
    }
    bool is_head = request->file_size > 0;
    if (is_head) {
        r = io->ops->truncate(io, file, request->file_size);
        r = r == MR_OK ? io->ops->sync(io, file) : r;
    }
    r = r == MR_OK ? io->ops->pwrite(io, file, request->buf, request->size, request->at) : r;
    if (r == MR_OK && is_head) {
        r = io->ops->sync(io, file);
    }
    io->ops->close(io, file);
    return r == MR_OK && is_head ? io->ops->sync_dir(io) : r;
}

static enum mr_status seal(struct mr_io *io, const struct mr_log_request *request)
{
    enum mr_status r = MR_OK;
    if (request->size > 0) {
        r = io->ops->truncate(io, request->file, request->size);
    }
    if (r == MR_OK && (request->size > 0 || !request->durable)) {
        r = io->ops->sync(io, request->file);
    }
    io->ops->close(io, request->file);
    return r;
}

static enum mr_status retire(struct mr_io *io, const struct mr_log_request *request)
{
    char name[MR_LOG_NAME_SIZE];
    char spare[MR_LOG_NAME_SIZE];
    mr_log_file_name(request->of, request->number, name);
    mr_free_name(request->from, spare);
    if (request->footed && !MR_PLANTED(FOOTER_OUTLIVES)) {
        char footer[MR_LOG_NAME_SIZE];
        mr_footer_name(request->number, footer);
        (void)io->ops->unlink(io, footer); /* left over it is nobody's: a start removes it */
    }
    if (request->last && !MR_PLANTED(FOOTER_OUTLIVES)) {
        char ids[MR_LOG_NAME_SIZE];
        mr_footer_ids_name(request->number / MR_FOOTER_GROUP, ids);
        (void)io->ops->unlink(io, ids); /* likewise */
    }
    enum mr_status r =
        request->keep ? io->ops->rename(io, name, spare) : io->ops->unlink(io, name);
    return r == MR_OK ? io->ops->sync_dir(io) : r;
}

/* A footer of an earlier process may be torn, or of fewer bytes: a crash can take back what was
 * written without a sync. */
static enum mr_status foot(struct mr_io *io, const struct mr_log_request *request)
{
    struct mr_footer_head head;
    enum mr_status r = mr_footer_check(io, request->number, request->header.salt, &head);
    if (r == MR_OK && head.used == request->size) {
        return MR_OK;
    }
    if (mr_io_has_copy(io)) { /* of what was read from neither it says nothing */
        struct mr_log_mend mend = {.number = request->number, .until = request->size};
        enum mr_status mended = mr_log_mend(io, &mend, 0);
        (void)mended; /* it is built from what there is */
    }
    return mr_footer_build(io, request->number, request->header.salt, request->size);
}

static enum mr_status build_ids(struct mr_io *io, const struct mr_log_request *request)
{
    uint64_t salts[MR_FOOTER_GROUP];
    for (size_t i = 0; i < MR_FOOTER_GROUP; i++) {
        salts[i] = mr_get_u64(request->buf + i * 8);
    }
    return mr_footer_ids_build(io, request->number, request->header.log_id, request->from, salts);
}

/* A disk that gives back other bytes when asked again has them. */
static enum mr_status scrub_piece(struct mr_io *io, struct mr_log_request *request)
{
    struct mr_log_mend *mend = (struct mr_log_mend *)(void *)request->buf;
    const struct mr_log_mend wanted = *mend;
    enum mr_status r = MR_E_IO;
    for (unsigned i = 0; i < SCRUB_TRIES; i++) {
        *mend = wanted;
        r = mr_log_mend(io, mend, request->size);
        if (r == MR_OK && mend->bad == 0) {
            break;
        }
    }
    if (r == MR_E_NOT_FOUND) { /* nothing says what its groups are: each record for itself */
        mend->bad = 1;
        mend->bad_end = mend->end = mend->until;
        r = MR_OK;
    }
    return r;
}

static bool record_is_whole(struct mr_io *io, int file, const struct mr_log_span *span)
{
    uint8_t head[MR_RECORD_HEADER_SIZE];
    struct mr_record record;
    size_t got = 0;
    bool whole = false;
    for (unsigned i = 0; i < SCRUB_TRIES && !whole; i++) {
        enum mr_status r = io->ops->pread(io, file, head, sizeof(head), span->at, &got);
        size_t size = r == MR_OK && got == sizeof(head) ? mr_record_size_at(head) : 0;
        if (size == 0 || (MR_PLANTED(JUDGED_UNMENDED) &&
                          mr_get_u32(head + 44) != mr_crc32c(0, head, 44))) {
            continue;
        }
        uint8_t *data = mr_alloc(size);
        whole = data == NULL || /* nothing is known of it */
                (io->ops->pread(io, file, data, size, span->at, &got) == MR_OK && got == size &&
                 mr_record_decode(data, got, &record, NULL) == MR_OK);
        mr_free(data);
    }
    return whole;
}

static enum mr_status scrub_records(struct mr_io *io, const struct mr_log_request *request)
{
    struct mr_log_span *spans = (struct mr_log_span *)(void *)request->buf;
    char name[MR_LOG_NAME_SIZE];
    int file;
    mr_log_file_name(request->of, request->number, name);
    enum mr_status r = io->ops->open(io, name, MR_IO_READ_ONLY, &file);
    if (r != MR_OK) {
        return r;
    }
    for (uint32_t i = 0; i < request->spans; i++) {
        if (!record_is_whole(io, file, &spans[i])) {
            spans[i].size = 0;
        }
    }
    io->ops->close(io, file);
    return MR_OK;
}

void mr_log_perform(struct mr_io *io, struct mr_log_request *request)
{
    switch (request->kind) {
    case MR_LOG_WRITE:
        request->result =
            io->ops->pwrite(io, request->file, request->buf, request->size, request->at);
        break;
    case MR_LOG_SYNC:
        request->result = io->ops->sync(io, request->file);
        break;
    case MR_LOG_PREPARE:
        request->result = prepare(io, request);
        break;
    case MR_LOG_READ:
        request->result = read_file(io, request);
        break;
    case MR_LOG_CHECKPOINT:
        request->result = write_checkpoint(io, request);
        break;
    case MR_LOG_SEAL:
        request->result = seal(io, request);
        break;
    case MR_LOG_SPARE:
        request->result = make_spare(io, request);
        break;
    case MR_LOG_COPY:
        request->result = mr__log_copy(io, request);
        break;
    case MR_LOG_RETIRE:
        request->result = retire(io, request);
        break;
    case MR_LOG_FOOTER:
        request->result = foot(io, request);
        break;
    case MR_LOG_IDS:
        request->result = build_ids(io, request);
        break;
    case MR_LOG_SCRUB:
        request->result =
            request->spans > 0 ? scrub_records(io, request) : scrub_piece(io, request);
        break;
    }
}
