#include "tests/support/fail_each.h"
#include "tests/unit/schemas/support.h"

#include "schemas/binding.h"

#define REQUIRED {"specversion", "1.0"}, {"id", "1"}, {"type", "t.t"}, {"source", "/s"}
#define MINIMAL "{\"specversion\":\"1.0\",\"id\":\"1\",\"type\":\"t.t\",\"source\":\"/s\"}"
#define PROPERTIES_MAX 12

struct publish {
    int version;
    const char *topic;
    const char *content_type;
    const char *payload;
    const char *properties[PROPERTIES_MAX][2];
    bool retained;
};

static struct mr_problem problem;

static struct mr_mqtt_message message_of(const struct publish *p, struct mr_field *fields)
{
    uint32_t count = 0;
    while (count < PROPERTIES_MAX && p->properties[count][0] != NULL) {
        fields[count] = (struct mr_field){mr_bytes_of(p->properties[count][0]),
                                          mr_bytes_of(p->properties[count][1])};
        count++;
    }
    return (struct mr_mqtt_message){p->version, mr_bytes_of(p->topic),
                                    mr_bytes_of(p->content_type), fields, count,
                                    mr_bytes_of(p->payload), p->retained};
}

static enum mr_status decode(struct publish p, struct mr_event **ret_event)
{
    struct mr_field fields[PROPERTIES_MAX];
    struct mr_mqtt_message message = message_of(&p, fields);
    *ret_event = NULL;
    return mr_mqtt_decode(&message, MR_EVENT_SIZE_MAX, ret_event, &problem);
}

static struct mr_event *decode_one(struct publish p)
{
    struct mr_event *event;
    enum mr_status r = decode(p, &event);
    if (r != MR_OK) {
        fail_msg("%s: %s", mr_status_name(r), problem.text);
    }
    assert_int_equal(mr_event_check(mr_event_record(event)), MR_OK);
    return event;
}

static void assert_status(struct publish p, enum mr_status expected)
{
    struct mr_event *event;
    enum mr_status r = decode(p, &event);
    if (r != expected) {
        fail_msg("%s instead of %s: %s", mr_status_name(r), mr_status_name(expected),
                 problem.text);
    }
    assert_null(event);
}

static struct mr_event *wrap(struct publish p)
{
    struct mr_field fields[PROPERTIES_MAX];
    struct mr_mqtt_message message = message_of(&p, fields);
    struct mr_event *event = NULL;
    enum mr_status r = mr_mqtt_wrap(&message, mr_bytes_of("my broker"), mr_bytes_of("gen-1"),
                                    1700000000ull * MR_SECOND, MR_EVENT_SIZE_MAX, &event,
                                    &problem);
    if (r != MR_OK) {
        fail_msg("%s: %s", mr_status_name(r), problem.text);
    }
    assert_int_equal(mr_event_check(mr_event_record(event)), MR_OK);
    return event;
}

static void test_decode_v5_binary_takes_bare_and_prefixed_names(void **state)
{
    (void)state;
    struct mr_event *event = decode_one((struct publish){
        .version = 5, .content_type = "text/plain", .payload = "x",
        .properties = {REQUIRED, {"ce-subject", "a%20b"}, {"my-prop", "1"}, {"Capital", "1"},
                       {"under_score", "1"}, {"foreign", "kept"}, {"data", "1"}}});
    assert_value(event, "subject", "a%20b"); /* no percent-decoding here */
    assert_value(event, "foreign", "kept");
    assert_value(event, "datacontenttype", "text/plain");
    assert_int_equal(mr_get_u16(event->data + 4), 6);
    assert_bytes(mr_event_data(mr_event_record(event)), "x");
    mr_event_unref(event);
}

static void test_decode_v5_content_type_wins_over_the_property(void **state)
{
    (void)state;
    struct publish p = {.version = 5, .content_type = "text/plain", .payload = "x",
                        .properties = {REQUIRED, {"datacontenttype", "text/xml"}}};
    struct mr_event *event = decode_one(p);
    assert_value(event, "datacontenttype", "text/plain");
    mr_event_unref(event);
    p.content_type = "";
    event = decode_one(p);
    assert_value(event, "datacontenttype", "text/xml");
    mr_event_unref(event);
}

static void test_decode_v5_repeated_property_is_invalid(void **state)
{
    (void)state;
    assert_status((struct publish){.version = 5, .properties = {REQUIRED, {"id", "2"}}},
                  MR_E_INVALID);
    assert_status((struct publish){.version = 5, .properties = {REQUIRED, {"ce-id", "1"}}},
                  MR_E_INVALID);
    assert_status((struct publish){.version = 5, .properties = {REQUIRED, {"x", "1"}, {"x", "1"}}},
                  MR_E_INVALID);
}

