#include "tests/support/test.h"

#include <poll.h>

#include "connectors/timer/timer.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "core/logger.h"
#include "tests/support/test_host.h"

static const struct mr_config_kind *kind(void)
{
    return &mr_connector_timer.source_kind;
}

static int64_t ms_of(const char *text)
{
    int64_t ns = 0;
    assert_true(mr_time_parse(mr_bytes_of(text), &ns));
    return ns / (int64_t)MR_MS;
}

static struct mr_timer_options make_options(void)
{
    struct mr_timer_options o;
    memset(&o, 0, sizeof(o));
    assert_int_equal(mr_options_defaults(kind()->options, &o), MR_OK);
    return o;
}

/* --- options ---------------------------------------------------------------------------------- */

static void expect_options(const char *cron, uint64_t every_ns, const char *at, const char *zone,
                         const char *error)
{
    struct mr_timer_options o = make_options();
    o.cron = mr_strdup(cron);
    o.every_ns = every_ns;
    o.at = mr_strdup(at);
    o.time_zone = mr_strdup(zone);
    struct mr_problem problem = {.text = ""};
    enum mr_status r = kind()->check(&o, &problem);
    if (error == NULL ? r != MR_OK : r == MR_OK || strstr(problem.text, error) == NULL) {
        fail_msg("%s: %s", cron == NULL ? "" : cron, problem.text);
    }
    mr_options_release(kind()->options, &o);
}

static void test_check_wants_one_schedule(void **state)
{
    (void)state;
    expect_options("@daily", 0, NULL, NULL, NULL);
    expect_options(NULL, MR_SECOND, NULL, NULL, NULL);
    expect_options(NULL, 0, "2026-11-21T02:00:00Z", NULL, NULL);
    expect_options(NULL, 0, NULL, NULL, "wants one of");
    expect_options("@daily", MR_SECOND, NULL, NULL, "not several");
    expect_options("bad", 0, NULL, NULL, "cron");
    expect_options("@daily", 0, NULL, "Mars/Olympus", "Mars/Olympus");
    expect_options("@daily", 0, NULL, "../../etc/passwd", "time_zone");
    expect_options("@daily", 0, NULL, "/etc/localtime", "time_zone");
    expect_options("@daily", 0, NULL, "UTC", NULL);
    expect_options(NULL, MR_SECOND, NULL, "UTC", "`cron` only");
    expect_options(NULL, 0, "tomorrow", NULL, "at:");
    expect_options(NULL, 1500000, NULL, NULL, "milliseconds");
}

static void test_defaults_are_as_documented(void **state)
{
    (void)state;
    struct mr_timer_options o = make_options();
    assert_string_equal(o.type, "io.millrace.timer.tick");
    assert_int_equal(o.misfire, MR_MISFIRE_ONCE);
    assert_int_equal(o.max_catch_up, 100);
    mr_options_release(kind()->options, &o);
}

/* --- the schedule ----------------------------------------------------------------------------- */

static uint32_t due(struct mr_timer_options *o, const char *last, const char *now, int64_t *ret_ms,
                    int64_t *ret_last)
{
    struct mr_timer_schedule s;
    struct mr_problem problem = {.text = ""};
    if (mr__timer_schedule(o, &s, &problem) != MR_OK) {
        fail_msg("%s", problem.text);
    }
    uint32_t count = mr__timer_due(&s, o, ms_of(last), ms_of(now), ret_ms, ret_last);
    mr__timer_schedule_release(&s);
    return count;
}

static void test_due_nothing_between_instants(void **state)
{
    (void)state;
    int64_t ms[MR_TIMER_CATCH_UP_MAX];
    int64_t last;
    struct mr_timer_options o = make_options();
    o.cron = mr_strdup("0 * * * *");
    assert_int_equal(due(&o, "2026-11-21T02:00:00Z", "2026-11-21T02:59:59Z", ms, &last), 0);
    assert_true(last == ms_of("2026-11-21T02:00:00Z"));
    assert_int_equal(due(&o, "2026-11-21T02:00:00Z", "2026-11-21T01:00:00Z", ms, &last), 0);
    assert_true(last == ms_of("2026-11-21T02:00:00Z")); /* the clock was set back */
    mr_options_release(kind()->options, &o);
}

