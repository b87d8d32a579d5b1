/* The Kafka source against librdkafka's mock cluster. */
#include "tests/unit/connectors/kafka_mock.h"

#define GROUP "g"

/* A cluster with the topic "orders", and the host and words of sources that read it. */
struct rig {
    struct mock m;
    struct test_host h;
    struct source_words words;
};

/* Partition p holds the values from p * @p each, so many of them. No partition: no topic. */
static void rig_open(struct rig *r, int brokers, int partitions, int each)
{
    mock_open(&r->m, brokers);
    if (partitions > 0) {
        mock_topic(&r->m, "orders", partitions);
    }
    for (int32_t p = 0; p < partitions; p++) {
        mock_produce(&r->m, "orders", p, p * each, each);
    }
    test_host_init(&r->h);
    r->words =
        (struct source_words){.brokers = r->m.brokers, .topics = "orders", .group = GROUP};
}

static void rig_close(struct rig *r)
{
    test_host_free(&r->h);
    mock_close(&r->m);
}

static void test_source_records_enter_once_and_are_committed(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, 1, 3, 1000);
    struct mr_source *source = source_open(&r.h, &r.words);
    assert_true(test_host_wait(&r.h, HOST_EVENTS, 3000));
    WAIT_FOR(mock_committed(&r.m, GROUP, "orders", 2) == 1000, "the commit");
    struct mr_health health = source_health(source);
    assert_int_equal(health.state, MR_HEALTH_OK);
    assert_int_equal(health.messages, 3000);
    WAIT_FOR(source_health(source).lag == 0, "no lag");
    source_close(source);
    assert_true(host_has_each(&r.h, 0, 3000, 1));
    assert_non_null(strstr(r.h.cursor, "\"group\":\"g\""));
    assert_non_null(strstr(r.h.cursor, "\"orders\":{\"0\":1000,\"1\":1000,\"2\":1000}"));
    assert_string_equal(test_host_value(&r.h, 0, "type"), "dev.knative.kafka.event");
    rig_close(&r);
}

/* The log is ahead of the broker: killed between the durable write and the commit. */
static void test_source_log_ahead_of_broker_starts_at_log(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, 1, 1, 100);
    r.words.cursor = "{\"group\":\"g\",\"topics\":{\"orders\":{\"0\":60}}}";
    struct mr_source *source = source_open(&r.h, &r.words);
    assert_true(test_host_wait(&r.h, HOST_EVENTS, 40));
    WAIT_FOR(mock_committed(&r.m, GROUP, "orders", 0) == 100, "the commit");
    source_close(source);
    assert_int_equal(r.h.event_count, 40);
    assert_true(host_has_each(&r.h, 60, 40, 1));
    rig_close(&r);
}

/* The broker is ahead: another Millrace of the group went on from where the log ends. */
static void test_source_broker_ahead_of_log_starts_at_broker(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, 1, 1, 100);
    struct mr_source *source = source_open(&r.h, &r.words);
    assert_true(test_host_wait(&r.h, HOST_EVENTS, 100));
    source_close(source); /* commits */
    test_host_free(&r.h);
    mock_produce(&r.m, "orders", 0, 100, 10);
    test_host_init(&r.h);
    r.words.cursor = "{\"group\":\"g\",\"topics\":{\"orders\":{\"0\":60}}}";
    source = source_open(&r.h, &r.words);
    assert_true(test_host_wait(&r.h, HOST_EVENTS, 10));
    source_close(source);
    assert_int_equal(r.h.event_count, 10);
    assert_true(host_has_each(&r.h, 100, 10, 1));
    rig_close(&r);
}

/* A position of another group or cluster says nothing about this one. */
static void test_source_cursor_of_another_group_is_not_used(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, 1, 1, 50);
    r.words.cursor = "{\"group\":\"old\",\"topics\":{\"orders\":{\"0\":30}}}";
    struct mr_source *source = source_open(&r.h, &r.words);
    assert_true(test_host_wait(&r.h, HOST_EVENTS, 50));
    source_close(source);
    assert_int_equal(r.h.event_count, 50);
    rig_close(&r);
}

