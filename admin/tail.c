/* The live stream of events. The bus thread copies what becomes durable into this thread's queue;
 * this thread filters, writes JSON and sends. What a slow reader or a burst makes too much is
 * dropped and said so in the stream: watching never slows what is watched. */
#include <errno.h>
#include <poll.h>

#include "admin/internal.h"
#include "core/alloc.h"
#include "core/assert.h"
#include "core/clock.h"
#include "core/logger.h"

#define STREAMS_MAX 16u
#define QUEUED_BYTES_MAX (16u * MR_MIB) /* copies waiting, of one stream */
#define KEEP_ALIVE_MS 10000             /* how late at most we see that a reader has left */

enum tail_op {
    TAIL_OPEN = 1, /* struct mr__call: somebody wants to watch */
    TAIL_EVENT,    /* struct seen_event */
};

struct stream {
    uint64_t serial; /* never used again */
    struct mr__tail *tail;
    struct mr__call *call; /* owned; its request is the stream */
    uint64_t handle;       /* at the engine */
    char *source;          /* owned; NULL: any */
    struct mr_filter *filter; /* owned; NULL: any */
    bool is_sse;
    _Atomic uint64_t queued_bytes; /* relaxed: a bound, not an account */
    _Atomic uint64_t dropped;      /* relaxed: told with the next event */
};

struct seen_event {
    struct mr_op op;
    uint64_t serial; /* of its stream, which may be closed by now */
    uint64_t offset;
    uint32_t source;
    size_t size;
    uint8_t record[];
};

struct mr__tail {
    struct mr_admin *admin; /* borrowed */
    struct mr_opq queue;
    pthread_t thread;
    _Atomic bool stopping;
    uint64_t next_serial;
    struct stream *streams[STREAMS_MAX];
};

/* On the bus thread: must not block. */
static void copy_event(void *context, uint64_t offset, uint32_t source, struct mr_bytes record)
{
    struct stream *stream = context;
    uint64_t queued = atomic_load_explicit(&stream->queued_bytes, memory_order_relaxed);
    struct seen_event *seen =
        queued + record.size > QUEUED_BYTES_MAX ? NULL : mr_alloc(sizeof(*seen) + record.size);
    if (seen == NULL) {
        atomic_fetch_add_explicit(&stream->dropped, 1, memory_order_relaxed);
        return;
    }
    seen->op = (struct mr_op){.type = TAIL_EVENT};
    seen->serial = stream->serial;
    seen->offset = offset;
    seen->source = source;
    seen->size = record.size;
    memcpy(seen->record, record.data, record.size);
    atomic_fetch_add_explicit(&stream->queued_bytes, record.size, memory_order_relaxed);
    if (mr_opq_push(&stream->tail->queue, &seen->op) != MR_OK) {
        atomic_fetch_sub_explicit(&stream->queued_bytes, record.size, memory_order_relaxed);
        atomic_fetch_add_explicit(&stream->dropped, 1, memory_order_relaxed);
        mr_free(seen);
    }
}

static void free_stream(struct stream *stream)
{
    mr_filter_destroy(stream->filter);
    mr_free(stream->source);
    mr_free(stream);
}

/* Events of it may still be queued: they are freed by whoever takes them, and find no stream. */
static void close_stream(struct mr__tail *tail, uint32_t index)
{
    struct stream *stream = tail->streams[index];
    tail->admin->host->ops->tail_remove(tail->admin->host, stream->handle);
    tail->streams[index] = NULL;
    mr_http_stream_end(MR_TAKE(stream->call->http));
    mr__call_destroy(stream->call);
    free_stream(stream);
}

/* @param serial 0: a free place */
static int64_t index_of(const struct mr__tail *tail, uint64_t serial)
{
    for (uint32_t i = 0; i < STREAMS_MAX; i++) {
        uint64_t here = tail->streams[i] == NULL ? 0 : tail->streams[i]->serial;
        if (here == serial) {
            return i;
        }
    }
    return -1;
}

static enum mr_status write_line(struct stream *stream, struct mr_json_out *out)
{
    struct mr_buf line;
    mr_buf_init(&line, MR_EVENT_SIZE_MAX * 3);
    enum mr_status r = out->status;
    if (r == MR_OK && stream->is_sse) {
        r = mr_buf_append_text(&line, "data: ");
    }
    if (r == MR_OK) {
        r = mr_buf_append_bytes(&line, mr_buf_bytes(&out->buf));
    }
    if (r == MR_OK) {
        r = mr_buf_append_text(&line, stream->is_sse ? "\n\n" : "\n");
    }
    if (r == MR_OK) {
        r = mr_http_stream_write(stream->call->http, mr_buf_bytes(&line));
    }
    mr_buf_release(&line);
    return r;
}

