#include "tests/unit/schemas/support.h"

#include "core/hash.h"

static struct mr_bytes B(const char *text)
{
    return mr_bytes_of(text);
}

static void add(struct mr_event_builder *b, const char *name, const char *value)
{
    struct mr_problem problem = {0};
    if (mr_event_builder_attr(b, B(name), MR_ATTR_STRING, B(value), &problem) != MR_OK) {
        fail_msg("%s: %s", name, problem.text);
    }
}

static void begin(struct mr_event_builder *b)
{
    mr_event_builder_init(b, MR_EVENT_SIZE_MAX);
    add(b, "specversion", "1.0");
    add(b, "type", "t.t");
    add(b, "source", "/s");
    add(b, "id", "1");
}

static enum mr_status try_attr(const char *name, enum mr_attr_type type, struct mr_bytes value)
{
    struct mr_event_builder b;
    mr_event_builder_init(&b, MR_EVENT_SIZE_MAX);
    enum mr_status r = mr_event_builder_attr(&b, B(name), type, value, NULL);
    mr_event_builder_release(&b);
    return r;
}

static struct mr_event *finish(struct mr_event_builder *b)
{
    struct mr_event *event = NULL;
    struct mr_problem problem = {0};
    if (mr_event_builder_finish(b, false, &event, &problem) != MR_OK) {
        fail_msg("%s", problem.text);
    }
    assert_int_equal(mr_event_check(mr_event_record(event)), MR_OK);
    return event;
}

static void test_finish_any_order_stores_id_source_type_first(void **state)
{
    (void)state;
    struct mr_event_builder b;
    begin(&b);
    add(&b, "subject", "s");
    struct mr_event *event = finish(&b);
    struct mr_bytes record = mr_event_record(event);
    assert_bytes(mr_event_id(record), "1");
    assert_bytes(mr_event_source(record), "/s");
    assert_bytes(mr_event_type(record), "t.t");
    uint32_t position = 0;
    struct mr_attr attr;
    const char *names[] = {"id", "source", "type", "subject"};
    for (size_t i = 0; i < 4; i++) {
        assert_true(mr_event_next_attr(record, &position, &attr));
        assert_bytes(attr.name, names[i]);
    }
    assert_false(mr_event_next_attr(record, &position, &attr));
    assert_false(mr_event_has_data(record));
    assert_int_equal(event->crc, mr_crc32c(0, event->data, event->size));
    mr_event_unref(event);
}

static void test_finish_missing_required_is_invalid(void **state)
{
    (void)state;
    const char *all[] = {"specversion", "id", "source", "type"};
    const char *values[] = {"1.0", "1", "/s", "t"};
    for (size_t missing = 0; missing < 4; missing++) {
        struct mr_event_builder b;
        mr_event_builder_init(&b, MR_EVENT_SIZE_MAX);
        for (size_t i = 0; i < 4; i++) {
            if (i != missing) {
                add(&b, all[i], values[i]);
            }
        }
        struct mr_event *event = NULL;
        struct mr_problem problem = {0};
        assert_int_equal(mr_event_builder_finish(&b, false, &event, &problem), MR_E_INVALID);
        assert_non_null(strstr(problem.text, all[missing]));
        assert_null(event);
    }
}

static void test_finish_ours_needs_no_specversion(void **state)
{
    (void)state;
    struct mr_event_builder b;
    mr_event_builder_init(&b, MR_EVENT_SIZE_MAX);
    add(&b, "id", "1");
    add(&b, "source", "s");
    add(&b, "type", "t");
    struct mr_event *event = NULL;
    assert_int_equal(mr_event_builder_finish(&b, true, &event, NULL), MR_OK);
    mr_event_unref(event);
}

static void test_attr_illegal_names_are_invalid(void **state)
{
    (void)state;
    const char *bad[] = {"", "data", "Data", "my-ext", "my_ext", "my.ext", "a b",
                         "\xC3\xBC", "a\n"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(bad); i++) {
        assert_int_equal(try_attr(bad[i], MR_ATTR_STRING, B("x")), MR_E_INVALID);
    }
    assert_int_equal(try_attr("0", MR_ATTR_STRING, B("x")), MR_OK);
    assert_int_equal(try_attr("database64", MR_ATTR_STRING, B("x")), MR_OK);
}

