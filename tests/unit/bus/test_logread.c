/* The reader on logs made by hand: whole, torn at every byte, rotten, with ghosts, with gaps. */
#include "tests/support/test.h"

#include "bus/logread.h"
#include "core/alloc.h"
#include "core/hash.h"
#include "tests/support/logfolder.h"

#define SEGMENT_SIZE (64u * MR_KIB)

struct fixture {
    struct log_folder folder;
    struct mr_io *io; /* of the folder */
    uint64_t sequence; /* of the last group put */
    uint64_t offset;   /* next */
    uint32_t crc;      /* chain */
    size_t last_size;  /* of the last group, without its padding */
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    log_folder_make(&f->folder, "logread");
    f->io = f->folder.io;
    f->offset = 1;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    log_folder_remove(&f->folder);
    free(f);
    return 0;
}

/* --- making a log ------------------------------------------------------------------------------- */

static void write_segment(struct fixture *f, uint64_t number, const void *data, size_t size,
                          uint64_t at)
{
    char name[MR_LOG_NAME_SIZE];
    mr_segment_name(number, name);
    log_file_write(f->io, name, data, size, at);
}

static void cut_segment(struct fixture *f, uint64_t number, uint64_t size)
{
    char name[MR_LOG_NAME_SIZE];
    mr_segment_name(number, name);
    log_file_cut(f->io, name, size);
}

static void flip(struct fixture *f, uint64_t number, uint64_t at, unsigned bit)
{
    char name[MR_LOG_NAME_SIZE];
    mr_segment_name(number, name);
    log_file_flip(f->io, name, at, bit);
}

/* More than a header can be made good of. */
static void spoil(struct fixture *f, uint64_t number, uint64_t at)
{
    flip(f, number, at, 2);
    flip(f, number, at, 5);
}

static uint64_t salt_of(uint64_t number)
{
    return mr_hash_u64(number) | 1;
}

static void put_segment(struct fixture *f, uint64_t number)
{
    uint8_t *zeros = mr_calloc(1, SEGMENT_SIZE);
    assert_non_null(zeros);
    struct mr_segment_header header = {
        .number = number, .size = SEGMENT_SIZE, .salt = salt_of(number), .log_id = 9};
    mr_segment_header_encode(&header, zeros);
    write_segment(f, number, zeros, SEGMENT_SIZE, 0);
    mr_free(zeros);
}

/* A group of @p events events in segment @p number at @p at; it knows @p durable durable.
 * @return where the next one goes */
static uint64_t put_group_as(struct fixture *f, uint64_t number, uint64_t at, uint32_t events,
                             uint64_t durable, uint64_t sequence, uint32_t previous_crc)
{
    static uint8_t data[8 * MR_LOG_BLOCK];
    memset(data, 0, sizeof(data));
    struct mr_group_header header = {
        .salt = salt_of(number),
        .sequence = sequence,
        .durable = durable,
        .first_offset = f->offset,
        .next_offset = f->offset + events,
        .size = MR_GROUP_HEADER_SIZE,
        .previous_crc = previous_crc,
    };
    for (uint32_t i = 0; i < events; i++) {
        char body[64];
        int n = snprintf(body, sizeof(body), "event %llu", (unsigned long long)f->offset + i);
        struct mr_record record = {
            .kind = MR_RECORD_EVENT, .offset = f->offset + i, .body = mr_bytes(body, (size_t)n)};
        uint8_t le[4];
        mr_put_u32(le, mr_record_encode(&record, data + header.size));
        header.records_crc = mr_crc32c(header.records_crc, le, sizeof(le));
        header.records++;
        header.size += (uint32_t)mr_record_size((size_t)n);
    }
    header.padded = (uint32_t)mr_round_up(header.size, MR_LOG_BLOCK);
    assert_true(header.padded <= sizeof(data));
    mr_group_header_encode(&header, data);
    write_segment(f, number, data, header.padded, at);
    f->crc = header.crc;
    f->offset = header.next_offset;
    f->sequence = sequence;
    f->last_size = header.size;
    return at + header.padded;
}

