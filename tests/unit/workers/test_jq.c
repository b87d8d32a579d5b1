/* Helper processes that run jq, and the pool of them. */
#include "tests/support/test.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "core/limits.h"
#include "core/logger.h"
#include "core/rng.h"
#include "schemas/json_format.h"
#include "workers/jq/internal.h"
#include "workers/jq/pool.h"

#define TIMEOUT_NS (100 * MR_MS)
#define WAIT_SECONDS 60
#define LOOP "def f: f; f"
#define EVENT "{\"specversion\":\"1.0\",\"id\":\"7\",\"source\":\"/s\",\"type\":\"t\",\"n\":5}"

static int check_available(void **state)
{
    struct mr_problem problem = {.text = ""};
    (void)state;
    mr_logger_set_fd(-1);
    return mr_jq_check(".", &problem) == MR_OK ? 0 : -1;
}

/* --- checking --------------------------------------------------------------------------------- */

static void test_check_says_what_is_wrong_and_where(void **state)
{
    (void)state;
    static const struct {
        const char *program;
        const char *reason;
    } cases[] = {
        {".a |\n\n;", "syntax error, unexpected ';' in line 3"},
        {"nothing", "nothing/0 is not defined in line 1"},
        {"import \"a\" as a; .", "there are no modules"},
        {"include \"a\"; .", "there are no modules"},
        {"$__prog_args", "$__prog_args is not defined in line 1"},
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(cases); i++) {
        struct mr_problem problem = {.text = ""};
        enum mr_status r = mr_jq_check(cases[i].program, &problem);
        if (r != MR_E_INVALID || strstr(problem.text, cases[i].reason) == NULL) {
            fail_msg("%s: %s \"%s\"", cases[i].program, mr_status_name(r), problem.text);
        }
    }
}

static void test_check_survives_every_allocation_that_fails(void **state)
{
    (void)state;
    for (uint64_t nth = 1;; nth++) {
        struct mr_problem problem = {.text = ""};
        char text[40];
        (void)snprintf(text, sizeof(text), ". | %d", (int)nth); /* each is new; fits */
        mr_alloc_fail_at(nth, 0);
        enum mr_status r = mr_jq_check(text, &problem);
        mr_alloc_fail_at(0, 0);
        if (r == MR_OK) {
            break;
        }
        assert_int_equal(mr_status_class(r), MR_CLASS_RETRY);
        assert_true(problem.text[0] != '\0');
    }
}

/* --- one helper ------------------------------------------------------------------------------- */

/* Runs @p input through @p program. */
static enum mr_jq_end run(struct mr_jq_helper *h, const char *program, uint64_t timeout_ns,
                          const char *input, char text[512])
{
    struct mr_problem problem = {.text = ""};
    struct mr_bytes output = {NULL, 0};
    struct mr_jq_program *p = mr_jq_program_create(program, timeout_ns);
    assert_non_null(p);
    if (mr_jq_helper_send(h, p, mr_bytes_of(input), &problem) != MR_OK) {
        fail_msg("%s", problem.text);
    }
    enum mr_jq_end end = mr_jq_helper_receive(h, &output, &problem);
    (void)snprintf(text, 512, "%.*s", end == MR_JQ_OUTPUT ? (int)output.size : 511,
                   end == MR_JQ_OUTPUT ? (const char *)output.data : problem.text); /* cut */
    mr_jq_program_unref(p);
    return end;
}

