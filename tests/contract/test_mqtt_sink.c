/* The MQTT sink against Mosquitto. */
#include "tests/contract/mqtt_support.h"

static struct mr_handout *make_handout(int number, const char *subject)
{
    char text[256];
    snprintf(text, sizeof(text),
             "{\"specversion\":\"1.0\",\"id\":\"e%d\",\"source\":\"/s\",\"type\":\"com.example.t\","
             "\"subject\":\"%s\",\"datacontenttype\":\"application/json\",\"data\":{\"n\":%d}}",
             number, subject, number);
    struct mr_handout *handout = handout_of(text);
    handout->offset = (uint64_t)number;
    return handout;
}

/* An event of @p size bytes of data. */
static struct mr_handout *make_large(int number, size_t size)
{
    char *text = malloc(size + 256);
    assert_non_null(text);
    int head = snprintf(text, 256,
                        "{\"specversion\":\"1.0\",\"id\":\"e%d\",\"source\":\"/s\","
                        "\"type\":\"com.example.t\",\"data\":\"",
                        number);
    memset(text + head, 'x', size);
    memcpy(text + (size_t)head + size, "\"}", 3);
    struct mr_handout *handout = handout_of(text);
    free(text);
    return handout;
}

static void submit_many(struct mr_target *target, int from, int count)
{
    struct mr_handout *first = NULL;
    for (int i = count - 1; i >= 0; i--) {
        first = chain_handout(make_handout(from + i, "s"), first);
    }
    sink_give(target, first);
}

/* 64 of 1 MiB at once. */
static void submit_large(struct mr_target *target)
{
    struct mr_handout *first = NULL;
    for (int i = 63; i >= 0; i--) {
        first = chain_handout(make_large(i, MR_MIB), first);
    }
    sink_give(target, first);
}

static void expect_all_ok(struct test_host *h, uint32_t count)
{
    assert_true(test_host_wait(h, HOST_ANSWERS, count));
    for (uint32_t i = 0; i < count; i++) {
        expect_verdict(h->answers[i], MR_VERDICT_OK, "");
        assert_true(h->answers[i]->answer.started_wall_ns > 0);
    }
}

static void deliver(const char *version, int64_t qos)
{
    char topic[64];
    snprintf(topic, sizeof(topic), "sink/%c/%d", version[0], (int)qos);
    struct client c;
    client_open(&c, broker.port);
    client_subscribe(&c, topic);
    struct sink_words words = {.peer = {.port = broker.port, .version = version, .name = topic},
                               .topic = topic,
                               .qos = qos};
    struct test_host h;
    test_host_init(&h);
    struct mr_target *target = sink_open(&h, &words);
    sink_ready(&h, target, 16);
    submit_many(target, 0, 16);
    expect_all_ok(&h, 16);
    client_until(&c, &c.received, 16);
    assert_int_equal(c.qos[0], (int)qos);
    if (version[0] == '5') {
        assert_string_equal(c.content_type[0], "application/json");
        assert_string_equal(c.type[0], "com.example.t");
        assert_string_equal(c.payload[0], "{\"n\":0}");
    } else {
        assert_non_null(strstr(c.payload[0], "\"specversion\":\"1.0\""));
        assert_non_null(strstr(c.payload[0], "\"data\":{\"n\":0}"));
    }
    struct mr_health health = sink_health(target);
    assert_int_equal(health.state, MR_HEALTH_OK);
    assert_int_equal(health.messages, 16);
    sink_close(target);
    test_host_free(&h);
    client_close(&c);
}

static void test_sink_qos_0_1_2_with_5_and_311_delivers(void **state)
{
    (void)state;
    for (int64_t qos = 0; qos <= 2; qos++) {
        deliver("5", qos);
        deliver("3.1.1", qos);
    }
}

static void test_sink_structured_with_5_says_its_format(void **state)
{
    (void)state;
    struct client c;
    client_open(&c, broker.port);
    client_subscribe(&c, "sink/structured");
    struct sink_words words = {.peer = {.port = broker.port, .name = "structured"},
                               .topic = "sink/structured",
                               .qos = 1,
                               .mode = MR_MQTT_MODE_STRUCTURED};
    struct test_host h;
    test_host_init(&h);
    struct mr_target *target = sink_open(&h, &words);
    sink_ready(&h, target, 16);
    submit_many(target, 0, 1);
    expect_all_ok(&h, 1);
    client_until(&c, &c.received, 1);
    assert_int_equal(strncmp(c.content_type[0], "application/cloudevents+json", 28), 0);
    assert_non_null(strstr(c.payload[0], "\"id\":\"e0\""));
    sink_close(target);
    test_host_free(&h);
    client_close(&c);
}

