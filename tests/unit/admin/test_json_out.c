#include "tests/support/test.h"

#include "admin/json_out.h"
#include "schemas/json_format.h"

static void expect(struct mr_json_out *out, const char *text)
{
    assert_int_equal(out->status, MR_OK);
    assert_int_equal(out->depth, 0);
    assert_true(mr_bytes_equal(mr_buf_bytes(&out->buf), mr_bytes_of(text)));
    assert_true(mr_json_is_value(mr_buf_bytes(&out->buf)));
    mr_json_out_release(out);
}

static void test_json_out_object_has_commas_between_members(void **state)
{
    (void)state;
    struct mr_json_out out;
    mr_json_out_init(&out, 4096);
    mr_json_out_object(&out, NULL);
    mr_json_out_u64(&out, "a", 18446744073709551615ull);
    mr_json_out_i64(&out, "b", -5);
    mr_json_out_bool(&out, "c", true);
    mr_json_out_null(&out, "d");
    mr_json_out_text(&out, "e", NULL);
    mr_json_out_end(&out);
    expect(&out, "{\"a\":18446744073709551615,\"b\":-5,\"c\":true,\"d\":null,\"e\":null}");
}

static void test_json_out_arrays_nest(void **state)
{
    (void)state;
    struct mr_json_out out;
    mr_json_out_init(&out, 4096);
    mr_json_out_array(&out, NULL);
    mr_json_out_array(&out, NULL);
    mr_json_out_end(&out);
    mr_json_out_object(&out, NULL);
    mr_json_out_array(&out, "x");
    mr_json_out_u64(&out, NULL, 1);
    mr_json_out_u64(&out, NULL, 2);
    mr_json_out_end(&out);
    mr_json_out_end(&out);
    mr_json_out_end(&out);
    expect(&out, "[[],{\"x\":[1,2]}]");
}

static void test_json_out_text_is_escaped(void **state)
{
    (void)state;
    struct mr_json_out out;
    mr_json_out_init(&out, 4096);
    mr_json_out_object(&out, NULL);
    mr_json_out_text(&out, "q\"", "a\"b\\c\n\x01\xff");
    mr_json_out_end(&out);
    assert_true(mr_json_is_value(mr_buf_bytes(&out.buf)));
    assert_true(mr_bytes_starts(mr_buf_bytes(&out.buf),
                                MR_BYTES_LITERAL("{\"q\\\"\":\"a\\\"b\\\\c\\n\\u0001")));
    mr_json_out_release(&out);
}

static void test_json_out_empty_slice_becomes_null_where_asked(void **state)
{
    (void)state;
    struct mr_json_out out;
    struct mr_bytes none = {0};
    mr_json_out_init(&out, 4096);
    mr_json_out_array(&out, NULL);
    mr_json_out_bytes(&out, NULL, none);
    mr_json_out_bytes_or_null(&out, NULL, none);
    mr_json_out_bytes_or_null(&out, NULL, mr_bytes_of("x"));
    mr_json_out_end(&out);
    expect(&out, "[\"\",null,\"x\"]");
}

static void test_json_out_time_zero_is_null(void **state)
{
    (void)state;
    struct mr_json_out out;
    mr_json_out_init(&out, 4096);
    mr_json_out_array(&out, NULL);
    mr_json_out_time(&out, NULL, 0);
    mr_json_out_time(&out, NULL, 1500000000ull);
    mr_json_out_seconds(&out, NULL, 1500000000ull);
    mr_json_out_end(&out);
    expect(&out, "[null,\"1970-01-01T00:00:01.500Z\",1.500]");
}

static void test_json_out_too_big_sticks(void **state)
{
    (void)state;
    struct mr_json_out out;
    mr_json_out_init(&out, 16);
    mr_json_out_object(&out, NULL);
    mr_json_out_text(&out, "a", "0123456789012345");
    assert_int_equal(out.status, MR_E_TOO_BIG);
    size_t size = out.buf.size;
    mr_json_out_u64(&out, "b", 1);
    mr_json_out_end(&out);
    assert_int_equal(out.status, MR_E_TOO_BIG);
    assert_int_equal(out.buf.size, size);
    mr_json_out_release(&out);
}

static void test_json_out_lines_stand_between_values(void **state)
{
    (void)state;
    struct mr_json_out out;
    mr_json_out_init(&out, 64);
    mr_json_out_u64(&out, NULL, 1);
    mr_json_out_line(&out);
    mr_json_out_u64(&out, NULL, 2);
    assert_true(mr_bytes_equal(mr_buf_bytes(&out.buf), mr_bytes_of("1\n2")));
    mr_json_out_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_out_object_has_commas_between_members),
        cmocka_unit_test(test_json_out_arrays_nest),
        cmocka_unit_test(test_json_out_text_is_escaped),
        cmocka_unit_test(test_json_out_empty_slice_becomes_null_where_asked),
        cmocka_unit_test(test_json_out_time_zero_is_null),
        cmocka_unit_test(test_json_out_too_big_sticks),
        cmocka_unit_test(test_json_out_lines_stand_between_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
