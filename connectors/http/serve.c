#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "connectors/http/internal.h"
#include "core/alloc.h"
#include "core/assert.h"
#include "core/clock.h"
#include "core/limits.h"

enum {
    POOL_MAX = 1024,               /* empty requests kept; most hold no more than 4 KiB */
    BODY_FIRST_SIZE = 16 * 1024,   /* believed of a Content-Length before the bytes are there */
    BODY_DISCARD_SIZE = 64 * 1024, /* read to its end for the sake of the connection */
    BODY_RATE = 16 * 1024,         /* bytes a second a body must make after the idle timeout */
};
static const size_t BODIES_SIZE_MAX = 256u * MR_MIB; /* of all connections of a listener */

/* Written past libmicrohttpd, which takes no response while a body arrives. */
#define RAW_ANSWER(status, extra, size, body)                                                      \
    "HTTP/1.1 " status "\r\nContent-Type: application/json\r\nConnection: close\r\n" extra         \
    "Content-Length: " size "\r\n\r\n" body
static const char RAW_413[] =
    RAW_ANSWER("413 Content Too Large", "", "32", "{\"error\":\"the body is too large\"}\n");
static const char RAW_503[] = RAW_ANSWER("503 Service Unavailable", "Retry-After: 1\r\n", "25",
                                         "{\"error\":\"out of memory\"}\n");

/* --- pool and lists --------------------------------------------------------------------------- */

static struct mr_http_request *take_request(struct mr_http_listener *l)
{
    struct mr_http_request *request = l->pool;
    if (request != NULL) {
        l->pool = request->next;
        l->pool_count--;
        request->next = NULL;
        return request;
    }
    request = mr__http_request_create(l);
    if (request != NULL) {
        mr__http_request_clear(request);
    }
    return request;
}

static void count_body(struct mr_http_listener *l, struct mr_http_request *request)
{
    l->body_size += request->body.capacity - request->body_counted;
    request->body_counted = request->body.capacity;
}

static void give_request(struct mr_http_listener *l, struct mr_http_request *request)
{
    if (l->pool_count >= POOL_MAX) {
        l->body_size -= request->body_counted;
        mr__http_request_destroy(request);
        return;
    }
    mr__http_request_clear(request);
    count_body(l, request);
    request->next = l->pool;
    l->pool = request;
    l->pool_count++;
}

static void hold(struct mr_http_listener *l, struct mr_http_request *request)
{
    request->prev = NULL;
    request->next = l->held;
    if (l->held != NULL) {
        l->held->prev = request;
    }
    l->held = request;
}

static void unhold(struct mr_http_listener *l, struct mr_http_request *request)
{
    if (request->prev != NULL) {
        request->prev->next = request->next;
    } else {
        MR_ASSERT(l->held == request);
        l->held = request->next;
    }
    if (request->next != NULL) {
        request->next->prev = request->prev;
    }
    request->prev = NULL;
    request->next = NULL;
}

/* --- a request's way in ----------------------------------------------------------------------- */

static const struct {
    const char *name;
    enum mr_http_method method;
} METHODS[] = {
    {"POST", MR_HTTP_POST},     {"GET", MR_HTTP_GET},       {"HEAD", MR_HTTP_GET},
    {"PUT", MR_HTTP_PUT},       {"DELETE", MR_HTTP_DELETE}, {"OPTIONS", MR_HTTP_OPTIONS},
};

static unsigned method_of(const char *name)
{
    for (size_t i = 0; i < MR_ARRAY_COUNT(METHODS); i++) {
        if (strcmp(METHODS[i].name, name) == 0) {
            return (unsigned)METHODS[i].method;
        }
    }
    return 0;
}

static void answer_method(struct mr_http_request *request, unsigned allowed)
{
    char allow[64] = "";
    for (size_t i = 0; i < MR_ARRAY_COUNT(METHODS); i++) {
        if ((allowed & (unsigned)METHODS[i].method) != 0) {
            size_t size = strlen(allow);
            (void)snprintf(allow + size, sizeof(allow) - size, "%s%s", size > 0 ? ", " : "",
                           METHODS[i].name); /* all six names fit */
        }
    }
    const struct mr_field field = {MR_BYTES_LITERAL("Allow"), mr_bytes_of(allow)};
    mr_http_answer(request,
                   &(struct mr_http_answer){
                       .status = MHD_HTTP_METHOD_NOT_ALLOWED,
                       .content_type = "application/json",
                       .body = MR_BYTES_LITERAL("{\"error\":\"method not allowed here\"}\n"),
                       .headers = &field,
                       .header_count = 1,
                   });
}

