/* Compiler attributes and the two ownership helpers used everywhere.
 *
 * MR_CLEANUP(fn) calls fn(&variable) when the local goes out of scope; MR_TAKE(p) hands a pointer
 * over and leaves NULL behind, so that the clean-up has nothing to do. */
#ifndef MR_CORE_ATTRS_H
#define MR_CORE_ATTRS_H

#include <stddef.h>

#define MR_MUST_USE __attribute__((warn_unused_result))
#define MR_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define MR_NORETURN __attribute__((noreturn))
#define MR_CLEANUP(fn) __attribute__((cleanup(fn)))
#define MR_TAKE(p)                                                                                 \
    __extension__({                                                                                \
        __typeof__(p) taken_ = (p);                                                                \
        (p) = NULL;                                                                                \
        taken_;                                                                                    \
    })
#define MR_ARRAY_COUNT(a) (sizeof(a) / sizeof((a)[0]))

#endif
