/* The process runtime against real workers in Python and shell: what a handler may say and what
 * comes back. Scaling and ends are in test_process_pool.c. */
#include "tests/unit/workers/bench.h"

/* A shell worker: greets, then answers each delivery with a given frame, D standing for its id. */
#define SHELL_ANSWERS(frame)                                                                       \
    "printf '{\"millrace\":1}\\n' >&3\n"                                                           \
    "read -r hello <&3\n"                                                                          \
    "while read -r line <&3; do\n"                                                                 \
    "  case $line in *'\"stop\"'*) exit 0;; esac\n"                                                \
    "  id=${line#*'\"delivery\":\"'}; id=${id%%'\"'*}\n"                                           \
    "  printf '%s\\n' \"" frame "\" >&3\n"                                                         \
    "done\n"

static int quiet(void **state)
{
    (void)state;
    mr_logger_set_fd(-1);
    return 0;
}

static void test_process_handler_returns_ok(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    bench_start_python(&b, "import millrace\nmillrace.run(lambda event, ctx: None)\n");
    bench_hand(&b, 1, NULL);
    struct mr_handout *h = bench_take(&b);
    assert_int_equal(h->answer.verdict, MR_VERDICT_OK);
    assert_string_equal(h->answer.instance, "thumbs/1");
    assert_string_equal(h->answer.version, "42");
    assert_true(h->answer.started_wall_ns > 0);
    assert_true(h->answer.ended_wall_ns >= h->answer.started_wall_ns);
    assert_null(h->answer.error);
    assert_null(h->answer.result);
    assert_int_equal(h->answer.exit_code, -1);
    mr_handout_destroy(h);
    assert_int_equal(b.target_index, 7);
    bench_release(&b);
}

static void test_process_handler_sees_event_and_delivery(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    bench_start_python(&b, "import millrace\n"
                           "millrace.run(lambda event, ctx: [event, ctx.delivery, ctx.attempt, "
                           "ctx.last, ctx.data.decode(), ctx.deadline[-1]])\n");
    bench_wait(&b, b.capacity == 1);
    struct mr_handout *h = bench_handout(&b, NULL);
    h->attempt = 3;
    h->last = true;
    b.ops->submit(b.target, h);
    h = bench_take(&b);
    assert_int_equal(h->answer.verdict, MR_VERDICT_OK);
    assert_string_equal(h->answer.result,
                        "[{\"specversion\":\"1.0\",\"id\":\"e1\",\"source\":\"/s\","
                        "\"type\":\"t.x\","
                        "\"subject\":\"a b\",\"data\":{\"n\":1}},\"sub:1\",3,true,"
                        "\"{\\\"n\\\": 1}\",\"Z\"]");
    mr_handout_destroy(h);
    bench_release(&b);
}

static void test_process_verdicts_are_taken_over(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    bench_start_python(&b, "import millrace\n"
                           "def handle(event, ctx):\n"
                           "    n = event['data']\n"
                           "    if n == 1: raise millrace.Retry('busy', after=2.5)\n"
                           "    if n == 2: raise millrace.Drop('not for us')\n"
                           "    if n == 3: raise millrace.Dead('never \\u4e2d')\n"
                           "    if n == 4: raise ValueError('oops')\n"
                           "millrace.run(handle)\n");
    static const struct {
        enum mr_verdict verdict;
        const char *error;
    } wanted[] = {{MR_VERDICT_RETRY, "busy"},
                  {MR_VERDICT_DROP, "not for us"},
                  {MR_VERDICT_DEAD, "never \xe4\xb8\xad"},
                  {MR_VERDICT_RETRY, "ValueError: oops"}};
    for (int n = 1; n <= 4; n++) {
        char json[128];
        snprintf(json, sizeof(json),
                 "{\"specversion\":\"1.0\",\"id\":\"e\",\"source\":\"/s\",\"type\":\"t\","
                 "\"data\":%d}", n);
        bench_hand(&b, 1, json);
        struct mr_handout *h = bench_take(&b);
        assert_int_equal(h->answer.verdict, wanted[n - 1].verdict);
        assert_string_equal(h->answer.error, wanted[n - 1].error);
        assert_int_equal(h->answer.has_after, n == 1);
        assert_int_equal(h->answer.after_ns, n == 1 ? 5 * MR_SECOND / 2 : 0);
        if (n == 4) {
            assert_non_null(strstr(h->answer.stderr_tail, "Traceback"));
            assert_non_null(strstr(h->answer.stderr_tail, "oops\n"));
        } else {
            assert_null(h->answer.stderr_tail);
        }
        mr_handout_destroy(h);
    }
    bench_release(&b);
}

