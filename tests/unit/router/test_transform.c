#include "tests/support/test.h"

#include "core/alloc.h"
#include "core/limits.h"
#include "router/transform.h"
#include "schemas/json_format.h"

#define ORDER                                                                                      \
    "{\"specversion\":\"1.0\",\"id\":\"7\",\"source\":\"/shop\",\"type\":\"order\","               \
    "\"tenant\":\"acme\",\"data\":{\"order\":{\"id\":12345678901234567890,\"n\":\"a\\\"b\","       \
    "\"tags\":[\"x\",{\"y\":null}]},\"card\":\"4111\"}}"

static struct mr_event *decode(const char *json)
{
    struct mr_event *event = NULL;
    struct mr_problem problem = {""};
    if (mr_json_decode_event(mr_bytes_of(json), MR_EVENT_SIZE_MAX, &event, &problem) != MR_OK) {
        fail_msg("%s: %s", json, problem.text);
    }
    return event;
}

/* What @p transform makes of @p json, as JSON; or the problem. The caller frees it. */
static char *apply(const char *transform, const char *json)
{
    struct mr_transform *t = NULL;
    struct mr_problem problem = {""};
    struct mr_event *event = decode(json);
    struct mr_event *changed = NULL;
    if (mr_transform_create(mr_bytes_of(transform), &t, &problem) != MR_OK) {
        fail_msg("%s: %s", transform, problem.text);
    }
    enum mr_status r = mr_transform_apply(t, mr_event_record(event), MR_EVENT_SIZE_MAX, &changed,
                                          &problem);
    char *text = NULL;
    if (r == MR_OK) {
        struct mr_buf out;
        mr_buf_init(&out, 1u << 20);
        assert_int_equal(mr_json_encode_event(mr_event_record(changed), &out), MR_OK);
        text = mr_buf_take_text(&out);
        mr_buf_release(&out);
    } else {
        text = mr_strdup(problem.text);
    }
    assert_non_null(text);
    mr_event_unref(changed);
    mr_event_unref(event);
    mr_transform_destroy(t);
    return text;
}

static void gives(const char *transform, const char *json, const char *wanted)
{
    char *text = apply(transform, json);
    if (strstr(text, wanted) == NULL) {
        fail_msg("%s gives %s, without %s", transform, text, wanted);
    }
    mr_free(text);
}

static void test_transform_changes_attributes(void **state)
{
    (void)state;
    gives("{\"set\":{\"subject\":\"{{tenant}}/{{data.order.id}}\",\"n\":5}}", ORDER,
          "\"type\":\"order\",\"tenant\":\"acme\",\"subject\":\"acme/12345678901234567890\","
          "\"n\":\"5\",\"data\":{\"order\":{\"id\":12345678901234567890,");
    gives("{\"rename\":{\"tenant\":\"customer\"}}", ORDER, "\"customer\":\"acme\",\"data\"");
    gives("{\"drop\":[\"tenant\"],\"set\":{\"type\":\"{{type}}.{{tenant}}\"}}", ORDER,
          "\"type\":\"order.acme\",\"data\"");
    gives("{\"set\":{\"tenant\":\"{{absent}}\"}}", ORDER, "\"type\":\"order\",\"data\"");
    gives("{\"set\":{\"type\":\"{{absent}}\"}}", ORDER, "type");
    gives("{\"rename\":{\"tenant\":\"source\"}}", ORDER, "source");
    gives("{\"set\":{\"time\":\"{{tenant}}\"}}", ORDER, "time");
}

