/* Timer source: one thread that waits for the next instant of its schedule, and for its batch to
 * be durable. The instant last fired is logged with the event (the cursor), so a restart neither
 * repeats nor forgets one; the id is the instant, so replicas fire the same event. */
#include "connectors/timer/timer.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "connectors/options.h"
#include "core/alloc.h"
#include "core/assert.h"
#include "core/clock.h"
#include "core/logger.h"

#define LOOK_AGAIN_MS 30000 /* the wall clock may be set while we wait */
#define RETRY_MIN_NS (100 * MR_MS)
#define RETRY_MAX_NS MR_SECOND

struct mr_source {
    struct mr_host *host; /* borrowed: outlives us */
    char *name;           /* owned */
    _Atomic uint32_t index;
    size_t event_size_max;
    struct mr_timer_options options; /* owned copy */
    struct mr_timer_schedule schedule;
    pthread_t thread;
    bool started;
    atomic_bool paused;
    atomic_bool stopping;
    _Atomic uint64_t deadline_ns;
    struct mr_opq replies;

    /* The thread's own. */
    int64_t last_ms;        /* fired and durable up to here */
    bool out;               /* a batch is with the bus */
    int64_t out_last_ms;    /* last_ms once it is durable */
    uint64_t out_count;
    struct mr_batch *again; /* owned: refused, to be submitted at again_ns */
    uint64_t again_ns;
    uint64_t again_wait_ns;
    bool slow;
    int64_t due_ms[MR_TIMER_CATCH_UP_MAX];

    pthread_mutex_t mu; /* protects health */
    struct mr_health health;
};

static void set_error(struct mr_source *source, const char *text)
{
    pthread_mutex_lock(&source->mu);
    source->health.state = text == NULL ? MR_HEALTH_OK : MR_HEALTH_DEGRADED;
    if (text != NULL) {
        (void)snprintf(source->health.last_error, sizeof(source->health.last_error), "%s", text);
        source->health.last_error_wall_ns = mr_clock_now().wall_ns;
        source->health.errors++;
    }
    pthread_mutex_unlock(&source->mu);
}

static void set_detail(struct mr_source *source, bool has_next, int64_t next_ms)
{
    char text[MR_TIMER_TEXT_SIZE] = "";
    if (has_next) {
        mr__timer_text(next_ms, text);
    }
    pthread_mutex_lock(&source->mu);
    (void)snprintf(source->health.detail, sizeof(source->health.detail), "%s%s",
                   has_next ? "next at " : "no further instant", text);
    pthread_mutex_unlock(&source->mu);
}

static void read_health(struct mr_source *source, struct mr_health *ret_health)
{
    pthread_mutex_lock(&source->mu);
    *ret_health = source->health;
    pthread_mutex_unlock(&source->mu);
}

/* --- events ----------------------------------------------------------------------------------- */

static enum mr_status add_attr(struct mr_event_builder *builder, const char *name,
                               enum mr_attr_type type, const char *value,
                               struct mr_problem *problem)
{
    return mr_event_builder_attr(builder, mr_bytes_of(name), type, mr_bytes_of(value), problem);
}

static enum mr_status make_event(const struct mr_source *source, int64_t at_ms,
                                 struct mr_event **ret_event, struct mr_problem *problem)
{
    const struct mr_timer_options *o = &source->options;
    char time[MR_TIMER_TEXT_SIZE];
    char id[MR_NAME_SIZE_MAX + MR_TIMER_TEXT_SIZE + 8];
    char from[MR_NAME_SIZE_MAX + 32];
    mr__timer_text(at_ms, time);
    (void)snprintf(id, sizeof(id), "%.*s@%s", (int)MR_NAME_SIZE_MAX, source->name, time);
    (void)snprintf(from, sizeof(from), "/millrace/source/%.*s", (int)MR_NAME_SIZE_MAX,
                   source->name);
    struct mr_event_builder builder;
    mr_event_builder_init(&builder, source->event_size_max);
    enum mr_status r = add_attr(&builder, "id", MR_ATTR_STRING, id, problem);
    if (r == MR_OK) {
        r = add_attr(&builder, "source", MR_ATTR_URI_REF, from, problem);
    }
    if (r == MR_OK) {
        r = add_attr(&builder, "type", MR_ATTR_STRING, o->type, problem);
    }
    if (r == MR_OK) {
        r = add_attr(&builder, "time", MR_ATTR_TIMESTAMP, time, problem);
    }
    if (r == MR_OK && o->subject != NULL) {
        r = add_attr(&builder, "subject", MR_ATTR_STRING, o->subject, problem);
    }
    if (r == MR_OK && o->data != NULL) {
        r = add_attr(&builder, "datacontenttype", MR_ATTR_STRING, "application/json", problem);
        mr_event_builder_data(&builder, mr_bytes_of(o->data), false);
    }
    if (r != MR_OK) {
        mr_event_builder_release(&builder);
        return r;
    }
    return mr_event_builder_finish(&builder, true, ret_event, problem);
}