static void test_due_policies_differ_in_what_was_missed(void **state)
{
    (void)state;
    int64_t ms[MR_TIMER_CATCH_UP_MAX];
    int64_t last;
    struct mr_timer_options o = make_options();
    o.cron = mr_strdup("0 * * * *");
    const char *from = "2026-11-21T02:00:00Z";
    const char *now = "2026-11-21T07:30:00Z"; /* 03, 04, 05, 06, 07 were missed */
    o.misfire = MR_MISFIRE_ONCE;
    assert_int_equal(due(&o, from, now, ms, &last), 1);
    assert_true(ms[0] == ms_of("2026-11-21T07:00:00Z"));
    assert_true(last == ms[0]);
    o.misfire = MR_MISFIRE_SKIP;
    assert_int_equal(due(&o, from, now, ms, &last), 0);
    assert_true(last == ms_of("2026-11-21T07:00:00Z"));
    o.misfire = MR_MISFIRE_ALL;
    assert_int_equal(due(&o, from, now, ms, &last), 5);
    assert_true(ms[0] == ms_of("2026-11-21T03:00:00Z"));
    assert_true(ms[4] == ms_of("2026-11-21T07:00:00Z"));
    o.max_catch_up = 3; /* the newest */
    assert_int_equal(due(&o, from, now, ms, &last), 3);
    assert_true(ms[0] == ms_of("2026-11-21T05:00:00Z"));
    assert_true(ms[2] == ms_of("2026-11-21T07:00:00Z"));
    mr_options_release(kind()->options, &o);
}

static void test_due_skip_on_time_fires(void **state)
{
    (void)state;
    int64_t ms[MR_TIMER_CATCH_UP_MAX];
    int64_t last;
    struct mr_timer_options o = make_options();
    o.cron = mr_strdup("0 * * * *");
    o.misfire = MR_MISFIRE_SKIP;
    assert_int_equal(due(&o, "2026-11-21T02:00:00Z", "2026-11-21T03:00:00.010Z", ms, &last), 1);
    assert_int_equal(due(&o, "2026-11-21T02:00:00Z", "2026-11-21T03:00:59Z", ms, &last), 1);
    assert_int_equal(due(&o, "2026-11-21T02:00:00Z", "2026-11-21T03:01:01Z", ms, &last), 0);
    mr_options_release(kind()->options, &o);
}

static void test_due_years_missed_are_bounded_and_fast(void **state)
{
    (void)state;
    int64_t ms[MR_TIMER_CATCH_UP_MAX];
    int64_t last;
    uint64_t from = mr_clock_mono_ns();
    struct mr_timer_options o = make_options();
    o.misfire = MR_MISFIRE_ALL;
    o.max_catch_up = MR_TIMER_CATCH_UP_MAX;
    o.cron = mr_strdup("* * * * *");
    assert_int_equal(due(&o, "1999-01-01T00:00:00Z", "2026-11-21T07:30:30Z", ms, &last), 1000);
    assert_true(ms[999] == ms_of("2026-11-21T07:30:00Z"));
    assert_true(ms[0] == ms[999] - 999 * 60000ll);
    mr_options_release(kind()->options, &o);
    o = make_options();
    o.misfire = MR_MISFIRE_ALL;
    o.every_ns = 10 * MR_MS;
    assert_int_equal(due(&o, "1999-01-01T00:00:00Z", "2026-11-21T07:30:30Z", ms, &last), 100);
    assert_true(ms[99] == ms_of("2026-11-21T07:30:30Z"));
    mr_options_release(kind()->options, &o);
    o = make_options();
    o.misfire = MR_MISFIRE_ALL;
    o.cron = mr_strdup("0 0 29 2 *");
    assert_int_equal(due(&o, "1999-01-01T00:00:00Z", "2026-11-21T07:30:30Z", ms, &last), 7);
    assert_true(ms[0] == ms_of("2000-02-29T00:00:00Z"));
    mr_options_release(kind()->options, &o);
    assert_true(mr_clock_mono_ns() - from < 5 * MR_SECOND);
}

