/* The configuration in force, with its router and the bus's ids: immutable, counted. */
#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"
#include "millrace/engine_internal.h"

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct changing *)a)->name, ((const struct changing *)b)->name);
}

static enum mr_status add_changing(struct snapshot *snapshot, bool is_source, const char *name,
                                   const char *json)
{
    if (json == NULL) {
        return MR_OK;
    }
    struct changing *changing = &snapshot->changing[snapshot->changing_count++];
    changing->name = name;
    enum mr_status r = mr_transform_create(mr_bytes_of(json), &changing->transform, NULL);
    uint64_t timeout_ns;
    const char *program = r == MR_OK ? mr_transform_program(changing->transform, &timeout_ns)
                                     : NULL;
    if (program == NULL) {
        return r;
    }
    changing->program = mr_jq_program_create(program, timeout_ns);
    return changing->program == NULL
               ? MR_E_NOMEM
               : mr_jq_lane_get(snapshot->engine->jq, is_source, name, &changing->lane);
}

static enum mr_status make_transforms(struct snapshot *snapshot, const struct mr_config *config)
{
    size_t count = 0;
    for (uint32_t i = 0; i < config->source_count; i++) {
        count += config->sources[i].transform_json != NULL;
    }
    for (uint32_t i = 0; i < config->subscription_count; i++) {
        count += config->subscriptions[i].transform_json != NULL;
    }
    snapshot->changing = mr_calloc(count + 1, sizeof(*snapshot->changing));
    enum mr_status r = snapshot->changing == NULL ? MR_E_NOMEM : MR_OK;
    for (uint32_t i = 0; i < config->source_count && r == MR_OK; i++) {
        r = add_changing(snapshot, true, config->sources[i].name,
                         config->sources[i].transform_json);
    }
    snapshot->changing_source_count = snapshot->changing_count;
    for (uint32_t i = 0; i < config->subscription_count && r == MR_OK; i++) {
        r = add_changing(snapshot, false, config->subscriptions[i].name,
                         config->subscriptions[i].transform_json);
    }
    if (r == MR_OK) {
        uint32_t sources = snapshot->changing_source_count;
        qsort(snapshot->changing, sources, sizeof(*snapshot->changing), compare_names);
        qsort(snapshot->changing + sources, snapshot->changing_count - sources,
              sizeof(*snapshot->changing), compare_names);
    }
    return r;
}

const struct changing *snapshot_transform(const struct snapshot *snapshot, bool is_source,
                                          const char *name)
{
    uint32_t sources = snapshot->changing_source_count;
    const struct changing wanted = {.name = name};
    const struct changing *first = snapshot->changing + (is_source ? 0 : sources);
    size_t count = is_source ? sources : snapshot->changing_count - sources;
    return count == 0 ? NULL : bsearch(&wanted, first, count, sizeof(*first), compare_names);
}

/* All but the configuration, which is the caller's until the snapshot is whole. */
static void free_parts(struct snapshot *snapshot)
{
    for (uint32_t i = 0; i < snapshot->changing_count; i++) {
        mr_transform_destroy(snapshot->changing[i].transform);
        mr_jq_program_unref(snapshot->changing[i].program);
        mr_jq_lane_unref(snapshot->changing[i].lane);
    }
    mr_free(snapshot->changing);
    mr_free(snapshot->shadows);
    mr_router_destroy(snapshot->router);
    mr_free(snapshot->source_ids);
    mr_free(snapshot->api_set);
    mr_free(snapshot->target_ids);
    mr_free(snapshot);
}

