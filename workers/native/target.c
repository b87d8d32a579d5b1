#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

#include "core/alloc.h"
#include "core/assert.h"
#include "core/limits.h"
#include "core/logger.h"
#include "workers/native/internal.h"
#include "workers/registry.h"

struct mr_target {
    struct mr_host *host; /* borrowed: outlives the target */
    _Atomic uint32_t index;
    char name[MR_NAME_SIZE_MAX + 1];
    char version[40];
    struct mr__plugin plugin;
    uint32_t concurrency;

    pthread_t threads[MR__NATIVE_THREADS_MAX];
    uint32_t thread_count; /* control thread's */
    pthread_mutex_t mu;    /* protects all below */
    pthread_cond_t work;   /* something waits, or the target stops */
    pthread_cond_t quiet;  /* a handler returned */
    struct mr_handout *pending; /* owned chain */
    struct mr_handout **pending_end;
    struct mr__native_call *calls[MR__NATIVE_THREADS_MAX]; /* owned by its thread; NULL: idle */
    uint32_t busy;
    bool stopping;
    bool left_behind; /* a handler never returned */
    uint64_t handed;
};

static const struct mr_option native_options[] = {
    {.name = "path", .type = MR_OPTION_PATH, .at = offsetof(struct mr_native_options, path),
     .flags = MR_OPTION_REQUIRED,
     .help = "The plugin: a shared library that exports millrace_native_plugin(). It runs inside "
             "Millrace, with all its rights: a crash in it is a crash of Millrace."},
    {.name = "settings", .type = MR_OPTION_JSON,
     .at = offsetof(struct mr_native_options, settings), .default_text = "{}",
     .help = "What the plugin gets when it is opened, as JSON."},
    MR_OPTION_END,
};

static void native_destroy(struct mr_target *t)
{
    if (t == NULL || t->left_behind) {
        return; /* leaked on purpose: internal.h */
    }
    MR_ASSERT(t->thread_count == 0);
    mr__plugin_unload(&t->plugin);
    (void)pthread_cond_destroy(&t->work);
    (void)pthread_cond_destroy(&t->quiet);
    (void)pthread_mutex_destroy(&t->mu); /* nobody holds it */
    mr_free(t);
}

static void init_locks(struct mr_target *t)
{
    pthread_condattr_t attr;
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&t->quiet, &attr); /* with valid attributes none of these can fail */
    (void)pthread_condattr_destroy(&attr);
    (void)pthread_cond_init(&t->work, NULL);
    (void)pthread_mutex_init(&t->mu, NULL);
}

static enum mr_status native_create(const struct mr_target_args *args,
                                    struct mr_target **ret_target, struct mr_problem *problem)
{
    const struct mr_native_options *o = args->options;
    struct mr_target *t = mr_calloc(1, sizeof(*t));
    if (t == NULL) {
        return mr_problem_set(problem, MR_E_NOMEM, "out of memory");
    }
    t->host = args->host;
    atomic_init(&t->index, args->index);
    t->pending_end = &t->pending;
    t->concurrency = args->config->concurrency;
    t->concurrency =
        t->concurrency > MR__NATIVE_THREADS_MAX ? MR__NATIVE_THREADS_MAX : t->concurrency;
    (void)snprintf(t->name, sizeof(t->name), "%s", args->name); /* names fit by their limit */
    (void)snprintf(t->version, sizeof(t->version), "%" PRIu64, args->generation); /* fits */
    init_locks(t);
    enum mr_status r = mr__plugin_load(&t->plugin, o->path,
                                       o->settings == NULL ? "{}" : o->settings, problem);
    if (r != MR_OK) {
        native_destroy(t);
        return r;
    }
    if (t->plugin.ops->version != NULL) {
        mr_text_clean(t->version, sizeof(t->version), mr_bytes_of(t->plugin.ops->version));
    }
    *ret_target = t;
    return MR_OK;
}

/* --- the threads ------------------------------------------------------------------------------ */

struct start {
    struct mr_target *target;
    uint32_t number;
};

