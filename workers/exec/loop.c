#include <inttypes.h>

#include "workers/exec/internal.h"

static void handle_event(struct mr_target *t, void *watch, uint32_t events)
{
    (void)t;
    (void)events; /* what it is for stands in the watch */
    const struct mr__exec_watch *w = watch;
    mr__run_event(w->run, w->kind);
}

static void cancel(struct mr_target *t, const struct mr_station_cancel *op)
{
    for (uint32_t n = 0; n < t->count; n++) {
        if (mr_station_is_meant(t->runs[n]->handout, op)) {
            mr__run_cancel(t->runs[n]);
            return;
        }
    }
}

static void cancel_late(struct mr_target *t)
{
    for (uint32_t n = 0; n < t->count; n++) {
        if (t->base.now.mono_ns >= t->runs[n]->lease_end_ns) {
            mr__run_cancel(t->runs[n]);
        }
    }
}

/* More than there are places for is never submitted, but the capacity may have shrunk since. */
static void start_pending(struct mr_target *t)
{
    while (t->base.pending != NULL && t->count < t->run_max && !t->base.stopping &&
           t->base.now.mono_ns >= t->base.start_not_before_ns) {
        mr__run_start(t, mr_station_take_pending(&t->base));
    }
    mr_station_refuse_pending(&t->base, t->base.stopping ? "the worker is stopping"
                                                         : "no process can be started now");
}

static void work(struct mr_target *t)
{
    start_pending(t);
    if (t->base.stopping && !t->overdue) {
        uint64_t deadline = atomic_load_explicit(&t->base.stop_deadline_ns, memory_order_relaxed);
        t->overdue = t->base.now.mono_ns >= deadline;
        mr_station_wake_at(&t->base, t->overdue ? t->base.now.mono_ns : deadline);
    }
    for (uint32_t n = 0; n < t->count; n++) {
        mr__run_update(t->runs[n]);
    }
}

static uint32_t capacity(struct mr_target *t)
{
    bool backing_off = t->base.now.mono_ns < t->base.start_not_before_ns;
    if (backing_off) {
        mr_station_wake_at(&t->base, t->base.start_not_before_ns);
    }
    return backing_off ? t->count : t->run_max;
}

static uint32_t measure(struct mr_target *t, struct mr_health *health)
{
    uint64_t held_size = 0;
    for (uint32_t n = 0; n < t->count; n++) {
        held_size += sizeof(struct mr__run) + t->runs[n]->in.capacity + t->runs[n]->out.capacity;
    }
    health->bytes_held = held_size;
    health->instances_busy = t->count;
    health->instances_ready = t->base.stopping ? 0 : t->run_max;
    return t->count;
}

static enum mr_status list(struct mr_target *t, uint32_t n, const char *delivery,
                           struct mr_buf *json)
{
    const struct mr__run *run = t->runs[n];
    const struct mr_handout *h = run->handout;
    if (delivery != NULL && strcmp(delivery, h->delivery) != 0) {
        return MR_E_NOT_FOUND;
    }
    uint64_t age_ms = (t->base.now.mono_ns - run->born_ns) / MR_MS;
    enum mr_status r =
        mr_buf_printf(json, "{\"instance\":\"%s\",\"pid\":%d,\"state\":\"%s\","
                      "\"version\":\"%" PRIu64 "\",\"age_seconds\":%" PRIu64 ".%03" PRIu64
                      ",\"handed\":1,\"deliveries\":[{\"delivery\":",
                      run->who, (int)run->child.pid, run->cancelled ? "cancelling" : "busy",
                      t->base.generation, age_ms / 1000, age_ms % 1000);
    if (r == MR_OK) {
        r = mr_buf_append_json(json, mr_bytes_of(h->delivery));
    }
    if (r == MR_OK) {
        r = mr_buf_printf(json, ",\"attempt\":%" PRIu32 ",\"running_seconds\":%" PRIu64
                          ".%03" PRIu64 ",\"cancelled\":%s,\"progress\":null}]}", h->attempt,
                          age_ms / 1000, age_ms % 1000, run->cancelled ? "true" : "false");
    }
    return r;
}

static void free_ended(struct mr_target *t)
{
    while (t->ended != NULL) {
        struct mr__run *run = t->ended;
        t->ended = run->next_ended;
        mr__run_destroy(run);
    }
}

const struct mr_station_ops mr__exec_station = {
    .event = handle_event,
    .cancel = cancel,
    .cancel_late = cancel_late,
    .work = work,
    .capacity = capacity,
    .measure = measure,
    .list = list,
    .free_ended = free_ended,
};
