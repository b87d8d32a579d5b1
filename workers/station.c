#include "workers/station.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/assert.h"
#include "core/logger.h"
#include "workers/guardian.h"

#define EVENTS_PER_PASS 64
#define WAIT_MAX_NS (10 * MR_SECOND)
#define BACKOFF_FIRST_NS (100 * MR_MS)
#define BACKOFF_MAX_NS (30 * MR_SECOND)
#define SWEEP_SOON_NS (50 * MR_MS) /* orphans take a moment to come to us */

enum op_type {
    OP_SUBMIT = 0, /* the element is a hand-out */
    OP_CANCEL,
    OP_STOP,
    OP_LIST,
};

/* On the stack of who asks, which waits for it. */
struct list_op {
    struct mr_op op;
    const char *delivery; /* borrowed; NULL: all */
    struct mr_buf *json;  /* borrowed */
    pthread_mutex_t mu;  /* protects `done` */
    pthread_cond_t changed;
    bool done;
};

static struct mr_station *station_of(struct mr_target *t)
{
    return (struct mr_station *)(void *)t; /* the first member, in every runtime */
}

static struct mr_target *target_of(struct mr_station *s)
{
    return (struct mr_target *)(void *)s;
}

/* The link inside a hand-out is a struct mr_op, its first member: same address. */
static struct mr_handout **link_of(struct mr_handout *h)
{
    return (struct mr_handout **)(void *)&h->op.next;
}

/* --- life ------------------------------------------------------------------------------------- */

enum mr_status mr_station_init(struct mr_station *s, const struct mr_target_args *args,
                               const struct mr_station_ops *ops, struct mr_problem *problem)
{
    s->ops = ops;
    s->host = args->host;
    s->queue.fd = -1;
    atomic_init(&s->index, args->index);
    s->generation = args->generation;
    s->capacity_told = UINT32_MAX; /* so that the first is told */
    s->pending_end = &s->pending;
    s->answers_end = &s->answers;
    (void)snprintf(s->name, sizeof(s->name), "%s", args->name); /* names fit by their limit */
    mr_rng_init(&s->rng, mr_rng_entropy());
    (void)pthread_mutex_init(&s->mu, NULL); /* with standard attributes it cannot fail */
    s->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (s->epoll < 0 || mr_opq_init(&s->queue, UINT64_MAX) != MR_OK ||
        !mr_station_watch(s, mr_opq_fd(&s->queue), EPOLLIN, &s->queue)) {
        return mr_problem_set(problem, MR_E_UNAVAILABLE, "no descriptors for worker %s",
                              args->name);
    }
    return MR_OK;
}

void mr_station_release(struct mr_station *s)
{
    MR_ASSERT(!s->started);
    mr_opq_release(&s->queue);
    if (s->epoll >= 0) {
        close(s->epoll);
    }
    (void)pthread_mutex_destroy(&s->mu); /* nobody holds it */
}

static void *run(void *station);

enum mr_status mr_station_start(struct mr_target *t, struct mr_problem *problem)
{
    struct mr_station *s = station_of(t);
    enum mr_status r = mr_guardian_ref(problem);
    if (r == MR_OK && s->limits != NULL) {
        r = mr_limits_settle(s->limits, s->name, s->now_health.limits, problem);
        if (r != MR_OK) {
            mr_guardian_unref();
        }
    }
    if (r != MR_OK) {
        return r;
    }
    /* Signals are the engine's business; SIGPIPE of a worker's closed pipe is an error code. */
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&s->thread, NULL, run, s);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) {
        mr_guardian_unref();
        return mr_problem_set(problem, MR_E_UNAVAILABLE, "no thread for worker %s", s->name);
    }
    s->started = true;
    return MR_OK;
}

void mr_station_stop(struct mr_target *t, uint64_t deadline_mono_ns)
{
    struct mr_station *s = station_of(t);
    if (!s->started) {
        return;
    }
    atomic_store_explicit(&s->stop_deadline_ns, deadline_mono_ns, memory_order_relaxed);
    s->stop_op = (struct mr_op){.type = OP_STOP};
    enum mr_status r = mr_opq_push(&s->queue, &s->stop_op);
    MR_ASSERT(r == MR_OK);
    (void)pthread_join(s->thread, NULL);
    s->started = false;
    mr_guardian_unref();
}

/* --- from other threads ----------------------------------------------------------------------- */

