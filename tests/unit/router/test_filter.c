#include "fixture.h"

#include "core/io.h"

/* Compiles, expects success, tests against an event, and frees. */
static bool holds(const char *json, struct mr_event *event)
{
    struct mr_filter *filter = NULL;
    struct mr_problem problem = {""};
    if (mr_filter_create(mr_bytes_of(json), &filter, &problem) != MR_OK) {
        fail_msg("%s: %s", json, problem.text);
    }
    bool result = mr_filter_test(filter, mr_event_record(event));
    mr_filter_destroy(filter);
    return result;
}

static void refused_with(const char *json, enum mr_status status, const char *reason)
{
    struct mr_filter *filter = NULL;
    struct mr_problem problem = {""};
    enum mr_status r = mr_filter_create(mr_bytes_of(json), &filter, &problem);
    if (r != status || filter != NULL || strstr(problem.text, reason) == NULL) {
        fail_msg("%.200s: %s, \"%s\" instead of %s, \"%s\"", json, mr_status_name(r), problem.text,
                 mr_status_name(status), reason);
    }
}

/* --- vectors ------------------------------------------------------------------------------- */

static cJSON *read_vectors(const char *path)
{
    char *text = NULL;
    size_t size = 0;
    if (mr_file_read(path, 16 * MR_MIB, &text, &size) != MR_OK) {
        return NULL;
    }
    cJSON *root = cJSON_Parse(text);
    mr_free(text);
    assert_non_null(root);
    return root;
}

static const char *expected_status(const cJSON *expect)
{
    return cJSON_IsString(expect) ? expect->valuestring : "";
}

/* Runs one case; @return how many comparisons it made. */
static unsigned run_case(const cJSON *events, const cJSON *one)
{
    const cJSON *expect = cJSON_GetObjectItemCaseSensitive(one, "expect");
    const char *name = cJSON_GetObjectItemCaseSensitive(one, "name")->valuestring;
    char *json = cJSON_PrintUnformatted(cJSON_GetObjectItemCaseSensitive(one, "filters"));
    struct mr_filter *filter = NULL;
    struct mr_problem problem = {""};
    enum mr_status r = mr_filter_create(mr_bytes_of(json), &filter, &problem);
    unsigned compared = 1;
    if (strcmp(expected_status(expect), "unsupported") == 0) {
        if (r != MR_E_UNSUPPORTED) {
            fail_msg("%s: %s instead of MR_E_UNSUPPORTED", name, mr_status_name(r));
        }
    } else if (strcmp(expected_status(expect), "reject") == 0) {
        if (r != MR_E_INVALID) {
            fail_msg("%s: %s instead of MR_E_INVALID", name, mr_status_name(r));
        }
    } else if (r != MR_OK) {
        fail_msg("%s: refused: %s", name, problem.text);
    }
    for (const cJSON *e = r == MR_OK ? expect->child : NULL; e != NULL; e = e->next) {
        struct mr_event *event =
            event_of_json(cJSON_GetObjectItemCaseSensitive(events, e->string));
        bool result = mr_filter_test(filter, mr_event_record(event));
        if (result != (bool)cJSON_IsTrue(e)) {
            fail_msg("%s on %s: %s", name, e->string, result ? "true" : "false");
        }
        mr_event_unref(event);
        compared++;
    }
    const cJSON *reason = cJSON_GetObjectItemCaseSensitive(one, "reason");
    if (reason != NULL && strstr(problem.text, reason->valuestring) == NULL) {
        fail_msg("%s: \"%s\" lacks \"%s\"", name, problem.text, reason->valuestring);
    }
    mr_filter_destroy(filter);
    cJSON_free(json);
    return compared;
}

static unsigned run_vectors(const cJSON *root)
{
    unsigned compared = 0;
    const cJSON *events = cJSON_GetObjectItemCaseSensitive(root, "events");
    const cJSON *cases = cJSON_GetObjectItemCaseSensitive(root, "cases");
    for (const cJSON *one = cases->child; one != NULL; one = one->next) {
        compared += run_case(events, one);
    }
    return compared;
}

static void test_filter_our_vectors_agree(void **state)
{
    (void)state;
    cJSON *root = read_vectors(MR_SOURCE_DIR "/tests/data/filters.json");
    assert_non_null(root);
    assert_true(run_vectors(root) > 150);
    cJSON_Delete(root);
}

static void test_filter_conformance_vectors_agree(void **state)
{
    (void)state;
    cJSON *root = read_vectors(MR_SHARED_DIR "/conformance/vectors/filters.json");
    if (root == NULL) {
        print_message("skipped: no conformance data beside the source tree\n");
        skip();
    }
    assert_true(run_vectors(root) > 10);
    cJSON_Delete(root);
}

