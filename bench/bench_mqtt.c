/* The two ends of an MQTT measurement.
 *
 *     bench_mqtt pub PORT TOPIC COUNT [--window 1000]   QoS 1 over a bare socket (3.1.1), 1 KiB
 *     bench_mqtt sub PORT TOPIC COUNT                   libmosquitto alone: what a client can reach
 *     bench_mqtt send PORT TOPIC COUNT [--window 500]   paho.mqtt.c alone: QoS 1, MQTT 5, one event
 *                                                       each in binary mode
 *
 * `sub` prints "ready" when it is subscribed. All print CLOCK_MONOTONIC of their first and last
 * message and the processor time they took as one JSON line. */
#include "bench/util.h"

#include <MQTTAsync.h>
#include <errno.h>
#include <mosquitto.h>
#include <poll.h>
#include <semaphore.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define NAME "bench_mqtt"
#define TOPIC_MAX 100u
#define PACKET_MAX (BENCH_EVENT_SIZE + TOPIC_MAX + 16u)
#define PACKETS_AT_ONCE 64u

static uint64_t first_ns;
static uint64_t last_ns;
static uint64_t seen;
static uint64_t wanted;
static const char *topic;

static void write_all(int fd, const uint8_t *data, size_t size)
{
    while (size > 0) {
        ssize_t n = send(fd, data, size, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            struct pollfd p = {.fd = fd, .events = POLLOUT};
            (void)poll(&p, 1, -1); /* EINTR: tried again */
            continue;
        }
        if (n <= 0) {
            bench_die(NAME, "the broker closed the connection");
        }
        data += n;
        size -= (size_t)n;
    }
}

/* @return bytes read, at least one */
static size_t read_some(int fd, uint8_t *data, size_t size)
{
    for (;;) {
        ssize_t n = recv(fd, data, size, 0);
        if (n > 0) {
            return (size_t)n;
        }
        if (n == 0 || errno != EAGAIN) {
            bench_die(NAME, "the broker closed the connection");
        }
        struct pollfd p = {.fd = fd, .events = POLLIN};
        (void)poll(&p, 1, -1); /* EINTR: tried again */
    }
}

static void connect_broker(int fd)
{
    static const uint8_t packet[] = {0x10, 21,  0,   4,   'M', 'Q', 'T', 'T', 4,   2,   0,  0,
                                     0,    9,   'b', 'e', 'n', 'c', 'h', '-', 'p', 'u', 'b'};
    uint8_t answer[4];
    write_all(fd, packet, sizeof(packet));
    for (size_t have = 0; have < sizeof(answer);) {
        have += read_some(fd, answer + have, sizeof(answer) - have);
    }
    if (answer[0] != 0x20 || answer[3] != 0) {
        bench_die(NAME, "the broker refused the connection");
    }
}

static void fill_payload(uint8_t *at)
{
    memset(at, 'x', BENCH_EVENT_SIZE);
    memcpy(at, "{\"text\":\"", 9);
    memcpy(at + BENCH_EVENT_SIZE - 2, "\"}", 2);
}

static size_t build_publish(uint8_t *at, uint16_t packet_id)
{
    size_t topic_size = strlen(topic);
    size_t rest = 2 + topic_size + 2 + BENCH_EVENT_SIZE; /* below 16384: two bytes of length */
    uint8_t *p = at;
    *p++ = 0x32;
    *p++ = (uint8_t)(rest % 128 | 128);
    *p++ = (uint8_t)(rest / 128);
    *p++ = 0;
    *p++ = (uint8_t)topic_size;
    memcpy(p, topic, topic_size);
    p += topic_size;
    *p++ = (uint8_t)(packet_id >> 8);
    *p++ = (uint8_t)packet_id;
    fill_payload(p);
    return (size_t)(p + BENCH_EVENT_SIZE - at);
}

