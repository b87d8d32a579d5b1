/* AMQP source and sink against a peer that misbehaves: the test plays the broker by hand, frame by
 * frame, as far as it likes. */
#include "tests/contract/amqp_support.h"
#include "tests/contract/peer.h"

static const struct mr_source_ops *const ops = &mr__amqp_source_ops;

struct frame {
    uint8_t type;
    uint16_t channel;
    uint32_t size;
    uint8_t payload[65536];
};

static bool peer_read(struct peer *p, struct frame *f)
{
    uint8_t head[7];
    uint8_t end;
    if (!peer_take(p, head, 7)) {
        return false;
    }
    f->type = head[0];
    f->channel = (uint16_t)(head[1] << 8 | head[2]);
    f->size = (uint32_t)head[3] << 24 | (uint32_t)head[4] << 16 | (uint32_t)head[5] << 8 | head[6];
    assert_true(f->size <= sizeof(f->payload));
    return peer_take(p, f->payload, f->size) && peer_take(p, &end, 1) && end == 0xce;
}

/* Reads frames until the method @p id. */
static void peer_expect(struct peer *p, uint32_t id)
{
    static struct frame f;
    uint32_t got = 0;
    do {
        if (!peer_read(p, &f)) {
            fail_msg("the connection ended before method %08x", id);
        }
        if (f.type == AMQP_FRAME_METHOD && f.size >= 4) {
            got = (uint32_t)f.payload[0] << 24 | (uint32_t)f.payload[1] << 16 |
                  (uint32_t)f.payload[2] << 8 | f.payload[3];
        }
    } while (got != id);
}

static void peer_frame(struct peer *p, uint8_t type, uint16_t channel, const void *payload,
                       size_t size)
{
    uint8_t head[7] = {type, (uint8_t)(channel >> 8), (uint8_t)channel, (uint8_t)(size >> 24),
                       (uint8_t)(size >> 16), (uint8_t)(size >> 8), (uint8_t)size};
    const uint8_t end = 0xce;
    peer_write(p, head, 7);
    if (size > 0) {
        peer_write(p, payload, size);
    }
    peer_write(p, &end, 1);
}

/* A method with its arguments as they lie on the wire. */
static void peer_method(struct peer *p, uint16_t channel, uint32_t id, const void *arguments,
                        size_t size)
{
    uint8_t payload[600] = {(uint8_t)(id >> 24), (uint8_t)(id >> 16), (uint8_t)(id >> 8),
                            (uint8_t)id};
    memcpy(payload + 4, arguments, size);
    peer_frame(p, AMQP_FRAME_METHOD, channel, payload, size + 4);
}

/* Connection and channel. @param heartbeat_s what the broker asks for; 0: nothing */
static void peer_greet(struct peer *p, uint8_t heartbeat_s)
{
    uint8_t header[8];
    const uint8_t start[] = {0,   9,   0,   0,   0,   0,   0, 0, 0, 5, 'P', 'L', 'A', 'I', 'N',
                             0,   0,   0,   5,   'e', 'n', '_', 'U', 'S'};
    const uint8_t tune[] = {0, 10, 0, 0x20, 0, 0, 0, heartbeat_s}; /* frames of 2 MiB */
    const uint8_t none[4] = {0};
    peer_accept(p);
    assert_true(peer_take(p, header, 8));
    assert_memory_equal(header, "AMQP\0\0\11\1", 8);
    peer_method(p, 0, AMQP_CONNECTION_START_METHOD, start, sizeof(start));
    peer_expect(p, AMQP_CONNECTION_START_OK_METHOD);
    peer_method(p, 0, AMQP_CONNECTION_TUNE_METHOD, tune, sizeof(tune));
    peer_expect(p, AMQP_CONNECTION_TUNE_OK_METHOD);
    peer_expect(p, AMQP_CONNECTION_OPEN_METHOD);
    peer_method(p, 0, AMQP_CONNECTION_OPEN_OK_METHOD, none, 1);
    peer_expect(p, AMQP_CHANNEL_OPEN_METHOD);
    peer_method(p, 1, AMQP_CHANNEL_OPEN_OK_METHOD, none, 4);
}

