/* Taking a configuration: subscriptions keep their state by name. */
#include "bus/internal.h"

#include "core/alloc.h"
#include "core/hash.h"

/* Everything that can fail, before anything changes. */
static enum mr_status reserve_configuration(struct mr_bus *bus, const struct mr_config *config,
                                            uint32_t **ret_ids, struct mr__shared **ret_shared)
{
    uint32_t *ids = mr_calloc(config->subscription_count + 1u, sizeof(*ids));
    if (ids == NULL) {
        return MR_E_NOMEM;
    }
    enum mr_status r = MR_OK;
    for (uint32_t i = 0; i < config->target_count && r == MR_OK; i++) {
        const char *name = config->targets[i].name;
        if (mr__name_find(bus, MR_NAME_TARGET, name) == UINT32_MAX &&
            mr__target_add(bus, name) == NULL) {
            r = MR_E_NOMEM;
        }
        if (r == MR_OK) {
            struct mr__target *target = bus->targets[mr__name_find(bus, MR_NAME_TARGET, name)];
            r = mr__limit_prepare(target->limit, config->targets[i].rates, &target->limit_next);
        }
    }
    for (uint32_t i = 0; i < config->source_count && r == MR_OK; i++) {
        const char *name = config->sources[i].name;
        if (mr__name_find(bus, MR_NAME_SOURCE, name) == UINT32_MAX &&
            mr__source_add(bus, name) == NULL) {
            r = MR_E_NOMEM;
        }
    }
    static const char *const built_in[] = {MR_SOURCE_SEND_NAME, MR_SOURCE_API_NAME};
    for (size_t i = 0; i < MR_ARRAY_COUNT(built_in) && r == MR_OK; i++) {
        if (mr__name_find(bus, MR_NAME_SOURCE, built_in[i]) == UINT32_MAX &&
            mr__source_add(bus, built_in[i]) == NULL) {
            r = MR_E_NOMEM;
        }
    }
    size_t bytes = mr_record_size(strlen(config->canonical_json)) + 4096;
    for (uint32_t i = 0; i < config->subscription_count && r == MR_OK; i++) {
        const char *name = config->subscriptions[i].name;
        ids[i] = mr__name_find(bus, MR_NAME_SUBSCRIPTION, name);
        if (ids[i] == UINT32_MAX) {
            struct mr__sub *sub = mr__sub_add(bus, name);
            r = sub == NULL ? MR_E_NOMEM : MR_OK;
            ids[i] = sub == NULL ? 0 : sub->id;
        }
        if (r == MR_OK) {
            struct mr__sub *sub = bus->subs[ids[i]];
            r = mr__limit_prepare(sub->limit, config->subscriptions[i].rates, &sub->limit_next);
        }
        if (r == MR_OK) {
            r = mr__shares_prepare(bus, bus->subs[ids[i]], &config->subscriptions[i], config,
                                   &bytes);
        }
        bytes += mr_record_size(0);
    }
    for (uint32_t i = 0; i < bus->sub_count; i++) {
        bytes += mr_record_size(0) + mr__unarm_size(bus->subs[i]);
    }
    r = r == MR_OK ? mr__fanouts_reserve(bus, config) : r;
    r = r == MR_OK ? mr__names_reserve(bus) : r;
    r = r == MR_OK ? mr__stage_reserve(bus, bytes) : r;
    r = r == MR_OK ? mr__shared_prepare(bus, config, ret_shared) : r;
    if (r != MR_OK) {
        mr_free(ids);
        return r;
    }
    *ret_ids = ids;
    return MR_OK;
}

static void set_targets_and_sources(struct mr_bus *bus, const struct mr_config *config)
{
    for (uint32_t i = 0; i < bus->target_count; i++) {
        bus->targets[i]->conf = NULL;
        bus->targets[i]->has_levels = false;
    }
    for (uint32_t i = 0; i < config->target_count; i++) {
        uint32_t id = mr__name_find(bus, MR_NAME_TARGET, config->targets[i].name);
        bus->targets[id]->conf = &config->targets[i];
        mr__limit_apply(&bus->targets[id]->limit, &bus->targets[id]->limit_next);
    }
    for (uint32_t i = 0; i < bus->source_count; i++) {
        bus->sources[i]->index = -1;
    }
    for (uint32_t i = 0; i < config->source_count; i++) {
        const struct mr_source_config *conf = &config->sources[i];
        uint32_t id = mr__name_find(bus, MR_NAME_SOURCE, conf->name);
        bus->sources[id]->index = i;
        mr__seen_configure(bus, &bus->sources[id]->seen, conf->dedupe_window_ns,
                           conf->dedupe_keys);
    }
}

