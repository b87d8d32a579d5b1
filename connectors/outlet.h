/* What every sink with a thread of its own has: a name, a state, and a queue of hand-outs.
 *
 * A sink embeds a struct mr_outlet, gives its contract calls on to the ones below, and writes one
 * loop: take hand-outs (mr__outlet_take), do the work, put an answer on each (mr__outlet_answer),
 * give them back together (mr__outlet_flush). Every hand-out taken is answered exactly once, the
 * thread's last pass included; what stop finds still in the queue it refuses itself. */
#ifndef MR_CONNECTORS_OUTLET_H
#define MR_CONNECTORS_OUTLET_H

#include <pthread.h>
#include <stdatomic.h>

#include "connectors/connector.h"

#define MR_OUTLET_SLOTS_DEFAULT 64u

struct mr_outlet {
    const char *kind;     /* static: "kafka"; the journal's word and the answers' instance */
    struct mr_host *host; /* borrowed: outlives us */
    char *name;           /* owned */
    char *folder;         /* owned; NULL when there is none */
    _Atomic uint32_t index;
    uint32_t slots; /* hand-outs held at once when connected */
    pthread_t thread;
    bool started;
    atomic_bool stopping;
    _Atomic uint64_t deadline_ns; /* of stop */
    struct mr_opq handouts;       /* from the bus */

    struct mr_handout *answers; /* owned, the thread's own: answered, to be given back together */

    pthread_mutex_t mu; /* protects health */
    struct mr_health health;
    _Atomic uint64_t messages; /* answered with ok */
};

/* --- for the contract calls ------------------------------------------------------------------- */

/** @return MR_E_NOMEM, MR_E_UNAVAILABLE: nothing to release */
MR_MUST_USE enum mr_status mr__outlet_init(struct mr_outlet *outlet, const char *kind,
                                           const struct mr_target_args *args,
                                           struct mr_problem *problem);
void mr__outlet_release(struct mr_outlet *outlet);
MR_MUST_USE enum mr_status mr__outlet_start(struct mr_outlet *outlet, void *(*run)(void *),
                                            void *context, struct mr_problem *problem);
void mr__outlet_submit(struct mr_outlet *outlet, struct mr_handout *first);
/** Tells the thread, without joining it: for a sink that has more to do to make it end. */
void mr__outlet_tell_stop(struct mr_outlet *outlet, uint64_t deadline_mono_ns);
/** Tells the thread, joins it, refuses what it left in the queue. */
void mr__outlet_stop(struct mr_outlet *outlet, uint64_t deadline_mono_ns);
void mr__outlet_reindex(struct mr_outlet *outlet, uint32_t index);
void mr__outlet_health(struct mr_outlet *outlet, struct mr_health *ret_health);

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
bool mr__outlet_is_stopping(const struct mr_outlet *outlet);
bool mr__outlet_is_late(const struct mr_outlet *outlet, uint64_t now_ns); /* stop's deadline */
/** Tells the bus how many hand-outs fit: the slots, or 0 while there is no connection. */
void mr__outlet_tell(struct mr_outlet *outlet, bool connected);
/** As mr__intake_set_health(). */
void mr__outlet_set_health(struct mr_outlet *outlet, enum mr_health_state state,
                           const char *detail, const char *error);

#endif
