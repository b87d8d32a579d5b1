#include "connectors/mqtt/publisher.h"

#include <MQTTAsync.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "core/alloc.h"
#include "core/logger.h"

#define CONNECT_TIMEOUT_S 10

struct mr_mqtt_publisher {
    MQTTAsync handle;      /* owned */
    struct mr_opq *events; /* borrowed: outlives us */
    int version;
    struct mr_op connected;
    struct mr_op lost;
    atomic_flag connected_pushed; /* an operation can be in a queue once; paho may report twice */
    atomic_flag lost_pushed;
    char error[160]; /* written before `lost` is pushed */
    bool is_tls;
    char tls_error[100]; /* written by paho's threads alone, its lock held */
};

/* --- callbacks: any thread of paho's, its lock held ------------------------------------------- */

static void push(struct mr_opq *events, struct mr_op *op)
{
    if (mr_opq_push(events, op) != MR_OK) { /* it has no bound and is never closed */
        MR_ERROR("mqtt", "a report of the library was lost, ignoring");
    }
}

static void push_connected(struct mr_mqtt_publisher *publisher)
{
    if (!atomic_flag_test_and_set(&publisher->connected_pushed)) {
        push(publisher->events, &publisher->connected);
    }
}

static void push_lost(struct mr_mqtt_publisher *publisher, const char *what, const char *why)
{
    if (!atomic_flag_test_and_set(&publisher->lost_pushed)) {
        char text[sizeof(publisher->error)];
        (void)snprintf(text, sizeof(text), "%s%s%s", what, why == NULL ? "" : ": ",
                       why == NULL ? "" : why);
        mr_text_clean(publisher->error, sizeof(publisher->error), mr_bytes_of(text));
        push(publisher->events, &publisher->lost);
    }
}

static void on_connected(void *context, MQTTAsync_successData *data)
{
    (void)data;
    push_connected(context);
}

static void on_connected5(void *context, MQTTAsync_successData5 *data)
{
    (void)data;
    push_connected(context);
}

/* Takes "…:error:0A000086:SSL routines:function:certificate verify failed:file:line:" as it is but
 * for its ends: of several lines the first says what was wrong. */
static int on_tls_error(const char *text, size_t size, void *context)
{
    struct mr_mqtt_publisher *publisher = context;
    struct mr_bytes line = mr_bytes(text, size);
    const char *from = memmem(text, size, "error:", 6);
    const char *to = memmem(text, size, ":../", 4);
    if (from != NULL && to != NULL && to > from) {
        line = mr_bytes(from, (size_t)(to - from));
    }
    if (publisher->tls_error[0] == '\0') {
        mr_text_clean(publisher->tls_error, sizeof(publisher->tls_error), line);
    }
    return 1;
}

static const char *connect_error(const struct mr_mqtt_publisher *publisher, int code,
                                 const char *message)
{
    if (publisher->version == 5 && message != NULL &&
        strcmp(message, "TCP connect completion failure") == 0) {
        return "the connection ended before the broker answered; " MR_MQTT_VERSION_HINT;
    }
    if (publisher->tls_error[0] != '\0') {
        return publisher->tls_error;
    }
    /* paho compares the host by itself and says nothing of it. */
    if (publisher->is_tls && message != NULL && strcmp(message, "TCP/TLS connect failure") == 0) {
        return "no connection, or the broker's certificate is of another host";
    }
    return message != NULL ? message : MQTTAsync_strerror(code);
}

static void on_refused(void *context, MQTTAsync_failureData *data)
{
    const char *why = data == NULL ? NULL : connect_error(context, data->code, data->message);
    push_lost(context, "cannot connect", why);
}

static void on_refused5(void *context, MQTTAsync_failureData5 *data)
{
    const char *why = NULL;
    if (data != NULL && data->reasonCode >= 0x80) {
        why = MQTTReasonCode_toString(data->reasonCode);
    } else if (data != NULL) {
        why = connect_error(context, data->code, data->message);
    }
    push_lost(context, "cannot connect", why);
}

static void on_lost(void *context, char *cause)
{
    push_lost(context, "connection lost", cause);
}

static void on_disconnected(void *context, MQTTProperties *properties,
                            enum MQTTReasonCodes reason)
{
    (void)properties;
    push_lost(context, "disconnected by the broker", MQTTReasonCode_toString(reason));
}

static int on_arrived(void *context, char *topic, int size, MQTTAsync_message *message)
{
    (void)context; /* nothing is subscribed to, but paho wants the callback */
    (void)size;
    MQTTAsync_freeMessage(&message);
    MQTTAsync_free(topic);
    return 1;
}

static void push_sent(struct mr_mqtt_send *send, int code)
{
    send->code = code;
    send->op = (struct mr_op){.type = MR_MQTT_SENT};
    push(send->events, &send->op);
}

