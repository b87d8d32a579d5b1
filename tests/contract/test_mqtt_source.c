/* The MQTT source against Mosquitto. */
#include "tests/contract/mqtt_support.h"
#include "tests/contract/killed.h"

static const struct mr_source_ops *const ops = &mr__mqtt_source_ops;

/* A topic of its own for each test: they share the broker. */
static const char *topic_of(const char *name)
{
    static char text[64];
    snprintf(text, sizeof(text), "t/%s", name);
    return text;
}

/* --- promise 1 -------------------------------------------------------------------------------- */

static bool read_all(struct test_host *held, const struct source_words *words)
{
    (void)source_open(held, words);
    return test_host_wait(held, HOST_HELD_EVENTS, 20);
}

/* A child reads all, gets nothing durable, is killed. The broker must deliver all again. */
static void read_and_die(const struct source_words *words, int qos)
{
    /* The session must exist before anything is published. */
    struct test_host h;
    test_host_init(&h);
    struct mr_source *source = source_open(&h, words);
    (void)source_subscribed(&h, broker.port, words->topic);
    source_close(source);
    test_host_free(&h);
    publish_events(broker.port, words->topic, qos, 0, 20);
    read_and_be_killed(read_all, words);
    test_host_init(&h);
    source = source_open(&h, words);
    assert_true(test_host_wait(&h, HOST_EVENTS, 20));
    assert_int_equal(count_ids(&h, 0, 20), 20);
    source_close(source);
    test_host_free(&h);
}

static void test_source_killed_before_durable_gets_all_20_again(void **state)
{
    (void)state;
    struct source_words words = {
        .port = broker.port, .topic = topic_of("kill5"), .qos = 1, .name = "kill5"};
    read_and_die(&words, 1);
}

static void test_source_311_killed_before_durable_gets_all_20_again(void **state)
{
    (void)state;
    struct source_words words = {.port = broker.port,
                                 .topic = topic_of("kill3"),
                                 .qos = 1,
                                 .name = "kill3",
                                 .version = "3.1.1"};
    read_and_die(&words, 1);
}

static void test_source_qos2_killed_before_durable_gets_all_20_again(void **state)
{
    (void)state;
    struct source_words words = {
        .port = broker.port, .topic = topic_of("killq2"), .qos = 2, .name = "killq2"};
    read_and_die(&words, 2);
}

static void test_source_stopped_in_order_gets_nothing_again(void **state)
{
    (void)state;
    struct source_words words = {
        .port = broker.port, .topic = topic_of("order"), .qos = 1, .name = "order"};
    struct test_host h;
    test_host_init(&h);
    struct mr_source *source = source_open(&h, &words);
    uint32_t probes = source_subscribed(&h, broker.port, words.topic);
    publish_events(broker.port, words.topic, 1, 0, 50);
    assert_true(test_host_wait(&h, HOST_EVENTS, 50 + probes));
    source_close(source);
    test_host_free(&h);

    publish_events(broker.port, words.topic, 1, 50, 1);
    test_host_init(&h);
    source = source_open(&h, &words);
    assert_true(test_host_wait(&h, HOST_EVENTS, 1));
    source_close(source);
    assert_int_equal(count_ids(&h, 0, 50), 0); /* the probes' tail apart, only the 51st came */
    assert_int_equal(count_ids(&h, 50, 1), 1);
    test_host_free(&h);
}

static void test_source_bus_refuses_for_a_while_loses_nothing(void **state)
{
    (void)state;
    struct source_words words = {
        .port = broker.port, .topic = topic_of("low"), .qos = 1, .name = "low"};
    struct test_host h;
    test_host_init(&h);
    struct mr_source *source = source_open(&h, &words);
    (void)source_subscribed(&h, broker.port, words.topic);
    pthread_mutex_lock(&h.mu);
    uint32_t before = h.submits;
    pthread_mutex_unlock(&h.mu);
    test_host_refuse(&h, 3, MR_E_DISK_LOW);
    publish_events(broker.port, words.topic, 1, 0, 30);
    assert_true(test_host_wait(&h, HOST_SUBMITS, before + 3));
    assert_true(source_reaches(source, MR_HEALTH_OK, DEADLINE_MS));
    wait_ids(&h, 0, 30);
    assert_int_equal(h.fail_count, 0); /* the fault fired */
    source_close(source);
    test_host_free(&h);
}

