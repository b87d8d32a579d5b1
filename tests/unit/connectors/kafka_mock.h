/* librdkafka's mock cluster in this process, a producer for it, and a source or sink under test. */
#ifndef MR_TESTS_UNIT_CONNECTORS_KAFKA_MOCK_H
#define MR_TESTS_UNIT_CONNECTORS_KAFKA_MOCK_H

#include "tests/support/test.h"

#include "connectors/kafka/kafka.h"

#include <librdkafka/rdkafka_mock.h> /* wants rdkafka.h before it */

#include "core/alloc.h"
#include "core/logger.h"
#include "tests/support/instance.h"

struct mock {
    rd_kafka_t *rk; /* its cluster's, and our producer */
    rd_kafka_mock_cluster_t *cluster;
    const char *brokers;
    int broker_count;
};

static inline void mock_quiet(const rd_kafka_t *rk, int level, const char *facility,
                              const char *text)
{
    (void)rk;
    (void)level;
    (void)facility;
    (void)text;
}

static inline rd_kafka_t *mock_client(rd_kafka_type_t type, const char *brokers, const char *group)
{
    char error[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set_log_cb(conf, mock_quiet);
    if (brokers != NULL) {
        rd_kafka_conf_set(conf, "bootstrap.servers", brokers, NULL, 0);
    }
    if (group != NULL) {
        rd_kafka_conf_set(conf, "group.id", group, NULL, 0);
        rd_kafka_conf_set(conf, "auto.offset.reset", "earliest", NULL, 0);
    }
    rd_kafka_t *rk = rd_kafka_new(type, conf, error, sizeof(error));
    if (rk == NULL) {
        fail_msg("client: %s", error);
    }
    return rk;
}

static inline void mock_open(struct mock *m, int brokers)
{
    m->rk = mock_client(RD_KAFKA_PRODUCER, NULL, NULL);
    m->broker_count = brokers;
    m->cluster = rd_kafka_mock_cluster_new(m->rk, brokers);
    assert_non_null(m->cluster);
    m->brokers = rd_kafka_mock_cluster_bootstraps(m->cluster);
}

static inline void mock_close(struct mock *m)
{
    rd_kafka_mock_cluster_destroy(m->cluster);
    rd_kafka_destroy(m->rk);
}

/* With a replica at each broker. */
static inline void mock_topic(struct mock *m, const char *topic, int partitions)
{
    assert_int_equal(rd_kafka_mock_topic_create(m->cluster, topic, partitions, m->broker_count),
                     RD_KAFKA_RESP_ERR_NO_ERROR);
}

/* Values "<from>", "<from + 1>", … into one partition. */
static inline void mock_produce(struct mock *m, const char *topic, int32_t partition, int from,
                                int count)
{
    if (count == 0) {
        return;
    }
    rd_kafka_t *rk = mock_client(RD_KAFKA_PRODUCER, m->brokers, NULL);
    for (int i = from; i < from + count; i++) {
        char text[32];
        snprintf(text, sizeof(text), "%d", i);
        rd_kafka_resp_err_t error =
            rd_kafka_producev(rk, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(partition),
                              RD_KAFKA_V_VALUE(text, strlen(text)),
                              RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
        assert_int_equal(error, RD_KAFKA_RESP_ERR_NO_ERROR);
    }
    assert_int_equal(rd_kafka_flush(rk, DEADLINE_MS), RD_KAFKA_RESP_ERR_NO_ERROR);
    rd_kafka_destroy(rk);
}

/* The group's position of a partition at the broker; -1: none. */
static inline int64_t mock_committed(struct mock *m, const char *group, const char *topic,
                                     int32_t partition)
{
    rd_kafka_t *rk = mock_client(RD_KAFKA_CONSUMER, m->brokers, group);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, topic, partition);
    assert_int_equal(rd_kafka_committed(rk, list, 5000), RD_KAFKA_RESP_ERR_NO_ERROR);
    int64_t offset = list->elems[0].offset;
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_destroy(rk);
    return offset < 0 ? -1 : offset;
}

static inline void set_strings(struct mr_strings *strings, const char *text)
{
    char *copy = strdup(text);
    char *save = NULL;
    for (char *at = strtok_r(copy, ",", &save); at != NULL; at = strtok_r(NULL, ",", &save)) {
        strings->items = mr_realloc(strings->items, (strings->count + 1) * sizeof(char *));
        strings->items[strings->count++] = mr_strdup(at);
    }
    free(copy);
}

/* "name=value,name=value" */
static inline void set_pairs(struct mr_pairs *pairs, const char *text)
{
    char *copy = strdup(text == NULL ? "" : text);
    char *save = NULL;
    for (char *at = strtok_r(copy, ",", &save); at != NULL; at = strtok_r(NULL, ",", &save)) {
        char *value = strchr(at, '=');
        *value++ = '\0';
        set_strings(&pairs->keys, at);
        set_strings(&pairs->values, value);
    }
    free(copy);
}

struct source_words {
    const char *brokers;
    const char *topics; /* separated by commas */
    const char *group;
    const char *librdkafka;
    const char *cursor;
    const char *start; /* "latest" */
    uint64_t event_size_max;
};

static inline struct mr_source *source_open(struct test_host *h, const struct source_words *w)
{
    const struct mr_config_kind *kind = &mr_connector_kafka.source_kind;
    struct mr_kafka_source_options o;
    memset(&o, 0, sizeof(o));
    assert_int_equal(mr_options_defaults(kind->options, &o), MR_OK);
    set_strings(&o.peer.brokers, w->brokers);
    set_strings(&o.topics, w->topics);
    set_pairs(&o.peer.librdkafka, w->librdkafka);
    o.group = mr_strdup(w->group);
    o.start = w->start != NULL && strcmp(w->start, "latest") == 0 ? MR_KAFKA_LATEST
                                                                  : MR_KAFKA_EARLIEST;
    return source_start(&mr_connector_kafka, h, "orders", &o, w->event_size_max, w->cursor);
}

/* How many of the values from..from + count - 1 came less than once or more than @p most times. */
static inline int host_wrong(struct test_host *h, int from, int count, int most)
{
    int *seen = calloc((size_t)count, sizeof(int));
    int wrong = 0;
    pthread_mutex_lock(&h->mu);
    for (uint32_t i = 0; i < h->event_count; i++) {
        struct mr_bytes data = mr_event_data(mr_event_record(h->events[i]));
        char text[32];
        snprintf(text, sizeof(text), "%.*s", (int)(data.size < 31 ? data.size : 31),
                 (const char *)data.data);
        long value = strtol(text, NULL, 10);
        if (value >= from && value < from + count) {
            seen[value - from]++;
        }
    }
    pthread_mutex_unlock(&h->mu);
    for (int i = 0; i < count; i++) {
        wrong += seen[i] < 1 || seen[i] > most ? 1 : 0;
    }
    free(seen);
    return wrong;
}

static inline bool host_has_each(struct test_host *h, int from, int count, int most)
{
    int wrong = host_wrong(h, from, count, most);
    if (wrong > 0) {
        print_message("%d of %d values did not come, or too often\n", wrong, count);
    }
    return wrong == 0;
}

#endif
