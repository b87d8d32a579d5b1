#include "core/assert.h"

#include <stdio.h>
#include <stdlib.h>

MR_NORETURN void mr_assert_failed(const char *what, const char *file, int line)
{
    fprintf(stderr, "level=fatal mod=core msg=\"assertion failed\" what=\"%s\" at=%s:%d\n", what,
            file, line);
    fflush(stderr);
    abort();
}
