/* Waiting for a condition, with a deadline. */
#ifndef MR_TESTS_SUPPORT_WAIT_H
#define MR_TESTS_SUPPORT_WAIT_H

#include "tests/support/test.h"

#include <poll.h>

#include "core/clock.h"

#define DEADLINE_MS 60000

static inline int64_t now_ms(void)
{
    return (int64_t)(mr_clock_mono_ns() / MR_MS);
}

/* WAIT_FOR(condition, format, …): looks every 10 ms; fails with the text when it never holds. */
#define WAIT_FOR(condition, ...)                                                                   \
    do {                                                                                           \
        int64_t until_ms = now_ms() + DEADLINE_MS;                                                 \
        while (!(condition)) {                                                                     \
            if (now_ms() > until_ms) {                                                             \
                fail_msg("waited in vain: " __VA_ARGS__);                                          \
            }                                                                                      \
            (void)poll(NULL, 0, 10);                                                               \
        }                                                                                          \
    } while (0)

#endif
