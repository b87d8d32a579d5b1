/* librdkafka alone, with the same settings and acknowledgements as the Kafka connector.
 *
 *     bench_kafka fill    BROKERS TOPIC COUNT             records of 1 KiB, each a CloudEvent
 *     bench_kafka consume BROKERS TOPIC COUNT GROUP       commits what it read, each 500 records
 *     bench_kafka produce BROKERS TOPIC COUNT [--window 1000]   idempotent, one report each
 *
 * Prints CLOCK_MONOTONIC of the first and last record and the processor time taken as JSON. */
#include "bench/util.h"

#include <librdkafka/rdkafka.h>
#include <string.h>

#define NAME "bench_kafka"
#define COMMIT_EVERY 500u

static uint64_t first_ns;
static uint64_t last_ns;
static uint64_t reported;
static uint64_t failed;

static void set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
    char error[256];
    if (rd_kafka_conf_set(conf, name, value, error, sizeof(error)) != RD_KAFKA_CONF_OK) {
        bench_die(NAME, error);
    }
}

static rd_kafka_t *open_client(rd_kafka_type_t type, rd_kafka_conf_t *conf)
{
    char error[256];
    rd_kafka_t *rk = rd_kafka_new(type, conf, error, sizeof(error));
    if (rk == NULL) {
        bench_die(NAME, error);
    }
    return rk;
}

/* --- consume ---------------------------------------------------------------------------------- */

static void count_headers(const rd_kafka_message_t *message)
{
    rd_kafka_headers_t *headers;
    const char *name;
    const void *value;
    size_t size;
    if (rd_kafka_message_headers(message, &headers) == RD_KAFKA_RESP_ERR_NO_ERROR) {
        for (size_t i = 0; rd_kafka_header_get_all(headers, i, &name, &value, &size) ==
                           RD_KAFKA_RESP_ERR_NO_ERROR;
             i++) {
        }
    }
}

/* Asynchronous; the positions are those of what was stored. */
static void commit(rd_kafka_t *rk)
{
    (void)rd_kafka_commit(rk, NULL, 1); /* nothing new is no matter */
}

static void consume(const char *brokers, const char *topic, uint64_t count, const char *group)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", brokers);
    set(conf, "group.id", group);
    set(conf, "enable.auto.commit", "false");
    set(conf, "auto.offset.reset", "earliest");
    set(conf, "queued.max.messages.kbytes", "16384");
    rd_kafka_t *rk = open_client(RD_KAFKA_CONSUMER, conf);
    (void)rd_kafka_poll_set_consumer(rk);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    (void)rd_kafka_topic_partition_list_add(list, topic, RD_KAFKA_PARTITION_UA);
    if (rd_kafka_subscribe(rk, list) != RD_KAFKA_RESP_ERR_NO_ERROR) {
        bench_die(NAME, "cannot subscribe");
    }
    rd_kafka_topic_partition_list_destroy(list);
    char *copy = malloc(2 * BENCH_EVENT_SIZE); /* what is read is read */
    if (copy == NULL) {
        bench_die(NAME, "out of memory");
    }
    for (uint64_t seen = 0; seen < count;) {
        rd_kafka_message_t *message = rd_kafka_consumer_poll(rk, 1000);
        if (message == NULL) {
            continue;
        }
        if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
            count_headers(message);
            memcpy(copy, message->payload, message->len < 2048 ? message->len : 2048);
            first_ns = first_ns == 0 ? bench_now_ns() : first_ns;
            if (++seen % COMMIT_EVERY == 0) {
                commit(rk);
            }
        }
        rd_kafka_message_destroy(message);
    }
    last_ns = bench_now_ns();
    (void)rd_kafka_commit(rk, NULL, 0); /* by now all is counted */
    free(copy);
    (void)rd_kafka_consumer_close(rk);
    rd_kafka_destroy(rk);
}

/* --- produce ---------------------------------------------------------------------------------- */

