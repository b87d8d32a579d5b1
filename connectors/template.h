/* Texts with slots that an event fills in: topics, keys, subjects and bodies of mails.
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

/** Whether all braces of @p text match and hold one of the above. */
bool mr__template_is_valid(const char *text);

/** Appends @p text, which passed the check, filled in from the event @p record.
 * @return MR_E_TOO_BIG, MR_E_NOMEM of the buffer: it may hold a part */
MR_MUST_USE enum mr_status mr__template_fill(const char *text, struct mr_bytes record,
                                             struct mr_buf *out);

#endif
