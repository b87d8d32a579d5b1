#include "connectors/outlet.h"

#include <stdio.h>

#include "core/alloc.h"
#include "core/assert.h"
#include "core/clock.h"
#include "core/logger.h"

/* --- for the contract calls ------------------------------------------------------------------- */

enum mr_status mr__outlet_init(struct mr_outlet *outlet, const char *kind,
                               const struct mr_target_args *args, struct mr_problem *problem)
{
    *outlet = (struct mr_outlet){.kind = kind, .host = args->host};
    enum mr_status r = mr_opq_init(&outlet->handouts, UINT64_MAX);
    if (r != MR_OK) {
        return mr_problem_set(problem, r, "no queue for the sink");
    }
    outlet->name = mr_strdup(args->name);
    outlet->folder = mr_strdup(args->folder);
    if (outlet->name == NULL || (outlet->folder == NULL && args->folder != NULL)) {
        mr_free(outlet->name);
        mr_free(outlet->folder);
        mr_opq_release(&outlet->handouts);
        return mr_problem_set(problem, MR_E_NOMEM, "no memory for the sink");
    }
    (void)pthread_mutex_init(&outlet->mu, NULL);
    atomic_init(&outlet->index, args->index);
    outlet->slots = args->config == NULL || args->config->concurrency == 0
                        ? MR_OUTLET_SLOTS_DEFAULT
                        : args->config->concurrency;
    return MR_OK;
}

void mr__outlet_release(struct mr_outlet *outlet)
{
    MR_ASSERT(outlet->answers == NULL);
    mr_opq_release(&outlet->handouts);
    pthread_mutex_destroy(&outlet->mu);
    mr_free(outlet->folder);
    mr_free(outlet->name);
}

enum mr_status mr__outlet_start(struct mr_outlet *outlet, void *(*run)(void *), void *context,
                                struct mr_problem *problem)
{
    MR_ASSERT(!outlet->started);
    mr__outlet_set_health(outlet, MR_HEALTH_STARTING, NULL, NULL);
    if (pthread_create(&outlet->thread, NULL, run, context) != 0) {
        return mr_problem_set(problem, MR_E_UNAVAILABLE, "no thread for sink %s", outlet->name);
    }
    outlet->started = true;
    return MR_OK;
}

static void refuse_stopped(struct mr_outlet *outlet, struct mr_handout *first)
{
    for (struct mr_handout *h = first; h != NULL; h = mr__outlet_next(h)) {
        h->answer.verdict = MR_VERDICT_REFUSED;
        mr_handout_set_error(h, MR_BYTES_LITERAL("stopped"));
    }
    if (first != NULL) {
        outlet->host->ops->answer(outlet->host, first);
    }
}

void mr__outlet_submit(struct mr_outlet *outlet, struct mr_handout *first)
{
    if (mr_opq_push(&outlet->handouts, &first->op) != MR_OK) { /* closed by stop */
        refuse_stopped(outlet, first);
    }
}

void mr__outlet_tell_stop(struct mr_outlet *outlet, uint64_t deadline_mono_ns)
{
    /* release pairs with the acquire loads of the thread; closing wakes it. */
    atomic_store_explicit(&outlet->deadline_ns, deadline_mono_ns, memory_order_relaxed);
    atomic_store_explicit(&outlet->stopping, true, memory_order_release);
    mr_opq_close(&outlet->handouts);
}

void mr__outlet_stop(struct mr_outlet *outlet, uint64_t deadline_mono_ns)
{
    if (!outlet->started) {
        return;
    }
    mr__outlet_tell_stop(outlet, deadline_mono_ns);
    (void)pthread_join(outlet->thread, NULL);
    outlet->started = false;
    mr__outlet_flush(outlet);
    refuse_stopped(outlet, mr__outlet_take(outlet));
}

void mr__outlet_reindex(struct mr_outlet *outlet, uint32_t index)
{
    atomic_store_explicit(&outlet->index, index, memory_order_relaxed);
}

void mr__outlet_health(struct mr_outlet *outlet, struct mr_health *ret_health)
{
    pthread_mutex_lock(&outlet->mu);
    *ret_health = outlet->health;
    pthread_mutex_unlock(&outlet->mu);
    ret_health->messages = atomic_load_explicit(&outlet->messages, memory_order_relaxed);
}

/* --- for its thread --------------------------------------------------------------------------- */

struct mr_handout *mr__outlet_take(struct mr_outlet *outlet)
{
    return (struct mr_handout *)(void *)mr_opq_take(&outlet->handouts);
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
                   outlet->kind);
    if (error != NULL) {
        mr_handout_set_error(handout, mr_bytes_of(error));
    }
    if (verdict == MR_VERDICT_OK) {
        atomic_fetch_add_explicit(&outlet->messages, 1, memory_order_relaxed);
    }
    handout->op.next = outlet->answers == NULL ? NULL : &outlet->answers->op;
    outlet->answers = handout;
}

void mr__outlet_flush(struct mr_outlet *outlet)
{
    if (outlet->answers != NULL) {
        outlet->host->ops->answer(outlet->host, MR_TAKE(outlet->answers));
    }
}

bool mr__outlet_is_stopping(const struct mr_outlet *outlet)
{
    return atomic_load_explicit(&outlet->stopping, memory_order_acquire);
}

bool mr__outlet_is_late(const struct mr_outlet *outlet, uint64_t now_ns)
{
    return mr__outlet_is_stopping(outlet) &&
           now_ns >= atomic_load_explicit(&outlet->deadline_ns, memory_order_relaxed);
}

void mr__outlet_tell(struct mr_outlet *outlet, bool connected)
{
    outlet->host->ops->capacity(outlet->host,
                                atomic_load_explicit(&outlet->index, memory_order_relaxed),
                                connected ? outlet->slots : 0);
}

void mr__outlet_set_health(struct mr_outlet *outlet, enum mr_health_state state,
                           const char *detail, const char *error)
{
    pthread_mutex_lock(&outlet->mu);
    struct mr_health *health = &outlet->health;
    health->state = state;
    if (detail != NULL) {
        mr_text_clean(health->detail, sizeof(health->detail), mr_bytes_of(detail));
    }
    if (error != NULL && error[0] != '\0') {
        mr_text_clean(health->last_error, sizeof(health->last_error), mr_bytes_of(error));
        health->last_error_wall_ns = mr_clock_now().wall_ns;
        health->errors++;
    }
    pthread_mutex_unlock(&outlet->mu);
}
