/* The conformance vectors, read in place: HTTP, MQTT, the CloudEvents JSON format suite, the SDK
 * and specification samples, and the MQTT samples with what they must normalise to. */
#include "tests/unit/schemas/support.h"

#include <dirent.h>

#include "schemas/normalise.h"

#define RECEIVED_NS (1700000000ull * MR_SECOND)

static enum mr_status normalise(const char *as, const char *topic, bool message, const char *input,
                                size_t size, char **ret_text)
{
    struct mr_normalise_options options = {.as = as, .source_name = "test", .topic = topic,
                                           .message = message, .wall_ns = RECEIVED_NS,
                                           .unique = 1};
    struct mr_buf out;
    mr_buf_init(&out, 8 * MR_MIB);
    struct mr_problem problem = {0};
    enum mr_status r = mr_normalise_in(&options, mr_bytes(input, size), &out, &problem);
    if (r == MR_OK) {
        assert_string_equal(problem.text, "");
    } else {
        assert_string_not_equal(problem.text, "");
    }
    *ret_text = mr_buf_take_text(&out);
    assert_non_null(*ret_text);
    return r;
}

/* The nth line of the output as an event. */
static struct mr_event *line_event(const char *text, int n)
{
    while (n-- > 0) {
        text = strchr(text, '\n');
        assert_non_null(text);
        text++;
    }
    const char *end = strchr(text, '\n');
    assert_non_null(end);
    char *line = strndup(text, (size_t)(end - text));
    struct mr_event *event = decode_ok(line);
    free(line);
    return event;
}

static int count_lines(const char *text)
{
    int n = 0;
    for (; *text != '\0'; text++) {
        n += *text == '\n';
    }
    return n;
}

static void assert_expected_status(const cJSON *expect, enum mr_status r, const char *name)
{
    const char *error = string_of(expect, "error");
    bool ok;
    if (cJSON_IsTrue(cJSON_GetObjectItem(expect, "not_a_cloudevent"))) {
        ok = r == MR_E_NOT_CLOUDEVENT;
    } else if (error == NULL) {
        ok = r == MR_OK;
    } else if (strcmp(error, "unsupported-media-type") == 0) {
        ok = r == MR_E_UNSUPPORTED;
    } else {
        ok = r == MR_E_INVALID || r == MR_E_UNSUPPORTED;
    }
    if (!ok) {
        fail_msg("%s: %s", name, mr_status_name(r));
    }
}

static void assert_expected_data(const cJSON *expect, const struct mr_event *event)
{
    const cJSON *data = cJSON_GetObjectItemCaseSensitive(expect, "data");
    if (data == NULL) {
        return;
    }
    assert_int_equal(mr_event_has_data(mr_event_record(event)), !cJSON_IsNull(data));
    if (cJSON_IsString(data)) {
        assert_bytes(mr_event_data(mr_event_record(event)), data->valuestring);
    }
}

static void test_http_decode_vectors(void **state)
{
    (void)state;
    cJSON *vectors = read_vectors("vectors/http-decode.json");
    const cJSON *vector;
    int done = 0;
    cJSON_ArrayForEach(vector, vectors)
    {
        const cJSON *expect = cJSON_GetObjectItem(vector, "expect");
        char *input = cJSON_PrintUnformatted(cJSON_GetObjectItem(vector, "request"));
        char *text;
        enum mr_status r = normalise("http", NULL, true, input, strlen(input), &text);
        free(input);
        assert_expected_status(expect, r, string_of(vector, "name"));
        if (r == MR_OK) {
            const cJSON *events = cJSON_GetObjectItem(expect, "events");
            assert_int_equal(count_lines(text), cJSON_GetArraySize(events));
            for (int i = 0; i < cJSON_GetArraySize(events); i++) {
                struct mr_event *event = line_event(text, i);
                assert_attributes(event, cJSON_GetArrayItem(events, i));
                assert_expected_data(expect, event);
                mr_event_unref(event);
            }
        }
        mr_free(text);
        done++;
    }
    cJSON_Delete(vectors);
    assert_true(done > 0);
}

