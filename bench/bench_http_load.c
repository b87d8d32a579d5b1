/* Posts CloudEvents of 1 KiB over keep-alive connections.
 *
 *     bench_http_load PORT PATH [--connections 64] [--count 100000] [--batch 1] [--rate 0]
 *         [--keys 0]
 *
 * With --rate it is an open loop: event i is due at start + i / rate whatever happened to the ones
 * before, and carries that time as its `sentns` attribute, so a stall counts for all it delays.
 * Without, each connection sends as soon as it has its answer. With --keys each event carries one
 * of so many, in turn, as its `key` attribute. Batches are of JSON format. Prints one JSON line. */
#include "bench/util.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define NAME "bench_http_load"
#define CONNECTIONS_MAX 4096u
#define BATCH_MAX 1000u
#define ANSWER_MAX (128u * 1024u) /* of a batch: each event's id and offset */
#define NUMBER_WIDTH 20 /* digits of a number that is patched into a request */

struct request {
    char *data;
    size_t size;
    size_t ids[BATCH_MAX]; /* where the id of each event stands */
    size_t sent_at;        /* where the time stands; 0: nowhere */
    size_t keys[BATCH_MAX]; /* where their keys stand; 0: nowhere */
};

struct connection {
    int fd;
    bool busy;
    size_t written; /* of the request */
    size_t read;    /* of the answer, in in[] */
    struct request request;
    char in[ANSWER_MAX];
};

static struct connection *connections;
static unsigned free_list[CONNECTIONS_MAX];
static unsigned free_count;
static uint64_t batch;
static uint64_t keys;
static uint64_t posted;
static uint64_t accepted;
static uint64_t refused;

static void put_number(char *at, uint64_t value)
{
    for (int i = NUMBER_WIDTH; i-- > 0; value /= 10) {
        at[i] = (char)('0' + value % 10);
    }
}

static void append(struct request *r, const char *text, size_t size)
{
    memcpy(r->data + r->size, text, size);
    r->size += size;
}

static void append_text(struct request *r, const char *text)
{
    append(r, text, strlen(text));
}

static void append_number(struct request *r, size_t *ret_at)
{
    *ret_at = r->size;
    memset(r->data + r->size, '0', NUMBER_WIDTH);
    r->size += NUMBER_WIDTH;
}

static void append_data(struct request *r)
{
    char data[BENCH_EVENT_SIZE];
    memset(data, 'x', sizeof(data));
    memcpy(data, "{\"text\":\"", 9);
    memcpy(data + sizeof(data) - 2, "\"}", 2);
    append(r, data, sizeof(data));
}

static void build_batch(struct request *r, const char *path)
{
    struct request body = {.data = malloc(batch * 2048 + 64)};
    if (body.data == NULL) {
        bench_die(NAME, "no memory");
    }
    for (uint64_t i = 0; i < batch; i++) {
        append_text(&body, i == 0 ? "[" : ",");
        append_text(&body, "{\"specversion\":\"1.0\",\"type\":\"com.example.bench\",\"source\":"
                           "\"/bench\",\"id\":\"");
        append_number(&body, &r->ids[i]);
        if (keys > 0) {
            append_text(&body, "\",\"key\":\"");
            append_number(&body, &r->keys[i]);
        }
        append_text(&body, "\",\"datacontenttype\":\"application/json\",\"data\":");
        append_data(&body);
        append_text(&body, "}");
    }
    append_text(&body, "]");
    int n = snprintf(r->data, 1024,
                     "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
                     "application/cloudevents-batch+json\r\nContent-Length: %zu\r\n\r\n",
                     path, body.size);
    r->size = (size_t)n;
    for (uint64_t i = 0; i < batch; i++) {
        r->ids[i] += r->size;
        r->keys[i] += keys > 0 ? r->size : 0;
    }
    append(r, body.data, body.size);
    free(body.data);
}

static void build_single(struct request *r, const char *path)
{
    int n = snprintf(r->data, 1024,
                     "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                     "Content-Length: %u\r\nce-specversion: 1.0\r\nce-type: com.example.bench\r\n"
                     "ce-source: /bench\r\nce-id: ",
                     path, BENCH_EVENT_SIZE);
    r->size = (size_t)n;
    append_number(r, &r->ids[0]);
    append_text(r, "\r\nce-sentns: ");
    append_number(r, &r->sent_at);
    if (keys > 0) {
        append_text(r, "\r\nce-key: ");
        append_number(r, &r->keys[0]);
    }
    append_text(r, "\r\n\r\n");
    append_data(r);
}

static void finish(struct connection *c, unsigned index)
{
    c->busy = false;
    c->read = 0;
    free_list[free_count++] = index;
}

