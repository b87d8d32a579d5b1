/* Sources and targets (workers and sinks) as they stand, and the pause of a source. */
#include "admin/internal.h"
#include "core/alloc.h"
#include "core/logger.h"

static const char *health_text(enum mr_health_state state)
{
    switch (state) {
    case MR_HEALTH_STARTING:
        return "starting";
    case MR_HEALTH_OK:
        return "ok";
    case MR_HEALTH_DEGRADED:
        return "degraded";
    case MR_HEALTH_DOWN:
        return "down";
    default:
        return "?";
    }
}

/* A listing under way: of one side, or of one name alone. */
struct listing {
    struct mr_json_out out;
    const char *name; /* NULL: all */
    bool sources;
    bool found;
    bool is_worker; /* of the last one written, … */
    uint32_t id;
    /* what the bus says about the targets, gathered before */
    struct mr__target *targets; /* owned */
    uint32_t target_count;
    struct mr_source_info *infos; /* owned; of the sources, by id */
    uint32_t info_count;
    enum mr_status status;
};

static void write_health(struct mr_json_out *out, const struct mr_health *health)
{
    mr_json_out_text(out, "health", health_text(health->state));
    mr_json_out_text(out, "detail", health->detail);
    mr_json_out_bytes_or_null(out, "last_error", mr_bytes_of(health->last_error));
    mr_json_out_time(out, "last_error_at", health->last_error_wall_ns);
    mr_json_out_u64(out, "messages", health->messages);
    mr_json_out_u64(out, "errors", health->errors);
    mr_json_out_u64(out, "reconnects", health->reconnects);
}

static void write_target(struct listing *listing, const struct mr_admin_instance *instance)
{
    struct mr_json_out *out = &listing->out;
    const struct mr_health *health = &instance->health;
    mr_json_out_bool(out, "worker", instance->is_worker);
    if (instance->is_worker) {
        mr_json_out_object(out, "instances");
        mr_json_out_u64(out, "ready", health->instances_ready);
        mr_json_out_u64(out, "busy", health->instances_busy);
        mr_json_out_u64(out, "starting", health->instances_starting);
        mr_json_out_end(out);
        mr_json_out_u64(out, "starts", health->starts);
        mr_json_out_u64(out, "crashes", health->crashes);
        mr_json_out_seconds(out, "last_start_seconds", health->start_ns_last);
        mr_json_out_seconds(out, "mean_start_seconds", health->start_ns_mean);
        mr_json_out_seconds(out, "max_start_seconds", health->start_ns_max);
        mr_json_out_u64(out, "crash_streak", health->crash_streak);
        mr_json_out_seconds(out, "backoff_seconds", health->backoff_ns);
        mr_json_out_u64(out, "rss_peak", health->rss_peak);
        mr_json_out_bytes_or_null(out, "limits", mr_bytes_of(health->limits));
    }
    for (uint32_t i = 0; i < listing->target_count; i++) {
        const struct mr_target_info *info = &listing->targets[i].info;
        if (info->id == instance->id) {
            mr_json_out_u64(out, "slots", info->slots);
            mr_json_out_u64(out, "in_flight", info->in_flight);
            mr_json_out_u64(out, "queued", info->queued);
            mr_json_out_bool(out, "breaker_open", info->breaker_open);
        }
    }
}

static void write_instance(void *context, const struct mr_admin_instance *instance)
{
    struct listing *listing = context;
    if (instance->is_source != listing->sources ||
        (listing->name != NULL && strcmp(listing->name, instance->name) != 0)) {
        return;
    }
    listing->found = true;
    listing->is_worker = instance->is_worker;
    listing->id = instance->id;
    struct mr_json_out *out = &listing->out;
    mr_json_out_object(out, NULL);
    mr_json_out_text(out, "name", instance->name);
    mr_json_out_text(out, "kind", instance->kind);
    if (instance->is_source) {
        mr_json_out_bool(out, "paused", instance->paused);
        mr_json_out_u64(out, "events", instance->events);
        mr_json_out_u64(out, "rejected", instance->rejected);
        if (instance->id < listing->info_count) {
            const struct mr_source_info *info = &listing->infos[instance->id];
            mr_json_out_u64(out, "duplicates", info->duplicates);
            mr_json_out_u64(out, "dedupe_keys", info->keys);
            mr_json_out_u64(out, "dedupe_keys_early", info->keys_early);
        }
        mr_json_out_u64(out, "lag", instance->health.lag);
    } else {
        write_target(listing, instance);
    }
    write_health(out, &instance->health);
    if (listing->name == NULL) {
        mr_json_out_end(out);
    } /* else what it runs follows */
}

