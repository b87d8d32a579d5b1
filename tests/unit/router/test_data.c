/* Filters on data: what is found where, numbers to the last digit, addresses, and memory. */
#include "fixture.h"

static struct mr_event *data_event(const char *data)
{
    return make_data_event("application/json", mr_bytes_of(data));
}

/* Whether one operator of `data`, given as JSON, holds for the JSON text @p data. */
static bool holds(const char *operator, const char *data)
{
    char json[1024];
    (void)snprintf(json, sizeof(json), "[{\"data\":%s}]", operator);
    struct mr_filter *filter = NULL;
    struct mr_problem problem = {""};
    if (mr_filter_create(mr_bytes_of(json), &filter, &problem) != MR_OK) {
        fail_msg("%s: %s", json, problem.text);
    }
    struct mr_event *event = data_event(data);
    bool result = mr_filter_test(filter, mr_event_record(event));
    mr_event_unref(event);
    mr_filter_destroy(filter);
    return result;
}

struct check {
    const char *operator;
    const char *data;
    bool holds;
};

static void check_all(const struct check *checks, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (holds(checks[i].operator, checks[i].data) != checks[i].holds) {
            fail_msg("%s of %s is not %d", checks[i].operator, checks[i].data, checks[i].holds);
        }
    }
}

static void test_data_paths_lead_where_they_say(void **state)
{
    (void)state;
    static const struct check checks[] = {
        {"{\"exact\":{\"a\":\"1\"}}", "{\"a\":\"1\"}", true},
        {"{\"exact\":{\"a\":\"1\"}}", "{\"a\":1}", true},
        {"{\"exact\":{\"a\":\"1\"}}", " { \"b\" : [1, {\"a\":\"1\"}] , \"a\" : 1 } ", true},
        {"{\"exact\":{\"a\":\"1\"}}", "{\"b\":{\"a\":1}}", false},
        {"{\"exact\":{\"a\":\"1\"}}", "{\"a\":1.0}", false},
        {"{\"exact\":{\"a\":\"true\"}}", "{\"a\":true}", true},
        {"{\"exact\":{\"a\":\"\"}}", "{\"a\":\"\"}", true},
        {"{\"exact\":{\"a\":\"\"}}", "{\"a\":null}", false},
        {"{\"exact\":{\"a.b.c\":\"x\"}}", "{\"a\":{\"b\":{\"c\":\"x\"}}}", true},
        {"{\"exact\":{\"a.1\":\"x\"}}", "{\"a\":[0,\"x\"]}", true},
        {"{\"exact\":{\"a.1\":\"x\"}}", "{\"a\":{\"1\":\"x\"}}", true},
        {"{\"exact\":{\"a.01\":\"x\"}}", "{\"a\":[0,\"x\"]}", false},
        {"{\"exact\":{\"1.a\":\"x\"}}", "[0,{\"a\":\"x\"}]", true},
        {"{\"exact\":{\"a\":\"x\"}}", "{\"a\":\"y\",\"a\":\"x\"}", false},
        {"{\"exact\":{\"a.b\":\"x\"}}", "{\"a\":{\"c\":1},\"a\":{\"b\":\"x\"}}", false},
        {"{\"exact\":{\"ä\":\"ö\"}}", "{\"\\u00e4\":\"\\u00F6\"}", true},
        {"{\"exact\":{\"a\":\"\xf0\x9f\x98\x80\\n\"}}", "{\"a\":\"\\ud83d\\ude00\\n\"}", true},
        {"{\"suffix\":{\"a\":\"/b\"}}", "{\"a\":\"\\/b\"}", true},
        {"{\"prefix\":{\"a\":\"12\"}}", "{\"a\":123}", true},
        {"{\"exact\":{\"a\":\"1\",\"b\":\"2\"}}", "{\"b\":2,\"a\":1}", true},
        {"{\"exact\":{\"a\":\"1\",\"a.b\":\"2\"}}", "{\"a\":{\"b\":2}}", false},
        {"{\"exists\":{\"a\":true}}", "{\"a\":null}", true},
        {"{\"exists\":{\"a.b\":true}}", "{\"a\":[]}", false},
        {"{\"exists\":{\"a\":true}}", "7", false},
        {"{\"exists\":{\"a\":false}}", "[]", true},
        {"{\"in\":{\"a\":[\"x\",7,true]}}", "{\"a\":7}", true},
        {"{\"in\":{\"a\":[\"x\",7,true]}}", "{\"a\":\"true\"}", true},
        {"{\"in\":{\"a\":[\"x\",7,true]}}", "{\"a\":8}", false},
        {"{\"not\":{\"in\":{\"a\":[\"x\"]}}}", "{}", true},
        {"{\"all\":[{\"exists\":{\"a\":true}},{\"any\":[{\"exact\":{\"b\":1}},{\"exact\":{\"c\":1}}]}]}",
         "{\"a\":0,\"c\":1}", true},
    };
    check_all(checks, MR_ARRAY_COUNT(checks));
}