static void test_decode_v5_bad_values_are_invalid(void **state)
{
    (void)state;
    assert_status((struct publish){.version = 5, .properties = {REQUIRED, {"time", "noon"}}},
                  MR_E_INVALID);
    assert_status((struct publish){.version = 5, .properties = {REQUIRED, {"subject", ""}}},
                  MR_E_INVALID);
    assert_status((struct publish){.version = 5, .properties = {REQUIRED, {"x", "a\nb"}}},
                  MR_E_INVALID);
    assert_status((struct publish){.version = 5,
                                   .properties = {{"specversion", "0.3"}, {"id", "1"},
                                                  {"type", "t"}, {"source", "s"}}},
                  MR_E_UNSUPPORTED);
}

static void test_decode_v5_structured_by_content_type(void **state)
{
    (void)state;
    struct mr_event *event = decode_one((struct publish){
        .version = 5, .content_type = "APPLICATION/CloudEvents+Json; charset=utf-8",
        .payload = MINIMAL, .properties = {{"id", "other"}}});
    assert_bytes(mr_event_id(mr_event_record(event)), "1");
    mr_event_unref(event);
    assert_status((struct publish){.version = 5, .content_type = "application/cloudevents+json",
                                   .payload = "{}"},
                  MR_E_INVALID);
}

static void test_decode_v5_unknown_format_or_batch_is_unsupported(void **state)
{
    (void)state;
    assert_status((struct publish){.version = 5, .content_type = "application/cloudevents+avro",
                                   .payload = "x"},
                  MR_E_UNSUPPORTED);
    assert_status((struct publish){.version = 5,
                                   .content_type = "application/cloudevents-batch+json",
                                   .payload = "[]"},
                  MR_E_UNSUPPORTED);
}

static void test_decode_v5_incomplete_properties_are_telemetry(void **state)
{
    (void)state;
    assert_status((struct publish){.version = 5, .content_type = "application/json",
                                   .payload = MINIMAL},
                  MR_E_NOT_CLOUDEVENT);
    assert_status((struct publish){.version = 5, .payload = "21.5",
                                   .properties = {{"id", "1"}, {"type", "t"}, {"source", "s"}}},
                  MR_E_NOT_CLOUDEVENT);
    assert_non_null(strstr(problem.text, "specversion"));
}

static void test_decode_v5_without_any_hint_may_be_json(void **state)
{
    (void)state;
    struct mr_event *event = decode_one((struct publish){.version = 5, .payload = MINIMAL});
    assert_bytes(mr_event_id(mr_event_record(event)), "1");
    mr_event_unref(event);
    assert_status((struct publish){.version = 5, .payload = "ON"}, MR_E_NOT_CLOUDEVENT);
}

static void test_decode_v4_event_telemetry_and_broken_event(void **state)
{
    (void)state;
    mr_event_unref(decode_one((struct publish){.version = 4, .payload = MINIMAL}));
    const char *plain[] = {"", "ON", "21.5", "{}", "[]", "{\"temp\":1}", "[" MINIMAL "]", "\"x\"",
                           "{\"specversion\":\"1.0\"", "{\"a\":{\"specversion\":\"1.0\"}}"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(plain); i++) {
        assert_status((struct publish){.version = 4, .payload = plain[i]}, MR_E_NOT_CLOUDEVENT);
    }
    assert_status((struct publish){.version = 4, .payload = "{\"specversion\":\"1.0\"}"},
                  MR_E_INVALID);
    assert_status((struct publish){.version = 4,
                                   .payload = "{\"x\":[],\"specversion\":\"0.3\",\"id\":\"1\"}"},
                  MR_E_INVALID);
    assert_status((struct publish){.version = 4, .payload = "{\"specversion\":\"0.3\"}"},
                  MR_E_UNSUPPORTED);
}

static void test_wrap_describes_the_message(void **state)
{
    (void)state;
    struct mr_event *event = wrap((struct publish){
        .version = 4, .topic = "zigbee2mqtt/Kitchen Light/50%?#\xC3\xA9", .payload = "{\"a\":1}",
        .retained = true});
    struct mr_bytes record = mr_event_record(event);
    assert_bytes(mr_event_id(record), "gen-1");
    assert_bytes(mr_event_source(record),
                 "/mqtt/my%20broker/zigbee2mqtt/Kitchen%20Light/50%25%3F%23%C3%A9");
    assert_bytes(mr_event_type(record), "org.mqtt.message");
    assert_value(event, "subject", "zigbee2mqtt/Kitchen Light/50%?#\xC3\xA9");
    assert_value(event, "datacontenttype", "application/json");
    assert_value(event, "time", "2023-11-14T22:13:20.000Z");
    struct mr_attr attr;
    assert_true(mr_event_attr(record, mr_bytes_of("retained"), &attr));
    assert_bytes(attr.value, "true");
    assert_int_equal(attr.type, MR_ATTR_BOOLEAN);
    assert_true(mr_event_data_is_json(record));
    mr_event_unref(event);
}

