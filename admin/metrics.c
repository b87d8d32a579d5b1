/* /metrics: the OpenMetrics text exposition (Prometheus text 0.0.4 on request).
 *
 * A family is one buffer: what the walk over sources, subscriptions and targets finds goes to the
 * buffers of its families, which are put together at the end, each family in one piece. The table
 * below is the whole vocabulary; docs/reference/metrics.md lists it and a test compares them. */
#include "admin/metrics.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "admin/internal.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "core/io.h"
#include "core/io_mirror.h"
#include "core/logger.h"
#include "router/router.h"

#define FAMILY_SIZE_MAX (64u * MR_MIB)

#define F(name_, type_, unit_, help_)                                                              \
    {                                                                                              \
        .name = (name_), .type = (type_), .unit = (unit_), .help = (help_)                         \
    }

const struct mr__family mr__families[MR__FAMILY_MAX + 1] = {
    [MR__M_EVENTS] = F("millrace_events", "counter", NULL,
                       "Events accepted from a source since the start."),
    [MR__M_REJECTED] = F("millrace_source_rejected", "counter", NULL,
                         "Messages of a source that became ingest dead letters since the start."),
    [MR__M_DUPLICATES] = F("millrace_source_duplicates", "counter", NULL,
                           "Of the events accepted from a source: repeats within its dedupe "
                           "window, answered with the offset of the first, since the start."),
    [MR__M_DEDUPE_KEYS] = F("millrace_source_dedupe_keys", "gauge", NULL,
                            "Keys a source keeps for its dedupe window now."),
    [MR__M_DEDUPE_EARLY] = F("millrace_source_dedupe_keys_early", "counter", NULL,
                             "Keys of a source that went before its dedupe window was over, for "
                             "want of room, since the start."),
    [MR__M_SOURCE_LAG] = F("millrace_source_lag", "gauge", NULL,
                           "Messages waiting at the peer of a source, if it can tell."),
    [MR__M_SOURCE_PAUSED] = F("millrace_source_paused", "gauge", NULL,
                              "1 while a source is paused."),
    [MR__M_SOURCE_ERRORS] = F("millrace_source_errors", "counter", NULL,
                              "Errors a source met since the start."),
    [MR__M_SOURCE_RECONNECTS] = F("millrace_source_reconnects", "counter", NULL,
                                  "Connections a source made again since the start."),
    [MR__M_MATCHED] = F("millrace_matched", "counter", NULL,
                        "Deliveries a subscription has had since the log began."),
    [MR__M_DELIVERIES] = F("millrace_deliveries", "counter", NULL,
                           "Deliveries that ended, by final state, since the log began; a redriven "
                           "dead letter leaves the state dead."),
    [MR__M_ATTEMPTS] = F("millrace_attempts", "counter", NULL,
                         "Answers of targets by verdict since the start; refused ones are no "
                         "attempts of a delivery's budget."),
    [MR__M_QUEUE] = F("millrace_queue_deliveries", "gauge", NULL,
                      "Deliveries that have not ended, by state."),
    [MR__M_DELIVERY_SECONDS] = F("millrace_delivery_seconds", "histogram", "seconds",
                                 "From the arrival of an event to the end of its delivery, since "
                                 "the start."),
    [MR__M_ATTEMPT_SECONDS] = F("millrace_attempt_seconds", "histogram", "seconds",
                                "How long attempts were with their handler, since the start."),
    [MR__M_QUEUE_AGE] = F("millrace_queue_age_seconds", "gauge", "seconds",
                          "Age of the oldest delivery in memory that has not ended."),
    [MR__M_QUEUE_BEHIND] = F("millrace_queue_behind_deliveries", "gauge", NULL,
                             "Of the waiting deliveries: on disk, behind the window in memory."),
    [MR__M_BLOCKED] = F("millrace_blocked_deliveries", "gauge", NULL,
                        "Waiting deliveries by what they wait for."),
    [MR__M_DEAD_LETTERS] = F("millrace_dead_letters", "gauge", NULL,
                             "Dead letters in the queue of a subscription now."),
    [MR__M_SHED] = F("millrace_shed", "counter", NULL,
                     "Deliveries dropped since the start because more waited than `shed` lets."),
    [MR__M_PAUSED] = F("millrace_subscription_paused", "gauge", NULL,
                       "1 while a subscription is paused."),
    [MR__M_FANOUTS_OPEN] = F("millrace_fanouts_open", "gauge", NULL,
                             "Events of which not all of a fan-out have ended."),
    [MR__M_FANOUTS] = F("millrace_fanouts_completed", "counter", NULL,
                        "Events told of a fan-out since the start; complete is false when its time "
                        "was over, or it gave way to others."),
    [MR__M_RETURNED] = F("millrace_subscription_returned_weights", "gauge", NULL,
                         "Of several targets: those that failed too often and lost their weight."),
    [MR__M_TARGET_SLOTS] = F("millrace_target_slots", "gauge", NULL,
                             "Deliveries a target can take at once now."),
    [MR__M_TARGET_IN_FLIGHT] = F("millrace_target_in_flight", "gauge", NULL,
                                 "Deliveries with a target now."),
    [MR__M_TARGET_QUEUED] = F("millrace_target_queued", "gauge", NULL,
                              "Deliveries that wait for a target."),
    [MR__M_BREAKER] = F("millrace_target_breaker_open", "gauge", NULL,
                        "1 while the breaker of a target is open."),
    [MR__M_INSTANCES] = F("millrace_worker_instances", "gauge", NULL,
                          "Instances of a worker by state."),
    [MR__M_WORKER_STARTS] = F("millrace_worker_starts", "counter", NULL,
                              "Instances of a worker started since the start."),
    [MR__M_WORKER_CRASHES] = F("millrace_worker_crashes", "counter", NULL,
                               "Instances of a worker that crashed since the start."),
    [MR__M_WORKER_START_SECONDS] = F("millrace_worker_last_start_seconds", "gauge", "seconds",
                                     "How long the last instance took to become ready."),
    [MR__M_USAGE_INVOCATIONS] = F("millrace_usage_invocations", "counter", NULL,
                                  "Hand-outs that reached a handler since the start."),
    [MR__M_USAGE_BUSY] = F("millrace_usage_busy_seconds", "counter", "seconds",
                           "Time they were with it since the start."),
    [MR__M_USAGE_UNITS] = F("millrace_usage_busy_units", "counter", NULL,
                            "The same in units of 100 ms, each hand-out rounded up."),
    [MR__M_USAGE_IN] = F("millrace_usage_in_bytes", "counter", "bytes",
                         "Events handed to handlers since the start."),
    [MR__M_USAGE_OUT] = F("millrace_usage_out_bytes", "counter", "bytes",
                          "Result data and emitted events of handlers since the start."),
    [MR__M_JQ_RUNS] = F("millrace_jq_runs", "counter", NULL,
                        "Events given to the transform in jq of a source or subscription."),
    [MR__M_JQ_ERRORS] = F("millrace_jq_errors", "counter", NULL,
                          "Those of them that it could not transform."),
    [MR__M_JQ_KILLS] = F("millrace_jq_kills", "counter", NULL,
                         "Helper processes that ended in it: killed at a limit, or crashed."),
    [MR__M_JQ_BUSY] = F("millrace_jq_busy_seconds", "counter", "seconds",
                        "Time helpers were busy with it, starting them and compiling included."),
    [MR__M_FILTER_FAILURES] = F("millrace_filter_failures", "counter", NULL,
                                "Evaluations of a subscription's sql that failed, each no match, "
                                "since the start."),
    [MR__M_UNMATCHED] = F("millrace_unmatched_events", "counter", NULL,
                          "Events that no subscription matched since the start."),
    [MR__M_LATE] = F("millrace_late_answers", "counter", NULL,
                     "Answers that came when they no longer counted, since the start."),
    [MR__M_LOST] = F("millrace_lost_events", "counter", NULL,
                     "Events the disk gave back as rubbish since the log began."),
    [MR__M_CONSERVATION] = F("millrace_conservation_ok", "gauge", NULL,
                             "1 while matched = done + dead + dropped + expired + lost + held + "
                             "waiting + in flight holds for every subscription."),
    [MR__M_LOG_BYTES] = F("millrace_log_bytes", "gauge", "bytes", "Size of all segments."),
    [MR__M_LOG_SEGMENTS] = F("millrace_log_segments", "gauge", NULL, "Segments of the log."),
    [MR__M_LOG_GROUPS] = F("millrace_log_groups", "counter", NULL,
                           "Groups written since the start."),
    [MR__M_LOG_WRITTEN] = F("millrace_log_written_bytes", "counter", "bytes",
                            "Bytes written to the log since the start."),
    [MR__M_SURVIVOR_BYTES] = F("millrace_log_survivor_bytes", "gauge", "bytes",
                               "Size of all survivor files: what outlived its segment."),
    [MR__M_SURVIVORS_COPIED] = F("millrace_log_survivors_copied_bytes", "counter", "bytes",
                                 "Bytes copied out of segments to be given up, since the start."),
    [MR__M_CHECKPOINTS] = F("millrace_log_checkpoints", "counter", NULL,
                            "Checkpoints completed since the start."),
    [MR__M_LOG_FAULTY] = F("millrace_log_faulty", "gauge", NULL,
                           "1 after a failed write: nothing is accepted any more."),
    [MR__M_LOG_SLOW] = F("millrace_log_slow", "gauge", NULL,
                         "1 while sources are held back because log or disk is short."),
    [MR__M_LOG_MIRROR] = F("millrace_log_mirror_ok", "gauge", NULL,
                           "1 while both copies of the log are written, 0 while one of them alone "
                           "is; only with log.mirror."),
    [MR__M_LOG_REPAIRED] = F("millrace_log_repaired", "counter", NULL,
                             "Damaged places of one copy of the log that were written again from "
                             "the other, since the start; only with log.mirror."),
    [MR__M_SCRUBBED] = F("millrace_log_scrubbed_timestamp_seconds", "gauge", "seconds",
                         "When all finished files of the log had been read through last; 0 before "
                         "that, since the start."),
    [MR__M_ROTTEN] = F("millrace_log_rotten", "gauge", NULL,
                       "Places of the log that are known to be rotten, in every copy there is."),
    [MR__M_ROTTEN_FOUND] = F("millrace_log_rotten_found", "counter", NULL,
                             "Rotten places found by reading the log through, since the start."),
    [MR__M_ROTTEN_LOST] = F("millrace_log_rotten_lost", "counter", NULL,
                            "Deliveries that ended lost by that, since the start."),
    [MR__M_CLOCK_FROZEN] = F("millrace_clock_frozen", "gauge", NULL,
                             "1 while expiry is frozen after a jump of the wall clock."),
    [MR__M_MEMORY_USED] = F("millrace_memory_used_bytes", "gauge", "bytes",
                            "Memory in use, by budget; those that are not counted are left out."),
    [MR__M_MEMORY_MAX] = F("millrace_memory_max_bytes", "gauge", "bytes",
                           "Memory there may be, by budget."),
    [MR__M_READY] = F("millrace_ready", "gauge", NULL, "1 when /readyz says so."),
    [MR__M_BUILD] = F("millrace_build_info", "gauge", NULL, "The version that runs."),
    [MR__M_START_TIME] = F("millrace_start_time_seconds", "gauge", "seconds",
                           "When the process started, in seconds since 1970."),
    [MR__M_CPU] = F("process_cpu_seconds", "counter", "seconds", "CPU time of the process."),
    [MR__M_RSS] = F("process_resident_memory_bytes", "gauge", "bytes",
                    "Resident memory of the process."),
};
#undef F

