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

/* --- the top level ---------------------------------------------------------------------------- */

static void test_load_defaults_are_those_of_the_header(void **state)
{
    (void)state;
    struct mr_config *config = load_right("");
    assert_string_equal(config->listen_host, "127.0.0.1");
    assert_int_equal(config->listen_port, 8080);
    assert_false(config->listen_off);
    assert_int_equal(config->log.sync, MR_SYNC_ALWAYS);
    assert_int_equal(config->log.sync_interval_ns, S / 10);
    assert_int_equal(config->log.segment_size, 64 * MIB);
    assert_int_equal(config->log.max_size, 65536 * MIB);
    assert_int_equal(config->log.retain_size, 1024 * MIB);
    assert_int_equal(config->log.retain_age_ns, 86400 * S);
    assert_int_equal(config->log.disk_low, 512 * MIB);
    assert_int_equal(config->log.cache_size, 64 * MIB);
    assert_int_equal(config->log.checkpoint_size, 64 * MIB);
    assert_int_equal(config->log.scrub_ns, 7 * 86400 * S);
    assert_int_equal(config->memory_state, 256 * MIB);
    assert_int_equal(config->event_size_max, MIB);
    assert_int_equal(config->hops_max, 16);
    assert_int_equal(config->drain_ns, 10 * S);
    assert_int_equal(config->dlq_growth_ns, 0);
    mr_config_destroy(config);
}

static void test_load_top_level_values_are_taken(void **state)
{
    (void)state;
    struct mr_config *config = load_right(
        "data_dir: /var/lib/mr\nlisten: '[::1]:0'\nevent_size_max: 2MiB\nhops_max: 3\ndrain: 0\n"
        "memory: {state: 1GiB}\n"
        "log: {sync: interval, sync_interval: 5ms, segment_size: 8MiB, max_size: 1GiB, "
        "retain_size: 0, retain_age: 0, disk_low: 1kB, cache_size: 2MiB, checkpoint_size: 4MiB}\n");
    assert_string_equal(config->data_dir, "/var/lib/mr");
    assert_string_equal(config->listen_host, "::1");
    assert_int_equal(config->listen_port, 0);
    assert_int_equal(config->event_size_max, 2 * MIB);
    assert_int_equal(config->hops_max, 3);
    assert_int_equal(config->drain_ns, 0);
    assert_int_equal(config->memory_state, 1024 * MIB);
    assert_int_equal(config->log.sync, MR_SYNC_INTERVAL);
    assert_int_equal(config->log.sync_interval_ns, S / 200);
    assert_int_equal(config->log.segment_size, 8 * MIB);
    assert_int_equal(config->log.retain_size, 0);
    assert_int_equal(config->log.disk_low, 1000);
    mr_config_destroy(config);
}

static void test_load_empty_blocks_are_defaults(void **state)
{
    (void)state;
    struct mr_config *config =
        load_right("log:\nmemory: ~\nsources:\nworkers: {}\nsinks: null\nsubscriptions:\n");
    assert_int_equal(config->log.segment_size, 64 * MIB);
    assert_string_equal(config->canonical_json,
                        "{\"log\":{},\"memory\":{},\"sources\":{},\"workers\":{},\"sinks\":{},"
                        "\"subscriptions\":{}}");
    mr_config_destroy(config);
}

/* --- sources ---------------------------------------------------------------------------------- */

static void test_load_source_takes_limits_of_the_file(void **state)
{
    (void)state;
    struct mr_config *config = load_right(
        "event_size_max: 64KiB\nhops_max: 4\n"
        "sources:\n  a: {http: {}}\n  b: {http: {}, event_size_max: 2kB, hops_max: 9, "
        "paused: true}\n");
    assert_int_equal(config->sources[0].event_size_max, 65536);
    assert_int_equal(config->sources[0].hops_max, 4);
    assert_false(config->sources[0].paused);
    assert_int_equal(config->sources[1].event_size_max, 2000);
    assert_int_equal(config->sources[1].hops_max, 9);
    assert_true(config->sources[1].paused);
    assert_int_equal(mr_config_find_source(config, "b"), 1);
    assert_int_equal(mr_config_find_source(config, "c"), -1);
    mr_config_destroy(config);
}

static void test_load_source_options_have_defaults(void **state)
{
    (void)state;
    struct mr_config *config = load_right(
        "sources: {a: {http: {}}, b: {mqtt: {url: 'mqtt://h'}}, c: {bare: }, d: {http: }}\n");
    const struct fake_http_source *http = config->sources[0].options;
    assert_string_equal(http->path, "/events");
    assert_null(http->type);
    assert_null(http->verify.secret);
    const struct fake_mqtt_source *mqtt = config->sources[1].options;
    assert_int_equal(mqtt->topics.count, 1);
    assert_string_equal(mqtt->topics.items[0], "#");
    assert_int_equal(mqtt->qos, 1);
    assert_string_equal(config->sources[2].kind->name, "bare");
    assert_string_equal(config->sources[3].kind->name, "http");
    mr_config_destroy(config);
}

static void test_load_source_without_kind_names_the_kinds(void **state)
{
    (void)state;
    check_one_error("sources: {a: {paused: true}}\n",
                    "test.yaml:1:11: the source `a` does not say of what kind it is: one of http, "
                    "mqtt, file, bare");
    check_one_error("sources: {a: {}}\n", "does not say of what kind it is");
    check_one_error("sources: {a: http}\n", "the source `a` wants a mapping: {KIND: {…}}");
    check_one_error("sources: {a: }\n", "the source `a` wants a mapping");
}

