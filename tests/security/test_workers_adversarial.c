/* Workers that misbehave. Whatever they do: each delivery comes back once, the target goes on, and
 * nothing of them is left. */
#include "tests/unit/workers/bench.h"

static int quiet(void **state)
{
    (void)state;
    mr_logger_set_fd(-1);
    return 0;
}

/* Python that speaks the bare protocol: `frames()` yields deliveries, `say()` writes a line. */
#define BARE                                                                                       \
    "import json, os, socket, sys\n"                                                               \
    "sock = socket.socket(fileno=3)\n"                                                             \
    "reader = sock.makefile('rb')\n"                                                               \
    "def say(x): sock.sendall(x if isinstance(x, bytes) else json.dumps(x).encode() + b'\\n')\n"   \
    "def ok(f): say({'delivery': f['delivery'], 'verdict': 'ok'})\n"                               \
    "def frames():\n"                                                                              \
    "    for line in reader:\n"                                                                    \
    "        f = json.loads(line)\n"                                                               \
    "        if 'delivery' in f: yield f\n"                                                        \
    "def pause():\n"                                                                               \
    "    import signal\n"                                                                          \
    "    while True: signal.pause()\n"

static void mark(struct bench *b, char text[100])
{
    bench_env(b, "LEFT_BEHIND", b->folder);
    snprintf(text, 100, "LEFT_BEHIND=%s", b->folder);
}

/* Starts a shell worker that carries the mark. */
static void start_marked(struct bench *b, const char *script, char text[100])
{
    mark(b, text);
    bench_start_shell(b, &mr_worker_process, script);
}

static void test_adversary_prints_garbage_on_the_socket_is_killed_after_ten(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    bench_start_python(&b, BARE "say({'millrace': 1})\n"
                                "for f in frames():\n"
                                "    for i in range(1000): sock.sendall(b'\\x00\\xff not json "
                                "%d\\n' % i)\n"
                                "    pause()\n");
    bench_hand(&b, 1, NULL);
    struct mr_handout *h = bench_take(&b);
    assert_int_equal(h->answer.verdict, MR_VERDICT_CRASH);
    assert_int_equal(h->answer.suspects, 1);
    assert_non_null(strstr(h->answer.error, "10 lines"));
    mr_handout_destroy(h);
    bench_release(&b);
}

static void test_adversary_some_garbage_between_answers_is_survived(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    bench_start_python(&b, BARE "say({'millrace': 1})\n"
                                "for f in frames():\n"
                                "    say(b'oops\\n\\n\\r\\n'); say({'log': 'hello'}); ok(f)\n");
    for (int k = 0; k < 9; k++) {
        bench_hand(&b, 1, NULL);
        bench_expect(&b, MR_VERDICT_OK, NULL);
    }
    assert_int_equal(bench_health(&b).errors, 9);
    assert_int_equal(bench_health(&b).crashes, 0);
    bench_release(&b);
}

static void test_adversary_answers_twice_settles_once(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    bench_start_python(&b, BARE "say({'millrace': 1})\n"
                                "for f in frames(): ok(f); ok(f)\n");
    for (int k = 0; k < 5; k++) {
        bench_hand(&b, 1, NULL);
        bench_expect(&b, MR_VERDICT_OK, NULL);
    }
    bench_wait(&b, bench_health(&b).errors == 5);
    assert_int_equal(b.answer_count, 5);
    bench_release(&b);
}

static void test_adversary_answers_what_it_never_got(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    bench_start_python(&b, BARE "say({'millrace': 1})\n"
                                "for f in frames():\n"
                                "    say({'delivery': 'sub:999', 'verdict': 'ok'})\n"
                                "    say({'delivery': 'no colon', 'verdict': 'ok'})\n"
                                "    say({'delivery': ':', 'verdict': 'ok'})\n"
                                "    say({'delivery': '', 'verdict': 'ok'})\n"
                                "    say({'heartbeat': 'other:1'})\n"
                                "    ok(f)\n");
    bench_hand(&b, 1, NULL);
    bench_expect(&b, MR_VERDICT_OK, NULL);
    assert_int_equal(bench_health(&b).errors, 5);
    assert_int_equal(b.beats, 0);
    bench_release(&b);
}

