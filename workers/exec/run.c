#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/assert.h"
#include "schemas/json_format.h"
#include "workers/exec/internal.h"

#define READS_PER_PASS 16u
#define LAST_GRACE_NS (500 * MR_MS)

/* --- environment: attributes as CE_NAME ------------------------------------------------------- */

struct entries {
    struct mr_buf text;                     /* NUL-terminated entries one behind another */
    size_t at[MR_EVENT_ATTRS_MAX + 8];      /* where each begins */
    const char *items[MR_EVENT_ATTRS_MAX + 9];
    size_t count;
};

static enum mr_status add_entry(struct entries *e, const char *prefix, struct mr_bytes name,
                                struct mr_bytes value)
{
    if (e->count == MR_ARRAY_COUNT(e->at)) {
        return MR_E_TOO_BIG;
    }
    e->at[e->count++] = e->text.size;
    enum mr_status r = mr_buf_append_text(&e->text, prefix);
    for (size_t i = 0; r == MR_OK && i < name.size; i++) {
        uint8_t c = name.data[i];
        r = mr_buf_append_byte(&e->text, c >= 'a' && c <= 'z' ? (uint8_t)(c - 32) : c);
    }
    if (r == MR_OK) {
        r = mr_buf_append_byte(&e->text, '=');
    }
    if (r == MR_OK) {
        r = mr_buf_append_bytes(&e->text, value);
    }
    return r == MR_OK ? mr_buf_append_byte(&e->text, 0) : r;
}

static enum mr_status fill_entries(struct entries *e, const struct mr__run *run)
{
    const struct mr_handout *h = run->handout;
    char attempt[24];
    int n = snprintf(attempt, sizeof(attempt), "%" PRIu32, h->attempt);
    mr_buf_init(&e->text, MR_EVENT_ATTRS_SIZE_MAX * 2 + 4096);
    struct mr_bytes none = mr_bytes(NULL, 0);
    enum mr_status r = add_entry(e, "CE_SPECVERSION", none, MR_BYTES_LITERAL("1.0"));
    struct mr_bytes record = mr_event_record(h->event);
    uint32_t position = 0;
    struct mr_attr attr;
    while (r == MR_OK && mr_event_next_attr(record, &position, &attr)) {
        r = add_entry(e, "CE_", attr.name, attr.value);
    }
    const struct {
        const char *name;
        struct mr_bytes value;
    } ours[] = {{"MILLRACE_DELIVERY", mr_bytes_of(h->delivery)},
                {"MILLRACE_ATTEMPT", mr_bytes(attempt, (size_t)n)},
                {"MILLRACE_LAST", mr_bytes_of(h->last ? "true" : "false")},
                {"MILLRACE_WORKER", mr_bytes_of(run->target->base.name)},
                {"MILLRACE_INSTANCE", mr_bytes_of(run->who)}};
    for (size_t i = 0; r == MR_OK && i < MR_ARRAY_COUNT(ours); i++) {
        r = add_entry(e, ours[i].name, none, ours[i].value);
    }
    for (size_t i = 0; r == MR_OK && i < e->count; i++) {
        e->items[i] = (const char *)e->text.data + e->at[i];
    }
    return r;
}

/* --- start ------------------------------------------------------------------------------------ */

static bool watch(struct mr__run *run, struct mr__exec_watch *w, enum mr__exec_watch_kind kind,
                  int fd)
{
    *w = (struct mr__exec_watch){kind, run};
    return mr_station_watch(&run->target->base, fd,
                            kind == MR__EXEC_STDIN ? EPOLLOUT : EPOLLIN, w);
}

static void unwatch(struct mr__run *run, int *fd)
{
    if (*fd >= 0) {
        mr_station_unwatch(&run->target->base, *fd);
        mr_child_close(fd);
    }
}

static enum mr_status start_child(struct mr__run *run, struct mr_problem *problem)
{
    struct entries entries = {.count = 0};
    enum mr_status r = fill_entries(&entries, run);
    if (r != MR_OK) {
        (void)mr_problem_set(problem, r, "the attributes do not fit an environment");
    } else {
        r = mr_child_start(&run->target->command, entries.items, MR_CHILD_STDIN, &run->child,
                           problem);
    }
    mr_buf_release(&entries.text);
    return r;
}

