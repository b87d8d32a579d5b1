/* Timer source: events at instants. The instant last fired is logged with the event (the cursor),
 * so a restart neither repeats nor forgets one; the id is the instant, so replicas fire the same
 * event. When it is time, hub.c knows. */
#include "connectors/timer/timer.h"

#include <stdio.h>
#include <string.h>

#include "connectors/options.h"
#include "connectors/timer/hub.h"
#include "core/alloc.h"
#include "core/assert.h"
#include "core/clock.h"
#include "core/logger.h"

/* --- events ----------------------------------------------------------------------------------- */

static enum mr_status add_attr(struct mr_event_builder *builder, const char *name,
                               enum mr_attr_type type, const char *value,
                               struct mr_problem *problem)
{
    return mr_event_builder_attr(builder, mr_bytes_of(name), type, mr_bytes_of(value), problem);
}

enum mr_status mr__timer_event(const struct mr_source *timer, int64_t at_ms,
                               struct mr_event **ret_event, struct mr_problem *problem)
{
    const struct mr_timer_options *o = &timer->options;
    char time[MR_TIMER_TEXT_SIZE];
    char id[MR_NAME_SIZE_MAX + MR_TIMER_TEXT_SIZE + 8];
    char from[MR_NAME_SIZE_MAX + 32];
    mr__timer_text(at_ms, time);
    (void)snprintf(id, sizeof(id), "%.*s@%s", (int)MR_NAME_SIZE_MAX, timer->name, time);
    (void)snprintf(from, sizeof(from), "/millrace/source/%.*s", (int)MR_NAME_SIZE_MAX,
                   timer->name);
    struct mr_event_builder builder;
    mr_event_builder_init(&builder, timer->event_size_max);
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

/* --- the connector's calls -------------------------------------------------------------------- */

static int64_t wall_ms(void)
{
    return (int64_t)(mr_clock_now().wall_ns / MR_MS);
}

static void destroy_source(struct mr_source *source)
{
    if (source == NULL) {
        return;
    }
    if (source->hub != NULL) { /* the bus may still write into its queue */
        MR_ERROR("timer", "source=%s a batch did not come back, ignoring", source->name);
        return;
    }
    mr_batch_destroy(source->again);
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
        r = mr__timer_event(source, 0, &event, problem);
        mr_event_unref(event);
    }
    if (r != MR_OK) {
        destroy_source(source);
        return r;
    }
    if (!mr__timer_read_cursor(args->cursor, &source->last_ms)) {
        source->last_ms = wall_ms(); /* nothing was missed yet */
    }
    *ret_source = source;
    return MR_OK;
}

static enum mr_status start_source(struct mr_source *source, struct mr_problem *problem)
{
    struct mr_hub *hub = NULL;
    MR_ASSERT(source->hub == NULL);
    enum mr_status r = mr__hub_acquire(&hub, problem);
    if (r != MR_OK) {
        return r;
    }
    r = mr__hub_add(hub, source);
    if (r != MR_OK) {
        mr__hub_release(hub);
        return mr_problem_set(problem, r, "no memory for timer %s", source->name);
    }
    return MR_OK;
}

static void pause_source(struct mr_source *source)
{
    if (source->hub == NULL) {
        source->paused = true; /* not started: nobody else looks */
    } else {
        (void)mr__hub_pause(source->hub, source, true);
    }
}

/* Resuming what runs is how an operator accepts the clock. */
static void resume_source(struct mr_source *source)
{
    if (source->hub == NULL) {
        source->paused = false;
    } else if (!mr__hub_pause(source->hub, source, false)) {
        mr__hub_accept(source->hub, wall_ms());
    }
}

static void stop_source(struct mr_source *source, uint64_t deadline_mono_ns)
{
    if (source->hub != NULL && mr__hub_remove(source->hub, source, deadline_mono_ns)) {
        mr__hub_release(MR_TAKE(source->hub));
    }
}

static void read_health(struct mr_source *source, struct mr_health *ret_health)
{
    *ret_health = (struct mr_health){.state = MR_HEALTH_STARTING};
    if (source->hub != NULL) {
        mr__hub_health(source->hub, source, wall_ms(), ret_health);
    }
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