static void test_adversary_answer_after_the_kill_is_not_taken_twice(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    b.config.grace_ns = 50 * MR_MS;
    /* Answers at about the time it is killed. */
    bench_start_python(&b, BARE "import select\n"
                                "say({'millrace': 1, 'features': ['cancel']})\n"
                                "for f in frames():\n"
                                "    line = reader.readline()\n" /* the cancel */
                                "    select.select([], [], [], 0.05)\n"
                                "    ok(f); ok(f)\n");
    for (int k = 0; k < 5; k++) {
        bench_hand(&b, 1, NULL);
        b.ops->cancel(b.target, 3, b.offset, 1);
        struct mr_handout *h = bench_take(&b);
        assert_true(h->answer.verdict == MR_VERDICT_OK || h->answer.verdict == MR_VERDICT_CRASH ||
                    h->answer.verdict == MR_VERDICT_REFUSED);
        mr_handout_destroy(h);
    }
    bench_release(&b);
    assert_int_equal(b.answer_count, 5);
}

static void test_adversary_never_reads_is_not_ready_and_blocks_nobody(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    b.config.concurrency = 64;
    b.config.grace_ns = 100 * MR_MS;
    /* Greets, then reads nothing: the socket fills up, then our side holds back. */
    bench_start_python(&b, BARE "say({'millrace': 1, 'max': 64})\npause()\n");
    size_t size = 512 * 1024;
    char *json = malloc(size + 200);
    size_t n = (size_t)snprintf(
        json, 200, "{\"specversion\":\"1.0\",\"id\":\"e\",\"source\":\"/s\",\"type\":\"t\","
                   "\"data\":\"");
    memset(json + n, 'x', size);
    memcpy(json + n + size, "\"}", 3);
    bench_hand(&b, 64, json);
    free(json);
    bench_wait(&b, bench_health(&b).messages > 0);
    for (uint64_t offset = 1; offset <= 64; offset++) {
        b.ops->cancel(b.target, 3, offset, 1); /* as the bus does when leases run out */
    }
    uint32_t crashed = 0;
    for (int k = 0; k < 64; k++) {
        struct mr_handout *h = bench_take(&b);
        assert_true(h->answer.verdict == MR_VERDICT_CRASH ||
                    h->answer.verdict == MR_VERDICT_REFUSED);
        crashed += h->answer.verdict == MR_VERDICT_CRASH;
        mr_handout_destroy(h);
    }
    assert_true(crashed >= 1);
    assert_true(crashed < 8); /* 256 KiB and one frame beyond the socket's own buffer */
    bench_release(&b);
}

static void test_adversary_never_answers_is_killed_when_cancelled(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    b.config.grace_ns = 50 * MR_MS;
    bench_start_python(&b, BARE "say({'millrace': 1})\nfor f in frames(): pass\n");
    for (int k = 0; k < 3; k++) {
        bench_hand(&b, 1, NULL);
        b.ops->cancel(b.target, 3, b.offset, 1);
        struct mr_handout *h = bench_take(&b);
        assert_true(h->answer.verdict == MR_VERDICT_CRASH ||
                    h->answer.verdict == MR_VERDICT_REFUSED);
        mr_handout_destroy(h);
    }
    bench_release(&b);
}

