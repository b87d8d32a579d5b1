/* Instances of sources and targets: made from the configuration, started, paused, stopped. */
#include "core/alloc.h"
#include "core/logger.h"
#include "millrace/engine_internal.h"
#include "workers/registry.h"

/* --- kinds ------------------------------------------------------------------------------------ */

#define KINDS_MAX 16

static struct mr_config_kind source_kinds[KINDS_MAX];
static struct mr_config_kind worker_kinds[KINDS_MAX];
static struct mr_config_kind sink_kinds[KINDS_MAX];
static const struct mr_connector *source_connectors[KINDS_MAX];
static const struct mr_connector *worker_connectors[KINDS_MAX];
static const struct mr_connector *sink_connectors[KINDS_MAX];
static enum mr_status check_filter(struct mr_bytes json, struct mr_problem *problem)
{
    struct mr_filter *filter;
    enum mr_status r = mr_filter_create(json, &filter, problem);
    if (r == MR_OK) {
        mr_filter_destroy(filter);
    }
    return r;
}

static enum mr_status check_transform(struct mr_bytes json, struct mr_problem *problem)
{
    struct mr_transform *transform;
    enum mr_status r = mr_transform_create(json, &transform, problem);
    if (r == MR_OK) {
        struct mr_problem why = {.text = ""};
        uint64_t timeout_ns;
        const char *program = mr_transform_program(transform, &timeout_ns);
        r = program == NULL ? MR_OK : mr_jq_check(program, &why);
        mr_transform_destroy(transform);
        r = r == MR_OK ? r : mr_problem_set(problem, r, "jq: %s", why.text);
    }
    return r;
}

static struct mr_config_kinds all_kinds = {source_kinds, worker_kinds, sink_kinds, check_filter,
                                           check_transform};

static void add_kind(struct mr_config_kind *kinds, const struct mr_connector **connectors,
                     const struct mr_config_kind *kind, const struct mr_connector *connector)
{
    size_t n = 0;
    while (kinds[n].name != NULL) {
        n++;
    }
    MR_ASSERT(n + 1 < KINDS_MAX);
    kinds[n] = *kind;
    connectors[n] = connector;
}

static void add_connectors(const struct mr_connector *const *list)
{
    for (size_t i = 0; list[i] != NULL; i++) {
        const struct mr_connector *c = list[i];
        MR_ASSERT(c->abi == MR_CONNECTOR_ABI);
        if (c->source_kind.name != NULL) {
            add_kind(source_kinds, source_connectors, &c->source_kind, c);
        }
        if (c->worker_kind.name != NULL) {
            add_kind(worker_kinds, worker_connectors, &c->worker_kind, c);
        }
        if (c->sink_kind.name != NULL) {
            add_kind(sink_kinds, sink_connectors, &c->sink_kind, c);
        }
    }
}

static void collect_kinds(void)
{
    add_connectors(mr_connectors);
    add_connectors(mr_workers);
}

const struct mr_config_kinds *mr_engine_kinds(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, collect_kinds); /* cannot fail with a valid control */
    return &all_kinds;
}

const struct mr_connector *engine_connector_of(const struct mr_config_kind *kind)
{
    if (kind >= source_kinds && kind < source_kinds + KINDS_MAX) {
        return source_connectors[kind - source_kinds];
    }
    if (kind >= worker_kinds && kind < worker_kinds + KINDS_MAX) {
        return worker_connectors[kind - worker_kinds];
    }
    MR_ASSERT(kind >= sink_kinds && kind < sink_kinds + KINDS_MAX);
    return sink_connectors[kind - sink_kinds];
}

/* --- one instance ----------------------------------------------------------------------------- */

static struct instance *instance_new(struct mr_engine *engine, const char *name, const char *kind)
{
    struct instance *instance = mr_calloc(1, sizeof(*instance));
    if (instance == NULL) {
        return NULL;
    }
    instance->host.ops = &engine_host_ops;
    instance->engine = engine;
    instance->kind = kind;
    instance->name = mr_strdup(name);
    instance->capacity = mr_calloc(1, sizeof(*instance->capacity));
    if (instance->name == NULL || instance->capacity == NULL) {
        mr_free(instance->name);
        mr_free(instance->capacity);
        mr_free(instance);
        return NULL;
    }
    instance->capacity->op.type = ENGINE_CAPACITY;
    atomic_store(&instance->capacity->refs, 1);
    return instance;
}

void instance_destroy(struct instance *instance)
{
    if (instance == NULL) {
        return;
    }
    if (instance->source != NULL) {
        instance->source_ops->destroy(instance->source);
    }
    if (instance->target != NULL) {
        instance->target_ops->destroy(instance->target);
    }
    engine_capacity_unref(instance->capacity);
    mr_free(instance->name);
    mr_free(instance);
}

