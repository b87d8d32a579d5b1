/* Owns the `listen` address: host:port, taken apart, and the rule that it is a loopback one. */
#include <arpa/inet.h>

#include "config/builder.h"
#include "core/alloc.h"

#define HOST_SIZE_MAX 256u

static bool is_loopback(const char *host)
{
    struct in_addr four;
    struct in6_addr six;
    if (inet_pton(AF_INET, host, &four) == 1) {
        return (ntohl(four.s_addr) >> 24) == 127;
    }
    if (inet_pton(AF_INET6, host, &six) == 1) {
        return IN6_IS_ADDR_LOOPBACK(&six);
    }
    return strcmp(host, "localhost") == 0;
}

/* Splits at the last colon; an IPv6 address stands in brackets. */
static bool split(const char *text, char host[HOST_SIZE_MAX], uint16_t *ret_port)
{
    const char *colon = strrchr(text, ':');
    if (colon == NULL) {
        return false;
    }
    const char *from = text;
    const char *to = colon;
    if (*text == '[') {
        if (to - from < 2 || to[-1] != ']') {
            return false;
        }
        from++;
        to--;
    } else if (memchr(text, ':', (size_t)(colon - text)) != NULL) {
        return false;
    }
    size_t size = (size_t)(to - from);
    uint64_t port;
    if (size >= HOST_SIZE_MAX || !mr_parse_u64(mr_bytes_of(colon + 1), &port) ||
        port > UINT16_MAX) {
        return false;
    }
    memcpy(host, from, size);
    host[size] = '\0';
    *ret_port = (uint16_t)port;
    return true;
}

enum mr_status mr__parse_listen(const char *text, const char *shown, char **ret_host,
                                uint16_t *ret_port, bool *ret_off, struct mr_problem *problem)
{
    if (strcmp(text, "off") == 0) {
        *ret_off = true;
        return MR_OK;
    }
    char host[HOST_SIZE_MAX];
    uint16_t port;
    if (!split(text, host, &port)) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "listen: `%.64s` is no address: write 127.0.0.1:8080, [::1]:8080 or "
                              "off",
                              shown);
    }
    if (!is_loopback(host)) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "listen: `%.64s` is no loopback address: without TLS and "
                              "authentication, which this release does not have, anybody on the "
                              "network could send events; listen on 127.0.0.1, ::1 or localhost "
                              "and put a proxy in front",
                              shown);
    }
    char *copy = mr_strdup(host);
    if (copy == NULL) {
        return MR_E_NOMEM;
    }
    *ret_host = copy;
    *ret_port = port;
    *ret_off = false;
    return MR_OK;
}
