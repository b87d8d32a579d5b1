#include "config/tables.h"

#include <stddef.h>

#define NS_MS 1000000ll
#define NS_S 1000000000ll
#define NS_H (3600ll * NS_S)
#define NS_YEAR (366ll * 24 * NS_H)
#define KIB 1024ll
#define MIB (1024ll * 1024)
#define GIB (1024ll * MIB)

static const char *const sync_words[] = {"always", "interval", "never", NULL};
static const char *const backoff_words[] = {"exponential", "linear", NULL};
static const char *const exhausted_words[] = {"dead", "hold", "drop", NULL};
static const char *const lane_on_dead_words[] = {"continue", "hold", NULL};
static const char *const shed_words[] = {"oldest", "newest", NULL};
static const char *const otherwise_words[] = {"accept", "reject", NULL};
static const char *const keep_words[] = {"all", "latest", NULL};
static const char *const when_busy_words[] = {"queue", "skip", "replace", NULL};
static const char *const egress_words[] = {"public", "any", NULL};
static const char *const max_age_from_words[] = {"arrival", "time", NULL};

#define AT(field) offsetof(struct mr_log_options, field)
static const struct mr_option log_table[] = {
    {.name = "sync", .type = MR_OPTION_ENUM, .at = AT(sync), .default_text = "always",
     .words = sync_words, .flags = MR_OPTION_STARTUP,
     .help = "When a write is made durable: with every group, at an interval, or whenever the "
             "system likes; an acknowledgement promises no more than this."},
    {.name = "sync_interval", .type = MR_OPTION_DURATION, .at = AT(sync_interval_ns),
     .default_text = "100ms", .min = NS_MS, .max = 60 * NS_S, .flags = MR_OPTION_STARTUP,
     .help = "Time between two syncs when `sync` is `interval`."},
    {.name = "segment_size", .type = MR_OPTION_SIZE, .at = AT(segment_size),
     .default_text = "64MiB", .min = MIB, .max = 64 * MIB, .flags = MR_OPTION_STARTUP,
     .help = "Size of one file of the log, a multiple of 1MiB."},
    {.name = "max_size", .type = MR_OPTION_SIZE, .at = AT(max_size), .default_text = "64GiB",
     .min = 2 * MIB,
     .help = "Size of all segments together; at it the sources are slowed, nothing is dropped."},
    {.name = "retain_size", .type = MR_OPTION_SIZE, .at = AT(retain_size), .default_text = "1GiB",
     .help = "How many bytes of settled events are kept for trace and replay, space permitting."},
    {.name = "retain_age", .type = MR_OPTION_DURATION, .at = AT(retain_age_ns),
     .default_text = "24h", .help = "How long settled events are kept for trace and replay."},
    {.name = "disk_low", .type = MR_OPTION_SIZE, .at = AT(disk_low), .default_text = "512MiB",
     .help = "Free space of the disk below which the sources are slowed."},
    {.name = "cache_size", .type = MR_OPTION_SIZE, .at = AT(cache_size), .default_text = "64MiB",
     .min = MIB, .help = "Memory for the newest part of the log."},
    {.name = "checkpoint_size", .type = MR_OPTION_SIZE, .at = AT(checkpoint_size),
     .default_text = "64MiB", .min = MIB,
     .help = "Bytes of log between two checkpoints, which a start has to read again. Where a "
             "checkpoint takes much it is more: 8 times as much as it takes, up to 192MiB, and "
             "twice as much beyond that or while much is on disk for checkpoints alone."},
    {.name = "scrub", .type = MR_OPTION_DURATION, .at = AT(scrub_ns), .default_text = "7d",
     .help = "In this time all finished files of the log are read through once, to find what has "
             "rotted while there is a copy to repair it from, or who sent it to ask; 0: never."},
    {.name = "mirror", .type = MR_OPTION_PATH, .at = AT(mirror), .flags = MR_OPTION_STARTUP,
     .help = "A second folder, on another disk, that all of the log is written to before an event "
             "counts as accepted; what is damaged in one is repaired from the other."},
    MR_OPTION_END,
};
#undef AT

