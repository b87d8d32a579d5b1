#include "connectors/backoff.h"

#include "core/clock.h"

#define STEP_MIN_NS (100 * MR_MS)
#define STEP_MAX_NS (30 * MR_SECOND)
#define TRIES_MAX 16u /* the longest step is reached long before */

void mr__backoff_init(struct mr_backoff *backoff)
{
    backoff->tries = 0;
    mr_rng_init(&backoff->rng, mr_rng_entropy());
}

void mr__backoff_reset(struct mr_backoff *backoff)
{
    backoff->tries = 0;
}

uint64_t mr__backoff_next(struct mr_backoff *backoff)
{
    uint64_t step = STEP_MIN_NS;
    for (uint32_t i = 0; i < backoff->tries && step < STEP_MAX_NS; i++) {
        step *= 2;
    }
    if (step > STEP_MAX_NS) {
        step = STEP_MAX_NS;
    }
    if (backoff->tries < TRIES_MAX) {
        backoff->tries++;
    }
    return step / 2 + mr_rng_below(&backoff->rng, step / 2 + 1);
}