static void test_wrap_guesses_the_content_type(void **state)
{
    (void)state;
    const char *cases[][3] = {
        {"", "21.5", "application/json"},      {"", "ON", "application/octet-stream"},
        {"", "\xFF\xFE", "application/octet-stream"}, {"text/csv", "1", "text/csv"},
        {" text/csv ", "1", "text/csv"},       {"json", "{}", "application/json"},
        {"a\x01/b", "x", "application/octet-stream"}, {"", "", ""},
        {"text/plain", "", "text/plain"},
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(cases); i++) {
        struct mr_event *event = wrap((struct publish){
            .version = 5, .topic = "t", .content_type = cases[i][0], .payload = cases[i][1]});
        assert_value(event, "datacontenttype", cases[i][2]);
        assert_int_equal(mr_event_has_data(mr_event_record(event)), cases[i][1][0] != '\0');
        assert_false(has_attr(event, "retained"));
        mr_event_unref(event);
    }
}

static void test_wrap_without_topic_has_no_subject(void **state)
{
    (void)state;
    struct mr_event *event = wrap((struct publish){.version = 5, .topic = "", .payload = "1"});
    assert_bytes(mr_event_source(mr_event_record(event)), "/mqtt/my%20broker");
    assert_false(has_attr(event, "subject"));
    mr_event_unref(event);
}

static void test_wrap_sparkplug_has_its_type_and_time(void **state)
{
    (void)state;
    struct mr_event *event = wrap((struct publish){
        .version = 4, .topic = "spBv1.0/G/NDATA/E", .payload = "{\"timestamp\":1770423123456}"});
    assert_bytes(mr_event_type(mr_event_record(event)), "org.sparkplug.NDATA");
    assert_value(event, "time", "2026-02-07T00:12:03.456Z");
    assert_value(event, "recordedtime", "2023-11-14T22:13:20.000Z");
    mr_event_unref(event);
    const char *payloads[] = {"\x08\x01\xFF", "{\"timestamp\":\"x\"}", "{\"timestamp\":-1}",
                              "{\"timestamp\":99999999999999999}", "{}"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(payloads); i++) {
        event = wrap((struct publish){
            .version = 4, .topic = "spBv1.0/G/DBIRTH/E/D", .payload = payloads[i]});
        assert_bytes(mr_event_type(mr_event_record(event)), "org.sparkplug.DBIRTH");
        assert_value(event, "time", "2023-11-14T22:13:20.000Z");
        mr_event_unref(event);
    }
    event = wrap((struct publish){.version = 4, .topic = "spBv1.0/G/OTHER/E", .payload = "1"});
    assert_bytes(mr_event_type(mr_event_record(event)), "org.mqtt.message");
    mr_event_unref(event);
}

static void test_wrap_lorawan_has_a_natural_id(void **state)
{
    (void)state;
    struct mr_event *event = wrap((struct publish){
        .version = 4, .topic = "v3/app@tenant/devices/d1/up",
        .payload = "{\"end_device_ids\":{\"device_id\":\"d1\"},\"received_at\":"
                   "\"2020-01-15T16:02:10.668892406Z\",\"uplink_message\":{\"session_key_id\":"
                   "\"AW+p==\",\"f_cnt\":13}}"});
    assert_bytes(mr_event_id(mr_event_record(event)), "d1/AW+p==/13");
    assert_bytes(mr_event_type(mr_event_record(event)), "org.thethings.lorawan.uplink");
    assert_value(event, "time", "2020-01-15T16:02:10.668892406Z");
    mr_event_unref(event);
    event = wrap((struct publish){
        .version = 4, .topic = "x/up",
        .payload = "{\"end_device_ids\":{\"dev_eui\":\"a\\u0001\"},\"uplink_message\":{}}"});
    assert_bytes(mr_event_id(mr_event_record(event)), "gen-1");
    mr_event_unref(event);
}

static void test_wrap_topic_with_control_character_is_invalid(void **state)
{
    (void)state;
    struct mr_mqtt_message message = {.version = 5, .topic = mr_bytes_of("a\nb")};
    struct mr_event *event = NULL;
    assert_int_equal(mr_mqtt_wrap(&message, mr_bytes_of("b"), mr_bytes_of("1"), 0,
                                  MR_EVENT_SIZE_MAX, &event, &problem),
                     MR_E_INVALID);
    assert_null(event);
}

