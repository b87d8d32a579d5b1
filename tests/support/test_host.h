/* A host for tests of sources and sinks: takes batches and answers as the bus would, when and how
 * the test says, and keeps every event. Thread-safe; every wait has a deadline. */
#ifndef MR_TESTS_SUPPORT_TEST_HOST_H
#define MR_TESTS_SUPPORT_TEST_HOST_H

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "connectors/connector.h"
#include "tests/support/test.h"

#define TEST_HOST_DEADLINE_S 60

struct test_host {
    struct mr_host host; /* first: it is cast back */
    pthread_mutex_t mu;  /* protects all below */
    pthread_cond_t changed;
    bool hold;           /* batches wait until they are released */
    uint32_t fail_count; /* so many batches come back with fail_status */
    enum mr_status fail_status;
    struct mr_batch **held;
    uint32_t held_count;
    uint32_t submits;         /* batches seen, refused ones included */
    uint32_t batch_count_max; /* most events in one */
    uint32_t source;          /* of the last batch */
    struct mr_event **events; /* durable, in order; one reference each */
    char **rejected;          /* beside events: NULL, or the reason */
    uint32_t event_count;
    char *cursor;             /* of the last durable batch that had one */
    struct mr_handout **answers;
    uint32_t answer_count;
    uint32_t capacity;
    uint32_t capacity_calls;
    uint32_t heartbeats;
};

static inline void test_host_take(struct test_host *h, struct mr_batch *batch)
{
    for (uint32_t i = 0; i < batch->count; i++) {
        if ((h->event_count & (h->event_count - 1)) == 0) { /* at powers of two */
            size_t room = h->event_count == 0 ? 1 : 2 * (size_t)h->event_count;
            h->events = realloc(h->events, room * sizeof(*h->events));
            h->rejected = realloc(h->rejected, room * sizeof(*h->rejected));
        }
        batch->items[i].offset = h->event_count;
        h->events[h->event_count] = mr_event_ref(batch->items[i].event);
        h->rejected[h->event_count] =
            batch->items[i].rejected == NULL ? NULL : strdup(batch->items[i].rejected);
        h->event_count++;
    }
    if (batch->cursor != NULL) {
        free(h->cursor);
        h->cursor = strdup(batch->cursor);
    }
}

static inline void test_host_return(struct test_host *h, struct mr_batch *batch,
                                    enum mr_status result)
{
    if (result == MR_OK) {
        test_host_take(h, batch);
    }
    batch->result = result;
    batch->durable = MR_DURABLE_DISK;
    batch->op = (struct mr_op){.type = MR_SOURCE_OP_BATCH_DONE};
    if (batch->reply == NULL || mr_opq_push(batch->reply, &batch->op) != MR_OK) {
        mr_batch_destroy(batch);
    }
}

static inline void test_host_submit(struct mr_host *host, struct mr_batch *batch)
{
    struct test_host *h = (struct test_host *)(void *)host;
    pthread_mutex_lock(&h->mu);
    h->submits++;
    h->batch_count_max = batch->count > h->batch_count_max ? batch->count : h->batch_count_max;
    h->source = batch->source;
    if (h->fail_count > 0) {
        h->fail_count--;
        test_host_return(h, batch, h->fail_status);
    } else if (h->hold) {
        h->held = realloc(h->held, (h->held_count + 1) * sizeof(struct mr_batch *));
        h->held[h->held_count++] = batch;
    } else {
        test_host_return(h, batch, MR_OK);
    }
    pthread_cond_broadcast(&h->changed);
    pthread_mutex_unlock(&h->mu);
}

static inline void test_host_answer(struct mr_host *host, struct mr_handout *first)
{
    struct test_host *h = (struct test_host *)(void *)host;
    pthread_mutex_lock(&h->mu);
    for (struct mr_op *op = &first->op; op != NULL; op = op->next) {
        h->answers = realloc(h->answers, (h->answer_count + 1) * sizeof(struct mr_handout *));
        h->answers[h->answer_count++] = (struct mr_handout *)(void *)op;
    }
    pthread_cond_broadcast(&h->changed);
    pthread_mutex_unlock(&h->mu);
}

static inline void test_host_heartbeat(struct mr_host *host, const struct mr_handout *handout)
{
    struct test_host *h = (struct test_host *)(void *)host;
    (void)handout;
    pthread_mutex_lock(&h->mu);
    h->heartbeats++;
    pthread_mutex_unlock(&h->mu);
}

static inline void test_host_capacity(struct mr_host *host, uint32_t target, uint32_t slots)
{
    struct test_host *h = (struct test_host *)(void *)host;
    (void)target;
    pthread_mutex_lock(&h->mu);
    h->capacity = slots;
    h->capacity_calls++;
    pthread_cond_broadcast(&h->changed);
    pthread_mutex_unlock(&h->mu);
}

