/* The bus in process, on a real disk: append, and append to settled with a no-op target.
 *
 * One thread is core and producer, a second one writes; at most --outstanding events wait for the
 * disk. Beside it, in the same run: a bare loop of durable writes of the groups' mean size, the
 * most this disk gives. Prints JSON lines {"name","value","unit"}. */
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bus/bus.h"
#include "core/alloc.h"

#define EVENT_DATA_SIZE 900u /* with its attributes about 1 KiB */

struct driver {
    struct mr_io *io;
    struct mr_bus *bus;
    struct mr_opq inbox;
    struct mr_opq writer;
    struct mr_opq background;
    _Atomic bool stop;
    uint64_t acked;
    uint64_t in_flight_batches;
    struct mr_handout *handouts;
    uint64_t handed;
    uint64_t settled;
};

static void die(const char *what)
{
    fprintf(stderr, "bench_log: %s\n", what);
    exit(1);
}

static void port_io(void *context, struct mr_log_request *request)
{
    struct driver *d = context;
    request->op.next = NULL;
    bool hot = request->kind == MR_LOG_WRITE || request->kind == MR_LOG_SYNC;
    if (mr_opq_push(hot ? &d->writer : &d->background, &request->op) != MR_OK) {
        die("queue");
    }
}

static void port_handout(void *context, struct mr_handout *handout)
{
    struct driver *d = context;
    handout->op.next = d->handouts == NULL ? NULL : &d->handouts->op;
    d->handouts = handout;
    d->handed++;
}

static void port_cancel(void *context, uint32_t target, uint32_t subscription, uint64_t offset,
                        uint32_t fence)
{
    (void)context, (void)target, (void)subscription, (void)offset, (void)fence;
}

static void port_batch_done(void *context, struct mr_batch *batch)
{
    struct driver *d = context;
    if (batch->result != MR_OK) {
        fprintf(stderr, "bench_log: batch: %s\n", mr_status_text(batch->result));
        exit(1);
    }
    d->acked += batch->count;
    d->in_flight_batches--;
    mr_batch_destroy(batch);
}

static void port_demand(void *context, uint32_t target, uint64_t queued, uint64_t age)
{
    (void)context, (void)target, (void)queued, (void)age;
}

static void port_slow(void *context, bool slow)
{
    (void)context;
    if (slow) {
        die("the disk is short");
    }
}

static void port_alarm(void *context, const char *text)
{
    (void)context;
    fprintf(stderr, "bench_log: alarm: %s\n", text);
}

struct io_thread {
    struct driver *driver;
    struct mr_opq *queue;
};

static void *perform(void *argument)
{
    struct io_thread *t = argument;
    for (;;) {
        struct mr_op *op = mr_opq_take(t->queue);
        if (op == NULL && atomic_load(&t->driver->stop)) {
            return NULL;
        }
        if (op == NULL) {
            struct pollfd fd = {.fd = mr_opq_fd(t->queue), .events = POLLIN};
            (void)poll(&fd, 1, 100);
        }
        while (op != NULL) {
            struct mr_op *next = op->next;
            op->next = NULL;
            mr_log_perform(t->driver->io, (struct mr_log_request *)op);
            if (mr_opq_push(&t->driver->inbox, op) != MR_OK) {
                die("inbox");
            }
            op = next;
        }
    }
}

static struct mr_event *make_event(uint64_t n)
{
    struct mr_event_builder b;
    mr_event_builder_init(&b, MR_EVENT_SIZE_MAX);
    char id[32];
    char data[EVENT_DATA_SIZE];
    int size = snprintf(id, sizeof(id), "%" PRIu64, n);
    memset(data, 'x', sizeof(data));
    data[0] = '"';
    data[sizeof(data) - 1] = '"';
    struct mr_event *event = NULL;
    bool ok =
        mr_event_builder_attr(&b, MR_BYTES_LITERAL("id"), MR_ATTR_STRING,
                              mr_bytes(id, (size_t)size), NULL) == MR_OK &&
        mr_event_builder_attr(&b, MR_BYTES_LITERAL("source"), MR_ATTR_URI_REF,
                              MR_BYTES_LITERAL("/bench"), NULL) == MR_OK &&
        mr_event_builder_attr(&b, MR_BYTES_LITERAL("type"), MR_ATTR_STRING,
                              MR_BYTES_LITERAL("com.example.bench"), NULL) == MR_OK;
    mr_event_builder_data(&b, mr_bytes(data, sizeof(data)), false);
    if (!ok || mr_event_builder_finish(&b, true, &event, NULL) != MR_OK) {
        die("event");
    }
    return event;
}

