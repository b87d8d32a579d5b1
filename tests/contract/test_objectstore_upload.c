/* Uploads to a real MinIO: in one piece, in parts, and what a failure leaves behind. */
#include "tests/support/test.h"

#include "connectors/objectstore/listing.h"
#include "connectors/objectstore/upload.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "tests/support/server.h"

static struct server store;
static struct mr_url *url;
static struct mr_service service;

/* --- one call at a time ----------------------------------------------------------------------- */

static void call_done(void *context, struct mr_call *call)
{
    (void)call;
    *(bool *)context = true;
}

static void run_call(struct mr_call *call, const char *method, const char *path, const char *query)
{
    bool done = false;
    mr__call_clear(call);
    call->method = method;
    call->timeout_ns = 20 * MR_SECOND;
    call->done = call_done;
    call->context = &done;
    assert_int_equal(mr_buf_append_text(&call->path, path), MR_OK);
    assert_int_equal(mr_buf_append_text(&call->query, query), MR_OK);
    assert_int_equal(mr__client_start(service.client, call), MR_OK);
    while (!done) {
        mr__client_run(service.client, -1, 100);
    }
}

static void upload_done(void *context, struct mr_upload *upload)
{
    (void)upload;
    *(bool *)context = true;
}

static struct mr_upload upload(const char *path, struct mr_bytes data, uint64_t timeout_ns)
{
    bool done = false;
    struct mr_upload u;
    mr__upload_init(&u);
    u.service = &service;
    u.path = mr_bytes_of(path);
    u.data = data;
    u.content_type = "application/x-test";
    u.part_size = MR_UPLOAD_PART_SIZE_MIN;
    u.deadline_ns = mr_clock_mono_ns() + timeout_ns;
    u.done = upload_done;
    u.context = &done;
    u.call.context = &u;
    assert_int_equal(mr__upload_start(&u), MR_OK);
    while (!done) {
        mr__client_run(service.client, -1, 100);
    }
    assert_int_equal(u.step, MR_UPLOAD_IDLE);
    mr__upload_release(&u);
    return u;
}

static uint8_t *make_data(size_t size)
{
    uint8_t *data = malloc(size);
    assert_non_null(data);
    for (size_t i = 0; i < size; i++) {
        data[i] = (uint8_t)(i * 31 + i / 4096);
    }
    return data;
}

static int set_up(void **state)
{
    (void)state;
    char line[64];
    struct mr_problem problem;
    static struct mr_secret *secret;
    server_make(&store, "minio.sh");
    snprintf(line, sizeof(line), "http://127.0.0.1:%u/lake", store.port);
    secret = mr_secret_create(MR_BYTES_LITERAL("minioadmin"));
    static char key[] = "minioadmin";
    static struct mr_objectstore_peer peer;
    if (mr_parse_url(mr_bytes_of(line), &url, &problem) != MR_OK) {
        return -1;
    }
    peer = (struct mr_objectstore_peer){.url = url, .access_key = key, .secret_key = secret};
    if (mr__service_init(&service, &peer, "s3", 2, &problem) != MR_OK) {
        return -1;
    }
    mr_secret_destroy(secret);
    struct mr_call call;
    mr__call_init(&call, 65536);
    do { /* it is ready a little before it is initialised */
        run_call(&call, "PUT", "/lake", "");
    } while (call.status == 503);
    unsigned status = call.status;
    mr__call_release(&call);
    return status == 200 ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    mr__service_release(&service);
    mr_url_destroy(url);
    server_remove(&store);
    return 0;
}

static void check_object(const char *path, struct mr_bytes data)
{
    struct mr_call call;
    mr__call_init(&call, 64u << 20);
    run_call(&call, "GET", path, "");
    assert_int_equal(call.status, 200);
    assert_int_equal(call.answer.size, data.size);
    assert_true(mr_bytes_equal(mr_buf_bytes(&call.answer), data));
    mr__call_release(&call);
}

static void test_upload_sizes(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 5u << 20, (5u << 20) + 1, 10u << 20, (23u << 20) + 77};
    for (size_t i = 0; i < MR_ARRAY_COUNT(sizes); i++) {
        uint8_t *data = make_data(sizes[i] + 1);
        char path[64];
        snprintf(path, sizeof(path), "/lake/dir/size%%20%zu", sizes[i]);
        struct mr_upload u = upload(path, mr_bytes(data, sizes[i]), 60 * MR_SECOND);
        assert_string_equal(u.error, "");
        assert_int_equal(u.end, MR_CALL_OK);
        check_object(path, mr_bytes(data, sizes[i]));
        free(data);
    }
}

static void test_upload_fails(void **state)
{
    (void)state;
    uint8_t *data = make_data(12u << 20);
    struct mr_upload u = upload("/missing/key", mr_bytes(data, 12u << 20), 20 * MR_SECOND);
    assert_int_equal(u.end, MR_CALL_RETRY);
    assert_non_null(strstr(u.error, "begin: HTTP 404 NoSuchBucket"));
    free(data);
}

/* Parts that were sent are asked to be forgotten: the store lists no upload. The time is over
 * within a part: before, while it begins, the store may know of an upload whose id never got here.
 * How long either takes is the machine's, so it is tried out. */
static void test_upload_late_in_a_part_leaves_nothing(void **state)
{
    (void)state;
    uint8_t *data = make_data(40u << 20);
    char key[32];
    char path[64];
    char query[64];
    bool in_part = false;
    uint64_t wait_ns = 5 * MR_MS;
    for (int i = 0; i < 100 && !in_part; i++) {
        (void)snprintf(key, sizeof(key), "late%d-", i);
        (void)snprintf(path, sizeof(path), "/lake/%s", key);
        struct mr_upload u = upload(path, mr_bytes(data, 40u << 20), wait_ns);
        in_part = strncmp(u.error, "part: ", 6) == 0 && strstr(u.error, "timed out") != NULL;
        wait_ns = u.end == MR_CALL_OK ? 5 * MR_MS : wait_ns + wait_ns / 4;
    }
    assert_true(in_part);
    struct mr_call call;
    mr__call_init(&call, 65536);
    (void)snprintf(query, sizeof(query), "prefix=%s&uploads=", key);
    run_call(&call, "GET", "/lake", query);
    assert_int_equal(call.status, 200);
    assert_null(memmem(call.answer.data, call.answer.size, "<UploadId>", 10));
    mr__call_release(&call);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_upload_sizes),
        cmocka_unit_test(test_upload_fails),
        cmocka_unit_test(test_upload_late_in_a_part_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
