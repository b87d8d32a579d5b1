/* File source: reads lines, one batch at a time, and remembers how far with the events.
 *
 * The position (device, inode, byte, checksum of the head) travels in the batch, is logged in the
 * same group as its events and comes back at the next start: each line enters exactly once. A
 * rotated file (PATH is another inode) is read to its end first; one rotated while Millrace was
 * off is looked for as PATH.1. A file that was cut is read from its start. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "connectors/file/file.h"
#include "connectors/options.h"
#include "core/alloc.h"
#include "core/assert.h"
#include "core/clock.h"
#include "core/hash.h"
#include "core/io.h"
#include "core/logger.h"
#include "core/rng.h"
#include "schemas/adapter.h"
#include "schemas/json_format.h"

#define BATCH_COUNT 500u
#define BATCH_SIZE (2u * MR_MIB)
#define CHUNK_SIZE (128u * MR_KIB)
#define LOOK_AGAIN_MS 1000 /* where inotify tells nothing: network file systems */
#define RETRY_MIN_NS (100 * MR_MS)
#define RETRY_MAX_NS MR_SECOND

struct mr_source {
    struct mr_host *host; /* borrowed: outlives us */
    char *name;           /* owned */
    char *folder;         /* owned; may be NULL */
    _Atomic uint32_t index;
    size_t event_size_max;
    size_t line_size_max; /* a longer line is rejected, cut */
    struct mr_file_source_options options; /* owned copy */
    bool is_stdin;
    pthread_t thread;
    bool started;
    atomic_bool paused;
    atomic_bool stopping;
    _Atomic uint64_t deadline_ns;
    struct mr_opq replies;

    /* The thread's own. */
    int file;   /* owned; -1; 0 is standard input and not ours */
    int watch;  /* owned inotify; -1 */
    struct mr_file_position position; /* of the first byte of `buf` */
    bool resumes;                     /* position came from the log */
    bool from_end;
    bool is_old; /* the file was rotated away and is read to its end */
    struct mr_buf buf; /* bytes read, no whole line left behind but at the end */
    size_t scanned;    /* bytes of buf known to hold no line end */
    bool skipping;     /* within a line that was too long */
    bool at_end;
    bool ended;        /* nothing will ever come again */
    bool out;          /* a batch is with the bus */
    uint64_t out_count;
    struct mr_batch *building; /* owned; lines that were read already */
    struct mr_batch *again;    /* owned: refused, to be submitted at again_ns */
    uint64_t again_ns;
    uint64_t again_wait_ns;
    bool slow;
    uint64_t boot; /* random, in the ids of what standard input brings */

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
                       source->is_stdin ? "standard input" : source->options.path);
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

/* --- opening ----------------------------------------------------------------------------------- */

static uint32_t head_crc(int file, uint64_t at)
{
    uint8_t head[MR_FILE_HEAD_SIZE];
    size_t wanted = at < sizeof(head) ? (size_t)at : sizeof(head);
    ssize_t n = pread(file, head, wanted, 0);
    return n == (ssize_t)wanted ? mr_crc32c(0, head, wanted) : 0;
}

/* Whether @p file is the one @p position speaks of, and still has those bytes. */
static bool is_file_of(int file, const struct mr_file_position *position)
{
    struct stat st;
    return fstat(file, &st) == 0 && (uint64_t)st.st_ino == position->inode &&
           (uint64_t)st.st_dev == position->device && (uint64_t)st.st_size >= position->at &&
           head_crc(file, position->at) == position->head;
}

static void watch_file(struct mr_source *source)
{
    char path[PATH_MAX];
    if (source->watch >= 0) {
        (void)close(source->watch);
    }
    source->watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (source->watch < 0) {
        return; /* LOOK_AGAIN_MS must do */
    }
    bool absolute = source->options.path[0] == '/' || source->folder == NULL;
    int size = snprintf(path, sizeof(path), "%s%s%s", absolute ? "" : source->folder,
                        absolute ? "" : "/", source->options.path);
    if (size < 0 || (size_t)size >= sizeof(path)) {
        return;
    }
    (void)inotify_add_watch(source->watch, path, IN_MODIFY);
    char *slash = strrchr(path, '/');
    if (slash != NULL) {
        *slash = '\0';
    }
    (void)inotify_add_watch(source->watch, slash == NULL ? "." : slash == path ? "/" : path,
                            IN_CREATE | IN_MOVED_TO);
}

