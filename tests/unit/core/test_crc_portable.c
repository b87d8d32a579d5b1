/* The checksum without the processor's instruction, which this machine would never run: the
 * module is compiled into the test under other names, and its static function called. */
#include "tests/support/test.h"

#define mr_hash portable_mr_hash
#define mr_hash_u64 portable_mr_hash_u64
#define mr_hash_end portable_mr_hash_end
#define mr_crc32c portable_mr_crc32c
#include "core/hash.c"
#undef mr_crc32c

uint32_t mr_crc32c(uint32_t crc, const void *data, size_t size);

static void test_crc_portable_known_answer(void **state)
{
    (void)state;
    assert_int_equal(~crc_portable(~0u, (const uint8_t *)"123456789", 9), 0xe3069283u);
}

static void test_crc_portable_equals_the_one_in_use(void **state)
{
    (void)state;
    uint8_t data[4096];
    uint32_t x = 1;
    for (size_t i = 0; i < sizeof(data); i++) {
        x = x * 1664525u + 1013904223u;
        data[i] = (uint8_t)(x >> 24);
    }
    for (size_t from = 0; from < 9; from++) {
        for (size_t size = 0; size < 100; size++) {
            assert_int_equal(~crc_portable(~x, data + from, size),
                             mr_crc32c(x, data + from, size));
            x = x * 1664525u + 1013904223u;
        }
    }
    assert_int_equal(~crc_portable(~x, data, sizeof(data)), mr_crc32c(x, data, sizeof(data)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc_portable_known_answer),
        cmocka_unit_test(test_crc_portable_equals_the_one_in_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
