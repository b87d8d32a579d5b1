#include "sim_disk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/assert.h"
#include "core/attrs.h"
#include "core/hash.h"

struct sim_page {
    struct sim_page *next_free;
    uint32_t refs;
    bool clean; /* a sync of it failed: no later one writes it, until it is written again */
    uint8_t data[SIM_PAGE];
    struct sim_page *was; /* owned: as it was written, when bits of it have rotted since; NULL */
};

static struct sim_page *free_pages;

static struct sim_page *page_create(void)
{
    struct sim_page *page = free_pages;
    if (page != NULL) {
        free_pages = page->next_free;
    } else {
        page = malloc(sizeof(*page));
        MR_ASSERT(page != NULL);
    }
    page->refs = 1;
    page->clean = false;
    page->was = NULL;
    return page;
}

static struct sim_page *page_ref(struct sim_page *page)
{
    if (page != NULL) {
        page->refs++;
    }
    return page;
}

static void page_unref(struct sim_page *page)
{
    if (page != NULL && --page->refs == 0) {
        if (page->was != NULL && --page->was->refs == 0) { /* has none itself */
            page->was->next_free = free_pages;
            free_pages = page->was;
        }
        page->next_free = free_pages;
        free_pages = page;
    }
}

void sim_disk_release_pool(void)
{
    while (free_pages != NULL) {
        struct sim_page *page = free_pages;
        free_pages = page->next_free;
        free(page);
    }
}

/* --- names ------------------------------------------------------------------------------------ */

static struct sim_disk *disk_of(struct mr_io *io)
{
    return (struct sim_disk *)io;
}

