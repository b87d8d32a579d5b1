/* The AMQP source against RabbitMQ. */
#include "tests/contract/amqp_support.h"
#include "tests/contract/killed.h"

#include <sys/prctl.h>

static const struct mr_source_ops *const ops = &mr__amqp_source_ops;

/* --- promise 1 -------------------------------------------------------------------------------- */

static bool read_all(struct test_host *held, const struct source_words *words)
{
    struct mr_source *source = source_open(held, words);
    int64_t until = now_ms() + DEADLINE_MS;
    while (source_health(source).messages < 20 && now_ms() < until) {
        (void)poll(NULL, 0, 5);
    }
    return source_health(source).messages == 20;
}

/* A child reads all, gets nothing durable, is killed. The broker must deliver all again. */
static void read_and_die(const char *queue, const char *type)
{
    make_queue(queue, type);
    publish_events(queue, 0, 20);
    struct source_words words = {.queue = queue};
    read_and_be_killed(read_all, &words);
    struct test_host h;
    test_host_init(&h);
    struct mr_source *source = source_open(&h, &words);
    wait_ids(&h, 0, 20);
    source_close(source);
    assert_int_equal(h.event_count, 20);
    ready_reaches(queue, 0);
    test_host_free(&h);
}

static void test_source_killed_before_durable_gets_all_20_again(void **state)
{
    (void)state;
    read_and_die("kill-classic", "classic");
}

static void test_source_quorum_killed_before_durable_gets_all_20_again(void **state)
{
    (void)state;
    read_and_die("kill-quorum", "quorum");
}

/* What was acknowledged is gone from the queue for good, right after a stop: a quorum queue forgets
 * acknowledgements that come right before a close. */
static void stop_right_after(const char *queue, const char *type)
{
    make_queue(queue, type);
    struct source_words words = {.queue = queue};
    for (int round = 0; round < 3; round++) {
        publish_events(queue, 0, 100);
        struct test_host h;
        test_host_init(&h);
        struct mr_source *source = source_open(&h, &words);
        wait_ids(&h, 0, 100);
        source_close(source); /* at once */
        assert_int_equal(h.event_count, 100);
        test_host_free(&h);
        ready_reaches(queue, 0);
    }
}

static void test_source_stopped_in_order_leaves_nothing_to_repeat(void **state)
{
    (void)state;
    stop_right_after("order-classic", "classic");
    stop_right_after("order-quorum", "quorum");
}

static void test_source_stopped_midway_puts_the_rest_back(void **state)
{
    (void)state;
    make_queue("midway", "classic");
    publish_events("midway", 0, 2000);
    struct source_words words = {.queue = "midway"};
    struct test_host h;
    test_host_init(&h);
    struct mr_source *source = source_open(&h, &words);
    assert_true(test_host_wait(&h, HOST_EVENTS, 1));
    source_close(source);
    int taken = (int)h.event_count;
    ready_reaches("midway", 2000 - taken);
    source = source_open(&h, &words);
    wait_ids(&h, 0, 2000);
    source_close(source);
    assert_int_equal(h.event_count, 2000); /* each once, stop and start between */
    test_host_free(&h);
}

static void test_source_bus_refuses_for_a_while_loses_nothing(void **state)
{
    (void)state;
    make_queue("low", "classic");
    struct source_words words = {.queue = "low"};
    struct test_host h;
    test_host_init(&h);
    struct mr_source *source = source_open(&h, &words);
    source_ready(source);
    test_host_refuse(&h, 3, MR_E_DISK_LOW);
    publish_events("low", 0, 30);
    wait_ids(&h, 0, 30);
    source_ready(source);
    source_close(source);
    assert_int_equal(h.fail_count, 0); /* the fault fired */
    assert_int_equal(h.event_count, 30);
    ready_reaches("low", 0);
    test_host_free(&h);
}

/* --- flow ------------------------------------------------------------------------------------- */