static void test_adversary_grandchild_ignoring_term_is_gone_after_stop(void **state)
{
    (void)state;
    struct bench b;
    char left[100];
    bench_init(&b);
    b.config.grace_ns = 200 * MR_MS;
    start_marked(&b, "(trap '' TERM HUP INT; echo > grandchild; exec tail -f /dev/null) &\n"
                     "printf '{\"millrace\":1}\\n' >&3\nread -r a <&3; read -r a <&3\nexit 0\n",
                 left);
    bench_wait(&b, bench_has_file(&b, "grandchild"));
    bench_wait(&b, bench_with_env(left) >= 2); /* one that is about to run tail shows nothing */
    bench_stop(&b, 10 * MR_SECOND);
    bench_wait(&b, bench_with_env(left) == 0);
    bench_release(&b);
}

static void test_adversary_grandchild_goes_with_a_crash(void **state)
{
    (void)state;
    struct bench b;
    char left[100];
    bench_init(&b);
    start_marked(&b, "test -e second && { printf '{\"millrace\":1}\\n' >&3; read -r a <&3; read "
                     "-r a <&3; exit 0; }\n"
                     "echo > second\n"
                     "(trap '' TERM HUP INT; echo > grandchild; exec tail -f /dev/null) &\n"
                     "until test -e grandchild; do :; done\nkill -9 $$\n",
                 left);
    bench_wait(&b, b.capacity == 1);
    bench_wait(&b, bench_with_env(left) == 1); /* the second instance alone */
    bench_release(&b);
}

#define DOUBLE_FORK                                                                                \
    "import os\n"                                                                                  \
    "def escape():\n"                                                                              \
    "    if os.fork() == 0:\n"                                                                     \
    "        os.setsid()\n"                                                                        \
    "        if os.fork() == 0:\n"                                                                 \
    "            import signal\n"                                                                  \
    "            for s in (signal.SIGTERM, signal.SIGHUP): signal.signal(s, signal.SIG_IGN)\n"     \
    "            open('escaped', 'w').close()\n"                                                   \
    "            while True: signal.pause()\n"                                                     \
    "        os._exit(0)\n"                                                                        \
    "    os.wait()\n"                                                                              \
    "    while not os.path.exists('escaped'): pass\n"

static void test_adversary_double_fork_into_its_own_session_is_gone_after_stop(void **state)
{
    (void)state;
    struct bench b;
    char left[100];
    bench_init(&b);
    mark(&b, left);
    bench_file(&b, "w.py", BARE DOUBLE_FORK "escape()\nsay({'millrace': 1})\nfor f in frames(): "
                                            "ok(f)\n");
    const char *const command[] = {"python3", "w.py", NULL};
    bench_start(&b, &mr_worker_process, command);
    bench_hand(&b, 1, NULL);
    bench_expect(&b, MR_VERDICT_OK, NULL);
    assert_int_equal(bench_with_env(left), 2); /* it may live while its worker does */
    bench_stop(&b, 10 * MR_SECOND);
    assert_int_equal(bench_with_env(left), 0); /* the stop waited for that */
    bench_release(&b);
}

static void test_adversary_double_fork_goes_with_its_crashed_instance(void **state)
{
    (void)state;
    struct bench b;
    char left[100];
    bench_init(&b);
    mark(&b, left);
    bench_file(&b, "w.py", BARE DOUBLE_FORK
               "if not os.path.exists('escaped'): escape(); os._exit(5)\n"
               "say({'millrace': 1})\nfor f in frames(): ok(f)\n");
    const char *const command[] = {"python3", "w.py", NULL};
    bench_start(&b, &mr_worker_process, command);
    bench_hand(&b, 1, NULL);
    bench_expect(&b, MR_VERDICT_OK, NULL);
    bench_wait(&b, bench_with_env(left) == 1); /* while the target goes on */
    bench_release(&b);
}

