#include "connectors/lifecycle.h"

#include "connectors/options.h"
#include "core/alloc.h"
#include "core/assert.h"
#include "core/clock.h"
#include "core/logger.h"

/* --- for intake.c and outlet.c ---------------------------------------------------------------- */

enum mr_status mr__lifecycle_alloc(const struct mr_lifecycle_shape *shape, const char *role,
                                   const void *options, void **ret_instance,
                                   struct mr_problem *problem)
{
    MR_ASSERT(shape->kind->check != NULL);
    enum mr_status r = shape->kind->check(options, problem);
    if (r != MR_OK) {
        return r;
    }
    uint8_t *instance = mr_calloc(1, shape->size);
    if (instance == NULL) {
        return mr_problem_set(problem, MR_E_NOMEM, "no memory for the %s", role);
    }
    r = mr__options_copy(shape->kind->options, shape->kind->options_size, options,
                         instance + shape->options_at);
    if (r != MR_OK) {
        mr_free(instance);
        return mr_problem_set(problem, r, "no memory for the %s", role);
    }
    *ret_instance = instance;
    return MR_OK;
}

enum mr_status mr__lifecycle_init(struct mr_lifecycle *life, const char *name, const char *folder,
                                  struct mr_problem *problem)
{
    enum mr_status r = mr_opq_init(&life->queue, UINT64_MAX);
    if (r != MR_OK) {
        return mr_problem_set(problem, r, "no queue for the %s", life->role);
    }
    life->name = mr_strdup(name);
    life->folder = mr_strdup(folder);
    if (life->name == NULL || (life->folder == NULL && folder != NULL)) {
        mr_free(life->name);
        mr_free(life->folder);
        mr_opq_release(&life->queue);
        return mr_problem_set(problem, MR_E_NOMEM, "no memory for the %s", life->role);
    }
    (void)pthread_mutex_init(&life->mu, NULL);
    return MR_OK;
}

void mr__lifecycle_release(struct mr_lifecycle *life)
{
    mr_opq_release(&life->queue);
    pthread_mutex_destroy(&life->mu);
    mr_free(life->folder);
    mr_free(life->name);
}

enum mr_status mr__lifecycle_start(struct mr_lifecycle *life, struct mr_problem *problem)
{
    MR_ASSERT(!life->started);
    MR_ASSERT(life->run != NULL);
    mr__lifecycle_set_health(life, MR_HEALTH_STARTING, NULL, NULL);
    /* The thread gets the instance: what begins with us. */
    if (pthread_create(&life->thread, NULL, life->run, life) != 0) {
        return mr_problem_set(problem, MR_E_UNAVAILABLE, "no thread for %s %s", life->role,
                              life->name);
    }
    life->started = true;
    return MR_OK;
}

void mr__lifecycle_tell_stop(struct mr_lifecycle *life, uint64_t deadline_mono_ns)
{
    /* release pairs with the acquire load of mr__lifecycle_is_stopping(). */
    atomic_store_explicit(&life->deadline_ns, deadline_mono_ns, memory_order_relaxed);
    atomic_store_explicit(&life->stopping, true, memory_order_release);
}

void mr__lifecycle_join(struct mr_lifecycle *life)
{
    MR_ASSERT(life->started);
    (void)pthread_join(life->thread, NULL);
    life->started = false;
}

void mr__lifecycle_health(struct mr_lifecycle *life, struct mr_health *ret_health)
{
    pthread_mutex_lock(&life->mu);
    *ret_health = life->health;
    pthread_mutex_unlock(&life->mu);
    ret_health->messages = atomic_load_explicit(&life->messages, memory_order_relaxed);
    ret_health->bytes_held = atomic_load_explicit(&life->bytes_held, memory_order_relaxed);
}

/* --- for a source or sink --------------------------------------------------------------------- */

void mr__lifecycle_free(const struct mr_lifecycle_shape *shape, void *instance)
{
    mr_options_release(shape->kind->options, (uint8_t *)instance + shape->options_at);
    mr_free(instance);
}

bool mr__lifecycle_is_stopping(const struct mr_lifecycle *life)
{
    return atomic_load_explicit(&life->stopping, memory_order_acquire);
}

bool mr__lifecycle_is_late(const struct mr_lifecycle *life, uint64_t now_ns)
{
    return mr__lifecycle_is_stopping(life) &&
           now_ns >= atomic_load_explicit(&life->deadline_ns, memory_order_relaxed);
}

void mr__lifecycle_set_health(struct mr_lifecycle *life, enum mr_health_state state,
                              const char *detail, const char *error)
{
    pthread_mutex_lock(&life->mu);
    struct mr_health *health = &life->health;
    health->state = state;
    if (detail != NULL) {
        mr_text_clean(health->detail, sizeof(health->detail), mr_bytes_of(detail));
    }
    if (error != NULL && error[0] != '\0') {
        mr_text_clean(health->last_error, sizeof(health->last_error), mr_bytes_of(error));
        health->last_error_wall_ns = mr_clock_now().wall_ns;
        health->errors++;
    }
    pthread_mutex_unlock(&life->mu);
}

void mr__lifecycle_set_lag(struct mr_lifecycle *life, uint64_t lag)
{
    pthread_mutex_lock(&life->mu);
    life->health.lag = lag;
    pthread_mutex_unlock(&life->mu);
}

void mr__lifecycle_set_done(struct mr_lifecycle *life, bool done)
{
    pthread_mutex_lock(&life->mu);
    life->health.done = done;
    pthread_mutex_unlock(&life->mu);
}

void mr__lifecycle_count_reconnect(struct mr_lifecycle *life)
{
    pthread_mutex_lock(&life->mu);
    life->health.reconnects++;
    pthread_mutex_unlock(&life->mu);
}
