/* The administrative interface over real sockets, with an engine that is made up. */
#include "tests/support/test.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "admin/admin.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "core/logger.h"

struct fixture {
    struct mr_admin_host host; /* first: cast back in the calls */
    char folder[64];
    char socket_path[96];
    struct mr_http_listener *socket;
    struct mr_http_listener *ingest;
    struct mr_admin *admin;
    enum mr_status call_result;
    pthread_mutex_t mu; /* held by the test: the bus does not answer */
    bool ready;
    enum mr_status submit_result;
    enum mr_status batch_result;
    bool has_tails;
    _Atomic bool stop_requested;
    _Atomic uint32_t calls;
};

static enum mr_status fake_call(struct mr_admin_host *host,
                                void (*fn)(void *argument, struct mr_bus *bus, struct mr_now now),
                                void *argument)
{
    (void)fn; /* there is no bus to run it on */
    (void)argument;
    struct fixture *f = (struct fixture *)host;
    pthread_mutex_lock(&f->mu);
    pthread_mutex_unlock(&f->mu);
    atomic_fetch_add(&f->calls, 1);
    return f->call_result;
}

static const struct mr_config *fake_config(struct mr_admin_host *host,
                                           const struct mr_router **ret_router)
{
    (void)host;
    *ret_router = NULL;
    return NULL;
}

static void fake_config_release(struct mr_admin_host *host, const struct mr_config *config)
{
    (void)host;
    (void)config;
    fail();
}

static void fake_instances(struct mr_admin_host *host,
                           void (*fn)(void *context, const struct mr_admin_instance *instance),
                           void *context)
{
    (void)host;
    struct mr_admin_instance shop = {
        .name = "shop", .kind = "http", .is_source = true, .events = 5};
    (void)snprintf(shop.health.last_error, sizeof(shop.health.last_error), "quoted \"text\"");
    fn(context, &shop);
}

static enum mr_status fake_pause(struct mr_admin_host *host, const char *name, bool paused)
{
    (void)host;
    (void)name;
    (void)paused;
    return MR_OK;
}

static enum mr_status fake_reload(struct mr_admin_host *host, bool dry_run, struct mr_buf *out,
                                  struct mr_buf *problem)
{
    (void)host;
    (void)out;
    assert_true(dry_run);
    assert_int_equal(mr_buf_append_text(problem, "a.yaml:1:2: one\na.yaml:3:4: two\n"), MR_OK);
    return MR_E_INVALID;
}

static enum mr_status fake_submit(struct mr_admin_host *host, const char *source, const char *to,
                                  struct mr_batch *batch, struct mr_problem *problem)
{
    (void)source;
    (void)to;
    struct fixture *f = (struct fixture *)host;
    if (f->submit_result != MR_OK) {
        return mr_problem_set(problem, f->submit_result, "no such source");
    }
    for (uint32_t i = 0; i < batch->count; i++) {
        batch->items[i].offset = 100 + i;
    }
    batch->result = f->batch_result;
    batch->op.type = MR_SOURCE_OP_BATCH_DONE;
    batch->op.next = NULL;
    return mr_opq_push(batch->reply, &batch->op);
}

static uint64_t fake_tail_add(struct mr_admin_host *host,
                              void (*fn)(void *context, uint64_t offset, uint32_t source,
                                         struct mr_bytes record),
                              void *context)
{
    (void)fn;
    (void)context;
    return ((struct fixture *)host)->has_tails ? 1 : 0;
}

static void fake_tail_remove(struct mr_admin_host *host, uint64_t handle)
{
    (void)host;
    assert_int_equal(handle, 1);
}

static bool fake_is_ready(struct mr_admin_host *host, char *why_not, size_t size)
{
    struct fixture *f = (struct fixture *)host;
    (void)snprintf(why_not, size, "%s", f->ready ? "" : "the moon is wrong");
    return f->ready;
}

static void fake_request_stop(struct mr_admin_host *host)
{
    atomic_store(&((struct fixture *)host)->stop_requested, true);
}