static void test_transform_changes_places_in_data_and_nothing_beside(void **state)
{
    (void)state;
    gives("{\"set\":{\"data.order.n\":\"{{type}}: {{data.order.n}}\"}}", ORDER,
          "\"n\":\"order: a\\\"b\",\"tags\":[\"x\",{\"y\":null}]},\"card\":\"4111\"}}");
    gives("{\"set\":{\"data.order.tags.1.y\":\"{{data.order.id}}\"}}", ORDER,
          "[\"x\",{\"y\":12345678901234567890}]");
    gives("{\"set\":{\"data.a.b\":true,\"data.a.c\":[1,\"{{data.order.tags}}\"]}}", ORDER,
          "\"card\":\"4111\",\"a\":{\"b\":true,\"c\":[1,[\"x\",{\"y\":null}]]}}}");
    gives("{\"drop\":[\"data.card\",\"data.order.tags.0\",\"data.order.id\",\"data.none.a\"]}",
          ORDER, "\"data\":{\"order\":{\"n\":\"a\\\"b\",\"tags\":[{\"y\":null}]}}}");
    gives("{\"set\":{\"data.x\":1}}",
          "{\"specversion\":\"1.0\",\"id\":\"7\",\"source\":\"/s\",\"type\":\"t\"}",
          "\"data\":{\"x\":1}");
    gives("{\"drop\":[\"data\"]}", ORDER, "\"tenant\":\"acme\"}");
}

static void test_transform_replaces_the_data(void **state)
{
    (void)state;
    gives("{\"set\":{\"data\":{\"id\":\"{{data.order.id}}\",\"who\":\"{{tenant}}\",\"none\":"
          "\"{{data.no}}\",\"{{tenant}}\":{\"deep\":[{\"raw\":\"{{data.order}}\"}]}}}}",
          ORDER,
          "\"data\":{\"id\":12345678901234567890,\"who\":\"acme\",\"none\":null,\"acme\":{\"deep\":"
          "[{\"raw\":{\"id\":12345678901234567890,\"n\":\"a\\\"b\",\"tags\":[\"x\",{\"y\":null}]}}"
          "]}}}");
    gives("{\"set\":{\"data\":{\"text\":\"{{data}}\",\"in\":\"<{{data}}>\"}}}",
          "{\"specversion\":\"1.0\",\"id\":\"7\",\"source\":\"/s\",\"type\":\"t\","
          "\"datacontenttype\":\"text/plain\",\"data\":\"a\\\"b\"}",
          "\"type\":\"t\",\"data\":{\"text\":\"a\\\"b\",\"in\":\"<a\\\"b>\"}}");
}

static void test_transform_says_what_it_cannot_do(void **state)
{
    (void)state;
    gives("{\"set\":{\"data.card.x\":1}}", ORDER, "set.data.card.x: no object stands there");
    gives("{\"set\":{\"data.order.tags.9\":1}}", ORDER, "no object stands there");
    gives("{\"set\":{\"data.x\":1}}",
          "{\"specversion\":\"1.0\",\"id\":\"7\",\"source\":\"/s\",\"type\":\"t\","
          "\"datacontenttype\":\"text/plain\",\"data\":\"a\"}",
          "the data is no JSON");
}

static void test_transform_create_refuses_with_the_place(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        const char *reason;
    } cases[] = {
        {"{}", "changes nothing"},
        {"[]", "wants a mapping"},
        {"{\"sett\":{}}", "unknown key"},
        {"{\"jq\":7}", "jq wants the text"},
        {"{\"jq\":\"\"}", "jq wants the text"},
        {"{\"jq\":\"a\\u0000b\"}", "jq wants the text"},
        {"{\"jq\":\".\",\"drop\":[\"a\"]}", "jq stands alone"},
        {"{\"jq\":\".\",\"timeout\":\"1ms\"}", "timeout wants a duration"},
        {"{\"jq\":\".\",\"timeout\":100}", "timeout wants a duration"},
        {"{\"timeout\":\"1s\",\"drop\":[\"a\"]}", "timeout belongs to jq"},
        {"{\"set\":{\"id\":\"x\"}}", "set.id cannot be changed"},
        {"{\"set\":{\"mrhops\":\"0\"}}", "set.mrhops cannot be changed"},
        {"{\"set\":{\"Bad\":\"x\"}}", "set.Bad is neither"},
        {"{\"set\":{\"a\":\"{{x\"}}", "set.a has braces"},
        {"{\"set\":{\"a\":[1]}}", "set.a wants a single value"},
        {"{\"set\":{\"data\":{\"a\":[{\"b\":\"{{X}}\"}]}}}", "set.data has braces"},
        {"{\"set\":{\"data.a..b\":1}}", "set.a..b is no path"},
        {"{\"rename\":{\"a\":\"id\"}}", "rename.a cannot be changed"},
        {"{\"rename\":{\"a\":5}}", "rename.a wants the name"},
        {"{\"drop\":\"a\"}", "drop wants a list"},
        {"{\"drop\":[\"type\"]}", "drop.type cannot be dropped"},
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(cases); i++) {
        struct mr_transform *t = NULL;
        struct mr_problem problem = {""};
        enum mr_status r = mr_transform_create(mr_bytes_of(cases[i].json), &t, &problem);
        if (r == MR_OK || strstr(problem.text, cases[i].reason) == NULL) {
            fail_msg("%s: %s \"%s\"", cases[i].json, mr_status_name(r), problem.text);
        }
    }
}

