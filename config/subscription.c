/* Owns subscriptions: their references to sources and targets, the checks between settings, and
 * the hidden subscriptions that carry outcomes to sinks. */
#include <inttypes.h>

#include "config/builder.h"
#include "config/option_value.h"
#include "core/alloc.h"
#include "core/assert.h"
#include "core/hash.h"

#define DESTINATIONS_MAX 64u /* each is a delivery for every outcome */

void mr__subscription_release(struct mr_subscription_config *subscription)
{
    mr_free(subscription->name);
    mr_free(subscription->filter_json);
    mr_free(subscription->cancel_on);
    mr_free(subscription->transform_json);
    mr_free(subscription->sources);
    mr_free(subscription->order_key);
    mr_free(subscription->batch_key);
    mr_free(subscription->shares);
    if (subscription->priority != NULL) {
        mr_free(subscription->priority->key);
        mr_free(subscription->priority);
    }
    mr_free(subscription->rates);
    mr_free(subscription->limits);
    mr_free(subscription->on_success);
    mr_free(subscription->on_failure);
    mr_free(subscription->on_success_hidden);
    mr_free(subscription->on_failure_hidden);
    *subscription = (struct mr_subscription_config){0};
}

/* The place of item @p i of a setting that is one text or a list. */
static const struct mr_node *item_place(const struct mr_node *entry, const char *key, uint32_t i)
{
    const struct mr_node *node = mr__node_child(entry, key);
    return node == NULL ? entry : mr__node_item(node, i);
}

static enum mr_status report_no_such(struct mr_loader *loader, const struct mr_node *place,
                                     const char *what, const char *name,
                                     const struct mr_name_index *names)
{
    if (loader->errors->count == MR_CONFIG_ERRORS_MAX) {
        loader->errors->more = true;
        return MR_OK;
    }
    const char *nearest = mr_nearest_word(name, names->words, names->count);
    if (nearest != NULL) {
        return mr__report(loader, place, "there is no %s `%.64s`, did you mean `%s`?", what,
                          mr__shown(place, name), nearest);
    }
    char list[256];
    mr__words_join(names->words, names->count, list, sizeof(list));
    return mr__report(loader, place, "there is no %s `%.64s`; there %s%s", what,
                      mr__shown(place, name), names->count == 0 ? "is none at all" : "is: ", list);
}

/* The names under @p key as indexes, each once. @p what: "source" */
static enum mr_status take_names(struct mr_loader *loader, const struct mr_node *entry,
                                 const char *key, const char *what, const struct mr_strings *names,
                                 const struct mr_name_index *known, uint32_t **ret_indexes,
                                 uint32_t *ret_count)
{
    if (names->count > MR_SOURCES_MAX) {
        return mr__report(loader, mr__node_child(entry, key),
                          "%s: %u names are too many: at most %u", key, names->count,
                          MR_SOURCES_MAX);
    }
    uint32_t *indexes = mr_calloc(names->count + 1u, sizeof(*indexes));
    if (indexes == NULL) {
        return MR_E_NOMEM;
    }
    *ret_indexes = indexes;
    enum mr_status r = MR_OK;
    for (uint32_t i = 0; i < names->count && r == MR_OK; i++) {
        const struct mr_node *place = item_place(entry, key, i);
        int64_t index = mr__builder_find(known, names->items[i]);
        if (index < 0) {
            r = report_no_such(loader, place, what, names->items[i], known);
            continue;
        }
        bool twice = false;
        for (uint32_t j = 0; j < *ret_count; j++) {
            twice = twice || indexes[j] == (uint32_t)index;
        }
        if (twice) {
            r = mr__report(loader, place, "%s: `%s` is named twice", key, names->items[i]);
        } else {
            indexes[(*ret_count)++] = (uint32_t)index;
        }
    }
    return r;
}

static enum mr_status take_sources(struct mr_builder *builder, const struct mr_node *entry,
                                   const struct mr_strings *names,
                                   struct mr_subscription_config *subscription)
{
    if (names->count == 0) {
        const struct mr_node *node = mr__node_child(entry, "source");
        bool is_empty = node != NULL && node->kind == MR_NODE_SEQUENCE && node->first == NULL;
        return is_empty ? mr__report(builder->loader, node,
                                     "source: the list is empty; leave it out for every source")
                        : MR_OK;
    }
    return take_names(builder->loader, entry, "source", "source", names, &builder->sources,
                      &subscription->sources, &subscription->source_count);
}