static void test_attr_name_of_64_passes_of_65_is_too_big(void **state)
{
    (void)state;
    char name[66];
    memset(name, 'a', 65);
    name[65] = '\0';
    assert_int_equal(try_attr(name, MR_ATTR_STRING, B("x")), MR_E_TOO_BIG);
    name[64] = '\0';
    assert_int_equal(try_attr(name, MR_ATTR_STRING, B("x")), MR_OK);
}

static void test_attr_repeated_is_invalid(void **state)
{
    (void)state;
    const char *names[] = {"id", "source", "type", "specversion", "subject", "myext"};
    const char *values[] = {"1", "/s", "t", "1.0", "x", "x"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(names); i++) {
        struct mr_event_builder b;
        mr_event_builder_init(&b, MR_EVENT_SIZE_MAX);
        add(&b, names[i], values[i]);
        assert_int_equal(mr_event_builder_attr(&b, B(names[i]), MR_ATTR_STRING, B(values[i]), NULL),
                         MR_E_INVALID);
        mr_event_builder_release(&b);
    }
}

static void test_attr_specversion_other_is_unsupported(void **state)
{
    (void)state;
    const char *other[] = {"0.3", "1", "1.0.0", "1.1", "2.0", " 1.0"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(other); i++) {
        assert_int_equal(try_attr("specversion", MR_ATTR_STRING, B(other[i])), MR_E_UNSUPPORTED);
    }
    assert_int_equal(try_attr("specversion", MR_ATTR_STRING, B("")), MR_E_INVALID);
    assert_int_equal(try_attr("specversion", MR_ATTR_STRING, B("1.0")), MR_OK);
}

static void test_attr_core_empty_is_invalid_extension_empty_passes(void **state)
{
    (void)state;
    const char *core[] = {"id", "source", "type", "subject", "time", "dataschema",
                          "datacontenttype"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(core); i++) {
        assert_int_equal(try_attr(core[i], MR_ATTR_STRING, B("")), MR_E_INVALID);
    }
    assert_int_equal(try_attr("myext", MR_ATTR_STRING, B("")), MR_OK);
}

static void test_attr_core_of_another_type_is_invalid(void **state)
{
    (void)state;
    assert_int_equal(try_attr("id", MR_ATTR_INTEGER, B("5")), MR_E_INVALID);
    assert_int_equal(try_attr("subject", MR_ATTR_BOOLEAN, B("true")), MR_E_INVALID);
    assert_int_equal(try_attr("time", MR_ATTR_TIMESTAMP, B("2020-01-01T00:00:00Z")), MR_OK);
}

static void test_attr_string_forbidden_characters_are_invalid(void **state)
{
    (void)state;
    const struct mr_bytes bad[] = {
        MR_BYTES_LITERAL("\0"),          MR_BYTES_LITERAL("a\x1F"),
        MR_BYTES_LITERAL("a\x7F"),       MR_BYTES_LITERAL("\xC2\x80"),
        MR_BYTES_LITERAL("\xC2\x9F"),    MR_BYTES_LITERAL("\xEF\xB7\x90"),
        MR_BYTES_LITERAL("\xEF\xB7\xAF"), MR_BYTES_LITERAL("\xEF\xBF\xBE"),
        MR_BYTES_LITERAL("\xEF\xBF\xBF"), MR_BYTES_LITERAL("\xF0\x9F\xBF\xBE"),
        MR_BYTES_LITERAL("\xF4\x8F\xBF\xBF"), MR_BYTES_LITERAL("\xED\xA0\x80"),
        MR_BYTES_LITERAL("\xC0\xA0"),    MR_BYTES_LITERAL("\xE2\x82"),
        MR_BYTES_LITERAL("12345678\n9"), MR_BYTES_LITERAL("12345678\x7F" "1234567"),
        MR_BYTES_LITERAL("\xF5\x80\x80\x80"),
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(bad); i++) {
        assert_int_equal(try_attr("subject", MR_ATTR_STRING, bad[i]), MR_E_INVALID);
        assert_int_equal(try_attr("ext", MR_ATTR_STRING, bad[i]), MR_E_INVALID);
    }
}

