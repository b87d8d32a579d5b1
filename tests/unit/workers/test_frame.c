#include "tests/support/test.h"

#include "core/clock.h"
#include "core/limits.h"
#include "workers/process/frame.h"

static enum mr_status parse(const char *text, struct mr_frame *frame)
{
    struct mr_problem problem = {.text = ""};
    memset(frame, 0, sizeof(*frame));
    enum mr_status r = mr_frame_parse(mr_bytes_of(text), frame, &problem);
    assert_int_equal(r == MR_OK, problem.text[0] == '\0');
    return r;
}

static void assert_text(struct mr_bytes actual, const char *expected)
{
    if (!mr_bytes_equal(actual, mr_bytes_of(expected))) {
        fail_msg("\"%.*s\" is not \"%s\"", (int)actual.size, (const char *)actual.data, expected);
    }
}

static void test_frame_parse_common_answer_gives_members(void **state)
{
    (void)state;
    struct mr_frame f;
    assert_int_equal(parse("{\"delivery\":\"s:1\",\"verdict\":\"ok\"}", &f), MR_OK);
    assert_int_equal(f.type, MR_FRAME_ANSWER);
    assert_text(f.delivery, "s:1");
    assert_text(f.verdict, "ok");
    assert_false(f.has_after);
    assert_null(f.fault);
}

static void test_frame_parse_blanks_and_order_make_no_difference(void **state)
{
    (void)state;
    struct mr_frame f;
    assert_int_equal(parse(" { \"verdict\" : \"retry\" ,\t\"error\":\"e\", \"delivery\" : "
                           "\"s:1\" } \r", &f),
                     MR_OK);
    assert_text(f.delivery, "s:1");
    assert_text(f.verdict, "retry");
    assert_text(f.error, "e");
}

static void test_frame_parse_batch_gives_its_number(void **state)
{
    (void)state;
    struct mr_frame f;
    assert_int_equal(parse("{\"batch\":17,\"verdict\":\"retry\",\"error\":\"e\"}", &f), MR_OK);
    assert_int_equal(f.type, MR_FRAME_BATCH);
    assert_int_equal(f.batch, 17);
    assert_text(f.verdict, "retry");
    assert_int_equal(parse("{\"batch\":18446744073709551615}", &f), MR_OK);
    assert_int_equal(f.type, MR_FRAME_BATCH);
    assert_int_equal(f.verdict.size, 0);
    static const char *const beside[] = {"{\"batch\":17,\"delivery\":\"s:1\",\"verdict\":\"ok\"}",
                                         "{\"delivery\":\"s:1\",\"batch\":17}"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(beside); i++) {
        assert_int_equal(parse(beside[i], &f), MR_OK);
        assert_int_equal(f.type, MR_FRAME_ANSWER);
    }
    static const char *const wrong[] = {"{\"batch\":\"17\"}", "{\"batch\":-1}", "{\"batch\":1.5}",
                                        "{\"batch\":null}", "{\"batch\":18446744073709551616}"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(wrong); i++) {
        assert_int_equal(parse(wrong[i], &f), MR_E_INVALID);
    }
    assert_int_equal(parse("{\"millrace\":1,\"features\":[\"batch\",\"raw\"]}", &f), MR_OK);
    assert_int_equal(f.features, MR_FRAME_BATCHES | MR_FRAME_RAW);
}

static void test_frame_parse_empty_object_is_unknown(void **state)
{
    (void)state;
    struct mr_frame f;
    assert_int_equal(parse("{}", &f), MR_OK);
    assert_int_equal(f.type, MR_FRAME_UNKNOWN);
    assert_int_equal(parse("{\"metrics\":{\"a\":[1,2,{\"b\":null}]}}", &f), MR_OK);
    assert_int_equal(f.type, MR_FRAME_UNKNOWN);
}

