/* Looking for an event in a log of many sealed segments, as `millrace trace` does: by its id, then
 * what became of it; and for an id that is in none of them.
 *
 * 100 GB are 1,600 segments of 64 MiB. The segments made here have the same number and footers made
 * by the same code from real groups, but are smaller, and all but every 50th are emptied once their
 * footer is there (holes of the same size): what looking reads of them is their footers. What it
 * costs to read the segment that is being written is not in it. Prints JSON lines
 * {"name","value","unit"}.
 *
 *     bench_trace FOLDER [SEGMENTS [MIB]] */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "admin/history.h"
#include "bus/footer_ids.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "core/hash.h"
#include "schemas/event.h"

#define LOG_ID 9u
#define DATA_SIZE 900u /* with its attributes about 1 KiB */
#define PER_GROUP 64u
#define KEPT_EACH 50u
#define ROUNDS 200u

struct maker {
    const char *folder;
    struct mr_io *io;
    uint64_t size; /* of a segment */
    uint64_t offset;
    uint64_t sequence;
    uint32_t crc;
    uint64_t footer_bytes;
    uint64_t bytes;
    uint8_t *data;
};

static void die(const char *what)
{
    fprintf(stderr, "bench_trace: %s\n", what);
    exit(1);
}

static void must(enum mr_status r, const char *what)
{
    if (r != MR_OK) {
        die(what);
    }
}

static uint64_t salt_of(uint64_t segment)
{
    return 0x1234567890abcdefull * (segment + 1);
}

static struct mr_bytes id_of(char text[32], uint64_t offset)
{
    return mr_bytes(text, (size_t)snprintf(text, 32, "event-%" PRIu64, offset)); /* always fits */
}

static void put_record(uint8_t *group, struct mr_group_header *header,
                       const struct mr_record *record)
{
    uint8_t le[4];
    mr_put_u32(le, mr_record_encode(record, group + header->size));
    header->records_crc = mr_crc32c(header->records_crc, le, sizeof(le));
    header->records++;
    header->size += (uint32_t)mr_record_size(record->body.size);
}

static void put_event(struct maker *m, uint8_t *group, struct mr_group_header *header)
{
    static const uint8_t zeros[DATA_SIZE];
    char text[32];
    struct mr_event_builder builder;
    mr_event_builder_init(&builder, MR_EVENT_SIZE_MAX);
    const struct {
        const char *name;
        struct mr_bytes value;
    } attrs[] = {{"id", id_of(text, m->offset)},
                 {"source", mr_bytes_of("/bench")},
                 {"type", mr_bytes_of("order.new")}};
    for (size_t i = 0; i < MR_ARRAY_COUNT(attrs); i++) {
        must(mr_event_builder_attr(&builder, mr_bytes_of(attrs[i].name), MR_ATTR_STRING,
                                   attrs[i].value, NULL),
             "attribute");
    }
    mr_event_builder_data(&builder, mr_bytes(zeros, sizeof(zeros)), false);
    struct mr_event *event;
    must(mr_event_builder_finish(&builder, true, &event, NULL), "event");
    uint8_t entry[MR_MATCH_ENTRY_SIZE] = {0};
    struct mr_record records[] = {
        {.kind = MR_RECORD_EVENT, .offset = m->offset, .body = mr_event_record(event)},
        {.kind = MR_RECORD_MATCH,
         .offset = m->offset,
         .a = 1,
         .body = mr_bytes(entry, sizeof(entry))},
        {.kind = MR_RECORD_SETTLE, .offset = m->offset > PER_GROUP ? m->offset - PER_GROUP : 1},
        /* One of a hundred waited long. */
        {.kind = MR_RECORD_SETTLE, .offset = m->offset / 2 + 1},
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(records) - (m->offset % 100 != 0); i++) {
        put_record(group, header, &records[i]);
    }
    mr_event_unref(event);
    m->offset++;
}

