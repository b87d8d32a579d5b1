/* The file as a text: YAML, JSON, what is refused of them, and the places in errors. */
#include "fake_kinds.h"

#include "config/node.h"

static void test_load_empty_text_is_all_defaults(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "\n", "# nothing\n", "---\n", "{}", "null", "~"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(texts); i++) {
        struct mr_config *config = load_right(texts[i]);
        assert_string_equal(config->data_dir, "/base/data");
        assert_string_equal(config->canonical_json, "{}");
        assert_int_equal(config->source_count + config->target_count + config->subscription_count,
                         0);
        mr_config_destroy(config);
    }
}

static void test_load_json_is_read_like_yaml(void **state)
{
    (void)state;
    struct mr_config *config = load_right(
        "{\n\t\"listen\":\"off\",\"sources\":{\"shop\":{\"http\":{\"path\":\"/a\\/b\"}}}\n}\n");
    assert_true(config->listen_off);
    const struct fake_http_source *options = config->sources[0].options;
    assert_string_equal(options->path, "/a/b");
    mr_config_destroy(config);
}

static void test_load_alias_is_refused(void **state)
{
    (void)state;
    check_one_error("listen: &a off\n", "test.yaml:1:9: anchors");
    check_one_error("data_dir: x\nlisten: *a\n", "test.yaml:2:9: aliases");
    check_one_error("sources: &s {}\n", "anchors");
    check_one_error("sources: &s []\n", "anchors");
}

static void test_load_billion_laughs_is_refused_at_once(void **state)
{
    (void)state;
    check_one_error("a: &a [lol,lol]\nb: &b [*a,*a]\nc: &c [*b,*b]\n", "test.yaml:1:4: anchors");
}

static void test_load_tag_is_refused(void **state)
{
    (void)state;
    check_one_error("listen: !!str off\n", "test.yaml:1:9: tags");
    check_one_error("sources: !x {}\n", "tags");
    check_one_error("sources: !x []\n", "tags");
}

static void test_load_merge_key_is_refused(void **state)
{
    (void)state;
    check_one_error("sources:\n  <<: {a: b}\n", "test.yaml:2:3: merge keys");
}

static void test_load_second_document_is_refused(void **state)
{
    (void)state;
    check_one_error("listen: off\n---\nlisten: off\n", "test.yaml:2:1: a second document");
}

static void test_load_duplicate_key_shows_both_places(void **state)
{
    (void)state;
    check_one_error("listen: off\ndata_dir: x\nlisten: off\n",
                    "test.yaml:3:1: `listen` is defined twice; the first is at test.yaml:1:1");
    check_one_error("sources:\n  a: {http: {}}\n  b: {http: {}}\n  a: {http: {}}\n",
                    "test.yaml:4:3: `a` is defined twice; the first is at test.yaml:2:3");
    check_one_error("sources: {a: {http: {path: /x, path: /y}}}\n", "`path` is defined twice");
    check_one_error("sources: {}\nsources: {}\n", "`sources` is defined twice");
}

static void test_load_duplicate_in_free_json_is_refused(void **state)
{
    (void)state;
    check_one_error("sources: {a: {file: {path: x, data: {k: 1, k: 2}}}}\n",
                    "`k` is defined twice");
}

static void test_load_many_duplicates_are_found(void **state)
{
    (void)state;
    struct mr_buf buf;
    mr_buf_init(&buf, 1u << 20);
    assert_int_equal(mr_buf_append_text(&buf, "sources:\n"), MR_OK);
    for (int i = 0; i < 200; i++) {
        assert_int_equal(mr_buf_printf(&buf, "  s%d: {http: {}}\n", i), MR_OK);
    }
    assert_int_equal(mr_buf_append_text(&buf, "  s77: {http: {}}\n"), MR_OK);
    char *text = mr_buf_take_text(&buf);
    check_one_error(text,
                    "test.yaml:202:3: `s77` is defined twice; the first is at test.yaml:79:3");
    mr_free(text);
}