static inline void test_host_init(struct test_host *h)
{
    static const struct mr_host_ops host_ops = {
        .submit = test_host_submit,
        .answer = test_host_answer,
        .heartbeat = test_host_heartbeat,
        .capacity = test_host_capacity,
    };
    *h = (struct test_host){.host = {.ops = &host_ops}};
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&h->mu, NULL);
    pthread_cond_init(&h->changed, &attr);
    pthread_condattr_destroy(&attr);
}

static inline void test_host_free(struct test_host *h)
{
    for (uint32_t i = 0; i < h->event_count; i++) {
        mr_event_unref(h->events[i]);
        free(h->rejected[i]);
    }
    for (uint32_t i = 0; i < h->answer_count; i++) {
        mr_handout_destroy(h->answers[i]);
    }
    free(h->events);
    free(h->rejected);
    free(h->answers);
    free(h->held);
    free(h->cursor);
    pthread_cond_destroy(&h->changed);
    pthread_mutex_destroy(&h->mu);
}

/* Answers all held batches with @p result; later ones are held still. */
static inline void test_host_release_held(struct test_host *h, enum mr_status result)
{
    pthread_mutex_lock(&h->mu);
    uint32_t count = h->held_count;
    h->held_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        test_host_return(h, h->held[i], result);
    }
    pthread_cond_broadcast(&h->changed);
    pthread_mutex_unlock(&h->mu);
}

static inline void test_host_set_hold(struct test_host *h, bool hold)
{
    pthread_mutex_lock(&h->mu);
    h->hold = hold;
    pthread_mutex_unlock(&h->mu);
}

/* From now on no batch is answered. */
static inline void test_host_hold(struct test_host *h)
{
    test_host_set_hold(h, true);
}

/* Those held are durable, and those to come at once. */
static inline void test_host_let_go(struct test_host *h)
{
    test_host_set_hold(h, false);
    test_host_release_held(h, MR_OK);
}

/* The next @p count batches come back at once with @p status, held or not. */
static inline void test_host_refuse(struct test_host *h, uint32_t count, enum mr_status status)
{
    pthread_mutex_lock(&h->mu);
    h->fail_count = count;
    h->fail_status = status;
    pthread_mutex_unlock(&h->mu);
}

static inline uint32_t test_host_held_events(const struct test_host *h)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < h->held_count; i++) {
        count += h->held[i]->count;
    }
    return count;
}

enum test_host_what {
    HOST_EVENTS,
    HOST_HELD_EVENTS,
    HOST_SUBMITS,
    HOST_ANSWERS,
    HOST_CAPACITY, /* exactly so much */
};

static inline bool test_host_has(const struct test_host *h, enum test_host_what what,
                                 uint32_t count)
{
    switch (what) {
    case HOST_EVENTS:
        return h->event_count >= count;
    case HOST_HELD_EVENTS:
        return test_host_held_events(h) >= count;
    case HOST_SUBMITS:
        return h->submits >= count;
    case HOST_ANSWERS:
        return h->answer_count >= count;
    case HOST_CAPACITY:
        return h->capacity_calls > 0 && h->capacity == count;
    }
    return false;
}

/* Waits until there are at least @p count; false after @p seconds. */
static inline bool test_host_wait_for(struct test_host *h, enum test_host_what what,
                                      uint32_t count, double seconds)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    long ns = until.tv_nsec + (long)((seconds - (double)(long)seconds) * 1e9);
    until.tv_sec += (long)seconds + ns / 1000000000;
    until.tv_nsec = ns % 1000000000;
    pthread_mutex_lock(&h->mu);
    bool there = test_host_has(h, what, count);
    for (int r = 0; !there && r == 0; there = test_host_has(h, what, count)) {
        r = pthread_cond_timedwait(&h->changed, &h->mu, &until);
    }
    pthread_mutex_unlock(&h->mu);
    return there;
}

static inline bool test_host_wait(struct test_host *h, enum test_host_what what, uint32_t count)
{
    return test_host_wait_for(h, what, count, TEST_HOST_DEADLINE_S);
}

/* Waits until @p number answers came and returns the last of them, still the host's. */
static inline struct mr_handout *test_host_answered(struct test_host *h, uint32_t number)
{
    if (!test_host_wait(h, HOST_ANSWERS, number)) {
        fail_msg("answer %u never came", number);
    }
    pthread_mutex_lock(&h->mu);
    struct mr_handout *handout = h->answers[number - 1];
    pthread_mutex_unlock(&h->mu);
    return handout;
}

/* The value of an attribute (or "data") of event @p index as text; valid until the next call. */
static inline const char *test_host_value(struct test_host *h, uint32_t index, const char *name)
{
    static __thread char text[512];
    pthread_mutex_lock(&h->mu);
    struct mr_bytes v = {0};
    if (index < h->event_count) {
        struct mr_bytes record = mr_event_record(h->events[index]);
        v = strcmp(name, "data") == 0 ? mr_event_data(record) : mr_event_value(record, name);
    }
    size_t size = v.size < sizeof(text) - 1 ? v.size : sizeof(text) - 1;
    memcpy(text, v.size == 0 ? (const uint8_t *)"" : v.data, size);
    text[size] = '\0';
    pthread_mutex_unlock(&h->mu);
    return text;
}

#endif
