#include "admin/ce_subscription.h"

#include <inttypes.h>
#include <stdio.h>

#include "config/option.h"
#include "config/redact.h"
#include "core/alloc.h"
#include "core/rng.h"
#include "router/router.h"

#define TYPES_MAX 1000

static const char *const members[] = {"id",       "source",          "types",
                                      "config",   "filters",         "sink",
                                      "sinkcredential", "protocol",  "protocolsettings"};

static enum mr_status refuse(struct mr_problem *problem, const char *text)
{
    return mr_problem_set(problem, MR_E_INVALID, "%s", text);
}

static bool is_text(const cJSON *item)
{
    return cJSON_IsString(item) && item->valuestring[0] != '\0';
}

/* Each member known, and there once. */
static enum mr_status check_members(const cJSON *object, struct mr_problem *problem)
{
    bool seen[MR_ARRAY_COUNT(members)] = {false};
    const cJSON *item;
    cJSON_ArrayForEach(item, object)
    {
        size_t i = 0;
        while (i < MR_ARRAY_COUNT(members) && strcmp(members[i], item->string) != 0) {
            i++;
        }
        if (i == MR_ARRAY_COUNT(members)) {
            return mr_problem_set(problem, MR_E_INVALID, "`%.64s` is no member of a subscription",
                                  item->string);
        }
        if (seen[i]) {
            return mr_problem_set(problem, MR_E_INVALID, "`%s` is there twice", members[i]);
        }
        seen[i] = true;
    }
    return MR_OK;
}

static enum mr_status check_source(const cJSON *object, struct mr_problem *problem)
{
    const cJSON *source = cJSON_GetObjectItemCaseSensitive(object, "source");
    const cJSON *types = cJSON_GetObjectItemCaseSensitive(object, "types");
    const cJSON *config = cJSON_GetObjectItemCaseSensitive(object, "config");
    if (source != NULL && !is_text(source)) {
        return refuse(problem, "source: wants a URI-reference as text");
    }
    if (types != NULL && (!cJSON_IsArray(types) || cJSON_GetArraySize(types) > TYPES_MAX)) {
        return refuse(problem, "types: wants an array of at most 1000 types");
    }
    const cJSON *type;
    cJSON_ArrayForEach(type, types)
    {
        if (!is_text(type)) {
            return refuse(problem, "types: each is text, and not empty");
        }
    }
    if (config != NULL && (!cJSON_IsObject(config) || config->child != NULL)) {
        return config->child != NULL && cJSON_IsObject(config)
                   ? mr_problem_set(problem, MR_E_INVALID, "config: there is no setting `%.64s`",
                                    config->child->string)
                   : refuse(problem, "config: wants an object");
    }
    return MR_OK;
}

static enum mr_status check_filters(const cJSON *object, struct mr_problem *problem)
{
    const cJSON *filters = cJSON_GetObjectItemCaseSensitive(object, "filters");
    if (filters == NULL) {
        return MR_OK;
    }
    if (!cJSON_IsArray(filters)) {
        return refuse(problem, "filters: wants an array");
    }
    char *json = cJSON_PrintUnformatted(filters);
    if (json == NULL) {
        return MR_E_NOMEM;
    }
    struct mr_problem why = {.text = ""};
    struct mr_filter *filter = NULL;
    enum mr_status r = mr_filter_create(mr_bytes_of(json), &filter, &why);
    mr_filter_destroy(filter);
    cJSON_free(json);
    return r == MR_OK || r == MR_E_NOMEM
               ? r
               : mr_problem_set(problem, MR_E_INVALID, "filters: %s", why.text);
}

static enum mr_status check_sink(const cJSON *object, struct mr_problem *problem)
{
    const cJSON *sink = cJSON_GetObjectItemCaseSensitive(object, "sink");
    if (!is_text(sink)) {
        return refuse(problem, "sink: is required, a URI as text");
    }
    struct mr_url *url = NULL;
    struct mr_problem why = {.text = ""};
    enum mr_status r = mr_parse_url(mr_bytes_of(sink->valuestring), &url, &why);
    if (r == MR_E_NOMEM) {
        return r;
    }
    if (r != MR_OK) {
        return mr_problem_set(problem, MR_E_INVALID, "sink: %s", why.text);
    }
    if (strcmp(url->scheme, "http") != 0 && strcmp(url->scheme, "https") != 0) {
        r = refuse(problem, "sink: must be http:// or https://");
    } else if (url->user != NULL || url->password != NULL) {
        r = refuse(problem, "sink: a URI with a user or password would show them to everybody who "
                            "may read it");
    }
    mr_url_destroy(url);
    return r;
}

