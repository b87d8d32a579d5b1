/* The transform of an event, compiled from the configuration's JSON, in one of two forms.
 *
 * The declarative one: `set`, `rename` and `drop` of attributes and of places in JSON data. Pure: a
 * new event from a record.
 *
 *     set:     {subject: "{{data.order.id}}", data.seen: true, data: {id: "{{data.order.id}}"}}
 *     rename:  {tenant: customer}
 *     drop:    [traceparent, data.card]
 *
 * Slots (schemas/template.h) are filled from the event as it came. In data, a text that is one
 * slot and nothing else becomes the JSON value itself, or null; in any other text slots become
 * text. What is not touched stays as it came, byte for byte. Renaming comes first, then setting in
 * the order given, then dropping. An attribute that is set to nothing is left out.
 *
 *     jq:      .type = "small." + .type | .data |= {id: .order.id}
 *     timeout: 100ms
 *
 * A program in jq: here only its text, and what is made of the text it gave. It is run elsewhere
 * (workers/jq), over the event in the JSON format. */
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

/** The program of a transform that is one, NULL for the declarative form.
 * @param[out] ret_timeout_ns of processor time for one event; untouched for the declarative form */
const char *mr_transform_program(const struct mr_transform *transform, uint64_t *ret_timeout_ns);

/** What a program made of the event @p record: @p text, to be one event in the JSON format. Where
 * it has no `specversion`, no `id` or none of the attributes that begin with mr, those of
 * @p record stay; they cannot be changed. Other arguments and statuses as mr_transform_apply(). */
MR_MUST_USE enum mr_status mr_transform_accept(struct mr_bytes record, struct mr_bytes text,
                                               size_t size_max, struct mr_event **ret_event,
                                               struct mr_problem *problem);

/** The declarative form alone.
 * @param size_max of the new record
 * @param[out] ret_event one reference, the caller's
 * @return MR_E_INVALID, MR_E_TOO_BIG with the reason: this event cannot be transformed; MR_E_NOMEM
 * @thread any */
MR_MUST_USE enum mr_status mr_transform_apply(const struct mr_transform *transform,
                                              struct mr_bytes record, size_t size_max,
                                              struct mr_event **ret_event,
                                              struct mr_problem *problem);

#endif
