/* Failures of one kind: the class of a failed delivery, its error without what differs from event
 * to event, and a number for the two together. Pure functions; any thread. */
#ifndef MR_ADMIN_FAILURE_H
#define MR_ADMIN_FAILURE_H

#include "bus/logformat.h"
#include "bus/ports.h"

#define MR_FAILURE_TEXT_SIZE 240u /* of a normalised error with its NUL; the rest is cut */

/** What kind of end @p result tells of: the last attempt's verdict ("dead", "retry", "timeout",
 * "crash", "refused"); "rejected" when it never became an event, "rule" when Millrace itself ended
 * it. A static text. */
const char *mr_failure_class(const struct mr_result *result);
/** Whether mr_failure_class() can say @p name. */
bool mr_failure_class_exists(const char *name);
/** All of them, for a message: "dead, retry, …". */
const char *mr_failure_classes(void);

/** The error of @p result (its exit status, or its reason, when it has none) with every number, hex
 * number, UUID and @p id replaced by '#', and space and control bytes run together.
 * @param id of the event; may be empty */
void mr_failure_normalise(const struct mr_result *result, struct mr_bytes id,
                          char to[MR_FAILURE_TEXT_SIZE]);

/** The number of a group: the same for ever, never 0. @param text a normalised error */
uint32_t mr_failure_group(const char *class, const char *text);

#endif