static uint64_t fill_segment(struct maker *m, uint64_t number)
{
    struct mr_segment_header segment = {
        .number = number, .size = m->size, .salt = salt_of(number), .log_id = LOG_ID};
    memset(m->data, 0, m->size);
    mr_segment_header_encode(&segment, m->data);
    uint64_t at = MR_LOG_BLOCK;
    while (at + (uint64_t)PER_GROUP * 2 * MR_KIB <= m->size) {
        struct mr_group_header header = {.salt = salt_of(number),
                                         .sequence = ++m->sequence,
                                         .durable = m->sequence - 1,
                                         .previous_crc = m->crc,
                                         .first_offset = m->offset,
                                         .wall_ns = m->sequence * MR_MS,
                                         .log_ns = m->sequence * MR_MS,
                                         .size = MR_GROUP_HEADER_SIZE};
        for (uint32_t i = 0; i < PER_GROUP; i++) {
            put_event(m, m->data + at, &header);
        }
        header.next_offset = m->offset;
        header.padded = (uint32_t)mr_round_up(header.size, MR_LOG_BLOCK);
        mr_group_header_encode(&header, m->data + at);
        m->crc = header.crc;
        at += header.padded;
    }
    return at;
}

static void make_segment(struct maker *m, uint64_t number)
{
    char name[MR_LOG_NAME_SIZE];
    int file;
    uint64_t used = fill_segment(m, number);
    mr_segment_name(number, name);
    must(m->io->ops->open(m->io, name, MR_IO_WRITE | MR_IO_CREATE, &file), "segment");
    must(m->io->ops->pwrite(m->io, file, m->data, m->size, 0), "segment");
    must(mr_footer_build(m->io, number, salt_of(number), used), "footer");
    if (number % KEPT_EACH != 0) {
        must(m->io->ops->truncate(m->io, file, MR_LOG_BLOCK), "hole");
        must(m->io->ops->truncate(m->io, file, m->size), "hole");
    }
    m->io->ops->close(m->io, file);
    mr_footer_name(number, name);
    uint64_t size = 0;
    must(m->io->ops->open(m->io, name, MR_IO_READ_ONLY, &file), "footer");
    must(m->io->ops->size(m->io, file, &size), "footer");
    m->io->ops->close(m->io, file);
    m->footer_bytes += size;
    m->bytes += used;
}

static void make_ids(struct maker *m, uint64_t segments)
{
    for (uint64_t group = 0; group * MR_FOOTER_GROUP <= segments; group++) {
        uint64_t salts[MR_FOOTER_GROUP] = {0};
        uint64_t wanted = 0;
        for (uint64_t i = 0; i < MR_FOOTER_GROUP; i++) {
            uint64_t number = group * MR_FOOTER_GROUP + i;
            if (number >= 1 && number <= segments) {
                salts[i] = salt_of(number);
                wanted |= 1ull << i;
            }
        }
        must(mr_footer_ids_build(m->io, group, LOG_ID, wanted, salts), "ids");
    }
}

/* --- looking ---------------------------------------------------------------------------------- */

static bool count_record(void *context, const struct mr_history_record *seen)
{
    (void)seen;
    ++*(uint64_t *)context;
    return true;
}

/* Milliseconds until event @p offset was found and followed. */
static double look(struct mr_history_index *index, uint64_t end, uint64_t offset)
{
    struct mr_history history;
    struct mr_history_record found;
    struct mr_buf body;
    char text[32];
    uint64_t records = 0;
    mr_buf_init(&body, MR_MIB);
    uint64_t from_ns = mr_clock_mono_ns();
    must(mr_history_open(index, end, &history, NULL), "open");
    must(mr_history_find(&history, id_of(text, offset), 0, &body, &found), "find");
    must(mr_history_follow(&history, mr_position_segment(found.position), offset, count_record,
                           &records),
         "follow");
    double ms = (double)(mr_clock_mono_ns() - from_ns) / 1e6;
    mr_history_release(&history);
    mr_buf_release(&body);
    if (found.record.offset != offset || records == 0) {
        die("another event");
    }
    return ms;
}

