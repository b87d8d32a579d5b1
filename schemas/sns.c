#include "schemas/sns.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "core/alloc.h"
#include "core/assert.h"
#include "schemas/adapt.h"

#define URL_SIZE_MAX 4096u
#define CERTIFICATE_SIZE_MAX (64 * MR_KIB)

static bool is_region(struct mr_bytes text)
{
    for (size_t i = 0; i < text.size; i++) {
        uint8_t c = text.data[i];
        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '-') {
            return false;
        }
    }
    return text.size > 0;
}

static bool is_host(struct mr_bytes host)
{
    static const char *const ends[] = {".amazonaws.com", ".amazonaws.com.cn"};
    const struct mr_bytes begin = MR_BYTES_LITERAL("sns.");
    if (!mr_bytes_starts(host, begin)) {
        return false;
    }
    host = mr_bytes(host.data + begin.size, host.size - begin.size);
    for (size_t i = 0; i < MR_ARRAY_COUNT(ends); i++) {
        struct mr_bytes end = mr_bytes_of(ends[i]);
        if (mr_bytes_ends(host, end) &&
            is_region(mr_bytes(host.data, host.size - end.size))) {
            return true;
        }
    }
    return false;
}

bool mr_sns_url_is_trusted(struct mr_bytes url, bool certificate)
{
    const struct mr_bytes scheme = MR_BYTES_LITERAL("https://");
    if (url.size > URL_SIZE_MAX || !mr_bytes_starts(url, scheme)) {
        return false;
    }
    for (size_t i = 0; i < url.size; i++) {
        if (url.data[i] <= ' ' || url.data[i] >= 0x7F || url.data[i] == '\\') {
            return false;
        }
    }
    url = mr_bytes(url.data + scheme.size, url.size - scheme.size);
    size_t size = 0;
    while (size < url.size && strchr("/?#", url.data[size]) == NULL) {
        size++;
    }
    struct mr_bytes host = mr_bytes(url.data, size);
    struct mr_bytes rest = mr_bytes(url.data + size, url.size - size);
    if (mr_bytes_ends(host, MR_BYTES_LITERAL(":443"))) {
        host.size -= 4;
    }
    return is_host(host) && (!certificate || (mr_bytes_ends(rest, MR_BYTES_LITERAL(".pem")) &&
                                              memchr(rest.data, '?', rest.size) == NULL &&
                                              memchr(rest.data, '#', rest.size) == NULL));
}

/* A message that is being looked at; the helpers of the adapters read its members. */
struct message {
    struct mr_adapt_input input;
    struct mr_adapted adapted; /* stays empty */
    struct mr__adapt run;
    struct mr_bytes json;
};

static bool open_message(struct message *message, struct mr_bytes body, struct mr_problem *problem)
{
    *message = (struct message){.input = {.body = body}};
    message->run = (struct mr__adapt){.input = &message->input,
                                      .body = body,
                                      .problem = problem,
                                      .adapted = &message->adapted};
    if (mr__adapt_parse(&message->run, body, &message->json) && message->json.data[0] != '{') {
        mr__adapt_fail(&message->run, MR_E_INVALID, "the message is no JSON object");
    }
    return message->run.status == MR_OK;
}

/* A member's text; newer and older messages spell URLs apart. */
static bool read_text(struct message *message, const char *name, struct mr_buf *out)
{
    struct mr_bytes value;
    return mr__adapt_get_kind(&message->run, message->json, name, '"', &value) &&
           mr__adapt_text(&message->run, value, out);
}

enum mr_status mr_sns_certificate_url(struct mr_bytes body, char **ret_url,
                                      struct mr_problem *problem)
{
    struct message message;
    struct mr_buf url;
    mr_buf_init(&url, URL_SIZE_MAX + 1);
    if (open_message(&message, body, problem) && !read_text(&message, "SigningCertURL", &url) &&
        !read_text(&message, "SigningCertUrl", &url)) {
        mr__adapt_fail(&message.run, MR_E_INVALID, "the member SigningCertURL is missing");
    }
    if (message.run.status == MR_OK && !mr_sns_url_is_trusted(mr_buf_bytes(&url), true)) {
        mr__adapt_fail(&message.run, MR_E_DENIED,
                       "the SigningCertURL is no certificate of sns.<region>.amazonaws.com");
    }
    char *text = message.run.status == MR_OK ? mr_buf_take_text(&url) : NULL;
    if (message.run.status == MR_OK && text == NULL) {
        mr__adapt_fail(&message.run, MR_E_NOMEM, "out of memory");
    }
    mr_buf_release(&url);
    if (message.run.status == MR_OK) {
        *ret_url = text;
    }
    return message.run.status;
}

