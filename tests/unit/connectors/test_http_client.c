#include "tests/support/test.h"

#include "connectors/http/client.h"
#include "core/alloc.h"
#include "core/limits.h"
#include "core/logger.h"
#include "schemas/event.h"
#include "tests/contract/fake_http_server.h"
#include "tests/support/fail_each.h"
#include "tests/support/test_host.h"

#define OK_EMPTY "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

struct fixture {
    struct test_host host;
    struct fake_server server;
    struct mr_http_client_options options;
    struct mr_target_config config;
    struct mr_target *target;
    uint32_t sent;
    uint64_t timeout_ns;
    char *scratch; /* what the server may still be sending */
};

/* @p text with its one %u replaced. */
static struct mr_url *url_of(const char *pattern, unsigned port)
{
    char text[256];
    struct mr_url *url = NULL;
    struct mr_problem problem = {""};
    const char *at = strstr(pattern, "%u");
    int head = (int)(at == NULL ? strlen(pattern) : (size_t)(at - pattern));
    if (at == NULL) {
        snprintf(text, sizeof(text), "%s", pattern);
    } else {
        snprintf(text, sizeof(text), "%.*s%u%s", head, pattern, port, at + 2);
    }
    if (mr_parse_url(mr_bytes_of(text), &url, &problem) != MR_OK) {
        fail_msg("%s: %s", text, problem.text);
    }
    return url;
}

static void start_target(struct fixture *f)
{
    struct mr_problem problem = {""};
    struct mr_target_args args = {.host = &f->host.host,
                                  .index = 3,
                                  .name = "pager",
                                  .options = &f->options,
                                  .config = &f->config,
                                  .folder = "/",
                                  .generation = 12};
    if (mr_http_client_check(&f->options, &problem) != MR_OK ||
        mr_http_target_ops.create(&args, &f->target, &problem) != MR_OK ||
        mr_http_target_ops.start(f->target, &problem) != MR_OK) {
        fail_msg("%s", problem.text);
    }
}

static void stop_target(struct fixture *f, uint64_t wait_ns)
{
    if (f->target != NULL) {
        mr_http_target_ops.stop(f->target, mr_clock_mono_ns() + wait_ns);
        mr_http_target_ops.destroy(f->target);
        f->target = NULL;
    }
}

static int set_up_with(void **state, bool is_worker, int mode, const char *host)
{
    struct fixture *f = calloc(1, sizeof(*f));
    char format[128];
    test_host_init(&f->host);
    fake_server_start(&f->server);
    snprintf(format, sizeof(format), "http://%s:%%u/hook?x=1", host);
    f->options = (struct mr_http_client_options){
        .url = url_of(format, f->server.port), .mode = mode, .connect_timeout_ns = 10 * MR_SECOND};
    f->config = (struct mr_target_config){.is_worker = is_worker, .concurrency = 8};
    f->timeout_ns = 20 * MR_SECOND;
    start_target(f);
    *state = f;
    return 0;
}

static int set_up(void **state)
{
    return set_up_with(state, true, 0, "127.0.0.1");
}

/* No address as our own client reads one: goes through libcurl. */
static int set_up_named(void **state)
{
    return set_up_with(state, true, 0, "127.1");
}

static int set_up_sink(void **state)
{
    return set_up_with(state, false, 1, "127.0.0.1");
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    stop_target(f, 0);
    fake_server_stop(&f->server);
    test_host_free(&f->host);
    mr_url_destroy(f->options.url);
    mr_secret_destroy(f->options.token);
    free(f->scratch);
    free(f);
    return mr_alloc_live() == 0 ? 0 : 1;
}

