#include "connectors/intake.h"

#include <string.h>

#include "core/assert.h"
#include "core/clock.h"
#include "core/logger.h"

#define ROLE "source"
#define RETRY_MIN_NS (100 * MR_MS)
#define RETRY_MAX_NS MR_SECOND

/* --- for the contract calls ------------------------------------------------------------------- */

static struct mr_intake *intake_of(struct mr_source *source)
{
    return (struct mr_intake *)(void *)source;
}

enum mr_status mr__intake_init(struct mr_intake *intake, const char *kind,
                               const struct mr_source_args *args, struct mr_problem *problem)
{
    *intake = (struct mr_intake){
        .life = {.kind = kind, .role = ROLE, .host = args->host, .index = args->index},
        .event_size_max =
            args->config == NULL ? MR_EVENT_SIZE_DEFAULT : (size_t)args->config->event_size_max,
    };
    return mr__lifecycle_init(&intake->life, args->name, args->folder, problem);
}

enum mr_status mr__intake_create(const struct mr_lifecycle_shape *shape,
                                 const struct mr_source_args *args, struct mr_source **ret_source,
                                 struct mr_problem *problem)
{
    void *instance = NULL;
    enum mr_status r = mr__lifecycle_alloc(shape, ROLE, args->options, &instance, problem);
    if (r != MR_OK) {
        return r;
    }
    struct mr_intake *intake = instance;
    r = mr__intake_init(intake, shape->kind->name, args, problem);
    if (r != MR_OK) {
        mr__lifecycle_free(shape, instance);
        return r;
    }
    intake->life.run = shape->run;
    *ret_source = instance;
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
        MR_ERROR(intake->life.kind, "source=%s %u batches did not come back, ignoring",
                 intake->life.name, intake->submitted);
        return false;
    }
    drop_refused(intake);
    mr__lifecycle_release(&intake->life);
    return true;
}

enum mr_status mr__intake_start(struct mr_source *source, struct mr_problem *problem)
{
    return mr__lifecycle_start(&intake_of(source)->life, problem);
}

static void set_paused(struct mr_intake *intake, bool paused)
{
    /* release pairs with the acquire load of mr__intake_wants(); the wake makes it look. */
    atomic_store_explicit(&intake->paused, paused, memory_order_release);
    mr_opq_wake(&intake->life.queue);
}

void mr__intake_pause(struct mr_source *source)
{
    set_paused(intake_of(source), true);
}

void mr__intake_resume(struct mr_source *source)
{
    set_paused(intake_of(source), false);
}

void mr__intake_tell_stop(struct mr_source *source, uint64_t deadline_mono_ns)
{
    struct mr_lifecycle *life = &intake_of(source)->life;
    mr__lifecycle_tell_stop(life, deadline_mono_ns);
    mr_opq_wake(&life->queue);
}

void mr__intake_stop(struct mr_source *source, uint64_t deadline_mono_ns)
{
    struct mr_lifecycle *life = &intake_of(source)->life;
    if (life->started) {
        mr__intake_tell_stop(source, deadline_mono_ns);
        mr__lifecycle_join(life);
    }
}

void mr__intake_reindex(struct mr_source *source, uint32_t index)
{
    atomic_store_explicit(&intake_of(source)->life.index, index, memory_order_relaxed);
}

void mr__intake_health(struct mr_source *source, struct mr_health *ret_health)
{
    mr__lifecycle_health(&intake_of(source)->life, ret_health);
}

/* --- for its thread --------------------------------------------------------------------------- */

struct mr_batch *mr__intake_batch(struct mr_intake *intake, uint32_t capacity)
{
    uint32_t index = atomic_load_explicit(&intake->life.index, memory_order_relaxed);
    struct mr_batch *batch = mr_batch_create(index, capacity);
    if (batch != NULL) {
        batch->reply = &intake->life.queue;
    }
    return batch;
}

void mr__intake_submit(struct mr_intake *intake, struct mr_batch *batch)
{
    intake->submitted++;
    intake->life.host->ops->submit(intake->life.host, batch);
}

static void keep_refused(struct mr_intake *intake, struct mr_batch *batch, uint64_t now_ns)
{
    if (intake->refused == NULL) {
        uint64_t wait = intake->refused_wait_ns * 2;
        wait = wait < RETRY_MIN_NS ? RETRY_MIN_NS : wait > RETRY_MAX_NS ? RETRY_MAX_NS : wait;
        intake->refused_wait_ns = wait;
        intake->refused_at_ns = now_ns + wait;
        mr__lifecycle_set_health(&intake->life, MR_HEALTH_DEGRADED, NULL,
                                 mr_status_text(batch->result));
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
    first->admitted = batch->admitted < first_count ? batch->admitted : first_count;
    batch->admitted -= first->admitted;
    first->is_part = true;
    batch->count -= first_count;
    batch->size -= first->size < batch->size ? first->size : batch->size; /* rejects may grow */
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
    while ((op = mr_opq_take(&intake->life.queue)) !=
           NULL) { /* until empty: only then it wakes us */
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
        mr__lifecycle_is_stopping(&intake->life)) {
        return;
    }
    for (struct mr_op *op = MR_TAKE(intake->refused); op != NULL;) {
        struct mr_op *next = op->next;
        struct mr_batch *batch = (struct mr_batch *)(void *)op;
        batch->op.next = NULL;
        batch->result = MR_OK;
        batch->source = atomic_load_explicit(&intake->life.index, memory_order_relaxed);
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

bool mr__intake_wants(const struct mr_intake *intake)
{
    return !intake->slow && intake->refused == NULL && !mr__lifecycle_is_stopping(&intake->life) &&
           !atomic_load_explicit(&intake->paused, memory_order_acquire);
}

bool mr__intake_is_finished(struct mr_intake *intake, uint64_t now_ns)
{
    return mr__lifecycle_is_stopping(&intake->life) &&
           (intake->submitted == 0 || mr__lifecycle_is_late(&intake->life, now_ns));
}

int mr__intake_timeout_ms(const struct mr_intake *intake, uint64_t now_ns, int max_ms)
{
    uint64_t until = UINT64_MAX;
    if (max_ms >= 0) {
        until = now_ns + (uint64_t)(uint32_t)max_ms * MR_MS;
    }
    if (mr__lifecycle_is_stopping(&intake->life)) {
        uint64_t deadline = atomic_load_explicit(&intake->life.deadline_ns, memory_order_relaxed);
        until = deadline < until ? deadline : until;
    } else if (intake->refused != NULL && intake->submitted == 0 && intake->refused_at_ns < until) {
        until = intake->refused_at_ns;
    }
    if (until == UINT64_MAX) {
        return -1;
    }
    uint64_t wait_ms = until <= now_ns ? 0 : (until - now_ns + MR_MS - 1) / MR_MS;
    return wait_ms > INT32_MAX ? INT32_MAX : (int)wait_ms;
}