static uint64_t put_group(struct fixture *f, uint64_t number, uint64_t at, uint32_t events)
{
    return put_group_as(f, number, at, events, f->sequence, f->sequence + 1, f->crc);
}

/* --- reading it ------------------------------------------------------------------------------------ */

struct seen {
    enum mr_recovery end;    /* the last decision that was not TAKE or ROTTEN; END when none */
    uint64_t groups;         /* taken */
    uint64_t rotten;
    uint64_t lost;           /* events named */
    uint64_t events;         /* EVENT records read */
    uint64_t last_sequence;  /* of what was taken */
};

static struct seen read_index(struct fixture *f, const struct mr_log_index *index,
                              uint64_t position, uint64_t sequence, uint32_t previous_crc,
                              uint64_t floor)
{
    struct seen seen = {.end = MR_RECOVERY_MAX};
    struct mr_log_reader *reader;
    struct mr_log_group group;
    assert_int_equal(
        mr_log_reader_create(f->io, index, position, sequence, previous_crc, floor, &reader),
        MR_OK);
    enum mr_status r;
    unsigned turns = 0;
    while ((r = mr_log_reader_next(reader, &group)) == MR_OK) {
        assert_true(++turns < 1000); /* it always ends */
        uint32_t at = 0;
        uint64_t where;
        struct mr_record record;
        if (group.decision == MR_RECOVERY_TAKE || group.decision == MR_RECOVERY_ROTTEN) {
            while (mr_log_next_record(&group, &at, &where, &record)) {
                seen.events += record.kind == MR_RECORD_EVENT;
            }
            seen.groups += group.decision == MR_RECOVERY_TAKE;
            seen.rotten += group.decision == MR_RECOVERY_ROTTEN;
            seen.lost += group.lost_end - group.lost_first;
            seen.last_sequence = group.header_good ? group.header.sequence : seen.last_sequence;
        } else {
            seen.end = group.decision;
        }
    }
    assert_int_equal(r, MR_E_NOT_FOUND);
    mr_log_reader_destroy(reader);
    return seen;
}

static struct seen read_from(struct fixture *f, uint64_t position, uint64_t sequence,
                             uint32_t previous_crc, uint64_t floor)
{
    struct mr_log_index index;
    assert_int_equal(mr_log_index(f->io, &index, NULL), MR_OK);
    struct seen seen = read_index(f, &index, position, sequence, previous_crc, floor);
    mr_log_index_release(&index);
    return seen;
}

static struct seen read_all(struct fixture *f)
{
    return read_from(f, 0, 0, 0, 0);
}

/* --- whole logs --------------------------------------------------------------------------------------- */

static void test_reader_empty_directory_is_the_end(void **state)
{
    struct seen seen = read_all(*state);
    assert_int_equal(seen.end, MR_RECOVERY_END);
    assert_int_equal(seen.groups, 0);
}

static void test_reader_segment_without_groups_is_the_end(void **state)
{
    put_segment(*state, 1);
    struct seen seen = read_all(*state);
    assert_int_equal(seen.end, MR_RECOVERY_END);
    assert_int_equal(seen.groups, 0);
}

static void test_reader_takes_all_groups_in_order(void **state)
{
    struct fixture *f = *state;
    put_segment(f, 1);
    uint64_t at = MR_LOG_BLOCK;
    for (uint32_t i = 0; i < 5; i++) {
        at = put_group(f, 1, at, i + 1);
    }
    struct seen seen = read_all(f);
    assert_int_equal(seen.end, MR_RECOVERY_END);
    assert_int_equal(seen.groups, 5);
    assert_int_equal(seen.events, 15);
    assert_int_equal(seen.last_sequence, 5);
}

