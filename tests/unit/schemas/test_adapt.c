/* What `millrace normalise` does not show of mr_adapt(); tests/integration/test_conformance.py runs
 * the mappings themselves. */
#include "tests/unit/schemas/support.h"

#include <dirent.h>

#include "schemas/adapter.h"

static struct mr_problem problem;
static struct mr_adapted adapted;

static struct mr_adapt_input input_of(const char *body)
{
    return (struct mr_adapt_input){
        .body = mr_bytes_of(body),
        .source_name = MR_BYTES_LITERAL("shop 1"),
        .received_wall_ns = 1700000000ull * MR_SECOND,
        .unique = 7,
        .size_max = MR_MIB,
    };
}

static enum mr_status adapt(enum mr_adapter adapter, const struct mr_adapt_input *input)
{
    adapted = (struct mr_adapted){0};
    problem.text[0] = 'x';
    return mr_adapt(adapter, input, &adapted, &problem);
}

static const struct mr_event *only(enum mr_adapter adapter, const struct mr_adapt_input *input)
{
    enum mr_status r = adapt(adapter, input);
    if (r != MR_OK || adapted.events.count != 1) {
        fail_msg("%s: %s, %u events", mr_status_name(r), problem.text, adapted.events.count);
    }
    assert_string_equal(problem.text, "");
    return adapted.events.events[0];
}

static void test_words_name_every_adapter(void **state)
{
    (void)state;
    for (int i = 0; i < MR_ADAPTER_MAX; i++) {
        assert_non_null(mr_adapter_words[i]);
    }
    assert_null(mr_adapter_words[MR_ADAPTER_MAX]);
    assert_string_equal(mr_adapter_words[MR_ADAPTER_S3], "s3");
    assert_string_equal(mr_adapter_words[MR_ADAPTER_AZURE_BLOB], "azure-blob");
    assert_string_equal(mr_adapter_words[MR_ADAPTER_SNS], "sns");
    assert_string_equal(mr_adapter_words[MR_ADAPTER_GITLAB], "gitlab");
    assert_string_equal(mr_adapter_words[MR_ADAPTER_CDEVENTS], "cdevents");
    assert_string_equal(mr_adapter_words[MR_ADAPTER_AUTO], "auto");
}

static void test_generic_finds_attributes_by_path(void **state)
{
    (void)state;
    const struct mr_generic_paths paths = {
        .id = "meta.id", .type = "kind", .subject = "items.1.sku", .time = "at"};
    struct mr_adapt_input input = input_of(
        "{\"meta\":{\"id\":12345678901234567890},\"kind\":\"order.paid\",\"at\":1700000001,"
        "\"items\":[{},{\"sku\":\"\\u00e9\"}]}");
    input.paths = &paths;
    input.type = "fallback";
    const struct mr_event *event = only(MR_ADAPTER_GENERIC, &input);
    assert_value(event, "id", "12345678901234567890");
    assert_value(event, "type", "order.paid");
    assert_value(event, "subject", "\xC3\xA9");
    assert_value(event, "time", "2023-11-14T22:13:21Z");
    assert_value(event, "source", "/millrace/source/shop%201");
    assert_value(event, "datacontenttype", "application/json");
    assert_bytes(mr_event_data(mr_event_record(event)), (const char *)input.body.data);
    mr_adapted_release(&adapted);
}

static void test_generic_keeps_defaults_for_what_is_not_there(void **state)
{
    (void)state;
    const struct mr_generic_paths paths = {
        .id = "meta", .type = "kind.x", .subject = "none", .time = "at"};
    struct mr_adapt_input input = input_of("{\"meta\":{},\"kind\":null,\"at\":\"lunchtime\"}");
    input.paths = &paths;
    input.type = "fallback";
    input.id = MR_BYTES_LITERAL("key-1");
    const struct mr_event *event = only(MR_ADAPTER_GENERIC, &input);
    assert_value(event, "id", "key-1");
    assert_value(event, "type", "fallback");
    assert_false(has_attr(event, "subject"));
    assert_value(event, "time", "2023-11-14T22:13:20.000Z");
    mr_adapted_release(&adapted);
    input.body = MR_BYTES_LITERAL("no JSON");
    input.id.size = 0;
    event = only(MR_ADAPTER_GENERIC, &input);
    assert_value(event, "datacontenttype", "application/octet-stream");
    assert_int_equal(mr_event_id(mr_event_record(event)).size, 36);
    mr_adapted_release(&adapted);
}

