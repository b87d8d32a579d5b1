/* What the HTTP target does for receivers of webhooks: signatures, consent, its rate, and where it
 * may connect to. */
#include "tests/support/test.h"

#include "connectors/egress.h"
#include "connectors/http/client.h"
#include "connectors/http/verify.h"
#include "core/alloc.h"
#include "core/limits.h"
#include "core/logger.h"
#include "schemas/event.h"
#include "tests/contract/fake_http_server.h"
#include "tests/support/fail_each.h"
#include "tests/support/test_host.h"

#define OK_EMPTY "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
#define OPTIONS_ANSWER(headers) "HTTP/1.1 200 OK\r\n" headers "Content-Length: 0\r\n\r\n"
#define OLD_SECRET "whsec_b2xkb2xkb2xkb2xkb2xkb2xk"
#define NEW_SECRET "whsec_bmV3bmV3bmV3bmV3bmV3bmV3"

struct fixture {
    struct test_host host;
    struct fake_server server;
    struct mr_http_client_options options;
    struct mr_target_config config;
    struct mr_target *target;
    uint32_t sent;
};

static char ORIGIN[] = "bus.example";

static struct mr_url *url_of(const char *host, uint16_t port)
{
    char text[256];
    struct mr_url *url = NULL;
    struct mr_problem problem = {""};
    snprintf(text, sizeof(text), "http://%s:%u/hook?x=1", host, (unsigned)port);
    assert_int_equal(mr_parse_url(mr_bytes_of(text), &url, &problem), MR_OK);
    return url;
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    test_host_init(&f->host);
    fake_server_start(&f->server);
    f->options.connect_timeout_ns = 10 * MR_SECOND;
    f->options.url = url_of("127.0.0.1", f->server.port);
    f->config = (struct mr_target_config){.concurrency = 8};
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    if (f->target != NULL) {
        mr_http_target_ops.stop(f->target, mr_clock_mono_ns() + 5 * MR_SECOND);
        mr_http_target_ops.destroy(f->target);
    }
    fake_server_stop(&f->server);
    test_host_free(&f->host);
    mr_url_destroy(f->options.url);
    mr_secret_destroy(f->options.sign.secret);
    mr_secret_destroy(f->options.sign.previous_secret);
    free(f);
    return mr_alloc_live() == 0 ? 0 : 1;
}

static struct mr_target_args args_of(struct fixture *f)
{
    return (struct mr_target_args){.host = &f->host.host,
                                   .index = 3,
                                   .name = "partner",
                                   .options = &f->options,
                                   .config = &f->config,
                                   .folder = "/"};
}

static void start_target(struct fixture *f)
{
    struct mr_problem problem = {""};
    struct mr_target_args args = args_of(f);
    if (mr_http_client_check(&f->options, &problem) != MR_OK ||
        mr_http_target_ops.create(&args, &f->target, &problem) != MR_OK ||
        mr_http_target_ops.start(f->target, &problem) != MR_OK) {
        fail_msg("%s", problem.text);
    }
}

static const struct mr_handout *deliver(struct fixture *f)
{
    struct mr_event_builder b;
    struct mr_handout *h = mr_handout_create();
    mr_event_builder_init(&b, MR_EVENT_SIZE_MAX);
    static const char *const attrs[][2] = {{"id", "1"}, {"source", "/s"}, {"type", "t"}};
    for (size_t i = 0; i < MR_ARRAY_COUNT(attrs); i++) {
        assert_int_equal(mr_event_builder_attr(&b, mr_bytes_of(attrs[i][0]), MR_ATTR_STRING,
                                               mr_bytes_of(attrs[i][1]), NULL),
                         MR_OK);
    }
    mr_event_builder_data(&b, MR_BYTES_LITERAL("{\"a\":1}"), false);
    assert_int_equal(mr_event_builder_finish(&b, true, &h->event, NULL), MR_OK);
    h->offset = f->sent++;
    h->fence = 1;
    h->attempt = 1;
    h->timeout_ns = 20 * MR_SECOND;
    snprintf(h->name, sizeof(h->name), "s");
    snprintf(h->delivery, sizeof(h->delivery), "s:%u", f->sent - 1);
    mr_http_target_ops.submit(f->target, h);
    return test_host_answered(&f->host, f->sent);
}

static void wait_health(struct fixture *f, enum mr_health_state state, const char *error)
{
    struct mr_health health;
    uint64_t end_ns = mr_clock_mono_ns() + 20 * MR_SECOND;
    do {
        mr_http_target_ops.health(f->target, &health);
        (void)poll(NULL, 0, 5);
    } while ((health.state != state || strstr(health.last_error, error) == NULL) &&
             mr_clock_mono_ns() < end_ns);
    assert_int_equal(health.state, state);
    assert_non_null(strstr(health.last_error, error));
}

/* --- signatures ------------------------------------------------------------------------------- */

