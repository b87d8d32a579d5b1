/* The bus in process, on a real disk: append, the same of a source that dedupes (each event new, so
 * each key is looked for, logged and kept), and append to settled with a no-op target.
 *
 * One thread is core and producer, a second one writes; at most --outstanding events wait for the
 * disk. Between the rounds: a bare loop of durable writes of the groups' mean size, the most this
 * disk gives. Then, two logs in turn: one that grows beside one that recycles its files, and one
 * that writes footers beside one that does not. Prints JSON lines {"name","value","unit"}.
 *
 *     bench_log FOLDER [OUTSTANDING [SECONDS]]
 *     bench_log pending FOLDER EVENTS TAIL   makes a log and leaves it as a crash would: so many
 *                                            small events that nobody took, and behind the last
 *                                            checkpoint at least TAIL bytes; run.py starts on it
 *     bench_log open FOLDER                  times mr_bus_open() on one
 *     bench_log pause FOLDER                 times the longest call of the core */
#include <fcntl.h>
#include <inttypes.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bus/bus.h"
#include "bus/footer_ids.h"
#include "core/alloc.h"
#include "core/hash.h"

#define EVENT_DATA_SIZE 900u /* with its attributes about 1 KiB */
#define SMALL_DATA_SIZE 16u
#define ROUNDS 7

