#include "schemas/message.h"

#include "core/alloc.h"
#include "core/assert.h"
#include "core/limits.h"
#include "schemas/builder.h"
#include "schemas/json_format.h"

/* Room for the text of a message: attributes, each byte percent-encoded, each with its prefix. */
#define MESSAGE_TEXT_MAX (4u * MR_EVENT_ATTRS_SIZE_MAX + 4096u)
/* Room for a structured body: every byte of text as \u00xx, or base64, plus the envelope. */
#define MESSAGE_BODY_MAX (6u * MR_EVENT_SIZE_MAX + 4096u)

void mr_events_release(struct mr_events *events)
{
    for (uint32_t i = 0; i < events->count; i++) {
        mr_event_unref(events->events[i]);
    }
    mr_free(events->events);
    *events = (struct mr_events){0};
}

void mr_message_init(struct mr_message *message)
{
    *message = (struct mr_message){0};
    mr_buf_init(&message->text, MESSAGE_TEXT_MAX);
    mr_buf_init(&message->body, MESSAGE_BODY_MAX);
}

void mr_message_release(struct mr_message *message)
{
    mr_buf_release(&message->text);
    mr_buf_release(&message->body);
    mr_free(message->fields);
    mr_message_init(message);
}

enum mr_status mr__events_of_one(struct mr_event *event, struct mr_events *ret_events,
                                 struct mr_problem *problem)
{
    struct mr_event **events = mr_alloc(sizeof(struct mr_event *));
    if (events == NULL) {
        mr_event_unref(event);
        return mr_problem_set(problem, MR_E_NOMEM, "out of memory");
    }
    events[0] = event;
    *ret_events = (struct mr_events){events, 1};
    return MR_OK;
}

static const char *const required_names[] = {"specversion", "id", "source", "type"};

unsigned mr__required_bit(struct mr_bytes name)
{
    for (unsigned i = 0; i < MR_ARRAY_COUNT(required_names); i++) {
        if (mr_bytes_equal(name, mr_bytes_of(required_names[i]))) {
            return 1u << i;
        }
    }
    return 0;
}

const char *mr__required_missing(unsigned seen)
{
    for (unsigned i = 0; i < MR_ARRAY_COUNT(required_names); i++) {
        if ((seen & 1u << i) == 0) {
            return required_names[i];
        }
    }
    return "";
}

enum mr_status mr__events_of_json(enum mr__format format, struct mr_bytes body, size_t size_max,
                                  struct mr_events *ret_events, struct mr_problem *problem)
{
    if (format == MR__FORMAT_BATCH) {
        struct mr_events events = {0};
        enum mr_status r = mr_json_decode_batch(body, size_max, MR_BATCH_EVENTS_MAX,
                                                &events.events, &events.count, problem);
        if (r == MR_OK) {
            *ret_events = events;
        }
        return r;
    }
    struct mr_event *event;
    enum mr_status r = mr_json_decode_event(body, size_max, &event, problem);
    return r == MR_OK ? mr__events_of_one(event, ret_events, problem) : r;
}

enum mr_status mr__binary_end(struct mr_event_builder *builder, enum mr_status so_far,
                              struct mr_bytes content_type, struct mr_bytes body, bool has_body,
                              struct mr_event **ret_event, struct mr_problem *problem)
{
    enum mr_status r = so_far;
    if (r == MR_OK && content_type.size > 0) {
        r = mr_event_builder_attr(builder, MR_BYTES_LITERAL("datacontenttype"), MR_ATTR_STRING,
                                  content_type, problem);
    }
    if (r == MR_OK && has_body) {
        mr_event_builder_data(builder, body, mr__builder_untyped(builder));
    }
    if (r == MR_OK) {
        r = mr_event_builder_finish(builder, false, ret_event, problem);
    }
    mr_event_builder_release(builder);
    return r;
}

enum mr_status mr__raw_source(struct mr_buf *out, const char *kind, struct mr_bytes source_name,
                              struct mr_bytes place, struct mr_problem *problem)
{
    const uint8_t *slash =
        source_name.size == 0 ? NULL : memchr(source_name.data, '/', source_name.size);
    size_t size = slash == NULL ? source_name.size : (size_t)(slash - source_name.data);
    struct mr_bytes name = slash == NULL ? MR_BYTES_LITERAL("src")
                                         : mr_bytes(slash + 1, source_name.size - size - 1);
    enum mr_status r = mr_buf_append_text(out, "/apis/v1/namespaces/");
    if (r == MR_OK) {
        r = mr__text_append_path(out, mr_bytes(source_name.data, size));
    }
    if (r == MR_OK) {
        r = mr_buf_printf(out, "/%s/", kind);
    }
    if (r == MR_OK) {
        r = mr__text_append_path(out, name);
    }
    if (r == MR_OK && place.size > 0) {
        r = mr_buf_append_byte(out, '#');
    }
    if (r == MR_OK) {
        r = mr__text_append_path(out, place);
    }
    return r == MR_OK ? r
                      : mr_problem_set(problem, r, "the source of a wrapped message: %s",
                                       mr_status_text(r));
}

