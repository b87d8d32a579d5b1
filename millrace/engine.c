/* The core loop, the threads that perform the log's requests, and the life of both; what the core
 * gives out is in engine_ports.c. */
#include "millrace/engine.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/logger.h"
#include "millrace/engine_internal.h"

#define CONTROL_PERIOD_MS 500
#define KEEPER_NICENESS 10
/* A timer that stays due gets nothing done, memory being short: try again, without spinning. */
#define DUE_PASSES_MAX 16u
#define STOP_TARGETS_NS (10 * MR_SECOND)

/* --- to the core ------------------------------------------------------------------------------ */

void engine_post(struct mr_engine *engine, struct mr_op *first)
{
    enum mr_status r = mr_opq_push(&engine->inbox, first);
    MR_ASSERT(r == MR_OK); /* unbounded, and closed only after everybody has stopped */
}

enum mr_status engine_call(struct mr_engine *engine,
                           void (*fn)(void *argument, struct mr_bus *bus, struct mr_now now),
                           void *argument)
{
    struct engine_call call = {.op.type = ENGINE_CALL, .fn = fn, .argument = argument};
    if (!atomic_load(&engine->running)) {
        return MR_E_CLOSED;
    }
    (void)pthread_mutex_init(&call.mu, NULL); /* default attributes: cannot fail here */
    (void)pthread_cond_init(&call.cond, NULL);
    enum mr_status r = mr_opq_push(&engine->inbox, &call.op);
    if (r == MR_OK) {
        pthread_mutex_lock(&call.mu);
        while (!call.done) {
            pthread_cond_wait(&call.cond, &call.mu);
        }
        pthread_mutex_unlock(&call.mu);
        r = call.ran ? MR_OK : MR_E_CLOSED;
    }
    (void)pthread_cond_destroy(&call.cond);
    (void)pthread_mutex_destroy(&call.mu);
    return r;
}

static void finish_call(struct engine_call *call, bool ran)
{
    pthread_mutex_lock(&call->mu);
    call->done = true;
    call->ran = ran;
    pthread_cond_signal(&call->cond);
    pthread_mutex_unlock(&call->mu);
}

void engine_wake_control(struct mr_engine *engine)
{
    uint64_t one = 1;
    ssize_t n = write(engine->control_fd, &one, sizeof(one));
    (void)n; /* EAGAIN: it is awake already */
}

/* --- the threads of the log ------------------------------------------------------------------- */

static void *io_thread(void *argument)
{
    struct engine_io_thread *self = argument;
    struct mr_engine *engine = self->engine;
    (void)pthread_setname_np(pthread_self(), self->name); /* for a person's top only */
    if (self->niceness != 0) { /* of this thread alone; else it is only less polite */
        (void)setpriority(PRIO_PROCESS, (id_t)gettid(), self->niceness);
    }
    for (;;) {
        struct mr_op *op = mr_opq_take(&self->queue);
        if (op == NULL) {
            if (atomic_load(&engine->finish)) {
                return NULL;
            }
            struct pollfd fd = {.fd = mr_opq_fd(&self->queue), .events = POLLIN};
            (void)poll(&fd, 1, -1); /* EINTR: looked at again */
            continue;
        }
        while (op != NULL) {
            struct mr_op *next = op->next;
            op->next = NULL;
            op->type = ENGINE_IO;
            mr_log_perform(engine->io, (struct mr_log_request *)op);
            atomic_fetch_sub_explicit(&self->asked, 1, memory_order_relaxed);
            engine_post(engine, op);
            op = next;
        }
    }
}

static enum mr_status start_io_thread(struct mr_engine *engine, struct engine_io_thread *t,
                                      const char *name)
{
    t->engine = engine;
    t->name = name;
    if (pthread_create(&t->thread, NULL, io_thread, t) != 0) {
        return MR_E_UNAVAILABLE;
    }
    t->started = true;
    return MR_OK;
}

