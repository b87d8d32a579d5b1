#include "connectors/mqtt/mqtt.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "connectors/adapting.h"
#include "connectors/tls.h"
#include "core/hash.h"
#include "schemas/template.h"

static const char *const version_words[] = {"5", "3.1.1", "5.0", NULL};
static const char *const mode_words[] = {"auto", "binary", "structured", NULL};

/* clang-format off */
#define PEER(S, field) offsetof(struct S, peer.field)
#define PEER_ROWS(S)                                                                               \
    {.name = "url", .type = MR_OPTION_URL, .at = PEER(S, url), .flags = MR_OPTION_REQUIRED,        \
     .help = "Broker: mqtt://[user:password@]host[:1883], or mqtts://host[:8883] with TLS."},      \
    {.name = "version", .type = MR_OPTION_ENUM, .at = PEER(S, version), .default_text = "5",       \
     .words = version_words, .help = "MQTT version spoken with the broker."},                      \
    {.name = "client_id", .type = MR_OPTION_STRING, .at = PEER(S, client_id),                      \
     .help = "Client identifier; by default a stable one made of the name and the folder."},       \
    {.name = "keepalive", .type = MR_OPTION_DURATION, .at = PEER(S, keepalive_ns),                 \
     .default_text = "30s", .min = 5ll * (int64_t)MR_SECOND, .max = 18ll * (int64_t)MR_HOUR,       \
     .help = "Longest silence on the connection before either side checks that the other lives."}, \
    MR_TLS_ROWS(S, peer)

static const struct mr_option source_options[] = {
    PEER_ROWS(mr_mqtt_source_options),
    {.name = "topics", .type = MR_OPTION_STRINGS,
     .at = offsetof(struct mr_mqtt_source_options, topics),
     .help = "Topic filters: levels, + and #, $share/GROUP/FILTER for a shared subscription."},
    {.name = "topic", .type = MR_OPTION_STRING,
     .at = offsetof(struct mr_mqtt_source_options, topic), .help = "One topic filter."},
    {.name = "qos", .type = MR_OPTION_INT, .at = offsetof(struct mr_mqtt_source_options, qos),
     .default_text = "1", .min = 0, .max = 2,
     .help = "Quality of service subscribed with; 2 is asked for as 1, which survives a crash."},
    {.name = "session_expiry", .type = MR_OPTION_DURATION,
     .at = offsetof(struct mr_mqtt_source_options, session_expiry_ns), .default_text = "7d",
     .min = 0, .max = 36500ll * (int64_t)MR_DAY,
     .help = "How long the broker keeps messages for an absent Millrace (MQTT 5); 0 = not at all."},
    {.name = "inflight", .type = MR_OPTION_INT,
     .at = offsetof(struct mr_mqtt_source_options, inflight), .default_text = "1000", .min = 1,
     .max = 65535, .help = "Messages read and not yet acknowledged, at most."},
    MR_ADAPTER_ROW(mr_mqtt_source_options, adapter),
    MR_OPTION_END,
};

static const struct mr_option sink_options[] = {
    PEER_ROWS(mr_mqtt_sink_options),
    {.name = "topic", .type = MR_OPTION_STRING, .at = offsetof(struct mr_mqtt_sink_options, topic),
     .flags = MR_OPTION_REQUIRED,
     .help = "Topic published to; {{subject}}, another attribute or {{data.path}} is filled in."},
    {.name = "qos", .type = MR_OPTION_INT, .at = offsetof(struct mr_mqtt_sink_options, qos),
     .default_text = "1", .min = 0, .max = 2, .help = "Quality of service published with."},
    {.name = "mode", .type = MR_OPTION_ENUM, .at = offsetof(struct mr_mqtt_sink_options, mode),
     .default_text = "auto", .words = mode_words,
     .help = "CloudEvents content mode; auto is binary with version 5, structured with 3.1.1."},
    {.name = "retain", .type = MR_OPTION_BOOL,
     .at = offsetof(struct mr_mqtt_sink_options, retain), .default_text = "false",
     .help = "Whether the broker keeps the message as its topic's last one."},
    MR_OPTION_END,
};
/* clang-format on */

