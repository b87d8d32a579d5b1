/* A folder for the files of a log made by hand, and what is done to them. */
#ifndef MR_TESTS_SUPPORT_LOGFOLDER_H
#define MR_TESTS_SUPPORT_LOGFOLDER_H

#include "core/io.h"
#include "tests/support/folder.h"

struct log_folder {
    char path[FOLDER_PATH_SIZE];
    struct mr_io *io; /* owned */
};

static inline void log_folder_make(struct log_folder *folder, const char *name)
{
    folder_make(folder->path, name);
    assert_int_equal(mr_io_create(folder->path, false, false, &folder->io), MR_OK);
}

static inline void log_folder_remove(struct log_folder *folder)
{
    folder->io->ops->destroy(folder->io);
    folder_remove(folder->path);
}

/* The file is made when it is not there. */
static inline void log_file_write(struct mr_io *io, const char *name, const void *data, size_t size,
                                  uint64_t at)
{
    int file;
    assert_int_equal(io->ops->open(io, name, MR_IO_WRITE | MR_IO_CREATE, &file), MR_OK);
    assert_int_equal(io->ops->pwrite(io, file, data, size, at), MR_OK);
    io->ops->close(io, file);
}

/* @return bytes read: fewer than @p size at the end of the file */
static inline size_t log_file_read(struct mr_io *io, const char *name, void *to, size_t size,
                                   uint64_t at)
{
    int file;
    size_t got;
    assert_int_equal(io->ops->open(io, name, MR_IO_READ_ONLY, &file), MR_OK);
    assert_int_equal(io->ops->pread(io, file, to, size, at, &got), MR_OK);
    io->ops->close(io, file);
    return got;
}

static inline uint64_t log_file_size(struct mr_io *io, const char *name)
{
    int file;
    uint64_t size;
    assert_int_equal(io->ops->open(io, name, MR_IO_READ_ONLY, &file), MR_OK);
    assert_int_equal(io->ops->size(io, file, &size), MR_OK);
    io->ops->close(io, file);
    return size;
}

static inline void log_file_cut(struct mr_io *io, const char *name, uint64_t size)
{
    int file;
    assert_int_equal(io->ops->open(io, name, MR_IO_WRITE, &file), MR_OK);
    assert_int_equal(io->ops->truncate(io, file, size), MR_OK);
    io->ops->close(io, file);
}

static inline void log_file_flip(struct mr_io *io, const char *name, uint64_t at, unsigned bit)
{
    uint8_t byte;
    assert_int_equal(log_file_read(io, name, &byte, 1, at), 1);
    byte ^= (uint8_t)(1u << bit);
    log_file_write(io, name, &byte, 1, at);
}

#endif
