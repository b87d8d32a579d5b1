#include "tests/support/test.h"

#include "core/alloc.h"

static void *take(size_t size)
{
    return mr_alloc(size);
}

static void test_alloc_fail_at_hits_the_nth_only(void **state)
{
    (void)state;
    mr_alloc_fail_at(2, 0);
    void *first = take(1);
    void *second = take(1);
    void *third = take(1);
    uint64_t made = mr_alloc_fail_at(0, 0);
    assert_non_null(first);
    assert_null(second);
    assert_non_null(third);
    assert_int_equal(made, 3);
    mr_free(first);
    mr_free(third);
}

static void test_alloc_fail_for_ever_hits_all_later_ones(void **state)
{
    (void)state;
    mr_alloc_fail_at(2, 1);
    void *first = take(1);
    void *second = take(1);
    char *third = mr_strdup("x");
    void *fourth = mr_calloc(1, 1);
    void *fifth = mr_alloc_aligned(64, 64);
    void *grown = mr_realloc(first, 100);
    mr_alloc_fail_at(0, 0);
    assert_non_null(first);
    assert_null(second);
    assert_null(third);
    assert_null(fourth);
    assert_null(fifth);
    assert_null(grown);
    mr_free(first);
    void *again = take(1);
    assert_non_null(again);
    mr_free(again);
}

static void test_alloc_live_counts_blocks(void **state)
{
    (void)state;
    int64_t live = mr_alloc_live();
    void *a = take(10);
    void *c = mr_calloc(3, 5);
    void *d = mr_alloc_aligned(4096, 4096);
    char *s = mr_strdup("text");
    void *r = mr_realloc(NULL, 5);
    assert_int_equal(mr_alloc_live(), live + 5);
    r = mr_realloc(r, 500);
    assert_int_equal(mr_alloc_live(), live + 5);
    mr_free(a);
    mr_free(c);
    mr_free(d);
    mr_free(s);
    mr_free(r);
    mr_free(NULL);
    assert_int_equal(mr_alloc_live(), live);
}

static void test_alloc_failed_realloc_keeps_the_block(void **state)
{
    (void)state;
    char *p = mr_strdup("kept");
    mr_alloc_fail_at(1, 0);
    void *q = mr_realloc(p, 1000);
    mr_alloc_fail_at(0, 0);
    assert_null(q);
    assert_string_equal(p, "kept");
    mr_free(p);
}

static void test_calloc_overflow_is_refused(void **state)
{
    (void)state;
    int64_t live = mr_alloc_live();
    volatile size_t huge = SIZE_MAX / 2;
    assert_null(mr_calloc(huge, 3));
    assert_int_equal(mr_alloc_live(), live);
}

static void test_calloc_clears(void **state)
{
    (void)state;
    uint8_t *p = mr_calloc(100, 3);
    assert_non_null(p);
    for (size_t i = 0; i < 300; i++) {
        assert_int_equal(p[i], 0);
    }
    mr_free(p);
}

static void test_alloc_zero_size_is_a_block(void **state)
{
    (void)state;
    void *p = take(0);
    void *q = mr_calloc(0, 8);
    assert_non_null(p);
    assert_non_null(q);
    p = mr_realloc(p, 0);
    assert_non_null(p);
    mr_free(p);
    mr_free(q);
}

static void test_alloc_aligned_is_aligned(void **state)
{
    (void)state;
    for (size_t alignment = 16; alignment <= 65536; alignment *= 2) {
        void *p = mr_alloc_aligned(alignment, 100);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % alignment, 0);
        mr_free(p);
    }
}

static void test_strndup_terminates_a_part(void **state)
{
    (void)state;
    char *p = mr_strndup("abcdef", 3);
    assert_string_equal(p, "abc");
    mr_free(p);
    p = mr_strndup(NULL, 0);
    assert_string_equal(p, "");
    mr_free(p);
    assert_null(mr_strdup(NULL));
}

static void test_cleanup_frees_and_take_hands_over(void **state)
{
    (void)state;
    int64_t live = mr_alloc_live();
    char *kept = NULL;
    {
        MR_CLEANUP(mr_free_p) char *gone = mr_strdup("gone");
        MR_CLEANUP(mr_free_p) char *taken = mr_strdup("taken");
        assert_non_null(gone);
        kept = MR_TAKE(taken);
        assert_null(taken);
    }
    assert_int_equal(mr_alloc_live(), live + 1);
    assert_string_equal(kept, "taken");
    mr_free(kept);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alloc_fail_at_hits_the_nth_only),
        cmocka_unit_test(test_alloc_fail_for_ever_hits_all_later_ones),
        cmocka_unit_test(test_alloc_live_counts_blocks),
        cmocka_unit_test(test_alloc_failed_realloc_keeps_the_block),
        cmocka_unit_test(test_calloc_overflow_is_refused),
        cmocka_unit_test(test_calloc_clears),
        cmocka_unit_test(test_alloc_zero_size_is_a_block),
        cmocka_unit_test(test_alloc_aligned_is_aligned),
        cmocka_unit_test(test_strndup_terminates_a_part),
        cmocka_unit_test(test_cleanup_frees_and_take_hands_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
