/* How many instances there are, and how they end: scaling, recycling, crashes, stop. */
#include "tests/unit/workers/bench.h"

#define OK_WORKER "import millrace\nmillrace.run(lambda e, c: None)\n"
#define HOLDING_WORKER                                                                             \
    "import millrace, os\n"                                                                  \
    "def handle(event, ctx):\n"                                                                    \
    "    open('begun.' + ctx.delivery, 'w').close()\n"                                             \
    "    while not os.path.exists('go'): pass\n"                                                   \
    "millrace.run(handle)\n"

static int quiet(void **state)
{
    (void)state;
    mr_logger_set_fd(-1);
    return 0;
}

static void test_pool_min_instances_run_from_the_start(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    b.config.scale_min = 2;
    b.config.scale_max = 4;
    bench_start_python(&b, OK_WORKER);
    bench_wait(&b, b.capacity == 2);
    struct mr_health health = bench_health(&b);
    assert_int_equal(health.state, MR_HEALTH_OK);
    assert_int_equal(health.instances_ready, 2);
    assert_int_equal(health.starts, 2);
    assert_true(health.start_ns_last > 0);
    assert_non_null(strstr(health.detail, "2 ready"));
    bench_release(&b);
}

static void test_pool_zero_starts_on_demand_and_goes_when_idle(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    b.config.scale_min = 0;
    b.config.scale_idle_ns = 50 * MR_MS;
    bench_start_python(&b, OK_WORKER);
    bench_wait(&b, b.capacity_calls > 0);
    assert_int_equal(b.capacity, 0);
    assert_int_equal(bench_health(&b).starts, 0);
    assert_string_equal(bench_health(&b).detail, "scaled to zero");
    b.ops->demand(b.target, 1, 0);
    bench_hand(&b, 1, NULL);
    b.ops->demand(b.target, 0, 0);
    bench_expect(&b, MR_VERDICT_OK, NULL);
    bench_wait(&b, b.capacity == 0);
    bench_wait(&b, bench_health(&b).state == MR_HEALTH_OK);
    bench_wait(&b, strcmp(bench_health(&b).detail, "scaled to zero") == 0);
    assert_int_equal(bench_health(&b).crashes, 0);
    b.ops->demand(b.target, 1, 0);
    bench_hand(&b, 1, NULL);
    bench_expect(&b, MR_VERDICT_OK, NULL);
    assert_int_equal(bench_health(&b).starts, 2);
    bench_release(&b);
}

static void test_pool_grows_with_demand_up_to_max_and_shrinks(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    b.config.scale_min = 1;
    b.config.scale_max = 3;
    b.config.scale_idle_ns = 50 * MR_MS;
    bench_start_python(&b, OK_WORKER);
    bench_wait(&b, b.capacity == 1);
    b.ops->demand(b.target, 100, 0);
    bench_wait(&b, b.capacity == 3);
    b.ops->demand(b.target, 0, 0);
    bench_wait(&b, b.capacity == 1);
    bench_wait(&b, bench_health(&b).instances_ready == 1);
    assert_int_equal(b.capacity_max, 3);
    assert_int_equal(bench_health(&b).crashes, 0);
    bench_release(&b);
}

static void test_pool_target_says_how_many_instances_work_needs(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    b.config.scale_min = 0;
    b.config.scale_max = 8;
    b.config.scale_target = 10;
    bench_start_python(&b, OK_WORKER);
    b.ops->demand(b.target, 20, MR_SECOND);
    bench_wait(&b, b.capacity == 2);
    b.ops->demand(b.target, 21, MR_SECOND);
    bench_wait(&b, b.capacity == 3);
    assert_int_equal(bench_health(&b).starts, 3);
    bench_release(&b);
}

