/* Blocks of options that stand in the tables of more than one connector: the objectstore source
 * hands them on to the source it stands for, which owns their tables and meaning. */
#ifndef MR_CONNECTORS_BLOCKS_H
#define MR_CONNECTORS_BLOCKS_H

#include "config/option.h"

/* `verify:` of an http source: http/verify.h. */
struct mr_http_verify_options {
    int scheme; /* enum mr_http_scheme */
    struct mr_secret *secret;
    struct mr_secret *previous_secret; /* as good; NULL: none */
    uint64_t window_ns; /* how far a signed timestamp may be off; 0: any */
    char *header;       /* hmac */
    char *prefix;       /* hmac; stands before the digest; NULL: none */
    int encoding;       /* hmac: hex | base64 */
    int algorithm;      /* hmac: sha256 | sha512 | sha1 */
    char *certificate;  /* sns: PEM file to believe instead of the one the message names */
    struct mr_strings topics; /* sns: ARNs; none: every topic */
};
extern const struct mr_option mr_http_verify_option_table[];

/* `declare:` of an amqp source: amqp/amqp.h. */
struct mr_amqp_declare_options {
    int type; /* enum mr_amqp_queue_type */
    bool durable;
    char *arguments; /* JSON mapping */
    char *exchange;
    int exchange_type; /* enum mr_amqp_exchange_type */
    struct mr_strings bindings; /* routing keys */
};
extern const struct mr_option mr__amqp_declare_table[];

#endif
