/* Owns the finished configuration: finding in it, and its end. */
#include "config/config.h"

#include "config/builder.h"
#include "core/alloc.h"

static void release_options(const struct mr_config_kind *kind, void *options)
{
    if (kind != NULL && options != NULL) {
        mr_options_release(mr__kind_options(kind), options);
    }
    mr_free(options);
}

void mr_config_destroy(struct mr_config *config)
{
    if (config == NULL) {
        return;
    }
    for (uint32_t i = 0; i < config->source_count; i++) {
        mr_free(config->sources[i].name);
        mr_free(config->sources[i].transform_json);
        mr_validation_destroy(config->sources[i].validation);
        release_options(config->sources[i].kind, config->sources[i].options);
    }
    for (uint32_t i = 0; i < config->target_count; i++) {
        mr_free(config->targets[i].name);
        mr_free(config->targets[i].rates);
        release_options(config->targets[i].kind, config->targets[i].options);
    }
    for (uint32_t i = 0; i < config->limit_count; i++) {
        mr_free(config->limits[i].name);
        mr_free(config->limits[i].rates);
    }
    for (uint32_t i = 0; i < config->subscription_count; i++) {
        mr__subscription_release(&config->subscriptions[i]);
    }
    mr_free(config->sources);
    mr_free(config->targets);
    mr_free(config->limits);
    for (uint32_t i = 0; i < config->fanout_count; i++) {
        mr_free(config->fanouts[i].name);
    }
    mr_free(config->fanouts);
    mr_free(config->subscriptions);
    mr_free(config->path);
    mr_free(config->folder);
    mr_free(config->data_dir);
    mr_free(config->log.mirror);
    mr_free(config->listen_host);
    mr_free(config->canonical_json);
    mr_secret_destroy(config->subscriptions_api.token);
    for (struct mr_schedule *schedule = config->schedules; schedule != NULL;) {
        struct mr_schedule *next = schedule->next;
        mr_free(schedule);
        schedule = next;
    }
    mr_free(config);
}

int64_t mr_config_find_source(const struct mr_config *config, const char *name)
{
    for (uint32_t i = 0; i < config->source_count; i++) {
        if (strcmp(config->sources[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

int64_t mr_config_find_target(const struct mr_config *config, const char *name)
{
    for (uint32_t i = 0; i < config->target_count; i++) {
        if (strcmp(config->targets[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

int64_t mr_config_find_subscription(const struct mr_config *config, const char *name)
{
    for (uint32_t i = 0; i < config->subscription_count; i++) {
        if (strcmp(config->subscriptions[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}
