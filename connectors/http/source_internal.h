/* What the files of the HTTP source share: source.c (life), source_request.c (a request's way in),
 * source_batch.c (batches out and answers back), source_wait.c (answers that wait for the
 * worker's), source_sns.c (certificates and confirmations).
 *
 * Without a comment a field is of the listener's thread, and of the control thread once stop() has
 * taken the watch out. */
#ifndef MR_CONNECTORS_HTTP_SOURCE_INTERNAL_H
#define MR_CONNECTORS_HTTP_SOURCE_INTERNAL_H

#include "connectors/http/courier.h"
#include "connectors/http/internal.h"
#include "connectors/http/source.h"
#include "core/rng.h"

enum {
    MR__HTTP_RETRY_AFTER_S = 1,
    MR__HTTP_ORIGINS_MAX = 64,
    MR__HTTP_WAITS_MAX = 256, /* requests of a source that wait for a worker, at most */
};

/* Types in the source's queue beside enum mr_source_op. */
enum mr__http_source_op {
    MR__HTTP_SOURCE_WAITED = 99,       /* the await of a struct mr__http_wait */
    MR__HTTP_SOURCE_CERTIFICATE = 100, /* errands that are done */
    MR__HTTP_SOURCE_CONFIRMED,
    MR__HTTP_SOURCE_CALLED_BACK,
};

struct mr__http_sns;

/* A request that wants the worker's result; ours from the question until that came back. */
struct mr__http_wait {
    struct mr_await await;           /* first: cast back from its op */
    struct mr_http_request *request; /* ours; NULL once answered */
    char *accepted;                  /* owned: what is answered when the time is up */
};

struct mr_source {
    struct mr_host *host;                  /* borrowed */
    struct mr_http_listener *listener;     /* borrowed */
    char *name;                            /* owned */
    struct mr_http_source_options options; /* a copy of our own */
    bool has_options;
    unsigned codings;                      /* enum mr_http_coding, or-ed */
    struct mr_http_verifier *verifier;     /* owned; NULL: everybody is believed */
    bool has_body_signature; /* who sent it shows only with the body */
    bool is_lenient;         /* a sender that proved itself gets 202 and a dead letter, not 400 */
    struct mr__http_sns *sns;              /* owned; NULL: another scheme */
    struct mr_http_courier *courier;       /* owned; NULL: no errands to run */
    uint64_t event_size_max;
    uint64_t salt;
    bool has_queue;
    bool has_lock;
    bool is_watched; /* control thread */
    struct mr_opq queue;
    struct mr__http_watch watch;
    struct mr_batch *open; /* of this pass; owned until submitted */
    struct mr_rng rng;
    struct mr_buf answer;
    struct mr_buf plain; /* a decoded body */
    struct mr_http_pace paces[MR__HTTP_ORIGINS_MAX]; /* by index of handshake.origins */
    uint32_t in_flight;             /* batches with the bus */
    uint32_t wait_count;            /* struct mr__http_wait */
    _Atomic uint32_t index;         /* written by reindex; any value read is one it had */
    _Atomic bool paused;            /* relaxed: a request more or less does not matter */
    _Atomic bool slow;              /* the bus wants less; relaxed likewise */
    _Atomic uint64_t pending;       /* bytes of events not yet durable; written by the owner */
    _Atomic uint64_t messages;      /* counters for health, relaxed */
    _Atomic uint64_t errors;
    pthread_mutex_t mu; /* protects the two below */
    char last_error[256];
    uint64_t last_error_wall_ns;
};

/** Counts, and keeps the text for health. */
void mr__http_source_note(struct mr_source *s, const char *text);

/* --- source_request.c ------------------------------------------------------------------------- */

bool mr__http_source_admit(void *source, struct mr_http_request *request);
void mr__http_source_handle(void *source, struct mr_http_request *request);
/** The part behind the signature; also for a request that had to wait for a certificate. */
void mr__http_source_accept(struct mr_source *s, struct mr_http_request *request);
void mr__http_source_refuse(struct mr_source *s, struct mr_http_request *request, const char *why);
/** What the sender repeats when it sends the same again: Idempotency-Key, quoted or not, or the id
 * of Standard Webhooks; empty: nothing. */
struct mr_bytes mr__http_source_repeats(const struct mr_http_request *request);
/** Whether nothing is taken now. */
bool mr__http_source_is_busy(const struct mr_source *s, const char **ret_why);

/* --- source_batch.c --------------------------------------------------------------------------- */

/** Puts all of @p events into the open batch, or none; the request is answered once they are
 * durable. @param rejected NULL, or why this one event is what could not be understood
 * @param wait NULL, or what the request waits for beyond that; taken on success
 * @return MR_E_NOMEM */
MR_MUST_USE enum mr_status mr__http_source_add(struct mr_source *s,
                                               struct mr_http_request *request,
                                               struct mr_events *events, bool is_array,
                                               const char *rejected, struct mr__http_wait *wait);
void mr__http_source_submit(struct mr_source *s);
void mr__http_source_finish(struct mr_source *s, struct mr_batch *batch);

/* --- source_wait.c ---------------------------------------------------------------------------- */

/** What the argument `wait` of @p request asks for.
 * @param[out] ret_wait NULL: nothing; mr__http_wait_destroy() unless it was added
 * @return false: the request was answered, with what is wrong or that too many wait */
bool mr__http_wait_read(struct mr_source *s, struct mr_http_request *request,
                        struct mr__http_wait **ret_wait);
void mr__http_wait_destroy(struct mr__http_wait *wait);
/** Asks the engine; before the batch is submitted. */
void mr__http_wait_begin(struct mr_source *s, struct mr__http_wait *wait,
                         struct mr_http_request *request, const struct mr_batch *batch,
                         uint32_t item);
/** The question came back: answers. */
void mr__http_wait_finish(struct mr_source *s, struct mr__http_wait *wait);

/* --- source_sns.c ----------------------------------------------------------------------------- */

/** @return MR_E_INVALID: the certificate's file is none; MR_E_NOMEM */
MR_MUST_USE enum mr_status mr__http_sns_create(const struct mr_http_verify_options *options,
                                               struct mr__http_sns **ret_sns,
                                               struct mr_problem *problem);
/** Answers those that wait with 503. NULL is a no-op. */
void mr__http_sns_release(struct mr_source *s);
void mr__http_sns_destroy(struct mr__http_sns *sns);
/** Judges the request: refuses it, accepts it, or keeps it until the certificate is there. */
void mr__http_sns_handle(struct mr_source *s, struct mr_http_request *request);
/** A certificate came, or did not. */
void mr__http_sns_certificate(struct mr_source *s, struct mr_http_errand *errand);
/** Fetches @p url, which a message whose signature held named. */
void mr__http_sns_confirm(struct mr_source *s, const char *url);

#endif
