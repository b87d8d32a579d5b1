/* What is written from the tables and from a configuration: explain, reference, schema; and the
 * policy version of a subscription. */
#include "fake_kinds.h"

#include <cjson/cJSON.h>

static char *explain(const char *settings)
{
    struct mr_config *config = load_subscription(settings);
    struct mr_buf buf;
    mr_buf_init(&buf, 1u << 16);
    assert_int_equal(mr_config_explain(config, 0, &buf), MR_OK);
    mr_config_destroy(config);
    char *text = mr_buf_take_text(&buf);
    assert_non_null(text);
    return text;
}

static void test_explain_defaults_in_words(void **state)
{
    (void)state;
    char *text = explain("concurrency: 0");
    check_has(text, "Subscription one.\n");
    check_has(text, "It takes events from every source, all of them.\n");
    check_has(text, "Each becomes a delivery to the worker thumbs (process).\n");
    check_has(text, "in no particular order.\n");
    check_has(text, "An attempt has 30s (the target's timeout); heartbeats extend it up to 1h.\n");
    check_has(text, "up to 9 attempts; the waits between them are 1s, 5s, 30s, 2m, 10m, 30m, 1h, "
                    "2h, each up to 20 % shorter or longer, together about 3h42m36s.\n");
    check_has(text, "A target may ask for another wait, up to 1h.\n");
    check_has(text, "the delivery is dead and stays in the dead-letter queue.\n");
    check_has(text, "A delivery never expires by age.\n");
    check_has(text, "When 70 % of at least 10 attempts within 5m fail, deliveries wait 30s");
    check_has(text, "may use 16MiB of memory");
    check_has_not(text, "outcome");
    mr_free(text);
}

static void test_explain_settings_in_words(void **state)
{
    (void)state;
    char *text = explain(
        "source: [shop, plant], filter: {exact: {type: t}}, order_by: data.id, concurrency: 1, "
        "timeout: 10s, max_age: 6h, max_age_from: time, on_exhausted: hold, "
        "lane_on_dead: hold, shed: {max: 5}, "
        "retry: {attempts: 1}, on_success: results, on_failure: [mail, bus]");
    check_has(text, "from the sources shop and plant, those that pass the filter "
                    "[{\"exact\":{\"type\":\"t\"}}].\n");
    check_has(text, "begins with events from then on");
    check_has(text, "at most 1 delivery in flight at once");
    check_has(text, "Deliveries with the same data.id are made one after another");
    check_has(text, "An attempt has 10s; heartbeats");
    check_has(text, "There is one attempt and no retry.\n");
    check_has(text, "the delivery is held, and its lane with it");
    check_has(text, "When more than 5 deliveries wait, the oldest are dropped until 4 wait, and");
    check_has(text, "One that would be dead, whatever for, is held with its lane as well.\n");
    check_has(text, "A delivery expires 6h after its event's time attribute.\n");
    check_has(text, "The outcome of what ends well goes to the sink results.\n");
    check_has(text, "The outcome of what ends dead or expired goes to the sink mail and "
                    "back into the bus.\n");
    mr_free(text);
}

static void test_explain_hidden_subscription(void **state)
{
    (void)state;
    struct mr_config *config = load_subscription("on_success: mail");
    struct mr_buf buf;
    mr_buf_init(&buf, 1u << 16);
    assert_int_equal(mr_config_explain(config, 1, &buf), MR_OK);
    char *text = mr_buf_take_text(&buf);
    check_has(text, "Subscription one/on_success/mail.\n");
    check_has(text, "carries the outcomes");
    check_has(text, "to the sink mail (file)");
    check_has_not(text, "heartbeats");
    mr_free(text);
    mr_config_destroy(config);
}

static void test_explain_full_buffer_is_too_big(void **state)
{
    (void)state;
    struct mr_config *config = load_subscription("concurrency: 1");
    struct mr_buf buf;
    mr_buf_init(&buf, 40);
    assert_int_equal(mr_config_explain(config, 0, &buf), MR_E_TOO_BIG);
    mr_buf_release(&buf);
    mr_config_destroy(config);
}

static uint64_t hash_of(const char *settings)
{
    struct mr_config *config = load_subscription(settings);
    uint64_t hash = config->subscriptions[0].hash;
    mr_config_destroy(config);
    return hash;
}

