/* What an instance with a thread of its own has, be it a source (intake.h) or a sink (outlet.h): a
 * name, a queue from the bus, a thread that can be told to end, and the health it shows.
 *
 * A struct mr_intake and a struct mr_outlet begin with a struct mr_lifecycle, and a struct
 * mr_source or mr_target of this folder begins with its intake or outlet: so their calls of the
 * contract take the opaque instance itself and stand in the tables of operations as they are. */
#ifndef MR_CONNECTORS_LIFECYCLE_H
#define MR_CONNECTORS_LIFECYCLE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

#include "connectors/connector.h"

struct mr_lifecycle {
    const char *kind;     /* static: "mqtt"; the journal's word and the answers' instance */
    const char *role;     /* static: "source" or "sink" */
    struct mr_host *host; /* borrowed: outlives us */
    char *name;           /* owned */
    char *folder;         /* owned; NULL when there is none */
    _Atomic uint32_t index;
    void *(*run)(void *instance); /* the thread */
    pthread_t thread;
    bool started;
    atomic_bool stopping;
    _Atomic uint64_t deadline_ns; /* of stop */
    struct mr_opq queue; /* a source's batches come back, SLOW and GO; a sink's hand-outs */

    pthread_mutex_t mu; /* protects health, which the thread alone writes */
    struct mr_health health;
    _Atomic uint64_t messages; /* taken from the peer; answered with ok */
    _Atomic uint64_t bytes_held;
};

/* How an instance is made of its options. One static const in each source and sink. */
struct mr_lifecycle_shape {
    const struct mr_config_kind *kind;
    size_t size;       /* of struct mr_source or mr_target */
    size_t options_at; /* where in it is its own copy of the options */
    void *(*run)(void *instance);
};
#define MR_LIFECYCLE_SHAPE(type, its_kind, thread)                                                 \
    {.kind = &(its_kind),                                                                          \
     .size = sizeof(type),                                                                         \
     .options_at = offsetof(type, options),                                                        \
     .run = (thread)}

/* --- for intake.c and outlet.c ---------------------------------------------------------------- */

/** Checks @p options and makes an instance of zeros with its own copy of them.
 * @param[out] ret_instance the caller's, mr__lifecycle_free()
 * @return MR_E_INVALID, MR_E_NOMEM */
MR_MUST_USE enum mr_status mr__lifecycle_alloc(const struct mr_lifecycle_shape *shape,
                                               const char *role, const void *options,
                                               void **ret_instance, struct mr_problem *problem);
/** Makes @p life, whose kind, role, host and index are set and the rest is zero.
 * @return MR_E_NOMEM, MR_E_UNAVAILABLE: nothing to release */
MR_MUST_USE enum mr_status mr__lifecycle_init(struct mr_lifecycle *life, const char *name,
                                              const char *folder, struct mr_problem *problem);
void mr__lifecycle_release(struct mr_lifecycle *life);
MR_MUST_USE enum mr_status mr__lifecycle_start(struct mr_lifecycle *life,
                                               struct mr_problem *problem);
/** Says it to the thread; waking it is the caller's. */
void mr__lifecycle_tell_stop(struct mr_lifecycle *life, uint64_t deadline_mono_ns);
void mr__lifecycle_join(struct mr_lifecycle *life);
void mr__lifecycle_health(struct mr_lifecycle *life, struct mr_health *ret_health);

/* --- for a source or sink --------------------------------------------------------------------- */

/** Frees the options' copy and the instance, when all else of it is released. */
void mr__lifecycle_free(const struct mr_lifecycle_shape *shape, void *instance);
bool mr__lifecycle_is_stopping(const struct mr_lifecycle *life);
/** Whether it is stopping and the deadline is over. */
bool mr__lifecycle_is_late(const struct mr_lifecycle *life, uint64_t now_ns);

/** @param detail shown by `source list`, NULL: as before; @param error NULL: none is new. Both are
 * cleaned and cut. */
void mr__lifecycle_set_health(struct mr_lifecycle *life, enum mr_health_state state,
                              const char *detail, const char *error);
void mr__lifecycle_set_lag(struct mr_lifecycle *life, uint64_t lag);
void mr__lifecycle_set_done(struct mr_lifecycle *life, bool done);
void mr__lifecycle_count_reconnect(struct mr_lifecycle *life);

#endif