static void test_process_emitted_events_come_with_the_answer(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    bench_start_python(&b, "import millrace\n"
                           "def handle(event, ctx):\n"
                           "    ctx.emit({'id': 'a', 'source': '/w', 'type': 't.a', 'data': [1]})\n"
                           "    ctx.emit({'id': 'b', 'source': '/w', 'type': 't.b'})\n"
                           "millrace.run(handle)\n");
    bench_hand(&b, 1, NULL);
    struct mr_handout *h = bench_take(&b);
    assert_int_equal(h->answer.verdict, MR_VERDICT_OK);
    assert_int_equal(h->answer.emitted_count, 2);
    struct mr_bytes record = mr_event_record(h->answer.emitted[0].event);
    assert_true(mr_bytes_equal(mr_event_type(record), MR_BYTES_LITERAL("t.a")));
    assert_true(mr_bytes_equal(mr_event_data(record), MR_BYTES_LITERAL("[1]")));
    record = mr_event_record(h->answer.emitted[1].event);
    assert_true(mr_bytes_equal(mr_event_id(record), MR_BYTES_LITERAL("b")));
    mr_handout_destroy(h);
    bench_release(&b);
}

static void test_process_emitted_nonsense_is_retry_with_the_reason(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    bench_start_shell(&b, &mr_worker_process,
                      SHELL_ANSWERS("{\\\"delivery\\\":\\\"$id\\\",\\\"verdict\\\":\\\"ok\\\","
                                    "\\\"events\\\":[{\\\"id\\\":\\\"x\\\"}]}"));
    bench_hand(&b, 1, NULL);
    struct mr_handout *h = bench_take(&b);
    assert_int_equal(h->answer.verdict, MR_VERDICT_RETRY);
    assert_non_null(strstr(h->answer.error, "emitted event 0"));
    assert_int_equal(h->answer.emitted_count, 0);
    mr_handout_destroy(h);
    bench_release(&b);
}

static void test_process_too_many_emitted_is_retry(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    bench_start_python(&b, "import millrace\n"
                           "def handle(event, ctx):\n"
                           "    for i in range(101):\n"
                           "        ctx.emit({'id': str(i), 'source': '/w', 'type': 't'})\n"
                           "millrace.run(handle)\n");
    bench_hand(&b, 1, NULL);
    bench_expect(&b, MR_VERDICT_RETRY, "more than 100");
    bench_release(&b);
}

static void test_process_unknown_verdict_is_retry_that_says_so(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    bench_start_shell(&b, &mr_worker_process,
                      SHELL_ANSWERS("{\\\"delivery\\\":\\\"$id\\\","
                                    "\\\"verdict\\\":\\\"maybe\\\"}"));
    bench_hand(&b, 1, NULL);
    bench_expect(&b, MR_VERDICT_RETRY, "unknown verdict \"maybe\"");
    bench_release(&b);
}

static void test_process_missing_verdict_is_retry_that_says_so(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    bench_start_shell(&b, &mr_worker_process, SHELL_ANSWERS("{\\\"delivery\\\":\\\"$id\\\"}"));
    bench_hand(&b, 1, NULL);
    bench_expect(&b, MR_VERDICT_RETRY, "no verdict");
    bench_release(&b);
}

static void test_process_bad_after_is_retry_that_says_so(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    bench_start_shell(&b, &mr_worker_process,
                      SHELL_ANSWERS("{\\\"delivery\\\":\\\"$id\\\",\\\"verdict\\\":\\\"ok\\\","
                                    "\\\"after\\\":-1}"));
    bench_hand(&b, 1, NULL);
    bench_expect(&b, MR_VERDICT_RETRY, "`after`");
    bench_release(&b);
}

