/* What the AMQP contract tests share: a broker started by a script, a plain client of rabbitmq-c to
 * publish and to look, and sources and sinks made from a few words. */
#ifndef MR_TESTS_CONTRACT_AMQP_SUPPORT_H
#define MR_TESTS_CONTRACT_AMQP_SUPPORT_H

#include "tests/support/test.h"

#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_tcp_socket.h>
#include <signal.h>

#include "connectors/amqp/amqp.h"
#include "core/alloc.h"
#include "core/logger.h"
#include "tests/support/instance.h"
#include "tests/support/server.h"

static struct server broker;

static inline int start_broker(void **state)
{
    (void)state;
    mr_logger_set_level(MR_LEVEL_ERROR);
    server_make(&broker, "rabbitmq.sh");
    return 0;
}

static inline int stop_broker(void **state)
{
    (void)state;
    server_remove(&broker);
    return 0;
}

/* --- a plain client --------------------------------------------------------------------------- */

struct client {
    amqp_connection_state_t conn;
};

static inline void client_ok(struct client *c)
{
    amqp_rpc_reply_t reply = amqp_get_rpc_reply(c->conn);
    if (reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION &&
        reply.reply.id == AMQP_CHANNEL_CLOSE_METHOD) {
        const amqp_channel_close_t *m = reply.reply.decoded;
        fail_msg("the test's client: %.*s", (int)m->reply_text.len,
                 (const char *)m->reply_text.bytes);
    }
    assert_int_equal(reply.reply_type, AMQP_RESPONSE_NORMAL);
}

static inline void client_open(struct client *c)
{
    const struct timeval wait = {.tv_sec = 10};
    c->conn = amqp_new_connection();
    amqp_socket_t *socket = amqp_tcp_socket_new(c->conn);
    assert_int_equal(amqp_socket_open_noblock(socket, "127.0.0.1", (int)broker.port, &wait), 0);
    amqp_rpc_reply_t reply = amqp_login(c->conn, "/", 0, 131072, 0, AMQP_SASL_METHOD_PLAIN,
                                        "guest", "guest");
    assert_int_equal(reply.reply_type, AMQP_RESPONSE_NORMAL);
    amqp_channel_open(c->conn, 1);
    client_ok(c);
    amqp_confirm_select(c->conn, 1);
    client_ok(c);
}

static inline void client_close(struct client *c)
{
    (void)amqp_connection_close(c->conn, AMQP_REPLY_SUCCESS);
    (void)amqp_destroy_connection(c->conn);
}

/* @param type "classic", "quorum" or "stream" */
static inline void client_declare(struct client *c, const char *queue, const char *type)
{
    amqp_table_entry_t entry = {.key = amqp_cstring_bytes("x-queue-type"),
                                .value = {.kind = AMQP_FIELD_KIND_UTF8}};
    entry.value.value.bytes = amqp_cstring_bytes(type);
    const amqp_table_t table = {1, &entry};
    amqp_queue_declare(c->conn, 1, amqp_cstring_bytes(queue), 0, 1, 0, 0, table);
    client_ok(c);
}

static inline void client_delete(struct client *c, const char *queue)
{
    amqp_queue_delete(c->conn, 1, amqp_cstring_bytes(queue), 0, 0);
    client_ok(c);
}

/* Messages ready in the queue; -1: there is no queue of this name. */
static inline int client_ready(const char *queue)
{
    struct client c;
    client_open(&c);
    const amqp_queue_declare_ok_t *ok =
        amqp_queue_declare(c.conn, 1, amqp_cstring_bytes(queue), 1, 0, 0, 0, amqp_empty_table);
    int count = ok == NULL ? -1 : (int)ok->message_count;
    client_close(&c);
    return count;
}

/* Waits until so many are. */
static inline void ready_reaches(const char *queue, int count)
{
    WAIT_FOR(client_ready(queue) == count, "%d messages are ready in %s", client_ready(queue),
             queue);
}

