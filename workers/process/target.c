#include "workers/process/process.h"

#include <inttypes.h>
#include <stdio.h>

#include "core/alloc.h"
#include "core/assert.h"
#include "workers/process/internal.h"
#include "workers/registry.h"

static const struct mr_option process_options[] = {
    {.name = "command",
     .type = MR_OPTION_STRINGS,
     .at = offsetof(struct mr_process_options, command),
     .flags = MR_OPTION_REQUIRED,
     .help = "The program and its arguments; no shell is involved."},
    {.name = "env",
     .type = MR_OPTION_PAIRS,
     .at = offsetof(struct mr_process_options, env),
     .help = "Environment variables; of Millrace's own only PATH, HOME, LANG, TZ and their kin "
             "are passed on."},
    {.name = "cwd",
     .type = MR_OPTION_PATH,
     .at = offsetof(struct mr_process_options, cwd),
     .help = "Working directory; default: the folder of the configuration."},
    {.name = "max_events",
     .type = MR_OPTION_INT,
     .at = offsetof(struct mr_process_options, max_events),
     .default_text = "0",
     .min = 0,
     .max = INT64_MAX,
     .unit = "deliveries",
     .help = "An instance is replaced after so many; 0 = never."},
    {.name = "max_life",
     .type = MR_OPTION_DURATION,
     .at = offsetof(struct mr_process_options, max_life_ns),
     .default_text = "0",
     .unit = "time",
     .help = "An instance is replaced after this time (varied by 10 %); 0 = never."},
    {.name = "max_rss",
     .type = MR_OPTION_SIZE,
     .at = offsetof(struct mr_process_options, max_rss),
     .default_text = "0",
     .help = "An instance whose resident memory has grown beyond this is replaced once it has "
             "finished what it holds; looked at each second; 0 = never."},
    MR_LIMIT_OPTIONS(struct mr_process_options,
                     "Processor time one delivery may use (with several in flight: so much for "
                     "each slot while the oldest is there); then the instance is ended. 0 = no "
                     "limit."),
    MR_OPTION_END,
};

static enum mr_status check_options(const void *options, struct mr_problem *problem)
{
    const struct mr_process_options *o = options;
    if (o->command.count == 0 || o->command.items[0][0] == '\0') {
        return mr_problem_set(problem, MR_E_INVALID, "command is empty");
    }
    return mr_limits_check(&o->limits, problem);
}

static void process_destroy(struct mr_target *t)
{
    if (t == NULL) {
        return;
    }
    MR_ASSERT(t->count == 0);
    mr_station_release(&t->base);
    mr_command_release(&t->command);
    mr_free(t->instances);
    mr_free(t);
}

static void copy_config(struct mr_target *t, const struct mr_target_args *args)
{
    const struct mr_process_options *o = args->options;
    const struct mr_target_config *c = args->config;
    t->max_events = (uint64_t)o->max_events;
    t->max_life_ns = o->max_life_ns;
    t->max_rss = o->max_rss;
    t->max_cpu_ns = o->limits.cpu_ns;
    t->concurrency = c->concurrency == 0 ? 1 : c->concurrency;
    t->concurrency = t->concurrency > MR__CONCURRENCY_MAX ? MR__CONCURRENCY_MAX : t->concurrency;
    t->timeout_ns = c->timeout_ns;
    t->grace_ns = c->grace_ns;
    t->scale_max = c->scale_max == 0 ? 1 : c->scale_max;
    t->scale_max = t->scale_max > MR_INSTANCES_MAX ? MR_INSTANCES_MAX : t->scale_max;
    t->scale_min = c->scale_min > t->scale_max ? t->scale_max : c->scale_min;
    t->scale_target = c->scale_target == 0 ? t->concurrency : c->scale_target;
    t->scale_idle_ns = c->scale_idle_ns;
}