static void test_reader_goes_on_in_the_next_segment(void **state)
{
    struct fixture *f = *state;
    put_segment(f, 1);
    put_segment(f, 2);
    put_segment(f, 5); /* numbers have gaps: files that were prepared and not used */
    uint64_t at = put_group(f, 1, MR_LOG_BLOCK, 1);
    (void)put_group(f, 1, at, 2); /* the rest of segment 1 stays empty */
    (void)put_group(f, 2, MR_LOG_BLOCK, 3);
    (void)put_group(f, 5, MR_LOG_BLOCK, 4);
    struct seen seen = read_all(f);
    assert_int_equal(seen.end, MR_RECOVERY_END);
    assert_int_equal(seen.groups, 4);
    assert_int_equal(seen.events, 10);
}

static void test_reader_passes_segments_nobody_used(void **state)
{
    struct fixture *f = *state;
    for (uint64_t n = 1; n <= 4; n++) {
        put_segment(f, n);
    }
    (void)put_group(f, 1, MR_LOG_BLOCK, 1);
    (void)put_group(f, 4, MR_LOG_BLOCK, 2);
    struct seen seen = read_all(f);
    assert_int_equal(seen.groups, 2);
    assert_int_equal(seen.end, MR_RECOVERY_END);
}

static void test_reader_starts_where_a_checkpoint_says(void **state)
{
    struct fixture *f = *state;
    put_segment(f, 1);
    uint64_t at = put_group(f, 1, MR_LOG_BLOCK, 1);
    at = put_group(f, 1, at, 2);
    uint32_t chain = f->crc;
    (void)put_group(f, 1, at, 3);
    struct seen seen = read_from(f, mr_position(1, at), 3, chain, 2);
    assert_int_equal(seen.groups, 1);
    assert_int_equal(seen.events, 3);
}

static void test_reader_checkpoint_at_the_end_of_a_segment_goes_on_in_the_next(void **state)
{
    struct fixture *f = *state;
    put_segment(f, 1);
    put_segment(f, 2);
    uint64_t at = MR_LOG_BLOCK;
    while (at < SEGMENT_SIZE) {
        at = put_group(f, 1, at, 1);
    }
    uint64_t sequence = f->sequence;
    uint32_t chain = f->crc;
    (void)put_group(f, 2, MR_LOG_BLOCK, 4);
    struct seen seen = read_from(f, mr_position(1, at), sequence + 1, chain, sequence);
    assert_int_equal(seen.groups, 1);
    assert_int_equal(seen.events, 4);
}

/* --- torn ------------------------------------------------------------------------------------------------ */

/* Two groups of two events, then one of three that was never acknowledged. */
static uint64_t put_three(struct fixture *f)
{
    f->sequence = 0;
    f->offset = 1;
    f->crc = 0;
    uint64_t at = put_group(f, 1, MR_LOG_BLOCK, 2);
    at = put_group(f, 1, at, 2);
    (void)put_group(f, 1, at, 3);
    return at;
}

static void test_reader_tail_cut_at_every_byte_keeps_what_was_whole(void **state)
{
    struct fixture *f = *state;
    put_segment(f, 1);
    uint64_t last = put_three(f);
    size_t size = f->last_size;
    for (size_t cut = 0; cut < size; cut++) {
        cut_segment(f, 1, last + cut);
        struct seen seen = read_all(f);
        assert_int_equal(seen.groups, 2);
        assert_int_equal(seen.events, 4);
        assert_int_equal(seen.lost, 0);
        assert_true(seen.end == MR_RECOVERY_END || seen.end == MR_RECOVERY_CUT_TORN);
        (void)put_three(f);
    }
    assert_int_equal(read_all(f).groups, 3);
}

