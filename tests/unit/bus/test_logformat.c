#include "../../support/test.h"

#include "bus/logformat.h"
#include "core/alloc.h"
#include "core/hash.h"

/* --- segment header ---------------------------------------------------------------------------- */

static struct mr_segment_header sample_segment(void)
{
    return (struct mr_segment_header){
        .number = 0x1122334455667788,
        .size = 3 * MR_MIB,
        .salt = 0xdeadbeefcafef00d,
        .log_id = 42,
        .wall_ns = 1760000000123456789,
    };
}

static void test_segment_header_encoded_decodes_the_same(void **state)
{
    (void)state;
    uint8_t block[MR_LOG_BLOCK];
    struct mr_segment_header in = sample_segment();
    struct mr_segment_header out;
    mr_segment_header_encode(&in, block);
    assert_int_equal(mr_segment_header_decode(block, &out), MR_OK);
    assert_false(out.mended);
    assert_memory_equal(&in, &out, offsetof(struct mr_segment_header, mended));
}

static void test_segment_header_bytes_stand_where_the_layout_says(void **state)
{
    (void)state;
    uint8_t block[MR_LOG_BLOCK];
    struct mr_segment_header in = sample_segment();
    mr_segment_header_encode(&in, block);
    assert_memory_equal(block, "MRSEG001", 8);
    assert_int_equal(mr_get_u32(block + 8), 1);
    assert_int_equal(mr_get_u64(block + 24), in.number);
    assert_int_equal(mr_get_u64(block + 32), in.size);
    assert_int_equal(mr_get_u64(block + 40), in.salt);
    assert_int_equal(mr_get_u64(block + 48), in.log_id);
    assert_int_equal(mr_get_u64(block + 56), in.wall_ns);
    for (size_t i = MR_SEGMENT_HEADER_SIZE; i < MR_LOG_BLOCK; i++) {
        assert_int_equal(block[i], 0);
    }
}

