#include "fixture.h"

#include "core/hash.h"

#include <pthread.h>

static void test_router_create_empty_configuration_matches_nothing(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(0);
    fixture_start(f);
    struct mr_event *event = EVENT("type", "t");
    assert_string_equal(fixture_result(f, 0, event), "");
    assert_string_equal(fixture_result(f, UINT32_MAX, event), "");
    mr_event_unref(event);
    fixture_destroy(f);
}

static void test_router_match_empty_filter_takes_everything(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(2);
    fixture_add(f, "[]");
    fixture_start(f);
    struct mr_event *event = EVENT("type", "t");
    assert_string_equal(fixture_result(f, 1, event), "0");
    assert_string_equal(fixture_result(f, UINT32_MAX, event), "0");
    mr_event_unref(event);
    fixture_destroy(f);
}

static void test_router_match_missing_filter_takes_everything(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(0);
    struct mr_subscription_config *s = fixture_add(f, "[]");
    mr_free(s->filter_json);
    s->filter_json = NULL;
    fixture_start(f);
    struct mr_event *event = EVENT("type", "t");
    assert_string_equal(fixture_result(f, 0, event), "0");
    mr_event_unref(event);
    fixture_destroy(f);
}

static void test_router_match_sources_are_a_condition(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(4);
    fixture_sources(fixture_add(f, "[]"), 1, (const uint32_t[]){2});
    fixture_sources(fixture_add(f, "[{\"exact\":{\"type\":\"t\"}}]"), 2,
                    (const uint32_t[]){1, 3});
    fixture_sources(fixture_add(f, "[{\"not\":{\"exact\":{\"type\":\"t\"}}}]"), 1,
                    (const uint32_t[]){2});
    fixture_sources(fixture_add(f, "[{\"not\":{\"exact\":{\"type\":\"u\"}}}]"), 3,
                    (const uint32_t[]){2, 0, 2});
    fixture_start(f);
    struct mr_event *event = EVENT("type", "t");
    assert_string_equal(fixture_result(f, 0, event), "3");
    assert_string_equal(fixture_result(f, 1, event), "1");
    assert_string_equal(fixture_result(f, 2, event), "0,3");
    assert_string_equal(fixture_result(f, 3, event), "1");
    assert_string_equal(fixture_result(f, UINT32_MAX, event), "");
    mr_event_unref(event);
    fixture_destroy(f);
}

static void test_router_match_hidden_subscriptions_never_match(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(0);
    fixture_add(f, "[]");
    struct mr_subscription_config *hidden = fixture_add(f, "this filter is never read");
    hidden->hidden = true;
    fixture_add(f, "[]")->hidden = true;
    fixture_start(f);
    struct mr_event *event = EVENT("type", "t");
    assert_string_equal(fixture_result(f, 0, event), "0");
    mr_event_unref(event);
    fixture_destroy(f);
}

static void test_router_match_result_is_ascending_over_all_ways_in(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(1);
    static const char *const filters[] = {
        "[{\"not\":{\"exact\":{\"type\":\"u\"}}}]", "[{\"suffix\":{\"subject\":\"x\"}}]",
        "[{\"exact\":{\"type\":\"t\"}}]", "[]", "[{\"prefix\":{\"source\":\"/\"}}]",
    };
    for (unsigned i = 0; i < 200; i++) {
        fixture_add(f, filters[i % MR_ARRAY_COUNT(filters)]);
    }
    fixture_start(f);
    struct mr_event *event = EVENT("type", "t", "subject", "x");
    fixture_match(f, 0, event); /* checks the order */
    assert_int_equal(f->matches.count, 200);
    mr_event_unref(event);
    fixture_destroy(f);
}

static void test_router_match_steady_state_allocates_nothing(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(1);
    for (unsigned i = 0; i < 150; i++) {
        struct mr_subscription_config *s =
            fixture_add(f, i % 2 == 0 ? "[{\"prefix\":{\"type\":\"t\"}}]"
                                      : "[{\"not\":{\"exact\":{\"id\":\"9\"}}}]");
        s->order = i % 3 == 0 ? MR_ORDER_DATA : MR_ORDER_ATTRIBUTE;
        s->order_key = mr_strdup(i % 3 == 0 ? "a.b" : "source");
    }
    fixture_start(f);
    struct mr_event *event =
        make_data_event("application/json", MR_BYTES_LITERAL("{\"a\":{\"b\":\"\\u00e4\"}}"));
    fixture_match(f, 0, event);
    mr_alloc_fail_at(1, 1);
    enum mr_status r = mr_router_match(f->router, 0, mr_event_record(event), &f->matches);
    uint64_t made = mr_alloc_fail_at(0, 0);
    assert_int_equal(r, MR_OK);
    assert_int_equal(made, 0);
    assert_int_equal(f->matches.count, 150);
    mr_event_unref(event);
    fixture_destroy(f);
}