static void test_frame_parse_hello_gives_features(void **state)
{
    (void)state;
    struct mr_frame f;
    assert_int_equal(parse("{\"millrace\":1,\"max\":16,\"features\":[\"cancel\",\"later\",\"raw\"],"
                           "\"version\":\"1.2\"}",
                           &f),
                     MR_OK);
    assert_int_equal(f.type, MR_FRAME_HELLO);
    assert_int_equal(f.protocol, 1);
    assert_int_equal(f.max, 16);
    assert_int_equal(f.features, MR_FRAME_CANCEL | MR_FRAME_RAW);
    assert_text(f.version, "1.2");
}

static void test_frame_parse_hello_with_numeric_version_takes_it(void **state)
{
    (void)state;
    struct mr_frame f;
    assert_int_equal(parse("{\"millrace\":1,\"version\":7}", &f), MR_OK);
    assert_text(f.version, "7");
    assert_int_equal(f.max, 0);
}

static void test_frame_parse_hello_with_bad_max_is_invalid(void **state)
{
    (void)state;
    struct mr_frame f;
    assert_int_equal(parse("{\"millrace\":1,\"max\":0}", &f), MR_E_INVALID);
    assert_int_equal(parse("{\"millrace\":1,\"max\":-3}", &f), MR_E_INVALID);
    assert_int_equal(parse("{\"millrace\":1,\"max\":\"many\"}", &f), MR_E_INVALID);
    assert_int_equal(parse("{\"millrace\":\"1\"}", &f), MR_E_INVALID);
}

static void test_frame_parse_heartbeat_gives_delivery(void **state)
{
    (void)state;
    struct mr_frame f;
    assert_int_equal(parse("{\"heartbeat\":\"a:2\",\"progress\":{\"done\":0.5}}", &f), MR_OK);
    assert_int_equal(f.type, MR_FRAME_HEARTBEAT);
    assert_text(f.delivery, "a:2");
}

static void test_frame_parse_after_number_or_duration_gives_ns(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t ns;
    } cases[] = {
        {"0", 0},
        {"5", 5 * MR_SECOND},
        {"0.25", MR_SECOND / 4},
        {"1.000000001", MR_SECOND + 1},
        {"1.0000000019", MR_SECOND + 1},
        {"\"90s\"", 90 * MR_SECOND},
        {"\"1m30s\"", 90 * MR_SECOND},
        {"\"200ms\"", 200 * MR_MS},
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(cases); i++) {
        char line[128];
        struct mr_frame f;
        snprintf(line, sizeof(line), "{\"delivery\":\"a:1\",\"verdict\":\"retry\",\"after\":%s}",
                 cases[i].text);
        assert_int_equal(parse(line, &f), MR_OK);
        assert_true(f.has_after);
        assert_int_equal(f.after_ns, cases[i].ns);
    }
}

static void test_frame_parse_after_null_is_absent(void **state)
{
    (void)state;
    struct mr_frame f;
    assert_int_equal(parse("{\"delivery\":\"a:1\",\"verdict\":\"ok\",\"after\":null,\"error\":null,"
                           "\"events\":null}",
                           &f),
                     MR_OK);
    assert_false(f.has_after);
    assert_null(f.fault);
    assert_int_equal(f.error.size, 0);
    assert_int_equal(f.events.size, 0);
}

static void test_frame_parse_after_nonsense_is_a_fault(void **state)
{
    (void)state;
    static const char *const bad[] = {"-1", "1e3", "true", "\"soon\"", "[]", "{}", "99999999999",
                                      "\"\"", "1.2.3", ".5"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(bad); i++) {
        char line[128];
        struct mr_frame f;
        snprintf(line, sizeof(line), "{\"delivery\":\"a:1\",\"after\":%s}", bad[i]);
        enum mr_status r = parse(line, &f);
        assert_true(r == MR_E_INVALID || f.fault != NULL);
        assert_false(r == MR_OK && f.has_after);
    }
}