static void test_segment_header_any_bit_flipped_is_made_good(void **state)
{
    (void)state;
    uint8_t block[MR_LOG_BLOCK];
    struct mr_segment_header in = sample_segment();
    mr_segment_header_encode(&in, block);
    for (size_t bit = 0; bit < MR_SEGMENT_HEADER_SIZE * 8; bit++) {
        struct mr_segment_header out = {0};
        block[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(mr_segment_header_decode(block, &out), MR_OK);
        assert_true(out.mended);
        assert_memory_equal(&in, &out, offsetof(struct mr_segment_header, mended));
        block[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static void change_u32(uint8_t *block, size_t at, uint32_t value)
{
    mr_put_u32(block + at, value);
    mr_put_u32(block + 64, mr_crc32c(0, block, 64));
}

static void test_segment_header_of_a_later_version_is_unsupported(void **state)
{
    (void)state;
    uint8_t block[MR_LOG_BLOCK];
    struct mr_segment_header in = sample_segment();
    struct mr_segment_header out;
    mr_segment_header_encode(&in, block);
    change_u32(block, 8, 2);
    assert_int_equal(mr_segment_header_decode(block, &out), MR_E_UNSUPPORTED);
}

static void test_segment_header_incompatible_flag_is_unsupported(void **state)
{
    (void)state;
    uint8_t block[MR_LOG_BLOCK];
    struct mr_segment_header in = sample_segment();
    struct mr_segment_header out;
    mr_segment_header_encode(&in, block);
    change_u32(block, 16, 2);
    assert_int_equal(mr_segment_header_decode(block, &out), MR_E_UNSUPPORTED);
}

static void test_segment_header_of_the_release_before_is_read(void **state)
{
    (void)state;
    uint8_t block[MR_LOG_BLOCK];
    struct mr_segment_header in = sample_segment();
    struct mr_segment_header out;
    mr_segment_header_encode(&in, block);
    change_u32(block, 16, 0);
    assert_int_equal(mr_segment_header_decode(block, &out), MR_OK);
}

static void test_segment_header_compatible_flag_is_read(void **state)
{
    (void)state;
    uint8_t block[MR_LOG_BLOCK];
    struct mr_segment_header in = sample_segment();
    struct mr_segment_header out;
    mr_segment_header_encode(&in, block);
    change_u32(block, 12, 0x80);
    assert_int_equal(mr_segment_header_decode(block, &out), MR_OK);
}

static void test_segment_header_of_zeros_is_refused(void **state)
{
    (void)state;
    uint8_t block[MR_LOG_BLOCK] = {0};
    struct mr_segment_header out;
    assert_int_equal(mr_segment_header_decode(block, &out), MR_E_CORRUPT);
}

/* --- group header --------------------------------------------------------------------------------- */

#define SALT 0x0123456789abcdefull

static struct mr_group_header sample_group(void)
{
    return (struct mr_group_header){
        .salt = SALT,
        .sequence = 7,
        .durable = 6,
        .first_offset = 100,
        .next_offset = 103,
        .wall_ns = 1,
        .mono_ns = 2,
        .boot_id = 3,
        .log_ns = 4,
        .checkpoint = 5,
        .size = 5000,
        .padded = 8192,
        .records = 9,
        .previous_crc = 0xaabbccdd,
        .records_crc = 0x11223344,
        .flags = 1,
    };
}

static void test_group_header_encoded_decodes_the_same(void **state)
{
    (void)state;
    uint8_t at[MR_GROUP_HEADER_SIZE];
    struct mr_group_header in = sample_group();
    struct mr_group_header out;
    mr_group_header_encode(&in, at);
    assert_int_equal(mr_group_header_decode(at, SALT, &out), MR_OK);
    assert_memory_equal(&in, &out, sizeof(in));
    assert_memory_equal(at, "MRGP", 4);
}

static void test_group_header_any_bit_flipped_is_made_good(void **state)
{
    (void)state;
    uint8_t at[MR_GROUP_HEADER_SIZE];
    struct mr_group_header in = sample_group();
    mr_group_header_encode(&in, at);
    for (size_t bit = 0; bit < sizeof(at) * 8; bit++) {
        struct mr_group_header out;
        at[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(mr_group_header_decode(at, SALT, &out), MR_OK);
        assert_true(out.mended);
        out.mended = 0;
        assert_memory_equal(&in, &out, sizeof(in));
        at[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static void test_group_header_any_two_bits_flipped_is_never_good(void **state)
{
    (void)state;
    uint8_t at[MR_GROUP_HEADER_SIZE];
    struct mr_group_header in = sample_group();
    mr_group_header_encode(&in, at);
    for (size_t bit = 0; bit + 1 < sizeof(at) * 8; bit++) {
        size_t other = bit + 1 + bit * 7 % (sizeof(at) * 8 - bit - 1);
        struct mr_group_header out;
        at[bit / 8] ^= (uint8_t)(1u << bit % 8);
        at[other / 8] ^= (uint8_t)(1u << other % 8);
        enum mr_status r = mr_group_header_decode(at, SALT, &out);
        assert_int_not_equal(r, MR_OK);
        bool salt = (bit / 8 >= 8 && bit / 8 < 16) || (other / 8 >= 8 && other / 8 < 16);
        if (!salt) { /* damage of ours */
            assert_int_equal(r, MR_E_CORRUPT);
        }
        at[bit / 8] ^= (uint8_t)(1u << bit % 8);
        at[other / 8] ^= (uint8_t)(1u << other % 8);
    }
}

static void test_group_header_of_another_salt_is_not_found(void **state)
{
    (void)state;
    uint8_t at[MR_GROUP_HEADER_SIZE];
    struct mr_group_header in = sample_group();
    struct mr_group_header out;
    mr_group_header_encode(&in, at);
    assert_int_equal(mr_group_header_decode(at, SALT + 1, &out), MR_E_NOT_FOUND);
}

static void test_group_header_of_zeros_is_not_found(void **state)
{
    (void)state;
    uint8_t at[MR_GROUP_HEADER_SIZE] = {0};
    struct mr_group_header out;
    assert_int_equal(mr_group_header_decode(at, SALT, &out), MR_E_NOT_FOUND);
}

static void check_group_sizes(uint32_t size, uint32_t padded)
{
    uint8_t at[MR_GROUP_HEADER_SIZE];
    struct mr_group_header in = sample_group();
    struct mr_group_header out;
    mr_group_header_encode(&in, at);
    mr_put_u32(at + 80, size);
    mr_put_u32(at + 84, padded);
    mr_put_u32(at + 124, mr_crc32c(0, at, 124));
    assert_int_equal(mr_group_header_decode(at, SALT, &out), MR_E_CORRUPT);
}

static void test_group_header_impossible_sizes_are_refused(void **state)
{
    (void)state;
    check_group_sizes(127, 4096);
    check_group_sizes(4097, 4096);
    check_group_sizes(128, 4095);
    check_group_sizes(128, 0);
    check_group_sizes(128, MR_SEGMENT_SIZE_MAX + MR_LOG_BLOCK);
}

/* --- records ------------------------------------------------------------------------------------------ */

static struct mr_record sample_record(uint8_t kind, struct mr_bytes body)
{
    return (struct mr_record){
        .kind = kind,
        .flags = MR_RECORD_SKIPPABLE,
        .extra = 0x1234,
        .a = 0xaaaaaaaa,
        .b = 0xbbbbbbbb,
        .offset = 0x1111222233334444,
        .c = 0xcccccccccccccccc,
        .d = 0xdddddddddddddddd,
        .body = body,
    };
}

static void test_record_every_kind_and_size_round_trips(void **state)
{
    (void)state;
    uint8_t body[64];
    for (size_t i = 0; i < sizeof(body); i++) {
        body[i] = (uint8_t)(i * 37 + 1);
    }
    for (uint8_t kind = 1; kind < MR_RECORD_MAX; kind++) {
        for (size_t size = 0; size <= sizeof(body); size++) {
            uint8_t at[256];
            memset(at, 0xee, sizeof(at));
            struct mr_record in = sample_record(kind, mr_bytes(body, size));
            struct mr_record out;
            uint32_t head = mr_record_encode(&in, at);
            uint32_t head_read = 0;
            size_t whole = mr_record_size(size);
            assert_int_equal(whole % 8, 0);
            assert_int_equal(mr_record_decode(at, whole, &out, &head_read), MR_OK);
            assert_int_equal(head, head_read);
            assert_int_equal(out.kind, kind);
            assert_int_equal(out.flags, in.flags);
            assert_int_equal(out.extra, in.extra);
            assert_int_equal(out.a, in.a);
            assert_int_equal(out.b, in.b);
            assert_int_equal(out.offset, in.offset);
            assert_int_equal(out.c, in.c);
            assert_int_equal(out.d, in.d);
            assert_true(mr_bytes_equal(out.body, in.body));
            for (size_t i = MR_RECORD_HEADER_SIZE + size; i < whole; i++) {
                assert_int_equal(at[i], 0);
            }
            assert_int_equal(at[whole], 0xee); /* and not a byte more */
        }
    }
}

static void test_record_any_header_bit_flipped_is_made_good(void **state)
{
    (void)state;
    uint8_t at[128] = {0};
    struct mr_record in = sample_record(MR_RECORD_EVENT, MR_BYTES_LITERAL("body"));
    (void)mr_record_encode(&in, at);
    for (size_t bit = 0; bit < MR_RECORD_HEADER_SIZE * 8; bit++) {
        struct mr_record out;
        at[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(mr_record_decode(at, sizeof(at), &out, NULL), MR_OK);
        assert_true(out.mended);
        assert_int_equal(out.offset, in.offset);
        assert_int_equal(out.body.size, in.body.size);
        size_t other = (bit * 5 + 1) % (MR_RECORD_HEADER_SIZE * 8);
        other = other == bit ? bit ^ 1 : other;
        at[other / 8] ^= (uint8_t)(1u << other % 8);
        assert_int_equal(mr_record_decode(at, sizeof(at), &out, NULL), MR_E_CORRUPT);
        at[other / 8] ^= (uint8_t)(1u << other % 8);
        at[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static void test_record_any_body_bit_flipped_is_told_apart(void **state)
{
    (void)state;
    uint8_t at[256] = {0};
    static const char text[] = "the quick brown fox jumps over the lazy dog";
    struct mr_record in = sample_record(MR_RECORD_SETTLE, mr_bytes(text, sizeof(text)));
    (void)mr_record_encode(&in, at);
    for (size_t bit = 0; bit < sizeof(text) * 8; bit++) {
        struct mr_record out = {0};
        at[MR_RECORD_HEADER_SIZE + bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(mr_record_decode(at, sizeof(at), &out, NULL), MR_E_IO);
        assert_int_equal(out.body.size, sizeof(text)); /* so that a reader can go on behind it */
        at[MR_RECORD_HEADER_SIZE + bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static void test_record_cut_at_every_byte_is_corrupt(void **state)
{
    (void)state;
    uint8_t at[256] = {0};
    struct mr_record in = sample_record(MR_RECORD_DEAD, MR_BYTES_LITERAL("twelve bytes"));
    (void)mr_record_encode(&in, at);
    struct mr_record out;
    for (size_t left = 0; left < mr_record_size(12); left++) {
        assert_int_equal(mr_record_decode(at, left, &out, NULL), MR_E_CORRUPT);
    }
    assert_int_equal(mr_record_decode(at, mr_record_size(12), &out, NULL), MR_OK);
}

static void test_record_of_zeros_is_corrupt(void **state)
{
    (void)state;
    uint8_t at[128] = {0};
    struct mr_record out;
    assert_int_equal(mr_record_decode(at, sizeof(at), &out, NULL), MR_E_CORRUPT);
}

static void test_record_body_in_its_place_is_not_copied(void **state)
{
    (void)state;
    uint8_t at[128] = {0};
    memcpy(at + MR_RECORD_HEADER_SIZE, "in place", 8);
    struct mr_record in =
        sample_record(MR_RECORD_MATCH, mr_bytes(at + MR_RECORD_HEADER_SIZE, 8));
    struct mr_record out;
    (void)mr_record_encode(&in, at);
    assert_int_equal(mr_record_decode(at, sizeof(at), &out, NULL), MR_OK);
    assert_memory_equal(out.body.data, "in place", 8);
}

/* --- results -------------------------------------------------------------------------------------------- */

static struct mr_result sample_result(void)
{
    return (struct mr_result){
        .verdict = MR_VERDICT_CRASH,
        .attempts = 3,
        .refusals = 70000,
        .interruptions = 2,
        .exit_code = -1,
        .exit_signal = 11,
        .rss_peak = 1ull << 40,
        .due_ns = 123456789,
        .policy = 987654321,
        .children = 4,
        .alone = true,
        .instance = MR_BYTES_LITERAL("thumbs/3"),
        .version = MR_BYTES_LITERAL("v7"),
        .error = MR_BYTES_LITERAL("killed by signal 11"),
        .stderr_tail = MR_BYTES_LITERAL("Traceback"),
        .reason = MR_BYTES_LITERAL("attempts used up"),
    };
}

static void test_result_encoded_decodes_the_same(void **state)
{
    (void)state;
    struct mr_buf buf;
    mr_buf_init(&buf, 4096);
    struct mr_result in = sample_result();
    assert_int_equal(mr_result_encode(&in, &buf), MR_OK);
    struct mr_result out;
    size_t size = 0;
    assert_int_equal(mr_result_decode(mr_buf_bytes(&buf), &out, &size), MR_OK);
    assert_int_equal(size, buf.size);
    assert_int_equal(out.verdict, in.verdict);
    assert_int_equal(out.attempts, 3);
    assert_int_equal(out.refusals, 70000);
    assert_int_equal(out.interruptions, 2);
    assert_int_equal(out.exit_code, -1);
    assert_int_equal(out.exit_signal, 11);
    assert_int_equal(out.rss_peak, in.rss_peak);
    assert_int_equal(out.due_ns, in.due_ns);
    assert_int_equal(out.policy, in.policy);
    assert_int_equal(out.children, 4);
    assert_true(out.alone);
    assert_true(mr_bytes_equal(out.instance, in.instance));
    assert_true(mr_bytes_equal(out.version, in.version));
    assert_true(mr_bytes_equal(out.error, in.error));
    assert_true(mr_bytes_equal(out.stderr_tail, in.stderr_tail));
    assert_true(mr_bytes_equal(out.reason, in.reason));
    mr_buf_release(&buf);
}

static void test_result_cut_at_every_byte_is_corrupt(void **state)
{
    (void)state;
    struct mr_buf buf;
    mr_buf_init(&buf, 4096);
    struct mr_result in = sample_result();
    assert_int_equal(mr_result_encode(&in, &buf), MR_OK);
    for (size_t size = 0; size < buf.size; size++) {
        /* A copy of exactly that size, so that a sanitizer sees a step too far. */
        uint8_t *copy = mr_alloc(size);
        assert_non_null(copy);
        memcpy(copy, buf.data, size);
        struct mr_result out;
        assert_int_equal(mr_result_decode(mr_bytes(copy, size), &out, NULL), MR_E_CORRUPT);
        mr_free(copy);
    }
    mr_buf_release(&buf);
}

static void test_result_leaves_what_follows_it(void **state)
{
    (void)state;
    struct mr_buf buf;
    mr_buf_init(&buf, 4096);
    struct mr_result in = sample_result();
    assert_int_equal(mr_result_encode(&in, &buf), MR_OK);
    size_t own = buf.size;
    assert_int_equal(mr_buf_append_text(&buf, "the attempts before"), MR_OK);
    struct mr_result out;
    size_t size = 0;
    assert_int_equal(mr_result_decode(mr_buf_bytes(&buf), &out, &size), MR_OK);
    assert_int_equal(size, own);
    mr_buf_release(&buf);
}

/* --- names and positions ------------------------------------------------------------------------------------ */

static void test_names_are_parsed_back(void **state)
{
    (void)state;
    static const uint64_t numbers[] = {0, 1, 0xff, 0x123456789abcdef0, UINT64_MAX};
    for (size_t i = 0; i < MR_ARRAY_COUNT(numbers); i++) {
        char name[MR_LOG_NAME_SIZE];
        uint64_t number = 7;
        mr_segment_name(numbers[i], name);
        assert_true(mr_log_name_parse(name, "seg-", &number));
        assert_int_equal(number, numbers[i]);
        assert_false(mr_log_name_parse(name, "free-", &number));
        mr_free_name(numbers[i], name);
        assert_true(mr_log_name_parse(name, "free-", &number));
        assert_int_equal(number, numbers[i]);
    }
}

static void test_names_of_other_files_are_refused(void **state)
{
    (void)state;
    static const char *const names[] = {"seg-", "seg-1", "seg-000000000000000g",
                                        "seg-00000000000000001", "seg-000000000000000A",
                                        "seg_0000000000000001", "checkpoint-0", "lock", ""};
    for (size_t i = 0; i < MR_ARRAY_COUNT(names); i++) {
        uint64_t number = 7;
        assert_false(mr_log_name_parse(names[i], "seg-", &number));
        assert_int_equal(number, 7);
    }
}

static void test_position_splits_as_it_was_made(void **state)
{
    (void)state;
    uint64_t position = mr_position(12345, MR_SEGMENT_SIZE_MAX - 8);
    assert_int_equal(mr_position_segment(position), 12345);
    assert_int_equal(mr_position_at(position), MR_SEGMENT_SIZE_MAX - 8);
}

static void test_texts_of_unknown_kinds_and_states_are_there(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 256; i++) {
        assert_non_null(mr_record_kind_text((uint8_t)i));
    }
    assert_string_equal(mr_record_kind_text(MR_RECORD_SETTLE), "settle");
    assert_string_equal(mr_record_kind_text(MR_RECORD_REMOVED), "removed");
    assert_string_equal(mr_record_kind_text(200), "unknown");
    assert_string_equal(mr_state_text(MR_STATE_IN_FLIGHT), "in flight");
    assert_string_equal(mr_state_text(MR_STATE_LOST), "lost");
    assert_string_equal(mr_state_text((enum mr_state)99), "none");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_segment_header_encoded_decodes_the_same),
        cmocka_unit_test(test_segment_header_bytes_stand_where_the_layout_says),
        cmocka_unit_test(test_segment_header_any_bit_flipped_is_made_good),
        cmocka_unit_test(test_segment_header_of_a_later_version_is_unsupported),
        cmocka_unit_test(test_segment_header_incompatible_flag_is_unsupported),
        cmocka_unit_test(test_segment_header_of_the_release_before_is_read),
        cmocka_unit_test(test_segment_header_compatible_flag_is_read),
        cmocka_unit_test(test_segment_header_of_zeros_is_refused),
        cmocka_unit_test(test_group_header_encoded_decodes_the_same),
        cmocka_unit_test(test_group_header_any_bit_flipped_is_made_good),
        cmocka_unit_test(test_group_header_any_two_bits_flipped_is_never_good),
        cmocka_unit_test(test_group_header_of_another_salt_is_not_found),
        cmocka_unit_test(test_group_header_of_zeros_is_not_found),
        cmocka_unit_test(test_group_header_impossible_sizes_are_refused),
        cmocka_unit_test(test_record_every_kind_and_size_round_trips),
        cmocka_unit_test(test_record_any_header_bit_flipped_is_made_good),
        cmocka_unit_test(test_record_any_body_bit_flipped_is_told_apart),
        cmocka_unit_test(test_record_cut_at_every_byte_is_corrupt),
        cmocka_unit_test(test_record_of_zeros_is_corrupt),
        cmocka_unit_test(test_record_body_in_its_place_is_not_copied),
        cmocka_unit_test(test_result_encoded_decodes_the_same),
        cmocka_unit_test(test_result_cut_at_every_byte_is_corrupt),
        cmocka_unit_test(test_result_leaves_what_follows_it),
        cmocka_unit_test(test_names_are_parsed_back),
        cmocka_unit_test(test_names_of_other_files_are_refused),
        cmocka_unit_test(test_position_splits_as_it_was_made),
        cmocka_unit_test(test_texts_of_unknown_kinds_and_states_are_there),
    };
    return cmocka_run_group_tests_name("logformat", tests, NULL, NULL);
}
