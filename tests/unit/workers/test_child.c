/* Starting and ending processes, and the guardian. */
#include "tests/unit/workers/bench.h"

#include <poll.h>

#include "workers/child.h"
#include "workers/guardian.h"

static int hold_guardian(void **state)
{
    struct mr_problem problem = {.text = ""};
    (void)state;
    mr_logger_set_fd(-1);
    return mr_guardian_ref(&problem) == MR_OK ? 0 : -1;
}

static int drop_guardian(void **state)
{
    (void)state;
    mr_guardian_unref();
    return bench_children() == 0 ? 0 : -1;
}

/* Runs `/bin/sh -c SCRIPT` and gives what it wrote to its standard output. */
static struct mr_child_end run(const char *script, const char *const *extra, char out[256])
{
    const char *const words[] = {"sh", "-c", script, NULL};
    struct mr_strings command = {0};
    struct mr_pairs env = {.keys = {NULL, 0}, .values = {NULL, 0}};
    struct mr_command c;
    struct mr_child child;
    struct mr_child_end end;
    struct mr_problem problem = {.text = ""};
    command.items = bench_words(&command.count, words);
    assert_int_equal(mr_command_init(&c, &command, &env, "/", &problem), MR_OK);
    bench_free_strings(&command);
    if (mr_child_start(&c, extra, 0, &child, &problem) != MR_OK) {
        fail_msg("%s", problem.text);
    }
    struct pollfd wait_for = {.fd = child.pidfd, .events = POLLIN};
    assert_int_equal(poll(&wait_for, 1, WAIT_SECONDS * 1000), 1);
    ssize_t n = read(child.out, out, 255);
    out[n < 0 ? 0 : n] = '\0';
    mr_child_finish(&child, &end);
    assert_int_equal(child.pid, 0);
    mr_command_release(&c);
    return end;
}

static void test_child_output_and_code_come_back(void **state)
{
    (void)state;
    char out[256];
    struct mr_child_end end = run("echo hello; exit 3", NULL, out);
    assert_string_equal(out, "hello\n");
    assert_int_equal(end.code, 3);
    assert_int_equal(end.signal, 0);
}

static void test_child_signal_comes_back(void **state)
{
    (void)state;
    char out[256];
    char text[128];
    struct mr_child_end end = run("kill -TERM $$", NULL, out);
    assert_int_equal(end.code, -1);
    assert_int_equal(end.signal, SIGTERM);
    assert_string_equal(mr_child_end_text(&end, text), "was killed by signal 15 (Terminated)");
}

static void test_child_end_text_of_code_and_unknown(void **state)
{
    (void)state;
    char text[128];
    struct mr_child_end end = {.code = 7};
    assert_string_equal(mr_child_end_text(&end, text), "exited with code 7");
    end.code = -1;
    assert_string_equal(mr_child_end_text(&end, text), "ended in an unknown way");
}

static void test_child_extra_environment_is_there(void **state)
{
    (void)state;
    char out[256];
    const char *const extra[] = {"ONE=1", "TWO=b c", NULL};
    (void)run("printf '%s|%s|%s' \"$ONE\" \"$TWO\" \"${MILLRACE_BUS:+mark}\"", extra, out);
    assert_string_equal(out, "1|b c|mark");
}

static void test_child_folder_is_the_working_directory(void **state)
{
    (void)state;
    char out[256];
    (void)run("pwd", NULL, out);
    assert_string_equal(out, "/\n");
}

static void test_child_descriptors_do_not_leak(void **state)
{
    (void)state;
    char out[256];
    (void)run("true", NULL, out);
    int before = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(before);
    for (int k = 0; k < 50; k++) {
        (void)run("true", NULL, out);
    }
    int after = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(after);
    assert_int_equal(after, before);
}