static void test_source_broker_restarts_reconnects_and_subscribes_again(void **state)
{
    (void)state;
    struct server own;
    own_broker(&own, NULL, NULL); /* without persistence: it forgets the session */
    struct source_words words = {.port = own.port, .topic = "r/#", .qos = 1};
    struct test_host h;
    test_host_init(&h);
    struct mr_source *source = source_open(&h, &words);
    (void)source_subscribed(&h, own.port, "r/a");
    server_do(&own, "kill");
    assert_true(source_reaches(source, MR_HEALTH_DOWN, DEADLINE_MS));
    server_start(&own);
    source_ready(source);
    int64_t until = now_ms() + DEADLINE_MS;
    while (count_ids(&h, 7, 1) == 0 && now_ms() < until) {
        publish_events(own.port, "r/a", 1, 7, 1);
        (void)test_host_wait_for(&h, HOST_EVENTS, UINT32_MAX, 0.05);
    }
    assert_int_equal(count_ids(&h, 7, 1), 1);
    struct mr_health health = source_health(source);
    assert_true(health.reconnects >= 1);
    source_close(source);
    test_host_free(&h);
    server_remove(&own);
}

static void test_source_session_survives_broker_restart_with_persistence(void **state)
{
    (void)state;
    struct server own;
    setenv("MQTT_PERSIST", "1", 1); /* for the second start too */
    own_broker(&own, NULL, NULL);
    struct source_words words = {.port = own.port, .topic = "p/#", .qos = 1};
    struct test_host h;
    test_host_init(&h);
    struct mr_source *source = source_open(&h, &words);
    (void)source_subscribed(&h, own.port, "p/a");
    source_close(source);
    publish_events(own.port, "p/a", 1, 0, 10); /* nobody is there */
    server_do(&own, "stop");
    server_start(&own);
    source = source_open(&h, &words);
    wait_ids(&h, 0, 10);
    source_close(source);
    test_host_free(&h);
    server_remove(&own);
    unsetenv("MQTT_PERSIST");
}

static void test_source_broker_down_at_start_connects_later(void **state)
{
    (void)state;
    struct server own;
    own_broker(&own, NULL, NULL);
    server_do(&own, "kill");
    struct source_words words = {.port = own.port, .topic = "d/#", .qos = 1};
    struct test_host h;
    test_host_init(&h);
    struct mr_source *source = source_open(&h, &words);
    assert_true(source_reaches(source, MR_HEALTH_DOWN, DEADLINE_MS));
    struct mr_health health = source_health(source);
    assert_non_null(strstr(health.last_error, "cannot connect"));
    server_start(&own);
    source_ready(source);
    (void)source_subscribed(&h, own.port, "d/a");
    source_close(source);
    test_host_free(&h);
    server_remove(&own);
}

/* --- what arrives ----------------------------------------------------------------------------- */