static void test_attr_string_unusual_characters_pass(void **state)
{
    (void)state;
    const char *good[] = {" ",  "~",  "\xC2\xA0", "\xEF\xB7\x8F", "\xEF\xB7\xB0", "\xEF\xBF\xBD",
                          "\xF0\x9F\x98\x80", "Euro \xE2\x82\xAC", "\xEF\xBB\xBF"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(good); i++) {
        assert_int_equal(try_attr("subject", MR_ATTR_STRING, B(good[i])), MR_OK);
    }
}

static void test_attr_integer_rules(void **state)
{
    (void)state;
    const char *good[] = {"0", "1", "-1", "2147483647", "-2147483648"};
    const char *bad[] = {"", "-", "+1", "01", "-01", "-0", "1.0", "1e3", "2147483648",
                         "-2147483649", "99999999999999999999999", " 1", "0x1"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(good); i++) {
        assert_int_equal(try_attr("n", MR_ATTR_INTEGER, B(good[i])), MR_OK);
    }
    for (size_t i = 0; i < MR_ARRAY_COUNT(bad); i++) {
        assert_int_equal(try_attr("n", MR_ATTR_INTEGER, B(bad[i])), MR_E_INVALID);
    }
}

static void test_attr_boolean_and_binary_rules(void **state)
{
    (void)state;
    assert_int_equal(try_attr("b", MR_ATTR_BOOLEAN, B("true")), MR_OK);
    assert_int_equal(try_attr("b", MR_ATTR_BOOLEAN, B("True")), MR_E_INVALID);
    assert_int_equal(try_attr("b", MR_ATTR_BOOLEAN, B("1")), MR_E_INVALID);
    assert_int_equal(try_attr("b", MR_ATTR_BINARY, B("TWE=")), MR_OK);
    assert_int_equal(try_attr("b", MR_ATTR_BINARY, B("")), MR_OK);
    const char *bad[] = {"TWE", "TW=E", "====", "T===", "TW-_", "TWE=\n", "a b=", "=WE="};
    for (size_t i = 0; i < MR_ARRAY_COUNT(bad); i++) {
        assert_int_equal(try_attr("b", MR_ATTR_BINARY, B(bad[i])), MR_E_INVALID);
    }
}

static void test_attr_time_rules(void **state)
{
    (void)state;
    const char *good[] = {"2018-04-05T17:31:00Z",      "2018-04-05t17:31:00z",
                          "2018-04-05T17:31:00.123456789123Z", "2018-04-05T17:31:00+23:59",
                          "2018-04-05T17:31:00-00:00", "1998-12-31T23:59:60Z",
                          "1998-12-31T15:59:60.5-08:00", "0000-01-01T00:00:00Z"};
    const char *bad[] = {"lunchtime", "2018-04-05T18:31Z", "2018-04-05T18:31:00",
                         "2018-04-05T18:31:00X", "2018-04-05T18:31:00+xx:00",
                         "2018-04-05 18:31:00Z", "2018-02-29T00:00:00Z", "2018-04-05T24:00:00Z",
                         "2018-04-05T22:59:60Z", "2018-04-05T18:31:00.Z", "2018-4-05T18:31:00Z",
                         "2018-04-05T18:31:00+01", "2018-04-05T18:31:00Z ", "18-04-05T18:31:00Z"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(good); i++) {
        if (try_attr("time", MR_ATTR_STRING, B(good[i])) != MR_OK) {
            fail_msg("%s", good[i]);
        }
    }
    for (size_t i = 0; i < MR_ARRAY_COUNT(bad); i++) {
        if (try_attr("time", MR_ATTR_STRING, B(bad[i])) != MR_E_INVALID) {
            fail_msg("%s", bad[i]);
        }
    }
}

