/* The one thread that all timers of the process share, and what it knows of each.
 *
 * A timer is a few hundred bytes and a place in a heap of due instants: ten thousand of them cost
 * no more threads and no more descriptors than one (connectors/intake.h would give each its own).
 * One timerfd on the wall clock waits for the earliest instant, and ends early when somebody sets
 * the clock.
 *
 * The wall clock. Instants are wall time, so they follow the clock when it is set by up to an hour:
 * forwards, what lies between was missed and the misfire policy decides; backwards, an instant that
 * fired does not fire again. When the clock differs from the time that really passed by more than
 * an hour, the timers stand still until it is mended or somebody accepts it (mr__hub_accept()). */
#ifndef MR_CONNECTORS_TIMER_HUB_H
#define MR_CONNECTORS_TIMER_HUB_H

#include <stdatomic.h>

#include "connectors/timer/timer.h"

struct mr_hub;

/* One timer. */
struct mr_source {
    struct mr_host *host; /* borrowed: outlives us */
    char *name;           /* owned */
    _Atomic uint32_t index;
    size_t event_size_max;
    struct mr_timer_options options; /* owned copy */
    struct mr_timer_schedule schedule;

    struct mr_hub *hub; /* shared; NULL before start and after stop */

    /* Under the hub's lock; but while `out`, the hub's thread alone writes the last two. */
    uint32_t at; /* place in the heap, 0: in none */
    bool paused;
    bool stopping;
    bool out;   /* the thread works on it, or its batch is with the bus, or refused and kept */
    int64_t next_ms;
    struct mr_source *next; /* in the list of those refused, or due now */
    struct mr_batch *again; /* owned: refused, to be submitted again */
    bool failing;           /* the last try failed */
    enum mr_status error;   /* of the last one that did */
    uint64_t error_wall_ns;
    uint64_t messages;
    uint64_t errors;
    int64_t last_ms;     /* fired and durable up to here */
    int64_t out_last_ms; /* last_ms once the batch is durable */
};

/** One event of @p timer for the instant @p at_ms. */
MR_MUST_USE enum mr_status mr__timer_event(const struct mr_source *timer, int64_t at_ms,
                                           struct mr_event **ret_event,
                                           struct mr_problem *problem);

/** The hub of the process, with its thread; made with the first timer, gone with the last.
 * @thread any; calls may come from several */
MR_MUST_USE enum mr_status mr__hub_acquire(struct mr_hub **ret_hub, struct mr_problem *problem);
void mr__hub_release(struct mr_hub *hub);

/** Lets @p timer fire, from its last_ms on. @return MR_E_NOMEM */
MR_MUST_USE enum mr_status mr__hub_add(struct mr_hub *hub, struct mr_source *timer);
/** @return whether that changed anything */
bool mr__hub_pause(struct mr_hub *hub, struct mr_source *timer, bool paused);
/** Believes the wall clock, @p wall_ms, as it is now: what froze goes on, and timers whose last
 * instant lies more than an hour ahead forget it. */
void mr__hub_accept(struct mr_hub *hub, int64_t wall_ms);
/** Takes it out, and waits for its batch until the deadline. @return false: the batch is still out,
 * and the timer must stay where it is */
MR_MUST_USE bool mr__hub_remove(struct mr_hub *hub, struct mr_source *timer,
                                uint64_t deadline_mono_ns);
/** @param wall_ms the wall clock */
void mr__hub_health(struct mr_hub *hub, const struct mr_source *timer, int64_t wall_ms,
                    struct mr_health *ret_health);

/* --- for tests, with a clock of their own ----------------------------------------------------- */

MR_MUST_USE enum mr_status mr__hub_create(struct mr_hub **ret_hub, struct mr_problem *problem);
void mr__hub_destroy(struct mr_hub *hub); /* no timer, no thread */
/** What the thread does each time it wakes. */
void mr__hub_pass(struct mr_hub *hub, int64_t wall_ms, uint64_t mono_ns);

#endif