static void test_reader_tail_zeroed_from_every_byte_is_torn(void **state)
{
    struct fixture *f = *state;
    put_segment(f, 1);
    uint64_t last = put_group(f, 1, MR_LOG_BLOCK, 2);
    uint32_t chain = f->crc;
    static const uint8_t zeros[MR_LOG_BLOCK];
    (void)put_group_as(f, 1, last, 3, 1, 2, chain);
    size_t size = f->last_size;
    for (size_t from = size; from-- > 0;) {
        uint8_t one = 0;
        char name[MR_LOG_NAME_SIZE];
        mr_segment_name(1, name);
        (void)log_file_read(f->io, name, &one, 1, last + from);
        write_segment(f, 1, zeros, size - from, last + from);
        bool padding_only = one == 0 && from + 8 > size;
        struct seen seen = read_all(f);
        if (!padding_only) {
            assert_int_equal(seen.groups, 1);
            assert_int_equal(seen.end, from == 0 ? MR_RECOVERY_END : seen.end);
            assert_true(seen.end == MR_RECOVERY_CUT_TORN || seen.end == MR_RECOVERY_END);
        }
        assert_int_equal(seen.lost, 0);
    }
}

static void test_reader_any_bit_of_the_unpromised_tail_flipped_is_cut(void **state)
{
    struct fixture *f = *state;
    put_segment(f, 1);
    uint64_t last = put_group(f, 1, MR_LOG_BLOCK, 2);
    (void)put_group(f, 1, last, 1);
    size_t used = MR_GROUP_HEADER_SIZE + MR_RECORD_HEADER_SIZE + strlen("event 3");
    for (size_t bit = 0; bit < used * 8; bit++) {
        flip(f, 1, last + bit / 8, bit % 8);
        bool header = bit / 8 < MR_GROUP_HEADER_SIZE + MR_RECORD_HEADER_SIZE;
        struct seen seen = read_all(f);
        assert_int_equal(seen.groups, header ? 2 : 1); /* one bit of a header is made good */
        assert_int_equal(seen.rotten, 0);
        assert_true(seen.end == MR_RECOVERY_CUT_TORN || seen.end == MR_RECOVERY_END);
        flip(f, 1, last + bit / 8, bit % 8);
    }
    assert_int_equal(read_all(f).groups, 2);
}

static void test_reader_goes_past_torn_tails_of_a_crash_loop(void **state)
{
    struct fixture *f = *state;
    for (uint64_t n = 1; n <= 4; n++) {
        put_segment(f, n);
    }
    (void)put_group(f, 1, MR_LOG_BLOCK, 2);
    uint32_t chain = f->crc;
    /* Three starts wrote group 2; two died over it, one of them with a whole header. */
    (void)put_group_as(f, 2, MR_LOG_BLOCK, 1, 1, 2, chain);
    flip(f, 2, MR_LOG_BLOCK + MR_GROUP_HEADER_SIZE + 50, 0);
    f->offset = 3;
    (void)put_group_as(f, 3, MR_LOG_BLOCK, 1, 1, 2, chain);
    spoil(f, 3, MR_LOG_BLOCK + 20);
    f->offset = 3;
    uint64_t at = put_group_as(f, 4, MR_LOG_BLOCK, 5, 1, 2, chain);
    (void)put_group(f, 4, at, 1);
    struct seen seen = read_all(f);
    assert_int_equal(seen.groups, 3);
    assert_int_equal(seen.events, 8);
    assert_int_equal(seen.rotten, 0);
    assert_int_equal(seen.end, MR_RECOVERY_END);
}

static void test_reader_later_group_without_proof_cuts_what_was_never_synced(void **state)
{
    struct fixture *f = *state;
    put_segment(f, 1);
    uint64_t at = put_group_as(f, 1, MR_LOG_BLOCK, 1, 0, 1, 0);
    uint64_t gone = at;
    at = put_group_as(f, 1, at, 1, 0, 2, f->crc);
    (void)put_group_as(f, 1, at, 1, 0, 3, f->crc);
    spoil(f, 1, gone + 16);
    struct seen seen = read_all(f);
    assert_int_equal(seen.groups, 1);
    assert_int_equal(seen.end, MR_RECOVERY_CUT_UNSYNCED);
    assert_int_equal(seen.lost, 0);
}

