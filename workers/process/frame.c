#include "workers/process/frame.h"

#include "config/option.h"
#include "core/clock.h"
#include "core/limits.h"

#define AFTER_SECONDS_MAX 1000000000ull /* about thirty years; larger is a mistake */

struct scan {
    const uint8_t *at;
    const uint8_t *end;
};

static void skip_space(struct scan *s)
{
    while (s->at < s->end &&
           (*s->at == ' ' || *s->at == '\t' || *s->at == '\r' || *s->at == '\n')) {
        s->at++;
    }
}

static bool take_byte(struct scan *s, uint8_t c)
{
    skip_space(s);
    if (s->at < s->end && *s->at == c) {
        s->at++;
        return true;
    }
    return false;
}

/* The inside of a string; the cursor is on its opening quote. */
static bool take_string(struct scan *s, struct mr_bytes *ret)
{
    if (!take_byte(s, '"')) {
        return false;
    }
    const uint8_t *from = s->at;
    while (s->at < s->end) {
        /* memchr is far quicker than a byte loop on long strings; an escape before it is rare. */
        const uint8_t *quote = memchr(s->at, '"', (size_t)(s->end - s->at));
        if (quote == NULL) {
            return false;
        }
        size_t slashes = 0;
        while (quote - slashes > from && quote[-1 - (ptrdiff_t)slashes] == '\\') {
            slashes++;
        }
        s->at = quote + 1;
        if (slashes % 2 == 0) {
            *ret = mr_bytes(from, (size_t)(quote - from));
            return true;
        }
    }
    return false;
}

/* Skips one object or array by counting brackets; depth is a counter, so nothing recurses. */
static bool skip_nested(struct scan *s)
{
    uint8_t open[MR_JSON_DEPTH_MAX];
    size_t depth = 0;
    do {
        skip_space(s);
        if (s->at == s->end) {
            return false;
        }
        uint8_t c = *s->at;
        struct mr_bytes unused;
        if (c == '"') {
            if (!take_string(s, &unused)) {
                return false;
            }
            continue;
        }
        s->at++;
        if (c == '{' || c == '[') {
            if (depth == sizeof(open)) {
                return false;
            }
            open[depth++] = c;
        } else if (c == '}' || c == ']') {
            if (open[depth - 1] != (c == '}' ? '{' : '[')) {
                return false;
            }
            depth--;
        }
    } while (depth > 0);
    return true;
}

static bool is_scalar_byte(uint8_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || c == '-' || c == '+' || c == '.' ||
           c == 'E';
}

static bool take_value(struct scan *s, struct mr_bytes *ret)
{
    skip_space(s);
    if (s->at == s->end) {
        return false;
    }
    const uint8_t *from = s->at;
    struct mr_bytes unused;
    if (*from == '"') {
        if (!take_string(s, &unused)) {
            return false;
        }
    } else if (*from == '{' || *from == '[') {
        if (!skip_nested(s)) {
            return false;
        }
    } else {
        while (s->at < s->end && is_scalar_byte(*s->at)) {
            s->at++;
        }
    }
    *ret = mr_bytes(from, (size_t)(s->at - from));
    return ret->size > 0;
}

static bool is_null(struct mr_bytes value)
{
    return mr_bytes_equal(value, MR_BYTES_LITERAL("null"));
}

static bool inside_quotes(struct mr_bytes value, struct mr_bytes *ret)
{
    if (value.size < 2 || value.data[0] != '"') {
        return false;
    }
    *ret = mr_bytes(value.data + 1, value.size - 2);
    return true;
}

