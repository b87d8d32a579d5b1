#include "core/io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/assert.h"
#include "core/bytes.h"

/* The real file system. Files are plain descriptors relative to a directory descriptor. Where the
 * file system refuses O_DIRECT (tmpfs), a durable write is pwrite and fdatasync; the file's number
 * says so, because files are opened and written by several threads. */
#define NEEDS_SYNC (1 << 30)

struct real_io {
    struct mr_io io;
    int dir_fd;
    int lock_fd;            /* -1 when not exclusive */
    _Atomic bool no_direct; /* learnt at the first refused open; relaxed, learnt again at worst */
};

static struct real_io *real(struct mr_io *io)
{
    return (struct real_io *)io;
}

static int fd_of(int file)
{
    return file & ~NEEDS_SYNC;
}

static enum mr_status real_open(struct mr_io *io, const char *name, unsigned flags, int *ret_file)
{
    struct real_io *r = real(io);
    bool direct = (flags & (MR_IO_DURABLE | MR_IO_DIRECT)) != 0;
    int mode = ((flags & MR_IO_WRITE) != 0 ? O_RDWR : O_RDONLY) |
               ((flags & MR_IO_CREATE) != 0 ? O_CREAT : 0) | O_CLOEXEC | O_NOFOLLOW;
    int durable = (flags & MR_IO_DURABLE) != 0 ? O_DSYNC : 0;
    int fd = -1;
    if (direct && !r->no_direct) {
        fd = openat(r->dir_fd, name, mode | durable | O_DIRECT, 0600);
        if (fd < 0 && errno == EINVAL) {
            r->no_direct = true;
        }
    }
    bool buffered_durable = false;
    if (fd < 0 && (!direct || r->no_direct)) {
        fd = openat(r->dir_fd, name, mode, 0600);
        buffered_durable = (flags & MR_IO_DURABLE) != 0;
    }
    if (fd < 0) {
        return mr_status_from_errno(errno);
    }
    *ret_file = buffered_durable ? fd | NEEDS_SYNC : fd;
    return MR_OK;
}

static void real_close(struct mr_io *io, int file)
{
    (void)io;
    close(fd_of(file));
}

static enum mr_status real_pread(struct mr_io *io, int file, void *to, size_t size, uint64_t at,
                                 size_t *ret_size)
{
    (void)io;
    size_t done = 0;
    while (done < size) {
        ssize_t n = pread(fd_of(file), (char *)to + done, size - done, (off_t)(at + done));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return mr_status_from_errno(errno);
        }
        if (n == 0) {
            break;
        }
        done += (size_t)n;
    }
    *ret_size = done;
    return MR_OK;
}

static enum mr_status real_pwrite(struct mr_io *io, int file, const void *from, size_t size,
                                  uint64_t at)
{
    size_t done = 0;
    while (done < size) {
        ssize_t n = pwrite(fd_of(file), (const char *)from + done, size - done, (off_t)(at + done));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n == 0 ? MR_E_IO : mr_status_from_errno(errno);
        }
        done += (size_t)n;
    }
    (void)io;
    if ((file & NEEDS_SYNC) != 0 && fdatasync(fd_of(file)) != 0) {
        return mr_status_from_errno(errno);
    }
    return MR_OK;
}

/* A thread for each: they come by megabytes, and a thread costs a few microseconds. */
struct mr_io_read {
    struct mr_io *io;
    int file;
    void *to;
    size_t size;
    uint64_t at;
    pthread_t thread;
    enum mr_status result;
    size_t result_size;
};

static void *run_read(void *argument)
{
    struct mr_io_read *read = argument;
    read->result =
        real_pread(read->io, read->file, read->to, read->size, read->at, &read->result_size);
    return NULL;
}

static enum mr_status real_read_begin(struct mr_io *io, int file, void *to, size_t size,
                                      uint64_t at, struct mr_io_read **ret_read)
{
    struct mr_io_read *read = mr_alloc(sizeof(*read));
    if (read == NULL) {
        return MR_E_NOMEM;
    }
    *read = (struct mr_io_read){.io = io, .file = file, .to = to, .size = size, .at = at};
    sigset_t all; /* inherited: signals are for the others */
    sigset_t before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&read->thread, NULL, run_read, read);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) {
        mr_free(read);
        return MR_E_UNAVAILABLE;
    }
    *ret_read = read;
    return MR_OK;
}

