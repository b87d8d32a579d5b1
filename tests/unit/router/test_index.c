#include "fixture.h"

#include "core/rng.h"
#include "router/internal.h"

/* Random tables of filters against random events: the index must find exactly what evaluating
 * every filter by itself finds. Alphabets are small, so that hits and near misses are common. */

#define TABLES 120u
#define DATA_PLACES 3u
#define RULES 60u
#define EVENTS 40u

static const char *const attr_names[] = {"id",     "source", "type",        "subject",
                                         "tenant", "x1",     "specversion", "nosuch"};

static void random_value(struct mr_rng *rng, char *to, size_t size_max)
{
    /* Mostly short; sometimes around the lengths where prefixes begin to be cut. */
    static const unsigned lengths[] = {1, 1, 2, 2, 3, 4, 5, 63, 64, 65, 79, 80, 81, 200};
    size_t size = lengths[mr_rng_below(rng, MR_ARRAY_COUNT(lengths))];
    size = size < size_max ? size : size_max - 1;
    bool same = size > 10; /* long ones share most bytes */
    for (size_t i = 0; i < size; i++) {
        to[i] = (char)('a' + (same && !mr_rng_chance(rng, 1, 60) ? 0 : mr_rng_below(rng, 2)));
    }
    to[size] = '\0';
}

static void append(struct mr_buf *buf, const char *text)
{
    assert_int_equal(mr_buf_append_text(buf, text), MR_OK);
}

/* One test of an expression, by @p form. */
static void append_test(struct mr_rng *rng, struct mr_buf *buf)
{
    char a[256];
    char b[256];
    random_value(rng, a, sizeof(a));
    random_value(rng, b, sizeof(b));
    const char *name = attr_names[mr_rng_below(rng, MR_ARRAY_COUNT(attr_names))];
    enum mr_status r = MR_OK;
    switch (mr_rng_below(rng, 8)) {
    case 0:
        r = mr_buf_printf(buf, "'%s' = %s", a, name);
        break;
    case 1:
        r = mr_buf_printf(buf, "%s LIKE '%s%%'", name, a);
        break;
    case 2:
        r = mr_buf_printf(buf, "%s LIKE '%%%s'", name, a);
        break;
    case 3:
        r = mr_buf_printf(buf, "%s LIKE '%.3s%%%.2s'", name, a, b);
        break;
    case 4:
        r = mr_buf_printf(buf, "%s IN ('%s', '%s', LOWER('%s'))", name, a, b, a);
        break;
    case 5:
        r = mr_buf_printf(buf, "%s NOT IN ('%s', '%s')", name, a, b);
        break;
    case 6:
        r = mr_buf_printf(buf, "%s IN ('%s', '%s')", name, a, b);
        break;
    default:
        r = mr_buf_printf(buf, "%s = '%s'", name, a);
        break;
    }
    assert_int_equal(r, MR_OK);
}

static void append_sql(struct mr_rng *rng, struct mr_buf *buf)
{
    static const char *const joints[] = {" AND ", " AND ", " OR ", " XOR "};
    uint64_t count = 1 + mr_rng_below(rng, 3);
    append(buf, "{\"sql\":\"");
    for (uint64_t i = 0; i < count; i++) {
        bool bracket = mr_rng_chance(rng, 1, 3);
        append(buf, i == 0 ? "" : joints[mr_rng_below(rng, MR_ARRAY_COUNT(joints))]);
        append(buf, bracket ? (mr_rng_chance(rng, 1, 4) ? "NOT (" : "(") : "");
        append_test(rng, buf);
        if (bracket) {
            append(buf, mr_rng_chance(rng, 1, 2) ? " OR " : " AND ");
            append_test(rng, buf);
            append(buf, ")");
        }
    }
    append(buf, "\"}");
}

static void append_data(struct mr_rng *rng, struct mr_buf *buf)
{
    static const char *const operators[] = {"exact", "prefix", "suffix", "in"};
    char a[256];
    char b[256];
    random_value(rng, a, sizeof(a));
    random_value(rng, b, sizeof(b));
    const char *operator= operators[mr_rng_below(rng, MR_ARRAY_COUNT(operators))];
    unsigned place = (unsigned)mr_rng_below(rng, DATA_PLACES);
    assert_int_equal(strcmp(operator, "in") == 0
                         ? mr_buf_printf(buf, "{\"data\":{\"in\":{\"d.%u\":[\"%s\",\"%s\"]}}}", place,
                                         a, b)
                         : mr_buf_printf(buf, "{\"data\":{\"%s\":{\"d.%u\":\"%s\"}}}", operator, place,
                                         a),
                     MR_OK);
}