/* Waits until the broker has confirmed @p count messages. */
static inline void client_confirmed(struct client *c, uint64_t count)
{
    uint64_t got = 0;
    while (got < count) {
        amqp_frame_t frame;
        const struct timeval wait = {.tv_sec = 20};
        assert_int_equal(amqp_simple_wait_frame_noblock(c->conn, &frame, &wait), 0);
        assert_int_equal(frame.frame_type, AMQP_FRAME_METHOD);
        assert_int_equal(frame.payload.method.id, AMQP_BASIC_ACK_METHOD);
        got = ((const amqp_basic_ack_t *)frame.payload.method.decoded)->delivery_tag;
        amqp_maybe_release_buffers(c->conn);
    }
}

static inline void client_publish(struct client *c, const char *exchange, const char *key,
                                  const amqp_basic_properties_t *p, const void *body, size_t size)
{
    assert_int_equal(amqp_basic_publish(c->conn, 1, amqp_cstring_bytes(exchange),
                                        amqp_cstring_bytes(key), 0, 0, p,
                                        (amqp_bytes_t){size, (void *)(uintptr_t)body}),
                     0);
}

/* Publishes @p count events e<from>, e<from + 1>, … as structured CloudEvents, persistent. */
static inline void publish_events(const char *queue, int from, int count)
{
    struct client c;
    client_open(&c);
    amqp_basic_properties_t p = {
        ._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG,
        .content_type = amqp_cstring_bytes("application/cloudevents+json"),
        .delivery_mode = 2};
    for (int i = 0; i < count; i++) {
        char text[256];
        int size = snprintf(text, sizeof(text),
                            "{\"specversion\":\"1.0\",\"id\":\"e%d\",\"source\":\"/test\","
                            "\"type\":\"t\",\"data\":%d}",
                            from + i, i);
        client_publish(&c, "", queue, &p, text, (size_t)size);
    }
    client_confirmed(&c, (uint64_t)count);
    client_close(&c);
}

static inline void publish_text(const char *queue, const char *type, const char *text)
{
    struct client c;
    client_open(&c);
    amqp_basic_properties_t p = {0};
    if (type != NULL) {
        p._flags = AMQP_BASIC_CONTENT_TYPE_FLAG;
        p.content_type = amqp_cstring_bytes(type);
    }
    client_publish(&c, "", queue, &p, text, strlen(text));
    client_confirmed(&c, 1);
    client_close(&c);
}

static inline void make_queue(const char *queue, const char *type)
{
    struct client c;
    client_open(&c);
    client_declare(&c, queue, type);
    client_close(&c);
}

/* --- a source under test ---------------------------------------------------------------------- */

struct source_words {
    const char *url; /* NULL: of the port */
    unsigned port;   /* 0: the broker's */
    const char *queue;
    const char *name; /* "jobs" */
    const char *ca;
    int64_t prefetch;
    unsigned heartbeat_s;
    enum mr_amqp_queue_type type;
    const char *arguments;
    const char *exchange;
    enum mr_amqp_exchange_type exchange_type;
    const char *binding;
    int adapter;
    uint64_t event_size_max;
};

static inline void set_peer(struct mr_amqp_peer_options *peer, const char *url, unsigned port,
                            const char *ca, unsigned heartbeat_s)
{
    char text[256];
    snprintf(text, sizeof(text), "amqp://127.0.0.1:%u", port == 0 ? broker.port : port);
    assert_int_equal(mr_parse_url(mr_bytes_of(url == NULL ? text : url), &peer->url, NULL), MR_OK);
    peer->tls_ca = mr_strdup(ca);
    if (heartbeat_s != 0) {
        peer->heartbeat_ns = heartbeat_s * MR_SECOND;
    }
}

