#include "tests/support/test.h"

#include <zlib.h>
#include <zstd.h>

#include "connectors/http/content.h"
#include "core/alloc.h"
#include "core/limits.h"

enum { BOTH = MR_HTTP_CODING_GZIP | MR_HTTP_CODING_ZSTD };

static uint8_t packed[256 * 1024];

static size_t pack_gzip(const void *data, size_t size)
{
    z_stream z = {0};
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 9, Z_DEFAULT_STRATEGY), Z_OK);
    memcpy(&z.next_in, &data, sizeof(z.next_in));
    z.avail_in = (unsigned)size;
    z.next_out = packed;
    z.avail_out = sizeof(packed);
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    size_t out = sizeof(packed) - z.avail_out;
    deflateEnd(&z);
    return out;
}

static size_t pack_zstd(const void *data, size_t size)
{
    size_t out = ZSTD_compress(packed, sizeof(packed), data, size, 3);
    assert_false(ZSTD_isError(out));
    return out;
}

static enum mr_status decode(unsigned taken, const char *encoding, size_t size, size_t size_max,
                             struct mr_buf *plain, struct mr_bytes *ret, struct mr_problem *problem)
{
    mr_buf_clear(plain);
    return mr_http_content_decode(taken, mr_bytes_of(encoding), mr_bytes(packed, size), size_max,
                                  plain, ret, problem);
}

static void test_plain_is_not_copied(void **state)
{
    (void)state;
    static const char *const plain_words[] = {"", "identity", "Identity"};
    struct mr_buf plain;
    struct mr_bytes out;
    struct mr_problem problem = {""};
    mr_buf_init(&plain, MR_MIB);
    for (size_t i = 0; i < MR_ARRAY_COUNT(plain_words); i++) {
        assert_int_equal(decode(0, plain_words[i], 10, 100, &plain, &out, &problem), MR_OK);
        assert_ptr_equal(out.data, packed);
        assert_int_equal(out.size, 10);
    }
    mr_buf_release(&plain);
}

static void test_both_codings_give_the_body_back(void **state)
{
    (void)state;
    static char text[100000];
    struct mr_buf plain;
    struct mr_bytes out;
    struct mr_problem problem = {""};
    for (size_t i = 0; i < sizeof(text); i++) {
        text[i] = (char)('a' + (i * 2654435761u >> 13) % 23);
    }
    static const size_t sizes[] = {0, 1, 100, 16 * 1024, sizeof(text)};
    mr_buf_init(&plain, MR_MIB);
    for (size_t i = 0; i < MR_ARRAY_COUNT(sizes); i++) {
        size_t size = pack_gzip(text, sizes[i]);
        assert_int_equal(decode(BOTH, "gzip", size, MR_MIB, &plain, &out, &problem), MR_OK);
        assert_true(mr_bytes_equal(out, mr_bytes(text, sizes[i])));
        assert_int_equal(decode(BOTH, "X-Gzip", size, MR_MIB, &plain, &out, &problem), MR_OK);
        size = pack_zstd(text, sizes[i]);
        assert_int_equal(decode(BOTH, "zstd", size, MR_MIB, &plain, &out, &problem), MR_OK);
        assert_true(mr_bytes_equal(out, mr_bytes(text, sizes[i])));
    }
    /* Two members, as `cat a.gz b.gz` makes them. */
    size_t size = pack_gzip("ab", 2);
    memcpy(packed + size, packed, size);
    assert_int_equal(decode(BOTH, "gzip", 2 * size, MR_MIB, &plain, &out, &problem), MR_OK);
    assert_true(mr_bytes_equal(out, MR_BYTES_LITERAL("abab")));
    mr_buf_release(&plain);
}

static void test_what_is_not_taken_is_unsupported(void **state)
{
    (void)state;
    static const struct {
        unsigned taken;
        const char *encoding;
    } rows[] = {{0, "gzip"},    {MR_HTTP_CODING_ZSTD, "gzip"}, {MR_HTTP_CODING_GZIP, "zstd"},
                {BOTH, "br"},   {BOTH, "deflate"},             {BOTH, "gzip, gzip"},
                {0, "anything"}};
    struct mr_buf plain;
    struct mr_bytes out;
    mr_buf_init(&plain, MR_MIB);
    for (size_t i = 0; i < MR_ARRAY_COUNT(rows); i++) {
        struct mr_problem problem = {""};
        assert_int_equal(
            decode(rows[i].taken, rows[i].encoding, 10, 100, &plain, &out, &problem),
            MR_E_UNSUPPORTED);
        assert_non_null(strstr(problem.text, rows[i].encoding));
    }
    mr_buf_release(&plain);
}

static void test_bombs_and_rubbish_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *encoding;
        size_t (*pack)(const void *, size_t);
    } rows[] = {{"gzip", pack_gzip}, {"zstd", pack_zstd}};
    size_t bomb_size = 64u * MR_MIB;
    char *zeros = calloc(1, bomb_size);
    struct mr_buf plain;
    struct mr_bytes out;
    mr_buf_init(&plain, MR_BATCH_SIZE_MAX + 1);
    for (size_t i = 0; i < MR_ARRAY_COUNT(rows); i++) {
        struct mr_problem problem = {""};
        size_t size = rows[i].pack(zeros, bomb_size);
        assert_int_equal(
            decode(BOTH, rows[i].encoding, size, MR_BATCH_SIZE_MAX, &plain, &out, &problem),
            MR_E_TOO_BIG);
        assert_true(plain.capacity <= 2 * (size_t)MR_BATCH_SIZE_MAX);
        mr_buf_release(&plain);
        /* One byte over the limit, and just at it. */
        size = rows[i].pack(zeros, 1001);
        assert_int_equal(decode(BOTH, rows[i].encoding, size, 1000, &plain, &out, &problem),
                         MR_E_TOO_BIG);
        assert_int_equal(decode(BOTH, rows[i].encoding, size, 1001, &plain, &out, &problem), MR_OK);
        /* Cut anywhere; a byte turned anywhere. */
        size = rows[i].pack("some text of a few words", 24);
        for (size_t cut = 0; cut < size; cut++) {
            assert_int_equal(decode(BOTH, rows[i].encoding, cut, 1000, &plain, &out, &problem),
                             MR_E_INVALID);
        }
        for (size_t at = 0; at < size; at++) {
            packed[at] ^= 0x55;
            enum mr_status r =
                decode(BOTH, rows[i].encoding, size, 1000, &plain, &out, &problem);
            assert_true(r == MR_OK || r == MR_E_INVALID || r == MR_E_TOO_BIG);
            packed[at] ^= 0x55;
        }
        memcpy(packed + size, "tail", 4);
        assert_int_equal(decode(BOTH, rows[i].encoding, size + 4, 1000, &plain, &out, &problem),
                         MR_E_INVALID);
    }
    mr_buf_release(&plain);
    free(zeros);
    assert_int_equal(mr_alloc_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_is_not_copied),
        cmocka_unit_test(test_both_codings_give_the_body_back),
        cmocka_unit_test(test_what_is_not_taken_is_unsupported),
        cmocka_unit_test(test_bombs_and_rubbish_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