static bool is_data_path(const char *path)
{
    size_t size = strlen(path);
    return size > 0 && path[0] != '.' && path[size - 1] != '.' && strstr(path, "..") == NULL;
}

enum mr_status mr__build_key(struct mr_loader *loader, const struct mr_node *block,
                             const char *name, const char *text, int *ret_order, char **ret_key)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    if (text == NULL || strcmp(text, "none") == 0) {
        return MR_OK;
    }
    const char *key = text;
    size_t size = strlen(text);
    if (strncmp(text, "data.", 5) == 0 && is_data_path(text + 5)) {
        *ret_order = MR_ORDER_DATA;
        key = text + 5;
    } else if (size > 0 && size <= MR_ATTR_NAME_SIZE_MAX && strspn(text, allowed) == size &&
               strcmp(text, "data") != 0) {
        *ret_order = MR_ORDER_ATTRIBUTE;
    } else {
        const struct mr_node *place = mr__node_child(block, name);
        return mr__report(loader, place,
                          "%s: `%.64s` is neither none, nor an attribute (lower case letters and "
                          "digits), nor data.PATH",
                          name, mr__shown(place, text));
    }
    *ret_key = mr_strdup(key);
    return *ret_key == NULL ? MR_E_NOMEM : MR_OK;
}

static uint32_t targets_of(const struct mr_subscription_config *subscription)
{
    return subscription->share_count == 0 ? 1 : subscription->share_count;
}

static const struct mr_target_config *target_at(const struct mr_config *config,
                                                const struct mr_subscription_config *subscription,
                                                uint32_t i)
{
    uint32_t index =
        subscription->share_count == 0 ? subscription->target : subscription->shares[i].target;
    return &config->targets[index];
}

/* `batch`, when it is there: what is handed to a target that cannot take it would be lost work. */
static enum mr_status take_batch(struct mr_builder *builder, const struct mr_node *entry,
                                 const struct mr_batch_options *options,
                                 struct mr_subscription_config *subscription)
{
    const struct mr_node *place = mr__node_child(entry, "batch");
    if (place == NULL || options->max == 0) {
        return MR_OK; /* absent, or wrong and reported */
    }
    for (uint32_t i = 0; i < targets_of(subscription); i++) {
        const struct mr_target_config *target = target_at(builder->config, subscription, i);
        if (target->kind != NULL && !target->kind->takes_batches) {
            return mr__report(builder->loader, place,
                              "batch: `%s` is of the kind %s, which takes deliveries one by one: "
                              "use a process worker, or http",
                              target->name, target->kind->name);
        }
    }
    if (subscription->lane_concurrency > 1) {
        return mr__report(builder->loader, place,
                          "batch takes one delivery of a key at most: leave lane_concurrency out");
    }
    subscription->batch_max = (uint32_t)options->max;
    subscription->batch_size = options->size;
    subscription->batch_window_ns = options->window_ns;
    return mr__build_key(builder->loader, place, "by", options->by, &subscription->batch_by,
                    &subscription->batch_key);
}

/* `shed`, when it is there. */
static enum mr_status take_shed(struct mr_loader *loader, const struct mr_node *entry,
                                const struct mr_shed_options *options,
                                struct mr_subscription_config *subscription)
{
    const struct mr_node *place = mr__node_child(entry, "shed");
    if (place == NULL || (place->kind != MR_NODE_MAPPING && !mr__node_is_null(place))) {
        return MR_OK; /* absent, or wrong and reported */
    }
    if (mr__node_child(place, "max") == NULL) {
        return mr__report(loader, place,
                          "shed: `max` is missing: say how many deliveries may wait");
    }
    bool newest = options->drop == 1;
    uint64_t size = (uint64_t)options->max * MR_DELIVERY_SIZE;
    int64_t to = mr__node_child(place, "to") == NULL ? options->max * 9 / 10 : options->to;
    if (to >= options->max && options->max > 0) {
        return mr__report(loader, mr__node_child(place, "to"),
                          "shed: to is not below max: %" PRId64 " deliveries would be dropped down "
                          "to %" PRId64,
                          options->max + 1, to);
    }
    if (newest && size > subscription->window_size) {
        return mr__report(loader, mr__node_child(place, "max"),
                          "shed: the newest are dropped from memory, and %" PRId64 " deliveries of "
                          "up to %u bytes do not fit into a window of %" PRIu64 " bytes: lower "
                          "max, raise window, or drop the oldest",
                          options->max, MR_DELIVERY_SIZE, subscription->window_size);
    }
    subscription->shed_max = (uint32_t)options->max;
    subscription->shed_to = (uint32_t)to;
    subscription->shed_newest = newest;
    return MR_OK;
}

