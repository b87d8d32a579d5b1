#include "tests/support/test.h"

#include <errno.h>

#include "core/status.h"

static void test_status_class_of_each_code_is_declared(void **state)
{
    (void)state;
#define CHECK(name, value, class_, text)                                                           \
    assert_int_equal(mr_status_class(name), MR_CLASS_##class_);                                    \
    assert_int_equal(name, value);                                                                 \
    assert_string_equal(mr_status_text(name), text);                                               \
    assert_string_equal(mr_status_name(name), #name);
    MR_STATUS_LIST(CHECK)
#undef CHECK
}

static void test_status_values_are_unique_and_not_positive(void **state)
{
    (void)state;
    static const int values[] = {
#define VALUE(name, value, class_, text) value,
        MR_STATUS_LIST(VALUE)
#undef VALUE
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(values); i++) {
        assert_true(values[i] <= 0);
        for (size_t k = 0; k < i; k++) {
            assert_int_not_equal(values[i], values[k]);
        }
    }
}

static void test_status_unknown_value_is_a_bug(void **state)
{
    (void)state;
    enum mr_status unknown = (enum mr_status)-1234;
    assert_int_equal(mr_status_class(unknown), MR_CLASS_BUG);
    assert_string_equal(mr_status_text(unknown), "unknown status");
    assert_string_equal(mr_status_name(unknown), "MR_E_UNKNOWN");
}

static void test_status_from_errno_maps_what_callers_branch_on(void **state)
{
    (void)state;
    static const struct {
        int error;
        enum mr_status status;
    } cases[] = {
        {0, MR_OK},
        {ENOENT, MR_E_NOT_FOUND},
        {EEXIST, MR_E_EXISTS},
        {EACCES, MR_E_DENIED},
        {EPERM, MR_E_DENIED},
        {EROFS, MR_E_DENIED},
        {ENOMEM, MR_E_NOMEM},
        {ENOSPC, MR_E_DISK_LOW},
        {EDQUOT, MR_E_DISK_LOW},
        {EAGAIN, MR_E_AGAIN},
        {EINVAL, MR_E_INVALID},
        {EIO, MR_E_IO},
        {EBADF, MR_E_IO},
        {99999, MR_E_IO},
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(cases); i++) {
        assert_int_equal(mr_status_from_errno(cases[i].error), cases[i].status);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_status_class_of_each_code_is_declared),
        cmocka_unit_test(test_status_values_are_unique_and_not_positive),
        cmocka_unit_test(test_status_unknown_value_is_a_bug),
        cmocka_unit_test(test_status_from_errno_maps_what_callers_branch_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
