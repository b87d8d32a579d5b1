#include "connectors/http/reply.h"

#include <string.h>

#include "core/assert.h"

void mr_http_reply_init(struct mr_http_reply *reply)
{
    *reply = (struct mr_http_reply){0};
    mr_buf_init(&reply->line, MR_HTTP_HEADER_SIZE_MAX);
}

void mr_http_reply_release(struct mr_http_reply *reply)
{
    mr_buf_release(&reply->line);
}

static void begin_head(struct mr_http_reply *reply)
{
    reply->state = MR_HTTP_REPLY_STATUS_LINE;
    reply->has_length = false;
    reply->is_chunked = false;
}

void mr_http_reply_begin(struct mr_http_reply *reply, struct mr_http_exchange *x)
{
    reply->x = x;
    reply->head_size = 0;
    reply->any = false;
    reply->keep_alive = false;
    reply->broken = NULL;
    mr_buf_clear(&reply->line);
    begin_head(reply);
}

static enum mr_http_reply_result fail(struct mr_http_reply *reply, const char *why)
{
    reply->broken = why;
    reply->state = MR_HTTP_REPLY_OVER;
    return MR_HTTP_REPLY_BROKEN;
}

static enum mr_http_reply_result finish(struct mr_http_reply *reply)
{
    reply->state = MR_HTTP_REPLY_OVER;
    return MR_HTTP_REPLY_DONE;
}

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

/* Whether the comma-separated list @p value has @p word. */
static bool has_word(struct mr_bytes value, struct mr_bytes word)
{
    size_t at = 0;
    while (at <= value.size) {
        const uint8_t *comma =
            at == value.size ? NULL : memchr(value.data + at, ',', value.size - at);
        size_t end = comma == NULL ? value.size : (size_t)(comma - value.data);
        if (mr_bytes_equal_nocase(mr_bytes_trim(mr_bytes(value.data + at, end - at)), word)) {
            return true;
        }
        at = end + 1;
    }
    return false;
}

/* "HTTP/1.1 200 OK" */
static enum mr_http_reply_result take_status_line(struct mr_http_reply *reply,
                                                  struct mr_bytes line)
{
    const uint8_t *d = line.data;
    if (line.size < 12 || memcmp(d, "HTTP/1.", 7) != 0 || (d[7] != '0' && d[7] != '1') ||
        d[8] != ' ' || !is_digit(d[9]) || !is_digit(d[10]) || !is_digit(d[11]) ||
        (line.size > 12 && d[12] != ' ')) {
        return fail(reply, "the answer is not HTTP/1");
    }
    reply->status = (unsigned)(d[9] - '0') * 100 + (unsigned)(d[10] - '0') * 10 +
                    (unsigned)(d[11] - '0');
    reply->keep_alive = d[7] == '1';
    reply->state = MR_HTTP_REPLY_FIELDS;
    mr_http_exchange_status(reply->x, reply->status);
    return MR_HTTP_REPLY_MORE;
}

static enum mr_http_reply_result take_length(struct mr_http_reply *reply, struct mr_bytes value)
{
    uint64_t length;
    if (!mr_parse_u64(value, &length)) {
        return fail(reply, "the answer's Content-Length is no number");
    }
    if (reply->has_length && reply->length != length) {
        return fail(reply, "the answer has two lengths");
    }
    reply->has_length = true;
    reply->length = length;
    return MR_HTTP_REPLY_MORE;
}