/* What events of a key do to one another: without keys there are no others. */
static enum mr_status take_overtaking(struct mr_loader *loader, const struct mr_node *entry,
                                      const struct mr_subscription_options *options,
                                      struct mr_subscription_config *subscription)
{
    static const char *const keys[] = {"keep", "when_busy", "debounce", "cancel_on",
                                       "lane_on_dead"};
    subscription->when_busy = options->when_busy;
    subscription->debounce_ns = options->debounce_ns;
    subscription->keep_latest = options->keep == 1 || options->debounce_ns > 0 ||
                                options->when_busy == MR_BUSY_REPLACE;
    for (size_t i = 0; i < MR_ARRAY_COUNT(keys); i++) {
        const struct mr_node *place = mr__node_child(entry, keys[i]);
        if (place != NULL && subscription->order == MR_ORDER_NONE) {
            return mr__report(loader, place,
                              "%s is about events of the same key: say with order_by which they "
                              "are, such as order_by: subject",
                              keys[i]);
        }
    }
    if (subscription->keep_latest && subscription->when_busy == MR_BUSY_SKIP) {
        return mr__report(loader, mr__node_child(entry, "when_busy"),
                          "when_busy: skip keeps the first event of a key, %s the latest",
                          options->debounce_ns > 0 ? "debounce" : "keep: latest");
    }
    if (options->cancel_on == NULL) {
        return MR_OK;
    }
    return mr__build_filter(loader, entry, "cancel_on", options->cancel_on,
                            &subscription->cancel_on);
}

/* Those of a key that run side by side do not wait for one another, and the others rest on that. */
static enum mr_status check_side_by_side(struct mr_loader *loader, const struct mr_node *entry,
                                         const struct mr_subscription_config *subscription)
{
    static const char *const keys[] = {"keep", "when_busy", "debounce", "cancel_on",
                                       "lane_on_dead"};
    const struct mr_node *place = mr__node_child(entry, "lane_concurrency");
    if (subscription->lane_concurrency <= 1) {
        return MR_OK;
    }
    if (subscription->order == MR_ORDER_NONE) {
        return mr__report(loader, place,
                          "lane_concurrency is about events of the same key: say with order_by "
                          "which they are; without one all go side by side");
    }
    for (size_t i = 0; i < MR_ARRAY_COUNT(keys); i++) {
        if (mr__node_child(entry, keys[i]) != NULL) {
            return mr__report(loader, place,
                              "lane_concurrency: %s wants the events of a key one after another",
                              keys[i]);
        }
    }
    return MR_OK;
}

static enum mr_status find_destination(struct mr_builder *builder, const struct mr_node *place,
                                       const char *key, const char *name, int64_t *ret_index)
{
    const struct mr_config *config = builder->config;
    *ret_index = -1;
    int64_t index = mr__builder_find(&builder->targets, name);
    if (index < 0) {
        return report_no_such(builder->loader, place, "sink", name, &builder->targets);
    }
    if (config->targets[index].is_worker) {
        return mr__report(builder->loader, place,
                          "%s: `%s` is a worker: an outcome goes to a sink, or to `bus` with a "
                          "subscription that takes it to the worker",
                          key, name);
    }
    *ret_index = index;
    return MR_OK;
}

