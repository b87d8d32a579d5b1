/* What runs here: status, log, clock, reload, stop. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "admin/internal.h"
#include "core/clock.h"
#include "core/io_mirror.h"
#include "core/logger.h"

static void write_mirror(struct mr_json_out *out, const struct mr_admin_host *host)
{
    if (host->mirror == NULL) {
        mr_json_out_null(out, "mirror");
        return;
    }
    struct mr_mirror_status mirror;
    mr_io_mirror_status(host->mirror, &mirror);
    mr_json_out_object(out, "mirror");
    mr_json_out_bool(out, "whole", !mirror.alone);
    mr_json_out_text(out, "failed", mirror.alone ? mirror.failed : NULL);
    mr_json_out_u64(out, "repaired", mirror.repaired);
    mr_json_out_end(out);
}

static void write_scrub(struct mr_json_out *out, const struct mr_bus_status *status)
{
    mr_json_out_object(out, "scrub");
    if (status->scrub_ended_wall_ns == 0) {
        mr_json_out_null(out, "ended");
    } else {
        mr_json_out_time(out, "ended", status->scrub_ended_wall_ns);
    }
    mr_json_out_u64(out, "bytes", status->scrub_bytes);
    mr_json_out_u64(out, "rotten", status->rotten);
    mr_json_out_u64(out, "found", status->rotten_found);
    mr_json_out_u64(out, "lost_deliveries", status->rotten_deliveries);
    mr_json_out_u64(out, "unreadable_letters", status->rotten_letters);
    mr_json_out_end(out);
}

static void write_log(struct mr_json_out *out, const struct mr_admin_host *host,
                      const struct mr_bus_status *status)
{
    mr_json_out_text(out, "folder", host->log_dir);
    mr_json_out_u64(out, "bytes", status->log_bytes);
    mr_json_out_u64(out, "segments", status->segments);
    mr_json_out_u64(out, "spare_segments", status->spare_segments);
    mr_json_out_u64(out, "survivor_files", status->survivor_files);
    mr_json_out_u64(out, "survivor_bytes", status->survivor_bytes);
    mr_json_out_u64(out, "survivors_copied", status->survivors_copied);
    mr_json_out_u64(out, "next_offset", status->next_offset);
    mr_json_out_u64(out, "sequence", status->next_sequence);
    mr_json_out_u64(out, "durable_sequence", status->durable_sequence);
    mr_json_out_u64(out, "oldest_position", status->oldest_position);
    mr_json_out_u64(out, "durable_position", status->durable_position);
    mr_json_out_u64(out, "groups_written", status->groups_written);
    mr_json_out_u64(out, "bytes_written", status->bytes_written);
    mr_json_out_u64(out, "checkpoints", status->checkpoints);
    mr_json_out_u64(out, "footers", status->footers);
    mr_json_out_u64(out, "footers_pending", status->footers_pending);
    mr_json_out_u64(out, "footer_failures", status->footer_failures);
    mr_json_out_u64(out, "lost_events", status->lost_events);
    mr_json_out_bool(out, "faulty", status->faulty);
    mr_json_out_bool(out, "slow", status->slow);
    write_scrub(out, status);
    write_mirror(out, host);
}

static void write_memory(struct mr_json_out *out, struct mr_admin_host *host,
                         const struct mr_bus_status *status)
{
    mr_json_out_object(out, "memory");
    for (int i = 0; i < MR_BUDGET_MAX; i++) {
        mr_json_out_object(out, mr_budgets[i].name);
        if (mr_budgets[i].counted) {
            mr_json_out_u64(out, "used", status->memory_used[i]);
        } else {
            mr_json_out_null(out, "used");
        }
        mr_json_out_u64(out, "max", i == MR_BUDGET_CONNECTORS ? host->ops->connector_bytes(host)
                                                              : host->budgets[i].most);
        mr_json_out_end(out);
    }
    mr_json_out_end(out);
}

static void write_opened(struct mr_json_out *out, const struct mr_bus_opened *opened)
{
    mr_json_out_u64(out, "events", opened->events);
    mr_json_out_u64(out, "groups_read", opened->groups_folded);
    mr_json_out_u64(out, "bytes_read", opened->tail_bytes);
    mr_json_out_bool(out, "from_checkpoint", opened->from_checkpoint);
    mr_json_out_u64(out, "interrupted", opened->interrupted);
    mr_json_out_bool(out, "torn_tail_cut", opened->torn);
    mr_json_out_u64(out, "lost_events", opened->lost_events);
}

static void write_fanout(void *context, const struct mr__fanout_seen *fanout)
{
    struct mr_json_out *out = context;
    mr_json_out_object(out, NULL);
    mr_json_out_text(out, "name", fanout->info.name);
    mr_json_out_u64(out, "open", fanout->info.open);
    mr_json_out_u64(out, "complete", fanout->info.complete);
    mr_json_out_u64(out, "incomplete", fanout->info.incomplete);
    mr_json_out_end(out);
}

static const char *sync_text(const struct mr_config *config)
{
    static const char *const words[] = {"always", "interval", "never"};
    size_t sync = (size_t)config->log.sync;
    return sync < MR_ARRAY_COUNT(words) ? words[sync] : "?";
}

static void write_config(struct mr_admin *admin, struct mr_json_out *out)
{
    const struct mr_router *router;
    const struct mr_config *config = admin->host->ops->config(admin->host, &router);
    if (config == NULL) {
        return;
    }
    uint32_t visible = 0;
    for (uint32_t i = 0; i < config->subscription_count; i++) {
        visible += !config->subscriptions[i].hidden;
    }
    mr_json_out_object(out, "config");
    mr_json_out_text(out, "path", config->path);
    mr_json_out_text(out, "data_dir", config->data_dir);
    mr_json_out_u64(out, "sources", config->source_count);
    mr_json_out_u64(out, "workers", config->worker_count);
    mr_json_out_u64(out, "sinks", config->target_count - config->worker_count);
    mr_json_out_u64(out, "subscriptions", visible);
    mr_json_out_text(out, "sync", sync_text(config));
    mr_json_out_end(out);
    admin->host->ops->config_release(admin->host, config);
}

void mr__get_status(struct mr_admin *admin, struct mr__call *call)
{
    struct mr_bus_status status;
    enum mr_status r = mr__bus_status(admin, &status);
    if (r != MR_OK) {
        mr__answer_status(call, r, NULL);
        return;
    }
    char why_not[MR_ERROR_TEXT_MAX] = "";
    bool ready = admin->host->ops->is_ready(admin->host, why_not, sizeof(why_not));
    struct mr_now now = mr_clock_now();
    uint64_t started = admin->host->started_wall_ns;
    struct mr_json_out out;
    mr_json_out_init(&out, MR_MIB);
    mr_json_out_object(&out, NULL);
    mr_json_out_text(&out, "version", MR_VERSION);
    mr_json_out_u64(&out, "pid", (uint64_t)getpid());
    mr_json_out_bool(&out, "ready", ready);
    mr_json_out_text(&out, "why_not", ready ? NULL : why_not);
    mr_json_out_time(&out, "started", started);
    mr_json_out_seconds(&out, "uptime_seconds", now.wall_ns > started ? now.wall_ns - started : 0);
    if (admin->ingest != NULL) {
        mr_json_out_u64(&out, "port", mr_http_listener_port(admin->ingest));
    } else {
        mr_json_out_null(&out, "port");
    }
    write_config(admin, &out);
    mr_json_out_object(&out, "log");
    write_log(&out, admin->host, &status);
    mr_json_out_end(&out);
    write_memory(&out, admin->host, &status);
    mr_json_out_object(&out, "clock");
    mr_json_out_time(&out, "log", status.log_ns);
    mr_json_out_time(&out, "wall", now.wall_ns);
    mr_json_out_bool(&out, "frozen", status.clock_frozen);
    mr_json_out_end(&out);
    mr_json_out_object(&out, "recovery");
    write_opened(&out, &admin->host->opened);
    mr_json_out_end(&out);
    mr_json_out_array(&out, "fanouts");
    r = mr__each_fanout(admin, write_fanout, &out);
    mr_json_out_end(&out);
    if (r != MR_OK) {
        mr_json_out_release(&out);
        mr__answer_status(call, r, NULL);
        return;
    }
    mr_json_out_u64(&out, "unmatched", status.unmatched);
    mr_json_out_u64(&out, "late_answers", status.late_answers);
    mr_json_out_end(&out);
    mr__answer_json(call, 200, &out);
}

void mr__get_log(struct mr_admin *admin, struct mr__call *call)
{
    struct mr_bus_status status;
    enum mr_status r = mr__bus_status(admin, &status);
    if (r != MR_OK) {
        mr__answer_status(call, r, NULL);
        return;
    }
    struct mr_json_out out;
    mr_json_out_init(&out, MR_MIB);
    mr_json_out_object(&out, NULL);
    write_log(&out, admin->host, &status);
    mr_json_out_object(&out, "recovery");
    write_opened(&out, &admin->host->opened);
    mr_json_out_end(&out);
    mr_json_out_end(&out);
    mr__answer_json(call, 200, &out);
}

static void accept_clock(void *argument, struct mr_bus *bus, struct mr_now now)
{
    bool *was_frozen = argument;
    struct mr_bus_status status;
    mr_bus_status(bus, &status);
    *was_frozen = status.clock_frozen;
    mr_bus_clock_accept(bus, now);
}

struct timer_search {
    bool found;
    char name[MR_NAME_SIZE_MAX + 1];
};

static void search_timer(void *context, const struct mr_admin_instance *instance)
{
    struct timer_search *search = context;
    if (!search->found && instance->is_source && !instance->paused &&
        strcmp(instance->kind, "timer") == 0) {
        search->found = true;
        (void)snprintf(search->name, sizeof(search->name), "%s", instance->name);
    }
}

/* The timers stand still, too; resuming one that runs is what tells them all. */
static void accept_for_timers(struct mr_admin *admin)
{
    struct timer_search search = {.found = false};
    admin->host->ops->instances(admin->host, search_timer, &search);
    if (search.found) { /* gone by now: a reload, which looks at the clock itself */
        (void)admin->host->ops->pause_source(admin->host, search.name, false);
    }
}

