/* The past as the log files hold it, read beside the running bus: never past the position it calls
 * durable, and never through its own handles. Segments may be retired while we read: what is gone
 * reads as not there. One thread at a time.
 *
 * Where a sealed segment has a footer that is believed, only what the footer names is read, and of
 * one that has none yet what the bus knows of it; where neither is there, or turns out damaged, the
 * segment is read. The answers are the same. */
#ifndef MR_ADMIN_HISTORY_H
#define MR_ADMIN_HISTORY_H

#include "bus/footer_ids.h"
#include "bus/logread.h"

/* What the log folder holds: the headers of segments and of their footers, some 300 bytes each, and
 * of ids- files, 600 for each 64 of them, kept from one question to the next. Any thread. */
struct mr_history_index;

/** @param folder borrowed; need not be there yet
 * @param mirror borrowed: of a log that is kept twice the copy that leads is read; NULL
 * @return MR_E_NOMEM */
MR_MUST_USE enum mr_status mr_history_index_create(const char *folder, struct mr_io *mirror,
                                                   struct mr_history_index **ret_index);
void mr_history_index_destroy(struct mr_history_index *index); /* NULL-safe */

struct mr_history {
    struct mr_io *io;
    bool owns_io;
    struct mr_log_index index; /* owned; segments alone */
    struct mr_footer_head *footers; /* owned; one for each segment, pages 0: none */
    struct mr_footer_ids_head *ids; /* owned */
    uint32_t ids_count;
    uint64_t end_position; /* everything before it is durable */
    uint32_t whole; /* segments that mr_history_find() and mr_history_follow() have read whole */
    /* May be set: asks the bus which groups of a segment that has no footer yet may concern
     * something, as mr_bus_sketched() says; their places go to the end of @p places, 8 bytes each.
     * @return false: it is to be read */
    bool (*sketched)(void *context, uint64_t number, uint64_t hash, bool is_about,
                     struct mr_buf *places);
    void *sketch_context;
};

/** Opens the log of @p index for reading up to @p end_position; ask the bus for that first. Lists
 * the folder, and reads the headers of segments that are new or have no footer.
 * @blocks on the disk */
MR_MUST_USE enum mr_status mr_history_open(struct mr_history_index *index, uint64_t end_position,
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

/** The head of the footer of segment @p at of the index; NULL when it has none, or one that does
 * not know all of it. */
const struct mr_footer_head *mr_history_footer(const struct mr_history *history, uint32_t at);

/** mr_history_scan() from the start of segment @p number to the end, for a visitor that asks only
 * for records which concern the event with @p offset (mr_footer_find_about() says which those are):
 * others are shown too, but not all. */
MR_MUST_USE enum mr_status mr_history_follow(struct mr_history *history, uint64_t number,
                                             uint64_t offset,
                                             bool (*visit)(void *context,
                                                           const struct mr_history_record *record),
                                             void *context);

/** mr_history_scan() of segment @p at of the index alone, for a visitor that asks only for events
 * whose attribute @p which is @p value: others are shown too, but not all.
 * @param[out] ret_any whether anything was read to be shown */
MR_MUST_USE enum mr_status mr_history_scan_value(struct mr_history *history, uint32_t at,
                                                 enum mr_footer_value which, struct mr_bytes value,
                                                 bool (*visit)(void *context,
                                                               const struct mr_history_record *r),
                                                 void *context, bool *ret_any);

/** The records that outlived their segments, in survivor files, the newest file first: events, and
 * how dead letters died. Some may still be in their segments too, others not be needed any more. */
MR_MUST_USE enum mr_status mr_history_kept(struct mr_history *history,
                                           bool (*visit)(void *context,
                                                         const struct mr_history_record *record),
                                           void *context);
/** Whether @p position is in one of those files: what it says about when is nothing. */
bool mr_history_is_kept(const struct mr_history *history, uint64_t position);

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
