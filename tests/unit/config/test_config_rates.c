/* How often a subscription or target may be handed to. */
#include "fake_kinds.h"

#define S 1000000000ull

static void test_rate_of_a_subscription_is_one_window_or_a_list(void **state)
{
    (void)state;
    struct mr_config *config = load_subscription("rate: 100/s");
    const struct mr_rates *rates = config->subscriptions[0].rates;
    assert_non_null(rates);
    assert_int_equal(rates->count, 1);
    assert_int_equal(rates->items[0].count, 100);
    assert_int_equal(rates->items[0].per_ns, S);
    mr_config_destroy(config);
    config = load_subscription("rate: [10/s, 200/m]");
    rates = config->subscriptions[0].rates;
    assert_int_equal(rates->count, 2);
    assert_int_equal(rates->items[1].count, 200);
    assert_int_equal(rates->items[1].per_ns, 60 * S);
    mr_config_destroy(config);
}

static void test_rate_not_given_is_no_limit(void **state)
{
    (void)state;
    struct mr_config *config = load_subscription("concurrency: 1");
    assert_null(config->subscriptions[0].rates);
    assert_null(config->targets[0].rates);
    mr_config_destroy(config);
}

static void test_rate_of_another_kind_is_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {"rate: fast", "rate: 0/s", "rate: 100", "rate: [1/s, x]",
                                        "rate: 1000001/s", "rate: [1/s, 2/s, 3/s, 4/s, 5/s]"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(wrong); i++) {
        check_subscription_error(wrong[i], "rate");
    }
}

static void test_rate_is_explained_and_part_of_the_policy(void **state)
{
    (void)state;
    struct mr_config *limited = load_subscription("rate: [10/s, 200/m]");
    struct mr_config *free_one = load_subscription("concurrency: 0");
    struct mr_buf words;
    mr_buf_init(&words, 1u << 16);
    assert_int_equal(mr_config_explain(limited, 0, &words), MR_OK);
    assert_int_equal(mr_buf_append_byte(&words, '\0'), MR_OK);
    assert_non_null(strstr((const char *)words.data,
                           "at most 10 attempts within any 1s and 200 attempts within any 1m"));
    mr_buf_release(&words);
    assert_true(limited->subscriptions[0].hash != free_one->subscriptions[0].hash);
    mr_config_destroy(limited);
    mr_config_destroy(free_one);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rate_of_a_subscription_is_one_window_or_a_list),
        cmocka_unit_test(test_rate_not_given_is_no_limit),
        cmocka_unit_test(test_rate_of_another_kind_is_refused),
        cmocka_unit_test(test_rate_is_explained_and_part_of_the_policy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
