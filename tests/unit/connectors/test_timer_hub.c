/* The hub of the timers with a clock of the test's own: who fires when, and what clocks that are
 * set do to it. */
#include "tests/support/test.h"

#include "connectors/timer/hub.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "core/logger.h"
#include "core/rng.h"
#include "tests/support/test_host.h"

#define TIMERS_MAX 3000u

struct fixture {
    struct test_host host;
    struct mr_hub *hub;
    struct mr_source *timers[TIMERS_MAX];
    uint32_t count;
    int64_t wall_ms;
    uint64_t mono_ns;
};

static int64_t ms_of(const char *text)
{
    int64_t ns = 0;
    assert_true(mr_time_parse(mr_bytes_of(text), &ns));
    return ns / (int64_t)MR_MS;
}

static void begin(struct fixture *f, const char *now)
{
    memset(f, 0, sizeof(*f));
    test_host_init(&f->host);
    f->wall_ms = ms_of(now);
    f->mono_ns = 1000 * MR_SECOND;
    assert_int_equal(mr__hub_create(&f->hub, NULL), MR_OK);
}

static void end(struct fixture *f)
{
    for (uint32_t i = 0; i < f->count; i++) {
        assert_true(mr__hub_remove(f->hub, f->timers[i], 0));
        f->timers[i]->hub = NULL;
        mr_connector_timer.source->destroy(f->timers[i]);
    }
    mr__hub_destroy(f->hub);
    test_host_free(&f->host);
}

/* What the fixture's clock says, and what came back. */
static void pass(struct fixture *f)
{
    mr__hub_pass(f->hub, f->wall_ms, f->mono_ns);
    mr__hub_pass(f->hub, f->wall_ms, f->mono_ns);
}

/* Time goes by. */
static void go(struct fixture *f, int64_t ms)
{
    f->wall_ms += ms;
    f->mono_ns += (uint64_t)ms * MR_MS;
    pass(f);
}

/* The clock is set. */
static void set_clock(struct fixture *f, int64_t ms)
{
    f->wall_ms += ms;
    pass(f);
}

static struct mr_source *add(struct fixture *f, const char *cron, uint64_t every_ns,
                             enum mr_timer_misfire misfire, const char *cursor)
{
    const struct mr_config_kind *kind = &mr_connector_timer.source_kind;
    struct mr_timer_options o;
    char name[16];
    memset(&o, 0, sizeof(o));
    assert_int_equal(mr_options_defaults(kind->options, &o), MR_OK);
    o.cron = mr_strdup(cron);
    o.every_ns = every_ns;
    o.misfire = (int)misfire;
    snprintf(name, sizeof(name), "t%u", f->count);
    struct mr_source_args args = {
        .host = &f->host.host, .index = f->count, .name = name, .options = &o, .cursor = cursor};
    struct mr_source *timer = NULL;
    struct mr_problem problem = {.text = ""};
    if (mr_connector_timer.source->create(&args, &timer, &problem) != MR_OK) {
        fail_msg("%s", problem.text);
    }
    mr_options_release(kind->options, &o);
    if (cursor == NULL) {
        timer->last_ms = f->wall_ms; /* it took the real one */
    }
    assert_int_equal(mr__hub_add(f->hub, timer), MR_OK);
    f->timers[f->count++] = timer;
    return timer;
}

static const char *id(struct fixture *f, uint32_t index)
{
    return test_host_value(&f->host, index, "id");
}

static void test_timers_fire_in_their_order(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, "2026-11-21T00:00:00Z");
    add(&f, "5 0 * * *", 0, MR_MISFIRE_ONCE, NULL);
    add(&f, "3 0 * * *", 0, MR_MISFIRE_ONCE, NULL);
    add(&f, NULL, 4 * MR_MINUTE, MR_MISFIRE_ONCE, NULL);
    for (int i = 0; i < 6; i++) {
        go(&f, 60000);
    }
    assert_int_equal(f.host.event_count, 3);
    assert_string_equal(id(&f, 0), "t1@2026-11-21T00:03:00Z");
    assert_string_equal(id(&f, 1), "t2@2026-11-21T00:04:00Z");
    assert_string_equal(id(&f, 2), "t0@2026-11-21T00:05:00Z");
    end(&f);
}