static void test_load_source_of_two_kinds_is_refused(void **state)
{
    (void)state;
    check_one_error("sources: {a: {http: {}, bare: {}}}\n",
                    "test.yaml:1:25: the source `a` is of two kinds, http and bare");
}

static void test_load_source_of_unknown_kind_is_refused(void **state)
{
    (void)state;
    check_one_error("sources: {a: {htp: {}}}\n", "unknown key `htp`, did you mean `http`?");
    check_one_error("sources: {a: {carrier_pigeon: {}}}\n",
                    "unknown key `carrier_pigeon`; here can stand: http, mqtt, file, bare, "
                    "event_size_max");
}

static void test_load_kind_check_is_reported_at_the_kind(void **state)
{
    (void)state;
    check_one_error("sources: {a: {mqtt: {url: 'http://h'}}}\n",
                    "test.yaml:1:15: mqtt: url: the scheme must be mqtt");
}

static void test_load_kind_check_is_left_out_after_an_error(void **state)
{
    (void)state;
    check_one_error("sources: {a: {mqtt: {url: nonsense}}}\n", "test.yaml:1:22: url: is no URL");
    check_one_error("sources: {a: {mqtt: {}}}\n", "test.yaml:1:15: `url` is missing: The broker.");
}

static void test_load_required_setting_of_a_given_block_is_asked_for(void **state)
{
    (void)state;
    check_one_error("sources: {a: {http: {verify: {scheme: hmac}}}}\n", "`secret` is missing");
}

static void test_load_sections_of_wrong_shape_are_refused(void **state)
{
    (void)state;
    check_one_error("sources: [a]\n", "`sources` wants a mapping of names");
    check_one_error("subscriptions: x\n", "`subscriptions` wants a mapping of names");
    check_one_error("log: 5\n", "`log` wants a mapping, not a single value");
    check_one_error("log: [a]\n", "`log` wants a mapping, not a list");
    check_one_error("sources: {a: {http: [x]}}\n", "`http` wants a mapping, not a list");
    check_one_error("sources: {a: [x]}\n", "the source `a` wants a mapping: {KIND: {…}}");
    check_one_error("sources: {a: {http: {}, dedupe: [x]}}\n",
                    "`dedupe` wants a mapping, not a list");
}

/* --- names ------------------------------------------------------------------------------------ */

static void test_load_bad_names_are_refused(void **state)
{
    (void)state;
    check_one_error("sources: {a/b: {http: {}}}\n", "`a/b` is no name");
    check_one_error("sources: {'a b': {http: {}}}\n", "is no name");
    check_one_error("sources: {é: {http: {}}}\n", "is no name");
    check_one_error("sources: {aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa: "
                    "{http: {}}}\n",
                    "is no name: 1 to 64");
    check_one_error("sinks: {bus: {file: {path: x}}}\n", "`bus` is a name Millrace keeps");
    check_one_error("subscriptions: {ingest: {to: x}}\n", "`ingest` is a name Millrace keeps");
}

static void test_load_name_of_64_bytes_is_taken(void **state)
{
    (void)state;
    struct mr_config *config = load_right(
        "sources: {aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.-: {http: {}}, "
        "A_1: {http: {}}}\n");
    assert_int_equal(strlen(config->sources[0].name), 64);
    mr_config_destroy(config);
}

static void test_load_worker_and_sink_of_one_name_show_both_places(void **state)
{
    (void)state;
    check_one_error("sinks:\n  x: {file: {path: y}}\nworkers:\n  x: {exec: {command: z}}\n",
                    "test.yaml:2:3: `x` is a worker's name already (test.yaml:4:3)");
}

/* --- targets ---------------------------------------------------------------------------------- */

static void test_load_target_defaults_follow_the_kind(void **state)
{
    (void)state;
    struct mr_config *config = load_right(
        "workers: {p: {process: {command: x}}, e: {exec: {command: x}}, "
        "h: {http: {url: 'http://h'}}}\n"
        "sinks: {s: {http: {url: 'http://h'}}}\n");
    static const struct {
        uint32_t concurrency, min, max, target;
    } wanted[] = {{1, 1, 1, 1}, {1, 0, 4, 1}, {32, 0, 0, 0}, {64, 0, 0, 0}};
    for (uint32_t i = 0; i < 4; i++) {
        const struct mr_target_config *target = &config->targets[i];
        assert_int_equal(target->concurrency, wanted[i].concurrency);
        assert_int_equal(target->scale_min, wanted[i].min);
        assert_int_equal(target->scale_max, wanted[i].max);
        assert_int_equal(target->scale_target, wanted[i].target);
        assert_int_equal(target->timeout_ns, 30 * S);
        assert_int_equal(target->max_run_ns, 3600 * S);
        assert_int_equal(target->grace_ns, 5 * S);
        assert_int_equal(target->breaker_percent, 70);
        assert_int_equal(target->breaker_calls, 10);
        assert_int_equal(target->breaker_window_ns, 300 * S);
        assert_int_equal(target->breaker_open_ns, 30 * S);
    }
    assert_int_equal(config->targets[0].scale_idle_ns, 60 * S);
    mr_config_destroy(config);
}

