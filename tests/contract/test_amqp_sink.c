/* The AMQP sink against RabbitMQ. */
#include "tests/contract/amqp_support.h"

static const struct mr_target_ops *const ops = &mr__amqp_sink_ops;

/* --- looking at what was published ------------------------------------------------------------ */

struct taken {
    char body[4096];
    char content_type[128];
    char message_id[256];
    int delivery_mode;
    char headers[20][2][256];
    int header_count;
};

/* Takes one message from the queue; waits for it. */
static void take(const char *queue, struct taken *t)
{
    struct client c;
    client_open(&c);
    memset(t, 0, sizeof(*t));
    int64_t until = now_ms() + DEADLINE_MS;
    for (;;) {
        amqp_rpc_reply_t reply = amqp_basic_get(c.conn, 1, amqp_cstring_bytes(queue), 1);
        assert_int_equal(reply.reply_type, AMQP_RESPONSE_NORMAL);
        if (reply.reply.id == AMQP_BASIC_GET_OK_METHOD) {
            break;
        }
        assert_true(now_ms() < until);
        poll(NULL, 0, 5);
    }
    amqp_message_t m;
    assert_int_equal(amqp_read_message(c.conn, 1, &m, 0).reply_type, AMQP_RESPONSE_NORMAL);
    snprintf(t->body, sizeof(t->body), "%.*s", (int)m.body.len, (const char *)m.body.bytes);
    const amqp_basic_properties_t *p = &m.properties;
    if ((p->_flags & AMQP_BASIC_CONTENT_TYPE_FLAG) != 0) {
        snprintf(t->content_type, sizeof(t->content_type), "%.*s", (int)p->content_type.len,
                 (const char *)p->content_type.bytes);
    }
    if ((p->_flags & AMQP_BASIC_MESSAGE_ID_FLAG) != 0) {
        snprintf(t->message_id, sizeof(t->message_id), "%.*s", (int)p->message_id.len,
                 (const char *)p->message_id.bytes);
    }
    t->delivery_mode = (p->_flags & AMQP_BASIC_DELIVERY_MODE_FLAG) != 0 ? p->delivery_mode : 0;
    for (int i = 0; (p->_flags & AMQP_BASIC_HEADERS_FLAG) != 0 && i < p->headers.num_entries &&
                    i < 20; i++) {
        const amqp_table_entry_t *e = &p->headers.entries[i];
        if (e->key.len > 2 && memcmp(e->key.bytes, "x-", 2) == 0) {
            continue; /* the broker's own */
        }
        assert_int_equal(e->value.kind, AMQP_FIELD_KIND_UTF8);
        int k = t->header_count++;
        snprintf(t->headers[k][0], 256, "%.*s", (int)e->key.len, (const char *)e->key.bytes);
        snprintf(t->headers[k][1], 256, "%.*s", (int)e->value.value.bytes.len,
                 (const char *)e->value.value.bytes.bytes);
    }
    amqp_destroy_message(&m);
    client_close(&c);
}

static const char *header_of(const struct taken *t, const char *name)
{
    for (int i = 0; i < t->header_count; i++) {
        if (strcmp(t->headers[i][0], name) == 0) {
            return t->headers[i][1];
        }
    }
    return "";
}

static void expect_answer(struct test_host *h, const char *id, enum mr_verdict verdict,
                          const char *error)
{
    expect_verdict(handout_with(h, id), verdict, error);
}

static struct mr_target *sink_connected(struct test_host *h, const struct sink_words *w)
{
    struct mr_target *target = sink_open(h, w);
    sink_ready(h, target, w->concurrency == 0 ? 64 : w->concurrency);
    return target;
}

/* --- what is published ------------------------------------------------------------------------ */