/* Queue, prefetch and consumer. */
static void peer_consumed(struct peer *p)
{
    const uint8_t declared[] = {1, 'q', 0, 0, 0, 9, 0, 0, 0, 0};
    const uint8_t tag[] = {8, 'm', 'i', 'l', 'l', 'r', 'a', 'c', 'e'};
    peer_expect(p, AMQP_QUEUE_DECLARE_METHOD);
    peer_method(p, 1, AMQP_QUEUE_DECLARE_OK_METHOD, declared, sizeof(declared));
    peer_expect(p, AMQP_BASIC_QOS_METHOD);
    peer_method(p, 1, AMQP_BASIC_QOS_OK_METHOD, "", 0);
    peer_expect(p, AMQP_BASIC_CONSUME_METHOD);
    peer_method(p, 1, AMQP_BASIC_CONSUME_OK_METHOD, tag, sizeof(tag));
}

static void peer_deliver(struct peer *p, uint8_t tag)
{
    const uint8_t deliver[] = {8, 'm', 'i', 'l', 'l', 'r', 'a', 'c', 'e', 0, 0, 0, 0, 0, 0, 0, tag,
                               0, 0, 1, 'q'};
    peer_method(p, 1, AMQP_BASIC_DELIVER_METHOD, deliver, sizeof(deliver));
}

static void peer_header(struct peer *p, uint64_t body_size)
{
    uint8_t header[14] = {0, 60};
    for (int i = 0; i < 8; i++) {
        header[4 + i] = (uint8_t)(body_size >> (56 - 8 * i));
    }
    peer_frame(p, AMQP_FRAME_HEADER, 1, header, sizeof(header));
}

static void peer_message(struct peer *p, uint8_t tag, const char *body)
{
    peer_deliver(p, tag);
    peer_header(p, strlen(body));
    if (body[0] != '\0') {
        peer_frame(p, AMQP_FRAME_BODY, 1, body, strlen(body));
    }
}

static void wait_gone(struct peer *p)
{
    static uint8_t junk[4096];
    int64_t until = now_ms() + DEADLINE_MS;
    while (now_ms() < until) {
        if (peer_readable(p->conn, 100) && recv(p->conn, junk, sizeof(junk), 0) <= 0) {
            return;
        }
    }
    fail_msg("the connection was kept");
}

/* --- the source ------------------------------------------------------------------------------- */

struct play {
    struct peer peer;
    struct test_host host;
    struct mr_source *source;
};

static void begin(struct play *play, uint8_t heartbeat_s)
{
    peer_open(&play->peer);
    test_host_init(&play->host);
    struct source_words words = {
        .port = play->peer.port, .queue = "q", .heartbeat_s = heartbeat_s};
    play->source = source_open(&play->host, &words);
}

static void end(struct play *play)
{
    int64_t start = now_ms();
    ops->stop(play->source, mr_clock_mono_ns() + MR_SECOND);
    assert_true(now_ms() - start < 8000); /* whatever the peer does */
    ops->destroy(play->source);
    peer_close(&play->peer);
    test_host_free(&play->host);
}

/* After each fault: the same source, a peer in order, a message comes and is acknowledged. */
static void recover(struct play *play)
{
    uint32_t before = play->host.event_count;
    peer_greet(&play->peer, 0);
    peer_consumed(&play->peer);
    peer_message(&play->peer, 1, "fine");
    assert_true(test_host_wait(&play->host, HOST_EVENTS, before + 1));
    assert_string_equal(test_host_value(&play->host, before, "data"), "fine");
    peer_expect(&play->peer, AMQP_BASIC_ACK_METHOD);
}

static void test_peer_resets_and_ends_at_every_step_source_comes_back(void **state)
{
    (void)state;
    struct play play;
    begin(&play, 20);
    for (int step = 0; step < 6; step++) {
        if (step == 0) {
            peer_accept(&play.peer);
        } else {
            peer_greet(&play.peer, 0);
        }
        if (step >= 2) {
            peer_consumed(&play.peer);
        }
        if (step >= 3) {
            peer_deliver(&play.peer, 1);
        }
        if (step >= 4) {
            peer_header(&play.peer, 10);
        }
        if (step >= 5) {
            peer_frame(&play.peer, AMQP_FRAME_BODY, 1, "half", 4);
        }
        peer_drop(&play.peer, step % 2 == 0);
    }
    recover(&play);
    assert_int_equal(play.host.event_count, 1); /* nothing of the halves */
    end(&play);
}

