#include <sys/epoll.h>

#include "core/alloc.h"
#include "workers/process/internal.h"

static void handle_event(struct mr_target *t, void *of, uint32_t events)
{
    (void)t;
    const struct mr__watch *watch = of;
    struct mr__instance *i = watch->instance;
    if (i->child.pid == 0) {
        return; /* it ended earlier in this pass */
    }
    switch (watch->kind) {
    case MR__WATCH_SOCKET:
        if ((events & EPOLLOUT) != 0) {
            i->out_blocked = false; /* flushed at the end of the pass */
        }
        if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
            mr__receive_socket(i);
        }
        break;
    case MR__WATCH_STDOUT:
        mr__receive_output(i, false);
        break;
    case MR__WATCH_STDERR:
        mr__receive_output(i, true);
        break;
    case MR__WATCH_END:
        mr__instance_ended(i);
        break;
    }
}

static void work(struct mr_target *t)
{
    mr__pool_update(t);
    mr__dispatch_pending(t);
    for (uint32_t i = 0; i < t->count; i++) {
        mr__instance_flush(t->instances[i]);
    }
}

static uint32_t measure(struct mr_target *t, struct mr_health *health)
{
    uint64_t held_size = 0;
    health->instances_ready = 0;
    health->instances_busy = 0;
    health->instances_starting = 0;
    for (uint32_t i = 0; i < t->count; i++) {
        const struct mr__instance *instance = t->instances[i];
        health->instances_starting += instance->state == MR__STARTING;
        health->instances_ready += instance->state == MR__READY;
        health->instances_busy += instance->held > 0;
        held_size += sizeof(*instance) + instance->in.capacity + instance->out.capacity;
    }
    health->bytes_held = held_size;
    health->burst = t->base.now.mono_ns < t->burst_until_ns;
    return t->count;
}

static void free_ended(struct mr_target *t)
{
    struct mr__instance *i = t->ended;
    t->ended = NULL;
    while (i != NULL) {
        struct mr__instance *next = i->next_ended;
        mr__instance_free(i);
        i = next;
    }
}

const struct mr_station_ops mr__process_station = {
    .event = handle_event,
    .cancel = mr__dispatch_cancel,
    .cancel_late = mr__dispatch_cancel_late,
    .stopping = mr__pool_stop,
    .work = work,
    .capacity = mr__pool_capacity,
    .measure = measure,
    .list = mr__instance_list,
    .free_ended = free_ended,
};