static void test_attr_source_is_a_uri_reference(void **state)
{
    (void)state;
    const char *good[] = {"/s", "#fragment", "1-555-123-4567", "urn:uuid:6e8bc430",
                          "mailto:a@b.c", "//authority/path", "https://h/p?q=a b", "example/uri",
                          "aws:s3.eu-west-1.bucket", "?q", "/a%20b", "https://[::1]:80/x",
                          "/caf\xC3\xA9", ".", "a/b:c", "/{x}"};
    const char *bad[] = {":x", "1:2", "a b:c", "/a%2", "/a%zz", "/a<b>", "/a\"b", "/a\\b", "/a|b",
                         "/a^b", "/a`b", "/a#b#c", "/a%", "-a:b"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(good); i++) {
        if (try_attr("source", MR_ATTR_STRING, B(good[i])) != MR_OK) {
            fail_msg("%s", good[i]);
        }
    }
    for (size_t i = 0; i < MR_ARRAY_COUNT(bad); i++) {
        if (try_attr("source", MR_ATTR_STRING, B(bad[i])) != MR_E_INVALID) {
            fail_msg("%s", bad[i]);
        }
    }
}

static void test_attr_dataschema_is_an_absolute_uri(void **state)
{
    (void)state;
    assert_int_equal(try_attr("dataschema", MR_ATTR_STRING, B("https://a/b#c")), MR_OK);
    assert_int_equal(try_attr("dataschema", MR_ATTR_STRING, B("urn:a:b")), MR_OK);
    assert_int_equal(try_attr("dataschema", MR_ATTR_STRING, B("/relative")), MR_E_INVALID);
    assert_int_equal(try_attr("dataschema", MR_ATTR_STRING, B("#f")), MR_E_INVALID);
}

static void test_attr_datacontenttype_is_a_media_type(void **state)
{
    (void)state;
    const char *good[] = {"text/plain", "application/json; charset=utf-8", "a/b;c=d", "A/B+json",
                          "application/vnd.apache.thrift.binary", "text/plain ;x=\"a;b\""};
    const char *bad[] = {"text", "text/", "/plain", "te xt/plain", "text/pl ain", "text/plain,x",
                         " text/plain", "text/plain ", "text/plain/x"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(good); i++) {
        if (try_attr("datacontenttype", MR_ATTR_STRING, B(good[i])) != MR_OK) {
            fail_msg("%s", good[i]);
        }
    }
    for (size_t i = 0; i < MR_ARRAY_COUNT(bad); i++) {
        if (try_attr("datacontenttype", MR_ATTR_STRING, B(bad[i])) != MR_E_INVALID) {
            fail_msg("%s", bad[i]);
        }
    }
}

static void test_attr_too_many_are_too_big(void **state)
{
    (void)state;
    struct mr_event_builder b;
    begin(&b);
    char name[16];
    for (unsigned i = 0; i < MR_EVENT_ATTRS_MAX - 3; i++) {
        snprintf(name, sizeof(name), "x%u", i);
        add(&b, name, "v");
    }
    assert_int_equal(mr_event_builder_attr(&b, B("y"), MR_ATTR_STRING, B("v"), NULL),
                     MR_E_TOO_BIG);
    struct mr_event *event = finish(&b);
    struct mr_event *more = NULL;
    assert_int_equal(mr_event_with_attr(mr_event_record(event), B("dlreason"), B("x"), &more, NULL),
                     MR_OK);
    assert_int_equal(mr_event_check(mr_event_record(more)), MR_OK);
    mr_event_unref(more);
    mr_event_unref(event);
}

static void test_attr_values_over_the_limit_are_too_big(void **state)
{
    (void)state;
    char *big = malloc(70000);
    memset(big, 'a', 70000);
    assert_int_equal(try_attr("x", MR_ATTR_STRING, mr_bytes(big, 70000)), MR_E_TOO_BIG);
    struct mr_event_builder b;
    begin(&b);
    assert_int_equal(mr_event_builder_attr(&b, B("x"), MR_ATTR_STRING, mr_bytes(big, 60000), NULL),
                     MR_OK);
    assert_int_equal(mr_event_builder_attr(&b, B("y"), MR_ATTR_STRING, mr_bytes(big, 6000), NULL),
                     MR_E_TOO_BIG);
    mr_event_unref(finish(&b));
    free(big);
}

