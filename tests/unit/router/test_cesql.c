/* CESQL by our own cases, its bounds, and that it takes no memory where it need not. */
#include "fixture.h"

#include "core/io.h"

static struct mr_event *make_subject(const char *subject)
{
    return EVENT("subject", subject, "n", "5");
}

/* Evaluates; the value as JSON, to be freed. */
static char *eval(const char *expression, const struct mr_event *event, const char **ret_error,
                  struct mr_problem *problem)
{
    struct mr_buf out;
    mr_buf_init(&out, 4 * MR_MIB);
    *ret_error = NULL;
    enum mr_status r = mr_sql_eval(mr_bytes_of(expression), mr_event_record(event), &out,
                                   ret_error, problem);
    if (r != MR_OK) {
        assert_true(r == MR_E_INVALID || r == MR_E_TOO_BIG);
        assert_string_equal(*ret_error, "parse");
        assert_int_equal(out.size, 0);
        assert_int_equal(mr_buf_append_text(&out, "false"), MR_OK);
    }
    return mr_buf_take_text(&out);
}

static void expect(const char *expression, const struct mr_event *event, const char *value,
                   const char *error)
{
    const char *got = NULL;
    struct mr_problem problem = {""};
    char *text = eval(expression, event, &got, &problem);
    if (strcmp(text, value) != 0 || (got == NULL) != (error == NULL) ||
        (got != NULL && strcmp(got, error) != 0)) {
        fail_msg("%.200s: %.200s, %s (%s)", expression, text, got == NULL ? "no error" : got,
                 problem.text);
    }
    mr_free(text);
}

static void test_cesql_our_cases_agree(void **state)
{
    (void)state;
    char *text = NULL;
    assert_int_equal(mr_file_read(MR_SOURCE_DIR "/tests/data/cesql/cases.json", MR_MIB, &text,
                                  NULL), MR_OK);
    cJSON *root = cJSON_Parse(text);
    assert_non_null(root);
    struct mr_event *event = event_of_json(cJSON_GetObjectItem(root, "event"));
    unsigned count = 0;
    for (const cJSON *one = cJSON_GetObjectItem(root, "cases")->child; one != NULL;
         one = one->next) {
        const char *expression = cJSON_GetObjectItem(one, "expression")->valuestring;
        const cJSON *error = cJSON_GetObjectItem(one, "error");
        const cJSON *says = cJSON_GetObjectItem(one, "says");
        char *wanted = cJSON_PrintUnformatted(cJSON_GetObjectItem(one, "result"));
        const char *got = NULL;
        struct mr_problem problem = {""};
        char *value = eval(expression, event, &got, &problem);
        cJSON *parsed = cJSON_Parse(value);
        if (!cJSON_Compare(parsed, cJSON_GetObjectItem(one, "result"), true) ||
            (got == NULL) != (error == NULL) ||
            (got != NULL && strcmp(got, error->valuestring) != 0) ||
            (says != NULL && strstr(problem.text, says->valuestring) == NULL)) {
            fail_msg("%s: %s, %s instead of %s (%s)", expression, value,
                     got == NULL ? "no error" : got, wanted, problem.text);
        }
        cJSON_Delete(parsed);
        cJSON_free(wanted);
        mr_free(value);
        count++;
    }
    assert_true(count >= 60);
    mr_event_unref(event);
    cJSON_Delete(root);
    mr_free(text);
}

/* @p before, then @p part @p count times, then @p after. */
static char *repeat(const char *before, const char *part, unsigned count, const char *after)
{
    struct mr_buf buf;
    mr_buf_init(&buf, 4 * MR_MIB);
    assert_int_equal(mr_buf_append_text(&buf, before), MR_OK);
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(mr_buf_append_text(&buf, part), MR_OK);
    }
    assert_int_equal(mr_buf_append_text(&buf, after), MR_OK);
    return mr_buf_take_text(&buf);
}

static void expect_long(const char *before, const char *part, unsigned count, const char *after,
                        const char *value, const char *error)
{
    struct mr_event *event = make_subject("a");
    char *expression = repeat(before, part, count, after);
    expect(expression, event, value, error);
    mr_free(expression);
    mr_event_unref(event);
}

