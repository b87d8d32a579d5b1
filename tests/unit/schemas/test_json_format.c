#include "tests/unit/schemas/support.h"

#define HEAD "{\"specversion\":\"1.0\",\"id\":\"1\",\"type\":\"t.t\",\"source\":\"/s\""

static enum mr_status decode(struct mr_bytes text, struct mr_event **ret_event,
                             struct mr_problem *problem)
{
    *ret_event = NULL;
    return mr_json_decode_event(text, MR_EVENT_SIZE_MAX, ret_event, problem);
}

static void assert_refused(struct mr_bytes text)
{
    struct mr_event *event;
    struct mr_problem problem = {0};
    enum mr_status r = decode(text, &event, &problem);
    if (r != MR_E_INVALID || event != NULL || problem.text[0] == '\0') {
        fail_msg("%.*s: %s", (int)text.size, (const char *)text.data, mr_status_name(r));
    }
}

static void assert_text_refused(const char *text)
{
    assert_refused(mr_bytes_of(text));
}

static void assert_data(const struct mr_event *event, const char *expected)
{
    assert_true(mr_event_has_data(mr_event_record(event)));
    assert_bytes(mr_event_data(mr_event_record(event)), expected);
}

static void assert_encodes(const char *text, const char *expected)
{
    struct mr_event *event = decode_ok(text);
    char *out = encode_text(event);
    assert_string_equal(out, expected);
    mr_free(out);
    mr_event_unref(event);
}

static void test_decode_minimal_has_no_data(void **state)
{
    (void)state;
    struct mr_event *event = decode_ok(HEAD "}");
    assert_false(mr_event_has_data(mr_event_record(event)));
    assert_bytes(mr_event_type(mr_event_record(event)), "t.t");
    mr_event_unref(event);
}

static void test_decode_white_space_everywhere_passes(void **state)
{
    (void)state;
    struct mr_event *event = decode_ok(" \t\r\n{ \"specversion\" : \"1.0\" ,\n\"id\"\t:\"1\", "
                                       "\"type\":\"t\" , \"source\" : \"/s\" , \"n\" : 5 , "
                                       "\"data\" :  { \"a\" : [ 1 , 2 ] }  } \n");
    assert_value(event, "n", "5");
    assert_data(event, "{ \"a\" : [ 1 , 2 ] }");
    mr_event_unref(event);
}

static void test_decode_types_are_kept(void **state)
{
    (void)state;
    struct mr_event *event =
        decode_ok(HEAD ",\"i\":-5,\"b\":true,\"s\":\"5\",\"f\":false,\"z\":-0}");
    struct mr_attr attr;
    struct mr_bytes record = mr_event_record(event);
    const char *names[] = {"i", "b", "s", "f", "z"};
    const char *values[] = {"-5", "true", "5", "false", "0"};
    enum mr_attr_type types[] = {MR_ATTR_INTEGER, MR_ATTR_BOOLEAN, MR_ATTR_STRING,
                                 MR_ATTR_BOOLEAN, MR_ATTR_INTEGER};
    for (size_t i = 0; i < 5; i++) {
        assert_true(mr_event_attr(record, mr_bytes_of(names[i]), &attr));
        assert_bytes(attr.value, values[i]);
        assert_int_equal(attr.type, types[i]);
    }
    mr_event_unref(event);
}

static void test_decode_null_attributes_are_absent(void **state)
{
    (void)state;
    struct mr_event *event = decode_ok(HEAD ",\"subject\":null,\"time\":null,\"myext\":null}");
    assert_false(has_attr(event, "subject"));
    assert_false(has_attr(event, "time"));
    assert_false(has_attr(event, "myext"));
    mr_event_unref(event);
    assert_text_refused("{\"specversion\":\"1.0\",\"id\":null,\"type\":\"t\",\"source\":\"/s\"}");
    assert_text_refused(HEAD ",\"Bad\":null}");
}

