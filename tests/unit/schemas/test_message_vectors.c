/* Every vector of every binding, the published ones and ours, through `normalise`: recorded
 * messages in, and events out again. */
#include "tests/unit/schemas/support.h"

#include "schemas/normalise.h"

#define OURS MR_SOURCE_DIR "/tests/data/vectors/"
#define RECEIVED_NS (1700000000ull * MR_SECOND)

static const char *vector_name; /* in work */

static void fail_here(const char *what, const char *text)
{
    fail_msg("%s: %s: %s", vector_name, what, text);
}

static enum mr_status run_in(const char *as, const cJSON *message, char **ret_text,
                             struct mr_problem *problem)
{
    const char *name = string_of(message, "source_name");
    char *input = cJSON_PrintUnformatted(message);
    struct mr_normalise_options options = {.as = as, .source_name = name == NULL ? "test" : name,
                                           .message = true, .wall_ns = RECEIVED_NS, .unique = 1};
    struct mr_buf out;
    mr_buf_init(&out, 8 * MR_MIB);
    enum mr_status r = mr_normalise_in(&options, mr_bytes_of(input), &out, problem);
    free(input);
    *ret_text = mr_buf_take_text(&out);
    assert_non_null(*ret_text);
    return r;
}

static void check_value(const struct mr_event *event, const char *name, const cJSON *want)
{
    struct mr_attr attr;
    if (!mr_event_attr(mr_event_record(event), mr_bytes_of(name), &attr)) {
        fail_here("missing", name);
    }
    char buffer[64];
    const char *text = canonical(want, buffer);
    if (strcmp(text, "<generated>") == 0) {
        assert_true(attr.value.size > 0);
    } else if (strcmp(name, "time") == 0 || strcmp(text, "<receive time>") == 0) {
        int64_t instant = (int64_t)RECEIVED_NS;
        int64_t actual = 0;
        assert_true(mr_time_parse(attr.value, &actual));
        assert_true(text[0] == '<' || mr_time_parse(mr_bytes_of(text), &instant));
        assert_true(actual == instant);
    } else if (!mr_bytes_equal(attr.value, mr_bytes_of(text))) {
        char got[256];
        snprintf(got, sizeof(got), "%s is %.*s", name, (int)attr.value.size,
                 (const char *)attr.value.data);
        fail_here("value", got);
    }
}

/* All attributes and no others; data when @p expect says something about it. */
static void check_event(const char *line, const cJSON *want, const cJSON *expect)
{
    struct mr_event *event = decode_ok(line);
    struct mr_bytes record = mr_event_record(event);
    const cJSON *member;
    int count = 0;
    cJSON_ArrayForEach(member, want)
    {
        if (strcmp(member->string, "specversion") != 0) {
            check_value(event, member->string, member);
            count++;
        }
    }
    if (mr_get_u16(record.data + 4) != count) {
        fail_here("attributes", line);
    }
    const cJSON *data = cJSON_GetObjectItem(expect, "data");
    if (data != NULL) {
        assert_int_equal(mr_event_has_data(record), cJSON_IsString(data));
        assert_bytes(mr_event_data(record), cJSON_IsString(data) ? data->valuestring : "");
    }
    if (string_of(expect, "data_base64") != NULL) {
        struct mr_buf bytes;
        mr_buf_init(&bytes, MR_MIB);
        assert_int_equal(
            mr_buf_append_unbase64(&bytes, mr_bytes_of(string_of(expect, "data_base64"))), MR_OK);
        assert_true(mr_bytes_equal(mr_buf_bytes(&bytes), mr_event_data(record)));
        mr_buf_release(&bytes);
    }
    mr_event_unref(event);
}

static void check_events(char *text, const cJSON *expect)
{
    const cJSON *one = cJSON_GetObjectItem(expect, "event");
    const cJSON *events = cJSON_GetObjectItem(expect, "events");
    int count = one != NULL ? 1 : cJSON_GetArraySize(events);
    int i = 0;
    char *line = text;
    for (char *end = strchr(line, '\n'); end != NULL; end = strchr(line, '\n')) {
        *end = '\0';
        assert_true(i < count);
        check_event(line, one != NULL ? one : cJSON_GetArrayItem(events, i), expect);
        line = end + 1;
        i++;
    }
    assert_int_equal(i, count);
}

