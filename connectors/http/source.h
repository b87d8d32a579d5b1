/* The http source: CloudEvents over HTTP in all three modes, webhooks of services with formats and
 * signatures of their own, or raw bodies wrapped. A request is answered 202 only when its events
 * are durable, all of them together or none.
 *
 * It has no thread for that: decoding, submitting and answering happen on the listener's, in
 * groups, one batch for what one pass of the listener's loop brought. A thread of its own runs the
 * errands that some forms need (a certificate, a confirmation). */
#ifndef MR_CONNECTORS_HTTP_SOURCE_H
#define MR_CONNECTORS_HTTP_SOURCE_H

#include "connectors/connector.h"
#include "connectors/http/handshake.h"
#include "connectors/http/verify.h"

/* Where adapter `generic` finds attributes in a JSON body: dot paths; NULL: the default. */
struct mr_http_source_paths {
    char *id;
    char *type;
    char *subject;
    char *time;
};

/* Options of `sources: x: {http: …}`. */
struct mr_http_source_options {
    char *path;
    int adapter;             /* enum mr_adapter */
    char *type;              /* of generic events */
    struct mr_http_source_paths paths;
    struct mr_secret *token; /* wanted as Authorization: Bearer; NULL: none */
    struct mr_http_verify_options verify;
    struct mr_http_handshake_options handshake;
    struct mr_strings decode; /* gzip, zstd */
    bool confirm;             /* SNS subscriptions */
    uint64_t pending_max;     /* bytes of events that wait to become durable */
};

extern const struct mr_option mr_http_source_option_table[];

/** The check of the source kind: what the table cannot say. */
enum mr_status mr_http_source_check(const void *options, struct mr_problem *problem);

extern const struct mr_source_ops mr_http_source_ops;

#endif
