#include "connectors/kafka/kafka.h"

#include <regex.h>
#include <stddef.h>
#include <string.h>

#include "connectors/adapting.h"
#include "connectors/tls.h"
#include "schemas/template.h"

#define TOPICS_MAX 1000u

static const char *const mechanism_words[] = {"plain", "scram-sha-256", "scram-sha-512", NULL};
static const char *const start_words[] = {"earliest", "latest", NULL};
static const char *const mode_words[] = {"binary", "structured", NULL};

/* clang-format off */
#define PEER(S, field) offsetof(struct S, peer.field)
#define PEER_ROWS(S)                                                                               \
    {.name = "brokers", .type = MR_OPTION_STRINGS, .at = PEER(S, brokers),                         \
     .flags = MR_OPTION_REQUIRED,                                                                  \
     .help = "host:port of one or more brokers; the others of the cluster are found by them."},    \
    {.name = "user", .type = MR_OPTION_STRING, .at = PEER(S, user), .help = "SASL user."},         \
    {.name = "password", .type = MR_OPTION_SECRET, .at = PEER(S, password),                        \
     .help = "SASL password."},                                                                    \
    {.name = "sasl_mechanism", .type = MR_OPTION_ENUM, .at = PEER(S, sasl_mechanism),              \
     .default_text = "plain", .words = mechanism_words,                                            \
     .help = "How user and password are proved."},                                                 \
    {.name = "tls", .type = MR_OPTION_BOOL, .at = PEER(S, tls), .default_text = "false",           \
     .help = "Whether to speak TLS; also on when another tls_ setting is given."},                 \
    MR_TLS_ROWS(S, peer),                                                                          \
    {.name = "tls_key_password", .type = MR_OPTION_SECRET, .at = PEER(S, tls_key_password),        \
     .help = "Password of that key."},                                                             \
    {.name = "librdkafka", .type = MR_OPTION_PAIRS, .at = PEER(S, librdkafka),                     \
     .help = "Any property of librdkafka, but those Millrace must set itself."}

static const struct mr_option source_options[] = {
    PEER_ROWS(mr_kafka_source_options),
    {.name = "topics", .type = MR_OPTION_STRINGS,
     .at = offsetof(struct mr_kafka_source_options, topics), .flags = MR_OPTION_REQUIRED,
     .help = "Topics, or regular expressions that begin with ^."},
    {.name = "group", .type = MR_OPTION_STRING,
     .at = offsetof(struct mr_kafka_source_options, group),
     .help = "Consumer group; by default millrace- and the source's name."},
    {.name = "start", .type = MR_OPTION_ENUM, .at = offsetof(struct mr_kafka_source_options, start),
     .default_text = "earliest", .words = start_words,
     .help = "Where a partition is begun that neither the log nor the broker has a position of."},
    MR_ADAPTER_ROW(mr_kafka_source_options, adapter),
    {.name = "content_type", .type = MR_OPTION_STRING,
     .at = offsetof(struct mr_kafka_source_options, content_type),
     .help = "What a record is that is no CloudEvent and has no header content-type, such as "
             "application/json; by default bytes of no type."},
    {.name = "prefetch", .type = MR_OPTION_SIZE, .at = PEER(mr_kafka_source_options, buffer),
     .default_text = "16MiB", .min = 4 * (int64_t)MR_MIB, .max = 1024 * (int64_t)MR_MIB,
     .help = "Records the client reads ahead, at most."},
    MR_OPTION_END,
};

static const struct mr_option sink_options[] = {
    PEER_ROWS(mr_kafka_sink_options),
    {.name = "topic", .type = MR_OPTION_STRING, .at = offsetof(struct mr_kafka_sink_options, topic),
     .flags = MR_OPTION_REQUIRED,
     .help = "Topic; {{type}}, {{data.region}} and the like are filled in from the event."},
    {.name = "key", .type = MR_OPTION_STRING, .at = offsetof(struct mr_kafka_sink_options, key),
     .default_text = "{{partitionkey}}",
     .help = "Key of the record, filled in likewise; when nothing comes out it has none."},
    {.name = "mode", .type = MR_OPTION_ENUM, .at = offsetof(struct mr_kafka_sink_options, mode),
     .default_text = "binary", .words = mode_words, .help = "CloudEvents content mode."},
    {.name = "buffer", .type = MR_OPTION_SIZE, .at = PEER(mr_kafka_sink_options, buffer),
     .default_text = "16MiB", .min = 4 * (int64_t)MR_MIB, .max = 1024 * (int64_t)MR_MIB,
     .help = "Records on their way to the brokers, at most."},
    MR_OPTION_END,
};
/* clang-format on */

static enum mr_status check_peer(const struct mr_kafka_peer_options *peer,
                                 struct mr_problem *problem)
{
    if (peer->brokers.count == 0) {
        return mr_problem_set(problem, MR_E_INVALID, "brokers: is empty");
    }
    for (uint32_t i = 0; i < peer->brokers.count; i++) {
        const char *broker = peer->brokers.items[i];
        if (broker[0] == '\0' || strpbrk(broker, ", /\t") != NULL) {
            return mr_problem_set(problem, MR_E_INVALID, "brokers: \"%s\" is not host:port",
                                  broker);
        }
    }
    if ((peer->user == NULL) != (peer->password == NULL)) {
        return mr_problem_set(problem, MR_E_INVALID, "user and password go together");
    }
    enum mr_status r =
        mr__tls_check(peer->tls_ca, peer->tls_cert, peer->tls_key, NULL, problem);
    if (r == MR_OK && peer->tls_key_password != NULL && peer->tls_key == NULL) {
        return mr_problem_set(problem, MR_E_INVALID, "tls_key_password wants a tls_key");
    }
    return r;
}

