/* The retry schedule in all its forms. */
#include "fake_kinds.h"

#define MS 1000000ull
#define S 1000000000ull

static struct mr_retry retry_of(const char *settings)
{
    struct mr_config *config = load_subscription(settings);
    struct mr_retry retry = config->subscriptions[0].retry;
    static uint64_t step_ns[MR_RETRY_STEPS_MAX]; /* of the last call */
    if (retry.step_count > 0) {
        memcpy(step_ns, retry.step_ns, retry.step_count * sizeof(*step_ns));
    }
    retry.step_ns = step_ns;
    mr_config_destroy(config);
    return retry;
}

static void check_steps(const struct mr_retry *retry, const uint64_t *steps, uint32_t count)
{
    assert_int_equal(retry->step_count, count);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(retry->step_ns[i], steps[i]);
    }
}

static void test_retry_default_is_nine_attempts_over_four_hours(void **state)
{
    (void)state;
    static const uint64_t steps[] = {S,       5 * S,    30 * S,   120 * S,
                                     600 * S, 1800 * S, 3600 * S, 7200 * S};
    static const char *const forms[] = {"concurrency: 1", "retry: {}", "retry: ",
                                        "retry: {jitter: 20%}"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(forms); i++) {
        struct mr_retry retry = retry_of(forms[i]);
        check_steps(&retry, steps, 8);
        assert_int_equal(retry.jitter, MR_JITTER_PERCENT);
        assert_int_equal(retry.jitter_percent, 20);
    }
}

static void test_retry_schedule_is_taken_as_it_stands(void **state)
{
    (void)state;
    struct mr_retry retry = retry_of("retry: {schedule: [1s, 5s, 200ms, 0], jitter: none}");
    static const uint64_t steps[] = {S, 5 * S, 200 * MS, 0};
    check_steps(&retry, steps, 4);
    assert_int_equal(retry.jitter, MR_JITTER_NONE);
}

static void test_retry_equal_schedules_are_shared(void **state)
{
    (void)state;
    struct mr_config *config =
        load_right(FAKE_BASE "subscriptions:\n"
                             "  a: {to: thumbs, retry: {schedule: [1s, 2s]}}\n"
                             "  b: {to: thumbs}\n"
                             "  c: {to: thumbs, retry: {attempts: 3, initial: 1s}}\n"
                             "  d: {to: thumbs, retry: {schedule: [1s]}}\n");
    const struct mr_subscription_config *s = config->subscriptions;
    assert_ptr_equal(s[0].retry.step_ns, s[2].retry.step_ns);
    assert_ptr_not_equal(s[0].retry.step_ns, s[1].retry.step_ns);
    assert_ptr_not_equal(s[0].retry.step_ns, s[3].retry.step_ns);
    mr_config_destroy(config);
}

static void test_retry_schedule_of_one_text_is_one_step(void **state)
{
    (void)state;
    struct mr_retry retry = retry_of("retry: {schedule: 10s}");
    assert_int_equal(retry.step_count, 1);
    assert_int_equal(retry.step_ns[0], 10 * S);
}

static void test_retry_empty_schedule_is_one_attempt(void **state)
{
    (void)state;
    assert_int_equal(retry_of("retry: {schedule: []}").step_count, 0);
}

static void test_retry_one_attempt_has_no_steps(void **state)
{
    (void)state;
    assert_int_equal(retry_of("retry: {attempts: 1}").step_count, 0);
}

static void test_retry_exponential_grows_to_its_cap(void **state)
{
    (void)state;
    struct mr_retry retry =
        retry_of("retry: {attempts: 6, backoff: exponential, initial: 1s, factor: 3, max: 20s, "
                 "jitter: full}");
    static const uint64_t steps[] = {S, 3 * S, 9 * S, 20 * S, 20 * S};
    check_steps(&retry, steps, 5);
    assert_int_equal(retry.jitter, MR_JITTER_FULL);
}

static void test_retry_exponential_defaults(void **state)
{
    (void)state;
    struct mr_retry retry = retry_of("retry: {backoff: exponential}");
    static const uint64_t steps[] = {S, 2 * S, 4 * S, 8 * S};
    check_steps(&retry, steps, 4);
    retry = retry_of("retry: {attempts: 3}");
    check_steps(&retry, steps, 2);
}

static void test_retry_linear_grows_by_the_first_wait(void **state)
{
    (void)state;
    struct mr_retry retry = retry_of("retry: {attempts: 5, backoff: linear, initial: 2s, max: 7s}");
    static const uint64_t steps[] = {2 * S, 4 * S, 6 * S, 7 * S};
    check_steps(&retry, steps, 4);
}

