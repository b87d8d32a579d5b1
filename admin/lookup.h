/* Groups of one sealed segment that its footer names, shown in place of all of them. */
#ifndef MR_ADMIN_LOOKUP_H
#define MR_ADMIN_LOOKUP_H

#include "admin/history.h"
#include "bus/footer_ids.h"

/* One hash on its way through the segments: what the files of the groups say of it. */
struct mr__lookup {
    struct mr_io *io;
    uint64_t hash;
    struct mr_footer_ids_answer *answers; /* owned, ascending */
    uint64_t *groups;                     /* owned; theirs */
    uint32_t count;
};

/** Asks the files of all groups, and has the disk begin with the footers of those segments behind
 * @p from that are to be asked, the newest first.
 * @param hash of mr_footer_id_hash() or, with @p is_about, of mr_footer_about_hash()
 * @return MR_E_NOMEM; release it in any case @blocks on the disk */
MR_MUST_USE enum mr_status mr__lookup_begin(struct mr__lookup *lookup, struct mr_history *history,
                                            uint64_t hash, bool is_about, uint64_t from);
void mr__lookup_release(struct mr__lookup *lookup);

/** Shows the groups of segment @p at of the index, which has no footer, that may concern what
 * @p hash stands for (as for mr__lookup_begin()), as far as they are durable.
 * @param[out] ret_from, ret_more as for mr__lookup_about()
 * @return MR_E_CORRUPT: read the segment instead, from place @p ret_from on; MR_E_NOMEM */
MR_MUST_USE enum mr_status
mr__lookup_sketched(const struct mr_history *history, uint32_t at, uint64_t hash, bool is_about,
                    bool (*visit)(void *context, const struct mr_log_group *group), void *context,
                    uint64_t *ret_from, bool *ret_more);

/** Shows the groups of segment @p head->number that may hold records which concern the event with
 * @p offset to @p visit, ascending.
 * @param lookup of mr_footer_about_hash(offset)
 * @param[out] ret_from everything before this byte of the segment is done
 * @return MR_OK: all of it is; MR_E_CORRUPT: read on from *ret_from without the footer; MR_E_NOMEM
 * @param[out] ret_more what @p visit returned last */
MR_MUST_USE enum mr_status mr__lookup_about(struct mr__lookup *lookup,
                                            const struct mr_footer_head *head, uint64_t offset,
                                            bool (*visit)(void *context,
                                                          const struct mr_log_group *group),
                                            void *context, uint64_t *ret_from, bool *ret_more);
/** Likewise the groups that may hold events whose attribute @p which is @p value. */
MR_MUST_USE enum mr_status mr__lookup_value(struct mr_io *io, const struct mr_footer_head *head,
                                            enum mr_footer_value which, struct mr_bytes value,
                                            bool (*visit)(void *context,
                                                          const struct mr_log_group *group),
                                            void *context, uint64_t *ret_from, bool *ret_more);

/** The offset of the newest event with @p id in segment @p head->number.
 * @param lookup of mr_footer_id_hash(id)
 * @return MR_E_NOT_FOUND: it is not there; MR_E_CORRUPT: the footer does not say; MR_E_NOMEM */
MR_MUST_USE enum mr_status mr__lookup_id(struct mr__lookup *lookup,
                                         const struct mr_footer_head *head, struct mr_bytes id,
                                         uint64_t *ret_offset);

#endif
