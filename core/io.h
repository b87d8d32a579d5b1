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
struct mr_io_read; /* one that goes on */

struct mr_io_ops {
    enum mr_status (*open)(struct mr_io *io, const char *name, unsigned flags, int *ret_file);
    void (*close)(struct mr_io *io, int file);
    /* Reads up to size bytes; fewer only at the end of the file. */
    enum mr_status (*pread)(struct mr_io *io, int file, void *to, size_t size, uint64_t at,
                            size_t *ret_size);
    /* Bytes that will be read soon: the disk may begin. May be NULL. */
    void (*will_need)(struct mr_io *io, int file, uint64_t at, uint64_t size);
    enum mr_status (*pwrite)(struct mr_io *io, int file, const void *from, size_t size,
                             uint64_t at);
    /* Optional, both or neither: a pread that goes on while the caller does other things. `to` and
     * the file are its own until read_end(), which waits and frees it, and is called always.
     * @return of read_begin(): MR_E_NOMEM, MR_E_UNAVAILABLE: not begun */
    enum mr_status (*read_begin)(struct mr_io *io, int file, void *to, size_t size, uint64_t at,
                                 struct mr_io_read **ret_read);
    enum mr_status (*read_end)(struct mr_io *io, struct mr_io_read *read, size_t *ret_size);
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
    /* Of a directory that is kept twice (core/io_mirror.h); NULL: it is not. Below. */
    enum mr_status (*read_copy)(struct mr_io *io, unsigned copy, const char *name, unsigned flags,
                                void *to, size_t size, uint64_t at, size_t *ret_size);
    enum mr_status (*write_copy)(struct mr_io *io, unsigned copy, const char *name,
                                 const void *from, size_t size, uint64_t at);
    void (*repaired)(struct mr_io *io, unsigned copy, const char *name, uint64_t at,
                     uint64_t size);
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

/* One copy of a file, by name: 0 is the one that reads come from, 1 the other. For those who know
 * what the bytes should be, and repair the one copy from the other. */
/** Whether there is a second copy now. */
bool mr_io_has_copy(struct mr_io *io);
/** As pread; @p flags: MR_IO_DIRECT past the page cache, everything aligned.
 * @return MR_E_NOT_FOUND: no such file, or no such copy */
MR_MUST_USE enum mr_status mr_io_read_copy(struct mr_io *io, unsigned copy, const char *name,
                                           unsigned flags, void *to, size_t size, uint64_t at,
                                           size_t *ret_size);
/** Whole blocks, aligned; durable when it returns. Makes the file when it is missing. */
MR_MUST_USE enum mr_status mr_io_write_copy(struct mr_io *io, unsigned copy, const char *name,
                                            const void *from, size_t size, uint64_t at);
/** Counts a repair and tells of it. */
void mr_io_tell_repaired(struct mr_io *io, unsigned copy, const char *name, uint64_t at,
                         uint64_t size);

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
