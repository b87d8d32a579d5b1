/* What sources and targets call: matching on their own thread, then one queue to the core. */
#include <inttypes.h>
#include <stdio.h>

#include "core/alloc.h"
#include "millrace/engine_internal.h"
#include "schemas/adapter.h"
#include "schemas/json_format.h"

#define PENDING_BYTES_MAX (256u * MR_MIB) /* of batches on their way to the log, all sources */

static struct instance *instance_of(struct mr_host *host)
{
    return (struct instance *)host;
}

void engine_give_back(struct mr_engine *engine, struct mr_batch *batch, enum mr_status why)
{
    struct mr_await *awaits = engine_await_take(engine, batch);
    batch->result = why;
    batch->op.type = MR_SOURCE_OP_BATCH_DONE;
    batch->op.next = NULL;
    if (batch->reply == NULL || mr_opq_push(batch->reply, &batch->op) != MR_OK) {
        mr_batch_destroy(batch); /* nobody waits for it any more */
    }
    engine_await_refuse(engine, awaits);
}

static uint32_t config_index(const struct snapshot *snapshot, uint32_t source_id)
{
    for (uint32_t i = 0; i < snapshot->config->source_count; i++) {
        if (snapshot->source_ids[i] == source_id) {
            return i;
        }
    }
    return UINT32_MAX;
}

enum mr_status engine_reject(const struct mr_source_config *source, struct mr_batch_item *item,
                             const char *reason)
{
    struct mr_bytes record = mr_event_record(item->event);
    struct mr_event *event = NULL;
    struct mr_buf raw;
    mr_buf_init(&raw, 8u * MR_EVENT_SIZE_MAX);
    enum mr_status r = mr_json_encode_exact(record, &raw);
    r = r == MR_OK ? mr_adapt_rejected(mr_bytes_of(source->name), mr_event_id(record),
                                       mr_buf_bytes(&raw), reason, mr_clock_now().wall_ns,
                                       source->event_size_max, &event)
                   : r;
    mr_buf_release(&raw);
    char *why = r == MR_OK ? mr_strdup(reason) : NULL;
    if (why == NULL) {
        mr_event_unref(event);
        return MR_E_NOMEM;
    }
    mr_event_unref(item->event); /* batch->size stays what the source counted */
    item->event = event;
    item->rejected = why;
    return MR_OK;
}

enum mr_status engine_validate(const struct mr_source_config *source, struct mr_batch_item *item)
{
    struct mr_problem problem = {.text = ""};
    enum mr_status r = source->validation == NULL
                           ? MR_OK
                           : mr_validation_check(source->validation,
                                                 mr_event_record(item->event), &problem);
    return r == MR_OK || r == MR_E_NOMEM ? r : engine_reject(source, item, problem.text);
}

/* What a source makes of its event before it is stored: transformed, and found to be as its schema
 * wants it, else a dead letter. */
static enum mr_status admit_item(const struct mr_source_config *source,
                                 const struct changing *changing, struct mr_batch_item *item)
{
    if (changing == NULL) {
        return engine_validate(source, item);
    }
    struct mr_event *changed = NULL;
    struct mr_problem why = {.text = ""};
    enum mr_status r = mr_transform_apply(changing->transform, mr_event_record(item->event),
                                          source->event_size_max, &changed, &why);
    if (r == MR_OK) {
        mr_event_unref(item->event);
        item->event = changed;
        return engine_validate(source, item);
    }
    struct mr_problem problem = {.text = ""};
    (void)mr_problem_set(&problem, r, "transform: %s", why.text);
    return r == MR_E_NOMEM ? r : engine_reject(source, item, problem.text);
}

static void count_items(struct instance *instance, const struct mr_batch *batch, uint32_t from)
{
    for (uint32_t i = from; i < batch->admitted; i++) {
        atomic_fetch_add_explicit(batch->items[i].rejected != NULL ? &instance->rejected
                                                                   : &instance->events,
                                  1, memory_order_relaxed);
    }
}

