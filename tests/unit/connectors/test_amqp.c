#include "tests/support/test.h"

#include "connectors/amqp/amqp.h"
#include "connectors/amqp/content.h"
#include "connectors/amqp/message.h"
#include "core/alloc.h"

/* --- options ---------------------------------------------------------------------------------- */

static void set_url(struct mr_amqp_peer_options *peer, const char *text)
{
    assert_int_equal(mr_parse_url(mr_bytes_of(text), &peer->url, NULL), MR_OK);
}

static struct mr_amqp_source_options source_options(const char *url)
{
    struct mr_amqp_source_options o;
    memset(&o, 0, sizeof(o));
    assert_int_equal(mr_options_defaults(mr_connector_amqp.source_kind.options, &o), MR_OK);
    set_url(&o.peer, url);
    o.queue = mr_strdup("jobs");
    return o;
}

static struct mr_amqp_sink_options sink_options(const char *exchange, const char *key)
{
    struct mr_amqp_sink_options o;
    memset(&o, 0, sizeof(o));
    assert_int_equal(mr_options_defaults(mr_connector_amqp.sink_kind.options, &o), MR_OK);
    set_url(&o.peer, "amqp://h");
    o.exchange = mr_strdup(exchange);
    mr_free(o.routing_key);
    o.routing_key = mr_strdup(key);
    return o;
}

static void judge(enum mr_status r, const struct mr_problem *problem, const char *error)
{
    if (error == NULL ? r != MR_OK : r != MR_E_INVALID || strstr(problem->text, error) == NULL) {
        fail_msg("want \"%s\", got \"%s\"", error == NULL ? "" : error, problem->text);
    }
}

static void expect_source(struct mr_amqp_source_options o, const char *error)
{
    struct mr_problem problem = {.text = ""};
    judge(mr_connector_amqp.source_kind.check(&o, &problem), &problem, error);
    mr_options_release(mr_connector_amqp.source_kind.options, &o);
}

static void expect_sink(struct mr_amqp_sink_options o, const char *error)
{
    struct mr_problem problem = {.text = ""};
    judge(mr_connector_amqp.sink_kind.check(&o, &problem), &problem, error);
    mr_options_release(mr_connector_amqp.sink_kind.options, &o);
}

static void test_source_defaults_are_as_documented(void **state)
{
    (void)state;
    struct mr_amqp_source_options o = source_options("amqp://h");
    assert_int_equal(o.prefetch, 1000);
    assert_int_equal(o.adapter, 0);
    assert_int_equal(o.declare.type, MR_AMQP_QUEUE_PASSIVE);
    assert_true(o.declare.durable);
    assert_true(o.peer.heartbeat_ns == 20 * MR_SECOND);
    assert_int_equal(mr__amqp_port(&o.peer), 5672);
    assert_false(mr__amqp_is_tls(&o.peer));
    expect_source(o, NULL);
    o = source_options("amqps://h");
    assert_int_equal(mr__amqp_port(&o.peer), 5671);
    assert_true(mr__amqp_is_tls(&o.peer));
    o.peer.tls_ca = mr_strdup("/ca.crt");
    expect_source(o, NULL);
}

