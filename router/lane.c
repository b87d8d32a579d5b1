#include "router/lane.h"

#include "core/hash.h"

/* A cursor over JSON text that nobody validated: it may be cut, or not JSON at all. Nothing here
 * recurses or allocates, every loop moves forward, and what does not fit ends in "no key". */
struct cursor {
    const uint8_t *at;
    const uint8_t *end;
};

static void skip_blanks(struct cursor *c)
{
    while (c->at < c->end &&
           (*c->at == ' ' || *c->at == '\t' || *c->at == '\n' || *c->at == '\r')) {
        c->at++;
    }
}

static bool take_byte(struct cursor *c, uint8_t byte)
{
    skip_blanks(c);
    if (c->at == c->end || *c->at != byte) {
        return false;
    }
    c->at++;
    return true;
}

/* The raw content of the string at the cursor, escapes and all. */
static bool take_string(struct cursor *c, struct mr_bytes *ret_raw)
{
    if (!take_byte(c, '"')) {
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

/* A number or a word. */
static struct mr_bytes take_word(struct cursor *c)
{
    skip_blanks(c);
    const uint8_t *from = c->at;
    while (c->at < c->end && *c->at > ' ' && memchr(",:{}[]\"", *c->at, 7) == NULL) {
        c->at++;
    }
    return mr_bytes(from, (size_t)(c->at - from));
}

/* Past one value. Brackets are counted, not matched in kind: wrong JSON only gives a wrong end. */
static bool skip_value(struct cursor *c)
{
    uint64_t depth = 0;
    do {
        skip_blanks(c);
        if (c->at == c->end) {
            return false;
        }
        struct mr_bytes ignored;
        uint8_t b = *c->at;
        if (b == '"') {
            if (!take_string(c, &ignored)) {
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
        } else if (take_word(c).size == 0) {
            return false;
        }
    } while (depth > 0);
    return true;
}

static bool take_hex4(struct cursor *c, uint32_t *ret_value)
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
static size_t take_unicode(struct cursor *c, uint8_t to[4])
{
    uint32_t code;
    if (!take_hex4(c, &code)) {
        return 0;
    }
    if (code >= 0xD800 && code < 0xDC00 && c->end - c->at >= 6 && c->at[0] == '\\' &&
        c->at[1] == 'u') {
        struct cursor ahead = {c->at + 2, c->end};
        uint32_t low;
        if (take_hex4(&ahead, &low) && low >= 0xDC00 && low < 0xE000) {
            *c = ahead;
            return encode_utf8(0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00), to);
        }
    }
    return encode_utf8(code >= 0xD800 && code < 0xE000 ? 0xFFFD : code, to);
}

/* The next character (or, outside escapes, byte) of a raw string; its size, 0 at a bad escape. */
static size_t take_char(struct cursor *c, uint8_t to[4])
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

/* mr_hash() of the string's content. */
static uint64_t hash_string(struct mr_bytes raw)
{
    struct cursor c = {raw.data, raw.data + raw.size};
    uint64_t h = MR_HASH_BEGIN;
    uint8_t out[4];
    while (c.at < c.end) {
        size_t n = take_char(&c, out);
        if (n == 0) {
            return 0;
        }
        for (size_t i = 0; i < n; i++) {
            h = mr_hash_step(h, out[i]);
        }
    }
    return mr_hash_end(h);
}

static bool string_is(struct mr_bytes raw, struct mr_bytes text)
{
    struct cursor c = {raw.data, raw.data + raw.size};
    size_t at = 0;
    uint8_t out[4];
    while (c.at < c.end) {
        size_t n = take_char(&c, out);
        if (n == 0 || text.size - at < n || memcmp(text.data + at, out, n) != 0) {
            return false;
        }
        at += n;
    }
    return at == text.size;
}

/* To the value of member @p name; the first wins when it stands there twice. */
static bool enter_member(struct cursor *c, struct mr_bytes name)
{
    c->at++; /* the brace */
    for (;;) {
        struct mr_bytes key;
        if (!take_string(c, &key) || !take_byte(c, ':')) {
            return false; /* also the end of the object */
        }
        if (string_is(key, name)) {
            return true;
        }
        if (!skip_value(c) || !take_byte(c, ',')) {
            return false;
        }
    }
}

static bool enter_element(struct cursor *c, struct mr_bytes segment)
{
    uint64_t index;
    if (!mr_parse_u64(segment, &index)) {
        return false;
    }
    c->at++; /* the bracket */
    for (; index > 0; index--) {
        if (!skip_value(c) || !take_byte(c, ',')) {
            return false;
        }
    }
    return true;
}

static struct mr_bytes next_segment(struct mr_bytes *path)
{
    const uint8_t *dot = memchr(path->data, '.', path->size);
    size_t size = dot == NULL ? path->size : (size_t)(dot - path->data);
    struct mr_bytes segment = mr_bytes(path->data, size);
    *path = dot == NULL ? mr_bytes(NULL, 0) : mr_bytes(dot + 1, path->size - size - 1);
    return segment;
}

static uint64_t hash_scalar(struct cursor *c)
{
    skip_blanks(c);
    if (c->at == c->end) {
        return 0;
    }
    struct mr_bytes text;
    if (*c->at == '"') {
        return take_string(c, &text) ? hash_string(text) : 0;
    }
    text = take_word(c);
    if (text.size == 0 || mr_bytes_equal(text, MR_BYTES_LITERAL("null"))) {
        return 0;
    }
    bool number = text.data[0] == '-' || (text.data[0] >= '0' && text.data[0] <= '9');
    bool word = mr_bytes_equal(text, MR_BYTES_LITERAL("true")) ||
                mr_bytes_equal(text, MR_BYTES_LITERAL("false"));
    return number || word ? mr_hash(text.data, text.size) : 0;
}

static uint64_t data_lane(struct mr_bytes path, struct mr_bytes record)
{
    if (!mr_event_has_data(record) || !mr_event_data_is_json(record)) {
        return 0;
    }
    struct mr_bytes data = mr_event_data(record);
    if (data.size == 0 || path.size == 0) {
        return 0;
    }
    struct cursor c = {data.data, data.data + data.size};
    while (path.data != NULL) {
        struct mr_bytes segment = next_segment(&path);
        skip_blanks(&c);
        bool found = c.at < c.end && (*c.at == '{'   ? enter_member(&c, segment)
                                      : *c.at == '[' ? enter_element(&c, segment)
                                                     : false);
        if (!found) {
            return 0;
        }
    }
    return hash_scalar(&c);
}

uint64_t mr__lane(int order, struct mr_bytes key, struct mr_bytes record)
{
    if (order == MR_ORDER_DATA) {
        return data_lane(key, record);
    }
    struct mr_attr attr;
    if (order != MR_ORDER_ATTRIBUTE || !mr_event_attr(record, key, &attr)) {
        return 0;
    }
    return mr_hash(attr.value.data, attr.value.size);
}
