/* Single values: durations, sizes, rates, the nearest word. */
#include "tests/support/test.h"

#include "config/option.h"
#include "core/alloc.h"

#define MS 1000000ull
#define S 1000000000ull

static void check_duration(const char *text, uint64_t ns)
{
    uint64_t got = 12345;
    assert_true(mr_parse_duration(text, &got));
    assert_int_equal(got, ns);
}

static void check_no_duration(const char *text)
{
    uint64_t got = 12345;
    if (mr_parse_duration(text, &got)) {
        print_error("`%s` was taken for a duration\n", text);
        fail();
    }
    assert_int_equal(got, 12345);
}

static void test_parse_duration_single_units_are_nanoseconds(void **state)
{
    (void)state;
    check_duration("7ns", 7);
    check_duration("3us", 3000);
    check_duration("200ms", 200 * MS);
    check_duration("1s", S);
    check_duration("2m", 120 * S);
    check_duration("6h", 21600 * S);
    check_duration("7d", 604800 * S);
}

static void test_parse_duration_combined_units_add_up(void **state)
{
    (void)state;
    check_duration("1m30s", 90 * S);
    check_duration("1d2h3m4s5ms", (86400 + 7200 + 180 + 4) * S + 5 * MS);
    check_duration("1s500ms", 1500 * MS);
}

static void test_parse_duration_zero_needs_no_unit(void **state)
{
    (void)state;
    check_duration("0", 0);
    check_duration("0s", 0);
}

static void test_parse_duration_bad_text_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"",    "5",    "s",   "5 s",  "-5s",   "1.5s", "5S",   "1s1m",
                                      "1s1s", "1h30", "00x", "1ms1s", "5sec", "off", " 5s",  "5s "};
    for (size_t i = 0; i < MR_ARRAY_COUNT(bad); i++) {
        check_no_duration(bad[i]);
    }
}

static void test_parse_duration_overflow_is_refused(void **state)
{
    (void)state;
    check_no_duration("99999999999999999999s");
    check_no_duration("106752d");
    check_no_duration("18446744073709551616ns");
    check_no_duration("9223372036854775808ns");
    check_duration("9223372036854775807ns", INT64_MAX);
}

static void check_size(const char *text, uint64_t bytes)
{
    uint64_t got = 12345;
    assert_true(mr_parse_size(text, &got));
    assert_int_equal(got, bytes);
}

static void test_parse_size_units_binary_and_decimal(void **state)
{
    (void)state;
    check_size("0", 0);
    check_size("512", 512);
    check_size("512B", 512);
    check_size("64KiB", 65536);
    check_size("1MiB", 1048576);
    check_size("2GiB", 2147483648ull);
    check_size("1TiB", 1099511627776ull);
    check_size("1kB", 1000);
    check_size("1MB", 1000000);
    check_size("3GB", 3000000000ull);
    check_size("1TB", 1000000000000ull);
}

static void test_parse_size_bad_text_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"",     "KiB",  "1K",     "1M",   "1kib", "1KB",
                                      "-1",   "1.5MiB", "1 MiB", "1MiBs", "0x10",
                                      "9223372036854775808", "99999999TiB"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(bad); i++) {
        uint64_t got = 12345;
        assert_false(mr_parse_size(bad[i], &got));
        assert_int_equal(got, 12345);
    }
}

static void test_parse_rate_per_second_minute_hour(void **state)
{
    (void)state;
    struct mr_rate rate;
    assert_true(mr_parse_rate("100/s", &rate));
    assert_int_equal(rate.count, 100);
    assert_int_equal(rate.per_ns, S);
    assert_true(mr_parse_rate("5/m", &rate));
    assert_int_equal(rate.per_ns, 60 * S);
    assert_true(mr_parse_rate("1000/h", &rate));
    assert_int_equal(rate.count, 1000);
    assert_int_equal(rate.per_ns, 3600 * S);
}

static void test_parse_rate_bad_text_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "100", "100/", "/s", "0/s",
                                      "1/d", "1/sec", "-1/s", "1 /s"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(bad); i++) {
        struct mr_rate rate;
        assert_false(mr_parse_rate(bad[i], &rate));
    }
}

static void check_format(uint64_t ns, const char *text)
{
    struct mr_buf buf;
    mr_buf_init(&buf, 100);
    assert_int_equal(mr_format_duration(ns, &buf), MR_OK);
    char *got = mr_buf_take_text(&buf);
    assert_string_equal(got, text);
    uint64_t back;
    assert_true(mr_parse_duration(got, &back));
    assert_int_equal(back, ns);
    mr_free(got);
}

static void test_format_duration_reads_back(void **state)
{
    (void)state;
    check_format(0, "0");
    check_format(90 * S, "1m30s");
    check_format(200 * MS, "200ms");
    check_format(3600 * S, "1h");
    check_format(86400 * S + 1, "1d1ns");
    check_format(1500 * MS, "1s500ms");
    check_format(INT64_MAX, "106751d23h47m16s854ms775us807ns");
}

static const char *const words[] = {"filter", "source", "to", "timeout", "concurrency"};

static const char *nearest(const char *word)
{
    return mr_nearest_word(word, words, MR_ARRAY_COUNT(words));
}

static void test_nearest_word_misspellings_are_found(void **state)
{
    (void)state;
    assert_string_equal(nearest("fliter"), "filter");
    assert_string_equal(nearest("filters"), "filter");
    assert_string_equal(nearest("sorce"), "source");
    assert_string_equal(nearest("tiemout"), "timeout");
    assert_string_equal(nearest("concurency"), "concurrency");
    assert_string_equal(nearest("to_"), "to");
}

static void test_nearest_word_far_words_are_not_guessed(void **state)
{
    (void)state;
    assert_null(nearest("xyz"));
    assert_null(nearest("t"));
    assert_null(nearest(""));
    assert_null(nearest("completely-different"));
}

static void test_nearest_word_very_long_word_is_not_measured(void **state)
{
    (void)state;
    char word[200];
    memset(word, 'f', sizeof(word) - 1);
    word[sizeof(word) - 1] = '\0';
    assert_null(nearest(word));
    assert_null(mr_nearest_word("filter", words, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse_duration_single_units_are_nanoseconds),
        cmocka_unit_test(test_parse_duration_combined_units_add_up),
        cmocka_unit_test(test_parse_duration_zero_needs_no_unit),
        cmocka_unit_test(test_parse_duration_bad_text_is_refused),
        cmocka_unit_test(test_parse_duration_overflow_is_refused),
        cmocka_unit_test(test_parse_size_units_binary_and_decimal),
        cmocka_unit_test(test_parse_size_bad_text_is_refused),
        cmocka_unit_test(test_parse_rate_per_second_minute_hour),
        cmocka_unit_test(test_parse_rate_bad_text_is_refused),
        cmocka_unit_test(test_format_duration_reads_back),
        cmocka_unit_test(test_nearest_word_misspellings_are_found),
        cmocka_unit_test(test_nearest_word_far_words_are_not_guessed),
        cmocka_unit_test(test_nearest_word_very_long_word_is_not_measured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