static void append_leaf(struct mr_rng *rng, struct mr_buf *buf)
{
    static const char *const dialects[] = {"exact", "exact", "prefix", "suffix"};
    uint64_t kind = mr_rng_below(rng, 6);
    if (kind < 2) {
        (kind == 0 ? append_sql : append_data)(rng, buf);
        return;
    }
    unsigned count = mr_rng_chance(rng, 1, 4) ? 2 : 1;
    uint64_t first = mr_rng_below(rng, MR_ARRAY_COUNT(attr_names));
    append(buf, "{\"");
    append(buf, dialects[mr_rng_below(rng, MR_ARRAY_COUNT(dialects))]);
    append(buf, "\":{");
    for (unsigned i = 0; i < count; i++) {
        char value[256];
        random_value(rng, value, sizeof(value));
        const char *name = attr_names[(first + i) % MR_ARRAY_COUNT(attr_names)];
        if (strcmp(name, "specversion") == 0) {
            snprintf(value, sizeof(value), "%s", mr_rng_chance(rng, 1, 2) ? "1.0" : "1.");
        }
        assert_int_equal(mr_buf_printf(buf, "%s\"%s\":\"%s\"", i == 0 ? "" : ",", name, value),
                         MR_OK);
    }
    append(buf, "}}");
}

/* Depth is bounded by @p depth, so recursion here is on our own numbers. */
static void append_filter(struct mr_rng *rng, struct mr_buf *buf, unsigned depth)
{
    uint64_t kind = depth == 0 ? 0 : mr_rng_below(rng, 7);
    if (kind <= 2) {
        append_leaf(rng, buf);
        return;
    }
    if (kind == 3) {
        append(buf, "{\"not\":");
        append_filter(rng, buf, depth - 1);
        append(buf, "}");
        return;
    }
    append(buf, kind == 4 ? "{\"all\":[" : "{\"any\":[");
    uint64_t count = 1 + mr_rng_below(rng, 3);
    for (uint64_t i = 0; i < count; i++) {
        append(buf, i == 0 ? "" : ",");
        append_filter(rng, buf, depth - 1);
    }
    append(buf, "]}");
}

static struct fixture *random_table(struct mr_rng *rng)
{
    struct fixture *f = fixture_create(4);
    uint64_t rules = 1 + mr_rng_below(rng, RULES);
    for (uint64_t i = 0; i < rules; i++) {
        struct mr_buf buf;
        mr_buf_init(&buf, MR_MIB);
        append(&buf, "[");
        uint64_t count = mr_rng_chance(rng, 1, 30) ? 0 : 1 + mr_rng_below(rng, 2);
        for (uint64_t k = 0; k < count; k++) {
            append(&buf, k == 0 ? "" : ",");
            append_filter(rng, &buf, 4);
        }
        append(&buf, "]");
        char *text = mr_buf_take_text(&buf);
        struct mr_subscription_config *s = fixture_add(f, text);
        mr_free(text);
        s->hidden = mr_rng_chance(rng, 1, 12);
        if (mr_rng_chance(rng, 1, 5)) {
            uint32_t sources[2] = {(uint32_t)mr_rng_below(rng, 4), (uint32_t)mr_rng_below(rng, 4)};
            fixture_sources(s, 1 + (uint32_t)mr_rng_below(rng, 2), sources);
        }
    }
    fixture_start(f);
    return f;
}

static struct mr_event *random_event(struct mr_rng *rng)
{
    struct mr_event_builder builder;
    mr_event_builder_init(&builder, MR_EVENT_SIZE_MAX);
    for (size_t i = 0; i < MR_ARRAY_COUNT(attr_names); i++) {
        if (i < 3 || (i < 6 && mr_rng_chance(rng, 2, 3))) {
            char value[256];
            random_value(rng, value, sizeof(value));
            add_attr(&builder, attr_names[i], value);
        }
    }
    add_attr(&builder, "unmentioned", "value");
    char data[1024] = "{\"d\":[";
    size_t size = strlen(data);
    for (unsigned i = 0; i < DATA_PLACES; i++) {
        char value[256];
        random_value(rng, value, sizeof(value));
        size += (size_t)snprintf(data + size, sizeof(data) - size, "%s\"%s\"", i == 0 ? "" : ",",
                                 value);
    }
    (void)snprintf(data + size, sizeof(data) - size, "]}");
    if (mr_rng_chance(rng, 3, 4)) {
        mr_event_builder_data(&builder, mr_bytes_of(data), false);
    }
    return finish_event(&builder);
}

