/* The Kafka sink against librdkafka's mock cluster. */
#include "tests/unit/connectors/kafka_mock.h"

static const struct mr_target_ops *const ops = &mr__kafka_sink_ops;

struct sink_words {
    const char *brokers;
    const char *topic;
    const char *key;
    const char *librdkafka;
    int mode;
    uint64_t timeout_ns;
    uint64_t buffer;
};

static struct mr_target *sink_open(struct test_host *h, const struct sink_words *w)
{
    const struct mr_config_kind *kind = &mr_connector_kafka.sink_kind;
    struct mr_kafka_sink_options o;
    memset(&o, 0, sizeof(o));
    assert_int_equal(mr_options_defaults(kind->options, &o), MR_OK);
    set_strings(&o.peer.brokers, w->brokers);
    set_pairs(&o.peer.librdkafka, w->librdkafka);
    o.topic = mr_strdup(w->topic);
    o.mode = w->mode;
    if (w->buffer != 0) {
        o.peer.buffer = w->buffer;
    }
    if (w->key != NULL) {
        mr_free(o.key);
        o.key = mr_strdup(w->key);
    }
    return sink_start(&mr_connector_kafka, h, "results", &o,
                      (struct mr_target_config){.timeout_ns = w->timeout_ns});
}

/* A cluster and the host of a sink. */
struct rig {
    struct mock m;
    struct test_host h;
};

/* A connected sink. @param topic made beforehand; may be NULL  @param words NULL: to that topic */
static struct mr_target *rig_open(struct rig *r, const char *topic, const struct sink_words *words)
{
    struct sink_words w = {.topic = topic};
    mock_open(&r->m, 1);
    if (topic != NULL) {
        mock_topic(&r->m, topic, 1);
    }
    test_host_init(&r->h);
    w = words != NULL ? *words : w;
    w.brokers = r->m.brokers;
    struct mr_target *target = sink_open(&r->h, &w);
    sink_ready(&r->h, target, 4000);
    return target;
}

static void rig_close(struct rig *r)
{
    test_host_free(&r->h);
    mock_close(&r->m);
}

static struct mr_handout *make_handout(int id, const char *key, const char *data)
{
    struct mr_event_builder b;
    struct mr_handout *handout = mr_handout_create();
    char text[32];
    snprintf(text, sizeof(text), "e%d", id);
    mr_event_builder_init(&b, MR_EVENT_SIZE_MAX);
    const char *attrs[][2] = {{"id", text}, {"source", "/s"}, {"type", "t.a"},
                              {"datacontenttype", "text/plain"}, {"partitionkey", key}};
    for (int i = 0; i < (key == NULL ? 4 : 5); i++) {
        assert_int_equal(mr_event_builder_attr(&b, mr_bytes_of(attrs[i][0]), MR_ATTR_STRING,
                                               mr_bytes_of(attrs[i][1]), NULL),
                         MR_OK);
    }
    if (data != NULL) {
        mr_event_builder_data(&b, mr_bytes_of(data), false);
    }
    assert_int_equal(mr_event_builder_finish(&b, true, &handout->event, NULL), MR_OK);
    mr_event_builder_release(&b);
    handout->offset = (uint64_t)id;
    return handout;
}

static void submit_one(struct mr_target *target, int id, const char *key, const char *data)
{
    sink_give(target, make_handout(id, key, data));
}

static void submit_many(struct mr_target *target, int from, int count)
{
    struct mr_handout *first = NULL;
    for (int i = from + count - 1; i >= from; i--) {
        first = chain_handout(make_handout(i, "k", "data"), first);
    }
    sink_give(target, first);
}

static enum mr_verdict verdict_at(struct test_host *h, uint32_t index)
{
    pthread_mutex_lock(&h->mu);
    enum mr_verdict verdict = h->answers[index]->answer.verdict;
    pthread_mutex_unlock(&h->mu);
    return verdict;
}

static const char *error_at(struct test_host *h, uint32_t index)
{
    const char *error = h->answers[index]->answer.error;
    return error == NULL ? "" : error;
}

static uint32_t count_verdicts(struct test_host *h, enum mr_verdict verdict)
{
    uint32_t count = 0;
    pthread_mutex_lock(&h->mu);
    for (uint32_t i = 0; i < h->answer_count; i++) {
        count += h->answers[i]->answer.verdict == verdict ? 1 : 0;
    }
    pthread_mutex_unlock(&h->mu);
    return count;
}

/* --- reading it back -------------------------------------------------------------------------- */

static rd_kafka_t *open_reader(struct mock *m, const char *topic, int partitions)
{
    rd_kafka_t *rk = mock_client(RD_KAFKA_CONSUMER, m->brokers, "reader");
    rd_kafka_poll_set_consumer(rk);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    for (int i = 0; i < partitions; i++) {
        rd_kafka_topic_partition_list_add(list, topic, i)->offset = RD_KAFKA_OFFSET_BEGINNING;
    }
    assert_int_equal(rd_kafka_assign(rk, list), 0);
    rd_kafka_topic_partition_list_destroy(list);
    return rk;
}