static void test_router_match_out_of_memory_leaves_no_match(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(0);
    fixture_add(f, "[]");
    fixture_start(f);
    struct mr_event *event = EVENT("type", "t");
    f->matches.count = 0;
    mr_alloc_fail_at(1, 0);
    enum mr_status r = mr_router_match(f->router, 0, mr_event_record(event), &f->matches);
    mr_alloc_fail_at(0, 0);
    assert_int_equal(r, MR_E_NOMEM);
    assert_int_equal(f->matches.count, 0);
    assert_string_equal(fixture_result(f, 0, event), "0");
    mr_event_unref(event);
    fixture_destroy(f);
}

static void refuse_second(struct fixture *f, enum mr_status status, const char *reason)
{
    struct mr_problem problem = {""};
    uint32_t refused = UINT32_MAX;
    int64_t live = mr_alloc_live();
    assert_int_equal(mr_router_create(&f->config, &f->router, &refused, &problem), status);
    assert_null(f->router);
    assert_int_equal(refused, 1);
    assert_non_null(strstr(problem.text, reason));
    assert_int_equal(mr_alloc_live(), live);
    fixture_destroy(f);
}

static void test_router_create_bad_filter_names_the_subscription(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(0);
    fixture_add(f, "[]");
    fixture_add(f, "[{\"exact\":{\"type\":\"\"}}]");
    fixture_add(f, "[{\"exact\":{\"type\":\"\"}}]");
    refuse_second(f, MR_E_INVALID, "filter.exact.type must not be empty");
}

static void test_router_create_later_dialect_is_unsupported(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(0);
    fixture_add(f, "[]");
    fixture_add(f, "[{\"time\":{\"after\":\"09:00\"}}]");
    refuse_second(f, MR_E_UNSUPPORTED, "filter.time is not available in this release");
}

static void test_router_create_bad_order_attribute_is_refused(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(0);
    fixture_add(f, "[]");
    struct mr_subscription_config *s = fixture_add(f, "[]");
    s->order = MR_ORDER_ATTRIBUTE;
    s->order_key = mr_strdup("Sub-Ject");
    refuse_second(f, MR_E_INVALID, "order_by \"Sub-Ject\" names no attribute");
}

static void test_router_create_empty_order_path_is_refused(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(0);
    fixture_add(f, "[]");
    struct mr_subscription_config *s = fixture_add(f, "[]");
    s->order = MR_ORDER_DATA;
    s->order_key = mr_strdup("");
    refuse_second(f, MR_E_INVALID, "order_by has an empty path");
}

static void test_router_create_nth_allocation_fails_cleanly(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(3);
    for (unsigned i = 0; i < 40; i++) {
        char json[200];
        snprintf(json, sizeof(json),
                 "[{\"any\":[{\"exact\":{\"type\":\"t%u\"}},{\"prefix\":{\"a%u\":\"v\"}}]}]", i, i);
        struct mr_subscription_config *s = fixture_add(f, i % 5 == 0 ? "[]" : json);
        if (i % 10 == 0) {
            fixture_sources(s, 2, (const uint32_t[]){0, 2});
        }
    }
    int64_t live = mr_alloc_live();
    unsigned n = 1;
    for (;; n++) {
        struct mr_problem problem = {""};
        uint32_t refused = UINT32_MAX;
        mr_alloc_fail_at(n, 0);
        enum mr_status r = mr_router_create(&f->config, &f->router, &refused, &problem);
        mr_alloc_fail_at(0, 0);
        if (r == MR_OK) {
            break;
        }
        assert_int_equal(r, MR_E_NOMEM);
        assert_null(f->router);
        assert_int_equal(refused, UINT32_MAX);
        assert_int_equal(mr_alloc_live(), live);
    }
    assert_true(n > 60);
    struct mr_event *event = EVENT("type", "t7");
    assert_string_equal(fixture_result(f, 1, event), "5,7,15,25,35");
    mr_event_unref(event);
    fixture_destroy(f);
    assert_int_equal(mr_alloc_live(), live - 40 - 4 - 3);
}