static bool naive_source(const struct mr_subscription_config *s, uint32_t source)
{
    for (uint32_t i = 0; i < s->source_count; i++) {
        if (s->sources[i] == source) {
            return true;
        }
    }
    return s->source_count == 0;
}

/* One event against the table, three ways. @return how many matched */
static uint32_t compare(struct fixture *f, struct mr_filter *const *filters, uint32_t source,
                        const struct mr_event *event)
{
    fixture_match(f, source, event);
    uint32_t at = 0;
    for (uint32_t i = 0; i < f->config.subscription_count; i++) {
        const struct mr_subscription_config *s = &f->subscriptions[i];
        bool naive = !s->hidden && naive_source(s, source) &&
                     mr_filter_test(filters[i], mr_event_record(event));
        bool found = at < f->matches.count && f->matches.items[at].subscription == i;
        if (naive != found) {
            fail_msg("index %d, filter %d: %s", found, naive, s->filter_json);
        }
        at += found;
        struct mr_buf out;
        mr_buf_init(&out, 64 * MR_KIB);
        bool explained =
            mr_router_explain(f->router, i, source, mr_event_record(event), &out);
        assert_int_equal(explained, found);
        assert_true(out.size > 0);
        assert_int_equal(mr_bytes_equal(mr_buf_bytes(&out), MR_BYTES_LITERAL("matches")), found);
        mr_buf_release(&out);
    }
    assert_int_equal(at, f->matches.count);
    return at;
}

