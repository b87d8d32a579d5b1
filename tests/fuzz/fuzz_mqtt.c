/* Fuzz target: the MQTT binding. First byte: version and retain; then lines: topic, content type,
 * user properties `name=value` up to an empty line; the rest is the payload. What is no CloudEvent
 * is wrapped; what came out goes out again in both modes. */
#include "core/limits.h"
#include "tests/fuzz/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

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
        check_same_event(record, mr_event_record(again));
    }
    mr_event_unref(again);
    mr_message_release(&message);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    struct mr_bytes rest = mr_bytes(data + 1, size - 1);
    struct mr_mqtt_message message = {.version = (data[0] & 1) != 0 ? 5 : 4,
                                      .retained = (data[0] & 2) != 0};
    struct mr_field properties[FIELDS_MAX];
    (void)take_line(&rest, &message.topic); /* may be empty */
    (void)take_line(&rest, &message.content_type);
    message.user_property_count = take_fields(&rest, properties);
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
        check_round_trip(event, 5, MR_MODE_BINARY);
    } else {
        MR_ASSERT(problem.text[0] != '\0');
    }
    mr_event_unref(event);
    return 0;
}