struct driver {
    struct mr_io *io;
    struct mr_bus *bus;
    struct mr_opq inbox;
    struct mr_opq writer;
    struct mr_opq background;
    struct mr_opq keeper;
    _Atomic bool stop;
    uint64_t acked;
    uint64_t in_flight_batches;
    struct mr_handout *handouts;
    uint64_t handed;
    bool timed;          /* only then, because asking costs as much as an event: */
    uint64_t longest_ns; /* processor time of one call of the core */
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
    bool slow = request->kind == MR_LOG_FOOTER || request->kind == MR_LOG_IDS ||
                request->kind == MR_LOG_SPARE || request->kind == MR_LOG_SCRUB;
    struct mr_opq *to = hot ? &d->writer : slow ? &d->keeper : &d->background;
    if (mr_opq_push(to, &request->op) != MR_OK) {
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

static struct mr_event *make_event(uint64_t n, size_t data_size)
{
    struct mr_event_builder b;
    mr_event_builder_init(&b, MR_EVENT_SIZE_MAX);
    char id[32];
    char data[EVENT_DATA_SIZE];
    int size = snprintf(id, sizeof(id), "%" PRIu64, n);
    memset(data, 'x', data_size);
    data[0] = '"';
    data[data_size - 1] = '"';
    struct mr_event *event = NULL;
    bool ok =
        mr_event_builder_attr(&b, MR_BYTES_LITERAL("id"), MR_ATTR_STRING,
                              mr_bytes(id, (size_t)size), NULL) == MR_OK &&
        mr_event_builder_attr(&b, MR_BYTES_LITERAL("source"), MR_ATTR_URI_REF,
                              MR_BYTES_LITERAL("/bench"), NULL) == MR_OK &&
        mr_event_builder_attr(&b, MR_BYTES_LITERAL("type"), MR_ATTR_STRING,
                              MR_BYTES_LITERAL("com.example.bench"), NULL) == MR_OK;
    mr_event_builder_data(&b, mr_bytes(data, data_size), false);
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

static uint64_t cpu_ns(const struct driver *d)
{
    struct timespec at = {0};
    if (!d->timed) {
        return 0;
    }
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &at); /* cannot fail for this clock */
    return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
}

static void note_pause(struct driver *d, uint64_t before_ns)
{
    uint64_t took = cpu_ns(d) - before_ns;
    d->longest_ns = took > d->longest_ns ? took : d->longest_ns;
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
    uint64_t before_ns = cpu_ns(d);
    mr_bus_step(d->bus, now);
    note_pause(d, before_ns);
    if (idle && d->handouts == NULL) {
        struct pollfd fd = {.fd = mr_opq_fd(&d->inbox), .events = POLLIN};
        (void)poll(&fd, 1, 100);
    }
}

static void make_config(struct mr_config *config, struct mr_subscription_config *sub,
                        struct mr_target_config *target, struct mr_source_config *source,
                        bool subscribed)
{
    static char none[] = "[]";
    static char name[] = "all";
    static char target_name[] = "noop";
    static char json[] = "{}";
    *sub = (struct mr_subscription_config){
        .name = name, .filter_json = none, .window_size = 64 * MR_MIB};
    static const uint64_t step_ns[] = {MR_SECOND};
    sub->retry.step_count = 1;
    sub->retry.step_ns = step_ns;
    *target = (struct mr_target_config){
        .name = target_name, .concurrency = 1, .timeout_ns = 30 * MR_SECOND};
    static char source_name[] = "deduping";
    *source = (struct mr_source_config){
        .name = source_name, .dedupe_window_ns = 10 * MR_MINUTE, .dedupe_keys = 100000};
    *config = (struct mr_config){
        .sources = source,
        .source_count = 1,
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

/* --- bare writes ------------------------------------------------------------------------------ */

static int bare_open(struct mr_io *io, uint8_t *buf)
{
    int file;
    if (io->ops->open(io, "bare", MR_IO_WRITE | MR_IO_CREATE | MR_IO_DIRECT, &file) != MR_OK ||
        io->ops->pwrite(io, file, buf, MR_SEGMENT_SIZE_MAX, 0) != MR_OK ||
        io->ops->sync(io, file) != MR_OK) {
        die("bare file");
    }
    io->ops->close(io, file);
    if (io->ops->open(io, "bare", MR_IO_WRITE | MR_IO_DURABLE, &file) != MR_OK) {
        die("bare file");
    }
    return file;
}

/* Bytes a second of durable writes of @p size, one after another: what this disk gives. */
static double bare_rate(struct mr_io *io, int file, const uint8_t *buf, uint64_t size,
                        double seconds)
{
    size = mr_round_up(size, MR_LOG_BLOCK);
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
    return (double)(writes * size) / seconds_since(start);
}

/* --- the bus ---------------------------------------------------------------------------------- */

struct bench {
    struct driver d;
    bool subscribed;
    bool dedupes;
    uint64_t segment_size; /* 0: the largest */
    bool untaken; /* the target takes nothing, and the events are small */
    bool holds_all; /* and all of them are in the window */
    uint64_t checkpoint_size;
    uint64_t retain_size; /* of settled events */
    bool footers_off;
    uint64_t outstanding;
    uint32_t source;
    struct mr_config config;
    struct mr_source_config source_config;
    struct mr_subscription_config sub;
    struct mr_target_config target;
    struct mr_router *router;
    struct mr_event *event;
    uint64_t sent;
    struct io_thread writer;
    struct io_thread background;
    struct io_thread keeper;
    pthread_t threads[3];
};

static void open_bus(struct bench *b, const char *folder)
{
    struct driver *d = &b->d;
    if (mr_io_create(folder, true, true, &d->io) != MR_OK ||
        mr_opq_init(&d->inbox, UINT64_MAX) != MR_OK ||
        mr_opq_init(&d->writer, UINT64_MAX) != MR_OK ||
        mr_opq_init(&d->background, UINT64_MAX) != MR_OK ||
        mr_opq_init(&d->keeper, UINT64_MAX) != MR_OK) {
        die("start");
    }
    struct mr_bus_options options = {
        .log = {.segment_size = b->segment_size == 0 ? MR_SEGMENT_SIZE_MAX : b->segment_size,
                .max_size = 64ull << 30,
                .retain_size = b->retain_size,
                .cache_size = 64 * MR_MIB,
                .checkpoint_size = b->checkpoint_size},
        .memory_state = b->holds_all ? 4096ull * MR_MIB : 256 * MR_MIB,
        .seed = 1,
        .footers_off = b->footers_off,
    };
    struct mr_bus_ports ports = {d,          port_io,     port_handout, port_cancel,
                                 port_batch_done, port_demand, port_slow,    port_alarm};
    struct mr_problem problem = {{0}};
    struct mr_bus_opened opened;
    if (mr_bus_open(d->io, &options, &ports, mr_clock_now(), &d->bus, &opened, &problem) != MR_OK) {
        die(problem.text);
    }
    make_config(&b->config, &b->sub, &b->target, &b->source_config, b->subscribed);
    b->config.log.retain_size = b->retain_size;
    b->sub.window_size = b->holds_all ? 2048ull * MR_MIB : b->sub.window_size;
    uint32_t refused;
    if (mr_router_create(&b->config, &b->router, &refused, &problem) != MR_OK ||
        mr_bus_configure(d->bus, mr_clock_now(), &b->config, b->router, 1) != MR_OK) {
        die("configure");
    }
    b->source = mr_bus_source_id(d->bus, b->dedupes ? "deduping" : MR_SOURCE_SEND_NAME);
    mr_bus_capacity(d->bus, mr_clock_now(), mr_bus_target_id(d->bus, "noop"),
                    b->untaken ? 0 : 1024);
    b->writer = (struct io_thread){d, &d->writer};
    b->background = (struct io_thread){d, &d->background};
    b->keeper = (struct io_thread){d, &d->keeper};
    if (pthread_create(&b->threads[0], NULL, perform, &b->writer) != 0 ||
        pthread_create(&b->threads[1], NULL, perform, &b->background) != 0 ||
        pthread_create(&b->threads[2], NULL, perform, &b->keeper) != 0) {
        die("threads");
    }
    b->event = make_event(1, b->untaken ? SMALL_DATA_SIZE : EVENT_DATA_SIZE);
}

static void close_bus(struct bench *b)
{
    struct driver *d = &b->d;
    atomic_store(&d->stop, true);
    mr_opq_wake(&d->writer);
    mr_opq_wake(&d->background);
    mr_opq_wake(&d->keeper);
    for (int i = 0; i < 3; i++) {
        pthread_join(b->threads[i], NULL);
    }
    struct mr_op *op = mr_opq_take(&d->inbox);
    while (op != NULL) {
        struct mr_op *next = op->next;
        mr_bus_io_done(d->bus, mr_clock_now(), (struct mr_log_request *)op);
        op = next;
    }
    mr_event_unref(b->event);
    mr_bus_destroy(d->bus);
    mr_router_destroy(b->router);
    d->io->ops->destroy(d->io);
}

static uint64_t done_of(const struct bench *b)
{
    return b->subscribed && !b->untaken ? b->d.settled : b->d.acked;
}

static void send_one(struct bench *b)
{
    struct driver *d = &b->d;
    struct mr_batch *batch = mr_batch_create(b->source, 1);
    if (batch == NULL || mr_batch_add(batch, mr_event_ref(b->event), NULL) != MR_OK ||
        mr_router_match(b->router, UINT32_MAX, mr_event_record(b->event),
                        &batch->items[0].matches) != MR_OK) {
        die("batch");
    }
    if (b->dedupes) {
        struct mr_dedupe_key *key = &batch->items[0].keys[MR_DEDUPE_BY_ID];
        *key = mr_dedupe_key_of_id(mr_bus_salt(d->bus), mr_event_record(b->event), false);
        key->low += mr_hash_u64(b->sent); /* one event stands for all of them */
        key->high += b->sent;
    }
    batch->generation = 1;
    d->in_flight_batches++;
    uint64_t before_ns = cpu_ns(d);
    mr_bus_ingest(d->bus, mr_clock_now(), batch);
    note_pause(d, before_ns);
    b->sent++;
}

/* Sends for @p seconds and waits for the rest. @return how many were done in that time */
static uint64_t send_for(struct bench *b, double seconds)
{
    struct driver *d = &b->d;
    uint64_t done = done_of(b);
    uint64_t start = mr_clock_mono_ns();
    while (seconds_since(start) < seconds) {
        while (b->sent - done_of(b) < b->outstanding) {
            send_one(b);
        }
        turn(d);
    }
    done = done_of(b) - done;
    while (!mr_bus_is_quiet(d->bus)) {
        turn(d);
    }
    return done;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print_median(const char *name, const char *suffix, double values[ROUNDS],
                         const char *unit)
{
    qsort(values, ROUNDS, sizeof(*values), compare_doubles);
    printf("{\"name\":\"%s%s\",\"value\":%.3f,\"unit\":\"%s\"}\n", name, suffix,
           values[ROUNDS / 2], unit);
}

/* Rounds of the bus and of bare writes of the same size in turn, so that both meet the same
 * machine; the ratio is taken within a round. */
static void run(const char *folder, const char *name, uint64_t outstanding, double seconds)
{
    struct bench b = {.subscribed = strcmp(name, "settle") == 0,
                      .dedupes = strcmp(name, "append_dedupe") == 0,
                      .checkpoint_size = 64 * MR_MIB,
                      .retain_size = 64 * MR_MIB,
                      .outstanding = outstanding};
    open_bus(&b, folder);
    uint8_t *buf = mr_alloc_aligned(MR_LOG_BLOCK, MR_SEGMENT_SIZE_MAX);
    if (buf == NULL) {
        die("memory");
    }
    memset(buf, 0, MR_SEGMENT_SIZE_MAX);
    int file = bare_open(b.d.io, buf);
    (void)send_for(&b, seconds / 4); /* segments are made, and recycled from here on */
    double rates[ROUNDS];
    double ratios[ROUNDS];
    double costs[ROUNDS];
    double groups[ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
        struct mr_bus_status before;
        struct mr_bus_status after;
        struct timespec cpu[2];
        mr_bus_status(b.d.bus, &before);
        (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu[0]); /* cannot fail for this clock */
        uint64_t start = mr_clock_mono_ns();
        uint64_t done = send_for(&b, seconds / ROUNDS);
        double took = seconds_since(start);
        (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu[1]);
        mr_bus_status(b.d.bus, &after);
        double bytes = (double)(after.bytes_written - before.bytes_written);
        groups[i] = bytes / (double)(after.groups_written - before.groups_written);
        rates[i] = (double)done / took;
        costs[i] = ((double)(cpu[1].tv_sec - cpu[0].tv_sec) * 1e6 +
                    (double)(cpu[1].tv_nsec - cpu[0].tv_nsec) / 1e3) / (double)done;
        ratios[i] = bytes / took /
                    bare_rate(b.d.io, file, buf, (uint64_t)groups[i], seconds / ROUNDS / 2);
    }
    print_median(name, "", rates, "events/s");
    print_median(name, "_vs_raw", ratios, "ratio");
    print_median(name, "_cpu_us", costs, "us");
    print_median(name, "_group_bytes", groups, "bytes");
    b.d.io->ops->close(b.d.io, file);
    (void)b.d.io->ops->unlink(b.d.io, "bare"); /* the folder goes away with it */
    mr_free(buf);
    close_bus(&b);
}

/* --- a log to start on ------------------------------------------------------------------------ */

/* Sends until @p events were, and @p bytes written. */
static void send_until(struct bench *b, uint64_t events, uint64_t bytes)
{
    struct mr_bus_status status;
    do {
        while (b->sent - b->d.acked < b->outstanding) {
            send_one(b);
        }
        turn(&b->d);
        mr_bus_status(b->d.bus, &status);
    } while (b->sent < events || status.bytes_written < bytes);
    while (!mr_bus_is_quiet(b->d.bus)) {
        turn(&b->d);
    }
}

/* First with checkpoints, then as much as is to be the tail without. */
static void make_pending(const char *folder, uint64_t events, uint64_t tail)
{
    struct bench b = {.subscribed = true,
                      .retain_size = 64 * MR_MIB,
                      .untaken = true,
                      .checkpoint_size = 64 * MR_MIB,
                      .outstanding = 4096};
    open_bus(&b, folder);
    uint64_t per_event = mr_record_size(b.event->size) + mr_record_size(MR_MATCH_ENTRY_SIZE);
    uint64_t behind = tail / per_event;
    send_until(&b, events > behind ? events - behind : 0, 0);
    close_bus(&b);
    uint64_t sent = b.sent;
    b = (struct bench){.subscribed = true,
                       .untaken = true,
                       .checkpoint_size = UINT64_MAX,
                       .outstanding = 4096,
                       .sent = sent,
                       .d = {.acked = sent}};
    open_bus(&b, folder);
    send_until(&b, events, tail);
    printf("{\"name\":\"events\",\"value\":%" PRIu64 ",\"unit\":\"events\"}\n", b.sent);
    close_bus(&b);
}

static void time_open(const char *folder)
{
    struct bench b = {.subscribed = true, .untaken = true, .checkpoint_size = UINT64_MAX,
                      .retain_size = 64 * MR_MIB};
    uint64_t start = mr_clock_mono_ns();
    open_bus(&b, folder);
    printf("{\"name\":\"open_s\",\"value\":%.3f,\"unit\":\"s\"}\n", seconds_since(start));
    close_bus(&b);
}

/* Two logs in turn, so that both meet the same machine: @p name is the median of what the first
 * does over what the second does. */
static void run_beside(const char *folder, const char *name, struct bench pair[2], double seconds)
{
    for (int i = 0; i < 2; i++) {
        char path[4096];
        (void)snprintf(path, sizeof(path), "%s-%s-%d", folder, name, i);
        open_bus(&pair[i], path);
        (void)send_for(&pair[i], seconds / 4);
    }
    double ratios[ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
        double rates[2];
        for (int k = 0; k < 2; k++) {
            uint64_t start = mr_clock_mono_ns();
            uint64_t done = send_for(&pair[k], seconds / ROUNDS);
            rates[k] = (double)done / seconds_since(start);
        }
        ratios[i] = rates[0] / rates[1];
    }
    print_median(name, "", ratios, "ratio");
    close_bus(&pair[0]);
    close_bus(&pair[1]);
}

/* A million deliveries wait in the window of one subscription, and at least one checkpoint is
 * written: how long the core stands still at most, beside the same log without checkpoints.
 * Processor time, so that what else runs does not count. */
static void run_pause(const char *folder, double seconds)
{
    static const char *const names[] = {"checkpoint_pause_us", "no_checkpoint_pause_us"};
    for (int i = 0; i < 2; i++) {
        struct bench b = {.subscribed = true,
                          .untaken = true,
                          .holds_all = true,
                          .retain_size = 64 * MR_MIB,
                          .checkpoint_size = i == 0 ? 4 * MR_MIB : UINT64_MAX,
                          .outstanding = 256};
        char path[4096];
        (void)snprintf(path, sizeof(path), "%s-pause-%d", folder, i);
        open_bus(&b, path);
        while (b.sent < 1000000) {
            (void)send_for(&b, 0.1);
        }
        struct mr_bus_status before;
        mr_bus_status(b.d.bus, &before);
        b.d.timed = true;
        struct mr_bus_status after = before;
        uint64_t start = mr_clock_mono_ns();
        while (seconds_since(start) < seconds ||
               (i == 0 && after.checkpoints == before.checkpoints)) {
            (void)send_for(&b, 0.1);
            mr_bus_status(b.d.bus, &after);
        }
        printf("{\"name\":\"%s\",\"value\":%.1f,\"unit\":\"us\"}\n", names[i],
               (double)b.d.longest_ns / 1e3);
        close_bus(&b);
    }
}

int main(int argc, char **argv)
{
    (void)mallopt(M_MMAP_THRESHOLD, 1024 * 1024); /* as the program does (millrace/main.c) */
    (void)mallopt(M_TRIM_THRESHOLD, 2 * 1024 * 1024);
    if (argc == 5 && strcmp(argv[1], "pending") == 0) {
        make_pending(argv[2], strtoull(argv[3], NULL, 10), strtoull(argv[4], NULL, 10));
        return 0;
    }
    if (argc == 3 && strcmp(argv[1], "open") == 0) {
        time_open(argv[2]);
        return 0;
    }
    if (argc == 3 && strcmp(argv[1], "pause") == 0) {
        run_pause(argv[2], 8);
        return 0;
    }
    const char *folder = argc > 1 ? argv[1] : "bench-log";
    uint64_t outstanding = argc > 2 ? strtoull(argv[2], NULL, 10) : 256;
    double seconds = argc > 3 ? strtod(argv[3], NULL) : 3;
    static const char *const names[] = {"append", "append_dedupe", "settle"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(names); i++) {
        char path[4096];
        (void)snprintf(path, sizeof(path), "%s-%s", folder, names[i]);
        run(path, names[i], outstanding, seconds);
    }
    struct bench recycled = {.checkpoint_size = 64 * MR_MIB,
                             .retain_size = 64 * MR_MIB,
                             .outstanding = outstanding};
    struct bench growing = recycled;
    growing.retain_size = 32ull << 30;
    run_beside(folder, "append_growing_ratio", (struct bench[]){growing, recycled}, seconds);
    struct bench bare = recycled;
    bare.footers_off = true;
    run_beside(folder, "append_footers_ratio", (struct bench[]){recycled, bare}, seconds);
    run_pause(folder, 2 * seconds);
    return 0;
}
