#include "tests/support/test.h"

#include <cjson/cJSON.h>
#include <sys/stat.h>

#include "connectors/http/exchange.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "core/io.h"

static void test_verdict_every_status(void **state)
{
    (void)state;
    for (unsigned status = 0; status < 1000; status++) {
        enum mr_verdict wanted = status >= 500 ? MR_VERDICT_RETRY : MR_VERDICT_DEAD;
        if (status >= 200 && status <= 299) {
            wanted = MR_VERDICT_OK;
        } else if (status == 404 || status == 408 || status == 409) {
            wanted = MR_VERDICT_RETRY;
        } else if (status == 429 || status == 503) {
            wanted = MR_VERDICT_REFUSED;
        }
        if (mr_http_verdict(status) != wanted) {
            fail_msg("%u: %s", status, mr_verdict_text(mr_http_verdict(status)));
        }
    }
}

static void test_verdict_agrees_with_the_vectors(void **state)
{
    (void)state;
    char *text = NULL;
    size_t size = 0;
    if (mr_file_read(MR_SHARED_DIR "/conformance/vectors/delivery.json", 1u << 20, &text, &size) !=
        MR_OK) {
        print_message("no conformance vectors beside the source\n");
        skip();
    }
    cJSON *json = cJSON_ParseWithLength(text, size);
    const cJSON *status = cJSON_GetObjectItemCaseSensitive(json, "status");
    assert_true(cJSON_GetArraySize(status) > 10);
    const cJSON *item;
    cJSON_ArrayForEach(item, status)
    {
        unsigned code = (unsigned)cJSON_GetObjectItemCaseSensitive(item, "code")->valueint;
        enum mr_verdict v = mr_http_verdict(code);
        bool retry = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(item, "retry"));
        bool complete = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(item, "complete"));
        bool error = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(item, "error"));
        assert_int_equal(retry, v == MR_VERDICT_RETRY || v == MR_VERDICT_REFUSED);
        assert_int_equal(complete, v == MR_VERDICT_OK);
        assert_int_equal(error, v != MR_VERDICT_OK);
    }
    cJSON_Delete(json);
    mr_free(text);
}

static void test_retry_after_forms(void **state)
{
    (void)state;
    const uint64_t now = 784111777ull * MR_SECOND; /* Sun, 06 Nov 1994 08:49:37 GMT */
    static const struct {
        const char *text;
        uint64_t seconds;
        bool ok;
    } cases[] = {
        {"0", 0, true},
        {"120", 120, true},
        {"99999999999999999999999999", 365ull * 86400, true},
        {"Sun, 06 Nov 1994 08:49:57 GMT", 20, true},
        {"Sunday, 06-Nov-94 08:49:57 GMT", 20, true},
        {"Sun Nov  6 08:49:57 1994", 20, true},
        {"Sun, 06 Nov 1994 08:49:17 GMT", 0, true},
        {"Sun, 06 Nov 2094 08:49:37 GMT", 365ull * 86400, true},
        {"", 0, false},
        {"-1", 0, false},
        {"soon", 0, false},
        {"1.5", 0, false},
        {"Sun, 06 Nov 1994 08:49:57 GMT and a very long tail that nobody would ever send us", 0,
         false},
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(cases); i++) {
        uint64_t ns = 12345;
        bool ok = mr_http_retry_after(mr_bytes_of(cases[i].text), now, &ns);
        if (ok != cases[i].ok || ns != (ok ? cases[i].seconds * MR_SECOND : 12345)) {
            fail_msg("%s: %d %llu", cases[i].text, ok, (unsigned long long)(ns / MR_SECOND));
        }
    }
}

static struct mr_handout *plain_handout(void)
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
    assert_int_equal(mr_event_builder_finish(&b, true, &h->event, NULL), MR_OK);
    return h;
}

static cJSON *read_vectors(void)
{
    char *text = NULL;
    size_t size = 0;
    if (mr_file_read(MR_SHARED_DIR "/conformance/vectors/delivery.json", 1u << 20, &text, &size) !=
        MR_OK) {
        print_message("SKIPPED: no conformance vectors beside the source\n");
        skip();
    }
    cJSON *json = cJSON_ParseWithLength(text, size);
    mr_free(text);
    return json;
}