static void test_decode_duplicates_are_invalid(void **state)
{
    (void)state;
    const char *more[] = {",\"id\":\"2\"}",
                          ",\"id\":\"1\"}",
                          ",\"specversion\":\"1.0\"}",
                          ",\"x\":1,\"x\":1}",
                          ",\"x\":null,\"x\":1}",
                          ",\"x\":1,\"x\":null}",
                          ",\"x\":null,\"x\":null}",
                          ",\"i\\u0064\":\"1\"}",
                          ",\"\\u0069d\":\"1\"}",
                          ",\"data\":1,\"data\":1}",
                          ",\"data\":null,\"data\":null}",
                          ",\"data\":1,\"d\\u0061ta\":1}",
                          ",\"data_base64\":\"\",\"data_base64\":\"\"}",
                          ",\"data_base64\":null,\"data_base64\":\"\"}",
                          ",\"id\":null}"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(more); i++) {
        char text[256];
        snprintf(text, sizeof(text), HEAD "%s", more[i]);
        assert_text_refused(text);
    }
}

static void test_decode_escaped_names_are_unescaped(void **state)
{
    (void)state;
    struct mr_event *event = decode_ok("{\"\\u0073pecversion\":\"1.0\",\"i\\u0064\":\"1\","
                                       "\"type\":\"t\",\"source\":\"\\/s\",\"d\\u0061ta\":[]}");
    assert_bytes(mr_event_source(mr_event_record(event)), "/s");
    assert_data(event, "[]");
    mr_event_unref(event);
}

static void test_decode_escapes_in_values(void **state)
{
    (void)state;
    struct mr_event *event =
        decode_ok(HEAD ",\"subject\":\"\\\"\\\\\\/\\u00f8\\u20AC\\ud83d\\ude00\"}");
    assert_value(event, "subject", "\"\\/\xC3\xB8\xE2\x82\xAC\xF0\x9F\x98\x80");
    mr_event_unref(event);
}

static void test_decode_bad_strings_are_invalid(void **state)
{
    (void)state;
    const char *bad[] = {
        "\\n",         "\\t",       "\\u0000",      "\\u001f",         "\\u007f", "\\u0085",
        "\\ufffe",     "\\ufdd0",   "\\ud83d",      "\\ude00",         "\\ud83dx",
        "\\ud83d\\n",  "\\ud83d\\ud83d", "\\ude00\\ud83d", "\\ud83f\\udffe", "\\x", "\\u12",
        "\\u12g4",     "\\U0041",   "\\",           "\n",              "\x01",   "\xFF",
        "\xC0\xA0",    "\xED\xA0\x80", "\xE2\x82",  "\xF4\x90\x80\x80", "\\'",
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(bad); i++) {
        char text[256];
        snprintf(text, sizeof(text), HEAD ",\"subject\":\"%s\"}", bad[i]);
        assert_text_refused(text);
    }
    assert_refused(MR_BYTES_LITERAL(HEAD ",\"subject\":\"a\0b\"}"));
}

static void test_decode_attribute_of_no_type_is_invalid(void **state)
{
    (void)state;
    const char *bad[] = {"{}",  "[]", "1.5", "1.0", "1e3", "2147483648", "-2147483649", "01",
                         "+1",  "-",  "tru", "nul", "True", "1.",        ".5",          "1e",
                         "'x'", "NaN", "", "truee", "0x1"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(bad); i++) {
        char text[256];
        snprintf(text, sizeof(text), HEAD ",\"x\":%s}", bad[i]);
        assert_text_refused(text);
    }
    const char *core[] = {"id", "type", "source", "specversion"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(core); i++) {
        char text[256];
        snprintf(text, sizeof(text), "{\"%s\":1}", core[i]);
        assert_text_refused(text);
    }
    assert_text_refused(HEAD ",\"subject\":5}");
    assert_text_refused(HEAD ",\"time\":true}");
}