static void test_adversary_escape_without_environment_goes_at_the_end(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    bench_file(&b, "w.sh", "env -i setsid /bin/sh -c 'echo $$ > pid; exec tail -f /dev/null' &\n"
                           "until test -s pid; do :; done\n"
                           "printf '{\"millrace\":1}\\n' >&3\nread -r a <&3; read -r a <&3\nexit "
                           "0\n");
    const char *const command[] = {"/bin/sh", "w.sh", NULL};
    bench_start(&b, &mr_worker_process, command);
    bench_wait(&b, b.capacity == 1);
    char path[128];
    char text[32] = "";
    snprintf(path, sizeof(path), "%s/pid", b.folder);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_non_null(fgets(text, sizeof(text), file));
    fclose(file);
    pid_t pid = (pid_t)atol(text);
    assert_int_equal(kill(pid, 0), 0);
    bench_stop(&b, 10 * MR_SECOND);
    bench_wait(&b, kill(pid, 0) != 0);
    bench_release(&b);
}

static void test_adversary_zombies_of_a_live_worker_are_reaped(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    bench_start_python(&b, BARE "say({'millrace': 1})\n"
                                "for f in frames():\n"
                                "    for i in range(50):\n"
                                "        if os.fork() == 0:\n"
                                "            os.setsid()\n"
                                "            os.fork()\n" /* both end, the second an orphan */
                                "            os._exit(0)\n"
                                "    while True:\n"
                                "        try: os.wait()\n"
                                "        except ChildProcessError: break\n"
                                "    ok(f)\n");
    bench_hand(&b, 1, NULL);
    bench_expect(&b, MR_VERDICT_OK, NULL);
    bench_wait(&b, bench_children() == 2); /* the worker and the guardian */
    bench_release(&b);
}

static void test_adversary_ten_megabytes_of_output_are_only_logs(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    bench_start_python(&b, BARE "say({'millrace': 1})\n"
                                "for f in frames():\n"
                                "    for i in range(160):\n"
                                "        os.write(1, b'y' * 65535 + b'\\n')\n"
                                "        os.write(2, b'z' * 65536)\n"
                                "    ok(f)\n");
    bench_hand(&b, 1, NULL);
    bench_expect(&b, MR_VERDICT_OK, NULL);
    assert_true(bench_health(&b).bytes_held < 1024 * 1024);
    bench_release(&b);
}

static void test_adversary_stdout_is_never_taken_for_answers(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    bench_start_python(&b, BARE "say({'millrace': 1})\n"
                                "for f in frames():\n"
                                "    os.write(1, json.dumps({'delivery': f['delivery'], "
                                "'verdict': 'dead'}).encode() + b'\\n')\n"
                                "    ok(f)\n");
    bench_hand(&b, 1, NULL);
    bench_expect(&b, MR_VERDICT_OK, NULL);
    bench_release(&b);
}

static void test_adversary_closes_descriptor_three_and_lives_on(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    bench_start_python(&b, BARE "say({'millrace': 1})\n"
                                "for f in frames():\n"
                                "    reader.close(); sock.close()\n"
                                "    pause()\n");
    bench_hand(&b, 1, NULL);
    struct mr_handout *h = bench_take(&b);
    assert_int_equal(h->answer.verdict, MR_VERDICT_CRASH);
    assert_non_null(strstr(h->answer.error, "closed descriptor 3"));
    mr_handout_destroy(h);
    bench_wait(&b, bench_health(&b).starts >= 2);
    bench_release(&b);
}

static void test_adversary_grandchild_keeps_the_socket_open_after_exit(void **state)
{
    (void)state;
    struct bench b;
    char left[100];
    bench_init(&b);
    mark(&b, left);
    bench_file(&b, "w.py", BARE "say({'millrace': 1})\n"
                                "for f in frames():\n"
                                "    if os.fork() == 0: pause()\n"
                                "    os._exit(4)\n");
    const char *const command[] = {"python3", "w.py", NULL};
    bench_start(&b, &mr_worker_process, command);
    bench_hand(&b, 1, NULL);
    struct mr_handout *h = bench_take(&b);
    assert_int_equal(h->answer.verdict, MR_VERDICT_CRASH);
    assert_int_equal(h->answer.exit_code, 4);
    mr_handout_destroy(h);
    bench_stop(&b, 10 * MR_SECOND);
    bench_wait(&b, bench_with_env(left) == 0);
    bench_release(&b);
}