static bool path_matches(const char *route, const char *path, size_t *ret_size)
{
    size_t size = strlen(route);
    *ret_size = size;
    if (size > 0 && route[size - 1] == '*') {
        return strncmp(route, path, size - 1) == 0;
    }
    *ret_size = SIZE_MAX; /* the whole path beats every prefix */
    return strcmp(route, path) == 0;
}

/* The route of @p path with its owner marked as running; leave_route() must follow. */
static bool enter_route(struct mr_http_listener *l, const char *path, struct mr_http_route *ret)
{
    const struct mr_http_route *best = NULL;
    size_t best_size = 0;
    pthread_mutex_lock(&l->mu);
    for (uint32_t i = 0; i < l->route_count; i++) {
        size_t size;
        if (path_matches(l->routes[i].path, path, &size) && (best == NULL || size > best_size)) {
            best = &l->routes[i];
            best_size = size;
        }
    }
    if (best != NULL) {
        *ret = *best;
        l->running = best->context;
    }
    pthread_mutex_unlock(&l->mu);
    return best != NULL;
}

static void leave_route(struct mr_http_listener *l)
{
    pthread_mutex_lock(&l->mu);
    l->running = NULL;
    pthread_cond_broadcast(&l->idle);
    pthread_mutex_unlock(&l->mu);
}

/* What the header tells about the body. */
struct body_info {
    bool has_body;
    bool has_size;
    bool expects_continue;
    uint64_t size;
};

static struct body_info read_body_info(struct MHD_Connection *mhd)
{
    struct body_info info = {0};
    const char *size = MHD_lookup_connection_value(mhd, MHD_HEADER_KIND, "Content-Length");
    if (MHD_lookup_connection_value(mhd, MHD_HEADER_KIND, "Transfer-Encoding") != NULL) {
        info.has_body = true;
    } else if (size != NULL) {
        /* A length beyond 64 bits is beyond every limit as well. */
        info.size = mr_parse_u64(mr_bytes_of(size), &info.size) ? info.size : UINT64_MAX;
        info.has_size = true;
        info.has_body = info.size > 0;
    }
    info.expects_continue =
        info.has_body && MHD_lookup_connection_value(mhd, MHD_HEADER_KIND, "Expect") != NULL;
    return info;
}

static void answer_unrouted(struct mr_http_listener *l, struct mr_http_request *request)
{
    if (atomic_load_explicit(&l->draining, memory_order_relaxed)) {
        mr__http_answer_error(request, MHD_HTTP_SERVICE_UNAVAILABLE, "stopping", 1);
    } else {
        mr__http_answer_error(request, MHD_HTTP_NOT_FOUND, "nothing is served at this path", 0);
    }
}

/* Whatever can be said from the header alone; the request is answered when it is wrong. */
static void check_header(struct mr_http_listener *l, struct mr_http_request *request,
                         unsigned method, const struct body_info *info)
{
    struct mr_http_route route;
    if (atomic_load_explicit(&l->stopping, memory_order_relaxed)) {
        mr__http_answer_error(request, MHD_HTTP_SERVICE_UNAVAILABLE, "stopping", 1);
        return;
    }
    if (!enter_route(l, request->path, &route)) {
        answer_unrouted(l, request);
        return;
    }
    request->method = (enum mr_http_method)method;
    mr__http_request_limit(request, route.body_max);
    if (route.admit != NULL && !route.admit(route.context, request)) {
        leave_route(l);
        MR_ASSERT(request->phase == MR__HTTP_ANSWERED);
        return;
    }
    leave_route(l);
    if ((method & route.methods) == 0) {
        answer_method(request, route.methods);
    } else if (info->has_size && info->size > request->size_max) {
        char text[96];
        (void)snprintf(text, sizeof(text), "the body is larger than %zu bytes",
                       request->size_max); /* fits */
        mr__http_answer_error(request, MHD_HTTP_CONTENT_TOO_LARGE, text, 0);
    } else if (info->has_size && mr_buf_reserve(&request->body, info->size < BODY_FIRST_SIZE
                                                                    ? (size_t)info->size
                                                                    : BODY_FIRST_SIZE) != MR_OK) {
        mr__http_answer_error(request, MHD_HTTP_SERVICE_UNAVAILABLE, "out of memory", 1);
    }
}