static void on_sent(void *context, MQTTAsync_successData *data)
{
    (void)data;
    push_sent(context, 0);
}

static void on_sent5(void *context, MQTTAsync_successData5 *data)
{
    int reason = data == NULL ? 0 : (int)data->reasonCode;
    push_sent(context, reason >= 0x80 ? reason : 0);
}

static void on_unsent(void *context, MQTTAsync_failureData *data)
{
    push_sent(context, data == NULL || data->code >= 0 ? MQTTASYNC_FAILURE : data->code);
}

static void on_unsent5(void *context, MQTTAsync_failureData5 *data)
{
    int code = MQTTASYNC_FAILURE;
    if (data != NULL && data->reasonCode >= 0x80) {
        code = (int)data->reasonCode;
    } else if (data != NULL && data->code < 0) {
        code = data->code;
    }
    push_sent(context, code);
}

/* --- life ------------------------------------------------------------------------------------- */

static int connect_handle(struct mr_mqtt_publisher *publisher,
                          const struct mr_mqtt_peer_options *peer)
{
    MQTTAsync_connectOptions v3 = MQTTAsync_connectOptions_initializer;
    MQTTAsync_connectOptions v5 = MQTTAsync_connectOptions_initializer5;
    MQTTAsync_connectOptions o = publisher->version == 5 ? v5 : v3;
    MQTTAsync_SSLOptions ssl = MQTTAsync_SSLOptions_initializer;
    o.keepAliveInterval = (int)(peer->keepalive_ns / MR_SECOND);
    o.connectTimeout = CONNECT_TIMEOUT_S;
    o.context = publisher;
    if (publisher->version == 5) {
        o.onSuccess5 = on_connected5;
        o.onFailure5 = on_refused5;
    } else {
        o.MQTTVersion = MQTTVERSION_3_1_1;
        o.onSuccess = on_connected;
        o.onFailure = on_refused;
    }
    o.username = peer->url->user;
    if (peer->url->password != NULL) {
        struct mr_bytes password = mr_secret_use(peer->url->password);
        o.binarypwd.len = (int)password.size;
        o.binarypwd.data = password.data;
    }
    if (mr__mqtt_is_tls(peer)) {
        ssl.verify = 1; /* without it 1.3.12 takes any host's certificate */
        ssl.enableServerCertAuth = 1;
        ssl.trustStore = peer->tls_ca;
        ssl.CApath = peer->tls_ca == NULL ? "/etc/ssl/certs" : NULL;
        ssl.disableDefaultTrustStore = peer->tls_ca != NULL;
        ssl.keyStore = peer->tls_cert;
        ssl.privateKey = peer->tls_key;
        ssl.sslVersion = MQTT_SSL_VERSION_DEFAULT;
        ssl.ssl_error_cb = on_tls_error;
        ssl.ssl_error_context = publisher;
        publisher->is_tls = true;
        o.ssl = &ssl;
    }
    return MQTTAsync_connect(publisher->handle, &o);
}

enum mr_status mr__mqtt_publisher_create(const struct mr_mqtt_peer_options *peer,
                                         const char *client_id, struct mr_opq *events,
                                         struct mr_mqtt_publisher **ret_publisher,
                                         struct mr_problem *problem)
{
    struct mr_mqtt_publisher *publisher = mr_calloc(1, sizeof(*publisher));
    if (publisher == NULL) {
        return mr_problem_set(problem, MR_E_NOMEM, "no memory to connect");
    }
    atomic_flag_clear(&publisher->connected_pushed);
    atomic_flag_clear(&publisher->lost_pushed);
    publisher->connected.type = MR_MQTT_CONNECTED;
    publisher->lost.type = MR_MQTT_LOST;
    publisher->events = events;
    publisher->version = mr__mqtt_version(peer);
    MQTTAsync_createOptions o = MQTTAsync_createOptions_initializer;
    o.MQTTVersion = publisher->version == 5 ? MQTTVERSION_5 : MQTTVERSION_3_1_1;
    o.maxBufferedMessages = 65535; /* our window bounds them; the default of 100 would refuse */
    char uri[320];
    bool v6 = strchr(peer->url->host, ':') != NULL;
    int size = snprintf(uri, sizeof(uri), "%s://%s%s%s:%u", mr__mqtt_is_tls(peer) ? "ssl" : "tcp",
                        v6 ? "[" : "", peer->url->host, v6 ? "]" : "", mr__mqtt_port(peer));
    int code = size < 0 || (size_t)size >= sizeof(uri)
                   ? MQTTASYNC_FAILURE
                   : MQTTAsync_createWithOptions(&publisher->handle, uri, client_id,
                                                 MQTTCLIENT_PERSISTENCE_NONE, NULL, &o);
    if (code == MQTTASYNC_SUCCESS) {
        code = MQTTAsync_setCallbacks(publisher->handle, publisher, on_lost, on_arrived, NULL);
    }
    if (code == MQTTASYNC_SUCCESS && publisher->version == 5) {
        code = MQTTAsync_setDisconnected(publisher->handle, publisher, on_disconnected);
    }
    if (code != MQTTASYNC_SUCCESS) {
        mr__mqtt_publisher_destroy(publisher);
        return mr_problem_set(problem, MR_E_UNAVAILABLE, "cannot connect: %s",
                              MQTTAsync_strerror(code));
    }
    code = connect_handle(publisher, peer);
    if (code != MQTTASYNC_SUCCESS) {
        push_lost(publisher, "cannot connect", MQTTAsync_strerror(code));
    }
    *ret_publisher = publisher;
    return MR_OK;
}