static enum mr_status take_destinations(struct mr_builder *builder, const struct mr_node *entry,
                                        const char *key, const struct mr_strings *names,
                                        struct mr_destination **to, uint32_t *count)
{
    if (names->count == 0) {
        return MR_OK;
    }
    if (names->count > DESTINATIONS_MAX) {
        return mr__report(builder->loader, mr__node_child(entry, key),
                          "%s: %u destinations are too many: at most %u", key, names->count,
                          DESTINATIONS_MAX);
    }
    *to = mr_calloc(names->count, sizeof(**to));
    if (*to == NULL) {
        return MR_E_NOMEM;
    }
    enum mr_status r = MR_OK;
    for (uint32_t i = 0; i < names->count && r == MR_OK; i++) {
        const struct mr_node *place = item_place(entry, key, i);
        struct mr_destination destination = {.is_bus = strcmp(names->items[i], "bus") == 0};
        if (!destination.is_bus) {
            int64_t index;
            r = find_destination(builder, place, key, names->items[i], &index);
            if (r != MR_OK || index < 0) {
                continue;
            }
            destination.target = (uint32_t)index;
        }
        bool twice = false;
        for (uint32_t j = 0; j < *count; j++) {
            twice = twice || ((*to)[j].is_bus == destination.is_bus &&
                              (*to)[j].target == destination.target);
        }
        if (twice) {
            r = mr__report(builder->loader, place, "%s: `%s` is named twice", key,
                           names->items[i]);
        } else {
            (*to)[(*count)++] = destination;
        }
    }
    return r;
}

/* Settings that are right one by one and wrong together. */
static enum mr_status check_policy(struct mr_loader *loader, const struct mr_node *entry,
                                   const struct mr_subscription_config *subscription,
                                   const struct mr_target_config *target)
{
    if (target->kind == NULL) {
        return MR_OK; /* the target is wrong itself, and reported */
    }
    const struct mr_node *timeout = mr__node_child(entry, "timeout");
    if (subscription->timeout_ns > target->max_run_ns && target->max_run_ns > 0) {
        return mr__report(loader, timeout,
                          "timeout is longer than the max_run of `%s`, the end of every attempt",
                          target->name);
    }
    uint64_t effective =
        subscription->timeout_ns == 0 ? target->timeout_ns : subscription->timeout_ns;
    if (subscription->max_age_ns > 0 && subscription->max_age_ns < effective) {
        return mr__report(loader, mr__node_child(entry, "max_age"),
                          "max_age is shorter than the timeout of one attempt%s: the first attempt "
                          "could outlive the delivery; lower timeout or raise max_age",
                          subscription->timeout_ns == 0 ? " (the target's)" : "");
    }
    if (subscription->max_age_ns == 0 && mr__node_child(entry, "max_age_from") != NULL) {
        return mr__report(loader, mr__node_child(entry, "max_age_from"),
                          "max_age_from has a meaning only with max_age");
    }
    return MR_OK;
}

enum mr_status mr__find_target(struct mr_builder *builder, const struct mr_node *place,
                               const char *name, int64_t *ret_index)
{
    if (strcmp(name, "bus") == 0) {
        return mr__report(builder->loader, place,
                          "to: `bus` would send every event round again; outcomes go there by "
                          "`on_success: bus`");
    }
    int64_t index = mr__builder_find(&builder->targets, name);
    if (index < 0) {
        return report_no_such(builder->loader, place, "worker or sink", name, &builder->targets);
    }
    *ret_index = index;
    return MR_OK;
}

/* @p name: NULL when `to` is a list, or missing or wrong, which is reported. */
static enum mr_status take_target(struct mr_builder *builder, const struct mr_node *entry,
                                  const char *name, struct mr_subscription_config *subscription)
{
    struct mr_node *place = mr__node_child(entry, "to");
    int64_t index = -1;
    enum mr_status r = MR_OK;
    if (name != NULL) {
        r = mr__find_target(builder, place, name, &index);
        subscription->target = index < 0 ? 0 : (uint32_t)index;
    } else if (place != NULL && place->kind == MR_NODE_SEQUENCE) {
        r = mr__build_shares(builder, place, subscription);
        index = subscription->shares == NULL ? -1 : (int64_t)subscription->target;
    }
    for (uint32_t i = 0; i < targets_of(subscription) && index >= 0 && r == MR_OK; i++) {
        r = check_policy(builder->loader, entry, subscription,
                         target_at(builder->config, subscription, i));
    }
    return r;
}

