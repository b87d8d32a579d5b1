/* The administrative interface: HTTP API /api/v1 on the Unix socket in data_dir, and /livez,
 * /readyz, /metrics on the ingest listener. It keeps no state of its own: every answer is asked
 * from the engine through struct mr_admin_host, or read from the log files.
 *
 * Requests arrive on the listener's thread and are executed one after another on one thread of the
 * admin's own, which may block; /livez is answered at once. */
#ifndef MR_ADMIN_ADMIN_H
#define MR_ADMIN_ADMIN_H

#include "bus/bus.h"
#include "connectors/connector.h"
#include "connectors/http/listener.h"
#include "workers/jq/pool.h"
#include "workers/meter.h"

struct mr_admin_host;

/* A source or target instance with its configured identity, as the engine lists it. */
struct mr_admin_instance {
    const char *name; /* borrowed during the callback */
    const char *kind; /* "http", "process", … */
    bool is_source;
    bool is_worker;
    bool paused;
    uint32_t id; /* source or target id of the bus */
    uint64_t events;         /* source: accepted since start */
    uint64_t rejected;       /* source: ingest dead letters since start */
    struct mr_health health;
};

#define MR_SHADOW_EXAMPLES 8u

/* How a shadow compared with its original since the configuration was loaded; by the first answer
 * of each to an event. */
struct mr_shadow_report {
    char worker[MR_NAME_SIZE_MAX + 1]; /* the shadow's; "": the subscription has none */
    uint64_t compared; /* the sum of the next five */
    uint64_t same;     /* both the same, result and all; or both failed */
    uint64_t other_result; /* both ok, with another result */
    uint64_t other_verdict; /* none failed, but one dropped it */
    uint64_t only_shadow_failed;
    uint64_t only_original_failed;
    uint64_t unpaired; /* the other's answer came too late to be compared */
    char examples[MR_SHADOW_EXAMPLES][96]; /* ids of the last that were not the same */
    uint32_t example_count;
};

struct mr_admin_host_ops {
    /* Runs @p fn on the bus thread between two steps and returns when it has run. Not from the bus
     * thread. @return MR_E_CLOSED while the engine stops: @p fn did not run */
    enum mr_status (*call)(struct mr_admin_host *host,
                           void (*fn)(void *argument, struct mr_bus *bus, struct mr_now now),
                           void *argument);
    /* The configuration in force, kept alive until release. */
    const struct mr_config *(*config)(struct mr_admin_host *host,
                                      const struct mr_router **ret_router);
    /* Bytes that connectors and workers of the configuration in force may take. */
    uint64_t (*connector_bytes)(struct mr_admin_host *host);
    void (*config_release)(struct mr_admin_host *host, const struct mr_config *config);
    void (*instances)(struct mr_admin_host *host,
                      void (*fn)(void *context, const struct mr_admin_instance *instance),
                      void *context);
    /* What target @p id (UINT32_MAX: whichever holds @p delivery) runs just now, as
     * mr_target_ops.list appends it; nothing when it cannot tell. Waits milliseconds. */
    void (*running)(struct mr_admin_host *host, uint32_t id, const char *delivery,
                    struct mr_buf *json);
    /* What workers did for whom since the start; @p fn is called under a lock. */
    void (*usage)(struct mr_admin_host *host,
                  void (*fn)(void *context, const struct mr_usage *usage), void *context);
    /* How the shadow of the subscription called @p name compares. */
    enum mr_status (*shadow)(struct mr_admin_host *host, const char *name,
                             struct mr_shadow_report *ret_report);
    /* What transforms in jq cost since the start; @p fn is called under a lock. */
    void (*jq)(struct mr_admin_host *host,
               void (*fn)(void *context, bool is_source, const char *name,
                          const struct mr_jq_counts *counts),
               void *context);
    /* Pauses or resumes the source called @p name. */
    enum mr_status (*pause_source)(struct mr_admin_host *host, const char *name, bool paused);
    /* Loads the configuration again, all or nothing. Appends the difference as JSON:
     * {"changed":bool,"applied":bool,"sources":{"added":[…],"removed":[…],"changed":[…]},…,
     *  "subscriptions":{…, with "waiting": deliveries each touches}}.
     * MR_E_INVALID: @p problem holds every error as lines. */
    enum mr_status (*reload)(struct mr_admin_host *host, bool dry_run, struct mr_buf *out,
                             struct mr_buf *problem);
    /* Appends what the Subscriptions API holds, as ce_subscription.h has it; nothing: nothing
     * yet. */
    enum mr_status (*subscriptions)(struct mr_admin_host *host, struct mr_buf *out);
    /* Puts @p document in its place through a reload, all or nothing; durable when it returns.
     * MR_E_INVALID: refused, @p problem holds every error as lines; MR_E_CONFLICT: the file has
     * changed since it was loaded. */
    enum mr_status (*put_subscriptions)(struct mr_admin_host *host, const char *document,
                                        struct mr_buf *problem);
    /* Submits a batch on behalf of @p source (its name; NULL: the first source, or the built-in
     * source "send" when there is none), to what it matches, or to the subscription @p to alone
     * when that is not NULL. Comes back through batch->reply. */
    enum mr_status (*submit)(struct mr_admin_host *host, const char *source, const char *to,
                             struct mr_batch *batch, struct mr_problem *problem);
    /* How the delivery of an event ends, and that whoever asked by @p reply gives up: as in struct
     * mr_host_ops. */
    void (*await)(struct mr_admin_host *host, struct mr_await *await);
    void (*withdraw)(struct mr_admin_host *host, const struct mr_opq *reply);
    /* Copies of events as they become durable, for `tail`: @p fn is called on the bus thread with a
     * borrowed record and must not block. 0 on failure. */
    uint64_t (*tail_add)(struct mr_admin_host *host,
                         void (*fn)(void *context, uint64_t offset, uint32_t source,
                                    struct mr_bytes record),
                         void *context);
    void (*tail_remove)(struct mr_admin_host *host, uint64_t handle);
    bool (*is_ready)(struct mr_admin_host *host, char *why_not, size_t size);
    void (*request_stop)(struct mr_admin_host *host);
};

struct mr_admin_host {
    const struct mr_admin_host_ops *ops;
    const char *log_dir;   /* to open a read-only mr_io on */
    struct mr_io *mirror;  /* borrowed: of a log that is kept twice (core/io_mirror.h); NULL */
    uint64_t started_wall_ns;
    struct mr_now opened_at;
    struct mr_bus_opened opened; /* what recovery found */
    struct mr_budget_bound budgets[MR_BUDGET_MAX]; /* since the start; of connectors: see ops */
};

struct mr_admin;

/** Adds its routes to @p socket_listener (everything) and @p ingest_listener (livez, readyz,
 * metrics; may be NULL). Both borrowed, outlive the admin. Starts its thread. */
MR_MUST_USE enum mr_status mr_admin_create(struct mr_admin_host *host,
                                           struct mr_http_listener *socket_listener,
                                           struct mr_http_listener *ingest_listener,
                                           struct mr_admin **ret_admin,
                                           struct mr_problem *problem);
/** What is looked at from time to time: whether dead letters grow (`dlq_growth`), how targets are
 * (`target_health`). Call it about
 * twice a second, always from the same thread, not the bus's.
 * @blocks on the bus thread */
void mr_admin_look(struct mr_admin *admin);
/** Removes the routes, answers what is queued with 503, joins. */
void mr_admin_destroy(struct mr_admin *admin);

#endif
