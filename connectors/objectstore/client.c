#include "connectors/objectstore/client.h"

#include <curl/curl.h>
#include <stdio.h>

#include "connectors/libcurl.h"
#include "core/alloc.h"
#include "core/assert.h"
#include "core/clock.h"
#include "core/logger.h"

#define LINES_MAX 12u
#define LINES_SIZE_MAX (32u * 1024)
#define URL_SIZE_MAX (16u * 1024)
#define ETAG_SIZE_MAX 256u

/* One easy handle, used for one call after the other; its connections live in the multi. */
struct mr_transfer {
    CURL *easy;           /* owned */
    struct mr_call *call; /* borrowed; NULL: free */
    struct mr_buf url;
    struct mr_buf lines; /* header lines, NUL-terminated each */
    struct curl_slist nodes[LINES_MAX];
    char error[CURL_ERROR_SIZE];
    struct mr_curl_guard guard;
    struct mr_transfer *next; /* among the free */
};

struct mr_client {
    struct mr_client_options options;
    char *origin;                  /* owned: scheme://host[:port] */
    char *host;                    /* owned: the Host header */
    CURLM *multi;                  /* owned */
    struct mr_transfer *transfers; /* owned; options.capacity of them */
    struct mr_transfer *first_free;
};

/* --- calls ------------------------------------------------------------------------------------ */

void mr__call_init(struct mr_call *call, size_t answer_size_max)
{
    *call = (struct mr_call){.method = "GET"};
    mr_buf_init(&call->path, URL_SIZE_MAX / 2);
    mr_buf_init(&call->query, URL_SIZE_MAX / 2);
    mr_buf_init(&call->answer, answer_size_max);
    mr_buf_init(&call->etag, ETAG_SIZE_MAX);
}

void mr__call_release(struct mr_call *call)
{
    MR_ASSERT(call->transfer == NULL);
    mr_buf_release(&call->path);
    mr_buf_release(&call->query);
    mr_buf_release(&call->answer);
    mr_buf_release(&call->etag);
}

static void clear_answer(struct mr_call *call)
{
    call->status = 0;
    call->is_sent = false;
    call->is_head_whole = false;
    call->is_timeout = false;
    call->is_too_big = false;
    call->retry_after_ns = 0;
    call->region[0] = '\0';
    call->error[0] = '\0';
    mr_buf_clear(&call->answer);
    mr_buf_clear(&call->etag);
}

void mr__call_clear(struct mr_call *call)
{
    MR_ASSERT(call->transfer == NULL);
    clear_answer(call);
    mr_buf_clear(&call->path);
    mr_buf_clear(&call->query);
    call->body = mr_bytes(NULL, 0);
}

/* --- what libcurl tells ----------------------------------------------------------------------- */

static void take_field(struct mr_call *call, struct mr_bytes name, struct mr_bytes value)
{
    uint64_t seconds;
    if (mr_bytes_equal_nocase(name, MR_BYTES_LITERAL("etag"))) {
        mr_buf_clear(&call->etag);
        if (mr_buf_append_bytes(&call->etag, value) != MR_OK) {
            mr_buf_clear(&call->etag); /* who needs it sees that it is missing */
        }
    } else if (mr_bytes_equal_nocase(name, MR_BYTES_LITERAL("retry-after"))) {
        if (mr_parse_u64(value, &seconds) && seconds < 86400) {
            call->retry_after_ns = seconds * MR_SECOND;
        }
    } else if (mr_bytes_equal_nocase(name, MR_BYTES_LITERAL("x-amz-bucket-region"))) {
        mr_text_clean(call->region, sizeof(call->region), value);
    }
}

static size_t take_header(char *data, size_t one, size_t size, void *context)
{
    (void)one; /* always 1 */
    struct mr_call *call = context;
    if (size > 5 && memcmp(data, "HTTP/", 5) == 0) {
        clear_answer(call); /* a 100 may stand before the answer */
        call->is_sent = true;
        return size;
    }
    if (mr__curl_trim(mr_bytes(data, size)).size == 0) {
        call->is_head_whole = true;
        return size;
    }
    const char *colon = memchr(data, ':', size);
    if (colon != NULL) {
        size_t name_size = (size_t)(colon - data);
        take_field(call, mr_bytes(data, name_size),
                   mr__curl_trim(mr_bytes(colon + 1, size - name_size - 1)));
    }
    return size;
}

static size_t take_body(char *data, size_t one, size_t size, void *context)
{
    (void)one; /* always 1 */
    struct mr_call *call = context;
    enum mr_status r = mr_buf_append(&call->answer, data, size);
    call->is_too_big = r == MR_E_TOO_BIG;
    return r == MR_OK ? size : 0;
}

