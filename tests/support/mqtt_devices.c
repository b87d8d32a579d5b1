/* Many MQTT 3.1.1 devices, each on a connection of its own, publishing one message after another.
 *
 *     mqtt_devices ADDRESS PORT DEVICES MESSAGES [QOS [TOPIC [PAUSE_MS]]]
 *
 * Device d publishes {"n":"TOPIC/d-k"} for k = 0 … to TOPIC/d/temp, the next once the broker has the one
 * before (QoS 1 or 2), and PAUSE_MS later. What the broker did not acknowledge before a connection
 * went is published again on the next one. Prints "acked N" at each tenth, then one JSON line. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum state { DOWN = 0, OPENING, GREETING, WAITING, PUBLISHED, RELEASED, DONE };

struct device {
    int fd;
    enum state state;
    bool again;        /* the message was sent before, on this connection or another */
    bool released;     /* QoS 2: the broker has it, the PUBREL is what is to be repeated */
    uint32_t sent;     /* messages acknowledged */
    uint64_t due_ms;   /* DOWN: connect then; WAITING: publish then */
    uint8_t in[8];
    size_t in_size;
};

static struct device *devices;
static uint32_t device_count;
static uint32_t message_count;
static unsigned qos = 1;
static const char *topic = "plant";
static uint64_t pause_ms;
static struct sockaddr_in broker = {.sin_family = AF_INET};
static int poller;
static uint64_t acked;
static uint64_t reconnects;

static uint64_t now_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static uint32_t index_of(const struct device *d)
{
    return (uint32_t)(d - devices);
}

static void drop(struct device *d)
{
    if (d->fd >= 0) {
        close(d->fd); /* leaves the poller, too */
    }
    d->fd = -1;
    d->in_size = 0;
    reconnects += d->state > OPENING;
    d->state = DOWN;
    d->due_ms = now_ms() + 50 + index_of(d) % 100;
}

static void watch(struct device *d, int how, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.u32 = index_of(d)};
    if (epoll_ctl(poller, how, d->fd, &e) != 0) {
        perror("epoll_ctl");
        exit(1);
    }
}

