#include "connectors/http/source.h"

#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>

#include "connectors/http/internal.h"
#include "core/alloc.h"
#include "core/assert.h"
#include "core/clock.h"
#include "core/limits.h"
#include "core/logger.h"
#include "core/rng.h"
#include "schemas/adapter.h"

enum {
    ROUNDS_MAX = 16,            /* of the reply queue in one pass */
    RETRY_AFTER_S = 1,
    ENVELOPE_SIZE = 64 * 1024,  /* what structured mode may add to a body */
    ANSWER_SIZE_MAX = 64 * 1024 * 1024, /* 1000 ids of 8 MiB together, escaped */
    ANSWER_KEPT_SIZE = 64 * 1024,
    BATCH_FIRST = 64,
};

/* One request whose events lie in a batch. */
struct entry {
    struct mr_http_request *request; /* ours until answered */
    uint32_t first;                  /* index in the batch */
    uint32_t count;
    bool is_array; /* came as a batch and is answered as one */
};

/* All requests of one batch; its context. */
struct group {
    struct entry *entries; /* owned */
    uint32_t count;
    uint32_t capacity;
};

/* Without a comment: of the listener's thread, and of the control thread once stop() has taken the
 * watch out. */
struct mr_source {
    struct mr_host *host;              /* borrowed */
    struct mr_http_listener *listener; /* borrowed */
    char *name;                        /* owned */
    char *path;                        /* owned */
    char *type;                        /* owned */
    char *uri;                         /* owned; source attribute of generic events */
    struct mr_secret *token;           /* owned; NULL: none wanted */
    int adapter;
    uint64_t pending_max;
    uint64_t event_size_max;
    bool has_queue;
    bool has_lock;
    bool is_watched; /* control thread */
    struct mr_opq queue;
    struct mr__http_watch watch;
    struct mr_batch *open; /* of this pass; owned until submitted */
    struct mr_rng rng;
    struct mr_buf answer;
    uint32_t in_flight; /* batches with the bus */
    _Atomic uint32_t index;         /* written by reindex; any value read is one it had */
    _Atomic bool paused;            /* relaxed: a request more or less does not matter */
    _Atomic bool slow;              /* the bus wants less; relaxed likewise */
    _Atomic uint64_t pending;       /* bytes of events not yet durable; written by the owner */
    _Atomic uint64_t messages;      /* counters for health, relaxed */
    _Atomic uint64_t errors;
    pthread_mutex_t mu; /* protects the two below */
    char last_error[256];
    uint64_t last_error_wall_ns;
};

/* --- answers ---------------------------------------------------------------------------------- */

static void note_error(struct mr_source *s, const char *text)
{
    atomic_fetch_add_explicit(&s->errors, 1, memory_order_relaxed);
    struct mr_now now = mr_clock_now();
    pthread_mutex_lock(&s->mu);
    mr_text_clean(s->last_error, sizeof(s->last_error), mr_bytes_of(text));
    s->last_error_wall_ns = now.wall_ns;
    pthread_mutex_unlock(&s->mu);
}

static void answer_unauthorized(struct mr_http_request *request)
{
    static const struct mr_field field = {{(const uint8_t *)"WWW-Authenticate", 16},
                                          {(const uint8_t *)"Bearer", 6}};
    mr_http_answer(request, &(struct mr_http_answer){
                                .status = 401,
                                .content_type = "application/json",
                                .body = MR_BYTES_LITERAL("{\"error\":\"unauthorized\"}\n"),
                                .headers = &field,
                                .header_count = 1,
                            });
}

static void answer_invalid(struct mr_source *s, struct mr_http_request *request,
                           enum mr_status status, bool format_unknown,
                           const struct mr_problem *problem)
{
    unsigned code = 400;
    if (status == MR_E_UNSUPPORTED && format_unknown) {
        code = 415;
    } else if (status == MR_E_TOO_BIG) {
        code = 413;
    } else if (mr_status_class(status) == MR_CLASS_RETRY) {
        code = 503;
    }
    const char *text = problem->text[0] != '\0' ? problem->text : mr_status_text(status);
    note_error(s, text);
    mr__http_answer_error(request, code, text, code == 503 ? RETRY_AFTER_S : 0);
}