static void take_plain(const struct mr_subscription_options *options,
                       struct mr_subscription_config *subscription)
{
    subscription->lane_concurrency = (uint32_t)options->lane_concurrency;
    subscription->on_exhausted = options->on_exhausted;
    subscription->dead_holds = options->lane_on_dead == 1;
    subscription->retry_after_max_ns = options->retry_after_max_ns;
    subscription->timeout_ns = options->timeout_ns;
    subscription->is_default = options->is_default;
    subscription->max_age_ns = options->max_age_ns;
    subscription->max_age_from_time = options->max_age_from == 1;
    subscription->concurrency = (uint32_t)options->concurrency;
    subscription->window_size = options->window_size;
}

static enum mr_status take_options(struct mr_builder *builder, const struct mr_node *entry,
                                   const struct mr_subscription_options *options,
                                   struct mr_subscription_config *subscription)
{
    struct mr_loader *loader = builder->loader;
    take_plain(options, subscription);
    enum mr_status r = take_sources(builder, entry, &options->source, subscription);
    if (r == MR_OK) {
        r = mr__build_filter(loader, entry, "filter", options->filter,
                             &subscription->filter_json);
    }
    if (r == MR_OK) {
        r = take_target(builder, entry, options->to, subscription);
    }
    if (r == MR_OK) {
        r = mr__build_transform(loader, entry, options->transform, &subscription->transform_json);
    }
    if (r == MR_OK) {
        r = mr__build_key(loader, entry, "order_by", options->order_by, &subscription->order,
                     &subscription->order_key);
    }
    if (r == MR_OK) {
        r = check_side_by_side(loader, entry, subscription);
    }
    if (r == MR_OK) {
        r = mr__build_priority(loader, mr__node_child(entry, "priority"), &options->priority,
                               &subscription->priority);
    }
    if (r == MR_OK && (options->to != NULL || subscription->shares != NULL)) {
        r = take_batch(builder, entry, &options->batch, subscription);
    }
    if (r == MR_OK) {
        r = take_overtaking(loader, entry, options, subscription);
    }
    if (r == MR_OK) {
        r = take_shed(loader, entry, &options->shed, subscription);
    }
    if (r == MR_OK) {
        r = mr__build_rates(loader, entry, &options->rate, &subscription->rates);
    }
    if (r == MR_OK && options->limits.count > 0) {
        r = take_names(loader, entry, "limits", "limit", &options->limits, &builder->limits,
                       &subscription->limits, &subscription->limit_count);
    }
    if (r == MR_OK) {
        r = mr__build_retry(loader, builder->config, mr__node_child(entry, "retry"),
                            &options->retry, &subscription->retry);
    }
    if (r == MR_OK) {
        r = take_destinations(builder, entry, "on_success", &options->on_success,
                              &subscription->on_success, &subscription->on_success_count);
    }
    if (r == MR_OK) {
        r = take_destinations(builder, entry, "on_failure", &options->on_failure,
                              &subscription->on_failure, &subscription->on_failure_count);
    }
    return r;
}

/* `to` as a list is left out of what the option table reads. */
static enum mr_status read_options(struct mr_loader *loader, struct mr_node *entry,
                                   struct mr_subscription_options *options)
{
    static const char *const without[] = {"to"};
    struct mr_beside beside = {.level = mr__sections[MR_SECTION_SUBSCRIPTIONS].level};
    const struct mr_node *to = mr__node_child(entry, "to");
    if (to != NULL && to->kind == MR_NODE_SEQUENCE) {
        beside.words = without;
        beside.word_count = 1;
    }
    return mr__options_read(loader, mr__subscription_table, entry, &beside, options);
}

/* Finds the worker that gets the copies. @p ret_found: none of it was wrong */
static enum mr_status find_shadow(struct mr_builder *builder, const struct mr_node *entry,
                                  const char *name,
                                  const struct mr_subscription_config *original, bool *ret_found)
{
    const struct mr_node *place = mr__node_child(entry, "shadow");
    int64_t index = mr__builder_find(&builder->targets, name);
    *ret_found = false;
    if (index < 0) {
        return report_no_such(builder->loader, place, "worker", name, &builder->targets);
    }
    if (!builder->config->targets[index].is_worker) {
        return mr__report(builder->loader, place,
                          "shadow: `%.64s` is a sink; only what a worker says can be compared",
                          mr__shown(place, name));
    }
    if (mr_subscription_reaches(original, (uint32_t)index)) {
        return mr__report(builder->loader, place, "shadow: `%.64s` is what `to` names already",
                          mr__shown(place, name));
    }
    *ret_found = true;
    return MR_OK;
}

