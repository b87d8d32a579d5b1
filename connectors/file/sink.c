/* File sink: one event a line, appended, synced before it is answered.
 *
 * One thread takes everything that is waiting, writes it with one call and syncs once. A write or
 * sync that fails is cut back, the file closed and opened anew before the hand-outs' next attempt:
 * after a failed sync nothing about the old descriptor is believed. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "connectors/file/file.h"
#include "connectors/options.h"
#include "core/alloc.h"
#include "core/assert.h"
#include "core/clock.h"
#include "core/io.h"
#include "core/logger.h"
#include "schemas/json_format.h"

#define GROUP_SIZE_MAX (4u * MR_MIB) /* written at once; one event more than fits is allowed */
#define REOPEN_MS 1000
#define SLOTS_DEFAULT 64u

struct mr_target {
    struct mr_host *host; /* borrowed: outlives us */
    char *name;           /* owned */
    char *folder;         /* owned; may be NULL */
    _Atomic uint32_t index;
    uint32_t slots;
    struct mr_file_sink_options options; /* owned copy */
    pthread_t thread;
    bool started;
    atomic_bool stopping;
    struct mr_opq handouts;

    /* The thread's own. */
    int dir; /* owned; -1: not open */
    const char *base; /* borrowed from options.path */
    int file; /* owned; -1 */
    uint64_t size;
    bool torn; /* the file ends within a line that is not ours to mend */
    struct mr_buf lines;

    pthread_mutex_t mu; /* protects health */
    struct mr_health health;
};

static void set_health(struct mr_target *target, enum mr_health_state state, const char *error)
{
    pthread_mutex_lock(&target->mu);
    target->health.state = state;
    if (error != NULL) {
        mr_text_clean(target->health.last_error, sizeof(target->health.last_error),
                      mr_bytes_of(error));
        target->health.last_error_wall_ns = mr_clock_now().wall_ns;
        target->health.errors++;
    }
    (void)snprintf(target->health.detail, sizeof(target->health.detail), "%s %.100s",
                   state == MR_HEALTH_DOWN ? "cannot write" : "appending to",
                   target->options.path);
    pthread_mutex_unlock(&target->mu);
}

static void read_health(struct mr_target *target, struct mr_health *ret_health)
{
    pthread_mutex_lock(&target->mu);
    *ret_health = target->health;
    pthread_mutex_unlock(&target->mu);
}

/* --- the file --------------------------------------------------------------------------------- */

static void close_file(struct mr_target *target)
{
    if (target->file >= 0) {
        (void)close(target->file); /* what matters was synced */
        target->file = -1;
    }
    if (target->dir >= 0) {
        (void)close(target->dir);
        target->dir = -1;
    }
}