static struct mr_handout *make_handout(struct fixture *f, const char *extra, struct mr_bytes data)
{
    struct mr_event_builder b;
    struct mr_handout *h = mr_handout_create();
    assert_non_null(h);
    mr_event_builder_init(&b, MR_EVENT_SIZE_MAX);
    static const char *const attrs[][2] = {{"id", "e 1"},
                                           {"source", "/s"},
                                           {"type", "t.t"},
                                           {"datacontenttype", "application/json"}};
    for (size_t i = 0; i < MR_ARRAY_COUNT(attrs); i++) {
        assert_int_equal(mr_event_builder_attr(&b, mr_bytes_of(attrs[i][0]), MR_ATTR_STRING,
                                               mr_bytes_of(attrs[i][1]), NULL),
                         MR_OK);
    }
    if (extra != NULL) {
        assert_int_equal(mr_event_builder_attr(&b, MR_BYTES_LITERAL("traceparent"),
                                               MR_ATTR_STRING, mr_bytes_of(extra), NULL),
                         MR_OK);
    }
    mr_event_builder_data(&b, data, false);
    assert_int_equal(mr_event_builder_finish(&b, true, &h->event, NULL), MR_OK);
    h->target = 3;
    h->subscription = 5;
    h->offset = f->sent++;
    h->fence = 1;
    h->attempt = 2;
    h->timeout_ns = f->timeout_ns;
    snprintf(h->name, sizeof(h->name), "alerts");
    snprintf(h->delivery, sizeof(h->delivery), "alerts:%u", f->sent - 1);
    return h;
}

static void submit_one(struct fixture *f)
{
    mr_http_target_ops.submit(f->target,
                              make_handout(f, "00-abc-def-01", MR_BYTES_LITERAL("{\"a\":1}")));
}

static const struct mr_handout *deliver(struct fixture *f, const struct fake_step *steps,
                                        uint32_t count)
{
    fake_server_script(&f->server, steps, count);
    submit_one(f);
    return test_host_answered(&f->host, f->sent);
}

static const struct mr_handout *deliver_text(struct fixture *f, const char *text)
{
    static struct fake_step step;
    step = (struct fake_step){FAKE_SEND, text, 0};
    return deliver(f, &step, 1);
}

/* --- requests --------------------------------------------------------------------------------- */

static void test_request_binary_carries_all_headers(void **state)
{
    struct fixture *f = *state;
    const struct mr_handout *h = deliver_text(f, OK_EMPTY);
    assert_int_equal(h->answer.verdict, MR_VERDICT_OK);
    assert_string_equal(h->answer.instance, "pager");
    assert_string_equal(h->answer.version, "12");
    assert_true(h->answer.started_wall_ns > 0);
    assert_true(h->answer.ended_wall_ns >= h->answer.started_wall_ns);
    assert_null(h->answer.error);
    assert_null(h->answer.result);
    const char *r = f->server.last;
    static const char *const wanted[] = {
        "POST /hook?x=1 HTTP/1.1\r\n", "\r\nUser-Agent: millrace\r\n", "\r\nPrefer: reply\r\n",
        "\r\nContent-Type: application/json\r\n", "\r\nce-id: e%201\r\n",
        "\r\nce-specversion: 1.0\r\n", "\r\nce-type: t.t\r\n", "\r\nce-source: /s\r\n",
        "\r\ntraceparent: 00-abc-def-01\r\n", "\r\nMillrace-Attempt: 2\r\n",
        "\r\nMillrace-Delivery: alerts:0\r\n", "\r\nIdempotency-Key: alerts:0\r\n",
        "\r\nContent-Length: 7\r\n", "\r\n\r\n{\"a\":1}"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(wanted); i++) {
        if (strstr(r, wanted[i]) == NULL) {
            fail_msg("no %s in\n%s", wanted[i], r);
        }
    }
    char host[64];
    snprintf(host, sizeof(host), ":%u\r\n", (unsigned)f->server.port);
    assert_non_null(strstr(r, "\r\nHost: "));
    assert_non_null(strstr(r, host));
    assert_null(strcasestr(r, "\r\nexpect"));
    assert_null(strcasestr(r, "accept-encoding"));
    assert_null(strcasestr(r, "authorization"));
}

static void test_request_structured_sink(void **state)
{
    struct fixture *f = *state;
    const struct mr_handout *h = deliver_text(f, "HTTP/1.1 204 No Content\r\n\r\n");
    assert_int_equal(h->answer.verdict, MR_VERDICT_OK);
    assert_non_null(
        strstr(f->server.last, "\r\nContent-Type: application/cloudevents+json"));
    assert_non_null(strstr(f->server.last, "\"data\":{\"a\":1}"));
    assert_null(strcasestr(f->server.last, "Prefer"));
    assert_null(strcasestr(f->server.last, "ce-id"));
}