static const struct mr_option memory_table[] = {
    {.name = "state", .type = MR_OPTION_SIZE, .at = offsetof(struct mr_memory_options, state),
     .default_text = "256MiB", .min = MIB, .flags = MR_OPTION_STARTUP,
     .help = "Hard bound of the memory of deliveries, dead letters, dedupe keys and fan-outs, of "
             "which each subscription has a share; what does not fit waits on disk."},
    MR_OPTION_END,
};

#define AT(field) offsetof(struct mr_subscriptions_api_options, field)
static const struct mr_option subscriptions_api_table[] = {
    {.name = "token", .type = MR_OPTION_SECRET, .at = AT(token),
     .help = "Serves it on `listen`, too, to requests with `Authorization: Bearer` and this; "
             "without it the API is on the admin socket alone. To set or remove it takes a "
             "restart, to change it a reload."},
    {.name = "egress", .type = MR_OPTION_ENUM, .at = AT(egress), .default_text = "public",
     .words = egress_words,
     .help = "Where its sinks may be: on the public internet, whatever a name resolves to, or "
             "anywhere: this machine and private networks, too."},
    {.name = "max", .type = MR_OPTION_INT, .at = AT(max), .default_text = "100", .max = 1000,
     .help = "How many subscriptions it may hold; 0: none can be made."},
    MR_OPTION_END,
};
#undef AT

#define AT(field) offsetof(struct mr_top_options, field)
const struct mr_option mr__top_table[] = {
    {.name = "data_dir", .type = MR_OPTION_PATH, .at = AT(data_dir), .default_text = "./data",
     .flags = MR_OPTION_STARTUP, .help = "The folder of the log and of the admin socket."},
    {.name = "listen", .type = MR_OPTION_STRING, .at = AT(listen),
     .default_text = "127.0.0.1:8080", .flags = MR_OPTION_STARTUP, .unit = "host:port",
     .help = "Where ingest, health and metrics are served: a loopback address and a port (0: any "
             "free one), or `off`."},
    {.name = "log", .type = MR_OPTION_BLOCK, .at = AT(log), .block = log_table,
     .help = "The durable log."},
    {.name = "memory", .type = MR_OPTION_BLOCK, .at = AT(memory), .block = memory_table,
     .help = "Bounds of memory."},
    {.name = "event_size_max", .type = MR_OPTION_SIZE, .at = AT(event_size_max),
     .default_text = "1MiB", .min = KIB, .max = MR_EVENT_SIZE_MAX,
     .help = "The largest event taken in, at most a quarter of `log.segment_size`; a source may "
             "set its own."},
    {.name = "hops_max", .type = MR_OPTION_INT, .at = AT(hops_max), .default_text = "16", .min = 1,
     .max = 255,
     .help = "How often an event may go round through the bus before it is taken for a loop."},
    {.name = "drain", .type = MR_OPTION_DURATION, .at = AT(drain_ns), .default_text = "10s",
     .max = NS_H, .help = "How long a stop waits for what is in flight."},
    {.name = "dlq_growth", .type = MR_OPTION_DURATION, .at = AT(dlq_growth_ns),
     .default_text = "0s", .max = 24 * NS_H,
     .help = "When the dead letters of a subscription grow, an event `io.millrace.dlq.growing` "
             "enters, at most one for each such time and subscription; 0s: none."},
    {.name = "target_health", .type = MR_OPTION_DURATION, .at = AT(target_health_ns),
     .default_text = "0s", .max = 24 * NS_H,
     .help = "A worker or sink that is degraded, failing or paused for so long, and one that has "
             "recovered for so long, is told by an event `io.millrace.target.*`; 0s: none."},
    {.name = "subscriptions_api", .type = MR_OPTION_BLOCK, .at = AT(subscriptions_api),
     .block = subscriptions_api_table,
     .help = "The CloudEvents Subscriptions API, /subscriptions."},
    MR_OPTION_END,
};
#undef AT