static void give_back(struct mr_target *t, struct mr_handout *h)
{
    h->op.next = NULL;
    t->host->ops->answer(t->host, h);
}

static void refuse(struct mr_target *t, struct mr_handout *h, const char *why)
{
    h->answer.verdict = MR_VERDICT_REFUSED;
    mr_handout_set_error(h, mr_bytes_of(why));
    give_back(t, h);
}

static void refuse_chain(struct mr_target *t, struct mr_handout *first, const char *why)
{
    while (first != NULL) {
        struct mr_handout *next = (struct mr_handout *)first->op.next;
        refuse(t, first, why);
        first = next;
    }
}

static struct mr_handout *wait_for_work(struct mr_target *t)
{
    pthread_mutex_lock(&t->mu);
    while (t->pending == NULL && !t->stopping) {
        pthread_cond_wait(&t->work, &t->mu);
    }
    struct mr_handout *h = t->stopping ? NULL : t->pending;
    if (h != NULL) {
        t->pending = (struct mr_handout *)h->op.next;
        t->pending_end = t->pending == NULL ? &t->pending : t->pending_end;
        t->busy++;
        t->handed++;
    }
    pthread_mutex_unlock(&t->mu);
    return h;
}

static void handle(struct mr_target *t, uint32_t number, struct mr_handout *h)
{
    h->answer.started_wall_ns = mr_clock_now().wall_ns;
    (void)snprintf(h->answer.instance, sizeof(h->answer.instance), "%.28s/%" PRIu32, t->name,
                   number + 1); /* fits */
    (void)snprintf(h->answer.version, sizeof(h->answer.version), "%s", t->version);
    struct mr__native_call *call = mr__native_call_create(t->host, &t->mu, h);
    if (call == NULL) {
        h->answer.started_wall_ns = 0;
        refuse(t, h, "out of memory");
    } else {
        pthread_mutex_lock(&t->mu);
        t->calls[number] = call;
        pthread_cond_broadcast(&t->quiet);
        pthread_mutex_unlock(&t->mu);
        int verdict = t->plugin.ops->handle(t->plugin.state, &call->native);
        pthread_mutex_lock(&t->mu);
        t->calls[number] = NULL;
        h = call->handout; /* NULL: the target stopped without us */
        pthread_mutex_unlock(&t->mu);
        if (h != NULL) {
            mr__native_call_finish(call, verdict);
            give_back(t, h);
        }
        mr__native_call_destroy(call);
    }
    pthread_mutex_lock(&t->mu);
    t->busy--;
    pthread_cond_broadcast(&t->quiet);
    pthread_mutex_unlock(&t->mu);
}

static void *serve(void *argument)
{
    struct start start = *(struct start *)argument;
    mr_free(argument);
    struct mr_handout *h;
    while ((h = wait_for_work(start.target)) != NULL) {
        handle(start.target, start.number, h);
    }
    return NULL;
}

static enum mr_status start_thread(struct mr_target *t, struct mr_problem *problem)
{
    struct start *start = mr_calloc(1, sizeof(*start));
    if (start == NULL) {
        return mr_problem_set(problem, MR_E_NOMEM, "out of memory");
    }
    *start = (struct start){t, t->thread_count};
    /* Signals are the engine's business. */
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&t->threads[t->thread_count], NULL, serve, start);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) {
        mr_free(start);
        return mr_problem_set(problem, MR_E_UNAVAILABLE, "no thread for worker %s", t->name);
    }
    t->thread_count++;
    return MR_OK;
}

static void native_stop(struct mr_target *t, uint64_t deadline_mono_ns);

static enum mr_status native_start(struct mr_target *t, struct mr_problem *problem)
{
    enum mr_status r = MR_OK;
    while (r == MR_OK && t->thread_count < t->concurrency) {
        r = start_thread(t, problem);
    }
    if (r != MR_OK) {
        native_stop(t, mr_clock_mono_ns());
        return r;
    }
    t->host->ops->capacity(t->host, atomic_load(&t->index), t->concurrency);
    return MR_OK;
}

/* --- from other threads ----------------------------------------------------------------------- */

