#include "tests/support/test.h"

#include <cjson/cJSON.h>

#include "connectors/http/handshake.h"
#include "core/clock.h"

enum { ORIGINS_MAX = 8 };

static struct mr_field field(const char *name, const char *value)
{
    return (struct mr_field){mr_bytes_of(name), mr_bytes_of(value)};
}

static const struct mr_field *find(const struct mr_http_consent *c, const char *name)
{
    for (uint32_t i = 0; i < c->header_count; i++) {
        if (mr_bytes_equal_nocase(c->headers[i].name, mr_bytes_of(name))) {
            return &c->headers[i];
        }
    }
    return NULL;
}

static bool has(const struct mr_http_consent *c, const char *name, const char *value)
{
    const struct mr_field *found = find(c, name);
    return found != NULL && mr_bytes_equal(found->value, mr_bytes_of(value));
}

/* --- the vectors ------------------------------------------------------------------------------ */

static uint32_t read_fields(const cJSON *object, struct mr_field *fields)
{
    uint32_t count = 0;
    for (const cJSON *item = object == NULL ? NULL : object->child; item != NULL;
         item = item->next) {
        fields[count++] = field(item->string, cJSON_GetStringValue(item));
    }
    return count;
}

static void check_receiver(const cJSON *in, const cJSON *expect)
{
    const cJSON *config = cJSON_GetObjectItem(in, "config");
    const cJSON *rate = cJSON_GetObjectItem(config, "allowed_rate");
    char *origins[ORIGINS_MAX];
    struct mr_http_handshake_options options = {
        .origins = {.items = origins}, .rate = rate == NULL ? 0 : (int64_t)rate->valuedouble};
    const cJSON *origin;
    cJSON_ArrayForEach(origin, cJSON_GetObjectItem(config, "allow_origins"))
    {
        origins[options.origins.count++] = origin->valuestring;
    }
    struct mr_field fields[8];
    uint32_t count = read_fields(cJSON_GetObjectItem(in, "request"), fields);
    struct mr_http_consent consent;
    mr_http_handshake_answer(&options, fields, count, &consent);
    const cJSON *status = cJSON_GetObjectItem(expect, "status");
    if (status != NULL) {
        assert_int_equal(consent.status, status->valueint);
    }
    const cJSON *wanted;
    cJSON_ArrayForEach(wanted, cJSON_GetObjectItem(expect, "headers"))
    {
        char name[64];
        snprintf(name, sizeof(name), "%s", wanted->string);
        char *contains = strchr(name, '~');
        if (contains != NULL) {
            *contains = '\0';
            assert_non_null(find(&consent, name));
            assert_non_null(strstr((const char *)find(&consent, name)->value.data,
                                   wanted->valuestring));
        } else {
            assert_true(has(&consent, name, wanted->valuestring));
        }
    }
    cJSON_ArrayForEach(wanted, cJSON_GetObjectItem(expect, "headers_absent"))
    {
        assert_null(find(&consent, wanted->valuestring));
    }
}

static void check_sender(const cJSON *in, const cJSON *expect)
{
    const cJSON *origin = cJSON_GetObjectItem(in, "origin");
    const cJSON *response = cJSON_GetObjectItem(in, "response");
    struct mr_field fields[8];
    uint32_t count = read_fields(cJSON_GetObjectItem(response, "headers"), fields);
    uint64_t rate = 0;
    bool granted = mr_http_handshake_granted(
        mr_bytes_of(origin == NULL ? "eventemitter.example.com" : origin->valuestring), fields,
        count, &rate);
    assert_int_equal(granted, cJSON_IsTrue(cJSON_GetObjectItem(expect, "permission")));
}

static void test_published_vectors(void **state)
{
    (void)state;
    static char text[64 * 1024];
    FILE *file = fopen(MR_SHARED_DIR "/conformance/vectors/webhook-options.json", "r");
    if (file == NULL) {
        print_message("SKIPPED: the conformance data is not here\n");
        skip();
    }
    size_t size = fread(text, 1, sizeof(text), file);
    fclose(file);
    cJSON *json = cJSON_ParseWithLength(text, size);
    assert_true(cJSON_GetArraySize(json) > 0);
    const cJSON *entry;
    cJSON_ArrayForEach(entry, json)
    {
        const cJSON *in = cJSON_GetObjectItem(entry, "in");
        const cJSON *expect = cJSON_GetObjectItem(entry, "expect");
        print_message("%s\n", cJSON_GetObjectItem(entry, "name")->valuestring);
        if (cJSON_IsTrue(cJSON_GetObjectItem(in, "sender"))) {
            check_sender(in, expect);
        } else {
            check_receiver(in, expect);
        }
    }
    cJSON_Delete(json);
}

/* --- receiver --------------------------------------------------------------------------------- */

static void test_origin_is_compared_whole(void **state)
{
    (void)state;
    char *origins[] = {(char[]){"good.example"}, (char[]){"Other.Example"}};
    const struct mr_http_handshake_options options = {.origins = {origins, 2}};
    assert_int_equal(mr_http_handshake_origin(&options, MR_BYTES_LITERAL("good.example")), 0);
    assert_int_equal(mr_http_handshake_origin(&options, MR_BYTES_LITERAL("GOOD.example")), 0);
    assert_int_equal(mr_http_handshake_origin(&options, MR_BYTES_LITERAL("other.example")), 1);
    static const char *const others[] = {"good.example.evil.net", "evil.good.example", 
                                         "good.exampl", "", "*", "good.example ", "good.example,evil"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(others); i++) {
        assert_int_equal(mr_http_handshake_origin(&options, mr_bytes_of(others[i])), -1);
    }
}

