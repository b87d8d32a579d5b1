#include "tests/support/test.h"

#include "bus/logwindow.h"
#include "core/alloc.h"
#include "core/rng.h"
#include "tests/support/logfolder.h"

#define SEGMENTS 4u
#define SEGMENT_SIZE (11u * MR_MIB)
#define UNUSABLE 2u /* of them */

/* A folder of segments whose bytes tell where they stand; files are read through an io that can be
 * made to refuse. */
struct place {
    struct mr_io io; /* first: cast back */
    struct log_folder folder;
    struct mr_io *real; /* of the folder */
    struct mr_log_segment segments[SEGMENTS];
    struct mr_log_index index;
    struct mr_rng rng;
    unsigned refuse; /* one of so many reads fails; 0: none */
    int open_files;
    uint64_t begun;
};

static struct place *of(struct mr_io *io)
{
    return (struct place *)io;
}

static bool refuses(struct place *p)
{
    return p->refuse > 0 && mr_rng_chance(&p->rng, 1, p->refuse);
}

static enum mr_status place_open(struct mr_io *io, const char *name, unsigned flags, int *ret_file)
{
    enum mr_status r = of(io)->real->ops->open(of(io)->real, name, flags, ret_file);
    of(io)->open_files += r == MR_OK;
    return r;
}

static void place_close(struct mr_io *io, int file)
{
    of(io)->open_files--;
    of(io)->real->ops->close(of(io)->real, file);
}

static enum mr_status place_pread(struct mr_io *io, int file, void *to, size_t size, uint64_t at,
                                  size_t *ret_size)
{
    return refuses(of(io))
               ? MR_E_IO
               : of(io)->real->ops->pread(of(io)->real, file, to, size, at, ret_size);
}

static enum mr_status place_read_begin(struct mr_io *io, int file, void *to, size_t size,
                                       uint64_t at, struct mr_io_read **ret_read)
{
    if (refuses(of(io))) {
        return MR_E_UNAVAILABLE;
    }
    of(io)->begun++;
    return of(io)->real->ops->read_begin(of(io)->real, file, to, size, at, ret_read);
}

static enum mr_status place_read_end(struct mr_io *io, struct mr_io_read *read, size_t *ret_size)
{
    enum mr_status r = of(io)->real->ops->read_end(of(io)->real, read, ret_size);
    return refuses(of(io)) ? MR_E_IO : r;
}

static const struct mr_io_ops place_ops = {
    .open = place_open,
    .close = place_close,
    .pread = place_pread,
    .read_begin = place_read_begin,
    .read_end = place_read_end,
};

static const struct mr_io_ops plain_ops = {
    .open = place_open,
    .close = place_close,
    .pread = place_pread,
};

static uint64_t word_at(uint32_t segment, uint64_t at)
{
    return ((uint64_t)segment + 1) << 40 | at;
}

static int set_up(void **state)
{
    struct place *p = calloc(1, sizeof(*p));
    uint64_t *words = malloc(SEGMENT_SIZE);
    if (p == NULL || words == NULL) {
        return -1;
    }
    log_folder_make(&p->folder, "window");
    p->real = p->folder.io;
    for (uint32_t i = 0; i < SEGMENTS; i++) {
        char name[MR_LOG_NAME_SIZE];
        p->segments[i] = (struct mr_log_segment){
            .number = i + 1, .file_size = SEGMENT_SIZE, .usable = i != UNUSABLE};
        mr_segment_name(i + 1, name);
        for (uint64_t at = 0; at < SEGMENT_SIZE; at += 8) {
            words[at / 8] = word_at(i, at);
        }
        log_file_write(p->real, name, words, SEGMENT_SIZE, 0);
    }
    free(words);
    p->index = (struct mr_log_index){.segments = p->segments, .segment_count = SEGMENTS};
    p->io.ops = &place_ops;
    mr_rng_init(&p->rng, 7);
    *state = p;
    return 0;
}

static int tear_down(void **state)
{
    struct place *p = *state;
    log_folder_remove(&p->folder);
    free(p);
    return 0;
}

