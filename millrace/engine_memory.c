/* What connectors and workers of a configuration may take of memory. */
#include "millrace/engine_internal.h"

static bool is_program(const char *transform_json)
{
    struct mr_transform *transform = NULL;
    uint64_t timeout_ns;
    bool is = transform_json != NULL &&
              mr_transform_create(mr_bytes_of(transform_json), &transform, NULL) == MR_OK &&
              mr_transform_program(transform, &timeout_ns) != NULL;
    mr_transform_destroy(transform);
    return is;
}

/* Of transforms in jq: the helpers, and what waits for them. */
static uint64_t jq_bytes(const struct mr_config *config)
{
    uint64_t waiting = 0;
    bool any = false;
    for (uint32_t i = 0; i < config->source_count; i++) {
        bool is = is_program(config->sources[i].transform_json);
        waiting += is ? MR_JQ_QUEUE_SIZE_MAX : 0;
        any |= is;
    }
    for (uint32_t i = 0; i < config->subscription_count && !any; i++) {
        any = is_program(config->subscriptions[i].transform_json);
    }
    return any ? waiting + mr_jq_pool_bytes_max() : 0;
}

uint64_t engine_connector_bytes(const struct mr_config *config)
{
    uint64_t bytes = jq_bytes(config);
    for (uint32_t i = 0; i < config->source_count; i++) {
        const struct mr_connector *connector = engine_connector_of(config->sources[i].kind);
        if (connector != NULL && connector->source_bytes_max != NULL) {
            bytes += connector->source_bytes_max(config->sources[i].options);
        }
    }
    for (uint32_t i = 0; i < config->target_count; i++) {
        const struct mr_connector *connector = engine_connector_of(config->targets[i].kind);
        if (connector != NULL && connector->bytes_max != NULL) {
            uint32_t instances = config->targets[i].scale_max;
            bytes += connector->bytes_max(config->targets[i].options) *
                     (config->targets[i].is_worker && instances > 1 ? instances : 1);
        }
    }
    return bytes;
}