bool mr__kafka_topic_is_valid(struct mr_bytes name)
{
    if (name.size == 0 || name.size > MR_KAFKA_TOPIC_SIZE_MAX ||
        mr_bytes_equal(name, MR_BYTES_LITERAL(".")) ||
        mr_bytes_equal(name, MR_BYTES_LITERAL(".."))) {
        return false;
    }
    for (size_t i = 0; i < name.size; i++) {
        uint8_t c = name.data[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!letter && !(c >= '0' && c <= '9') && c != '.' && c != '_' && c != '-') {
            return false;
        }
    }
    return true;
}

static enum mr_status check_topic(const char *topic, struct mr_problem *problem)
{
    if (topic[0] != '^') {
        if (mr__kafka_topic_is_valid(mr_bytes_of(topic))) {
            return MR_OK;
        }
        return mr_problem_set(problem, MR_E_INVALID,
                              "topics: \"%s\" is no topic name; a regular expression begins with ^",
                              topic);
    }
    regex_t regex;
    int error = regcomp(&regex, topic, REG_EXTENDED | REG_NOSUB);
    if (error != 0) {
        char text[128];
        (void)regerror(error, &regex, text, sizeof(text));
        return mr_problem_set(problem, MR_E_INVALID, "topics: \"%s\": %s", topic, text);
    }
    regfree(&regex);
    return MR_OK;
}

enum mr_status mr__kafka_check_source(const void *options, struct mr_problem *problem)
{
    const struct mr_kafka_source_options *o = options;
    enum mr_status r = check_peer(&o->peer, problem);
    if (r != MR_OK) {
        return r;
    }
    if (o->topics.count == 0 || o->topics.count > TOPICS_MAX) {
        return mr_problem_set(problem, MR_E_INVALID, "topics: wants 1 to %u of them", TOPICS_MAX);
    }
    for (uint32_t i = 0; i < o->topics.count && r == MR_OK; i++) {
        r = check_topic(o->topics.items[i], problem);
    }
    if (r == MR_OK && o->group != NULL && o->group[0] == '\0') {
        r = mr_problem_set(problem, MR_E_INVALID, "group: is empty");
    }
    if (r == MR_OK && o->content_type != NULL && strchr(o->content_type, '/') == NULL) {
        r = mr_problem_set(problem, MR_E_INVALID, "content_type: \"%s\" is no media type",
                           o->content_type);
    }
    rd_kafka_conf_t *conf = NULL;
    if (r == MR_OK) {
        r = mr__kafka_consumer_conf(o, NULL, &conf, problem);
    }
    if (r == MR_OK) {
        rd_kafka_conf_destroy(conf);
    }
    return r;
}

enum mr_status mr__kafka_check_sink(const void *options, struct mr_problem *problem)
{
    const struct mr_kafka_sink_options *o = options;
    enum mr_status r = check_peer(&o->peer, problem);
    if (r != MR_OK) {
        return r;
    }
    if (o->topic == NULL || !mr_template_is_valid(o->topic) ||
        (strstr(o->topic, "{{") == NULL && !mr__kafka_topic_is_valid(mr_bytes_of(o->topic)))) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "topic: \"%s\" wants a topic name, with {{attribute}} in it or not",
                              o->topic == NULL ? "" : o->topic);
    }
    if (o->key != NULL && !mr_template_is_valid(o->key)) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "key: \"%s\" wants {{attribute}} with a CloudEvents attribute name",
                              o->key);
    }
    rd_kafka_conf_t *conf = NULL;
    r = mr__kafka_producer_conf(o, 30 * MR_SECOND, &conf, problem);
    if (r == MR_OK) {
        rd_kafka_conf_destroy(conf);
    }
    return r;
}

/* The client's queue, what it may overshoot it by (a fetch of an eighth from each of four brokers;
 * a producer's requests under way), and our batches: one out, one filling. */
static uint64_t bytes_max(const void *options)
{
    const struct mr_kafka_peer_options *peer = options;
    return peer->buffer + peer->buffer / 2 + 2ull * MR_BATCH_SIZE_MAX;
}

const struct mr_connector mr_connector_kafka = {
    .abi = MR_CONNECTOR_ABI,
    .name = "kafka",
    .source_kind = {.name = "kafka",
                    .options = source_options,
                    .options_size = sizeof(struct mr_kafka_source_options),
                    .check = mr__kafka_check_source},
    .source = &mr__kafka_source_ops,
    .sink_kind = {.name = "kafka",
                  .options = sink_options,
                  .options_size = sizeof(struct mr_kafka_sink_options),
                  .check = mr__kafka_check_sink},
    .sink = &mr__kafka_sink_ops,
    .source_bytes_max = bytes_max,
    .bytes_max = bytes_max,
};
