/* A helper process that runs programs in jq, as the thread that started it holds it.
 *
 * The library that runs them cannot be stopped, reads files and the environment, and takes what
 * memory it can get. So it runs in a process of its own that can do nothing else (helper_main.c),
 * and dies when a program takes more than it may: of time by a timer that the kernel keeps, of
 * memory by a limit. A helper that died, did not answer or answered nonsense is ended and reaped
 * before the call returns; the next send starts another.
 *
 * Requests are sent in a row and answered in order. One helper belongs to one thread, with which it
 * also dies; the end of the bus, in whatever way, is its end. Blocks on nothing for longer than the
 * limits of what was sent. */
#ifndef MR_WORKERS_JQ_HELPER_H
#define MR_WORKERS_JQ_HELPER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/bytes.h"
#include "core/problem.h"

#define MR_JQ_SENT_MAX 32u

struct mr_jq_helper;

/* A program: its text under a number that no other one has. */
struct mr_jq_program {
    _Atomic uint32_t refs;
    uint64_t number;
    uint64_t timeout_ns; /* of processor time, for one event */
    char text[];
};

/** One reference, the caller's; NULL: no memory. @thread any */
MR_MUST_USE struct mr_jq_program *mr_jq_program_create(const char *text, uint64_t timeout_ns);
struct mr_jq_program *mr_jq_program_ref(struct mr_jq_program *program);
void mr_jq_program_unref(struct mr_jq_program *program);

/** Compiles @p text in a helper of the moment; a text that was good once is not looked at again.
 * @return MR_E_INVALID with what the library says, MR_E_UNAVAILABLE, MR_E_NOMEM
 * @thread any  @blocks 30 ms or so, seconds at most */
MR_MUST_USE enum mr_status mr_jq_check(const char *text, struct mr_problem *problem);

/** Starts no process yet.
 * @param stop borrowed, outlives it; once true, waiting ends soon with MR_JQ_UNAVAILABLE; or NULL
 * @return NULL: no memory */
MR_MUST_USE struct mr_jq_helper *mr_jq_helper_create(const _Atomic bool *stop);
void mr_jq_helper_destroy(struct mr_jq_helper *helper);
/** Ends the process; what was sent is forgotten. */
void mr_jq_helper_end(struct mr_jq_helper *helper);

/** Sends an event, of @p size bytes in the JSON format, to be run through @p program; before it the
 * program, if the helper has not got it. At most MR_JQ_SENT_MAX without an answer.
 * @return MR_E_UNAVAILABLE: no process can be started; MR_E_NOMEM, MR_E_TOO_BIG: nothing was sent,
 * what was sent before stays so */
MR_MUST_USE enum mr_status mr_jq_helper_send(struct mr_jq_helper *helper,
                                             const struct mr_jq_program *program,
                                             struct mr_bytes event, struct mr_problem *problem);

/** Whether mr_jq_helper_receive() has its answer without waiting. */
bool mr_jq_helper_is_ready(const struct mr_jq_helper *helper);

/* How it went with an event. */
enum mr_jq_end {
    MR_JQ_OUTPUT = 0,
    MR_JQ_NOTHING,     /* the program gave no output */
    MR_JQ_ERROR,       /* … an error, or not one object */
    /* The helper is gone, and with it what was sent behind: */
    MR_JQ_UNAVAILABLE, /* it cannot do its work: no library, or no memory on our side */
    MR_JQ_TIME,  /* the program took too long */
    MR_JQ_DEATH, /* it ended otherwise: memory, a crash, a kill from outside, nonsense or silence */
    MR_JQ_END_MAX,
};

/** The answer to the oldest event sent that has none.
 * @param[out] ret_output with MR_JQ_OUTPUT: JSON text, borrowed until the next call
 * @param[out] problem in all other cases what to tell a person */
enum mr_jq_end mr_jq_helper_receive(struct mr_jq_helper *helper, struct mr_bytes *ret_output,
                                    struct mr_problem *problem);

#endif
