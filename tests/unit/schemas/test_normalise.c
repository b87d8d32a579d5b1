#include "tests/unit/schemas/support.h"

#include "schemas/normalise.h"

#define MINIMAL "{\"specversion\":\"1.0\",\"id\":\"1\",\"type\":\"t.t\",\"source\":\"/s\"}"
#define MINIMAL_OUT "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"t.t\"}\n"

static struct mr_problem problem;

static enum mr_status in_with(struct mr_normalise_options options, const char *input,
                              char **ret_text)
{
    options.wall_ns = 1700000000ull * MR_SECOND;
    options.unique = options.unique == 0 ? 42 : options.unique;
    struct mr_buf out;
    mr_buf_init(&out, MR_MIB);
    enum mr_status r = mr_normalise_in(&options, mr_bytes_of(input), &out, &problem);
    *ret_text = mr_buf_take_text(&out);
    assert_non_null(*ret_text);
    return r;
}

static void assert_in(struct mr_normalise_options options, const char *input, const char *expected)
{
    char *text;
    enum mr_status r = in_with(options, input, &text);
    if (r != MR_OK) {
        fail_msg("%s: %s", mr_status_name(r), problem.text);
    }
    assert_string_equal(text, expected);
    assert_string_equal(problem.text, "");
    mr_free(text);
}

static void assert_in_fails(struct mr_normalise_options options, const char *input,
                            enum mr_status expected, const char *reason)
{
    char *text;
    assert_int_equal(in_with(options, input, &text), expected);
    assert_string_equal(text, "");
    if (strstr(problem.text, reason) == NULL) {
        fail_msg("%s", problem.text);
    }
    mr_free(text);
}

static struct mr_event *event_of(struct mr_normalise_options options, const char *input)
{
    char *text;
    enum mr_status r = in_with(options, input, &text);
    if (r != MR_OK) {
        fail_msg("%s: %s", mr_status_name(r), problem.text);
    }
    struct mr_event *event = decode_ok(text);
    mr_free(text);
    return event;
}

#define AS(...) ((struct mr_normalise_options){__VA_ARGS__})

static void test_cloudevents_object_and_array(void **state)
{
    (void)state;
    assert_in(AS(.as = "cloudevents"), MINIMAL, MINIMAL_OUT);
    assert_in(AS(.as = "cloudevents"), " [" MINIMAL "," MINIMAL "] ", MINIMAL_OUT MINIMAL_OUT);
    assert_in(AS(.as = "cloudevents"), "[]", "");
    assert_in_fails(AS(.as = "cloudevents"), "{}", MR_E_INVALID, "missing");
    assert_in_fails(AS(.as = "cloudevents"), "[" MINIMAL ",{}]", MR_E_INVALID, "event 1");
    assert_in_fails(AS(.as = "cloudevents"), "hello", MR_E_INVALID, "object");
    assert_in_fails(AS(.as = "cloudevents", .message = true), "{}", MR_E_INVALID,
                    "a recorded message");
}

static void test_http_with_header_lines(void **state)
{
    (void)state;
    struct mr_event *event = event_of(
        AS(.as = "http", .headers_text = "ce-specversion: 1.0\r\nCE-ID:  7 \r\n\r\nce-type: t\n"
                                         "ce-source: /s\nContent-Type: text/plain\nHost: a:80"),
        "x");
    assert_bytes(mr_event_id(mr_event_record(event)), "7");
    assert_value(event, "datacontenttype", "text/plain");
    mr_event_unref(event);
    assert_in_fails(AS(.as = "http", .headers_text = "a: b\nnonsense\n"), "", MR_E_INVALID,
                    "line 2");
    assert_in_fails(AS(.as = "http", .headers_text = ": b\n"), "", MR_E_INVALID, "line 1");
    assert_in_fails(AS(.as = "http"), "{}", MR_E_NOT_CLOUDEVENT, "ce-specversion");
    assert_in_fails(AS(.as = "http", .headers_text = "Content-Type: application/cloudevents+xml"),
                    "<x/>", MR_E_UNSUPPORTED, "application/cloudevents+xml");
}

