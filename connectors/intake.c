#include "connectors/intake.h"

#include <string.h>

#include "core/alloc.h"
#include "core/assert.h"
#include "core/clock.h"
#include "core/logger.h"

#define RETRY_MIN_NS (100 * MR_MS)
#define RETRY_MAX_NS MR_SECOND

/* --- for the contract calls ------------------------------------------------------------------- */

enum mr_status mr__intake_init(struct mr_intake *intake, const char *kind,
                               const struct mr_source_args *args, struct mr_problem *problem)
{
    *intake = (struct mr_intake){.kind = kind, .host = args->host};
    enum mr_status r = mr_opq_init(&intake->replies, UINT64_MAX);
    if (r != MR_OK) {
        return mr_problem_set(problem, r, "no queue for the source");
    }
    intake->name = mr_strdup(args->name);
    intake->folder = mr_strdup(args->folder);
    if (intake->name == NULL || (intake->folder == NULL && args->folder != NULL)) {
        mr_free(intake->name);
        mr_free(intake->folder);
        mr_opq_release(&intake->replies);
        return mr_problem_set(problem, MR_E_NOMEM, "no memory for the source");
    }
    (void)pthread_mutex_init(&intake->mu, NULL);
    atomic_init(&intake->index, args->index);
    intake->event_size_max =
        args->config == NULL ? MR_EVENT_SIZE_DEFAULT : (size_t)args->config->event_size_max;
    return MR_OK;
}

static void drop_refused(struct mr_intake *intake)
{
    for (struct mr_op *op = MR_TAKE(intake->refused); op != NULL;) {
        struct mr_op *next = op->next;
        mr_batch_destroy((struct mr_batch *)(void *)op);
        op = next;
    }
}

bool mr__intake_release(struct mr_intake *intake)
{
    if (intake->submitted > 0) {
        MR_ERROR(intake->kind, "source=%s %u batches did not come back, ignoring", intake->name,
                 intake->submitted);
        return false;
    }
    drop_refused(intake);
    mr_opq_release(&intake->replies);
    pthread_mutex_destroy(&intake->mu);
    mr_free(intake->folder);
    mr_free(intake->name);
    return true;
}

enum mr_status mr__intake_start(struct mr_intake *intake, void *(*run)(void *), void *context,
                                struct mr_problem *problem)
{
    MR_ASSERT(!intake->started);
    mr__intake_set_health(intake, MR_HEALTH_STARTING, NULL, NULL);
    if (pthread_create(&intake->thread, NULL, run, context) != 0) {
        return mr_problem_set(problem, MR_E_UNAVAILABLE, "no thread for source %s", intake->name);
    }
    intake->started = true;
    return MR_OK;
}

/* release pairs with the acquire loads of the thread; the wake makes it look. */
void mr__intake_pause(struct mr_intake *intake)
{
    atomic_store_explicit(&intake->paused, true, memory_order_release);
    mr_opq_wake(&intake->replies);
}

void mr__intake_resume(struct mr_intake *intake)
{
    atomic_store_explicit(&intake->paused, false, memory_order_release);
    mr_opq_wake(&intake->replies);
}

void mr__intake_tell_stop(struct mr_intake *intake, uint64_t deadline_mono_ns)
{
    atomic_store_explicit(&intake->deadline_ns, deadline_mono_ns, memory_order_relaxed);
    atomic_store_explicit(&intake->stopping, true, memory_order_release);
    mr_opq_wake(&intake->replies);
}

void mr__intake_stop(struct mr_intake *intake, uint64_t deadline_mono_ns)
{
    if (!intake->started) {
        return;
    }
    mr__intake_tell_stop(intake, deadline_mono_ns);
    (void)pthread_join(intake->thread, NULL);
    intake->started = false;
}

void mr__intake_reindex(struct mr_intake *intake, uint32_t index)
{
    atomic_store_explicit(&intake->index, index, memory_order_relaxed);
}

void mr__intake_health(struct mr_intake *intake, struct mr_health *ret_health)
{
    pthread_mutex_lock(&intake->mu);
    *ret_health = intake->health;
    pthread_mutex_unlock(&intake->mu);
    ret_health->messages = atomic_load_explicit(&intake->messages, memory_order_relaxed);
    ret_health->bytes_held = atomic_load_explicit(&intake->bytes_held, memory_order_relaxed);
}

/* --- for its thread --------------------------------------------------------------------------- */

struct mr_batch *mr__intake_batch(struct mr_intake *intake, uint32_t capacity)
{
    uint32_t index = atomic_load_explicit(&intake->index, memory_order_relaxed);
    struct mr_batch *batch = mr_batch_create(index, capacity);
    if (batch != NULL) {
        batch->reply = &intake->replies;
    }
    return batch;
}

void mr__intake_submit(struct mr_intake *intake, struct mr_batch *batch)
{
    intake->submitted++;
    intake->host->ops->submit(intake->host, batch);
}

static void keep_refused(struct mr_intake *intake, struct mr_batch *batch, uint64_t now_ns)
{
    if (intake->refused == NULL) {
        uint64_t wait = intake->refused_wait_ns * 2;
        wait = wait < RETRY_MIN_NS ? RETRY_MIN_NS : wait > RETRY_MAX_NS ? RETRY_MAX_NS : wait;
        intake->refused_wait_ns = wait;
        intake->refused_at_ns = now_ns + wait;
        mr__intake_set_health(intake, MR_HEALTH_DEGRADED, NULL, mr_status_text(batch->result));
    }
    struct mr_op **at = &intake->refused;
    while (*at != NULL) {
        at = &(*at)->next;
    }
    batch->op.next = NULL;
    *at = &batch->op;
}

