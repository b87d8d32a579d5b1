/* The configuration that matched an event: the present one, or that of its time, read from the
 * snapshot in the log, as far as matching goes. */
#ifndef MR_ADMIN_PAST_H
#define MR_ADMIN_PAST_H

#include "admin/history.h"
#include "admin/internal.h"

struct mr_past {
    struct mr_admin *admin; /* borrowed */
    const struct mr_config *config; /* NULL: Millrace stops */
    const struct mr_router *router;
    bool is_present; /* it is in force now */
    bool is_guess;   /* in its place: the snapshot is no longer in the log */
    struct mr_config *own_config; /* owned; NULL when present */
    struct mr_router *own_router; /* owned */
};

/** @param hash of the configuration that matched, as the MATCH record has it; 0: not matched yet
 * @param position of the event
 * @blocks on the disk unless it is the present one; at most three segments are read */
MR_MUST_USE enum mr_status mr_past_open(struct mr_admin *admin, uint64_t hash, uint64_t position,
                                        struct mr_past *ret_past);
void mr_past_release(struct mr_past *past);

#endif