static enum mr_status tell_dropped(struct stream *stream)
{
    uint64_t dropped = atomic_exchange_explicit(&stream->dropped, 0, memory_order_relaxed);
    if (dropped == 0) {
        return MR_OK;
    }
    struct mr_json_out out;
    mr_json_out_init(&out, MR_KIB);
    mr_json_out_object(&out, NULL);
    mr_json_out_u64(&out, "dropped", dropped);
    mr_json_out_end(&out);
    enum mr_status r = write_line(stream, &out);
    mr_json_out_release(&out);
    return r;
}

static void send_event(struct mr__tail *tail, const struct seen_event *seen)
{
    int64_t index = index_of(tail, seen->serial);
    if (index < 0) {
        return;
    }
    struct stream *stream = tail->streams[index];
    atomic_fetch_sub_explicit(&stream->queued_bytes, seen->size, memory_order_relaxed);
    char source[MR_NAME_SIZE_MAX + 1];
    mr__source_name(tail->admin, seen->source, source, sizeof(source));
    struct mr_bytes record = mr_bytes(seen->record, seen->size);
    if ((stream->source != NULL && strcmp(stream->source, source) != 0) ||
        (stream->filter != NULL && !mr_filter_test(stream->filter, record))) {
        return;
    }
    struct mr_json_out out;
    mr_json_out_init(&out, MR_EVENT_SIZE_MAX * 3);
    mr_json_out_object(&out, NULL);
    mr_json_out_u64(&out, "offset", seen->offset);
    mr_json_out_text(&out, "source", source);
    mr_json_out_event(&out, "event", record);
    mr_json_out_end(&out);
    enum mr_status r = tell_dropped(stream);
    if (r == MR_OK) {
        r = write_line(stream, &out);
    }
    mr_json_out_release(&out);
    if (r != MR_OK) {
        close_stream(tail, (uint32_t)index);
    }
}

static enum mr_status read_wishes(struct stream *stream, struct mr_problem *problem)
{
    const struct mr_http_request *http = stream->call->http;
    const char *source = mr_http_request_query(http, "source");
    const char *filter = mr_http_request_query(http, "filter");
    if (source != NULL && (stream->source = mr_strdup(source)) == NULL) {
        return MR_E_NOMEM;
    }
    struct mr_bytes accept = mr_http_request_header(http, "accept");
    stream->is_sse = mr_bytes_starts(accept, MR_BYTES_LITERAL("text/event-stream"));
    return filter == NULL ? MR_OK
                          : mr_filter_create(mr_bytes_of(filter), &stream->filter, problem);
}

static void open_stream(struct mr__tail *tail, struct mr__call *call)
{
    int64_t index = index_of(tail, 0);
    struct stream *stream = index < 0 ? NULL : mr_calloc(1, sizeof(*stream));
    if (stream == NULL) {
        mr__answer_error(call, 503, "at most %u streams at once", STREAMS_MAX);
        return;
    }
    stream->serial = ++tail->next_serial;
    stream->tail = tail;
    stream->call = call;
    struct mr_problem problem = {.text = ""};
    enum mr_status r = read_wishes(stream, &problem);
    if (r != MR_OK) {
        mr__answer_status(call, r, &problem);
        free_stream(stream);
        return;
    }
    const struct mr_admin_host_ops *ops = tail->admin->host->ops;
    stream->handle = ops->tail_add(tail->admin->host, copy_event, stream);
    if (stream->handle == 0) {
        mr__answer_error(call, 503, "too many streams, or Millrace is stopping");
        free_stream(stream);
        return;
    }
    r = mr_http_stream_begin(call->http,
                             stream->is_sse ? "text/event-stream" : "application/x-ndjson");
    tail->streams[index] = stream;
    if (r == MR_OK) {
        /* The first bytes tell the reader that everything from now on will be seen. */
        r = mr_http_stream_write(call->http, stream->is_sse ? MR_BYTES_LITERAL(": watching\n\n")
                                                            : MR_BYTES_LITERAL("\n"));
    }
    if (r != MR_OK) {
        close_stream(tail, (uint32_t)index);
    }
}