/* --- life ------------------------------------------------------------------------------------- */

/* What is the same for every call. */
static bool set_options(const struct mr_client *client, struct mr_transfer *t)
{
    CURL *easy = t->easy;
    long connect_ms = (long)(client->options.connect_timeout_ns / MR_MS);
    bool ok = mr__curl_set_http(easy, "http,https", client->options.tls_ca, &t->guard) &&
              curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L) == CURLE_OK &&
              curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L) == CURLE_OK &&
              curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, take_header) == CURLE_OK &&
              curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body) == CURLE_OK &&
              curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, t->error) == CURLE_OK &&
              curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
                               connect_ms > 0 ? connect_ms : 10000L) == CURLE_OK;
    return ok;
}

/* scheme://host[:port]; the port is left out where it is the scheme's own, as servers sign it. */
static enum mr_status make_origin(struct mr_client *client)
{
    const struct mr_url *url = client->options.url;
    struct mr_buf host;
    struct mr_buf origin;
    bool is_tls = strcmp(url->scheme, "https") == 0;
    bool is_v6 = strchr(url->host, ':') != NULL;
    mr_buf_init(&host, 1024);
    mr_buf_init(&origin, 1024);
    enum mr_status r = mr_buf_printf(&host, is_v6 ? "[%s]" : "%s", url->host);
    if (r == MR_OK && url->port != 0 && url->port != (is_tls ? 443 : 80)) {
        r = mr_buf_printf(&host, ":%u", url->port);
    }
    if (r == MR_OK) {
        r = mr_buf_printf(&origin, "%s://%.*s", url->scheme, (int)host.size,
                          (const char *)host.data);
    }
    client->host = r == MR_OK ? mr_buf_take_text(&host) : NULL;
    client->origin = r == MR_OK ? mr_buf_take_text(&origin) : NULL;
    mr_buf_release(&host);
    mr_buf_release(&origin);
    return client->host == NULL || client->origin == NULL ? MR_E_NOMEM : MR_OK;
}

enum mr_status mr__client_create(const struct mr_client_options *options,
                                 struct mr_client **ret_client, struct mr_problem *problem)
{
    mr__curl_begin();
    MR_ASSERT(options->capacity > 0);
    struct mr_client *client = mr_calloc(1, sizeof(*client));
    if (client == NULL) {
        return mr_problem_set(problem, MR_E_NOMEM, "no memory for the HTTP client");
    }
    client->options = *options;
    client->transfers = mr_calloc(options->capacity, sizeof(*client->transfers));
    client->multi = curl_multi_init();
    bool ok = client->transfers != NULL && client->multi != NULL && make_origin(client) == MR_OK &&
              curl_multi_setopt(client->multi, CURLMOPT_MAXCONNECTS, (long)options->capacity) ==
                  CURLM_OK &&
              curl_multi_setopt(client->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING) ==
                  CURLM_OK;
    for (uint32_t i = 0; ok && i < options->capacity; i++) {
        struct mr_transfer *t = &client->transfers[i];
        mr_buf_init(&t->url, URL_SIZE_MAX);
        mr_buf_init(&t->lines, LINES_SIZE_MAX);
        t->guard.egress = options->egress;
        t->easy = curl_easy_init();
        ok = t->easy != NULL && set_options(client, t);
        t->next = client->first_free;
        client->first_free = t;
    }
    if (!ok) {
        mr__client_destroy(client);
        return mr_problem_set(problem, MR_E_NOMEM, "the HTTP client did not start");
    }
    *ret_client = client;
    return MR_OK;
}

static void release_transfer(struct mr_client *client, struct mr_transfer *t)
{
    struct mr_call *call = MR_TAKE(t->call);
    call->transfer = NULL;
    CURLMcode r = curl_multi_remove_handle(client->multi, t->easy);
    MR_ASSERT(r == CURLM_OK);
    t->next = client->first_free;
    client->first_free = t;
}

void mr__client_destroy(struct mr_client *client)
{
    if (client == NULL) {
        return;
    }
    for (uint32_t i = 0; client->transfers != NULL && i < client->options.capacity; i++) {
        struct mr_transfer *t = &client->transfers[i];
        if (t->call != NULL) {
            release_transfer(client, t);
        }
        if (t->easy != NULL) {
            curl_easy_cleanup(t->easy);
        }
        mr_buf_release(&t->url);
        mr_buf_release(&t->lines);
    }
    if (client->multi != NULL) {
        (void)curl_multi_cleanup(client->multi); /* fails only for a bad handle */
    }
    mr_free(client->transfers);
    mr_free(client->origin);
    mr_free(client->host);
    mr_free(client);
}

