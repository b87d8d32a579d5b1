#include "tests/unit/workers/bench.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_process_handler_returns_ok),
    };
    return cmocka_run_group_tests(tests, quiet, NULL);
}