bool mr__may_be_event(struct mr_bytes text)
{
    /* A name can be written with escapes, so that a backslash leaves it open. */
    static const char name[] = "specversion";
    return text.size > 0 && (memmem(text.data, text.size, name, sizeof(name) - 1) != NULL ||
                             memchr(text.data, '\\', text.size) != NULL);
}

static void set_raw_data(struct mr_event_builder *builder, struct mr_bytes body)
{
    if (!mr__builder_untyped(builder)) {
        mr_event_builder_data(builder, body, false);
        return;
    }
    struct mr_bytes text = body;
    while (text.size > 0 && text.data[0] <= ' ' && text.data[0] != 0) {
        text = mr_bytes(text.data + 1, text.size - 1);
    }
    bool json = text.size > 0 && (text.data[0] == '{' || text.data[0] == '[') &&
                mr_json_is_value(body);
    mr_event_builder_data(builder, body, !json);
    builder->flags |= json ? MR_EVENT_DATA_JSON : 0; /* so that nobody looks again */
}

enum mr_status mr__raw_end(struct mr_event_builder *builder, enum mr_status so_far,
                           struct mr_bytes body, bool has_body, struct mr_event **ret_event,
                           struct mr_problem *problem)
{
    enum mr_status r = so_far;
    if (r == MR_OK && has_body) {
        set_raw_data(builder, body);
    }
    if (r == MR_OK) {
        r = mr_event_builder_finish(builder, true, ret_event, problem);
    }
    mr_event_builder_release(builder);
    return r;
}

bool mr__time_of_ms(int64_t ms, char text[MR_TIME_TEXT_SIZE])
{
    if (ms < 0 || (uint64_t)ms > UINT64_MAX / MR_MS) {
        return false;
    }
    (void)mr_time_format((uint64_t)ms * MR_MS, text); /* returns its argument */
    return true;
}

enum mr_status mr__message_reserve(struct mr_message *message, struct mr_bytes record,
                                   size_t prefix_size)
{
    MR_ASSERT(message->fields == NULL);
    MR_ASSERT(message->text.size == 0);
    size_t text_size = 64 + prefix_size;
    size_t count = 1;
    uint32_t position = 0;
    struct mr_attr attr;
    while (mr_event_next_attr(record, &position, &attr)) {
        text_size += prefix_size + attr.name.size + 3 * attr.value.size + 2;
        count++;
    }
    enum mr_status r = mr_buf_reserve(&message->text, text_size);
    if (r != MR_OK) {
        return r;
    }
    message->fields = mr_calloc(count, sizeof(*message->fields));
    return message->fields == NULL ? MR_E_NOMEM : MR_OK;
}

static void put(struct mr_buf *text, const void *data, size_t size)
{
    MR_ASSERT(size <= text->capacity - text->size);
    if (size > 0) {
        memcpy(text->data + text->size, data, size);
        text->size += size;
    }
}

/* Percent-encodes what an HTTP header value cannot hold (digest 3.3). */
static void put_percent(struct mr_buf *text, struct mr_bytes value)
{
    static const char digits[] = "0123456789ABCDEF";
    MR_ASSERT(value.size * 3 <= text->capacity - text->size);
    uint8_t *to = text->data + text->size;
    for (size_t i = 0; i < value.size; i++) {
        uint8_t c = value.data[i];
        if (c > 0x20 && c < 0x7F && c != '"' && c != '%') {
            *to++ = c;
        } else {
            *to++ = '%';
            *to++ = (uint8_t)digits[c >> 4];
            *to++ = (uint8_t)digits[c & 15];
        }
    }
    text->size = (size_t)(to - text->data);
}

