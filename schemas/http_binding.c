#include "core/assert.h"
#include "core/limits.h"
#include "schemas/builder.h"
#include "schemas/json_format.h"
#include "schemas/json_scan.h"
#include "schemas/message.h"

/* The attribute name in @p header, lower-cased into @p to. @return its size; 0: no ce- header, or
 * one that cannot name an attribute (ce-my-ext, ce-data) and is therefore dropped */
static size_t attr_name(struct mr_bytes header, uint8_t to[MR_ATTR_NAME_SIZE_MAX + 1])
{
    if (!mr__text_starts_nocase(header, MR_BYTES_LITERAL("ce-"))) {
        return 0;
    }
    /* One byte over the limit is kept, so that the builder refuses the name. */
    size_t size = header.size - 3;
    size = size > MR_ATTR_NAME_SIZE_MAX ? MR_ATTR_NAME_SIZE_MAX + 1 : size;
    for (size_t i = 0; i < size; i++) {
        uint8_t c = header.data[3 + i];
        to[i] = c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
    }
    return mr__text_is_name(mr_bytes(to, size)) ? size : 0;
}

static unsigned required_seen(const struct mr_field *headers, uint32_t header_count)
{
    unsigned seen = 0;
    for (uint32_t i = 0; i < header_count; i++) {
        uint8_t name[MR_ATTR_NAME_SIZE_MAX + 1];
        size_t size = attr_name(headers[i].name, name);
        seen |= mr__required_bit(mr_bytes(name, size));
    }
    return seen;
}

