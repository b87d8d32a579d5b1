#include "connectors/amqp/link.h"

#include <amqp_ssl_socket.h>
#include <amqp_tcp_socket.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/assert.h"
#include "core/logger.h"

#define CONNECT_S 5
#define HANDSHAKE_S 10
#define RPC_S 10
#define CLOSE_S 2
#define CUT_NS (500 * MR_MS) /* for the owner to see by itself that the deadline is over */
#define FRAME_MAX 131072
#define TLS_CALLBACK_OK 1

enum mr_status mr__amqp_link_init(struct mr_amqp_link *link,
                                  const struct mr_amqp_peer_options *options, const char *kind,
                                  const char *name, struct mr_problem *problem)
{
    *link = (struct mr_amqp_link){.options = options, .fd = -1, .cut_fd = -1};
    enum mr_status r = mr__amqp_vhost(options, link->vhost, problem);
    if (r != MR_OK) {
        return r;
    }
    (void)snprintf(link->name, sizeof(link->name), "millrace %s %s", kind, name);
    (void)pthread_mutex_init(&link->mu, NULL);
    pthread_condattr_t attr;
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&link->over_changed, &attr);
    (void)pthread_condattr_destroy(&attr);
    return MR_OK;
}

void mr__amqp_link_release(struct mr_amqp_link *link)
{
    MR_ASSERT(link->conn == NULL);
    pthread_cond_destroy(&link->over_changed);
    pthread_mutex_destroy(&link->mu);
}

/* --- ends ------------------------------------------------------------------------------------- */

static void drop_cut_fd(struct mr_amqp_link *link)
{
    pthread_mutex_lock(&link->mu);
    if (link->cut_fd >= 0) {
        (void)close(link->cut_fd);
        link->cut_fd = -1;
    }
    pthread_mutex_unlock(&link->mu);
}

void mr__amqp_link_close(struct mr_amqp_link *link, bool polite)
{
    if (link->conn == NULL) {
        return;
    }
    if (polite) {
        const struct timeval wait = {.tv_sec = CLOSE_S};
        (void)amqp_set_rpc_timeout(link->conn, &wait);
        (void)amqp_connection_close(link->conn, AMQP_REPLY_SUCCESS); /* what fails ends it too */
    }
    (void)amqp_destroy_connection(link->conn);
    link->conn = NULL;
    link->fd = -1;
    link->blocked = false;
    drop_cut_fd(link);
}

void mr__amqp_link_fail(struct mr_amqp_link *link, const char *format, ...)
{
    char text[MR_ERROR_TEXT_MAX]; /* what is named in it may lie in the connection's memory */
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    mr_text_clean(link->error, sizeof(link->error), mr_bytes_of(text));
    mr__amqp_link_close(link, false);
}

void mr__amqp_link_over(struct mr_amqp_link *link)
{
    pthread_mutex_lock(&link->mu);
    link->over = true;
    pthread_cond_broadcast(&link->over_changed);
    pthread_mutex_unlock(&link->mu);
}

void mr__amqp_link_await(struct mr_amqp_link *link, uint64_t deadline_mono_ns)
{
    uint64_t until_ns = deadline_mono_ns + CUT_NS;
    const struct timespec until = {.tv_sec = (time_t)(until_ns / MR_SECOND),
                                   .tv_nsec = (long)(until_ns % MR_SECOND)};
    pthread_mutex_lock(&link->mu);
    int r = 0;
    while (!link->over && r == 0) {
        r = pthread_cond_timedwait(&link->over_changed, &link->mu, &until);
    }
    if (!link->over) {
        link->cut = true;
        if (link->cut_fd >= 0) {
            (void)shutdown(link->cut_fd, SHUT_RDWR);
        }
    }
    pthread_mutex_unlock(&link->mu);
}

/* --- what the broker says --------------------------------------------------------------------- */

/* @return the reply code of a channel.close, else 0 */
static uint16_t describe_reply(amqp_rpc_reply_t reply, char *text, size_t size)
{
    if (reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION) {
        (void)snprintf(text, size, "%s",
                       reply.library_error == AMQP_STATUS_TIMEOUT
                           ? "no answer in time"
                           : amqp_error_string2(reply.library_error));
        return 0;
    }
    if (reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION &&
        reply.reply.id == AMQP_CONNECTION_CLOSE_METHOD) {
        const amqp_connection_close_t *m = reply.reply.decoded;
        (void)snprintf(text, size, "%u %.*s", m->reply_code, (int)m->reply_text.len,
                       (const char *)m->reply_text.bytes);
        return 0;
    }
    if (reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION &&
        reply.reply.id == AMQP_CHANNEL_CLOSE_METHOD) {
        const amqp_channel_close_t *m = reply.reply.decoded;
        (void)snprintf(text, size, "%u %.*s", m->reply_code, (int)m->reply_text.len,
                       (const char *)m->reply_text.bytes);
        return m->reply_code;
    }
    (void)snprintf(text, size, "an answer that makes no sense");
    return 0;
}

