/* The Kafka connector's inside: options of source and sink, and what both need of librdkafka. */
#ifndef MR_CONNECTORS_KAFKA_KAFKA_H
#define MR_CONNECTORS_KAFKA_KAFKA_H

#include <librdkafka/rdkafka.h>

#include "connectors/connector.h"
#include "core/clock.h"

#define MR_KAFKA_TOPIC_SIZE_MAX 249u

/* What both kinds say about the cluster. First member of both option structs. */
struct mr_kafka_peer_options {
    uint64_t buffer; /* bytes: `prefetch` of a source, `buffer` of a sink */
    struct mr_strings brokers;
    char *user;
    struct mr_secret *password;
    int sasl_mechanism; /* index into its words */
    bool tls;
    char *tls_ca;
    char *tls_cert;
    char *tls_key;
    struct mr_secret *tls_key_password;
    struct mr_pairs librdkafka;
};

enum mr_kafka_start {
    MR_KAFKA_EARLIEST = 0,
    MR_KAFKA_LATEST,
};

struct mr_kafka_source_options {
    struct mr_kafka_peer_options peer;
    struct mr_strings topics;
    char *group; /* NULL: "millrace-" and the source's name */
    int start;   /* enum mr_kafka_start */
    int adapter; /* word of connectors/adapting.h */
    char *content_type; /* of raw records that tell none; may be NULL */
};

struct mr_kafka_sink_options {
    struct mr_kafka_peer_options peer;
    char *topic; /* a template */
    char *key;   /* a template; what comes out empty is no key */
    int mode;    /* 0 binary, 1 structured */
};

/* --- checks; pure ----------------------------------------------------------------------------- */

MR_MUST_USE enum mr_status mr__kafka_check_source(const void *options, struct mr_problem *problem);
MR_MUST_USE enum mr_status mr__kafka_check_sink(const void *options, struct mr_problem *problem);
/** Whether a broker would take @p name for a topic. */
bool mr__kafka_topic_is_valid(struct mr_bytes name);

/* --- the client's settings (client.c) --------------------------------------------------------- */

/** The settings of a consumer, without callbacks. Contacts nobody and reads no file.
 * @param group NULL: any, for a check
 * @param[out] ret_conf the caller's: rd_kafka_new() takes it, or rd_kafka_conf_destroy()
 * @return MR_E_INVALID with the option's name and the reason */
MR_MUST_USE enum mr_status mr__kafka_consumer_conf(const struct mr_kafka_source_options *options,
                                                   const char *group, rd_kafka_conf_t **ret_conf,
                                                   struct mr_problem *problem);
/** Likewise of a producer. @param timeout_ns how long it tries to get a message to the broker */
MR_MUST_USE enum mr_status mr__kafka_producer_conf(const struct mr_kafka_sink_options *options,
                                                   uint64_t timeout_ns, rd_kafka_conf_t **ret_conf,
                                                   struct mr_problem *problem);

/** Gives the client's own messages to our log. Set by both conf calls. @thread any */
void mr__kafka_log(const rd_kafka_t *rk, int level, const char *facility, const char *text);

/** Whether the cluster answers; asks for the metadata of @p topic, or of none with NULL.
 * @param[out] ret_error what is wrong with the topic, or with the question
 * @blocks 1.5 s at most, while no broker answers */
bool mr__kafka_probe(rd_kafka_t *rk, const char *topic, rd_kafka_resp_err_t *ret_error);

/** Puts "host:port, …" of the options into @p text, cut to fit. */
void mr__kafka_brokers_text(const struct mr_kafka_peer_options *peer, char *text, size_t size);

extern const struct mr_source_ops mr__kafka_source_ops;
extern const struct mr_target_ops mr__kafka_sink_ops;

#endif
