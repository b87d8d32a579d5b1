/* /subscriptions: the CloudEvents Subscriptions API. It owns what was made over it; subscriptions
 * of the file are read-only here. On the socket always, on the ingest listener with a token
 * alone. */
#include <stdio.h>

#include "admin/ce_subscription.h"
#include "admin/internal.h"

#define MADE_MAX 10000u /* the bus keeps what it knows of a deleted one: no id comes twice */
#define DOCUMENT_SIZE_MAX (MR_CE_SUBSCRIPTIONS_SIZE_MAX + 2 * MR_CE_SUBSCRIPTION_SIZE_MAX)

/* What it holds, taken apart for one request. */
struct holding {
    cJSON *document; /* owned */
    cJSON *list;     /* in the document */
};

static enum mr_status open_holding(struct mr_admin *admin, struct holding *ret_holding)
{
    struct mr_buf text;
    mr_buf_init(&text, DOCUMENT_SIZE_MAX);
    struct holding holding = {.document = NULL};
    enum mr_status r = admin->host->ops->subscriptions(admin->host, &text);
    if (r == MR_OK && text.size == 0) {
        holding.document = cJSON_CreateObject();
        holding.list = cJSON_AddArrayToObject(holding.document, "subscriptions");
    } else if (r == MR_OK) {
        holding.document = cJSON_ParseWithLength((const char *)text.data, text.size);
        holding.list =
            cJSON_GetObjectItemCaseSensitive(holding.document, "subscriptions");
    }
    mr_buf_release(&text);
    if (holding.list == NULL) {
        cJSON_Delete(holding.document);
        return r == MR_OK ? MR_E_NOMEM : r;
    }
    *ret_holding = holding;
    return MR_OK;
}

static cJSON *find_in(const struct holding *holding, const char *id)
{
    cJSON *object;
    cJSON_ArrayForEach(object, holding->list)
    {
        const cJSON *own = cJSON_GetObjectItemCaseSensitive(object, "id");
        if (cJSON_IsString(own) && strcmp(own->valuestring, id) == 0) {
            return object;
        }
    }
    return NULL;
}

static void answer_object(struct mr__call *call, unsigned status, const cJSON *object)
{
    char *json = cJSON_PrintUnformatted(object);
    if (json == NULL) {
        mr__answer_status(call, MR_E_NOMEM, NULL);
    } else {
        mr__answer_text(call, status, "application/json", mr_bytes_of(json));
    }
    cJSON_free(json);
}

/* Not one of the API's: said whether it is one of the file's. */
static void answer_missing(struct mr_admin *admin, struct mr__call *call)
{
    const struct mr_router *router;
    const struct mr_config *config = admin->host->ops->config(admin->host, &router);
    bool of_file = config != NULL && mr_config_find_subscription(config, call->name) >= 0;
    bool reads = mr_http_request_method(call->http) == MR_HTTP_GET;
    if (config != NULL) {
        admin->host->ops->config_release(admin->host, config);
    }
    if (of_file) {
        mr__answer_error(call, reads ? 404 : 403,
                         "%s is a subscription of the configuration file, read-only here: change "
                         "it there and reload",
                         call->name);
    } else {
        mr__answer_error(call, 404, "no subscription of the API has the id %s", call->name);
    }
}

/* Makes what is in @p holding what the API holds. @return false: answered why not */
static bool put(struct mr_admin *admin, struct mr__call *call, const struct holding *holding,
                const char *action, const char *id)
{
    char *json = cJSON_PrintUnformatted(holding->document);
    if (json == NULL || strlen(json) > MR_CE_SUBSCRIPTIONS_SIZE_MAX) {
        mr__answer_error(call, json == NULL ? 503 : 413,
                         json == NULL ? "out of memory"
                                      : "all subscriptions of the API together would be larger "
                                        "than 1MiB");
        cJSON_free(json);
        return false;
    }
    struct mr_buf refused;
    mr_buf_init(&refused, MR_MIB);
    enum mr_status r = mr__log_action_via(
        admin, call->on_ingest ? "listen" : "socket", action, "id", id, NULL);
    if (r == MR_OK) {
        r = admin->host->ops->put_subscriptions(admin->host, json, &refused);
    }
    cJSON_free(json);
    if (r != MR_OK) {
        bool said = mr_buf_append_byte(&refused, '\0') == MR_OK && refused.size > 1;
        mr__answer_error(call, mr__http_status(r), "%s",
                         said ? (const char *)refused.data : mr_status_text(r));
    }
    mr_buf_release(&refused);
    return r == MR_OK;
}