#define AT(field) offsetof(struct mr_validate_options, field)
static const struct mr_option validate_table[] = {
    {.name = "types", .type = MR_OPTION_JSON, .at = AT(types), .unit = "type: schema",
     .help = "By type, `*` for any other: the path of a JSON Schema (draft-07 or 2020-12), or the "
             "schema itself."},
    {.name = "dataschemas", .type = MR_OPTION_JSON, .at = AT(dataschemas),
     .unit = "dataschema: schema",
     .help = "The same by the attribute dataschema, which goes before the type."},
    {.name = "otherwise", .type = MR_OPTION_ENUM, .at = AT(otherwise), .default_text = "accept",
     .words = otherwise_words, .help = "What becomes of events for which no schema is named."},
    MR_OPTION_END,
};
#undef AT

#define AT(field) offsetof(struct mr_dedupe_options, field)
static const struct mr_option dedupe_table[] = {
    {.name = "window", .type = MR_OPTION_DURATION, .at = AT(window_ns), .default_text = "10m",
     .max = 7 * 24 * NS_H,
     .help = "How long after an event a repeat of it is no new event but answered with the "
             "offset of the first: 1s to 7d; 0s: never, not even with an Idempotency-Key."},
    {.name = "keys", .type = MR_OPTION_INT, .at = AT(keys), .default_text = "100000", .min = 1,
     .max = MR_DEDUPE_KEYS_MAX,
     .help = "How many keys are kept at most, 48 bytes of `memory.state` each; when there are "
             "more, the oldest are forgotten before their time, and counted."},
    MR_OPTION_END,
};
#undef AT

#define AT(field) offsetof(struct mr_source_options, field)
const struct mr_option mr__source_table[] = {
    {.name = "event_size_max", .type = MR_OPTION_SIZE, .at = AT(event_size_max), .min = KIB,
     .max = MR_EVENT_SIZE_MAX,
     .help = "The largest event taken from this source; default: the file's."},
    {.name = "hops_max", .type = MR_OPTION_INT, .at = AT(hops_max), .min = 1, .max = 255,
     .help = "The limit of hops for events of this source; default: the file's."},
    {.name = "paused", .type = MR_OPTION_BOOL, .at = AT(paused), .default_text = "false",
     .help = "Starts paused: nothing is taken in until it is resumed."},
    {.name = "dedupe", .type = MR_OPTION_BLOCK, .at = AT(dedupe), .block = dedupe_table,
     .help = "Takes an event with the `source` and `id` of an earlier one for a repeat of it. "
             "Without this block only http requests with an Idempotency-Key are looked at."},
    {.name = "transform", .type = MR_OPTION_JSON, .at = AT(transform),
     .unit = "{set: …, rename: …, drop: …} or {jq: …, timeout: …}",
     .help = "Changes attributes and JSON data of its events before they are validated, stored and "
             "matched, by rules or by a program in jq that has `timeout` (100ms; 10ms to 10s) of "
             "processor time for each."},
    {.name = "validate", .type = MR_OPTION_BLOCK, .at = AT(validate), .block = validate_table,
     .help = "JSON Schemas that the data of events must obey; other events become dead letters of "
             "`ingest:SOURCE`, with the reason."},
    MR_OPTION_END,
};
#undef AT

#define AT(field) offsetof(struct mr_scale_options, field)
static const struct mr_option scale_table[] = {
    {.name = "min", .type = MR_OPTION_INT, .at = AT(min), .min = 0, .max = MR_INSTANCES_MAX,
     .help = "Instances kept running even when idle; default: 1 for process, 0 for exec."},
    {.name = "max", .type = MR_OPTION_INT, .at = AT(max), .min = 1, .max = MR_INSTANCES_MAX,
     .help = "The most instances; default: 1 for process, 4 for exec, or `min` when that is "
             "larger."},
    {.name = "target", .type = MR_OPTION_INT, .at = AT(target), .min = 1, .max = 65536,
     .help = "Concurrent deliveries wanted for each instance; default: `concurrency`."},
    {.name = "idle", .type = MR_OPTION_DURATION, .at = AT(idle_ns), .default_text = "60s",
     .help = "How long an instance beyond `min` may idle before it is stopped."},
    MR_OPTION_END,
};
#undef AT

