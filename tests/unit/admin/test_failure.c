#include "tests/support/test.h"

#include "admin/failure.h"

static struct mr_result result_of(enum mr_verdict verdict, uint32_t attempts, const char *error)
{
    return (struct mr_result){.verdict = (uint8_t)verdict,
                              .attempts = attempts,
                              .exit_code = -1,
                              .error = mr_bytes_of(error)};
}

static void check(const char *error, const char *id, const char *wanted)
{
    char text[MR_FAILURE_TEXT_SIZE];
    struct mr_result result = result_of(MR_VERDICT_DEAD, 1, error);
    mr_failure_normalise(&result, mr_bytes_of(id), text);
    assert_string_equal(text, wanted);
}

static void test_failure_class_is_the_last_verdict(void **state)
{
    (void)state;
    struct mr_result result = result_of(MR_VERDICT_DEAD, 1, "");
    assert_string_equal(mr_failure_class(&result), "dead");
    result = result_of(MR_VERDICT_TIMEOUT, 9, "");
    assert_string_equal(mr_failure_class(&result), "timeout");
    result = result_of(MR_VERDICT_DEAD, 0, ""); /* no handler has seen it */
    assert_string_equal(mr_failure_class(&result), "rejected");
    result = result_of(MR_VERDICT_NONE, 3, "");
    assert_string_equal(mr_failure_class(&result), "rule");
    result.verdict = 250; /* of a log that is not ours */
    assert_string_equal(mr_failure_class(&result), "rule");
}

static void test_failure_classes_are_known_by_name(void **state)
{
    (void)state;
    assert_true(mr_failure_class_exists("crash"));
    assert_true(mr_failure_class_exists("rejected"));
    assert_true(mr_failure_class_exists("rule"));
    assert_false(mr_failure_class_exists("ok"));
    assert_false(mr_failure_class_exists(""));
}

static void test_failure_normalise_takes_out_what_differs(void **state)
{
    (void)state;
    check("timeout after 30 s", "", "timeout after # s");
    check("10.0.0.17:8080 refused", "", "#:# refused");
    check("took 1,234.5 ms", "", "took # ms");
    check("at 0x7ffee4c0", "", "at #");
    check("order 3f2504e0-4f89-11d3-9a0c-0305e82c3301 is gone", "", "order # is gone");
    check("digest deadbeef01 differs", "", "digest # differs");
    check("line1\r\n\tline2", "", "line# line#");
    check("  spaces  here ", "", "spaces here");
}

static void test_failure_normalise_leaves_words(void **state)
{
    (void)state;
    check("the facade is added", "", "the facade is added");
    check("deadbeef", "", "deadbeef"); /* no digit in it: a word */
    check("caf\xc3\xa9", "", "caf\xc3\xa9");
    check("", "", "");
}

static void test_failure_normalise_takes_out_the_id_as_a_word(void **state)
{
    (void)state;
    check("no stock for shop-a", "shop-a", "no stock for #");
    check("a bad banana", "a", "# bad banana");
    check("shop-abc", "shop-a", "shop-abc");
}

static void test_failure_normalise_cuts_between_characters(void **state)
{
    (void)state;
    char error[MR_FAILURE_TEXT_SIZE * 2 + 1];
    for (size_t shift = 0; shift < 3; shift++) {
        size_t size = shift;
        memset(error, 'x', shift);
        while (size + 3 < sizeof(error)) {
            memcpy(error + size, "\xe2\x82\xac", 3);
            size += 3;
        }
        error[size] = '\0';
        char text[MR_FAILURE_TEXT_SIZE];
        struct mr_result result = result_of(MR_VERDICT_DEAD, 1, error);
        mr_failure_normalise(&result, mr_bytes_of(""), text);
        assert_true(strlen(text) >= MR_FAILURE_TEXT_SIZE - 4);
        assert_true(mr_bytes_is_utf8(mr_bytes_of(text)));
    }
}

static void test_failure_without_an_error_has_its_exit(void **state)
{
    (void)state;
    char text[MR_FAILURE_TEXT_SIZE];
    struct mr_result result = result_of(MR_VERDICT_RETRY, 2, "");
    result.exit_code = 75;
    mr_failure_normalise(&result, mr_bytes_of(""), text);
    assert_string_equal(text, "exit status 75");
    result.exit_signal = 11;
    mr_failure_normalise(&result, mr_bytes_of(""), text);
    assert_string_equal(text, "signal 11");
    result = result_of(MR_VERDICT_NONE, 0, "");
    result.reason = mr_bytes_of("17 hops");
    mr_failure_normalise(&result, mr_bytes_of(""), text);
    assert_string_equal(text, "# hops");
}

static void test_failure_group_depends_on_class_and_text(void **state)
{
    (void)state;
    uint32_t group = mr_failure_group("dead", "no stock for #");
    assert_int_equal(group, mr_failure_group("dead", "no stock for #"));
    assert_int_not_equal(group, mr_failure_group("retry", "no stock for #"));
    assert_int_not_equal(group, mr_failure_group("dead", "no stock"));
    assert_int_not_equal(mr_failure_group("a", "bc"), mr_failure_group("ab", "c"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_failure_class_is_the_last_verdict),
        cmocka_unit_test(test_failure_classes_are_known_by_name),
        cmocka_unit_test(test_failure_normalise_takes_out_what_differs),
        cmocka_unit_test(test_failure_normalise_leaves_words),
        cmocka_unit_test(test_failure_normalise_takes_out_the_id_as_a_word),
        cmocka_unit_test(test_failure_normalise_cuts_between_characters),
        cmocka_unit_test(test_failure_without_an_error_has_its_exit),
        cmocka_unit_test(test_failure_group_depends_on_class_and_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