/* --- single conditions --------------------------------------------------------------------- */

static void test_filter_test_unicode_prefix_compares_bytes(void **state)
{
    (void)state;
    struct mr_event *event = EVENT("subject", "Öl/Füllstand");
    assert_true(holds("{\"prefix\":{\"subject\":\"Öl\"}}", event));
    assert_true(holds("{\"suffix\":{\"subject\":\"\\u00fcllstand\"}}", event));
    assert_false(holds("{\"prefix\":{\"subject\":\"öl\"}}", event));
    mr_event_unref(event);
}

static void test_filter_test_value_longer_than_attribute_is_false(void **state)
{
    (void)state;
    struct mr_event *event = EVENT("subject", "ab");
    assert_false(holds("{\"prefix\":{\"subject\":\"abc\"}}", event));
    assert_false(holds("{\"suffix\":{\"subject\":\"cab\"}}", event));
    assert_true(holds("{\"prefix\":{\"subject\":\"ab\"}}", event));
    assert_true(holds("{\"suffix\":{\"subject\":\"ab\"}}", event));
    mr_event_unref(event);
}

static void test_filter_test_double_negation_is_the_filter(void **state)
{
    (void)state;
    struct mr_event *event = EVENT("type", "a");
    assert_true(holds("{\"not\":{\"not\":{\"exact\":{\"type\":\"a\"}}}}", event));
    assert_false(holds("{\"not\":{\"not\":{\"exact\":{\"type\":\"b\"}}}}", event));
    assert_true(holds("{\"not\":{\"not\":{\"not\":{\"exact\":{\"type\":\"b\"}}}}}", event));
    mr_event_unref(event);
}

static void test_filter_create_single_object_is_one_filter(void **state)
{
    (void)state;
    struct mr_event *event = EVENT("type", "a");
    assert_true(holds(" { \"exact\" : {\"type\": \"a\"} } \n", event));
    assert_true(holds("[{\"exact\":{\"type\":\"a\"}},{\"prefix\":{\"source\":\"/\"}}]", event));
    assert_false(holds("[{\"exact\":{\"type\":\"a\"}},{\"prefix\":{\"source\":\"x\"}}]", event));
    mr_event_unref(event);
}

static void test_filter_create_bad_json_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "", " ", "[", "]", "{", "[}", "nul", "[] []", "[],", "{\"exact\":{\"type\":\"a\"}", "\"",
        "[{\"exact\":{\"type\":\"a\\\"}}]", "[{'exact':{'type':'a'}}]", "\xEF\xBB\xBF[]", "[]\x01",
        "[{\"exact\":{\"type\":\"a\nb\"}}]", "[{\"exact\":{\"type\":\"a\\u0000b\"}}]",
        "[{\"exact\":{\"type\":\"a\\u00zzb\"}}]", "[{\"exact\":{\"type\":\"\\u12\"}}]",
        "[{\"exact\":{\"type\":\"\\ud800\"}}]", "[{\"exact\":{\"type\":\"\\q\"}}]",
        "[{\"exact\":{\"type\":\"a\"},}]",
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(bad); i++) {
        refused_with(bad[i], MR_E_INVALID, "filter is not JSON");
    }
    refused_with("[{\"exact\":{\"type\":\"\xFF\"}}]", MR_E_INVALID, "UTF-8");
}

static void test_filter_create_embedded_nul_is_refused(void **state)
{
    (void)state;
    struct mr_filter *filter = NULL;
    struct mr_problem problem = {""};
    assert_int_equal(mr_filter_create(mr_bytes("[]\0", 3), &filter, &problem), MR_E_INVALID);
    assert_int_equal(mr_filter_create(mr_bytes("[\0]", 3), &filter, NULL), MR_E_INVALID);
    assert_null(filter);
}

