#include <stdio.h>
#include <string.h>

#include "connectors/http/internal.h"
#include "core/alloc.h"
#include "core/assert.h"
#include "core/limits.h"

enum {
    FIELDS_FIRST = 16,
    FIELDS_MAX = 256,             /* an event has at most 64 attributes */
    TEXT_SIZE_MAX = 128 * 1024,   /* all fields: the library's pool is 32 KiB a connection */
    BODY_KEPT_SIZE = 64 * 1024,   /* a larger buffer is not kept for the next request */
    STREAM_SIZE_MAX = 1024 * 1024, /* what a slow reader of a stream may lag behind */
    STREAM_CHUNK = 16 * 1024,
    VALUE_SIZE_MAX = 4096, /* of an answer's own header */
};

struct mr_http_request *mr__http_request_create(struct mr_http_listener *listener)
{
    struct mr_http_request *request = mr_calloc(1, sizeof(*request));
    if (request == NULL) {
        return NULL;
    }
    if (pthread_mutex_init(&request->stream.mu, NULL) != 0) {
        mr_free(request);
        return NULL;
    }
    request->listener = listener;
    mr_buf_init(&request->body, MR_BATCH_SIZE_MAX);
    mr_buf_init(&request->text, TEXT_SIZE_MAX);
    mr_buf_init(&request->stream.buffer, STREAM_SIZE_MAX);
    return request;
}

void mr__http_request_clear(struct mr_http_request *request)
{
    if (request->response != NULL) {
        MHD_destroy_response(request->response);
        request->response = NULL;
    }
    if (request->body.capacity > BODY_KEPT_SIZE) {
        mr_buf_release(&request->body);
    }
    mr_buf_clear(&request->body);
    mr_buf_clear(&request->text);
    if (request->is_stream) {
        mr_buf_release(&request->stream.buffer);
        request->stream.at = 0;
        request->stream.ended = false;
        request->stream.gone = false;
        request->stream.dropped = false;
        request->stream.notified = false;
    }
    request->op = (struct mr_op){0};
    request->conn = NULL;
    request->phase = MR__HTTP_READING;
    request->has_body = false;
    request->is_detached = false;
    request->is_completed = false;
    request->is_stream = false;
    request->is_streaming = false;
    request->is_discarding = false;
    request->is_suspended = false;
    request->path = NULL;
    request->header_count = 0;
    request->headers_known = false;
    request->arg_count = 0;
    request->args_known = false;
    request->context = NULL;
    request->status = 0;
    request->prev = NULL;
    request->next = NULL;
}

void mr__http_request_destroy(struct mr_http_request *request)
{
    if (request == NULL) {
        return;
    }
    mr__http_request_clear(request);
    mr_buf_release(&request->body);
    mr_buf_release(&request->text);
    mr_buf_release(&request->stream.buffer);
    mr_free(request->fields);
    mr_free(request->args);
    (void)pthread_mutex_destroy(&request->stream.mu); /* nobody holds it */
    mr_free(request);
}

/* --- fields ----------------------------------------------------------------------------------- */

struct gather {
    struct mr_field **fields;
    uint32_t *count;
    uint32_t *capacity;
};

static enum MHD_Result gather_field(void *context, enum MHD_ValueKind kind, const char *key,
                                    size_t key_size, const char *value, size_t value_size)
{
    (void)kind;
    struct gather *gather = context;
    if (*gather->count == *gather->capacity) {
        uint32_t capacity = *gather->capacity == 0 ? FIELDS_FIRST : *gather->capacity * 2;
        struct mr_field *fields =
            capacity > FIELDS_MAX ? NULL : mr_realloc(*gather->fields, capacity * sizeof(*fields));
        if (fields == NULL) {
            return MHD_NO;
        }
        *gather->fields = fields;
        *gather->capacity = capacity;
    }
    (*gather->fields)[(*gather->count)++] = (struct mr_field){
        .name = mr_bytes(key, key_size),
        .value = mr_bytes(value == NULL ? "" : value, value == NULL ? 0 : value_size),
    };
    return MHD_YES;
}

