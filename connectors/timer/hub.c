#include "connectors/timer/hub.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/assert.h"
#include "core/clock.h"
#include "core/logger.h"

#define JUMP_MS 3600000 /* as the bus: docs/decisions/004-log-clock.md */
#define RETRY_MIN_NS (100 * MR_MS)
#define RETRY_MAX_NS MR_SECOND
#define WORK_MAX 1000u /* timers fired in one pass, then replies are looked at */
#define HEAP_FIRST 64u

struct mr_hub {
    pthread_t thread;
    bool started;
    struct mr_opq replies; /* batches come back */
    int clock_fd;          /* timerfd on the wall clock */
    int64_t due_ms[MR_TIMER_CATCH_UP_MAX]; /* the thread's scratch */

    pthread_mutex_t mu;     /* protects all below, and of the timers what hub.h says */
    pthread_cond_t settled; /* a batch came back */
    bool stopping;
    struct mr_source **heap; /* owned array, borrowed timers; [1] is due first */
    uint32_t heap_count;
    uint32_t heap_capacity; /* of timers; the array has one more */
    uint32_t timer_count;   /* added and not removed: the heap has room for all */
    struct mr_source *refused; /* to be tried again at retry_at_ns */
    uint64_t retry_at_ns;
    uint64_t retry_wait_ns;
    bool frozen;
    bool has_anchor;
    int64_t anchor_wall_ms; /* the wall clock when it was believed last, and progress then */
    uint64_t anchor_mono_ns;
};

/* --- the heap --------------------------------------------------------------------------------- */

static void put(struct mr_hub *hub, uint32_t at, struct mr_source *timer)
{
    hub->heap[at] = timer;
    timer->at = at;
}

static void sift_up(struct mr_hub *hub, uint32_t at, struct mr_source *timer)
{
    while (at > 1 && hub->heap[at / 2]->next_ms > timer->next_ms) {
        put(hub, at, hub->heap[at / 2]);
        at /= 2;
    }
    put(hub, at, timer);
}

static void sift_down(struct mr_hub *hub, uint32_t at, struct mr_source *timer)
{
    for (uint32_t child = at * 2; child <= hub->heap_count; child = at * 2) {
        if (child < hub->heap_count &&
            hub->heap[child + 1]->next_ms < hub->heap[child]->next_ms) {
            child++;
        }
        if (hub->heap[child]->next_ms >= timer->next_ms) {
            break;
        }
        put(hub, at, hub->heap[child]);
        at = child;
    }
    put(hub, at, timer);
}

static void heap_remove(struct mr_hub *hub, struct mr_source *timer)
{
    uint32_t at = timer->at;
    if (at == 0) {
        return;
    }
    MR_ASSERT(hub->heap[at] == timer);
    struct mr_source *last = hub->heap[hub->heap_count--];
    timer->at = 0;
    if (last != timer) {
        if (at > 1 && hub->heap[at / 2]->next_ms > last->next_ms) {
            sift_up(hub, at, last);
        } else {
            sift_down(hub, at, last);
        }
    }
}

static enum mr_status make_room(struct mr_hub *hub)
{
    if (hub->timer_count < hub->heap_capacity) {
        return MR_OK;
    }
    uint32_t capacity = hub->heap_capacity == 0 ? HEAP_FIRST : hub->heap_capacity * 2;
    struct mr_source **grown =
        mr_realloc(hub->heap, (capacity + (size_t)1) * sizeof(struct mr_source *));
    if (grown == NULL) {
        return MR_E_NOMEM;
    }
    hub->heap = grown;
    hub->heap_capacity = capacity;
    return MR_OK;
}

/* Puts a timer that is neither out nor in the heap where its next instant wants it. */
static void schedule(struct mr_hub *hub, struct mr_source *timer)
{
    MR_ASSERT(!timer->out && timer->at == 0);
    if (!timer->paused && !timer->stopping &&
        mr__timer_next(&timer->schedule, timer->last_ms, &timer->next_ms)) {
        sift_up(hub, ++hub->heap_count, timer);
    }
}

/* --- firing; unlocked, the timer is out ------------------------------------------------------- */

