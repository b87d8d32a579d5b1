/* The connector contract: how sources bring events in and targets take deliveries out.
 *
 * A connector is one const struct. An instance is made from its configured options and knows its
 * host: the engine in millrace/, seen through struct mr_host. Connectors know nothing of retries,
 * routing or the log, never call one another, and hold a bounded number of bytes, which they tell.
 *
 * Threads. `create`, `start`, `stop`, `destroy`, `pause`, `resume`, `health` are called from the
 * engine's control thread, never two at once for one instance, and must return promptly (start may
 * fail on bad options; a peer that is away is no failure: reconnect with backoff and jitter in your
 * own thread). Everything that blocks runs on the instance's own thread(s).
 *
 * A source submits batches and gets each back, exactly once, through its reply queue
 * (batch->reply): only then may it acknowledge to its peer. A target gets hand-outs in chains from
 * the bus thread (`submit` must not block: push to your own queue) and answers each exactly once.
 *
 * Stop order: the engine pauses all sources, waits for their batches to come back, drains targets,
 * then calls stop on each. After stop returned the instance has no thread, answers nothing more,
 * and every batch and hand-out it held has been given back. */
#ifndef MR_CONNECTORS_CONNECTOR_H
#define MR_CONNECTORS_CONNECTOR_H

#include "bus/ports.h"
#include "connectors/await.h"

/* The engine as an instance sees it. All calls may be made from any thread of the instance. */
struct mr_host {
    const struct mr_host_ops *ops;
};

struct mr_host_ops {
    /* Hands a batch to the bus: matches it against the present configuration on the caller's
     * thread, then queues it. Ownership moves; it comes back through batch->reply (or is freed when
     * reply is NULL), on failure too: with its result set. */
    void (*submit)(struct mr_host *host, struct mr_batch *batch);

    /* Gives a chain of hand-outs back with their answers filled in. Matches emitted events on the
     * caller's thread. Ownership moves. */
    void (*answer)(struct mr_host *host, struct mr_handout *first);

    /* The handler of @p handout is alive: extends its lease by the hand-out's timeout. Not for
     * every byte: at most a few times a second. */
    void (*heartbeat)(struct mr_host *host, const struct mr_handout *handout);

    /* How many hand-outs @p target can hold at once from now on, those it holds included. 0 while
     * there is no instance or connection: deliveries then wait with "no instance". Sinks call it
     * once they are connected, workers whenever instances come and go. */
    void (*capacity)(struct mr_host *host, uint32_t target, uint32_t slots);

    /* Asks how a delivery ends: await.h. Before the submit of its batch, which follows. May be
     * NULL: then nobody can be asked. */
    void (*await)(struct mr_host *host, struct mr_await *await);
    /* What was asked by @p reply comes back soon. NULL when `await` is. */
    void (*withdraw)(struct mr_host *host, const struct mr_opq *reply);
};

enum mr_health_state {
    MR_HEALTH_STARTING = 0,
    MR_HEALTH_OK,
    MR_HEALTH_DEGRADED, /* works, with an error to show */
    MR_HEALTH_DOWN,     /* not connected, no instance can start, … */
};

/* Numbers and words an instance shows; filled by `health`, shown by `source list`, `worker list`,
 * /metrics. Unknown numbers stay 0. */
struct mr_health {
    enum mr_health_state state;
    char detail[128];     /* "connected to 127.0.0.1:1883 as millrace-1a2b" */
    char last_error[256]; /* "" when none */
    uint64_t last_error_wall_ns;
    uint64_t messages;    /* taken from / given to the peer since start */
    uint64_t errors;
    uint64_t reconnects;
    uint64_t lag;         /* source: messages waiting at the peer, if it can tell */
    uint64_t bytes_held;  /* memory held now */
    bool done;            /* source: all it will ever have is durable; nothing more comes */
    uint32_t instances_ready;  /* workers */
    uint32_t instances_busy;
    uint32_t instances_starting;
    uint64_t starts;      /* instances started since start */
    bool burst;           /* it grows as fast as it can */
    uint64_t crashes;
    uint64_t start_ns_last; /* how long the last instance took to become ready (cold start) */
    uint64_t start_ns_mean; /* of all since start */
    uint64_t start_ns_max;
    uint32_t crash_streak;  /* instances that failed since the last answer */
    uint64_t backoff_ns;    /* until the next start after those; 0: none waits */
    uint64_t rss_peak;
    char limits[320];       /* what bounds its instances: "cgroup", "rlimits (why)", "" nothing */
};

struct mr_source; /* opaque, one per connector */
struct mr_target;

struct mr_source_args {
    struct mr_host *host;      /* borrowed: outlives the instance */
    uint32_t index;            /* put into each batch; changes by `reindex` on reload */
    const char *name;          /* borrowed: copy what you keep */
    const void *options;       /* borrowed: copy what you keep; of kind.options_size */
    const struct mr_source_config *config; /* borrowed during create */
    const char *folder;        /* where relative things start */
    const char *data_dir;      /* files may be kept below it, in a folder named for the kind */
    const char *cursor;        /* last cursor logged for this source (JSON text), or NULL */
    struct mr_http_listener *listener; /* the ingest listener, NULL when `listen: off` */
    uint64_t salt;             /* what keys of its events are made with: bus/dedupe.h */
};

