#include "tests/support/test.h"

#include <mqtt_protocol.h>

#include "connectors/mqtt/link.h"
#include "connectors/mqtt/message.h"
#include "connectors/backoff.h"
#include "connectors/mqtt/mqtt.h"
#include "connectors/mqtt/publisher.h"
#include "connectors/options.h"
#include "core/alloc.h"
#include "core/logger.h"
#include "schemas/json_format.h"

/* --- filters ---------------------------------------------------------------------------------- */

static void test_filter_good_ones_are_valid(void **state)
{
    (void)state;
    static const char *const good[] = {
        "a", "/", "a/b/c", "+", "#", "a/+/b", "a/#", "+/+/#", "/a", "a/", "a//b", "$SYS/#",
        "$share/g/a", "$share/g/+/x/#", "$share/g//", "plant/+/temp", "späße/#", "$shared/x",
    };
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        if (!mr__mqtt_filter_is_valid(good[i])) {
            fail_msg("refused: %s", good[i]);
        }
    }
}

static void test_filter_bad_ones_are_not(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",        "a+",        "+a",       "a/b#",      "#/a",      "a/#/b", "##",
        "a/++/b",  "$share/",   "$share/g", "$share/g/", "$share//a", "$share/+/a",
        "$share/g#/a", "\xff\xfe", "$share/g/a+",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (mr__mqtt_filter_is_valid(bad[i])) {
            fail_msg("taken: %s", bad[i]);
        }
    }
    char *huge = malloc(70000);
    memset(huge, 'a', 69999);
    huge[69999] = '\0';
    assert_false(mr__mqtt_filter_is_valid(huge));
    free(huge);
}

/* --- options ---------------------------------------------------------------------------------- */

static void set_url(struct mr_mqtt_peer_options *peer, const char *text)
{
    assert_int_equal(mr_parse_url(mr_bytes_of(text), &peer->url, NULL), MR_OK);
}

static struct mr_mqtt_source_options source_options(const char *url, const char *topic)
{
    struct mr_mqtt_source_options o;
    memset(&o, 0, sizeof(o));
    assert_int_equal(mr_options_defaults(mr_connector_mqtt.source_kind.options, &o), MR_OK);
    set_url(&o.peer, url);
    o.topic = mr_strdup(topic);
    return o;
}

static void expect_source(struct mr_mqtt_source_options o, const char *error)
{
    struct mr_problem problem = {.text = ""};
    enum mr_status r = mr_connector_mqtt.source_kind.check(&o, &problem);
    if (error == NULL ? r != MR_OK : r != MR_E_INVALID || strstr(problem.text, error) == NULL) {
        fail_msg("want \"%s\", got \"%s\"", error == NULL ? "" : error, problem.text);
    }
    mr_options_release(mr_connector_mqtt.source_kind.options, &o);
}

static void test_source_defaults_are_as_documented(void **state)
{
    (void)state;
    struct mr_mqtt_source_options o = source_options("mqtt://h", "t");
    assert_int_equal(o.qos, 1);
    assert_int_equal(mr__mqtt_version(&o.peer), 5);
    assert_true(o.peer.keepalive_ns == 30 * MR_SECOND);
    assert_true(o.session_expiry_ns == 7 * MR_DAY);
    assert_int_equal(o.inflight, 1000);
    assert_int_equal(mr__mqtt_port(&o.peer), 1883);
    assert_false(mr__mqtt_is_tls(&o.peer));
    expect_source(o, NULL);
    o = source_options("mqtts://h", "t");
    assert_int_equal(mr__mqtt_port(&o.peer), 8883);
    assert_true(mr__mqtt_is_tls(&o.peer));
    expect_source(o, NULL);
    o = source_options("ssl://h:99", "t");
    assert_int_equal(mr__mqtt_port(&o.peer), 99);
    o.peer.version = MR_MQTT_WORD_3_1_1;
    assert_int_equal(mr__mqtt_version(&o.peer), 4);
    expect_source(o, NULL);
}