static void test_sink_binary_in_all_four_habits(void **state)
{
    (void)state;
    static const char *const prefixes[] = {"cloudEvents:", "cloudEvents_", "ce-", ""};
    make_queue("habits", "classic");
    for (int i = 0; i < 4; i++) {
        struct sink_words words = {.key = "habits", .headers = (enum mr_amqp_habit)i};
        struct test_host h;
        test_host_init(&h);
        struct mr_target *target = sink_connected(&h, &words);
        sink_give(target, make_handout("h1", "a subject", "{\"n\":1}", 30));
        assert_true(test_host_wait(&h, HOST_ANSWERS, 1));
        expect_answer(&h, "h1", MR_VERDICT_OK, "");
        struct taken t;
        take("habits", &t);
        char name[64];
        snprintf(name, sizeof(name), "%sid", prefixes[i]);
        assert_string_equal(header_of(&t, name), "h1");
        snprintf(name, sizeof(name), "%sspecversion", prefixes[i]);
        assert_string_equal(header_of(&t, name), "1.0");
        snprintf(name, sizeof(name), "%ssubject", prefixes[i]);
        assert_string_equal(header_of(&t, name), "a subject");
        assert_string_equal(t.content_type, "application/json");
        assert_string_equal(t.message_id, "h1");
        assert_int_equal(t.delivery_mode, 2);
        assert_string_equal(t.body, "{\"n\":1}");
        sink_close(target);
        test_host_free(&h);
    }
}

static void test_sink_structured_and_template(void **state)
{
    (void)state;
    make_queue("shop.7", "quorum");
    struct sink_words words = {.key = "shop.{{data.shop}}", .mode = MR_MODE_STRUCTURED};
    struct test_host h;
    test_host_init(&h);
    struct mr_target *target = sink_connected(&h, &words);
    sink_give(target, make_handout("s1", "x", "{\"shop\":7}", 30));
    assert_true(test_host_wait(&h, HOST_ANSWERS, 1));
    expect_answer(&h, "s1", MR_VERDICT_OK, "");
    struct taken t;
    take("shop.7", &t);
    assert_non_null(strstr(t.content_type, "application/cloudevents+json"));
    assert_non_null(strstr(t.body, "\"id\":\"s1\""));
    assert_int_equal(t.header_count, 0);
    struct mr_health health = sink_health(target);
    assert_int_equal(health.messages, 1);
    assert_int_equal(health.state, MR_HEALTH_OK);
    sink_close(target);
    test_host_free(&h);
}

static void test_sink_thousands_are_all_confirmed(void **state)
{
    (void)state;
    static const char *const types[] = {"classic", "quorum"};
    for (int k = 0; k < 2; k++) {
        make_queue(types[k], types[k]);
        struct sink_words words = {.key = types[k], .concurrency = 500};
        struct test_host h;
        test_host_init(&h);
        struct mr_target *target = sink_connected(&h, &words);
        uint32_t given = 0;
        while (given < 5000) {
            assert_true(test_host_wait(&h, HOST_ANSWERS, given < 500 ? 0 : given - 499));
            char id[32];
            snprintf(id, sizeof(id), "e%u", given++);
            sink_give(target, make_handout(id, "x", "1", 30));
        }
        assert_true(test_host_wait(&h, HOST_ANSWERS, 5000));
        for (uint32_t i = 0; i < h.answer_count; i++) {
            assert_int_equal(h.answers[i]->answer.verdict, MR_VERDICT_OK);
        }
        ready_reaches(types[k], 5000);
        sink_close(target);
        test_host_free(&h);
    }
}

/* --- what is not ------------------------------------------------------------------------------ */