/* A batch that no segment of the log holds goes in two, the position with the second. */
static bool halve(struct mr_intake *intake, struct mr_batch *batch, uint64_t now_ns)
{
    uint32_t first_count = batch->count / 2;
    struct mr_batch *first = first_count == 0 ? NULL : mr__intake_batch(intake, first_count);
    if (first == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < first_count; i++) {
        first->items[i] = batch->items[i];
        first->size += batch->items[i].event->size;
    }
    first->count = first_count;
    first->is_part = true;
    batch->count -= first_count;
    batch->size -= first->size;
    memmove(batch->items, batch->items + first_count, batch->count * sizeof(*batch->items));
    first->result = batch->result;
    keep_refused(intake, first, now_ns);
    intake->refused_at_ns = now_ns;
    return true;
}

void mr__intake_take(struct mr_intake *intake, uint64_t now_ns,
                     void (*on_durable)(void *context, struct mr_batch *batch), void *context)
{
    struct mr_op *op;
    while ((op = mr_opq_take(&intake->replies)) != NULL) { /* until empty: only then it wakes us */
        while (op != NULL) {
            struct mr_op *next = op->next;
            if (op->type != MR_SOURCE_OP_BATCH_DONE) {
                intake->slow = op->type == MR_SOURCE_OP_SLOW;
                op = next;
                continue;
            }
            struct mr_batch *batch = (struct mr_batch *)(void *)op;
            MR_ASSERT(intake->submitted > 0);
            intake->submitted--;
            if (batch->result != MR_OK) {
                if (batch->result == MR_E_TOO_BIG) {
                    (void)halve(intake, batch, now_ns); /* one event alone, or memory short: kept */
                }
                keep_refused(intake, batch, now_ns);
            } else {
                intake->refused_wait_ns = 0;
                if (on_durable != NULL && !batch->is_part) {
                    on_durable(context, batch);
                }
                mr_batch_destroy(batch);
            }
            op = next;
        }
    }
}

void mr__intake_resubmit(struct mr_intake *intake, uint64_t now_ns)
{
    if (intake->refused == NULL || intake->submitted > 0 || now_ns < intake->refused_at_ns ||
        mr__intake_is_stopping(intake)) {
        return;
    }
    for (struct mr_op *op = MR_TAKE(intake->refused); op != NULL;) {
        struct mr_op *next = op->next;
        struct mr_batch *batch = (struct mr_batch *)(void *)op;
        batch->op.next = NULL;
        batch->result = MR_OK;
        batch->source = atomic_load_explicit(&intake->index, memory_order_relaxed);
        mr__intake_submit(intake, batch);
        op = next;
    }
}

void mr__intake_forget(struct mr_intake *intake)
{
    drop_refused(intake);
}

bool mr__intake_is_out(const struct mr_intake *intake)
{
    return intake->submitted > 0 || intake->refused != NULL;
}

bool mr__intake_is_stopping(const struct mr_intake *intake)
{
    return atomic_load_explicit(&intake->stopping, memory_order_acquire);
}

bool mr__intake_wants(const struct mr_intake *intake)
{
    return !intake->slow && intake->refused == NULL && !mr__intake_is_stopping(intake) &&
           !atomic_load_explicit(&intake->paused, memory_order_acquire);
}

bool mr__intake_is_finished(struct mr_intake *intake, uint64_t now_ns)
{
    if (!mr__intake_is_stopping(intake)) {
        return false;
    }
    bool late = now_ns >= atomic_load_explicit(&intake->deadline_ns, memory_order_relaxed);
    return intake->submitted == 0 || late;
}

int mr__intake_timeout_ms(const struct mr_intake *intake, uint64_t now_ns, int max_ms)
{
    uint64_t until = UINT64_MAX;
    if (max_ms >= 0) {
        until = now_ns + (uint64_t)(uint32_t)max_ms * MR_MS;
    }
    if (mr__intake_is_stopping(intake)) {
        uint64_t deadline = atomic_load_explicit(&intake->deadline_ns, memory_order_relaxed);
        until = deadline < until ? deadline : until;
    } else if (intake->refused != NULL && intake->submitted == 0 &&
               intake->refused_at_ns < until) {
        until = intake->refused_at_ns;
    }
    if (until == UINT64_MAX) {
        return -1;
    }
    uint64_t wait_ms = until <= now_ns ? 0 : (until - now_ns + MR_MS - 1) / MR_MS;
    return wait_ms > INT32_MAX ? INT32_MAX : (int)wait_ms;
}

void mr__intake_set_health(struct mr_intake *intake, enum mr_health_state state,
                           const char *detail, const char *error)
{
    pthread_mutex_lock(&intake->mu);
    struct mr_health *health = &intake->health;
    health->state = state;
    if (detail != NULL) {
        mr_text_clean(health->detail, sizeof(health->detail), mr_bytes_of(detail));
    }
    if (error != NULL && error[0] != '\0') {
        mr_text_clean(health->last_error, sizeof(health->last_error), mr_bytes_of(error));
        health->last_error_wall_ns = mr_clock_now().wall_ns;
        health->errors++;
    }
    pthread_mutex_unlock(&intake->mu);
}
