/* The SMTP connector's inside: options, and what is checked of them before anything is sent. */
#ifndef MR_CONNECTORS_SMTP_SMTP_H
#define MR_CONNECTORS_SMTP_SMTP_H

#include "connectors/connector.h"

/* Order of the words of option `tls`. */
enum mr_smtp_tls {
    MR_SMTP_TLS_AUTO = 0, /* required, but for a server on this machine: if it offers it */
    MR_SMTP_TLS_REQUIRED,
    MR_SMTP_TLS_NONE, /* for a server on this machine only */
};

struct mr_smtp_digest_options {
    int64_t max; /* events in one mail; 1: a mail for each */
    uint64_t window_ns;
};

struct mr_smtp_options {
    struct mr_url *url; /* smtp:// or smtps:// */
    char *user;
    struct mr_secret *password;
    int tls; /* enum mr_smtp_tls */
    char *tls_ca;
    char *from;
    struct mr_strings to;
    struct mr_strings cc;
    char *subject; /* template */
    char *body;    /* template; NULL: the event in readable form */
    uint64_t connect_timeout_ns;
    struct mr_smtp_digest_options digest;
};

/* "Name <box@example.com>", or the bare address; both borrowed from the option's text. */
struct mr_smtp_address {
    struct mr_bytes name; /* without quotes; empty when there is none */
    struct mr_bytes box;
};
bool mr__smtp_read_address(const char *text, struct mr_smtp_address *ret_address);

bool mr__smtp_is_loopback(const char *host);
/** Whether TLS is spoken from the first byte. */
bool mr__smtp_is_smtps(const struct mr_smtp_options *options);
uint16_t mr__smtp_port(const struct mr_smtp_options *options);
MR_MUST_USE enum mr_status mr__smtp_check(const void *options, struct mr_problem *problem);

extern const struct mr_target_ops mr__smtp_sink_ops;

#endif