/* The topic was made anew and is shorter than the log's position: said, and read from its start. */
static void test_source_log_beyond_the_end_starts_again(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, 1, 1, 20);
    r.words.cursor = "{\"group\":\"g\",\"topics\":{\"orders\":{\"0\":5000}}}";
    struct mr_source *source = source_open(&r.h, &r.words);
    assert_true(test_host_wait(&r.h, HOST_EVENTS, 20));
    assert_non_null(strstr(source_health(source).last_error, "made anew"));
    source_close(source);
    assert_int_equal(r.h.event_count, 20);
    assert_non_null(strstr(r.h.cursor, "\"orders\":{\"0\":20}"));
    rig_close(&r);
}

/* A leader of old, thawed, knows less than was read; the records are there once the true one
 * answers. Nothing is read twice. */
static void test_source_end_before_the_log_for_a_while_keeps_its_place(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, 1, 2, 20);
    r.words.cursor = "{\"group\":\"g\",\"topics\":{\"orders\":{\"0\":30}}}";
    struct mr_source *source = source_open(&r.h, &r.words);
    WAIT_FOR(strstr(source_health(source).last_error, "asking again") != NULL, "the doubt");
    assert_int_equal(source_health(source).state, MR_HEALTH_DEGRADED);
    assert_true(test_host_wait(&r.h, HOST_EVENTS, 20)); /* its neighbour goes on */
    mock_produce(&r.m, "orders", 0, 120, 20);
    assert_true(test_host_wait(&r.h, HOST_EVENTS, 30));
    WAIT_FOR(source_health(source).state == MR_HEALTH_OK, "health");
    source_close(source);
    assert_int_equal(r.h.event_count, 30);
    assert_true(host_has_each(&r.h, 130, 10, 1));
    rig_close(&r);
}

static void test_source_nothing_durable_commits_nothing(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, 1, 1, 12000);
    test_host_hold(&r.h);
    struct mr_source *source = source_open(&r.h, &r.words);
    assert_true(test_host_wait(&r.h, HOST_HELD_EVENTS, 1));
    assert_false(test_host_wait_for(&r.h, HOST_SUBMITS, 2, 2.5)); /* one batch out, no more */
    WAIT_FOR(strstr(source_health(source).detail, "paused") != NULL, "paused partitions");
    assert_int_equal(mock_committed(&r.m, GROUP, "orders", 0), -1);
    test_host_let_go(&r.h);
    assert_true(test_host_wait(&r.h, HOST_EVENTS, 12000));
    source_close(source);
    assert_true(host_has_each(&r.h, 0, 12000, 1));
    assert_int_equal(mock_committed(&r.m, GROUP, "orders", 0), 12000);
    rig_close(&r);
}

static void test_source_bus_refuses_for_a_while_loses_nothing(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, 1, 2, 1500);
    test_host_refuse(&r.h, 4, MR_E_DISK_LOW);
    struct mr_source *source = source_open(&r.h, &r.words);
    assert_true(test_host_wait(&r.h, HOST_EVENTS, 3000));
    source_close(source);
    assert_int_equal(r.h.fail_count, 0);
    assert_true(host_has_each(&r.h, 0, 3000, 1));
    rig_close(&r);
}

/* The log's segments are small: the batch is refused for good, and read again in smaller ones. */
static void test_source_batch_too_big_comes_again_in_smaller_ones(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, 1, 2, 3000);
    test_host_refuse(&r.h, 2, MR_E_TOO_BIG);
    struct mr_source *source = source_open(&r.h, &r.words);
    assert_true(test_host_wait(&r.h, HOST_EVENTS, 6000));
    WAIT_FOR(source_health(source).state == MR_HEALTH_OK, "health");
    source_close(source);
    assert_int_equal(r.h.fail_count, 0);
    assert_true(host_has_each(&r.h, 0, 6000, 1));
    rig_close(&r);
}

