/* What a worker writes to its standard output and error: lines for the log, rate-limited, and the
 * last bytes kept for the answer of a delivery that goes wrong. Bounded, whatever is written. */
#ifndef MR_WORKERS_TAIL_H
#define MR_WORKERS_TAIL_H

#include <stdbool.h>
#include <stdint.h>

#include "core/bytes.h"
#include "core/limits.h"

#define MR_TAIL_LINE_SIZE 512u /* longer lines are cut in the log */

/* Log lines a target may write: a burst, then so many a second; the others are counted. */
struct mr_tail_rate {
    uint64_t second; /* which one `used` counts */
    uint32_t used;
    uint64_t suppressed;
};

struct mr_tail {
    uint8_t ring[MR_STDERR_TAIL_MAX];
    uint64_t total; /* bytes ever written; ring[total % size] is next */
    uint8_t line[MR_TAIL_LINE_SIZE];
    size_t line_size;
    char last[256]; /* last line that was not blank, cleaned */
};

/** Takes what was read from @p who's @p stream ("stdout", "stderr"). @thread owner */
void mr_tail_add(struct mr_tail *tail, struct mr_bytes text, const char *who, const char *stream,
                 struct mr_tail_rate *rate, uint64_t now_ns);
/** The stream ended: what has no newline is a line too. */
void mr_tail_end(struct mr_tail *tail, const char *who, const char *stream,
                 struct mr_tail_rate *rate, uint64_t now_ns);
/** A cleaned copy of what came since @p total was @p since, at most MR_STDERR_TAIL_MAX bytes.
 * @return mr_free it; NULL when nothing came or memory is short */
char *mr_tail_copy(const struct mr_tail *tail, uint64_t since);

#endif
