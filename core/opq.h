/* Queue of operations between threads: the only way work crosses threads.
 *
 * Intrusive, many producers, one consumer. An operation is owned by the queue from push to take,
 * and by whoever took it afterwards. Work crosses in groups: a push takes a whole chain, a take
 * returns everything there is, and the consumer is woken (an eventfd write, 36 us to the other
 * core) only when it said that it sleeps.
 *
 *     consumer:  for (;;) { chain = mr_opq_take(q); if (chain == NULL) poll(mr_opq_fd(q)); … }
 */
#ifndef MR_CORE_OPQ_H
#define MR_CORE_OPQ_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"

struct mr_op {
    struct mr_op *next;
    uint32_t type; /* meaning given by the module that owns the queue */
};

struct mr_opq {
    pthread_mutex_t mu; /* protects all below but fd */
    struct mr_op *first;
    struct mr_op *last;
    uint64_t count;
    uint64_t count_max; /* a push that would exceed it is refused whole, unless the queue is
                           empty: a chain longer than this could never get in otherwise */
    bool sleeping;      /* the consumer found nothing and waits on fd */
    bool closed;
    int fd; /* eventfd, owned */
    _Atomic uint64_t signals; /* announced, each before its write to fd */
    uint64_t drained;         /* the consumer's: read from fd */
};

/** @return MR_E_UNAVAILABLE when the kernel gives no eventfd */
MR_MUST_USE enum mr_status mr_opq_init(struct mr_opq *q, uint64_t count_max);
/** The queue must be empty and no other thread may use it any more. */
void mr_opq_release(struct mr_opq *q);

/** Appends the chain @p first..NULL, in order.
 * @return MR_E_FULL or MR_E_CLOSED: nothing was queued, the caller still owns the chain
 * @thread any  @lock none  @blocks never beyond the mutex */
MR_MUST_USE enum mr_status mr_opq_push(struct mr_opq *q, struct mr_op *first);

/** Everything queued, oldest first, or NULL. When NULL, the next push makes mr_opq_fd() readable.
 * @thread consumer */
struct mr_op *mr_opq_take(struct mr_opq *q);

/** Readable after a push that found the consumer asleep; mr_opq_take() clears it.
 * @thread consumer */
int mr_opq_fd(const struct mr_opq *q);

/** Later pushes get MR_E_CLOSED; what is queued stays to be taken. Wakes the consumer. */
void mr_opq_close(struct mr_opq *q);

/** Wakes the consumer without an operation. @thread any */
void mr_opq_wake(struct mr_opq *q);

#endif
