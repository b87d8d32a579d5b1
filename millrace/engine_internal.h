/* What the files of the engine share.
 *
 * Threads: the core (whoever calls mr_engine_run), the writer (log writes), the reader (log reads),
 * the background one (segments, checkpoints), the keeper (footers, survivors), the control one
 * (reload, disk space, pausing sources, the stop), and those of the instances. Work reaches the
 * core through `inbox` alone.
 *
 * Locks: instances_mu (the table of instances), snapshot_mu (the pointer to the present snapshot),
 * tails_mu, awaits.mu. None is held while calling into an instance's stop, and never two at
 * once. */
#ifndef MR_MILLRACE_ENGINE_INTERNAL_H
#define MR_MILLRACE_ENGINE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "admin/starting.h"
#include "core/assert.h"
#include "millrace/engine.h"
#include "router/transform.h"
#include "workers/adaptive.h"
#include "workers/jq/pool.h"

enum engine_op {
    ENGINE_BATCH = 100, /* struct mr_batch, from a source */
    ENGINE_ANSWER,      /* struct mr_handout, from a target */
    ENGINE_IO,          /* struct mr_log_request, performed */
    ENGINE_CALL,        /* struct engine_call: run on the core thread */
    ENGINE_CAPACITY,    /* struct engine_capacity */
    ENGINE_HEARTBEAT,   /* struct engine_note */
    ENGINE_DISK,        /* struct engine_note */
    ENGINE_TRANSFORMED, /* struct engine_transformed, from a helper that runs jq */
};

struct engine_call {
    struct mr_op op;
    void (*fn)(void *argument, struct mr_bus *bus, struct mr_now now);
    void *argument;
    pthread_mutex_t mu; /* protects done */
    pthread_cond_t cond;
    bool done;
    bool ran;
};

struct engine_note { /* owned by the queue, freed by the core */
    struct mr_op op;
    uint32_t subscription;
    uint32_t fence;
    uint64_t a;
    uint64_t b;
};

/* How many hand-outs a target takes at once. Allocated with its instance, so that telling it cannot
 * fail; on its way to the core at most once, with the newest value. Freed with the last of its two
 * holders, the instance and the queue. */
struct engine_capacity {
    struct mr_op op;
    _Atomic uint32_t refs;
    _Atomic bool posted; /* seq_cst with the two below: a value is seen, or posted again */
    _Atomic uint32_t target;
    _Atomic uint32_t slots;
};
void engine_capacity_unref(struct engine_capacity *capacity);

/* A configuration in force: kept by whoever matches with it. */
struct snapshot {
    _Atomic uint32_t refs; /* acq_rel on the last drop */
    struct mr_config *config; /* owned */
    struct mr_router *router; /* owned */
    char *api_set;    /* owned: what the Subscriptions API holds; NULL: nothing yet */
    bool api_refused; /* it is not in the configuration, the start went on without it */
    uint64_t generation;
    uint64_t connector_bytes; /* these and workers may take, of memory */
    uint32_t *source_ids; /* owned; configuration index -> source id of the bus */
    uint32_t *target_ids; /* owned */
    uint32_t send_id;     /* the built-in source */
    struct changing *changing; /* owned; sources, then subscriptions that transform, each by name */
    uint32_t changing_source_count;
    uint32_t changing_count;
    struct engine_shadow *shadows; /* owned; what they saw is the core thread's */
    uint32_t shadow_count;
    struct mr_engine *engine; /* borrowed */
    struct snapshot *next;    /* of all in use */
};

struct changing {
    const char *name; /* borrowed from the configuration */
    struct mr_transform *transform; /* owned */
    struct mr_jq_program *program;  /* shared: ref; NULL: the declarative form */
    struct mr_jq_lane *lane;        /* shared: ref; where its program is run */
};

/* A hand-out whose event a helper changes; engine_jq.c. */
struct engine_transformed;

struct instance {
    struct mr_host host; /* what the instance calls; first, so that it can be cast back */
    struct mr_engine *engine; /* borrowed */
    char *name;               /* owned */
    const char *kind;         /* static */
    const struct mr_source_ops *source_ops; /* one of the two */
    const struct mr_target_ops *target_ops;
    struct mr_source *source;
    struct mr_target *target;
    uint32_t id; /* source or target id of the bus */
    bool is_worker;
    uint64_t max_run_ns; /* target: the longest an attempt may take */
    struct mr_adaptive adaptive; /* target; core thread */
    bool paused;          /* by an operator or the file */
    struct engine_capacity *capacity; /* shared: ref */
    _Atomic bool retired; /* an older generation that drains: its capacity no longer counts */
    _Atomic uint32_t held; /* hand-outs it has; seq_cst with `posted` of its capacity */
    _Atomic uint64_t events;   /* relaxed counters */
    _Atomic uint64_t rejected;
    /* chain of hand-outs gathered during one step; core thread only */
    struct mr_handout *chain;
    struct mr_handout *chain_last;
    struct instance *next_chained;
};

