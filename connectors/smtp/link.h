/* The conversation with a mail server, through libcurl: one connection, one mail after the other.
 * Chain and host name of the server are verified. One thread makes every call. */
#ifndef MR_CONNECTORS_SMTP_LINK_H
#define MR_CONNECTORS_SMTP_LINK_H

#include "connectors/smtp/smtp.h"

struct mr_smtp_link;

enum mr_smtp_result {
    MR_SMTP_SENT = 0,    /* the server took it over */
    MR_SMTP_NOT_REACHED, /* no connection, no TLS, no log-in: nothing was said of the mail */
    MR_SMTP_TEMPORARY,   /* 4xx, or the connection broke before the mail was handed over */
    MR_SMTP_PERMANENT,   /* 5xx to the sender or a recipient: to the envelope */
    MR_SMTP_REJECTED,    /* 5xx to the mail itself */
    MR_SMTP_UNKNOWN,     /* the connection broke before the last answer */
};

/** @param tick called about once a second while a call below runs; false ends it */
MR_MUST_USE enum mr_status mr__smtp_link_create(const struct mr_smtp_options *options,
                                                bool (*tick)(void *context), void *context,
                                                struct mr_smtp_link **ret_link,
                                                struct mr_problem *problem);
void mr__smtp_link_destroy(struct mr_smtp_link *link); /* NULL-safe; says goodbye */

/** Connects, or sees that the connection still works. @return MR_SMTP_SENT when it does */
enum mr_smtp_result mr__smtp_link_probe(struct mr_smtp_link *link);
/** Sends @p mail to all recipients or to none. @param timeout_ns of it all, connecting included */
enum mr_smtp_result mr__smtp_link_send(struct mr_smtp_link *link, struct mr_bytes mail,
                                       uint64_t timeout_ns);
/** Why the last call did not succeed; with the server's words where it said some. */
const char *mr__smtp_link_text(const struct mr_smtp_link *link);

#endif
