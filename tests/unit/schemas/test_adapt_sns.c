#include "tests/unit/schemas/support.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "schemas/adapter.h"
#include "schemas/sns.h"

static struct mr_problem problem;

/* A key and its self-signed certificate, as PEM. */
struct signer {
    EVP_PKEY *key;
    char pem[8192];
};

static void make_signer(struct signer *signer, EVP_PKEY *key)
{
    signer->key = key;
    assert_non_null(key);
    X509 *certificate = X509_new();
    assert_non_null(certificate);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_set_pubkey(certificate, key);
    assert_true(X509_sign(certificate, key, EVP_sha256()) > 0);
    BIO *bio = BIO_new(BIO_s_mem());
    assert_int_equal(PEM_write_bio_X509(bio, certificate), 1);
    int size = BIO_read(bio, signer->pem, sizeof(signer->pem) - 1);
    assert_true(size > 0);
    signer->pem[size] = '\0';
    BIO_free(bio);
    X509_free(certificate);
}

static void sign(const struct signer *signer, const EVP_MD *digest, const char *text,
                 char to[1024])
{
    unsigned char signature[512];
    size_t size = sizeof(signature);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    assert_int_equal(EVP_DigestSignInit(context, NULL, digest, NULL, signer->key), 1);
    assert_int_equal(EVP_DigestSign(context, signature, &size, (const unsigned char *)text,
                                    strlen(text)), 1);
    EVP_MD_CTX_free(context);
    EVP_EncodeBlock((unsigned char *)to, signature, (int)size);
}

#define NOTIFICATION                                                                              \
    "\"Type\":\"Notification\",\"MessageId\":\"m1\",\"TopicArn\":\"arn:aws:sns:eu-west-1:1:t\","   \
    "\"Message\":\"a\\nb \\u20ac\",\"Timestamp\":\"2026-01-01T00:00:00.000Z\""
#define NOTIFICATION_SIGNED                                                                       \
    "Message\na\nb \xE2\x82\xAC\nMessageId\nm1\nTimestamp\n2026-01-01T00:00:00.000Z\nTopicArn\n"   \
    "arn:aws:sns:eu-west-1:1:t\nType\nNotification\n"

static enum mr_status verify(const char *members, const char *version, const char *signature,
                             const char *pem)
{
    char body[4096];
    snprintf(body, sizeof(body), "{%s,\"SignatureVersion\":\"%s\",\"Signature\":\"%s\"}", members,
             version, signature);
    problem.text[0] = '\0';
    return mr_sns_verify(mr_bytes_of(body), mr_bytes_of(pem), &problem);
}

static struct signer rsa;
static struct signer other;
static struct signer elliptic;

static int make_signers(void **state)
{
    (void)state;
    make_signer(&rsa, EVP_RSA_gen(2048));
    make_signer(&other, EVP_RSA_gen(2048));
    make_signer(&elliptic, EVP_EC_gen("P-256"));
    return 0;
}

static int free_signers(void **state)
{
    (void)state;
    EVP_PKEY_free(rsa.key);
    EVP_PKEY_free(other.key);
    EVP_PKEY_free(elliptic.key);
    return 0;
}

static void test_verify_notification_by_both_versions(void **state)
{
    (void)state;
    char one[1024];
    char two[1024];
    sign(&rsa, EVP_sha1(), NOTIFICATION_SIGNED, one);
    sign(&rsa, EVP_sha256(), NOTIFICATION_SIGNED, two);
    assert_int_equal(verify(NOTIFICATION, "1", one, rsa.pem), MR_OK);
    assert_int_equal(verify(NOTIFICATION, "2", two, rsa.pem), MR_OK);
    assert_int_equal(verify(NOTIFICATION ",\"Subject\":null", "2", two, rsa.pem), MR_OK);
    assert_int_equal(verify(NOTIFICATION, "1", two, rsa.pem), MR_E_DENIED);
    assert_int_equal(verify(NOTIFICATION, "2", one, rsa.pem), MR_E_DENIED);
    assert_int_equal(verify(NOTIFICATION, "3", two, rsa.pem), MR_E_DENIED);
    assert_non_null(strstr(problem.text, "SignatureVersion"));
    assert_int_equal(verify(NOTIFICATION, "2", two, other.pem), MR_E_DENIED);
    assert_non_null(strstr(problem.text, "does not hold"));
}

