/* What the vectors of test_message_vectors.c do not say about the Kafka binding: limits, short
 * memory, the form of what goes out. */
#include "tests/support/fail_each.h"
#include "tests/unit/schemas/support.h"

#include "schemas/binding.h"

#define FIELD(name, value) {MR_BYTES_LITERAL(name), MR_BYTES_LITERAL(value)}
#define REQUIRED                                                                                  \
    FIELD("ce_specversion", "1.0"), FIELD("ce_id", "1"), FIELD("ce_type", "t.t"),                 \
        FIELD("ce_source", "/s")

static struct mr_problem problem;

static struct mr_kafka_record record_of(const struct mr_field *headers, uint32_t count,
                                        const char *value)
{
    return (struct mr_kafka_record){.topic = mr_bytes_of("t"), .value = mr_bytes_of(value),
                                    .has_value = value != NULL, .headers = headers,
                                    .header_count = count, .timestamp_ms = -1};
}

static struct mr_event *wrap(const struct mr_kafka_record *record)
{
    struct mr_event *event = NULL;
    enum mr_status r = mr_kafka_wrap(record, mr_bytes_of("shop"), 1700000000ull * MR_SECOND,
                                     MR_EVENT_SIZE_MAX, &event, &problem);
    if (r != MR_OK) {
        fail_msg("%s: %s", mr_status_name(r), problem.text);
    }
    assert_int_equal(mr_event_check(mr_event_record(event)), MR_OK);
    return event;
}

static void test_decode_empty_value_is_data(void **state)
{
    (void)state;
    const struct mr_field headers[] = {REQUIRED};
    const char *values[] = {NULL, ""};
    for (int i = 0; i < 2; i++) {
        struct mr_kafka_record record = record_of(headers, 4, values[i]);
        struct mr_events events = {0};
        assert_int_equal(mr_kafka_decode(&record, MR_EVENT_SIZE_MAX, &events, &problem), MR_OK);
        assert_int_equal(events.count, 1);
        assert_int_equal(mr_event_has_data(mr_event_record(events.events[0])), i);
        mr_events_release(&events);
    }
}

static void test_decode_over_the_limit_is_too_big(void **state)
{
    (void)state;
    const struct mr_field headers[] = {REQUIRED};
    struct mr_kafka_record record = record_of(headers, 4, "0123456789");
    struct mr_events events = {0};
    assert_int_equal(mr_kafka_decode(&record, 64, &events, &problem), MR_E_TOO_BIG);
    assert_non_null(strstr(problem.text, "64"));
    assert_null(events.events);
}

/* Foreign headers cost a look each, so that a hundred thousand of them hold nobody up. */
static void test_very_many_headers_are_quick(void **state)
{
    (void)state;
    enum { COUNT = 100000 };
    struct mr_field *headers = calloc(COUNT, sizeof(*headers));
    assert_non_null(headers);
    const struct mr_field required[] = {REQUIRED};
    for (uint32_t i = 0; i < COUNT; i++) {
        headers[i] = i < 4 ? required[i]
                           : (struct mr_field){mr_bytes_of("Same-Name"), mr_bytes_of("v")};
    }
    struct mr_kafka_record record = record_of(headers, COUNT, "x");
    struct mr_events events = {0};
    assert_int_equal(mr_kafka_decode(&record, MR_EVENT_SIZE_MAX, &events, &problem), MR_OK);
    mr_events_release(&events);
    struct mr_event *event = wrap(&record);
    assert_value(event, "kafkaheadersamename", "v");
    assert_value(event, "kafkaheaderceid", "1");
    mr_event_unref(event);
    free(headers);
}

static void test_wrap_more_headers_than_an_event_may_have_is_too_big(void **state)
{
    (void)state;
    struct mr_field headers[MR_EVENT_ATTRS_MAX + 1];
    char names[MR_EVENT_ATTRS_MAX + 1][8];
    for (uint32_t i = 0; i <= MR_EVENT_ATTRS_MAX; i++) {
        snprintf(names[i], sizeof(names[i]), "h%u", i);
        headers[i] = (struct mr_field){mr_bytes_of(names[i]), mr_bytes_of("v")};
    }
    struct mr_kafka_record record = record_of(headers, MR_EVENT_ATTRS_MAX + 1, "x");
    struct mr_event *event = NULL;
    assert_int_equal(mr_kafka_wrap(&record, mr_bytes_of("s"), 0, MR_EVENT_SIZE_MAX, &event,
                                   &problem),
                     MR_E_TOO_BIG);
    assert_string_not_equal(problem.text, "");
    assert_null(event);
}

