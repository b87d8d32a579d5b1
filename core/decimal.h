/* Decimal numbers as text, `-12.50e3`: compared exactly, whatever their size; nothing is converted
 * to floating point. Pure functions. */
#ifndef MR_CORE_DECIMAL_H
#define MR_CORE_DECIMAL_H

#include "core/bytes.h"

#define MR_DECIMAL_DIVISOR_DIGITS 17 /* arithmetic modulo a divisor fits 64 bits */

/** Whether @p text is a decimal number: digits, a fraction, an exponent, a minus before. */
bool mr_decimal_is(struct mr_bytes text);
/** Exact, whatever the size. Both must be numbers. @return < 0, 0, > 0 */
int mr_decimal_compare(struct mr_bytes a, struct mr_bytes b);
/** Whether number @p text has no fraction: 1, 1.0 and 10e-1 have none. */
bool mr_decimal_is_integer(struct mr_bytes text);
/** @p text as a count: a number without a fraction, 0 or more; UINT32_MAX also stands for all that
 * is greater. @return false: it is none */
bool mr_decimal_count(struct mr_bytes text, uint32_t *ret_count);
/** The same for 1, 1.0 and 10e-1. */
uint64_t mr_decimal_hash(struct mr_bytes text);
/** Whether @p text is a number above zero with at most MR_DECIMAL_DIVISOR_DIGITS digits that
 * count. */
bool mr_decimal_is_divisor(struct mr_bytes text);
/** Whether number @p text is @p divisor times an integer; exact. */
bool mr_decimal_is_multiple(struct mr_bytes text, struct mr_bytes divisor);

#endif