/* Whether @p value is one quoted-string (RFC 7230 3.2.6) from its first byte to its last. */
static bool is_quoted(struct mr_bytes value)
{
    if (value.size < 2 || value.data[0] != '"' || value.data[value.size - 1] != '"') {
        return false;
    }
    size_t i = 1;
    while (i < value.size - 1) {
        if (value.data[i] == '"') {
            return false;
        }
        i += value.data[i] == '\\' ? 2 : 1;
    }
    return i == value.size - 1;
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* A header's value as the attribute's (digest 3.3): unquoted, then percent-decoded once. Plain
 * values are not copied. @return MR_E_INVALID: a % without two hexadecimal digits */
static enum mr_status decode_value(struct mr_bytes value, struct mr_buf *scratch,
                                   struct mr_bytes *ret_value)
{
    value = mr_bytes_trim(value);
    bool quoted = is_quoted(value);
    if (!quoted && (value.size == 0 || memchr(value.data, '%', value.size) == NULL)) {
        *ret_value = value;
        return MR_OK;
    }
    mr_buf_clear(scratch);
    enum mr_status r = mr_buf_reserve(scratch, value.size);
    if (r != MR_OK) {
        return r;
    }
    if (quoted) {
        for (size_t i = 1; i < value.size - 1; i++) {
            i += value.data[i] == '\\';
            scratch->data[scratch->size++] = value.data[i];
        }
        value = mr_buf_bytes(scratch);
    }
    /* Decoding in place: what is written never overtakes what is read. */
    size_t n = 0;
    for (size_t i = 0; i < value.size; i++) {
        uint8_t c = value.data[i];
        if (c == '%') {
            int high = value.size - i > 2 ? hex_digit(value.data[i + 1]) : -1;
            int low = value.size - i > 2 ? hex_digit(value.data[i + 2]) : -1;
            if (high < 0 || low < 0) {
                return MR_E_INVALID;
            }
            c = (uint8_t)(high << 4 | low);
            i += 2;
        }
        scratch->data[n++] = c;
    }
    scratch->size = n;
    *ret_value = mr_buf_bytes(scratch);
    return MR_OK;
}

static enum mr_status add_header(struct mr_event_builder *builder, const struct mr_field *header,
                                 bool typed, struct mr_buf *scratch, struct mr_problem *problem)
{
    uint8_t text[MR_ATTR_NAME_SIZE_MAX + 1];
    struct mr_bytes name = mr_bytes(text, attr_name(header->name, text));
    if (name.size == 0 ||
        (typed && mr_bytes_equal(name, MR_BYTES_LITERAL("datacontenttype")))) {
        return MR_OK; /* the Content-Type is the authority */
    }
    struct mr_bytes value;
    enum mr_status r = decode_value(header->value, scratch, &value);
    if (r != MR_OK) {
        return mr_problem_set(problem, r,
                              r == MR_E_INVALID   ? "the header ce-%.*s holds a stray %%"
                              : r == MR_E_TOO_BIG ? "the header ce-%.*s is too long"
                                                  : "out of memory at the header ce-%.*s",
                              (int)name.size, (const char *)name.data);
    }
    return mr_event_builder_attr(builder, name, MR_ATTR_STRING, value, problem);
}

static enum mr_status decode_binary(const struct mr_field *headers, uint32_t header_count,
                                    struct mr_bytes content_type, struct mr_bytes body,
                                    size_t size_max, struct mr_events *ret_events,
                                    struct mr_problem *problem)
{
    struct mr_event_builder builder;
    struct mr_buf scratch;
    mr_event_builder_init(&builder, size_max);
    mr_buf_init(&scratch, 3u * MR_EVENT_ATTRS_SIZE_MAX);
    enum mr_status r = MR_OK;
    for (uint32_t i = 0; r == MR_OK && i < header_count; i++) {
        r = add_header(&builder, &headers[i], content_type.size > 0, &scratch, problem);
    }
    struct mr_event *event = NULL;
    r = mr__binary_end(&builder, r, content_type, body, body.size > 0, &event, problem);
    mr_buf_release(&scratch);
    return r == MR_OK ? mr__events_of_one(event, ret_events, problem) : r;
}

/* The one Content-Type, trimmed; empty when there is none. */
static enum mr_status find_content_type(const struct mr_field *headers, uint32_t header_count,
                                        struct mr_bytes *ret_value, struct mr_problem *problem)
{
    struct mr_bytes value = {0};
    bool seen = false;
    for (uint32_t i = 0; i < header_count; i++) {
        if (!mr_bytes_equal_nocase(headers[i].name, MR_BYTES_LITERAL("content-type"))) {
            continue;
        }
        if (seen) {
            return mr_problem_set(problem, MR_E_INVALID, "the header Content-Type is there twice");
        }
        seen = true;
        value = mr_bytes_trim(headers[i].value);
    }
    *ret_value = value;
    return MR_OK;
}

enum mr_status mr_http_decode(const struct mr_field *headers, uint32_t header_count,
                              struct mr_bytes body, size_t size_max, struct mr_events *ret_events,
                              bool *ret_format_unknown, struct mr_problem *problem)
{
    *ret_format_unknown = false;
    struct mr_bytes content_type;
    enum mr_status r = find_content_type(headers, header_count, &content_type, problem);
    if (r != MR_OK) {
        return r;
    }
    enum mr__format format = mr__format_of(content_type);
    if (format == MR__FORMAT_EVENT || format == MR__FORMAT_BATCH) {
        return mr__events_of_json(format, body, size_max, ret_events, problem);
    }
    unsigned seen = required_seen(headers, header_count);
    if (seen == MR__REQUIRED_ALL) {
        return decode_binary(headers, header_count, content_type, body, size_max, ret_events,
                             problem);
    }
    if (format == MR__FORMAT_UNKNOWN) {
        *ret_format_unknown = true;
        return mr__format_refused(content_type, problem);
    }
    return mr_problem_set(problem, MR_E_NOT_CLOUDEVENT,
                          "not a CloudEvent: the header ce-%s is missing",
                          mr__required_missing(seen));
}

enum mr_status mr_http_encode(struct mr_bytes record, enum mr_mode mode,
                              struct mr_message *message)
{
    if (mode == MR_MODE_BINARY) {
        return mr__message_binary(message, record, "ce-", true);
    }
    return mr__message_structured(message, record, mode == MR_MODE_BATCH);
}

enum mr_status mr_http_encode_more(struct mr_bytes record, struct mr_message *message)
{
    struct mr_buf *body = &message->body;
    MR_ASSERT(body->size > 0 && body->data[body->size - 1] == ']');
    body->data[body->size - 1] = ',';
    enum mr_status r = mr_json_encode_exact(record, body);
    return r == MR_OK ? mr_buf_append_byte(body, ']') : r;
}

enum mr_status mr_nats_decode(const struct mr_field *headers, uint32_t header_count,
                              struct mr_bytes payload, size_t size_max,
                              struct mr_events *ret_events, struct mr_problem *problem)
{
    struct mr_bytes content_type;
    struct mr_bytes version;
    enum mr_status r = find_content_type(headers, header_count, &content_type, problem);
    if (r != MR_OK) {
        return r;
    }
    enum mr__format format = mr__format_of(content_type);
    unsigned seen = required_seen(headers, header_count);
    if (format == MR__FORMAT_NONE && seen == 0 && mr__json_find(payload, "specversion", &version)) {
        format = MR__FORMAT_EVENT; /* servers before 2.2 have no headers to say so */
    }
    if (format == MR__FORMAT_EVENT || format == MR__FORMAT_BATCH) {
        return mr__events_of_json(format, payload, size_max, ret_events, problem);
    }
    if (seen == MR__REQUIRED_ALL) {
        return decode_binary(headers, header_count, (struct mr_bytes){0}, payload, size_max,
                             ret_events, problem);
    }
    return format == MR__FORMAT_UNKNOWN
               ? mr__format_refused(content_type, problem)
               : mr_problem_set(problem, MR_E_NOT_CLOUDEVENT,
                                "not a CloudEvent: the header ce-%s is missing",
                                mr__required_missing(seen));
}