static void test_filter_create_wrong_shapes_name_the_path(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        const char *reason;
    } cases[] = {
        {"7", "filter must be a list"},
        {"\"exact\"", "filter must be a list"},
        {"null", "filter must be a list"},
        {"[7]", "filter must be an object"},
        {"[[]]", "filter must be an object"},
        {"[{}]", "filter is empty; it must hold one of exact"},
        {"[{\"exact\":{\"a\":\"b\"}},{}]", "filter[1] is empty"},
        {"[{\"exact\":{\"a\":\"b\"},\"prefix\":{\"a\":\"b\"}}]", "filter has two members"},
        {"[{\"exact\":{\"a\":\"b\"},\"exact\":{\"a\":\"c\"}}]", "filter has two members"},
        {"[{\"exact\":7}]", "filter.exact must be an object"},
        {"[{\"exact\":{}}]", "filter.exact names no attribute"},
        {"[{\"prefix\":[]}]", "filter.prefix must be an object"},
        {"[{\"exact\":{\"type\":5}}]", "filter.exact.type must be a string"},
        {"[{\"exact\":{\"type\":null}}]", "filter.exact.type must be a string"},
        {"[{\"exact\":{\"type\":\"\"}}]", "filter.exact.type must not be empty"},
        {"[{\"suffix\":{\"\":\"x\"}}]", "filter.suffix has an empty attribute name"},
        {"[{\"exact\":{\"Type\":\"x\"}}]", "filter.exact.Type names no attribute"},
        {"[{\"exact\":{\"my-ext\":\"x\"}}]", "filter.exact.my-ext names no attribute"},
        {"[{\"exact\":{\"data\":\"x\"}}]", "filter.exact.data names no attribute"},
        {"[{\"exact\":{\"a\":\"b\",\"a\":\"c\"}}]", "filter.exact.a stands there twice"},
        {"[{\"exact\":{\"a\":\"b\",\"c\":\"c\",\"a\":\"b\"}}]",
         "filter.exact.a stands there twice"},
        {"[{\"all\":[]}]", "filter.all must hold at least one filter"},
        {"[{\"any\":[]}]", "filter.any must hold at least one filter"},
        {"[{\"all\":{\"exact\":{\"a\":\"b\"}}}]", "filter.all must be a list"},
        {"[{\"any\":\"x\"}]", "filter.any must be a list"},
        {"[{\"not\":[]}]", "filter.not must be one filter object"},
        {"[{\"not\":{}}]", "filter.not is empty"},
        {"[{\"all\":[{\"exact\":{\"a\":\"b\"}},{\"any\":[{\"not\":{\"prefix\":{\"x\":\"\"}}}]}]}]",
         "filter.all[1].any[0].not.prefix.x must not be empty"},
        {"[{\"exakt\":{\"a\":\"b\"}}]",
         "filter.exakt is an unknown dialect; known are exact, prefix, suffix, all, any, not"},
        {"[{\"EXACT\":{\"a\":\"b\"}}]", "filter.EXACT is an unknown dialect"},
        {"[{\"dialect\":\"exact\"}]", "filter.dialect is an unknown dialect"},
        {"[{\"\":{}}]", "is an unknown dialect"},
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(cases); i++) {
        refused_with(cases[i].json, MR_E_INVALID, cases[i].reason);
    }
}

static void test_filter_create_later_dialects_are_unsupported(void **state)
{
    (void)state;
    static const char *const later[] = {"time", "rate"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(later); i++) {
        char json[128];
        snprintf(json, sizeof(json), "[{\"any\":[{\"%s\":\"x\"}]}]", later[i]);
        char reason[128];
        snprintf(reason, sizeof(reason), "filter.any[0].%s is not available in this release",
                 later[i]);
        refused_with(json, MR_E_UNSUPPORTED, reason);
    }
}

static void test_filter_create_control_bytes_in_names_are_cleaned(void **state)
{
    (void)state;
    struct mr_filter *filter = NULL;
    struct mr_problem problem = {""};
    const char *json = "[{\"ex\\u001b[31m\\u0085\":{}}]";
    assert_int_equal(mr_filter_create(mr_bytes_of(json), &filter, &problem), MR_E_INVALID);
    assert_null(strchr(problem.text, 0x1b));
    assert_null(strstr(problem.text, "\xC2\x85"));
}

/* --- limits -------------------------------------------------------------------------------- */

static char *nested(const char *open, const char *close, unsigned depth)
{
    struct mr_buf buf;
    mr_buf_init(&buf, MR_MIB);
    for (unsigned i = 1; i < depth; i++) {
        assert_int_equal(mr_buf_append_text(&buf, open), MR_OK);
    }
    assert_int_equal(mr_buf_append_text(&buf, "{\"exact\":{\"type\":\"t\"}}"), MR_OK);
    for (unsigned i = 1; i < depth; i++) {
        assert_int_equal(mr_buf_append_text(&buf, close), MR_OK);
    }
    return mr_buf_take_text(&buf);
}

static void check_depth(const char *open, const char *close)
{
    struct mr_event *event = EVENT("type", "t");
    char *good = nested(open, close, MR_FILTER_DEPTH_MAX);
    (void)holds(good, event);
    mr_free(good);
    char *bad = nested(open, close, MR_FILTER_DEPTH_MAX + 1);
    refused_with(bad, MR_E_INVALID, "filter is nested more than 16 deep");
    mr_free(bad);
    char *huge = nested(open, close, 20000);
    refused_with(huge, MR_E_INVALID, "filter is nested more than 16 deep");
    mr_free(huge);
    mr_event_unref(event);
}

