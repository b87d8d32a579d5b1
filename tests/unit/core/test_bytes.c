#include "tests/support/test.h"

#include "core/alloc.h"
#include "core/bytes.h"
#include "core/rng.h"

static struct mr_bytes b(const char *text)
{
    return mr_bytes_of(text);
}

static void test_bytes_of_null_is_empty(void **state)
{
    (void)state;
    assert_int_equal(b(NULL).size, 0);
    assert_true(mr_bytes_equal(b(NULL), b("")));
    assert_true(mr_bytes_starts(b(NULL), b(NULL)));
    assert_true(mr_bytes_ends(b(NULL), b("")));
    assert_int_equal(mr_bytes_compare(b(NULL), b("")), 0);
    assert_true(mr_bytes_is_utf8(b(NULL)));
}

static void test_bytes_equal_compares_size_and_content(void **state)
{
    (void)state;
    assert_true(mr_bytes_equal(b("abc"), MR_BYTES_LITERAL("abc")));
    assert_false(mr_bytes_equal(b("abc"), b("abd")));
    assert_false(mr_bytes_equal(b("abc"), b("ab")));
    assert_false(mr_bytes_equal(mr_bytes("a\0b", 3), mr_bytes("a\0c", 3)));
}

static void test_bytes_equal_nocase_folds_ascii_only(void **state)
{
    (void)state;
    assert_true(mr_bytes_equal_nocase(b("Content-TYPE"), b("content-type")));
    assert_false(mr_bytes_equal_nocase(b("a"), b("b")));
    assert_false(mr_bytes_equal_nocase(b("a"), b("aa")));
    assert_false(mr_bytes_equal_nocase(b("["), b("{")));
    assert_false(mr_bytes_equal_nocase(b("@"), b("`")));
    assert_false(mr_bytes_equal_nocase(b("\xC3\x84"), b("\xC3\xA4")));
}

static void test_bytes_starts_and_ends_are_anchored(void **state)
{
    (void)state;
    assert_true(mr_bytes_starts(b("abc"), b("ab")));
    assert_true(mr_bytes_starts(b("abc"), b("abc")));
    assert_false(mr_bytes_starts(b("abc"), b("bc")));
    assert_false(mr_bytes_starts(b("ab"), b("abc")));
    assert_true(mr_bytes_ends(b("abc"), b("bc")));
    assert_false(mr_bytes_ends(b("abc"), b("ab")));
    assert_false(mr_bytes_ends(b("bc"), b("abc")));
}

static void test_bytes_trim_takes_blanks_and_tabs_off_both_ends(void **state)
{
    (void)state;
    assert_true(mr_bytes_equal(mr_bytes_trim(b(" \t a \tb\t ")), b("a \tb")));
    assert_true(mr_bytes_equal(mr_bytes_trim(b("a\r\n")), b("a\r\n")));
    assert_int_equal(mr_bytes_trim(b(" \t")).size, 0);
    assert_int_equal(mr_bytes_trim(b(NULL)).size, 0);
}

static void test_bytes_compare_orders_like_memcmp_then_size(void **state)
{
    (void)state;
    assert_true(mr_bytes_compare(b("a"), b("b")) < 0);
    assert_true(mr_bytes_compare(b("b"), b("a")) > 0);
    assert_true(mr_bytes_compare(b("a"), b("aa")) < 0);
    assert_true(mr_bytes_compare(b("aa"), b("a")) > 0);
    assert_true(mr_bytes_compare(b("\x7F"), b("\x80")) < 0);
    assert_int_equal(mr_bytes_compare(b("aa"), b("aa")), 0);
}

static void test_bytes_is_utf8_accepts_well_formed(void **state)
{
    (void)state;
    static const char *const good[] = {
        "plain text that is longer than a word", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80",
        "\xED\x9F\xBF", "\xEE\x80\x80", "\xEF\xBF\xBF", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF",
        "12345678\xC3\xA4", "1234567\xC3\xA4zzzzzzzz",
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(good); i++) {
        assert_true(mr_bytes_is_utf8(b(good[i])));
    }
    assert_true(mr_bytes_is_utf8(mr_bytes("\0", 1)));
}

static void test_bytes_is_utf8_refuses_ill_formed(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "\x80", "\xBF", "\xC0\x80", "\xC1\xBF", "\xC2", "\xC2\x41", "\xE0\x9F\xBF", "\xE0\xA0",
        "\xED\xA0\x80", "\xED\xBF\xBF", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80",
        "\xFF", "\xFE", "\xF0\x90\x80", "12345678\x80", "1234567\xE2\x82", "\xE2\x28\xA1",
        "\xE2\x82\x28", "\xF0\x90\x28\x80",
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(bad); i++) {
        if (mr_bytes_is_utf8(b(bad[i]))) {
            fail_msg("case %zu was accepted", i);
        }
    }
}