static void test_verify_covers_the_subject(void **state)
{
    (void)state;
    char signature[1024];
    sign(&rsa, EVP_sha256(), NOTIFICATION_SIGNED, signature);
    assert_int_equal(verify(NOTIFICATION ",\"Subject\":\"x\"", "2", signature, rsa.pem),
                     MR_E_DENIED);
    sign(&rsa, EVP_sha256(),
         "Message\na\nb \xE2\x82\xAC\nMessageId\nm1\nSubject\nx\nTimestamp\n"
         "2026-01-01T00:00:00.000Z\nTopicArn\narn:aws:sns:eu-west-1:1:t\nType\nNotification\n",
         signature);
    assert_int_equal(verify(NOTIFICATION ",\"Subject\":\"x\"", "2", signature, rsa.pem), MR_OK);
    assert_int_equal(verify(NOTIFICATION ",\"Subject\":\"y\"", "2", signature, rsa.pem),
                     MR_E_DENIED);
}

static void test_verify_confirmation(void **state)
{
    (void)state;
    char signature[1024];
    const char *members =
        "\"Type\":\"SubscriptionConfirmation\",\"MessageId\":\"m\",\"Token\":\"t\",\"TopicArn\":"
        "\"arn:t\",\"Message\":\"You…\",\"SubscribeURL\":\"https://sns.eu-west-1.amazonaws.com/?A\","
        "\"Timestamp\":\"2026-01-01T00:00:00.000Z\"";
    sign(&rsa, EVP_sha1(),
         "Message\nYou…\nMessageId\nm\nSubscribeURL\nhttps://sns.eu-west-1.amazonaws.com/?A\n"
         "Timestamp\n2026-01-01T00:00:00.000Z\nToken\nt\nTopicArn\narn:t\nType\n"
         "SubscriptionConfirmation\n",
         signature);
    assert_int_equal(verify(members, "1", signature, rsa.pem), MR_OK);
    char body[2048];
    snprintf(body, sizeof(body), "{%s}", members);
    struct mr_adapted adapted;
    struct mr_adapt_input input = {
        .body = mr_bytes_of(body), .source_name = mr_bytes_of("s"), .size_max = MR_MIB};
    assert_int_equal(mr_adapt(MR_ADAPTER_SNS, &input, &adapted, &problem), MR_OK);
    assert_int_equal(adapted.events.count, 1);
    assert_value(adapted.events.events[0], "type", "com.amazonaws.sns.SubscriptionConfirmation");
    assert_string_equal(adapted.confirm_url, "https://sns.eu-west-1.amazonaws.com/?A");
    mr_adapted_release(&adapted);
    assert_int_equal(mr_adapt(MR_ADAPTER_S3, &input, &adapted, &problem), MR_OK);
    assert_int_equal(adapted.events.count, 0);
    assert_non_null(adapted.confirm_url);
    mr_adapted_release(&adapted);
}

static void test_verify_refuses_what_is_malformed(void **state)
{
    (void)state;
    char good[1024];
    sign(&rsa, EVP_sha256(), NOTIFICATION_SIGNED, good);
    assert_int_equal(mr_sns_verify(mr_bytes_of("x"), mr_bytes_of(rsa.pem), &problem),
                     MR_E_INVALID);
    assert_int_equal(mr_sns_verify(mr_bytes_of("[]"), mr_bytes_of(rsa.pem), &problem),
                     MR_E_INVALID);
    assert_int_equal(verify("\"Type\":\"Notification\"", "2", good, rsa.pem), MR_E_INVALID);
    assert_non_null(strstr(problem.text, "Message"));
    assert_int_equal(verify(NOTIFICATION ",\"Message\":\"b\"", "2", good, rsa.pem), MR_E_INVALID);
    assert_non_null(strstr(problem.text, "twice"));
    assert_int_equal(verify(NOTIFICATION, "2", "not base64", rsa.pem), MR_E_DENIED);
    assert_int_equal(verify(NOTIFICATION, "2", "", rsa.pem), MR_E_DENIED);
    assert_int_equal(verify(NOTIFICATION, "2", good, "hello"), MR_E_INVALID);
    assert_int_equal(verify(NOTIFICATION, "2", good, ""), MR_E_INVALID);
    assert_int_equal(verify(NOTIFICATION, "2", good, elliptic.pem), MR_E_INVALID);
    assert_non_null(strstr(problem.text, "RSA"));
}

