/* How the bytes of an exchange travel. Two implementations: libcurl, for everything, and a small
 * HTTP/1.1 client of our own for plain http:// to numeric addresses and localhost, at a quarter of
 * the cost. Both belong to one target's thread. */
#ifndef MR_CONNECTORS_HTTP_TRANSPORT_H
#define MR_CONNECTORS_HTTP_TRANSPORT_H

#include <sys/socket.h>

#include "connectors/http/exchange.h"

struct mr_http_transport {
    const struct mr_http_transport_ops *ops;
};

struct mr_http_transport_options {
    const struct mr_http_client_options *options; /* borrowed: outlives the transport */
    uint32_t capacity;                            /* exchanges at once */
    /* An exchange is over: its response is complete (failure NULL), or none came. The exchange is
     * the caller's again. Never called from within start() or abort(). */
    void (*done)(void *context, struct mr_http_exchange *x, const enum mr_http_failure *failure,
                 const char *text);
    void *context;
};

struct mr_http_transport_ops {
    /* Sends the request of @p x; done() follows, always, unless it is aborted.
     * @return MR_E_NOMEM, MR_E_UNAVAILABLE: not started, done() does not follow */
    enum mr_status (*start)(struct mr_http_transport *transport, struct mr_http_exchange *x);
    /* Forgets @p x; its connection is closed. done() does not follow. */
    void (*abort)(struct mr_http_transport *transport, struct mr_http_exchange *x);
    /* Waits for the network, or for @p fd to be readable, at most @p wait_ms, and makes progress
     * without blocking. */
    void (*run)(struct mr_http_transport *transport, int fd, int wait_ms);
    void (*destroy)(struct mr_http_transport *transport); /* all exchanges are over */
};

MR_MUST_USE enum mr_status mr_http_curl_create(const struct mr_http_transport_options *options,
                                               struct mr_http_transport **ret_transport,
                                               struct mr_problem *problem);

/** Whether the transport of our own can carry exchanges to the URL of @p options. */
bool mr_http_wire_fits(const struct mr_http_client_options *options);
enum { MR__HTTP_ADDRESSES_MAX = 2 };
/** The addresses @p url means without asking anybody. @return how many; 0: a name it is */
uint32_t mr__http_wire_addresses(const struct mr_url *url,
                                 struct sockaddr_storage ret[MR__HTTP_ADDRESSES_MAX]);
/** What every request begins with: request line, Host, Accept, credentials. */
MR_MUST_USE enum mr_status mr__http_wire_prefix(const struct mr_url *url, struct mr_buf *out);
MR_MUST_USE enum mr_status mr_http_wire_create(const struct mr_http_transport_options *options,
                                               struct mr_http_transport **ret_transport,
                                               struct mr_problem *problem);

#endif