/* A message that is no CloudEvent is wrapped where the protocol has raw messages. */
static void check_raw(const char *as, enum mr_status r, const char *text)
{
    const char *type = strcmp(as, "kafka") == 0  ? "\"type\":\"dev.knative.kafka.event\""
                       : strcmp(as, "amqp") == 0 ? "\"type\":\"dev.knative.rabbitmq.event\""
                       : strcmp(as, "mqtt") == 0 ? "\"type\":\"org.mqtt.message\""
                                                 : NULL;
    assert_int_equal(r, type == NULL ? MR_E_NOT_CLOUDEVENT : MR_OK);
    assert_true(type == NULL || strstr(text, type) != NULL);
}

static void check_in(const char *as, const cJSON *message, const cJSON *expect)
{
    char *text;
    struct mr_problem problem = {0};
    enum mr_status r = run_in(as, message, &text, &problem);
    const char *error = string_of(expect, "error");
    if ((r == MR_OK) != (problem.text[0] == '\0')) {
        fail_here("problem", problem.text);
    }
    if (cJSON_IsTrue(cJSON_GetObjectItem(expect, "not_a_cloudevent"))) {
        check_raw(as, r, text);
    } else if (error != NULL) {
        bool unsupported = strcmp(error, "unsupported-media-type") == 0;
        assert_true(unsupported ? r == MR_E_UNSUPPORTED
                                : r == MR_E_INVALID || r == MR_E_UNSUPPORTED);
        assert_string_equal(text, "");
    } else {
        if (r != MR_OK) {
            fail_here(mr_status_name(r), problem.text);
        }
        check_events(text, expect);
    }
    mr_free(text);
}

static void check_same(const char *what, const cJSON *got, const cJSON *want)
{
    if ((got == NULL && cJSON_IsNull(want)) || cJSON_Compare(got, want, true)) {
        return;
    }
    char *text = cJSON_PrintUnformatted(got);
    fail_here(what, text == NULL ? "nothing" : text);
}

/* Headers and the other members that @p expect names; a header null: it must not be there. */
static void check_out(const char *to, const char *mode, const cJSON *input, const cJSON *expect)
{
    struct mr_buf out;
    struct mr_problem problem = {0};
    mr_buf_init(&out, MR_MIB);
    char *json = cJSON_PrintUnformatted(input);
    bool structured = mode != NULL && strcmp(mode, "structured") == 0;
    if (mr_normalise_out(to, structured ? MR_MODE_STRUCTURED : MR_MODE_BINARY, mr_bytes_of(json),
                         &out, &problem) != MR_OK) {
        fail_here("out", problem.text);
    }
    free(json);
    char *text = mr_buf_take_text(&out);
    cJSON *message = cJSON_Parse(text);
    const cJSON *member;
    cJSON_ArrayForEach(member, expect)
    {
        const cJSON *got = cJSON_GetObjectItemCaseSensitive(message, member->string);
        if (strcmp(member->string, "headers") != 0) {
            check_same(member->string, got, member);
            continue;
        }
        const cJSON *header;
        cJSON_ArrayForEach(header, member)
        {
            check_same(header->string, cJSON_GetObjectItemCaseSensitive(got, header->string),
                       header);
        }
    }
    cJSON_Delete(message);
    mr_free(text);
}

static void run_vectors(const char *folder, const char *protocol, const char *file)
{
    char path[64];
    snprintf(path, sizeof(path), "%s.json", file);
    cJSON *vectors = read_json_file(folder, path);
    assert_true(cJSON_GetArraySize(vectors) > 0);
    const cJSON *vector;
    cJSON_ArrayForEach(vector, vectors)
    {
        vector_name = string_of(vector, "name");
        const cJSON *message = cJSON_GetObjectItem(vector, "message");
        const cJSON *request = cJSON_GetObjectItem(vector, "request");
        const cJSON *expect = cJSON_GetObjectItem(vector, "expect");
        const cJSON *event = cJSON_GetObjectItem(vector, "event");
        if (event != NULL) { /* of http-encode.json, headers and all */
            cJSON *only = cJSON_CreateObject();
            cJSON_AddItemReferenceToObject(only, "headers",
                                           cJSON_GetObjectItem(vector, "headers"));
            check_out(protocol, NULL, event, only);
            cJSON_Delete(only);
        } else if (cJSON_GetObjectItem(message, "encode") != NULL) {
            check_out(protocol, string_of(message, "mode"), message, expect);
        } else {
            check_in(protocol, message != NULL ? message : request, expect);
        }
    }
    cJSON_Delete(vectors);
}

