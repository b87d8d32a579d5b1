/* What the listeners say before the bus is there: alive, how much of the log is read, and to
 * everything else 503. Routes that are added meanwhile go before it. */
#ifndef MR_ADMIN_STARTING_H
#define MR_ADMIN_STARTING_H

#include "connectors/http/listener.h"

struct mr_starting;

/** From now on whatever has no route is answered here.
 * @param socket, ingest borrowed: outlive it; either may be NULL */
MR_MUST_USE enum mr_status mr_starting_create(struct mr_http_listener *socket,
                                              struct mr_http_listener *ingest,
                                              struct mr_starting **ret_starting,
                                              struct mr_problem *problem);
/** So many of so many bytes @p of that ("log"; static) are read; @p total 0: that is over, or not
 * yet known. @thread any */
void mr_starting_progress(struct mr_starting *starting, const char *of, uint64_t done,
                          uint64_t total);
/** What has no route is not found from now on. NULL: nothing. @thread any but a listener's own */
void mr_starting_destroy(struct mr_starting *starting);

#endif