int mr__mqtt_version(const struct mr_mqtt_peer_options *peer)
{
    return peer->version == MR_MQTT_WORD_3_1_1 ? 4 : 5;
}

bool mr__mqtt_is_tls(const struct mr_mqtt_peer_options *peer)
{
    return strcmp(peer->url->scheme, "mqtts") == 0 || strcmp(peer->url->scheme, "ssl") == 0;
}

uint16_t mr__mqtt_port(const struct mr_mqtt_peer_options *peer)
{
    if (peer->url->port != 0) {
        return peer->url->port;
    }
    return mr__mqtt_is_tls(peer) ? 8883 : 1883;
}

void mr__mqtt_client_id(const char *name, const char *folder, char text[MR_MQTT_CLIENT_ID_SIZE])
{
    uint64_t hash = mr_hash(name, strlen(name));
    if (folder != NULL) {
        hash = mr_hash_u64(hash ^ mr_hash(folder, strlen(folder)));
    }
    (void)snprintf(text, MR_MQTT_CLIENT_ID_SIZE, "millrace-%014llx",
                   (unsigned long long)(hash & 0xffffffffffffffull));
}

void mr__mqtt_choose_client_id(const struct mr_mqtt_peer_options *peer, const char *name,
                               const char *folder, char text[MR_MQTT_CLIENT_ID_SIZE_MAX])
{
    if (peer->client_id != NULL && peer->client_id[0] != '\0') {
        (void)snprintf(text, MR_MQTT_CLIENT_ID_SIZE_MAX, "%s", peer->client_id);
    } else {
        mr__mqtt_client_id(name, folder, text);
    }
}

static enum mr_status check_peer(const struct mr_mqtt_peer_options *peer,
                                 struct mr_problem *problem)
{
    const char *scheme = peer->url == NULL ? "" : peer->url->scheme;
    if (strcmp(scheme, "mqtt") != 0 && strcmp(scheme, "tcp") != 0 && strcmp(scheme, "mqtts") != 0 &&
        strcmp(scheme, "ssl") != 0) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "url: wants mqtt://host[:port] or mqtts://host[:port], not \"%s://\"",
                              scheme);
    }
    if (peer->url->host == NULL || peer->url->host[0] == '\0') {
        return mr_problem_set(problem, MR_E_INVALID, "url: names no host");
    }
    if (peer->url->path != NULL && peer->url->path[0] != '\0' &&
        strcmp(peer->url->path, "/") != 0) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "url: has a path; topics belong into `topics` or `topic`");
    }
    if (peer->client_id != NULL && strlen(peer->client_id) >= MR_MQTT_CLIENT_ID_SIZE_MAX) {
        return mr_problem_set(problem, MR_E_INVALID, "client_id: longer than %u bytes",
                              MR_MQTT_CLIENT_ID_SIZE_MAX - 1);
    }
    return mr__tls_check(peer->tls_ca, peer->tls_cert, peer->tls_key,
                         mr__mqtt_is_tls(peer) ? NULL : "mqtts", problem);
}

bool mr__mqtt_filter_is_valid(const char *filter)
{
    size_t size = strlen(filter);
    if (size == 0 || size > 65535 || !mr_bytes_is_utf8(mr_bytes(filter, size))) {
        return false;
    }
    if (strncmp(filter, "$share/", 7) == 0) {
        const char *group = filter + 7;
        size_t group_size = strcspn(group, "/+#");
        if (group_size == 0 || group[group_size] != '/' || group[group_size + 1] == '\0') {
            return false;
        }
        filter = group + group_size + 1;
    }
    for (const char *level = filter; level != NULL;) {
        size_t level_size = strcspn(level, "/");
        size_t wild = strcspn(level, "+#/");
        if (wild < level_size) {
            if (level_size != 1 || (*level == '#' && level[1] != '\0')) {
                return false;
            }
        }
        level = level[level_size] == '\0' ? NULL : level + level_size + 1;
    }
    return true;
}