/* --- the buffer ---------------------------------------------------------------------------- */

static void test_buf_append_beyond_maximum_changes_nothing(void **state)
{
    (void)state;
    struct mr_buf buf;
    mr_buf_init(&buf, 10);
    assert_int_equal(mr_buf_append_text(&buf, "12345678"), MR_OK);
    assert_int_equal(mr_buf_append_text(&buf, "abc"), MR_E_TOO_BIG);
    assert_true(mr_bytes_equal(mr_buf_bytes(&buf), b("12345678")));
    assert_int_equal(mr_buf_append_text(&buf, "ab"), MR_OK);
    assert_int_equal(mr_buf_append_byte(&buf, 'c'), MR_E_TOO_BIG);
    assert_int_equal(mr_buf_reserve(&buf, SIZE_MAX), MR_E_TOO_BIG);
    assert_int_equal(buf.size, 10);
    mr_buf_release(&buf);
    assert_null(buf.data);
    assert_int_equal(buf.size_max, 10);
}

static void test_buf_append_grows_and_keeps_content(void **state)
{
    (void)state;
    struct mr_buf buf;
    mr_buf_init(&buf, 100000);
    for (unsigned i = 0; i < 100000; i++) {
        assert_int_equal(mr_buf_append_byte(&buf, (uint8_t)(i * 7)), MR_OK);
    }
    for (unsigned i = 0; i < 100000; i++) {
        assert_int_equal(buf.data[i], (uint8_t)(i * 7));
    }
    assert_true(buf.capacity <= 100000);
    mr_buf_clear(&buf);
    assert_int_equal(buf.size, 0);
    assert_non_null(buf.data);
    mr_buf_release(&buf);
    mr_buf_release(NULL);
}

static void test_buf_append_out_of_memory_changes_nothing(void **state)
{
    (void)state;
    struct mr_buf buf;
    mr_buf_init(&buf, 100000);
    assert_int_equal(mr_buf_append_text(&buf, "abc"), MR_OK);
    mr_alloc_fail_at(1, 0);
    enum mr_status r = mr_buf_reserve(&buf, 5000);
    mr_alloc_fail_at(0, 0);
    assert_int_equal(r, MR_E_NOMEM);
    assert_true(mr_bytes_equal(mr_buf_bytes(&buf), b("abc")));
    mr_buf_release(&buf);
}

static void test_buf_append_nothing_is_ok(void **state)
{
    (void)state;
    struct mr_buf buf;
    mr_buf_init(&buf, 0);
    assert_int_equal(mr_buf_append_bytes(&buf, (struct mr_bytes){0}), MR_OK);
    assert_int_equal(mr_buf_append_text(&buf, ""), MR_OK);
    assert_int_equal(buf.size, 0);
    mr_buf_release(&buf);
}

static void test_buf_printf_short_and_long_texts(void **state)
{
    (void)state;
    struct mr_buf buf;
    mr_buf_init(&buf, 4096);
    assert_int_equal(mr_buf_printf(&buf, "%s-%d", "a", 7), MR_OK);
    assert_true(mr_bytes_equal(mr_buf_bytes(&buf), b("a-7")));
    for (int width = 250; width <= 260; width++) {
        mr_buf_clear(&buf);
        assert_int_equal(mr_buf_printf(&buf, "%*d", width, 1), MR_OK);
        assert_int_equal(buf.size, width);
        assert_int_equal(buf.data[width - 1], '1');
        assert_int_equal(buf.data[0], ' ');
    }
    mr_buf_clear(&buf);
    assert_int_equal(mr_buf_printf(&buf, "%5000d", 1), MR_E_TOO_BIG);
    assert_int_equal(buf.size, 0);
    mr_buf_release(&buf);
}

static void test_buf_take_text_hands_over_and_empties(void **state)
{
    (void)state;
    int64_t live = mr_alloc_live();
    struct mr_buf buf;
    mr_buf_init(&buf, 3);
    assert_int_equal(mr_buf_append_text(&buf, "abc"), MR_OK);
    char *text = mr_buf_take_text(&buf);
    assert_string_equal(text, "abc");
    assert_null(buf.data);
    assert_int_equal(buf.size, 0);
    mr_free(text);
    text = mr_buf_take_text(&buf);
    assert_string_equal(text, "");
    mr_free(text);
    assert_int_equal(mr_alloc_live(), live);
}