static enum mr_status append_result(struct mr_buf *out, const struct mr_batch_item *item,
                                    const char *durable)
{
    char offset[32];
    (void)snprintf(offset, sizeof(offset), "%llu", (unsigned long long)item->offset); /* fits */
    enum mr_status r = mr_buf_append_text(out, "{\"id\":");
    if (r == MR_OK) {
        r = mr_buf_append_json(out, mr_event_id(mr_event_record(item->event)));
    }
    const char *const parts[] = {",\"offset\":", offset, ",\"durable\":\"", durable, "\"}"};
    for (size_t i = 0; r == MR_OK && i < MR_ARRAY_COUNT(parts); i++) {
        r = mr_buf_append_text(out, parts[i]);
    }
    return r;
}

static void answer_accepted(struct mr_source *s, const struct entry *entry,
                            const struct mr_batch *batch)
{
    const char *durable = mr_durability_text(batch->durable);
    struct mr_buf *out = &s->answer;
    mr_buf_clear(out);
    enum mr_status r = entry->is_array ? mr_buf_append_byte(out, '[') : MR_OK;
    for (uint32_t i = 0; r == MR_OK && i < entry->count; i++) {
        if (i > 0) {
            r = mr_buf_append_byte(out, ',');
        }
        if (r == MR_OK) {
            r = append_result(out, &batch->items[entry->first + i], durable);
        }
    }
    if (r == MR_OK) {
        r = mr_buf_append_text(out, entry->is_array ? "]\n" : "\n");
    }
    if (r != MR_OK) {
        mr_buf_clear(out); /* the events are durable, and the status says so */
    }
    mr_http_answer(entry->request, &(struct mr_http_answer){.status = 202,
                                                            .content_type = "application/json",
                                                            .body = mr_buf_bytes(out)});
    if (out->capacity > ANSWER_KEPT_SIZE) {
        mr_buf_release(out);
    }
}

/* --- batches ---------------------------------------------------------------------------------- */

static void destroy_batch(struct mr_batch *batch)
{
    struct group *group = batch->context;
    if (group != NULL) {
        mr_free(group->entries);
        mr_free(group);
    }
    mr_batch_destroy(batch);
}

static struct mr_batch *create_batch(struct mr_source *s)
{
    struct mr_batch *batch =
        mr_batch_create(atomic_load_explicit(&s->index, memory_order_relaxed), BATCH_FIRST);
    if (batch == NULL) {
        return NULL;
    }
    struct group *group = mr_calloc(1, sizeof(*group));
    batch->context = group;
    batch->reply = &s->queue;
    batch->op.type = MR_SOURCE_OP_BATCH_DONE;
    if (group != NULL) {
        group->entries = mr_calloc(BATCH_FIRST, sizeof(*group->entries));
        group->capacity = BATCH_FIRST;
    }
    if (group == NULL || group->entries == NULL) {
        destroy_batch(batch);
        return NULL;
    }
    return batch;
}

static void add_pending(struct mr_source *s, uint64_t size, bool add)
{
    uint64_t pending = atomic_load_explicit(&s->pending, memory_order_relaxed);
    MR_ASSERT(add || pending >= size);
    pending = add ? pending + size : pending - size;
    atomic_store_explicit(&s->pending, pending, memory_order_relaxed);
}

static void submit_open(struct mr_source *s)
{
    struct mr_batch *batch = s->open;
    if (batch == NULL) {
        return;
    }
    s->open = NULL;
    MR_ASSERT(batch->count > 0);
    s->in_flight++;
    s->host->ops->submit(s->host, batch);
}

static bool add_entry(struct mr_batch *batch, const struct entry *entry)
{
    struct group *group = batch->context;
    if (group->count == group->capacity) {
        struct entry *entries =
            mr_realloc(group->entries, (size_t)group->capacity * 2 * sizeof(*entries));
        if (entries == NULL) {
            return false;
        }
        group->entries = entries;
        group->capacity *= 2;
    }
    group->entries[group->count++] = *entry;
    return true;
}

/* Takes the events behind @p count back out. */
static void trim_batch(struct mr_batch *batch, uint32_t count)
{
    while (batch->count > count) {
        struct mr_event *event = batch->items[--batch->count].event;
        batch->size -= event->size;
        mr_event_unref(event);
    }
}

