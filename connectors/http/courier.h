/* Small requests beside the stream of events: a signer's certificate, the confirmation of a
 * subscription, the handshake with a webhook's receiver. One thread, one request at a time over
 * libcurl, started with the first errand; answers bounded, redirects never followed, TLS verified,
 * the connected address judged by the errand's egress policy. */
#ifndef MR_CONNECTORS_HTTP_COURIER_H
#define MR_CONNECTORS_HTTP_COURIER_H

#include "connectors/egress.h"
#include "core/bytes.h"
#include "core/opq.h"
#include "core/problem.h"
#include "schemas/binding.h"

enum {
    MR_HTTP_ERRAND_HEADERS_MAX = 4,    /* of a request */
    MR_HTTP_ERRAND_ANSWERS_MAX = 4,    /* of the response, that are kept */
    MR_HTTP_ERRAND_BODY_MAX = 64 * 1024,
    MR_HTTP_COURIER_ERRANDS_MAX = 64,  /* waiting */
};

struct mr_http_courier;

/* One request; belongs to the courier from send until it is in the reply queue. */
struct mr_http_errand {
    struct mr_op op;    /* its type is the owner's */
    const char *method; /* static: "GET", "OPTIONS" */
    char *url;          /* owned */
    char *headers[MR_HTTP_ERRAND_HEADERS_MAX]; /* owned, "Name: value"; NULL: no more */
    char *tls_ca;       /* owned; NULL: the system's */
    bool is_plain;      /* http:// will do; else https:// only */
    enum mr_egress egress;
    void *context;      /* the owner's */
    /* What came of it. */
    unsigned status;    /* 0: no answer, `error` says why */
    struct mr_buf body;
    struct mr_buf text; /* names and values of `answers` */
    uint32_t answer_at[MR_HTTP_ERRAND_ANSWERS_MAX][4];
    uint32_t answer_count; /* headers of the answer that begin with "WebHook-" */
    char error[256];
};

/** An errand to @p url, copied. NULL: memory is short */
struct mr_http_errand *mr_http_errand_create(const char *method, const char *url);
/** Adds "@p name: @p value". @return MR_E_NOMEM, MR_E_TOO_BIG: it has enough */
MR_MUST_USE enum mr_status mr_http_errand_header(struct mr_http_errand *errand, const char *name,
                                                 const char *value);
void mr_http_errand_destroy(struct mr_http_errand *errand);
/** The headers of the answer that were kept. @return how many */
uint32_t mr_http_errand_answers(const struct mr_http_errand *errand,
                                struct mr_field ret[MR_HTTP_ERRAND_ANSWERS_MAX]);

/** @param replies takes every errand that is done; outlives the courier. Contacts nobody. */
MR_MUST_USE enum mr_status mr_http_courier_create(struct mr_opq *replies,
                                                  struct mr_http_courier **ret_courier);
/** Sends @p errand off; it comes back in the reply queue, unless the courier is destroyed before.
 * @return MR_E_FULL, MR_E_UNAVAILABLE: it is the caller's still. @thread one at a time; never
 * blocks beyond a mutex */
MR_MUST_USE enum mr_status mr_http_courier_send(struct mr_http_courier *courier,
                                                struct mr_http_errand *errand);
/** Gives up what is under way and frees it; joins. NULL is a no-op. */
void mr_http_courier_destroy(struct mr_http_courier *courier);

#endif