static void test_sink_unroutable_is_dead_with_its_reason_and_no_other_is(void **state)
{
    (void)state;
    make_queue("routed", "quorum"); /* its confirm comes later than the others' */
    struct sink_words words = {.key = "{{subject}}"};
    struct test_host h;
    test_host_init(&h);
    struct mr_target *target = sink_connected(&h, &words);
    for (int i = 0; i < 30; i++) {
        char id[32];
        snprintf(id, sizeof(id), "%s%d", i % 3 == 0 ? "lost" : "kept", i);
        sink_give(target, make_handout(id, i % 3 == 0 ? "nowhere" : "routed", "1", 30));
    }
    sink_give(target, make_handout("same", "routed", "1", 30)); /* one id, two fates */
    sink_give(target, make_handout("same", "nowhere", "1", 30));
    assert_true(test_host_wait(&h, HOST_ANSWERS, 32));
    uint32_t dead = 0;
    for (uint32_t i = 0; i < h.answer_count; i++) {
        struct mr_bytes subject =
            mr_event_value(mr_event_record(h.answers[i]->event), "subject");
        bool lost = mr_bytes_equal(subject, mr_bytes_of("nowhere"));
        const struct mr_answer *a = &h.answers[i]->answer;
        assert_int_equal(a->verdict, lost ? MR_VERDICT_DEAD : MR_VERDICT_OK);
        if (lost) {
            assert_non_null(strstr(a->error, "unroutable: 312 NO_ROUTE"));
            assert_non_null(strstr(a->error, "\"nowhere\""));
            dead++;
        }
    }
    assert_int_equal(dead, 11);
    ready_reaches("routed", 21);
    sink_close(target);
    test_host_free(&h);
}

static void test_sink_message_that_cannot_be_one_is_dead(void **state)
{
    (void)state;
    make_queue("limits", "classic");
    struct sink_words words = {.key = "limits{{suffix}}"};
    struct test_host h;
    test_host_init(&h);
    struct mr_target *target = sink_connected(&h, &words);
    char subject[20001];
    memset(subject, 's', 20000);
    subject[20000] = '\0';
    sink_give(target, make_handout("wide", subject, "1", 30)); /* the broker's frames: 16 KiB */
    char id[301];
    memset(id, 'i', 300);
    id[300] = '\0';
    sink_give(target, make_handout(id, "x", "1", 30)); /* longer than a message id may be */
    assert_true(test_host_wait(&h, HOST_ANSWERS, 2));
    expect_answer(&h, "wide", MR_VERDICT_DEAD, "do not fit the headers");
    expect_answer(&h, id, MR_VERDICT_OK, "");
    sink_close(target);
    test_host_free(&h);
    words.key = "limits.{{subject}}";
    test_host_init(&h);
    target = sink_connected(&h, &words);
    sink_give(target, make_handout("long", subject, "1", 30));
    assert_true(test_host_wait(&h, HOST_ANSWERS, 1));
    expect_answer(&h, "long", MR_VERDICT_DEAD, "routing key is longer than 255");
    sink_close(target);
    test_host_free(&h);
}

static void test_sink_full_queue_refuses_and_is_tried_again(void **state)
{
    (void)state;
    struct client c;
    client_open(&c);
    amqp_table_entry_t entries[2] = {
        {.key = amqp_cstring_bytes("x-max-length"), .value = {.kind = AMQP_FIELD_KIND_I32}},
        {.key = amqp_cstring_bytes("x-overflow"), .value = {.kind = AMQP_FIELD_KIND_UTF8}}};
    entries[0].value.value.i32 = 2;
    entries[1].value.value.bytes = amqp_cstring_bytes("reject-publish");
    amqp_queue_declare(c.conn, 1, amqp_cstring_bytes("full"), 0, 1, 0, 0,
                       (amqp_table_t){2, entries});
    client_ok(&c);
    client_close(&c);
    struct sink_words words = {.key = "full", .concurrency = 1};
    struct test_host h;
    test_host_init(&h);
    struct mr_target *target = sink_connected(&h, &words);
    for (uint32_t i = 0; i < 3; i++) {
        char id[8];
        snprintf(id, sizeof(id), "f%u", i);
        sink_give(target, make_handout(id, "x", "1", 30));
        assert_true(test_host_wait(&h, HOST_ANSWERS, i + 1));
    }
    expect_answer(&h, "f1", MR_VERDICT_OK, "");
    expect_answer(&h, "f2", MR_VERDICT_RETRY, "basic.nack");
    sink_close(target);
    test_host_free(&h);
}

