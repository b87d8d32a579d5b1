#include "fixture.h"

/* The sentence for one filter and event; the result goes to @p ret_matches. */
static const char *explain(const char *filter, struct mr_event *event, bool *ret_matches)
{
    static char text[4096];
    struct fixture *f = fixture_create(0);
    fixture_add(f, filter);
    fixture_start(f);
    struct mr_buf out;
    mr_buf_init(&out, sizeof(text));
    *ret_matches = mr_router_explain(f->router, 0, 0, mr_event_record(event), &out);
    assert_true(out.size < sizeof(text));
    memcpy(text, out.data, out.size);
    text[out.size] = '\0';
    mr_buf_release(&out);
    fixture_destroy(f);
    return text;
}

struct explained {
    const char *filter;
    const char *sentence;
};

static void check_all(const struct explained *cases, size_t count, struct mr_event *event)
{
    for (size_t i = 0; i < count; i++) {
        bool matches = false;
        const char *text = explain(cases[i].filter, event, &matches);
        if (strcmp(text, cases[i].sentence) != 0) {
            fail_msg("%s\n  says   %s\n  wanted %s", cases[i].filter, text, cases[i].sentence);
        }
        assert_int_equal(matches, strcmp(cases[i].sentence, "matches") == 0);
    }
}

static void test_explain_names_the_first_failed_clause(void **state)
{
    (void)state;
    struct mr_event *event = EVENT("type", "com.x.put", "subject", "photo.png");
    static const struct explained cases[] = {
        {"[]", "matches"},
        {"[{\"exact\":{\"type\":\"com.x.put\"}}]", "matches"},
        {"[{\"all\":[{\"prefix\":{\"type\":\"com.\"}},{\"suffix\":{\"subject\":\".jpg\"}}]}]",
         "filter.all[1].suffix.subject wants \".jpg\", the event has \"photo.png\""},
        {"[{\"exact\":{\"type\":\"a\"}}]",
         "filter.exact.type wants \"a\", the event has \"com.x.put\""},
        {"[{\"exact\":{\"tenant\":\"a\"}}]",
         "filter.exact.tenant wants \"a\", the event has none"},
        {"[{\"exact\":{\"type\":\"com.x.put\",\"subject\":\"b\"}}]",
         "filter.exact.subject wants \"b\", the event has \"photo.png\""},
        {"[{\"exact\":{\"type\":\"com.x.put\"}},{\"prefix\":{\"source\":\"x\"}}]",
         "filter[1].prefix.source wants \"x\", the event has \"/s\""},
        {"[{\"exact\":{\"specversion\":\"0.3\"}}]",
         "filter.exact.specversion wants \"0.3\", the event has \"1.0\""},
        {"[{\"all\":[{\"all\":[{\"exact\":{\"id\":\"1\",\"type\":\"q\"}}]}]}]",
         "filter.all[0].all[0].exact.type wants \"q\", the event has \"com.x.put\""},
    };
    check_all(cases, MR_ARRAY_COUNT(cases), event);
    mr_event_unref(event);
}

static void test_explain_negation_says_what_was_unwanted(void **state)
{
    (void)state;
    struct mr_event *event = EVENT("type", "t");
    static const struct explained cases[] = {
        {"[{\"not\":{\"exact\":{\"type\":\"t\"}}}]",
         "filter.not.exact.type wants anything but \"t\", the event has \"t\""},
        {"[{\"not\":{\"any\":[{\"exact\":{\"type\":\"u\"}},{\"prefix\":{\"source\":\"/\"}}]}}]",
         "filter.not.any[1].prefix.source wants anything but \"/\", the event has \"/s\""},
        {"[{\"not\":{\"not\":{\"exact\":{\"type\":\"u\"}}}}]",
         "filter.not.not.exact.type wants \"u\", the event has \"t\""},
        {"[{\"not\":{\"exact\":{\"tenant\":\"u\"}}}]", "matches"},
    };
    check_all(cases, MR_ARRAY_COUNT(cases), event);
    mr_event_unref(event);
}

