/* How memory.state is divided: the bus keeps to it (bus/memory.c). */
#include <inttypes.h>

#include "config/builder.h"

#define SHARE_MIN (2u * MR_KIB)  /* a delivery and its tables go into it, whatever comes */

uint64_t mr_memory_keys_floor(uint64_t state, uint32_t source_count)
{
    uint64_t floor = state / 8 / MR_DEDUPE_KEY_COST / (source_count == 0 ? 1 : source_count);
    return floor < MR_DEDUPE_KEYS_SURE ? floor : MR_DEDUPE_KEYS_SURE;
}

struct mr_memory_parts mr_memory_parts(const struct mr_config *config, uint64_t state)
{
    struct mr_memory_parts parts = {.kept = state / 16};
    uint64_t floor = mr_memory_keys_floor(state, config->source_count);
    uint64_t keys = 0;
    for (uint32_t i = 0; i < config->source_count; i++) {
        const struct mr_source_config *source = &config->sources[i];
        uint64_t most = source->dedupe_window_ns > 0 ? source->dedupe_keys : 0;
        keys += most;
        parts.keys += (most < floor ? most : floor) * MR_DEDUPE_KEY_COST;
    }
    keys *= MR_DEDUPE_KEY_COST;
    parts.keys += keys < state / 4 ? keys : state / 4;
    parts.fanouts = config->fanout_count > 0 ? state / 4 : 0;
    uint64_t taken = parts.keys + parts.fanouts + parts.kept;
    uint64_t rest = state > taken ? state - taken : 0;
    parts.share = config->subscription_count == 0 ? 0 : rest / 2 / config->subscription_count;
    parts.free = rest / 2;
    return parts;
}

enum mr_status mr__check_memory(struct mr_builder *builder, const struct mr_node *root)
{
    const struct mr_config *config = builder->config;
    if (config->subscription_count == 0 ||
        mr_memory_parts(config, config->memory_state).share >= SHARE_MIN) {
        return MR_OK;
    }
    uint64_t enough = mr_round_up(config->memory_state, MR_MIB);
    while (mr_memory_parts(config, enough).share < SHARE_MIN) {
        enough += MR_MIB;
    }
    const struct mr_node *memory =
        root == NULL || root->kind != MR_NODE_MAPPING ? NULL : mr__node_child(root, "memory");
    return mr__report(builder->loader, memory == NULL ? root : memory,
                      "memory.state is too little for %" PRIu32 " subscriptions: at least %" PRIu64
                      "MiB, so that each can go on whatever the others do",
                      config->subscription_count, enough / MR_MIB);
}
