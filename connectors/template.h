/* Texts with placeholders that an event fills in: topics, keys, subjects and bodies of mails.
 *
 *     {{subject}}        any attribute, specversion included; nothing when the event has none
 *     {{data}}           the data as it is
 *     {{data.order.id}}  a value below JSON data: members by name, elements by number from 0;
 *                        strings without quotes, numbers and words as written, objects and arrays
 *                        as JSON; nothing for null and for what is not there
 *
 * What comes out may hold any byte: whoever uses it says what is legal. Pure; any thread. */
#ifndef MR_CONNECTORS_TEMPLATE_H
#define MR_CONNECTORS_TEMPLATE_H

#include "core/bytes.h"
#include "core/problem.h"

/** @return MR_E_INVALID with the reason, without the option's name, when braces do not match or
 * hold something else than the above */
MR_MUST_USE enum mr_status mr__template_check(const char *text, struct mr_problem *problem);

/** Appends @p text, which passed the check, filled in from the event @p record.
 * @return MR_E_TOO_BIG, MR_E_NOMEM of the buffer: it may hold a part */
MR_MUST_USE enum mr_status mr__template_fill(const char *text, struct mr_bytes record,
                                             struct mr_buf *out);

#endif
