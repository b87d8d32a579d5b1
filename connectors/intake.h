/* What every source with a thread of its own has: a name, a state, and batches under way.
 *
 * A source embeds a struct mr_intake, gives its contract calls on to the ones below, and writes
 * one loop:
 *
 *     for (;;) {
 *         now_ns = mr_clock_mono_ns();
 *         mr__intake_take(&s->intake, now_ns, on_durable, s);
 *         if (mr__intake_is_finished(&s->intake, now_ns)) break;
 *         mr__intake_resubmit(&s->intake, now_ns);
 *         … read from the peer while mr__intake_wants(), mr__intake_submit() …
 *         poll(mr_opq_fd(&s->intake.replies), …, mr__intake_timeout_ms())
 *     }
 *
 * Order. Batches come back in the order in which they were submitted, but one can be refused (log
 * full) and the next accepted. A source whose batches carry a cursor, or that acknowledges up to a
 * position, therefore has one batch out at a time (mr__intake_is_out()) and fills the next
 * meanwhile: with 500 events a batch that is no limit. */
#ifndef MR_CONNECTORS_INTAKE_H
#define MR_CONNECTORS_INTAKE_H

#include <pthread.h>
#include <stdatomic.h>

#include "connectors/connector.h"

struct mr_intake {
    const char *kind;     /* static: "mqtt", stands in the journal */
    struct mr_host *host; /* borrowed: outlives us */
    char *name;           /* owned */
    char *folder;         /* owned; NULL when there is none */
    size_t event_size_max;
    _Atomic uint32_t index;
    pthread_t thread;
    bool started;
    atomic_bool paused;
    atomic_bool stopping;
    _Atomic uint64_t deadline_ns; /* of stop */
    struct mr_opq replies;        /* batches come back, SLOW and GO */

    /* The thread's own. */
    struct mr_op *refused; /* owned batches, oldest first: to be submitted again */
    uint64_t refused_at_ns;
    uint64_t refused_wait_ns;
    uint32_t submitted; /* batches with the bus */
    bool slow;          /* log or disk is short */

    pthread_mutex_t mu; /* protects health */
    struct mr_health health;
    _Atomic uint64_t messages;
    _Atomic uint64_t bytes_held;
};

/* --- for the contract calls ------------------------------------------------------------------- */

/** @return MR_E_NOMEM, MR_E_UNAVAILABLE: nothing to release */
MR_MUST_USE enum mr_status mr__intake_init(struct mr_intake *intake, const char *kind,
                                           const struct mr_source_args *args,
                                           struct mr_problem *problem);
/** @return false: a batch is with the bus still, which writes into the queue; leave all as it is */
MR_MUST_USE bool mr__intake_release(struct mr_intake *intake);
MR_MUST_USE enum mr_status mr__intake_start(struct mr_intake *intake, void *(*run)(void *),
                                            void *context, struct mr_problem *problem);
void mr__intake_pause(struct mr_intake *intake);
void mr__intake_resume(struct mr_intake *intake);
/** Tells the thread, without joining it: for a source that has more to do to make it end. */
void mr__intake_tell_stop(struct mr_intake *intake, uint64_t deadline_mono_ns);
/** Tells the thread and joins it. */
void mr__intake_stop(struct mr_intake *intake, uint64_t deadline_mono_ns);
void mr__intake_reindex(struct mr_intake *intake, uint32_t index);
void mr__intake_health(struct mr_intake *intake, struct mr_health *ret_health);

/* --- for its thread --------------------------------------------------------------------------- */

/** An empty batch that comes back here, or NULL. */
MR_MUST_USE struct mr_batch *mr__intake_batch(struct mr_intake *intake, uint32_t capacity);
/** Ownership moves to the bus; what it refuses is kept and submitted again. */
void mr__intake_submit(struct mr_intake *intake, struct mr_batch *batch);
/** Takes what came back. @p on_durable (may be NULL) sees each durable batch before it is freed. */
void mr__intake_take(struct mr_intake *intake, uint64_t now_ns,
                     void (*on_durable)(void *context, struct mr_batch *batch), void *context);
/** Submits refused batches again when their time has come, in order. */
void mr__intake_resubmit(struct mr_intake *intake, uint64_t now_ns);
/** Drops the refused batches: the connection is gone, and the peer gives their messages again. */
void mr__intake_forget(struct mr_intake *intake);
/** Whether a batch is with the bus, or refused and kept. */
bool mr__intake_is_out(const struct mr_intake *intake);
bool mr__intake_is_stopping(const struct mr_intake *intake);
/** Whether the peer may be read: not paused, not stopping, log and disk not short. */
bool mr__intake_wants(const struct mr_intake *intake);
/** Stopping, and all is back or the deadline over. Refused batches are given up then: nothing of
 * them was acknowledged to the peer. */
bool mr__intake_is_finished(struct mr_intake *intake, uint64_t now_ns);
/** For poll: until the next thing of its own, at most @p max_ms. */
int mr__intake_timeout_ms(const struct mr_intake *intake, uint64_t now_ns, int max_ms);

/** @param detail shown by `source list`, NULL: as before; @param error NULL: none is new. Both are
 * cleaned and cut. */
void mr__intake_set_health(struct mr_intake *intake, enum mr_health_state state,
                           const char *detail, const char *error);

#endif
