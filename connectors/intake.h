/* What every source with a thread of its own has: a name, a state, and batches under way.
 *
 * A source begins with a struct mr_intake, names the contract calls below in its table, and writes
 * one loop:
 *
 *     for (;;) {
 *         now_ns = mr_clock_mono_ns();
 *         mr__intake_take(&s->intake, now_ns, on_durable, s);
 *         if (mr__intake_is_finished(&s->intake, now_ns)) break;
 *         mr__intake_resubmit(&s->intake, now_ns);
 *         … read from the peer while mr__intake_wants(), mr__intake_submit() …
 *         poll(mr_opq_fd(&s->intake.life.queue), …, mr__intake_timeout_ms())
 *     }
 *
 * Order. Batches come back in the order in which they were submitted, but one can be refused (log
 * full) and the next accepted. A source whose batches carry a cursor, or that acknowledges up to a
 * position, therefore has one batch out at a time (mr__intake_is_out()) and fills the next
 * meanwhile: with 500 events a batch that is no limit. */
#ifndef MR_CONNECTORS_INTAKE_H
#define MR_CONNECTORS_INTAKE_H

#include "connectors/lifecycle.h"

struct mr_intake {
    struct mr_lifecycle life; /* first; its queue brings batches back, SLOW and GO */
    size_t event_size_max;
    atomic_bool paused;

    /* The thread's own. */
    struct mr_op *refused; /* owned batches, oldest first: to be submitted again */
    uint64_t refused_at_ns;
    uint64_t refused_wait_ns;
    uint32_t submitted; /* batches with the bus */
    bool slow;          /* log or disk is short */
};

/* --- for the contract calls ------------------------------------------------------------------- */

/** The beginning of `create`: checks the options, makes the instance with an intake and a copy of
 * the options, the rest of it zeros.
 * @param[out] ret_source mr__intake_release() and mr__lifecycle_free() */
MR_MUST_USE enum mr_status mr__intake_create(const struct mr_lifecycle_shape *shape,
                                             const struct mr_source_args *args,
                                             struct mr_source **ret_source,
                                             struct mr_problem *problem);
/** An intake alone, without a thread. @return MR_E_NOMEM, MR_E_UNAVAILABLE: nothing to release */
MR_MUST_USE enum mr_status mr__intake_init(struct mr_intake *intake, const char *kind,
                                           const struct mr_source_args *args,
                                           struct mr_problem *problem);
/** @return false: a batch is with the bus still, which writes into the queue; leave all as it is */
MR_MUST_USE bool mr__intake_release(struct mr_intake *intake);

/* The contract's calls themselves: @p source begins with its intake. */
MR_MUST_USE enum mr_status mr__intake_start(struct mr_source *source, struct mr_problem *problem);
void mr__intake_pause(struct mr_source *source);
void mr__intake_resume(struct mr_source *source);
/** Tells the thread, without joining it: for a source that has more to do to make it end. */
void mr__intake_tell_stop(struct mr_source *source, uint64_t deadline_mono_ns);
/** Tells the thread and joins it. */
void mr__intake_stop(struct mr_source *source, uint64_t deadline_mono_ns);
void mr__intake_reindex(struct mr_source *source, uint32_t index);
void mr__intake_health(struct mr_source *source, struct mr_health *ret_health);

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
/** Whether the peer may be read: not paused, not stopping, log and disk not short. */
bool mr__intake_wants(const struct mr_intake *intake);
/** Stopping, and all is back or the deadline over. Refused batches are given up then: nothing of
 * them was acknowledged to the peer. */
bool mr__intake_is_finished(struct mr_intake *intake, uint64_t now_ns);
/** For poll: until the next thing of its own, at most @p max_ms. */
int mr__intake_timeout_ms(const struct mr_intake *intake, uint64_t now_ns, int max_ms);

#endif