struct room {
    uint32_t known; /* to the bus, deleted ones too */
    uint32_t configured;
    uint32_t max;
};

static void count_known(void *argument, struct mr_bus *bus, struct mr_now now)
{
    (void)now;
    struct room *room = argument;
    room->known = mr_bus_subscription_count(bus);
}

/* Whether one more may be made. @return false: answered why not */
static bool has_room(struct mr_admin *admin, struct mr__call *call, uint32_t held)
{
    struct room room = {.known = 0};
    const struct mr_router *router;
    const struct mr_config *config = admin->host->ops->config(admin->host, &router);
    if (config != NULL) {
        room.max = config->subscriptions_api.max;
        room.configured = config->subscription_count;
        admin->host->ops->config_release(admin->host, config);
    }
    if (held >= room.max) {
        mr__answer_error(call, 409,
                         "the API holds %u subscriptions already: delete one, or raise "
                         "subscriptions_api.max",
                         held);
        return false;
    }
    if (!mr__ask(admin, call, count_known, &room)) {
        return false;
    }
    if (room.known >= room.configured + MADE_MAX) {
        mr__answer_error(call, 409, "more than %u subscriptions were made and deleted in this log",
                         MADE_MAX);
        return false;
    }
    return true;
}

static bool is_json(const struct mr__call *call)
{
    struct mr_bytes type = mr_http_request_header(call->http, "Content-Type");
    struct mr_bytes wanted = MR_BYTES_LITERAL("application/json");
    return type.size >= wanted.size &&
           mr_bytes_equal_nocase(mr_bytes(type.data, wanted.size), wanted) &&
           (type.size == wanted.size || strchr("; \t", type.data[wanted.size]) != NULL);
}

/* What the body asks for. @return NULL: answered what is wrong */
static cJSON *read_body(struct mr__call *call, const char *id, bool is_new)
{
    if (!is_json(call)) {
        mr__answer_error(call, 415, "a subscription comes as application/json");
        return NULL;
    }
    struct mr_problem problem = {.text = ""};
    cJSON *object = NULL;
    enum mr_status r = mr_ce_subscription_read(mr_http_request_body(call->http), id, is_new,
                                               &object, &problem);
    if (r != MR_OK) {
        mr__answer_status(call, r, &problem);
        return NULL;
    }
    return object;
}

void mr__get_ce_subscriptions(struct mr_admin *admin, struct mr__call *call)
{
    struct holding holding;
    enum mr_status r = open_holding(admin, &holding);
    if (r != MR_OK) {
        mr__answer_status(call, r, NULL);
        return;
    }
    answer_object(call, 200, holding.list);
    cJSON_Delete(holding.document);
}

void mr__get_ce_subscription(struct mr_admin *admin, struct mr__call *call)
{
    struct holding holding;
    enum mr_status r = open_holding(admin, &holding);
    if (r != MR_OK) {
        mr__answer_status(call, r, NULL);
        return;
    }
    const cJSON *object = find_in(&holding, call->name);
    if (object == NULL) {
        answer_missing(admin, call);
    } else {
        answer_object(call, 200, object);
    }
    cJSON_Delete(holding.document);
}

static void answer_created(struct mr__call *call, const cJSON *object, const char *id)
{
    char path[MR_CE_SUBSCRIPTION_ID_SIZE + 16];
    (void)snprintf(path, sizeof(path), "/subscriptions/%s", id); /* it fits */
    char *json = cJSON_PrintUnformatted(object);
    if (json == NULL) {
        mr__answer_status(call, MR_E_NOMEM, NULL);
        return;
    }
    struct mr_field location = {MR_BYTES_LITERAL("Location"), mr_bytes_of(path)};
    struct mr_http_answer answer = {.status = 201,
                                    .content_type = "application/json",
                                    .body = mr_bytes_of(json),
                                    .headers = &location,
                                    .header_count = 1};
    mr_http_answer(MR_TAKE(call->http), &answer);
    mr__call_destroy(call);
    cJSON_free(json);
}

void mr__post_ce_subscription(struct mr_admin *admin, struct mr__call *call)
{
    char id[MR_CE_SUBSCRIPTION_ID_SIZE];
    mr_ce_subscription_id(id);
    cJSON *object = read_body(call, id, true);
    if (object == NULL) {
        return;
    }
    struct holding holding;
    enum mr_status r = open_holding(admin, &holding);
    if (r != MR_OK) {
        cJSON_Delete(object);
        mr__answer_status(call, r, NULL);
        return;
    }
    if (!has_room(admin, call, (uint32_t)cJSON_GetArraySize(holding.list))) {
        cJSON_Delete(object);
    } else {
        (void)cJSON_AddItemToArray(holding.list, object); /* neither is NULL: cannot fail */
        if (put(admin, call, &holding, "subscription create", id)) {
            answer_created(call, object, id);
        }
    }
    cJSON_Delete(holding.document);
}