static void test_next_every_counts_from_1970(void **state)
{
    (void)state;
    struct mr_timer_options o = make_options();
    o.every_ns = 15 * MR_MINUTE;
    struct mr_timer_schedule s;
    assert_int_equal(mr__timer_schedule(&o, &s, NULL), MR_OK);
    int64_t next;
    assert_true(mr__timer_next(&s, ms_of("2026-11-21T02:01:00Z"), &next));
    assert_true(next == ms_of("2026-11-21T02:15:00Z"));
    assert_true(mr__timer_next(&s, next, &next));
    assert_true(next == ms_of("2026-11-21T02:30:00Z"));
    mr__timer_schedule_release(&s);
    mr_options_release(kind()->options, &o);
}

static void test_next_at_comes_once(void **state)
{
    (void)state;
    struct mr_timer_options o = make_options();
    o.at = mr_strdup("2026-11-21T02:00:00+01:00");
    struct mr_timer_schedule s;
    assert_int_equal(mr__timer_schedule(&o, &s, NULL), MR_OK);
    int64_t next;
    assert_true(mr__timer_next(&s, ms_of("2026-11-21T00:59:59Z"), &next));
    assert_true(next == ms_of("2026-11-21T01:00:00Z"));
    assert_false(mr__timer_next(&s, next, &next));
    mr__timer_schedule_release(&s);
    mr_options_release(kind()->options, &o);
}

static void test_text_and_cursor_round_trip(void **state)
{
    (void)state;
    char text[MR_TIMER_TEXT_SIZE];
    mr__timer_text(ms_of("2026-11-21T02:00:00Z"), text);
    assert_string_equal(text, "2026-11-21T02:00:00Z");
    mr__timer_text(ms_of("2026-11-21T02:00:00.25Z"), text);
    assert_string_equal(text, "2026-11-21T02:00:00.250Z");
    char *cursor = mr__timer_cursor(ms_of("2026-11-21T02:00:00.25Z"));
    assert_string_equal(cursor, "{\"last\":\"2026-11-21T02:00:00.250Z\"}");
    int64_t ms = 0;
    assert_true(mr__timer_read_cursor(cursor, &ms));
    assert_true(ms == ms_of("2026-11-21T02:00:00.25Z"));
    mr_free(cursor);
    static const char *const bad[] = {"", "{}", "{\"last\":\"\"}", "{\"last\":\"x\"}",
                                      "{\"last\":\"2026-11-21T02:00:00Z\"",
                                      "{\"last\":\"2026-11-21T02:00:00Z\"} ", "null"};
    assert_false(mr__timer_read_cursor(NULL, &ms));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(mr__timer_read_cursor(bad[i], &ms));
    }
}

/* --- the source ------------------------------------------------------------------------------- */

static struct mr_source *open_timer(struct test_host *h, struct mr_timer_options *o,
                                    const char *cursor)
{
    struct mr_source_args args = {
        .host = &h->host, .index = 1, .name = "nightly", .options = o, .cursor = cursor};
    struct mr_source *source = NULL;
    struct mr_problem problem = {.text = ""};
    if (mr_connector_timer.source->create(&args, &source, &problem) != MR_OK) {
        fail_msg("%s", problem.text);
    }
    mr_options_release(kind()->options, o);
    return source;
}

static void start(struct mr_source *source)
{
    assert_int_equal(mr_connector_timer.source->start(source, NULL), MR_OK);
}

static void close_timer(struct mr_source *source)
{
    mr_connector_timer.source->stop(source, mr_clock_mono_ns() + 5 * MR_SECOND);
    mr_connector_timer.source->destroy(source);
}

static void test_source_missed_instant_fires_with_its_id(void **state)
{
    (void)state;
    struct test_host h;
    test_host_init(&h);
    struct mr_timer_options o = make_options();
    o.at = mr_strdup("2020-02-29T12:00:00Z");
    o.subject = mr_strdup("backup");
    o.data = mr_strdup("{\"full\":true}");
    struct mr_source *source = open_timer(&h, &o, "{\"last\":\"2020-01-01T00:00:00Z\"}");
    start(source);
    assert_true(test_host_wait(&h, HOST_EVENTS, 1));
    assert_string_equal(test_host_value(&h, 0, "id"), "nightly@2020-02-29T12:00:00Z");
    assert_string_equal(test_host_value(&h, 0, "source"), "/millrace/source/nightly");
    assert_string_equal(test_host_value(&h, 0, "type"), "io.millrace.timer.tick");
    assert_string_equal(test_host_value(&h, 0, "subject"), "backup");
    assert_string_equal(test_host_value(&h, 0, "time"), "2020-02-29T12:00:00Z");
    assert_string_equal(test_host_value(&h, 0, "datacontenttype"), "application/json");
    assert_string_equal(test_host_value(&h, 0, "data"), "{\"full\":true}");
    assert_string_equal(h.cursor, "{\"last\":\"2020-02-29T12:00:00Z\"}");
    close_timer(source);
    assert_int_equal(h.event_count, 1);
    test_host_free(&h);
}

