/* The exec runtime, inside: target.c is the connector, loop.c what a pass
 * of the station's loop does here, run.c one process from
 * hand-out to answer, result.c what exit code and output mean. All of it belongs to the target's
 * thread, but for the fields marked otherwise. */
#ifndef MR_WORKERS_EXEC_INTERNAL_H
#define MR_WORKERS_EXEC_INTERNAL_H

#include "core/clock.h"
#include "core/limits.h"
#include "core/logger.h"
#include "workers/child.h"
#include "workers/exec/exec.h"
#include "workers/station.h"
#include "workers/tail.h"

enum mr__exec_watch_kind {
    MR__EXEC_STDIN = 0,
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
    uint64_t born_ns;
    uint64_t lease_end_ns; /* used only when a cancel was lost */
    uint64_t kill_at_ns;   /* 0 never */
    bool cancelled;
    bool overdue; /* the target's stop could not wait for it */
    struct mr_tail err_tail;
};

struct mr_target {
    struct mr_station base; /* first: station.h */
    struct mr_command command;
    uint32_t run_max; /* processes at once */
    uint64_t grace_ns;

    bool overdue;         /* its stop's deadline has passed */
    struct mr__run **runs; /* owned; run_max long */
    uint32_t count;
    struct mr__run *ended;
    uint64_t run_number;
};

/* --- loop.c --- */
extern const struct mr_station_ops mr__exec_station;

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