static void test_reader_ghost_of_a_recycled_segment_is_no_group(void **state)
{
    struct fixture *f = *state;
    put_segment(f, 1);
    uint64_t at = put_group(f, 1, MR_LOG_BLOCK, 1);
    /* What stood here before the file was recycled: whole, chained, of another salt. */
    uint32_t chain = f->crc;
    uint64_t offset = f->offset;
    static uint8_t ghost[MR_LOG_BLOCK];
    struct mr_group_header header = {.salt = salt_of(99),
                                     .sequence = 2,
                                     .durable = 1,
                                     .first_offset = offset,
                                     .next_offset = offset,
                                     .size = MR_GROUP_HEADER_SIZE,
                                     .padded = MR_LOG_BLOCK,
                                     .previous_crc = chain};
    mr_group_header_encode(&header, ghost);
    write_segment(f, 1, ghost, sizeof(ghost), at);
    struct seen seen = read_all(f);
    assert_int_equal(seen.groups, 1);
    assert_int_equal(seen.end, MR_RECOVERY_END);
}

static void test_reader_ghost_records_cannot_make_up_a_torn_group(void **state)
{
    struct fixture *f = *state;
    put_segment(f, 1);
    uint64_t at = put_group(f, 1, MR_LOG_BLOCK, 1);
    uint32_t chain = f->crc;
    uint64_t offset = f->offset;
    (void)put_group_as(f, 1, at, 12, 1, 2, chain); /* what the file held: many records */
    static uint8_t old[MR_LOG_BLOCK];
    char name[MR_LOG_NAME_SIZE];
    mr_segment_name(1, name);
    (void)log_file_read(f->io, name, old, sizeof(old), at);
    /* For every number of records that a new group may have, its first part over the old ones. */
    for (uint32_t events = 1; events <= 12; events++) {
        f->offset = offset + 100;
        (void)put_group_as(f, 1, at, events, 1, 2, chain);
        size_t size = f->last_size;
        for (size_t sector = 1; sector * 512 < size; sector++) {
            write_segment(f, 1, old + sector * 512, MR_LOG_BLOCK - sector * 512,
                          at + sector * 512);
            struct seen seen = read_all(f);
            assert_int_equal(seen.groups, 1);
            assert_int_equal(seen.end, MR_RECOVERY_CUT_TORN);
            f->offset = offset + 100;
            (void)put_group_as(f, 1, at, events, 1, 2, chain);
        }
    }
}

/* --- rotten ------------------------------------------------------------------------------------------------ */

static void test_reader_rotten_record_keeps_the_others_of_its_group(void **state)
{
    struct fixture *f = *state;
    put_segment(f, 1);
    uint64_t at = put_group(f, 1, MR_LOG_BLOCK, 3);
    (void)put_group(f, 1, at, 1);
    flip(f, 1, MR_LOG_BLOCK + MR_GROUP_HEADER_SIZE + MR_RECORD_HEADER_SIZE + 2, 4);
    struct seen seen = read_all(f);
    assert_int_equal(seen.rotten, 1);
    assert_int_equal(seen.groups, 1);
    assert_int_equal(seen.events, 3); /* two of three, and the later one */
    assert_int_equal(seen.end, MR_RECOVERY_END);
}

static void test_reader_rotten_header_names_its_events_lost(void **state)
{
    struct fixture *f = *state;
    put_segment(f, 1);
    uint64_t at = put_group(f, 1, MR_LOG_BLOCK, 2);
    uint64_t rotten = at;
    at = put_group(f, 1, at, 3);
    at = put_group(f, 1, at, 1);
    (void)put_group(f, 1, at, 1);
    spoil(f, 1, rotten + 40);
    struct seen seen = read_all(f);
    assert_int_equal(seen.rotten, 1);
    assert_int_equal(seen.lost, 3);
    assert_int_equal(seen.groups, 3);
    assert_int_equal(seen.events, 4);
    assert_int_equal(seen.last_sequence, 4);
}