static void write_some(struct connection *c)
{
    while (c->written < c->request.size) {
        ssize_t n = send(c->fd, c->request.data + c->written, c->request.size - c->written,
                         MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            return;
        }
        if (n <= 0) {
            bench_die(NAME, "the server closed a connection");
        }
        c->written += (size_t)n;
    }
}

static void begin(uint64_t due_ns)
{
    struct connection *c = &connections[free_list[--free_count]];
    for (uint64_t i = 0; i < batch; i++) {
        if (keys > 0) {
            put_number(c->request.data + c->request.keys[i], posted % keys);
        }
        put_number(c->request.data + c->request.ids[i], posted++);
    }
    if (c->request.sent_at != 0) {
        put_number(c->request.data + c->request.sent_at, due_ns);
    }
    c->busy = true;
    c->written = 0;
    write_some(c);
}

static void read_answer(unsigned index)
{
    struct connection *c = &connections[index];
    ssize_t n = recv(c->fd, c->in + c->read, sizeof(c->in) - 1 - c->read, 0);
    if (n <= 0) {
        if (n < 0 && errno == EAGAIN) {
            return;
        }
        bench_die(NAME, "the server closed a connection");
    }
    c->read += (size_t)n;
    c->in[c->read] = '\0';
    char *end = strstr(c->in, "\r\n\r\n");
    if (end == NULL) {
        return;
    }
    const char *length = strcasestr(c->in, "\ncontent-length:");
    size_t body = length == NULL || length > end ? 0 : strtoull(length + 16, NULL, 10);
    size_t have = c->read - (size_t)(end + 4 - c->in);
    if (have < body) {
        if (c->read + 1 == sizeof(c->in)) {
            bench_die(NAME, "an answer is too long");
        }
        return;
    }
    if (c->in[9] == '2') {
        accepted += batch;
    } else {
        refused += batch;
    }
    finish(c, index);
}

static void open_connections(unsigned count, uint16_t port, const char *path, int epoll)
{
    connections = calloc(count, sizeof(*connections));
    for (unsigned i = 0; connections != NULL && i < count; i++) {
        struct connection *c = &connections[i];
        c->fd = bench_connect(port);
        c->request.data = malloc(batch * 2048 + 4096);
        struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.u32 = i};
        if (c->fd < 0 || c->request.data == NULL ||
            epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &e) != 0) {
            bench_die(NAME, "cannot connect");
        }
        if (batch > 1) {
            build_batch(&c->request, path);
        } else {
            build_single(&c->request, path);
        }
        free_list[free_count++] = i;
    }
}

static void turn(int epoll, uint64_t wait_ns)
{
    struct epoll_event events[256];
    struct timespec timeout = {.tv_sec = (time_t)(wait_ns / 1000000000u),
                               .tv_nsec = (long)(wait_ns % 1000000000u)};
    int n = epoll_pwait2(epoll, events, 256, &timeout, NULL);
    for (int i = 0; i < n; i++) {
        struct connection *c = &connections[events[i].data.u32];
        if (c->busy && c->written < c->request.size) {
            write_some(c);
        }
        if (c->busy && (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
            read_answer(events[i].data.u32);
        }
    }
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        bench_die(NAME, "PORT PATH [--connections N] [--count N] [--batch N] [--rate N] "
                        "[--keys N]");
    }
    uint64_t count = bench_option(argc, argv, "--count", 100000);
    uint64_t rate = bench_option(argc, argv, "--rate", 0);
    uint64_t wanted = bench_option(argc, argv, "--connections", 64);
    batch = bench_option(argc, argv, "--batch", 1);
    keys = bench_option(argc, argv, "--keys", 0);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0 || wanted == 0 || wanted > CONNECTIONS_MAX || batch == 0 || batch > BATCH_MAX) {
        bench_die(NAME, "too many connections, or too large a batch");
    }
    (void)prctl(PR_SET_TIMERSLACK, 1000); /* coarser, if it fails */
    open_connections((unsigned)wanted, (uint16_t)strtoul(argv[1], NULL, 10), argv[2], epoll);
    uint64_t start = bench_now_ns();
    while (accepted + refused < count) {
        uint64_t wait = 1000000000;
        while (posted < count && free_count > 0) {
            uint64_t now = bench_now_ns();
            uint64_t due = rate == 0 ? now : start + posted * 1000000000u / rate;
            if (due > now) {
                wait = due - now;
                break;
            }
            begin(due);
        }
        turn(epoll, wait);
    }
    double seconds = (double)(bench_now_ns() - start) / 1e9;
    printf("{\"accepted\":%llu,\"refused\":%llu,\"seconds\":%.6f,\"start_ns\":%llu}\n",
           (unsigned long long)accepted, (unsigned long long)refused, seconds,
           (unsigned long long)start);
    return 0;
}