/* Seconds with an optional fraction, or a duration like "90s" or "1m30s" in a string. */
static bool read_seconds(struct mr_bytes value, uint64_t *ret_ns)
{
    uint64_t seconds = 0;
    uint64_t ns = 0;
    uint64_t scale = MR_SECOND;
    bool fraction = false;
    for (size_t i = 0; i < value.size; i++) {
        uint8_t c = value.data[i];
        if (c == '.' && !fraction && i > 0) {
            fraction = true;
        } else if (c < '0' || c > '9') {
            return false;
        } else if (fraction) {
            scale /= 10;
            ns += scale * (uint64_t)(c - '0');
        } else {
            seconds = seconds * 10 + (uint64_t)(c - '0');
            if (seconds > AFTER_SECONDS_MAX) {
                return false;
            }
        }
    }
    *ret_ns = seconds * MR_SECOND + ns;
    return value.size > 0;
}

static bool read_duration(struct mr_bytes text, uint64_t *ret_ns)
{
    char copy[32];
    if (text.size == 0 || text.size >= sizeof(copy)) {
        return false;
    }
    memcpy(copy, text.data, text.size);
    copy[text.size] = '\0';
    return mr_parse_duration(copy, ret_ns) && *ret_ns <= AFTER_SECONDS_MAX * MR_SECOND;
}

static void set_after(struct mr_frame *frame, struct mr_bytes value)
{
    struct mr_bytes text;
    if (is_null(value)) {
        return;
    }
    frame->has_after = inside_quotes(value, &text) ? read_duration(text, &frame->after_ns)
                                                   : read_seconds(value, &frame->after_ns);
    if (!frame->has_after) {
        frame->fault = "`after` is neither a number of seconds nor a duration like \"90s\"";
    }
}

static void set_features(struct mr_frame *frame, struct mr_bytes value)
{
    static const struct {
        const char *name;
        unsigned bit;
    } known[] = {{"\"cancel\"", MR_FRAME_CANCEL},
                 {"\"progress\"", MR_FRAME_PROGRESS},
                 {"\"raw\"", MR_FRAME_RAW},
                 {"\"batch\"", MR_FRAME_BATCHES}};
    size_t position = 0;
    struct mr_bytes item;
    while (mr_frame_next_item(value, &position, &item)) {
        for (size_t i = 0; i < MR_ARRAY_COUNT(known); i++) {
            if (mr_bytes_equal(item, mr_bytes_of(known[i].name))) {
                frame->features |= known[i].bit;
            }
        }
    }
}

enum member {
    MEMBER_NONE = 0,
    MEMBER_DELIVERY,
    MEMBER_HEARTBEAT,
    MEMBER_VERDICT,
    MEMBER_ERROR,
    MEMBER_AFTER,
    MEMBER_EVENTS,
    MEMBER_DATA,
    MEMBER_PROGRESS,
    MEMBER_MILLRACE,
    MEMBER_MAX,
    MEMBER_VERSION,
    MEMBER_FEATURES,
    MEMBER_BATCH,
};

static enum member find_member(struct mr_bytes key)
{
    static const struct {
        struct mr_bytes name;
        enum member member;
    } members[] = {
        {{(const uint8_t *)"delivery", 8}, MEMBER_DELIVERY},
        {{(const uint8_t *)"verdict", 7}, MEMBER_VERDICT},
        {{(const uint8_t *)"heartbeat", 9}, MEMBER_HEARTBEAT},
        {{(const uint8_t *)"error", 5}, MEMBER_ERROR},
        {{(const uint8_t *)"after", 5}, MEMBER_AFTER},
        {{(const uint8_t *)"events", 6}, MEMBER_EVENTS},
        {{(const uint8_t *)"data", 4}, MEMBER_DATA},
        {{(const uint8_t *)"progress", 8}, MEMBER_PROGRESS},
        {{(const uint8_t *)"millrace", 8}, MEMBER_MILLRACE},
        {{(const uint8_t *)"max", 3}, MEMBER_MAX},
        {{(const uint8_t *)"version", 7}, MEMBER_VERSION},
        {{(const uint8_t *)"features", 8}, MEMBER_FEATURES},
        {{(const uint8_t *)"batch", 5}, MEMBER_BATCH},
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(members); i++) {
        if (mr_bytes_equal(key, members[i].name)) {
            return members[i].member;
        }
    }
    return MEMBER_NONE;
}