static void test_transform_is_the_text_of_a_program(void **state)
{
    (void)state;
    struct mr_transform *t = NULL;
    uint64_t timeout_ns = 0;
    static const char *const texts[] = {"{\"jq\":\". |\\n \\\"\\\\u0000\\\"\"}",
                                        "{\"jq\":\".\",\"timeout\":\"1s\"}",
                                        "{\"drop\":[\"a\"]}"};
    assert_int_equal(mr_transform_create(mr_bytes_of(texts[0]), &t, NULL), MR_OK);
    assert_string_equal(mr_transform_program(t, &timeout_ns), ". |\n \"\\u0000\"");
    assert_int_equal(timeout_ns, 100000000);
    mr_transform_destroy(t);
    assert_int_equal(mr_transform_create(mr_bytes_of(texts[1]), &t, NULL), MR_OK);
    assert_string_equal(mr_transform_program(t, &timeout_ns), ".");
    assert_int_equal(timeout_ns, 1000000000);
    mr_transform_destroy(t);
    assert_int_equal(mr_transform_create(mr_bytes_of(texts[2]), &t, NULL), MR_OK);
    assert_null(mr_transform_program(t, &timeout_ns));
    mr_transform_destroy(t);
}

static void test_transform_accepts_events_that_are_still_the_same(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *wanted; /* in the event, or in the problem */
        bool good;
    } cases[] = {
        {"{\"source\":\"/a\",\"type\":\"b\"}",
         "{\"specversion\":\"1.0\",\"id\":\"7\",\"source\":\"/a\",\"type\":\"b\",\"mrhops\":\"2\"}", true},
        {"{\"id\":\"7\",\"source\":\"/a\",\"type\":\"b\",\"data\":{\"x\":[1]}}", "\"data\":{\"x\":[1]}",
         true},
        {"{\"specversion\":\"1.0\",\"source\":\"/a\",\"type\":\"b\",\"mrhops\":\"2\"}", "\"mrhops\":\"2\"",
         true},
        {"{}", "the output is no event", false},
        {"", "no JSON object", false},
        {"[1]", "no JSON object", false},
        {"{\"a\":}", "no JSON", false},
        {"{\"id\":\"8\",\"source\":\"/a\",\"type\":\"b\"}", "another id", false},
        {"{\"id\":null,\"source\":\"/a\",\"type\":\"b\"}", "no event", false},
        {"{\"source\":\"/a\",\"type\":\"b\",\"mrhops\":\"1\"}", "changes mrhops", false},
        {"{\"source\":\"/a\",\"type\":\"b\",\"mrnew\":1}", "changes mrnew", false},
        {"{\"source\":\"/a\",\"type\":\"b\",\"x y\":1}", "no event", false},
    };
    struct mr_event *event = decode("{\"specversion\":\"1.0\",\"id\":\"7\",\"source\":\"/s\","
                                    "\"type\":\"t\",\"mrhops\":\"2\",\"a\":\"b\"}");
    for (size_t i = 0; i < MR_ARRAY_COUNT(cases); i++) {
        struct mr_event *changed = NULL;
        struct mr_problem problem = {""};
        struct mr_buf json;
        mr_buf_init(&json, MR_MIB);
        enum mr_status r = mr_transform_accept(mr_event_record(event), mr_bytes_of(cases[i].text),
                                               MR_EVENT_SIZE_MAX, &changed, &problem);
        if (r == MR_OK) {
            assert_int_equal(mr_json_encode_exact(mr_event_record(changed), &json), MR_OK);
        }
        char *said = r == MR_OK ? mr_buf_take_text(&json) : mr_strdup(problem.text);
        if ((r == MR_OK) != cases[i].good || strstr(said, cases[i].wanted) == NULL) {
            fail_msg("%s: %s", cases[i].text, said);
        }
        mr_free(said);
        mr_buf_release(&json);
        mr_event_unref(changed);
    }
    mr_event_unref(event);
}