static void test_helper_gives_outputs_and_errors(void **state)
{
    (void)state;
    static const struct {
        const char *program;
        enum mr_jq_end end;
        const char *text;
    } cases[] = {
        {".n += 1", MR_JQ_OUTPUT, "{\"n\":6}"},
        {"{\"\\u0000\": \"\\u00e9\"}", MR_JQ_OUTPUT, "{\"\\u0000\":\"\xc3\xa9\"}"},
        {"empty", MR_JQ_NOTHING, "the program gave no output"},
        {"error(\"so\")", MR_JQ_ERROR, "so"},
        {"error(\"\")", MR_JQ_ERROR, "an error without a message"},
        {"error({a: 1})", MR_JQ_ERROR, "{\"a\":1}"},
        {".n", MR_JQ_ERROR, "the output is no object but: number"},
        {"., .", MR_JQ_ERROR, "there is more than one output"},
        {"., error(\"late\")", MR_JQ_ERROR, "late"},
        {"halt", MR_JQ_ERROR, "the program halted"},
        {"., halt", MR_JQ_ERROR, "the program halted"},
        {"\"bye\" | halt_error", MR_JQ_ERROR, "bye"},
        {"{a: env, b: $ENV, c: input_filename, d: input_line_number, e: [inputs]}", MR_JQ_OUTPUT,
         "{\"a\":{},\"b\":{},\"c\":null,\"d\":0,\"e\":[]}"},
        {"input", MR_JQ_ERROR, "break"},
        {"{a: get_search_list}", MR_JQ_OUTPUT, "{\"a\":[]}"},
        {"\"a\" | modulemeta", MR_JQ_ERROR, "module not found"},
        {"debug | stderr", MR_JQ_OUTPUT, "{\"n\":5}"},
    };
    struct mr_jq_helper *h = mr_jq_helper_create(NULL);
    assert_non_null(h);
    for (size_t round = 0; round < 2; round++) {
        for (size_t i = 0; i < MR_ARRAY_COUNT(cases); i++) {
            char text[512];
            enum mr_jq_end end = run(h, cases[i].program, TIMEOUT_NS, "{\"n\":5}", text);
            if (end != cases[i].end || strncmp(text, cases[i].text, strlen(cases[i].text)) != 0) {
                fail_msg("%s: %d \"%s\"", cases[i].program, (int)end, text);
            }
        }
    }
    mr_jq_helper_destroy(h);
}

static void test_helper_that_is_killed_is_replaced(void **state)
{
    (void)state;
    static const char *const bombs[] = {LOOP, "range(1e12) | empty", "[range(1e9)]",
                                        "def f: 1 + f; f", "reduce range(60) as $i (\"x\"; . + .)"};
    struct mr_jq_helper *h = mr_jq_helper_create(NULL);
    char text[512];
    for (size_t i = 0; i < MR_ARRAY_COUNT(bombs); i++) {
        enum mr_jq_end end = run(h, bombs[i], TIMEOUT_NS, "{}", text);
        if (end != MR_JQ_TIME && end != MR_JQ_DEATH) {
            fail_msg("%s: %d \"%s\"", bombs[i], (int)end, text);
        }
        assert_int_equal(run(h, ".", TIMEOUT_NS, "{\"a\":1}", text), MR_JQ_OUTPUT);
        assert_string_equal(text, "{\"a\":1}");
    }
    assert_int_equal(run(h, LOOP, 20 * MR_MS, "{}", text), MR_JQ_TIME);
    assert_string_equal(text, "the program took more than 20 ms of processor time");
    mr_jq_helper_destroy(h);
}

static void test_helper_keeps_more_programs_than_it_has_places_for(void **state)
{
    (void)state;
    struct mr_jq_helper *h = mr_jq_helper_create(NULL);
    struct mr_jq_program *programs[MR__JQ_SLOTS + 6];
    struct mr_problem problem = {.text = ""};
    for (size_t i = 0; i < MR_ARRAY_COUNT(programs); i++) {
        char text[40];
        (void)snprintf(text, sizeof(text), "{n: %d}", (int)i); /* fits */
        programs[i] = mr_jq_program_create(text, TIMEOUT_NS);
    }
    for (size_t i = 0; i < MR_ARRAY_COUNT(programs) + 8; i++) {
        size_t n = i % MR_ARRAY_COUNT(programs);
        char wanted[40];
        struct mr_bytes output;
        (void)snprintf(wanted, sizeof(wanted), "{\"n\":%d}", (int)n); /* fits */
        assert_int_equal(mr_jq_helper_send(h, programs[n], mr_bytes_of("{}"), &problem), MR_OK);
        assert_int_equal(mr_jq_helper_receive(h, &output, &problem), MR_JQ_OUTPUT);
        assert_int_equal(output.size, strlen(wanted));
        assert_memory_equal(output.data, wanted, output.size);
    }
    for (size_t i = 0; i < MR_ARRAY_COUNT(programs); i++) {
        mr_jq_program_unref(programs[i]);
    }
    mr_jq_helper_destroy(h);
}