struct scrape {
    struct mr_buf families[MR__FAMILY_MAX];
    struct mr_source_info *sources; /* owned; by id */
    uint32_t source_count;
    enum mr_status status;
};

/* --- one sample ------------------------------------------------------------------------------- */

static bool is_counter(enum mr__family_id id)
{
    return mr__families[id].type[0] == 'c';
}

static void keep(struct scrape *scrape, enum mr_status r)
{
    if (scrape->status == MR_OK) {
        scrape->status = r;
    }
}

/* Labels are escaped as the format asks: backslash, quote and line feed. */
static void put_label(struct scrape *scrape, struct mr_buf *buf, const char *name,
                      const char *value, char before)
{
    keep(scrape, mr_buf_printf(buf, "%c%s=\"", before, name));
    for (const char *c = value; *c != '\0'; c++) {
        if (*c == '\\' || *c == '"') {
            keep(scrape, mr_buf_append_byte(buf, '\\'));
        }
        keep(scrape, *c == '\n' ? mr_buf_append_text(buf, "\\n")
                                : mr_buf_append_byte(buf, (uint8_t)*c));
    }
    keep(scrape, mr_buf_append_byte(buf, '"'));
}

static struct mr_buf *begin_sample(struct scrape *scrape, enum mr__family_id id, const char *label,
                                   const char *value, const char *label2, const char *value2)
{
    struct mr_buf *buf = &scrape->families[id];
    keep(scrape, mr_buf_append_text(buf, mr__families[id].name));
    keep(scrape, mr_buf_append_text(buf, is_counter(id) ? "_total" : ""));
    if (label != NULL) {
        put_label(scrape, buf, label, value, '{');
        if (label2 != NULL) {
            put_label(scrape, buf, label2, value2, ',');
        }
        keep(scrape, mr_buf_append_byte(buf, '}'));
    }
    return buf;
}

