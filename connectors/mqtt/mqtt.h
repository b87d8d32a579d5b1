/* The MQTT connector's inside: options of source and sink, and what both need of a peer.
 *
 * Source and sink stand on different libraries (docs/decisions/001-mqtt-libraries.md): the source
 * on libmosquitto's external loop (link.h), because a PUBACK must wait for the disk; the sink on
 * paho.mqtt.c. Neither knows the other. */
#ifndef MR_CONNECTORS_MQTT_MQTT_H
#define MR_CONNECTORS_MQTT_MQTT_H

#include "connectors/connector.h"
#include "core/clock.h"

/* Order of the words of option `version`. */
enum mr_mqtt_version_word {
    MR_MQTT_WORD_5 = 0,
    MR_MQTT_WORD_3_1_1,
    MR_MQTT_WORD_5_0,
};

/* What both kinds say about the broker. First member of both option structs. */
struct mr_mqtt_peer_options {
    struct mr_url *url;
    int version; /* enum mr_mqtt_version_word */
    char *client_id;
    uint64_t keepalive_ns;
    char *tls_ca;
    char *tls_cert;
    char *tls_key;
};

struct mr_mqtt_source_options {
    struct mr_mqtt_peer_options peer;
    struct mr_strings topics;
    char *topic;
    int64_t qos;
    uint64_t session_expiry_ns;
    int64_t inflight; /* messages read and not yet acknowledged */
    int adapter;      /* index into mr__adapting_words */
};

enum mr_mqtt_mode_word {
    MR_MQTT_MODE_AUTO = 0, /* binary with 5, structured with 3.1.1 */
    MR_MQTT_MODE_BINARY,
    MR_MQTT_MODE_STRUCTURED,
};

struct mr_mqtt_sink_options {
    struct mr_mqtt_peer_options peer;
    char *topic; /* may hold {{attribute}} */
    int64_t qos;
    int mode; /* enum mr_mqtt_mode_word */
    bool retain;
};

/** 4 (3.1.1) or 5: what schemas/binding.h calls version. */
int mr__mqtt_version(const struct mr_mqtt_peer_options *peer);
bool mr__mqtt_is_tls(const struct mr_mqtt_peer_options *peer);
/** The port of the URL, or the scheme's: 1883, 8883. */
uint16_t mr__mqtt_port(const struct mr_mqtt_peer_options *peer);

/* Such a broker may hang up on version 5 without a word, as RabbitMQ before 3.13 does. */
#define MR_MQTT_VERSION_HINT "if the broker knows MQTT 3.1.1 only, set `version: 3.1.1`"

#define MR_MQTT_CLIENT_ID_SIZE 24u /* 23 characters: what every 3.1.1 broker must take */
/** "millrace-" and 14 digits that depend on @p name and @p folder only: the same after a restart,
 * so that the broker finds the session again. */
/* With its NUL; a configured one may be longer than what is promised to be taken. */
#define MR_MQTT_CLIENT_ID_SIZE_MAX 129u
void mr__mqtt_client_id(const char *name, const char *folder, char text[MR_MQTT_CLIENT_ID_SIZE]);
/** The identifier of the options, or that when they say none. */
void mr__mqtt_choose_client_id(const struct mr_mqtt_peer_options *peer, const char *name,
                               const char *folder, char text[MR_MQTT_CLIENT_ID_SIZE_MAX]);

/* --- checks; pure ----------------------------------------------------------------------------- */

MR_MUST_USE enum mr_status mr__mqtt_check_source(const void *options, struct mr_problem *problem);
MR_MUST_USE enum mr_status mr__mqtt_check_sink(const void *options, struct mr_problem *problem);
/** Whether @p filter is a subscription a broker accepts: levels, wildcards, $share/group/…. */
bool mr__mqtt_filter_is_valid(const char *filter);

/** Appends @p template with each {{attribute}} replaced by the event's value (empty when absent).
 * @return MR_E_INVALID when the result is no topic name (empty, wildcards, NUL, too long) */
MR_MUST_USE enum mr_status mr__mqtt_topic(const char *template, struct mr_bytes record,
                                          struct mr_buf *out, struct mr_problem *problem);

extern const struct mr_source_ops mr__mqtt_source_ops;
extern const struct mr_target_ops mr__mqtt_sink_ops;

#endif