static void test_http_encode_vectors(void **state)
{
    (void)state;
    cJSON *vectors = read_vectors("vectors/http-encode.json");
    const cJSON *vector;
    cJSON_ArrayForEach(vector, vectors)
    {
        char *input = cJSON_PrintUnformatted(cJSON_GetObjectItem(vector, "event"));
        struct mr_buf out;
        mr_buf_init(&out, MR_MIB);
        struct mr_problem problem = {0};
        if (mr_normalise_out("http", MR_MODE_BINARY, mr_bytes_of(input), &out, &problem) !=
            MR_OK) {
            fail_msg("%s: %s", string_of(vector, "name"), problem.text);
        }
        free(input);
        char *text = mr_buf_take_text(&out);
        cJSON *message = cJSON_Parse(text);
        const cJSON *header;
        cJSON_ArrayForEach(header, cJSON_GetObjectItem(vector, "headers"))
        {
            const char *actual =
                cJSON_GetStringValue(cJSON_GetObjectItem(cJSON_GetObjectItem(message, "headers"),
                                                         header->string));
            assert_non_null(actual);
            assert_string_equal(actual, header->valuestring);
        }
        cJSON_Delete(message);
        mr_free(text);
    }
    cJSON_Delete(vectors);
}

static void test_mqtt_vectors(void **state)
{
    (void)state;
    cJSON *vectors = read_vectors("vectors/mqtt.json");
    const cJSON *vector;
    cJSON_ArrayForEach(vector, vectors)
    {
        const cJSON *expect = cJSON_GetObjectItem(vector, "expect");
        char *input = cJSON_PrintUnformatted(cJSON_GetObjectItem(vector, "message"));
        char *text;
        enum mr_status r = normalise("mqtt", NULL, true, input, strlen(input), &text);
        free(input);
        if (cJSON_IsTrue(cJSON_GetObjectItem(expect, "not_a_cloudevent"))) {
            assert_int_equal(r, MR_OK); /* wrapped as telemetry */
        } else {
            assert_expected_status(expect, r, string_of(vector, "name"));
        }
        const cJSON *expected = cJSON_GetObjectItem(expect, "event");
        if (r == MR_OK && expected != NULL) {
            struct mr_event *event = line_event(text, 0);
            assert_attributes(event, expected);
            assert_expected_data(expect, event);
            mr_event_unref(event);
        }
        mr_free(text);
    }
    cJSON_Delete(vectors);
}

/* Each test of a file of the format suite, whole or as a batch; @p valid: its fate. */
static void run_format_file(const char *file, const char *member, bool valid)
{
    cJSON *json = read_vectors(file);
    const cJSON *test;
    int done = 0;
    cJSON_ArrayForEach(test, cJSON_GetObjectItem(json, "tests"))
    {
        const cJSON *given = cJSON_GetObjectItem(test, member);
        char *input = cJSON_PrintUnformatted(given);
        char *text;
        enum mr_status r = normalise("cloudevents", NULL, false, input, strlen(input), &text);
        if ((r == MR_OK) != valid) {
            fail_msg("%s: %s", string_of(test, "id"), mr_status_name(r));
        }
        if (valid) {
            int count = cJSON_IsArray(given) ? cJSON_GetArraySize(given) : 1;
            assert_int_equal(count_lines(text), count);
            for (int i = 0; i < count; i++) {
                struct mr_event *event = line_event(text, i);
                assert_attributes(event, cJSON_IsArray(given) ? cJSON_GetArrayItem(given, i)
                                                              : given);
                mr_event_unref(event);
            }
        } else {
            assert_string_equal(text, "");
        }
        free(input);
        mr_free(text);
        done++;
    }
    cJSON_Delete(json);
    assert_true(done > 0);
}

static void test_format_valid_events(void **state)
{
    (void)state;
    run_format_file("ce-format-json/valid-events.json", "event", true);
}

static void test_format_invalid_events(void **state)
{
    (void)state;
    run_format_file("ce-format-json/invalid-events.json", "event", false);
}

static void test_format_valid_batches(void **state)
{
    (void)state;
    run_format_file("ce-format-json/valid-batches.json", "batch", true);
}

static void test_format_invalid_batches(void **state)
{
    (void)state;
    run_format_file("ce-format-json/invalid-batches.json", "batch", false);
}