/* Milliseconds until it was clear that no event has such an id. */
static double look_in_vain(struct mr_history_index *index, uint64_t end, uint64_t n)
{
    struct mr_history history;
    struct mr_history_record found;
    struct mr_buf body;
    char text[32];
    mr_buf_init(&body, MR_MIB);
    uint64_t from_ns = mr_clock_mono_ns();
    must(mr_history_open(index, end, &history, NULL), "open");
    if (mr_history_find(&history, id_of(text, UINT64_MAX - n), 0, &body, &found) !=
        MR_E_NOT_FOUND) {
        die("an event that is none");
    }
    double ms = (double)(mr_clock_mono_ns() - from_ns) / 1e6;
    mr_history_release(&history);
    mr_buf_release(&body);
    return ms;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static void say(const char *name, double value, const char *unit)
{
    printf("{\"name\":\"%s\",\"value\":%.3f,\"unit\":\"%s\"}\n", name, value, unit);
}

/* Forgets what is in memory of the files. Without the right to, cold figures are left out. */
static bool drop_caches(void)
{
    sync();
    int file = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);
    bool dropped = file >= 0 && write(file, "3", 1) == 1;
    if (file >= 0) {
        (void)close(file);
    }
    return dropped;
}

static void measure(const struct maker *m, uint64_t segments, uint64_t per_segment)
{
    struct mr_history_index *index;
    uint64_t end = mr_position(segments + 1, MR_LOG_BLOCK);
    uint64_t oldest = (KEPT_EACH - 1) * per_segment + per_segment / 2;
    double times[ROUNDS];
    must(mr_history_index_create(m->folder, NULL, &index), "index");
    if (drop_caches()) {
        say("trace_first_ms", look(index, end, oldest), "ms"); /* reads every header */
        for (uint32_t i = 0; i < 9 && drop_caches(); i++) {
            times[i] = look(index, end, oldest + 1 + (uint64_t)i * 1000 % (per_segment / 2));
        }
        qsort(times, 9, sizeof(times[0]), by_value);
        say("trace_cold_ms", times[4], "ms");
        for (uint32_t i = 0; i < 9 && drop_caches(); i++) {
            times[i] = look_in_vain(index, end, i);
        }
        qsort(times, 9, sizeof(times[0]), by_value);
        say("find_id_cold_ms", times[4], "ms");
    }
    for (uint32_t i = 0; i < ROUNDS; i++) {
        uint64_t kept = KEPT_EACH * (1 + i % (segments / KEPT_EACH)) - 1;
        times[i] = look(index, end, kept * per_segment + 1 + i * 13 % per_segment);
    }
    qsort(times, ROUNDS, sizeof(times[0]), by_value);
    say("trace_ms", times[ROUNDS / 2], "ms");
    say("trace_p99_ms", times[ROUNDS * 99 / 100], "ms");
    for (uint32_t i = 0; i < ROUNDS; i++) {
        times[i] = look_in_vain(index, end, i);
    }
    qsort(times, ROUNDS, sizeof(times[0]), by_value);
    say("find_id_ms", times[ROUNDS / 2], "ms");
    mr_history_index_destroy(index);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        die("FOLDER [SEGMENTS [MIB]]");
    }
    uint64_t segments = argc > 2 ? strtoull(argv[2], NULL, 10) : 1600;
    struct maker m = {.folder = argv[1],
                      .size = (argc > 3 ? strtoull(argv[3], NULL, 10) : 4) * MR_MIB,
                      .offset = 1};
    m.data = malloc(m.size);
    if (segments < KEPT_EACH || m.size < MR_MIB || m.size > MR_SEGMENT_SIZE_MAX || m.data == NULL) {
        die("wants at least 50 segments of 1 to 64 MiB");
    }
    must(mr_io_create(m.folder, true, false, &m.io), "folder");
    for (uint64_t number = 1; number <= segments; number++) {
        make_segment(&m, number);
    }
    make_ids(&m, segments);
    say("footers_percent", 100.0 * (double)m.footer_bytes / (double)m.bytes, "%");
    measure(&m, segments, (m.offset - 1) / segments);
    m.io->ops->destroy(m.io);
    free(m.data);
    return 0;
}
