/* Settings of a client: ours first, then what the user passes through, then what must hold. */
#include <stdio.h>
#include <string.h>

#include "connectors/kafka/kafka.h"
#include "core/logger.h"
#include "core/secret.h"

#define ERROR_TEXT_SIZE 384u
#define LIST_SIZE_MAX 16384u
/* A broker answers one connection's requests in turn, and a fetch of an idle topic takes 500 ms: a
 * probe that waits for less may meet one each time, and find a broker down that is not. */
#define PROBE_MS 1500

struct property {
    const char *name;
    const char *value;
};

/* Properties Millrace must set itself, and what to do instead. */
static const struct property owned[] = {
    {"bootstrap.servers", "it is the option `brokers`"},
    {"metadata.broker.list", "it is the option `brokers`"},
    {"group.id", "it is the option `group`"},
    {"auto.offset.reset", "it is the option `start`"},
    {"queued.max.messages.kbytes", "it is the option `prefetch`"},
    {"queue.buffering.max.kbytes", "it is the option `buffer`"},
    {"queue.buffering.max.messages", "it is the option `buffer`"},
    {"message.timeout.ms", "it is the sink's `timeout`"},
    {"delivery.timeout.ms", "it is the sink's `timeout`"},
    {"sasl.username", "it is the option `user`"},
    {"sasl.password", "it is the option `password`, where it stays secret"},
    {"ssl.key.password", "it is the option `tls_key_password`, where it stays secret"},
    {"ssl.key.pem", "it is the option `tls_key`, where it stays secret"},
    {"ssl.keystore.password", "a secret does not belong here; use `tls_cert` and `tls_key`"},
    {"sasl.oauthbearer.client.secret", "a secret does not belong here"},
    {"enable.auto.commit", "offsets are committed once their events are durable"},
    {"auto.commit.enable", "offsets are committed once their events are durable"},
    {"auto.commit.interval.ms", "offsets are committed once their events are durable"},
    {"enable.auto.offset.store", "offsets are committed once their events are durable"},
    {"offset.store.method", "offsets are committed once their events are durable"},
    {"enable.partition.eof", "nothing asks for it"},
    {"enable.idempotence", "the producer is always idempotent"},
    {"acks", "records are acknowledged by all replicas in sync"},
    {"request.required.acks", "records are acknowledged by all replicas in sync"},
    {"transactional.id", "the sink writes no transactions"},
    {"delivery.report.only.error", "each record's report is needed"},
    {"dr_cb", "each record's report is needed"},
    {"dr_msg_cb", "each record's report is needed"},
    {"plugin.library.paths", "no foreign code is loaded"},
    {"log.queue", "the log is Millrace's"},
    {NULL, NULL},
};

static enum mr_status set(rd_kafka_conf_t *conf, const char *option, const char *name,
                          const char *value, struct mr_problem *problem)
{
    char error[ERROR_TEXT_SIZE];
    if (rd_kafka_conf_set(conf, name, value, error, sizeof(error)) == RD_KAFKA_CONF_OK) {
        return MR_OK;
    }
    return mr_problem_set(problem, MR_E_INVALID, "%s: %s", option, error);
}

/* The library's text would tell the value. */
static enum mr_status set_secret(rd_kafka_conf_t *conf, const char *option, const char *name,
                                 const struct mr_secret *secret, struct mr_problem *problem)
{
    const char *value = (const char *)mr_secret_use(secret).data;
    if (rd_kafka_conf_set(conf, name, value, NULL, 0) == RD_KAFKA_CONF_OK) {
        return MR_OK;
    }
    return mr_problem_set(problem, MR_E_INVALID, "%s: cannot be set", option);
}

