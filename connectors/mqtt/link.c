#include "connectors/mqtt/link.h"

#include <errno.h>
#include <fcntl.h>
#include <mqtt_protocol.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/assert.h"
#include "core/logger.h"

#define OPEN_TIMEOUT_NS (15 * MR_SECOND)
#define RESUBSCRIBE_NS (30 * MR_SECOND)
#define LINGER_NS (500 * MR_MS)
#define SUBACK_REFUSED 0x80

static pthread_once_t library_once = PTHREAD_ONCE_INIT;

static void init_library(void)
{
    (void)mosquitto_lib_init(); /* fails on Windows only */
}

static void set_error(struct mr_mqtt_link *link, const char *what, const char *why)
{
    char text[sizeof(link->error)];
    (void)snprintf(text, sizeof(text), "%s%s%s", what, why[0] == '\0' ? "" : ": ", why);
    mr_text_clean(link->error, sizeof(link->error), mr_bytes_of(text));
}

/* The library says "A TLS error occurred"; what kind is in its log lines, on most paths. */
static const char *loss_text(const struct mr_mqtt_link *link, int code)
{
    if (link->tls_error[0] != '\0') {
        return link->tls_error;
    }
    if (code == MOSQ_ERR_CONN_LOST && link->state == MR_MQTT_LINK_OPENING &&
        mr__mqtt_version(&link->options->peer) == 5) {
        return "the broker hung up without an answer; " MR_MQTT_VERSION_HINT;
    }
    const char *reason =
        code == MOSQ_ERR_TLS ? ERR_reason_error_string(ERR_peek_last_error()) : NULL;
    return reason != NULL ? reason : mosquitto_strerror(code);
}

/* --- callbacks of the library, all within calls of ours --------------------------------------- */

static const char *connack_text(const struct mr_mqtt_link *link, int code)
{
    return mr__mqtt_version(&link->options->peer) == 5 ? mosquitto_reason_string(code)
                                                       : mosquitto_connack_string(code);
}

static void on_connect(struct mosquitto *mosq, void *context, int code, int flags,
                       const mosquitto_property *properties)
{
    struct mr_mqtt_link *link = context;
    (void)mosq;
    (void)properties;
    link->received++;
    if (code != 0) {
        set_error(link, "the broker refused the connection", connack_text(link, code));
        return;
    }
    link->state = MR_MQTT_LINK_UP;
    link->session_present = (flags & 1) != 0;
    link->resubscribe = true;
    link->subscribed = false;
    link->error[0] = '\0';
}

static void on_disconnect(struct mosquitto *mosq, void *context, int code,
                          const mosquitto_property *properties)
{
    struct mr_mqtt_link *link = context;
    (void)mosq;
    (void)properties;
    if (link->state == MR_MQTT_LINK_UP) {
        set_error(link, "connection lost",
                  code > 0x80 ? mosquitto_reason_string(code) : mosquitto_strerror(code));
    } else if (link->error[0] == '\0') {
        set_error(link, "cannot connect", loss_text(link, code));
    }
    link->state = MR_MQTT_LINK_DOWN;
}

static const char *filter_at(const struct mr_mqtt_source_options *options, uint32_t index)
{
    return options->topic != NULL ? options->topic : options->topics.items[index];
}

static uint32_t filter_count(const struct mr_mqtt_source_options *options)
{
    return options->topic != NULL ? 1 : options->topics.count;
}

static void on_subscribe(struct mosquitto *mosq, void *context, int mid, int count,
                         const int *granted, const mosquitto_property *properties)
{
    struct mr_mqtt_link *link = context;
    (void)mosq;
    (void)mid;
    (void)properties;
    link->received++;
    link->subscribed = true;
    for (int i = 0; i < count; i++) {
        if (granted[i] >= SUBACK_REFUSED && (uint32_t)i < filter_count(link->options)) {
            set_error(link, "the broker refused the subscription",
                      filter_at(link->options, (uint32_t)i));
            return;
        }
        if (granted[i] < 1 && link->options->qos > 0) {
            set_error(link, "the broker grants quality of service 0 only",
                      filter_at(link->options, (uint32_t)i));
            return;
        }
    }
    link->error[0] = '\0';
}

static void on_message(struct mosquitto *mosq, void *context,
                       const struct mosquitto_message *message,
                       const mosquitto_property *properties)
{
    struct mr_mqtt_link *link = context;
    (void)mosq;
    link->received++;
    link->on_message(link->context, message, properties);
}

static void on_log(struct mosquitto *mosq, void *context, int level, const char *text)
{
    struct mr_mqtt_link *link = context;
    (void)mosq;
    if (level == MOSQ_LOG_ERR) {
        mr_text_clean(link->tls_error, sizeof(link->tls_error), mr_bytes_of(text));
    }
}

