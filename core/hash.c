#include "core/hash.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

uint64_t mr_hash_u64(uint64_t value)
{
    value ^= value >> 33;
    value *= 0xff51afd7ed558ccdull;
    value ^= value >> 33;
    value *= 0xc4ceb9fe1a85ec53ull;
    value ^= value >> 33;
    return value;
}

uint64_t mr_hash_end(uint64_t h)
{
    h = mr_hash_u64(h);
    return h == 0 ? 1 : h;
}

uint64_t mr_hash(const void *data, size_t size)
{
    const uint8_t *p = data;
    uint64_t h = MR_HASH_BEGIN;
    for (size_t i = 0; i < size; i++) {
        h = mr_hash_step(h, p[i]);
    }
    return mr_hash_end(h);
}

static uint32_t crc_table[8][256];

static void make_crc_table(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++) {
            c = (c & 1) != 0 ? (c >> 1) ^ 0x82f63b78u : c >> 1;
        }
        crc_table[0][i] = c;
    }
    for (uint32_t i = 0; i < 256; i++) {
        for (int k = 1; k < 8; k++) {
            uint32_t before = crc_table[k - 1][i];
            crc_table[k][i] = crc_table[0][before & 255] ^ (before >> 8);
        }
    }
}

static uint32_t crc_portable(uint32_t c, const uint8_t *p, size_t size)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, make_crc_table); /* cannot fail with a valid control */
    while (size >= 8) {
        uint32_t low = c ^ ((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
                            (uint32_t)p[3] << 24);
        c = crc_table[7][low & 255] ^ crc_table[6][low >> 8 & 255] ^
            crc_table[5][low >> 16 & 255] ^ crc_table[4][low >> 24] ^ crc_table[3][p[4]] ^
            crc_table[2][p[5]] ^ crc_table[1][p[6]] ^ crc_table[0][p[7]];
        p += 8;
        size -= 8;
    }
    while (size-- > 0) {
        c = crc_table[0][(c ^ *p++) & 255] ^ (c >> 8);
    }
    return c;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc_sse42(uint32_t c, const uint8_t *p,
                                                            size_t size)
{
    uint64_t wide = c;
    while (size >= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        wide = __builtin_ia32_crc32di(wide, word);
        p += 8;
        size -= 8;
    }
    c = (uint32_t)wide;
    if (size >= 4) {
        uint32_t word;
        memcpy(&word, p, 4);
        c = __builtin_ia32_crc32si(c, word);
        p += 4;
        size -= 4;
    }
    while (size-- > 0) {
        c = __builtin_ia32_crc32qi(c, *p++);
    }
    return c;
}
#endif

uint32_t mr_crc32c(uint32_t crc, const void *data, size_t size)
{
    uint32_t c = ~crc;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2")) {
        return ~crc_sse42(c, data, size);
    }
#endif
    return ~crc_portable(c, data, size);
}