static void test_process_data_that_is_no_json_is_retry(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    bench_start_shell(&b, &mr_worker_process,
                      SHELL_ANSWERS("{\\\"delivery\\\":\\\"$id\\\",\\\"verdict\\\":\\\"ok\\\","
                                    "\\\"data\\\":nope}"));
    bench_hand(&b, 1, NULL);
    bench_expect(&b, MR_VERDICT_RETRY, "`data`");
    bench_release(&b);
}

static void test_process_shell_without_handshake_works(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    b.config.concurrency = 8;
    bench_start_shell(&b, &mr_worker_process,
                      "while read -r line <&3; do\n"
                      "  case $line in *'\"delivery\"'*)\n"
                      "    id=${line#*'\"delivery\":\"'}; id=${id%%'\"'*}\n"
                      "    printf '{\"delivery\":\"%s\",\"verdict\":\"ok\"}\\n' \"$id\" >&3;;\n"
                      "  esac\n"
                      "done\n");
    for (int n = 0; n < 5; n++) {
        bench_hand(&b, 1, NULL);
        bench_expect(&b, MR_VERDICT_OK, NULL);
    }
    assert_int_equal(b.capacity_max, 1); /* it declared nothing */
    bench_release(&b);
}

static void test_process_declared_max_bounds_concurrency(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    b.config.concurrency = 8;
    bench_start_python(&b, "import millrace\nmillrace.run(lambda e, c: None, concurrency=3)\n");
    bench_wait(&b, b.capacity == 3);
    bench_release(&b);
}

static void test_process_configured_concurrency_bounds_declared_max(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    b.config.concurrency = 2;
    bench_start_python(&b, "import millrace\nmillrace.run(lambda e, c: None, concurrency=30)\n");
    bench_wait(&b, b.capacity == 2);
    bench_release(&b);
}

static void test_process_many_in_flight_are_answered_in_any_order(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    b.config.concurrency = 16;
    /* Collects sixteen, then answers them backwards. */
    bench_start_python(&b, "import json, socket\n"
                           "f = socket.socket(fileno=3).makefile('rwb')\n"
                           "f.write(b'{\"millrace\":1,\"max\":16}\\n'); f.flush()\n"
                           "ids = []\n"
                           "for line in f:\n"
                           "    frame = json.loads(line)\n"
                           "    if 'delivery' in frame: ids.append(frame['delivery'])\n"
                           "    if len(ids) == 16:\n"
                           "        for i in reversed(ids):\n"
                           "            f.write(json.dumps({'verdict': 'ok', 'delivery': "
                           "i}).encode() + b'\\n')\n"
                           "        f.flush(); ids = []\n");
    for (int round = 0; round < 3; round++) {
        bench_hand(&b, 16, NULL);
        for (uint64_t k = 0; k < 16; k++) {
            struct mr_handout *h = bench_take(&b);
            assert_int_equal(h->answer.verdict, MR_VERDICT_OK);
            assert_int_equal(h->offset, b.offset - k);
            mr_handout_destroy(h);
        }
    }
    bench_release(&b);
}

static void test_process_many_events_all_come_back_once(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    b.config.concurrency = 32;
    b.config.scale_min = 2;
    b.config.scale_max = 2;
    bench_start_python(&b, "import millrace\nmillrace.run(lambda e, c: None, 32, threads=False)\n");
    static bool seen[6401];
    memset(seen, 0, sizeof(seen));
    bench_wait(&b, b.capacity == 64);
    for (int round = 0; round < 100; round++) {
        bench_hand(&b, 64, NULL);
        for (int k = 0; k < 64; k++) {
            struct mr_handout *h = bench_take(&b);
            assert_int_equal(h->answer.verdict, MR_VERDICT_OK);
            assert_false(seen[h->offset]);
            seen[h->offset] = true;
            mr_handout_destroy(h);
        }
    }
    bench_release(&b);
}