static void test_wildcard_and_no_rate(void **state)
{
    (void)state;
    char *origins[] = {(char[]){"*"}};
    const struct mr_http_handshake_options options = {.origins = {origins, 1}};
    const struct mr_field fields[] = {field("webhook-request-origin", "a.example")};
    struct mr_http_consent consent;
    mr_http_handshake_answer(&options, fields, 1, &consent);
    assert_int_equal(consent.status, 200);
    assert_true(has(&consent, "WebHook-Allowed-Origin", "*"));
    assert_true(has(&consent, "WebHook-Allowed-Rate", "*"));
    assert_int_equal(consent.callback.size, 0);
}

static void test_callback_only_to_the_origin_itself(void **state)
{
    (void)state;
    static const struct {
        const char *url;
        bool called;
    } rows[] = {
        {"https://a.example/confirm?id=1", true},
        {"https://rp.east.a.example:553/eventsubscriptions/x/validate?id=2", true},
        {"HTTPS://A.EXAMPLE", true},
        {"http://a.example/", false},
        {"https://evil.example/?a.example", false},
        {"https://evila.example/", false},
        {"https://a.example.evil.net/", false},
        {"https://a.example@evil.net/", false},
        {"https://a.example:1@evil.net/", false},
        {"https://evil.net/a.example", false},
        {"https://evil.net#.a.example", false},
        {"https://evil.net\\.a.example", false},
        {"https://169.254.169.254/", false},
        {"https://", false},
        {"", false},
    };
    char *origins[] = {(char[]){"a.example"}};
    const struct mr_http_handshake_options options = {
        .origins = {origins, 1}, .rate = 60, .grant = MR_HTTP_GRANT_CALLBACK};
    for (size_t i = 0; i < MR_ARRAY_COUNT(rows); i++) {
        const struct mr_field fields[] = {field("WebHook-Request-Origin", "a.example"),
                                          field("WebHook-Request-Callback", rows[i].url)};
        struct mr_http_consent consent;
        mr_http_handshake_answer(&options, fields, 2, &consent);
        assert_null(find(&consent, "WebHook-Allowed-Origin")); /* withheld */
        if ((consent.callback.size > 0) != rows[i].called ||
            consent.is_refused == rows[i].called) {
            fail_msg("%s", rows[i].url);
        }
    }
}

static void test_check_options(void **state)
{
    (void)state;
    struct mr_problem problem = {""};
    char *good[] = {(char[]){"a.example"}, (char[]){"*"}};
    char *bad[] = {(char[]){"https://a.example"}};
    struct mr_http_handshake_options options = {0};
    assert_int_equal(mr_http_handshake_check(&options, &problem), MR_OK);
    options.rate = 5;
    assert_int_equal(mr_http_handshake_check(&options, &problem), MR_E_INVALID);
    options.origins = (struct mr_strings){good, 2};
    assert_int_equal(mr_http_handshake_check(&options, &problem), MR_OK);
    options.grant = MR_HTTP_GRANT_CALLBACK; /* to anybody: no */
    assert_int_equal(mr_http_handshake_check(&options, &problem), MR_E_INVALID);
    options.origins = (struct mr_strings){bad, 1};
    assert_int_equal(mr_http_handshake_check(&options, &problem), MR_E_INVALID);
}

/* --- sender ----------------------------------------------------------------------------------- */

static void test_granted_forms(void **state)
{
    (void)state;
    static const struct {
        const char *origin;
        const char *rate;
        bool granted;
        uint64_t per_minute;
    } rows[] = {
        {"me.example", "120", true, 120}, {"ME.example", "*", true, 0},
        {"*", NULL, true, 0},             {" * ", " 7 ", true, 7},
        {"", "100", false, 0},            {"you.example", "100", false, 0},
        {"me.example.evil", "1", false, 0}, {"*", "much", true, 1},
        {"*", "0", true, 1},              {"*", "-5", true, 1},
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(rows); i++) {
        const struct mr_field fields[] = {field("Webhook-Allowed-Origin", rows[i].origin),
                                          field("webhook-allowed-rate", rows[i].rate)};
        uint64_t rate = 99;
        bool granted = mr_http_handshake_granted(MR_BYTES_LITERAL("me.example"), fields,
                                                 rows[i].rate == NULL ? 1 : 2, &rate);
        assert_int_equal(granted, rows[i].granted);
        assert_int_equal(rate, granted ? rows[i].per_minute : 99);
    }
}

static void test_pace_keeps_to_the_rate(void **state)
{
    (void)state;
    static const uint64_t rates[] = {1, 7, 60, 600, 100000};
    for (size_t i = 0; i < MR_ARRAY_COUNT(rates); i++) {
        struct mr_http_pace pace = {.rate = rates[i]};
        uint64_t now_ns = 1000 * MR_SECOND;
        uint64_t end_ns = now_ns + 600 * MR_SECOND;
        uint64_t taken = 0;
        while (now_ns < end_ns) {
            uint64_t wait_ns = mr_http_pace_take(&pace, now_ns);
            taken += wait_ns == 0;
            assert_true(wait_ns <= 60 * MR_SECOND);
            now_ns += wait_ns;
        }
        assert_in_range(taken, rates[i] * 10, rates[i] * 10 + rates[i] / 10 + 1);
    }
    struct mr_http_pace any = {0};
    assert_int_equal(mr_http_pace_take(&any, 5), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published_vectors),
        cmocka_unit_test(test_origin_is_compared_whole),
        cmocka_unit_test(test_wildcard_and_no_rate),
        cmocka_unit_test(test_callback_only_to_the_origin_itself),
        cmocka_unit_test(test_check_options),
        cmocka_unit_test(test_granted_forms),
        cmocka_unit_test(test_pace_keeps_to_the_rate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
