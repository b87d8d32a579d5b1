/* Time. Two kinds that never mix: progress (CLOCK_BOOTTIME, nanoseconds since boot, goes on in
 * suspend) for everything that waits, and wall time (nanoseconds since 1970) as data only.
 * bus/ and router/ read no clock: they are handed a struct mr_now. */
#ifndef MR_CORE_CLOCK_H
#define MR_CORE_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "core/bytes.h"

#define MR_US 1000ull
#define MR_MS 1000000ull
#define MR_SECOND 1000000000ull
#define MR_MINUTE (60 * MR_SECOND)
#define MR_HOUR (60 * MR_MINUTE)
#define MR_DAY (24 * MR_HOUR)

struct mr_now {
    uint64_t mono_ns; /* progress since boot */
    uint64_t wall_ns; /* since 1970-01-01T00:00:00Z */
    uint64_t boot_id; /* tells one boot of the machine from another */
};

/** The present moment, from the kernel. @thread any */
struct mr_now mr_clock_now(void);
/** Progress alone; cheaper. @thread any */
uint64_t mr_clock_mono_ns(void);

#define MR_TIME_TEXT_SIZE 40u

/** Writes @p wall_ns as RFC 3339 in UTC with milliseconds and Z, NUL-terminated.
 * @return @p text */
const char *mr_time_format(uint64_t wall_ns, char text[MR_TIME_TEXT_SIZE]);

/** Parses an RFC 3339 timestamp as CloudEvents wants it (T and Z in either case, any number of
 * fraction digits, years 0000-9999, a leap second only at 23:59:60 UTC).
 * @param[out] ret_ns may be NULL; nanoseconds since 1970, negative before it, saturated
 * @return false when @p text is anything else */
bool mr_time_parse(struct mr_bytes text, int64_t *ret_ns);

/** Civil UTC to days since 1970-01-01 and back; proleptic Gregorian, month 1-12, day 1-31. */
int64_t mr_days_from_civil(int64_t year, unsigned month, unsigned day);
void mr_civil_from_days(int64_t days, int64_t *ret_year, unsigned *ret_month, unsigned *ret_day);

#endif
