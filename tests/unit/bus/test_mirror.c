/* One directory kept twice, on two real ones: what is done to both, what happens when one fails,
 * and a segment of which either copy is damaged. */
#include "tests/support/test.h"

#include "bus/logdisk.h"
#include "bus/mend.h"
#include "bus/mirror.h"
#include "core/hash.h"
#include "core/io_mirror.h"
#include "tests/support/logfolder.h"

#define SALT 0x1234567890abcdefull
#define SIZE (64u * MR_KIB)
#define GROUPS 10u

/* A directory whose writes and reads can be made to fail. */
struct faulty {
    struct mr_io io;
    struct mr_io_ops ops;
    struct log_folder folder; /* it goes with the folder, not with this */
    bool fails;
};

struct fixture {
    struct faulty copies[2];
    struct mr_io *io;
    uint8_t data[SIZE]; /* of the segment */
    char name[MR_LOG_NAME_SIZE];
    unsigned told;
};

/* --- a disk that fails ------------------------------------------------------------------------ */

static struct mr_io *real_of(struct mr_io *io)
{
    return ((struct faulty *)io)->folder.io;
}

static bool fails(struct mr_io *io)
{
    return ((struct faulty *)io)->fails;
}

static enum mr_status faulty_open(struct mr_io *io, const char *name, unsigned flags, int *file)
{
    return fails(io) ? MR_E_IO : real_of(io)->ops->open(real_of(io), name, flags, file);
}

static void faulty_close(struct mr_io *io, int file)
{
    real_of(io)->ops->close(real_of(io), file);
}

static enum mr_status faulty_pread(struct mr_io *io, int file, void *to, size_t size, uint64_t at,
                                   size_t *ret_size)
{
    return fails(io) ? MR_E_IO
                     : real_of(io)->ops->pread(real_of(io), file, to, size, at, ret_size);
}

static enum mr_status faulty_pwrite(struct mr_io *io, int file, const void *from, size_t size,
                                    uint64_t at)
{
    return fails(io) ? MR_E_IO : real_of(io)->ops->pwrite(real_of(io), file, from, size, at);
}

static enum mr_status faulty_sync(struct mr_io *io, int file)
{
    return fails(io) ? MR_E_IO : real_of(io)->ops->sync(real_of(io), file);
}

static enum mr_status faulty_size(struct mr_io *io, int file, uint64_t *ret_size)
{
    return real_of(io)->ops->size(real_of(io), file, ret_size);
}

static enum mr_status faulty_sync_dir(struct mr_io *io)
{
    return fails(io) ? MR_E_IO : real_of(io)->ops->sync_dir(real_of(io));
}

static void faulty_destroy(struct mr_io *io)
{
    (void)io;
}

static void tell(void *context, const char *text)
{
    struct fixture *f = context;
    assert_true(text[0] != '\0');
    f->told++;
}

static void make_pair(struct fixture *f)
{
    struct mr_mirror_options options = {
        .note = {.pair = 7, .generation = 1, .token = 3}, .tell = tell, .context = f};
    for (unsigned i = 0; i < 2; i++) {
        struct faulty *copy = &f->copies[i];
        assert_int_equal(mr_mirror_note_write(&copy->io, &options.note), MR_OK);
        options.copies[i] = &copy->io;
        options.names[i] = copy->folder.path;
    }
    assert_int_equal(mr_io_mirror_create(&options, &f->io), MR_OK);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    for (unsigned i = 0; i < 2; i++) {
        struct faulty *copy = &f->copies[i];
        copy->ops = (struct mr_io_ops){.open = faulty_open,
                                       .close = faulty_close,
                                       .pread = faulty_pread,
                                       .pwrite = faulty_pwrite,
                                       .sync = faulty_sync,
                                       .size = faulty_size,
                                       .sync_dir = faulty_sync_dir,
                                       .destroy = faulty_destroy};
        copy->io.ops = &copy->ops;
        log_folder_make(&copy->folder, "mirror");
    }
    make_pair(f);
    mr_segment_name(5, f->name);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    f->io->ops->destroy(f->io);
    for (unsigned i = 0; i < 2; i++) {
        log_folder_remove(&f->copies[i].folder);
    }
    free(f);
    return 0;
}

