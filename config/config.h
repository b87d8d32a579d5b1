/* The configuration: one YAML file, or a folder of *.yaml fragments merged by name, read into an
 * immutable tree. JSON is YAML's subset and works too. Loading contacts nobody.
 *
 * Every error is collected (file, line, column, value, nearest valid name), at most
 * MR_CONFIG_ERRORS_MAX; a configuration with one error is not returned at all. ${env:NAME} and
 * ${file:PATH} are resolved while loading; a value that contains one is treated as secret in every
 * output. No anchors, aliases, tags or duplicate keys.
 *
 * Indexes: sources, targets (workers, then sinks) and subscriptions are numbered by their place in
 * the arrays; the numbers are valid for this configuration only. */
#ifndef MR_CONFIG_CONFIG_H
#define MR_CONFIG_CONFIG_H

#include "config/option.h"
#include "config/validation.h"
#include "core/limits.h"

/* What can stand under sources:, workers: and sinks:, registered by the program: config/ knows no
 * connector. `sources: {shop: {http: {…}}}` picks the kind "http" of the source kinds. */
struct mr_config_kind {
    const char *name;
    const struct mr_option *options; /* table of the block below the kind's name */
    size_t options_size;             /* of the struct the table describes */
    /* Further checks once all values are set; may be NULL. Sets the problem on failure. */
    enum mr_status (*check)(const void *options, struct mr_problem *problem);
    bool takes_batches; /* of workers and sinks: its instances can be handed several at once */
};

struct mr_config_kinds {
    const struct mr_config_kind *sources; /* arrays end with a NULL name */
    const struct mr_config_kind *workers;
    const struct mr_config_kind *sinks;
    /* Whether a subscription's filters array is good; NULL: not asked. Sets the problem. */
    enum mr_status (*check_filter)(struct mr_bytes json, struct mr_problem *problem);
    /* The same for a transform. */
    enum mr_status (*check_transform)(struct mr_bytes json, struct mr_problem *problem);
};

enum mr_sync {
    MR_SYNC_ALWAYS = 0,
    MR_SYNC_INTERVAL,
    MR_SYNC_NEVER,
};

struct mr_log_options {
    int sync;                    /* enum mr_sync; `sync: always | interval | never` */
    uint64_t sync_interval_ns;   /* for interval; default 100ms */
    uint64_t segment_size;       /* bytes, 1MiB..64MiB, multiple of 1 MiB; default 64MiB */
    uint64_t max_size;           /* all segments; at it sources are slowed; default 64GiB */
    uint64_t retain_size;        /* settled events kept for trace and replay; default 1GiB */
    uint64_t retain_age_ns;      /* likewise; default 24h */
    uint64_t disk_low;           /* free bytes below which sources are slowed; default 512MiB */
    uint64_t cache_size;         /* recent groups kept in memory; default 64MiB */
    uint64_t checkpoint_size;    /* log bytes between two checkpoints; default 64MiB */
    uint64_t scrub_ns;           /* all sealed segments are read within; 0: not; default 7d */
    char *mirror;                /* owned; a second folder for all of it, absolute; NULL: none */
};

enum mr_jitter {
    MR_JITTER_NONE = 0,
    MR_JITTER_FULL,    /* wait is uniform in 0..step */
    MR_JITTER_PERCENT, /* step +- percent */
};

/* The retry schedule, every form of it spelled out: wait step_ns[i] after attempt i + 1. */
struct mr_retry {
    const uint64_t *step_ns; /* borrowed from the configuration's schedules; NULL when none */
    uint32_t step_count; /* attempts allowed = step_count + 1 */
    int jitter;          /* enum mr_jitter */
    uint32_t jitter_percent;
};

enum mr_on_exhausted {
    MR_EXHAUSTED_DEAD = 0,
    MR_EXHAUSTED_HOLD,
    MR_EXHAUSTED_DROP,
};

enum mr_order {
    MR_ORDER_NONE = 0,
    MR_ORDER_ATTRIBUTE, /* order_key is an attribute name */
    MR_ORDER_DATA,      /* order_key is a dot path below data, without "data." */
};

enum mr_when_busy { /* an event comes while an earlier one of its lane is unsettled: */
    MR_BUSY_QUEUE = 0, /* it waits */
    MR_BUSY_SKIP,    /* it is dropped */
    MR_BUSY_REPLACE, /* it takes the place of the earlier one, which is cancelled */
};

struct mr_rates { /* hand-outs at most; each window by itself */
    struct mr_rate items[MR_RATES_MAX];
    uint32_t count;
};

/* What several subscriptions share: together they keep it. */
struct mr_limit_config {
    char *name;             /* owned */
    uint32_t concurrency;   /* in flight at once; 0 = any number */
    struct mr_rates *rates; /* owned; NULL: no limit */
};

