#include "schemas/text.h"

/* Sets of bytes; one table instead of chains of comparisons on the hot path. */
enum {
    IS_NAME = 1,  /* [a-z0-9] */
    IS_URI = 2,   /* what RFC 3986 allows somewhere, '%' and '#' aside; blanks and braces too */
    IS_TOKEN = 4, /* RFC 7230 token */
    IS_ALPHA = 8,
    IS_DIGIT = 16,
    IS_HEX = 32,
    IS_BASE64 = 64,
    ALNUM = IS_URI | IS_TOKEN | IS_BASE64,
    DIGIT = ALNUM | IS_NAME | IS_DIGIT | IS_HEX,
    LOWER = ALNUM | IS_NAME | IS_ALPHA,
    UPPER = ALNUM | IS_ALPHA,
};

static const uint8_t classes[128] = {
    ['0'] = DIGIT, ['1'] = DIGIT, ['2'] = DIGIT, ['3'] = DIGIT, ['4'] = DIGIT, ['5'] = DIGIT,
    ['6'] = DIGIT, ['7'] = DIGIT, ['8'] = DIGIT, ['9'] = DIGIT,
    ['a'] = LOWER | IS_HEX, ['b'] = LOWER | IS_HEX, ['c'] = LOWER | IS_HEX,
    ['d'] = LOWER | IS_HEX, ['e'] = LOWER | IS_HEX, ['f'] = LOWER | IS_HEX,
    ['g'] = LOWER, ['h'] = LOWER, ['i'] = LOWER, ['j'] = LOWER, ['k'] = LOWER, ['l'] = LOWER,
    ['m'] = LOWER, ['n'] = LOWER, ['o'] = LOWER, ['p'] = LOWER, ['q'] = LOWER, ['r'] = LOWER,
    ['s'] = LOWER, ['t'] = LOWER, ['u'] = LOWER, ['v'] = LOWER, ['w'] = LOWER, ['x'] = LOWER,
    ['y'] = LOWER, ['z'] = LOWER,
    ['A'] = UPPER | IS_HEX, ['B'] = UPPER | IS_HEX, ['C'] = UPPER | IS_HEX,
    ['D'] = UPPER | IS_HEX, ['E'] = UPPER | IS_HEX, ['F'] = UPPER | IS_HEX,
    ['G'] = UPPER, ['H'] = UPPER, ['I'] = UPPER, ['J'] = UPPER, ['K'] = UPPER, ['L'] = UPPER,
    ['M'] = UPPER, ['N'] = UPPER, ['O'] = UPPER, ['P'] = UPPER, ['Q'] = UPPER, ['R'] = UPPER,
    ['S'] = UPPER, ['T'] = UPPER, ['U'] = UPPER, ['V'] = UPPER, ['W'] = UPPER, ['X'] = UPPER,
    ['Y'] = UPPER, ['Z'] = UPPER,
    ['-'] = IS_URI | IS_TOKEN,
    ['.'] = IS_URI | IS_TOKEN,
    ['_'] = IS_URI | IS_TOKEN,
    ['~'] = IS_URI | IS_TOKEN,
    ['!'] = IS_URI | IS_TOKEN,
    ['$'] = IS_URI | IS_TOKEN,
    ['&'] = IS_URI | IS_TOKEN,
    ['\''] = IS_URI | IS_TOKEN,
    ['*'] = IS_URI | IS_TOKEN,
    ['+'] = IS_URI | IS_TOKEN | IS_BASE64,
    ['/'] = IS_URI | IS_BASE64,
    ['#'] = IS_TOKEN,
    ['%'] = IS_TOKEN,
    ['^'] = IS_TOKEN,
    ['`'] = IS_TOKEN,
    ['|'] = IS_TOKEN,
    ['('] = IS_URI,
    [')'] = IS_URI,
    [','] = IS_URI,
    [';'] = IS_URI,
    ['='] = IS_URI,
    [':'] = IS_URI,
    ['@'] = IS_URI,
    ['?'] = IS_URI,
    ['['] = IS_URI,
    [']'] = IS_URI,
    [' '] = IS_URI,
    ['{'] = IS_URI, /* templates that were sent as they are, as in the samples of Event Grid */
    ['}'] = IS_URI,
};

static bool is_in(uint8_t c, unsigned set)
{
    return c < 0x80 ? (classes[c] & set) != 0 : (set & IS_URI) != 0;
}

bool mr__text_is_name(struct mr_bytes text)
{
    for (size_t i = 0; i < text.size; i++) {
        if (!is_in(text.data[i], IS_NAME)) {
            return false;
        }
    }
    return text.size > 0 && !(text.size == 4 && memcmp(text.data, "data", 4) == 0);
}

size_t mr__text_character(struct mr_bytes text, uint32_t *ret_code)
{
    if (text.size == 0) {
        return 0;
    }
    uint8_t c = text.data[0];
    if (c < 0x80) {
        *ret_code = c;
        return 1;
    }
    size_t size = c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : 2;
    if (text.size < size || !mr_bytes_is_utf8(mr_bytes(text.data, size))) {
        return 0;
    }
    uint32_t code = c & (0x7Fu >> size);
    for (size_t i = 1; i < size; i++) {
        code = code << 6 | (text.data[i] & 0x3Fu);
    }
    *ret_code = code;
    return size;
}