static void test_sink_poison_message_is_found_among_others(void **state)
{
    (void)state;
    make_queue("poison", "classic");
    struct sink_words words = {.key = "poison"};
    struct test_host h;
    test_host_init(&h);
    struct mr_target *target = sink_connected(&h, &words);
    char *data = malloc(400001);
    memset(data, 'x', 400000); /* the broker takes 256 KiB */
    data[0] = data[399999] = '"';
    data[400000] = '\0';
    struct mr_handout *chain = make_handout("p0", "x", "1", 30);
    struct mr_handout *big = make_handout("big", "x", data, 30);
    chain->op.next = &big->op;
    sink_give(target, chain);
    assert_true(test_host_wait(&h, HOST_ANSWERS, 2));
    const struct mr_answer *a = answer_of(&h, "big");
    bool pair = answer_of(&h, "p0")->verdict != MR_VERDICT_OK; /* else it was confirmed before */
    assert_int_equal(a->verdict, pair ? MR_VERDICT_CRASH : MR_VERDICT_DEAD);
    assert_int_equal(a->suspects, pair ? 2 : 0);
    assert_non_null(strstr(a->error, "406 PRECONDITION_FAILED"));
    expect_answer(&h, "p0", pair ? MR_VERDICT_CRASH : MR_VERDICT_OK, "");
    /* What the bus does then: each alone, with others waiting behind. */
    assert_true(test_host_wait(&h, HOST_CAPACITY, 64));
    chain = make_handout("p1", "x", "1", 30);
    big = make_handout("big2", "x", data, 30);
    big->alone = true;
    chain->op.next = &big->op;
    big->op.next = &make_handout("p2", "x", "1", 30)->op;
    free(data);
    sink_give(target, chain);
    assert_true(test_host_wait(&h, HOST_ANSWERS, 5));
    expect_answer(&h, "p1", MR_VERDICT_OK, "");
    expect_answer(&h, "big2", MR_VERDICT_DEAD, "larger than configured max size");
    expect_answer(&h, "p2", MR_VERDICT_REFUSED, "not connected");
    assert_true(test_host_wait(&h, HOST_CAPACITY, 64));
    sink_give(target, make_handout("p3", "x", "1", 30));
    assert_true(test_host_wait(&h, HOST_ANSWERS, 6));
    expect_answer(&h, "p3", MR_VERDICT_OK, "");
    sink_close(target);
    test_host_free(&h);
}

static void test_sink_exchange_missing_made_deleted(void **state)
{
    (void)state;
    struct sink_words words = {.exchange = "ex", .key = "{{type}}"};
    struct test_host h;
    test_host_init(&h);
    struct mr_target *target = sink_open(&h, &words);
    sink_says(target, "404 NOT_FOUND - no exchange 'ex'");
    assert_true(h.capacity == 0);
    sink_give(target, make_handout("early", "x", "1", 30)); /* handed out all the same */
    assert_true(test_host_wait(&h, HOST_ANSWERS, 1));
    expect_answer(&h, "early", MR_VERDICT_REFUSED, "not connected");
    struct client c;
    client_open(&c);
    amqp_exchange_declare(c.conn, 1, amqp_cstring_bytes("ex"), amqp_cstring_bytes("topic"), 0, 1,
                          0, 0, amqp_empty_table);
    client_ok(&c);
    client_declare(&c, "exq", "classic");
    amqp_queue_bind(c.conn, 1, amqp_cstring_bytes("exq"), amqp_cstring_bytes("ex"),
                    amqp_cstring_bytes("com.#"), amqp_empty_table);
    client_ok(&c);
    assert_true(test_host_wait(&h, HOST_CAPACITY, 64));
    sink_give(target, make_handout("there", "x", "1", 30));
    assert_true(test_host_wait(&h, HOST_ANSWERS, 2));
    expect_answer(&h, "there", MR_VERDICT_OK, "");
    amqp_exchange_delete(c.conn, 1, amqp_cstring_bytes("ex"), 0);
    client_ok(&c);
    client_close(&c);
    sink_give(target, make_handout("gone", "x", "1", 30));
    assert_true(test_host_wait(&h, HOST_ANSWERS, 3));
    expect_answer(&h, "gone", MR_VERDICT_RETRY, "404 NOT_FOUND - no exchange 'ex'");
    sink_close(target);
    test_host_free(&h);
}