void mr__run_destroy(struct mr__run *run)
{
    mr_buf_release(&run->in);
    mr_buf_release(&run->out);
    mr_free(run);
}

static void fill_answer_frame(struct mr__run *run)
{
    struct mr_answer *a = &run->handout->answer;
    (void)snprintf(a->instance, sizeof(a->instance), "%s", run->who); /* same size */
    (void)snprintf(a->version, sizeof(a->version), "%" PRIu64, run->target->base.generation);
}

void mr__run_start(struct mr_target *t, struct mr_handout *h)
{
    struct mr_problem problem = {.text = "out of memory"};
    MR_ASSERT(t->count < t->run_max);
    struct mr__run *run = mr_calloc(1, sizeof(*run));
    if (run == NULL) {
        mr_station_refuse(&t->base, h, problem.text);
        return;
    }
    run->target = t;
    run->handout = h;
    run->child = (struct mr_child){.pidfd = -1, .io = -1, .in = -1, .out = -1, .err = -1};
    run->born_ns = t->base.now.mono_ns;
    run->lease_end_ns = run->born_ns + h->timeout_ns;
    (void)snprintf(run->who, sizeof(run->who), "%.24s/%" PRIu64, t->base.name,
                   ++t->run_number % 1000000000u); /* fits */
    mr_buf_init(&run->in, MR_FRAME_SIZE_MAX);
    mr_buf_init(&run->out, MR_RESPONSE_SIZE_MAX);
    enum mr_status r = mr_json_encode_event(mr_event_record(h->event), &run->in);
    if (r == MR_OK) {
        r = mr_buf_append_byte(&run->in, '\n');
    }
    if (r == MR_E_TOO_BIG) {
        h->answer.verdict = MR_VERDICT_DEAD;
        mr_handout_set_error(h, mr_bytes_of("the event does not fit 8 MiB of JSON"));
        mr_station_answer(&t->base, h);
        mr__run_destroy(run);
        return;
    }
    if (r == MR_OK) {
        r = start_child(run, &problem);
    }
    if (r != MR_OK) {
        MR_WARN("workers", "%s: %s", t->base.name, problem.text);
        mr_station_failed(&t->base, problem.text);
        mr_station_refuse(&t->base, h, problem.text);
        mr__run_destroy(run);
        return;
    }
    if (!watch(run, &run->watch_in, MR__EXEC_STDIN, run->child.in) ||
        !watch(run, &run->watch_out, MR__EXEC_STDOUT, run->child.out) ||
        !watch(run, &run->watch_err, MR__EXEC_STDERR, run->child.err) ||
        !watch(run, &run->watch_end, MR__EXEC_END, run->child.pidfd)) {
        struct mr_child_end end;
        mr_child_signal(&run->child, SIGKILL);
        mr_child_finish(&run->child, &end);
        mr_station_refuse(&t->base, h, "too many watched descriptors");
        mr__run_destroy(run);
        return;
    }
    h->answer.started_wall_ns = t->base.now.wall_ns;
    mr_station_succeeded(&t->base);
    t->base.now_health.starts++;
    t->base.now_health.messages++;
    t->runs[t->count++] = run;
}

/* --- input and output ------------------------------------------------------------------------- */

static void write_input(struct mr__run *run)
{
    while (run->child.in >= 0 && run->sent < run->in.size) {
        /* SIGPIPE is blocked in this thread (target.c): a closed pipe is EPIPE. */
        ssize_t n = write(run->child.in, run->in.data + run->sent, run->in.size - run->sent);
        if (n > 0) {
            run->sent += (size_t)n;
        } else if (n < 0 && errno == EAGAIN) {
            return;
        } else if (n < 0 && errno != EINTR) {
            break; /* it does not want to read: no fault */
        }
    }
    unwatch(run, &run->child.in);
    mr_buf_release(&run->in);
}