/* The request is logically unchanged: what is gathered is a cache of the connection's fields. */
static struct mr_http_request *writable(const struct mr_http_request *request)
{
    struct mr_http_request *w;
    memcpy(&w, &request, sizeof(w));
    return w;
}

static void gather_headers(const struct mr_http_request *request)
{
    if (request->headers_known || request->conn == NULL) {
        return;
    }
    struct mr_http_request *w = writable(request);
    w->headers_known = true;
    struct gather gather = {&w->fields, &w->header_count, &w->field_capacity};
    (void)MHD_get_connection_values_n(w->conn->mhd, MHD_HEADER_KIND, gather_field, &gather);
}

static void gather_args(const struct mr_http_request *request)
{
    if (request->args_known || request->conn == NULL) {
        return;
    }
    struct mr_http_request *w = writable(request);
    w->args_known = true;
    struct gather gather = {&w->args, &w->arg_count, &w->arg_capacity};
    (void)MHD_get_connection_values_n(w->conn->mhd, MHD_GET_ARGUMENT_KIND, gather_field, &gather);
}

static enum mr_status measure_fields(const struct mr_field *fields, uint32_t count, size_t *size)
{
    for (uint32_t i = 0; i < count; i++) {
        *size += fields[i].name.size + fields[i].value.size + 2;
    }
    return *size > TEXT_SIZE_MAX ? MR_E_TOO_BIG : MR_OK;
}

/* @p text has room: no pointer into it moves. */
static struct mr_bytes copy_text(struct mr_buf *text, struct mr_bytes from)
{
    const uint8_t *at = text->data + text->size;
    enum mr_status r = mr_buf_append_bytes(text, from);
    MR_ASSERT(r == MR_OK);
    r = mr_buf_append_byte(text, 0);
    MR_ASSERT(r == MR_OK);
    return mr_bytes(at, from.size);
}

enum mr_status mr__http_request_own_fields(struct mr_http_request *request)
{
    gather_headers(request);
    gather_args(request);
    size_t size = strlen(request->path) + 1;
    enum mr_status r = measure_fields(request->fields, request->header_count, &size);
    if (r == MR_OK) {
        r = measure_fields(request->args, request->arg_count, &size);
    }
    if (r == MR_OK) {
        r = mr_buf_reserve(&request->text, size);
    }
    if (r != MR_OK) {
        return r;
    }
    request->path = (const char *)copy_text(&request->text, mr_bytes_of(request->path)).data;
    for (uint32_t i = 0; i < request->header_count; i++) {
        request->fields[i].name = copy_text(&request->text, request->fields[i].name);
        request->fields[i].value = copy_text(&request->text, request->fields[i].value);
    }
    for (uint32_t i = 0; i < request->arg_count; i++) {
        request->args[i].name = copy_text(&request->text, request->args[i].name);
        request->args[i].value = copy_text(&request->text, request->args[i].value);
    }
    return MR_OK;
}

void mr__http_request_forget(struct mr_http_request *request)
{
    MR_ASSERT(request->phase == MR__HTTP_HANDLING || request->phase == MR__HTTP_KEPT);
    request->header_count = 0;
    request->headers_known = true;
    request->arg_count = 0;
    request->args_known = true;
    request->path = "";
    if (request->body.capacity > BODY_KEPT_SIZE) {
        mr_buf_release(&request->body);
    }
    mr_buf_clear(&request->body);
}

void mr__http_request_limit(struct mr_http_request *request, size_t size_max)
{
    request->size_max = size_max < MR_BATCH_SIZE_MAX ? size_max : MR_BATCH_SIZE_MAX;
}

enum mr_http_method mr_http_request_method(const struct mr_http_request *request)
{
    return request->method;
}

const char *mr_http_request_path(const struct mr_http_request *request)
{
    return request->path;
}

const char *mr_http_request_query(const struct mr_http_request *request, const char *name)
{
    gather_args(request);
    struct mr_bytes wanted = mr_bytes_of(name);
    for (uint32_t i = 0; i < request->arg_count; i++) {
        if (mr_bytes_equal(request->args[i].name, wanted)) {
            return (const char *)request->args[i].value.data;
        }
    }
    return NULL;
}