static void stop_io_thread(struct engine_io_thread *t)
{
    if (t->started) {
        mr_opq_wake(&t->queue);
        (void)pthread_join(t->thread, NULL); /* it was created by us */
        t->started = false;
    }
}

/* --- the core loop ---------------------------------------------------------------------------- */

/* The bus counts what the old generation still has against the target, so the new one's slots come
 * on top: otherwise a handler that drains would hold up those who are ready. */
static void tell_capacity(struct mr_engine *engine, struct mr_now now, uint32_t target)
{
    const struct instance *instance = engine_target(engine, target);
    if (instance == NULL) {
        return; /* removed: it was told 0 */
    }
    uint32_t slots =
        mr_adaptive_slots(&instance->adaptive, atomic_load(&instance->capacity->slots));
    for (uint32_t i = 0; i < engine->retired_count && slots > 0; i++) {
        slots += engine->retired[i]->id == target ? atomic_load(&engine->retired[i]->held) : 0;
    }
    mr_bus_capacity(engine->bus, now, target, slots);
}

/* What the answer says about how many deliveries its target bears; before the bus takes it. */
static void adapt(struct mr_engine *engine, struct mr_now now, const struct mr_handout *handout)
{
    uint32_t target = handout->target;
    struct instance *instance =
        target < engine->targets_by_id_count ? engine->targets_by_id[target] : NULL;
    if (instance == NULL || instance->adaptive.min == 0) {
        return;
    }
    struct mr_target_info info;
    mr_bus_target_info(engine->bus, target, &info);
    if (mr_adaptive_answer(&instance->adaptive, now.mono_ns, handout, info.in_flight,
                           atomic_load(&instance->capacity->slots))) {
        tell_capacity(engine, now, target);
    }
}

static void take_op(struct mr_engine *engine, struct mr_op *op, struct mr_now now)
{
    struct mr_bus *bus = engine->bus;
    struct engine_note *note = (struct engine_note *)op;
    switch ((enum engine_op)op->type) {
    case ENGINE_BATCH:
        mr_bus_ingest(bus, now, (struct mr_batch *)op);
        return;
    case ENGINE_ANSWER:
        engine_shadow_answer(engine, (struct mr_handout *)op);
        engine_await_answer(engine, (struct mr_handout *)op, now);
        adapt(engine, now, (struct mr_handout *)op);
        mr_bus_answer(bus, now, (struct mr_handout *)op);
        return;
    case ENGINE_IO:
        mr_bus_io_done(bus, now, (struct mr_log_request *)op);
        return;
    case ENGINE_CALL: {
        struct engine_call *call = (struct engine_call *)op;
        call->fn(call->argument, bus, now);
        finish_call(call, true);
        return;
    }
    case ENGINE_CAPACITY: {
        struct engine_capacity *capacity = (struct engine_capacity *)op;
        atomic_store(&capacity->posted, false); /* a later value comes again */
        tell_capacity(engine, now, atomic_load(&capacity->target));
        engine_capacity_unref(capacity);
        return;
    }
    case ENGINE_TRANSFORMED:
        engine_take_transformed(engine, op);
        return;
    case ENGINE_HEARTBEAT:
        mr_bus_heartbeat(bus, now, note->subscription, note->a, note->fence);
        break;
    case ENGINE_DISK:
        mr_bus_disk(bus, now, note->a, note->b);
        break;
    }
    mr_free(note);
}

static int wait_ms(const struct mr_engine *engine)
{
    uint64_t next = mr_bus_next_timer(engine->bus);
    if (engine->awaits.next_mono_ns < next) {
        next = engine->awaits.next_mono_ns;
    }
    uint64_t now = mr_clock_mono_ns();
    if (next <= now) {
        return 0;
    }
    uint64_t ms = (next - now + MR_MS - 1) / MR_MS;
    return ms > 1000 ? 1000 : (int)ms;
}

