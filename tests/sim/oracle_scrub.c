/* What the scrubber finds on a disk alone is what has rotted there, and nothing that has is passed
 * over. */
#include "oracle_internal.h"

#include <stdlib.h>

#include "bus/mend.h"
#include "core/assert.h"

/* A file as it is, and as it was written. */
struct bytes {
    uint8_t *is;
    uint8_t *was;
    size_t size;
};

static struct bytes read_both(const struct sim_world *world, const struct mr_log_request *request,
                              size_t size)
{
    struct bytes b = {.is = calloc(1, size + SIM_PAGE), .was = calloc(1, size + SIM_PAGE)};
    char name[MR_LOG_NAME_SIZE];
    int file;
    size_t got = 0;
    MR_ASSERT(b.is != NULL && b.was != NULL);
    b.size = size;
    mr_log_file_name(request->of, request->number, name);
    struct mr_io *io = &world->disk->io;
    if (io->ops->open(io, name, MR_IO_READ_ONLY, &file) == MR_OK) {
        enum mr_status r = io->ops->pread(io, file, b.is, size, 0, &got);
        MR_ASSERT(r == MR_OK);
        io->ops->close(io, file);
    }
    sim_disk_read_written(world->disk, name, b.was, size);
    return b;
}

bool oracle_group_differs(const uint8_t *was, const uint8_t *is,
                          const struct mr_group_header *group)
{
    bool differs = memcmp(was, is, MR_GROUP_HEADER_SIZE) != 0;
    for (size_t at = MR_GROUP_HEADER_SIZE; at < group->size && !differs;) {
        size_t body = mr_get_u32(was + at);
        differs = memcmp(was + at, is + at, MR_RECORD_HEADER_SIZE + body) != 0;
        at += mr_record_size(body);
    }
    return differs;
}

/* The groups of a piece up to what was found, if anything. */
static void check_passed(const struct sim_world *world, const struct mr_log_mend *mend,
                         const struct bytes *b)
{
    struct mr_segment_header header;
    struct mr_group_header group;
    uint64_t at = mend->from < MR_LOG_BLOCK ? MR_LOG_BLOCK : mend->from;
    uint64_t end = mend->bad > 0 ? mend->bad_from : mend->end;
    if (mr_segment_header_decode(b->was, &header) != MR_OK) {
        return;
    }
    while (at < end && at + MR_GROUP_HEADER_SIZE <= b->size) {
        if (mr_group_header_decode(b->was + at, header.salt, &group) != MR_OK ||
            at + group.padded > b->size) {
            at += MR_LOG_BLOCK;
            continue;
        }
        if (oracle_group_differs(b->was + at, b->is + at, &group)) {
            sim_fail(world, "the group at byte %llu of file %llu has rotted, and is passed over",
                     LLU(at), LLU(mend->number));
        }
        at += group.padded;
    }
}

static void check_piece(const struct sim_world *world, const struct mr_log_request *request)
{
    const struct mr_log_mend *mend = (const struct mr_log_mend *)(const void *)request->buf;
    struct bytes b = read_both(world, request, (size_t)mend->until);
    /* At the end of a survivor file a crash may have left what nobody refers to. */
    if (mend->bad > 0 && request->of == MR_LOG_OF_SEGMENT &&
        memcmp(b.is + mend->bad_from, b.was + mend->bad_from,
               (size_t)(mend->bad_end - mend->bad_from)) == 0) {
        sim_fail(world, "the scrubber finds byte %llu to %llu of file %llu bad, and nothing rotted",
                 LLU(mend->bad_from), LLU(mend->bad_end), LLU(mend->number));
    }
    check_passed(world, mend, &b);
    free(b.is);
    free(b.was);
}

static void check_records(const struct sim_world *world, const struct mr_log_request *request)
{
    const struct mr_log_span *spans = (const struct mr_log_span *)(const void *)request->buf;
    struct bytes b = read_both(world, request, (size_t)1 << MR_SEGMENT_SHIFT);
    for (uint32_t i = 0; i < request->spans; i++) {
        struct mr_record record;
        size_t left = spans[i].at < b.size ? b.size - (size_t)spans[i].at : 0;
        bool good = mr_record_decode(b.is + spans[i].at, left, &record, NULL) == MR_OK;
        if (good != (spans[i].size != 0)) {
            sim_fail(world, "the record at byte %llu of file %llu is %s, and judged otherwise",
                     LLU(spans[i].at), LLU(request->number), good ? "whole" : "damaged");
        }
    }
    free(b.is);
    free(b.was);
}

void oracle_scrubbed(const struct sim_world *world, const struct mr_log_request *request)
{
    if (world->disks.second != NULL || world->damaged || sim_reads_failed(world) ||
        request->result != MR_OK) {
        return;
    }
    if (request->spans > 0) {
        check_records(world, request);
    } else {
        check_piece(world, request);
    }
}
