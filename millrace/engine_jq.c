/* Transforms in jq, which helper processes run: batches of sources and hand-outs of subscriptions
 * go to the pool and come back later, so that neither a source's thread nor the core waits for a
 * program. */
#include "core/alloc.h"
#include "millrace/engine_internal.h"

/* A batch on its way to the core. One thread of the pool at a time has it: its jobs are all in the
 * lane of its source. */
struct batch_work {
    struct snapshot *snapshot; /* shared: ref; holds what `source` is in */
    const struct mr_source_config *source;
    struct mr_batch *batch;
    enum mr_status status;  /* what the first job that can be tried again later said */
    uint32_t from;          /* the first item that was not admitted before */
    uint32_t left;          /* jobs that are not done */
    struct mr_jq_job jobs[]; /* one for each item from there on that is no dead letter yet */
};

struct engine_transformed {
    struct mr_op op; /* first; to the core */
    struct mr_handout *handout; /* owned */
    struct mr_jq_job job;
    struct engine_transformed *next; /* of those with a helper; core thread */
    struct engine_transformed *previous;
};

/* --- batches ---------------------------------------------------------------------------------- */

/* What comes of one event of a source: another event, or a dead letter. There is nothing else: what
 * its peer was promised is in the log. */
static enum mr_status settle_item(const struct batch_work *work, struct mr_jq_job *job,
                                  struct mr_batch_item *item)
{
    if (job->status == MR_OK) {
        mr_event_unref(item->event);
        item->event = MR_TAKE(job->changed);
        return engine_validate(work->source, item);
    }
    if (mr_status_class(job->status) == MR_CLASS_RETRY) {
        return job->status == MR_E_UNAVAILABLE ? MR_E_FULL : job->status; /* its source waits */
    }
    struct mr_problem problem = {.text = ""};
    (void)mr_problem_set(&problem, job->status, "transform: %s", job->problem.text);
    return engine_reject(work->source, item, problem.text);
}

static void finish_batch(struct mr_engine *engine, struct batch_work *work)
{
    struct mr_batch *batch = work->batch;
    batch->admitted = work->status == MR_OK ? batch->count : batch->admitted;
    engine_count(engine, batch, work->from);
    if (work->status == MR_OK) {
        engine_enter(engine, batch);
    } else {
        engine_give_back(engine, batch, work->status);
    }
    snapshot_unref(work->snapshot);
    mr_free(work);
}

/* Jobs of a batch are done in order. After the first that has to be tried again all are: none is
 * transformed twice. */
static void take_batch_job(struct mr_engine *engine, struct batch_work *work, struct mr_jq_job *job)
{
    struct mr_batch *batch = work->batch;
    if (work->status == MR_OK) {
        while (batch->items[batch->admitted].rejected != NULL) {
            batch->admitted++; /* it came as a dead letter */
        }
        work->status = settle_item(work, job, &batch->items[batch->admitted]);
        batch->admitted += work->status == MR_OK;
    }
    mr_event_unref(job->changed); /* one that came too late */
    mr_jq_program_unref(job->program);
    if (--work->left == 0) {
        finish_batch(engine, work);
    }
}

void engine_jq_batch(struct mr_engine *engine, struct snapshot *snapshot, struct mr_batch *batch,
                     const struct mr_source_config *source, const struct changing *changing)
{
    struct batch_work *work =
        mr_calloc(1, sizeof(*work) + (batch->count - batch->admitted) * sizeof(work->jobs[0]));
    if (work == NULL) {
        engine_give_back(engine, batch, MR_E_NOMEM);
        return;
    }
    atomic_fetch_add_explicit(&snapshot->refs, 1, memory_order_relaxed);
    work->snapshot = snapshot;
    work->source = source;
    work->batch = batch;
    work->from = batch->admitted;
    for (uint32_t i = batch->admitted; i < batch->count; i++) {
        struct mr_jq_job *job = &work->jobs[work->left];
        if (batch->items[i].rejected == NULL) {
            job->program = mr_jq_program_ref(changing->program);
            job->record = mr_event_record(batch->items[i].event);
            job->size_max = source->event_size_max;
            job->owner = work;
            job->is_batch = true;
            if (work->left++ > 0) {
                job[-1].next = job;
            }
        }
    }
    if (work->left == 0) { /* all of it came as dead letters */
        finish_batch(engine, work);
        return;
    }
    enum mr_status r = mr_jq_lane_push(changing->lane, work->jobs, MR_JQ_QUEUE_SIZE_MAX);
    if (r != MR_OK) { /* else it is the pool's, and may be gone by now */
        for (uint32_t i = 0; i < work->left; i++) {
            mr_jq_program_unref(work->jobs[i].program);
        }
        work->status = r;
        finish_batch(engine, work);
    }
}

/* --- hand-outs -------------------------------------------------------------------------------- */

static void unlink_transformed(struct mr_engine *engine, struct engine_transformed *t)
{
    *(t->previous == NULL ? &engine->transformed : &t->previous->next) = t->next;
    if (t->next != NULL) {
        t->next->previous = t->previous;
    }
}

static void free_transformed(struct engine_transformed *t)
{
    mr_event_unref(t->job.changed);
    mr_jq_program_unref(t->job.program);
    mr_free(t);
}

