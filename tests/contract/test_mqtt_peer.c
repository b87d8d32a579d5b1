/* The MQTT source and sink against a peer that stalls, resets, repeats and talks rubbish. */
#include "tests/contract/mqtt_peer.h"

static const struct mr_source_ops *const ops = &mr__mqtt_source_ops;

struct fixture {
    struct peer peer;
    struct test_host host;
    struct mr_source *source;
    struct source_words words;
};

static void begin(struct fixture *f)
{
    memset(f, 0, sizeof(*f));
    peer_open(&f->peer);
    test_host_init(&f->host);
    f->words =
        (struct source_words){.port = f->peer.port, .topic = "t", .qos = 1, .version = "3.1.1"};
}

static void open_and_greet(struct fixture *f)
{
    f->source = source_open(&f->host, &f->words);
    peer_accept(&f->peer);
    peer_greet(&f->peer, 4, true);
}

static void end(struct fixture *f)
{
    source_close(f->source);
    test_host_free(&f->host);
    peer_close(&f->peer);
}

static void test_source_puback_leaves_only_when_durable_and_in_order(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    test_host_hold(&f.host);
    open_and_greet(&f);
    peer_subscribed(&f.peer, 4);
    for (uint16_t mid = 1; mid <= 3; mid++) {
        peer_publish(&f.peer, mid, "x");
    }
    assert_true(test_host_wait(&f.host, HOST_HELD_EVENTS, 3));
    assert_false(peer_readable(f.peer.conn, 300)); /* not a byte */
    test_host_let_go(&f.host);
    for (uint16_t mid = 1; mid <= 3; mid++) {
        peer_expect_puback(&f.peer, mid);
    }
    end(&f);
}

static void test_source_one_of_two_batches_durable_sends_no_puback(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    test_host_hold(&f.host);
    open_and_greet(&f);
    peer_subscribed(&f.peer, 4);
    peer_publish(&f.peer, 1, "x");
    assert_true(test_host_wait(&f.host, HOST_HELD_EVENTS, 1));
    test_host_refuse(&f.host, 1, MR_E_FULL); /* the next one comes back refused */
    test_host_release_held(&f.host, MR_OK);
    peer_expect_puback(&f.peer, 1);
    peer_publish(&f.peer, 2, "y");
    assert_true(test_host_wait(&f.host, HOST_SUBMITS, 2));
    assert_true(test_host_wait(&f.host, HOST_HELD_EVENTS, 1)); /* submitted again */
    assert_false(peer_readable(f.peer.conn, 200));
    test_host_let_go(&f.host);
    peer_expect_puback(&f.peer, 2);
    end(&f);
}

static void test_source_messages_before_suback_are_kept(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    f.source = source_open(&f.host, &f.words);
    peer_accept(&f.peer);
    struct packet packet;
    peer_expect(&f.peer, 0x10, &packet);
    uint8_t bytes[256] = {0x20, 2, 1, 0}; /* CONNACK and two messages in one segment */
    size_t size = 4 + make_publish(bytes + 4, 7, true, "one");
    size += make_publish(bytes + size, 8, true, "two");
    peer_write(&f.peer, bytes, size);
    assert_true(test_host_wait(&f.host, HOST_EVENTS, 2));
    assert_string_equal(test_host_value(&f.host, 0, "data"), "one");
    assert_string_equal(test_host_value(&f.host, 1, "data"), "two");
    peer_subscribed(&f.peer, 4);
    peer_expect_puback(&f.peer, 7);
    peer_expect_puback(&f.peer, 8);
    end(&f);
}

static void test_source_duplicates_are_taken_and_acknowledged(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    open_and_greet(&f);
    peer_subscribed(&f.peer, 4);
    uint8_t bytes[64];
    peer_publish(&f.peer, 5, "same");
    peer_expect_puback(&f.peer, 5);
    peer_write(&f.peer, bytes, make_publish(bytes, 5, true, "same"));
    peer_expect_puback(&f.peer, 5);
    assert_true(test_host_wait(&f.host, HOST_EVENTS, 2));
    end(&f);
}

