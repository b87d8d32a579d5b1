#include "connectors/http/verify.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "connectors/http/signature.h"
#include "core/alloc.h"
#include "core/assert.h"
#include "core/clock.h"

enum {
    KEYS_MAX = 4, /* two secrets, each read in two ways */
    TEXT_SIZE_MAX = 2 * MR_HTTP_DIGEST_SIZE_MAX + 1, /* of a digest, as hex or base64 */
    CANDIDATES_MAX = 16, /* signatures in one header that are looked at */
    ED25519_KEY_SIZE = 32,
    ED25519_SIGNATURE_SIZE = 64,
};

enum encoding { ENCODING_HEX = 0, ENCODING_BASE64 };

struct mr_http_verifier {
    enum mr_http_scheme scheme;
    uint64_t window_s; /* 0: any */
    char *header;      /* owned; lower or upper case does not matter */
    char *prefix;      /* owned; may be NULL */
    enum encoding encoding;
    const char *digest; /* OpenSSL's name of the hash; static */
    struct mr_secret *keys[KEYS_MAX]; /* owned */
    uint32_t key_count;
    struct mr_secret *public_keys[KEYS_MAX]; /* owned; ed25519, ED25519_KEY_SIZE bytes each */
    uint32_t public_key_count;
};

/* --- text ------------------------------------------------------------------------------------- */

/* The first header called @p name, trimmed; empty when there is none. */
static struct mr_bytes find_header(const struct mr_http_signed *message, const char *name)
{
    struct mr_bytes wanted = mr_bytes_of(name);
    for (uint32_t i = 0; i < message->header_count; i++) {
        if (mr_bytes_equal_nocase(message->headers[i].name, wanted)) {
            return mr_bytes_trim(message->headers[i].value);
        }
    }
    return (struct mr_bytes){0};
}

/* Takes what stands before the next @p separator off @p list. @return false: nothing is left */
static bool take_item(struct mr_bytes *list, uint8_t separator, struct mr_bytes *ret_item)
{
    if (list->size == 0) {
        return false;
    }
    const uint8_t *end = memchr(list->data, separator, list->size);
    size_t size = end == NULL ? list->size : (size_t)(end - list->data);
    *ret_item = mr_bytes_trim(mr_bytes(list->data, size));
    size += end != NULL;
    *list = mr_bytes(list->data + size, list->size - size);
    return true;
}

static bool take_prefix(struct mr_bytes *text, const char *prefix)
{
    struct mr_bytes wanted = mr_bytes_of(prefix);
    if (!mr_bytes_starts(*text, wanted)) {
        return false;
    }
    *text = mr_bytes(text->data + wanted.size, text->size - wanted.size);
    return true;
}

/* @return the size of the text, without the NUL */
static size_t encode_digest(enum encoding encoding, const uint8_t *digest, size_t size,
                            char text[TEXT_SIZE_MAX])
{
    static const char digits[] = "0123456789abcdef";
    if (encoding == ENCODING_BASE64) {
        int written = EVP_EncodeBlock((unsigned char *)text, digest, (int)size);
        return (size_t)written;
    }
    for (size_t i = 0; i < size; i++) {
        text[2 * i] = digits[digest[i] >> 4];
        text[2 * i + 1] = digits[digest[i] & 15];
    }
    text[2 * size] = '\0';
    return 2 * size;
}

/* Whether @p claimed is the digest as text, hexadecimal in either case. */
static bool is_digest(enum encoding encoding, const uint8_t *digest, size_t size,
                      struct mr_bytes claimed)
{
    char text[TEXT_SIZE_MAX];
    char lower[TEXT_SIZE_MAX];
    size_t text_size = encode_digest(encoding, digest, size, text);
    if (claimed.size != text_size) {
        return false; /* its size is known to everybody */
    }
    for (size_t i = 0; i < claimed.size; i++) {
        uint8_t c = claimed.data[i];
        bool is_upper = encoding == ENCODING_HEX && c >= 'A' && c <= 'F';
        lower[i] = (char)(is_upper ? c + 32 : c);
    }
    return CRYPTO_memcmp(text, lower, text_size) == 0;
}

