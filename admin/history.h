/* The past as the log files hold it, read beside the running bus: never past the position it calls
 * durable, and never through its own handles. Segments may be retired while we read: what is gone
 * reads as not there. One thread at a time. */
#ifndef MR_ADMIN_HISTORY_H
#define MR_ADMIN_HISTORY_H

#include "bus/logread.h"

struct mr_history {
    struct mr_io *io; /* owned */
    struct mr_log_index index;
    uint64_t end_position; /* everything before it is durable */
};

/** Opens the log in @p folder for reading up to @p end_position; ask the bus for that first.
 * @blocks on the disk */
MR_MUST_USE enum mr_status mr_history_open(const char *folder, uint64_t end_position,
                                           struct mr_history *ret_history,
                                           struct mr_problem *problem);
void mr_history_release(struct mr_history *history);

/** Calls @p visit for each place of the log from the start of segment @p number on, what could not
 * be read (data NULL) among them, to the end or, with @p alone, to the end of that segment; until
 * it returns false. The group is borrowed during the call. */
MR_MUST_USE enum mr_status mr_history_groups(struct mr_history *history, uint64_t number,
                                             bool alone,
                                             bool (*visit)(void *context,
                                                           const struct mr_log_group *group),
                                             void *context);

/* One record on its way past a visitor. */
struct mr_history_record {
    uint64_t position;
    uint64_t wall_ns;  /* of its group */
    uint64_t log_ns;
    struct mr_record record; /* body borrowed during the call */
};

/** mr_history_groups(), record by record; what cannot be read is passed over. */
MR_MUST_USE enum mr_status mr_history_scan(struct mr_history *history, uint64_t number, bool alone,
                                           bool (*visit)(void *context,
                                                         const struct mr_history_record *record),
                                           void *context);

/** Reads the one record at @p position into @p body (cleared first), which holds its bytes.
 * @return MR_E_NOT_FOUND: no record of @p kind for @p offset stands there (any more) */
MR_MUST_USE enum mr_status mr_history_read(struct mr_history *history, uint64_t position,
                                           uint8_t kind, uint64_t offset, struct mr_buf *body,
                                           struct mr_record *ret_record);
/** Likewise the event of delivery @p subscription:@p offset, which may be an edited one. */
MR_MUST_USE enum mr_status mr_history_read_event(struct mr_history *history, uint64_t position,
                                                 uint32_t subscription, uint64_t offset,
                                                 struct mr_buf *body,
                                                 struct mr_record *ret_record);

/** The newest event whose id attribute is @p id, or, with @p id empty, the event at @p offset.
 * @param[out] ret_record body held in @p body  @return MR_E_NOT_FOUND */
MR_MUST_USE enum mr_status mr_history_find(struct mr_history *history, struct mr_bytes id,
                                           uint64_t offset, struct mr_buf *body,
                                           struct mr_history_record *ret_record);

#endif
