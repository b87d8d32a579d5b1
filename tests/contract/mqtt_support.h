/* What the MQTT contract tests share: a broker started by a script, a plain client to publish and
 * to look, and sources and sinks made from a few words. */
#ifndef MR_TESTS_CONTRACT_MQTT_SUPPORT_H
#define MR_TESTS_CONTRACT_MQTT_SUPPORT_H

#include "tests/support/test.h"

#include <mosquitto.h>
#include <mqtt_protocol.h>
#include <signal.h>

#include "connectors/mqtt/mqtt.h"
#include "core/alloc.h"
#include "core/logger.h"
#include "tests/support/instance.h"
#include "tests/support/server.h"

static struct server broker; /* most tests share it */

static inline int start_broker(void **state)
{
    (void)state;
    mr_logger_set_fd(-1);
    server_make(&broker, "mosquitto.sh");
    return 0;
}

static inline int stop_broker(void **state)
{
    (void)state;
    server_remove(&broker);
    return 0;
}

/* A broker of one's own, started with a setting; NULL: none. */
static inline void own_broker(struct server *own, const char *setting, const char *value)
{
    if (setting != NULL) {
        setenv(setting, value, 1);
    }
    server_make(own, "mosquitto.sh");
    if (setting != NULL) {
        unsetenv(setting);
    }
}

/* --- a plain client --------------------------------------------------------------------------- */

struct client {
    struct mosquitto *mosq;
    int published;
    int subscribed;
    int received;
    bool connected;
    char topic[8][128];   /* of the first messages */
    char payload[8][512];
    int qos[8];
    bool retained[8];
    char content_type[8][64];
    char type[8][64];     /* user property "type" */
};

static inline void client_on_connect(struct mosquitto *m, void *o, int code)
{
    (void)m;
    ((struct client *)o)->connected = code == 0;
}
static inline void client_on_publish(struct mosquitto *m, void *o, int mid)
{
    (void)m;
    (void)mid;
    ((struct client *)o)->published++;
}
static inline void client_on_subscribe(struct mosquitto *m, void *o, int mid, int count,
                                       const int *granted)
{
    (void)m;
    (void)mid;
    (void)count;
    (void)granted;
    ((struct client *)o)->subscribed++;
}
static inline void client_on_message(struct mosquitto *m, void *o,
                                     const struct mosquitto_message *message,
                                     const mosquitto_property *properties)
{
    struct client *c = o;
    (void)m;
    int i = c->received++;
    if (i >= 8) {
        return;
    }
    snprintf(c->topic[i], sizeof(c->topic[i]), "%s", message->topic);
    snprintf(c->payload[i], sizeof(c->payload[i]), "%.*s", message->payloadlen,
             message->payloadlen == 0 ? "" : (const char *)message->payload);
    c->qos[i] = message->qos;
    c->retained[i] = message->retain;
    char *name = NULL;
    char *value = NULL;
    if (mosquitto_property_read_string(properties, MQTT_PROP_CONTENT_TYPE, &value, false) != NULL) {
        snprintf(c->content_type[i], sizeof(c->content_type[i]), "%s", value);
        free(value);
    }
    for (const mosquitto_property *p = properties; p != NULL; p = mosquitto_property_next(p)) {
        if (mosquitto_property_identifier(p) != MQTT_PROP_USER_PROPERTY ||
            mosquitto_property_read_string_pair(p, MQTT_PROP_USER_PROPERTY, &name, &value,
                                                false) == NULL) {
            continue;
        }
        if (strcmp(name, "type") == 0) {
            snprintf(c->type[i], sizeof(c->type[i]), "%s", value);
        }
        free(name);
        free(value);
    }
}

/* Runs the client's loop until *@p counter reaches @p count. */
static inline void client_until(struct client *c, const int *counter, int count)
{
    int64_t until = now_ms() + DEADLINE_MS;
    while (*counter < count) {
        if (now_ms() > until || mosquitto_loop(c->mosq, 100, 1) != MOSQ_ERR_SUCCESS) {
            fail_msg("the test's client got %d of %d", *counter, count);
        }
    }
}

static inline void client_open(struct client *c, unsigned port)
{
    mosquitto_lib_init();
    memset(c, 0, sizeof(*c));
    c->mosq = mosquitto_new(NULL, true, c);
    mosquitto_int_option(c->mosq, MOSQ_OPT_PROTOCOL_VERSION, MQTT_PROTOCOL_V5);
    mosquitto_max_inflight_messages_set(c->mosq, 1000);
    mosquitto_connect_callback_set(c->mosq, client_on_connect);
    mosquitto_publish_callback_set(c->mosq, client_on_publish);
    mosquitto_subscribe_callback_set(c->mosq, client_on_subscribe);
    mosquitto_message_v5_callback_set(c->mosq, client_on_message);
    assert_int_equal(mosquitto_connect(c->mosq, "127.0.0.1", (int)port, 60), MOSQ_ERR_SUCCESS);
    int64_t until = now_ms() + DEADLINE_MS;
    while (!c->connected) {
        assert_int_equal(mosquitto_loop(c->mosq, 100, 1), MOSQ_ERR_SUCCESS);
        assert_true(now_ms() < until);
    }
}

static inline void client_close(struct client *c)
{
    mosquitto_disconnect(c->mosq);
    mosquitto_loop(c->mosq, 100, 1);
    mosquitto_destroy(c->mosq);
}