static void test_adversary_huge_frame_is_refused_with_bounded_memory(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    bench_start_python(&b, BARE "say({'millrace': 1})\n"
                                "for f in frames():\n"
                                "    try:\n"
                                "        sock.sendall(b'{\"delivery\":\"' + b'x' * (64 << 20))\n"
                                "    except OSError: pass\n"
                                "    pause()\n");
    bench_hand(&b, 1, NULL);
    bench_expect(&b, MR_VERDICT_CRASH, "more than 8 MiB");
    bench_wait(&b, bench_health(&b).bytes_held < 1024 * 1024);
    bench_release(&b);
}

static void test_adversary_frame_of_seven_megabytes_passes(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    bench_start_python(&b, BARE "say({'millrace': 1})\n"
                                "for f in frames():\n"
                                "    say({'delivery': f['delivery'], 'verdict': 'drop', 'error': "
                                "'x' * (7 << 20)})\n");
    bench_hand(&b, 1, NULL);
    struct mr_handout *h = bench_take(&b);
    assert_int_equal(h->answer.verdict, MR_VERDICT_DROP);
    assert_true(strlen(h->answer.error) < MR_ERROR_TEXT_MAX);
    mr_handout_destroy(h);
    bench_release(&b);
}

static void test_adversary_frame_in_single_bytes_passes(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    bench_start_python(&b, BARE "say({'millrace': 1})\n"
                                "for f in frames():\n"
                                "    for c in json.dumps({'delivery': f['delivery'], 'verdict': "
                                "'ok'}).encode() + b'\\n':\n"
                                "        sock.send(bytes([c]))\n");
    for (int k = 0; k < 3; k++) {
        bench_hand(&b, 1, NULL);
        bench_expect(&b, MR_VERDICT_OK, NULL);
    }
    bench_release(&b);
}

static void test_adversary_declares_absurd_numbers(void **state)
{
    (void)state;
    static const char *const hellos[] = {"{\"millrace\":1,\"max\":18446744073709551615}",
                                         "{\"millrace\":1,\"max\":1,\"features\":[1,{},[],null]}",
                                         "{\"millrace\":1,\"features\":{\"raw\":true},"
                                         "\"version\":null}"};
    for (size_t i = 0; i < sizeof(hellos) / sizeof(hellos[0]); i++) {
        struct bench b;
        char script[2000];
        bench_init(&b);
        b.config.concurrency = 5;
        snprintf(script, sizeof(script), "%ssay(b'%s\\n')\nfor f in frames(): ok(f)\n", BARE,
                 hellos[i]);
        bench_start_python(&b, script);
        bench_hand(&b, 1, NULL);
        bench_expect(&b, MR_VERDICT_OK, NULL);
        assert_true(b.capacity_max <= 5);
        bench_release(&b);
    }
}

static void test_adversary_other_protocol_version_is_refused(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    bench_start_python(&b, BARE "say({'millrace': 2})\npause()\n");
    bench_wait(&b, bench_health(&b).crashes >= 1);
    assert_non_null(strstr(bench_health(&b).last_error, "version"));
    assert_int_equal(b.capacity_max, 0);
    bench_release(&b);
}

static void test_adversary_ignores_stop_and_term(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    b.config.grace_ns = 100 * MR_MS;
    bench_start_python(&b, BARE "import signal\n"
                                "for s in range(1, 32):\n"
                                "    try: signal.signal(s, signal.SIG_IGN)\n"
                                "    except OSError: pass\n"
                                "say({'millrace': 1})\n"
                                "while True: signal.pause()\n");
    bench_wait(&b, b.capacity == 1);
    uint64_t begin = mr_clock_mono_ns();
    bench_stop(&b, 20 * MR_SECOND);
    assert_true(mr_clock_mono_ns() - begin < 5 * MR_SECOND);
    bench_release(&b);
}