static void test_http_message_forms(void **state)
{
    (void)state;
    const char *forms[] = {
        "{\"headers\":{\"ce-specversion\":\"1.0\",\"ce-id\":\"1\",\"ce-type\":\"t.t\","
        "\"ce-source\":\"/s\",\"unset\":null},\"body\":\"\"}",
        "{\"headers\":[[\"ce-specversion\",\"1.0\"],[\"ce-id\",\"1\"],[\"ce-type\",\"t.t\"],"
        "[\"ce-source\",\"/s\"]]}",
        "{\"request\":{\"headers\":{\"ce-specversion\":\"1.0\",\"ce-id\":[\"1\"],\"ce-type\":"
        "\"t.t\",\"ce-source\":\"/s\"}}}",
        "{\"body\":" MINIMAL ",\"headers\":{\"content-type\":\"application/cloudevents+json\"}}",
        "{\"headers\":{\"content-type\":\"application/cloudevents+json\"},\"body_base64\":"
        "\"eyJzcGVjdmVyc2lvbiI6IjEuMCIsImlkIjoiMSIsInR5cGUiOiJ0LnQiLCJzb3VyY2UiOiIvcyJ9\"}",
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(forms); i++) {
        assert_in(AS(.as = "http", .message = true), forms[i], MINIMAL_OUT);
        assert_in(AS(.as = "auto", .message = true), forms[i], MINIMAL_OUT);
    }
    assert_in_fails(AS(.as = "http", .message = true),
                    "{\"headers\":{\"ce-specversion\":\"1.0\",\"ce-id\":[\"1\",\"1\"],\"ce-type\":"
                    "\"t\",\"ce-source\":\"s\"}}",
                    MR_E_INVALID, "id is there twice");
}

static void test_message_that_is_none_is_invalid(void **state)
{
    (void)state;
    const char *bad[] = {"", "[]", "{}", "{", "5", "{\"headers\":5}", "{\"headers\":[5]}",
                         "{\"headers\":[[\"a\"]]}", "{\"body_base64\":\"x\"}",
                         "{\"body_base64\":5}", "{\"body\":\"\\ud83d\"}",
                         "{\"headers\":{\"a\":\"\\ud83d\"}}", "{\"message\":5}"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(bad); i++) {
        char *text;
        assert_int_equal(in_with(AS(.as = "http", .message = true), bad[i], &text), MR_E_INVALID);
        assert_string_not_equal(problem.text, "");
        mr_free(text);
    }
}

static void test_mqtt_message_is_decoded_or_wrapped(void **state)
{
    (void)state;
    assert_in(AS(.as = "mqtt", .message = true),
              "{\"version\":\"3.1.1\",\"payload\":" MINIMAL "}", MINIMAL_OUT);
    assert_in(AS(.as = "mqtt", .message = true),
              "{\"version\":5,\"user_properties\":{\"specversion\":\"1.0\",\"id\":\"1\",\"type\":"
              "\"t.t\",\"source\":\"/s\"},\"payload\":\"\"}",
              MINIMAL_OUT);
    struct mr_event *event = event_of(
        AS(.as = "mqtt", .message = true, .source_name = "plant"),
        "{\"topic\":\"a/b\",\"payload_base64\":\"\\/w==\",\"retain\":true,\"qos\":1}");
    assert_bytes(mr_event_source(mr_event_record(event)), "/mqtt/plant/a/b");
    assert_bytes(mr_event_data(mr_event_record(event)), "\xFF");
    assert_value(event, "retained", "true");
    mr_event_unref(event);
    assert_in_fails(AS(.as = "mqtt"), "{\"specversion\":\"1.0\"}", MR_E_INVALID, "missing");
}

static void test_mqtt_payload_with_topic(void **state)
{
    (void)state;
    struct mr_event *event = event_of(AS(.as = "mqtt", .topic = "t/1"),
                                      "{\"topic\":\"no\",\"payload\":1}");
    assert_value(event, "subject", "t/1");
    assert_bytes(mr_event_source(mr_event_record(event)), "/mqtt/normalise/t/1");
    assert_bytes(mr_event_data(mr_event_record(event)), "{\"topic\":\"no\",\"payload\":1}");
    mr_event_unref(event);
}

