/* The exec runtime, inside: target.c is the connector, loop.c its thread, run.c one process from
 * hand-out to answer, result.c what exit code and output mean. All of it belongs to the target's
 * thread, but for the fields marked otherwise. */
#ifndef MR_WORKERS_EXEC_INTERNAL_H
#define MR_WORKERS_EXEC_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "connectors/connector.h"
#include "core/clock.h"
#include "core/limits.h"
#include "core/logger.h"
#include "core/rng.h"
#include "workers/child.h"
#include "workers/exec/exec.h"
#include "workers/tail.h"

enum mr__exec_watch_kind {
    MR__EXEC_QUEUE = 0,
    MR__EXEC_STDIN,
    MR__EXEC_STDOUT,
    MR__EXEC_STDERR,
    MR__EXEC_END,
};

struct mr__run;

struct mr__exec_watch {
    enum mr__exec_watch_kind kind;
    struct mr__run *run;
};

/* One process and the hand-out it handles. */
struct mr__run {
    struct mr_target *target;   /* borrowed: outlives it */
    struct mr_handout *handout; /* owned */
    struct mr__run *next_ended; /* in the target's list */
    char who[40];
    struct mr_child child;
    struct mr__exec_watch watch_in;
    struct mr__exec_watch watch_out;
    struct mr__exec_watch watch_err;
    struct mr__exec_watch watch_end;
    struct mr_buf in; /* what it gets; [0, sent) has gone */
    size_t sent;
    struct mr_buf out; /* what it said, at most MR_RESPONSE_SIZE_MAX */
    bool out_cut;
    uint64_t lease_end_ns; /* used only when a cancel was lost */
    uint64_t kill_at_ns;   /* 0 never */
    bool cancelled;
    bool overdue; /* the target's stop could not wait for it */
    struct mr_tail err_tail;
};

enum mr__exec_op {
    MR__EXEC_SUBMIT = 0,
    MR__EXEC_CANCEL,
    MR__EXEC_STOP,
};

struct mr__exec_cancel {
    struct mr_op op;
    uint32_t subscription;
    uint32_t fence;
    uint64_t offset;
};

struct mr_target {
    struct mr_host *host; /* borrowed: outlives the target */
    _Atomic uint32_t index;
    char name[MR_NAME_SIZE_MAX + 1];
    struct mr_command command;
    uint32_t run_max; /* processes at once */
    uint64_t grace_ns;
    uint64_t generation;

    pthread_t thread;
    bool started; /* control thread's */
    struct mr_opq queue;
    struct mr_op stop_op;
    _Atomic uint64_t stop_deadline_ns; /* stored before the stop operation is pushed */
    _Atomic bool cancel_lost;          /* a cancel found no memory: check all leases */
    _Atomic bool announce;             /* the index changed: tell the capacity again */

    int epoll;
    bool asleep;
    bool stopping;
    bool overdue; /* its deadline has passed */
    struct mr_rng rng;
    struct mr_now now; /* of this pass */
    uint64_t wake_at_ns;
    struct mr__exec_watch watch_queue;
    struct mr__run **runs; /* owned; run_max long */
    uint32_t count;
    struct mr__run *ended;
    struct mr_handout *pending; /* owned chain */
    struct mr_handout **pending_end;
    struct mr_handout *answers; /* owned chain of this pass */
    struct mr_handout **answers_end;
    uint32_t capacity_told;
    uint32_t streak; /* processes that could not be started, in a row */
    uint64_t start_not_before_ns;
    uint64_t sweep_at_ns;
    uint64_t run_number;
    struct mr_tail_rate log_rate;

    pthread_mutex_t mu; /* protects the two below: as of the last pass */
    struct mr_health shown_health;
    uint32_t shown_streak;
    struct mr_health now_health; /* being filled */
};

/* --- loop.c --- */
void *mr__exec_loop(void *target);
void mr__exec_wake_at(struct mr_target *t, uint64_t at_ns);
void mr__exec_answer(struct mr_target *t, struct mr_handout *h);

/* --- run.c --- */
/** Starts a process for @p h; what cannot be started is answered as refused. */
void mr__run_start(struct mr_target *t, struct mr_handout *h);
void mr__run_update(struct mr__run *run);
void mr__run_cancel(struct mr__run *run);
void mr__run_event(struct mr__run *run, enum mr__exec_watch_kind kind);
void mr__run_destroy(struct mr__run *run);

/* --- result.c --- */
/** Fills in the answer from how the process ended and what it said. */
void mr__exec_result(struct mr__run *run, const struct mr_child_end *end);

#endif