struct engine_tail {
    uint64_t handle;
    void (*fn)(void *context, uint64_t offset, uint32_t source, struct mr_bytes record);
    void *context;
};

/* Those who wait for the end of a delivery; engine_await.c. */
struct engine_awaits {
    pthread_mutex_t mu; /* protects first */
    struct mr_await *first;
    _Atomic uint32_t any;    /* how many; relaxed: who asks has them in before his batch */
    _Atomic bool urgent;     /* to be looked at in this pass */
    bool answered;           /* core thread, as the next two */
    uint64_t looked_mono_ns;
    uint64_t next_mono_ns;   /* when to look even if nothing happens; UINT64_MAX: never */
};

#define ENGINE_TAILS_MAX 64u
#define ENGINE_REPLIES_MAX 64u

struct engine_reply { /* batches that go back to one queue, gathered during one step */
    struct mr_opq *queue;
    struct mr_op *first;
    struct mr_op *last;
};

#define ENGINE_READERS 4u /* random reads at once: what a disk answers side by side */

struct engine_io_thread {
    struct mr_engine *engine;
    const char *name;
    struct mr_opq queue;
    int nice;               /* of the thread; 0: as the others */
    _Atomic uint32_t asked; /* requests that are queued or being performed; relaxed */
    pthread_t thread;
    int niceness; /* 0: as the others */
    bool started;
    bool made;
};

struct mr_engine {
    struct mr_admin_host admin_host; /* first: cast back in the admin's calls */
    char *config_path;               /* owned; NULL: embedded defaults */
    char *log_dir;                   /* owned */
    char *socket_path;               /* owned */
    struct mr_io *io;                /* owned */
    struct mr_bus *bus;              /* core thread once it runs */
    uint64_t salt;                   /* of its log's keys; set before any other thread runs */
    struct mr_opq inbox;
    _Atomic uint64_t pending_bytes; /* of batches between submit and done; relaxed */

    pthread_mutex_t snapshot_mu; /* protects the pointer `snapshot` and the list `snapshots` */
    struct snapshot *snapshots;  /* all in use */
    struct snapshot *snapshot;   /* one reference */
    struct snapshot *bus_snapshot; /* one reference: what the bus borrows; core thread */

    pthread_mutex_t instances_mu; /* protects the two tables; the core thread reads targets_by_id
                                     without it, and alone changes that */
    struct instance **sources; /* owned */
    uint32_t source_count;
    struct instance **targets; /* owned */
    uint32_t target_count;
    struct instance **targets_by_id; /* owned array; core thread; NULL: none now */
    uint32_t targets_by_id_count;
    struct instance **retired; /* owned array; core thread; older generations that drain: what they
                                  hold comes on top of their successors' capacity */
    uint32_t retired_count;

    struct mr_http_listener *listener; /* owned; NULL when off */
    struct mr_http_listener *socket;   /* owned */
    struct mr_admin *admin;            /* owned */
    struct mr_starting *starting;      /* owned; NULL once it runs */

    struct engine_io_thread writer;
    struct engine_io_thread readers[ENGINE_READERS];
    struct engine_io_thread background;
    struct engine_io_thread keeper; /* what nobody waits for: footers, survivors */

    pthread_t control;
    bool control_started;
    int control_fd;                /* eventfd, owned: something for the control thread */
    _Atomic int stop_requests;     /* seq_cst: set in signal handlers */
    _Atomic bool reload_requested;
    bool until_done; /* set before start: stops by itself when nothing is left to do */
    _Atomic bool slow;             /* what the bus last said */
    bool slow_applied;             /* control thread */
    pthread_mutex_t reload_mu;     /* one reload at a time */

    struct mr_meter meter;
    struct mr_jq_pool *jq; /* owned; has threads once a transform is in jq */
    struct engine_transformed *transformed; /* hand-outs with a helper; core thread, as the next */
    struct mr_handout *gathered; /* back from it, others of their batch are not; latest first */
    struct engine_awaits awaits;
    _Atomic uint32_t retiring; /* replaced targets that still drain */
    _Atomic bool running; /* the core loop turns */
    _Atomic bool finish;  /* leave the core loop */
    _Atomic bool faulty;

    pthread_mutex_t tails_mu; /* protects tails */
    struct engine_tail tails[ENGINE_TAILS_MAX];
    uint32_t tail_count;
    uint64_t next_tail;
    _Atomic uint32_t tail_any; /* relaxed: a late look is harmless */

