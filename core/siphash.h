/* SipHash-2-4 with a result of 128 bits (Aumasson and Bernstein): a keyed hash, for where two
 * different things must never be taken for one, even when their sender chose them. The values are
 * stored in the log, so it never changes. */
#ifndef MR_CORE_SIPHASH_H
#define MR_CORE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

#include "core/bytes.h"

struct mr_siphash {
    uint64_t v[4];
    uint64_t size;    /* bytes added */
    uint8_t block[8]; /* the last size % 8 of them */
};

/** @param low, high the key */
void mr_siphash_begin(struct mr_siphash *hash, uint64_t low, uint64_t high);
/** More of what is hashed; how it is cut into pieces does not matter. */
void mr_siphash_add(struct mr_siphash *hash, struct mr_bytes bytes);
/** @param[out] ret_hash the first and the last 8 bytes of the result, little-endian */
void mr_siphash_end(struct mr_siphash *hash, uint64_t ret_hash[2]);

#endif