/* Eight bytes that are all in U+0020..U+007E. */
static bool word_is_plain(const uint8_t *at)
{
    const uint64_t ones = 0x0101010101010101ull;
    uint64_t word;
    memcpy(&word, at, sizeof(word));
    uint64_t control = (word - ones * 0x20) & ~word;
    uint64_t delete_or_high = (word + ones) | word;
    return ((control | delete_or_high) & (ones * 0x80)) == 0;
}

bool mr__text_is_string(struct mr_bytes text)
{
    size_t i = 0;
    while (i < text.size) {
        if (text.size - i >= 8 && word_is_plain(text.data + i)) {
            i += 8;
            continue;
        }
        uint32_t code = 0;
        size_t size = mr__text_character(mr_bytes(text.data + i, text.size - i), &code);
        bool control = code < 0x20 || (code >= 0x7F && code <= 0x9F);
        bool nonchar = (code >= 0xFDD0 && code <= 0xFDEF) || (code & 0xFFFE) == 0xFFFE;
        if (size == 0 || control || nonchar) {
            return false;
        }
        i += size;
    }
    return true;
}

bool mr__text_is_integer(struct mr_bytes text)
{
    bool negative = text.size > 0 && text.data[0] == '-';
    struct mr_bytes digits = mr_bytes(text.data + negative, text.size - negative);
    uint64_t value;
    if (!mr_parse_u64(digits, &value) || (digits.data[0] == '0' && (digits.size > 1 || negative))) {
        return false;
    }
    return value <= (negative ? 2147483648u : 2147483647u);
}

bool mr__text_is_base64(struct mr_bytes text)
{
    if (text.size % 4 != 0) {
        return false;
    }
    size_t size = text.size;
    for (int pad = 0; pad < 2 && size > 0 && text.data[size - 1] == '='; pad++) {
        size--;
    }
    for (size_t i = 0; i < size; i++) {
        if (!is_in(text.data[i], IS_BASE64)) {
            return false;
        }
    }
    return true;
}

/* The length of "scheme:", 0 when there is none; false when a colon stands where only that of a
 * scheme may. */
static bool find_scheme(struct mr_bytes text, size_t *ret_size)
{
    size_t i = 0;
    while (i < text.size && strchr(":/?#", text.data[i]) == NULL) {
        i++;
    }
    *ret_size = 0;
    if (i == text.size || text.data[i] != ':') {
        return true;
    }
    if (i == 0 || !is_in(text.data[0], IS_ALPHA)) {
        return false;
    }
    for (size_t k = 1; k < i; k++) {
        uint8_t c = text.data[k];
        if (!is_in(c, IS_ALPHA | IS_DIGIT) && c != '+' && c != '-' && c != '.') {
            return false;
        }
    }
    *ret_size = i + 1;
    return true;
}

bool mr__text_is_uri(struct mr_bytes text, bool absolute)
{
    size_t scheme_size;
    if (!find_scheme(text, &scheme_size) || (absolute && scheme_size == 0)) {
        return false;
    }
    bool fragment = false;
    for (size_t i = scheme_size; i < text.size; i++) {
        uint8_t c = text.data[i];
        if (is_in(c, IS_URI)) {
            continue;
        }
        if (c == '#' && !fragment) {
            fragment = true;
        } else if (c == '%' && text.size - i > 2 && is_in(text.data[i + 1], IS_HEX) &&
                   is_in(text.data[i + 2], IS_HEX)) {
            i += 2;
        } else {
            return false;
        }
    }
    return true;
}

static size_t token_size(struct mr_bytes text)
{
    size_t n = 0;
    while (n < text.size && is_in(text.data[n], IS_TOKEN)) {
        n++;
    }
    return n;
}

bool mr__text_is_media_type(struct mr_bytes text)
{
    size_t type = token_size(text);
    if (type == 0 || type == text.size || text.data[type] != '/') {
        return false;
    }
    struct mr_bytes rest = mr_bytes(text.data + type + 1, text.size - type - 1);
    size_t subtype = token_size(rest);
    if (subtype == 0 || text.data[text.size - 1] == ' ') {
        return false;
    }
    rest = mr_bytes_trim(mr_bytes(rest.data + subtype, rest.size - subtype));
    return rest.size == 0 || rest.data[0] == ';';
}

bool mr__text_starts_nocase(struct mr_bytes text, struct mr_bytes prefix)
{
    return text.size >= prefix.size &&
           mr_bytes_equal_nocase(mr_bytes(text.data, prefix.size), prefix);
}

struct mr_bytes mr__text_media_type(struct mr_bytes content_type)
{
    const void *end =
        content_type.size == 0 ? NULL : memchr(content_type.data, ';', content_type.size);
    if (end != NULL) {
        content_type.size = (size_t)((const uint8_t *)end - content_type.data);
    }
    return mr_bytes_trim(content_type);
}

enum mr_status mr__text_append_path(struct mr_buf *out, struct mr_bytes text)
{
    static const char digits[] = "0123456789ABCDEF";
    enum mr_status r = mr_buf_reserve(out, 3 * text.size);
    if (r != MR_OK) {
        return r;
    }
    uint8_t *to = out->data + out->size;
    for (size_t i = 0; i < text.size; i++) {
        uint8_t c = text.data[i];
        if (c < 0x80 && is_in(c, IS_URI) && strchr(" ?[]{}", c) == NULL) {
            *to++ = c;
        } else {
            *to++ = '%';
            *to++ = (uint8_t)digits[c >> 4];
            *to++ = (uint8_t)digits[c & 15];
        }
    }
    out->size = (size_t)(to - out->data);
    return MR_OK;
}
