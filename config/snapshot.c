/* What a snapshot of the log, a configuration as JSON without its secrets, says of matching. */
#include "config/builder.h"
#include "config/config.h"
#include "core/alloc.h"

#include <cjson/cJSON.h>

static enum mr_status take_sources(struct mr_config *config, const cJSON *sources)
{
    const cJSON *item;
    int count = cJSON_GetArraySize(sources);
    config->sources = mr_calloc((size_t)count + 1, sizeof(*config->sources));
    if (config->sources == NULL) {
        return MR_E_NOMEM;
    }
    cJSON_ArrayForEach(item, sources)
    {
        char *name = mr_strdup(item->string);
        if (name == NULL) {
            return MR_E_NOMEM;
        }
        config->sources[config->source_count++].name = name;
    }
    return MR_OK;
}

/* One name, or a list of them, as indexes. */
static enum mr_status take_source_names(const struct mr_config *config, const cJSON *names,
                                        struct mr_subscription_config *subscription)
{
    size_t count = cJSON_IsArray(names) ? (size_t)cJSON_GetArraySize(names) : names != NULL;
    subscription->sources = count == 0 ? NULL : mr_calloc(count, sizeof(uint32_t));
    if (subscription->sources == NULL) {
        return count == 0 ? MR_OK : MR_E_NOMEM;
    }
    const cJSON *name = cJSON_IsArray(names) ? names->child : names;
    for (size_t i = 0; i < count; i++, name = name->next) {
        int64_t index =
            cJSON_IsString(name) ? mr_config_find_source(config, name->valuestring) : -1;
        if (index < 0) {
            return MR_E_INVALID;
        }
        subscription->sources[subscription->source_count++] = (uint32_t)index;
    }
    return MR_OK;
}

static enum mr_status take_filter(const cJSON *filter, char **ret_json)
{
    struct mr_buf text;
    mr_buf_init(&text, MR_CONFIG_SIZE_MAX);
    char *json = filter == NULL ? NULL : cJSON_PrintUnformatted(filter);
    bool is_one = cJSON_IsObject(filter);
    enum mr_status r = filter != NULL && json == NULL ? MR_E_NOMEM : MR_OK;
    if (r == MR_OK) {
        r = mr_buf_append_text(&text, is_one ? "[" : "");
    }
    if (r == MR_OK) {
        r = mr_buf_append_text(&text, json == NULL ? "[]" : json);
    }
    if (r == MR_OK) {
        r = mr_buf_append_text(&text, is_one ? "]" : "");
    }
    if (r == MR_OK) {
        *ret_json = mr_buf_take_text(&text);
        r = *ret_json == NULL ? MR_E_NOMEM : MR_OK;
    }
    cJSON_free(json);
    mr_buf_release(&text);
    return r;
}

static enum mr_status take_subscriptions(struct mr_config *config, const cJSON *subscriptions)
{
    const cJSON *item;
    size_t count = (size_t)cJSON_GetArraySize(subscriptions);
    config->subscriptions = mr_calloc(count + 1, sizeof(*config->subscriptions));
    enum mr_status r = config->subscriptions == NULL ? MR_E_NOMEM : MR_OK;
    cJSON_ArrayForEach(item, subscriptions)
    {
        if (r != MR_OK) {
            break;
        }
        struct mr_subscription_config *to = &config->subscriptions[config->subscription_count++];
        const cJSON *is_default = cJSON_GetObjectItemCaseSensitive(item, "default");
        to->is_default = cJSON_IsTrue(is_default);
        to->name = mr_strdup(item->string);
        r = to->name == NULL ? MR_E_NOMEM : MR_OK;
        if (r == MR_OK) {
            r = take_source_names(config, cJSON_GetObjectItemCaseSensitive(item, "source"), to);
        }
        if (r == MR_OK) {
            r = take_filter(cJSON_GetObjectItemCaseSensitive(item, "filter"), &to->filter_json);
        }
        const cJSON *cancel_on = cJSON_GetObjectItemCaseSensitive(item, "cancel_on");
        if (r == MR_OK && cancel_on != NULL) {
            r = take_filter(cancel_on, &to->cancel_on);
        }
    }
    return r;
}

enum mr_status mr_config_from_snapshot(struct mr_bytes json, struct mr_config **ret_config)
{
    struct mr_config *config = mr_calloc(1, sizeof(*config));
    cJSON *root = cJSON_ParseWithLength((const char *)json.data, json.size);
    enum mr_status r = config == NULL ? MR_E_NOMEM : MR_OK;
    if (r == MR_OK && !cJSON_IsObject(root)) {
        r = MR_E_INVALID;
    }
    if (r == MR_OK) {
        r = take_sources(config, cJSON_GetObjectItemCaseSensitive(root, "sources"));
    }
    if (r == MR_OK) {
        r = take_subscriptions(config, cJSON_GetObjectItemCaseSensitive(root, "subscriptions"));
    }
    cJSON_Delete(root);
    if (r != MR_OK) {
        mr_config_destroy(config);
        return r;
    }
    *ret_config = config;
    return MR_OK;
}