/* The line of expected.jsonl about @p file; NULL when there is none. */
static cJSON *find_expected(const char *file)
{
    size_t size;
    char *all = read_text_file(VECTORS "expected.jsonl", &size);
    assert_non_null(all);
    char wanted[256];
    snprintf(wanted, sizeof(wanted), "{\"file\": \"%s\"", file);
    char *line = strstr(all, wanted);
    cJSON *json = line == NULL ? NULL : cJSON_Parse(line);
    free(all);
    return json;
}

static void assert_expected_attr(const struct mr_event *event, const cJSON *expected,
                                 const char *name)
{
    const char *want = string_of(expected, name);
    struct mr_bytes value = mr_event_value(mr_event_record(event), name);
    if (want == NULL) {
        assert_false(has_attr(event, name));
    } else if (strcmp(want, "<generated>") == 0) {
        assert_true(value.size > 0);
    } else if (strcmp(name, "time") == 0) {
        int64_t actual;
        int64_t instant = (int64_t)RECEIVED_NS;
        assert_true(mr_time_parse(value, &actual));
        if (want[0] != '<') {
            assert_true(mr_time_parse(mr_bytes_of(want), &instant));
        }
        assert_true(actual == instant);
    } else {
        assert_bytes(value, want);
    }
}

static void assert_expected_events(const cJSON *expected, const char *text, const char *file)
{
    static const char *const names[] = {"id", "source", "type", "subject", "time",
                                        "datacontenttype"};
    const cJSON *events = cJSON_GetObjectItem(expected, "events");
    if (count_lines(text) != cJSON_GetArraySize(events)) {
        fail_msg("%s: %s", file, text);
    }
    for (int i = 0; i < cJSON_GetArraySize(events); i++) {
        struct mr_event *event = line_event(text, i);
        for (size_t k = 0; k < MR_ARRAY_COUNT(names); k++) {
            assert_expected_attr(event, cJSON_GetArrayItem(events, i), names[k]);
        }
        mr_event_unref(event);
    }
}

/* Every *.json of a folder, in any order; @p run gets its path below conformance/ and its text. */
static void for_each_file(const char *folder, void (*run)(const char *, const char *, size_t))
{
    char path[512];
    snprintf(path, sizeof(path), VECTORS "%s", folder);
    DIR *dir = opendir(path);
    if (dir == NULL) {
        print_message("[  SKIP    ] %s is not there\n", path);
        skip();
        return;
    }
    int done = 0;
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        size_t n = strlen(entry->d_name);
        if (n < 6 || strcmp(entry->d_name + n - 5, ".json") != 0) {
            continue;
        }
        char file[400];
        snprintf(file, sizeof(file), "%s/%s", folder, entry->d_name);
        snprintf(path, sizeof(path), VECTORS "%s", file);
        size_t size;
        char *text = read_text_file(path, &size);
        assert_non_null(text);
        run(file, text, size);
        free(text);
        done++;
    }
    closedir(dir);
    assert_true(done > 0);
}

static void run_json_sample(const char *file, const char *text, size_t size)
{
    cJSON *expected = find_expected(file);
    char *out;
    enum mr_status r = normalise("cloudevents", NULL, false, text, size, &out);
    bool placeholder = strstr(text, "... base64 encoded string ...") != NULL;
    bool refused = strstr(file, "/v03/") != NULL || strstr(file, "/fail_") != NULL ||
                   strstr(file, "_upper_case") != NULL || placeholder;
    if ((r != MR_OK) != refused) {
        fail_msg("%s: %s", file, mr_status_name(r));
    }
    if (r == MR_OK && expected != NULL) {
        assert_expected_events(expected, out, file);
    }
    mr_free(out);
    cJSON_Delete(expected);
}

static void test_sdk_and_specification_samples(void **state)
{
    (void)state;
    for_each_file("ce-sdk-json/v1", run_json_sample);
    for_each_file("ce-sdk-json/v03", run_json_sample);
    for_each_file("ce-spec-examples", run_json_sample);
}