static void test_reader_any_bit_of_an_acknowledged_group_flipped_loses_no_other(void **state)
{
    struct fixture *f = *state;
    put_segment(f, 1);
    uint64_t at = put_group(f, 1, MR_LOG_BLOCK, 1);
    uint64_t rotten = at;
    at = put_group(f, 1, at, 1);
    size_t used = MR_GROUP_HEADER_SIZE + MR_RECORD_HEADER_SIZE + strlen("event 2");
    at = put_group(f, 1, at, 1);
    (void)put_group(f, 1, at, 1);
    for (size_t bit = 0; bit < used * 8; bit++) {
        flip(f, 1, rotten + bit / 8, bit % 8);
        bool header = bit / 8 < MR_GROUP_HEADER_SIZE + MR_RECORD_HEADER_SIZE;
        struct seen seen = read_all(f);
        assert_int_equal(seen.groups, header ? 4 : 3); /* one bit of a header is made good */
        assert_int_equal(seen.rotten, header ? 0 : 1);
        assert_int_equal(seen.events, header ? 4 : 3);
        assert_int_equal(seen.last_sequence, 4);
        assert_int_equal(seen.end, MR_RECOVERY_END);
        flip(f, 1, rotten + bit / 8, bit % 8);
    }
}

static void test_reader_gone_group_a_checkpoint_promised_is_rotten(void **state)
{
    struct fixture *f = *state;
    put_segment(f, 1);
    uint64_t at = put_group(f, 1, MR_LOG_BLOCK, 1);
    uint32_t chain = f->crc;
    (void)put_group(f, 1, at, 1);
    spoil(f, 1, at + 100);
    struct seen seen = read_from(f, mr_position(1, at), 2, chain, 2);
    assert_int_equal(seen.rotten, 1);
    assert_int_equal(seen.groups, 0);
}

static void test_reader_segment_gone_from_the_middle_names_its_events(void **state)
{
    struct fixture *f = *state;
    for (uint64_t n = 1; n <= 3; n++) {
        put_segment(f, n);
    }
    (void)put_group(f, 1, MR_LOG_BLOCK, 2);
    (void)put_group(f, 2, MR_LOG_BLOCK, 5);
    uint64_t at = put_group(f, 3, MR_LOG_BLOCK, 1);
    (void)put_group(f, 3, at, 1);
    char name[MR_LOG_NAME_SIZE];
    mr_segment_name(2, name);
    assert_int_equal(f->io->ops->unlink(f->io, name), MR_OK);
    struct seen seen = read_all(f);
    assert_int_equal(seen.lost, 5);
    assert_int_equal(seen.groups, 3);
    assert_int_equal(seen.last_sequence, 4);
}

/* Segment 2 of three is gone, and a checkpoint is true behind it. */
static struct seen read_given_up(struct fixture *f, uint64_t given_up, uint64_t used)
{
    struct mr_log_index index;
    assert_int_equal(mr_log_index(f->io, &index, NULL), MR_OK);
    assert_int_equal(index.segment_count, 2);
    index.given_up = given_up;
    index.segments[0].used = used;
    struct seen seen = read_index(f, &index, 0, 0, 0, 0);
    mr_log_index_release(&index);
    return seen;
}

static void test_reader_segment_given_up_from_the_middle_is_no_loss(void **state)
{
    struct fixture *f = *state;
    for (uint64_t n = 1; n <= 3; n++) {
        put_segment(f, n);
    }
    uint64_t last = put_group(f, 1, MR_LOG_BLOCK, 2);
    uint64_t used = put_group(f, 1, last, 2);
    (void)put_group(f, 2, MR_LOG_BLOCK, 5);
    (void)put_group(f, 3, put_group(f, 3, MR_LOG_BLOCK, 1), 1);
    char name[MR_LOG_NAME_SIZE];
    mr_segment_name(2, name);
    assert_int_equal(f->io->ops->unlink(f->io, name), MR_OK);
    struct seen seen = read_given_up(f, 3, used);
    assert_int_equal(seen.rotten, 0);
    assert_int_equal(seen.groups, 4);
    assert_int_equal(seen.last_sequence, 5);
    assert_int_equal(read_given_up(f, 2, used).lost, 5); /* the checkpoint needed it */
    const uint8_t zeros[MR_LOG_BLOCK] = {0};
    write_segment(f, 1, zeros, sizeof(zeros), last); /* something else is missing there */
    seen = read_given_up(f, 3, used);
    assert_int_equal(seen.rotten, 1);
    assert_int_equal(seen.groups, 3);
    spoil(f, 3, MR_LOG_BLOCK + 30); /* and where it goes on */
    seen = read_given_up(f, 3, used);
    assert_true(seen.rotten > 0);
    assert_int_equal(seen.last_sequence, 5);
}