static void test_generic_time_is_text_seconds_or_milliseconds(void **state)
{
    (void)state;
    const struct mr_generic_paths paths = {.time = "t"};
    const struct {
        const char *body;
        const char *time;
    } cases[] = {
        {"{\"t\":\"2026-01-02 03:04:05z\"}", "2026-01-02T03:04:05Z"},
        {"{\"t\":0}", "1970-01-01T00:00:00Z"},
        {"{\"t\":\"1700000001\"}", "2023-11-14T22:13:21Z"},
        {"{\"t\":1700000001.25}", "2023-11-14T22:13:21.25Z"},
        {"{\"t\":1700000001042}", "2023-11-14T22:13:21.042Z"},
        {"{\"t\":99999999999}", "5138-11-16T09:46:39Z"},
        {"{\"t\":100000000000}", "1973-03-03T09:46:40.000Z"},
        {"{\"t\":253402300799999}", "9999-12-31T23:59:59.999Z"},
        {"{\"t\":253402300800000}", "2023-11-14T22:13:20.000Z"},
        {"{\"t\":1e9}", "2023-11-14T22:13:20.000Z"},
        {"{\"t\":-1}", "2023-11-14T22:13:20.000Z"},
        {"{\"t\":1.12345678901}", "2023-11-14T22:13:20.000Z"},
        {"{\"t\":\"1.\"}", "2023-11-14T22:13:20.000Z"},
        {"{\"t\":\"\"}", "2023-11-14T22:13:20.000Z"},
        {"{\"t\":true}", "2023-11-14T22:13:20.000Z"},
        {"{\"t\":[1]}", "2023-11-14T22:13:20.000Z"},
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(cases); i++) {
        struct mr_adapt_input input = input_of(cases[i].body);
        input.paths = &paths;
        assert_value(only(MR_ADAPTER_GENERIC, &input), "time", cases[i].time);
        mr_adapted_release(&adapted);
    }
}

static void test_azure_validation_has_an_answer(void **state)
{
    (void)state;
    struct mr_adapt_input input = input_of(
        "[{\"id\":\"1\",\"eventType\":\"Microsoft.EventGrid.SubscriptionValidationEvent\","
        "\"eventTime\":\"2026-01-01T00:00:00Z\",\"data\":{\"validationCode\":\"5\\\"12\"}}]");
    for (int i = 0; i < 2; i++) {
        assert_int_equal(adapt(i == 0 ? MR_ADAPTER_AZURE_BLOB : MR_ADAPTER_AUTO, &input), MR_OK);
        assert_int_equal(adapted.events.count, 0);
        assert_string_equal(adapted.answer, "{\"validationResponse\":\"5\\\"12\"}");
        assert_null(adapted.confirm_url);
        mr_adapted_release(&adapted);
    }
    input = input_of("[{\"eventType\":\"Microsoft.EventGrid.SubscriptionValidationEvent\"}]");
    assert_int_equal(adapt(MR_ADAPTER_AZURE_BLOB, &input), MR_E_INVALID);
    assert_non_null(strstr(problem.text, "validationCode"));
}

static void test_all_or_nothing(void **state)
{
    (void)state;
    struct mr_adapt_input input =
        input_of("{\"Records\":[{\"eventName\":\"E\",\"s3\":{\"bucket\":{\"name\":\"b\"},"
                 "\"object\":{\"key\":\"k\"}}},{}]}");
    assert_int_equal(adapt(MR_ADAPTER_S3, &input), MR_E_INVALID);
    assert_int_equal(adapted.events.count, 0);
    assert_non_null(strstr(problem.text, "Records[1]: no S3 notification"));
}

static void test_size_max_is_of_one_event(void **state)
{
    (void)state;
    struct mr_adapt_input input =
        input_of("{\"Records\":[{\"eventName\":\"E\",\"s3\":{\"bucket\":{\"name\":\"b\"},"
                 "\"object\":{\"key\":\"k\"}}}]}");
    input.size_max = 100;
    assert_int_equal(adapt(MR_ADAPTER_S3, &input), MR_E_TOO_BIG);
    assert_non_null(strstr(problem.text, "larger than 100 bytes"));
    input.size_max = 1000;
    assert_int_equal(adapt(MR_ADAPTER_S3, &input), MR_OK);
    mr_adapted_release(&adapted);
}