static void test_child_start_failures_leave_nothing(void **state)
{
    (void)state;
    const char *const words[] = {"/no/such/program", NULL};
    struct mr_strings command = {0};
    struct mr_pairs env = {.keys = {NULL, 0}, .values = {NULL, 0}};
    struct mr_command c;
    struct mr_child child;
    struct mr_problem problem = {.text = ""};
    command.items = bench_words(&command.count, words);
    assert_int_equal(mr_command_init(&c, &command, &env, "/", &problem), MR_OK);
    bench_free_strings(&command);
    int before = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(before);
    enum mr_status r = mr_child_start(&c, NULL, MR_CHILD_SOCKET | MR_CHILD_STDIN, &child, &problem);
    if (r == MR_OK) { /* thread sanitiser: vfork is fork there, the child ends with 127 */
        struct mr_child_end end;
        struct pollfd wait_for = {.fd = child.pidfd, .events = POLLIN};
        assert_int_equal(poll(&wait_for, 1, WAIT_SECONDS * 1000), 1);
        mr_child_finish(&child, &end);
        assert_int_equal(end.code, 127);
    } else {
        assert_int_equal(r, MR_E_NOT_FOUND);
        assert_non_null(strstr(problem.text, "/no/such/program"));
    }
    int after = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(after);
    assert_int_equal(after, before);
    mr_command_release(&c);
}

static void test_child_start_without_memory_fails_cleanly(void **state)
{
    (void)state;
    const char *const words[] = {"true", NULL};
    struct mr_strings command = {0};
    struct mr_pairs env = {.keys = {NULL, 0}, .values = {NULL, 0}};
    command.items = bench_words(&command.count, words);
    bool done = false;
    for (uint64_t nth = 1; !done && nth < 200; nth++) {
        struct mr_command c;
        struct mr_child child = {0};
        struct mr_problem problem = {.text = ""};
        (void)mr_alloc_fail_at(nth, 0);
        enum mr_status r = mr_command_init(&c, &command, &env, "/", &problem);
        if (r == MR_OK) {
            r = mr_child_start(&c, NULL, 0, &child, &problem);
        }
        bool failed = r != MR_OK;
        done = mr_alloc_fail_at(0, 0) < nth;
        assert_true(!failed || (r == MR_E_NOMEM && problem.text[0] != '\0'));
        if (!failed) {
            struct mr_child_end end;
            struct pollfd wait_for = {.fd = child.pidfd, .events = POLLIN};
            assert_int_equal(poll(&wait_for, 1, WAIT_SECONDS * 1000), 1);
            mr_child_finish(&child, &end);
        }
        mr_command_release(&c);
    }
    assert_true(done);
    bench_free_strings(&command);
}

static void test_command_later_env_overrides_earlier(void **state)
{
    (void)state;
    const char *const words[] = {"true", NULL};
    const char *const names[] = {"PATH", "A", "A", NULL};
    const char *const values[] = {"/bin", "1", "2", NULL};
    struct mr_strings command = {0};
    struct mr_pairs env = {.keys = {NULL, 0}, .values = {NULL, 0}};
    struct mr_command c;
    struct mr_problem problem = {.text = ""};
    command.items = bench_words(&command.count, words);
    env.keys.items = bench_words(&env.keys.count, names);
    env.values.items = bench_words(&env.values.count, values);
    assert_int_equal(mr_command_init(&c, &command, &env, NULL, &problem), MR_OK);
    assert_string_equal(c.path, "/bin");
    unsigned path_count = 0;
    unsigned a_count = 0;
    for (uint32_t i = 0; i < c.env_count; i++) {
        path_count += strncmp(c.env[i], "PATH=", 5) == 0;
        a_count += strcmp(c.env[i], "A=2") == 0;
    }
    assert_int_equal(path_count, 1);
    assert_int_equal(a_count, 1);
    mr_command_release(&c);
    bench_free_strings(&command);
    bench_free_strings(&env.keys);
    bench_free_strings(&env.values);
}

/* The guardian's pid: the one child of ours there is. */
static pid_t find_guardian(void)
{
    char path[64];
    char text[64] = "";
    snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    if (fgets(text, sizeof(text), file) == NULL) {
        text[0] = '\0';
    }
    fclose(file);
    return (pid_t)atol(text);
}

