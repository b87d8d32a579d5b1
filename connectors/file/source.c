/* File source: reads lines, one batch at a time, and remembers how far with the events.
 *
 * The position (device, inode, byte, checksum of the head) travels in the batch, is logged in the
 * same group as its events and comes back at the next start: each line enters exactly once. A
 * rotated file (PATH is another inode) is read to its end first; one rotated while Millrace was
 * off is looked for as PATH.1. A file that was cut is read from its start. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "connectors/file/reader.h"
#include "connectors/options.h"
#include "core/alloc.h"
#include "core/assert.h"
#include "core/clock.h"
#include "core/logger.h"

#define LOOK_AGAIN_MS 1000 /* where inotify tells nothing: network file systems */
#define RETRY_MIN_NS (100 * MR_MS)
#define RETRY_MAX_NS MR_SECOND

struct mr_source {
    struct mr_host *host; /* borrowed: outlives us */
    char *name;           /* owned */
    char *folder;         /* owned; may be NULL */
    _Atomic uint32_t index;
    struct mr_file_source_options options; /* owned copy */
    pthread_t thread;
    bool started;
    atomic_bool paused;
    atomic_bool stopping;
    _Atomic uint64_t deadline_ns;
    struct mr_opq replies;

    /* The thread's own. */
    struct mr_file_reader reader;
    bool out;          /* a batch is with the bus */
    uint64_t out_count;
    struct mr_batch *building; /* owned; lines that were read already */
    struct mr_batch *again;    /* owned: refused, to be submitted at again_ns */
    uint64_t again_ns;
    uint64_t again_wait_ns;
    bool slow;

    pthread_mutex_t mu; /* protects health */
    struct mr_health health;
};

static void set_health(struct mr_source *source, enum mr_health_state state, const char *detail,
                       const char *error)
{
    pthread_mutex_lock(&source->mu);
    source->health.state = state;
    if (detail != NULL) {
        (void)snprintf(source->health.detail, sizeof(source->health.detail), "%s %.100s", detail,
                       source->reader.is_stdin ? "standard input" : source->options.path);
    }
    if (error != NULL) {
        mr_text_clean(source->health.last_error, sizeof(source->health.last_error),
                      mr_bytes_of(error));
        source->health.last_error_wall_ns = mr_clock_now().wall_ns;
        source->health.errors++;
    }
    pthread_mutex_unlock(&source->mu);
}

static void read_health(struct mr_source *source, struct mr_health *ret_health)
{
    pthread_mutex_lock(&source->mu);
    *ret_health = source->health;
    pthread_mutex_unlock(&source->mu);
}

static void wait_again(struct mr_source *source)
{
    uint64_t wait_ns = source->again_wait_ns * 2;
    wait_ns = wait_ns < RETRY_MIN_NS ? RETRY_MIN_NS : wait_ns;
    source->again_wait_ns = wait_ns > RETRY_MAX_NS ? RETRY_MAX_NS : wait_ns;
    source->again_ns = mr_clock_mono_ns() + source->again_wait_ns;
}

/* --- batches ---------------------------------------------------------------------------------- */

static void submit(struct mr_source *source, struct mr_batch *batch)
{
    MR_ASSERT(batch != NULL);
    source->out = true;
    source->out_count = batch->count;
    source->host->ops->submit(source->host, batch);
}

/* Reads what there is and submits it. What fails is tried again later: a batch half built stays. */
static void read_lines(struct mr_source *source)
{
    struct mr_problem problem = {.text = ""};
    if (source->building == NULL) {
        source->building =
            mr_batch_create(atomic_load_explicit(&source->index, memory_order_relaxed), 64);
    }
    enum mr_status r = source->building == NULL
                           ? mr_problem_set(&problem, MR_E_NOMEM, "no memory for a batch")
                           : mr__file_reader_read(&source->reader, source->building, &problem);
    if (r != MR_OK) {
        set_health(source, MR_HEALTH_DEGRADED, NULL, problem.text);
        wait_again(source);
    } else if (source->building->count > 0) {
        source->building->reply = &source->replies;
        submit(source, MR_TAKE(source->building));
    }
}