static inline struct mr_source *source_open(struct test_host *h, const struct source_words *w)
{
    const struct mr_config_kind *kind = &mr_connector_amqp.source_kind;
    struct mr_amqp_source_options o;
    memset(&o, 0, sizeof(o));
    assert_int_equal(mr_options_defaults(kind->options, &o), MR_OK);
    set_peer(&o.peer, w->url, w->port, w->ca, w->heartbeat_s);
    o.queue = mr_strdup(w->queue);
    o.prefetch = w->prefetch == 0 ? o.prefetch : w->prefetch;
    o.adapter = w->adapter;
    o.declare.type = w->type;
    o.declare.arguments = mr_strdup(w->arguments);
    o.declare.exchange = mr_strdup(w->exchange);
    o.declare.exchange_type = w->exchange_type;
    if (w->binding != NULL) {
        o.declare.bindings.items = mr_calloc(1, sizeof(char *));
        o.declare.bindings.items[0] = mr_strdup(w->binding);
        o.declare.bindings.count = 1;
    }
    return source_start(&mr_connector_amqp, h, w->name == NULL ? "jobs" : w->name, &o,
                        w->event_size_max, NULL);
}

/* --- a sink under test ------------------------------------------------------------------------ */

struct sink_words {
    const char *url; /* NULL: of the port */
    unsigned port;   /* 0: the broker's */
    const char *exchange;
    const char *key;
    const char *ca;
    enum mr_amqp_exchange_type exchange_type;
    enum mr_mode mode;
    enum mr_amqp_habit headers;
    unsigned heartbeat_s;
    uint32_t concurrency;
};

static inline struct mr_target *sink_open(struct test_host *h, const struct sink_words *w)
{
    const struct mr_config_kind *kind = &mr_connector_amqp.sink_kind;
    struct mr_amqp_sink_options o;
    memset(&o, 0, sizeof(o));
    assert_int_equal(mr_options_defaults(kind->options, &o), MR_OK);
    set_peer(&o.peer, w->url, w->port, w->ca, w->heartbeat_s);
    o.exchange = mr_strdup(w->exchange);
    o.exchange_type = w->exchange_type;
    mr_free(o.routing_key);
    o.routing_key = mr_strdup(w->key);
    o.mode = w->mode;
    o.headers = w->headers;
    return sink_start(&mr_connector_amqp, h, "out", &o,
                      (struct mr_target_config){.concurrency = w->concurrency});
}

/* A hand-out of an event with this id, subject and data (a JSON text). */
static inline struct mr_handout *make_handout(const char *id, const char *subject,
                                              const char *data, double timeout_s)
{
    struct mr_buf text;
    mr_buf_init(&text, 8 * MR_MIB);
    assert_int_equal(mr_buf_printf(&text,
                                   "{\"specversion\":\"1.0\",\"id\":\"%s\",\"source\":\"/s\","
                                   "\"type\":\"com.example.t\",\"subject\":\"%s\","
                                   "\"datacontenttype\":\"application/json\",\"data\":",
                                   id, subject),
                     MR_OK);
    assert_int_equal(mr_buf_append_text(&text, data), MR_OK);
    assert_int_equal(mr_buf_append(&text, "}", 2), MR_OK);
    struct mr_handout *handout = handout_of((const char *)text.data);
    mr_buf_release(&text);
    handout->target = 2;
    handout->timeout_ns = (uint64_t)(timeout_s * (double)MR_SECOND);
    return handout;
}

/* The answered hand-out of the event with this id; fails when there is none. */
static inline const struct mr_handout *handout_with(struct test_host *h, const char *id)
{
    const struct mr_handout *found = NULL;
    pthread_mutex_lock(&h->mu);
    for (uint32_t i = 0; i < h->answer_count; i++) {
        struct mr_bytes got = mr_event_id(mr_event_record(h->answers[i]->event));
        if (mr_bytes_equal(got, mr_bytes_of(id))) {
            found = h->answers[i];
        }
    }
    pthread_mutex_unlock(&h->mu);
    if (found == NULL) {
        fail_msg("no answer for %s", id);
    }
    return found;
}

static inline const struct mr_answer *answer_of(struct test_host *h, const char *id)
{
    return &handout_with(h, id)->answer;
}

#endif
