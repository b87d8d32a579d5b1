/* The text beside a status: what exactly was wrong, for the person who has to mend it. */
#ifndef MR_CORE_PROBLEM_H
#define MR_CORE_PROBLEM_H

#include "core/attrs.h"
#include "core/limits.h"
#include "core/status.h"

struct mr_problem {
    char text[MR_ERROR_TEXT_MAX]; /* one sentence without a full stop; no control bytes */
};

/** Formats into @p problem (NULL is allowed) and returns @p status, so that a failing function
 * can end in one line. Control bytes are replaced; what is too long is cut. @thread any */
enum mr_status mr_problem_set(struct mr_problem *problem, enum mr_status status,
                              const char *format, ...) MR_PRINTF(3, 4);

#endif