static void test_explain_any_counts_its_members(void **state)
{
    (void)state;
    struct mr_event *event = EVENT("type", "t");
    static const struct explained cases[] = {
        {"[{\"any\":[{\"exact\":{\"type\":\"a\"}},{\"exact\":{\"type\":\"b\"}}]}]",
         "filter.any has 2 members and none holds; the first: filter.any[0].exact.type wants "
         "\"a\", the event has \"t\""},
        {"[{\"any\":[{\"exact\":{\"type\":\"a\"}}]}]",
         "filter.any[0].exact.type wants \"a\", the event has \"t\""},
        {"[{\"prefix\":{\"type\":\"t\"}},{\"any\":[{\"all\":[{\"exact\":{\"type\":\"t\"}},"
         "{\"exact\":{\"id\":\"2\"}}]},{\"exact\":{\"type\":\"b\"}},{\"not\":{\"exact\":{\"id\":\"1\"}}}]}]",
         "filter[1].any has 3 members and none holds; the first: filter[1].any[0].all[1].exact.id "
         "wants \"2\", the event has \"1\""},
        {"[{\"any\":[{\"not\":{\"exact\":{\"id\":\"1\"}}},{\"exact\":{\"type\":\"b\"}}]}]",
         "filter.any has 2 members and none holds; the first: filter.any[0].not.exact.id wants "
         "anything but \"1\", the event has \"1\""},
        {"[{\"any\":[{\"exact\":{\"type\":\"t\",\"id\":\"9\"}},{\"exact\":{\"type\":\"b\"}}]}]",
         "filter.any has 2 members and none holds; the first: filter.any[0].exact.id wants \"9\", "
         "the event has \"1\""},
    };
    check_all(cases, MR_ARRAY_COUNT(cases), event);
    mr_event_unref(event);
}

static void test_explain_values_are_cut_and_cleaned(void **state)
{
    (void)state;
    char value[400];
    memset(value, 'v', sizeof(value));
    value[399] = '\0';
    struct mr_event *event = EVENT("subject", value, "tenant", "a \"quoted\" one");
    bool matches = true;
    const char *text = explain("[{\"exact\":{\"subject\":\"x\\u001b[31m\\nlevel=info\"}}]", event,
                               &matches);
    assert_false(matches);
    assert_null(strchr(text, 0x1b));
    assert_null(strchr(text, '\n'));
    assert_non_null(strstr(text, "x [31m level=info"));
    assert_non_null(strstr(text, "vvv\"…"));
    assert_null(strstr(text, "vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv"
                             "vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv"));
    text = explain("[{\"exact\":{\"tenant\":\"x\"}}]", event, &matches);
    assert_non_null(strstr(text, "the event has \"a \\\"quoted\\\" one\""));
    mr_event_unref(event);
}

static void test_explain_source_names_both(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(4);
    fixture_sources(fixture_add(f, "[]"), 1, (const uint32_t[]){2});
    fixture_sources(fixture_add(f, "[]"), 3, (const uint32_t[]){1, 2, 3});
    fixture_start(f);
    struct mr_event *event = EVENT("type", "t");
    static const struct {
        uint32_t subscription;
        uint32_t source;
        const char *sentence;
    } cases[] = {
        {0, 1, "sources wants \"source2\", the event came from \"source1\""},
        {0, UINT32_MAX, "sources wants \"source2\", the event was made by the bus"},
        {1, 0, "sources wants \"source1\" or one of 2 others, the event came from \"source0\""},
        {1, 3, "matches"},
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(cases); i++) {
        struct mr_buf out;
        mr_buf_init(&out, 1024);
        bool matches = mr_router_explain(f->router, cases[i].subscription, cases[i].source,
                                         mr_event_record(event), &out);
        assert_int_equal(matches, i == 3);
        assert_int_equal(mr_buf_append_byte(&out, 0), MR_OK);
        assert_string_equal((const char *)out.data, cases[i].sentence);
        mr_buf_release(&out);
    }
    mr_event_unref(event);
    fixture_destroy(f);
}

static void test_explain_hidden_never_matches(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(0);
    fixture_add(f, "[]")->hidden = true;
    fixture_start(f);
    struct mr_event *event = EVENT("type", "t");
    struct mr_buf out;
    mr_buf_init(&out, 1024);
    assert_false(mr_router_explain(f->router, 0, 0, mr_event_record(event), &out));
    assert_int_equal(mr_buf_append_byte(&out, 0), MR_OK);
    assert_non_null(strstr((const char *)out.data, "carries the outcomes of another"));
    mr_buf_release(&out);
    mr_event_unref(event);
    fixture_destroy(f);
}