static void test_guardian_is_one_process_that_goes_with_the_last_reference(void **state)
{
    (void)state;
    struct mr_problem problem;
    assert_int_equal(bench_children(), 1);
    assert_int_equal(mr_guardian_ref(&problem), MR_OK);
    assert_int_equal(bench_children(), 1);
    mr_guardian_unref();
    assert_int_equal(bench_children(), 1);
    char path[64];
    char name[64] = "";
    snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)find_guardian());
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_non_null(fgets(name, sizeof(name), file));
    fclose(file);
    assert_string_equal(name, MR_GUARDIAN_NAME);
}

static void test_guardian_that_was_killed_is_replaced(void **state)
{
    (void)state;
    pid_t before = find_guardian();
    assert_true(before > 1);
    assert_int_equal(kill(before, SIGKILL), 0);
    siginfo_t info;
    assert_int_equal(waitid(P_PID, (id_t)before, &info, WEXITED | WNOWAIT), 0);
    char out[256];
    (void)run("true", NULL, out); /* speaks to it */
    pid_t after = find_guardian();
    assert_true(after > 1);
    assert_int_not_equal(after, before);
    assert_int_equal(bench_children(), 1);
}

static void test_guardian_ignores_signals(void **state)
{
    (void)state;
    pid_t pid = find_guardian();
    kill(pid, SIGTERM);
    kill(pid, SIGINT);
    kill(pid, SIGHUP);
    char out[256];
    (void)run("true", NULL, out);
    assert_int_equal(find_guardian(), pid);
}

static void test_guardian_marks_are_distinct(void **state)
{
    (void)state;
    char one[MR_MARK_SIZE];
    char two[MR_MARK_SIZE];
    uint64_t a = mr_guardian_mark(one);
    uint64_t b = mr_guardian_mark(two);
    assert_true(a != 0 && b != 0 && a != b);
    assert_string_not_equal(one, two);
    assert_int_equal(strncmp(one, MR_MARK_NAME, strlen(MR_MARK_NAME)), 0);
    mr_guardian_forget(a);
    mr_guardian_forget(b);
    mr_guardian_forget(b); /* unknown by now: nothing happens */
}

static void test_guardian_sweep_leaves_other_children_alone(void **state)
{
    (void)state;
    pid_t pid = fork(); /* a child of somebody else's in this program */
    assert_true(pid >= 0);
    if (pid == 0) {
        _exit(5);
    }
    siginfo_t info;
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    mr_guardian_sweep_all();
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid); /* still ours to reap */
    assert_int_equal(WEXITSTATUS(status), 5);
}

static void test_guardian_subreaper_is_given_back(void **state)
{
    (void)state;
    int reaper = -1;
    assert_int_equal(prctl(PR_GET_CHILD_SUBREAPER, &reaper, 0, 0, 0), 0);
    assert_int_equal(reaper, 1);
    mr_guardian_unref();
    assert_int_equal(prctl(PR_GET_CHILD_SUBREAPER, &reaper, 0, 0, 0), 0);
    assert_int_equal(reaper, 0);
    struct mr_problem problem;
    assert_int_equal(mr_guardian_ref(&problem), MR_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_child_output_and_code_come_back),
        cmocka_unit_test(test_child_signal_comes_back),
        cmocka_unit_test(test_child_end_text_of_code_and_unknown),
        cmocka_unit_test(test_child_extra_environment_is_there),
        cmocka_unit_test(test_child_folder_is_the_working_directory),
        cmocka_unit_test(test_child_descriptors_do_not_leak),
        cmocka_unit_test(test_child_start_failures_leave_nothing),
        cmocka_unit_test(test_child_start_without_memory_fails_cleanly),
        cmocka_unit_test(test_command_later_env_overrides_earlier),
        cmocka_unit_test(test_guardian_is_one_process_that_goes_with_the_last_reference),
        cmocka_unit_test(test_guardian_that_was_killed_is_replaced),
        cmocka_unit_test(test_guardian_ignores_signals),
        cmocka_unit_test(test_guardian_marks_are_distinct),
        cmocka_unit_test(test_guardian_sweep_leaves_other_children_alone),
        cmocka_unit_test(test_guardian_subreaper_is_given_back),
    };
    return cmocka_run_group_tests(tests, hold_guardian, drop_guardian);
}
