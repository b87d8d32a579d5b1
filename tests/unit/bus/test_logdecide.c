/* The recovery decision, over all combinations, against expectations written from the promises and
 * not from the code. */
#include "../../support/test.h"

#include "bus/logread.h"

struct row {
    enum mr_place place;
    enum mr_later later;
    bool covered;
    enum mr_recovery want;
    const char *why;
};

static const struct row rows[] = {
    /* A whole group in its place is the log, whatever follows. */
    {MR_PLACE_GROUP, MR_LATER_NONE, false, MR_RECOVERY_TAKE, "the last group, whole"},
    {MR_PLACE_GROUP, MR_LATER_NONE, true, MR_RECOVERY_TAKE, "whole and known durable"},
    {MR_PLACE_GROUP, MR_LATER_UNSYNCED, false, MR_RECOVERY_TAKE, "whole, others follow"},
    {MR_PLACE_GROUP, MR_LATER_UNSYNCED, true, MR_RECOVERY_TAKE, "whole, others follow"},
    {MR_PLACE_GROUP, MR_LATER_PROOF, false, MR_RECOVERY_TAKE, "whole, others follow"},
    {MR_PLACE_GROUP, MR_LATER_PROOF, true, MR_RECOVERY_TAKE, "whole, others follow"},
    /* Nothing stands there. */
    {MR_PLACE_EMPTY, MR_LATER_NONE, false, MR_RECOVERY_END, "never written: a clean end"},
    {MR_PLACE_EMPTY, MR_LATER_NONE, true, MR_RECOVERY_ROTTEN,
     "a checkpoint holds it durable, and its bytes are gone: to call that the end would forget "
     "what was acknowledged"},
    {MR_PLACE_EMPTY, MR_LATER_UNSYNCED, false, MR_RECOVERY_CUT_UNSYNCED,
     "the disk wrote a later group first, and neither was promised"},
    {MR_PLACE_EMPTY, MR_LATER_UNSYNCED, true, MR_RECOVERY_ROTTEN, "promised, and gone"},
    {MR_PLACE_EMPTY, MR_LATER_PROOF, false, MR_RECOVERY_ROTTEN,
     "a later group says that this one was durable: it was acknowledged, and is gone"},
    {MR_PLACE_EMPTY, MR_LATER_PROOF, true, MR_RECOVERY_ROTTEN, "twice promised, and gone"},
    /* Something of ours stands there, damaged. */
    {MR_PLACE_DAMAGED, MR_LATER_NONE, false, MR_RECOVERY_CUT_TORN,
     "its write never returned, so nobody was told: cut"},
    {MR_PLACE_DAMAGED, MR_LATER_NONE, true, MR_RECOVERY_ROTTEN,
     "a checkpoint holds it durable: not torn, rotten"},
    {MR_PLACE_DAMAGED, MR_LATER_UNSYNCED, false, MR_RECOVERY_CUT_UNSYNCED,
     "torn, and a later unpromised group got to the disk"},
    {MR_PLACE_DAMAGED, MR_LATER_UNSYNCED, true, MR_RECOVERY_ROTTEN, "promised, and damaged"},
    {MR_PLACE_DAMAGED, MR_LATER_PROOF, false, MR_RECOVERY_ROTTEN,
     "acknowledged, a later group proves it: keep what is good, name the rest lost"},
    {MR_PLACE_DAMAGED, MR_LATER_PROOF, true, MR_RECOVERY_ROTTEN, "twice promised, and damaged"},
};

static void test_decide_every_combination_as_promised(void **state)
{
    (void)state;
    for (size_t i = 0; i < MR_ARRAY_COUNT(rows); i++) {
        enum mr_recovery have = mr_recovery_decide(rows[i].place, rows[i].later, rows[i].covered);
        if (have != rows[i].want) {
            print_error("place %d, later %d, covered %d: %s\n", (int)rows[i].place,
                        (int)rows[i].later, rows[i].covered, rows[i].why);
        }
        assert_int_equal(have, rows[i].want);
    }
}

static void test_decide_table_has_every_combination_once(void **state)
{
    (void)state;
    unsigned seen[MR_PLACE_MAX][MR_LATER_MAX][2] = {{{0}}};
    for (size_t i = 0; i < MR_ARRAY_COUNT(rows); i++) {
        seen[rows[i].place][rows[i].later][rows[i].covered]++;
    }
    for (unsigned p = 0; p < MR_PLACE_MAX; p++) {
        for (unsigned l = 0; l < MR_LATER_MAX; l++) {
            assert_int_equal(seen[p][l][0], 1);
            assert_int_equal(seen[p][l][1], 1);
        }
    }
}

static void test_decide_acknowledged_is_never_cut(void **state)
{
    (void)state;
    for (unsigned p = 0; p < MR_PLACE_MAX; p++) {
        for (unsigned l = 0; l < MR_LATER_MAX; l++) {
            for (unsigned c = 0; c < 2; c++) {
                enum mr_recovery r =
                    mr_recovery_decide((enum mr_place)p, (enum mr_later)l, c != 0);
                bool promised = c != 0 || l == MR_LATER_PROOF;
                bool kept = r == MR_RECOVERY_TAKE || r == MR_RECOVERY_ROTTEN;
                assert_true(kept || !promised);
            }
        }
    }
}

static void test_decide_unpromised_is_never_named_lost(void **state)
{
    (void)state;
    for (unsigned p = 0; p < MR_PLACE_MAX; p++) {
        for (unsigned l = 0; l < MR_LATER_PROOF; l++) {
            assert_int_not_equal(
                mr_recovery_decide((enum mr_place)p, MR_LATER_NONE, false), MR_RECOVERY_ROTTEN);
            assert_int_not_equal(
                mr_recovery_decide((enum mr_place)p, MR_LATER_UNSYNCED, false),
                MR_RECOVERY_ROTTEN);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decide_every_combination_as_promised),
        cmocka_unit_test(test_decide_table_has_every_combination_once),
        cmocka_unit_test(test_decide_acknowledged_is_never_cut),
        cmocka_unit_test(test_decide_unpromised_is_never_named_lost),
    };
    return cmocka_run_group_tests_name("logdecide", tests, NULL, NULL);
}
