/* One event about an object that was found created, changed or removed. Pure but for the clock. */
#ifndef MR_CONNECTORS_OBJECTSTORE_LIST_EVENT_H
#define MR_CONNECTORS_OBJECTSTORE_LIST_EVENT_H

#include "connectors/objectstore/pass.h"
#include "schemas/event.h"

/* Where it was found; all borrowed. */
struct mr_list_origin {
    const char *source_name;
    const char *region;
    const char *bucket;
    size_t event_size_max;
};

/** Shaped as the S3 adapter's: type com.amazonaws.s3.ObjectCreated:Listed, ObjectCreated:Changed or
 * ObjectRemoved:Missing, subject the key as S3 writes it. What cannot be an event is that of an
 * ingest dead letter.
 * @param[out] ret_rejected the event is a dead letter's, and @p problem says why
 * @return MR_E_NOMEM */
MR_MUST_USE enum mr_status mr__list_event(const struct mr_list_origin *from,
                                          enum mr_change change, const struct mr_object *object,
                                          struct mr_event **ret_event, bool *ret_rejected,
                                          struct mr_problem *problem);

#endif
