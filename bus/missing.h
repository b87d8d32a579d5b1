/* Segments that are not there: given up in good order, or lost with what the state still has in
 * them. The checkpoint slots tell. */
#ifndef MR_BUS_MISSING_H
#define MR_BUS_MISSING_H

#include "bus/logread.h"

/** Has @p index know what the slots say: before which segment one that is missing may have been
 * given up, and how much was written to each. Without it every missing one counts as lost.
 * @blocks on the disk @return MR_E_NOMEM; a slot that cannot be read says nothing */
MR_MUST_USE enum mr_status mr_missing_heed(struct mr_io *io, struct mr_log_index *index);

/* What deliveries and dead letters have in one file that is missing. */
struct mr_missing {
    uint64_t number; /* of the segment or survivor file */
    uint64_t count;  /* records that are needed, */
    uint64_t first;  /* of the events with the offsets from this one */
    uint64_t last;   /* to this one */
};

/** Tells each missing file in which something is that was alive at the newest checkpoint and has
 * not ended or moved since. What a subscription that is behind has not read yet is not seen.
 * @param index  as mr_missing_heed() left it @blocks on the disk
 * @return MR_E_NOMEM, MR_E_IO; a slot that cannot be read says nothing */
MR_MUST_USE enum mr_status mr_missing_tell(struct mr_io *io, const struct mr_log_index *index,
                                           void (*found)(void *context,
                                                         const struct mr_missing *missing),
                                           void *context);

#endif