static void test_generic_has_a_replayable_id(void **state)
{
    (void)state;
    struct mr_event *a = event_of(AS(.as = "generic", .source_name = "my shop"), "x");
    struct mr_event *b = event_of(AS(.as = "generic", .unique = 42), "x");
    struct mr_event *c = event_of(AS(.as = "generic", .unique = 43), "x");
    assert_bytes(mr_event_source(mr_event_record(a)), "/millrace/source/my%20shop");
    assert_bytes(mr_event_type(mr_event_record(a)), "io.millrace.http.message");
    assert_value(a, "datacontenttype", "application/octet-stream");
    assert_int_equal(mr_event_id(mr_event_record(a)).size, 36);
    assert_true(mr_bytes_equal(mr_event_id(mr_event_record(a)), mr_event_id(mr_event_record(b))));
    assert_false(mr_bytes_equal(mr_event_id(mr_event_record(a)), mr_event_id(mr_event_record(c))));
    mr_event_unref(a);
    mr_event_unref(b);
    mr_event_unref(c);
    a = event_of(AS(.as = "generic", .headers_text = "Content-Type: text/csv"), "1,2");
    assert_value(a, "datacontenttype", "text/csv");
    mr_event_unref(a);
}

static void test_auto_finds_out(void **state)
{
    (void)state;
    assert_in(AS(.as = "auto"), MINIMAL, MINIMAL_OUT);
    assert_in(AS(.as = "auto"), "[" MINIMAL "," MINIMAL "]", MINIMAL_OUT MINIMAL_OUT);
    assert_in(AS(.as = "auto", .headers_text = "Accept: x"), MINIMAL, MINIMAL_OUT);
    assert_in_fails(AS(.as = "auto"), "{\"specversion\":\"1.0\"}", MR_E_INVALID, "missing");
    const struct {
        struct mr_normalise_options options;
        const char *input;
        const char *type;
        const char *datacontenttype;
    } cases[] = {
        {{.as = "auto"}, "{\"a\":1}", "io.millrace.http.message", "application/json"},
        {{.as = "auto"}, "[]", "io.millrace.http.message", "application/json"},
        {{.as = "auto"}, "hello", "io.millrace.http.message", "application/octet-stream"},
        {{.as = "auto", .headers_text = "content-type: text/xml"}, "<a/>",
         "io.millrace.http.message", "text/xml"},
        {{.as = "auto", .topic = "a/b"}, "1", "org.mqtt.message", "application/json"},
        {{.as = "auto", .message = true}, "{\"topic\":\"a\",\"payload\":\"ON\"}",
         "org.mqtt.message", "application/octet-stream"},
        {{.as = "auto", .message = true},
         "{\"headers\":{\"content-type\":\"a/b\"},\"body\":\"ON\"}", "io.millrace.http.message",
         "a/b"},
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(cases); i++) {
        struct mr_event *event = event_of(cases[i].options, cases[i].input);
        assert_bytes(mr_event_type(mr_event_record(event)), cases[i].type);
        assert_value(event, "datacontenttype", cases[i].datacontenttype);
        mr_event_unref(event);
    }
}

static void test_unknown_adapters_are_unsupported(void **state)
{
    (void)state;
    assert_in_fails(AS(.as = "fax"), "{}", MR_E_UNSUPPORTED, "no adapter \"fax\"");
}

static enum mr_status out(const char *protocol, enum mr_mode mode, const char *input, char **ret)
{
    struct mr_buf buf;
    mr_buf_init(&buf, MR_MIB);
    enum mr_status r = mr_normalise_out(protocol, mode, mr_bytes_of(input), &buf, &problem);
    *ret = mr_buf_take_text(&buf);
    assert_non_null(*ret);
    return r;
}