void mr__mqtt_publisher_close(struct mr_mqtt_publisher *publisher)
{
    if (publisher != NULL && publisher->handle != NULL) {
        MQTTAsync_destroy(&publisher->handle);
        publisher->handle = NULL;
    }
}

void mr__mqtt_publisher_destroy(struct mr_mqtt_publisher *publisher)
{
    mr__mqtt_publisher_close(publisher);
    mr_free(publisher);
}

const char *mr__mqtt_publisher_error(const struct mr_mqtt_publisher *publisher)
{
    return publisher->error;
}

/* --- sending ---------------------------------------------------------------------------------- */

static MQTTLenString text_of(struct mr_bytes bytes)
{
    union { /* paho copies it, its type merely lacks the const */
        const uint8_t *from;
        char *to;
    } data = {.from = bytes.data};
    return (MQTTLenString){.len = (int)bytes.size, .data = data.to};
}

static int add_properties(MQTTProperties *properties, const struct mr_message *message)
{
    int code = 0;
    if (message->content_type.size > 0) {
        MQTTProperty p = {.identifier = MQTTPROPERTY_CODE_CONTENT_TYPE};
        p.value.data = text_of(message->content_type);
        code = MQTTProperties_add(properties, &p);
    }
    for (uint32_t i = 0; i < message->field_count && code == 0; i++) {
        MQTTProperty p = {.identifier = MQTTPROPERTY_CODE_USER_PROPERTY};
        p.value.data = text_of(message->fields[i].name);
        p.value.value = text_of(message->fields[i].value);
        code = MQTTProperties_add(properties, &p);
    }
    return code;
}

int mr__mqtt_publisher_send(struct mr_mqtt_publisher *publisher, const char *topic,
                            const struct mr_message *message, int qos, bool retain,
                            struct mr_mqtt_send *send)
{
    MQTTAsync_message m = MQTTAsync_message_initializer;
    MQTTAsync_responseOptions response = MQTTAsync_responseOptions_initializer;
    m.payload = message->body.data;
    m.payloadlen = (int)message->body.size;
    m.qos = qos;
    m.retained = retain ? 1 : 0;
    response.context = send;
    int code = MQTTASYNC_SUCCESS;
    if (publisher->version == 5) {
        response.onSuccess5 = on_sent5;
        response.onFailure5 = on_unsent5;
        code = add_properties(&m.properties, message);
    } else {
        response.onSuccess = on_sent;
        response.onFailure = on_unsent;
    }
    if (code == MQTTASYNC_SUCCESS) {
        code = MQTTAsync_sendMessage(publisher->handle, topic, &m, &response);
    }
    MQTTProperties_free(&m.properties);
    return code;
}

const char *mr__mqtt_send_text(int code)
{
    const char *text = code >= 0x80 ? MQTTReasonCode_toString((enum MQTTReasonCodes)code)
                                    : MQTTAsync_strerror(code);
    return text == NULL ? "not delivered" : text;
}

enum mr_verdict mr__mqtt_send_verdict(int code)
{
    switch (code) {
    case 0:
        return MR_VERDICT_OK;
    case MQTTASYNC_DISCONNECTED:
    case MQTTASYNC_MAX_MESSAGES_INFLIGHT:
    case MQTTASYNC_MAX_BUFFERED_MESSAGES:
    case MQTTASYNC_NO_MORE_MSGIDS:
        return MR_VERDICT_REFUSED;
    case MQTTASYNC_BAD_UTF8_STRING:
    case MQTTREASONCODE_TOPIC_NAME_INVALID:
    case MQTTREASONCODE_PACKET_TOO_LARGE:
    case MQTTREASONCODE_PAYLOAD_FORMAT_INVALID:
    case MQTTREASONCODE_RETAIN_NOT_SUPPORTED:
        return MR_VERDICT_DEAD; /* the same message would meet the same answer */
    default:
        return MR_VERDICT_RETRY;
    }
}
