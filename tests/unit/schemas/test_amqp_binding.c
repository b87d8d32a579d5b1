/* What the vectors of test_message_vectors.c do not say about the AMQP binding: limits, short
 * memory, the four habits on their way out. */
#include "tests/support/fail_each.h"
#include "tests/unit/schemas/support.h"

#include "schemas/binding.h"

#define MINIMAL "{\"specversion\":\"1.0\",\"id\":\"1\",\"type\":\"t.t\",\"source\":\"/s\"}"

static struct mr_problem problem;

static struct mr_amqp_header text_header(const char *name, const char *text)
{
    return (struct mr_amqp_header){.name = mr_bytes_of(name), .type = MR_AMQP_STRING,
                                   .text = mr_bytes_of(text)};
}

/* The four required ones, with @p prefix; the names are static. */
static void fill_required(struct mr_amqp_header headers[4], const char *prefix)
{
    static char names[4][40];
    static const char *const required[][2] = {
        {"specversion", "1.0"}, {"id", "1"}, {"type", "t.t"}, {"source", "/s"}};
    for (size_t i = 0; i < 4; i++) {
        snprintf(names[i], sizeof(names[i]), "%s%s", prefix, required[i][0]);
        headers[i] = text_header(names[i], required[i][1]);
    }
}

static void test_encode_names_attributes_by_the_habit(void **state)
{
    (void)state;
    static const char *const want[] = {"cloudEvents:id", "cloudEvents_id", "ce-id", "id"};
    struct mr_event *event = decode_ok(MINIMAL);
    for (int habit = MR_AMQP_CLOUDEVENTS_COLON; habit <= MR_AMQP_BARE; habit++) {
        struct mr_message message;
        mr_message_init(&message);
        assert_int_equal(mr_amqp_encode(mr_event_record(event), (enum mr_amqp_habit)habit,
                                        MR_MODE_BINARY, &message),
                         MR_OK);
        assert_int_equal(message.field_count, 4);
        assert_bytes(message.fields[1].name, want[habit]);
        assert_bytes(message.fields[1].value, "1");
        assert_int_equal(message.content_type.size, 0);
        mr_message_release(&message);
    }
    struct mr_message message;
    mr_message_init(&message);
    assert_int_equal(mr_amqp_encode(mr_event_record(event), MR_AMQP_BARE, MR_MODE_STRUCTURED,
                                    &message),
                     MR_OK);
    assert_bytes(message.content_type, "application/cloudevents+json");
    assert_int_equal(message.field_count, 0);
    mr_message_release(&message);
    assert_int_equal(mr_amqp_encode(mr_event_record(event), MR_AMQP_BARE, MR_MODE_BATCH, &message),
                     MR_E_UNSUPPORTED);
    mr_message_release(&message);
    mr_event_unref(event);
}

static void test_decode_1_0_timestamp_no_clock_can_show_is_invalid(void **state)
{
    (void)state;
    const int64_t times[] = {-1, INT64_MAX};
    for (size_t i = 0; i < MR_ARRAY_COUNT(times); i++) {
        struct mr_amqp_header headers[5];
        fill_required(headers, "cloudEvents_");
        headers[4] = (struct mr_amqp_header){.name = mr_bytes_of("cloudEvents_time"),
                                             .type = MR_AMQP_TIMESTAMP, .number = times[i]};
        struct mr_amqp_message message = {.is_1_0 = true, .timestamp_ms = -1, .headers = headers,
                                          .header_count = 5};
        struct mr_events events = {0};
        assert_int_equal(mr_amqp_decode(&message, MR_EVENT_SIZE_MAX, &events, &problem),
                         MR_E_INVALID);
        assert_non_null(strstr(problem.text, "time"));
    }
}