static void on_report(rd_kafka_t *rk, const rd_kafka_message_t *message, void *context)
{
    (void)rk;
    (void)context;
    reported++;
    failed += message->err != RD_KAFKA_RESP_ERR_NO_ERROR;
}

static void produce_one(rd_kafka_t *rk, const char *topic, uint64_t n, const char *data)
{
    char id[32];
    (void)snprintf(id, sizeof(id), "%llu", (unsigned long long)n);
    rd_kafka_headers_t *headers = rd_kafka_headers_new(6);
    const char *const fields[][2] = {{"content-type", "application/json"},
                                     {"ce_specversion", "1.0"},
                                     {"ce_id", id},
                                     {"ce_source", "/bench"},
                                     {"ce_type", "com.example.bench"}};
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        (void)rd_kafka_header_add(headers, fields[i][0], -1, fields[i][1], -1);
    }
    rd_kafka_vu_t args[] = {
        {.vtype = RD_KAFKA_VTYPE_TOPIC, .u.cstr = topic},
        {.vtype = RD_KAFKA_VTYPE_VALUE, .u.mem = {.ptr = (void *)(uintptr_t)data,
                                                  .size = BENCH_EVENT_SIZE}},
        {.vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = headers},
        {.vtype = RD_KAFKA_VTYPE_MSGFLAGS, .u.i = RD_KAFKA_MSG_F_COPY},
    };
    rd_kafka_error_t *error;
    while ((error = rd_kafka_produceva(rk, args, sizeof(args) / sizeof(args[0]))) != NULL) {
        if (rd_kafka_error_code(error) != RD_KAFKA_RESP_ERR__QUEUE_FULL) {
            bench_die(NAME, rd_kafka_error_string(error));
        }
        rd_kafka_error_destroy(error);
        (void)rd_kafka_poll(rk, 10);
    }
}

static void produce(const char *brokers, const char *topic, uint64_t count, uint64_t window)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", brokers);
    set(conf, "enable.idempotence", "true");
    rd_kafka_conf_set_dr_msg_cb(conf, on_report);
    rd_kafka_t *rk = open_client(RD_KAFKA_PRODUCER, conf);
    const struct rd_kafka_metadata *metadata; /* connected before the first record counts */
    if (rd_kafka_metadata(rk, 1, NULL, &metadata, 10000) != RD_KAFKA_RESP_ERR_NO_ERROR) {
        bench_die(NAME, "no broker answers");
    }
    rd_kafka_metadata_destroy(metadata);
    char data[BENCH_EVENT_SIZE];
    memset(data, 'x', sizeof(data));
    memcpy(data, "{\"text\":\"", 9);
    memcpy(data + sizeof(data) - 2, "\"}", 2);
    first_ns = bench_now_ns();
    for (uint64_t sent = 0; reported < count;) {
        while (sent < count && sent - reported < window) {
            produce_one(rk, topic, sent++, data);
        }
        (void)rd_kafka_poll(rk, 100);
    }
    last_ns = bench_now_ns();
    if (failed > 0) {
        bench_die(NAME, "records were not delivered");
    }
    rd_kafka_destroy(rk);
}

int main(int argc, char **argv)
{
    const char *verb = argc > 4 ? argv[1] : "";
    uint64_t count = argc > 4 ? strtoull(argv[4], NULL, 10) : 0;
    if (count == 0) {
        bench_die(NAME, "usage: fill|consume|produce BROKERS TOPIC COUNT [GROUP]");
    }
    if (strcmp(verb, "consume") == 0) {
        consume(argv[2], argv[3], count, argc > 5 ? argv[5] : NAME);
    } else if (strcmp(verb, "produce") == 0) {
        produce(argv[2], argv[3], count, bench_option(argc, argv, "--window", 1000));
    } else {
        produce(argv[2], argv[3], count, 100000);
    }
    bench_print_times(first_ns, last_ns);
    return 0;
}
