#include "tests/unit/schemas/support.h"

#include "schemas/adapter.h"

#define WALL_NS (1700000000ull * MR_SECOND)
#define MINIMAL "{\"specversion\":\"1.0\",\"id\":\"e1\",\"type\":\"t.t\",\"source\":\"/s\""

static void test_generic_takes_the_body_under_its_type(void **state)
{
    (void)state;
    struct mr_field headers[] = {{mr_bytes_of("X-Other"), mr_bytes_of("1")},
                                 {mr_bytes_of("content-TYPE"), mr_bytes_of(" text/plain ")}};
    struct mr_event *event = NULL;
    assert_int_equal(mr_adapt_generic(headers, 2, mr_bytes_of("hello"), mr_bytes_of("g1"),
                                      mr_bytes_of("/millrace/source/web"), mr_bytes_of("a.b"),
                                      WALL_NS, MR_EVENT_SIZE_MAX, &event, NULL),
                     MR_OK);
    assert_bytes(mr_event_id(mr_event_record(event)), "g1");
    assert_bytes(mr_event_type(mr_event_record(event)), "a.b");
    assert_value(event, "datacontenttype", "text/plain");
    assert_value(event, "time", "2023-11-14T22:13:20.000Z");
    assert_bytes(mr_event_data(mr_event_record(event)), "hello");
    mr_event_unref(event);
}

static void test_generic_without_or_with_a_bad_type_is_octets(void **state)
{
    (void)state;
    struct mr_field bad = {mr_bytes_of("Content-Type"), mr_bytes_of("nonsense")};
    for (uint32_t count = 0; count < 2; count++) {
        struct mr_event *event = NULL;
        assert_int_equal(mr_adapt_generic(&bad, count, mr_bytes_of("\xFF"), mr_bytes_of("g1"),
                                          mr_bytes_of("/s"), mr_bytes_of("t"), WALL_NS,
                                          MR_EVENT_SIZE_MAX, &event, NULL),
                         MR_OK);
        assert_value(event, "datacontenttype", "application/octet-stream");
        mr_event_unref(event);
    }
}

static void test_generic_without_body_has_no_data(void **state)
{
    (void)state;
    struct mr_event *event = NULL;
    assert_int_equal(mr_adapt_generic(NULL, 0, (struct mr_bytes){0}, mr_bytes_of("g1"),
                                      mr_bytes_of("/s"), mr_bytes_of("t"), WALL_NS,
                                      MR_EVENT_SIZE_MAX, &event, NULL),
                     MR_OK);
    assert_false(mr_event_has_data(mr_event_record(event)));
    assert_false(has_attr(event, "datacontenttype"));
    mr_event_unref(event);
}

static void test_generic_with_a_bad_source_is_invalid(void **state)
{
    (void)state;
    struct mr_event *event = NULL;
    struct mr_problem problem = {0};
    assert_int_equal(mr_adapt_generic(NULL, 0, (struct mr_bytes){0}, mr_bytes_of("g1"),
                                      mr_bytes_of("/<x>"), mr_bytes_of("t"), WALL_NS,
                                      MR_EVENT_SIZE_MAX, &event, &problem),
                     MR_E_INVALID);
    assert_non_null(strstr(problem.text, "source"));
    assert_null(event);
}

static void test_rejected_keeps_the_raw_bytes_and_a_clean_reason(void **state)
{
    (void)state;
    struct mr_event *event = NULL;
    assert_int_equal(mr_adapt_rejected(mr_bytes_of("my source"), mr_bytes_of("r1"),
                                       mr_bytes_of("\xFF{bad"), "line\nbreak \xEF\xBF\xBE", WALL_NS,
                                       MR_EVENT_SIZE_MAX, &event),
                     MR_OK);
    assert_bytes(mr_event_type(mr_event_record(event)), "io.millrace.ingest.rejected");
    assert_bytes(mr_event_source(mr_event_record(event)), "/millrace/source/my%20source");
    assert_value(event, "reason", "line break ???");
    assert_bytes(mr_event_data(mr_event_record(event)), "\xFF{bad");
    assert_false(has_attr(event, "truncated"));
    assert_int_equal(mr_event_check(mr_event_record(event)), MR_OK);
    mr_event_unref(event);
}