static void test_peer_garbage_drops_the_connection_and_nothing_else(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint8_t bytes[40];
        size_t size;
    } cases[] = {
        {"no frame at all", "HTTP/1.1 400 Bad Request\r\n\r\n", 28},
        {"bad frame end", {1, 0, 1, 0, 0, 0, 4, 0, 60, 0, 60, 0xcd}, 12},
        {"a frame of 4 GiB", {3, 0, 1, 0xff, 0xff, 0xff, 0xff, 0}, 8},
        {"a frame beyond what was agreed", {3, 0, 1, 0x7f, 0, 0, 0, 0}, 8},
        {"an empty method", {1, 0, 1, 0, 0, 0, 0, 0xce}, 8},
        {"a method of two bytes", {1, 0, 1, 0, 0, 0, 2, 0, 60, 0xce}, 10},
        {"an unknown method", {1, 0, 1, 0, 0, 0, 4, 0, 99, 0, 99, 0xce}, 12},
        {"a deliver without arguments", {1, 0, 1, 0, 0, 0, 4, 0, 60, 0, 60, 0xce}, 12},
        {"a header before any method", {2, 0, 1, 0, 0, 0, 14, 0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
                                        0, 0, 0xce}, 22},
        {"a header of two bytes", {2, 0, 1, 0, 0, 0, 2, 0, 60, 0xce}, 10},
        {"a body before any header", {3, 0, 1, 0, 0, 0, 1, 'x', 0xce}, 9},
        {"a frame of another channel", {3, 0, 7, 0, 0, 0, 1, 'x', 0xce}, 9},
        {"a consume-ok nobody asked for", {1, 0, 1, 0, 0, 0, 6, 0, 60, 0, 21, 1, 'x', 0xce}, 14},
        {"a body on channel 0", {3, 0, 0, 0, 0, 0, 1, 'x', 0xce}, 9},
        {"a tune in the middle", {1, 0, 0, 0, 0, 0, 12, 0, 10, 0, 30, 0, 1, 0, 0, 0, 0, 0, 0, 0xce},
         20},
    };
    struct play play;
    begin(&play, 20);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (i % 4 == 3) { /* the pauses between tries grow */
            end(&play);
            begin(&play, 20);
        }
        print_message("  %s\n", cases[i].name);
        peer_greet(&play.peer, 0);
        peer_consumed(&play.peer);
        peer_write(&play.peer, cases[i].bytes, cases[i].size);
        wait_gone(&play.peer);
    }
    recover(&play);
    assert_int_equal(play.host.event_count, 1);
    end(&play);
}

static void test_peer_content_out_of_order_drops_the_connection(void **state)
{
    (void)state;
    struct play play;
    begin(&play, 20);
    for (int i = 0; i < 4; i++) {
        peer_greet(&play.peer, 0);
        peer_consumed(&play.peer);
        peer_deliver(&play.peer, 1);
        if (i == 0) {
            peer_deliver(&play.peer, 2); /* before the first one's header */
        } else if (i == 1) {
            peer_header(&play.peer, 3);
            peer_frame(&play.peer, AMQP_FRAME_BODY, 1, "longer", 6);
        } else if (i == 2) {
            peer_header(&play.peer, 3);
            peer_frame(&play.peer, AMQP_FRAME_BODY, 1, "", 0);
        } else {
            peer_header(&play.peer, 3);
            peer_header(&play.peer, 3);
        }
        wait_gone(&play.peer);
    }
    source_says(play.source, "broke the protocol");
    recover(&play);
    assert_int_equal(play.host.event_count, 1);
    end(&play);
}

static void test_peer_announces_an_absurd_body_memory_stays(void **state)
{
    (void)state;
    struct play play;
    begin(&play, 20);
    peer_greet(&play.peer, 0);
    peer_consumed(&play.peer);
    peer_deliver(&play.peer, 1);
    peer_header(&play.peer, UINT64_MAX);
    static uint8_t part[100000];
    for (int i = 0; i < 400; i++) { /* 40 MB of it */
        peer_frame(&play.peer, AMQP_FRAME_BODY, 1, part, sizeof(part));
    }
    struct mr_health health = source_health(play.source);
    assert_true(health.bytes_held < 12 * MR_MIB);
    peer_drop(&play.peer, true);
    recover(&play);
    end(&play);
}

