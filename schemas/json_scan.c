#include "schemas/json_scan.h"

#include "core/assert.h"
#include "core/limits.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* Measured: names and short strings are most of a document, and calls were half of their cost. */
#define ALWAYS_INLINE __attribute__((always_inline))
#define NOINLINE __attribute__((noinline))

bool mr__scan_fail(struct mr__scan *s, const char *fault)
{
    s->fault = fault;
    return false;
}

void mr__scan_space_slow(struct mr__scan *s)
{
    while (s->at < s->end &&
           (*s->at == ' ' || *s->at == '\n' || *s->at == '\r' || *s->at == '\t')) {
        s->at++;
    }
}

/* The two functions below find the first byte inside a string that needs a look: a quote, a
 * backslash, a control character or a part of a longer UTF-8 character. */
#ifdef __SSE2__
static inline const uint8_t *skip_plain(const uint8_t *at, const uint8_t *end)
{
    const __m128i quote = _mm_set1_epi8('"');
    const __m128i backslash = _mm_set1_epi8('\\');
    const __m128i blank = _mm_set1_epi8(' ');
    while (end - at >= 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)at);
        /* signed: bytes from 0x80 on are less than a blank too */
        __m128i found = _mm_or_si128(_mm_cmplt_epi8(bytes, blank),
                                     _mm_or_si128(_mm_cmpeq_epi8(bytes, quote),
                                                  _mm_cmpeq_epi8(bytes, backslash)));
        unsigned mask = (unsigned)_mm_movemask_epi8(found);
        if (mask != 0) {
            return at + __builtin_ctz(mask);
        }
        at += 16;
    }
    return at;
}
#else
static inline const uint8_t *skip_plain(const uint8_t *at, const uint8_t *end)
{
    const uint64_t ones = 0x0101010101010101ull;
    while (end - at >= 8) {
        uint64_t word;
        memcpy(&word, at, sizeof(word));
        /* Each term sets the top bit of the bytes it looks for, and sometimes of those above: the
         * word as a whole is judged, the bytes are looked at one by one. */
        uint64_t quote = word ^ (ones * '"');
        uint64_t backslash = word ^ (ones * '\\');
        uint64_t found = ((quote - ones) & ~quote) | ((backslash - ones) & ~backslash) |
                         ((word - ones * 0x20) & ~word) | word;
        if ((found & (ones * 0x80)) != 0) {
            break;
        }
        at += 8;
    }
    return at;
}
#endif

static bool is_hex(uint8_t c)
{
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f');
}

/* The cursor stands on a backslash. */
static bool scan_escape(struct mr__scan *s)
{
    size_t left = (size_t)(s->end - s->at);
    uint8_t c = left > 1 ? s->at[1] : 0;
    if (c == 'u') {
        if (left < 6 || !is_hex(s->at[2]) || !is_hex(s->at[3]) || !is_hex(s->at[4]) ||
            !is_hex(s->at[5])) {
            return mr__scan_fail(s, "\\u without four hexadecimal digits");
        }
        s->at += 6;
        return true;
    }
    if (c == 0 || memchr("\"\\/bfnrt", c, 8) == NULL) {
        return mr__scan_fail(s, "an unknown escape in a string");
    }
    s->at += 2;
    return true;
}

/* The cursor stands on a byte >= 0x80. */
static bool scan_character(struct mr__scan *s)
{
    size_t size = *s->at >= 0xF0 ? 4 : *s->at >= 0xE0 ? 3 : 2;
    if ((size_t)(s->end - s->at) < size || !mr_bytes_is_utf8(mr_bytes(s->at, size))) {
        return mr__scan_fail(s, "malformed UTF-8");
    }
    s->at += size;
    return true;
}

/* A string that began at @p first, from the byte on that is more than plain text. */
static NOINLINE bool scan_string_rest(struct mr__scan *s, const uint8_t *first,
                                      struct mr__json_string *ret_string)
{
    bool escaped = false;
    for (;;) {
        s->at = skip_plain(s->at, s->end);
        if (s->at == s->end) {
            return mr__scan_fail(s, "the string has no end");
        }
        uint8_t c = *s->at;
        if (c == '"') {
            break;
        }
        if (c == '\\') {
            escaped = true;
            if (!scan_escape(s)) {
                return false;
            }
        } else if (c >= 0x80) {
            if (!scan_character(s)) {
                return false;
            }
        } else if (c < 0x20) {
            return mr__scan_fail(s, "a control character in a string");
        } else {
            s->at++;
        }
    }
    *ret_string = (struct mr__json_string){mr_bytes(first, (size_t)(s->at - first)), escaped};
    s->at++;
    return true;
}

