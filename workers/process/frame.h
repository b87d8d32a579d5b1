/* One line of the worker protocol (docs/worker-protocol.md), from the worker to the bus, taken
 * apart.
 *
 * The scanner reads one flat JSON object once, from left to right, and keeps slices of it: nothing
 * is copied, nothing allocated, nothing recurses. Values it does not need are only skipped; `data`
 * and the items of `events` are checked by whoever uses them. A pure function of the line. */
#ifndef MR_WORKERS_PROCESS_FRAME_H
#define MR_WORKERS_PROCESS_FRAME_H

#include <stdint.h>

#include "core/bytes.h"
#include "core/problem.h"

enum mr_frame_type {
    MR_FRAME_UNKNOWN = 0, /* an object with no member we know: skipped, so that old and new fit */
    MR_FRAME_HELLO,       /* "millrace": the handshake */
    MR_FRAME_ANSWER,      /* "delivery" */
    MR_FRAME_HEARTBEAT,   /* "heartbeat": the delivery it is for */
    MR_FRAME_BATCH,       /* "batch": an answer for all of it that have none */
};

enum mr_frame_feature {
    MR_FRAME_CANCEL = 1,
    MR_FRAME_PROGRESS = 2,
    MR_FRAME_RAW = 4,
    MR_FRAME_BATCHES = 8,
};

struct mr_frame {
    enum mr_frame_type type;
    /* Strings as they stand between their quotes; mr_frame_text() decodes them. */
    struct mr_bytes delivery; /* of an answer or a heartbeat */
    struct mr_bytes verdict;
    struct mr_bytes error;
    struct mr_bytes version; /* of the worker, from its handshake */
    struct mr_bytes events;  /* the raw array with its brackets; empty when absent */
    struct mr_bytes data;    /* the raw value; empty when absent */
    struct mr_bytes progress; /* of a heartbeat: likewise */
    const char *fault;       /* static; why an answer whose delivery is known cannot be used */
    uint64_t protocol;       /* of the handshake */
    uint64_t max;            /* of the handshake; 0 when absent */
    uint64_t batch;          /* its number */
    uint64_t after_ns;
    bool has_after;
    unsigned features; /* enum mr_frame_feature */
};

/** Takes @p line (without its newline) apart; the slices point into it.
 * @return MR_OK; MR_E_INVALID with the reason: not one JSON object, a known member of the wrong
 * type, nested deeper than MR_JSON_DEPTH_MAX */
MR_MUST_USE enum mr_status mr_frame_parse(struct mr_bytes line, struct mr_frame *ret_frame,
                                          struct mr_problem *problem);

/** Decodes the escapes of the string @p raw into @p to, cut to @p size bytes at a character.
 * @return the slice of @p to, or @p raw itself when it has no escape */
struct mr_bytes mr_frame_text(struct mr_bytes raw, char *to, size_t size);

/** Walks the array @p events: set *@p position to 0 first.
 * @return false after the last item, or where the array is broken (*@p position is then 0) */
bool mr_frame_next_item(struct mr_bytes events, size_t *position, struct mr_bytes *ret_item);

#endif
