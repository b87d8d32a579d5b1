/* The engine as connectors see it, for their tests: takes batches and gives them back from a
 * thread of its own (durable, refused, or held until asked), and collects answers. */
#ifndef MR_TESTS_CONTRACT_FAKE_HOST_H
#define MR_TESTS_CONTRACT_FAKE_HOST_H

#include "tests/support/test.h"

#include <pthread.h>

#include "bus/ports.h"
#include "connectors/connector.h"
#include "core/alloc.h"

enum { FAKE_ANSWERS_MAX = 4096 };

struct fake_host {
    struct mr_host host; /* first: found by it */
    pthread_mutex_t mu;  /* protects all below */
    pthread_cond_t changed;
    pthread_t thread;
    bool stopping;
    bool holding;            /* batches stay here until fake_host_release() */
    enum mr_status result;   /* given to batches */
    struct mr_batch *first;  /* waiting, linked by op.next */
    struct mr_batch *last;
    uint64_t next_offset;
    uint32_t batches;        /* that came */
    uint32_t batch_count_max; /* most events in one */
    uint64_t events;
    uint32_t source;         /* of the last batch */
    struct mr_handout *answers[FAKE_ANSWERS_MAX];
    uint32_t answer_count;   /* that came, those taken out included */
    uint32_t answer_calls;
    uint32_t capacity;
};

static inline void fake_submit(struct mr_host *host, struct mr_batch *batch)
{
    struct fake_host *f = (struct fake_host *)(void *)host;
    pthread_mutex_lock(&f->mu);
    batch->op.next = NULL;
    if (f->last == NULL) {
        f->first = batch;
    } else {
        f->last->op.next = &batch->op;
    }
    f->last = batch;
    f->batches++;
    f->events += batch->count;
    f->source = batch->source;
    f->batch_count_max = batch->count > f->batch_count_max ? batch->count : f->batch_count_max;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->mu);
}

static inline void fake_answer(struct mr_host *host, struct mr_handout *first)
{
    struct fake_host *f = (struct fake_host *)(void *)host;
    pthread_mutex_lock(&f->mu);
    f->answer_calls++;
    while (first != NULL) {
        struct mr_handout *next = (struct mr_handout *)(void *)first->op.next;
        first->op.next = NULL;
        f->answers[f->answer_count++ % FAKE_ANSWERS_MAX] = first;
        first = next;
    }
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->mu);
}

static inline void fake_heartbeat(struct mr_host *host, const struct mr_handout *handout)
{
    (void)host;
    (void)handout;
}

static inline void fake_capacity(struct mr_host *host, uint32_t target, uint32_t slots)
{
    struct fake_host *f = (struct fake_host *)(void *)host;
    (void)target;
    pthread_mutex_lock(&f->mu);
    f->capacity = slots;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->mu);
}

static inline void fake_give_back(struct fake_host *f, struct mr_batch *batch)
{
    batch->result = f->result;
    batch->durable = MR_DURABLE_DISK;
    for (uint32_t i = 0; i < batch->count && batch->result == MR_OK; i++) {
        batch->items[i].offset = f->next_offset++;
    }
    if (batch->reply == NULL) {
        mr_batch_destroy(batch);
        return;
    }
    batch->op.type = MR_SOURCE_OP_BATCH_DONE;
    batch->op.next = NULL;
    if (mr_opq_push(batch->reply, &batch->op) != MR_OK) {
        mr_batch_destroy(batch);
    }
}

static inline void *fake_host_run(void *context)
{
    struct fake_host *f = context;
    pthread_mutex_lock(&f->mu);
    for (;;) {
        while (!f->stopping && (f->first == NULL || f->holding)) {
            pthread_cond_wait(&f->changed, &f->mu);
        }
        if (f->stopping && f->first == NULL) {
            break;
        }
        while (f->first != NULL) {
            struct mr_batch *batch = f->first;
            f->first = (struct mr_batch *)(void *)batch->op.next;
            f->last = f->first == NULL ? NULL : f->last;
            fake_give_back(f, batch);
        }
    }
    pthread_mutex_unlock(&f->mu);
    return NULL;
}

static inline void fake_host_start(struct fake_host *f)
{
    static const struct mr_host_ops ops = {.submit = fake_submit,
                                           .answer = fake_answer,
                                           .heartbeat = fake_heartbeat,
                                           .capacity = fake_capacity};
    *f = (struct fake_host){.host.ops = &ops};
    pthread_mutex_init(&f->mu, NULL);
    pthread_cond_init(&f->changed, NULL);
    assert_int_equal(pthread_create(&f->thread, NULL, fake_host_run, f), 0);
}

static inline void fake_host_hold(struct fake_host *f, bool holding)
{
    pthread_mutex_lock(&f->mu);
    f->holding = holding;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->mu);
}

static inline void fake_host_set_result(struct fake_host *f, enum mr_status result)
{
    pthread_mutex_lock(&f->mu);
    f->result = result;
    pthread_mutex_unlock(&f->mu);
}

static inline void fake_host_wait_batches(struct fake_host *f, uint32_t count)
{
    pthread_mutex_lock(&f->mu);
    while (f->batches < count) {
        pthread_cond_wait(&f->changed, &f->mu);
    }
    pthread_mutex_unlock(&f->mu);
}

static inline void fake_host_wait_events(struct fake_host *f, uint64_t count)
{
    pthread_mutex_lock(&f->mu);
    while (f->events < count) {
        pthread_cond_wait(&f->changed, &f->mu);
    }
    pthread_mutex_unlock(&f->mu);
}

/* Waits until @p count answers came in all and returns the one numbered @p index, still the
 * host's. */
static inline struct mr_handout *fake_host_answer(struct fake_host *f, uint32_t count,
                                                  uint32_t index)
{
    pthread_mutex_lock(&f->mu);
    while (f->answer_count < count) {
        pthread_cond_wait(&f->changed, &f->mu);
    }
    struct mr_handout *handout = f->answers[index % FAKE_ANSWERS_MAX];
    pthread_mutex_unlock(&f->mu);
    return handout;
}

static inline void fake_host_stop(struct fake_host *f)
{
    pthread_mutex_lock(&f->mu);
    f->stopping = true;
    f->holding = false;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->mu);
    pthread_join(f->thread, NULL);
    for (uint32_t i = 0; i < FAKE_ANSWERS_MAX; i++) {
        mr_handout_destroy(f->answers[i]);
    }
    pthread_cond_destroy(&f->changed);
    pthread_mutex_destroy(&f->mu);
}

#endif
