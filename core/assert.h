/* Assertions: our own invariants, on in every build. Never for input, disk, peer or memory.
 * A failed one logs where and what, then aborts: crash, never continue corrupt. */
#ifndef MR_CORE_ASSERT_H
#define MR_CORE_ASSERT_H

#include "core/attrs.h"

MR_NORETURN void mr_assert_failed(const char *what, const char *file, int line);

#define MR_ASSERT(cond)                                                                            \
    do {                                                                                           \
        if (__builtin_expect(!(cond), 0)) {                                                        \
            mr_assert_failed(#cond, __FILE__, __LINE__);                                           \
        }                                                                                          \
    } while (0)

#endif
