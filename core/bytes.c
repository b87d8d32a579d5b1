#include "core/bytes.h"

#include <stdarg.h>
#include <stdio.h>

#include "core/alloc.h"
#include "core/assert.h"

#define BUF_FIRST_CAPACITY 256u

bool mr_bytes_equal(struct mr_bytes a, struct mr_bytes b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static uint8_t lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
}

bool mr_bytes_equal_nocase(struct mr_bytes a, struct mr_bytes b)
{
    if (a.size != b.size) {
        return false;
    }
    for (size_t i = 0; i < a.size; i++) {
        if (lower(a.data[i]) != lower(b.data[i])) {
            return false;
        }
    }
    return true;
}

bool mr_bytes_starts(struct mr_bytes text, struct mr_bytes prefix)
{
    return text.size >= prefix.size &&
           (prefix.size == 0 || memcmp(text.data, prefix.data, prefix.size) == 0);
}

bool mr_bytes_ends(struct mr_bytes text, struct mr_bytes suffix)
{
    return text.size >= suffix.size &&
           (suffix.size == 0 ||
            memcmp(text.data + (text.size - suffix.size), suffix.data, suffix.size) == 0);
}

struct mr_bytes mr_bytes_trim(struct mr_bytes text)
{
    while (text.size > 0 && (text.data[0] == ' ' || text.data[0] == '\t')) {
        text = mr_bytes(text.data + 1, text.size - 1);
    }
    while (text.size > 0 && (text.data[text.size - 1] == ' ' || text.data[text.size - 1] == '\t')) {
        text.size--;
    }
    return text;
}

int mr_bytes_compare(struct mr_bytes a, struct mr_bytes b)
{
    size_t common = a.size < b.size ? a.size : b.size;
    int order = common == 0 ? 0 : memcmp(a.data, b.data, common);
    if (order != 0) {
        return order;
    }
    return a.size < b.size ? -1 : a.size > b.size;
}

