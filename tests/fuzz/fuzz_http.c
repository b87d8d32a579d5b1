/* Fuzz target: the HTTP binding. The input is header lines up to an empty line, then the body. What
 * is accepted goes out again in both modes and comes back as the same event. */
#include "core/assert.h"
#include "core/limits.h"
#include "schemas/binding.h"
#include "schemas/json_format.h"

#define HEADERS_MAX 40

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Takes one line off @p text. @return false at the empty line, which is taken too */
static bool take_line(struct mr_bytes *text, struct mr_bytes *ret_line)
{
    const uint8_t *end = text->size == 0 ? NULL : memchr(text->data, '\n', text->size);
    size_t size = end == NULL ? text->size : (size_t)(end - text->data);
    size_t used = size + (end != NULL);
    *ret_line = mr_bytes(text->data, size);
    *text = mr_bytes(text->data + used, text->size - used);
    return size > 0;
}

static uint32_t split(struct mr_bytes *text, struct mr_field headers[HEADERS_MAX])
{
    uint32_t count = 0;
    struct mr_bytes line;
    while (take_line(text, &line) && count < HEADERS_MAX) {
        const uint8_t *colon = memchr(line.data, ':', line.size);
        size_t name_size = colon == NULL ? line.size : (size_t)(colon - line.data);
        size_t skip = name_size + (colon != NULL);
        headers[count++] =
            (struct mr_field){mr_bytes(line.data, name_size),
                              mr_bytes(line.data + skip, line.size - skip)};
    }
    return count;
}

/* JSON data without the white space around it, which the JSON format does not keep. */
static struct mr_bytes data_of(struct mr_bytes record)
{
    struct mr_bytes data = mr_event_data(record);
    while (mr_event_data_is_json(record) && data.data[0] <= ' ') {
        data = mr_bytes(data.data + 1, data.size - 1);
    }
    while (mr_event_data_is_json(record) && data.data[data.size - 1] <= ' ') {
        data.size--;
    }
    return data;
}

/* Attributes may change type, as headers have none, and an implied type becomes explicit. */
static void check_same(struct mr_bytes a, struct mr_bytes b)
{
    uint32_t position = 0;
    struct mr_attr attr;
    while (mr_event_next_attr(a, &position, &attr)) {
        struct mr_attr other = {0};
        bool found = mr_event_attr(b, attr.name, &other);
        MR_ASSERT(found);
        MR_ASSERT(mr_bytes_equal(attr.value, other.value));
    }
    MR_ASSERT(mr_event_has_data(a) == mr_event_has_data(b) || mr_event_data(a).size == 0);
    MR_ASSERT(mr_bytes_equal(data_of(a), data_of(b)));
}

static void check_round_trip(const struct mr_event *event, enum mr_mode mode)
{
    struct mr_bytes record = mr_event_record(event);
    struct mr_message message;
    mr_message_init(&message);
    enum mr_status r = mr_http_encode(record, mode, &message);
    MR_ASSERT(r == MR_OK);
    struct mr_field fields[MR_EVENT_ATTRS_MAX + 2];
    MR_ASSERT(message.field_count < MR_EVENT_ATTRS_MAX + 2);
    if (message.field_count > 0) {
        memcpy(fields, message.fields, message.field_count * sizeof(fields[0]));
    }
    uint32_t count = message.field_count;
    if (message.content_type.size > 0) {
        fields[count++] = (struct mr_field){MR_BYTES_LITERAL("Content-Type"),
                                            message.content_type};
    }
    struct mr_events events = {0};
    bool unknown;
    struct mr_problem problem = {0};
    r = mr_http_decode(fields, count, mr_buf_bytes(&message.body), MR_EVENT_SIZE_MAX, &events,
                       &unknown, &problem);
    MR_ASSERT(r == MR_OK || (r == MR_E_TOO_BIG && mode == MR_MODE_BINARY));
    if (r == MR_OK) {
        MR_ASSERT(events.count == 1);
        check_same(record, mr_event_record(events.events[0]));
    }
    mr_events_release(&events);
    mr_message_release(&message);
}

/* An event whose datacontenttype names a structured mode cannot go out in binary mode. */
static bool can_be_binary(struct mr_bytes record)
{
    struct mr_bytes type = mr_event_value(record, "datacontenttype");
    struct mr_bytes prefix = MR_BYTES_LITERAL("application/cloudevents");
    return type.size < prefix.size ||
           !mr_bytes_equal_nocase(mr_bytes(type.data, prefix.size), prefix);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mr_bytes body = mr_bytes(data, size);
    struct mr_field headers[HEADERS_MAX];
    uint32_t count = split(&body, headers);
    struct mr_events events = {0};
    struct mr_problem problem = {0};
    bool unknown = false;
    enum mr_status r = mr_http_decode(headers, count, body, MR_EVENT_SIZE_MAX, &events, &unknown,
                                      &problem);
    MR_ASSERT(r == MR_OK || events.count == 0);
    MR_ASSERT(r == MR_OK || problem.text[0] != '\0');
    MR_ASSERT(!unknown || r == MR_E_UNSUPPORTED);
    for (uint32_t i = 0; i < events.count; i++) {
        MR_ASSERT(mr_event_check(mr_event_record(events.events[i])) == MR_OK);
        check_round_trip(events.events[i], MR_MODE_STRUCTURED);
        check_round_trip(events.events[i], MR_MODE_BATCH);
        if (can_be_binary(mr_event_record(events.events[i]))) {
            check_round_trip(events.events[i], MR_MODE_BINARY);
        }
    }
    mr_events_release(&events);
    return 0;
}