static enum mr_status set_number(rd_kafka_conf_t *conf, const char *option, const char *name,
                                 uint64_t value, struct mr_problem *problem)
{
    char text[32];
    (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
    return set(conf, option, name, text, problem);
}

static enum mr_status set_all(rd_kafka_conf_t *conf, const struct property *properties,
                              struct mr_problem *problem)
{
    enum mr_status r = MR_OK;
    for (; properties->name != NULL && r == MR_OK; properties++) {
        r = set(conf, "librdkafka", properties->name, properties->value, problem);
    }
    return r;
}

static enum mr_status set_brokers(rd_kafka_conf_t *conf, const struct mr_strings *brokers,
                                  struct mr_problem *problem)
{
    struct mr_buf list;
    mr_buf_init(&list, LIST_SIZE_MAX);
    enum mr_status r = MR_OK;
    for (uint32_t i = 0; i < brokers->count && r == MR_OK; i++) {
        r = mr_buf_printf(&list, "%s%s", i == 0 ? "" : ",", brokers->items[i]);
    }
    if (r == MR_OK) {
        r = mr_buf_append_byte(&list, '\0');
    }
    if (r == MR_OK) {
        r = set(conf, "brokers", "bootstrap.servers", (const char *)list.data, problem);
    } else {
        (void)mr_problem_set(problem, r, "brokers: %s", mr_status_text(r));
    }
    mr_buf_release(&list);
    return r;
}

static enum mr_status set_sasl(rd_kafka_conf_t *conf, const struct mr_kafka_peer_options *peer,
                               struct mr_problem *problem)
{
    static const char *const mechanisms[] = {"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"};
    enum mr_status r = set(conf, "user", "sasl.username", peer->user, problem);
    if (r == MR_OK) {
        r = set(conf, "sasl_mechanism", "sasl.mechanisms", mechanisms[peer->sasl_mechanism],
                problem);
    }
    if (r == MR_OK) {
        r = set_secret(conf, "password", "sasl.password", peer->password, problem);
    }
    return r;
}

static enum mr_status set_tls(rd_kafka_conf_t *conf, const struct mr_kafka_peer_options *peer,
                              struct mr_problem *problem)
{
    enum mr_status r = MR_OK;
    if (peer->tls_ca != NULL) {
        r = set(conf, "tls_ca", "ssl.ca.location", peer->tls_ca, problem);
    }
    if (r == MR_OK && peer->tls_cert != NULL) {
        r = set(conf, "tls_cert", "ssl.certificate.location", peer->tls_cert, problem);
    }
    if (r == MR_OK && peer->tls_key != NULL) {
        r = set(conf, "tls_key", "ssl.key.location", peer->tls_key, problem);
    }
    if (r == MR_OK && peer->tls_key_password != NULL) {
        r = set_secret(conf, "tls_key_password", "ssl.key.password", peer->tls_key_password,
                       problem);
    }
    return r;
}

static enum mr_status set_passed(rd_kafka_conf_t *conf, const struct mr_pairs *pairs,
                                 struct mr_problem *problem)
{
    enum mr_status r = MR_OK;
    for (uint32_t i = 0; i < pairs->keys.count && r == MR_OK; i++) {
        const char *name = pairs->keys.items[i];
        for (const struct property *p = owned; p->name != NULL; p++) {
            if (strcmp(p->name, name) == 0) {
                return mr_problem_set(problem, MR_E_INVALID,
                                      "librdkafka: %s cannot be set here: %s", name, p->value);
            }
        }
        r = set(conf, "librdkafka", name, pairs->values.items[i], problem);
    }
    return r;
}

/* What source and sink have in common. */
static enum mr_status set_peer(rd_kafka_conf_t *conf, const struct mr_kafka_peer_options *peer,
                               const struct property *defaults, struct mr_problem *problem)
{
    static const struct property common[] = {
        {"client.id", "millrace"},
        {"log.connection.close", "false"}, /* brokers close idle connections: no news */
        {"socket.keepalive.enable", "true"},
        {"reconnect.backoff.max.ms", "5000"},
        /* A topic that is made later is found after 10 s, not after five minutes. */
        {"topic.metadata.refresh.interval.ms", "10000"},
        {"enable.ssl.certificate.verification", "true"},
        {"ssl.endpoint.identification.algorithm", "https"},
        {NULL, NULL},
    };
    bool sasl = peer->user != NULL;
    bool tls = peer->tls || peer->tls_ca != NULL || peer->tls_cert != NULL;
    enum mr_status r = set_all(conf, common, problem);
    if (r == MR_OK) {
        r = set_all(conf, defaults, problem);
    }
    if (r == MR_OK) {
        r = set_brokers(conf, &peer->brokers, problem);
    }
    if (r == MR_OK && sasl) {
        r = set_sasl(conf, peer, problem);
    }
    if (r == MR_OK && tls) {
        r = set_tls(conf, peer, problem);
    }
    if (r == MR_OK && (sasl || tls)) {
        r = set(conf, "tls", "security.protocol",
                sasl ? (tls ? "sasl_ssl" : "sasl_plaintext") : "ssl", problem);
    }
    if (r == MR_OK) {
        r = set_passed(conf, &peer->librdkafka, problem);
    }
    rd_kafka_conf_set_log_cb(conf, mr__kafka_log);
    return r;
}

enum mr_status mr__kafka_consumer_conf(const struct mr_kafka_source_options *options,
                                       const char *group, rd_kafka_conf_t **ret_conf,
                                       struct mr_problem *problem)
{
    static const struct property defaults[] = {
        /* Not cooperative: there librdkafka 2.0.2 can drop all partitions (group.c, SETTLE_NS). */
        {"partition.assignment.strategy", "range,roundrobin"},
        /* After a kill -9 the old member's partitions are free again when its session is over. */
        {"session.timeout.ms", "10000"},
        {NULL, NULL},
    };
    static const struct property fixed[] = {
        {"enable.auto.commit", "false"},
        {"enable.auto.offset.store", "false"},
        {"enable.partition.eof", "false"},
        /* A transient error must not make us jump: the position is asked for and told. */
        {"auto.offset.reset", "error"},
        {NULL, NULL},
    };
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    uint64_t fetch = options->peer.buffer / 8;
    fetch = fetch < MR_MIB ? MR_MIB : fetch;
    enum mr_status r =
        set_number(conf, "prefetch", "queued.max.messages.kbytes", options->peer.buffer / 1024,
                   problem);
    if (r == MR_OK) {
        r = set_number(conf, "prefetch", "fetch.max.bytes", fetch, problem);
    }
    if (r == MR_OK) {
        r = set_peer(conf, &options->peer, defaults, problem);
    }
    if (r == MR_OK) {
        r = set_all(conf, fixed, problem);
    }
    if (r == MR_OK) {
        r = set(conf, "group", "group.id", group == NULL ? "millrace" : group, problem);
    }
    if (r != MR_OK) {
        rd_kafka_conf_destroy(conf);
        return r;
    }
    *ret_conf = conf;
    return MR_OK;
}

enum mr_status mr__kafka_producer_conf(const struct mr_kafka_sink_options *options,
                                       uint64_t timeout_ns, rd_kafka_conf_t **ret_conf,
                                       struct mr_problem *problem)
{
    static const struct property defaults[] = {
        /* How big a record may be is the topic's affair. */
        {"message.max.bytes", "8388608"},
        /* A topic that is not there is reported after 5 s, not after 30. */
        {"topic.metadata.propagation.max.ms", "5000"},
        {NULL, NULL},
    };
    static const struct property fixed[] = {
        {"enable.idempotence", "true"}, /* with it acks=all */
        {NULL, NULL},
    };
    /* The report comes before the lease ends, or the bus would hand the event out again. */
    uint64_t timeout_ms = timeout_ns / MR_MS;
    timeout_ms -= timeout_ms / 10 < 1000 ? timeout_ms / 10 : 1000;
    timeout_ms = timeout_ms < 10 ? 10 : timeout_ms > INT32_MAX ? INT32_MAX : timeout_ms;
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    enum mr_status r = set_number(conf, "buffer", "queue.buffering.max.kbytes",
                                  options->peer.buffer / 1024, problem);
    if (r == MR_OK) {
        r = set_number(conf, "timeout", "message.timeout.ms", timeout_ms, problem);
    }
    if (r == MR_OK) {
        r = set_peer(conf, &options->peer, defaults, problem);
    }
    if (r == MR_OK) {
        r = set_all(conf, fixed, problem);
    }
    if (r != MR_OK) {
        rd_kafka_conf_destroy(conf);
        return r;
    }
    *ret_conf = conf;
    return MR_OK;
}

void mr__kafka_log(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
    /* Failures reach source and sink by the error callback and are logged there; what is left for
     * the log is a setting that does not fit, and emergencies. */
    bool loud = level <= 2 || strcmp(facility, "CONFWARN") == 0;
    mr_logger_write(loud ? MR_LEVEL_WARN : MR_LEVEL_DEBUG, "kafka", "client=%s %s: %s",
                    rk == NULL ? "?" : rd_kafka_name(rk), facility, text);
}

bool mr__kafka_probe(rd_kafka_t *rk, const char *topic, rd_kafka_resp_err_t *ret_error)
{
    rd_kafka_topic_t *handle = topic == NULL ? NULL : rd_kafka_topic_new(rk, topic, NULL);
    const struct rd_kafka_metadata *metadata = NULL;
    rd_kafka_resp_err_t error = rd_kafka_metadata(rk, 0, handle, &metadata, PROBE_MS);
    bool answered = error == RD_KAFKA_RESP_ERR_NO_ERROR;
    if (answered) {
        if (topic != NULL && metadata->topic_cnt == 1) {
            error = metadata->topics[0].err;
        }
        rd_kafka_metadata_destroy(metadata);
    }
    if (handle != NULL) {
        rd_kafka_topic_destroy(handle);
    }
    *ret_error = error;
    return answered;
}

void mr__kafka_brokers_text(const struct mr_kafka_peer_options *peer, char *text, size_t size)
{
    const char *more = peer->brokers.count > 1 ? ", …" : "";
    (void)snprintf(text, size, "%.60s%s", peer->brokers.items[0], more);
}