static void test_published_vectors(void **state)
{
    (void)state;
    run_vectors(VECTORS "vectors/", "kafka", "kafka");
    run_vectors(VECTORS "vectors/", "amqp", "amqp");
    run_vectors(VECTORS "vectors/", "mqtt", "mqtt");
    run_vectors(VECTORS "vectors/", "nats", "nats");
    run_vectors(VECTORS "vectors/", "http", "http-decode");
    run_vectors(VECTORS "vectors/", "http", "http-encode");
}

static void test_own_kafka_vectors(void **state)
{
    (void)state;
    run_vectors(OURS, "kafka", "kafka");
}

static void test_own_amqp_vectors(void **state)
{
    (void)state;
    run_vectors(OURS, "amqp", "amqp");
}

static void test_own_mqtt_and_nats_vectors(void **state)
{
    (void)state;
    run_vectors(OURS, "mqtt", "mqtt");
    run_vectors(OURS, "nats", "nats");
}

static void test_own_http_vectors(void **state)
{
    (void)state;
    run_vectors(OURS, "http", "http-decode");
    run_vectors(OURS, "http", "http-encode");
}

/* The messages that AWS hands to functions: by their own adapter, and recognised. */
static void test_messages_in_envelopes_of_aws(void **state)
{
    (void)state;
    const char *const cases[][3] = {{"aws/kafka-event.json", "kafka", "auto"},
                                    {"aws/rabbitmq-event.json", "amqp", "auto"},
                                    {"aws/activeMQEvent.json", "auto", "amqp"}};
    size_t size;
    char *all = read_text_file(VECTORS "expected.jsonl", &size);
    if (all == NULL) {
        skip();
    }
    for (size_t i = 0; i < MR_ARRAY_COUNT(cases); i++) {
        char path[512];
        char wanted[256];
        vector_name = cases[i][0];
        snprintf(path, sizeof(path), VECTORS "%s", cases[i][0]);
        snprintf(wanted, sizeof(wanted), "{\"file\": \"%s\"", cases[i][0]);
        cJSON *expected = cJSON_Parse(strstr(all, wanted));
        cJSON *events = cJSON_GetObjectItem(expected, "events");
        char *input = read_text_file(path, &size);
        for (int way = 1; way < 3; way++) {
            struct mr_normalise_options options = {.as = cases[i][way], .source_name = "test",
                                                   .wall_ns = RECEIVED_NS, .unique = 1};
            struct mr_buf out;
            mr_buf_init(&out, MR_MIB);
            struct mr_problem problem = {0};
            assert_int_equal(mr_normalise_in(&options, mr_bytes(input, size), &out, &problem),
                             MR_OK);
            char *text = mr_buf_take_text(&out);
            char *line = text;
            int n = 0;
            for (char *end = strchr(line, '\n'); end != NULL; end = strchr(line, '\n'), n++) {
                *end = '\0';
                struct mr_event *event = decode_ok(line);
                const cJSON *member;
                cJSON_ArrayForEach(member, cJSON_GetArrayItem(events, n))
                {
                    if (member->valuestring[0] != '<') {
                        check_value(event, member->string, member);
                    }
                }
                assert_true(mr_event_has_data(mr_event_record(event)));
                mr_event_unref(event);
                line = end + 1;
            }
            assert_int_equal(n, cJSON_GetArraySize(events));
            mr_free(text);
        }
        free(input);
        cJSON_Delete(expected);
    }
    free(all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published_vectors),
        cmocka_unit_test(test_own_kafka_vectors),
        cmocka_unit_test(test_own_amqp_vectors),
        cmocka_unit_test(test_own_mqtt_and_nats_vectors),
        cmocka_unit_test(test_own_http_vectors),
        cmocka_unit_test(test_messages_in_envelopes_of_aws),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
