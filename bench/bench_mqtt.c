/* The two ends of an MQTT measurement.
 *
 *     bench_mqtt pub PORT TOPIC COUNT [--window 1000]   QoS 1 over a bare socket (3.1.1), 1 KiB
 *     bench_mqtt sub PORT TOPIC COUNT                   libmosquitto alone: what a client can reach
 *
 * `sub` prints "ready" when it is subscribed. Both print CLOCK_MONOTONIC of their first and last
 * message as one JSON line. */
#include "bench/util.h"

#include <errno.h>
#include <mosquitto.h>
#include <poll.h>
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

static void print_times(void)
{
    printf("{\"first_ns\":%llu,\"last_ns\":%llu}\n", (unsigned long long)first_ns,
           (unsigned long long)last_ns);
}

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
    memset(p, 'x', BENCH_EVENT_SIZE);
    memcpy(p, "{\"text\":\"", 9);
    memcpy(p + BENCH_EVENT_SIZE - 2, "\"}", 2);
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
    print_times();
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
    print_times();
}

int main(int argc, char **argv)
{
    if (argc < 5 || strlen(argv[3]) > TOPIC_MAX) {
        bench_die(NAME, "pub|sub PORT TOPIC COUNT [--window N]");
    }
    uint16_t port = (uint16_t)strtoul(argv[2], NULL, 10);
    topic = argv[3];
    wanted = strtoull(argv[4], NULL, 10);
    if (strcmp(argv[1], "pub") == 0) {
        publish(port, bench_option(argc, argv, "--window", 1000));
    } else {
        subscribe(port);
    }
    return 0;
}
