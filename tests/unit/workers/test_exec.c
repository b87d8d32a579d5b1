/* The exec runtime: one process per event. */
#include "tests/unit/workers/bench.h"

static int quiet(void **state)
{
    (void)state;
    mr_logger_set_fd(-1);
    return 0;
}

static void run_shell(struct bench *b, const char *script)
{
    bench_start_shell(b, &mr_worker_exec, script);
}

static void test_exec_exit_codes_are_verdicts(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    run_shell(&b, "read -r line\ncase $line in *'\"data\":'*) ;; *) exit 9;; esac\n"
                  "echo about \"$CE_SUBJECT\" >&2\nexit \"$CE_SUBJECT\"\n");
    static const struct {
        int code;
        enum mr_verdict verdict;
    } cases[] = {{0, MR_VERDICT_OK},      {75, MR_VERDICT_RETRY}, {65, MR_VERDICT_DEAD},
                 {1, MR_VERDICT_RETRY},   {9, MR_VERDICT_RETRY},  {127, MR_VERDICT_RETRY},
                 {255, MR_VERDICT_RETRY}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char json[200];
        snprintf(json, sizeof(json),
                 "{\"specversion\":\"1.0\",\"id\":\"e\",\"source\":\"/s\",\"type\":\"t\","
                 "\"subject\":\"%d\",\"data\":1}",
                 cases[i].code);
        bench_hand(&b, 1, json);
        struct mr_handout *h = bench_take(&b);
        assert_int_equal(h->answer.verdict, cases[i].verdict);
        assert_int_equal(h->answer.exit_code, cases[i].code);
        assert_int_equal(h->answer.exit_signal, 0);
        if (cases[i].code != 0) {
            char error[100];
            snprintf(error, sizeof(error), "the command exited with code %d: about %d",
                     cases[i].code, cases[i].code);
            assert_string_equal(h->answer.error, error);
            snprintf(error, sizeof(error), "about %d\n", cases[i].code);
            assert_string_equal(h->answer.stderr_tail, error);
        } else {
            assert_null(h->answer.error);
        }
        mr_handout_destroy(h);
    }
    bench_release(&b);
}

static void test_exec_environment_holds_the_attributes(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    setenv("CANARY_SECRET", "leak", 1);
    bench_env(&b, "GREETING", "hello");
    run_shell(&b, "printf '\"%s|%s|%s|%s|%s|%s|%s|%s|%s|%s\"' \"$CE_SPECVERSION\" \"$CE_ID\" "
                  "\"$CE_SOURCE\" \"$CE_TYPE\" \"$CE_SUBJECT\" \"$CE_MYEXT\" "
                  "\"$MILLRACE_DELIVERY\" "
                  "\"$MILLRACE_ATTEMPT\" \"$GREETING\" \"$CANARY_SECRET\"\n");
    bench_hand(&b, 1,
               "{\"specversion\":\"1.0\",\"id\":\"e1\",\"source\":\"/s\",\"type\":\"t.x\","
               "\"subject\":\"a $(b) \\u4e2d\",\"myext\":\"x=y\"}");
    struct mr_handout *h = bench_take(&b);
    assert_string_equal(h->answer.result,
                        "\"1.0|e1|/s|t.x|a $(b) \xe4\xb8\xad|x=y|sub:1|1|hello|\"");
    mr_handout_destroy(h);
    unsetenv("CANARY_SECRET");
    bench_release(&b);
}

static void test_exec_stdin_is_the_event(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    const char *const command[] = {"cat", NULL};
    b.config.scale_max = 1;
    bench_start(&b, &mr_worker_exec, command);
    bench_hand(&b, 1, NULL);
    struct mr_handout *h = bench_take(&b);
    assert_int_equal(h->answer.verdict, MR_VERDICT_OK);
    assert_int_equal(h->answer.emitted_count, 1); /* cat gave the event back: that emits it */
    assert_null(h->answer.result);
    struct mr_bytes record = mr_event_record(h->answer.emitted[0].event);
    assert_true(mr_bytes_equal(mr_event_value(record, "subject"), MR_BYTES_LITERAL("a b")));
    mr_handout_destroy(h);
    bench_release(&b);
}