/* Length of the well-formed sequence at @p p (Unicode 15, table 3-7), 0 if there is none. */
static size_t utf8_sequence(const uint8_t *p, size_t left)
{
    uint8_t c = p[0];
    if (c < 0x80) {
        return 1;
    }
    size_t need = c >= 0xC2 && c <= 0xDF   ? 2
                  : c >= 0xE0 && c <= 0xEF ? 3
                  : c >= 0xF0 && c <= 0xF4 ? 4
                                           : 0;
    if (need == 0 || left < need) {
        return 0;
    }
    uint8_t low = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80;
    uint8_t high = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
    if (p[1] < low || p[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < need; i++) {
        if ((p[i] & 0xC0) != 0x80) {
            return 0;
        }
    }
    return need;
}

bool mr_bytes_is_utf8(struct mr_bytes text)
{
    size_t i = 0;
    while (i < text.size) {
        uint64_t word;
        if (text.size - i >= 8) {
            memcpy(&word, text.data + i, 8);
            if ((word & 0x8080808080808080ull) == 0) {
                i += 8;
                continue;
            }
        }
        size_t n = utf8_sequence(text.data + i, text.size - i);
        if (n == 0) {
            return false;
        }
        i += n;
    }
    return true;
}

void mr_buf_init(struct mr_buf *buf, size_t size_max)
{
    *buf = (struct mr_buf){.size_max = size_max};
}

void mr_buf_release(struct mr_buf *buf)
{
    if (buf != NULL) {
        mr_free(buf->data);
        mr_buf_init(buf, buf->size_max);
    }
}

void mr_buf_clear(struct mr_buf *buf)
{
    buf->size = 0;
}

enum mr_status mr_buf_reserve(struct mr_buf *buf, size_t more)
{
    MR_ASSERT(buf->size <= buf->capacity);
    if (more <= buf->capacity - buf->size) {
        return MR_OK;
    }
    size_t need;
    if (__builtin_add_overflow(buf->size, more, &need) || need > buf->size_max) {
        return MR_E_TOO_BIG;
    }
    size_t capacity = buf->capacity == 0 ? BUF_FIRST_CAPACITY : buf->capacity;
    while (capacity < need) {
        capacity *= 2;
    }
    if (capacity > buf->size_max) {
        capacity = buf->size_max;
    }
    uint8_t *data = mr_realloc(buf->data, capacity);
    if (data == NULL) {
        return MR_E_NOMEM;
    }
    buf->data = data;
    buf->capacity = capacity;
    return MR_OK;
}

enum mr_status mr_buf_append(struct mr_buf *buf, const void *data, size_t size)
{
    enum mr_status r = mr_buf_reserve(buf, size);
    if (r == MR_OK && size > 0) {
        memcpy(buf->data + buf->size, data, size);
        buf->size += size;
    }
    return r;
}

enum mr_status mr_buf_append_bytes(struct mr_buf *buf, struct mr_bytes bytes)
{
    return mr_buf_append(buf, bytes.data, bytes.size);
}

enum mr_status mr_buf_append_text(struct mr_buf *buf, const char *text)
{
    return mr_buf_append(buf, text, strlen(text));
}

enum mr_status mr_buf_append_byte(struct mr_buf *buf, uint8_t byte)
{
    return mr_buf_append(buf, &byte, 1);
}

enum mr_status mr_buf_printf(struct mr_buf *buf, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char small[256];
    int n = vsnprintf(small, sizeof(small), format, args);
    va_end(args);
    if (n < 0) {
        return MR_E_BUG;
    }
    if ((size_t)n < sizeof(small)) {
        return mr_buf_append(buf, small, (size_t)n);
    }
    enum mr_status r = mr_buf_reserve(buf, (size_t)n + 1);
    if (r != MR_OK) {
        return r;
    }
    va_start(args, format);
    (void)vsnprintf((char *)buf->data + buf->size, (size_t)n + 1, format, args); /* length known */
    va_end(args);
    buf->size += (size_t)n;
    return MR_OK;
}

static enum mr_status append_json_escape(struct mr_buf *buf, uint8_t c)
{
    switch (c) {
    case '"':
        return mr_buf_append_text(buf, "\\\"");
    case '\\':
        return mr_buf_append_text(buf, "\\\\");
    case '\n':
        return mr_buf_append_text(buf, "\\n");
    case '\r':
        return mr_buf_append_text(buf, "\\r");
    case '\t':
        return mr_buf_append_text(buf, "\\t");
    default:
        return mr_buf_printf(buf, "\\u%04x", c);
    }
}

/* C1 controls, the byte order mark and noncharacters of the first plane are legal in JSON but not
 * in YAML, which reads what we write. @return the code point, 0 for any other @p n bytes */
static unsigned unprintable(const uint8_t *p, size_t n)
{
    if (n == 2 && p[0] == 0xC2 && p[1] < 0xA0) {
        return p[1];
    }
    unsigned last = n == 3 && p[0] == 0xEF ? (unsigned)(p[1] << 8 | p[2]) : 0;
    return last == 0xBBBF ? 0xFEFF : last == 0xBFBE ? 0xFFFE : last == 0xBFBF ? 0xFFFF : 0;
}

enum mr_status mr_buf_append_json(struct mr_buf *buf, struct mr_bytes text)
{
    size_t before = buf->size;
    enum mr_status r = mr_buf_append_byte(buf, '"');
    size_t from = 0;
    size_t i = 0;
    while (r == MR_OK && i < text.size) {
        uint8_t c = text.data[i];
        size_t n = c < 0x20 || c == '"' || c == '\\' || c == 0x7F
                       ? 0
                       : utf8_sequence(text.data + i, text.size - i);
        unsigned point = n > 1 ? unprintable(text.data + i, n) : 0;
        if (n > 0 && point == 0) {
            i += n;
            continue;
        }
        r = mr_buf_append(buf, text.data + from, i - from);
        if (r == MR_OK && point != 0) {
            r = mr_buf_printf(buf, "\\u%04x", point);
        } else if (r == MR_OK) {
            r = c < 0x80 ? append_json_escape(buf, c) : mr_buf_append_text(buf, "\xEF\xBF\xBD");
        }
        i += n == 0 ? 1 : n;
        from = i;
    }
    if (r == MR_OK && from < text.size) {
        r = mr_buf_append(buf, text.data + from, text.size - from);
    }
    if (r == MR_OK) {
        r = mr_buf_append_byte(buf, '"');
    }
    if (r != MR_OK) {
        buf->size = before;
    }
    return r;
}

enum mr_status mr_buf_append_base64(struct mr_buf *buf, struct mr_bytes data)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t groups = data.size / 3 + (data.size % 3 != 0);
    enum mr_status r = mr_buf_reserve(buf, groups * 4);
    if (r != MR_OK || data.size == 0) {
        return r; /* nothing to add, perhaps to no memory */
    }
    uint8_t *to = buf->data + buf->size;
    for (size_t i = 0; i < data.size; i += 3) {
        size_t n = data.size - i < 3 ? data.size - i : 3;
        uint32_t v = (uint32_t)data.data[i] << 16;
        v |= n > 1 ? (uint32_t)data.data[i + 1] << 8 : 0;
        v |= n > 2 ? data.data[i + 2] : 0;
        *to++ = (uint8_t)alphabet[v >> 18];
        *to++ = (uint8_t)alphabet[(v >> 12) & 63];
        *to++ = n > 1 ? (uint8_t)alphabet[(v >> 6) & 63] : '=';
        *to++ = n > 2 ? (uint8_t)alphabet[v & 63] : '=';
    }
    buf->size += groups * 4;
    return MR_OK;
}