/* Puts all of @p events into the open batch, or none. @return MR_E_NOMEM */
static enum mr_status add_events(struct mr_source *s, struct mr_http_request *request,
                                 struct mr_events *events, bool is_array)
{
    size_t size = 0;
    for (uint32_t i = 0; i < events->count; i++) {
        size += events->events[i]->size;
    }
    if (s->open != NULL && (s->open->count + events->count > MR_BATCH_EVENTS_MAX ||
                            s->open->size + size > MR_BATCH_SIZE_MAX)) {
        submit_open(s);
    }
    if (s->open == NULL) {
        s->open = create_batch(s);
        if (s->open == NULL) {
            return MR_E_NOMEM;
        }
    }
    struct mr_batch *batch = s->open;
    const struct entry entry = {request, batch->count, events->count, is_array};
    enum mr_status r = MR_OK;
    for (uint32_t i = 0; r == MR_OK && i < events->count; i++) {
        r = mr_batch_add(batch, MR_TAKE(events->events[i]), NULL);
    }
    if (r != MR_OK || !add_entry(batch, &entry)) {
        trim_batch(batch, entry.first);
        if (batch->count == 0) {
            destroy_batch(batch);
            s->open = NULL;
        }
        return MR_E_NOMEM;
    }
    add_pending(s, size, true);
    return MR_OK;
}

static void finish_batch(struct mr_source *s, struct mr_batch *batch)
{
    struct group *group = batch->context;
    MR_ASSERT(s->in_flight > 0);
    s->in_flight--;
    add_pending(s, batch->size, false);
    if (batch->result == MR_OK) {
        atomic_fetch_add_explicit(&s->messages, batch->count, memory_order_relaxed);
    } else {
        note_error(s, mr_status_text(batch->result));
    }
    for (uint32_t i = 0; i < group->count; i++) {
        if (batch->result == MR_OK) {
            answer_accepted(s, &group->entries[i], batch);
        } else {
            mr__http_answer_error(group->entries[i].request, 503, mr_status_text(batch->result),
                                  RETRY_AFTER_S);
        }
    }
    destroy_batch(batch);
}

static void handle_op(struct mr_source *s, struct mr_op *op)
{
    switch ((enum mr_source_op)op->type) {
    case MR_SOURCE_OP_BATCH_DONE:
        finish_batch(s, (struct mr_batch *)(void *)op);
        break;
    case MR_SOURCE_OP_SLOW:
        atomic_store_explicit(&s->slow, true, memory_order_relaxed);
        break;
    case MR_SOURCE_OP_GO:
        atomic_store_explicit(&s->slow, false, memory_order_relaxed);
        break;
    }
}

/* @return whether something may be left */
static bool drain_queue(void *context)
{
    _Static_assert(offsetof(struct mr_batch, op) == 0, "found by its first member");
    struct mr_source *s = context;
    for (int round = 0; round < ROUNDS_MAX; round++) {
        struct mr_op *op = mr_opq_take(&s->queue);
        if (op == NULL) {
            return false;
        }
        while (op != NULL) {
            struct mr_op *next = op->next;
            op->next = NULL;
            handle_op(s, op);
            op = next;
        }
    }
    return true;
}

static void end_pass(void *context)
{
    submit_open(context);
}

/* --- requests --------------------------------------------------------------------------------- */

static bool is_authorized(const struct mr_source *s, const struct mr_http_request *request)
{
    static const char scheme[] = "Bearer ";
    if (s->token == NULL) {
        return true;
    }
    struct mr_bytes value = mr_http_request_header(request, "Authorization");
    struct mr_bytes prefix = {(const uint8_t *)scheme, sizeof(scheme) - 1};
    if (value.size < prefix.size ||
        !mr_bytes_equal_nocase(mr_bytes(value.data, prefix.size), prefix)) {
        return false;
    }
    return mr_secret_equal(s->token,
                           mr_bytes(value.data + prefix.size, value.size - prefix.size));
}

static bool has_media_type(struct mr_bytes content_type, const char *media_type)
{
    struct mr_bytes wanted = mr_bytes_of(media_type);
    return content_type.size >= wanted.size &&
           mr_bytes_equal_nocase(mr_bytes(content_type.data, wanted.size), wanted);
}