/* --- JSON strings and base64 --------------------------------------------------------------- */

static void check_json(struct mr_bytes text, const char *wanted)
{
    struct mr_buf buf;
    mr_buf_init(&buf, 4096);
    assert_int_equal(mr_buf_append_json(&buf, text), MR_OK);
    if (!mr_bytes_equal(mr_buf_bytes(&buf), b(wanted))) {
        fail_msg("%.*s instead of %s", (int)buf.size, (char *)buf.data, wanted);
    }
    mr_buf_release(&buf);
}

static void test_buf_append_json_escapes_what_must_be(void **state)
{
    (void)state;
    check_json(b(""), "\"\"");
    check_json((struct mr_bytes){0}, "\"\"");
    check_json(b("plain"), "\"plain\"");
    check_json(b("a\"b\\c/d"), "\"a\\\"b\\\\c/d\"");
    check_json(b("\n\r\t\b\x1F"), "\"\\n\\r\\t\\u0008\\u001f\"");
    check_json(mr_bytes("a\0b", 3), "\"a\\u0000b\"");
    check_json(b("\x7F"), "\"\\u007f\"");
    check_json(b("\xC3\xA4\xF0\x9F\x98\x80"), "\"\xC3\xA4\xF0\x9F\x98\x80\"");
    check_json(b("a\xFFz"), "\"a\xEF\xBF\xBDz\"");
    check_json(b("\xE2\x82"), "\"\xEF\xBF\xBD\xEF\xBF\xBD\"");
}

static void test_buf_append_json_too_big_changes_nothing(void **state)
{
    (void)state;
    for (size_t size_max = 0; size_max < 12; size_max++) {
        struct mr_buf buf;
        mr_buf_init(&buf, size_max);
        assert_int_equal(mr_buf_append_json(&buf, b("ab\x01" "cd")), MR_E_TOO_BIG);
        assert_int_equal(buf.size, 0);
        mr_buf_release(&buf);
    }
}

static const struct {
    const char *plain;
    const char *text;
} base64_cases[] = {
    {"", ""},         {"f", "Zg=="},         {"fo", "Zm8="},
    {"foo", "Zm9v"},  {"foob", "Zm9vYg=="},  {"fooba", "Zm9vYmE="},
    {"foobar", "Zm9vYmFy"}, {"\xFB\xFF\xBF", "+/+/"},
};

static void test_buf_base64_vectors_agree_both_ways(void **state)
{
    (void)state;
    for (size_t i = 0; i < MR_ARRAY_COUNT(base64_cases); i++) {
        struct mr_buf buf;
        mr_buf_init(&buf, strlen(base64_cases[i].text));
        assert_int_equal(mr_buf_append_base64(&buf, b(base64_cases[i].plain)), MR_OK);
        assert_true(mr_bytes_equal(mr_buf_bytes(&buf), b(base64_cases[i].text)));
        mr_buf_release(&buf);
        /* The maximum is the exact size: padding needs no room. */
        mr_buf_init(&buf, strlen(base64_cases[i].plain));
        assert_int_equal(mr_buf_append_unbase64(&buf, b(base64_cases[i].text)), MR_OK);
        assert_true(mr_bytes_equal(mr_buf_bytes(&buf), b(base64_cases[i].plain)));
        mr_buf_release(&buf);
    }
}

static void test_buf_append_unbase64_bad_text_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "Z", "Zg", "Zg=", "Zg===", "====", "=", "A===", "Zg==Zg==", "Zm9v\n", " Zm9", "Zm9-",
        "Zm9_", "Zm=v", "Z=9v", "Zm9vYg==Zm9v", "Zm\xC3\xA4",
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(bad); i++) {
        struct mr_buf buf;
        mr_buf_init(&buf, 64);
        assert_int_equal(mr_buf_append_text(&buf, "x"), MR_OK);
        assert_int_equal(mr_buf_append_unbase64(&buf, b(bad[i])), MR_E_INVALID);
        assert_true(mr_bytes_equal(mr_buf_bytes(&buf), b("x")));
        mr_buf_release(&buf);
    }
}

