/* Owns `millrace explain`: the effective policy of one subscription in plain words. */
#include "config/config.h"

#include "config/option_value.h"
#include "core/assert.h"

/* Appends to @p out until something fails; the first failure stays. */
struct words {
    struct mr_buf *out;
    enum mr_status status;
};

static void say(struct words *words, const char *text)
{
    if (words->status == MR_OK) {
        words->status = mr_buf_append_text(words->out, text);
    }
}

static void say_duration(struct words *words, uint64_t ns)
{
    if (words->status == MR_OK) {
        words->status = mr_format_duration(ns, words->out);
    }
}

static void say_count(struct words *words, uint64_t count, const char *one, const char *many)
{
    if (words->status == MR_OK) {
        words->status = mr_buf_printf(words->out, "%llu %s", (unsigned long long)count,
                                      count == 1 ? one : many);
    }
}

static const char *kind_of(const struct mr_target_config *target)
{
    return target->is_worker ? "worker" : "sink";
}

static void say_sources(struct words *words, const struct mr_config *config,
                        const struct mr_subscription_config *subscription)
{
    if (subscription->hidden) {
        say(words, "It carries the outcomes of another subscription's deliveries.\n");
        return;
    }
    say(words, "It takes events from ");
    if (subscription->source_count == 0) {
        say(words, "every source");
    }
    for (uint32_t i = 0; i < subscription->source_count; i++) {
        if (i == 0) {
            say(words, subscription->source_count == 1 ? "the source " : "the sources ");
        } else {
            say(words, i + 1 == subscription->source_count ? " and " : ", ");
        }
        say(words, config->sources[subscription->sources[i]].name);
    }
    if (strcmp(subscription->filter_json, "[]") == 0) {
        say(words, ", all of them.\n");
    } else {
        say(words, ", those that pass the filter ");
        say(words, subscription->filter_json);
        say(words, ".\n");
    }
    if (subscription->is_default) {
        say(words, "It is a default: of those it gets only what no other subscription takes.\n");
    }
    say(words, "When it is new, it begins with events from then on.\n");
}

static void say_rates(struct words *words, const char *whose, const struct mr_rates *rates)
{
    for (uint32_t i = 0; rates != NULL && i < rates->count; i++) {
        say(words, i == 0 ? whose : " and");
        say(words, i == 0 ? ", at most " : " ");
        say_count(words, (uint32_t)rates->items[i].count, "attempt", "attempts");
        say(words, " within any ");
        say_duration(words, rates->items[i].per_ns);
    }
    if (rates != NULL) {
        say(words, ".\n");
    }
}

static void say_target(struct words *words, const struct mr_target_config *target,
                       const struct mr_subscription_config *subscription)
{
    say(words, "Each becomes a delivery to ");
    if (subscription->share_count > 1) {
        say(words, "one of several targets; what is said of the target below is so of the first, ");
    } else {
        say(words, "the ");
        say(words, kind_of(target));
        say(words, " ");
    }
    say(words, target->name);
    say(words, " (");
    say(words, target->kind->name);
    say(words, ")");
    if (subscription->concurrency > 0) {
        say(words, ", at most ");
        say_count(words, subscription->concurrency, "delivery", "deliveries");
        say(words, " in flight at once");
    }
    say(words, ".\n");
    say_rates(words, "Of this subscription", subscription->rates);
    say_rates(words, "To this target, of all subscriptions", target->rates);
}

static void say_batch(struct words *words, const struct mr_subscription_config *subscription)
{
    if (subscription->batch_max == 0) {
        return;
    }
    say(words, "They are handed out in batches of up to ");
    say_count(words, subscription->batch_max, "delivery", "deliveries");
    say(words, " and ");
    say_count(words, subscription->batch_size, "byte", "bytes");
    if (subscription->batch_key != NULL) {
        say(words, " with the same ");
        say(words, subscription->batch_by == MR_ORDER_DATA ? "data." : "");
        say(words, subscription->batch_key);
    }
    if (subscription->batch_window_ns > 0) {
        say(words, "; the first waits up to ");
        say_duration(words, subscription->batch_window_ns);
        say(words, " for the others");
    }
    say(words, ". A batch counts as one where deliveries in flight and rates are counted. One that "
               "fails as a whole costs no attempt and goes again in halves, down to one "
               "alone.\n");
}

