/* The map: against one that is an array, while it grows and shrinks. */
#include "../../support/test.h"

#include "bus/map.h"
#include "core/rng.h"

#define KEYS 12000u

static void test_map_is_what_was_done_to_it(void **state)
{
    (void)state;
    static uint64_t is[KEYS + 1]; /* value by key; 0: not there */
    struct mr_map map = {0};
    struct mr_rng rng;
    mr_rng_init(&rng, 7);
    uint64_t count = 0;
    uint64_t moving = 0; /* steps in which some were in the old table */
    for (uint32_t step = 0; step < 400000; step++) {
        /* It fills for a while, then it empties. */
        bool fills = step / 50000 % 2 == 0;
        uint64_t key = 1 + mr_rng_below(&rng, KEYS);
        if (mr_rng_chance(&rng, fills ? 4 : 1, 5)) {
            assert_int_equal(mr_map_reserve(&map, 1), MR_OK);
            assert_true(mr_map_has_room(&map, 1));
            mr_map_set(&map, key, step + 1);
            count += is[key] == 0;
            is[key] = step + 1;
        } else {
            assert_int_equal(mr_map_remove(&map, key), is[key] != 0);
            count -= is[key] != 0;
            is[key] = 0;
            mr_map_shrink(&map);
        }
        moving += map.old != NULL;
        assert_int_equal(map.count, count);
        uint64_t looked = 1 + mr_rng_below(&rng, KEYS);
        uint64_t value = 0;
        assert_int_equal(mr_map_get(&map, looked, &value), is[looked] != 0);
        assert_int_equal(value, is[looked]);
    }
    assert_true(moving > 0);
    for (uint64_t key = 1; key <= KEYS; key++) {
        uint64_t value = 0;
        assert_int_equal(mr_map_get(&map, key, &value), is[key] != 0);
        assert_int_equal(value, is[key]);
    }
    mr_map_release(&map);
}

static void test_map_settled_stands_in_one_table(void **state)
{
    (void)state;
    struct mr_map map = {0};
    for (uint64_t key = 1; key <= 1537; key++) { /* three quarters of 2048, and one */
        assert_int_equal(mr_map_reserve(&map, 1), MR_OK);
        mr_map_set(&map, key, key);
    }
    assert_non_null(map.old);
    assert_int_equal(mr_map_capacity(&map, 0), 2048 + 4096);
    while (!mr_map_settle(&map, 10)) {
    }
    uint64_t found = 0;
    for (uint64_t i = 0; i < map.capacity; i++) {
        found += map.slots[i].key != 0;
    }
    assert_int_equal(found, 1537);
    assert_int_equal(mr_map_capacity(&map, 0), 4096);
    mr_map_release(&map);
}

/* The old table goes back a megabyte at a time, and what is still in it is found meanwhile. */
static void test_map_of_many_keys_is_whole_while_it_moves(void **state)
{
    (void)state;
    enum { MANY = 400000 };
    struct mr_map map = {0};
    uint64_t shorter = 0;
    for (uint64_t key = 1; key <= MANY; key++) {
        assert_int_equal(mr_map_reserve(&map, 1), MR_OK);
        mr_map_set(&map, key, 3 * key);
        shorter += map.old != NULL && map.old_room < map.old_capacity;
        uint64_t other = 1 + key * 7919 % key;
        uint64_t value = 0;
        assert_true(mr_map_get(&map, other, &value));
        assert_int_equal(value, 3 * other);
    }
    assert_true(shorter > 0);
    shorter = 0;
    for (uint64_t key = 1; key <= MANY; key++) {
        assert_true(mr_map_remove(&map, key));
        mr_map_shrink(&map);
        shorter += map.old != NULL && map.old_room < map.old_capacity;
        uint64_t value = 0;
        uint64_t other = key + key * 7919 % (MANY - key + 1);
        assert_int_equal(mr_map_get(&map, other, &value), other > key);
    }
    assert_true(shorter > 0);
    assert_int_equal(map.count, 0);
    mr_map_release(&map);
}

static void test_map_of_nothing_has_no_key(void **state)
{
    (void)state;
    struct mr_map map = {0};
    uint64_t value;
    assert_false(mr_map_get(&map, 1, &value));
    assert_false(mr_map_remove(&map, 1));
    assert_true(mr_map_settle(&map, 1));
    mr_map_shrink(&map);
    mr_map_release(&map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_map_is_what_was_done_to_it),
        cmocka_unit_test(test_map_settled_stands_in_one_table),
        cmocka_unit_test(test_map_of_many_keys_is_whole_while_it_moves),
        cmocka_unit_test(test_map_of_nothing_has_no_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
