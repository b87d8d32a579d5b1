/* Reload: all or nothing. The new file is loaded and checked in full, its new instances are made,
 * then the core takes it between two steps; instances whose settings did not change stay as they
 * are, changed ones are replaced (the old one drains while the new one serves). */
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>

#include "config/print.h"
#include "core/alloc.h"
#include "core/logger.h"
#include "millrace/engine_internal.h"

#define RETIRE_STOP_NS (30 * MR_SECOND)
#define RETIRE_LOOK_MS 50

/* --- the difference --------------------------------------------------------------------------- */

static const cJSON *section(const cJSON *root, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(root, name);
}

struct waiting_question {
    const char *name;
    uint64_t waiting;
};

static void ask_waiting(void *argument, struct mr_bus *bus, struct mr_now now)
{
    struct waiting_question *q = argument;
    uint32_t id = mr_bus_subscription_id(bus, q->name);
    if (id != UINT32_MAX) {
        struct mr_subscription_info info;
        mr_bus_subscription_info(bus, now, id, &info);
        q->waiting = info.counts.waiting + info.counts.in_flight + info.counts.held;
    }
}

/* Appends {"name":…} or, for subscriptions, {"name":…,"waiting":N}. */
static enum mr_status put_name(struct mr_engine *engine, struct mr_buf *out, const char *name,
                               bool subscription, bool *first)
{
    enum mr_status r = *first ? MR_OK : mr_buf_append_byte(out, ',');
    *first = false;
    if (!subscription) {
        return r == MR_OK ? mr_buf_append_json(out, mr_bytes_of(name)) : r;
    }
    struct waiting_question q = {.name = name};
    (void)engine_call(engine, ask_waiting, &q); /* closed: shown as 0 */
    r = r == MR_OK ? mr_buf_append_text(out, "{\"name\":") : r;
    r = r == MR_OK ? mr_buf_append_json(out, mr_bytes_of(name)) : r;
    return r == MR_OK ? mr_buf_printf(out, ",\"waiting\":%" PRIu64 "}", q.waiting) : r;
}

/* The member called @p name. Looked for from *@p at on, then before it: asked in the order of the
 * members, thousands of them cost one walk together. */
static const cJSON *next_member(const cJSON *object, const cJSON **at, const char *name)
{
    const cJSON *first = object == NULL ? NULL : object->child;
    const cJSON *start = *at != NULL ? *at : first;
    const cJSON *item = start;
    while (item != NULL && strcmp(item->string, name) != 0) {
        item = item->next;
    }
    if (item == NULL) {
        item = first;
        while (item != NULL && item != start && strcmp(item->string, name) != 0) {
            item = item->next;
        }
        item = item == start ? NULL : item;
    }
    *at = item != NULL ? item->next : *at;
    return item;
}

static enum mr_status put_list(struct mr_engine *engine, struct mr_buf *out, const char *label,
                               const cJSON *here, const cJSON *there, bool want_changed,
                               bool subscription, bool *changed)
{
    bool first = true;
    const cJSON *at = NULL;
    enum mr_status r = mr_buf_printf(out, "\"%s\":[", label);
    for (const cJSON *item = here == NULL ? NULL : here->child; item != NULL && r == MR_OK;
         item = item->next) {
        const cJSON *other = next_member(there, &at, item->string);
        bool wanted = want_changed ? other != NULL && !cJSON_Compare(item, other, true)
                                   : other == NULL;
        if (wanted) {
            r = put_name(engine, out, item->string, subscription, &first);
            *changed = true;
        }
    }
    return r == MR_OK ? mr_buf_append_byte(out, ']') : r;
}

static enum mr_status put_section(struct mr_engine *engine, struct mr_buf *out, const char *name,
                                  const cJSON *old_root, const cJSON *new_root, bool *changed)
{
    const cJSON *a = section(old_root, name);
    const cJSON *b = section(new_root, name);
    bool subscription = name[1] == 'u';
    enum mr_status r = mr_buf_printf(out, ",\"%s\":{", name);
    r = r == MR_OK ? put_list(engine, out, "added", b, a, false, subscription, changed) : r;
    r = r == MR_OK ? mr_buf_append_byte(out, ',') : r;
    r = r == MR_OK ? put_list(engine, out, "removed", a, b, false, subscription, changed) : r;
    r = r == MR_OK ? mr_buf_append_byte(out, ',') : r;
    r = r == MR_OK ? put_list(engine, out, "changed", b, a, true, subscription, changed) : r;
    return r == MR_OK ? mr_buf_append_byte(out, '}') : r;
}