/* Whether @p claimed is the HMAC of @p parts under one of the keys. */
static bool fits_a_key(const struct mr_http_verifier *v, const struct mr_bytes *parts,
                       uint32_t count, struct mr_bytes claimed)
{
    bool fits = false;
    for (uint32_t i = 0; i < v->key_count; i++) {
        uint8_t digest[MR_HTTP_DIGEST_SIZE_MAX];
        size_t size = mr_http_hmac(v->digest, mr_secret_use(v->keys[i]), parts, count, digest);
        if (size > 0 && is_digest(v->encoding, digest, size, claimed)) {
            fits = true; /* the others are computed all the same */
        }
    }
    return fits;
}

static const char *check_window(const struct mr_http_verifier *v, struct mr_bytes timestamp,
                                uint64_t wall_ns)
{
    uint64_t at_s;
    if (!mr_parse_u64(timestamp, &at_s)) {
        return "the signature's timestamp is no number";
    }
    uint64_t now_s = wall_ns / MR_SECOND;
    uint64_t off_s = at_s > now_s ? at_s - now_s : now_s - at_s;
    return v->window_s != 0 && off_s > v->window_s
               ? "the signature's timestamp is outside the window"
               : NULL;
}

/* --- the schemes ------------------------------------------------------------------------------ */

static const char NO_SIGNATURE[] = "a request without a signature";
static const char BAD_SIGNATURE[] = "a request with a wrong signature";
static const char NO_CREDENTIALS[] = "a request without the right credentials";

static bool is_a_key(const struct mr_http_verifier *v, struct mr_bytes claimed)
{
    bool fits = false;
    for (uint32_t i = 0; i < v->key_count; i++) {
        fits = mr_secret_equal(v->keys[i], claimed) || fits;
    }
    return fits;
}

/* github, shopify, hmac: the digest of the body in one header. */
static const char *check_digest(const struct mr_http_verifier *v,
                                const struct mr_http_signed *message, bool has_body)
{
    struct mr_bytes claimed = find_header(message, v->header);
    if (claimed.size == 0 || (v->prefix != NULL && !take_prefix(&claimed, v->prefix))) {
        return NO_SIGNATURE;
    }
    return !has_body || fits_a_key(v, &message->body, 1, claimed) ? NULL : BAD_SIGNATURE;
}

/* t=1492774577,v1=5257a8…,v1=…,v0=… */
static const char *check_stripe(const struct mr_http_verifier *v,
                                const struct mr_http_signed *message, bool has_body)
{
    struct mr_bytes list = find_header(message, "stripe-signature");
    struct mr_bytes item;
    struct mr_bytes timestamp = {0};
    struct mr_bytes claimed[CANDIDATES_MAX];
    uint32_t count = 0;
    while (take_item(&list, ',', &item)) {
        if (take_prefix(&item, "t=")) {
            if (timestamp.size > 0) {
                return BAD_SIGNATURE; /* which of them would be the signed one? */
            }
            timestamp = item;
        } else if (take_prefix(&item, "v1=") && count < CANDIDATES_MAX) {
            claimed[count++] = item;
        }
    }
    if (timestamp.size == 0 || count == 0) {
        return NO_SIGNATURE;
    }
    const char *why = check_window(v, timestamp, message->wall_ns);
    if (why != NULL || !has_body) {
        return why;
    }
    const struct mr_bytes parts[] = {timestamp, MR_BYTES_LITERAL("."), message->body};
    bool fits = false;
    for (uint32_t i = 0; i < count; i++) {
        fits = fits_a_key(v, parts, 3, claimed[i]) || fits;
    }
    return fits ? NULL : BAD_SIGNATURE;
}

/* @param signature base64, @param message id.timestamp.body */
static bool check_ed25519(const struct mr_http_verifier *v, struct mr_bytes signature,
                          struct mr_bytes message)
{
    uint8_t raw[ED25519_SIGNATURE_SIZE + 3]; /* the decoder writes whole groups of three */
    const size_t text_size = (ED25519_SIGNATURE_SIZE + 2) / 3 * 4;
    if (signature.size != text_size ||
        EVP_DecodeBlock(raw, signature.data, (int)signature.size) != ED25519_SIGNATURE_SIZE + 2) {
        return false;
    }
    bool fits = false;
    for (uint32_t i = 0; i < v->public_key_count; i++) {
        struct mr_bytes key = mr_secret_use(v->public_keys[i]);
        EVP_PKEY *pkey = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, key.data, key.size);
        EVP_MD_CTX *context = EVP_MD_CTX_new();
        fits = fits ||
               (pkey != NULL && context != NULL &&
                EVP_DigestVerifyInit(context, NULL, NULL, NULL, pkey) == 1 &&
                EVP_DigestVerify(context, raw, ED25519_SIGNATURE_SIZE, message.data,
                                 message.size) == 1);
        EVP_MD_CTX_free(context);
        EVP_PKEY_free(pkey);
    }
    return fits;
}