/* The header as the vectors write it: seconds, or "now+20s as IMF-fixdate". What the bus makes of
 * it beside its backoff and limit is the bus's test. */
static void test_retry_after_agrees_with_the_vectors(void **state)
{
    (void)state;
    cJSON *json = read_vectors();
    const cJSON *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(json, "retry_after"))
    {
        const uint64_t now_s = 1700000000;
        const char *header = cJSON_GetObjectItemCaseSensitive(item, "header")->valuestring;
        char text[64];
        long shift = strtol(header, NULL, 10);
        uint64_t ns = 0;
        snprintf(text, sizeof(text), "%s", header);
        if (strncmp(header, "now", 3) == 0) {
            shift = strtol(header + 3, NULL, 10);
            time_t at = (time_t)now_s + shift;
            struct tm tm;
            gmtime_r(&at, &tm);
            strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &tm);
        }
        assert_true(mr_http_retry_after(mr_bytes_of(text), now_s * MR_SECOND, &ns));
        assert_int_equal(ns / MR_SECOND, shift > 0 ? shift : 0);
        unsigned status = (unsigned)cJSON_GetObjectItemCaseSensitive(item, "status")->valueint;
        assert_int_equal(mr_http_verdict(status), MR_VERDICT_REFUSED);
    }
    cJSON_Delete(json);
}

static void test_reply_agrees_with_the_vectors(void **state)
{
    (void)state;
    cJSON *json = read_vectors();
    struct mr_http_client_options options = {0};
    struct mr_http_request_plan plan;
    struct mr_http_exchange x;
    assert_int_equal(mr_http_plan_init(&plan, &options, true, "pager", "1"), MR_OK);
    mr_http_exchange_init(&x);
    const cJSON *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(json, "reply"))
    {
        const cJSON *status = cJSON_GetObjectItemCaseSensitive(item, "status");
        const cJSON *headers = cJSON_GetObjectItemCaseSensitive(item, "headers");
        if (status == NULL) {
            continue; /* the loop guard: not seen on the wire */
        }
        assert_int_equal(mr_http_exchange_begin(&x, &plan, plain_handout()), MR_OK);
        mr_http_exchange_status(&x, (unsigned)status->valueint);
        for (const cJSON *header = headers->child; header != NULL; header = header->next) {
            mr_http_exchange_field(&x, mr_bytes_of(header->string),
                                   mr_bytes_of(header->valuestring));
        }
        mr_http_exchange_head_end(&x);
        const char *body = cJSON_GetObjectItemCaseSensitive(item, "body")->valuestring;
        assert_true(mr_http_exchange_body(&x, mr_bytes_of(body)));
        struct mr_handout *h = mr_http_exchange_finish(&x, &plan);
        const char *expect = cJSON_GetObjectItemCaseSensitive(item, "expect")->valuestring;
        assert_int_equal(h->answer.verdict, MR_VERDICT_OK);
        assert_int_equal(h->answer.emitted_count, strstr(expect, "routed") != NULL ? 1 : 0);
        mr_handout_destroy(h);
    }
    mr_http_exchange_release(&x);
    mr_http_plan_release(&plan);
    cJSON_Delete(json);
}

static void test_interim_response_leaves_nothing_behind(void **state)
{
    (void)state;
    struct mr_http_client_options options = {0};
    struct mr_http_request_plan plan;
    struct mr_http_exchange x;
    assert_int_equal(mr_http_plan_init(&plan, &options, true, "pager", "1"), MR_OK);
    mr_http_exchange_init(&x);
    assert_int_equal(mr_http_exchange_begin(&x, &plan, plain_handout()), MR_OK);
    mr_http_exchange_status(&x, 103);
    mr_http_exchange_field(&x, MR_BYTES_LITERAL("ce-id"), MR_BYTES_LITERAL("old"));
    mr_http_exchange_field(&x, MR_BYTES_LITERAL("Retry-After"), MR_BYTES_LITERAL("9"));
    mr_http_exchange_head_end(&x);
    assert_int_equal(x.field_count, 1);
    mr_http_exchange_status(&x, 503);
    assert_int_equal(x.field_count, 0);
    assert_false(x.is_head_whole);
    struct mr_handout *h = mr_http_exchange_finish(&x, &plan);
    assert_int_equal(h->answer.verdict, MR_VERDICT_REFUSED);
    assert_false(h->answer.has_after);
    mr_handout_destroy(h);
    mr_http_exchange_release(&x);
    mr_http_plan_release(&plan);
}

