/* One pass over a bucket: the listing, sorted, merged with what was seen at the pass before.
 *
 * Two files in turn: the memory of the last whole pass is read while that of the present one is
 * written. A pass may be left at any object and taken up again from its place, which the source
 * logs with its events: what the place says was written is synced before the events leave, so
 * after kill -9 the pass goes on behind the last durable event. A pass that changed nothing leaves
 * the old file in force. */
#ifndef MR_CONNECTORS_OBJECTSTORE_PASS_H
#define MR_CONNECTORS_OBJECTSTORE_PASS_H

#include "connectors/objectstore/seen.h"

enum mr_change {
    MR_CHANGE_NONE = 0,
    MR_CHANGE_CREATED,
    MR_CHANGE_CHANGED,
    MR_CHANGE_REMOVED,
};

struct mr_pass {
    struct mr_io *io;       /* owned: the folder of the files */
    char name[MR_NAME_SIZE_MAX + 8]; /* the source's, what file names begin with */
    uint64_t of;            /* hash of bucket and prefix */
    uint64_t last;          /* number of the last whole pass; 0: none */
    uint64_t last_count;    /* objects it saw */
    uint64_t top;           /* the highest number any file bears */
    /* The present pass. */
    bool is_open;
    uint64_t number;
    uint64_t count;         /* objects so far */
    bool has_changes;
    struct mr_buf after;    /* the last key taken; empty at the start */
    struct mr_seen_reader reader;
    struct mr_object old;   /* the next object of the last pass */
    uint64_t old_at;        /* where it lies */
    bool has_old;
    struct mr_seen_writer writer;
};

/** Looks at the files of @p folder (made when missing). @param of see above
 * @return what the file system says, with the problem */
MR_MUST_USE enum mr_status mr__pass_init(struct mr_pass *pass, const char *folder,
                                         const char *name, uint64_t of,
                                         struct mr_problem *problem);
void mr__pass_release(struct mr_pass *pass);

/** Begins a pass, or takes up the one @p cursor speaks of when it fits the files.
 * @param cursor of the log, or NULL */
MR_MUST_USE enum mr_status mr__pass_begin(struct mr_pass *pass, const char *cursor,
                                          struct mr_problem *problem);
/** Compares the next listed object (NULL: the listing is at its end) with the memory.
 * @param[out] ret_change what there is to tell; MR_CHANGE_REMOVED is about pass->gone, not @p
 * object, which is not taken yet then; MR_CHANGE_NONE and *ret_taken false: all is done
 * @param gone filled with what was removed
 * @return MR_E_INVALID: the listing is not sorted; MR_E_CORRUPT, MR_E_IO, MR_E_NOMEM */
MR_MUST_USE enum mr_status mr__pass_step(struct mr_pass *pass, const struct mr_object *object,
                                         struct mr_object *gone, enum mr_change *ret_change,
                                         bool *ret_taken, struct mr_problem *problem);
/** Syncs what was written and says where the pass is: the cursor for the batch (JSON text, free
 * with mr_free()). */
MR_MUST_USE enum mr_status mr__pass_place(struct mr_pass *pass, char **ret_cursor,
                                          struct mr_problem *problem);
/** All events of the pass are durable: its memory takes the place of the last one. */
MR_MUST_USE enum mr_status mr__pass_end(struct mr_pass *pass, struct mr_problem *problem);
/** Leaves the present pass; it begins anew next time, or where a cursor says. */
void mr__pass_leave(struct mr_pass *pass);

#endif
