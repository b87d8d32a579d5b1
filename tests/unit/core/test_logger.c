#include "tests/support/test.h"

#include <fcntl.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "core/clock.h"
#include "core/logger.h"
#include "core/problem.h"

/* --- cleaning ------------------------------------------------------------------------------ */

static void check_clean(struct mr_bytes text, size_t size, const char *wanted)
{
    char to[256];
    memset(to, '#', sizeof(to));
    mr_text_clean(to, size, text);
    assert_string_equal(to, wanted);
    assert_int_equal(to[size], '#');
    assert_true(mr_bytes_is_utf8(mr_bytes_of(to)));
}

static void test_text_clean_control_bytes_become_blanks(void **state)
{
    (void)state;
    check_clean(mr_bytes_of("plain text"), 100, "plain text");
    check_clean(mr_bytes_of("a\nb\tc\rd\x1B[31me\x7F."), 100, "a b c d [31me .");
    check_clean(mr_bytes("a\0b", 3), 100, "a b");
    check_clean((struct mr_bytes){0}, 100, "");
}

static void test_text_clean_invalid_utf8_becomes_question_marks(void **state)
{
    (void)state;
    check_clean(mr_bytes_of("\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80"), 100,
                "\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80");
    check_clean(mr_bytes_of("a\xFFz"), 100, "a?z");
    check_clean(mr_bytes_of("\xC3"), 100, "?");
    check_clean(mr_bytes_of("\xE2\x82"), 100, "??");
    check_clean(mr_bytes_of("\xC0\x80"), 100, "??");
    check_clean(mr_bytes_of("\xC3\x28"), 100, "?(");
    check_clean(mr_bytes_of("\xC2\x85" "x\xC2\x9F"), 100, "?x?"); /* C1 controls */
    check_clean(mr_bytes_of("\xC2\xA0"), 100, "\xC2\xA0");
}

static void test_text_clean_cuts_at_whole_characters(void **state)
{
    (void)state;
    check_clean(mr_bytes_of("abcdef"), 4, "abc");
    check_clean(mr_bytes_of("ab\xE2\x82\xAC"), 6, "ab\xE2\x82\xAC");
    check_clean(mr_bytes_of("ab\xE2\x82\xAC"), 5, "ab");
    check_clean(mr_bytes_of("ab\xE2\x82\xAC"), 4, "ab");
    check_clean(mr_bytes_of("abc"), 1, "");
    char untouched = '#';
    mr_text_clean(&untouched, 0, mr_bytes_of("abc"));
    assert_int_equal(untouched, '#');
}

/* --- problems ------------------------------------------------------------------------------ */

static void test_problem_set_formats_and_returns_the_status(void **state)
{
    (void)state;
    struct mr_problem problem;
    assert_int_equal(mr_problem_set(&problem, MR_E_INVALID, "%s is %d", "x", 7), MR_E_INVALID);
    assert_string_equal(problem.text, "x is 7");
    assert_int_equal(mr_problem_set(NULL, MR_E_NOMEM, "%s", "unused"), MR_E_NOMEM);
}

static void test_problem_set_cleans_and_cuts(void **state)
{
    (void)state;
    struct mr_problem problem;
    assert_int_equal(mr_problem_set(&problem, MR_E_INVALID, "%s", "a\nb\x1B" "c\xFF"),
                     MR_E_INVALID);
    assert_string_equal(problem.text, "a b c?");
    assert_int_equal(mr_problem_set(&problem, MR_E_INVALID, "%2000d", 1), MR_E_INVALID);
    assert_int_equal(strlen(problem.text), MR_ERROR_TEXT_MAX - 1);
    char wide[1000];
    for (size_t i = 0; i + 1 < sizeof(wide); i += 2) {
        memcpy(wide + i, "\xC3\xA4", 2);
    }
    wide[998] = '\0';
    assert_int_equal(mr_problem_set(&problem, MR_E_INVALID, "%s", wide), MR_E_INVALID);
    assert_true(mr_bytes_is_utf8(mr_bytes_of(problem.text)));
}

/* --- lines --------------------------------------------------------------------------------- */

static int out_pipe[2];

