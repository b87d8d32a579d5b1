#include "core/rng.h"

#include <sys/random.h>
#include <time.h>

#include "core/assert.h"

static uint64_t splitmix(uint64_t *x)
{
    uint64_t z = (*x += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

void mr_rng_init(struct mr_rng *rng, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        rng->s[i] = splitmix(&seed);
    }
}

static uint64_t rotate_left(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

uint64_t mr_rng_next(struct mr_rng *rng)
{
    uint64_t *s = rng->s;
    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

uint64_t mr_rng_below(struct mr_rng *rng, uint64_t bound)
{
    MR_ASSERT(bound > 0);
    __extension__ typedef unsigned __int128 wide;
    return (uint64_t)(((wide)mr_rng_next(rng) * bound) >> 64);
}

bool mr_rng_chance(struct mr_rng *rng, uint64_t numerator, uint64_t denominator)
{
    return mr_rng_below(rng, denominator) < numerator;
}

uint64_t mr_rng_entropy(void)
{
    uint64_t v = 0;
    if (getrandom(&v, sizeof(v), 0) != (ssize_t)sizeof(v)) {
        struct timespec ts = {0};
        (void)clock_gettime(CLOCK_REALTIME, &ts); /* zero is still a seed */
        v = (uint64_t)ts.tv_nsec ^ (uint64_t)ts.tv_sec << 32;
    }
    return v;
}