static void test_router_match_lane_equals_router_lane(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(0);
    static const struct {
        int order;
        const char *key;
    } orders[] = {{MR_ORDER_NONE, NULL},
                  {MR_ORDER_ATTRIBUTE, "source"},
                  {MR_ORDER_ATTRIBUTE, "nosuch"},
                  {MR_ORDER_DATA, "a"},
                  {MR_ORDER_DATA, "z"}};
    for (size_t i = 0; i < MR_ARRAY_COUNT(orders); i++) {
        struct mr_subscription_config *s = fixture_add(f, "[]");
        s->order = orders[i].order;
        s->order_key = mr_strdup(orders[i].key);
    }
    fixture_start(f);
    struct mr_event *event =
        make_data_event("application/json", MR_BYTES_LITERAL("{\"a\": \"x\"}"));
    fixture_match(f, 0, event);
    assert_int_equal(f->matches.count, MR_ARRAY_COUNT(orders));
    for (uint32_t i = 0; i < f->matches.count; i++) {
        assert_int_equal(f->matches.items[i].lane,
                         mr_router_lane(f->router, i, mr_event_record(event)));
        assert_int_equal(f->matches.items[i].lane != 0, i == 1 || i == 3);
    }
    mr_event_unref(event);
    fixture_destroy(f);
}

static void test_router_level_is_of_the_value_else_the_default(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(0);
    struct mr_priority_config *priority =
        mr_calloc(1, sizeof(*priority) + 2 * sizeof(priority->values[0]));
    priority->by = MR_ORDER_DATA;
    priority->key = mr_strdup("severity");
    priority->level = 3;
    priority->value_count = 2;
    priority->values[0] = (struct mr_priority_value){.hash = mr_hash("critical", 8), .level = 9};
    priority->values[1] = (struct mr_priority_value){.hash = mr_hash("7", 1), .level = 5};
    fixture_add(f, "[]")->priority = priority;
    (void)fixture_add(f, "[]"); /* without priorities */
    fixture_start(f);
    static const struct {
        const char *data;
        uint8_t level;
    } cases[] = {{"{\"severity\": \"critical\"}", 9}, {"{\"severity\": 7}", 5},
                 {"{\"severity\": \"other\"}", 3},    {"{\"severity\": null}", 3},
                 {"{}", 3},                            {"not JSON", 3}};
    for (size_t i = 0; i < MR_ARRAY_COUNT(cases); i++) {
        struct mr_event *event = make_data_event("application/json", mr_bytes_of(cases[i].data));
        fixture_match(f, 0, event);
        assert_int_equal(f->matches.count, 2);
        assert_int_equal(f->matches.items[0].level, cases[i].level);
        assert_int_equal(mr_router_level(f->router, 0, mr_event_record(event)), cases[i].level);
        assert_int_equal(f->matches.items[1].level, 0);
        mr_event_unref(event);
    }
    fixture_destroy(f);
    mr_free(priority->key);
    mr_free(priority);
}

/* --- threads ------------------------------------------------------------------------------- */

struct matcher {
    const struct mr_router *router;
    const struct mr_event *event;
    uint32_t expected;
    bool wrong;
};

static void *match_often(void *context)
{
    struct matcher *m = context;
    struct mr_matches matches = {0};
    for (unsigned i = 0; i < 2000; i++) {
        if (mr_router_match(m->router, 0, mr_event_record(m->event), &matches) != MR_OK ||
            matches.count != 2 || matches.items[0].subscription != m->expected) {
            m->wrong = true;
        }
    }
    mr_matches_release(&matches);
    return NULL;
}

static void test_router_match_from_many_threads_agrees(void **state)
{
    (void)state;
    enum { THREADS = 4 };
    struct fixture *f = fixture_create(0);
    struct matcher matchers[THREADS];
    pthread_t threads[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        char json[64];
        snprintf(json, sizeof(json), "[{\"exact\":{\"type\":\"t%u\"}}]", i);
        fixture_add(f, json);
    }
    fixture_add(f, "[]");
    fixture_start(f);
    for (unsigned i = 0; i < THREADS; i++) {
        char type[8];
        snprintf(type, sizeof(type), "t%u", i);
        matchers[i] = (struct matcher){f->router, EVENT("type", type), i, false};
    }
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, match_often, &matchers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_false(matchers[i].wrong);
        mr_event_unref((struct mr_event *)(uintptr_t)matchers[i].event);
    }
    fixture_destroy(f);
}

static void test_matches_release_twice_is_harmless(void **state)
{
    (void)state;
    struct mr_matches matches = {0};
    mr_matches_release(&matches);
    mr_matches_release(&matches);
    mr_matches_release(NULL);
    assert_null(matches.items);
}

/* --- defaults and failures ----------------------------------------------------------------- */