const struct mr_field *mr_http_request_headers(const struct mr_http_request *request,
                                               uint32_t *ret_count)
{
    gather_headers(request);
    *ret_count = request->header_count;
    return request->fields;
}

struct mr_bytes mr_http_request_header(const struct mr_http_request *request, const char *name)
{
    gather_headers(request);
    struct mr_bytes wanted = mr_bytes_of(name);
    for (uint32_t i = 0; i < request->header_count; i++) {
        if (mr_bytes_equal_nocase(request->fields[i].name, wanted)) {
            return request->fields[i].value;
        }
    }
    return (struct mr_bytes){0};
}

struct mr_bytes mr_http_request_body(const struct mr_http_request *request)
{
    return mr_buf_bytes(&request->body);
}

void mr_http_request_set_context(struct mr_http_request *request, void *context)
{
    request->context = context;
}

void *mr_http_request_context(const struct mr_http_request *request)
{
    return request->context;
}

/* --- answers ---------------------------------------------------------------------------------- */

static bool add_header(struct MHD_Response *response, struct mr_bytes name, struct mr_bytes value)
{
    char name_text[128];
    char value_text[VALUE_SIZE_MAX];
    if (name.size >= sizeof(name_text) || value.size >= sizeof(value_text)) {
        return false;
    }
    memcpy(name_text, name.data, name.size);
    name_text[name.size] = '\0';
    if (value.size > 0) {
        memcpy(value_text, value.data, value.size);
    }
    value_text[value.size] = '\0';
    return MHD_add_response_header(response, name_text, value_text) == MHD_YES;
}

struct MHD_Response *mr__http_response(const struct mr_http_answer *answer)
{
    /* The library copies at once; its parameter is not const only for the other modes. */
    void *body;
    memcpy(&body, &answer->body.data, sizeof(body));
    struct MHD_Response *response =
        MHD_create_response_from_buffer(answer->body.size, body, MHD_RESPMEM_MUST_COPY);
    if (response == NULL) {
        return NULL;
    }
    bool ok = answer->content_type == NULL ||
              MHD_add_response_header(response, "Content-Type", answer->content_type) == MHD_YES;
    for (uint32_t i = 0; ok && i < answer->header_count; i++) {
        ok = add_header(response, answer->headers[i].name, answer->headers[i].value);
    }
    if (!ok) {
        MHD_destroy_response(response);
        return NULL;
    }
    return response;
}

void mr_http_answer(struct mr_http_request *request, const struct mr_http_answer *answer)
{
    MR_ASSERT(request != NULL);
    MR_ASSERT(request->response == NULL);
    MR_ASSERT(answer->status >= 200 && answer->status <= 599);
    request->status = answer->status;
    request->response = mr__http_response(answer); /* NULL closes the connection */
    mr__http_answered(request);
}

void mr__http_answer_error(struct mr_http_request *request, unsigned status, const char *text,
                           unsigned retry_after_s)
{
    struct mr_buf body;
    mr_buf_init(&body, MR_ERROR_TEXT_MAX * 6 + 64); /* every byte escaped as \u00xx */
    if (mr_buf_append_text(&body, "{\"error\":") != MR_OK ||
        mr_buf_append_json(&body, mr_bytes_of(text)) != MR_OK ||
        mr_buf_append_text(&body, "}\n") != MR_OK) {
        mr_buf_clear(&body); /* the status alone must do */
    }
    char seconds[16];
    (void)snprintf(seconds, sizeof(seconds), "%u", retry_after_s); /* ten digits at most */
    const struct mr_field retry = {MR_BYTES_LITERAL("Retry-After"), mr_bytes_of(seconds)};
    mr_http_answer(request, &(struct mr_http_answer){.status = status,
                                                     .content_type = "application/json",
                                                     .body = mr_buf_bytes(&body),
                                                     .headers = &retry,
                                                     .header_count = retry_after_s > 0 ? 1 : 0});
    mr_buf_release(&body);
}

/* --- streams ---------------------------------------------------------------------------------- */

