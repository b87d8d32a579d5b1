/* The 128-bit SipHash against the reference's results. */
#include "../../support/test.h"

#include "core/siphash.h"

#define KEY_LOW 0x0706050403020100ull /* bytes 00 01 .. 0f */
#define KEY_HIGH 0x0f0e0d0c0b0a0908ull

static const struct {
    size_t size; /* of the message 00 01 02 ... */
    uint8_t result[16];
} vectors[] = {
    {0, {0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6, 0x6d, 0xf6, 0x72, 0x14, 0xc7, 0x55, 0x02,
         0x93}},
    {1, {0xda, 0x87, 0xc1, 0xd8, 0x6b, 0x99, 0xaf, 0x44, 0x34, 0x76, 0x59, 0x11, 0x9b, 0x22, 0xfc,
         0x45}},
    {7, {0xa1, 0xf1, 0xeb, 0xbe, 0xd8, 0xdb, 0xc1, 0x53, 0xc0, 0xb8, 0x4a, 0xa6, 0x1f, 0xf0, 0x82,
         0x39}},
    {8, {0x3b, 0x62, 0xa9, 0xba, 0x62, 0x58, 0xf5, 0x61, 0x0f, 0x83, 0xe2, 0x64, 0xf3, 0x14, 0x97,
         0xb4}},
    {15, {0x54, 0x93, 0xe9, 0x99, 0x33, 0xb0, 0xa8, 0x11, 0x7e, 0x08, 0xec, 0x0f, 0x97, 0xcf, 0xc3,
          0xd9}},
    {63, {0x51, 0x50, 0xd1, 0x77, 0x2f, 0x50, 0x83, 0x4a, 0x50, 0x3e, 0x06, 0x9a, 0x97, 0x3f, 0xbd,
          0x7c}},
};

static void hash_in_pieces(size_t size, size_t piece, uint8_t result[16])
{
    uint8_t message[64];
    for (size_t i = 0; i < sizeof(message); i++) {
        message[i] = (uint8_t)i;
    }
    struct mr_siphash hash;
    uint64_t words[2];
    mr_siphash_begin(&hash, KEY_LOW, KEY_HIGH);
    for (size_t at = 0; at < size; at += piece) {
        mr_siphash_add(&hash, mr_bytes(message + at, size - at < piece ? size - at : piece));
    }
    mr_siphash_add(&hash, mr_bytes(NULL, 0));
    mr_siphash_end(&hash, words);
    mr_put_u64(result, words[0]);
    mr_put_u64(result + 8, words[1]);
}

static void test_siphash_gives_the_reference_results_in_any_pieces(void **state)
{
    (void)state;
    for (size_t i = 0; i < MR_ARRAY_COUNT(vectors); i++) {
        for (size_t piece = 1; piece <= 64; piece++) {
            uint8_t result[16];
            hash_in_pieces(vectors[i].size, piece, result);
            assert_memory_equal(result, vectors[i].result, 16);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_siphash_gives_the_reference_results_in_any_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
