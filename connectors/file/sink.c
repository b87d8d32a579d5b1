/* File sink: one event a line, appended, synced before it is answered.
 *
 * One thread takes everything that is waiting, writes it with one call and syncs once. A write or
 * sync that fails is cut back, the file closed and opened anew before the hand-outs' next attempt:
 * after a failed sync nothing about the old descriptor is believed. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "connectors/file/file.h"
#include "connectors/outlet.h"
#include "core/assert.h"
#include "core/clock.h"
#include "core/io.h"
#include "schemas/json_format.h"

#define GROUP_SIZE_MAX (4u * MR_MIB) /* written at once; one event more than fits is allowed */
#define REOPEN_MS 1000

struct mr_target {
    struct mr_outlet outlet;
    struct mr_file_sink_options options; /* owned copy */

    /* The thread's own. */
    int dir; /* owned; -1: not open */
    const char *base; /* borrowed from options.path */
    int file; /* owned; -1 */
    uint64_t size;
    bool torn; /* the file ends within a line that is not ours to mend */
    struct mr_buf lines;
};

static void set_health(struct mr_target *target, enum mr_health_state state, const char *error)
{
    char detail[128];
    (void)snprintf(detail, sizeof(detail), "%s %.100s",
                   state == MR_HEALTH_DOWN ? "cannot write" : "appending to",
                   target->options.path);
    mr__lifecycle_set_health(&target->outlet.life, state, detail, error);
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
        r = mr__file_open_dir(target->outlet.life.folder, target->options.path, &target->dir,
                              &target->base, problem);
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

static void answer_chain(struct mr_target *target, struct mr_handout *first,
                         enum mr_verdict verdict, const char *error, uint64_t started_wall_ns)
{
    while (first != NULL) {
        struct mr_handout *next = mr__outlet_next(first);
        mr__outlet_answer(&target->outlet, first, verdict, error, started_wall_ns);
        first = next;
    }
}

/* Appends the hand-out's line. @return MR_E_TOO_BIG, MR_E_NOMEM: there is none */
static enum mr_status add_line(struct mr_target *target, const struct mr_handout *handout)
{
    size_t before = target->lines.size;
    enum mr_status r = mr_json_encode_event(mr_event_record(handout->event), &target->lines);
    if (r == MR_OK) {
        r = mr_buf_append_byte(&target->lines, '\n');
    }
    if (r != MR_OK) {
        target->lines.size = before;
    }
    return r;
}

/* Writes the first part of the chain that fits a group. @return the rest */
static struct mr_handout *write_group(struct mr_target *target, struct mr_handout *first)
{
    uint64_t started_ns = mr_clock_now().wall_ns;
    struct mr_handout *written = NULL; /* newest first */
    mr_buf_clear(&target->lines);
    while (first != NULL && target->lines.size < GROUP_SIZE_MAX) {
        struct mr_handout *handout = first;
        first = mr__outlet_next(handout);
        enum mr_status r = add_line(target, handout);
        if (r == MR_OK) {
            handout->op.next = written == NULL ? NULL : &written->op;
            written = handout;
        } else {
            bool large = r == MR_E_TOO_BIG;
            mr__outlet_answer(&target->outlet, handout,
                              large ? MR_VERDICT_DEAD : MR_VERDICT_RETRY,
                              large ? "the event is too large as JSON" : mr_status_text(r), 0);
        }
    }
    struct mr_problem problem = {.text = ""};
    bool tried = false;
    enum mr_status r = written == NULL ? MR_OK : write_lines(target, &tried, &problem);
    if (r != MR_OK) {
        set_health(target, MR_HEALTH_DEGRADED, problem.text);
        answer_chain(target, written, tried ? MR_VERDICT_RETRY : MR_VERDICT_REFUSED, problem.text,
                     tried ? started_ns : 0);
    } else {
        if (target->outlet.life.health.state != MR_HEALTH_OK) { /* written by this thread alone */
            set_health(target, MR_HEALTH_OK, NULL);
        }
        answer_chain(target, written, MR_VERDICT_OK, NULL, started_ns);
    }
    mr__outlet_flush(&target->outlet);
    return first;
}

/* --- the thread ------------------------------------------------------------------------------- */

/* Opens the file if need be and tells the bus when that changed. */
static bool keep_open(struct mr_target *target, bool *open, bool *told, struct mr_problem *problem)
{
    bool now_open = open_file(target, problem) == MR_OK;
    if (now_open != *open || !*told) {
        set_health(target, now_open ? MR_HEALTH_OK : MR_HEALTH_DOWN,
                   now_open ? NULL : problem->text);
        mr__outlet_tell(&target->outlet, now_open);
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
        struct mr_handout *chain = mr__outlet_take(&target->outlet);
        /* After the take, which swallows wake-ups: what it missed wakes the poll below. */
        if (mr__lifecycle_is_stopping(&target->outlet.life)) {
            answer_chain(target, chain, MR_VERDICT_REFUSED, "stopped", 0);
            return NULL; /* the outlet gives the answers */
        }
        bool idle = chain == NULL; /* only then does a push wake us */
        struct mr_problem problem = {.text = ""};
        if (!keep_open(target, &open, &told, &problem)) {
            answer_chain(target, chain, MR_VERDICT_REFUSED, problem.text, 0);
            chain = NULL;
        }
        while (chain != NULL && !mr__lifecycle_is_stopping(&target->outlet.life)) {
            chain = write_group(target, chain);
        }
        answer_chain(target, chain, MR_VERDICT_REFUSED, "stopped", 0);
        mr__outlet_flush(&target->outlet);
        if (idle) {
            struct pollfd p = {.fd = mr_opq_fd(&target->outlet.life.queue), .events = POLLIN};
            (void)poll(&p, 1, open ? -1 : REOPEN_MS); /* a failure is a spurious wake-up */
        }
    }
}

/* --- the connector's calls -------------------------------------------------------------------- */

static_assert(offsetof(struct mr_target, outlet) == 0, "its contract calls stand in the table");
static const struct mr_lifecycle_shape shape =
    MR_LIFECYCLE_SHAPE(struct mr_target, mr_connector_file.sink_kind, run);

static void destroy_target(struct mr_target *target)
{
    if (target == NULL) {
        return;
    }
    close_file(target);
    mr_buf_release(&target->lines);
    mr__outlet_release(&target->outlet);
    mr__lifecycle_free(&shape, target);
}

static enum mr_status create_target(const struct mr_target_args *args,
                                    struct mr_target **ret_target, struct mr_problem *problem)
{
    struct mr_target *target = NULL;
    enum mr_status r = mr__outlet_create(&shape, args, &target, problem);
    if (r != MR_OK) {
        return r;
    }
    target->dir = -1;
    target->file = -1;
    mr_buf_init(&target->lines, GROUP_SIZE_MAX + MR_FRAME_SIZE_MAX);
    *ret_target = target;
    return MR_OK;
}

const struct mr_target_ops mr__file_sink_ops = {
    .create = create_target,
    .start = mr__outlet_start,
    .submit = mr__outlet_submit,
    .stop = mr__outlet_stop,
    .destroy = destroy_target,
    .health = mr__outlet_health,
    .reindex = mr__outlet_reindex,
};