static void test_load_syntax_error_has_its_place(void **state)
{
    (void)state;
    check_one_error("listen: off\nsources: {a: [}\n", "test.yaml:2:15: not valid YAML");
    check_one_error("listen: \"off\n", "not valid YAML");
    check_one_error("a: b: c\n", "test.yaml:1:5: not valid YAML");
}

static void test_load_tab_is_named(void **state)
{
    (void)state;
    check_one_error("sources:\n\ta: 1\n", "a tab?");
}

static void test_load_bad_utf8_has_its_line(void **state)
{
    (void)state;
    check_one_error("listen: off\n# ok\ndata_dir: \xFF\xFE\n",
                    "test.yaml:3:1: the line is not valid");
}

static void test_load_utf16_is_refused(void **state)
{
    (void)state;
    struct mr_config *config = NULL;
    struct mr_config_errors errors;
    static const char text[] = "\xFF\xFE{\0}\0";
    assert_int_equal(mr_config_load_text("t", "/", mr_bytes(text, sizeof(text) - 1), &fake_kinds,
                                         &config, &errors),
                     MR_E_INVALID);
    mr_config_errors_release(&errors);
    assert_null(config);
}

static void test_load_byte_order_mark_is_allowed(void **state)
{
    (void)state;
    struct mr_config *config = load_right("\xEF\xBB\xBFlisten: off\n");
    assert_true(config->listen_off);
    mr_config_destroy(config);
}

static void test_load_nul_is_refused(void **state)
{
    (void)state;
    check_one_error("data_dir: \"a\\0b\"\n", "test.yaml:1:11: a value holds a NUL");
    check_one_error("\"a\\0b\": 1\n", "a key holds a NUL");
}

static void test_load_empty_or_complex_key_is_refused(void **state)
{
    (void)state;
    check_one_error("\"\": 1\n", "a key is empty");
    check_one_error("? [a, b]\n: 1\n", "a key must be plain text");
    check_one_error("? {a: b}\n: 1\n", "a key must be plain text");
}

static void test_load_root_that_is_no_mapping_is_refused(void **state)
{
    (void)state;
    check_one_error("[1, 2]\n", "test.yaml:1:1: a configuration is a mapping");
    check_one_error("hello\n", "a configuration is a mapping");
}

static char *nested(uint32_t depth, const char *open, const char *close)
{
    struct mr_buf buf;
    mr_buf_init(&buf, 1u << 20);
    assert_int_equal(mr_buf_append_text(&buf, "sources: {a: {file: {path: x, data: "), MR_OK);
    for (uint32_t i = 0; i < depth; i++) {
        assert_int_equal(mr_buf_append_text(&buf, open), MR_OK);
    }
    for (uint32_t i = 0; i < depth; i++) {
        assert_int_equal(mr_buf_append_text(&buf, close), MR_OK);
    }
    assert_int_equal(mr_buf_append_text(&buf, "}}}\n"), MR_OK);
    return mr_buf_take_text(&buf);
}

static void test_load_depth_at_the_limit_is_read(void **state)
{
    (void)state;
    char *text = nested(MR_CONFIG_DEPTH_MAX - 4, "[", "]");
    struct mr_config *config = load_right(text);
    const struct fake_file_source *options = config->sources[0].options;
    assert_int_equal(strlen(options->data), 2 * (MR_CONFIG_DEPTH_MAX - 4));
    mr_config_destroy(config);
    mr_free(text);
}

static void test_load_depth_beyond_the_limit_is_refused(void **state)
{
    (void)state;
    char *text = nested(MR_CONFIG_DEPTH_MAX - 3, "[", "]");
    check_one_error(text, "nested too deeply");
    mr_free(text);
    text = nested(5000, "[", "]");
    check_one_error(text, "nested too deeply");
    mr_free(text);
    text = nested(MR_CONFIG_DEPTH_MAX, "{a: ", "}");
    check_one_error(text, "nested too deeply");
    mr_free(text);
}

