/* What the administrative interface asks of the engine. */
#include <stdio.h>

#include "core/alloc.h"
#include "millrace/engine_internal.h"

static struct mr_engine *engine_of(struct mr_admin_host *host)
{
    return (struct mr_engine *)host;
}

static enum mr_status admin_call(struct mr_admin_host *host,
                                 void (*fn)(void *argument, struct mr_bus *bus, struct mr_now now),
                                 void *argument)
{
    return engine_call(engine_of(host), fn, argument);
}

static const struct mr_config *admin_config(struct mr_admin_host *host,
                                            const struct mr_router **ret_router)
{
    struct snapshot *snapshot = snapshot_get(engine_of(host));
    *ret_router = snapshot->router;
    return snapshot->config;
}

static void admin_config_release(struct mr_admin_host *host, const struct mr_config *config)
{
    struct snapshot *snapshot = snapshot_of(engine_of(host), config);
    MR_ASSERT(snapshot != NULL); /* what was handed out and is not released is in use */
    snapshot_unref(snapshot);
}

static uint64_t admin_connector_bytes(struct mr_admin_host *host)
{
    struct snapshot *snapshot = snapshot_get(engine_of(host));
    uint64_t bytes = snapshot->connector_bytes;
    snapshot_unref(snapshot);
    return bytes;
}

static void admin_instances(struct mr_admin_host *host,
                            void (*fn)(void *context, const struct mr_admin_instance *instance),
                            void *context)
{
    struct mr_engine *engine = engine_of(host);
    pthread_mutex_lock(&engine->instances_mu);
    uint32_t count = engine->source_count + engine->target_count;
    for (uint32_t i = 0; i < count; i++) {
        struct instance *instance = i < engine->source_count
                                        ? engine->sources[i]
                                        : engine->targets[i - engine->source_count];
        struct mr_admin_instance shown = {
            .name = instance->name,
            .kind = instance->kind,
            .is_source = instance->source != NULL,
            .is_worker = instance->is_worker,
            .paused = instance->paused,
            .id = instance->id,
            .events = atomic_load_explicit(&instance->events, memory_order_relaxed),
            .rejected = atomic_load_explicit(&instance->rejected, memory_order_relaxed),
        };
        if (instance->source != NULL) {
            instance->source_ops->health(instance->source, &shown.health);
        } else {
            instance->target_ops->health(instance->target, &shown.health);
        }
        fn(context, &shown);
    }
    pthread_mutex_unlock(&engine->instances_mu);
}

static void admin_running(struct mr_admin_host *host, uint32_t id, const char *delivery,
                          struct mr_buf *json)
{
    struct mr_engine *engine = engine_of(host);
    pthread_mutex_lock(&engine->instances_mu);
    for (uint32_t i = 0; i < engine->target_count && json->size == 0; i++) {
        struct instance *instance = engine->targets[i];
        if ((instance->id == id || id == UINT32_MAX) && instance->target_ops->list != NULL) {
            instance->target_ops->list(instance->target, delivery, json);
        }
    }
    pthread_mutex_unlock(&engine->instances_mu);
}

static void admin_usage(struct mr_admin_host *host,
                        void (*fn)(void *context, const struct mr_usage *usage), void *context)
{
    mr_meter_each(&engine_of(host)->meter, fn, context);
}

static enum mr_status admin_shadow(struct mr_admin_host *host, const char *name,
                                   struct mr_shadow_report *ret_report)
{
    return engine_shadow_report(engine_of(host), name, ret_report);
}

static void admin_jq(struct mr_admin_host *host,
                     void (*fn)(void *context, bool is_source, const char *name,
                                const struct mr_jq_counts *counts),
                     void *context)
{
    mr_jq_pool_each(engine_of(host)->jq, fn, context);
}

