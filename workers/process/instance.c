#include <errno.h>
#include <inttypes.h>
#include <linux/sockios.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "core/alloc.h"
#include "core/assert.h"
#include "workers/process/internal.h"

#define START_MAX_NS (60 * MR_SECOND) /* or the timeout, when that is longer */
/* A worker that took our handshake and says nothing for this long has none of its own. */
#define SILENT_NS (250 * MR_MS)
#define SILENT_POLL_NS (20 * MR_MS)
#define SOCKET_ENDED_NS MR_SECOND /* between closing its socket and being killed */
#define LAST_GRACE_NS (500 * MR_MS) /* between SIGTERM and SIGKILL when the target's stop is due */
#define CPU_LAST_NS (2 * MR_SECOND) /* between SIGXCPU and the kill of one that ignores it */
#define BUFFER_KEEP_MAX (256u * MR_KIB)

/* Which state may follow which. */
static const bool allowed[5][5] = {
    [MR__STARTING] = {[MR__READY] = true, [MR__DRAINING] = true, [MR__KILLED] = true},
    [MR__READY] = {[MR__DRAINING] = true, [MR__KILLED] = true},
    [MR__DRAINING] = {[MR__STOPPING] = true, [MR__KILLED] = true},
    [MR__STOPPING] = {[MR__KILLED] = true},
    [MR__KILLED] = {[MR__KILLED] = true},
};

static void set_state(struct mr__instance *i, enum mr__state state)
{
    MR_ASSERT(allowed[i->state][state]);
    i->state = state;
}

static bool watch(struct mr__instance *i, struct mr__watch *w, enum mr__watch_kind kind, int fd)
{
    *w = (struct mr__watch){kind, i};
    return mr_station_watch(&i->target->base, fd, EPOLLIN, w);
}

static uint64_t with_jitter(struct mr_target *t, uint64_t ns)
{
    return ns * 9 / 10 + mr_rng_below(&t->base.rng, ns / 5 + 1);
}

static void greet(struct mr__instance *i)
{
    char line[256];
    (void)snprintf(line, sizeof(line),
                   "{\"millrace\":1,\"max\":%" PRIu32 ",\"features\":[\"cancel\",\"progress\","
                   "\"raw\",\"batch\"],\"instance\":\"%s\",\"version\":\"%s\"}\n",
                   i->target->concurrency, i->who, i->version); /* fits: who and version are 40 */
    mr__instance_send(i, line);
}

static struct mr__instance *create(struct mr_target *t)
{
    struct mr__instance *i = mr_calloc(1, sizeof(*i));
    if (i == NULL) {
        return NULL;
    }
    i->slots = mr_calloc(t->concurrency, sizeof(*i->slots));
    if (i->slots == NULL) {
        mr_free(i);
        return NULL;
    }
    i->slot_capacity = t->concurrency;
    i->target = t;
    i->number = ++t->next_number;
    i->slot_max = 1;
    i->born_ns = t->base.now.mono_ns;
    i->recycle_at_ns = t->max_life_ns == 0 ? 0 : i->born_ns + with_jitter(t, t->max_life_ns);
    mr_buf_init(&i->out, MR__OUT_SIZE_MAX);
    mr_buf_init(&i->in, MR__IN_SIZE_MAX);
    (void)snprintf(i->who, sizeof(i->who), "%.28s/%" PRIu32, t->base.name, i->number); /* fits */
    (void)snprintf(i->version, sizeof(i->version), "%" PRIu64, t->base.generation);    /* fits */
    return i;
}

void mr__instance_free(struct mr__instance *i)
{
    mr_buf_release(&i->out);
    mr_buf_release(&i->in);
    mr_free(i->slots);
    mr_free(i);
}