static rd_kafka_message_t *read_one(rd_kafka_t *rk)
{
    for (int i = 0; i < 300; i++) {
        rd_kafka_message_t *message = rd_kafka_consumer_poll(rk, 100);
        if (message != NULL && message->err == 0) {
            return message;
        }
        if (message != NULL) {
            rd_kafka_message_destroy(message);
        }
    }
    fail_msg("no record came");
    return NULL;
}

static void close_reader(rd_kafka_t *rk)
{
    rd_kafka_consumer_close(rk);
    rd_kafka_destroy(rk);
}

static const char *header(const rd_kafka_message_t *message, const char *name)
{
    static char text[128];
    rd_kafka_headers_t *headers;
    const void *value;
    size_t size;
    text[0] = '\0';
    if (rd_kafka_message_headers(message, &headers) == 0 &&
        rd_kafka_header_get_last(headers, name, &value, &size) == 0) {
        snprintf(text, sizeof(text), "%.*s", (int)size, (const char *)value);
    }
    return text;
}

static bool equals(const void *data, size_t size, const char *text)
{
    return mr_bytes_equal(mr_bytes(data, size), mr_bytes_of(text));
}

/* --- tests ------------------------------------------------------------------------------------ */

static void test_sink_binary_has_headers_key_and_value(void **state)
{
    (void)state;
    struct rig r;
    struct mr_target *target = rig_open(&r, "results", NULL);
    submit_one(target, 1, "customer-7", "hello");
    submit_one(target, 2, NULL, NULL); /* no data: a tombstone */
    submit_one(target, 3, NULL, "");   /* empty data is another thing */
    assert_true(test_host_wait(&r.h, HOST_ANSWERS, 3));
    assert_int_equal(count_verdicts(&r.h, MR_VERDICT_OK), 3);
    assert_string_equal(r.h.answers[0]->answer.instance, "results");
    assert_true(r.h.answers[0]->answer.started_wall_ns > 0);
    rd_kafka_t *rk = open_reader(&r.m, "results", 1);
    rd_kafka_message_t *message = read_one(rk);
    assert_true(equals(message->key, message->key_len, "customer-7"));
    assert_true(equals(message->payload, message->len, "hello"));
    assert_string_equal(header(message, "ce_id"), "e1");
    assert_string_equal(header(message, "ce_type"), "t.a");
    assert_string_equal(header(message, "ce_partitionkey"), "customer-7");
    assert_string_equal(header(message, "content-type"), "text/plain");
    rd_kafka_message_destroy(message);
    message = read_one(rk);
    assert_null(message->key);
    assert_null(message->payload);
    rd_kafka_message_destroy(message);
    message = read_one(rk);
    assert_non_null(message->payload);
    assert_int_equal(message->len, 0);
    rd_kafka_message_destroy(message);
    close_reader(rk);
    assert_int_equal(sink_health(target).state, MR_HEALTH_OK);
    assert_int_equal(sink_health(target).messages, 3);
    sink_close(target);
    rig_close(&r);
}

static void test_sink_structured_to_a_topic_of_the_event(void **state)
{
    (void)state;
    struct rig r;
    struct sink_words words = {.topic = "r-{{type}}", .key = "{{id}}", .mode = 1};
    struct mr_target *target = rig_open(&r, "r-t.a", &words);
    submit_one(target, 1, "x", "hello");
    assert_true(test_host_wait(&r.h, HOST_ANSWERS, 1));
    assert_int_equal(verdict_at(&r.h, 0), MR_VERDICT_OK);
    rd_kafka_t *rk = open_reader(&r.m, "r-t.a", 1);
    rd_kafka_message_t *message = read_one(rk);
    assert_true(equals(message->key, message->key_len, "e1"));
    assert_true(mr_bytes_starts(mr_bytes_of(header(message, "content-type")),
                                MR_BYTES_LITERAL("application/cloudevents+json")));
    assert_non_null(memmem(message->payload, message->len, "\"id\":\"e1\"", 9));
    rd_kafka_message_destroy(message);
    close_reader(rk);
    sink_close(target);
    rig_close(&r);
}

static void test_sink_bad_topic_of_an_event_is_dead(void **state)
{
    (void)state;
    struct rig r;
    struct sink_words words = {.topic = "{{source}}"}; /* "/s" */
    struct mr_target *target = rig_open(&r, NULL, &words);
    submit_one(target, 1, "x", "hello");
    assert_true(test_host_wait(&r.h, HOST_ANSWERS, 1));
    assert_int_equal(verdict_at(&r.h, 0), MR_VERDICT_DEAD);
    assert_string_equal(error_at(&r.h, 0), "\"/s\" is no topic name");
    sink_close(target);
    rig_close(&r);
}