static enum MHD_Result send_response(struct mr_http_listener *l, struct mr_http_request *request,
                                     struct MHD_Connection *mhd)
{
    MR_ASSERT(request->phase == MR__HTTP_ANSWERED);
    request->phase = MR__HTTP_SENDING;
    l->sending_count++;
    if (request->response == NULL) {
        return MHD_NO; /* no memory for the response: the connection is closed instead */
    }
    return MHD_queue_response(mhd, request->status, request->response);
}

static enum MHD_Result begin_request(struct mr_http_listener *l, struct mr__http_conn *conn,
                                     const char *path, const char *method, void **ret_request)
{
    struct mr_http_request *request = take_request(l);
    if (request == NULL) {
        return MHD_NO;
    }
    *ret_request = request;
    request->conn = conn;
    conn->request = request;
    request->path = path;
    request->phase = MR__HTTP_HANDLING;
    struct body_info info = read_body_info(conn->mhd);
    request->has_body = info.has_body;
    conn->deadline_ns = l->now_ns + l->idle_timeout_ns;
    check_header(l, request, method_of(method), &info);
    count_body(l, request);
    if (request->phase != MR__HTTP_ANSWERED) {
        request->phase = MR__HTTP_READING;
        return MHD_YES;
    }
    if (!info.has_body) {
        return MHD_YES; /* sent with the next call, so that the connection can live on */
    }
    if (info.has_size && info.size <= BODY_DISCARD_SIZE && !info.expects_continue) {
        request->is_discarding = true;
        return MHD_YES;
    }
    conn->linger = true;
    return send_response(l, request, conn->mhd);
}

static enum MHD_Result refuse_raw(struct mr__http_conn *conn, const char *answer)
{
    (void)send(conn->fd, answer, strlen(answer), MSG_DONTWAIT | MSG_NOSIGNAL); /* best effort */
    conn->linger = true;
    return MHD_NO;
}

static enum MHD_Result receive_body(struct mr_http_listener *l, struct mr_http_request *request,
                                    const char *data, size_t *data_size)
{
    size_t size = *data_size;
    *data_size = 0;
    if (request->is_discarding) {
        return MHD_YES;
    }
    MR_ASSERT(request->phase == MR__HTTP_READING);
    struct mr__http_conn *conn = request->conn;
    if (size > request->size_max - request->body.size) {
        return refuse_raw(conn, RAW_413);
    }
    if (mr_buf_append(&request->body, data, size) != MR_OK) {
        return refuse_raw(conn, RAW_503);
    }
    count_body(l, request);
    if (l->body_size > BODIES_SIZE_MAX && request->body.size > BODY_FIRST_SIZE) {
        return refuse_raw(conn, RAW_503);
    }
    conn->deadline_ns += size * (MR_SECOND / BODY_RATE);
    return MHD_YES;
}

static enum MHD_Result dispatch(struct mr_http_listener *l, struct mr_http_request *request)
{
    struct mr_http_route route;
    struct MHD_Connection *mhd = request->conn->mhd;
    request->conn->deadline_ns = 0;
    request->phase = MR__HTTP_HANDLING;
    if (!enter_route(l, request->path, &route)) {
        answer_unrouted(l, request);
        return send_response(l, request, mhd);
    }
    if ((route.methods & (unsigned)request->method) == 0) {
        leave_route(l); /* replaced by another route meanwhile */
        answer_method(request, route.methods);
        return send_response(l, request, mhd);
    }
    /* Copied before the handler: it may give the request to another thread at once. */
    if (!route.fields_borrowed && mr__http_request_own_fields(request) != MR_OK) {
        mr__http_answer_error(request, MHD_HTTP_SERVICE_UNAVAILABLE, "out of memory", 1);
    } else {
        route.handle(route.context, request);
    }
    leave_route(l);
    if (request->phase == MR__HTTP_ANSWERED) {
        return send_response(l, request, mhd);
    }
    request->phase = MR__HTTP_KEPT;
    hold(l, request);
    l->held_count++;
    mr__http_suspend(request);
    return MHD_YES;
}