void mr_station_submit(struct mr_target *t, struct mr_handout *first)
{
    struct mr_station *s = station_of(t);
    MR_ASSERT(first != NULL);
    for (struct mr_op *op = &first->op; op != NULL; op = op->next) {
        op->type = OP_SUBMIT;
    }
    if (mr_opq_push(&s->queue, &first->op) == MR_OK) {
        return;
    }
    /* Only after stop: nobody is there any more. */
    for (struct mr_op *op = &first->op; op != NULL; op = op->next) {
        ((struct mr_handout *)op)->answer.verdict = MR_VERDICT_REFUSED;
    }
    s->host->ops->answer(s->host, first);
}

void mr_station_cancel(struct mr_target *t, uint32_t subscription, uint64_t offset,
                       uint32_t fence)
{
    struct mr_station *s = station_of(t);
    struct mr_station_cancel *cancel = mr_calloc(1, sizeof(*cancel));
    if (cancel == NULL) {
        atomic_store_explicit(&s->cancel_lost, true, memory_order_relaxed);
        mr_opq_wake(&s->queue);
        return;
    }
    cancel->op.type = OP_CANCEL;
    cancel->subscription = subscription;
    cancel->offset = offset;
    cancel->fence = fence;
    if (mr_opq_push(&s->queue, &cancel->op) != MR_OK) {
        mr_free(cancel); /* after stop: everything is answered */
    }
}

void mr_station_demand(struct mr_target *t, uint64_t queued, uint64_t oldest_age_ns)
{
    struct mr_station *s = station_of(t);
    uint64_t now = mr_clock_mono_ns();
    atomic_store_explicit(&s->demand_born_ns, now > oldest_age_ns ? now - oldest_age_ns : 1,
                          memory_order_relaxed);
    uint64_t before = atomic_exchange_explicit(&s->demand_queued, queued, memory_order_relaxed);
    if (queued > before) {
        mr_opq_wake(&s->queue); /* less demand can wait for the next pass */
    }
}

void mr_station_reindex(struct mr_target *t, uint32_t index)
{
    struct mr_station *s = station_of(t);
    atomic_store_explicit(&s->index, index, memory_order_relaxed);
    atomic_store_explicit(&s->announce, true, memory_order_release); /* tell_capacity acquires */
    mr_opq_wake(&s->queue);
}

void mr_station_list(struct mr_target *t, const char *delivery, struct mr_buf *json)
{
    struct mr_station *s = station_of(t);
    struct list_op list = {.op = {.type = OP_LIST},
                           .delivery = delivery,
                           .json = json,
                           .mu = PTHREAD_MUTEX_INITIALIZER,
                           .changed = PTHREAD_COND_INITIALIZER};
    if (!s->started || mr_opq_push(&s->queue, &list.op) != MR_OK) {
        return; /* nothing runs */
    }
    pthread_mutex_lock(&list.mu);
    while (!list.done) {
        pthread_cond_wait(&list.changed, &list.mu);
    }
    pthread_mutex_unlock(&list.mu);
}

static void list_now(struct mr_station *s, struct list_op *list)
{
    struct mr_buf *json = list->json;
    size_t begin = json->size;
    enum mr_status r = mr_buf_append_byte(json, '[');
    bool any = list->delivery == NULL;
    uint32_t count = s->ops->measure(target_of(s), &s->now_health);
    for (uint32_t n = 0; r == MR_OK && n < count; n++) {
        size_t before = json->size;
        r = before == begin + 1 ? MR_OK : mr_buf_append_byte(json, ',');
        r = r == MR_OK ? s->ops->list(target_of(s), n, list->delivery, json) : r;
        any = any || r == MR_OK;
        json->size = r == MR_OK ? json->size : before; /* no room: what fits is shown */
        r = r == MR_E_NOT_FOUND ? MR_OK : r;
    }
    if (!any || mr_buf_append_byte(json, ']') != MR_OK) {
        json->size = begin;
    }
    pthread_mutex_lock(&list->mu);
    list->done = true;
    pthread_cond_signal(&list->changed);
    pthread_mutex_unlock(&list->mu); /* with this the asker may go on, and the operation is gone */
}

struct mr_station_shown mr_station_show(struct mr_station *s)
{
    pthread_mutex_lock(&s->mu);
    struct mr_station_shown shown = s->shown;
    pthread_mutex_unlock(&s->mu);
    uint64_t now = mr_clock_mono_ns();
    if (shown.health.crash_streak > 0 && shown.start_not_before_ns > now) {
        shown.health.backoff_ns = shown.start_not_before_ns - now;
    }
    return shown;
}

