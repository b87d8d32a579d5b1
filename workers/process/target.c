#include "workers/process/process.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/assert.h"
#include "workers/guardian.h"
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
    MR_OPTION_END,
};

static enum mr_status check_options(const void *options, struct mr_problem *problem)
{
    const struct mr_process_options *o = options;
    if (o->command.count == 0 || o->command.items[0][0] == '\0') {
        return mr_problem_set(problem, MR_E_INVALID, "command is empty");
    }
    return MR_OK;
}

static void process_destroy(struct mr_target *t)
{
    if (t == NULL) {
        return;
    }
    MR_ASSERT(!t->started);
    MR_ASSERT(t->count == 0);
    mr_opq_release(&t->queue);
    if (t->epoll >= 0) {
        close(t->epoll);
    }
    mr_command_release(&t->command);
    mr_free(t->instances);
    (void)pthread_mutex_destroy(&t->mu); /* nobody holds it */
    mr_free(t);
}

static void copy_config(struct mr_target *t, const struct mr_target_args *args)
{
    const struct mr_process_options *o = args->options;
    const struct mr_target_config *c = args->config;
    t->max_events = (uint64_t)o->max_events;
    t->max_life_ns = o->max_life_ns;
    t->concurrency = c->concurrency == 0 ? 1 : c->concurrency;
    t->concurrency = t->concurrency > MR__CONCURRENCY_MAX ? MR__CONCURRENCY_MAX : t->concurrency;
    t->timeout_ns = c->timeout_ns;
    t->grace_ns = c->grace_ns;
    t->scale_max = c->scale_max == 0 ? 1 : c->scale_max;
    t->scale_max = t->scale_max > MR_INSTANCES_MAX ? MR_INSTANCES_MAX : t->scale_max;
    t->scale_min = c->scale_min > t->scale_max ? t->scale_max : c->scale_min;
    t->scale_target = c->scale_target == 0 ? t->concurrency : c->scale_target;
    t->scale_idle_ns = c->scale_idle_ns;
    t->generation = args->generation;
    (void)snprintf(t->name, sizeof(t->name), "%s", args->name); /* names fit by their limit */
}

static enum mr_status process_create(const struct mr_target_args *args,
                                     struct mr_target **ret_target, struct mr_problem *problem)
{
    const struct mr_process_options *o = args->options;
    struct mr_target *t = mr_calloc(1, sizeof(*t));
    if (t == NULL) {
        return mr_problem_set(problem, MR_E_NOMEM, "out of memory");
    }
    t->host = args->host;
    t->queue.fd = -1;
    atomic_init(&t->index, args->index);
    t->capacity_told = UINT32_MAX; /* so that the first is told */
    t->pending_end = &t->pending;
    t->answers_end = &t->answers;
    t->watch_queue.kind = MR__WATCH_QUEUE;
    mr_rng_init(&t->rng, mr_rng_entropy());
    copy_config(t, args);
    t->epoll = epoll_create1(EPOLL_CLOEXEC);
    (void)pthread_mutex_init(&t->mu, NULL); /* with standard attributes it cannot fail */
    t->instances = mr_calloc(t->scale_max, sizeof(struct mr__instance *));
    enum mr_status r =
        t->instances == NULL
            ? mr_problem_set(problem, MR_E_NOMEM, "out of memory")
            : mr_command_init(&t->command, &o->command, &o->env,
                              o->cwd == NULL ? args->folder : o->cwd, problem);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &t->watch_queue};
    if (r == MR_OK && (t->epoll < 0 || mr_opq_init(&t->queue, UINT64_MAX) != MR_OK ||
                       epoll_ctl(t->epoll, EPOLL_CTL_ADD, mr_opq_fd(&t->queue), &event) != 0)) {
        r = mr_problem_set(problem, MR_E_UNAVAILABLE, "no descriptors for worker %s", args->name);
    }
    if (r != MR_OK) {
        process_destroy(t);
        return r;
    }
    *ret_target = t;
    return MR_OK;
}

static enum mr_status process_start(struct mr_target *t, struct mr_problem *problem)
{
    enum mr_status r = mr_guardian_ref(problem);
    if (r != MR_OK) {
        return r;
    }
    /* Signals are the engine's business; SIGPIPE of a worker's closed pipe is an error code. */
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&t->thread, NULL, mr__process_loop, t);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) {
        mr_guardian_unref();
        return mr_problem_set(problem, MR_E_UNAVAILABLE, "no thread for worker %s", t->name);
    }
    t->started = true;
    return MR_OK;
}