static void test_process_event_of_one_mebibyte_arrives_whole(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    bench_start_python(&b, "import millrace\nmillrace.run(lambda e, c: len(e['data']))\n");
    size_t size = 1024 * 1024;
    char *json = malloc(size + 200);
    size_t n = (size_t)snprintf(
        json, 200, "{\"specversion\":\"1.0\",\"id\":\"e\",\"source\":\"/s\",\"type\":\"t\","
                   "\"data\":\"");
    memset(json + n, 'x', size);
    memcpy(json + n + size, "\"}", 3);
    bench_hand(&b, 1, json);
    free(json);
    struct mr_handout *h = bench_take(&b);
    assert_int_equal(h->answer.verdict, MR_VERDICT_OK);
    assert_string_equal(h->answer.result, "1048576");
    mr_handout_destroy(h);
    bench_release(&b);
}

static void test_process_binary_data_arrives_as_base64(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    bench_start_python(&b,
                       "import millrace\nmillrace.run(lambda e, c: [list(c.data), "
                       "e['data_base64']])\n");
    bench_hand(&b, 1,
               "{\"specversion\":\"1.0\",\"id\":\"e\",\"source\":\"/s\",\"type\":\"t\","
               "\"datacontenttype\":\"image/png\",\"data_base64\":\"AAEC/w==\"}");
    struct mr_handout *h = bench_take(&b);
    assert_string_equal(h->answer.result, "[[0,1,2,255],\"AAEC/w==\"]");
    mr_handout_destroy(h);
    bench_release(&b);
}

static void test_process_raw_data_follows_its_header(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    b.config.concurrency = 4;
    bench_start_python(&b, "import millrace\n"
                           "millrace.run(lambda e, c: [e['id'], 'data' in e, 'data_base64' in e, "
                           "None if c.data is None else list(c.data)], raw=True, concurrency=4, "
                           "threads=False)\n");
    bench_wait(&b, b.capacity == 4);
    struct mr_handout *first = bench_handout(
        &b, "{\"specversion\":\"1.0\",\"id\":\"a\",\"source\":\"/s\",\"type\":\"t\","
            "\"datacontenttype\":\"image/png\",\"data_base64\":\"CgoK\"}");
    struct mr_handout *second = bench_handout(
        &b, "{\"specversion\":\"1.0\",\"id\":\"b\",\"source\":\"/s\",\"type\":\"t\"}");
    struct mr_handout *third = bench_handout(
        &b, "{\"specversion\":\"1.0\",\"id\":\"c\",\"source\":\"/s\",\"type\":\"t\",\"data\":7}");
    first->op.next = &second->op;
    second->op.next = &third->op;
    b.ops->submit(b.target, first);
    static const char *const results[] = {"[\"a\",false,false,[10,10,10]]",
                                          "[\"b\",false,false,null]", "[\"c\",false,false,[55]]"};
    for (int k = 0; k < 3; k++) {
        struct mr_handout *h = bench_take(&b);
        assert_int_equal(h->answer.verdict, MR_VERDICT_OK);
        assert_string_equal(h->answer.result, results[k]);
        mr_handout_destroy(h);
    }
    bench_release(&b);
}

static void test_process_heartbeats_are_passed_on(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    bench_start_python(&b, "import millrace, os\n"
                           "def handle(event, ctx):\n"
                           "    ctx.heartbeat({'done': 1})\n"
                           "    for i in range(50): ctx.heartbeat()\n"
                           "    while not os.path.exists('go'): pass\n"
                           "millrace.run(handle)\n");
    bench_hand(&b, 1, NULL);
    bench_wait(&b, b.beats >= 1);
    bench_file(&b, "go", "");
    bench_expect(&b, MR_VERDICT_OK, NULL);
    assert_true(b.beats <= 5); /* not one for each */
    bench_release(&b);
}

