#include "workers/jq/pool.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/assert.h"
#include "core/clock.h"
#include "core/limits.h"
#include "core/logger.h"
#include "router/transform.h"
#include "schemas/json_format.h"
#include "workers/jq/internal.h"

#define HELPERS_MIN 2 /* one for those that are killed, one for those that are not */
#define HELPERS_MAX 4
#define IDLE_S 60
/* How much is sent in a row: what the lane did lately in this time, so that neither waking up for
 * each event nor a lane that stays on costs the others much. */
#define TURN_NS (10 * MR_MS)
#define TURN_SIZE_MAX MR_MIB

struct mr_jq_lane {
    struct mr_jq_pool *pool; /* borrowed */
    struct mr_jq_lane *next; /* of all */
    struct mr_jq_lane *next_ready;
    char *name; /* owned */
    bool is_source;
    uint32_t refs;
    struct mr_jq_job *first;
    struct mr_jq_job *last;
    size_t size;       /* bytes of records that wait */
    bool is_busy;      /* a thread has jobs of it */
    bool is_ready;     /* in the list of those with work */
    bool was_killed;   /* in its last turn */
    uint32_t turn_max; /* jobs of its next turn */
    uint64_t used_ns;  /* what it has had, for the order of turns */
    struct mr_jq_counts counts;
};

struct runner {
    struct mr_jq_pool *pool; /* borrowed */
    pthread_t thread;
    /* The thread's own. */
    struct mr_jq_helper *helper; /* owned */
    struct mr_buf json;
    struct mr_jq_job *done; /* chain to be given back */
    struct mr_jq_job **done_end;
    struct mr_jq_counts counts; /* of this turn */
};

struct mr_jq_pool {
    void (*done)(void *context, struct mr_jq_job *first);
    void *context;
    _Atomic bool stopping; /* seq_cst; set under mu */
    pthread_mutex_t mu;    /* protects all below, and the lanes */
    pthread_cond_t work;
    struct mr_jq_lane *lanes;
    struct mr_jq_lane *ready; /* with work, and no thread has them; in no order */
    uint32_t killed_busy;     /* threads with a lane whose last turn ended in a kill */
    uint64_t used_ns;         /* of the lane served last: where a lane begins that was idle */
    uint32_t runner_count; /* of threads that run */
    struct runner runners[HELPERS_MAX];
};

/* --- lanes ------------------------------------------------------------------------------------ */

static void make_ready_locked(struct mr_jq_lane *lane)
{
    struct mr_jq_pool *pool = lane->pool;
    MR_ASSERT(!lane->is_ready);
    lane->is_ready = true;
    lane->next_ready = pool->ready;
    pool->ready = lane;
}

static void free_lane_locked(struct mr_jq_lane *lane)
{
    struct mr_jq_lane **at = &lane->pool->lanes;
    MR_ASSERT(lane->refs == 0 && lane->first == NULL && !lane->is_busy && !lane->is_ready);
    while (*at != lane) {
        at = &(*at)->next;
    }
    *at = lane->next;
    mr_free(lane->name);
    mr_free(lane);
}

void mr_jq_lane_unref(struct mr_jq_lane *lane)
{
    if (lane == NULL) {
        return;
    }
    struct mr_jq_pool *pool = lane->pool;
    pthread_mutex_lock(&pool->mu);
    MR_ASSERT(lane->refs > 0);
    if (--lane->refs == 0 && lane->first == NULL && !lane->is_busy) {
        free_lane_locked(lane);
    }
    pthread_mutex_unlock(&pool->mu);
}

enum mr_status mr_jq_lane_push(struct mr_jq_lane *lane, struct mr_jq_job *first, size_t size_max)
{
    struct mr_jq_pool *pool = lane->pool;
    struct mr_jq_job *last = first;
    size_t size = 0;
    for (struct mr_jq_job *job = first; job != NULL; job = job->next) {
        job->is_sent = job->is_again = false;
        job->changed = NULL;
        size += job->record.size;
        last = job;
    }
    pthread_mutex_lock(&pool->mu);
    enum mr_status r = atomic_load(&pool->stopping) ? MR_E_CLOSED
                       : size_max == 0 || lane->size == 0 || lane->size + size <= size_max
                           ? MR_OK
                           : MR_E_FULL;
    if (r == MR_OK) {
        *(lane->first == NULL ? &lane->first : &lane->last->next) = first;
        lane->last = last;
        lane->size += size;
        if (!lane->is_busy && !lane->is_ready) {
            /* Idle time is no credit. */
            lane->used_ns = lane->used_ns > pool->used_ns ? lane->used_ns : pool->used_ns;
            make_ready_locked(lane);
            pthread_cond_signal(&pool->work);
        }
    }
    pthread_mutex_unlock(&pool->mu);
    return r;
}