/* webhook-signature: "v1,<base64> v1a,<base64> …" over id.timestamp.body */
static const char *check_standard(const struct mr_http_verifier *v,
                                  const struct mr_http_signed *message, bool has_body)
{
    struct mr_bytes id = find_header(message, "webhook-id");
    struct mr_bytes timestamp = find_header(message, "webhook-timestamp");
    struct mr_bytes list = find_header(message, "webhook-signature");
    if (id.size == 0 || timestamp.size == 0 || list.size == 0) {
        return NO_SIGNATURE;
    }
    const char *why = check_window(v, timestamp, message->wall_ns);
    if (why != NULL || !has_body) {
        return why;
    }
    const struct mr_bytes dot = MR_BYTES_LITERAL(".");
    const struct mr_bytes parts[] = {id, dot, timestamp, dot, message->body};
    struct mr_buf whole;
    mr_buf_init(&whole, SIZE_MAX / 2);
    enum mr_status r = MR_OK;
    for (size_t i = 0; r == MR_OK && v->public_key_count > 0 && i < MR_ARRAY_COUNT(parts); i++) {
        r = mr_buf_append_bytes(&whole, parts[i]);
    }
    bool fits = false;
    struct mr_bytes item;
    for (int i = 0; i < CANDIDATES_MAX && take_item(&list, ' ', &item); i++) {
        if (take_prefix(&item, "v1a,")) {
            fits = (r == MR_OK && v->public_key_count > 0 &&
                    check_ed25519(v, item, mr_buf_bytes(&whole))) ||
                   fits;
        } else if (take_prefix(&item, "v1,")) {
            fits = fits_a_key(v, parts, MR_ARRAY_COUNT(parts), item) || fits;
        }
    }
    mr_buf_release(&whole);
    return fits ? NULL : BAD_SIGNATURE;
}

static const char *check_bearer(const struct mr_http_verifier *v,
                                const struct mr_http_signed *message)
{
    struct mr_bytes scheme = MR_BYTES_LITERAL("Bearer ");
    struct mr_bytes value = find_header(message, "authorization");
    struct mr_bytes claimed = message->access_token;
    if (value.size >= scheme.size &&
        mr_bytes_equal_nocase(mr_bytes(value.data, scheme.size), scheme)) {
        claimed = mr_bytes_trim(mr_bytes(value.data + scheme.size, value.size - scheme.size));
    }
    return is_a_key(v, claimed) ? NULL : NO_CREDENTIALS;
}

static const char *check_basic(const struct mr_http_verifier *v,
                               const struct mr_http_signed *message)
{
    struct mr_bytes scheme = MR_BYTES_LITERAL("Basic ");
    struct mr_bytes value = find_header(message, "authorization");
    if (value.size < scheme.size ||
        !mr_bytes_equal_nocase(mr_bytes(value.data, scheme.size), scheme)) {
        return NO_CREDENTIALS;
    }
    struct mr_buf plain;
    mr_buf_init(&plain, value.size);
    struct mr_bytes text =
        mr_bytes_trim(mr_bytes(value.data + scheme.size, value.size - scheme.size));
    bool fits = mr_buf_append_unbase64(&plain, text) == MR_OK && is_a_key(v, mr_buf_bytes(&plain));
    if (plain.data != NULL) {
        explicit_bzero(plain.data, plain.capacity);
    }
    mr_buf_release(&plain);
    return fits ? NULL : NO_CREDENTIALS;
}

