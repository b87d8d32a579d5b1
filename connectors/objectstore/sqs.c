/* Source `via: sqs`: receives, submits, deletes what is durable.
 *
 * Some long polls wait at the queue at once. A message that came is HELD until the batch with its
 * events is durable, then DONE until the queue confirmed its deletion; while it is held its
 * visibility is extended, so that nobody gets it again meanwhile. What cannot be taken now (paused,
 * log full, stopping) goes BACK: visible again at once. Deletes that fail are tried again, and a
 * message that comes a second time before its delete was confirmed only brings a new handle: within
 * one run no message enters twice. After a crash it may. The calls about messages that are here
 * already are in sqs_errands.c. */
#include "connectors/objectstore/sqs.h"

#include <assert.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>

#include "connectors/adapting.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "core/hash.h"
#include "core/logger.h"

#define ANSWER_SIZE_MAX (24u * MR_MIB) /* ten messages of 1 MiB, escaped */
#define ERRAND_ANSWER_MAX (64u * MR_KIB)
#define REQUEST_SIZE_MAX (64u * MR_KIB)
#define CALL_TIMEOUT_NS (15 * MR_SECOND) /* beyond what the queue was asked to wait */
#define LAG_EVERY_NS (30 * MR_SECOND)
#define BATCH_EVENTS 500u
#define LOOK_MS 250

/* --- messages --------------------------------------------------------------------------------- */

void mr__sqs_free(struct mr_sqs_held *m)
{
    mr_buf_release(&m->id);
    mr_free(m->handle);
    mr_free(m);
}

void mr__sqs_drop(struct mr_source *s, struct mr_sqs_held *m)
{
    struct mr_sqs_held **at = &s->messages;
    while (*at != m) {
        at = &(*at)->next;
    }
    *at = m->next;
    s->message_count--;
    s->message_size -= m->size;
    atomic_store_explicit(&s->intake.life.bytes_held, s->message_size, memory_order_relaxed);
    mr__sqs_free(m);
}

static struct mr_sqs_held *find_message(struct mr_source *s, struct mr_bytes id)
{
    for (struct mr_sqs_held *m = s->messages; m != NULL; m = m->next) {
        if (mr_bytes_equal(mr_buf_bytes(&m->id), id)) {
            return m;
        }
    }
    return NULL;
}

uint64_t mr__sqs_hidden_until(const struct mr_source *s)
{
    return mr_clock_mono_ns() + s->options.visibility_ns;
}

static char *decode_text(struct mr_bytes raw)
{
    struct mr_buf text;
    mr_buf_init(&text, REQUEST_SIZE_MAX);
    char *made = mr__json_unescape(raw, &text) == MR_OK ? mr_buf_take_text(&text) : NULL;
    mr_buf_release(&text);
    return made;
}

/* A message for the list, with its body in s->body. NULL: not decodable, or no memory. */
static struct mr_sqs_held *make_message(struct mr_source *s, const struct mr_sqs_message *got)
{
    struct mr_sqs_held *m = mr_calloc(1, sizeof(*m));
    if (m == NULL) {
        return NULL;
    }
    mr_buf_init(&m->id, 1024);
    m->handle = decode_text(got->handle);
    mr_buf_clear(&s->body);
    if (m->handle == NULL || mr__json_unescape(got->id, &m->id) != MR_OK ||
        mr__json_unescape(got->body, &s->body) != MR_OK) {
        mr__sqs_free(m);
        return NULL;
    }
    m->hidden_until_ns = mr__sqs_hidden_until(s);
    m->size = sizeof(*m) + s->body.size;
    return m;
}

static enum mr_status adapt(struct mr_source *s, const struct mr_sqs_held *m,
                            struct mr_batch *batch)
{
    const struct mr_adapt_input input = {
        .body = mr_buf_bytes(&s->body),
        .source_name = mr_bytes_of(s->intake.life.name),
        .received_wall_ns = mr_clock_now().wall_ns,
        .unique = mr_hash(m->id.data, m->id.size), /* the same when it comes again */
        .size_max = s->intake.event_size_max,
    };
    return mr__adapting_add(s->options.adapter, &input, mr_buf_bytes(&m->id), batch, NULL);
}

