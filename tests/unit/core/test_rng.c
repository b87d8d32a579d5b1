#include "tests/support/test.h"

#include "core/attrs.h"
#include "core/rng.h"

static void test_rng_known_answers_never_change(void **state)
{
    (void)state;
    /* A simulation is replayed by its seed: these numbers are the same for ever. */
    static const struct {
        uint64_t seed;
        uint64_t first[4];
    } cases[] = {
        {0, {0x99ec5f36cb75f2b4ull, 0xbf6e1f784956452aull, 0x1a5f849d4933e6e0ull,
             0x6aa594f1262d2d2cull}},
        {42, {0x15780b2e0c2ec716ull, 0x6104d9866d113a7eull, 0xae17533239e499a1ull,
              0xecb8ad4703b360a1ull}},
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(cases); i++) {
        struct mr_rng rng;
        mr_rng_init(&rng, cases[i].seed);
        for (size_t k = 0; k < 4; k++) {
            assert_true(mr_rng_next(&rng) == cases[i].first[k]);
        }
    }
}

static void test_rng_same_seed_same_numbers(void **state)
{
    (void)state;
    struct mr_rng a;
    struct mr_rng b;
    struct mr_rng c;
    mr_rng_init(&a, 77);
    mr_rng_init(&b, 77);
    mr_rng_init(&c, 78);
    unsigned different = 0;
    for (unsigned i = 0; i < 1000; i++) {
        uint64_t n = mr_rng_next(&a);
        assert_true(n == mr_rng_next(&b));
        different += n != mr_rng_next(&c);
    }
    assert_true(different > 990);
}

static void test_rng_below_stays_below_and_covers(void **state)
{
    (void)state;
    struct mr_rng rng;
    mr_rng_init(&rng, 5);
    unsigned seen[10] = {0};
    for (unsigned i = 0; i < 10000; i++) {
        uint64_t n = mr_rng_below(&rng, 10);
        assert_true(n < 10);
        seen[n]++;
        assert_int_equal(mr_rng_below(&rng, 1), 0);
    }
    for (size_t i = 0; i < MR_ARRAY_COUNT(seen); i++) {
        assert_in_range(seen[i], 850, 1150);
    }
    assert_true(mr_rng_below(&rng, UINT64_MAX) < UINT64_MAX);
}

static void test_rng_chance_follows_the_fraction(void **state)
{
    (void)state;
    struct mr_rng rng;
    mr_rng_init(&rng, 6);
    unsigned hits = 0;
    for (unsigned i = 0; i < 10000; i++) {
        hits += mr_rng_chance(&rng, 1, 4);
        assert_false(mr_rng_chance(&rng, 0, 7));
        assert_true(mr_rng_chance(&rng, 7, 7));
    }
    assert_in_range(hits, 2300, 2700);
}

static void test_rng_entropy_differs(void **state)
{
    (void)state;
    assert_true(mr_rng_entropy() != mr_rng_entropy());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rng_known_answers_never_change),
        cmocka_unit_test(test_rng_same_seed_same_numbers),
        cmocka_unit_test(test_rng_below_stays_below_and_covers),
        cmocka_unit_test(test_rng_chance_follows_the_fraction),
        cmocka_unit_test(test_rng_entropy_differs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