static void put(struct scrape *scrape, enum mr__family_id id, const char *label, const char *value,
                const char *label2, const char *value2, uint64_t number)
{
    struct mr_buf *buf = begin_sample(scrape, id, label, value, label2, value2);
    keep(scrape, mr_buf_printf(buf, " %" PRIu64 "\n", number));
}

static void put_seconds(struct scrape *scrape, enum mr__family_id id, const char *label,
                        const char *value, const char *label2, const char *value2, uint64_t ns)
{
    struct mr_buf *buf = begin_sample(scrape, id, label, value, label2, value2);
    keep(scrape, mr_buf_printf(buf, " %" PRIu64 ".%09" PRIu64 "\n",
                               (uint64_t)(ns / MR_SECOND), (uint64_t)(ns % MR_SECOND)));
}

/* Buckets are cumulative in the exposition. */
static void put_histogram(struct scrape *scrape, enum mr__family_id id, const char *subscription,
                          const struct mr_histogram *histogram)
{
    struct mr_buf *buf = &scrape->families[id];
    const char *name = mr__families[id].name;
    uint64_t count = 0;
    for (size_t i = 0; i <= MR_HISTOGRAM_BOUNDS; i++) {
        char bound[32] = "+Inf";
        if (i < MR_HISTOGRAM_BOUNDS) {
            (void)snprintf(bound, sizeof(bound), "%g",
                           (double)mr_histogram_bounds_ns[i] / (double)MR_SECOND); /* fits */
        }
        count += histogram->counts[i];
        keep(scrape, mr_buf_printf(buf, "%s_bucket", name));
        put_label(scrape, buf, "subscription", subscription, '{');
        put_label(scrape, buf, "le", bound, ',');
        keep(scrape, mr_buf_printf(buf, "} %" PRIu64 "\n", count));
    }
    keep(scrape, mr_buf_printf(buf, "%s_count", name));
    put_label(scrape, buf, "subscription", subscription, '{');
    keep(scrape, mr_buf_printf(buf, "} %" PRIu64 "\n%s_sum", count, name));
    put_label(scrape, buf, "subscription", subscription, '{');
    keep(scrape, mr_buf_printf(buf, "} %" PRIu64 ".%09" PRIu64 "\n",
                               (uint64_t)(histogram->sum_ns / MR_SECOND),
                               (uint64_t)(histogram->sum_ns % MR_SECOND)));
}

