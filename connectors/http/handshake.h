/* The abuse-protection handshake of webhooks (digest 10.3), both ways. Pure functions.
 *
 * A sender asks with OPTIONS whether it may deliver; consent is the header WebHook-Allowed-Origin,
 * never the status. Origins are compared as whole DNS names. */
#ifndef MR_CONNECTORS_HTTP_HANDSHAKE_H
#define MR_CONNECTORS_HTTP_HANDSHAKE_H

#include "config/option.h"
#include "schemas/binding.h"

enum mr_http_grant {
    MR_HTTP_GRANT_ANSWER = 0, /* consent in the answer to OPTIONS */
    MR_HTTP_GRANT_CALLBACK,   /* by a request to the sender's callback URL */
};

/* Options of `handshake:` of an http source. */
struct mr_http_handshake_options {
    struct mr_strings origins; /* DNS names, or "*"; none: no handshake */
    int64_t rate;              /* requests a minute that an origin may send; 0: any */
    int grant;                 /* enum mr_http_grant */
};

extern const struct mr_option mr_http_handshake_option_table[];

MR_MUST_USE enum mr_status mr_http_handshake_check(const struct mr_http_handshake_options *options,
                                                   struct mr_problem *problem);

enum { MR_HTTP_HANDSHAKE_HEADERS = 3, MR_HTTP_ORIGIN_SIZE_MAX = 253 };

struct mr_http_consent {
    unsigned status;
    struct mr_field headers[MR_HTTP_HANDSHAKE_HEADERS]; /* slices of the options and of `rate` */
    uint32_t header_count;
    char rate[24];
    const char *origin;       /* the entry of the options that let it in; NULL: none */
    struct mr_bytes callback; /* to be asked for, with consent given; empty: not to be called.
                                 Slice of the request */
    bool is_refused;          /* no consent, in either way */
};

/** The index of the entry of `origins` that lets @p origin in, or -1. */
int mr_http_handshake_origin(const struct mr_http_handshake_options *options,
                             struct mr_bytes origin);

/** The answer to OPTIONS. With MR_HTTP_GRANT_CALLBACK the headers are withheld and `callback` is
 * set, when the request has one that may be called: https, on a host that is the origin or below
 * it, as the URL comes from the sender. */
void mr_http_handshake_answer(const struct mr_http_handshake_options *options,
                              const struct mr_field *headers, uint32_t header_count,
                              struct mr_http_consent *ret_consent);

/** The sender's side: whether the answer's headers let @p origin deliver.
 * @param[out] ret_rate requests a minute; 0: any. Set only with consent */
bool mr_http_handshake_granted(struct mr_bytes origin, const struct mr_field *headers,
                               uint32_t header_count, uint64_t *ret_rate);

/* --- the granted rate, on either side --------------------------------------------------------- */

/* A bucket of tokens, full at first; a tenth of a minute's requests may come at once. */
struct mr_http_pace {
    uint64_t rate;     /* a minute; 0: any */
    uint64_t free_ns;  /* how much of the past is still to be spent; see the .c */
    uint64_t last_ns;
};

/** Takes a token. @return 0: taken; else how long until there is one */
uint64_t mr_http_pace_take(struct mr_http_pace *pace, uint64_t now_ns);

#endif
