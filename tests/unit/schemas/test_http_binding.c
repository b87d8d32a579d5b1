#include "tests/unit/schemas/support.h"

#include "schemas/binding.h"

#define FIELDS_MAX 24

/* A request as pairs of texts, ended by NULL. */
struct request {
    const char *headers[2 * FIELDS_MAX];
    struct mr_bytes body;
};

#define REQUIRED "ce-specversion", "1.0", "ce-id", "1", "ce-type", "t.t", "ce-source", "/s"

static bool format_unknown;
static struct mr_problem problem;

static enum mr_status decode(const struct request *request, struct mr_events *ret_events)
{
    struct mr_field fields[FIELDS_MAX];
    uint32_t count = 0;
    while (count < FIELDS_MAX && request->headers[2 * count] != NULL) {
        fields[count] = (struct mr_field){mr_bytes_of(request->headers[2 * count]),
                                          mr_bytes_of(request->headers[2 * count + 1])};
        count++;
    }
    *ret_events = (struct mr_events){0};
    return mr_http_decode(fields, count, request->body, MR_EVENT_SIZE_MAX, ret_events,
                          &format_unknown, &problem);
}

static struct mr_event *decode_one(struct request request)
{
    struct mr_events events;
    enum mr_status r = decode(&request, &events);
    if (r != MR_OK) {
        fail_msg("%s: %s", mr_status_name(r), problem.text);
    }
    assert_int_equal(events.count, 1);
    struct mr_event *event = mr_event_ref(events.events[0]);
    mr_events_release(&events);
    assert_null(events.events);
    assert_int_equal(mr_event_check(mr_event_record(event)), MR_OK);
    return event;
}

static void assert_status(struct request request, enum mr_status expected)
{
    struct mr_events events;
    enum mr_status r = decode(&request, &events);
    if (r != expected) {
        fail_msg("%s instead of %s: %s", mr_status_name(r), mr_status_name(expected),
                 problem.text);
    }
    assert_null(events.events);
    assert_int_equal(events.count, 0);
}

static struct mr_event *decode_subject(const char *value)
{
    return decode_one((struct request){{REQUIRED, "ce-subject", value}, {0}});
}

static void test_decode_header_values_are_unquoted_and_decoded_once(void **state)
{
    (void)state;
    const char *cases[][2] = {
        {"a b", "a b"},          {" \ta b\t ", "a b"},     {"a%20b", "a b"},
        {"%E2%82%AC", "\xE2\x82\xAC"}, {"%e2%82%ac", "\xE2\x82\xAC"}, {"100%2525", "100%25"},
        {"\"a%20b\"", "a b"},    {"\"a\\\"b\"", "a\"b"},   {"\"a\\\\b\"", "a\\b"},
        {"\"a\\%20b\"", "a b"},  {"%41%7e", "A~"},         {"\xE2\x82\xAC", "\xE2\x82\xAC"},
        {"\"a", "\"a"},          {"a\"", "a\""},           {"\"a\"b\"", "\"a\"b\""},
        {"\"a\\\"", "\"a\\\""},  {"%22", "\""},            {"%22a%22", "\"a\""},
        {"%F0%9F%98%80", "\xF0\x9F\x98\x80"}, {"a+b", "a+b"}, {"\" a \"", " a "},
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(cases); i++) {
        struct mr_event *event = decode_subject(cases[i][0]);
        assert_value(event, "subject", cases[i][1]);
        mr_event_unref(event);
    }
}

static void test_decode_bad_header_values_are_invalid(void **state)
{
    (void)state;
    const char *bad[] = {"%", "%4", "%4g", "%g4", "a%", "%C0%A0", "%ED%A0%80", "a%0Ab", "%00",
                         "%7F", "%C2%85", "%EF%BF%BF", "%E2%82", "%F5%80%80%80", "\xC0\xA0",
                         "\x01", "", "   ", "\"\"", "%FF"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(bad); i++) {
        assert_status((struct request){{REQUIRED, "ce-subject", bad[i]}, {0}}, MR_E_INVALID);
    }
}