static void test_filter_create_depth_limit_holds(void **state)
{
    (void)state;
    check_depth("{\"not\":", "}");
    check_depth("{\"all\":[", "]}");
    check_depth("{\"any\":[", "]}");
}

static void test_filter_create_deep_json_is_refused_before_parsing(void **state)
{
    (void)state;
    struct mr_buf buf;
    mr_buf_init(&buf, 4 * MR_MIB);
    for (unsigned i = 0; i < 500000; i++) {
        assert_int_equal(mr_buf_append_byte(&buf, '['), MR_OK);
    }
    char *text = mr_buf_take_text(&buf);
    refused_with(text, MR_E_INVALID, "filter is nested more than 16 deep");
    mr_free(text);
}

static char *wide(const char *head, const char *tail, unsigned count)
{
    struct mr_buf buf;
    mr_buf_init(&buf, MR_MIB);
    assert_int_equal(mr_buf_append_text(&buf, head), MR_OK);
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(
            mr_buf_printf(&buf, "%s{\"exact\":{\"type\":\"t%u\"}}", i == 0 ? "" : ",", i), MR_OK);
    }
    assert_int_equal(mr_buf_append_text(&buf, tail), MR_OK);
    return mr_buf_take_text(&buf);
}

static void test_filter_create_node_limit_holds(void **state)
{
    (void)state;
    struct mr_event *event = EVENT("type", "t998");
    char *good = wide("[{\"any\":[", "]}]", MR_FILTER_NODES_MAX - 1);
    assert_true(holds(good, event));
    mr_free(good);
    char *flat = wide("[", "]", MR_FILTER_NODES_MAX);
    assert_false(holds(flat, event));
    mr_free(flat);
    char *bad = wide("[{\"any\":[", "]}]", MR_FILTER_NODES_MAX);
    refused_with(bad, MR_E_INVALID, "filter has more than 1000 parts");
    mr_free(bad);
    bad = wide("[", "]", MR_FILTER_NODES_MAX + 1);
    refused_with(bad, MR_E_INVALID, "filter has more than 1000 parts");
    mr_free(bad);
    bad = wide("[{\"any\":[", "]}]", 10000);
    refused_with(bad, MR_E_INVALID, "filter has more than 1000 parts");
    mr_free(bad);
    mr_event_unref(event);
}

static void test_filter_create_many_attributes_count_as_nodes(void **state)
{
    (void)state;
    struct mr_buf buf;
    mr_buf_init(&buf, MR_MIB);
    assert_int_equal(mr_buf_append_text(&buf, "{\"exact\":{\"a\":\"1\""), MR_OK);
    for (unsigned i = 0; i < MR_FILTER_NODES_MAX; i++) {
        assert_int_equal(mr_buf_printf(&buf, ",\"a%u\":\"1\"", i), MR_OK);
    }
    assert_int_equal(mr_buf_append_text(&buf, "}}"), MR_OK);
    char *text = mr_buf_take_text(&buf);
    refused_with(text, MR_E_INVALID, "filter has more than 1000 parts");
    mr_free(text);
}

static void test_filter_create_oversized_text_is_too_big(void **state)
{
    (void)state;
    size_t size = MR_CONFIG_SIZE_MAX + 1;
    char *text = malloc(size);
    assert_non_null(text);
    memset(text, ' ', size);
    struct mr_filter *filter = NULL;
    assert_int_equal(mr_filter_create(mr_bytes(text, size), &filter, NULL), MR_E_TOO_BIG);
    free(text);
}

static void test_filter_create_long_attribute_name_is_refused(void **state)
{
    (void)state;
    char json[256];
    char name[80];
    memset(name, 'a', sizeof(name));
    name[65] = '\0';
    snprintf(json, sizeof(json), "[{\"exact\":{\"%s\":\"x\"}}]", name);
    refused_with(json, MR_E_INVALID, "names are a-z and 0-9, at most 64 characters");
    name[64] = '\0';
    snprintf(json, sizeof(json), "[{\"exact\":{\"%s\":\"x\"}}]", name);
    struct mr_event *event = EVENT("type", "t");
    assert_false(holds(json, event));
    mr_event_unref(event);
}

