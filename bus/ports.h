/* What crosses the border of the bus: batches of events in, hand-outs to targets out, answers back.
 *
 * Everything here is passed by pointer between threads through queues (struct mr_op first), and is
 * owned by exactly one side at a time:
 *
 *     batch     source ──submit──▶ bus ──reply queue, once durable or refused──▶ source (frees)
 *     hand-out  bus ──submit──▶ target ──answer, exactly once──▶ bus (frees)
 *
 * Made and freed only with the calls below. */
#ifndef MR_BUS_PORTS_H
#define MR_BUS_PORTS_H

#include "bus/dedupe.h"
#include "config/config.h"
#include "core/opq.h"
#include "router/router.h"
#include "schemas/event.h"

/* struct mr_op types in the queue of a source. */
enum mr_source_op {
    MR_SOURCE_OP_BATCH_DONE = 1, /* a struct mr_batch comes back */
    MR_SOURCE_OP_SLOW,           /* hold back: log or disk is short; a struct mr_op of no owner */
    MR_SOURCE_OP_GO,             /* go on */
};

enum mr_durability {
    MR_DURABLE_DISK = 0, /* on stable storage */
    MR_DURABLE_INTERVAL, /* written, synced within the configured interval */
    MR_DURABLE_NEVER,    /* written to the page cache only */
};
const char *mr_durability_text(enum mr_durability d); /* "disk", "interval", "never" */

struct mr_batch_item {
    struct mr_event *event;  /* owned, one reference */
    char *rejected;          /* owned; not NULL: this is the raw message of an ingest dead letter
                                (event made by mr_adapt_rejected), and why */
    struct mr_matches matches; /* filled on the way in, by the thread that submits */
    struct mr_dedupe_key keys[MR_DEDUPE_BY_MAX]; /* what a repeat of it is known by; unset: by
                                nothing. Of what was rejected and what is addressed: not asked */
    bool id_is_claim;        /* its sender proved who it is by its data alone */
    uint64_t offset;         /* out: the event's offset, once accepted */
    bool duplicate;          /* out: it repeats the event with this offset, and is none itself */
};

struct mr_batch {
    struct mr_op op;
    uint32_t source;            /* index in the configuration */
    uint64_t generation;        /* of the configuration that matched it */
    bool addressed;             /* its matches were named, not found: it is not matched again */
    struct mr_batch_item *items; /* owned */
    uint32_t count;
    uint32_t capacity;
    size_t size;                /* bytes of all event records, as they were added */
    char *cursor;               /* owned, may be NULL: the source's position after this batch (JSON
                                   text), logged in the same group as the events */
    struct mr_opq *reply;       /* borrowed: outlives every batch in flight; NULL: nobody waits */
    void *context;              /* the source's own */
    bool is_part;               /* the source's own: more of it follows in the next batch */
    uint32_t admitted;          /* the engine's: items that were transformed and validated */
    /* out: */
    uint32_t duplicates;        /* of its items */
    enum mr_status result;      /* MR_OK: all durable; MR_E_DISK_LOW, MR_E_FULL, MR_E_CLOSED (bus
                                   stops), MR_E_FAULTY: none was accepted, try again later */
    enum mr_durability durable;
};

MR_MUST_USE struct mr_batch *mr_batch_create(uint32_t source, uint32_t capacity);
/** Adds @p event (the reference moves, also on failure). @p rejected: see above, copied. */
MR_MUST_USE enum mr_status mr_batch_add(struct mr_batch *batch, struct mr_event *event,
                                        const char *rejected);
void mr_batch_destroy(struct mr_batch *batch);