static void test_decode_missing_required_is_not_a_cloudevent(void **state)
{
    (void)state;
    assert_status((struct request){{NULL}, {0}}, MR_E_NOT_CLOUDEVENT);
    assert_status((struct request){{"Content-Type", "application/json"}, mr_bytes_of("{}")},
                  MR_E_NOT_CLOUDEVENT);
    const char *all[] = {REQUIRED};
    for (size_t missing = 0; missing < 4; missing++) {
        struct request request = {0};
        size_t n = 0;
        for (size_t i = 0; i < 4; i++) {
            if (i != missing) {
                request.headers[n++] = all[2 * i];
                request.headers[n++] = all[2 * i + 1];
            }
        }
        assert_status(request, MR_E_NOT_CLOUDEVENT);
        assert_non_null(strstr(problem.text, all[2 * missing]));
    }
}

static void test_decode_empty_required_is_invalid(void **state)
{
    (void)state;
    assert_status((struct request){{"ce-specversion", "1.0", "ce-id", "", "ce-type", "t",
                                    "ce-source", "s"},
                                   {0}},
                  MR_E_INVALID);
    assert_status((struct request){{"ce-specversion", "", "ce-id", "1", "ce-type", "t",
                                    "ce-source", "s"},
                                   {0}},
                  MR_E_INVALID);
}

static void test_decode_other_specversion_is_unsupported_but_no_unknown_format(void **state)
{
    (void)state;
    assert_status((struct request){{"ce-specversion", "0.3", "ce-id", "1", "ce-type", "t",
                                    "ce-source", "s"},
                                   {0}},
                  MR_E_UNSUPPORTED);
    assert_false(format_unknown);
}

static void test_decode_unknown_format_needs_complete_headers(void **state)
{
    (void)state;
    const char *types[] = {"application/cloudevents+avro", "application/cloudevents+xml",
                           "application/cloudevents", "application/cloudevents-batch+protobuf",
                           "application/cloudevents-batch", "Application/CloudEvents+CBOR; a=b",
                           "application/cloudeventsx", "application/cloudevents+json5"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(types); i++) {
        assert_status((struct request){{"Content-Type", types[i]}, mr_bytes_of("xx")},
                      MR_E_UNSUPPORTED);
        assert_true(format_unknown);
        assert_status((struct request){{"Content-Type", types[i], "ce-id", "1"}, {0}},
                      MR_E_UNSUPPORTED);
        struct mr_event *event =
            decode_one((struct request){{REQUIRED, "Content-Type", types[i]}, mr_bytes_of("xx")});
        assert_false(format_unknown);
        assert_value(event, "datacontenttype", types[i]);
        mr_event_unref(event);
    }
}

static void test_decode_repeated_headers_are_invalid(void **state)
{
    (void)state;
    const char *names[] = {"ce-id", "CE-ID", "ce-specversion", "Ce-Source"};
    const char *values[] = {"1", "2", "1.0", "/s"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(names); i++) {
        assert_status((struct request){{REQUIRED, names[i], values[i]}, {0}}, MR_E_INVALID);
    }
    assert_status((struct request){{REQUIRED, "ce-x", "1", "Ce-X", "1"}, {0}}, MR_E_INVALID);
    assert_status((struct request){{REQUIRED, "content-type", "a/b", "Content-Type", "a/b"}, {0}},
                  MR_E_INVALID);
}

static void test_decode_illegal_names_are_dropped(void **state)
{
    (void)state;
    struct mr_event *event = decode_one((struct request){
        {REQUIRED, "ce-my-ext", "1", "ce-my_ext", "2", "ce-", "3", "ce-data", "4", "ce-data_base64",
         "5", "cex", "6", "X-ce-y", "7", "ce-\xC3\xBC", "8", "ce-OK", "9", "ce-my-ext", "1"},
        {0}});
    assert_value(event, "ok", "9");
    assert_int_equal(mr_get_u16(event->data + 4), 4);
    mr_event_unref(event);
}

