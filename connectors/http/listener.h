/* The HTTP listener: libmicrohttpd driven from a loop of our own on one thread (its internal epoll
 * thread can stall at 256, 384 or 512 busy connections). Serves the ingest port (TCP) and the admin
 * socket (Unix); routes are added by their owners before start or while it runs.
 *
 * A request is held (suspended) until somebody answers it, from any thread: answers are queued and
 * all connections of a group are resumed with one wake-up. Bodies are bounded while they arrive. */
#ifndef MR_CONNECTORS_HTTP_LISTENER_H
#define MR_CONNECTORS_HTTP_LISTENER_H

#include "core/opq.h"
#include "core/problem.h"
#include "schemas/binding.h"

struct mr_http_listener;
struct mr_http_request; /* one request; owned by the listener, valid until answered */

enum mr_http_method {
    MR_HTTP_GET = 1,
    MR_HTTP_POST = 2,
    MR_HTTP_PUT = 4,
    MR_HTTP_DELETE = 8,
    MR_HTTP_OPTIONS = 16,
};

struct mr_http_route {
    unsigned methods;  /* enum mr_http_method, or-ed; others get 405 with Allow */
    const char *path;  /* copied; "/events", or a prefix ending in "/" + "*": "/api/v1/dlq/…" */
    size_t body_max;   /* bytes; above it 413 before the body is read to its end */
    /* Called on the listener's thread once the body is complete; must not block. It answers now,
     * or keeps the request and answers later from any thread with mr_http_answer(). */
    void (*handle)(void *context, struct mr_http_request *request);
    /* May be NULL. Called on the listener's thread when the header is there, before anything else
     * is said about the request (method, size) and before its body is read. Answers and returns
     * false, or returns true to go on. The body is not there yet. */
    bool (*admit)(void *context, struct mr_http_request *request);
    /* The handler looks at path, headers and arguments before it returns and never from another
     * thread: they need not be copied for a request that it keeps. */
    bool fields_borrowed;
    void *context; /* borrowed: outlives the route */
};

struct mr_http_listener_options {
    const char *host; /* "127.0.0.1", "::1", "localhost"; NULL for a Unix socket */
    uint16_t port;    /* 0: any free one */
    const char *socket_path; /* Unix socket, mode 0600, replaced if it exists and nobody listens;
                                peers of another uid (SO_PEERCRED) than ours or root are closed */
    uint32_t connections_max;
    uint64_t idle_timeout_ns;  /* default 60 s */
};

MR_MUST_USE enum mr_status mr_http_listener_create(const struct mr_http_listener_options *options,
                                                   struct mr_http_listener **ret_listener,
                                                   struct mr_problem *problem);
/** Binds and starts the thread. @return MR_E_UNAVAILABLE: address in use, named */
MR_MUST_USE enum mr_status mr_http_listener_start(struct mr_http_listener *listener,
                                                  struct mr_problem *problem);
/** The bound TCP port. @thread any, after start */
uint16_t mr_http_listener_port(const struct mr_http_listener *listener);
/** Adds or replaces the route of the same path. @thread any
 * @return MR_E_EXISTS when the path belongs to another context and @p replace is false */
MR_MUST_USE enum mr_status mr_http_listener_route(struct mr_http_listener *listener,
                                                  const struct mr_http_route *route, bool replace);
/** Removes every route of @p context; when it returns, no handler of it runs any more. Requests it
 * keeps must still be answered by it. @thread any but the listener's own */
void mr_http_listener_unroute(struct mr_http_listener *listener, void *context);
/** From now on a path without a route gets 503, not 404: its owner has stopped before us, and 404
 * would tell a sender never to come back. @thread any */
void mr_http_listener_drain(struct mr_http_listener *listener);
/** Closes the socket, answers what is still held with 503, joins. */
void mr_http_listener_stop(struct mr_http_listener *listener, uint64_t deadline_mono_ns);
void mr_http_listener_destroy(struct mr_http_listener *listener);

/* --- inside a handler, or while the request is kept ------------------------------------------- */

enum mr_http_method mr_http_request_method(const struct mr_http_request *request);
const char *mr_http_request_path(const struct mr_http_request *request);
/** The decoded query argument, or NULL. */
const char *mr_http_request_query(const struct mr_http_request *request, const char *name);
/** All header fields, in order of arrival; valid until answered. */
const struct mr_field *mr_http_request_headers(const struct mr_http_request *request,
                                               uint32_t *ret_count);
/** The first field called @p name (any case), or an empty slice. */
struct mr_bytes mr_http_request_header(const struct mr_http_request *request, const char *name);
struct mr_bytes mr_http_request_body(const struct mr_http_request *request);
/** One pointer of the route owner's, kept with the request. */
void mr_http_request_set_context(struct mr_http_request *request, void *context);
void *mr_http_request_context(const struct mr_http_request *request);

struct mr_http_answer {
    unsigned status;
    const char *content_type;   /* NULL: none */
    struct mr_bytes body;       /* copied */
    const struct mr_field *headers; /* further headers; copied */
    uint32_t header_count;
};

/** Answers, exactly once; the request is gone afterwards. Also works while the peer has left.
 * @thread any */
void mr_http_answer(struct mr_http_request *request, const struct mr_http_answer *answer);

/** A streamed answer (server-sent events): begin, then any number of chunks, then end.
 * A slow reader's chunks are bounded: MR_E_FULL drops the connection. @thread any, one at a time */
MR_MUST_USE enum mr_status mr_http_stream_begin(struct mr_http_request *request,
                                                const char *content_type);
MR_MUST_USE enum mr_status mr_http_stream_write(struct mr_http_request *request,
                                                struct mr_bytes chunk);
void mr_http_stream_end(struct mr_http_request *request);

#endif
