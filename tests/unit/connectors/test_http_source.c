#include "tests/support/test.h"

#include "connectors/http/source.h"
#include "connectors/http/listener.h"
#include "core/alloc.h"
#include "core/limits.h"
#include "schemas/adapter.h"
#include "core/logger.h"
#include "tests/contract/http_wire.h"
#include "tests/support/test_host.h"

struct fixture {
    struct test_host host;
    struct mr_http_listener *listener;
    struct mr_source *source;
    struct mr_http_source_options options;
    struct mr_source_config config;
    uint16_t port;
};

static char PATH[] = "/events";
static char TYPE[] = "com.example.raw";

static struct mr_source_args args_of(struct fixture *f, const char *name)
{
    return (struct mr_source_args){.host = &f->host.host,
                                   .index = 7,
                                   .name = name,
                                   .options = &f->options,
                                   .config = &f->config,
                                   .folder = "/",
                                   .listener = f->listener};
}

static void start_fixture(struct fixture *f)
{
    struct mr_problem problem = {""};
    const struct mr_http_listener_options options = {.host = "127.0.0.1"};
    test_host_init(&f->host);
    assert_int_equal(mr_http_listener_create(&options, &f->listener, &problem), MR_OK);
    assert_int_equal(mr_http_listener_start(f->listener, &problem), MR_OK);
    f->port = mr_http_listener_port(f->listener);
    struct mr_source_args args = args_of(f, "shop");
    assert_int_equal(mr_http_source_ops.create(&args, &f->source, &problem), MR_OK);
    assert_int_equal(mr_http_source_ops.start(f->source, &problem), MR_OK);
}

static struct fixture *new_fixture(void)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    f->options = (struct mr_http_source_options){
        .path = PATH, .adapter = MR_ADAPTER_CLOUDEVENTS, .type = TYPE, .pending_max = 64u * MR_MIB};
    f->config.event_size_max = MR_EVENT_SIZE_DEFAULT;
    return f;
}

static int set_up(void **state)
{
    struct fixture *f = new_fixture();
    start_fixture(f);
    *state = f;
    return 0;
}

static int set_up_generic(void **state)
{
    struct fixture *f = new_fixture();
    f->options.adapter = MR_ADAPTER_GENERIC;
    start_fixture(f);
    *state = f;
    return 0;
}

static int set_up_token(void **state)
{
    struct fixture *f = new_fixture();
    f->options.token = mr_secret_create(MR_BYTES_LITERAL("s3cret"));
    start_fixture(f);
    *state = f;
    return 0;
}

static int set_up_tight(void **state)
{
    struct fixture *f = new_fixture();
    f->options.pending_max = 1000;
    start_fixture(f);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    test_host_let_go(&f->host);
    if (f->source != NULL) {
        mr_http_source_ops.stop(f->source, mr_clock_mono_ns() + 20 * MR_SECOND);
        mr_http_source_ops.destroy(f->source);
    }
    mr_http_listener_destroy(f->listener);
    test_host_free(&f->host);
    mr_secret_destroy(f->options.token);
    free(f);
    return mr_alloc_live() == 0 ? 0 : 1;
}

static void send_binary(struct wire *w, const char *id)
{
    char text[512];
    snprintf(text, sizeof(text),
             "POST /events HTTP/1.1\r\nHost: x\r\nce-specversion: 1.0\r\nce-id: %s\r\n"
             "ce-type: t\r\nce-source: /s\r\nContent-Type: application/json\r\n"
             "Content-Length: 7\r\n\r\n{\"a\":1}",
             id);
    wire_send(w, text);
}

static void send_body(struct wire *w, const char *content_type, const char *body)
{
    char head[256];
    snprintf(head, sizeof(head),
             "POST /events HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n",
             content_type, strlen(body));
    wire_send(w, head);
    wire_send(w, body);
}

#define STRUCTURED(id) "{\"specversion\":\"1.0\",\"id\":\"" id "\",\"source\":\"/s\",\"type\":\"t\"}"

/* --- accepted --------------------------------------------------------------------------------- */

static void test_binary_event_is_answered_with_id_and_offset(void **state)
{
    struct fixture *f = *state;
    struct wire w = wire_connect(f->port);
    send_binary(&w, "one");
    struct wire_response r = wire_response(&w);
    assert_int_equal(r.status, 202);
    assert_non_null(strstr(r.head, "Content-Type: application/json\r\n"));
    assert_string_equal(r.body, "{\"id\":\"one\",\"offset\":0,\"durable\":\"disk\"}\n");
    wire_response_release(&r);
    send_binary(&w, "two");
    wire_expect(&w, 202, "{\"id\":\"two\",\"offset\":1,\"durable\":\"disk\"}");
    assert_int_equal(f->host.source, 7);
    mr_http_source_ops.reindex(f->source, 9);
    send_binary(&w, "three");
    wire_expect(&w, 202, "three");
    assert_int_equal(f->host.source, 9);
    wire_close(&w);
}

