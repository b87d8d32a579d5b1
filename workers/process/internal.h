/* The process runtime, inside: one target, its instances, and what each file does with them.
 *
 *     target.c    the connector: its options, create, health
 *     loop.c      what a pass of the station's loop does here
 *     pool.c      how many instances there are: scaling, recycling, crash-loop backoff
 *     dispatch.c  which instance gets a hand-out, and its encoding
 *     instance.c  one instance: its life from start to end
 *     receive.c   what an instance sends: frames, answers, output
 *     list.c      the instances as an operator sees them
 *
 * Everything here belongs to the target's thread, but for the fields marked otherwise. */
#ifndef MR_WORKERS_PROCESS_INTERNAL_H
#define MR_WORKERS_PROCESS_INTERNAL_H

#include "core/clock.h"
#include "core/limits.h"
#include "core/logger.h"
#include "workers/child.h"
#include "workers/process/frame.h"
#include "workers/process/process.h"
#include "workers/station.h"
#include "workers/tail.h"

#define MR__OUT_SOFT_MAX (256u * MR_KIB) /* unsent bytes beyond which an instance gets no more */
/* The soft maximum, one frame beyond it, and control frames. */
#define MR__OUT_SIZE_MAX (MR__OUT_SOFT_MAX + MR_FRAME_SIZE_MAX + 64u * MR_KIB)
#define MR__IN_SIZE_MAX (MR_FRAME_SIZE_MAX + 64u * MR_KIB)
#define MR__CONCURRENCY_MAX 4096u        /* of one instance, whatever it declares */

enum mr__state {
    MR__STARTING = 0, /* runs, has not said or shown that it is ready */
    MR__READY,
    MR__DRAINING, /* gets nothing more; ends when what it has is answered */
    MR__STOPPING, /* has nothing, was told to end */
    MR__KILLED,   /* SIGKILL was sent; its end is awaited */
};

struct mr__slot {
    struct mr_handout *handout; /* owned */
    uint64_t offset;            /* copy: looked up by it */
    uint64_t cancel_at_ns;      /* cancelled: kill the instance then; 0: not cancelled */
    uint64_t handed_ns;         /* when it was handed out */
    uint64_t beat_ns;           /* last heartbeat passed on */
    char *progress;             /* owned; JSON text of the last heartbeat that had one, or NULL */
    uint64_t lease_end_ns;      /* as far as we know: used only when a cancel was lost */
    uint64_t cpu_at_ns;         /* processor time of the instance at the hand-out */
    uint64_t stderr_since;      /* what it wrote before is not this delivery's */
};

enum mr__watch_kind {
    MR__WATCH_SOCKET = 0,
    MR__WATCH_STDOUT,
    MR__WATCH_STDERR,
    MR__WATCH_END,
};

/* What epoll hands back. */
struct mr__watch {
    enum mr__watch_kind kind;
    struct mr__instance *instance;
};

struct mr__instance {
    struct mr_target *target; /* borrowed: outlives it */
    uint32_t number;
    enum mr__state state;
    char who[40];     /* "thumbs/3" */
    char version[40]; /* the generation, or what the worker declared */
    struct mr_child child;
    struct mr__watch watch_socket;
    struct mr__watch watch_stdout;
    struct mr__watch watch_stderr;
    struct mr__watch watch_end;

    struct mr__slot *slots; /* owned; [0, held) are in flight, in order of hand-out */
    uint32_t slot_capacity;
    uint32_t held;
    uint32_t places;     /* that these take: those of a batch, which stand in a row, take one */
    uint32_t slot_max;   /* how many places it has; 1 until its handshake says more */
    uint32_t cancelling; /* slots with cancel_at_ns */
    bool reserved;       /* waits to be empty for a hand-out that must be alone */
    bool alone;          /* holds one that must be alone */
    bool retiring;       /* to be replaced: goes once its successor serves */

    struct mr_buf out; /* frames to send; [0, sent) have gone */
    size_t sent;
    bool out_blocked;  /* the socket is full: waiting for EPOLLOUT */
    bool out_watched;  /* epoll watches for it */
    struct mr_buf in;  /* bytes received; no newline before `scanned` */
    size_t scanned;
    unsigned features; /* of the handshake */
    bool greeted;      /* its handshake came */
    bool socket_ended; /* it closed its end */
    bool distrusted;   /* what it sends is no protocol: nothing more is read of it */
    bool stop_sent;