/* A key that wants a password must fail, not ask on the terminal. */
static int no_password(char *to, int size, int writing, void *context)
{
    (void)to;
    (void)size;
    (void)writing;
    (void)context;
    return 0;
}

/* --- life ------------------------------------------------------------------------------------- */

static enum mr_status set_tls(struct mosquitto *mosq, const struct mr_mqtt_peer_options *peer,
                              struct mr_problem *problem)
{
    const char *capath = peer->tls_ca == NULL ? "/etc/ssl/certs" : NULL;
    int code = mosquitto_tls_set(mosq, peer->tls_ca, capath, peer->tls_cert, peer->tls_key,
                                 no_password);
    if (code == MOSQ_ERR_SUCCESS) {
        code = mosquitto_tls_opts_set(mosq, 1, NULL, NULL); /* 1: verify the peer */
    }
    if (code == MOSQ_ERR_SUCCESS) {
        code = mosquitto_tls_insecure_set(mosq, false); /* and its host name */
    }
    if (code != MOSQ_ERR_SUCCESS) {
        return mr_problem_set(problem, code == MOSQ_ERR_NOMEM ? MR_E_NOMEM : MR_E_INVALID,
                              "tls: cannot use the files (tls_ca \"%s\", tls_cert \"%s\"): %s",
                              peer->tls_ca == NULL ? "/etc/ssl/certs" : peer->tls_ca,
                              peer->tls_cert == NULL ? "" : peer->tls_cert,
                              mosquitto_strerror(code));
    }
    return MR_OK;
}

static int set_options(struct mosquitto *mosq, const struct mr_mqtt_peer_options *peer)
{
    int version = mr__mqtt_version(peer) == 5 ? MQTT_PROTOCOL_V5 : MQTT_PROTOCOL_V311;
    int code = mosquitto_int_option(mosq, MOSQ_OPT_PROTOCOL_VERSION, version);
    if (code == MOSQ_ERR_SUCCESS) {
        code = mosquitto_int_option(mosq, MOSQ_OPT_TCP_NODELAY, 1);
    }
    if (code == MOSQ_ERR_SUCCESS) {
        /* The library takes an overrun for a protocol error, and brokers do overrun it (mosquitto
         * before 2.0.13): the bound is that the socket is not read, so say the maximum. */
        code = mosquitto_int_option(mosq, MOSQ_OPT_RECEIVE_MAXIMUM, 65535);
    }
    if (code == MOSQ_ERR_SUCCESS) {
        /* Packets are queued, and written by mosquitto_loop_write() alone. */
        code = mosquitto_threaded_set(mosq, true);
    }
    if (code == MOSQ_ERR_SUCCESS && peer->url->user != NULL) {
        const char *password = NULL;
        if (peer->url->password != NULL) {
            password = (const char *)mr_secret_use(peer->url->password).data;
        }
        code = mosquitto_username_pw_set(mosq, peer->url->user, password);
    }
    return code;
}

enum mr_status mr__mqtt_link_init(struct mr_mqtt_link *link,
                                  const struct mr_mqtt_source_options *options,
                                  const char *client_id, mr_mqtt_message_fn message_fn,
                                  void *context, struct mr_problem *problem)
{
    (void)pthread_once(&library_once, init_library);
    *link = (struct mr_mqtt_link){.options = options, .on_message = message_fn, .context = context};
    link->mosq = mosquitto_new(client_id, false, link);
    if (link->mosq == NULL) {
        return mr_problem_set(problem, errno == EINVAL ? MR_E_INVALID : MR_E_NOMEM,
                              "client_id: \"%s\" cannot be used", client_id);
    }
    int code = set_options(link->mosq, &options->peer);
    if (code != MOSQ_ERR_SUCCESS) {
        mr__mqtt_link_release(link);
        return mr_problem_set(problem, code == MOSQ_ERR_NOMEM ? MR_E_NOMEM : MR_E_INVALID,
                              "mqtt: the library refused a setting: %s", mosquitto_strerror(code));
    }
    if (mr__mqtt_is_tls(&options->peer)) {
        enum mr_status r = set_tls(link->mosq, &options->peer, problem);
        if (r != MR_OK) {
            mr__mqtt_link_release(link);
            return r;
        }
    }
    mosquitto_connect_v5_callback_set(link->mosq, on_connect);
    mosquitto_disconnect_v5_callback_set(link->mosq, on_disconnect);
    mosquitto_subscribe_v5_callback_set(link->mosq, on_subscribe);
    mosquitto_message_v5_callback_set(link->mosq, on_message);
    mosquitto_log_callback_set(link->mosq, on_log);
    return MR_OK;
}

