/* The pool of helpers that run programs in jq: a few threads, each with a helper process of its own
 * that is started when there is work and ended after a minute without.
 *
 * Whoever transforms has a lane. Jobs of one lane are run in order and by one helper at a time, so
 * no lane has more than one helper; the lane that has used least time is served next; and a lane
 * whose last program had to be killed shares all helpers but one with others of its kind. So a
 * program that takes its whole limit for every event delays itself, and others by an event at most.
 *
 * A helper that dies takes one job with it, which is found by sending what has no answer again, one
 * by one. A job whose helper died of anything but the time it took is tried once more in a fresh
 * one: what others left behind in the process shall not count against it. */
#ifndef MR_WORKERS_JQ_POOL_H
#define MR_WORKERS_JQ_POOL_H

#include "schemas/event.h"
#include "workers/jq/helper.h"

struct mr_jq_pool;
struct mr_jq_lane;

/* One event to be transformed: embedded in what its owner needs. */
struct mr_jq_job {
    struct mr_jq_job *next;
    struct mr_jq_program *program; /* shared: ref, taken and dropped by the owner */
    struct mr_bytes record;        /* borrowed until it is done */
    size_t size_max;               /* of the new record */
    void *owner;   /* the owner's own, as the next one */
    bool is_batch;
    _Atomic bool cancelled; /* relaxed: nobody wants it any more; it may be done all the same */
    bool is_sent;           /* the pool's own */
    bool is_again;          /* the pool's own: it is tried for the second time */
    /* out: */
    enum mr_status status;    /* MR_OK; MR_E_NOT_FOUND: the program gave no output; MR_E_CLOSED: the
                                 pool stops, or it was cancelled; MR_E_UNAVAILABLE, MR_E_NOMEM:
                                 later perhaps; else this event cannot be transformed */
    struct mr_event *changed; /* MR_OK: one reference, the owner's */
    struct mr_problem problem; /* else: why */
};

struct mr_jq_counts {
    uint64_t runs;
    uint64_t errors; /* runs that did not give an event */
    uint64_t kills;  /* helpers that died in them */
    uint64_t busy_ns;
};

/** @param done gets chains of jobs that are done, on a thread of the pool, unlocked
 * @return NULL: no memory */
MR_MUST_USE struct mr_jq_pool *mr_jq_pool_create(void (*done)(void *context,
                                                              struct mr_jq_job *first),
                                                 void *context);
/** Ends threads and helpers; what is queued is done with MR_E_CLOSED. @blocks until the event at
 * work is done */
void mr_jq_pool_stop(struct mr_jq_pool *pool);
/** All lanes have been given back. */
void mr_jq_pool_destroy(struct mr_jq_pool *pool);

/** The lane of the source or subscription @p name, made when there is none; one reference, the
 * caller's. The first starts the threads.
 * @return MR_E_NOMEM, MR_E_UNAVAILABLE @thread any */
MR_MUST_USE enum mr_status mr_jq_lane_get(struct mr_jq_pool *pool, bool is_source,
                                          const char *name, struct mr_jq_lane **ret_lane);
/** What is in it is done all the same. */
void mr_jq_lane_unref(struct mr_jq_lane *lane);

/** Queues the chain @p first; each job comes back by `done`, exactly once.
 * @param size_max bytes of records that may wait in the lane; 0: any
 * @return nothing was queued: MR_E_FULL, and something waits already; MR_E_CLOSED: it was stopped
 * @thread any  @blocks never beyond the mutex */
MR_MUST_USE enum mr_status mr_jq_lane_push(struct mr_jq_lane *lane, struct mr_jq_job *first,
                                           size_t size_max);

/** What the helpers of a pool may use, bytes. */
uint64_t mr_jq_pool_bytes_max(void);

/** Calls @p fn for each lane, under the lock: it must be quick. @thread any */
void mr_jq_pool_each(struct mr_jq_pool *pool,
                     void (*fn)(void *context, bool is_source, const char *name,
                                const struct mr_jq_counts *counts),
                     void *context);

#endif
