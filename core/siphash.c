#include "core/siphash.h"

#include <string.h>

static uint64_t rotate(uint64_t x, unsigned by)
{
    return x << by | x >> (64 - by);
}

static void mix(uint64_t v[4], unsigned rounds)
{
    for (unsigned i = 0; i < rounds; i++) {
        v[0] += v[1];
        v[1] = rotate(v[1], 13) ^ v[0];
        v[0] = rotate(v[0], 32);
        v[2] += v[3];
        v[3] = rotate(v[3], 16) ^ v[2];
        v[0] += v[3];
        v[3] = rotate(v[3], 21) ^ v[0];
        v[2] += v[1];
        v[1] = rotate(v[1], 17) ^ v[2];
        v[2] = rotate(v[2], 32);
    }
}

static void take(struct mr_siphash *hash, uint64_t word)
{
    hash->v[3] ^= word;
    mix(hash->v, 2);
    hash->v[0] ^= word;
}

void mr_siphash_begin(struct mr_siphash *hash, uint64_t low, uint64_t high)
{
    *hash = (struct mr_siphash){
        .v = {low ^ 0x736f6d6570736575ull, high ^ 0x646f72616e646f6dull ^ 0xee,
              low ^ 0x6c7967656e657261ull, high ^ 0x7465646279746573ull}};
}

void mr_siphash_add(struct mr_siphash *hash, struct mr_bytes bytes)
{
    const uint8_t *at = bytes.data;
    size_t left = bytes.size;
    size_t have = (size_t)(hash->size % 8);
    hash->size += left;
    if (have > 0) {
        size_t more = left < 8 - have ? left : 8 - have;
        if (more > 0) {
            memcpy(hash->block + have, at, more);
        }
        if (have + more < 8) {
            return;
        }
        take(hash, mr_get_u64(hash->block));
        at += more;
        left -= more;
    }
    for (; left >= 8; left -= 8) {
        take(hash, mr_get_u64(at));
        at += 8;
    }
    if (left > 0) {
        memcpy(hash->block, at, left);
    }
}

void mr_siphash_end(struct mr_siphash *hash, uint64_t ret_hash[2])
{
    size_t have = (size_t)(hash->size % 8);
    memset(hash->block + have, 0, 8 - have);
    take(hash, mr_get_u64(hash->block) | hash->size << 56);
    hash->v[2] ^= 0xee;
    mix(hash->v, 4);
    ret_hash[0] = hash->v[0] ^ hash->v[1] ^ hash->v[2] ^ hash->v[3];
    hash->v[1] ^= 0xdd;
    mix(hash->v, 4);
    ret_hash[1] = hash->v[0] ^ hash->v[1] ^ hash->v[2] ^ hash->v[3];
}
