#include <errno.h>
#include <sys/epoll.h>

#include "core/alloc.h"
#include "core/assert.h"
#include "workers/guardian.h"
#include "workers/process/internal.h"

#define EVENTS_PER_PASS 64
#define WAIT_MAX_NS (10 * MR_SECOND)

void mr__process_wake_at(struct mr_target *t, uint64_t at_ns)
{
    if (at_ns != 0 && at_ns < t->wake_at_ns) {
        t->wake_at_ns = at_ns;
    }
}

void mr__process_answer(struct mr_target *t, struct mr_handout *h)
{
    MR_ASSERT(h->answer.verdict != MR_VERDICT_NONE);
    h->op.next = NULL;
    *t->answers_end = h;
    /* The link inside a hand-out is a struct mr_op, its first member: same address. */
    t->answers_end = (struct mr_handout **)(void *)&h->op.next;
}

void mr__process_refuse(struct mr_target *t, struct mr_handout *h, const char *why)
{
    h->answer.verdict = MR_VERDICT_REFUSED;
    mr_handout_set_error(h, mr_bytes_of(why));
    mr__process_answer(t, h);
}

static void give_answers(struct mr_target *t)
{
    if (t->answers == NULL) {
        return;
    }
    struct mr_handout *first = t->answers;
    t->answers = NULL;
    t->answers_end = &t->answers;
    t->host->ops->answer(t->host, first);
}

static void handle_op(struct mr_target *t, struct mr_op *op)
{
    switch ((enum mr__op_type)op->type) {
    case MR__OP_SUBMIT: {
        struct mr_handout *h = (struct mr_handout *)op;
        if (t->pending == NULL) {
            t->pending_since_ns = t->now.mono_ns;
        }
        op->next = NULL;
        *t->pending_end = h;
        t->pending_end = (struct mr_handout **)(void *)&h->op.next;
        break;
    }
    case MR__OP_CANCEL: {
        struct mr__cancel *cancel = (struct mr__cancel *)op;
        mr__dispatch_cancel(t, cancel);
        mr_free(cancel);
        break;
    }
    case MR__OP_STOP:
        mr__pool_stop(t);
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

static void tell_capacity(struct mr_target *t)
{
    uint32_t capacity = mr__pool_capacity(t);
    bool again = atomic_exchange_explicit(&t->announce, false, memory_order_acquire);
    if (capacity != t->capacity_told || again) {
        t->capacity_told = capacity;
        t->host->ops->capacity(t->host, atomic_load_explicit(&t->index, memory_order_relaxed),
                               capacity);
    }
}

/* Numbers only: words are made when somebody asks (target.c). */
static void publish_health(struct mr_target *t)
{
    struct mr_health *h = &t->now_health;
    uint64_t held_size = 0;
    h->instances_ready = 0;
    h->instances_busy = 0;
    h->instances_starting = 0;
    for (uint32_t i = 0; i < t->count; i++) {
        const struct mr__instance *instance = t->instances[i];
        h->instances_starting += instance->state == MR__STARTING;
        h->instances_ready += instance->state == MR__READY;
        h->instances_busy += instance->held > 0;
        held_size += sizeof(*instance) + instance->in.capacity + instance->out.capacity;
    }
    h->bytes_held = held_size;
    pthread_mutex_lock(&t->mu);
    t->shown_health = *h;
    t->shown_streak = t->streak;
    t->shown_count = t->count;
    pthread_mutex_unlock(&t->mu);
}

static void handle_event(struct mr_target *t, const struct epoll_event *event)
{
    const struct mr__watch *watch = event->data.ptr;
    struct mr__instance *i = watch->instance;
    if (watch->kind == MR__WATCH_QUEUE) {
        t->asleep = false;
        return;
    }
    if (i->child.pid == 0) {
        return; /* it ended earlier in this pass */
    }
    switch (watch->kind) {
    case MR__WATCH_SOCKET:
        if ((event->events & EPOLLOUT) != 0) {
            i->out_blocked = false; /* flushed at the end of the pass */
        }
        if ((event->events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
            mr__receive_socket(i);
        }
        break;
    case MR__WATCH_STDOUT:
        mr__receive_output(i, false);
        break;
    case MR__WATCH_STDERR:
        mr__receive_output(i, true);
        break;
    case MR__WATCH_END:
        mr__instance_ended(i);
        break;
    case MR__WATCH_QUEUE:
        break;
    }
}

static void free_ended(struct mr_target *t)
{
    struct mr__instance *i = t->ended;
    t->ended = NULL;
    while (i != NULL) {
        struct mr__instance *next = i->next_ended;
        mr_buf_release(&i->out);
        mr_buf_release(&i->in);
        mr_free(i->slots);
        mr_free(i);
        i = next;
    }
}

static void sweep_orphans(struct mr_target *t)
{
    if (t->now.mono_ns >= t->sweep_at_ns) {
        (void)mr_guardian_sweep();
        t->sweep_at_ns = t->now.mono_ns + MR_SECOND;
    }
    if (t->count > 0) {
        mr__process_wake_at(t, t->sweep_at_ns);
    }
}

static int wait_ms(const struct mr_target *t)
{
    uint64_t now = mr_clock_mono_ns();
    if (t->wake_at_ns <= now) {
        return 0;
    }
    return (int)((t->wake_at_ns - now + MR_MS - 1) / MR_MS); /* at most 10 000 */
}

/* One pass: what came since the last, what time demands, what follows from both, then out. */
static bool run_once(struct mr_target *t, struct epoll_event *events, int count)
{
    t->now = mr_clock_now();
    t->wake_at_ns = t->now.mono_ns + WAIT_MAX_NS;
    for (int i = 0; i < count; i++) {
        handle_event(t, &events[i]);
    }
    take_ops(t);
    if (atomic_exchange_explicit(&t->cancel_lost, false, memory_order_relaxed)) {
        mr__dispatch_cancel_late(t);
    }
    mr__pool_update(t);
    mr__dispatch_pending(t);
    for (uint32_t i = 0; i < t->count; i++) {
        mr__instance_flush(t->instances[i]);
    }
    /* In this order: whoever gets an answer finds numbers and capacity that include it. */
    publish_health(t);
    tell_capacity(t);
    give_answers(t);
    sweep_orphans(t);
    free_ended(t);
    return !(t->stopping && t->count == 0 && t->pending == NULL);
}

void *mr__process_loop(void *target)
{
    struct mr_target *t = target;
    struct epoll_event events[EVENTS_PER_PASS];
    int count = 0;
    while (run_once(t, events, count)) {
        count = epoll_wait(t->epoll, events, EVENTS_PER_PASS, wait_ms(t));
        MR_ASSERT(count >= 0 || errno == EINTR);
        count = count < 0 ? 0 : count;
    }
    mr_opq_close(&t->queue);
    t->asleep = false;
    take_ops(t);
    mr__dispatch_refuse_all(t, "the worker is stopped");
    give_answers(t);
    mr_guardian_sweep_all();
    return NULL;
}
