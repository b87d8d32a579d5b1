#include "tests/support/test.h"

#include <cjson/cJSON.h>
#include <openssl/evp.h>

#include "connectors/http/signature.h"
#include "connectors/http/verify.h"
#include "core/alloc.h"
#include "core/clock.h"

#define NOW_S 1700000000ull
#define KEY_TEXT "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

static const char BODY[] = "{\"type\":\"a\",\"n\":1}";

struct fixture {
    struct mr_http_verify_options options;
    struct mr_http_verifier *verifier;
    struct mr_field headers[8];
    uint32_t header_count;
    char text[8][512];
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    f->options.window_ns = 300 * MR_SECOND;
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    mr_http_verifier_destroy(f->verifier);
    mr_options_release(mr_http_verify_option_table, &f->options);
    free(f);
    return mr_alloc_live() == 0 ? 0 : 1;
}

static void make(struct fixture *f, enum mr_http_scheme scheme, const char *secret,
                 const char *previous)
{
    struct mr_problem problem = {""};
    f->options.scheme = (int)scheme;
    f->options.secret = mr_secret_create(mr_bytes_of(secret));
    f->options.previous_secret =
        previous == NULL ? NULL : mr_secret_create(mr_bytes_of(previous));
    if (mr_http_verifier_create(&f->options, &f->verifier, &problem) != MR_OK) {
        fail_msg("%s", problem.text);
    }
}

static void set_header(struct fixture *f, const char *name, const char *value)
{
    uint32_t i = 0;
    while (i < f->header_count && !mr_bytes_equal(f->headers[i].name, mr_bytes_of(name))) {
        i++;
    }
    f->header_count = i == f->header_count ? i + 1 : f->header_count;
    snprintf(f->text[i], sizeof(f->text[i]), "%s", value);
    f->headers[i] = (struct mr_field){mr_bytes_of(name), mr_bytes_of(f->text[i])};
}

static struct mr_http_signed message_of(struct fixture *f, const char *body)
{
    return (struct mr_http_signed){.headers = f->headers,
                                   .header_count = f->header_count,
                                   .body = mr_bytes_of(body),
                                   .wall_ns = NOW_S * MR_SECOND};
}

static bool is_good(struct fixture *f, const char *body)
{
    struct mr_http_signed message = message_of(f, body);
    const char *why = mr_http_verify(f->verifier, &message);
    /* What the header alone refutes, the whole refutes as well. */
    assert_true(mr_http_verify_head(f->verifier, &message) == NULL || why != NULL);
    return why == NULL;
}

static bool is_head_good(struct fixture *f)
{
    struct mr_http_signed message = message_of(f, "");
    return mr_http_verify_head(f->verifier, &message) == NULL;
}

static void digest_hex(const char *digest, const char *key, const char *text, char *to)
{
    uint8_t raw[MR_HTTP_DIGEST_SIZE_MAX];
    const struct mr_bytes parts[] = {mr_bytes_of(text)};
    size_t size = mr_http_hmac(digest, mr_bytes_of(key), parts, 1, raw);
    assert_true(size > 0);
    for (size_t i = 0; i < size; i++) {
        snprintf(to + 2 * i, 3, "%02x", raw[i]);
    }
}

static void digest_base64(const char *key, const char *text, char *to)
{
    uint8_t raw[MR_HTTP_DIGEST_SIZE_MAX];
    const struct mr_bytes parts[] = {mr_bytes_of(text)};
    size_t size = mr_http_hmac("SHA256", mr_bytes_of(key), parts, 1, raw);
    EVP_EncodeBlock((unsigned char *)to, raw, (int)size);
}

/* --- one digest of the body ------------------------------------------------------------------- */

static void test_github_good_bad_and_rotated(void **state)
{
    struct fixture *f = *state;
    char hex[129];
    char value[160];
    make(f, MR_HTTP_SCHEME_GITHUB, "new secret", "old secret");
    assert_false(is_head_good(f)); /* no signature */
    const char *const keys[] = {"new secret", "old secret"};
    for (size_t i = 0; i < 2; i++) {
        digest_hex("SHA256", keys[i], BODY, hex);
        snprintf(value, sizeof(value), "sha256=%s", hex);
        set_header(f, "X-Hub-Signature-256", value);
        assert_true(is_good(f, BODY));
        assert_false(is_good(f, "{\"type\":\"a\",\"n\":2}")); /* another body */
        assert_false(is_good(f, ""));
    }
    digest_hex("SHA256", "older secret", BODY, hex);
    snprintf(value, sizeof(value), "sha256=%s", hex);
    set_header(f, "X-Hub-Signature-256", value);
    assert_false(is_good(f, BODY));
    set_header(f, "X-Hub-Signature-256", hex); /* no prefix */
    assert_false(is_good(f, BODY));
    assert_false(is_head_good(f));
    set_header(f, "X-Hub-Signature-256", "sha256=");
    assert_false(is_good(f, BODY));
}