/* @return NULL, or what is wrong with the frame as a whole */
static const char *set_member(struct mr_frame *frame, enum member member, struct mr_bytes value)
{
    switch (member) {
    case MEMBER_NONE:
        return NULL;
    case MEMBER_DELIVERY:
        frame->type = MR_FRAME_ANSWER;
        return inside_quotes(value, &frame->delivery) ? NULL : "`delivery` is no string";
    case MEMBER_HEARTBEAT:
        frame->type = MR_FRAME_HEARTBEAT;
        return inside_quotes(value, &frame->delivery) ? NULL : "`heartbeat` is no string";
    case MEMBER_MILLRACE:
        frame->type = MR_FRAME_HELLO;
        return mr_parse_u64(value, &frame->protocol) ? NULL : "`millrace` is no version number";
    case MEMBER_BATCH:
        /* Beside the delivery that it answers it means nothing. */
        frame->type = frame->type == MR_FRAME_UNKNOWN ? MR_FRAME_BATCH : frame->type;
        return mr_parse_u64(value, &frame->batch) ? NULL : "`batch` is no number";
    case MEMBER_MAX:
        /* Of another frame it means nothing to us. */
        if (!is_null(value) && (!mr_parse_u64(value, &frame->max) || frame->max == 0)) {
            frame->fault = "`max` is no positive number";
        }
        return NULL;
    case MEMBER_VERSION:
        if (!inside_quotes(value, &frame->version)) {
            frame->version = value; /* a number is as good */
        }
        return NULL;
    case MEMBER_FEATURES:
        set_features(frame, value);
        return NULL;
    case MEMBER_VERDICT:
        if (!inside_quotes(value, &frame->verdict)) {
            frame->fault = "`verdict` is no string";
        }
        return NULL;
    case MEMBER_ERROR:
        if (!is_null(value) && !inside_quotes(value, &frame->error)) {
            frame->error = value; /* shown as it is */
        }
        return NULL;
    case MEMBER_AFTER:
        set_after(frame, value);
        return NULL;
    case MEMBER_EVENTS:
        if (value.data[0] == '[') {
            frame->events = value;
        } else if (!is_null(value)) {
            frame->fault = "`events` is no array";
        }
        return NULL;
    case MEMBER_DATA:
        frame->data = value;
        return NULL;
    case MEMBER_PROGRESS:
        frame->progress = value;
        return NULL;
    }
    return NULL;
}

enum mr_status mr_frame_parse(struct mr_bytes line, struct mr_frame *ret_frame,
                              struct mr_problem *problem)
{
    struct scan s = {line.data, line.data + line.size};
    struct mr_frame frame = {.type = MR_FRAME_UNKNOWN};
    if (line.size == 0 || !take_byte(&s, '{')) {
        return mr_problem_set(problem, MR_E_INVALID, "not a JSON object");
    }
    bool more = !take_byte(&s, '}');
    while (more) {
        struct mr_bytes key;
        struct mr_bytes value;
        if (!take_string(&s, &key) || !take_byte(&s, ':') || !take_value(&s, &value)) {
            return mr_problem_set(problem, MR_E_INVALID, "broken JSON at byte %zu",
                                  (size_t)(s.at - line.data));
        }
        const char *wrong = set_member(&frame, find_member(key), value);
        if (wrong != NULL) {
            return mr_problem_set(problem, MR_E_INVALID, "%s", wrong);
        }
        more = take_byte(&s, ',');
        if (!more && !take_byte(&s, '}')) {
            return mr_problem_set(problem, MR_E_INVALID, "broken JSON at byte %zu",
                                  (size_t)(s.at - line.data));
        }
    }
    skip_space(&s);
    if (s.at != s.end) {
        return mr_problem_set(problem, MR_E_INVALID, "more than one JSON value on a line");
    }
    if (frame.type == MR_FRAME_HELLO && frame.fault != NULL) {
        return mr_problem_set(problem, MR_E_INVALID, "%s", frame.fault);
    }
    *ret_frame = frame;
    return MR_OK;
}

