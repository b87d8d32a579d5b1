/* Amazon SNS: messages are signed in their body with a key whose certificate the message names. It
 * is fetched once, from hosts of SNS only, and kept; requests that come meanwhile wait. */
#include <cjson/cJSON.h>

#include "connectors/http/source_internal.h"
#include "core/alloc.h"
#include "core/assert.h"
#include "core/clock.h"
#include "core/io.h"
#include "core/limits.h"
#include "core/logger.h"
#include "schemas/sns.h"

enum {
    CERTIFICATES_MAX = 4, /* regions, and a change of certificate */
    WAITING_MAX = 64,
};
static const uint64_t KEEP_NS = 24 * 3600 * MR_SECOND; /* a certificate is looked at again daily */

struct certificate {
    char *url; /* owned; NULL: free */
    struct mr_buf pem;
    uint64_t fetched_ns;
};

struct mr__http_sns {
    char *pem; /* owned; of the options' file, NULL: none. Believed alone */
    size_t pem_size;
    struct certificate certificates[CERTIFICATES_MAX];
    char *fetching; /* owned; the URL under way, or NULL */
    struct mr_http_request *waiting[WAITING_MAX]; /* kept until the certificate is there */
    uint32_t waiting_count;
};

/* --- life ------------------------------------------------------------------------------------- */

enum mr_status mr__http_sns_create(const struct mr_http_verify_options *options,
                                   struct mr__http_sns **ret_sns, struct mr_problem *problem)
{
    struct mr__http_sns *sns = mr_calloc(1, sizeof(*sns));
    if (sns == NULL) {
        return mr_problem_set(problem, MR_E_NOMEM, "out of memory");
    }
    for (uint32_t i = 0; i < CERTIFICATES_MAX; i++) {
        mr_buf_init(&sns->certificates[i].pem, MR_HTTP_ERRAND_BODY_MAX);
    }
    enum mr_status r = MR_OK;
    if (options->certificate != NULL) {
        r = mr_file_read(options->certificate, MR_HTTP_ERRAND_BODY_MAX, &sns->pem, &sns->pem_size);
    }
    if (r != MR_OK) {
        mr__http_sns_destroy(sns);
        return mr_problem_set(problem, r == MR_E_NOMEM ? r : MR_E_INVALID,
                              "cannot read the `certificate` %s: %s", options->certificate,
                              mr_status_text(r));
    }
    *ret_sns = sns;
    return MR_OK;
}

static void clear_certificate(struct certificate *certificate)
{
    mr_free(certificate->url);
    certificate->url = NULL;
    mr_buf_release(&certificate->pem);
}

void mr__http_sns_destroy(struct mr__http_sns *sns)
{
    if (sns == NULL) {
        return;
    }
    MR_ASSERT(sns->waiting_count == 0);
    for (uint32_t i = 0; i < CERTIFICATES_MAX; i++) {
        clear_certificate(&sns->certificates[i]);
    }
    mr_free(sns->fetching);
    mr_free(sns->pem);
    mr_free(sns);
}

void mr__http_sns_release(struct mr_source *s)
{
    for (; s->sns != NULL && s->sns->waiting_count > 0; s->sns->waiting_count--) {
        mr__http_answer_error(s->sns->waiting[s->sns->waiting_count - 1], 503, "stopping",
                              MR__HTTP_RETRY_AFTER_S);
    }
}

/* --- messages --------------------------------------------------------------------------------- */

static bool is_topic_taken(const struct mr_source *s, struct mr_bytes body)
{
    const struct mr_strings *topics = &s->options.verify.topics;
    if (topics->count == 0) {
        return true;
    }
    cJSON *json = cJSON_ParseWithLength((const char *)body.data, body.size);
    const char *arn = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "TopicArn"));
    bool is_taken = false;
    for (uint32_t i = 0; arn != NULL && i < topics->count; i++) {
        is_taken = is_taken || strcmp(arn, topics->items[i]) == 0;
    }
    cJSON_Delete(json);
    return is_taken;
}

/* The certificate is here: judges. */
static void judge(struct mr_source *s, struct mr_http_request *request, struct mr_bytes pem)
{
    struct mr_problem problem = {""};
    struct mr_bytes body = mr_http_request_body(request);
    enum mr_status r = mr_sns_verify(body, pem, &problem);
    if (mr_status_class(r) == MR_CLASS_RETRY) {
        mr__http_answer_error(request, 503, mr_status_text(r), MR__HTTP_RETRY_AFTER_S);
    } else if (r != MR_OK) {
        mr__http_source_refuse(s, request, problem.text);
    } else if (!is_topic_taken(s, body)) {
        mr__http_source_refuse(s, request, "a message of an SNS topic that is not taken");
    } else {
        mr__http_source_accept(s, request);
    }
}

static struct certificate *find_certificate(struct mr__http_sns *sns, const char *url)
{
    uint64_t now_ns = mr_clock_mono_ns();
    for (uint32_t i = 0; i < CERTIFICATES_MAX; i++) {
        struct certificate *c = &sns->certificates[i];
        if (c->url != NULL && strcmp(c->url, url) == 0 && now_ns < c->fetched_ns + KEEP_NS) {
            return c;
        }
    }
    return NULL;
}

