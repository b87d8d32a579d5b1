/* Events that Millrace makes about itself: outcomes, fan-outs that ended, what was shed. Private to
 * schemas/. */
#ifndef MR_SCHEMAS_OWN_EVENT_H
#define MR_SCHEMAS_OWN_EVENT_H

#include "schemas/event.h"

struct mr__own_attr {
    const char *name;
    enum mr_attr_type type;
    struct mr_bytes value; /* empty: the event has no such attribute */
};

/** An event of @p attrs with the JSON text @p data, all borrowed.
 * @return MR_E_TOO_BIG beyond @p size_max, MR_E_INVALID, MR_E_NOMEM */
MR_MUST_USE enum mr_status mr__own_event(const struct mr__own_attr *attrs, size_t count,
                                         struct mr_bytes data, size_t size_max,
                                         struct mr_event **ret_event);

#endif