static double seconds_since(uint64_t start)
{
    return (double)(mr_clock_mono_ns() - start) / 1e9;
}

static void answer_all(struct driver *d, struct mr_now now)
{
    struct mr_handout *h = d->handouts;
    d->handouts = NULL;
    while (h != NULL) {
        struct mr_handout *next = (struct mr_handout *)h->op.next;
        h->answer.verdict = MR_VERDICT_OK;
        mr_bus_answer(d->bus, now, h);
        d->settled++;
        h = next;
    }
}

static void turn(struct driver *d)
{
    struct mr_op *op = mr_opq_take(&d->inbox);
    bool idle = op == NULL && d->handouts == NULL;
    struct mr_now now = mr_clock_now();
    while (op != NULL) {
        struct mr_op *next = op->next;
        op->next = NULL;
        mr_bus_io_done(d->bus, now, (struct mr_log_request *)op);
        op = next;
    }
    answer_all(d, now);
    mr_bus_step(d->bus, now);
    if (idle && d->handouts == NULL) {
        struct pollfd fd = {.fd = mr_opq_fd(&d->inbox), .events = POLLIN};
        (void)poll(&fd, 1, 100);
    }
}

static void make_config(struct mr_config *config, struct mr_subscription_config *sub,
                        struct mr_target_config *target, bool subscribed)
{
    static char none[] = "[]";
    static char name[] = "all";
    static char target_name[] = "noop";
    static char json[] = "{}";
    *sub = (struct mr_subscription_config){
        .name = name, .filter_json = none, .window_size = 64 * MR_MIB};
    sub->retry.step_count = 1;
    sub->retry.step_ns[0] = MR_SECOND;
    *target = (struct mr_target_config){
        .name = target_name, .concurrency = 1, .timeout_ns = 30 * MR_SECOND};
    *config = (struct mr_config){
        .canonical_json = json,
        .hash = subscribed ? 2 : 1,
        .targets = target,
        .target_count = 1,
        .subscriptions = sub,
        .subscription_count = subscribed ? 1 : 0,
        .hops_max = 16,
        .log = {.max_size = 64ull << 30, .retain_size = 64 * MR_MIB, .disk_low = 1},
    };
}

static uint64_t bytes_per_group(const struct driver *d)
{
    struct mr_bus_status s;
    mr_bus_status(d->bus, &s);
    return s.groups_written == 0 ? 0 : s.bytes_written / s.groups_written;
}

/* What the disk does with bare durable writes of the same size. */
static double bare_rate(struct mr_io *io, uint64_t size, double seconds)
{
    int file;
    size = mr_round_up(size, MR_LOG_BLOCK);
    uint8_t *buf = mr_alloc_aligned(MR_LOG_BLOCK, MR_SEGMENT_SIZE_MAX);
    if (buf == NULL || io->ops->open(io, "bare", MR_IO_WRITE | MR_IO_CREATE | MR_IO_DIRECT, &file) != MR_OK) {
        die("bare file");
    }
    memset(buf, 0, MR_SEGMENT_SIZE_MAX);
    if (io->ops->pwrite(io, file, buf, MR_SEGMENT_SIZE_MAX, 0) != MR_OK ||
        io->ops->sync(io, file) != MR_OK) {
        die("bare file");
    }
    io->ops->close(io, file);
    if (io->ops->open(io, "bare", MR_IO_WRITE | MR_IO_DURABLE, &file) != MR_OK) {
        die("bare file");
    }
    uint64_t start = mr_clock_mono_ns();
    uint64_t writes = 0;
    uint64_t at = 0;
    while (seconds_since(start) < seconds) {
        at = at + size > MR_SEGMENT_SIZE_MAX ? 0 : at;
        if (io->ops->pwrite(io, file, buf, size, at) != MR_OK) {
            die("bare write");
        }
        at += size;
        writes++;
    }
    double rate = (double)(writes * size) / seconds_since(start);
    io->ops->close(io, file);
    (void)io->ops->unlink(io, "bare");
    mr_free(buf);
    return rate;
}