static void test_data_numbers_keep_every_digit(void **state)
{
    (void)state;
    static const struct check checks[] = {
        {"{\"exact\":{\"n\":\"12345678901234567890\"}}", "{\"n\":12345678901234567890}", true},
        {"{\"exact\":{\"n\":\"12345678901234567890\"}}", "{\"n\":12345678901234567891}", false},
        {"{\"range\":{\"n\":{\"gt\":\"12345678901234567890\"}}}", "{\"n\":12345678901234567891}", true},
        {"{\"range\":{\"n\":{\"lt\":\"0.30000000000000000001\"}}}", "{\"n\":0.3}", true},
        {"{\"range\":{\"n\":{\"gte\":7,\"lte\":7}}}", "{\"n\":7.0}", true},
        {"{\"range\":{\"n\":{\"gte\":7,\"lte\":7}}}", "{\"n\":0.7e1}", true},
        {"{\"range\":{\"n\":{\"gte\":7,\"lte\":7}}}", "{\"n\":\"70E-1\"}", true},
        {"{\"range\":{\"n\":{\"gt\":\"1e400\"}}}", "{\"n\":1e401}", true},
        {"{\"range\":{\"n\":{\"gt\":\"1e400\"}}}", "{\"n\":9e399}", false},
        {"{\"range\":{\"n\":{\"lt\":0}}}", "{\"n\":-1e-400}", true},
        {"{\"range\":{\"n\":{\"gte\":0}}}", "{\"n\":-0.0}", true},
        {"{\"range\":{\"n\":{\"gt\":-5}}}", "{\"n\":-4.99}", true},
        {"{\"range\":{\"n\":{\"gt\":-5}}}", "{\"n\":-5.01}", false},
        {"{\"range\":{\"n\":{\"lt\":10}}}", "{\"n\":9.9999999999999999999999}", true},
        {"{\"range\":{\"n\":{\"gt\":0.05,\"lt\":0.5}}}", "{\"n\":0.06}", true},
        {"{\"range\":{\"n\":{\"gt\":0}}}", "{\"n\":\"x\"}", false},
        {"{\"range\":{\"n\":{\"gt\":0}}}", "{\"n\":\"\"}", false},
        {"{\"range\":{\"n\":{\"gt\":0}}}", "{\"n\":\"1.\"}", false},
        {"{\"range\":{\"n\":{\"gt\":0}}}", "{\"n\":\"1e\"}", false},
        {"{\"range\":{\"n\":{\"gt\":0}}}", "{\"n\":true}", false},
        {"{\"range\":{\"n\":{\"gt\":0}}}", "{}", false},
    };
    check_all(checks, MR_ARRAY_COUNT(checks));
}

static void test_data_cidr_knows_both_families(void **state)
{
    (void)state;
    static const struct check checks[] = {
        {"{\"cidr\":{\"a\":\"10.0.0.0/8\"}}", "{\"a\":\"10.255.255.255\"}", true},
        {"{\"cidr\":{\"a\":\"10.0.0.0/8\"}}", "{\"a\":\"11.0.0.0\"}", false},
        {"{\"cidr\":{\"a\":\"10.1.2.3\"}}", "{\"a\":\"10.1.2.3\"}", true},
        {"{\"cidr\":{\"a\":\"192.168.0.0/23\"}}", "{\"a\":\"192.168.1.9\"}", true},
        {"{\"cidr\":{\"a\":\"192.168.0.0/23\"}}", "{\"a\":\"192.168.2.0\"}", false},
        {"{\"cidr\":{\"a\":\"0.0.0.0/0\"}}", "{\"a\":\"1.2.3.4\"}", true},
        {"{\"cidr\":{\"a\":\"0.0.0.0/0\"}}", "{\"a\":\"::1\"}", false},
        {"{\"cidr\":{\"a\":\"::/0\"}}", "{\"a\":\"1.2.3.4\"}", false},
        {"{\"cidr\":{\"a\":\"::/0\"}}", "{\"a\":\"fe80::1\"}", true},
        {"{\"cidr\":{\"a\":\"10.0.0.0/8\"}}", "{\"a\":\"::ffff:10.0.0.1\"}", true},
        {"{\"cidr\":{\"a\":\"2001:db8::/33\"}}", "{\"a\":\"2001:DB8:7fff::1\"}", true},
        {"{\"cidr\":{\"a\":\"2001:db8::/33\"}}", "{\"a\":\"2001:db8:8000::1\"}", false},
        {"{\"cidr\":{\"a\":\"1:2:3:4:5:6:7:8\"}}", "{\"a\":\"1:2:3:4:5:6:0.7.0.8\"}", true},
        {"{\"cidr\":{\"a\":\"::/0\"}}", "{\"a\":\"1:2:3:4:5:6:7::\"}", true},
        {"{\"cidr\":{\"a\":\"::/0\"}}", "{\"a\":\"1:2:3:4:5:6:7:8::\"}", false},
        {"{\"cidr\":{\"a\":\"::/0\"}}", "{\"a\":\"1::2::3\"}", false},
        {"{\"cidr\":{\"a\":\"::/0\"}}", "{\"a\":\"1:2:3:4:5:6:7:8:9\"}", false},
        {"{\"cidr\":{\"a\":\"::/0\"}}", "{\"a\":\"12345::\"}", false},
        {"{\"cidr\":{\"a\":\"::/0\"}}", "{\"a\":\":1\"}", false},
        {"{\"cidr\":{\"a\":\"::/0\"}}", "{\"a\":\"1:\"}", false},
        {"{\"cidr\":{\"a\":\"0.0.0.0/0\"}}", "{\"a\":\"1.2.3\"}", false},
        {"{\"cidr\":{\"a\":\"0.0.0.0/0\"}}", "{\"a\":\"1.2.3.256\"}", false},
        {"{\"cidr\":{\"a\":\"0.0.0.0/0\"}}", "{\"a\":\"01.2.3.4\"}", false},
        {"{\"cidr\":{\"a\":\"0.0.0.0/0\"}}", "{\"a\":\"1.2.3.4 \"}", false},
        {"{\"cidr\":{\"a\":\"0.0.0.0/0\"}}", "{\"a\":\"\"}", false},
    };
    check_all(checks, MR_ARRAY_COUNT(checks));
}