static void assert_out(const char *protocol, enum mr_mode mode, const char *input,
                       const char *expected)
{
    char *text;
    enum mr_status r = out(protocol, mode, input, &text);
    if (r != MR_OK) {
        fail_msg("%s: %s", mr_status_name(r), problem.text);
    }
    assert_string_equal(text, expected);
    cJSON *json = cJSON_Parse(text);
    assert_non_null(json);
    cJSON_Delete(json);
    mr_free(text);
}

static void test_out_http(void **state)
{
    (void)state;
    assert_out("http", MR_MODE_BINARY, MINIMAL,
               "{\"headers\":{\"ce-specversion\":\"1.0\",\"ce-id\":\"1\",\"ce-source\":\"/s\","
               "\"ce-type\":\"t.t\"},\"body\":\"\"}\n");
    assert_out("http", MR_MODE_BINARY,
               "{\"specversion\":\"1.0\",\"id\":\"1\",\"type\":\"t\",\"source\":\"/s\","
               "\"data\":{\"a\":\"\\\"\"}}",
               "{\"headers\":{\"Content-Type\":\"application/json\",\"ce-specversion\":\"1.0\","
               "\"ce-id\":\"1\",\"ce-source\":\"/s\",\"ce-type\":\"t\"},"
               "\"body\":\"{\\\"a\\\":\\\"\\\\\\\"\\\"}\"}\n");
    assert_out("http", MR_MODE_BINARY,
               "{\"specversion\":\"1.0\",\"id\":\"1\",\"type\":\"t\",\"source\":\"/s\","
               "\"data_base64\":\"/w==\"}",
               "{\"headers\":{\"ce-specversion\":\"1.0\",\"ce-id\":\"1\",\"ce-source\":\"/s\","
               "\"ce-type\":\"t\"},\"body_base64\":\"/w==\"}\n");
    assert_out("http", MR_MODE_STRUCTURED, "[" MINIMAL "]",
               "{\"headers\":{\"Content-Type\":\"application/cloudevents+json\"},\"body\":"
               "\"{\\\"specversion\\\":\\\"1.0\\\",\\\"id\\\":\\\"1\\\",\\\"source\\\":\\\"/s\\\","
               "\\\"type\\\":\\\"t.t\\\"}\"}\n");
    assert_out("http", MR_MODE_BATCH, "[]",
               "{\"headers\":{\"Content-Type\":\"application/cloudevents-batch+json\"},\"body\":"
               "\"[]\"}\n");
}

static void test_out_http_batch_of_two(void **state)
{
    (void)state;
    char *text;
    assert_int_equal(out("http", MR_MODE_BATCH, "[" MINIMAL "," MINIMAL "]", &text), MR_OK);
    cJSON *json = cJSON_Parse(text);
    cJSON *body = cJSON_Parse(string_of(json, "body"));
    assert_int_equal(cJSON_GetArraySize(body), 2);
    cJSON_Delete(body);
    cJSON_Delete(json);
    mr_free(text);
}

static void test_out_mqtt(void **state)
{
    (void)state;
    assert_out("mqtt", MR_MODE_BINARY,
               "{\"specversion\":\"1.0\",\"id\":\"1\",\"type\":\"t\",\"source\":\"/s\","
               "\"datacontenttype\":\"text/plain\",\"data\":\"x\"}",
               "{\"version\":5,\"content_type\":\"text/plain\",\"user_properties\":"
               "[[\"specversion\",\"1.0\"],[\"id\",\"1\"],[\"source\",\"/s\"],[\"type\",\"t\"]],"
               "\"payload\":\"x\"}\n");
    assert_out("mqtt", MR_MODE_BINARY, MINIMAL,
               "{\"version\":5,\"user_properties\":[[\"specversion\",\"1.0\"],[\"id\",\"1\"],"
               "[\"source\",\"/s\"],[\"type\",\"t.t\"]],\"payload\":\"\"}\n");
    assert_out("mqtt", MR_MODE_STRUCTURED, MINIMAL,
               "{\"version\":5,\"content_type\":\"application/cloudevents+json\","
               "\"user_properties\":[],\"payload\":\"{\\\"specversion\\\":\\\"1.0\\\",\\\"id\\\":"
               "\\\"1\\\",\\\"source\\\":\\\"/s\\\",\\\"type\\\":\\\"t.t\\\"}\"}\n");
}