static void test_load_target_values_are_taken(void **state)
{
    (void)state;
    struct mr_config *config = load_right(
        "workers: {p: {process: {command: [a, b]}, concurrency: 7, timeout: 2m, max_run: 2h, "
        "grace: 0, scale: {min: 2, max: 5, target: 3, idle: 10s}, "
        "breaker: {percent: 0, calls: 3, window: 1m, open: 1s}}}\n");
    const struct mr_target_config *target = &config->targets[0];
    assert_true(target->is_worker);
    assert_int_equal(target->concurrency, 7);
    assert_int_equal(target->timeout_ns, 120 * S);
    assert_int_equal(target->max_run_ns, 7200 * S);
    assert_int_equal(target->grace_ns, 0);
    assert_int_equal(target->scale_min, 2);
    assert_int_equal(target->scale_max, 5);
    assert_int_equal(target->scale_target, 3);
    assert_int_equal(target->scale_idle_ns, 10 * S);
    assert_int_equal(target->breaker_percent, 0);
    assert_int_equal(target->breaker_calls, 3);
    const struct fake_process *options = target->options;
    assert_int_equal(options->command.count, 2);
    assert_string_equal(options->command.items[1], "b");
    mr_config_destroy(config);
}

static void test_load_scale_max_defaults_to_a_larger_min(void **state)
{
    (void)state;
    struct mr_config *config =
        load_right("workers: {p: {process: {command: x}, concurrency: 4, scale: {min: 3}}, "
                   "e: {exec: {command: x}, scale: {max: 9}}}\n");
    assert_int_equal(config->targets[0].scale_max, 3);
    assert_int_equal(config->targets[0].scale_target, 4);
    assert_int_equal(config->targets[1].scale_min, 0);
    assert_int_equal(config->targets[1].scale_max, 9);
    mr_config_destroy(config);
}

static void test_load_scale_min_above_max_is_refused(void **state)
{
    (void)state;
    check_one_error("workers: {p: {process: {command: x}, scale: {min: 3, max: 2}}}\n",
                    "scale: max 2 is less than min 3");
    check_one_error("workers: {p: {process: {command: x}, scale: {max: 0}}}\n",
                    "max: `0` is out of range: from 1 to 1024");
}

static void test_load_scale_of_http_worker_is_refused(void **state)
{
    (void)state;
    check_one_error("workers: {h: {http: {url: 'http://h'}, scale: {max: 2}}}\n",
                    "`scale` is for process and exec workers");
    check_one_error("sinks: {h: {http: {url: 'http://h'}, scale: {max: 2}}}\n",
                    "unknown key `scale`");
}

static void test_load_timeout_beyond_max_run_is_refused(void **state)
{
    (void)state;
    check_one_error("workers: {h: {http: {url: 'http://h'}, timeout: 2h}}\n",
                    "timeout is longer than max_run, the end of every attempt (1h");
    check_one_error("workers: {h: {http: {url: 'http://h'}, max_run: 10s}}\n",
                    "test.yaml:1:40: timeout is longer than max_run");
}

/* --- subscriptions ---------------------------------------------------------------------------- */

static void test_load_subscription_defaults(void **state)
{
    (void)state;
    struct mr_config *config = load_right(FAKE_BASE "subscriptions: {one: {to: mail}}\n");
    const struct mr_subscription_config *one = &config->subscriptions[0];
    assert_false(one->hidden);
    assert_string_equal(one->filter_json, "[]");
    assert_null(one->sources);
    assert_int_equal(one->target, 3);
    assert_int_equal(one->order, MR_ORDER_NONE);
    assert_null(one->order_key);
    assert_int_equal(one->on_exhausted, MR_EXHAUSTED_DEAD);
    assert_int_equal(one->retry_after_max_ns, 3600 * S);
    assert_int_equal(one->timeout_ns, 0);
    assert_int_equal(one->max_age_ns, 0);
    assert_false(one->max_age_from_time);
    assert_int_equal(one->concurrency, 0);
    assert_int_equal(one->window_size, 16 * MIB);
    assert_null(one->on_success);
    assert_null(one->on_failure_hidden);
    mr_config_destroy(config);
}

static void test_load_subscription_values_are_taken(void **state)
{
    (void)state;
    struct mr_config *config = load_subscription(
        "source: shop, on_exhausted: hold, retry_after_max: 5m, timeout: 10s, max_age: 1d, "
        "max_age_from: time, concurrency: 8, window: 1MiB, "
        "order_by: data.order.id, filter: [{exact: {type: a}}, {prefix: {subject: b}}]");
    const struct mr_subscription_config *one = &config->subscriptions[0];
    assert_int_equal(one->source_count, 1);
    assert_int_equal(one->sources[0], 0);
    assert_int_equal(one->on_exhausted, MR_EXHAUSTED_HOLD);
    assert_int_equal(one->retry_after_max_ns, 300 * S);
    assert_int_equal(one->timeout_ns, 10 * S);
    assert_int_equal(one->max_age_ns, 86400 * S);
    assert_true(one->max_age_from_time);
    assert_int_equal(one->concurrency, 8);
    assert_int_equal(one->window_size, MIB);
    assert_int_equal(one->order, MR_ORDER_DATA);
    assert_string_equal(one->order_key, "order.id");
    assert_string_equal(one->filter_json,
                        "[{\"exact\":{\"type\":\"a\"}},{\"prefix\":{\"subject\":\"b\"}}]");
    mr_config_destroy(config);
}

static void test_load_subscription_without_target_is_refused(void **state)
{
    (void)state;
    check_one_error(FAKE_BASE "subscriptions: {one: {}}\n", "`to` is missing");
    check_one_error(FAKE_BASE "subscriptions: {one: }\n", "wants a mapping");
    check_one_error(FAKE_BASE "subscriptions: {one: {to: }}\n", "`to` has no value");
}