static enum mr_status admin_pause_source(struct mr_admin_host *host, const char *name, bool paused)
{
    struct mr_engine *engine = engine_of(host);
    enum mr_status r = MR_E_NOT_FOUND;
    pthread_mutex_lock(&engine->instances_mu);
    for (uint32_t i = 0; i < engine->source_count; i++) {
        struct instance *instance = engine->sources[i];
        if (strcmp(instance->name, name) != 0) {
            continue;
        }
        instance->paused = paused;
        if (paused) {
            instance->source_ops->pause(instance->source);
        } else if (!atomic_load(&engine->slow)) {
            instance->source_ops->resume(instance->source);
        }
        r = MR_OK;
    }
    pthread_mutex_unlock(&engine->instances_mu);
    return r;
}

static enum mr_status admin_reload(struct mr_admin_host *host, bool dry_run, struct mr_buf *out,
                                   struct mr_buf *problem)
{
    return engine_reload(engine_of(host), dry_run, out, problem);
}

/* Events sent on behalf of a source count as its own. */
static void count_events(struct mr_engine *engine, const struct mr_batch *batch)
{
    pthread_mutex_lock(&engine->instances_mu);
    for (uint32_t i = 0; i < engine->source_count; i++) {
        if (engine->sources[i]->id == batch->source) {
            atomic_fetch_add_explicit(&engine->sources[i]->events, batch->count,
                                      memory_order_relaxed);
        }
    }
    pthread_mutex_unlock(&engine->instances_mu);
}

/* The one match of an event that is addressed. */
static enum mr_status address(const struct snapshot *snapshot, const char *to,
                              struct mr_batch_item *item, struct mr_problem *problem)
{
    int64_t index = mr_config_find_subscription(snapshot->config, to);
    if (index < 0) {
        return mr_problem_set(problem, MR_E_CONFLICT, "%s is not configured now", to);
    }
    item->matches.items = mr_calloc(1, sizeof(*item->matches.items));
    if (item->matches.items == NULL) {
        return MR_E_NOMEM;
    }
    item->matches.items[0] = (struct mr_match){
        .subscription = (uint32_t)index,
        .level = mr_router_level(snapshot->router, (uint32_t)index, mr_event_record(item->event)),
        .lane = mr_router_lane(snapshot->router, (uint32_t)index, mr_event_record(item->event))};
    item->matches.count = 1;
    item->matches.capacity = 1;
    return MR_OK;
}

/* Matched here as a source would; the built-in source has no index, so only subscriptions that do
 * not name their sources match it. No reload may come between the match and the bus when a batch
 * is addressed: it would be matched again, by everybody's filters. */
static enum mr_status admin_submit(struct mr_admin_host *host, const char *source, const char *to,
                                   struct mr_batch *batch, struct mr_problem *problem)
{
    struct mr_engine *engine = engine_of(host);
    if (to != NULL) {
        pthread_mutex_lock(&engine->reload_mu);
    }
    struct snapshot *snapshot = snapshot_get(engine);
    const struct mr_config *config = snapshot->config;
    int64_t index = source == NULL ? (config->source_count > 0 ? 0 : -1)
                                   : mr_config_find_source(config, source);
    enum mr_status r = MR_OK;
    if (source != NULL && index < 0 && strcmp(source, MR_SOURCE_SEND_NAME) != 0) {
        r = mr_problem_set(problem, MR_E_NOT_FOUND, "there is no source %s", source);
    }
    batch->source = index < 0 ? snapshot->send_id : snapshot->source_ids[index];
    for (uint32_t i = 0; i < batch->count && r == MR_OK; i++) {
        struct mr_batch_item *item = &batch->items[i];
        r = to != NULL ? address(snapshot, to, item, problem)
                       : mr_router_match(snapshot->router,
                                         index < 0 ? UINT32_MAX : (uint32_t)index,
                                         mr_event_record(item->event), &item->matches);
    }
    engine_set_keys(engine, index < 0 ? NULL : &config->sources[index], batch);
    batch->generation = snapshot->generation;
    batch->addressed = to != NULL;
    snapshot_unref(snapshot);
    if (r == MR_OK) {
        count_events(engine, batch);
        atomic_fetch_add_explicit(&engine->pending_bytes, batch->size, memory_order_relaxed);
        batch->op.type = ENGINE_BATCH;
        batch->op.next = NULL;
        engine_post(engine, &batch->op);
    } else {
        engine_await_refuse(engine, engine_await_take(engine, batch));
    }
    if (to != NULL) {
        pthread_mutex_unlock(&engine->reload_mu);
    }
    return r;
}