static void test_subscription_hash_follows_the_policy(void **state)
{
    (void)state;
    uint64_t base = hash_of("concurrency: 0");
    assert_int_equal(base, hash_of("retry: {jitter: 20%}, order_by: none"));
    static const char *const changes[] = {
        "concurrency: 2",      "source: shop",         "source: [shop, plant]",
        "filter: {exact: {type: x}}", "order_by: subject", "order_by: data.subject",
        "retry: {attempts: 2}", "retry: {jitter: none}", "retry: {jitter: 21%}",
        "order_by: subject, lane_on_dead: hold", "shed: {max: 5}", "shed: {max: 5, to: 3}",
        "shed: {max: 5, drop: newest}", "shed: {max: 6, to: 4}",
        "on_exhausted: hold",  "retry_after_max: 2h",  "timeout: 30s",
        "max_age: 1d",         "max_age: 1d, max_age_from: time", "window: 1MiB",
        "on_success: mail",     "on_failure: mail",
        "on_failure: bus",     "on_failure: [mail, bus]"};
    uint64_t seen[MR_ARRAY_COUNT(changes) + 1] = {base};
    for (size_t i = 0; i < MR_ARRAY_COUNT(changes); i++) {
        uint64_t hash = hash_of(changes[i]);
        for (size_t j = 0; j <= i; j++) {
            assert_true(hash != seen[j]);
        }
        seen[i + 1] = hash;
    }
}

static void test_subscription_hash_does_not_follow_the_place(void **state)
{
    (void)state;
    struct mr_config *a = load_right(FAKE_BASE "subscriptions: {x: {to: mail}, y: {to: pager}}\n");
    struct mr_config *b = load_right(
        "workers: {pager: {http: {url: 'http://elsewhere/'}}}\n"
        "subscriptions: {y: {to: pager}}\n");
    assert_int_equal(a->subscriptions[1].hash, b->subscriptions[0].hash);
    mr_config_destroy(a);
    mr_config_destroy(b);
}

static char *written(enum mr_status (*write)(const struct mr_config_kinds *, struct mr_buf *))
{
    struct mr_buf buf;
    mr_buf_init(&buf, 1u << 20);
    assert_int_equal(write(&fake_kinds, &buf), MR_OK);
    char *text = mr_buf_take_text(&buf);
    assert_non_null(text);
    return text;
}

static void test_reference_holds_every_table(void **state)
{
    (void)state;
    char *text = written(mr_config_reference);
    check_has(text, "# Configuration reference\n");
    check_has(text, "| `data_dir` | path | `./data` | The folder of the log and of the admin "
                    "socket. Takes effect at a start. |\n");
    check_has(text, "| `log.sync` | `always`, `interval`, `never` | `always` |");
    check_has(text, "| `log.segment_size` | size, 1MiB to 64MiB | `64MiB` |");
    check_has(text, "| `memory.state` | size, at least 1MiB | `256MiB` |");
    check_has(text, "## `sources`\n");
    check_has(text, "### source `mqtt`\n");
    check_has(text, "| `url` | URL | required | The broker. |\n");
    check_has(text, "| `verify.secret` | secret | required |");
    check_has(text, "### source `bare`\n\nNo settings.\n");
    check_has(text, "## `workers`\n");
    check_has(text, "| `scale.max` | number, 1 to 1024 |  |");
    check_has(text, "### worker `exec`\n");
    check_has(text, "### sink `file`\n");
    check_has(text, "## `subscriptions`\n");
    check_has(text, "| `retry.schedule` | text or list | `[1s, 5s, 30s, 2m, 10m, 30m, 1h, 2h]` |");
    check_has(text, "| `to` | a name, or a list of {worker: NAME, weight: N} | required |");
    check_has(text, "| `to[].weight` | number, 0 to 1000000 | `1` |");
    mr_free(text);
}

static void test_reference_rows_have_four_cells(void **state)
{
    (void)state;
    char *text = written(mr_config_reference);
    uint32_t rows = 0;
    for (char *line = text; line != NULL && *line != '\0';) {
        char *end = strchr(line, '\n');
        if (*line == '|') {
            uint32_t bars = 0;
            for (const char *c = line; c < end; c++) {
                bars += *c == '|' && (c == line || c[-1] != '\\');
            }
            assert_int_equal(bars, 5);
            rows++;
        }
        line = end == NULL ? NULL : end + 1;
    }
    assert_true(rows > 60);
    mr_free(text);
}

static const cJSON *walk(const cJSON *at, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        at = cJSON_GetObjectItemCaseSensitive(at, names[i]);
        if (at == NULL) {
            print_error("the schema has no `%s`\n", names[i]);
            fail();
        }
    }
    return at;
}
#define WALK(at, ...)                                                                              \
    walk((at), (const char *const[]){__VA_ARGS__},                                                 \
         MR_ARRAY_COUNT(((const char *const[]){__VA_ARGS__})))

static void test_schema_is_json_with_every_table(void **state)
{
    (void)state;
    char *text = written(mr_config_schema);
    cJSON *schema = cJSON_Parse(text);
    assert_non_null(schema);
    assert_string_equal(WALK(schema, "$schema")->valuestring,
                        "http://json-schema.org/draft-07/schema#");
    assert_true(cJSON_IsFalse(WALK(schema, "additionalProperties")));
    assert_int_equal(WALK(schema, "properties", "hops_max", "maximum")->valueint, 255);
    const cJSON *source = WALK(schema, "properties", "sources", "additionalProperties");
    assert_int_equal(cJSON_GetArraySize(WALK(source, "oneOf")), 4);
    assert_int_equal(
        cJSON_GetArraySize(WALK(source, "properties", "mqtt", "required")), 1);
    assert_int_equal(WALK(source, "properties", "mqtt", "properties", "qos", "maximum")->valueint,
                     2);
    assert_true(cJSON_IsFalse(WALK(source, "properties", "paused", "default")));
    const cJSON *subscription =
        WALK(schema, "properties", "subscriptions", "additionalProperties");
    assert_null(cJSON_GetObjectItemCaseSensitive(subscription, "oneOf"));
    assert_int_equal(cJSON_GetArraySize(WALK(subscription, "required")), 1);
    const cJSON *retry = WALK(subscription, "properties", "retry");
    assert_int_equal(cJSON_GetArraySize(WALK(retry, "properties", "backoff", "enum")), 2);
    cJSON_Delete(schema);
    mr_free(text);
}