#define AT(field) offsetof(struct mr_breaker_options, field)
static const struct mr_option breaker_table[] = {
    {.name = "percent", .type = MR_OPTION_INT, .at = AT(percent), .default_text = "70", .min = 0,
     .max = 100, .unit = "%",
     .help = "Share of failures at which the breaker opens; 0 switches it off."},
    {.name = "calls", .type = MR_OPTION_INT, .at = AT(calls), .default_text = "10", .min = 1,
     .max = 100000, .help = "The least number of attempts within the window to judge by."},
    {.name = "window", .type = MR_OPTION_DURATION, .at = AT(window_ns), .default_text = "5m",
     .min = NS_S, .max = 24 * NS_H, .help = "The time looked back at."},
    {.name = "open", .type = MR_OPTION_DURATION, .at = AT(open_ns), .default_text = "30s",
     .min = NS_MS, .max = 24 * NS_H,
     .help = "How long an open breaker holds deliveries back before one is tried."},
    MR_OPTION_END,
};
#undef AT

#define AT(field) offsetof(struct mr_adaptive_options, field)
static const struct mr_option adaptive_table[] = {
    {.name = "min", .type = MR_OPTION_INT, .at = AT(min), .default_text = "0", .min = 0,
     .max = 65536,
     .help = "What it starts with and never falls below; 0: always all of `concurrency`."},
    {.name = "latency", .type = MR_OPTION_DURATION, .at = AT(latency_ns), .default_text = "0s",
     .max = 24 * NS_H,
     .help = "An answer that takes longer tells of overload, too; 0s: only refusals (429, 503, "
             "nobody there) and timeouts do."},
    MR_OPTION_END,
};
#undef AT

#define AT(field) offsetof(struct mr_target_options, field)
#define TARGET_CONCURRENCY(text)                                                                   \
    {.name = "concurrency", .type = MR_OPTION_INT, .at = AT(concurrency), .min = 1, .max = 65536,  \
     .help = (text)}
#define TARGET_TIMEOUT                                                                             \
    {.name = "timeout", .type = MR_OPTION_DURATION, .at = AT(timeout_ns), .default_text = "30s",   \
     .min = NS_MS, .max = 7 * 24 * NS_H, .help = "The time an attempt has."}
#define TARGET_RATE                                                                                \
    {.name = "rate", .type = MR_OPTION_STRINGS, .at = AT(rate), .unit = "rate or a list of them",  \
     .help = "Attempts of all its subscriptions within any such span of time, at most."}
#define TARGET_BREAKER                                                                             \
    {.name = "breaker", .type = MR_OPTION_BLOCK, .at = AT(breaker), .block = breaker_table,        \
     .help = "Holds deliveries back while most attempts fail, instead of spending them."}
#define TARGET_ADAPTIVE                                                                            \
    {.name = "adaptive", .type = MR_OPTION_BLOCK, .at = AT(adaptive), .block = adaptive_table,     \
     .help = "Finds out how many deliveries at once the target bears, `concurrency` at most."}

const struct mr_option mr__worker_table[] = {
    TARGET_CONCURRENCY("Deliveries one instance works on at once; default: 1 for process and exec, "
                       "32 for http."),
    TARGET_RATE,
    TARGET_TIMEOUT,
    {.name = "max_run", .type = MR_OPTION_DURATION, .at = AT(max_run_ns), .default_text = "1h",
     .min = NS_MS, .max = NS_YEAR,
     .help = "How far heartbeats may extend an attempt beyond its timeout."},
    {.name = "grace", .type = MR_OPTION_DURATION, .at = AT(grace_ns), .default_text = "5s",
     .max = NS_H, .help = "Time between the request to stop and the kill."},
    {.name = "scale", .type = MR_OPTION_BLOCK, .at = AT(scale), .block = scale_table,
     .help = "How many instances run; for process and exec workers."},
    TARGET_BREAKER,
    TARGET_ADAPTIVE,
    MR_OPTION_END,
};

