/* Texts with slots that an event fills in: topics, keys, subjects and bodies of mails.
 *
 *     {{subject}}        any attribute, specversion included; nothing when the event has none
 *     {{data}}           the data as it is
 *     {{data.order.id}}  a value below JSON data: members by name, elements by number from 0;
 *                        strings without quotes, numbers and words as written, objects and arrays
 *                        as JSON; nothing for null and for what is not there
 *
 * What comes out may hold any byte: whoever uses it says what is legal. Pure; any thread. */
#ifndef MR_SCHEMAS_TEMPLATE_H
#define MR_SCHEMAS_TEMPLATE_H

#include "core/bytes.h"

/** Whether all braces of @p text match and hold one of the above. */
bool mr_template_is_valid(const char *text);

/** Appends @p text, which passed the check, filled in from the event @p record.
 * @return MR_E_TOO_BIG, MR_E_NOMEM of the buffer: it may hold a part */
MR_MUST_USE enum mr_status mr_template_fill(const char *text, struct mr_bytes record,
                                             struct mr_buf *out);

/* Piece by piece, for what is more than text. */

/** The next slot in @p text: its `{{`, or NULL when there is none.
 * @param[out] ret_name what it holds; @param[out] ret_end behind its `}}` */
const char *mr_template_next(const char *text, struct mr_bytes *ret_name, const char **ret_end);
/** Appends what the slot @p name stands for, as mr_template_fill() does. */
MR_MUST_USE enum mr_status mr_template_append(struct mr_bytes name, struct mr_bytes record,
                                              struct mr_buf *out);
/** The JSON text that the slot @p name, a path, stands for. @return false: there is none */
bool mr_template_json(struct mr_bytes name, struct mr_bytes record, struct mr_bytes *ret_value);

#endif