static void test_github_published_vector(void **state)
{
    struct fixture *f = *state;
    char text[2048] = "";
    FILE *file = fopen(MR_SHARED_DIR "/conformance/signatures/github-doc-vector.json", "r");
    if (file == NULL) {
        print_message("SKIPPED: the conformance data is not here\n");
        skip();
    }
    size_t size = fread(text, 1, sizeof(text) - 1, file);
    fclose(file);
    cJSON *json = cJSON_ParseWithLength(text, size);
    make(f, MR_HTTP_SCHEME_GITHUB, cJSON_GetStringValue(cJSON_GetObjectItem(json, "secret")), NULL);
    set_header(f, "x-hub-signature-256",
               cJSON_GetStringValue(cJSON_GetObjectItem(json, "signature_256")));
    assert_true(is_good(f, cJSON_GetStringValue(cJSON_GetObjectItem(json, "payload"))));
    assert_false(is_good(f, "Hello, World?"));
    cJSON_Delete(json);
}

static void test_shopify_is_base64(void **state)
{
    struct fixture *f = *state;
    char value[128];
    make(f, MR_HTTP_SCHEME_SHOPIFY, "shpss_1", NULL);
    digest_base64("shpss_1", BODY, value);
    set_header(f, "X-Shopify-Hmac-Sha256", value);
    assert_true(is_good(f, BODY));
    assert_false(is_good(f, "{}"));
    value[3] = value[3] == 'A' ? 'B' : 'A';
    set_header(f, "X-Shopify-Hmac-Sha256", value);
    assert_false(is_good(f, BODY));
}

static void test_hmac_every_form(void **state)
{
    struct fixture *f = *state;
    static const char *const digests[] = {"SHA256", "SHA512", "SHA1"};
    for (int algorithm = 0; algorithm < 3; algorithm++) {
        char hex[160];
        char value[200];
        f->options.header = mr_strdup("X-Signature");
        f->options.prefix = mr_strdup("v0=");
        f->options.algorithm = algorithm;
        make(f, MR_HTTP_SCHEME_HMAC, "k", NULL);
        digest_hex(digests[algorithm], "k", BODY, hex);
        snprintf(value, sizeof(value), "v0=%s", hex);
        set_header(f, "x-signature", value);
        assert_true(is_good(f, BODY));
        for (char *c = value + 3; *c != '\0'; c++) {
            *c = *c >= 'a' && *c <= 'f' ? (char)(*c - 32) : *c;
        }
        set_header(f, "x-signature", value); /* hexadecimal is hexadecimal */
        assert_true(is_good(f, BODY));
        value[10] = value[10] == '0' ? '1' : '0';
        set_header(f, "x-signature", value);
        assert_false(is_good(f, BODY));
        mr_http_verifier_destroy(MR_TAKE(f->verifier));
        mr_options_release(mr_http_verify_option_table, &f->options);
    }
}

/* --- timestamped ------------------------------------------------------------------------------ */

static void sign_stripe(struct fixture *f, const char *key, uint64_t at_s, const char *body)
{
    char text[256];
    char hex[129];
    char value[400];
    snprintf(text, sizeof(text), "%llu.%s", (unsigned long long)at_s, body);
    digest_hex("SHA256", key, text, hex);
    snprintf(value, sizeof(value), "t=%llu,v0=ignored,v1=%s", (unsigned long long)at_s, hex);
    set_header(f, "Stripe-Signature", value);
}