static void keep_output(struct mr__run *run, struct mr_bytes text)
{
    if (run->out_cut || mr_buf_append_bytes(&run->out, text) != MR_OK) {
        run->out_cut = true;
        mr_buf_release(&run->out);
    }
}

static void read_output(struct mr__run *run, bool is_error)
{
    struct mr_target *t = run->target;
    int *fd = is_error ? &run->child.err : &run->child.out;
    uint8_t chunk[16384];
    for (unsigned reads = 0; reads < READS_PER_PASS && *fd >= 0; reads++) {
        ssize_t n = read(*fd, chunk, sizeof(chunk));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno == EAGAIN) {
            return;
        }
        if (n <= 0) {
            unwatch(run, fd);
            return;
        }
        struct mr_bytes text = mr_bytes(chunk, (size_t)n);
        if (is_error) {
            mr_tail_add(&run->err_tail, text, run->who, "stderr", &t->base.log_rate,
                        t->base.now.mono_ns);
        } else {
            keep_output(run, text);
        }
    }
}

/* --- end -------------------------------------------------------------------------------------- */

static void run_ended(struct mr__run *run)
{
    struct mr_target *t = run->target;
    struct mr_child_end end;
    /* A pipe holds 64 KiB unless it was made larger; READS_PER_PASS takes four times that. */
    read_output(run, false);
    read_output(run, true);
    mr_tail_end(&run->err_tail, run->who, "stderr", &t->base.log_rate, t->base.now.mono_ns);
    unwatch(run, &run->child.in);
    unwatch(run, &run->child.out);
    unwatch(run, &run->child.err);
    mr_station_unwatch(&t->base, run->child.pidfd);
    mr_child_finish(&run->child, &end);
    fill_answer_frame(run);
    mr__exec_result(run, &end);
    run->handout->answer.ended_wall_ns = t->base.now.wall_ns;
    t->base.now_health.crashes += run->handout->answer.verdict == MR_VERDICT_CRASH;
    t->base.now_health.rss_peak =
        end.rss_peak > t->base.now_health.rss_peak ? end.rss_peak : t->base.now_health.rss_peak;
    for (uint32_t n = 0; n < t->count; n++) {
        if (t->runs[n] == run) {
            t->runs[n] = t->runs[--t->count];
            break;
        }
    }
    mr_station_answer(&t->base, run->handout);
    run->handout = NULL;
    run->next_ended = t->ended;
    t->ended = run;
    mr_station_sweep_soon(&t->base);
}

void mr__run_event(struct mr__run *run, enum mr__exec_watch_kind kind)
{
    if (run->child.pid == 0) {
        return; /* it ended earlier in this pass */
    }
    switch (kind) {
    case MR__EXEC_STDIN:
        write_input(run);
        break;
    case MR__EXEC_STDOUT:
        read_output(run, false);
        break;
    case MR__EXEC_STDERR:
        read_output(run, true);
        break;
    case MR__EXEC_END:
        run_ended(run);
        break;
    }
}

static void end_within(struct mr__run *run, uint64_t grace_ns)
{
    mr_child_signal(&run->child, SIGTERM);
    run->kill_at_ns = run->target->base.now.mono_ns + grace_ns;
}

void mr__run_cancel(struct mr__run *run)
{
    if (!run->cancelled && !run->overdue) {
        run->cancelled = true;
        end_within(run, run->target->grace_ns);
    }
}

void mr__run_update(struct mr__run *run)
{
    struct mr_target *t = run->target;
    if (t->overdue && !run->overdue) {
        run->overdue = true;
        end_within(run, t->grace_ns < LAST_GRACE_NS ? t->grace_ns : LAST_GRACE_NS);
    }
    if (run->kill_at_ns != 0 && t->base.now.mono_ns >= run->kill_at_ns) {
        mr_child_signal(&run->child, SIGKILL);
        run->kill_at_ns = 0; /* sent; its end follows */
    }
    mr_station_wake_at(&t->base, run->kill_at_ns);
}
