/* The Kafka connector's pure parts: options, settings, positions. */
#include "tests/support/test.h"

#include "connectors/kafka/kafka.h"
#include "connectors/kafka/positions.h"
#include "core/alloc.h"
#include "core/secret.h"

/* --- options ---------------------------------------------------------------------------------- */

static void add(struct mr_strings *strings, const char *text)
{
    strings->items = mr_realloc(strings->items, (strings->count + 1) * sizeof(char *));
    strings->items[strings->count++] = mr_strdup(text);
}

static struct mr_kafka_source_options source_options(const char *broker, const char *topic)
{
    struct mr_kafka_source_options o;
    memset(&o, 0, sizeof(o));
    assert_int_equal(mr_options_defaults(mr_connector_kafka.source_kind.options, &o), MR_OK);
    add(&o.peer.brokers, broker);
    add(&o.topics, topic);
    return o;
}

static struct mr_kafka_sink_options sink_options(const char *topic)
{
    struct mr_kafka_sink_options o;
    memset(&o, 0, sizeof(o));
    assert_int_equal(mr_options_defaults(mr_connector_kafka.sink_kind.options, &o), MR_OK);
    add(&o.peer.brokers, "127.0.0.1:9092");
    o.topic = mr_strdup(topic);
    return o;
}

static void check_source(struct mr_kafka_source_options *o, const char *want)
{
    struct mr_problem problem = {.text = ""};
    enum mr_status r = mr_connector_kafka.source_kind.check(o, &problem);
    if (want == NULL && r != MR_OK) {
        fail_msg("refused: %s", problem.text);
    }
    if (want != NULL && (r != MR_E_INVALID || strstr(problem.text, want) == NULL)) {
        fail_msg("wanted \"%s\", got %d \"%s\"", want, (int)r, problem.text);
    }
    mr_options_release(mr_connector_kafka.source_kind.options, o);
}

static void check_sink(struct mr_kafka_sink_options *o, const char *want)
{
    struct mr_problem problem = {.text = ""};
    enum mr_status r = mr_connector_kafka.sink_kind.check(o, &problem);
    if (want == NULL && r != MR_OK) {
        fail_msg("refused: %s", problem.text);
    }
    if (want != NULL && (r != MR_E_INVALID || strstr(problem.text, want) == NULL)) {
        fail_msg("wanted \"%s\", got %d \"%s\"", want, (int)r, problem.text);
    }
    mr_options_release(mr_connector_kafka.sink_kind.options, o);
}

static void test_source_options_good_ones_pass(void **state)
{
    (void)state;
    static const char *const topics[] = {"orders", "a.b_c-1", "^plant-.*", "^(a|b)$"};
    for (size_t i = 0; i < sizeof(topics) / sizeof(topics[0]); i++) {
        struct mr_kafka_source_options o = source_options("broker:9092", topics[i]);
        check_source(&o, NULL);
    }
    struct mr_kafka_source_options o = source_options("127.0.0.1:9092", "orders");
    add(&o.peer.librdkafka.keys, "fetch.min.bytes");
    add(&o.peer.librdkafka.values, "1");
    add(&o.peer.librdkafka.keys, "partition.assignment.strategy");
    add(&o.peer.librdkafka.values, "cooperative-sticky");
    o.peer.user = mr_strdup("u");
    o.peer.password = mr_secret_create(mr_bytes_of("p"));
    o.peer.tls_ca = mr_strdup("/nowhere/ca.pem"); /* no file is read by a check */
    check_source(&o, NULL);
}

static void test_source_options_bad_ones_are_named(void **state)
{
    (void)state;
    static const char *const bad[][3] = {
        {"", "t", "brokers: \"\""},
        {"a:1,b:2", "t", "is not host:port"},
        {"kafka://a", "t", "is not host:port"},
        {"a:1", "", "is no topic name"},
        {"a:1", "with blank", "is no topic name"},
        {"a:1", "..", "is no topic name"},
        {"a:1", "^plant-(", "topics: \"^plant-(\""},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct mr_kafka_source_options o = source_options(bad[i][0], bad[i][1]);
        check_source(&o, bad[i][2]);
    }
    struct mr_kafka_source_options o = source_options("a:1", "t");
    o.peer.user = mr_strdup("u");
    check_source(&o, "user and password go together");
    o = source_options("a:1", "t");
    o.peer.tls_cert = mr_strdup("/c");
    check_source(&o, "tls_cert and tls_key go together");
    o = source_options("a:1", "t");
    o.group = mr_strdup("");
    check_source(&o, "group: is empty");
}