static void test_structured_event_is_accepted(void **state)
{
    struct fixture *f = *state;
    struct wire w = wire_connect(f->port);
    send_body(&w, "application/cloudevents+json; charset=utf-8", STRUCTURED("s\\\"1"));
    wire_expect(&w, 202, "{\"id\":\"s\\\"1\",\"offset\":0");
    wire_close(&w);
}

static void test_batch_is_answered_with_an_array(void **state)
{
    struct fixture *f = *state;
    struct wire w = wire_connect(f->port);
    send_body(&w, "application/cloudevents-batch+json",
              "[" STRUCTURED("a") "," STRUCTURED("b") "]");
    wire_expect(&w, 202,
                "[{\"id\":\"a\",\"offset\":0,\"durable\":\"disk\"},"
                "{\"id\":\"b\",\"offset\":1,\"durable\":\"disk\"}]");
    send_body(&w, "application/cloudevents-batch+json", "[" STRUCTURED("c") "]");
    wire_expect(&w, 202, "[{\"id\":\"c\",\"offset\":2,\"durable\":\"disk\"}]");
    send_body(&w, "application/cloudevents-batch+json", "[]");
    wire_expect(&w, 202, "[]");
    assert_int_equal(f->host.submits, 2);
    wire_close(&w);
}

static void test_requests_of_one_pass_share_a_batch(void **state)
{
    struct fixture *f = *state;
    enum { COUNT = 64 };
    struct wire w[COUNT];
    for (int i = 0; i < COUNT; i++) {
        w[i] = wire_connect(f->port);
    }
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < COUNT; i++) {
            char id[16];
            snprintf(id, sizeof(id), "r%d-%d", round, i);
            send_binary(&w[i], id);
        }
        for (int i = 0; i < COUNT; i++) {
            char id[16];
            snprintf(id, sizeof(id), "\"r%d-%d\"", round, i);
            wire_expect(&w[i], 202, id);
        }
    }
    assert_int_equal(f->host.event_count, 20 * COUNT);
    assert_true(f->host.submits < 20 * COUNT);
    struct mr_health health;
    mr_http_source_ops.health(f->source, &health);
    assert_int_equal(health.state, MR_HEALTH_OK);
    assert_int_equal(health.messages, 20 * COUNT);
    assert_int_equal(health.bytes_held, 0);
    for (int i = 0; i < COUNT; i++) {
        wire_close(&w[i]);
    }
}

static void test_request_is_never_split_over_batches(void **state)
{
    struct fixture *f = *state;
    enum { EACH = 700, COUNT = 3 };
    char *body = malloc(EACH * 80 + 16);
    struct wire w[COUNT];
    size_t size = 0;
    body[size++] = '[';
    for (int i = 0; i < EACH; i++) {
        size += (size_t)sprintf(body + size, "%s" STRUCTURED("e"), i > 0 ? "," : "");
    }
    body[size++] = ']';
    body[size] = '\0';
    for (int i = 0; i < COUNT; i++) {
        w[i] = wire_connect(f->port);
        send_body(&w[i], "application/cloudevents-batch+json", body);
    }
    for (int i = 0; i < COUNT; i++) {
        wire_expect(&w[i], 202, "\"offset\":");
        wire_close(&w[i]);
    }
    assert_int_equal(f->host.submits, COUNT);
    assert_int_equal(f->host.batch_count_max, EACH);
    free(body);
}

static void test_peer_leaves_before_durable_event_is_kept(void **state)
{
    struct fixture *f = *state;
    test_host_hold(&f->host);
    for (int i = 0; i < 10; i++) {
        struct wire w = wire_connect(f->port);
        send_binary(&w, "gone");
        assert_true(test_host_wait(&f->host, HOST_HELD_EVENTS, (uint32_t)i + 1));
        wire_close(&w);
    }
    test_host_let_go(&f->host);
    struct wire w = wire_connect(f->port);
    send_binary(&w, "here");
    wire_expect(&w, 202, "\"offset\":10");
    wire_close(&w);
}

/* --- refused ---------------------------------------------------------------------------------- */