static void test_sink_broker_errors_have_their_class(void **state)
{
    (void)state;
    static const struct {
        rd_kafka_resp_err_t error;
        enum mr_verdict verdict;
    } cases[] = {
        {RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, MR_VERDICT_DEAD},
        {RD_KAFKA_RESP_ERR_INVALID_RECORD, MR_VERDICT_DEAD},
        {RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, MR_VERDICT_OK}, /* tried again by the client */
        {RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS, MR_VERDICT_OK},
        {RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, MR_VERDICT_RETRY},
    };
    struct rig r;
    struct mr_target *target = rig_open(&r, "results", NULL);
    for (uint32_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        rd_kafka_mock_push_request_errors(r.m.cluster, 0 /* Produce */, 1, cases[i].error);
        submit_one(target, (int)i, "x", "hello");
        assert_true(test_host_wait(&r.h, HOST_ANSWERS, i + 1));
        if (verdict_at(&r.h, i) != cases[i].verdict) {
            fail_msg("%s: verdict %s: %s", rd_kafka_err2name(cases[i].error),
                     mr_verdict_text(verdict_at(&r.h, i)), error_at(&r.h, i));
        }
    }
    sink_close(target);
    rig_close(&r);
}

static void test_sink_no_broker_has_no_capacity_and_refuses(void **state)
{
    (void)state;
    struct test_host h;
    test_host_init(&h);
    struct sink_words words = {.brokers = "127.0.0.1:1", .topic = "results"};
    struct mr_target *target = sink_open(&h, &words);
    WAIT_FOR(sink_health(target).state == MR_HEALTH_DOWN, "down");
    assert_int_equal(h.capacity, 0);
    submit_many(target, 0, 3);
    assert_true(test_host_wait(&h, HOST_ANSWERS, 3));
    assert_int_equal(count_verdicts(&h, MR_VERDICT_REFUSED), 3);
    uint64_t begin_ns = mr_clock_mono_ns();
    sink_close(target);
    assert_true(mr_clock_mono_ns() - begin_ns < 4 * MR_SECOND);
    test_host_free(&h);
}

static void test_sink_broker_goes_and_comes(void **state)
{
    (void)state;
    struct rig r;
    struct mr_target *target = rig_open(&r, "results", NULL);
    submit_many(target, 0, 10);
    assert_true(test_host_wait(&r.h, HOST_ANSWERS, 10));
    rd_kafka_mock_broker_set_down(r.m.cluster, 1);
    assert_true(test_host_wait(&r.h, HOST_CAPACITY, 0));
    assert_int_equal(sink_health(target).state, MR_HEALTH_DOWN);
    rd_kafka_mock_broker_set_up(r.m.cluster, 1);
    assert_true(test_host_wait(&r.h, HOST_CAPACITY, 4000));
    submit_many(target, 10, 10);
    assert_true(test_host_wait(&r.h, HOST_ANSWERS, 20));
    assert_int_equal(count_verdicts(&r.h, MR_VERDICT_OK), 20);
    assert_true(sink_health(target).reconnects >= 1);
    sink_close(target);
    rig_close(&r);
}

/* The broker answers slowly: stop comes with records under way. Each is answered. */
static void test_sink_stop_answers_what_is_under_way(void **state)
{
    (void)state;
    struct rig r;
    struct mr_target *target = rig_open(&r, "results", NULL);
    submit_one(target, 0, "k", "data"); /* the topic and the producer's id are known */
    assert_true(test_host_wait(&r.h, HOST_ANSWERS, 1));
    rd_kafka_mock_broker_set_rtt(r.m.cluster, 1, 5000);
    submit_many(target, 1, 100);
    (void)test_host_wait_for(&r.h, HOST_ANSWERS, 2, 0.3);
    ops->stop(target, mr_clock_mono_ns() + MR_SECOND);
    ops->destroy(target);
    assert_int_equal(r.h.answer_count, 101);
    assert_int_equal(count_verdicts(&r.h, MR_VERDICT_CRASH) +
                         count_verdicts(&r.h, MR_VERDICT_REFUSED),
                     100);
    rig_close(&r);
}

/* More than the client's queue takes: the rest waits, nothing is failed. */
static void test_sink_full_queue_waits(void **state)
{
    (void)state;
    struct rig r;
    struct sink_words words = {.topic = "results", .buffer = 4 * MR_MIB};
    struct mr_target *target = rig_open(&r, "results", &words);
    char *big = malloc(500001);
    memset(big, 'x', 500000);
    big[500000] = '\0';
    struct mr_handout *first = NULL;
    for (int i = 0; i < 40; i++) {
        first = chain_handout(make_handout(i, "k", big), first);
    }
    sink_give(target, first);
    assert_true(test_host_wait(&r.h, HOST_ANSWERS, 40));
    assert_int_equal(count_verdicts(&r.h, MR_VERDICT_OK), 40);
    sink_close(target);
    free(big);
    rig_close(&r);
}

int main(void)
{
    mr_logger_set_level(MR_LEVEL_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sink_binary_has_headers_key_and_value),
        cmocka_unit_test(test_sink_structured_to_a_topic_of_the_event),
        cmocka_unit_test(test_sink_bad_topic_of_an_event_is_dead),
        cmocka_unit_test(test_sink_broker_errors_have_their_class),
        cmocka_unit_test(test_sink_no_broker_has_no_capacity_and_refuses),
        cmocka_unit_test(test_sink_broker_goes_and_comes),
        cmocka_unit_test(test_sink_stop_answers_what_is_under_way),
        cmocka_unit_test(test_sink_full_queue_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
