/* The listen address, and that only loopback ones pass. */
#include "fake_kinds.h"

static void check_listen(const char *text, const char *host, uint16_t port)
{
    char yaml[128];
    (void)snprintf(yaml, sizeof(yaml), "listen: '%s'\n", text);
    struct mr_config *config = load_right(yaml);
    assert_false(config->listen_off);
    assert_string_equal(config->listen_host, host);
    assert_int_equal(config->listen_port, port);
    mr_config_destroy(config);
}

static void check_refused(const char *text, const char *part)
{
    char yaml[512];
    (void)snprintf(yaml, sizeof(yaml), "listen: '%s'\n", text);
    check_one_error(yaml, part);
}

static void test_listen_loopback_addresses_pass(void **state)
{
    (void)state;
    check_listen("127.0.0.1:8080", "127.0.0.1", 8080);
    check_listen("127.9.8.7:1", "127.9.8.7", 1);
    check_listen("localhost:65535", "localhost", 65535);
    check_listen("[::1]:9000", "::1", 9000);
    check_listen("127.0.0.1:0", "127.0.0.1", 0);
}

static void test_listen_off_is_no_address(void **state)
{
    (void)state;
    struct mr_config *config = load_right("listen: off\n");
    assert_true(config->listen_off);
    assert_null(config->listen_host);
    mr_config_destroy(config);
}

static void test_listen_other_addresses_are_refused_with_the_reason(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "0.0.0.0:8080",      "[::]:8080",  "192.168.1.2:80",       "example.com:80",
        ":8080",             "128.0.0.1:80", "[::ffff:127.0.0.1]:80", "127.1:80",
        "localhost.evil:80", "[fe80::1]:80", "2130706433:80"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(texts); i++) {
        check_refused(texts[i], "is no loopback address: without TLS and authentication");
    }
}

static void test_listen_other_texts_are_no_address(void **state)
{
    (void)state;
    static const char *const texts[] = {"8080", "", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536",
                                        "127.0.0.1:x", "::1:80", "[::1]", "[::1:80", "127.0.0.1:-1",
                                        "on", "]:80"};
    for (size_t i = 0; i + 1 < MR_ARRAY_COUNT(texts); i++) {
        check_refused(texts[i], "is no address: write 127.0.0.1:8080, [::1]:8080 or off");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_listen_loopback_addresses_pass),
        cmocka_unit_test(test_listen_off_is_no_address),
        cmocka_unit_test(test_listen_other_addresses_are_refused_with_the_reason),
        cmocka_unit_test(test_listen_other_texts_are_no_address),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
