#include "core/clock.h"
#include "core/limits.h"
#include "schemas/json_format.h"
#include "tests/support/test.h"
#include "workers/meter.h"

static struct mr_handout *answered(uint32_t subscription, uint64_t busy_ns, enum mr_verdict verdict)
{
    struct mr_handout *h = mr_handout_create();
    assert_non_null(h);
    assert_int_equal(mr_json_decode_event(
                         MR_BYTES_LITERAL("{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\","
                                          "\"type\":\"t\",\"data\":1}"),
                         MR_EVENT_SIZE_MAX, &h->event, NULL), MR_OK);
    h->subscription = subscription;
    snprintf(h->name, sizeof(h->name), "sub%u", subscription);
    h->answer.verdict = verdict;
    h->answer.started_wall_ns = verdict == MR_VERDICT_REFUSED ? 0 : 1000;
    h->answer.ended_wall_ns = 1000 + busy_ns;
    return h;
}

static void count(struct mr_meter *meter, uint32_t target, struct mr_handout *h)
{
    mr_meter_count(meter, target, target == 1 ? "one" : "two", h);
    mr_handout_destroy(h);
}

struct seen {
    struct mr_usage rows[8];
    uint32_t count;
};

static void see(void *context, const struct mr_usage *usage)
{
    struct seen *seen = context;
    assert_true(seen->count < 8);
    seen->rows[seen->count++] = *usage;
}

static void test_count_rounds_each_invocation_up(void **state)
{
    (void)state;
    struct mr_meter meter;
    mr_meter_init(&meter);
    count(&meter, 1, answered(3, 0, MR_VERDICT_OK));
    count(&meter, 1, answered(3, 100 * MR_MS, MR_VERDICT_RETRY));
    count(&meter, 1, answered(3, 100 * MR_MS + 1, MR_VERDICT_CRASH));
    count(&meter, 1, answered(3, MR_SECOND, MR_VERDICT_REFUSED));
    struct mr_handout *back = answered(3, 0, MR_VERDICT_OK);
    back->answer.ended_wall_ns = 1; /* the clock was set back */
    count(&meter, 1, back);
    struct seen seen = {.count = 0};
    mr_meter_each(&meter, see, &seen);
    assert_int_equal(seen.count, 1);
    assert_string_equal(seen.rows[0].subscription_name, "sub3");
    assert_string_equal(seen.rows[0].worker_name, "one");
    assert_int_equal(seen.rows[0].invocations, 4);
    assert_int_equal(seen.rows[0].busy_ns, 200 * MR_MS + 1);
    assert_int_equal(seen.rows[0].busy_units, 1 + 1 + 2 + 1);
    assert_true(seen.rows[0].bytes_in > 0);
    assert_int_equal(seen.rows[0].bytes_out, 0);
    mr_meter_release(&meter);
}

static void test_count_keeps_pairs_apart_and_sorted(void **state)
{
    (void)state;
    struct mr_meter meter;
    mr_meter_init(&meter);
    for (uint32_t round = 0; round < 3; round++) {
        for (uint32_t subscription = 9; subscription > 6; subscription--) {
            count(&meter, 2, answered(subscription, 1, MR_VERDICT_OK));
            count(&meter, 1, answered(subscription, 1, MR_VERDICT_OK));
        }
    }
    struct seen seen = {.count = 0};
    mr_meter_each(&meter, see, &seen);
    assert_int_equal(seen.count, 6);
    for (uint32_t i = 0; i < 6; i++) {
        assert_int_equal(seen.rows[i].target, i / 3 + 1);
        assert_int_equal(seen.rows[i].subscription, 7 + i % 3);
        assert_int_equal(seen.rows[i].invocations, 3);
    }
    mr_meter_release(&meter);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_count_rounds_each_invocation_up),
        cmocka_unit_test(test_count_keeps_pairs_apart_and_sorted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