bool mr__amqp_link_check(struct mr_amqp_link *link, amqp_rpc_reply_t reply, const char *what)
{
    if (reply.reply_type == AMQP_RESPONSE_NORMAL) {
        return true;
    }
    char text[300];
    link->close_code = describe_reply(reply, text, sizeof(text));
    mr__amqp_link_fail(link, "%s: %s", what, text);
    return false;
}

/* A method of channel 0. @return false: the link is closed */
static bool take_connection_method(struct mr_amqp_link *link, const amqp_frame_t *frame)
{
    amqp_method_number_t id = frame->frame_type == AMQP_FRAME_METHOD ? frame->payload.method.id : 0;
    if (id == AMQP_CONNECTION_BLOCKED_METHOD) {
        const amqp_connection_blocked_t *m = frame->payload.method.decoded;
        link->blocked = true;
        MR_WARN("amqp", "conn=\"%s\" the broker takes no messages: %.*s", link->name,
                (int)m->reason.len, (const char *)m->reason.bytes);
    } else if (id == AMQP_CONNECTION_UNBLOCKED_METHOD) {
        link->blocked = false;
        MR_INFO("amqp", "conn=\"%s\" the broker takes messages again", link->name);
    } else if (id == AMQP_CONNECTION_CLOSE_METHOD) {
        const amqp_connection_close_t *m = frame->payload.method.decoded;
        amqp_connection_close_ok_t ok = {0};
        (void)amqp_send_method(link->conn, 0, AMQP_CONNECTION_CLOSE_OK_METHOD, &ok);
        mr__amqp_link_fail(link, "the broker closed the connection: %u %.*s", m->reply_code,
                           (int)m->reply_text.len, (const char *)m->reply_text.bytes);
        return false;
    } else {
        mr__amqp_link_fail(link, "the broker broke the protocol: frame type %u, method %08x on "
                                 "channel 0",
                           frame->frame_type, id);
        return false;
    }
    amqp_maybe_release_buffers_on_channel(link->conn, 0);
    return true;
}

int mr__amqp_link_read(struct mr_amqp_link *link, amqp_frame_t *ret_frame)
{
    MR_ASSERT(link->conn != NULL);
    const struct timeval none = {0};
    for (;;) {
        int status = amqp_simple_wait_frame_noblock(link->conn, ret_frame, &none);
        if (status == AMQP_STATUS_TIMEOUT) {
            return 0;
        }
        if (status != AMQP_STATUS_OK) {
            mr__amqp_link_fail(link, "connection lost: %s", amqp_error_string2(status));
            return -1;
        }
        if (ret_frame->channel == 0) {
            if (!take_connection_method(link, ret_frame)) {
                return -1;
            }
            continue;
        }
        if (ret_frame->channel != MR_AMQP_CHANNEL) {
            mr__amqp_link_fail(link, "the broker broke the protocol: a frame on channel %u",
                               ret_frame->channel);
            return -1;
        }
        if (ret_frame->frame_type == AMQP_FRAME_METHOD &&
            ret_frame->payload.method.id == AMQP_CHANNEL_CLOSE_METHOD) {
            const amqp_channel_close_t *m = ret_frame->payload.method.decoded;
            link->close_code = m->reply_code;
            mr__amqp_link_fail(link, "the broker closed the channel: %u %.*s", m->reply_code,
                               (int)m->reply_text.len, (const char *)m->reply_text.bytes);
            return -1;
        }
        return 1;
    }
}

void mr__amqp_link_recycle(struct mr_amqp_link *link)
{
    amqp_maybe_release_buffers_on_channel(link->conn, MR_AMQP_CHANNEL);
}

bool mr__amqp_link_send(struct mr_amqp_link *link, amqp_method_number_t id, void *method)
{
    int status = amqp_send_method(link->conn, MR_AMQP_CHANNEL, id, method);
    if (status != AMQP_STATUS_OK) {
        mr__amqp_link_fail(link, "connection lost: %s", amqp_error_string2(status));
        return false;
    }
    return true;
}

bool mr__amqp_link_beat(struct mr_amqp_link *link, uint64_t now_ns)
{
    if (link->heartbeat_ns == 0 || now_ns - link->beat_ns < link->heartbeat_ns / 2) {
        return true;
    }
    link->beat_ns = now_ns;
    amqp_frame_t frame = {.frame_type = AMQP_FRAME_HEARTBEAT, .channel = 0};
    int status = amqp_send_frame(link->conn, &frame);
    if (status != AMQP_STATUS_OK) {
        mr__amqp_link_fail(link, "connection lost: %s", amqp_error_string2(status));
        return false;
    }
    return true;
}