static enum mr_status make_batch(struct mr_source *source, uint32_t count, int64_t last_ms,
                                 struct mr_batch **ret_batch, struct mr_problem *problem)
{
    uint32_t index = atomic_load_explicit(&source->index, memory_order_relaxed);
    struct mr_batch *batch = mr_batch_create(index, count);
    if (batch == NULL) {
        return mr_problem_set(problem, MR_E_NOMEM, "no memory for a tick");
    }
    batch->reply = &source->replies;
    batch->cursor = mr__timer_cursor(last_ms);
    enum mr_status r = batch->cursor == NULL ? MR_E_NOMEM : MR_OK;
    for (uint32_t i = 0; i < count && r == MR_OK; i++) {
        struct mr_event *event = NULL;
        r = make_event(source, source->due_ms[i], &event, problem);
        if (r == MR_OK) {
            r = mr_batch_add(batch, event, NULL);
        }
    }
    if (r != MR_OK) {
        mr_batch_destroy(batch);
        return r;
    }
    *ret_batch = batch;
    return MR_OK;
}

static void wait_again(struct mr_source *source)
{
    uint64_t wait_ns = source->again_wait_ns * 2;
    wait_ns = wait_ns < RETRY_MIN_NS ? RETRY_MIN_NS : wait_ns;
    source->again_wait_ns = wait_ns > RETRY_MAX_NS ? RETRY_MAX_NS : wait_ns;
    source->again_ns = mr_clock_mono_ns() + source->again_wait_ns;
}

static void submit(struct mr_source *source, struct mr_batch *batch)
{
    source->out = true;
    source->out_count = batch->count;
    source->host->ops->submit(source->host, batch);
}

static void fire(struct mr_source *source, int64_t now_ms)
{
    int64_t last_ms;
    uint32_t count = mr__timer_due(&source->schedule, &source->options, source->last_ms, now_ms,
                                   source->due_ms, &last_ms);
    if (count == 0) {
        source->last_ms = last_ms; /* skipped instants stay skipped */
        return;
    }
    struct mr_batch *batch = NULL;
    struct mr_problem problem = {.text = ""};
    enum mr_status r = make_batch(source, count, last_ms, &batch, &problem);
    if (r != MR_OK) {
        set_error(source, problem.text[0] != '\0' ? problem.text : mr_status_text(r));
        wait_again(source);
        return;
    }
    MR_ASSERT(batch != NULL);
    source->out_last_ms = last_ms;
    submit(source, batch);
}

/* --- the thread ------------------------------------------------------------------------------- */

static void take_batch(struct mr_source *source, struct mr_batch *batch)
{
    MR_ASSERT(source->out);
    source->out = false;
    if (batch->result == MR_OK) {
        source->last_ms = source->out_last_ms;
        source->again_wait_ns = 0;
        set_error(source, NULL);
        pthread_mutex_lock(&source->mu);
        source->health.messages += source->out_count;
        pthread_mutex_unlock(&source->mu);
        mr_batch_destroy(batch);
        return;
    }
    set_error(source, mr_status_text(batch->result));
    wait_again(source);
    source->again = batch;
}

static void take_replies(struct mr_source *source)
{
    struct mr_op *op;
    while ((op = mr_opq_take(&source->replies)) != NULL) {
        while (op != NULL) {
            struct mr_op *next = op->next;
            if (op->type == MR_SOURCE_OP_SLOW) {
                source->slow = true;
            } else if (op->type == MR_SOURCE_OP_GO) {
                source->slow = false;
            } else {
                take_batch(source, (struct mr_batch *)(void *)op);
            }
            op = next;
        }
    }
}