static bool is_batch(struct mr_bytes content_type)
{
    return has_media_type(content_type, "application/cloudevents-batch");
}

static bool is_busy(const struct mr_source *s, const char **ret_why)
{
    if (atomic_load_explicit(&s->paused, memory_order_relaxed)) {
        *ret_why = "the source is paused";
    } else if (atomic_load_explicit(&s->slow, memory_order_relaxed)) {
        *ret_why = "the log or its disk is short, try again later";
    } else if (atomic_load_explicit(&s->pending, memory_order_relaxed) >= s->pending_max) {
        *ret_why = "too much is waiting to become durable";
    } else {
        return false;
    }
    return true;
}

static bool admit_request(void *context, struct mr_http_request *request)
{
    struct mr_source *s = context;
    const char *why;
    if (!is_authorized(s, request)) {
        note_error(s, "a request without the right token");
        answer_unauthorized(request);
        return false;
    }
    if (is_busy(s, &why)) {
        mr__http_answer_error(request, 503, why, RETRY_AFTER_S);
        return false;
    }
    struct mr_bytes content_type = mr_http_request_header(request, "Content-Type");
    size_t size_max = s->event_size_max;
    if (is_batch(content_type)) {
        size_max = MR_BATCH_SIZE_MAX;
    } else if (has_media_type(content_type, "application/cloudevents")) {
        /* Base64 and the envelope come on top of the event; the decoder judges the event. */
        size_max = size_max / 3 * 4 + ENVELOPE_SIZE;
    }
    mr__http_request_limit(request, size_max);
    return true;
}

static void make_id(struct mr_source *s, char id[37])
{
    uint64_t a = mr_rng_next(&s->rng);
    uint64_t b = mr_rng_next(&s->rng);
    (void)snprintf(id, 37, "%08x-%04x-4%03x-%04x-%04x%08x", (unsigned)(a >> 32),
                   (unsigned)(a >> 16 & 0xffff), (unsigned)(a & 0xfff),
                   (unsigned)(b >> 48 & 0x3fff) | 0x8000u, (unsigned)(b >> 32 & 0xffff),
                   (unsigned)(b & 0xffffffff)); /* 36 characters by the format */
}

static enum mr_status wrap_generic(struct mr_source *s, const struct mr_http_request *request,
                                   struct mr_events *ret_events, struct mr_problem *problem)
{
    char id[37];
    uint32_t count;
    const struct mr_field *headers = mr_http_request_headers(request, &count);
    ret_events->events = mr_calloc(1, sizeof(*ret_events->events));
    if (ret_events->events == NULL) {
        return MR_E_NOMEM;
    }
    make_id(s, id);
    enum mr_status r = mr_adapt_generic(
        headers, count, mr_http_request_body(request), mr_bytes_of(id), mr_bytes_of(s->uri),
        mr_bytes_of(s->type), mr_clock_now().wall_ns, (size_t)s->event_size_max,
        &ret_events->events[0], problem);
    if (r != MR_OK) {
        mr_free(ret_events->events);
        ret_events->events = NULL;
        return r;
    }
    ret_events->count = 1;
    return MR_OK;
}

static void handle_request(void *context, struct mr_http_request *request)
{
    struct mr_source *s = context;
    struct mr_events events = {0};
    struct mr_problem problem = {""};
    const char *why;
    uint32_t count;
    if (is_busy(s, &why)) { /* once more: the body may have taken its time */
        mr__http_answer_error(request, 503, why, RETRY_AFTER_S);
        return;
    }
    const struct mr_field *headers = mr_http_request_headers(request, &count);
    bool format_unknown = false;
    enum mr_status r = mr_http_decode(headers, count, mr_http_request_body(request),
                                      (size_t)s->event_size_max, &events, &format_unknown,
                                      &problem);
    if (r == MR_E_NOT_CLOUDEVENT && s->adapter == MR_HTTP_ADAPTER_GENERIC) {
        problem.text[0] = '\0';
        r = wrap_generic(s, request, &events, &problem);
    }
    if (r != MR_OK) {
        answer_invalid(s, request, r, format_unknown, &problem);
        return;
    }
    bool is_array = is_batch(mr_http_request_header(request, "Content-Type"));
    if (events.count == 0) {
        mr_http_answer(request, &(struct mr_http_answer){.status = 202,
                                                         .content_type = "application/json",
                                                         .body = MR_BYTES_LITERAL("[]\n")});
    } else if (events.count > MR_BATCH_EVENTS_MAX) {
        (void)mr_problem_set(&problem, MR_E_TOO_BIG, "a batch holds at most %u events",
                             MR_BATCH_EVENTS_MAX);
        answer_invalid(s, request, MR_E_TOO_BIG, false, &problem);
    } else if (add_events(s, request, &events, is_array) != MR_OK) {
        answer_invalid(s, request, MR_E_NOMEM, false, &problem);
    } else {
        mr__http_request_forget(request);
        mr__http_watch_end_of_pass(&s->watch);
    }
    mr_events_release(&events);
}

