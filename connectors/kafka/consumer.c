/* The source's client: made, watched, left in order, made anew when it broke. */
#include <stdio.h>
#include <string.h>

#include "connectors/kafka/source.h"
#include "core/logger.h"

#define PROBE_NS (1 * MR_SECOND)
#define PROBE_TOPICS_NS (5 * MR_SECOND)
#define CLOSE_MS 50
#define REOPEN_NS (2 * MR_SECOND) /* for leaving the group with a client that broke */

static void on_error(rd_kafka_t *rk, int code, const char *reason, void *context)
{
    struct mr_source *source = context;
    rd_kafka_resp_err_t error = (rd_kafka_resp_err_t)code;
    char fatal[256];
    if (error == RD_KAFKA_RESP_ERR__FATAL) {
        (void)rd_kafka_fatal_error(rk, fatal, sizeof(fatal));
        reason = fatal;
        source->broken = true;
    } else if (error == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN) {
        if (!source->up) {
            return; /* known, and why */
        }
        source->up = false;
        source->probe_at_ns = 0;
        reason = source->intake.life.health.last_error[0] == '\0' ? reason : NULL;
    } else {
        /* One broker of several, or all of them: the probe tells. */
        source->probe_at_ns = 0;
        if (source->up && source->joined) {
            mr__lifecycle_set_health(&source->intake.life, source->intake.life.health.state, NULL,
                                     reason);
            return;
        }
    }
    if (reason != NULL) {
        MR_WARN("kafka", "source=%s err=\"%s\"", source->intake.life.name, reason);
    }
    mr__kafka_show(source, reason);
}

static enum mr_status subscribe(struct mr_source *source, struct mr_problem *problem)
{
    const struct mr_strings *topics = &source->options.topics;
    rd_kafka_topic_partition_list_t *list =
        rd_kafka_topic_partition_list_new((int)topics->count);
    for (uint32_t i = 0; i < topics->count; i++) {
        (void)rd_kafka_topic_partition_list_add(list, topics->items[i], RD_KAFKA_PARTITION_UA);
    }
    rd_kafka_resp_err_t error = rd_kafka_subscribe(source->rk, list);
    rd_kafka_topic_partition_list_destroy(list);
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR) {
        return mr_problem_set(problem, MR_E_UNAVAILABLE, "subscribe: %s", rd_kafka_err2str(error));
    }
    return MR_OK;
}

void mr__kafka_close(struct mr_source *source, uint64_t deadline_ns)
{
    if (source->rk == NULL) {
        return;
    }
    source->closing = true;
    rd_kafka_error_t *error = rd_kafka_consumer_close_queue(source->rk, source->queue);
    bool closing = error == NULL;
    if (error != NULL) {
        rd_kafka_error_destroy(error);
    }
    while (closing && !rd_kafka_consumer_closed(source->rk) && mr_clock_mono_ns() < deadline_ns) {
        rd_kafka_message_t *message = rd_kafka_consumer_poll(source->rk, CLOSE_MS);
        if (message != NULL) { /* read, not taken: the next owner has it */
            rd_kafka_message_destroy(message);
        }
    }
    bool closed = closing && rd_kafka_consumer_closed(source->rk);
    if (!closed) {
        MR_WARN("kafka", "source=%s err=\"the group could not be left in time\", ignoring",
                source->intake.life.name);
    }
    if (source->assigning != NULL) {
        rd_kafka_topic_partition_list_destroy(MR_TAKE(source->assigning));
    }
    if (source->cluster != NULL) {
        rd_kafka_mem_free(source->rk, MR_TAKE(source->cluster));
    }
    rd_kafka_queue_io_event_enable(source->queue, -1, NULL, 0);
    rd_kafka_queue_destroy(MR_TAKE(source->queue));
    rd_kafka_destroy_flags(source->rk, closed ? 0 : RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    source->rk = NULL;
    for (uint32_t i = 0; i < source->positions.count; i++) {
        source->positions.items[i]->assigned = false;
        mr__kafka_unstick(source->positions.items[i]);
    }
    source->assigned = 0;
    source->joined = source->up = source->broken = source->held = source->closing = false;
    source->more = source->committing = source->lost_place = false;
    mr__kafka_forget(source, NULL);
}

enum mr_status mr__kafka_open(struct mr_source *source, struct mr_problem *problem)
{
    rd_kafka_conf_t *conf = NULL;
    enum mr_status r = mr__kafka_consumer_conf(&source->options, source->group, &conf, problem);
    if (r != MR_OK) {
        return r;
    }
    rd_kafka_conf_set_opaque(conf, source);
    rd_kafka_conf_set_error_cb(conf, on_error);
    rd_kafka_conf_set_rebalance_cb(conf, mr__kafka_on_rebalance);
    rd_kafka_conf_set_offset_commit_cb(conf, mr__kafka_on_committed);
    char error[256] = "";
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, error, sizeof(error));
    if (rk == NULL) {
        rd_kafka_conf_destroy(conf);
        return mr_problem_set(problem, MR_E_UNAVAILABLE, "%s", error);
    }
    source->rk = rk;
    (void)rd_kafka_poll_set_consumer(rk);
    source->queue = rd_kafka_queue_get_consumer(rk);
    static const uint64_t one = 1;
    rd_kafka_queue_io_event_enable(source->queue, source->wake_fd, &one, sizeof(one));
    return subscribe(source, problem);
}

void mr__kafka_reopen(struct mr_source *source, uint64_t now_ns, const char *error)
{
    mr__kafka_close(source, now_ns + REOPEN_NS);
    source->open_at_ns = mr_clock_mono_ns() + mr__backoff_next(&source->backoff);
    MR_WARN("kafka", "source=%s err=\"%s\" retry_ms=%llu", source->intake.life.name, error,
            (unsigned long long)((source->open_at_ns - now_ns) / MR_MS));
    mr__kafka_show(source, error);
}

/* Asks for the topics that are named; an expression that matches nothing is no fault. Without an
 * answer what was known of them stays. */
static void probe_topics(struct mr_source *source)
{
    char text[200];
    for (uint32_t i = 0; i < source->options.topics.count; i++) {
        const char *topic = source->options.topics.items[i];
        rd_kafka_resp_err_t error = RD_KAFKA_RESP_ERR_NO_ERROR;
        if (topic[0] == '^') {
            continue;
        }
        if (!mr__kafka_probe(source->rk, topic, &error)) {
            return;
        }
        if (error != RD_KAFKA_RESP_ERR_NO_ERROR) {
            (void)snprintf(text, sizeof(text), "topic %.100s: %s", topic, rd_kafka_err2str(error));
            bool news = strcmp(source->intake.life.health.last_error, text) != 0;
            mr__kafka_show(source, news ? text : NULL);
            return;
        }
    }
    source->topics_bad = false;
    mr__kafka_show(source, NULL);
}

void mr__kafka_look(struct mr_source *source, uint64_t now_ns)
{
    if ((source->up && !source->topics_bad) || now_ns < source->probe_at_ns) {
        return;
    }
    rd_kafka_resp_err_t error;
    if (!source->up) {
        if (mr__kafka_probe(source->rk, NULL, &error)) {
            source->up = true;
            MR_INFO("kafka", "source=%s connected brokers=%s", source->intake.life.name,
                    source->brokers);
            mr__kafka_show(source, NULL);
        }
    }
    if (source->up && source->topics_bad) {
        probe_topics(source);
    }
    source->probe_at_ns = mr_clock_mono_ns() + (source->up ? PROBE_TOPICS_NS : PROBE_NS);
}
