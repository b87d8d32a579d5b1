#include "tests/support/test.h"

#include <arpa/inet.h>
#include <sys/un.h>

#include "connectors/egress.h"
#include "core/attrs.h"

static bool is_public(const char *text)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    if (inet_pton(AF_INET, text, &v4.sin_addr) == 1) {
        return mr__egress_is_public((const struct sockaddr *)&v4);
    }
    assert_int_equal(inet_pton(AF_INET6, text, &v6.sin6_addr), 1);
    return mr__egress_is_public((const struct sockaddr *)&v6);
}

static void test_is_public_table(void **state)
{
    (void)state;
    static const char *const open[] = {
        "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0",
        "126.255.255.255", "128.0.0.1", "169.253.255.255", "169.255.0.0", "172.15.255.255",
        "172.32.0.0", "192.0.1.1", "192.167.255.255", "192.169.0.0", "198.17.255.255",
        "198.20.0.0", "203.0.112.1", "223.255.255.255", "168.63.129.15",
        "2606:4700:4700::1111", "2a00:1450:4001::200e", "2001:4860:4860::8888",
        "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1",
    };
    static const char *const closed[] = {
        "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200",
        "127.0.0.1", "127.255.255.254", "168.63.129.16", "169.254.169.254", "169.254.0.1",
        "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.88.99.1",
        "192.168.0.1", "198.18.0.1", "198.19.255.255", "198.51.100.7", "203.0.113.7",
        "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
        "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254",
        "::ffff:10.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1",
        "2002:7f00:1::1", "2002:a9fe:a9fe::", "2001::1", "2001:0:1::1", "2001:1ff::1",
        "2001:db8::1", "3fff::1", "3fff:fff::1", "fc00::1", "fd00:ec2::254", "fdff::1",
        "fe80::1", "fec0::1", "ff02::1", "100::1", "4000::1", "5f00::1",
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(open); i++) {
        if (!is_public(open[i])) {
            fail_msg("%s is public", open[i]);
        }
    }
    for (size_t i = 0; i < MR_ARRAY_COUNT(closed); i++) {
        if (is_public(closed[i])) {
            fail_msg("%s is not public", closed[i]);
        }
    }
}

static void test_allows_by_policy(void **state)
{
    (void)state;
    const struct sockaddr_in local = {.sin_family = AF_INET,
                                      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const struct sockaddr_un path = {.sun_family = AF_UNIX};
    assert_true(mr__egress_allows(MR_EGRESS_ANY, (const struct sockaddr *)&local));
    assert_false(mr__egress_allows(MR_EGRESS_PUBLIC, (const struct sockaddr *)&local));
    assert_false(mr__egress_allows(MR_EGRESS_PUBLIC, (const struct sockaddr *)&path));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_is_public_table),
        cmocka_unit_test(test_allows_by_policy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
