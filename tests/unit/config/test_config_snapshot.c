/* A snapshot of the log, read for what it says of matching. */
#include "tests/support/fail_each.h"

#include "config/config.h"

static const char whole[] =
    "{\"data_dir\":\"./data\",\"sources\":{\"a\":{\"http\":{\"path\":\"/a\"}},\"b\":{\"mqtt\":{"
    "\"url\":\"mqtt://u:***@h\"}}},\"workers\":{\"w\":{\"exec\":{\"command\":[\"true\"]}}},"
    "\"subscriptions\":{\"one\":{\"to\":\"w\",\"source\":\"b\",\"filter\":{\"exact\":{\"type\":"
    "\"x\"}}},\"two\":{\"to\":\"w\",\"source\":[\"b\",\"a\"],\"filter\":[{\"sql\":\"id = '1'\"}]},"
    "\"three\":{\"to\":\"w\",\"default\":true}}}";

static void test_snapshot_has_what_matching_needs(void **state)
{
    (void)state;
    struct mr_config *config = NULL;
    assert_int_equal(mr_config_from_snapshot(mr_bytes_of(whole), &config), MR_OK);
    assert_int_equal(config->source_count, 2);
    assert_string_equal(config->sources[1].name, "b");
    assert_int_equal(config->subscription_count, 3);
    const struct mr_subscription_config *one = &config->subscriptions[0];
    assert_string_equal(one->name, "one");
    assert_string_equal(one->filter_json, "[{\"exact\":{\"type\":\"x\"}}]");
    assert_int_equal(one->source_count, 1);
    assert_int_equal(one->sources[0], 1);
    assert_false(one->is_default);
    const struct mr_subscription_config *two = &config->subscriptions[1];
    assert_string_equal(two->filter_json, "[{\"sql\":\"id = '1'\"}]");
    assert_int_equal(two->source_count, 2);
    assert_int_equal(two->sources[0], 1);
    assert_int_equal(two->sources[1], 0);
    const struct mr_subscription_config *three = &config->subscriptions[2];
    assert_string_equal(three->filter_json, "[]");
    assert_null(three->sources);
    assert_true(three->is_default);
    mr_config_destroy(config);
}

static void test_snapshot_of_nothing_is_empty(void **state)
{
    (void)state;
    struct mr_config *config = NULL;
    assert_int_equal(mr_config_from_snapshot(MR_BYTES_LITERAL("{}"), &config), MR_OK);
    assert_int_equal(config->source_count + config->subscription_count, 0);
    mr_config_destroy(config);
}

static void test_snapshot_that_is_none_is_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "", "[]", "7", "{", "{\"subscriptions\":{\"s\":{\"source\":\"gone\"}}}",
        "{\"subscriptions\":{\"s\":{\"source\":[7]}}}"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(wrong); i++) {
        struct mr_config *config = NULL;
        assert_int_equal(mr_config_from_snapshot(mr_bytes_of(wrong[i]), &config), MR_E_INVALID);
        assert_null(config);
    }
}

static enum mr_status run_once(void *context)
{
    (void)context;
    struct mr_config *config = NULL;
    enum mr_status r = mr_config_from_snapshot(mr_bytes_of(whole), &config);
    mr_config_destroy(config);
    return r;
}

static void test_snapshot_without_memory_leaves_nothing(void **state)
{
    (void)state;
    assert_true(fail_each_allocation(run_once, NULL) > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_snapshot_has_what_matching_needs),
        cmocka_unit_test(test_snapshot_of_nothing_is_empty),
        cmocka_unit_test(test_snapshot_that_is_none_is_refused),
        cmocka_unit_test(test_snapshot_without_memory_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
