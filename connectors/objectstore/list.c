/* Source `via: list`: lists a bucket every `interval` and tells what was created, changed and
 * removed since it did so last. pass.h compares; here is the thread, the calls, the events. */
#include <assert.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>

#include "connectors/backoff.h"
#include "connectors/intake.h"
#include "connectors/objectstore/objectstore.h"
#include "connectors/objectstore/list_event.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "core/hash.h"
#include "core/logger.h"

#define PAGE_SIZE_MAX (8u * MR_MIB) /* 1000 keys, encoded, and what stands around them */
#define CALL_TIMEOUT_NS (10 * MR_MINUTE) /* of a page, over however slow a line */
#define SILENCE_NS (15 * MR_SECOND)
#define BATCH_EVENTS 500u
#define LOOK_MS 1000

struct mr_source {
    struct mr_intake intake;
    struct mr_objectstore_source_options options; /* owned copy */
    struct mr_service service;
    bool has_service;
    struct mr_pass pass;
    bool has_pass;
    char bucket[256];

    /* The thread's own. */
    struct mr_call call;
    bool call_is_running;
    struct mr_listing listing; /* of the page in call.answer */
    bool page_is_open;
    bool listing_ended;
    struct mr_object object; /* listed, not yet compared */
    bool has_object;
    struct mr_object gone;
    bool is_quiet;             /* the first pass, with existing: false: only remembers */
    bool is_compared;          /* everything is; what is left must become durable */
    struct mr_batch *building; /* owned */
    char *cursor;              /* owned; the last durable one, or NULL */
    uint64_t next_at_ns;
    bool is_done; /* once */
    struct mr_backoff backoff;
    uint64_t retry_at_ns;
};

/* --- trouble ---------------------------------------------------------------------------------- */

static void note_failure(struct mr_source *s, const char *text, bool leave)
{
    uint64_t now_ns = mr_clock_mono_ns();
    s->retry_at_ns = now_ns + mr__backoff_next(&s->backoff);
    s->page_is_open = false;
    s->has_object = false;
    if (leave) {
        mr__pass_leave(&s->pass); /* it is taken up where the last durable event left it */
        mr_batch_destroy(MR_TAKE(s->building));
    }
    mr__lifecycle_set_health(&s->intake.life, MR_HEALTH_DOWN, "not listing", text);
    MR_WARN("objectstore", "source=%s err=\"%s\" retry_ms=%llu", s->intake.life.name, text,
            (unsigned long long)((s->retry_at_ns - now_ns) / MR_MS));
}

/* --- pages ------------------------------------------------------------------------------------ */

static void page_done(void *context, struct mr_call *call)
{
    struct mr_source *s = context;
    struct mr_problem problem = {.text = ""};
    char text[340];
    char code[MR_CALL_CODE_SIZE];
    s->call_is_running = false;
    if (call->status != 200) {
        char whole[380];
        mr__service_explain(&s->service, call, text, sizeof(text), code);
        (void)snprintf(whole, sizeof(whole), "cannot list: %s", text);
        note_failure(s, whole, false);
        if (call->retry_after_ns > 0 && call->retry_after_ns < MR_HOUR) {
            s->retry_at_ns = mr_clock_mono_ns() + call->retry_after_ns;
        }
        return;
    }
    if (mr__listing_open(&s->listing, mr_buf_bytes(&call->answer), &problem) != MR_OK) {
        note_failure(s, problem.text, false);
        return;
    }
    mr__backoff_reset(&s->backoff);
    s->page_is_open = true;
    if (s->intake.life.health.state != MR_HEALTH_OK) { /* ours alone to write */
        char detail[128];
        (void)snprintf(detail, sizeof(detail), "listing %.110s", s->options.peer.url->text);
        mr__lifecycle_set_health(&s->intake.life, MR_HEALTH_OK, detail, NULL);
    }
}

static enum mr_status append_parameter(struct mr_buf *out, const char *name, struct mr_bytes value)
{
    if (value.size == 0) {
        return MR_OK;
    }
    enum mr_status r = mr_buf_append_text(out, name);
    return r == MR_OK ? mr__uri_encode(out, value, false) : r;
}