/* --- options ---------------------------------------------------------------------------------- */

enum mr_status mr_http_source_check(const void *options, struct mr_problem *problem)
{
    static const char *const taken[] = {"/livez", "/readyz", "/metrics"};
    const char *path = ((const struct mr_http_source_options *)options)->path;
    if (path == NULL || path[0] != '/' || strpbrk(path, "?#* ") != NULL) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "`path` %s must begin with a slash and have no ? # * or blank",
                              path == NULL ? "(none)" : path);
    }
    for (size_t i = 0; i < MR_ARRAY_COUNT(taken); i++) {
        if (strcmp(path, taken[i]) == 0) {
            return mr_problem_set(problem, MR_E_INVALID, "`path` %s is Millrace's own", path);
        }
    }
    return MR_OK;
}

/* --- life ------------------------------------------------------------------------------------- */

static void destroy_source(struct mr_source *s)
{
    if (s == NULL) {
        return;
    }
    if (s->in_flight > 0) {
        /* They would come back into freed memory: kept for ever instead. */
        MR_ERROR("http", "source %s destroyed with %u batches not back", s->name, s->in_flight);
        return;
    }
    MR_ASSERT(s->open == NULL);
    mr_buf_release(&s->answer);
    mr_secret_destroy(s->token);
    if (s->has_queue) {
        mr_opq_release(&s->queue);
    }
    if (s->has_lock) {
        (void)pthread_mutex_destroy(&s->mu); /* nobody holds it */
    }
    mr_free(s->name);
    mr_free(s->path);
    mr_free(s->type);
    mr_free(s->uri);
    mr_free(s);
}

static enum mr_status copy_options(struct mr_source *s, const struct mr_source_args *args)
{
    const struct mr_http_source_options *options = args->options;
    struct mr_buf uri;
    mr_buf_init(&uri, MR_KIB);
    enum mr_status r = mr_buf_printf(&uri, "/millrace/source/%s", args->name);
    s->uri = r == MR_OK ? mr_buf_take_text(&uri) : NULL;
    mr_buf_release(&uri);
    s->name = mr_strdup(args->name);
    s->path = mr_strdup(options->path);
    s->type = mr_strdup(options->type == NULL ? "io.millrace.http.message" : options->type);
    if (options->token != NULL) {
        s->token = mr_secret_create(mr_secret_use(options->token));
    }
    if (s->uri == NULL || s->name == NULL || s->path == NULL || s->type == NULL ||
        (options->token != NULL && s->token == NULL)) {
        return MR_E_NOMEM;
    }
    s->adapter = options->adapter;
    s->pending_max = options->pending_max;
    s->event_size_max = args->config->event_size_max;
    return MR_OK;
}

static enum mr_status create_source(const struct mr_source_args *args,
                                    struct mr_source **ret_source, struct mr_problem *problem)
{
    if (args->listener == NULL) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "source %s takes HTTP but `listen` is off: give it an address",
                              args->name);
    }
    struct mr_source *s = mr_calloc(1, sizeof(*s));
    if (s == NULL) {
        return mr_problem_set(problem, MR_E_NOMEM, "out of memory");
    }
    s->host = args->host;
    s->listener = args->listener;
    mr_buf_init(&s->answer, ANSWER_SIZE_MAX);
    mr_rng_init(&s->rng, mr_rng_entropy());
    atomic_init(&s->index, args->index);
    enum mr_status r = copy_options(s, args);
    if (r == MR_OK) {
        s->has_lock = pthread_mutex_init(&s->mu, NULL) == 0;
        r = s->has_lock ? mr_opq_init(&s->queue, UINT64_MAX) : MR_E_NOMEM;
        s->has_queue = r == MR_OK;
    }
    if (r != MR_OK) {
        destroy_source(s);
        return mr_problem_set(problem, r, "cannot make source %s: %s", args->name,
                              mr_status_text(r));
    }
    s->watch = (struct mr__http_watch){
        .queue = &s->queue, .ready = drain_queue, .end_of_pass = end_pass, .context = s};
    *ret_source = s;
    return MR_OK;
}