static void test_source_binary_event_takes_user_properties(void **state)
{
    (void)state;
    struct source_words words = {
        .port = broker.port, .topic = topic_of("props"), .qos = 1, .name = "props"};
    struct test_host h;
    test_host_init(&h);
    struct mr_source *source = source_open(&h, &words);
    uint32_t n = source_subscribed(&h, broker.port, words.topic);
    struct client c;
    client_open(&c, broker.port);
    mosquitto_property *p = NULL;
    mosquitto_property_add_string(&p, MQTT_PROP_CONTENT_TYPE, "application/json");
    mosquitto_property_add_string_pair(&p, MQTT_PROP_USER_PROPERTY, "specversion", "1.0");
    mosquitto_property_add_string_pair(&p, MQTT_PROP_USER_PROPERTY, "id", "b1");
    mosquitto_property_add_string_pair(&p, MQTT_PROP_USER_PROPERTY, "source", "/binary");
    mosquitto_property_add_string_pair(&p, MQTT_PROP_USER_PROPERTY, "type", "com.example.b");
    mosquitto_property_add_string_pair(&p, MQTT_PROP_USER_PROPERTY, "unit", "°C");
    mosquitto_publish_v5(c.mosq, NULL, words.topic, 9, "{\"t\":21.5}" /* 10, cut */, 1, false, p);
    client_until(&c, &c.published, 1);
    mosquitto_property_free_all(&p);
    client_close(&c);
    int64_t until = now_ms() + DEADLINE_MS;
    while (strcmp(test_host_value(&h, n, "id"), "b1") != 0 && now_ms() < until) {
        (void)test_host_wait_for(&h, HOST_EVENTS, n + 1, 0.05);
        n += strcmp(test_host_value(&h, n, "id"), "b1") != 0 && n + 1 < h.event_count ? 1 : 0;
    }
    assert_string_equal(test_host_value(&h, n, "id"), "b1");
    assert_string_equal(test_host_value(&h, n, "source"), "/binary");
    assert_string_equal(test_host_value(&h, n, "type"), "com.example.b");
    assert_string_equal(test_host_value(&h, n, "unit"), "°C");
    assert_string_equal(test_host_value(&h, n, "datacontenttype"), "application/json");
    assert_string_equal(test_host_value(&h, n, "data"), "{\"t\":21.5");
    source_close(source);
    test_host_free(&h);
}

static void test_source_plain_messages_are_wrapped_with_unique_ids(void **state)
{
    (void)state;
    struct source_words words = {
        .port = broker.port, .topic = "plain/+/temp", .qos = 0, .name = "plain"};
    struct test_host h;
    test_host_init(&h);
    publish_plain(broker.port, "plain/kept/temp", 1, true, "19");
    struct mr_source *source = source_open(&h, &words);
    assert_true(test_host_wait(&h, HOST_EVENTS, 1)); /* retained: comes with the subscription */
    assert_string_equal(test_host_value(&h, 0, "type"), "org.mqtt.message");
    assert_string_equal(test_host_value(&h, 0, "source"), "/mqtt/plain/plain/kept/temp");
    assert_string_equal(test_host_value(&h, 0, "subject"), "plain/kept/temp");
    assert_string_equal(test_host_value(&h, 0, "retained"), "true");
    assert_string_equal(test_host_value(&h, 0, "data"), "19");
    publish_plain(broker.port, "plain/a/temp", 0, false, "20");
    publish_plain(broker.port, "plain/a/temp", 1, false, "20");
    publish_plain(broker.port, "plain/a/temp", 2, false, "20");
    assert_true(test_host_wait(&h, HOST_EVENTS, 4));
    char ids[3][512];
    for (uint32_t i = 0; i < 3; i++) {
        snprintf(ids[i], sizeof(ids[i]), "%s", test_host_value(&h, i + 1, "id"));
        assert_string_equal(test_host_value(&h, i + 1, "retained"), "");
    }
    assert_string_not_equal(ids[0], ids[1]);
    assert_string_not_equal(ids[1], ids[2]);
    source_close(source);
    test_host_free(&h);
    publish_plain(broker.port, "plain/kept/temp", 1, true, "");
}

static void test_source_invalid_event_is_rejected_and_acknowledged(void **state)
{
    (void)state;
    struct source_words words = {
        .port = broker.port, .topic = topic_of("bad"), .qos = 1, .name = "bad"};
    struct test_host h;
    test_host_init(&h);
    struct mr_source *source = source_open(&h, &words);
    uint32_t n = source_subscribed(&h, broker.port, words.topic);
    struct client c;
    client_open(&c, broker.port);
    mosquitto_property *p = NULL;
    mosquitto_property_add_string(&p, MQTT_PROP_CONTENT_TYPE, "application/cloudevents+json");
    mosquitto_publish_v5(c.mosq, NULL, words.topic, 9, "{\"id\":\"x\"", 1, false, p);
    client_until(&c, &c.published, 1);
    mosquitto_property_free_all(&p);
    client_close(&c);
    publish_events(broker.port, words.topic, 1, 0, 1);
    wait_ids(&h, 0, 1);
    source_close(source);
    uint32_t rejected = 0;
    for (uint32_t i = n; i < h.event_count; i++) {
        if (h.rejected[i] != NULL) {
            rejected++;
            assert_string_equal(test_host_value(&h, i, "type"), "io.millrace.ingest.rejected");
            assert_string_equal(test_host_value(&h, i, "data"), "{\"id\":\"x\"");
        }
    }
    assert_int_equal(rejected, 1);
    test_host_free(&h);

    test_host_init(&h); /* acknowledged: it does not come again */
    source = source_open(&h, &words);
    publish_events(broker.port, words.topic, 1, 1, 1);
    assert_true(test_host_wait(&h, HOST_EVENTS, 1));
    source_close(source);
    for (uint32_t i = 0; i < h.event_count; i++) {
        assert_null(h.rejected[i]);
    }
    test_host_free(&h);
}

