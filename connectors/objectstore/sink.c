/* Objectstore sink: one thread, as many objects on their way as there are slots. */
#include <assert.h>
#include <stddef.h>
#include <stdio.h>

#include "connectors/objectstore/upload.h"
#include "connectors/outlet.h"
#include "core/alloc.h"
#include "core/assert.h"
#include "core/clock.h"
#include "schemas/json_format.h"
#include "schemas/template.h"

#define KEY_SIZE_MAX 1024u /* of S3 */
#define PATH_SIZE_MAX (8u * MR_KIB)
#define BODY_SIZE_MAX (2u * MR_EVENT_SIZE_MAX) /* base64 and escapes included */
#define TIMEOUT_DEFAULT_NS (30 * MR_SECOND)
#define LOOK_MS 1000

/* One object on its way. */
struct job {
    struct mr_upload upload;
    struct mr_target *target;   /* borrowed */
    struct mr_handout *handout; /* owned; NULL: free */
    struct mr_buf path;
    struct mr_buf body;
    char content_type[128];
    uint64_t started_wall_ns;
};

struct mr_target {
    struct mr_outlet outlet;
    struct mr_objectstore_sink_options options; /* owned copy */
    struct mr_service service;
    bool has_service;
    struct job *jobs; /* owned; outlet.slots of them */
    uint32_t busy;
    struct mr_handout *waiting; /* owned; a chain, oldest first */
};

/* --- one object ------------------------------------------------------------------------------- */

static enum mr_status make_path(struct mr_target *t, struct job *job, struct mr_bytes record,
                                struct mr_problem *problem)
{
    struct mr_buf key;
    mr_buf_init(&key, KEY_SIZE_MAX);
    enum mr_status r = mr_template_fill(t->options.key, record, &key);
    struct mr_bytes text = mr_buf_bytes(&key);
    if (r == MR_E_TOO_BIG) {
        (void)mr_problem_set(problem, r, "the key is longer than %u bytes", KEY_SIZE_MAX);
    } else if (r == MR_OK && (text.size == 0 || !mr_bytes_is_utf8(text) ||
                              memchr(text.data, '\0', text.size) != NULL)) {
        r = mr_problem_set(problem, MR_E_INVALID, "the key is %s",
                           text.size == 0 ? "empty" : "not UTF-8 text");
    }
    mr_buf_clear(&job->path);
    r = r == MR_OK ? mr_buf_append_bytes(&job->path, mr__objectstore_path(t->options.peer.url))
                   : r;
    r = r == MR_OK ? mr_buf_append_byte(&job->path, '/') : r;
    r = r == MR_OK ? mr__uri_encode(&job->path, text, true) : r;
    mr_buf_release(&key);
    return r;
}

static bool is_header_value(struct mr_bytes text)
{
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] < 0x20 || text.data[i] > 0x7e) {
            return false;
        }
    }
    return text.size > 0 && text.size < sizeof(((struct job *)NULL)->content_type);
}

static enum mr_status make_body(struct mr_target *t, struct job *job, struct mr_bytes record)
{
    struct mr_bytes type = mr_bytes_of(t->options.content_type);
    mr_buf_clear(&job->body);
    job->upload.data = mr_event_data(record);
    enum mr_status r = MR_OK;
    if (t->options.content == MR_CONTENT_EVENT) {
        r = mr_json_encode_exact(record, &job->body);
        job->upload.data = mr_buf_bytes(&job->body);
        type = type.size > 0 ? type : MR_BYTES_LITERAL("application/cloudevents+json");
    } else if (type.size == 0) {
        type = mr_event_value(record, "datacontenttype");
        if (!is_header_value(type)) {
            type = mr_event_data_is_json(record) ? MR_BYTES_LITERAL("application/json")
                                                 : MR_BYTES_LITERAL("application/octet-stream");
        }
    }
    (void)snprintf(job->content_type, sizeof(job->content_type), "%.*s", (int)type.size,
                   (const char *)type.data);
    return r;
}

static void free_job(struct job *job)
{
    job->handout = NULL;
    mr_buf_release(&job->body); /* several MiB at most: not kept */
    MR_ASSERT(job->target->busy > 0);
    job->target->busy--;
}