static enum mr_status put_difference(struct mr_engine *engine, const struct mr_config *old_config,
                                     const struct mr_config *new_config, bool dry_run,
                                     struct mr_buf *out)
{
    cJSON *a = cJSON_Parse(old_config->canonical_json);
    cJSON *b = cJSON_Parse(new_config->canonical_json);
    static const char *const names[] = {"sources", "workers", "sinks", "subscriptions"};
    struct mr_buf body;
    mr_buf_init(&body, MR_CONFIG_SIZE_MAX);
    bool changed = old_config->hash != new_config->hash;
    enum mr_status r = a == NULL || b == NULL ? MR_E_NOMEM : MR_OK;
    for (size_t i = 0; i < MR_ARRAY_COUNT(names) && r == MR_OK; i++) {
        r = put_section(engine, &body, names[i], a, b, &changed);
    }
    if (r == MR_OK) {
        r = mr_buf_printf(out, "{\"changed\":%s,\"applied\":%s", changed ? "true" : "false",
                          dry_run ? "false" : "true");
    }
    r = r == MR_OK ? mr_buf_append_bytes(out, mr_buf_bytes(&body)) : r;
    r = r == MR_OK ? mr_buf_append_byte(out, '}') : r;
    mr_buf_release(&body);
    cJSON_Delete(a);
    cJSON_Delete(b);
    return r;
}

/* --- the new instances ------------------------------------------------------------------------ */

struct change {
    struct mr_engine *engine;
    struct snapshot *snapshot;
    struct instance **targets; /* all of the new configuration, kept or new */
    uint32_t target_count;
    struct instance **sources;
    uint32_t source_count;
    struct instance **retired; /* replaced or removed targets */
    uint32_t retired_count;
    enum mr_status status;
};

/* Two configurations that instances are compared by, and where the last comparison ended. */
struct comparison {
    const cJSON *a;
    const cJSON *b;
    const cJSON *at_a;
    const cJSON *at_b;
    const char *section; /* that at_a and at_b are in; NULL at first */
};

static bool kept(const struct instance *instance, struct comparison *c)
{
    const char *name = instance->source != NULL ? "sources"
                       : instance->is_worker    ? "workers"
                                                : "sinks";
    if (c->section != name) {
        *c = (struct comparison){.a = c->a, .b = c->b, .section = name};
    }
    const cJSON *old = next_member(section(c->a, name), &c->at_a, instance->name);
    const cJSON *new = next_member(section(c->b, name), &c->at_b, instance->name);
    return old != NULL && new != NULL && cJSON_Compare(old, new, true);
}

static struct instance *find(struct instance **table, uint32_t count, const char *name)
{
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(table[i]->name, name) == 0) {
            return table[i];
        }
    }
    return NULL;
}

/* On the core thread, between two steps: from here on the new configuration holds. */
static void apply(void *argument, struct mr_bus *bus, struct mr_now now)
{
    struct change *change = argument;
    struct mr_engine *engine = change->engine;
    struct snapshot *snapshot = change->snapshot;
    change->status = mr_bus_configure(bus, now, snapshot->config, snapshot->router,
                                      snapshot->generation);
    if (change->status != MR_OK) {
        return;
    }
    snapshot_bind(snapshot, bus);
    struct snapshot *old = engine->bus_snapshot;
    atomic_fetch_add_explicit(&snapshot->refs, 1, memory_order_relaxed);
    engine->bus_snapshot = snapshot;
    snapshot_unref(old);
}

static void swap_targets(void *argument, struct mr_bus *bus, struct mr_now now)
{
    struct change *change = argument;
    struct mr_engine *engine = change->engine;
    for (uint32_t i = 0; i < engine->targets_by_id_count; i++) {
        struct instance *old = engine->targets_by_id[i];
        bool stays = false;
        for (uint32_t k = 0; k < change->target_count && old != NULL; k++) {
            stays = stays || change->targets[k] == old;
        }
        if (old != NULL && !stays) {
            atomic_store_explicit(&old->retired, true, memory_order_release);
            mr_bus_capacity(bus, now, i, 0);
            engine->targets_by_id[i] = NULL;
            /* No memory: its successor has less room until it is gone. */
            (void)instances_push(&engine->retired, &engine->retired_count, old);
        }
    }
    uint32_t most = 0;
    for (uint32_t k = 0; k < change->target_count; k++) {
        most = change->targets[k]->id >= most ? change->targets[k]->id + 1 : most;
    }
    if (most > engine->targets_by_id_count) {
        struct instance **grown = mr_realloc(engine->targets_by_id, most * sizeof(*grown));
        if (grown == NULL) {
            change->status = MR_E_NOMEM;
            return;
        }
        for (uint32_t i = engine->targets_by_id_count; i < most; i++) {
            grown[i] = NULL;
        }
        engine->targets_by_id = grown;
        engine->targets_by_id_count = most;
    }
    for (uint32_t k = 0; k < change->target_count; k++) {
        engine->targets_by_id[change->targets[k]->id] = change->targets[k];
    }
}