static void test_rejected_cuts_what_does_not_fit(void **state)
{
    (void)state;
    char raw[4000];
    memset(raw, 'x', sizeof(raw));
    char reason[2000];
    memset(reason, 'r', sizeof(reason) - 1);
    reason[sizeof(reason) - 1] = '\0';
    struct mr_event *event = NULL;
    assert_int_equal(mr_adapt_rejected(mr_bytes_of("s"), mr_bytes_of("r1"),
                                       mr_bytes(raw, sizeof(raw)), reason, WALL_NS, 2000, &event),
                     MR_OK);
    assert_int_equal(event->size, 2000);
    assert_value(event, "truncated", "true");
    assert_int_equal(mr_event_value(mr_event_record(event), "reason").size, MR_ERROR_TEXT_MAX - 1);
    mr_event_unref(event);
    event = NULL;
    assert_int_equal(mr_adapt_rejected(mr_bytes_of("s"), mr_bytes_of("r1"), mr_bytes(raw, 10), NULL,
                                       WALL_NS, 50, &event),
                     MR_E_TOO_BIG);
    assert_null(event);
}

static void test_hops_reads_the_extension(void **state)
{
    (void)state;
    const struct {
        const char *text;
        uint32_t hops;
    } cases[] = {{MINIMAL "}", 0},
                 {MINIMAL ",\"mrhops\":7}", 7},
                 {MINIMAL ",\"mrhops\":\"8\"}", 8},
                 {MINIMAL ",\"mrhops\":\"x\"}", 0},
                 {MINIMAL ",\"mrhops\":-1}", 0},
                 {MINIMAL ",\"mrhops\":\"99999999999\"}", UINT32_MAX}};
    for (size_t i = 0; i < MR_ARRAY_COUNT(cases); i++) {
        struct mr_event *event = decode_ok(cases[i].text);
        assert_int_equal(mr_event_hops(mr_event_record(event)), cases[i].hops);
        mr_event_unref(event);
    }
}

static const struct mr_outcome_attempt attempts[] = {
    {1, WALL_NS, WALL_NS + MR_SECOND, "crash", "signal 11 \"x\"\n"},
    {2, WALL_NS + 2 * MR_SECOND, WALL_NS + 3 * MR_SECOND, "dead", NULL},
};

static enum mr_status outcome(const struct mr_event *of, const char *result, size_t size_max,
                              struct mr_event **ret_event)
{
    *ret_event = NULL;
    return mr_adapt_outcome(mr_event_record(of), "7.shop", "shop sub", "dead", "retries used up",
                            attempts, 2, mr_bytes_of(result), WALL_NS, size_max, ret_event);
}

static cJSON *document_of(const struct mr_event *event)
{
    struct mr_bytes data = mr_event_data(mr_event_record(event));
    assert_true(mr_event_data_is_json(mr_event_record(event)));
    cJSON *json = cJSON_ParseWithLength((const char *)data.data, data.size);
    assert_non_null(json);
    return json;
}

static void test_shed_tells_everything(void **state)
{
    (void)state;
    const struct mr_shed shed = {
        .subscription = "shop sub",
        .dropped = 3,
        .max = 5,
        .to = 4,
        .waiting = UINT64_MAX,
        .newest = true,
        .hops = 256,
        .first_offset = 7,
        .first_wall_ns = WALL_NS,
        .last_offset = UINT64_MAX,
        .last_wall_ns = WALL_NS,
    };
    struct mr_event *event;
    assert_int_equal(mr_adapt_shed(&shed, WALL_NS, &event), MR_OK);
    struct mr_bytes record = mr_event_record(event);
    assert_int_equal(mr_event_check(record), MR_OK);
    assert_bytes(mr_event_id(record), "shop sub:7:shed");
    assert_bytes(mr_event_source(record), "/millrace/subscription/shop%20sub");
    assert_bytes(mr_event_type(record), "io.millrace.subscription.shed");
    assert_value(event, "subject", "shop sub");
    assert_int_equal(mr_event_hops(record), 256);
    cJSON *json = document_of(event);
    assert_string_equal(string_of(json, "subscription"), "shop sub");
    assert_string_equal(string_of(json, "drop"), "newest");
    assert_int_equal(cJSON_GetObjectItem(json, "dropped")->valueint, 3);
    assert_int_equal(cJSON_GetObjectItem(json, "max")->valueint, 5);
    assert_int_equal(cJSON_GetObjectItem(json, "to")->valueint, 4);
    const cJSON *first = cJSON_GetObjectItem(json, "first");
    assert_int_equal(cJSON_GetObjectItem(first, "offset")->valueint, 7);
    assert_string_equal(string_of(first, "arrival"), "2023-11-14T22:13:20.000Z");
    cJSON_Delete(json);
    mr_event_unref(event);
}

