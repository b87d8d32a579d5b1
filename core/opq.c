#include "core/opq.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include "core/assert.h"

enum mr_status mr_opq_init(struct mr_opq *q, uint64_t count_max)
{
    *q = (struct mr_opq){.count_max = count_max, .fd = -1};
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) {
        return MR_E_UNAVAILABLE;
    }
    if (pthread_mutex_init(&q->mu, NULL) != 0) {
        close(fd);
        return MR_E_NOMEM;
    }
    q->fd = fd;
    return MR_OK;
}

void mr_opq_release(struct mr_opq *q)
{
    if (q == NULL || q->fd < 0) {
        return;
    }
    MR_ASSERT(q->first == NULL);
    close(q->fd);
    q->fd = -1;
    (void)pthread_mutex_destroy(&q->mu); /* nobody holds it */
}

/* Last use of the queue by a producer is the write: its consumer may release it then. */
static void signal_fd(struct mr_opq *q)
{
    atomic_fetch_add_explicit(&q->signals, 1, memory_order_relaxed); /* drain_fd() compares only */
    uint64_t one = 1;
    ssize_t n = write(q->fd, &one, sizeof(one));
    (void)n; /* EAGAIN: the counter is full, so the fd is readable already */
}

/* Reads the fd only when a signal was announced that has not been read; a busy consumer would pay
 * a system call a turn for nothing otherwise. The eventfd counts, so none is left behind. */
static void drain_fd(struct mr_opq *q)
{
    uint64_t count;
    if (atomic_load_explicit(&q->signals, memory_order_relaxed) != q->drained &&
        read(q->fd, &count, sizeof(count)) == (ssize_t)sizeof(count)) {
        q->drained += count;
    }
}

enum mr_status mr_opq_push(struct mr_opq *q, struct mr_op *first)
{
    MR_ASSERT(first != NULL);
    uint64_t count = 1;
    struct mr_op *last = first;
    while (last->next != NULL) {
        last = last->next;
        count++;
    }
    bool wake = false;
    enum mr_status r = MR_OK;
    pthread_mutex_lock(&q->mu);
    if (q->closed) {
        r = MR_E_CLOSED;
    } else if (q->count + count > q->count_max && q->count > 0) {
        r = MR_E_FULL;
    } else {
        if (q->first == NULL) {
            q->first = first;
        } else {
            q->last->next = first;
        }
        q->last = last;
        q->count += count;
        wake = q->sleeping;
        q->sleeping = false;
    }
    pthread_mutex_unlock(&q->mu);
    if (wake) {
        signal_fd(q);
    }
    return r;
}

struct mr_op *mr_opq_take(struct mr_opq *q)
{
    /* Drained before the take: a push that comes in between is taken, and at worst leaves a
     * signal behind that wakes the consumer once for nothing. */
    drain_fd(q);
    pthread_mutex_lock(&q->mu);
    struct mr_op *first = q->first;
    q->first = NULL;
    q->last = NULL;
    q->count = 0;
    q->sleeping = first == NULL;
    pthread_mutex_unlock(&q->mu);
    return first;
}

int mr_opq_fd(const struct mr_opq *q)
{
    return q->fd;
}

void mr_opq_close(struct mr_opq *q)
{
    pthread_mutex_lock(&q->mu);
    q->closed = true;
    pthread_mutex_unlock(&q->mu);
    signal_fd(q);
}

void mr_opq_wake(struct mr_opq *q)
{
    signal_fd(q);
}