struct mr_source_ops {
    /* Makes an instance; contacts nobody. MR_E_INVALID with the problem for bad options. */
    enum mr_status (*create)(const struct mr_source_args *args, struct mr_source **ret_source,
                             struct mr_problem *problem);
    enum mr_status (*start)(struct mr_source *source, struct mr_problem *problem);
    /* Takes nothing more from the peer until resume; place is kept. Idempotent. Also called when
     * log or disk is short (the peer is slowed, nothing is dropped). */
    void (*pause)(struct mr_source *source);
    void (*resume)(struct mr_source *source);
    /* Takes nothing more, waits until every batch is back (the bus still runs), acknowledges what
     * is durable, disconnects, joins its threads. At most `deadline_mono_ns`. */
    void (*stop)(struct mr_source *source, uint64_t deadline_mono_ns);
    void (*destroy)(struct mr_source *source); /* NULL-safe; after stop, or never started */
    void (*health)(struct mr_source *source, struct mr_health *ret_health);
    void (*reindex)(struct mr_source *source, uint32_t index);
};

struct mr_target_args {
    struct mr_host *host; /* borrowed: outlives the instance */
    uint32_t index;
    const char *name;
    const void *options;
    const struct mr_target_config *config; /* borrowed during create: copy what you keep */
    const char *folder;   /* a process worker's working directory */
    uint64_t generation;  /* of the configuration: the worker's version when it declares none */
};

struct mr_target_ops {
    enum mr_status (*create)(const struct mr_target_args *args, struct mr_target **ret_target,
                             struct mr_problem *problem);
    enum mr_status (*start)(struct mr_target *target, struct mr_problem *problem);
    /* A chain of hand-outs, never more in total than the capacity told. Ownership moves; each is
     * answered exactly once, whatever happens. @thread bus thread; must not block */
    void (*submit)(struct mr_target *target, struct mr_handout *first);
    /* The lease of this hand-out ran out: tell the handler, then kill it after the grace. The bus
     * no longer waits, but the hand-out must still be answered. May be unknown by now. NULL: what
     * is with the peer cannot be called back.
     * @thread bus thread; must not block */
    void (*cancel)(struct mr_target *target, uint32_t subscription, uint64_t offset,
                   uint32_t fence);
    /* How much is waiting for this target, told when it changes (at most every few ms): what
     * starts an instance when there is none. May be NULL. @thread bus thread; must not block */
    void (*demand)(struct mr_target *target, uint64_t queued, uint64_t oldest_age_ns);
    /* Refuses what is not yet with a handler (verdict REFUSED), lets handlers finish until the
     * deadline, then kills (verdict CRASH, suspects 0: "stopped"), answers everything, joins. */
    void (*stop)(struct mr_target *target, uint64_t deadline_mono_ns);
    void (*destroy)(struct mr_target *target);
    void (*health)(struct mr_target *target, struct mr_health *ret_health);
    void (*reindex)(struct mr_target *target, uint32_t index);
    /* Appends its instances as a JSON array (docs/openapi.yaml), as many as @p json has room for:
     * [{"instance","pid","state",…,"deliveries":[{"delivery","attempt","progress",…}]}].
     * With a @p delivery only the instance that holds it, and nothing else of it; none: nothing is
     * appended. May be NULL. Waits for the instance's own thread, milliseconds. */
    void (*list)(struct mr_target *target, const char *delivery, struct mr_buf *json);
};

#define MR_CONNECTOR_ABI 1u

struct mr_connector {
    uint32_t abi; /* MR_CONNECTOR_ABI */
    const char *name;
    /* A connector that is no source (no sink, no worker) leaves the kind's name NULL. */
    struct mr_config_kind source_kind;
    const struct mr_source_ops *source;
    struct mr_config_kind sink_kind;
    const struct mr_target_ops *sink;
    struct mr_config_kind worker_kind;
    const struct mr_target_ops *worker;
    /* Bytes an instance may hold at most, for `check`: a source, and a sink or worker. NULL: no
     * memory beyond its hand-outs. */
    uint64_t (*source_bytes_max)(const void *options);
    uint64_t (*bytes_max)(const void *options);
};

/* Defined by their folders, listed in connectors/registry.c and workers/registry.c. */
extern const struct mr_connector mr_connector_amqp;
extern const struct mr_connector mr_connector_http;
extern const struct mr_connector mr_connector_kafka;
extern const struct mr_connector mr_connector_mqtt;
extern const struct mr_connector mr_connector_timer;
extern const struct mr_connector mr_connector_file;
extern const struct mr_connector mr_connector_objectstore;
extern const struct mr_connector mr_connector_smtp;

/** All connectors of this folder, NULL-terminated. */
extern const struct mr_connector *const mr_connectors[];

#endif
