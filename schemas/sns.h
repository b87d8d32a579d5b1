/* The signature of AWS SNS messages (digest 13.1, 13.6). Pure: the certificate is fetched by the
 * source that got the message.
 *
 * Signed are the members Message, MessageId, Subject, SubscribeURL, Timestamp, Token, TopicArn and
 * Type of the body. Nothing else is: the headers x-amz-sns-… (the subscription's ARN among them)
 * are claims, and with raw delivery there is no signature at all. The adapter believes the body
 * where both say something.
 *
 * In the same way only the body is covered by the signatures of GitHub (event name and delivery id
 * are claims: a replay with another id passes), Shopify (topic, shop and webhook id are) and
 * Stripe, whose id and type lie in the body; GitLab's token covers nothing. Whoever must not take
 * one event twice compares a hash of the body besides source and id. */
#ifndef MR_SCHEMAS_SNS_H
#define MR_SCHEMAS_SNS_H

#include <stdbool.h>

#include "core/bytes.h"
#include "core/problem.h"

/** Whether @p url may be asked for a certificate or a confirmation: https, no user, no port but
 * 443, and a host sns.<region>.amazonaws.com (or .com.cn); for certificates (@p certificate) a path
 * ending in .pem, too. */
bool mr_sns_url_is_trusted(struct mr_bytes url, bool certificate);

/** The SigningCertURL of the message @p body.
 * @param[out] ret_url owned by the caller: mr_free()
 * @return MR_E_INVALID: no SNS message; MR_E_DENIED: mr_sns_url_is_trusted() says no; MR_E_NOMEM */
MR_MUST_USE enum mr_status mr_sns_certificate_url(struct mr_bytes body, char **ret_url,
                                                  struct mr_problem *problem);

/** Whether the signature of the message @p body (the bytes as they came) was made with the key of
 * @p certificate_pem, which came from mr_sns_certificate_url(). SignatureVersion 1 is RSA with
 * SHA-1, 2 with SHA-256.
 * @return MR_OK: it was; MR_E_DENIED: it was not, or the version is another; MR_E_INVALID: no SNS
 * message, or no certificate with an RSA key; MR_E_NOMEM */
MR_MUST_USE enum mr_status mr_sns_verify(struct mr_bytes body, struct mr_bytes certificate_pem,
                                         struct mr_problem *problem);

#endif