enum mr_verdict {
    MR_VERDICT_NONE = 0,
    MR_VERDICT_OK,
    MR_VERDICT_RETRY,
    MR_VERDICT_DROP,
    MR_VERDICT_DEAD,
    /* What a handler cannot say: */
    MR_VERDICT_REFUSED, /* reached no handler (no instance, connection refused, 429, 503) */
    MR_VERDICT_TIMEOUT, /* said by the bus, not by targets */
    MR_VERDICT_CRASH,   /* the instance died of it or with it (see suspects) */
    MR_VERDICT_INTERRUPTED, /* Millrace itself died; only read back from the log */
    MR_VERDICT_MAX,
};
const char *mr_verdict_text(enum mr_verdict v); /* "ok", "retry", … */

/* What a target says about one hand-out. Pointers are owned by the hand-out. */
struct mr_answer {
    enum mr_verdict verdict;
    bool has_after;
    uint64_t after_ns;        /* wanted wait before the next attempt (Retry-After, `after`) */
    uint64_t started_wall_ns; /* when the handler got it; 0 if it never did */
    uint64_t ended_wall_ns;
    uint32_t suspects;        /* CRASH: deliveries in flight on the instance when it died; 1 = it
                                 was alone. RETRY: said of a batch as a whole, of so many that had
                                 no answer yet; 0, 1 = of this one */
    int32_t exit_code;        /* -1: none */
    int32_t exit_signal;      /* 0: none */
    uint64_t rss_peak;        /* bytes; 0 unknown */
    char instance[40];        /* "thumbs/3"; of what has none: the target; "" */
    char version[40];         /* of the worker: generation or what it declared */
    char *error;              /* cleaned text, at most MR_ERROR_TEXT_MAX, or NULL */
    char *stderr_tail;        /* cleaned text, at most MR_STDERR_TAIL_MAX, or NULL */
    char *result;             /* JSON text of the result data, or NULL */
    struct mr_batch_item *emitted; /* events the handler emitted; matched before they get here */
    uint32_t emitted_count;
};

struct mr__bundle; /* the bus's own */

/* One attempt handed to a target. Those of a batch stand in a row in the chain, each with an
 * event, a lease and an answer of its own; together they take one of the target's places. */
struct mr_handout {
    struct mr_op op;
    uint32_t target;        /* index in the configuration */
    uint32_t subscription;  /* stable id of the subscription (not its index) */
    uint64_t offset;        /* of the event */
    uint32_t fence;         /* number of this hand-out of the delivery; grows with each */
    uint32_t attempt;       /* from 1 */
    bool last;              /* a `retry` will end it: no attempt is left */
    bool alone;             /* suspect: give it an instance with nothing else on it */
    uint64_t batch;         /* the same for all of a batch, in no other; 0: by itself */
    uint32_t batch_count;   /* as the bus handed it out; some may not get to the target */
    struct mr__bundle *bundle; /* borrowed: the bus keeps it until the last one is back */
    uint64_t timeout_ns;    /* from hand-out; heartbeats extend it */
    uint64_t max_run_ns;    /* heartbeats extend up to this */
    uint64_t deadline_wall_ns; /* now + timeout, for the worker's information */
    char name[MR_NAME_SIZE_MAX * 3 + 16]; /* subscription's name */
    char delivery[MR_NAME_SIZE_MAX * 3 + 40]; /* "name:offset": the delivery id, the same for all
                                                 attempts; the Idempotency-Key of HTTP workers */
    struct mr_event *event; /* owned, one reference */
    struct mr_event *original; /* owned, the engine's: what `event` was before its transform */
    void *context;          /* the target's own while it has the hand-out */
    struct mr_answer answer;
};

MR_MUST_USE struct mr_handout *mr_handout_create(void);
/** Frees the event reference and all answer memory. */
void mr_handout_destroy(struct mr_handout *handout);
/** Cleans and copies @p text into answer.error, cut to MR_ERROR_TEXT_MAX; memory short: NULL. */
void mr_handout_set_error(struct mr_handout *handout, struct mr_bytes text);
/** Adds an emitted event (the reference moves, also on failure); MR_E_TOO_BIG past
 * MR_EMITTED_MAX. */
MR_MUST_USE enum mr_status mr_handout_emit(struct mr_handout *handout, struct mr_event *event);

#endif