static void test_stripe_window_replay_and_rotation(void **state)
{
    struct fixture *f = *state;
    make(f, MR_HTTP_SCHEME_STRIPE, "whsec_stripe", "whsec_before");
    sign_stripe(f, "whsec_stripe", NOW_S, BODY);
    assert_true(is_good(f, BODY));
    assert_false(is_good(f, "{}"));
    sign_stripe(f, "whsec_before", NOW_S - 300, BODY);
    assert_true(is_good(f, BODY));
    sign_stripe(f, "whsec_stripe", NOW_S + 300, BODY);
    assert_true(is_good(f, BODY));
    sign_stripe(f, "whsec_stripe", NOW_S - 301, BODY); /* replayed later */
    assert_false(is_head_good(f));
    sign_stripe(f, "whsec_stripe", NOW_S + 301, BODY);
    assert_false(is_head_good(f));
    /* An old signature under a new time: the time is signed. */
    sign_stripe(f, "whsec_stripe", NOW_S - 1000, BODY);
    char value[400];
    snprintf(value, sizeof(value), "t=%llu%s", NOW_S, strchr(f->text[0], ','));
    set_header(f, "Stripe-Signature", value);
    assert_true(is_head_good(f));
    assert_false(is_good(f, BODY));
}

static void test_stripe_odd_headers_are_refused(void **state)
{
    struct fixture *f = *state;
    static const char *const odd[] = {
        "", ",", "t=", "v1=abc", "t=1700000000", "t=x,v1=00", "t=-1,v1=00",
        "t=99999999999999999999,v1=00", "t=1700000000,v0=00", "t=1700000000,t=1700000000,v1=00",
        "t=1700000000,v1=", "t=1700000000;v1=00", "v1=00,v1=00,v1=00", "t=1700000000,v1=zz"};
    make(f, MR_HTTP_SCHEME_STRIPE, "k", NULL);
    for (size_t i = 0; i < MR_ARRAY_COUNT(odd); i++) {
        set_header(f, "Stripe-Signature", odd[i]);
        assert_false(is_good(f, BODY));
    }
    /* The good one counts wherever it stands among others. */
    char value[512];
    sign_stripe(f, "k", NOW_S, BODY);
    snprintf(value, sizeof(value), "v1=00 , v1=beef,%.300s", f->text[0]);
    set_header(f, "Stripe-Signature", value);
    assert_true(is_good(f, BODY));
}

static void sign_standard(struct fixture *f, struct mr_secret *const *keys, uint32_t count,
                          uint64_t at_s, const char *body)
{
    char timestamp[24];
    struct mr_buf out;
    mr_buf_init(&out, 400);
    snprintf(timestamp, sizeof(timestamp), "%llu", (unsigned long long)at_s);
    assert_int_equal(mr_http_sign_standard(keys, count, MR_BYTES_LITERAL("msg_1"),
                                           mr_bytes_of(timestamp), mr_bytes_of(body), &out),
                     MR_OK);
    assert_int_equal(mr_buf_append_byte(&out, 0), MR_OK);
    set_header(f, "webhook-id", "msg_1");
    set_header(f, "webhook-timestamp", timestamp);
    set_header(f, "webhook-signature", (const char *)out.data);
    mr_buf_release(&out);
}

static struct mr_secret *standard_key(const char *text)
{
    struct mr_secret *secret = mr_secret_create(mr_bytes_of(text));
    struct mr_secret *key = NULL;
    struct mr_problem problem = {""};
    assert_int_equal(mr_http_standard_key(secret, &key, &problem), MR_OK);
    mr_secret_destroy(secret);
    return key;
}

