#include "connectors/objectstore/sign.h"

#include <stdio.h>
#include <stdlib.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "core/alloc.h"
#include "core/assert.h"
#include "core/clock.h"

#define HASH_SIZE 32u
#define SECRET_SIZE_MAX 256u

static const char hex_digits[] = "0123456789abcdef";

/* --- credentials ------------------------------------------------------------------------------ */

static struct mr_secret *secret_of_environment(const char *name)
{
    const char *value = getenv(name);
    return value == NULL || value[0] == '\0' ? NULL : mr_secret_create(mr_bytes_of(value));
}

static enum mr_status take_environment(struct mr_credentials *c, struct mr_problem *problem)
{
    const char *id = getenv("AWS_ACCESS_KEY_ID");
    if (id == NULL || id[0] == '\0') {
        return MR_OK;
    }
    c->access_key = mr_strdup(id);
    c->secret_key = secret_of_environment("AWS_SECRET_ACCESS_KEY");
    c->session_token = secret_of_environment("AWS_SESSION_TOKEN");
    if (c->access_key == NULL) {
        return mr_problem_set(problem, MR_E_NOMEM, "no memory for the credentials");
    }
    if (c->secret_key == NULL) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "AWS_ACCESS_KEY_ID is set in the environment, but not "
                              "AWS_SECRET_ACCESS_KEY");
    }
    return MR_OK;
}

enum mr_status mr__credentials_init(struct mr_credentials *credentials, const char *access_key,
                                    const struct mr_secret *secret_key,
                                    const struct mr_secret *session_token,
                                    struct mr_problem *problem)
{
    struct mr_credentials c = {0};
    enum mr_status r = MR_OK;
    if ((access_key == NULL) != (secret_key == NULL)) {
        return mr_problem_set(problem, MR_E_INVALID, "access_key and secret_key go together");
    }
    if (access_key == NULL) {
        r = take_environment(&c, problem);
    } else {
        c.access_key = mr_strdup(access_key);
        c.secret_key = mr_secret_create(mr_secret_use(secret_key));
        if (session_token != NULL) {
            c.session_token = mr_secret_create(mr_secret_use(session_token));
        }
        if (c.access_key == NULL || c.secret_key == NULL ||
            (c.session_token == NULL) != (session_token == NULL)) {
            r = mr_problem_set(problem, MR_E_NOMEM, "no memory for the credentials");
        }
    }
    if (r == MR_OK && c.secret_key != NULL &&
        mr_secret_use(c.secret_key).size > SECRET_SIZE_MAX) {
        r = mr_problem_set(problem, MR_E_INVALID, "the secret key is longer than %u bytes",
                           SECRET_SIZE_MAX);
    }
    if (r != MR_OK) {
        mr__credentials_release(&c);
        return r;
    }
    *credentials = c;
    return MR_OK;
}

void mr__credentials_release(struct mr_credentials *credentials)
{
    mr_free(credentials->access_key);
    mr_secret_destroy(credentials->secret_key);
    mr_secret_destroy(credentials->session_token);
    *credentials = (struct mr_credentials){0};
}

/* --- hashes ----------------------------------------------------------------------------------- */

static void to_hex(const uint8_t *hash, char text[MR_SHA256_HEX_SIZE])
{
    for (size_t i = 0; i < HASH_SIZE; i++) {
        text[2 * i] = hex_digits[hash[i] >> 4];
        text[2 * i + 1] = hex_digits[hash[i] & 15];
    }
    text[2 * HASH_SIZE] = '\0';
}

enum mr_status mr__sign_hash(struct mr_bytes data, char text[MR_SHA256_HEX_SIZE])
{
    uint8_t hash[HASH_SIZE];
    const void *from = data.data == NULL ? "" : (const void *)data.data;
    if (EVP_Digest(from, data.size, hash, NULL, EVP_sha256(), NULL) != 1) {
        return MR_E_NOMEM;
    }
    to_hex(hash, text);
    return MR_OK;
}

static bool hmac(const uint8_t *key, size_t key_size, struct mr_bytes text,
                 uint8_t ret_hash[HASH_SIZE])
{
    unsigned size = HASH_SIZE;
    MR_ASSERT(key_size <= INT32_MAX);
    return HMAC(EVP_sha256(), key, (int)key_size, text.data, text.size, ret_hash, &size) != NULL;
}

/* Date, region, service and a constant, each keyed with the hash before it. */
static bool derive_key(const struct mr_credentials *credentials, const struct mr_sign_input *input,
                       uint8_t key[HASH_SIZE])
{
    uint8_t first[SECRET_SIZE_MAX + 4] = "AWS4";
    struct mr_bytes secret = mr_secret_use(credentials->secret_key);
    MR_ASSERT(secret.size <= SECRET_SIZE_MAX);
    memcpy(first + 4, secret.data, secret.size);
    bool ok = hmac(first, secret.size + 4, mr_bytes(input->date, 8), key) &&
              hmac(key, HASH_SIZE, mr_bytes_of(input->region), key) &&
              hmac(key, HASH_SIZE, mr_bytes_of(input->service), key) &&
              hmac(key, HASH_SIZE, MR_BYTES_LITERAL("aws4_request"), key);
    explicit_bzero(first, sizeof(first));
    return ok;
}

