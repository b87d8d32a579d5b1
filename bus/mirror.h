/* A log in two directories: which of the two is right at a start, and both made equal.
 *
 * What was acknowledged is in both, or in the one that went on alone and says so in its note
 * (core/io_mirror.h). After a crash either may hold a group that the other has not: one that is
 * whole and chained in either counts, and both have it before the log is read. A copy that was
 * left behind becomes what the other is. */
#ifndef MR_BUS_MIRROR_H
#define MR_BUS_MIRROR_H

#include "bus/mend.h"
#include "core/io_mirror.h"

struct mr_log_mirror_options {
    struct mr_io *copies[2]; /* NULL: it cannot be opened now; not both */
    const char *names[2];
    uint64_t seed; /* of notes */
    bool (*second_first)(void *context); /* as in struct mr_mirror_options, as the next */
    void (*tell)(void *context, const char *text);
    void *context;
};

/** Makes both equal and goes on in both, or in the one there is.
 * @param[out] ret_io destroys the copies as well; on failure they are the caller's still
 * @return MR_E_INVALID: they hold different logs, or each went on without the other: @p problem
 * names what to do; MR_E_IO, MR_E_DISK_LOW, MR_E_NOMEM @blocks on both disks */
MR_MUST_USE enum mr_status mr_log_mirror_open(const struct mr_log_mirror_options *options,
                                              struct mr_io **ret_io, struct mr_problem *problem);

/** A log that has a second copy somewhere is opened without it: from here on it is the newer one.
 * Nothing to do when it never had one.
 * @return MR_E_INVALID: the other one left it behind, and has what this one lacks */
MR_MUST_USE enum mr_status mr_log_mirror_leave(struct mr_io *io, uint64_t seed,
                                               struct mr_mirror_note *ret_note);

#endif