static void test_source_bad_options_are_named(void **state)
{
    (void)state;
    expect_source(source_options("http://h"), "amqp://");
    expect_source(source_options("amqp://h/a/b"), "%2F");
    expect_source(source_options("amqp://h/a?heartbeat=5"), "parameters");
    expect_source(source_options("amqp://h/%00"), "virtual host");
    expect_source(source_options("amqp://h/%zz"), "virtual host");
    struct mr_amqp_source_options o = source_options("amqp://h");
    o.queue[0] = '\0';
    expect_source(o, "queue");
    o = source_options("amqp://h");
    mr_free(o.queue);
    o.queue = mr_calloc(1, 300);
    memset(o.queue, 'q', 256);
    expect_source(o, "queue");
    o = source_options("amqp://h");
    o.peer.heartbeat_ns += 1;
    expect_source(o, "whole seconds");
    o = source_options("amqp://h");
    o.peer.tls_ca = mr_strdup("/ca.crt");
    expect_source(o, "amqps://");
    o = source_options("amqps://h");
    o.peer.tls_cert = mr_strdup("/c.crt");
    expect_source(o, "go together");
    o = source_options("amqps://h");
    o.peer.sasl_mechanism = MR_AMQP_SASL_EXTERNAL;
    expect_source(o, "wants amqps:// and tls_cert");
    o = source_options("amqps://u:p@h");
    o.peer.sasl_mechanism = MR_AMQP_SASL_EXTERNAL;
    o.peer.tls_cert = mr_strdup("/c.crt");
    o.peer.tls_key = mr_strdup("/c.key");
    expect_source(o, "no user and no password");
}

