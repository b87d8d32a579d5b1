#include "connectors/http/courier.h"

#include <curl/curl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "connectors/libcurl.h"
#include "core/alloc.h"
#include "core/assert.h"
#include "core/limits.h"

enum {
    ERRAND_MS_MAX = 15000, /* a whole errand */
    CONNECT_MS_MAX = 10000,
    TEXT_SIZE_MAX = 8 * 1024,
};

struct mr_http_courier {
    struct mr_opq *replies; /* borrowed */
    struct mr_opq errands;
    pthread_t thread;
    bool is_started;
    _Atomic bool stopping; /* relaxed: a wake-up or the progress callback follows */
};

static bool is_stopping(const struct mr_http_courier *courier)
{
    return atomic_load_explicit(&courier->stopping, memory_order_relaxed);
}

/* --- errands ---------------------------------------------------------------------------------- */

struct mr_http_errand *mr_http_errand_create(const char *method, const char *url)
{
    struct mr_http_errand *errand = mr_calloc(1, sizeof(*errand));
    if (errand == NULL) {
        return NULL;
    }
    errand->method = method;
    mr_buf_init(&errand->body, MR_HTTP_ERRAND_BODY_MAX);
    mr_buf_init(&errand->text, TEXT_SIZE_MAX);
    errand->url = mr_strdup(url);
    if (errand->url == NULL) {
        mr_http_errand_destroy(errand);
        return NULL;
    }
    return errand;
}

void mr_http_errand_destroy(struct mr_http_errand *errand)
{
    if (errand == NULL) {
        return;
    }
    for (uint32_t i = 0; i < MR_HTTP_ERRAND_HEADERS_MAX; i++) {
        mr_free(errand->headers[i]);
    }
    mr_buf_release(&errand->body);
    mr_buf_release(&errand->text);
    mr_free(errand->tls_ca);
    mr_free(errand->url);
    mr_free(errand);
}

enum mr_status mr_http_errand_header(struct mr_http_errand *errand, const char *name,
                                     const char *value)
{
    uint32_t at = 0;
    while (at < MR_HTTP_ERRAND_HEADERS_MAX && errand->headers[at] != NULL) {
        at++;
    }
    if (at == MR_HTTP_ERRAND_HEADERS_MAX) {
        return MR_E_TOO_BIG;
    }
    struct mr_buf line;
    mr_buf_init(&line, MR_HTTP_HEADER_SIZE_MAX);
    enum mr_status r = mr_buf_printf(&line, "%s: %s", name, value);
    errand->headers[at] = r == MR_OK ? mr_buf_take_text(&line) : NULL;
    mr_buf_release(&line);
    return r == MR_OK && errand->headers[at] == NULL ? MR_E_NOMEM : r;
}

uint32_t mr_http_errand_answers(const struct mr_http_errand *errand,
                                struct mr_field ret[MR_HTTP_ERRAND_ANSWERS_MAX])
{
    for (uint32_t i = 0; i < errand->answer_count; i++) {
        const uint32_t *at = errand->answer_at[i];
        ret[i] = (struct mr_field){mr_bytes(errand->text.data + at[0], at[1]),
                                   mr_bytes(errand->text.data + at[2], at[3])};
    }
    return errand->answer_count;
}

/* --- libcurl ---------------------------------------------------------------------------------- */

static size_t take_body(char *data, size_t one, size_t size, void *context)
{
    (void)one; /* always 1 */
    struct mr_http_errand *errand = context;
    return mr_buf_append(&errand->body, data, size) == MR_OK ? size : 0;
}

static size_t take_header(char *data, size_t one, size_t size, void *context)
{
    (void)one; /* always 1 */
    struct mr_http_errand *errand = context;
    struct mr_bytes prefix = MR_BYTES_LITERAL("webhook-");
    const char *colon = memchr(data, ':', size);
    size_t name_size = colon == NULL ? 0 : (size_t)(colon - data);
    if (name_size <= prefix.size ||
        !mr_bytes_equal_nocase(mr_bytes(data, prefix.size), prefix) ||
        errand->answer_count == MR_HTTP_ERRAND_ANSWERS_MAX) {
        return size;
    }
    struct mr_bytes value = mr__curl_trim(mr_bytes(colon + 1, size - name_size - 1));
    size_t at = errand->text.size;
    if (mr_buf_append(&errand->text, data, name_size) == MR_OK &&
        mr_buf_append_bytes(&errand->text, value) == MR_OK) {
        uint32_t *answer = errand->answer_at[errand->answer_count++];
        answer[0] = (uint32_t)at;
        answer[1] = (uint32_t)name_size;
        answer[2] = (uint32_t)(at + name_size);
        answer[3] = (uint32_t)value.size;
    }
    return size;
}

static int check_stop(void *context, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    (void)a;
    (void)b;
    (void)c;
    (void)d;
    return is_stopping(context) ? 1 : 0;
}