static enum mr_status make_batch(struct mr_hub *hub, struct mr_source *timer, uint32_t count,
                                 struct mr_batch **ret_batch)
{
    uint32_t index = atomic_load_explicit(&timer->index, memory_order_relaxed);
    struct mr_batch *batch = mr_batch_create(index, count);
    if (batch == NULL) {
        return MR_E_NOMEM;
    }
    batch->reply = &hub->replies;
    batch->context = timer;
    batch->cursor = mr__timer_cursor(timer->out_last_ms);
    enum mr_status r = batch->cursor == NULL ? MR_E_NOMEM : MR_OK;
    for (uint32_t i = 0; i < count && r == MR_OK; i++) {
        struct mr_event *event = NULL;
        r = mr__timer_event(timer, hub->due_ms[i], &event, NULL);
        if (r == MR_OK) {
            r = mr_batch_add(batch, event, NULL);
        }
    }
    if (r != MR_OK) {
        mr_batch_destroy(batch);
        return r;
    }
    *ret_batch = batch;
    return MR_OK;
}

/* @return MR_OK: submitted, or *ret_idle: nothing was left to fire */
static enum mr_status fire(struct mr_hub *hub, struct mr_source *timer, int64_t wall_ms,
                           bool *ret_idle)
{
    struct mr_batch *batch = timer->again;
    timer->again = NULL;
    *ret_idle = false;
    if (batch == NULL) {
        uint32_t count = mr__timer_due(&timer->schedule, &timer->options, timer->last_ms, wall_ms,
                                       hub->due_ms, &timer->out_last_ms);
        if (count == 0) {
            timer->last_ms = timer->out_last_ms; /* skipped instants stay skipped */
            *ret_idle = true;
            return MR_OK;
        }
        enum mr_status r = make_batch(hub, timer, count, &batch);
        if (r != MR_OK) {
            return r;
        }
    }
    batch->result = MR_OK;
    batch->source = atomic_load_explicit(&timer->index, memory_order_relaxed);
    timer->host->ops->submit(timer->host, batch);
    return MR_OK;
}

/* --- the pass --------------------------------------------------------------------------------- */

static void keep_for_later(struct mr_hub *hub, struct mr_source *timer, enum mr_status why,
                           uint64_t mono_ns)
{
    if (hub->refused == NULL) {
        uint64_t wait = hub->retry_wait_ns * 2;
        wait = wait < RETRY_MIN_NS ? RETRY_MIN_NS : wait > RETRY_MAX_NS ? RETRY_MAX_NS : wait;
        hub->retry_wait_ns = wait;
        hub->retry_at_ns = mono_ns + wait;
    }
    timer->failing = true;
    timer->error = why;
    timer->error_wall_ns = mr_clock_now().wall_ns;
    timer->errors++;
    timer->next = hub->refused;
    hub->refused = timer;
}

static void take_batch(struct mr_hub *hub, struct mr_batch *batch, uint64_t mono_ns)
{
    struct mr_source *timer = batch->context;
    MR_ASSERT(timer->out);
    if (batch->result != MR_OK) {
        timer->again = batch;
        keep_for_later(hub, timer, batch->result, mono_ns);
        return;
    }
    hub->retry_wait_ns = 0;
    timer->last_ms = timer->out_last_ms;
    timer->messages += batch->count;
    timer->failing = false;
    timer->out = false;
    mr_batch_destroy(batch);
    schedule(hub, timer);
}

static void take_replies(struct mr_hub *hub, uint64_t mono_ns)
{
    struct mr_op *op;
    while ((op = mr_opq_take(&hub->replies)) != NULL) { /* until empty: only then it wakes us */
        while (op != NULL) {
            struct mr_op *next = op->next;
            if (op->type == MR_SOURCE_OP_BATCH_DONE) {
                take_batch(hub, (struct mr_batch *)(void *)op, mono_ns);
            }
            op = next;
        }
    }
    pthread_cond_broadcast(&hub->settled);
}

static void look_at_clock(struct mr_hub *hub, int64_t wall_ms, uint64_t mono_ns)
{
    if (hub->has_anchor) {
        int64_t passed_ms = (int64_t)((mono_ns - hub->anchor_mono_ns) / MR_MS);
        int64_t jump_ms = wall_ms - hub->anchor_wall_ms - passed_ms;
        bool frozen = jump_ms > JUMP_MS || jump_ms < -JUMP_MS;
        if (frozen != hub->frozen) {
            char text[MR_TIMER_TEXT_SIZE];
            mr__timer_text(wall_ms, text);
            MR_WARN("timer", "clock=%s jump_s=%lld %s", text, (long long)(jump_ms / 1000),
                    frozen ? "timers stand still until it is mended or accepted"
                           : "mended, timers go on");
        }
        hub->frozen = frozen;
    }
    if (!hub->frozen) {
        hub->has_anchor = true;
        hub->anchor_wall_ms = wall_ms;
        hub->anchor_mono_ns = mono_ns;
    }
}