static void test_load_text_over_the_limit_is_too_big(void **state)
{
    (void)state;
    size_t size = MR_CONFIG_SIZE_MAX + 1u;
    char *text = mr_alloc(size);
    assert_non_null(text);
    memset(text, '#', size);
    struct mr_config *config = NULL;
    struct mr_config_errors errors;
    assert_int_equal(mr_config_load_text("big", "/", mr_bytes(text, size), &fake_kinds, &config,
                                         &errors),
                     MR_E_TOO_BIG);
    assert_int_equal(errors.count, 1);
    mr_config_errors_release(&errors);
    mr_free(text);
}

static void test_load_too_many_values_are_refused(void **state)
{
    (void)state;
    struct mr_buf buf;
    mr_buf_init(&buf, MR_CONFIG_SIZE_MAX);
    assert_int_equal(mr_buf_append_text(&buf, "a:\n- ["), MR_OK);
    for (uint32_t i = 0; i < MR_CONFIG_NODES_MAX; i++) {
        assert_int_equal(mr_buf_append_text(&buf, i % 50 == 49 ? "1,\n   " : "1,"), MR_OK);
    }
    assert_int_equal(mr_buf_append_text(&buf, "]\n"), MR_OK);
    char *text = mr_buf_take_text(&buf);
    check_one_error(text, "too many values");
    mr_free(text);
}

static void test_load_free_json_keeps_json_types_only(void **state)
{
    (void)state;
    struct mr_config *config = load_right(
        "sources: {a: {file: {path: x, data: {n: 7, f: -1.5e3, t: true, s: \"7\", no: no, nul: ~, "
        "o: 010, y: yes, e: , l: [a, 1], h: 0x1F, d: 1., inf: .inf}}}}\n");
    const struct fake_file_source *options = config->sources[0].options;
    assert_string_equal(options->data,
                        "{\"n\":7,\"f\":-1.5e3,\"t\":true,\"s\":\"7\",\"no\":\"no\",\"nul\":null,"
                        "\"o\":\"010\",\"y\":\"yes\",\"e\":null,\"l\":[\"a\",1],\"h\":\"0x1F\","
                        "\"d\":\"1.\",\"inf\":\".inf\"}");
    mr_config_destroy(config);
}

static void test_load_filter_values_are_texts(void **state)
{
    (void)state;
    struct mr_config *config =
        load_subscription("filter: {exact: {country: no, shop: 7, ok: true}}");
    assert_string_equal(config->subscriptions[0].filter_json,
                        "[{\"exact\":{\"country\":\"no\",\"shop\":\"7\",\"ok\":\"true\"}}]");
    mr_config_destroy(config);
}

static void test_load_errors_come_sorted_and_all_at_once(void **state)
{
    (void)state;
    char *lines = load_wrong("drain: 5\n"
                             "subscriptions:\n"
                             "  one: {to: nowhere, max_age: x}\n"
                             "sources:\n"
                             "  a: {http: {pth: /x}}\n"
                             "lisen: off\n");
    const char *const parts[] = {"test.yaml:1:1: drain: `5` has no unit; write 5s\n",
                                 "test.yaml:3:9: there is no worker or sink `nowhere`",
                                 "test.yaml:3:22: max_age: `x` is no duration",
                                 "test.yaml:5:14: unknown key `pth`, did you mean `path`?",
                                 "test.yaml:6:1: unknown key `lisen`, did you mean `listen`?"};
    const char *at = lines;
    for (size_t i = 0; i < MR_ARRAY_COUNT(parts); i++) {
        const char *found = strstr(at, parts[i]);
        if (found == NULL) {
            print_error("wanted `%s` in order in:\n%s", parts[i], lines);
            fail();
        }
        at = found + 1;
    }
    mr_free(lines);
}