void mr_jq_pool_each(struct mr_jq_pool *pool,
                     void (*fn)(void *context, bool is_source, const char *name,
                                const struct mr_jq_counts *counts),
                     void *context)
{
    pthread_mutex_lock(&pool->mu);
    for (const struct mr_jq_lane *lane = pool->lanes; lane != NULL; lane = lane->next) {
        fn(context, lane->is_source, lane->name, &lane->counts);
    }
    pthread_mutex_unlock(&pool->mu);
}

/* --- one turn --------------------------------------------------------------------------------- */

static void finish(struct runner *self, struct mr_jq_job *job, enum mr_status status)
{
    job->status = status;
    job->next = NULL;
    *self->done_end = job;
    self->done_end = &job->next;
    if (job->is_sent) {
        self->counts.runs++;
        self->counts.errors += status != MR_OK && status != MR_E_NOT_FOUND;
    }
}

static void give_back(struct runner *self)
{
    struct mr_jq_job *first = self->done;
    self->done = NULL;
    self->done_end = &self->done;
    if (first != NULL) {
        self->pool->done(self->pool->context, first);
    }
}

static void send_job(struct runner *self, struct mr_jq_job *job)
{
    if (atomic_load_explicit(&job->cancelled, memory_order_relaxed)) {
        job->status = mr_problem_set(&job->problem, MR_E_CLOSED, "nobody waits for it any more");
        return;
    }
    mr_buf_clear(&self->json);
    enum mr_status r = mr_json_encode_exact(job->record, &self->json);
    job->status = r != MR_OK ? mr_problem_set(&job->problem, r, "%s", mr_status_text(r))
                             : mr_jq_helper_send(self->helper, job->program,
                                                 mr_buf_bytes(&self->json), &job->problem);
    job->is_sent = job->status == MR_OK;
}

/* @return how the helper came out of it */
static enum mr_jq_end receive_job(struct runner *self, struct mr_jq_job *job)
{
    struct mr_bytes output = {NULL, 0};
    if (!mr_jq_helper_is_ready(self->helper)) {
        give_back(self); /* before a wait that may be long */
    }
    enum mr_jq_end end = mr_jq_helper_receive(self->helper, &output, &job->problem);
    static const enum mr_status statuses[MR_JQ_END_MAX] = {
        [MR_JQ_OUTPUT] = MR_OK,
        [MR_JQ_NOTHING] = MR_E_NOT_FOUND,
        [MR_JQ_ERROR] = MR_E_INVALID,
        [MR_JQ_UNAVAILABLE] = MR_E_UNAVAILABLE,
        [MR_JQ_TIME] = MR_E_INVALID,
        [MR_JQ_DEATH] = MR_E_INVALID,
    };
    job->status = end == MR_JQ_OUTPUT ? mr_transform_accept(job->record, output, job->size_max,
                                                            &job->changed, &job->problem)
                                      : statuses[end];
    self->counts.kills += end == MR_JQ_TIME || end == MR_JQ_DEATH;
    return end;
}

/* Sends the first @p count of the chain in a row, and takes the answers until one is missing: the
 * helper died. Who was by itself is to blame then; but if it was not for its time, only when it
 * happens twice.
 * @return those that are to be sent yet, or again */
static struct mr_jq_job *exchange(struct runner *self, struct mr_jq_job *first, uint32_t count,
                                  bool *ret_died)
{
    bool is_alone = count == 1 || first->next == NULL;
    struct mr_jq_job *job = first;
    for (uint32_t i = 0; i < count && job != NULL; i++, job = job->next) {
        send_job(self, job);
    }
    for (uint32_t i = 0; i < count && first != NULL; i++) {
        job = first;
        enum mr_jq_end end = job->is_sent ? receive_job(self, job) : MR_JQ_OUTPUT;
        *ret_died = end == MR_JQ_TIME || end == MR_JQ_DEATH;
        if (*ret_died && (!is_alone || (end == MR_JQ_DEATH && !job->is_again))) {
            job->is_again = is_alone;
            return first;
        }
        first = job->next;
        finish(self, job, job->status);
        if (end >= MR_JQ_UNAVAILABLE) {
            return first;
        }
    }
    return first;
}

/* A helper tells what it did in one piece, so one that dies leaves open who did it: then all that
 * have no answer are sent again one by one. */