static enum mr_status fetch(struct mr_source *s, const char *url)
{
    struct mr__http_sns *sns = s->sns;
    if (sns->fetching != NULL) {
        return MR_OK; /* those that wait are looked at again, whatever it was */
    }
    struct mr_http_errand *errand = mr_http_errand_create("GET", url);
    sns->fetching = mr_strdup(url);
    enum mr_status r = errand == NULL || sns->fetching == NULL ? MR_E_NOMEM : MR_OK;
    if (r == MR_OK) {
        errand->op.type = MR__HTTP_SOURCE_CERTIFICATE;
        errand->egress = MR_EGRESS_PUBLIC;
        r = mr_http_courier_send(s->courier, errand);
    }
    if (r != MR_OK) {
        mr_http_errand_destroy(errand);
        mr_free(MR_TAKE(sns->fetching));
    }
    return r;
}

void mr__http_sns_handle(struct mr_source *s, struct mr_http_request *request)
{
    struct mr__http_sns *sns = s->sns;
    struct mr_problem problem = {""};
    char *url = NULL;
    if (sns->pem != NULL) {
        judge(s, request, mr_bytes(sns->pem, sns->pem_size));
        return;
    }
    enum mr_status r = mr_sns_certificate_url(mr_http_request_body(request), &url, &problem);
    if (r != MR_OK && mr_status_class(r) != MR_CLASS_RETRY) {
        mr__http_source_refuse(s, request, problem.text);
        return;
    }
    struct certificate *c = r == MR_OK ? find_certificate(sns, url) : NULL;
    if (c != NULL) {
        judge(s, request, mr_buf_bytes(&c->pem));
        mr_free(url);
        return;
    }
    if (r == MR_OK) {
        r = sns->waiting_count == WAITING_MAX ? MR_E_FULL : fetch(s, url);
    }
    mr_free(url);
    if (r != MR_OK) {
        mr__http_answer_error(request, 503, "the signature cannot be judged now",
                              MR__HTTP_RETRY_AFTER_S);
        return;
    }
    sns->waiting[sns->waiting_count++] = request;
}

/* Takes the place of the oldest. */
static void keep_certificate(struct mr__http_sns *sns, struct mr_http_errand *errand)
{
    struct certificate *c = &sns->certificates[0];
    for (uint32_t i = 1; i < CERTIFICATES_MAX && c->url != NULL; i++) {
        struct certificate *other = &sns->certificates[i];
        c = other->url == NULL || other->fetched_ns < c->fetched_ns ? other : c;
    }
    clear_certificate(c);
    c->url = MR_TAKE(sns->fetching);
    c->pem = errand->body; /* its memory moves */
    mr_buf_init(&errand->body, MR_HTTP_ERRAND_BODY_MAX);
    c->fetched_ns = mr_clock_mono_ns();
}

/* Whether @p request waits for the certificate at @p url. */
static bool waits_for(struct mr_http_request *request, const char *url)
{
    char *own = NULL;
    struct mr_problem ignored = {""}; /* it was good when the request came */
    enum mr_status r = mr_sns_certificate_url(mr_http_request_body(request), &own, &ignored);
    bool same = r == MR_OK && strcmp(own, url) == 0;
    mr_free(own);
    return same || r != MR_OK;
}

void mr__http_sns_certificate(struct mr_source *s, struct mr_http_errand *errand)
{
    struct mr__http_sns *sns = s->sns;
    struct mr_http_request *waiting[WAITING_MAX];
    uint32_t count = sns->waiting_count;
    bool is_ok = errand->status == 200 && errand->body.size > 0;
    memcpy(waiting, sns->waiting, count * sizeof(waiting[0]));
    sns->waiting_count = 0;
    if (is_ok) {
        keep_certificate(sns, errand);
    } else {
        MR_WARN("http", "source=%s url=%s status=%u err=\"%s\" no certificate", s->name,
                errand->url, errand->status, errand->error);
        mr__http_source_note(s, "the certificate of an SNS message could not be fetched");
        mr_free(MR_TAKE(sns->fetching));
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!is_ok && waits_for(waiting[i], errand->url)) {
            mr__http_answer_error(waiting[i], 503, "the signature cannot be judged now",
                                  MR__HTTP_RETRY_AFTER_S);
        } else {
            mr__http_sns_handle(s, waiting[i]); /* or it waits on, for another certificate */
        }
    }
}

/* --- subscriptions ---------------------------------------------------------------------------- */

void mr__http_sns_confirm(struct mr_source *s, const char *url)
{
    if (s->sns == NULL || !s->options.confirm) {
        MR_INFO("http", "source=%s an SNS subscription waits to be confirmed (option `confirm`)",
                s->name);
        return;
    }
    /* The holder of a key that the operator named is believed; Amazon's signs for everybody. */
    bool is_own = s->sns->pem != NULL;
    if (!is_own && !mr_sns_url_is_trusted(mr_bytes_of(url), false)) {
        mr__http_source_note(s, "an SNS message wants to be confirmed at a host that is not SNS");
        return;
    }
    struct mr_http_errand *errand = mr_http_errand_create("GET", url);
    enum mr_status r = errand == NULL ? MR_E_NOMEM : MR_OK;
    if (r == MR_OK) {
        errand->op.type = MR__HTTP_SOURCE_CONFIRMED;
        errand->egress = is_own ? MR_EGRESS_ANY : MR_EGRESS_PUBLIC;
        errand->is_plain = is_own;
        r = mr_http_courier_send(s->courier, errand);
    }
    if (r != MR_OK) {
        mr_http_errand_destroy(errand);
        mr__http_source_note(s, "no room to confirm an SNS subscription");
    }
}
