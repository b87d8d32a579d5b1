/* Fuzz target: the MQTT binding. First byte: version and retain; then lines: topic, content type,
 * user properties `name=value` up to an empty line; the rest is the payload. What is no CloudEvent
 * is wrapped; what came out goes out again in both modes. */
#include "core/assert.h"
#include "core/limits.h"
#include "schemas/binding.h"
#include "schemas/json_format.h"

#define PROPERTIES_MAX 40

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool take_line(struct mr_bytes *text, struct mr_bytes *ret_line)
{
    const uint8_t *end = text->size == 0 ? NULL : memchr(text->data, '\n', text->size);
    size_t size = end == NULL ? text->size : (size_t)(end - text->data);
    size_t used = size + (end != NULL);
    *ret_line = mr_bytes(text->data, size);
    *text = mr_bytes(text->data + used, text->size - used);
    return size > 0;
}

static uint32_t split(struct mr_bytes *text, struct mr_field properties[PROPERTIES_MAX])
{
    uint32_t count = 0;
    struct mr_bytes line;
    while (take_line(text, &line) && count < PROPERTIES_MAX) {
        const uint8_t *equals = memchr(line.data, '=', line.size);
        size_t name_size = equals == NULL ? line.size : (size_t)(equals - line.data);
        size_t skip = name_size + (equals != NULL);
        properties[count++] =
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

static struct mr_bytes value_of(struct mr_bytes record, struct mr_bytes name)
{
    struct mr_attr attr = {0};
    bool found = mr_event_attr(record, name, &attr);
    MR_ASSERT(found);
    return attr.value;
}

static void check_round_trip(const struct mr_event *event, int version, enum mr_mode mode)
{
    struct mr_bytes record = mr_event_record(event);
    struct mr_message message;
    mr_message_init(&message);
    enum mr_status r = mr_mqtt_encode(record, version, mode, &message);
    MR_ASSERT(r == MR_OK);
    struct mr_mqtt_message back = {
        .version = version,
        .content_type = message.content_type,
        .user_properties = message.fields,
        .user_property_count = message.field_count,
        .payload = mr_buf_bytes(&message.body),
    };
    struct mr_event *again = NULL;
    struct mr_problem problem = {0};
    r = mr_mqtt_decode(&back, MR_EVENT_SIZE_MAX, &again, &problem);
    MR_ASSERT(r == MR_OK || (r == MR_E_TOO_BIG && mode == MR_MODE_BINARY));
    if (r == MR_OK) {
        struct mr_bytes other = mr_event_record(again);
        uint32_t position = 0;
        struct mr_attr attr;
        while (mr_event_next_attr(record, &position, &attr)) {
            MR_ASSERT(mr_bytes_equal(attr.value, value_of(other, attr.name)));
        }
        MR_ASSERT(mr_bytes_equal(data_of(record), data_of(other)));
    }
    mr_event_unref(again);
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
    if (size == 0) {
        return 0;
    }
    struct mr_bytes rest = mr_bytes(data + 1, size - 1);
    struct mr_mqtt_message message = {.version = (data[0] & 1) != 0 ? 5 : 4,
                                      .retained = (data[0] & 2) != 0};
    struct mr_field properties[PROPERTIES_MAX];
    (void)take_line(&rest, &message.topic); /* may be empty */
    (void)take_line(&rest, &message.content_type);
    message.user_property_count = split(&rest, properties);
    message.user_properties = properties;
    message.payload = rest;
    struct mr_event *event = NULL;
    struct mr_problem problem = {0};
    enum mr_status r = mr_mqtt_decode(&message, MR_EVENT_SIZE_MAX, &event, &problem);
    if (r == MR_E_NOT_CLOUDEVENT) {
        r = mr_mqtt_wrap(&message, MR_BYTES_LITERAL("broker"), MR_BYTES_LITERAL("id"),
                         1700000000000000000ull, MR_EVENT_SIZE_MAX, &event, &problem);
    }
    MR_ASSERT((r == MR_OK) == (event != NULL));
    if (r == MR_OK) {
        MR_ASSERT(mr_event_check(mr_event_record(event)) == MR_OK);
        check_round_trip(event, 4, MR_MODE_STRUCTURED);
        check_round_trip(event, 5, MR_MODE_STRUCTURED);
        if (can_be_binary(mr_event_record(event))) {
            check_round_trip(event, 5, MR_MODE_BINARY);
        }
    } else {
        MR_ASSERT(problem.text[0] != '\0');
    }
    mr_event_unref(event);
    return 0;
}
