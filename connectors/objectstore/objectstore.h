/* The objectstore connector's inside: options, and which part does what.
 *
 *     sqs.c        source via: sqs     polls a queue (sqs.h; sqs_wire.h: what is said to it)
 *     list.c       source via: list    lists a bucket (pass.h: compares it with seen.h;
 *                                      list_event.h: what is told of it)
 *     via.c        source via: webhook, kafka, amqp, mqtt: another connector with adapter s3
 *     sink.c       puts objects        (upload.h: one object, in one piece or in parts)
 *     client.h     signed HTTP calls; sign.h, xml.h, listing.h, explain.c below it */
#ifndef MR_CONNECTORS_OBJECTSTORE_OBJECTSTORE_H
#define MR_CONNECTORS_OBJECTSTORE_OBJECTSTORE_H

#include "connectors/blocks.h"
#include "connectors/connector.h"
#include "connectors/objectstore/client.h"

/* Order of the words of option `via`. */
enum mr_objectstore_via {
    MR_VIA_SQS = 0,
    MR_VIA_LIST,
    MR_VIA_WEBHOOK,
    MR_VIA_KAFKA,
    MR_VIA_AMQP,
    MR_VIA_MQTT,
};

/* How a service is reached: what sqs, list and the sink share. */
struct mr_objectstore_peer {
    struct mr_url *url;
    char *region;
    char *access_key;
    struct mr_secret *secret_key;
    struct mr_secret *session_token;
    char *tls_ca;
    uint64_t connect_timeout_ns;
    int egress; /* enum mr_egress */
};

struct mr_objectstore_source_options {
    struct mr_objectstore_peer peer;
    int via;     /* enum mr_objectstore_via */
    int adapter; /* index into mr__adapting_words */
    /* sqs */
    uint64_t wait_ns;
    uint64_t visibility_ns;
    int64_t polls;
    int64_t inflight;
    /* list */
    char *prefix;
    char *bucket;
    uint64_t interval_ns;
    bool once;
    bool existing;
    /* webhook, kafka, amqp, mqtt: handed on to the connector of that name */
    char *path;
    struct mr_secret *token;
    struct mr_http_verify_options verify;
    bool confirm;
    struct mr_strings brokers;
    struct mr_strings topics;
    char *topic;
    char *group;
    struct mr_pairs librdkafka;
    char *queue;
    struct mr_amqp_declare_options declare;
    char *client_id;
    char *tls_cert;
    char *tls_key;
};

enum mr_objectstore_content {
    MR_CONTENT_EVENT = 0, /* the CloudEvent as JSON */
    MR_CONTENT_DATA,      /* its data alone */
};

struct mr_objectstore_sink_options {
    struct mr_objectstore_peer peer;
    char *key; /* a template */
    int content; /* enum mr_objectstore_content */
    char *content_type;
    uint64_t part_size;
};

extern const struct mr_option mr__objectstore_source_table[];
extern const struct mr_option mr__objectstore_sink_table[];

MR_MUST_USE enum mr_status mr__objectstore_check_source(const void *options,
                                                        struct mr_problem *problem);
MR_MUST_USE enum mr_status mr__objectstore_check_sink(const void *options,
                                                      struct mr_problem *problem);

/* A service made from its options: who we are there, and the client that speaks to it. */
struct mr_service {
    struct mr_credentials credentials;
    char region[40];
    struct mr_client_options client_options;
    struct mr_client *client; /* owned */
};

/** Contacts nobody. The region is the option, else what an AWS host name says, else AWS_REGION,
 * AWS_DEFAULT_REGION, else us-east-1.
 * @param peer borrowed: outlives the service; @param name static: "s3", "sqs"
 * @param capacity calls at once
 * @return MR_E_INVALID, MR_E_NOMEM with the problem: nothing to release */
MR_MUST_USE enum mr_status mr__service_init(struct mr_service *service,
                                            const struct mr_objectstore_peer *peer,
                                            const char *name, uint32_t capacity,
                                            struct mr_problem *problem);
void mr__service_release(struct mr_service *service);
/** mr__call_explain() for a call of this service. */
void mr__service_explain(const struct mr_service *service, const struct mr_call *call, char *text,
                         size_t size, char code[MR_CALL_CODE_SIZE]);

/** The path of the URL without its query and closing slashes, percent-encoded as it was written;
 * "" for none. */
struct mr_bytes mr__objectstore_path(const struct mr_url *url);

/** The connector that does the work of `via: webhook | kafka | amqp | mqtt`; NULL: it is one of
 * ours. */
const struct mr_connector *mr__via_connector(int via);
/** Checks the options as that connector would. */
MR_MUST_USE enum mr_status mr__via_check(const struct mr_objectstore_source_options *options,
                                         struct mr_problem *problem);
/** Makes a source of that connector from our options, with its option `adapter` set. */
MR_MUST_USE enum mr_status mr__via_create(const struct mr_source_args *args,
                                          struct mr_source **ret_source,
                                          struct mr_problem *problem);

/** Bytes such a source may hold at most. */
uint64_t mr__via_bytes_max(const struct mr_objectstore_source_options *options);

extern const struct mr_source_ops mr__objectstore_sqs_ops;
extern const struct mr_source_ops mr__objectstore_list_ops;
extern const struct mr_target_ops mr__objectstore_sink_ops;

#endif