/* --- one call --------------------------------------------------------------------------------- */

#define SIGNED_MAX 6u

/* The headers that are signed, sorted by name. */
static uint32_t signed_headers(const struct mr_client *client, const struct mr_call *call,
                               const char *date, const char *hash,
                               struct mr_field fields[SIGNED_MAX])
{
    const struct mr_secret *token = client->options.credentials->session_token;
    uint32_t n = 0;
    if (call->content_type != NULL) {
        fields[n++] = (struct mr_field){MR_BYTES_LITERAL("content-type"),
                                        mr_bytes_of(call->content_type)};
    }
    fields[n++] = (struct mr_field){MR_BYTES_LITERAL("host"), mr_bytes_of(client->host)};
    fields[n++] = (struct mr_field){MR_BYTES_LITERAL("x-amz-content-sha256"), mr_bytes_of(hash)};
    fields[n++] = (struct mr_field){MR_BYTES_LITERAL("x-amz-date"), mr_bytes_of(date)};
    if (token != NULL) {
        fields[n++] = (struct mr_field){MR_BYTES_LITERAL("x-amz-security-token"),
                                        mr_secret_use(token)};
    }
    if (call->target != NULL) {
        fields[n++] = (struct mr_field){MR_BYTES_LITERAL("x-amz-target"),
                                        mr_bytes_of(call->target)};
    }
    return n;
}

static enum mr_status add_line(struct mr_buf *lines, struct mr_bytes name, struct mr_bytes value)
{
    enum mr_status r = mr_buf_append_bytes(lines, name);
    r = r == MR_OK ? mr_buf_append_text(lines, ": ") : r;
    r = r == MR_OK ? mr_buf_append_bytes(lines, value) : r;
    return r == MR_OK ? mr_buf_append_byte(lines, '\0') : r;
}

static enum mr_status add_signature(struct mr_client *client, const struct mr_call *call,
                                    struct mr_buf *lines)
{
    char date[MR_AMZ_DATE_SIZE];
    char hash[MR_SHA256_HEX_SIZE];
    struct mr_field fields[SIGNED_MAX];
    mr__sign_date(mr_clock_now().wall_ns, date);
    enum mr_status r = mr__sign_hash(call->body, hash);
    if (r != MR_OK) {
        return r;
    }
    uint32_t count = signed_headers(client, call, date, hash, fields);
    for (uint32_t i = 0; r == MR_OK && i < count; i++) {
        r = add_line(lines, fields[i].name, fields[i].value);
    }
    if (r != MR_OK || client->options.credentials->access_key == NULL) {
        return r;
    }
    const struct mr_sign_input input = {.method = call->method,
                                        .path = mr_buf_bytes(&call->path),
                                        .query = mr_buf_bytes(&call->query),
                                        .headers = fields,
                                        .header_count = count,
                                        .body_hash = hash,
                                        .date = date,
                                        .region = client->options.region,
                                        .service = client->options.service};
    r = mr_buf_append_text(lines, "Authorization: ");
    r = r == MR_OK ? mr__sign(client->options.credentials, &input, lines) : r;
    return r == MR_OK ? mr_buf_append_byte(lines, '\0') : r;
}

static enum mr_status make_lines(struct mr_client *client, struct mr_transfer *t,
                                 const struct mr_call *call)
{
    mr_buf_clear(&t->lines);
    enum mr_status r = add_signature(client, call, &t->lines);
    /* Without these libcurl would wait a second for 100, and call a body without a type a form. */
    r = r == MR_OK ? mr_buf_append(&t->lines, "Expect:", 8) : r;
    if (r == MR_OK && call->content_type == NULL) {
        r = mr_buf_append(&t->lines, "Content-Type:", 14);
    }
    if (r != MR_OK) {
        return r;
    }
    uint32_t n = 0;
    for (size_t at = 0; at < t->lines.size; n++) {
        MR_ASSERT(n < LINES_MAX);
        char *line = (char *)t->lines.data + at;
        t->nodes[n] = (struct curl_slist){.data = line};
        if (n > 0) {
            t->nodes[n - 1].next = &t->nodes[n];
        }
        at += strlen(line) + 1;
    }
    return MR_OK;
}

static enum mr_status make_url(const struct mr_client *client, struct mr_transfer *t,
                               const struct mr_call *call)
{
    mr_buf_clear(&t->url);
    enum mr_status r = mr_buf_append_text(&t->url, client->origin);
    r = r == MR_OK ? mr_buf_append_bytes(&t->url, mr_buf_bytes(&call->path)) : r;
    if (r == MR_OK && call->query.size > 0) {
        r = mr_buf_append_byte(&t->url, '?');
        r = r == MR_OK ? mr_buf_append_bytes(&t->url, mr_buf_bytes(&call->query)) : r;
    }
    return r == MR_OK ? mr_buf_append_byte(&t->url, '\0') : r;
}