static void test_retry_exponential_saturates_instead_of_wrapping(void **state)
{
    (void)state;
    struct mr_retry retry =
        retry_of("retry: {attempts: 65, initial: 300d, factor: 100, max: 366d}");
    assert_int_equal(retry.step_count, MR_RETRY_STEPS_MAX);
    for (uint32_t i = 1; i < retry.step_count; i++) {
        assert_int_equal(retry.step_ns[i], 366 * 86400 * S);
    }
}

static void test_retry_jitter_forms(void **state)
{
    (void)state;
    assert_int_equal(retry_of("retry: {jitter: 100%}").jitter_percent, 100);
    assert_int_equal(retry_of("retry: {jitter: 0%}").jitter, MR_JITTER_NONE);
    assert_int_equal(retry_of("retry: {jitter: full}").jitter, MR_JITTER_FULL);
}

static void test_retry_bad_jitter_is_refused(void **state)
{
    (void)state;
    check_subscription_error("retry: {jitter: 101%}", "jitter: `101%` is neither none, full");
    check_subscription_error("retry: {jitter: 20}", "jitter: `20` is neither");
    check_subscription_error("retry: {jitter: '%'}", "jitter: `%` is neither");
    check_subscription_error("retry: {jitter: -5%}", "neither");
}

static void test_retry_bad_schedule_is_refused(void **state)
{
    (void)state;
    check_subscription_error("retry: {schedule: [1s, 5]}", "schedule: `5` is no duration");
    check_subscription_error("retry: {schedule: {a: 1s}}", "`schedule` wants text or a list");
}

static void test_retry_schedule_of_65_steps_is_refused(void **state)
{
    (void)state;
    struct mr_buf buf;
    mr_buf_init(&buf, 4096);
    assert_int_equal(mr_buf_append_text(&buf, "retry: {schedule: ["), MR_OK);
    for (uint32_t i = 0; i <= MR_RETRY_STEPS_MAX; i++) {
        assert_int_equal(mr_buf_append_text(&buf, "1s,"), MR_OK);
    }
    assert_int_equal(mr_buf_append_text(&buf, "]}"), MR_OK);
    char *text = mr_buf_take_text(&buf);
    check_subscription_error(text, "schedule: 65 waits are too many, at most 64");
    mr_free(text);
}

static void test_retry_schedule_and_backoff_contradict(void **state)
{
    (void)state;
    check_subscription_error("retry: {schedule: [1s], attempts: 3}",
                             "`attempts` contradicts `schedule`");
    check_subscription_error("retry: {schedule: [1s], backoff: linear}",
                             "`backoff` contradicts `schedule`");
    check_subscription_error("retry: {schedule: [1s], max: 3s}", "`max` contradicts `schedule`");
}

static void test_retry_contradictions_of_backoff_are_refused(void **state)
{
    (void)state;
    check_subscription_error("retry: {backoff: linear, factor: 2}", "`factor` has no meaning");
    check_subscription_error("retry: {initial: 10m}", "is longer than the longest");
    check_subscription_error("retry: {max: 500ms}", "is longer than the longest");
    check_subscription_error("retry: {attempts: 0}", "attempts: `0` is out of range: from 1 to 65");
    check_subscription_error("retry: {attempts: 66}", "out of range");
    check_subscription_error("retry: {backoff: quadratic}", "not one of exponential, linear");
    check_subscription_error("retry: 5", "`retry` wants a mapping");
    check_subscription_error("retry: {atempts: 5}",
                             "unknown key `atempts`, did you mean `attempts`?");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_retry_default_is_nine_attempts_over_four_hours),
        cmocka_unit_test(test_retry_schedule_is_taken_as_it_stands),
        cmocka_unit_test(test_retry_equal_schedules_are_shared),
        cmocka_unit_test(test_retry_schedule_of_one_text_is_one_step),
        cmocka_unit_test(test_retry_empty_schedule_is_one_attempt),
        cmocka_unit_test(test_retry_one_attempt_has_no_steps),
        cmocka_unit_test(test_retry_exponential_grows_to_its_cap),
        cmocka_unit_test(test_retry_exponential_defaults),
        cmocka_unit_test(test_retry_linear_grows_by_the_first_wait),
        cmocka_unit_test(test_retry_exponential_saturates_instead_of_wrapping),
        cmocka_unit_test(test_retry_jitter_forms),
        cmocka_unit_test(test_retry_bad_jitter_is_refused),
        cmocka_unit_test(test_retry_bad_schedule_is_refused),
        cmocka_unit_test(test_retry_schedule_of_65_steps_is_refused),
        cmocka_unit_test(test_retry_schedule_and_backoff_contradict),
        cmocka_unit_test(test_retry_contradictions_of_backoff_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