static void test_standard_published_example(void **state)
{
    /* The example of the specification's reference libraries. */
    struct fixture *f = *state;
    make(f, MR_HTTP_SCHEME_STANDARD, KEY_TEXT, NULL);
    set_header(f, "webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek");
    set_header(f, "webhook-timestamp", "1614265330");
    set_header(f, "webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    struct mr_http_signed message = message_of(f, "{\"test\": 2432232314}");
    message.wall_ns = 1614265330ull * MR_SECOND;
    assert_null(mr_http_verify(f->verifier, &message));
    message.body = MR_BYTES_LITERAL("{\"test\": 2432232315}");
    assert_non_null(mr_http_verify(f->verifier, &message));
}

static void test_standard_window_and_rotation(void **state)
{
    struct fixture *f = *state;
    make(f, MR_HTTP_SCHEME_STANDARD, KEY_TEXT, "whsec_b2xkb2xkb2xkb2xkb2xkb2xk");
    struct mr_secret *keys[] = {standard_key("whsec_b2xkb2xkb2xkb2xkb2xkb2xk"),
                                standard_key("whsec_b3RoZXJvdGhlcm90aGVyb3RoZXI=")};
    sign_standard(f, keys, 2, NOW_S, BODY); /* one of its two is ours */
    assert_true(is_good(f, BODY));
    assert_false(is_good(f, "{}"));
    set_header(f, "webhook-id", "msg_2"); /* another id: it is signed */
    assert_false(is_good(f, BODY));
    sign_standard(f, keys + 1, 1, NOW_S, BODY);
    assert_false(is_good(f, BODY));
    sign_standard(f, keys, 1, NOW_S - 301, BODY);
    assert_false(is_head_good(f));
    sign_standard(f, keys, 1, NOW_S, BODY);
    set_header(f, "webhook-timestamp", "1700000001");
    assert_false(is_good(f, BODY));
    mr_secret_destroy(keys[0]);
    mr_secret_destroy(keys[1]);
}

static void test_standard_secret_without_mark_either_way(void **state)
{
    struct fixture *f = *state;
    make(f, MR_HTTP_SCHEME_STANDARD, "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", NULL);
    struct mr_secret *decoded = standard_key("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    struct mr_secret *raw = mr_secret_create(MR_BYTES_LITERAL("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"));
    assert_int_equal(mr_secret_use(decoded).size, 24);
    sign_standard(f, &decoded, 1, NOW_S, BODY);
    assert_true(is_good(f, BODY));
    sign_standard(f, &raw, 1, NOW_S, BODY);
    assert_true(is_good(f, BODY));
    mr_secret_destroy(decoded);
    mr_secret_destroy(raw);
}

static void test_standard_ed25519(void **state)
{
    struct fixture *f = *state;
    uint8_t public_key[32];
    uint8_t signature[64];
    size_t public_size = sizeof(public_key);
    size_t signature_size = sizeof(signature);
    char text[160];
    EVP_PKEY *pkey = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    assert_non_null(pkey);
    assert_int_equal(EVP_PKEY_get_raw_public_key(pkey, public_key, &public_size), 1);
    char encoded[64];
    EVP_EncodeBlock((unsigned char *)encoded, public_key, 32);
    snprintf(text, sizeof(text), "whpk_%s", encoded);
    make(f, MR_HTTP_SCHEME_STANDARD, text, KEY_TEXT);
    char whole[256];
    snprintf(whole, sizeof(whole), "msg_1.%llu.%s", NOW_S, BODY);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    assert_int_equal(EVP_DigestSignInit(context, NULL, NULL, NULL, pkey), 1);
    assert_int_equal(EVP_DigestSign(context, signature, &signature_size,
                                    (const unsigned char *)whole, strlen(whole)),
                     1);
    char base64[96];
    EVP_EncodeBlock((unsigned char *)base64, signature, 64);
    snprintf(text, sizeof(text), "v1a,%s", base64);
    set_header(f, "webhook-id", "msg_1");
    set_header(f, "webhook-timestamp", "1700000000");
    set_header(f, "webhook-signature", text);
    assert_true(is_good(f, BODY));
    assert_false(is_good(f, "{}"));
    snprintf(text, sizeof(text), "v1,%s", base64); /* not what it says */
    set_header(f, "webhook-signature", text);
    assert_false(is_good(f, BODY));
    struct mr_secret *key = standard_key(KEY_TEXT); /* and the old HMAC holds as well */
    sign_standard(f, &key, 1, NOW_S, BODY);
    assert_true(is_good(f, BODY));
    mr_secret_destroy(key);
    EVP_MD_CTX_free(context);
    EVP_PKEY_free(pkey);
}

/* --- credentials ------------------------------------------------------------------------------ */

static void test_gitlab_bearer_basic(void **state)
{
    struct fixture *f = *state;
    static const struct {
        enum mr_http_scheme scheme;
        const char *secret;
        const char *header;
        const char *good;
        const char *old;
        const char *bad;
    } rows[] = {
        {MR_HTTP_SCHEME_GITLAB, "tok", "X-Gitlab-Token", "tok", "old:t", "tok2"},
        {MR_HTTP_SCHEME_BEARER, "tok", "Authorization", "bearer tok", "Bearer old:t", "Basic tok"},
        {MR_HTTP_SCHEME_BASIC, "u:p", "Authorization", "Basic dTpw", "basic b2xkOnQ=",
         "Basic dTpx"},
        {MR_HTTP_SCHEME_BASIC, "u:p", "Authorization", "Basic dTpw", "Basic b2xkOnQ=", "Basic *"},
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(rows); i++) {
        f->header_count = 0;
        make(f, rows[i].scheme, rows[i].secret, "old:t");
        assert_false(is_head_good(f));
        set_header(f, rows[i].header, rows[i].good);
        assert_true(is_good(f, BODY) && is_head_good(f));
        set_header(f, rows[i].header, rows[i].old);
        assert_true(is_head_good(f));
        set_header(f, rows[i].header, rows[i].bad);
        assert_false(is_head_good(f));
        set_header(f, rows[i].header, "");
        assert_false(is_head_good(f));
        mr_http_verifier_destroy(MR_TAKE(f->verifier));
        mr_options_release(mr_http_verify_option_table, &f->options);
    }
}

static void test_bearer_in_the_query(void **state)
{
    struct fixture *f = *state;
    make(f, MR_HTTP_SCHEME_BEARER, "tok", NULL);
    struct mr_http_signed message = message_of(f, BODY);
    message.access_token = MR_BYTES_LITERAL("tok");
    assert_null(mr_http_verify_head(f->verifier, &message));
    message.access_token = MR_BYTES_LITERAL("to");
    assert_non_null(mr_http_verify_head(f->verifier, &message));
}

/* --- options ---------------------------------------------------------------------------------- */

static void test_create_refuses_what_makes_no_sense(void **state)
{
    (void)state;
    static const struct {
        enum mr_http_scheme scheme;
        const char *secret;
        const char *header;
        const char *says;
    } rows[] = {
        {MR_HTTP_SCHEME_NONE, "x", NULL, "scheme"},
        {MR_HTTP_SCHEME_GITHUB, NULL, NULL, "secret"},
        {MR_HTTP_SCHEME_GITHUB, "", NULL, "empty"},
        {MR_HTTP_SCHEME_GITHUB, "x", "X-Y", "hmac"},
        {MR_HTTP_SCHEME_HMAC, "x", NULL, "header"},
        {MR_HTTP_SCHEME_BASIC, "nobody", NULL, "user:password"},
        {MR_HTTP_SCHEME_STANDARD, "whsec_***", NULL, "base64"},
        {MR_HTTP_SCHEME_STANDARD, "whpk_AAAA", NULL, "32 bytes"},
        {MR_HTTP_SCHEME_SNS, "x", NULL, "sns"},
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(rows); i++) {
        struct mr_problem problem = {""};
        struct mr_http_verifier *verifier = NULL;
        struct mr_http_verify_options o = {.scheme = (int)rows[i].scheme,
                                           .header = mr_strdup(rows[i].header)};
        o.secret = rows[i].secret == NULL ? NULL : mr_secret_create(mr_bytes_of(rows[i].secret));
        assert_int_equal(mr_http_verifier_create(&o, &verifier, &problem), MR_E_INVALID);
        assert_null(verifier);
        if (strstr(problem.text, rows[i].says) == NULL) {
            fail_msg("%zu: %s", i, problem.text);
        }
        mr_options_release(mr_http_verify_option_table, &o);
    }
}

static void test_create_any_allocation_fails_cleanly(void **state)
{
    struct fixture *f = *state;
    f->options.header = mr_strdup("X-S");
    f->options.prefix = mr_strdup("a=");
    f->options.scheme = MR_HTTP_SCHEME_HMAC;
    f->options.secret = mr_secret_create(MR_BYTES_LITERAL("k"));
    f->options.previous_secret = mr_secret_create(MR_BYTES_LITERAL("l"));
    for (uint64_t n = 1;; n++) {
        struct mr_problem problem = {""};
        mr_alloc_fail_at(n, 0);
        enum mr_status r = mr_http_verifier_create(&f->options, &f->verifier, &problem);
        mr_alloc_fail_at(0, 0);
        if (r == MR_OK) {
            assert_true(n > 4);
            return;
        }
        assert_int_equal(r, MR_E_NOMEM);
    }
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_github_good_bad_and_rotated),
        CASE(test_github_published_vector),
        CASE(test_shopify_is_base64),
        CASE(test_hmac_every_form),
        CASE(test_stripe_window_replay_and_rotation),
        CASE(test_stripe_odd_headers_are_refused),
        CASE(test_standard_published_example),
        CASE(test_standard_window_and_rotation),
        CASE(test_standard_secret_without_mark_either_way),
        CASE(test_standard_ed25519),
        CASE(test_gitlab_bearer_basic),
        CASE(test_bearer_in_the_query),
        CASE(test_create_refuses_what_makes_no_sense),
        CASE(test_create_any_allocation_fails_cleanly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
