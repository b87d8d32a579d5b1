/* AWS Signature Version 4, and the percent-encoding it is computed over.
 *
 * Written here because libcurl signs what it is given as it stands: it neither sorts the query nor
 * encodes path and query the way the server will, and later versions do it in other ways. Pure;
 * any thread. The secret never leaves libcrypto's calls. */
#ifndef MR_CONNECTORS_OBJECTSTORE_SIGN_H
#define MR_CONNECTORS_OBJECTSTORE_SIGN_H

#include "core/problem.h"
#include "core/secret.h"
#include "schemas/binding.h"

/* Without an access key requests go out unsigned. */
struct mr_credentials {
    char *access_key;                /* owned; NULL: none */
    struct mr_secret *secret_key;    /* owned */
    struct mr_secret *session_token; /* owned; NULL: none */
};

/** From the options when they are set, else from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
 * AWS_SESSION_TOKEN, else none.
 * @return MR_E_INVALID: one of the pair is missing; MR_E_NOMEM */
MR_MUST_USE enum mr_status mr__credentials_init(struct mr_credentials *credentials,
                                                const char *access_key,
                                                const struct mr_secret *secret_key,
                                                const struct mr_secret *session_token,
                                                struct mr_problem *problem);
void mr__credentials_release(struct mr_credentials *credentials);

#define MR_SHA256_HEX_SIZE 65u  /* with its NUL */
#define MR_AMZ_DATE_SIZE 17u    /* 20260102T030405Z and a NUL */

struct mr_sign_input {
    const char *method;
    struct mr_bytes path;  /* percent-encoded, as it is sent; "/" at least */
    struct mr_bytes query; /* encoded, sorted by name, every name with its "="; without "?" */
    const struct mr_field *headers; /* those signed: lower-case names, sorted */
    uint32_t header_count;
    const char *body_hash; /* hex SHA-256 of the body */
    const char *date;      /* mr__sign_date(), also sent as x-amz-date */
    const char *region;
    const char *service; /* "s3", "sqs" */
};

/** @p wall_ns as 20260102T030405Z. */
void mr__sign_date(uint64_t wall_ns, char text[MR_AMZ_DATE_SIZE]);
/** Hex SHA-256 of @p data. @return MR_E_NOMEM: libcrypto had no memory */
MR_MUST_USE enum mr_status mr__sign_hash(struct mr_bytes data, char text[MR_SHA256_HEX_SIZE]);
/** Appends the value of the Authorization header. @return MR_E_NOMEM, MR_E_TOO_BIG of @p out */
MR_MUST_USE enum mr_status mr__sign(const struct mr_credentials *credentials,
                                    const struct mr_sign_input *input, struct mr_buf *out);

/** Appends @p text with all but A-Z a-z 0-9 - . _ ~ (and "/" when @p keep_slash) as %XX.
 * @return MR_E_NOMEM, MR_E_TOO_BIG of @p out */
MR_MUST_USE enum mr_status mr__uri_encode(struct mr_buf *out, struct mr_bytes text,
                                          bool keep_slash);
/** Appends what @p text stands for: %XX and "+" for a blank.
 * @return MR_E_INVALID: a percent sign without two digits */
MR_MUST_USE enum mr_status mr__uri_decode(struct mr_buf *out, struct mr_bytes text);

#endif