static void test_sink_makes_its_exchange(void **state)
{
    (void)state;
    struct sink_words words = {.exchange = "made",
                               .exchange_type = MR_AMQP_EXCHANGE_FANOUT,
                               .key = ""};
    struct test_host h;
    test_host_init(&h);
    struct mr_target *target = sink_connected(&h, &words);
    struct client c;
    client_open(&c);
    client_declare(&c, "madeq", "classic");
    amqp_queue_bind(c.conn, 1, amqp_cstring_bytes("madeq"), amqp_cstring_bytes("made"),
                    amqp_cstring_bytes(""), amqp_empty_table);
    client_ok(&c);
    client_close(&c);
    sink_give(target, make_handout("m", "x", "1", 30));
    assert_true(test_host_wait(&h, HOST_ANSWERS, 1));
    expect_answer(&h, "m", MR_VERDICT_OK, "");
    sink_close(target);
    test_host_free(&h);
}

static void test_sink_without_permission_says_so_and_is_tried_again(void **state)
{
    (void)state;
    server_do(&broker, "ctl", "add_user", "reader", "reader");
    server_do(&broker, "ctl", "set_permissions", "reader", "", "^$", ".*");
    make_queue("forbidden", "classic");
    char url[128];
    snprintf(url, sizeof(url), "amqp://reader:reader@127.0.0.1:%u", broker.port);
    struct sink_words words = {.url = url, .exchange = "amq.direct", .key = "forbidden"};
    struct test_host h;
    test_host_init(&h);
    struct mr_target *target = sink_connected(&h, &words);
    sink_give(target, make_handout("w", "x", "1", 30));
    assert_true(test_host_wait(&h, HOST_ANSWERS, 1));
    expect_answer(&h, "w", MR_VERDICT_RETRY, "403 ACCESS_REFUSED");
    sink_close(target);
    test_host_free(&h);
    snprintf(url, sizeof(url), "amqp://reader:wrong-secret@127.0.0.1:%u", broker.port);
    test_host_init(&h);
    target = sink_open(&h, &words);
    sink_says(target, "403 ACCESS_REFUSED");
    sink_close(target);
    test_host_free(&h);
}

/* --- a broker in trouble ---------------------------------------------------------------------- */

static void test_sink_memory_alarm_takes_the_capacity_and_loses_nothing(void **state)
{
    (void)state;
    make_queue("alarm", "classic");
    struct sink_words words = {.key = "alarm"};
    struct test_host h;
    test_host_init(&h);
    struct mr_target *target = sink_connected(&h, &words);
    server_do(&broker, "alarm", "on");
    sink_give(target, make_handout("a0", "x", "1", 1));
    assert_true(test_host_wait(&h, HOST_CAPACITY, 0));
    sink_says(target, "short of memory");
    sink_give(target, make_handout("a1", "x", "1", 1)); /* on its way when the capacity went */
    assert_true(test_host_wait(&h, HOST_ANSWERS, 2));
    expect_answer(&h, "a1", MR_VERDICT_REFUSED, "takes no messages");
    assert_true(answer_of(&h, "a0")->verdict == MR_VERDICT_RETRY ||
                answer_of(&h, "a0")->verdict == MR_VERDICT_OK);
    server_do(&broker, "alarm", "off");
    assert_true(test_host_wait(&h, HOST_CAPACITY, 64));
    sink_give(target, make_handout("a2", "x", "1", 30));
    assert_true(test_host_wait(&h, HOST_ANSWERS, 3));
    expect_answer(&h, "a2", MR_VERDICT_OK, "");
    struct mr_health health = sink_health(target);
    assert_int_equal(health.state, MR_HEALTH_OK);
    assert_int_equal(health.reconnects, 0);
    sink_close(target);
    test_host_free(&h);
}