/* Takes one message into *batch, which is made when there is none. */
static void take_message(struct mr_source *s, const struct mr_sqs_message *got,
                         struct mr_batch **batch)
{
    struct mr_sqs_held *m = make_message(s, got);
    if (m == NULL) {
        mr__lifecycle_set_health(&s->intake.life, MR_HEALTH_DEGRADED, NULL,
                                 "a message could not be read; it stays in the queue");
        return; /* comes again when its visibility ends */
    }
    struct mr_sqs_held *known = find_message(s, mr_buf_bytes(&m->id));
    if (known != NULL) {
        mr_free(known->handle);
        known->handle = MR_TAKE(m->handle);
        known->hidden_until_ns = m->hidden_until_ns;
        known->not_before_ns = known->is_stale ? 0 : known->not_before_ns;
        known->is_stale = false;
        mr__sqs_free(m);
        return;
    }
    m->next = s->messages;
    s->messages = m;
    s->message_count++;
    s->message_size += m->size;
    m->state = MR_SQS_BACK;
    if (!mr__intake_wants(&s->intake)) {
        return;
    }
    if (*batch == NULL) {
        *batch = mr__intake_batch(&s->intake, MR_SQS_BATCH_MAX);
    }
    uint32_t before = *batch == NULL ? 0 : (*batch)->count;
    if (*batch == NULL || adapt(s, m, *batch) != MR_OK) {
        mr__lifecycle_set_health(&s->intake.life, MR_HEALTH_DEGRADED, NULL, "out of memory");
        return;
    }
    m->state = (*batch)->count == before ? MR_SQS_DONE : MR_SQS_HELD;
    m->batch = *batch;
    atomic_fetch_add_explicit(&s->intake.life.messages, 1, memory_order_relaxed);
}

static void submit(struct mr_source *s, struct mr_batch *batch)
{
    if (batch != NULL && batch->count > 0) {
        mr__intake_submit(&s->intake, batch);
    } else {
        mr_batch_destroy(batch);
    }
}

static void take_durable(void *context, struct mr_batch *batch)
{
    struct mr_source *s = context;
    for (struct mr_sqs_held *m = s->messages; m != NULL; m = m->next) {
        if (m->state == MR_SQS_HELD && m->batch == batch) {
            m->state = MR_SQS_DONE;
            m->batch = NULL;
        }
    }
}

/* --- trouble ---------------------------------------------------------------------------------- */

void mr__sqs_note_failure(struct mr_source *s, const struct mr_call *call, const char *what)
{
    char text[400];
    char why[340];
    char code[MR_CALL_CODE_SIZE];
    uint64_t now_ns = mr_clock_mono_ns();
    mr__service_explain(&s->service, call, why, sizeof(why), code);
    (void)snprintf(text, sizeof(text), "%s: %s", what, why);
    mr__lifecycle_set_health(&s->intake.life, MR_HEALTH_DOWN, "not receiving", text);
    if (s->is_failing && now_ns < s->retry_at_ns) {
        return; /* one of several calls that fail together */
    }
    s->is_failing = true;
    s->retry_at_ns = now_ns + mr__backoff_next(&s->backoff);
    if (call->retry_after_ns > s->retry_at_ns - now_ns && call->retry_after_ns < MR_MINUTE) {
        s->retry_at_ns = now_ns + call->retry_after_ns;
    }
    MR_WARN("objectstore", "source=%s err=\"%s\" retry_ms=%llu", s->intake.life.name, text,
            (unsigned long long)((s->retry_at_ns - now_ns) / MR_MS));
}

static void note_success(struct mr_source *s)
{
    if (s->intake.life.health.state == MR_HEALTH_OK) { /* ours alone to write */
        return;
    }
    char detail[128];
    s->is_failing = false;
    mr__backoff_reset(&s->backoff);
    (void)snprintf(detail, sizeof(detail), "receiving from %.110s", s->options.peer.url->text);
    mr__lifecycle_set_health(&s->intake.life, MR_HEALTH_OK, detail, NULL);
    MR_INFO("objectstore", "source=%s %s", s->intake.life.name, detail);
}

/* --- receiving -------------------------------------------------------------------------------- */

static enum mr_status take_answer(struct mr_source *s, struct mr_bytes answer,
                                  struct mr_problem *problem)
{
    struct mr__scan scan;
    struct mr_sqs_message message;
    struct mr_batch *batch = NULL;
    bool any = false;
    enum mr_status r = mr__sqs_open(&scan, answer, &any, problem);
    while (r == MR_OK && any) {
        r = mr__sqs_next(&scan, &message, problem);
        if (r != MR_OK) {
            break;
        }
        take_message(s, &message, &batch);
        if (batch != NULL && (batch->count >= BATCH_EVENTS || batch->size >= MR_MIB)) {
            submit(s, MR_TAKE(batch));
        }
    }
    submit(s, batch);
    atomic_store_explicit(&s->intake.life.bytes_held, s->message_size, memory_order_relaxed);
    return r == MR_E_NOT_FOUND ? MR_OK : r;
}