static int set_up(void **state)
{
    (void)state;
    if (pipe(out_pipe) != 0 || fcntl(out_pipe[0], F_SETFL, O_NONBLOCK) != 0) {
        return -1;
    }
    mr_logger_set_fd(out_pipe[1]);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    mr_logger_set_fd(2);
    mr_logger_set_json(false);
    mr_logger_set_level(MR_LEVEL_INFO);
    close(out_pipe[0]);
    close(out_pipe[1]);
    return 0;
}

/* What was written since the last call. */
static const char *written(void)
{
    static char text[8192];
    ssize_t n = read(out_pipe[0], text, sizeof(text) - 1);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

static void test_logger_line_has_time_level_mod_and_text(void **state)
{
    (void)state;
    MR_WARN("bus", "event=%s count=%d", "a b", 3);
    const char *line = written();
    assert_memory_equal(line, "time=", 5);
    assert_true(mr_time_parse(mr_bytes(line + 5, 24), NULL));
    assert_string_equal(line + 29, " level=warn mod=bus msg=\"event=a b count=3\"\n");
}

static void test_logger_outside_text_cannot_forge_a_line(void **state)
{
    (void)state;
    MR_ERROR("http", "%s", "x\"\ntime=2024 level=error mod=bus msg=\"forged\x1B[2J");
    const char *line = written();
    assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
    assert_null(strchr(line, 0x1B));
    assert_non_null(
        strstr(line, "msg=\"x\\\" time=2024 level=error mod=bus msg=\\\"forged [2J\"\n"));
}

static void test_logger_level_drops_what_is_above(void **state)
{
    (void)state;
    MR_DEBUG("bus", "unseen");
    assert_string_equal(written(), "");
    mr_logger_set_level(MR_LEVEL_DEBUG);
    MR_DEBUG("bus", "seen");
    assert_non_null(strstr(written(), "level=debug mod=bus msg=\"seen\""));
    mr_logger_set_level(MR_LEVEL_ERROR);
    MR_WARN("bus", "unseen");
    assert_string_equal(written(), "");
    MR_ERROR("bus", "seen");
    assert_non_null(strstr(written(), "level=error"));
}

static void test_logger_json_lines_parse(void **state)
{
    (void)state;
    mr_logger_set_json(true);
    MR_INFO("core", "quote \" backslash \\ byte %c end", 0xFF);
    const char *line = written();
    cJSON *root = cJSON_Parse(line);
    assert_non_null(root);
    assert_string_equal(cJSON_GetObjectItem(root, "level")->valuestring, "info");
    assert_string_equal(cJSON_GetObjectItem(root, "mod")->valuestring, "core");
    assert_string_equal(cJSON_GetObjectItem(root, "msg")->valuestring,
                        "quote \" backslash \\ byte ? end");
    cJSON_Delete(root);
}

static void test_logger_long_text_is_cut_to_one_line(void **state)
{
    (void)state;
    char text[5000];
    memset(text, '"', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    MR_INFO("core", "%s", text);
    const char *line = written();
    size_t size = strlen(line);
    assert_in_range(size, 1000, 2400);
    assert_int_equal(line[size - 1], '\n');
    assert_int_equal(line[size - 2], '"');
}

static void test_logger_failing_output_is_ignored(void **state)
{
    (void)state;
    mr_logger_set_fd(-1);
    MR_ERROR("core", "dropped");
    mr_logger_set_fd(out_pipe[0]); /* the reading end: every write fails */
    MR_ERROR("core", "dropped");
    assert_string_equal(written(), "");
}

#define LOGGER_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_clean_control_bytes_become_blanks),
        cmocka_unit_test(test_text_clean_invalid_utf8_becomes_question_marks),
        cmocka_unit_test(test_text_clean_cuts_at_whole_characters),
        cmocka_unit_test(test_problem_set_formats_and_returns_the_status),
        cmocka_unit_test(test_problem_set_cleans_and_cuts),
        LOGGER_TEST(test_logger_line_has_time_level_mod_and_text),
        LOGGER_TEST(test_logger_outside_text_cannot_forge_a_line),
        LOGGER_TEST(test_logger_level_drops_what_is_above),
        LOGGER_TEST(test_logger_json_lines_parse),
        LOGGER_TEST(test_logger_long_text_is_cut_to_one_line),
        LOGGER_TEST(test_logger_failing_output_is_ignored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