static void test_buf_base64_random_bytes_survive(void **state)
{
    (void)state;
    struct mr_rng rng;
    mr_rng_init(&rng, 64);
    for (size_t size = 0; size < 300; size++) {
        uint8_t data[300];
        for (size_t i = 0; i < size; i++) {
            data[i] = (uint8_t)mr_rng_next(&rng);
        }
        struct mr_buf text;
        struct mr_buf back;
        mr_buf_init(&text, 1024);
        mr_buf_init(&back, size);
        assert_int_equal(mr_buf_append_base64(&text, mr_bytes(data, size)), MR_OK);
        assert_int_equal(mr_buf_append_unbase64(&back, mr_buf_bytes(&text)), MR_OK);
        assert_true(mr_bytes_equal(mr_buf_bytes(&back), mr_bytes(data, size)));
        mr_buf_release(&text);
        mr_buf_release(&back);
    }
}

/* --- integers ------------------------------------------------------------------------------ */

static void test_put_and_get_are_little_endian(void **state)
{
    (void)state;
    uint8_t at[9];
    memset(at, 0xEE, sizeof(at));
    mr_put_u64(at, 0x0102030405060708ull);
    static const uint8_t wanted[] = {8, 7, 6, 5, 4, 3, 2, 1, 0xEE};
    assert_memory_equal(at, wanted, sizeof(wanted));
    assert_int_equal(mr_get_u64(at), 0x0102030405060708ull);
    assert_int_equal(mr_get_u32(at), 0x05060708u);
    assert_int_equal(mr_get_u16(at + 1), 0x0607u);
    mr_put_u32(at + 1, 0xFFFFFFFFu);
    mr_put_u16(at, 0x8001u);
    assert_int_equal(mr_get_u16(at), 0x8001u);
    mr_put_u64(at, UINT64_MAX);
    assert_true(mr_get_u64(at) == UINT64_MAX);
}

static void test_round_up_to_powers_of_two(void **state)
{
    (void)state;
    assert_int_equal(mr_round_up(0, 4096), 0);
    assert_int_equal(mr_round_up(1, 4096), 4096);
    assert_int_equal(mr_round_up(4096, 4096), 4096);
    assert_int_equal(mr_round_up(4097, 4096), 8192);
}

static void test_parse_u64_takes_all_or_nothing(void **state)
{
    (void)state;
    uint64_t value = 99;
    assert_true(mr_parse_u64(b("0"), &value));
    assert_int_equal(value, 0);
    assert_true(mr_parse_u64(b("007"), &value));
    assert_int_equal(value, 7);
    assert_true(mr_parse_u64(b("18446744073709551615"), &value));
    assert_true(value == UINT64_MAX);
    static const char *const bad[] = {"",   "-1", "+1", " 1", "1 ", "1.0", "0x10",
                                      "18446744073709551616", "99999999999999999999", "1a"};
    value = 99;
    for (size_t i = 0; i < MR_ARRAY_COUNT(bad); i++) {
        assert_false(mr_parse_u64(b(bad[i]), &value));
        assert_int_equal(value, 99);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_of_null_is_empty),
        cmocka_unit_test(test_bytes_equal_compares_size_and_content),
        cmocka_unit_test(test_bytes_equal_nocase_folds_ascii_only),
        cmocka_unit_test(test_bytes_starts_and_ends_are_anchored),
        cmocka_unit_test(test_bytes_trim_takes_blanks_and_tabs_off_both_ends),
        cmocka_unit_test(test_bytes_compare_orders_like_memcmp_then_size),
        cmocka_unit_test(test_bytes_is_utf8_accepts_well_formed),
        cmocka_unit_test(test_bytes_is_utf8_refuses_ill_formed),
        cmocka_unit_test(test_buf_append_beyond_maximum_changes_nothing),
        cmocka_unit_test(test_buf_append_grows_and_keeps_content),
        cmocka_unit_test(test_buf_append_out_of_memory_changes_nothing),
        cmocka_unit_test(test_buf_append_nothing_is_ok),
        cmocka_unit_test(test_buf_printf_short_and_long_texts),
        cmocka_unit_test(test_buf_take_text_hands_over_and_empties),
        cmocka_unit_test(test_buf_append_json_escapes_what_must_be),
        cmocka_unit_test(test_buf_append_json_too_big_changes_nothing),
        cmocka_unit_test(test_buf_base64_vectors_agree_both_ways),
        cmocka_unit_test(test_buf_append_unbase64_bad_text_is_refused),
        cmocka_unit_test(test_buf_base64_random_bytes_survive),
        cmocka_unit_test(test_put_and_get_are_little_endian),
        cmocka_unit_test(test_round_up_to_powers_of_two),
        cmocka_unit_test(test_parse_u64_takes_all_or_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
