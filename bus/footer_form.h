/* How a footer's bytes lie, for the two files that write and read them (bus/footer.h says what they
 * mean). Nothing outside bus/ includes this. */
#ifndef MR_BUS_FOOTER_FORM_H
#define MR_BUS_FOOTER_FORM_H

#include "bus/footer.h"
#include "core/hash.h"

#define FOOTER_PAYLOAD (MR_FOOTER_PAGE - 4u) /* what a page holds before its checksum */
#define FOOTER_HEAD_SECTIONS 128u            /* byte in the head; 12 bytes each */

/* Entries of a section never go across pages. */
#define FOOTER_FENCE_SIZE 4u
#define FOOTER_LIST_SIZE 20u    /* u32 subscription, u32 first place / 8, u32 page in POSTINGS, u16
                                   byte in it, u16 size, u32 postings */
#define FOOTER_ID_SIZE 8u       /* u32 hash, u32 place / 8 */
#define FOOTER_VALUE_HEAD 5u    /* u32 hash, u8 bytes that follow: varints of blocks */
#define FOOTER_POSTING_MAX 10u  /* two varints: gap / 8 to the one before, size / 8 */
#define FOOTER_VARINT_MAX 5u

/* A block of the Bloom filter is 504 bits, so that 64 of them are a page, and one of each of 64
 * segments, bit by bit beside each other, is one too. */
#define FOOTER_BLOOM_BITS 504u
#define FOOTER_BLOOM_SIZE 63u
#define FOOTER_BLOOM_PER_PAGE 64u
#define FOOTER_BLOOM_HASHES 6u
#define FOOTER_BITS_PER_ID 10u

extern const uint8_t mr__footer_magic[8];

static inline uint32_t footer_page_crc(const uint8_t *page, uint32_t number, uint64_t salt)
{
    uint8_t seed[12];
    mr_put_u64(seed, salt);
    mr_put_u32(seed + 8, number);
    return mr_crc32c(mr_crc32c(0, seed, sizeof(seed)), page, FOOTER_PAYLOAD);
}

/* Bit @p i of the six that stand for an id in its block. */
static inline uint32_t footer_bloom_bit(uint64_t id_hash, uint32_t i)
{
    uint64_t ten = mr_hash_u64(id_hash) >> (10 * i) & 1023;
    return (uint32_t)(ten * FOOTER_BLOOM_BITS >> 10);
}

static inline uint32_t footer_id_key(uint64_t id_hash)
{
    return (uint32_t)(id_hash >> 32); /* the low half chooses the block of the filter */
}

static inline uint32_t footer_value_key(enum mr_footer_value which, struct mr_bytes value)
{
    /* Even; those of footer_about_key() are odd, so that neither is taken for the other. */
    return (uint32_t)(mr_hash_u64(mr_hash(value.data, value.size) + (uint64_t)which) >> 32) & ~1u;
}

/* Records that concern an event are found by its offset, 64 neighbours together: what happens to
 * them mostly stands in the same few groups. */
#define FOOTER_ABOUT_BITS 48u
#define FOOTER_ABOUT_ALL ((1ull << FOOTER_ABOUT_BITS) - 1) /* those that concern every event */
#define FOOTER_BLOCKS_MAX (MR_SEGMENT_SIZE_MAX / MR_LOG_BLOCK)

static inline uint64_t footer_about(uint64_t offset)
{
    return offset >> 6 & FOOTER_ABOUT_ALL;
}

/* Which events a record concerns: every one, */
static inline bool footer_is_about_all(const struct mr_record *record)
{
    return record->kind == MR_RECORD_START || record->kind == MR_RECORD_OPERATOR;
}

/* or that of its offset and this one; 0: none. */
static inline uint64_t footer_about_other(const struct mr_record *record)
{
    return record->kind == MR_RECORD_EVENT  ? record->d  /* its cause */
           : record->kind == MR_RECORD_EDIT ? record->c /* what replaces it */
                                            : 0;
}

/* What the Bloom filter knows it by. */
static inline uint64_t footer_about_hash(uint64_t about)
{
    return mr_hash_u64(~about);
}

static inline uint32_t footer_about_key(uint64_t about)
{
    return (uint32_t)(footer_about_hash(about) >> 32) | 1u;
}

#endif
