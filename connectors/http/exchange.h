/* One delivery over HTTP, apart from how the bytes travel: the request made of a hand-out, the
 * bounded response gathered, and the verdict. Also the pure tables behind it.
 *
 * Owned by the target's thread; reused for one hand-out after the other. */
#ifndef MR_CONNECTORS_HTTP_EXCHANGE_H
#define MR_CONNECTORS_HTTP_EXCHANGE_H

#include "bus/ports.h"
#include "connectors/http/client.h"
#include "core/limits.h"
#include "schemas/binding.h"

enum {
    MR_HTTP_RESULT_SIZE_MAX = 64 * 1024, /* of a reply kept as the result of the delivery */
    MR_HTTP_LINES_MAX = 192,             /* header lines of a request: attributes, options, ours */
};

/* The parts of every request of one target that never change. */
struct mr_http_request_plan {
    enum mr_mode mode;
    bool is_worker;
    const char *target;       /* borrowed; its name, for answer.instance */
    const char *version;      /* borrowed; for answer.version */
    struct mr_buf fixed;      /* "Name: value" lines, NUL-terminated each; secrets in it */
    uint32_t fixed_count;
    struct mr_secret *sign_keys[2]; /* owned; Standard Webhooks, the present one first */
    uint32_t sign_key_count;
};

struct mr_http_exchange {
    struct mr_handout *handout; /* owned while in flight; of a batch the first of its chain */
    void *transfer; /* the transport's own; NULL while it does not have the exchange */
    /* Request. */
    struct mr_message message;
    struct mr_buf lines; /* "Name: value" lines of this request, NUL-terminated each */
    uint32_t line_at[MR_HTTP_LINES_MAX];
    uint32_t line_count;
    struct mr_bytes request_body; /* slice of the message */
    /* Response. */
    unsigned status; /* 0: none came */
    bool is_head_whole; /* the empty line behind the header of `status` came */
    struct mr_buf response_text; /* names and values of the fields kept */
    uint32_t field_at[MR_EVENT_ATTRS_MAX * 2][4]; /* name at, size; value at, size */
    uint32_t field_count;
    bool fields_cut;
    struct mr_buf response_body;
    bool body_cut; /* it was larger than MR_RESPONSE_SIZE_MAX */
    bool has_retry_after;
    uint64_t retry_after_ns;
    struct mr_http_exchange *next; /* among the free */
};

/* Why no response came. */
enum mr_http_failure {
    MR_HTTP_NOT_REACHED, /* no connection, no name, no TLS: no handler saw it */
    MR_HTTP_TIMED_OUT,   /* sent, no complete answer in time */
    MR_HTTP_BROKEN,      /* sent, and the connection broke or spoke no HTTP */
    MR_HTTP_STOPPED,     /* we are stopping */
    MR_HTTP_NOT_STARTED, /* we stop or are short, before it was sent */
    MR_HTTP_STALE,       /* a kept connection was closed by the peer as we took it */
};

/** What a final status means (digest 15.1): OK for 2xx; REFUSED for 429 and 503; RETRY for 404,
 * 408, 409, other 5xx and codes beyond; DEAD for 1xx, 3xx and the other 4xx. @thread any */
enum mr_verdict mr_http_verdict(unsigned status);

/** Retry-After: seconds or an HTTP date, at most a year. @return false: neither. @thread any */
bool mr_http_retry_after(struct mr_bytes value, uint64_t wall_ns, uint64_t *ret_ns);

/** Fills the fixed lines from @p options. */
MR_MUST_USE enum mr_status mr_http_plan_init(struct mr_http_request_plan *plan,
                                             const struct mr_http_client_options *options,
                                             bool is_worker, const char *target,
                                             const char *version);
/** The name by which we ask for consent: `origin`, else this machine's name.
 * @param ret at least MR_HTTP_ORIGIN_SIZE_MAX + 1 bytes */
void mr_http_plan_origin(const struct mr_http_client_options *options, char *ret);
/** Wipes what is secret. */
void mr_http_plan_release(struct mr_http_request_plan *plan);

void mr_http_exchange_init(struct mr_http_exchange *x);
void mr_http_exchange_release(struct mr_http_exchange *x);

/** Takes @p handout over, or the chain of a batch, and makes its request.
 * @return MR_E_TOO_BIG or MR_E_NOMEM; the hand-out is the exchange's in every case */
MR_MUST_USE enum mr_status mr_http_exchange_begin(struct mr_http_exchange *x,
                                                  const struct mr_http_request_plan *plan,
                                                  struct mr_handout *handout);
/** A status line came: forgets what interim responses brought. */
void mr_http_exchange_status(struct mr_http_exchange *x, unsigned status);
/** A header field came; kept when it matters. */
void mr_http_exchange_field(struct mr_http_exchange *x, struct mr_bytes name,
                            struct mr_bytes value);
/** The empty line behind a header came. */
void mr_http_exchange_head_end(struct mr_http_exchange *x);
/** Bytes of the body came. @return false: too many, no need to read on */
bool mr_http_exchange_body(struct mr_http_exchange *x, struct mr_bytes data);

/** Writes the answer from the response and hands the hand-out, or the chain, back, the caller's
 * again. */
struct mr_handout *mr_http_exchange_finish(struct mr_http_exchange *x,
                                           const struct mr_http_request_plan *plan);
/** Writes the answer for want of a response. @p text says what happened. */
struct mr_handout *mr_http_exchange_fail(struct mr_http_exchange *x,
                                         const struct mr_http_request_plan *plan,
                                         enum mr_http_failure failure, const char *text);

#endif