static void test_explain_full_buffer_gets_nothing_but_the_answer_holds(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(0);
    fixture_add(f, "[]");
    fixture_add(f, "[{\"exact\":{\"type\":\"u\"}}]");
    fixture_start(f);
    struct mr_event *event = EVENT("type", "t");
    struct mr_buf out;
    mr_buf_init(&out, 3);
    assert_true(mr_router_explain(f->router, 0, 0, mr_event_record(event), &out));
    assert_false(mr_router_explain(f->router, 1, 0, mr_event_record(event), &out));
    assert_int_equal(out.size, 0);
    mr_buf_release(&out);
    mr_event_unref(event);
    fixture_destroy(f);
}

static void test_explain_deepest_path_fits(void **state)
{
    (void)state;
    struct mr_buf buf;
    mr_buf_init(&buf, MR_MIB);
    for (unsigned i = 1; i < MR_FILTER_DEPTH_MAX; i++) {
        assert_int_equal(mr_buf_append_text(&buf, "{\"all\":["), MR_OK);
    }
    assert_int_equal(mr_buf_append_text(&buf, "{\"exact\":{\"type\":\"u\",\"id\":\"1\"}}"), MR_OK);
    for (unsigned i = 1; i < MR_FILTER_DEPTH_MAX; i++) {
        assert_int_equal(mr_buf_append_text(&buf, "]}"), MR_OK);
    }
    char *filter = mr_buf_take_text(&buf);
    struct mr_event *event = EVENT("type", "t");
    bool matches = true;
    const char *text = explain(filter, event, &matches);
    assert_false(matches);
    assert_non_null(strstr(text, ".all[0].exact.type wants \"u\", the event has \"t\""));
    mr_event_unref(event);
    mr_free(filter);
}

static void test_explain_sql_names_the_member_that_failed(void **state)
{
    (void)state;
    struct mr_event *event = EVENT("type", "com.x.put", "n", "many");
    static const struct explained cases[] = {
        {"[{\"sql\":\"type = 'com.x.put' AND EXISTS n\"}]", "matches"},
        {"[{\"sql\":\"type = 'b'\"}]",
         "filter.sql: `type = 'b'` is false, the event has type \"com.x.put\""},
        {"[{\"sql\":\"EXISTS n AND id = '1' AND (type = 'b' OR n = 'few') AND id = '2'\"}]",
         "filter.sql: `(type = 'b' OR n = 'few')` is false, the event has type \"com.x.put\", "
         "n \"many\""},
        {"[{\"sql\":\"id = '1' AND id = '1' AND id = '1' AND id = '2'\"}]",
         "filter.sql: `id = '2'` is false, the event has id \"1\""},
        {"[{\"sql\":\"id = '1' AND n + 1 > 5\"}]",
         "filter.sql: `n + 1` cannot be evaluated (cast), the event has n \"many\""},
        {"[{\"sql\":\"priority > 5\"}]",
         "filter.sql: `priority` cannot be evaluated (missingAttribute), the event has no priority"},
        {"[{\"sql\":\"nosuch(id)\"}]",
         "filter.sql: `nosuch(id)` cannot be evaluated (missingFunction)"},
        {"[{\"sql\":\"LENGTH(id)\"}]",
         "filter.sql: `LENGTH(id)` is 1, not true, the event has id \"1\""},
        {"[{\"sql\":\"n\"}]", "filter.sql: `n` is \"many\", not true, the event has n \"many\""},
        {"[{\"not\":{\"sql\":\"EXISTS n AND id = '1'\"}}]",
         "filter.not.sql: `EXISTS n AND id = '1'` is true, the event has n \"many\", id \"1\""},
        {"[{\"any\":[{\"sql\":\"FALSE\"},{\"exact\":{\"id\":\"2\"}}]}]",
         "filter.any has 2 members and none holds; the first: filter.any[0].sql: `FALSE` is false"},
    };
    check_all(cases, MR_ARRAY_COUNT(cases), event);
    mr_event_unref(event);
}