static void test_pool_max_events_replaces_the_instance(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    b.process.max_events = 2;
    b.config.concurrency = 8;
    bench_start_python(&b, "import millrace, os\nmillrace.run(lambda e, c: os.getpid(), 8, "
                           "False)\n");
    char pids[4][32];
    bench_wait(&b, b.capacity == 2); /* not eight: two are left in it */
    for (int k = 0; k < 4; k++) {
        bench_hand(&b, 1, NULL);
        struct mr_handout *h = bench_take(&b);
        assert_int_equal(h->answer.verdict, MR_VERDICT_OK);
        snprintf(pids[k], sizeof(pids[k]), "%s", h->answer.result);
        mr_handout_destroy(h);
    }
    assert_string_equal(pids[0], pids[1]);
    assert_string_equal(pids[2], pids[3]);
    assert_string_not_equal(pids[0], pids[2]);
    assert_int_equal(bench_health(&b).crashes, 0);
    assert_int_equal(b.capacity_max, 2);
    bench_release(&b);
}

static void test_pool_max_life_replaces_the_instance(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    b.process.max_life_ns = 100 * MR_MS;
    bench_start_python(&b, OK_WORKER);
    bench_wait(&b, bench_health(&b).starts >= 3);
    assert_int_equal(bench_health(&b).crashes, 0);
    bench_release(&b);
}

/* With room for it the successor serves before the old one goes: there is no moment without. */
static void test_pool_max_life_with_room_never_leaves_a_gap(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    b.process.max_life_ns = 500 * MR_MS;
    b.config.scale_max = 2;
    bench_start_python(&b, "import millrace, os\nmillrace.run(lambda e, c: os.getpid())\n");
    bench_wait(&b, b.capacity == 1);
    uint32_t refused = 0;
    while (bench_health(&b).starts < 4) {
        bench_hand(&b, 1, NULL);
        struct mr_handout *h = bench_take(&b);
        refused += h->answer.verdict != MR_VERDICT_OK;
        mr_handout_destroy(h);
    }
    assert_int_equal(refused, 0);
    assert_int_equal(bench_health(&b).crashes, 0);
    bench_release(&b);
}

static void test_pool_max_rss_replaces_after_the_answer(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    b.process.max_rss = 80 * MR_MIB;
    bench_start_python(&b, "import millrace, os\nkept = []\n"
                           "def handle(event, ctx):\n"
                           "    kept.append(b'x' * (100 << 20))\n"
                           "    return os.getpid()\n"
                           "millrace.run(handle)\n");
    char pids[2][32];
    for (int k = 0; k < 2; k++) {
        bench_hand(&b, 1, NULL);
        struct mr_handout *h = bench_take(&b);
        assert_int_equal(h->answer.verdict, MR_VERDICT_OK);
        snprintf(pids[k], sizeof(pids[k]), "%s", h->answer.result);
        mr_handout_destroy(h);
        bench_wait(&b, bench_health(&b).starts >= (uint64_t)k + 2);
    }
    assert_string_not_equal(pids[0], pids[1]);
    assert_int_equal(bench_health(&b).crashes, 0);
    assert_true(bench_health(&b).rss_peak > 80 * MR_MIB);
    bench_release(&b);
}

/* Between an exact end and its successor hand-outs wait, they are not refused. */
static void test_pool_handouts_wait_for_a_successor(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    b.process.max_events = 1;
    bench_start_python(&b, OK_WORKER);
    bench_wait(&b, b.capacity == 1);
    for (int k = 0; k < 5; k++) { /* whatever the capacity says just now */
        b.ops->submit(b.target, bench_handout(&b, NULL));
    }
    for (int k = 0; k < 5; k++) {
        bench_expect(&b, MR_VERDICT_OK, NULL);
    }
    assert_int_equal(bench_health(&b).crashes, 0);
    bench_release(&b);
}

static void bench_list(struct bench *b, const char *delivery, char text[4096])
{
    struct mr_buf json;
    mr_buf_init(&json, 4095);
    b->ops->list(b->target, delivery, &json);
    memcpy(text, json.size == 0 ? (const uint8_t *)"" : json.data, json.size);
    text[json.size] = '\0';
    mr_buf_release(&json);
}