static void test_load_very_many_errors_are_cut(void **state)
{
    (void)state;
    struct mr_buf buf;
    mr_buf_init(&buf, 1u << 20);
    for (int i = 0; i < 5000; i++) {
        assert_int_equal(mr_buf_printf(&buf, "wrong%d: 1\n", i), MR_OK);
    }
    struct mr_config *config = NULL;
    struct mr_config_errors errors;
    assert_int_equal(mr_config_load_text("t", "/", mr_buf_bytes(&buf), &fake_kinds, &config,
                                         &errors),
                     MR_E_INVALID);
    assert_int_equal(errors.count, MR_CONFIG_ERRORS_MAX);
    assert_true(errors.more);
    struct mr_buf out;
    mr_buf_init(&out, 1u << 20);
    assert_int_equal(mr_config_errors_print(&errors, &out, false), MR_OK);
    assert_true(mr_bytes_ends(mr_buf_bytes(&out), MR_BYTES_LITERAL("\nthere are more errors\n")));
    mr_buf_release(&out);
    mr_config_errors_release(&errors);
    mr_buf_release(&buf);
}

static void test_errors_print_json_is_one_object_a_line(void **state)
{
    (void)state;
    struct mr_config *config = NULL;
    struct mr_config_errors errors;
    assert_int_equal(mr_config_load_text("a \"b\".yaml", "/", mr_bytes_of("nope: 1\n"),
                                         &fake_kinds, &config, &errors),
                     MR_E_INVALID);
    struct mr_buf out;
    mr_buf_init(&out, 1u << 16);
    assert_int_equal(mr_config_errors_print(&errors, &out, true), MR_OK);
    char *text = mr_buf_take_text(&out);
    check_has(text, "{\"file\":\"a \\\"b\\\".yaml\",\"line\":1,\"column\":1,"
                    "\"error\":\"unknown key `nope`");
    assert_int_equal(text[strlen(text) - 1], '\n');
    mr_free(text);
    mr_config_errors_release(&errors);
    mr_config_errors_release(&errors);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_load_empty_text_is_all_defaults),
        cmocka_unit_test(test_load_json_is_read_like_yaml),
        cmocka_unit_test(test_load_alias_is_refused),
        cmocka_unit_test(test_load_billion_laughs_is_refused_at_once),
        cmocka_unit_test(test_load_tag_is_refused),
        cmocka_unit_test(test_load_merge_key_is_refused),
        cmocka_unit_test(test_load_second_document_is_refused),
        cmocka_unit_test(test_load_duplicate_key_shows_both_places),
        cmocka_unit_test(test_load_duplicate_in_free_json_is_refused),
        cmocka_unit_test(test_load_many_duplicates_are_found),
        cmocka_unit_test(test_load_syntax_error_has_its_place),
        cmocka_unit_test(test_load_tab_is_named),
        cmocka_unit_test(test_load_bad_utf8_has_its_line),
        cmocka_unit_test(test_load_utf16_is_refused),
        cmocka_unit_test(test_load_byte_order_mark_is_allowed),
        cmocka_unit_test(test_load_nul_is_refused),
        cmocka_unit_test(test_load_empty_or_complex_key_is_refused),
        cmocka_unit_test(test_load_root_that_is_no_mapping_is_refused),
        cmocka_unit_test(test_load_depth_at_the_limit_is_read),
        cmocka_unit_test(test_load_depth_beyond_the_limit_is_refused),
        cmocka_unit_test(test_load_text_over_the_limit_is_too_big),
        cmocka_unit_test(test_load_too_many_values_are_refused),
        cmocka_unit_test(test_load_free_json_keeps_json_types_only),
        cmocka_unit_test(test_load_filter_values_are_texts),
        cmocka_unit_test(test_load_errors_come_sorted_and_all_at_once),
        cmocka_unit_test(test_load_very_many_errors_are_cut),
        cmocka_unit_test(test_errors_print_json_is_one_object_a_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