static enum mr_status real_read_end(struct mr_io *io, struct mr_io_read *read, size_t *ret_size)
{
    (void)io;
    (void)pthread_join(read->thread, NULL); /* ours, not detached: cannot fail */
    enum mr_status r = read->result;
    *ret_size = read->result_size;
    mr_free(read);
    return r;
}

static void real_will_need(struct mr_io *io, int file, uint64_t at, uint64_t size)
{
    (void)io;
    (void)posix_fadvise(fd_of(file), (off_t)at, (off_t)size, POSIX_FADV_WILLNEED); /* or not */
}

static enum mr_status real_sync(struct mr_io *io, int file)
{
    (void)io;
    return fsync(fd_of(file)) == 0 ? MR_OK : mr_status_from_errno(errno);
}

static enum mr_status real_size(struct mr_io *io, int file, uint64_t *ret_size)
{
    (void)io;
    struct stat st;
    if (fstat(fd_of(file), &st) != 0) {
        return mr_status_from_errno(errno);
    }
    *ret_size = (uint64_t)st.st_size;
    return MR_OK;
}

static enum mr_status real_truncate(struct mr_io *io, int file, uint64_t size)
{
    (void)io;
    return ftruncate(fd_of(file), (off_t)size) == 0 ? MR_OK : mr_status_from_errno(errno);
}

static enum mr_status real_rename(struct mr_io *io, const char *from, const char *to)
{
    int dir = real(io)->dir_fd;
    return renameat(dir, from, dir, to) == 0 ? MR_OK : mr_status_from_errno(errno);
}

static enum mr_status real_unlink(struct mr_io *io, const char *name)
{
    return unlinkat(real(io)->dir_fd, name, 0) == 0 ? MR_OK : mr_status_from_errno(errno);
}

static enum mr_status real_sync_dir(struct mr_io *io)
{
    return fsync(real(io)->dir_fd) == 0 ? MR_OK : mr_status_from_errno(errno);
}

static int compare_names(const void *a, const void *b)
{
    char *const *x = a;
    char *const *y = b;
    return strcmp(*x, *y);
}

/* What lies in the directory says what it is; where the file system does not tell, its inode, which
 * with thousands of files is the greater part of a listing. */
static bool is_file(int dir_fd, const struct dirent *entry)
{
    struct stat st;
    if (entry->d_type != DT_UNKNOWN) {
        return entry->d_type == DT_REG;
    }
    return fstatat(dir_fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode);
}

