#include "tests/support/test.h"

#include "core/alloc.h"
#include "schemas/regex.h"

static bool search(const char *pattern, const char *text)
{
    struct mr_regex *regex = NULL;
    struct mr_problem problem = {""};
    if (mr_regex_create(mr_bytes_of(pattern), &regex, &problem) != MR_OK) {
        fail_msg("%s: %s", pattern, problem.text);
    }
    uint32_t *scratch = mr_alloc(mr_regex_scratch(regex) * sizeof(*scratch));
    assert_non_null(scratch);
    uint64_t steps = 1000000;
    bool found = mr_regex_search(regex, mr_bytes_of(text), scratch, &steps);
    assert_true(steps > 0);
    mr_free(scratch);
    mr_regex_destroy(regex);
    return found;
}

static void test_regex_search_finds_what_ecma_says(void **state)
{
    (void)state;
    static const struct {
        const char *pattern;
        const char *yes; /* texts, each behind a newline's stand-in '~' */
        const char *no;
    } cases[] = {
        {"abc", "abc~xabcx", "ab~ABC~"},
        {"", "~a", NULL},
        {"^a*$", "~a~aaa", "b~aab"},
        {"^(ab|cd)+$", "ab~cdab", "~abc"},
        {"^a|b$", "ax~xb", "xa~bx"},
        {"^(?:a|b|)c$", "c~ac~bc", "abc"},
        {"^(?<year>\\d{4})-\\d\\d$", "2026-11", "226-11"},
        {"^x{2,3}$", "xx~xxx", "x~xxxx"},
        {"^x{2}$", "xx", "x~xxx"},
        {"^x{2,}?$", "xx~xxxxx", "x"},
        {"^(a?){3}b$", "b~aaab", "aaaab"},
        {"^(x{1,2}y){2}$", "xyxxy", "xy~xyxyxy"},
        {"^(a*)*b$", "b~aab", "aac"},
        {"^[a-c.\\]-]+$", "a.b]-", "d"},
        {"^[^a-c]$", "d~\xC3\xA4", "a"},
        {"^[\\w-]+$", "a_9-", "\xC3\xA4"},
        {"^[\\S]$", "a", " ~\xC2\xA0"},
        {"\\bcat\\b", "a cat~cat", "cats~concat"},
        {"\\Bat", "cat", "at"},
        {"^.$", "a~\xF0\x9F\x90\xB2", "ab~\n"},
        {"^\\u00e4\\x41\\u{1F432}\\ud83d\\udc32$", "\xC3\xA4" "A\xF0\x9F\x90\xB2\xF0\x9F\x90\xB2",
         "A"},
        {"^\\cA\\0?\\t$", "\x01\t", "A\t"},
        {"^\\$\\{[a-z]+\\}\\/$", "${ab}/", "$ab/"},
        {"^[]$", NULL, "a~"},
        {"^[^]$", "a", ""},
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(cases); i++) {
        for (int wanted = 0; wanted < 2; wanted++) {
            const char *texts = wanted == 1 ? cases[i].yes : cases[i].no;
            while (texts != NULL) {
                const char *end = strchr(texts, '~');
                char text[64];
                snprintf(text, sizeof(text), "%.*s",
                         (int)(end == NULL ? strlen(texts) : (size_t)(end - texts)), texts);
                if (search(cases[i].pattern, text) != wanted) {
                    fail_msg("%s on \"%s\" is not %d", cases[i].pattern, text, wanted);
                }
                texts = end == NULL ? NULL : end + 1;
            }
        }
    }
}

static void test_regex_create_refuses_with_a_reason(void **state)
{
    (void)state;
    static const struct {
        const char *pattern;
        enum mr_status status;
        const char *reason;
    } cases[] = {
        {"(a)\\1", MR_E_UNSUPPORTED, "at byte 5 of the expression: referring back"},
        {"\\k<a>", MR_E_UNSUPPORTED, "referring back"},
        {"a(?=b)", MR_E_UNSUPPORTED, "looking around"},
        {"(?<!b)", MR_E_UNSUPPORTED, "looking around"},
        {"\\p{L}", MR_E_UNSUPPORTED, "Unicode properties"},
        {"\\a", MR_E_INVALID, "this escape"},
        {"a\\", MR_E_INVALID, "backslash"},
        {"[a", MR_E_INVALID, "not closed"},
        {"(a", MR_E_INVALID, "not closed"},
        {"a)", MR_E_INVALID, "closes nothing"},
        {"*a", MR_E_INVALID, "nothing to repeat"},
        {"a**", MR_E_INVALID, "nothing to repeat"},
        {"^*", MR_E_INVALID, "nothing to repeat"},
        {"a{2,1}", MR_E_INVALID, "repetition"},
        {"a{x}", MR_E_INVALID, "repetition"},
        {"a}", MR_E_INVALID, "wants a backslash"},
        {"[b-a]", MR_E_INVALID, "range"},
        {"[a-\\d]", MR_E_INVALID, "range"},
        {"a{1001}", MR_E_TOO_BIG, "more than 1000"},
        {"((a{1,100}){1,100}){1,100}", MR_E_TOO_BIG, "too large"},
        {"\xFF", MR_E_INVALID, "UTF-8"},
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(cases); i++) {
        struct mr_regex *regex = NULL;
        struct mr_problem problem = {""};
        enum mr_status r = mr_regex_create(mr_bytes_of(cases[i].pattern), &regex, &problem);
        if (r != cases[i].status || strstr(problem.text, cases[i].reason) == NULL) {
            fail_msg("%s: %s, %s", cases[i].pattern, mr_status_name(r), problem.text);
        }
    }
}

static void test_regex_search_takes_linear_time(void **state)
{
    (void)state;
    struct mr_regex *regex = NULL;
    assert_int_equal(mr_regex_create(mr_bytes_of("^(a|a)*(a*)*(a?){30}a{30}$"), &regex, NULL),
                     MR_OK);
    uint32_t *scratch = mr_alloc(mr_regex_scratch(regex) * sizeof(*scratch));
    char text[5000];
    memset(text, 'a', sizeof(text));
    text[sizeof(text) - 1] = 'b';
    uint64_t steps = 10000000;
    assert_false(mr_regex_search(regex, mr_bytes(text, sizeof(text)), scratch, &steps));
    assert_true(steps > 0);
    steps = 1000; /* and no more than it is given */
    assert_false(mr_regex_search(regex, mr_bytes(text, sizeof(text) - 1), scratch, &steps));
    assert_int_equal(steps, 0);
    mr_free(scratch);
    mr_regex_destroy(regex);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_regex_search_finds_what_ecma_says),
        cmocka_unit_test(test_regex_create_refuses_with_a_reason),
        cmocka_unit_test(test_regex_search_takes_linear_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