static void test_wrap_cuts_long_header_names(void **state)
{
    (void)state;
    char name[201];
    memset(name, 'N', sizeof(name) - 1);
    name[200] = '\0';
    const struct mr_field headers[] = {{mr_bytes_of(name), mr_bytes_of("v")}};
    struct mr_kafka_record record = record_of(headers, 1, "x");
    struct mr_event *event = wrap(&record);
    char want[MR_ATTR_NAME_SIZE_MAX + 1] = "kafkaheader";
    memset(want + 11, 'n', MR_ATTR_NAME_SIZE_MAX - 11);
    want[MR_ATTR_NAME_SIZE_MAX] = '\0';
    assert_value(event, want, "v");
    mr_event_unref(event);
}

static void test_wrap_numbers_at_their_ends(void **state)
{
    (void)state;
    struct mr_kafka_record record = record_of(NULL, 0, "x");
    record.partition = INT32_MAX;
    record.offset = INT64_MAX;
    record.timestamp_ms = INT64_MAX; /* no clock can be there */
    struct mr_event *event = wrap(&record);
    assert_bytes(mr_event_id(mr_event_record(event)),
                 "partition:2147483647/offset:9223372036854775807");
    assert_value(event, "subject", "partition:2147483647#9223372036854775807");
    assert_value(event, "time", "2023-11-14T22:13:20.000Z");
    mr_event_unref(event);
    record.timestamp_ms = INT64_MIN;
    record.topic = (struct mr_bytes){0};
    event = wrap(&record);
    assert_value(event, "time", "2023-11-14T22:13:20.000Z");
    assert_bytes(mr_event_source(mr_event_record(event)),
                 "/apis/v1/namespaces/shop/kafkasources/src");
    mr_event_unref(event);
}

static void test_encode_keeps_no_data_and_empty_data_apart(void **state)
{
    (void)state;
    const char *texts[] = {
        "{\"specversion\":\"1.0\",\"id\":\"1\",\"type\":\"t\",\"source\":\"/s\"}",
        "{\"specversion\":\"1.0\",\"id\":\"1\",\"type\":\"t\",\"source\":\"/s\","
        "\"datacontenttype\":\"text/plain\",\"data\":\"\"}"};
    for (int i = 0; i < 2; i++) {
        struct mr_event *event = decode_ok(texts[i]);
        struct mr_message message;
        mr_message_init(&message);
        assert_int_equal(mr_kafka_encode(mr_event_record(event), MR_MODE_BINARY, &message), MR_OK);
        assert_int_equal(message.has_body, i);
        assert_int_equal(message.body.size, 0);
        mr_message_release(&message);
        assert_int_equal(mr_kafka_encode(mr_event_record(event), MR_MODE_STRUCTURED, &message),
                         MR_OK);
        assert_true(message.has_body && message.body.size > 0);
        mr_message_release(&message);
        assert_int_equal(mr_kafka_encode(mr_event_record(event), MR_MODE_BATCH, &message),
                         MR_E_UNSUPPORTED);
        mr_message_release(&message);
        mr_event_unref(event);
    }
}

static enum mr_status run_all(void *context)
{
    const struct mr_kafka_record *record = context;
    struct mr_events events = {0};
    struct mr_event *event = NULL;
    struct mr_message message;
    mr_message_init(&message);
    problem.text[0] = '\0';
    enum mr_status r = mr_kafka_decode(record, MR_EVENT_SIZE_MAX, &events, &problem);
    if (r == MR_OK) {
        r = mr_kafka_wrap(record, mr_bytes_of("s"), 0, MR_EVENT_SIZE_MAX, &event, &problem);
    }
    if (r == MR_OK) {
        r = mr_kafka_encode(mr_event_record(event), MR_MODE_BINARY, &message);
    }
    mr_events_release(&events);
    mr_message_release(&message);
    mr_event_unref(event);
    return r;
}

static void test_every_failed_allocation_leaks_nothing(void **state)
{
    (void)state;
    const struct mr_field headers[] = {REQUIRED, FIELD("content-type", "a/b"),
                                       FIELD("other", "\xFF")};
    struct mr_kafka_record record = record_of(headers, 6, "x");
    record.key = mr_bytes_of("k\xFF");
    record.has_key = true;
    (void)fail_each_allocation(run_all, &record);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode_empty_value_is_data),
        cmocka_unit_test(test_decode_over_the_limit_is_too_big),
        cmocka_unit_test(test_very_many_headers_are_quick),
        cmocka_unit_test(test_wrap_more_headers_than_an_event_may_have_is_too_big),
        cmocka_unit_test(test_wrap_cuts_long_header_names),
        cmocka_unit_test(test_wrap_numbers_at_their_ends),
        cmocka_unit_test(test_encode_keeps_no_data_and_empty_data_apart),
        cmocka_unit_test(test_every_failed_allocation_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