static void test_source_declare_says_what_does_not_fit(void **state)
{
    (void)state;
    static const struct {
        enum mr_amqp_queue_type type;
        const char *arguments;
        const char *exchange;
        const char *error;
    } cases[] = {
        {MR_AMQP_QUEUE_QUORUM, "{\"x-max-length\":5,\"a\":\"b\",\"c\":true}", "ex", NULL},
        {MR_AMQP_QUEUE_CLASSIC, "{}", NULL, NULL},
        {MR_AMQP_QUEUE_PASSIVE, NULL, "ex", NULL},
        {MR_AMQP_QUEUE_PASSIVE, "{}", NULL, "declare.type"},
        {MR_AMQP_QUEUE_CLASSIC, "[1]", NULL, "mapping"},
        {MR_AMQP_QUEUE_CLASSIC, "{\"x\":1.5}", NULL, "x wants"},
        {MR_AMQP_QUEUE_CLASSIC, "{\"x\":1e300}", NULL, "x wants"},
        {MR_AMQP_QUEUE_CLASSIC, "{\"x\":[1]}", NULL, "x wants"},
        {MR_AMQP_QUEUE_CLASSIC, "{\"x\":null}", NULL, "x wants"},
        {MR_AMQP_QUEUE_CLASSIC, "{\"x-queue-type\":\"stream\"}", NULL, "declare.type"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct mr_amqp_source_options o = source_options("amqp://h");
        o.declare.type = cases[i].type;
        o.declare.arguments = mr_strdup(cases[i].arguments);
        o.declare.exchange = mr_strdup(cases[i].exchange);
        expect_source(o, cases[i].error);
    }
    struct mr_amqp_source_options o = source_options("amqp://h");
    o.declare.exchange_type = MR_AMQP_EXCHANGE_TOPIC;
    expect_source(o, "declare.exchange");
    o = source_options("amqp://h");
    o.declare.type = MR_AMQP_QUEUE_QUORUM;
    o.declare.durable = false;
    expect_source(o, "durable");
}

static void test_sink_bad_options_are_named(void **state)
{
    (void)state;
    expect_sink(sink_options("ex", ""), NULL);
    expect_sink(sink_options(NULL, "queue"), NULL);
    expect_sink(sink_options("ex", "{{type}}.{{data.shop}}"), NULL);
    expect_sink(sink_options(NULL, ""), "wants `exchange`");
    expect_sink(sink_options("ex", "{{type"), "routing_key");
    struct mr_amqp_sink_options o = sink_options(NULL, "q");
    o.exchange_type = MR_AMQP_EXCHANGE_FANOUT;
    expect_sink(o, "exchange_type");
}

static void test_vhost_from_option_and_url(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        {"amqp://h", NULL, "/"},         {"amqp://h/", NULL, "/"},
        {"amqp://h/shop", NULL, "shop"}, {"amqp://h/%2F", NULL, "/"},
        {"amqp://h/a%2fb", NULL, "a/b"}, {"amqp://h/shop", "own", "own"},
        {"amqp://h/shop", "", "shop"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct mr_amqp_source_options o = source_options(cases[i][0]);
        char vhost[MR_AMQP_VHOST_SIZE_MAX];
        o.peer.vhost = mr_strdup(cases[i][1]);
        assert_int_equal(mr__amqp_vhost(&o.peer, vhost, NULL), MR_OK);
        assert_string_equal(vhost, cases[i][2]);
        mr_options_release(mr_connector_amqp.source_kind.options, &o);
    }
}

/* --- messages from frames --------------------------------------------------------------------- */

static amqp_basic_deliver_t deliver = {.delivery_tag = 7};
static amqp_basic_properties_t properties;

static enum mr_amqp_content_result feed(struct mr_amqp_content *c, uint8_t type, uint64_t size,
                                        const char *body)
{
    amqp_frame_t f = {.frame_type = type, .channel = 1};
    if (type == AMQP_FRAME_METHOD) {
        f.payload.method.id = AMQP_BASIC_DELIVER_METHOD;
        f.payload.method.decoded = &deliver;
    } else if (type == AMQP_FRAME_HEADER) {
        f.payload.properties.class_id = AMQP_BASIC_CLASS;
        f.payload.properties.body_size = size;
        f.payload.properties.decoded = &properties;
    } else if (body != NULL) {
        f.payload.body_fragment = (amqp_bytes_t){strlen(body), (void *)(uintptr_t)body};
    }
    return mr__amqp_content_feed(c, &f);
}

static void test_content_of_no_one_and_many_frames(void **state)
{
    (void)state;
    struct mr_amqp_content c;
    mr__amqp_content_init(&c, 100, 10);
    assert_int_equal(feed(&c, AMQP_FRAME_METHOD, 0, NULL), MR_AMQP_CONTENT_MORE);
    assert_int_equal(feed(&c, AMQP_FRAME_HEADER, 0, NULL), MR_AMQP_CONTENT_WHOLE);
    assert_int_equal(c.tag, 7);
    assert_int_equal(c.body.size, 0);
    mr__amqp_content_clear(&c);
    (void)feed(&c, AMQP_FRAME_METHOD, 0, NULL);
    (void)feed(&c, AMQP_FRAME_HEADER, 3, NULL);
    assert_int_equal(feed(&c, AMQP_FRAME_BODY, 0, "abc"), MR_AMQP_CONTENT_WHOLE);
    assert_true(mr_bytes_equal(c.body, mr_bytes_of("abc")));
    mr__amqp_content_clear(&c);
    (void)feed(&c, AMQP_FRAME_METHOD, 0, NULL);
    (void)feed(&c, AMQP_FRAME_HEADER, 6, NULL);
    assert_int_equal(feed(&c, AMQP_FRAME_BODY, 0, "ab"), MR_AMQP_CONTENT_MORE);
    assert_int_equal(feed(&c, AMQP_FRAME_BODY, 0, "cd"), MR_AMQP_CONTENT_MORE);
    assert_int_equal(feed(&c, AMQP_FRAME_BODY, 0, "ef"), MR_AMQP_CONTENT_WHOLE);
    assert_true(mr_bytes_equal(c.body, mr_bytes_of("abcdef")));
    mr__amqp_content_release(&c);
}

static void test_content_too_big_keeps_the_beginning(void **state)
{
    (void)state;
    struct mr_amqp_content c;
    mr__amqp_content_init(&c, 20, 10);
    (void)feed(&c, AMQP_FRAME_METHOD, 0, NULL);
    (void)feed(&c, AMQP_FRAME_HEADER, 24, NULL);
    assert_true(c.too_big);
    assert_null(c.properties);
    assert_int_equal(feed(&c, AMQP_FRAME_BODY, 0, "12345678"), MR_AMQP_CONTENT_MORE);
    assert_int_equal(feed(&c, AMQP_FRAME_BODY, 0, "90abcdef"), MR_AMQP_CONTENT_MORE);
    assert_int_equal(feed(&c, AMQP_FRAME_BODY, 0, "12345678"), MR_AMQP_CONTENT_WHOLE);
    assert_true(mr_bytes_equal(c.body, mr_bytes_of("1234567890")));
    struct mr_amqp_maker maker = {.source_name = "jobs", .queue = "q", .event_size_max = 4096};
    struct mr_batch *batch = mr_batch_create(0, 1);
    assert_int_equal(mr__amqp_add(&maker, &c, batch), MR_OK);
    assert_int_equal(batch->count, 1);
    assert_non_null(strstr(batch->items[0].rejected, "24 bytes"));
    mr_batch_destroy(batch);
    mr__amqp_content_release(&c);
}

static void test_content_out_of_order_is_broken(void **state)
{
    (void)state;
    struct mr_amqp_content c;
    mr__amqp_content_init(&c, 20, 10);
    assert_int_equal(feed(&c, AMQP_FRAME_HEADER, 1, NULL), MR_AMQP_CONTENT_BROKEN);
    assert_int_equal(feed(&c, AMQP_FRAME_BODY, 0, "x"), MR_AMQP_CONTENT_BROKEN);
    assert_int_equal(feed(&c, AMQP_FRAME_METHOD, 0, NULL), MR_AMQP_CONTENT_MORE);
    assert_int_equal(feed(&c, AMQP_FRAME_METHOD, 0, NULL), MR_AMQP_CONTENT_BROKEN);
    assert_int_equal(feed(&c, AMQP_FRAME_BODY, 0, "x"), MR_AMQP_CONTENT_BROKEN);
    assert_int_equal(feed(&c, AMQP_FRAME_HEADER, 2, NULL), MR_AMQP_CONTENT_MORE);
    assert_int_equal(feed(&c, AMQP_FRAME_BODY, 0, "xyz"), MR_AMQP_CONTENT_BROKEN);
    assert_int_equal(feed(&c, AMQP_FRAME_BODY, 0, ""), MR_AMQP_CONTENT_BROKEN);
    assert_int_equal(feed(&c, 8, 0, NULL), MR_AMQP_CONTENT_BROKEN);
    mr__amqp_content_clear(&c);
    assert_int_equal(feed(&c, AMQP_FRAME_METHOD, 0, NULL), MR_AMQP_CONTENT_MORE);
    mr__amqp_content_release(&c);
}

static void test_message_with_every_kind_of_header(void **state)
{
    (void)state;
    static const struct {
        uint8_t kind;
        const char *name;
        int64_t number;
        const char *text;
        const char *value; /* NULL: left out */
    } cases[] = {
        {AMQP_FIELD_KIND_UTF8, "specversion", 0, "1.0", "1.0"},
        {AMQP_FIELD_KIND_UTF8, "id", 0, "i", "i"},
        {AMQP_FIELD_KIND_UTF8, "source", 0, "/s", "/s"},
        {AMQP_FIELD_KIND_UTF8, "type", 0, "t", "t"},
        {AMQP_FIELD_KIND_BOOLEAN, "bool", 1, NULL, "true"},
        {AMQP_FIELD_KIND_I8, "i8", -8, NULL, "-8"},
        {AMQP_FIELD_KIND_U8, "u8", 200, NULL, "200"},
        {AMQP_FIELD_KIND_I16, "i16", -1600, NULL, "-1600"},
        {AMQP_FIELD_KIND_U16, "u16", 60000, NULL, "60000"},
        {AMQP_FIELD_KIND_I32, "i32", INT32_MIN, NULL, "-2147483648"},
        {AMQP_FIELD_KIND_U32, "u32", UINT32_MAX, NULL, "4294967295"},
        {AMQP_FIELD_KIND_I64, "i64", INT64_MIN, NULL, "-9223372036854775808"},
        {AMQP_FIELD_KIND_U64, "u64", INT64_MAX, NULL, "9223372036854775807"},
        {AMQP_FIELD_KIND_U64, "u64big", -1, NULL, NULL},
        {AMQP_FIELD_KIND_TIMESTAMP, "tbig", INT64_MAX, NULL, NULL},
        {AMQP_FIELD_KIND_F64, "float", 0, NULL, NULL},
        {AMQP_FIELD_KIND_VOID, "void", 0, NULL, NULL},
    };
    amqp_table_entry_t entries[17];
    memset(entries, 0, sizeof(entries));
    for (int i = 0; i < 17; i++) {
        amqp_field_value_t *v = &entries[i].value;
        entries[i].key = amqp_cstring_bytes(cases[i].name);
        v->kind = cases[i].kind;
        if (cases[i].text != NULL) {
            v->value.bytes = amqp_cstring_bytes(cases[i].text);
        } else {
            v->value.i64 = cases[i].number; /* little-endian: the low bytes are the small kinds */
        }
    }
    amqp_basic_properties_t p = {._flags = AMQP_BASIC_HEADERS_FLAG, .headers = {17, entries}};
    struct mr_amqp_content c = {.properties = &p, .body = mr_bytes_of("data")};
    struct mr_amqp_maker maker = {.source_name = "jobs", .queue = "q", .event_size_max = 4096};
    struct mr_batch *batch = mr_batch_create(0, 1);
    assert_int_equal(mr__amqp_add(&maker, &c, batch), MR_OK);
    assert_int_equal(batch->count, 1);
    if (batch->items[0].rejected != NULL) {
        fail_msg("%s", batch->items[0].rejected);
    }
    struct mr_bytes record = mr_event_record(batch->items[0].event);
    for (int i = 1; i < 17; i++) {
        struct mr_bytes got = mr_event_value(record, cases[i].name);
        if (!mr_bytes_equal(got, mr_bytes_of(cases[i].value))) {
            fail_msg("%s: %.*s", cases[i].name, (int)got.size, (const char *)got.data);
        }
    }
    mr_batch_destroy(batch);
}

static void test_message_of_a_stream_and_with_too_many_headers(void **state)
{
    (void)state;
    amqp_table_entry_t entries[129];
    memset(entries, 0, sizeof(entries));
    for (int i = 0; i < 129; i++) {
        entries[i].key = amqp_cstring_bytes("x-stream-offset");
        entries[i].value.kind = AMQP_FIELD_KIND_I64;
    }
    amqp_basic_properties_t p = {._flags = AMQP_BASIC_HEADERS_FLAG, .headers = {1, entries}};
    struct mr_amqp_content c = {.properties = &p};
    struct mr_amqp_maker maker = {.source_name = "jobs", .queue = "q", .event_size_max = 4096};
    struct mr_batch *batch = mr_batch_create(0, 1);
    assert_int_equal(mr__amqp_add(&maker, &c, batch), MR_E_UNSUPPORTED);
    assert_int_equal(batch->count, 0);
    for (int i = 0; i < 129; i++) {
        entries[i].key = amqp_cstring_bytes("many");
    }
    p.headers.num_entries = 129;
    assert_int_equal(mr__amqp_add(&maker, &c, batch), MR_OK);
    assert_non_null(strstr(batch->items[0].rejected, "more than 128 headers"));
    mr_batch_destroy(batch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_source_defaults_are_as_documented),
        cmocka_unit_test(test_source_bad_options_are_named),
        cmocka_unit_test(test_source_declare_says_what_does_not_fit),
        cmocka_unit_test(test_sink_bad_options_are_named),
        cmocka_unit_test(test_vhost_from_option_and_url),
        cmocka_unit_test(test_content_of_no_one_and_many_frames),
        cmocka_unit_test(test_content_too_big_keeps_the_beginning),
        cmocka_unit_test(test_content_out_of_order_is_broken),
        cmocka_unit_test(test_message_with_every_kind_of_header),
        cmocka_unit_test(test_message_of_a_stream_and_with_too_many_headers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
