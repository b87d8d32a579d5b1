#include "bus/logdisk.h"

#include "bus/planted.h"
#include "core/alloc.h"

#define ZERO_CHUNK (1u * MR_MIB)

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
    } else {
        r = io->ops->open(io, name, MR_IO_WRITE | MR_IO_CREATE | MR_IO_DIRECT, &file);
        if (r == MR_OK) {
            r = zero_fill(io, file, request->header.size);
            if (r == MR_OK) {
                r = io->ops->sync(io, file);
            }
            io->ops->close(io, file);
            if (r != MR_OK) {
                (void)io->ops->unlink(io, name); /* half a file is of no use; recovery skips it */
            }
        }
    }
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

static enum mr_status read_segment(struct mr_io *io, struct mr_log_request *request)
{
    char name[MR_LOG_NAME_SIZE];
    mr_segment_name(request->number, name);
    int file;
    enum mr_status r = io->ops->open(io, name, MR_IO_READ_ONLY, &file);
    if (r == MR_OK) {
        r = io->ops->pread(io, file, request->buf, request->size, request->at,
                           &request->result_size);
        io->ops->close(io, file);
    }
    return r;
}

static enum mr_status write_checkpoint(struct mr_io *io, const struct mr_log_request *request)
{
    const char *name = request->number == 0 ? "checkpoint-0" : "checkpoint-1";
    int file;
    enum mr_status r = io->ops->open(io, name, MR_IO_WRITE | MR_IO_CREATE, &file);
    if (r != MR_OK) {
        return r;
    }
    r = io->ops->pwrite(io, file, request->buf, request->size, 0);
    if (r == MR_OK) {
        r = io->ops->truncate(io, file, request->size);
    }
    if (r == MR_OK) {
        r = io->ops->sync(io, file);
    }
    io->ops->close(io, file);
    return r == MR_OK ? io->ops->sync_dir(io) : r;
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
    mr_segment_name(request->number, name);
    mr_free_name(request->from, spare);
    enum mr_status r =
        request->keep ? io->ops->rename(io, name, spare) : io->ops->unlink(io, name);
    return r == MR_OK ? io->ops->sync_dir(io) : r;
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
        request->result = read_segment(io, request);
        break;
    case MR_LOG_CHECKPOINT:
        request->result = write_checkpoint(io, request);
        break;
    case MR_LOG_SEAL:
        request->result = seal(io, request);
        break;
    case MR_LOG_RETIRE:
        request->result = retire(io, request);
        break;
    }
}