const struct mr_option mr__sink_table[] = {
    TARGET_CONCURRENCY("Deliveries on their way to the sink at once; default: 64, 4000 for kafka."),
    TARGET_RATE,
    TARGET_TIMEOUT,
    TARGET_BREAKER,
    TARGET_ADAPTIVE,
    MR_OPTION_END,
};
#undef AT

#define AT(field) offsetof(struct mr_retry_options, field)
static const struct mr_option retry_table[] = {
    {.name = "schedule", .type = MR_OPTION_STRINGS, .at = AT(schedule),
     .default_text = "[1s, 5s, 30s, 2m, 10m, 30m, 1h, 2h]",
     .help = "The waits between the attempts, spelled out, at most 64; not together with "
             "`backoff`."},
    {.name = "attempts", .type = MR_OPTION_INT, .at = AT(attempts), .default_text = "5", .min = 1,
     .max = MR_RETRY_STEPS_MAX + 1,
     .help = "Attempts altogether when waits are computed; 1 means no retry."},
    {.name = "backoff", .type = MR_OPTION_ENUM, .at = AT(backoff), .default_text = "exponential",
     .words = backoff_words,
     .help = "How computed waits grow: by `factor` each time, or by `initial` each time."},
    {.name = "initial", .type = MR_OPTION_DURATION, .at = AT(initial_ns), .default_text = "1s",
     .min = NS_MS, .max = NS_YEAR, .help = "The first computed wait."},
    {.name = "factor", .type = MR_OPTION_INT, .at = AT(factor), .default_text = "2", .min = 1,
     .max = 100, .help = "What an exponential wait is multiplied by."},
    {.name = "max", .type = MR_OPTION_DURATION, .at = AT(max_ns), .default_text = "5m",
     .min = NS_MS, .max = NS_YEAR, .help = "The longest computed wait."},
    {.name = "jitter", .type = MR_OPTION_STRING, .at = AT(jitter), .default_text = "20%",
     .unit = "none, full or N%",
     .help = "How a wait is spread: not at all, over 0 to the wait, or by up to N percent either "
             "way."},
    MR_OPTION_END,
};
#undef AT

#define AT(field) offsetof(struct mr_batch_options, field)
static const struct mr_option batch_table[] = {
    {.name = "max", .type = MR_OPTION_INT, .at = AT(max), .default_text = "100", .min = 1,
     .max = 10000, .help = "Deliveries in a batch, at most."},
    {.name = "bytes", .type = MR_OPTION_SIZE, .at = AT(size), .default_text = "1MiB", .min = KIB,
     .max = 4 * 1024 * KIB,
     .help = "Bytes of their events, at most; one that is larger goes by itself."},
    {.name = "window", .type = MR_OPTION_DURATION, .at = AT(window_ns), .default_text = "200ms",
     .max = NS_H, .help = "How long the first one waits for others; 0: for none."},
    {.name = "by", .type = MR_OPTION_STRING, .at = AT(by), .default_text = "none",
     .unit = "none, an attribute or data.PATH",
     .help = "Only deliveries with the same value of this go together."},
    MR_OPTION_END,
};
#undef AT

#define AT(field) offsetof(struct mr_shed_options, field)
static const struct mr_option shed_table[] = {
    {.name = "max", .type = MR_OPTION_INT, .at = AT(max), .min = 1, .max = 1000000000,
     .help = "How many may wait: not handed out, not held; those on disk count."},
    {.name = "to", .type = MR_OPTION_INT, .at = AT(to), .min = 0, .max = 999999999,
     .help = "How many wait when it is done, fewer than `max`; default: 90 % of it."},
    {.name = "drop", .type = MR_OPTION_ENUM, .at = AT(drop), .default_text = "oldest",
     .words = shed_words, .help = "Which of those that wait go first."},
    MR_OPTION_END,
};
#undef AT

#define AT(field) offsetof(struct mr_limit_options, field)
const struct mr_option mr__limit_table[] = {
    {.name = "concurrency", .type = MR_OPTION_INT, .at = AT(concurrency), .default_text = "0",
     .min = 0, .max = 65536,
     .help = "Deliveries in flight at once, of all that share it; 0: any number."},
    {.name = "rate", .type = MR_OPTION_STRINGS, .at = AT(rate), .unit = "rate or a list of them",
     .help = "Attempts within any such span of time, of all that share it; with a list, each "
             "holds."},
    MR_OPTION_END,
};
#undef AT