static void core_loop(struct mr_engine *engine)
{
    struct mr_bus *bus = engine->bus;
    uint32_t due_passes = 0; /* in a row without an input and with a timer that is due */
    while (!atomic_load(&engine->finish)) {
        struct mr_op *op = mr_opq_take(&engine->inbox);
        struct mr_now now = mr_clock_now();
        bool idle = op == NULL;
        while (op != NULL) {
            struct mr_op *next = op->next;
            op->next = NULL;
            take_op(engine, op, now);
            op = next;
        }
        engine_await_note(engine, now);
        mr_bus_step(bus, now);
        engine_flush_outputs(engine);
        engine_await_look(engine, now);
        if (mr_bus_is_faulty(bus) && !atomic_exchange(&engine->faulty, true)) {
            mr_engine_request_stop(engine); /* the supervisor's restart recovers from the disk */
        }
        if (idle && !mr_bus_has_more(bus) && !atomic_load(&engine->finish)) {
            struct pollfd fd = {.fd = mr_opq_fd(&engine->inbox), .events = POLLIN};
            int ms = wait_ms(engine);
            due_passes = ms == 0 ? due_passes + 1 : 0;
            if (due_passes > DUE_PASSES_MAX) {
                ms = 1;
            }
            (void)poll(&fd, 1, ms); /* EINTR: a turn for nothing */
        }
    }
}

/* --- control ---------------------------------------------------------------------------------- */

static void tell_disk(struct mr_engine *engine)
{
    uint64_t free_bytes = 0;
    uint64_t total = 0;
    struct engine_note *note = mr_calloc(1, sizeof(*note));
    if (note == NULL) {
        return; /* with the next period */
    }
    if (engine->io->ops->space(engine->io, &free_bytes, &total) != MR_OK) {
        mr_free(note);
        return;
    }
    note->op.type = ENGINE_DISK;
    note->a = free_bytes;
    note->b = total;
    engine_post(engine, &note->op);
}

struct quiet_question {
    bool drain;
    bool quiet;
    bool faulty;
};

static void ask_quiet(void *argument, struct mr_bus *bus, struct mr_now now)
{
    (void)now;
    struct quiet_question *q = argument;
    struct mr_bus_status status;
    mr_bus_drain(bus, q->drain);
    mr_bus_status(bus, &status);
    q->quiet = mr_bus_is_quiet(bus);
    q->faulty = status.faulty;
}

/* Waits until nothing is in flight and everything is durable, or a second stop, or the deadline. */
static void wait_quiet(struct mr_engine *engine, uint64_t deadline_mono_ns)
{
    struct quiet_question q = {.drain = true};
    while (engine_call(engine, ask_quiet, &q) == MR_OK && !q.quiet && !q.faulty &&
           mr_clock_mono_ns() < deadline_mono_ns && atomic_load(&engine->stop_requests) < 2) {
        struct pollfd fd = {.fd = engine->control_fd, .events = POLLIN};
        (void)poll(&fd, 1, 5); /* a second stop request wakes it */
        uint64_t drained;
        ssize_t n = read(engine->control_fd, &drained, sizeof(drained));
        (void)n; /* EAGAIN: the time was up */
    }
}

static void ask_settled(void *argument, struct mr_bus *bus, struct mr_now now)
{
    bool *settled = argument;
    *settled = mr_bus_is_quiet(bus);
    for (uint32_t id = 0; *settled && id < mr_bus_subscription_count(bus); id++) {
        struct mr_subscription_info info;
        mr_bus_subscription_info(bus, now, id, &info);
        *settled = info.index < 0 || (info.live && info.counts.waiting == 0 &&
                                      info.counts.in_flight == 0);
    }
}

/* Whether there is nothing left to do, seen twice: what settled last may have emitted something. */
static bool is_all_done(struct mr_engine *engine, uint32_t *rounds)
{
    bool settled = false;
    bool done = instances_sources_done(engine) &&
                engine_call(engine, ask_settled, &settled) == MR_OK && settled;
    *rounds = done ? *rounds + 1 : 0;
    return *rounds == 2;
}

