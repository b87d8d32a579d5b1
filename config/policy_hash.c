/* Owns the version of a policy: a hash of everything that shapes deliveries. */
#include <inttypes.h>

#include "config/builder.h"
#include "core/hash.h"

#define HASH_TEXT_MAX (4u * MR_CONFIG_SIZE_MAX)

static enum mr_status hash_destinations(const struct mr_config *config, const char *key,
                                        const struct mr_destination *destinations, uint32_t count,
                                        struct mr_buf *buf)
{
    enum mr_status r = MR_OK;
    for (uint32_t i = 0; i < count && r == MR_OK; i++) {
        r = mr_buf_printf(buf, "%s %s\n", key,
                          destinations[i].is_bus ? "bus"
                                                 : config->targets[destinations[i].target].name);
    }
    return r;
}

static enum mr_status hash_priority(const struct mr_priority_config *priority,
                                    struct mr_buf *buf)
{
    enum mr_status r = mr_buf_printf(buf, "priority %d %s %u %" PRIu64, priority->by,
                                     priority->key == NULL ? "" : priority->key, priority->level,
                                     priority->step_ns);
    for (uint32_t i = 0; i < priority->value_count && r == MR_OK; i++) {
        r = mr_buf_printf(buf, " %016" PRIx64 " %u", priority->values[i].hash,
                          priority->values[i].level);
    }
    return r == MR_OK ? mr_buf_append_byte(buf, '\n') : r;
}

static enum mr_status hash_names(const struct mr_config *config,
                                 const struct mr_subscription_config *subscription,
                                 struct mr_buf *buf)
{
    enum mr_status r = mr_buf_printf(buf, "to %s\n", config->targets[subscription->target].name);
    for (uint32_t i = 0; i < subscription->share_count && r == MR_OK; i++) {
        r = mr_buf_printf(buf, "share %016" PRIx64 "\n", subscription->shares[i].hash);
    }
    if (r == MR_OK && subscription->lane_concurrency > 1) {
        r = mr_buf_printf(buf, "lane concurrency %u\n", subscription->lane_concurrency);
    }
    if (r == MR_OK && subscription->priority != NULL) {
        r = hash_priority(subscription->priority, buf);
    }
    for (uint32_t i = 0; i < subscription->source_count && r == MR_OK; i++) {
        r = mr_buf_printf(buf, "source %s\n", config->sources[subscription->sources[i]].name);
    }
    for (uint32_t i = 0; i < subscription->limit_count && r == MR_OK; i++) {
        r = mr_buf_printf(buf, "limit %s\n", config->limits[subscription->limits[i]].name);
    }
    if (r == MR_OK) {
        r = mr_buf_printf(buf, "filter %s\n%scancel_on %s\n", subscription->filter_json,
                          subscription->is_default ? "default\n" : "",
                          subscription->cancel_on == NULL ? "-" : subscription->cancel_on);
    }
    if (r == MR_OK && subscription->batch_max > 0) {
        r = mr_buf_printf(buf, "batch %u %" PRIu64 " %" PRIu64 " %d %s\n", subscription->batch_max,
                          subscription->batch_size, subscription->batch_window_ns,
                          subscription->batch_by,
                          subscription->batch_key == NULL ? "" : subscription->batch_key);
    }
    if (r == MR_OK && subscription->shed_max > 0) {
        r = mr_buf_printf(buf, "shed %u %u %d\n", subscription->shed_max, subscription->shed_to,
                          (int)subscription->shed_newest);
    }
    if (r == MR_OK && subscription->dead_holds) {
        r = mr_buf_printf(buf, "lane_on_dead hold\n");
    }
    if (r == MR_OK && subscription->transform_json != NULL) {
        r = mr_buf_printf(buf, "transform %s\n", subscription->transform_json);
    }
    if (r == MR_OK) {
        r = hash_destinations(config, "on_success", subscription->on_success,
                              subscription->on_success_count, buf);
    }
    if (r == MR_OK) {
        r = hash_destinations(config, "on_failure", subscription->on_failure,
                              subscription->on_failure_count, buf);
    }
    return r;
}

enum mr_status mr__subscription_hash(const struct mr_config *config,
                                     const struct mr_subscription_config *subscription,
                                     uint64_t *ret_hash)
{
    /* As text with names: the same policy has the same version whatever the order of the file and
     * on whatever machine. */
    struct mr_buf buf;
    mr_buf_init(&buf, HASH_TEXT_MAX);
    const struct mr_retry *retry = &subscription->retry;
    enum mr_status r = mr_buf_printf(
        &buf,
        "order %d %s\nexhausted %d\nafter %" PRIu64 "\ntimeout %" PRIu64 "\nage %" PRIu64
        " %d\nkeep %d busy %d debounce %" PRIu64 "\nconcurrency %u\nwindow %" PRIu64
        "\njitter %d %u\nsteps",
        subscription->order, subscription->order_key == NULL ? "" : subscription->order_key,
        subscription->on_exhausted, subscription->retry_after_max_ns, subscription->timeout_ns,
        subscription->max_age_ns, (int)subscription->max_age_from_time,
        (int)subscription->keep_latest, subscription->when_busy, subscription->debounce_ns,
        subscription->concurrency, subscription->window_size, retry->jitter, retry->jitter_percent);
    for (uint32_t i = 0; i < retry->step_count && r == MR_OK; i++) {
        r = mr_buf_printf(&buf, " %" PRIu64, retry->step_ns[i]);
    }
    for (uint32_t i = 0; subscription->rates != NULL && i < subscription->rates->count; i++) {
        const struct mr_rate *rate = &subscription->rates->items[i];
        r = r == MR_OK ? mr_buf_printf(&buf, " rate %" PRIu64 " %" PRIu64, rate->count,
                                       rate->per_ns)
                       : r;
    }
    if (r == MR_OK) {
        r = mr_buf_append_byte(&buf, '\n');
    }
    if (r == MR_OK) {
        r = hash_names(config, subscription, &buf);
    }
    if (r == MR_OK) {
        *ret_hash = mr_hash(buf.data, buf.size);
    }
    mr_buf_release(&buf);
    return r;
}
