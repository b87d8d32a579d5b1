#include "connectors/outlet.h"

#include <stdio.h>

#include "core/assert.h"
#include "core/clock.h"

#define ROLE "sink"

/* --- for the contract calls ------------------------------------------------------------------- */

static struct mr_outlet *outlet_of(struct mr_target *target)
{
    return (struct mr_outlet *)(void *)target;
}

enum mr_status mr__outlet_create(const struct mr_lifecycle_shape *shape,
                                 const struct mr_target_args *args, struct mr_target **ret_target,
                                 struct mr_problem *problem)
{
    void *instance = NULL;
    enum mr_status r = mr__lifecycle_alloc(shape, ROLE, args->options, &instance, problem);
    if (r != MR_OK) {
        return r;
    }
    uint32_t concurrency = args->config == NULL ? 0 : args->config->concurrency;
    struct mr_outlet *outlet = instance;
    *outlet = (struct mr_outlet){
        .life = {.kind = shape->kind->name,
                 .role = ROLE,
                 .host = args->host,
                 .index = args->index,
                 .run = shape->run},
        .slots = concurrency == 0 ? MR_OUTLET_SLOTS_DEFAULT : concurrency,
    };
    r = mr__lifecycle_init(&outlet->life, args->name, args->folder, problem);
    if (r != MR_OK) {
        mr__lifecycle_free(shape, instance);
        return r;
    }
    *ret_target = instance;
    return MR_OK;
}

void mr__outlet_release(struct mr_outlet *outlet)
{
    MR_ASSERT(outlet->answers == NULL);
    mr__lifecycle_release(&outlet->life);
}

enum mr_status mr__outlet_start(struct mr_target *target, struct mr_problem *problem)
{
    return mr__lifecycle_start(&outlet_of(target)->life, problem);
}

static void refuse_stopped(struct mr_outlet *outlet, struct mr_handout *first)
{
    for (struct mr_handout *h = first; h != NULL; h = mr__outlet_next(h)) {
        h->answer.verdict = MR_VERDICT_REFUSED;
        mr_handout_set_error(h, MR_BYTES_LITERAL("stopped"));
    }
    if (first != NULL) {
        outlet->life.host->ops->answer(outlet->life.host, first);
    }
}

void mr__outlet_submit(struct mr_target *target, struct mr_handout *first)
{
    struct mr_outlet *outlet = outlet_of(target);
    if (mr_opq_push(&outlet->life.queue, &first->op) != MR_OK) { /* closed by stop */
        refuse_stopped(outlet, first);
    }
}

void mr__outlet_tell_stop(struct mr_target *target, uint64_t deadline_mono_ns)
{
    struct mr_lifecycle *life = &outlet_of(target)->life;
    mr__lifecycle_tell_stop(life, deadline_mono_ns);
    mr_opq_close(&life->queue); /* which wakes it */
}

void mr__outlet_stop(struct mr_target *target, uint64_t deadline_mono_ns)
{
    struct mr_outlet *outlet = outlet_of(target);
    if (!outlet->life.started) {
        return;
    }
    mr__outlet_tell_stop(target, deadline_mono_ns);
    mr__lifecycle_join(&outlet->life);
    mr__outlet_flush(outlet);
    refuse_stopped(outlet, mr__outlet_take(outlet));
}

void mr__outlet_reindex(struct mr_target *target, uint32_t index)
{
    atomic_store_explicit(&outlet_of(target)->life.index, index, memory_order_relaxed);
}

void mr__outlet_health(struct mr_target *target, struct mr_health *ret_health)
{
    mr__lifecycle_health(&outlet_of(target)->life, ret_health);
}

/* --- for its thread --------------------------------------------------------------------------- */

struct mr_handout *mr__outlet_take(struct mr_outlet *outlet)
{
    return (struct mr_handout *)(void *)mr_opq_take(&outlet->life.queue);
}

struct mr_handout *mr__outlet_next(const struct mr_handout *handout)
{
    return (struct mr_handout *)(void *)handout->op.next;
}

void mr__outlet_answer(struct mr_outlet *outlet, struct mr_handout *handout,
                       enum mr_verdict verdict, const char *error, uint64_t started_wall_ns)
{
    handout->answer.verdict = verdict;
    handout->answer.started_wall_ns = started_wall_ns;
    handout->answer.ended_wall_ns = mr_clock_now().wall_ns;
    (void)snprintf(handout->answer.instance, sizeof(handout->answer.instance), "%s",
                   outlet->life.name); /* cut at worst */
    if (error != NULL) {
        mr_handout_set_error(handout, mr_bytes_of(error));
    }
    if (verdict == MR_VERDICT_OK) {
        atomic_fetch_add_explicit(&outlet->life.messages, 1, memory_order_relaxed);
    }
    handout->op.next = outlet->answers == NULL ? NULL : &outlet->answers->op;
    outlet->answers = handout;
}

void mr__outlet_flush(struct mr_outlet *outlet)
{
    if (outlet->answers != NULL) {
        outlet->life.host->ops->answer(outlet->life.host, MR_TAKE(outlet->answers));
    }
}

void mr__outlet_tell(struct mr_outlet *outlet, bool connected)
{
    outlet->life.host->ops->capacity(
        outlet->life.host, atomic_load_explicit(&outlet->life.index, memory_order_relaxed),
        connected ? outlet->slots : 0);
}