static void run_turn(struct runner *self, struct mr_jq_job *first)
{
    uint32_t in_a_row = MR_JQ_SENT_MAX;
    while (first != NULL && !atomic_load(&self->pool->stopping)) {
        bool died = false;
        for (struct mr_jq_job *job = first; job != NULL; job = job->next) {
            job->is_sent = false;
        }
        first = exchange(self, first, in_a_row, &died);
        in_a_row = died ? 1 : in_a_row;
    }
    while (first != NULL) {
        struct mr_jq_job *next = first->next;
        first->is_sent = false;
        finish(self, first, MR_E_CLOSED);
        first = next;
    }
    give_back(self);
    if (self->json.capacity > TURN_SIZE_MAX) {
        mr_buf_release(&self->json);
    }
}

/* --- whose turn it is ------------------------------------------------------------------------- */

/* The lane that has had least, unless it is of those that may not have the last helper. */
static struct mr_jq_lane *pick_locked(struct mr_jq_pool *pool)
{
    bool is_last = pool->killed_busy + 1 >= pool->runner_count;
    struct mr_jq_lane **best = NULL;
    for (struct mr_jq_lane **at = &pool->ready; *at != NULL; at = &(*at)->next_ready) {
        bool may = !is_last || !(*at)->was_killed;
        if (may && (best == NULL || (*at)->used_ns < (*best)->used_ns)) {
            best = at;
        }
    }
    if (best == NULL) {
        return NULL;
    }
    struct mr_jq_lane *lane = *best;
    *best = lane->next_ready;
    lane->is_ready = false;
    lane->is_busy = true;
    pool->killed_busy += lane->was_killed;
    pool->used_ns = lane->used_ns > pool->used_ns ? lane->used_ns : pool->used_ns;
    return lane;
}

/* The jobs of one turn, out of the lane's queue. */
static struct mr_jq_job *take_jobs_locked(struct mr_jq_lane *lane, uint32_t *ret_count)
{
    struct mr_jq_job *first = lane->first;
    struct mr_jq_job *last = first;
    uint32_t count = 1;
    size_t size = first->record.size;
    while (count < lane->turn_max && last->next != NULL &&
           size + last->next->record.size <= TURN_SIZE_MAX) {
        last = last->next;
        size += last->record.size;
        count++;
    }
    lane->first = last->next;
    lane->last = lane->first == NULL ? NULL : lane->last;
    last->next = NULL;
    lane->size -= size;
    *ret_count = count;
    return first;
}

static void end_turn_locked(struct mr_jq_lane *lane, const struct mr_jq_counts *turn,
                            uint32_t count, bool was_killed)
{
    struct mr_jq_pool *pool = lane->pool;
    pool->killed_busy -= was_killed;
    lane->counts.runs += turn->runs;
    lane->counts.errors += turn->errors;
    lane->counts.kills += turn->kills;
    lane->counts.busy_ns += turn->busy_ns;
    lane->used_ns += turn->busy_ns;
    lane->was_killed = turn->kills > 0;
    uint64_t fit = TURN_NS / (turn->busy_ns / count + 1);
    lane->turn_max = turn->kills > 0 || fit < 1 ? 1
                     : fit > MR_JQ_SENT_MAX     ? MR_JQ_SENT_MAX
                                                : (uint32_t)fit;
    lane->is_busy = false;
    if (lane->first != NULL) {
        make_ready_locked(lane);
    } else if (lane->refs == 0) {
        free_lane_locked(lane);
    }
}

/* @return false: a minute went by without work */
static bool wait_locked(struct mr_jq_pool *pool)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until); /* cannot fail */
    until.tv_sec += IDLE_S;
    return pthread_cond_timedwait(&pool->work, &pool->mu, &until) != ETIMEDOUT;
}

static void *runner_thread(void *argument)
{
    struct runner *self = argument;
    struct mr_jq_pool *pool = self->pool;
    (void)pthread_setname_np(pthread_self(), "jq"); /* for a person's top only */
    pthread_mutex_lock(&pool->mu);
    while (!atomic_load(&pool->stopping)) {
        struct mr_jq_lane *lane = pick_locked(pool);
        if (lane == NULL) {
            if (!wait_locked(pool)) {
                pthread_mutex_unlock(&pool->mu);
                mr_jq_helper_end(self->helper);
                pthread_mutex_lock(&pool->mu);
            }
            continue;
        }
        uint32_t count;
        bool was_killed = lane->was_killed;
        struct mr_jq_job *first = take_jobs_locked(lane, &count);
        pthread_mutex_unlock(&pool->mu);
        self->counts = (struct mr_jq_counts){0};
        uint64_t began_ns = mr_clock_mono_ns();
        run_turn(self, first);
        self->counts.busy_ns = mr_clock_mono_ns() - began_ns;
        pthread_mutex_lock(&pool->mu);
        end_turn_locked(lane, &self->counts, count, was_killed);
    }
    pthread_mutex_unlock(&pool->mu);
    mr_jq_helper_end(self->helper); /* while its thread lives: it dies with it */
    return NULL;
}