static void test_outcome_tells_everything(void **state)
{
    (void)state;
    struct mr_event *of = decode_ok(MINIMAL ",\"correlationid\":\"c\",\"mrhops\":2,\"data\":[1]}");
    struct mr_event *event;
    assert_int_equal(outcome(of, "{\"r\":1}", MR_EVENT_SIZE_MAX, &event), MR_OK);
    struct mr_bytes record = mr_event_record(event);
    assert_bytes(mr_event_id(record), "7.shop:outcome");
    assert_bytes(mr_event_source(record), "/millrace/subscription/shop%20sub");
    assert_bytes(mr_event_type(record), "io.millrace.delivery.dead");
    assert_value(event, "subject", "e1");
    assert_value(event, "causationid", "e1");
    assert_value(event, "correlationid", "c");
    assert_int_equal(mr_event_hops(record), 3);
    cJSON *json = document_of(event);
    assert_string_equal(string_of(json, "delivery"), "7.shop");
    assert_string_equal(string_of(json, "subscription"), "shop sub");
    assert_string_equal(string_of(json, "state"), "dead");
    assert_string_equal(string_of(json, "reason"), "retries used up");
    assert_string_equal(string_of(json, "verdict"), "dead");
    assert_true(cJSON_IsNull(cJSON_GetObjectItem(json, "error")));
    const cJSON *first = cJSON_GetArrayItem(cJSON_GetObjectItem(json, "attempts"), 0);
    assert_string_equal(string_of(first, "error"), "signal 11 \"x\"\n");
    assert_string_equal(string_of(first, "started"), "2023-11-14T22:13:20.000Z");
    assert_string_equal(string_of(first, "ended"), "2023-11-14T22:13:21.000Z");
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(json, "attempts")), 2);
    assert_true(cJSON_IsObject(cJSON_GetObjectItem(json, "result")));
    const cJSON *original = cJSON_GetObjectItem(json, "event");
    assert_string_equal(string_of(original, "id"), "e1");
    assert_true(cJSON_IsArray(cJSON_GetObjectItem(original, "data")));
    cJSON_Delete(json);
    mr_event_unref(event);
    mr_event_unref(of);
}

static void test_outcome_without_attempts_and_result_has_nulls(void **state)
{
    (void)state;
    struct mr_event *of = decode_ok(MINIMAL "}");
    struct mr_event *event = NULL;
    assert_int_equal(mr_adapt_outcome(mr_event_record(of), "7", "s", "expired", NULL, NULL, 0,
                                      (struct mr_bytes){0}, WALL_NS, MR_EVENT_SIZE_MAX, &event),
                     MR_OK);
    cJSON *json = document_of(event);
    const char *nulls[] = {"reason", "verdict", "error", "result"};
    for (size_t i = 0; i < 4; i++) {
        assert_true(cJSON_IsNull(cJSON_GetObjectItem(json, nulls[i])));
    }
    assert_int_equal(mr_event_hops(mr_event_record(event)), 1);
    cJSON_Delete(json);
    mr_event_unref(event);
    mr_event_unref(of);
}

static void test_outcome_with_a_broken_result_has_null(void **state)
{
    (void)state;
    struct mr_event *of = decode_ok(MINIMAL "}");
    struct mr_event *event;
    assert_int_equal(outcome(of, "{\"r\":", MR_EVENT_SIZE_MAX, &event), MR_OK);
    cJSON *json = document_of(event);
    assert_true(cJSON_IsNull(cJSON_GetObjectItem(json, "result")));
    cJSON_Delete(json);
    mr_event_unref(event);
    mr_event_unref(of);
}

