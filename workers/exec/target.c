#include "workers/exec/exec.h"

#include <inttypes.h>
#include <stdio.h>

#include "core/alloc.h"
#include "core/assert.h"
#include "workers/exec/internal.h"
#include "workers/registry.h"

static const struct mr_option exec_options[] = {
    {.name = "command",
     .type = MR_OPTION_STRINGS,
     .at = offsetof(struct mr_exec_options, command),
     .flags = MR_OPTION_REQUIRED,
     .help = "The program and its arguments, run once per event; no shell is involved."},
    {.name = "env",
     .type = MR_OPTION_PAIRS,
     .at = offsetof(struct mr_exec_options, env),
     .help = "Environment variables; of Millrace's own only PATH, HOME, LANG, TZ and their kin "
             "are passed on."},
    {.name = "cwd",
     .type = MR_OPTION_PATH,
     .at = offsetof(struct mr_exec_options, cwd),
     .help = "Working directory; default: the folder of the configuration."},
    MR_LIMIT_OPTIONS(struct mr_exec_options, "Processor time one run may use; then it is ended. "
                                             "0 = no limit."),
    MR_OPTION_END,
};

static enum mr_status check_options(const void *options, struct mr_problem *problem)
{
    const struct mr_exec_options *o = options;
    if (o->command.count == 0 || o->command.items[0][0] == '\0') {
        return mr_problem_set(problem, MR_E_INVALID, "command is empty");
    }
    return mr_limits_check(&o->limits, problem);
}

static void exec_destroy(struct mr_target *t)
{
    if (t == NULL) {
        return;
    }
    MR_ASSERT(t->count == 0);
    mr_station_release(&t->base);
    mr_command_release(&t->command);
    mr_free(t->runs);
    mr_free(t);
}

static void copy_config(struct mr_target *t, const struct mr_target_args *args)
{
    const struct mr_target_config *c = args->config;
    t->run_max = c->scale_max == 0 ? 1 : c->scale_max;
    t->run_max = t->run_max > MR_INSTANCES_MAX ? MR_INSTANCES_MAX : t->run_max;
    t->grace_ns = c->grace_ns;
}

static enum mr_status exec_create(const struct mr_target_args *args,
                                     struct mr_target **ret_target, struct mr_problem *problem)
{
    const struct mr_exec_options *o = args->options;
    struct mr_target *t = mr_calloc(1, sizeof(*t));
    if (t == NULL) {
        return mr_problem_set(problem, MR_E_NOMEM, "out of memory");
    }
    copy_config(t, args);
    enum mr_status r = mr_station_init(&t->base, args, &mr__exec_station, problem);
    t->runs = mr_calloc(t->run_max, sizeof(struct mr__run *));
    if (r == MR_OK && t->runs == NULL) {
        r = mr_problem_set(problem, MR_E_NOMEM, "out of memory");
    }
    if (r == MR_OK) {
        r = mr_command_init(&t->command, &o->command, &o->env,
                            o->cwd == NULL ? args->folder : o->cwd, problem);
    }
    t->command.limits = o->limits;
    t->base.limits = &t->command.limits;
    r = r == MR_OK ? mr_limits_take(&t->command.limits, problem) : r;
    if (r != MR_OK) {
        exec_destroy(t);
        return r;
    }
    *ret_target = t;
    return MR_OK;
}

static void exec_health(struct mr_target *t, struct mr_health *ret_health)
{
    struct mr_station_shown shown = mr_station_show(&t->base);
    *ret_health = shown.health;
    struct mr_health *h = ret_health;
    h->state = h->crash_streak > 0 ? MR_HEALTH_DOWN : MR_HEALTH_OK;
    (void)snprintf(h->detail, sizeof(h->detail), "%" PRIu32 " of at most %" PRIu32 " running",
                   h->instances_busy, t->run_max);
}

static const struct mr_target_ops exec_ops = {
    .create = exec_create,
    .start = mr_station_start,
    .submit = mr_station_submit,
    .cancel = mr_station_cancel,
    .stop = mr_station_stop,
    .destroy = exec_destroy,
    .health = exec_health,
    .reindex = mr_station_reindex,
    .list = mr_station_list,
};

/* Of one process: how many there may be stands in the target's scale, not in its options. */
static uint64_t bytes_max(const void *options)
{
    (void)options;
    return sizeof(struct mr__run) + MR_FRAME_SIZE_MAX + MR_RESPONSE_SIZE_MAX;
}

const struct mr_connector mr_worker_exec = {
    .abi = MR_CONNECTOR_ABI,
    .name = "exec",
    .worker_kind = {.name = "exec",
                    .options = exec_options,
                    .options_size = sizeof(struct mr_exec_options),
                    .check = check_options},
    .worker = &exec_ops,
    .bytes_max = bytes_max,
};