/* What has to end before one event tells of all of it. */
struct mr_fanout_config {
    char *name;         /* owned */
    uint64_t within_ns; /* after that it tells of what has not ended, too */
};

struct mr_source_config {
    char *name;                        /* owned */
    const struct mr_config_kind *kind; /* borrowed: static */
    void *options;                     /* owned, of kind->options_size */
    uint64_t event_size_max;
    uint32_t hops_max;
    bool paused;
    uint64_t dedupe_window_ns; /* 0: repeats are events */
    uint32_t dedupe_keys;      /* kept at most */
    bool dedupe_ids;           /* by source and id; else only by what the sender says it repeats */
    char *transform_json;             /* owned; NULL: events come in as they are */
    struct mr_validation *validation; /* owned; NULL: events come in with any data */
};

struct mr_target_config {
    char *name;                        /* owned */
    const struct mr_config_kind *kind; /* borrowed: static */
    void *options;                     /* owned */
    bool is_worker;
    uint32_t concurrency; /* worker: deliveries per instance; sink: at once */
    uint64_t timeout_ns;  /* of an attempt, default 30s */
    uint64_t max_run_ns;  /* heartbeats extend up to this, default 1h */
    uint64_t grace_ns;    /* after a cancel, before the kill; default 5s */
    /* scale: workers only; process and exec */
    uint32_t scale_min;
    uint32_t scale_max;
    uint32_t scale_target; /* concurrent deliveries per instance wanted; default concurrency */
    uint64_t scale_idle_ns;
    /* breaker: opens at >= percent failures of >= calls within the window; 0 percent = off */
    uint32_t breaker_percent; /* default 70 */
    uint32_t breaker_calls;   /* default 10 */
    uint64_t breaker_window_ns; /* default 5m */
    uint64_t breaker_open_ns;   /* default 30s */
    /* adaptive: workers/adaptive.h */
    uint32_t adaptive_min; /* 0: off */
    uint64_t adaptive_latency_ns;
    struct mr_rates *rates;     /* owned; NULL: no limit */
};

struct mr_destination {
    bool is_bus;     /* the outcome enters the bus and is matched like any event */
    uint32_t target; /* index of a sink, when not is_bus */
};

/* One of several targets of a subscription. */
struct mr_share_config {
    uint32_t target; /* index */
    uint32_t weight; /* of those of all; 0: none goes there */
    /* Its weight goes to the others at >= percent failures of >= calls within the window */
    uint32_t return_percent; /* 0: never */
    uint32_t return_calls;
    uint64_t return_window_ns;
    uint64_t hash; /* of all this and the target's name, never 0: what a return is known by */
};

struct mr_priority_value {
    uint64_t hash; /* of the value, as of an ordering key */
    uint8_t level;
};

/* Who goes first: a delivery stands as if it had become ready level * step earlier. */
struct mr_priority_config {
    int by;         /* enum mr_order; none: all of the subscription have `level` */
    char *key;      /* owned */
    uint64_t step_ns;
    uint8_t level;  /* 0..MR_PRIORITY_MAX: of events with none of the values */
    uint32_t value_count;
    struct mr_priority_value values[];
};