static void keep_alive(struct mr__tail *tail)
{
    for (uint32_t i = 0; i < STREAMS_MAX; i++) {
        struct stream *stream = tail->streams[i];
        if (stream == NULL) {
            continue;
        }
        enum mr_status r = tell_dropped(stream);
        if (r == MR_OK) {
            r = mr_http_stream_write(stream->call->http,
                                     stream->is_sse ? MR_BYTES_LITERAL(":\n\n")
                                                    : MR_BYTES_LITERAL("\n"));
        }
        if (r != MR_OK) {
            close_stream(tail, i);
        }
    }
}

static void run_op(struct mr__tail *tail, struct mr_op *op)
{
    if (op->type == TAIL_EVENT) {
        struct seen_event *seen = (struct seen_event *)(void *)op;
        send_event(tail, seen);
        mr_free(seen);
        return;
    }
    MR_ASSERT(op->type == TAIL_OPEN);
    struct mr__call *call = (struct mr__call *)(void *)op;
    if (atomic_load_explicit(&tail->stopping, memory_order_relaxed)) {
        mr__answer_error(call, 503, "Millrace is stopping");
    } else {
        open_stream(tail, call);
    }
}

static void *run_tail(void *argument)
{
    struct mr__tail *tail = argument;
    uint64_t next_keep_alive_ns = mr_clock_mono_ns() + KEEP_ALIVE_MS * MR_MS;
    for (;;) {
        struct mr_op *op = mr_opq_take(&tail->queue);
        if (op == NULL) {
            if (atomic_load_explicit(&tail->stopping, memory_order_relaxed)) {
                return NULL;
            }
            bool watched = false;
            for (uint32_t i = 0; i < STREAMS_MAX; i++) {
                watched = watched || tail->streams[i] != NULL;
            }
            struct pollfd wait = {.fd = mr_opq_fd(&tail->queue), .events = POLLIN};
            if (poll(&wait, 1, watched ? KEEP_ALIVE_MS : -1) < 0 && errno != EINTR) {
                MR_ERROR("admin", "msg=\"poll failed, ignoring\" errno=%d", errno);
            }
        }
        while (op != NULL) {
            struct mr_op *next = op->next;
            op->next = NULL;
            run_op(tail, op);
            op = next;
        }
        if (mr_clock_mono_ns() >= next_keep_alive_ns) {
            keep_alive(tail);
            next_keep_alive_ns = mr_clock_mono_ns() + KEEP_ALIVE_MS * MR_MS;
        }
    }
}

enum mr_status mr__tail_create(struct mr_admin *admin, struct mr__tail **ret_tail)
{
    struct mr__tail *tail = mr_calloc(1, sizeof(*tail));
    if (tail == NULL) {
        return MR_E_NOMEM;
    }
    tail->admin = admin;
    enum mr_status r = mr_opq_init(&tail->queue, UINT32_MAX); /* bounded in bytes per stream */
    if (r == MR_OK && pthread_create(&tail->thread, NULL, run_tail, tail) != 0) {
        mr_opq_release(&tail->queue);
        r = MR_E_UNAVAILABLE;
    }
    if (r != MR_OK) {
        mr_free(tail);
        return r;
    }
    *ret_tail = tail;
    return MR_OK;
}

void mr__tail_destroy(struct mr__tail *tail)
{
    if (tail == NULL) {
        return;
    }
    atomic_store_explicit(&tail->stopping, true, memory_order_relaxed);
    mr_opq_wake(&tail->queue);
    (void)pthread_join(tail->thread, NULL);
    for (uint32_t i = 0; i < STREAMS_MAX; i++) {
        if (tail->streams[i] != NULL) {
            close_stream(tail, i);
        }
    }
    /* What the bus copied until its stream was removed. */
    struct mr_op *op = mr_opq_take(&tail->queue);
    while (op != NULL) {
        struct mr_op *next = op->next;
        MR_ASSERT(op->type == TAIL_EVENT);
        mr_free(op);
        op = next;
    }
    mr_opq_release(&tail->queue);
    mr_free(tail);
}

void mr__get_tail(struct mr_admin *admin, struct mr__call *call)
{
    call->op.type = TAIL_OPEN;
    if (mr_opq_push(&admin->tail->queue, &call->op) != MR_OK) {
        mr__answer_error(call, 503, "too many requests are waiting");
    }
}