static uint64_t order_hash(const struct mr_subscription_config *conf)
{
    uint64_t hash = conf->order_key == NULL ? 0 : mr_hash(conf->order_key, strlen(conf->order_key));
    return mr_hash_u64(hash + (uint64_t)conf->order) | 1;
}

static void set_subscription(struct mr_bus *bus, struct mr__sub *sub,
                             const struct mr_subscription_config *conf)
{
    uint64_t order = order_hash(conf);
    if (sub->order_hash != 0 && sub->order_hash != order) {
        sub->order_epoch++;
    }
    sub->order_hash = order; /* logged with the names, which this group begins or ends with */
    sub->conf = conf;
    sub->shared = bus->shared;
    mr__shares_apply(bus, sub);
    mr__state_set_width(bus, sub);
    mr__limit_apply(&sub->limit, &sub->limit_next);
    if (sub->removed_log_ns != 0) {
        struct mr_record record = {.kind = MR_RECORD_REMOVED, .a = sub->id, .b = 0};
        (void)mr__stage_record(bus, &record);
        mr__apply_removed(bus, sub, 0, 0);
    }
    mr__turn_add_all(sub);
    mr__shed_look(bus, sub);
}

static void remove_subscription(struct mr_bus *bus, struct mr__sub *sub)
{
    sub->conf = NULL;
    if (sub->removed_log_ns != 0 || sub->ingest) {
        return;
    }
    struct mr_record record = {
        .kind = MR_RECORD_REMOVED, .a = sub->id, .b = 1, .c = bus->log_ns};
    (void)mr__stage_record(bus, &record);
    mr__apply_removed(bus, sub, 1, bus->log_ns);
    mr__unarm(bus, sub, NULL);
}

enum mr_status mr_bus_configure(struct mr_bus *bus, struct mr_now now,
                                const struct mr_config *config, const struct mr_router *router,
                                uint64_t generation)
{
    mr__clock_advance(bus, now);
    MR_ASSERT(generation != 0); /* 0 stands for matches that are ids already */
    uint32_t *ids = NULL;
    struct mr__shared *shared = NULL;
    enum mr_status r = reserve_configuration(bus, config, &ids, &shared);
    if (r != MR_OK) {
        return r;
    }
    mr__checkpoint_abandon(bus); /* its base does not know what comes now */
    mr__pending_hold(bus);
    bus->names_due = true;
    bus->options.log.retain_size = config->log.retain_size;
    bus->options.log.retain_age_ns = config->log.retain_age_ns;
    bus->options.log.max_size = config->log.max_size;
    bus->options.log.disk_low = config->log.disk_low;
    bus->options.log.scrub_ns = config->log.scrub_ns;
    set_targets_and_sources(bus, config);
    for (uint32_t i = 0; i < bus->sub_count; i++) {
        bus->subs[i]->conf = NULL; /* set again below, or removed */
    }
    mr__shared_apply(bus, shared, config->limit_count);
    for (uint32_t i = 0; i < config->subscription_count; i++) {
        set_subscription(bus, bus->subs[ids[i]], &config->subscriptions[i]);
    }
    for (uint32_t i = 0; i < bus->sub_count; i++) {
        if (bus->subs[i]->conf == NULL) {
            remove_subscription(bus, bus->subs[i]);
        }
    }
    if (bus->config_hash_logged != config->hash) {
        struct mr_record record = {.kind = MR_RECORD_CONFIG,
                                   .c = config->hash,
                                   .body = mr_bytes_of(config->canonical_json)};
        (void)mr__stage_record(bus, &record);
        bus->config_hash_logged = config->hash;
        bus->config_due = false;
    }
    mr__shared_recount(bus);
    mr__fanouts_configure(bus, config);
    mr_free(bus->sub_of_index);
    bus->sub_of_index = ids;
    bus->sub_of_index_count = config->subscription_count;
    bus->config = config;
    bus->router = router;
    bus->generation = generation;
    mr__pending_rematch(bus);
    mr__memory_configure(bus, config);
    mr__timers_reset(bus);
    mr__flow_update(bus);
    return MR_OK;
}

uint32_t mr_bus_source_id(const struct mr_bus *bus, const char *name)
{
    return mr__name_find(bus, MR_NAME_SOURCE, name);
}

uint32_t mr_bus_target_id(const struct mr_bus *bus, const char *name)
{
    return mr__name_find(bus, MR_NAME_TARGET, name);
}

uint32_t mr_bus_subscription_id(const struct mr_bus *bus, const char *name)
{
    return mr__name_find(bus, MR_NAME_SUBSCRIPTION, name);
}