static void test_source_reset_within_message_gets_it_once_after_reconnect(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    open_and_greet(&f);
    peer_subscribed(&f.peer, 4);
    uint8_t bytes[256];
    size_t size = make_publish(bytes, 9, false, "a message cut in two");
    peer_write(&f.peer, bytes, size / 2);
    peer_drop(&f.peer, true);
    peer_accept(&f.peer);
    peer_greet(&f.peer, 4, true);
    peer_subscribed(&f.peer, 4); /* again, although the session is there */
    bytes[0] = 0x3a;
    peer_write(&f.peer, bytes, size);
    peer_expect_puback(&f.peer, 9);
    assert_int_equal(f.host.event_count, 1);
    assert_string_equal(test_host_value(&f.host, 0, "data"), "a message cut in two");
    end(&f);
}

static void test_source_cut_before_durable_sends_no_stale_puback(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    test_host_hold(&f.host);
    open_and_greet(&f);
    peer_subscribed(&f.peer, 4);
    peer_publish(&f.peer, 1, "first");
    assert_true(test_host_wait(&f.host, HOST_HELD_EVENTS, 1));
    peer_drop(&f.peer, true);
    peer_accept(&f.peer);
    peer_greet(&f.peer, 4, true);
    assert_false(peer_readable(f.peer.conn, 200)); /* old batch still out: nothing may leave */
    test_host_let_go(&f.host);
    struct packet packet;
    assert_true(peer_read(&f.peer, &packet));
    assert_int_equal(packet.command, 0x82); /* SUBSCRIBE, and no PUBACK of the old connection */
    assert_false(peer_readable(f.peer.conn, 100));
    end(&f);
}