static void test_load_unknown_target_names_the_nearest(void **state)
{
    (void)state;
    check_one_error(FAKE_BASE "subscriptions: {one: {to: thumb}}\n",
                    "test.yaml:4:23: there is no worker or sink `thumb`, did you mean `thumbs`?");
    check_one_error(FAKE_BASE "subscriptions: {one: {to: elsewhere}}\n",
                    "there is no worker or sink `elsewhere`; there is: mail, pager, "
                    "results, thumbs");
    check_one_error("subscriptions: {one: {to: x}}\n", "there is none at all");
    check_one_error(FAKE_BASE "subscriptions: {one: {to: bus}}\n", "would send every event round");
}

static void test_load_several_targets_are_taken(void **state)
{
    (void)state;
    struct mr_config *config = load_right(
        FAKE_BASE "subscriptions: {one: {to: [{worker: thumbs, weight: 90}, {worker: pager, "
                  "weight: 10, return: {percent: 20, calls: 7, window: 1m}}]}, two: {to: pager}}\n");
    const struct mr_subscription_config *one = &config->subscriptions[0];
    uint32_t pager = (uint32_t)mr_config_find_target(config, "pager");
    assert_int_equal(one->share_count, 2);
    assert_int_equal(one->target, mr_config_find_target(config, "thumbs"));
    assert_int_equal(one->shares[0].weight, 90);
    assert_int_equal(one->shares[0].return_percent, 0);
    assert_int_equal(one->shares[1].target, pager);
    assert_int_equal(one->shares[1].return_percent, 20);
    assert_int_equal(one->shares[1].return_calls, 7);
    assert_int_equal(one->shares[1].return_window_ns, 60000000000ull);
    assert_true(mr_subscription_reaches(one, pager));
    assert_int_equal(config->subscriptions[1].share_count, 0);
    assert_true(mr_subscription_reaches(&config->subscriptions[1], pager));
    assert_false(mr_subscription_reaches(&config->subscriptions[1], one->target));
    mr_config_destroy(config);
}

static void test_load_wrong_targets_are_refused(void **state)
{
    (void)state;
    check_one_error(FAKE_BASE "subscriptions: {one: {to: [thumbs]}}\n",
                    "an item of the list is a mapping: {worker: NAME, weight: 90}");
    check_one_error(FAKE_BASE "subscriptions: {one: {to: [{worker: thumb}]}}\n",
                    "did you mean `thumbs`?");
    check_one_error(FAKE_BASE "subscriptions: {one: {to: [{worker: thumbs, weigth: 1}]}}\n",
                    "did you mean `weight`?");
    check_one_error(FAKE_BASE "subscriptions: {one: {to: {worker: thumbs}}}\n",
                    "`to` wants a single value");
}

static void test_load_unknown_source_names_the_nearest(void **state)
{
    (void)state;
    check_subscription_error("source: shp", "there is no source `shp`, did you mean `shop`?");
    check_subscription_error("source: [shop, plants]", "did you mean `plant`?");
    check_subscription_error("source: [shop, shop]", "`shop` is named twice");
    check_subscription_error("source: []", "the list is empty");
}

static void test_load_filter_of_wrong_shape_is_refused(void **state)
{
    (void)state;
    check_subscription_error("filter: 'type = x'", "filter wants a mapping");
    check_subscription_error("filter: ", "filter wants a mapping");
    check_subscription_error("filter: [x]", "an item of the list is no mapping");
}

static void test_load_order_by_wrong_key_is_refused(void **state)
{
    (void)state;
    check_subscription_error("order_by: Subject", "`Subject` is neither none, nor an attribute");
    check_subscription_error("order_by: data", "neither none");
    check_subscription_error("order_by: data.", "neither none");
    check_subscription_error("order_by: data..a", "neither none");
    check_subscription_error("order_by: data.a.", "neither none");
    check_subscription_error("order_by: ''", "neither none");
}

static void test_load_order_by_attribute_is_taken(void **state)
{
    (void)state;
    struct mr_config *config = load_subscription("order_by: partitionkey");
    assert_int_equal(config->subscriptions[0].order, MR_ORDER_ATTRIBUTE);
    assert_string_equal(config->subscriptions[0].order_key, "partitionkey");
    mr_config_destroy(config);
    config = load_subscription("order_by: none");
    assert_int_equal(config->subscriptions[0].order, MR_ORDER_NONE);
    mr_config_destroy(config);
}

static void test_load_max_age_below_timeout_is_refused(void **state)
{
    (void)state;
    check_subscription_error("max_age: 10s", "max_age is shorter than the timeout of one attempt "
                                             "(the target's)");
    check_subscription_error("max_age: 10s, timeout: 11s", "max_age is shorter than the timeout");
    struct mr_config *config = load_subscription("max_age: 10s, timeout: 10s");
    mr_config_destroy(config);
}

static void test_load_timeout_beyond_the_workers_max_run_is_refused(void **state)
{
    (void)state;
    check_subscription_error("timeout: 2h", "timeout is longer than the max_run of `thumbs`");
}

static void test_load_max_age_from_without_max_age_is_refused(void **state)
{
    (void)state;
    check_subscription_error("max_age_from: time", "only with max_age");
}

static void test_load_destination_that_is_a_worker_is_refused(void **state)
{
    (void)state;
    check_subscription_error("on_success: pager", "on_success: `pager` is a worker");
    check_subscription_error("on_failure: [mail, thumbs]", "on_failure: `thumbs` is a worker");
}

static void test_load_destination_unknown_or_twice_is_refused(void **state)
{
    (void)state;
    check_subscription_error("on_success: result", "there is no sink `result`, did you mean "
                                                   "`results`?");
    check_subscription_error("on_failure: [bus, mail, bus]", "on_failure: `bus` is named twice");
    check_subscription_error("on_failure: [mail, mail]", "on_failure: `mail` is named twice");
}