static void test_source_bad_options_are_named(void **state)
{
    (void)state;
    expect_source(source_options("http://h", "t"), "mqtt://");
    expect_source(source_options("mqtt://h/topic", "t"), "path");
    expect_source(source_options("mqtt://h", "a/#/b"), "a/#/b");
    expect_source(source_options("mqtt://h", NULL), "topics");
    struct mr_mqtt_source_options o = source_options("mqtt://h", "t");
    o.topics.items = mr_calloc(1, sizeof(char *));
    o.topics.items[0] = mr_strdup("u");
    o.topics.count = 1;
    expect_source(o, "topics");
    o = source_options("mqtt://h", NULL);
    o.topics.items = mr_calloc(2, sizeof(char *));
    o.topics.items[0] = mr_strdup("u");
    o.topics.items[1] = mr_strdup("v+");
    o.topics.count = 2;
    expect_source(o, "v+");
    o = source_options("mqtt://h", "t");
    o.peer.tls_ca = mr_strdup("/ca");
    expect_source(o, "mqtts://");
    o = source_options("mqtts://h", "t");
    o.peer.tls_cert = mr_strdup("/c");
    expect_source(o, "together");
    o = source_options("mqtt://h", "t");
    o.peer.client_id = mr_alloc(200);
    memset(o.peer.client_id, 'c', 199);
    o.peer.client_id[199] = '\0';
    expect_source(o, "client_id");
}

static void expect_sink(const char *topic, int mode, int version, const char *error)
{
    struct mr_mqtt_sink_options o;
    memset(&o, 0, sizeof(o));
    assert_int_equal(mr_options_defaults(mr_connector_mqtt.sink_kind.options, &o), MR_OK);
    set_url(&o.peer, "mqtt://h");
    o.topic = mr_strdup(topic);
    o.mode = mode;
    o.peer.version = version;
    struct mr_problem problem = {.text = ""};
    enum mr_status r = mr_connector_mqtt.sink_kind.check(&o, &problem);
    if (error == NULL ? r != MR_OK : r != MR_E_INVALID || strstr(problem.text, error) == NULL) {
        fail_msg("%s: want \"%s\", got \"%s\"", topic, error == NULL ? "" : error, problem.text);
    }
    mr_options_release(mr_connector_mqtt.sink_kind.options, &o);
}

static void test_sink_options_are_checked(void **state)
{
    (void)state;
    expect_sink("a/b", MR_MQTT_MODE_AUTO, MR_MQTT_WORD_5, NULL);
    expect_sink("a/{{subject}}/{{ type }}", MR_MQTT_MODE_AUTO, MR_MQTT_WORD_3_1_1, NULL);
    expect_sink("a/b", MR_MQTT_MODE_BINARY, MR_MQTT_WORD_5, NULL);
    expect_sink("", MR_MQTT_MODE_AUTO, MR_MQTT_WORD_5, "empty");
    expect_sink("a/+", MR_MQTT_MODE_AUTO, MR_MQTT_WORD_5, "wildcard");
    expect_sink("a/#", MR_MQTT_MODE_AUTO, MR_MQTT_WORD_5, "wildcard");
    expect_sink("a/{{}}", MR_MQTT_MODE_AUTO, MR_MQTT_WORD_5, "{{attribute}}");
    expect_sink("a/{{Type}}", MR_MQTT_MODE_AUTO, MR_MQTT_WORD_5, "{{attribute}}");
    expect_sink("a/{{type}", MR_MQTT_MODE_AUTO, MR_MQTT_WORD_5, "{{attribute}}");
    expect_sink("a/type}}", MR_MQTT_MODE_AUTO, MR_MQTT_WORD_5, "{{attribute}}");
    expect_sink("a/b", MR_MQTT_MODE_BINARY, MR_MQTT_WORD_3_1_1, "version 5");
}

static void test_options_copy_is_deep_and_survives_short_memory(void **state)
{
    (void)state;
    const struct mr_option *table = mr_connector_mqtt.source_kind.options;
    struct mr_mqtt_source_options o = source_options("mqtts://user:secret@host:9", NULL);
    o.topics.items = mr_calloc(2, sizeof(char *));
    o.topics.items[0] = mr_strdup("a");
    o.topics.items[1] = mr_strdup("b");
    o.topics.count = 2;
    o.peer.tls_ca = mr_strdup("/ca");
    bool made = false;
    struct mr_mqtt_source_options copy;
    for (uint64_t n = 1; n < 100 && !made; n++) {
        int64_t live = mr_alloc_live();
        (void)mr_alloc_fail_at(n, 0);
        made = mr__options_copy(table, sizeof(o), &o, &copy) == MR_OK;
        (void)mr_alloc_fail_at(0, 0);
        if (!made) {
            assert_int_equal(mr_alloc_live(), live);
        }
    }
    assert_true(made);
    mr_options_release(table, &o);
    assert_string_equal(copy.peer.url->host, "host");
    assert_string_equal(copy.peer.url->user, "user");
    assert_true(
        mr_secret_equal(copy.peer.url->password, MR_BYTES_LITERAL("secret")));
    assert_int_equal(copy.topics.count, 2);
    assert_string_equal(copy.topics.items[1], "b");
    assert_string_equal(copy.peer.tls_ca, "/ca");
    mr_options_release(table, &copy);
}