static void test_sink_large_messages_into_an_alarm_end_in_time(void **state)
{
    (void)state;
    make_queue("flood", "classic");
    struct sink_words words = {.key = "flood", .heartbeat_s = 2};
    struct test_host h;
    test_host_init(&h);
    struct mr_target *target = sink_connected(&h, &words);
    server_do(&broker, "alarm", "on");
    char *data = malloc(200001);
    memset(data, 'x', 200000);
    data[0] = data[199999] = '"';
    data[200000] = '\0';
    struct mr_handout *chain = NULL;
    for (int i = 0; i < 64; i++) { /* 12 MB: more than all socket buffers */
        char id[32];
        snprintf(id, sizeof(id), "l%d", i);
        struct mr_handout *handout = make_handout(id, "x", data, 2);
        handout->op.next = chain == NULL ? NULL : &chain->op;
        chain = handout;
    }
    free(data);
    sink_give(target, chain);
    bool answered = test_host_wait_for(&h, HOST_ANSWERS, 64, 30);
    server_do(&broker, "alarm", "off");
    assert_true(answered);
    for (uint32_t i = 0; i < h.answer_count; i++) {
        assert_true(h.answers[i]->answer.verdict == MR_VERDICT_RETRY ||
                    h.answers[i]->answer.verdict == MR_VERDICT_REFUSED ||
                    h.answers[i]->answer.verdict == MR_VERDICT_OK);
    }
    assert_true(test_host_wait(&h, HOST_CAPACITY, 64));
    sink_close(target);
    test_host_free(&h);
}

static void test_sink_broker_frozen_answers_stops_in_time_and_reconnects(void **state)
{
    (void)state;
    make_queue("frozen", "classic");
    struct sink_words words = {.key = "frozen", .heartbeat_s = 1};
    struct test_host h;
    struct test_host g;
    test_host_init(&h);
    test_host_init(&g);
    struct mr_target *target = sink_connected(&h, &words);
    words.heartbeat_s = 600;
    struct mr_target *patient = sink_connected(&g, &words);
    server_do(&broker, "freeze");
    sink_give(target, make_handout("z0", "x", "1", 30));
    char *data = malloc(2 * MR_MIB);
    memset(data, 'x', 2 * MR_MIB);
    data[0] = data[2 * MR_MIB - 2] = '"';
    data[2 * MR_MIB - 1] = '\0';
    for (int i = 0; i < 6; i++) { /* fills its socket: its thread blocks in send */
        sink_give(patient, make_handout("y", "x", data, 600));
    }
    free(data);
    bool answered = test_host_wait_for(&h, HOST_ANSWERS, 1, 20);
    int64_t begin = now_ms();
    ops->stop(patient, mr_clock_mono_ns() + 2 * MR_SECOND);
    int64_t took = now_ms() - begin;
    server_do(&broker, "thaw");
    assert_true(answered);
    expect_answer(&h, "z0", MR_VERDICT_RETRY, "connection lost");
    assert_true(took < 6000);
    assert_int_equal(g.answer_count, 6);
    ops->destroy(patient);
    assert_true(test_host_wait(&h, HOST_CAPACITY, 64));
    sink_give(target, make_handout("z1", "x", "1", 30));
    assert_true(test_host_wait(&h, HOST_ANSWERS, 2));
    expect_answer(&h, "z1", MR_VERDICT_OK, "");
    sink_close(target);
    test_host_free(&h);
    test_host_free(&g);
}

