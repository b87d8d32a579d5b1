/* The families of /metrics. Not for other folders. */
#ifndef MR_ADMIN_METRICS_H
#define MR_ADMIN_METRICS_H

enum mr__family_id {
    MR__M_EVENTS = 0,
    MR__M_REJECTED,
    MR__M_DUPLICATES,
    MR__M_DEDUPE_KEYS,
    MR__M_DEDUPE_EARLY,
    MR__M_SOURCE_LAG,
    MR__M_SOURCE_PAUSED,
    MR__M_SOURCE_ERRORS,
    MR__M_SOURCE_RECONNECTS,
    MR__M_MATCHED,
    MR__M_DELIVERIES,
    MR__M_ATTEMPTS,
    MR__M_QUEUE,
    MR__M_DELIVERY_SECONDS,
    MR__M_ATTEMPT_SECONDS,
    MR__M_QUEUE_AGE,
    MR__M_QUEUE_BEHIND,
    MR__M_BLOCKED,
    MR__M_DEAD_LETTERS,
    MR__M_SHED,
    MR__M_PAUSED,
    MR__M_FANOUTS_OPEN,
    MR__M_FANOUTS,
    MR__M_RETURNED,
    MR__M_TARGET_SLOTS,
    MR__M_TARGET_IN_FLIGHT,
    MR__M_TARGET_QUEUED,
    MR__M_BREAKER,
    MR__M_INSTANCES,
    MR__M_WORKER_STARTS,
    MR__M_WORKER_CRASHES,
    MR__M_WORKER_START_SECONDS,
    MR__M_USAGE_INVOCATIONS,
    MR__M_USAGE_BUSY,
    MR__M_USAGE_UNITS,
    MR__M_USAGE_IN,
    MR__M_USAGE_OUT,
    MR__M_JQ_RUNS,
    MR__M_JQ_ERRORS,
    MR__M_JQ_KILLS,
    MR__M_JQ_BUSY,
    MR__M_FILTER_FAILURES,
    MR__M_UNMATCHED,
    MR__M_LATE,
    MR__M_LOST,
    MR__M_CONSERVATION,
    MR__M_LOG_BYTES,
    MR__M_LOG_SEGMENTS,
    MR__M_LOG_GROUPS,
    MR__M_LOG_WRITTEN,
    MR__M_SURVIVOR_BYTES,
    MR__M_SURVIVORS_COPIED,
    MR__M_CHECKPOINTS,
    MR__M_LOG_FAULTY,
    MR__M_LOG_SLOW,
    MR__M_LOG_MIRROR,
    MR__M_LOG_REPAIRED,
    MR__M_SCRUBBED,
    MR__M_ROTTEN,
    MR__M_ROTTEN_FOUND,
    MR__M_ROTTEN_LOST,
    MR__M_CLOCK_FROZEN,
    MR__M_MEMORY_USED,
    MR__M_MEMORY_MAX,
    MR__M_READY,
    MR__M_BUILD,
    MR__M_START_TIME,
    MR__M_CPU,
    MR__M_RSS,
    MR__FAMILY_MAX,
};

struct mr__family {
    const char *name; /* of the family; a counter's sample has "_total" behind it */
    const char *type; /* "counter" or "gauge" */
    const char *unit; /* NULL: none */
    const char *help;
};

/* Ends with a row whose name is NULL. */
extern const struct mr__family mr__families[MR__FAMILY_MAX + 1];

#endif