static void test_sink_topic_template_is_filled_in(void **state)
{
    (void)state;
    struct client c;
    client_open(&c, broker.port);
    client_subscribe(&c, "sink/by/#");
    struct sink_words words = {.peer = {.port = broker.port, .name = "template"},
                               .topic = "sink/by/{{type}}/{{subject}}",
                               .qos = 1};
    struct test_host h;
    test_host_init(&h);
    struct mr_target *target = sink_open(&h, &words);
    sink_ready(&h, target, 16);
    sink_give(target, make_handout(1, "plant-7"));
    expect_all_ok(&h, 1);
    client_until(&c, &c.received, 1);
    assert_string_equal(c.topic[0], "sink/by/com.example.t/plant-7");
    sink_give(target, make_handout(2, "a/#")); /* would be a wildcard: never deliverable */
    assert_true(test_host_wait(&h, HOST_ANSWERS, 2));
    assert_int_equal(h.answers[1]->answer.verdict, MR_VERDICT_DEAD);
    assert_non_null(strstr(h.answers[1]->answer.error, "wildcard"));
    sink_close(target);
    test_host_free(&h);
    client_close(&c);
}

static void test_sink_retain_stays_at_the_broker(void **state)
{
    (void)state;
    struct sink_words words = {.peer = {.port = broker.port, .name = "retain"},
                               .topic = "sink/retain",
                               .qos = 1,
                               .retain = true};
    struct test_host h;
    test_host_init(&h);
    struct mr_target *target = sink_open(&h, &words);
    sink_ready(&h, target, 16);
    submit_many(target, 5, 1);
    expect_all_ok(&h, 1);
    struct client c;
    client_open(&c, broker.port);
    client_subscribe(&c, "sink/retain");
    client_until(&c, &c.received, 1);
    assert_true(c.retained[0]);
    client_close(&c);
    sink_close(target);
    test_host_free(&h);
}

static void test_sink_broker_down_refuses_then_recovers(void **state)
{
    (void)state;
    struct server own;
    own_broker(&own, NULL, NULL);
    struct sink_words words = {.peer = {.port = own.port}, .topic = "x", .qos = 1};
    struct test_host h;
    test_host_init(&h);
    struct mr_target *target = sink_open(&h, &words);
    sink_ready(&h, target, 16);
    server_do(&own, "kill");
    assert_true(test_host_wait(&h, HOST_CAPACITY, 0));
    submit_many(target, 0, 2); /* handed out before the bus knew */
    assert_true(test_host_wait(&h, HOST_ANSWERS, 2));
    assert_int_equal(h.answers[0]->answer.verdict, MR_VERDICT_REFUSED);
    assert_int_equal(h.answers[1]->answer.verdict, MR_VERDICT_REFUSED);
    assert_int_equal(h.answers[0]->answer.started_wall_ns, 0);
    struct mr_health health = sink_health(target);
    assert_int_equal(health.state, MR_HEALTH_DOWN);
    server_start(&own);
    sink_ready(&h, target, 16);
    submit_many(target, 2, 1);
    assert_true(test_host_wait(&h, HOST_ANSWERS, 3));
    assert_int_equal(h.answers[2]->answer.verdict, MR_VERDICT_OK);
    health = sink_health(target);
    assert_int_equal(health.reconnects, 1);
    sink_close(target);
    test_host_free(&h);
    server_remove(&own);
}

static void test_sink_several_at_once_do_not_disturb_each_other(void **state)
{
    (void)state;
    struct client c;
    client_open(&c, broker.port);
    client_subscribe(&c, "sink/several/#");
    struct test_host h[3];
    struct mr_target *target[3];
    char name[3][32];
    for (int i = 0; i < 3; i++) {
        snprintf(name[i], sizeof(name[i]), "sink/several/%d", i);
        struct sink_words words = {.peer = {.port = i == 1 ? 1 : broker.port, .name = name[i]},
                                   .topic = name[i],
                                   .qos = 1,
                                   .slots = 200};
        test_host_init(&h[i]);
        target[i] = sink_open(&h[i], &words); /* the one in the middle never connects */
    }
    for (int i = 0; i < 3; i += 2) {
        assert_true(test_host_wait(&h[i], HOST_CAPACITY, 200));
        submit_many(target[i], 0, 200);
    }
    for (int i = 0; i < 3; i += 2) {
        expect_all_ok(&h[i], 200);
    }
    client_until(&c, &c.received, 400);
    for (int i = 0; i < 3; i++) {
        sink_close(target[i]);
        test_host_free(&h[i]);
    }
    client_close(&c);
}

