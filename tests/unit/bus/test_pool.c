/* Pools and maps: what is given back is used again, and memory that nothing is in goes back. */
#include "../../support/test.h"

#include "bus/internal.h"

#define ITEM 48u
#define COUNT 5000u

static void take_all(struct mr__pool *pool, void *items[COUNT])
{
    assert_int_equal(mr__pool_reserve(pool, ITEM, COUNT), MR_OK);
    for (uint32_t i = 0; i < COUNT; i++) {
        items[i] = mr__pool_take(pool);
    }
}

static void test_room_that_was_reserved_is_there(void **state)
{
    (void)state;
    struct mr__pool pool = {0};
    static uint8_t *items[COUNT];
    assert_true(mr__pool_growth(&pool, ITEM, COUNT) >= COUNT * ITEM);
    assert_int_equal(mr__pool_reserve(&pool, ITEM, COUNT), MR_OK);
    assert_int_equal(mr__pool_growth(&pool, ITEM, COUNT), 0);
    for (uint32_t i = 0; i < COUNT; i++) {
        items[i] = mr__pool_take(&pool);
        memset(items[i], (int)(i & 0xff), ITEM);
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        for (uint32_t k = 0; k < ITEM; k++) {
            assert_int_equal(items[i][k], i & 0xff);
        }
        mr__pool_give(&pool, items[i]);
    }
    mr__pool_release(&pool);
}

static void test_slabs_with_nothing_in_them_are_given_back(void **state)
{
    (void)state;
    struct mr__pool pool = {0};
    static void *items[COUNT];
    take_all(&pool, items);
    for (uint32_t i = 0; i < COUNT; i += 2) { /* one in each slab stays: none can go */
        mr__pool_give(&pool, items[i]);
    }
    assert_true(pool.free_count >= COUNT / 2);
    for (uint32_t i = 1; i < COUNT; i += 2) {
        mr__pool_give(&pool, items[i]);
    }
    uint64_t bytes = pool.free_count * ITEM;
    assert_true(bytes < COUNT / 4 * ITEM);
    assert_null(pool.full);
    mr__pool_release(&pool);
    assert_null(pool.slabs);
}

static void test_what_is_reserved_is_not_given_back(void **state)
{
    (void)state;
    struct mr__pool pool = {0};
    static void *items[COUNT];
    take_all(&pool, items);
    assert_int_equal(mr__pool_reserve(&pool, ITEM, COUNT), MR_OK); /* and as many again */
    for (uint32_t i = 0; i < COUNT; i++) {
        mr__pool_give(&pool, items[i]);
        assert_true(pool.free_count >= COUNT);
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_non_null(mr__pool_take(&pool));
    }
    mr__pool_release(&pool);
}

static void test_map_shrinks_when_hardly_anything_is_left(void **state)
{
    (void)state;
    struct mr_map map = {0};
    assert_int_equal(mr_map_reserve(&map, COUNT), MR_OK);
    for (uint64_t key = 1; key <= COUNT; key++) {
        mr_map_set(&map, key * 4096, key);
    }
    uint64_t full = map.capacity;
    mr_map_shrink(&map);
    assert_int_equal(map.capacity, full); /* nothing to give back */
    for (uint64_t key = 1; key <= COUNT; key++) {
        if (key % 1000 != 0) {
            assert_true(mr_map_remove(&map, key * 4096));
            mr_map_shrink(&map); /* so much at a time */
        }
    }
    assert_true(map.capacity < full / 4);
    assert_int_equal(map.count, COUNT / 1000);
    for (uint64_t key = 1; key <= COUNT; key++) {
        uint64_t value = 0;
        assert_int_equal(mr_map_get(&map, key * 4096, &value), key % 1000 == 0);
        assert_int_equal(value, key % 1000 == 0 ? key : 0);
    }
    mr_map_release(&map);
    mr_map_shrink(&map); /* of nothing */
    assert_int_equal(map.capacity, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_room_that_was_reserved_is_there),
        cmocka_unit_test(test_slabs_with_nothing_in_them_are_given_back),
        cmocka_unit_test(test_what_is_reserved_is_not_given_back),
        cmocka_unit_test(test_map_shrinks_when_hardly_anything_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
