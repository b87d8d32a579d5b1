#include "tests/support/test.h"

#include "connectors/http/reply.h"
#include "core/alloc.h"
#include "core/rng.h"

enum outcome { MORE = MR_HTTP_REPLY_MORE, DONE = MR_HTTP_REPLY_DONE, BROKEN = MR_HTTP_REPLY_BROKEN };

/* Feeds @p text in pieces of @p step bytes. */
static enum mr_http_reply_result feed(struct mr_http_reply *reply, struct mr_http_exchange *x,
                                      struct mr_bytes text, size_t step, bool end,
                                      size_t *ret_used)
{
    enum mr_http_reply_result r = MR_HTTP_REPLY_MORE;
    x->status = 0;
    x->body_cut = false;
    mr_buf_clear(&x->response_body);
    mr_http_reply_begin(reply, x);
    size_t at = 0;
    while (r == MR_HTTP_REPLY_MORE && at < text.size) {
        size_t n = text.size - at < step ? text.size - at : step;
        size_t used = 0;
        r = mr_http_reply_feed(reply, mr_bytes(text.data + at, n), &used);
        assert_true(used <= n);
        at += used;
    }
    *ret_used = at;
    return r == MR_HTTP_REPLY_MORE && end ? mr_http_reply_end(reply) : r;
}

static const struct {
    const char *text;
    enum outcome outcome;
    unsigned status;
    const char *body;
    bool keep_alive;
    bool end; /* the connection closes behind the text */
    size_t behind; /* bytes that are not the response's */
} CASES[] = {
    {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", DONE, 200, "", true, false, 0},
    {"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nab", DONE, 200, "ab", true, false, 0},
    {"HTTP/1.1 200 OK\nContent-Length: 2\n\nab", DONE, 200, "ab", true, false, 0},
    {"HTTP/1.1 200 OK\r\ncontent-LENGTH:\t 2 \r\n\r\nabX", DONE, 200, "ab", true, false, 1},
    {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab", DONE, 200, "ab", true,
     false, 0},
    {"HTTP/1.1 204 No\r\n\r\n", DONE, 204, "", true, false, 0},
    {"HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n", DONE, 304, "", true, false, 0},
    {"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", DONE, 200, "a", false, false, 0},
    {"HTTP/1.1 200 OK\r\nConnection: foo , Close\r\nContent-Length: 1\r\n\r\na", DONE, 200, "a",
     false, false, 0},
    {"HTTP/1.1 200 OK\r\nConnection: closed\r\nContent-Length: 1\r\n\r\na", DONE, 200, "a", true,
     false, 0},
    {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 P\r\nX: y\r\n\r\nHTTP/1.1 201 C\r\n"
     "Content-Length: 1\r\n\r\nz",
     DONE, 201, "z", true, false, 0},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", DONE, 200, "", true, false,
     0},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n3;a=\"b\"\r\nabc\r\nA \r\n0123456789\r\n"
     "000\r\nTrailer: x\r\nContent-Length: 9\r\n\r\n",
     DONE, 200, "abc0123456789", true, false, 0},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n1\r\na\r\n0\r\n\r\n",
     DONE, 200, "a", false, false, 0},
    {"HTTP/1.1 200 OK\r\n\r\nto the end", DONE, 200, "to the end", false, true, 0},
    {"HTTP/1.1 200 OK\r\n\r\n", DONE, 200, "", false, true, 0},
    /* not there yet */
    {"", MORE, 0, "", false, false, 0},
    {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", MORE, 200, "ab", true, false, 0},
    {"HTTP/1.1 200 OK\r\n\r\nab", MORE, 200, "ab", false, false, 0},
    /* broken */
    {"", BROKEN, 0, "", false, true, 0},
    {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", BROKEN, 200, "ab", false, true, 0},
    {"HTTP/1.1 200 OK\r\nContent-Le", BROKEN, 200, "", false, true, 0},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab", BROKEN, 200, "ab", false, true,
     0},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", BROKEN, 200, "", false, true, 0},
    {"HTTP/2 200\r\n\r\n", BROKEN, 0, "", false, false, 0},
    {"HTTP/1.1 20 OK\r\n\r\n", BROKEN, 0, "", false, false, 0},
    {"HTTP/1.1 2000 OK\r\n\r\n", BROKEN, 0, "", false, false, 0},
    {"SSH-2.0-OpenSSH\r\n", BROKEN, 0, "", false, false, 0},
    {"\r\n", BROKEN, 0, "", false, false, 0},
    {"HTTP/1.1 101 Switching\r\n\r\n", BROKEN, 101, "", false, false, 0},
    {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", BROKEN, 200, "", false,
     false, 0},
    {"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n", BROKEN, 200, "", false, false, 0},
    {"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n", BROKEN, 200, "", false, false, 0},
    {"HTTP/1.1 200 OK\r\nContent-Length: 0x1\r\n", BROKEN, 200, "", false, false, 0},
    {"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n", BROKEN, 200, "", false, false,
     0},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n", BROKEN, 200, "", false, false, 0},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", BROKEN, 200,
     "", false, false, 0},
    {"HTTP/1.1 200 OK\r\nno colon\r\n", BROKEN, 200, "", false, false, 0},
    {"HTTP/1.1 200 OK\r\n: no name\r\n", BROKEN, 200, "", false, false, 0},
    {"HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n", BROKEN, 200, "", false, false, 0},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", BROKEN, 200, "", false, false,
     0},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n", BROKEN, 200, "", false, false, 0},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", BROKEN, 200, "", false, false,
     0},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", BROKEN, 200, "",
     false, false, 0},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", BROKEN, 200, "a", false,
     false, 0},
};

