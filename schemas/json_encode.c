#include "core/assert.h"
#include "schemas/json_format.h"

/* The first byte of @p text from @p at on that a JSON string cannot hold as it is. The text is
 * UTF-8 by the rules of the record. */
static size_t plain_size(struct mr_bytes text, size_t at)
{
    const uint64_t ones = 0x0101010101010101ull;
    const uint64_t high = ones * 0x80;
    while (text.size - at >= 8) {
        uint64_t word;
        memcpy(&word, text.data + at, sizeof(word));
        uint64_t quote = word ^ (ones * '"');
        uint64_t backslash = word ^ (ones * '\\');
        uint64_t found = ((quote - ones) & ~quote) | ((backslash - ones) & ~backslash) |
                         ((word - ones * 0x20) & ~word);
        if ((found & high) != 0) {
            break;
        }
        at += 8;
    }
    while (at < text.size && text.data[at] >= 0x20 && text.data[at] != '"' &&
           text.data[at] != '\\') {
        at++;
    }
    return at;
}

static enum mr_status append_escape(struct mr_buf *out, uint8_t c)
{
    static const char from[] = "\"\\\b\f\n\r\t";
    static const char to[] = "\"\\bfnrt";
    const char *known = c == 0 ? NULL : memchr(from, c, sizeof(from) - 1);
    if (known == NULL) {
        return mr_buf_printf(out, "\\u%04x", c);
    }
    uint8_t escape[2] = {'\\', (uint8_t)to[known - from]};
    return mr_buf_append(out, escape, sizeof(escape));
}

/* As mr_buf_append_json(), for text known to be UTF-8: copies runs instead of characters. */
static enum mr_status append_string(struct mr_buf *out, struct mr_bytes text)
{
    enum mr_status r = mr_buf_append_byte(out, '"');
    size_t at = 0;
    while (r == MR_OK) {
        size_t next = plain_size(text, at);
        if (next > at) {
            r = mr_buf_append(out, text.data + at, next - at);
        }
        if (r != MR_OK || next == text.size) {
            break;
        }
        r = append_escape(out, text.data[next]);
        at = next + 1;
    }
    return r == MR_OK ? mr_buf_append_byte(out, '"') : r;
}

static enum mr_status append_value(struct mr_buf *out, const struct mr_attr *attr)
{
    switch (attr->type) {
    case MR_ATTR_INTEGER:
    case MR_ATTR_BOOLEAN:
        return mr_buf_append_bytes(out, attr->value);
    case MR_ATTR_STRING:
    case MR_ATTR_BINARY:
    case MR_ATTR_URI:
    case MR_ATTR_URI_REF:
    case MR_ATTR_TIMESTAMP:
    case MR_ATTR_TYPE_MAX:
        break;
    }
    return append_string(out, attr->value);
}

/* ,"name":value */
static enum mr_status append_member(struct mr_buf *out, const struct mr_attr *attr)
{
    enum mr_status r = mr_buf_reserve(out, attr->name.size + 4);
    if (r != MR_OK) {
        return r;
    }
    uint8_t *to = out->data + out->size;
    *to++ = ',';
    *to++ = '"';
    memcpy(to, attr->name.data, attr->name.size);
    to += attr->name.size;
    *to++ = '"';
    *to++ = ':';
    out->size = (size_t)(to - out->data);
    return append_value(out, attr);
}

/* Blanks in the place of every @p c from @p at on: inside the strings of JSON there are none. */
static void blank_all(struct mr_buf *out, size_t at, char c)
{
    uint8_t *next = memchr(out->data + at, c, out->size - at);
    while (next != NULL) {
        *next = ' ';
        at = (size_t)(next - out->data);
        next = memchr(next, c, out->size - at);
    }
}

/* The builder has settled how the data can go out; see settle_flags() there. */
static enum mr_status append_data(struct mr_buf *out, struct mr_bytes record, bool one_line)
{
    struct mr_bytes data = mr_event_data(record);
    unsigned flags = mr_get_u16(record.data + 6);
    if ((flags & MR_EVENT_DATA_BINARY) != 0) {
        enum mr_status r = mr_buf_append_text(out, ",\"data_base64\":\"");
        if (r == MR_OK) {
            r = mr_buf_append_base64(out, data);
        }
        return r == MR_OK ? mr_buf_append_byte(out, '"') : r;
    }
    enum mr_status r = mr_buf_append(out, ",\"data\":", 8);
    if (r != MR_OK) {
        return r;
    }
    if ((flags & MR_EVENT_DATA_JSON) == 0) {
        return append_string(out, data);
    }
    size_t at = out->size;
    r = mr_buf_append_bytes(out, data);
    if (r == MR_OK && one_line) {
        blank_all(out, at, '\n');
        blank_all(out, at, '\r');
    }
    return r;
}

static enum mr_status encode_event(struct mr_bytes record, bool one_line, struct mr_buf *out)
{
    static const char head[] = "{\"specversion\":\"1.0\"";
    MR_ASSERT(record.size >= MR_EVENT_HEADER_SIZE);
    size_t before = out->size;
    /* One allocation for the usual event; when the buffer may not have that much, less may do. */
    enum mr_status r = mr_buf_reserve(out, record.size + record.size / 8 + 128);
    if (r == MR_E_TOO_BIG) {
        r = MR_OK;
    }
    if (r == MR_OK) {
        r = mr_buf_append(out, head, sizeof(head) - 1);
    }
    uint32_t position = 0;
    struct mr_attr attr;
    while (r == MR_OK && mr_event_next_attr(record, &position, &attr)) {
        r = append_member(out, &attr);
    }
    if (r == MR_OK && mr_event_has_data(record)) {
        r = append_data(out, record, one_line);
    }
    if (r == MR_OK) {
        r = mr_buf_append_byte(out, '}');
    }
    if (r != MR_OK) {
        out->size = before;
    }
    return r;
}

enum mr_status mr_json_encode_event(struct mr_bytes record, struct mr_buf *out)
{
    return encode_event(record, true, out);
}

enum mr_status mr_json_encode_exact(struct mr_bytes record, struct mr_buf *out)
{
    return encode_event(record, false, out);
}
