#include "tests/support/test.h"

#include "core/attrs.h"
#include "core/hash.h"
#include "core/rng.h"

static void test_hash_known_answers_never_change(void **state)
{
    (void)state;
    /* Lane keys are stored in logs: a change of these breaks them. */
    assert_true(mr_hash("", 0) == 0xefd01f60ba992926ull);
    assert_true(mr_hash(NULL, 0) == 0xefd01f60ba992926ull);
    assert_true(mr_hash("a", 1) == 0x82a2a958a9bece5bull);
    assert_true(mr_hash("order-7", 7) == 0x3962df2f6dfa894aull);
    assert_true(mr_hash("\xC3\xA4", 2) == 0xd496e8b7a31c2b2eull);
    assert_true(mr_hash_u64(1) == 0xb456bcfc34c2cb2cull);
    assert_true(mr_hash_u64(0) == 0);
    assert_true(mr_hash_end(0) == 1);
}

static void test_hash_by_steps_equals_hash(void **state)
{
    (void)state;
    static const char text[] = "the same bytes, one by one";
    uint64_t h = MR_HASH_BEGIN;
    for (size_t size = 0; size < sizeof(text); size++) {
        assert_true(mr_hash_end(h) == mr_hash(text, size));
        h = mr_hash_step(h, (uint8_t)text[size]);
    }
}

static void test_hash_spreads_over_small_tables(void **state)
{
    (void)state;
    unsigned buckets[64] = {0};
    for (uint32_t i = 0; i < 64000; i++) {
        char key[16];
        int n = snprintf(key, sizeof(key), "device/%u", i);
        buckets[mr_hash(key, (size_t)n) % 64]++;
    }
    for (size_t i = 0; i < MR_ARRAY_COUNT(buckets); i++) {
        assert_in_range(buckets[i], 800, 1200);
    }
}

static uint32_t crc_by_bits(uint32_t crc, const uint8_t *data, size_t size)
{
    uint32_t c = ~crc;
    for (size_t i = 0; i < size; i++) {
        c ^= data[i];
        for (int k = 0; k < 8; k++) {
            c = (c & 1) != 0 ? (c >> 1) ^ 0x82f63b78u : c >> 1;
        }
    }
    return ~c;
}

static void test_crc32c_known_answers(void **state)
{
    (void)state;
    uint8_t block[32];
    assert_int_equal(mr_crc32c(0, "123456789", 9), 0xe3069283u);
    assert_int_equal(mr_crc32c(0, "", 0), 0);
    /* RFC 3720 B.4 */
    memset(block, 0, sizeof(block));
    assert_int_equal(mr_crc32c(0, block, sizeof(block)), 0x8a9136aau);
    memset(block, 0xFF, sizeof(block));
    assert_int_equal(mr_crc32c(0, block, sizeof(block)), 0x62a8ab43u);
    for (size_t i = 0; i < sizeof(block); i++) {
        block[i] = (uint8_t)i;
    }
    assert_int_equal(mr_crc32c(0, block, sizeof(block)), 0x46dd794eu);
}

static void test_crc32c_all_sizes_and_alignments_equal_definition(void **state)
{
    (void)state;
    uint8_t data[600];
    struct mr_rng rng;
    mr_rng_init(&rng, 32);
    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)mr_rng_next(&rng);
    }
    for (size_t from = 0; from < 9; from++) {
        for (size_t size = 0; size < 200; size++) {
            uint32_t seed = (uint32_t)mr_rng_next(&rng);
            assert_int_equal(mr_crc32c(seed, data + from, size),
                             crc_by_bits(seed, data + from, size));
        }
    }
    assert_int_equal(mr_crc32c(0, data, sizeof(data)), crc_by_bits(0, data, sizeof(data)));
}

static void test_crc32c_in_pieces_equals_whole(void **state)
{
    (void)state;
    static const char text[] = "a checksum continued over pieces is that of the whole text";
    uint32_t whole = mr_crc32c(0, text, sizeof(text));
    for (size_t cut = 0; cut <= sizeof(text); cut++) {
        uint32_t part = mr_crc32c(0, text, cut);
        assert_int_equal(mr_crc32c(part, text + cut, sizeof(text) - cut), whole);
    }
}

static void test_crc32c_every_flipped_bit_is_seen(void **state)
{
    (void)state;
    uint8_t data[64] = {1, 2, 3};
    uint32_t good = mr_crc32c(0, data, sizeof(data));
    for (size_t bit = 0; bit < sizeof(data) * 8; bit++) {
        data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        assert_int_not_equal(mr_crc32c(0, data, sizeof(data)), good);
        data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hash_known_answers_never_change),
        cmocka_unit_test(test_hash_by_steps_equals_hash),
        cmocka_unit_test(test_hash_spreads_over_small_tables),
        cmocka_unit_test(test_crc32c_known_answers),
        cmocka_unit_test(test_crc32c_all_sizes_and_alignments_equal_definition),
        cmocka_unit_test(test_crc32c_in_pieces_equals_whole),
        cmocka_unit_test(test_crc32c_every_flipped_bit_is_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
