#include "workers/exec/exec.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/assert.h"
#include "workers/exec/internal.h"
#include "workers/guardian.h"
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
    MR_OPTION_END,
};

static enum mr_status check_options(const void *options, struct mr_problem *problem)
{
    const struct mr_exec_options *o = options;
    if (o->command.count == 0 || o->command.items[0][0] == '\0') {
        return mr_problem_set(problem, MR_E_INVALID, "command is empty");
    }
    return MR_OK;
}

static void exec_destroy(struct mr_target *t)
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
    mr_free(t->runs);
    (void)pthread_mutex_destroy(&t->mu); /* nobody holds it */
    mr_free(t);
}

static void copy_config(struct mr_target *t, const struct mr_target_args *args)
{
    const struct mr_target_config *c = args->config;
    t->run_max = c->scale_max == 0 ? 1 : c->scale_max;
    t->run_max = t->run_max > MR_INSTANCES_MAX ? MR_INSTANCES_MAX : t->run_max;
    t->grace_ns = c->grace_ns;
    t->generation = args->generation;
    (void)snprintf(t->name, sizeof(t->name), "%s", args->name); /* names fit by their limit */
}

static enum mr_status exec_create(const struct mr_target_args *args,
                                     struct mr_target **ret_target, struct mr_problem *problem)
{
    const struct mr_exec_options *o = args->options;
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
    t->watch_queue.kind = MR__EXEC_QUEUE;
    mr_rng_init(&t->rng, mr_rng_entropy());
    copy_config(t, args);
    t->epoll = epoll_create1(EPOLL_CLOEXEC);
    (void)pthread_mutex_init(&t->mu, NULL); /* with standard attributes it cannot fail */
    t->runs = mr_calloc(t->run_max, sizeof(struct mr__run *));
    enum mr_status r =
        t->runs == NULL
            ? mr_problem_set(problem, MR_E_NOMEM, "out of memory")
            : mr_command_init(&t->command, &o->command, &o->env,
                              o->cwd == NULL ? args->folder : o->cwd, problem);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &t->watch_queue};
    if (r == MR_OK && (t->epoll < 0 || mr_opq_init(&t->queue, UINT64_MAX) != MR_OK ||
                       epoll_ctl(t->epoll, EPOLL_CTL_ADD, mr_opq_fd(&t->queue), &event) != 0)) {
        r = mr_problem_set(problem, MR_E_UNAVAILABLE, "no descriptors for worker %s", args->name);
    }
    if (r != MR_OK) {
        exec_destroy(t);
        return r;
    }
    *ret_target = t;
    return MR_OK;
}

static enum mr_status exec_start(struct mr_target *t, struct mr_problem *problem)
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
    int error = pthread_create(&t->thread, NULL, mr__exec_loop, t);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) {
        mr_guardian_unref();
        return mr_problem_set(problem, MR_E_UNAVAILABLE, "no thread for worker %s", t->name);
    }
    t->started = true;
    return MR_OK;
}

static void exec_submit(struct mr_target *t, struct mr_handout *first)
{
    MR_ASSERT(first != NULL);
    for (struct mr_op *op = &first->op; op != NULL; op = op->next) {
        op->type = MR__EXEC_SUBMIT;
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

static void exec_cancel(struct mr_target *t, uint32_t subscription, uint64_t offset,
                           uint32_t fence)
{
    struct mr__exec_cancel *cancel = mr_calloc(1, sizeof(*cancel));
    if (cancel == NULL) {
        atomic_store_explicit(&t->cancel_lost, true, memory_order_relaxed);
        mr_opq_wake(&t->queue);
        return;
    }
    cancel->op.type = MR__EXEC_CANCEL;
    cancel->subscription = subscription;
    cancel->offset = offset;
    cancel->fence = fence;
    if (mr_opq_push(&t->queue, &cancel->op) != MR_OK) {
        mr_free(cancel); /* after stop: everything is answered */
    }
}

static void exec_stop(struct mr_target *t, uint64_t deadline_mono_ns)
{
    if (!t->started) {
        return;
    }
    atomic_store_explicit(&t->stop_deadline_ns, deadline_mono_ns, memory_order_relaxed);
    t->stop_op = (struct mr_op){.type = MR__EXEC_STOP};
    enum mr_status r = mr_opq_push(&t->queue, &t->stop_op);
    MR_ASSERT(r == MR_OK);
    (void)pthread_join(t->thread, NULL);
    t->started = false;
    mr_guardian_unref();
}

static void exec_health(struct mr_target *t, struct mr_health *ret_health)
{
    pthread_mutex_lock(&t->mu);
    *ret_health = t->shown_health;
    uint32_t streak = t->shown_streak;
    pthread_mutex_unlock(&t->mu);
    struct mr_health *h = ret_health;
    h->state = streak > 0 ? MR_HEALTH_DOWN : MR_HEALTH_OK;
    (void)snprintf(h->detail, sizeof(h->detail), "%" PRIu32 " of at most %" PRIu32 " running",
                   h->instances_busy, t->run_max);
}

static void exec_reindex(struct mr_target *t, uint32_t index)
{
    atomic_store_explicit(&t->index, index, memory_order_relaxed);
    atomic_store_explicit(&t->announce, true, memory_order_release); /* loop.c acquires */
    mr_opq_wake(&t->queue);
}

static const struct mr_target_ops exec_ops = {
    .create = exec_create,
    .start = exec_start,
    .submit = exec_submit,
    .cancel = exec_cancel,
    .stop = exec_stop,
    .destroy = exec_destroy,
    .health = exec_health,
    .reindex = exec_reindex,
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