static void test_finish_over_size_max_is_too_big(void **state)
{
    (void)state;
    char data[300] = {0};
    memset(data, 'x', sizeof(data));
    struct mr_event_builder b;
    mr_event_builder_init(&b, 200);
    add(&b, "specversion", "1.0");
    add(&b, "id", "1");
    add(&b, "source", "s");
    add(&b, "type", "t");
    mr_event_builder_data(&b, mr_bytes(data, sizeof(data)), false);
    struct mr_event *event = NULL;
    assert_int_equal(mr_event_builder_finish(&b, false, &event, NULL), MR_E_TOO_BIG);
    assert_null(event);
    assert_null(b.core.data);
}

static struct mr_event *with_data(const char *type, struct mr_bytes data, bool binary)
{
    struct mr_event_builder b;
    begin(&b);
    if (type != NULL) {
        add(&b, "datacontenttype", type);
    }
    mr_event_builder_data(&b, data, binary);
    return finish(&b);
}

static void test_data_is_json_by_type_and_content(void **state)
{
    (void)state;
    const struct {
        const char *type;
        const char *data;
        bool binary;
        bool json;
    } cases[] = {
        {"application/json", "{}", false, true},
        {"application/json", "{} ", false, true},
        {"application/json", "{", false, false},
        {"application/json", "{}", true, true},
        {"TEXT/JSON;charset=x", "1", false, true},
        {"application/vnd.x+JSON", "null", false, true},
        {"application/jsonx", "{}", false, false},
        {"text/plain", "{}", false, false},
        {NULL, "{}", false, true},
        {NULL, "{}", true, false},
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(cases); i++) {
        struct mr_event *event = with_data(cases[i].type, B(cases[i].data), cases[i].binary);
        assert_int_equal(mr_event_data_is_json(mr_event_record(event)), cases[i].json);
        assert_bytes(mr_event_data(mr_event_record(event)), cases[i].data);
        mr_event_unref(event);
    }
}

static void test_data_empty_is_present(void **state)
{
    (void)state;
    struct mr_event *event = with_data("text/plain", B(""), false);
    assert_true(mr_event_has_data(mr_event_record(event)));
    assert_int_equal(mr_event_data(mr_event_record(event)).size, 0);
    mr_event_unref(event);
}

static void test_ref_counts_and_unref_null_is_a_no_op(void **state)
{
    (void)state;
    int64_t before = mr_alloc_live();
    struct mr_event *event = with_data(NULL, B("1"), false);
    assert_ptr_equal(mr_event_ref(event), event);
    mr_event_unref(event);
    assert_bytes(mr_event_id(mr_event_record(event)), "1");
    mr_event_unref(event);
    mr_event_unref(NULL);
    assert_int_equal(mr_alloc_live(), before);
}

static void test_from_record_copies(void **state)
{
    (void)state;
    struct mr_event *event = with_data(NULL, B("1"), false);
    struct mr_event *copy = mr_event_from_record(mr_event_record(event));
    assert_non_null(copy);
    assert_int_equal(copy->crc, event->crc);
    assert_true(mr_bytes_equal(mr_event_record(copy), mr_event_record(event)));
    mr_event_unref(event);
    mr_event_unref(copy);
}