static void test_decode_broken_json_is_invalid(void **state)
{
    (void)state;
    const char *bad[] = {
        "", " ", "null", "1", "\"x\"", "[]", "{", "{}", "{]", HEAD, HEAD ",", HEAD ",}",
        HEAD "}}", HEAD "} x", HEAD "}{}", HEAD ",\"x\"}", HEAD ",\"x\":}", HEAD ",x:1}",
        HEAD " \"x\":1}", HEAD ",,\"x\":1}", HEAD ",\"data\":}", HEAD ",\"data\":{]}",
        HEAD ",\"data\":[}}", HEAD ",\"data\":[1,]}", HEAD ",\"data\":[,1]}",
        HEAD ",\"data\":{\"a\"}}", HEAD ",\"data\":{\"a\":1,}}", HEAD ",\"data\":{1:1}}",
        HEAD ",\"data\":{\"a\":1 \"b\":2}}", HEAD ",\"data\":[1 2]}", HEAD ",\"data\":01}",
        HEAD ",\"data\":1.}", HEAD ",\"data\":-}", HEAD ",\"data\":truex}",
        HEAD ",\"data\":\"\n\"}", HEAD ",\"data\":\"\\q\"}", HEAD ",\"data\":\"\xFF\"}",
        HEAD ",\"data\":[[]}", HEAD ",\"data\":/**/1}", "\xEF\xBB\xBF" HEAD "}",
        HEAD ",\"data\":\"x}", HEAD ",\"data\":[", HEAD ",\"data\":{\"a\":", HEAD "}\f",
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(bad); i++) {
        assert_text_refused(bad[i]);
    }
}

static void test_decode_every_truncation_is_invalid(void **state)
{
    (void)state;
    const char *text = HEAD ",\"n\":12,\"b\":true,\"z\":null,\"subject\":\"\\u00f8\xC3\xB8\","
                            "\"data\":{\"a\":[1,-2.5e+7,\"\\ud83d\\ude00\",{}],\"b\":null}}";
    mr_event_unref(decode_ok(text));
    for (size_t size = 0; size < strlen(text); size++) {
        /* on the heap without a byte to spare, so that a sanitizer sees reading past the end */
        char *copy = malloc(size + 1);
        memcpy(copy, text, size);
        char *exact = realloc(copy, size == 0 ? 1 : size);
        assert_refused(mr_bytes(exact, size));
        free(exact);
    }
}

static void test_decode_problem_tells_the_position(void **state)
{
    (void)state;
    struct mr_event *event;
    struct mr_problem problem = {0};
    assert_int_equal(decode(mr_bytes_of("{\"id\":\"1\",\"x\":@}"), &event, &problem),
                     MR_E_INVALID);
    assert_non_null(strstr(problem.text, "byte 14"));
    assert_int_equal(decode(mr_bytes_of("{\"id\":\"1\",\"time\":\"now\"}"), &event, &problem),
                     MR_E_INVALID);
    assert_non_null(strstr(problem.text, "time is not an RFC 3339 timestamp (at byte 10)"));
}

static void test_decode_specversion_is_unsupported(void **state)
{
    (void)state;
    struct mr_event *event;
    struct mr_problem problem = {0};
    const char *text = "{\"specversion\":\"0.3\",\"id\":\"1\",\"type\":\"t\",\"source\":\"/s\"}";
    assert_int_equal(decode(mr_bytes_of(text), &event, &problem), MR_E_UNSUPPORTED);
    assert_non_null(strstr(problem.text, "0.3"));
}

