/* A disk in memory that is only read, with files of names that are known before. What is missing
 * among its operations is not called by those who read. */
#ifndef MR_TESTS_FUZZ_DISK_H
#define MR_TESTS_FUZZ_DISK_H

#include "core/alloc.h"
#include "core/assert.h"
#include "core/bytes.h"
#include "core/io.h"

#define DISK_FILES_MAX 8u

struct file {
    uint8_t *data; /* owned; NULL: not there */
    size_t size;
};

struct disk {
    struct mr_io io;
    const char *const *names;
    size_t count; /* of these */
    struct file files[DISK_FILES_MAX];
};

static enum mr_status disk_open(struct mr_io *io, const char *name, unsigned flags, int *ret_file)
{
    const struct disk *disk = (const struct disk *)io;
    (void)flags;
    for (int i = 0; i < (int)disk->count; i++) {
        if (strcmp(disk->names[i], name) == 0 && disk->files[i].data != NULL) {
            *ret_file = i;
            return MR_OK;
        }
    }
    return MR_E_NOT_FOUND;
}

static void disk_close(struct mr_io *io, int file)
{
    (void)io;
    (void)file;
}

static enum mr_status disk_pread(struct mr_io *io, int file, void *to, size_t size, uint64_t at,
                                 size_t *ret_size)
{
    const struct file *f = &((const struct disk *)io)->files[file];
    size_t left = at < f->size ? f->size - (size_t)at : 0;
    size_t n = size < left ? size : left;
    if (n > 0) {
        memcpy(to, f->data + at, n);
    }
    *ret_size = n;
    return MR_OK;
}

static enum mr_status disk_sync(struct mr_io *io, int file)
{
    (void)io;
    (void)file;
    return MR_OK;
}

static enum mr_status disk_size(struct mr_io *io, int file, uint64_t *ret_size)
{
    *ret_size = ((const struct disk *)io)->files[file].size;
    return MR_OK;
}

static enum mr_status disk_sync_dir(struct mr_io *io)
{
    (void)io;
    return MR_OK;
}

static enum mr_status disk_list(struct mr_io *io, void (*fn)(void *context, const char *name),
                                void *context)
{
    const struct disk *disk = (const struct disk *)io;
    for (size_t i = 0; i < disk->count; i++) {
        if (disk->files[i].data != NULL) {
            fn(context, disk->names[i]);
        }
    }
    return MR_OK;
}

static const struct mr_io_ops disk_ops = {
    .open = disk_open,
    .close = disk_close,
    .pread = disk_pread,
    .sync = disk_sync,
    .size = disk_size,
    .sync_dir = disk_sync_dir,
    .list = disk_list,
};

/* A copy of @p size bytes stands in file @p name from here on. */
static inline void disk_set(struct disk *disk, size_t name, const uint8_t *data, size_t size)
{
    struct file *f = &disk->files[name];
    mr_free(f->data);
    f->data = mr_alloc(size);
    MR_ASSERT(f->data != NULL);
    f->size = size;
    if (size > 0) {
        memcpy(f->data, data, size);
    }
}

static inline void disk_release(struct disk *disk)
{
    for (size_t i = 0; i < disk->count; i++) {
        mr_free(disk->files[i].data);
    }
}

#endif