struct snapshot *snapshot_create(struct mr_engine *engine, struct mr_config *config,
                                 const char *api_set, uint64_t generation,
                                 struct mr_problem *problem)
{
    struct snapshot *snapshot = mr_calloc(1, sizeof(*snapshot));
    if (snapshot == NULL) {
        (void)mr_problem_set(problem, MR_E_NOMEM, "no memory for the configuration");
        return NULL;
    }
    uint32_t refused = 0;
    struct mr_problem why = {{0}};
    enum mr_status r = mr_router_create(config, &snapshot->router, &refused, &why);
    if (r != MR_OK) {
        const char *name = refused < config->subscription_count
                               ? config->subscriptions[refused].name
                               : "?";
        (void)mr_problem_set(problem, r, "subscription %s: %s", name, why.text);
        free_parts(snapshot);
        return NULL;
    }
    snapshot->engine = engine;
    snapshot->source_ids = mr_calloc(config->source_count + 1u, sizeof(uint32_t));
    snapshot->target_ids = mr_calloc(config->target_count + 1u, sizeof(uint32_t));
    snapshot->api_set = api_set == NULL ? NULL : mr_strdup(api_set);
    if (snapshot->source_ids == NULL || snapshot->target_ids == NULL ||
        (api_set != NULL && snapshot->api_set == NULL) ||
        make_transforms(snapshot, config) != MR_OK ||
        snapshot_make_shadows(snapshot, config) != MR_OK) {
        (void)mr_problem_set(problem, MR_E_NOMEM, "no memory for the configuration");
        free_parts(snapshot);
        return NULL;
    }
    atomic_init(&snapshot->refs, 1);
    snapshot->config = config;
    snapshot->generation = generation;
    snapshot->connector_bytes = engine_connector_bytes(config);
    pthread_mutex_lock(&engine->snapshot_mu);
    snapshot->next = engine->snapshots;
    engine->snapshots = snapshot;
    pthread_mutex_unlock(&engine->snapshot_mu);
    return snapshot;
}

void snapshot_bind(struct snapshot *snapshot, const struct mr_bus *bus)
{
    const struct mr_config *config = snapshot->config;
    for (uint32_t i = 0; i < config->source_count; i++) {
        snapshot->source_ids[i] = mr_bus_source_id(bus, config->sources[i].name);
    }
    for (uint32_t i = 0; i < config->target_count; i++) {
        snapshot->target_ids[i] = mr_bus_target_id(bus, config->targets[i].name);
    }
    snapshot->send_id = mr_bus_source_id(bus, MR_SOURCE_SEND_NAME);
    snapshot_bind_shadows(snapshot, bus);
}

/* Out of the list of those in use. */
static void forget(struct snapshot *snapshot)
{
    struct mr_engine *engine = snapshot->engine;
    pthread_mutex_lock(&engine->snapshot_mu);
    struct snapshot **at = &engine->snapshots;
    while (*at != snapshot) {
        at = &(*at)->next;
    }
    *at = snapshot->next;
    pthread_mutex_unlock(&engine->snapshot_mu);
}

struct snapshot *snapshot_of(struct mr_engine *engine, const struct mr_config *config)
{
    pthread_mutex_lock(&engine->snapshot_mu);
    struct snapshot *snapshot = engine->snapshots;
    while (snapshot != NULL && snapshot->config != config) {
        snapshot = snapshot->next;
    }
    pthread_mutex_unlock(&engine->snapshot_mu);
    return snapshot;
}

void snapshot_unref(struct snapshot *snapshot)
{
    if (snapshot != NULL &&
        atomic_fetch_sub_explicit(&snapshot->refs, 1, memory_order_acq_rel) == 1) {
        forget(snapshot);
        mr_config_destroy(snapshot->config);
        free_parts(snapshot);
    }
}

struct snapshot *snapshot_get(struct mr_engine *engine)
{
    pthread_mutex_lock(&engine->snapshot_mu);
    struct snapshot *snapshot = engine->snapshot;
    atomic_fetch_add_explicit(&snapshot->refs, 1, memory_order_relaxed);
    pthread_mutex_unlock(&engine->snapshot_mu);
    return snapshot;
}

/* Counters go on over a reload. */
static void keep_failures(const struct snapshot *snapshot, const struct snapshot *old)
{
    for (uint32_t i = 0; i < old->config->subscription_count; i++) {
        uint64_t failures = mr_router_failures(old->router, i);
        int64_t now = failures == 0 ? -1
                                    : mr_config_find_subscription(
                                          snapshot->config, old->config->subscriptions[i].name);
        if (now >= 0) {
            mr_router_add_failures(snapshot->router, (uint32_t)now, failures);
        }
    }
}

void snapshot_publish(struct mr_engine *engine, struct snapshot *snapshot)
{
    pthread_mutex_lock(&engine->snapshot_mu);
    struct snapshot *old = engine->snapshot;
    if (old != NULL && old != snapshot) {
        keep_failures(snapshot, old);
    }
    engine->snapshot = snapshot;
    pthread_mutex_unlock(&engine->snapshot_mu);
    snapshot_unref(old);
}
