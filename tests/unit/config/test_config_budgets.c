/* The table of budgets: each has its row, and what may be there at once is summed. */
#include "fake_kinds.h"

static struct mr_config config_of(uint64_t state, uint64_t segment, uint64_t cache)
{
    return (struct mr_config){.memory_state = state,
                              .log = {.segment_size = segment, .cache_size = cache}};
}

static void test_each_budget_has_its_row_and_a_bound(void **state)
{
    (void)state;
    char mirror[] = "/mirror";
    struct mr_config config = config_of(256 * MR_MIB, 64 * MR_MIB, 64 * MR_MIB);
    config.log.mirror = mirror;
    struct mr_budget_bound bounds[MR_BUDGET_MAX];
    mr_budgets_bound(&config, 7 * MR_MIB, bounds);
    for (int i = 0; i < MR_BUDGET_MAX; i++) {
        assert_non_null(mr_budgets[i].name);
        assert_non_null(mr_budgets[i].title);
        assert_non_null(mr_budgets[i].from);
        assert_true(bounds[i].mostly > 0);
        assert_true(bounds[i].mostly <= bounds[i].most);
        for (int k = 0; k < i; k++) {
            assert_string_not_equal(mr_budgets[i].name, mr_budgets[k].name);
        }
    }
    assert_int_equal(bounds[MR_BUDGET_STATE].most, 256 * MR_MIB);
    assert_int_equal(bounds[MR_BUDGET_CACHE].most, 64 * MR_MIB);
    assert_int_equal(bounds[MR_BUDGET_GROUPS].most, 128 * MR_MIB);
    assert_int_equal(bounds[MR_BUDGET_CONNECTORS].most, 7 * MR_MIB);
}

static void test_small_segments_bound_what_is_mostly_there(void **state)
{
    (void)state;
    struct mr_config config = config_of(MR_MIB, MR_MIB, 0);
    struct mr_budget_bound bounds[MR_BUDGET_MAX];
    mr_budgets_bound(&config, 0, bounds);
    for (int i = 0; i < MR_BUDGET_MAX; i++) {
        assert_true(bounds[i].mostly <= bounds[i].most);
    }
    assert_int_equal(bounds[MR_BUDGET_MIRROR].most, 0); /* there is none */
}

static void test_sum_is_of_what_there_is_at_once(void **state)
{
    (void)state;
    struct mr_budget_bound bounds[MR_BUDGET_MAX];
    for (int i = 0; i < MR_BUDGET_MAX; i++) {
        bounds[i] = (struct mr_budget_bound){.most = 10, .mostly = 1};
    }
    int starts = 0;
    for (int i = 0; i < MR_BUDGET_MAX; i++) {
        starts += mr_budgets[i].starts;
    }
    assert_int_equal(mr_budgets_sum(bounds).most, 10 * (MR_BUDGET_MAX - starts));
    assert_int_equal(mr_budgets_sum(bounds).mostly, MR_BUDGET_MAX - starts);
    bounds[MR_BUDGET_RECOVERY].most = 1000;
    assert_int_equal(mr_budgets_sum(bounds).most, 10 + 1000);
    bounds[MR_BUDGET_MIRROR].most = 2000; /* before the other, not beside it */
    assert_int_equal(mr_budgets_sum(bounds).most, 10 + 2000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_budget_has_its_row_and_a_bound),
        cmocka_unit_test(test_small_segments_bound_what_is_mostly_there),
        cmocka_unit_test(test_sum_is_of_what_there_is_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