static void test_decode_over_the_limits_is_too_big(void **state)
{
    (void)state;
    struct mr_amqp_header headers[5];
    char name[120];
    memset(name, 'a', sizeof(name) - 1);
    memcpy(name, "ce-", 3);
    name[sizeof(name) - 1] = '\0';
    fill_required(headers, "ce-");
    headers[4] = text_header(name, "x");
    struct mr_amqp_message message = {.timestamp_ms = -1, .headers = headers, .header_count = 5,
                                      .body = mr_bytes_of("0123456789")};
    struct mr_events events = {0};
    assert_int_equal(mr_amqp_decode(&message, MR_EVENT_SIZE_MAX, &events, &problem), MR_E_TOO_BIG);
    message.header_count = 4;
    assert_int_equal(mr_amqp_decode(&message, 64, &events, &problem), MR_E_TOO_BIG);
    assert_string_not_equal(problem.text, "");
    assert_null(events.events);
}

static void test_decode_says_what_is_missing(void **state)
{
    (void)state;
    struct mr_amqp_header headers[4];
    fill_required(headers, "cloudEvents:");
    struct mr_amqp_message message = {.is_1_0 = true, .timestamp_ms = -1, .headers = headers,
                                      .header_count = 3};
    struct mr_events events = {0};
    assert_int_equal(mr_amqp_decode(&message, MR_EVENT_SIZE_MAX, &events, &problem),
                     MR_E_NOT_CLOUDEVENT);
    assert_non_null(strstr(problem.text, "property of source"));
}

static void test_wrap_falls_back_where_a_property_is_of_no_use(void **state)
{
    (void)state;
    struct mr_amqp_message message = {.content_type = mr_bytes_of("text"),
                                      .message_id = mr_bytes_of("a\nb"),
                                      .timestamp_ms = INT64_MAX,
                                      .body = mr_bytes_of("x")};
    struct mr_event *event = NULL;
    assert_int_equal(mr_amqp_wrap(&message, mr_bytes_of("s"), mr_bytes_of("q"), mr_bytes_of("gen"),
                                  1700000000ull * MR_SECOND, MR_EVENT_SIZE_MAX, &event, &problem),
                     MR_OK);
    assert_bytes(mr_event_id(mr_event_record(event)), "gen");
    assert_value(event, "subject", "gen");
    assert_value(event, "time", "2023-11-14T22:13:20.000Z");
    assert_false(has_attr(event, "datacontenttype"));
    mr_event_unref(event);
}

static enum mr_status run_all(void *context)
{
    const struct mr_amqp_message *message = context;
    struct mr_events events = {0};
    struct mr_event *event = NULL;
    struct mr_message out;
    mr_message_init(&out);
    enum mr_status r = mr_amqp_decode(message, MR_EVENT_SIZE_MAX, &events, &problem);
    if (r == MR_OK) {
        r = mr_amqp_wrap(message, mr_bytes_of("s"), mr_bytes_of("q"), mr_bytes_of("id"), 0,
                         MR_EVENT_SIZE_MAX, &event, &problem);
    }
    if (r == MR_OK) {
        r = mr_amqp_encode(mr_event_record(event), MR_AMQP_BARE, MR_MODE_BINARY, &out);
    }
    mr_events_release(&events);
    mr_message_release(&out);
    mr_event_unref(event);
    return r;
}

static void test_every_failed_allocation_leaks_nothing(void **state)
{
    (void)state;
    struct mr_amqp_header headers[5];
    fill_required(headers, "ce-");
    headers[4] = (struct mr_amqp_header){.name = mr_bytes_of("ce-bin"), .type = MR_AMQP_BINARY,
                                         .text = mr_bytes_of("\xFF")};
    struct mr_amqp_message message = {.content_type = mr_bytes_of("a/b"), .timestamp_ms = -1,
                                      .headers = headers, .header_count = 5,
                                      .body = mr_bytes_of("x")};
    (void)fail_each_allocation(run_all, &message);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_encode_names_attributes_by_the_habit),
        cmocka_unit_test(test_decode_1_0_timestamp_no_clock_can_show_is_invalid),
        cmocka_unit_test(test_decode_over_the_limits_is_too_big),
        cmocka_unit_test(test_decode_says_what_is_missing),
        cmocka_unit_test(test_wrap_falls_back_where_a_property_is_of_no_use),
        cmocka_unit_test(test_every_failed_allocation_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
