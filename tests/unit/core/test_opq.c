#include "tests/support/test.h"

#include <poll.h>
#include <sched.h>

#include "core/alloc.h"
#include "core/opq.h"

struct item {
    struct mr_op op; /* first: items are taken as ops */
    unsigned producer;
    unsigned number;
};

static bool readable(const struct mr_opq *q)
{
    struct pollfd p = {.fd = mr_opq_fd(q), .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

static void chain(struct item *items, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        items[i] = (struct item){.number = i};
        items[i].op.next = i + 1 < count ? &items[i + 1].op : NULL;
    }
}

static void test_opq_push_then_take_keeps_order(void **state)
{
    (void)state;
    struct mr_opq q;
    struct item items[6];
    assert_int_equal(mr_opq_init(&q, 100), MR_OK);
    assert_null(mr_opq_take(&q));
    chain(items, 3);
    chain(items + 3, 3);
    assert_int_equal(mr_opq_push(&q, &items[0].op), MR_OK);
    assert_int_equal(mr_opq_push(&q, &items[3].op), MR_OK);
    struct mr_op *op = mr_opq_take(&q);
    for (unsigned i = 0; i < 6; i++) {
        assert_ptr_equal(op, &items[i].op);
        op = op->next;
    }
    assert_null(op);
    assert_null(mr_opq_take(&q));
    mr_opq_release(&q);
}

static void test_opq_push_wakes_only_a_sleeper(void **state)
{
    (void)state;
    struct mr_opq q;
    struct item items[3];
    assert_int_equal(mr_opq_init(&q, 100), MR_OK);
    for (unsigned i = 0; i < 3; i++) {
        chain(&items[i], 1);
    }
    assert_int_equal(mr_opq_push(&q, &items[0].op), MR_OK);
    assert_false(readable(&q)); /* nobody said that it sleeps */
    assert_non_null(mr_opq_take(&q));
    assert_null(mr_opq_take(&q)); /* sleeps now */
    assert_false(readable(&q));
    assert_int_equal(mr_opq_push(&q, &items[1].op), MR_OK);
    assert_true(readable(&q));
    assert_int_equal(mr_opq_push(&q, &items[2].op), MR_OK);
    assert_non_null(mr_opq_take(&q));
    assert_false(readable(&q));
    mr_opq_release(&q);
}

static void test_opq_full_refuses_the_whole_chain(void **state)
{
    (void)state;
    struct mr_opq q;
    struct item items[9];
    assert_int_equal(mr_opq_init(&q, 4), MR_OK);
    chain(items, 3);
    chain(items + 3, 2);
    chain(items + 5, 1);
    chain(items + 6, 1);
    assert_int_equal(mr_opq_push(&q, &items[0].op), MR_OK);
    assert_int_equal(mr_opq_push(&q, &items[3].op), MR_E_FULL);
    assert_ptr_equal(items[3].op.next, &items[4].op); /* still ours, and whole */
    assert_int_equal(mr_opq_push(&q, &items[5].op), MR_OK);
    assert_int_equal(mr_opq_push(&q, &items[6].op), MR_E_FULL);
    unsigned count = 0;
    for (struct mr_op *op = mr_opq_take(&q); op != NULL; op = op->next) {
        count++;
    }
    assert_int_equal(count, 4);
    assert_int_equal(mr_opq_push(&q, &items[6].op), MR_OK);
    assert_non_null(mr_opq_take(&q));
    mr_opq_release(&q);
}

static void test_opq_overlong_chain_enters_an_empty_queue_only(void **state)
{
    (void)state;
    struct mr_opq q;
    struct item items[7];
    assert_int_equal(mr_opq_init(&q, 2), MR_OK);
    chain(items, 1);
    chain(items + 1, 6);
    assert_int_equal(mr_opq_push(&q, &items[0].op), MR_OK);
    assert_int_equal(mr_opq_push(&q, &items[1].op), MR_E_FULL);
    assert_ptr_equal(mr_opq_take(&q), &items[0].op);
    assert_int_equal(mr_opq_push(&q, &items[1].op), MR_OK);
    assert_ptr_equal(mr_opq_take(&q), &items[1].op);
    mr_opq_release(&q);
}

static void test_opq_close_refuses_pushes_and_keeps_what_is_queued(void **state)
{
    (void)state;
    struct mr_opq q;
    struct item items[2];
    assert_int_equal(mr_opq_init(&q, 10), MR_OK);
    chain(&items[0], 1);
    chain(&items[1], 1);
    assert_int_equal(mr_opq_push(&q, &items[0].op), MR_OK);
    mr_opq_close(&q);
    assert_true(readable(&q));
    assert_int_equal(mr_opq_push(&q, &items[1].op), MR_E_CLOSED);
    assert_ptr_equal(mr_opq_take(&q), &items[0].op);
    assert_null(mr_opq_take(&q));
    assert_int_equal(mr_opq_push(&q, &items[1].op), MR_E_CLOSED);
    mr_opq_release(&q);
}

static void test_opq_wake_makes_the_fd_readable_once(void **state)
{
    (void)state;
    struct mr_opq q;
    assert_int_equal(mr_opq_init(&q, 10), MR_OK);
    mr_opq_wake(&q);
    mr_opq_wake(&q);
    assert_true(readable(&q));
    assert_null(mr_opq_take(&q));
    assert_false(readable(&q));
    mr_opq_release(&q);
    mr_opq_release(&q);
    mr_opq_release(NULL);
}

/* --- many producers ------------------------------------------------------------------------ */

enum { PRODUCERS = 4, PER_PRODUCER = 5000, LIMIT = 64 };

struct producer {
    struct mr_opq *q;
    unsigned number;
    unsigned refused;
    bool failed;
};

/* Pushes PER_PRODUCER items in chains of 1 to 3; a full queue is tried again, as a source does. */
static void *produce(void *context)
{
    struct producer *p = context;
    unsigned n = 0;
    while (n < PER_PRODUCER) {
        struct mr_op *first = NULL;
        struct mr_op **link = &first;
        for (unsigned k = 0; k <= n % 3 && n + k < PER_PRODUCER; k++) {
            struct item *item = mr_calloc(1, sizeof(*item));
            if (item == NULL) {
                p->failed = true;
                return NULL;
            }
            item->producer = p->number;
            item->number = n + k;
            *link = &item->op;
            link = &item->op.next;
        }
        n = ((struct item *)(void *)link)->number + 1; /* next is the first member of the last op */
        enum mr_status r = mr_opq_push(p->q, first);
        while (r == MR_E_FULL) {
            p->refused++;
            sched_yield();
            r = mr_opq_push(p->q, first);
        }
        p->failed = p->failed || r != MR_OK;
    }
    return NULL;
}

static void test_opq_many_producers_lose_nothing_and_keep_their_order(void **state)
{
    (void)state;
    struct mr_opq q;
    struct producer producers[PRODUCERS];
    pthread_t threads[PRODUCERS];
    unsigned next[PRODUCERS] = {0};
    assert_int_equal(mr_opq_init(&q, LIMIT), MR_OK);
    int64_t live = mr_alloc_live();
    for (unsigned i = 0; i < PRODUCERS; i++) {
        producers[i] = (struct producer){.q = &q, .number = i};
        assert_int_equal(pthread_create(&threads[i], NULL, produce, &producers[i]), 0);
    }
    unsigned taken = 0;
    while (taken < PRODUCERS * PER_PRODUCER) {
        struct mr_op *op = mr_opq_take(&q);
        if (op == NULL) { /* a lost wake-up shows as this time-out */
            struct pollfd p = {.fd = mr_opq_fd(&q), .events = POLLIN};
            assert_int_equal(poll(&p, 1, 60000), 1);
        }
        while (op != NULL) {
            struct item *item = (struct item *)(void *)op;
            op = op->next;
            assert_int_equal(item->number, next[item->producer]);
            next[item->producer]++;
            taken++;
            mr_free(item);
        }
    }
    for (unsigned i = 0; i < PRODUCERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_false(producers[i].failed);
        assert_int_equal(next[i], PER_PRODUCER);
    }
    assert_null(mr_opq_take(&q));
    assert_int_equal(mr_alloc_live(), live);
    mr_opq_release(&q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_opq_push_then_take_keeps_order),
        cmocka_unit_test(test_opq_push_wakes_only_a_sleeper),
        cmocka_unit_test(test_opq_full_refuses_the_whole_chain),
        cmocka_unit_test(test_opq_overlong_chain_enters_an_empty_queue_only),
        cmocka_unit_test(test_opq_close_refuses_pushes_and_keeps_what_is_queued),
        cmocka_unit_test(test_opq_wake_makes_the_fd_readable_once),
        cmocka_unit_test(test_opq_many_producers_lose_nothing_and_keep_their_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