static const char *check(const struct mr_http_verifier *v, const struct mr_http_signed *message,
                         bool has_body)
{
    switch (v->scheme) {
    case MR_HTTP_SCHEME_GITHUB:
    case MR_HTTP_SCHEME_SHOPIFY:
    case MR_HTTP_SCHEME_HMAC:
        return check_digest(v, message, has_body);
    case MR_HTTP_SCHEME_GITLAB:
        return is_a_key(v, find_header(message, "x-gitlab-token")) ? NULL : NO_CREDENTIALS;
    case MR_HTTP_SCHEME_STRIPE:
        return check_stripe(v, message, has_body);
    case MR_HTTP_SCHEME_STANDARD:
        return check_standard(v, message, has_body);
    case MR_HTTP_SCHEME_BEARER:
        return check_bearer(v, message);
    case MR_HTTP_SCHEME_BASIC:
        return check_basic(v, message);
    case MR_HTTP_SCHEME_NONE:
    case MR_HTTP_SCHEME_SNS:
        break;
    }
    return NULL;
}

const char *mr_http_verify_head(const struct mr_http_verifier *verifier,
                                const struct mr_http_signed *message)
{
    return check(verifier, message, false);
}

const char *mr_http_verify(const struct mr_http_verifier *verifier,
                           const struct mr_http_signed *message)
{
    return check(verifier, message, true);
}

const char *mr_http_verify_challenge(const struct mr_http_verifier *verifier)
{
    switch (verifier->scheme) {
    case MR_HTTP_SCHEME_BEARER:
        return "Bearer";
    case MR_HTTP_SCHEME_BASIC:
        return "Basic realm=\"millrace\"";
    case MR_HTTP_SCHEME_NONE:
    case MR_HTTP_SCHEME_GITHUB:
    case MR_HTTP_SCHEME_GITLAB:
    case MR_HTTP_SCHEME_STRIPE:
    case MR_HTTP_SCHEME_SHOPIFY:
    case MR_HTTP_SCHEME_STANDARD:
    case MR_HTTP_SCHEME_HMAC:
    case MR_HTTP_SCHEME_SNS:
        break;
    }
    return "Signature";
}

/* --- making one ------------------------------------------------------------------------------- */

static enum mr_status add_key(struct mr_http_verifier *v, struct mr_bytes text)
{
    MR_ASSERT(v->key_count < KEYS_MAX);
    v->keys[v->key_count] = mr_secret_create(text);
    return v->keys[v->key_count++] == NULL ? MR_E_NOMEM : MR_OK;
}

static enum mr_status add_standard_key(struct mr_http_verifier *v, const struct mr_secret *secret,
                                       struct mr_problem *problem)
{
    struct mr_bytes text = mr_secret_use(secret);
    struct mr_secret *key = NULL;
    enum mr_status r;
    if (take_prefix(&text, "whpk_")) {
        r = mr__http_decode_secret(text, &key);
        if (r == MR_E_INVALID || (r == MR_OK && mr_secret_use(key).size != ED25519_KEY_SIZE)) {
            mr_secret_destroy(key);
            return mr_problem_set(problem, MR_E_INVALID,
                                  "a whpk_ key goes on in base64 of 32 bytes");
        }
        v->public_keys[v->public_key_count] = key;
        v->public_key_count += key != NULL;
        return r;
    }
    r = mr_http_standard_key(secret, &key, problem);
    if (r != MR_OK) {
        return r;
    }
    v->keys[v->key_count++] = key;
    /* Senders do not agree on whether a secret without the mark is base64: either will do. */
    bool is_text = !mr_bytes_starts(text, MR_BYTES_LITERAL("whsec_"));
    return is_text && !mr_secret_equal(key, text) ? add_key(v, text) : MR_OK;
}

static enum mr_status add_secret(struct mr_http_verifier *v, const struct mr_secret *secret,
                                 struct mr_problem *problem)
{
    struct mr_bytes text = secret == NULL ? (struct mr_bytes){0} : mr_secret_use(secret);
    if (secret == NULL) {
        return MR_OK;
    }
    if (text.size == 0) {
        return mr_problem_set(problem, MR_E_INVALID, "the secret of `verify` is empty");
    }
    if (v->scheme == MR_HTTP_SCHEME_BASIC && memchr(text.data, ':', text.size) == NULL) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "the secret of `verify` must be user:password for `basic`");
    }
    return v->scheme == MR_HTTP_SCHEME_STANDARD ? add_standard_key(v, secret, problem)
                                                : add_key(v, text);
}