struct mr_subscription_config {
    char *name;        /* owned; "thumbnails", or "thumbnails/on_failure/mail" when hidden */
    bool hidden;       /* made by the loader for a destination; filter and sources unused */
    bool is_shadow;    /* made by the loader for `shadow`: "thumbnails/shadow", right behind its
                          original; what its handler says has no effect */
    bool is_default;   /* takes what no other subscription matched */
    char *filter_json; /* owned; CloudEvents filters array as JSON text, "[]" when none */
    char *transform_json; /* owned; NULL: the target gets events as they are */
    uint32_t *sources; /* owned; indexes; NULL = every source */
    uint32_t source_count;
    uint32_t target; /* index; the first of `shares` when there are several */
    uint32_t share_count; /* 0: everything goes to `target` */
    struct mr_share_config *shares;      /* owned; their weights are not all 0 */
    struct mr_priority_config *priority; /* owned; NULL: first come, first served */
    int order;       /* enum mr_order */
    uint32_t lane_concurrency; /* of one lane side by side; default 1 */
    int on_exhausted; /* enum mr_on_exhausted */
    char *order_key; /* owned */
    struct mr_retry retry;
    uint64_t retry_after_max_ns; /* cap of Retry-After and `after`; default 1h */
    uint64_t timeout_ns;         /* 0 = the target's */
    uint64_t max_age_ns;         /* 0 = for ever */
    bool max_age_from_time;      /* counts from the event's time attribute, not its arrival */
    bool dead_holds;             /* what has a lane and would be dead is held */
    bool keep_latest;            /* of those of a lane that wait */
    int when_busy;               /* enum mr_when_busy */
    uint64_t debounce_ns;        /* a lane is quiet so long before its latest goes; 0: at once */
    char *cancel_on;             /* owned; as filter_json; NULL: nothing cancels */
    uint32_t concurrency;        /* in flight at once; 0 = as the target allows */
    uint32_t limit_count;
    uint32_t *limits;            /* owned; indexes of those it shares */
    struct mr_rates *rates;      /* owned; NULL: no limit */
    uint64_t window_size;        /* bytes of delivery state in memory; default 16MiB */
    uint32_t shed_max;           /* deliveries that may wait; 0: any number */
    uint32_t shed_to;            /* as many wait when more were there; below shed_max */
    bool shed_newest;            /* those go, else the oldest */
    uint32_t batch_max;          /* deliveries handed out together, at most; 0: one by one */
    int batch_by;                /* enum mr_order: only with the same value of */
    uint64_t batch_size;         /* bytes of their events; the first may be larger by itself */
    uint64_t batch_window_ns;    /* how long the first waits for others */
    char *batch_key;             /* owned */
    uint32_t fanout;             /* index of the one it belongs to, + 1; 0: none */
    uint64_t hash;               /* policy version: hash of everything that shapes deliveries */
    struct mr_destination *on_success; /* owned */
    struct mr_destination *on_failure; /* owned */
    uint32_t on_success_count;
    uint32_t on_failure_count;
    /* Indexes of the hidden subscriptions that carry the outcomes to sinks, in the order of
     * on_success and on_failure; UINT32_MAX where the destination is the bus. */
    uint32_t *on_success_hidden; /* owned */
    uint32_t *on_failure_hidden; /* owned */
};

struct mr_schedule {
    struct mr_schedule *next;
    uint32_t count;
    uint64_t step_ns[];
};

/* The CloudEvents Subscriptions API. */
struct mr_subscriptions_api {
    struct mr_secret *token; /* owned; NULL: not on `listen`, on the socket alone */
    bool egress_any;         /* its sinks may be anywhere, not on the public internet alone */
    uint32_t max;            /* subscriptions that it may hold */
};

struct mr_config {
    char *path;     /* owned; file or folder as given, made absolute */
    char *folder;   /* owned; relative paths start here */
    char *data_dir; /* owned, absolute */
    char *listen_host;
    uint16_t listen_port; /* 0 = any free one */
    bool listen_off;      /* `listen: off` */
    struct mr_log_options log;
    uint64_t memory_state;     /* bytes for all delivery state; default 256MiB */
    uint64_t event_size_max;   /* default of the sources; default 1MiB */
    uint32_t hops_max;         /* default 16 */
    uint64_t target_health_ns; /* a change that lasts so long is told as an event; 0: none */
    uint64_t dlq_growth_ns;    /* one event of growing dead letters for each; 0: none */
    struct mr_subscriptions_api subscriptions_api;
    uint64_t drain_ns;         /* how long a stop waits for what is in flight; default 10s */
    struct mr_source_config *sources; /* owned */
    uint32_t source_count;
    struct mr_target_config *targets; /* owned; workers first */
    uint32_t target_count;
    uint32_t worker_count;
    struct mr_limit_config *limits; /* owned */
    uint32_t limit_count;
    struct mr_fanout_config *fanouts; /* owned */
    uint32_t fanout_count;
    struct mr_subscription_config *subscriptions; /* owned; hidden ones last */
    uint32_t subscription_count;
    struct mr_schedule *schedules; /* owned, a list: subscriptions with equal waits share one */
    char *canonical_json; /* owned; the whole configuration as JSON with secrets as "***",
                             what goes into the log as its snapshot */
    uint64_t hash;        /* of the content, secrets included by a keyless hash of their bytes */
};

/** How `memory.state` is divided, in bytes. The shares of all subscriptions together are `free` as
 * well. */
struct mr_memory_parts {
    uint64_t kept;    /* back: memory comes in pieces, and what loops dies all the same */
    uint64_t keys;    /* may be of dedupe */
    uint64_t fanouts; /* may be of fan-outs that wait */
    uint64_t share;   /* each subscription has for sure */
    uint64_t free;    /* of those that have more than their share, all together */
};

/** @param state bytes of `memory.state` */
struct mr_memory_parts mr_memory_parts(const struct mr_config *config, uint64_t state);
/** As many keys each source may have, however many the others have. */
uint64_t mr_memory_keys_floor(uint64_t state, uint32_t source_count);