int mr__amqp_link_timeout_ms(const struct mr_amqp_link *link)
{
    uint64_t ms = link->heartbeat_ns / 4 / MR_MS;
    return ms == 0 || ms > 1000 ? 1000 : (int)ms;
}

/* --- opening ---------------------------------------------------------------------------------- */

static _Thread_local int verify_error; /* X509_V_…: why the handshake of this thread failed */

static int note_verify(int ok, X509_STORE_CTX *store)
{
    if (ok != TLS_CALLBACK_OK) {
        verify_error = X509_STORE_CTX_get_error(store);
    }
    return ok;
}

static bool is_address(const char *host)
{
    unsigned char bytes[16];
    return inet_pton(AF_INET, host, bytes) == 1 || inet_pton(AF_INET6, host, bytes) == 1;
}

/* The library's own check of the name knows no addresses, so OpenSSL's is used.
 * @return NULL, or what is wrong */
static const char *set_up_tls(const struct mr_amqp_peer_options *o, amqp_socket_t *socket)
{
    SSL_CTX *ctx = amqp_ssl_socket_get_context(socket);
    X509_VERIFY_PARAM *param = SSL_CTX_get0_param(ctx);
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    int named = is_address(o->url->host) ? X509_VERIFY_PARAM_set1_ip_asc(param, o->url->host)
                                         : X509_VERIFY_PARAM_set1_host(param, o->url->host, 0);
    if (named != 1 || SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1) {
        return "TLS cannot be set up";
    }
    amqp_ssl_socket_set_verify_peer(socket, 1);
    amqp_ssl_socket_set_verify_hostname(socket, 0);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, note_verify);
    if (o->tls_ca == NULL) {
        (void)SSL_CTX_set_default_verify_paths(ctx); /* none there: nothing verifies */
    } else if (amqp_ssl_socket_set_cacert(socket, o->tls_ca) != AMQP_STATUS_OK) {
        return "tls_ca: cannot be read, or holds no certificate";
    }
    if (o->tls_cert != NULL &&
        amqp_ssl_socket_set_key(socket, o->tls_cert, o->tls_key) != AMQP_STATUS_OK) {
        return "tls_cert and tls_key: cannot be read, or do not belong together";
    }
    return NULL;
}

static void describe_connect(int status, int number, char *text, size_t size)
{
    if (verify_error != X509_V_OK) {
        (void)snprintf(text, size, "the broker's certificate is refused: %s",
                       X509_verify_cert_error_string(verify_error));
    } else if (status == AMQP_STATUS_TIMEOUT) {
        (void)snprintf(text, size, "no answer within %d s", CONNECT_S);
    } else if (status == AMQP_STATUS_SOCKET_ERROR && number == EINPROGRESS) {
        (void)snprintf(text, size, "nobody answers there (refused, or not reachable)");
    } else if (status == AMQP_STATUS_SOCKET_ERROR && number != 0) {
        (void)snprintf(text, size, "%s", strerror(number));
    } else {
        (void)snprintf(text, size, "%s", amqp_error_string2(status));
    }
}

static bool keep_cut_fd(struct mr_amqp_link *link)
{
    pthread_mutex_lock(&link->mu);
    bool wanted = !link->cut;
    if (wanted) {
        link->cut_fd = fcntl(link->fd, F_DUPFD_CLOEXEC, 3);
    }
    pthread_mutex_unlock(&link->mu);
    return wanted;
}

static bool connect_socket(struct mr_amqp_link *link)
{
    const struct mr_amqp_peer_options *o = link->options;
    bool tls = mr__amqp_is_tls(o);
    amqp_socket_t *socket = tls ? amqp_ssl_socket_new(link->conn) : amqp_tcp_socket_new(link->conn);
    if (socket == NULL) {
        mr__amqp_link_fail(link, "out of memory");
        return false;
    }
    const char *wrong = tls ? set_up_tls(o, socket) : NULL;
    if (wrong != NULL) {
        mr__amqp_link_fail(link, "%s", wrong);
        return false;
    }
    const struct timeval wait = {.tv_sec = CONNECT_S};
    verify_error = X509_V_OK;
    errno = 0;
    int status = amqp_socket_open_noblock(socket, o->url->host, mr__amqp_port(o), &wait);
    if (status != AMQP_STATUS_OK) {
        char text[200];
        describe_connect(status, errno, text, sizeof(text));
        mr__amqp_link_fail(link, "cannot connect to %.100s:%u: %s", o->url->host,
                           mr__amqp_port(o), text);
        return false;
    }
    link->fd = amqp_get_sockfd(link->conn);
    if (!keep_cut_fd(link)) {
        mr__amqp_link_fail(link, "stopped");
        return false;
    }
    return true;
}