static void test_reader_untrimmed_log_never_begins_with_a_later_group(void **state)
{
    struct fixture *f = *state;
    put_segment(f, 1);
    uint64_t at = put_group_as(f, 1, MR_LOG_BLOCK, 1, 0, 1, 0);
    (void)put_group_as(f, 1, at, 1, 0, 2, f->crc);
    spoil(f, 1, MR_LOG_BLOCK + 30);
    struct seen seen = read_all(f);
    assert_int_equal(seen.groups, 0);
    assert_int_equal(seen.end, MR_RECOVERY_CUT_UNSYNCED);
}

static void test_reader_trimmed_log_begins_with_what_is_left(void **state)
{
    struct fixture *f = *state;
    put_segment(f, 7);
    log_file_write(f->io, "checkpoint-0", "damaged", 7, 0);
    log_file_write(f->io, "checkpoint-1", "damaged", 7, 0);
    f->sequence = 40;
    f->offset = 1000;
    f->crc = 5;
    uint64_t at = put_group(f, 7, MR_LOG_BLOCK, 2);
    (void)put_group(f, 7, at, 2);
    struct seen seen = read_all(f);
    assert_int_equal(seen.groups, 2);
    assert_int_equal(seen.last_sequence, 42);
}

/* --- the index ------------------------------------------------------------------------------------------------ */

static void test_index_names_the_file_of_a_later_version(void **state)
{
    struct fixture *f = *state;
    put_segment(f, 1);
    uint8_t block[MR_LOG_BLOCK];
    struct mr_segment_header header = {.number = 2, .size = SEGMENT_SIZE, .salt = 1, .log_id = 9};
    mr_segment_header_encode(&header, block);
    mr_put_u32(block + 8, 9);
    mr_put_u32(block + 64, mr_crc32c(0, block, 64));
    write_segment(f, 2, block, sizeof(block), 0);
    struct mr_log_index index;
    struct mr_problem problem = {{0}};
    assert_int_equal(mr_log_index(f->io, &index, &problem), MR_E_UNSUPPORTED);
    assert_non_null(strstr(problem.text, "seg-0000000000000002"));
    assert_non_null(strstr(problem.text, "9"));
}

static void test_index_leaves_a_file_in_doubt_alone(void **state)
{
    struct fixture *f = *state;
    put_segment(f, 1);
    put_segment(f, 2);
    (void)put_group(f, 1, MR_LOG_BLOCK, 1);
    spoil(f, 2, 5);
    struct mr_log_index index;
    assert_int_equal(mr_log_index(f->io, &index, NULL), MR_OK);
    assert_int_equal(index.segment_count, 2);
    assert_true(index.segments[0].usable);
    assert_false(index.segments[1].usable);
    mr_log_index_release(&index);
    assert_int_equal(read_all(f).groups, 1);
}

static void test_index_header_gone_is_told_by_the_first_group(void **state)
{
    struct fixture *f = *state;
    put_segment(f, 1);
    put_segment(f, 2);
    (void)put_group(f, 1, MR_LOG_BLOCK, 1);
    (void)put_group(f, 2, MR_LOG_BLOCK, 2);
    const uint8_t zeros[MR_LOG_BLOCK] = {0};
    write_segment(f, 2, zeros, sizeof(zeros), 0);
    struct mr_log_index index;
    assert_int_equal(mr_log_index(f->io, &index, NULL), MR_OK);
    assert_true(index.segments[1].usable);
    assert_true(index.segments[1].salvaged);
    assert_false(index.segments[1].blank);
    mr_log_index_release(&index);
    assert_int_equal(read_all(f).events, 3);
}