static void say_limits(struct words *words, const struct mr_config *config,
                       const struct mr_subscription_config *subscription)
{
    for (uint32_t i = 0; i < subscription->limit_count; i++) {
        const struct mr_limit_config *limit = &config->limits[subscription->limits[i]];
        say(words, "With all that share the limit ");
        say(words, limit->name);
        if (limit->concurrency > 0) {
            say(words, ", at most ");
            say_count(words, limit->concurrency, "delivery", "deliveries");
            say(words, " in flight at once");
        }
        if (limit->rates != NULL) {
            say_rates(words, "", limit->rates);
        } else {
            say(words, ".\n");
        }
    }
}

static void say_fanout(struct words *words, const struct mr_config *config,
                       const struct mr_subscription_config *subscription)
{
    if (subscription->fanout == 0) {
        return;
    }
    const struct mr_fanout_config *fanout = &config->fanouts[subscription->fanout - 1];
    say(words, "How each event ended here is told together with the others of the fan-out ");
    say(words, fanout->name);
    say(words, ", as the event io.millrace.fanout.completed, after ");
    say_duration(words, fanout->within_ns);
    say(words, " at the latest.\n");
}

static void say_order(struct words *words, const struct mr_subscription_config *subscription)
{
    if (subscription->order == MR_ORDER_NONE) {
        say(words, "Deliveries are made in no particular order.\n");
        return;
    }
    say(words, "Deliveries with the same ");
    say(words, subscription->order == MR_ORDER_DATA ? "data." : "");
    say(words, subscription->order_key);
    if (subscription->lane_concurrency > 1) {
        say(words, " begin in the order of arrival, up to ");
        say_count(words, subscription->lane_concurrency, "of them", "of them");
        say(words, " side by side; one that waits to be retried keeps its place.\n");
    } else {
        say(words, " are made one after another in the order of arrival; one that waits to be "
                   "retried holds back only those behind it with the same value.\n");
    }
    if (subscription->debounce_ns > 0) {
        say(words, "Of each value only the latest is delivered, once no other came for ");
        say_duration(words, subscription->debounce_ns);
        say(words, "; the others are dropped.\n");
    } else if (subscription->keep_latest) {
        say(words, "Of those of a value that wait, the latest is kept; the others are dropped.\n");
    }
    if (subscription->when_busy == MR_BUSY_SKIP) {
        say(words, "What comes while one of the same value is not settled is dropped.\n");
    } else if (subscription->when_busy == MR_BUSY_REPLACE) {
        say(words, "What comes while one of the same value runs replaces it: that one is "
                   "cancelled and dropped.\n");
    }
    if (subscription->cancel_on != NULL) {
        say(words, "An event that passes ");
        say(words, subscription->cancel_on);
        say(words, " drops what came before it with the same value and is not settled; what runs "
                   "is cancelled.\n");
    }
}

static void say_shed(struct words *words, const struct mr_subscription_config *subscription)
{
    if (subscription->shed_max == 0) {
        return;
    }
    say(words, "When more than ");
    say_count(words, subscription->shed_max, "delivery waits", "deliveries wait");
    say(words, subscription->shed_newest ? ", the newest" : ", the oldest");
    say(words, " are dropped until ");
    say_count(words, subscription->shed_to, "waits", "wait");
    say(words, ", and an event io.millrace.subscription.shed tells of it.\n");
}

static void say_jitter(struct words *words, const struct mr_retry *retry)
{
    switch ((enum mr_jitter)retry->jitter) {
    case MR_JITTER_NONE:
        say(words, "exactly as long");
        break;
    case MR_JITTER_FULL:
        say(words, "each a random part of it");
        break;
    case MR_JITTER_PERCENT:
        say(words, "each up to ");
        say_count(words, retry->jitter_percent, "%", "%");
        say(words, " shorter or longer");
        break;
    }
}