static void test_cesql_bounds_hold(void **state)
{
    (void)state;
    expect_long("", "NOT ", 64, "TRUE", "true", NULL);
    expect_long("", "NOT ", 65, "TRUE", "false", "parse");
    expect_long("", "(", 65, "1", "false", "parse");
    expect_long("1", " + 1", 500, "", "501", NULL);
    expect_long("1", " + 1", 600, "", "false", "parse");
    expect_long("TRUE", " AND TRUE", 400, "", "true", NULL);
    expect_long("LENGTH(CONCAT('a'", ", 'b'", 127, "))", "128", NULL);
    expect_long("CONCAT('a'", ", 'b'", 128, ")", "false", "parse");
    expect_long("1 IN (0", ", 0", 900, ", 1)", "true", NULL);
    expect_long("'", "a", 4094, "' = 'x'", "false", "parse");
}

static void test_cesql_text_of_functions_is_bounded(void **state)
{
    (void)state;
    char *subject = repeat("", "0123456789", 2000, "");
    struct mr_event *event = make_subject(subject);
    expect("LENGTH(CONCAT(subject, subject, subject))", event, "60000", NULL);
    expect("LENGTH(CONCAT(subject, subject, subject, subject))", event, "0", "generic");
    expect("LENGTH(UPPER(UPPER(UPPER(UPPER(subject)))))", event, "0", "generic");
    mr_event_unref(event);
    mr_free(subject);
}

static void test_cesql_like_cost_is_bounded(void **state)
{
    (void)state;
    char *subject = repeat("", "a", 20000, "");
    struct mr_event *event = make_subject(subject);
    expect("subject LIKE '%a%a%a%a%a%a%a%a%a%a%a%a%a%a%a%a%a%a%a%a%a%a%a%b'", event, "false", NULL);
    mr_event_unref(event);
    mr_free(subject);
}

static void test_cesql_filter_takes_no_memory(void **state)
{
    (void)state;
    struct mr_filter *filter = NULL;
    const char *json = "[{\"sql\":\"subject LIKE 'a%' AND UPPER(subject) = 'AB' AND n IN (1, 5) "
                       "AND CONCAT(subject, n) = 'ab5'\"},"
                       "{\"data\":{\"exact\":{\"a\":\"1\"}}}]";
    assert_int_equal(mr_filter_create(mr_bytes_of(json), &filter, NULL), MR_OK);
    struct mr_event *event = event_of_text(
        "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\",\"subject\":\"ab\","
        "\"n\":5,\"data\":{\"x\":[1,2],\"a\":1}}");
    (void)mr_alloc_fail_at(UINT64_MAX, 0);
    assert_true(mr_filter_test(filter, mr_event_record(event)));
    assert_int_equal(mr_alloc_fail_at(0, 0), 0);
    mr_event_unref(event);
    mr_filter_destroy(filter);
}

static void test_cesql_nth_allocation_fails_cleanly(void **state)
{
    (void)state;
    struct mr_event *event = make_subject("abc");
    int64_t before = mr_alloc_live();
    for (uint64_t n = 1;; n++) {
        struct mr_buf out;
        const char *error = NULL;
        mr_buf_init(&out, MR_KIB);
        (void)mr_alloc_fail_at(n, 0);
        enum mr_status r = mr_sql_eval(MR_BYTES_LITERAL("UPPER(subject) LIKE 'A%'"),
                                       mr_event_record(event), &out, &error, NULL);
        (void)mr_alloc_fail_at(0, 0);
        mr_buf_release(&out);
        assert_true(r == MR_OK || r == MR_E_NOMEM);
        assert_int_equal(mr_alloc_live(), before);
        if (r == MR_OK) {
            break;
        }
    }
    mr_event_unref(event);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cesql_our_cases_agree),
        cmocka_unit_test(test_cesql_bounds_hold),
        cmocka_unit_test(test_cesql_text_of_functions_is_bounded),
        cmocka_unit_test(test_cesql_like_cost_is_bounded),
        cmocka_unit_test(test_cesql_filter_takes_no_memory),
        cmocka_unit_test(test_cesql_nth_allocation_fails_cleanly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