static void test_load_same_sink_for_both_outcomes_makes_two(void **state)
{
    (void)state;
    struct mr_config *config = load_subscription("on_success: [bus, mail], on_failure: mail");
    assert_int_equal(config->subscription_count, 3);
    assert_string_equal(config->subscriptions[1].name, "one/on_success/mail");
    assert_string_equal(config->subscriptions[2].name, "one/on_failure/mail");
    assert_int_equal(config->subscriptions[0].on_success_hidden[0], UINT32_MAX);
    assert_int_equal(config->subscriptions[0].on_success_hidden[1], 1);
    mr_config_destroy(config);
}

static void test_load_hidden_subscriptions_come_after_all_visible(void **state)
{
    (void)state;
    struct mr_config *config =
        load_right(FAKE_BASE "subscriptions: {a: {to: thumbs, on_success: mail}, b: {to: pager, "
                             "on_failure: [results, mail]}, c: {to: mail}}\n");
    assert_int_equal(config->subscription_count, 6);
    for (uint32_t i = 0; i < 6; i++) {
        assert_int_equal(config->subscriptions[i].hidden, i >= 3);
    }
    assert_int_equal(config->subscriptions[1].on_failure_hidden[1], 5);
    assert_string_equal(config->subscriptions[5].name, "b/on_failure/mail");
    mr_config_destroy(config);
}

/* --- limits ----------------------------------------------------------------------------------- */

static void test_load_limits_are_shared(void **state)
{
    (void)state;
    struct mr_config *config =
        load_right("limits: {api: {concurrency: 3, rate: 10/s}, crm: {concurrency: 1}}\n" FAKE_BASE
                   "subscriptions: {one: {to: mail, limits: [crm, api]}, two: {to: mail, "
                   "limits: api}}\n");
    assert_int_equal(config->limit_count, 2);
    assert_string_equal(config->limits[0].name, "api");
    assert_int_equal(config->limits[0].concurrency, 3);
    assert_int_equal(config->limits[0].rates->count, 1);
    assert_null(config->limits[1].rates);
    assert_int_equal(config->subscriptions[0].limit_count, 2);
    assert_int_equal(config->subscriptions[0].limits[0], 1);
    assert_int_equal(config->subscriptions[1].limits[0], 0);
    mr_config_destroy(config);
}

static void test_load_wrong_limits_are_refused(void **state)
{
    (void)state;
    check_one_error("limits: {api: {}}\n", "the limit `api` limits nothing");
    check_one_error("limits: {api: 5}\n", "the limit `api` wants a mapping");
    check_one_error("limits: {api: {rate: fast}}\n", "rate: `fast`");
    check_subscription_error("limits: crm", "there is no limit `crm`; there is none at all");
    check_one_error("limits: {api: {concurrency: 1}}\n" FAKE_BASE
                    "subscriptions: {one: {to: mail, limits: [api, api]}}\n",
                    "limits: `api` is named twice");
}

/* --- fan-outs --------------------------------------------------------------------------------- */

static void test_load_fanouts_take_their_subscriptions(void **state)
{
    (void)state;
    struct mr_config *config = load_right(
        FAKE_BASE "subscriptions: {one: {to: thumbs, shadow: pager}, two: {to: mail, on_success: "
                  "mail}, other: {to: mail}}\nfanouts: {a: {of: [one, t*], within: 2s}, b: {of: "
                  "other}}\n");
    assert_int_equal(config->fanout_count, 2);
    assert_string_equal(config->fanouts[0].name, "a");
    assert_int_equal(config->fanouts[0].within_ns, 2 * S);
    assert_int_equal(config->fanouts[1].within_ns, 24 * 3600 * S);
    for (uint32_t i = 0; i < config->subscription_count; i++) {
        const struct mr_subscription_config *s = &config->subscriptions[i];
        uint32_t wanted = s->hidden || s->is_shadow ? 0 : strcmp(s->name, "other") == 0 ? 2 : 1;
        assert_int_equal(s->fanout, wanted);
    }
    mr_config_destroy(config);
}

static void test_load_wrong_fanouts_are_refused(void **state)
{
    (void)state;
    check_one_error("fanouts: {a: x}\n", "the fan-out `a` wants a mapping");
    check_one_error("fanouts: {a: {within: 1s}}\n", "of");
    check_one_error("fanouts: {a: {of: one}}\n", "no subscription is called `one`");
    check_one_error(FAKE_BASE "subscriptions: {one: {to: mail}}\nfanouts: {a: {of: [one, x*]}}\n",
                    "no subscription is called `x*`");
    check_one_error(FAKE_BASE "subscriptions: {one: {to: mail}}\nfanouts: {a: {of: one}, b: {of: "
                              "o*}}\n",
                    "`one` belongs to the fan-out `a` already, and to `b`");
    check_one_error(FAKE_BASE "subscriptions: {one: {to: mail}}\nfanouts: {a: {of: one, within: "
                              "0s}}\n",
                    "within");
}

/* --- what a later event does to an earlier one ------------------------------------------------ */

static void test_load_overtaking_is_taken(void **state)
{
    (void)state;
    struct mr_config *config = load_subscription(
        "order_by: subject, debounce: 5s, when_busy: replace, lane_on_dead: hold, shadow: pager, "
        "cancel_on: {exact: {type: x}}");
    const struct mr_subscription_config *one = &config->subscriptions[0];
    assert_true(one->dead_holds);
    assert_true(one[1].is_shadow && !one[1].dead_holds);
    assert_true(one->keep_latest);
    assert_int_equal(one->when_busy, MR_BUSY_REPLACE);
    assert_int_equal(one->debounce_ns, 5 * S);
    assert_string_equal(one->cancel_on, "[{\"exact\":{\"type\":\"x\"}}]");
    mr_config_destroy(config);
}