static uint64_t seed_of_run(void)
{
    const char *text = getenv("MR_TEST_SEED");
    uint64_t seed = 20240229;
    if (text != NULL) {
        assert_true(mr_parse_u64(mr_bytes_of(text), &seed));
    }
    print_message("MR_TEST_SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

static void test_index_random_tables_equal_naive_evaluation(void **state)
{
    (void)state;
    struct mr_rng rng;
    mr_rng_init(&rng, seed_of_run());
    uint64_t matched = 0;
    uint64_t tested = 0;
    for (unsigned t = 0; t < TABLES; t++) {
        struct fixture *f = random_table(&rng);
        struct mr_filter *filters[FIXTURE_RULES_MAX] = {NULL};
        for (uint32_t i = 0; i < f->config.subscription_count; i++) {
            assert_int_equal(mr_filter_create(mr_bytes_of(f->subscriptions[i].filter_json),
                                              &filters[i], NULL),
                             MR_OK);
        }
        for (unsigned e = 0; e < EVENTS; e++) {
            struct mr_event *event = random_event(&rng);
            uint32_t source = (uint32_t)mr_rng_below(&rng, 5);
            matched += compare(f, filters, source == 4 ? UINT32_MAX : source, event);
            tested += f->config.subscription_count;
            mr_event_unref(event);
        }
        for (uint32_t i = 0; i < f->config.subscription_count; i++) {
            mr_filter_destroy(filters[i]);
        }
        fixture_destroy(f);
    }
    /* Both answers must be frequent, or the test tests nothing. */
    assert_true(matched > tested / 20);
    assert_true(matched < tested * 19 / 20);
}

/* --- each way into the index --------------------------------------------------------------- */

static void test_index_every_prefix_length_is_found(void **state)
{
    (void)state;
    enum { VALUE = 1200 };
    char value[VALUE + 1];
    for (size_t i = 0; i < VALUE; i++) {
        value[i] = (char)('a' + i % 23);
    }
    value[VALUE] = '\0';
    struct mr_event *event = EVENT("subject", value);
    for (unsigned length = 1; length <= VALUE; length += length < 150 ? 1 : 7) {
        char json[VALUE + 64];
        struct fixture *f = fixture_create(0);
        snprintf(json, sizeof(json), "[{\"prefix\":{\"subject\":\"%.*s\"}}]", (int)length, value);
        fixture_add(f, json);
        snprintf(json, sizeof(json), "[{\"suffix\":{\"subject\":\"%s\"}}]", value + VALUE - length);
        fixture_add(f, json);
        snprintf(json, sizeof(json), "[{\"prefix\":{\"subject\":\"%.*s!\"}}]", (int)length, value);
        fixture_add(f, json);
        snprintf(json, sizeof(json), "[{\"suffix\":{\"subject\":\"!%s\"}}]",
                 value + VALUE - length);
        fixture_add(f, json);
        fixture_start(f);
        assert_string_equal(fixture_result(f, 0, event), "0,1");
        fixture_destroy(f);
    }
    mr_event_unref(event);
}

static void test_index_prefixes_of_prefixes_are_all_found(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(0);
    static const char text[] = "com.example.order.created";
    for (int i = 1; i < (int)sizeof(text); i++) {
        char json[128];
        snprintf(json, sizeof(json), "[{\"prefix\":{\"type\":\"%.*s\"}}]", i, text);
        fixture_add(f, json);
    }
    fixture_start(f);
    struct mr_event *event = EVENT("type", "com.example.order.created");
    fixture_match(f, 0, event);
    assert_int_equal(f->matches.count, sizeof(text) - 1);
    mr_event_unref(event);
    event = EVENT("type", "com.example.x");
    fixture_match(f, 0, event);
    assert_int_equal(f->matches.count, 12);
    mr_event_unref(event);
    fixture_destroy(f);
}

static void test_index_any_found_by_both_branches_is_one_match(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(0);
    fixture_add(f, "[{\"exact\":{\"type\":\"z\"}}]");
    fixture_add(f, "[{\"any\":[{\"exact\":{\"type\":\"t\"}},{\"exact\":{\"source\":\"/s\"}},"
                   "{\"prefix\":{\"type\":\"t\"}},{\"exact\":{\"type\":\"t\"}}]}]");
    fixture_start(f);
    struct mr_event *event = EVENT("type", "t");
    assert_string_equal(fixture_result(f, 0, event), "1");
    mr_event_unref(event);
    fixture_destroy(f);
}

static void test_index_any_with_unindexable_branch_is_still_found(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(0);
    fixture_add(f, "[{\"any\":[{\"exact\":{\"type\":\"z\"}},"
                   "{\"not\":{\"exact\":{\"id\":\"9\"}}}]}]");
    fixture_add(f, "[{\"all\":[{\"any\":[{\"exact\":{\"type\":\"z\"}},"
                   "{\"not\":{\"exact\":{\"id\":\"9\"}}}]},{\"exact\":{\"source\":\"/s\"}}]}]");
    fixture_start(f);
    struct mr_event *event = EVENT("type", "t");
    assert_string_equal(fixture_result(f, 0, event), "0,1");
    mr_event_unref(event);
    event = EVENT("id", "9");
    assert_string_equal(fixture_result(f, 0, event), "");
    mr_event_unref(event);
    fixture_destroy(f);
}

static void test_index_unmentioned_attributes_match_nothing(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(0);
    fixture_add(f, "[{\"exact\":{\"alpha\":\"1\"}}]");
    fixture_start(f);
    struct mr_event *event = EVENT("beta", "1");
    assert_string_equal(fixture_result(f, 0, event), "");
    mr_event_unref(event);
    event = EVENT("beta", "1", "alpha", "1");
    assert_string_equal(fixture_result(f, 0, event), "0");
    mr_event_unref(event);
    fixture_destroy(f);
}

static void test_index_specversion_alone_is_found(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(0);
    fixture_add(f, "[{\"exact\":{\"specversion\":\"1.0\"}}]");
    fixture_add(f, "[{\"prefix\":{\"specversion\":\"2\"}}]");
    fixture_start(f);
    struct mr_event *event = EVENT("type", "t");
    assert_string_equal(fixture_result(f, 0, event), "0");
    mr_event_unref(event);
    fixture_destroy(f);
}

static void test_index_event_of_all_attributes_is_seen_whole(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(0);
    struct mr_event_builder builder;
    mr_event_builder_init(&builder, MR_EVENT_SIZE_MAX);
    add_attr(&builder, "id", "1");
    add_attr(&builder, "source", "/s");
    add_attr(&builder, "type", "t");
    fixture_add(f, "[{\"exact\":{\"specversion\":\"1.0\"}}]");
    for (unsigned i = 3; i < MR_EVENT_ATTRS_MAX - 1; i++) {
        char name[16];
        char json[64];
        snprintf(name, sizeof(name), "a%u", i);
        snprintf(json, sizeof(json), "[{\"exact\":{\"a%u\":\"v\"}}]", i);
        add_attr(&builder, name, "v");
        fixture_add(f, json);
    }
    fixture_start(f);
    struct mr_event *event = finish_event(&builder);
    fixture_match(f, 0, event);
    assert_int_equal(f->matches.count, f->config.subscription_count);
    mr_event_unref(event);
    fixture_destroy(f);
}

/* --- the work it saves --------------------------------------------------------------------- */

static enum mr_status count_candidates(void *context, const uint32_t *subscriptions, uint32_t count)
{
    (void)subscriptions;
    *(uint32_t *)context += count;
    return MR_OK;
}

static uint32_t candidates_of(const struct fixture *f, uint32_t source,
                              const struct mr_event *event)
{
    struct mr__view view;
    struct mr__reading reading;
    mr__view_init(&view, &f->router->names, mr_event_record(event), &reading);
    uint32_t count = 0;
    assert_int_equal(
        mr__index_find(&f->router->index, &view, source, count_candidates, &count), MR_OK);
    mr__view_release(&view);
    return count;
}

/* Tables of 200 subscriptions of which one can match: only that one is looked at. */
static void test_index_candidates_are_few_for_each_form(void **state)
{
    (void)state;
    static const char *const forms[] = {
        "[{\"exact\":{\"type\":\"t\",\"subject\":\"s%u\"}}]",
        "[{\"exact\":{\"type\":\"t\"}},{\"prefix\":{\"subject\":\"s%u\"}}]",
        "[{\"suffix\":{\"subject\":\"/s%u/\"}}]",
        ("[{\"all\":[{\"not\":{\"exact\":{\"id\":\"9\"}}},"
         "{\"all\":[{\"exact\":{\"subject\":\"s%u\"}}]}]}]"),
        "[{\"any\":[{\"exact\":{\"subject\":\"s%u\"}},{\"exact\":{\"tenant\":\"never\"}}]}]",
        "[{\"exact\":{\"a%u\":\"v\"}}]",
        "[{\"sql\":\"type = 't' AND subject = 's%u'\"}]",
        "[{\"sql\":\"NOT EXISTS tenant AND subject LIKE 's%u%%'\"}]",
        "[{\"any\":[{\"sql\":\"subject IN ('s%u', 'never')\"},{\"exact\":{\"id\":\"9\"}}]}]",
        "[{\"sql\":\"EXISTS id AND (subject LIKE 's%u' OR 'x' = tenant)\"}]",
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(forms); i++) {
        struct fixture *f = fixture_create(0);
        for (unsigned k = 100; k < 300; k++) {
            char json[200];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* one of the literals above */
            snprintf(json, sizeof(json), forms[i], k);
#pragma GCC diagnostic pop
            fixture_add(f, json);
        }
        fixture_start(f);
        struct mr_event *event =
            EVENT("type", "t", "subject", i == 2 ? "x/s150/" : "s150", "a150", "v");
        assert_string_equal(fixture_result(f, 0, event), "50");
        if (candidates_of(f, 0, event) != 1) {
            fail_msg("%s: %u candidates", forms[i], candidates_of(f, 0, event));
        }
        mr_event_unref(event);
        fixture_destroy(f);
    }
}

static void test_index_sources_serve_as_key_when_nothing_else_does(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(8);
    for (uint32_t i = 0; i < 200; i++) {
        fixture_sources(fixture_add(f, "[{\"not\":{\"exact\":{\"type\":\"u\"}}}]"), 1,
                        (const uint32_t[]){i % 8});
    }
    fixture_start(f);
    struct mr_event *event = EVENT("type", "t");
    assert_int_equal(candidates_of(f, 3, event), 25);
    assert_int_equal(candidates_of(f, UINT32_MAX, event), 0);
    mr_event_unref(event);
    fixture_destroy(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_index_random_tables_equal_naive_evaluation),
        cmocka_unit_test(test_index_every_prefix_length_is_found),
        cmocka_unit_test(test_index_prefixes_of_prefixes_are_all_found),
        cmocka_unit_test(test_index_any_found_by_both_branches_is_one_match),
        cmocka_unit_test(test_index_any_with_unindexable_branch_is_still_found),
        cmocka_unit_test(test_index_unmentioned_attributes_match_nothing),
        cmocka_unit_test(test_index_specversion_alone_is_found),
        cmocka_unit_test(test_index_event_of_all_attributes_is_seen_whole),
        cmocka_unit_test(test_index_candidates_are_few_for_each_form),
        cmocka_unit_test(test_index_sources_serve_as_key_when_nothing_else_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
