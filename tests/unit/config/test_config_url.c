/* URLs, taken apart strictly. */
#include "tests/support/test.h"

#include "config/option.h"
#include "core/problem.h"

static struct mr_url *parse(const char *text)
{
    struct mr_url *url = NULL;
    struct mr_problem problem;
    enum mr_status r = mr_parse_url(mr_bytes_of(text), &url, &problem);
    if (r != MR_OK) {
        print_error("%s: %s\n", text, problem.text);
    }
    assert_int_equal(r, MR_OK);
    return url;
}

static void check_refused(const char *text, const char *part)
{
    struct mr_url *url = NULL;
    struct mr_problem problem = {.text = ""};
    assert_int_equal(mr_parse_url(mr_bytes_of(text), &url, &problem), MR_E_INVALID);
    assert_null(url);
    if (strstr(problem.text, part) == NULL) {
        print_error("%s: wanted `%s`, got `%s`\n", text, part, problem.text);
        fail();
    }
}

static void test_parse_url_all_parts_are_taken(void **state)
{
    (void)state;
    struct mr_url *url = parse("HTTP://user:p%40ss@example.com:8080/a/b?c=d&e=%20");
    assert_string_equal(url->scheme, "http");
    assert_string_equal(url->host, "example.com");
    assert_int_equal(url->port, 8080);
    assert_string_equal(url->path, "/a/b?c=d&e=%20");
    assert_string_equal(url->user, "user");
    assert_true(mr_secret_equal(url->password, MR_BYTES_LITERAL("p@ss")));
    assert_string_equal(url->text, "http://example.com:8080/a/b?c=d&e=%20");
    mr_url_destroy(url);
}

static void test_parse_url_bare_host_has_no_other_parts(void **state)
{
    (void)state;
    struct mr_url *url = parse("mqtt://broker");
    assert_string_equal(url->host, "broker");
    assert_string_equal(url->path, "");
    assert_int_equal(url->port, 0);
    assert_null(url->user);
    assert_null(url->password);
    assert_string_equal(url->text, "mqtt://broker");
    mr_url_destroy(url);
}

static void test_parse_url_ipv6_host_loses_its_brackets(void **state)
{
    (void)state;
    struct mr_url *url = parse("http://[::1]:80/x");
    assert_string_equal(url->host, "::1");
    assert_int_equal(url->port, 80);
    assert_string_equal(url->text, "http://[::1]:80/x");
    mr_url_destroy(url);
}

static void test_parse_url_query_without_path_is_kept(void **state)
{
    (void)state;
    struct mr_url *url = parse("http://host?q=1");
    assert_string_equal(url->host, "host");
    assert_string_equal(url->path, "?q=1");
    mr_url_destroy(url);
}

static void test_parse_url_user_without_password_has_none(void **state)
{
    (void)state;
    struct mr_url *url = parse("amqp://guest@host/");
    assert_string_equal(url->user, "guest");
    assert_null(url->password);
    mr_url_destroy(url);
}

static void test_parse_url_empty_password_is_present(void **state)
{
    (void)state;
    struct mr_url *url = parse("amqp://guest:@host/");
    assert_non_null(url->password);
    assert_int_equal(mr_secret_use(url->password).size, 0);
    mr_url_destroy(url);
}

static void test_parse_url_colons_in_password_belong_to_it(void **state)
{
    (void)state;
    struct mr_url *url = parse("amqp://guest:a:b@host:1/");
    assert_true(mr_secret_equal(url->password, MR_BYTES_LITERAL("a:b")));
    assert_int_equal(url->port, 1);
    mr_url_destroy(url);
}

static void test_parse_url_at_sign_in_path_is_no_user(void **state)
{
    (void)state;
    struct mr_url *url = parse("http://host/a@b:c");
    assert_string_equal(url->host, "host");
    assert_null(url->user);
    mr_url_destroy(url);
}

