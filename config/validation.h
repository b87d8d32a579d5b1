/* `validate` of a source: which JSON Schema the data of an event has to obey, by its dataschema
 * attribute or else by its type. Made while the configuration is loaded, immutable after. */
#ifndef MR_CONFIG_VALIDATION_H
#define MR_CONFIG_VALIDATION_H

#include "core/bytes.h"
#include "core/problem.h"

struct mr_validation;

void mr_validation_destroy(struct mr_validation *validation);

/** Whether @p record may come in.
 * @return MR_E_INVALID, MR_E_TOO_BIG with the reason: the event is to be rejected; MR_E_NOMEM
 * @thread any */
MR_MUST_USE enum mr_status mr_validation_check(const struct mr_validation *validation,
                                               struct mr_bytes record, struct mr_problem *problem);

/** Of all schemas and of what they are for. */
uint64_t mr_validation_hash(const struct mr_validation *validation);

#endif