static void test_bad_events_get_400_with_a_reason(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *type;
        const char *body;
        int status;
    } cases[] = {
        {"application/json", "{\"a\":1}", 400}, /* no CloudEvent */
        {"text/plain", "", 400},
        {"application/cloudevents+json", "{", 400},
        {"application/cloudevents+json", "{\"specversion\":\"1.0\",\"id\":\"\"}", 400},
        {"application/cloudevents+json",
         "{\"specversion\":\"0.3\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\"}", 400},
        {"application/cloudevents-batch+json", "{}", 400},
        {"application/cloudevents-batch+json", "[" STRUCTURED("ok") ",{}]", 400},
        {"application/cloudevents+xml", "<event/>", 415},
        {"application/cloudevents+avro", "x", 415},
    };
    struct wire w = wire_connect(f->port);
    for (size_t i = 0; i < MR_ARRAY_COUNT(cases); i++) {
        send_body(&w, cases[i].type, cases[i].body);
        struct wire_response r = wire_response(&w);
        if (r.status != cases[i].status) {
            fail_msg("case %zu: %d %s", i, r.status, r.body);
        }
        assert_true(strncmp(r.body, "{\"error\":\"", 10) == 0);
        assert_true(strlen(r.body) > 14);
        wire_response_release(&r);
    }
    assert_int_equal(f->host.submits, 0);
    struct mr_health health;
    mr_http_source_ops.health(f->source, &health);
    assert_int_equal(health.errors, MR_ARRAY_COUNT(cases));
    assert_string_not_equal(health.last_error, "");
    assert_true(health.last_error_wall_ns > 0);
    wire_close(&w);
}

static void test_too_large_gets_413(void **state)
{
    struct fixture *f = *state;
    struct wire w = wire_connect(f->port);
    wire_send(&w, "POST /events HTTP/1.1\r\nHost: x\r\nce-specversion: 1.0\r\nce-id: 1\r\n"
                  "ce-type: t\r\nce-source: /s\r\nContent-Length: 1048577\r\n\r\n");
    wire_expect(&w, 413, "1048576");
    wire_close(&w);
    /* Within the body limit of structured mode, but the event is too large. */
    char *body = malloc(1100000);
    int head = sprintf(body, "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\","
                             "\"data\":\"");
    memset(body + head, 'x', 1060000);
    memcpy(body + head + 1060000, "\"}", 3);
    w = wire_connect(f->port);
    send_body(&w, "application/cloudevents+json", body);
    wire_expect(&w, 413, "error");
    wire_close(&w);
    free(body);
}

static void test_get_is_not_allowed(void **state)
{
    struct fixture *f = *state;
    struct wire w = wire_connect(f->port);
    wire_send(&w, "GET /events HTTP/1.1\r\nHost: x\r\n\r\n");
    wire_expect(&w, 405, NULL);
    wire_close(&w);
}

static void test_bus_refuses_gets_503_with_retry_after(void **state)
{
    struct fixture *f = *state;
    static const enum mr_status results[] = {MR_E_DISK_LOW, MR_E_FULL, MR_E_CLOSED, MR_E_FAULTY};
    struct wire w = wire_connect(f->port);
    for (size_t i = 0; i < MR_ARRAY_COUNT(results); i++) {
        test_host_refuse(&f->host, 1, results[i]);
        send_binary(&w, "x");
        struct wire_response r = wire_response(&w);
        assert_int_equal(r.status, 503);
        assert_non_null(strstr(r.head, "Retry-After: 1\r\n"));
        assert_non_null(strstr(r.body, mr_status_text(results[i])));
        wire_response_release(&r);
    }
    send_binary(&w, "x");
    wire_expect(&w, 202, NULL);
    wire_close(&w);
}

static void test_paused_source_gets_503_until_resumed(void **state)
{
    struct fixture *f = *state;
    struct wire w = wire_connect(f->port);
    struct mr_health health;
    mr_http_source_ops.pause(f->source);
    mr_http_source_ops.pause(f->source);
    send_binary(&w, "x");
    wire_expect(&w, 503, "paused");
    mr_http_source_ops.health(f->source, &health);
    assert_int_equal(health.state, MR_HEALTH_DEGRADED);
    mr_http_source_ops.resume(f->source);
    send_binary(&w, "x");
    wire_expect(&w, 202, NULL);
    wire_close(&w);
}