static inline void client_subscribe(struct client *c, const char *filter)
{
    int want = c->subscribed + 1;
    assert_int_equal(mosquitto_subscribe(c->mosq, NULL, filter, 2), MOSQ_ERR_SUCCESS);
    client_until(c, &c->subscribed, want);
}

/* Publishes @p count events e<from>, e<from + 1>, … as structured CloudEvents. */
static inline void publish_events(unsigned port, const char *topic, int qos, int from, int count)
{
    struct client c;
    client_open(&c, port);
    for (int i = 0; i < count; i++) {
        char text[256];
        mosquitto_property *p = NULL;
        mosquitto_property_add_string(&p, MQTT_PROP_CONTENT_TYPE, "application/cloudevents+json");
        int size = snprintf(text, sizeof(text),
                            "{\"specversion\":\"1.0\",\"id\":\"e%d\",\"source\":\"/test\","
                            "\"type\":\"t\",\"data\":%d}",
                            from + i, i);
        assert_int_equal(
            mosquitto_publish_v5(c.mosq, NULL, topic, size, text, qos, false, p),
            MOSQ_ERR_SUCCESS);
        mosquitto_property_free_all(&p);
    }
    client_until(&c, &c.published, count);
    client_close(&c);
}

static inline void publish_plain(unsigned port, const char *topic, int qos, bool retain,
                                 const char *payload)
{
    struct client c;
    client_open(&c, port);
    assert_int_equal(mosquitto_publish(c.mosq, NULL, topic, (int)strlen(payload), payload, qos,
                                       retain),
                     MOSQ_ERR_SUCCESS);
    client_until(&c, &c.published, 1);
    client_close(&c);
}

/* --- a source under test ---------------------------------------------------------------------- */

struct source_words {
    const char *host;  /* "127.0.0.1" */
    unsigned port;
    const char *scheme; /* "mqtt" */
    const char *topic;
    const char *topic2; /* may be NULL */
    const char *name;   /* "sensors" */
    const char *version; /* "5" */
    const char *user;
    const char *password;
    const char *ca;
    int qos;
    unsigned keepalive_s;
    uint64_t event_size_max;
};

static inline void set_url(struct mr_mqtt_peer_options *peer, const struct source_words *w)
{
    char text[256];
    snprintf(text, sizeof(text), "%s://%s%s%s%s%s:%u", w->scheme == NULL ? "mqtt" : w->scheme,
             w->user == NULL ? "" : w->user, w->user == NULL ? "" : ":",
             w->user == NULL ? "" : w->password, w->user == NULL ? "" : "@",
             w->host == NULL ? "127.0.0.1" : w->host, w->port);
    assert_int_equal(mr_parse_url(mr_bytes_of(text), &peer->url, NULL), MR_OK);
    peer->version = w->version != NULL && strcmp(w->version, "3.1.1") == 0 ? MR_MQTT_WORD_3_1_1
                                                                            : MR_MQTT_WORD_5;
    peer->tls_ca = mr_strdup(w->ca);
    if (w->keepalive_s != 0) {
        peer->keepalive_ns = w->keepalive_s * MR_SECOND;
    }
}

static inline struct mr_source *source_open(struct test_host *h, const struct source_words *w)
{
    const struct mr_config_kind *kind = &mr_connector_mqtt.source_kind;
    struct mr_mqtt_source_options o;
    memset(&o, 0, sizeof(o));
    assert_int_equal(mr_options_defaults(kind->options, &o), MR_OK);
    set_url(&o.peer, w);
    o.qos = w->qos;
    if (w->topic2 == NULL) {
        o.topic = mr_strdup(w->topic);
    } else {
        o.topics.items = mr_calloc(2, sizeof(char *));
        o.topics.items[0] = mr_strdup(w->topic);
        o.topics.items[1] = mr_strdup(w->topic2);
        o.topics.count = 2;
    }
    return source_start(&mr_connector_mqtt, h, w->name == NULL ? "sensors" : w->name, &o,
                        w->event_size_max, NULL);
}

/* Publishes probes until one arrives: the subscription works. The probes have type "probe". */
static inline uint32_t source_subscribed(struct test_host *h, unsigned port, const char *topic)
{
    for (int i = 0; i < 200; i++) {
        publish_plain(port, topic, 1, false, "probe");
        if (test_host_wait_for(h, HOST_EVENTS, 1, 0.1)) {
            pthread_mutex_lock(&h->mu);
            uint32_t count = h->event_count;
            pthread_mutex_unlock(&h->mu);
            return count;
        }
    }
    fail_msg("the subscription never worked");
    return 0;
}

/* --- a sink under test ------------------------------------------------------------------------ */

struct sink_words {
    struct source_words peer; /* its name: "out" */
    const char *topic;
    int64_t qos;
    int mode;
    bool retain;
    uint32_t slots; /* 16 */
};

static inline struct mr_target *sink_open(struct test_host *h, const struct sink_words *w)
{
    const struct mr_config_kind *kind = &mr_connector_mqtt.sink_kind;
    struct mr_mqtt_sink_options o;
    memset(&o, 0, sizeof(o));
    assert_int_equal(mr_options_defaults(kind->options, &o), MR_OK);
    set_url(&o.peer, &w->peer);
    o.topic = mr_strdup(w->topic);
    o.qos = w->qos;
    o.mode = w->mode;
    o.retain = w->retain;
    return sink_start(&mr_connector_mqtt, h, w->peer.name == NULL ? "out" : w->peer.name, &o,
                      (struct mr_target_config){.concurrency = w->slots == 0 ? 16 : w->slots});
}

#endif
