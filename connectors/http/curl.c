/* The transport on libcurl's multi interface. */
#include <curl/curl.h>
#include <stdio.h>
#include <string.h>

#include "connectors/http/transport.h"
#include "connectors/libcurl.h"
#include "core/alloc.h"
#include "core/assert.h"
#include "core/clock.h"

/* One easy handle, used for one exchange after the other; its connections live in the multi. */
struct transfer {
    CURL *easy; /* owned */
    struct curl_slist lines[MR_HTTP_LINES_MAX + 2]; /* its header, without a malloc each */
    char error[CURL_ERROR_SIZE];
    struct mr_curl_guard guard;
    struct transfer *next; /* among the free */
};

struct curl_transport {
    struct mr_http_transport transport;
    struct mr_http_transport_options options;
    CURLM *multi;              /* owned */
    struct transfer *transfers; /* owned; options.capacity of them */
    struct transfer *first_free;
};

static struct curl_transport *own(struct mr_http_transport *transport)
{
    _Static_assert(offsetof(struct curl_transport, transport) == 0, "found by its first member");
    return (struct curl_transport *)(void *)transport;
}

static size_t take_header(char *data, size_t one, size_t size, void *context)
{
    (void)one; /* always 1 */
    struct mr_http_exchange *x = context;
    if (size > 5 && memcmp(data, "HTTP/", 5) == 0) {
        const char *blank = memchr(data, ' ', size);
        unsigned status = 0;
        for (const char *c = blank; c != NULL && c + 1 < data + size && c < blank + 3; c++) {
            status = c[1] >= '0' && c[1] <= '9' ? status * 10 + (unsigned)(c[1] - '0') : status;
        }
        mr_http_exchange_status(x, status);
        return size;
    }
    if (mr__curl_trim(mr_bytes(data, size)).size == 0) {
        mr_http_exchange_head_end(x);
        return size;
    }
    const char *colon = memchr(data, ':', size);
    if (colon != NULL) {
        size_t name_size = (size_t)(colon - data);
        mr_http_exchange_field(x, mr_bytes(data, name_size),
                               mr__curl_trim(mr_bytes(colon + 1, size - name_size - 1)));
    }
    return size;
}

static size_t take_body(char *data, size_t one, size_t size, void *context)
{
    (void)one; /* always 1 */
    return mr_http_exchange_body(context, mr_bytes(data, size)) ? size : 0;
}

/* What is the same for every request of the target. */
static bool set_options(struct curl_transport *t, struct transfer *transfer)
{
    const struct mr_http_client_options *o = t->options.options;
    CURL *easy = transfer->easy;
    long connect_ms = (long)(o->connect_timeout_ns / MR_MS);
    bool ok = mr__curl_set_http(easy, "http,https", o->tls_ca, &transfer->guard) &&
              curl_easy_setopt(easy, CURLOPT_URL, o->url->text) == CURLE_OK &&
              curl_easy_setopt(easy, CURLOPT_POST, 1L) == CURLE_OK &&
              curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, take_header) == CURLE_OK &&
              curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body) == CURLE_OK &&
              curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->error) == CURLE_OK &&
              curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
                               connect_ms > 0 ? connect_ms : 10000L) == CURLE_OK;
    if (ok && o->url->user != NULL) {
        const char *password = o->url->password == NULL
                                   ? ""
                                   : (const char *)mr_secret_use(o->url->password).data;
        ok = curl_easy_setopt(easy, CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC) == CURLE_OK &&
             curl_easy_setopt(easy, CURLOPT_USERNAME, o->url->user) == CURLE_OK &&
             curl_easy_setopt(easy, CURLOPT_PASSWORD, password) == CURLE_OK;
    }
    return ok;
}

static enum mr_status start_exchange(struct mr_http_transport *transport,
                                     struct mr_http_exchange *x)
{
    struct curl_transport *t = own(transport);
    struct transfer *transfer = t->first_free;
    MR_ASSERT(transfer != NULL);
    for (uint32_t i = 0; i < x->line_count; i++) {
        transfer->lines[i].data = (char *)x->lines.data + x->line_at[i];
        transfer->lines[i].next = &transfer->lines[i + 1];
    }
    /* Without these libcurl would wait a second for 100, and call a body without a type a form. */
    static char no_expect[] = "Expect:";
    static char no_type[] = "Content-Type:";
    struct curl_slist *last = &transfer->lines[x->line_count];
    last[0] = (struct curl_slist){.data = no_expect, .next = NULL};
    last[1] = (struct curl_slist){.data = no_type, .next = NULL};
    if (x->message.content_type.size == 0) {
        last[0].next = &last[1];
    }
    transfer->error[0] = '\0';
    transfer->guard.is_denied = false;
    uint64_t timeout_ms = x->handout->timeout_ns / MR_MS + 1;
    CURL *easy = transfer->easy;
    bool ok =
        curl_easy_setopt(easy, CURLOPT_HTTPHEADER, transfer->lines) == CURLE_OK &&
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)x->request_body.size) ==
            CURLE_OK &&
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS,
                         x->request_body.size == 0 ? "" : (const char *)x->request_body.data) ==
            CURLE_OK &&
        curl_easy_setopt(easy, CURLOPT_HEADERDATA, x) == CURLE_OK &&
        curl_easy_setopt(easy, CURLOPT_WRITEDATA, x) == CURLE_OK &&
        curl_easy_setopt(easy, CURLOPT_PRIVATE, x) == CURLE_OK &&
        curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS,
                         (long)(timeout_ms < INT32_MAX ? timeout_ms : INT32_MAX)) == CURLE_OK;
    if (!ok || curl_multi_add_handle(t->multi, easy) != CURLM_OK) {
        return MR_E_NOMEM;
    }
    t->first_free = transfer->next;
    transfer->next = NULL;
    x->transfer = transfer;
    return MR_OK;
}

