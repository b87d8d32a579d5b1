/* The option tables of the file itself, and the plain structs they fill. Internal to config/.
 * Connectors and runtimes bring tables of their own (struct mr_config_kind). */
#ifndef MR_CONFIG_TABLES_H
#define MR_CONFIG_TABLES_H

#include "config/config.h"

struct mr_memory_options {
    uint64_t state;
};

struct mr_subscriptions_api_options {
    struct mr_secret *token;
    int egress; /* index into its words: public, any */
    int64_t max;
};

struct mr_top_options {
    char *data_dir;
    char *listen;
    struct mr_log_options log;
    struct mr_memory_options memory;
    uint64_t event_size_max;
    int64_t hops_max;
    uint64_t drain_ns;
    uint64_t dlq_growth_ns;
    uint64_t target_health_ns;
    struct mr_subscriptions_api_options subscriptions_api;
};

enum mr_otherwise {
    MR_OTHERWISE_ACCEPT = 0,
    MR_OTHERWISE_REJECT,
};

struct mr_validate_options {
    char *types;       /* JSON; the tree is what is read */
    char *dataschemas; /* likewise */
    int otherwise;     /* enum mr_otherwise */
};

struct mr_dedupe_options {
    uint64_t window_ns;
    int64_t keys;
};

struct mr_source_options {
    uint64_t event_size_max; /* 0: the file's */
    int64_t hops_max;        /* 0: the file's */
    bool paused;
    struct mr_dedupe_options dedupe;
    char *transform;
    struct mr_validate_options validate;
};

struct mr_scale_options {
    int64_t min;
    int64_t max;
    int64_t target;
    uint64_t idle_ns;
};

struct mr_adaptive_options {
    int64_t min;
    uint64_t latency_ns;
};

struct mr_breaker_options {
    int64_t percent;
    int64_t calls;
    uint64_t window_ns;
    uint64_t open_ns;
};

/* Of workers and sinks; a sink's table has fewer rows. */
struct mr_target_options {
    int64_t concurrency; /* 0: by kind */
    struct mr_strings rate;
    uint64_t timeout_ns;
    uint64_t max_run_ns;
    uint64_t grace_ns;
    struct mr_scale_options scale;
    struct mr_breaker_options breaker;
    struct mr_adaptive_options adaptive;
};

enum mr_backoff {
    MR_BACKOFF_EXPONENTIAL = 0,
    MR_BACKOFF_LINEAR,
};

struct mr_retry_options {
    struct mr_strings schedule;
    int64_t attempts;
    int backoff; /* enum mr_backoff */
    uint64_t initial_ns;
    int64_t factor;
    uint64_t max_ns;
    char *jitter;
};

struct mr_limit_options {
    int64_t concurrency;
    struct mr_strings rate;
};

struct mr_fanout_options {
    struct mr_strings of;
    uint64_t within_ns;
};

struct mr_batch_options {
    int64_t max;
    uint64_t size;
    uint64_t window_ns;
    char *by;
};

struct mr_return_options {
    int64_t percent;
    int64_t calls;
    uint64_t window_ns;
};

struct mr_share_options { /* of an item of `to` */
    char *worker;
    char *sink;
    int64_t weight;
    struct mr_return_options back;
};

struct mr_priority_options {
    char *by;
    struct mr_pairs levels;
    int64_t level;
    uint64_t step_ns;
};

struct mr_shed_options {
    int64_t max; /* 0: not given */
    int64_t to;
    int drop; /* 0 oldest, 1 newest */
};

struct mr_subscription_options {
    struct mr_strings source;
    char *filter;
    bool is_default;
    char *to;
    char *transform;
    char *order_by;
    int64_t lane_concurrency;
    struct mr_priority_options priority;
    struct mr_retry_options retry;
    char *shadow;
    int on_exhausted;
    int lane_on_dead; /* 0 continue, 1 hold */
    uint64_t retry_after_max_ns;
    uint64_t timeout_ns;
    uint64_t max_age_ns;
    int max_age_from; /* 0 arrival, 1 time */
    int64_t concurrency;
    struct mr_strings rate;
    struct mr_strings limits;
    int keep;      /* 0 all, 1 latest */
    int when_busy; /* enum mr_when_busy */
    uint64_t debounce_ns;
    char *cancel_on;
    uint64_t window_size;
    struct mr_batch_options batch;
    struct mr_shed_options shed;
    struct mr_strings on_success;
    struct mr_strings on_failure;
};

extern const struct mr_option mr__top_table[];
extern const struct mr_option mr__source_table[];
extern const struct mr_option mr__worker_table[];
extern const struct mr_option mr__sink_table[];
extern const struct mr_option mr__limit_table[];
extern const struct mr_option mr__subscription_table[];
extern const struct mr_option mr__fanout_table[];
extern const struct mr_option mr__share_table[]; /* an item of its `to` */

/* The named sections, which hold one mapping for each name. */
struct mr_section {
    const char *name;
    const char *level; /* one entry: "source" */
    const char *help;
    const struct mr_option *common;
};
enum mr_section_index {
    MR_SECTION_SOURCES = 0,
    MR_SECTION_WORKERS,
    MR_SECTION_SINKS,
    MR_SECTION_LIMITS,
    MR_SECTION_SUBSCRIPTIONS,
    MR_SECTION_FANOUTS,
    MR_SECTION_MAX,
};
extern const struct mr_section mr__sections[MR_SECTION_MAX];

/** The kinds of a section; NULL for limits, subscriptions and fan-outs. */
const struct mr_config_kind *mr__section_kinds(const struct mr_config_kinds *kinds,
                                               enum mr_section_index section);

/** Options of @p kind, never NULL. */
const struct mr_option *mr__kind_options(const struct mr_config_kind *kind);

#endif
