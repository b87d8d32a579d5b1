#include "connectors/egress.h"

#include <netinet/in.h>
#include <stdint.h>
#include <string.h>

#include "core/attrs.h"

const char *const mr__egress_words[] = {"any", "public", NULL};

/* What of IPv4 is not the public internet (IANA's special-purpose registry, and what clouds do). */
static const struct {
    uint32_t net;
    int bits;
} CLOSED_V4[] = {
    {0x00000000, 8},  /* this network */
    {0x0a000000, 8},  /* private */
    {0x64400000, 10}, /* shared by providers; 100.100.100.200 is Alibaba's metadata */
    {0x7f000000, 8},  /* loopback */
    {0xa83f8110, 32}, /* 168.63.129.16, Azure's host */
    {0xa9fe0000, 16}, /* link-local; 169.254.169.254 is the metadata of most */
    {0xac100000, 12}, /* private */
    {0xc0000000, 24}, /* protocol assignments; 192.0.0.192 is Oracle's metadata */
    {0xc0000200, 24}, /* documentation */
    {0xc0586300, 24}, /* 6to4 relays, retired */
    {0xc0a80000, 16}, /* private */
    {0xc6120000, 15}, /* benchmarks */
    {0xc6336400, 24}, /* documentation */
    {0xcb007100, 24}, /* documentation */
    {0xe0000000, 3},  /* multicast and reserved, broadcast */
};

/* Of 2000::/3, the only part of IPv6 that is public at all. */
static const struct {
    uint8_t net[4];
    int bits;
} CLOSED_V6[] = {
    {{0x20, 0x01, 0x00, 0x00}, 23}, /* protocol assignments: Teredo, ORCHID, benchmarks */
    {{0x20, 0x01, 0x0d, 0xb8}, 32}, /* documentation */
    {{0x3f, 0xff, 0x00, 0x00}, 20}, /* documentation */
};

static bool is_public_v4(uint32_t address)
{
    for (size_t i = 0; i < MR_ARRAY_COUNT(CLOSED_V4); i++) {
        uint32_t mask = UINT32_MAX << (32 - CLOSED_V4[i].bits);
        if ((address & mask) == CLOSED_V4[i].net) {
            return false;
        }
    }
    return true;
}

static uint32_t read_u32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static bool is_public_v6(const uint8_t *a)
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    static const uint8_t nat64[12] = {0x00, 0x64, 0xff, 0x9b};
    if (memcmp(a, mapped, sizeof(mapped)) == 0 || memcmp(a, nat64, sizeof(nat64)) == 0) {
        return is_public_v4(read_u32(a + 12));
    }
    if (a[0] == 0x20 && a[1] == 0x02) { /* 6to4 */
        return is_public_v4(read_u32(a + 2));
    }
    if ((a[0] & 0xe0) != 0x20) {
        return false; /* ::, ::1, ULA, link-local, site-local, multicast, what is not given out */
    }
    for (size_t i = 0; i < MR_ARRAY_COUNT(CLOSED_V6); i++) {
        uint32_t mask = UINT32_MAX << (32 - CLOSED_V6[i].bits);
        if ((read_u32(a) & mask) == read_u32(CLOSED_V6[i].net)) {
            return false;
        }
    }
    return true;
}

bool mr__egress_is_public(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, address, sizeof(v4));
        return is_public_v4(ntohl(v4.sin_addr.s_addr));
    }
    if (address->sa_family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, address, sizeof(v6));
        return is_public_v6(v6.sin6_addr.s6_addr);
    }
    return false;
}

bool mr__egress_allows(enum mr_egress policy, const struct sockaddr *address)
{
    return policy == MR_EGRESS_ANY || mr__egress_is_public(address);
}