/* Those that are to be worked on now, as a list; they are out. */
static struct mr_source *collect(struct mr_hub *hub, int64_t wall_ms, uint64_t mono_ns)
{
    struct mr_source *work = NULL;
    if (mono_ns >= hub->retry_at_ns) {
        work = MR_TAKE(hub->refused);
    }
    for (uint32_t i = 0; i < WORK_MAX && !hub->frozen && hub->heap_count > 0; i++) {
        struct mr_source *timer = hub->heap[1];
        if (timer->next_ms > wall_ms) {
            break;
        }
        heap_remove(hub, timer);
        timer->out = true;
        timer->next = work;
        work = timer;
    }
    return work;
}

void mr__hub_pass(struct mr_hub *hub, int64_t wall_ms, uint64_t mono_ns)
{
    pthread_mutex_lock(&hub->mu);
    take_replies(hub, mono_ns);
    look_at_clock(hub, wall_ms, mono_ns);
    struct mr_source *timer = collect(hub, wall_ms, mono_ns);
    pthread_mutex_unlock(&hub->mu);
    while (timer != NULL) {
        struct mr_source *next = timer->next; /* submitted, it may be back at once */
        bool idle;
        enum mr_status r = fire(hub, timer, wall_ms, &idle);
        if (r != MR_OK || idle) {
            pthread_mutex_lock(&hub->mu);
            if (r != MR_OK) {
                keep_for_later(hub, timer, r, mono_ns);
            } else {
                timer->out = false;
                schedule(hub, timer);
            }
            pthread_cond_broadcast(&hub->settled);
            pthread_mutex_unlock(&hub->mu);
        }
        timer = next;
    }
}

/* --- the thread ------------------------------------------------------------------------------- */

/* Sets the timerfd to the earliest instant. @return for poll */
static int arm(struct mr_hub *hub)
{
    pthread_mutex_lock(&hub->mu);
    bool any = hub->heap_count > 0 && !hub->frozen;
    int64_t next_ms = any ? hub->heap[1]->next_ms : 0;
    bool retry = hub->refused != NULL;
    uint64_t retry_at_ns = hub->retry_at_ns;
    pthread_mutex_unlock(&hub->mu);
    /* Far away when nothing is due: only an armed timer tells that the clock was set. */
    int64_t seconds = any ? next_ms / 1000 : INT32_MAX;
    struct itimerspec until = {.it_value = {.tv_sec = seconds < 0 ? 0 : seconds,
                                            .tv_nsec = any ? next_ms % 1000 * 1000000 + 1 : 1}};
    if (timerfd_settime(hub->clock_fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &until,
                        NULL) != 0) {
        MR_ERROR("timer", "timerfd: %s", strerror(errno));
        return (int)(RETRY_MAX_NS / MR_MS); /* look at the clock every second then */
    }
    if (!retry) {
        return -1;
    }
    uint64_t now_ns = mr_clock_mono_ns();
    return retry_at_ns <= now_ns ? 0 : (int)((retry_at_ns - now_ns) / MR_MS) + 1;
}

static void *run(void *context)
{
    struct mr_hub *hub = context;
    for (;;) {
        struct mr_now now = mr_clock_now();
        mr__hub_pass(hub, (int64_t)(now.wall_ns / MR_MS), now.mono_ns);
        pthread_mutex_lock(&hub->mu);
        bool stopping = hub->stopping;
        pthread_mutex_unlock(&hub->mu);
        if (stopping) {
            return NULL;
        }
        struct pollfd fds[2] = {{.fd = mr_opq_fd(&hub->replies), .events = POLLIN},
                                {.fd = hub->clock_fd, .events = POLLIN}};
        int timeout_ms = arm(hub);
        if (poll(fds, 2, timeout_ms) < 0 && errno != EINTR) {
            MR_ERROR("timer", "poll: %s", strerror(errno));
        }
        uint64_t expired;
        ssize_t n = read(hub->clock_fd, &expired, sizeof(expired));
        (void)n; /* expired, not yet, or ECANCELED: the clock was set. All make us look. */
    }
}