void engine_count(struct mr_engine *engine, const struct mr_batch *batch, uint32_t from)
{
    pthread_mutex_lock(&engine->instances_mu);
    for (uint32_t i = 0; i < engine->source_count; i++) {
        if (engine->sources[i]->id == batch->source) {
            count_items(engine->sources[i], batch, from);
            break;
        }
    }
    pthread_mutex_unlock(&engine->instances_mu);
}

/* Once for each event, which is counted here, also when the bus refuses the batch and it comes
 * again. */
static enum mr_status admit_batch(struct instance *instance, const struct mr_source_config *source,
                                  const struct changing *changing, struct mr_batch *batch)
{
    bool changes = changing != NULL || (source != NULL && source->validation != NULL);
    uint32_t from = batch->admitted;
    enum mr_status r = MR_OK;
    while (batch->admitted < batch->count && r == MR_OK) {
        struct mr_batch_item *item = &batch->items[batch->admitted];
        r = changes && item->rejected == NULL ? admit_item(source, changing, item) : MR_OK;
        batch->admitted += r == MR_OK;
    }
    count_items(instance, batch, from);
    return r;
}

void engine_set_keys(const struct mr_engine *engine, const struct mr_source_config *source,
                     struct mr_batch *batch)
{
    for (uint32_t i = 0; i < batch->count && source != NULL && source->dedupe_ids; i++) {
        struct mr_batch_item *item = &batch->items[i];
        if (item->rejected == NULL && !mr_dedupe_key_is_set(&item->keys[MR_DEDUPE_BY_ID])) {
            item->keys[MR_DEDUPE_BY_ID] = mr_dedupe_key_of_id(
                engine->salt, mr_event_record(item->event), item->id_is_claim);
        }
    }
}

static enum mr_status match_batch(struct snapshot *snapshot, struct mr_batch *batch)
{
    uint32_t index = config_index(snapshot, batch->source);
    for (uint32_t i = 0; i < batch->count; i++) {
        struct mr_batch_item *item = &batch->items[i];
        enum mr_status r = item->rejected != NULL
                               ? MR_OK
                               : mr_router_match(snapshot->router, index,
                                                 mr_event_record(item->event), &item->matches);
        if (r != MR_OK) {
            return r;
        }
    }
    batch->generation = snapshot->generation;
    return MR_OK;
}

void engine_enter(struct mr_engine *engine, struct mr_batch *batch)
{
    uint64_t pending = atomic_fetch_add_explicit(&engine->pending_bytes, batch->size,
                                                 memory_order_relaxed);
    struct snapshot *snapshot = snapshot_get(engine);
    uint32_t index = config_index(snapshot, batch->source);
    engine_set_keys(engine, index == UINT32_MAX ? NULL : &snapshot->config->sources[index], batch);
    enum mr_status r = pending > PENDING_BYTES_MAX ? MR_E_FULL : match_batch(snapshot, batch);
    snapshot_unref(snapshot);
    if (r == MR_OK) {
        batch->op.type = ENGINE_BATCH;
        batch->op.next = NULL;
        r = mr_opq_push(&engine->inbox, &batch->op);
    }
    if (r != MR_OK) {
        atomic_fetch_sub_explicit(&engine->pending_bytes, batch->size, memory_order_relaxed);
        engine_give_back(engine, batch, r);
    }
}

static void host_submit(struct mr_host *host, struct mr_batch *batch)
{
    struct instance *instance = instance_of(host);
    struct mr_engine *engine = instance->engine;
    struct snapshot *snapshot = snapshot_get(engine);
    uint32_t index = config_index(snapshot, batch->source);
    const struct mr_source_config *source =
        index == UINT32_MAX ? NULL : &snapshot->config->sources[index];
    const struct changing *changing =
        source == NULL ? NULL : snapshot_transform(snapshot, true, source->name);
    if (changing != NULL && changing->program != NULL && batch->admitted < batch->count) {
        engine_jq_batch(engine, snapshot, batch, source, changing);
        snapshot_unref(snapshot);
        return;
    }
    enum mr_status r = admit_batch(instance, source, changing, batch);
    snapshot_unref(snapshot);
    if (r == MR_OK) {
        engine_enter(engine, batch);
    } else {
        engine_give_back(engine, batch, r);
    }
}