static void test_pool_list_tells_what_runs_and_how_far_it_is(void **state)
{
    (void)state;
    struct bench b;
    char text[4096];
    bench_init(&b);
    b.config.concurrency = 2;
    bench_start_python(&b, "import millrace, os\n"
                           "def handle(event, ctx):\n"
                           "    ctx.heartbeat({'done': 0.5})\n"
                           "    ctx.heartbeat({'done': [1, '\\u20ac']})\n"
                           "    while not os.path.exists('go'):\n"
                           "        pass\n"
                           "millrace.run(handle, concurrency=2)\n");
    bench_hand(&b, 2, NULL);
    uint64_t until = mr_clock_mono_ns() + WAIT_SECONDS * MR_SECOND;
    do { /* not bench_wait: its lock is what the target's calls to the host want */
        bench_list(&b, "sub:2", text);
    } while (strstr(text, "\"done\":[1") == NULL && mr_clock_mono_ns() < until);
    assert_non_null(strstr(text, "\"done\":[1"));
    assert_null(strstr(text, "sub:1")); /* the other one is left out */
    assert_non_null(strstr(text, "[{\"instance\":\"thumbs/1\",\"pid\":"));
    assert_non_null(strstr(text, "\"state\":\"busy\",\"version\":\"42\""));
    bench_list(&b, NULL, text);
    assert_non_null(strstr(text, "{\"delivery\":\"sub:1\",\"attempt\":1,\"running_seconds\":"));
    assert_non_null(strstr(text, "\"delivery\":\"sub:2\""));
    bench_list(&b, "sub:3", text);
    assert_string_equal(text, "");
    bench_file(&b, "go", "");
    bench_expect(&b, MR_VERDICT_OK, NULL);
    bench_expect(&b, MR_VERDICT_OK, NULL);
    bench_list(&b, NULL, text);
    assert_non_null(strstr(text, "\"deliveries\":[]}]"));
    bench_stop(&b, MR_SECOND);
    bench_release(&b);
}

static void test_pool_crash_answers_what_it_held_with_all_we_know(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    bench_start_python(&b, "import millrace, os, sys\n"
                           "def handle(event, ctx):\n"
                           "    if ctx.delivery == 'sub:1': return\n"
                           "    block = bytearray(b'x') * (64 << 20)\n"
                           "    print('first line', file=sys.stderr)\n"
                           "    print('bad\\x1b[31m thing', file=sys.stderr)\n"
                           "    os._exit(3)\n"
                           "millrace.run(handle)\n");
    bench_hand(&b, 1, NULL);
    bench_expect(&b, MR_VERDICT_OK, NULL);
    bench_hand(&b, 1, NULL);
    struct mr_handout *h = bench_take(&b);
    assert_int_equal(h->answer.verdict, MR_VERDICT_CRASH);
    assert_int_equal(h->answer.exit_code, 3);
    assert_int_equal(h->answer.exit_signal, 0);
    assert_int_equal(h->answer.suspects, 1);
    assert_string_equal(h->answer.instance, "thumbs/1");
    assert_string_equal(h->answer.error, "thumbs/1 exited with code 3: bad [31m thing");
    assert_string_equal(h->answer.stderr_tail, "first line\nbad [31m thing\n");
    assert_true(h->answer.rss_peak >= 64u << 20);
    mr_handout_destroy(h);
    struct mr_health health = bench_health(&b);
    assert_int_equal(health.crashes, 1);
    assert_non_null(strstr(health.last_error, "bad [31m thing"));
    assert_true(health.last_error_wall_ns > 0);
    bench_wait(&b, b.capacity == 1); /* replaced */
    bench_release(&b);
}

static void test_pool_crash_by_signal_is_named(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    bench_start_python(&b, "import millrace, os, signal\n"
                           "millrace.run(lambda e, c: os.kill(os.getpid(), signal.SIGSEGV))\n");
    bench_hand(&b, 1, NULL);
    struct mr_handout *h = bench_take(&b);
    assert_int_equal(h->answer.verdict, MR_VERDICT_CRASH);
    assert_int_equal(h->answer.exit_code, -1);
    assert_int_equal(h->answer.exit_signal, SIGSEGV);
    assert_non_null(strstr(h->answer.error, "signal 11"));
    mr_handout_destroy(h);
    bench_release(&b);
}