/* --- identity and backoff --------------------------------------------------------------------- */

static void test_client_id_is_stable_and_its_own(void **state)
{
    (void)state;
    char a[MR_MQTT_CLIENT_ID_SIZE];
    char b[MR_MQTT_CLIENT_ID_SIZE];
    mr__mqtt_client_id("sensors", "/srv/mill", a);
    mr__mqtt_client_id("sensors", "/srv/mill", b);
    assert_string_equal(a, b);
    assert_int_equal(strlen(a), 23);
    assert_int_equal(strspn(a, "abcdefghijklmnopqrstuvwxyz-0123456789"), 23);
    mr__mqtt_client_id("sensors", "/srv/other", b);
    assert_string_not_equal(a, b);
    mr__mqtt_client_id("others", "/srv/mill", b);
    assert_string_not_equal(a, b);
    mr__mqtt_client_id("sensors", NULL, b);
    assert_string_not_equal(a, b);
}

static void test_backoff_grows_to_its_bound_with_jitter(void **state)
{
    (void)state;
    struct mr_backoff backoff;
    mr__backoff_init(&backoff);
    uint64_t step = 100 * MR_MS;
    bool differs = false;
    for (int i = 0; i < 40; i++) {
        uint64_t wait = mr__backoff_next(&backoff);
        assert_true(wait >= step / 2 && wait <= step);
        differs |= wait != step;
        step = step * 2 > 30 * MR_SECOND ? 30 * MR_SECOND : step * 2;
    }
    assert_true(differs);
    mr__backoff_reset(&backoff);
    assert_true(mr__backoff_next(&backoff) <= 100 * MR_MS);
}

/* --- topics ----------------------------------------------------------------------------------- */

static struct mr_event *make_event(const char *subject)
{
    struct mr_event *event = NULL;
    char text[256];
    snprintf(text, sizeof(text),
             "{\"specversion\":\"1.0\",\"id\":\"i\",\"source\":\"/s\",\"type\":\"com.t\","
             "\"subject\":\"%s\"}",
             subject);
    assert_int_equal(mr_json_decode_event(mr_bytes_of(text), MR_EVENT_SIZE_MAX, &event, NULL),
                     MR_OK);
    return event;
}

static enum mr_status topic(const char *template, const char *subject, char *to, size_t size)
{
    struct mr_event *event = make_event(subject);
    struct mr_buf out;
    struct mr_problem problem = {.text = ""};
    mr_buf_init(&out, 65536);
    enum mr_status r = mr__mqtt_topic(template, mr_event_record(event), &out, &problem);
    if (r == MR_OK) {
        snprintf(to, size, "%.*s", (int)out.size, (const char *)out.data);
    } else {
        assert_true(strlen(problem.text) > 0);
    }
    mr_buf_release(&out);
    mr_event_unref(event);
    return r;
}

static void test_topic_attributes_are_filled_in(void **state)
{
    (void)state;
    char text[256];
    assert_int_equal(topic("fixed/topic", "s", text, sizeof(text)), MR_OK);
    assert_string_equal(text, "fixed/topic");
    assert_int_equal(topic("{{type}}/{{subject}}/{{ id }}x", "s1", text, sizeof(text)), MR_OK);
    assert_string_equal(text, "com.t/s1/ix");
    assert_int_equal(topic("a/{{absent}}/{{specversion}}", "s", text, sizeof(text)), MR_OK);
    assert_string_equal(text, "a//1.0");
    assert_int_equal(topic("{{absent}}", "s", text, sizeof(text)), MR_E_INVALID);
    assert_int_equal(topic("a/{{subject}}", "x/+/y", text, sizeof(text)), MR_E_INVALID);
    assert_int_equal(topic("a/{{subject}}", "#", text, sizeof(text)), MR_E_INVALID);
}

/* --- messages --------------------------------------------------------------------------------- */

static void test_make_event_too_many_user_properties_is_rejected(void **state)
{
    (void)state;
    mosquitto_property *list = NULL;
    for (int i = 0; i < 200; i++) {
        assert_int_equal(
            mosquitto_property_add_string_pair(&list, MQTT_PROP_USER_PROPERTY, "a", "b"), 0);
    }
    char t[] = "t";
    char payload[] = "x";
    struct mosquitto_message message = {.topic = t, .payload = payload, .payloadlen = 1};
    struct mr_mqtt_maker maker = {.source_name = "s",
                                  .client_id = "c",
                                  .version = 5,
                                  .event_size_max = MR_EVENT_SIZE_DEFAULT};
    struct mr_event *event = NULL;
    bool rejected = false;
    struct mr_problem problem = {.text = ""};
    assert_int_equal(mr__mqtt_make_event(&maker, &message, list, &event, &rejected, &problem),
                     MR_OK);
    assert_true(rejected);
    assert_non_null(strstr(problem.text, "user properties"));
    mr_event_unref(event);
    mosquitto_property_free_all(&list);
}

