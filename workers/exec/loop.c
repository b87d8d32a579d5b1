#include <errno.h>
#include <sys/epoll.h>

#include "core/alloc.h"
#include "core/assert.h"
#include "workers/exec/internal.h"
#include "workers/guardian.h"

#define EVENTS_PER_PASS 64
#define WAIT_MAX_NS (10 * MR_SECOND)

void mr__exec_wake_at(struct mr_target *t, uint64_t at_ns)
{
    if (at_ns != 0 && at_ns < t->wake_at_ns) {
        t->wake_at_ns = at_ns;
    }
}

void mr__exec_answer(struct mr_target *t, struct mr_handout *h)
{
    MR_ASSERT(h->answer.verdict != MR_VERDICT_NONE);
    h->op.next = NULL;
    *t->answers_end = h;
    t->answers_end = (struct mr_handout **)(void *)&h->op.next; /* op is the first member */
}

static void refuse_pending(struct mr_target *t, const char *why)
{
    struct mr_handout *h = t->pending;
    t->pending = NULL;
    t->pending_end = &t->pending;
    while (h != NULL) {
        struct mr_handout *next = (struct mr_handout *)h->op.next;
        h->answer.verdict = MR_VERDICT_REFUSED;
        mr_handout_set_error(h, mr_bytes_of(why));
        mr__exec_answer(t, h);
        h = next;
    }
}

static void cancel(struct mr_target *t, const struct mr__exec_cancel *op)
{
    for (uint32_t n = 0; n < t->count; n++) {
        const struct mr_handout *h = t->runs[n]->handout;
        if (h->offset == op->offset && h->subscription == op->subscription &&
            h->fence == op->fence) {
            mr__run_cancel(t->runs[n]);
            return;
        }
    }
}

static void handle_op(struct mr_target *t, struct mr_op *op)
{
    switch ((enum mr__exec_op)op->type) {
    case MR__EXEC_SUBMIT: {
        struct mr_handout *h = (struct mr_handout *)op;
        op->next = NULL;
        *t->pending_end = h;
        t->pending_end = (struct mr_handout **)(void *)&h->op.next;
        break;
    }
    case MR__EXEC_CANCEL:
        cancel(t, (struct mr__exec_cancel *)op);
        mr_free(op);
        break;
    case MR__EXEC_STOP:
        t->stopping = true;
        break;
    }
}

static void take_ops(struct mr_target *t)
{
    while (!t->asleep) { /* then epoll will say */
        struct mr_op *op = mr_opq_take(&t->queue);
        t->asleep = op == NULL;
        while (op != NULL) {
            struct mr_op *next = op->next;
            handle_op(t, op);
            op = next;
        }
    }
}

/* More than there are places for is never submitted, but the capacity may have shrunk since. */
static void start_pending(struct mr_target *t)
{
    while (t->pending != NULL && t->count < t->run_max && !t->stopping &&
           t->now.mono_ns >= t->start_not_before_ns) {
        struct mr_handout *h = t->pending;
        t->pending = (struct mr_handout *)h->op.next;
        if (t->pending == NULL) {
            t->pending_end = &t->pending;
        }
        h->op.next = NULL;
        mr__run_start(t, h);
    }
    refuse_pending(t, t->stopping ? "the worker is stopping" : "no process can be started now");
}

static void update_runs(struct mr_target *t)
{
    if (t->stopping && !t->overdue) {
        uint64_t deadline = atomic_load_explicit(&t->stop_deadline_ns, memory_order_relaxed);
        t->overdue = t->now.mono_ns >= deadline;
        mr__exec_wake_at(t, t->overdue ? t->now.mono_ns : deadline);
    }
    bool late = atomic_exchange_explicit(&t->cancel_lost, false, memory_order_relaxed);
    for (uint32_t n = 0; n < t->count; n++) {
        if (late && t->now.mono_ns >= t->runs[n]->lease_end_ns) {
            mr__run_cancel(t->runs[n]);
        }
        mr__run_update(t->runs[n]);
    }
}

static void give_answers(struct mr_target *t)
{
    if (t->answers != NULL) {
        struct mr_handout *first = t->answers;
        t->answers = NULL;
        t->answers_end = &t->answers;
        t->host->ops->answer(t->host, first);
    }
}

static void tell_capacity(struct mr_target *t)
{
    bool backing_off = t->now.mono_ns < t->start_not_before_ns;
    uint32_t capacity = t->stopping ? 0 : backing_off ? t->count : t->run_max;
    if (backing_off) {
        mr__exec_wake_at(t, t->start_not_before_ns);
    }
    bool again = atomic_exchange_explicit(&t->announce, false, memory_order_acquire);
    if (capacity != t->capacity_told || again) {
        t->capacity_told = capacity;
        t->host->ops->capacity(t->host, atomic_load_explicit(&t->index, memory_order_relaxed),
                               capacity);
    }
}

static void publish_health(struct mr_target *t)
{
    struct mr_health *h = &t->now_health;
    uint64_t held_size = 0;
    for (uint32_t n = 0; n < t->count; n++) {
        held_size += sizeof(struct mr__run) + t->runs[n]->in.capacity + t->runs[n]->out.capacity;
    }
    h->bytes_held = held_size;
    h->instances_busy = t->count;
    h->instances_ready = t->stopping ? 0 : t->run_max;
    pthread_mutex_lock(&t->mu);
    t->shown_health = *h;
    t->shown_streak = t->streak;
    pthread_mutex_unlock(&t->mu);
}

static void sweep_orphans(struct mr_target *t)
{
    if (t->sweep_at_ns != 0 && t->now.mono_ns >= t->sweep_at_ns) {
        t->sweep_at_ns = mr_guardian_sweep() > 0 || t->count > 0 ? t->now.mono_ns + MR_SECOND : 0;
    }
    mr__exec_wake_at(t, t->sweep_at_ns);
}

static bool run_once(struct mr_target *t, const struct epoll_event *events, int count)
{
    t->now = mr_clock_now();
    t->wake_at_ns = t->now.mono_ns + WAIT_MAX_NS;
    for (int i = 0; i < count; i++) {
        const struct mr__exec_watch *w = events[i].data.ptr;
        if (w->kind == MR__EXEC_QUEUE) {
            t->asleep = false;
        } else {
            mr__run_event(w->run, w->kind);
        }
    }
    take_ops(t);
    start_pending(t);
    update_runs(t);
    /* In this order: whoever gets an answer finds numbers and capacity that include it. */
    publish_health(t);
    tell_capacity(t);
    give_answers(t);
    sweep_orphans(t);
    while (t->ended != NULL) {
        struct mr__run *run = t->ended;
        t->ended = run->next_ended;
        mr__run_destroy(run);
    }
    return !(t->stopping && t->count == 0);
}

void *mr__exec_loop(void *target)
{
    struct mr_target *t = target;
    struct epoll_event events[EVENTS_PER_PASS];
    int count = 0;
    while (run_once(t, events, count)) {
        uint64_t now = mr_clock_mono_ns();
        int wait = t->wake_at_ns <= now ? 0 : (int)((t->wake_at_ns - now + MR_MS - 1) / MR_MS);
        count = epoll_wait(t->epoll, events, EVENTS_PER_PASS, wait);
        MR_ASSERT(count >= 0 || errno == EINTR);
        count = count < 0 ? 0 : count;
    }
    mr_opq_close(&t->queue);
    t->asleep = false;
    take_ops(t);
    refuse_pending(t, "the worker is stopped");
    give_answers(t);
    mr_guardian_sweep_all();
    return NULL;
}