/* Whether the open file is still the one of that name; it is not after a foreign log rotation. */
static bool is_current(const struct mr_target *target)
{
    struct stat named;
    struct stat ours;
    return fstatat(target->dir, target->base, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
           fstat(target->file, &ours) == 0 && named.st_ino == ours.st_ino &&
           named.st_dev == ours.st_dev;
}

static enum mr_status open_file(struct mr_target *target, struct mr_problem *problem)
{
    if (target->file >= 0) {
        if (is_current(target)) {
            return MR_OK;
        }
        close_file(target);
    }
    enum mr_status r = MR_OK;
    if (target->dir < 0) {
        r = mr__file_open_dir(target->folder, target->options.path, &target->dir, &target->base,
                              problem);
    }
    if (r == MR_OK) {
        r = mr__file_open_append(target->dir, target->base, &target->file, problem);
    }
    struct stat st = {0};
    if (r == MR_OK && fstat(target->file, &st) != 0) {
        r = mr_problem_set(problem, MR_E_IO, "cannot look at %s: %s", target->options.path,
                           strerror(errno));
    }
    if (r == MR_OK && fsync(target->dir) != 0) { /* its name must survive, too */
        r = mr_problem_set(problem, MR_E_IO, "cannot sync the folder of %s: %s",
                           target->options.path, strerror(errno));
    }
    if (r != MR_OK) {
        close_file(target);
        return r;
    }
    target->size = (uint64_t)st.st_size;
    char last = '\n';
    target->torn = target->size > 0 &&
                   (pread(target->file, &last, 1, (off_t)(target->size - 1)) != 1 || last != '\n');
    return MR_OK;
}

/* PATH.keep-1 becomes PATH.keep, …, PATH becomes PATH.1. The next open makes a new PATH. */
static enum mr_status rotate(struct mr_target *target, struct mr_problem *problem)
{
    char from[300];
    char to[300];
    for (int64_t i = target->options.keep - 1; i >= 0; i--) {
        int a = i == 0 ? snprintf(from, sizeof(from), "%s", target->base)
                       : snprintf(from, sizeof(from), "%s.%lld", target->base, (long long)i);
        int b = snprintf(to, sizeof(to), "%s.%lld", target->base, (long long)i + 1);
        if (a < 0 || b < 0 || (size_t)a >= sizeof(from) || (size_t)b >= sizeof(to)) {
            return mr_problem_set(problem, MR_E_INVALID, "the name of %s is too long to rotate",
                                  target->options.path);
        }
        if (renameat(target->dir, from, target->dir, to) != 0 && errno != ENOENT) {
            return mr_problem_set(problem, mr_status_from_errno(errno), "cannot rotate %s: %s",
                                  target->options.path, strerror(errno));
        }
    }
    (void)close(target->file);
    target->file = -1;
    return open_file(target, problem);
}

/* @param[out] ret_tried  whether any byte may have reached the file */
static enum mr_status write_lines(struct mr_target *target, bool *ret_tried,
                                  struct mr_problem *problem)
{
    enum mr_status r = open_file(target, problem);
    if (r == MR_OK && target->options.rotate_size != 0 && target->size > 0 &&
        target->size + target->lines.size > target->options.rotate_size) {
        r = rotate(target, problem);
    }
    if (r != MR_OK) {
        return r;
    }
    MR_ASSERT(target->lines.size > 0);
    *ret_tried = true;
    bool written = (!target->torn || mr_fd_write_full(target->file, "\n", 1)) &&
                   mr_fd_write_full(target->file, target->lines.data, target->lines.size);
    if (!written || fdatasync(target->file) != 0) {
        int error = errno;
        /* Best effort: the lines are written again, half a line should not stay between. */
        bool cut = ftruncate(target->file, (off_t)target->size) == 0;
        close_file(target);
        return mr_problem_set(problem, mr_status_from_errno(error), "cannot %s %s: %s%s",
                              written ? "sync" : "write", target->options.path, strerror(error),
                              cut ? "" : "; a part of a line may stay");
    }
    target->size += target->lines.size + (target->torn ? 1 : 0);
    target->torn = false;
    return MR_OK;
}

/* --- hand-outs -------------------------------------------------------------------------------- */

static void give_back(struct mr_target *target, struct mr_op *first, enum mr_verdict verdict,
                      const char *error, uint64_t started_ns)
{
    uint64_t ended_ns = mr_clock_now().wall_ns;
    for (struct mr_op *op = first; op != NULL; op = op->next) {
        struct mr_handout *handout = (struct mr_handout *)(void *)op;
        if (handout->answer.verdict != MR_VERDICT_NONE) {
            continue; /* answered one by one already */
        }
        handout->answer.verdict = verdict;
        handout->answer.started_wall_ns = started_ns;
        handout->answer.ended_wall_ns = ended_ns;
        (void)snprintf(handout->answer.instance, sizeof(handout->answer.instance), "file");
        if (error != NULL) {
            mr_handout_set_error(handout, mr_bytes_of(error));
        }
    }
    if (first != NULL) {
        target->host->ops->answer(target->host, (struct mr_handout *)(void *)first);
    }
}

/* Appends the hand-out's line. @return false: it was answered, there is no line */
static bool add_line(struct mr_target *target, struct mr_handout *handout)
{
    size_t before = target->lines.size;
    enum mr_status r = mr_json_encode_event(mr_event_record(handout->event), &target->lines);
    if (r == MR_OK) {
        r = mr_buf_append_byte(&target->lines, '\n');
    }
    if (r == MR_OK) {
        return true;
    }
    target->lines.size = before;
    handout->answer.verdict = r == MR_E_NOMEM ? MR_VERDICT_RETRY : MR_VERDICT_DEAD;
    mr_handout_set_error(handout, mr_bytes_of(r == MR_E_NOMEM ? "out of memory"
                                                              : "the event is too large as JSON"));
    return false;
}

/* Writes the first part of the chain that fits a group. @return the rest */
static struct mr_op *write_group(struct mr_target *target, struct mr_op *first)
{
    uint64_t started_ns = mr_clock_now().wall_ns;
    struct mr_op *last = first;
    mr_buf_clear(&target->lines);
    uint64_t lines = add_line(target, (struct mr_handout *)(void *)first) ? 1 : 0;
    while (last->next != NULL && target->lines.size < GROUP_SIZE_MAX) {
        last = last->next;
        lines += add_line(target, (struct mr_handout *)(void *)last) ? 1 : 0;
    }
    struct mr_op *rest = last->next;
    last->next = NULL;
    struct mr_problem problem = {.text = ""};
    bool tried = false;
    enum mr_status r = lines == 0 ? MR_OK : write_lines(target, &tried, &problem);
    if (r == MR_OK) {
        pthread_mutex_lock(&target->mu);
        target->health.messages += lines;
        bool mended = target->health.state != MR_HEALTH_OK;
        pthread_mutex_unlock(&target->mu);
        if (mended) {
            set_health(target, MR_HEALTH_OK, NULL);
        }
        give_back(target, first, MR_VERDICT_OK, NULL, started_ns);
        return rest;
    }
    set_health(target, MR_HEALTH_DEGRADED, problem.text);
    give_back(target, first, tried ? MR_VERDICT_RETRY : MR_VERDICT_REFUSED, problem.text,
              tried ? started_ns : 0);
    return rest;
}

/* --- the thread ------------------------------------------------------------------------------- */

static void tell_capacity(struct mr_target *target, uint32_t slots)
{
    target->host->ops->capacity(target->host,
                                atomic_load_explicit(&target->index, memory_order_relaxed), slots);
}

static bool is_stopping(const struct mr_target *target)
{
    return atomic_load_explicit(&target->stopping, memory_order_acquire);
}

/* Opens the file if need be and tells the bus when that changed. */
static bool keep_open(struct mr_target *target, bool *open, bool *told, struct mr_problem *problem)
{
    bool now_open = open_file(target, problem) == MR_OK;
    if (now_open != *open || !*told) {
        set_health(target, now_open ? MR_HEALTH_OK : MR_HEALTH_DOWN,
                   now_open ? NULL : problem->text);
        tell_capacity(target, now_open ? target->slots : 0);
    }
    *told = true;
    *open = now_open;
    return now_open;
}

static void *run(void *context)
{
    struct mr_target *target = context;
    bool open = false;
    bool told = false;
    for (;;) {
        struct mr_op *chain = mr_opq_take(&target->handouts);
        /* After the take, which swallows wake-ups: what it missed wakes the poll below. */
        if (is_stopping(target)) {
            give_back(target, chain, MR_VERDICT_REFUSED, "stopped", 0);
            return NULL;
        }
        bool idle = chain == NULL; /* only then does a push wake us */
        struct mr_problem problem = {.text = ""};
        if (!keep_open(target, &open, &told, &problem)) {
            give_back(target, chain, MR_VERDICT_REFUSED, problem.text, 0);
            chain = NULL;
        }
        while (chain != NULL && !is_stopping(target)) {
            chain = write_group(target, chain);
        }
        give_back(target, chain, MR_VERDICT_REFUSED, "stopped", 0);
        if (idle) {
            struct pollfd p = {.fd = mr_opq_fd(&target->handouts), .events = POLLIN};
            (void)poll(&p, 1, open ? -1 : REOPEN_MS); /* a failure is a spurious wake-up */
        }
    }
}

/* --- the connector's calls -------------------------------------------------------------------- */

static void destroy_target(struct mr_target *target)
{
    if (target == NULL) {
        return;
    }
    close_file(target);
    mr_buf_release(&target->lines);
    mr_opq_release(&target->handouts);
    pthread_mutex_destroy(&target->mu);
    mr_options_release(mr_connector_file.sink_kind.options, &target->options);
    mr_free(target->folder);
    mr_free(target->name);
    mr_free(target);
}

static enum mr_status create_target(const struct mr_target_args *args,
                                    struct mr_target **ret_target, struct mr_problem *problem)
{
    enum mr_status r = mr__file_check_sink(args->options, problem);
    if (r != MR_OK) {
        return r;
    }
    struct mr_target *target = mr_calloc(1, sizeof(*target));
    if (target == NULL) {
        return mr_problem_set(problem, MR_E_NOMEM, "no memory for the sink");
    }
    target->dir = -1;
    target->file = -1;
    r = mr_opq_init(&target->handouts, UINT64_MAX);
    if (r != MR_OK) {
        mr_free(target);
        return mr_problem_set(problem, r, "no queue for the sink");
    }
    (void)pthread_mutex_init(&target->mu, NULL);
    mr_buf_init(&target->lines, GROUP_SIZE_MAX + MR_FRAME_SIZE_MAX);
    target->host = args->host;
    atomic_init(&target->index, args->index);
    target->slots = args->config == NULL || args->config->concurrency == 0
                        ? SLOTS_DEFAULT
                        : args->config->concurrency;
    target->name = mr_strdup(args->name);
    target->folder = mr_strdup(args->folder);
    r = target->name == NULL || (target->folder == NULL && args->folder != NULL)
            ? MR_E_NOMEM
            : mr__options_copy(mr_connector_file.sink_kind.options, sizeof(target->options),
                               args->options, &target->options);
    if (r != MR_OK) {
        destroy_target(target);
        return mr_problem_set(problem, r, "no memory for the sink");
    }
    *ret_target = target;
    return MR_OK;
}

static enum mr_status start_target(struct mr_target *target, struct mr_problem *problem)
{
    if (pthread_create(&target->thread, NULL, run, target) != 0) {
        return mr_problem_set(problem, MR_E_UNAVAILABLE, "no thread for sink %s", target->name);
    }
    target->started = true;
    return MR_OK;
}

static void submit_handouts(struct mr_target *target, struct mr_handout *first)
{
    if (mr_opq_push(&target->handouts, &first->op) != MR_OK) { /* closed by stop */
        give_back(target, &first->op, MR_VERDICT_REFUSED, "stopped", 0);
    }
}

/* A line is written in one go: there is nothing that could be called off. */
static void cancel_handout(struct mr_target *target, uint32_t subscription, uint64_t offset,
                           uint32_t fence)
{
    (void)target;
    (void)subscription;
    (void)offset;
    (void)fence;
}

static void stop_target(struct mr_target *target, uint64_t deadline_mono_ns)
{
    (void)deadline_mono_ns; /* at most one group is under way */
    if (!target->started) {
        return;
    }
    atomic_store_explicit(&target->stopping, true, memory_order_release);
    mr_opq_close(&target->handouts);
    (void)pthread_join(target->thread, NULL);
    target->started = false;
    give_back(target, mr_opq_take(&target->handouts), MR_VERDICT_REFUSED, "stopped", 0);
}

static void reindex_target(struct mr_target *target, uint32_t index)
{
    atomic_store_explicit(&target->index, index, memory_order_relaxed);
}

const struct mr_target_ops mr__file_sink_ops = {
    .create = create_target,
    .start = start_target,
    .submit = submit_handouts,
    .cancel = cancel_handout,
    .stop = stop_target,
    .destroy = destroy_target,
    .health = read_health,
    .reindex = reindex_target,
};