static void test_outcome_of_an_event_with_a_long_id_is_made(void **state)
{
    (void)state;
    static char text[70000];
    static char id[60001];
    memset(id, 'i', sizeof(id) - 1);
    (void)snprintf(text, sizeof(text),
                   "{\"specversion\":\"1.0\",\"source\":\"/s\",\"type\":\"t\",\"id\":\"%s\"}", id);
    struct mr_event *of = decode_ok(text);
    struct mr_event *event;
    assert_int_equal(outcome(of, "1", MR_EVENT_SIZE_MAX, &event), MR_OK);
    assert_int_equal(mr_event_value(mr_event_record(event), "causationid").size, 0);
    cJSON *json = document_of(event);
    assert_string_equal(string_of(cJSON_GetObjectItem(json, "event"), "id"), id);
    cJSON_Delete(json);
    mr_event_unref(event);
    mr_event_unref(of);
}

static void test_outcome_too_big_says_less(void **state)
{
    (void)state;
    char text[3000];
    char filler[2001];
    memset(filler, 'x', 2000);
    filler[2000] = '\0';
    snprintf(text, sizeof(text), MINIMAL ",\"data\":\"%s\"}", filler);
    struct mr_event *of = decode_ok(text);
    snprintf(text, sizeof(text), "\"%s\"", filler);
    struct mr_event *event;
    assert_int_equal(outcome(of, "1", 2000, &event), MR_OK);
    cJSON *json = document_of(event);
    assert_value(event, "truncated", "true");
    assert_string_equal(string_of(cJSON_GetObjectItem(json, "event"), "id"), "e1");
    assert_null(cJSON_GetObjectItem(cJSON_GetObjectItem(json, "event"), "data"));
    assert_true(cJSON_IsNumber(cJSON_GetObjectItem(json, "result")));
    cJSON_Delete(json);
    mr_event_unref(event);
    assert_int_equal(outcome(of, text, 2000, &event), MR_OK);
    json = document_of(event);
    assert_true(cJSON_IsNull(cJSON_GetObjectItem(json, "result")));
    cJSON_Delete(json);
    mr_event_unref(event);
    assert_int_equal(outcome(of, text, 300, &event), MR_E_TOO_BIG);
    assert_null(event);
    mr_event_unref(of);
}

static void test_adapters_every_failed_allocation_leaks_nothing(void **state)
{
    (void)state;
    struct mr_event *of = decode_ok(MINIMAL ",\"data\":[1]}");
    int64_t live = mr_alloc_live();
    enum mr_status r = MR_E_NOMEM;
    for (uint64_t n = 1; r != MR_OK && n < 100; n++) {
        struct mr_event *a = NULL;
        struct mr_event *b = NULL;
        (void)mr_alloc_fail_at(n, 0);
        r = mr_adapt_rejected(mr_bytes_of("s"), mr_bytes_of("1"), mr_bytes_of("x"), "why", WALL_NS,
                              MR_EVENT_SIZE_MAX, &a);
        if (r == MR_OK) {
            r = outcome(of, "1", MR_EVENT_SIZE_MAX, &b);
        }
        (void)mr_alloc_fail_at(0, 0);
        assert_true(r == MR_OK || r == MR_E_NOMEM);
        mr_event_unref(a);
        mr_event_unref(b);
        assert_int_equal(mr_alloc_live(), live);
    }
    assert_int_equal(r, MR_OK);
    mr_event_unref(of);
}

/* --- what tells of a fan-out ------------------------------------------------------------------ */

static struct mr_event *head_of(const char *text)
{
    struct mr_event *event = decode_ok(text);
    struct mr_event *head = NULL;
    assert_int_equal(mr_adapt_joined_head(mr_event_record(event), &head), MR_OK);
    mr_event_unref(event);
    return head;
}

static enum mr_status joined(const struct mr_event *head, const char *reason, size_t size_max,
                             struct mr_event **ret_event)
{
    const struct mr_joined_member members[] = {
        {.subscription = "one", .state = "done", .attempts = 1, .result = mr_bytes_of("{\"n\":1}")},
        {.subscription = "two", .state = "dead", .attempts = 3, .reason = mr_bytes_of("used up")},
        {.subscription = "three", .state = "done", .attempts = 1, .truncated = true},
    };
    const struct mr_joined what = {.fanout = "orders",
                                   .head = mr_event_record(head),
                                   .offset = 7,
                                   .reason = reason,
                                   .members = members,
                                   .member_count = 3,
                                   .wall_ns = WALL_NS};
    *ret_event = NULL;
    return mr_adapt_joined(&what, size_max, ret_event);
}