static void test_decode_json_data_is_kept_byte_for_byte(void **state)
{
    (void)state;
    const char *datas[] = {
        "820982911946154508", "{\"b\":1,\"a\":1,\"a\":2}", "[ 1.50, 19.99e0 ,-0 ]", "\"text\"",
        "\"a \\u00f8 \\/ \\\"\"", "true", "null", "{ }", "[\n]", "\"\\ud83d\"", "\"{}\"",
        "\"\\u0000\"",
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(datas); i++) {
        char text[512];
        snprintf(text, sizeof(text),
                 HEAD ",\"datacontenttype\":\"application/json\",\"data\": %s }", datas[i]);
        struct mr_event *event = decode_ok(text);
        assert_data(event, datas[i]);
        assert_true(mr_event_data_is_json(mr_event_record(event)));
        mr_event_unref(event);
        snprintf(text, sizeof(text), "{\"data\":%s,%s}", datas[i], HEAD + 1);
        event = decode_ok(text);
        assert_data(event, datas[i]);
        assert_true(mr_event_data_is_json(mr_event_record(event)));
        assert_false(has_attr(event, "datacontenttype"));
        mr_event_unref(event);
    }
}

static void test_decode_text_data_becomes_the_text(void **state)
{
    (void)state;
    struct mr_event *event =
        decode_ok(HEAD ",\"data\":\"a\\n\\u0000\\ud83d\\ude00\","
                       "\"datacontenttype\":\"text/plain\"}");
    struct mr_bytes data = mr_event_data(mr_event_record(event));
    assert_int_equal(data.size, 7);
    assert_memory_equal(data.data, "a\n\0\xF0\x9F\x98\x80", 7);
    assert_false(mr_event_data_is_json(mr_event_record(event)));
    mr_event_unref(event);
    event = decode_ok(HEAD ",\"datacontenttype\":\"text/xml\",\"data\":\"\"}");
    assert_data(event, "");
    mr_event_unref(event);
}

static void test_decode_text_data_not_a_string_is_invalid(void **state)
{
    (void)state;
    const char *bad[] = {"{}", "1", "true", "null", "[\"x\"]", "\"\\ud83d\""};
    for (size_t i = 0; i < MR_ARRAY_COUNT(bad); i++) {
        char text[256];
        snprintf(text, sizeof(text), HEAD ",\"datacontenttype\":\"text/plain\",\"data\":%s}",
                 bad[i]);
        assert_text_refused(text);
    }
}

static void test_decode_base64_becomes_bytes_and_type_stays_absent(void **state)
{
    (void)state;
    struct mr_event *event = decode_ok(HEAD ",\"data_base64\":\"\\/\\/8A\"}");
    struct mr_bytes data = mr_event_data(mr_event_record(event));
    assert_int_equal(data.size, 3);
    assert_memory_equal(data.data, "\xFF\xFF\x00", 3);
    assert_false(has_attr(event, "datacontenttype"));
    assert_false(mr_event_data_is_json(mr_event_record(event)));
    char *text = encode_text(event);
    assert_non_null(strstr(text, ",\"data_base64\":\"//8A\"}"));
    mr_free(text);
    mr_event_unref(event);
}

static void test_decode_bad_base64_is_invalid(void **state)
{
    (void)state;
    const char *bad[] = {"\"TWE\"", "\"... base64 encoded string ...\"", "5", "true", "{}",
                         "\"TW\\nE\"", "\"T-_=\"", "\"====\"", "\"TWE=TWE=\""};
    for (size_t i = 0; i < MR_ARRAY_COUNT(bad); i++) {
        char text[256];
        snprintf(text, sizeof(text), HEAD ",\"data_base64\":%s}", bad[i]);
        assert_text_refused(text);
    }
}

static void test_decode_both_data_members(void **state)
{
    (void)state;
    assert_text_refused(HEAD ",\"data\":\"text\",\"data_base64\":\"TWE=\"}");
    assert_text_refused(HEAD ",\"data_base64\":\"\",\"data\":0}");
    struct mr_event *event = decode_ok(HEAD ",\"data\":null,\"data_base64\":\"TWE=\"}");
    assert_data(event, "Ma");
    mr_event_unref(event);
    event = decode_ok(HEAD ",\"data\":7,\"data_base64\":null}");
    assert_data(event, "7");
    mr_event_unref(event);
    event = decode_ok(HEAD ",\"data_base64\":null}");
    assert_false(mr_event_has_data(mr_event_record(event)));
    mr_event_unref(event);
}

