/* One MQTT connection of a source: libmosquitto with an external loop, made safe to use.
 *
 * Owns the library's handle, the session's settings and the state of the connection; knows nothing
 * of events or batches. One thread makes every call.
 *
 * What the library does, and what this module makes of it: a PUBACK is queued when the message
 * callback returns and leaves with mr__mqtt_link_flush() only, never by itself. A flush sends all
 * that is queued, PINGREQ and SUBSCRIBE among it, so it must not be called while a message whose
 * callback ran is not durable. Closing and reopening throws queued PUBACKs away: the broker then
 * delivers those messages again. */
#ifndef MR_CONNECTORS_MQTT_LINK_H
#define MR_CONNECTORS_MQTT_LINK_H

#include <mosquitto.h>
#include <poll.h>

#include "connectors/mqtt/mqtt.h"

enum mr_mqtt_link_state {
    MR_MQTT_LINK_DOWN = 0,
    MR_MQTT_LINK_OPENING, /* until the broker's CONNACK */
    MR_MQTT_LINK_UP,
};

typedef void (*mr_mqtt_message_fn)(void *context, const struct mosquitto_message *message,
                                   const mosquitto_property *properties);

struct mr_mqtt_link {
    struct mosquitto *mosq; /* owned */
    const struct mr_mqtt_source_options *options; /* borrowed: outlives the link */
    mr_mqtt_message_fn on_message;
    void *context; /* borrowed */
    enum mr_mqtt_link_state state;
    bool session_set;    /* the library knows the CONNECT properties */
    bool session_present; /* the broker remembered us */
    bool resubscribe;    /* a SUBSCRIBE is due */
    bool subscribed;     /* on this connection the broker has answered one */
    uint64_t opened_ns;  /* when opening began, then when the link came up */
    uint64_t misc_ns;    /* last keepalive check */
    uint64_t subscribe_ns; /* last SUBSCRIBE, for those refused */
    uint64_t received;   /* packets the library reported by callback */
    char error[256];     /* why the link is down or degraded; "" when all is well */
    char tls_error[160]; /* last error line of the TLS library */
};

/** Makes the handle; contacts nobody. @return MR_E_INVALID for files that cannot be used */
MR_MUST_USE enum mr_status mr__mqtt_link_init(struct mr_mqtt_link *link,
                                              const struct mr_mqtt_source_options *options,
                                              const char *client_id, mr_mqtt_message_fn on_message,
                                              void *context, struct mr_problem *problem);
void mr__mqtt_link_release(struct mr_mqtt_link *link);

/** Starts connecting. @return false: not even begun, `error` says why. @blocks for the DNS */
bool mr__mqtt_link_open(struct mr_mqtt_link *link, uint64_t now_ns);

/** What to poll the socket for; fd is -1 when there is none. @p read: messages are wanted */
struct pollfd mr__mqtt_link_poll(const struct mr_mqtt_link *link, bool read, bool write);

/** Moves the handshake on after poll. Only while OPENING. */
void mr__mqtt_link_handshake(struct mr_mqtt_link *link, short revents, uint64_t now_ns);

/** Reads one packet, or what there is of it. @return false: nothing more at the moment */
bool mr__mqtt_link_read(struct mr_mqtt_link *link);

/** Whether packets wait to be sent. */
bool mr__mqtt_link_wants_flush(const struct mr_mqtt_link *link);

/** Sends all that is queued: only when every message read is durable. @return false: the socket
 * is full, poll for writing and call again before anything is read */
bool mr__mqtt_link_flush(struct mr_mqtt_link *link, uint64_t now_ns);

/** Keepalive, due subscriptions; queues only. At most once a second does anything. */
void mr__mqtt_link_tick(struct mr_mqtt_link *link, uint64_t now_ns);

/** @p polite: everything is durable, so flush and send DISCONNECT; else cut the wire, so that the
 * broker keeps what was not acknowledged. The session stays. */
void mr__mqtt_link_close(struct mr_mqtt_link *link, bool polite, const char *reason);

#endif