static void test_pool_crash_with_several_in_flight_counts_suspects(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    b.config.concurrency = 4;
    bench_start_python(&b, "import millrace, os, signal\n"
                           "def handle(event, ctx):\n"
                           "    open(ctx.delivery, 'w').close()\n"
                           "    while not os.path.exists('go'): pass\n"
                           "    os._exit(1)\n"
                           "millrace.run(handle, concurrency=4)\n");
    bench_hand(&b, 3, NULL);
    bench_wait(&b, bench_has_file(&b, "sub:1") && bench_has_file(&b, "sub:2") &&
                       bench_has_file(&b, "sub:3"));
    bench_file(&b, "go", "");
    for (uint64_t k = 1; k <= 3; k++) {
        struct mr_handout *h = bench_take(&b);
        assert_int_equal(h->answer.verdict, MR_VERDICT_CRASH);
        assert_int_equal(h->answer.suspects, 3);
        assert_int_equal(h->offset, k);
        mr_handout_destroy(h);
    }
    bench_release(&b);
}

static void test_pool_answer_before_exit_counts(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    bench_start_python(&b, "import socket, json, os\n"
                           "s = socket.socket(fileno=3); f = s.makefile('rb')\n"
                           "s.sendall(b'{\"millrace\":1}\\n')\n"
                           "f.readline(); d = json.loads(f.readline())\n"
                           "s.sendall(json.dumps({'delivery': d['delivery'], 'verdict': "
                           "'ok'}).encode() + b'\\n')\n"
                           "os._exit(7)\n");
    bench_hand(&b, 1, NULL);
    bench_expect(&b, MR_VERDICT_OK, NULL);
    bench_wait(&b, bench_health(&b).crashes >= 1);
    bench_release(&b);
}

static void test_pool_crash_loop_backs_off_and_is_down(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    b.config.scale_min = 2;
    b.config.scale_max = 4;
    uint64_t begin = mr_clock_mono_ns();
    bench_start_shell(&b, &mr_worker_process, "echo no database >&2\nexit 1\n");
    bench_wait(&b, bench_health(&b).crashes >= 4);
    /* Two at first (80 to 120 ms), then one by one: 160 to 240 ms, … */
    assert_true(mr_clock_mono_ns() - begin >= 200 * MR_MS);
    struct mr_health health = bench_health(&b);
    assert_int_equal(health.state, MR_HEALTH_DOWN);
    assert_non_null(strstr(health.last_error, "exited with code 1: no database"));
    assert_int_equal(b.capacity, 0);
    assert_int_equal(b.capacity_max, 0);
    bench_release(&b);
}

static void test_pool_command_that_does_not_exist_is_down_with_reason(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    const char *const command[] = {"no-such-program-here", "x", NULL};
    bench_start(&b, &mr_worker_process, command);
    bench_wait(&b, bench_health(&b).state == MR_HEALTH_DOWN);
    /* Under the thread sanitiser vfork is fork, and the reason stays in the child. */
    const char *reason = bench_health(&b).last_error;
    assert_true(strstr(reason, "no-such-program-here") != NULL || strstr(reason, "127") != NULL);
    bench_release(&b);
}

static void test_pool_folder_that_does_not_exist_is_down(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    b.process.cwd = (char *)(uintptr_t) "/no/such/folder";
    const char *const command[] = {"true", NULL};
    bench_start(&b, &mr_worker_process, command);
    bench_wait(&b, bench_health(&b).state == MR_HEALTH_DOWN);
    bench_release(&b);
}

static void test_pool_handout_without_instance_is_refused(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    b.config.scale_min = 0;
    bench_start_python(&b, OK_WORKER);
    bench_wait(&b, b.capacity_calls > 0);
    b.ops->submit(b.target, bench_handout(&b, NULL));
    struct mr_handout *h = bench_take(&b);
    assert_int_equal(h->answer.verdict, MR_VERDICT_REFUSED);
    assert_int_equal(h->answer.started_wall_ns, 0);
    assert_string_equal(h->answer.error, "no instance");
    mr_handout_destroy(h);
    bench_release(&b);
}

