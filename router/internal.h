/* The router's own structs, shared by router.c, index.c and explain.c. */
#ifndef MR_ROUTER_INTERNAL_H
#define MR_ROUTER_INTERNAL_H

#include "router/index.h"
#include "router/program.h"
#include "router/router.h"

/* What matching needs of one subscription. */
struct mr__rule {
    struct mr__program *program; /* owned; NULL: hidden, matches nothing */
    const uint32_t *sources;     /* borrowed from the configuration; NULL = every source */
    uint32_t source_count;
    int order;
    struct mr_bytes order_key; /* borrowed from the configuration */
};

struct mr_router {
    const struct mr_config *config; /* borrowed: outlives the router */
    struct mr__names names;
    struct mr__rule *rules; /* owned; by subscription */
    uint32_t rule_count;
    struct mr__index index;
};

bool mr__rule_takes_source(const struct mr__rule *rule, uint32_t source);

#endif
