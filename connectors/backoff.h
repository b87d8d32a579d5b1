/* Waiting between two tries to reach a peer: 100 ms, doubled up to 30 s, half of it jitter. */
#ifndef MR_CONNECTORS_BACKOFF_H
#define MR_CONNECTORS_BACKOFF_H

#include <stdint.h>

#include "core/rng.h"

struct mr_backoff {
    uint32_t tries;
    struct mr_rng rng;
};

void mr__backoff_init(struct mr_backoff *backoff);
/** How long to wait before the next try, ns: between a half and the whole of the step. */
uint64_t mr__backoff_next(struct mr_backoff *backoff);
/** A connection held: the next wait is the shortest again. */
void mr__backoff_reset(struct mr_backoff *backoff);

#endif
