/* What a right file becomes: defaults, sources, targets, subscriptions. */
#include "fake_kinds.h"

#define S 1000000000ull
#define MIB (1024ull * 1024)

static const char complete[] =
    "data_dir: ./data\n"
    "listen: 127.0.0.1:8081\n"
    "sources:\n"
    "  shop:    {http:  {path: /in}}\n"
    "  sensors: {mqtt:  {url: mqtt://127.0.0.1:1883, topics: [\"plant/+/temp\"], qos: 1}}\n"
    "workers:\n"
    "  thumbs:  {process: {command: [python3, thumbs.py]}, scale: {min: 0, max: 8, target: 4, "
    "idle: 60s}, timeout: 30s}\n"
    "  pager:   {http: {url: http://127.0.0.1:9000/alert}, concurrency: 16}\n"
    "  tidy:    {exec: {command: [./tidy.sh]}}\n"
    "sinks:\n"
    "  results: {http: {url: http://127.0.0.1:9001/}}\n"
    "  mail:    {file:  {path: mail.jsonl}}\n"
    "subscriptions:\n"
    "  thumbnails:\n"
    "    source: [sensors, shop]\n"
    "    filter: {all: [{prefix: {type: com.amazonaws.s3.ObjectCreated}}, {suffix: {subject: "
    ".jpg}}]}\n"
    "    to: thumbs\n"
    "    order_by: subject\n"
    "    retry: {attempts: 5, backoff: exponential, initial: 1s, max: 5m, jitter: full}\n"
    "    max_age: 6h\n"
    "    on_success: results\n"
    "    on_failure: [mail, bus]\n"
    "  alerts: {filter: {exact: {type: io.prometheus.alert.firing}}, to: pager}\n";

static void test_load_complete_fills_everything(void **state)
{
    (void)state;
    struct mr_config *config = load_right(complete);
    assert_string_equal(config->data_dir, "/base/data");
    assert_string_equal(config->path, "/base/test.yaml");
    assert_string_equal(config->folder, "/base");
    assert_string_equal(config->listen_host, "127.0.0.1");
    assert_int_equal(config->listen_port, 8081);
    assert_int_equal(config->source_count, 2);
    assert_int_equal(config->target_count, 5);
    assert_int_equal(config->worker_count, 3);
    assert_int_equal(config->subscription_count, 4);
    assert_string_equal(config->targets[3].name, "results");
    assert_false(config->targets[3].is_worker);
    const struct mr_subscription_config *one = &config->subscriptions[0];
    assert_string_equal(one->name, "thumbnails");
    assert_int_equal(one->source_count, 2);
    assert_int_equal(one->sources[0], 1);
    assert_int_equal(one->sources[1], 0);
    assert_string_equal(one->filter_json,
                        "[{\"all\":[{\"prefix\":{\"type\":\"com.amazonaws.s3.ObjectCreated\"}},"
                        "{\"suffix\":{\"subject\":\".jpg\"}}]}]");
    assert_int_equal(one->target, 0);
    assert_int_equal(one->order, MR_ORDER_ATTRIBUTE);
    assert_string_equal(one->order_key, "subject");
    assert_int_equal(one->max_age_ns, 6 * 3600 * S);
    assert_int_equal(config->subscriptions[1].target, 1);
    assert_null(config->subscriptions[1].sources);
    mr_config_destroy(config);
}

static void test_load_complete_makes_hidden_subscriptions(void **state)
{
    (void)state;
    struct mr_config *config = load_right(complete);
    const struct mr_subscription_config *one = &config->subscriptions[0];
    assert_int_equal(one->on_success_count, 1);
    assert_int_equal(one->on_failure_count, 2);
    assert_int_equal(one->on_success[0].target, 3);
    assert_false(one->on_failure[0].is_bus);
    assert_true(one->on_failure[1].is_bus);
    assert_int_equal(one->on_success_hidden[0], 2);
    assert_int_equal(one->on_failure_hidden[0], 3);
    assert_int_equal(one->on_failure_hidden[1], UINT32_MAX);
    const struct mr_subscription_config *hidden = &config->subscriptions[3];
    assert_true(hidden->hidden);
    assert_string_equal(hidden->name, "thumbnails/on_failure/mail");
    assert_int_equal(hidden->target, 4);
    assert_string_equal(hidden->filter_json, "[]");
    assert_int_equal(hidden->retry.step_count, 8);
    assert_int_equal(hidden->window_size, 16 * MIB);
    assert_true(hidden->hash != 0);
    assert_string_equal(config->subscriptions[2].name, "thumbnails/on_success/results");
    assert_int_equal(mr_config_find_subscription(config, "thumbnails/on_success/results"), 2);
    mr_config_destroy(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_load_complete_fills_everything),
        cmocka_unit_test(test_load_complete_makes_hidden_subscriptions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
