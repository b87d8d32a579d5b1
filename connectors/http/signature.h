/* HMAC, and the signatures of Standard Webhooks, for those who verify and those who sign. Pure. */
#ifndef MR_CONNECTORS_HTTP_SIGNATURE_H
#define MR_CONNECTORS_HTTP_SIGNATURE_H

#include "core/problem.h"
#include "core/secret.h"

#define MR_HTTP_DIGEST_SIZE_MAX 64u

/** The HMAC of @p count parts, one after the other.
 * @param digest the hash as OpenSSL calls it: "SHA256"; at most 15 characters
 * @return its size; 0: the library failed. @thread any */
size_t mr_http_hmac(const char *digest, struct mr_bytes key, const struct mr_bytes *parts,
                    uint32_t count, uint8_t ret_digest[MR_HTTP_DIGEST_SIZE_MAX]);

/** The signature of a Standard Webhooks message, "v1," and base64 for each of @p keys, appended
 * with blanks between. @return MR_E_TOO_BIG, MR_E_NOMEM, MR_E_UNAVAILABLE */
MR_MUST_USE enum mr_status mr_http_sign_standard(struct mr_secret *const *keys, uint32_t key_count,
                                                 struct mr_bytes id, struct mr_bytes timestamp,
                                                 struct mr_bytes body, struct mr_buf *out);
/** The key of a Standard Webhooks secret: "whsec_" and base64, base64 alone, or, when it is
 * neither, the bytes themselves. @return MR_E_INVALID: "whsec_" without good base64; MR_E_NOMEM */
MR_MUST_USE enum mr_status mr_http_standard_key(const struct mr_secret *secret,
                                                struct mr_secret **ret_key,
                                                struct mr_problem *problem);
/** The bytes that @p text stands for in base64. @return MR_E_INVALID: it is none; MR_E_NOMEM */
MR_MUST_USE enum mr_status mr__http_decode_secret(struct mr_bytes text,
                                                  struct mr_secret **ret_secret);

#endif
