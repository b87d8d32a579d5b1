/* The listener over time: requests that are kept, streams, idle peers, starts and stops. */
#include "tests/contract/http_listener.h"

#include <sys/stat.h>
#include <sys/wait.h>

/* A connection whose request is kept, the @p number th of all. */
static struct wire keep(struct fixture *f, uint32_t number)
{
    struct wire w = wire_connect(f->port);
    wire_send(&w, "GET /keep HTTP/1.1\r\nHost: x\r\n\r\n");
    wait_kept(f, number);
    return w;
}

/* A connection whose request, the only one, is answered with a stream. */
static struct wire begin_stream(struct fixture *f)
{
    struct wire w = keep(f, 1);
    assert_int_equal(mr_http_stream_begin(f->kept[0], "text/event-stream"), MR_OK);
    assert_true(wire_wait(&w, "text/event-stream"));
    return w;
}

static void end_listener(struct fixture *f)
{
    mr_http_listener_destroy(f->listener);
    f->listener = NULL;
}

/* --- kept requests ---------------------------------------------------------------------------- */

static void test_answer_later_from_another_thread(void **state)
{
    struct fixture *f = *state;
    struct wire w = wire_connect(f->port);
    wire_send(&w, "POST /keep?q=z HTTP/1.1\r\nHost: x\r\nX-Test: kept\r\n"
                  "Content-Length: 4\r\n\r\nbody");
    wait_kept(f, 1);
    struct mr_http_request *request = f->kept[0];
    assert_true(mr_bytes_equal(mr_http_request_header(request, "X-TEST"),
                               MR_BYTES_LITERAL("kept")));
    assert_true(mr_bytes_equal(mr_http_request_body(request), MR_BYTES_LITERAL("body")));
    assert_string_equal(mr_http_request_query(request, "q"), "z");
    assert_null(mr_http_request_query(request, "none"));
    mr_http_request_set_context(request, f);
    assert_ptr_equal(mr_http_request_context(request), f);
    answer_text(request, 202, MR_BYTES_LITERAL("later"));
    wire_expect(&w, 202, "later");
    wire_send(&w, "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n");
    wire_expect(&w, 200, NULL);
    wire_close(&w);
}

static void test_answer_carries_headers(void **state)
{
    struct fixture *f = *state;
    struct wire w = keep(f, 1);
    const struct mr_field fields[] = {
        {MR_BYTES_LITERAL("Retry-After"), MR_BYTES_LITERAL("7")},
        {MR_BYTES_LITERAL("X-Empty"), MR_BYTES_LITERAL("")},
    };
    mr_http_answer(f->kept[0], &(struct mr_http_answer){
                                   .status = 503, .headers = fields, .header_count = 1});
    struct wire_response r = wire_response(&w);
    assert_int_equal(r.status, 503);
    assert_non_null(strstr(r.head, "Retry-After: 7\r\n"));
    wire_response_release(&r);
    wire_close(&w);
}

static void test_many_kept_answered_in_one_go(void **state)
{
    struct fixture *f = *state;
    enum { COUNT = 256 }; /* with libmicrohttpd's own thread this number stalls */
    struct wire w[COUNT];
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < COUNT; i++) {
            if (round == 0) {
                w[i] = wire_connect(f->port);
            }
            wire_send(&w[i], "POST /keep HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nk");
        }
        wait_kept(f, COUNT);
        f->kept_count = 0; /* nobody else runs: every connection waits for its answer */
        for (int i = 0; i < COUNT; i++) {
            answer_text(f->kept[i], 202, MR_BYTES_LITERAL("done"));
        }
        for (int i = 0; i < COUNT; i++) {
            wire_expect(&w[i], 202, "done");
        }
    }
    for (int i = 0; i < COUNT; i++) {
        wire_close(&w[i]);
    }
}