static void say_retry(struct words *words, const struct mr_subscription_config *subscription)
{
    const struct mr_retry *retry = &subscription->retry;
    if (retry->step_count == 0) {
        say(words, "There is one attempt and no retry.\n");
    } else {
        uint64_t total = 0;
        say(words, "There are up to ");
        say_count(words, retry->step_count + 1, "attempt", "attempts");
        say(words, "; the waits between them are ");
        for (uint32_t i = 0; i < retry->step_count; i++) {
            say(words, i == 0 ? "" : ", ");
            say_duration(words, retry->step_ns[i]);
            if (__builtin_add_overflow(total, retry->step_ns[i], &total)) {
                total = UINT64_MAX;
            }
        }
        say(words, ", ");
        say_jitter(words, retry);
        say(words, ", together about ");
        say_duration(words, total);
        say(words, ".\n");
        say(words, "A target may ask for another wait, up to ");
        say_duration(words, subscription->retry_after_max_ns);
        say(words, ".\n");
    }
    static const char *const after[] = {
        [MR_EXHAUSTED_DEAD] = "is dead and stays in the dead-letter queue.\n",
        [MR_EXHAUSTED_HOLD] = "is held, and its lane with it, until it is resumed or skipped.\n",
        [MR_EXHAUSTED_DROP] = "is dropped; its attempts stay in the log.\n",
    };
    say(words, "After the last failed attempt the delivery ");
    say(words, after[subscription->on_exhausted]);
    if (subscription->dead_holds) {
        say(words, "One that would be dead, whatever for, is held with its lane as well.\n");
    }
}

static void say_time(struct words *words, const struct mr_target_config *target,
                     const struct mr_subscription_config *subscription)
{
    say(words, "An attempt has ");
    say_duration(words,
                 subscription->timeout_ns == 0 ? target->timeout_ns : subscription->timeout_ns);
    say(words, subscription->timeout_ns == 0 ? " (the target's timeout)" : "");
    if (target->is_worker) {
        say(words, "; heartbeats extend it up to ");
        say_duration(words, target->max_run_ns);
    }
    say(words, ".\n");
    if (subscription->max_age_ns == 0) {
        say(words, "A delivery never expires by age.\n");
        return;
    }
    say(words, "A delivery expires ");
    say_duration(words, subscription->max_age_ns);
    say(words, subscription->max_age_from_time ? " after its event's time attribute.\n"
                                               : " after its event arrived.\n");
}

static void say_breaker(struct words *words, const struct mr_target_config *target)
{
    if (target->breaker_percent == 0) {
        say(words, "The target has no breaker.\n");
        return;
    }
    say(words, "When ");
    say_count(words, target->breaker_percent, "%", "%");
    say(words, " of at least ");
    say_count(words, target->breaker_calls, "attempt", "attempts");
    say(words, " within ");
    say_duration(words, target->breaker_window_ns);
    say(words, " fail, deliveries wait ");
    say_duration(words, target->breaker_open_ns);
    say(words, " before one is tried; that costs no attempt.\n");
}

static void say_shares(struct words *words, const struct mr_config *config,
                       const struct mr_subscription_config *subscription)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < subscription->share_count; i++) {
        sum += subscription->shares[i].weight;
    }
    for (uint32_t i = 0; i < subscription->share_count; i++) {
        const struct mr_share_config *share = &subscription->shares[i];
        say(words, "To ");
        say(words, config->targets[share->target].name);
        say(words, " go ");
        say_count(words, share->weight, "of ", "of ");
        say_count(words, sum, "deliveries", "deliveries");
        if (share->return_percent > 0) {
            say(words, ", until ");
            say_count(words, share->return_percent, "%", "%");
            say(words, " of at least ");
            say_count(words, share->return_calls, "attempt", "attempts");
            say(words, " within ");
            say_duration(words, share->return_window_ns);
            say(words, " fail: then they go to the others, until it is resumed");
        }
        say(words, ".\n");
    }
    if (subscription->share_count > 1 && subscription->order != MR_ORDER_NONE) {
        say(words, "Those of one key go to the same.\n");
    }
}