static void test_source_bus_holds_reads_no_more_than_a_batch_and_a_next(void **state)
{
    (void)state;
    make_queue("held", "classic");
    publish_events("held", 0, 5000);
    struct source_words words = {.queue = "held", .prefetch = 3000, .heartbeat_s = 1};
    struct test_host h;
    test_host_init(&h);
    test_host_hold(&h);
    struct mr_source *source = source_open(&h, &words);
    assert_true(test_host_wait(&h, HOST_HELD_EVENTS, 1));
    uint32_t out = test_host_held_events(&h);
    WAIT_FOR(source_health(source).messages >= out + 500, "what is read");
    assert_int_equal(source_health(source).messages, out + 500);
    /* Not reading for several heartbeats keeps the connection. */
    assert_false(test_host_wait_for(&h, HOST_SUBMITS, 2, 4.0));
    assert_int_equal(source_health(source).messages, out + 500);
    struct mr_health health = source_health(source);
    assert_int_equal(health.state, MR_HEALTH_OK);
    assert_int_equal(health.reconnects, 0);
    test_host_let_go(&h);
    wait_ids(&h, 0, 5000);
    source_close(source);
    assert_int_equal(h.event_count, 5000);
    test_host_free(&h);
}

static void test_source_paused_puts_all_back_and_goes_on_where_it_was(void **state)
{
    (void)state;
    make_queue("paused", "quorum");
    struct source_words words = {.queue = "paused"};
    struct test_host h;
    test_host_init(&h);
    struct mr_source *source = source_open(&h, &words);
    source_ready(source);
    publish_events("paused", 0, 50);
    wait_ids(&h, 0, 50);
    ops->pause(source);
    ops->pause(source);
    assert_true(source_reaches(source, MR_HEALTH_DOWN, DEADLINE_MS));
    publish_events("paused", 50, 50);
    ready_reaches("paused", 50);
    assert_int_equal(h.event_count, 50);
    ops->resume(source);
    wait_ids(&h, 0, 100);
    source_close(source);
    assert_int_equal(h.event_count, 100);
    ready_reaches("paused", 0);
    test_host_free(&h);
}

static void test_source_paused_with_a_batch_out_waits_for_it(void **state)
{
    (void)state;
    make_queue("pausedout", "classic");
    publish_events("pausedout", 0, 3);
    struct source_words words = {.queue = "pausedout", .prefetch = 10};
    struct test_host h;
    test_host_init(&h);
    test_host_hold(&h);
    struct mr_source *source = source_open(&h, &words);
    assert_true(test_host_wait(&h, HOST_HELD_EVENTS, 1));
    ops->pause(source);
    assert_false(source_reaches(source, MR_HEALTH_DOWN, 1000));
    test_host_let_go(&h);
    assert_true(source_reaches(source, MR_HEALTH_DOWN, DEADLINE_MS));
    ready_reaches("pausedout", 3 - (int)h.event_count);
    source_close(source);
    test_host_free(&h);
}

static void test_source_prefetch_bounds_what_is_unacknowledged(void **state)
{
    (void)state;
    make_queue("prefetch", "classic");
    publish_events("prefetch", 0, 100);
    struct source_words words = {.queue = "prefetch", .prefetch = 7};
    struct test_host h;
    test_host_init(&h);
    test_host_hold(&h);
    struct mr_source *source = source_open(&h, &words);
    ready_reaches("prefetch", 93);
    assert_false(test_host_wait_for(&h, HOST_HELD_EVENTS, 8, 0.3));
    assert_int_equal(client_ready("prefetch"), 93);
    test_host_let_go(&h);
    wait_ids(&h, 0, 100);
    source_close(source);
    test_host_free(&h);
}

/* --- what arrives ----------------------------------------------------------------------------- */

static amqp_table_entry_t text_header(const char *name, const char *value)
{
    amqp_table_entry_t e = {.key = amqp_cstring_bytes(name),
                            .value = {.kind = AMQP_FIELD_KIND_UTF8}};
    e.value.value.bytes = amqp_cstring_bytes(value);
    return e;
}