static void deliver_each_qos(const char *version, int subscribe_qos)
{
    char topic[64];
    snprintf(topic, sizeof(topic), "t/qos/%c/%d", version[0], subscribe_qos);
    struct source_words words = {.port = broker.port,
                                 .topic = topic,
                                 .qos = subscribe_qos,
                                 .name = topic,
                                 .version = version};
    struct test_host h;
    test_host_init(&h);
    struct mr_source *source = source_open(&h, &words);
    (void)source_subscribed(&h, broker.port, topic);
    for (int qos = 0; qos <= 2; qos++) {
        publish_events(broker.port, topic, qos, qos * 10, 10);
    }
    WAIT_FOR(count_ids(&h, 0, 30) == 30, "%s, subscribed with %d: of 10 each came %d %d %d; \"%s\"",
             version, subscribe_qos, count_ids(&h, 0, 10), count_ids(&h, 10, 10),
             count_ids(&h, 20, 10), source_health(source).last_error);
    source_close(source);
    test_host_free(&h);
}

static void test_source_qos_0_1_2_with_5_and_311_all_arrive(void **state)
{
    (void)state;
    for (int qos = 0; qos <= 2; qos++) {
        deliver_each_qos("5", qos);
        deliver_each_qos("3.1.1", qos);
    }
}

static void test_source_shared_subscription_splits_the_messages(void **state)
{
    (void)state;
    struct source_words one = {
        .port = broker.port, .topic = "$share/g/shared/x", .qos = 1, .name = "one"};
    struct source_words two = {
        .port = broker.port, .topic = "$share/g/shared/x", .qos = 1, .name = "two"};
    struct test_host a;
    struct test_host b;
    test_host_init(&a);
    test_host_init(&b);
    struct mr_source *first = source_open(&a, &one);
    (void)source_subscribed(&a, broker.port, "shared/x");
    struct mr_source *second = source_open(&b, &two);
    (void)source_subscribed(&b, broker.port, "shared/x");
    publish_events(broker.port, "shared/x", 1, 0, 40);
    WAIT_FOR(count_ids(&a, 0, 40) + count_ids(&b, 0, 40) == 40, "all 40");
    assert_true(count_ids(&a, 0, 40) > 0);
    assert_true(count_ids(&b, 0, 40) > 0);
    source_close(first);
    source_close(second);
    test_host_free(&a);
    test_host_free(&b);
}

static void test_source_two_filters_both_deliver(void **state)
{
    (void)state;
    struct source_words words = {.port = broker.port,
                                 .topic = "two/a",
                                 .topic2 = "two/b/#",
                                 .qos = 1,
                                 .name = "twofilters"};
    struct test_host h;
    test_host_init(&h);
    struct mr_source *source = source_open(&h, &words);
    (void)source_subscribed(&h, broker.port, "two/a");
    publish_events(broker.port, "two/a", 1, 0, 1);
    publish_events(broker.port, "two/b/c/d", 1, 1, 1);
    publish_events(broker.port, "two/c", 1, 2, 1);
    wait_ids(&h, 0, 2);
    assert_int_equal(count_ids(&h, 0, 3), 2);
    source_close(source);
    test_host_free(&h);
}

/* --- holding back ----------------------------------------------------------------------------- */

