/* One directory kept twice: a struct mr_io over two of them, usually on two disks.
 *
 * What changes a file or a name is done to both before it returns; reads come from the first. When
 * one of them fails, the other goes on alone, once a durable note in it says so: at the next start
 * the note decides which of the two is the newer. Only whoever makes the pair (bus/mirror.c) knows
 * what the files hold, makes them equal and judges which is right; nothing here looks into them.
 *
 * The note is the file `mirror`, in both:
 *
 *     two blocks of 4096, the same, written one after the other; the good one of the higher
 *     generation counts
 *     0 magic "MRMIRR01"  8 u32 version, 1  12 u32 0: of a pair, 1: alone, 2: left behind
 *     16 u64 pair  24 u64 generation  32 u64 token, new with each generation
 *     40 u32 CRC-32C of 0..39 */
#ifndef MR_CORE_IO_MIRROR_H
#define MR_CORE_IO_MIRROR_H

#include "core/io.h"

#define MR_MIRROR_NOTE "mirror" /* the file's name */

struct mr_mirror_note {
    uint64_t pair;       /* both copies of one directory have the same; 0: there is no note */
    uint64_t generation; /* grows whenever a pair is made or broken */
    uint64_t token;      /* of two with one generation: whether they mean the same */
    bool alone;          /* the other copy is stale from here on; */
    bool left;           /* this one is: it could still be told, when it failed */
};

/** @param[out] ret_note pair 0 when there is no file or nothing good in it
 * @return MR_E_NOT_FOUND: no file; MR_E_CORRUPT: none of it is good; MR_E_IO, MR_E_NOMEM */
MR_MUST_USE enum mr_status mr_mirror_note_read(struct mr_io *io, struct mr_mirror_note *ret_note);
/** Durable when it returns. */
MR_MUST_USE enum mr_status mr_mirror_note_write(struct mr_io *io,
                                                const struct mr_mirror_note *note);

struct mr_mirror_options {
    struct mr_io *copies[2]; /* 0: where reads come from; owned once the mirror is made; 1 may be
                                NULL: it is not there */
    const char *names[2];    /* how they are called in what is told; copied */
    struct mr_mirror_note note; /* as both have it now; as the first has it when alone */
    bool alone;              /* the second, or NULL, does not count from the start */
    /* Whose pieces are done first; NULL: a thread of the mirror does those of the second beside
     * those of the first. */
    bool (*second_first)(void *context);
    /* A copy failed, or a place was repaired: one line. Any thread. */
    void (*tell)(void *context, const char *text);
    void *context;
    const struct mr_io *like; /* NULL, or a mirror whose open files are open in the copies as well:
                                 what a simulation forks */
};

/** @param[out] ret_io destroy with its ops, which destroys both copies as well */
MR_MUST_USE enum mr_status mr_io_mirror_create(const struct mr_mirror_options *options,
                                               struct mr_io **ret_io);

/** What both notes say now. */
void mr_io_mirror_set_note(struct mr_io *io, const struct mr_mirror_note *note);
/** As destroy, but the copies are the caller's again. */
void mr_io_mirror_dissolve(struct mr_io *io);

/** The copy that reads come from now. @thread any */
struct mr_io *mr_io_mirror_leads(struct mr_io *io);

struct mr_mirror_status {
    bool mirrored;      /* false: there is no second copy, nor is one wanted */
    bool alone;         /* one copy failed: what is acknowledged is on the other alone */
    char failed[256];   /* which one, as named */
    uint64_t repaired;  /* places, since it was made */
};
/** @thread any */
void mr_io_mirror_status(struct mr_io *io, struct mr_mirror_status *ret_status);

#endif
