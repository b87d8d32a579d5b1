/* The AMQP 0-9-1 connector's inside: options of source and sink, and what both need of a peer. */
#ifndef MR_CONNECTORS_AMQP_AMQP_H
#define MR_CONNECTORS_AMQP_AMQP_H

#include "connectors/blocks.h"
#include "connectors/connector.h"
#include "core/clock.h"
#include "schemas/binding.h"

#define MR_AMQP_NAME_SIZE_MAX 255u /* of queues, exchanges, routing keys: AMQP's short string */
#define MR_AMQP_VHOST_SIZE_MAX 256u /* with its NUL */

enum mr_amqp_sasl {
    MR_AMQP_SASL_PLAIN = 0,
    MR_AMQP_SASL_EXTERNAL, /* the client certificate */
};

/* What both kinds say about the broker. First member of both option structs. */
struct mr_amqp_peer_options {
    struct mr_url *url;
    char *vhost;
    char *user;
    struct mr_secret *password;
    int sasl_mechanism; /* enum mr_amqp_sasl */
    uint64_t heartbeat_ns;
    char *tls_ca;
    char *tls_cert;
    char *tls_key;
};

enum mr_amqp_queue_type {
    MR_AMQP_QUEUE_PASSIVE = 0, /* it is there, however it was made */
    MR_AMQP_QUEUE_CLASSIC,
    MR_AMQP_QUEUE_QUORUM,
};

enum mr_amqp_exchange_type {
    MR_AMQP_EXCHANGE_EXISTING = 0,
    MR_AMQP_EXCHANGE_DIRECT,
    MR_AMQP_EXCHANGE_FANOUT,
    MR_AMQP_EXCHANGE_TOPIC,
    MR_AMQP_EXCHANGE_HEADERS,
};
extern const char *const mr__amqp_exchange_words[];

struct mr_amqp_source_options {
    struct mr_amqp_peer_options peer;
    char *queue;
    int64_t prefetch;
    int adapter; /* 0: none, else 1 + enum mr_adapter */
    struct mr_amqp_declare_options declare;
};

struct mr_amqp_sink_options {
    struct mr_amqp_peer_options peer;
    char *exchange; /* NULL or "": the default exchange */
    int exchange_type;
    char *routing_key; /* may hold {{attribute}} */
    int mode;          /* enum mr_mode: binary, structured */
    int headers;       /* enum mr_amqp_habit */
    bool persistent;
};

bool mr__amqp_is_tls(const struct mr_amqp_peer_options *peer);
/** The port of the URL, or the scheme's: 5672, 5671. */
uint16_t mr__amqp_port(const struct mr_amqp_peer_options *peer);
/** The virtual host: the option, else the URL's path percent-decoded, else "/". Pure.
 * @return MR_E_INVALID when it is no text of at most 255 bytes */
MR_MUST_USE enum mr_status mr__amqp_vhost(const struct mr_amqp_peer_options *peer,
                                          char ret_vhost[MR_AMQP_VHOST_SIZE_MAX],
                                          struct mr_problem *problem);

MR_MUST_USE enum mr_status mr__amqp_check_source(const void *options, struct mr_problem *problem);
MR_MUST_USE enum mr_status mr__amqp_check_sink(const void *options, struct mr_problem *problem);

extern const struct mr_source_ops mr__amqp_source_ops;
extern const struct mr_target_ops mr__amqp_sink_ops;

#endif
