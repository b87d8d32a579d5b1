/* What the files of the router share. */
#ifndef MR_ROUTER_INTERNAL_H
#define MR_ROUTER_INTERNAL_H

#include "router/index.h"
#include "router/program.h"
#include "router/router.h"

/* What matching needs of one subscription: its filter, or what cancels its deliveries. */
struct mr__rule {
    uint32_t subscription;
    bool cancels;
    struct mr__program *program; /* owned; NULL: hidden, matches nothing */
    const uint32_t *sources;     /* borrowed from the configuration; NULL = every source */
    uint32_t source_count;
    int order;
    bool is_default;           /* takes what no other one matched */
    struct mr_bytes order_key; /* borrowed from the configuration */
    const struct mr_priority_config *priority; /* borrowed likewise; NULL: none */
    int batch_by; /* enum mr_order */
    struct mr_bytes batch_key; /* borrowed from the configuration */
    uint64_t failures;         /* evaluations of its sql that failed; relaxed atomic */
};

struct mr_router {
    const struct mr_config *config; /* borrowed: outlives the router */
    struct mr__names names;
    struct mr__rule *rules; /* owned; by subscription, then those that cancel */
    uint32_t rule_count;
    uint32_t *defaults;    /* owned; the default subscriptions, ascending */
    uint32_t default_count;
    struct mr__index index;
};

static inline bool mr__rule_is_indexed(const struct mr__rule *rule)
{
    return rule->program != NULL && !rule->is_default;
}

bool mr__rule_takes_source(const struct mr__rule *rule, uint32_t source);

/** The transform @p json, which has the member `jq` with the value @p jq.
 * @param[out] ret_program its text, the caller's: mr_free() */
MR_MUST_USE enum mr_status mr__transform_compile_jq(struct mr_bytes json, struct mr_bytes jq,
                                                    char **ret_program, uint64_t *ret_timeout_ns,
                                                    struct mr_problem *problem);

#endif