static int base64_value(uint8_t c)
{
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

enum mr_status mr_buf_append_unbase64(struct mr_buf *buf, struct mr_bytes text)
{
    if (text.size % 4 != 0) {
        return MR_E_INVALID;
    }
    size_t before = buf->size;
    size_t padding = 0;
    while (padding < 2 && padding < text.size && text.data[text.size - 1 - padding] == '=') {
        padding++;
    }
    enum mr_status r = mr_buf_reserve(buf, text.size / 4 * 3 - padding);
    if (r != MR_OK) {
        return r;
    }
    for (size_t i = 0; i < text.size; i += 4) {
        bool last = i + 4 == text.size;
        size_t pad = !last ? 0 : text.data[i + 3] != '=' ? 0 : text.data[i + 2] != '=' ? 1 : 2;
        uint32_t v = 0;
        for (size_t k = 0; k < 4; k++) {
            int digit = k >= 4 - pad ? 0 : base64_value(text.data[i + k]);
            if (digit < 0) {
                buf->size = before;
                return MR_E_INVALID;
            }
            v = v << 6 | (uint32_t)digit;
        }
        buf->data[buf->size++] = (uint8_t)(v >> 16);
        if (pad < 2) {
            buf->data[buf->size++] = (uint8_t)(v >> 8);
        }
        if (pad < 1) {
            buf->data[buf->size++] = (uint8_t)v;
        }
    }
    return MR_OK;
}

char *mr_buf_take_text(struct mr_buf *buf)
{
    char *text = mr_realloc(buf->data, buf->size + 1);
    if (text == NULL) {
        return NULL;
    }
    text[buf->size] = '\0';
    mr_buf_init(buf, buf->size_max);
    return text;
}

bool mr_parse_u64(struct mr_bytes text, uint64_t *ret_value)
{
    uint64_t value = 0;
    if (text.size == 0) {
        return false;
    }
    for (size_t i = 0; i < text.size; i++) {
        uint8_t c = text.data[i];
        if (c < '0' || c > '9' || __builtin_mul_overflow(value, 10u, &value) ||
            __builtin_add_overflow(value, (uint64_t)(c - '0'), &value)) {
            return false;
        }
    }
    *ret_value = value;
    return true;
}