static void test_with_attr_adds_and_replaces(void **state)
{
    (void)state;
    struct mr_event *event = decode_ok("{\"specversion\":\"1.0\",\"id\":\"1\",\"type\":\"t\","
                                       "\"source\":\"/s\",\"a\":1,\"b\":\"x\",\"data\":[1]}");
    struct mr_bytes record = mr_event_record(event);
    struct mr_event *other = NULL;
    assert_int_equal(mr_event_with_attr(record, B("mrhops"), B("1"), &other, NULL), MR_OK);
    assert_value(other, "mrhops", "1");
    assert_value(other, "a", "1");
    assert_bytes(mr_event_data(mr_event_record(other)), "[1]");
    assert_true(mr_event_data_is_json(mr_event_record(other)));
    assert_int_equal(mr_event_check(mr_event_record(other)), MR_OK);
    struct mr_event *again = NULL;
    assert_int_equal(mr_event_with_attr(mr_event_record(other), B("a"), B("two"), &again, NULL),
                     MR_OK);
    char *text = encode_text(again);
    assert_string_equal(text, "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\","
                              "\"type\":\"t\",\"a\":\"two\",\"b\":\"x\",\"mrhops\":\"1\","
                              "\"data\":[1]}");
    mr_free(text);
    mr_event_unref(again);
    mr_event_unref(other);
    assert_int_equal(mr_event_with_attr(record, B("id"), B("2"), &other, NULL), MR_OK);
    assert_bytes(mr_event_id(mr_event_record(other)), "2");
    assert_bytes(mr_event_source(mr_event_record(other)), "/s");
    mr_event_unref(other);
    other = NULL;
    assert_int_equal(mr_event_with_attr(record, B("Bad"), B("2"), &other, NULL), MR_E_INVALID);
    assert_int_equal(mr_event_with_attr(record, B("id"), B(""), &other, NULL), MR_E_INVALID);
    assert_int_equal(mr_event_with_attr(record, B("x"), B("\n"), &other, NULL), MR_E_INVALID);
    assert_null(other);
    mr_event_unref(event);
}

static void test_with_attr_new_datacontenttype_looks_at_the_data_again(void **state)
{
    (void)state;
    struct mr_event *event = with_data("text/plain", B("[1]"), false);
    struct mr_event *other = NULL;
    assert_int_equal(mr_event_with_attr(mr_event_record(event), B("datacontenttype"),
                                        B("application/json"), &other, NULL),
                     MR_OK);
    assert_true(mr_event_data_is_json(mr_event_record(other)));
    mr_event_unref(other);
    mr_event_unref(event);
}

static void test_check_every_flipped_byte_of_the_table_is_harmless(void **state)
{
    (void)state;
    struct mr_event *event = with_data("application/json", B("{\"a\":1}"), false);
    uint8_t copy[512];
    assert_true(event->size < sizeof(copy));
    unsigned refused = 0;
    for (uint32_t i = 0; i < event->size; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            memcpy(copy, event->data, event->size);
            copy[i] ^= (uint8_t)(1u << bit);
            struct mr_bytes record = mr_bytes(copy, event->size);
            refused += mr_event_check(record) != MR_OK;
            /* whatever was flipped, reading stays inside */
            uint32_t position = 0;
            struct mr_attr attr;
            while (mr_event_next_attr(record, &position, &attr)) {
                assert_true(attr.value.data + attr.value.size <= copy + event->size);
            }
            struct mr_bytes data = mr_event_data(record);
            assert_true(data.size == 0 || data.data + data.size <= copy + event->size);
        }
    }
    assert_true(refused > 8 * 20);
    mr_event_unref(event);
}

static void test_check_truncated_is_invalid(void **state)
{
    (void)state;
    struct mr_event *event = with_data("application/json", B("{\"a\":1}"), false);
    for (uint32_t size = 0; size < event->size; size++) {
        assert_int_equal(mr_event_check(mr_bytes(event->data, size)), MR_E_INVALID);
    }
    mr_event_unref(event);
}

static void test_check_duplicate_name_is_invalid(void **state)
{
    (void)state;
    struct mr_event_builder b;
    begin(&b);
    add(&b, "xa", "v");
    add(&b, "xb", "v");
    struct mr_event *event = finish(&b);
    uint8_t copy[256];
    memcpy(copy, event->data, event->size);
    for (uint32_t i = 0; i + 1 < event->size; i++) {
        if (copy[i] == 'x' && copy[i + 1] == 'b') {
            copy[i + 1] = 'a';
        }
    }
    assert_int_equal(mr_event_check(mr_bytes(copy, event->size)), MR_E_INVALID);
    mr_event_unref(event);
}

