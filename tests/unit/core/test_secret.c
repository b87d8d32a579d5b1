#include "tests/support/test.h"

#include "core/alloc.h"
#include "core/secret.h"

static void test_secret_use_gives_a_terminated_copy(void **state)
{
    (void)state;
    char original[] = "hunter2";
    struct mr_secret *secret = mr_secret_create(mr_bytes_of(original));
    memset(original, 'x', sizeof(original) - 1);
    struct mr_bytes used = mr_secret_use(secret);
    assert_int_equal(used.size, 7);
    assert_memory_equal(used.data, "hunter2\0", 8);
    mr_secret_destroy(secret);
}

static void test_secret_equal_compares_whole_content(void **state)
{
    (void)state;
    struct mr_secret *secret = mr_secret_create(MR_BYTES_LITERAL("abcabc"));
    static const char *const wrong[] = {"", "a", "abc", "abcab", "abcabd", "Abcabc", "abcabca",
                                        "abcabcabcabc", "bcabca"};
    assert_true(mr_secret_equal(secret, MR_BYTES_LITERAL("abcabc")));
    for (size_t i = 0; i < MR_ARRAY_COUNT(wrong); i++) {
        assert_false(mr_secret_equal(secret, mr_bytes_of(wrong[i])));
    }
    mr_secret_destroy(secret);
}

static void test_secret_empty_equals_only_empty(void **state)
{
    (void)state;
    struct mr_secret *secret = mr_secret_create((struct mr_bytes){0});
    assert_non_null(secret);
    assert_int_equal(mr_secret_use(secret).size, 0);
    assert_true(mr_secret_equal(secret, (struct mr_bytes){0}));
    assert_false(mr_secret_equal(secret, mr_bytes("\0", 1)));
    mr_secret_destroy(secret);
}

static void test_secret_holds_nul_bytes(void **state)
{
    (void)state;
    struct mr_secret *secret = mr_secret_create(mr_bytes("a\0b", 3));
    assert_true(mr_secret_equal(secret, mr_bytes("a\0b", 3)));
    assert_false(mr_secret_equal(secret, mr_bytes("a\0c", 3)));
    mr_secret_destroy(secret);
}

static void test_secret_create_out_of_memory_is_null(void **state)
{
    (void)state;
    int64_t live = mr_alloc_live();
    mr_alloc_fail_at(1, 0);
    struct mr_secret *secret = mr_secret_create(MR_BYTES_LITERAL("x"));
    mr_alloc_fail_at(0, 0);
    assert_null(secret);
    mr_secret_destroy(NULL);
    assert_int_equal(mr_alloc_live(), live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_secret_use_gives_a_terminated_copy),
        cmocka_unit_test(test_secret_equal_compares_whole_content),
        cmocka_unit_test(test_secret_empty_equals_only_empty),
        cmocka_unit_test(test_secret_holds_nul_bytes),
        cmocka_unit_test(test_secret_create_out_of_memory_is_null),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