/* What a handler emits is one hop further and remembers what caused it. */
static void trace_emitted(struct mr_handout *handout)
{
    struct mr_bytes parent = mr_event_record(handout->event);
    for (uint32_t i = 0; i < handout->answer.emitted_count; i++) {
        struct mr_batch_item *item = &handout->answer.emitted[i];
        char hops[16];
        int n = snprintf(hops, sizeof(hops), "%" PRIu32, mr_event_hops(parent) + 1);
        struct mr_event *marked = NULL;
        if (n > 0 && mr_event_with_attr(mr_event_record(item->event),
                                        MR_BYTES_LITERAL("mrhops"), mr_bytes(hops, (size_t)n),
                                        &marked, NULL) == MR_OK) {
            mr_event_unref(item->event);
            item->event = marked;
        }
        if (mr_event_value(mr_event_record(item->event), "causationid").size == 0 &&
            mr_event_with_attr(mr_event_record(item->event), MR_BYTES_LITERAL("causationid"),
                               mr_event_id(parent), &marked, NULL) == MR_OK) {
            mr_event_unref(item->event);
            item->event = marked;
        }
    }
}

static void post_capacity(struct instance *instance)
{
    struct engine_capacity *capacity = instance->capacity;
    if (!atomic_exchange(&capacity->posted, true)) {
        atomic_fetch_add(&capacity->refs, 1);
        capacity->op.next = NULL;
        engine_post(instance->engine, &capacity->op);
    }
}

static void host_answer(struct mr_host *host, struct mr_handout *first)
{
    struct instance *instance = instance_of(host);
    struct mr_engine *engine = instance->engine;
    if (instance->is_worker) {
        mr_meter_count(&engine->meter, instance->id, instance->name, first);
    }
    uint32_t count = 0;
    for (struct mr_op *op = &first->op; op != NULL; op = op->next) {
        struct mr_handout *handout = (struct mr_handout *)op;
        count++;
        op->type = ENGINE_ANSWER;
        if (handout->original != NULL) { /* the bus knows the event as it is in the log */
            mr_event_unref(handout->event);
            handout->event = MR_TAKE(handout->original);
        }
        trace_emitted(handout);
    }
    atomic_fetch_sub(&instance->held, count);
    if (atomic_load(&instance->retired)) {
        post_capacity(instance); /* of its successor, before the answers free slots of it */
    }
    engine_post(engine, &first->op);
}

static void host_heartbeat(struct mr_host *host, const struct mr_handout *handout)
{
    struct engine_note *note = mr_calloc(1, sizeof(*note));
    if (note == NULL) {
        return; /* the next heartbeat will do */
    }
    note->op.type = ENGINE_HEARTBEAT;
    note->subscription = handout->subscription;
    note->fence = handout->fence;
    note->a = handout->offset;
    engine_post(instance_of(host)->engine, &note->op);
}

static void host_capacity(struct mr_host *host, uint32_t target, uint32_t slots)
{
    struct instance *instance = instance_of(host);
    if (atomic_load_explicit(&instance->retired, memory_order_acquire)) {
        return;
    }
    atomic_store(&instance->capacity->target, target);
    atomic_store(&instance->capacity->slots, slots);
    post_capacity(instance);
}

void engine_capacity_unref(struct engine_capacity *capacity)
{
    if (capacity != NULL && atomic_fetch_sub(&capacity->refs, 1) == 1) {
        mr_free(capacity);
    }
}

static void host_await(struct mr_host *host, struct mr_await *await)
{
    engine_await_add(instance_of(host)->engine, await);
}

static void host_withdraw(struct mr_host *host, const struct mr_opq *reply)
{
    engine_await_withdraw(instance_of(host)->engine, reply);
}

const struct mr_host_ops engine_host_ops = {
    .submit = host_submit,
    .answer = host_answer,
    .heartbeat = host_heartbeat,
    .capacity = host_capacity,
    .await = host_await,
    .withdraw = host_withdraw,
};