enum MHD_Result mr__http_serve(void *listener, struct MHD_Connection *mhd, const char *path,
                               const char *method, const char *version, const char *data,
                               size_t *data_size, void **at)
{
    (void)version;
    struct mr_http_listener *l = listener;
    struct mr__http_conn *conn = mr__http_conn_of(mhd);
    if (conn == NULL || conn->denied) {
        return MHD_NO;
    }
    if (conn->detached) {
        /* Its request went with its owner when the listener stopped; see mr__http_detach_all(). */
        *at = NULL;
        conn->detached = false;
        struct MHD_Response *response = mr__http_response(&(struct mr_http_answer){
            .status = MHD_HTTP_SERVICE_UNAVAILABLE,
            .content_type = "application/json",
            .body = MR_BYTES_LITERAL("{\"error\":\"stopping\"}\n"),
        });
        enum MHD_Result queued =
            response == NULL
                ? MHD_NO
                : MHD_queue_response(mhd, MHD_HTTP_SERVICE_UNAVAILABLE, response);
        if (response != NULL) {
            MHD_destroy_response(response);
        }
        return queued;
    }
    struct mr_http_request *request = *at;
    if (request == NULL) {
        return begin_request(l, conn, path, method, at);
    }
    if (*data_size > 0) {
        return receive_body(l, request, data, data_size);
    }
    if (request->phase == MR__HTTP_ANSWERED) {
        return send_response(l, request, mhd);
    }
    MR_ASSERT(request->phase == MR__HTTP_READING);
    return dispatch(l, request);
}

/* --- a request's way out ---------------------------------------------------------------------- */

static void forget_stream(struct mr_http_listener *l, struct mr_http_request *request)
{
    unhold(l, request);
    give_request(l, request);
}

/* The connection is done with a stream; the owner may not be. */
static void complete_stream(struct mr_http_listener *l, struct mr_http_request *request)
{
    struct mr__http_stream *stream = &request->stream;
    pthread_mutex_lock(&stream->mu);
    stream->gone = true;
    bool is_over = stream->ended && !stream->notified;
    pthread_mutex_unlock(&stream->mu);
    request->is_completed = true;
    request->conn = NULL;
    if (request->response != NULL) {
        MHD_destroy_response(request->response);
        request->response = NULL;
    }
    if (is_over) {
        forget_stream(l, request);
    }
}

void mr__http_completed(void *listener, struct MHD_Connection *mhd, void **at,
                        enum MHD_RequestTerminationCode how)
{
    (void)how;
    struct mr_http_listener *l = listener;
    struct mr__http_conn *conn = mr__http_conn_of(mhd);
    struct mr_http_request *request = *at;
    *at = NULL;
    if (conn != NULL) {
        conn->deadline_ns = l->now_ns + l->idle_timeout_ns; /* for the next request */
        conn->request = NULL;
        if (conn->half_closed) {
            conn->is_fresh = true;
            mr__http_hangup(l, conn);
        }
    }
    if (conn != NULL && conn->detached) {
        conn->detached = false; /* *at is the owner's now */
        return;
    }
    if (request == NULL) {
        return;
    }
    /* A connection that waits for its answer is suspended, and the library ends none of those. */
    MR_ASSERT(request->phase != MR__HTTP_KEPT);
    if (request->phase == MR__HTTP_SENDING) {
        l->sending_count--;
    }
    if (request->is_streaming) {
        complete_stream(l, request);
        return;
    }
    give_request(l, request);
}

void mr__http_suspend(struct mr_http_request *request)
{
    MR_ASSERT(!request->is_suspended);
    request->is_suspended = true;
    MHD_suspend_connection(request->conn->mhd);
}

static void resume(struct mr_http_request *request)
{
    if (request->is_suspended) {
        request->is_suspended = false;
        MHD_resume_connection(request->conn->mhd);
    }
}

/* On the loop: the response is there. */
static void answer_kept(struct mr_http_listener *l, struct mr_http_request *request)
{
    MR_ASSERT(request->phase == MR__HTTP_KEPT);
    request->phase = MR__HTTP_ANSWERED;
    l->held_count--;
    if (!request->is_streaming) {
        unhold(l, request);
    }
    resume(request);
}