static enum mr_status check_headers(const cJSON *headers, struct mr_problem *problem)
{
    if (!cJSON_IsObject(headers)) {
        return refuse(problem, "protocolsettings.headers: wants an object of texts");
    }
    const cJSON *header;
    cJSON_ArrayForEach(header, headers)
    {
        if (!cJSON_IsString(header)) {
            return mr_problem_set(problem, MR_E_INVALID,
                                  "protocolsettings.headers: `%.64s` is no text", header->string);
        }
        if (mr_redact_key(header->string)) {
            return mr_problem_set(problem, MR_E_INVALID,
                                  "protocolsettings.headers: `%.64s` looks like a secret, which "
                                  "would lie open in the log: it belongs into a sink of the file",
                                  header->string);
        }
    }
    return MR_OK;
}

static enum mr_status check_protocol(const cJSON *object, struct mr_problem *problem)
{
    const cJSON *protocol = cJSON_GetObjectItemCaseSensitive(object, "protocol");
    const cJSON *settings = cJSON_GetObjectItemCaseSensitive(object, "protocolsettings");
    if (cJSON_GetObjectItemCaseSensitive(object, "sinkcredential") != NULL) {
        return refuse(problem, "sinkcredential: is not supported: a sink that wants credentials "
                               "belongs into the file, where they are references");
    }
    if (!is_text(protocol)) {
        return refuse(problem, "protocol: is required, as text");
    }
    if (strcmp(protocol->valuestring, "HTTP") != 0) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "protocol: `%.32s` is not supported here, only HTTP (in capitals)",
                              protocol->valuestring);
    }
    if (settings != NULL && !cJSON_IsObject(settings)) {
        return refuse(problem, "protocolsettings: wants an object");
    }
    enum mr_status r = MR_OK;
    const cJSON *setting;
    cJSON_ArrayForEach(setting, settings)
    {
        bool is_post = cJSON_IsString(setting) && strcmp(setting->valuestring, "POST") == 0;
        if (strcmp(setting->string, "headers") == 0) {
            r = check_headers(setting, problem);
        } else if (strcmp(setting->string, "method") != 0) {
            r = mr_problem_set(problem, MR_E_INVALID,
                               "protocolsettings: there is no setting `%.64s` of HTTP",
                               setting->string);
        } else if (!is_post) {
            r = refuse(problem, "protocolsettings.method: events are sent by POST alone");
        }
        if (r != MR_OK) {
            break;
        }
    }
    return r;
}

static enum mr_status check_id(const cJSON *object, const char *id, bool is_new,
                               struct mr_problem *problem)
{
    const cJSON *own = cJSON_GetObjectItemCaseSensitive(object, "id");
    if (own == NULL || is_new) {
        return MR_OK;
    }
    return cJSON_IsString(own) && strcmp(own->valuestring, id) == 0
               ? MR_OK
               : refuse(problem, "id: is not that of the path, and cannot be changed");
}

/* A reference would bring what it names, a secret perhaps, to wherever the sink is. */
static enum mr_status check_text(const cJSON *object, struct mr_problem *problem)
{
    char *json = cJSON_PrintUnformatted(object);
    if (json == NULL) {
        return MR_E_NOMEM;
    }
    bool has_reference = strstr(json, "${") != NULL;
    size_t size = strlen(json);
    cJSON_free(json);
    if (size > MR_CE_SUBSCRIPTION_SIZE_MAX) {
        return mr_problem_set(problem, MR_E_TOO_BIG, "a subscription is at most %u bytes",
                              MR_CE_SUBSCRIPTION_SIZE_MAX);
    }
    return has_reference ? refuse(problem, "`${` begins a reference, which only the file may have")
                         : MR_OK;
}

/* The members in the order of the specification, the id first. */
static enum mr_status arrange(cJSON *from, const char *id, cJSON **ret_object)
{
    cJSON *object = cJSON_CreateObject();
    bool good = object != NULL && cJSON_AddStringToObject(object, "id", id) != NULL;
    for (size_t i = 1; good && i < MR_ARRAY_COUNT(members); i++) {
        cJSON *item = cJSON_DetachItemFromObjectCaseSensitive(from, members[i]);
        good = item == NULL || cJSON_AddItemToObject(object, members[i], item);
        if (!good) {
            cJSON_Delete(item);
        }
    }
    if (!good) {
        cJSON_Delete(object);
        return MR_E_NOMEM;
    }
    *ret_object = object;
    return MR_OK;
}

enum mr_status mr_ce_subscription_read(struct mr_bytes json, const char *id, bool is_new,
                                       cJSON **ret_object, struct mr_problem *problem)
{
    cJSON *object = NULL;
    if (memchr(json.data, '\0', json.size) == NULL) {
        /* With its end: what follows the value must be seen. */
        char *text = mr_strndup((const char *)json.data, json.size);
        object = text == NULL ? NULL : cJSON_ParseWithOpts(text, NULL, true);
        mr_free(text);
    }
    enum mr_status r =
        cJSON_IsObject(object) ? MR_OK : refuse(problem, "the body is no JSON object");
    r = r == MR_OK ? check_members(object, problem) : r;
    r = r == MR_OK ? check_text(object, problem) : r;
    r = r == MR_OK ? check_id(object, id, is_new, problem) : r;
    r = r == MR_OK ? check_source(object, problem) : r;
    r = r == MR_OK ? check_filters(object, problem) : r;
    r = r == MR_OK ? check_sink(object, problem) : r;
    r = r == MR_OK ? check_protocol(object, problem) : r;
    r = r == MR_OK ? arrange(object, id, ret_object) : r;
    cJSON_Delete(object);
    return r;
}