static void say_priority(struct words *words, const struct mr_priority_config *priority)
{
    if (priority == NULL) {
        return;
    }
    say(words, "For each level of priority it goes as if it had been ready ");
    say_duration(words, priority->step_ns);
    say(words, " earlier; ");
    if (priority->by == MR_ORDER_NONE) {
        say(words, "its level is ");
    } else {
        say(words, priority->by == MR_ORDER_DATA ? "data." : "");
        say(words, priority->key);
        say(words, " says the level, which else is ");
    }
    say_count(words, priority->level, "", "");
    say(words, "of 9.\n");
}

static void say_shadow(struct words *words, const struct mr_config *config, uint32_t index)
{
    if (config->subscriptions[index].is_shadow) {
        say(words, "It is a shadow: what its handler says is compared and has no effect.\n");
    } else if (index + 1 < config->subscription_count &&
               config->subscriptions[index + 1].is_shadow) {
        say(words, "A copy of each delivery goes to ");
        say(words, config->targets[config->subscriptions[index + 1].target].name);
        say(words, ", without effect, to be compared.\n");
    }
}

static void say_adaptive(struct words *words, const struct mr_target_config *target)
{
    if (target->adaptive_min == 0) {
        return;
    }
    say(words, "How many it gets at once is found out, from ");
    say_count(words, target->adaptive_min, "delivery", "deliveries");
    say(words, " on: more while it answers, fewer when it refuses or takes ");
    if (target->adaptive_latency_ns == 0) {
        say(words, "too long.\n");
    } else {
        say(words, "longer than ");
        say_duration(words, target->adaptive_latency_ns);
        say(words, ".\n");
    }
}

static void say_destinations(struct words *words, const struct mr_config *config,
                             const struct mr_destination *destinations, uint32_t count,
                             const char *when)
{
    if (count == 0) {
        return;
    }
    say(words, when);
    for (uint32_t i = 0; i < count; i++) {
        say(words, i == 0 ? "" : i + 1 == count ? " and " : ", ");
        if (destinations[i].is_bus) {
            say(words, "back into the bus");
        } else {
            say(words, "to the sink ");
            say(words, config->targets[destinations[i].target].name);
        }
    }
    say(words, ".\n");
}

enum mr_status mr_config_explain(const struct mr_config *config, uint32_t index,
                                 struct mr_buf *out)
{
    MR_ASSERT(index < config->subscription_count);
    const struct mr_subscription_config *subscription = &config->subscriptions[index];
    const struct mr_target_config *target = &config->targets[subscription->target];
    struct words words = {.out = out};
    say(&words, "Subscription ");
    say(&words, subscription->name);
    say(&words, ".\n");
    say_sources(&words, config, subscription);
    say_target(&words, target, subscription);
    say_shares(&words, config, subscription);
    say_batch(&words, subscription);
    say_shed(&words, subscription);
    say_limits(&words, config, subscription);
    say_order(&words, subscription);
    say_priority(&words, subscription->priority);
    say_time(&words, target, subscription);
    say_retry(&words, subscription);
    say_breaker(&words, target);
    say_adaptive(&words, target);
    say_shadow(&words, config, index);
    say(&words, "Its unsettled deliveries may use ");
    if (words.status == MR_OK) {
        words.status = mr__format_size(subscription->window_size, out);
    }
    say(&words, " of memory; the rest waits on disk.\n");
    say_fanout(&words, config, subscription);
    say_destinations(&words, config, subscription->on_success, subscription->on_success_count,
                     "The outcome of what ends well goes ");
    say_destinations(&words, config, subscription->on_failure, subscription->on_failure_count,
                     "The outcome of what ends dead or expired goes ");
    return words.status;
}
