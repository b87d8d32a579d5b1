#include "tests/support/test.h"

#include "connectors/http/courier.h"
#include "core/alloc.h"
#include "tests/contract/fake_http_server.h"

struct fixture {
    struct fake_server server;
    struct mr_opq replies;
    struct mr_http_courier *courier;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    fake_server_start(&f->server);
    assert_int_equal(mr_opq_init(&f->replies, UINT64_MAX), MR_OK);
    assert_int_equal(mr_http_courier_create(&f->replies, &f->courier), MR_OK);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    mr_http_courier_destroy(f->courier);
    fake_server_stop(&f->server);
    mr_opq_release(&f->replies);
    free(f);
    return mr_alloc_live() == 0 ? 0 : 1;
}

static struct mr_http_errand *errand_to(struct fixture *f, const char *method, const char *path)
{
    char url[128];
    snprintf(url, sizeof(url), "http://127.0.0.1:%u%s", (unsigned)f->server.port, path);
    struct mr_http_errand *errand = mr_http_errand_create(method, url);
    assert_non_null(errand);
    errand->is_plain = true;
    return errand;
}

static struct mr_http_errand *wait_reply(struct fixture *f)
{
    for (;;) {
        struct mr_op *op = mr_opq_take(&f->replies);
        if (op != NULL) {
            assert_null(op->next);
            return (struct mr_http_errand *)(void *)op;
        }
        struct pollfd fd = {.fd = mr_opq_fd(&f->replies), .events = POLLIN};
        assert_int_equal(poll(&fd, 1, WIRE_WAIT_MS), 1);
    }
}

static struct mr_http_errand *run(struct fixture *f, struct mr_http_errand *errand)
{
    assert_int_equal(mr_http_courier_send(f->courier, errand), MR_OK);
    assert_ptr_equal(wait_reply(f), errand);
    return errand;
}

static void test_get_brings_status_and_body(void **state)
{
    struct fixture *f = *state;
    static const struct fake_step step = {
        FAKE_SEND, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 0};
    fake_server_script(&f->server, &step, 1);
    struct mr_http_errand *errand = errand_to(f, "GET", "/cert.pem?x=1");
    assert_int_equal(mr_http_errand_header(errand, "X-Own", "yes"), MR_OK);
    run(f, errand);
    assert_int_equal(errand->status, 200);
    assert_true(mr_bytes_equal(mr_buf_bytes(&errand->body), MR_BYTES_LITERAL("hello")));
    assert_non_null(strstr(f->server.last, "GET /cert.pem?x=1 HTTP/1.1\r\n"));
    assert_non_null(strstr(f->server.last, "X-Own: yes\r\n"));
    mr_http_errand_destroy(errand);
}

static void test_options_keeps_the_answers_headers(void **state)
{
    struct fixture *f = *state;
    static const struct fake_step step = {FAKE_SEND,
                                          "HTTP/1.1 404 No\r\nwebhook-allowed-origin:  *  \r\n"
                                          "X-Other: y\r\nWebHook-Allowed-Rate: 7\r\n"
                                          "Content-Length: 0\r\n\r\n",
                                          0};
    fake_server_script(&f->server, &step, 1);
    struct mr_http_errand *errand = run(f, errand_to(f, "OPTIONS", "/hook"));
    struct mr_field answers[MR_HTTP_ERRAND_ANSWERS_MAX];
    assert_int_equal(errand->status, 404);
    assert_int_equal(mr_http_errand_answers(errand, answers), 2);
    assert_true(mr_bytes_equal_nocase(answers[0].name, MR_BYTES_LITERAL("WebHook-Allowed-Origin")));
    assert_true(mr_bytes_equal(answers[0].value, MR_BYTES_LITERAL("*")));
    assert_true(mr_bytes_equal(answers[1].value, MR_BYTES_LITERAL("7")));
    assert_non_null(strstr(f->server.last, "OPTIONS /hook HTTP/1.1\r\n"));
    mr_http_errand_destroy(errand);
}

