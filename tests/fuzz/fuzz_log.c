/* Bytes of a log from anywhere: the reader ends, recovery comes up or says why not, what it took
 * conserves, and a second recovery finds the same.
 *
 * Input: files one after another, each u8 name (see names), u16 flags, u32 size, bytes. Flag 1
 * mends the checksums of headers and records, so that what stands behind them is reached too. */
#include "bus/bus.h"
#include "bus/missing.h"
#include "core/hash.h"
#include "core/logger.h"
#include "disk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FILES_MAX 8u
#define FILE_SIZE_MAX (256u * MR_KIB)

/* --- a disk that only reads ------------------------------------------------------------------- */

static const char *const names[] = {
    "checkpoint-0",         "checkpoint-1",         "free-0000000000000001",
    "seg-0000000000000001", "seg-0000000000000002", "seg-0000000000000003",
};

/* --- mending checksums ------------------------------------------------------------------------- */

static void mend_group(uint8_t *at, size_t left, uint64_t salt)
{
    uint32_t size = mr_get_u32(at + 80);
    if (size < MR_GROUP_HEADER_SIZE || size > left) {
        return;
    }
    uint32_t sum = 0;
    uint32_t records = 0;
    for (size_t here = MR_GROUP_HEADER_SIZE; here + MR_RECORD_HEADER_SIZE <= size; records++) {
        uint32_t body = mr_get_u32(at + here);
        if (body > size || here + mr_record_size(body) > size) {
            return;
        }
        mr_put_u32(at + here + 40, mr_crc32c(0, at + here + MR_RECORD_HEADER_SIZE, body));
        mr_put_u32(at + here + 44, mr_crc32c(0, at + here, 44));
        sum = mr_crc32c(sum, at + here + 44, 4);
        here += mr_record_size(body);
    }
    mr_put_u64(at + 8, salt);
    mr_put_u32(at + 88, records);
    mr_put_u32(at + 96, sum);
    mr_put_u32(at + 124, mr_crc32c(0, at, 124));
}

static void mend_segment(uint8_t *data, size_t size)
{
    if (size < MR_LOG_BLOCK) {
        return;
    }
    mr_put_u32(data + 64, mr_crc32c(0, data, 64));
    uint32_t chain = 0;
    bool first = true;
    for (size_t at = MR_LOG_BLOCK; at + MR_GROUP_HEADER_SIZE <= size; at += MR_LOG_BLOCK) {
        if (memcmp(data + at, "MRGP", 4) != 0) {
            continue;
        }
        if (!first) {
            mr_put_u32(data + at + 92, chain);
        }
        mend_group(data + at, size - at, mr_get_u64(data + 40));
        chain = mr_get_u32(data + at + 124);
        first = false;
    }
}

/* Each begins on a block; what stands in one is not moved, so that its sections are reached. */
static void mend_chunks(uint8_t *data, size_t size)
{
    mr_put_u32(data + 72, mr_crc32c(0, data + 64, 8));
    for (size_t at = MR_LOG_BLOCK; at + 64 <= size; at += MR_LOG_BLOCK) {
        uint8_t *head = data + at;
        size_t n = mr_get_u32(head + 4);
        if (memcmp(head, "MRCC", 4) == 0 && n >= 64 && n <= size - at) {
            memcpy(head + 8, data + 64, 8);
            memcpy(head + 16, data + 24, 8);
            mr_put_u32(head + 32, mr_crc32c(0, head + 64, n - 64));
            mr_put_u32(head + 60, mr_crc32c(0, head, 60));
        }
    }
}

static void mend_checkpoint(uint8_t *data, size_t size)
{
    if (size >= MR_LOG_BLOCK && mr_get_u32(data + 8) > 4) {
        mend_chunks(data, size);
        mr_put_u32(data + 60, mr_crc32c(0, data, 60));
    } else if (size >= 64) {
        mr_put_u64(data + 48, size);
        mr_put_u32(data + 12, mr_crc32c(0, data + 64, size - 64));
        mr_put_u32(data + 60, mr_crc32c(0, data, 60));
    }
}

/* --- recovery ------------------------------------------------------------------------------------ */

