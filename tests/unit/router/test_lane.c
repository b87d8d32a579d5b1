#include "fixture.h"

#include "core/hash.h"
#include "core/rng.h"
#include "router/lane.h"

static uint64_t data_lane(const char *json, const char *path)
{
    struct mr_event *event = make_data_event("application/json", mr_bytes_of(json));
    uint64_t lane = mr__lane(MR_ORDER_DATA, mr_bytes_of(path), mr_event_record(event));
    mr_event_unref(event);
    return lane;
}

static uint64_t hash_of(const char *text)
{
    return mr_hash(text, strlen(text));
}

static void test_lane_attribute_is_hash_of_its_value(void **state)
{
    (void)state;
    struct mr_event *event = EVENT("subject", "kitchen/7", "tenant", "acme");
    struct mr_bytes record = mr_event_record(event);
    assert_int_equal(mr__lane(MR_ORDER_ATTRIBUTE, MR_BYTES_LITERAL("subject"), record),
                     hash_of("kitchen/7"));
    assert_int_equal(mr__lane(MR_ORDER_ATTRIBUTE, MR_BYTES_LITERAL("tenant"), record),
                     hash_of("acme"));
    assert_int_equal(mr__lane(MR_ORDER_ATTRIBUTE, MR_BYTES_LITERAL("id"), record), hash_of("1"));
    mr_event_unref(event);
}

static void test_lane_missing_attribute_is_unordered(void **state)
{
    (void)state;
    struct mr_event *event = EVENT("type", "t");
    struct mr_bytes record = mr_event_record(event);
    assert_int_equal(mr__lane(MR_ORDER_ATTRIBUTE, MR_BYTES_LITERAL("subject"), record), 0);
    assert_int_equal(mr__lane(MR_ORDER_NONE, MR_BYTES_LITERAL("type"), record), 0);
    mr_event_unref(event);
}

static void test_lane_data_paths_lead_to_scalars(void **state)
{
    (void)state;
    static const char json[] =
        " { \"skip\" : {\"order\": [1, {\"x\": \"}]\\\"\"}]}, \"order\" : { \"id\" : 7.50e1 , "
        "\"shop\":\"b\\u00e4r \\\"7\\\"\\n\\/\\\\\", \"t\": true,\"f\":false, \"n\": null, "
        "\"list\": [ \"a\" , [10, 11], {\"k\": \"deep\"}, -3 ], \"empty\": \"\", \"\": \"noname\", "
        "\"d\\u006ft\":\"esc\", \"emoji\":\"\\ud83d\\ude00\", \"half\":\"\\ud83d!\" }, "
        "\"7\":\"num\" }";
    static const struct {
        const char *path;
        const char *text; /* NULL: no lane */
    } cases[] = {
        {"order.id", "7.50e1"},       {"order.shop", "bär \"7\"\n/\\"},
        {"order.t", "true"},          {"order.f", "false"},
        {"order.n", NULL},            {"order.list.0", "a"},
        {"order.list.1.0", "10"},     {"order.list.1.1", "11"},
        {"order.list.1.2", NULL},     {"order.list.2.k", "deep"},
        {"order.list.3", "-3"},       {"order.list.4", NULL},
        {"order.list", NULL},         {"order.list.x", NULL},
        {"order.list.-1", NULL},      {"order.list.99999999999999999999", NULL},
        {"order.empty", ""},          {"order.", "noname"},
        {"order.dot", "esc"},         {"order.emoji", "\U0001F600"},
        {"order.half", "\xEF\xBF\xBD!"}, {"7", "num"},
        {"order", NULL},              {"skip.order.0", "1"},
        {"skip.order.1.x", "}]\""},   {"nosuch", NULL},
        {"order.id.x", NULL},         {"order.shop.0", NULL},
        {"Order.id", NULL},           {"order..id", NULL},
        {".order", NULL},             {"", NULL},
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(cases); i++) {
        uint64_t wanted = cases[i].text == NULL ? 0 : hash_of(cases[i].text);
        if (data_lane(json, cases[i].path) != wanted) {
            fail_msg("path \"%s\"", cases[i].path);
        }
    }
}

static void test_lane_first_of_repeated_members_wins(void **state)
{
    (void)state;
    assert_int_equal(data_lane("{\"a\":1,\"a\":2}", "a"), hash_of("1"));
    assert_int_equal(data_lane("{\"a\":{\"b\":1},\"a\":{\"c\":2}}", "a.c"), 0);
}

static void test_lane_scalar_document_has_no_members(void **state)
{
    (void)state;
    assert_int_equal(data_lane("7", "a"), 0);
    assert_int_equal(data_lane("\"a\"", "a"), 0);
    assert_int_equal(data_lane("[\"a\"]", "0"), hash_of("a"));
    assert_int_equal(data_lane("{}", "a"), 0);
    assert_int_equal(data_lane("[]", "0"), 0);
}

