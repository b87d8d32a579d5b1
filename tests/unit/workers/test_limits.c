#include <signal.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/limits.h"
#include "tests/support/test.h"
#include "workers/child.h"
#include "workers/limits.h"

static void expect_note(struct mr_limits limits, struct mr_child_end end, const char *note)
{
    char text[160];
    assert_string_equal(mr_limits_note(&limits, &end, text), note);
}

static void test_note_says_what_the_kernel_said(void **state)
{
    (void)state;
    struct mr_child_end failed = {.code = 1, .rss_peak = 10 * MR_MIB};
    struct mr_child_end xcpu = {.code = -1, .signal = SIGXCPU};
    struct mr_child_end killed = {.code = -1, .signal = SIGKILL, .cpu_ns = 4 * MR_SECOND};
    expect_note((struct mr_limits){0}, failed, "");
    expect_note((struct mr_limits){.cpu_ns = MR_SECOND}, failed, "");
    expect_note((struct mr_limits){.cpu_ns = MR_SECOND}, xcpu, " (it used up max_cpu)");
    expect_note((struct mr_limits){.cpu_ns = 2 * MR_SECOND}, killed, " (it used up max_cpu)");
    expect_note((struct mr_limits){.cpu_ns = 8 * MR_SECOND}, killed, "");
    expect_note((struct mr_limits){.files = 20}, failed, " (under max_files 20)");
    expect_note((struct mr_limits){.memory_size = 64 * MR_MIB, .files = 20}, failed,
                " (under max_memory 64 MiB, max_files 20)");
    expect_note((struct mr_limits){.memory_size = 12 * MR_MIB}, failed,
                " (it was at its max_memory of 12 MiB)");
}

static void test_note_in_a_control_group_says_what_the_group_said(void **state)
{
    (void)state;
    struct mr_limits limits = {.memory_size = 64 * MR_MIB, .processes = 9, .grouped = true};
    struct mr_child_end full = {.code = 1, .rss_peak = 64 * MR_MIB};
    struct mr_child_end forks = {.code = 1, .forks_failed = 3};
    struct mr_child_end memory = {.code = -1, .signal = SIGKILL, .out_of_memory = true,
                                  .memory_max = 64 * MR_MIB};
    char text[128];
    expect_note(limits, full, ""); /* files it read count too: that says nothing */
    expect_note(limits, forks, " (it was at its max_processes of 9)");
    expect_note(limits, memory, "");
    assert_string_equal(mr_child_end_text(&memory, text),
                        "was killed: out of memory (limit 64 MiB)");
    memory.memory_max = 0;
    assert_string_equal(mr_child_end_text(&memory, text),
                        "was killed: the host, or a control group above, was out of memory");
}

static void test_check_refuses_what_nothing_starts_with(void **state)
{
    (void)state;
    struct mr_problem problem = {.text = ""};
    struct mr_limits none = {0};
    struct mr_limits least = {.cpu_ns = MR_SECOND, .memory_size = 4 * MR_MIB, .files = 16};
    assert_int_equal(mr_limits_check(&none, &problem), MR_OK);
    assert_int_equal(mr_limits_check(&least, &problem), MR_OK);
    char cpus[] = "0.5";
    struct mr_limits bad[] = {{.cpu_ns = MR_MS}, {.memory_size = MR_MIB}, {.files = 1},
                              {.cpus = cpus, .cgroup = MR_LIMITS_OFF},
                              {.processes = 5, .cgroup = MR_LIMITS_OFF}};
    for (size_t i = 0; i < MR_ARRAY_COUNT(bad); i++) {
        assert_int_equal(mr_limits_check(&bad[i], &problem), MR_E_INVALID);
        assert_string_not_equal(problem.text, "");
    }
}

static void test_cpu_used_of_this_process_grows(void **state)
{
    (void)state;
    uint64_t before = mr_limits_cpu_used(getpid());
    while (mr_limits_cpu_used(getpid()) == before) {
    }
    assert_true(mr_limits_cpu_used(getpid()) > before);
    assert_int_equal(mr_limits_cpu_used(-5), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_note_says_what_the_kernel_said),
        cmocka_unit_test(test_note_in_a_control_group_says_what_the_group_said),
        cmocka_unit_test(test_check_refuses_what_nothing_starts_with),
        cmocka_unit_test(test_cpu_used_of_this_process_grows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