static void test_pool_stop_lets_handlers_finish(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    bench_start_python(&b, "import millrace, os\n"
                           "def handle(event, ctx):\n"
                           "    open('begun', 'w').close()\n"
                           "    n = 0\n"
                           "    while n < 200000: n += 1\n"
                           "    return n\n"
                           "millrace.run(handle)\n");
    bench_hand(&b, 1, NULL);
    bench_wait(&b, bench_has_file(&b, "begun"));
    bench_stop(&b, 20 * MR_SECOND);
    struct mr_handout *h = bench_take(&b);
    assert_int_equal(h->answer.verdict, MR_VERDICT_OK);
    assert_string_equal(h->answer.result, "200000");
    mr_handout_destroy(h);
    bench_release(&b);
}

static void test_pool_stop_at_deadline_kills_and_says_stopped(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    b.config.concurrency = 2;
    b.config.grace_ns = 100 * MR_MS;
    bench_start_python(&b, "import millrace, signal\n"
                           "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
                           "def handle(event, ctx):\n"
                           "    open(ctx.delivery, 'w').close()\n"
                           "    signal.pause()\n"
                           "millrace.run(handle, concurrency=2)\n");
    bench_hand(&b, 2, NULL);
    bench_wait(&b, bench_has_file(&b, "sub:1") && bench_has_file(&b, "sub:2"));
    uint64_t begin = mr_clock_mono_ns();
    bench_stop(&b, 200 * MR_MS);
    assert_true(mr_clock_mono_ns() - begin < 5 * MR_SECOND);
    for (int k = 0; k < 2; k++) {
        struct mr_handout *h = bench_take(&b);
        assert_int_equal(h->answer.verdict, MR_VERDICT_CRASH);
        assert_int_equal(h->answer.suspects, 0);
        assert_non_null(strstr(h->answer.error, "stopped"));
        mr_handout_destroy(h);
    }
    bench_release(&b);
}

static void test_pool_stop_refuses_what_waits(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    bench_start_python(&b, HOLDING_WORKER);
    bench_hand(&b, 1, NULL);
    bench_wait(&b, bench_has_file(&b, "begun.sub:1"));
    struct mr_handout *alone = bench_handout(&b, NULL);
    alone->alone = true;
    b.ops->submit(b.target, alone);
    bench_wait(&b, b.capacity == 2);
    bench_file(&b, "go", "");
    bench_stop(&b, 20 * MR_SECOND);
    uint32_t seen = 0;
    while (b.answers != NULL) {
        struct mr_handout *h = bench_take(&b);
        assert_true(h->answer.verdict == MR_VERDICT_OK ||
                    (h->alone && h->answer.verdict == MR_VERDICT_REFUSED));
        mr_handout_destroy(h);
        seen++;
    }
    assert_int_equal(seen, 2);
    bench_release(&b);
}

static void test_pool_stop_of_a_silent_worker_is_quick(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    bench_start_shell(&b, &mr_worker_process, "echo $$ > begun\nread never <&3; read never <&3; "
                                              "read never <&3\n");
    bench_wait(&b, bench_has_file(&b, "begun"));
    uint64_t begin = mr_clock_mono_ns();
    bench_stop(&b, 20 * MR_SECOND);
    assert_true(mr_clock_mono_ns() - begin < 3 * MR_SECOND);
    bench_release(&b);
}

static void test_pool_stop_twice_and_without_start_is_harmless(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    bench_start_python(&b, OK_WORKER);
    bench_wait(&b, b.capacity == 1);
    b.ops->stop(b.target, mr_clock_mono_ns() + 10 * MR_SECOND);
    b.ops->stop(b.target, mr_clock_mono_ns() + 10 * MR_SECOND);
    b.ops->cancel(b.target, 1, 1, 1); /* late calls of the bus */
    b.ops->demand(b.target, 5, 5);
    b.ops->submit(b.target, bench_handout(&b, NULL));
    bench_expect(&b, MR_VERDICT_REFUSED, NULL);
    bench_release(&b);
}

