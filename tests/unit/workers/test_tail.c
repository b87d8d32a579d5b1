#include "tests/support/test.h"

#include <fcntl.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "core/logger.h"
#include "workers/tail.h"

static struct mr_tail tail;
static struct mr_tail_rate rate;

static int reset(void **state)
{
    (void)state;
    mr_logger_set_fd(-1);
    memset(&tail, 0, sizeof(tail));
    memset(&rate, 0, sizeof(rate));
    return 0;
}

static void add(const char *text)
{
    mr_tail_add(&tail, mr_bytes_of(text), "w/1", "stderr", &rate, MR_SECOND);
}

static void assert_copy(uint64_t since, const char *expected)
{
    char *text = mr_tail_copy(&tail, since);
    if (expected == NULL) {
        assert_null(text);
    } else {
        assert_non_null(text);
        assert_string_equal(text, expected);
    }
    mr_free(text);
}

static void test_tail_copy_of_nothing_is_null(void **state)
{
    (void)state;
    assert_copy(0, NULL);
    add("x");
    assert_copy(1, NULL);
    assert_copy(99, NULL);
}

static void test_tail_copy_gives_what_came_since(void **state)
{
    (void)state;
    add("one\n");
    uint64_t since = tail.total;
    add("two\nthr");
    add("ee\n");
    assert_copy(since, "two\nthree\n");
    assert_copy(0, "one\ntwo\nthree\n");
}

static void test_tail_copy_is_clean_but_keeps_lines(void **state)
{
    (void)state;
    add("a\tb\x1b[1m\r\n\n\xff\xc3\xa9\n");
    assert_copy(0, "a b [1m \n\n?\xc3\xa9\n");
}

static void test_tail_keeps_the_last_bytes(void **state)
{
    (void)state;
    for (int i = 0; i < 1000; i++) {
        char line[32];
        snprintf(line, sizeof(line), "line %06d\n", i);
        add(line);
    }
    char *text = mr_tail_copy(&tail, 0);
    assert_int_equal(strlen(text), MR_STDERR_TAIL_MAX);
    assert_string_equal(text + strlen(text) - 12, "line 000999\n");
    mr_free(text);
}

static void test_tail_one_huge_write_keeps_its_end(void **state)
{
    (void)state;
    static char huge[100001];
    memset(huge, 'a', sizeof(huge) - 1);
    memcpy(huge + sizeof(huge) - 5, "end\n", 4);
    add("before\n");
    add(huge);
    char *text = mr_tail_copy(&tail, 0);
    assert_int_equal(strlen(text), MR_STDERR_TAIL_MAX);
    assert_string_equal(text + MR_STDERR_TAIL_MAX - 5, "aend\n");
    mr_free(text);
    assert_int_equal(strlen(tail.last), sizeof(tail.last) - 1); /* cut */
}

static void test_tail_last_is_the_last_line_that_is_not_empty(void **state)
{
    (void)state;
    add("first\nsecond\n\n\n");
    assert_string_equal(tail.last, "second");
    add("unfinished");
    assert_string_equal(tail.last, "second");
    mr_tail_end(&tail, "w/1", "stderr", &rate, MR_SECOND);
    assert_string_equal(tail.last, "unfinished");
}

static void test_tail_lines_are_rate_limited_and_counted(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    mr_logger_set_fd(ends[1]);
    for (int i = 0; i < 200; i++) {
        add("x\n");
    }
    mr_tail_add(&tail, MR_BYTES_LITERAL("y\n"), "w/1", "stderr", &rate, 2 * MR_SECOND);
    mr_logger_set_fd(-1);
    close(ends[1]);
    static char text[65536];
    size_t size = 0;
    ssize_t n;
    while ((n = read(ends[0], text + size, sizeof(text) - 1 - size)) > 0) {
        size += (size_t)n;
    }
    close(ends[0]);
    text[size] = '\0';
    int lines = 0;
    for (char *at = text; (at = strchr(at, '\n')) != NULL; at++) {
        lines++;
    }
    assert_int_equal(lines, 52); /* fifty, how many are missing, and the new second's */
    assert_non_null(strstr(text, "150 lines of output not shown"));
    assert_non_null(strstr(text, "w/1 stderr: y"));
}

static void test_tail_copy_without_memory_is_null(void **state)
{
    (void)state;
    add("x\n");
    (void)mr_alloc_fail_at(1, 0);
    assert_null(mr_tail_copy(&tail, 0));
    (void)mr_alloc_fail_at(0, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_tail_copy_of_nothing_is_null, reset),
        cmocka_unit_test_setup(test_tail_copy_gives_what_came_since, reset),
        cmocka_unit_test_setup(test_tail_copy_is_clean_but_keeps_lines, reset),
        cmocka_unit_test_setup(test_tail_keeps_the_last_bytes, reset),
        cmocka_unit_test_setup(test_tail_one_huge_write_keeps_its_end, reset),
        cmocka_unit_test_setup(test_tail_last_is_the_last_line_that_is_not_empty, reset),
        cmocka_unit_test_setup(test_tail_lines_are_rate_limited_and_counted, reset),
        cmocka_unit_test_setup(test_tail_copy_without_memory_is_null, reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