/* More than fits the socket, in both directions at once. */
static void test_helper_answers_large_events_in_a_row(void **state)
{
    (void)state;
    const size_t size = 600u * MR_KIB;
    struct mr_problem problem = {.text = ""};
    struct mr_jq_helper *h = mr_jq_helper_create(NULL);
    struct mr_jq_program *p = mr_jq_program_create(".n += 1", 10 * MR_SECOND);
    char *input = mr_alloc(size + 64);
    for (int i = 0; i < 8; i++) {
        int n = snprintf(input, 64, "{\"n\":%d,\"a\":\"", i);
        memset(input + n, 'x', size);
        memcpy(input + n + size, "\"}", 3);
        assert_int_equal(mr_jq_helper_send(h, p, mr_bytes_of(input), &problem), MR_OK);
    }
    for (int i = 0; i < 8; i++) {
        char wanted[40];
        struct mr_bytes output;
        int n = snprintf(wanted, sizeof(wanted), "{\"n\":%d,\"a\":\"", i + 1);
        assert_int_equal(mr_jq_helper_receive(h, &output, &problem), MR_JQ_OUTPUT);
        assert_int_equal(output.size, (size_t)n + size + 2);
        assert_memory_equal(output.data, wanted, (size_t)n);
    }
    mr_free(input);
    mr_jq_program_unref(p);
    mr_jq_helper_destroy(h);
}

/* --- what a helper may answer ----------------------------------------------------------------- */

/* A process that answers @p bytes whatever it is sent, then ends, or stays. */
static int impostor(struct mr_jq_helper *h, const void *bytes, size_t size, bool stays)
{
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        char ignored[256];
        close(ends[1]);
        ssize_t n = read(ends[0], ignored, sizeof(ignored));
        n = write(ends[0], bytes, size);
        while (stays && (n = read(ends[0], ignored, sizeof(ignored))) > 0) {
        }
        _exit(0);
    }
    close(ends[0]);
    assert_int_equal(fcntl(ends[1], F_SETFL, O_NONBLOCK), 0);
    mr__jq_helper_adopt(h, pid, ends[1]);
    return pid;
}

static void test_nonsense_from_a_helper_is_an_error(void **state)
{
    (void)state;
    struct mr_rng rng;
    mr_rng_init(&rng, 1);
    struct mr_jq_helper *h = mr_jq_helper_create(NULL);
    struct mr_jq_program *p = mr_jq_program_create(".", 10 * MR_MS);
    for (uint32_t i = 0; i < 200; i++) {
        uint32_t words[16];
        size_t size = mr_rng_below(&rng, sizeof(words) + 1);
        for (size_t w = 0; w < MR_ARRAY_COUNT(words); w++) {
            words[w] = (uint32_t)mr_rng_below(&rng, i % 2 == 0 ? 6 : UINT32_MAX);
        }
        struct mr_problem problem = {.text = ""};
        struct mr_bytes output;
        int pid = impostor(h, words, size, false);
        enum mr_status r = mr_jq_helper_send(h, p, mr_bytes_of("{}"), &problem);
        assert_int_equal(r, MR_OK);
        enum mr_jq_end end = mr_jq_helper_receive(h, &output, &problem);
        assert_true(end == MR_JQ_OUTPUT || problem.text[0] != '\0');
        if (end >= MR_JQ_UNAVAILABLE) {
            assert_int_equal(kill(pid, 0), -1); /* and it is reaped */
        }
        mr_jq_helper_end(h);
    }
    /* A huge size is not waited for, nor memory taken for it. */
    const uint32_t huge[] = {MR__JQ_OUTPUT, UINT32_MAX, MR__JQ_OUTPUT, UINT32_MAX};
    struct mr_problem problem = {.text = ""};
    struct mr_bytes output;
    (void)impostor(h, huge, sizeof(huge), true);
    assert_int_equal(mr_jq_helper_send(h, p, mr_bytes_of("{}"), &problem), MR_OK);
    assert_int_equal(mr_jq_helper_receive(h, &output, &problem), MR_JQ_DEATH);
    assert_string_equal(problem.text, "the jq process answered nonsense");
    mr_jq_program_unref(p);
    mr_jq_helper_destroy(h);
}