/* The cursor stands on the opening quote. Most strings are plain and end in the first stride. */
static inline ALWAYS_INLINE bool scan_string(struct mr__scan *s,
                                             struct mr__json_string *ret_string)
{
    const uint8_t *first = s->at + 1;
    const uint8_t *at = skip_plain(first, s->end);
    s->at = at;
    if (at == s->end || *at != '"') {
        return scan_string_rest(s, first, ret_string);
    }
    *ret_string = (struct mr__json_string){.raw = mr_bytes(first, (size_t)(at - first))};
    s->at = at + 1;
    return true;
}

bool mr__scan_string(struct mr__scan *s, struct mr__json_string *ret_string)
{
    MR_ASSERT(mr__scan_peek(s) == '"');
    return scan_string(s, ret_string);
}

static inline ALWAYS_INLINE bool scan_name(struct mr__scan *s, struct mr__json_string *ret_name)
{
    if (mr__scan_peek(s) != '"') {
        return mr__scan_fail(s, "a member name in quotes is expected");
    }
    if (!scan_string(s, ret_name)) {
        return false;
    }
    mr__scan_space(s);
    if (mr__scan_peek(s) != ':') {
        return mr__scan_fail(s, "a colon is expected");
    }
    s->at++;
    mr__scan_space(s);
    return true;
}

bool mr__scan_name(struct mr__scan *s, struct mr__json_string *ret_name)
{
    return scan_name(s, ret_name);
}

static bool scan_digits(struct mr__scan *s)
{
    const uint8_t *first = s->at;
    while (s->at < s->end && *s->at >= '0' && *s->at <= '9') {
        s->at++;
    }
    return s->at > first || mr__scan_fail(s, "a digit is expected");
}

bool mr__scan_number(struct mr__scan *s, struct mr_bytes *ret_text)
{
    const uint8_t *first = s->at;
    if (mr__scan_peek(s) == '-') {
        s->at++;
    }
    if (mr__scan_peek(s) == '0') {
        s->at++;
    } else if (!scan_digits(s)) {
        return false;
    }
    if (mr__scan_peek(s) == '.') {
        s->at++;
        if (!scan_digits(s)) {
            return false;
        }
    }
    if ((mr__scan_peek(s) | 0x20) == 'e') {
        s->at++;
        if (mr__scan_peek(s) == '+' || mr__scan_peek(s) == '-') {
            s->at++;
        }
        if (!scan_digits(s)) {
            return false;
        }
    }
    *ret_text = mr_bytes(first, (size_t)(s->at - first));
    return true;
}

bool mr__scan_literal(struct mr__scan *s, struct mr_bytes *ret_text)
{
    uint8_t c = mr__scan_peek(s);
    const char *word = c == 't' ? "true" : c == 'f' ? "false" : "null";
    size_t size = c == 'f' ? 5 : 4;
    if ((size_t)(s->end - s->at) < size || memcmp(s->at, word, size) != 0) {
        return mr__scan_fail(s, "a value is expected");
    }
    *ret_text = mr_bytes(s->at, size);
    s->at += size;
    return true;
}

static inline bool scan_scalar(struct mr__scan *s)
{
    uint8_t c = mr__scan_peek(s);
    struct mr__json_string string;
    struct mr_bytes text;
    if (c == '"') {
        return scan_string(s, &string);
    }
    if (c == '-' || (c >= '0' && c <= '9')) {
        return mr__scan_number(s, &text);
    }
    return mr__scan_literal(s, &text);
}

/* Behind a value: closes what ends here. The cursor is then before the next value, or *depth is 0.
 * @p closers holds the bracket that closes each open level. */
static inline bool scan_after_value(struct mr__scan *s, const uint8_t *closers, unsigned *depth)
{
    while (*depth > 0) {
        mr__scan_space(s);
        uint8_t c = mr__scan_peek(s);
        if (c == closers[*depth - 1]) {
            s->at++;
            --*depth;
            continue;
        }
        if (c != ',') {
            return mr__scan_fail(s, closers[*depth - 1] == '}' ? "a comma or } is expected"
                                                               : "a comma or ] is expected");
        }
        s->at++;
        mr__scan_space(s);
        struct mr__json_string name;
        return closers[*depth - 1] != '}' || scan_name(s, &name);
    }
    return true;
}