static void test_decode_depth_is_bounded(void **state)
{
    (void)state;
    char text[2048];
    for (unsigned depth = MR_JSON_DEPTH_MAX - 1; depth <= MR_JSON_DEPTH_MAX + 1; depth++) {
        size_t n = (size_t)snprintf(text, sizeof(text), HEAD ",\"data\":");
        memset(text + n, '[', depth);
        memset(text + n + depth, ']', depth);
        memcpy(text + n + 2u * depth, "}", 2);
        struct mr_event *event;
        enum mr_status r = decode(mr_bytes_of(text), &event, NULL);
        assert_int_equal(r, depth <= MR_JSON_DEPTH_MAX ? MR_OK : MR_E_INVALID);
        mr_event_unref(event);
    }
}

static void test_decode_deep_nesting_does_not_recurse(void **state)
{
    (void)state;
    size_t size = 4 * MR_MIB;
    char *text = malloc(size);
    memset(text, '[', size);
    assert_false(mr_json_is_value(mr_bytes(text, size)));
    assert_refused(mr_bytes(text, size));
    memset(text, '{', size);
    assert_refused(mr_bytes(text, size));
    free(text);
}

static void test_decode_too_big_is_refused(void **state)
{
    (void)state;
    struct mr_event *event = NULL;
    const char *text = HEAD ",\"data\":\"0123456789012345678901234567890123456789\"}";
    assert_int_equal(mr_json_decode_event(mr_bytes_of(text), 90, &event, NULL), MR_E_TOO_BIG);
    assert_null(event);
}

static void test_decode_many_members_are_too_big(void **state)
{
    (void)state;
    for (int null = 0; null < 2; null++) {
        char text[4096] = HEAD;
        size_t n = strlen(text);
        for (unsigned i = 0; i < 100; i++) {
            n += (size_t)snprintf(text + n, sizeof(text) - n, ",\"x%u\":%s", i,
                                  null ? "null" : "1");
        }
        memcpy(text + n, "}", 2);
        struct mr_event *event;
        assert_int_equal(decode(mr_bytes_of(text), &event, NULL), MR_E_TOO_BIG);
    }
}

static void test_encode_is_compact_and_ordered(void **state)
{
    (void)state;
    assert_encodes("{ \"data\" : { \"a\" : 1 }, \"myext\" : 5, \"source\":\"/s\", \"time\" : "
                   "\"2018-04-05t17:31:00z\", \"flag\" : true, \"id\":\"1\",\"type\":\"t\","
                   "\"specversion\":\"1.0\"}",
                   "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\","
                   "\"myext\":5,\"time\":\"2018-04-05t17:31:00z\",\"flag\":true,"
                   "\"data\":{ \"a\" : 1 }}");
}

static void test_encode_escapes_what_it_must(void **state)
{
    (void)state;
    assert_encodes(HEAD ",\"subject\":\"\\\"\\\\\\/ \\u20ac\","
                        "\"datacontenttype\":\"text/plain\",\"data\":\"\\u0000\\u001f\\b\\f\\n\\r"
                        "\\t \\\" \\\\ \\u007f 0123456789 \\\" abcdefgh\"}",
                   "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"t.t\","
                   "\"subject\":\"\\\"\\\\/ \xE2\x82\xAC\",\"datacontenttype\":\"text/plain\","
                   "\"data\":\"\\u0000\\u001f\\b\\f\\n\\r\\t \\\" \\\\ \x7F 0123456789 \\\" "
                   "abcdefgh\"}");
}

