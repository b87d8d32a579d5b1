/* The MQTT sink against Mosquitto. */
#include "tests/contract/mqtt_support.h"

static struct broker broker;
static const struct mr_target_ops *const ops = &mr__mqtt_sink_ops;

struct sink_words {
    struct source_words peer;
    const char *topic;
    int64_t qos;
    int mode;
    bool retain;
    uint32_t slots;
};

static struct mr_target *sink_open(struct test_host *h, const struct sink_words *w)
{
    const struct mr_config_kind *kind = &mr_connector_mqtt.sink_kind;
    struct mr_mqtt_sink_options o;
    memset(&o, 0, sizeof(o));
    assert_int_equal(mr_options_defaults(kind->options, &o), MR_OK);
    set_url(&o.peer, &w->peer);
    o.topic = mr_strdup(w->topic);
    o.qos = w->qos;
    o.mode = w->mode;
    o.retain = w->retain;
    struct mr_target_config config = {.concurrency = w->slots == 0 ? 16 : w->slots};
    struct mr_target_args args = {.host = &h->host,
                                  .index = 2,
                                  .name = w->peer.name == NULL ? "out" : w->peer.name,
                                  .options = &o,
                                  .config = &config,
                                  .folder = "/nowhere"};
    struct mr_target *target = NULL;
    struct mr_problem problem = {.text = ""};
    if (ops->create(&args, &target, &problem) != MR_OK) {
        fail_msg("create: %s", problem.text);
    }
    mr_options_release(kind->options, &o);
    assert_int_equal(ops->start(target, NULL), MR_OK);
    return target;
}

static void sink_close(struct mr_target *target)
{
    ops->stop(target, mr_clock_mono_ns() + 5 * MR_SECOND);
    ops->destroy(target);
}

static struct mr_handout *make_handout(int number, const char *subject)
{
    char text[256];
    struct mr_handout *handout = mr_handout_create();
    snprintf(text, sizeof(text),
             "{\"specversion\":\"1.0\",\"id\":\"e%d\",\"source\":\"/s\",\"type\":\"com.example.t\","
             "\"subject\":\"%s\",\"datacontenttype\":\"application/json\",\"data\":{\"n\":%d}}",
             number, subject, number);
    assert_non_null(handout);
    assert_int_equal(
        mr_json_decode_event(mr_bytes_of(text), MR_EVENT_SIZE_MAX, &handout->event, NULL), MR_OK);
    handout->offset = (uint64_t)number;
    return handout;
}

/* An event of @p size bytes of data. */
static struct mr_handout *make_large(int number, size_t size)
{
    struct mr_handout *handout = mr_handout_create();
    char *text = malloc(size + 256);
    assert_non_null(handout);
    assert_non_null(text);
    int head = snprintf(text, 256,
                        "{\"specversion\":\"1.0\",\"id\":\"e%d\",\"source\":\"/s\","
                        "\"type\":\"com.example.t\",\"data\":\"",
                        number);
    memset(text + head, 'x', size);
    memcpy(text + (size_t)head + size, "\"}", 3);
    assert_int_equal(
        mr_json_decode_event(mr_bytes_of(text), MR_EVENT_SIZE_MAX, &handout->event, NULL), MR_OK);
    free(text);
    return handout;
}

static void submit_many(struct mr_target *target, int from, int count)
{
    struct mr_handout *first = NULL;
    struct mr_handout *last = NULL;
    for (int i = 0; i < count; i++) {
        struct mr_handout *handout = make_handout(from + i, "s");
        if (last == NULL) {
            first = handout;
        } else {
            last->op.next = &handout->op;
        }
        last = handout;
    }
    ops->submit(target, first);
}