static void fake_running(struct mr_admin_host *host, uint32_t id, const char *delivery,
                         struct mr_buf *json)
{
    (void)host;
    (void)id;
    if (delivery == NULL && mr_buf_append_text(json, "[{\"instance\":\"w/1\"}]") != MR_OK) {
        fail_msg("no memory");
    }
}

static void fake_jq(struct mr_admin_host *host,
                    void (*fn)(void *context, bool is_source, const char *name,
                               const struct mr_jq_counts *counts),
                    void *context)
{
    (void)host;
    const struct mr_jq_counts counts = {.runs = 5, .errors = 2, .kills = 1,
                                        .busy_ns = 1500 * MR_MS};
    fn(context, true, "shop", &counts);
}

static void fake_usage(struct mr_admin_host *host,
                       void (*fn)(void *context, const struct mr_usage *usage), void *context)
{
    (void)host;
    char subscription[] = "s";
    char worker[] = "w";
    fn(context, &(struct mr_usage){.subscription_name = subscription, .worker_name = worker,
                                   .invocations = 3, .busy_ns = 250000000, .busy_units = 5});
}

static const struct mr_admin_host_ops fake_ops = {
    .call = fake_call,
    .config = fake_config,
    .config_release = fake_config_release,
    .instances = fake_instances,
    .running = fake_running,
    .usage = fake_usage,
    .jq = fake_jq,
    .pause_source = fake_pause,
    .reload = fake_reload,
    .submit = fake_submit,
    .tail_add = fake_tail_add,
    .tail_remove = fake_tail_remove,
    .is_ready = fake_is_ready,
    .request_stop = fake_request_stop,
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    pthread_mutex_init(&f->mu, NULL);
    mr_logger_set_fd(-1);
    (void)snprintf(f->folder, sizeof(f->folder), "/tmp/mr-admin-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    (void)snprintf(f->socket_path, sizeof(f->socket_path), "%s/s", f->folder);
    f->host = (struct mr_admin_host){.ops = &fake_ops, .log_dir = f->folder};
    f->call_result = MR_E_CLOSED;
    f->ready = true;
    struct mr_problem problem;
    struct mr_http_listener_options tcp = {.host = "127.0.0.1", .connections_max = 16};
    struct mr_http_listener_options local = {.socket_path = f->socket_path, .connections_max = 16};
    assert_int_equal(mr_http_listener_create(&tcp, &f->ingest, &problem), MR_OK);
    assert_int_equal(mr_http_listener_create(&local, &f->socket, &problem), MR_OK);
    assert_int_equal(mr_http_listener_start(f->ingest, &problem), MR_OK);
    assert_int_equal(mr_http_listener_start(f->socket, &problem), MR_OK);
    assert_int_equal(mr_admin_create(&f->host, f->socket, f->ingest, &f->admin, &problem), MR_OK);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    mr_admin_destroy(f->admin);
    struct mr_http_listener *listeners[] = {f->socket, f->ingest};
    for (size_t i = 0; i < 2; i++) {
        mr_http_listener_stop(listeners[i], mr_clock_mono_ns() + MR_SECOND);
        mr_http_listener_destroy(listeners[i]);
    }
    (void)unlink(f->socket_path);
    (void)rmdir(f->folder);
    pthread_mutex_destroy(&f->mu);
    free(f);
    return 0;
}

/* --- asking ----------------------------------------------------------------------------------- */

struct reply {
    long status;
    char body[65536];
    size_t size;
};

static size_t take(char *data, size_t size, size_t count, void *context)
{
    struct reply *reply = context;
    size_t all = size * count;
    if (all >= sizeof(reply->body) - reply->size) {
        return 0;
    }
    memcpy(reply->body + reply->size, data, all);
    reply->size += all;
    return all;
}

/* @param body NULL: a GET */
static struct reply ask(struct fixture *f, bool over_tcp, const char *path, const char *body)
{
    struct reply reply = {0};
    char url[256];
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u%s",
                   (unsigned)mr_http_listener_port(f->ingest), path);
    CURL *curl = curl_easy_init();
    assert_non_null(curl);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    if (!over_tcp) {
        curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, f->socket_path);
    }
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &reply);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, 20L);
    if (body != NULL) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
    }
    assert_int_equal(curl_easy_perform(curl), CURLE_OK);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &reply.status);
    curl_easy_cleanup(curl);
    reply.body[reply.size] = '\0';
    return reply;
}