static void test_encode_event_has_no_line_breaks_encode_exact_keeps_them(void **state)
{
    (void)state;
    struct mr_event *event = decode_ok(HEAD ",\"data\":{\r\n \"a\":\n[\"\\n\"]\r}}");
    struct mr_buf out;
    mr_buf_init(&out, MR_MIB);
    assert_int_equal(mr_buf_append_text(&out, "before\n"), MR_OK);
    assert_int_equal(mr_json_encode_event(mr_event_record(event), &out), MR_OK);
    assert_bytes(mr_buf_bytes(&out), "before\n{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":"
                                     "\"/s\",\"type\":\"t.t\",\"data\":{   \"a\": [\"\\n\"] "
                                     "}}");
    mr_buf_release(&out);
    char *text = encode_text(event);
    assert_non_null(strstr(text, "{\r\n \"a\":\n[\"\\n\"]\r}"));
    mr_free(text);
    mr_event_unref(event);
}

static void test_encode_base64_json_stays_base64(void **state)
{
    (void)state;
    struct mr_event *event =
        decode_ok(HEAD ",\"datacontenttype\":\"application/json\",\"data_base64\":\"e30=\"}");
    assert_data(event, "{}");
    assert_true(mr_event_data_is_json(mr_event_record(event)));
    char *text = encode_text(event);
    assert_non_null(strstr(text, "\"data_base64\":\"e30=\""));
    mr_free(text);
    mr_event_unref(event);
}

static void test_encode_into_a_full_buffer_leaves_it_alone(void **state)
{
    (void)state;
    struct mr_event *event = decode_ok(HEAD ",\"data\":[1,2,3]}");
    char *whole = encode_text(event);
    size_t size = strlen(whole);
    for (size_t size_max = 0; size_max <= size + 3; size_max++) {
        struct mr_buf out;
        mr_buf_init(&out, size_max + 1);
        assert_int_equal(mr_buf_append_byte(&out, '#'), MR_OK);
        enum mr_status r = mr_json_encode_event(mr_event_record(event), &out);
        assert_int_equal(r, size_max >= size ? MR_OK : MR_E_TOO_BIG);
        assert_int_equal(out.size, r == MR_OK ? size + 1 : 1);
        mr_buf_release(&out);
    }
    mr_free(whole);
    mr_event_unref(event);
}

static void test_decode_encode_decode_gives_the_same_record(void **state)
{
    (void)state;
    const char *texts[] = {
        HEAD "}",
        HEAD ",\"data\":null}",
        HEAD ",\"data\":\"\"}",
        HEAD ",\"data_base64\":\"\"}",
        HEAD ",\"data_base64\":\"AAEC\",\"datacontenttype\":\"text/plain\"}",
        HEAD ",\"data_base64\":\"e30=\",\"datacontenttype\":\"text/plain\"}",
        HEAD ",\"data_base64\":\"e30=\",\"datacontenttype\":\"a/b+json\"}",
        HEAD ",\"data_base64\":\"ew==\",\"datacontenttype\":\"a/b+json\"}",
        HEAD ",\"data\":\"x\",\"datacontenttype\":\"image/png\"}",
        HEAD ",\"x\":-5,\"y\":false,\"z\":\"\",\"subject\":\"\\u00e9\\\\\"}",
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(texts); i++) {
        struct mr_event *event = decode_ok(texts[i]);
        char *text = encode_text(event);
        struct mr_event *again = decode_ok(text);
        assert_true(mr_bytes_equal(mr_event_record(event), mr_event_record(again)));
        mr_free(text);
        mr_event_unref(event);
        mr_event_unref(again);
    }
}

static enum mr_status decode_batch(const char *text, struct mr_event ***ret_events,
                                   uint32_t *ret_count, struct mr_problem *problem)
{
    return mr_json_decode_batch(mr_bytes_of(text), MR_EVENT_SIZE_MAX, 3, ret_events, ret_count,
                                problem);
}