static void test_source_paused_takes_nothing_until_resumed(void **state)
{
    (void)state;
    struct source_words words = {
        .port = broker.port, .topic = topic_of("pause"), .qos = 1, .name = "pause"};
    struct test_host h;
    test_host_init(&h);
    struct mr_source *source = source_open(&h, &words);
    (void)source_subscribed(&h, broker.port, words.topic);
    ops->pause(source);
    ops->pause(source);
    publish_events(broker.port, words.topic, 1, 0, 10);
    (void)test_host_wait_for(&h, HOST_EVENTS, UINT32_MAX, 0.3);
    int taken = count_ids(&h, 0, 10);
    ops->resume(source);
    wait_ids(&h, 0, 10);
    assert_int_equal(taken, 0);
    assert_int_equal(count_ids(&h, 0, 10), 10);
    source_close(source);
    test_host_free(&h);
}

static void test_source_slow_commit_bounds_what_is_read(void **state)
{
    (void)state;
    struct source_words words = {
        .port = broker.port, .topic = topic_of("window"), .qos = 1, .name = "window"};
    struct test_host h;
    test_host_init(&h);
    struct mr_source *source = source_open(&h, &words);
    (void)source_subscribed(&h, broker.port, words.topic);
    test_host_hold(&h);
    publish_events(broker.port, words.topic, 1, 0, 3000);
    assert_true(test_host_wait(&h, HOST_HELD_EVENTS, 1));
    (void)test_host_wait_for(&h, HOST_HELD_EVENTS, 1100, 0.5);
    pthread_mutex_lock(&h.mu);
    uint32_t held = test_host_held_events(&h);
    pthread_mutex_unlock(&h.mu);
    assert_true(held <= 1000); /* inflight */
    test_host_let_go(&h);
    wait_ids(&h, 2990, 10);
    source_close(source);
    test_host_free(&h);
}

static void test_source_backlog_of_30000_is_read_fast(void **state)
{
    (void)state;
    struct source_words words = {
        .port = broker.port, .topic = topic_of("fast"), .qos = 1, .name = "fast"};
    struct test_host h;
    test_host_init(&h);
    struct mr_source *source = source_open(&h, &words);
    (void)source_subscribed(&h, broker.port, words.topic);
    source_close(source);
    publish_events(broker.port, words.topic, 1, 0, 30000);
    uint32_t before = h.event_count;
    source = source_open(&h, &words);
    assert_true(test_host_wait(&h, HOST_EVENTS, before + 1));
    uint64_t from = mr_clock_mono_ns();
    assert_true(test_host_wait(&h, HOST_EVENTS, before + 30000));
    uint64_t ns = mr_clock_mono_ns() - from;
    print_message("30000 messages in %llu ms\n", (unsigned long long)(ns / MR_MS));
    assert_int_equal(count_ids(&h, 0, 1) + count_ids(&h, 29999, 1), 2);
    source_close(source);
    test_host_free(&h);
}

/* --- security --------------------------------------------------------------------------------- */

static void expect_tls(const char *cert, const char *host, const char *ca, const char *error)
{
    struct server own;
    own_broker(&own, "MQTT_TLS", cert);
    char path[128];
    snprintf(path, sizeof(path), "%s/certs/%s.crt", own.dir, ca);
    struct source_words words = {.port = own.tls_port,
                                 .scheme = "mqtts",
                                 .host = host,
                                 .topic = "s/#",
                                 .qos = 1,
                                 .ca = path};
    struct test_host h;
    test_host_init(&h);
    struct mr_source *source = source_open(&h, &words);
    if (error == NULL) {
        source_ready(source);
        (void)source_subscribed(&h, own.port, "s/a");
        publish_events(own.port, "s/a", 1, 0, 2000); /* more than one TLS record holds */
        wait_ids(&h, 1990, 10);
        assert_int_equal(count_ids(&h, 0, 2000), 2000);
    } else {
        assert_true(source_reaches(source, MR_HEALTH_DOWN, DEADLINE_MS));
        assert_int_equal(h.submits, 0);
        if (strstr(source_health(source).last_error, error) == NULL) {
            fail_msg("%s/%s: %s", cert, ca, source_health(source).last_error);
        }
    }
    source_close(source);
    test_host_free(&h);
    server_remove(&own);
}