static enum mr_status set_form(struct mr_http_verifier *v,
                               const struct mr_http_verify_options *options,
                               struct mr_problem *problem)
{
    static const char *const digests[] = {"SHA256", "SHA512", "SHA1"};
    const char *header = NULL;
    const char *prefix = NULL;
    v->digest = "SHA256";
    switch (v->scheme) {
    case MR_HTTP_SCHEME_GITHUB:
        header = "X-Hub-Signature-256";
        prefix = "sha256=";
        break;
    case MR_HTTP_SCHEME_SHOPIFY:
        header = "X-Shopify-Hmac-SHA256";
        v->encoding = ENCODING_BASE64;
        break;
    case MR_HTTP_SCHEME_STANDARD:
        v->encoding = ENCODING_BASE64;
        break;
    case MR_HTTP_SCHEME_HMAC:
        header = options->header;
        prefix = options->prefix;
        v->encoding = (enum encoding)options->encoding;
        v->digest = digests[options->algorithm];
        if (header == NULL || header[0] == '\0') {
            return mr_problem_set(problem, MR_E_INVALID, "`verify` needs a `header` for `hmac`");
        }
        break;
    case MR_HTTP_SCHEME_NONE:
    case MR_HTTP_SCHEME_GITLAB:
    case MR_HTTP_SCHEME_STRIPE:
    case MR_HTTP_SCHEME_BEARER:
    case MR_HTTP_SCHEME_BASIC:
    case MR_HTTP_SCHEME_SNS:
        break;
    }
    v->header = mr_strdup(header);
    v->prefix = mr_strdup(prefix);
    bool has_header = (v->header == NULL) == (header == NULL);
    bool has_prefix = (v->prefix == NULL) == (prefix == NULL);
    return has_header && has_prefix ? MR_OK : MR_E_NOMEM;
}

static enum mr_status check_options(const struct mr_http_verify_options *o,
                                    struct mr_problem *problem)
{
    bool is_hmac = o->scheme == MR_HTTP_SCHEME_HMAC;
    bool is_sns = o->scheme == MR_HTTP_SCHEME_SNS;
    if (o->scheme == MR_HTTP_SCHEME_NONE) {
        return mr_problem_set(problem, MR_E_INVALID, "`verify` needs a `scheme`");
    }
    if ((o->header != NULL || o->prefix != NULL) && !is_hmac) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "`header` and `prefix` of `verify` are for the scheme `hmac`");
    }
    if ((o->certificate != NULL || o->topics.count > 0) && !is_sns) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "`certificate` and `topics` of `verify` are for the scheme `sns`");
    }
    if (!is_sns && o->secret == NULL) {
        return mr_problem_set(problem, MR_E_INVALID, "`verify` needs a `secret` for `%s`",
                              mr__http_scheme_words[o->scheme]);
    }
    if (is_sns && (o->secret != NULL || o->previous_secret != NULL)) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "`verify` takes no `secret` for `sns`: its messages are signed with "
                              "Amazon's key");
    }
    return MR_OK;
}

enum mr_status mr_http_verifier_create(const struct mr_http_verify_options *options,
                                       struct mr_http_verifier **ret_verifier,
                                       struct mr_problem *problem)
{
    enum mr_status r = check_options(options, problem);
    if (r != MR_OK) {
        return r;
    }
    struct mr_http_verifier *v = mr_calloc(1, sizeof(*v));
    if (v == NULL) {
        return mr_problem_set(problem, MR_E_NOMEM, "out of memory");
    }
    v->scheme = (enum mr_http_scheme)options->scheme;
    v->window_s = (options->window_ns + MR_SECOND - 1) / MR_SECOND;
    r = set_form(v, options, problem);
    if (r == MR_OK) {
        r = add_secret(v, options->secret, problem);
    }
    if (r == MR_OK) {
        r = add_secret(v, options->previous_secret, problem);
    }
    if (r != MR_OK) {
        mr_http_verifier_destroy(v);
        return r == MR_E_NOMEM ? mr_problem_set(problem, r, "out of memory") : r;
    }
    *ret_verifier = v;
    return MR_OK;
}

void mr_http_verifier_destroy(struct mr_http_verifier *verifier)
{
    if (verifier == NULL) {
        return;
    }
    for (uint32_t i = 0; i < KEYS_MAX; i++) {
        mr_secret_destroy(verifier->keys[i]);
        mr_secret_destroy(verifier->public_keys[i]);
    }
    mr_free(verifier->header);
    mr_free(verifier->prefix);
    mr_free(verifier);
}
