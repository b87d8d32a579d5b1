/* What the core gives out: requests to the threads of the log, hand-outs to targets, batches back
 * to their sources. On the core thread; gathered during a step, and given out in groups behind
 * it. */
#include "core/alloc.h"
#include "core/logger.h"
#include "millrace/engine_internal.h"

/* Whoever has the least to do: a read that takes long keeps only those waiting that came when all
 * were as busy. */
static struct engine_io_thread *free_reader(struct mr_engine *engine)
{
    struct engine_io_thread *least = &engine->readers[0];
    uint32_t asked = UINT32_MAX;
    for (uint32_t i = 0; i < ENGINE_READERS; i++) {
        uint32_t n = atomic_load_explicit(&engine->readers[i].asked, memory_order_relaxed);
        if (n < asked) {
            least = &engine->readers[i];
            asked = n;
        }
    }
    return least;
}

static void port_io(void *context, struct mr_log_request *request)
{
    struct mr_engine *engine = context;
    struct engine_io_thread *to = &engine->background;
    if (request->kind == MR_LOG_WRITE || request->kind == MR_LOG_SYNC) {
        to = &engine->writer;
    } else if (request->kind == MR_LOG_READ) {
        to = free_reader(engine);
    } else if (request->kind == MR_LOG_FOOTER || request->kind == MR_LOG_IDS ||
               request->kind == MR_LOG_SPARE || request->kind == MR_LOG_COPY ||
               request->kind == MR_LOG_SCRUB) {
        to = &engine->keeper;
    }
    request->op.next = NULL;
    atomic_fetch_add_explicit(&to->asked, 1, memory_order_relaxed);
    enum mr_status r = mr_opq_push(&to->queue, &request->op);
    MR_ASSERT(r == MR_OK); /* unbounded; the core bounds what it asks */
}

void engine_answer(struct mr_engine *engine, struct mr_handout *handout, enum mr_verdict verdict,
                   const char *error)
{
    mr_handout_set_error(handout, mr_bytes_of(error));
    handout->answer.verdict = verdict;
    handout->answer.started_wall_ns = handout->answer.ended_wall_ns = mr_clock_now().wall_ns;
    handout->op.type = ENGINE_ANSWER;
    handout->op.next = NULL;
    engine_post(engine, &handout->op);
}

/* What the subscription makes of the event for its target. @return false: the hand-out is on its
 * way back with the reason for a dead letter, or with a helper */
static bool transform_handout(struct mr_engine *engine, struct mr_handout *handout)
{
    const struct changing *changing = snapshot_transform(engine->bus_snapshot, false,
                                                         handout->name);
    if (changing == NULL) {
        return true;
    }
    if (changing->program != NULL) {
        engine_jq_handout(engine, handout, changing);
        return false;
    }
    struct mr_problem why = {.text = ""};
    struct mr_event *changed = NULL;
    enum mr_status r = mr_transform_apply(changing->transform, mr_event_record(handout->event),
                                          MR_EVENT_SIZE_MAX, &changed, &why);
    if (r == MR_OK) {
        handout->original = handout->event;
        handout->event = changed;
        return true;
    }
    struct mr_problem text = {.text = ""};
    (void)mr_problem_set(&text, r, "transform: %s", why.text);
    engine_answer(engine, handout, r == MR_E_NOMEM ? MR_VERDICT_REFUSED : MR_VERDICT_DEAD,
                  text.text);
    return false;
}

static void chain_handout(struct mr_engine *engine, struct instance *instance,
                          struct mr_handout *handout)
{
    handout->op.next = NULL;
    atomic_fetch_add(&instance->held, 1);
    if (instance->chain == NULL) {
        instance->chain = handout;
        instance->next_chained = engine->chained;
        engine->chained = instance;
    } else {
        instance->chain_last->op.next = &handout->op;
    }
    instance->chain_last = handout;
}

struct instance *engine_target(const struct mr_engine *engine, uint32_t target)
{
    return target < engine->targets_by_id_count ? engine->targets_by_id[target] : NULL;
}

static void port_handout(void *context, struct mr_handout *handout)
{
    struct mr_engine *engine = context;
    if (!transform_handout(engine, handout)) {
        return;
    }
    struct instance *instance = engine_target(engine, handout->target);
    MR_ASSERT(instance != NULL); /* a target without an instance has no capacity */
    chain_handout(engine, instance, handout);
}