static void test_load_overtaking_without_keys_or_sense_is_refused(void **state)
{
    (void)state;
    check_subscription_error("keep: latest", "keep is about events of the same key");
    check_subscription_error("debounce: 1s", "debounce is about events of the same key");
    check_subscription_error("cancel_on: {exact: {type: x}}", "say with order_by which they are");
    check_subscription_error("lane_on_dead: hold", "lane_on_dead is about events of the same key");
    check_subscription_error("order_by: subject, lane_concurrency: 2, lane_on_dead: hold",
                             "lane_concurrency: lane_on_dead wants the events of a key one after");
    check_subscription_error("order_by: subject, when_busy: skip, keep: latest",
                             "when_busy: skip keeps the first event of a key, keep: latest the");
    check_subscription_error("order_by: subject, when_busy: wait", "queue, skip, replace");
    check_subscription_error("order_by: subject, cancel_on: x", "cancel_on wants a mapping");
    check_subscription_error("order_by: subject, cancel_on: [x]", "cancel_on: an item of the list");
}

/* --- shedding --------------------------------------------------------------------------------- */

static void check_shed(const char *settings, uint32_t max, uint32_t to, bool newest)
{
    struct mr_config *config = load_subscription(settings);
    const struct mr_subscription_config *one = &config->subscriptions[0];
    assert_int_equal(one->shed_max, max);
    assert_int_equal(one->shed_to, to);
    assert_int_equal(one->shed_newest, newest);
    mr_config_destroy(config);
}

static void test_load_shed_is_taken(void **state)
{
    (void)state;
    check_shed("concurrency: 1", 0, 0, false);
    check_shed("shed: {max: 1}", 1, 0, false);
    check_shed("shed: {max: 2}", 2, 1, false);
    check_shed("shed: {max: 1000}", 1000, 900, false);
    check_shed("shed: {max: 1000000000}", 1000000000, 900000000, false);
    check_shed("shed: {max: 1000, to: 0, drop: newest}", 1000, 0, true);
    check_shed("window: 1MiB, shed: {max: 2048, drop: newest}", 2048, 1843, true);
}

static void test_load_shed_without_sense_is_refused(void **state)
{
    (void)state;
    check_subscription_error("shed: {}", "shed: `max` is missing");
    check_subscription_error("shed: ", "shed: `max` is missing");
    check_subscription_error("shed: {to: 1}", "shed: `max` is missing");
    check_subscription_error("shed: 5", "`shed` wants a mapping");
    check_subscription_error("shed: {max: 0}", "max");
    check_subscription_error("shed: {max: 5, to: 5}", "shed: to is not below max");
    check_subscription_error("shed: {max: 5, drop: all}", "oldest, newest");
    check_subscription_error("window: 1MiB, shed: {max: 2049, drop: newest}",
                             "2049 deliveries of up to 512 bytes do not fit into a window of "
                             "1048576 bytes");
}

/* --- batches ---------------------------------------------------------------------------------- */

static void test_load_batch_is_taken(void **state)
{
    (void)state;
    struct mr_config *config = load_right(
        FAKE_BASE "subscriptions: {one: {to: thumbs}, two: {to: thumbs, batch: {}}, three: {to: "
                  "pager, batch: {max: 5, bytes: 2KiB, window: 1s, by: data.shop.id}}}\n");
    const struct mr_subscription_config *s = config->subscriptions;
    assert_int_equal(s[0].batch_max, 0);
    assert_int_equal(s[1].batch_max, 100);
    assert_int_equal(s[1].batch_size, 1u << 20);
    assert_int_equal(s[1].batch_window_ns, 200000000);
    assert_int_equal(s[1].batch_by, MR_ORDER_NONE);
    assert_int_equal(s[2].batch_max, 5);
    assert_int_equal(s[2].batch_size, 2048);
    assert_int_equal(s[2].batch_window_ns, 1 * S);
    assert_int_equal(s[2].batch_by, MR_ORDER_DATA);
    assert_string_equal(s[2].batch_key, "shop.id");
    assert_int_not_equal(s[0].hash, s[1].hash);
    mr_config_destroy(config);
}

static void check_batch_error(const char *batch, const char *part)
{
    char text[512];
    (void)snprintf(text, sizeof(text), FAKE_BASE "subscriptions: {one: {to: thumbs, batch: %s}}\n",
                   batch);
    check_one_error(text, part);
}

static void test_load_wrong_batches_are_refused(void **state)
{
    (void)state;
    check_batch_error("{max: 0}", "max: `0` is out of range: from 1 to 10000");
    check_batch_error("{max: 10001}", "max: `10001` is out of range: from 1 to 10000");
    check_batch_error("{bytes: 5MiB}", "bytes: ");
    check_batch_error("{window: 2h}", "window: ");
    check_batch_error("{by: A-B}", "by: `A-B` is neither none, nor an attribute");
    check_batch_error("{size: 3}", "size");
    check_batch_error("10", "batch");
    check_one_error(FAKE_BASE "subscriptions: {one: {to: mail, batch: {}}}\n",
                    "batch: `mail` is of the kind file, which takes deliveries one by one");
}

/* --- repeats ---------------------------------------------------------------------------------- */