static void test_media_type_is_json_cases(void **state)
{
    (void)state;
    assert_true(mr_media_type_is_json(B("application/json")));
    assert_true(mr_media_type_is_json(B("text/JSON ; charset=utf-8")));
    assert_true(mr_media_type_is_json(B("a/b+json")));
    assert_false(mr_media_type_is_json(B("a/+json")));
    assert_false(mr_media_type_is_json(B("json")));
    assert_false(mr_media_type_is_json(B("")));
    assert_false(mr_media_type_is_json((struct mr_bytes){0}));
    assert_false(mr_media_type_is_json(B("application/json5")));
    assert_false(mr_media_type_is_json(B("text/plain; a/json")));
}

static void test_build_every_failed_allocation_leaks_nothing(void **state)
{
    (void)state;
    int64_t live = mr_alloc_live();
    bool done = false;
    for (uint64_t n = 1; !done && n < 50; n++) {
        (void)mr_alloc_fail_at(n, 0);
        struct mr_event_builder b;
        mr_event_builder_init(&b, MR_EVENT_SIZE_MAX);
        enum mr_status r = MR_OK;
        const char *names[] = {"specversion", "id", "source", "type", "subject", "x"};
        const char *values[] = {"1.0", "1", "/s", "t", "y", "z"};
        for (size_t i = 0; r == MR_OK && i < MR_ARRAY_COUNT(names); i++) {
            r = mr_event_builder_attr(&b, B(names[i]), MR_ATTR_STRING, B(values[i]), NULL);
        }
        struct mr_event *event = NULL;
        if (r == MR_OK) {
            r = mr_event_builder_finish(&b, false, &event, NULL);
        }
        mr_event_builder_release(&b);
        assert_true(r == MR_OK || r == MR_E_NOMEM);
        done = r == MR_OK;
        mr_event_unref(event);
        assert_int_equal(mr_alloc_live(), live);
    }
    (void)mr_alloc_fail_at(0, 0);
    assert_true(done);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_finish_any_order_stores_id_source_type_first),
        cmocka_unit_test(test_finish_missing_required_is_invalid),
        cmocka_unit_test(test_finish_ours_needs_no_specversion),
        cmocka_unit_test(test_attr_illegal_names_are_invalid),
        cmocka_unit_test(test_attr_name_of_64_passes_of_65_is_too_big),
        cmocka_unit_test(test_attr_repeated_is_invalid),
        cmocka_unit_test(test_attr_specversion_other_is_unsupported),
        cmocka_unit_test(test_attr_core_empty_is_invalid_extension_empty_passes),
        cmocka_unit_test(test_attr_core_of_another_type_is_invalid),
        cmocka_unit_test(test_attr_string_forbidden_characters_are_invalid),
        cmocka_unit_test(test_attr_string_unusual_characters_pass),
        cmocka_unit_test(test_attr_integer_rules),
        cmocka_unit_test(test_attr_boolean_and_binary_rules),
        cmocka_unit_test(test_attr_time_rules),
        cmocka_unit_test(test_attr_source_is_a_uri_reference),
        cmocka_unit_test(test_attr_dataschema_is_an_absolute_uri),
        cmocka_unit_test(test_attr_datacontenttype_is_a_media_type),
        cmocka_unit_test(test_attr_too_many_are_too_big),
        cmocka_unit_test(test_attr_values_over_the_limit_are_too_big),
        cmocka_unit_test(test_finish_over_size_max_is_too_big),
        cmocka_unit_test(test_data_is_json_by_type_and_content),
        cmocka_unit_test(test_data_empty_is_present),
        cmocka_unit_test(test_ref_counts_and_unref_null_is_a_no_op),
        cmocka_unit_test(test_from_record_copies),
        cmocka_unit_test(test_with_attr_adds_and_replaces),
        cmocka_unit_test(test_with_attr_new_datacontenttype_looks_at_the_data_again),
        cmocka_unit_test(test_check_every_flipped_byte_of_the_table_is_harmless),
        cmocka_unit_test(test_check_truncated_is_invalid),
        cmocka_unit_test(test_check_duplicate_name_is_invalid),
        cmocka_unit_test(test_media_type_is_json_cases),
        cmocka_unit_test(test_build_every_failed_allocation_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