static void test_request_options_headers_token(void **state)
{
    struct fixture *f = *state;
    static char name[] = "X-Team";
    static char value[] = "ops";
    static char *names[] = {name};
    static char *values[] = {value};
    stop_target(f, 0);
    f->options.headers = (struct mr_pairs){{names, 1}, {values, 1}};
    f->options.token = mr_secret_create(MR_BYTES_LITERAL("s3cret"));
    start_target(f);
    assert_int_equal(deliver_text(f, OK_EMPTY)->answer.verdict, MR_VERDICT_OK);
    assert_non_null(strstr(f->server.last, "\r\nX-Team: ops\r\n"));
    assert_non_null(strstr(f->server.last, "\r\nAuthorization: Bearer s3cret\r\n"));
}

static void test_request_url_user_is_basic(void **state)
{
    struct fixture *f = *state;
    stop_target(f, 0);
    mr_url_destroy(f->options.url);
    f->options.url = url_of("http://ada:pw@127.0.0.1:%u", f->server.port);
    start_target(f);
    assert_int_equal(deliver_text(f, OK_EMPTY)->answer.verdict, MR_VERDICT_OK);
    assert_non_null(strstr(f->server.last, "POST / HTTP/1.1\r\n"));
    assert_non_null(strstr(f->server.last, "\r\nAuthorization: Basic YWRhOnB3\r\n"));
}

static void test_connections_are_kept_alive(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 50; i++) {
        assert_int_equal(deliver_text(f, OK_EMPTY)->answer.verdict, MR_VERDICT_OK);
    }
    assert_int_equal(f->server.connections, 1);
}

static void test_many_at_once_stay_within_capacity(void **state)
{
    struct fixture *f = *state;
    static const struct fake_step step = {FAKE_SEND, OK_EMPTY, 0};
    fake_server_script(&f->server, &step, 1);
    assert_int_equal(f->host.capacity, 8);
    for (int round = 0; round < 50; round++) {
        struct mr_handout *first = NULL;
        for (int i = 0; i < 8; i++) {
            struct mr_handout *h = make_handout(f, NULL, MR_BYTES_LITERAL("1"));
            h->op.next = first == NULL ? NULL : &first->op;
            first = h;
        }
        mr_http_target_ops.submit(f->target, first);
        (void)test_host_answered(&f->host, f->sent);
    }
    for (uint32_t i = 0; i < f->sent; i++) {
        assert_int_equal(f->host.answers[i]->answer.verdict, MR_VERDICT_OK);
    }
    assert_true(f->server.connections <= 8);
    assert_int_equal(f->server.requests, 400);
    struct mr_health health;
    mr_http_target_ops.health(f->target, &health);
    assert_int_equal(health.state, MR_HEALTH_OK);
    assert_int_equal(health.messages, 400);
    assert_int_equal(health.errors, 0);
    assert_int_equal(health.instances_busy, 0);
}

static void test_large_event_is_sent_whole(void **state)
{
    struct fixture *f = *state;
    static const struct fake_step step = {FAKE_SEND, OK_EMPTY, 0};
    size_t size = 900000;
    char *data = malloc(size);
    memset(data, '7', size);
    fake_server_script(&f->server, &step, 1);
    mr_http_target_ops.submit(f->target, make_handout(f, NULL, mr_bytes(data, size)));
    assert_int_equal(test_host_answered(&f->host, 1)->answer.verdict, MR_VERDICT_OK);
    assert_non_null(strstr(f->server.last, "\r\nContent-Length: 900000\r\n"));
    free(data);
}

/* --- verdicts --------------------------------------------------------------------------------- */

static void test_status_gives_verdict_and_error(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *text;
        enum mr_verdict verdict;
        const char *error;
    } cases[] = {
        {"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok", MR_VERDICT_OK, NULL},
        {"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}", MR_VERDICT_OK, NULL},
        {"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
         MR_VERDICT_DEAD, "HTTP 302 (redirects are not followed)"},
        {"HTTP/1.1 400 Bad\r\nContent-Length: 9\r\n\r\nno\nsense\x01", MR_VERDICT_DEAD,
         "HTTP 400: no sense "},
        {"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", MR_VERDICT_RETRY, "HTTP 404"},
        {"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n", MR_VERDICT_DEAD, "HTTP 410"},
        {"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops", MR_VERDICT_RETRY, "HTTP 500: oops"},
        {"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", MR_VERDICT_REFUSED, "HTTP 503"},
        {"HTTP/1.1 599 X\r\nContent-Length: 0\r\n\r\n", MR_VERDICT_RETRY, "HTTP 599"},
        {"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
         MR_VERDICT_OK, NULL},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\n0\r\nT: x\r\n\r\n",
         MR_VERDICT_OK, NULL},
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(cases); i++) {
        const struct mr_handout *h = deliver_text(f, cases[i].text);
        if (h->answer.verdict != cases[i].verdict) {
            fail_msg("case %zu: %s (%s)", i, mr_verdict_text(h->answer.verdict),
                     h->answer.error == NULL ? "" : h->answer.error);
        }
        if (cases[i].error == NULL) {
            assert_null(h->answer.error);
        } else {
            assert_string_equal(h->answer.error, cases[i].error);
        }
        assert_false(h->answer.has_after);
    }
    assert_int_equal(f->server.requests, 1); /* of the last script: nothing was followed */
}