static void test_filter_create_nth_allocation_fails_cleanly(void **state)
{
    (void)state;
    const char *json = "[{\"any\":[{\"exact\":{\"a\":\"1\",\"b\":\"2\"}},{\"not\":{\"prefix\":"
                       "{\"type\":\"t\"}}}]}]";
    int64_t live = mr_alloc_live();
    unsigned n = 1;
    for (;; n++) {
        struct mr_filter *filter = NULL;
        struct mr_problem problem = {""};
        mr_alloc_fail_at(n, 0);
        enum mr_status r = mr_filter_create(mr_bytes_of(json), &filter, &problem);
        mr_alloc_fail_at(0, 0);
        if (r == MR_OK) {
            mr_filter_destroy(filter);
            assert_int_equal(mr_alloc_live(), live);
            break;
        }
        assert_int_equal(r, MR_E_NOMEM);
        assert_null(filter);
        assert_string_equal(problem.text, "out of memory");
        assert_int_equal(mr_alloc_live(), live);
    }
    assert_true(n > 4);
}

static void check_exact(const char *json, const char *attribute, const char *value)
{
    struct mr_filter *filter = NULL;
    assert_int_equal(mr_filter_create(mr_bytes_of(json), &filter, NULL), MR_OK);
    if (!mr_bytes_equal(mr_filter_exact(filter, attribute), mr_bytes_of(value))) {
        fail_msg("%s: %s is not \"%s\"", json, attribute, value);
    }
    mr_filter_destroy(filter);
}

static void test_filter_exact_is_what_must_hold(void **state)
{
    (void)state;
    check_exact("[]", "type", "");
    check_exact("{\"exact\":{\"type\":\"a\"}}", "type", "a");
    check_exact("{\"exact\":{\"type\":\"a\"}}", "subject", "");
    check_exact("[{\"prefix\":{\"type\":\"a\"}},"
                "{\"exact\":{\"subject\":\"s\",\"type\":\"b\"}}]",
                "type", "b");
    check_exact("{\"all\":[{\"all\":[{\"exact\":{\"source\":\"/s\"}}]}]}", "source", "/s");
    check_exact("{\"any\":[{\"exact\":{\"type\":\"a\"}},"
                "{\"exact\":{\"type\":\"b\"}}]}",
                "type", "");
    check_exact("{\"not\":{\"exact\":{\"type\":\"a\"}}}", "type", "");
    check_exact("{\"not\":{\"all\":[{\"exact\":{\"type\":\"a\"}}]}}", "type", "");
    check_exact("{\"data\":{\"exact\":{\"type\":\"a\"}}}", "type", "");
    check_exact("{\"sql\":\"type = 'a' AND subject = 'b'\"}", "subject", "b");
    check_exact("{\"sql\":\"type = 'a' OR type = 'b'\"}", "type", "");
    check_exact("{\"sql\":\"NOT (type = 'a')\"}", "type", "");
    check_exact("{\"sql\":\"type != 'a'\"}", "type", "");
    check_exact("{\"not\":{\"sql\":\"type = 'a'\"}}", "type", "");
}

static void test_filter_destroy_null_does_nothing(void **state)
{
    (void)state;
    int64_t live = mr_alloc_live();
    mr_filter_destroy(NULL);
    assert_int_equal(mr_alloc_live(), live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_filter_our_vectors_agree),
        cmocka_unit_test(test_filter_conformance_vectors_agree),
        cmocka_unit_test(test_filter_test_unicode_prefix_compares_bytes),
        cmocka_unit_test(test_filter_test_value_longer_than_attribute_is_false),
        cmocka_unit_test(test_filter_test_double_negation_is_the_filter),
        cmocka_unit_test(test_filter_create_single_object_is_one_filter),
        cmocka_unit_test(test_filter_create_bad_json_is_refused),
        cmocka_unit_test(test_filter_create_embedded_nul_is_refused),
        cmocka_unit_test(test_filter_create_wrong_shapes_name_the_path),
        cmocka_unit_test(test_filter_create_later_dialects_are_unsupported),
        cmocka_unit_test(test_filter_create_control_bytes_in_names_are_cleaned),
        cmocka_unit_test(test_filter_create_depth_limit_holds),
        cmocka_unit_test(test_filter_create_deep_json_is_refused_before_parsing),
        cmocka_unit_test(test_filter_create_node_limit_holds),
        cmocka_unit_test(test_filter_create_many_attributes_count_as_nodes),
        cmocka_unit_test(test_filter_create_oversized_text_is_too_big),
        cmocka_unit_test(test_filter_create_long_attribute_name_is_refused),
        cmocka_unit_test(test_filter_create_nth_allocation_fails_cleanly),
        cmocka_unit_test(test_filter_exact_is_what_must_hold),
        cmocka_unit_test(test_filter_destroy_null_does_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