/* What the process may hold of memory, part by part; all who show it go through this list. */
enum mr_budget_id {
    MR_BUDGET_STATE = 0,
    MR_BUDGET_CACHE,
    MR_BUDGET_READS,
    MR_BUDGET_GROUPS,
    MR_BUDGET_CHECKPOINT,
    MR_BUDGET_KEEPER,
    MR_BUDGET_CONNECTORS,
    MR_BUDGET_MIRROR,
    MR_BUDGET_RECOVERY,
    MR_BUDGET_MAX,
};

struct mr_budget {
    const char *name;  /* in JSON and metrics */
    const char *title; /* for a person */
    const char *from;  /* what the bound follows from: a setting, or "fixed" */
    bool counted;      /* it is known how much of it is used */
    bool starts;       /* it is of the start, before anything flows */
};
extern const struct mr_budget mr_budgets[MR_BUDGET_MAX];

struct mr_budget_bound { /* bytes */
    uint64_t most;   /* ever */
    uint64_t mostly; /* as events mostly are */
};

/** @param connectors bytes that these and the workers may take: that is not known here */
void mr_budgets_bound(const struct mr_config *config, uint64_t connectors,
                      struct mr_budget_bound ret_bounds[MR_BUDGET_MAX]);
/** Of what there can be at once: either it starts, or it runs. */
struct mr_budget_bound mr_budgets_sum(const struct mr_budget_bound bounds[MR_BUDGET_MAX]);

struct mr_config_error {
    char *file; /* owned */
    uint32_t line;   /* 1-based; 0 when the whole file is meant */
    uint32_t column; /* 1-based */
    char *text;      /* owned; value and remedy in it */
};

struct mr_config_errors {
    struct mr_config_error *items; /* owned */
    uint32_t count;
    bool more; /* stopped at MR_CONFIG_ERRORS_MAX */
};

void mr_config_errors_release(struct mr_config_errors *errors);

/** Loads @p path (a file or a folder).
 * @param[out] ret_config owned by the caller, mr_config_destroy(); untouched on failure
 * @param errors filled on MR_E_INVALID, at least one; release it in every case
 * @return MR_E_INVALID, MR_E_NOT_FOUND, MR_E_DENIED, MR_E_TOO_BIG, MR_E_NOMEM
 * @blocks on the file system */
MR_MUST_USE enum mr_status mr_config_load(const char *path, const struct mr_config_kinds *kinds,
                                          struct mr_config **ret_config,
                                          struct mr_config_errors *errors);

/** The same with @p text (JSON) beside the files, as if it were one more of them, called @p name in
 * errors. */
MR_MUST_USE enum mr_status mr_config_load_with(const char *path, const char *name,
                                               struct mr_bytes text,
                                               const struct mr_config_kinds *kinds,
                                               struct mr_config **ret_config,
                                               struct mr_config_errors *errors);

/** The same from text; relative paths start at @p folder. @p name stands in errors. */
MR_MUST_USE enum mr_status mr_config_load_text(const char *name, const char *folder,
                                               struct mr_bytes text,
                                               const struct mr_config_kinds *kinds,
                                               struct mr_config **ret_config,
                                               struct mr_config_errors *errors);

/** What a snapshot (canonical_json of an earlier configuration) says of matching: names of sources,
 * names, sources, filters and `default` of subscriptions; nothing else is set.
 * @return MR_E_INVALID: it is none */
MR_MUST_USE enum mr_status mr_config_from_snapshot(struct mr_bytes json,
                                                   struct mr_config **ret_config);

void mr_config_destroy(struct mr_config *config);

/** Whether deliveries of @p subscription can go to @p target, an index. */
bool mr_subscription_reaches(const struct mr_subscription_config *subscription, uint32_t target);

/** Index of the source, target or subscription called @p name, or -1. */
int64_t mr_config_find_source(const struct mr_config *config, const char *name);
int64_t mr_config_find_target(const struct mr_config *config, const char *name);
int64_t mr_config_find_subscription(const struct mr_config *config, const char *name);

/** The one effective policy of subscription @p index in plain words, one sentence a line
 * (`millrace explain`). */
MR_MUST_USE enum mr_status mr_config_explain(const struct mr_config *config, uint32_t index,
                                             struct mr_buf *out);

/** The option reference as Markdown, generated from every table: docs/reference/config.md. */
MR_MUST_USE enum mr_status mr_config_reference(const struct mr_config_kinds *kinds,
                                               struct mr_buf *out);

/** The configuration's JSON Schema (draft-07), generated from every table. */
MR_MUST_USE enum mr_status mr_config_schema(const struct mr_config_kinds *kinds,
                                            struct mr_buf *out);

#endif