static void write_running(struct mr_admin *admin, struct listing *listing)
{
    struct mr_buf running;
    mr_buf_init(&running, MR__RUNNING_SIZE_MAX);
    if (listing->is_worker) {
        admin->host->ops->running(admin->host, listing->id, NULL, &running);
    }
    if (running.size > 0) {
        mr_json_out_raw(&listing->out, "running", mr_buf_bytes(&running));
    }
    mr_buf_release(&running);
    mr_json_out_end(&listing->out);
}

static void keep_target(void *context, const struct mr__target *target)
{
    struct listing *listing = context;
    struct mr__target *grown =
        mr_realloc(listing->targets, (listing->target_count + 1) * sizeof(*grown));
    if (grown == NULL) {
        listing->status = MR_E_NOMEM;
        return;
    }
    listing->targets = grown;
    grown[listing->target_count++] = *target;
}

static void list(struct mr_admin *admin, struct mr__call *call, bool sources, const char *name)
{
    struct listing listing = {.name = name, .sources = sources, .status = MR_OK};
    enum mr_status r = sources ? MR_OK : mr__each_target(admin, keep_target, &listing);
    if (sources) { /* without the bus a source still shows what it says itself */
        (void)mr__source_infos(admin, &listing.infos, &listing.info_count);
    }
    if (r == MR_OK) {
        r = listing.status;
    }
    if (r != MR_OK) {
        mr_free(listing.targets);
        mr__answer_status(call, r, NULL);
        return;
    }
    mr_json_out_init(&listing.out, MR__ANSWER_SIZE_MAX);
    if (name == NULL) {
        mr_json_out_object(&listing.out, NULL);
        mr_json_out_array(&listing.out, sources ? "sources" : "targets");
    }
    admin->host->ops->instances(admin->host, write_instance, &listing);
    if (name != NULL && listing.found) {
        write_running(admin, &listing);
    }
    if (name == NULL) {
        mr_json_out_end(&listing.out);
        mr_json_out_end(&listing.out);
    }
    mr_free(listing.infos);
    mr_free(listing.targets);
    if (name != NULL && !listing.found) {
        mr_json_out_release(&listing.out);
        mr__answer_error(call, 404, "no %s is called %s", sources ? "source" : "target", name);
        return;
    }
    mr__answer_json(call, 200, &listing.out);
}

void mr__get_sources(struct mr_admin *admin, struct mr__call *call)
{
    list(admin, call, true, NULL);
}

void mr__get_source(struct mr_admin *admin, struct mr__call *call)
{
    list(admin, call, true, call->name);
}

void mr__get_targets(struct mr_admin *admin, struct mr__call *call)
{
    list(admin, call, false, NULL);
}

void mr__get_target(struct mr_admin *admin, struct mr__call *call)
{
    list(admin, call, false, call->name);
}

struct source_search {
    const char *name;
    bool found;
};

static void search_source(void *context, const struct mr_admin_instance *instance)
{
    struct source_search *search = context;
    search->found =
        search->found || (instance->is_source && strcmp(instance->name, search->name) == 0);
}

static void pause_source(struct mr_admin *admin, struct mr__call *call, bool paused)
{
    struct source_search search = {.name = call->name};
    admin->host->ops->instances(admin->host, search_source, &search);
    if (!search.found) {
        mr__answer_error(call, 404, "no source is called %s", call->name);
        return;
    }
    const char *action = paused ? "pause" : "resume";
    enum mr_status r = mr__log_action(admin, action, "source", call->name, NULL);
    if (r == MR_OK) {
        r = admin->host->ops->pause_source(admin->host, call->name, paused);
    }
    if (r != MR_OK) {
        mr__answer_status(call, r, NULL);
        return;
    }
    list(admin, call, true, call->name);
}

void mr__post_source_pause(struct mr_admin *admin, struct mr__call *call)
{
    pause_source(admin, call, true);
}

void mr__post_source_resume(struct mr_admin *admin, struct mr__call *call)
{
    pause_source(admin, call, false);
}