/* The copy: as the original in everything that says which events, in which order and how many at
 * once, but without a second attempt, outcomes or a share of the limits of others. */
static enum mr_status build_shadow(struct mr_builder *builder, const struct mr_node *entry,
                                   struct mr_subscription_options *options)
{
    struct mr_config *config = builder->config;
    const struct mr_subscription_config *original =
        &config->subscriptions[config->subscription_count - 1];
    bool found;
    enum mr_status r = find_shadow(builder, entry, options->shadow, original, &found);
    if (r != MR_OK || !found) {
        return r;
    }
    struct mr_subscription_options copied = *options; /* borrowed */
    copied.to = options->shadow;
    copied.on_exhausted = MR_EXHAUSTED_DROP;
    copied.lane_on_dead = 0;
    copied.limits.count = copied.on_success.count = copied.on_failure.count = 0;
    struct mr_subscription_config *shadow = &config->subscriptions[config->subscription_count++];
    struct mr_buf name;
    mr_buf_init(&name, 2u * MR_NAME_SIZE_MAX);
    r = mr_buf_printf(&name, "%s/shadow", original->name);
    shadow->name = r == MR_OK ? mr_buf_take_text(&name) : NULL;
    mr_buf_release(&name);
    if (shadow->name == NULL) {
        return MR_E_NOMEM;
    }
    shadow->is_shadow = true;
    r = take_options(builder, entry, &copied, shadow);
    shadow->retry.step_count = 0;
    shadow->retry.step_ns = NULL;
    return r;
}

static enum mr_status build_subscription(struct mr_builder *builder, struct mr_node *node)
{
    struct mr_config *config = builder->config;
    if (node->kind != MR_NODE_MAPPING) {
        return mr__report(builder->loader, node, "the subscription `%s` wants a mapping: {to: …}",
                          node->key);
    }
    struct mr_subscription_config *subscription =
        &config->subscriptions[config->subscription_count++];
    subscription->name = mr_strdup(node->key);
    if (subscription->name == NULL) {
        return MR_E_NOMEM;
    }
    struct mr_subscription_options options = {0};
    enum mr_status r = read_options(builder->loader, node, &options);
    uint32_t errors = builder->loader->errors->count;
    if (r == MR_OK) {
        r = take_options(builder, node, &options, subscription);
    }
    if (r == MR_OK && options.shadow != NULL && builder->loader->errors->count == errors) {
        r = build_shadow(builder, node, &options);
    }
    mr_options_release(mr__subscription_table, &options);
    return r;
}

/* --- the hidden ones -------------------------------------------------------------------------- */

static uint32_t count_sinks(const struct mr_destination *destinations, uint32_t count)
{
    uint32_t sinks = 0;
    for (uint32_t i = 0; i < count; i++) {
        sinks += !destinations[i].is_bus;
    }
    return sinks;
}

/* The policy of a hidden subscription is the default one. */
static enum mr_status make_hidden(struct mr_builder *builder, const char *of, const char *key,
                                  uint32_t target, struct mr_subscription_config *hidden)
{
    struct mr_subscription_options options = {0};
    enum mr_status r = mr_options_defaults(mr__subscription_table, &options);
    if (r == MR_OK) {
        take_plain(&options, hidden);
        r = mr__build_retry(builder->loader, builder->config, NULL, &options.retry,
                            &hidden->retry);
    }
    mr_options_release(mr__subscription_table, &options);
    if (r != MR_OK) {
        return r;
    }
    struct mr_buf name;
    mr_buf_init(&name, 4u * MR_NAME_SIZE_MAX);
    r = mr_buf_printf(&name, "%s/%s/%s", of, key, builder->config->targets[target].name);
    if (r == MR_OK) {
        hidden->hidden = true;
        hidden->target = target;
        hidden->filter_json = mr_strdup("[]");
        hidden->name = mr_buf_take_text(&name);
        r = hidden->name == NULL || hidden->filter_json == NULL ? MR_E_NOMEM : MR_OK;
    }
    mr_buf_release(&name);
    return r;
}