static void native_submit(struct mr_target *t, struct mr_handout *first)
{
    pthread_mutex_lock(&t->mu);
    bool stopping = t->stopping;
    if (!stopping) {
        struct mr_handout *last = first;
        while (last->op.next != NULL) {
            last = (struct mr_handout *)last->op.next;
        }
        *t->pending_end = first;
        t->pending_end = (struct mr_handout **)(void *)&last->op.next; /* op is first */
        pthread_cond_broadcast(&t->work);
    }
    pthread_mutex_unlock(&t->mu);
    if (stopping) {
        refuse_chain(t, first, "the worker is stopped");
    }
}

/* A thread cannot be killed: the handler is told, and may look. */
static void native_cancel(struct mr_target *t, uint32_t subscription, uint64_t offset,
                          uint32_t fence)
{
    pthread_mutex_lock(&t->mu);
    for (uint32_t n = 0; n < t->thread_count; n++) {
        struct mr__native_call *call = t->calls[n];
        const struct mr_handout *h = call == NULL ? NULL : call->handout;
        if (h != NULL && h->offset == offset && h->subscription == subscription &&
            h->fence == fence) {
            atomic_store_explicit(&call->cancelled, true, memory_order_relaxed);
        }
    }
    pthread_mutex_unlock(&t->mu);
}

static uint32_t count_calls_locked(const struct mr_target *t)
{
    uint32_t count = 0;
    for (uint32_t n = 0; n < t->concurrency; n++) {
        count += t->calls[n] != NULL;
    }
    return count;
}

/* Waits for the handlers until the deadline, then takes the hand-outs of those that did not
 * return. A thread that is before or behind its handler is on its way and waited for: it uses the
 * host. @return the taken ones, a chain */
static struct mr_handout *wait_for_handlers(struct mr_target *t, uint64_t deadline_mono_ns)
{
    struct timespec until = {.tv_sec = (time_t)(deadline_mono_ns / MR_SECOND),
                             .tv_nsec = (long)(deadline_mono_ns % MR_SECOND)};
    struct mr_handout *taken = NULL;
    pthread_mutex_lock(&t->mu);
    while (t->busy > 0 && pthread_cond_timedwait(&t->quiet, &t->mu, &until) != ETIMEDOUT) {
    }
    while (t->busy > count_calls_locked(t)) {
        pthread_cond_wait(&t->quiet, &t->mu);
    }
    for (uint32_t n = 0; n < t->concurrency; n++) {
        if (t->calls[n] != NULL) {
            atomic_store_explicit(&t->calls[n]->cancelled, true, memory_order_relaxed);
            struct mr_handout *h = MR_TAKE(t->calls[n]->handout);
            h->op.next = (struct mr_op *)taken;
            taken = h;
        }
    }
    t->left_behind = taken != NULL;
    pthread_mutex_unlock(&t->mu);
    return taken;
}

static void native_stop(struct mr_target *t, uint64_t deadline_mono_ns)
{
    pthread_mutex_lock(&t->mu);
    t->stopping = true;
    struct mr_handout *pending = MR_TAKE(t->pending);
    t->pending_end = &t->pending;
    pthread_cond_broadcast(&t->work);
    pthread_mutex_unlock(&t->mu);
    refuse_chain(t, pending, "the worker is stopping");
    struct mr_handout *taken = wait_for_handlers(t, deadline_mono_ns);
    for (uint32_t n = 0; n < t->thread_count; n++) {
        (void)(t->left_behind ? pthread_detach(t->threads[n]) : pthread_join(t->threads[n], NULL));
    }
    t->thread_count = 0;
    while (taken != NULL) {
        struct mr_handout *h = taken;
        taken = (struct mr_handout *)h->op.next;
        MR_WARN("workers", "%s: a handler did not return; its thread is left behind", t->name);
        h->answer.verdict = MR_VERDICT_CRASH;
        h->answer.ended_wall_ns = mr_clock_now().wall_ns;
        mr_handout_set_error(h, MR_BYTES_LITERAL("stopped: the handler did not return, Millrace "
                                                 "could not wait for it any longer"));
        give_back(t, h);
    }
}