static void test_redirects_are_not_followed(void **state)
{
    struct fixture *f = *state;
    static const struct fake_step step = {
        FAKE_SEND,
        "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", 0};
    fake_server_script(&f->server, &step, 1);
    struct mr_http_errand *errand = run(f, errand_to(f, "GET", "/"));
    assert_int_equal(errand->status, 302);
    assert_int_equal(f->server.requests, 1);
    mr_http_errand_destroy(errand);
}

static void test_only_https_unless_told_otherwise(void **state)
{
    struct fixture *f = *state;
    struct mr_http_errand *errand = errand_to(f, "GET", "/");
    errand->is_plain = false;
    run(f, errand);
    assert_int_equal(errand->status, 0);
    assert_true(errand->error[0] != '\0');
    assert_int_equal(f->server.connections, 0);
    mr_http_errand_destroy(errand);
}

static void test_egress_is_judged_by_the_address(void **state)
{
    struct fixture *f = *state;
    static const char *const hosts[] = {"127.0.0.1", "localhost", "127.1", "[::1]", "2130706433",
                                        "[::ffff:127.0.0.1]"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(hosts); i++) {
        char url[128];
        snprintf(url, sizeof(url), "http://%s:%u/", hosts[i], (unsigned)f->server.port);
        struct mr_http_errand *errand = mr_http_errand_create("GET", url);
        errand->is_plain = true;
        errand->egress = MR_EGRESS_PUBLIC;
        run(f, errand);
        assert_int_equal(errand->status, 0);
        assert_non_null(strstr(errand->error, "public internet"));
        mr_http_errand_destroy(errand);
    }
    assert_int_equal(f->server.connections, 0);
}

static void test_endless_answers_are_bounded(void **state)
{
    struct fixture *f = *state;
    static const struct fake_step step = {FAKE_BIG, NULL, 8u * 1024 * 1024};
    fake_server_script(&f->server, &step, 1);
    struct mr_http_errand *errand = run(f, errand_to(f, "GET", "/"));
    assert_int_equal(errand->status, 0);
    assert_true(errand->body.size <= MR_HTTP_ERRAND_BODY_MAX);
    mr_http_errand_destroy(errand);
}

static void test_destroy_gives_up_what_is_under_way(void **state)
{
    struct fixture *f = *state;
    static const struct fake_step step = {FAKE_STALL, NULL, 0};
    fake_server_script(&f->server, &step, 1);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(mr_http_courier_send(f->courier, errand_to(f, "GET", "/")), MR_OK);
    }
    fake_server_wait(&f->server, 1);
    mr_http_courier_destroy(MR_TAKE(f->courier)); /* and frees all three */
}

static void test_too_many_errands_are_refused(void **state)
{
    struct fixture *f = *state;
    static const struct fake_step step = {FAKE_STALL, NULL, 0};
    fake_server_script(&f->server, &step, 1);
    enum mr_status r = MR_OK;
    int sent = 0;
    while (r == MR_OK) {
        struct mr_http_errand *errand = errand_to(f, "GET", "/");
        r = mr_http_courier_send(f->courier, errand);
        sent++;
        if (r != MR_OK) {
            mr_http_errand_destroy(errand);
        }
    }
    assert_int_equal(r, MR_E_FULL);
    assert_in_range(sent, MR_HTTP_COURIER_ERRANDS_MAX, 2 * MR_HTTP_COURIER_ERRANDS_MAX + 2);
    mr_http_courier_destroy(MR_TAKE(f->courier));
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_get_brings_status_and_body),
        CASE(test_options_keeps_the_answers_headers),
        CASE(test_redirects_are_not_followed),
        CASE(test_only_https_unless_told_otherwise),
        CASE(test_egress_is_judged_by_the_address),
        CASE(test_endless_answers_are_bounded),
        CASE(test_destroy_gives_up_what_is_under_way),
        CASE(test_too_many_errands_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