static void end_job(struct job *job, enum mr_verdict verdict, const char *error)
{
    mr__outlet_answer(&job->target->outlet, MR_TAKE(job->handout), verdict, error,
                      job->started_wall_ns);
    free_job(job);
}

static void upload_done(void *context, struct mr_upload *upload)
{
    static const enum mr_verdict verdicts[] = {
        [MR_CALL_OK] = MR_VERDICT_OK,
        [MR_CALL_REFUSED] = MR_VERDICT_REFUSED,
        [MR_CALL_RETRY] = MR_VERDICT_RETRY,
        [MR_CALL_NEVER] = MR_VERDICT_DEAD,
    };
    struct job *job = context;
    struct mr_target *t = job->target;
    if (upload->end == MR_CALL_OK) {
        char detail[128];
        if (t->outlet.life.health.state != MR_HEALTH_OK) { /* ours alone to write */
            (void)snprintf(detail, sizeof(detail), "writing to %.110s", t->options.peer.url->text);
            mr__lifecycle_set_health(&t->outlet.life, MR_HEALTH_OK, detail, NULL);
        }
    } else {
        bool is_event = upload->end == MR_CALL_NEVER; /* this one's fault, not the store's */
        mr__lifecycle_set_health(&t->outlet.life,
                                 is_event ? t->outlet.life.health.state : MR_HEALTH_DEGRADED, NULL,
                                 upload->error);
    }
    if (upload->retry_after_ns > 0) {
        job->handout->answer.has_after = true;
        job->handout->answer.after_ns = upload->retry_after_ns;
    }
    end_job(job, verdicts[upload->end], upload->end == MR_CALL_OK ? NULL : upload->error);
}

static void begin(struct mr_target *t, struct job *job, struct mr_handout *handout)
{
    struct mr_problem problem = {.text = ""};
    struct mr_bytes record = mr_event_record(handout->event);
    job->handout = handout;
    job->started_wall_ns = mr_clock_now().wall_ns;
    t->busy++;
    enum mr_status r = make_path(t, job, record, &problem);
    r = r == MR_OK ? make_body(t, job, record) : r;
    if (r == MR_OK) {
        uint64_t timeout_ns = handout->timeout_ns == 0 ? TIMEOUT_DEFAULT_NS : handout->timeout_ns;
        job->upload.service = &t->service;
        job->upload.path = mr_buf_bytes(&job->path);
        job->upload.content_type = job->content_type;
        job->upload.part_size = t->options.part_size;
        job->upload.deadline_ns = mr_clock_mono_ns() + timeout_ns;
        job->upload.done = upload_done;
        job->upload.context = job;
        r = mr__upload_start(&job->upload);
    }
    if (r != MR_OK) {
        bool passes = mr_status_class(r) == MR_CLASS_RETRY;
        end_job(job, passes ? MR_VERDICT_RETRY : MR_VERDICT_DEAD,
                problem.text[0] != '\0' ? problem.text : mr_status_text(r));
    }
}

/* --- the thread ------------------------------------------------------------------------------- */

static struct job *free_slot(struct mr_target *t)
{
    for (uint32_t i = 0; t->busy < t->outlet.slots && i < t->outlet.slots; i++) {
        if (t->jobs[i].handout == NULL) {
            return &t->jobs[i];
        }
    }
    return NULL;
}

static void take_handouts(struct mr_target *t)
{
    struct mr_handout *first;
    while ((first = mr__outlet_take(&t->outlet)) != NULL) { /* NULL arms the wake-up */
        struct mr_handout **at = &t->waiting;
        while (*at != NULL) {
            at = (struct mr_handout **)(void *)&(*at)->op.next;
        }
        *at = first;
    }
    for (struct job *job; t->waiting != NULL && (job = free_slot(t)) != NULL;) {
        struct mr_handout *handout = t->waiting;
        t->waiting = mr__outlet_next(handout);
        handout->op.next = NULL;
        begin(t, job, handout);
    }
}

static void refuse_waiting(struct mr_target *t)
{
    while (t->waiting != NULL) {
        struct mr_handout *handout = t->waiting;
        t->waiting = mr__outlet_next(handout);
        mr__outlet_answer(&t->outlet, handout, MR_VERDICT_REFUSED, "stopped", 0);
    }
}