static enum mr_status add_hidden(struct mr_builder *builder, uint32_t of, const char *key,
                                 const struct mr_destination *destinations, uint32_t count,
                                 uint32_t **ret_indexes)
{
    struct mr_config *config = builder->config;
    if (count == 0) {
        return MR_OK;
    }
    uint32_t *indexes = mr_calloc(count, sizeof(*indexes));
    if (indexes == NULL) {
        return MR_E_NOMEM;
    }
    *ret_indexes = indexes;
    enum mr_status r = MR_OK;
    for (uint32_t i = 0; i < count && r == MR_OK; i++) {
        indexes[i] = UINT32_MAX;
        if (!destinations[i].is_bus) {
            indexes[i] = config->subscription_count++;
            r = make_hidden(builder, config->subscriptions[of].name, key, destinations[i].target,
                            &config->subscriptions[indexes[i]]);
        }
    }
    return r;
}

static enum mr_status build_hidden(struct mr_builder *builder)
{
    struct mr_config *config = builder->config;
    uint32_t visible = config->subscription_count;
    uint64_t total = visible;
    for (uint32_t i = 0; i < visible; i++) {
        const struct mr_subscription_config *subscription = &config->subscriptions[i];
        total += count_sinks(subscription->on_success, subscription->on_success_count);
        total += count_sinks(subscription->on_failure, subscription->on_failure_count);
    }
    if (total > MR_SUBSCRIPTIONS_MAX) {
        return mr__report(builder->loader, NULL,
                          "%" PRIu64 " subscriptions, those for destinations among them, are too "
                          "many: at most %u",
                          total, MR_SUBSCRIPTIONS_MAX);
    }
    struct mr_subscription_config *all =
        mr_realloc(config->subscriptions, (total + 1) * sizeof(*all));
    if (all == NULL) {
        return MR_E_NOMEM;
    }
    memset(all + visible, 0, (total + 1 - visible) * sizeof(*all));
    config->subscriptions = all;
    enum mr_status r = MR_OK;
    for (uint32_t i = 0; i < visible && r == MR_OK; i++) {
        struct mr_subscription_config *subscription = &all[i];
        r = add_hidden(builder, i, "on_success", subscription->on_success,
                       subscription->on_success_count, &subscription->on_success_hidden);
        if (r == MR_OK) {
            r = add_hidden(builder, i, "on_failure", subscription->on_failure,
                           subscription->on_failure_count, &subscription->on_failure_hidden);
        }
    }
    MR_ASSERT(r != MR_OK || config->subscription_count == total);
    return r;
}

/* --- all of them ------------------------------------------------------------------------------ */

enum mr_status mr__build_subscriptions(struct mr_builder *builder, struct mr_node *section)
{
    struct mr_config *config = builder->config;
    uint32_t count = section == NULL ? 0 : section->count;
    /* Each may have a shadow. */
    config->subscriptions = mr_calloc(2 * (size_t)count + 1, sizeof(*config->subscriptions));
    if (config->subscriptions == NULL) {
        return MR_E_NOMEM;
    }
    enum mr_status r = MR_OK;
    struct mr_node *node = section == NULL ? NULL : section->first;
    for (; node != NULL && r == MR_OK; node = node->next) {
        bool ok = false;
        if ((node->flags & MR_NODE_SKIP) == 0) {
            r = mr__check_name(builder->loader, node, &ok);
        }
        if (r == MR_OK && ok) {
            r = build_subscription(builder, node);
        }
    }
    /* Hidden ones and versions rest on sound subscriptions. */
    if (r != MR_OK || builder->loader->errors->count > 0) {
        return r;
    }
    r = build_hidden(builder);
    for (uint32_t i = 0; i < config->subscription_count && r == MR_OK; i++) {
        r = mr__subscription_hash(config, &config->subscriptions[i],
                                  &config->subscriptions[i].hash);
    }
    return r;
}