enum mr_status instance_create_target(struct mr_engine *engine, struct snapshot *snapshot,
                                      uint32_t index, struct instance **ret_instance,
                                      struct mr_problem *problem)
{
    const struct mr_target_config *conf = &snapshot->config->targets[index];
    const struct mr_connector *connector = engine_connector_of(conf->kind);
    struct instance *instance = instance_new(engine, conf->name, conf->kind->name);
    if (instance == NULL) {
        return mr_problem_set(problem, MR_E_NOMEM, "no memory for %s", conf->name);
    }
    instance->target_ops = conf->is_worker ? connector->worker : connector->sink;
    instance->id = snapshot->target_ids[index];
    instance->is_worker = conf->is_worker;
    instance->max_run_ns = conf->max_run_ns;
    mr_adaptive_init(&instance->adaptive, conf->adaptive_min, conf->adaptive_latency_ns);
    struct mr_target_args args = {
        .host = &instance->host,
        .index = instance->id,
        .name = conf->name,
        .options = conf->options,
        .config = conf,
        .folder = snapshot->config->folder,
        .generation = snapshot->generation,
    };
    struct mr_problem why = {{0}};
    enum mr_status r = instance->target_ops->create(&args, &instance->target, &why);
    if (r != MR_OK) {
        instance->target = NULL;
        instance_destroy(instance);
        return mr_problem_set(problem, r, "%s %s: %s", conf->is_worker ? "worker" : "sink",
                              conf->name, why.text);
    }
    *ret_instance = instance;
    return MR_OK;
}

struct cursor_question {
    uint32_t id;
    char *cursor; /* owned by the asker */
};

static void ask_cursor(void *argument, struct mr_bus *bus, struct mr_now now)
{
    (void)now;
    struct cursor_question *q = argument;
    q->cursor = mr_strdup(mr_bus_source_cursor(bus, q->id));
}

enum mr_status instance_create_source(struct mr_engine *engine, struct snapshot *snapshot,
                                      uint32_t index, struct instance **ret_instance,
                                      struct mr_problem *problem)
{
    const struct mr_source_config *conf = &snapshot->config->sources[index];
    const struct mr_connector *connector = engine_connector_of(conf->kind);
    struct instance *instance = instance_new(engine, conf->name, conf->kind->name);
    if (instance == NULL) {
        return mr_problem_set(problem, MR_E_NOMEM, "no memory for %s", conf->name);
    }
    instance->source_ops = connector->source;
    instance->id = snapshot->source_ids[index];
    instance->paused = conf->paused;
    struct cursor_question q = {.id = instance->id};
    if (engine_call(engine, ask_cursor, &q) == MR_E_CLOSED) {
        ask_cursor(&q, engine->bus, mr_clock_now()); /* before the core runs: nobody else asks */
    }
    struct mr_source_args args = {
        .host = &instance->host,
        .index = instance->id,
        .name = conf->name,
        .options = conf->options,
        .config = conf,
        .folder = snapshot->config->folder,
        .data_dir = snapshot->config->data_dir,
        .cursor = q.cursor,
        .listener = engine->listener,
        .salt = engine->salt,
    };
    struct mr_problem why = {{0}};
    enum mr_status r = instance->source_ops->create(&args, &instance->source, &why);
    mr_free(q.cursor);
    if (r != MR_OK) {
        instance->source = NULL;
        instance_destroy(instance);
        return mr_problem_set(problem, r, "source %s: %s", conf->name, why.text);
    }
    *ret_instance = instance;
    return MR_OK;
}

enum mr_status instances_push(struct instance ***array, uint32_t *count, struct instance *instance)
{
    struct instance **grown = mr_realloc(*array, (*count + 1) * sizeof(struct instance *));
    if (grown == NULL) {
        return MR_E_NOMEM;
    }
    *array = grown;
    grown[(*count)++] = instance;
    return MR_OK;
}

/* --- start ------------------------------------------------------------------------------------ */

static enum mr_status enter_target(struct mr_engine *engine, struct instance *instance)
{
    if (instance->id >= engine->targets_by_id_count) {
        uint32_t count = instance->id + 16;
        struct instance **grown =
            mr_realloc(engine->targets_by_id, count * sizeof(struct instance *));
        if (grown == NULL) {
            return MR_E_NOMEM;
        }
        for (uint32_t i = engine->targets_by_id_count; i < count; i++) {
            grown[i] = NULL;
        }
        engine->targets_by_id = grown;
        engine->targets_by_id_count = count;
    }
    engine->targets_by_id[instance->id] = instance;
    return MR_OK;
}

