/* Shared by the two halves of a helper: the bus's side and the process's. */
#ifndef MR_WORKERS_JQ_INTERNAL_H
#define MR_WORKERS_JQ_INTERNAL_H

#include <stdint.h>

#define MR__JQ_NAME "millrace-jq"

/* Programs that a helper keeps compiled; some 20 KiB each, but 25 ms to compile. */
#define MR__JQ_SLOTS 64u

/* How a helper ends by itself. */
#define MR__JQ_EXIT_MEMORY 3 /* it could get no more */

/* In both directions a header and as many bytes as it says, in the order of the machine: both ends
 * are the same program. Requests are answered one by one, in order. */
enum mr__jq_request_kind {
    MR__JQ_COMPILE = 1, /* the text of a program, which takes the slot */
    MR__JQ_RUN,         /* an event in the JSON format, for the program of the slot */
};

struct mr__jq_request {
    uint32_t kind;
    uint32_t slot;
    uint32_t limit_ms; /* of processor time; beyond it the helper is killed by the kernel */
    uint32_t size;
};

enum mr__jq_reply_kind {
    MR__JQ_OUTPUT = 1, /* COMPILE: no bytes. RUN: the one object it gave, as JSON */
    MR__JQ_NOTHING,    /* the program gave no output; no bytes */
    MR__JQ_ERROR,      /* what was wrong; at most MR__JQ_ERROR_MAX bytes */
    MR__JQ_UNAVAILABLE, /* the same, and it is not the program's doing */
};

struct mr__jq_reply {
    uint32_t kind;
    uint32_t size;
};

#define MR__JQ_INPUT_MAX (8u * MR_EVENT_SIZE_MAX)  /* a text of control characters grows sixfold */
#define MR__JQ_OUTPUT_MAX (8u * MR_EVENT_SIZE_MAX) /* what of it an event may be decides the bus */
#define MR__JQ_ERROR_MAX 1024u

struct mr_jq_helper;

/** Takes process @p pid with the socket @p fd for the helper's own, which it is then: for tests of
 * what it may answer. */
void mr__jq_helper_adopt(struct mr_jq_helper *helper, int pid, int fd);

/** Pulls helper_main.c, which nothing calls by name, out of the static library. */
extern const char mr__jq_name[];

#endif