static void test_pool_worker_that_ends_itself_after_work_is_no_crash(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    bench_start_python(&b, "import socket, json\n"
                           "s = socket.socket(fileno=3); f = s.makefile('rb')\n"
                           "s.sendall(b'{\"millrace\":1}\\n')\n"
                           "f.readline(); d = json.loads(f.readline())\n"
                           "s.sendall(json.dumps({'delivery': d['delivery'], 'verdict': "
                           "'ok'}).encode() + b'\\n')\n");
    for (int k = 0; k < 3; k++) {
        bench_hand(&b, 1, NULL);
        bench_expect(&b, MR_VERDICT_OK, NULL);
        bench_wait(&b, bench_health(&b).starts >= (uint64_t)k + 2);
    }
    assert_int_equal(bench_health(&b).crashes, 0);
    bench_release(&b);
}

static void test_pool_two_targets_do_not_disturb_each_other(void **state)
{
    (void)state;
    struct bench one;
    struct bench two;
    bench_init(&one);
    bench_init(&two);
    bench_start_python(&one, OK_WORKER);
    bench_start_shell(&two, &mr_worker_process, "exit 1\n");
    for (int k = 0; k < 20; k++) {
        bench_hand(&one, 1, NULL);
        bench_expect(&one, MR_VERDICT_OK, NULL);
    }
    bench_wait(&two, bench_health(&two).crashes >= 2);
    bench_hand(&one, 1, NULL);
    bench_expect(&one, MR_VERDICT_OK, NULL);
    bench_stop(&two, 10 * MR_SECOND);
    bench_hand(&one, 1, NULL);
    bench_expect(&one, MR_VERDICT_OK, NULL);
    bench_release(&one);
    bench_release(&two);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pool_min_instances_run_from_the_start),
        cmocka_unit_test(test_pool_zero_starts_on_demand_and_goes_when_idle),
        cmocka_unit_test(test_pool_grows_with_demand_up_to_max_and_shrinks),
        cmocka_unit_test(test_pool_target_says_how_many_instances_work_needs),
        cmocka_unit_test(test_pool_max_events_replaces_the_instance),
        cmocka_unit_test(test_pool_max_life_replaces_the_instance),
        cmocka_unit_test(test_pool_max_life_with_room_never_leaves_a_gap),
        cmocka_unit_test(test_pool_list_tells_what_runs_and_how_far_it_is),
        cmocka_unit_test(test_pool_max_rss_replaces_after_the_answer),
        cmocka_unit_test(test_pool_handouts_wait_for_a_successor),
        cmocka_unit_test(test_pool_crash_answers_what_it_held_with_all_we_know),
        cmocka_unit_test(test_pool_crash_by_signal_is_named),
        cmocka_unit_test(test_pool_crash_with_several_in_flight_counts_suspects),
        cmocka_unit_test(test_pool_answer_before_exit_counts),
        cmocka_unit_test(test_pool_crash_loop_backs_off_and_is_down),
        cmocka_unit_test(test_pool_command_that_does_not_exist_is_down_with_reason),
        cmocka_unit_test(test_pool_folder_that_does_not_exist_is_down),
        cmocka_unit_test(test_pool_handout_without_instance_is_refused),
        cmocka_unit_test(test_pool_stop_lets_handlers_finish),
        cmocka_unit_test(test_pool_stop_at_deadline_kills_and_says_stopped),
        cmocka_unit_test(test_pool_stop_refuses_what_waits),
        cmocka_unit_test(test_pool_stop_of_a_silent_worker_is_quick),
        cmocka_unit_test(test_pool_stop_twice_and_without_start_is_harmless),
        cmocka_unit_test(test_pool_worker_that_ends_itself_after_work_is_no_crash),
        cmocka_unit_test(test_pool_two_targets_do_not_disturb_each_other),
    };
    return cmocka_run_group_tests(tests, quiet, NULL);
}
