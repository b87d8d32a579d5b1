/* The past read with footers and without: the same answers, whatever the footers are like. */
#include "tests/support/test.h"

#include "admin/history.h"
#include "core/alloc.h"
#include "core/hash.h"
#include "core/rng.h"
#include "schemas/event.h"
#include "tests/support/logfolder.h"

#define SEGMENTS 7u
#define SEGMENT_SIZE (128u * MR_KIB)
#define FIRST_OFFSET 1000u

struct fixture {
    struct log_folder folder;
    struct mr_io *io; /* of the folder */
    struct mr_history_index *index;
    struct mr_rng random;
    uint64_t offset;
    uint64_t sequence;
    uint32_t crc;
    uint64_t used[SEGMENTS + 1];
    enum { UNSKETCHED, SKETCHED, SKETCHED_BADLY } sketches; /* what the bus says of its groups */
    uint32_t whole; /* segments that were read whole */
    uint8_t data[SEGMENT_SIZE];
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    log_folder_make(&f->folder, "history");
    f->io = f->folder.io;
    assert_int_equal(mr_history_index_create(f->folder.path, NULL, &f->index), MR_OK);
    mr_rng_init(&f->random, 7);
    f->offset = FIRST_OFFSET;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    log_folder_remove(&f->folder);
    mr_history_index_destroy(f->index);
    free(f);
    return 0;
}

/* --- a log ------------------------------------------------------------------------------------ */

static uint64_t salt_of(uint64_t segment)
{
    return 0x1234567890abcdefull + segment;
}

static struct mr_bytes id_of(char text[32], uint64_t offset)
{
    /* Some ids come again, soon or much later. */
    uint64_t n = offset % 10 == 3 ? offset % 100 : offset;
    return mr_bytes(text, (size_t)snprintf(text, 32, "event-%llu", (unsigned long long)n));
}