/* Replaced targets that still drain use the core: they must be gone before it. */
static void wait_retired(struct mr_engine *engine)
{
    while (atomic_load(&engine->retiring) > 0) {
        struct pollfd fd = {.fd = -1};
        (void)poll(&fd, 1, 5); /* a pause */
    }
}

static void stop_everything(struct mr_engine *engine)
{
    struct snapshot *snapshot = snapshot_get(engine);
    uint64_t drain_ns = snapshot->config->drain_ns;
    snapshot_unref(snapshot);
    MR_INFO("engine", "stopping: sources first, then what is in flight (at most %llu ms)",
            (unsigned long long)(drain_ns / MR_MS));
    uint64_t deadline = mr_clock_mono_ns() + drain_ns;
    if (engine->listener != NULL) {
        mr_http_listener_drain(engine->listener);
    }
    instances_stop_sources(engine, deadline);
    wait_quiet(engine, deadline);
    bool at_once = atomic_load(&engine->stop_requests) >= 2;
    instances_stop_targets(engine, mr_clock_mono_ns() + (at_once ? 0 : STOP_TARGETS_NS / 10));
    wait_quiet(engine, mr_clock_mono_ns() + STOP_TARGETS_NS);
    wait_retired(engine);
    mr_admin_destroy(engine->admin);
    engine->admin = NULL;
    atomic_store(&engine->finish, true);
    mr_opq_wake(&engine->inbox);
}

static void reload_on_signal(struct mr_engine *engine)
{
    struct mr_buf out;
    struct mr_buf problem;
    mr_buf_init(&out, MR_CONFIG_SIZE_MAX);
    mr_buf_init(&problem, MR_MIB);
    enum mr_status r = engine_reload(engine, false, &out, &problem);
    if (r == MR_OK) {
        MR_INFO("engine", "reloaded: %.*s", (int)out.size, (const char *)out.data);
    } else {
        MR_ERROR("engine", "reload refused, the old configuration goes on: %.*s",
                 (int)problem.size, (const char *)problem.data);
    }
    mr_buf_release(&out);
    mr_buf_release(&problem);
}

static void *control_thread(void *argument)
{
    struct mr_engine *engine = argument;
    (void)pthread_setname_np(pthread_self(), "control");
    uint32_t rounds = 0;
    while (!atomic_load(&engine->running)) { /* set right after this thread was made */
        (void)poll(NULL, 0, 1);              /* a pause */
    }
    while (atomic_load(&engine->stop_requests) == 0) {
        tell_disk(engine);
        mr_admin_look(engine->admin);
        bool slow = atomic_load(&engine->slow);
        if (slow != engine->slow_applied) {
            engine->slow_applied = slow;
            MR_WARN("engine", slow ? "the log or its disk is short: sources are slowed"
                                   : "sources go on");
            instances_pause_sources(engine, slow);
        }
        if (atomic_exchange(&engine->reload_requested, false)) {
            reload_on_signal(engine);
        }
        if (engine->until_done && is_all_done(engine, &rounds)) {
            MR_INFO("engine", "all sources are at their end and all deliveries settled");
            (void)atomic_fetch_add(&engine->stop_requests, 1);
            break;
        }
        struct pollfd fd = {.fd = engine->control_fd, .events = POLLIN};
        (void)poll(&fd, 1, CONTROL_PERIOD_MS); /* EINTR: a round for nothing */
        uint64_t drained;
        ssize_t n = read(engine->control_fd, &drained, sizeof(drained));
        (void)n; /* EAGAIN: the period was up */
    }
    stop_everything(engine);
    return NULL;
}

void mr_engine_request_stop(struct mr_engine *engine)
{
    atomic_fetch_add(&engine->stop_requests, 1);
    engine_wake_control(engine);
}

void mr_engine_stop_when_done(struct mr_engine *engine)
{
    engine->until_done = true;
}