static int64_t names_find(const struct sim_names *names, const char *name)
{
    for (uint32_t i = 0; i < names->count; i++) {
        if (strcmp(names->items[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

static void names_set(struct sim_names *names, const char *name, uint32_t inode)
{
    int64_t at = names_find(names, name);
    if (at < 0) {
        MR_ASSERT(names->count < SIM_FILES_MAX);
        at = names->count++;
    }
    (void)snprintf(names->items[at].name, SIM_NAME_MAX, "%s", name);
    names->items[at].inode = inode;
}

static void names_remove(struct sim_names *names, const char *name)
{
    int64_t at = names_find(names, name);
    if (at >= 0) {
        names->items[at] = names->items[--names->count];
    }
}

static void names_change(struct sim_names *names, const struct sim_change *change)
{
    switch (change->kind) {
    case SIM_NAME_LINK:
        names_set(names, change->name, change->inode);
        break;
    case SIM_NAME_UNLINK:
        names_remove(names, change->name);
        break;
    case SIM_NAME_RENAME:
        names_remove(names, change->name);
        names_set(names, change->to, change->inode);
        break;
    }
}

static void names_copy(struct sim_names *to, const struct sim_names *from)
{
    memcpy(to->items, from->items, from->count * sizeof(from->items[0]));
    to->count = from->count;
}

static void inode_clear(struct sim_disk *disk, struct sim_inode *inode)
{
    for (uint32_t i = 0; i < inode->count; i++) {
        page_unref(inode->now[i]);
        page_unref(inode->durable[i]);
    }
    disk->pages -= inode->count;
    free(inode->now);
    free(inode->durable);
    *inode = (struct sim_inode){0};
}

/* Frees the files that no name, volatile change or handle leads to. */
static void sweep(struct sim_disk *disk)
{
    bool reached[SIM_FILES_MAX] = {false};
    for (uint32_t i = 0; i < disk->now.count; i++) {
        reached[disk->now.items[i].inode] = true;
    }
    for (uint32_t i = 0; i < disk->durable.count; i++) {
        reached[disk->durable.items[i].inode] = true;
    }
    for (uint32_t i = 0; i < disk->change_count; i++) {
        reached[disk->changes[i].inode] = true;
    }
    for (uint32_t i = 0; i < disk->handle_count; i++) {
        if (disk->handles[i].used) {
            reached[disk->handles[i].inode] = true;
        }
    }
    for (uint32_t i = 0; i < disk->inode_count; i++) {
        if (disk->inodes[i].used && !reached[i]) {
            inode_clear(disk, &disk->inodes[i]);
        }
    }
}

static void note_change(struct sim_disk *disk, enum sim_name_change kind, const char *name,
                        const char *to, uint32_t inode)
{
    MR_ASSERT(disk->change_count < SIM_FILES_MAX);
    struct sim_change *change = &disk->changes[disk->change_count++];
    *change = (struct sim_change){.kind = kind, .inode = inode};
    (void)snprintf(change->name, SIM_NAME_MAX, "%s", name);
    (void)snprintf(change->to, SIM_NAME_MAX, "%s", to);
    names_change(&disk->now, change);
}

/* --- operations ------------------------------------------------------------------------------- */

enum op_fate {
    OP_WHOLE = 0,
    OP_CUT,  /* power goes while it runs */
    OP_DEAD, /* power is gone */
};

static enum op_fate op_begin(struct sim_disk *disk)
{
    uint64_t *left = disk->power == NULL ? &disk->ops_left : disk->power;
    disk->ops++;
    if (*left == SIM_NO_LIMIT) {
        return OP_WHOLE;
    }
    if (*left > 1) {
        (*left)--;
        return OP_WHOLE;
    }
    enum op_fate fate = *left == 1 ? OP_CUT : OP_DEAD;
    *left = 0;
    return fate;
}

/* A countdown to a fault: true when it is this time. */
static bool fires(uint64_t *countdown)
{
    return *countdown > 0 && --*countdown == 0;
}

static enum mr_status disk_open(struct mr_io *io, const char *name, unsigned flags, int *ret_file)
{
    struct sim_disk *disk = disk_of(io);
    int64_t at = names_find(&disk->now, name);
    if (at < 0) {
        if ((flags & MR_IO_CREATE) == 0) {
            return MR_E_NOT_FOUND;
        }
        enum op_fate fate = op_begin(disk);
        if (fate == OP_DEAD || (fate == OP_CUT && mr_rng_chance(&disk->rng, 1, 2))) {
            return MR_E_IO;
        }
        uint32_t inode = 0;
        while (inode < disk->inode_count && disk->inodes[inode].used) {
            inode++;
        }
        MR_ASSERT(inode < SIM_FILES_MAX);
        if (inode == disk->inode_count) {
            disk->inode_count++;
        }
        disk->inodes[inode] = (struct sim_inode){.used = true};
        note_change(disk, SIM_NAME_LINK, name, "", inode);
        at = names_find(&disk->now, name);
        if (fate == OP_CUT) {
            return MR_E_IO;
        }
    }
    uint32_t handle = 0;
    while (handle < disk->handle_count && disk->handles[handle].used) {
        handle++;
    }
    MR_ASSERT(handle < SIM_HANDLES_MAX);
    if (handle == disk->handle_count) {
        disk->handle_count++;
    }
    disk->handles[handle] =
        (struct sim_handle){.used = true, .flags = flags, .inode = disk->now.items[at].inode};
    *ret_file = (int)handle;
    return MR_OK;
}

static struct sim_inode *inode_of(struct sim_disk *disk, int file)
{
    MR_ASSERT(file >= 0 && (uint32_t)file < disk->handle_count);
    MR_ASSERT(disk->handles[file].used);
    return &disk->inodes[disk->handles[file].inode];
}

static void disk_close(struct mr_io *io, int file)
{
    struct sim_disk *disk = disk_of(io);
    (void)inode_of(disk, file); /* asserts that it is open */
    disk->handles[file].used = false;
    sweep(disk);
}

static void page_read(const struct sim_page *page, size_t from, uint8_t *to, size_t size)
{
    if (page == NULL) {
        memset(to, 0, size);
    } else {
        memcpy(to, page->data + from, size);
    }
}

static enum mr_status disk_pread(struct mr_io *io, int file, void *to, size_t size, uint64_t at,
                                 size_t *ret_size)
{
    struct sim_disk *disk = disk_of(io);
    const struct sim_inode *inode = inode_of(disk, file);
    if ((disk->handles[file].flags & (MR_IO_DURABLE | MR_IO_DIRECT)) != 0) {
        MR_ASSERT(at % SIM_PAGE == 0 && size % SIM_PAGE == 0);
        MR_ASSERT((uintptr_t)to % SIM_PAGE == 0);
    }
    if (fires(&disk->fail_read_in)) {
        disk->fired_read++;
        return MR_E_IO;
    }
    uint8_t *out = to;
    size_t done = 0;
    while (done < size && at + done < inode->size) {
        uint64_t here = at + done;
        size_t in_page = (size_t)(here % SIM_PAGE);
        size_t n = SIM_PAGE - in_page;
        n = n < size - done ? n : size - done;
        n = n < inode->size - here ? n : (size_t)(inode->size - here);
        uint64_t page = here / SIM_PAGE;
        page_read(page < inode->count ? inode->now[page] : NULL, in_page, out + done, n);
        done += n;
    }
    *ret_size = done;
    return MR_OK;
}

static bool is_zeros(const uint8_t *data, size_t size)
{
    return data[0] == 0 && memcmp(data, data + 1, size - 1) == 0;
}

/* @return false: the disk is full */
static bool inode_grow(struct sim_disk *disk, struct sim_inode *inode, uint64_t pages)
{
    if (pages <= inode->count) {
        return true;
    }
    if (disk->pages + pages - inode->count > disk->pages_max) {
        return false;
    }
    if (pages > inode->capacity) {
        uint32_t capacity = inode->capacity == 0 ? 16 : inode->capacity;
        while (capacity < pages) {
            capacity *= 2;
        }
        inode->now = realloc(inode->now, capacity * sizeof(*inode->now));
        inode->durable = realloc(inode->durable, capacity * sizeof(*inode->durable));
        MR_ASSERT(inode->now != NULL && inode->durable != NULL);
        inode->capacity = capacity;
    }
    for (uint64_t i = inode->count; i < pages; i++) {
        inode->now[i] = NULL;
        inode->durable[i] = NULL;
    }
    disk->pages += pages - inode->count;
    inode->count = (uint32_t)pages;
    return true;
}

static void put_page(struct sim_page **slot, struct sim_page *page)
{
    page_unref(*slot);
    *slot = page;
}

/* A page as it is after [from, from + size) of it was written. */
static struct sim_page *page_written(const struct sim_page *old, size_t from, const uint8_t *data,
                                     size_t size)
{
    if (size == SIM_PAGE && is_zeros(data, size)) {
        return NULL;
    }
    struct sim_page *page = page_create();
    if (size < SIM_PAGE) {
        page_read(old, 0, page->data, SIM_PAGE);
    }
    memcpy(page->data + from, data, size);
    if (size < SIM_PAGE && old != NULL && old->was != NULL) {
        page->was = page_create();
        memcpy(page->was->data, old->was->data, SIM_PAGE);
        memcpy(page->was->data + from, data, size);
    }
    return page;
}

static void write_page(struct sim_inode *inode, uint64_t index, size_t from, const uint8_t *data,
                       size_t size, bool durable)
{
    put_page(&inode->now[index], page_written(inode->now[index], from, data, size));
    if (durable) {
        put_page(&inode->durable[index], page_ref(inode->now[index]));
    }
}

static void write_whole(struct sim_inode *inode, const uint8_t *from, size_t size, uint64_t at,
                        bool durable)
{
    for (size_t done = 0; done < size;) {
        size_t in_page = (size_t)((at + done) % SIM_PAGE);
        size_t n = SIM_PAGE - in_page < size - done ? SIM_PAGE - in_page : size - done;
        write_page(inode, (at + done) / SIM_PAGE, in_page, from + done, n, durable);
        done += n;
    }
    if (at + size > inode->size) {
        inode->size = at + size;
    }
    if (durable && at + size > inode->durable_size) {
        inode->durable_size = at + size;
    }
}

/* Each sector old, new or rubbish, which comes from the medium and so stands there; or, half of the
 * time, a prefix and nothing else. */
static void write_torn(struct sim_disk *disk, struct sim_inode *inode, const uint8_t *from,
                       size_t size, uint64_t at, bool durable)
{
    uint64_t sectors = (size + SIM_SECTOR - 1) / SIM_SECTOR;
    bool prefix = mr_rng_chance(&disk->rng, 1, 2);
    uint64_t cut = mr_rng_below(&disk->rng, sectors + 1);
    for (uint64_t i = 0; i < sectors; i++) {
        size_t n = size - i * SIM_SECTOR < SIM_SECTOR ? size - i * SIM_SECTOR : SIM_SECTOR;
        bool write = prefix ? i < cut : mr_rng_chance(&disk->rng, 1, 2);
        if (write) {
            write_whole(inode, from + i * SIM_SECTOR, n, at + i * SIM_SECTOR, durable);
        } else if (!prefix && disk->rubbish && mr_rng_chance(&disk->rng, 1, 4)) {
            uint64_t noise[SIM_SECTOR / 8];
            for (size_t k = 0; k < MR_ARRAY_COUNT(noise); k++) {
                noise[k] = mr_rng_next(&disk->rng);
            }
            write_whole(inode, (const uint8_t *)noise, n, at + i * SIM_SECTOR, true);
        }
    }
    disk->fired_torn++;
}

static enum mr_status disk_pwrite(struct mr_io *io, int file, const void *from, size_t size,
                                  uint64_t at)
{
    struct sim_disk *disk = disk_of(io);
    struct sim_inode *inode = inode_of(disk, file);
    unsigned flags = disk->handles[file].flags;
    bool durable = (flags & MR_IO_DURABLE) != 0;
    MR_ASSERT((flags & MR_IO_WRITE) != 0);
    if ((flags & (MR_IO_DURABLE | MR_IO_DIRECT)) != 0) {
        MR_ASSERT(at % SIM_PAGE == 0 && size % SIM_PAGE == 0);
        MR_ASSERT((uintptr_t)from % SIM_PAGE == 0);
    }
    enum op_fate fate = op_begin(disk);
    if (fate == OP_DEAD) {
        return MR_E_IO;
    }
    bool full = fires(&disk->full_in);
    if (full || !inode_grow(disk, inode, (at + size + SIM_PAGE - 1) / SIM_PAGE)) {
        disk->fired_full++;
        return mr_status_from_errno(28 /* ENOSPC */);
    }
    bool failed = fires(&disk->fail_write_in);
    if (fate == OP_CUT || failed) {
        write_torn(disk, inode, from, size, at, durable);
        disk->fired_write += failed;
        disk->fired_short += failed;
        return MR_E_IO;
    }
    write_whole(inode, from, size, at, durable);
    return MR_OK;
}

static void inode_make_durable(struct sim_inode *inode)
{
    for (uint32_t i = 0; i < inode->count; i++) {
        bool lost = inode->now[i] != NULL && inode->now[i]->clean;
        if (inode->now[i] != inode->durable[i] && !lost) {
            put_page(&inode->durable[i], page_ref(inode->now[i]));
        }
    }
    inode->durable_size = inode->size;
}

/* The kernel reports the error once and calls the pages clean. */
static void inode_forget_dirty(struct sim_inode *inode)
{
    for (uint32_t i = 0; i < inode->count; i++) {
        if (inode->now[i] == inode->durable[i]) {
            continue;
        }
        struct sim_page *page = page_create();
        page_read(inode->now[i], 0, page->data, SIM_PAGE);
        page->clean = true;
        put_page(&inode->now[i], page);
    }
}

static enum mr_status disk_sync(struct mr_io *io, int file)
{
    struct sim_disk *disk = disk_of(io);
    struct sim_inode *inode = inode_of(disk, file);
    if (op_begin(disk) != OP_WHOLE) {
        return MR_E_IO;
    }
    if (fires(&disk->fail_sync_in)) {
        disk->fired_sync++;
        inode_forget_dirty(inode);
        return MR_E_IO;
    }
    inode_make_durable(inode);
    return MR_OK;
}

static enum mr_status disk_size(struct mr_io *io, int file, uint64_t *ret_size)
{
    *ret_size = inode_of(disk_of(io), file)->size;
    return MR_OK;
}

static enum mr_status disk_truncate(struct mr_io *io, int file, uint64_t size)
{
    struct sim_disk *disk = disk_of(io);
    struct sim_inode *inode = inode_of(disk, file);
    enum op_fate fate = op_begin(disk);
    if (fate == OP_DEAD || (fate == OP_CUT && mr_rng_chance(&disk->rng, 1, 2))) {
        return MR_E_IO;
    }
    uint64_t keep = (size + SIM_PAGE - 1) / SIM_PAGE;
    for (uint64_t i = keep; i < inode->count; i++) {
        put_page(&inode->now[i], NULL); /* what is durable stays until the sync */
    }
    if (size % SIM_PAGE != 0 && keep <= inode->count && keep > 0) {
        struct sim_page *page = page_create();
        page_read(inode->now[keep - 1], 0, page->data, SIM_PAGE);
        memset(page->data + size % SIM_PAGE, 0, SIM_PAGE - size % SIM_PAGE);
        put_page(&inode->now[keep - 1], page);
    }
    inode->size = size;
    return fate == OP_WHOLE ? MR_OK : MR_E_IO;
}

static enum mr_status disk_rename(struct mr_io *io, const char *from, const char *to)
{
    struct sim_disk *disk = disk_of(io);
    int64_t at = names_find(&disk->now, from);
    if (at < 0) {
        return MR_E_NOT_FOUND;
    }
    enum op_fate fate = op_begin(disk);
    if (fate == OP_DEAD || (fate == OP_CUT && mr_rng_chance(&disk->rng, 1, 2))) {
        return MR_E_IO;
    }
    note_change(disk, SIM_NAME_RENAME, from, to, disk->now.items[at].inode);
    return fate == OP_WHOLE ? MR_OK : MR_E_IO;
}

static enum mr_status disk_unlink(struct mr_io *io, const char *name)
{
    struct sim_disk *disk = disk_of(io);
    int64_t at = names_find(&disk->now, name);
    if (at < 0) {
        return MR_E_NOT_FOUND;
    }
    enum op_fate fate = op_begin(disk);
    if (fate == OP_DEAD || (fate == OP_CUT && mr_rng_chance(&disk->rng, 1, 2))) {
        return MR_E_IO;
    }
    note_change(disk, SIM_NAME_UNLINK, name, "", disk->now.items[at].inode);
    return fate == OP_WHOLE ? MR_OK : MR_E_IO;
}

static enum mr_status disk_sync_dir(struct mr_io *io)
{
    struct sim_disk *disk = disk_of(io);
    if (op_begin(disk) != OP_WHOLE) {
        return MR_E_IO;
    }
    if (fires(&disk->fail_sync_in)) {
        disk->fired_sync++;
        return MR_E_IO;
    }
    names_copy(&disk->durable, &disk->now);
    disk->change_count = 0;
    sweep(disk);
    return MR_OK;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct sim_name *)a)->name, ((const struct sim_name *)b)->name);
}

static enum mr_status disk_list(struct mr_io *io, void (*fn)(void *context, const char *name),
                                void *context)
{
    struct sim_disk *disk = disk_of(io);
    qsort(disk->now.items, disk->now.count, sizeof(disk->now.items[0]), compare_names);
    for (uint32_t i = 0; i < disk->now.count; i++) {
        fn(context, disk->now.items[i].name);
    }
    return MR_OK;
}

static enum mr_status disk_space(struct mr_io *io, uint64_t *ret_free, uint64_t *ret_total)
{
    const struct sim_disk *disk = disk_of(io);
    *ret_free = (disk->pages_max > disk->pages ? disk->pages_max - disk->pages : 0) * SIM_PAGE;
    *ret_total = disk->pages_max * SIM_PAGE;
    return MR_OK;
}

static void disk_destroy(struct mr_io *io)
{
    sim_disk_destroy(disk_of(io));
}

static const struct mr_io_ops disk_ops = {
    .open = disk_open,
    .close = disk_close,
    .pread = disk_pread,
    .pwrite = disk_pwrite,
    .sync = disk_sync,
    .size = disk_size,
    .truncate = disk_truncate,
    .rename = disk_rename,
    .unlink = disk_unlink,
    .sync_dir = disk_sync_dir,
    .list = disk_list,
    .space = disk_space,
    .destroy = disk_destroy,
};

/* --- life ------------------------------------------------------------------------------------- */

struct sim_disk *sim_disk_create(uint64_t seed, uint64_t pages_max)
{
    struct sim_disk *disk = calloc(1, sizeof(*disk));
    MR_ASSERT(disk != NULL);
    disk->io.ops = &disk_ops;
    disk->pages_max = pages_max;
    disk->ops_left = SIM_NO_LIMIT;
    mr_rng_init(&disk->rng, seed);
    return disk;
}

struct sim_disk *sim_disk_fork(const struct sim_disk *disk, uint64_t seed)
{
    struct sim_disk *fork = malloc(sizeof(*fork));
    MR_ASSERT(fork != NULL);
    fork->io = disk->io;
    names_copy(&fork->now, &disk->now);
    names_copy(&fork->durable, &disk->durable);
    memcpy(fork->changes, disk->changes, disk->change_count * sizeof(disk->changes[0]));
    fork->change_count = disk->change_count;
    memcpy(fork->handles, disk->handles, disk->handle_count * sizeof(disk->handles[0]));
    fork->handle_count = disk->handle_count;
    fork->inode_count = disk->inode_count;
    for (uint32_t i = 0; i < disk->inode_count; i++) {
        const struct sim_inode *from = &disk->inodes[i];
        struct sim_inode *to = &fork->inodes[i];
        *to = *from;
        if (from->capacity == 0) {
            continue;
        }
        to->now = malloc(from->capacity * sizeof(*to->now));
        to->durable = malloc(from->capacity * sizeof(*to->durable));
        MR_ASSERT(to->now != NULL && to->durable != NULL);
        for (uint32_t k = 0; k < from->count; k++) {
            to->now[k] = page_ref(from->now[k]);
            to->durable[k] = page_ref(from->durable[k]);
        }
    }
    /* Everything behind the tables: counters and faults. */
    fork->pages = disk->pages;
    fork->pages_max = disk->pages_max;
    fork->ops = 0;
    fork->ops_left = SIM_NO_LIMIT;
    fork->power = NULL;
    fork->fail_write_in = fork->fail_sync_in = fork->fail_read_in = fork->full_in = 0;
    fork->rubbish = disk->rubbish;
    fork->fired_write = fork->fired_short = fork->fired_sync = fork->fired_read = 0;
    fork->fired_full = fork->fired_torn = fork->fired_unsynced = fork->fired_name_lost = 0;
    mr_rng_init(&fork->rng, seed);
    return fork;
}

void sim_disk_destroy(struct sim_disk *disk)
{
    if (disk == NULL) {
        return;
    }
    for (uint32_t i = 0; i < disk->inode_count; i++) {
        if (disk->inodes[i].used) {
            inode_clear(disk, &disk->inodes[i]);
        }
    }
    free(disk);
}

/* --- crash and rot ---------------------------------------------------------------------------- */

/* As it was written. */
static const struct sim_page *written(const struct sim_page *page)
{
    return page != NULL && page->was != NULL ? page->was : page;
}

/* Of each sector that differs, one of the two. */
static void settle_page(struct sim_disk *disk, struct sim_inode *inode, uint32_t index, bool all)
{
    struct sim_page *now = inode->now[index];
    struct sim_page *old = inode->durable[index];
    if (now == old) {
        return;
    }
    if (now != NULL && now->clean) {
        put_page(&inode->now[index], page_ref(old));
        return;
    }
    if (!all) {
        struct sim_page *page = page_create();
        bool rotten = written(now) != now || written(old) != old;
        page->was = rotten ? page_create() : NULL;
        for (size_t at = 0; at < SIM_PAGE; at += SIM_SECTOR) {
            bool new = mr_rng_chance(&disk->rng, 1, 2);
            page_read(new ? now : old, at, page->data + at, SIM_SECTOR);
            if (rotten) {
                page_read(written(new ? now : old), at, page->was->data + at, SIM_SECTOR);
            }
        }
        put_page(&inode->now[index], page);
    }
    put_page(&inode->durable[index], page_ref(inode->now[index]));
    disk->fired_unsynced++;
}

static void settle_inode(struct sim_disk *disk, struct sim_inode *inode)
{
    /* A file may also come through whole or not at all: the likeliest cases in life. */
    uint64_t mode = mr_rng_below(&disk->rng, 4);
    for (uint32_t i = 0; i < inode->count; i++) {
        if (mode == 1) {
            put_page(&inode->now[i], page_ref(inode->durable[i]));
        } else {
            settle_page(disk, inode, i, mode == 0);
        }
    }
    if (mode == 1 || (mode > 1 && mr_rng_chance(&disk->rng, 1, 2))) {
        inode->size = inode->durable_size;
    }
    inode->durable_size = inode->size;
}

static void settle_names(struct sim_disk *disk)
{
    uint64_t mode = mr_rng_below(&disk->rng, 4); /* all, none, a prefix, any */
    uint64_t prefix = mr_rng_below(&disk->rng, disk->change_count + 1u);
    for (uint32_t i = 0; i < disk->change_count; i++) {
        bool kept = mode == 0 || (mode == 2 && i < prefix) ||
                    (mode == 3 && mr_rng_chance(&disk->rng, 1, 2));
        if (kept) {
            names_change(&disk->durable, &disk->changes[i]);
        } else {
            disk->fired_name_lost++;
        }
    }
    names_copy(&disk->now, &disk->durable);
}

void sim_disk_crash(struct sim_disk *disk, bool power_cut)
{
    for (uint32_t i = 0; i < disk->handle_count; i++) {
        disk->handles[i].used = false;
    }
    disk->handle_count = 0;
    if (power_cut) {
        settle_names(disk);
        for (uint32_t i = 0; i < disk->inode_count; i++) {
            if (disk->inodes[i].used) {
                settle_inode(disk, &disk->inodes[i]);
            }
        }
        disk->change_count = 0;
    }
    disk->ops_left = SIM_NO_LIMIT;
    disk->fail_write_in = disk->fail_sync_in = disk->fail_read_in = disk->full_in = 0;
    sweep(disk);
}

bool sim_disk_rot(struct sim_disk *disk, const char *name, uint64_t at, unsigned bit)
{
    int64_t found = names_find(&disk->now, name);
    if (found < 0) {
        return false;
    }
    struct sim_inode *inode = &disk->inodes[disk->now.items[found].inode];
    uint64_t index = at / SIM_PAGE;
    if (at >= inode->size || index >= inode->count) {
        return false;
    }
    struct sim_page *page = page_create();
    page_read(inode->now[index], 0, page->data, SIM_PAGE);
    page->data[at % SIM_PAGE] ^= (uint8_t)(1u << (bit & 7u));
    page->was = page_create();
    page_read(written(inode->now[index]), 0, page->was->data, SIM_PAGE);
    put_page(&inode->now[index], page);
    put_page(&inode->durable[index], page_ref(page));
    return true;
}

void sim_disk_read_written(const struct sim_disk *disk, const char *name, uint8_t *to, size_t size)
{
    int64_t found = names_find(&disk->now, name);
    memset(to, 0, size);
    if (found < 0) {
        return;
    }
    const struct sim_inode *inode = &disk->inodes[disk->now.items[found].inode];
    for (size_t at = 0; at < size && at < inode->size; at += SIM_PAGE) {
        uint64_t index = at / SIM_PAGE;
        size_t n = SIM_PAGE < size - at ? SIM_PAGE : size - at;
        page_read(index < inode->count ? written(inode->now[index]) : NULL, 0, to + at, n);
    }
}

static uint64_t hash_bytes(uint64_t h, const void *data, size_t size)
{
    return mr_hash_u64(h ^ mr_hash(data, size));
}

uint64_t sim_disk_hash(const struct sim_disk *disk)
{
    struct sim_names sorted = {.count = 0};
    names_copy(&sorted, &disk->now);
    qsort(sorted.items, sorted.count, sizeof(sorted.items[0]), compare_names);
    uint64_t h = 0;
    for (uint32_t i = 0; i < sorted.count; i++) {
        const struct sim_inode *inode = &disk->inodes[sorted.items[i].inode];
        h = hash_bytes(h, sorted.items[i].name, strlen(sorted.items[i].name));
        h = mr_hash_u64(h ^ inode->size);
        for (uint32_t k = 0; k < inode->count; k++) {
            if (inode->now[k] != NULL) {
                h = hash_bytes(h ^ k, inode->now[k]->data, SIM_PAGE);
            }
        }
    }
    return h;
}

static bool export_file(const struct sim_inode *inode, const char *path)
{
    FILE *f = fopen(path, "wb");
    if (f == NULL) {
        return false;
    }
    uint32_t pages = inode->count;
    while (pages > 1 && inode->now[pages - 1] == NULL) {
        pages--;
    }
    bool ok = true;
    for (uint32_t i = 0; i < pages && ok; i++) {
        uint8_t data[SIM_PAGE];
        page_read(inode->now[i], 0, data, SIM_PAGE);
        uint64_t left = inode->size - (uint64_t)i * SIM_PAGE;
        size_t n = left < SIM_PAGE ? (size_t)left : SIM_PAGE;
        ok = fwrite(data, 1, n, f) == n;
    }
    return fclose(f) == 0 && ok;
}

bool sim_disk_export(const struct sim_disk *disk, const char *path)
{
    for (uint32_t i = 0; i < disk->now.count; i++) {
        char file[512];
        int n = snprintf(file, sizeof(file), "%s/%s", path, disk->now.items[i].name);
        if (n < 0 || (size_t)n >= sizeof(file) ||
            !export_file(&disk->inodes[disk->now.items[i].inode], file)) {
            return false;
        }
    }
    return true;
}