static void native_health(struct mr_target *t, struct mr_health *ret_health)
{
    uint32_t stuck = 0;
    *ret_health = (struct mr_health){.state = MR_HEALTH_OK};
    pthread_mutex_lock(&t->mu);
    for (uint32_t n = 0; n < t->concurrency; n++) {
        stuck += t->calls[n] != NULL &&
                 atomic_load_explicit(&t->calls[n]->cancelled, memory_order_relaxed);
    }
    ret_health->instances_ready = t->stopping ? 0 : t->concurrency;
    ret_health->instances_busy = t->busy;
    ret_health->messages = t->handed;
    pthread_mutex_unlock(&t->mu);
    (void)snprintf(ret_health->detail, sizeof(ret_health->detail),
                   "plugin version %s, %" PRIu32 " threads, %" PRIu32 " busy", t->version,
                   t->concurrency, ret_health->instances_busy);
    if (stuck > 0) {
        ret_health->state = MR_HEALTH_DEGRADED;
        (void)snprintf(ret_health->last_error, sizeof(ret_health->last_error),
                       "%" PRIu32 " handlers go on beyond their time", stuck);
    }
}

static void native_reindex(struct mr_target *t, uint32_t index)
{
    atomic_store(&t->index, index);
    t->host->ops->capacity(t->host, index, t->concurrency);
}

static enum mr_status append_call(const struct mr_target *t, uint32_t n, struct mr_buf *json)
{
    const struct mr__native_call *call = t->calls[n];
    uint64_t ms = (mr_clock_mono_ns() - call->began_ns) / MR_MS;
    enum mr_status r =
        mr_buf_printf(json, "{\"instance\":\"%.28s/%" PRIu32 "\",\"state\":\"busy\",\"version\":",
                      t->name, n + 1);
    r = r == MR_OK ? mr_buf_append_json(json, mr_bytes_of(t->version)) : r;
    r = r == MR_OK ? mr_buf_append_text(json, ",\"deliveries\":[{\"delivery\":") : r;
    r = r == MR_OK ? mr_buf_append_json(json, mr_bytes_of(call->delivery)) : r;
    return r == MR_OK
               ? mr_buf_printf(json, ",\"attempt\":%" PRIu32 ",\"running_seconds\":%" PRIu64
                               ".%03" PRIu64 ",\"cancelled\":%s,\"progress\":%s}]}",
                               call->native.attempt, ms / 1000, ms % 1000,
                               atomic_load_explicit(&call->cancelled, memory_order_relaxed)
                                   ? "true" : "false",
                               call->progress == NULL ? "null" : call->progress)
               : r;
}

static void native_list(struct mr_target *t, const char *delivery, struct mr_buf *json)
{
    size_t begin = json->size;
    bool any = delivery == NULL;
    enum mr_status r = mr_buf_append_byte(json, '[');
    pthread_mutex_lock(&t->mu);
    for (uint32_t n = 0; r == MR_OK && n < t->concurrency; n++) {
        if (t->calls[n] == NULL ||
            (delivery != NULL && strcmp(delivery, t->calls[n]->delivery) != 0)) {
            continue;
        }
        any = true;
        r = json->size == begin + 1 ? MR_OK : mr_buf_append_byte(json, ',');
        r = r == MR_OK ? append_call(t, n, json) : r;
    }
    pthread_mutex_unlock(&t->mu);
    r = r == MR_OK ? mr_buf_append_byte(json, ']') : r;
    if (r != MR_OK || !any) {
        json->size = begin;
    }
}

static const struct mr_target_ops native_ops = {
    .create = native_create,
    .start = native_start,
    .submit = native_submit,
    .cancel = native_cancel,
    .stop = native_stop,
    .destroy = native_destroy,
    .health = native_health,
    .reindex = native_reindex,
    .list = native_list,
};

const struct mr_connector mr_worker_native = {
    .abi = MR_CONNECTOR_ABI,
    .name = "native",
    .worker_kind = {.name = "native",
                    .options = native_options,
                    .options_size = sizeof(struct mr_native_options)},
    .worker = &native_ops,
};