/* --- the walks -------------------------------------------------------------------------------- */

static void see_instance(void *context, const struct mr_admin_instance *instance)
{
    struct scrape *scrape = context;
    const char *name = instance->name;
    const struct mr_health *health = &instance->health;
    if (instance->is_source) {
        put(scrape, MR__M_EVENTS, "source", name, NULL, NULL, instance->events);
        put(scrape, MR__M_REJECTED, "source", name, NULL, NULL, instance->rejected);
        if (instance->id < scrape->source_count) {
            const struct mr_source_info *info = &scrape->sources[instance->id];
            put(scrape, MR__M_DUPLICATES, "source", name, NULL, NULL, info->duplicates);
            put(scrape, MR__M_DEDUPE_KEYS, "source", name, NULL, NULL, info->keys);
            put(scrape, MR__M_DEDUPE_EARLY, "source", name, NULL, NULL, info->keys_early);
        }
        put(scrape, MR__M_SOURCE_LAG, "source", name, NULL, NULL, health->lag);
        put(scrape, MR__M_SOURCE_PAUSED, "source", name, NULL, NULL, instance->paused);
        put(scrape, MR__M_SOURCE_ERRORS, "source", name, NULL, NULL, health->errors);
        put(scrape, MR__M_SOURCE_RECONNECTS, "source", name, NULL, NULL, health->reconnects);
    } else if (instance->is_worker) {
        uint32_t idle = health->instances_ready > health->instances_busy
                            ? health->instances_ready - health->instances_busy
                            : 0;
        put(scrape, MR__M_INSTANCES, "worker", name, "state", "idle", idle);
        put(scrape, MR__M_INSTANCES, "worker", name, "state", "busy", health->instances_busy);
        put(scrape, MR__M_INSTANCES, "worker", name, "state", "starting",
            health->instances_starting);
        put(scrape, MR__M_WORKER_STARTS, "worker", name, NULL, NULL, health->starts);
        put(scrape, MR__M_WORKER_CRASHES, "worker", name, NULL, NULL, health->crashes);
        put_seconds(scrape, MR__M_WORKER_START_SECONDS, "worker", name, NULL, NULL,
                    health->start_ns_last);
    }
}