/* More places than fit beside the event, and escaped texts longer than that: memory is taken, and
 * when there is none the match says so. */
static void test_data_memory_may_be_short(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(0);
    struct mr_buf data;
    mr_buf_init(&data, MR_MIB);
    enum mr_status r = mr_buf_append_byte(&data, '{');
    for (unsigned i = 0; i < 60; i++) {
        char json[128];
        (void)snprintf(json, sizeof(json), "[{\"data\":{\"suffix\":{\"p%u\":\"é%u\"}}}]", i, i);
        fixture_add(f, json);
        r = r == MR_OK ? mr_buf_printf(&data, "%s\"p%u\":\"aaaaaaaaaaaaaaaaaaaa\\u00e9%u\"",
                                       i == 0 ? "" : ",", i, i) : r;
    }
    r = r == MR_OK ? mr_buf_append_byte(&data, '}') : r;
    assert_int_equal(r, MR_OK);
    fixture_start(f);
    struct mr_event *event = make_data_event("application/json", mr_buf_bytes(&data));
    fixture_match(f, 0, event);
    assert_int_equal(f->matches.count, 60);
    int64_t live = mr_alloc_live();
    uint64_t n = 1;
    for (;; n++) {
        (void)mr_alloc_fail_at(n, 0);
        r = mr_router_match(f->router, 0, mr_event_record(event), &f->matches);
        (void)mr_alloc_fail_at(0, 0);
        assert_int_equal(mr_alloc_live(), live);
        if (r == MR_OK) {
            break;
        }
        assert_int_equal(r, MR_E_NOMEM);
        assert_int_equal(f->matches.count, 0);
    }
    assert_int_equal(n, 3); /* the places, the texts */
    assert_int_equal(f->matches.count, 60);
    mr_event_unref(event);
    mr_buf_release(&data);
    fixture_destroy(f);
}

static void test_data_places_are_bounded(void **state)
{
    (void)state;
    struct mr_filter *filter = NULL;
    struct mr_problem problem = {""};
    struct mr_buf json;
    mr_buf_init(&json, MR_MIB);
    enum mr_status r = mr_buf_append_text(&json, "[{\"data\":{\"exact\":{");
    for (unsigned i = 0; i < 700 && r == MR_OK; i++) {
        r = mr_buf_printf(&json, "%s\"a%u.b\":\"x\"", i == 0 ? "" : ",", i);
    }
    r = r == MR_OK ? mr_buf_append_text(&json, "}}}]") : r;
    assert_int_equal(r, MR_OK);
    assert_int_equal(mr_filter_create(mr_buf_bytes(&json), &filter, &problem), MR_E_INVALID);
    assert_non_null(strstr(problem.text, "is one place in data too many"));
    mr_buf_release(&json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_data_paths_lead_where_they_say),
        cmocka_unit_test(test_data_numbers_keep_every_digit),
        cmocka_unit_test(test_data_cidr_knows_both_families),
        cmocka_unit_test(test_data_memory_may_be_short),
        cmocka_unit_test(test_data_places_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
