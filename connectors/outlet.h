/* What every sink with a thread of its own has: a name, a state, and a queue of hand-outs.
 *
 * A sink begins with a struct mr_outlet, names the contract calls below in its table, and writes
 * one loop: take hand-outs (mr__outlet_take), do the work, put an answer on each
 * (mr__outlet_answer), give them back together (mr__outlet_flush). Every hand-out taken is answered
 * exactly once, the thread's last pass included; what stop finds still in the queue it refuses
 * itself. */
#ifndef MR_CONNECTORS_OUTLET_H
#define MR_CONNECTORS_OUTLET_H

#include "connectors/lifecycle.h"

#define MR_OUTLET_SLOTS_DEFAULT 64u

struct mr_outlet {
    struct mr_lifecycle life; /* first; its queue brings hand-outs */
    uint32_t slots;           /* hand-outs held at once when connected */

    struct mr_handout *answers; /* owned, the thread's own: answered, to be given back together */
};

/* --- for the contract calls ------------------------------------------------------------------- */

/** The beginning of `create`: checks the options, makes the instance with an outlet and a copy of
 * the options, the rest of it zeros.
 * @param[out] ret_target mr__outlet_release() and mr__lifecycle_free() */
MR_MUST_USE enum mr_status mr__outlet_create(const struct mr_lifecycle_shape *shape,
                                             const struct mr_target_args *args,
                                             struct mr_target **ret_target,
                                             struct mr_problem *problem);
void mr__outlet_release(struct mr_outlet *outlet);

/* The contract's calls themselves: @p target begins with its outlet. There is none for `cancel`:
 * what is with the peer cannot be called back, and what waits goes soon; the peer's report, or the
 * end of the sink's own timeout, answers the hand-out. */
MR_MUST_USE enum mr_status mr__outlet_start(struct mr_target *target, struct mr_problem *problem);
void mr__outlet_submit(struct mr_target *target, struct mr_handout *first);
/** Tells the thread, without joining it: for a sink that has more to do to make it end. */
void mr__outlet_tell_stop(struct mr_target *target, uint64_t deadline_mono_ns);
/** Tells the thread, joins it, refuses what it left in the queue. */
void mr__outlet_stop(struct mr_target *target, uint64_t deadline_mono_ns);
void mr__outlet_reindex(struct mr_target *target, uint32_t index);
void mr__outlet_health(struct mr_target *target, struct mr_health *ret_health);

/* --- for its thread --------------------------------------------------------------------------- */

/** All that is waiting, oldest first, or NULL; then the next one wakes mr_opq_fd(). */
struct mr_handout *mr__outlet_take(struct mr_outlet *outlet);
/** The hand-out behind this one in a chain, or NULL. */
struct mr_handout *mr__outlet_next(const struct mr_handout *handout);
/** Fills the answer in and keeps it for the next flush.
 * @param started_wall_ns 0: it never reached the peer; @param error NULL: none; cleaned, cut */
void mr__outlet_answer(struct mr_outlet *outlet, struct mr_handout *handout,
                       enum mr_verdict verdict, const char *error, uint64_t started_wall_ns);
void mr__outlet_flush(struct mr_outlet *outlet);
/** Tells the bus how many hand-outs fit: the slots, or 0 while there is no connection. */
void mr__outlet_tell(struct mr_outlet *outlet, bool connected);

#endif
