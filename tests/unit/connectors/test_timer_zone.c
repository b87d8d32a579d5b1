#include "tests/support/test.h"

#include "connectors/timer/zone.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "core/io.h"
#include "core/rng.h"

static int64_t seconds(const char *text)
{
    int64_t ns = 0;
    assert_true(mr_time_parse(mr_bytes_of(text), &ns));
    return ns / 1000000000;
}

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

static void test_offset_table(void **state)
{
    (void)state;
    static const struct {
        const char *zone;
        const char *at;
        int32_t offset;
    } cases[] = {
        {"UTC", "2026-11-21T00:00:00Z", 0},
        {"", "2026-11-21T00:00:00Z", 0},
        {"Europe/Berlin", "2026-01-01T00:00:00Z", 3600},
        {"Europe/Berlin", "2026-03-29T00:59:59Z", 3600},
        {"Europe/Berlin", "2026-03-29T01:00:00Z", 7200},
        {"Europe/Berlin", "2026-10-25T00:59:59Z", 7200},
        {"Europe/Berlin", "2026-10-25T01:00:00Z", 3600},
        {"Europe/Berlin", "2099-07-01T00:00:00Z", 7200},
        {"Europe/Berlin", "1945-06-01T00:00:00Z", 10800}, /* double summer time */
        {"Europe/Berlin", "1800-01-01T00:00:00Z", 3208},  /* local mean time */
        {"Asia/Shanghai", "2026-07-01T00:00:00Z", 28800},
        {"Asia/Kathmandu", "2026-07-01T00:00:00Z", 20700},
        {"America/New_York", "2026-03-08T06:59:59Z", -18000},
        {"America/New_York", "2026-03-08T07:00:00Z", -14400},
        {"America/New_York", "2060-12-25T00:00:00Z", -18000},
        {"America/St_Johns", "2026-07-01T00:00:00Z", -9000},
        {"Australia/Lord_Howe", "2026-07-01T00:00:00Z", 37800},
        {"Australia/Lord_Howe", "2040-01-01T00:00:00Z", 39600},
        {"Europe/Dublin", "2040-01-01T00:00:00Z", 0},
        {"Europe/Dublin", "2040-07-01T00:00:00Z", 3600},
        {"Pacific/Apia", "2011-12-30T09:59:59Z", -36000},
        {"Pacific/Apia", "2011-12-30T10:00:00Z", 50400},
        {"America/Sao_Paulo", "2040-01-01T00:00:00Z", -10800},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct mr_zone *zone = load(cases[i].zone);
        int32_t got = mr_zone_offset(zone, seconds(cases[i].at));
        if (got != cases[i].offset) {
            fail_msg("%s at %s: want %d, got %d", cases[i].zone, cases[i].at, cases[i].offset, got);
        }
        mr_zone_destroy(zone);
    }
}

static void test_next_change_walks_forward_beyond_the_table(void **state)
{
    (void)state;
    struct mr_zone *zone = load("Europe/Berlin");
    int64_t at = seconds("2026-01-01T00:00:00Z");
    assert_true(mr_zone_next_change(zone, at, &at));
    assert_true(at == seconds("2026-03-29T01:00:00Z"));
    assert_true(mr_zone_next_change(zone, at, &at));
    assert_true(at == seconds("2026-10-25T01:00:00Z"));
    for (int i = 0; i < 400; i++) {
        int64_t next;
        assert_true(mr_zone_next_change(zone, at, &next));
        assert_true(next > at);
        assert_true(next - at < 250ll * 86400);
        assert_int_not_equal(mr_zone_offset(zone, next), mr_zone_offset(zone, next - 1));
        at = next;
    }
    mr_zone_destroy(zone);
    zone = load("Asia/Tokyo");
    assert_false(mr_zone_next_change(zone, seconds("2026-01-01T00:00:00Z"), &at));
    mr_zone_destroy(zone);
}