static void test_more_fields_than_fit_drop_the_reply(void **state)
{
    (void)state;
    struct mr_http_client_options options = {0};
    struct mr_http_request_plan plan;
    struct mr_http_exchange x;
    assert_int_equal(mr_http_plan_init(&plan, &options, true, "pager", "1"), MR_OK);
    mr_http_exchange_init(&x);
    assert_int_equal(mr_http_exchange_begin(&x, &plan, plain_handout()), MR_OK);
    mr_http_exchange_status(&x, 200);
    static const char *const required[][2] = {
        {"ce-specversion", "1.0"}, {"ce-id", "1"}, {"ce-source", "/s"}, {"ce-type", "t"}};
    for (size_t i = 0; i < MR_ARRAY_COUNT(required); i++) {
        mr_http_exchange_field(&x, mr_bytes_of(required[i][0]), mr_bytes_of(required[i][1]));
    }
    for (int i = 0; i < 1000; i++) {
        char name[16];
        snprintf(name, sizeof(name), "ce-x%d", i);
        mr_http_exchange_field(&x, mr_bytes_of(name), MR_BYTES_LITERAL("v"));
    }
    assert_true(x.fields_cut);
    struct mr_handout *h = mr_http_exchange_finish(&x, &plan);
    assert_int_equal(h->answer.verdict, MR_VERDICT_OK);
    assert_int_equal(h->answer.emitted_count, 0);
    assert_non_null(strstr(h->answer.error, "dropped"));
    mr_handout_destroy(h);
    mr_http_exchange_release(&x);
    mr_http_plan_release(&plan);
}

static void test_body_beyond_the_limit_is_cut(void **state)
{
    (void)state;
    struct mr_http_exchange x;
    static const uint8_t chunk[65536] = {0};
    mr_http_exchange_init(&x);
    for (int i = 0; i < 16; i++) {
        assert_true(mr_http_exchange_body(&x, mr_bytes(chunk, sizeof(chunk))));
    }
    assert_false(mr_http_exchange_body(&x, mr_bytes(chunk, 1)));
    assert_true(x.body_cut);
    mr_http_exchange_release(&x);
}

static void test_failures_give_verdicts(void **state)
{
    (void)state;
    static const struct {
        enum mr_http_failure failure;
        enum mr_verdict verdict;
    } cases[] = {
        {MR_HTTP_NOT_REACHED, MR_VERDICT_REFUSED}, {MR_HTTP_TIMED_OUT, MR_VERDICT_RETRY},
        {MR_HTTP_BROKEN, MR_VERDICT_RETRY},        {MR_HTTP_STOPPED, MR_VERDICT_CRASH},
        {MR_HTTP_NOT_STARTED, MR_VERDICT_REFUSED},
    };
    struct mr_http_client_options options = {0};
    struct mr_http_request_plan plan;
    struct mr_http_exchange x;
    assert_int_equal(mr_http_plan_init(&plan, &options, false, "pager", "1"), MR_OK);
    mr_http_exchange_init(&x);
    for (size_t i = 0; i < MR_ARRAY_COUNT(cases); i++) {
        assert_int_equal(mr_http_exchange_begin(&x, &plan, plain_handout()), MR_OK);
        struct mr_handout *h = mr_http_exchange_fail(&x, &plan, cases[i].failure, "why\x07");
        assert_int_equal(h->answer.verdict, cases[i].verdict);
        assert_string_equal(h->answer.error, "why ");
        mr_handout_destroy(h);
    }
    mr_http_exchange_release(&x);
    mr_http_plan_release(&plan);
    assert_int_equal(mr_alloc_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verdict_every_status),
        cmocka_unit_test(test_verdict_agrees_with_the_vectors),
        cmocka_unit_test(test_retry_after_forms),
        cmocka_unit_test(test_retry_after_agrees_with_the_vectors),
        cmocka_unit_test(test_reply_agrees_with_the_vectors),
        cmocka_unit_test(test_interim_response_leaves_nothing_behind),
        cmocka_unit_test(test_more_fields_than_fit_drop_the_reply),
        cmocka_unit_test(test_body_beyond_the_limit_is_cut),
        cmocka_unit_test(test_failures_give_verdicts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