/* --- life ------------------------------------------------------------------------------------- */

struct mr_jq_pool *mr_jq_pool_create(void (*done)(void *context, struct mr_jq_job *first),
                                     void *context)
{
    struct mr_jq_pool *pool = mr_calloc(1, sizeof(*pool));
    if (pool == NULL) {
        return NULL;
    }
    pool->done = done;
    pool->context = context;
    pthread_condattr_t attributes;
    (void)pthread_mutex_init(&pool->mu, NULL); /* default attributes: cannot fail here */
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&pool->work, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    return pool;
}

static uint32_t helper_count(void)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    return processors < HELPERS_MIN   ? HELPERS_MIN
           : processors > HELPERS_MAX ? HELPERS_MAX
                                      : (uint32_t)processors;
}

uint64_t mr_jq_pool_bytes_max(void)
{
    return (uint64_t)helper_count() * MR_JQ_MEMORY_MAX;
}

static enum mr_status start_locked(struct mr_jq_pool *pool)
{
    while (pool->runner_count < helper_count()) {
        struct runner *runner = &pool->runners[pool->runner_count];
        runner->pool = pool;
        runner->done_end = &runner->done;
        mr_buf_init(&runner->json, MR__JQ_INPUT_MAX);
        if (runner->helper == NULL) {
            runner->helper = mr_jq_helper_create(&pool->stopping);
        }
        if (runner->helper == NULL) {
            return MR_E_NOMEM;
        }
        if (pthread_create(&runner->thread, NULL, runner_thread, runner) != 0) {
            return MR_E_UNAVAILABLE;
        }
        pool->runner_count++;
    }
    return MR_OK;
}

enum mr_status mr_jq_lane_get(struct mr_jq_pool *pool, bool is_source, const char *name,
                              struct mr_jq_lane **ret_lane)
{
    struct mr_jq_lane *fresh = mr_calloc(1, sizeof(*fresh));
    char *copy = mr_strdup(name);
    pthread_mutex_lock(&pool->mu);
    struct mr_jq_lane *lane = pool->lanes;
    while (lane != NULL && (lane->is_source != is_source || strcmp(lane->name, name) != 0)) {
        lane = lane->next;
    }
    enum mr_status r = fresh == NULL || copy == NULL ? MR_E_NOMEM : start_locked(pool);
    if (r == MR_OK && lane == NULL) {
        *fresh = (struct mr_jq_lane){.pool = pool, .next = pool->lanes, .name = MR_TAKE(copy),
                                     .is_source = is_source, .turn_max = 1};
        lane = pool->lanes = MR_TAKE(fresh);
    }
    if (r == MR_OK) {
        lane->refs++;
        *ret_lane = lane;
    }
    pthread_mutex_unlock(&pool->mu);
    mr_free(fresh);
    mr_free(copy);
    return r;
}

void mr_jq_pool_stop(struct mr_jq_pool *pool)
{
    pthread_mutex_lock(&pool->mu);
    atomic_store(&pool->stopping, true);
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->mu);
    for (; pool->runner_count > 0; pool->runner_count--) {
        (void)pthread_join(pool->runners[pool->runner_count - 1].thread, NULL); /* ours */
    }
    struct mr_jq_job *left = NULL;
    struct mr_jq_job **end = &left;
    for (struct mr_jq_lane *lane = pool->lanes; lane != NULL; lane = lane->next) {
        *end = lane->first;
        for (; *end != NULL; end = &(*end)->next) {
            (*end)->status = mr_problem_set(&(*end)->problem, MR_E_CLOSED, "Millrace stops");
        }
        lane->first = lane->last = NULL;
        lane->is_ready = false;
    }
    pool->ready = NULL;
    if (left != NULL) {
        pool->done(pool->context, left); /* which may give lanes back */
    }
}

void mr_jq_pool_destroy(struct mr_jq_pool *pool)
{
    if (pool == NULL) {
        return;
    }
    mr_jq_pool_stop(pool);
    while (pool->lanes != NULL) {
        MR_ASSERT(pool->lanes->refs == 0);
        free_lane_locked(pool->lanes);
    }
    for (uint32_t i = 0; i < HELPERS_MAX; i++) {
        mr_jq_helper_destroy(pool->runners[i].helper);
        mr_buf_release(&pool->runners[i].json);
    }
    (void)pthread_cond_destroy(&pool->work);
    (void)pthread_mutex_destroy(&pool->mu);
    mr_free(pool);
}