static void run_mqtt_sample(const char *file, const char *text, size_t size)
{
    cJSON *recorded = cJSON_Parse(text);
    cJSON *expected = find_expected(file);
    const char *topic = string_of(recorded, "topic");
    const char *payload = string_of(recorded, "payload");
    char *out;
    if (topic == NULL) {
        assert_int_equal(normalise("mqtt", "a/topic", false, text, size, &out), MR_OK);
        assert_int_equal(count_lines(out), 1);
        mr_free(out);
    } else {
        assert_non_null(expected);
        /* three ways in: as a payload with its topic, as a recorded message, and by its shape */
        assert_int_equal(normalise("mqtt", topic, false, payload, strlen(payload), &out), MR_OK);
        assert_expected_events(expected, out, file);
        mr_free(out);
        for (int message = 0; message < 2; message++) {
            assert_int_equal(normalise("mqtt", NULL, message, text, size, &out), MR_OK);
            assert_expected_events(expected, out, file);
            struct mr_event *event = line_event(out, 0);
            char *line = strdup(payload); /* on one line */
            for (char *p = strchr(line, '\n'); p != NULL; p = strchr(p, '\n')) {
                *p = ' ';
            }
            assert_bytes(mr_event_data(mr_event_record(event)), line);
            free(line);
            assert_int_equal(has_attr(event, "retained"),
                             cJSON_IsTrue(cJSON_GetObjectItem(recorded, "retain")));
            mr_event_unref(event);
            mr_free(out);
        }
    }
    cJSON_Delete(expected);
    cJSON_Delete(recorded);
}

static void test_mqtt_samples(void **state)
{
    (void)state;
    for_each_file("mqtt", run_mqtt_sample);
}

/* The four scenarios of the conformance feature file, whose tables are written out here. */
static void test_http_feature_scenarios(void **state)
{
    (void)state;
    const char *types[] = {"application/json", "application/json; charset=utf-8"};
    for (size_t i = 0; i < 4; i++) {
        char request[1024];
        if (i < 2) {
            snprintf(request, sizeof(request),
                     "{\"headers\":{\"Host\":\"example.com\",\"ce-specversion\":\"1.0\","
                     "\"ce-type\":\"com.example.someevent\",\"ce-time\":\"2018-04-05T03:56:24Z\","
                     "\"ce-id\":\"1234-1234-1234\",\"ce-source\":\"/mycontext/subcontext\","
                     "\"Content-Type\":\"%s\",\"Content-Length\":\"33\"},"
                     "\"body\":\"{\\n  \\\"message\\\": \\\"Hello World!\\\"\\n}\"}",
                     types[i]);
        } else {
            snprintf(request, sizeof(request),
                     "{\"headers\":{\"Content-Type\":\"application/cloudevents+json%s\"},"
                     "\"body\":{\"specversion\":\"1.0\",\"type\":\"com.example.someevent\","
                     "\"time\":\"2018-04-05T03:56:24Z\",\"id\":\"1234-1234-1234\","
                     "\"source\":\"/mycontext/subcontext\",\"datacontenttype\":"
                     "\"application/json\",\"data\":{\"message\":\"Hello World!\"}}}",
                     i == 2 ? "" : "; charset=utf-8");
        }
        char *text;
        assert_int_equal(normalise("http", NULL, true, request, strlen(request), &text), MR_OK);
        struct mr_event *event = line_event(text, 0);
        assert_bytes(mr_event_id(mr_event_record(event)), "1234-1234-1234");
        assert_bytes(mr_event_type(mr_event_record(event)), "com.example.someevent");
        assert_bytes(mr_event_source(mr_event_record(event)), "/mycontext/subcontext");
        assert_value(event, "time", "2018-04-05T03:56:24Z");
        assert_value(event, "datacontenttype", types[i % 2 * (i < 2)]);
        assert_true(mr_event_data_is_json(mr_event_record(event)));
        struct mr_bytes data = mr_event_data(mr_event_record(event));
        cJSON *json = cJSON_ParseWithLength((const char *)data.data, data.size);
        assert_string_equal(string_of(json, "message"), "Hello World!");
        cJSON_Delete(json);
        mr_event_unref(event);
        mr_free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_http_decode_vectors),
        cmocka_unit_test(test_http_encode_vectors),
        cmocka_unit_test(test_mqtt_vectors),
        cmocka_unit_test(test_format_valid_events),
        cmocka_unit_test(test_format_invalid_events),
        cmocka_unit_test(test_format_valid_batches),
        cmocka_unit_test(test_format_invalid_batches),
        cmocka_unit_test(test_sdk_and_specification_samples),
        cmocka_unit_test(test_mqtt_samples),
        cmocka_unit_test(test_http_feature_scenarios),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
