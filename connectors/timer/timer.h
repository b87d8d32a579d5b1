/* The timer's options and its schedule, apart from the thread that waits for it. */
#ifndef MR_CONNECTORS_TIMER_TIMER_H
#define MR_CONNECTORS_TIMER_TIMER_H

#include "connectors/connector.h"
#include "connectors/timer/cron.h"

enum mr_timer_misfire {
    MR_MISFIRE_ONCE = 0, /* what was missed fires once, late */
    MR_MISFIRE_SKIP,     /* not at all */
    MR_MISFIRE_ALL,      /* each, the newest max_catch_up of them */
};

struct mr_timer_options {
    char *cron;
    uint64_t every_ns;
    char *at;
    char *time_zone;
    int misfire; /* enum mr_timer_misfire */
    int64_t max_catch_up;
    char *type;
    char *subject;
    char *data; /* JSON text */
};

/* One of cron, every, at. Instants are milliseconds since 1970. */
struct mr_timer_schedule {
    struct mr_cron cron;
    struct mr_zone *zone; /* owned; NULL unless cron */
    int64_t every_ms;     /* 0 unless every */
    int64_t at_ms;
    bool is_at;
};

/** @return MR_E_INVALID with the setting and the reason */
MR_MUST_USE enum mr_status mr__timer_schedule(const struct mr_timer_options *options,
                                              struct mr_timer_schedule *ret_schedule,
                                              struct mr_problem *problem);
void mr__timer_schedule_release(struct mr_timer_schedule *schedule);

/** The first instant after @p after_ms. @return false: none any more */
bool mr__timer_next(const struct mr_timer_schedule *schedule, int64_t after_ms, int64_t *ret_ms);

#define MR_TIMER_CATCH_UP_MAX 1000u

/** The instants to fire now: those in (@p last_ms, @p now_ms] that the misfire policy leaves,
 * oldest first. Bounded, however long ago @p last_ms is.
 * @param[out] ret_ms room for MR_TIMER_CATCH_UP_MAX
 * @param[out] ret_last_ms everything up to here is dealt with
 * @return how many */
uint32_t mr__timer_due(const struct mr_timer_schedule *schedule,
                       const struct mr_timer_options *options, int64_t last_ms, int64_t now_ms,
                       int64_t *ret_ms, int64_t *ret_last_ms);

/** "2026-11-21T02:00:00Z", with milliseconds only where there are some: part of the event's id,
 * so it never changes. */
#define MR_TIMER_TEXT_SIZE 32u
void mr__timer_text(int64_t ms, char text[MR_TIMER_TEXT_SIZE]);

/** {"last":"…"} and back. */
MR_MUST_USE char *mr__timer_cursor(int64_t last_ms);
bool mr__timer_read_cursor(const char *cursor, int64_t *ret_last_ms);

#endif
