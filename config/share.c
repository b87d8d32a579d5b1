/* Owns what says where and when a delivery of a subscription goes: several targets with weights,
 * and priorities. */
#include <inttypes.h>
#include <stdio.h>

#include "config/builder.h"
#include "core/alloc.h"
#include "core/hash.h"

bool mr_subscription_reaches(const struct mr_subscription_config *subscription, uint32_t target)
{
    for (uint32_t i = 0; i < subscription->share_count; i++) {
        if (subscription->shares[i].target == target) {
            return true;
        }
    }
    return subscription->share_count == 0 && subscription->target == target;
}

/* --- several targets -------------------------------------------------------------------------- */

static enum mr_status set_share(struct mr_builder *builder, const struct mr_node *item,
                                const struct mr_share_options *options,
                                struct mr_subscription_config *subscription)
{
    const char *key = options->worker != NULL ? "worker" : "sink";
    const char *name = options->worker != NULL ? options->worker : options->sink;
    const struct mr_node *place = mr__node_child(item, key);
    if (name == NULL || (options->worker != NULL && options->sink != NULL)) {
        return mr__report(builder->loader, item,
                          "to: an item names one worker or one sink: {worker: NAME, weight: 90}");
    }
    int64_t index = -1;
    enum mr_status r = mr__find_target(builder, place, name, &index);
    if (r != MR_OK || index < 0) {
        return r;
    }
    if (builder->config->targets[index].is_worker != (options->worker != NULL)) {
        return mr__report(builder->loader, place, "to: `%s` is a %s", name,
                          options->worker != NULL ? "sink" : "worker");
    }
    for (uint32_t i = 0; i < subscription->share_count; i++) {
        if (subscription->shares[i].target == (uint32_t)index) {
            return mr__report(builder->loader, place, "to: `%s` is named twice", name);
        }
    }
    char text[MR_NAME_SIZE_MAX + 128];
    int size = snprintf(text, sizeof(text), "%s %" PRId64 " %" PRId64 " %" PRId64 " %" PRIu64,
                        name, options->weight, options->back.percent, options->back.calls,
                        options->back.window_ns); /* names are bounded */
    subscription->shares[subscription->share_count++] = (struct mr_share_config){
        .target = (uint32_t)index,
        .weight = (uint32_t)options->weight,
        .return_percent = (uint32_t)options->back.percent,
        .return_calls = (uint32_t)options->back.calls,
        .return_window_ns = options->back.window_ns,
        .hash = mr_hash(text, (size_t)size) | 1,
    };
    return MR_OK;
}

static enum mr_status take_share(struct mr_builder *builder, struct mr_node *item,
                                 struct mr_subscription_config *subscription)
{
    static const struct mr_beside beside = {.level = "to"};
    struct mr_share_options options = {0};
    if (item->kind != MR_NODE_MAPPING) {
        return mr__report(builder->loader, item,
                          "to: an item of the list is a mapping: {worker: NAME, weight: 90}");
    }
    uint32_t errors = builder->loader->errors->count;
    enum mr_status r = mr__options_read(builder->loader, mr__share_table, item, &beside, &options);
    if (r == MR_OK && builder->loader->errors->count == errors) {
        r = set_share(builder, item, &options, subscription);
    }
    mr_options_release(mr__share_table, &options);
    return r;
}

enum mr_status mr__build_shares(struct mr_builder *builder, struct mr_node *node,
                                struct mr_subscription_config *subscription)
{
    if (node->count == 0 || node->count > MR_SHARES_MAX) {
        return mr__report(builder->loader, node, "to: %u targets; a list has 1 to %u", node->count,
                          MR_SHARES_MAX);
    }
    struct mr_share_config *shares = mr_calloc(node->count, sizeof(*shares));
    if (shares == NULL) {
        return MR_E_NOMEM;
    }
    subscription->shares = shares;
    uint32_t errors = builder->loader->errors->count;
    enum mr_status r = MR_OK;
    for (struct mr_node *item = node->first; item != NULL && r == MR_OK; item = item->next) {
        r = take_share(builder, item, subscription);
    }
    uint64_t sum = 0;
    for (uint32_t i = 0; i < subscription->share_count; i++) {
        sum += shares[i].weight;
    }
    if (r == MR_OK && sum == 0 && builder->loader->errors->count == errors) {
        r = mr__report(builder->loader, node,
                       "to: every weight is 0, nothing would go anywhere; `paused` by `sub pause` "
                       "holds deliveries back");
    }
    subscription->target = shares[0].target;
    return r;
}

/* --- priorities ------------------------------------------------------------------------------- */

static enum mr_status add_value(struct mr_loader *loader, const struct mr_node *place,
                                const char *value, const char *level,
                                struct mr_priority_config *priority)
{
    uint64_t number;
    if (!mr_parse_u64(mr_bytes_of(level), &number) || number > MR_PRIORITY_MAX) {
        return mr__report(loader, place, "priority.levels: `%.64s` is no level from 0 to %u",
                          mr__shown(place, level), MR_PRIORITY_MAX);
    }
    priority->values[priority->value_count++] = (struct mr_priority_value){
        .hash = mr_hash(value, strlen(value)), .level = (uint8_t)number};
    return MR_OK;
}

static enum mr_status fill_values(struct mr_loader *loader, const struct mr_node *node,
                                  const struct mr_priority_options *options,
                                  struct mr_priority_config *priority)
{
    const struct mr_node *levels = mr__node_child(node, "levels");
    enum mr_status r = MR_OK;
    if (levels != NULL) {
        for (uint32_t i = 0; i < options->levels.values.count && r == MR_OK; i++) {
            const char *value = options->levels.keys.items[i];
            r = add_value(loader, mr__node_child(levels, value), value,
                          options->levels.values.items[i], priority);
        }
        return r;
    }
    for (char digit = '0'; digit <= '0' + (char)MR_PRIORITY_MAX && r == MR_OK; digit++) {
        const char value[2] = {digit, '\0'};
        r = add_value(loader, node, value, value, priority);
    }
    return r;
}

enum mr_status mr__build_priority(struct mr_loader *loader, const struct mr_node *node,
                                  const struct mr_priority_options *options,
                                  struct mr_priority_config **ret_priority)
{
    if (node == NULL) {
        return MR_OK;
    }
    uint32_t count = options->levels.values.count;
    if (count > MR_PRIORITY_VALUES_MAX) {
        return mr__report(loader, mr__node_child(node, "levels"),
                          "priority.levels: %u values; at most %u", count, MR_PRIORITY_VALUES_MAX);
    }
    count = count > MR_PRIORITY_MAX + 1 ? count : MR_PRIORITY_MAX + 1;
    struct mr_priority_config *priority =
        mr_calloc(1, sizeof(*priority) + count * sizeof(priority->values[0]));
    if (priority == NULL) {
        return MR_E_NOMEM;
    }
    *ret_priority = priority;
    priority->level = (uint8_t)options->level;
    priority->step_ns = options->step_ns;
    enum mr_status r =
        mr__build_key(loader, node, "by", options->by, &priority->by, &priority->key);
    if (r == MR_OK && priority->by != MR_ORDER_NONE) {
        return fill_values(loader, node, options, priority);
    }
    if (r == MR_OK && mr__node_child(node, "levels") != NULL) {
        r = mr__report(loader, mr__node_child(node, "levels"),
                       "priority.levels says levels of values: say with `by` what of the event "
                       "has them");
    }
    return r;
}