static void assert_holds(struct mr_io *io, const char *name, const void *data, size_t size)
{
    static uint8_t read[SIZE];
    assert_true(size <= SIZE);
    assert_int_equal(log_file_read(io, name, read, size, 0), size);
    assert_memory_equal(read, data, size);
}

/* --- the pair --------------------------------------------------------------------------------- */

static void test_note_outlives_one_of_its_blocks(void **state)
{
    struct fixture *f = *state;
    struct mr_io *io = f->copies[0].folder.io;
    struct mr_mirror_note note;
    static const uint8_t zeros[MR_IO_BLOCK];
    struct mr_mirror_note written = {.pair = 9, .generation = 4, .token = 5, .alone = true};
    for (uint64_t block = 0; block < 2; block++) {
        assert_int_equal(mr_mirror_note_write(io, &written), MR_OK);
        log_file_write(io, MR_MIRROR_NOTE, zeros, sizeof(zeros), block * MR_IO_BLOCK);
        assert_int_equal(mr_mirror_note_read(io, &note), MR_OK);
        assert_true(note.pair == 9 && note.generation == 4 && note.token == 5 && note.alone);
        assert_false(note.left);
    }
    log_file_write(io, MR_MIRROR_NOTE, zeros, sizeof(zeros), 0);
    assert_int_equal(mr_mirror_note_read(io, &note), MR_E_CORRUPT);
    assert_int_equal(note.pair, 0);
    assert_int_equal(io->ops->unlink(io, MR_MIRROR_NOTE), MR_OK);
    assert_int_equal(mr_mirror_note_read(io, &note), MR_E_NOT_FOUND);
}

static void test_what_is_written_is_in_both(void **state)
{
    struct fixture *f = *state;
    log_file_write(f->io, "a", "hello", 5, 0);
    assert_holds(f->copies[0].folder.io, "a", "hello", 5);
    assert_holds(f->copies[1].folder.io, "a", "hello", 5);
    assert_ptr_equal(mr_io_mirror_leads(f->io), &f->copies[0].io);
    assert_int_equal(f->copies[0].folder.io->ops->unlink(f->copies[0].folder.io, "a"), MR_OK);
    assert_holds(f->io, "a", "hello", 5); /* from the other */
    assert_int_equal(f->told, 0);
}

/* A crash can leave a spare file that only the one copy has whole, so that room is missing in the
 * other; as it is made again, both get all of it. */
static void test_room_is_made_where_either_lacks_it(void **state)
{
    struct fixture *f = *state;
    for (uint64_t less = 0; less < 2; less++) {
        char name[MR_LOG_NAME_SIZE];
        mr_free_name(less, name);
        log_file_write(f->copies[less].folder.io, name, f->data, SIZE / 2, 0);
        log_file_write(f->copies[1 - less].folder.io, name, f->data, SIZE, 0);
        struct mr_log_request request = {
            .kind = MR_LOG_SPARE, .from = less, .header = {.size = SIZE}};
        mr_log_perform(f->io, &request);
        assert_int_equal(request.result, MR_OK);
        assert_holds(f->copies[0].folder.io, name, f->data, SIZE);
        assert_holds(f->copies[1].folder.io, name, f->data, SIZE);
    }
    assert_int_equal(f->told, 0);
}

static void check_alone(struct fixture *f, unsigned failed)
{
    struct mr_mirror_status status;
    struct mr_mirror_note note;
    log_file_write(f->io, "a", "before", 6, 0);
    f->copies[failed].fails = true;
    log_file_write(f->io, "a", "behind", 6, 0);
    assert_int_equal(f->told, 1);
    mr_io_mirror_status(f->io, &status);
    assert_true(status.mirrored && status.alone);
    assert_string_equal(status.failed, f->copies[failed].folder.path);
    assert_ptr_equal(mr_io_mirror_leads(f->io), &f->copies[1 - failed].io);
    assert_int_equal(mr_mirror_note_read(f->copies[1 - failed].folder.io, &note), MR_OK);
    assert_true(note.alone && note.generation == 2 && note.pair == 7);
    f->copies[failed].fails = false; /* it is well again: what it has is older all the same */
    assert_holds(f->io, "a", "behind", 6);
    assert_holds(f->copies[failed].folder.io, "a", "before", 6);
    log_file_write(f->io, "b", "more", 4, 0);
    assert_holds(f->copies[1 - failed].folder.io, "b", "more", 4);
    int file;
    assert_int_equal(f->copies[failed].folder.io->ops->open(f->copies[failed].folder.io, "b",
                                                       MR_IO_READ_ONLY, &file),
                     MR_E_NOT_FOUND);
    assert_int_equal(f->told, 1);
}