static void test_pending_limit_gets_503_until_durable(void **state)
{
    struct fixture *f = *state;
    test_host_hold(&f->host);
    struct wire w[40];
    uint32_t sent = 0;
    struct mr_health health = {0};
    while (health.bytes_held < 1000) { /* an event is about 100 bytes */
        assert_true(sent < 39);
        w[sent] = wire_connect(f->port);
        send_binary(&w[sent++], "held");
        assert_true(test_host_wait(&f->host, HOST_HELD_EVENTS, sent));
        mr_http_source_ops.health(f->source, &health);
    }
    w[sent] = wire_connect(f->port);
    send_binary(&w[sent], "too much");
    wire_expect(&w[sent], 503, "waiting");
    test_host_let_go(&f->host);
    for (uint32_t i = 0; i < sent; i++) {
        wire_expect(&w[i], 202, "held");
        wire_close(&w[i]);
    }
    send_binary(&w[sent], "again");
    wire_expect(&w[sent], 202, "again");
    wire_close(&w[sent]);
}

static void test_token_wrong_or_absent_gets_401(void **state)
{
    struct fixture *f = *state;
    struct wire w = wire_connect(f->port);
    static const char *const values[] = {"",
                                         "Authorization: Bearer\r\n",
                                         "Authorization: Bearer wrong\r\n",
                                         "Authorization: Bearer s3cretx\r\n",
                                         "Authorization: Bearer s3cre\r\n",
                                         "Authorization: Basic s3cret\r\n"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(values); i++) {
        char text[256];
        snprintf(text, sizeof(text), "%s /events HTTP/1.1\r\nHost: x\r\n%sContent-Length: 1\r\n\r\n{",
                 i % 2 == 0 ? "POST" : "PUT", values[i]);
        wire_send(&w, text);
        struct wire_response r = wire_response(&w);
        assert_int_equal(r.status, 401);
        assert_non_null(strstr(r.head, "WWW-Authenticate: Bearer\r\n"));
        wire_response_release(&r);
    }
    wire_send(&w, "POST /events HTTP/1.1\r\nHost: x\r\nauthorization: bearer s3cret\r\n"
                  "ce-specversion: 1.0\r\nce-id: 1\r\nce-type: t\r\nce-source: /s\r\n"
                  "Content-Length: 0\r\n\r\n");
    wire_expect(&w, 202, "\"id\":\"1\"");
    wire_close(&w);
}

/* --- generic ---------------------------------------------------------------------------------- */

static void test_generic_wraps_any_body(void **state)
{
    struct fixture *f = *state;
    test_host_hold(&f->host);
    struct wire w = wire_connect(f->port);
    send_body(&w, "text/csv", "a;b");
    assert_true(test_host_wait(&f->host, HOST_HELD_EVENTS, 1));
    struct mr_bytes record = mr_event_record(f->host.held[0]->items[0].event);
    assert_true(mr_bytes_equal(mr_event_type(record), MR_BYTES_LITERAL("com.example.raw")));
    assert_true(
        mr_bytes_equal(mr_event_source(record), MR_BYTES_LITERAL("/millrace/source/shop")));
    assert_true(mr_bytes_equal(mr_event_data(record), MR_BYTES_LITERAL("a;b")));
    assert_true(mr_bytes_equal(mr_event_value(record, "datacontenttype"),
                               MR_BYTES_LITERAL("text/csv")));
    struct mr_bytes id = mr_event_id(record);
    assert_int_equal(id.size, 36);
    assert_int_equal(id.data[14], '4');
    assert_non_null(strchr("89ab", id.data[19]));
    test_host_let_go(&f->host);
    wire_expect(&w, 202, "\"offset\":0");
    send_binary(&w, "mine");
    wire_expect(&w, 202, "\"mine\"");
    send_body(&w, "application/cloudevents+json", "{");
    wire_expect(&w, 400, NULL); /* says it is one and is not */
    wire_close(&w);
}

/* --- life ------------------------------------------------------------------------------------- */

static void test_stop_waits_for_batches_and_answers_them(void **state)
{
    struct fixture *f = *state;
    struct wire w = wire_connect(f->port);
    test_host_hold(&f->host);
    send_binary(&w, "last");
    assert_true(test_host_wait(&f->host, HOST_HELD_EVENTS, 1));
    mr_http_source_ops.stop(f->source, mr_clock_mono_ns() + MR_MS); /* too early: none is back */
    test_host_let_go(&f->host);
    mr_http_source_ops.stop(f->source, mr_clock_mono_ns() + 20 * MR_SECOND);
    wire_expect(&w, 202, "last");
    send_binary(&w, "late");
    wire_expect(&w, 404, NULL);
    mr_http_source_ops.destroy(f->source);
    f->source = NULL;
    wire_close(&w);
}

