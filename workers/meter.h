/* What workers did for whom, since the start: one row for each pair of subscription and worker.
 * Counts what reached a handler, however it ended; a refusal costs nothing. Thread-safe. */
#ifndef MR_WORKERS_METER_H
#define MR_WORKERS_METER_H

#include <pthread.h>

#include "bus/ports.h"

#define MR_METER_UNIT_NS (100ull * 1000 * 1000)

struct mr_usage {
    uint32_t subscription; /* ids of the bus */
    uint32_t target;
    char *subscription_name; /* owned; as it was called first */
    char *worker_name;       /* owned */
    uint64_t invocations;
    uint64_t busy_ns;    /* with the handler, exact */
    uint64_t busy_units; /* of 100 ms, each invocation rounded up, at least one */
    uint64_t bytes_in;   /* the events' records */
    uint64_t bytes_out;  /* result data, and records of emitted events */
};

struct mr_meter {
    pthread_mutex_t mu; /* protects all below */
    struct mr_usage *rows; /* owned; sorted by (target, subscription) */
    uint32_t count;
    uint32_t capacity;
};

void mr_meter_init(struct mr_meter *meter);
void mr_meter_release(struct mr_meter *meter);

/** Counts the answered chain @p first, which @p worker (its name) answered as target @p target.
 * A new pair that finds no memory is not counted this time. @thread any */
void mr_meter_count(struct mr_meter *meter, uint32_t target, const char *worker,
                    const struct mr_handout *first);

/** Calls @p fn for each row, under the lock: it must be quick. @thread any */
void mr_meter_each(struct mr_meter *meter, void (*fn)(void *context, const struct mr_usage *usage),
                   void *context);

#endif