#define AT(field) offsetof(struct mr_return_options, field)
static const struct mr_option return_table[] = {
    {.name = "percent", .type = MR_OPTION_INT, .at = AT(percent), .default_text = "0", .min = 0,
     .max = 100, .unit = "%",
     .help = "Share of failures at which its weight goes to the others, until the subscription is "
             "resumed or its targets are changed; 0: never."},
    {.name = "calls", .type = MR_OPTION_INT, .at = AT(calls), .default_text = "20", .min = 1,
     .max = 100000, .help = "The least number of attempts within the window to judge by."},
    {.name = "window", .type = MR_OPTION_DURATION, .at = AT(window_ns), .default_text = "5m",
     .min = NS_S, .max = 24 * NS_H, .help = "The time looked back at."},
    MR_OPTION_END,
};
#undef AT

#define AT(field) offsetof(struct mr_share_options, field)
const struct mr_option mr__share_table[] = {
    {.name = "worker", .type = MR_OPTION_STRING, .at = AT(worker),
     .help = "A worker that receives a share of the deliveries; this or sink."},
    {.name = "sink", .type = MR_OPTION_STRING, .at = AT(sink), .help = "The same for a sink."},
    {.name = "weight", .type = MR_OPTION_INT, .at = AT(weight), .default_text = "1", .min = 0,
     .max = 1000000, .help = "Its share, of the sum of all weights."},
    {.name = "return", .type = MR_OPTION_BLOCK, .at = AT(back), .block = return_table,
     .help = "When its weight goes back to the others by itself."},
    MR_OPTION_END,
};
#undef AT

#define AT(field) offsetof(struct mr_priority_options, field)
static const struct mr_option priority_table[] = {
    {.name = "by", .type = MR_OPTION_STRING, .at = AT(by), .default_text = "none",
     .unit = "none, an attribute or data.PATH", .help = "What of the event says its level."},
    {.name = "levels", .type = MR_OPTION_PAIRS, .at = AT(levels), .unit = "value: level",
     .help = "Which value has which level, 0 to 9; left out, the value is the level."},
    {.name = "level", .type = MR_OPTION_INT, .at = AT(level), .default_text = "0", .min = 0,
     .max = MR_PRIORITY_MAX, .help = "The level of every other event."},
    {.name = "step", .type = MR_OPTION_DURATION, .at = AT(step_ns), .default_text = "1m",
     .min = NS_MS, .max = 24 * NS_H,
     .help = "For each level a delivery goes as if it had been ready so much earlier; one of a "
             "lower level that waited longer than that goes first."},
    MR_OPTION_END,
};
#undef AT