static void check_dedupe(const char *source, uint64_t window_ns, uint32_t keys, bool ids)
{
    char text[128];
    (void)snprintf(text, sizeof(text), "sources: {a: {http: {path: /a}%s}}\n", source);
    struct mr_config *config = load_right(text);
    assert_int_equal(config->sources[0].dedupe_window_ns, window_ns);
    assert_int_equal(config->sources[0].dedupe_keys, keys);
    assert_int_equal(config->sources[0].dedupe_ids, ids);
    mr_config_destroy(config);
}

static void test_load_dedupe_is_by_id_when_it_is_asked_for(void **state)
{
    (void)state;
    check_dedupe("", 600 * S, 100000, false);
    check_dedupe(", dedupe: {}", 600 * S, 100000, true);
    check_dedupe(", dedupe: {window: 1h, keys: 5}", 3600 * S, 5, true);
    check_dedupe(", dedupe: {window: 0s}", 0, 100000, false);
}

static void test_load_dedupe_without_sense_is_refused(void **state)
{
    (void)state;
    check_one_error("sources: {a: {http: {path: /a}, dedupe: {window: 200ms}}}\n",
                    "dedupe: window is less than a second: write 1s to 7d, or 0s for none");
    check_one_error("sources: {a: {http: {path: /a}, dedupe: {window: 8000h}}}\n", "window");
    check_one_error("sources: {a: {http: {path: /a}, dedupe: {keys: 0}}}\n", "keys");
    check_one_error("sources: {a: {http: {path: /a}, dedupe: {key: 9}}}\n", "key");
    check_one_error("sources: {a: {http: {path: /a}, dedupe: true}}\n", "`dedupe` wants a mapping, not a single value");
}

/* --- settings of later releases --------------------------------------------------------------- */

static void test_load_later_settings_are_refused_by_name(void **state)
{
    (void)state;
    static const char *const top[] = {"admin", "redact", "tenants"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(top); i++) {
        char text[64];
        char part[96];
        (void)snprintf(text, sizeof(text), "%s: {}\n", top[i]);
        (void)snprintf(part, sizeof(part), "test.yaml:1:1: `%s` is not available in this release",
                       top[i]);
        check_one_error(text, part);
    }
    check_one_error("log: {engine: x}\n", "`engine` is not available in this release");
    check_one_error("workers: {a: {exec: {command: x}, sandbox: strict}}\n",
                    "`sandbox` is not available in this release");
}

static void test_load_later_subscription_settings_are_refused_by_name(void **state)
{
    (void)state;
    static const char *const names[] = {"validate", "dedupe", "retry_on", "dead_on",
                                        "tenant", "rename", "start"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(names); i++) {
        char text[64];
        char part[96];
        (void)snprintf(text, sizeof(text), "%s: {}", names[i]);
        (void)snprintf(part, sizeof(part), ": `%s` is not available in this release", names[i]);
        check_subscription_error(text, part);
    }
}

/* --- wrong values ----------------------------------------------------------------------------- */

static void test_load_wrong_values_say_what_is_right(void **state)
{
    (void)state;
    check_one_error("drain: 5\n", "drain: `5` has no unit; write 5s");
    check_one_error("drain: soon\n", "drain: `soon` is no duration: write 200ms, 30s");
    check_one_error("drain: 2h\n", "drain: `2h` is out of range: from 0 to 1h");
    check_one_error("event_size_max: 1M\n", "event_size_max: `1M` is no size: write 512, 64KiB");
    check_one_error("event_size_max: 1GiB\n", "`1GiB` is out of range: from 1KiB to 3MiB");
    check_one_error("memory: {state: 5}\n", "state: `5` is too small: at least 1MiB");
    check_one_error("hops_max: many\n", "hops_max: `many` is no whole number");
    check_one_error("hops_max: 010\n", "hops_max: `010` is no whole number");
    check_one_error("hops_max: 1.5\n", "no whole number");
    check_one_error("hops_max: 0\n", "hops_max: `0` is out of range: from 1 to 255");
    check_one_error("hops_max: -1\n", "out of range");
    check_one_error("hops_max: 18446744073709551615\n", "out of range");
    check_one_error("log: {sync: sometimes}\n",
                    "sync: `sometimes` is not one of always, interval, never");
    check_one_error("sources: {a: {http: {}, paused: yes}}\n",
                    "paused: `yes` is neither true nor false");
    check_one_error("data_dir: [a]\n", "`data_dir` wants a single value, not a list");
    check_one_error("data_dir: {a: b}\n", "`data_dir` wants a single value, not a mapping");
    check_one_error("data_dir: \n", "`data_dir` has no value");
    check_one_error("data_dir: ''\n", "a path is empty");
}

static void test_load_wrong_lists_and_pairs_are_refused(void **state)
{
    (void)state;
    check_one_error("workers: {a: {exec: {command: {x: y}}}}\n",
                    "`command` wants text or a list of texts, not a mapping");
    check_one_error("workers: {a: {exec: {command: [[x]]}}}\n", "wants text here, not a list");
    check_one_error("workers: {a: {exec: {command: [x, ]}}}\n"
                    "sinks: {b: {http: {url: 'http://h', headers: [x]}}}\n",
                    "`headers` wants a mapping of names to texts, not a list");
    check_one_error("sinks: {b: {http: {url: 'http://h', headers: {x: [y]}}}}\n",
                    "wants text here, not a list");
    check_one_error("sinks: {b: {http: {url: 'http://h', headers: {x: }}}}\n",
                    "wants text here, not nothing");
    check_one_error("sinks: {b: {http: {url: 'http://h', pace: 5}}}\n",
                    "pace: `5` is no rate: write 100/s");
}