static void start_page(struct mr_source *s)
{
    struct mr_call *call = &s->call;
    struct mr_bytes path = mr__objectstore_path(s->options.peer.url);
    mr__call_clear(call);
    call->method = "GET";
    call->timeout_ns = CALL_TIMEOUT_NS;
    call->silence_ns = SILENCE_NS;
    enum mr_status r = mr_buf_append_bytes(&call->path,
                                           path.size > 0 ? path : MR_BYTES_LITERAL("/"));
    r = r == MR_OK ? mr_buf_append_text(&call->query,
                                        "encoding-type=url&list-type=2&max-keys=1000")
                   : r;
    r = r == MR_OK ? append_parameter(&call->query,
                                      "&prefix=", mr_bytes_of(s->options.prefix))
                   : r;
    r = r == MR_OK ? append_parameter(&call->query,
                                      "&start-after=", mr_buf_bytes(&s->pass.after))
                   : r;
    r = r == MR_OK ? mr__client_start(s->service.client, call) : r;
    s->call_is_running = r == MR_OK;
    if (r != MR_OK) {
        note_failure(s, mr_status_text(r), false);
    }
}

/* --- a pass ----------------------------------------------------------------------------------- */

static enum mr_status add_event(struct mr_source *s, enum mr_change change,
                                const struct mr_object *object)
{
    const struct mr_list_origin from = {.source_name = s->intake.life.name,
                                        .region = s->service.region,
                                        .bucket = s->bucket,
                                        .event_size_max = s->intake.event_size_max};
    struct mr_problem problem = {.text = ""};
    struct mr_event *event = NULL;
    bool rejected = false;
    if (s->building == NULL) {
        s->building = mr__intake_batch(&s->intake, BATCH_EVENTS);
    }
    enum mr_status r = s->building == NULL
                           ? MR_E_NOMEM
                           : mr__list_event(&from, change, object, &event, &rejected, &problem);
    return r == MR_OK ? mr_batch_add(s->building, event, rejected ? problem.text : NULL) : r;
}

static void begin_pass(struct mr_source *s)
{
    struct mr_problem problem = {.text = ""};
    if (mr__pass_begin(&s->pass, s->cursor, &problem) != MR_OK) {
        note_failure(s, problem.text, true);
        return;
    }
    s->is_quiet = !s->options.existing && s->pass.last == 0;
    s->is_compared = false;
    s->listing_ended = false;
    s->page_is_open = false;
    s->has_object = false;
}

/* The next object into s->object, or listing_ended. @return false: a page is needed, or trouble */
static bool fetch_object(struct mr_source *s)
{
    struct mr_problem problem = {.text = ""};
    if (s->has_object || s->listing_ended) {
        return true;
    }
    if (!s->page_is_open) {
        return false;
    }
    enum mr_status r = mr__listing_next(&s->listing, &s->object, &problem);
    if (r == MR_OK) {
        s->has_object = true;
        return true;
    }
    if (r == MR_E_NOT_FOUND) {
        s->page_is_open = false;
        s->listing_ended = !s->listing.is_truncated;
        return s->listing_ended;
    }
    note_failure(s, problem.text, false);
    return false;
}

/* Compares until the batch is full, the page is used up, or all is compared. */
static void compare(struct mr_source *s)
{
    struct mr_problem problem = {.text = ""};
    while (!s->is_compared && fetch_object(s)) {
        enum mr_change change;
        bool taken = false;
        const struct mr_object *listed = s->listing_ended ? NULL : &s->object;
        enum mr_status r =
            mr__pass_step(&s->pass, listed, &s->gone, &change, &taken, &problem);
        if (r == MR_OK && change != MR_CHANGE_NONE && !s->is_quiet) {
            r = add_event(s, change, change == MR_CHANGE_REMOVED ? &s->gone : listed);
        }
        if (r != MR_OK) {
            note_failure(s, problem.text[0] != '\0' ? problem.text : mr_status_text(r), true);
            return;
        }
        s->has_object = s->has_object && !taken;
        s->is_compared = listed == NULL && change == MR_CHANGE_NONE;
        if (s->building != NULL &&
            (s->building->count >= BATCH_EVENTS || s->building->size >= MR_MIB)) {
            return;
        }
    }
}

static void submit(struct mr_source *s)
{
    struct mr_problem problem = {.text = ""};
    if (mr__pass_place(&s->pass, &s->building->cursor, &problem) != MR_OK) {
        note_failure(s, problem.text, true);
        return;
    }
    mr__intake_submit(&s->intake, MR_TAKE(s->building));
}