#define AT(field) offsetof(struct mr_subscription_options, field)
const struct mr_option mr__subscription_table[] = {
    {.name = "source", .type = MR_OPTION_STRINGS, .at = AT(source),
     .help = "The source or sources whose events it takes; default: every source."},
    {.name = "filter", .type = MR_OPTION_JSON, .at = AT(filter), .default_text = "[]",
     .flags = MR_OPTION_TEXTUAL,
     .help = "A CloudEvents Subscriptions filter, or a list of which all must match; dialects: "
             "exact, prefix, suffix, all, any, not, sql, data; default: every event."},
    {.name = "default", .type = MR_OPTION_BOOL, .at = AT(is_default), .default_text = "false",
     .help = "It takes the events that no other subscription takes, as far as its own filter and "
             "sources let it."},
    {.name = "to", .type = MR_OPTION_STRING, .at = AT(to), .flags = MR_OPTION_REQUIRED,
     .block = mr__share_table,
     .unit = "a name, or a list of {worker: NAME, weight: N}",
     .help = "The worker or sink that receives the deliveries; or several, each with a weight: "
             "events of one value of order_by go to the same."},
    {.name = "transform", .type = MR_OPTION_JSON, .at = AT(transform),
     .unit = "{set: …, rename: …, drop: …} or {jq: …, timeout: …}",
     .help = "Changes attributes and JSON data of the event as the target gets it, as for a "
             "source; the log keeps it as it came."},
    {.name = "order_by", .type = MR_OPTION_STRING, .at = AT(order_by), .default_text = "none",
     .unit = "none, an attribute or data.PATH",
     .help = "Deliveries with the same value of this are made one after another, in order."},
    {.name = "lane_concurrency", .type = MR_OPTION_INT, .at = AT(lane_concurrency),
     .default_text = "1", .min = 1, .max = MR_LANE_CONCURRENCY_MAX,
     .help = "How many with the same value of order_by may be made side by side; they begin in "
             "order."},
    {.name = "priority", .type = MR_OPTION_BLOCK, .at = AT(priority), .block = priority_table,
     .help = "Which of what is ready goes first, here and among the subscriptions of a target; "
             "left out: what was ready first."},
    {.name = "keep", .type = MR_OPTION_ENUM, .at = AT(keep), .default_text = "all",
     .words = keep_words,
     .help = "Of those that wait with the same value of order_by, all of them or the latest only; "
             "the others are dropped."},
    {.name = "when_busy", .type = MR_OPTION_ENUM, .at = AT(when_busy), .default_text = "queue",
     .words = when_busy_words,
     .help = "What an event does that comes while an earlier one with the same value of order_by "
             "is not settled: it waits, is dropped, or replaces it: what runs is cancelled and "
             "dropped."},
    {.name = "debounce", .type = MR_OPTION_DURATION, .at = AT(debounce_ns), .default_text = "0",
     .max = 7 * 24 * NS_H,
     .help = "With the same value of order_by, only the latest is delivered, when no other came "
             "for so long; 0: each at once."},
    {.name = "cancel_on", .type = MR_OPTION_JSON, .at = AT(cancel_on), .flags = MR_OPTION_TEXTUAL,
     .help = "A filter as in filter: an event that passes it drops what came before it with the "
             "same value of order_by and is not settled; what runs is cancelled. It is not "
             "delivered itself unless it passes filter, too."},
    {.name = "retry", .type = MR_OPTION_BLOCK, .at = AT(retry), .block = retry_table,
     .help = "When a failed attempt is made again."},
    {.name = "on_exhausted", .type = MR_OPTION_ENUM, .at = AT(on_exhausted),
     .default_text = "dead", .words = exhausted_words,
     .help = "What follows the last attempt: the dead-letter queue; holding the delivery (and its "
             "lane) until somebody decides; or dropping it, for what may be missed."},
    {.name = "lane_on_dead", .type = MR_OPTION_ENUM, .at = AT(lane_on_dead),
     .default_text = "continue", .words = lane_on_dead_words,
     .help = "What becomes of the later ones with the same value of order_by when one would be "
             "dead, whatever for: they go on without it; or it is held instead, so that they wait "
             "behind it until it is resumed or skipped."},
    {.name = "retry_after_max", .type = MR_OPTION_DURATION, .at = AT(retry_after_max_ns),
     .default_text = "1h",
     .help = "The longest wait a target may ask for with Retry-After or `after`."},
    {.name = "timeout", .type = MR_OPTION_DURATION, .at = AT(timeout_ns), .max = 7 * 24 * NS_H,
     .help = "The time an attempt has; default: the target's."},
    {.name = "max_age", .type = MR_OPTION_DURATION, .at = AT(max_age_ns), .default_text = "0",
     .help = "A delivery older than this expires; 0: never."},
    {.name = "max_age_from", .type = MR_OPTION_ENUM, .at = AT(max_age_from),
     .default_text = "arrival", .words = max_age_from_words,
     .help = "Whether age counts from the event's arrival or from its time attribute."},
    {.name = "concurrency", .type = MR_OPTION_INT, .at = AT(concurrency), .default_text = "0",
     .min = 0, .max = 65536,
     .help = "Deliveries in flight at once; 0: as many as the target takes."},
    {.name = "rate", .type = MR_OPTION_STRINGS, .at = AT(rate), .unit = "rate or a list of them",
     .help = "Attempts within any such span of time, at most; with a list, each holds."},
    {.name = "limits", .type = MR_OPTION_STRINGS, .at = AT(limits),
     .help = "Names from the section `limits`; subscriptions that name the same one share it."},
    {.name = "window", .type = MR_OPTION_SIZE, .at = AT(window_size), .default_text = "16MiB",
     .min = 64 * KIB, .max = 16 * GIB,
     .help = "Memory for its unsettled deliveries; more of them wait on disk."},
    {.name = "shed", .type = MR_OPTION_BLOCK, .at = AT(shed), .block = shed_table,
     .help = "When more than `max` wait, drops some of them, and tells so with an event "
             "`io.millrace.subscription.shed`; without it all wait, on disk when there are many."},
    {.name = "batch", .type = MR_OPTION_BLOCK, .at = AT(batch), .block = batch_table,
     .help = "Several deliveries are handed out together, to a process worker that takes batches "
             "or over http; `{}` is a batch with the defaults."},
    {.name = "shadow", .type = MR_OPTION_STRING, .at = AT(shadow),
     .help = "A worker that gets a copy of every delivery, to be compared with `to`: what it says "
             "has no effect. It shows as NAME/shadow."},
    {.name = "on_success", .type = MR_OPTION_STRINGS, .at = AT(on_success),
     .help = "Sinks, or `bus`, that are told of every delivery that ended well."},
    {.name = "on_failure", .type = MR_OPTION_STRINGS, .at = AT(on_failure),
     .help = "Sinks, or `bus`, that are told of every delivery that ended dead or expired."},
    MR_OPTION_END,
};
#undef AT