enum mr_status mr__instance_start(struct mr_target *t, struct mr_problem *problem)
{
    MR_ASSERT(t->count < t->scale_max);
    struct mr__instance *i = create(t);
    if (i == NULL) {
        return mr_problem_set(problem, MR_E_NOMEM, "out of memory");
    }
    char worker[MR_NAME_SIZE_MAX + 32];
    char instance[80];
    (void)snprintf(worker, sizeof(worker), "MILLRACE_WORKER=%s", t->base.name);          /* fits */
    (void)snprintf(instance, sizeof(instance), "MILLRACE_INSTANCE=%s", i->who); /* fits */
    const char *const extra[] = {worker, instance, NULL};
    enum mr_status r = mr_child_start(&t->command, extra, MR_CHILD_SOCKET, &i->child, problem);
    if (r != MR_OK) {
        mr__instance_free(i);
        return r;
    }
    if (!watch(i, &i->watch_socket, MR__WATCH_SOCKET, i->child.io) ||
        !watch(i, &i->watch_stdout, MR__WATCH_STDOUT, i->child.out) ||
        !watch(i, &i->watch_stderr, MR__WATCH_STDERR, i->child.err) ||
        !watch(i, &i->watch_end, MR__WATCH_END, i->child.pidfd)) {
        struct mr_child_end end;
        mr_child_signal(&i->child, SIGKILL);
        mr_child_finish(&i->child, &end);
        mr__instance_free(i);
        return mr_problem_set(problem, MR_E_UNAVAILABLE, "too many watched descriptors");
    }
    t->instances[t->count++] = i;
    t->base.now_health.starts++;
    greet(i);
    mr__instance_flush(i);
    mr_station_wake_at(&t->base, t->base.now.mono_ns + SILENT_POLL_NS);
    return MR_OK;
}

void mr__instance_ready(struct mr__instance *i)
{
    struct mr_target *t = i->target;
    if (i->state != MR__STARTING) {
        return;
    }
    set_state(i, MR__READY);
    t->replacing = false;
    i->idle_since_ns = t->base.now.mono_ns;
    mr_station_note_start(&t->base, mr_clock_mono_ns() - i->born_ns);
}

void mr__instance_send(struct mr__instance *i, const char *text)
{
    if (i->child.io < 0 || i->socket_ended) {
        return;
    }
    if (mr_buf_append_text(&i->out, text) != MR_OK) {
        MR_DEBUG("workers", "%s: a control frame found no room", i->who);
    }
}

static void watch_out(struct mr__instance *i, bool on)
{
    if (on == i->out_watched) {
        return;
    }
    struct epoll_event event = {.events = EPOLLIN | (on ? EPOLLOUT : 0u),
                                .data.ptr = &i->watch_socket};
    int failed = epoll_ctl(i->target->base.epoll, EPOLL_CTL_MOD, i->child.io, &event);
    MR_ASSERT(failed == 0); /* it is registered: only our own mistake can fail */
    i->out_watched = on;
}

void mr__instance_flush(struct mr__instance *i)
{
    while (!i->out_blocked && !i->socket_ended && i->sent < i->out.size) {
        ssize_t n = send(i->child.io, i->out.data + i->sent, i->out.size - i->sent,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0) {
            i->sent += (size_t)n;
        } else if (errno == EAGAIN) {
            i->out_blocked = true;
        } else if (errno != EINTR) {
            break; /* it closed its end: reading says so too */
        }
    }
    if (i->socket_ended) {
        return;
    }
    watch_out(i, i->out_blocked);
    if (i->sent == i->out.size) {
        i->sent = 0;
        mr_buf_clear(&i->out);
        if (i->out.capacity > BUFFER_KEEP_MAX) {
            mr_buf_release(&i->out);
        }
    } else if (i->sent > MR__OUT_SOFT_MAX) {
        memmove(i->out.data, i->out.data + i->sent, i->out.size - i->sent);
        i->out.size -= i->sent;
        i->sent = 0;
    }
}

void mr__instance_kill(struct mr__instance *i, const char *why)
{
    if (i->state == MR__KILLED) {
        return;
    }
    set_state(i, MR__KILLED);
    (void)snprintf(i->why, sizeof(i->why), "%s", why); /* cut is fine */
    mr_child_signal(&i->child, SIGKILL);
    if (why[0] != '\0') {
        MR_WARN("workers", "%s is killed: it %s", i->who, why);
    }
}

void mr__instance_distrust(struct mr__instance *i, const char *why)
{
    i->distrusted = true;
    mr__instance_kill(i, why);
}

static uint64_t last_grace(const struct mr_target *t)
{
    return t->grace_ns < LAST_GRACE_NS ? t->grace_ns : LAST_GRACE_NS;
}