void engine_take_transformed(struct mr_engine *engine, struct mr_op *op)
{
    struct mr_handout *handout = engine_jq_take(engine, op);
    while (handout != NULL) {
        struct mr_handout *next = (struct mr_handout *)handout->op.next;
        struct instance *instance = engine_target(engine, handout->target);
        if (instance != NULL) {
            chain_handout(engine, instance, handout);
        } else {
            mr_event_unref(handout->event);
            handout->event = MR_TAKE(handout->original);
            engine_answer(engine, handout, MR_VERDICT_REFUSED, "its target is gone");
        }
        handout = next;
    }
}

static void port_cancel(void *context, uint32_t target, uint32_t subscription, uint64_t offset,
                        uint32_t fence)
{
    struct mr_engine *engine = context;
    struct instance *instance = engine_target(engine, target);
    if (engine_jq_cancel(engine, subscription, offset, fence)) {
        return;
    }
    if (instance != NULL && instance->target_ops->cancel != NULL) {
        instance->target_ops->cancel(instance->target, subscription, offset, fence);
    }
}

static void tell_tails(struct mr_engine *engine, const struct mr_batch *batch)
{
    pthread_mutex_lock(&engine->tails_mu);
    for (uint32_t t = 0; t < engine->tail_count; t++) {
        for (uint32_t i = 0; i < batch->count; i++) {
            if (batch->items[i].duplicate) {
                continue; /* no event of its own */
            }
            engine->tails[t].fn(engine->tails[t].context, batch->items[i].offset, batch->source,
                                mr_event_record(batch->items[i].event));
        }
    }
    pthread_mutex_unlock(&engine->tails_mu);
}

static void flush_reply(struct engine_reply *reply)
{
    if (mr_opq_push(reply->queue, reply->first) != MR_OK) {
        while (reply->first != NULL) { /* its source is gone */
            struct mr_op *next = reply->first->next;
            mr_batch_destroy((struct mr_batch *)reply->first);
            reply->first = next;
        }
    }
}

static void port_batch_done(void *context, struct mr_batch *batch)
{
    struct mr_engine *engine = context;
    atomic_fetch_sub_explicit(&engine->pending_bytes, batch->size, memory_order_relaxed);
    if (batch->result == MR_OK &&
        atomic_load_explicit(&engine->tail_any, memory_order_relaxed) > 0) {
        tell_tails(engine, batch);
    }
    if (batch->reply == NULL) {
        mr_batch_destroy(batch);
        return;
    }
    engine_await_batch(engine, batch);
    batch->op.type = MR_SOURCE_OP_BATCH_DONE;
    batch->op.next = NULL;
    for (uint32_t i = 0; i < engine->reply_count; i++) {
        if (engine->replies[i].queue == batch->reply) {
            engine->replies[i].last->next = &batch->op;
            engine->replies[i].last = &batch->op;
            return;
        }
    }
    if (engine->reply_count == ENGINE_REPLIES_MAX) {
        flush_reply(&engine->replies[--engine->reply_count]);
    }
    engine->replies[engine->reply_count++] =
        (struct engine_reply){.queue = batch->reply, .first = &batch->op, .last = &batch->op};
}

static void port_demand(void *context, uint32_t target, uint64_t queued, uint64_t oldest_age_ns)
{
    struct mr_engine *engine = context;
    struct instance *instance = engine_target(engine, target);
    if (instance != NULL && instance->target_ops->demand != NULL) {
        instance->target_ops->demand(instance->target, queued, oldest_age_ns);
    }
}

static void port_slow(void *context, bool slow)
{
    struct mr_engine *engine = context;
    atomic_store(&engine->slow, slow);
    engine_wake_control(engine);
}

static void port_alarm(void *context, const char *text)
{
    (void)context;
    MR_ERROR("bus", "%s", text);
}

void engine_flush_outputs(struct mr_engine *engine)
{
    while (engine->chained != NULL) {
        struct instance *instance = engine->chained;
        engine->chained = instance->next_chained;
        struct mr_handout *first = instance->chain;
        instance->chain = NULL;
        instance->chain_last = NULL;
        instance->target_ops->submit(instance->target, first);
    }
    for (uint32_t i = 0; i < engine->reply_count; i++) {
        flush_reply(&engine->replies[i]);
    }
    engine->reply_count = 0;
}

struct mr_bus_ports engine_ports(struct mr_engine *engine)
{
    return (struct mr_bus_ports){
        .context = engine,
        .io = port_io,
        .handout = port_handout,
        .cancel = port_cancel,
        .batch_done = port_batch_done,
        .demand = port_demand,
        .slow = port_slow,
        .alarm = port_alarm,
    };
}
