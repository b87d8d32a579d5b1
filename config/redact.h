/* What may be printed of values that hold secrets. mr__ ones are for config/ alone. Pure; any
 * thread. */
#ifndef MR_CONFIG_REDACT_H
#define MR_CONFIG_REDACT_H

#include "core/bytes.h"

/** Appends the URL @p text (as written, references unresolved) as a JSON string: its password is
 * left standing when it is nothing but references, else it becomes ***. */
MR_MUST_USE enum mr_status mr__redact_url(struct mr_bytes text, struct mr_buf *out);

/** Whether a free-form setting called @p key most likely holds a secret (sasl.password,
 * Authorization, X-Api-Key, …). */
bool mr_redact_key(const char *key);

/** Length of the reference `${…}` at the head of @p text, 0 if there is none. */
size_t mr__reference_size(struct mr_bytes text);

#endif