static enum mr_status start_source(struct mr_source *s, struct mr_problem *problem)
{
    enum mr_status r = mr__http_watch(s->listener, &s->watch);
    if (r != MR_OK) {
        return mr_problem_set(problem, r, "cannot start source %s: %s", s->name,
                              mr_status_text(r));
    }
    s->is_watched = true;
    const struct mr_http_route route = {
        .methods = MR_HTTP_POST,
        .path = s->path,
        .body_max = MR_BATCH_SIZE_MAX,
        .handle = handle_request,
        .admit = admit_request,
        .fields_borrowed = true,
        .context = s,
    };
    r = mr_http_listener_route(s->listener, &route, false);
    if (r == MR_OK) {
        return MR_OK;
    }
    mr__http_unwatch(s->listener, &s->watch);
    s->is_watched = false;
    if (r == MR_E_EXISTS) {
        return mr_problem_set(problem, r, "source %s: the path %s is taken by another", s->name,
                              s->path);
    }
    return mr_problem_set(problem, r, "cannot start source %s: %s", s->name, mr_status_text(r));
}

static void pause_source(struct mr_source *s)
{
    atomic_store_explicit(&s->paused, true, memory_order_relaxed);
}

static void resume_source(struct mr_source *s)
{
    atomic_store_explicit(&s->paused, false, memory_order_relaxed);
}

static void stop_source(struct mr_source *s, uint64_t deadline_mono_ns)
{
    if (s->is_watched) {
        pause_source(s);
        mr_http_listener_unroute(s->listener, s);
        mr__http_unwatch(s->listener, &s->watch);
        s->is_watched = false;
        submit_open(s); /* from here on this thread owns what was the listener's */
    }
    while (drain_queue(s) || s->in_flight > 0) {
        uint64_t now = mr_clock_mono_ns();
        if (now >= deadline_mono_ns) {
            MR_WARN("http", "source %s stops with %u batches not back", s->name, s->in_flight);
            return;
        }
        uint64_t left_ms = (deadline_mono_ns - now) / MR_MS + 1;
        struct pollfd fd = {.fd = mr_opq_fd(&s->queue), .events = POLLIN};
        (void)poll(&fd, 1, left_ms < 1000 ? (int)left_ms : 1000); /* either way we look again */
    }
}

static void read_health(struct mr_source *s, struct mr_health *ret)
{
    *ret = (struct mr_health){.state = MR_HEALTH_OK};
    const char *why = "";
    if (is_busy(s, &why)) {
        ret->state = MR_HEALTH_DEGRADED;
    }
    (void)snprintf(ret->detail, sizeof(ret->detail), "%s%s%.80s", why, why[0] != '\0' ? ", " : "",
                   s->path); /* cut is harmless */
    ret->messages = atomic_load_explicit(&s->messages, memory_order_relaxed);
    ret->errors = atomic_load_explicit(&s->errors, memory_order_relaxed);
    ret->bytes_held = atomic_load_explicit(&s->pending, memory_order_relaxed);
    pthread_mutex_lock(&s->mu);
    memcpy(ret->last_error, s->last_error, sizeof(ret->last_error));
    ret->last_error_wall_ns = s->last_error_wall_ns;
    pthread_mutex_unlock(&s->mu);
}

static void reindex_source(struct mr_source *s, uint32_t index)
{
    atomic_store_explicit(&s->index, index, memory_order_relaxed);
}

const struct mr_source_ops mr_http_source_ops = {
    .create = create_source,
    .start = start_source,
    .pause = pause_source,
    .resume = resume_source,
    .stop = stop_source,
    .destroy = destroy_source,
    .health = read_health,
    .reindex = reindex_source,
};
