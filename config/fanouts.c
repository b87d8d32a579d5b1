/* Owns the section `fanouts`: which subscriptions end together. */
#include <string.h>

#include "config/builder.h"
#include "core/alloc.h"

/* Whether @p entry, a name or the beginning of some and `*`, takes @p name. */
static bool fits(const char *entry, const char *name)
{
    size_t size = strlen(entry);
    return size > 0 && entry[size - 1] == '*' ? strncmp(entry, name, size - 1) == 0
                                              : strcmp(entry, name) == 0;
}

static const struct mr_node *place_of(const struct mr_node *node, uint32_t index)
{
    const struct mr_node *of = mr__node_child(node, "of");
    const struct mr_node *item = of == NULL || of->kind != MR_NODE_SEQUENCE ? of : of->first;
    for (uint32_t i = 0; i < index && item != NULL && item != of; i++) {
        item = item->next;
    }
    return item == NULL ? node : item;
}

/* The subscriptions that @p entry names become members. */
static enum mr_status take_entry(struct mr_builder *builder, const struct mr_node *place,
                                 const char *entry, uint32_t *members)
{
    struct mr_config *config = builder->config;
    const struct mr_fanout_config *fanout = &config->fanouts[config->fanout_count - 1];
    uint32_t found = 0;
    enum mr_status r = MR_OK;
    for (uint32_t i = 0; i < config->subscription_count && r == MR_OK; i++) {
        struct mr_subscription_config *subscription = &config->subscriptions[i];
        if (subscription->hidden || subscription->is_shadow || !fits(entry, subscription->name)) {
            continue;
        }
        found++;
        if (subscription->fanout != 0 && subscription->fanout != config->fanout_count) {
            r = mr__report(builder->loader, place,
                           "of: the subscription `%s` belongs to the fan-out `%s` already, and "
                           "to `%s` here: it can belong to one",
                           subscription->name, config->fanouts[subscription->fanout - 1].name,
                           fanout->name);
            continue;
        }
        *members += subscription->fanout == 0;
        subscription->fanout = config->fanout_count;
    }
    if (r == MR_OK && found == 0) {
        r = mr__report(builder->loader, place, "of: no subscription is called `%.80s`",
                       mr__shown(place, entry));
    }
    return r;
}

enum mr_status mr__build_fanout(struct mr_builder *builder, struct mr_node *node)
{
    struct mr_config *config = builder->config;
    struct mr_fanout_config *fanout = &config->fanouts[config->fanout_count];
    fanout->name = mr_strdup(node->key);
    if (fanout->name == NULL) {
        return MR_E_NOMEM;
    }
    config->fanout_count++;
    if (node->kind != MR_NODE_MAPPING) {
        return mr__report(builder->loader, node,
                          "the fan-out `%s` wants a mapping: {of: [SUBSCRIPTION, …]}", node->key);
    }
    struct mr_fanout_options options = {0};
    const struct mr_beside beside = {.level = mr__sections[MR_SECTION_FANOUTS].level};
    enum mr_status r =
        mr__options_read(builder->loader, mr__fanout_table, node, &beside, &options);
    fanout->within_ns = options.within_ns;
    uint32_t members = 0;
    for (uint32_t i = 0; i < options.of.count && r == MR_OK; i++) {
        r = take_entry(builder, place_of(node, i), options.of.items[i], &members);
    }
    if (r == MR_OK && members > MR_FANOUT_MEMBERS_MAX) {
        r = mr__report(builder->loader, node,
                       "the fan-out `%s` has %u subscriptions: at most %u can be told of in one "
                       "event",
                       node->key, members, MR_FANOUT_MEMBERS_MAX);
    }
    mr_options_release(mr__fanout_table, &options);
    return r;
}