static void test_retry_after_is_honoured_on_refusals_only(void **state)
{
    struct fixture *f = *state;
    const struct mr_handout *h =
        deliver_text(f, "HTTP/1.1 429 Slow\r\nretry-after:  7 \r\nContent-Length: 0\r\n\r\n");
    assert_int_equal(h->answer.verdict, MR_VERDICT_REFUSED);
    assert_true(h->answer.has_after);
    assert_int_equal(h->answer.after_ns, 7 * MR_SECOND);
    assert_int_equal(h->answer.started_wall_ns, 0);
    h = deliver_text(f, "HTTP/1.1 503 Slow\r\nRetry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
                        "Content-Length: 0\r\n\r\n");
    assert_true(h->answer.has_after);
    assert_int_equal(h->answer.after_ns, 0);
    h = deliver_text(f, "HTTP/1.1 503 Slow\r\nRetry-After: soon\r\nContent-Length: 0\r\n\r\n");
    assert_false(h->answer.has_after);
    h = deliver_text(f, "HTTP/1.1 500 Oops\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n");
    assert_int_equal(h->answer.verdict, MR_VERDICT_RETRY);
    assert_false(h->answer.has_after);
}

static void test_reply_binary_event_is_emitted(void **state)
{
    struct fixture *f = *state;
    const struct mr_handout *h = deliver_text(
        f, "HTTP/1.1 200 OK\r\nCE-SpecVersion: 1.0\r\nce-id: r1\r\nce-type: reply\r\n"
           "ce-source: /w\r\nce-note: a%20b\r\nContent-Type: application/json\r\n"
           "Content-Length: 2\r\n\r\n42");
    assert_int_equal(h->answer.verdict, MR_VERDICT_OK);
    assert_int_equal(h->answer.emitted_count, 1);
    struct mr_bytes record = mr_event_record(h->answer.emitted[0].event);
    assert_true(mr_bytes_equal(mr_event_id(record), MR_BYTES_LITERAL("r1")));
    assert_true(mr_bytes_equal(mr_event_data(record), MR_BYTES_LITERAL("42")));
    assert_true(mr_bytes_equal(mr_event_value(record, "note"), MR_BYTES_LITERAL("a b")));
    assert_null(h->answer.result);
}

static void test_reply_structured_and_batch_are_emitted(void **state)
{
    struct fixture *f = *state;
    const struct mr_handout *h = deliver_text(
        f, "HTTP/1.1 200 OK\r\nContent-Type: application/cloudevents+json\r\n"
           "Content-Length: 55\r\n\r\n"
           "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/w\",\"type\":\"t\"}");
    assert_int_equal(h->answer.emitted_count, 1);
    h = deliver_text(f,
                     "HTTP/1.1 200 OK\r\nContent-Type: application/cloudevents-batch+json\r\n"
                     "Content-Length: 113\r\n\r\n"
                     "[{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/w\",\"type\":\"t\"},"
                     "{\"specversion\":\"1.0\",\"id\":\"2\",\"source\":\"/w\",\"type\":\"t\"}]");
    assert_int_equal(h->answer.verdict, MR_VERDICT_OK);
    assert_int_equal(h->answer.emitted_count, 2);
}

static void test_reply_invalid_event_is_done_with_a_note(void **state)
{
    struct fixture *f = *state;
    const struct mr_handout *h = deliver_text(
        f, "HTTP/1.1 200 OK\r\nContent-Type: application/cloudevents+json\r\n"
           "Content-Length: 1\r\n\r\n{");
    assert_int_equal(h->answer.verdict, MR_VERDICT_OK);
    assert_int_equal(h->answer.emitted_count, 0);
    assert_non_null(strstr(h->answer.error, "the reply was dropped"));
    h = deliver_text(f, "HTTP/1.1 202 OK\r\nContent-Type: application/cloudevents+json\r\n"
                        "Content-Length: 1\r\n\r\n{");
    assert_int_equal(h->answer.verdict, MR_VERDICT_OK); /* a 202 is never a reply */
    assert_null(h->answer.error);
}

