/* Who sent a webhook: signatures and credentials over the raw bytes of a request (digest 13.6).
 * Pure functions of options and request; comparisons take the same time for every wrong value.
 *
 * A verifier knows one or two secrets; a request is good when either fits, so that a secret can be
 * changed without a gap. What a signature does not cover (GitHub's delivery id, Shopify's topic) is
 * a claim of whoever holds one good message.
 *
 * Owned by one source; used by one thread at a time. */
#ifndef MR_CONNECTORS_HTTP_VERIFY_H
#define MR_CONNECTORS_HTTP_VERIFY_H

#include "connectors/blocks.h"
#include "schemas/binding.h"

enum mr_http_scheme {
    MR_HTTP_SCHEME_NONE = 0,
    MR_HTTP_SCHEME_GITHUB,   /* X-Hub-Signature-256 */
    MR_HTTP_SCHEME_GITLAB,   /* X-Gitlab-Token */
    MR_HTTP_SCHEME_STRIPE,   /* Stripe-Signature, timestamped */
    MR_HTTP_SCHEME_SHOPIFY,  /* X-Shopify-Hmac-SHA256 */
    MR_HTTP_SCHEME_STANDARD, /* Standard Webhooks: v1 (HMAC) and v1a (ed25519), timestamped */
    MR_HTTP_SCHEME_HMAC,     /* the body's HMAC in a header of the options */
    MR_HTTP_SCHEME_BEARER,   /* Authorization: Bearer, or the query argument access_token */
    MR_HTTP_SCHEME_BASIC,    /* Authorization: Basic; the secret is user:password */
    MR_HTTP_SCHEME_SNS,      /* Amazon SNS: in the body; see sns.h, not verified here */
};

/* By enum mr_http_scheme, NULL-terminated. */
extern const char *const mr__http_scheme_words[];

struct mr_http_verifier;

struct mr_http_signed {
    const struct mr_field *headers; /* names in any case; the first of a name counts */
    uint32_t header_count;
    struct mr_bytes access_token; /* the query argument; empty when there is none */
    struct mr_bytes body;         /* as it came */
    uint64_t wall_ns;
};

/** A verifier of @p options, which are copied. Free with mr_http_verifier_destroy().
 * @return MR_E_INVALID: the options make no sense; MR_E_NOMEM */
MR_MUST_USE enum mr_status mr_http_verifier_create(const struct mr_http_verify_options *options,
                                                   struct mr_http_verifier **ret_verifier,
                                                   struct mr_problem *problem);
void mr_http_verifier_destroy(struct mr_http_verifier *verifier);

/** What can be said before the body is there: credentials, a missing or malformed signature, a
 * timestamp outside the window.
 * @return NULL: good so far; else why not, a static text for the journal, not for the sender */
const char *mr_http_verify_head(const struct mr_http_verifier *verifier,
                                const struct mr_http_signed *message);
/** The whole request. @return as above */
const char *mr_http_verify(const struct mr_http_verifier *verifier,
                           const struct mr_http_signed *message);
/** The value of WWW-Authenticate for a 401. */
const char *mr_http_verify_challenge(const struct mr_http_verifier *verifier);

#endif
