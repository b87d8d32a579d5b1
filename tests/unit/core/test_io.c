#include "tests/support/test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/bytes.h"
#include "core/io.h"

/* Each test has a directory of its own under the temporary one. */
struct place {
    char path[256];
    struct mr_io *io;
};

static int set_up(void **state)
{
    struct place *p = calloc(1, sizeof(*p));
    const char *tmp = getenv("TMPDIR");
    if (p == NULL) {
        return -1;
    }
    snprintf(p->path, sizeof(p->path), "%s/mr-io-XXXXXX", tmp == NULL ? "/tmp" : tmp);
    if (mkdtemp(p->path) == NULL || mr_io_create(p->path, false, false, &p->io) != MR_OK) {
        free(p);
        return -1;
    }
    *state = p;
    return 0;
}

static int tear_down(void **state)
{
    struct place *p = *state;
    p->io->ops->destroy(p->io);
    DIR *dir = opendir(p->path);
    for (struct dirent *e = dir == NULL ? NULL : readdir(dir); e != NULL; e = readdir(dir)) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
            unlinkat(dirfd(dir), e->d_name, 0) != 0) {
            (void)unlinkat(dirfd(dir), e->d_name, AT_REMOVEDIR);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
    int r = rmdir(p->path);
    free(p);
    return r;
}

static char *in_place(const struct place *p, const char *name)
{
    static char path[512];
    snprintf(path, sizeof(path), "%s/%s", p->path, name);
    return path;
}

static int open_new(struct place *p, const char *name, unsigned flags)
{
    int file = -1;
    assert_int_equal(p->io->ops->open(p->io, name, flags | MR_IO_WRITE | MR_IO_CREATE, &file),
                     MR_OK);
    assert_true(file >= 0);
    return file;
}

static void test_io_pwrite_then_pread_gives_it_back(void **state)
{
    struct place *p = *state;
    const struct mr_io_ops *ops = p->io->ops;
    int file = open_new(p, "a", 0);
    assert_int_equal(ops->pwrite(p->io, file, "hello", 5, 10), MR_OK);
    uint64_t size = 0;
    assert_int_equal(ops->size(p->io, file, &size), MR_OK);
    assert_int_equal(size, 15);
    char to[32];
    size_t got = 0;
    assert_int_equal(ops->pread(p->io, file, to, sizeof(to), 10, &got), MR_OK);
    assert_int_equal(got, 5);
    assert_memory_equal(to, "hello", 5);
    assert_int_equal(ops->pread(p->io, file, to, 10, 0, &got), MR_OK);
    assert_int_equal(got, 10);
    assert_memory_equal(to, "\0\0\0\0\0\0\0\0\0\0", 10);
    assert_int_equal(ops->pread(p->io, file, to, 10, 99, &got), MR_OK);
    assert_int_equal(got, 0);
    assert_int_equal(ops->sync(p->io, file), MR_OK);
    assert_int_equal(ops->sync_dir(p->io), MR_OK);
    ops->close(p->io, file);
}

static void write_blocks(struct place *p, unsigned flags)
{
    const struct mr_io_ops *ops = p->io->ops;
    int file = open_new(p, "blocks", flags);
    uint8_t *block = mr_alloc_aligned(MR_IO_BLOCK, 2 * MR_IO_BLOCK);
    assert_non_null(block);
    for (unsigned i = 0; i < 4; i++) {
        memset(block, 'a' + (int)i, 2 * MR_IO_BLOCK);
        assert_int_equal(ops->pwrite(p->io, file, block, 2 * MR_IO_BLOCK,
                                     (uint64_t)i * 2 * MR_IO_BLOCK), MR_OK);
    }
    uint64_t size = 0;
    assert_int_equal(ops->size(p->io, file, &size), MR_OK);
    assert_int_equal(size, 8 * MR_IO_BLOCK);
    size_t got = 0;
    assert_int_equal(ops->pread(p->io, file, block, MR_IO_BLOCK, 5 * MR_IO_BLOCK, &got), MR_OK);
    assert_int_equal(got, MR_IO_BLOCK);
    assert_int_equal(block[0], 'c');
    assert_int_equal(block[MR_IO_BLOCK - 1], 'c');
    ops->close(p->io, file);
    /* Another way in sees the same bytes. */
    assert_int_equal(ops->open(p->io, "blocks", MR_IO_READ_ONLY, &file), MR_OK);
    assert_int_equal(ops->pread(p->io, file, block, 2 * MR_IO_BLOCK, 7 * MR_IO_BLOCK, &got), MR_OK);
    assert_int_equal(got, MR_IO_BLOCK);
    assert_int_equal(block[0], 'd');
    ops->close(p->io, file);
    mr_free(block);
}