/* Empty: end of input, then SIGTERM after the grace, then SIGKILL after another. */
static void begin_end(struct mr__instance *i)
{
    struct mr_target *t = i->target;
    set_state(i, MR__STOPPING);
    i->expected = true;
    mr__instance_flush(i);
    (void)shutdown(i->child.io, SHUT_WR); /* it may have closed its end already */
    i->term_at_ns = t->base.now.mono_ns + t->grace_ns;
    i->kill_at_ns = i->term_at_ns + t->grace_ns;
    if (t->base.stopping) {
        uint64_t deadline = atomic_load_explicit(&t->base.stop_deadline_ns, memory_order_relaxed);
        uint64_t last = last_grace(t);
        uint64_t term_at = deadline > last ? deadline - last : 0;
        i->term_at_ns = term_at < i->term_at_ns ? term_at : i->term_at_ns;
        i->kill_at_ns = i->term_at_ns + last < i->kill_at_ns ? i->term_at_ns + last : i->kill_at_ns;
    }
}

void mr__instance_drain(struct mr__instance *i)
{
    if (i->state != MR__READY && i->state != MR__STARTING && i->state != MR__DRAINING) {
        return;
    }
    if (i->state != MR__DRAINING) {
        set_state(i, MR__DRAINING);
    }
    if (!i->stop_sent && !i->socket_ended) {
        i->stop_sent = true;
        mr__instance_send(i, "{\"stop\":true}\n");
    }
    /* An empty one goes on at once. */
    mr_station_wake_at(&i->target->base, i->target->base.now.mono_ns);
}

void mr__instance_replace(struct mr__instance *i)
{
    i->target->replacing = true;
    mr__instance_drain(i);
}

static void update_starting(struct mr__instance *i)
{
    struct mr_target *t = i->target;
    int unread = 1;
    if (i->read_first_ns == 0 && i->sent == i->out.size &&
        ioctl(i->child.io, SIOCOUTQ, &unread) == 0 && unread == 0) {
        i->read_first_ns = t->base.now.mono_ns;
    }
    if (i->read_first_ns != 0 && t->base.now.mono_ns >= i->read_first_ns + SILENT_NS) {
        mr__instance_ready(i);
    } else if (t->base.now.mono_ns >=
               i->born_ns + (t->timeout_ns > START_MAX_NS ? t->timeout_ns : START_MAX_NS)) {
        mr__instance_kill(i, "was not ready within its start-up time");
    } else {
        mr_station_wake_at(&t->base, t->base.now.mono_ns + SILENT_POLL_NS);
    }
}

static void update_cancelled(struct mr__instance *i)
{
    struct mr_target *t = i->target;
    for (uint32_t k = 0; k < i->held && i->cancelling > 0; k++) {
        uint64_t due = i->slots[k].cancel_at_ns;
        if (due == 0) {
            continue;
        }
        if (t->base.now.mono_ns >= due) {
            i->expected = true; /* no crash loop: a hanging handler says nothing about the next */
            mr__instance_kill(i, "did not answer a cancelled delivery within the grace");
            return;
        }
        mr_station_wake_at(&t->base, due);
    }
}

static void update_draining(struct mr__instance *i)
{
    struct mr_target *t = i->target;
    if (i->socket_ended) {
        return; /* its kill_at_ns runs */
    }
    if (i->held == 0) {
        begin_end(i);
        return;
    }
    if (t->base.stopping && i->term_at_ns == 0) {
        uint64_t deadline = atomic_load_explicit(&t->base.stop_deadline_ns, memory_order_relaxed);
        i->overdue = t->base.now.mono_ns >= deadline;
        if (i->overdue) {
            i->expected = true;
            i->term_at_ns = t->base.now.mono_ns;
            i->kill_at_ns = t->base.now.mono_ns + last_grace(t);
        }
        mr_station_wake_at(&t->base, deadline);
    }
}

/* A successor is started first where there is room for one (pool.c does not count us any more). */
static void update_ready(struct mr__instance *i)
{
    struct mr_target *t = i->target;
    bool old = i->recycle_at_ns != 0 && t->base.now.mono_ns >= i->recycle_at_ns;
    bool large = t->max_rss != 0 && i->rss > t->max_rss;
    if (!i->retiring && (old || large)) {
        i->retiring = true;
        MR_DEBUG("workers", "%s is replaced: it reached its %s", i->who,
                 old ? "max_life" : "max_rss");
    }
    if (i->retiring && mr__pool_can_spare(t)) {
        mr__instance_replace(i);
        update_draining(i);
    } else if (!i->retiring) {
        mr_station_wake_at(&t->base, i->recycle_at_ns);
    }
}