static void stop_jobs(struct mr_target *t)
{
    for (uint32_t i = 0; i < t->outlet.slots; i++) {
        struct job *job = &t->jobs[i];
        if (job->handout != NULL) {
            mr__upload_stop(&job->upload);
            job->handout->answer.suspects = 0;
            end_job(job, MR_VERDICT_CRASH, "stopped");
        }
    }
}

static void *run(void *context)
{
    struct mr_target *t = context;
    mr__lifecycle_set_health(&t->outlet.life, MR_HEALTH_STARTING, t->options.peer.url->text, NULL);
    mr__outlet_tell(&t->outlet, true); /* there is no connection to wait for */
    for (;;) {
        bool stopping = mr__lifecycle_is_stopping(&t->outlet.life);
        if (stopping) {
            refuse_waiting(t);
        } else {
            take_handouts(t);
        }
        if (mr__lifecycle_is_late(&t->outlet.life, mr_clock_mono_ns())) {
            stop_jobs(t);
        }
        mr__outlet_flush(&t->outlet);
        if (stopping && t->busy == 0) {
            break;
        }
        /* Stopping, the queue stays readable: there is no waiting on it. */
        mr__client_run(t->service.client, stopping ? -1 : mr_opq_fd(&t->outlet.life.queue),
                       stopping ? 50 : LOOK_MS);
        mr__outlet_flush(&t->outlet);
    }
    mr__outlet_tell(&t->outlet, false);
    return NULL;
}

/* --- the connector's calls -------------------------------------------------------------------- */

static_assert(offsetof(struct mr_target, outlet) == 0, "its contract calls stand in the table");
static const struct mr_lifecycle_shape shape =
    MR_LIFECYCLE_SHAPE(struct mr_target, mr_connector_objectstore.sink_kind, run);

static void destroy_target(struct mr_target *t)
{
    if (t == NULL) {
        return;
    }
    MR_ASSERT(t->busy == 0 && t->waiting == NULL);
    for (uint32_t i = 0; t->jobs != NULL && i < t->outlet.slots; i++) {
        mr__upload_release(&t->jobs[i].upload);
        mr_buf_release(&t->jobs[i].path);
        mr_buf_release(&t->jobs[i].body);
    }
    mr_free(t->jobs);
    if (t->has_service) {
        mr__service_release(&t->service);
    }
    mr__outlet_release(&t->outlet);
    mr__lifecycle_free(&shape, t);
}

static enum mr_status make_parts(struct mr_target *t, struct mr_problem *problem)
{
    t->jobs = mr_calloc(t->outlet.slots, sizeof(*t->jobs));
    if (t->jobs == NULL) {
        return mr_problem_set(problem, MR_E_NOMEM, "no memory for the sink");
    }
    for (uint32_t i = 0; i < t->outlet.slots; i++) {
        mr__upload_init(&t->jobs[i].upload);
        mr_buf_init(&t->jobs[i].path, PATH_SIZE_MAX);
        mr_buf_init(&t->jobs[i].body, BODY_SIZE_MAX);
        t->jobs[i].target = t;
    }
    enum mr_status r =
        mr__service_init(&t->service, &t->options.peer, "s3", t->outlet.slots, problem);
    t->has_service = r == MR_OK;
    return r;
}

static enum mr_status create_target(const struct mr_target_args *args,
                                    struct mr_target **ret_target, struct mr_problem *problem)
{
    struct mr_target *t = NULL;
    enum mr_status r = mr__outlet_create(&shape, args, &t, problem);
    if (r != MR_OK) {
        return r;
    }
    r = make_parts(t, problem);
    if (r != MR_OK) {
        destroy_target(t);
        return r;
    }
    *ret_target = t;
    return MR_OK;
}

const struct mr_target_ops mr__objectstore_sink_ops = {
    .create = create_target,
    .start = mr__outlet_start,
    .submit = mr__outlet_submit,
    .stop = mr__outlet_stop,
    .destroy = destroy_target,
    .health = mr__outlet_health,
    .reindex = mr__outlet_reindex,
};
