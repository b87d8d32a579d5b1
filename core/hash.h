/* A 64-bit hash of bytes whose values are stored in the log (lane keys, configuration hashes), so
 * it never changes: FNV-1a 64, then the finaliser of MurmurHash3 (public domain constants). It is
 * no defence against chosen collisions; a collision of lane keys only merges two lanes. */
#ifndef MR_CORE_HASH_H
#define MR_CORE_HASH_H

#include <stddef.h>
#include <stdint.h>

/** Never 0, so that 0 can stand for "no key". @thread any */
uint64_t mr_hash(const void *data, size_t size);
/** Mixes one 64-bit number; for tables keyed by numbers. */
uint64_t mr_hash_u64(uint64_t value);

/* mr_hash() byte by byte, for text that does not lie in one piece: begin, step…, end. */
#define MR_HASH_BEGIN 0xcbf29ce484222325ull
static inline uint64_t mr_hash_step(uint64_t h, uint8_t byte)
{
    return (h ^ byte) * 0x100000001b3ull;
}
uint64_t mr_hash_end(uint64_t h);

/** CRC-32C (Castagnoli, RFC 3720) of @p data, continued from @p crc (0 to begin); uses the
 * processor's instruction when it has one. @thread any */
uint32_t mr_crc32c(uint32_t crc, const void *data, size_t size);

#endif