/* --- the pool --------------------------------------------------------------------------------- */

struct bench {
    struct mr_jq_pool *pool;
    pthread_mutex_t mu;
    pthread_cond_t changed;
    uint32_t done;
    int order[64]; /* numbers of jobs as they were done */
};

struct work {
    struct mr_jq_job job;
    int number;
};

static void take_done(void *context, struct mr_jq_job *first)
{
    struct bench *b = context;
    pthread_mutex_lock(&b->mu);
    for (; first != NULL; first = first->next) {
        struct work *work = first->owner;
        b->order[b->done++] = work->number;
    }
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->mu);
}

static void bench_init(struct bench *b)
{
    *b = (struct bench){.done = 0};
    (void)pthread_mutex_init(&b->mu, NULL);
    (void)pthread_cond_init(&b->changed, NULL);
    b->pool = mr_jq_pool_create(take_done, b);
    assert_non_null(b->pool);
}

static void bench_release(struct bench *b)
{
    mr_jq_pool_destroy(b->pool);
    (void)pthread_cond_destroy(&b->changed);
    (void)pthread_mutex_destroy(&b->mu);
}

static void wait_done(struct bench *b, uint32_t count)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_SECONDS;
    pthread_mutex_lock(&b->mu);
    while (b->done < count) {
        if (pthread_cond_timedwait(&b->changed, &b->mu, &until) != 0) {
            fail_msg("%u of %u were done", b->done, count);
        }
    }
    pthread_mutex_unlock(&b->mu);
}

static struct mr_event *decode(const char *json)
{
    struct mr_event *event = NULL;
    assert_int_equal(mr_json_decode_event(mr_bytes_of(json), MR_EVENT_SIZE_MAX, &event, NULL),
                     MR_OK);
    return event;
}

/* Makes a chain of @p count jobs of one event. */
static void make_jobs(struct work *works, int count, struct mr_jq_program *program,
                      const struct mr_event *event)
{
    for (int i = 0; i < count; i++) {
        works[i] = (struct work){
            .job = {.next = i + 1 < count ? &works[i + 1].job : NULL,
                    .program = program,
                    .record = mr_event_record(event),
                    .size_max = MR_EVENT_SIZE_MAX,
                    .owner = &works[i]},
            .number = i,
        };
    }
}

static void drop_changed(struct work *works, int count)
{
    for (int i = 0; i < count; i++) {
        mr_event_unref(works[i].job.changed);
    }
}

static void test_pool_does_the_jobs_of_a_lane_in_order_also_over_kills(void **state)
{
    (void)state;
    struct bench b;
    struct work works[40];
    bench_init(&b);
    struct mr_event *event = decode(EVENT);
    struct mr_event *bad = decode("{\"specversion\":\"1.0\",\"id\":\"8\",\"source\":\"/s\","
                                  "\"type\":\"bad\"}");
    struct mr_jq_program *p = mr_jq_program_create(
        "if .type == \"bad\" then def f: f; f else .n += 1 end", 20 * MR_MS);
    struct mr_jq_lane *lane = NULL;
    assert_int_equal(mr_jq_lane_get(b.pool, true, "s", &lane), MR_OK);
    make_jobs(works, 40, p, event);
    works[7].job.record = works[8].job.record = works[30].job.record = mr_event_record(bad);
    assert_int_equal(mr_jq_lane_push(lane, &works[0].job, 0), MR_OK);
    wait_done(&b, 40);
    for (int i = 0; i < 40; i++) {
        bool is_bad = i == 7 || i == 8 || i == 30;
        assert_int_equal(b.order[i], i);
        assert_int_equal(works[i].job.status, is_bad ? MR_E_INVALID : MR_OK);
        if (is_bad) {
            assert_non_null(strstr(works[i].job.problem.text, "20 ms of processor time"));
        } else {
            struct mr_bytes n = mr_event_value(mr_event_record(works[i].job.changed), "n");
            assert_true(mr_bytes_equal(n, MR_BYTES_LITERAL("6")));
        }
    }
    drop_changed(works, 40);
    mr_jq_lane_unref(lane);
    mr_jq_program_unref(p);
    mr_event_unref(event);
    mr_event_unref(bad);
    bench_release(&b);
}