static void see_subscription(void *context, const struct mr__subscription *subscription)
{
    struct scrape *scrape = context;
    const struct mr_subscription_info *info = &subscription->info;
    const struct mr_counts *counts = &info->counts;
    const char *name = subscription->name;
    const struct {
        enum mr_state state;
        uint64_t count;
    } ended[] = {{MR_STATE_DONE, counts->done},       {MR_STATE_DEAD, counts->dead},
                 {MR_STATE_DROPPED, counts->dropped}, {MR_STATE_EXPIRED, counts->expired},
                 {MR_STATE_LOST, counts->lost}},
      open[] = {{MR_STATE_HELD, counts->held},
                {MR_STATE_WAITING, counts->waiting},
                {MR_STATE_IN_FLIGHT, counts->in_flight}};
    put(scrape, MR__M_MATCHED, "subscription", name, NULL, NULL, counts->matched);
    for (size_t i = 0; i < MR_ARRAY_COUNT(ended); i++) {
        put(scrape, MR__M_DELIVERIES, "subscription", name, "state", mr_state_text(ended[i].state),
            ended[i].count);
    }
    for (size_t i = 0; i < MR_ARRAY_COUNT(open); i++) {
        put(scrape, MR__M_QUEUE, "subscription", name, "state", mr_state_text(open[i].state),
            open[i].count);
    }
    for (int verdict = MR_VERDICT_OK; verdict < MR_VERDICT_MAX; verdict++) {
        put(scrape, MR__M_ATTEMPTS, "subscription", name, "verdict",
            mr_verdict_text((enum mr_verdict)verdict), info->attempts[verdict]);
    }
    for (int reason = MR_BLOCKED_NOTHING + 1; reason < MR_BLOCKED_MAX; reason++) {
        if (info->blocked[reason] > 0) {
            put(scrape, MR__M_BLOCKED, "subscription", name, "blocked_on",
                mr_blocked_text((enum mr_blocked_on)reason), info->blocked[reason]);
        }
    }
    put_histogram(scrape, MR__M_DELIVERY_SECONDS, name, &info->delivery_time);
    put_histogram(scrape, MR__M_ATTEMPT_SECONDS, name, &info->attempt_time);
    put_seconds(scrape, MR__M_QUEUE_AGE, "subscription", name, NULL, NULL,
                info->oldest_age_ns);
    put(scrape, MR__M_QUEUE_BEHIND, "subscription", name, NULL, NULL, info->behind);
    put(scrape, MR__M_DEAD_LETTERS, "subscription", name, NULL, NULL, info->dead_letters);
    put(scrape, MR__M_SHED, "subscription", name, NULL, NULL, info->shed);
    put(scrape, MR__M_PAUSED, "subscription", name, NULL, NULL, info->paused);
    put(scrape, MR__M_RETURNED, "subscription", name, NULL, NULL, info->returned);
}