static void test_frame_parse_broken_json_is_invalid(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "", " ", "hello", "[]", "\"x\"", "{", "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":1,",
        "{\"a\":1,}",
        "{\"a\" 1}", "{a:1}", "{\"a\":1}}", "{\"a\":1} {\"b\":2}", "{\"a\":\"x}", "{\"a\":\"x\\\"}",
        "{\"a\":[}", "{\"a\":[1,2}", "{\"a\":{]}}", "{\"a\":}", "{,}", "{\"delivery\":1}",
        "{\"heartbeat\":[]}", "{\"a\":@}", "{\"a\":\"\\", "{\"a\":[\"]}"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(bad); i++) {
        struct mr_frame f;
        if (parse(bad[i], &f) != MR_E_INVALID) {
            fail_msg("accepted: %s", bad[i]);
        }
    }
}

static void test_frame_parse_every_prefix_of_a_frame_is_invalid(void **state)
{
    (void)state;
    const char *whole = "{\"delivery\":\"a\\\"b:1\",\"verdict\":\"ok\",\"events\":[{\"a\":\"]\"},"
                        "[]],"
                        "\"data\":{\"x\":[1,\"}\"]}}";
    struct mr_frame f;
    assert_int_equal(parse(whole, &f), MR_OK);
    for (size_t n = 0; n < strlen(whole); n++) {
        char *part = malloc(n + 1); /* exact size: an overrun is seen by the sanitiser */
        memcpy(part, whole, n);
        struct mr_problem problem;
        assert_int_equal(mr_frame_parse(mr_bytes(part, n), &f, &problem), MR_E_INVALID);
        free(part);
    }
}

static void test_frame_parse_too_deep_is_invalid(void **state)
{
    (void)state;
    char line[4096] = "{\"data\":";
    size_t n = strlen(line);
    memset(line + n, '[', MR_JSON_DEPTH_MAX + 1);
    memset(line + n + MR_JSON_DEPTH_MAX + 1, ']', MR_JSON_DEPTH_MAX + 1);
    line[n + 2 * (MR_JSON_DEPTH_MAX + 1)] = '}';
    struct mr_frame f;
    assert_int_equal(parse(line, &f), MR_E_INVALID);
    memset(line + n, '[', MR_JSON_DEPTH_MAX);
    memset(line + n + MR_JSON_DEPTH_MAX, ']', MR_JSON_DEPTH_MAX);
    line[n + 2 * MR_JSON_DEPTH_MAX] = '}';
    line[n + 2 * MR_JSON_DEPTH_MAX + 1] = '\0';
    assert_int_equal(parse(line, &f), MR_OK);
}

static void test_frame_parse_wrong_types_are_faults(void **state)
{
    (void)state;
    struct mr_frame f;
    assert_int_equal(parse("{\"delivery\":\"a:1\",\"verdict\":7}", &f), MR_OK);
    assert_non_null(f.fault);
    assert_int_equal(parse("{\"delivery\":\"a:1\",\"verdict\":\"ok\",\"events\":{}}", &f), MR_OK);
    assert_non_null(f.fault);
}

static void test_frame_parse_last_of_two_equal_members_counts(void **state)
{
    (void)state;
    struct mr_frame f;
    assert_int_equal(parse("{\"delivery\":\"a:1\",\"delivery\":\"a:2\"}", &f), MR_OK);
    assert_text(f.delivery, "a:2");
}

static void test_frame_text_escapes_are_decoded(void **state)
{
    (void)state;
    char to[64];
    assert_text(mr_frame_text(MR_BYTES_LITERAL("plain"), to, sizeof(to)), "plain");
    assert_text(mr_frame_text(MR_BYTES_LITERAL("a\\\"\\\\\\/\\b\\f\\n\\r\\t"), to, sizeof(to)),
                "a\"\\/\b\f\n\r\t");
    assert_text(mr_frame_text(MR_BYTES_LITERAL("\\u00e9\\u4e2d\\ud83d\\ude00"), to, sizeof(to)),
                "\xc3\xa9\xe4\xb8\xad\xf0\x9f\x98\x80");
    assert_text(mr_frame_text(MR_BYTES_LITERAL("\\ud83d!"), to, sizeof(to)), "\xef\xbf\xbd!");
    assert_text(mr_frame_text(MR_BYTES_LITERAL("\\uzzzz"), to, sizeof(to)), "uzzzz");
}