static void test_librdkafka_properties_ours_unknown_and_bad_are_named(void **state)
{
    (void)state;
    static const char *const bad[][3] = {
        {"enable.auto.commit", "true", "enable.auto.commit cannot be set here: offsets are"},
        {"enable.auto.offset.store", "true", "cannot be set here"},
        {"group.id", "g", "it is the option `group`"},
        {"bootstrap.servers", "x", "it is the option `brokers`"},
        {"sasl.password", "geheim", "it is the option `password`, where it stays secret"},
        {"plugin.library.paths", "/x.so", "no foreign code"},
        {"no.such.thing", "1", "librdkafka: No such configuration property: \"no.such.thing\""},
        {"fetch.min.bytes", "many", "librdkafka: Invalid value"},
        {"session.timeout.ms", "0", "librdkafka: Configuration property \"session.timeout.ms\""},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct mr_kafka_source_options o = source_options("a:1", "t");
        add(&o.peer.librdkafka.keys, bad[i][0]);
        add(&o.peer.librdkafka.values, bad[i][1]);
        struct mr_problem problem = {.text = ""};
        (void)mr_connector_kafka.source_kind.check(&o, &problem);
        assert_null(strstr(problem.text, "geheim"));
        check_source(&o, bad[i][2]);
    }
    struct mr_kafka_sink_options o = sink_options("t");
    add(&o.peer.librdkafka.keys, "acks");
    add(&o.peer.librdkafka.values, "1");
    check_sink(&o, "acks cannot be set here: records are acknowledged by all replicas");
}

static void test_sink_options(void **state)
{
    (void)state;
    static const char *const good[] = {"results", "r.{{type}}", "{{ subject }}"};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct mr_kafka_sink_options o = sink_options(good[i]);
        check_sink(&o, NULL);
    }
    static const char *const bad[] = {"", "with blank", "{{type", "{{Type}}"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct mr_kafka_sink_options o = sink_options(bad[i]);
        check_sink(&o, "topic: ");
    }
    struct mr_kafka_sink_options o = sink_options("t");
    mr_free(o.key);
    o.key = mr_strdup("{{");
    check_sink(&o, "key: ");
}

static char *setting(rd_kafka_conf_t *conf, const char *name)
{
    static char text[128];
    size_t size = sizeof(text);
    assert_int_equal(rd_kafka_conf_get(conf, name, text, &size), RD_KAFKA_CONF_OK);
    return text;
}

static void test_consumer_settings(void **state)
{
    (void)state;
    struct mr_kafka_source_options o = source_options("a:1", "t");
    add(&o.peer.brokers, "b:2");
    o.peer.user = mr_strdup("u");
    o.peer.password = mr_secret_create(mr_bytes_of("p"));
    o.peer.sasl_mechanism = 2;
    o.peer.tls = true;
    add(&o.peer.librdkafka.keys, "session.timeout.ms");
    add(&o.peer.librdkafka.values, "6000");
    rd_kafka_conf_t *conf = NULL;
    assert_int_equal(mr__kafka_consumer_conf(&o, "g", &conf, NULL), MR_OK);
    assert_string_equal(setting(conf, "bootstrap.servers"), "a:1,b:2");
    assert_string_equal(setting(conf, "group.id"), "g");
    assert_string_equal(setting(conf, "enable.auto.commit"), "false");
    assert_string_equal(setting(conf, "enable.auto.offset.store"), "false");
    assert_string_equal(setting(conf, "partition.assignment.strategy"), "range,roundrobin");
    assert_string_equal(setting(conf, "security.protocol"), "sasl_ssl");
    assert_string_equal(setting(conf, "sasl.mechanisms"), "SCRAM-SHA-512");
    assert_string_equal(setting(conf, "ssl.endpoint.identification.algorithm"), "https");
    assert_string_equal(setting(conf, "enable.ssl.certificate.verification"), "true");
    assert_string_equal(setting(conf, "session.timeout.ms"), "6000");
    assert_string_equal(setting(conf, "queued.max.messages.kbytes"), "16384");
    rd_kafka_conf_destroy(conf);
    mr_options_release(mr_connector_kafka.source_kind.options, &o);
}

/* --- positions -------------------------------------------------------------------------------- */

#define CURSOR                                                                                     \
    "{\"cluster\":\"c\",\"group\":\"g\",\"topics\":{\"a\":{\"0\":12,\"10\":9007199254740992},"    \
    "\"b\\\"\":{\"2\":0}}}"

static void assert_written(const struct mr_kafka_positions *positions, const char *want)
{
    struct mr_buf out;
    mr_buf_init(&out, 4096);
    assert_int_equal(mr__kafka_positions_write(positions, "c", "g", &out), MR_OK);
    assert_int_equal(mr_buf_append_byte(&out, '\0'), MR_OK);
    assert_string_equal((const char *)out.data, want);
    mr_buf_release(&out);
}