static void test_source_restart_with_its_cursor_does_not_fire_again(void **state)
{
    (void)state;
    struct test_host h;
    test_host_init(&h);
    struct mr_timer_options o = make_options();
    o.at = mr_strdup("2020-02-29T12:00:00Z");
    struct mr_source *source = open_timer(&h, &o, "{\"last\":\"2020-02-29T12:00:00Z\"}");
    start(source);
    struct mr_health health;
    do {
        mr_connector_timer.source->health(source, &health);
        poll(NULL, 0, 2);
    } while (strcmp(health.detail, "no further instant") != 0);
    close_timer(source);
    assert_int_equal(h.submits, 0);
    test_host_free(&h);
}

static void test_source_without_cursor_missed_nothing(void **state)
{
    (void)state;
    struct test_host h;
    test_host_init(&h);
    struct mr_timer_options o = make_options();
    o.cron = mr_strdup("0 0 1 1 *");
    struct mr_source *source = open_timer(&h, &o, NULL);
    start(source);
    struct mr_health health;
    do {
        mr_connector_timer.source->health(source, &health);
        poll(NULL, 0, 2);
    } while (strncmp(health.detail, "next at ", 8) != 0);
    close_timer(source);
    assert_int_equal(h.submits, 0);
    test_host_free(&h);
}

static void test_source_every_ticks_with_distinct_aligned_ids(void **state)
{
    (void)state;
    struct test_host h;
    test_host_init(&h);
    struct mr_timer_options o = make_options();
    o.every_ns = 20 * MR_MS;
    struct mr_source *source = open_timer(&h, &o, NULL);
    start(source);
    assert_true(test_host_wait(&h, HOST_EVENTS, 5));
    close_timer(source);
    int64_t before = 0;
    for (uint32_t i = 0; i < 5; i++) {
        int64_t ms = ms_of(test_host_value(&h, i, "time"));
        assert_true(ms % 20 == 0);
        assert_true(ms > before);
        before = ms;
    }
    test_host_free(&h);
}

static void test_source_refused_tick_comes_again_unchanged(void **state)
{
    (void)state;
    struct test_host h;
    test_host_init(&h);
    test_host_refuse(&h, 2, MR_E_DISK_LOW);
    struct mr_timer_options o = make_options();
    o.at = mr_strdup("2020-02-29T12:00:00Z");
    struct mr_source *source = open_timer(&h, &o, "{\"last\":\"2020-01-01T00:00:00Z\"}");
    start(source);
    assert_true(test_host_wait(&h, HOST_EVENTS, 1));
    assert_int_equal(h.submits, 3);
    assert_string_equal(test_host_value(&h, 0, "id"), "nightly@2020-02-29T12:00:00Z");
    close_timer(source);
    test_host_free(&h);
}

static void test_source_catch_up_all_is_one_batch(void **state)
{
    (void)state;
    struct test_host h;
    test_host_init(&h);
    struct mr_timer_options o = make_options();
    o.cron = mr_strdup("0 0 1 1 *");
    o.misfire = MR_MISFIRE_ALL;
    struct mr_source *source = open_timer(&h, &o, "{\"last\":\"2020-06-01T00:00:00Z\"}");
    start(source);
    assert_true(test_host_wait(&h, HOST_EVENTS, 5));
    assert_int_equal(h.submits, 1);
    assert_string_equal(test_host_value(&h, 0, "id"), "nightly@2021-01-01T00:00:00Z");
    assert_string_equal(test_host_value(&h, 1, "id"), "nightly@2022-01-01T00:00:00Z");
    close_timer(source);
    test_host_free(&h);
}