static void expect(struct reply reply, long status, const char *part)
{
    assert_int_equal(reply.status, status);
    if (strstr(reply.body, part) == NULL) {
        fail_msg("\"%s\" is not in %s", part, reply.body);
    }
}

static void test_admin_livez_answers_while_the_bus_hangs(void **state)
{
    struct fixture *f = *state;
    pthread_mutex_lock(&f->mu);
    expect(ask(f, true, "/livez", NULL), 200, "ok");
    expect(ask(f, false, "/livez", NULL), 200, "ok");
    pthread_mutex_unlock(&f->mu);
}

static void test_admin_livez_asks_the_bus_only_when_asked(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(atomic_load(&f->calls), 0);
    uint64_t deadline_ns = mr_clock_mono_ns() + 20 * MR_SECOND;
    while (atomic_load(&f->calls) == 0) {
        expect(ask(f, true, "/livez", NULL), 200, "ok");
        assert_true(mr_clock_mono_ns() < deadline_ns);
    }
}

static void test_admin_readyz_says_why_not(void **state)
{
    struct fixture *f = *state;
    expect(ask(f, true, "/readyz", NULL), 200, "ready");
    f->ready = false;
    expect(ask(f, true, "/readyz", NULL), 503, "the moon is wrong");
}

static void test_admin_ingest_listener_has_no_api(void **state)
{
    struct fixture *f = *state;
    expect(ask(f, true, "/api/v1/sources", NULL), 404, "");
    expect(ask(f, false, "/api/v1/sources", NULL), 200, "\"name\":\"shop\"");
}

static void test_admin_unknown_path_and_method(void **state)
{
    struct fixture *f = *state;
    expect(ask(f, false, "/api/v1/nothing", NULL), 404, "error");
    expect(ask(f, false, "/api/v1/reload", NULL), 405, "error");
    expect(ask(f, false, "/api/v1/status", "x"), 405, "error");
}

static void test_admin_stopping_bus_is_503(void **state)
{
    struct fixture *f = *state;
    static const char *const paths[] = {"/metrics", "/api/v1/status", "/api/v1/log",
                                        "/api/v1/subscriptions", "/api/v1/subscriptions/a",
                                        "/api/v1/trace/x", "/api/v1/dlq/s", "/api/v1/targets",
                                        "/api/v1/why?event=a&subscription=b"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(paths); i++) {
        expect(ask(f, false, paths[i], NULL), 503, "error");
    }
    expect(ask(f, false, "/api/v1/clock/accept", ""), 503, "error");
    expect(ask(f, false, "/api/v1/dlq/s/redrive", ""), 503, "error");
}

static void test_admin_action_that_cannot_be_logged_has_no_effect(void **state)
{
    struct fixture *f = *state;
    expect(ask(f, false, "/api/v1/sources/shop/pause", ""), 503, "error");
    expect(ask(f, false, "/api/v1/sources/nobody/pause", ""), 404, "no source is called nobody");
}

static void test_admin_source_is_escaped(void **state)
{
    struct fixture *f = *state;
    expect(ask(f, false, "/api/v1/sources/shop", NULL), 200, "quoted \\\"text\\\"");
    expect(ask(f, false, "/api/v1/sources/nobody", NULL), 404, "nobody");
}

static void test_admin_reload_lists_every_error(void **state)
{
    struct fixture *f = *state;
    expect(ask(f, false, "/api/v1/reload?dry_run=true", ""), 400,
           "\"errors\":[\"a.yaml:1:2: one\",\"a.yaml:3:4: two\"]");
}