static void publish(uint16_t port, uint64_t window)
{
    static uint8_t out[PACKETS_AT_ONCE * PACKET_MAX];
    uint8_t in[4096];
    int fd = bench_connect(port);
    if (fd < 0) {
        bench_die(NAME, "cannot connect");
    }
    connect_broker(fd);
    uint64_t sent = 0;
    uint64_t bytes = 0; /* of PUBACKs, four each */
    first_ns = bench_now_ns();
    while (bytes / 4 < wanted) {
        size_t size = 0;
        uint64_t room = window - (sent - bytes / 4);
        for (uint64_t i = 0; i < PACKETS_AT_ONCE && i < room && sent < wanted; i++, sent++) {
            size += build_publish(out + size, (uint16_t)(sent % 65535 + 1));
        }
        write_all(fd, out, size);
        ssize_t n = recv(fd, in, sizeof(in), 0);
        if (n > 0) {
            bytes += (uint64_t)n;
        } else if (sent - bytes / 4 >= window || sent == wanted) {
            bytes += read_some(fd, in, sizeof(in));
        }
    }
    last_ns = bench_now_ns();
    close(fd);
    bench_print_times(first_ns, last_ns);
}

static void on_subscribe(struct mosquitto *m, void *user, int mid, int count, const int *granted)
{
    (void)m, (void)user, (void)mid, (void)count, (void)granted;
    puts("ready");
    (void)fflush(stdout);
}

static void on_connect(struct mosquitto *m, void *user, int code)
{
    (void)user;
    if (code != 0 || mosquitto_subscribe(m, NULL, topic, 1) != MOSQ_ERR_SUCCESS) {
        bench_die(NAME, "cannot subscribe");
    }
}

static void on_message(struct mosquitto *m, void *user, const struct mosquitto_message *message)
{
    (void)user, (void)message;
    last_ns = bench_now_ns();
    first_ns = first_ns == 0 ? last_ns : first_ns;
    if (++seen == wanted) {
        (void)mosquitto_disconnect(m); /* the loop ends either way */
    }
}

static void subscribe(uint16_t port)
{
    (void)mosquitto_lib_init(); /* always succeeds, says its manual */
    struct mosquitto *m = mosquitto_new("bench-sub", true, NULL);
    if (m == NULL) {
        bench_die(NAME, "no memory");
    }
    (void)mosquitto_int_option(m, MOSQ_OPT_TCP_NODELAY, 1); /* slower, if it fails */
    (void)mosquitto_int_option(m, MOSQ_OPT_RECEIVE_MAXIMUM, 1000);
    mosquitto_connect_callback_set(m, on_connect);
    mosquitto_subscribe_callback_set(m, on_subscribe);
    mosquitto_message_callback_set(m, on_message);
    if (mosquitto_connect(m, "127.0.0.1", port, 60) != MOSQ_ERR_SUCCESS) {
        bench_die(NAME, "cannot connect");
    }
    while (seen < wanted && mosquitto_loop(m, -1, 1) == MOSQ_ERR_SUCCESS) {
    }
    mosquitto_destroy(m);
    (void)mosquitto_lib_cleanup();
    if (seen < wanted) {
        bench_die(NAME, "the broker closed the connection");
    }
    bench_print_times(first_ns, last_ns);
}

/* --- paho ------------------------------------------------------------------------------------- */

static sem_t room; /* free places in the window; posted by paho's thread */

static void on_open(void *context, MQTTAsync_successData5 *data)
{
    (void)data;
    (void)sem_post(context);
}

static void on_closed(void *context, MQTTAsync_failureData5 *data)
{
    (void)context, (void)data;
    bench_die(NAME, "the broker refused the connection");
}

static void on_sent(void *context, MQTTAsync_successData5 *data)
{
    (void)context, (void)data;
    (void)sem_post(&room);
}

static void on_unsent(void *context, MQTTAsync_failureData5 *data)
{
    (void)context, (void)data;
    bench_die(NAME, "a message was not taken");
}