void mr__mqtt_link_release(struct mr_mqtt_link *link)
{
    if (link->mosq != NULL) {
        mosquitto_destroy(link->mosq);
        link->mosq = NULL;
    }
    link->state = MR_MQTT_LINK_DOWN;
}

/* --- opening ---------------------------------------------------------------------------------- */

static int keepalive_seconds(const struct mr_mqtt_link *link)
{
    return (int)(link->options->peer.keepalive_ns / MR_SECOND);
}

/* The CONNECT properties can be given to the blocking connect only. Connecting to a Unix socket
 * that cannot be (port 0, a path below a file) fails at once, and the properties stay with the
 * handle for the non-blocking connects that follow. */
static int set_session(struct mr_mqtt_link *link)
{
    mosquitto_property *properties = NULL;
    uint64_t seconds = link->options->session_expiry_ns / MR_SECOND;
    int code = mosquitto_property_add_int32(&properties, MQTT_PROP_SESSION_EXPIRY_INTERVAL,
                                            seconds > UINT32_MAX ? UINT32_MAX : (uint32_t)seconds);
    if (code == MOSQ_ERR_SUCCESS) {
        code = mosquitto_connect_bind_v5(link->mosq, "/dev/null/none", 0, keepalive_seconds(link),
                                         NULL, properties);
        mosquitto_property_free_all(&properties);
        code = code == MOSQ_ERR_NOMEM ? code : MOSQ_ERR_SUCCESS;
    }
    return code;
}

bool mr__mqtt_link_open(struct mr_mqtt_link *link, uint64_t now_ns)
{
    MR_ASSERT(link->state == MR_MQTT_LINK_DOWN);
    int code = MOSQ_ERR_SUCCESS;
    link->tls_error[0] = '\0';
    ERR_clear_error();
    if (!link->session_set && mr__mqtt_version(&link->options->peer) == 5) {
        code = set_session(link);
        link->session_set = code == MOSQ_ERR_SUCCESS;
    }
    if (code == MOSQ_ERR_SUCCESS) {
        link->error[0] = '\0';
        link->state = MR_MQTT_LINK_OPENING;
        code = mosquitto_connect_async(link->mosq, link->options->peer.url->host,
                                       mr__mqtt_port(&link->options->peer),
                                       keepalive_seconds(link));
    }
    if (code != MOSQ_ERR_SUCCESS) {
        link->state = MR_MQTT_LINK_DOWN;
        set_error(link, "cannot connect",
                  code == MOSQ_ERR_ERRNO ? strerror(errno) : loss_text(link, code));
        return false;
    }
    link->opened_ns = now_ns;
    link->misc_ns = now_ns;
    return true;
}

struct pollfd mr__mqtt_link_poll(const struct mr_mqtt_link *link, bool read, bool write)
{
    struct pollfd p = {.fd = -1};
    if (link->state != MR_MQTT_LINK_DOWN) {
        p.fd = mosquitto_socket(link->mosq);
        p.events = (short)((read ? POLLIN : 0) | (write ? POLLOUT : 0));
    }
    return p;
}

void mr__mqtt_link_handshake(struct mr_mqtt_link *link, short revents, uint64_t now_ns)
{
    if (now_ns - link->opened_ns > OPEN_TIMEOUT_NS) {
        mr__mqtt_link_close(link, false, "cannot connect: no answer within 15 s");
        return;
    }
    if ((revents & (POLLIN | POLLHUP | POLLERR)) != 0) {
        (void)mr__mqtt_link_read(link);
    }
    if (link->state == MR_MQTT_LINK_OPENING && mosquitto_want_write(link->mosq)) {
        (void)mr__mqtt_link_flush(link, now_ns);
    }
    if (link->state == MR_MQTT_LINK_OPENING && link->error[0] != '\0') {
        mr__mqtt_link_close(link, false, NULL); /* CONNACK with a refusal */
    }
    if (link->state == MR_MQTT_LINK_UP) {
        link->opened_ns = now_ns;
    }
}

/* --- reading and writing ---------------------------------------------------------------------- */

static void lose(struct mr_mqtt_link *link, int code)
{
    if (link->state == MR_MQTT_LINK_DOWN) {
        return; /* on_disconnect said why */
    }
    set_error(link, link->state == MR_MQTT_LINK_UP ? "connection lost" : "cannot connect",
              loss_text(link, code));
    mr__mqtt_link_close(link, false, NULL);
}

bool mr__mqtt_link_read(struct mr_mqtt_link *link)
{
    uint64_t before = link->received;
    errno = 0;
    int code = mosquitto_loop_read(link->mosq, 1);
    int error = errno;
    if (code != MOSQ_ERR_SUCCESS) {
        lose(link, code); /* some failures come without the callback */
        return false;
    }
    /* errno alone does not tell: a full wake-up pipe of the library leaves EAGAIN there too. */
    return link->state != MR_MQTT_LINK_DOWN && (link->received != before || error != EAGAIN);
}