/* Fills change->targets with kept and new instances; new ones are not started yet. */
static enum mr_status make_targets(struct change *change, const cJSON *a, const cJSON *b,
                                   struct mr_problem *problem)
{
    struct mr_engine *engine = change->engine;
    const struct mr_config *config = change->snapshot->config;
    struct comparison both = {.a = a, .b = b};
    for (uint32_t i = 0; i < config->target_count; i++) {
        struct instance *instance =
            find(engine->targets, engine->target_count, config->targets[i].name);
        enum mr_status r = MR_OK;
        if (instance == NULL || !kept(instance, &both)) {
            r = instance_create_target(engine, change->snapshot, i, &instance, problem);
        }
        r = r == MR_OK ? instances_push(&change->targets, &change->target_count, instance) : r;
        if (r != MR_OK) {
            return r;
        }
    }
    return MR_OK;
}

static bool is_old(struct instance **table, uint32_t count, const struct instance *instance)
{
    for (uint32_t i = 0; i < count; i++) {
        if (table[i] == instance) {
            return true;
        }
    }
    return false;
}

static void log_problem(const char *what, const char *name, const struct mr_problem *problem)
{
    MR_ERROR("engine", "%s %s: %s", what, name, problem->text);
}

/* Sources that go or change stop first (their batches come back), then the new ones start. */
static enum mr_status change_sources(struct change *change, const cJSON *a, const cJSON *b)
{
    struct mr_engine *engine = change->engine;
    const struct mr_config *config = change->snapshot->config;
    pthread_mutex_lock(&engine->instances_mu);
    struct instance **old = engine->sources;
    uint32_t old_count = engine->source_count;
    engine->sources = NULL;
    engine->source_count = 0;
    pthread_mutex_unlock(&engine->instances_mu);
    struct instance **fresh = NULL;
    uint32_t fresh_count = 0;
    struct comparison both = {.a = a, .b = b};
    for (uint32_t i = 0; i < old_count; i++) {
        bool stays = kept(old[i], &both);
        if (stays && instances_push(&fresh, &fresh_count, old[i]) == MR_OK) {
            continue;
        }
        old[i]->source_ops->stop(old[i]->source, mr_clock_mono_ns() + RETIRE_STOP_NS);
        instance_destroy(old[i]);
    }
    mr_free(old);
    for (uint32_t i = 0; i < config->source_count; i++) {
        if (find(fresh, fresh_count, config->sources[i].name) != NULL) {
            continue;
        }
        struct instance *instance = NULL;
        struct mr_problem problem = {{0}};
        enum mr_status r =
            instance_create_source(engine, change->snapshot, i, &instance, &problem);
        if (r == MR_OK && (instance->paused || engine->slow_applied)) {
            instance->source_ops->pause(instance->source);
        }
        r = r == MR_OK ? instance->source_ops->start(instance->source, &problem) : r;
        r = r == MR_OK ? instances_push(&fresh, &fresh_count, instance) : r;
        if (r != MR_OK) {
            log_problem("source", config->sources[i].name, &problem);
            instance_destroy(instance);
        }
    }
    pthread_mutex_lock(&engine->instances_mu);
    engine->sources = fresh;
    engine->source_count = fresh_count;
    pthread_mutex_unlock(&engine->instances_mu);
    return MR_OK;
}

static void forget_retired(void *argument, struct mr_bus *bus, struct mr_now now)
{
    struct instance *instance = argument;
    struct mr_engine *engine = instance->engine;
    (void)bus;
    (void)now;
    for (uint32_t i = 0; i < engine->retired_count; i++) {
        if (engine->retired[i] == instance) {
            engine->retired[i] = engine->retired[--engine->retired_count];
            return;
        }
    }
}

/* Gets nothing more, and may take as long for what it has as an attempt may take at most: a job of
 * hours survives a reload. Unless Millrace itself stops. */