static void test_feed_every_case_in_pieces_of_every_size(void **state)
{
    (void)state;
    struct mr_http_reply reply;
    struct mr_http_exchange x;
    mr_http_reply_init(&reply);
    mr_http_exchange_init(&x);
    for (size_t i = 0; i < MR_ARRAY_COUNT(CASES); i++) {
        struct mr_bytes text = mr_bytes_of(CASES[i].text);
        for (size_t step = 1; step <= text.size + 1; step++) {
            size_t used = 0;
            enum mr_http_reply_result r = feed(&reply, &x, text, step, CASES[i].end, &used);
            if ((int)r != (int)CASES[i].outcome || x.status != CASES[i].status ||
                !mr_bytes_equal(mr_buf_bytes(&x.response_body), mr_bytes_of(CASES[i].body))) {
                fail_msg("case %zu in steps of %zu: %d %u %.*s", i, step, (int)r, x.status,
                         (int)x.response_body.size, (const char *)x.response_body.data);
            }
            if (r == MR_HTTP_REPLY_DONE) {
                assert_int_equal(reply.keep_alive, CASES[i].keep_alive);
                assert_int_equal(text.size - used, CASES[i].behind);
            }
            if (r == MR_HTTP_REPLY_BROKEN) {
                assert_non_null(reply.broken);
            }
        }
    }
    mr_http_reply_release(&reply);
    mr_http_exchange_release(&x);
    assert_int_equal(mr_alloc_live(), 0);
}

static void test_feed_endless_input_is_bounded(void **state)
{
    (void)state;
    static const struct {
        const char *begin;
        const char *repeat;
    } cases[] = {
        {"", "HTTP/1.1 100 Continue\r\n\r\n"},
        {"HTTP/1.1 200 OK\r\n", "X: y\r\n"},
        {"HTTP/1.1 200 OK\r\n", "a"},
        {"HTTP/1.1 200 ", "OK"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "0"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", "e"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "T: r\r\n"},
        {"HTTP/1.1 200 OK\r\n\r\n", "body"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "4\r\nbody\r\n"},
    };
    struct mr_http_reply reply;
    struct mr_http_exchange x;
    mr_http_reply_init(&reply);
    mr_http_exchange_init(&x);
    for (size_t i = 0; i < MR_ARRAY_COUNT(cases); i++) {
        size_t used;
        enum mr_http_reply_result r =
            feed(&reply, &x, mr_bytes_of(cases[i].begin), 4096, false, &used);
        size_t rounds = 0;
        for (; r == MR_HTTP_REPLY_MORE && rounds < 10u * MR_MIB; rounds++) {
            r = mr_http_reply_feed(&reply, mr_bytes_of(cases[i].repeat), &used);
        }
        assert_int_not_equal(r, MR_HTTP_REPLY_MORE);
        assert_true(x.body_cut || r == MR_HTTP_REPLY_BROKEN);
        assert_true(x.response_body.size <= MR_RESPONSE_SIZE_MAX);
        assert_true(reply.line.capacity <= MR_HTTP_HEADER_SIZE_MAX);
        x.body_cut = false;
    }
    mr_http_reply_release(&reply);
    mr_http_exchange_release(&x);
}

/* Any change of any byte is read to some end, never past the input. */
static void test_feed_mangled_cases_never_misbehave(void **state)
{
    (void)state;
    struct mr_http_reply reply;
    struct mr_http_exchange x;
    struct mr_rng rng;
    uint64_t seed = 20240611;
    mr_rng_init(&rng, seed);
    mr_http_reply_init(&reply);
    mr_http_exchange_init(&x);
    for (size_t i = 0; i < MR_ARRAY_COUNT(CASES); i++) {
        size_t size = strlen(CASES[i].text);
        for (size_t at = 0; at < size * 8; at++) {
            char *copy = malloc(size); /* exact, so that a read beyond it is seen */
            assert_non_null(copy);
            memcpy(copy, CASES[i].text, size);
            copy[at / 8] = (char)mr_rng_next(&rng);
            size_t used;
            size_t step = 1 + mr_rng_below(&rng, size);
            enum mr_http_reply_result r =
                feed(&reply, &x, mr_bytes(copy, size), step, true, &used);
            assert_true(r == MR_HTTP_REPLY_DONE || r == MR_HTTP_REPLY_BROKEN);
            assert_true(used <= size);
            free(copy);
        }
    }
    mr_http_reply_release(&reply);
    mr_http_exchange_release(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_feed_every_case_in_pieces_of_every_size),
        cmocka_unit_test(test_feed_endless_input_is_bounded),
        cmocka_unit_test(test_feed_mangled_cases_never_misbehave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