static void test_url_is_trusted_by_host(void **state)
{
    (void)state;
    const char *good[] = {
        "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-94.pem",
        "https://sns.us-gov-west-1.amazonaws.com:443/a.pem",
        "https://sns.cn-north-1.amazonaws.com.cn/a.pem",
    };
    const char *bad[] = {
        "http://sns.eu-west-1.amazonaws.com/a.pem",
        "https://sns.eu-west-1.amazonaws.com.evil.example/a.pem",
        "https://evil.example/sns.eu-west-1.amazonaws.com/a.pem",
        "https://sns.eu-west-1.amazonaws.com@evil.example/a.pem",
        "https://evil.example#.sns.eu-west-1.amazonaws.com/a.pem",
        "https://evil.example\\.sns.eu-west-1.amazonaws.com/a.pem",
        "https://sns.evil.example/.amazonaws.com/a.pem",
        "https://sns.a.b.amazonaws.com/a.pem",
        "https://sns..amazonaws.com/a.pem",
        "https://sns.amazonaws.com/a.pem",
        "https://bucket.s3.amazonaws.com/a.pem",
        "https://sns.eu-west-1.amazonaws.com:8443/a.pem",
        "https://sns.eu-west-1.amazonaws.com/a.pem ",
        "",
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(good); i++) {
        if (!mr_sns_url_is_trusted(mr_bytes_of(good[i]), true)) {
            fail_msg("%s", good[i]);
        }
    }
    for (size_t i = 0; i < MR_ARRAY_COUNT(bad); i++) {
        if (mr_sns_url_is_trusted(mr_bytes_of(bad[i]), false)) {
            fail_msg("%s", bad[i]);
        }
    }
    struct mr_bytes confirm =
        MR_BYTES_LITERAL("https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&a=.pem");
    assert_true(mr_sns_url_is_trusted(confirm, false));
    assert_false(mr_sns_url_is_trusted(confirm, true));
}

static void test_certificate_url(void **state)
{
    (void)state;
    char *url = NULL;
    assert_int_equal(
        mr_sns_certificate_url(
            mr_bytes_of("{\"SigningCertURL\":\"https://sns.a-1.amazonaws.com/x.pem\"}"), &url,
            &problem),
        MR_OK);
    assert_string_equal(url, "https://sns.a-1.amazonaws.com/x.pem");
    mr_free(url);
    url = NULL;
    assert_int_equal(mr_sns_certificate_url(
                         mr_bytes_of("{\"SigningCertURL\":\"https://evil.example/x.pem\"}"), &url,
                         &problem),
                     MR_E_DENIED);
    assert_int_equal(mr_sns_certificate_url(mr_bytes_of("{}"), &url, &problem), MR_E_INVALID);
    assert_int_equal(mr_sns_certificate_url(mr_bytes_of("x"), &url, &problem), MR_E_INVALID);
    assert_null(url);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verify_notification_by_both_versions),
        cmocka_unit_test(test_verify_covers_the_subject),
        cmocka_unit_test(test_verify_confirmation),
        cmocka_unit_test(test_verify_refuses_what_is_malformed),
        cmocka_unit_test(test_url_is_trusted_by_host),
        cmocka_unit_test(test_certificate_url),
    };
    return cmocka_run_group_tests(tests, make_signers, free_signers);
}