static void expect_tls(const char *cert, const char *ca, bool good)
{
    struct server own;
    char path[128];
    own_broker(&own, "MQTT_TLS", cert);
    snprintf(path, sizeof(path), "%s/certs/%s.crt", own.dir, ca);
    struct sink_words words = {
        .peer = {.port = own.tls_port, .scheme = "mqtts", .host = "localhost", .ca = path},
        .topic = "x",
        .qos = 1};
    struct test_host h;
    test_host_init(&h);
    struct mr_target *target = sink_open(&h, &words);
    if (good) {
        sink_ready(&h, target, 16);
        submit_many(target, 0, 1);
        expect_all_ok(&h, 1);
    } else {
        sink_says(target, "cannot connect");
        assert_int_equal(sink_health(target).state, MR_HEALTH_DOWN);
        assert_int_equal(h.capacity, 0);
    }
    sink_close(target);
    test_host_free(&h);
    server_remove(&own);
}

static void test_sink_tls_good_connects_wrong_host_authority_or_time_is_refused(void **state)
{
    (void)state;
    expect_tls("server", "ca", true);
    expect_tls("wronghost", "ca", false);
    expect_tls("server", "otherca", false);
    expect_tls("expired", "ca", false);
}

static void test_sink_password_wrong_is_refused(void **state)
{
    (void)state;
    struct server own;
    own_broker(&own, "MQTT_AUTH", "1");
    struct sink_words words = {
        .peer = {.port = own.port, .user = "millrace", .password = "millrace-secret"},
        .topic = "x"};
    struct test_host h;
    test_host_init(&h);
    struct mr_target *target = sink_open(&h, &words);
    sink_ready(&h, target, 16);
    sink_close(target);
    test_host_free(&h);
    words.peer.password = "wrong";
    test_host_init(&h);
    target = sink_open(&h, &words);
    sink_says(target, "cannot connect");
    struct mr_health health = sink_health(target);
    assert_int_equal(health.state, MR_HEALTH_DOWN);
    assert_null(strstr(health.last_error, "wrong"));
    sink_close(target);
    test_host_free(&h);
    server_remove(&own);
}

static void test_sink_64_events_of_1_mib_wait_for_room_and_arrive(void **state)
{
    (void)state;
    struct sink_words words = {.peer = {.port = broker.port, .name = "large"},
                               .topic = "sink/large",
                               .qos = 1,
                               .slots = 64};
    struct test_host h;
    test_host_init(&h);
    struct mr_target *target = sink_open(&h, &words);
    sink_ready(&h, target, 64);
    submit_large(target);
    expect_all_ok(&h, 64);
    sink_close(target);
    test_host_free(&h);
}

static void test_sink_stopped_with_events_waiting_refuses_them(void **state)
{
    (void)state;
    struct sink_words words = {.peer = {.port = broker.port, .name = "stopped"},
                               .topic = "sink/stopped",
                               .qos = 1,
                               .slots = 64};
    struct test_host h;
    test_host_init(&h);
    struct mr_target *target = sink_open(&h, &words);
    sink_ready(&h, target, 64);
    submit_large(target);
    sink_close(target); /* answers each of them, one way or the other */
    assert_int_equal(h.answer_count, 64);
    for (uint32_t i = 0; i < 64; i++) {
        enum mr_verdict verdict = h.answers[i]->answer.verdict;
        assert_true(verdict == MR_VERDICT_OK || verdict == MR_VERDICT_REFUSED);
    }
    test_host_free(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sink_qos_0_1_2_with_5_and_311_delivers),
        cmocka_unit_test(test_sink_structured_with_5_says_its_format),
        cmocka_unit_test(test_sink_topic_template_is_filled_in),
        cmocka_unit_test(test_sink_retain_stays_at_the_broker),
        cmocka_unit_test(test_sink_broker_down_refuses_then_recovers),
        cmocka_unit_test(test_sink_several_at_once_do_not_disturb_each_other),
        cmocka_unit_test(test_sink_tls_good_connects_wrong_host_authority_or_time_is_refused),
        cmocka_unit_test(test_sink_password_wrong_is_refused),
        cmocka_unit_test(test_sink_64_events_of_1_mib_wait_for_room_and_arrive),
        cmocka_unit_test(test_sink_stopped_with_events_waiting_refuses_them),
    };
    return cmocka_run_group_tests(tests, start_broker, stop_broker);
}