static void test_reference_and_schema_full_buffer_is_too_big(void **state)
{
    (void)state;
    struct mr_buf buf;
    mr_buf_init(&buf, 3000);
    assert_int_equal(mr_config_reference(&fake_kinds, &buf), MR_E_TOO_BIG);
    mr_buf_clear(&buf);
    assert_int_equal(mr_config_schema(&fake_kinds, &buf), MR_E_TOO_BIG);
    mr_buf_release(&buf);
}

static void test_options_defaults_fill_and_release_empties(void **state)
{
    (void)state;
    struct fake_mqtt_source mqtt = {0};
    assert_int_equal(mr_options_defaults(fake_mqtt_source_table, &mqtt), MR_OK);
    assert_int_equal(mqtt.qos, 1);
    assert_int_equal(mqtt.topics.count, 1);
    assert_null(mqtt.url);
    mr_options_release(fake_mqtt_source_table, &mqtt);
    assert_int_equal(mqtt.topics.count, 0);
    assert_null(mqtt.topics.items);
    assert_int_equal(mqtt.qos, 0);
    mr_options_release(fake_mqtt_source_table, &mqtt);
    mr_options_release(fake_mqtt_source_table, NULL);
}

static void test_options_defaults_of_every_type(void **state)
{
    (void)state;
    struct all {
        char *path;
        struct mr_url *url;
        struct mr_secret *secret;
        struct mr_rate rate;
        uint64_t size;
        uint64_t duration;
        char *json;
        struct mr_strings none;
        bool yes;
    } all = {0};
    const struct mr_option table[] = {
        {.name = "path", .type = MR_OPTION_PATH, .at = offsetof(struct all, path),
         .default_text = "./x"},
        {.name = "url", .type = MR_OPTION_URL, .at = offsetof(struct all, url),
         .default_text = "http://h:1/p"},
        {.name = "secret", .type = MR_OPTION_SECRET, .at = offsetof(struct all, secret),
         .default_text = "s"},
        {.name = "rate", .type = MR_OPTION_RATE, .at = offsetof(struct all, rate),
         .default_text = "3/m"},
        {.name = "size", .type = MR_OPTION_SIZE, .at = offsetof(struct all, size),
         .default_text = "3kB"},
        {.name = "duration", .type = MR_OPTION_DURATION, .at = offsetof(struct all, duration),
         .default_text = "3us"},
        {.name = "json", .type = MR_OPTION_JSON, .at = offsetof(struct all, json),
         .default_text = "{}"},
        {.name = "none", .type = MR_OPTION_STRINGS, .at = offsetof(struct all, none),
         .default_text = "[]"},
        {.name = "yes", .type = MR_OPTION_BOOL, .at = offsetof(struct all, yes),
         .default_text = "true"},
        MR_OPTION_END,
    };
    assert_int_equal(mr_options_defaults(table, &all), MR_OK);
    assert_string_equal(all.path, "./x");
    assert_int_equal(all.url->port, 1);
    assert_true(mr_secret_equal(all.secret, MR_BYTES_LITERAL("s")));
    assert_int_equal(all.rate.count, 3);
    assert_int_equal(all.size, 3000);
    assert_int_equal(all.duration, 3000);
    assert_string_equal(all.json, "{}");
    assert_int_equal(all.none.count, 0);
    assert_true(all.yes);
    mr_options_release(table, &all);
    assert_null(all.path);
    assert_null(all.url);
    assert_false(all.yes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_explain_defaults_in_words),
        cmocka_unit_test(test_explain_settings_in_words),
        cmocka_unit_test(test_explain_hidden_subscription),
        cmocka_unit_test(test_explain_full_buffer_is_too_big),
        cmocka_unit_test(test_subscription_hash_follows_the_policy),
        cmocka_unit_test(test_subscription_hash_does_not_follow_the_place),
        cmocka_unit_test(test_reference_holds_every_table),
        cmocka_unit_test(test_reference_rows_have_four_cells),
        cmocka_unit_test(test_schema_is_json_with_every_table),
        cmocka_unit_test(test_reference_and_schema_full_buffer_is_too_big),
        cmocka_unit_test(test_options_defaults_fill_and_release_empties),
        cmocka_unit_test(test_options_defaults_of_every_type),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