static enum mr_http_reply_result take_field(struct mr_http_reply *reply, struct mr_bytes line)
{
    const uint8_t *colon = memchr(line.data, ':', line.size);
    if (line.data[0] == ' ' || line.data[0] == '\t') {
        return fail(reply, "the answer has a folded header line");
    }
    if (colon == NULL || colon == line.data) {
        return fail(reply, "the answer has a header line without a name");
    }
    struct mr_bytes name = {line.data, (size_t)(colon - line.data)};
    struct mr_bytes value = mr_bytes_trim(mr_bytes(colon + 1, line.size - name.size - 1));
    if (mr_bytes_equal_nocase(name, MR_BYTES_LITERAL("content-length"))) {
        return take_length(reply, value);
    }
    if (mr_bytes_equal_nocase(name, MR_BYTES_LITERAL("transfer-encoding"))) {
        if (reply->is_chunked || !mr_bytes_equal_nocase(value, MR_BYTES_LITERAL("chunked"))) {
            return fail(reply, "the answer has a transfer coding we do not know");
        }
        reply->is_chunked = true;
        return MR_HTTP_REPLY_MORE;
    }
    if (mr_bytes_equal_nocase(name, MR_BYTES_LITERAL("connection"))) {
        if (has_word(value, MR_BYTES_LITERAL("close"))) {
            reply->keep_alive = false;
        }
        return MR_HTTP_REPLY_MORE;
    }
    mr_http_exchange_field(reply->x, name, value);
    return MR_HTTP_REPLY_MORE;
}

/* The empty line behind the header. */
static enum mr_http_reply_result end_head(struct mr_http_reply *reply)
{
    if (reply->status >= 100 && reply->status <= 199) {
        if (reply->status == 101) {
            return fail(reply, "the answer switches protocols");
        }
        begin_head(reply); /* head_size goes on: endless interim answers are bounded too */
        return MR_HTTP_REPLY_MORE;
    }
    mr_http_exchange_head_end(reply->x);
    if (reply->status == 204 || reply->status == 304) {
        return finish(reply);
    }
    if (reply->is_chunked) {
        reply->keep_alive = reply->keep_alive && !reply->has_length;
        reply->state = MR_HTTP_REPLY_CHUNK_LINE;
    } else if (reply->has_length) {
        reply->left = reply->length;
        reply->state = MR_HTTP_REPLY_BODY_SIZED;
        return reply->left == 0 ? finish(reply) : MR_HTTP_REPLY_MORE;
    } else {
        reply->keep_alive = false;
        reply->state = MR_HTTP_REPLY_BODY_TO_END;
    }
    return MR_HTTP_REPLY_MORE;
}

/* "1a2b;extension" */
static enum mr_http_reply_result take_chunk_line(struct mr_http_reply *reply, struct mr_bytes line)
{
    uint64_t size = 0;
    size_t i = 0;
    for (; i < line.size; i++) {
        uint8_t c = line.data[i] | 0x20;
        unsigned digit = is_digit(line.data[i]) ? (unsigned)(line.data[i] - '0')
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                                                : 16;
        if (digit == 16) {
            break;
        }
        if (size >> 59 != 0) {
            return fail(reply, "the answer has a chunk beyond all sizes");
        }
        size = size << 4 | digit;
    }
    struct mr_bytes rest = mr_bytes_trim(mr_bytes(line.data + i, line.size - i));
    if (i == 0 || (rest.size > 0 && rest.data[0] != ';')) {
        return fail(reply, "the answer has a chunk without a size");
    }
    reply->left = size;
    reply->state = size == 0 ? MR_HTTP_REPLY_TRAILER : MR_HTTP_REPLY_CHUNK_DATA;
    return MR_HTTP_REPLY_MORE;
}

static enum mr_http_reply_result take_line(struct mr_http_reply *reply, struct mr_bytes line)
{
    if (line.size > 0 && line.data[line.size - 1] == '\r') {
        line.size--;
    }
    if (reply->state == MR_HTTP_REPLY_CHUNK_LINE) {
        return take_chunk_line(reply, line);
    }
    if (reply->state == MR_HTTP_REPLY_CHUNK_END) {
        reply->state = MR_HTTP_REPLY_CHUNK_LINE;
        return line.size == 0 ? MR_HTTP_REPLY_MORE
                              : fail(reply, "the answer has a chunk longer than it says");
    }
    reply->head_size += line.size + 2;
    if (reply->head_size > MR_HTTP_HEADER_SIZE_MAX) {
        return fail(reply, "the answer's header is too large");
    }
    if (reply->state == MR_HTTP_REPLY_STATUS_LINE) {
        return take_status_line(reply, line);
    }
    if (reply->state == MR_HTTP_REPLY_TRAILER) {
        return line.size == 0 ? finish(reply) : MR_HTTP_REPLY_MORE;
    }
    return line.size == 0 ? end_head(reply) : take_field(reply, line);
}