static bool set_options(struct mr_http_courier *courier, struct mr_http_errand *errand, CURL *easy,
                        struct curl_slist *lines, struct mr_curl_guard *guard)
{
    bool is_get = strcmp(errand->method, "GET") == 0;
    bool ok =
        mr__curl_set_http(easy, errand->is_plain ? "http,https" : "https", errand->tls_ca, guard) &&
        curl_easy_setopt(easy, CURLOPT_URL, errand->url) == CURLE_OK &&
        curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)ERRAND_MS_MAX) == CURLE_OK &&
        curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS_MAX) == CURLE_OK &&
        curl_easy_setopt(easy, CURLOPT_USERAGENT, "millrace") == CURLE_OK &&
        curl_easy_setopt(easy, CURLOPT_HTTPHEADER, lines) == CURLE_OK &&
        curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body) == CURLE_OK &&
        curl_easy_setopt(easy, CURLOPT_WRITEDATA, errand) == CURLE_OK &&
        curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, take_header) == CURLE_OK &&
        curl_easy_setopt(easy, CURLOPT_HEADERDATA, errand) == CURLE_OK &&
        curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L) == CURLE_OK &&
        curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, check_stop) == CURLE_OK &&
        curl_easy_setopt(easy, CURLOPT_XFERINFODATA, courier) == CURLE_OK;
    if (ok && !is_get) {
        ok = curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, errand->method) == CURLE_OK;
    }
    return ok;
}

static void run_errand(struct mr_http_courier *courier, struct mr_http_errand *errand)
{
    struct curl_slist lines[MR_HTTP_ERRAND_HEADERS_MAX] = {{0}};
    struct curl_slist *first = errand->headers[0] == NULL ? NULL : &lines[0];
    for (uint32_t i = 0; i < MR_HTTP_ERRAND_HEADERS_MAX && errand->headers[i] != NULL; i++) {
        lines[i].data = errand->headers[i];
        bool more = i + 1 < MR_HTTP_ERRAND_HEADERS_MAX && errand->headers[i + 1] != NULL;
        lines[i].next = more ? &lines[i + 1] : NULL;
    }
    struct mr_curl_guard guard = {.egress = errand->egress};
    CURL *easy = curl_easy_init();
    long status = 0;
    CURLcode code = CURLE_OUT_OF_MEMORY;
    if (easy != NULL && set_options(courier, errand, easy, first, &guard)) {
        code = curl_easy_perform(easy);
    }
    if (code == CURLE_OK) {
        code = curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    }
    if (code == CURLE_OK && status > 0) {
        errand->status = (unsigned)status;
    } else {
        (void)snprintf(errand->error, sizeof(errand->error), "%s",
                       guard.is_denied ? "the address is not of the public internet"
                                       : curl_easy_strerror(code)); /* cut is harmless */
    }
    curl_easy_cleanup(easy);
}

/* --- the thread ------------------------------------------------------------------------------- */

static void *run_courier(void *context)
{
    struct mr_http_courier *courier = context;
    while (!is_stopping(courier)) {
        struct mr_op *op = mr_opq_take(&courier->errands);
        if (op == NULL) {
            struct pollfd fd = {.fd = mr_opq_fd(&courier->errands), .events = POLLIN};
            (void)poll(&fd, 1, -1); /* either way we look again */
            continue;
        }
        while (op != NULL) {
            struct mr_http_errand *errand = (struct mr_http_errand *)(void *)op;
            op = op->next;
            errand->op.next = NULL;
            if (!is_stopping(courier)) {
                run_errand(courier, errand);
            }
            if (is_stopping(courier) || mr_opq_push(courier->replies, &errand->op) != MR_OK) {
                mr_http_errand_destroy(errand); /* nobody waits any more */
            }
        }
    }
    return NULL;
}

enum mr_status mr_http_courier_create(struct mr_opq *replies,
                                      struct mr_http_courier **ret_courier)
{
    struct mr_http_courier *courier = mr_calloc(1, sizeof(*courier));
    if (courier == NULL) {
        return MR_E_NOMEM;
    }
    mr__curl_begin();
    courier->replies = replies;
    enum mr_status r = mr_opq_init(&courier->errands, MR_HTTP_COURIER_ERRANDS_MAX);
    if (r != MR_OK) {
        mr_free(courier);
        return r;
    }
    *ret_courier = courier;
    return MR_OK;
}

enum mr_status mr_http_courier_send(struct mr_http_courier *courier, struct mr_http_errand *errand)
{
    _Static_assert(offsetof(struct mr_http_errand, op) == 0, "found by its first member");
    if (!courier->is_started) {
        sigset_t all;
        sigset_t before;
        sigfillset(&all); /* inherited: signals are the main thread's */
        pthread_sigmask(SIG_SETMASK, &all, &before);
        int error = pthread_create(&courier->thread, NULL, run_courier, courier);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (error != 0) {
            return MR_E_UNAVAILABLE;
        }
        (void)pthread_setname_np(courier->thread, "http-courier"); /* only for those who look */
        courier->is_started = true;
    }
    return mr_opq_push(&courier->errands, &errand->op);
}

void mr_http_courier_destroy(struct mr_http_courier *courier)
{
    if (courier == NULL) {
        return;
    }
    atomic_store_explicit(&courier->stopping, true, memory_order_relaxed);
    if (courier->is_started) {
        mr_opq_wake(&courier->errands);
        (void)pthread_join(courier->thread, NULL);
    }
    for (struct mr_op *op = mr_opq_take(&courier->errands); op != NULL;) {
        struct mr_op *next = op->next;
        mr_http_errand_destroy((struct mr_http_errand *)(void *)op);
        op = next;
    }
    mr_opq_release(&courier->errands);
    mr_free(courier);
}
