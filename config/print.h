/* Errors of a load as text. Pure; any thread. */
#ifndef MR_CONFIG_PRINT_H
#define MR_CONFIG_PRINT_H

#include "config/config.h"

/** Appends one line for each error: `file:line:column: text`, or with @p json
 * `{"file":…,"line":…,"column":…,"error":…}`; then a line that says so when there are more.
 * @return MR_E_TOO_BIG or MR_E_NOMEM of the buffer */
MR_MUST_USE enum mr_status mr_config_errors_print(const struct mr_config_errors *errors,
                                                  struct mr_buf *out, bool json);

#endif