enum mr_status mr_http_stream_begin(struct mr_http_request *request, const char *content_type)
{
    MR_ASSERT(request->response == NULL);
    MR_ASSERT(!request->is_stream);
    struct MHD_Response *response = MHD_create_response_from_callback(
        MHD_SIZE_UNKNOWN, STREAM_CHUNK, mr__http_stream_read, request, NULL);
    if (response == NULL) {
        return MR_E_NOMEM;
    }
    if (MHD_add_response_header(response, "Content-Type", content_type) != MHD_YES ||
        MHD_add_response_header(response, "Cache-Control", "no-store") != MHD_YES) {
        MHD_destroy_response(response);
        return MR_E_NOMEM;
    }
    request->status = MHD_HTTP_OK;
    request->response = response;
    request->is_stream = true;
    pthread_mutex_lock(&request->stream.mu);
    request->stream.notified = true;
    pthread_mutex_unlock(&request->stream.mu);
    enum mr_status r = mr__http_stream_notify(request);
    if (r != MR_OK) {
        pthread_mutex_lock(&request->stream.mu);
        request->stream.notified = false;
        request->stream.gone = true;
        pthread_mutex_unlock(&request->stream.mu);
    }
    return MR_OK; /* a listener that is gone shows with the first write, as a peer that left does */
}

enum mr_status mr_http_stream_write(struct mr_http_request *request, struct mr_bytes chunk)
{
    MR_ASSERT(request->is_stream);
    struct mr__http_stream *stream = &request->stream;
    bool notify = false;
    enum mr_status r = MR_E_CLOSED;
    pthread_mutex_lock(&stream->mu);
    MR_ASSERT(!stream->ended);
    if (!stream->gone && !stream->dropped) {
        if (stream->at > 0) {
            memmove(stream->buffer.data, stream->buffer.data + stream->at,
                    stream->buffer.size - stream->at);
            stream->buffer.size -= stream->at;
            stream->at = 0;
        }
        r = mr_buf_append_bytes(&stream->buffer, chunk);
        if (r != MR_OK) {
            stream->dropped = true;
            r = MR_E_FULL;
        }
        notify = !stream->notified;
        stream->notified = true;
    }
    pthread_mutex_unlock(&stream->mu);
    if (notify && mr__http_stream_notify(request) != MR_OK) {
        pthread_mutex_lock(&stream->mu);
        stream->notified = false;
        stream->gone = true;
        pthread_mutex_unlock(&stream->mu);
        r = MR_E_CLOSED;
    }
    return r;
}

void mr_http_stream_end(struct mr_http_request *request)
{
    MR_ASSERT(request->is_stream);
    struct mr__http_stream *stream = &request->stream;
    pthread_mutex_lock(&stream->mu);
    MR_ASSERT(!stream->ended);
    stream->ended = true;
    bool notify = !stream->notified;
    stream->notified = true;
    pthread_mutex_unlock(&stream->mu);
    /* When the op is in the queue already the loop sees `ended` with it, and may have freed the
     * request by now. */
    if (notify && mr__http_stream_notify(request) != MR_OK) {
        mr__http_stream_abandon(request);
    }
}

ssize_t mr__http_stream_read(void *context, uint64_t position, char *to, size_t size_max)
{
    (void)position;
    struct mr_http_request *request = context;
    struct mr__http_stream *stream = &request->stream;
    ssize_t n = 0;
    pthread_mutex_lock(&stream->mu);
    size_t size = stream->buffer.size - stream->at;
    if (stream->dropped) {
        n = MHD_CONTENT_READER_END_WITH_ERROR;
    } else if (size > 0) {
        size = size < size_max ? size : size_max;
        memcpy(to, stream->buffer.data + stream->at, size);
        stream->at += size;
        n = (ssize_t)size;
    } else if (stream->ended || stream->gone) {
        n = MHD_CONTENT_READER_END_OF_STREAM;
    }
    pthread_mutex_unlock(&stream->mu);
    if (n == 0) {
        /* A write between the unlock and here has queued its op, which resumes after this. */
        mr__http_suspend(request);
    }
    return n;
}
