#include "tests/support/test.h"
#include "workers/adaptive.h"

#define MS 1000000ull

/* A round: all that may be with the target at once are handed out, and answered 10 ms later; those
 * beyond @p bears are refused, or take @p slow_ns. */
static uint64_t play_round(struct mr_adaptive *a, uint64_t *now_ns, uint32_t slots, uint32_t bears,
                           uint64_t slow_ns)
{
    uint32_t given = mr_adaptive_slots(a, slots);
    uint32_t refused = 0;
    uint64_t start_ns = *now_ns;
    for (uint32_t i = 0; i < given; i++) {
        struct mr_handout h = {.timeout_ns = 1000 * MS};
        bool beyond = i >= bears;
        h.answer.verdict = beyond && slow_ns == 0 ? MR_VERDICT_REFUSED : MR_VERDICT_OK;
        h.answer.started_wall_ns = 1 + start_ns;
        *now_ns = start_ns + (beyond && slow_ns > 0 ? slow_ns : 10 * MS);
        h.answer.ended_wall_ns = 1 + *now_ns;
        refused += beyond;
        (void)mr_adaptive_answer(a, *now_ns, &h, given, slots);
    }
    return refused;
}

static void test_off_it_gets_all(void **state)
{
    (void)state;
    struct mr_adaptive a;
    mr_adaptive_init(&a, 0, 0);
    struct mr_handout h = {.answer = {.verdict = MR_VERDICT_REFUSED}};
    assert_false(mr_adaptive_answer(&a, 1000, &h, 64, 64));
    assert_int_equal(mr_adaptive_slots(&a, 64), 64);
    assert_int_equal(mr_adaptive_slots(&a, 0), 0);
}

static void test_it_doubles_until_it_has_all(void **state)
{
    (void)state;
    struct mr_adaptive a;
    uint64_t now_ns = 1000 * MS;
    mr_adaptive_init(&a, 1, 0);
    for (uint32_t n = 1; n <= 64; n *= 2) {
        assert_int_equal(mr_adaptive_slots(&a, 64), n);
        (void)play_round(&a, &now_ns, 64, 64, 0);
    }
    assert_int_equal(mr_adaptive_slots(&a, 64), 64);
    assert_int_equal(mr_adaptive_slots(&a, 0), 0);
    assert_int_equal(mr_adaptive_slots(&a, 10), 10);
}

static void test_a_batch_is_one_answer(void **state)
{
    (void)state;
    struct mr_adaptive a;
    mr_adaptive_init(&a, 2, 0);
    struct mr_handout h = {.batch_count = 100, .answer = {.verdict = MR_VERDICT_OK}};
    for (int i = 0; i < 100; i++) {
        (void)mr_adaptive_answer(&a, 1000, &h, 2, 64);
    }
    assert_in_range(mr_adaptive_slots(&a, 64), 2, 3);
}

static void test_idle_answers_teach_nothing(void **state)
{
    (void)state;
    struct mr_adaptive a;
    mr_adaptive_init(&a, 4, 0);
    struct mr_handout h = {.answer = {.verdict = MR_VERDICT_OK}};
    for (int i = 0; i < 100; i++) {
        assert_false(mr_adaptive_answer(&a, 1000, &h, 1, 64));
    }
    assert_int_equal(mr_adaptive_slots(&a, 64), 4);
}

static void settles(uint64_t latency_ns, uint64_t slow_ns)
{
    struct mr_adaptive a;
    uint64_t now_ns = 1000 * MS;
    uint64_t given = 0;
    uint64_t beyond = 0;
    mr_adaptive_init(&a, 1, latency_ns);
    for (int i = 0; i < 40; i++) { /* finds it */
        (void)play_round(&a, &now_ns, 64, 20, slow_ns);
    }
    for (int i = 0; i < 1000; i++) { /* and stays about there */
        uint32_t slots = mr_adaptive_slots(&a, 64);
        assert_in_range(slots, 14, 21);
        given += slots;
        beyond += play_round(&a, &now_ns, 64, 20, slow_ns);
    }
    assert_true(given > 1000ull * 16);     /* of 20 */
    assert_true(beyond * 50 < given);      /* one delivery in fifty, at most, is one too many */
    for (int i = 0; i < 100; i++) { /* the target bears more again */
        (void)play_round(&a, &now_ns, 64, 64, slow_ns);
    }
    assert_int_equal(mr_adaptive_slots(&a, 64), 64);
}

static void test_it_settles_at_what_the_target_bears(void **state)
{
    (void)state;
    settles(0, 0);
}

static void test_slow_answers_tell_of_overload(void **state)
{
    (void)state;
    settles(100 * MS, 200 * MS);
    settles(0, 1000 * MS); /* the attempt's whole time */
}

static void test_a_round_of_refusals_is_one_cut(void **state)
{
    (void)state;
    struct mr_adaptive a;
    uint64_t now_ns = 1000 * MS;
    mr_adaptive_init(&a, 2, 0);
    for (int i = 0; i < 10; i++) {
        (void)play_round(&a, &now_ns, 100, 100, 0);
    }
    assert_int_equal(mr_adaptive_slots(&a, 100), 100);
    (void)play_round(&a, &now_ns, 100, 0, 0);
    assert_int_equal(mr_adaptive_slots(&a, 100), 70);
    for (int i = 0; i < 30; i++) {
        (void)play_round(&a, &now_ns, 100, 0, 0);
    }
    assert_int_equal(mr_adaptive_slots(&a, 100), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_off_it_gets_all),
        cmocka_unit_test(test_it_doubles_until_it_has_all),
        cmocka_unit_test(test_a_batch_is_one_answer),
        cmocka_unit_test(test_idle_answers_teach_nothing),
        cmocka_unit_test(test_it_settles_at_what_the_target_bears),
        cmocka_unit_test(test_slow_answers_tell_of_overload),
        cmocka_unit_test(test_a_round_of_refusals_is_one_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
