/* What the listener's two test programs share: a listener with an echoing route, one that keeps its
 * requests, and one behind a token. */
#ifndef MR_TESTS_CONTRACT_HTTP_LISTENER_H
#define MR_TESTS_CONTRACT_HTTP_LISTENER_H

#include "tests/support/test.h"

#include <pthread.h>

#include "connectors/http/listener.h"
#include "core/alloc.h"
#include "core/limits.h"
#include "core/logger.h"
#include "tests/contract/http_wire.h"

enum { BODY_MAX = 4096, KEPT_MAX = 512 };

/* One listener with an echoing route, one that keeps its requests, and one that streams. */
struct fixture {
    struct mr_http_listener *listener;
    uint16_t port;
    pthread_mutex_t mu; /* protects all below */
    pthread_cond_t changed;
    struct mr_http_request *kept[KEPT_MAX];
    uint32_t kept_count;
    uint32_t handled;
    char seen[256]; /* path, query and header of the last request */
};

static inline void answer_text(struct mr_http_request *request, unsigned status,
                               struct mr_bytes body)
{
    mr_http_answer(request, &(struct mr_http_answer){
                                .status = status, .content_type = "text/plain", .body = body});
}

static inline void handle_echo(void *context, struct mr_http_request *request)
{
    struct fixture *f = context;
    const char *q = mr_http_request_query(request, "q");
    struct mr_bytes header = mr_http_request_header(request, "x-test");
    pthread_mutex_lock(&f->mu);
    f->handled++;
    snprintf(f->seen, sizeof(f->seen), "%d %s %s %.*s", (int)mr_http_request_method(request),
             mr_http_request_path(request), q == NULL ? "-" : q, (int)header.size,
             header.data == NULL ? "" : (const char *)header.data);
    pthread_mutex_unlock(&f->mu);
    answer_text(request, 200, mr_http_request_body(request));
}

static inline void handle_keep(void *context, struct mr_http_request *request)
{
    struct fixture *f = context;
    pthread_mutex_lock(&f->mu);
    assert_true(f->kept_count < KEPT_MAX);
    f->kept[f->kept_count++] = request;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->mu);
}

static inline bool admit_token(void *context, struct mr_http_request *request)
{
    (void)context;
    if (mr_bytes_equal(mr_http_request_header(request, "authorization"),
                       MR_BYTES_LITERAL("Bearer good"))) {
        return true;
    }
    answer_text(request, 401, MR_BYTES_LITERAL("who are you"));
    return false;
}

static inline void wait_kept(struct fixture *f, uint32_t count)
{
    pthread_mutex_lock(&f->mu);
    while (f->kept_count < count) {
        pthread_cond_wait(&f->changed, &f->mu);
    }
    pthread_mutex_unlock(&f->mu);
}

static inline void start_fixture(struct fixture *f, uint64_t idle_ns, const char *socket_path)
{
    struct mr_problem problem = {""};
    *f = (struct fixture){0};
    pthread_mutex_init(&f->mu, NULL);
    pthread_cond_init(&f->changed, NULL);
    const struct mr_http_listener_options options = {
        .host = socket_path == NULL ? "127.0.0.1" : NULL,
        .socket_path = socket_path,
        .connections_max = 300,
        .idle_timeout_ns = idle_ns,
    };
    assert_int_equal(mr_http_listener_create(&options, &f->listener, &problem), MR_OK);
    const struct mr_http_route routes[] = {
        {.methods = MR_HTTP_POST | MR_HTTP_GET, .path = "/echo", .body_max = BODY_MAX,
         .handle = handle_echo, .context = f},
        {.methods = MR_HTTP_GET, .path = "/tree/*", .handle = handle_echo, .context = f},
        {.methods = MR_HTTP_GET, .path = "/tree/deep/*", .handle = handle_keep, .context = f},
        {.methods = MR_HTTP_POST | MR_HTTP_GET, .path = "/keep", .body_max = BODY_MAX,
         .handle = handle_keep, .context = f},
        {.methods = MR_HTTP_POST, .path = "/locked", .body_max = BODY_MAX,
         .handle = handle_echo, .admit = admit_token, .context = f},
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(routes); i++) {
        assert_int_equal(mr_http_listener_route(f->listener, &routes[i], false), MR_OK);
    }
    if (mr_http_listener_start(f->listener, &problem) != MR_OK) {
        fail_msg("%s", problem.text);
    }
    f->port = mr_http_listener_port(f->listener);
}

static inline int set_up(void **state)
{
    struct fixture *f = malloc(sizeof(*f));
    start_fixture(f, 0, NULL);
    *state = f;
    return 0;
}

static inline int tear_down(void **state)
{
    struct fixture *f = *state;
    mr_http_listener_destroy(f->listener);
    pthread_cond_destroy(&f->changed);
    pthread_mutex_destroy(&f->mu);
    free(f);
    return mr_alloc_live() == 0 ? 0 : 1;
}

/* The listener serves; its loop went round at least once since the call. */
static inline void expect_echo(struct fixture *f)
{
    struct wire w = wire_connect(f->port);
    wire_send(&w, "POST /echo?q=a%20b&r=1 HTTP/1.1\r\nHost: x\r\nX-Test: yes\r\n"
                  "Content-Length: 5\r\n\r\nhello");
    wire_expect(&w, 200, "hello");
    wire_close(&w);
}

#endif