static void process_submit(struct mr_target *t, struct mr_handout *first)
{
    MR_ASSERT(first != NULL);
    for (struct mr_op *op = &first->op; op != NULL; op = op->next) {
        op->type = MR__OP_SUBMIT;
    }
    if (mr_opq_push(&t->queue, &first->op) == MR_OK) {
        return;
    }
    /* Only after stop: nobody is there any more. */
    for (struct mr_op *op = &first->op; op != NULL; op = op->next) {
        ((struct mr_handout *)op)->answer.verdict = MR_VERDICT_REFUSED;
    }
    t->host->ops->answer(t->host, first);
}

static void process_cancel(struct mr_target *t, uint32_t subscription, uint64_t offset,
                           uint32_t fence)
{
    struct mr__cancel *cancel = mr_calloc(1, sizeof(*cancel));
    if (cancel == NULL) {
        atomic_store_explicit(&t->cancel_lost, true, memory_order_relaxed);
        mr_opq_wake(&t->queue);
        return;
    }
    cancel->op.type = MR__OP_CANCEL;
    cancel->subscription = subscription;
    cancel->offset = offset;
    cancel->fence = fence;
    if (mr_opq_push(&t->queue, &cancel->op) != MR_OK) {
        mr_free(cancel); /* after stop: everything is answered */
    }
}

static void process_demand(struct mr_target *t, uint64_t queued, uint64_t oldest_age_ns)
{
    uint64_t now = mr_clock_mono_ns();
    atomic_store_explicit(&t->demand_born_ns, now > oldest_age_ns ? now - oldest_age_ns : 1,
                          memory_order_relaxed);
    uint64_t before = atomic_exchange_explicit(&t->demand_queued, queued, memory_order_relaxed);
    if (queued > before) {
        mr_opq_wake(&t->queue); /* less demand can wait for the next pass */
    }
}

static void process_stop(struct mr_target *t, uint64_t deadline_mono_ns)
{
    if (!t->started) {
        return;
    }
    atomic_store_explicit(&t->stop_deadline_ns, deadline_mono_ns, memory_order_relaxed);
    t->stop_op = (struct mr_op){.type = MR__OP_STOP};
    enum mr_status r = mr_opq_push(&t->queue, &t->stop_op);
    MR_ASSERT(r == MR_OK);
    (void)pthread_join(t->thread, NULL);
    t->started = false;
    mr_guardian_unref();
}

static void process_health(struct mr_target *t, struct mr_health *ret_health)
{
    pthread_mutex_lock(&t->mu);
    *ret_health = t->shown_health;
    uint32_t streak = t->shown_streak;
    uint32_t count = t->shown_count;
    pthread_mutex_unlock(&t->mu);
    struct mr_health *h = ret_health;
    if (h->instances_ready > 0) {
        h->state = streak > 0 ? MR_HEALTH_DEGRADED : MR_HEALTH_OK;
        (void)snprintf(h->detail, sizeof(h->detail), "%" PRIu32 " ready, %" PRIu32 " busy, %" PRIu32
                       " starting", h->instances_ready, h->instances_busy, h->instances_starting);
    } else if (streak > 0) {
        h->state = MR_HEALTH_DOWN;
        (void)snprintf(h->detail, sizeof(h->detail),
                       "instances end by themselves, %" PRIu32 " in a row", streak);
    } else if (count == 0 && t->scale_min == 0) {
        h->state = MR_HEALTH_OK;
        (void)snprintf(h->detail, sizeof(h->detail), "scaled to zero");
    } else {
        h->state = MR_HEALTH_STARTING;
        (void)snprintf(h->detail, sizeof(h->detail), "%" PRIu32 " starting",
                       h->instances_starting);
    }
}

static void process_reindex(struct mr_target *t, uint32_t index)
{
    atomic_store_explicit(&t->index, index, memory_order_relaxed);
    atomic_store_explicit(&t->announce, true, memory_order_release); /* loop.c acquires */
    mr_opq_wake(&t->queue);
}

static const struct mr_target_ops process_ops = {
    .create = process_create,
    .start = process_start,
    .submit = process_submit,
    .cancel = process_cancel,
    .demand = process_demand,
    .stop = process_stop,
    .destroy = process_destroy,
    .health = process_health,
    .reindex = process_reindex,
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
                    .check = check_options},
    .worker = &process_ops,
    .bytes_max = bytes_max,
};