static void end_pass(struct mr_source *s, uint64_t now_ns)
{
    struct mr_problem problem = {.text = ""};
    char detail[128];
    char time[MR_TIME_TEXT_SIZE];
    uint64_t count = s->pass.count;
    if (mr__pass_end(&s->pass, &problem) != MR_OK) {
        note_failure(s, problem.text, true);
        return;
    }
    s->is_done = s->options.once;
    s->next_at_ns = now_ns + s->options.interval_ns;
    (void)snprintf(detail, sizeof(detail), "%s %" PRIu64 " objects at %s",
                   s->is_done ? "done: listed" : "listed", count,
                   mr_time_format(mr_clock_now().wall_ns, time));
    mr__lifecycle_set_health(&s->intake.life, MR_HEALTH_OK, detail, NULL);
    mr__lifecycle_set_done(&s->intake.life, s->is_done);
    MR_INFO("objectstore", "source=%s %s", s->intake.life.name, detail);
}

/* Does what can be done now. @return whether there is more to do at once */
static bool act(struct mr_source *s, uint64_t now_ns)
{
    bool is_out = mr__intake_is_out(&s->intake);
    if (s->is_done || s->call_is_running || !mr__intake_wants(&s->intake) ||
        now_ns < s->retry_at_ns) {
        return false;
    }
    if (!s->pass.is_open) {
        if (is_out || now_ns < s->next_at_ns) {
            return false;
        }
        begin_pass(s);
        return s->pass.is_open;
    }
    bool is_full = s->building != NULL &&
                   (s->building->count >= BATCH_EVENTS || s->building->size >= MR_MIB);
    if (!is_full) {
        compare(s);
    }
    if (!s->pass.is_open || now_ns < s->retry_at_ns) {
        return false; /* trouble */
    }
    if (s->building != NULL && s->building->count > 0) {
        if (!is_out) {
            submit(s);
        }
        /* A half full batch need not wait for the one that is out: the next page fills it. */
        is_full = s->building != NULL &&
                  (s->building->count >= BATCH_EVENTS || s->building->size >= MR_MIB);
        if (is_full || s->is_compared) {
            return false;
        }
    }
    if (s->is_compared) {
        if (!mr__intake_is_out(&s->intake)) {
            end_pass(s, now_ns);
        }
        return false;
    }
    if (!s->page_is_open && !s->listing_ended) {
        start_page(s);
        return false;
    }
    return true;
}

/* --- the thread ------------------------------------------------------------------------------- */

static void take_durable(void *context, struct mr_batch *batch)
{
    struct mr_source *s = context;
    mr_free(s->cursor);
    s->cursor = MR_TAKE(batch->cursor);
    atomic_fetch_add_explicit(&s->intake.life.messages, batch->count, memory_order_relaxed);
}

static int wait_ms(const struct mr_source *s, uint64_t now_ns)
{
    uint64_t at_ns = s->pass.is_open || s->retry_at_ns > s->next_at_ns ? s->retry_at_ns
                                                                       : s->next_at_ns;
    int max_ms = LOOK_MS;
    if (at_ns > now_ns && at_ns - now_ns < LOOK_MS * MR_MS) {
        max_ms = (int)((at_ns - now_ns) / MR_MS) + 1;
    }
    return mr__intake_timeout_ms(&s->intake, now_ns, max_ms);
}

static void *run(void *context)
{
    struct mr_source *s = context;
    for (;;) {
        uint64_t now_ns = mr_clock_mono_ns();
        mr__intake_take(&s->intake, now_ns, take_durable, s);
        if (mr__intake_is_finished(&s->intake, now_ns)) {
            break;
        }
        mr__intake_resubmit(&s->intake, now_ns);
        if (mr__lifecycle_is_stopping(&s->intake.life) && s->call_is_running) {
            mr__client_abort(s->service.client, &s->call);
            s->call_is_running = false;
        }
        if (!act(s, now_ns)) {
            mr__client_run(s->service.client, mr_opq_fd(&s->intake.life.queue), wait_ms(s, now_ns));
        }
    }
    if (s->call_is_running) {
        mr__client_abort(s->service.client, &s->call);
        s->call_is_running = false;
    }
    mr__pass_leave(&s->pass);
    mr__lifecycle_set_health(&s->intake.life, MR_HEALTH_DOWN, "stopped", NULL);
    return NULL;
}

/* --- the connector's calls -------------------------------------------------------------------- */