static void test_explain_data_shows_what_is_there(void **state)
{
    (void)state;
    struct mr_event *event = event_of_text(
        "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\",\"data\":"
        "{\"order\":{\"shop\":8,\"note\":\"a\\\"b\",\"big\":12345678901234567890,\"none\":null}}}");
    static const struct explained cases[] = {
        {"[{\"data\":{\"exact\":{\"order.shop\":\"8\"}}}]", "matches"},
        {"[{\"data\":{\"exact\":{\"order.shop\":\"7\"}}}]",
         "filter.data.exact.order.shop wants \"7\", the data has 8"},
        {"[{\"data\":{\"exact\":{\"order.note\":\"x\"}}}]",
         "filter.data.exact.order.note wants \"x\", the data has \"a\\\"b\""},
        {"[{\"data\":{\"exact\":{\"order.big\":\"12345678901234567891\"}}}]",
         "filter.data.exact.order.big wants \"12345678901234567891\", the data has "
         "12345678901234567890"},
        {"[{\"data\":{\"range\":{\"order.shop\":{\"gte\":1,\"lt\":8}}}}]",
         "filter.data.range.order.shop wants less than 8, the data has 8"},
        {"[{\"data\":{\"range\":{\"order.none\":{\"gt\":1}}}}]",
         "filter.data.range.order.none wants more than 1, the data has null"},
        {"[{\"data\":{\"exists\":{\"order.coupon\":true}}}]",
         "filter.data.exists.order.coupon wants it to be there, the data has none"},
        {"[{\"data\":{\"exists\":{\"order\":false}}}]",
         "filter.data.exists.order wants it not to be there, the data has an object"},
        {"[{\"data\":{\"in\":{\"order.shop\":[\"1\",2]}}}]",
         "filter.data.in.order.shop wants one of 2 values, the last of them \"2\", the data has 8"},
        {"[{\"data\":{\"cidr\":{\"order.note\":\"10.0.0.0/8\"}}}]",
         "filter.data.cidr.order.note wants an address in \"10.0.0.0/8\", the data has \"a\\\"b\""},
        {"[{\"data\":{\"not\":{\"prefix\":{\"order.note\":\"a\"}}}}]",
         "filter.data.not.prefix.order.note wants anything but \"a\", the data has \"a\\\"b\""},
    };
    check_all(cases, MR_ARRAY_COUNT(cases), event);
    mr_event_unref(event);
    event = make_data_event("text/plain", MR_BYTES_LITERAL("{}"));
    static const struct explained plain[] = {
        {"[{\"data\":{\"exact\":{\"a\":\"7\"}}}]",
         "filter.data.exact.a wants \"7\", the event has no JSON data"}};
    check_all(plain, MR_ARRAY_COUNT(plain), event);
    mr_event_unref(event);
}

static void test_explain_default_names_who_takes_it(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(0);
    fixture_add(f, "[{\"exact\":{\"type\":\"t\"}}]")->name = mr_strdup("orders");
    fixture_add(f, "[]")->is_default = true;
    fixture_start(f);
    struct mr_event *event = EVENT("type", "t");
    struct mr_buf out;
    mr_buf_init(&out, 4096);
    assert_false(mr_router_explain(f->router, 1, 0, mr_event_record(event), &out));
    assert_true(mr_bytes_equal(mr_buf_bytes(&out),
                               MR_BYTES_LITERAL("it is the default: it takes what no other "
                                                "subscription takes, and \"orders\" does")));
    mr_buf_release(&out);
    mr_event_unref(event);
    mr_free(f->subscriptions[0].name);
    fixture_destroy(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_explain_names_the_first_failed_clause),
        cmocka_unit_test(test_explain_negation_says_what_was_unwanted),
        cmocka_unit_test(test_explain_any_counts_its_members),
        cmocka_unit_test(test_explain_values_are_cut_and_cleaned),
        cmocka_unit_test(test_explain_source_names_both),
        cmocka_unit_test(test_explain_hidden_never_matches),
        cmocka_unit_test(test_explain_full_buffer_gets_nothing_but_the_answer_holds),
        cmocka_unit_test(test_explain_deepest_path_fits),
        cmocka_unit_test(test_explain_sql_names_the_member_that_failed),
        cmocka_unit_test(test_explain_data_shows_what_is_there),
        cmocka_unit_test(test_explain_default_names_who_takes_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