bool mr_frame_next_item(struct mr_bytes events, size_t *position, struct mr_bytes *ret_item)
{
    size_t before = *position;
    *position = 0;
    bool first = before == 0;
    if (events.size == 0) {
        return false;
    }
    struct scan s = {events.data + before, events.data + events.size};
    if (first && !take_byte(&s, '[')) {
        return false;
    }
    if (take_byte(&s, ']')) {
        *position = first ? events.size : before;
        return false;
    }
    if ((!first && !take_byte(&s, ',')) || !take_value(&s, ret_item)) {
        return false;
    }
    *position = (size_t)(s.at - events.data);
    return true;
}

static bool read_hex4(struct mr_bytes raw, size_t at, uint32_t *ret)
{
    uint32_t v = 0;
    if (at + 4 > raw.size) {
        return false;
    }
    for (size_t i = at; i < at + 4; i++) {
        uint8_t c = raw.data[i];
        uint32_t digit = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                         : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
                         : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10)
                                                : 16;
        if (digit == 16) {
            return false;
        }
        v = v << 4 | digit;
    }
    *ret = v;
    return true;
}

static size_t put_utf8(char *to, uint32_t c)
{
    if (c < 0x80) {
        to[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        to[0] = (char)(0xC0 | c >> 6);
        to[1] = (char)(0x80 | (c & 63));
        return 2;
    }
    if (c < 0x10000) {
        to[0] = (char)(0xE0 | c >> 12);
        to[1] = (char)(0x80 | (c >> 6 & 63));
        to[2] = (char)(0x80 | (c & 63));
        return 3;
    }
    to[0] = (char)(0xF0 | c >> 18);
    to[1] = (char)(0x80 | (c >> 12 & 63));
    to[2] = (char)(0x80 | (c >> 6 & 63));
    to[3] = (char)(0x80 | (c & 63));
    return 4;
}

/* One escape; *at is on its backslash and ends behind it. */
static size_t decode_escape(struct mr_bytes raw, size_t *at, char to[4])
{
    static const char from_set[] = "bfnrt";
    static const char to_set[] = "\b\f\n\r\t";
    uint8_t c = *at + 1 < raw.size ? raw.data[*at + 1] : '\\';
    size_t i = *at;
    *at += 2;
    uint32_t code;
    if (c != 'u' || !read_hex4(raw, i + 2, &code)) {
        const char *simple = c == 0 ? NULL : strchr(from_set, c);
        to[0] = simple == NULL ? (char)c : to_set[simple - from_set];
        return 1;
    }
    *at += 4;
    uint32_t low;
    if (code >= 0xD800 && code < 0xDC00 && i + 7 < raw.size && raw.data[i + 6] == '\\' &&
        raw.data[i + 7] == 'u' && read_hex4(raw, i + 8, &low) && low >= 0xDC00 && low < 0xE000) {
        *at += 6;
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    } else if (code >= 0xD800 && code < 0xE000) {
        code = 0xFFFD;
    }
    return put_utf8(to, code);
}

struct mr_bytes mr_frame_text(struct mr_bytes raw, char *to, size_t size)
{
    if (raw.size == 0 || memchr(raw.data, '\\', raw.size) == NULL) {
        return raw;
    }
    size_t n = 0;
    size_t i = 0;
    while (i < raw.size) {
        char piece[4];
        size_t piece_size = 1;
        if (raw.data[i] == '\\') {
            piece_size = decode_escape(raw, &i, piece);
        } else {
            piece[0] = (char)raw.data[i++];
        }
        if (n + piece_size > size) {
            break;
        }
        memcpy(to + n, piece, piece_size);
        n += piece_size;
    }
    return mr_bytes(to, n);
}
