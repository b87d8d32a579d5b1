/* The configuration while it is being built. Internal to config/. One thread. */
#ifndef MR_CONFIG_BUILDER_H
#define MR_CONFIG_BUILDER_H

#include "config/loader.h"
#include "config/tables.h"

/* Names of sources or targets, sorted, so that many subscriptions find them fast. */
struct mr_name_entry {
    const char *name; /* borrowed: the configuration's */
    const struct mr_node *node;
    uint32_t index;
};
struct mr_name_index {
    struct mr_name_entry *items; /* owned */
    const char **words;          /* owned: the same names, for mr_nearest_word() */
    uint32_t count;
};

struct mr_builder {
    struct mr_loader *loader;
    struct mr_config *config;
    struct mr_name_index sources;
    struct mr_name_index targets;
    struct mr_name_index limits;
};

/** The index of @p name, or -1. */
int64_t mr__builder_find(const struct mr_name_index *names, const char *name);

/** Reports a `memory.state` that is too little for the subscriptions there are. */
MR_MUST_USE enum mr_status mr__check_memory(struct mr_builder *builder,
                                            const struct mr_node *root);

/** Whether @p node's key can be a name; if not, that is reported. */
MR_MUST_USE enum mr_status mr__check_name(struct mr_loader *loader, const struct mr_node *node,
                                          bool *ret_ok);

/** Reads every entry of `subscriptions`, then makes the hidden ones. */
MR_MUST_USE enum mr_status mr__build_subscriptions(struct mr_builder *builder,
                                                   struct mr_node *section);

/** One entry of `fanouts`, after all subscriptions are there. */
MR_MUST_USE enum mr_status mr__build_fanout(struct mr_builder *builder, struct mr_node *node);

/** The windows of `rate` in @p entry, owned by *ret_rates; untouched when there are none. */
MR_MUST_USE enum mr_status mr__build_rates(struct mr_loader *loader, const struct mr_node *entry,
                                           const struct mr_strings *texts,
                                           struct mr_rates **ret_rates);
/** The retry policy of the block @p node (NULL: the default); its waits are kept by @p config.
 * Contradictions are reported. */
MR_MUST_USE enum mr_status mr__build_retry(struct mr_loader *loader, struct mr_config *config,
                                           const struct mr_node *node,
                                           const struct mr_retry_options *options,
                                           struct mr_retry *ret_retry);

/** The filters array of @p entry's @p key (`filter`, or `cancel_on`, which is one as well), owned
 * by *ret_json; wrong ones are reported at the clause that is. */
MR_MUST_USE enum mr_status mr__build_filter(struct mr_loader *loader, const struct mr_node *entry,
                                            const char *key, const char *json, char **ret_json);
/** What setting @p name of @p block, which may be NULL, says a key of events is; wrong ones are
 * reported. *ret_key, owned, is untouched when @p text is NULL or none. */
MR_MUST_USE enum mr_status mr__build_key(struct mr_loader *loader, const struct mr_node *block,
                                         const char *name, const char *text, int *ret_order,
                                         char **ret_key);
/** `priority` at @p node (NULL: none). Wrong levels are reported. */
MR_MUST_USE enum mr_status mr__build_priority(struct mr_loader *loader,
                                              const struct mr_node *node,
                                              const struct mr_priority_options *options,
                                              struct mr_priority_config **ret_priority);
/** `to` as the list @p node, into shares and target of @p subscription; wrong ones are reported. */
MR_MUST_USE enum mr_status mr__build_shares(struct mr_builder *builder, struct mr_node *node,
                                            struct mr_subscription_config *subscription);
/** The target called @p name at @p place; what is none is reported, and *ret_index stays -1. */
MR_MUST_USE enum mr_status mr__find_target(struct mr_builder *builder,
                                           const struct mr_node *place, const char *name,
                                           int64_t *ret_index);

/** The text of `transform` of @p entry, owned by *ret_json; wrong ones are reported. */
MR_MUST_USE enum mr_status mr__build_transform(struct mr_loader *loader,
                                               const struct mr_node *entry, const char *json,
                                               char **ret_json);
/** `validate` at @p node (NULL: none). Wrong schemas are reported. */
MR_MUST_USE enum mr_status mr__build_validation(struct mr_loader *loader,
                                                const struct mr_node *node,
                                                const struct mr_validate_options *options,
                                                struct mr_validation **ret_validation);

/** Takes `listen` apart; only loopback addresses pass.
 * @param shown what the problem may repeat of @p text
 * @return MR_E_INVALID with the problem, MR_E_NOMEM */
MR_MUST_USE enum mr_status mr__parse_listen(const char *text, const char *shown, char **ret_host,
                                            uint16_t *ret_port, bool *ret_off,
                                            struct mr_problem *problem);

/** The policy version of @p subscription. */
MR_MUST_USE enum mr_status mr__subscription_hash(const struct mr_config *config,
                                                 const struct mr_subscription_config *subscription,
                                                 uint64_t *ret_hash);

void mr__subscription_release(struct mr_subscription_config *subscription);

#endif