static void test_process_cancel_reaches_a_handler_that_looks(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    b.config.grace_ns = 20 * MR_SECOND;
    bench_start_python(&b, "import millrace\n"
                           "def handle(event, ctx):\n"
                           "    open('begun', 'w').close()\n"
                           "    while not ctx.cancelled: pass\n"
                           "    raise millrace.Retry('gave up')\n"
                           "millrace.run(handle)\n");
    bench_hand(&b, 1, NULL);
    bench_wait(&b, bench_has_file(&b, "begun"));
    b.ops->cancel(b.target, 3, 1, 1);
    bench_expect(&b, MR_VERDICT_RETRY, "gave up");
    assert_int_equal(bench_health(&b).crashes, 0);
    bench_release(&b);
}

static void test_process_cancel_reaches_a_handler_in_a_thread(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    b.config.concurrency = 2;
    b.config.grace_ns = 20 * MR_SECOND;
    bench_start_python(&b, "import millrace\n"
                           "def handle(event, ctx):\n"
                           "    if ctx.delivery == 'sub:1':\n"
                           "        while not ctx.cancelled: pass\n"
                           "        raise millrace.Drop('cancelled')\n"
                           "millrace.run(handle, concurrency=2)\n");
    bench_hand(&b, 2, NULL);
    struct mr_handout *h = bench_take(&b);
    assert_int_equal(h->offset, 2);
    mr_handout_destroy(h);
    b.ops->cancel(b.target, 3, 1, 1);
    bench_expect(&b, MR_VERDICT_DROP, "cancelled");
    bench_release(&b);
}

static void test_process_cancel_of_unknown_is_ignored(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    bench_start_python(&b, "import millrace\nmillrace.run(lambda e, c: None)\n");
    b.ops->cancel(b.target, 3, 99, 1);
    bench_hand(&b, 1, NULL);
    b.ops->cancel(b.target, 3, 1, 7); /* another fence */
    bench_expect(&b, MR_VERDICT_OK, NULL);
    bench_release(&b);
}

static void test_process_cancel_without_answer_kills_after_grace(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    b.config.concurrency = 3;
    b.config.grace_ns = 100 * MR_MS;
    bench_start_python(&b, "import millrace, signal\n"
                           "def handle(event, ctx):\n"
                           "    if ctx.delivery == 'sub:4': return\n"
                           "    open(ctx.delivery, 'w').close()\n"
                           "    signal.pause()\n"
                           "millrace.run(handle, concurrency=3)\n");
    bench_hand(&b, 3, NULL);
    bench_wait(&b, bench_has_file(&b, "sub:1") && bench_has_file(&b, "sub:2") &&
                       bench_has_file(&b, "sub:3"));
    b.ops->cancel(b.target, 3, 2, 1);
    for (int k = 0; k < 3; k++) {
        struct mr_handout *h = bench_take(&b);
        assert_int_equal(h->answer.verdict, MR_VERDICT_CRASH);
        assert_int_equal(h->answer.suspects, 3);
        assert_int_equal(h->answer.exit_signal, SIGKILL);
        assert_non_null(strstr(h->answer.error, "within the grace"));
        mr_handout_destroy(h);
    }
    assert_int_equal(bench_health(&b).crashes, 1);
    bench_hand(&b, 1, NULL); /* a fresh instance goes on */
    bench_expect(&b, MR_VERDICT_OK, NULL);
    bench_release(&b);
}

static void test_process_late_ok_within_grace_counts(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    b.config.grace_ns = 20 * MR_SECOND;
    bench_start_python(&b, "import millrace, os\n"
                           "def handle(event, ctx):\n"
                           "    open('begun', 'w').close()\n"
                           "    while not ctx.cancelled: pass\n"
                           "millrace.run(handle)\n");
    bench_hand(&b, 1, NULL);
    bench_wait(&b, bench_has_file(&b, "begun"));
    b.ops->cancel(b.target, 3, 1, 1);
    bench_expect(&b, MR_VERDICT_OK, NULL);
    bench_release(&b);
}