    uint64_t born_ns;
    uint64_t read_first_ns; /* it took our handshake off the socket; 0 not yet */
    uint64_t idle_since_ns;
    uint64_t recycle_at_ns; /* max_life; 0 never */
    uint64_t term_at_ns;    /* SIGTERM then; 0 never */
    uint64_t kill_at_ns;    /* SIGKILL then; 0 never */
    uint64_t handed;        /* deliveries ever */
    uint64_t answered;
    uint32_t garbage;       /* lines that were none of ours, since garbage_from_ns */
    uint64_t garbage_from_ns;
    uint64_t rss;      /* last seen */
    uint64_t cpu_max_ns; /* it is ended at this processor time; 0 never */
    uint64_t rss_peak; /* last seen while it ran */
    bool expected;     /* its end is our wish: no crash */
    bool overdue;      /* the target's stop could not wait for it any longer */
    char why[96];      /* why we killed it; "" when we did not */
    struct mr__instance *next_ended; /* in the target's list */
    struct mr_tail out_tail;
    struct mr_tail err_tail;
};

struct mr_target {
    struct mr_station base; /* first: station.h */
    struct mr_command command;
    uint64_t max_events;
    uint64_t max_life_ns;
    uint64_t max_rss;
    uint64_t max_cpu_ns;
    uint32_t concurrency;
    uint64_t timeout_ns;
    uint64_t grace_ns;
    uint32_t scale_min;
    uint32_t scale_max;
    uint32_t scale_target;
    uint64_t scale_idle_ns;

    struct mr__instance **instances; /* owned; scale_max long */
    uint32_t count;
    struct mr__instance *ended; /* freed at the end of the pass: events may still name it */
    uint32_t next_number;
    bool replacing; /* an instance went to be replaced: hand-outs wait for its successor */
    uint64_t burst_until_ns; /* pool.c: no rationing of starts, no scale-in */
    uint64_t sample_at_ns; /* memory of the instances is looked at then */
    struct mr_tail_rate garbage_rate;
};

/* --- loop.c --- */
extern const struct mr_station_ops mr__process_station;

/* --- pool.c --- */
void mr__pool_update(struct mr_target *t);
uint32_t mr__pool_capacity(struct mr_target *t);
void mr__pool_stop(struct mr_target *t);
/** Whether an instance that is to be replaced can go: its successor serves, or is not wanted, or
 * there is no room for one beside it. */
bool mr__pool_can_spare(const struct mr_target *t);

/* --- dispatch.c --- */
void mr__dispatch_pending(struct mr_target *t);
void mr__dispatch_cancel(struct mr_target *t, const struct mr_station_cancel *cancel);
/** Cancels everything whose lease has run out: after a cancel that found no memory. */
void mr__dispatch_cancel_late(struct mr_target *t);
bool mr__dispatch_needs_reserved(const struct mr_target *t);
/** Places that the pending chain will take. */
uint32_t mr__dispatch_places(const struct mr_target *t);

/* --- instance.c --- */
MR_MUST_USE enum mr_status mr__instance_start(struct mr_target *t, struct mr_problem *problem);
void mr__instance_free(struct mr__instance *i);
void mr__instance_update(struct mr__instance *i);
void mr__instance_ready(struct mr__instance *i);
/** No new work, a stop frame, an end when it is empty. */
void mr__instance_drain(struct mr__instance *i);
/** The same, to be replaced: what comes meanwhile waits for the successor. */
void mr__instance_replace(struct mr__instance *i);
void mr__instance_kill(struct mr__instance *i, const char *why);
void mr__instance_flush(struct mr__instance *i);
void mr__instance_ended(struct mr__instance *i);
/** A kill for what it sent: nothing more of it is believed. */
void mr__instance_distrust(struct mr__instance *i, const char *why);
/** Queues a control frame; one that finds no room is dropped (the timers still hold). */
void mr__instance_send(struct mr__instance *i, const char *text);
/** Sets the processor time at which it is ended, by the oldest delivery it holds. */
void mr__instance_limit_cpu(struct mr__instance *i);
/** Kills one that goes on beyond it: it ignores SIGXCPU. */
void mr__instance_check_cpu(struct mr__instance *i);
/** Whether it holds one of @p batch, other than 0; slot @p from is looked at first. */
bool mr__instance_has_batch(const struct mr__instance *i, uint64_t batch, uint32_t from);
void mr__instance_release_slot(struct mr__instance *i, uint32_t at);

/* --- list.c --- */
/** struct mr_station_ops.list */
enum mr_status mr__instance_list(struct mr_target *t, uint32_t n, const char *delivery,
                                 struct mr_buf *json);

/* --- receive.c --- */
void mr__receive_socket(struct mr__instance *i);
void mr__receive_output(struct mr__instance *i, bool is_error);

#endif