void mr__put_ce_subscription(struct mr_admin *admin, struct mr__call *call)
{
    struct holding holding;
    enum mr_status r = open_holding(admin, &holding);
    if (r != MR_OK) {
        mr__answer_status(call, r, NULL);
        return;
    }
    cJSON *old = find_in(&holding, call->name);
    cJSON *object = NULL;
    if (old == NULL) {
        answer_missing(admin, call);
    } else {
        object = read_body(call, call->name, false);
    }
    if (object != NULL) {
        (void)cJSON_ReplaceItemViaPointer(holding.list, old, object); /* it is there */
        if (put(admin, call, &holding, "subscription update", call->name)) {
            answer_object(call, 200, object);
        }
    }
    cJSON_Delete(holding.document);
}

void mr__delete_ce_subscription(struct mr_admin *admin, struct mr__call *call)
{
    struct holding holding;
    enum mr_status r = open_holding(admin, &holding);
    if (r != MR_OK) {
        mr__answer_status(call, r, NULL);
        return;
    }
    cJSON *object = find_in(&holding, call->name);
    if (object == NULL) {
        answer_missing(admin, call);
    } else {
        cJSON_Delete(cJSON_DetachItemViaPointer(holding.list, object));
        if (put(admin, call, &holding, "subscription delete", call->name)) {
            mr__answer_text(call, 204, NULL, mr_bytes(NULL, 0));
        }
    }
    cJSON_Delete(holding.document);
}

/* --- on the ingest listener ------------------------------------------------------------------- */

/* Whether the request was meant for this machine: a name that was rebound to it by somebody's page
 * is none of these. */
static bool is_local_host(struct mr_bytes host)
{
    static const char *const names[] = {"localhost", "127.", "[::1]"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(names); i++) {
        struct mr_bytes name = mr_bytes_of(names[i]);
        if (host.size < name.size ||
            !mr_bytes_equal_nocase(mr_bytes(host.data, name.size), name)) {
            continue;
        }
        struct mr_bytes rest = mr_bytes(host.data + name.size, host.size - name.size);
        size_t allowed = 0;
        const char *of = i == 1 ? "0123456789.:" : ":0123456789";
        while (allowed < rest.size && rest.data[allowed] != '\0' &&
               strchr(of, rest.data[allowed]) != NULL) {
            allowed++;
        }
        return allowed == rest.size && (i == 1 || rest.size == 0 || rest.data[0] == ':');
    }
    return false;
}

static bool has_token(struct mr_admin *admin, struct mr_http_request *request)
{
    struct mr_bytes scheme = MR_BYTES_LITERAL("Bearer ");
    struct mr_bytes value = mr_http_request_header(request, "Authorization");
    const struct mr_router *router;
    const struct mr_config *config = admin->host->ops->config(admin->host, &router);
    const struct mr_secret *token = config == NULL ? NULL : config->subscriptions_api.token;
    bool good = token != NULL && value.size > scheme.size &&
                mr_bytes_equal_nocase(mr_bytes(value.data, scheme.size), scheme) &&
                mr_secret_equal(token, mr_bytes_trim(mr_bytes(value.data + scheme.size,
                                                              value.size - scheme.size)));
    if (config != NULL) {
        admin->host->ops->config_release(admin->host, config);
    }
    return good;
}

bool mr__admit_ce(void *context, struct mr_http_request *request)
{
    struct mr_field challenge = {MR_BYTES_LITERAL("WWW-Authenticate"), MR_BYTES_LITERAL("Bearer")};
    struct mr_http_answer answer = {.content_type = "application/json"};
    if (!is_local_host(mr_http_request_header(request, "Host")) ||
        mr_http_request_header(request, "Origin").size > 0) {
        answer.status = 403;
        answer.body = MR_BYTES_LITERAL("{\"error\":\"not for requests of web pages, or under "
                                       "another name than localhost\"}");
    } else if (!has_token(context, request)) {
        answer.status = 401;
        answer.body = MR_BYTES_LITERAL("{\"error\":\"the token is missing or wrong\"}");
        answer.headers = &challenge;
        answer.header_count = 1;
    } else {
        return true;
    }
    mr_http_answer(request, &answer);
    return false;
}