static void test_process_alone_gets_an_empty_instance(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    b.config.concurrency = 4;
    /* Reports how many run beside it. */
    bench_start_python(&b, "import millrace, os, threading\n"
                           "lock, count = threading.Lock(), [0]\n"
                           "def handle(event, ctx):\n"
                           "    with lock: count[0] += 1\n"
                           "    beside = count[0] - 1\n"
                           "    if ctx.delivery in ('sub:1', 'sub:2'):\n"
                           "        while not os.path.exists('go'): pass\n"
                           "    with lock: count[0] -= 1\n"
                           "    return beside\n"
                           "millrace.run(handle, concurrency=4)\n");
    bench_hand(&b, 2, NULL);
    struct mr_handout *alone = bench_handout(&b, NULL);
    alone->alone = true;
    b.ops->submit(b.target, alone);
    bench_wait(&b, b.capacity == 3); /* nothing beside what it has and the waiting one */
    struct mr_handout *beside = bench_handout(&b, NULL);
    b.ops->submit(b.target, beside); /* more than told: it waits or is refused, never beside it */
    bench_file(&b, "go", "");
    for (int k = 0; k < 4; k++) {
        struct mr_handout *h = bench_take(&b);
        assert_int_equal(h->answer.verdict, MR_VERDICT_OK);
        if (h->alone) {
            assert_string_equal(h->answer.result, "0");
        }
        mr_handout_destroy(h);
    }
    bench_wait(&b, b.capacity == 4);
    bench_release(&b);
}

static void test_process_environment_is_the_allow_list_and_env(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    setenv("CANARY_SECRET", "leak", 1);
    setenv("TZ", "Asia/Shanghai", 1);
    bench_start_python(&b, "import millrace, os\n"
                           "millrace.run(lambda e, c: [os.environ.get('CANARY_SECRET'), "
                           "os.environ['TZ'], os.environ['MILLRACE_WORKER'], "
                           "os.environ['MILLRACE_INSTANCE'], 'PYTHONPATH' in os.environ])\n");
    bench_hand(&b, 1, NULL);
    struct mr_handout *h = bench_take(&b);
    assert_string_equal(h->answer.result, "[null,\"Asia/Shanghai\",\"thumbs\",\"thumbs/1\",true]");
    mr_handout_destroy(h);
    unsetenv("CANARY_SECRET");
    unsetenv("TZ");
    bench_release(&b);
}

static void test_process_child_state_is_clean(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    signal(SIGPIPE, SIG_IGN);
    int extra = open("/dev/null", O_RDONLY); /* not close-on-exec: must not get through */
    bench_start_python(
        &b, "import os\n"
            "fds = sorted(os.listdir('/proc/self/fd'), key=int)\n" /* one is listdir's own */
            "status = dict(l.split(':\\t', 1) for l in "
            "open('/proc/self/status').read().splitlines() if ':\\t' in l)\n"
            "import millrace, resource, signal\n"
            "seen = [fds[:4], len(fds), status['SigBlk'].strip(), status['NoNewPrivs'].strip(),\n"
            "        resource.getrlimit(resource.RLIMIT_CORE)[0], os.getsid(0) == os.getpid(),\n"
            "        os.getpgid(0) == os.getpid(), os.getcwd()]\n"
            "millrace.run(lambda e, c: seen)\n");
    bench_hand(&b, 1, NULL);
    struct mr_handout *h = bench_take(&b);
    char wanted[256];
    snprintf(wanted, sizeof(wanted),
             "[[\"0\",\"1\",\"2\",\"3\"],5,\"0000000000000000\",\"1\",0,true,true,\"%s\"]",
             b.folder);
    assert_string_equal(h->answer.result, wanted);
    mr_handout_destroy(h);
    close(extra);
    bench_release(&b);
}

static void test_process_sigpipe_is_default_in_the_child(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    signal(SIGPIPE, SIG_IGN);
    /* /bin/sh does not touch SIGPIPE; SigIgn bit 13 is 0x1000. */
    bench_start_shell(&b, &mr_worker_exec, "grep SigIgn /proc/$$/status | grep -q "
                                           "0000000000000000\n");
    bench_hand(&b, 1, NULL);
    bench_expect(&b, MR_VERDICT_OK, NULL);
    bench_release(&b);
}

