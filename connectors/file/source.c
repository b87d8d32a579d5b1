/* File source: reads lines, one batch at a time, and remembers how far with the events.
 *
 * The position (device, inode, byte, checksum of the head) travels in the batch, is logged in the
 * same group as its events and comes back at the next start: each line enters exactly once. A
 * rotated file (PATH is another inode) is read to its end first; one rotated while Millrace was
 * off is looked for as PATH.1 to PATH.9, and those between are read in their order. A file that was
 * cut is read from its start. */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "connectors/file/reader.h"
#include "connectors/intake.h"
#include "core/clock.h"
#include "core/logger.h"

#define LOOK_AGAIN_MS 1000 /* where inotify tells nothing: network file systems */
#define RETRY_MS 200       /* after a failed read */

struct mr_source {
    struct mr_intake intake;
    struct mr_file_source_options options; /* owned copy */

    /* The thread's own. */
    struct mr_file_reader reader;
    struct mr_batch *building; /* owned; lines that were read already */
};

static void set_health(struct mr_source *source, enum mr_health_state state, const char *detail,
                       const char *error)
{
    char text[128];
    if (detail != NULL) {
        (void)snprintf(text, sizeof(text), "%s %.100s", detail,
                       source->reader.is_stdin ? "standard input" : source->options.path);
    }
    mr__lifecycle_set_health(&source->intake.life, state, detail == NULL ? NULL : text, error);
}

/* --- batches ---------------------------------------------------------------------------------- */

/* Reads what there is and submits it. What fails is tried again later: a batch half built stays.
 * @return how long to wait before looking again, ms; -1: a batch is out */
static int read_lines(struct mr_source *source)
{
    struct mr_problem problem = {.text = ""};
    if (source->building == NULL) {
        source->building = mr__intake_batch(&source->intake, 64);
    }
    enum mr_status r = source->building == NULL
                           ? mr_problem_set(&problem, MR_E_NOMEM, "no memory for a batch")
                           : mr__file_reader_read(&source->reader, source->building, &problem);
    if (r != MR_OK) {
        set_health(source, MR_HEALTH_DEGRADED, NULL, problem.text);
        return RETRY_MS;
    }
    if (source->building->count > 0) {
        mr__intake_submit(&source->intake, MR_TAKE(source->building));
        return -1;
    }
    return mr__file_reader_is_done(&source->reader) ? 0 : LOOK_AGAIN_MS;
}

static void take_durable(void *context, struct mr_batch *batch)
{
    struct mr_source *source = context;
    set_health(source, MR_HEALTH_OK, NULL, NULL);
    atomic_fetch_add_explicit(&source->intake.life.messages, batch->count, memory_order_relaxed);
}

static bool open_reader(struct mr_source *source)
{
    struct mr_problem problem = {.text = ""};
    bool was_open = source->reader.file >= 0;
    if (mr__file_reader_open(&source->reader, &problem) != MR_OK) {
        /* The last error is ours alone to write. */
        bool news = strcmp(source->intake.life.health.last_error, problem.text) != 0;
        set_health(source, MR_HEALTH_DOWN, "waiting for", news ? problem.text : NULL);
        return false;
    }
    if (!was_open) {
        set_health(source, MR_HEALTH_OK, "reading", NULL);
    }
    return true;
}

/* --- the thread ------------------------------------------------------------------------------- */

/* Does what can be done now. @return how long to wait for the next thing; 0: go on at once */
static int act(struct mr_source *source)
{
    if (!mr__intake_wants(&source->intake) || mr__intake_is_out(&source->intake)) {
        return -1;
    }
    if (mr__file_reader_is_done(&source->reader)) {
        set_health(source, MR_HEALTH_OK, "at the end of", NULL);
        mr__lifecycle_set_done(&source->intake.life, true);
        return -1;
    }
    return open_reader(source) ? read_lines(source) : LOOK_AGAIN_MS;
}

/* Waits for replies and, when the thread idles at the end of the file, for its growth. */
static void wait_more(struct mr_source *source, int idle_ms)
{
    struct pollfd fds[2] = {{.fd = mr_opq_fd(&source->intake.life.queue), .events = POLLIN},
                            {.fd = -1, .events = POLLIN}};
    if (idle_ms == LOOK_AGAIN_MS) {
        fds[1].fd = source->reader.is_stdin ? 0 : source->reader.watch;
    }
    int timeout_ms = mr__intake_timeout_ms(&source->intake, mr_clock_mono_ns(), idle_ms);
    if (poll(fds, 2, timeout_ms) < 0 && errno != EINTR) {
        MR_ERROR("file", "source=%s poll: %s", source->intake.life.name, strerror(errno));
    }
    if (fds[1].revents != 0 && !source->reader.is_stdin) {
        char events[4096]; /* which does not matter: all make us look */
        while (read(source->reader.watch, events, sizeof(events)) > 0) {
        }
    }
}

static void *run(void *context)
{
    struct mr_source *source = context;
    for (;;) {
        uint64_t now_ns = mr_clock_mono_ns();
        mr__intake_take(&source->intake, now_ns, take_durable, source);
        if (mr__intake_is_finished(&source->intake, now_ns)) {
            return NULL;
        }
        mr__intake_resubmit(&source->intake, now_ns);
        wait_more(source, act(source));
    }
}

/* --- the connector's calls -------------------------------------------------------------------- */

static_assert(offsetof(struct mr_source, intake) == 0, "its contract calls stand in the table");
static const struct mr_lifecycle_shape shape =
    MR_LIFECYCLE_SHAPE(struct mr_source, mr_connector_file.source_kind, run);

static void destroy_source(struct mr_source *source)
{
    if (source == NULL || !mr__intake_release(&source->intake)) {
        return; /* the bus may still write into its queue */
    }
    mr__file_reader_release(&source->reader);
    mr_batch_destroy(source->building);
    mr__lifecycle_free(&shape, source);
}

static enum mr_status create_source(const struct mr_source_args *args,
                                    struct mr_source **ret_source, struct mr_problem *problem)
{
    struct mr_source *source = NULL;
    enum mr_status r = mr__intake_create(&shape, args, &source, problem);
    if (r != MR_OK) {
        return r;
    }
    source->reader.file = -1;
    source->reader.watch = -1;
    mr__file_reader_init(&source->reader, source->intake.life.name, source->intake.life.folder,
                         &source->options, source->intake.event_size_max, args->cursor);
    *ret_source = source;
    return MR_OK;
}

const struct mr_source_ops mr__file_source_ops = {
    .create = create_source,
    .start = mr__intake_start,
    .pause = mr__intake_pause,
    .resume = mr__intake_resume,
    .stop = mr__intake_stop,
    .destroy = destroy_source,
    .health = mr__intake_health,
    .reindex = mr__intake_reindex,
};