static void test_lane_same_content_in_other_spelling_is_one_lane(void **state)
{
    (void)state;
    assert_int_equal(data_lane("{\"a\":\"\\u0078\"}", "a"), data_lane("{ \"a\" : \"x\"}", "a"));
    assert_int_equal(data_lane("{\"a\":\"\\u00E9\"}", "a"), data_lane("{\"a\":\"é\"}", "a"));
    assert_int_not_equal(data_lane("{\"a\":1.0}", "a"), data_lane("{\"a\":1}", "a"));
}

static void test_lane_data_that_is_not_json_is_unordered(void **state)
{
    (void)state;
    struct mr_event *event = make_data_event("text/plain", MR_BYTES_LITERAL("{\"a\":1}"));
    assert_int_equal(mr__lane(MR_ORDER_DATA, MR_BYTES_LITERAL("a"), mr_event_record(event)), 0);
    mr_event_unref(event);
    event = EVENT("type", "t");
    assert_int_equal(mr__lane(MR_ORDER_DATA, MR_BYTES_LITERAL("a"), mr_event_record(event)), 0);
    mr_event_unref(event);
}

static void test_lane_deep_data_is_walked_without_recursion(void **state)
{
    (void)state;
    /* Deeper than any stack would bear; the record is what a log of another origin may hold. */
    enum { DEPTH = 400000 };
    char *json = malloc(2 * DEPTH + 64);
    assert_non_null(json);
    size_t n = (size_t)snprintf(json, 16, "{\"deep\":");
    memset(json + n, '[', DEPTH);
    memset(json + n + DEPTH, ']', DEPTH);
    n += 2 * (size_t)DEPTH;
    memcpy(json + n, ",\"a\":5}", 7);
    n += 7;
    struct mr_event *small = make_data_event("application/json", MR_BYTES_LITERAL("{}"));
    size_t head = small->size - 2;
    uint8_t *record = malloc(head + n);
    assert_non_null(record);
    memcpy(record, small->data, head);
    memcpy(record + head, json, n);
    mr_put_u32(record, (uint32_t)(head + n));
    mr_put_u32(record + 12, (uint32_t)n);
    assert_int_equal(mr__lane(MR_ORDER_DATA, MR_BYTES_LITERAL("a"), mr_bytes(record, head + n)),
                     hash_of("5"));
    mr_event_unref(small);
    free(record);
    free(json);
}

static void test_lane_damaged_json_never_crashes(void **state)
{
    (void)state;
    static const char json[] = "{\"x\":[1,{\"y\":\"\\ud83d\\ude00\\n\"}],"
                               "\"order\":{\"id\":\"\\u00e4z\","
                               "\"list\":[\"q\",[2]]}}";
    static const char *const paths[] = {"order.id", "order.list.1.0", "x.1.y"};
    struct mr_event *event =
        make_data_event("application/json", mr_bytes_of(json));
    struct mr_rng rng;
    mr_rng_init(&rng, 7);
    size_t data_size = sizeof(json) - 1;
    size_t head = event->size - data_size;
    unsigned changed = 0;
    for (unsigned i = 0; i < 60000; i++) {
        /* Cut, and bytes replaced; exactly sized, so that a read beyond the end is seen. */
        size_t cut = mr_rng_below(&rng, data_size + 1);
        uint8_t *record = malloc(head + cut);
        assert_non_null(record);
        memcpy(record, event->data, head + cut);
        mr_put_u32(record, (uint32_t)(head + cut));
        mr_put_u32(record + 12, (uint32_t)cut);
        for (uint64_t k = mr_rng_below(&rng, 4); k > 0 && cut > 0; k--) {
            static const char bytes[] = "{}[]\",:\\u0d8 \n\xff";
            record[head + mr_rng_below(&rng, cut)] =
                (uint8_t)bytes[mr_rng_below(&rng, sizeof(bytes))];
        }
        uint64_t lane = mr__lane(MR_ORDER_DATA, mr_bytes_of(paths[i % 3]),
                                 mr_bytes(record, head + cut));
        changed += lane == 0;
        free(record);
    }
    assert_in_range(changed, 10000, 59999);
    mr_event_unref(event);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lane_attribute_is_hash_of_its_value),
        cmocka_unit_test(test_lane_missing_attribute_is_unordered),
        cmocka_unit_test(test_lane_data_paths_lead_to_scalars),
        cmocka_unit_test(test_lane_first_of_repeated_members_wins),
        cmocka_unit_test(test_lane_scalar_document_has_no_members),
        cmocka_unit_test(test_lane_same_content_in_other_spelling_is_one_lane),
        cmocka_unit_test(test_lane_data_that_is_not_json_is_unordered),
        cmocka_unit_test(test_lane_deep_data_is_walked_without_recursion),
        cmocka_unit_test(test_lane_damaged_json_never_crashes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