/* Does what is due. @return how long to wait for the next thing, at most */
static int act(struct mr_source *source)
{
    uint64_t mono_ns = mr_clock_mono_ns();
    if (source->out || source->slow ||
        atomic_load_explicit(&source->paused, memory_order_acquire)) {
        return LOOK_AGAIN_MS;
    }
    if (mono_ns < source->again_ns) {
        return (int)((source->again_ns - mono_ns) / MR_MS) + 1;
    }
    if (source->again != NULL) {
        struct mr_batch *batch = MR_TAKE(source->again);
        batch->result = MR_OK;
        batch->source = atomic_load_explicit(&source->index, memory_order_relaxed);
        submit(source, batch);
        return LOOK_AGAIN_MS;
    }
    int64_t now_ms = (int64_t)(mr_clock_now().wall_ns / MR_MS);
    fire(source, now_ms);
    if (source->out || mono_ns < source->again_ns) {
        return source->out ? LOOK_AGAIN_MS : (int)(RETRY_MIN_NS / MR_MS);
    }
    int64_t next_ms = 0;
    bool has_next = mr__timer_next(&source->schedule,
                                   now_ms > source->last_ms ? now_ms : source->last_ms, &next_ms);
    set_detail(source, has_next, next_ms);
    if (!has_next || next_ms - now_ms > LOOK_AGAIN_MS) {
        return LOOK_AGAIN_MS;
    }
    return (int)(next_ms - now_ms) + 1;
}

static bool is_finished(const struct mr_source *source)
{
    if (!atomic_load_explicit(&source->stopping, memory_order_acquire)) {
        return false;
    }
    return !source->out || mr_clock_mono_ns() >= atomic_load_explicit(&source->deadline_ns,
                                                                      memory_order_relaxed);
}

static void *run(void *context)
{
    struct mr_source *source = context;
    set_error(source, NULL);
    for (;;) {
        take_replies(source);
        if (is_finished(source)) {
            return NULL;
        }
        int timeout_ms = 100; /* stopping: to see the deadline */
        if (!atomic_load_explicit(&source->stopping, memory_order_acquire)) {
            timeout_ms = act(source);
        }
        struct pollfd p = {.fd = mr_opq_fd(&source->replies), .events = POLLIN};
        if (poll(&p, 1, timeout_ms) < 0 && errno != EINTR) {
            MR_ERROR("timer", "source=%s poll: %s", source->name, strerror(errno));
        }
    }
}

/* --- the connector's calls -------------------------------------------------------------------- */

static void destroy_source(struct mr_source *source)
{
    if (source == NULL) {
        return;
    }
    if (source->out) { /* the bus may still write into the queue */
        MR_ERROR("timer", "source=%s a batch did not come back, ignoring", source->name);
        return;
    }
    mr_batch_destroy(source->again);
    mr_opq_release(&source->replies);
    pthread_mutex_destroy(&source->mu);
    mr__timer_schedule_release(&source->schedule);
    mr_options_release(mr_connector_timer.source_kind.options, &source->options);
    mr_free(source->name);
    mr_free(source);
}

static enum mr_status check_options(const void *options, struct mr_problem *problem)
{
    const struct mr_timer_options *o = options;
    struct mr_timer_schedule schedule;
    enum mr_status r = mr__timer_schedule(o, &schedule, problem);
    if (r != MR_OK) {
        return r;
    }
    mr__timer_schedule_release(&schedule);
    if (o->type == NULL || o->type[0] == '\0') {
        return mr_problem_set(problem, MR_E_INVALID, "type: is empty");
    }
    if (o->subject != NULL && o->subject[0] == '\0') {
        return mr_problem_set(problem, MR_E_INVALID, "subject: is empty; leave it out instead");
    }
    return MR_OK;
}

static enum mr_status create_source(const struct mr_source_args *args,
                                    struct mr_source **ret_source, struct mr_problem *problem)
{
    enum mr_status r = check_options(args->options, problem);
    if (r != MR_OK) {
        return r;
    }
    struct mr_source *source = mr_calloc(1, sizeof(*source));
    if (source == NULL) {
        return mr_problem_set(problem, MR_E_NOMEM, "no memory for the source");
    }
    r = mr_opq_init(&source->replies, UINT64_MAX);
    if (r != MR_OK) {
        mr_free(source);
        return mr_problem_set(problem, r, "no queue for the source");
    }
    (void)pthread_mutex_init(&source->mu, NULL);
    source->host = args->host;
    atomic_init(&source->index, args->index);
    source->event_size_max =
        args->config == NULL ? MR_EVENT_SIZE_DEFAULT : args->config->event_size_max;
    source->name = mr_strdup(args->name);
    r = source->name == NULL ? mr_problem_set(problem, MR_E_NOMEM, "no memory for the source")
                             : mr__options_copy(mr_connector_timer.source_kind.options,
                                                sizeof(source->options), args->options,
                                                &source->options);
    if (r == MR_OK) {
        r = mr__timer_schedule(&source->options, &source->schedule, problem);
    }
    struct mr_event *event = NULL;
    if (r == MR_OK) { /* a type or subject that no event can have is found now, not at two */
        r = make_event(source, 0, &event, problem);
        mr_event_unref(event);
    }
    if (r != MR_OK) {
        destroy_source(source);
        return r;
    }
    if (!mr__timer_read_cursor(args->cursor, &source->last_ms)) {
        source->last_ms = (int64_t)(mr_clock_now().wall_ns / MR_MS); /* nothing was missed yet */
    }
    *ret_source = source;
    return MR_OK;
}