static void test_router_match_defaults_take_the_rest(void **state)
{
    (void)state;
    static const uint32_t second[] = {1};
    struct fixture *f = fixture_create(2);
    fixture_add(f, "[{\"exact\":{\"type\":\"a\"}}]");
    fixture_add(f, "[]")->is_default = true;
    fixture_add(f, "[{\"prefix\":{\"subject\":\"eu/\"}}]")->is_default = true;
    struct mr_subscription_config *by_source = fixture_add(f, "[]");
    by_source->is_default = true;
    fixture_sources(by_source, 1, second);
    fixture_start(f);
    struct mr_event *taken = EVENT("type", "a", "subject", "eu/1");
    struct mr_event *rest = EVENT("type", "b");
    struct mr_event *eu = EVENT("type", "b", "subject", "eu/1");
    assert_string_equal(fixture_result(f, 1, taken), "0");
    assert_string_equal(fixture_result(f, 0, rest), "1");
    assert_string_equal(fixture_result(f, 0, eu), "1,2");
    assert_string_equal(fixture_result(f, 1, eu), "1,2,3");
    mr_event_unref(taken);
    mr_event_unref(rest);
    mr_event_unref(eu);
    fixture_destroy(f);
}

static void test_router_match_tells_what_cancels(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(1);
    fixture_add(f, "[{\"exact\":{\"type\":\"a\"}}]")->cancel_on = mr_strdup(
        "[{\"any\":[{\"exact\":{\"type\":\"b\"}},{\"exact\":{\"subject\":\"end\"}}]}]");
    fixture_add(f, "[]")->is_default = true;
    fixture_start(f);
    struct mr_event *plain = EVENT("type", "a");
    struct mr_event *both = EVENT("type", "a", "subject", "end");
    struct mr_event *only = EVENT("type", "b", "subject", "end");
    assert_string_equal(fixture_result(f, 0, plain), "0");
    assert_false(f->matches.items[0].cancels);
    assert_string_equal(fixture_result(f, 0, both), "0");
    assert_true(f->matches.items[0].cancels);
    assert_false(f->matches.items[0].only_cancels);
    /* Found by both branches; and nobody takes it, so the default does. */
    assert_string_equal(fixture_result(f, 0, only), "0,1");
    assert_true(f->matches.items[0].cancels && f->matches.items[0].only_cancels);
    assert_false(f->matches.items[1].cancels);
    mr_event_unref(plain);
    mr_event_unref(both);
    mr_event_unref(only);
    fixture_destroy(f);
}

static void test_router_match_failures_are_counted(void **state)
{
    (void)state;
    static const uint32_t second[] = {1};
    struct fixture *f = fixture_create(2);
    fixture_add(f, "[{\"sql\":\"n > 5\"}]");
    fixture_add(f, "[{\"not\":{\"sql\":\"n > 5\"}}]");
    fixture_sources(fixture_add(f, "[{\"sql\":\"n > 5\"}]"), 1, second);
    fixture_start(f);
    struct mr_event *good = EVENT("n", "6");
    struct mr_event *bad = EVENT("n", "six");
    assert_string_equal(fixture_result(f, 0, good), "0");
    assert_int_equal(mr_router_failures(f->router, 0), 0);
    assert_string_equal(fixture_result(f, 0, bad), "1");
    assert_int_equal(mr_router_failures(f->router, 0), 1);
    assert_int_equal(mr_router_failures(f->router, 1), 1);
    assert_int_equal(mr_router_failures(f->router, 2), 0);
    mr_router_add_failures(f->router, 2, 7);
    assert_int_equal(mr_router_failures(f->router, 2), 7);
    mr_event_unref(good);
    mr_event_unref(bad);
    fixture_destroy(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_router_create_empty_configuration_matches_nothing),
        cmocka_unit_test(test_router_match_empty_filter_takes_everything),
        cmocka_unit_test(test_router_match_missing_filter_takes_everything),
        cmocka_unit_test(test_router_match_sources_are_a_condition),
        cmocka_unit_test(test_router_match_hidden_subscriptions_never_match),
        cmocka_unit_test(test_router_match_result_is_ascending_over_all_ways_in),
        cmocka_unit_test(test_router_match_steady_state_allocates_nothing),
        cmocka_unit_test(test_router_match_out_of_memory_leaves_no_match),
        cmocka_unit_test(test_router_create_bad_filter_names_the_subscription),
        cmocka_unit_test(test_router_create_later_dialect_is_unsupported),
        cmocka_unit_test(test_router_create_bad_order_attribute_is_refused),
        cmocka_unit_test(test_router_create_empty_order_path_is_refused),
        cmocka_unit_test(test_router_create_nth_allocation_fails_cleanly),
        cmocka_unit_test(test_router_match_lane_equals_router_lane),
        cmocka_unit_test(test_router_level_is_of_the_value_else_the_default),
        cmocka_unit_test(test_router_match_from_many_threads_agrees),
        cmocka_unit_test(test_matches_release_twice_is_harmless),
        cmocka_unit_test(test_router_match_defaults_take_the_rest),
        cmocka_unit_test(test_router_match_tells_what_cancels),
        cmocka_unit_test(test_router_match_failures_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