static void test_it_goes_on_without_the_first(void **state)
{
    check_alone(*state, 0);
}

static void test_it_goes_on_without_the_second(void **state)
{
    check_alone(*state, 1);
}

static void test_when_both_fail_nothing_counts(void **state)
{
    struct fixture *f = *state;
    int file;
    log_file_write(f->io, "a", "before", 6, 0);
    assert_int_equal(f->io->ops->open(f->io, "a", MR_IO_WRITE, &file), MR_OK);
    f->copies[0].fails = true;
    f->copies[1].fails = true;
    assert_int_not_equal(f->io->ops->pwrite(f->io, file, "behind", 6, 0), MR_OK);
    f->io->ops->close(f->io, file);
}

/* --- a segment -------------------------------------------------------------------------------- */

/* @return bytes used */
static uint64_t make_segment(struct fixture *f)
{
    struct mr_segment_header segment = {.number = 5, .size = SIZE, .salt = SALT, .log_id = 9};
    uint64_t at = MR_LOG_BLOCK;
    mr_segment_header_encode(&segment, f->data);
    uint32_t chain = 0;
    for (uint64_t i = 1; i <= GROUPS; i++) {
        struct mr_group_header header = {.salt = SALT,
                                         .sequence = i,
                                         .first_offset = i,
                                         .next_offset = i + 1,
                                         .size = MR_GROUP_HEADER_SIZE,
                                         .padded = MR_LOG_BLOCK,
                                         .previous_crc = chain};
        struct mr_record record = {
            .kind = MR_RECORD_SETTLE, .offset = i, .body = mr_bytes_of("a body of some bytes")};
        uint8_t le[4];
        mr_put_u32(le, mr_record_encode(&record, f->data + at + header.size));
        header.records_crc = mr_crc32c(0, le, sizeof(le));
        header.records = 1;
        header.size += (uint32_t)mr_record_size(record.body.size);
        mr_group_header_encode(&header, f->data + at);
        chain = mr_get_u32(f->data + at + 124);
        at += header.padded;
    }
    log_file_write(f->io, f->name, f->data, SIZE, 0);
    return at;
}

static void damage(struct fixture *f, unsigned copy, uint64_t at)
{
    static const uint8_t ones[64] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    log_file_write(f->copies[copy].folder.io, f->name, ones, sizeof(ones), at);
}

static void test_each_damaged_group_is_repaired_from_the_other_copy(void **state)
{
    struct fixture *f = *state;
    uint64_t used = make_segment(f);
    for (uint64_t at = 0; at < used; at += MR_LOG_BLOCK) {
        for (unsigned copy = 0; copy < 2; copy++) {
            struct mr_log_mend mend = {.number = 5, .until = used};
            damage(f, copy, at + (at == 0 ? 0 : MR_GROUP_HEADER_SIZE));
            assert_int_equal(mr_log_mend(f->io, &mend, 0), MR_OK);
            assert_int_equal(mend.groups, GROUPS);
            assert_int_equal(mend.bad, 0);
            assert_int_equal(mend.end, used);
            assert_holds(f->copies[0].folder.io, f->name, f->data, SIZE);
            assert_holds(f->copies[1].folder.io, f->name, f->data, SIZE);
        }
    }
    struct mr_mirror_status status;
    mr_io_mirror_status(f->io, &status);
    assert_int_equal(status.repaired, 2 * used / MR_LOG_BLOCK);
}

