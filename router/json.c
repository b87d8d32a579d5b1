#include "router/json.h"

bool mr__cursor_string(struct mr__cursor *c, struct mr_bytes *ret_raw)
{
    if (!mr__cursor_byte(c, '"')) {
        return false;
    }
    const uint8_t *from = c->at;
    while (c->at < c->end && *c->at != '"') {
        c->at += *c->at == '\\' && c->end - c->at > 1 ? 2 : 1;
    }
    if (c->at == c->end) {
        return false;
    }
    *ret_raw = mr_bytes(from, (size_t)(c->at - from));
    c->at++;
    return true;
}

static bool is_word(uint8_t b)
{
    switch (b) {
    case ',':
    case ':':
    case '{':
    case '}':
    case '[':
    case ']':
    case '"':
        return false;
    default:
        return b > ' ';
    }
}

struct mr_bytes mr__cursor_word(struct mr__cursor *c)
{
    mr__cursor_blanks(c);
    const uint8_t *from = c->at;
    while (c->at < c->end && is_word(*c->at)) {
        c->at++;
    }
    return mr_bytes(from, (size_t)(c->at - from));
}

bool mr__cursor_skip(struct mr__cursor *c)
{
    uint64_t depth = 0;
    do {
        mr__cursor_blanks(c);
        if (c->at == c->end) {
            return false;
        }
        struct mr_bytes ignored;
        uint8_t b = *c->at;
        if (b == '"') {
            if (!mr__cursor_string(c, &ignored)) {
                return false;
            }
        } else if (b == '{' || b == '[') {
            depth++;
            c->at++;
        } else if (b == '}' || b == ']') {
            if (depth == 0) {
                return false;
            }
            depth--;
            c->at++;
        } else if (b == ',' || b == ':') {
            if (depth == 0) {
                return false;
            }
            c->at++;
        } else if (mr__cursor_word(c).size == 0) {
            return false;
        }
    } while (depth > 0);
    return true;
}

static bool take_hex4(struct mr__cursor *c, uint32_t *ret_value)
{
    if (c->end - c->at < 4) {
        return false;
    }
    uint32_t value = 0;
    for (int i = 0; i < 4; i++) {
        uint8_t b = *c->at++;
        uint8_t low = b | 0x20;
        if (!((b >= '0' && b <= '9') || (low >= 'a' && low <= 'f'))) {
            return false;
        }
        value = value << 4 | (uint32_t)(b <= '9' ? b - '0' : low - 'a' + 10);
    }
    *ret_value = value;
    return true;
}

static size_t encode_utf8(uint32_t code, uint8_t to[4])
{
    if (code < 0x80) {
        to[0] = (uint8_t)code;
        return 1;
    }
    size_t size = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = size - 1; i > 0; i--) {
        to[i] = (uint8_t)(0x80 | (code & 0x3F));
        code >>= 6;
    }
    to[0] = (uint8_t)((0xF00u >> size) | code);
    return size;
}

/* The character behind `\u`, as UTF-8; half a surrogate pair stands for U+FFFD. */
static size_t take_unicode(struct mr__cursor *c, uint8_t to[4])
{
    uint32_t code;
    if (!take_hex4(c, &code)) {
        return 0;
    }
    if (code >= 0xD800 && code < 0xDC00 && c->end - c->at >= 6 && c->at[0] == '\\' &&
        c->at[1] == 'u') {
        struct mr__cursor ahead = {c->at + 2, c->end};
        uint32_t low;
        if (take_hex4(&ahead, &low) && low >= 0xDC00 && low < 0xE000) {
            *c = ahead;
            return encode_utf8(0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00), to);
        }
    }
    return encode_utf8(code >= 0xD800 && code < 0xE000 ? 0xFFFD : code, to);
}

size_t mr__cursor_char(struct mr__cursor *c, uint8_t to[4])
{
    to[0] = *c->at++;
    if (to[0] != '\\') {
        return 1;
    }
    if (c->at == c->end) {
        return 0;
    }
    static const char from[] = "\"\\/bfnrt";
    static const char plain[] = "\"\\/\b\f\n\r\t";
    uint8_t b = *c->at++;
    const char *found = memchr(from, b, sizeof(from) - 1);
    if (found != NULL) {
        to[0] = (uint8_t)plain[found - from];
        return 1;
    }
    return b == 'u' ? take_unicode(c, to) : 0;
}

bool mr__cursor_string_is(struct mr_bytes raw, struct mr_bytes text)
{
    struct mr__cursor c = {raw.data, raw.data + raw.size};
    size_t at = 0;
    uint8_t out[4];
    while (c.at < c.end) {
        size_t n = mr__cursor_char(&c, out);
        if (n == 0 || text.size - at < n || memcmp(text.data + at, out, n) != 0) {
            return false;
        }
        at += n;
    }
    return at == text.size;
}