/* --- life ------------------------------------------------------------------------------------- */

enum mr_status mr__hub_create(struct mr_hub **ret_hub, struct mr_problem *problem)
{
    struct mr_hub *hub = mr_calloc(1, sizeof(*hub));
    if (hub == NULL) {
        return mr_problem_set(problem, MR_E_NOMEM, "no memory for the timers");
    }
    hub->clock_fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    enum mr_status r = hub->clock_fd < 0 ? mr_status_from_errno(errno)
                                         : mr_opq_init(&hub->replies, UINT64_MAX);
    if (r != MR_OK) {
        if (hub->clock_fd >= 0) {
            (void)close(hub->clock_fd);
        }
        mr_free(hub);
        return mr_problem_set(problem, r, "no clock for the timers");
    }
    pthread_condattr_t attr;
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&hub->settled, &attr);
    (void)pthread_condattr_destroy(&attr);
    (void)pthread_mutex_init(&hub->mu, NULL);
    *ret_hub = hub;
    return MR_OK;
}

void mr__hub_destroy(struct mr_hub *hub)
{
    if (hub == NULL) {
        return;
    }
    MR_ASSERT(hub->timer_count == 0);
    if (hub->started) {
        pthread_mutex_lock(&hub->mu);
        hub->stopping = true;
        pthread_mutex_unlock(&hub->mu);
        mr_opq_wake(&hub->replies);
        (void)pthread_join(hub->thread, NULL);
    }
    mr_opq_release(&hub->replies);
    (void)close(hub->clock_fd);
    pthread_cond_destroy(&hub->settled);
    pthread_mutex_destroy(&hub->mu);
    mr_free(hub->heap);
    mr_free(hub);
}

/* The process has one clock, and its timers share one thread, whoever runs them. */
static pthread_mutex_t shared_mu = PTHREAD_MUTEX_INITIALIZER; /* protects the two below */
static struct mr_hub *shared_hub;
static uint32_t shared_users;

enum mr_status mr__hub_acquire(struct mr_hub **ret_hub, struct mr_problem *problem)
{
    enum mr_status r = MR_OK;
    pthread_mutex_lock(&shared_mu);
    if (shared_users == 0) {
        r = mr__hub_create(&shared_hub, problem);
        if (r == MR_OK && pthread_create(&shared_hub->thread, NULL, run, shared_hub) != 0) {
            mr__hub_destroy(MR_TAKE(shared_hub));
            r = mr_problem_set(problem, MR_E_UNAVAILABLE, "no thread for the timers");
        } else if (r == MR_OK) {
            shared_hub->started = true;
        }
    }
    if (r == MR_OK) {
        shared_users++;
        *ret_hub = shared_hub;
    }
    pthread_mutex_unlock(&shared_mu);
    return r;
}

void mr__hub_release(struct mr_hub *hub)
{
    pthread_mutex_lock(&shared_mu);
    MR_ASSERT(hub == shared_hub && shared_users > 0);
    if (--shared_users == 0) {
        mr__hub_destroy(MR_TAKE(shared_hub));
    }
    pthread_mutex_unlock(&shared_mu);
}

/* --- timers ----------------------------------------------------------------------------------- */

/* The thread must look again when the earliest instant is another one. */
static void wake_if_first(struct mr_hub *hub, const struct mr_source *timer)
{
    if (timer->at == 1) {
        mr_opq_wake(&hub->replies);
    }
}

enum mr_status mr__hub_add(struct mr_hub *hub, struct mr_source *timer)
{
    pthread_mutex_lock(&hub->mu);
    enum mr_status r = make_room(hub);
    if (r == MR_OK) {
        hub->timer_count++;
        timer->hub = hub;
        schedule(hub, timer);
        wake_if_first(hub, timer);
    }
    pthread_mutex_unlock(&hub->mu);
    return r;
}