static void test_out_refusals(void **state)
{
    (void)state;
    char *text;
    assert_int_equal(out("fax", MR_MODE_BINARY, MINIMAL, &text), MR_E_UNSUPPORTED);
    assert_non_null(strstr(problem.text, "http, kafka, amqp or mqtt"));
    mr_free(text);
    const char *single[] = {"kafka", "amqp", "mqtt"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(single); i++) {
        assert_int_equal(out(single[i], MR_MODE_BATCH, "[]", &text), MR_E_UNSUPPORTED);
        assert_non_null(strstr(problem.text, "no batches"));
        mr_free(text);
    }
    assert_int_equal(out("http", MR_MODE_BINARY, "[" MINIMAL "," MINIMAL "]", &text), MR_E_INVALID);
    assert_non_null(strstr(problem.text, "batch"));
    mr_free(text);
    assert_int_equal(out("http", MR_MODE_BINARY, "[]", &text), MR_E_INVALID);
    mr_free(text);
    assert_int_equal(out("http", MR_MODE_BINARY, "{}", &text), MR_E_INVALID);
    assert_string_equal(text, "");
    mr_free(text);
}

static void test_out_then_in_gives_the_event_back(void **state)
{
    (void)state;
    const char *event = "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\","
                        "\"subject\":\"100% \\\"\xE2\x82\xAC\\\"\",\"datacontenttype\":"
                        "\"application/json\",\"data\":{\"n\":820982911946154508}}";
    const char *protocols[] = {"http", "mqtt"};
    for (size_t p = 0; p < 2; p++) {
        for (enum mr_mode mode = MR_MODE_BINARY; mode <= MR_MODE_STRUCTURED; mode++) {
            char *message;
            assert_int_equal(out(protocols[p], mode, event, &message), MR_OK);
            char *back;
            assert_int_equal(in_with(AS(.as = protocols[p], .message = true), message, &back),
                             MR_OK);
            assert_int_equal(strlen(back), strlen(event) + 1);
            assert_memory_equal(back, event, strlen(event));
            mr_free(back);
            mr_free(message);
        }
    }
}

/* Runs @p input in and an event out with every allocation failing in turn. */
static void fail_each_allocation(const char *as, const char *input, const char *to,
                                 enum mr_mode mode)
{
    int64_t live = mr_alloc_live();
    enum mr_status r = MR_E_NOMEM;
    for (uint64_t n = 1; r != MR_OK && n < 200; n++) {
        struct mr_buf buf;
        mr_buf_init(&buf, MR_MIB);
        (void)mr_alloc_fail_at(n, 0);
        struct mr_normalise_options options = {.as = as, .message = true, .unique = 1};
        r = mr_normalise_in(&options, mr_bytes_of(input), &buf, &problem);
        if (r == MR_OK) {
            mr_buf_clear(&buf);
            r = mr_normalise_out(to, mode, mr_bytes_of("[" MINIMAL "]"), &buf, &problem);
        }
        (void)mr_alloc_fail_at(0, 0);
        assert_true(r == MR_OK || r == MR_E_NOMEM);
        assert_true(r == MR_OK || problem.text[0] != '\0');
        mr_buf_release(&buf);
        assert_int_equal(mr_alloc_live(), live);
    }
    assert_int_equal(r, MR_OK);
}