void mr__sign_date(uint64_t wall_ns, char text[MR_AMZ_DATE_SIZE])
{
    char rfc[MR_TIME_TEXT_SIZE]; /* 2026-01-02T03:04:05.678Z */
    mr_time_format(wall_ns, rfc);
    size_t n = 0;
    for (const char *c = rfc; *c != '\0' && *c != '.' && n + 2 < MR_AMZ_DATE_SIZE; c++) {
        if (*c != '-' && *c != ':') {
            text[n++] = *c;
        }
    }
    text[n] = 'Z';
    text[n + 1] = '\0';
}

/* --- the signature ---------------------------------------------------------------------------- */

static enum mr_status append_names(const struct mr_sign_input *input, struct mr_buf *out)
{
    enum mr_status r = MR_OK;
    for (uint32_t i = 0; r == MR_OK && i < input->header_count; i++) {
        r = i == 0 ? MR_OK : mr_buf_append_byte(out, ';');
        r = r == MR_OK ? mr_buf_append_bytes(out, input->headers[i].name) : r;
    }
    return r;
}

static enum mr_status append_request(const struct mr_sign_input *input, struct mr_buf *out)
{
    enum mr_status r = mr_buf_printf(out, "%s\n%.*s\n%.*s\n", input->method,
                                     (int)input->path.size, (const char *)input->path.data,
                                     (int)input->query.size, (const char *)input->query.data);
    for (uint32_t i = 0; r == MR_OK && i < input->header_count; i++) {
        const struct mr_field *h = &input->headers[i];
        r = mr_buf_append_bytes(out, h->name);
        r = r == MR_OK ? mr_buf_append_byte(out, ':') : r;
        r = r == MR_OK ? mr_buf_append_bytes(out, h->value) : r;
        r = r == MR_OK ? mr_buf_append_byte(out, '\n') : r;
    }
    r = r == MR_OK ? mr_buf_append_byte(out, '\n') : r;
    r = r == MR_OK ? append_names(input, out) : r;
    return r == MR_OK ? mr_buf_printf(out, "\n%s", input->body_hash) : r;
}

enum mr_status mr__sign(const struct mr_credentials *credentials,
                        const struct mr_sign_input *input, struct mr_buf *out)
{
    char request_hash[MR_SHA256_HEX_SIZE];
    char signature[MR_SHA256_HEX_SIZE];
    uint8_t key[HASH_SIZE];
    struct mr_buf text;
    MR_ASSERT(credentials->access_key != NULL && strlen(input->date) == MR_AMZ_DATE_SIZE - 1);
    mr_buf_init(&text, 64 * 1024);
    enum mr_status r = append_request(input, &text);
    r = r == MR_OK ? mr__sign_hash(mr_buf_bytes(&text), request_hash) : r;
    if (r == MR_OK) {
        mr_buf_clear(&text);
        r = mr_buf_printf(&text, "AWS4-HMAC-SHA256\n%s\n%.8s/%s/%s/aws4_request\n%s", input->date,
                          input->date, input->region, input->service, request_hash);
    }
    if (r == MR_OK && (!derive_key(credentials, input, key) ||
                       !hmac(key, HASH_SIZE, mr_buf_bytes(&text), key))) {
        r = MR_E_NOMEM;
    }
    mr_buf_release(&text);
    if (r != MR_OK) {
        return r;
    }
    to_hex(key, signature);
    r = mr_buf_printf(out, "AWS4-HMAC-SHA256 Credential=%s/%.8s/%s/%s/aws4_request, SignedHeaders=",
                      credentials->access_key, input->date, input->region, input->service);
    r = r == MR_OK ? append_names(input, out) : r;
    return r == MR_OK ? mr_buf_printf(out, ", Signature=%s", signature) : r;
}

/* --- percent-encoding ------------------------------------------------------------------------- */

static bool is_plain(uint8_t c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
           c == '-' || c == '.' || c == '_' || c == '~';
}

enum mr_status mr__uri_encode(struct mr_buf *out, struct mr_bytes text, bool keep_slash)
{
    enum mr_status r = MR_OK;
    for (size_t i = 0; r == MR_OK && i < text.size; i++) {
        uint8_t c = text.data[i];
        r = is_plain(c) || (c == '/' && keep_slash) ? mr_buf_append_byte(out, c)
                                                    : mr_buf_printf(out, "%%%02X", c);
    }
    return r;
}

static int digit(uint8_t c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

enum mr_status mr__uri_decode(struct mr_buf *out, struct mr_bytes text)
{
    enum mr_status r = MR_OK;
    for (size_t i = 0; r == MR_OK && i < text.size; i++) {
        uint8_t c = text.data[i];
        if (c == '%') {
            bool whole = i + 2 < text.size;
            int high = whole ? digit(text.data[i + 1]) : -1;
            int low = whole ? digit(text.data[i + 2]) : -1;
            if (high < 0 || low < 0) {
                return MR_E_INVALID;
            }
            c = (uint8_t)(high << 4 | low);
            i += 2;
        } else if (c == '+') {
            c = ' ';
        }
        r = mr_buf_append_byte(out, c);
    }
    return r;
}