static void test_transform_accept_survives_every_allocation_that_fails(void **state)
{
    (void)state;
    struct mr_event *event = decode("{\"specversion\":\"1.0\",\"id\":\"7\",\"source\":\"/s\","
                                    "\"type\":\"t\",\"mrhops\":\"2\"}");
    int64_t live = mr_alloc_live();
    enum mr_status r = MR_E_NOMEM;
    for (uint64_t n = 1; r != MR_OK && n < 1000; n++) {
        struct mr_event *changed = NULL;
        mr_alloc_fail_at(n, 0);
        r = mr_transform_accept(mr_event_record(event),
                                mr_bytes_of("{\"source\":\"/a\",\"type\":\"b\",\"data\":1}"),
                                MR_EVENT_SIZE_MAX, &changed, NULL);
        mr_alloc_fail_at(0, 0);
        mr_event_unref(changed);
        assert_int_equal(mr_alloc_live(), live);
    }
    assert_int_equal(r, MR_OK);
    mr_event_unref(event);
}

static void test_transform_survives_every_allocation_that_fails(void **state)
{
    (void)state;
    static const char text[] = "{\"set\":{\"subject\":\"{{data.order.n}}\",\"data.a.b\":\"{{id}}-"
                               "{{data.order.n}}\"},\"drop\":[\"data.card\"]}";
    struct mr_event *event = decode(ORDER);
    int64_t live = mr_alloc_live();
    enum mr_status r = MR_E_NOMEM;
    for (uint64_t n = 1; r != MR_OK && n < 1000; n++) {
        struct mr_transform *t = NULL;
        struct mr_event *changed = NULL;
        mr_alloc_fail_at(n, 0);
        r = mr_transform_create(mr_bytes_of(text), &t, NULL);
        r = r == MR_OK
                ? mr_transform_apply(t, mr_event_record(event), MR_EVENT_SIZE_MAX, &changed, NULL)
                : r;
        mr_alloc_fail_at(0, 0);
        mr_event_unref(changed);
        mr_transform_destroy(t);
        assert_int_equal(mr_alloc_live(), live);
    }
    assert_int_equal(r, MR_OK);
    mr_event_unref(event);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_transform_changes_attributes),
        cmocka_unit_test(test_transform_changes_places_in_data_and_nothing_beside),
        cmocka_unit_test(test_transform_replaces_the_data),
        cmocka_unit_test(test_transform_says_what_it_cannot_do),
        cmocka_unit_test(test_transform_create_refuses_with_the_place),
        cmocka_unit_test(test_transform_is_the_text_of_a_program),
        cmocka_unit_test(test_transform_accepts_events_that_are_still_the_same),
        cmocka_unit_test(test_transform_accept_survives_every_allocation_that_fails),
        cmocka_unit_test(test_transform_survives_every_allocation_that_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