static void test_decode_name_too_long_is_too_big(void **state)
{
    (void)state;
    char name[80] = "ce-";
    memset(name + 3, 'a', 64);
    struct mr_event *event = decode_one((struct request){{REQUIRED, name, "x"}, {0}});
    assert_value(event, name + 3, "x");
    mr_event_unref(event);
    name[67] = 'a';
    assert_status((struct request){{REQUIRED, name, "x"}, {0}}, MR_E_TOO_BIG);
    name[68] = 'a';
    assert_status((struct request){{REQUIRED, name, "x"}, {0}}, MR_E_TOO_BIG);
}

static void test_decode_datacontenttype_header_only_without_content_type(void **state)
{
    (void)state;
    struct mr_event *event = decode_one((struct request){
        {REQUIRED, "ce-datacontenttype", "text/xml", "Content-Type", "text/plain"},
        mr_bytes_of("x")});
    assert_value(event, "datacontenttype", "text/plain");
    mr_event_unref(event);
    event = decode_one(
        (struct request){{REQUIRED, "ce-datacontenttype", "text/xml"}, mr_bytes_of("x")});
    assert_value(event, "datacontenttype", "text/xml");
    mr_event_unref(event);
}

static void test_decode_body_without_type_is_bytes(void **state)
{
    (void)state;
    struct mr_event *event = decode_one((struct request){{REQUIRED}, mr_bytes_of("{}")});
    assert_false(mr_event_data_is_json(mr_event_record(event)));
    char *text = encode_text(event);
    assert_non_null(strstr(text, "\"data_base64\":\"e30=\""));
    mr_free(text);
    mr_event_unref(event);
}

static void test_decode_broken_json_body_survives_as_bytes(void **state)
{
    (void)state;
    struct mr_event *event = decode_one((struct request){
        {REQUIRED, "Content-Type", "application/json"}, mr_bytes_of("{\"a\":")});
    assert_false(mr_event_data_is_json(mr_event_record(event)));
    assert_bytes(mr_event_data(mr_event_record(event)), "{\"a\":");
    char *text = encode_text(event);
    assert_non_null(strstr(text, "\"data_base64\":"));
    mr_free(text);
    mr_event_unref(event);
}

static void test_decode_structured_ignores_ce_headers(void **state)
{
    (void)state;
    struct mr_event *event = decode_one((struct request){
        {"ce-id", "other", "Content-Type", " application/cloudevents+json ; charset=utf-8"},
        mr_bytes_of("{\"specversion\":\"1.0\",\"id\":\"1\",\"type\":\"t\",\"source\":\"/s\"}")});
    assert_bytes(mr_event_id(mr_event_record(event)), "1");
    mr_event_unref(event);
    assert_status((struct request){{REQUIRED, "Content-Type", "application/cloudevents+json"},
                                   mr_bytes_of("{}")},
                  MR_E_INVALID);
    assert_status((struct request){{"Content-Type", "application/cloudevents+json"}, {0}},
                  MR_E_INVALID);
}

static void test_decode_batch_limits(void **state)
{
    (void)state;
    const char *one = "{\"specversion\":\"1.0\",\"id\":\"1\",\"type\":\"t\",\"source\":\"/s\"}";
    size_t size = 2 + (MR_BATCH_EVENTS_MAX + 1) * (strlen(one) + 1);
    char *text = malloc(size + 1);
    for (unsigned count = MR_BATCH_EVENTS_MAX; count <= MR_BATCH_EVENTS_MAX + 1; count++) {
        size_t n = 0;
        text[n++] = '[';
        for (unsigned i = 0; i < count; i++) {
            n += (size_t)snprintf(text + n, size - n, "%s%s", i == 0 ? "" : ",", one);
        }
        text[n++] = ']';
        struct request request = {{"Content-Type", "application/cloudevents-batch+json"},
                                  mr_bytes(text, n)};
        struct mr_events events;
        enum mr_status r = decode(&request, &events);
        assert_int_equal(r, count <= MR_BATCH_EVENTS_MAX ? MR_OK : MR_E_TOO_BIG);
        assert_int_equal(events.count, r == MR_OK ? count : 0);
        mr_events_release(&events);
    }
    free(text);
}

static void assert_field(const struct mr_message *message, const char *name, const char *value)
{
    for (uint32_t i = 0; i < message->field_count; i++) {
        if (mr_bytes_equal(message->fields[i].name, mr_bytes_of(name))) {
            assert_bytes(message->fields[i].value, value);
            assert_string_equal((const char *)message->fields[i].name.data, name);
            assert_string_equal((const char *)message->fields[i].value.data, value);
            return;
        }
    }
    fail_msg("no header %s", name);
}