static void test_adversary_stops_itself_is_killed_when_cancelled(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    b.config.grace_ns = 100 * MR_MS;
    bench_start_python(&b, BARE "import signal\nsay({'millrace': 1})\n"
                                "for f in frames(): open('begun', 'w').close(); "
                                "os.kill(os.getpid(), signal.SIGSTOP)\n");
    bench_hand(&b, 1, NULL);
    bench_wait(&b, bench_has_file(&b, "begun"));
    b.ops->cancel(b.target, 3, 1, 1);
    bench_expect(&b, MR_VERDICT_CRASH, "within the grace");
    bench_release(&b);
}

static void test_adversary_log_lines_cannot_be_forged(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    fcntl(ends[1], F_SETFL, O_NONBLOCK);
    mr_logger_set_fd(ends[1]);
    bench_start_python(&b, BARE "os.write(2, b'x\\rtime=2020-01-01T00:00:00Z level=error "
                                "msg=forged \\x1b[2J\\xff\\n')\n"
                                "say({'millrace': 1})\nfor f in frames(): ok(f)\n");
    bench_hand(&b, 1, NULL);
    bench_expect(&b, MR_VERDICT_OK, NULL);
    bench_release(&b);
    mr_logger_set_fd(-1);
    char text[4096];
    ssize_t n = read(ends[0], text, sizeof(text) - 1);
    assert_true(n > 0);
    text[n] = '\0';
    close(ends[0]);
    close(ends[1]);
    assert_non_null(strstr(text, "forged"));
    assert_null(strchr(text, '\r'));
    assert_null(strchr(text, '\x1b'));
    for (const char *line = text; *line != '\0'; line = strchr(line, '\n') + 1) {
        assert_int_equal(strncmp(line, "time=2020", 9) == 0, 0);
    }
}

/* --- the death of the bus --------------------------------------------------------------------- */

/* This program again as a bus of its own: starts a worker and waits for its end. */
static _Noreturn void be_a_bus(const char *folder, const char *script)
{
    struct bench b;
    bench_init(&b);
    rmdir(b.folder);
    snprintf(b.folder, sizeof(b.folder), "%s", folder);
    mr_logger_set_fd(-1);
    b.config.scale_min = 2;
    b.config.scale_max = 2;
    bench_env(&b, "LEFT_BEHIND", b.folder);
    const char *const command[] = {"python3", script, NULL};
    bench_start(&b, &mr_worker_process, command);
    for (;;) {
        pause();
    }
}

static char self_path[4096];

/* Everything of the bus must vanish after @p sig; @p wait_for is a file its workers make. */
static void kill_bus(const char *script, const char *wait_for, int sig, unsigned at_least)
{
    struct bench b;
    char left[100];
    bench_init(&b);
    bench_file(&b, "w.py", script);
    snprintf(left, sizeof(left), "LEFT_BEHIND=%s", b.folder);
    pid_t bus = fork();
    assert_true(bus >= 0);
    if (bus == 0) {
        execl(self_path, self_path, "bus", b.folder, (char *)NULL);
        _exit(99);
    }
    bench_wait(&b, bench_has_file(&b, wait_for));
    bench_wait(&b, bench_with_env(left) >= at_least);
    kill(bus, sig);
    assert_int_equal(waitpid(bus, NULL, 0), bus);
    bench_wait(&b, bench_with_env(left) == 0);
    bench_release(&b);
}

static void test_bus_killed_takes_workers_with_it(void **state)
{
    (void)state;
    kill_bus(BARE "say({'millrace': 1})\nopen('up', 'w').close()\npause()\n", "up", SIGKILL, 2);
}