void mr_engine_request_reload(struct mr_engine *engine)
{
    atomic_store(&engine->reload_requested, true);
    engine_wake_control(engine);
}

/* --- life ------------------------------------------------------------------------------------- */

static enum mr_status init_queue(struct engine_io_thread *t)
{
    enum mr_status r = mr_opq_init(&t->queue, UINT64_MAX);
    t->made = r == MR_OK;
    return r;
}

static enum mr_status init_queues(struct mr_engine *engine)
{
    engine->control_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    enum mr_status r = engine->control_fd < 0 ? MR_E_UNAVAILABLE : MR_OK;
    r = r == MR_OK ? mr_opq_init(&engine->inbox, UINT64_MAX) : r;
    r = r == MR_OK ? init_queue(&engine->writer) : r;
    for (uint32_t i = 0; i < ENGINE_READERS; i++) {
        r = r == MR_OK ? init_queue(&engine->readers[i]) : r;
    }
    r = r == MR_OK ? init_queue(&engine->background) : r;
    return r == MR_OK ? init_queue(&engine->keeper) : r;
}

enum mr_status mr_engine_create(struct mr_config *config, const char *config_path,
                                struct mr_engine **ret_engine, struct mr_problem *problem)
{
    struct mr_engine *engine = mr_calloc(1, sizeof(*engine));
    if (engine == NULL) {
        mr_config_destroy(config);
        return mr_problem_set(problem, MR_E_NOMEM, "no memory for the engine");
    }
    engine->control_fd = -1;
    engine->inbox.fd = -1;
    engine->admin_host.ops = &engine_admin_ops;
    engine->admin_host.started_wall_ns = mr_clock_now().wall_ns;
    (void)pthread_mutex_init(&engine->snapshot_mu, NULL); /* default attributes cannot fail */
    (void)pthread_mutex_init(&engine->instances_mu, NULL);
    mr_meter_init(&engine->meter);
    (void)pthread_mutex_init(&engine->reload_mu, NULL);
    (void)pthread_mutex_init(&engine->tails_mu, NULL);
    (void)pthread_mutex_init(&engine->awaits.mu, NULL);
    engine->awaits.next_mono_ns = UINT64_MAX;
    engine->config_path = mr_strdup(config_path);
    engine->jq = mr_jq_pool_create(engine_jq_done, engine);
    enum mr_status r = engine->jq == NULL ? MR_E_NOMEM : init_queues(engine);
    engine->snapshot = r == MR_OK ? snapshot_create(engine, config, NULL, 1, problem) : NULL;
    if (engine->snapshot == NULL) {
        mr_config_destroy(config);
        mr_engine_destroy(engine);
        return r == MR_OK ? MR_E_INVALID : mr_problem_set(problem, r, "no queues: %s",
                                                          mr_status_text(r));
    }
    r = engine_make_folders(engine, config, problem);
    if (r != MR_OK) {
        mr_engine_destroy(engine);
        return r;
    }
    *ret_engine = engine;
    return MR_OK;
}

enum mr_status engine_start_threads(struct mr_engine *engine)
{
    enum mr_status r = start_io_thread(engine, &engine->writer, "log-writer");
    for (size_t i = 0; i < MR_ARRAY_COUNT(engine->readers) && r == MR_OK; i++) {
        r = start_io_thread(engine, &engine->readers[i], "log-reader");
    }
    r = r == MR_OK ? start_io_thread(engine, &engine->background, "log-background") : r;
    engine->keeper.niceness = KEEPER_NICENESS;
    return r == MR_OK ? start_io_thread(engine, &engine->keeper, "log-keeper") : r;
}

enum mr_status engine_start_control(struct mr_engine *engine)
{
    if (pthread_create(&engine->control, NULL, control_thread, engine) != 0) {
        return MR_E_UNAVAILABLE;
    }
    engine->control_started = true;
    return MR_OK;
}

uint16_t mr_engine_port(const struct mr_engine *engine)
{
    return engine->listener == NULL ? 0 : mr_http_listener_port(engine->listener);
}

