#include "connectors/http/content.h"

#include <zlib.h>
#include <zstd.h>

#include "core/alloc.h"
#include "core/assert.h"
#include "core/limits.h"

enum {
    RATIO_MAX = 250,         /* JSON that repeats itself reaches 100 */
    RATIO_FREE = 64 * 1024,  /* so much may come out of however little */
    STEP_SIZE = 16 * 1024,
    ZSTD_WINDOW_LOG_MAX = 23, /* 8 MiB: what every compressor uses unless told otherwise */
};

static void *allocate(void *context, unsigned count, unsigned size)
{
    (void)context;
    return mr_calloc(count, size);
}

static void release(void *context, void *memory)
{
    (void)context;
    mr_free(memory);
}

/* What may come out of @p size bytes. */
static size_t output_max(size_t size, size_t size_max)
{
    size_t by_ratio = size > SIZE_MAX / RATIO_MAX ? SIZE_MAX : size * RATIO_MAX;
    by_ratio = by_ratio < RATIO_FREE ? RATIO_FREE : by_ratio;
    return by_ratio < size_max ? by_ratio : size_max;
}

/* Room for one more step, at most @p max bytes in all and one to notice that there are more. */
static enum mr_status make_room(struct mr_buf *plain, size_t max, size_t *ret_room)
{
    size_t left = max + 1 - plain->size;
    size_t step = plain->size < STEP_SIZE ? STEP_SIZE : plain->size; /* doubling */
    *ret_room = left < step ? left : step;
    return mr_buf_reserve(plain, *ret_room);
}

static enum mr_status too_big(struct mr_problem *problem, size_t max)
{
    return mr_problem_set(problem, MR_E_TOO_BIG, "the decoded body is larger than %zu bytes", max);
}

static enum mr_status decode_gzip(struct mr_bytes body, size_t max, struct mr_buf *plain,
                                  struct mr_problem *problem)
{
    z_stream z = {.zalloc = allocate, .zfree = release, .avail_in = (unsigned)body.size};
    memcpy(&z.next_in, &body.data, sizeof(z.next_in)); /* const only without ZLIB_CONST */
    if (inflateInit2(&z, 15 + 16) != Z_OK) { /* the largest window, gzip's header */
        return mr_problem_set(problem, MR_E_NOMEM, "no memory to decode gzip");
    }
    enum mr_status r = MR_OK;
    int code = Z_OK;
    while (r == MR_OK) {
        size_t room;
        r = make_room(plain, max, &room);
        if (r != MR_OK) {
            break;
        }
        z.next_out = plain->data + plain->size;
        z.avail_out = (unsigned)room;
        code = inflate(&z, Z_NO_FLUSH);
        plain->size += room - z.avail_out;
        if (plain->size > max) {
            r = too_big(problem, max);
        } else if (code == Z_STREAM_END) {
            if (z.avail_in == 0) {
                break;
            }
            code = inflateReset(&z); /* members may follow one another */
        } else if (code == Z_BUF_ERROR || (code == Z_OK && z.avail_in == 0 && z.avail_out > 0)) {
            r = mr_problem_set(problem, MR_E_INVALID, "the gzip body ends in the middle");
        } else if (code == Z_MEM_ERROR) {
            r = MR_E_NOMEM;
        } else if (code != Z_OK) {
            r = mr_problem_set(problem, MR_E_INVALID, "the body is not gzip: %.60s",
                               z.msg == NULL ? "bad data" : z.msg);
        }
    }
    (void)inflateEnd(&z); /* says only whether input was left */
    return r;
}

static enum mr_status decode_zstd(struct mr_bytes body, size_t max, struct mr_buf *plain,
                                  struct mr_problem *problem)
{
    ZSTD_DStream *z = ZSTD_createDStream();
    if (z == NULL || ZSTD_isError(ZSTD_initDStream(z)) ||
        ZSTD_isError(ZSTD_DCtx_setParameter(z, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG_MAX))) {
        (void)ZSTD_freeDStream(z); /* takes NULL, never fails */
        return mr_problem_set(problem, MR_E_NOMEM, "no memory to decode zstd");
    }
    ZSTD_inBuffer in = {.src = body.data, .size = body.size};
    enum mr_status r = MR_OK;
    size_t code = 1;
    while (r == MR_OK && (code != 0 || in.pos < in.size)) {
        size_t room;
        r = make_room(plain, max, &room);
        if (r != MR_OK) {
            break;
        }
        ZSTD_outBuffer out = {.dst = plain->data + plain->size, .size = room};
        code = ZSTD_decompressStream(z, &out, &in);
        plain->size += out.pos;
        if (ZSTD_isError(code)) {
            r = mr_problem_set(problem, MR_E_INVALID, "the body is not zstd: %.60s",
                               ZSTD_getErrorName(code));
        } else if (plain->size > max) {
            r = too_big(problem, max);
        } else if (code != 0 && in.pos == in.size && out.pos < out.size) {
            r = mr_problem_set(problem, MR_E_INVALID, "the zstd body ends in the middle");
        }
    }
    (void)ZSTD_freeDStream(z); /* never fails */
    return r;
}

enum mr_status mr_http_content_decode(unsigned taken, struct mr_bytes encoding,
                                      struct mr_bytes body, size_t size_max, struct mr_buf *plain,
                                      struct mr_bytes *ret_body, struct mr_problem *problem)
{
    MR_ASSERT(plain->size == 0);
    MR_ASSERT(size_max <= MR_BATCH_SIZE_MAX);
    enum mr_status r;
    if (encoding.size == 0 || mr_bytes_equal_nocase(encoding, MR_BYTES_LITERAL("identity"))) {
        *ret_body = body;
        return MR_OK;
    }
    bool is_gzip = mr_bytes_equal_nocase(encoding, MR_BYTES_LITERAL("gzip")) ||
                   mr_bytes_equal_nocase(encoding, MR_BYTES_LITERAL("x-gzip"));
    bool is_zstd = mr_bytes_equal_nocase(encoding, MR_BYTES_LITERAL("zstd"));
    if (body.size == 0 && (is_gzip || is_zstd)) {
        r = mr_problem_set(problem, MR_E_INVALID, "the encoded body is empty");
    } else if (is_gzip && (taken & MR_HTTP_CODING_GZIP) != 0) {
        r = decode_gzip(body, output_max(body.size, size_max), plain, problem);
    } else if (is_zstd && (taken & MR_HTTP_CODING_ZSTD) != 0) {
        r = decode_zstd(body, output_max(body.size, size_max), plain, problem);
    } else {
        r = mr_problem_set(problem, MR_E_UNSUPPORTED,
                           "the Content-Encoding %.*s is not taken here (option `decode`)",
                           encoding.size < 40 ? (int)encoding.size : 40,
                           (const char *)encoding.data);
    }
    if (r == MR_OK) {
        *ret_body = mr_buf_bytes(plain);
    }
    return r;
}