static void test_source_paused_takes_nothing_and_keeps_its_place(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, 1, 1, 10);
    struct mr_source *source = source_open(&r.h, &r.words);
    assert_true(test_host_wait(&r.h, HOST_EVENTS, 10));
    mr_connector_kafka.source->pause(source);
    mock_produce(&r.m, "orders", 0, 10, 500);
    assert_false(test_host_wait_for(&r.h, HOST_EVENTS, 11, 3.0));
    mr_connector_kafka.source->resume(source);
    assert_true(test_host_wait(&r.h, HOST_EVENTS, 510));
    source_close(source);
    assert_true(host_has_each(&r.h, 0, 510, 1));
    rig_close(&r);
}

static void test_source_two_of_a_group_share_and_lose_nothing(void **state)
{
    (void)state;
    struct rig r; /* both give to one host: what enters at all */
    rig_open(&r, 1, 4, 5000);
    struct mr_source *one = source_open(&r.h, &r.words);
    assert_true(test_host_wait(&r.h, HOST_EVENTS, 1000));
    struct mr_source *two = source_open(&r.h, &r.words);
    WAIT_FOR(strstr(source_health(one).detail, " 2 partitions") != NULL &&
                 strstr(source_health(two).detail, " 2 partitions") != NULL,
             "a share for both");
    for (int32_t p = 0; p < 4; p++) {
        mock_produce(&r.m, "orders", p, 20000 + p * 1000, 1000);
    }
    /* The mock cluster, other than Kafka, takes no commit while a member joins: some come twice. */
    WAIT_FOR(host_wrong(&r.h, 0, 24000, 2) == 0, "every record");
    source_close(one);
    source_close(two);
    rig_close(&r);
}

static void test_source_broker_goes_and_comes(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, 1, 1, 10);
    struct mr_source *source = source_open(&r.h, &r.words);
    assert_true(test_host_wait(&r.h, HOST_EVENTS, 10));
    rd_kafka_mock_broker_set_down(r.m.cluster, 1);
    WAIT_FOR(source_health(source).state == MR_HEALTH_DOWN, "down");
    assert_true(source_health(source).last_error[0] != '\0');
    rd_kafka_mock_broker_set_up(r.m.cluster, 1);
    WAIT_FOR(source_health(source).state == MR_HEALTH_OK, "up");
    mock_produce(&r.m, "orders", 0, 10, 10);
    assert_true(test_host_wait(&r.h, HOST_EVENTS, 20));
    source_close(source);
    assert_true(host_has_each(&r.h, 0, 20, 1));
    rig_close(&r);
}

static void test_source_no_broker_stops_at_once(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, 1, 0, 0);
    r.words.brokers = "127.0.0.1:1";
    struct mr_source *source = source_open(&r.h, &r.words);
    WAIT_FOR(source_health(source).state == MR_HEALTH_DOWN, "down");
    assert_non_null(strstr(source_health(source).last_error, "refused"));
    uint64_t begin_ns = mr_clock_mono_ns();
    source_close(source);
    assert_true(mr_clock_mono_ns() - begin_ns < 5 * MR_SECOND);
    rig_close(&r);
}

static void test_source_coordinator_and_leader_move(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, 3, 2, 500);
    rd_kafka_mock_coordinator_set(r.m.cluster, "group", GROUP, 1);
    struct mr_source *source = source_open(&r.h, &r.words);
    assert_true(test_host_wait(&r.h, HOST_EVENTS, 1000));
    rd_kafka_mock_coordinator_set(r.m.cluster, "group", GROUP, 2);
    rd_kafka_mock_partition_set_leader(r.m.cluster, "orders", 0, 3);
    rd_kafka_mock_partition_set_leader(r.m.cluster, "orders", 1, 1);
    mock_produce(&r.m, "orders", 0, 1000, 500);
    mock_produce(&r.m, "orders", 1, 1500, 500);
    assert_true(test_host_wait(&r.h, HOST_EVENTS, 2000));
    WAIT_FOR(mock_committed(&r.m, GROUP, "orders", 0) == 1000, "the commit");
    source_close(source);
    assert_true(host_has_each(&r.h, 0, 2000, 1));
    rig_close(&r);
}