static bool open_reader(struct mr_source *source)
{
    struct mr_problem problem = {.text = ""};
    bool was_open = source->reader.file >= 0;
    if (mr__file_reader_open(&source->reader, &problem) != MR_OK) {
        bool news = strcmp(source->health.last_error, problem.text) != 0; /* ours alone to write */
        set_health(source, MR_HEALTH_DOWN, "waiting for", news ? problem.text : NULL);
        return false;
    }
    if (!was_open) {
        set_health(source, MR_HEALTH_OK, "reading", NULL);
    }
    return true;
}

/* --- the thread ------------------------------------------------------------------------------- */

static void take_batch(struct mr_source *source, struct mr_batch *batch)
{
    MR_ASSERT(source->out);
    source->out = false;
    if (batch->result != MR_OK) {
        set_health(source, MR_HEALTH_DEGRADED, NULL, mr_status_text(batch->result));
        wait_again(source);
        source->again = batch;
        return;
    }
    source->again_wait_ns = 0;
    set_health(source, MR_HEALTH_OK, NULL, NULL);
    pthread_mutex_lock(&source->mu);
    source->health.messages += source->out_count;
    pthread_mutex_unlock(&source->mu);
    mr_batch_destroy(batch);
}

static void take_replies(struct mr_source *source)
{
    struct mr_op *op;
    while ((op = mr_opq_take(&source->replies)) != NULL) {
        while (op != NULL) {
            struct mr_op *next = op->next;
            if (op->type == MR_SOURCE_OP_SLOW) {
                source->slow = true;
            } else if (op->type == MR_SOURCE_OP_GO) {
                source->slow = false;
            } else {
                take_batch(source, (struct mr_batch *)(void *)op);
            }
            op = next;
        }
    }
}

static bool is_done(const struct mr_source *source)
{
    return mr__file_reader_is_done(&source->reader) && source->again == NULL;
}

/* Does what can be done now. @return how long to wait for the next thing; 0: go on at once */
static int act(struct mr_source *source)
{
    uint64_t now_ns = mr_clock_mono_ns();
    if (source->out || source->slow ||
        atomic_load_explicit(&source->paused, memory_order_acquire)) {
        return -1;
    }
    if (now_ns < source->again_ns) {
        return (int)((source->again_ns - now_ns) / MR_MS) + 1;
    }
    if (source->again != NULL) {
        struct mr_batch *batch = MR_TAKE(source->again);
        batch->result = MR_OK;
        batch->source = atomic_load_explicit(&source->index, memory_order_relaxed);
        submit(source, batch);
        return -1;
    }
    if (is_done(source)) {
        set_health(source, MR_HEALTH_OK, "at the end of", NULL);
        return -1;
    }
    if (!open_reader(source)) {
        return LOOK_AGAIN_MS;
    }
    read_lines(source);
    if (source->out) {
        return -1;
    }
    return is_done(source) ? 0 : LOOK_AGAIN_MS;
}

/* Waits for replies and, when the thread idles at the end of the file, for its growth. */
static void wait_more(struct mr_source *source, int timeout_ms)
{
    struct pollfd fds[2] = {{.fd = mr_opq_fd(&source->replies), .events = POLLIN},
                            {.fd = -1, .events = POLLIN}};
    if (timeout_ms == LOOK_AGAIN_MS) {
        fds[1].fd = source->reader.is_stdin ? 0 : source->reader.watch;
    }
    if (poll(fds, 2, timeout_ms) < 0 && errno != EINTR) {
        MR_ERROR("file", "source=%s poll: %s", source->name, strerror(errno));
    }
    if (fds[1].revents != 0 && !source->reader.is_stdin) {
        char events[4096]; /* which does not matter: all make us look */
        while (read(source->reader.watch, events, sizeof(events)) > 0) {
        }
    }
}

static bool is_finished(const struct mr_source *source)
{
    if (!atomic_load_explicit(&source->stopping, memory_order_acquire)) {
        return false;
    }
    return !source->out || mr_clock_mono_ns() >= atomic_load_explicit(&source->deadline_ns,
                                                                      memory_order_relaxed);
}