static void test_make_event_ids_count_up(void **state)
{
    (void)state;
    char t[] = "t/1";
    char payload[] = "21";
    struct mosquitto_message message = {.topic = t, .payload = payload, .payloadlen = 2};
    struct mr_mqtt_maker maker = {.source_name = "s",
                                  .client_id = "c",
                                  .version = 4,
                                  .event_size_max = MR_EVENT_SIZE_DEFAULT,
                                  .boot = 0xab};
    static const char *const ids[] = {"c-00000000000000ab-0", "c-00000000000000ab-1"};
    for (int i = 0; i < 2; i++) {
        struct mr_event *event = NULL;
        bool rejected = true;
        assert_int_equal(mr__mqtt_make_event(&maker, &message, NULL, &event, &rejected, NULL),
                         MR_OK);
        assert_false(rejected);
        assert_true(mr_bytes_equal(mr_event_id(mr_event_record(event)), mr_bytes_of(ids[i])));
        mr_event_unref(event);
    }
}

static void test_make_event_memory_short_is_told(void **state)
{
    (void)state;
    char t[] = "t/1";
    char payload[] = "21";
    struct mosquitto_message message = {.topic = t, .payload = payload, .payloadlen = 2};
    struct mr_mqtt_maker maker = {.source_name = "s",
                                  .client_id = "c",
                                  .version = 4,
                                  .event_size_max = MR_EVENT_SIZE_DEFAULT};
    bool made = false;
    for (uint64_t n = 1; n < 100 && !made; n++) {
        int64_t live = mr_alloc_live();
        struct mr_event *event = NULL;
        bool rejected = false;
        struct mr_problem problem = {.text = ""};
        (void)mr_alloc_fail_at(n, 0);
        enum mr_status r =
            mr__mqtt_make_event(&maker, &message, NULL, &event, &rejected, &problem);
        (void)mr_alloc_fail_at(0, 0);
        made = r == MR_OK;
        if (made) {
            assert_false(rejected);
            mr_event_unref(event);
        } else {
            assert_int_equal(r, MR_E_NOMEM);
        }
        assert_int_equal(mr_alloc_live(), live);
    }
    assert_true(made);
}

static void test_send_verdicts(void **state)
{
    (void)state;
    assert_int_equal(mr__mqtt_send_verdict(0), MR_VERDICT_OK);
    assert_int_equal(mr__mqtt_send_verdict(-3), MR_VERDICT_REFUSED); /* not connected */
    assert_int_equal(mr__mqtt_send_verdict(-1), MR_VERDICT_RETRY);
    assert_int_equal(mr__mqtt_send_verdict(0x90), MR_VERDICT_DEAD); /* topic name invalid */
    assert_int_equal(mr__mqtt_send_verdict(0x87), MR_VERDICT_RETRY); /* not authorised, today */
    assert_int_equal(mr__mqtt_send_verdict(0x97), MR_VERDICT_RETRY); /* quota exceeded */
    assert_true(strlen(mr__mqtt_send_text(-1)) > 0);
    assert_true(strlen(mr__mqtt_send_text(0x90)) > 0);
    assert_true(strlen(mr__mqtt_send_text(0xf7)) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_filter_good_ones_are_valid),
        cmocka_unit_test(test_filter_bad_ones_are_not),
        cmocka_unit_test(test_source_defaults_are_as_documented),
        cmocka_unit_test(test_source_bad_options_are_named),
        cmocka_unit_test(test_sink_options_are_checked),
        cmocka_unit_test(test_options_copy_is_deep_and_survives_short_memory),
        cmocka_unit_test(test_client_id_is_stable_and_its_own),
        cmocka_unit_test(test_backoff_grows_to_its_bound_with_jitter),
        cmocka_unit_test(test_topic_attributes_are_filled_in),
        cmocka_unit_test(test_make_event_too_many_user_properties_is_rejected),
        cmocka_unit_test(test_make_event_ids_count_up),
        cmocka_unit_test(test_make_event_memory_short_is_told),
        cmocka_unit_test(test_send_verdicts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