static void update_signals(struct mr__instance *i)
{
    struct mr_target *t = i->target;
    if (t->base.stopping && i->held == 0 && i->state == MR__STOPPING) {
        uint64_t deadline = atomic_load_explicit(&t->base.stop_deadline_ns, memory_order_relaxed);
        i->kill_at_ns = i->kill_at_ns < deadline ? i->kill_at_ns : deadline;
        i->kill_at_ns = i->kill_at_ns == 0 ? 1 : i->kill_at_ns; /* 0 would be never */
    }
    if (i->kill_at_ns != 0 && t->base.now.mono_ns >= i->kill_at_ns) {
        mr__instance_kill(i, i->expected ? "did not end when told to"
                                         : "closed descriptor 3 and went on");
        return;
    }
    if (i->term_at_ns != 0 && t->base.now.mono_ns >= i->term_at_ns) {
        i->term_at_ns = UINT64_MAX; /* sent */
        mr_child_signal(&i->child, SIGTERM);
    }
    mr_station_wake_at(&t->base, i->kill_at_ns);
    mr_station_wake_at(&t->base, i->term_at_ns);
}

void mr__instance_update(struct mr__instance *i)
{
    struct mr_target *t = i->target;
    if (i->socket_ended && i->kill_at_ns == 0 && i->state != MR__KILLED) {
        if (i->state == MR__STARTING || i->state == MR__READY) {
            set_state(i, MR__DRAINING); /* without a stop frame: nobody would read it */
        }
        i->expected = i->expected || (i->stop_sent && i->held == 0);
        i->kill_at_ns = t->base.now.mono_ns + (i->expected ? t->grace_ns : SOCKET_ENDED_NS);
    }
    switch (i->state) {
    case MR__STARTING:
        update_starting(i);
        break;
    case MR__READY:
        update_ready(i);
        break;
    case MR__DRAINING:
        update_draining(i);
        break;
    case MR__STOPPING:
    case MR__KILLED:
        break;
    }
    if (i->state != MR__KILLED) {
        update_cancelled(i);
        update_signals(i);
    }
}

void mr__instance_limit_cpu(struct mr__instance *i)
{
    struct mr_target *t = i->target;
    if (t->max_cpu_ns != 0 && i->child.pid != 0) { /* 0 would mean ourselves */
        uint32_t times = i->held > i->slot_max ? i->held : i->slot_max;
        i->cpu_max_ns = i->held == 0 ? 0 : i->slots[0].cpu_at_ns + t->max_cpu_ns * times;
        mr_limits_set_cpu(i->child.pid, i->cpu_max_ns);
    }
}

void mr__instance_check_cpu(struct mr__instance *i)
{
    if (i->cpu_max_ns != 0 &&
        mr_limits_cpu_used(i->child.pid) > i->cpu_max_ns + CPU_LAST_NS) {
        i->expected = true; /* no crash loop: as with a handler that hangs */
        mr__instance_kill(i, "used more than its max_cpu");
    }
}

/* Those of a batch stand in a row, unless they came apart on their way here. */
bool mr__instance_has_batch(const struct mr__instance *i, uint64_t batch, uint32_t from)
{
    for (uint32_t k = 0; k < i->held && batch != 0; k++) {
        if (i->slots[(from + k) % i->held].handout->batch == batch) {
            return true;
        }
    }
    return false;
}

void mr__instance_release_slot(struct mr__instance *i, uint32_t at)
{
    MR_ASSERT(at < i->held);
    uint64_t batch = i->slots[at].handout->batch;
    bool beside = batch != 0 && at > 0 && i->slots[at - 1].handout->batch == batch;
    i->cancelling -= i->slots[at].cancel_at_ns != 0;
    mr_free(i->slots[at].progress);
    memmove(&i->slots[at], &i->slots[at + 1], (i->held - at - 1) * sizeof(i->slots[0]));
    i->held--;
    i->places -= !beside && !mr__instance_has_batch(i, batch, at);
    if (at == 0) {
        mr__instance_limit_cpu(i);
    }
    if (i->held == 0) {
        i->alone = false;
        i->idle_since_ns = i->target->base.now.mono_ns;
        if (i->state == MR__DRAINING) {
            mr_station_wake_at(&i->target->base, i->target->base.now.mono_ns);
        }
    }
}