void engine_jq_handout(struct mr_engine *engine, struct mr_handout *handout,
                       const struct changing *changing)
{
    struct engine_transformed *t = mr_calloc(1, sizeof(*t));
    if (t == NULL) {
        engine_answer(engine, handout, MR_VERDICT_REFUSED, "transform: out of memory");
        return;
    }
    t->op.type = ENGINE_TRANSFORMED;
    t->handout = handout;
    t->job.program = mr_jq_program_ref(changing->program);
    t->job.record = mr_event_record(handout->event);
    t->job.size_max = MR_EVENT_SIZE_MAX;
    t->job.owner = t;
    t->next = engine->transformed;
    if (t->next != NULL) {
        t->next->previous = t;
    }
    engine->transformed = t;
    if (mr_jq_lane_push(changing->lane, &t->job, 0) != MR_OK) { /* it was stopped */
        unlink_transformed(engine, t);
        free_transformed(t);
        engine_answer(engine, handout, MR_VERDICT_REFUSED, "transform: Millrace stops");
    }
}

static struct mr_handout *next_of(const struct mr_handout *handout)
{
    return (struct mr_handout *)handout->op.next;
}

bool engine_jq_cancel(struct mr_engine *engine, uint32_t subscription, uint64_t offset,
                      uint32_t fence)
{
    for (struct engine_transformed *t = engine->transformed; t != NULL; t = t->next) {
        if (t->handout->subscription == subscription && t->handout->offset == offset &&
            t->handout->fence == fence) {
            atomic_store_explicit(&t->job.cancelled, true, memory_order_relaxed);
            return true;
        }
    }
    struct mr_handout *before = NULL;
    for (struct mr_handout *h = engine->gathered; h != NULL; h = next_of(h)) {
        if (h->subscription == subscription && h->offset == offset && h->fence == fence) {
            if (before == NULL) {
                engine->gathered = next_of(h);
            } else {
                before->op.next = h->op.next;
            }
            mr_event_unref(h->event);
            h->event = MR_TAKE(h->original);
            engine_answer(engine, h, MR_VERDICT_REFUSED, "nobody waits for it any more");
            return true;
        }
        before = h;
    }
    return false;
}

/* Whether others of the batch of @p t are with a helper: they stand beside it in the list, having
 * come in a row. */
static bool has_fellows(const struct engine_transformed *t)
{
    uint64_t batch = t->handout->batch;
    return batch != 0 && ((t->next != NULL && t->next->handout->batch == batch) ||
                          (t->previous != NULL && t->previous->handout->batch == batch));
}

/* Takes out of those gathered the hand-outs of @p batch, oldest first. */
static struct mr_handout *take_gathered(struct mr_engine *engine, uint64_t batch)
{
    struct mr_handout *first = NULL;
    struct mr_op *left = NULL;
    struct mr_op **end = &left;
    struct mr_op *op = engine->gathered == NULL ? NULL : &engine->gathered->op;
    while (op != NULL) {
        struct mr_op *next = op->next;
        if (((struct mr_handout *)op)->batch == batch) {
            op->next = first == NULL ? NULL : &first->op;
            first = (struct mr_handout *)op;
        } else {
            *end = op;
            end = &op->next;
        }
        op = next;
    }
    *end = NULL;
    engine->gathered = (struct mr_handout *)left;
    return first;
}

/* Of what could not be transformed. */
static void answer_failed(struct mr_engine *engine, struct mr_handout *handout,
                          const struct mr_jq_job *job, bool cancelled)
{
    struct mr_problem text = {.text = ""};
    bool is_refused = cancelled || mr_status_class(job->status) == MR_CLASS_RETRY;
    (void)mr_problem_set(&text, job->status, "transform: %s",
                         cancelled ? "nobody waits for it any more" : job->problem.text);
    engine_answer(engine, handout,
                  is_refused                       ? MR_VERDICT_REFUSED
                  : job->status == MR_E_NOT_FOUND ? MR_VERDICT_DROP
                                                   : MR_VERDICT_DEAD,
                  text.text);
}

struct mr_handout *engine_jq_take(struct mr_engine *engine, struct mr_op *op)
{
    struct engine_transformed *t = (struct engine_transformed *)op;
    struct mr_handout *handout = t->handout;
    struct mr_jq_job *job = &t->job;
    uint64_t batch = handout->batch;
    bool is_last = !has_fellows(t);
    bool cancelled = atomic_load_explicit(&job->cancelled, memory_order_relaxed);
    bool goes_on = job->status == MR_OK && !cancelled;
    unlink_transformed(engine, t);
    if (goes_on) {
        handout->original = handout->event;
        handout->event = MR_TAKE(job->changed);
        handout->op.next = NULL;
    } else {
        answer_failed(engine, handout, job, cancelled);
    }
    free_transformed(t);
    if (batch == 0) {
        return goes_on ? handout : NULL;
    }
    if (goes_on) {
        handout->op.next = engine->gathered == NULL ? NULL : &engine->gathered->op;
        engine->gathered = handout;
    }
    return is_last ? take_gathered(engine, batch) : NULL;
}

void engine_jq_release(struct mr_engine *engine)
{
    while (engine->gathered != NULL) {
        struct mr_handout *next = next_of(engine->gathered);
        mr_handout_destroy(engine->gathered);
        engine->gathered = next;
    }
}

void engine_jq_drop(struct mr_op *op)
{
    struct engine_transformed *t = (struct engine_transformed *)op;
    mr_handout_destroy(t->handout);
    free_transformed(t);
}

/* --- both ------------------------------------------------------------------------------------- */

void engine_jq_done(void *context, struct mr_jq_job *first)
{
    struct mr_engine *engine = context;
    struct mr_op *ops = NULL;
    struct mr_op **end = &ops;
    while (first != NULL) {
        struct mr_jq_job *next = first->next;
        if (first->is_batch) {
            take_batch_job(engine, first->owner, first);
        } else {
            struct engine_transformed *t = first->owner;
            t->op.next = NULL;
            *end = &t->op;
            end = &t->op.next;
        }
        first = next;
    }
    if (ops != NULL) {
        engine_post(engine, ops);
    }
}
