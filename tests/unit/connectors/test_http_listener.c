#include "tests/contract/http_listener.h"

/* --- ordinary requests ------------------------------------------------------------------------ */

static void test_serve_post_echoes_body(void **state)
{
    struct fixture *f = *state;
    expect_echo(f);
    assert_string_equal(f->seen, "2 /echo a b yes");
}

static void test_serve_keepalive_many_on_one_connection(void **state)
{
    struct fixture *f = *state;
    struct wire w = wire_connect(f->port);
    for (int i = 0; i < 200; i++) {
        wire_send(&w, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc");
        wire_expect(&w, 200, "abc");
    }
    assert_int_equal(f->handled, 200);
    wire_close(&w);
}

static void test_serve_pipelined_answers_in_order(void **state)
{
    struct fixture *f = *state;
    struct wire w = wire_connect(f->port);
    wire_send(&w, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1"
                  "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n2"
                  "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"
                  "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n3");
    wire_expect(&w, 200, "1");
    wire_expect(&w, 200, "2");
    wire_expect(&w, 404, "error");
    wire_expect(&w, 200, "3");
    wire_close(&w);
}

static void test_serve_chunked_body(void **state)
{
    struct fixture *f = *state;
    struct wire w = wire_connect(f->port);
    wire_send(&w, "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                  "3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n");
    wire_expect(&w, 200, "abcdefg");
    wire_close(&w);
}

static void test_serve_body_byte_by_byte(void **state)
{
    struct fixture *f = *state;
    struct wire w = wire_connect(f->port);
    const char *text = "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nslow";
    for (const char *c = text; *c != '\0'; c++) {
        assert_true(wire_send_bytes(&w, c, 1));
    }
    wire_expect(&w, 200, "slow");
    wire_close(&w);
}

static void test_serve_expect_continue_gets_100_first(void **state)
{
    struct fixture *f = *state;
    struct wire w = wire_connect(f->port);
    wire_send(&w, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"
                  "Expect: 100-continue\r\n\r\n");
    assert_true(wire_wait(&w, "HTTP/1.1 100"));
    wire_drop(&w, w.size);
    wire_send(&w, "ok");
    wire_expect(&w, 200, "ok");
    wire_close(&w);
}

static void test_serve_head_of_get_route_has_no_body(void **state)
{
    struct fixture *f = *state;
    struct wire w = wire_connect(f->port);
    wire_send(&w, "HEAD /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_true(wire_wait_end(&w));
    assert_non_null(strstr(w.in, "HTTP/1.1 200"));
    assert_non_null(strstr(w.in, "\r\n\r\n"));
    assert_int_equal(strlen(strstr(w.in, "\r\n\r\n")), 4);
    wire_close(&w);
}

static void test_route_prefix_longest_wins(void **state)
{
    struct fixture *f = *state;
    struct wire w = wire_connect(f->port);
    wire_send(&w, "GET /tree/a HTTP/1.1\r\nHost: x\r\n\r\n");
    wire_expect(&w, 200, NULL);
    wire_send(&w, "GET /tree/deep/b?q=1 HTTP/1.1\r\nHost: x\r\n\r\n");
    wait_kept(f, 1);
    assert_string_equal(mr_http_request_path(f->kept[0]), "/tree/deep/b");
    assert_string_equal(mr_http_request_query(f->kept[0], "q"), "1");
    answer_text(f->kept[0], 200, MR_BYTES_LITERAL("deep"));
    wire_expect(&w, 200, "deep");
    wire_close(&w);
}

static void test_route_same_path_of_another_context_is_refused(void **state)
{
    struct fixture *f = *state;
    int other;
    struct mr_http_route route = {
        .methods = MR_HTTP_GET, .path = "/echo", .handle = handle_echo, .context = &other};
    assert_int_equal(mr_http_listener_route(f->listener, &route, false), MR_E_EXISTS);
    route.context = f;
    assert_int_equal(mr_http_listener_route(f->listener, &route, false), MR_OK);
}

static void test_unroute_then_404(void **state)
{
    struct fixture *f = *state;
    struct wire w = wire_connect(f->port);
    mr_http_listener_unroute(f->listener, f);
    wire_send(&w, "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n");
    wire_expect(&w, 404, "error");
    wire_close(&w);
}

/* --- refusals --------------------------------------------------------------------------------- */

static void test_method_not_allowed_names_the_allowed(void **state)
{
    struct fixture *f = *state;
    struct wire w = wire_connect(f->port);
    wire_send(&w, "DELETE /echo HTTP/1.1\r\nHost: x\r\n\r\n");
    struct wire_response r = wire_response(&w);
    assert_int_equal(r.status, 405);
    assert_non_null(strstr(r.head, "Allow: POST, GET, HEAD\r\n"));
    wire_response_release(&r);
    wire_send(&w, "BREW /echo HTTP/1.1\r\nHost: x\r\n\r\n");
    wire_expect(&w, 405, "error");
    wire_close(&w);
}

static void test_refused_small_body_keeps_the_connection(void **state)
{
    struct fixture *f = *state;
    struct wire w = wire_connect(f->port);
    wire_send(&w, "PUT /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
                  "POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
                  "POST /locked HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
                  "POST /locked HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\n"
                  "Content-Length: 3\r\n\r\nabc");
    wire_expect(&w, 405, NULL);
    wire_expect(&w, 404, NULL);
    wire_expect(&w, 401, "who");
    wire_expect(&w, 200, "abc");
    wire_close(&w);
}

static void test_admit_refuses_before_size_is_judged(void **state)
{
    struct fixture *f = *state;
    struct wire w = wire_connect(f->port);
    wire_send(&w, "POST /locked HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n");
    wire_expect(&w, 401, "who");
    assert_true(wire_wait_end(&w));
    wire_close(&w);
}

static void test_length_above_limit_gets_413_before_the_body(void **state)
{
    struct fixture *f = *state;
    struct wire w = wire_connect(f->port);
    wire_send(&w, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n");
    wire_expect(&w, 413, "4096");
    assert_true(wire_wait_end(&w));
    assert_int_equal(f->handled, 0);
    wire_close(&w);
}

static void test_length_above_limit_whole_body_sent_sees_413(void **state)
{
    struct fixture *f = *state;
    size_t size = 3u * 1024 * 1024;
    char *body = calloc(1, size);
    assert_non_null(body);
    for (int i = 0; i < 20; i++) {
        struct wire w = wire_connect(f->port);
        wire_send(&w, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3145728\r\n\r\n");
        assert_true(wire_send_bytes(&w, body, size)); /* read off, never reset */
        wire_expect(&w, 413, NULL);
        assert_true(wire_wait_end(&w));
        assert_false(w.reset);
        wire_close(&w);
    }
    free(body);
}

static void test_length_slightly_above_limit_keeps_the_connection(void **state)
{
    struct fixture *f = *state;
    struct wire w = wire_connect(f->port);
    char body[BODY_MAX + 1];
    memset(body, 'x', sizeof(body));
    wire_send(&w, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4097\r\n\r\n");
    wire_send_bytes(&w, body, sizeof(body));
    wire_expect(&w, 413, NULL);
    wire_send(&w, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4096\r\n\r\n");
    wire_send_bytes(&w, body, BODY_MAX);
    wire_expect(&w, 200, "xxxx");
    wire_close(&w);
}

static void test_chunked_above_limit_gets_413_while_arriving(void **state)
{
    struct fixture *f = *state;
    struct wire w = wire_connect(f->port);
    wire_send(&w, "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    char chunk[1024 + 16];
    int head = snprintf(chunk, sizeof(chunk), "400\r\n");
    memset(chunk + head, 'y', 1024);
    memcpy(chunk + head + 1024, "\r\n", 2);
    for (int i = 0; i < 1000 && wire_send_bytes(&w, chunk, (size_t)head + 1026); i++) {
    }
    wire_expect(&w, 413, "too large");
    assert_true(wire_wait_end(&w));
    assert_false(w.reset);
    wire_close(&w);
}

static void test_bad_requests_are_refused_and_the_listener_lives(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *text;
        int status; /* 0: closed without a word is fine too */
    } cases[] = {
        {"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400},
        {"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1x\r\n\r\n", 400},
        {"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n", 413},
        {"POST /echo HTTP/1.1\r\nContent-Length: 1\r\n\r\nx", 400}, /* no Host */
        {"\x16\x03\x01\x02\x01garbage\r\n\r\n", 0},
        {"GET\r\n\r\n", 0},
        {"GET /echo HTTP/9.9\r\nHost: x\r\n\r\n", 505},
        {"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400},
        {"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
         "ffffffffffffffffffff\r\n", 0},
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(cases); i++) {
        struct wire w = wire_connect(f->port);
        wire_send(&w, cases[i].text);
        shutdown(w.fd, SHUT_WR);
        (void)wire_wait_end(&w);
        if (cases[i].status != 0) {
            int status = w.size < 12 ? 0 : (int)strtol(w.in + 9, NULL, 10);
            if (status != cases[i].status) {
                fail_msg("case %zu: %d instead of %d", i, status, cases[i].status);
            }
        }
        wire_close(&w);
    }
    expect_echo(f);
}

static void test_header_too_large_gets_431(void **state)
{
    struct fixture *f = *state;
    struct wire w = wire_connect(f->port);
    char line[1200];
    memset(line, 'a', sizeof(line));
    memcpy(line, "X-A: ", 5);
    memcpy(line + sizeof(line) - 2, "\r\n", 2);
    wire_send(&w, "GET /echo HTTP/1.1\r\nHost: x\r\n");
    for (int i = 0; i < 64 && wire_send_bytes(&w, line, sizeof(line)); i++) {
    }
    (void)wire_wait(&w, "\r\n\r\n");
    assert_non_null(strstr(w.in, "HTTP/1.1 431"));
    wire_close(&w);
    expect_echo(f);
}

static void test_truncated_body_is_never_handled(void **state)
{
    struct fixture *f = *state;
    struct wire w = wire_connect(f->port);
    wire_send(&w, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nfour");
    shutdown(w.fd, SHUT_WR);
    assert_true(wire_wait_end(&w)); /* long before the idle timeout of a minute */
    assert_int_equal(w.size, 0);
    struct wire other = wire_connect(f->port);
    wire_send(&other, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nfour");
    wire_close(&other);
    expect_echo(f);
    assert_int_equal(f->handled, 1);
    wire_close(&w);
}

/* --- peers that close their side -------------------------------------------------------------- */

static void test_half_closed_peer_is_never_kept(void **state)
{
    struct fixture *f = *state;
    /* Whatever is missing when the end comes, together with the bytes or after them. */
    static const char *const beginnings[] = {
        "", "POST", "POST /echo HTTP/1.1\r\nHost: x\r\n",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "PUT /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nfour", /* refused, read off */
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(beginnings); i++) {
        struct wire together = wire_connect(f->port);
        wire_send(&together, beginnings[i]);
        shutdown(together.fd, SHUT_WR);
        struct wire after = wire_connect(f->port);
        wire_send(&after, beginnings[i]);
        expect_echo(f); /* the bytes were read by now */
        shutdown(after.fd, SHUT_WR);
        assert_true(wire_wait_end(&together));
        assert_true(wire_wait_end(&after));
        wire_close(&together);
        wire_close(&after);
    }
}

static void test_half_closed_peer_is_answered_at_once(void **state)
{
    struct fixture *f = *state;
    struct wire w = wire_connect(f->port);
    wire_send(&w, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1"
                  "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n2"
                  "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n");
    shutdown(w.fd, SHUT_WR);
    wire_expect(&w, 200, "1");
    wire_expect(&w, 200, "2");
    wire_expect(&w, 404, "error");
    assert_true(wire_wait_end(&w));
    wire_close(&w);
    w = wire_connect(f->port);
    wire_send(&w, "GET /keep HTTP/1.1\r\nHost: x\r\n\r\n");
    shutdown(w.fd, SHUT_WR);
    wait_kept(f, 1);
    expect_echo(f); /* the loop went round */
    answer_text(f->kept[0], 200, MR_BYTES_LITERAL("late"));
    /* libmicrohttpd reads before it writes when a request goes on, and gives up at the end of the
     * peer's data: the answer may be lost, the connection never hangs. */
    assert_true(wire_wait_end(&w));
    wire_close(&w);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    mr_logger_set_fd(-1);
    const struct CMUnitTest tests[] = {
        CASE(test_serve_post_echoes_body),
        CASE(test_serve_keepalive_many_on_one_connection),
        CASE(test_serve_pipelined_answers_in_order),
        CASE(test_serve_chunked_body),
        CASE(test_serve_body_byte_by_byte),
        CASE(test_serve_expect_continue_gets_100_first),
        CASE(test_serve_head_of_get_route_has_no_body),
        CASE(test_route_prefix_longest_wins),
        CASE(test_route_same_path_of_another_context_is_refused),
        CASE(test_unroute_then_404),
        CASE(test_method_not_allowed_names_the_allowed),
        CASE(test_refused_small_body_keeps_the_connection),
        CASE(test_admit_refuses_before_size_is_judged),
        CASE(test_length_above_limit_gets_413_before_the_body),
        CASE(test_length_above_limit_whole_body_sent_sees_413),
        CASE(test_length_slightly_above_limit_keeps_the_connection),
        CASE(test_chunked_above_limit_gets_413_while_arriving),
        CASE(test_bad_requests_are_refused_and_the_listener_lives),
        CASE(test_header_too_large_gets_431),
        CASE(test_truncated_body_is_never_handled),
        CASE(test_half_closed_peer_is_never_kept),
        CASE(test_half_closed_peer_is_answered_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