enum mr_status mr__mqtt_check_source(const void *options, struct mr_problem *problem)
{
    const struct mr_mqtt_source_options *o = options;
    enum mr_status r = check_peer(&o->peer, problem);
    if (r != MR_OK) {
        return r;
    }
    if ((o->topic == NULL) == (o->topics.count == 0)) {
        return mr_problem_set(problem, MR_E_INVALID, "wants `topics` (a list) or `topic` (one)");
    }
    if (o->topics.count > 1000) {
        return mr_problem_set(problem, MR_E_INVALID, "topics: more than 1000 filters");
    }
    for (uint32_t i = 0; i < o->topics.count; i++) {
        if (!mr__mqtt_filter_is_valid(o->topics.items[i])) {
            return mr_problem_set(problem, MR_E_INVALID, "topics: \"%s\" is no topic filter",
                                  o->topics.items[i]);
        }
    }
    if (o->topic != NULL && !mr__mqtt_filter_is_valid(o->topic)) {
        return mr_problem_set(problem, MR_E_INVALID, "topic: \"%s\" is no topic filter", o->topic);
    }
    return MR_OK;
}

enum mr_status mr__mqtt_check_sink(const void *options, struct mr_problem *problem)
{
    const struct mr_mqtt_sink_options *o = options;
    enum mr_status r = check_peer(&o->peer, problem);
    if (r != MR_OK) {
        return r;
    }
    if (o->topic == NULL || o->topic[0] == '\0') {
        return mr_problem_set(problem, MR_E_INVALID, "topic: is empty");
    }
    if (strpbrk(o->topic, "+#") != NULL) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "topic: \"%s\" holds a wildcard; events are published to one topic",
                              o->topic);
    }
    if (!mr_template_is_valid(o->topic)) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "topic: \"%s\" wants {{attribute}} or {{data.path}} within braces",
                              o->topic);
    }
    if (o->mode == MR_MQTT_MODE_BINARY && mr__mqtt_version(&o->peer) == 4) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "mode: binary wants version 5; MQTT 3.1.1 has no user properties");
    }
    return MR_OK;
}

enum mr_status mr__mqtt_topic(const char *template, struct mr_bytes record, struct mr_buf *out,
                              struct mr_problem *problem)
{
    enum mr_status r = mr_template_fill(template, record, out);
    if (r == MR_E_TOO_BIG) {
        return mr_problem_set(problem, MR_E_INVALID, "the topic is longer than 65535 bytes");
    }
    if (r != MR_OK) {
        return mr_problem_set(problem, r, "no memory for the topic");
    }
    if (out->size == 0 || out->size > 65535) {
        return mr_problem_set(problem, MR_E_INVALID, "the topic is %s",
                              out->size == 0 ? "empty" : "longer than 65535 bytes");
    }
    if (memchr(out->data, '+', out->size) != NULL || memchr(out->data, '#', out->size) != NULL ||
        memchr(out->data, '\0', out->size) != NULL || !mr_bytes_is_utf8(mr_buf_bytes(out))) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "the topic holds a wildcard, a NUL or bytes that are not UTF-8");
    }
    return MR_OK;
}

/* Messages read and not acknowledged, one packet the library puts together, what paho holds. */
static uint64_t bytes_max(const void *options)
{
    (void)options;
    return 4ull * MR_BATCH_SIZE_MAX;
}

const struct mr_connector mr_connector_mqtt = {
    .abi = MR_CONNECTOR_ABI,
    .name = "mqtt",
    .source_kind = {.name = "mqtt",
                    .options = source_options,
                    .options_size = sizeof(struct mr_mqtt_source_options),
                    .check = mr__mqtt_check_source},
    .source = &mr__mqtt_source_ops,
    .sink_kind = {.name = "mqtt",
                  .options = sink_options,
                  .options_size = sizeof(struct mr_mqtt_sink_options),
                  .check = mr__mqtt_check_sink},
    .sink = &mr__mqtt_sink_ops,
    .source_bytes_max = bytes_max,
    .bytes_max = bytes_max,
};