static void test_positions_load_and_write_are_inverse(void **state)
{
    (void)state;
    struct mr_kafka_positions positions = {0};
    assert_int_equal(mr__kafka_positions_load(&positions, CURSOR, "c", "g", NULL), MR_OK);
    assert_int_equal(positions.count, 3);
    assert_int_equal(mr__kafka_positions_find(&positions, "a", 10)->logged, 9007199254740992);
    assert_null(mr__kafka_positions_find(&positions, "a", 1));
    assert_null(mr__kafka_positions_find(&positions, "c", 0));
    assert_written(&positions, CURSOR);
    /* What is out counts, what has no position does not. */
    assert_non_null(mr__kafka_positions_add(&positions, "a", 1));
    mr__kafka_positions_find(&positions, "a", 0)->submitted = 13;
    assert_written(&positions,
                   "{\"cluster\":\"c\",\"group\":\"g\",\"topics\":{\"a\":{\"0\":13,"
                   "\"10\":9007199254740992},\"b\\\"\":{\"2\":0}}}");
    mr__kafka_positions_release(&positions);
    assert_written(&positions, "{\"cluster\":\"c\",\"group\":\"g\",\"topics\":{}}");
}

static void test_positions_load_never_goes_back(void **state)
{
    (void)state;
    struct mr_kafka_positions positions = {0};
    mr__kafka_positions_add(&positions, "a", 0)->logged = 50;
    assert_int_equal(mr__kafka_positions_load(&positions, CURSOR, "c", "g", NULL), MR_OK);
    assert_int_equal(mr__kafka_positions_find(&positions, "a", 0)->logged, 50);
    mr__kafka_positions_release(&positions);
}

static void test_positions_of_another_cluster_or_group_are_a_conflict(void **state)
{
    (void)state;
    struct mr_kafka_positions positions = {0};
    assert_int_equal(mr__kafka_positions_load(&positions, CURSOR, "d", "g", NULL), MR_E_CONFLICT);
    assert_int_equal(mr__kafka_positions_load(&positions, CURSOR, "c", "h", NULL), MR_E_CONFLICT);
    assert_int_equal(positions.count, 0);
    assert_int_equal(mr__kafka_positions_load(&positions, CURSOR, NULL, "g", NULL), MR_OK);
    mr__kafka_positions_release(&positions);
}

static void test_positions_rubbish_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "", "[]", "{}", "{\"topics\":1}", "{\"topics\":{\"a\":{\"x\":1}}}",
        "{\"topics\":{\"a\":{\"0\":-1}}}", "{\"topics\":{\"a\":{\"0\":\"1\"}}}",
        "{\"topics\":{\"a\":{\"0\":1e30}}}", "{\"topics\":{\"a\":{\"99999999999\":1}}}",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct mr_kafka_positions positions = {0};
        if (mr__kafka_positions_load(&positions, bad[i], "c", "g", NULL) != MR_E_INVALID) {
            fail_msg("taken: %s", bad[i]);
        }
        mr__kafka_positions_release(&positions);
    }
}

static void test_positions_many_stay_sorted(void **state)
{
    (void)state;
    struct mr_kafka_positions positions = {0};
    for (int i = 0; i < 1000; i++) {
        char topic[8];
        snprintf(topic, sizeof(topic), "t%d", i * 7919 % 10);
        assert_non_null(mr__kafka_positions_add(&positions, topic, i * 7919 % 1000));
    }
    assert_int_equal(positions.count, 1000);
    for (uint32_t i = 1; i < positions.count; i++) {
        const struct mr_kafka_partition *a = positions.items[i - 1];
        const struct mr_kafka_partition *b = positions.items[i];
        int order = strcmp(a->topic, b->topic);
        assert_true(order < 0 || (order == 0 && a->number < b->number));
    }
    mr__kafka_positions_release(&positions);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_source_options_good_ones_pass),
        cmocka_unit_test(test_source_options_bad_ones_are_named),
        cmocka_unit_test(test_librdkafka_properties_ours_unknown_and_bad_are_named),
        cmocka_unit_test(test_sink_options),
        cmocka_unit_test(test_consumer_settings),
        cmocka_unit_test(test_positions_load_and_write_are_inverse),
        cmocka_unit_test(test_positions_load_never_goes_back),
        cmocka_unit_test(test_positions_of_another_cluster_or_group_are_a_conflict),
        cmocka_unit_test(test_positions_rubbish_is_refused),
        cmocka_unit_test(test_positions_many_stay_sorted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