static void *run(void *context)
{
    struct mr_source *source = context;
    for (;;) {
        take_replies(source);
        if (is_finished(source)) {
            return NULL;
        }
        int timeout_ms = 100; /* stopping: to see the deadline */
        if (!atomic_load_explicit(&source->stopping, memory_order_acquire)) {
            timeout_ms = act(source);
        }
        wait_more(source, timeout_ms);
    }
}

/* --- the connector's calls -------------------------------------------------------------------- */

static void destroy_source(struct mr_source *source)
{
    if (source == NULL) {
        return;
    }
    if (source->out) { /* the bus may still write into the queue */
        MR_ERROR("file", "source=%s a batch did not come back, ignoring", source->name);
        return;
    }
    mr__file_reader_release(&source->reader);
    mr_batch_destroy(source->building);
    mr_batch_destroy(source->again);
    mr_opq_release(&source->replies);
    pthread_mutex_destroy(&source->mu);
    mr_options_release(mr_connector_file.source_kind.options, &source->options);
    mr_free(source->folder);
    mr_free(source->name);
    mr_free(source);
}

static enum mr_status create_source(const struct mr_source_args *args,
                                    struct mr_source **ret_source, struct mr_problem *problem)
{
    enum mr_status r = mr__file_check_source(args->options, problem);
    if (r != MR_OK) {
        return r;
    }
    struct mr_source *source = mr_calloc(1, sizeof(*source));
    if (source == NULL) {
        return mr_problem_set(problem, MR_E_NOMEM, "no memory for the source");
    }
    source->reader.file = -1;
    source->reader.watch = -1;
    r = mr_opq_init(&source->replies, UINT64_MAX);
    if (r != MR_OK) {
        mr_free(source);
        return mr_problem_set(problem, r, "no queue for the source");
    }
    (void)pthread_mutex_init(&source->mu, NULL);
    source->host = args->host;
    atomic_init(&source->index, args->index);
    source->name = mr_strdup(args->name);
    source->folder = mr_strdup(args->folder);
    r = source->name == NULL || (source->folder == NULL && args->folder != NULL)
            ? MR_E_NOMEM
            : mr__options_copy(mr_connector_file.source_kind.options, sizeof(source->options),
                               args->options, &source->options);
    if (r != MR_OK) {
        destroy_source(source);
        return mr_problem_set(problem, r, "no memory for the source");
    }
    size_t size_max =
        args->config == NULL ? MR_EVENT_SIZE_DEFAULT : (size_t)args->config->event_size_max;
    mr__file_reader_init(&source->reader, source->name, source->folder, &source->options, size_max,
                         args->cursor);
    *ret_source = source;
    return MR_OK;
}

static enum mr_status start_source(struct mr_source *source, struct mr_problem *problem)
{
    MR_ASSERT(!source->started);
    if (pthread_create(&source->thread, NULL, run, source) != 0) {
        return mr_problem_set(problem, MR_E_UNAVAILABLE, "no thread for source %s", source->name);
    }
    source->started = true;
    return MR_OK;
}

/* release pairs with the acquire loads of the thread; the wake makes it look. */
static void pause_source(struct mr_source *source)
{
    atomic_store_explicit(&source->paused, true, memory_order_release);
    mr_opq_wake(&source->replies);
}

static void resume_source(struct mr_source *source)
{
    atomic_store_explicit(&source->paused, false, memory_order_release);
    mr_opq_wake(&source->replies);
}

static void stop_source(struct mr_source *source, uint64_t deadline_mono_ns)
{
    if (!source->started) {
        return;
    }
    atomic_store_explicit(&source->deadline_ns, deadline_mono_ns, memory_order_relaxed);
    atomic_store_explicit(&source->stopping, true, memory_order_release);
    mr_opq_wake(&source->replies);
    (void)pthread_join(source->thread, NULL);
    source->started = false;
}

static void reindex_source(struct mr_source *source, uint32_t index)
{
    atomic_store_explicit(&source->index, index, memory_order_relaxed);
}

const struct mr_source_ops mr__file_source_ops = {
    .create = create_source,
    .start = start_source,
    .pause = pause_source,
    .resume = resume_source,
    .stop = stop_source,
    .destroy = destroy_source,
    .health = read_health,
    .reindex = reindex_source,
};
