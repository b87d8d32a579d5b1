/* Fuzz target: the HTTP binding. The input is header lines up to an empty line, then the body. What
 * is accepted goes out again in both modes and comes back as the same event. */
#include "core/limits.h"
#include "schemas/json_format.h"
#include "tests/fuzz/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Attributes may change type, as headers have none, and an implied type becomes explicit. */
static void check_same(struct mr_bytes a, struct mr_bytes b)
{
    check_same_event(a, b);
    MR_ASSERT(mr_event_has_data(a) == mr_event_has_data(b) || mr_event_data(a).size == 0);
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
    struct mr_field headers[FIELDS_MAX];
    uint32_t count = take_http_headers(&body, headers, FIELDS_MAX);
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