static void test_load_pairs_keep_keys_beside_values(void **state)
{
    (void)state;
    struct mr_config *config = load_right(
        "sinks: {b: {http: {url: 'http://h', headers: {A: one, B: 2}, pace: 10/m}}}\n");
    const struct fake_http *options = config->targets[0].options;
    assert_int_equal(options->headers.keys.count, 2);
    assert_int_equal(options->headers.values.count, 2);
    assert_string_equal(options->headers.keys.items[1], "B");
    assert_string_equal(options->headers.values.items[1], "2");
    assert_int_equal(options->rate.count, 10);
    mr_config_destroy(config);
}

static void test_load_log_contradictions_are_refused(void **state)
{
    (void)state;
    check_one_error("log: {sync_interval: 5ms}\n", "only with `sync: interval`");
    check_one_error("log: {segment_size: 1500kB}\n", "segment_size is no multiple of 1MiB");
    check_one_error("log: {segment_size: 1MiB}\nevent_size_max: 1MiB\n",
                    "event_size_max is more than a quarter of a segment of the log, 262144 bytes");
    check_one_error("log: {max_size: 65MiB}\n", "max_size holds less than two segments");
    check_one_error("log: {max_size: 1GiB, retain_size: 2GiB}\n",
                    "retain_size is larger than max_size");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_load_complete_fills_everything),
        cmocka_unit_test(test_load_complete_makes_hidden_subscriptions),
        cmocka_unit_test(test_load_defaults_are_those_of_the_header),
        cmocka_unit_test(test_load_top_level_values_are_taken),
        cmocka_unit_test(test_load_empty_blocks_are_defaults),
        cmocka_unit_test(test_load_source_takes_limits_of_the_file),
        cmocka_unit_test(test_load_source_options_have_defaults),
        cmocka_unit_test(test_load_source_without_kind_names_the_kinds),
        cmocka_unit_test(test_load_source_of_two_kinds_is_refused),
        cmocka_unit_test(test_load_source_of_unknown_kind_is_refused),
        cmocka_unit_test(test_load_kind_check_is_reported_at_the_kind),
        cmocka_unit_test(test_load_kind_check_is_left_out_after_an_error),
        cmocka_unit_test(test_load_required_setting_of_a_given_block_is_asked_for),
        cmocka_unit_test(test_load_sections_of_wrong_shape_are_refused),
        cmocka_unit_test(test_load_bad_names_are_refused),
        cmocka_unit_test(test_load_name_of_64_bytes_is_taken),
        cmocka_unit_test(test_load_worker_and_sink_of_one_name_show_both_places),
        cmocka_unit_test(test_load_target_defaults_follow_the_kind),
        cmocka_unit_test(test_load_target_values_are_taken),
        cmocka_unit_test(test_load_scale_max_defaults_to_a_larger_min),
        cmocka_unit_test(test_load_scale_min_above_max_is_refused),
        cmocka_unit_test(test_load_scale_of_http_worker_is_refused),
        cmocka_unit_test(test_load_timeout_beyond_max_run_is_refused),
        cmocka_unit_test(test_load_subscription_defaults),
        cmocka_unit_test(test_load_subscription_values_are_taken),
        cmocka_unit_test(test_load_subscription_without_target_is_refused),
        cmocka_unit_test(test_load_unknown_target_names_the_nearest),
        cmocka_unit_test(test_load_several_targets_are_taken),
        cmocka_unit_test(test_load_wrong_targets_are_refused),
        cmocka_unit_test(test_load_unknown_source_names_the_nearest),
        cmocka_unit_test(test_load_filter_of_wrong_shape_is_refused),
        cmocka_unit_test(test_load_order_by_wrong_key_is_refused),
        cmocka_unit_test(test_load_order_by_attribute_is_taken),
        cmocka_unit_test(test_load_max_age_below_timeout_is_refused),
        cmocka_unit_test(test_load_timeout_beyond_the_workers_max_run_is_refused),
        cmocka_unit_test(test_load_max_age_from_without_max_age_is_refused),
        cmocka_unit_test(test_load_destination_that_is_a_worker_is_refused),
        cmocka_unit_test(test_load_destination_unknown_or_twice_is_refused),
        cmocka_unit_test(test_load_same_sink_for_both_outcomes_makes_two),
        cmocka_unit_test(test_load_hidden_subscriptions_come_after_all_visible),
        cmocka_unit_test(test_load_overtaking_is_taken),
        cmocka_unit_test(test_load_overtaking_without_keys_or_sense_is_refused),
        cmocka_unit_test(test_load_shed_is_taken),
        cmocka_unit_test(test_load_shed_without_sense_is_refused),
        cmocka_unit_test(test_load_dedupe_is_by_id_when_it_is_asked_for),
        cmocka_unit_test(test_load_dedupe_without_sense_is_refused),
        cmocka_unit_test(test_load_limits_are_shared),
        cmocka_unit_test(test_load_wrong_limits_are_refused),
        cmocka_unit_test(test_load_fanouts_take_their_subscriptions),
        cmocka_unit_test(test_load_wrong_fanouts_are_refused),
        cmocka_unit_test(test_load_batch_is_taken),
        cmocka_unit_test(test_load_wrong_batches_are_refused),
        cmocka_unit_test(test_load_later_settings_are_refused_by_name),
        cmocka_unit_test(test_load_later_subscription_settings_are_refused_by_name),
        cmocka_unit_test(test_load_wrong_values_say_what_is_right),
        cmocka_unit_test(test_load_wrong_lists_and_pairs_are_refused),
        cmocka_unit_test(test_load_pairs_keep_keys_beside_values),
        cmocka_unit_test(test_load_log_contradictions_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