static void test_source_paused_fires_when_resumed(void **state)
{
    (void)state;
    struct test_host h;
    test_host_init(&h);
    struct mr_timer_options o = make_options();
    o.at = mr_strdup("2020-02-29T12:00:00Z");
    struct mr_source *source = open_timer(&h, &o, "{\"last\":\"2020-01-01T00:00:00Z\"}");
    mr_connector_timer.source->pause(source);
    start(source);
    assert_false(test_host_wait_for(&h, HOST_SUBMITS, 1, 0.1));
    mr_connector_timer.source->resume(source);
    assert_true(test_host_wait(&h, HOST_EVENTS, 1));
    close_timer(source);
    test_host_free(&h);
}

static void test_source_stop_waits_for_its_batch(void **state)
{
    (void)state;
    struct test_host h;
    test_host_init(&h);
    test_host_hold(&h);
    struct mr_timer_options o = make_options();
    o.at = mr_strdup("2020-02-29T12:00:00Z");
    struct mr_source *source = open_timer(&h, &o, "{\"last\":\"2020-01-01T00:00:00Z\"}");
    start(source);
    assert_true(test_host_wait(&h, HOST_HELD_EVENTS, 1));
    test_host_release_held(&h, MR_OK);
    close_timer(source);
    assert_int_equal(h.event_count, 1);
    test_host_free(&h);
}

static void test_create_bad_type_is_refused_at_once(void **state)
{
    (void)state;
    struct test_host h;
    test_host_init(&h);
    struct mr_timer_options o = make_options();
    o.cron = mr_strdup("@daily");
    mr_free(o.type);
    o.type = mr_strdup("bad\001type");
    struct mr_source_args args = {.host = &h.host, .name = "n", .options = &o};
    struct mr_source *source = NULL;
    struct mr_problem problem = {.text = ""};
    assert_int_equal(mr_connector_timer.source->create(&args, &source, &problem), MR_E_INVALID);
    assert_true(strlen(problem.text) > 0);
    mr_options_release(kind()->options, &o);
    test_host_free(&h);
}

static void test_create_memory_short_leaks_nothing(void **state)
{
    (void)state;
    struct test_host h;
    test_host_init(&h);
    struct mr_timer_options o = make_options();
    o.cron = mr_strdup("@daily");
    o.data = mr_strdup("1");
    struct mr_source_args args = {.host = &h.host, .name = "n", .options = &o};
    bool made = false;
    for (uint64_t n = 1; n < 200 && !made; n++) {
        int64_t live = mr_alloc_live();
        struct mr_source *source = NULL;
        (void)mr_alloc_fail_at(n, 0);
        made = mr_connector_timer.source->create(&args, &source, NULL) == MR_OK;
        (void)mr_alloc_fail_at(0, 0);
        if (made) {
            mr_connector_timer.source->destroy(source);
        }
        assert_int_equal(mr_alloc_live(), live);
    }
    assert_true(made);
    mr_options_release(kind()->options, &o);
    test_host_free(&h);
}

static int setup(void **state)
{
    (void)state;
    mr_logger_set_fd(-1);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_check_wants_one_schedule),
        cmocka_unit_test(test_defaults_are_as_documented),
        cmocka_unit_test(test_due_nothing_between_instants),
        cmocka_unit_test(test_due_policies_differ_in_what_was_missed),
        cmocka_unit_test(test_due_skip_on_time_fires),
        cmocka_unit_test(test_due_years_missed_are_bounded_and_fast),
        cmocka_unit_test(test_next_every_counts_from_1970),
        cmocka_unit_test(test_next_at_comes_once),
        cmocka_unit_test(test_text_and_cursor_round_trip),
        cmocka_unit_test(test_source_missed_instant_fires_with_its_id),
        cmocka_unit_test(test_source_restart_with_its_cursor_does_not_fire_again),
        cmocka_unit_test(test_source_without_cursor_missed_nothing),
        cmocka_unit_test(test_source_every_ticks_with_distinct_aligned_ids),
        cmocka_unit_test(test_source_refused_tick_comes_again_unchanged),
        cmocka_unit_test(test_source_catch_up_all_is_one_batch),
        cmocka_unit_test(test_source_paused_fires_when_resumed),
        cmocka_unit_test(test_source_stop_waits_for_its_batch),
        cmocka_unit_test(test_create_bad_type_is_refused_at_once),
        cmocka_unit_test(test_create_memory_short_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