/* "Name\nvalue\n" for each signed member, in the order of their names. */
static void write_signed(struct message *message, struct mr_buf *out)
{
    static const char *const notification[] = {"Message",   "MessageId", "Subject",
                                               "Timestamp", "TopicArn",  "Type"};
    static const char *const confirmation[] = {"Message", "MessageId", "SubscribeURL", "Timestamp",
                                               "Token",   "TopicArn",  "Type"};
    bool notified = mr__adapt_is(&message->run, message->json, "Type", "Notification");
    const char *const *names = notified ? notification : confirmation;
    size_t count = notified ? MR_ARRAY_COUNT(notification) : MR_ARRAY_COUNT(confirmation);
    for (size_t i = 0; message->run.status == MR_OK && i < count; i++) {
        size_t before = out->size;
        enum mr_status r = mr_buf_printf(out, "%s\n", names[i]);
        bool there = r == MR_OK && read_text(message, names[i], out);
        if (r == MR_OK && there) {
            r = mr_buf_append_byte(out, '\n');
        }
        if (r != MR_OK) {
            mr__adapt_fail(&message->run, r, "out of memory");
        } else if (!there && strcmp(names[i], "Subject") == 0) {
            out->size = before; /* the one member that may be absent */
        } else if (!there) {
            mr__adapt_fail(&message->run, MR_E_INVALID, "the member %s is missing", names[i]);
        }
    }
}

/* The key of the first certificate in @p pem, or NULL. */
static EVP_PKEY *read_key(struct mr_bytes pem)
{
    if (pem.size == 0 || pem.size > CERTIFICATE_SIZE_MAX) {
        return NULL;
    }
    BIO *bio = BIO_new_mem_buf(pem.data, (int)pem.size);
    X509 *certificate = bio == NULL ? NULL : PEM_read_bio_X509(bio, NULL, NULL, NULL);
    EVP_PKEY *key = certificate == NULL ? NULL : X509_get_pubkey(certificate);
    X509_free(certificate);
    BIO_free(bio);
    if (key != NULL && EVP_PKEY_get_base_id(key) != EVP_PKEY_RSA) {
        EVP_PKEY_free(key);
        key = NULL;
    }
    return key;
}

static bool is_signed(EVP_PKEY *key, const EVP_MD *digest, struct mr_bytes text,
                      struct mr_bytes signature)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool good = context != NULL && signature.size > 0 &&
                EVP_DigestVerifyInit(context, NULL, digest, NULL, key) == 1 &&
                EVP_DigestVerify(context, signature.data, signature.size, text.data,
                                 text.size) == 1;
    EVP_MD_CTX_free(context);
    return good;
}

enum mr_status mr_sns_verify(struct mr_bytes body, struct mr_bytes certificate_pem,
                             struct mr_problem *problem)
{
    struct message message;
    struct mr_buf text;
    struct mr_buf encoded;
    struct mr_buf signature;
    mr_buf_init(&text, body.size + 256);
    mr_buf_init(&encoded, body.size + 1);
    mr_buf_init(&signature, body.size + 1);
    const EVP_MD *digest = NULL;
    EVP_PKEY *key = NULL;
    if (open_message(&message, body, problem)) {
        struct mr__adapt *run = &message.run;
        write_signed(&message, &text);
        if (mr__adapt_is(run, message.json, "SignatureVersion", "1")) {
            digest = EVP_sha1();
        } else if (mr__adapt_is(run, message.json, "SignatureVersion", "2")) {
            digest = EVP_sha256();
        } else {
            mr__adapt_fail(run, MR_E_DENIED, "the SignatureVersion is neither 1 nor 2");
        }
        if (!read_text(&message, "Signature", &encoded) ||
            mr_buf_append_unbase64(&signature, mr_buf_bytes(&encoded)) != MR_OK) {
            mr__adapt_fail(run, MR_E_DENIED, "there is no signature in base64");
        }
        key = run->status == MR_OK ? read_key(certificate_pem) : NULL;
        if (run->status == MR_OK && key == NULL) {
            mr__adapt_fail(run, MR_E_INVALID, "the certificate is no X.509 with an RSA key");
        }
        if (run->status == MR_OK &&
            !is_signed(key, digest, mr_buf_bytes(&text), mr_buf_bytes(&signature))) {
            mr__adapt_fail(run, MR_E_DENIED, "the signature does not hold");
        }
    }
    EVP_PKEY_free(key);
    ERR_clear_error(); /* or the next TLS connection of this thread trips over what is left */
    mr_buf_release(&signature);
    mr_buf_release(&encoded);
    mr_buf_release(&text);
    return message.run.status;
}
