/* Addresses as text. */
#include "router/program.h"

static size_t digits_end(struct mr_bytes text, size_t at)
{
    while (at < text.size && text.data[at] >= '0' && text.data[at] <= '9') {
        at++;
    }
    return at;
}

/* An IPv4 address is the IPv6 address that stands for it, ::ffff:a.b.c.d. */
struct address {
    uint8_t bytes[16];
    bool is_v4;
};

static bool parse_v4(struct mr_bytes text, uint8_t to[4])
{
    size_t at = 0;
    for (int i = 0; i < 4; i++) {
        uint32_t value = 0;
        size_t end = digits_end(text, at);
        if (end == at || end - at > 3 || (end - at > 1 && text.data[at] == '0')) {
            return false;
        }
        for (; at < end; at++) {
            value = value * 10 + (uint32_t)(text.data[at] - '0');
        }
        if (value > 255 || (i < 3 && (at == text.size || text.data[at] != '.'))) {
            return false;
        }
        to[i] = (uint8_t)value;
        at += i < 3;
    }
    return at == text.size;
}

/* The hexadecimal group at @p at; its end, or 0. */
static size_t parse_group(struct mr_bytes text, size_t at, uint32_t *ret_value)
{
    uint32_t value = 0;
    size_t from = at;
    for (; at < text.size && at - from < 5; at++) {
        uint8_t b = text.data[at];
        uint8_t low = b | 0x20;
        if (b >= '0' && b <= '9') {
            value = value << 4 | (uint32_t)(b - '0');
        } else if (low >= 'a' && low <= 'f') {
            value = value << 4 | (uint32_t)(low - 'a' + 10);
        } else {
            break;
        }
    }
    *ret_value = value;
    return at - from >= 1 && at - from <= 4 ? at : 0;
}

static bool parse_v6(struct mr_bytes text, uint8_t to[16])
{
    size_t size = 0;
    size_t gap = SIZE_MAX; /* where :: stood */
    size_t at = 0;
    memset(to, 0, 16);
    if (text.size >= 2 && text.data[0] == ':' && text.data[1] == ':') {
        gap = 0;
        at = 2;
    }
    while (at < text.size) {
        uint32_t value;
        struct mr_bytes rest = mr_bytes(text.data + at, text.size - at);
        if (size <= 12 && memchr(rest.data, ':', rest.size) == NULL &&
            parse_v4(rest, to + size)) {
            size += 4;
            break;
        }
        size_t end = size <= 14 ? parse_group(text, at, &value) : 0;
        if (end == 0) {
            return false;
        }
        to[size++] = (uint8_t)(value >> 8);
        to[size++] = (uint8_t)value;
        at = end;
        if (at == text.size) {
            break;
        }
        if (text.data[at++] != ':' || at == text.size) {
            return false;
        }
        if (text.data[at] == ':') {
            if (gap != SIZE_MAX) {
                return false;
            }
            gap = size;
            at++;
        }
    }
    if (gap == SIZE_MAX) {
        return size == 16;
    }
    if (size == 16) {
        return false;
    }
    memmove(to + 16 - (size - gap), to + gap, size - gap);
    memset(to + gap, 0, 16 - size);
    return true;
}

static bool parse_address(struct mr_bytes text, struct address *address)
{
    static const uint8_t mapped[12] = {[10] = 0xFF, [11] = 0xFF};
    if (text.size == 0) {
        return false;
    }
    if (memchr(text.data, ':', text.size) == NULL) {
        memcpy(address->bytes, mapped, sizeof(mapped));
        address->is_v4 = true;
        return parse_v4(text, address->bytes + sizeof(mapped));
    }
    bool good = parse_v6(text, address->bytes);
    address->is_v4 = good && memcmp(address->bytes, mapped, sizeof(mapped)) == 0;
    return good;
}

static bool parse_network(struct mr_bytes text, struct address *address, uint32_t *ret_bits)
{
    const uint8_t *slash = text.size == 0 ? NULL : memchr(text.data, '/', text.size);
    size_t size = slash == NULL ? text.size : (size_t)(slash - text.data);
    if (!parse_address(mr_bytes(text.data, size), address)) {
        return false;
    }
    bool dotted = memchr(text.data, ':', size) == NULL;
    uint64_t bits = dotted ? 32 : 128;
    uint64_t most = bits;
    if (slash != NULL &&
        (!mr_parse_u64(mr_bytes(slash + 1, text.size - size - 1), &bits) || bits > most)) {
        return false;
    }
    *ret_bits = (uint32_t)bits + (dotted ? 96 : 0);
    return true;
}

bool mr__network_is(struct mr_bytes text)
{
    struct address address;
    uint32_t bits;
    return parse_network(text, &address, &bits);
}

bool mr__network_holds(struct mr_bytes network, struct mr_bytes text)
{
    struct address wanted;
    struct address actual;
    uint32_t bits;
    /* A short prefix of IPv6, ::/0 say, does not mean the addresses of IPv4. */
    if (!parse_network(network, &wanted, &bits) || !parse_address(text, &actual) ||
        (actual.is_v4 && bits < 96)) {
        return false;
    }
    uint32_t whole = bits / 8;
    uint32_t rest = bits % 8;
    uint8_t mask = (uint8_t)(0xFF00u >> rest);
    return memcmp(wanted.bytes, actual.bytes, whole) == 0 &&
           (rest == 0 || ((wanted.bytes[whole] ^ actual.bytes[whole]) & mask) == 0);
}