/* Every timer fires at each of its instants, once, whatever is added, paused and removed. */
static void test_many_timers_fire_each_instant_once(void **state)
{
    (void)state;
    struct fixture f;
    struct mr_rng rng;
    begin(&f, "2026-11-21T00:00:00Z");
    mr_rng_init(&rng, 7);
    uint64_t wanted = 0;
    int64_t span_ms = 3600000;
    for (uint32_t i = 0; i < TIMERS_MAX; i++) {
        uint64_t every_s = 60 + mr_rng_below(&rng, 3000);
        add(&f, NULL, every_s * MR_SECOND, MR_MISFIRE_ALL, NULL);
        int64_t every_ms = (int64_t)every_s * 1000;
        wanted += (uint64_t)((f.wall_ms + span_ms) / every_ms - f.wall_ms / every_ms);
    }
    for (int64_t gone_ms = 0; gone_ms < span_ms;) {
        int64_t step_ms = 1000 + (int64_t)mr_rng_below(&rng, 20000);
        step_ms = step_ms > span_ms - gone_ms ? span_ms - gone_ms : step_ms;
        go(&f, step_ms);
        gone_ms += step_ms;
        for (int k = 0; k < 5; k++) { /* what comes while it is paused is caught up */
            struct mr_source *timer = f.timers[mr_rng_below(&rng, f.count)];
            mr__hub_pause(f.hub, timer, true);
            if (k % 2 == 0) {
                pass(&f);
            }
            mr__hub_pause(f.hub, timer, false);
        }
        for (int k = 0; k < 4; k++) { /* a pass fires a thousand timers at most */
            pass(&f);
        }
    }
    assert_int_equal(f.host.event_count, wanted);
    end(&f);
}

static void test_refused_batches_come_again(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, "2026-11-21T00:00:00Z");
    struct mr_source *timer = add(&f, NULL, MR_MINUTE, MR_MISFIRE_ONCE, NULL);
    test_host_refuse(&f.host, 2, MR_E_DISK_LOW);
    go(&f, 60000);
    assert_int_equal(f.host.event_count, 0);
    struct mr_health health;
    mr__hub_health(f.hub, timer, f.wall_ms, &health);
    assert_int_equal(health.state, MR_HEALTH_DEGRADED);
    go(&f, 150);
    assert_int_equal(f.host.event_count, 0);
    go(&f, 250);
    assert_int_equal(f.host.event_count, 1);
    assert_string_equal(id(&f, 0), "t0@2026-11-21T00:01:00Z");
    mr__hub_health(f.hub, timer, f.wall_ms, &health);
    assert_int_equal(health.state, MR_HEALTH_OK);
    assert_int_equal(health.errors, 2);
    assert_true(health.last_error[0] != '\0');
    end(&f);
}

static void test_removed_while_refused_goes_at_once(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, "2026-11-21T00:00:00Z");
    add(&f, NULL, MR_MINUTE, MR_MISFIRE_ONCE, NULL);
    test_host_refuse(&f.host, 1000, MR_E_DISK_LOW);
    go(&f, 60000);
    end(&f); /* asserts that it could be removed */
}

/* --- clocks that are set ---------------------------------------------------------------------- */

static void test_small_jump_forwards_is_a_misfire(void **state)
{
    (void)state;
    static const uint32_t fired[] = {
        [MR_MISFIRE_ONCE] = 1, [MR_MISFIRE_SKIP] = 0, [MR_MISFIRE_ALL] = 25};
    for (int policy = MR_MISFIRE_ONCE; policy <= MR_MISFIRE_ALL; policy++) {
        struct fixture f;
        begin(&f, "2026-11-21T00:00:30Z");
        add(&f, "*/2 * * * *", 0, (enum mr_timer_misfire)policy, NULL);
        pass(&f);
        set_clock(&f, 51 * 60000); /* 00:51:30: the newest was at 00:50, more than a minute ago */
        assert_int_equal(f.host.event_count, fired[policy]);
        go(&f, 60000);
        assert_int_equal(f.host.event_count, fired[policy] + 1); /* 00:52, as ever */
        end(&f);
    }
}

static void test_small_jump_backwards_fires_nothing_twice(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, "2026-11-21T00:00:30Z");
    add(&f, NULL, MR_MINUTE, MR_MISFIRE_ALL, NULL);
    go(&f, 5 * 60000);
    assert_int_equal(f.host.event_count, 5);
    set_clock(&f, -4 * 60000);
    for (int i = 0; i < 4; i++) { /* the same minutes come again */
        go(&f, 60000);
        assert_int_equal(f.host.event_count, 5);
    }
    go(&f, 60000);
    assert_int_equal(f.host.event_count, 6);
    assert_string_equal(id(&f, 5), "t0@2026-11-21T00:06:00Z");
    end(&f);
}