static void test_pool_bounds_a_lane_and_leaves_out_what_was_cancelled(void **state)
{
    (void)state;
    struct bench b;
    struct work works[6];
    struct work more[2];
    bench_init(&b);
    struct mr_event *event = decode(EVENT);
    struct mr_jq_program *slow = mr_jq_program_create(LOOP, MR_SECOND);
    struct mr_jq_lane *lane = NULL;
    assert_int_equal(mr_jq_lane_get(b.pool, false, "s", &lane), MR_OK);
    make_jobs(works, 6, slow, event);
    for (int i = 1; i < 6; i++) {
        works[i].job.cancelled = true;
    }
    size_t size = mr_event_record(event).size;
    assert_int_equal(mr_jq_lane_push(lane, &works[0].job, 6 * size), MR_OK);
    make_jobs(more, 2, slow, event);
    more[0].job.cancelled = more[1].job.cancelled = true;
    enum mr_status r = mr_jq_lane_push(lane, &more[0].job, size);
    assert_true(r == MR_E_FULL || b.done == 6);
    wait_done(&b, r == MR_E_FULL ? 6 : 8);
    assert_int_equal(works[0].job.status, MR_E_INVALID);
    for (int i = 1; i < 6; i++) {
        assert_int_equal(works[i].job.status, MR_E_CLOSED);
    }
    drop_changed(works, 6);
    mr_jq_lane_unref(lane);
    mr_jq_program_unref(slow);
    mr_event_unref(event);
    bench_release(&b);
}

static void test_pool_that_stops_gives_everything_back(void **state)
{
    (void)state;
    struct bench b;
    struct work works[3][10];
    struct mr_jq_lane *lanes[3];
    bench_init(&b);
    struct mr_event *event = decode(EVENT);
    struct mr_jq_program *slow = mr_jq_program_create(LOOP, 10 * MR_SECOND);
    static const char *const names[] = {"a", "b", "c"};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(mr_jq_lane_get(b.pool, false, names[i], &lanes[i]), MR_OK);
        make_jobs(works[i], 10, slow, event);
        assert_int_equal(mr_jq_lane_push(lanes[i], &works[i][0].job, 0), MR_OK);
    }
    mr_jq_pool_stop(b.pool);
    assert_int_equal(b.done, 30);
    struct work late[1];
    make_jobs(late, 1, slow, event);
    assert_int_equal(mr_jq_lane_push(lanes[0], &late[0].job, 0), MR_E_CLOSED);
    for (size_t i = 0; i < 3; i++) {
        for (int k = 0; k < 10; k++) {
            assert_int_equal(mr_status_class(works[i][k].job.status), MR_CLASS_RETRY);
        }
        mr_jq_lane_unref(lanes[i]);
    }
    mr_jq_program_unref(slow);
    mr_event_unref(event);
    bench_release(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_check_says_what_is_wrong_and_where),
        cmocka_unit_test(test_check_survives_every_allocation_that_fails),
        cmocka_unit_test(test_helper_gives_outputs_and_errors),
        cmocka_unit_test(test_helper_that_is_killed_is_replaced),
        cmocka_unit_test(test_helper_keeps_more_programs_than_it_has_places_for),
        cmocka_unit_test(test_helper_answers_large_events_in_a_row),
        cmocka_unit_test(test_nonsense_from_a_helper_is_an_error),
        cmocka_unit_test(test_pool_does_the_jobs_of_a_lane_in_order_also_over_kills),
        cmocka_unit_test(test_pool_bounds_a_lane_and_leaves_out_what_was_cancelled),
        cmocka_unit_test(test_pool_that_stops_gives_everything_back),
    };
    return cmocka_run_group_tests(tests, check_available, NULL);
}
