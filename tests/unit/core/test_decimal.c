#include "tests/support/test.h"

#include "core/attrs.h"
#include "core/decimal.h"

static bool multiple(const char *text, const char *divisor)
{
    assert_true(mr_decimal_is_divisor(mr_bytes_of(divisor)));
    return mr_decimal_is_multiple(mr_bytes_of(text), mr_bytes_of(divisor));
}

static void test_decimal_is_integer_whatever_the_spelling(void **state)
{
    (void)state;
    static const char *const good[] = {"0", "-0.0", "1", "1.0", "10e-1", "-12.50e3", "1e400",
                                       "12345678901234567890123"};
    static const char *const bad[] = {"0.5", "1e-1", "12.50", "-0.001", "x", "", "1.", "1e"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(good); i++) {
        assert_true(mr_decimal_is_integer(mr_bytes_of(good[i])));
    }
    for (size_t i = 0; i < MR_ARRAY_COUNT(bad); i++) {
        assert_false(mr_decimal_is_integer(mr_bytes_of(bad[i])));
    }
}

static void test_decimal_compare_is_exact(void **state)
{
    (void)state;
    assert_true(mr_decimal_compare(mr_bytes_of("9007199254740993"),
                                   mr_bytes_of("9007199254740992")) > 0);
    assert_true(mr_decimal_compare(mr_bytes_of("0.1"), mr_bytes_of("0.10000000000000000001")) < 0);
    assert_true(mr_decimal_compare(mr_bytes_of("100"), mr_bytes_of("1E2")) == 0);
    assert_true(mr_decimal_compare(mr_bytes_of("-1"), mr_bytes_of("0")) < 0);
}

static void test_decimal_hash_is_one_for_one_number(void **state)
{
    (void)state;
    uint64_t h = mr_decimal_hash(mr_bytes_of("120"));
    assert_int_equal(h, mr_decimal_hash(mr_bytes_of("1.2e2")));
    assert_int_equal(h, mr_decimal_hash(mr_bytes_of("120.00")));
    assert_int_not_equal(h, mr_decimal_hash(mr_bytes_of("-120")));
    assert_int_not_equal(h, mr_decimal_hash(mr_bytes_of("12")));
    assert_int_equal(mr_decimal_hash(mr_bytes_of("0")), mr_decimal_hash(mr_bytes_of("-0e5")));
}

static void test_decimal_count_is_bounded(void **state)
{
    (void)state;
    uint32_t count = 7;
    assert_true(mr_decimal_count(mr_bytes_of("20e-1"), &count));
    assert_int_equal(count, 2);
    assert_true(mr_decimal_count(mr_bytes_of("0"), &count));
    assert_int_equal(count, 0);
    assert_true(mr_decimal_count(mr_bytes_of("1e300000000"), &count));
    assert_int_equal(count, UINT32_MAX);
    assert_false(mr_decimal_count(mr_bytes_of("-1"), &count));
    assert_false(mr_decimal_count(mr_bytes_of("1.5"), &count));
}

static void test_decimal_is_multiple_without_rounding(void **state)
{
    (void)state;
    assert_true(multiple("0.3", "0.1"));
    assert_true(multiple("4.5", "1.5"));
    assert_true(multiple("-7", "7"));
    assert_true(multiple("0", "0.01"));
    assert_false(multiple("1e308", "0.123456789"));
    assert_true(multiple("12345678901234567890", "10"));
    assert_true(multiple("0.0075", "0.0001"));
    assert_false(multiple("0.00751", "0.0001"));
    assert_false(multiple("12345678901234567891", "10"));
    assert_false(multiple("35", "1.5"));
    assert_false(multiple("1e999999999", "7"));
    assert_false(mr_decimal_is_divisor(mr_bytes_of("0")));
    assert_false(mr_decimal_is_divisor(mr_bytes_of("-1")));
    assert_false(mr_decimal_is_divisor(mr_bytes_of("1.23456789012345678")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decimal_is_integer_whatever_the_spelling),
        cmocka_unit_test(test_decimal_compare_is_exact),
        cmocka_unit_test(test_decimal_hash_is_one_for_one_number),
        cmocka_unit_test(test_decimal_count_is_bounded),
        cmocka_unit_test(test_decimal_is_multiple_without_rounding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
