#include "tests/support/test.h"

#include "core/clock.h"

#define S 1000000000ll

static void test_time_parse_valid_forms(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ns;
    } cases[] = {
        {"1970-01-01T00:00:00Z", 0},
        {"1970-01-01t00:00:00z", 0},
        {"1970-01-01T00:00:00+00:00", 0},
        {"1970-01-01T00:00:00-00:00", 0},
        {"1970-01-01T01:00:00+01:00", 0},
        {"1969-12-31T19:00:00-05:00", 0},
        {"1969-12-31T23:59:59Z", -S},
        {"1969-12-31T23:59:59.5Z", -S / 2},
        {"2001-09-09T01:46:40Z", 1000000000 * S},
        {"2024-02-29T12:00:00.123456789Z", 1709208000 * S + 123456789},
        {"2024-02-29T12:00:00.1Z", 1709208000 * S + 100000000},
        {"2024-02-29T12:00:00.1234567891234567891234Z", 1709208000 * S + 123456789},
        {"2024-02-29T12:00:00.000000000000001Z", 1709208000 * S},
        {"2000-02-29T00:00:00Z", 951782400 * S},
        {"2018-04-05T17:31:00Z", 1522949460 * S},
        {"2018-04-05T17:31:00+23:59", 1522949460 * S - (23 * 3600 + 59 * 60) * S},
        {"2016-12-31T23:59:60Z", 1483228799 * S},
        {"2017-01-01T00:59:60+01:00", 1483228799 * S},
        {"2016-12-31T18:59:60.5-05:00", 1483228799 * S + S / 2},
        {"2015-06-30T23:59:60Z", 1435708799 * S},
        {"2262-04-11T23:47:16.854775807Z", INT64_MAX},
        {"2262-04-11T23:47:16.999999999Z", INT64_MAX},
        {"2262-04-11T23:47:17Z", INT64_MAX},
        {"9999-12-31T23:59:59Z", INT64_MAX},
        {"0000-01-01T00:00:00Z", INT64_MIN},
        {"1600-01-01T00:00:00Z", INT64_MIN},
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(cases); i++) {
        int64_t ns = 42;
        if (!mr_time_parse(mr_bytes_of(cases[i].text), &ns) || ns != cases[i].ns) {
            fail_msg("%s is %lld instead of %lld", cases[i].text, (long long)ns,
                     (long long)cases[i].ns);
        }
        assert_true(mr_time_parse(mr_bytes_of(cases[i].text), NULL));
    }
}

static void test_time_parse_other_text_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "", "2024", "2024-02-29", "2024-02-29T12:00:00", "2024-02-29T12:00Z",
        "2024-02-29 12:00:00Z", "2024-02-29T12:00:00 Z", " 2024-02-29T12:00:00Z",
        "2024-02-29T12:00:00Z ", "2024-02-29T12:00:00Z\n", "2024-02-29T12:00:00.Z",
        "2024-02-29T12:00:00,5Z", "2023-02-29T12:00:00Z", "1900-02-29T12:00:00Z",
        "2024-04-31T12:00:00Z", "2024-00-10T12:00:00Z", "2024-13-10T12:00:00Z",
        "2024-01-00T12:00:00Z", "2024-01-32T12:00:00Z", "2024-01-01T24:00:00Z",
        "2024-01-01T12:60:00Z", "2024-01-01T12:00:61Z", "2024-01-01T12:00:60Z",
        "2016-12-31T23:59:60+01:00", "2016-12-31T22:59:60Z", "2024-01-01T12:00:00+24:00",
        "2024-01-01T12:00:00+01:60", "2024-01-01T12:00:00+0100", "2024-01-01T12:00:00+01",
        "2024-01-01T12:00:00+1:00", "2024-01-01T12:00:00UTC", "20240101T120000Z",
        "2024-1-1T12:00:00Z", "+2024-01-01T12:00:00Z", "-2024-01-01T12:00:00Z",
        "12024-01-01T12:00:00Z", "2024-01-01T1:00:00Z", "2024-01-01T12:00:0Z",
        "2024/01/01T12:00:00Z", "2024-01-01T12.00.00Z", "2024-01-01T12:00:00\xE2\x88\x92" "01:00",
        "Thu, 01 Jan 1970 00:00:00 GMT", "1709208000",
        /* bytes that differ from the wanted ones only by the case bit */
        "2024\r01\r01T12:00:00Z", "2024-01-01T12\x1A" "00\x1A" "00Z",
        "2024-01-01T12:00:00+01\x1A" "00", "2024-01-01T12:00:00\x0E" "5Z",
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(bad); i++) {
        int64_t ns = 42;
        if (mr_time_parse(mr_bytes_of(bad[i]), &ns)) {
            fail_msg("\"%s\" was accepted", bad[i]);
        }
        assert_int_equal(ns, 42);
    }
}

