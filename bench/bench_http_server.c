/* An HTTP worker that does nothing, as fast as one thread can: answers 204 to every POST.
 *
 * It measures what only a worker sees: when an event arrives against the time in its `ce-sentns`
 * attribute, and the time between its answer and the next request (of interest with one delivery
 * at a time). GET /stats tells, GET /reset forgets, GET /hang and /answer switch whether POSTs are
 * answered; after GET /poison those whose `ce-key` is 0 are answered 500 and not timed. Prints its
 * port. */
#include "bench/util.h"

#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define NAME "bench_http_server"
#define CONNECTIONS_MAX 4096
#define REQUEST_MAX (64u * 1024u)
#define BUCKETS 200000u /* of a microsecond; what takes longer counts in the last one */
#define EVENTS_MAX 256

struct histogram {
    uint32_t counts[BUCKETS];
    uint64_t count;
};

struct connection {
    size_t size;
    char data[REQUEST_MAX];
};

static struct connection *connections[CONNECTIONS_MAX];
static struct histogram latency;
static struct histogram gap;
static uint64_t posts;
static uint64_t first_ns;
static uint64_t last_ns;
static uint64_t answered_ns;
static bool hang;
static bool poison;

static void histogram_add(struct histogram *h, uint64_t ns)
{
    uint64_t us = ns / 1000;
    h->counts[us < BUCKETS ? us : BUCKETS - 1]++;
    h->count++;
}

static unsigned histogram_at(const struct histogram *h, double share)
{
    uint64_t want = (uint64_t)((double)h->count * share);
    uint64_t seen = 0;
    for (unsigned i = 0; i < BUCKETS; i++) {
        seen += h->counts[i];
        if (seen > want) {
            return i;
        }
    }
    return 0;
}

static void send_all(int fd, const char *text, size_t size)
{
    if (send(fd, text, size, MSG_NOSIGNAL) != (ssize_t)size) {
        (void)shutdown(fd, SHUT_RDWR); /* a client that does not read: it sees the end */
    }
}

static void send_stats(int fd)
{
    char body[512];
    int n = snprintf(body, sizeof(body),
                     "{\"posts\":%llu,\"seconds\":%.6f,\"last_ns\":%llu,\"p50\":%u,\"p99\":%u,"
                     "\"p999\":%u,\"timed\":%llu,\"gap_p50\":%u,\"gap_p99\":%u}",
                     (unsigned long long)posts, (double)(last_ns - first_ns) / 1e9,
                     (unsigned long long)last_ns, histogram_at(&latency, 0.5),
                     histogram_at(&latency, 0.99), histogram_at(&latency, 0.999),
                     (unsigned long long)latency.count, histogram_at(&gap, 0.5),
                     histogram_at(&gap, 0.99));
    char out[1024];
    n = snprintf(out, sizeof(out), "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", n, body);
    send_all(fd, out, (size_t)n);
}

static void answer_get(int fd, const char *path)
{
    if (strncmp(path, "/stats", 6) == 0) {
        send_stats(fd);
        return;
    }
    if (strncmp(path, "/reset", 6) == 0) {
        memset(&latency, 0, sizeof(latency));
        memset(&gap, 0, sizeof(gap));
        posts = 0;
        first_ns = 0;
        last_ns = 0;
        answered_ns = 0;
    } else if (strncmp(path, "/hang", 5) == 0 || strncmp(path, "/answer", 7) == 0) {
        hang = path[1] == 'h';
    } else if (strncmp(path, "/poison", 7) == 0) {
        poison = true;
    }
    static const char ok[] = "HTTP/1.1 204 No Content\r\n\r\n";
    send_all(fd, ok, sizeof(ok) - 1);
}

/* The number behind "NAME:" in a head that ends with a NUL, or 0. */
static uint64_t header_number(const char *head, const char *name)
{
    const char *at = strcasestr(head, name);
    return at == NULL ? 0 : strtoull(at + strlen(name), NULL, 10);
}

static void take_post(int fd, const char *head)
{
    uint64_t now = bench_now_ns();
    uint64_t sent = header_number(head, "\nce-sentns: ");
    const char *key = poison ? strcasestr(head, "\nce-key: ") : NULL;
    if (key != NULL && strtoull(key + 9, NULL, 10) == 0) {
        static const char failed[] =
            "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n";
        send_all(fd, failed, sizeof(failed) - 1);
        return;
    }
    posts++;
    first_ns = first_ns == 0 ? now : first_ns;
    last_ns = now;
    if (sent != 0) {
        histogram_add(&latency, now > sent ? now - sent : 0);
    }
    if (answered_ns != 0) {
        histogram_add(&gap, now - answered_ns);
    }
    if (!hang) {
        static const char done[] = "HTTP/1.1 204 No Content\r\n\r\n";
        send_all(fd, done, sizeof(done) - 1);
        answered_ns = bench_now_ns();
    }
}

/* @return the bytes of one whole request at the start of the buffer, 0 when it is not whole */
static size_t take_request(int fd, struct connection *c)
{
    char *end = memmem(c->data, c->size, "\r\n\r\n", 4);
    if (end == NULL) {
        return 0;
    }
    *end = '\0';
    size_t head = (size_t)(end - c->data) + 4;
    size_t whole = head + (size_t)header_number(c->data, "\ncontent-length: ");
    if (whole > c->size) {
        *end = '\r';
        return 0;
    }
    if (strncmp(c->data, "GET ", 4) == 0) {
        answer_get(fd, c->data + 4);
    } else {
        take_post(fd, c->data);
    }
    return whole;
}

static void serve(int fd)
{
    struct connection *c = connections[fd];
    ssize_t n = recv(fd, c->data + c->size, sizeof(c->data) - c->size, 0);
    if (n <= 0 || c->size + (size_t)n == sizeof(c->data)) {
        close(fd);
        return;
    }
    c->size += (size_t)n;
    size_t used;
    while ((used = take_request(fd, c)) > 0) {
        c->size -= used;
        memmove(c->data, c->data + used, c->size);
    }
}

static void accept_all(int listener, int epoll)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        if (fd >= CONNECTIONS_MAX) {
            bench_die(NAME, "too many connections");
        }
        if (connections[fd] == NULL) {
            connections[fd] = malloc(sizeof(struct connection));
        }
        struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
        if (connections[fd] == NULL || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) != 0) {
            bench_die(NAME, "no memory");
        }
        connections[fd]->size = 0;
    }
}

int main(void)
{
    uint16_t port;
    int listener = bench_listen(&port);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event e = {.events = EPOLLIN, .data.fd = listener};
    if (listener < 0 || epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &e) != 0) {
        bench_die(NAME, "cannot listen");
    }
    printf("%u\n", (unsigned)port);
    (void)fflush(stdout);
    for (;;) {
        struct epoll_event events[EVENTS_MAX];
        int n = epoll_wait(epoll, events, EVENTS_MAX, -1);
        for (int i = 0; i < n; i++) {
            if (events[i].data.fd == listener) {
                accept_all(listener, epoll);
            } else {
                serve(events[i].data.fd);
            }
        }
    }
}
