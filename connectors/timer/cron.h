/* Cron schedules as pure functions: an expression and a time zone give instants.
 *
 *     minute hour day-of-month month day-of-week
 *     0-59   0-23 1-31         1-12  0-7 (0 and 7 are Sunday)
 *
 * A field is *, a number, a range a-b, a list a,b and a step: *\/n, a-b/n, a/n (from a to the end).
 * Months and days of the week have English names (jan, sun), in any case. When both days are
 * restricted (neither begins with *), either suffices, as in every cron since 1979. @hourly @daily
 * @midnight @weekly @monthly @yearly @annually stand for expressions.
 *
 * Summer time: an hour that is skipped fires once, when the clocks are put forward; an hour that
 * comes twice fires the first time only. */
#ifndef MR_CONNECTORS_TIMER_CRON_H
#define MR_CONNECTORS_TIMER_CRON_H

#include "connectors/timer/zone.h"

struct mr_cron {
    uint64_t minutes; /* bit n: minute n */
    uint32_t hours;
    uint32_t days;     /* bits 1-31 */
    uint16_t months;   /* bits 1-12 */
    uint8_t weekdays;  /* bits 0-6, Sunday is 0 */
    bool any_day;      /* day-of-month began with * */
    bool any_weekday;
};

/** @return MR_E_INVALID with the field and the reason; also for what never comes (30 February) */
MR_MUST_USE enum mr_status mr_cron_parse(const char *text, struct mr_cron *ret_cron,
                                         struct mr_problem *problem);

/** The first instant after @p after_s. @return false: none within nine years */
bool mr_cron_next(const struct mr_cron *cron, const struct mr_zone *zone, int64_t after_s,
                  int64_t *ret_unix_s);

#endif