static void publish_binary(const char *queue, const char *prefix)
{
    char names[6][40];
    static const char *const attributes[] = {"specversion", "id", "source", "type", "time", "n"};
    static const char *const values[] = {"1.0", "b1", "/binary", "com.example.b", NULL, NULL};
    amqp_table_entry_t entries[8];
    for (int i = 0; i < 6; i++) {
        snprintf(names[i], sizeof(names[i]), "%s%s", prefix, attributes[i]);
        entries[i] = text_header(names[i], values[i] == NULL ? "" : values[i]);
    }
    entries[4].value.kind = AMQP_FIELD_KIND_TIMESTAMP;
    entries[4].value.value.u64 = 1700000000;
    entries[5].value.kind = AMQP_FIELD_KIND_I32;
    entries[5].value.value.i32 = -42;
    entries[6] = text_header("x-death", "not an attribute");
    entries[7] = text_header("traceparent", "not this one");
    amqp_basic_properties_t p = {._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_HEADERS_FLAG,
                                 .content_type = amqp_cstring_bytes("application/json"),
                                 .headers = {8, entries}};
    struct client c;
    client_open(&c);
    client_publish(&c, "", queue, &p, "{\"t\":21.5}", 10);
    client_confirmed(&c, 1);
    client_close(&c);
}

static void test_source_binary_events_of_all_four_habits(void **state)
{
    (void)state;
    static const char *const prefixes[] = {"cloudEvents:", "cloudEvents_", "ce-", ""};
    make_queue("habits", "classic");
    struct source_words words = {.queue = "habits"};
    struct test_host h;
    test_host_init(&h);
    struct mr_source *source = source_open(&h, &words);
    for (uint32_t i = 0; i < 4; i++) {
        publish_binary("habits", prefixes[i]);
        assert_true(test_host_wait(&h, HOST_EVENTS, i + 1));
        assert_null(h.rejected[i]);
        assert_string_equal(test_host_value(&h, i, "id"), "b1");
        assert_string_equal(test_host_value(&h, i, "source"), "/binary");
        assert_string_equal(test_host_value(&h, i, "type"), "com.example.b");
        assert_string_equal(test_host_value(&h, i, "n"), "-42");
        assert_non_null(strstr(test_host_value(&h, i, "time"), "2023-11-14T22:13:20"));
        assert_string_equal(test_host_value(&h, i, "datacontenttype"), "application/json");
        assert_string_equal(test_host_value(&h, i, "data"), "{\"t\":21.5}");
    }
    source_close(source);
    test_host_free(&h);
}

static void test_source_raw_messages_are_wrapped_with_unique_ids(void **state)
{
    (void)state;
    make_queue("raw", "classic");
    struct source_words words = {.queue = "raw", .name = "shop"};
    struct test_host h;
    test_host_init(&h);
    struct mr_source *source = source_open(&h, &words);
    publish_text("raw", "text/plain", "hello");
    publish_text("raw", NULL, "");
    assert_true(test_host_wait(&h, HOST_EVENTS, 2));
    assert_string_equal(test_host_value(&h, 0, "data"), "hello");
    assert_string_equal(test_host_value(&h, 0, "datacontenttype"), "text/plain");
    assert_non_null(strstr(test_host_value(&h, 0, "source"), "shop"));
    assert_non_null(strstr(test_host_value(&h, 0, "source"), "raw"));
    char id[512];
    snprintf(id, sizeof(id), "%s", test_host_value(&h, 0, "id"));
    assert_string_not_equal(id, "");
    assert_string_not_equal(test_host_value(&h, 1, "id"), id);
    assert_string_equal(test_host_value(&h, 1, "data"), "");
    source_close(source);
    test_host_free(&h);
}