static void test_reply_of_a_sink_is_not_emitted(void **state)
{
    struct fixture *f = *state;
    const struct mr_handout *h = deliver_text(
        f, "HTTP/1.1 200 OK\r\nce-specversion: 1.0\r\nce-id: r1\r\nce-type: reply\r\n"
           "ce-source: /w\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n42");
    assert_int_equal(h->answer.verdict, MR_VERDICT_OK);
    assert_int_equal(h->answer.emitted_count, 0);
    assert_string_equal(h->answer.result, "42");
}

static void test_reply_status_word_is_obeyed(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *text;
        enum mr_verdict verdict;
    } cases[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{\"status\":\"SUCCESS\"}", MR_VERDICT_OK},
        {"HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n{\"status\":\"RETRY\"}", MR_VERDICT_RETRY},
        {"HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n{\"status\":\"DROP\"}", MR_VERDICT_DROP},
        {"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"status\":\"ok\"}", MR_VERDICT_OK},
        {"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{\"status\":1}", MR_VERDICT_OK},
        {"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n[\"status\"]  ", MR_VERDICT_OK},
        {"HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n{\"status\":\"DROP\"]", MR_VERDICT_OK},
        {"HTTP/1.1 201 OK\r\nContent-Length: 17\r\n\r\n{\"status\":\"DROP\"}", MR_VERDICT_OK},
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(cases); i++) {
        const struct mr_handout *h = deliver_text(f, cases[i].text);
        if (h->answer.verdict != cases[i].verdict) {
            fail_msg("case %zu: %s", i, mr_verdict_text(h->answer.verdict));
        }
    }
}

static void test_reply_json_becomes_result(void **state)
{
    struct fixture *f = *state;
    const struct mr_handout *h =
        deliver_text(f, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{\"sum\":3}");
    assert_string_equal(h->answer.result, "{\"sum\":3}");
    h = deliver_text(f, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    assert_null(h->answer.result);
}

/* --- a server that misbehaves ----------------------------------------------------------------- */

static void test_refused_connection_costs_nothing(void **state)
{
    struct fixture *f = *state;
    stop_target(f, 0);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(at);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0); /* bound, never listening */
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &size), 0);
    mr_url_destroy(f->options.url);
    f->options.url = url_of("http://127.0.0.1:%u/", ntohs(at.sin_port));
    start_target(f);
    submit_one(f);
    const struct mr_handout *h = test_host_answered(&f->host, 1);
    assert_int_equal(h->answer.verdict, MR_VERDICT_REFUSED);
    assert_int_equal(h->answer.started_wall_ns, 0);
    assert_non_null(h->answer.error);
    struct mr_health health;
    mr_http_target_ops.health(f->target, &health);
    assert_int_equal(health.state, MR_HEALTH_DOWN);
    assert_string_not_equal(health.last_error, "");
    close(fd);
}

static void test_unknown_host_is_refused(void **state)
{
    struct fixture *f = *state;
    stop_target(f, 0);
    mr_url_destroy(f->options.url);
    f->options.url = url_of("http://no-such-host.invalid:%u/", 80);
    start_target(f);
    submit_one(f);
    assert_int_equal(test_host_answered(&f->host, 1)->answer.verdict, MR_VERDICT_REFUSED);
}

static void test_tls_to_a_plain_server_is_refused(void **state)
{
    struct fixture *f = *state;
    static const struct fake_step step = {FAKE_SEND_CLOSE, "no TLS here\r\n\r\n", 0};
    stop_target(f, 0);
    fake_server_script(&f->server, &step, 1);
    mr_url_destroy(f->options.url);
    f->options.url = url_of("https://127.0.0.1:%u/", f->server.port);
    f->timeout_ns = 300 * MR_MS; /* the server waits for a header that never ends */
    start_target(f);
    submit_one(f);
    const struct mr_handout *h = test_host_answered(&f->host, 1);
    assert_int_equal(h->answer.verdict, MR_VERDICT_REFUSED);
}