void mr__message_add(struct mr_message *message, const char *prefix, struct mr_bytes name,
                     struct mr_bytes value, bool percent)
{
    struct mr_buf *text = &message->text;
    size_t name_at = text->size;
    put(text, prefix, strlen(prefix));
    put(text, name.data, name.size);
    size_t name_size = text->size - name_at;
    put(text, "", 1);
    size_t value_at = text->size;
    if (percent) {
        put_percent(text, value);
    } else {
        put(text, value.data, value.size);
    }
    size_t value_size = text->size - value_at;
    put(text, "", 1);
    /* The text was reserved whole, so the slices stay where they are. */
    message->fields[message->field_count++] =
        (struct mr_field){mr_bytes(text->data + name_at, name_size),
                          mr_bytes(text->data + value_at, value_size)};
}

enum mr_status mr__message_content_type(struct mr_message *message, struct mr_bytes value)
{
    enum mr_status r = mr_buf_reserve(&message->text, value.size + 1);
    if (r != MR_OK) {
        return r;
    }
    size_t at = message->text.size;
    put(&message->text, value.data, value.size);
    put(&message->text, "", 1);
    message->content_type = mr_bytes(message->text.data + at, value.size);
    return MR_OK;
}

enum mr_status mr__message_binary(struct mr_message *message, struct mr_bytes record,
                                  const char *prefix, bool percent)
{
    if (mr__format_of(mr_event_value(record, "datacontenttype")) != MR__FORMAT_NONE) {
        return mr__message_structured(message, record, false);
    }
    enum mr_status r = mr__message_reserve(message, record, strlen(prefix));
    if (r != MR_OK) {
        return r;
    }
    mr__message_add(message, prefix, MR_BYTES_LITERAL("specversion"), MR_BYTES_LITERAL("1.0"),
                    false);
    struct mr_bytes content_type = {0};
    uint32_t position = 0;
    struct mr_attr attr;
    while (mr_event_next_attr(record, &position, &attr)) {
        if (mr_bytes_equal(attr.name, MR_BYTES_LITERAL("datacontenttype"))) {
            content_type = attr.value;
        } else {
            mr__message_add(message, prefix, attr.name, attr.value, percent);
        }
    }
    if (content_type.size == 0 && mr_event_data_is_json(record)) {
        content_type = MR_BYTES_LITERAL("application/json"); /* implied only in the JSON format */
    }
    if (content_type.size > 0) {
        r = mr__message_content_type(message, content_type);
    }
    message->has_body = mr_event_has_data(record);
    if (r == MR_OK) {
        r = mr_buf_append_bytes(&message->body, mr_event_data(record));
    }
    return r;
}

enum mr_status mr__message_structured(struct mr_message *message, struct mr_bytes record,
                                      bool batch)
{
    MR_ASSERT(message->fields == NULL);
    enum mr_status r = mr__message_content_type(
        message, batch ? MR_BYTES_LITERAL("application/cloudevents-batch+json")
                       : MR_BYTES_LITERAL("application/cloudevents+json"));
    if (r == MR_OK && batch) {
        r = mr_buf_append_byte(&message->body, '[');
    }
    if (r == MR_OK) {
        r = mr_json_encode_exact(record, &message->body);
    }
    if (r == MR_OK && batch) {
        r = mr_buf_append_byte(&message->body, ']');
    }
    message->has_body = true;
    return r;
}

enum mr__format mr__format_of(struct mr_bytes content_type)
{
    struct mr_bytes type = mr__text_media_type(content_type);
    struct mr_bytes event = MR_BYTES_LITERAL("application/cloudevents");
    if (!mr__text_starts_nocase(type, event)) {
        return MR__FORMAT_NONE;
    }
    /* Batch first: the one prefix begins with the other. */
    struct mr_bytes rest = mr_bytes(type.data + event.size, type.size - event.size);
    bool batch = mr__text_starts_nocase(rest, MR_BYTES_LITERAL("-batch"));
    if (batch) {
        rest = mr_bytes(rest.data + 6, rest.size - 6);
    }
    if (!mr_bytes_equal_nocase(rest, MR_BYTES_LITERAL("+json"))) {
        return MR__FORMAT_UNKNOWN;
    }
    return batch ? MR__FORMAT_BATCH : MR__FORMAT_EVENT;
}

enum mr_status mr__format_refused(struct mr_bytes content_type, struct mr_problem *problem)
{
    return mr_problem_set(problem, MR_E_UNSUPPORTED,
                          "the event format %.*s is not supported, only "
                          "application/cloudevents+json and application/cloudevents-batch+json",
                          content_type.size < 100 ? (int)content_type.size : 100,
                          (const char *)content_type.data);
}
