/* Time zones: offsets from UTC at any instant, read from TZif files (RFC 8536, versions 1 to 4)
 * with their footer rule. Pure but for mr_zone_load(). The C library's own zone is process-wide
 * and cannot be two zones at once, hence this. Immutable once made, loaded once for all users; any
 * thread. */
#ifndef MR_CONNECTORS_TIMER_ZONE_H
#define MR_CONNECTORS_TIMER_ZONE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/bytes.h"
#include "core/problem.h"

struct mr_zone;

/** Reads @p name ("Europe/Berlin", "UTC") below /usr/share/zoneinfo; NULL or "" is UTC, and UTC
 * needs no file. @return MR_E_NOT_FOUND, MR_E_INVALID (a name with .. in it, a damaged file) */
MR_MUST_USE enum mr_status mr_zone_load(const char *name, struct mr_zone **ret_zone,
                                        struct mr_problem *problem);

/** The same from the bytes of a TZif file. */
MR_MUST_USE enum mr_status mr_zone_parse(struct mr_bytes file, struct mr_zone **ret_zone,
                                         struct mr_problem *problem);
void mr_zone_destroy(struct mr_zone *zone);

/** Seconds east of UTC at @p unix_s; positive in Shanghai. */
int32_t mr_zone_offset(const struct mr_zone *zone, int64_t unix_s);

/** The first change of the offset after @p unix_s. @return false: there is none */
bool mr_zone_next_change(const struct mr_zone *zone, int64_t unix_s, int64_t *ret_unix_s);

/** The instant a clock on the wall shows @p local_s (seconds since 1970 as if it were UTC). Shown
 * twice: the first one. Never shown, because clocks were put forward: the instant they were. */
int64_t mr_zone_instant(const struct mr_zone *zone, int64_t local_s);

#endif