/* What one wrong bit has spoilt is still read, but never taken for the better copy. */
static void test_one_wrong_bit_is_repaired_from_the_other_copy(void **state)
{
    static const uint64_t places[] = {40, MR_LOG_BLOCK + 40,
                                      MR_LOG_BLOCK + MR_GROUP_HEADER_SIZE + 8};
    struct fixture *f = *state;
    uint64_t used = make_segment(f);
    for (size_t i = 0; i < MR_ARRAY_COUNT(places); i++) {
        for (unsigned copy = 0; copy < 2; copy++) {
            struct mr_log_mend mend = {.number = 5, .until = used};
            log_file_flip(f->copies[copy].folder.io, f->name, places[i], 2);
            assert_int_equal(mr_log_mend(f->io, &mend, 0), MR_OK);
            assert_int_equal(mend.groups, GROUPS);
            assert_int_equal(mend.repaired, 1);
            assert_holds(f->copies[0].folder.io, f->name, f->data, SIZE);
            assert_holds(f->copies[1].folder.io, f->name, f->data, SIZE);
        }
    }
}

static void test_what_is_good_in_neither_is_named_and_left(void **state)
{
    struct fixture *f = *state;
    uint64_t used = make_segment(f);
    struct mr_log_mend mend = {.number = 5, .until = used};
    damage(f, 0, 4 * MR_LOG_BLOCK);
    damage(f, 1, 4 * MR_LOG_BLOCK);
    assert_int_equal(mr_log_mend(f->io, &mend, 0), MR_OK);
    assert_int_equal(mend.groups, GROUPS - 1);
    assert_int_equal(mend.bad, 1);
    assert_int_equal(mend.bad_from, 4 * MR_LOG_BLOCK);
    assert_int_equal(mend.bad_end, 5 * MR_LOG_BLOCK);
    assert_int_equal(mend.lost_first, 4);
    assert_int_equal(mend.lost_end, 5);
    assert_int_equal(mend.repaired, 0);
}

/* The header is damaged in both: the groups have what it says, and none of them is lost. */
static void test_a_start_makes_equal_what_has_no_header(void **state)
{
    struct fixture *f = *state;
    (void)make_segment(f);
    log_file_write(f->io, "checkpoint-0", "", 1, 0); /* the log did not begin with this one */
    damage(f, 0, 0);
    damage(f, 1, 0);
    damage(f, 0, 4 * MR_LOG_BLOCK);
    mr_io_mirror_dissolve(f->io);
    f->told = 0;
    struct mr_log_mirror_options options = {
        .copies = {f->copies[0].folder.io, f->copies[1].folder.io},
        .names = {f->copies[0].folder.path, f->copies[1].folder.path},
        .tell = tell,
        .context = f,
    };
    struct mr_problem problem;
    struct mr_mirror_status status;
    assert_int_equal(mr_log_mirror_open(&options, &f->io, &problem), MR_OK);
    mr_io_mirror_status(f->io, &status);
    assert_false(status.alone);
    struct mr_log_mend mend = {.number = 5, .salt = SALT, .until = (GROUPS + 1) * MR_LOG_BLOCK};
    assert_int_equal(mr_log_mend(f->io, &mend, 0), MR_OK);
    assert_int_equal(mend.groups, GROUPS);
    assert_int_equal(mend.repaired, 0);
    mr_io_mirror_dissolve(f->io);
    make_pair(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_note_outlives_one_of_its_blocks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_is_written_is_in_both, setup, teardown),
        cmocka_unit_test_setup_teardown(test_room_is_made_where_either_lacks_it, setup, teardown),
        cmocka_unit_test_setup_teardown(test_it_goes_on_without_the_first, setup, teardown),
        cmocka_unit_test_setup_teardown(test_it_goes_on_without_the_second, setup, teardown),
        cmocka_unit_test_setup_teardown(test_when_both_fail_nothing_counts, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_each_damaged_group_is_repaired_from_the_other_copy, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_wrong_bit_is_repaired_from_the_other_copy, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_what_is_good_in_neither_is_named_and_left, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_start_makes_equal_what_has_no_header, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
