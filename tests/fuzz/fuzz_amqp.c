/* Fuzz target: the AMQP binding. First byte: 1 AMQP 1.0 (else 0-9-1), 2 a timestamp; then lines:
 * content type, message id, queue, headers up to an empty line, each a letter for its type (s, b,
 * i, t, x; any other: not mapped) and `name=value`; the rest is the body. What is no CloudEvent is
 * wrapped; what came out goes out again in every habit. */
#include "core/limits.h"
#include "tests/fuzz/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int64_t number_of(struct mr_bytes text)
{
    uint64_t number = 0;
    bool negative = text.size > 0 && text.data[0] == '-';
    if (text.size == 0 ||
        !mr_parse_u64(mr_bytes(text.data + negative, text.size - negative), &number)) {
        return (int64_t)text.size;
    }
    number &= INT64_MAX;
    return negative ? -(int64_t)number : (int64_t)number;
}

static uint32_t take_headers(struct mr_bytes *text, struct mr_amqp_header headers[FIELDS_MAX])
{
    struct mr_field fields[FIELDS_MAX];
    uint32_t count = take_fields(text, fields);
    uint32_t made = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (fields[i].name.size == 0) {
            continue;
        }
        const char *letters = "sbitx";
        const char *letter = strchr(letters, fields[i].name.data[0]);
        headers[made++] = (struct mr_amqp_header){
            .name = mr_bytes(fields[i].name.data + 1, fields[i].name.size - 1),
            .type = letter == NULL || *letter == '\0' ? MR_AMQP_OTHER
                                                      : (enum mr_amqp_type)(letter - letters),
            .text = fields[i].value,
            .number = number_of(fields[i].value),
        };
    }
    return made;
}

/* Bare names are no use for what RabbitMQ's Knative publisher calls the trace of the transport. */
static bool survives(struct mr_bytes record, enum mr_amqp_habit habit)
{
    struct mr_attr attr;
    return habit != MR_AMQP_BARE ||
           (!mr_event_attr(record, MR_BYTES_LITERAL("traceparent"), &attr) &&
            !mr_event_attr(record, MR_BYTES_LITERAL("tracestate"), &attr));
}

static void check_round_trip(const struct mr_event *event, enum mr_amqp_habit habit,
                             enum mr_mode mode)
{
    struct mr_bytes record = mr_event_record(event);
    struct mr_message message;
    mr_message_init(&message);
    enum mr_status r = mr_amqp_encode(record, habit, mode, &message);
    MR_ASSERT(r == MR_OK);
    struct mr_amqp_header headers[MR_EVENT_ATTRS_MAX + 1];
    MR_ASSERT(message.field_count <= MR_EVENT_ATTRS_MAX + 1);
    struct mr_amqp_message back = {
        .content_type = message.content_type,
        .timestamp_ms = -1,
        .headers = headers,
        .header_count = message.field_count,
        .body = mr_buf_bytes(&message.body),
    };
    for (uint32_t i = 0; i < message.field_count; i++) {
        headers[i] = (struct mr_amqp_header){.name = message.fields[i].name,
                                             .type = MR_AMQP_STRING,
                                             .text = message.fields[i].value};
    }
    struct mr_events again = {0};
    struct mr_problem problem = {0};
    r = mr_amqp_decode(&back, MR_EVENT_SIZE_MAX, &again, &problem);
    MR_ASSERT(r == MR_OK || (r == MR_E_TOO_BIG && mode == MR_MODE_BINARY));
    if (r == MR_OK && survives(record, habit)) {
        MR_ASSERT(again.count == 1);
        check_same_event(record, mr_event_record(again.events[0]));
    }
    mr_events_release(&again);
    mr_message_release(&message);
}

static void check_event(const struct mr_event *event)
{
    MR_ASSERT(mr_event_check(mr_event_record(event)) == MR_OK);
    check_round_trip(event, MR_AMQP_CLOUDEVENTS_COLON, MR_MODE_STRUCTURED);
    for (int habit = MR_AMQP_CLOUDEVENTS_COLON; habit <= MR_AMQP_BARE; habit++) {
        check_round_trip(event, (enum mr_amqp_habit)habit, MR_MODE_BINARY);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    struct mr_bytes rest = mr_bytes(data + 1, size - 1);
    struct mr_bytes queue;
    struct mr_amqp_header headers[FIELDS_MAX];
    struct mr_amqp_message message = {
        .is_1_0 = (data[0] & 1) != 0,
        .timestamp_ms = (data[0] & 2) != 0 ? INT64_MAX >> (data[0] >> 3) : -1,
        .headers = headers,
    };
    (void)take_line(&rest, &message.content_type); /* each may be empty */
    (void)take_line(&rest, &message.message_id);
    (void)take_line(&rest, &queue);
    message.header_count = take_headers(&rest, headers);
    message.body = rest;
    struct mr_events events = {0};
    struct mr_problem problem = {0};
    enum mr_status r = mr_amqp_decode(&message, MR_EVENT_SIZE_MAX, &events, &problem);
    for (uint32_t i = 0; i < events.count; i++) {
        check_event(events.events[i]);
    }
    mr_events_release(&events);
    if (r == MR_E_NOT_CLOUDEVENT) {
        struct mr_event *event = NULL;
        r = mr_amqp_wrap(&message, MR_BYTES_LITERAL("source"), queue, MR_BYTES_LITERAL("id"),
                         1700000000000000000ull, MR_EVENT_SIZE_MAX, &event, &problem);
        MR_ASSERT((r == MR_OK) == (event != NULL));
        if (r == MR_OK) {
            check_event(event);
        }
        mr_event_unref(event);
    }
    MR_ASSERT(r == MR_OK || problem.text[0] != '\0');
    return 0;
}