static void test_peer_that_never_answers_is_given_up_and_stop_is_prompt(void **state)
{
    (void)state;
    struct play play;
    begin(&play, 1);
    peer_accept(&play.peer); /* and says nothing: a half-open connection, or no broker */
    assert_false(source_reaches(play.source, MR_HEALTH_OK, 300));
    end(&play);
    begin(&play, 1);
    peer_greet(&play.peer, 1);
    peer_consumed(&play.peer); /* and is silent ever after */
    source_ready(play.source);
    int64_t start = now_ms();
    source_says(play.source, "eartbeat");
    assert_true(now_ms() - start < 6000);
    recover(&play);
    end(&play);
}

static void test_peer_heartbeats_go_both_ways(void **state)
{
    (void)state;
    struct play play;
    static struct frame f;
    begin(&play, 1);
    peer_greet(&play.peer, 1);
    peer_consumed(&play.peer);
    for (int i = 0; i < 4; i++) {
        do {
            assert_true(peer_read(&play.peer, &f));
        } while (f.type != AMQP_FRAME_HEARTBEAT); /* the others ask for the queue's length */
        peer_frame(&play.peer, AMQP_FRAME_HEARTBEAT, 0, "", 0);
    }
    struct mr_health health = source_health(play.source);
    assert_int_equal(health.reconnects, 0);
    assert_int_equal(health.state, MR_HEALTH_OK);
    end(&play);
}

static void test_peer_trickles_bytes_message_arrives(void **state)
{
    (void)state;
    struct play play;
    begin(&play, 20);
    peer_greet(&play.peer, 0);
    peer_consumed(&play.peer);
    const uint8_t bytes[] = {1,   0,   1,   0,   0,   0,   25,  0, 60, 0, 60, 8, 'm', 'i', 'l', 'l',
                             'r', 'a', 'c', 'e', 0,   0,   0,   0, 0,  0, 0,  1, 0,   0,   1,   'q',
                             0xce, 2,  0,   1,   0,   0,   0,   14, 0, 60, 0, 0, 0,   0,   0,   0,
                             0,   0,   0,   2,   0,   0,   0xce, 3, 0, 1, 0, 0, 0, 2, 'h', 'i',
                             0xce};
    for (size_t i = 0; i < sizeof(bytes); i++) {
        peer_write(&play.peer, bytes + i, 1);
        (void)peer_readable(play.peer.conn, 3);
    }
    assert_true(test_host_wait(&play.host, HOST_EVENTS, 1));
    assert_string_equal(test_host_value(&play.host, 0, "data"), "hi");
    peer_expect(&play.peer, AMQP_BASIC_ACK_METHOD);
    end(&play);
}

static void test_peer_closes_with_a_text_it_is_shown(void **state)
{
    (void)state;
    const uint8_t forced[] = {1, 64, 7, 'g', 'o', 'n', 'e', '\n', '!', '!', 0, 0, 0, 0}; /* 320 */
    const uint8_t failed[] = {2, 28, 4, 'b', 'a', 'd', '!', 0, 0, 0, 0};                 /* 540 */
    struct play play;
    begin(&play, 20);
    peer_greet(&play.peer, 0);
    peer_consumed(&play.peer);
    peer_method(&play.peer, 0, AMQP_CONNECTION_CLOSE_METHOD, forced, sizeof(forced));
    source_says(play.source, "320 gone");
    peer_expect(&play.peer, AMQP_CONNECTION_CLOSE_OK_METHOD);
    peer_greet(&play.peer, 0);
    peer_consumed(&play.peer);
    peer_method(&play.peer, 1, AMQP_CHANNEL_CLOSE_METHOD, failed, sizeof(failed));
    source_says(play.source, "closed the channel: 540 bad!");
    recover(&play);
    end(&play);
}