/* Whether the last request the server got is good for who knows @p secret. */
static bool is_signed_for(struct fixture *f, const char *secret)
{
    struct mr_field headers[32];
    struct mr_http_signed message = {.headers = headers, .wall_ns = mr_clock_now().wall_ns};
    char *at = strstr(f->server.last, "\r\n");
    while (at != NULL && strncmp(at, "\r\n\r\n", 4) != 0 && message.header_count < 32) {
        char *name = at + 2;
        char *colon = strchr(name, ':');
        at = strstr(name, "\r\n");
        headers[message.header_count++] =
            (struct mr_field){mr_bytes(name, (size_t)(colon - name)),
                              mr_bytes(colon + 1, (size_t)(at - colon - 1))};
    }
    assert_non_null(at);
    message.body = mr_bytes_of(at + 4);
    struct mr_problem problem = {""};
    struct mr_http_verifier *verifier = NULL;
    struct mr_http_verify_options options = {.scheme = MR_HTTP_SCHEME_STANDARD,
                                             .window_ns = 60 * MR_SECOND,
                                             .secret = mr_secret_create(mr_bytes_of(secret))};
    assert_int_equal(mr_http_verifier_create(&options, &verifier, &problem), MR_OK);
    const char *why = mr_http_verify(verifier, &message);
    mr_http_verifier_destroy(verifier);
    mr_secret_destroy(options.secret);
    return why == NULL;
}

static void test_signed_with_one_secret_or_two(void **state)
{
    struct fixture *f = *state;
    static const struct fake_step step = {FAKE_SEND, OK_EMPTY, 0};
    fake_server_script(&f->server, &step, 1);
    f->options.sign.secret = mr_secret_create(MR_BYTES_LITERAL(NEW_SECRET));
    f->options.sign.previous_secret = mr_secret_create(MR_BYTES_LITERAL(OLD_SECRET));
    start_target(f);
    assert_int_equal(deliver(f)->answer.verdict, MR_VERDICT_OK);
    assert_non_null(strstr(f->server.last, "\r\nwebhook-id: s:0\r\n"));
    assert_true(is_signed_for(f, NEW_SECRET));
    assert_true(is_signed_for(f, OLD_SECRET));
    assert_false(is_signed_for(f, "whsec_b3RoZXJvdGhlcm90aGVyb3RoZXI="));
}

static void test_structured_and_batch_are_signed_as_sent(void **state)
{
    struct fixture *f = *state;
    static const struct fake_step step = {FAKE_SEND, OK_EMPTY, 0};
    fake_server_script(&f->server, &step, 1);
    f->options.sign.secret = mr_secret_create(MR_BYTES_LITERAL("any text"));
    f->options.mode = MR_MODE_BATCH;
    start_target(f);
    assert_int_equal(deliver(f)->answer.verdict, MR_VERDICT_OK);
    assert_non_null(strstr(f->server.last, "application/cloudevents-batch+json"));
    assert_non_null(strstr(f->server.last, "\r\n\r\n[{"));
    assert_true(is_signed_for(f, "any text"));
}

/* --- consent ---------------------------------------------------------------------------------- */

static void test_no_delivery_before_consent(void **state)
{
    struct fixture *f = *state;
    static const struct fake_step steps[] = {
        {FAKE_SEND, OPTIONS_ANSWER("Allow: POST\r\n"), 0},
        {FAKE_SEND, OPTIONS_ANSWER("WebHook-Allowed-Origin: other.example\r\n"), 0},
        {FAKE_SEND, OPTIONS_ANSWER("WebHook-Allowed-Origin: BUS.example\r\n"), 0},
        {FAKE_SEND, OK_EMPTY, 0},
    };
    fake_server_script(&f->server, steps, 4);
    f->options.handshake = true;
    f->options.origin = ORIGIN;
    start_target(f);
    wait_health(f, MR_HEALTH_DOWN, "does not consent to deliveries from bus.example");
    assert_int_equal(f->host.capacity, 0);
    fake_server_wait(&f->server, 3);
    wait_health(f, MR_HEALTH_OK, "");
    assert_non_null(strstr(f->server.last, "OPTIONS /hook?x=1 HTTP/1.1\r\n"));
    assert_non_null(strstr(f->server.last, "WebHook-Request-Origin: bus.example\r\n"));
    assert_int_equal(deliver(f)->answer.verdict, MR_VERDICT_OK);
    assert_non_null(strstr(f->server.last, "POST /hook?x=1 HTTP/1.1\r\n"));
    assert_non_null(strstr(f->server.last, "WebHook-Request-Origin: bus.example\r\n"));
    assert_true(test_host_wait(&f->host, HOST_CAPACITY, 8));
}

static void test_receiver_away_is_asked_again(void **state)
{
    struct fixture *f = *state;
    static const struct fake_step steps[] = {
        {FAKE_RESET, NULL, 0},
        {FAKE_SEND, OPTIONS_ANSWER("WebHook-Allowed-Origin: *\r\n"), 0},
    };
    fake_server_script(&f->server, steps, 2);
    f->options.handshake = true;
    start_target(f);
    wait_health(f, MR_HEALTH_DOWN, "no handshake with the receiver");
    wait_health(f, MR_HEALTH_OK, "");
}