static void test_process_parent_descriptor_three_free_is_no_problem(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    int saved[4];
    int count = 0;
    /* Descriptors 3 and up become free, so that the parent's ends land on 3 and its neighbours. */
    for (int fd = 3; fd < 7; fd++) {
        saved[count++] = fcntl(fd, F_DUPFD_CLOEXEC, 100);
        close(fd);
    }
    bench_start_python(&b, "import millrace\nmillrace.run(lambda e, c: None)\n");
    bench_hand(&b, 1, NULL);
    bench_expect(&b, MR_VERDICT_OK, NULL);
    bench_release(&b);
    for (int k = 0; k < 4; k++) {
        if (saved[k] >= 0) {
            dup2(saved[k], 3 + k);
            close(saved[k]);
        }
    }
}

static void test_process_create_without_command_is_invalid(void **state)
{
    (void)state;
    struct bench b;
    struct mr_problem problem = {.text = ""};
    bench_init(&b);
    const char *const none[] = {NULL};
    const char *const empty[] = {"", NULL};
    assert_int_equal(bench_try_create(&b, &mr_worker_process, none, &problem), MR_E_INVALID);
    assert_non_null(strstr(problem.text, "command"));
    assert_int_equal(bench_try_create(&b, &mr_worker_exec, empty, &problem), MR_E_INVALID);
    bench_release(&b);
}

static void test_process_create_with_bad_env_name_is_invalid(void **state)
{
    (void)state;
    struct bench b;
    struct mr_problem problem = {.text = ""};
    bench_init(&b);
    bench_env(&b, "A=B", "x");
    const char *const command[] = {"true", NULL};
    assert_int_equal(bench_try_create(&b, &mr_worker_process, command, &problem), MR_E_INVALID);
    assert_non_null(strstr(problem.text, "A=B"));
    bench_release(&b);
}

static void test_process_destroy_before_start_is_allowed(void **state)
{
    (void)state;
    struct bench b;
    struct mr_problem problem = {.text = ""};
    bench_init(&b);
    const char *const command[] = {"true", NULL};
    assert_int_equal(bench_try_create(&b, &mr_worker_process, command, &problem), MR_OK);
    b.ops->stop(b.target, 0);
    b.ops->destroy(b.target);
    b.target = NULL;
    b.ops->destroy(NULL);
    bench_release(&b);
}

static void test_process_reindex_tells_capacity_under_the_new_index(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    bench_start_python(&b, "import millrace\nmillrace.run(lambda e, c: None)\n");
    bench_wait(&b, b.capacity == 1 && b.target_index == 7);
    b.ops->reindex(b.target, 2);
    bench_wait(&b, b.capacity == 1 && b.target_index == 2);
    bench_release(&b);
}

static void test_process_declared_version_is_in_the_answer(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    bench_start_python(&b, "import millrace\nmillrace.run(lambda e, c: None, version='2.7-rc1')\n");
    bench_hand(&b, 1, NULL);
    struct mr_handout *h = bench_take(&b);
    assert_string_equal(h->answer.version, "2.7-rc1");
    mr_handout_destroy(h);
    bench_release(&b);
}

static void test_process_short_memory_still_answers_once(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    bench_start_python(&b, "import millrace\n"
                           "def handle(event, ctx):\n"
                           "    ctx.emit({'id': 'a', 'source': '/w', 'type': 't', 'data': 'x' * "
                           "9000})\n"
                           "    return {'data': 'y' * 9000}\n"
                           "millrace.run(handle)\n");
    uint32_t other = 0;
    for (uint64_t nth = 1; nth <= 25; nth++) {
        bench_wait(&b, b.capacity == 1);
        struct mr_handout *h = bench_handout(&b, NULL);
        (void)mr_alloc_fail_at(nth, 0);
        b.ops->submit(b.target, h);
        h = bench_take(&b);
        (void)mr_alloc_fail_at(0, 0);
        other += h->answer.verdict != MR_VERDICT_OK;
        assert_true(h->answer.verdict != MR_VERDICT_OK || h->answer.emitted_count == 1);
        assert_true(h->answer.verdict != MR_VERDICT_OK || h->answer.result != NULL);
        mr_handout_destroy(h);
    }
    assert_true(other > 0 && other < 25);
    bench_hand(&b, 1, NULL);
    bench_expect(&b, MR_VERDICT_OK, NULL);
    bench_release(&b);
}