    /* gathered during one step; core thread */
    struct engine_reply replies[ENGINE_REPLIES_MAX];
    uint32_t reply_count;
    struct instance *chained;
};

/* engine_start.c */
enum mr_status engine_make_folders(struct mr_engine *engine, const struct mr_config *config,
                                   struct mr_problem *problem);

/* engine.c */
enum mr_status engine_start_threads(struct mr_engine *engine);
enum mr_status engine_start_control(struct mr_engine *engine);
enum mr_status engine_call(struct mr_engine *engine,
                           void (*fn)(void *argument, struct mr_bus *bus, struct mr_now now),
                           void *argument);
void engine_post(struct mr_engine *engine, struct mr_op *first);
void engine_wake_control(struct mr_engine *engine);

/* engine_mirror.c */
/* Opens the log's folder, and its mirror when one is configured. @blocks on both disks */
enum mr_status engine_open_log(struct mr_engine *engine, const struct mr_config *config,
                               struct mr_problem *problem);
/* @return MR_E_INVALID when @p mirror is no folder of its own; *ret_one_disk: nor on one */
enum mr_status engine_mirror_check(const char *data_dir, const char *mirror, bool *ret_one_disk,
                                   struct mr_problem *problem);

/* engine_ports.c: on the core thread */
struct mr_bus_ports engine_ports(struct mr_engine *engine);
/* Sends @p handout back: it did not reach its target. */
void engine_answer(struct mr_engine *engine, struct mr_handout *handout, enum mr_verdict verdict,
                   const char *error);
/* The instance of a target of the bus; NULL: there is none now. */
struct instance *engine_target(const struct mr_engine *engine, uint32_t target);
/* From the helper on to the target, which may have gone meanwhile. */
void engine_take_transformed(struct mr_engine *engine, struct mr_op *op);
/* What a step gathered goes out in groups: one wake-up for each target and source. */
void engine_flush_outputs(struct mr_engine *engine);

/* engine_snapshot.c */
/* @p config: ownership moves on success only. @p api_set: copied; part of the configuration. */
struct snapshot *snapshot_create(struct mr_engine *engine, struct mr_config *config,
                                 const char *api_set, uint64_t generation,
                                 struct mr_problem *problem);
/* The one that holds @p config, which the caller keeps a reference of. */
struct snapshot *snapshot_of(struct mr_engine *engine, const struct mr_config *config);
struct snapshot *snapshot_get(struct mr_engine *engine);
void snapshot_unref(struct snapshot *snapshot);
/* Ids of the bus for everything configured; on the core thread, after mr_bus_configure. */
void snapshot_bind(struct snapshot *snapshot, const struct mr_bus *bus);
/* The transform of a source, or of a subscription; NULL: it has none. */
const struct changing *snapshot_transform(const struct snapshot *snapshot, bool is_source,
                                          const char *name);
void snapshot_publish(struct mr_engine *engine, struct snapshot *snapshot);

/* engine_shadow.c */
MR_MUST_USE enum mr_status snapshot_make_shadows(struct snapshot *snapshot,
                                                 const struct mr_config *config);
/* With snapshot_bind(). */
void snapshot_bind_shadows(struct snapshot *snapshot, const struct mr_bus *bus);
/* Before the bus takes an answer: remembers what is to be compared, and takes from a shadow's
 * answer all that would have an effect. Core thread. */
void engine_shadow_answer(struct mr_engine *engine, struct mr_handout *handout);
enum mr_status engine_shadow_report(struct mr_engine *engine, const char *name,
                                    struct mr_shadow_report *ret_report);

/* engine_await.c */
void engine_await_add(struct mr_engine *engine, struct mr_await *await);
/* Whatever was asked by @p reply comes back with the next pass of the core. */
void engine_await_withdraw(struct mr_engine *engine, const struct mr_opq *reply);
/* Takes out those of a batch that is refused before the core has it; to be given back behind it. */
/** Sets what repeats of the batch's events are known by, where @p source (or NULL) wants that. */
void engine_set_keys(const struct mr_engine *engine, const struct mr_source_config *source,
                     struct mr_batch *batch);
struct mr_await *engine_await_take(struct mr_engine *engine, const struct mr_batch *batch);
void engine_await_refuse(struct mr_engine *engine, struct mr_await *first);
/* The rest on the core thread. The batch is durable, or refused. */
void engine_await_batch(struct mr_engine *engine, const struct mr_batch *batch);
void engine_await_answer(struct mr_engine *engine, const struct mr_handout *handout,
                         struct mr_now now);
/* Behind the answers and before the step: those that ended by them. */
void engine_await_note(struct mr_engine *engine, struct mr_now now);
/* Behind a step and its outputs: gives back those that have ended. */
void engine_await_look(struct mr_engine *engine, struct mr_now now);