static void open_device(struct device *d)
{
    int one = 1;
    d->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (d->fd < 0) {
        perror("socket");
        exit(1);
    }
    (void)setsockopt(d->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    d->state = OPENING;
    if (connect(d->fd, (struct sockaddr *)&broker, sizeof(broker)) != 0 && errno != EINPROGRESS) {
        drop(d);
        return;
    }
    watch(d, EPOLL_CTL_ADD, EPOLLOUT);
}

/* Small enough for any socket's buffer with one message outstanding. */
static void put(struct device *d, const uint8_t *bytes, size_t size)
{
    if (send(d->fd, bytes, size, MSG_NOSIGNAL) != (ssize_t)size) {
        drop(d);
    }
}

static void greet(struct device *d)
{
    uint8_t packet[64] = {0x10, 0, 0, 4, 'M', 'Q', 'T', 'T', 4, 0, 0, 60};
    int n = snprintf((char *)packet + 14, sizeof(packet) - 14, "device-%s-%u",
                     strlen(topic) < 20 ? topic : "x", index_of(d));
    packet[13] = (uint8_t)n;
    packet[1] = (uint8_t)(12 + n);
    d->state = GREETING;
    watch(d, EPOLL_CTL_MOD, EPOLLIN);
    put(d, packet, 14 + (size_t)n);
}

static uint16_t packet_id(const struct device *d)
{
    return (uint16_t)(d->sent % 65535 + 1);
}

static void publish(struct device *d)
{
    uint8_t packet[160]; /* below 128 after its head: one byte of length */
    char body[100];
    int t = snprintf(body, 50, "%s/%u/temp", topic, index_of(d));
    uint16_t id = packet_id(d);
    if (d->released) { /* QoS 2, the broker has it: only the release is repeated */
        const uint8_t pubrel[] = {0x62, 2, (uint8_t)(id >> 8), (uint8_t)id};
        d->state = RELEASED;
        put(d, pubrel, sizeof(pubrel));
        return;
    }
    packet[0] = (uint8_t)(0x30 | qos << 1 | (d->again ? 8 : 0));
    packet[2] = 0;
    packet[3] = (uint8_t)t;
    memcpy(packet + 4, body, (size_t)t);
    packet[4 + t] = (uint8_t)(id >> 8);
    packet[5 + t] = (uint8_t)id;
    int n = snprintf(body, 60, "{\"n\":\"%s/%u-%u\"}", topic, index_of(d), d->sent);
    memcpy(packet + 6 + t, body, (size_t)n);
    packet[1] = (uint8_t)(4 + t + n);
    d->again = true;
    d->state = PUBLISHED;
    put(d, packet, (size_t)(6 + t + n));
}

static void finish_message(struct device *d)
{
    uint64_t whole = (uint64_t)device_count * message_count;
    d->again = false;
    d->released = false;
    d->sent++;
    d->state = d->sent == message_count ? DONE : WAITING;
    d->due_ms = now_ms() + pause_ms;
    acked++;
    if (acked * 10 / whole != (acked - 1) * 10 / whole) {
        printf("acked %llu\n", (unsigned long long)acked);
        (void)fflush(stdout);
    }
}

static void take_packet(struct device *d, const uint8_t *p)
{
    if (d->state == GREETING && p[0] == 0x20) {
        if (p[3] != 0) {
            fprintf(stderr, "refused: %u\n", p[3]);
            exit(1);
        }
        d->state = d->sent == message_count ? DONE : WAITING;
        d->due_ms = 0;
        return;
    }
    if ((p[2] << 8 | p[3]) != packet_id(d)) {
        return; /* of a message before, repeated */
    }
    if (d->state == PUBLISHED && p[0] == 0x40) { /* also for QoS 2: the broker took it as 1 */
        finish_message(d);
    } else if (d->state == PUBLISHED && p[0] == 0x50) {
        d->released = true;
        publish(d);
    } else if (d->state == RELEASED && p[0] == 0x70) {
        finish_message(d);
    }
}

/* All packets a broker sends a publisher have four bytes. */
static void take(struct device *d)
{
    for (;;) {
        ssize_t n = recv(d->fd, d->in + d->in_size, 4 - d->in_size, 0);
        if (n < 0 && errno == EAGAIN) {
            return;
        }
        if (n <= 0) {
            drop(d);
            return;
        }
        d->in_size += (size_t)n;
        if (d->in_size == 4) {
            d->in_size = 0;
            take_packet(d, d->in);
            if (d->state == DOWN) {
                return;
            }
        }
    }
}

static void step(struct device *d, uint64_t now)
{
    if (d->state == DOWN && now >= d->due_ms) {
        open_device(d);
    } else if (d->state == WAITING && now >= d->due_ms) {
        publish(d);
    }
}

static void run(void)
{
    struct epoll_event events[256];
    uint64_t whole = (uint64_t)device_count * message_count;
    while (acked < whole) {
        int n = epoll_wait(poller, events, 256, 5);
        for (int i = 0; i < n; i++) {
            struct device *d = &devices[events[i].data.u32];
            if (d->state == OPENING && (events[i].events & (EPOLLERR | EPOLLHUP)) == 0) {
                greet(d);
            } else if (d->state == OPENING) {
                drop(d);
            } else if (d->state != DOWN) {
                take(d);
            }
        }
        uint64_t now = now_ms();
        for (uint32_t i = 0; i < device_count; i++) {
            step(&devices[i], now);
        }
    }
}

int main(int argc, char **argv)
{
    if (argc < 5 || inet_pton(AF_INET, argv[1], &broker.sin_addr) != 1) {
        fputs("mqtt_devices ADDRESS PORT DEVICES MESSAGES [QOS [TOPIC [PAUSE_MS]]]\n", stderr);
        return 2;
    }
    broker.sin_port = htons((uint16_t)strtoul(argv[2], NULL, 10));
    device_count = (uint32_t)strtoul(argv[3], NULL, 10);
    message_count = (uint32_t)strtoul(argv[4], NULL, 10);
    qos = argc > 5 ? (unsigned)strtoul(argv[5], NULL, 10) : 1;
    topic = argc > 6 && strlen(argv[6]) <= 30 ? argv[6] : topic;
    pause_ms = argc > 7 ? strtoul(argv[7], NULL, 10) : 0;
    struct rlimit limit = {.rlim_cur = device_count + 64, .rlim_max = device_count + 64};
    struct rlimit old;
    if (getrlimit(RLIMIT_NOFILE, &old) == 0 && old.rlim_cur < limit.rlim_cur &&
        setrlimit(RLIMIT_NOFILE, &limit) != 0) {
        perror("setrlimit");
        return 1;
    }
    poller = epoll_create1(EPOLL_CLOEXEC);
    devices = calloc(device_count, sizeof(*devices));
    if (devices == NULL || poller < 0 || qos < 1 || qos > 2) {
        return 1;
    }
    for (uint32_t i = 0; i < device_count; i++) {
        devices[i].fd = -1;
    }
    uint64_t begin = now_ms();
    run();
    printf("{\"acked\":%llu,\"reconnects\":%llu,\"ms\":%llu}\n", (unsigned long long)acked,
           (unsigned long long)reconnects, (unsigned long long)(now_ms() - begin));
    free(devices);
    return 0;
}