static amqp_table_entry_t make_flag(const char *name)
{
    amqp_table_entry_t entry = {.key = amqp_cstring_bytes(name),
                                .value = {.kind = AMQP_FIELD_KIND_BOOLEAN}};
    entry.value.value.boolean = 1;
    return entry;
}

static amqp_rpc_reply_t log_in(struct mr_amqp_link *link, const char *user, const char *password)
{
    /* Without the first a deleted queue is silence. */
    amqp_table_entry_t flags[] = {
        make_flag("consumer_cancel_notify"), make_flag("connection.blocked"),
        make_flag("basic.nack"), make_flag("publisher_confirms"),
        make_flag("authentication_failure_close"),
    };
    amqp_table_entry_t entries[2] = {
        {.key = amqp_cstring_bytes("capabilities"), .value = {.kind = AMQP_FIELD_KIND_TABLE}},
        {.key = amqp_cstring_bytes("connection_name"), .value = {.kind = AMQP_FIELD_KIND_UTF8}},
    };
    entries[0].value.value.table.entries = flags;
    entries[0].value.value.table.num_entries = sizeof(flags) / sizeof(flags[0]);
    entries[1].value.value.bytes = amqp_cstring_bytes(link->name);
    const amqp_table_t properties = {.num_entries = 2, .entries = entries};
    int heartbeat_s = (int)(link->options->heartbeat_ns / MR_SECOND);
    if (link->options->sasl_mechanism == MR_AMQP_SASL_EXTERNAL) {
        /* RabbitMQ reads no identity, and rabbitmq-c cannot send an empty one. */
        return amqp_login_with_properties(link->conn, link->vhost, MR_AMQP_CHANNEL, FRAME_MAX,
                                          heartbeat_s, &properties, AMQP_SASL_METHOD_EXTERNAL,
                                          "certificate");
    }
    return amqp_login_with_properties(link->conn, link->vhost, MR_AMQP_CHANNEL, FRAME_MAX,
                                      heartbeat_s, &properties, AMQP_SASL_METHOD_PLAIN, user,
                                      password);
}

static bool authenticate(struct mr_amqp_link *link)
{
    const struct mr_amqp_peer_options *o = link->options;
    const struct timeval handshake = {.tv_sec = HANDSHAKE_S};
    const struct timeval rpc = {.tv_sec = RPC_S};
    (void)amqp_set_handshake_timeout(link->conn, &handshake);
    (void)amqp_set_rpc_timeout(link->conn, &rpc);
    const char *user = o->user != NULL ? o->user : o->url->user;
    const struct mr_secret *secret = o->password != NULL ? o->password : o->url->password;
    struct mr_bytes bytes =
        secret != NULL ? mr_secret_use(secret) : MR_BYTES_LITERAL("guest"); /* the usual default */
    char *password = mr_calloc(1, bytes.size + 1);
    if (password == NULL) {
        mr__amqp_link_fail(link, "out of memory");
        return false;
    }
    memcpy(password, bytes.data, bytes.size);
    amqp_rpc_reply_t reply = log_in(link, user == NULL ? "guest" : user, password);
    explicit_bzero(password, bytes.size);
    mr_free(password);
    return mr__amqp_link_check(link, reply, "the broker refuses the connection");
}

static void set_socket_options(const struct mr_amqp_link *link)
{
    int one = 1;
    unsigned limit_ms = (unsigned)(2 * link->heartbeat_ns / MR_MS);
    /* Both only shorten the wait for a peer that is away; heartbeats find it out as well. */
    (void)setsockopt(link->fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
    (void)setsockopt(link->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &limit_ms, sizeof(limit_ms));
}

bool mr__amqp_link_open(struct mr_amqp_link *link)
{
    MR_ASSERT(link->conn == NULL);
    link->error[0] = '\0';
    link->close_code = 0;
    link->blocked = false;
    link->opened_ns = mr_clock_mono_ns();
    link->beat_ns = link->opened_ns;
    link->conn = amqp_new_connection();
    if (link->conn == NULL) {
        (void)snprintf(link->error, sizeof(link->error), "out of memory");
        return false;
    }
    if (!connect_socket(link) || !authenticate(link)) {
        return false;
    }
    link->heartbeat_ns = (uint64_t)(uint32_t)amqp_get_heartbeat(link->conn) * MR_SECOND;
    link->frame_max = (uint32_t)amqp_get_frame_max(link->conn);
    set_socket_options(link);
    amqp_channel_open(link->conn, MR_AMQP_CHANNEL);
    if (!mr__amqp_link_check(link, amqp_get_rpc_reply(link->conn), "no channel")) {
        return false;
    }
    amqp_maybe_release_buffers(link->conn);
    return true;
}