static void begin_file(struct mr_source *source, int file, uint64_t at)
{
    struct stat st = {0};
    (void)fstat(file, &st); /* it worked a moment ago */
    if (source->file > 0) {
        (void)close(source->file);
    }
    source->file = file;
    source->position = (struct mr_file_position){.device = (uint64_t)st.st_dev,
                                                 .inode = (uint64_t)st.st_ino,
                                                 .at = at,
                                                 .head = head_crc(file, at)};
    mr_buf_clear(&source->buf);
    source->scanned = 0;
    source->skipping = false;
    source->at_end = false;
    source->resumes = false;
    source->from_end = false;
    set_health(source, MR_HEALTH_OK, "reading", NULL);
}

/* The file in which the logged position lies, if it was rotated meanwhile. */
static bool resume_rotated(struct mr_source *source)
{
    char path[PATH_MAX];
    int file = -1;
    int size = snprintf(path, sizeof(path), "%s.1", source->options.path);
    if (size < 0 || (size_t)size >= sizeof(path) ||
        mr__file_open_read(source->folder, path, &file, NULL) != MR_OK) {
        return false;
    }
    if (!is_file_of(file, &source->position)) {
        (void)close(file);
        return false;
    }
    begin_file(source, file, source->position.at);
    source->is_old = true;
    return true;
}

static bool open_source(struct mr_source *source)
{
    struct mr_problem problem = {.text = ""};
    if (source->file >= 0) {
        return true;
    }
    if (source->is_stdin) {
        source->file = 0;
        set_health(source, MR_HEALTH_OK, "reading", NULL);
        return true;
    }
    watch_file(source);
    int file = -1;
    if (mr__file_open_read(source->folder, source->options.path, &file, &problem) != MR_OK) {
        bool news = strcmp(source->health.last_error, problem.text) != 0;
        set_health(source, MR_HEALTH_DOWN, "waiting for", news ? problem.text : NULL);
        return false;
    }
    if (source->resumes && is_file_of(file, &source->position)) {
        begin_file(source, file, source->position.at);
        return true;
    }
    if (source->resumes && resume_rotated(source)) {
        (void)close(file);
        return true;
    }
    if (source->resumes) {
        MR_WARN("file", "source=%s path=%s is another file than before, reading it from its start",
                source->name, source->options.path);
    }
    struct stat st = {0};
    bool to_end = source->from_end && !source->resumes && fstat(file, &st) == 0;
    begin_file(source, file, to_end ? (uint64_t)st.st_size : 0);
    return true;
}

/* --- lines to events --------------------------------------------------------------------------- */

static enum mr_status decode_line(struct mr_source *source, struct mr_bytes line, const char *id,
                                  struct mr_event **ret_event, struct mr_problem *problem)
{
    if (source->options.adapter != MR_FILE_GENERIC) {
        return mr_json_decode_event(line, source->event_size_max, ret_event, problem);
    }
    char from[MR_NAME_SIZE_MAX + 32];
    (void)snprintf(from, sizeof(from), "/millrace/source/%.*s", (int)MR_NAME_SIZE_MAX,
                   source->name);
    struct mr_bytes type = mr_json_is_value(line) ? MR_BYTES_LITERAL("application/json")
                           : mr_bytes_is_utf8(line)
                               ? MR_BYTES_LITERAL("text/plain; charset=utf-8")
                               : MR_BYTES_LITERAL("application/octet-stream");
    struct mr_field header = {MR_BYTES_LITERAL("content-type"), type};
    return mr_adapt_generic(&header, 1, line, mr_bytes_of(id), mr_bytes_of(from),
                            MR_BYTES_LITERAL("io.millrace.file.line"), mr_clock_now().wall_ns,
                            source->event_size_max, ret_event, problem);
}

/* @p at of the line's first byte: with the inode it makes the id, the same after a restart. */
static enum mr_status add_line(struct mr_source *source, struct mr_batch *batch,
                               struct mr_bytes line, uint64_t at, bool too_long)
{
    struct mr_problem problem = {.text = ""};
    struct mr_event *event = NULL;
    char id[96];
    if (line.size > 0 && line.data[line.size - 1] == '\r') {
        line.size--;
    }
    if (line.size == 0) {
        return MR_OK;
    }
    (void)snprintf(id, sizeof(id), "%llx-%llx-%llu",
                   (unsigned long long)(source->is_stdin ? source->boot : source->position.device),
                   (unsigned long long)source->position.inode, (unsigned long long)at);
    enum mr_status r = too_long ? mr_problem_set(&problem, MR_E_TOO_BIG, "line longer than %zu bytes",
                                                 source->line_size_max)
                                : decode_line(source, line, id, &event, &problem);
    if (r == MR_OK) {
        return mr_batch_add(batch, event, NULL);
    }
    if (mr_status_class(r) != MR_CLASS_PERMANENT) {
        return r;
    }
    r = mr_adapt_rejected(mr_bytes_of(source->name), mr_bytes_of(id), line, problem.text,
                          mr_clock_now().wall_ns, source->event_size_max, &event);
    return r == MR_OK ? mr_batch_add(batch, event, problem.text) : r;
}