static void expect_all_ok(struct test_host *h, uint32_t count)
{
    assert_true(test_host_wait(h, HOST_ANSWERS, count));
    for (uint32_t i = 0; i < count; i++) {
        if (h->answers[i]->answer.verdict != MR_VERDICT_OK) {
            fail_msg("answer %u: %s (%s)", i, mr_verdict_text(h->answers[i]->answer.verdict),
                     h->answers[i]->answer.error == NULL ? "" : h->answers[i]->answer.error);
        }
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
    assert_true(test_host_wait(&h, HOST_CAPACITY, 16));
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
    struct mr_health health;
    ops->health(target, &health);
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
    assert_true(test_host_wait(&h, HOST_CAPACITY, 16));
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
    assert_true(test_host_wait(&h, HOST_CAPACITY, 16));
    ops->submit(target, make_handout(1, "plant-7"));
    expect_all_ok(&h, 1);
    client_until(&c, &c.received, 1);
    assert_string_equal(c.topic[0], "sink/by/com.example.t/plant-7");
    ops->submit(target, make_handout(2, "a/#")); /* would be a wildcard: never deliverable */
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
    assert_true(test_host_wait(&h, HOST_CAPACITY, 16));
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
    struct broker own;
    broker_make(&own);
    struct sink_words words = {.peer = {.port = own.port}, .topic = "x", .qos = 1};
    struct test_host h;
    test_host_init(&h);
    struct mr_target *target = sink_open(&h, &words);
    assert_true(test_host_wait(&h, HOST_CAPACITY, 16));
    broker_end(&own, "kill");
    assert_true(test_host_wait(&h, HOST_CAPACITY, 0));
    submit_many(target, 0, 2); /* handed out before the bus knew */
    assert_true(test_host_wait(&h, HOST_ANSWERS, 2));
    assert_int_equal(h.answers[0]->answer.verdict, MR_VERDICT_REFUSED);
    assert_int_equal(h.answers[1]->answer.verdict, MR_VERDICT_REFUSED);
    assert_int_equal(h.answers[0]->answer.started_wall_ns, 0);
    struct mr_health health;
    ops->health(target, &health);
    assert_int_equal(health.state, MR_HEALTH_DOWN);
    broker_start(&own);
    assert_true(test_host_wait(&h, HOST_CAPACITY, 16));
    submit_many(target, 2, 1);
    assert_true(test_host_wait(&h, HOST_ANSWERS, 3));
    assert_int_equal(h.answers[2]->answer.verdict, MR_VERDICT_OK);
    ops->health(target, &health);
    assert_int_equal(health.reconnects, 1);
    sink_close(target);
    test_host_free(&h);
    broker_remove(&own);
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
    struct broker own;
    char path[128];
    setenv("MQTT_TLS", cert, 1);
    broker_make(&own);
    unsetenv("MQTT_TLS");
    snprintf(path, sizeof(path), "%s/certs/%s.crt", own.dir, ca);
    struct sink_words words = {
        .peer = {.port = own.tls_port, .scheme = "mqtts", .host = "localhost", .ca = path},
        .topic = "x",
        .qos = 1};
    struct test_host h;
    test_host_init(&h);
    struct mr_target *target = sink_open(&h, &words);
    if (good) {
        assert_true(test_host_wait(&h, HOST_CAPACITY, 16));
        submit_many(target, 0, 1);
        expect_all_ok(&h, 1);
    } else {
        int64_t until = now_ms() + DEADLINE_MS;
        struct mr_health health;
        do {
            (void)test_host_wait_for(&h, HOST_CAPACITY, 16, 0.02);
            ops->health(target, &health);
        } while (health.state != MR_HEALTH_DOWN && now_ms() < until);
        assert_int_equal(health.state, MR_HEALTH_DOWN);
        assert_int_equal(h.capacity, 0);
    }
    sink_close(target);
    test_host_free(&h);
    broker_remove(&own);
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
    struct broker own;
    setenv("MQTT_AUTH", "1", 1);
    broker_make(&own);
    unsetenv("MQTT_AUTH");
    struct sink_words words = {
        .peer = {.port = own.port, .user = "millrace", .password = "millrace-secret"},
        .topic = "x"};
    struct test_host h;
    test_host_init(&h);
    struct mr_target *target = sink_open(&h, &words);
    assert_true(test_host_wait(&h, HOST_CAPACITY, 16));
    sink_close(target);
    test_host_free(&h);
    words.peer.password = "wrong";
    test_host_init(&h);
    target = sink_open(&h, &words);
    int64_t until = now_ms() + DEADLINE_MS;
    struct mr_health health;
    do {
        (void)test_host_wait_for(&h, HOST_CAPACITY, 16, 0.02);
        ops->health(target, &health);
    } while (health.state != MR_HEALTH_DOWN && now_ms() < until);
    assert_int_equal(health.state, MR_HEALTH_DOWN);
    assert_non_null(strstr(health.last_error, "cannot connect"));
    assert_null(strstr(health.last_error, "wrong"));
    sink_close(target);
    test_host_free(&h);
    broker_remove(&own);
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
    assert_true(test_host_wait(&h, HOST_CAPACITY, 64));
    struct mr_handout *first = NULL;
    for (int i = 63; i >= 0; i--) {
        struct mr_handout *handout = make_large(i, MR_MIB);
        handout->op.next = first == NULL ? NULL : &first->op;
        first = handout;
    }
    ops->submit(target, first);
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
    assert_true(test_host_wait(&h, HOST_CAPACITY, 64));
    struct mr_handout *first = NULL;
    for (int i = 63; i >= 0; i--) {
        struct mr_handout *handout = make_large(i, MR_MIB);
        handout->op.next = first == NULL ? NULL : &first->op;
        first = handout;
    }
    ops->submit(target, first);
    sink_close(target); /* answers each of them, one way or the other */
    assert_int_equal(h.answer_count, 64);
    for (uint32_t i = 0; i < 64; i++) {
        enum mr_verdict verdict = h.answers[i]->answer.verdict;
        assert_true(verdict == MR_VERDICT_OK || verdict == MR_VERDICT_REFUSED);
    }
    test_host_free(&h);
}

static int setup(void **state)
{
    (void)state;
    mr_logger_set_fd(-1);
    broker_make(&broker);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    broker_remove(&broker);
    return 0;
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
    return cmocka_run_group_tests(tests, setup, teardown);
}