#define AT(field) offsetof(struct mr_fanout_options, field)
const struct mr_option mr__fanout_table[] = {
    {.name = "of", .type = MR_OPTION_STRINGS, .at = AT(of), .flags = MR_OPTION_REQUIRED,
     .help = "The subscriptions whose ends it waits for; `merchant-*` takes all whose names begin "
             "so. Of those, the ones that an event matches; each belongs to one fan-out at most."},
    {.name = "within", .type = MR_OPTION_DURATION, .at = AT(within_ns), .default_text = "24h",
     .min = NS_MS, .max = NS_YEAR,
     .help = "How long it waits after the event came; then it tells what has not ended, too."},
    MR_OPTION_END,
};
#undef AT

const struct mr_section mr__sections[MR_SECTION_MAX] = {
    [MR_SECTION_SOURCES] = {"sources", "source", "Where events come from.", mr__source_table},
    [MR_SECTION_WORKERS] = {"workers", "worker", "What handles events.", mr__worker_table},
    [MR_SECTION_SINKS] = {"sinks", "sink", "Where events are sent to.", mr__sink_table},
    [MR_SECTION_LIMITS] = {"limits", "limit",
                           "What several subscriptions may do at most together, such as calls of "
                           "an interface that counts them.",
                           mr__limit_table},
    [MR_SECTION_SUBSCRIPTIONS] = {"subscriptions", "subscription",
                                  "Which events go where, and with which delivery policy.",
                                  mr__subscription_table},
    [MR_SECTION_FANOUTS] = {"fanouts", "fan-out",
                            "Subscriptions that end together: when all of those that an event "
                            "matched have ended, one event of the type "
                            "`io.millrace.fanout.completed` tells how.",
                            mr__fanout_table},
};

const struct mr_config_kind *mr__section_kinds(const struct mr_config_kinds *kinds,
                                               enum mr_section_index section)
{
    switch (section) {
    case MR_SECTION_SOURCES:
        return kinds->sources;
    case MR_SECTION_WORKERS:
        return kinds->workers;
    case MR_SECTION_SINKS:
        return kinds->sinks;
    case MR_SECTION_LIMITS:
    case MR_SECTION_SUBSCRIPTIONS:
    case MR_SECTION_FANOUTS:
    case MR_SECTION_MAX:
        break;
    }
    return NULL;
}

const struct mr_option *mr__kind_options(const struct mr_config_kind *kind)
{
    static const struct mr_option none[] = {MR_OPTION_END};
    return kind->options == NULL ? none : kind->options;
}