static bool set_call(struct mr_transfer *t, struct mr_call *call)
{
    CURL *easy = t->easy;
    bool has_body = strcmp(call->method, "GET") != 0 && strcmp(call->method, "DELETE") != 0;
    uint64_t timeout_ms = call->timeout_ns / MR_MS + 1;
    bool ok = has_body ? curl_easy_setopt(easy, CURLOPT_POST, 1L) == CURLE_OK
                       : curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L) == CURLE_OK;
    if (ok && has_body) {
        ok = curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)call->body.size) ==
                 CURLE_OK &&
             curl_easy_setopt(easy, CURLOPT_POSTFIELDS,
                              call->body.size == 0 ? "" : (const char *)call->body.data) ==
                 CURLE_OK;
    }
    return ok && curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, call->method) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_URL, (const char *)t->url.data) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_HTTPHEADER, t->nodes) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_HEADERDATA, call) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_WRITEDATA, call) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_PRIVATE, t) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, (long)(call->silence_ns / MR_SECOND)) ==
               CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS,
                            (long)(timeout_ms < INT32_MAX ? timeout_ms : INT32_MAX)) == CURLE_OK;
}

enum mr_status mr__client_start(struct mr_client *client, struct mr_call *call)
{
    struct mr_transfer *t = client->first_free;
    MR_ASSERT(call->transfer == NULL && call->path.size > 0);
    if (t == NULL) {
        return MR_E_FULL;
    }
    clear_answer(call);
    t->error[0] = '\0';
    t->guard.is_denied = false;
    if (make_url(client, t, call) != MR_OK || make_lines(client, t, call) != MR_OK ||
        !set_call(t, call) || curl_multi_add_handle(client->multi, t->easy) != CURLM_OK) {
        return MR_E_NOMEM;
    }
    client->first_free = t->next;
    t->next = NULL;
    t->call = call;
    call->transfer = t;
    return MR_OK;
}

void mr__client_abort(struct mr_client *client, struct mr_call *call)
{
    MR_ASSERT(call->transfer != NULL && call->transfer->call == call);
    release_transfer(client, call->transfer);
}

static void finish(struct mr_client *client, CURL *easy, CURLcode code)
{
    struct mr_transfer *t = NULL;
    CURLcode r = curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&t);
    MR_ASSERT(r == CURLE_OK && t != NULL && t->call != NULL);
    struct mr_call *call = t->call;
    long status = 0;
    curl_off_t ready_us = 0;
    (void)curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    /* PRETRANSFER is set when the connection, TLS included, is ready for the request. */
    (void)curl_easy_getinfo(easy, CURLINFO_PRETRANSFER_TIME_T, &ready_us);
    call->is_sent = call->is_sent || ready_us > 0;
    call->is_timeout = code == CURLE_OPERATION_TIMEDOUT;
    /* libcurl takes a connection that closes in the middle of the header for a whole answer. */
    if (code == CURLE_OK && call->is_head_whole) {
        call->status = (unsigned)status;
    } else if (code == CURLE_OK) {
        (void)snprintf(call->error, sizeof(call->error), "the answer ended within its header");
    } else if (t->guard.is_denied && ready_us == 0) {
        (void)snprintf(call->error, sizeof(call->error),
                       "the address is not of the public internet (option `egress`)");
    } else if (call->is_too_big) {
        (void)snprintf(call->error, sizeof(call->error), "the answer is larger than %zu bytes",
                       call->answer.size_max);
    } else {
        (void)snprintf(call->error, sizeof(call->error), "%s%.200s",
                       call->is_timeout ? "timed out: " : "",
                       t->error[0] != '\0' ? t->error : curl_easy_strerror(code));
    }
    release_transfer(client, t);
    call->done(call->context, call);
}

void mr__client_run(struct mr_client *client, int fd, int wait_ms)
{
    struct curl_waitfd wake = {.fd = fd, .events = CURL_WAIT_POLLIN};
    int running = 0;
    int left = 0;
    bool any = false;
    /* Failures of the multi itself are shortages that the calls' own timeouts turn into ends. */
    (void)curl_multi_perform(client->multi, &running);
    for (CURLMsg *m; (m = curl_multi_info_read(client->multi, &left)) != NULL;) {
        if (m->msg == CURLMSG_DONE) {
            finish(client, m->easy_handle, m->data.result);
            any = true;
        }
    }
    if (!any) {
        (void)curl_multi_poll(client->multi, &wake, 1, wait_ms, NULL);
    }
}