static void test_source_undecodable_and_too_big_are_dead_letters_and_acknowledged(void **state)
{
    (void)state;
    make_queue("bad", "classic");
    struct source_words words = {.queue = "bad", .event_size_max = 64 * MR_KIB};
    struct test_host h;
    test_host_init(&h);
    struct mr_source *source = source_open(&h, &words);
    char *huge = malloc(9 * MR_MIB);
    memset(huge, 'x', 9 * MR_MIB);
    huge[9 * MR_MIB - 1] = '\0';
    publish_text("bad", "application/cloudevents+json", "{\"id\":\"x\"");
    publish_text("bad", "text/plain", huge); /* beyond any batch */
    huge[300000] = '\0';
    publish_text("bad", "text/plain", huge); /* several frames, beyond an event */
    free(huge);
    publish_events("bad", 0, 1);
    assert_true(test_host_wait(&h, HOST_EVENTS, 4));
    source_close(source);
    for (uint32_t i = 0; i < 3; i++) {
        assert_non_null(h.rejected[i]);
        assert_string_equal(test_host_value(&h, i, "type"), "io.millrace.ingest.rejected");
    }
    assert_non_null(strstr(h.rejected[1], "9437183 bytes"));
    assert_string_equal(test_host_value(&h, 1, "truncated"), "true");
    assert_string_equal(test_host_value(&h, 0, "data"), "{\"id\":\"x\"");
    assert_null(h.rejected[3]);
    ready_reaches("bad", 0);
    test_host_free(&h);
}

static void test_source_batch_messages_one_and_none(void **state)
{
    (void)state;
    make_queue("batch", "classic");
    struct source_words words = {.queue = "batch"};
    struct test_host h;
    test_host_init(&h);
    struct mr_source *source = source_open(&h, &words);
    source_ready(source);
    publish_text("batch", "application/cloudevents-batch+json", "[]");
    ready_reaches("batch", 0);
    publish_text("batch", "application/cloudevents-batch+json",
                 "[{\"specversion\":\"1.0\",\"id\":\"e1\",\"source\":\"/s\",\"type\":\"t\"},"
                 "{\"specversion\":\"1.0\",\"id\":\"e2\",\"source\":\"/s\",\"type\":\"t\"}]");
    assert_true(test_host_wait(&h, HOST_EVENTS, 2));
    publish_text("batch", "application/cloudevents-batch+json", "[]");
    WAIT_FOR(source_health(source).messages >= 3, "what is read");
    source_close(source);
    ready_reaches("batch", 0); /* the empty ones are acknowledged too */
    test_host_free(&h);
}

static void test_source_big_messages_of_many_frames_arrive_whole(void **state)
{
    (void)state;
    make_queue("big", "classic");
    struct source_words words = {.queue = "big", .event_size_max = MR_EVENT_SIZE_MAX};
    struct test_host h;
    test_host_init(&h);
    struct mr_source *source = source_open(&h, &words);
    size_t size = 2 * MR_MIB + 17;
    char *text = malloc(size + 1);
    for (size_t i = 0; i < size; i++) {
        text[i] = (char)('a' + i % 23);
    }
    text[size] = '\0';
    for (int i = 0; i < 12; i++) {
        publish_text("big", "text/plain", text);
    }
    assert_true(test_host_wait(&h, HOST_EVENTS, 12));
    for (uint32_t i = 0; i < 12; i++) {
        struct mr_bytes data = mr_event_data(mr_event_record(h.events[i]));
        assert_true(mr_bytes_equal(data, mr_bytes_of(text)));
    }
    free(text);
    source_close(source);
    test_host_free(&h);
}

static void test_source_adapter_makes_events_of_notifications(void **state)
{
    (void)state;
    make_queue("s3", "classic");
    struct source_words words = {.queue = "s3", .adapter = 1 /* s3 */};
    struct test_host h;
    test_host_init(&h);
    struct mr_source *source = source_open(&h, &words);
    publish_text("s3", NULL, "{\"nonsense\":true}");
    assert_true(test_host_wait(&h, HOST_EVENTS, 1));
    assert_non_null(h.rejected[0]);
    publish_text(
        "s3", "application/json",
        "{\"Records\":[{\"eventVersion\":\"2.1\",\"eventSource\":\"aws:s3\",\"awsRegion\":\"r\","
        "\"eventTime\":\"2024-01-01T00:00:00.000Z\",\"eventName\":\"ObjectCreated:Put\","
        "\"s3\":{\"bucket\":{\"name\":\"b\"},\"object\":{\"key\":\"k.jpg\",\"size\":1,"
        "\"sequencer\":\"01\"}},\"responseElements\":{\"x-amz-request-id\":\"q\","
        "\"x-amz-id-2\":\"z\"}}]}");
    assert_true(test_host_wait(&h, HOST_EVENTS, 2));
    if (h.rejected[1] != NULL) {
        fail_msg("%s", h.rejected[1]);
    }
    assert_string_equal(test_host_value(&h, 1, "subject"), "k.jpg");
    source_close(source);
    test_host_free(&h);
}