static void test_broken_answers_are_retried(void **state)
{
    struct fixture *f = *state;
    static const struct fake_step steps[] = {
        {FAKE_RESET, NULL, 0},
        {FAKE_SEND_CLOSE, "", 0},
        {FAKE_SEND_CLOSE, "garbage\r\n\r\n", 0},
        {FAKE_SEND_CLOSE, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", 0},
        {FAKE_SEND_CLOSE, "HTTP/1.1 200 OK\r\nContent-Le", 0},
        {FAKE_SEND_CLOSE, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", 0},
        {FAKE_SEND_CLOSE, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 0},
        {FAKE_SEND_CLOSE, "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", 0},
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(steps); i++) {
        const struct mr_handout *h = deliver(f, &steps[i], 1);
        if (h->answer.verdict != MR_VERDICT_RETRY || h->answer.error == NULL) {
            fail_msg("step %zu: %s", i, mr_verdict_text(h->answer.verdict));
        }
    }
    assert_int_equal(deliver_text(f, OK_EMPTY)->answer.verdict, MR_VERDICT_OK);
}

static void test_body_until_close_is_complete(void **state)
{
    struct fixture *f = *state;
    static const struct fake_step step = {FAKE_SEND_CLOSE, "HTTP/1.1 200 OK\r\n\r\n[1,2]", 0};
    const struct mr_handout *h = deliver(f, &step, 1);
    assert_int_equal(h->answer.verdict, MR_VERDICT_OK);
    assert_string_equal(h->answer.result, "[1,2]");
    static const struct fake_step old = {FAKE_SEND_CLOSE, "HTTP/1.0 200 OK\r\n\r\n[3]", 0};
    h = deliver(f, &old, 1);
    assert_string_equal(h->answer.result, "[3]");
}

static void test_answer_byte_by_byte(void **state)
{
    struct fixture *f = *state;
    static const struct fake_step step = {
        FAKE_BYTEWISE,
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nX: y\r\nTransfer-Encoding: chunked\r\n"
        "\r\n3\r\n[1,\r\n2\r\n2]\r\n0\r\n\r\n",
        0};
    for (int i = 0; i < 5; i++) {
        const struct mr_handout *h = deliver(f, &step, 1);
        assert_int_equal(h->answer.verdict, MR_VERDICT_OK);
        assert_string_equal(h->answer.result, "[1,2]");
    }
    assert_int_equal(f->server.connections, 1);
}

static void test_silent_server_times_out(void **state)
{
    struct fixture *f = *state;
    static const struct fake_step steps[] = {
        {FAKE_STALL, NULL, 0},
        {FAKE_STALL, "HTTP/1.1 200 OK\r\nContent-Le", 0},
        {FAKE_STALL, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", 0},
    };
    f->timeout_ns = 100 * MR_MS;
    for (size_t i = 0; i < MR_ARRAY_COUNT(steps); i++) {
        const struct mr_handout *h = deliver(f, &steps[i], 1);
        assert_int_equal(h->answer.verdict, MR_VERDICT_RETRY);
        assert_non_null(strstr(h->answer.error, "timed out"));
        assert_true(h->answer.ended_wall_ns >= h->answer.started_wall_ns + 100 * MR_MS);
    }
}

static void test_cancel_ends_the_right_one(void **state)
{
    struct fixture *f = *state;
    static const struct fake_step steps[] = {{FAKE_STALL, NULL, 0}, {FAKE_STALL, NULL, 0}};
    fake_server_script(&f->server, steps, 2);
    submit_one(f);
    submit_one(f);
    fake_server_wait(&f->server, 2);
    mr_http_target_ops.cancel(f->target, 5, 99, 1); /* unknown */
    mr_http_target_ops.cancel(f->target, 5, 1, 2);  /* another hand-out */
    mr_http_target_ops.cancel(f->target, 5, 1, 1);
    const struct mr_handout *h = test_host_answered(&f->host, 1);
    assert_int_equal(h->offset, 1);
    assert_int_equal(h->answer.verdict, MR_VERDICT_RETRY);
    assert_non_null(strstr(h->answer.error, "timed out"));
    assert_int_equal(f->host.answer_count, 1);
    mr_http_target_ops.cancel(f->target, 5, 1, 1); /* over already */
}

static void test_huge_body_is_cut_and_status_counts(void **state)
{
    struct fixture *f = *state;
    static const struct fake_step big = {FAKE_BIG, NULL, 32u * 1024 * 1024};
    const struct mr_handout *h = deliver(f, &big, 1);
    assert_int_equal(h->answer.verdict, MR_VERDICT_OK);
    assert_non_null(strstr(h->answer.error, "larger than 1 MiB"));
    assert_null(h->answer.result);
    assert_int_equal(deliver_text(f, OK_EMPTY)->answer.verdict, MR_VERDICT_OK);
}

static void test_huge_header_is_bounded(void **state)
{
    struct fixture *f = *state;
    size_t size = 2u * 1024 * 1024;
    char *text = malloc(size + 64);
    f->scratch = text;
    int head = sprintf(text, "HTTP/1.1 200 OK\r\nX-Long: ");
    memset(text + head, 'h', size);
    memcpy(text + (size_t)head + size, "\r\n\r\n", 5);
    const struct fake_step step = {FAKE_SEND_CLOSE, text, 0};
    const struct mr_handout *h = deliver(f, &step, 1);
    assert_int_equal(h->answer.verdict, MR_VERDICT_RETRY);
    h = deliver_text(f, OK_EMPTY);
    assert_int_equal(h->answer.verdict, MR_VERDICT_OK);
}

static void test_answer_twice_does_not_answer_the_next(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 5; i++) {
        /* The second answer lies in the connection when the next request would go out. */
        assert_int_equal(deliver_text(f, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
                                         "HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n")
                             ->answer.verdict,
                         MR_VERDICT_OK);
    }
}

static void test_closed_idle_connection_is_replaced(void **state)
{
    struct fixture *f = *state;
    static const struct fake_step close_step = {FAKE_SEND_CLOSE, OK_EMPTY, 0};
    for (int i = 0; i < 20; i++) {
        const struct mr_handout *h = deliver(f, &close_step, 1);
        if (h->answer.verdict != MR_VERDICT_OK) {
            fail_msg("%d: %s %s", i, mr_verdict_text(h->answer.verdict), h->answer.error);
        }
        fake_server_wait_closed(&f->server);
    }
    const struct mr_handout *h =
        deliver_text(f, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    assert_int_equal(h->answer.verdict, MR_VERDICT_OK);
}

/* --- the end ---------------------------------------------------------------------------------- */

static void test_stop_at_deadline_answers_what_is_in_flight(void **state)
{
    struct fixture *f = *state;
    static const struct fake_step step = {FAKE_STALL, NULL, 0};
    fake_server_script(&f->server, &step, 1);
    for (int i = 0; i < 8; i++) {
        submit_one(f);
    }
    fake_server_wait(&f->server, 8);
    submit_one(f); /* beyond the capacity: not with a handler */
    stop_target(f, 0);
    assert_int_equal(f->host.answer_count, 9);
    uint32_t crashed = 0;
    for (uint32_t i = 0; i < 9; i++) {
        const struct mr_answer *answer = &f->host.answers[i]->answer;
        crashed += answer->verdict == MR_VERDICT_CRASH;
        assert_true(answer->verdict == MR_VERDICT_CRASH || answer->verdict == MR_VERDICT_REFUSED);
        assert_int_equal(answer->suspects, 0);
    }
    assert_int_equal(crashed, 8);
}

static void test_stop_lets_handlers_finish(void **state)
{
    struct fixture *f = *state;
    static const struct fake_step step = {FAKE_SEND, OK_EMPTY, 0};
    fake_server_script(&f->server, &step, 1);
    for (int i = 0; i < 8; i++) {
        submit_one(f);
    }
    fake_server_wait(&f->server, 8);
    mr_http_target_ops.stop(f->target, mr_clock_mono_ns() + 20 * MR_SECOND);
    assert_int_equal(f->host.answer_count, 8);
    for (uint32_t i = 0; i < 8; i++) {
        assert_int_equal(f->host.answers[i]->answer.verdict, MR_VERDICT_OK);
    }
    submit_one(f); /* the bus may not know yet */
    assert_int_equal(test_host_answered(&f->host, 9)->answer.verdict, MR_VERDICT_REFUSED);
}

/* --- options ---------------------------------------------------------------------------------- */

static void test_check_options(void **state)
{
    (void)state;
    static const struct {
        const char *url;
        const char *name;
        const char *value;
        const char *token;
        const char *problem; /* NULL: fine */
    } cases[] = {
        {"http://h/", "X-A", "b", "t", NULL},
        {"https://u:p@h/", NULL, NULL, NULL, NULL},
        {"ftp://h/", NULL, NULL, NULL, "http"},
        {"http://h/", "X A", "b", NULL, "header name"},
        {"http://h/", "X-A", "b\r\nEvil: 1", NULL, "control"},
        {"http://h/", "content-length", "1", NULL, "Millrace"},
        {"http://h/", "Ce-Id", "1", NULL, "Millrace"},
        {"http://h/", NULL, NULL, "a\nb", "token"},
        {"http://u:p@h/", NULL, NULL, "t", "not both"},
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(cases); i++) {
        struct mr_problem problem = {""};
        char *name = (char *)(uintptr_t)cases[i].name;
        char *value = (char *)(uintptr_t)cases[i].value;
        uint32_t count = cases[i].name == NULL ? 0 : 1;
        struct mr_http_client_options options = {
            .url = url_of(cases[i].url, 0), .headers = {{&name, count}, {&value, count}}};
        if (cases[i].token != NULL) {
            options.token = mr_secret_create(mr_bytes_of(cases[i].token));
        }
        enum mr_status r = mr_http_client_check(&options, &problem);
        assert_int_equal(r, cases[i].problem == NULL ? MR_OK : MR_E_INVALID);
        if (cases[i].problem != NULL && strstr(problem.text, cases[i].problem) == NULL) {
            fail_msg("case %zu: %s", i, problem.text);
        }
        mr_url_destroy(options.url);
        mr_secret_destroy(options.token);
    }
}

static enum mr_status create_and_destroy(void *context)
{
    struct mr_target *target = NULL;
    enum mr_status r = mr_http_target_ops.create(context, &target, NULL);
    if (r == MR_OK) {
        mr_http_target_ops.destroy(target);
    }
    return r;
}

static void test_create_any_allocation_fails_cleanly(void **state)
{
    struct fixture *f = *state;
    struct mr_target_args args = {.host = &f->host.host,
                                  .name = "short",
                                  .options = &f->options,
                                  .config = &f->config,
                                  .folder = "/"};
    assert_true(fail_each_allocation(create_and_destroy, &args) > 5);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define NAMED(name)                                                                                \
    (struct CMUnitTest)                                                                            \
    {                                                                                              \
        #name "_named", name, set_up_named, tear_down, NULL                                        \
    }
#define BOTH(name) CASE(name), NAMED(name)
#define SINK(name) cmocka_unit_test_setup_teardown(name, set_up_sink, tear_down)

int main(void)
{
    mr_logger_set_fd(-1);
    const struct CMUnitTest tests[] = {
        BOTH(test_request_binary_carries_all_headers),
        SINK(test_request_structured_sink),
        BOTH(test_request_options_headers_token),
        CASE(test_request_url_user_is_basic),
        BOTH(test_connections_are_kept_alive),
        BOTH(test_many_at_once_stay_within_capacity),
        BOTH(test_large_event_is_sent_whole),
        BOTH(test_status_gives_verdict_and_error),
        BOTH(test_retry_after_is_honoured_on_refusals_only),
        BOTH(test_reply_binary_event_is_emitted),
        CASE(test_reply_structured_and_batch_are_emitted),
        CASE(test_reply_invalid_event_is_done_with_a_note),
        SINK(test_reply_of_a_sink_is_not_emitted),
        CASE(test_reply_status_word_is_obeyed),
        BOTH(test_reply_json_becomes_result),
        CASE(test_refused_connection_costs_nothing),
        CASE(test_unknown_host_is_refused),
        CASE(test_tls_to_a_plain_server_is_refused),
        BOTH(test_broken_answers_are_retried),
        BOTH(test_body_until_close_is_complete),
        BOTH(test_answer_byte_by_byte),
        BOTH(test_silent_server_times_out),
        BOTH(test_cancel_ends_the_right_one),
        BOTH(test_huge_body_is_cut_and_status_counts),
        BOTH(test_huge_header_is_bounded),
        CASE(test_answer_twice_does_not_answer_the_next),
        BOTH(test_closed_idle_connection_is_replaced),
        BOTH(test_stop_at_deadline_answers_what_is_in_flight),
        BOTH(test_stop_lets_handlers_finish),
        cmocka_unit_test(test_check_options),
        CASE(test_create_any_allocation_fails_cleanly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