static void test_normalise_every_failed_allocation_leaks_nothing(void **state)
{
    (void)state;
    fail_each_allocation("auto",
                         "{\"headers\":{\"Content-Type\":\"a\\/b\"},\"body_base64\":\"/w==\"}",
                         "http", MR_MODE_BATCH);
    fail_each_allocation("kafka",
                         "{\"topic\":\"t\",\"key_base64\":\"/w==\",\"headers\":[[\"a\","
                         "{\"$binary\":\"/w==\"}],[\"b\",[\"1\",null]]],\"value\":\"x\"}",
                         "kafka", MR_MODE_BINARY);
    fail_each_allocation("amqp",
                         "{\"protocol\":\"1.0\",\"properties\":{\"cloudEvents_id\":\"1\","
                         "\"cloudEvents_specversion\":\"1.0\",\"cloudEvents_type\":\"t\","
                         "\"cloudEvents_source\":\"/s\",\"cloudEvents_n\":{\"$long\":5},"
                         "\"cloudEvents_bin\":{\"$binary\":\"/w==\"}},\"body\":\"\"}",
                         "amqp", MR_MODE_STRUCTURED);
    fail_each_allocation("auto",
                         "{\"eventSource\":\"aws:rmq\",\"rmqMessagesByQueue\":{\"q\":["
                         "{\"basicProperties\":{\"headers\":{\"a\":{\"bytes\":[118]}}},"
                         "\"data\":\"eA==\"}]}}",
                         "mqtt", MR_MODE_BINARY);
    fail_each_allocation("auto",
                         "{\"eventSource\":\"aws:amq\",\"messages\":[{\"messageID\":\"1\","
                         "\"data\":\"eA==\"}]}",
                         "mqtt", MR_MODE_STRUCTURED);
}

/* Each has a reason and no output. */
static void test_messages_of_brokers_that_are_none_are_invalid(void **state)
{
    (void)state;
    const char *bad[][2] = {
        {"kafka", "{\"value_base64\":\"x\"}"},
        {"kafka", "{\"value\":\"x\",\"partition\":\"two\"}"},
        {"kafka", "{\"value\":\"x\",\"partition\":2147483648}"},
        {"kafka", "{\"value\":\"x\",\"offset\":99999999999999999999}"},
        {"kafka", "{\"value\":\"x\",\"timestamp_ms\":\"now\"}"},
        {"kafka", "{\"value\":\"x\",\"headers\":{\"a\":{\"$binary\":\"x\"}}}"},
        {"kafka", "{\"value\":\"x\",\"headers\":{\"a\":{\"$binary\":[256]}}}"},
        {"amqp", "{\"protocol\":\"1.0\",\"properties\":5}"},
        {"amqp", "{\"protocol\":\"1.0\",\"body_base64\":\"x\"}"},
        {"auto", "{\"eventSource\":\"aws:kafka\"}"},
        {"auto", "{\"eventSource\":\"aws:kafka\",\"records\":[]}"},
        {"auto", "{\"eventSource\":\"aws:kafka\",\"records\":{\"t-0\":5}}"},
        {"auto", "{\"eventSource\":\"aws:kafka\",\"records\":{\"t-0\":[{\"value\":\"x\"}]}}"},
        {"auto", "{\"eventSource\":\"aws:amq\",\"messages\":[{\"data\":5}]}"},
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(bad); i++) {
        assert_in_fails(AS(.as = bad[i][0], .message = true), bad[i][1], MR_E_INVALID, " ");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cloudevents_object_and_array),
        cmocka_unit_test(test_http_with_header_lines),
        cmocka_unit_test(test_http_message_forms),
        cmocka_unit_test(test_message_that_is_none_is_invalid),
        cmocka_unit_test(test_mqtt_message_is_decoded_or_wrapped),
        cmocka_unit_test(test_mqtt_payload_with_topic),
        cmocka_unit_test(test_generic_has_a_replayable_id),
        cmocka_unit_test(test_auto_finds_out),
        cmocka_unit_test(test_unknown_adapters_are_unsupported),
        cmocka_unit_test(test_out_http),
        cmocka_unit_test(test_out_http_batch_of_two),
        cmocka_unit_test(test_out_mqtt),
        cmocka_unit_test(test_out_refusals),
        cmocka_unit_test(test_out_then_in_gives_the_event_back),
        cmocka_unit_test(test_messages_of_brokers_that_are_none_are_invalid),
        cmocka_unit_test(test_normalise_every_failed_allocation_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