/* --- for the runtime -------------------------------------------------------------------------- */

void mr_station_wake_at(struct mr_station *s, uint64_t at_ns)
{
    if (at_ns != 0 && at_ns < s->wake_at_ns) {
        s->wake_at_ns = at_ns;
    }
}

bool mr_station_watch(struct mr_station *s, int fd, uint32_t events, void *watch)
{
    struct epoll_event event = {.events = events, .data.ptr = watch};
    return epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

void mr_station_unwatch(struct mr_station *s, int fd)
{
    if (fd >= 0) {
        (void)epoll_ctl(s->epoll, EPOLL_CTL_DEL, fd, NULL); /* out of it already: fine */
    }
}

struct mr_handout *mr_station_take_pending(struct mr_station *s)
{
    struct mr_handout *h = s->pending;
    if (h != NULL) {
        s->pending = (struct mr_handout *)h->op.next;
        if (s->pending == NULL) {
            s->pending_end = &s->pending;
        }
        h->op.next = NULL;
    }
    return h;
}

void mr_station_answer(struct mr_station *s, struct mr_handout *h)
{
    MR_ASSERT(h->answer.verdict != MR_VERDICT_NONE);
    h->op.next = NULL;
    *s->answers_end = h;
    s->answers_end = link_of(h);
}

void mr_station_refuse(struct mr_station *s, struct mr_handout *h, const char *why)
{
    h->answer.verdict = MR_VERDICT_REFUSED;
    mr_handout_set_error(h, mr_bytes_of(why));
    mr_station_answer(s, h);
}

void mr_station_refuse_pending(struct mr_station *s, const char *why)
{
    while (s->pending != NULL) {
        mr_station_refuse(s, mr_station_take_pending(s), why);
    }
}

bool mr_station_is_meant(const struct mr_handout *h, const struct mr_station_cancel *cancel)
{
    return h->offset == cancel->offset && h->subscription == cancel->subscription &&
           h->fence == cancel->fence;
}

void mr_station_failed(struct mr_station *s, const char *why)
{
    s->streak++;
    uint64_t wait = BACKOFF_FIRST_NS;
    for (uint32_t n = 1; n < s->streak && wait < BACKOFF_MAX_NS; n++) {
        wait *= 2;
    }
    wait = wait > BACKOFF_MAX_NS ? BACKOFF_MAX_NS : wait;
    wait = wait * 8 / 10 + mr_rng_below(&s->rng, wait * 4 / 10); /* +-20 % */
    s->start_not_before_ns = s->now.mono_ns + wait;
    s->now_health.errors++;
    mr_text_clean(s->now_health.last_error, sizeof(s->now_health.last_error), mr_bytes_of(why));
    s->now_health.last_error_wall_ns = s->now.wall_ns;
}

void mr_station_succeeded(struct mr_station *s)
{
    s->streak = 0;
    s->start_not_before_ns = 0;
}

void mr_station_note_start(struct mr_station *s, uint64_t ns)
{
    struct mr_health *health = &s->now_health;
    s->ready_count++;
    s->ready_ns += ns;
    health->start_ns_last = ns;
    health->start_ns_mean = s->ready_ns / s->ready_count;
    health->start_ns_max = ns > health->start_ns_max ? ns : health->start_ns_max;
}

void mr_station_sweep_soon(struct mr_station *s)
{
    s->sweep_at_ns = s->now.mono_ns + SWEEP_SOON_NS;
    mr_station_wake_at(s, s->sweep_at_ns);
}

/* --- the loop --------------------------------------------------------------------------------- */

static void add_pending(struct mr_station *s, struct mr_handout *h)
{
    if (s->pending == NULL) {
        s->pending_since_ns = s->now.mono_ns;
    }
    h->op.next = NULL;
    *s->pending_end = h;
    s->pending_end = link_of(h);
}

static bool cancel_pending(struct mr_station *s, const struct mr_station_cancel *cancel)
{
    struct mr_handout **link = &s->pending;
    while (*link != NULL) {
        struct mr_handout *h = *link;
        if (mr_station_is_meant(h, cancel)) {
            *link = (struct mr_handout *)h->op.next;
            if (*link == NULL) {
                s->pending_end = link;
            }
            mr_station_refuse(s, h, "no instance became free in time");
            return true;
        }
        link = link_of(h);
    }
    return false;
}

static void handle_op(struct mr_station *s, struct mr_op *op)
{
    switch ((enum op_type)op->type) {
    case OP_SUBMIT:
        add_pending(s, (struct mr_handout *)op);
        break;
    case OP_CANCEL: {
        struct mr_station_cancel *cancel = (struct mr_station_cancel *)op;
        if (!cancel_pending(s, cancel)) {
            s->ops->cancel(target_of(s), cancel);
        }
        mr_free(cancel);
        break;
    }
    case OP_STOP:
        s->stopping = true;
        mr_station_refuse_pending(s, "the worker is stopping");
        if (s->ops->stopping != NULL) {
            s->ops->stopping(target_of(s));
        }
        break;
    case OP_LIST:
        list_now(s, (struct list_op *)op);
        break;
    }
}

static void take_ops(struct mr_station *s)
{
    while (!s->asleep) { /* then epoll will say */
        struct mr_op *op = mr_opq_take(&s->queue);
        s->asleep = op == NULL;
        while (op != NULL) {
            struct mr_op *next = op->next;
            handle_op(s, op);
            op = next;
        }
    }
}

/* Numbers only: words are made when somebody asks. */
static uint32_t publish(struct mr_station *s)
{
    uint32_t count = s->ops->measure(target_of(s), &s->now_health);
    s->now_health.crash_streak = s->streak;
    pthread_mutex_lock(&s->mu);
    s->shown = (struct mr_station_shown){s->now_health, count, s->start_not_before_ns};
    pthread_mutex_unlock(&s->mu);
    return count;
}

static void tell_capacity(struct mr_station *s)
{
    uint32_t capacity = s->stopping ? 0 : s->ops->capacity(target_of(s));
    bool again = atomic_exchange_explicit(&s->announce, false, memory_order_acquire);
    if (capacity != s->capacity_told || again) {
        s->capacity_told = capacity;
        s->host->ops->capacity(s->host, atomic_load_explicit(&s->index, memory_order_relaxed),
                               capacity);
    }
}

static void give_answers(struct mr_station *s)
{
    if (s->answers != NULL) {
        struct mr_handout *first = s->answers;
        s->answers = NULL;
        s->answers_end = &s->answers;
        s->host->ops->answer(s->host, first);
    }
}

static void sweep_orphans(struct mr_station *s, uint32_t count)
{
    if (s->sweep_at_ns == 0 && count > 0) {
        s->sweep_at_ns = s->now.mono_ns + MR_SECOND;
    }
    if (s->sweep_at_ns != 0 && s->now.mono_ns >= s->sweep_at_ns) {
        s->sweep_at_ns = mr_guardian_sweep() > 0 || count > 0 ? s->now.mono_ns + MR_SECOND : 0;
    }
    mr_station_wake_at(s, s->sweep_at_ns);
}

static bool run_once(struct mr_station *s, const struct epoll_event *events, int count)
{
    s->now = mr_clock_now();
    s->wake_at_ns = s->now.mono_ns + WAIT_MAX_NS;
    for (int i = 0; i < count; i++) {
        if (events[i].data.ptr == &s->queue) {
            s->asleep = false;
        } else {
            s->ops->event(target_of(s), events[i].data.ptr, events[i].events);
        }
    }
    take_ops(s);
    if (atomic_exchange_explicit(&s->cancel_lost, false, memory_order_relaxed)) {
        s->ops->cancel_late(target_of(s));
    }
    s->ops->work(target_of(s));
    uint32_t processes = publish(s);
    tell_capacity(s);
    give_answers(s);
    sweep_orphans(s, processes);
    s->ops->free_ended(target_of(s));
    return !(s->stopping && processes == 0 && s->pending == NULL);
}

static int wait_ms(const struct mr_station *s)
{
    uint64_t now = mr_clock_mono_ns();
    return s->wake_at_ns <= now ? 0 : (int)((s->wake_at_ns - now + MR_MS - 1) / MR_MS);
}

static void *run(void *station)
{
    struct mr_station *s = station;
    struct epoll_event events[EVENTS_PER_PASS];
    int count = 0;
    while (run_once(s, events, count)) {
        count = epoll_wait(s->epoll, events, EVENTS_PER_PASS, wait_ms(s)); /* <= WAIT_MAX_NS */
        MR_ASSERT(count >= 0 || errno == EINTR);
        count = count < 0 ? 0 : count;
    }
    mr_opq_close(&s->queue);
    s->asleep = false;
    take_ops(s);
    mr_station_refuse_pending(s, "the worker is stopped");
    give_answers(s);
    mr_guardian_sweep_all();
    return NULL;
}