static void test_exec_output_is_the_result(void **state)
{
    (void)state;
    static const struct {
        const char *script;
        const char *result;
        uint32_t emitted;
    } cases[] = {
        {"exit 0\n", NULL, 0},
        {"printf '  \\n '\n", NULL, 0},
        {"echo '{\"n\": 1}'\n", "{\"n\": 1}", 0},
        {"echo '[1,2]'\n", "[1,2]", 0},
        {"echo plain text\n", "\"plain text\"", 0},
        {"printf 'two\\nlines\\n'\n", "\"two\\nlines\"", 0},
        {"echo '{\"specversion\":\"1.0\"}'\n", "{\"specversion\":\"1.0\"}", 0}, /* no event */
        {"for i in 1 2 3; do echo '{\"specversion\":\"1.0\",\"id\":\"'$i'\",\"source\":\"/x\","
         "\"type\":\"t\"}'; done\n",
         NULL, 3},
        {"printf '{\"specversion\":\"1.0\",\\n\"id\":\"1\",\\n\"source\":\"/x\","
         "\"type\":\"t\"}\\n'\n", NULL, 1},
        {"printf '{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/x\","
         "\"type\":\"t\"}\\noops\\n'\n",
         "\"{\\\"specversion\\\":\\\"1.0\\\",\\\"id\\\":\\\"1\\\",\\\"source\\\":\\\"/x\\\","
         "\\\"type\\\":\\\"t\\\"}\\noops\"",
         0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct bench b;
        bench_init(&b);
        run_shell(&b, cases[i].script);
        bench_hand(&b, 1, NULL);
        struct mr_handout *h = bench_take(&b);
        assert_int_equal(h->answer.verdict, MR_VERDICT_OK);
        assert_int_equal(h->answer.emitted_count, cases[i].emitted);
        if (cases[i].result == NULL) {
            assert_null(h->answer.result);
        } else {
            assert_non_null(h->answer.result);
            assert_string_equal(h->answer.result, cases[i].result);
        }
        mr_handout_destroy(h);
        bench_release(&b);
    }
}

static void test_exec_output_of_a_failure_is_no_result(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    run_shell(&b, "echo '{\"a\":1}'; exit 75\n");
    bench_hand(&b, 1, NULL);
    struct mr_handout *h = bench_take(&b);
    assert_int_equal(h->answer.verdict, MR_VERDICT_RETRY);
    assert_null(h->answer.result);
    mr_handout_destroy(h);
    bench_release(&b);
}

static void test_exec_huge_output_is_ok_without_result(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    run_shell(&b, "head -c 5000000 /dev/zero | tr '\\0' x\n");
    bench_hand(&b, 1, NULL);
    struct mr_handout *h = bench_take(&b);
    assert_int_equal(h->answer.verdict, MR_VERDICT_OK);
    assert_null(h->answer.result);
    assert_non_null(strstr(h->answer.error, "larger than 1 MiB"));
    mr_handout_destroy(h);
    bench_release(&b);
}

static void test_exec_input_not_read_is_no_fault(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    run_shell(&b, "exec 0<&-\nexit 0\n");
    size_t size = 1024 * 1024;
    char *json = malloc(size + 200);
    size_t n = (size_t)snprintf(
        json, 200, "{\"specversion\":\"1.0\",\"id\":\"e\",\"source\":\"/s\",\"type\":\"t\","
                   "\"data\":\"");
    memset(json + n, 'x', size);
    memcpy(json + n + size, "\"}", 3);
    for (int k = 0; k < 3; k++) {
        bench_hand(&b, 1, json);
        bench_expect(&b, MR_VERDICT_OK, NULL);
    }
    free(json);
    bench_release(&b);
}

static void test_exec_large_event_arrives_whole(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    run_shell(&b, "wc -c\n");
    size_t size = 1024 * 1024;
    char *json = malloc(size + 200);
    size_t n = (size_t)snprintf(
        json, 200, "{\"specversion\":\"1.0\",\"id\":\"e\",\"source\":\"/s\",\"type\":\"t\","
                   "\"data\":\"");
    memset(json + n, 'x', size);
    memcpy(json + n + size, "\"}", 3);
    bench_hand(&b, 1, json);
    struct mr_handout *h = bench_take(&b);
    char wanted[32];
    snprintf(wanted, sizeof(wanted), "%zu", strlen(json) + 1); /* and the newline */
    free(json);
    assert_string_equal(h->answer.result, wanted);
    mr_handout_destroy(h);
    bench_release(&b);
}

static void test_exec_killed_by_signal_is_crash_of_one(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    run_shell(&b, "echo dying >&2\nkill -SEGV $$\n");
    bench_hand(&b, 1, NULL);
    struct mr_handout *h = bench_take(&b);
    assert_int_equal(h->answer.verdict, MR_VERDICT_CRASH);
    assert_int_equal(h->answer.suspects, 1);
    assert_int_equal(h->answer.exit_code, -1);
    assert_int_equal(h->answer.exit_signal, SIGSEGV);
    assert_string_equal(h->answer.stderr_tail, "dying\n");
    mr_handout_destroy(h);
    assert_int_equal(bench_health(&b).crashes, 1);
    bench_release(&b);
}

static void test_exec_runs_up_to_scale_max_at_once(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    b.config.scale_max = 3;
    b.config.concurrency = 9; /* means nothing here */
    run_shell(&b, "echo > $MILLRACE_DELIVERY\nuntil test -e go; do :; done\n");
    bench_wait(&b, b.capacity == 3);
    bench_hand(&b, 3, NULL);
    bench_wait(&b, bench_has_file(&b, "sub:1") && bench_has_file(&b, "sub:2") &&
                       bench_has_file(&b, "sub:3"));
    bench_wait(&b, bench_health(&b).instances_busy == 3);
    bench_file(&b, "go", "");
    for (int k = 0; k < 3; k++) {
        bench_expect(&b, MR_VERDICT_OK, NULL);
    }
    bench_release(&b);
}

static void test_exec_cancel_terminates_then_kills(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    b.config.grace_ns = 100 * MR_MS;
    run_shell(&b, "trap '' TERM\necho > begun\nwhile :; do :; done\n");
    bench_hand(&b, 1, NULL);
    bench_wait(&b, bench_has_file(&b, "begun"));
    b.ops->cancel(b.target, 3, 1, 1);
    struct mr_handout *h = bench_take(&b);
    assert_int_equal(h->answer.verdict, MR_VERDICT_CRASH);
    assert_int_equal(h->answer.exit_signal, SIGKILL);
    assert_non_null(strstr(h->answer.error, "cancelled"));
    mr_handout_destroy(h);
    bench_release(&b);
}

static void test_exec_cancel_is_a_chance_to_end_well(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    b.config.grace_ns = 20 * MR_SECOND;
    run_shell(&b, "trap 'exit 0' TERM\necho > begun\nwhile :; do :; done\n");
    bench_hand(&b, 1, NULL);
    bench_wait(&b, bench_has_file(&b, "begun"));
    b.ops->cancel(b.target, 3, 1, 1);
    bench_expect(&b, MR_VERDICT_OK, NULL);
    bench_release(&b);
}

static void test_exec_missing_command_is_refused_and_backs_off(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    const char *const command[] = {"./not-there", NULL};
    bench_start(&b, &mr_worker_exec, command);
    bench_hand(&b, 1, NULL);
    struct mr_handout *h = bench_take(&b);
    /* Under the thread sanitiser vfork is fork, and the failure shows as code 127. */
    if (h->answer.verdict == MR_VERDICT_REFUSED) {
        assert_non_null(strstr(h->answer.error, "./not-there"));
        assert_int_equal(h->answer.started_wall_ns, 0);
        assert_int_equal(bench_health(&b).state, MR_HEALTH_DOWN);
        bench_file(&b, "not-there", "#!/bin/sh\nexit 0\n");
        bench_hand(&b, 1, NULL); /* comes back by itself */
        bench_expect(&b, MR_VERDICT_OK, NULL);
        assert_int_equal(bench_health(&b).state, MR_HEALTH_OK);
    } else {
        assert_int_equal(h->answer.exit_code, 127);
    }
    mr_handout_destroy(h);
    bench_release(&b);
}

static void test_exec_file_without_interpreter_says_what_is_missing(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    bench_file(&b, "tidy.sh", "exit 0\n");
    const char *const command[] = {"./tidy.sh", NULL};
    bench_start(&b, &mr_worker_exec, command);
    bench_hand(&b, 1, NULL);
    struct mr_handout *h = bench_take(&b);
    if (h->answer.verdict == MR_VERDICT_REFUSED) {
        assert_non_null(strstr(h->answer.error, "#!"));
    } else {
        assert_int_equal(h->answer.exit_code, 127); /* thread sanitiser, see above */
    }
    mr_handout_destroy(h);
    bench_release(&b);
}

static void test_exec_stop_waits_then_kills(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    b.config.grace_ns = 100 * MR_MS;
    run_shell(&b, "trap '' TERM\necho > begun\nwhile :; do :; done\n");
    bench_hand(&b, 1, NULL);
    bench_wait(&b, bench_has_file(&b, "begun"));
    bench_stop(&b, 100 * MR_MS);
    struct mr_handout *h = bench_take(&b);
    assert_int_equal(h->answer.verdict, MR_VERDICT_CRASH);
    assert_int_equal(h->answer.suspects, 0);
    assert_non_null(strstr(h->answer.error, "stopped"));
    mr_handout_destroy(h);
    bench_release(&b);
}

static void test_exec_background_child_does_not_hold_the_answer(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    bench_env(&b, "LEFT_BEHIND", b.folder);
    run_shell(&b, "(trap '' TERM; while :; do :; done) &\necho done\n");
    bench_hand(&b, 1, NULL);
    struct mr_handout *h = bench_take(&b);
    assert_int_equal(h->answer.verdict, MR_VERDICT_OK);
    assert_string_equal(h->answer.result, "\"done\"");
    mr_handout_destroy(h);
    char mark[100];
    snprintf(mark, sizeof(mark), "LEFT_BEHIND=%s", b.folder);
    bench_wait(&b, bench_with_env(mark) == 0);
    bench_release(&b);
}

static void test_exec_many_in_a_row_leave_nothing(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    b.config.scale_max = 4;
    const char *const command[] = {"true", NULL};
    bench_start(&b, &mr_worker_exec, command);
    for (int round = 0; round < 25; round++) {
        bench_hand(&b, 4, NULL);
        for (int k = 0; k < 4; k++) {
            bench_expect(&b, MR_VERDICT_OK, NULL);
        }
    }
    assert_int_equal(bench_health(&b).starts, 100);
    assert_int_equal(bench_children(), 1); /* the guardian */
    bench_release(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exec_exit_codes_are_verdicts),
        cmocka_unit_test(test_exec_environment_holds_the_attributes),
        cmocka_unit_test(test_exec_stdin_is_the_event),
        cmocka_unit_test(test_exec_output_is_the_result),
        cmocka_unit_test(test_exec_output_of_a_failure_is_no_result),
        cmocka_unit_test(test_exec_huge_output_is_ok_without_result),
        cmocka_unit_test(test_exec_input_not_read_is_no_fault),
        cmocka_unit_test(test_exec_large_event_arrives_whole),
        cmocka_unit_test(test_exec_killed_by_signal_is_crash_of_one),
        cmocka_unit_test(test_exec_runs_up_to_scale_max_at_once),
        cmocka_unit_test(test_exec_cancel_terminates_then_kills),
        cmocka_unit_test(test_exec_cancel_is_a_chance_to_end_well),
        cmocka_unit_test(test_exec_missing_command_is_refused_and_backs_off),
        cmocka_unit_test(test_exec_file_without_interpreter_says_what_is_missing),
        cmocka_unit_test(test_exec_stop_waits_then_kills),
        cmocka_unit_test(test_exec_background_child_does_not_hold_the_answer),
        cmocka_unit_test(test_exec_many_in_a_row_leave_nothing),
    };
    return cmocka_run_group_tests(tests, quiet, NULL);
}