static void test_encode_v5_binary_writes_bare_names(void **state)
{
    (void)state;
    struct mr_event *event = decode_ok("{\"specversion\":\"1.0\",\"id\":\"1\",\"type\":\"t.t\","
                                       "\"source\":\"/s\",\"subject\":\"a b \\u20ac\",\"n\":5,"
                                       "\"datacontenttype\":\"text/plain\",\"data\":\"x\"}");
    struct mr_message message;
    mr_message_init(&message);
    assert_int_equal(mr_mqtt_encode(mr_event_record(event), 5, MR_MODE_BINARY, &message), MR_OK);
    const char *expected[][2] = {{"specversion", "1.0"}, {"id", "1"}, {"source", "/s"},
                                 {"type", "t.t"}, {"subject", "a b \xE2\x82\xAC"}, {"n", "5"}};
    assert_int_equal(message.field_count, MR_ARRAY_COUNT(expected));
    for (size_t i = 0; i < MR_ARRAY_COUNT(expected); i++) {
        assert_bytes(message.fields[i].name, expected[i][0]);
        assert_bytes(message.fields[i].value, expected[i][1]);
    }
    assert_bytes(message.content_type, "text/plain");
    assert_bytes(mr_buf_bytes(&message.body), "x");
    mr_message_release(&message);
    mr_event_unref(event);
}

static void test_encode_v4_is_structured_without_content_type(void **state)
{
    (void)state;
    struct mr_event *event = decode_ok(MINIMAL);
    struct mr_message message;
    mr_message_init(&message);
    assert_int_equal(mr_mqtt_encode(mr_event_record(event), 4, MR_MODE_BINARY, &message), MR_OK);
    assert_int_equal(message.field_count, 0);
    assert_int_equal(message.content_type.size, 0);
    assert_true(mr_json_is_value(mr_buf_bytes(&message.body)));
    mr_message_release(&message);
    assert_int_equal(mr_mqtt_encode(mr_event_record(event), 5, MR_MODE_STRUCTURED, &message),
                     MR_OK);
    assert_bytes(message.content_type, "application/cloudevents+json");
    mr_message_release(&message);
    assert_int_equal(mr_mqtt_encode(mr_event_record(event), 5, MR_MODE_BATCH, &message),
                     MR_E_UNSUPPORTED);
    mr_message_release(&message);
    mr_event_unref(event);
}

static enum mr_status wrap_and_encode(void *context)
{
    struct mr_mqtt_message message = {
        .version = 4, .topic = mr_bytes_of("spBv1.0/G/NDATA/E"), .payload = mr_bytes_of("1")};
    struct mr_event *event = NULL;
    struct mr_message out;
    (void)context;
    mr_message_init(&out);
    enum mr_status r = mr_mqtt_wrap(&message, mr_bytes_of("b"), mr_bytes_of("1"), 0,
                                    MR_EVENT_SIZE_MAX, &event, NULL);
    if (r == MR_OK) {
        r = mr_mqtt_encode(mr_event_record(event), 5, MR_MODE_BINARY, &out);
    }
    mr_message_release(&out);
    mr_event_unref(event);
    return r;
}

static void test_mqtt_every_failed_allocation_leaks_nothing(void **state)
{
    (void)state;
    (void)fail_each_allocation(wrap_and_encode, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode_v5_binary_takes_bare_and_prefixed_names),
        cmocka_unit_test(test_decode_v5_content_type_wins_over_the_property),
        cmocka_unit_test(test_decode_v5_repeated_property_is_invalid),
        cmocka_unit_test(test_decode_v5_bad_values_are_invalid),
        cmocka_unit_test(test_decode_v5_structured_by_content_type),
        cmocka_unit_test(test_decode_v5_unknown_format_or_batch_is_unsupported),
        cmocka_unit_test(test_decode_v5_incomplete_properties_are_telemetry),
        cmocka_unit_test(test_decode_v5_without_any_hint_may_be_json),
        cmocka_unit_test(test_decode_v4_event_telemetry_and_broken_event),
        cmocka_unit_test(test_wrap_describes_the_message),
        cmocka_unit_test(test_wrap_guesses_the_content_type),
        cmocka_unit_test(test_wrap_without_topic_has_no_subject),
        cmocka_unit_test(test_wrap_sparkplug_has_its_type_and_time),
        cmocka_unit_test(test_wrap_lorawan_has_a_natural_id),
        cmocka_unit_test(test_wrap_topic_with_control_character_is_invalid),
        cmocka_unit_test(test_encode_v5_binary_writes_bare_names),
        cmocka_unit_test(test_encode_v4_is_structured_without_content_type),
        cmocka_unit_test(test_mqtt_every_failed_allocation_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