static void test_time_parse_every_cut_is_refused(void **state)
{
    (void)state;
    static const char text[] = "2024-02-29T12:00:00.123+01:30";
    for (size_t size = 0; size < sizeof(text) - 1; size++) {
        assert_false(mr_time_parse(mr_bytes(text, size), NULL));
    }
    assert_true(mr_time_parse(mr_bytes(text, sizeof(text) - 1), NULL));
}

static void test_time_format_is_utc_with_milliseconds(void **state)
{
    (void)state;
    static const struct {
        uint64_t ns;
        const char *text;
    } cases[] = {
        {0, "1970-01-01T00:00:00.000Z"},
        {999999, "1970-01-01T00:00:00.000Z"},
        {1000000, "1970-01-01T00:00:00.001Z"},
        {1709208000ull * MR_SECOND + 123456789, "2024-02-29T12:00:00.123Z"},
        {1735689599ull * MR_SECOND + 999999999, "2024-12-31T23:59:59.999Z"},
        {UINT64_MAX, "2554-07-21T23:34:33.709Z"},
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(cases); i++) {
        char text[MR_TIME_TEXT_SIZE];
        assert_string_equal(mr_time_format(cases[i].ns, text), cases[i].text);
    }
}

static void test_time_format_and_parse_agree(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 20000; i++) {
        uint64_t ns = i * 461168ull * MR_SECOND + i % 1000 * MR_MS;
        char text[MR_TIME_TEXT_SIZE];
        int64_t back;
        assert_true(mr_time_parse(mr_bytes_of(mr_time_format(ns, text)), &back));
        assert_int_equal(back, (int64_t)ns);
    }
}

static void test_civil_days_round_trip_over_centuries(void **state)
{
    (void)state;
    int64_t last_year = 0;
    unsigned last_month = 0;
    unsigned last_day = 0;
    for (int64_t days = -800000; days < 800000; days++) {
        int64_t year;
        unsigned month;
        unsigned day;
        mr_civil_from_days(days, &year, &month, &day);
        assert_int_equal(mr_days_from_civil(year, month, day), days);
        if (days > -800000) { /* the next day, or the first of the next month or year */
            bool next = (year == last_year && month == last_month && day == last_day + 1) ||
                        (year == last_year && month == last_month + 1 && day == 1) ||
                        (year == last_year + 1 && month == 1 && day == 1 && last_month == 12);
            assert_true(next);
        }
        last_year = year;
        last_month = month;
        last_day = day;
    }
    assert_int_equal(mr_days_from_civil(1970, 1, 1), 0);
    assert_int_equal(mr_days_from_civil(2000, 3, 1), 11017);
}

static void test_clock_now_goes_forward(void **state)
{
    (void)state;
    struct mr_now a = mr_clock_now();
    struct mr_now b = mr_clock_now();
    assert_true(a.mono_ns > 0);
    assert_true(b.mono_ns >= a.mono_ns);
    assert_true(mr_clock_mono_ns() >= b.mono_ns);
    assert_int_equal(a.boot_id, b.boot_id);
    assert_int_not_equal(a.boot_id, 0);
    assert_true(a.wall_ns > 1600000000ull * MR_SECOND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_time_parse_valid_forms),
        cmocka_unit_test(test_time_parse_other_text_is_refused),
        cmocka_unit_test(test_time_parse_every_cut_is_refused),
        cmocka_unit_test(test_time_format_is_utc_with_milliseconds),
        cmocka_unit_test(test_time_format_and_parse_agree),
        cmocka_unit_test(test_civil_days_round_trip_over_centuries),
        cmocka_unit_test(test_clock_now_goes_forward),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