static void test_batch_of_none_one_and_three(void **state)
{
    (void)state;
    const char *texts[] = {" [ ] ", "[" HEAD "}]", "[" HEAD "} , " HEAD "}," HEAD ",\"x\":1}]"};
    const uint32_t counts[] = {0, 1, 3};
    for (size_t i = 0; i < 3; i++) {
        struct mr_event **events = NULL;
        uint32_t count = 99;
        assert_int_equal(decode_batch(texts[i], &events, &count, NULL), MR_OK);
        assert_int_equal(count, counts[i]);
        assert_int_equal(events == NULL, count == 0);
        for (uint32_t k = 0; k < count; k++) {
            mr_event_unref(events[k]);
        }
        mr_free(events);
    }
}

static void test_batch_with_a_bad_event_names_its_index_and_gives_none(void **state)
{
    (void)state;
    int64_t live = mr_alloc_live();
    struct mr_event **events = NULL;
    uint32_t count = 99;
    struct mr_problem problem = {0};
    const char *text = "[" HEAD "}," HEAD ",\"time\":\"x\"}]";
    assert_int_equal(decode_batch(text, &events, &count, &problem), MR_E_INVALID);
    assert_non_null(strstr(problem.text, "event 1 of the batch"));
    assert_non_null(strstr(problem.text, "time"));
    const char *bad[] = {"", "[", "{}", "[" HEAD "},]", "[,]", "[" HEAD "} " HEAD "}]",
                         "[" HEAD "}]x", "[" HEAD "}", "[[]]", "[\"x\"," HEAD "}]", "[null]",
                         "[" HEAD "}}", "[[" HEAD "}]]"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(bad); i++) {
        assert_int_equal(decode_batch(bad[i], &events, &count, &problem), MR_E_INVALID);
    }
    assert_int_equal(decode_batch("[" HEAD "},{\"specversion\":\"0.9\",\"id\":\"1\"}]", &events,
                                  &count, &problem),
                     MR_E_UNSUPPORTED);
    assert_int_equal(decode_batch("[" HEAD "}," HEAD "}," HEAD "}," HEAD "}]", &events, &count,
                                  &problem),
                     MR_E_TOO_BIG);
    assert_null(events);
    assert_int_equal(count, 99);
    assert_int_equal(mr_alloc_live(), live);
}

static void test_is_value_cases(void **state)
{
    (void)state;
    const char *good[] = {"1", " {} ", "[]", "\"x\"", "null", "-0.0e-0", "{\"\":[{\"a\":[]}]}",
                          "[[],[]]", "[{},{\"a\":{}}]"};
    const char *bad[] = {"", " ", "1 2", "{}{}", "[", "]", "tru", "\"", "{\"a\":1,}", "'x'", "-",
                         "1.e5", "\xC3", "\"\xC3\"", "ON", "Online", "nan", "[1}", "{\"a\"]"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(good); i++) {
        if (!mr_json_is_value(mr_bytes_of(good[i]))) {
            fail_msg("%s", good[i]);
        }
    }
    for (size_t i = 0; i < MR_ARRAY_COUNT(bad); i++) {
        if (mr_json_is_value(mr_bytes_of(bad[i]))) {
            fail_msg("%s", bad[i]);
        }
    }
    assert_false(mr_json_is_value((struct mr_bytes){0}));
}

static void test_decode_every_failed_allocation_leaks_nothing(void **state)
{
    (void)state;
    const char *text = "[" HEAD ",\"s\":\"\\u00e9\",\"n\":null,\"data_base64\":\"\\/\\/8=\"}," HEAD
                       ",\"d\\u0061ta\":\"\\n\",\"datacontenttype\":\"text/plain\"}]";
    int64_t live = mr_alloc_live();
    enum mr_status r = MR_E_NOMEM;
    unsigned failures = 0;
    for (uint64_t n = 1; r != MR_OK && n < 100; n++) {
        struct mr_event **events = NULL;
        uint32_t count = 0;
        (void)mr_alloc_fail_at(n, 0);
        r = decode_batch(text, &events, &count, NULL);
        (void)mr_alloc_fail_at(0, 0);
        assert_true(r == MR_OK || r == MR_E_NOMEM);
        failures += r != MR_OK;
        for (uint32_t i = 0; i < count; i++) {
            mr_event_unref(events[i]);
        }
        mr_free(events);
        assert_int_equal(mr_alloc_live(), live);
    }
    assert_int_equal(r, MR_OK);
    assert_true(failures > 5);
}