static void add_property(MQTTProperties *list, enum MQTTPropertyCodes code, char *name, char *value)
{
    MQTTProperty p = {.identifier = code};
    p.value.data = (MQTTLenString){.len = (int)strlen(name), .data = name};
    p.value.value = (MQTTLenString){.len = (int)strlen(value), .data = value};
    if (MQTTProperties_add(list, &p) != 0) {
        bench_die(NAME, "no memory");
    }
}

static MQTTAsync open_paho(uint16_t port)
{
    char uri[64];
    sem_t opened;
    MQTTAsync handle;
    MQTTAsync_createOptions create = MQTTAsync_createOptions_initializer5;
    MQTTAsync_connectOptions connect = MQTTAsync_connectOptions_initializer5;
    (void)snprintf(uri, sizeof(uri), "tcp://127.0.0.1:%u", port);
    create.maxBufferedMessages = 65535;
    connect.onSuccess5 = on_open;
    connect.onFailure5 = on_closed;
    connect.context = &opened;
    (void)sem_init(&opened, 0, 0);
    if (MQTTAsync_createWithOptions(&handle, uri, "bench-send", MQTTCLIENT_PERSISTENCE_NONE, NULL,
                                    &create) != MQTTASYNC_SUCCESS ||
        MQTTAsync_connect(handle, &connect) != MQTTASYNC_SUCCESS) {
        bench_die(NAME, "cannot connect");
    }
    while (sem_wait(&opened) != 0) {
    }
    return handle;
}

static void send_with_paho(uint16_t port, unsigned window)
{
    static uint8_t payload[BENCH_EVENT_SIZE];
    static char names[][12] = {"specversion", "id", "source", "type"};
    static char values[][24] = {"1.0", "", "/bench", "com.example.bench"};
    char content_type[] = "application/json";
    MQTTAsync handle = open_paho(port);
    fill_payload(payload);
    (void)sem_init(&room, 0, window);
    first_ns = bench_now_ns();
    for (uint64_t i = 0; i < wanted; i++) {
        MQTTAsync_message message = MQTTAsync_message_initializer;
        MQTTAsync_responseOptions response = MQTTAsync_responseOptions_initializer;
        while (sem_wait(&room) != 0) {
        }
        (void)snprintf(values[1], sizeof(values[1]), "%llu", (unsigned long long)i);
        add_property(&message.properties, MQTTPROPERTY_CODE_CONTENT_TYPE, content_type, values[0]);
        for (size_t k = 0; k < 4; k++) {
            add_property(&message.properties, MQTTPROPERTY_CODE_USER_PROPERTY, names[k], values[k]);
        }
        message.payload = payload;
        message.payloadlen = BENCH_EVENT_SIZE;
        message.qos = 1;
        response.onSuccess5 = on_sent;
        response.onFailure5 = on_unsent;
        if (MQTTAsync_sendMessage(handle, topic, &message, &response) != MQTTASYNC_SUCCESS) {
            bench_die(NAME, "cannot send");
        }
        MQTTProperties_free(&message.properties);
    }
    for (unsigned i = 0; i < window; i++) {
        while (sem_wait(&room) != 0) {
        }
    }
    last_ns = bench_now_ns();
    bench_print_times(first_ns, last_ns);
    MQTTAsync_destroy(&handle);
}

int main(int argc, char **argv)
{
    if (argc < 5 || strlen(argv[3]) > TOPIC_MAX) {
        bench_die(NAME, "pub|sub|send PORT TOPIC COUNT [--window N]");
    }
    uint16_t port = (uint16_t)strtoul(argv[2], NULL, 10);
    topic = argv[3];
    wanted = strtoull(argv[4], NULL, 10);
    if (strcmp(argv[1], "pub") == 0) {
        publish(port, bench_option(argc, argv, "--window", 1000));
    } else if (strcmp(argv[1], "send") == 0) {
        send_with_paho(port, (unsigned)bench_option(argc, argv, "--window", 500));
    } else {
        subscribe(port);
    }
    return 0;
}