static void receive_done(void *context, struct mr_call *call)
{
    struct mr_sqs_receive *receive = context;
    struct mr_source *s = receive->source;
    struct mr_problem problem = {.text = ""};
    receive->is_running = false;
    if (call->is_too_big && s->receive_max > 1) {
        s->receive_max = 1; /* the messages come again, one at a time */
        return;
    }
    if (call->status != 200) {
        mr__sqs_note_failure(s, call, "cannot receive");
        return;
    }
    note_success(s);
    if (take_answer(s, mr_buf_bytes(&call->answer), &problem) != MR_OK) {
        mr__lifecycle_set_health(&s->intake.life, MR_HEALTH_DEGRADED, NULL, problem.text);
        s->retry_at_ns = mr_clock_mono_ns() + MR_SECOND;
    }
    mr_buf_release(&call->answer); /* up to 24 MiB: not kept for an empty poll */
}

bool mr__sqs_call(struct mr_source *s, struct mr_call *call, struct mr_buf *body,
                  const char *target, uint64_t wait_ns)
{
    mr__call_clear(call);
    call->method = "POST";
    call->content_type = "application/x-amz-json-1.0";
    call->target = target;
    call->body = mr_buf_bytes(body);
    call->timeout_ns = wait_ns + CALL_TIMEOUT_NS;
    return mr_buf_append_byte(&call->path, '/') == MR_OK &&
           mr__client_start(s->service.client, call) == MR_OK;
}

static void start_receives(struct mr_source *s, uint64_t now_ns)
{
    if (!mr__intake_wants(&s->intake) || now_ns < s->retry_at_ns) {
        return;
    }
    uint32_t running = 0;
    for (uint32_t i = 0; i < (uint32_t)s->options.polls; i++) {
        running += s->receives[i].is_running;
    }
    for (uint32_t i = 0; i < (uint32_t)s->options.polls; i++) {
        struct mr_sqs_receive *receive = &s->receives[i];
        uint32_t room = s->message_count + (running + 1) * MR_SQS_BATCH_MAX;
        if (receive->is_running || room > (uint64_t)s->options.inflight ||
            (s->is_failing && running > 0)) {
            continue;
        }
        mr_buf_clear(&receive->body);
        if (mr__sqs_receive(&receive->body, s->options.peer.url->text, s->receive_max,
                            s->options.wait_ns / MR_SECOND,
                            s->options.visibility_ns / MR_SECOND) == MR_OK &&
            mr__sqs_call(s, &receive->call, &receive->body, "AmazonSQS.ReceiveMessage",
                       s->options.wait_ns)) {
            receive->is_running = true;
            running++;
        }
    }
}

static void abort_receives(struct mr_source *s)
{
    for (uint32_t i = 0; i < MR_SQS_POLLS_MAX; i++) {
        if (s->receives[i].is_running) {
            mr__client_abort(s->service.client, &s->receives[i].call);
            s->receives[i].is_running = false;
        }
    }
}

/* --- lag -------------------------------------------------------------------------------------- */

static void lag_done(void *context, struct mr_call *call)
{
    struct mr_source *s = context;
    s->lag_is_running = false;
    if (call->status == 200) { /* the right to ask may be missing: then it is not shown */
        mr__lifecycle_set_lag(&s->intake.life, mr__sqs_waiting(mr_buf_bytes(&call->answer)));
    }
}

static void ask_lag(struct mr_source *s, uint64_t now_ns)
{
    if (s->lag_is_running || now_ns < s->lag_at_ns || s->is_failing) {
        return;
    }
    s->lag_at_ns = now_ns + LAG_EVERY_NS;
    mr_buf_clear(&s->lag_body);
    enum mr_status r = mr_buf_append_text(&s->lag_body, "{\"QueueUrl\":");
    r = r == MR_OK ? mr_buf_append_json(&s->lag_body, mr_bytes_of(s->options.peer.url->text)) : r;
    r = r == MR_OK ? mr_buf_append_text(&s->lag_body, ",\"AttributeNames\":"
                                                      "[\"ApproximateNumberOfMessages\"]}")
                   : r;
    s->lag_is_running =
        r == MR_OK &&
        mr__sqs_call(s, &s->lag, &s->lag_body, "AmazonSQS.GetQueueAttributes", 0);
}

/* --- the thread ------------------------------------------------------------------------------- */