/* --- topology --------------------------------------------------------------------------------- */

static void test_source_declares_queue_exchange_and_binding(void **state)
{
    (void)state;
    struct source_words words = {.queue = "declared",
                                 .type = MR_AMQP_QUEUE_QUORUM,
                                 .arguments = "{\"x-max-length\":1000,\"x-overflow\":"
                                              "\"reject-publish\"}",
                                 .exchange = "orders",
                                 .exchange_type = MR_AMQP_EXCHANGE_TOPIC,
                                 .binding = "order.*"};
    struct test_host h;
    test_host_init(&h);
    for (int i = 0; i < 2; i++) { /* the second time all is there */
        struct mr_source *source = source_open(&h, &words);
        source_ready(source);
        struct client c;
        client_open(&c);
        amqp_basic_properties_t p = {0};
        client_publish(&c, "orders", "order.new", &p, "1", 1);
        client_publish(&c, "orders", "invoice.new", &p, "2", 1);
        client_confirmed(&c, 2);
        client_close(&c);
        assert_true(test_host_wait(&h, HOST_EVENTS, (uint32_t)i + 1));
        source_close(source);
        assert_int_equal(h.event_count, i + 1);
        assert_string_equal(test_host_value(&h, (uint32_t)i, "data"), "1");
    }
    test_host_free(&h);
}

static void test_source_classic_declared_equals_one_made_without_a_type(void **state)
{
    (void)state;
    struct client c;
    client_open(&c);
    amqp_queue_declare(c.conn, 1, amqp_cstring_bytes("plain"), 0, 1, 0, 0, amqp_empty_table);
    client_ok(&c);
    client_close(&c);
    struct source_words words = {.queue = "plain", .type = MR_AMQP_QUEUE_CLASSIC};
    struct test_host h;
    test_host_init(&h);
    struct mr_source *source = source_open(&h, &words);
    source_ready(source);
    source_close(source);
    words.type = MR_AMQP_QUEUE_QUORUM; /* it is not */
    source = source_open(&h, &words);
    source_says(source, "406 PRECONDITION_FAILED");
    source_close(source);
    test_host_free(&h);
}

static void test_source_missing_queue_is_reported_and_found_later(void **state)
{
    (void)state;
    struct source_words words = {.queue = "later"};
    struct test_host h;
    test_host_init(&h);
    struct mr_source *source = source_open(&h, &words);
    source_says(source, "404 NOT_FOUND - no queue 'later'");
    make_queue("later", "classic");
    publish_events("later", 0, 1);
    wait_ids(&h, 0, 1);
    source_close(source);
    test_host_free(&h);
}

static void test_source_queue_deleted_while_consuming_is_reported_and_consumed_again(void **state)
{
    (void)state;
    static const char *const types[] = {"classic", "quorum"};
    for (int i = 0; i < 2; i++) {
        char queue[32];
        snprintf(queue, sizeof(queue), "deleted-%d", i);
        make_queue(queue, types[i]);
        publish_events(queue, 0, 5);
        struct source_words words = {.queue = queue};
        struct test_host h;
        test_host_init(&h);
        struct mr_source *source = source_open(&h, &words);
        wait_ids(&h, 0, 5);
        struct client c;
        client_open(&c);
        client_delete(&c, queue);
        source_says(source, "404 NOT_FOUND"); /* after "the broker cancelled the consumer" */
        client_declare(&c, queue, types[i]);
        client_close(&c);
        publish_events(queue, 5, 5);
        wait_ids(&h, 0, 10);
        source_close(source);
        test_host_free(&h);
    }
}

static void test_source_stream_is_refused(void **state)
{
    (void)state;
    make_queue("stream", "stream");
    struct source_words words = {.queue = "stream"};
    struct test_host h;
    test_host_init(&h);
    struct mr_source *source = source_open(&h, &words);
    source_ready(source);
    publish_events("stream", 0, 3);
    source_says(source, "is a stream");
    source_close(source);
    assert_int_equal(h.event_count, 0);
    test_host_free(&h);
}