void mr__post_clock_accept(struct mr_admin *admin, struct mr__call *call)
{
    bool was_frozen = false;
    enum mr_status r = mr__log_action(admin, "clock accept", NULL);
    if (r != MR_OK) {
        mr__answer_status(call, r, NULL);
        return;
    }
    if (!mr__ask(admin, call, accept_clock, &was_frozen)) {
        return;
    }
    accept_for_timers(admin);
    struct mr_json_out out;
    mr_json_out_init(&out, MR_KIB);
    mr_json_out_object(&out, NULL);
    mr_json_out_bool(&out, "was_frozen", was_frozen);
    mr_json_out_end(&out);
    mr__answer_json(call, 200, &out);
}

/* {"error":"…","errors":["line",…]} of what a refused reload said. */
static void answer_refused_reload(struct mr__call *call, enum mr_status status,
                                  const struct mr_buf *text)
{
    struct mr_json_out out;
    mr_json_out_init(&out, MR_MIB);
    mr_json_out_object(&out, NULL);
    mr_json_out_text(&out, "error", "the configuration is refused; the old one stays in force");
    mr_json_out_array(&out, "errors");
    size_t begin = 0;
    for (size_t i = 0; i <= text->size; i++) {
        if ((i == text->size || text->data[i] == '\n') && i > begin) {
            mr_json_out_bytes(&out, NULL, mr_bytes(text->data + begin, i - begin));
        }
        if (i < text->size && text->data[i] == '\n') {
            begin = i + 1;
        }
    }
    mr_json_out_end(&out);
    mr_json_out_end(&out);
    mr__answer_json(call, mr__http_status(status), &out);
}