/* Stopping: what the bus did not take goes back, what is durable is deleted, once each. */
static bool wind_up(struct mr_source *s, uint64_t now_ns)
{
    abort_receives(s);
    if (!mr__intake_is_finished(&s->intake, now_ns)) {
        return false;
    }
    for (struct mr_sqs_held *m = s->messages; m != NULL; m = m->next) {
        m->state = m->state == MR_SQS_HELD ? MR_SQS_BACK : m->state;
        m->not_before_ns = 0;
    }
    return s->message_count == 0 || mr__lifecycle_is_late(&s->intake.life, now_ns);
}

static void *run(void *context)
{
    struct mr_source *s = context;
    for (;;) {
        uint64_t now_ns = mr_clock_mono_ns();
        bool stopping = mr__lifecycle_is_stopping(&s->intake.life);
        mr__intake_take(&s->intake, now_ns, take_durable, s);
        if (stopping && wind_up(s, now_ns)) {
            break;
        }
        mr__intake_resubmit(&s->intake, now_ns);
        mr__sqs_errands(s, now_ns);
        if (!stopping) {
            start_receives(s, now_ns);
            ask_lag(s, now_ns);
        }
        mr__client_run(s->service.client, mr_opq_fd(&s->intake.life.queue),
                       mr__intake_timeout_ms(&s->intake, now_ns, LOOK_MS));
    }
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
    if (s->has_service) {
        for (uint32_t i = 0; i < MR_SQS_ERRANDS; i++) {
            if (s->errands[i].is_running) {
                mr__client_abort(s->service.client, &s->errands[i].call);
            }
        }
        if (s->lag_is_running) {
            mr__client_abort(s->service.client, &s->lag);
        }
        abort_receives(s);
        mr__service_release(&s->service);
    }
    for (uint32_t i = 0; i < MR_SQS_POLLS_MAX; i++) {
        mr__call_release(&s->receives[i].call);
        mr_buf_release(&s->receives[i].body);
    }
    for (uint32_t i = 0; i < MR_SQS_ERRANDS; i++) {
        mr__call_release(&s->errands[i].call);
        mr_buf_release(&s->errands[i].body);
    }
    mr__call_release(&s->lag);
    mr_buf_release(&s->lag_body);
    mr_buf_release(&s->body);
    for (struct mr_sqs_held *m = s->messages, *next; m != NULL; m = next) {
        next = m->next;
        mr__sqs_free(m);
    }
    mr__lifecycle_free(&shape, s);
}

static void init_calls(struct mr_source *s)
{
    for (uint32_t i = 0; i < MR_SQS_POLLS_MAX; i++) {
        struct mr_sqs_receive *receive = &s->receives[i];
        mr__call_init(&receive->call, ANSWER_SIZE_MAX);
        mr_buf_init(&receive->body, REQUEST_SIZE_MAX);
        receive->source = s;
        receive->call.done = receive_done;
        receive->call.context = receive;
    }
    for (uint32_t i = 0; i < MR_SQS_ERRANDS; i++) {
        struct mr_sqs_errand *e = &s->errands[i];
        mr__call_init(&e->call, ERRAND_ANSWER_MAX);
        mr_buf_init(&e->body, REQUEST_SIZE_MAX);
        e->source = s;
        e->call.done = mr__sqs_errand_done;
        e->call.context = e;
    }
    mr__call_init(&s->lag, ERRAND_ANSWER_MAX);
    mr_buf_init(&s->lag_body, REQUEST_SIZE_MAX);
    mr_buf_init(&s->body, ANSWER_SIZE_MAX);
    s->lag.done = lag_done;
    s->lag.context = s;
}

static enum mr_status create_source(const struct mr_source_args *args,
                                    struct mr_source **ret_source, struct mr_problem *problem)
{
    struct mr_source *s = NULL;
    enum mr_status r = mr__intake_create(&shape, args, &s, problem);
    if (r != MR_OK) {
        return r;
    }
    init_calls(s);
    mr__backoff_init(&s->backoff);
    s->receive_max = MR_SQS_BATCH_MAX;
    r = mr__service_init(&s->service, &s->options.peer, "sqs",
                         (uint32_t)s->options.polls + MR_SQS_ERRANDS + 1, problem);
    s->has_service = r == MR_OK;
    if (r != MR_OK) {
        destroy_source(s);
        return r;
    }
    *ret_source = s;
    return MR_OK;
}

const struct mr_source_ops mr__objectstore_sqs_ops = {
    .create = create_source,
    .start = mr__intake_start,
    .pause = mr__intake_pause,
    .resume = mr__intake_resume,
    .stop = mr__intake_stop,
    .destroy = destroy_source,
    .health = mr__intake_health,
    .reindex = mr__intake_reindex,
};