static void check_bytes(const uint8_t *data, uint32_t segment, uint64_t at, size_t size)
{
    for (size_t i = 0; i + 8 <= size; i += 8) {
        uint64_t word;
        memcpy(&word, data + i, sizeof(word));
        assert_int_equal(word, word_at(segment, at + i));
    }
}

/* As recovery does: a header, then its group, then the next, to the end of the last segment. */
static void read_through(struct place *p, size_t largest)
{
    struct mr__log_window window;
    mr__window_init(&window, &p->io, &p->index);
    for (uint32_t segment = 0; segment < SEGMENTS; segment++) {
        for (uint64_t at = MR_LOG_BLOCK; segment != UNUSABLE && at < SEGMENT_SIZE;) {
            uint64_t left = SEGMENT_SIZE - at;
            size_t size = 128 + (size_t)mr_rng_below(&p->rng, largest) / 8 * 8;
            size = size < left ? size : (size_t)left;
            const uint8_t *data = NULL;
            while (mr__window_fetch(&window, segment, at, 128, &data) != MR_OK) {
                assert_true(p->refuse > 0);
            }
            check_bytes(data, segment, at, 128);
            while (mr__window_fetch(&window, segment, at, size, &data) != MR_OK) {
                assert_true(p->refuse > 0);
            }
            assert_non_null(data);
            check_bytes(data, segment, at, size);
            at += mr_round_up(size, MR_LOG_BLOCK);
        }
    }
    mr__window_release(&window);
    assert_int_equal(p->open_files, 0);
}

static void test_window_fetch_one_after_another_gives_every_byte(void **state)
{
    struct place *p = *state;
    static const size_t largest[] = {64, 64 * MR_KIB, MR_MIB + MR_KIB, 5 * MR_MIB, 10 * MR_MIB};
    for (size_t i = 0; i < MR_ARRAY_COUNT(largest); i++) {
        read_through(p, largest[i]);
    }
    assert_true(p->begun > 0);
}

static void test_window_fetch_without_reading_ahead_gives_every_byte(void **state)
{
    struct place *p = *state;
    p->io.ops = &plain_ops;
    read_through(p, MR_MIB);
    assert_int_equal(p->begun, 0);
}

static void test_window_fetch_while_reads_fail_gives_every_byte(void **state)
{
    struct place *p = *state;
    p->refuse = 4;
    read_through(p, 64 * MR_KIB);
    read_through(p, 5 * MR_MIB);
}

static void test_window_fetch_anywhere_gives_what_stands_there(void **state)
{
    struct place *p = *state;
    struct mr__log_window window;
    mr__window_init(&window, &p->io, &p->index);
    uint32_t segment = 0;
    uint64_t at = MR_LOG_BLOCK;
    for (int i = 0; i < 3000; i++) {
        if (mr_rng_chance(&p->rng, 1, 8)) {
            segment = (uint32_t)mr_rng_below(&p->rng, SEGMENTS);
            at = mr_rng_chance(&p->rng, 1, 3)
                     ? MR_LOG_BLOCK
                     : mr_rng_below(&p->rng, SEGMENT_SIZE / MR_LOG_BLOCK) * MR_LOG_BLOCK;
        }
        size_t size = 8 + (size_t)mr_rng_below(&p->rng, 3 * MR_MIB) / 8 * 8;
        const uint8_t *data;
        assert_int_equal(mr__window_fetch(&window, segment, at, size, &data), MR_OK);
        assert_true((data != NULL) == (at + size <= SEGMENT_SIZE));
        if (data != NULL) {
            check_bytes(data, segment, at, size < 4096 ? size : 4096);
            check_bytes(data + size - 8, segment, at + size - 8, 8);
            at += mr_round_up(size, MR_LOG_BLOCK);
        }
    }
    mr__window_release(&window);
    assert_int_equal(p->open_files, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_window_fetch_one_after_another_gives_every_byte,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_window_fetch_without_reading_ahead_gives_every_byte,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_window_fetch_while_reads_fail_gives_every_byte,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_window_fetch_anywhere_gives_what_stands_there, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
