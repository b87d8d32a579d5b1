/* Messages of Amazon SNS through the http source: who waits for a certificate, and for how long.
 * The courier is a fake, defined here in place of the real one: the test says what it brings. */
#include "tests/support/test.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "connectors/http/courier.h"
#include "connectors/http/listener.h"
#include "connectors/http/source.h"
#include "core/alloc.h"
#include "core/limits.h"
#include "core/logger.h"
#include "schemas/adapter.h"
#include "tests/contract/http_wire.h"
#include "tests/support/test_host.h"

#define ARN "arn:aws:sns:eu-west-1:123456789012:orders"
#define CERTIFICATE_URL "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-%s.pem"

enum { ERRANDS_MAX = 16 };

/* --- the courier ------------------------------------------------------------------------------ */

static struct {
    pthread_mutex_t mu; /* protects all below */
    pthread_cond_t changed;
    struct mr_opq *replies;
    struct mr_http_errand *errands[ERRANDS_MAX];
    uint32_t count;
} courier = {.mu = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

struct mr_http_courier {
    int unused;
};

struct mr_http_errand *mr_http_errand_create(const char *method, const char *url)
{
    struct mr_http_errand *errand = mr_calloc(1, sizeof(*errand));
    errand->method = method;
    errand->url = mr_strdup(url);
    mr_buf_init(&errand->body, MR_HTTP_ERRAND_BODY_MAX);
    return errand;
}

enum mr_status mr_http_errand_header(struct mr_http_errand *errand, const char *name,
                                     const char *value)
{
    (void)errand;
    (void)name;
    (void)value;
    return MR_OK;
}

void mr_http_errand_destroy(struct mr_http_errand *errand)
{
    if (errand != NULL) {
        mr_buf_release(&errand->body);
        mr_free(errand->url);
        mr_free(errand);
    }
}

uint32_t mr_http_errand_answers(const struct mr_http_errand *errand,
                                struct mr_field ret[MR_HTTP_ERRAND_ANSWERS_MAX])
{
    (void)errand;
    (void)ret;
    return 0;
}

enum mr_status mr_http_courier_create(struct mr_opq *replies, struct mr_http_courier **ret_courier)
{
    courier.replies = replies;
    courier.count = 0;
    *ret_courier = mr_calloc(1, sizeof(**ret_courier));
    return MR_OK;
}

enum mr_status mr_http_courier_send(struct mr_http_courier *unused, struct mr_http_errand *errand)
{
    (void)unused;
    pthread_mutex_lock(&courier.mu);
    assert_true(courier.count < ERRANDS_MAX);
    courier.errands[courier.count++] = errand;
    pthread_cond_broadcast(&courier.changed);
    pthread_mutex_unlock(&courier.mu);
    return MR_OK;
}

void mr_http_courier_destroy(struct mr_http_courier *unused)
{
    for (uint32_t i = 0; i < courier.count; i++) {
        mr_http_errand_destroy(MR_TAKE(courier.errands[i]));
    }
    courier.count = 0;
    mr_free(unused);
}

/* The errand number @p index, once it was sent; the courier's still. */
static struct mr_http_errand *wait_errand(uint32_t index)
{
    pthread_mutex_lock(&courier.mu);
    while (courier.count <= index) {
        pthread_cond_wait(&courier.changed, &courier.mu);
    }
    struct mr_http_errand *errand = courier.errands[index];
    pthread_mutex_unlock(&courier.mu);
    return errand;
}

static void bring(uint32_t index, unsigned status, const char *body)
{
    struct mr_http_errand *errand = wait_errand(index);
    pthread_mutex_lock(&courier.mu);
    courier.errands[index] = NULL;
    pthread_mutex_unlock(&courier.mu);
    errand->status = status;
    assert_int_equal(mr_buf_append_text(&errand->body, body), MR_OK);
    assert_int_equal(mr_opq_push(courier.replies, &errand->op), MR_OK);
}

/* --- the source ------------------------------------------------------------------------------- */

struct fixture {
    struct test_host host;
    struct mr_http_listener *listener;
    struct mr_source *source;
    uint16_t port;
};

static EVP_PKEY *key;
static char pem[8192];

static int make_key(void **state)
{
    (void)state;
    key = EVP_RSA_gen(2048);
    X509 *certificate = X509_new();
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_set_pubkey(certificate, key);
    assert_true(X509_sign(certificate, key, EVP_sha256()) > 0);
    BIO *bio = BIO_new(BIO_s_mem());
    assert_int_equal(PEM_write_bio_X509(bio, certificate), 1);
    int size = BIO_read(bio, pem, sizeof(pem) - 1);
    assert_true(size > 0);
    pem[size] = '\0';
    BIO_free(bio);
    X509_free(certificate);
    return 0;
}

static int free_key(void **state)
{
    (void)state;
    EVP_PKEY_free(key);
    return 0;
}

static int set_up(void **state)
{
    static char path[] = "/sns";
    static char arn[] = ARN;
    static char *topics[] = {arn};
    struct mr_problem problem = {""};
    struct fixture *f = calloc(1, sizeof(*f));
    const struct mr_http_listener_options at = {.host = "127.0.0.1"};
    const struct mr_source_config config = {.event_size_max = MR_EVENT_SIZE_DEFAULT};
    const struct mr_http_source_options options = {
        .path = path,
        .adapter = MR_ADAPTER_SNS,
        .pending_max = 64u * MR_MIB,
        .confirm = true,
        .verify = {.scheme = MR_HTTP_SCHEME_SNS, .topics = {topics, 1}},
    };
    test_host_init(&f->host);
    assert_int_equal(mr_http_source_check(&options, &problem), MR_OK);
    assert_int_equal(mr_http_listener_create(&at, &f->listener, &problem), MR_OK);
    assert_int_equal(mr_http_listener_start(f->listener, &problem), MR_OK);
    f->port = mr_http_listener_port(f->listener);
    const struct mr_source_args args = {.host = &f->host.host,
                                        .name = "topic",
                                        .options = &options,
                                        .config = &config,
                                        .listener = f->listener};
    assert_int_equal(mr_http_source_ops.create(&args, &f->source, &problem), MR_OK);
    assert_int_equal(mr_http_source_ops.start(f->source, &problem), MR_OK);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    mr_http_source_ops.stop(f->source, mr_clock_mono_ns() + 20 * MR_SECOND);
    mr_http_source_ops.destroy(f->source);
    mr_http_listener_destroy(f->listener);
    test_host_free(&f->host);
    free(f);
    return mr_alloc_live() == 0 ? 0 : 1;
}

/* --- messages --------------------------------------------------------------------------------- */

static void sign(const char *text, char to[1024])
{
    unsigned char signature[512];
    size_t size = sizeof(signature);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    assert_int_equal(EVP_DigestSignInit(context, NULL, EVP_sha256(), NULL, key), 1);
    assert_int_equal(EVP_DigestSign(context, signature, &size, (const unsigned char *)text,
                                    strlen(text)),
                     1);
    EVP_MD_CTX_free(context);
    EVP_EncodeBlock((unsigned char *)to, signature, (int)size);
}

static void post(struct wire *w, const char *body)
{
    char head[256];
    snprintf(head, sizeof(head),
             "POST /sns HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n\r\n",
             strlen(body));
    wire_send(w, head);
    wire_send(w, body);
}

/* A signed notification whose certificate is number @p certificate. */
static void notify(struct wire *w, const char *id, const char *arn, const char *certificate)
{
    char text[1024];
    char signature[1024];
    char url[256];
    char body[4096];
    snprintf(text, sizeof(text),
             "Message\nhello\nMessageId\n%s\nTimestamp\n2026-01-01T00:00:00.000Z\nTopicArn\n%s\n"
             "Type\nNotification\n",
             id, arn);
    sign(text, signature);
    snprintf(url, sizeof(url), CERTIFICATE_URL, certificate);
    snprintf(body, sizeof(body),
             "{\"Type\":\"Notification\",\"MessageId\":\"%s\",\"TopicArn\":\"%s\","
             "\"Message\":\"hello\",\"Timestamp\":\"2026-01-01T00:00:00.000Z\","
             "\"SignatureVersion\":\"2\",\"Signature\":\"%s\",\"SigningCertURL\":\"%s\"}",
             id, arn, signature, url);
    post(w, body);
}

static void test_requests_wait_for_the_certificate_once(void **state)
{
    struct fixture *f = *state;
    enum { COUNT = 5 };
    struct wire w[COUNT];
    for (int i = 0; i < COUNT; i++) {
        char id[8];
        snprintf(id, sizeof(id), "m%d", i);
        w[i] = wire_connect(f->port);
        notify(&w[i], id, ARN, "1");
    }
    assert_string_equal(wait_errand(0)->url,
                        "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-1.pem");
    assert_false(wait_errand(0)->is_plain);
    assert_int_equal(wait_errand(0)->egress, MR_EGRESS_PUBLIC);
    bring(0, 200, pem);
    for (int i = 0; i < COUNT; i++) {
        char id[8];
        snprintf(id, sizeof(id), "\"m%d\"", i);
        wire_expect(&w[i], 202, id);
    }
    notify(&w[0], "later", ARN, "1"); /* it is kept */
    wire_expect(&w[0], 202, "later");
    assert_int_equal(courier.count, 1);
    for (int i = 0; i < COUNT; i++) {
        wire_close(&w[i]);
    }
}

static void test_no_certificate_is_503_and_tried_again(void **state)
{
    struct fixture *f = *state;
    struct wire w = wire_connect(f->port);
    notify(&w, "a", ARN, "1");
    bring(0, 404, "");
    wire_expect(&w, 503, "signature");
    notify(&w, "a", ARN, "1");
    bring(1, 200, pem);
    wire_expect(&w, 202, "\"a\"");
    wire_close(&w);
}

static void test_two_certificates_one_after_the_other(void **state)
{
    struct fixture *f = *state;
    struct wire one = wire_connect(f->port);
    struct wire two = wire_connect(f->port);
    notify(&one, "a", ARN, "1");
    assert_non_null(strstr(wait_errand(0)->url, "-1.pem"));
    notify(&two, "b", ARN, "2");
    /* The second may not be there yet; it is asked for in either case, behind the first. */
    bring(0, 500, "");
    wire_expect(&one, 503, NULL);
    assert_non_null(strstr(wait_errand(1)->url, "-2.pem"));
    bring(1, 200, pem);
    wire_expect(&two, 202, "\"b\"");
    wire_close(&one);
    wire_close(&two);
}

static void test_refused_without_asking_anybody(void **state)
{
    struct fixture *f = *state;
    static const char *const bodies[] = {
        "no JSON", "{}",
        "{\"Type\":\"Notification\",\"SigningCertURL\":\"https://evil.example/x.pem\"}",
        "{\"SigningCertURL\":\"https://sns.eu-west-1.amazonaws.com.evil.example/x.pem\"}",
        "{\"Type\":\"Notification\",\"SigningCertURL\":\"http://sns.eu-west-1.amazonaws.com/x.pem\"}",
    };
    struct wire w = wire_connect(f->port);
    for (size_t i = 0; i < MR_ARRAY_COUNT(bodies); i++) {
        post(&w, bodies[i]);
        wire_expect(&w, 401, "unauthorized");
    }
    assert_int_equal(courier.count, 0);
    wire_close(&w);
}

static void test_wrong_signature_and_wrong_topic_are_401(void **state)
{
    struct fixture *f = *state;
    struct wire w = wire_connect(f->port);
    notify(&w, "a", ARN, "1");
    bring(0, 200, pem);
    wire_expect(&w, 202, NULL);
    notify(&w, "b", ARN "-of-another", "1");
    wire_expect(&w, 401, NULL);
    post(&w, "{\"Type\":\"Notification\",\"MessageId\":\"c\",\"TopicArn\":\"" ARN "\","
             "\"Message\":\"x\",\"Timestamp\":\"2026-01-01T00:00:00.000Z\","
             "\"SignatureVersion\":\"2\",\"Signature\":\"AAAA\",\"SigningCertURL\":"
             "\"https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-1.pem\"}");
    wire_expect(&w, 401, NULL);
    assert_int_equal(f->host.event_count, 1);
    wire_close(&w);
}

static void test_stop_answers_those_that_wait(void **state)
{
    struct fixture *f = *state;
    struct wire w = wire_connect(f->port);
    notify(&w, "a", ARN, "1");
    (void)wait_errand(0);
    mr_http_source_ops.stop(f->source, mr_clock_mono_ns() + 20 * MR_SECOND);
    wire_expect(&w, 503, NULL);
    wire_close(&w);
}

static void test_confirmation_goes_to_sns_alone(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *url;
        bool called;
    } rows[] = {
        {"https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=t", true},
        {"https://evil.example/?Action=ConfirmSubscription", false},
    };
    struct wire w = wire_connect(f->port);
    notify(&w, "first", ARN, "1");
    bring(0, 200, pem);
    wire_expect(&w, 202, NULL);
    for (size_t i = 0; i < MR_ARRAY_COUNT(rows); i++) {
        char text[1024];
        char signature[1024];
        char body[4096];
        snprintf(text, sizeof(text),
                 "Message\nm\nMessageId\nc%zu\nSubscribeURL\n%s\nTimestamp\n"
                 "2026-01-01T00:00:00.000Z\nToken\nt\nTopicArn\n" ARN
                 "\nType\nSubscriptionConfirmation\n",
                 i, rows[i].url);
        sign(text, signature);
        snprintf(body, sizeof(body),
                 "{\"Type\":\"SubscriptionConfirmation\",\"MessageId\":\"c%zu\",\"Token\":\"t\","
                 "\"TopicArn\":\"" ARN "\",\"Message\":\"m\",\"SubscribeURL\":\"%s\","
                 "\"Timestamp\":\"2026-01-01T00:00:00.000Z\",\"SignatureVersion\":\"2\","
                 "\"Signature\":\"%s\",\"SigningCertURL\":"
                 "\"https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-1.pem\"}",
                 i, rows[i].url, signature);
        post(&w, body);
        wire_expect(&w, 202, NULL);
    }
    assert_string_equal(wait_errand(1)->url, rows[0].url);
    assert_int_equal(courier.count, 2); /* the certificate, and one confirmation */
    bring(1, 200, "<ConfirmSubscriptionResponse/>");
    wire_close(&w);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    mr_logger_set_fd(-1);
    const struct CMUnitTest tests[] = {
        CASE(test_requests_wait_for_the_certificate_once),
        CASE(test_no_certificate_is_503_and_tried_again),
        CASE(test_two_certificates_one_after_the_other),
        CASE(test_refused_without_asking_anybody),
        CASE(test_wrong_signature_and_wrong_topic_are_401),
        CASE(test_stop_answers_those_that_wait),
        CASE(test_confirmation_goes_to_sns_alone),
    };
    return cmocka_run_group_tests(tests, make_key, free_key);
}