static void test_encode_binary_writes_every_attribute(void **state)
{
    (void)state;
    struct mr_event *event = decode_ok(
        "{\"specversion\":\"1.0\",\"id\":\"1\",\"type\":\"t.t\",\"source\":\"https://h/p?q=a b\","
        "\"subject\":\"Euro \\u20ac \\ud83d\\ude00\",\"b\":true,\"i\":-5,\"q\":\"\\\"%~!\","
        "\"datacontenttype\":\"text/plain\",\"data\":\"x\"}");
    struct mr_message message;
    mr_message_init(&message);
    assert_int_equal(mr_http_encode(mr_event_record(event), MR_MODE_BINARY, &message), MR_OK);
    const char *expected[][2] = {{"ce-specversion", "1.0"}, {"ce-id", "1"}, {"ce-type", "t.t"},
                                 {"ce-source", "https://h/p?q=a%20b"},
                                 {"ce-subject", "Euro%20%E2%82%AC%20%F0%9F%98%80"},
                                 {"ce-b", "true"}, {"ce-i", "-5"}, {"ce-q", "%22%25~!"}};
    assert_int_equal(message.field_count, MR_ARRAY_COUNT(expected));
    for (size_t i = 0; i < MR_ARRAY_COUNT(expected); i++) {
        assert_field(&message, expected[i][0], expected[i][1]);
    }
    assert_bytes(message.content_type, "text/plain");
    assert_true(message.has_body);
    assert_bytes(mr_buf_bytes(&message.body), "x");
    mr_message_release(&message);
    mr_event_unref(event);
}

static void test_encode_implied_json_becomes_explicit(void **state)
{
    (void)state;
    struct mr_event *event = decode_ok("{\"specversion\":\"1.0\",\"id\":\"1\",\"type\":\"t\","
                                       "\"source\":\"/s\",\"data\":\"a\"}");
    struct mr_message message;
    mr_message_init(&message);
    assert_int_equal(mr_http_encode(mr_event_record(event), MR_MODE_BINARY, &message), MR_OK);
    assert_bytes(message.content_type, "application/json");
    assert_bytes(mr_buf_bytes(&message.body), "\"a\"");
    mr_message_release(&message);
    mr_event_unref(event);
}

static void test_encode_without_data_has_no_body_and_no_type(void **state)
{
    (void)state;
    struct mr_event *event = decode_ok("{\"specversion\":\"1.0\",\"id\":\"1\",\"type\":\"t\","
                                       "\"source\":\"/s\"}");
    struct mr_message message;
    mr_message_init(&message);
    assert_int_equal(mr_http_encode(mr_event_record(event), MR_MODE_BINARY, &message), MR_OK);
    assert_int_equal(message.content_type.size, 0);
    assert_false(message.has_body);
    assert_int_equal(message.body.size, 0);
    mr_message_release(&message);
    mr_event_unref(event);
}

static void test_encode_structured_and_batch(void **state)
{
    (void)state;
    struct mr_event *event = decode_ok("{\"specversion\":\"1.0\",\"id\":\"1\",\"type\":\"t\","
                                       "\"source\":\"/s\"}");
    char *json = encode_text(event);
    char batch[256];
    snprintf(batch, sizeof(batch), "[%s]", json);
    struct mr_message message;
    mr_message_init(&message);
    assert_int_equal(mr_http_encode(mr_event_record(event), MR_MODE_STRUCTURED, &message), MR_OK);
    assert_bytes(message.content_type, "application/cloudevents+json");
    assert_bytes(mr_buf_bytes(&message.body), json);
    assert_int_equal(message.field_count, 0);
    mr_message_release(&message);
    assert_int_equal(mr_http_encode(mr_event_record(event), MR_MODE_BATCH, &message), MR_OK);
    assert_bytes(message.content_type, "application/cloudevents-batch+json");
    assert_bytes(mr_buf_bytes(&message.body), batch);
    mr_message_release(&message);
    mr_free(json);
    mr_event_unref(event);
}