void mr__post_reload(struct mr_admin *admin, struct mr__call *call)
{
    const char *dry = mr_http_request_query(call->http, "dry_run");
    bool dry_run = dry != NULL && strcmp(dry, "true") == 0;
    enum mr_status r = dry_run ? MR_OK : mr__log_action(admin, "reload", NULL);
    if (r != MR_OK) {
        mr__answer_status(call, r, NULL);
        return;
    }
    struct mr_buf difference;
    struct mr_buf refused;
    mr_buf_init(&difference, MR_CONFIG_SIZE_MAX);
    mr_buf_init(&refused, MR_MIB);
    r = admin->host->ops->reload(admin->host, dry_run, &difference, &refused);
    if (r != MR_OK) {
        answer_refused_reload(call, r, &refused);
    } else {
        mr__answer_text(call, 200, "application/json", mr_buf_bytes(&difference));
    }
    mr_buf_release(&difference);
    mr_buf_release(&refused);
}

void mr__post_stop(struct mr_admin *admin, struct mr__call *call)
{
    enum mr_status r = mr__log_action(admin, "stop", NULL);
    if (r != MR_OK) {
        MR_WARN("admin", "msg=\"the stop could not be logged, ignoring\" status=%s",
                mr_status_name(r));
    }
    mr__answer_text(call, 200, "application/json", MR_BYTES_LITERAL("{\"stopping\":true}"));
    admin->host->ops->request_stop(admin->host);
}