static void test_instant_is_the_inverse_of_the_offset(void **state)
{
    (void)state;
    static const char *const names[] = {"UTC",           "Europe/Berlin", "America/New_York",
                                        "Pacific/Apia",  "Europe/Dublin", "Australia/Lord_Howe",
                                        "Asia/Kathmandu"};
    struct mr_rng rng;
    uint64_t seed = mr_rng_entropy();
    mr_rng_init(&rng, seed);
    for (size_t z = 0; z < sizeof(names) / sizeof(names[0]); z++) {
        struct mr_zone *zone = load(names[z]);
        int64_t before = INT64_MIN;
        int64_t local = seconds("2009-01-01T00:00:00Z");
        for (int i = 0; i < 20000; i++) {
            local += 60 * (int64_t)(1 + mr_rng_below(&rng, 600));
            int64_t at = mr_zone_instant(zone, local);
            if (at < before) {
                fail_msg("seed %llu: backwards in %s", (unsigned long long)seed, names[z]);
            }
            before = at;
            int64_t shown = at + mr_zone_offset(zone, at);
            if (shown != local) { /* in a gap: the first moment behind it */
                assert_true(shown > local);
                assert_true(at - 1 + mr_zone_offset(zone, at - 1) < local);
            } else { /* and the first of two */
                int64_t earlier = at - 3600;
                assert_true(earlier + mr_zone_offset(zone, earlier) != local);
            }
        }
        mr_zone_destroy(zone);
    }
}

static void test_load_names_that_are_none_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"../../../etc/passwd", "/etc/localtime", "Europe/../UTC",
                                      "Europe/Berlin\n",     "No/Such",        "a b",
                                      "Europe"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct mr_zone *zone = NULL;
        struct mr_problem problem = {.text = ""};
        assert_int_not_equal(mr_zone_load(bad[i], &zone, &problem), MR_OK);
        assert_null(zone);
        assert_true(strlen(problem.text) > 0);
    }
}

/* Version 1, one type (+3600), no changes. */
static const uint8_t tiny[] = {'T', 'Z', 'i', 'f', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                               0,   0,   0,   0,   0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
                               0,   0,   0,   1, /* chars */ 0, 0, 14, 16, 0, 0, 0};

static void test_parse_version_1(void **state)
{
    (void)state;
    uint8_t file[sizeof(tiny)];
    memcpy(file, tiny, sizeof(tiny));
    file[39] = 1; /* types */
    file[43] = 1; /* characters */
    struct mr_zone *zone = NULL;
    assert_int_equal(mr_zone_parse(mr_bytes(file, sizeof(file)), &zone, NULL), MR_OK);
    assert_int_equal(mr_zone_offset(zone, 0), 3600);
    mr_zone_destroy(zone);
}

static void test_parse_damaged_files_never_crash(void **state)
{
    (void)state;
    char *text = NULL;
    size_t size = 0;
    if (mr_file_read("/usr/share/zoneinfo/Europe/Berlin", 1 << 20, &text, &size) != MR_OK) {
        print_message("skipped: no tzdata here\n");
        skip();
    }
    struct mr_zone *zone = NULL;
    for (size_t n = 0; n < size; n++) { /* cut anywhere: refused */
        assert_int_equal(mr_zone_parse(mr_bytes(text, n), &zone, NULL), MR_E_INVALID);
    }
    struct mr_rng rng;
    mr_rng_init(&rng, 7);
    for (int i = 0; i < 20000; i++) { /* any byte wrong: refused, or a zone that answers */
        size_t at = mr_rng_below(&rng, size);
        char before = text[at];
        text[at] = (char)mr_rng_next(&rng);
        if (mr_zone_parse(mr_bytes(text, size), &zone, NULL) == MR_OK) {
            int64_t t = (int64_t)mr_rng_below(&rng, 8000000000ull);
            (void)mr_zone_offset(zone, t);
            (void)mr_zone_instant(zone, t);
            mr_zone_destroy(zone);
        }
        text[at] = before;
    }
    mr_free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_offset_table),
        cmocka_unit_test(test_next_change_walks_forward_beyond_the_table),
        cmocka_unit_test(test_instant_is_the_inverse_of_the_offset),
        cmocka_unit_test(test_load_names_that_are_none_are_refused),
        cmocka_unit_test(test_parse_version_1),
        cmocka_unit_test(test_parse_damaged_files_never_crash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