static void admin_await(struct mr_admin_host *host, struct mr_await *await)
{
    engine_await_add(engine_of(host), await);
}

static void admin_withdraw(struct mr_admin_host *host, const struct mr_opq *reply)
{
    engine_await_withdraw(engine_of(host), reply);
}

static uint64_t admin_tail_add(struct mr_admin_host *host,
                               void (*fn)(void *context, uint64_t offset, uint32_t source,
                                          struct mr_bytes record),
                               void *context)
{
    struct mr_engine *engine = engine_of(host);
    uint64_t handle = 0;
    pthread_mutex_lock(&engine->tails_mu);
    if (engine->tail_count < ENGINE_TAILS_MAX) {
        handle = ++engine->next_tail;
        engine->tails[engine->tail_count++] =
            (struct engine_tail){.handle = handle, .fn = fn, .context = context};
        atomic_store_explicit(&engine->tail_any, engine->tail_count, memory_order_relaxed);
    }
    pthread_mutex_unlock(&engine->tails_mu);
    return handle;
}

static void admin_tail_remove(struct mr_admin_host *host, uint64_t handle)
{
    struct mr_engine *engine = engine_of(host);
    pthread_mutex_lock(&engine->tails_mu);
    for (uint32_t i = 0; i < engine->tail_count; i++) {
        if (engine->tails[i].handle == handle) {
            engine->tails[i] = engine->tails[--engine->tail_count];
            break;
        }
    }
    atomic_store_explicit(&engine->tail_any, engine->tail_count, memory_order_relaxed);
    pthread_mutex_unlock(&engine->tails_mu);
}

static bool admin_is_ready(struct mr_admin_host *host, char *why_not, size_t size)
{
    struct mr_engine *engine = engine_of(host);
    const char *why = NULL;
    if (!atomic_load(&engine->running)) {
        why = "starting";
    } else if (atomic_load(&engine->stop_requests) > 0) {
        why = "stopping";
    } else if (atomic_load(&engine->faulty)) {
        why = "the log is faulty";
    } else if (atomic_load(&engine->slow)) {
        why = "the log or its disk is short of space";
    }
    (void)snprintf(why_not, size, "%s", why == NULL ? "" : why); /* cut at worst */
    return why == NULL;
}

static void admin_request_stop(struct mr_admin_host *host)
{
    mr_engine_request_stop(engine_of(host));
}

static enum mr_status admin_subscriptions(struct mr_admin_host *host, struct mr_buf *out)
{
    struct snapshot *snapshot = snapshot_get(engine_of(host));
    enum mr_status r =
        snapshot->api_set == NULL ? MR_OK : mr_buf_append_text(out, snapshot->api_set);
    snapshot_unref(snapshot);
    return r;
}

static enum mr_status admin_put_subscriptions(struct mr_admin_host *host, const char *document,
                                              struct mr_buf *problem)
{
    return engine_put_subscriptions(engine_of(host), document, problem);
}

const struct mr_admin_host_ops engine_admin_ops = {
    .call = admin_call,
    .config = admin_config,
    .config_release = admin_config_release,
    .connector_bytes = admin_connector_bytes,
    .instances = admin_instances,
    .running = admin_running,
    .usage = admin_usage,
    .shadow = admin_shadow,
    .jq = admin_jq,
    .pause_source = admin_pause_source,
    .reload = admin_reload,
    .subscriptions = admin_subscriptions,
    .put_subscriptions = admin_put_subscriptions,
    .submit = admin_submit,
    .await = admin_await,
    .withdraw = admin_withdraw,
    .tail_add = admin_tail_add,
    .tail_remove = admin_tail_remove,
    .is_ready = admin_is_ready,
    .request_stop = admin_request_stop,
};