static void see_fanout(void *context, const struct mr__fanout_seen *fanout)
{
    struct scrape *scrape = context;
    const struct mr_fanout_info *info = &fanout->info;
    put(scrape, MR__M_FANOUTS_OPEN, "fanout", info->name, NULL, NULL, info->open);
    put(scrape, MR__M_FANOUTS, "fanout", info->name, "complete", "true", info->complete);
    put(scrape, MR__M_FANOUTS, "fanout", info->name, "complete", "false", info->incomplete);
}

static void see_target(void *context, const struct mr__target *target)
{
    struct scrape *scrape = context;
    const struct mr_target_info *info = &target->info;
    put(scrape, MR__M_TARGET_SLOTS, "target", target->name, NULL, NULL, info->slots);
    put(scrape, MR__M_TARGET_IN_FLIGHT, "target", target->name, NULL, NULL, info->in_flight);
    put(scrape, MR__M_TARGET_QUEUED, "target", target->name, NULL, NULL, info->queued);
    put(scrape, MR__M_BREAKER, "target", target->name, NULL, NULL, info->breaker_open);
}

static void see_usage(void *context, const struct mr_usage *usage)
{
    struct scrape *scrape = context;
    const char *name = usage->subscription_name;
    const char *worker = usage->worker_name;
    const struct {
        enum mr__family_id id;
        uint64_t value;
    } samples[] = {{MR__M_USAGE_INVOCATIONS, usage->invocations},
                   {MR__M_USAGE_UNITS, usage->busy_units},
                   {MR__M_USAGE_IN, usage->bytes_in},
                   {MR__M_USAGE_OUT, usage->bytes_out}};
    for (size_t i = 0; i < MR_ARRAY_COUNT(samples); i++) {
        put(scrape, samples[i].id, "subscription", name, "worker", worker, samples[i].value);
    }
    put_seconds(scrape, MR__M_USAGE_BUSY, "subscription", name, "worker", worker, usage->busy_ns);
}

static void see_jq(void *context, bool is_source, const char *name,
                   const struct mr_jq_counts *counts)
{
    struct scrape *scrape = context;
    const char *label = is_source ? "source" : "subscription";
    put(scrape, MR__M_JQ_RUNS, label, name, NULL, NULL, counts->runs);
    put(scrape, MR__M_JQ_ERRORS, label, name, NULL, NULL, counts->errors);
    put(scrape, MR__M_JQ_KILLS, label, name, NULL, NULL, counts->kills);
    put_seconds(scrape, MR__M_JQ_BUSY, label, name, NULL, NULL, counts->busy_ns);
}

struct whole {
    struct mr_bus_status status;
    bool conserves;
    uint32_t broken;
};

static void ask_whole(void *argument, struct mr_bus *bus, struct mr_now now)
{
    (void)now;
    struct whole *whole = argument;
    mr_bus_status(bus, &whole->status);
    whole->conserves = mr_bus_conserves(bus, &whole->broken);
}