static_assert(offsetof(struct mr_source, intake) == 0, "its contract calls stand in the table");
static const struct mr_lifecycle_shape shape =
    MR_LIFECYCLE_SHAPE(struct mr_source, mr_connector_objectstore.source_kind, run);

static void destroy_source(struct mr_source *s)
{
    if (s == NULL || !mr__intake_release(&s->intake)) {
        return;
    }
    mr__call_release(&s->call);
    if (s->has_service) {
        mr__service_release(&s->service);
    }
    if (s->has_pass) {
        mr__pass_release(&s->pass);
    }
    mr__listing_release(&s->listing);
    mr__object_release(&s->object);
    mr__object_release(&s->gone);
    mr_batch_destroy(s->building);
    mr_free(s->cursor);
    mr__lifecycle_free(&shape, s);
}

/* The bucket's name, for the events: the option, the last part of the path, or the first of the
 * host name. */
static void name_bucket(struct mr_source *s)
{
    const struct mr_url *url = s->options.peer.url;
    struct mr_bytes path = mr__objectstore_path(url);
    const uint8_t *slash = path.size == 0 ? NULL : memrchr(path.data, '/', path.size);
    if (s->options.bucket != NULL) {
        (void)snprintf(s->bucket, sizeof(s->bucket), "%.255s", s->options.bucket);
    } else if (slash != NULL) {
        (void)snprintf(s->bucket, sizeof(s->bucket), "%.*s",
                       (int)(path.data + path.size - slash - 1), (const char *)slash + 1);
    } else {
        (void)snprintf(s->bucket, sizeof(s->bucket), "%.*s", (int)strcspn(url->host, "."),
                       url->host);
    }
}

static enum mr_status make_pass(struct mr_source *s, const struct mr_source_args *args,
                                struct mr_problem *problem)
{
    struct mr_buf folder;
    const char *prefix = s->options.prefix == NULL ? "" : s->options.prefix;
    const char *url = s->options.peer.url->text;
    uint64_t of = mr_hash(url, strlen(url)) ^ mr_hash_u64(mr_hash(prefix, strlen(prefix)));
    mr_buf_init(&folder, 4096);
    enum mr_status r = args->data_dir == NULL
                           ? mr_problem_set(problem, MR_E_INVALID, "via: list wants a data_dir")
                           : mr_buf_printf(&folder, "%s/objectstore", args->data_dir);
    r = r == MR_OK ? mr_buf_append_byte(&folder, '\0') : r;
    r = r == MR_OK
            ? mr__pass_init(&s->pass, (const char *)folder.data, s->intake.life.name, of, problem)
            : r;
    s->has_pass = r == MR_OK;
    mr_buf_release(&folder);
    return r;
}

static enum mr_status make_parts(struct mr_source *s, const struct mr_source_args *args,
                                 struct mr_problem *problem)
{
    s->cursor = mr_strdup(args->cursor);
    if (s->cursor == NULL && args->cursor != NULL) {
        return mr_problem_set(problem, MR_E_NOMEM, "no memory for the source");
    }
    name_bucket(s);
    enum mr_status r = mr__service_init(&s->service, &s->options.peer, "s3", 1, problem);
    s->has_service = r == MR_OK;
    return r == MR_OK ? make_pass(s, args, problem) : r;
}

static enum mr_status create_source(const struct mr_source_args *args,
                                    struct mr_source **ret_source, struct mr_problem *problem)
{
    struct mr_source *s = NULL;
    enum mr_status r = mr__intake_create(&shape, args, &s, problem);
    if (r != MR_OK) {
        return r;
    }
    mr__call_init(&s->call, PAGE_SIZE_MAX);
    s->call.done = page_done;
    s->call.context = s;
    mr__listing_init(&s->listing);
    mr__object_init(&s->object);
    mr__object_init(&s->gone);
    mr__backoff_init(&s->backoff);
    r = make_parts(s, args, problem);
    if (r != MR_OK) {
        destroy_source(s);
        return r;
    }
    *ret_source = s;
    return MR_OK;
}

const struct mr_source_ops mr__objectstore_list_ops = {
    .create = create_source,
    .start = mr__intake_start,
    .pause = mr__intake_pause,
    .resume = mr__intake_resume,
    .stop = mr__intake_stop,
    .destroy = destroy_source,
    .health = mr__intake_health,
    .reindex = mr__intake_reindex,
};
