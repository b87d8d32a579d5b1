/* The one source of pseudo-random numbers: xoshiro256** 1.0 (Blackman and Vigna, public domain),
 * seeded by splitmix64. Same seed, same numbers, on every machine: that is what makes a
 * simulation replayable. Not for secrets. Not thread-safe: each owner has its own. */
#ifndef MR_CORE_RNG_H
#define MR_CORE_RNG_H

#include <stdbool.h>
#include <stdint.h>

struct mr_rng {
    uint64_t s[4];
};

void mr_rng_init(struct mr_rng *rng, uint64_t seed);
uint64_t mr_rng_next(struct mr_rng *rng);
/** Uniform in 0..@p bound-1; @p bound >= 1. */
uint64_t mr_rng_below(struct mr_rng *rng, uint64_t bound);
/** True with probability @p numerator / @p denominator. */
bool mr_rng_chance(struct mr_rng *rng, uint64_t numerator, uint64_t denominator);
/** 64 bits from the kernel, to seed from. @thread any */
uint64_t mr_rng_entropy(void);

#endif