bool mr__scan_value(struct mr__scan *s, struct mr_bytes *ret_text)
{
    const uint8_t *first = s->at;
    uint8_t closers[MR_JSON_DEPTH_MAX];
    unsigned depth = 0;
    do {
        uint8_t c = mr__scan_peek(s);
        if (c != '{' && c != '[') {
            if (!scan_scalar(s)) {
                return false;
            }
        } else {
            if (depth == MR_JSON_DEPTH_MAX) {
                return mr__scan_fail(s, "the value is nested too deep");
            }
            closers[depth++] = (uint8_t)(c + 2); /* ASCII: '{' + 2 is '}', '[' + 2 is ']' */
            s->at++;
            mr__scan_space(s);
            struct mr__json_string name;
            if (mr__scan_peek(s) != closers[depth - 1]) {
                if (c == '{' && !scan_name(s, &name)) {
                    return false;
                }
                continue;
            }
            s->at++;
            depth--;
        }
        if (!scan_after_value(s, closers, &depth)) {
            return false;
        }
    } while (depth > 0);
    *ret_text = mr_bytes(first, (size_t)(s->at - first));
    return true;
}

static uint32_t hex_value(const uint8_t *at)
{
    uint32_t value = 0;
    for (int i = 0; i < 4; i++) {
        uint8_t c = at[i];
        value = value << 4 | (uint32_t)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    return value;
}

/* The character of the \u escape at @p raw (its form was checked by the scan); a pair of them is
 * one. @return how many bytes of @p raw it takes, 0 for a lone surrogate */
static size_t read_unicode_escape(struct mr_bytes raw, uint32_t *ret_code)
{
    uint32_t code = hex_value(raw.data + 2);
    size_t used = 6;
    if (code >= 0xDC00 && code <= 0xDFFF) {
        return 0;
    }
    if (code >= 0xD800 && code <= 0xDBFF) {
        if (raw.size < 12 || raw.data[6] != '\\' || raw.data[7] != 'u') {
            return 0;
        }
        uint32_t low = hex_value(raw.data + 8);
        if (low < 0xDC00 || low > 0xDFFF) {
            return 0;
        }
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
        used = 12;
    }
    *ret_code = code;
    return used;
}

static size_t put_utf8(uint8_t to[4], uint32_t code)
{
    if (code < 0x80) {
        to[0] = (uint8_t)code;
        return 1;
    }
    if (code < 0x800) {
        to[0] = (uint8_t)(0xC0 | code >> 6);
        to[1] = (uint8_t)(0x80 | (code & 0x3F));
        return 2;
    }
    if (code < 0x10000) {
        to[0] = (uint8_t)(0xE0 | code >> 12);
        to[1] = (uint8_t)(0x80 | (code >> 6 & 0x3F));
        to[2] = (uint8_t)(0x80 | (code & 0x3F));
        return 3;
    }
    to[0] = (uint8_t)(0xF0 | code >> 18);
    to[1] = (uint8_t)(0x80 | (code >> 12 & 0x3F));
    to[2] = (uint8_t)(0x80 | (code >> 6 & 0x3F));
    to[3] = (uint8_t)(0x80 | (code & 0x3F));
    return 4;
}

enum mr_status mr__json_unescape(struct mr_bytes raw, struct mr_buf *out)
{
    enum mr_status r = mr_buf_reserve(out, raw.size); /* an escape is never shorter */
    if (r != MR_OK || raw.size == 0) {
        return r;
    }
    size_t i = 0;
    uint8_t *to = out->data + out->size;
    while (i < raw.size) {
        const uint8_t *from = raw.data + i;
        const uint8_t *slash = memchr(from, '\\', raw.size - i);
        size_t n = slash == NULL ? raw.size - i : (size_t)(slash - from);
        memcpy(to, from, n);
        to += n;
        i += n;
        if (slash == NULL) {
            break;
        }
        uint8_t c = slash[1];
        if (c == 'u') {
            uint32_t code = 0;
            size_t used = read_unicode_escape(mr_bytes(slash, raw.size - i), &code);
            if (used == 0) {
                return MR_E_INVALID;
            }
            to += put_utf8(to, code);
            i += used;
        } else {
            *to++ = (uint8_t)(c == 'b'   ? '\b'
                              : c == 'f' ? '\f'
                              : c == 'n' ? '\n'
                              : c == 'r' ? '\r'
                              : c == 't' ? '\t'
                                         : c);
            i += 2;
        }
    }
    out->size = (size_t)(to - out->data);
    return MR_OK;
}