enum mr_status instances_start_targets(struct mr_engine *engine, struct mr_problem *problem)
{
    struct snapshot *snapshot = engine->snapshot; /* the core does not run yet */
    for (uint32_t i = 0; i < snapshot->config->target_count; i++) {
        struct instance *instance = NULL;
        enum mr_status r = instance_create_target(engine, snapshot, i, &instance, problem);
        if (r != MR_OK) {
            return r;
        }
        r = enter_target(engine, instance);
        r = r == MR_OK ? instances_push(&engine->targets, &engine->target_count, instance) : r;
        if (r != MR_OK) {
            instance_destroy(instance);
            return mr_problem_set(problem, r, "no memory for the targets");
        }
        struct mr_problem why = {{0}};
        r = instance->target_ops->start(instance->target, &why);
        if (r != MR_OK) {
            return mr_problem_set(problem, r, "%s: %s", instance->name, why.text);
        }
    }
    return MR_OK;
}

enum mr_status instances_start_sources(struct mr_engine *engine, struct mr_problem *problem)
{
    struct snapshot *snapshot = engine->snapshot;
    for (uint32_t i = 0; i < snapshot->config->source_count; i++) {
        struct instance *instance = NULL;
        enum mr_status r = instance_create_source(engine, snapshot, i, &instance, problem);
        if (r != MR_OK) {
            return r;
        }
        r = instances_push(&engine->sources, &engine->source_count, instance);
        if (r != MR_OK) {
            instance_destroy(instance);
            return mr_problem_set(problem, r, "no memory for the sources");
        }
        struct mr_problem why = {{0}};
        if (instance->paused) {
            instance->source_ops->pause(instance->source);
        }
        r = instance->source_ops->start(instance->source, &why);
        if (r != MR_OK) {
            return mr_problem_set(problem, r, "%s: %s", instance->name, why.text);
        }
    }
    return MR_OK;
}

/* --- pause and stop --------------------------------------------------------------------------- */

void instances_pause_sources(struct mr_engine *engine, bool slow)
{
    pthread_mutex_lock(&engine->instances_mu);
    for (uint32_t i = 0; i < engine->source_count; i++) {
        struct instance *instance = engine->sources[i];
        if (slow) {
            instance->source_ops->pause(instance->source);
        } else if (!instance->paused) {
            instance->source_ops->resume(instance->source);
        }
    }
    pthread_mutex_unlock(&engine->instances_mu);
}

/* Whether there is a source and all are at their end for good. */
bool instances_sources_done(struct mr_engine *engine)
{
    pthread_mutex_lock(&engine->instances_mu);
    bool done = engine->source_count > 0;
    for (uint32_t i = 0; done && i < engine->source_count; i++) {
        struct mr_health health = {.done = false};
        engine->sources[i]->source_ops->health(engine->sources[i]->source, &health);
        done = health.done;
    }
    pthread_mutex_unlock(&engine->instances_mu);
    return done;
}

/* Takes a whole table away, so that nobody else uses what is being stopped. */
static struct instance **take_table(struct mr_engine *engine, struct instance ***table,
                                    uint32_t *count, uint32_t *ret_count)
{
    pthread_mutex_lock(&engine->instances_mu);
    struct instance **taken = *table;
    *ret_count = *count;
    *table = NULL;
    *count = 0;
    pthread_mutex_unlock(&engine->instances_mu);
    return taken;
}

void instances_stop_sources(struct mr_engine *engine, uint64_t deadline_mono_ns)
{
    uint32_t count;
    struct instance **sources =
        take_table(engine, &engine->sources, &engine->source_count, &count);
    for (uint32_t i = 0; i < count; i++) {
        sources[i]->source_ops->stop(sources[i]->source, deadline_mono_ns);
        instance_destroy(sources[i]);
    }
    mr_free(sources);
}

struct forget_targets {
    struct mr_engine *engine;
};

/* On the core thread: nothing more is handed to instances that stop. */
static void forget_targets(void *argument, struct mr_bus *bus, struct mr_now now)
{
    struct mr_engine *engine = ((struct forget_targets *)argument)->engine;
    for (uint32_t i = 0; i < engine->targets_by_id_count; i++) {
        if (engine->targets_by_id[i] != NULL) {
            mr_bus_capacity(bus, now, i, 0);
            engine->targets_by_id[i] = NULL;
        }
    }
}

void instances_stop_targets(struct mr_engine *engine, uint64_t deadline_mono_ns)
{
    struct forget_targets forget = {engine};
    uint32_t count;
    struct instance **targets =
        take_table(engine, &engine->targets, &engine->target_count, &count);
    for (uint32_t i = 0; i < count; i++) {
        atomic_store_explicit(&targets[i]->retired, true, memory_order_release);
    }
    if (count > 0) {
        (void)engine_call(engine, forget_targets, &forget); /* closed: the core runs no more */
    }
    for (uint32_t i = 0; i < count; i++) {
        targets[i]->target_ops->stop(targets[i]->target, deadline_mono_ns);
        instance_destroy(targets[i]);
    }
    mr_free(targets);
}