int mr_engine_run(struct mr_engine *engine)
{
    (void)pthread_setname_np(pthread_self(), "millrace");
    core_loop(engine);
    (void)pthread_join(engine->control, NULL); /* it ended the loop */
    engine->control_started = false;
    atomic_store(&engine->running, false);
    struct mr_bus_status status;
    mr_bus_status(engine->bus, &status);
    return status.faulty ? 1 : 0;
}

static void release_queue(struct engine_io_thread *t)
{
    if (t->made) {
        mr_opq_release(&t->queue);
    }
}

static void drain_inbox(struct mr_engine *engine)
{
    struct mr_op *op = mr_opq_take(&engine->inbox);
    while (op != NULL) {
        struct mr_op *next = op->next;
        op->next = NULL;
        if (op->type == ENGINE_CALL) {
            finish_call((struct engine_call *)op, false);
        } else if (op->type == ENGINE_BATCH) {
            mr_batch_destroy((struct mr_batch *)op);
        } else if (op->type == ENGINE_ANSWER) {
            mr_handout_destroy((struct mr_handout *)op);
        } else if (op->type == ENGINE_IO && engine->bus != NULL) {
            mr_bus_io_done(engine->bus, mr_clock_now(), (struct mr_log_request *)op);
        } else if (op->type == ENGINE_TRANSFORMED) {
            engine_jq_drop(op);
        } else if (op->type == ENGINE_CAPACITY) {
            engine_capacity_unref((struct engine_capacity *)op);
        } else if (op->type != ENGINE_IO) {
            mr_free(op);
        }
        op = next;
    }
}

void mr_engine_destroy(struct mr_engine *engine)
{
    if (engine == NULL) {
        return;
    }
    uint64_t deadline = mr_clock_mono_ns();
    instances_stop_sources(engine, deadline);
    instances_stop_targets(engine, deadline);
    mr_admin_destroy(engine->admin);
    mr_starting_destroy(engine->starting);
    struct mr_http_listener *listeners[] = {engine->listener, engine->socket};
    for (size_t i = 0; i < MR_ARRAY_COUNT(listeners); i++) {
        if (listeners[i] != NULL) {
            mr_http_listener_stop(listeners[i], deadline);
            mr_http_listener_destroy(listeners[i]);
        }
    }
    atomic_store(&engine->finish, true);
    stop_io_thread(&engine->writer);
    for (uint32_t i = 0; i < ENGINE_READERS; i++) {
        stop_io_thread(&engine->readers[i]);
    }
    stop_io_thread(&engine->background);
    stop_io_thread(&engine->keeper);
    if (engine->bus != NULL) {
        mr_bus_close(engine->bus); /* a read that came back would ask for the next */
    }
    if (engine->jq != NULL) {
        mr_jq_pool_stop(engine->jq); /* what it had comes back, to the inbox or to its source */
        engine_jq_release(engine);
    }
    if (engine->inbox.fd >= 0) {
        drain_inbox(engine);
    }
    mr_bus_destroy(engine->bus);
    release_queue(&engine->writer);
    for (uint32_t i = 0; i < ENGINE_READERS; i++) {
        release_queue(&engine->readers[i]);
    }
    release_queue(&engine->background);
    release_queue(&engine->keeper);
    mr_opq_release(&engine->inbox);
    if (engine->control_fd >= 0) {
        close(engine->control_fd);
    }
    snapshot_unref(engine->bus_snapshot);
    snapshot_unref(engine->snapshot);
    mr_jq_pool_destroy(engine->jq);
    if (engine->io != NULL) {
        engine->io->ops->destroy(engine->io);
    }
    mr_meter_release(&engine->meter);
    mr_free(engine->retired);
    mr_free(engine->targets_by_id);
    mr_free(engine->config_path);
    mr_free(engine->log_dir);
    mr_free(engine->socket_path);
    mr_free(engine);
}