static void test_parse_url_last_at_sign_ends_the_user(void **state)
{
    (void)state;
    struct mr_url *url = parse("http://good@evil@host/");
    assert_string_equal(url->host, "host");
    assert_string_equal(url->text, "http://host/");
    mr_url_destroy(url);
}

static void test_parse_url_no_scheme_is_refused(void **state)
{
    (void)state;
    check_refused("", "is no URL");
    check_refused("example.com", "is no URL");
    check_refused("//example.com", "is no URL");
    check_refused("http:/example.com", "is no URL");
    check_refused("1http://x", "is no URL");
}

static void test_parse_url_bad_host_is_refused(void **state)
{
    (void)state;
    check_refused("http://", "no valid host");
    check_refused("http:///path", "no valid host");
    check_refused("http://a_b$c/", "no valid host");
    check_refused("http://[::1/", "no valid host");
    check_refused("http://[]/", "no valid host");
    check_refused("http://[zz]/", "no valid host");
    check_refused("http://user:pw@/", "no valid host");
}

static void test_parse_url_bad_port_is_refused(void **state)
{
    (void)state;
    check_refused("http://h:0/", "no valid port");
    check_refused("http://h:/", "no valid port");
    check_refused("http://h:65536/", "no valid port");
    check_refused("http://h:8o/", "no valid port");
    check_refused("http://[::1]x/", "no valid port");
    check_refused("http://::1/", "no valid host");
}

static void test_parse_url_blanks_and_controls_are_refused(void **state)
{
    (void)state;
    check_refused("http://h/a b", "blank");
    check_refused("http://h/a\tb", "blank");
    check_refused("http://h/\r\nX: y", "blank");
    check_refused("http://h/\xC3\xA9", "percent-encode");
    check_refused("http://h\\@evil/", "percent-encode");
}

static void test_parse_url_fragment_is_refused(void **state)
{
    (void)state;
    check_refused("http://h/a#b", "fragment");
    check_refused("http://h#b", "fragment");
}

static void test_parse_url_bad_escapes_are_refused_without_the_password(void **state)
{
    (void)state;
    static const char *const bad[] = {"http://u:hunter%2@h/", "http://u:hunter%@h/",
                                      "http://u:hunter%zz@h/", "http://u:hunter%00@h/"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(bad); i++) {
        struct mr_url *url = NULL;
        struct mr_problem problem;
        assert_int_equal(mr_parse_url(mr_bytes_of(bad[i]), &url, &problem), MR_E_INVALID);
        assert_null(strstr(problem.text, "hunter"));
        assert_non_null(strstr(problem.text, "%-escape"));
    }
}

static void test_url_destroy_null_is_nothing(void **state)
{
    (void)state;
    mr_url_destroy(NULL);
    struct mr_url *url = NULL;
    assert_null(url);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse_url_all_parts_are_taken),
        cmocka_unit_test(test_parse_url_bare_host_has_no_other_parts),
        cmocka_unit_test(test_parse_url_ipv6_host_loses_its_brackets),
        cmocka_unit_test(test_parse_url_query_without_path_is_kept),
        cmocka_unit_test(test_parse_url_user_without_password_has_none),
        cmocka_unit_test(test_parse_url_empty_password_is_present),
        cmocka_unit_test(test_parse_url_colons_in_password_belong_to_it),
        cmocka_unit_test(test_parse_url_at_sign_in_path_is_no_user),
        cmocka_unit_test(test_parse_url_last_at_sign_ends_the_user),
        cmocka_unit_test(test_parse_url_no_scheme_is_refused),
        cmocka_unit_test(test_parse_url_bad_host_is_refused),
        cmocka_unit_test(test_parse_url_bad_port_is_refused),
        cmocka_unit_test(test_parse_url_blanks_and_controls_are_refused),
        cmocka_unit_test(test_parse_url_fragment_is_refused),
        cmocka_unit_test(test_parse_url_bad_escapes_are_refused_without_the_password),
        cmocka_unit_test(test_url_destroy_null_is_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