bool mr__hub_pause(struct mr_hub *hub, struct mr_source *timer, bool paused)
{
    pthread_mutex_lock(&hub->mu);
    bool changed = timer->paused != paused;
    timer->paused = paused;
    if (paused) {
        heap_remove(hub, timer);
    } else if (!timer->out && timer->at == 0) {
        schedule(hub, timer);
        wake_if_first(hub, timer);
    }
    pthread_mutex_unlock(&hub->mu);
    return changed;
}

void mr__hub_accept(struct mr_hub *hub, int64_t wall_ms)
{
    pthread_mutex_lock(&hub->mu);
    hub->frozen = false;
    hub->has_anchor = false; /* the next pass takes the clock as it is */
    struct mr_source *ahead = NULL;
    for (uint32_t i = 1; i <= hub->heap_count; i++) {
        if (hub->heap[i]->last_ms > wall_ms + JUMP_MS) {
            hub->heap[i]->next = ahead;
            ahead = hub->heap[i];
        }
    }
    while (ahead != NULL) {
        struct mr_source *timer = ahead;
        ahead = timer->next;
        heap_remove(hub, timer);
        timer->last_ms = wall_ms;
        schedule(hub, timer);
    }
    pthread_mutex_unlock(&hub->mu);
    mr_opq_wake(&hub->replies);
}

/* Takes a timer whose try failed off the list: nothing of it is with the bus. */
static void forget_refused(struct mr_hub *hub, struct mr_source *timer)
{
    for (struct mr_source **at = &hub->refused; *at != NULL; at = &(*at)->next) {
        if (*at == timer) {
            *at = timer->next;
            timer->out = false;
            return;
        }
    }
}

bool mr__hub_remove(struct mr_hub *hub, struct mr_source *timer, uint64_t deadline_mono_ns)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until); /* cannot fail with this clock */
    uint64_t now_ns = mr_clock_mono_ns();
    uint64_t wait_ns = deadline_mono_ns > now_ns ? deadline_mono_ns - now_ns : 0;
    uint64_t end_ns = (uint64_t)until.tv_nsec + wait_ns;
    until.tv_sec += (time_t)(end_ns / MR_SECOND);
    until.tv_nsec = (long)(end_ns % MR_SECOND);
    pthread_mutex_lock(&hub->mu);
    timer->stopping = true;
    heap_remove(hub, timer);
    int r = 0;
    forget_refused(hub, timer);
    while (timer->out && r == 0) {
        r = pthread_cond_timedwait(&hub->settled, &hub->mu, &until);
        forget_refused(hub, timer);
    }
    bool back = !timer->out;
    hub->timer_count -= back ? 1 : 0;
    pthread_mutex_unlock(&hub->mu);
    return back;
}

void mr__hub_health(struct mr_hub *hub, const struct mr_source *timer, int64_t wall_ms,
                    struct mr_health *ret_health)
{
    struct mr_health health = {.state = MR_HEALTH_OK};
    char *detail = health.detail;
    char text[MR_TIMER_TEXT_SIZE];
    pthread_mutex_lock(&hub->mu);
    if (timer->out) {
        (void)snprintf(detail, sizeof(health.detail), "firing");
    } else if (timer->paused) {
        (void)snprintf(detail, sizeof(health.detail), "paused");
    } else if (hub->frozen) {
        health.state = MR_HEALTH_DEGRADED;
        (void)snprintf(detail, sizeof(health.detail), "the clock jumped: mend it, or accept it");
    } else if (timer->last_ms > wall_ms + JUMP_MS) {
        health.state = MR_HEALTH_DEGRADED;
        mr__timer_text(timer->last_ms, text);
        (void)snprintf(detail, sizeof(health.detail),
                       "fired at %s, ahead of the clock: mend it, or accept it", text);
    } else if (timer->at != 0) {
        mr__timer_text(timer->next_ms, text);
        (void)snprintf(detail, sizeof(health.detail), "next at %s", text);
    } else {
        (void)snprintf(detail, sizeof(health.detail), "no further instant");
    }
    if (timer->failing) {
        health.state = MR_HEALTH_DEGRADED;
    }
    if (timer->errors > 0) {
        (void)snprintf(health.last_error, sizeof(health.last_error), "%s",
                       mr_status_text(timer->error));
        health.last_error_wall_ns = timer->error_wall_ns;
    }
    health.errors = timer->errors;
    health.messages = timer->messages;
    pthread_mutex_unlock(&hub->mu);
    *ret_health = health;
}
