#include "tests/support/test.h"

#include "schemas/template.h"
#include "core/alloc.h"
#include "core/limits.h"
#include "schemas/json_format.h"

static struct mr_event *event_of(const char *json)
{
    struct mr_event *event = NULL;
    struct mr_problem problem = {.text = ""};
    if (mr_json_decode_event(mr_bytes_of(json), MR_EVENT_SIZE_MAX, &event, &problem) != MR_OK) {
        fail_msg("%s", problem.text);
    }
    return event;
}

static void test_is_valid_table(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool valid;
    } cases[] = {
        {"", true},
        {"plain } text {", true},
        {"{{type}}", true},
        {"{{ type }}/{{subject}}", true},
        {"{{specversion}} {{datacontenttype}}", true},
        {"{{data}}", true},
        {"{{data.order.id}}", true},
        {"{{data.items.0.sku}}", true},
        {"{{data.Größe}}", true},
        {"{{", false},
        {"}}", false},
        {"}}{{type}}", false},
        {"{{type}", false},
        {"{{Type}}", false},
        {"{{}}", false},
        {"{{ty pe}}", false},
        {"{{data.}}", false},
        {"{{data..a}}", false},
        {"{{data.a b}}", false},
        {"{{data.{{a}}}}", false},
        {"{{a{{b}}", false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (mr_template_is_valid(cases[i].text) != cases[i].valid) {
            fail_msg("\"%s\"", cases[i].text);
        }
    }
}

static void test_fill_table(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *filled;
    } cases[] = {
        {"no more", "no more"},
        {"{{type}}", "com.example.t"},
        {"<{{ id }}|{{source}}|{{subject}}|{{ext}}>", "<7|/s||x>"},
        {"{{specversion}}", "1.0"},
        {"{{data.order.id}}", "12345678901234567890"}, /* as written */
        {"{{data.order.ok}}{{data.order.none}}{{data.order.ratio}}", "true1.50"},
        {"{{data.text}}", "a\"b\n\xc3\xa4"},
        {"{{data.items.1}} {{data.items.2}}", "{\"sku\":\"B\"} "},
        {"{{data.items.0.sku}}{{data.items.x}}", "A"},
        {"{{data.items}}", "[{\"sku\":\"A\"},{\"sku\":\"B\"}]"},
        {"{{data.nothing.there}}", ""},
        {"{{data.text.deeper}}", ""},
    };
    struct mr_event *event = event_of(
        "{\"specversion\":\"1.0\",\"id\":\"7\",\"source\":\"/s\",\"type\":\"com.example.t\","
        "\"ext\":\"x\",\"data\":{\"order\":{\"id\":12345678901234567890,\"ok\":true,"
        "\"none\":null,\"ratio\":1.50},\"text\":\"a\\\"b\\n\\u00e4\","
        "\"items\":[{\"sku\":\"A\"},{\"sku\":\"B\"}]}}");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct mr_buf out;
        mr_buf_init(&out, 4096);
        assert_int_equal(mr_template_fill(cases[i].text, mr_event_record(event), &out), MR_OK);
        if (!mr_bytes_equal(mr_buf_bytes(&out), mr_bytes_of(cases[i].filled))) {
            fail_msg("%s: %.*s", cases[i].text, (int)out.size, (const char *)out.data);
        }
        mr_buf_release(&out);
    }
    mr_event_unref(event);
}

static void test_fill_data_that_is_no_json(void **state)
{
    (void)state;
    struct mr_event *event = event_of(
        "{\"specversion\":\"1.0\",\"id\":\"7\",\"source\":\"/s\",\"type\":\"t\","
        "\"datacontenttype\":\"text/plain\",\"data\":\"{\\\"a\\\":1}\"}");
    struct mr_buf out;
    mr_buf_init(&out, 4096);
    assert_int_equal(mr_template_fill("{{data}}|{{data.a}}", mr_event_record(event), &out), MR_OK);
    assert_true(mr_bytes_equal(mr_buf_bytes(&out), MR_BYTES_LITERAL("{\"a\":1}|")));
    mr_buf_release(&out);
    mr_event_unref(event);
}

static void test_fill_too_large_is_said(void **state)
{
    (void)state;
    struct mr_event *event = event_of(
        "{\"specversion\":\"1.0\",\"id\":\"7777777777\",\"source\":\"/s\",\"type\":\"t\"}");
    struct mr_buf out;
    mr_buf_init(&out, 8);
    assert_int_equal(mr_template_fill("{{id}}", mr_event_record(event), &out), MR_E_TOO_BIG);
    mr_buf_release(&out);
    mr_event_unref(event);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_is_valid_table),
        cmocka_unit_test(test_fill_table),
        cmocka_unit_test(test_fill_data_that_is_no_json),
        cmocka_unit_test(test_fill_too_large_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