static void test_source_tls_good_certificate_connects(void **state)
{
    (void)state;
    expect_tls("server", "localhost", "ca", NULL);
    expect_tls("server", "127.0.0.1", "ca", NULL);
}

static void test_source_tls_wrong_host_authority_or_time_is_refused(void **state)
{
    (void)state;
    /* Mostly "certificate verify failed"; the library does not tell on every path. */
    expect_tls("wronghost", "localhost", "ca", "cannot connect");
    expect_tls("server", "localhost", "otherca", "cannot connect");
    expect_tls("expired", "localhost", "ca", "cannot connect");
}

static void test_source_tls_missing_file_is_refused_by_create(void **state)
{
    (void)state;
    struct mr_mqtt_source_options o;
    memset(&o, 0, sizeof(o));
    assert_int_equal(mr_options_defaults(mr_connector_mqtt.source_kind.options, &o), MR_OK);
    struct source_words words = {.port = 1, .scheme = "mqtts", .ca = "/nowhere/ca.crt"};
    set_url(&o.peer, &words);
    o.topic = mr_strdup("x");
    struct test_host h;
    test_host_init(&h);
    struct mr_source_args args = {.host = &h.host, .name = "s", .options = &o};
    struct mr_source *source = NULL;
    struct mr_problem problem = {.text = ""};
    assert_int_equal(ops->create(&args, &source, &problem), MR_E_INVALID);
    assert_non_null(strstr(problem.text, "/nowhere/ca.crt"));
    mr_options_release(mr_connector_mqtt.source_kind.options, &o);
    test_host_free(&h);
}

static void test_source_password_right_connects_wrong_is_refused(void **state)
{
    (void)state;
    struct server own;
    own_broker(&own, "MQTT_AUTH", "1");
    struct source_words words = {.port = own.port,
                                 .topic = "a/#",
                                 .qos = 1,
                                 .user = "millrace",
                                 .password = "millrace-secret"};
    struct test_host h;
    test_host_init(&h);
    struct mr_source *source = source_open(&h, &words);
    source_ready(source);
    source_close(source);
    words.password = "wrong";
    source = source_open(&h, &words);
    assert_true(source_reaches(source, MR_HEALTH_DOWN, DEADLINE_MS));
    struct mr_health health = source_health(source);
    assert_non_null(strstr(health.last_error, "refused"));
    source_close(source);
    test_host_free(&h);
    server_remove(&own);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_source_killed_before_durable_gets_all_20_again),
        cmocka_unit_test(test_source_311_killed_before_durable_gets_all_20_again),
        cmocka_unit_test(test_source_qos2_killed_before_durable_gets_all_20_again),
        cmocka_unit_test(test_source_stopped_in_order_gets_nothing_again),
        cmocka_unit_test(test_source_bus_refuses_for_a_while_loses_nothing),
        cmocka_unit_test(test_source_broker_restarts_reconnects_and_subscribes_again),
        cmocka_unit_test(test_source_session_survives_broker_restart_with_persistence),
        cmocka_unit_test(test_source_broker_down_at_start_connects_later),
        cmocka_unit_test(test_source_binary_event_takes_user_properties),
        cmocka_unit_test(test_source_plain_messages_are_wrapped_with_unique_ids),
        cmocka_unit_test(test_source_invalid_event_is_rejected_and_acknowledged),
        cmocka_unit_test(test_source_qos_0_1_2_with_5_and_311_all_arrive),
        cmocka_unit_test(test_source_shared_subscription_splits_the_messages),
        cmocka_unit_test(test_source_two_filters_both_deliver),
        cmocka_unit_test(test_source_paused_takes_nothing_until_resumed),
        cmocka_unit_test(test_source_slow_commit_bounds_what_is_read),
        cmocka_unit_test(test_source_backlog_of_30000_is_read_fast),
        cmocka_unit_test(test_source_tls_good_certificate_connects),
        cmocka_unit_test(test_source_tls_wrong_host_authority_or_time_is_refused),
        cmocka_unit_test(test_source_tls_missing_file_is_refused_by_create),
        cmocka_unit_test(test_source_password_right_connects_wrong_is_refused),
    };
    return cmocka_run_group_tests(tests, start_broker, stop_broker);
}