static void test_peer_batch_durable_after_the_connection_went_is_not_acknowledged(void **state)
{
    (void)state;
    struct play play;
    begin(&play, 20);
    test_host_hold(&play.host);
    peer_greet(&play.peer, 0);
    peer_consumed(&play.peer);
    peer_message(&play.peer, 1, "one");
    assert_true(test_host_wait(&play.host, HOST_HELD_EVENTS, 1));
    peer_message(&play.peer, 2, "two");
    peer_drop(&play.peer, true);
    source_says(play.source, "lost");
    test_host_let_go(&play.host);
    peer_greet(&play.peer, 0);
    peer_consumed(&play.peer);
    static struct frame f;
    struct pollfd quiet = {.fd = play.peer.conn, .events = POLLIN};
    assert_int_equal(poll(&quiet, 1, 500), 0); /* tag 1 is of another connection */
    peer_message(&play.peer, 1, "one");
    peer_message(&play.peer, 2, "two");
    assert_true(test_host_wait(&play.host, HOST_EVENTS, 3));
    assert_true(peer_read(&play.peer, &f));
    end(&play);
}

/* --- the sink --------------------------------------------------------------------------------- */

static void peer_confirming(struct peer *p)
{
    peer_greet(p, 0);
    peer_expect(p, AMQP_CONFIRM_SELECT_METHOD);
    peer_method(p, 1, AMQP_CONFIRM_SELECT_OK_METHOD, "", 0);
}

static void peer_ack(struct peer *p, uint32_t id, uint8_t tag, uint8_t multiple)
{
    const uint8_t ack[] = {0, 0, 0, 0, 0, 0, 0, tag, multiple};
    peer_method(p, 1, id, ack, sizeof(ack));
}

static struct mr_target *begin_sink(struct peer *p, struct test_host *h)
{
    peer_open(p);
    test_host_init(h);
    return sink_open(h, &(struct sink_words){.port = p->port, .key = "k"});
}

static enum mr_verdict verdict_of(struct test_host *h, const char *id)
{
    return answer_of(h, id)->verdict;
}

static void test_peer_confirms_in_any_order_and_number(void **state)
{
    (void)state;
    struct peer p;
    struct test_host h;
    struct mr_target *target = begin_sink(&p, &h);
    peer_confirming(&p);
    assert_true(test_host_wait(&h, HOST_CAPACITY, 64));
    for (int i = 1; i <= 6; i++) {
        char id[8];
        snprintf(id, sizeof(id), "c%d", i);
        sink_give(target, make_handout(id, "x", "1", 30));
        peer_expect(&p, AMQP_BASIC_PUBLISH_METHOD);
    }
    peer_ack(&p, AMQP_BASIC_ACK_METHOD, 99, 0); /* never published */
    peer_ack(&p, AMQP_BASIC_ACK_METHOD, 3, 0);
    peer_ack(&p, AMQP_BASIC_ACK_METHOD, 3, 0); /* again */
    peer_ack(&p, AMQP_BASIC_NACK_METHOD, 2, 1);
    assert_true(test_host_wait(&h, HOST_ANSWERS, 3));
    assert_int_equal(verdict_of(&h, "c3"), MR_VERDICT_OK);
    assert_int_equal(verdict_of(&h, "c1"), MR_VERDICT_RETRY);
    assert_int_equal(verdict_of(&h, "c2"), MR_VERDICT_RETRY);
    peer_ack(&p, AMQP_BASIC_ACK_METHOD, 0, 1); /* all there are */
    assert_true(test_host_wait(&h, HOST_ANSWERS, 6));
    assert_int_equal(verdict_of(&h, "c6"), MR_VERDICT_OK);
    assert_int_equal(h.answer_count, 6);
    sink_close(target);
    peer_close(&p);
    test_host_free(&h);
}