static enum mr_status real_list(struct mr_io *io, void (*fn)(void *, const char *), void *context)
{
    int fd = openat(real(io)->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (dir == NULL) {
        enum mr_status failed = mr_status_from_errno(errno);
        if (fd >= 0) {
            close(fd);
        }
        return failed;
    }
    char **names = NULL;
    size_t count = 0;
    enum mr_status r = MR_OK;
    for (struct dirent *entry = readdir(dir); entry != NULL && r == MR_OK; entry = readdir(dir)) {
        if (!is_file(real(io)->dir_fd, entry)) {
            continue;
        }
        char **grown = mr_realloc(names, (count + 1) * sizeof(*grown));
        char *name = mr_strdup(entry->d_name);
        names = grown == NULL ? names : grown;
        if (grown == NULL || name == NULL) {
            mr_free(name);
            r = MR_E_NOMEM;
        } else {
            names[count++] = name;
        }
    }
    closedir(dir);
    if (count > 0) {
        qsort(names, count, sizeof(*names), compare_names);
    }
    for (size_t i = 0; i < count; i++) {
        if (r == MR_OK) {
            fn(context, names[i]);
        }
        mr_free(names[i]);
    }
    mr_free(names);
    return r;
}

static enum mr_status real_space(struct mr_io *io, uint64_t *ret_free, uint64_t *ret_total)
{
    struct statvfs st;
    if (fstatvfs(real(io)->dir_fd, &st) != 0) {
        return mr_status_from_errno(errno);
    }
    *ret_free = (uint64_t)st.f_bavail * st.f_frsize;
    *ret_total = (uint64_t)st.f_blocks * st.f_frsize;
    return MR_OK;
}

static void real_destroy(struct mr_io *io)
{
    struct real_io *r = real(io);
    if (r->lock_fd >= 0) {
        close(r->lock_fd);
    }
    close(r->dir_fd);
    mr_free(r);
}

static const struct mr_io_ops real_ops = {
    .open = real_open,
    .close = real_close,
    .pread = real_pread,
    .will_need = real_will_need,
    .pwrite = real_pwrite,
    .read_begin = real_read_begin,
    .read_end = real_read_end,
    .sync = real_sync,
    .size = real_size,
    .truncate = real_truncate,
    .rename = real_rename,
    .unlink = real_unlink,
    .sync_dir = real_sync_dir,
    .list = real_list,
    .space = real_space,
    .destroy = real_destroy,
};

enum mr_status mr_io_create(const char *path, bool create, bool exclusive, struct mr_io **ret_io)
{
    if (create && mkdir(path, 0700) != 0 && errno != EEXIST) {
        return mr_status_from_errno(errno);
    }
    struct real_io *r = mr_calloc(1, sizeof(*r));
    if (r == NULL) {
        return MR_E_NOMEM;
    }
    r->io.ops = &real_ops;
    r->lock_fd = -1;
    r->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (r->dir_fd < 0) {
        enum mr_status failed = mr_status_from_errno(errno);
        mr_free(r);
        return failed;
    }
    if (exclusive) {
        r->lock_fd = openat(r->dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (r->lock_fd < 0 || flock(r->lock_fd, LOCK_EX | LOCK_NB) != 0) {
            enum mr_status failed =
                errno == EWOULDBLOCK ? MR_E_LOCKED : mr_status_from_errno(errno);
            real_destroy(&r->io);
            return failed;
        }
    }
    *ret_io = &r->io;
    return MR_OK;
}

bool mr_io_is_direct(const struct mr_io *io)
{
    return !((const struct real_io *)io)->no_direct;
}

bool mr_io_has_copy(struct mr_io *io)
{
    size_t size = 0;
    return io->ops->read_copy != NULL &&
           io->ops->read_copy(io, 1, NULL, 0, NULL, 0, 0, &size) == MR_OK;
}

enum mr_status mr_io_read_copy(struct mr_io *io, unsigned copy, const char *name, unsigned flags,
                               void *to, size_t size, uint64_t at, size_t *ret_size)
{
    if (io->ops->read_copy != NULL) {
        return io->ops->read_copy(io, copy, name, flags, to, size, at, ret_size);
    }
    int file;
    enum mr_status r = copy != 0 ? MR_E_NOT_FOUND : io->ops->open(io, name, flags, &file);
    if (r == MR_OK) {
        r = io->ops->pread(io, file, to, size, at, ret_size);
        io->ops->close(io, file);
    }
    return r;
}

enum mr_status mr_io_write_copy(struct mr_io *io, unsigned copy, const char *name,
                                const void *from, size_t size, uint64_t at)
{
    MR_ASSERT(io->ops->write_copy != NULL); /* whoever repairs has read the other copy */
    return io->ops->write_copy(io, copy, name, from, size, at);
}

void mr_io_tell_repaired(struct mr_io *io, unsigned copy, const char *name, uint64_t at,
                         uint64_t size)
{
    MR_ASSERT(io->ops->repaired != NULL);
    io->ops->repaired(io, copy, name, at, size);
}

int64_t mr_fd_read_full(int fd, void *to, size_t size)
{
    size_t done = 0;
    while (done < size) {
        ssize_t n = read(fd, (char *)to + done, size - done);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -1;
        }
        if (n == 0) {
            break;
        }
        done += (size_t)n;
    }
    return (int64_t)done;
}

bool mr_fd_write_full(int fd, const void *from, size_t size)
{
    size_t done = 0;
    while (done < size) {
        ssize_t n = write(fd, (const char *)from + done, size - done);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        done += (size_t)n;
    }
    return true;
}

enum mr_status mr_file_read(const char *path, size_t size_max, char **ret_text, size_t *ret_size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return mr_status_from_errno(errno);
    }
    struct mr_buf buf;
    mr_buf_init(&buf, size_max + 1);
    enum mr_status r = MR_OK;
    for (;;) {
        r = mr_buf_reserve(&buf, 1);
        if (r != MR_OK) {
            break;
        }
        ssize_t n = read(fd, buf.data + buf.size, buf.capacity - buf.size);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            r = mr_status_from_errno(errno);
            break;
        }
        if (n == 0) {
            break;
        }
        buf.size += (size_t)n;
    }
    close(fd);
    if (r == MR_OK && buf.size > size_max) {
        r = MR_E_TOO_BIG;
    }
    if (r == MR_OK) {
        size_t size = buf.size;
        char *text = mr_buf_take_text(&buf);
        if (text == NULL) {
            r = MR_E_NOMEM;
        } else {
            *ret_text = text;
            if (ret_size != NULL) {
                *ret_size = size;
            }
        }
    }
    mr_buf_release(&buf);
    return r;
}
