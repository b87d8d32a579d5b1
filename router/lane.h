/* Lanes: what `order_by` makes of an event. Private to router/. */
#ifndef MR_ROUTER_LANE_H
#define MR_ROUTER_LANE_H

#include "config/config.h"
#include "schemas/event.h"

/** The hash of the ordering key of @p record: mr_hash() of the attribute's value, or of the text
 * of the scalar at the dot path @p key below data (a string's content with its escapes resolved; a
 * number, true and false as written). 0, unordered, when there is no such attribute or scalar,
 * it is null, or the data is no JSON that can be followed that far.
 * @param order enum mr_order */
uint64_t mr__lane(int order, struct mr_bytes key, struct mr_bytes record);

#endif
