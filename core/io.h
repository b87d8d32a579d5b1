/* The file vtable: everything the log does to a disk, so that production (core/io.c) and the
 * simulation (tests/sim/) run the same code above it.
 *
 * One mr_io is one directory; names have no slash. All calls block, are made from any thread but
 * never two at once on one handle, and return a status: a write is whole or failed. What a failed
 * call left behind is unknown, and the caller must not believe a later success. */
#ifndef MR_CORE_IO_H
#define MR_CORE_IO_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"

#define MR_IO_BLOCK 4096u /* alignment of address, offset and size for MR_IO_DURABLE files */

enum mr_io_flags {
    MR_IO_READ_ONLY = 0,
    MR_IO_WRITE = 1,
    MR_IO_CREATE = 2,   /* created when missing, mode 0600 */
    MR_IO_DURABLE = 4,  /* each pwrite is on stable storage when it returns (O_DIRECT|O_DSYNC,
                           or fdatasync where O_DIRECT is refused) */
    MR_IO_DIRECT = 8,   /* past the page cache but not synced by itself */
};

struct mr_io;

struct mr_io_ops {
    enum mr_status (*open)(struct mr_io *io, const char *name, unsigned flags, int *ret_file);
    void (*close)(struct mr_io *io, int file);
    /* Reads up to size bytes; fewer only at the end of the file. */
    enum mr_status (*pread)(struct mr_io *io, int file, void *to, size_t size, uint64_t at,
                            size_t *ret_size);
    enum mr_status (*pwrite)(struct mr_io *io, int file, const void *from, size_t size,
                             uint64_t at);
    enum mr_status (*sync)(struct mr_io *io, int file);
    enum mr_status (*size)(struct mr_io *io, int file, uint64_t *ret_size);
    enum mr_status (*truncate)(struct mr_io *io, int file, uint64_t size);
    enum mr_status (*rename)(struct mr_io *io, const char *from, const char *to);
    enum mr_status (*unlink)(struct mr_io *io, const char *name);
    enum mr_status (*sync_dir)(struct mr_io *io);
    /* Calls fn for each regular file, in name order. */
    enum mr_status (*list)(struct mr_io *io, void (*fn)(void *context, const char *name),
                           void *context);
    enum mr_status (*space)(struct mr_io *io, uint64_t *ret_free, uint64_t *ret_total);
    void (*destroy)(struct mr_io *io);
};

struct mr_io {
    const struct mr_io_ops *ops;
};

/** The directory @p path of the real file system; created (mode 0700) when missing and
 * @p create. Takes the file lock `lock` in it when @p exclusive, held until destroy.
 * @param[out] ret_io destroy with (*ret_io)->ops->destroy()
 * @return MR_E_LOCKED: another process has it; MR_E_NOT_FOUND; MR_E_DENIED; MR_E_NOMEM
 * @blocks on the file system */
MR_MUST_USE enum mr_status mr_io_create(const char *path, bool create, bool exclusive,
                                        struct mr_io **ret_io);

/** Whether MR_IO_DURABLE files of @p io are written with O_DIRECT (else fdatasync per write).
 * Known after the first such open. Only for an mr_io of mr_io_create(). */
bool mr_io_is_direct(const struct mr_io *io);

/* read and write with EINTR and short counts handled; the only such loops in the tree. */
/** @return bytes read, fewer only at end of file; -1 with errno set */
int64_t mr_fd_read_full(int fd, void *to, size_t size);
/** @return false with errno set */
bool mr_fd_write_full(int fd, const void *from, size_t size);
/** The whole file as text with a NUL behind it, at most @p size_max bytes; free with mr_free().
 * @param[out] ret_size may be NULL
 * @return MR_E_NOT_FOUND, MR_E_DENIED, MR_E_TOO_BIG, MR_E_IO, MR_E_NOMEM */
MR_MUST_USE enum mr_status mr_file_read(const char *path, size_t size_max, char **ret_text,
                                        size_t *ret_size);

#endif