static void release_transfer(struct curl_transport *t, struct mr_http_exchange *x)
{
    struct transfer *transfer = MR_TAKE(x->transfer);
    MR_ASSERT(transfer != NULL);
    CURLMcode r = curl_multi_remove_handle(t->multi, transfer->easy);
    MR_ASSERT(r == CURLM_OK);
    transfer->next = t->first_free;
    t->first_free = transfer;
}

static void abort_exchange(struct mr_http_transport *transport, struct mr_http_exchange *x)
{
    release_transfer(own(transport), x);
}

/* Whether the request may have reached the other side. */
static bool was_sent(CURL *easy, CURLcode code)
{
    curl_off_t connected_us = 0;
    switch ((int)code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_ISSUER_ERROR:
        return false;
    default:
        /* PRETRANSFER is set when the connection, TLS included, is ready for the request. */
        return curl_easy_getinfo(easy, CURLINFO_PRETRANSFER_TIME_T, &connected_us) == CURLE_OK &&
               connected_us > 0;
    }
}

static void finish(struct curl_transport *t, CURL *easy, CURLcode code)
{
    struct mr_http_exchange *x = NULL;
    CURLcode r = curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&x);
    MR_ASSERT(r == CURLE_OK && x != NULL);
    struct transfer *transfer = x->transfer;
    /* libcurl takes a connection that closes in the middle of the header for a complete answer. A
     * body we refused to read on ends the transfer with an error, and the status still counts. */
    if ((code == CURLE_OK && x->is_head_whole) || (x->body_cut && code == CURLE_WRITE_ERROR)) {
        release_transfer(t, x);
        t->options.done(t->options.context, x, NULL, NULL);
        return;
    }
    bool sent = was_sent(easy, code);
    enum mr_http_failure failure = !sent                              ? MR_HTTP_NOT_REACHED
                                   : code == CURLE_OPERATION_TIMEDOUT ? MR_HTTP_TIMED_OUT
                                                                      : MR_HTTP_BROKEN;
    char text[CURL_ERROR_SIZE + 16];
    if (transfer->guard.is_denied) {
        (void)snprintf(transfer->error, sizeof(transfer->error),
                       "the address is not of the public internet (option `egress`)"); /* fits */
    }
    (void)snprintf(text, sizeof(text), "%s%s", failure == MR_HTTP_TIMED_OUT ? "timed out: " : "",
                   code == CURLE_OK                ? "the answer ended within its header"
                   : transfer->error[0] != '\0' ? transfer->error
                                                  : curl_easy_strerror(code));
    release_transfer(t, x);
    t->options.done(t->options.context, x, &failure, text);
}

static void run_transport(struct mr_http_transport *transport, int fd, int wait_ms)
{
    struct curl_transport *t = own(transport);
    struct curl_waitfd wake = {.fd = fd, .events = CURL_WAIT_POLLIN};
    int running = 0;
    /* Started exchanges make their first step here; failures of the multi itself are shortages
     * that the exchanges' own timeouts turn into answers. */
    (void)curl_multi_perform(t->multi, &running);
    CURLMsg *message;
    int left;
    bool any = false;
    while ((message = curl_multi_info_read(t->multi, &left)) != NULL) {
        if (message->msg == CURLMSG_DONE) {
            finish(t, message->easy_handle, message->data.result);
            any = true;
        }
    }
    if (!any) {
        (void)curl_multi_poll(t->multi, &wake, 1, wait_ms, NULL);
    }
}

static void destroy_transport(struct mr_http_transport *transport)
{
    struct curl_transport *t = own(transport);
    for (uint32_t i = 0; t->transfers != NULL && i < t->options.capacity; i++) {
        if (t->transfers[i].easy != NULL) {
            curl_easy_cleanup(t->transfers[i].easy);
        }
    }
    mr_free(t->transfers);
    if (t->multi != NULL) {
        (void)curl_multi_cleanup(t->multi); /* fails only for a bad handle */
    }
    mr_free(t);
}

enum mr_status mr_http_curl_create(const struct mr_http_transport_options *options,
                                   struct mr_http_transport **ret_transport,
                                   struct mr_problem *problem)
{
    static const struct mr_http_transport_ops ops = {.start = start_exchange,
                                                     .abort = abort_exchange,
                                                     .run = run_transport,
                                                     .destroy = destroy_transport};
    mr__curl_begin();
    struct curl_transport *t = mr_calloc(1, sizeof(*t));
    if (t == NULL) {
        return mr_problem_set(problem, MR_E_NOMEM, "out of memory");
    }
    t->transport.ops = &ops;
    t->options = *options;
    t->multi = curl_multi_init();
    t->transfers = mr_calloc(options->capacity, sizeof(*t->transfers));
    bool ok = t->multi != NULL && t->transfers != NULL &&
              curl_multi_setopt(t->multi, CURLMOPT_MAXCONNECTS, (long)options->capacity) ==
                  CURLM_OK &&
              curl_multi_setopt(t->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING) == CURLM_OK;
    for (uint32_t i = 0; ok && i < options->capacity; i++) {
        t->transfers[i].easy = curl_easy_init();
        t->transfers[i].guard.egress = (enum mr_egress)options->options->egress;
        ok = t->transfers[i].easy != NULL && set_options(t, &t->transfers[i]);
        t->transfers[i].next = t->first_free;
        t->first_free = &t->transfers[i];
    }
    if (!ok) {
        destroy_transport(&t->transport);
        return mr_problem_set(problem, MR_E_NOMEM, "the HTTP client did not start");
    }
    *ret_transport = &t->transport;
    return MR_OK;
}
