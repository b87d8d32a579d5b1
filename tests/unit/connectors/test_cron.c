#include "tests/support/test.h"

#include <unistd.h>

#include "connectors/timer/cron.h"
#include "core/clock.h"
#include "core/rng.h"

static struct mr_zone *load(const char *name)
{
    struct mr_zone *zone = NULL;
    struct mr_problem problem = {.text = ""};
    if (mr_zone_load(name, &zone, &problem) != MR_OK) {
        print_message("skipped: %s\n", problem.text);
        skip();
    }
    return zone;
}

static int64_t seconds(const char *text)
{
    int64_t ns = 0;
    if (!mr_time_parse(mr_bytes_of(text), &ns)) {
        fail_msg("bad time in the table: %s", text);
    }
    return ns / 1000000000;
}

static const char *text_of(int64_t s)
{
    static char text[MR_TIME_TEXT_SIZE];
    mr_time_format((uint64_t)s * MR_SECOND, text);
    memcpy(text + 19, "Z", 2); /* without the milliseconds */
    return text;
}

/* --- next ------------------------------------------------------------------------------------- */

static const struct {
    const char *cron;
    const char *zone;
    const char *after;
    const char *next;
} next_cases[] = {
    /* plain fields */
    {"* * * * *", "UTC", "2026-11-21T02:00:00Z", "2026-11-21T02:01:00Z"},
    {"* * * * *", "UTC", "2026-11-21T02:00:59Z", "2026-11-21T02:01:00Z"},
    {"* * * * *", "UTC", "2026-12-31T23:59:59Z", "2027-01-01T00:00:00Z"},
    {"0 2 * * *", "UTC", "2026-11-21T01:59:59Z", "2026-11-21T02:00:00Z"},
    {"0 2 * * *", "UTC", "2026-11-21T02:00:00Z", "2026-11-22T02:00:00Z"},
    {"30 4 * * *", "UTC", "2026-02-28T12:00:00Z", "2026-03-01T04:30:00Z"},
    {"30 4 * * *", "UTC", "2028-02-28T12:00:00Z", "2028-02-29T04:30:00Z"},
    {"*/15 * * * *", "UTC", "2026-11-21T02:44:00Z", "2026-11-21T02:45:00Z"},
    {"*/15 * * * *", "UTC", "2026-11-21T02:45:00Z", "2026-11-21T03:00:00Z"},
    {"5/20 * * * *", "UTC", "2026-11-21T02:06:00Z", "2026-11-21T02:25:00Z"},
    {"5/20 * * * *", "UTC", "2026-11-21T02:45:00Z", "2026-11-21T03:05:00Z"},
    {"10-20/5 * * * *", "UTC", "2026-11-21T02:15:00Z", "2026-11-21T02:20:00Z"},
    {"10-20/5 * * * *", "UTC", "2026-11-21T02:20:00Z", "2026-11-21T03:10:00Z"},
    {"0,30 8-9 * * *", "UTC", "2026-11-21T08:30:00Z", "2026-11-21T09:00:00Z"},
    {"0,30 8-9 * * *", "UTC", "2026-11-21T09:30:00Z", "2026-11-22T08:00:00Z"},
    {"59 23 31 12 *", "UTC", "2026-01-01T00:00:00Z", "2026-12-31T23:59:00Z"},
    {"0 0 1 * *", "UTC", "2026-01-31T00:00:00Z", "2026-02-01T00:00:00Z"},
    {"0 0 31 * *", "UTC", "2026-01-31T00:00:00Z", "2026-03-31T00:00:00Z"},
    {"0 0 30 * *", "UTC", "2026-01-30T00:00:00Z", "2026-03-30T00:00:00Z"},
    {"0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"},
    {"0 0 29 2 *", "UTC", "2096-02-29T00:00:00Z", "2104-02-29T00:00:00Z"},
    /* days of the week; 2026-11-21 is a Saturday */
    {"0 0 * * 0", "UTC", "2026-11-21T00:00:00Z", "2026-11-22T00:00:00Z"},
    {"0 0 * * 7", "UTC", "2026-11-21T00:00:00Z", "2026-11-22T00:00:00Z"},
    {"0 0 * * sun", "UTC", "2026-11-21T00:00:00Z", "2026-11-22T00:00:00Z"},
    {"0 0 * * MON", "UTC", "2026-11-21T00:00:00Z", "2026-11-23T00:00:00Z"},
    {"0 0 * * mon-fri", "UTC", "2026-11-21T00:00:00Z", "2026-11-23T00:00:00Z"},
    {"0 0 * * 1-5", "UTC", "2026-11-27T00:00:00Z", "2026-11-30T00:00:00Z"},
    {"0 0 * * fri-sun", "UTC", "2026-11-20T00:00:00Z", "2026-11-21T00:00:00Z"},
    {"0 0 * * fri-sun", "UTC", "2026-11-22T00:00:00Z", "2026-11-27T00:00:00Z"},
    {"0 0 * * 5-7", "UTC", "2026-11-21T00:00:00Z", "2026-11-22T00:00:00Z"},
    {"0 0 * * 6,0", "UTC", "2026-11-22T00:00:00Z", "2026-11-28T00:00:00Z"},
    {"0 0 * * */2", "UTC", "2026-11-22T00:00:00Z", "2026-11-24T00:00:00Z"},
    {"0 0 * * ?", "UTC", "2026-11-22T00:00:00Z", "2026-11-23T00:00:00Z"},
    /* both days restricted: either */
    {"0 0 13 * 5", "UTC", "2026-11-12T00:00:00Z", "2026-11-13T00:00:00Z"},
    {"0 0 13 * 5", "UTC", "2026-11-13T00:00:00Z", "2026-11-20T00:00:00Z"},
    {"0 0 1 * sun", "UTC", "2026-11-29T00:00:00Z", "2026-12-01T00:00:00Z"},
    /* a star with a step still narrows: both */
    {"0 0 */2 * 1", "UTC", "2026-11-21T00:00:00Z", "2026-11-23T00:00:00Z"},
    {"0 0 */2 * 1", "UTC", "2026-11-23T00:00:00Z", "2026-12-07T00:00:00Z"},
    /* months and nicknames */
    {"0 0 1 jan,jul *", "UTC", "2026-02-01T00:00:00Z", "2026-07-01T00:00:00Z"},
    {"0 0 1 Nov-Dec *", "UTC", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"},
    {"0 0 1 */3 *", "UTC", "2026-01-01T00:00:00Z", "2026-04-01T00:00:00Z"},
    {"@hourly", "UTC", "2026-11-21T02:00:00Z", "2026-11-21T03:00:00Z"},
    {"@daily", "UTC", "2026-11-21T02:00:00Z", "2026-11-22T00:00:00Z"},
    {"@midnight", "UTC", "2026-11-21T02:00:00Z", "2026-11-22T00:00:00Z"},
    {"@weekly", "UTC", "2026-11-21T02:00:00Z", "2026-11-22T00:00:00Z"},
    {"@monthly", "UTC", "2026-11-21T02:00:00Z", "2026-12-01T00:00:00Z"},
    {"@yearly", "UTC", "2026-11-21T02:00:00Z", "2027-01-01T00:00:00Z"},
    {"@ANNUALLY", "UTC", "2026-11-21T02:00:00Z", "2027-01-01T00:00:00Z"},
    {"  0\t2  * * *  ", "UTC", "2026-11-21T01:00:00Z", "2026-11-21T02:00:00Z"},
    /* before 1970 */
    {"0 0 * * *", "UTC", "1969-12-30T12:00:00Z", "1969-12-31T00:00:00Z"},
    {"0 0 * * thu", "UTC", "1969-12-26T12:00:00Z", "1970-01-01T00:00:00Z"},
    /* zones without summer time */
    {"0 2 * * *", "Asia/Shanghai", "2026-11-20T12:00:00Z", "2026-11-20T18:00:00Z"},
    {"0 2 * * *", "Asia/Kathmandu", "2026-11-20T12:00:00Z", "2026-11-20T20:15:00Z"},
    {"0 0 1 * *", "Asia/Tokyo", "2026-11-20T12:00:00Z", "2026-11-30T15:00:00Z"},
    /* Berlin, clocks forward on 2026-03-29 at 01:00Z: 02:00-03:00 does not exist */
    {"30 1 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T00:30:00Z"},
    {"0 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T01:00:00Z"},
    {"30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T01:00:00Z"},
    {"30 2 * * *", "Europe/Berlin", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"},
    {"0 3 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T01:00:00Z"},
    {"*/15 * * * *", "Europe/Berlin", "2026-03-29T00:45:00Z", "2026-03-29T01:00:00Z"},
    {"*/15 * * * *", "Europe/Berlin", "2026-03-29T01:00:00Z", "2026-03-29T01:15:00Z"},
    {"30 2 29 3 *", "Europe/Berlin", "2026-01-01T00:00:00Z", "2026-03-29T01:00:00Z"},
    {"30 2 29 3 *", "Europe/Berlin", "2026-03-29T01:00:00Z", "2027-03-29T00:30:00Z"},
    /* back on 2026-10-25 at 01:00Z: 02:00-03:00 comes twice, the first counts */
    {"30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z"},
    {"30 2 * * *", "Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"},
    {"30 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", "2026-10-26T01:30:00Z"},
    {"0 3 * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", "2026-10-25T02:00:00Z"},
    {"0 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", "2026-10-25T02:00:00Z"},
    {"59 1 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-24T23:59:00Z"},
    /* New York, beyond what the file lists: by the footer's rule */
    {"30 2 * * *", "America/New_York", "2050-03-12T12:00:00Z", "2050-03-13T07:00:00Z"},
    {"0 12 * * *", "America/New_York", "2050-07-01T00:00:00Z", "2050-07-01T16:00:00Z"},
    {"0 12 * * *", "America/New_York", "2050-12-01T00:00:00Z", "2050-12-01T17:00:00Z"},
    {"30 1 6 11 *", "America/New_York", "2050-01-01T00:00:00Z", "2050-11-06T05:30:00Z"},
    /* half an hour of summer time, in the south */
    {"15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00:00Z", "2026-10-03T15:30:00Z"},
    {"45 1 * * *", "Australia/Lord_Howe", "2026-04-04T00:00:00Z", "2026-04-04T14:45:00Z"},
    {"45 1 * * *", "Australia/Lord_Howe", "2026-04-04T14:45:00Z", "2026-04-05T15:15:00Z"},
    /* winter time is the exception there */
    {"30 1 * * *", "Europe/Dublin", "2026-03-28T12:00:00Z", "2026-03-29T01:00:00Z"},
    /* a day that was left out altogether */
    {"0 12 * * *", "Pacific/Apia", "2011-12-29T23:00:00Z", "2011-12-30T10:00:00Z"},
    {"0 12 * * *", "Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-30T22:00:00Z"},
};

static void test_cron_next_table_gives_the_instants(void **state)
{
    (void)state;
    if (access("/usr/share/zoneinfo/Europe/Berlin", R_OK) != 0) {
        print_message("skipped: no tzdata here\n");
        skip();
    }
    for (size_t i = 0; i < sizeof(next_cases) / sizeof(next_cases[0]); i++) {
        struct mr_cron cron;
        struct mr_problem problem = {.text = ""};
        if (mr_cron_parse(next_cases[i].cron, &cron, &problem) != MR_OK) {
            fail_msg("%s: %s", next_cases[i].cron, problem.text);
        }
        struct mr_zone *zone = load(next_cases[i].zone);
        int64_t next = 0;
        bool found = mr_cron_next(&cron, zone, seconds(next_cases[i].after), &next);
        if (!found || next != seconds(next_cases[i].next)) {
            fail_msg("\"%s\" in %s after %s: want %s, got %s", next_cases[i].cron,
                     next_cases[i].zone, next_cases[i].after, next_cases[i].next,
                     found ? text_of(next) : "nothing");
        }
        mr_zone_destroy(zone);
    }
}

/* The rule, said the slow way: the first minute whose reading on the wall matches and was not
 * shown before; right at the end of a gap also what the gap swallowed. */
static bool reading_matches(const struct mr_cron *cron, int64_t local_s)
{
    int64_t year;
    unsigned month;
    unsigned day;
    int64_t days = local_s / 86400;
    mr_civil_from_days(days, &year, &month, &day);
    unsigned weekday = (unsigned)((days + 4) % 7);
    unsigned minute = (unsigned)(local_s / 60 % 1440);
    bool by_day = (cron->days >> day & 1) != 0;
    bool by_weekday = (cron->weekdays >> weekday & 1) != 0;
    bool on_day = cron->any_day || cron->any_weekday ? by_day && by_weekday : by_day || by_weekday;
    return on_day && (cron->months >> month & 1) != 0 && (cron->hours >> (minute / 60) & 1) != 0 &&
           (cron->minutes >> (minute % 60) & 1) != 0;
}

static int64_t next_slowly(const struct mr_cron *cron, const struct mr_zone *zone, int64_t after_s,
                           int64_t until_s)
{
    int64_t shown = INT64_MIN; /* the latest reading so far */
    for (int64_t t = after_s / 60 * 60 - 86400; t <= until_s; t += 60) {
        int64_t local = t + mr_zone_offset(zone, t);
        for (int64_t l = shown == INT64_MIN ? local : shown + 60; l <= local; l += 60) {
            if (reading_matches(cron, l) && t > after_s) {
                return t;
            }
        }
        shown = local > shown ? local : shown;
    }
    return -1;
}

static void test_cron_next_random_agrees_with_the_slow_way(void **state)
{
    (void)state;
    static const char *const names[] = {"UTC", "Europe/Berlin", "America/New_York",
                                        "Australia/Lord_Howe", "Africa/Casablanca"};
    static const char *const crons[] = {"*/7 1-3 * * *", "30 2 * * *",  "0 0 * * *",
                                        "15,45 */5 * * 1-5", "59 1 25-31 * *", "1 * 8 * sun",
                                        "*/20 2 */3 * *"};
    struct mr_rng rng;
    uint64_t seed = mr_rng_entropy();
    mr_rng_init(&rng, seed);
    for (int i = 0; i < 300; i++) {
        struct mr_zone *zone = load(names[mr_rng_below(&rng, 5)]);
        struct mr_cron cron;
        const char *text = crons[mr_rng_below(&rng, 7)];
        assert_int_equal(mr_cron_parse(text, &cron, NULL), MR_OK);
        /* Around a change of the clocks in every other run. */
        int64_t after = 1600000000 + (int64_t)mr_rng_below(&rng, 600000000);
        if (i % 2 == 0 && mr_zone_next_change(zone, after, &after)) {
            after += (int64_t)mr_rng_below(&rng, 14400) - 7200;
        }
        int64_t want = next_slowly(&cron, zone, after, after + 9 * 86400);
        int64_t got = -1;
        assert_true(mr_cron_next(&cron, zone, after, &got));
        if (want >= 0 ? got != want : got <= after + 9 * 86400) {
            fail_msg("seed %llu, run %d: \"%s\" after %lld: want %lld, got %lld",
                     (unsigned long long)seed, i, text, (long long)after, (long long)want,
                     (long long)got);
        }
        mr_zone_destroy(zone);
    }
}

static void test_cron_next_always_moves_forward(void **state)
{
    (void)state;
    struct mr_zone *zone = load("Europe/Berlin");
    struct mr_cron cron;
    assert_int_equal(mr_cron_parse("*/10 * * * *", &cron, NULL), MR_OK);
    int64_t at = seconds("2026-03-28T00:00:00Z");
    int count = 0;
    for (int64_t next; at < seconds("2026-03-30T00:00:00Z"); at = next, count++) {
        assert_true(mr_cron_next(&cron, zone, at, &next));
        assert_true(next > at);
        assert_true(next - at <= 600);
    }
    assert_int_equal(count, 2 * 144);
    mr_zone_destroy(zone);
}

/* --- parse ------------------------------------------------------------------------------------ */

static void test_cron_parse_bad_text_is_refused_with_reason(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",            "*",           "* * * *",     "* * * * * *", "60 * * * *",  "* 24 * * *",
        "* * 0 * *",   "* * 32 * *",  "* * * 0 *",   "* * * 13 *",  "* * * * 8",   "-1 * * * *",
        "a * * * *",   "1- * * * *",  "-5 * * * *",  "5-1 * * * *", "1,,2 * * * *", ", * * * *",
        "*/0 * * * *", "*/ * * * *",  "1/2/3 * * * *", "1.5 * * * *", "* * * foo *", "* * * * foo",
        "1-2-3 * * * *", "** * * * *", "@reboot",    "@",           "@every 5m",   "* * * janu *",
        "0 0 30 2 *",  "0 0 31 feb *", "0 0 31 4,6,9,11 *", "* * * * mon-", "9999 * * * *",
        "* * * * 1#2", "0 0 L * *",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct mr_cron cron;
        struct mr_problem problem = {.text = ""};
        if (mr_cron_parse(bad[i], &cron, &problem) != MR_E_INVALID || problem.text[0] == '\0') {
            fail_msg("\"%s\" was taken", bad[i]);
        }
    }
    char huge[1000];
    memset(huge, '1', sizeof(huge) - 1);
    huge[sizeof(huge) - 1] = '\0';
    struct mr_cron cron;
    assert_int_equal(mr_cron_parse(huge, &cron, NULL), MR_E_INVALID);
}

static void test_cron_parse_fields_set_their_bits(void **state)
{
    (void)state;
    struct mr_cron cron;
    assert_int_equal(mr_cron_parse("0-59/30 0,12 1,31 feb-mar tue", &cron, NULL), MR_OK);
    assert_true(cron.minutes == (1ull | 1ull << 30));
    assert_true(cron.hours == (1u | 1u << 12));
    assert_true(cron.days == (1u << 1 | 1u << 31));
    assert_true(cron.months == (1u << 2 | 1u << 3));
    assert_true(cron.weekdays == 1u << 2);
    assert_false(cron.any_day);
    assert_false(cron.any_weekday);
    assert_int_equal(mr_cron_parse("* * * * *", &cron, NULL), MR_OK);
    assert_true(cron.weekdays == 0x7f);
    assert_true(cron.any_day && cron.any_weekday);
}

static void test_cron_parse_day_that_comes_with_weekday_is_taken(void **state)
{
    (void)state;
    struct mr_cron cron;
    assert_int_equal(mr_cron_parse("0 0 31 2 1", &cron, NULL), MR_OK); /* Mondays of February */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cron_next_table_gives_the_instants),
        cmocka_unit_test(test_cron_next_random_agrees_with_the_slow_way),
        cmocka_unit_test(test_cron_next_always_moves_forward),
        cmocka_unit_test(test_cron_parse_bad_text_is_refused_with_reason),
        cmocka_unit_test(test_cron_parse_fields_set_their_bits),
        cmocka_unit_test(test_cron_parse_day_that_comes_with_weekday_is_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