static void consume(struct mr_source *source, size_t size)
{
    MR_ASSERT(size <= source->buf.size);
    memmove(source->buf.data, source->buf.data + size, source->buf.size - size);
    source->buf.size -= size;
    source->position.at += size;
    source->scanned = 0;
}

/* Moves the whole lines of the buffer into the batch; with @p last what is left, too. */
static enum mr_status take_lines(struct mr_source *source, struct mr_batch *batch, bool last)
{
    size_t start = 0;
    enum mr_status r = MR_OK;
    while (r == MR_OK && batch->count < BATCH_COUNT && batch->size < BATCH_SIZE) {
        const uint8_t *data = source->buf.data + start;
        size_t size = source->buf.size - start;
        size_t from = start == 0 ? source->scanned : 0;
        const uint8_t *end = size > from ? memchr(data + from, '\n', size - from) : NULL;
        size_t line_size = end == NULL ? size : (size_t)(end - data);
        bool too_long = line_size > source->line_size_max;
        if (end == NULL && !too_long && (!last || size == 0)) {
            source->scanned = start == 0 ? size : source->scanned;
            break;
        }
        if (!source->skipping) {
            r = add_line(source, batch,
                         mr_bytes(data, too_long ? source->line_size_max : line_size),
                         source->position.at + start, too_long);
        }
        if (r == MR_OK) {
            source->skipping = end == NULL && !last; /* its rest is not a line of its own */
            start += line_size + (end == NULL ? 0 : 1);
        }
    }
    if (start > 0) {
        consume(source, start);
        source->scanned = 0;
    }
    return r;
}

/* --- reading ----------------------------------------------------------------------------------- */

static enum mr_status read_chunk(struct mr_source *source, struct mr_problem *problem)
{
    enum mr_status r = mr_buf_reserve(&source->buf, CHUNK_SIZE);
    if (r != MR_OK) {
        return mr_problem_set(problem, r, "no memory to read");
    }
    uint8_t *to = source->buf.data + source->buf.size;
    ssize_t n;
    if (source->is_stdin) {
        struct pollfd p = {.fd = 0, .events = POLLIN};
        if (poll(&p, 1, 0) <= 0) {
            source->at_end = true;
            return MR_OK;
        }
        n = read(0, to, CHUNK_SIZE);
    } else {
        n = pread(source->file, to, CHUNK_SIZE,
                  (off_t)(source->position.at + source->buf.size));
    }
    if (n < 0) {
        if (errno == EINTR || errno == EAGAIN) {
            source->at_end = true;
            return MR_OK;
        }
        return mr_problem_set(problem, mr_status_from_errno(errno), "cannot read %s: %s",
                              source->options.path, strerror(errno));
    }
    source->buf.size += (size_t)n;
    source->at_end = n == 0;
    source->ended = n == 0 && source->is_stdin;
    return MR_OK;
}

/* At the end of the open file: is there a newer one, was it cut, are we done? */
static void look_around(struct mr_source *source)
{
    struct stat st;
    if (source->is_stdin) {
        return;
    }
    if (fstat(source->file, &st) == 0 &&
        (uint64_t)st.st_size < source->position.at + source->buf.size) {
        MR_WARN("file", "source=%s path=%s was cut, reading it from its start", source->name,
                source->options.path);
        int file = dup(source->file);
        if (file >= 0) {
            begin_file(source, file, 0);
        }
        return;
    }
    int file = -1;
    if (mr__file_open_read(source->folder, source->options.path, &file, NULL) == MR_OK) {
        struct stat named = {0};
        bool other = fstat(file, &named) == 0 && fstat(source->file, &st) == 0 &&
                     (named.st_ino != st.st_ino || named.st_dev != st.st_dev);
        if (!other) {
            (void)close(file);
            source->is_old = false;
        } else if (!source->is_old) { /* once more to the end: it may have grown meanwhile */
            (void)close(file);
            source->is_old = true;
            source->at_end = false;
            return;
        } else if (source->buf.size > 0) {
            (void)close(file); /* its last line, without an end, goes first */
            return;
        } else {
            source->is_old = false;
            begin_file(source, file, 0);
            watch_file(source);
            return;
        }
    }
    source->ended = !source->options.follow;
}