static void test_string_scan_finds_specials_at_every_alignment(void **state)
{
    (void)state;
    const char *specials[] = {"\\n", "\\\"", "\xC3\xA9", "\xF0\x9F\x98\x80", "\x7F"};
    for (size_t at = 0; at < 40; at++) {
        for (size_t i = 0; i < MR_ARRAY_COUNT(specials); i++) {
            char text[128];
            memset(text, 'x', sizeof(text));
            text[0] = '"';
            size_t n = strlen(specials[i]);
            memcpy(text + 1 + at, specials[i], n);
            text[60] = '"';
            assert_true(mr_json_is_value(mr_bytes(text, 61)));
            assert_false(mr_json_is_value(mr_bytes(text, 60)));
            text[1 + at] = '\n';
            assert_false(mr_json_is_value(mr_bytes(text, 61)));
            text[1 + at] = '"';
            assert_false(mr_json_is_value(mr_bytes(text, 61)));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode_minimal_has_no_data),
        cmocka_unit_test(test_decode_white_space_everywhere_passes),
        cmocka_unit_test(test_decode_types_are_kept),
        cmocka_unit_test(test_decode_null_attributes_are_absent),
        cmocka_unit_test(test_decode_duplicates_are_invalid),
        cmocka_unit_test(test_decode_escaped_names_are_unescaped),
        cmocka_unit_test(test_decode_escapes_in_values),
        cmocka_unit_test(test_decode_bad_strings_are_invalid),
        cmocka_unit_test(test_decode_attribute_of_no_type_is_invalid),
        cmocka_unit_test(test_decode_broken_json_is_invalid),
        cmocka_unit_test(test_decode_every_truncation_is_invalid),
        cmocka_unit_test(test_decode_problem_tells_the_position),
        cmocka_unit_test(test_decode_specversion_is_unsupported),
        cmocka_unit_test(test_decode_json_data_is_kept_byte_for_byte),
        cmocka_unit_test(test_decode_text_data_becomes_the_text),
        cmocka_unit_test(test_decode_text_data_not_a_string_is_invalid),
        cmocka_unit_test(test_decode_base64_becomes_bytes_and_type_stays_absent),
        cmocka_unit_test(test_decode_bad_base64_is_invalid),
        cmocka_unit_test(test_decode_both_data_members),
        cmocka_unit_test(test_decode_depth_is_bounded),
        cmocka_unit_test(test_decode_deep_nesting_does_not_recurse),
        cmocka_unit_test(test_decode_too_big_is_refused),
        cmocka_unit_test(test_decode_many_members_are_too_big),
        cmocka_unit_test(test_encode_is_compact_and_ordered),
        cmocka_unit_test(test_encode_escapes_what_it_must),
        cmocka_unit_test(test_encode_event_has_no_line_breaks_encode_exact_keeps_them),
        cmocka_unit_test(test_encode_base64_json_stays_base64),
        cmocka_unit_test(test_encode_into_a_full_buffer_leaves_it_alone),
        cmocka_unit_test(test_decode_encode_decode_gives_the_same_record),
        cmocka_unit_test(test_batch_of_none_one_and_three),
        cmocka_unit_test(test_batch_with_a_bad_event_names_its_index_and_gives_none),
        cmocka_unit_test(test_is_value_cases),
        cmocka_unit_test(test_decode_every_failed_allocation_leaks_nothing),
        cmocka_unit_test(test_string_scan_finds_specials_at_every_alignment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