static void test_two_sources_share_a_listener(void **state)
{
    struct fixture *f = *state;
    static char other[] = "/other";
    struct mr_problem problem = {""};
    struct mr_source *second = NULL;
    struct mr_source_args args = args_of(f, "second");
    assert_int_equal(mr_http_source_ops.create(&args, &second, &problem), MR_OK);
    assert_int_equal(mr_http_source_ops.start(second, &problem), MR_E_EXISTS);
    assert_non_null(strstr(problem.text, "/events"));
    mr_http_source_ops.destroy(second);
    f->options.path = other;
    assert_int_equal(mr_http_source_ops.create(&args, &second, &problem), MR_OK);
    assert_int_equal(mr_http_source_ops.start(second, &problem), MR_OK);
    struct wire w = wire_connect(f->port);
    wire_send(&w, "POST /other HTTP/1.1\r\nHost: x\r\nContent-Type: application/cloudevents+json\r\n"
                  "Content-Length: 55\r\n\r\n" STRUCTURED("o"));
    wire_expect(&w, 202, "\"o\"");
    mr_http_source_ops.stop(second, mr_clock_mono_ns() + 20 * MR_SECOND);
    mr_http_source_ops.destroy(second);
    send_binary(&w, "still");
    wire_expect(&w, 202, "still");
    wire_close(&w);
}

static void test_create_without_listener_is_invalid(void **state)
{
    struct fixture *f = *state;
    struct mr_problem problem = {""};
    struct mr_source *source = NULL;
    struct mr_source_args args = args_of(f, "lonely");
    args.listener = NULL;
    assert_int_equal(mr_http_source_ops.create(&args, &source, &problem), MR_E_INVALID);
    assert_non_null(strstr(problem.text, "listen"));
    assert_null(source);
}

static void test_create_any_allocation_fails_cleanly(void **state)
{
    struct fixture *f = *state;
    f->options.token = mr_secret_create(MR_BYTES_LITERAL("t"));
    int64_t live = mr_alloc_live();
    struct mr_source_args args = args_of(f, "short");
    for (uint64_t n = 1; n < 50; n++) {
        struct mr_source *source = NULL;
        mr_alloc_fail_at(n, 0);
        enum mr_status r = mr_http_source_ops.create(&args, &source, NULL);
        mr_alloc_fail_at(0, 0);
        if (r == MR_OK) {
            mr_http_source_ops.destroy(source);
            assert_true(n > 5);
            return;
        }
        assert_int_equal(r, MR_E_NOMEM);
        assert_int_equal(mr_alloc_live(), live);
    }
    fail_msg("never succeeded");
}

static void test_check_path(void **state)
{
    (void)state;
    static char bad[][16] = {"", "events", "/a?b", "/a*", "/metrics"};
    struct mr_problem problem;
    for (size_t i = 0; i < MR_ARRAY_COUNT(bad); i++) {
        const struct mr_http_source_options options = {.path = bad[i]};
        assert_int_equal(mr_http_source_check(&options, &problem), MR_E_INVALID);
    }
    const struct mr_http_source_options good = {.path = PATH};
    assert_int_equal(mr_http_source_check(&good, &problem), MR_OK);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    mr_logger_set_fd(-1);
    const struct CMUnitTest tests[] = {
        CASE(test_binary_event_is_answered_with_id_and_offset),
        CASE(test_structured_event_is_accepted),
        CASE(test_batch_is_answered_with_an_array),
        CASE(test_requests_of_one_pass_share_a_batch),
        CASE(test_request_is_never_split_over_batches),
        CASE(test_peer_leaves_before_durable_event_is_kept),
        CASE(test_bad_events_get_400_with_a_reason),
        CASE(test_too_large_gets_413),
        CASE(test_get_is_not_allowed),
        CASE(test_bus_refuses_gets_503_with_retry_after),
        CASE(test_paused_source_gets_503_until_resumed),
        cmocka_unit_test_setup_teardown(test_pending_limit_gets_503_until_durable, set_up_tight,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_token_wrong_or_absent_gets_401, set_up_token,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_generic_wraps_any_body, set_up_generic, tear_down),
        CASE(test_stop_waits_for_batches_and_answers_them),
        CASE(test_two_sources_share_a_listener),
        CASE(test_create_without_listener_is_invalid),
        CASE(test_create_any_allocation_fails_cleanly),
        cmocka_unit_test(test_check_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
