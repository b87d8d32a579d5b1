/* How much of its concurrency a target gets while it is overloaded: additive increase and
 * multiplicative decrease (Chiu and Jain, "Analysis of the increase and decrease algorithms",
 * 1989), with a slow start as TCP has it (RFC 5681 section 3.1). Knows no clock and no thread. */
#ifndef MR_WORKERS_ADAPTIVE_H
#define MR_WORKERS_ADAPTIVE_H

#include "bus/ports.h"

struct mr_adaptive {
    uint32_t min;        /* never below; 0: off, the target gets all it has */
    uint64_t latency_ns; /* an answer that took longer tells of overload; 0: its time alone does
                            not, unless it used up the attempt's */
    double limit;        /* deliveries at once */
    bool is_avoiding;    /* overload was seen: one more each round, no longer twice as many */
    uint64_t cut_ns;     /* when it was cut last */
};

/** Starts at @p min. */
void mr_adaptive_init(struct mr_adaptive *adaptive, uint32_t min, uint64_t latency_ns);
/** Learns from the answer of @p handout, which came at @p now_ns (any clock that goes on), when
 * @p in_flight deliveries (this one included) were with the target of the @p slots it has.
 * Overload: it refused (429, 503, nobody there), or took too long. A
 * batch, which takes one place, is one answer, however many it has. Of the deliveries handed out
 * before a cut no second one follows. @return whether mr_adaptive_slots() says another number */
bool mr_adaptive_answer(struct mr_adaptive *adaptive, uint64_t now_ns,
                        const struct mr_handout *handout, uint32_t in_flight, uint32_t slots);
/** How many of its @p slots the target gets; at least one when it has any. */
uint32_t mr_adaptive_slots(const struct mr_adaptive *adaptive, uint32_t slots);

#endif