void mr_ce_subscription_id(char id[MR_CE_SUBSCRIPTION_ID_SIZE])
{
    (void)snprintf(id, MR_CE_SUBSCRIPTION_ID_SIZE, "api-%016" PRIx64, mr_rng_entropy()); /* fits */
}

/* --- as a part of the configuration ----------------------------------------------------------- */

/* {"exact": {name: value}} */
static cJSON *make_exact(const char *name, const cJSON *value)
{
    cJSON *filter = cJSON_CreateObject();
    cJSON *exact = cJSON_AddObjectToObject(filter, "exact");
    if (!cJSON_AddItemToObject(exact, name, cJSON_Duplicate(value, true))) {
        cJSON_Delete(filter);
        return NULL;
    }
    return filter;
}

static bool add_types(cJSON *filter, const cJSON *types)
{
    if (cJSON_GetArraySize(types) == 0) {
        return true;
    }
    cJSON *any = cJSON_CreateObject();
    cJSON *list = cJSON_AddArrayToObject(any, "any");
    bool good = cJSON_AddItemToArray(filter, any);
    const cJSON *type;
    cJSON_ArrayForEach(type, types)
    {
        good = good && cJSON_AddItemToArray(list, make_exact("type", type));
    }
    return good;
}

static bool add_filter(cJSON *subscription, const cJSON *object)
{
    cJSON *filter = cJSON_AddArrayToObject(subscription, "filter");
    const cJSON *source = cJSON_GetObjectItemCaseSensitive(object, "source");
    bool good = filter != NULL &&
                (source == NULL || cJSON_AddItemToArray(filter, make_exact("source", source))) &&
                add_types(filter, cJSON_GetObjectItemCaseSensitive(object, "types"));
    const cJSON *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(object, "filters"))
    {
        good = good && cJSON_AddItemToArray(filter, cJSON_Duplicate(item, true));
    }
    return good;
}

static bool add_sink(cJSON *sinks, const char *id, const cJSON *object, bool egress_any)
{
    cJSON *http = cJSON_AddObjectToObject(cJSON_AddObjectToObject(sinks, id), "http");
    const cJSON *sink = cJSON_GetObjectItemCaseSensitive(object, "sink");
    const cJSON *settings = cJSON_GetObjectItemCaseSensitive(object, "protocolsettings");
    const cJSON *headers = cJSON_GetObjectItemCaseSensitive(settings, "headers");
    return cJSON_AddStringToObject(http, "url", sink->valuestring) != NULL &&
           cJSON_AddStringToObject(http, "egress", egress_any ? "any" : "public") != NULL &&
           (headers == NULL ||
            cJSON_AddItemToObject(http, "headers", cJSON_Duplicate(headers, true)));
}

/* @return MR_E_NOMEM: the only thing that can fail once the document is ours */
static enum mr_status make_overlay(const cJSON *list, bool egress_any, cJSON *root)
{
    cJSON *sinks = cJSON_AddObjectToObject(root, "sinks");
    cJSON *subscriptions = cJSON_AddObjectToObject(root, "subscriptions");
    const cJSON *object;
    cJSON_ArrayForEach(object, list)
    {
        const cJSON *id = cJSON_GetObjectItemCaseSensitive(object, "id");
        if (!is_text(id) || !is_text(cJSON_GetObjectItemCaseSensitive(object, "sink"))) {
            return MR_E_INVALID;
        }
        cJSON *subscription = cJSON_AddObjectToObject(subscriptions, id->valuestring);
        if (!add_sink(sinks, id->valuestring, object, egress_any) ||
            cJSON_AddStringToObject(subscription, "to", id->valuestring) == NULL ||
            !add_filter(subscription, object)) {
            return MR_E_NOMEM;
        }
    }
    return root == NULL ? MR_E_NOMEM : MR_OK;
}

enum mr_status mr_ce_subscriptions_overlay(struct mr_bytes document, bool egress_any,
                                           struct mr_buf *out)
{
    if (document.size == 0) {
        return MR_OK;
    }
    cJSON *held = cJSON_ParseWithLength((const char *)document.data, document.size);
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(held, "subscriptions");
    cJSON *root = cJSON_CreateObject();
    enum mr_status r =
        cJSON_IsArray(list) ? make_overlay(list, egress_any, root) : MR_E_INVALID;
    char *json = r == MR_OK ? cJSON_PrintUnformatted(root) : NULL;
    if (r == MR_OK) {
        r = json == NULL ? MR_E_NOMEM : mr_buf_append_text(out, json);
    }
    cJSON_free(json);
    cJSON_Delete(root);
    cJSON_Delete(held);
    return r;
}