static void wait_for_held(struct instance *instance)
{
    uint64_t deadline = mr_clock_mono_ns() + instance->max_run_ns;
    while (atomic_load(&instance->held) > 0 && mr_clock_mono_ns() < deadline &&
           atomic_load(&instance->engine->stop_requests) == 0) {
        struct pollfd fd = {.fd = -1};
        (void)poll(&fd, 1, RETIRE_LOOK_MS); /* a pause */
    }
}

/* The old generation drains on its own thread, so that a slow handler does not hold the reload. */
static void *retire_thread(void *argument)
{
    struct instance *instance = argument;
    wait_for_held(instance);
    instance->target_ops->stop(instance->target, mr_clock_mono_ns() + RETIRE_STOP_NS);
    (void)engine_call(instance->engine, forget_retired, instance); /* closed: nobody looks there */
    atomic_fetch_sub(&instance->engine->retiring, 1);
    instance_destroy(instance);
    return NULL;
}

static void retire_target(struct mr_engine *engine, struct instance *instance)
{
    pthread_t thread;
    atomic_fetch_add(&engine->retiring, 1);
    if (pthread_create(&thread, NULL, retire_thread, instance) != 0) {
        instance->max_run_ns = 0; /* what it holds has RETIRE_STOP_NS */
        (void)retire_thread(instance); /* no thread to be had: here and now */
        return;
    }
    (void)pthread_detach(thread); /* it was just made; the engine waits on `retiring` */
}

/* Only after the swap: what a new instance says of its capacity must not be taken for the old
 * one's. One that cannot start is shown as down; its deliveries wait. */
static void start_new_targets(struct mr_engine *engine, struct instance **old, uint32_t old_count)
{
    for (uint32_t i = 0; i < engine->target_count; i++) {
        struct instance *instance = engine->targets[i];
        struct mr_problem why = {{0}};
        if (!is_old(old, old_count, instance) &&
            instance->target_ops->start(instance->target, &why) != MR_OK) {
            log_problem("target", instance->name, &why);
        }
    }
}

static enum mr_status swap_in(struct change *change, const cJSON *a, const cJSON *b,
                              struct mr_problem *problem)
{
    struct mr_engine *engine = change->engine;
    enum mr_status r = engine_call(engine, swap_targets, change);
    r = r == MR_OK ? change->status : r;
    if (r != MR_OK) {
        return mr_problem_set(problem, r, "the core could not take the new targets");
    }
    pthread_mutex_lock(&engine->instances_mu);
    struct instance **old = engine->targets;
    uint32_t old_count = engine->target_count;
    engine->targets = change->targets;
    engine->target_count = change->target_count;
    pthread_mutex_unlock(&engine->instances_mu);
    for (uint32_t i = 0; i < old_count; i++) {
        if (!is_old(engine->targets, engine->target_count, old[i])) {
            retire_target(engine, old[i]);
        }
    }
    start_new_targets(engine, old, old_count);
    mr_free(old);
    change->targets = NULL;
    change->target_count = 0;
    return change_sources(change, a, b);
}

static enum mr_status apply_change(struct mr_engine *engine, struct snapshot *snapshot,
                                   struct mr_problem *problem)
{
    struct change change = {.engine = engine, .snapshot = snapshot};
    cJSON *a = cJSON_Parse(engine->snapshot->config->canonical_json);
    cJSON *b = cJSON_Parse(snapshot->config->canonical_json);
    enum mr_status r = a == NULL || b == NULL ? MR_E_NOMEM : engine_call(engine, apply, &change);
    r = r == MR_OK ? change.status : r;
    if (r != MR_OK) {
        (void)mr_problem_set(problem, r, "the core could not take the configuration: %s",
                             mr_status_text(r));
    }
    if (r == MR_OK) {
        atomic_fetch_add_explicit(&snapshot->refs, 1, memory_order_relaxed);
        snapshot_publish(engine, snapshot);
        r = make_targets(&change, a, b, problem);
        r = r == MR_OK ? swap_in(&change, a, b, problem) : r;
    }
    for (uint32_t i = 0; i < change.target_count; i++) {
        if (!is_old(engine->targets, engine->target_count, change.targets[i])) {
            instance_destroy(change.targets[i]);
        }
    }
    mr_free(change.targets);
    cJSON_Delete(a);
    cJSON_Delete(b);
    return r;
}

/* --- the whole -------------------------------------------------------------------------------- */

