/* The declarative transform of an event: `set`, `rename` and `drop` of attributes and of places in
 * JSON data, compiled from the configuration's JSON. Pure: a new event from a record.
 *
 *     set:     {subject: "{{data.order.id}}", data.seen: true, data: {id: "{{data.order.id}}"}}
 *     rename:  {tenant: customer}
 *     drop:    [traceparent, data.card]
 *
 * Slots (schemas/template.h) are filled from the event as it came. In data, a text that is one
 * slot and nothing else becomes the JSON value itself, or null; in any other text slots become
 * text. What is not touched stays as it came, byte for byte. Renaming comes first, then setting in
 * the order given, then dropping. An attribute that is set to nothing is left out. */
#ifndef MR_ROUTER_TRANSFORM_H
#define MR_ROUTER_TRANSFORM_H

#include "schemas/event.h"

struct mr_transform;

/** @return MR_E_INVALID, MR_E_TOO_BIG with what is wrong, beginning with its place
 * (`set.data.a …`); MR_E_NOMEM */
MR_MUST_USE enum mr_status mr_transform_create(struct mr_bytes json,
                                               struct mr_transform **ret_transform,
                                               struct mr_problem *problem);
void mr_transform_destroy(struct mr_transform *transform);

/** @param size_max of the new record
 * @param[out] ret_event one reference, the caller's
 * @return MR_E_INVALID, MR_E_TOO_BIG with the reason: this event cannot be transformed; MR_E_NOMEM
 * @thread any */
MR_MUST_USE enum mr_status mr_transform_apply(const struct mr_transform *transform,
                                              struct mr_bytes record, size_t size_max,
                                              struct mr_event **ret_event,
                                              struct mr_problem *problem);

#endif