static void test_source_policy_changes_while_messages_flow_lose_nothing(void **state)
{
    (void)state;
    make_queue("policy", "classic");
    struct source_words words = {.queue = "policy"};
    struct test_host h;
    test_host_init(&h);
    struct mr_source *source = source_open(&h, &words);
    source_ready(source);
    for (int i = 0; i < 4; i++) {
        char definition[64];
        snprintf(definition, sizeof(definition), "{\"max-length\":%d,\"queue-mode\":\"%s\"}",
                 100000 + i, i % 2 == 0 ? "lazy" : "default");
        publish_events("policy", i * 100, 100);
        server_do(&broker, "ctl", "set_policy", "p", "^policy$", definition);
    }
    server_do(&broker, "ctl", "clear_policy", "p");
    wait_ids(&h, 0, 400);
    source_close(source);
    assert_int_equal(h.event_count, 400);
    test_host_free(&h);
}

static void test_source_shows_how_many_wait(void **state)
{
    (void)state;
    make_queue("lag", "classic");
    publish_events("lag", 0, 50);
    struct source_words words = {.queue = "lag", .prefetch = 10};
    struct test_host h;
    test_host_init(&h);
    test_host_hold(&h);
    struct mr_source *source = source_open(&h, &words);
    WAIT_FOR(source_health(source).lag == 40, "its lag"); /* 50 at first */
    test_host_let_go(&h);
    source_close(source);
    test_host_free(&h);
}

/* --- refused ---------------------------------------------------------------------------------- */

static void expect_refused(const char *url, const char *ca, const char *text)
{
    struct source_words words = {.url = url, .queue = "q", .ca = ca};
    struct test_host h;
    test_host_init(&h);
    struct mr_source *source = source_open(&h, &words);
    source_says(source, text);
    struct mr_health health = source_health(source);
    assert_int_equal(health.state, MR_HEALTH_DOWN);
    assert_null(strstr(health.last_error, "wrong-secret"));
    source_close(source);
    test_host_free(&h);
}

static void test_source_wrong_password_vhost_and_port_are_named(void **state)
{
    (void)state;
    char url[128];
    snprintf(url, sizeof(url), "amqp://guest:wrong-secret@127.0.0.1:%u", broker.port);
    expect_refused(url, NULL, "403 ACCESS_REFUSED");
    snprintf(url, sizeof(url), "amqp://127.0.0.1:%u/nowhere", broker.port);
    expect_refused(url, NULL, "vhost nowhere not found");
    expect_refused("amqp://127.0.0.1:1", NULL, "nobody answers");
    expect_refused("amqp://no-such-host.invalid:5672", NULL, "no-such-host.invalid");
}

static void test_source_tls_verifies_chain_and_name(void **state)
{
    (void)state;
    char url[128];
    char ca[128];
    char other[128];
    snprintf(ca, sizeof(ca), "%s/certs/ca.crt", broker.dir);
    snprintf(other, sizeof(other), "%s/certs/otherca.crt", broker.dir);
    snprintf(url, sizeof(url), "amqps://127.0.0.1:%u", broker.tls_port);
    make_queue("tls", "classic");
    publish_events("tls", 0, 200);
    static const char *const hosts[] = {"127.0.0.1", "localhost"};
    for (int i = 0; i < 2; i++) {
        char good[128];
        snprintf(good, sizeof(good), "amqps://%s:%u/%%2F", hosts[i], broker.tls_port);
        struct source_words words = {.url = good, .queue = "tls", .ca = ca};
        struct test_host h;
        test_host_init(&h);
        struct mr_source *source = source_open(&h, &words);
        source_ready(source);
        publish_events("tls", 1000, 3);
        wait_ids(&h, 1000, 3);
        assert_int_equal(count_ids(&h, 0, 200), i == 0 ? 200 : 0);
        source_close(source);
        test_host_free(&h);
    }
    expect_refused(url, other, "certificate is refused");
    expect_refused(url, NULL, "certificate is refused"); /* the system knows no such authority */
    expect_refused(url, "/nowhere.crt", "tls_ca");
    snprintf(url, sizeof(url), "amqp://127.0.0.1:%u", broker.tls_port);
    expect_refused(url, NULL, "the broker refuses"); /* not TLS to a TLS port */
    snprintf(url, sizeof(url), "amqps://127.0.0.1:%u", broker.port);
    expect_refused(url, ca, "cannot connect");
}

