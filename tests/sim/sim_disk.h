/* A disk in memory that forgets what was not promised: struct mr_io for the simulation.
 *
 * What a file holds is kept twice, as a reader sees it now and as the platter has it. A completed
 * write to a MR_IO_DURABLE file changes both; any other write only the first, until the file is
 * synced. Names are kept twice likewise: create, rename and unlink are volatile until sync_dir.
 *
 * A power cut keeps, of each unsynced sector of 512 bytes, the old or the new content, of each
 * volatile name change, all or nothing, and tears the write that was running: each of its sectors
 * is old, new or rubbish. A killed process loses nothing that a completed call did.
 *
 * Pages are shared between a disk and its forks, so that a fork at every operation is cheap. One
 * thread. */
#ifndef MR_TESTS_SIM_DISK_H
#define MR_TESTS_SIM_DISK_H

#include "core/io.h"
#include "core/rng.h"

#define SIM_PAGE 4096u
#define SIM_SECTOR 512u
#define SIM_FILES_MAX 2048u
#define SIM_HANDLES_MAX 96u
#define SIM_NAME_MAX 32u
#define SIM_NO_LIMIT UINT64_MAX

struct sim_page;

struct sim_inode {
    bool used;
    uint32_t count; /* pages in the tables */
    uint32_t capacity;
    uint64_t size;
    uint64_t durable_size;
    struct sim_page **now;     /* owned; NULL entries are zeros */
    struct sim_page **durable; /* owned */
};

struct sim_name {
    char name[SIM_NAME_MAX];
    uint32_t inode;
};

struct sim_names {
    struct sim_name items[SIM_FILES_MAX];
    uint32_t count;
};

enum sim_name_change {
    SIM_NAME_LINK = 0,
    SIM_NAME_UNLINK,
    SIM_NAME_RENAME,
};

struct sim_change {
    enum sim_name_change kind;
    char name[SIM_NAME_MAX];
    char to[SIM_NAME_MAX];
    uint32_t inode;
};

struct sim_handle {
    bool used;
    unsigned flags;
    uint32_t inode;
};

struct sim_disk {
    struct mr_io io;
    struct mr_rng rng; /* of its faults */
    struct sim_inode inodes[SIM_FILES_MAX];
    uint32_t inode_count; /* those beyond were never used */
    struct sim_names now;
    struct sim_names durable;
    struct sim_change changes[SIM_FILES_MAX];
    uint32_t change_count;
    struct sim_handle handles[SIM_HANDLES_MAX];
    uint32_t handle_count; /* those beyond were never used */
    uint64_t pages;     /* allocated to files, for `space` */
    uint64_t pages_max; /* ENOSPC beyond */
    uint64_t ops;       /* changing operations done */
    /* Faults. */
    uint64_t ops_left;  /* the operation that finds 0 here is cut short by the crash; all later
                           ones fail; SIM_NO_LIMIT */
    uint64_t *power;    /* borrowed: counts for this disk too, instead of ops_left; NULL */
    uint64_t fail_write_in; /* the nth write from now fails with part of it done; 0 never */
    uint64_t fail_sync_in;
    uint64_t fail_read_in;
    uint64_t full_in; /* the nth write from now finds no space */
    bool rubbish;     /* a torn sector may hold what was never written */
    uint64_t fired_write;
    uint64_t fired_short;
    uint64_t fired_sync;
    uint64_t fired_read;
    uint64_t fired_full;
    uint64_t fired_torn;
    uint64_t fired_unsynced;
    uint64_t fired_name_lost;
};

/** An empty disk; aborts when memory is short, as everything in the simulation does. */
struct sim_disk *sim_disk_create(uint64_t seed, uint64_t pages_max);
/** The same bytes, names and open files, independent from now on. */
struct sim_disk *sim_disk_fork(const struct sim_disk *disk, uint64_t seed);
void sim_disk_destroy(struct sim_disk *disk);
/** Power is cut (or the process is killed): all handles are closed, and what is left is what a
 * reader finds afterwards. */
void sim_disk_crash(struct sim_disk *disk, bool power_cut);
/** Flips one bit of file @p name at byte @p at, silently. @return false: there is no such byte */
bool sim_disk_rot(struct sim_disk *disk, const char *name, uint64_t at, unsigned bit);
/** The beginning of file @p name as it was written, whatever has rotted since; zeros behind its end. */
void sim_disk_read_written(const struct sim_disk *disk, const char *name, uint8_t *to, size_t size);
/** A hash of every name and durable byte. */
uint64_t sim_disk_hash(const struct sim_disk *disk);
/** Copies the files into the real folder @p path, without trailing zeros beyond @p cut_at_least
 * bytes. */
bool sim_disk_export(const struct sim_disk *disk, const char *path);
/** Frees the memory kept for reuse. */
void sim_disk_release_pool(void);

#endif
