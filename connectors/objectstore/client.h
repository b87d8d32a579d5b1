/* The HTTP client of object stores and queues: signed calls over libcurl's multi interface, as
 * many at once as its capacity, all on the thread of their owner. TLS verifies chain and host,
 * redirects are not followed (a redirect means: wrong region), answers are bounded, proxies and
 * .netrc of the environment are ignored.
 *
 *     for (;;) { … mr__client_start(client, call) … mr__client_run(client, fd, wait_ms); }
 *
 * A call's `done` is called from mr__client_run() on the same thread, once for each call that was
 * started and not aborted; it may start further calls. */
#ifndef MR_CONNECTORS_OBJECTSTORE_CLIENT_H
#define MR_CONNECTORS_OBJECTSTORE_CLIENT_H

#include "config/option.h"
#include "connectors/egress.h"
#include "connectors/objectstore/sign.h"

struct mr_client;
struct mr_transfer;

struct mr_client_options {
    const struct mr_url *url; /* borrowed; scheme, host and port of every call */
    const struct mr_credentials *credentials; /* borrowed */
    const char *region;  /* borrowed */
    const char *service; /* static: "s3", "sqs" */
    const char *tls_ca;  /* borrowed; PEM file, NULL: the system's */
    uint64_t connect_timeout_ns;
    enum mr_egress egress;
    uint32_t capacity; /* calls at once */
};

struct mr_call {
    /* In; borrowed memory lives until done. */
    const char *method;
    struct mr_buf path;       /* percent-encoded, "/" at least */
    struct mr_buf query;      /* as mr_sign_input.query; empty: none */
    const char *content_type; /* NULL: none */
    const char *target;       /* x-amz-target, NULL: none */
    struct mr_bytes body;     /* borrowed */
    uint64_t timeout_ns;      /* of the whole call */
    uint64_t silence_ns;      /* longest time without a byte, whole seconds; 0: any */
    void (*done)(void *context, struct mr_call *call);
    void *context;
    /* Out. */
    unsigned status;      /* of the answer; 0: none came, `error` says why */
    bool is_sent;         /* the request may have reached the other side */
    bool is_head_whole;
    bool is_timeout;
    bool is_too_big;      /* the answer did not fit `answer` */
    struct mr_buf answer; /* bounded by its size_max */
    struct mr_buf etag;
    uint64_t retry_after_ns; /* 0: not told */
    char region[32];         /* x-amz-bucket-region, "" when not told */
    char error[256];
    struct mr_transfer *transfer; /* while it runs; the client's own */
};

/** @param answer_size_max of the body of the answer */
void mr__call_init(struct mr_call *call, size_t answer_size_max);
void mr__call_release(struct mr_call *call);
/** Empties what is out, and path, query and body; method and the rest stay. */
void mr__call_clear(struct mr_call *call);

MR_MUST_USE enum mr_status mr__client_create(const struct mr_client_options *options,
                                             struct mr_client **ret_client,
                                             struct mr_problem *problem);
/** NULL-safe. What still runs is aborted without `done`. */
void mr__client_destroy(struct mr_client *client);
/** @return MR_E_FULL: the capacity is used up; MR_E_NOMEM. `done` is not called then. */
MR_MUST_USE enum mr_status mr__client_start(struct mr_client *client, struct mr_call *call);
/** Ends a started call without `done`. */
void mr__client_abort(struct mr_client *client, struct mr_call *call);
/** Moves what can be moved, calls `done`s, and when there was none waits for the network, for
 * @p fd to become readable, or @p wait_ms. */
void mr__client_run(struct mr_client *client, int fd, int wait_ms);

/** What went wrong with an answer that is no success, in words for the person who can mend it:
 * status, the service's own code and message (from XML or JSON), and what the usual codes mean.
 * @param[out] text of @p size bytes; @param[out] code the service's own code, "" when none */
#define MR_CALL_CODE_SIZE 64u
void mr__call_explain(const struct mr_call *call, const struct mr_client_options *options,
                      char *text, size_t size, char code[MR_CALL_CODE_SIZE]);

/** What a call's end means for whoever wanted it. */
enum mr_call_end {
    MR_CALL_OK = 0,
    MR_CALL_REFUSED, /* reached nobody, or 429, 503, slow down: try again, it does not count */
    MR_CALL_RETRY,   /* may be otherwise later, after the operator's doing too (rights, names) */
    MR_CALL_NEVER,   /* this request will never be taken */
};
enum mr_call_end mr__call_end(const struct mr_call *call, const char *code);

#endif
