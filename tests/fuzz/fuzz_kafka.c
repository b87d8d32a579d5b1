/* Fuzz target: the Kafka binding. First byte: 1 a key, 2 a null value, 4 a timestamp; then lines:
 * topic, key, headers `name=value` (without = a null value) up to an empty line; the rest is the
 * value. What is no CloudEvent is wrapped; what came out goes out again in both modes. */
#include "core/limits.h"
#include "tests/fuzz/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_round_trip(const struct mr_event *event, enum mr_mode mode)
{
    struct mr_bytes record = mr_event_record(event);
    struct mr_message message;
    mr_message_init(&message);
    enum mr_status r = mr_kafka_encode(record, mode, &message);
    MR_ASSERT(r == MR_OK);
    MR_ASSERT(mode == MR_MODE_BINARY || message.has_body);
    struct mr_field headers[MR_EVENT_ATTRS_MAX + 2];
    MR_ASSERT(message.field_count <= MR_EVENT_ATTRS_MAX + 1);
    struct mr_kafka_record back = {
        .value = mr_buf_bytes(&message.body),
        .has_value = message.has_body,
        .headers = headers,
        .timestamp_ms = -1,
    };
    for (uint32_t i = 0; i < message.field_count; i++) {
        headers[back.header_count++] = message.fields[i];
    }
    if (message.content_type.size > 0) {
        headers[back.header_count++] =
            (struct mr_field){MR_BYTES_LITERAL("content-type"), message.content_type};
    }
    struct mr_events again = {0};
    struct mr_problem problem = {0};
    r = mr_kafka_decode(&back, MR_EVENT_SIZE_MAX, &again, &problem);
    MR_ASSERT(r == MR_OK || (r == MR_E_TOO_BIG && mode == MR_MODE_BINARY));
    if (r == MR_OK) {
        MR_ASSERT(again.count == 1);
        check_same_event(record, mr_event_record(again.events[0]));
        /* In binary mode data that is there and empty stays apart from none. */
        MR_ASSERT(mr_event_has_data(record) ==
                  mr_event_has_data(mr_event_record(again.events[0])));
    }
    mr_events_release(&again);
    mr_message_release(&message);
}

static void check_event(const struct mr_event *event)
{
    MR_ASSERT(mr_event_check(mr_event_record(event)) == MR_OK);
    check_round_trip(event, MR_MODE_STRUCTURED);
    check_round_trip(event, MR_MODE_BINARY);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    struct mr_bytes rest = mr_bytes(data + 1, size - 1);
    struct mr_field headers[FIELDS_MAX];
    struct mr_kafka_record record = {
        .partition = data[0] >> 4,
        .offset = (int64_t)size << (data[0] >> 3),
        .has_key = (data[0] & 1) != 0,
        .has_value = (data[0] & 2) == 0,
        .headers = headers,
        .timestamp_ms = (data[0] & 4) != 0 ? INT64_MAX >> (data[0] >> 3) : -1,
    };
    (void)take_line(&rest, &record.topic); /* may be empty */
    (void)take_line(&rest, &record.key);
    record.header_count = take_fields(&rest, headers);
    record.value = record.has_value ? rest : (struct mr_bytes){0};
    struct mr_events events = {0};
    struct mr_problem problem = {0};
    enum mr_status r = mr_kafka_decode(&record, MR_EVENT_SIZE_MAX, &events, &problem);
    for (uint32_t i = 0; i < events.count; i++) {
        check_event(events.events[i]);
    }
    mr_events_release(&events);
    if (r == MR_E_NOT_CLOUDEVENT) {
        struct mr_event *event = NULL;
        r = mr_kafka_wrap(&record, MR_BYTES_LITERAL("source"), 1700000000000000000ull,
                          MR_EVENT_SIZE_MAX, &event, &problem);
        MR_ASSERT((r == MR_OK) == (event != NULL));
        if (r == MR_OK) {
            check_event(event);
        }
        mr_event_unref(event);
    }
    MR_ASSERT(r == MR_OK || problem.text[0] != '\0');
    return 0;
}