static void test_above_the_granted_rate_is_refused_with_a_time(void **state)
{
    struct fixture *f = *state;
    static const struct fake_step steps[] = {
        {FAKE_SEND,
         OPTIONS_ANSWER("WebHook-Allowed-Origin: *\r\nWebHook-Allowed-Rate: 20\r\n"), 0},
        {FAKE_SEND, OK_EMPTY, 0},
    };
    fake_server_script(&f->server, steps, 2);
    f->options.handshake = true;
    start_target(f);
    wait_health(f, MR_HEALTH_OK, "");
    fake_server_wait(&f->server, 1);
    assert_true(test_host_wait(&f->host, HOST_CAPACITY, 8));
    assert_int_equal(deliver(f)->answer.verdict, MR_VERDICT_OK); /* two at once */
    assert_int_equal(deliver(f)->answer.verdict, MR_VERDICT_OK);
    const struct mr_handout *h = deliver(f);
    assert_int_equal(h->answer.verdict, MR_VERDICT_REFUSED);
    assert_true(h->answer.has_after);
    assert_in_range(h->answer.after_ns, 1, 3 * MR_SECOND);
    assert_int_equal(h->answer.started_wall_ns, 0);
}

static void test_stop_while_asking(void **state)
{
    struct fixture *f = *state;
    static const struct fake_step step = {FAKE_STALL, NULL, 0};
    fake_server_script(&f->server, &step, 1);
    f->options.handshake = true;
    start_target(f);
    fake_server_wait(&f->server, 1);
    mr_http_target_ops.stop(f->target, mr_clock_mono_ns());
    mr_http_target_ops.destroy(MR_TAKE(f->target));
}

/* --- egress ----------------------------------------------------------------------------------- */

static void test_egress_public_reaches_nothing_here(void **state)
{
    struct fixture *f = *state;
    static const char *const hosts[] = {"127.0.0.1", "localhost", "127.1", "[::1]"};
    f->options.egress = MR_EGRESS_PUBLIC;
    for (size_t i = 0; i < MR_ARRAY_COUNT(hosts); i++) {
        mr_url_destroy(f->options.url);
        f->options.url = url_of(hosts[i], f->server.port);
        start_target(f);
        const struct mr_handout *h = deliver(f);
        assert_int_equal(h->answer.verdict, MR_VERDICT_REFUSED);
        assert_non_null(strstr(h->answer.error, "public internet"));
        mr_http_target_ops.stop(f->target, mr_clock_mono_ns() + 5 * MR_SECOND);
        mr_http_target_ops.destroy(MR_TAKE(f->target));
    }
    assert_int_equal(f->server.connections, 0);
}

/* --- options ---------------------------------------------------------------------------------- */

static void test_check_refuses_bad_keys_and_origins(void **state)
{
    struct fixture *f = *state;
    struct mr_problem problem = {""};
    char bad_origin[] = "not a name";
    f->options.sign.previous_secret = mr_secret_create(MR_BYTES_LITERAL(OLD_SECRET));
    assert_int_equal(mr_http_client_check(&f->options, &problem), MR_E_INVALID);
    assert_non_null(strstr(problem.text, "secret"));
    f->options.sign.secret = mr_secret_create(MR_BYTES_LITERAL("whsec_***"));
    assert_int_equal(mr_http_client_check(&f->options, &problem), MR_E_INVALID);
    assert_non_null(strstr(problem.text, "base64"));
    mr_secret_destroy(f->options.sign.secret);
    f->options.sign.secret = mr_secret_create(MR_BYTES_LITERAL(NEW_SECRET));
    assert_int_equal(mr_http_client_check(&f->options, &problem), MR_OK);
    f->options.origin = bad_origin;
    assert_int_equal(mr_http_client_check(&f->options, &problem), MR_E_INVALID);
    f->options.origin = NULL;
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
    f->options.handshake = true;
    f->options.sign.secret = mr_secret_create(MR_BYTES_LITERAL(NEW_SECRET));
    struct mr_target_args args = args_of(f);
    (void)fail_each_allocation(create_and_destroy, &args);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    mr_logger_set_fd(-1);
    const struct CMUnitTest tests[] = {
        CASE(test_signed_with_one_secret_or_two),
        CASE(test_structured_and_batch_are_signed_as_sent),
        CASE(test_no_delivery_before_consent),
        CASE(test_receiver_away_is_asked_again),
        CASE(test_above_the_granted_rate_is_refused_with_a_time),
        CASE(test_stop_while_asking),
        CASE(test_egress_public_reaches_nothing_here),
        CASE(test_check_refuses_bad_keys_and_origins),
        CASE(test_create_any_allocation_fails_cleanly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