static void test_source_rubbish_is_survived(void **state)
{
    (void)state;
    static const uint8_t rubbish[][8] = {
        {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, /* length without end */
        {0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00}, /* no such packet */
        {0x20, 0x02, 0x00, 0x00, 0x32, 0x02, 0xff, 0xff}, /* topic longer than the packet */
        {0x20, 0x02, 0x00, 0x00, 0x36, 0x03, 0x00, 0x01}, /* quality of service 3 */
        {0x20, 0x02, 0x00, 0x00, 0x40, 0x02, 0x00, 0x07}, /* PUBACK of nothing */
        {0x20, 0x02, 0x00, 0x05, 0x00, 0x00, 0x00, 0x00}, /* refused: not authorised */
        {'H', 'T', 'T', 'P', '/', '1', '.', '1'},
    };
    struct fixture f;
    begin(&f);
    f.source = source_open(&f.host, &f.words);
    for (size_t i = 0; i < sizeof(rubbish) / sizeof(rubbish[0]); i++) {
        struct packet packet;
        peer_accept(&f.peer);
        peer_expect(&f.peer, 0x10, &packet);
        peer_write(&f.peer, rubbish[i], sizeof(rubbish[i]));
        peer_drop(&f.peer, false);
    }
    peer_accept(&f.peer); /* it comes back, and works */
    peer_greet(&f.peer, 4, false);
    peer_subscribed(&f.peer, 4);
    peer_publish(&f.peer, 1, "fine");
    peer_expect_puback(&f.peer, 1);
    assert_int_equal(f.host.event_count, 1);
    end(&f);
}

static void test_source_peer_that_never_answers_stop_is_prompt(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    f.source = source_open(&f.host, &f.words);
    peer_accept(&f.peer);
    struct packet packet;
    peer_expect(&f.peer, 0x10, &packet); /* and no CONNACK */
    int64_t from = now_ms();
    ops->stop(f.source, mr_clock_mono_ns() + 10 * MR_SECOND);
    assert_true(now_ms() - from < 3000);
    end(&f);
}

static void test_source_batch_that_never_returns_stop_keeps_its_deadline(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    test_host_hold(&f.host);
    open_and_greet(&f);
    peer_subscribed(&f.peer, 4);
    peer_publish(&f.peer, 1, "x");
    assert_true(test_host_wait(&f.host, HOST_HELD_EVENTS, 1));
    int64_t from = now_ms();
    ops->stop(f.source, mr_clock_mono_ns() + 200 * MR_MS);
    assert_true(now_ms() - from < 5000);
    struct packet packet; /* neither PUBACK nor DISCONNECT: the broker keeps the message */
    assert_false(peer_read(&f.peer, &packet));
    /* The instance stays, because its batch is out; memory checkers see the reference here. */
    static struct mr_source *kept;
    kept = f.source;
    ops->destroy(f.source);
    assert_non_null(kept);
    mr_batch_destroy(f.host.held[0]);
    test_host_free(&f.host);
    peer_close(&f.peer);
}

static void test_source_oversized_message_is_rejected_and_acknowledged(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    f.words.event_size_max = 1024;
    open_and_greet(&f);
    peer_subscribed(&f.peer, 4);
    char payload[3001];
    memset(payload, 'z', sizeof(payload) - 1);
    payload[sizeof(payload) - 1] = '\0';
    peer_publish(&f.peer, 1, payload);
    peer_expect_puback(&f.peer, 1);
    assert_int_equal(f.host.event_count, 1);
    assert_non_null(f.host.rejected[0]);
    assert_string_equal(test_host_value(&f.host, 0, "truncated"), "true");
    end(&f);
}

static void test_source_commit_slower_than_keepalive_drops_without_puback(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    f.words.keepalive_s = 5;
    test_host_hold(&f.host);
    open_and_greet(&f);
    peer_subscribed(&f.peer, 4);
    peer_publish(&f.peer, 1, "x");
    assert_true(test_host_wait(&f.host, HOST_HELD_EVENTS, 1));
    struct packet packet;
    assert_false(peer_read(&f.peer, &packet)); /* the next thing is the end */
    test_host_let_go(&f.host);
    peer_accept(&f.peer);
    peer_greet(&f.peer, 4, true);
    peer_subscribed(&f.peer, 4);
    peer_publish(&f.peer, 1, "x");
    peer_expect_puback(&f.peer, 1);
    end(&f);
}

static void test_source_idle_connection_is_kept_alive(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    f.words.keepalive_s = 5;
    open_and_greet(&f);
    peer_subscribed(&f.peer, 4);
    struct packet packet;
    peer_expect(&f.peer, 0xc0, &packet); /* PINGREQ */
    const uint8_t pong[] = {0xd0, 0};
    peer_write(&f.peer, pong, sizeof(pong));
    peer_publish(&f.peer, 1, "still here");
    peer_expect_puback(&f.peer, 1);
    end(&f);
}

static void test_source_suback_refusal_is_shown(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    open_and_greet(&f);
    struct packet packet;
    peer_expect(&f.peer, 0x80, &packet);
    const uint8_t refused[] = {0x90, 3, packet.body[0], packet.body[1], 0x80};
    peer_write(&f.peer, refused, sizeof(refused));
    assert_true(source_reaches(f.source, MR_HEALTH_DEGRADED, DEADLINE_MS));
    struct mr_health health = source_health(f.source);
    assert_non_null(strstr(health.last_error, "refused the subscription"));
    end(&f);
}

static void test_source_connect_says_who_and_keeps_the_session(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    f.source = source_open(&f.host, &f.words);
    peer_accept(&f.peer);
    struct packet packet;
    peer_expect(&f.peer, 0x10, &packet);
    char id[MR_MQTT_CLIENT_ID_SIZE];
    mr__mqtt_client_id("sensors", "/nowhere", id);
    assert_int_equal(packet.body[6], 4);     /* 3.1.1 */
    assert_int_equal(packet.body[7] & 2, 0); /* not a clean session */
    assert_int_equal(packet.body[11], strlen(id));
    assert_memory_equal(packet.body + 12, id, strlen(id));
    end(&f);
}

/* --- the sink --------------------------------------------------------------------------------- */

/* A sink that is connected. */
static struct mr_target *begin_sink(struct fixture *f)
{
    begin(f);
    struct sink_words words = {
        .peer = {.port = f->peer.port, .version = "3.1.1"}, .topic = "out", .qos = 1, .slots = 8};
    struct mr_target *target = sink_open(&f->host, &words);
    peer_accept(&f->peer);
    peer_greet(&f->peer, 4, false);
    sink_ready(&f->host, target, 8);
    return target;
}

static void end_sink(struct fixture *f)
{
    test_host_free(&f->host);
    peer_close(&f->peer);
}

static struct mr_handout *make_handout(uint64_t offset, uint64_t timeout_ns)
{
    struct mr_handout *handout = handout_of(
        "{\"specversion\":\"1.0\",\"id\":\"h\",\"source\":\"/s\",\"type\":\"t\"}");
    handout->offset = offset;
    handout->timeout_ns = timeout_ns;
    return handout;
}

static void test_sink_reset_with_message_out_is_retry(void **state)
{
    (void)state;
    struct fixture f;
    struct mr_target *target = begin_sink(&f);
    sink_give(target, make_handout(1, 0));
    struct packet packet;
    peer_expect(&f.peer, 0x30, &packet);
    peer_drop(&f.peer, true);
    assert_true(test_host_wait(&f.host, HOST_ANSWERS, 1));
    assert_int_equal(f.host.answers[0]->answer.verdict, MR_VERDICT_RETRY);
    assert_non_null(f.host.answers[0]->answer.error);
    peer_accept(&f.peer); /* it connects again by itself */
    peer_greet(&f.peer, 4, false);
    assert_true(test_host_wait(&f.host, HOST_CAPACITY, 8));
    sink_give(target, make_handout(2, 0));
    peer_expect(&f.peer, 0x30, &packet);
    const uint8_t puback[] = {0x40, 2, packet.body[5], packet.body[6]};
    peer_write(&f.peer, puback, sizeof(puback));
    assert_true(test_host_wait(&f.host, HOST_ANSWERS, 2));
    assert_int_equal(f.host.answers[1]->answer.verdict, MR_VERDICT_OK);
    sink_close(target);
    end_sink(&f);
}

static void test_sink_peer_that_never_acknowledges_is_retry_after_timeout(void **state)
{
    (void)state;
    struct fixture f;
    struct mr_target *target = begin_sink(&f);
    sink_give(target, make_handout(1, 500 * MR_MS));
    assert_true(test_host_wait(&f.host, HOST_ANSWERS, 1));
    assert_int_equal(f.host.answers[0]->answer.verdict, MR_VERDICT_RETRY);
    sink_close(target);
    end_sink(&f);
}

static void test_sink_stopped_with_message_out_answers_it(void **state)
{
    (void)state;
    struct fixture f;
    struct mr_target *target = begin_sink(&f);
    sink_give(target, make_handout(1, 0));
    struct packet packet;
    peer_expect(&f.peer, 0x30, &packet);
    mr__mqtt_sink_ops.stop(target, mr_clock_mono_ns() + 100 * MR_MS);
    assert_int_equal(f.host.answer_count, 1);
    assert_int_equal(f.host.answers[0]->answer.verdict, MR_VERDICT_CRASH);
    assert_int_equal(f.host.answers[0]->answer.suspects, 0);
    sink_give(target, make_handout(2, 0)); /* too late: refused */
    assert_int_equal(f.host.answer_count, 2);
    assert_int_equal(f.host.answers[1]->answer.verdict, MR_VERDICT_REFUSED);
    mr__mqtt_sink_ops.destroy(target);
    end_sink(&f);
}

int main(void)
{
    mr_logger_set_fd(-1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_source_puback_leaves_only_when_durable_and_in_order),
        cmocka_unit_test(test_source_one_of_two_batches_durable_sends_no_puback),
        cmocka_unit_test(test_source_messages_before_suback_are_kept),
        cmocka_unit_test(test_source_duplicates_are_taken_and_acknowledged),
        cmocka_unit_test(test_source_reset_within_message_gets_it_once_after_reconnect),
        cmocka_unit_test(test_source_cut_before_durable_sends_no_stale_puback),
        cmocka_unit_test(test_source_rubbish_is_survived),
        cmocka_unit_test(test_source_peer_that_never_answers_stop_is_prompt),
        cmocka_unit_test(test_source_batch_that_never_returns_stop_keeps_its_deadline),
        cmocka_unit_test(test_source_oversized_message_is_rejected_and_acknowledged),
        cmocka_unit_test(test_source_commit_slower_than_keepalive_drops_without_puback),
        cmocka_unit_test(test_source_idle_connection_is_kept_alive),
        cmocka_unit_test(test_source_suback_refusal_is_shown),
        cmocka_unit_test(test_source_connect_says_who_and_keeps_the_session),
        cmocka_unit_test(test_sink_reset_with_message_out_is_retry),
        cmocka_unit_test(test_sink_peer_that_never_acknowledges_is_retry_after_timeout),
        cmocka_unit_test(test_sink_stopped_with_message_out_answers_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
