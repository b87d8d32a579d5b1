/* One connection of a sink: a paho.mqtt.c handle that reports through a queue.
 *
 * paho calls back on threads of its own with a lock of the whole process held, so a callback only
 * pushes an operation; every call into the library is made by the one thread that owns the
 * publisher. A handle serves one connection: reconnecting with it is what broke in 1.3.12, so
 * after a loss it is destroyed and another made. */
#ifndef MR_CONNECTORS_MQTT_PUBLISHER_H
#define MR_CONNECTORS_MQTT_PUBLISHER_H

#include "connectors/mqtt/mqtt.h"
#include "schemas/binding.h"

/* Operations in the queue of the owner. */
enum mr_mqtt_event {
    MR_MQTT_CONNECTED = 1, /* op of struct mr_mqtt_publisher */
    MR_MQTT_LOST,          /* likewise: connecting failed, or the connection went */
    MR_MQTT_SENT,          /* op of struct mr_mqtt_send */
};

/* One message with the library. The owner's until published, and again after MR_MQTT_SENT or the
 * publisher's end. */
struct mr_mqtt_send {
    struct mr_op op;
    struct mr_mqtt_send *previous; /* the owner's list */
    struct mr_mqtt_send *next;
    struct mr_opq *events;     /* borrowed */
    struct mr_handout *handout; /* owned */
    uint64_t deadline_ns;
    uint64_t started_wall_ns;
    int code;   /* 0 delivered; < 0 the library's; >= 0x80 the broker's reason */
};

struct mr_mqtt_publisher; /* opaque */

/** Makes a handle and starts connecting; MR_MQTT_CONNECTED or _LOST follows in @p events, _LOST
 * also after _CONNECTED. @return MR_E_UNAVAILABLE with the problem, MR_E_NOMEM */
MR_MUST_USE enum mr_status mr__mqtt_publisher_create(const struct mr_mqtt_peer_options *peer,
                                                     const char *client_id, struct mr_opq *events,
                                                     struct mr_mqtt_publisher **ret_publisher,
                                                     struct mr_problem *problem);

/** Disconnects: no callback runs afterwards. Operations pushed before still lie in the queue; take
 * them before the publisher is destroyed. NULL-safe. */
void mr__mqtt_publisher_close(struct mr_mqtt_publisher *publisher);
/** Closes if need be and frees. NULL-safe. */
void mr__mqtt_publisher_destroy(struct mr_mqtt_publisher *publisher);

/** Why the last MR_MQTT_LOST. Valid once that was taken from the queue. */
const char *mr__mqtt_publisher_error(const struct mr_mqtt_publisher *publisher);

/** Hands one message over; the payload is copied. MR_MQTT_SENT follows, as a rule: paho can lose
 * the report of quality of service 0, so the owner keeps a deadline.
 * @return 0, or the library's error code: nothing will follow */
MR_MUST_USE int mr__mqtt_publisher_send(struct mr_mqtt_publisher *publisher, const char *topic,
                                        const struct mr_message *message, int qos, bool retain,
                                        struct mr_mqtt_send *send);

/** What @p code of a send says. */
const char *mr__mqtt_send_text(int code);
enum mr_verdict mr__mqtt_send_verdict(int code);

#endif