/* What only a restart can change. */
static const char *startup_change(const struct mr_config *a, const struct mr_config *b)
{
    if (strcmp(a->data_dir, b->data_dir) != 0) {
        return "data_dir";
    }
    if (a->listen_off != b->listen_off || a->listen_port != b->listen_port ||
        strcmp(a->listen_host == NULL ? "" : a->listen_host,
               b->listen_host == NULL ? "" : b->listen_host) != 0) {
        return "listen";
    }
    if ((a->subscriptions_api.token == NULL) != (b->subscriptions_api.token == NULL)) {
        return "subscriptions_api.token";
    }
    if (a->log.sync != b->log.sync || a->log.segment_size != b->log.segment_size) {
        return "log";
    }
    return NULL;
}

/* For a person to read: what does not fit is left out. */
static void say(struct mr_buf *to, const char *text)
{
    enum mr_status r = mr_buf_append_text(to, text);
    if (r != MR_OK) {
        MR_WARN("engine", "no memory to say: %s", text);
    }
}

/* A change over the API must not bring what somebody just writes in the file. */
static enum mr_status check_unchanged(struct mr_engine *engine, const struct snapshot *old,
                                      struct mr_buf *problem)
{
    struct mr_config *config = NULL;
    struct mr_buf ignored;
    mr_buf_init(&ignored, MR_MIB);
    enum mr_status r = engine->config_path == NULL
                           ? engine_load(engine, NULL, &config, problem)
                           : engine_load(engine, old->api_refused ? NULL : old->api_set,
                                         &config, &ignored);
    if (engine->config_path != NULL && r != MR_E_NOMEM &&
        (r != MR_OK || config->hash != old->config->hash)) {
        say(problem, "the configuration file has changed since it was loaded: reload first");
        r = MR_E_CONFLICT;
    }
    mr_config_destroy(config);
    mr_buf_release(&ignored);
    return r;
}

static enum mr_status check_startup(const struct mr_config *old, const struct mr_config *config,
                                    struct mr_problem *why)
{
    const char *fixed = startup_change(old, config);
    return fixed == NULL ? MR_OK
                         : mr_problem_set(why, MR_E_CONFLICT,
                                          "`%s` changed: that takes a restart", fixed);
}

/* @p set: what the API shall hold; NULL: what it holds. The lock is held. */
static enum mr_status change(struct mr_engine *engine, const char *set, bool dry_run,
                             struct mr_buf *out, struct mr_buf *problem)
{
    struct mr_config *config = NULL;
    struct snapshot *snapshot = NULL;
    struct snapshot *old = snapshot_get(engine);
    struct mr_problem why = {{0}};
    const char *held = set == NULL ? old->api_set : set;
    enum mr_status r = set == NULL ? MR_OK : check_unchanged(engine, old, problem);
    r = r == MR_OK ? engine_load(engine, held, &config, problem) : r;
    r = r == MR_OK ? check_startup(old->config, config, &why) : r;
    if (r == MR_OK) {
        snapshot = snapshot_create(engine, config, held, old->generation + 1, &why);
        r = snapshot == NULL ? MR_E_INVALID : MR_OK;
    }
    if (snapshot == NULL) {
        mr_config_destroy(config);
    }
    r = r == MR_OK && out != NULL ? put_difference(engine, old->config, config, dry_run, out) : r;
    if (r == MR_OK && set != NULL) {
        r = engine_keep_subscriptions(engine, set);
    }
    if (r == MR_OK && !dry_run && (set != NULL || old->config->hash != config->hash)) {
        r = apply_change(engine, snapshot, &why);
        if (r != MR_OK && set != NULL &&
            engine_keep_subscriptions(engine, old->api_set == NULL ? "" : old->api_set) != MR_OK) {
            MR_ERROR("engine", "what the Subscriptions API holds changes with the next start");
        }
    }
    if (r != MR_OK && why.text[0] != '\0') {
        say(problem, why.text);
    }
    snapshot_unref(snapshot);
    snapshot_unref(old);
    return r;
}

enum mr_status engine_reload(struct mr_engine *engine, bool dry_run, struct mr_buf *out,
                             struct mr_buf *problem)
{
    pthread_mutex_lock(&engine->reload_mu);
    enum mr_status r = change(engine, NULL, dry_run, out, problem);
    pthread_mutex_unlock(&engine->reload_mu);
    return r;
}

enum mr_status engine_put_subscriptions(struct mr_engine *engine, const char *set,
                                        struct mr_buf *problem)
{
    pthread_mutex_lock(&engine->reload_mu);
    enum mr_status r = change(engine, set, false, NULL, problem);
    pthread_mutex_unlock(&engine->reload_mu);
    return r;
}