#define EVENT "{\"specversion\":\"1.0\",\"id\":\"i1\",\"source\":\"/s\",\"type\":\"t\"}"

static void test_admin_events_answers_offsets_once_durable(void **state)
{
    struct fixture *f = *state;
    expect(ask(f, false, "/api/v1/events", EVENT), 200, "[{\"id\":\"i1\",\"offset\":100}]");
    expect(ask(f, false, "/api/v1/events", " [" EVENT "," EVENT "]"), 200, "\"offset\":101}");
    expect(ask(f, false, "/api/v1/events", "[]"), 200, "{\"events\":[]}");
}

static void test_admin_events_refused_says_why(void **state)
{
    struct fixture *f = *state;
    expect(ask(f, false, "/api/v1/events", "nonsense"), 400, "error");
    expect(ask(f, false, "/api/v1/events", ""), 400, "error");
    f->batch_result = MR_E_DISK_LOW;
    expect(ask(f, false, "/api/v1/events", EVENT), 503, "disk");
    f->submit_result = MR_E_NOT_FOUND;
    expect(ask(f, false, "/api/v1/events", EVENT), 404, "no such source");
}

static void test_admin_bad_arguments_are_400(void **state)
{
    struct fixture *f = *state;
    expect(ask(f, false, "/api/v1/why?event=a", NULL), 400, "subscription=NAME");
    expect(ask(f, false, "/api/v1/dlq/s/redrive?canary=3", ""), 400, "canary");
    expect(ask(f, false, "/api/v1/tail?filter=x", NULL), 400, "error");
}

static void test_admin_tail_that_cannot_be_added_is_503(void **state)
{
    struct fixture *f = *state;
    expect(ask(f, false, "/api/v1/tail", NULL), 503, "error");
}

static void test_admin_stop_is_passed_on(void **state)
{
    struct fixture *f = *state;
    expect(ask(f, false, "/api/v1/stop", ""), 200, "stopping");
    uint64_t deadline_ns = mr_clock_mono_ns() + 20 * MR_SECOND;
    while (!atomic_load(&f->stop_requested)) {
        assert_true(mr_clock_mono_ns() < deadline_ns);
    }
}

static void test_admin_create_without_memory_fails_cleanly(void **state)
{
    struct fixture *f = *state;
    mr_admin_destroy(f->admin);
    f->admin = NULL;
    int64_t live = mr_alloc_live();
    enum mr_status r = MR_E_NOMEM;
    for (uint64_t nth = 1; nth < 100 && r != MR_OK; nth++) {
        struct mr_problem problem;
        (void)mr_alloc_fail_at(nth, 0);
        r = mr_admin_create(&f->host, f->socket, f->ingest, &f->admin, &problem);
        (void)mr_alloc_fail_at(0, 0);
        assert_true(r == MR_OK || mr_alloc_live() == live);
    }
    assert_int_equal(r, MR_OK);
    expect(ask(f, true, "/livez", NULL), 200, "ok");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_admin_livez_answers_while_the_bus_hangs),
        CASE(test_admin_livez_asks_the_bus_only_when_asked),
        CASE(test_admin_readyz_says_why_not),
        CASE(test_admin_ingest_listener_has_no_api),
        CASE(test_admin_unknown_path_and_method),
        CASE(test_admin_stopping_bus_is_503),
        CASE(test_admin_action_that_cannot_be_logged_has_no_effect),
        CASE(test_admin_source_is_escaped),
        CASE(test_admin_reload_lists_every_error),
        CASE(test_admin_events_answers_offsets_once_durable),
        CASE(test_admin_events_refused_says_why),
        CASE(test_admin_bad_arguments_are_400),
        CASE(test_admin_tail_that_cannot_be_added_is_503),
        CASE(test_admin_stop_is_passed_on),
        CASE(test_admin_create_without_memory_fails_cleanly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
