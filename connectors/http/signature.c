#include "connectors/http/signature.h"

#include <openssl/evp.h>
#include <pthread.h>

#include "core/assert.h"

enum { STANDARD_KEY_SIZE_MIN = 16 }; /* shorter base64 is taken for plain text */

static EVP_MAC *hmac_method; /* fetched once, for as long as the process lives */

static void fetch_hmac(void)
{
    hmac_method = EVP_MAC_fetch(NULL, "HMAC", NULL);
}

size_t mr_http_hmac(const char *digest, struct mr_bytes key, const struct mr_bytes *parts,
                    uint32_t count, uint8_t ret_digest[MR_HTTP_DIGEST_SIZE_MAX])
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    static const uint8_t empty[1] = {0};
    (void)pthread_once(&once, fetch_hmac); /* cannot fail with a valid control */
    EVP_MAC_CTX *context = hmac_method == NULL ? NULL : EVP_MAC_CTX_new(hmac_method);
    if (context == NULL) {
        return 0;
    }
    char name[16];
    size_t name_size = strlen(digest);
    MR_ASSERT(name_size < sizeof(name));
    memcpy(name, digest, name_size + 1); /* the library's parameter is not const */
    const OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string("digest", name, 0),
                                 OSSL_PARAM_construct_end()};
    size_t size = 0;
    bool ok = EVP_MAC_init(context, key.size == 0 ? empty : key.data, key.size, params) == 1;
    for (uint32_t i = 0; ok && i < count; i++) {
        ok = parts[i].size == 0 || EVP_MAC_update(context, parts[i].data, parts[i].size) == 1;
    }
    ok = ok && EVP_MAC_final(context, ret_digest, &size, MR_HTTP_DIGEST_SIZE_MAX) == 1;
    EVP_MAC_CTX_free(context);
    return ok ? size : 0;
}

enum mr_status mr__http_decode_secret(struct mr_bytes text, struct mr_secret **ret_secret)
{
    struct mr_buf plain;
    mr_buf_init(&plain, text.size);
    enum mr_status r = mr_buf_append_unbase64(&plain, text);
    if (r == MR_OK) {
        *ret_secret = mr_secret_create(mr_buf_bytes(&plain));
        r = *ret_secret == NULL ? MR_E_NOMEM : MR_OK;
    }
    if (plain.data != NULL) {
        explicit_bzero(plain.data, plain.capacity);
    }
    mr_buf_release(&plain);
    return r == MR_OK || r == MR_E_NOMEM ? r : MR_E_INVALID;
}

enum mr_status mr_http_standard_key(const struct mr_secret *secret, struct mr_secret **ret_key,
                                    struct mr_problem *problem)
{
    struct mr_bytes text = mr_secret_use(secret);
    struct mr_secret *key = NULL;
    struct mr_bytes mark = MR_BYTES_LITERAL("whsec_");
    bool is_marked = mr_bytes_starts(text, mark);
    if (is_marked) {
        text = mr_bytes(text.data + mark.size, text.size - mark.size);
    }
    enum mr_status r = mr__http_decode_secret(text, &key);
    if (r == MR_OK && (is_marked || mr_secret_use(key).size >= STANDARD_KEY_SIZE_MIN)) {
        *ret_key = key;
        return MR_OK;
    }
    mr_secret_destroy(key);
    if (r == MR_E_INVALID && is_marked) {
        return mr_problem_set(problem, MR_E_INVALID, "a whsec_ secret goes on in base64");
    }
    key = r == MR_E_NOMEM ? NULL : mr_secret_create(text);
    if (key == NULL) {
        return mr_problem_set(problem, MR_E_NOMEM, "out of memory");
    }
    *ret_key = key;
    return MR_OK;
}

enum mr_status mr_http_sign_standard(struct mr_secret *const *keys, uint32_t key_count,
                                     struct mr_bytes id, struct mr_bytes timestamp,
                                     struct mr_bytes body, struct mr_buf *out)
{
    const struct mr_bytes dot = MR_BYTES_LITERAL(".");
    const struct mr_bytes parts[] = {id, dot, timestamp, dot, body};
    enum mr_status r = MR_OK;
    for (uint32_t i = 0; r == MR_OK && i < key_count; i++) {
        uint8_t digest[MR_HTTP_DIGEST_SIZE_MAX];
        size_t size = mr_http_hmac("SHA256", mr_secret_use(keys[i]), parts,
                                   MR_ARRAY_COUNT(parts), digest);
        if (size == 0) {
            return MR_E_UNAVAILABLE;
        }
        r = mr_buf_append_text(out, i == 0 ? "v1," : " v1,");
        r = r == MR_OK ? mr_buf_append_base64(out, mr_bytes(digest, size)) : r;
    }
    return r;
}