static void test_peer_leaves_while_kept_answer_is_safe(void **state)
{
    struct fixture *f = *state;
    for (uint32_t i = 0; i < 20; i++) {
        struct wire w = wire_connect(f->port);
        wire_send(&w, "POST /keep HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody");
        wait_kept(f, i + 1);
        if (i % 2 == 0) {
            const struct linger reset = {.l_onoff = 1};
            setsockopt(w.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
        }
        wire_close(&w);
        answer_text(f->kept[i], 202, MR_BYTES_LITERAL("into the void"));
    }
    expect_echo(*state);
}

static void test_stop_answers_held_requests_503(void **state)
{
    struct fixture *f = *state;
    struct wire gone = keep(f, 1);
    wire_close(&gone);
    struct wire w = keep(f, 2);
    mr_http_listener_stop(f->listener, 0);
    wire_expect(&w, 503, "stopping");
    assert_true(wire_wait_end(&w));
    wire_close(&w);
    end_listener(f);
    /* The owner learns nothing of it and may answer when it likes. */
    answer_text(f->kept[0], 200, MR_BYTES_LITERAL("late"));
    answer_text(f->kept[1], 200, MR_BYTES_LITERAL("late"));
}

static void *answer_all(void *context)
{
    struct fixture *f = context;
    for (uint32_t i = 0; i < 64; i++) {
        answer_text(f->kept[i], 202, MR_BYTES_LITERAL("just in time"));
    }
    return NULL;
}

/* Keeps 64 requests. @return the thread that begins to answer them; to be joined */
static pthread_t answer_64(struct fixture *f, struct wire w[64])
{
    for (uint32_t i = 0; i < 64; i++) {
        w[i] = wire_connect(f->port);
        wire_send(&w[i], "GET /keep HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    wait_kept(f, 64);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, answer_all, f), 0);
    return thread;
}

static void test_stop_races_with_answers(void **state)
{
    struct fixture *f = *state;
    struct wire w[64];
    pthread_t thread = answer_64(f, w);
    mr_http_listener_stop(f->listener, 0);
    end_listener(f);
    pthread_join(thread, NULL);
    for (uint32_t i = 0; i < 64; i++) {
        struct wire_response r = wire_response(&w[i]);
        assert_true(r.status == 202 || r.status == 503);
        wire_response_release(&r);
        wire_close(&w[i]);
    }
}

static void test_stop_waits_for_answers_until_deadline(void **state)
{
    struct fixture *f = *state;
    struct wire w[64];
    pthread_t thread = answer_64(f, w);
    mr_http_listener_stop(f->listener, mr_clock_mono_ns() + 20 * MR_SECOND);
    pthread_join(thread, NULL);
    for (uint32_t i = 0; i < 64; i++) {
        wire_expect(&w[i], 202, "in time");
        wire_close(&w[i]);
    }
}

/* --- streams ---------------------------------------------------------------------------------- */

static void test_stream_sends_chunks_until_end(void **state)
{
    struct fixture *f = *state;
    struct wire w = begin_stream(f);
    for (int i = 0; i < 50; i++) {
        char text[32];
        snprintf(text, sizeof(text), "data: %d\n\n", i);
        assert_int_equal(mr_http_stream_write(f->kept[0], mr_bytes_of(text)), MR_OK);
        if (i % 10 == 0) {
            assert_true(wire_wait(&w, text));
        }
    }
    mr_http_stream_end(f->kept[0]);
    assert_true(wire_wait(&w, "data: 49\n\n"));
    assert_true(wire_wait(&w, "\r\n0\r\n"));
    wire_close(&w);
}

static void test_stream_reader_leaves_write_tells(void **state)
{
    struct fixture *f = *state;
    struct wire w = begin_stream(f);
    wire_close(&w);
    enum mr_status r = MR_OK;
    uint64_t deadline = mr_clock_mono_ns() + 20 * MR_SECOND;
    while (r == MR_OK && mr_clock_mono_ns() < deadline) {
        r = mr_http_stream_write(f->kept[0], MR_BYTES_LITERAL("data: x\n\n"));
    }
    assert_true(r == MR_E_CLOSED || r == MR_E_FULL);
    mr_http_stream_end(f->kept[0]);
}

static void test_stream_slow_reader_is_dropped(void **state)
{
    struct fixture *f = *state;
    struct wire w = keep(f, 1);
    assert_int_equal(mr_http_stream_begin(f->kept[0], "text/event-stream"), MR_OK);
    static const char chunk[65536] = {0};
    enum mr_status r = MR_OK;
    for (int i = 0; i < 10000 && r == MR_OK; i++) {
        r = mr_http_stream_write(f->kept[0], mr_bytes(chunk, sizeof(chunk)));
    }
    assert_int_equal(r, MR_E_FULL);
    assert_int_equal(mr_http_stream_write(f->kept[0], mr_bytes(chunk, 1)), MR_E_CLOSED);
    mr_http_stream_end(f->kept[0]);
    while (wire_fill(&w, WIRE_WAIT_MS)) {
        w.size = 0;
    }
    assert_true(w.eof);
    wire_close(&w);
}

static void test_stop_ends_streams(void **state)
{
    struct fixture *f = *state;
    struct wire w = begin_stream(f);
    mr_http_listener_stop(f->listener, mr_clock_mono_ns() + 20 * MR_SECOND);
    assert_true(wire_wait_end(&w));
    assert_int_equal(mr_http_stream_write(f->kept[0], MR_BYTES_LITERAL("x")), MR_E_CLOSED);
    end_listener(f);
    mr_http_stream_end(f->kept[0]);
    wire_close(&w);
}

/* --- time ------------------------------------------------------------------------------------- */

static int set_up_hasty(void **state)
{
    struct fixture *f = malloc(sizeof(*f));
    start_fixture(f, 100 * MR_MS, NULL);
    *state = f;
    return 0;
}

static void test_idle_connections_are_closed(void **state)
{
    struct fixture *f = *state;
    struct wire silent = wire_connect(f->port);
    struct wire header = wire_connect(f->port);
    struct wire body = wire_connect(f->port);
    struct wire used = wire_connect(f->port);
    wire_send(&header, "POST /echo HTTP/1.1\r\nHo");
    wire_send(&body, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nsome");
    wire_send(&used, "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n");
    wire_expect(&used, 200, NULL);
    assert_true(wire_wait_end(&silent));
    assert_true(wire_wait_end(&header));
    assert_true(wire_wait_end(&body));
    assert_true(wire_wait_end(&used));
    assert_int_equal(f->handled, 1);
    wire_close(&silent);
    wire_close(&header);
    wire_close(&body);
    wire_close(&used);
}

static void test_kept_request_outlives_idle_timeout(void **state)
{
    struct fixture *f = *state;
    struct wire w = wire_connect(f->port);
    struct wire idle = wire_connect(f->port);
    wire_send(&w, "GET /keep HTTP/1.1\r\nHost: x\r\n\r\n");
    wait_kept(f, 1);
    assert_true(wire_wait_end(&idle)); /* so the time is over by now */
    wire_close(&idle);
    answer_text(f->kept[0], 200, MR_BYTES_LITERAL("patience"));
    wire_expect(&w, 200, "patience");
    wire_close(&w);
}

/* --- addresses -------------------------------------------------------------------------------- */

static void test_start_port_in_use_is_named(void **state)
{
    struct fixture *f = *state;
    struct mr_http_listener *other = NULL;
    struct mr_problem problem = {""};
    const struct mr_http_listener_options options = {.host = "127.0.0.1", .port = f->port};
    assert_int_equal(mr_http_listener_create(&options, &other, &problem), MR_OK);
    assert_int_equal(mr_http_listener_start(other, &problem), MR_E_UNAVAILABLE);
    char port[16];
    snprintf(port, sizeof(port), ":%u", (unsigned)f->port);
    assert_non_null(strstr(problem.text, port));
    mr_http_listener_destroy(other);
}

static void test_start_bad_host_is_invalid(void **state)
{
    (void)state;
    struct mr_http_listener *l = NULL;
    struct mr_problem problem = {""};
    const struct mr_http_listener_options options = {.host = "203.0.113.7"};
    assert_int_equal(mr_http_listener_create(&options, &l, &problem), MR_OK);
    assert_int_equal(mr_http_listener_start(l, &problem), MR_E_INVALID);
    mr_http_listener_destroy(l);
}

static void test_start_ipv6_loopback_serves(void **state)
{
    (void)state;
    struct mr_http_listener *l = NULL;
    struct mr_problem problem = {""};
    const struct mr_http_listener_options options = {.host = "::1"};
    assert_int_equal(mr_http_listener_create(&options, &l, &problem), MR_OK);
    if (mr_http_listener_start(l, &problem) != MR_OK) {
        mr_http_listener_destroy(l);
        print_message("no IPv6 here\n");
        skip();
    }
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in6 to = {.sin6_family = AF_INET6,
                              .sin6_port = htons(mr_http_listener_port(l)),
                              .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    struct wire w = wire_of(fd);
    wire_send(&w, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    wire_expect(&w, 404, NULL);
    wire_close(&w);
    mr_http_listener_destroy(l);
}

struct unix_fixture {
    char folder[64];
    char path[96];
    struct fixture f;
};

static int set_up_unix(void **state)
{
    struct unix_fixture *u = calloc(1, sizeof(*u));
    snprintf(u->folder, sizeof(u->folder), "/tmp/mr-listener-XXXXXX");
    assert_non_null(mkdtemp(u->folder));
    snprintf(u->path, sizeof(u->path), "%s/admin.sock", u->folder);
    start_fixture(&u->f, 0, u->path);
    *state = u;
    return 0;
}

static int tear_down_unix(void **state)
{
    struct unix_fixture *u = *state;
    mr_http_listener_destroy(u->f.listener);
    unlink(u->path);
    int left = rmdir(u->folder);
    free(u);
    return left != 0 || mr_alloc_live() != 0;
}

static int connect_unix(const char *path)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    memcpy(to.sun_path, path, strlen(path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static void test_unix_socket_serves_and_is_private(void **state)
{
    struct unix_fixture *u = *state;
    struct stat at;
    assert_int_equal(stat(u->path, &at), 0);
    assert_int_equal(at.st_mode & 0777, 0600);
    struct wire w = wire_of(connect_unix(u->path));
    wire_send(&w, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi");
    wire_expect(&w, 200, "hi");
    wire_close(&w);
    mr_http_listener_stop(u->f.listener, 0);
    assert_int_not_equal(stat(u->path, &at), 0);
}

static void test_unix_socket_in_use_is_left_alone(void **state)
{
    struct unix_fixture *u = *state;
    struct mr_http_listener *other = NULL;
    struct mr_problem problem = {""};
    const struct mr_http_listener_options options = {.socket_path = u->path};
    assert_int_equal(mr_http_listener_create(&options, &other, &problem), MR_OK);
    assert_int_equal(mr_http_listener_start(other, &problem), MR_E_UNAVAILABLE);
    mr_http_listener_destroy(other);
    test_unix_socket_serves_and_is_private(state);
}

static void test_unix_socket_stale_is_replaced_file_is_not(void **state)
{
    struct unix_fixture *u = *state;
    mr_http_listener_stop(u->f.listener, 0);
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    memcpy(at.sun_path, u->path, strlen(u->path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    close(fd); /* as a killed process leaves it */
    struct mr_http_listener *l = NULL;
    struct mr_problem problem = {""};
    const struct mr_http_listener_options options = {.socket_path = u->path};
    assert_int_equal(mr_http_listener_create(&options, &l, &problem), MR_OK);
    assert_int_equal(mr_http_listener_start(l, &problem), MR_OK);
    mr_http_listener_destroy(l);
    FILE *file = fopen(u->path, "w");
    assert_non_null(file);
    fclose(file);
    assert_int_equal(mr_http_listener_create(&options, &l, &problem), MR_OK);
    assert_int_equal(mr_http_listener_start(l, &problem), MR_E_EXISTS);
    mr_http_listener_destroy(l);
    assert_int_equal(access(u->path, F_OK), 0);
}

static void test_unix_socket_too_long_is_named(void **state)
{
    (void)state;
    char path[200];
    memset(path, 'p', sizeof(path));
    path[0] = '/';
    path[sizeof(path) - 1] = '\0';
    struct mr_http_listener *l = NULL;
    struct mr_problem problem = {""};
    const struct mr_http_listener_options options = {.socket_path = path};
    assert_int_equal(mr_http_listener_create(&options, &l, &problem), MR_OK);
    assert_int_equal(mr_http_listener_start(l, &problem), MR_E_TOO_BIG);
    assert_non_null(strstr(problem.text, "data_dir"));
    mr_http_listener_destroy(l);
}

static void test_unix_socket_peer_of_another_user_is_closed(void **state)
{
    struct unix_fixture *u = *state;
    if (geteuid() != 0) {
        print_message("needs root to become another user\n");
        skip();
    }
    assert_int_equal(chmod(u->folder, 0755), 0);
    assert_int_equal(chmod(u->path, 0666), 0); /* as if somebody had opened it up */
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (setgid(65534) != 0 || setuid(65534) != 0) {
            _exit(3);
        }
        int fd = connect_unix(u->path);
        const char *ask = "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n";
        char in[64];
        (void)!send(fd, ask, strlen(ask), MSG_NOSIGNAL);
        _exit(fd < 0 ? 2 : recv(fd, in, sizeof(in), 0) > 0 ? 1 : 0);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(u->f.handled, 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define HASTY(name) cmocka_unit_test_setup_teardown(name, set_up_hasty, tear_down)
#define UNIX(name) cmocka_unit_test_setup_teardown(name, set_up_unix, tear_down_unix)

int main(void)
{
    mr_logger_set_fd(-1);
    const struct CMUnitTest tests[] = {
        CASE(test_answer_later_from_another_thread),
        CASE(test_answer_carries_headers),
        CASE(test_many_kept_answered_in_one_go),
        CASE(test_peer_leaves_while_kept_answer_is_safe),
        CASE(test_stop_answers_held_requests_503),
        CASE(test_stop_races_with_answers),
        CASE(test_stop_waits_for_answers_until_deadline),
        CASE(test_stream_sends_chunks_until_end),
        CASE(test_stream_reader_leaves_write_tells),
        CASE(test_stream_slow_reader_is_dropped),
        CASE(test_stop_ends_streams),
        HASTY(test_idle_connections_are_closed),
        HASTY(test_kept_request_outlives_idle_timeout),
        CASE(test_start_port_in_use_is_named),
        cmocka_unit_test(test_start_bad_host_is_invalid),
        cmocka_unit_test(test_start_ipv6_loopback_serves),
        UNIX(test_unix_socket_serves_and_is_private),
        UNIX(test_unix_socket_in_use_is_left_alone),
        UNIX(test_unix_socket_stale_is_replaced_file_is_not),
        cmocka_unit_test(test_unix_socket_too_long_is_named),
        UNIX(test_unix_socket_peer_of_another_user_is_closed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