static enum mr_status process_create(const struct mr_target_args *args,
                                     struct mr_target **ret_target, struct mr_problem *problem)
{
    const struct mr_process_options *o = args->options;
    struct mr_target *t = mr_calloc(1, sizeof(*t));
    if (t == NULL) {
        return mr_problem_set(problem, MR_E_NOMEM, "out of memory");
    }
    copy_config(t, args);
    enum mr_status r = mr_station_init(&t->base, args, &mr__process_station, problem);
    t->instances = mr_calloc(t->scale_max, sizeof(struct mr__instance *));
    if (r == MR_OK && t->instances == NULL) {
        r = mr_problem_set(problem, MR_E_NOMEM, "out of memory");
    }
    if (r == MR_OK) {
        r = mr_command_init(&t->command, &o->command, &o->env,
                            o->cwd == NULL ? args->folder : o->cwd, problem);
    }
    t->command.limits = o->limits;
    t->base.limits = &t->command.limits;
    t->command.limits.cpu_apart = o->limits.cpu_ns != 0; /* by instance.c */
    t->command.limits.cpu_ns = 0;
    r = r == MR_OK ? mr_limits_take(&t->command.limits, problem) : r;
    if (r != MR_OK) {
        process_destroy(t);
        return r;
    }
    *ret_target = t;
    return MR_OK;
}

static void process_health(struct mr_target *t, struct mr_health *ret_health)
{
    struct mr_station_shown shown = mr_station_show(&t->base);
    *ret_health = shown.health;
    struct mr_health *h = ret_health;
    if (h->instances_ready > 0) {
        h->state = h->crash_streak > 0 ? MR_HEALTH_DEGRADED : MR_HEALTH_OK;
        (void)snprintf(h->detail, sizeof(h->detail), "%" PRIu32 " ready, %" PRIu32 " busy, %" PRIu32
                       " starting%s", h->instances_ready, h->instances_busy,
                       h->instances_starting, h->burst ? ", a burst" : "");
    } else if (h->crash_streak > 0) {
        h->state = MR_HEALTH_DOWN;
        (void)snprintf(h->detail, sizeof(h->detail),
                       "instances end by themselves, %" PRIu32 " in a row; next start in %" PRIu64
                       ".%" PRIu64 " s", h->crash_streak, (uint64_t)(h->backoff_ns / MR_SECOND),
                       (uint64_t)(h->backoff_ns % MR_SECOND / (100 * MR_MS)));
    } else if (shown.count == 0 && t->scale_min == 0) {
        h->state = MR_HEALTH_OK;
        (void)snprintf(h->detail, sizeof(h->detail), "scaled to zero");
    } else {
        h->state = MR_HEALTH_STARTING;
        (void)snprintf(h->detail, sizeof(h->detail), "%" PRIu32 " starting",
                       h->instances_starting);
    }
}

static const struct mr_target_ops process_ops = {
    .create = process_create,
    .start = mr_station_start,
    .submit = mr_station_submit,
    .cancel = mr_station_cancel,
    .demand = mr_station_demand,
    .stop = mr_station_stop,
    .destroy = process_destroy,
    .health = process_health,
    .reindex = mr_station_reindex,
    .list = mr_station_list,
};

/* Of one instance: how many there may be stands in the target's scale, not in its options. */
static uint64_t bytes_max(const void *options)
{
    (void)options;
    return sizeof(struct mr__instance) + MR__OUT_SIZE_MAX + MR__IN_SIZE_MAX +
           MR__CONCURRENCY_MAX * sizeof(struct mr__slot);
}

const struct mr_connector mr_worker_process = {
    .abi = MR_CONNECTOR_ABI,
    .name = "process",
    .worker_kind = {.name = "process",
                    .options = process_options,
                    .options_size = sizeof(struct mr_process_options),
                    .check = check_options,
                    .takes_batches = true},
    .worker = &process_ops,
    .bytes_max = bytes_max,
};
