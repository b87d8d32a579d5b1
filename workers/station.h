/* What is the same for every worker target that a thread of its own drives: the queue other
 * threads push to, the hand-outs that wait and the answers that go out, back-off after failed
 * starts, and the pass of the loop that ties them together. A runtime embeds it as the first
 * member of its struct mr_target, fills in struct mr_station_ops, and adds its processes.
 *
 * One pass: what epoll brought, what others pushed, what time demands, what follows from these,
 * then health, capacity and answers, in that order: whoever gets an answer finds numbers and
 * capacity that include it.
 *
 * Everything belongs to the target's thread, but for the fields marked otherwise. */
#ifndef MR_WORKERS_STATION_H
#define MR_WORKERS_STATION_H

#include <pthread.h>
#include <stdatomic.h>

#include "connectors/connector.h"
#include "core/clock.h"
#include "core/limits.h"
#include "core/rng.h"
#include "workers/limits.h"
#include "workers/tail.h"

/* A lease ran out: which hand-out is meant. */
struct mr_station_cancel {
    struct mr_op op;
    uint32_t subscription;
    uint32_t fence;
    uint64_t offset;
};

/* A runtime. All on the target's thread. */
struct mr_station_ops {
    /* What epoll woke up for; @p watch is what mr_station_watch() got. */
    void (*event)(struct mr_target *t, void *watch, uint32_t events);
    /* The handler of a hand-out that waits no longer shall give up; it may be unknown by now. */
    void (*cancel)(struct mr_target *t, const struct mr_station_cancel *cancel);
    /* The same for everything whose lease has run out: a cancel found no memory. */
    void (*cancel_late)(struct mr_target *t);
    /* stopping was just set, what waited is refused. May be NULL. */
    void (*stopping)(struct mr_target *t);
    /* The work of a pass: timers, the pending chain, output. */
    void (*work)(struct mr_target *t);
    /* Hand-outs it can hold now, those it holds included. */
    uint32_t (*capacity)(struct mr_target *t);
    /* Fills in the numbers of now_health that are not counted as things happen.
     * @return how many processes there are: the loop ends when it stops and there is none */
    uint32_t (*measure)(struct mr_target *t, struct mr_health *health);
    /* Appends process @p n as a JSON object, with only @p delivery of what it holds unless that is
     * NULL. @return MR_E_NOT_FOUND: it does not hold it; else what the buffer said */
    enum mr_status (*list)(struct mr_target *t, uint32_t n, const char *delivery,
                           struct mr_buf *json);
    /* What ended in this pass is freed: no event names it any more. */
    void (*free_ended)(struct mr_target *t);
};

/* What other threads may see, as of the last pass. */
struct mr_station_shown {
    struct mr_health health;
    uint32_t count; /* processes */
    uint64_t start_not_before_ns;
};

struct mr_station {
    const struct mr_station_ops *ops; /* borrowed: static */
    struct mr_host *host;             /* borrowed: outlives the target */
    _Atomic uint32_t index;
    char name[MR_NAME_SIZE_MAX + 1];
    uint64_t generation;
    struct mr_limits *limits; /* borrowed: the runtime's own, settled at the start; NULL: none */

    pthread_t thread;
    _Atomic bool started; /* the control thread's to change; `list` looks at it */
    struct mr_opq queue;
    struct mr_op stop_op;
    _Atomic uint64_t stop_deadline_ns; /* stored before the stop operation is pushed */
    /* Written by `demand` on the bus thread, read by the loop; relaxed, the wake-up orders them. */
    _Atomic uint64_t demand_queued;
    _Atomic uint64_t demand_born_ns; /* when the oldest waiting delivery began to wait */
    _Atomic bool cancel_lost; /* a cancel found no memory: check all leases */
    _Atomic bool announce;    /* the index changed: tell the capacity again */

    int epoll;
    bool asleep; /* the queue was seen empty: its fd says when there is more */
    bool stopping;
    struct mr_rng rng;
    struct mr_now now;          /* of this pass */
    uint64_t wake_at_ns;        /* earliest thing to do, gathered during a pass */
    struct mr_handout *pending; /* owned chain: not with a process yet */
    struct mr_handout **pending_end;
    uint64_t pending_since_ns;
    struct mr_handout *answers; /* owned chain of this pass */
    struct mr_handout **answers_end;
    uint32_t capacity_told;
    uint32_t streak; /* failed starts and crashes since the last success */
    uint64_t ready_count; /* instances that became ready, ever, … */
    uint64_t ready_ns;    /* … and the time all of them took */
    uint64_t start_not_before_ns;
    uint64_t sweep_at_ns; /* orphans are looked for then; 0 never */
    struct mr_tail_rate log_rate;
    struct mr_health now_health; /* being filled */

    pthread_mutex_t mu; /* protects `shown` */
    struct mr_station_shown shown;
};

/* --- for the runtime's create and destroy ----------------------------------------------------- */

/** Zeroed memory becomes a station. On failure too mr_station_release() is due.
 * @return MR_E_UNAVAILABLE (no descriptors) */
MR_MUST_USE enum mr_status mr_station_init(struct mr_station *s, const struct mr_target_args *args,
                                           const struct mr_station_ops *ops,
                                           struct mr_problem *problem);
void mr_station_release(struct mr_station *s);

/* --- the target's operations: struct mr_target begins with its station ------------------------ */

enum mr_status mr_station_start(struct mr_target *t, struct mr_problem *problem);
void mr_station_submit(struct mr_target *t, struct mr_handout *first);
void mr_station_cancel(struct mr_target *t, uint32_t subscription, uint64_t offset,
                       uint32_t fence);
void mr_station_demand(struct mr_target *t, uint64_t queued, uint64_t oldest_age_ns);
void mr_station_stop(struct mr_target *t, uint64_t deadline_mono_ns);
void mr_station_reindex(struct mr_target *t, uint32_t index);
void mr_station_list(struct mr_target *t, const char *delivery, struct mr_buf *json);
/** @thread any */
struct mr_station_shown mr_station_show(struct mr_station *s);

/* --- for the runtime, on the target's thread -------------------------------------------------- */

/** Notes that the loop has something to do at @p at_ns; 0 is never. */
void mr_station_wake_at(struct mr_station *s, uint64_t at_ns);
/** Has epoll report @p fd with @p watch, which outlives it. @return false: too many */
bool mr_station_watch(struct mr_station *s, int fd, uint32_t events, void *watch);
/** Takes @p fd out of epoll. Closing alone is not enough: a child of another target's thread may
 * hold a copy until it runs its program. */
void mr_station_unwatch(struct mr_station *s, int fd);
/** Takes the first pending hand-out off its chain; NULL when there is none. */
struct mr_handout *mr_station_take_pending(struct mr_station *s);
/** Queues @p h to go back at the end of the pass; verdict and texts are set. */
void mr_station_answer(struct mr_station *s, struct mr_handout *h);
void mr_station_refuse(struct mr_station *s, struct mr_handout *h, const char *why);
void mr_station_refuse_pending(struct mr_station *s, const char *why);
bool mr_station_is_meant(const struct mr_handout *h, const struct mr_station_cancel *cancel);
/** A start failed or a process crashed: the next start waits, 100 ms doubling up to 30 s. */
void mr_station_failed(struct mr_station *s, const char *why);
void mr_station_succeeded(struct mr_station *s);
/** An instance became ready, @p ns after its start. */
void mr_station_note_start(struct mr_station *s, uint64_t ns);
/** A process ended: what it left behind is looked for shortly. */
void mr_station_sweep_soon(struct mr_station *s);

#endif