static void run(const char *folder, bool subscribed, uint64_t outstanding, double seconds)
{
    struct driver d = {0};
    if (mr_io_create(folder, true, true, &d.io) != MR_OK ||
        mr_opq_init(&d.inbox, UINT64_MAX) != MR_OK || mr_opq_init(&d.writer, UINT64_MAX) != MR_OK ||
        mr_opq_init(&d.background, UINT64_MAX) != MR_OK) {
        die("start");
    }
    struct mr_bus_options options = {
        .log = {.segment_size = MR_SEGMENT_SIZE_MAX,
                .max_size = 64ull << 30,
                .retain_size = 64 * MR_MIB,
                .cache_size = 64 * MR_MIB,
                .checkpoint_size = 64 * MR_MIB},
        .memory_state = 256 * MR_MIB,
        .seed = 1,
    };
    struct mr_bus_ports ports = {&d,          port_io,     port_handout, port_cancel,
                                 port_batch_done, port_demand, port_slow,    port_alarm};
    struct mr_problem problem = {{0}};
    struct mr_bus_opened opened;
    if (mr_bus_open(d.io, &options, &ports, mr_clock_now(), &d.bus, &opened, &problem) != MR_OK) {
        die(problem.text);
    }
    struct mr_config config;
    struct mr_subscription_config sub;
    struct mr_target_config target;
    make_config(&config, &sub, &target, subscribed);
    struct mr_router *router;
    uint32_t refused;
    if (mr_router_create(&config, &router, &refused, &problem) != MR_OK ||
        mr_bus_configure(d.bus, mr_clock_now(), &config, router, 1) != MR_OK) {
        die("configure");
    }
    uint32_t send = mr_bus_source_id(d.bus, MR_SOURCE_SEND_NAME);
    mr_bus_capacity(d.bus, mr_clock_now(), mr_bus_target_id(d.bus, "noop"), 1024);
    struct io_thread writer = {&d, &d.writer};
    struct io_thread background = {&d, &d.background};
    pthread_t threads[2];
    if (pthread_create(&threads[0], NULL, perform, &writer) != 0 ||
        pthread_create(&threads[1], NULL, perform, &background) != 0) {
        die("threads");
    }
    struct mr_event *event = make_event(1);
    uint64_t sent = 0;
    uint64_t start = mr_clock_mono_ns();
    while (seconds_since(start) < seconds) {
        while (sent - d.acked < outstanding && (!subscribed || sent - d.settled < outstanding)) {
            struct mr_batch *batch = mr_batch_create(send, 1);
            struct mr_now now = mr_clock_now();
            if (batch == NULL || mr_batch_add(batch, mr_event_ref(event), NULL) != MR_OK ||
                mr_router_match(router, UINT32_MAX, mr_event_record(event),
                                &batch->items[0].matches) != MR_OK) {
                die("batch");
            }
            batch->generation = 1;
            d.in_flight_batches++;
            mr_bus_ingest(d.bus, now, batch);
            sent++;
        }
        turn(&d);
    }
    double took = seconds_since(start);
    uint64_t done = subscribed ? d.settled : d.acked;
    struct mr_bus_status status;
    mr_bus_status(d.bus, &status);
    while (!mr_bus_is_quiet(d.bus)) {
        turn(&d);
    }
    uint64_t group = bytes_per_group(&d);
    double log_rate = (double)status.bytes_written / took;
    printf("{\"name\":\"%s\",\"value\":%.0f,\"unit\":\"events/s\"}\n",
           subscribed ? "settle" : "append", (double)done / took);
    printf("{\"name\":\"%s_group\",\"value\":%" PRIu64 ",\"unit\":\"bytes\"}\n",
           subscribed ? "settle" : "append", group);
    double bare = bare_rate(d.io, group, seconds / 2);
    printf("{\"name\":\"%s_vs_raw\",\"value\":%.3f,\"unit\":\"ratio\"}\n",
           subscribed ? "settle" : "append", log_rate / bare);
    atomic_store(&d.stop, true);
    mr_opq_wake(&d.writer);
    mr_opq_wake(&d.background);
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    struct mr_op *op = mr_opq_take(&d.inbox);
    while (op != NULL) {
        struct mr_op *next = op->next;
        mr_bus_io_done(d.bus, mr_clock_now(), (struct mr_log_request *)op);
        op = next;
    }
    mr_event_unref(event);
    mr_bus_destroy(d.bus);
    mr_router_destroy(router);
    d.io->ops->destroy(d.io);
}

int main(int argc, char **argv)
{
    const char *folder = argc > 1 ? argv[1] : "bench-log";
    uint64_t outstanding = argc > 2 ? strtoull(argv[2], NULL, 10) : 256;
    double seconds = argc > 3 ? strtod(argv[3], NULL) : 3;
    char path[4096];
    (void)snprintf(path, sizeof(path), "%s-append", folder);
    run(path, false, outstanding, seconds);
    (void)snprintf(path, sizeof(path), "%s-settle", folder);
    run(path, true, outstanding, seconds);
    return 0;
}