void mr__http_answered(struct mr_http_request *request)
{
    struct mr_http_listener *l = request->listener;
    if (mr__http_on_loop(l)) {
        if (request->phase == MR__HTTP_HANDLING) {
            request->phase = MR__HTTP_ANSWERED;
        } else {
            answer_kept(l, request);
        }
        return;
    }
    /* Held, so that the queue outlives the push: as soon as the op is in it, the loop may answer,
     * stop and be destroyed. */
    mr__http_listener_ref(l);
    request->op = (struct mr_op){.type = MR__HTTP_OP_ANSWER};
    if (mr_opq_push(&l->ops, &request->op) != MR_OK) {
        mr__http_request_destroy(request); /* detached: the peer was told 503 long ago */
        mr__http_listener_unref(l);        /* the request's */
    }
    mr__http_listener_unref(l);
}

enum mr_status mr__http_stream_notify(struct mr_http_request *request)
{
    struct mr_http_listener *l = request->listener;
    mr__http_listener_ref(l); /* as in mr__http_answered() */
    request->op = (struct mr_op){.type = MR__HTTP_OP_STREAM};
    enum mr_status r = mr_opq_push(&l->ops, &request->op);
    mr__http_listener_unref(l);
    return r;
}

void mr__http_stream_abandon(struct mr_http_request *request)
{
    struct mr_http_listener *l = request->listener;
    mr__http_request_destroy(request);
    mr__http_listener_unref(l);
}

static void handle_stream_op(struct mr_http_listener *l, struct mr_http_request *request)
{
    struct mr__http_stream *stream = &request->stream;
    pthread_mutex_lock(&stream->mu);
    stream->notified = false;
    bool ended = stream->ended;
    bool dropped = stream->dropped;
    pthread_mutex_unlock(&stream->mu);
    if (request->is_completed) {
        if (ended) {
            forget_stream(l, request);
        }
        return;
    }
    if (!request->is_streaming) {
        request->is_streaming = true;
        answer_kept(l, request);
        return;
    }
    if (dropped) {
        (void)shutdown(request->conn->fd, SHUT_RDWR); /* a blocked write ends too */
    }
    resume(request);
}

/* The owner's call came between the detaching and the closing of the queue. */
static void handle_detached_op(struct mr_http_listener *l, struct mr_http_request *request)
{
    bool is_over = request->op.type == MR__HTTP_OP_ANSWER;
    if (!is_over) {
        pthread_mutex_lock(&request->stream.mu);
        request->stream.notified = false;
        request->stream.gone = true;
        is_over = request->stream.ended;
        pthread_mutex_unlock(&request->stream.mu);
    }
    if (is_over) {
        mr__http_request_destroy(request);
        mr__http_listener_unref(l);
    }
}

void mr__http_op(struct mr_http_listener *l, struct mr_op *op)
{
    _Static_assert(offsetof(struct mr_http_request, op) == 0, "found by its first member");
    struct mr_http_request *request = (struct mr_http_request *)(void *)op;
    if (request->is_detached) {
        handle_detached_op(l, request);
    } else if (op->type == MR__HTTP_OP_STREAM) {
        handle_stream_op(l, request);
    } else {
        answer_kept(l, request);
    }
}

/* --- the end ---------------------------------------------------------------------------------- */

void mr__http_end_streams(struct mr_http_listener *l)
{
    for (struct mr_http_request *request = l->held; request != NULL; request = request->next) {
        if (request->is_streaming && !request->is_completed) {
            pthread_mutex_lock(&request->stream.mu);
            request->stream.gone = true;
            pthread_mutex_unlock(&request->stream.mu);
            resume(request);
        }
    }
}

void mr__http_detach_all(struct mr_http_listener *l)
{
    while (l->held != NULL) {
        struct mr_http_request *request = l->held;
        struct mr__http_conn *conn = request->conn;
        unhold(l, request);
        request->is_detached = true;
        l->body_size -= request->body_counted;
        request->body_counted = 0;
        mr__http_listener_ref(l); /* the owner's last call drops it */
        if (conn == NULL) {
            continue; /* a stream whose peer left */
        }
        conn->detached = true;
        conn->request = NULL;
        resume(request);
        request->conn = NULL;
    }
    l->held_count = 0;
}