static void no_io(void *context, struct mr_log_request *request)
{
    (void)context;
    (void)request;
    MR_ASSERT(!"recovery asks for nothing");
}

static void no_slow(void *context, bool slow)
{
    (void)context;
    (void)slow;
}

static void no_alarm(void *context, const char *text)
{
    (void)context;
    MR_ASSERT(text[0] != '\0');
}

static bool recover(struct disk *disk, uint64_t *ret_hash)
{
    const struct mr_bus_ports ports = {.io = no_io, .slow = no_slow, .alarm = no_alarm};
    const struct mr_bus_options options = {
        .log = {.segment_size = 64 * MR_KIB, .max_size = 1ull << 40, .cache_size = MR_MIB},
        .memory_state = 64 * MR_MIB,
        .seed = 1,
    };
    const struct mr_now now = {.mono_ns = 1, .wall_ns = 1760000000 * MR_SECOND, .boot_id = 1};
    struct mr_bus *bus;
    struct mr_bus_opened opened;
    struct mr_problem problem = {{0}};
    enum mr_status r = mr_bus_open(&disk->io, &options, &ports, now, &bus, &opened, &problem);
    if (r != MR_OK) {
        MR_ASSERT(problem.text[0] != '\0');
        return false;
    }
    *ret_hash = mr_bus_state_hash(bus);
    mr_bus_destroy(bus);
    return true;
}

static void count_missing(void *context, const struct mr_missing *missing)
{
    MR_ASSERT(missing->count > 0 && missing->first <= missing->last);
    (*(uint64_t *)context)++;
}

static void read_groups(struct disk *disk)
{
    struct mr_log_index index;
    struct mr_log_reader *reader;
    if (mr_log_index(&disk->io, &index, NULL) != MR_OK) {
        return;
    }
    uint64_t missing = 0;
    enum mr_status r = mr_missing_heed(&disk->io, &index);
    MR_ASSERT(r == MR_OK);
    r = mr_missing_tell(&disk->io, &index, count_missing, &missing);
    MR_ASSERT(r == MR_OK);
    r = mr_log_reader_create(&disk->io, &index, 0, 0, 0, 0, &reader);
    MR_ASSERT(r == MR_OK);
    struct mr_log_group group;
    unsigned turns = 0;
    while (mr_log_reader_next(reader, &group) == MR_OK) {
        MR_ASSERT(++turns < FILES_MAX * FILE_SIZE_MAX / MR_LOG_BLOCK);
        uint32_t at = 0;
        uint64_t position;
        struct mr_record record;
        while (mr_log_next_record(&group, &at, &position, &record)) {
            struct mr_result result;
            r = mr_result_decode(record.body, &result, NULL);
            MR_ASSERT(r == MR_OK || r == MR_E_CORRUPT);
        }
    }
    mr_log_reader_destroy(reader);
    mr_log_index_release(&index);
}

static size_t take_file(struct disk *disk, const uint8_t *data, size_t size)
{
    if (size < 7) {
        return size;
    }
    uint8_t name = data[0] % MR_ARRAY_COUNT(names);
    bool mend = (data[1] & 1) != 0;
    size_t n = mr_get_u32(data + 3);
    n = n < size - 7 ? n : size - 7;
    n = n < FILE_SIZE_MAX ? n : FILE_SIZE_MAX;
    disk_set(disk, name, data + 7, n);
    const struct file *f = &disk->files[name];
    if (mend && name < 2) {
        mend_checkpoint(f->data, n);
    } else if (mend) {
        mend_segment(f->data, n);
    }
    return 7 + n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct disk disk = {
        .io = {.ops = &disk_ops}, .names = names, .count = MR_ARRAY_COUNT(names)};
    mr_logger_set_fd(-1);
    for (unsigned i = 0; i < FILES_MAX && size > 0; i++) {
        size_t taken = take_file(&disk, data, size);
        data += taken;
        size -= taken;
    }
    read_groups(&disk);
    uint64_t first;
    uint64_t second;
    if (recover(&disk, &first)) {
        bool again = recover(&disk, &second);
        MR_ASSERT(again);
        MR_ASSERT(first == second);
    }
    disk_release(&disk);
    return 0;
}