static void test_bus_killed_takes_groups_with_it(void **state)
{
    (void)state;
    kill_bus(BARE "if os.fork() == 0: open('up', 'w').close(); pause()\n"
                  "say({'millrace': 1})\npause()\n",
             "up", SIGKILL, 4);
}

static void test_bus_killed_takes_escaped_sessions_with_it(void **state)
{
    (void)state;
    kill_bus(BARE DOUBLE_FORK "escape()\nsay({'millrace': 1})\npause()\n", "escaped", SIGKILL, 4);
}

static void test_bus_aborted_takes_groups_with_it(void **state)
{
    (void)state;
    kill_bus(BARE "if os.fork() == 0: open('up', 'w').close(); pause()\n"
                  "say({'millrace': 1})\npause()\n",
             "up", SIGABRT, 4);
}

static void test_bus_ended_by_term_takes_groups_with_it(void **state)
{
    (void)state;
    kill_bus(BARE "if os.fork() == 0: open('up', 'w').close(); pause()\n"
                  "say({'millrace': 1})\npause()\n",
             "up", SIGTERM, 4);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "bus") == 0) {
        be_a_bus(argv[2], "w.py");
    }
    ssize_t n = readlink("/proc/self/exe", self_path, sizeof(self_path) - 1);
    self_path[n < 0 ? 0 : n] = '\0';
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_adversary_prints_garbage_on_the_socket_is_killed_after_ten),
        cmocka_unit_test(test_adversary_some_garbage_between_answers_is_survived),
        cmocka_unit_test(test_adversary_answers_twice_settles_once),
        cmocka_unit_test(test_adversary_answers_what_it_never_got),
        cmocka_unit_test(test_adversary_answer_after_the_kill_is_not_taken_twice),
        cmocka_unit_test(test_adversary_never_reads_is_not_ready_and_blocks_nobody),
        cmocka_unit_test(test_adversary_never_answers_is_killed_when_cancelled),
        cmocka_unit_test(test_adversary_grandchild_ignoring_term_is_gone_after_stop),
        cmocka_unit_test(test_adversary_grandchild_goes_with_a_crash),
        cmocka_unit_test(test_adversary_double_fork_into_its_own_session_is_gone_after_stop),
        cmocka_unit_test(test_adversary_double_fork_goes_with_its_crashed_instance),
        cmocka_unit_test(test_adversary_escape_without_environment_goes_at_the_end),
        cmocka_unit_test(test_adversary_zombies_of_a_live_worker_are_reaped),
        cmocka_unit_test(test_adversary_ten_megabytes_of_output_are_only_logs),
        cmocka_unit_test(test_adversary_stdout_is_never_taken_for_answers),
        cmocka_unit_test(test_adversary_closes_descriptor_three_and_lives_on),
        cmocka_unit_test(test_adversary_grandchild_keeps_the_socket_open_after_exit),
        cmocka_unit_test(test_adversary_huge_frame_is_refused_with_bounded_memory),
        cmocka_unit_test(test_adversary_frame_of_seven_megabytes_passes),
        cmocka_unit_test(test_adversary_frame_in_single_bytes_passes),
        cmocka_unit_test(test_adversary_declares_absurd_numbers),
        cmocka_unit_test(test_adversary_other_protocol_version_is_refused),
        cmocka_unit_test(test_adversary_ignores_stop_and_term),
        cmocka_unit_test(test_adversary_stops_itself_is_killed_when_cancelled),
        cmocka_unit_test(test_adversary_log_lines_cannot_be_forged),
        cmocka_unit_test(test_bus_killed_takes_workers_with_it),
        cmocka_unit_test(test_bus_killed_takes_groups_with_it),
        cmocka_unit_test(test_bus_killed_takes_escaped_sessions_with_it),
        cmocka_unit_test(test_bus_aborted_takes_groups_with_it),
        cmocka_unit_test(test_bus_ended_by_term_takes_groups_with_it),
    };
    return cmocka_run_group_tests(tests, quiet, NULL);
}