static struct mr_event *make_event(uint64_t offset)
{
    char text[32];
    static const uint8_t zeros[600];
    struct mr_event_builder builder;
    mr_event_builder_init(&builder, MR_EVENT_SIZE_MAX);
    struct {
        const char *name;
        struct mr_bytes value;
    } attrs[] = {{"id", id_of(text, offset)}, {"source", mr_bytes_of("/a")},
                 {"type", mr_bytes_of("t")}};
    for (size_t i = 0; i < MR_ARRAY_COUNT(attrs); i++) {
        assert_int_equal(mr_event_builder_attr(&builder, mr_bytes_of(attrs[i].name),
                                               MR_ATTR_STRING, attrs[i].value, NULL),
                         MR_OK);
    }
    mr_event_builder_data(&builder, mr_bytes(zeros, offset % sizeof(zeros)), false);
    struct mr_event *event;
    assert_int_equal(mr_event_builder_finish(&builder, true, &event, NULL), MR_OK);
    return event;
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

static uint64_t earlier(struct fixture *f)
{
    uint64_t back = mr_rng_below(&f->random, 20) == 0 ? f->offset - FIRST_OFFSET : 40;
    uint64_t offset = f->offset - mr_rng_below(&f->random, back + 1);
    return offset < FIRST_OFFSET ? FIRST_OFFSET : offset;
}

static void put_event(struct fixture *f, uint8_t *group, struct mr_group_header *header)
{
    struct mr_event *event = make_event(f->offset);
    struct mr_record record = {.kind = MR_RECORD_EVENT,
                               .offset = f->offset,
                               .d = f->offset % 7 == 0 ? earlier(f) : 0,
                               .body = mr_event_record(event)};
    put_record(group, header, &record);
    uint8_t entry[MR_MATCH_ENTRY_SIZE] = {0};
    struct mr_record match = {.kind = MR_RECORD_MATCH, .offset = f->offset, .a = 1,
                              .body = mr_bytes(entry, sizeof(entry))};
    put_record(group, header, &match);
    mr_event_unref(event);
    f->offset++;
}

static void put_other(struct fixture *f, uint8_t *group, struct mr_group_header *header)
{
    static const uint8_t kinds[] = {MR_RECORD_SETTLE, MR_RECORD_RETRY, MR_RECORD_DEAD,
                                    MR_RECORD_REDRIVE, MR_RECORD_EDIT};
    struct mr_record record = {
        .kind = kinds[mr_rng_below(&f->random, MR_ARRAY_COUNT(kinds))], .offset = earlier(f)};
    record.c = record.kind == MR_RECORD_EDIT ? earlier(f) : 0;
    if (mr_rng_below(&f->random, 60) == 0) {
        record = (struct mr_record){.kind = MR_RECORD_START};
    }
    put_record(group, header, &record);
}

static void make_segment(struct fixture *f, uint64_t number)
{
    memset(f->data, 0, sizeof(f->data));
    struct mr_segment_header segment = {
        .number = number, .size = SEGMENT_SIZE, .salt = salt_of(number), .log_id = 9};
    mr_segment_header_encode(&segment, f->data);
    uint64_t at = MR_LOG_BLOCK;
    while (at + (uint64_t)8 * MR_LOG_BLOCK <= SEGMENT_SIZE) {
        struct mr_group_header header = {
            .salt = salt_of(number),
            .sequence = ++f->sequence,
            .durable = f->sequence - 1,
            .previous_crc = f->crc,
            .first_offset = f->offset,
            .wall_ns = 1000 + f->sequence,
            .log_ns = 2000 + f->sequence,
            .size = MR_GROUP_HEADER_SIZE,
        };
        for (uint64_t i = mr_rng_below(&f->random, 12); i > 0; i--) {
            put_event(f, f->data + at, &header);
        }
        for (uint64_t i = 1 + mr_rng_below(&f->random, 12); i > 0; i--) {
            put_other(f, f->data + at, &header);
        }
        header.next_offset = f->offset;
        header.padded = (uint32_t)mr_round_up(header.size, MR_LOG_BLOCK);
        mr_group_header_encode(&header, f->data + at);
        f->crc = header.crc;
        at += header.padded;
    }
    char name[MR_LOG_NAME_SIZE];
    mr_segment_name(number, name);
    log_file_write(f->io, name, f->data, SEGMENT_SIZE, 0);
    f->used[number] = at;
}

static void make_log(struct fixture *f)
{
    for (uint64_t number = 1; number <= SEGMENTS; number++) {
        make_segment(f, number);
    }
}

static void make_footer(struct fixture *f, uint64_t number)
{
    assert_int_equal(mr_footer_build(f->io, number, salt_of(number), f->used[number]), MR_OK);
}

/* --- what it answers -------------------------------------------------------------------------- */

struct told { /* what one story is made of */
    uint64_t offset;
    uint32_t hash;
    uint32_t records;
};

static bool tell(void *context, const struct mr_history_record *seen)
{
    struct told *told = context;
    const struct mr_record *record = &seen->record;
    bool concerns = record->offset == told->offset || record->kind == MR_RECORD_START ||
                    record->kind == MR_RECORD_OPERATOR ||
                    (record->kind == MR_RECORD_EVENT && record->d == told->offset) ||
                    (record->kind == MR_RECORD_EDIT && record->c == told->offset);
    if (concerns) {
        told->hash = mr_crc32c(told->hash, (const uint8_t *)&seen->position, 8);
        told->hash = mr_crc32c(told->hash, (const uint8_t *)&seen->wall_ns, 8);
        told->hash = mr_crc32c(told->hash, record->body.data, record->body.size);
        told->records++;
    }
    return true;
}

static bool concerns(const struct mr_record *record, uint64_t hash, bool is_about)
{
    if (!is_about) {
        return record->kind == MR_RECORD_EVENT &&
               mr_footer_id_hash(mr_event_id(record->body)) == hash;
    }
    uint64_t other = record->kind == MR_RECORD_EVENT  ? record->d
                     : record->kind == MR_RECORD_EDIT ? record->c
                                                      : record->offset;
    return record->kind == MR_RECORD_START || mr_footer_about_hash(record->offset) == hash ||
           mr_footer_about_hash(other) == hash;
}

/* What a bus would say of a segment that it writes, by looking at it. */
static bool sketched(void *context, uint64_t number, uint64_t hash, bool is_about,
                     struct mr_buf *places)
{
    struct fixture *f = context;
    char name[MR_LOG_NAME_SIZE];
    mr_segment_name(number, name);
    assert_int_equal(log_file_read(f->io, name, f->data, SEGMENT_SIZE, 0), SEGMENT_SIZE);
    uint8_t bytes[8];
    for (uint64_t at = MR_LOG_BLOCK; at < f->used[number];) {
        struct mr_log_group group = {.data = f->data + at, .verified = true};
        assert_int_equal(mr_group_header_decode(group.data, salt_of(number), &group.header), MR_OK);
        group.size = group.header.size;
        uint32_t in = 0;
        uint64_t position;
        struct mr_record record;
        bool may = false;
        while (mr_log_next_record(&group, &in, &position, &record)) {
            may = may || concerns(&record, hash, is_about);
        }
        mr_put_u64(bytes, at);
        if (may) {
            assert_int_equal(mr_buf_append(places, bytes, sizeof(bytes)), MR_OK);
        }
        at += group.header.padded;
    }
    bool bad = f->sketches == SKETCHED_BADLY;
    if (number == SEGMENTS || bad) { /* one that is being written, or none at all */
        mr_put_u64(bytes, f->used[number] - (bad ? 8 : 0));
        assert_int_equal(mr_buf_append(places, bytes, sizeof(bytes)), MR_OK);
    }
    return true;
}

/* One number for all answers about every third event, found by id and by offset. */
static uint32_t answer_all(struct fixture *f)
{
    struct mr_history history;
    struct mr_buf body;
    uint32_t sum = 0;
    mr_buf_init(&body, MR_MIB);
    assert_int_equal(mr_history_open(f->index, mr_position(SEGMENTS, f->used[SEGMENTS]), &history,
                                     NULL),
                     MR_OK);
    history.sketched = f->sketches == UNSKETCHED ? NULL : sketched;
    history.sketch_context = f;
    for (uint64_t offset = FIRST_OFFSET; offset < f->offset + 2; offset += 3) {
        char text[32];
        struct mr_history_record found = {0};
        enum mr_status r = mr_history_find(&history, id_of(text, offset), 0, &body, &found);
        uint64_t words[] = {(uint64_t)r, found.record.offset, found.position, found.wall_ns,
                            found.record.d};
        sum = mr_crc32c(sum, (const uint8_t *)words, sizeof(words));
        struct mr_history_record same = {0};
        enum mr_status by_offset =
            mr_history_find(&history, mr_bytes(NULL, 0), offset, &body, &same);
        if (by_offset == MR_OK) {
            assert_int_equal(same.record.offset, offset);
        }
        struct told told = {.offset = offset};
        assert_int_equal(mr_history_follow(&history, mr_position_segment(same.position), offset,
                                           tell, &told),
                         MR_OK);
        uint64_t more[] = {(uint64_t)by_offset, same.position, told.hash, told.records};
        sum = mr_crc32c(sum, (const uint8_t *)more, sizeof(more));
    }
    f->whole = history.whole;
    mr_buf_release(&body);
    mr_history_release(&history);
    return sum;
}

static void test_history_is_the_same_with_footers(void **state)
{
    struct fixture *f = *state;
    make_log(f);
    uint32_t before = answer_all(f);
    for (uint64_t number = 1; number < SEGMENTS; number++) {
        make_footer(f, number); /* some have one, some not yet */
        assert_int_equal(answer_all(f), before);
    }
    struct mr_history history;
    assert_int_equal(mr_history_open(f->index, mr_position(SEGMENTS, f->used[SEGMENTS]), &history,
                                     NULL),
                     MR_OK);
    for (uint32_t i = 0; i + 1 < SEGMENTS; i++) {
        assert_non_null(mr_history_footer(&history, i));
    }
    assert_null(mr_history_footer(&history, SEGMENTS - 1));
    mr_history_release(&history);
    for (uint64_t number = 1; number < SEGMENTS; number += 2) {
        char name[MR_LOG_NAME_SIZE];
        mr_footer_name(number, name);
        assert_int_equal(f->io->ops->unlink(f->io, name), MR_OK);
        assert_int_equal(answer_all(f), before);
    }
}

static void test_history_is_the_same_by_what_the_bus_knows(void **state)
{
    struct fixture *f = *state;
    make_log(f);
    uint32_t before = answer_all(f);
    assert_true(f->whole > 0);
    for (uint64_t number = 1; number < 4; number++) {
        make_footer(f, number);
    }
    f->sketches = SKETCHED;
    assert_int_equal(answer_all(f), before);
    assert_int_equal(f->whole, 0);
    f->sketches = SKETCHED_BADLY;
    assert_int_equal(answer_all(f), before);
    assert_true(f->whole > 0);
    /* What nobody knows to be durable is not shown, whatever the bus knows meanwhile. */
    struct mr_history history;
    struct mr_buf body;
    struct mr_history_record found;
    char text[32];
    mr_buf_init(&body, MR_MIB);
    f->sketches = SKETCHED;
    assert_int_equal(mr_history_open(f->index, mr_position(SEGMENTS - 1, MR_LOG_BLOCK), &history,
                                     NULL),
                     MR_OK);
    history.sketched = sketched;
    history.sketch_context = f;
    assert_int_equal(mr_history_find(&history, id_of(text, f->offset - 1), 0, &body, &found),
                     MR_E_NOT_FOUND);
    mr_history_release(&history);
    mr_buf_release(&body);
}

static void test_history_does_not_believe_damaged_footers(void **state)
{
    struct fixture *f = *state;
    make_log(f);
    uint32_t before = answer_all(f);
    for (uint64_t number = 1; number < SEGMENTS; number++) {
        make_footer(f, number);
    }
    assert_int_equal(answer_all(f), before); /* the heads are known now */
    char name[MR_LOG_NAME_SIZE];
    mr_footer_name(3, name);
    struct mr_footer_head head;
    assert_int_equal(mr_footer_check(f->io, 3, salt_of(3), &head), MR_OK);
    for (uint32_t page = 0; page < head.pages; page++) {
        log_file_flip(f->io, name, (uint64_t)page * MR_FOOTER_PAGE + 100, 2);
        assert_int_equal(answer_all(f), before);
        mr_history_index_destroy(f->index); /* and to one that sees it for the first time */
        assert_int_equal(mr_history_index_create(f->folder.path, NULL, &f->index), MR_OK);
        assert_int_equal(answer_all(f), before);
        log_file_flip(f->io, name, (uint64_t)page * MR_FOOTER_PAGE + 100, 2);
    }
    char other[MR_LOG_NAME_SIZE]; /* of another segment */
    mr_footer_name(4, other);
    assert_int_equal(f->io->ops->unlink(f->io, other), MR_OK);
    assert_int_equal(f->io->ops->rename(f->io, name, other), MR_OK);
    assert_int_equal(answer_all(f), before);
}

static void test_history_of_rotten_segments_is_the_same(void **state)
{
    struct fixture *f = *state;
    make_log(f);
    for (uint64_t number = 1; number < SEGMENTS; number++) {
        make_footer(f, number);
    }
    /* Rotten behind the footer's back: a record here, the header of a group there. */
    char name[MR_LOG_NAME_SIZE];
    mr_segment_name(2, name);
    log_file_flip(f->io, name, (uint64_t)5 * MR_LOG_BLOCK + 300, 2);
    mr_segment_name(5, name);
    log_file_flip(f->io, name, (uint64_t)MR_LOG_BLOCK + 20, 2);
    uint32_t with = answer_all(f);
    for (uint64_t number = 1; number < SEGMENTS; number++) {
        mr_footer_name(number, name);
        assert_int_equal(f->io->ops->unlink(f->io, name), MR_OK);
    }
    assert_int_equal(answer_all(f), with);
    for (uint64_t number = 1; number < SEGMENTS; number++) {
        make_footer(f, number); /* which say that not all could be read */
    }
    assert_int_equal(answer_all(f), with);
}

static void test_history_goes_on_when_segments_go(void **state)
{
    struct fixture *f = *state;
    make_log(f);
    for (uint64_t number = 1; number < SEGMENTS; number++) {
        make_footer(f, number);
    }
    struct mr_history history;
    struct mr_buf body;
    struct mr_history_record found;
    char name[MR_LOG_NAME_SIZE];
    char text[32];
    mr_buf_init(&body, MR_MIB);
    uint64_t end = mr_position(SEGMENTS, f->used[SEGMENTS]);
    assert_int_equal(mr_history_open(f->index, end, &history, NULL), MR_OK);
    mr_footer_name(1, name);
    assert_int_equal(f->io->ops->unlink(f->io, name), MR_OK);
    mr_segment_name(1, name);
    assert_int_equal(f->io->ops->unlink(f->io, name), MR_OK);
    enum mr_status r = mr_history_find(&history, id_of(text, FIRST_OFFSET), 0, &body, &found);
    assert_true(r != MR_OK);
    r = mr_history_find(&history, id_of(text, f->offset - 1), 0, &body, &found);
    assert_int_equal(r, MR_OK);
    mr_history_release(&history);
    assert_int_equal(mr_history_open(f->index, end, &history, NULL), MR_OK);
    assert_int_equal(history.index.segment_count, SEGMENTS - 1);
    assert_int_equal(history.index.segments[0].number, 2);
    mr_history_release(&history);
    mr_buf_release(&body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_history_is_the_same_with_footers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_history_is_the_same_by_what_the_bus_knows, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_history_does_not_believe_damaged_footers, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_history_of_rotten_segments_is_the_same, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_history_goes_on_when_segments_go, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