static enum mr_status start_source(struct mr_source *source, struct mr_problem *problem)
{
    MR_ASSERT(!source->started);
    if (pthread_create(&source->thread, NULL, run, source) != 0) {
        return mr_problem_set(problem, MR_E_UNAVAILABLE, "no thread for source %s", source->name);
    }
    source->started = true;
    return MR_OK;
}

/* release pairs with the acquire loads of the thread; the wake makes it look. */
static void pause_source(struct mr_source *source)
{
    atomic_store_explicit(&source->paused, true, memory_order_release);
    mr_opq_wake(&source->replies);
}

static void resume_source(struct mr_source *source)
{
    atomic_store_explicit(&source->paused, false, memory_order_release);
    mr_opq_wake(&source->replies);
}

static void stop_source(struct mr_source *source, uint64_t deadline_mono_ns)
{
    if (!source->started) {
        return;
    }
    atomic_store_explicit(&source->deadline_ns, deadline_mono_ns, memory_order_relaxed);
    atomic_store_explicit(&source->stopping, true, memory_order_release);
    mr_opq_wake(&source->replies);
    (void)pthread_join(source->thread, NULL);
    source->started = false;
}

static void reindex_source(struct mr_source *source, uint32_t index)
{
    atomic_store_explicit(&source->index, index, memory_order_relaxed);
}

static const struct mr_source_ops source_ops = {
    .create = create_source,
    .start = start_source,
    .pause = pause_source,
    .resume = resume_source,
    .stop = stop_source,
    .destroy = destroy_source,
    .health = read_health,
    .reindex = reindex_source,
};

static const char *const misfire_words[] = {"once", "skip", "all", NULL};

static const struct mr_option source_options[] = {
    {.name = "cron", .type = MR_OPTION_STRING, .at = offsetof(struct mr_timer_options, cron),
     .help = "Schedule: minute hour day-of-month month day-of-week, or @hourly, @daily and kin."},
    {.name = "every", .type = MR_OPTION_DURATION,
     .at = offsetof(struct mr_timer_options, every_ns), .min = 10 * (int64_t)MR_MS,
     .max = 36500 * (int64_t)MR_DAY,
     .help = "Interval; its instants are counted from 1970, so a restart does not shift them."},
    {.name = "at", .type = MR_OPTION_STRING, .at = offsetof(struct mr_timer_options, at),
     .help = "One instant, as 2026-11-21T02:00:00Z."},
    {.name = "time_zone", .type = MR_OPTION_STRING,
     .at = offsetof(struct mr_timer_options, time_zone),
     .help = "Zone the cron schedule is read in, as Europe/Berlin; UTC by default."},
    {.name = "misfire", .type = MR_OPTION_ENUM, .at = offsetof(struct mr_timer_options, misfire),
     .default_text = "once", .words = misfire_words,
     .help = "Instants missed while Millrace was off or paused: the newest fires once, none "
             "does, or all do."},
    {.name = "max_catch_up", .type = MR_OPTION_INT,
     .at = offsetof(struct mr_timer_options, max_catch_up), .default_text = "100", .min = 1,
     .max = MR_TIMER_CATCH_UP_MAX,
     .help = "With `misfire: all`, how many at most; the newest."},
    {.name = "type", .type = MR_OPTION_STRING, .at = offsetof(struct mr_timer_options, type),
     .default_text = "io.millrace.timer.tick", .help = "Type of the events."},
    {.name = "subject", .type = MR_OPTION_STRING,
     .at = offsetof(struct mr_timer_options, subject), .help = "Subject of the events."},
    {.name = "data", .type = MR_OPTION_JSON, .at = offsetof(struct mr_timer_options, data),
     .help = "Data of the events, any YAML or JSON value."},
    MR_OPTION_END,
};

const struct mr_connector mr_connector_timer = {
    .abi = MR_CONNECTOR_ABI,
    .name = "timer",
    .source_kind = {.name = "timer",
                    .options = source_options,
                    .options_size = sizeof(struct mr_timer_options),
                    .check = check_options},
    .source = &source_ops,
};