static void test_peer_confirms_nothing_retry_after_the_timeout(void **state)
{
    (void)state;
    struct peer p;
    struct test_host h;
    struct mr_target *target = begin_sink(&p, &h);
    peer_confirming(&p);
    assert_true(test_host_wait(&h, HOST_CAPACITY, 64));
    sink_give(target, make_handout("n1", "x", "1", 0.5));
    peer_expect(&p, AMQP_BASIC_PUBLISH_METHOD);
    assert_true(test_host_wait(&h, HOST_ANSWERS, 1));
    assert_int_equal(verdict_of(&h, "n1"), MR_VERDICT_RETRY);
    assert_non_null(strstr(answer_of(&h, "n1")->error, "not confirmed"));
    peer_ack(&p, AMQP_BASIC_ACK_METHOD, 1, 0); /* too late: nobody's any more */
    sink_give(target, make_handout("n2", "x", "1", 30));
    peer_expect(&p, AMQP_BASIC_PUBLISH_METHOD);
    peer_ack(&p, AMQP_BASIC_ACK_METHOD, 2, 0);
    assert_true(test_host_wait(&h, HOST_ANSWERS, 2));
    assert_int_equal(verdict_of(&h, "n2"), MR_VERDICT_OK);
    sink_give(target, make_handout("n3", "x", "1", 30));
    peer_expect(&p, AMQP_BASIC_PUBLISH_METHOD);
    peer_drop(&p, true);
    assert_true(test_host_wait(&h, HOST_ANSWERS, 3));
    assert_int_equal(verdict_of(&h, "n3"), MR_VERDICT_RETRY);
    assert_true(test_host_wait(&h, HOST_CAPACITY, 0));
    peer_confirming(&p);
    assert_true(test_host_wait(&h, HOST_CAPACITY, 64));
    sink_give(target, make_handout("n4", "x", "1", 30));
    peer_expect(&p, AMQP_BASIC_PUBLISH_METHOD);
    mr_connector_amqp.sink->stop(target, mr_clock_mono_ns() + MR_SECOND);
    assert_int_equal(h.answer_count, 4);
    assert_int_equal(verdict_of(&h, "n4"), MR_VERDICT_CRASH); /* stopped; suspects 0: no attempt */
    assert_int_equal(answer_of(&h, "n4")->suspects, 0);
    mr_connector_amqp.sink->destroy(target);
    peer_close(&p);
    test_host_free(&h);
}

static void test_peer_garbage_to_the_sink_is_survived(void **state)
{
    (void)state;
    struct peer p;
    struct test_host h;
    struct mr_target *target = begin_sink(&p, &h);
    for (int i = 0; i < 5; i++) {
        peer_confirming(&p);
        assert_true(test_host_wait(&h, HOST_CAPACITY, 64));
        char id[8];
        snprintf(id, sizeof(id), "g%d", i);
        sink_give(target, make_handout(id, "x", "1", 30));
        peer_expect(&p, AMQP_BASIC_PUBLISH_METHOD);
        const uint8_t returned[] = {1, 56, 1, 'x', 0, 1, 'k'};
        if (i == 0) {
            peer_write(&p, "garbage, and more of it", 23);
        } else if (i == 1) {
            peer_deliver(&p, 1);
        } else if (i == 2) {
            peer_method(&p, 1, AMQP_BASIC_RETURN_METHOD, returned, sizeof(returned));
            peer_ack(&p, AMQP_BASIC_ACK_METHOD, 1, 0); /* without the returned message */
            peer_header(&p, 1);
            peer_header(&p, 1);
        } else if (i == 3) {
            peer_method(&p, 1, AMQP_BASIC_RETURN_METHOD, returned, sizeof(returned));
            peer_header(&p, UINT64_MAX);
        } else {
            peer_frame(&p, AMQP_FRAME_BODY, 1, "x", 1);
        }
        assert_true(test_host_wait(&h, HOST_ANSWERS, (uint32_t)i + 1));
        assert_true(test_host_wait(&h, HOST_CAPACITY, 0));
    }
    sink_close(target);
    peer_close(&p);
    test_host_free(&h);
}

int main(void)
{
    mr_logger_set_level(MR_LEVEL_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_peer_resets_and_ends_at_every_step_source_comes_back),
        cmocka_unit_test(test_peer_garbage_drops_the_connection_and_nothing_else),
        cmocka_unit_test(test_peer_content_out_of_order_drops_the_connection),
        cmocka_unit_test(test_peer_announces_an_absurd_body_memory_stays),
        cmocka_unit_test(test_peer_that_never_answers_is_given_up_and_stop_is_prompt),
        cmocka_unit_test(test_peer_heartbeats_go_both_ways),
        cmocka_unit_test(test_peer_trickles_bytes_message_arrives),
        cmocka_unit_test(test_peer_closes_with_a_text_it_is_shown),
        cmocka_unit_test(test_peer_batch_durable_after_the_connection_went_is_not_acknowledged),
        cmocka_unit_test(test_peer_confirms_in_any_order_and_number),
        cmocka_unit_test(test_peer_confirms_nothing_retry_after_the_timeout),
        cmocka_unit_test(test_peer_garbage_to_the_sink_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