/* A TLS server that shows this certificate of the broker's folder. @return its process */
static pid_t serve_certificate(const char *name, char url[128])
{
    char port[16];
    char cert[128];
    char key[128];
    static unsigned next;
    unsigned number = 12000 + (unsigned)getpid() % 6000 + next++;
    snprintf(port, sizeof(port), "127.0.0.1:%u", number);
    snprintf(url, 128, "amqps://127.0.0.1:%u", number);
    snprintf(cert, sizeof(cert), "%s/certs/%s.crt", broker.dir, name);
    snprintf(key, sizeof(key), "%s/certs/%s.key", broker.dir, name);
    pid_t pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(0);
        close(1);
        close(2);
        execlp("openssl", "openssl", "s_server", "-accept", port, "-cert", cert, "-key", key,
               "-quiet", (char *)NULL);
        _exit(127);
    }
    return pid;
}

static void test_source_certificate_of_another_host_or_expired_is_refused(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"wronghost", "certificate is refused: IP address mismatch"},
        {"expired", "certificate is refused: certificate has expired"},
    };
    char ca[128];
    snprintf(ca, sizeof(ca), "%s/certs/ca.crt", broker.dir);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char url[128];
        pid_t pid = serve_certificate(cases[i][0], url);
        expect_refused(url, ca, cases[i][1]);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
}

int main(void)
{
    setenv("AMQP_TLS", "server", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_source_killed_before_durable_gets_all_20_again),
        cmocka_unit_test(test_source_quorum_killed_before_durable_gets_all_20_again),
        cmocka_unit_test(test_source_stopped_in_order_leaves_nothing_to_repeat),
        cmocka_unit_test(test_source_stopped_midway_puts_the_rest_back),
        cmocka_unit_test(test_source_bus_refuses_for_a_while_loses_nothing),
        cmocka_unit_test(test_source_bus_holds_reads_no_more_than_a_batch_and_a_next),
        cmocka_unit_test(test_source_paused_puts_all_back_and_goes_on_where_it_was),
        cmocka_unit_test(test_source_paused_with_a_batch_out_waits_for_it),
        cmocka_unit_test(test_source_prefetch_bounds_what_is_unacknowledged),
        cmocka_unit_test(test_source_binary_events_of_all_four_habits),
        cmocka_unit_test(test_source_raw_messages_are_wrapped_with_unique_ids),
        cmocka_unit_test(test_source_undecodable_and_too_big_are_dead_letters_and_acknowledged),
        cmocka_unit_test(test_source_batch_messages_one_and_none),
        cmocka_unit_test(test_source_big_messages_of_many_frames_arrive_whole),
        cmocka_unit_test(test_source_adapter_makes_events_of_notifications),
        cmocka_unit_test(test_source_declares_queue_exchange_and_binding),
        cmocka_unit_test(test_source_classic_declared_equals_one_made_without_a_type),
        cmocka_unit_test(test_source_missing_queue_is_reported_and_found_later),
        cmocka_unit_test(test_source_queue_deleted_while_consuming_is_reported_and_consumed_again),
        cmocka_unit_test(test_source_stream_is_refused),
        cmocka_unit_test(test_source_policy_changes_while_messages_flow_lose_nothing),
        cmocka_unit_test(test_source_shows_how_many_wait),
        cmocka_unit_test(test_source_wrong_password_vhost_and_port_are_named),
        cmocka_unit_test(test_source_tls_verifies_chain_and_name),
        cmocka_unit_test(test_source_certificate_of_another_host_or_expired_is_refused),
    };
    return cmocka_run_group_tests(tests, start_broker, stop_broker);
}