static void test_adapters_need_no_problem_and_no_body(void **state)
{
    (void)state;
    struct mr_adapt_input input = input_of("{");
    for (int i = 0; i < 2 * MR_ADAPTER_MAX; i++) {
        input.body = i < MR_ADAPTER_MAX ? input.body : (struct mr_bytes){0};
        enum mr_adapter adapter = (enum mr_adapter)(i % MR_ADAPTER_MAX);
        enum mr_status r = mr_adapt(adapter, &input, &adapted, NULL);
        if (r == MR_OK) {
            mr_adapted_release(&adapted);
        } else {
            assert_int_equal(mr_status_class(r), MR_CLASS_PERMANENT);
        }
    }
}

/* Header lines, an empty line, a body: an input of the fuzz target behind its first byte. */
static uint32_t split(struct mr_bytes *text, struct mr_field *fields, uint32_t max)
{
    uint32_t count = 0;
    for (;;) {
        const uint8_t *end = memchr(text->data, '\n', text->size);
        assert_non_null(end);
        struct mr_bytes line = mr_bytes(text->data, (size_t)(end - text->data));
        *text = mr_bytes(end + 1, text->size - line.size - 1);
        if (line.size == 0) {
            return count;
        }
        const uint8_t *colon = memchr(line.data, ':', line.size);
        assert_true(colon != NULL && count < max);
        size_t size = (size_t)(colon - line.data);
        fields[count++] = (struct mr_field){mr_bytes(line.data, size),
                                            mr_bytes(colon + 1, line.size - size - 1)};
    }
}

/* Every allocation of one message fails once: it is refused for that, or comes out as it should. */
static void torture(enum mr_adapter adapter, const struct mr_adapt_input *input)
{
    struct mr_adapted whole = {0};
    enum mr_status wanted = mr_adapt(adapter, input, &whole, NULL);
    for (uint64_t n = 1;; n++) {
        int64_t live = mr_alloc_live();
        adapted = (struct mr_adapted){0};
        (void)mr_alloc_fail_at(n, 0);
        enum mr_status r = mr_adapt(adapter, input, &adapted, &problem);
        bool failed = mr_alloc_fail_at(0, 0) >= n;
        if ((r != MR_E_NOMEM || !failed) &&
            (r != wanted || adapted.events.count != whole.events.count)) {
            fail_msg("%s: allocation %d: %s, %u events, not %u: %s", mr_adapter_words[adapter],
                     (int)n, mr_status_name(r), adapted.events.count, whole.events.count,
                     (const char *)input->body.data);
        }
        for (uint32_t i = 0; i < adapted.events.count; i++) {
            if (!mr_bytes_equal(mr_event_record(adapted.events.events[i]),
                                mr_event_record(whole.events.events[i]))) {
                fail_msg("%s: allocation %d: event %u is another", mr_adapter_words[adapter],
                         (int)n, i);
            }
        }
        mr_adapted_release(&adapted);
        assert_int_equal(mr_alloc_live(), live);
        if (!failed) {
            break;
        }
    }
    mr_adapted_release(&whole);
}

static void test_short_memory_changes_no_event(void **state)
{
    (void)state;
    static const char folder[] = MR_SOURCE_DIR "/tests/fuzz/corpus/adapt";
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    const struct dirent *entry;
    int files = 0;
    while ((entry = readdir(dir)) != NULL) {
        char path[512];
        size_t size;
        snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
        char *text = entry->d_name[0] == '.' ? NULL : read_text_file(path, &size);
        if (text == NULL || size < 2) {
            free(text);
            continue;
        }
        struct mr_field fields[40];
        struct mr_adapt_input input = input_of("");
        enum mr_adapter adapter = (enum mr_adapter)((uint8_t)text[0] % MR_ADAPTER_MAX);
        input.body = mr_bytes(text + 1, size - 1);
        input.header_count = split(&input.body, fields, MR_ARRAY_COUNT(fields));
        input.headers = fields;
        torture(adapter, &input);
        free(text);
        files++;
    }
    closedir(dir);
    assert_true(files > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words_name_every_adapter),
        cmocka_unit_test(test_generic_finds_attributes_by_path),
        cmocka_unit_test(test_generic_keeps_defaults_for_what_is_not_there),
        cmocka_unit_test(test_generic_time_is_text_seconds_or_milliseconds),
        cmocka_unit_test(test_azure_validation_has_an_answer),
        cmocka_unit_test(test_all_or_nothing),
        cmocka_unit_test(test_size_max_is_of_one_event),
        cmocka_unit_test(test_adapters_need_no_problem_and_no_body),
        cmocka_unit_test(test_short_memory_changes_no_event),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