static void submit(struct mr_source *source, struct mr_batch *batch)
{
    MR_ASSERT(batch != NULL);
    source->out = true;
    source->out_count = batch->count;
    source->host->ops->submit(source->host, batch);
}

static enum mr_status finish_batch(struct mr_source *source)
{
    struct mr_batch *batch = source->building;
    if (batch->count == 0) {
        return MR_OK;
    }
    if (!source->is_stdin) {
        source->position.head = head_crc(source->file, source->position.at);
        batch->cursor = mr__file_cursor(&source->position);
        if (batch->cursor == NULL) {
            return MR_E_NOMEM;
        }
    }
    batch->reply = &source->replies;
    submit(source, MR_TAKE(source->building));
    return MR_OK;
}

/* Reads until a batch is full or the file is at its end, and submits what there is. What fails is
 * tried again later: a batch half built stays. */
static void read_lines(struct mr_source *source)
{
    struct mr_problem problem = {.text = ""};
    enum mr_status r = MR_OK;
    if (source->building == NULL) {
        source->building =
            mr_batch_create(atomic_load_explicit(&source->index, memory_order_relaxed), 64);
        r = source->building == NULL ? MR_E_NOMEM : MR_OK;
    }
    source->at_end = false;
    while (r == MR_OK) {
        struct mr_batch *batch = source->building;
        bool last = source->ended || (source->at_end && source->is_old);
        r = take_lines(source, batch, last);
        if (r != MR_OK || batch->count >= BATCH_COUNT || batch->size >= BATCH_SIZE ||
            source->at_end) {
            break;
        }
        r = read_chunk(source, &problem);
        if (r == MR_OK && source->at_end && batch->count == 0) {
            look_around(source); /* between batches only: a batch is of one file */
        }
    }
    if (r == MR_OK) {
        r = finish_batch(source);
    }
    if (r != MR_OK) {
        set_health(source, MR_HEALTH_DEGRADED, NULL,
                   problem.text[0] != '\0' ? problem.text : mr_status_text(r));
        wait_again(source);
    }
}

/* --- the thread -------------------------------------------------------------------------------- */

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
    return source->ended && source->buf.size == 0 && source->again == NULL;
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
    if (!open_source(source)) {
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
        fds[1].fd = source->is_stdin ? 0 : source->watch;
    }
    if (poll(fds, 2, timeout_ms) < 0 && errno != EINTR) {
        MR_ERROR("file", "source=%s poll: %s", source->name, strerror(errno));
    }
    if (fds[1].revents != 0 && !source->is_stdin) {
        char events[4096]; /* which does not matter: all make us look */
        while (read(source->watch, events, sizeof(events)) > 0) {
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

/* --- the connector's calls --------------------------------------------------------------------- */

static void destroy_source(struct mr_source *source)
{
    if (source == NULL) {
        return;
    }
    if (source->out) { /* the bus may still write into the queue */
        MR_ERROR("file", "source=%s a batch did not come back, ignoring", source->name);
        return;
    }
    if (source->file > 0) {
        (void)close(source->file);
    }
    if (source->watch >= 0) {
        (void)close(source->watch);
    }
    mr_batch_destroy(source->building);
    mr_batch_destroy(source->again);
    mr_buf_release(&source->buf);
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
    source->file = -1;
    source->watch = -1;
    r = mr_opq_init(&source->replies, UINT64_MAX);
    if (r != MR_OK) {
        mr_free(source);
        return mr_problem_set(problem, r, "no queue for the source");
    }
    (void)pthread_mutex_init(&source->mu, NULL);
    source->host = args->host;
    atomic_init(&source->index, args->index);
    source->event_size_max =
        args->config == NULL ? MR_EVENT_SIZE_DEFAULT : (size_t)args->config->event_size_max;
    /* Base64 and escapes make a line longer than its event; more is refused anyway. */
    source->line_size_max = 2 * source->event_size_max + MR_EVENT_ATTRS_SIZE_MAX;
    mr_buf_init(&source->buf, source->line_size_max + 4u * CHUNK_SIZE);
    source->boot = mr_rng_entropy();
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
    source->is_stdin = strcmp(source->options.path, "-") == 0;
    source->resumes = mr__file_read_cursor(args->cursor, &source->position);
    source->from_end = source->options.from == MR_FILE_FROM_END;
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