static void put_memory(struct scrape *scrape, struct mr_admin_host *host,
                       const struct mr_bus_status *status)
{
    for (int i = 0; i < MR_BUDGET_MAX; i++) {
        const char *name = mr_budgets[i].name;
        if (mr_budgets[i].counted) {
            put(scrape, MR__M_MEMORY_USED, "budget", name, NULL, NULL, status->memory_used[i]);
        }
        put(scrape, MR__M_MEMORY_MAX, "budget", name, NULL, NULL,
            i == MR_BUDGET_CONNECTORS ? host->ops->connector_bytes(host)
                                      : host->budgets[i].most);
    }
}

static void put_whole(struct mr_admin *admin, struct scrape *scrape, const struct whole *whole)
{
    const struct mr_bus_status *status = &whole->status;
    const struct {
        enum mr__family_id id;
        uint64_t value;
    } samples[] = {
        {MR__M_UNMATCHED, status->unmatched},     {MR__M_LATE, status->late_answers},
        {MR__M_LOST, status->lost_events},        {MR__M_CONSERVATION, whole->conserves},
        {MR__M_LOG_BYTES, status->log_bytes},     {MR__M_LOG_SEGMENTS, status->segments},
        {MR__M_LOG_GROUPS, status->groups_written}, {MR__M_LOG_WRITTEN, status->bytes_written},
        {MR__M_SURVIVOR_BYTES, status->survivor_bytes},
        {MR__M_SCRUBBED, status->scrub_ended_wall_ns / MR_SECOND},
        {MR__M_ROTTEN, status->rotten},           {MR__M_ROTTEN_FOUND, status->rotten_found},
        {MR__M_ROTTEN_LOST, status->rotten_deliveries},
        {MR__M_SURVIVORS_COPIED, status->survivors_copied},
        {MR__M_CHECKPOINTS, status->checkpoints}, {MR__M_LOG_FAULTY, status->faulty},
        {MR__M_LOG_SLOW, status->slow},           {MR__M_CLOCK_FROZEN, status->clock_frozen},
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(samples); i++) {
        put(scrape, samples[i].id, NULL, NULL, NULL, NULL, samples[i].value);
    }
    put_memory(scrape, admin->host, status);
    if (admin->host->mirror != NULL) {
        struct mr_mirror_status mirror;
        mr_io_mirror_status(admin->host->mirror, &mirror);
        put(scrape, MR__M_LOG_MIRROR, NULL, NULL, NULL, NULL, !mirror.alone);
        put(scrape, MR__M_LOG_REPAIRED, NULL, NULL, NULL, NULL, mirror.repaired);
    }
    if (!whole->conserves) {
        const char *name = mr__subscription_name(admin, whole->broken);
        MR_ERROR("admin", "subscription=%s msg=\"its counts do not add up\"",
                 name == NULL ? "?" : name);
    }
}

/* Subscriptions without sql cannot fail, and have no sample until one did. */
static void put_failures(struct mr_admin *admin, struct scrape *scrape)
{
    const struct mr_router *router;
    const struct mr_config *config = admin->host->ops->config(admin->host, &router);
    for (uint32_t i = 0; config != NULL && i < config->subscription_count; i++) {
        uint64_t failures = mr_router_failures(router, i);
        if (failures > 0) {
            put(scrape, MR__M_FILTER_FAILURES, "subscription", config->subscriptions[i].name,
                NULL, NULL, failures);
        }
    }
    if (config != NULL) {
        admin->host->ops->config_release(admin->host, config);
    }
}