/* engine_jq.c */
/* What the transforms in jq gave; a pool's `done`. */
void engine_jq_done(void *context, struct mr_jq_job *first);
/* Has @p batch, the items from batch->admitted on, transformed by the program of @p changing; then
 * it goes on to the core, or back. Ownership moves. */
void engine_jq_batch(struct mr_engine *engine, struct snapshot *snapshot, struct mr_batch *batch,
                     const struct mr_source_config *source, const struct changing *changing);
/* The rest on the core thread. Ownership moves: it comes back as ENGINE_TRANSFORMED. */
void engine_jq_handout(struct mr_engine *engine, struct mr_handout *handout,
                       const struct changing *changing);
/* @return hand-outs that go on, their events changed: those of a batch together, once all are back.
 * What cannot be transformed is on its way back to the bus. */
struct mr_handout *engine_jq_take(struct mr_engine *engine, struct mr_op *op);
/* @return false: it is with its target */
bool engine_jq_cancel(struct mr_engine *engine, uint32_t subscription, uint64_t offset,
                      uint32_t fence);
/* One that nobody takes any more. */
void engine_jq_drop(struct mr_op *op);
/* What was gathered and nobody takes any more. */
void engine_jq_release(struct mr_engine *engine);

/* engine_host.c */
/* A batch that is as it is to be stored: matched, and queued for the core. Ownership moves. */
void engine_enter(struct mr_engine *engine, struct mr_batch *batch);
void engine_give_back(struct mr_engine *engine, struct mr_batch *batch, enum mr_status why);
/* Puts an ingest dead letter in the place of @p item: the event as it would have left, and why. */
enum mr_status engine_reject(const struct mr_source_config *source, struct mr_batch_item *item,
                             const char *reason);
/* Whether the schema of its source finds @p item as it should be, else a dead letter. */
enum mr_status engine_validate(const struct mr_source_config *source, struct mr_batch_item *item);
/* Counts the items of @p batch from @p from on. */
void engine_count(struct mr_engine *engine, const struct mr_batch *batch, uint32_t from);
extern const struct mr_host_ops engine_host_ops;

/* engine_memory.c: bytes that connectors and workers may take */
uint64_t engine_connector_bytes(const struct mr_config *config);

/* engine_instances.c */
const struct mr_connector *engine_connector_of(const struct mr_config_kind *kind);
enum mr_status instances_start_targets(struct mr_engine *engine, struct mr_problem *problem);
enum mr_status instances_start_sources(struct mr_engine *engine, struct mr_problem *problem);
void instances_stop_sources(struct mr_engine *engine, uint64_t deadline_mono_ns);
void instances_stop_targets(struct mr_engine *engine, uint64_t deadline_mono_ns);
void instances_pause_sources(struct mr_engine *engine, bool slow);
bool instances_sources_done(struct mr_engine *engine);
void instance_destroy(struct instance *instance);

/* engine_subscriptions.c */
/* Loads the file, with what the Subscriptions API holds. @p set NULL: the file alone. Errors are
 * appended to @p problem as lines. */
enum mr_status engine_load(struct mr_engine *engine, const char *set,
                           struct mr_config **ret_config, struct mr_buf *problem);
/* What the API holds from now on; durable when it returns. Not from the core thread. */
enum mr_status engine_keep_subscriptions(struct mr_engine *engine, const char *set);
/* After the log was opened and before the core runs: what the API holds comes to the file. @p
 * snapshot: ownership moves. What is refused is logged and left out. */
struct snapshot *engine_with_subscriptions(struct mr_engine *engine, struct snapshot *snapshot);

/* engine_reload.c */
/* Puts @p set in the place of what the API holds, all or nothing; durable when it returns.
 * @return MR_E_CONFLICT: the file has changed since it was loaded */
enum mr_status engine_put_subscriptions(struct mr_engine *engine, const char *set,
                                        struct mr_buf *problem);
enum mr_status engine_reload(struct mr_engine *engine, bool dry_run, struct mr_buf *out,
                             struct mr_buf *problem);
enum mr_status instance_create_target(struct mr_engine *engine, struct snapshot *snapshot,
                                      uint32_t index, struct instance **ret_instance,
                                      struct mr_problem *problem);
enum mr_status instance_create_source(struct mr_engine *engine, struct snapshot *snapshot,
                                      uint32_t index, struct instance **ret_instance,
                                      struct mr_problem *problem);
enum mr_status instances_push(struct instance ***array, uint32_t *count, struct instance *instance);

/* engine_admin.c */
extern const struct mr_admin_host_ops engine_admin_ops;

#endif
