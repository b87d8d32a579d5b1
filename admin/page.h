/* What goes through the past from a time on, one page a request: a page is one segment of the log,
 * or a part of it, read beside the running bus, so that a large log holds up neither it nor the
 * other requests, and nothing is remembered here between two of them. Of segments whose footer says
 * that nothing in them is asked for, up to 64 before that one are in the page too. */
#ifndef MR_ADMIN_PAGE_H
#define MR_ADMIN_PAGE_H

#include "admin/history.h"
#include "admin/internal.h"

struct mr__page {
    struct mr_admin *admin;
    uint64_t since_wall_ns;
    uint64_t until_wall_ns; /* before it */
    uint64_t segment; /* 0: the one in which `since` lies */
    uint32_t source;  /* id: of this source alone; MR__SOURCE_ANY */
    const struct mr_filter *filter; /* borrowed; NULL: any event */
    uint64_t next;    /* after a scan: the segment of the next page; 0: none */
    uint32_t left;    /* after a scan: segments behind this one */
};
#define MR__SOURCE_ANY (UINT32_MAX - 1) /* the bus is UINT32_MAX, ids count from 0 */

/** Takes `since` (RFC 3339) or `last` (a duration), `until`, `source` and `segment` of the request.
 * @param last_default_ns how far back without either; 0: one of them is wanted
 * @return MR_E_INVALID, MR_E_NOT_FOUND (source) with the reason */
MR_MUST_USE enum mr_status mr__page_read(struct mr__page *page, const struct mr__call *call,
                                         uint64_t last_default_ns, struct mr_problem *problem);

/** Shows the page's records to @p visit until it returns false. When the filter wants one subject,
 * type or source, and the footer of the segment is believed, it shows only groups which may hold
 * such events. @blocks on the disk */
MR_MUST_USE enum mr_status mr__page_scan(struct mr__page *page,
                                         bool (*visit)(void *context,
                                                       const struct mr_history_record *seen),
                                         void *context, struct mr_problem *problem);

/** Whether the EVENT record lies within the times and comes from the source that are asked for. */
bool mr__page_has(const struct mr__page *page, const struct mr_history_record *seen);

/** Members `next` (segment or null) and `segments_left`. */
void mr__page_write_next(const struct mr__page *page, struct mr_json_out *out);

#endif