static void put_process(struct mr_admin *admin, struct scrape *scrape)
{
    char why_not[MR_ERROR_TEXT_MAX];
    put(scrape, MR__M_READY, NULL, NULL, NULL, NULL,
        admin->host->ops->is_ready(admin->host, why_not, sizeof(why_not)));
    put(scrape, MR__M_BUILD, "version", MR_VERSION, NULL, NULL, 1);
    put_seconds(scrape, MR__M_START_TIME, NULL, NULL, NULL, NULL,
                admin->host->started_wall_ns);
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) == 0) {
        uint64_t us = (uint64_t)usage.ru_utime.tv_usec + (uint64_t)usage.ru_stime.tv_usec;
        uint64_t s = (uint64_t)usage.ru_utime.tv_sec + (uint64_t)usage.ru_stime.tv_sec;
        put_seconds(scrape, MR__M_CPU, NULL, NULL, NULL, NULL, s * MR_SECOND + us * MR_US);
    }
    char *text = NULL;
    if (mr_file_read("/proc/self/statm", MR_KIB, &text, NULL) == MR_OK) {
        const char *second = strchr(text, ' ');
        uint64_t pages = 0;
        if (second != NULL &&
            mr_parse_u64(mr_bytes(second + 1, strcspn(second + 1, " ")), &pages)) {
            put(scrape, MR__M_RSS, NULL, NULL, NULL, NULL, pages * (uint64_t)sysconf(_SC_PAGESIZE));
        }
    }
    mr_free(text);
}

/* --- the exposition --------------------------------------------------------------------------- */

static void put_family(struct scrape *scrape, enum mr__family_id id, bool plain, struct mr_buf *out)
{
    const struct mr__family *family = &mr__families[id];
    /* The older format names a counter's family by its sample. */
    const char *suffix = plain && is_counter(id) ? "_total" : "";
    keep(scrape, mr_buf_printf(out, "# TYPE %s%s %s\n", family->name, suffix, family->type));
    if (family->unit != NULL && !plain) {
        keep(scrape, mr_buf_printf(out, "# UNIT %s %s\n", family->name, family->unit));
    }
    keep(scrape, mr_buf_printf(out, "# HELP %s%s %s\n", family->name, suffix, family->help));
    keep(scrape, mr_buf_append_bytes(out, mr_buf_bytes(&scrape->families[id])));
    mr_buf_release(&scrape->families[id]);
}

static bool contains(struct mr_bytes text, struct mr_bytes part)
{
    for (size_t at = 0; at + part.size <= text.size; at++) {
        if (mr_bytes_equal_nocase(mr_bytes(text.data + at, part.size), part)) {
            return true;
        }
    }
    return false;
}

void mr__get_metrics(struct mr_admin *admin, struct mr__call *call)
{
    struct whole whole = {.conserves = true};
    if (!mr__ask(admin, call, ask_whole, &whole)) {
        return;
    }
    struct mr_bytes accept = mr_http_request_header(call->http, "accept");
    bool plain = contains(accept, MR_BYTES_LITERAL("text/plain")) &&
                 !contains(accept, MR_BYTES_LITERAL("openmetrics"));
    struct scrape scrape = {.status = MR_OK};
    for (int id = 0; id < MR__FAMILY_MAX; id++) {
        mr_buf_init(&scrape.families[id], FAMILY_SIZE_MAX);
    }
    keep(&scrape, mr__source_infos(admin, &scrape.sources, &scrape.source_count));
    admin->host->ops->instances(admin->host, see_instance, &scrape);
    keep(&scrape, mr__each_subscription(admin, see_subscription, &scrape));
    keep(&scrape, mr__each_target(admin, see_target, &scrape));
    keep(&scrape, mr__each_fanout(admin, see_fanout, &scrape));
    mr_free(scrape.sources);
    admin->host->ops->usage(admin->host, see_usage, &scrape);
    admin->host->ops->jq(admin->host, see_jq, &scrape);
    put_whole(admin, &scrape, &whole);
    put_failures(admin, &scrape);
    put_process(admin, &scrape);
    struct mr_buf out;
    mr_buf_init(&out, MR__ANSWER_SIZE_MAX * 4);
    for (int id = 0; id < MR__FAMILY_MAX; id++) {
        put_family(&scrape, (enum mr__family_id)id, plain, &out);
    }
    keep(&scrape, mr_buf_append_text(&out, "# EOF\n"));
    if (scrape.status != MR_OK) {
        mr__answer_status(call, scrape.status, NULL);
    } else {
        mr__answer_text(call, 200,
                        plain ? "text/plain; version=0.0.4; charset=utf-8"
                              : "application/openmetrics-text; version=1.0.0; charset=utf-8",
                        mr_buf_bytes(&out));
    }
    mr_buf_release(&out);
}