/* What is still in flight died with it. */
static void answer_crashed(struct mr__instance *i, const struct mr_child_end *end)
{
    struct mr_target *t = i->target;
    uint32_t suspects = i->overdue ? 0 : i->held;
    char ended[128];
    char note[160];
    char text[MR_ERROR_TEXT_MAX];
    mr_child_end_text(end, ended);
    if (i->overdue) {
        (void)snprintf(text, sizeof(text), "stopped: Millrace could not wait for it any longer");
    } else if (i->why[0] != '\0') {
        (void)snprintf(text, sizeof(text), "%s was killed: it %s", i->who, i->why);
    } else {
        (void)snprintf(text, sizeof(text), "%s %s%s%s%s", i->who, ended,
                       mr_limits_note(&t->command.limits, end, note),
                       i->err_tail.last[0] == '\0' ? "" : ": ", i->err_tail.last); /* may be cut */
    }
    while (i->held > 0) {
        struct mr__slot *slot = &i->slots[0];
        struct mr_handout *h = slot->handout;
        struct mr_answer *a = &h->answer;
        a->verdict = MR_VERDICT_CRASH;
        a->suspects = suspects;
        a->ended_wall_ns = t->base.now.wall_ns;
        a->exit_code = end->code;
        a->exit_signal = end->signal;
        a->rss_peak = end->rss_peak;
        (void)snprintf(a->instance, sizeof(a->instance), "%s", i->who);   /* same size */
        (void)snprintf(a->version, sizeof(a->version), "%s", i->version); /* same size */
        mr_handout_set_error(h, mr_bytes_of(text));
        a->stderr_tail = mr_tail_copy(&i->err_tail, slot->stderr_since);
        mr__instance_release_slot(i, 0);
        mr_station_answer(&t->base, h);
    }
}

/* A crash is an end nobody asked for. A worker that ends with 0 after it did some work, holding
 * nothing, recycles itself. */
static bool is_crash(const struct mr__instance *i, const struct mr_child_end *end)
{
    if (i->expected && i->held == 0) {
        return false;
    }
    if (i->overdue || (i->stop_sent && i->held == 0)) {
        return false;
    }
    return !(end->code == 0 && i->held == 0 && i->answered > 0);
}

static void note_end(struct mr__instance *i, const struct mr_child_end *end, bool crash)
{
    struct mr_target *t = i->target;
    char ended[128];
    char note[160];
    char text[800];
    mr_child_end_text(end, ended);
    mr_limits_note(&t->command.limits, end, note);
    (void)snprintf(text, sizeof(text), "%s %s%s%s%s%s%s", i->who, ended, crash ? note : "",
                   i->why[0] == '\0' ? "" : ", killed because it ", i->why,
                   i->err_tail.last[0] == '\0' ? "" : ": ", i->err_tail.last); /* fits */
    if (!crash) {
        t->replacing = t->replacing || !i->expected; /* it recycled itself */
        MR_DEBUG("workers", "%s", text);
        return;
    }
    MR_WARN("workers", "%s", text);
    t->base.now_health.crashes++;
    if (!i->expected && end->signal != SIGXCPU) { /* which says nothing about the next one */
        t->replacing = false;
        mr_station_failed(&t->base, text);
    }
}

void mr__instance_ended(struct mr__instance *i)
{
    struct mr_target *t = i->target;
    /* What it said before it ended counts. */
    mr__receive_socket(i);
    mr__receive_output(i, false);
    mr__receive_output(i, true);
    mr_tail_end(&i->out_tail, i->who, "stdout", &t->base.log_rate, t->base.now.mono_ns);
    mr_tail_end(&i->err_tail, i->who, "stderr", &t->base.log_rate, t->base.now.mono_ns);
    mr_station_unwatch(&t->base, i->child.io);
    mr_station_unwatch(&t->base, i->child.out);
    mr_station_unwatch(&t->base, i->child.err);
    mr_station_unwatch(&t->base, i->child.pidfd);
    struct mr_child_end end;
    mr_child_finish(&i->child, &end);
    end.rss_peak = end.rss_peak > i->rss_peak ? end.rss_peak : i->rss_peak;
    bool crash = is_crash(i, &end);
    note_end(i, &end, crash);
    answer_crashed(i, &end);
    if (end.rss_peak > t->base.now_health.rss_peak) {
        t->base.now_health.rss_peak = end.rss_peak;
    }
    for (uint32_t n = 0; n < t->count; n++) {
        if (t->instances[n] == i) {
            /* Keeps the order: the oldest first. */
            memmove(&t->instances[n], &t->instances[n + 1],
                    (t->count - n - 1) * sizeof(struct mr__instance *));
            t->count--;
            break;
        }
    }
    i->next_ended = t->ended;
    t->ended = i;
    mr_station_sweep_soon(&t->base);
}