static bool reads_lines(enum mr_http_reply_state state)
{
    return state == MR_HTTP_REPLY_STATUS_LINE || state == MR_HTTP_REPLY_FIELDS ||
           state == MR_HTTP_REPLY_CHUNK_LINE || state == MR_HTTP_REPLY_CHUNK_END ||
           state == MR_HTTP_REPLY_TRAILER;
}

/* One line of @p data, joined with what came of it before. */
static enum mr_http_reply_result feed_line(struct mr_http_reply *reply, struct mr_bytes data,
                                           size_t *at)
{
    const uint8_t *from = data.data + *at;
    const uint8_t *end = memchr(from, '\n', data.size - *at);
    size_t size = end == NULL ? data.size - *at : (size_t)(end - from);
    *at += end == NULL ? size : size + 1;
    if (end != NULL && reply->line.size == 0) {
        return take_line(reply, mr_bytes(from, size));
    }
    if (mr_buf_append(&reply->line, from, size) != MR_OK) {
        return fail(reply, "the answer's header is too large");
    }
    if (end == NULL) {
        return MR_HTTP_REPLY_MORE;
    }
    enum mr_http_reply_result result = take_line(reply, mr_buf_bytes(&reply->line));
    mr_buf_clear(&reply->line);
    return result;
}

static enum mr_http_reply_result feed_body(struct mr_http_reply *reply, struct mr_bytes data,
                                           size_t *at)
{
    size_t size = data.size - *at;
    if (reply->state != MR_HTTP_REPLY_BODY_TO_END && size > reply->left) {
        size = (size_t)reply->left;
    }
    bool wanted = mr_http_exchange_body(reply->x, mr_bytes(data.data + *at, size));
    *at += size;
    if (!wanted) {
        reply->keep_alive = false; /* the status is known, and nobody reads the rest */
        return finish(reply);
    }
    if (reply->state == MR_HTTP_REPLY_BODY_TO_END) {
        return MR_HTTP_REPLY_MORE;
    }
    reply->left -= size;
    if (reply->left > 0) {
        return MR_HTTP_REPLY_MORE;
    }
    if (reply->state == MR_HTTP_REPLY_BODY_SIZED) {
        return finish(reply);
    }
    reply->state = MR_HTTP_REPLY_CHUNK_END;
    return MR_HTTP_REPLY_MORE;
}

enum mr_http_reply_result mr_http_reply_feed(struct mr_http_reply *reply, struct mr_bytes data,
                                             size_t *ret_used)
{
    MR_ASSERT(reply->state != MR_HTTP_REPLY_OVER);
    size_t at = 0;
    enum mr_http_reply_result result = MR_HTTP_REPLY_MORE;
    reply->any = reply->any || data.size > 0;
    while (result == MR_HTTP_REPLY_MORE && at < data.size) {
        result = reads_lines(reply->state) ? feed_line(reply, data, &at)
                                           : feed_body(reply, data, &at);
    }
    *ret_used = at;
    return result;
}

enum mr_http_reply_result mr_http_reply_end(struct mr_http_reply *reply)
{
    reply->keep_alive = false;
    if (reply->state == MR_HTTP_REPLY_BODY_TO_END) {
        return finish(reply);
    }
    return fail(reply, reply->any ? "the connection closed within the answer"
                                  : "the connection closed without an answer");
}
