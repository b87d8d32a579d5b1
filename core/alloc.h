/* All heap memory of Millrace comes from here, so that a test can make the nth allocation fail
 * and a leak can be counted. Third-party libraries keep their own allocator. Thread-safe. */
#ifndef MR_CORE_ALLOC_H
#define MR_CORE_ALLOC_H

#include <stdint.h>

#include "core/attrs.h"

/** @p size bytes, not cleared; NULL when memory is short or a test wants it so. size 0 gives 1. */
MR_MUST_USE void *mr_alloc(size_t size);

/** @p count x @p size cleared bytes; NULL also when the product overflows. */
MR_MUST_USE void *mr_calloc(size_t count, size_t size);

/** Grows or shrinks; on NULL the old block stays valid and owned by the caller. */
MR_MUST_USE void *mr_realloc(void *p, size_t size);

/** @p size bytes aligned to @p alignment (a power of two); free with mr_free(). */
MR_MUST_USE void *mr_alloc_aligned(size_t alignment, size_t size);

/** A copy of @p text with its NUL; NULL in, NULL out. */
MR_MUST_USE char *mr_strdup(const char *text);

/** A NUL-terminated copy of @p size bytes. */
MR_MUST_USE char *mr_strndup(const char *text, size_t size);

void mr_free(void *p);

/** For MR_CLEANUP on a pointer of any type: frees *(void **)p. */
void mr_free_p(void *p);

/** Test hook: the @p nth allocation from now (1 = the next) fails, and all later ones too when
 * @p for_ever. 0 switches it off. @return how many allocations were made since the last call,
 * 0 if it was off: UINT64_MAX counts without a failure. */
uint64_t mr_alloc_fail_at(uint64_t nth, int for_ever);

/** Allocations made and not freed since the start of the process. */
int64_t mr_alloc_live(void);

#endif