static void test_io_durable_aligned_blocks_are_written(void **state)
{
    write_blocks(*state, MR_IO_DURABLE);
}

static void test_io_direct_aligned_blocks_are_written(void **state)
{
    write_blocks(*state, MR_IO_DIRECT);
}

static void test_io_durable_file_is_direct_or_synced(void **state)
{
    struct place *p = *state;
    int file = open_new(p, "d", MR_IO_DURABLE);
    int flags = fcntl(file, F_GETFL);
    assert_int_equal((flags & O_DIRECT) != 0, mr_io_is_direct(p->io));
    if (mr_io_is_direct(p->io)) {
        assert_int_equal(flags & O_DSYNC, O_DSYNC);
    }
    assert_int_equal(fcntl(file, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    p->io->ops->close(p->io, file);
    file = open_new(p, "plain", 0);
    assert_int_equal(fcntl(file, F_GETFL) & (O_DIRECT | O_DSYNC), 0);
    p->io->ops->close(p->io, file);
}

static void test_io_open_failures_have_their_status(void **state)
{
    struct place *p = *state;
    const struct mr_io_ops *ops = p->io->ops;
    int file = 77;
    assert_int_equal(ops->open(p->io, "missing", MR_IO_READ_ONLY, &file), MR_E_NOT_FOUND);
    assert_int_equal(ops->open(p->io, "missing", MR_IO_WRITE, &file), MR_E_NOT_FOUND);
    assert_int_equal(ops->open(p->io, "missing", MR_IO_WRITE | MR_IO_DURABLE, &file),
                     MR_E_NOT_FOUND);
    assert_int_equal(symlink("/etc/passwd", in_place(p, "link")), 0);
    assert_int_equal(mr_status_class(ops->open(p->io, "link", MR_IO_READ_ONLY, &file)),
                     MR_CLASS_FATAL);
    assert_int_equal(file, 77);
    assert_int_equal(ops->unlink(p->io, "missing"), MR_E_NOT_FOUND);
    assert_int_equal(ops->rename(p->io, "missing", "other"), MR_E_NOT_FOUND);
}

static void test_io_created_files_are_private(void **state)
{
    struct place *p = *state;
    int file = open_new(p, "secret", 0);
    struct stat st;
    assert_int_equal(fstat(file, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    p->io->ops->close(p->io, file);
}

static void test_io_write_to_read_only_file_fails(void **state)
{
    struct place *p = *state;
    const struct mr_io_ops *ops = p->io->ops;
    ops->close(p->io, open_new(p, "r", 0));
    int file = -1;
    assert_int_equal(ops->open(p->io, "r", MR_IO_READ_ONLY, &file), MR_OK);
    assert_int_equal(ops->pwrite(p->io, file, "x", 1, 0), MR_E_IO);
    ops->close(p->io, file);
}

static void test_io_rename_truncate_unlink_do_it(void **state)
{
    struct place *p = *state;
    const struct mr_io_ops *ops = p->io->ops;
    int file = open_new(p, "one", 0);
    assert_int_equal(ops->pwrite(p->io, file, "0123456789", 10, 0), MR_OK);
    assert_int_equal(ops->truncate(p->io, file, 4), MR_OK);
    uint64_t size = 0;
    assert_int_equal(ops->size(p->io, file, &size), MR_OK);
    assert_int_equal(size, 4);
    assert_int_equal(ops->truncate(p->io, file, 8192), MR_OK);
    assert_int_equal(ops->size(p->io, file, &size), MR_OK);
    assert_int_equal(size, 8192);
    ops->close(p->io, file);
    ops->close(p->io, open_new(p, "two", 0));
    assert_int_equal(ops->rename(p->io, "one", "two"), MR_OK); /* replaces */
    assert_int_equal(ops->open(p->io, "one", MR_IO_READ_ONLY, &file), MR_E_NOT_FOUND);
    assert_int_equal(ops->open(p->io, "two", MR_IO_READ_ONLY, &file), MR_OK);
    assert_int_equal(ops->size(p->io, file, &size), MR_OK);
    assert_int_equal(size, 8192);
    ops->close(p->io, file);
    assert_int_equal(ops->unlink(p->io, "two"), MR_OK);
    assert_int_equal(ops->open(p->io, "two", MR_IO_READ_ONLY, &file), MR_E_NOT_FOUND);
}

static void collect(void *context, const char *name)
{
    char *text = context;
    size_t size = strlen(text);
    snprintf(text + size, 512 - size, "%s ", name);
}

static void test_io_list_is_sorted_and_regular_files_only(void **state)
{
    struct place *p = *state;
    static const char *const names[] = {"b", "a10", "a9", "c", "A"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(names); i++) {
        p->io->ops->close(p->io, open_new(p, names[i], 0));
    }
    assert_int_equal(mkdir(in_place(p, "aa"), 0700), 0);
    assert_int_equal(symlink("a9", in_place(p, "ab")), 0);
    char text[512] = "";
    assert_int_equal(p->io->ops->list(p->io, collect, text), MR_OK);
    assert_string_equal(text, "A a10 a9 b c ");
}

static void test_io_list_nth_allocation_fails_cleanly(void **state)
{
    struct place *p = *state;
    for (int i = 0; i < 3; i++) {
        char name[] = {(char)('a' + i), '\0'};
        p->io->ops->close(p->io, open_new(p, name, 0));
    }
    int64_t live = mr_alloc_live();
    unsigned n = 1;
    for (;; n++) {
        char text[512] = "";
        mr_alloc_fail_at(n, 0);
        enum mr_status r = p->io->ops->list(p->io, collect, text);
        mr_alloc_fail_at(0, 0);
        assert_int_equal(mr_alloc_live(), live);
        if (r == MR_OK) {
            assert_string_equal(text, "a b c ");
            break;
        }
        assert_int_equal(r, MR_E_NOMEM);
        assert_string_equal(text, "");
    }
    assert_int_equal(n, 7);
}

static void test_io_space_is_plausible(void **state)
{
    struct place *p = *state;
    uint64_t free_bytes = 0;
    uint64_t total = 0;
    assert_int_equal(p->io->ops->space(p->io, &free_bytes, &total), MR_OK);
    assert_true(total > 0);
    assert_true(free_bytes <= total);
}

/* --- directories and the lock -------------------------------------------------------------- */

static void test_io_create_missing_directory_only_when_asked(void **state)
{
    struct place *p = *state;
    struct mr_io *io = NULL;
    char *path = in_place(p, "data");
    assert_int_equal(mr_io_create(path, false, false, &io), MR_E_NOT_FOUND);
    assert_null(io);
    assert_int_equal(mr_io_create(path, true, false, &io), MR_OK);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    io->ops->destroy(io);
    io = NULL;
    assert_int_equal(mr_io_create(path, true, false, &io), MR_OK); /* there already */
    io->ops->destroy(io);
}

static void test_io_create_on_a_file_fails(void **state)
{
    struct place *p = *state;
    p->io->ops->close(p->io, open_new(p, "file", 0));
    struct mr_io *io = NULL;
    assert_int_not_equal(mr_io_create(in_place(p, "file"), true, false, &io), MR_OK);
    assert_null(io);
}

static void test_io_create_exclusive_keeps_others_out(void **state)
{
    struct place *p = *state;
    struct mr_io *first = NULL;
    struct mr_io *second = NULL;
    assert_int_equal(mr_io_create(p->path, true, true, &first), MR_OK);
    int64_t live = mr_alloc_live();
    assert_int_equal(mr_io_create(p->path, true, true, &second), MR_E_LOCKED);
    assert_null(second);
    assert_int_equal(mr_alloc_live(), live);
    assert_int_equal(mr_io_create(p->path, false, false, &second), MR_OK); /* readers may */
    second->ops->destroy(second);
    first->ops->destroy(first);
    assert_int_equal(mr_io_create(p->path, true, true, &second), MR_OK);
    second->ops->destroy(second);
}

static void test_io_create_out_of_memory_fails_cleanly(void **state)
{
    struct place *p = *state;
    struct mr_io *io = NULL;
    int64_t live = mr_alloc_live();
    mr_alloc_fail_at(1, 0);
    enum mr_status r = mr_io_create(p->path, false, false, &io);
    mr_alloc_fail_at(0, 0);
    assert_int_equal(r, MR_E_NOMEM);
    assert_null(io);
    assert_int_equal(mr_alloc_live(), live);
}

/* --- whole files and descriptors ----------------------------------------------------------- */

static void test_file_read_gives_all_with_a_terminator(void **state)
{
    struct place *p = *state;
    int file = open_new(p, "f", 0);
    assert_int_equal(p->io->ops->pwrite(p->io, file, "a\0b", 3, 0), MR_OK);
    p->io->ops->close(p->io, file);
    char *text = NULL;
    size_t size = 0;
    assert_int_equal(mr_file_read(in_place(p, "f"), 3, &text, &size), MR_OK);
    assert_int_equal(size, 3);
    assert_memory_equal(text, "a\0b\0", 4);
    mr_free(text);
}

static void test_file_read_limits_and_failures(void **state)
{
    struct place *p = *state;
    int file = open_new(p, "f", 0);
    char block[1000];
    memset(block, 'x', sizeof(block));
    assert_int_equal(p->io->ops->pwrite(p->io, file, block, sizeof(block), 0), MR_OK);
    p->io->ops->close(p->io, file);
    p->io->ops->close(p->io, open_new(p, "empty", 0));
    char *text = NULL;
    size_t size = 42;
    int64_t live = mr_alloc_live();
    assert_int_equal(mr_file_read(in_place(p, "f"), 999, &text, &size), MR_E_TOO_BIG);
    assert_int_equal(mr_file_read(in_place(p, "f"), 10, &text, &size), MR_E_TOO_BIG);
    assert_int_equal(mr_file_read(in_place(p, "nosuch"), 10, &text, &size), MR_E_NOT_FOUND);
    assert_int_equal(mr_file_read(p->path, 10, &text, &size), MR_E_IO);
    assert_null(text);
    assert_int_equal(size, 42);
    assert_int_equal(mr_alloc_live(), live);
    assert_int_equal(mr_file_read(in_place(p, "f"), 1000, &text, &size), MR_OK);
    assert_int_equal(size, 1000);
    mr_free(text);
    assert_int_equal(mr_file_read(in_place(p, "empty"), 0, &text, &size), MR_OK);
    assert_int_equal(size, 0);
    assert_string_equal(text, "");
    mr_free(text);
}

static void test_file_read_nth_allocation_fails_cleanly(void **state)
{
    struct place *p = *state;
    int file = open_new(p, "f", 0);
    char block[2000] = {0};
    assert_int_equal(p->io->ops->pwrite(p->io, file, block, sizeof(block), 0), MR_OK);
    p->io->ops->close(p->io, file);
    int64_t live = mr_alloc_live();
    unsigned n = 1;
    for (;; n++) {
        char *text = NULL;
        size_t size = 0;
        mr_alloc_fail_at(n, 0);
        enum mr_status r = mr_file_read(in_place(p, "f"), 4000, &text, &size);
        mr_alloc_fail_at(0, 0);
        if (r == MR_OK) {
            mr_free(text);
            break;
        }
        assert_int_equal(r, MR_E_NOMEM);
        assert_int_equal(mr_alloc_live(), live);
    }
    assert_true(n > 3);
}

static void test_fd_write_and_read_full_over_a_pipe(void **state)
{
    (void)state;
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    assert_true(mr_fd_write_full(fds[1], "abc", 3));
    assert_true(mr_fd_write_full(fds[1], "defg", 4));
    assert_true(mr_fd_write_full(fds[1], "", 0));
    char to[16];
    assert_int_equal(mr_fd_read_full(fds[0], to, 7), 7);
    assert_memory_equal(to, "abcdefg", 7);
    assert_true(mr_fd_write_full(fds[1], "x", 1));
    close(fds[1]);
    assert_int_equal(mr_fd_read_full(fds[0], to, 16), 1);
    assert_int_equal(mr_fd_read_full(fds[0], to, 16), 0);
    close(fds[0]);
    assert_int_equal(mr_fd_read_full(-1, to, 1), -1);
    assert_int_equal(errno, EBADF);
    assert_false(mr_fd_write_full(-1, to, 1));
    assert_int_equal(errno, EBADF);
}

#define IO_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IO_TEST(test_io_pwrite_then_pread_gives_it_back),
        IO_TEST(test_io_durable_aligned_blocks_are_written),
        IO_TEST(test_io_direct_aligned_blocks_are_written),
        IO_TEST(test_io_durable_file_is_direct_or_synced),
        IO_TEST(test_io_open_failures_have_their_status),
        IO_TEST(test_io_created_files_are_private),
        IO_TEST(test_io_write_to_read_only_file_fails),
        IO_TEST(test_io_rename_truncate_unlink_do_it),
        IO_TEST(test_io_list_is_sorted_and_regular_files_only),
        IO_TEST(test_io_list_nth_allocation_fails_cleanly),
        IO_TEST(test_io_space_is_plausible),
        IO_TEST(test_io_create_missing_directory_only_when_asked),
        IO_TEST(test_io_create_on_a_file_fails),
        IO_TEST(test_io_create_exclusive_keeps_others_out),
        IO_TEST(test_io_create_out_of_memory_fails_cleanly),
        IO_TEST(test_file_read_gives_all_with_a_terminator),
        IO_TEST(test_file_read_limits_and_failures),
        IO_TEST(test_file_read_nth_allocation_fails_cleanly),
        cmocka_unit_test(test_fd_write_and_read_full_over_a_pipe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
