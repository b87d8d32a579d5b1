/* A peer that speaks just enough MQTT to misbehave: the test writes and reads packets by hand. */
#ifndef MR_TESTS_CONTRACT_MQTT_PEER_H
#define MR_TESTS_CONTRACT_MQTT_PEER_H

#include "tests/contract/mqtt_support.h"
#include "tests/contract/peer.h"

struct packet {
    uint8_t command;
    size_t size;
    uint8_t body[4096];
};

/* false: the connection ended, or nothing came. */
static inline bool peer_read(struct peer *p, struct packet *packet)
{
    uint8_t byte;
    unsigned shift = 0;
    packet->size = 0;
    if (!peer_take(p, &packet->command, 1)) {
        return false;
    }
    do {
        if (!peer_take(p, &byte, 1)) {
            return false;
        }
        packet->size |= (size_t)(byte & 127) << shift;
        shift += 7;
    } while ((byte & 128) != 0 && shift < 28);
    assert_true(packet->size <= sizeof(packet->body));
    return peer_take(p, packet->body, packet->size);
}

/* Reads packets until one of @p command (its high nibble). */
static inline void peer_expect(struct peer *p, uint8_t command, struct packet *packet)
{
    do {
        if (!peer_read(p, packet)) {
            fail_msg("the connection ended before packet %02x", command);
        }
    } while ((packet->command & 0xf0) != command);
}

/* CONNECT in, CONNACK out. 5: with an empty property length. */
static inline void peer_greet(struct peer *p, int version, bool session)
{
    struct packet packet;
    peer_expect(p, 0x10, &packet);
    const uint8_t v5[] = {0x20, 3, session ? 1 : 0, 0, 0};
    const uint8_t v3[] = {0x20, 2, session ? 1 : 0, 0};
    peer_write(p, version == 5 ? v5 : v3, version == 5 ? sizeof(v5) : sizeof(v3));
}

/* SUBSCRIBE in, SUBACK out. */
static inline void peer_subscribed(struct peer *p, int version)
{
    struct packet packet;
    peer_expect(p, 0x80, &packet);
    const uint8_t v5[] = {0x90, 4, packet.body[0], packet.body[1], 0, 1};
    const uint8_t v3[] = {0x90, 3, packet.body[0], packet.body[1], 1};
    peer_write(p, version == 5 ? v5 : v3, version == 5 ? sizeof(v5) : sizeof(v3));
}

/* A PUBLISH (3.1.1) of quality 1 to "t" into @p to. @return its size */
static inline size_t make_publish(uint8_t *to, uint16_t mid, bool duplicate, const char *payload)
{
    size_t body = 3 + 2 + strlen(payload);
    size_t at = 0;
    to[at++] = duplicate ? 0x3a : 0x32;
    for (size_t left = body; left > 0 || at == 1; left /= 128) {
        to[at++] = (uint8_t)(left % 128 | (left >= 128 ? 128 : 0));
    }
    const uint8_t head[] = {0, 1, 't', (uint8_t)(mid >> 8), (uint8_t)mid};
    memcpy(to + at, head, sizeof(head));
    memcpy(to + at + sizeof(head), payload, strlen(payload));
    return at + body;
}

static inline void peer_publish(struct peer *p, uint16_t mid, const char *payload)
{
    uint8_t bytes[4096];
    peer_write(p, bytes, make_publish(bytes, mid, false, payload));
}

static inline void peer_expect_puback(struct peer *p, uint16_t mid)
{
    struct packet packet;
    peer_expect(p, 0x40, &packet);
    assert_int_equal(packet.body[0] << 8 | packet.body[1], mid);
}

#endif