static void test_sink_broker_killed_and_back_loses_nothing_confirmed(void **state)
{
    (void)state;
    /* Not a quorum queue: this release forgets the log of one that is made right before a kill. */
    make_queue("killed", "classic");
    server_do(&broker, "settle");
    struct sink_words words = {.key = "killed", .concurrency = 50};
    struct test_host h;
    test_host_init(&h);
    struct mr_target *target = sink_connected(&h, &words);
    uint32_t given = 0;
    bool killed = false;
    uint32_t confirmed = 0;
    while (given < 3000) {
        assert_true(test_host_wait(&h, HOST_ANSWERS, given < 50 ? 0 : given - 49));
        if (killed && h.capacity == 0) {
            break;
        }
        char id[32];
        snprintf(id, sizeof(id), "e%u", given++);
        sink_give(target, make_handout(id, "x", "1", 30));
        if (given == 500) {
            server_do(&broker, "kill");
            killed = true;
        }
    }
    assert_true(test_host_wait(&h, HOST_ANSWERS, given));
    for (uint32_t i = 0; i < h.answer_count; i++) {
        confirmed += h.answers[i]->answer.verdict == MR_VERDICT_OK;
        assert_true(h.answers[i]->answer.verdict == MR_VERDICT_OK ||
                    h.answers[i]->answer.verdict == MR_VERDICT_RETRY ||
                    h.answers[i]->answer.verdict == MR_VERDICT_REFUSED);
    }
    assert_true(confirmed >= 400);
    server_start(&broker);
    assert_true(test_host_wait_for(&h, HOST_CAPACITY, 50, 60));
    struct test_host g;
    struct source_words all = {.queue = "killed"};
    test_host_init(&g);
    struct mr_source *source = source_open(&g, &all);
    assert_true(test_host_wait_for(&g, HOST_EVENTS, confirmed, 60));
    for (uint32_t i = 0; i < h.answer_count; i++) {
        struct mr_bytes id = mr_event_id(mr_event_record(h.answers[i]->event));
        int number = (int)strtol((const char *)id.data + 1, NULL, 10);
        if (h.answers[i]->answer.verdict == MR_VERDICT_OK && count_ids(&g, number, 1) != 1) {
            fail_msg("e%d was confirmed and is not in the queue", number);
        }
    }
    source_close(source);
    test_host_free(&g);
    sink_give(target, make_handout("after", "x", "1", 30));
    assert_true(test_host_wait(&h, HOST_ANSWERS, given + 1));
    expect_answer(&h, "after", MR_VERDICT_OK, "");
    sink_close(target);
    test_host_free(&h);
}

int main(void)
{
    setenv("AMQP_EXTRA", "frame_max = 16384;max_message_size = 262144", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sink_binary_in_all_four_habits),
        cmocka_unit_test(test_sink_structured_and_template),
        cmocka_unit_test(test_sink_thousands_are_all_confirmed),
        cmocka_unit_test(test_sink_unroutable_is_dead_with_its_reason_and_no_other_is),
        cmocka_unit_test(test_sink_message_that_cannot_be_one_is_dead),
        cmocka_unit_test(test_sink_full_queue_refuses_and_is_tried_again),
        cmocka_unit_test(test_sink_poison_message_is_found_among_others),
        cmocka_unit_test(test_sink_exchange_missing_made_deleted),
        cmocka_unit_test(test_sink_makes_its_exchange),
        cmocka_unit_test(test_sink_without_permission_says_so_and_is_tried_again),
        cmocka_unit_test(test_sink_memory_alarm_takes_the_capacity_and_loses_nothing),
        cmocka_unit_test(test_sink_large_messages_into_an_alarm_end_in_time),
        cmocka_unit_test(test_sink_broker_frozen_answers_stops_in_time_and_reconnects),
        cmocka_unit_test(test_sink_broker_killed_and_back_loses_nothing_confirmed),
    };
    return cmocka_run_group_tests(tests, start_broker, stop_broker);
}
