/* A question to the engine: how does the delivery of this event end? For who wants the worker's
 * result as the answer to what he sent: `?wait=` of HTTP sources, `millrace invoke`.
 *
 *     asker ──host->await, before the submit of the batch──▶ engine ──reply queue, once──▶ asker
 *
 * It comes back after the batch: at once when that was refused, else when the one delivery that was
 * asked for has ended and its end is durable, at the deadline, or when its asker withdraws. */
#ifndef MR_CONNECTORS_AWAIT_H
#define MR_CONNECTORS_AWAIT_H

#include "bus/ports.h"

#define MR_AWAIT_MATCHES_MAX 32u

enum mr_await_end {
    MR_AWAIT_NONE = 0,
    MR_AWAIT_REFUSED,  /* the batch was */
    MR_AWAIT_UNCLEAR,  /* not one delivery to wait for: `candidates` says how many there are */
    MR_AWAIT_TIME,     /* the deadline, or withdrawn: the delivery goes on */
    MR_AWAIT_SETTLED,
};

/* The asker's memory. */
struct mr_await {
    struct mr_op op;              /* of type `type` when it comes back */
    uint32_t type;
    const struct mr_batch *batch; /* whose item: compared, never looked into */
    uint32_t item;
    struct mr_opq *reply;         /* borrowed: outlives it */
    char *subscription;           /* owned: the one asked for; NULL: the only one with a worker */
    uint64_t deadline_mono_ns;
    /* out: */
    enum mr_await_end end;
    uint64_t offset;     /* once the batch is durable */
    uint32_t candidates;
    char *name;          /* owned: the subscription that was waited for */
    const char *state;   /* SETTLED: "done", "dead", "dropped"; NULL: the trace tells */
    uint32_t attempt;    /* the last one that a handler answered; 0: none */
    char *error;         /* owned: what it said; NULL: nothing */
    char *result;        /* owned: JSON text of the result data, or NULL */
    /* the engine's: */
    struct mr_await *next;
    uint32_t matches[MR_AWAIT_MATCHES_MAX]; /* subscription ids */
    uint32_t match_count;
    uint32_t id;           /* of the subscription */
    enum mr_verdict verdict;
    bool is_durable;
    bool is_repeat;        /* of an earlier event, whose delivery is meant */
    bool is_resolved;
    bool is_seen;          /* in the window, or answered: when it is gone, it has settled */
    uint64_t gone_sequence; /* of the group that holds its end, at the latest; 0: it goes on */
};

/** Frees what is owned, not @p await itself. */
void mr_await_release(struct mr_await *await);

#endif