static void test_frame_text_broken_escapes_at_the_end_stay_inside(void **state)
{
    (void)state;
    static const char *const texts[] = {"\\", "\\u", "\\u1", "\\u12", "\\u123", "\\ud83d\\",
                                        "\\ud83d\\u",
                                        "\\ud83d\\ude0"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(texts); i++) {
        size_t n = strlen(texts[i]);
        char *raw = malloc(n);
        memcpy(raw, texts[i], n);
        char to[64];
        struct mr_bytes text = mr_frame_text(mr_bytes(raw, n), to, sizeof(to));
        assert_true(text.size <= sizeof(to));
        free(raw);
    }
}

static void test_frame_text_too_long_is_cut_at_a_character(void **state)
{
    (void)state;
    char to[4];
    assert_text(mr_frame_text(MR_BYTES_LITERAL("\\nab\\u00e9"), to, sizeof(to)), "\nab");
}

static void test_frame_next_item_walks_an_array(void **state)
{
    (void)state;
    struct mr_bytes events = MR_BYTES_LITERAL("[ {\"a\":[1,2]} , \"x,y\",3 ]");
    size_t position = 0;
    struct mr_bytes item;
    assert_true(mr_frame_next_item(events, &position, &item));
    assert_text(item, "{\"a\":[1,2]}");
    assert_true(mr_frame_next_item(events, &position, &item));
    assert_text(item, "\"x,y\"");
    assert_true(mr_frame_next_item(events, &position, &item));
    assert_text(item, "3");
    assert_false(mr_frame_next_item(events, &position, &item));
    assert_true(position > 0);
}

static void test_frame_next_item_empty_array_ends_at_once(void **state)
{
    (void)state;
    size_t position = 0;
    struct mr_bytes item;
    assert_false(mr_frame_next_item(MR_BYTES_LITERAL("[ ]"), &position, &item));
    assert_true(position > 0);
}

static void test_frame_next_item_broken_array_gives_position_zero(void **state)
{
    (void)state;
    static const char *const bad[] = {"[1 2]", "[1,]", "[,1]", "[", "[1"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(bad); i++) {
        size_t position = 0;
        struct mr_bytes item;
        while (mr_frame_next_item(mr_bytes_of(bad[i]), &position, &item)) {
        }
        assert_int_equal(position, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frame_parse_common_answer_gives_members),
        cmocka_unit_test(test_frame_parse_blanks_and_order_make_no_difference),
        cmocka_unit_test(test_frame_parse_batch_gives_its_number),
        cmocka_unit_test(test_frame_parse_empty_object_is_unknown),
        cmocka_unit_test(test_frame_parse_hello_gives_features),
        cmocka_unit_test(test_frame_parse_hello_with_numeric_version_takes_it),
        cmocka_unit_test(test_frame_parse_hello_with_bad_max_is_invalid),
        cmocka_unit_test(test_frame_parse_heartbeat_gives_delivery),
        cmocka_unit_test(test_frame_parse_after_number_or_duration_gives_ns),
        cmocka_unit_test(test_frame_parse_after_null_is_absent),
        cmocka_unit_test(test_frame_parse_after_nonsense_is_a_fault),
        cmocka_unit_test(test_frame_parse_broken_json_is_invalid),
        cmocka_unit_test(test_frame_parse_every_prefix_of_a_frame_is_invalid),
        cmocka_unit_test(test_frame_parse_too_deep_is_invalid),
        cmocka_unit_test(test_frame_parse_wrong_types_are_faults),
        cmocka_unit_test(test_frame_parse_last_of_two_equal_members_counts),
        cmocka_unit_test(test_frame_text_escapes_are_decoded),
        cmocka_unit_test(test_frame_text_broken_escapes_at_the_end_stay_inside),
        cmocka_unit_test(test_frame_text_too_long_is_cut_at_a_character),
        cmocka_unit_test(test_frame_next_item_walks_an_array),
        cmocka_unit_test(test_frame_next_item_empty_array_ends_at_once),
        cmocka_unit_test(test_frame_next_item_broken_array_gives_position_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