bool mr__mqtt_link_wants_flush(const struct mr_mqtt_link *link)
{
    return link->state == MR_MQTT_LINK_UP &&
           (link->resubscribe || mosquitto_want_write(link->mosq));
}

static void set_cork(int fd, int on)
{
    if (fd >= 0) { /* one segment for a group of PUBACKs; without it they are only slower */
        (void)setsockopt(fd, IPPROTO_TCP, TCP_CORK, &on, sizeof(on));
    }
}

static void queue_subscriptions(struct mr_mqtt_link *link, uint64_t now_ns)
{
    /* Quality of service 2 is not asked for: this library sends the PUBREC, with which the broker
     * forgets the payload, before it shows the message (docs/decisions/001-mqtt-libraries.md). */
    int qos = link->options->qos > 0 ? 1 : 0;
    char *const *filters = link->options->topic != NULL ? (char *const *)&link->options->topic
                                                        : link->options->topics.items;
    int code = mosquitto_subscribe_multiple(link->mosq, NULL, (int)filter_count(link->options),
                                            filters, qos, 0, NULL);
    if (code != MOSQ_ERR_SUCCESS) {
        set_error(link, "cannot subscribe", mosquitto_strerror(code));
    }
    link->resubscribe = false;
    link->subscribe_ns = now_ns;
}

bool mr__mqtt_link_flush(struct mr_mqtt_link *link, uint64_t now_ns)
{
    if (link->state == MR_MQTT_LINK_UP && link->resubscribe) {
        queue_subscriptions(link, now_ns);
    }
    int fd = mosquitto_socket(link->mosq);
    set_cork(fd, 1);
    int code = mosquitto_loop_write(link->mosq, 1);
    if (code == MOSQ_ERR_SUCCESS) {
        set_cork(mosquitto_socket(link->mosq), 0);
    } else {
        lose(link, code);
    }
    return link->state == MR_MQTT_LINK_DOWN || !mosquitto_want_write(link->mosq);
}

void mr__mqtt_link_tick(struct mr_mqtt_link *link, uint64_t now_ns)
{
    if (link->state == MR_MQTT_LINK_DOWN || now_ns - link->misc_ns < MR_SECOND) {
        return;
    }
    link->misc_ns = now_ns;
    int code = mosquitto_loop_misc(link->mosq);
    if (code != MOSQ_ERR_SUCCESS) {
        lose(link, code);
        return;
    }
    if (link->state == MR_MQTT_LINK_UP && link->error[0] != '\0' &&
        now_ns - link->subscribe_ns > RESUBSCRIBE_NS) {
        link->resubscribe = true; /* a refused subscription may be granted by now */
    }
}

/* Sends DISCONNECT and waits a moment for the broker to hang up. The library closes the socket at
 * once; closed with messages unread, the kernel would send a reset, which can overtake the PUBACKs
 * on their way. What is read here was never acknowledged and comes again. */
static void disconnect(struct mr_mqtt_link *link)
{
    int fd = fcntl(mosquitto_socket(link->mosq), F_DUPFD_CLOEXEC, 0);
    if (mosquitto_disconnect(link->mosq) == MOSQ_ERR_SUCCESS) {
        (void)mosquitto_loop_write(link->mosq, 1); /* best effort: the session stays anyway */
    }
    if (fd < 0) {
        return;
    }
    (void)shutdown(fd, SHUT_WR);
    uint64_t until_ns = mr_clock_mono_ns() + LINGER_NS;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char rest[16384];
    while (mr_clock_mono_ns() < until_ns && poll(&p, 1, (int)(LINGER_NS / MR_MS)) > 0 &&
           recv(fd, rest, sizeof(rest), MSG_DONTWAIT) > 0) {
    }
    (void)close(fd);
}

void mr__mqtt_link_close(struct mr_mqtt_link *link, bool polite, const char *reason)
{
    if (reason != NULL) {
        set_error(link, reason, "");
    }
    if (link->state == MR_MQTT_LINK_UP && polite) {
        char error[sizeof(link->error)]; /* the callback will call it a loss */
        memcpy(error, link->error, sizeof(error));
        disconnect(link);
        memcpy(link->error, error, sizeof(error));
    }
    int fd = mosquitto_socket(link->mosq);
    if (fd >= 0) {
        (void)shutdown(fd, SHUT_RDWR); /* the descriptor is closed by the next open or release */
    }
    link->state = MR_MQTT_LINK_DOWN;
}