static void test_large_jump_freezes_until_it_is_mended(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, "2026-11-21T00:00:30Z");
    struct mr_source *timer = add(&f, NULL, MR_MINUTE, MR_MISFIRE_ALL, NULL);
    struct mr_health health;
    pass(&f);
    int64_t decade_ms = 10ll * 365 * 86400 * 1000;
    set_clock(&f, decade_ms);
    go(&f, 120000);
    assert_int_equal(f.host.event_count, 0);
    mr__hub_health(f.hub, timer, f.wall_ms, &health);
    assert_int_equal(health.state, MR_HEALTH_DEGRADED);
    assert_non_null(strstr(health.detail, "clock jumped"));
    set_clock(&f, -decade_ms);
    assert_int_equal(f.host.event_count, 2); /* those of the two minutes that really passed */
    set_clock(&f, -2 * 3600000);
    go(&f, 120000);
    assert_int_equal(f.host.event_count, 2);
    set_clock(&f, 2 * 3600000);
    assert_int_equal(f.host.event_count, 4);
    end(&f);
}

static void test_large_jump_that_is_accepted_is_believed(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, "2026-11-21T00:00:30Z");
    add(&f, NULL, MR_MINUTE, MR_MISFIRE_ONCE, NULL);
    pass(&f);
    set_clock(&f, 86400000);
    assert_int_equal(f.host.event_count, 0);
    mr__hub_accept(f.hub, f.wall_ms);
    pass(&f);
    assert_int_equal(f.host.event_count, 1);
    assert_string_equal(id(&f, 0), "t0@2026-11-22T00:00:00Z");
    go(&f, 60000);
    assert_int_equal(f.host.event_count, 2);
    set_clock(&f, -86400000); /* back again: what fired lies ahead now */
    go(&f, 600000);
    assert_int_equal(f.host.event_count, 2);
    mr__hub_accept(f.hub, f.wall_ms);
    go(&f, 60000);
    assert_int_equal(f.host.event_count, 3);
    assert_string_equal(id(&f, 2), "t0@2026-11-21T00:12:00Z");
    end(&f);
}

static void test_cursor_ahead_of_the_clock_waits_and_says_so(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, "2026-11-21T00:00:30Z");
    struct mr_source *timer =
        add(&f, "0 * * * *", 0, MR_MISFIRE_ALL, "{\"last\":\"2036-01-01T00:00:00Z\"}");
    struct mr_health health;
    go(&f, 3600000);
    assert_int_equal(f.host.event_count, 0);
    mr__hub_health(f.hub, timer, f.wall_ms, &health);
    assert_int_equal(health.state, MR_HEALTH_DEGRADED);
    assert_non_null(strstr(health.detail, "2036-01-01T00:00:00Z"));
    mr__hub_accept(f.hub, f.wall_ms);
    go(&f, 3600000);
    assert_int_equal(f.host.event_count, 1);
    assert_string_equal(id(&f, 0), "t0@2026-11-21T02:00:00Z");
    end(&f);
}

/* A restart begins where the cursor of the last durable batch is: nothing fires twice, and with
 * `all` nothing is left out. */
static void test_restarts_fire_each_instant_once(void **state)
{
    (void)state;
    char cursor[64] = "{\"last\":\"2026-11-21T00:00:30Z\"}";
    char last[64] = "";
    uint32_t fired = 0;
    int64_t wall_ms = ms_of("2026-11-21T00:00:30Z");
    for (int life = 0; life < 40; life++) {
        struct fixture f;
        begin(&f, "2026-11-21T00:00:30Z");
        f.wall_ms = wall_ms;
        add(&f, "*/2 * * * *", 0, MR_MISFIRE_ALL, cursor);
        pass(&f);
        go(&f, 45000 + life * 1000);
        for (uint32_t i = 0; i < f.host.event_count; i++) {
            char time[64];
            snprintf(time, sizeof(time), "%.63s", test_host_value(&f.host, i, "time"));
            assert_true(strcmp(time, last) > 0);
            memcpy(last, time, sizeof(last));
        }
        fired += f.host.event_count;
        if (f.host.cursor != NULL) {
            snprintf(cursor, sizeof(cursor), "%.63s", f.host.cursor);
        }
        wall_ms = f.wall_ms + 30000; /* off for half a minute */
        end(&f);
    }
    int64_t first_ms = ms_of("2026-11-21T00:00:30Z");
    int64_t end_ms = wall_ms - 30000;
    assert_int_equal(fired, end_ms / 120000 - first_ms / 120000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_timers_fire_in_their_order),
        cmocka_unit_test(test_many_timers_fire_each_instant_once),
        cmocka_unit_test(test_refused_batches_come_again),
        cmocka_unit_test(test_removed_while_refused_goes_at_once),
        cmocka_unit_test(test_small_jump_forwards_is_a_misfire),
        cmocka_unit_test(test_small_jump_backwards_fires_nothing_twice),
        cmocka_unit_test(test_large_jump_freezes_until_it_is_mended),
        cmocka_unit_test(test_large_jump_that_is_accepted_is_believed),
        cmocka_unit_test(test_cursor_ahead_of_the_clock_waits_and_says_so),
        cmocka_unit_test(test_restarts_fire_each_instant_once),
    };
    mr_logger_set_fd(-1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
