/* The HTTP client for deliveries, shared by the http sink and the http worker: one thread per
 * target, as many requests at once as its concurrency. Plain http:// to an address or localhost
 * goes over a small HTTP/1.1 client of our own (6 us of CPU a request), all else over libcurl
 * (18 us). TLS verifies chain and host, redirects are not followed, answers are bounded, proxies
 * and .netrc of the environment are ignored. */
#ifndef MR_CONNECTORS_HTTP_CLIENT_H
#define MR_CONNECTORS_HTTP_CLIENT_H

#include "bus/ports.h"
#include "connectors/connector.h"

/* Options of `sign:`: Standard Webhooks signatures of every request. */
struct mr_http_sign_options {
    struct mr_secret *secret;
    struct mr_secret *previous_secret; /* signs as well, while receivers change; NULL: none */
};

/* Options of `health:`; probe.h. */
struct mr_http_health_options {
    char *path; /* NULL: no health check */
    uint64_t interval_ns;
    int64_t failures; /* in a row, until the target is out */
};

/* Options shared by `sinks: x: {http: …}` and `workers: x: {http: …}`. */
struct mr_http_client_options {
    struct mr_url *url;
    int mode; /* enum mr_mode */
    struct mr_pairs headers;    /* further request headers; values may be references */
    struct mr_secret *token;    /* sent as Authorization: Bearer */
    char *tls_ca;               /* PEM file; NULL: the system's */
    uint64_t connect_timeout_ns;
    struct mr_http_sign_options sign;
    struct mr_http_health_options health;
    bool handshake; /* ask the receiver for its consent first */
    char *origin;   /* what we call ourselves there; NULL: this machine's name */
    int egress;     /* enum mr_egress */
};

extern const struct mr_option mr_http_client_option_table[];

/** The check of both kinds: the scheme and the headers that are ours to set. */
enum mr_status mr_http_client_check(const void *options, struct mr_problem *problem);

/** The target ops of both kinds (worker: `worker_kind` of mr_connector_http). Status table:
 * digest 15.1. A 200 that is a CloudEvent is emitted; a 200 whose JSON body is {"status":
 * "SUCCESS|RETRY|DROP"} is obeyed; Retry-After on 429 and 503. Requests carry traceparent when the
 * event has it, Millrace-Attempt, Millrace-Delivery and Idempotency-Key (the delivery id); signed
 * ones webhook-id (the delivery id), webhook-timestamp and webhook-signature. */
extern const struct mr_target_ops mr_http_target_ops;

#endif