static void test_index_header_of_another_number_is_not_usable(void **state)
{
    struct fixture *f = *state;
    put_segment(f, 1);
    uint8_t block[MR_LOG_BLOCK];
    struct mr_segment_header header = {.number = 3, .size = SEGMENT_SIZE, .salt = 1, .log_id = 9};
    mr_segment_header_encode(&header, block);
    write_segment(f, 2, block, sizeof(block), 0); /* renamed, its header not yet written */
    struct mr_log_index index;
    assert_int_equal(mr_log_index(f->io, &index, NULL), MR_OK);
    assert_false(index.segments[1].usable);
    mr_log_index_release(&index);
}

static void test_index_lists_spares_and_checkpoints(void **state)
{
    struct fixture *f = *state;
    put_segment(f, 3);
    put_segment(f, 1);
    log_file_write(f->io, "free-000000000000000a", "x", 1, 0);
    log_file_write(f->io, "checkpoint-1", "x", 1, 0);
    log_file_write(f->io, "notes.txt", "x", 1, 0);
    struct mr_log_index index;
    assert_int_equal(mr_log_index(f->io, &index, NULL), MR_OK);
    assert_int_equal(index.segment_count, 2);
    assert_int_equal(index.segments[0].number, 1);
    assert_int_equal(index.segments[1].number, 3);
    assert_int_equal(index.spare_count, 1);
    assert_int_equal(index.spares[0], 10);
    assert_false(index.has_checkpoint[0]);
    assert_true(index.has_checkpoint[1]);
    mr_log_index_release(&index);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_reader_empty_directory_is_the_end),
        TEST(test_reader_segment_without_groups_is_the_end),
        TEST(test_reader_takes_all_groups_in_order),
        TEST(test_reader_goes_on_in_the_next_segment),
        TEST(test_reader_passes_segments_nobody_used),
        TEST(test_reader_starts_where_a_checkpoint_says),
        TEST(test_reader_checkpoint_at_the_end_of_a_segment_goes_on_in_the_next),
        TEST(test_reader_tail_cut_at_every_byte_keeps_what_was_whole),
        TEST(test_reader_tail_zeroed_from_every_byte_is_torn),
        TEST(test_reader_any_bit_of_the_unpromised_tail_flipped_is_cut),
        TEST(test_reader_goes_past_torn_tails_of_a_crash_loop),
        TEST(test_reader_later_group_without_proof_cuts_what_was_never_synced),
        TEST(test_reader_ghost_of_a_recycled_segment_is_no_group),
        TEST(test_reader_ghost_records_cannot_make_up_a_torn_group),
        TEST(test_reader_rotten_record_keeps_the_others_of_its_group),
        TEST(test_reader_rotten_header_names_its_events_lost),
        TEST(test_reader_any_bit_of_an_acknowledged_group_flipped_loses_no_other),
        TEST(test_reader_gone_group_a_checkpoint_promised_is_rotten),
        TEST(test_reader_segment_gone_from_the_middle_names_its_events),
        TEST(test_reader_segment_given_up_from_the_middle_is_no_loss),
        TEST(test_reader_untrimmed_log_never_begins_with_a_later_group),
        TEST(test_reader_trimmed_log_begins_with_what_is_left),
        TEST(test_index_names_the_file_of_a_later_version),
        TEST(test_index_leaves_a_file_in_doubt_alone),
        TEST(test_index_header_gone_is_told_by_the_first_group),
        TEST(test_index_header_of_another_number_is_not_usable),
        TEST(test_index_lists_spares_and_checkpoints),
    };
    return cmocka_run_group_tests_name("logread", tests, NULL, NULL);
}