static void test_process_create_without_memory_fails_cleanly(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    int64_t live = mr_alloc_live();
    const char *const command[] = {"true", "x", NULL};
    bool done = false;
    for (uint64_t nth = 1; !done && nth < 100; nth++) {
        struct mr_problem problem = {.text = ""};
        bench_env(&b, "A", "B");
        (void)mr_alloc_fail_at(nth, 0);
        enum mr_status r = bench_try_create(&b, nth % 2 == 0 ? &mr_worker_exec : &mr_worker_process,
                                            command, &problem);
        done = mr_alloc_fail_at(0, 0) < nth;
        assert_int_equal(r, done ? MR_OK : MR_E_NOMEM);
        if (r == MR_OK) {
            b.ops->destroy(b.target);
            b.target = NULL;
        } else {
            assert_true(problem.text[0] != '\0');
        }
        assert_int_equal(mr_alloc_live(), live);
    }
    assert_true(done);
    bench_release(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_process_handler_returns_ok),
        cmocka_unit_test(test_process_handler_sees_event_and_delivery),
        cmocka_unit_test(test_process_verdicts_are_taken_over),
        cmocka_unit_test(test_process_emitted_events_come_with_the_answer),
        cmocka_unit_test(test_process_emitted_nonsense_is_retry_with_the_reason),
        cmocka_unit_test(test_process_too_many_emitted_is_retry),
        cmocka_unit_test(test_process_unknown_verdict_is_retry_that_says_so),
        cmocka_unit_test(test_process_missing_verdict_is_retry_that_says_so),
        cmocka_unit_test(test_process_bad_after_is_retry_that_says_so),
        cmocka_unit_test(test_process_data_that_is_no_json_is_retry),
        cmocka_unit_test(test_process_shell_without_handshake_works),
        cmocka_unit_test(test_process_declared_max_bounds_concurrency),
        cmocka_unit_test(test_process_configured_concurrency_bounds_declared_max),
        cmocka_unit_test(test_process_many_in_flight_are_answered_in_any_order),
        cmocka_unit_test(test_process_many_events_all_come_back_once),
        cmocka_unit_test(test_process_event_of_one_mebibyte_arrives_whole),
        cmocka_unit_test(test_process_binary_data_arrives_as_base64),
        cmocka_unit_test(test_process_raw_data_follows_its_header),
        cmocka_unit_test(test_process_heartbeats_are_passed_on),
        cmocka_unit_test(test_process_cancel_reaches_a_handler_that_looks),
        cmocka_unit_test(test_process_cancel_reaches_a_handler_in_a_thread),
        cmocka_unit_test(test_process_cancel_of_unknown_is_ignored),
        cmocka_unit_test(test_process_cancel_without_answer_kills_after_grace),
        cmocka_unit_test(test_process_late_ok_within_grace_counts),
        cmocka_unit_test(test_process_alone_gets_an_empty_instance),
        cmocka_unit_test(test_process_environment_is_the_allow_list_and_env),
        cmocka_unit_test(test_process_child_state_is_clean),
        cmocka_unit_test(test_process_sigpipe_is_default_in_the_child),
        cmocka_unit_test(test_process_parent_descriptor_three_free_is_no_problem),
        cmocka_unit_test(test_process_create_without_command_is_invalid),
        cmocka_unit_test(test_process_create_with_bad_env_name_is_invalid),
        cmocka_unit_test(test_process_destroy_before_start_is_allowed),
        cmocka_unit_test(test_process_reindex_tells_capacity_under_the_new_index),
        cmocka_unit_test(test_process_declared_version_is_in_the_answer),
        cmocka_unit_test(test_process_short_memory_still_answers_once),
        cmocka_unit_test(test_process_create_without_memory_fails_cleanly),
    };
    return cmocka_run_group_tests(tests, quiet, NULL);
}