static void test_encode_decode_binary_gives_the_same_attributes(void **state)
{
    (void)state;
    struct mr_event *event = decode_ok(
        "{\"specversion\":\"1.0\",\"id\":\" 1 \",\"type\":\"\\\"t\\\"\",\"source\":\"/s\","
        "\"subject\":\"100%25 \\\\ \\u00e9\",\"empty\":\"\","
        "\"datacontenttype\":\"a/b;c=\\\"d\\\"\","
        "\"data\":\"bytes\"}");
    struct mr_message message;
    mr_message_init(&message);
    assert_int_equal(mr_http_encode(mr_event_record(event), MR_MODE_BINARY, &message), MR_OK);
    struct mr_field fields[16];
    memcpy(fields, message.fields, message.field_count * sizeof(fields[0]));
    fields[message.field_count] =
        (struct mr_field){MR_BYTES_LITERAL("content-type"), message.content_type};
    struct mr_events events;
    assert_int_equal(mr_http_decode(fields, message.field_count + 1, mr_buf_bytes(&message.body),
                                    MR_EVENT_SIZE_MAX, &events, &format_unknown, &problem),
                     MR_OK);
    uint32_t position = 0;
    struct mr_attr attr;
    while (mr_event_next_attr(mr_event_record(event), &position, &attr)) {
        struct mr_attr other;
        assert_true(mr_event_attr(mr_event_record(events.events[0]), attr.name, &other));
        assert_true(mr_bytes_equal(attr.value, other.value));
    }
    mr_events_release(&events);
    mr_message_release(&message);
    mr_event_unref(event);
}

static void test_http_every_failed_allocation_leaks_nothing(void **state)
{
    (void)state;
    int64_t live = mr_alloc_live();
    enum mr_status r = MR_E_NOMEM;
    for (uint64_t n = 1; r != MR_OK && n < 100; n++) {
        (void)mr_alloc_fail_at(n, 0);
        struct request request = {{REQUIRED, "ce-subject", "a%20b"}, mr_bytes_of("x")};
        struct mr_events events;
        struct mr_message message;
        mr_message_init(&message);
        r = decode(&request, &events);
        if (r == MR_OK) {
            r = mr_http_encode(mr_event_record(events.events[0]), MR_MODE_BINARY, &message);
        }
        (void)mr_alloc_fail_at(0, 0);
        assert_true(r == MR_OK || r == MR_E_NOMEM);
        mr_message_release(&message);
        mr_events_release(&events);
        assert_int_equal(mr_alloc_live(), live);
    }
    assert_int_equal(r, MR_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode_header_values_are_unquoted_and_decoded_once),
        cmocka_unit_test(test_decode_bad_header_values_are_invalid),
        cmocka_unit_test(test_decode_missing_required_is_not_a_cloudevent),
        cmocka_unit_test(test_decode_empty_required_is_invalid),
        cmocka_unit_test(test_decode_other_specversion_is_unsupported_but_no_unknown_format),
        cmocka_unit_test(test_decode_unknown_format_needs_complete_headers),
        cmocka_unit_test(test_decode_repeated_headers_are_invalid),
        cmocka_unit_test(test_decode_illegal_names_are_dropped),
        cmocka_unit_test(test_decode_name_too_long_is_too_big),
        cmocka_unit_test(test_decode_datacontenttype_header_only_without_content_type),
        cmocka_unit_test(test_decode_body_without_type_is_bytes),
        cmocka_unit_test(test_decode_broken_json_body_survives_as_bytes),
        cmocka_unit_test(test_decode_structured_ignores_ce_headers),
        cmocka_unit_test(test_decode_batch_limits),
        cmocka_unit_test(test_encode_binary_writes_every_attribute),
        cmocka_unit_test(test_encode_implied_json_becomes_explicit),
        cmocka_unit_test(test_encode_without_data_has_no_body_and_no_type),
        cmocka_unit_test(test_encode_structured_and_batch),
        cmocka_unit_test(test_encode_decode_binary_gives_the_same_attributes),
        cmocka_unit_test(test_http_every_failed_allocation_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
