/* Documents of the CloudEvents Subscriptions API: what is taken, and what becomes of it. */
#include "tests/support/test.h"

#include "admin/ce_subscription.h"
#include "core/alloc.h"

#define SINK "\"sink\":\"https://a.example/x\",\"protocol\":\"HTTP\""

static void check_refused(const char *json, enum mr_status status, const char *text)
{
    cJSON *object = NULL;
    struct mr_problem problem = {.text = ""};
    assert_int_equal(
        mr_ce_subscription_read(mr_bytes_of(json), "api-1", false, &object, &problem), status);
    assert_null(object);
    if (strstr(problem.text, text) == NULL) {
        fail_msg("%s: \"%s\" lacks \"%s\"", json, problem.text, text);
    }
}

static void test_read_wrong_is_refused_by_member(void **state)
{
    (void)state;
    check_refused("", MR_E_INVALID, "JSON object");
    check_refused("{" SINK "} x", MR_E_INVALID, "JSON object");
    check_refused("{\"protocol\":\"HTTP\"}", MR_E_INVALID, "sink");
    check_refused("{" SINK ",\"id\":\"api-2\"}", MR_E_INVALID, "id");
    check_refused("{" SINK ",\"id\":7}", MR_E_INVALID, "id");
    check_refused("{" SINK ",\"Sink\":\"x\"}", MR_E_INVALID, "`Sink`");
    check_refused("{" SINK ",\"source\":\"\\u0024{env:HOME}\"}", MR_E_INVALID, "reference");
    check_refused("{" SINK ",\"types\":[null]}", MR_E_INVALID, "types");
    check_refused("{" SINK ",\"sinkcredential\":null}", MR_E_INVALID, "sinkcredential");
}

static void test_read_too_large_is_refused(void **state)
{
    (void)state;
    struct mr_buf json;
    mr_buf_init(&json, MR_MIB);
    assert_int_equal(mr_buf_append_text(&json, "{" SINK ",\"source\":\""), MR_OK);
    while (json.size <= MR_CE_SUBSCRIPTION_SIZE_MAX) {
        assert_int_equal(mr_buf_append_byte(&json, 'x'), MR_OK);
    }
    assert_int_equal(mr_buf_append_text(&json, "\"}"), MR_OK);
    char *text = mr_buf_take_text(&json);
    check_refused(text, MR_E_TOO_BIG, "65536");
    mr_free(text);
    mr_buf_release(&json);
}

static void test_read_arranges_and_keeps_every_member(void **state)
{
    (void)state;
    static const char json[] =
        "{\"protocol\":\"HTTP\",\"filters\":[{\"sql\":\"id = '1'\"}],\"sink\":\"http://a/\","
        "\"id\":\"theirs\",\"config\":{},\"types\":[],\"source\":\"/s\","
        "\"protocolsettings\":{\"method\":\"POST\",\"headers\":{\"X-A\":\"1\"}}}";
    cJSON *object = NULL;
    struct mr_problem problem = {.text = ""};
    assert_int_equal(
        mr_ce_subscription_read(mr_bytes_of(json), "api-1", true, &object, &problem), MR_OK);
    char *text = cJSON_PrintUnformatted(object);
    assert_string_equal(
        text, "{\"id\":\"api-1\",\"source\":\"/s\",\"types\":[],\"config\":{},"
              "\"filters\":[{\"sql\":\"id = '1'\"}],\"sink\":\"http://a/\",\"protocol\":\"HTTP\","
              "\"protocolsettings\":{\"method\":\"POST\",\"headers\":{\"X-A\":\"1\"}}}");
    cJSON_free(text);
    cJSON_Delete(object);
}

static void check_overlay(const char *document, bool egress_any, const char *wanted)
{
    struct mr_buf out;
    mr_buf_init(&out, MR_MIB);
    enum mr_status r = mr_ce_subscriptions_overlay(mr_bytes_of(document), egress_any, &out);
    if (wanted == NULL) {
        assert_int_equal(r, MR_E_INVALID);
    } else {
        assert_int_equal(r, MR_OK);
        char *text = mr_buf_take_text(&out);
        assert_string_equal(text == NULL ? "" : text, wanted);
        mr_free(text);
    }
    mr_buf_release(&out);
}

static void test_overlay_is_sinks_and_subscriptions(void **state)
{
    (void)state;
    check_overlay("", false, "");
    check_overlay("{\"subscriptions\":[]}", false, "{\"sinks\":{},\"subscriptions\":{}}");
    check_overlay("{\"subscriptions\":[{\"id\":\"a\",\"sink\":\"http://x/\",\"types\":[]}]}", false,
                  "{\"sinks\":{\"a\":{\"http\":{\"url\":\"http://x/\",\"egress\":\"public\"}}},"
                  "\"subscriptions\":{\"a\":{\"to\":\"a\",\"filter\":[]}}}");
    check_overlay("{\"subscriptions\":[{\"id\":\"a\",\"sink\":\"http://x/\",\"source\":\"/s\","
                  "\"types\":[\"t\",\"u\"],\"filters\":[{\"not\":{\"exact\":{\"id\":\"1\"}}}],"
                  "\"protocolsettings\":{\"headers\":{\"X\":\"1\"}}}]}",
                  true,
                  "{\"sinks\":{\"a\":{\"http\":{\"url\":\"http://x/\",\"egress\":\"any\","
                  "\"headers\":{\"X\":\"1\"}}}},\"subscriptions\":{\"a\":{\"to\":\"a\","
                  "\"filter\":[{\"exact\":{\"source\":\"/s\"}},{\"any\":[{\"exact\":{\"type\":"
                  "\"t\"}},{\"exact\":{\"type\":\"u\"}}]},{\"not\":{\"exact\":{\"id\":\"1\"}}}]}}}");
    check_overlay("[]", false, NULL);
    check_overlay("{\"subscriptions\":[{\"id\":\"a\"}]}", false, NULL);
}

static void test_ids_differ_and_are_names(void **state)
{
    (void)state;
    char a[MR_CE_SUBSCRIPTION_ID_SIZE];
    char b[MR_CE_SUBSCRIPTION_ID_SIZE];
    mr_ce_subscription_id(a);
    mr_ce_subscription_id(b);
    assert_string_not_equal(a, b);
    assert_int_equal(strspn(a, "api-0123456789abcdef"), strlen(a));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read_wrong_is_refused_by_member),
        cmocka_unit_test(test_read_too_large_is_refused),
        cmocka_unit_test(test_read_arranges_and_keeps_every_member),
        cmocka_unit_test(test_overlay_is_sinks_and_subscriptions),
        cmocka_unit_test(test_ids_differ_and_are_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
