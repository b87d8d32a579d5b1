#include "core/problem.h"

#include <stdarg.h>
#include <stdio.h>

#include "core/logger.h"

enum mr_status mr_problem_set(struct mr_problem *problem, enum mr_status status,
                              const char *format, ...)
{
    if (problem != NULL) {
        char raw[sizeof(problem->text)];
        va_list args;
        va_start(args, format);
        int n = vsnprintf(raw, sizeof(raw), format, args);
        va_end(args);
        mr_text_clean(problem->text, sizeof(problem->text), mr_bytes_of(n < 0 ? "" : raw));
    }
    return status;
}