static void test_source_start_latest_takes_only_what_comes(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, 1, 1, 100);
    r.words.start = "latest";
    struct mr_source *source = source_open(&r.h, &r.words);
    /* The end is kept, not looked for again after a crash. */
    WAIT_FOR(mock_committed(&r.m, GROUP, "orders", 0) == 100, "the commit of the start");
    mock_produce(&r.m, "orders", 0, 100, 5);
    assert_true(test_host_wait(&r.h, HOST_EVENTS, 5));
    source_close(source);
    assert_int_equal(r.h.event_count, 5);
    assert_true(host_has_each(&r.h, 100, 5, 1));
    rig_close(&r);
}

static void test_source_pattern_finds_topics(void **state)
{
    (void)state;
    static const char *const topics[] = {"plant-a", "plant-b", "other"};
    struct rig r;
    rig_open(&r, 1, 0, 0);
    for (int i = 0; i < 3; i++) {
        mock_topic(&r.m, topics[i], 1);
        mock_produce(&r.m, topics[i], 0, i * 5, 5);
    }
    r.words.topics = "^plant-.*";
    struct mr_source *source = source_open(&r.h, &r.words);
    assert_true(test_host_wait(&r.h, HOST_EVENTS, 10));
    source_close(source);
    assert_int_equal(r.h.event_count, 10);
    assert_true(host_has_each(&r.h, 0, 10, 1));
    rig_close(&r);
}

static void test_source_broken_record_is_a_dead_letter_and_passed(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, 1, 1, 0);
    char broken[] = "{\"broken";
    rd_kafka_headers_t *headers = rd_kafka_headers_new(1);
    rd_kafka_header_add(headers, "content-type", -1, "application/cloudevents+json", -1);
    rd_kafka_t *rk = mock_client(RD_KAFKA_PRODUCER, r.m.brokers, NULL);
    assert_int_equal(rd_kafka_producev(rk, RD_KAFKA_V_TOPIC("orders"), RD_KAFKA_V_PARTITION(0),
                                       RD_KAFKA_V_VALUE(broken, strlen(broken)),
                                       RD_KAFKA_V_HEADERS(headers),
                                       RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END),
                     0);
    rd_kafka_flush(rk, DEADLINE_MS);
    rd_kafka_destroy(rk);
    mock_produce(&r.m, "orders", 0, 1, 1);
    struct mr_source *source = source_open(&r.h, &r.words);
    assert_true(test_host_wait(&r.h, HOST_EVENTS, 2));
    source_close(source);
    assert_non_null(r.h.rejected[0]);
    assert_string_equal(test_host_value(&r.h, 0, "id"), "orders/0/0");
    assert_string_equal(test_host_value(&r.h, 0, "data"), "{\"broken");
    assert_null(r.h.rejected[1]);
    assert_int_equal(mock_committed(&r.m, GROUP, "orders", 0), 2);
    rig_close(&r);
}

int main(void)
{
    mr_logger_set_level(MR_LEVEL_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_source_records_enter_once_and_are_committed),
        cmocka_unit_test(test_source_log_ahead_of_broker_starts_at_log),
        cmocka_unit_test(test_source_broker_ahead_of_log_starts_at_broker),
        cmocka_unit_test(test_source_cursor_of_another_group_is_not_used),
        cmocka_unit_test(test_source_log_beyond_the_end_starts_again),
        cmocka_unit_test(test_source_end_before_the_log_for_a_while_keeps_its_place),
        cmocka_unit_test(test_source_nothing_durable_commits_nothing),
        cmocka_unit_test(test_source_bus_refuses_for_a_while_loses_nothing),
        cmocka_unit_test(test_source_batch_too_big_comes_again_in_smaller_ones),
        cmocka_unit_test(test_source_paused_takes_nothing_and_keeps_its_place),
        cmocka_unit_test(test_source_two_of_a_group_share_and_lose_nothing),
        cmocka_unit_test(test_source_broker_goes_and_comes),
        cmocka_unit_test(test_source_no_broker_stops_at_once),
        cmocka_unit_test(test_source_coordinator_and_leader_move),
        cmocka_unit_test(test_source_start_latest_takes_only_what_comes),
        cmocka_unit_test(test_source_pattern_finds_topics),
        cmocka_unit_test(test_source_broken_record_is_a_dead_letter_and_passed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