static void test_joined_tells_everything(void **state)
{
    (void)state;
    struct mr_event *head = head_of(MINIMAL ",\"mrhops\":3,\"partitionkey\":\"k\",\"data\":5}");
    assert_int_equal(mr_event_data(mr_event_record(head)).size, 0);
    struct mr_event *event;
    assert_int_equal(joined(head, NULL, MR_EVENT_SIZE_MAX, &event), MR_OK);
    struct mr_bytes record = mr_event_record(event);
    assert_bytes(mr_event_id(record), "orders:7:completed");
    assert_bytes(mr_event_source(record), "/millrace/fanout/orders");
    assert_bytes(mr_event_type(record), "io.millrace.fanout.completed");
    assert_bytes(mr_event_value(record, "subject"), "orders");
    assert_bytes(mr_event_value(record, "partitionkey"), "k");
    assert_int_equal(mr_event_hops(record), 4);
    cJSON *json = document_of(event);
    assert_true(cJSON_IsTrue(cJSON_GetObjectItem(json, "complete")));
    const cJSON *results = cJSON_GetObjectItem(json, "results");
    const cJSON *one = cJSON_GetObjectItem(results, "one");
    assert_int_equal(
        cJSON_GetObjectItem(cJSON_GetObjectItem(one, "result"), "n")->valueint, 1);
    assert_string_equal(
        cJSON_GetObjectItem(cJSON_GetObjectItem(results, "two"), "reason")->valuestring, "used up");
    assert_true(cJSON_IsTrue(
        cJSON_GetObjectItem(cJSON_GetObjectItem(results, "three"), "truncated")));
    assert_int_equal(
        cJSON_GetObjectItem(cJSON_GetObjectItem(json, "event"), "offset")->valueint, 7);
    cJSON_Delete(json);
    mr_event_unref(event);
    mr_event_unref(head);
}

static void test_joined_too_big_says_less(void **state)
{
    (void)state;
    struct mr_event *head = head_of(MINIMAL "}");
    struct mr_event *event;
    assert_int_equal(joined(head, "its time is over", MR_EVENT_SIZE_MAX, &event), MR_OK);
    size_t whole = event->size;
    mr_event_unref(event);
    assert_int_equal(joined(head, "its time is over", whole - 1, &event), MR_OK);
    cJSON *json = document_of(event);
    assert_true(cJSON_IsFalse(cJSON_GetObjectItem(json, "complete")));
    assert_string_equal(cJSON_GetObjectItem(json, "reason")->valuestring, "its time is over");
    const cJSON *one = cJSON_GetObjectItem(cJSON_GetObjectItem(json, "results"), "one");
    assert_null(cJSON_GetObjectItem(one, "result"));
    assert_true(cJSON_IsTrue(cJSON_GetObjectItem(one, "truncated")));
    cJSON_Delete(json);
    mr_event_unref(event);
    assert_int_equal(joined(head, NULL, 100, &event), MR_E_TOO_BIG);
    mr_event_unref(head);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_joined_tells_everything),
        cmocka_unit_test(test_joined_too_big_says_less),
        cmocka_unit_test(test_generic_takes_the_body_under_its_type),
        cmocka_unit_test(test_generic_without_or_with_a_bad_type_is_octets),
        cmocka_unit_test(test_generic_without_body_has_no_data),
        cmocka_unit_test(test_generic_with_a_bad_source_is_invalid),
        cmocka_unit_test(test_rejected_keeps_the_raw_bytes_and_a_clean_reason),
        cmocka_unit_test(test_rejected_cuts_what_does_not_fit),
        cmocka_unit_test(test_hops_reads_the_extension),
        cmocka_unit_test(test_outcome_tells_everything),
        cmocka_unit_test(test_shed_tells_everything),
        cmocka_unit_test(test_outcome_without_attempts_and_result_has_nulls),
        cmocka_unit_test(test_outcome_with_a_broken_result_has_null),
        cmocka_unit_test(test_outcome_of_an_event_with_a_long_id_is_made),
        cmocka_unit_test(test_outcome_too_big_says_less),
        cmocka_unit_test(test_adapters_every_failed_allocation_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
