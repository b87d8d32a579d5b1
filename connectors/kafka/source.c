/* Kafka source: one thread, one consumer, one batch with the bus at a time.
 *
 * 1. Records are taken from the client one by one (the batch call of librdkafka 2.0.2 loses
 *    offsets) into the batch being filled, while another is with the bus.
 * 2. The batch goes out with the next offset of every partition as its cursor: events and position
 *    enter the log together, so that a record enters once.
 * 3. What came back durable is committed to the broker about once a second.
 *
 * While the bus takes nothing, the client is not read: its queue is bounded and fills. Only when
 * that lasts are partitions paused (which throws the queue away) and the client polled for the
 * group's sake alone. */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "connectors/adapting.h"
#include "connectors/kafka/source.h"
#include "core/alloc.h"
#include "core/assert.h"
#include "core/logger.h"

#define BATCH_COUNT 4000u /* reached only while another batch is out */
#define BATCH_SIZE (3u * MR_MIB)
#define BATCH_SIZE_MIN (64u * MR_KIB)
#define BATCH_FIRST_COUNT 500u /* room to begin with */
#define READS_MAX 1000u /* per pass: then a batch goes out, and replies are looked at */
#define CURSOR_SIZE_MAX (2u * MR_MIB)
#define HOLD_NS (2 * MR_SECOND)     /* reading stopped so long: pause the partitions */
#define HOLD_MIN_NS (1 * MR_SECOND) /* paused so long at least: each time costs as much */
#define TICK_NS (1 * MR_SECOND)     /* commits, lag */
#define STARVE_NS (5 * MR_MS)
#define NUDGE_MS 200

/* --- health ----------------------------------------------------------------------------------- */

void mr__kafka_show(struct mr_source *source, const char *error)
{
    enum mr_health_state state = MR_HEALTH_OK;
    char detail[128];
    if (!source->up) {
        state = error == NULL && source->intake.life.health.last_error[0] == '\0'
                    ? MR_HEALTH_STARTING
                    : MR_HEALTH_DOWN;
        (void)snprintf(detail, sizeof(detail), "not connected to %s", source->brokers);
    } else if (!source->joined) {
        state = MR_HEALTH_DEGRADED;
        (void)snprintf(detail, sizeof(detail), "connected to %.60s, joining group %.30s",
                       source->brokers, source->group);
    } else {
        state = source->topics_bad || source->lost_place || source->intake.refused != NULL
                    ? MR_HEALTH_DEGRADED
                    : MR_HEALTH_OK;
        (void)snprintf(detail, sizeof(detail), "connected to %.50s, group %.24s, %u partitions%s",
                       source->brokers, source->group, source->assigned,
                       source->held ? ", paused" : "");
    }
    mr__lifecycle_set_health(&source->intake.life, state, detail, error);
}

/* --- batches ---------------------------------------------------------------------------------- */

static void on_durable(void *context, struct mr_batch *batch)
{
    (void)batch;
    struct mr_source *source = context;
    for (uint32_t i = 0; i < source->positions.count; i++) {
        struct mr_kafka_partition *p = source->positions.items[i];
        if (p->submitted != MR_KAFKA_NONE) {
            p->logged = p->submitted;
            p->submitted = MR_KAFKA_NONE;
        }
    }
}

/* The log's segments are smaller than the batch: it is read again in smaller ones. */
static void shrink(struct mr_source *source)
{
    source->batch_size = source->batch_size / 2 < BATCH_SIZE_MIN ? BATCH_SIZE_MIN
                                                                 : source->batch_size / 2;
    mr__intake_forget(&source->intake);
    mr__kafka_forget(source, NULL);
    for (uint32_t i = 0; i < source->positions.count; i++) {
        struct mr_kafka_partition *p = source->positions.items[i];
        p->submitted = MR_KAFKA_NONE;
        p->next = p->logged;
        p->stuck = p->assigned;
    }
    source->lost_place = true;
    source->restart_at_ns = 0;
}

static bool is_too_big(const struct mr_op *refused)
{
    return refused != NULL &&
           ((const struct mr_batch *)(const void *)refused)->result == MR_E_TOO_BIG;
}

void mr__kafka_take_replies(struct mr_source *source)
{
    bool was_refused = source->intake.refused != NULL;
    mr__intake_take(&source->intake, mr_clock_mono_ns(), on_durable, source);
    if (is_too_big(source->intake.refused)) {
        shrink(source);
    }
    if (was_refused != (source->intake.refused != NULL)) {
        mr__kafka_show(source, NULL);
    }
}

static bool owners_reach(struct mr_source *source, uint32_t count)
{
    if (count <= source->owners_capacity) {
        return true;
    }
    struct mr_kafka_partition **owners =
        mr_realloc(source->owners, count * sizeof(struct mr_kafka_partition *));
    if (owners == NULL) {
        return false;
    }
    source->owners = owners;
    source->owners_capacity = count;
    return true;
}

void mr__kafka_forget(struct mr_source *source, const struct mr_kafka_partition *p)
{
    struct mr_batch *batch = source->filling;
    if (p == NULL || batch == NULL) {
        mr_batch_destroy(batch);
        source->filling = NULL;
        source->moved = source->moved && p != NULL;
        return;
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < batch->count; i++) {
        if (source->owners[i] != p) {
            struct mr_batch_item item = batch->items[kept];
            batch->items[kept] = batch->items[i];
            batch->items[i] = item;
            source->owners[kept++] = source->owners[i];
        }
    }
    mr__kafka_cut_batch(batch, kept);
}

static bool is_full(const struct mr_source *source)
{
    const struct mr_batch *batch = source->filling;
    return batch != NULL && (batch->count >= BATCH_COUNT || batch->size >= source->batch_size);
}

static enum mr_status write_cursor(struct mr_source *source, struct mr_batch *batch)
{
    struct mr_buf text;
    mr_buf_init(&text, CURSOR_SIZE_MAX);
    enum mr_status r =
        mr__kafka_positions_write(&source->positions, source->cluster, source->group, &text);
    if (r == MR_OK) {
        batch->cursor = mr_buf_take_text(&text);
        r = batch->cursor == NULL ? MR_E_NOMEM : MR_OK;
    }
    mr_buf_release(&text);
    return r;
}

/* The batch leaves with the position behind it; positions of what is not in it stay. */
static void submit_filling(struct mr_source *source)
{
    if (!source->moved || mr__intake_is_out(&source->intake) ||
        !mr__intake_wants(&source->intake)) {
        return;
    }
    if (source->filling == NULL) { /* records that hold no event move the position all the same */
        source->filling = mr__intake_batch(&source->intake, 1);
        if (source->filling == NULL) {
            return;
        }
    }
    for (uint32_t i = 0; i < source->positions.count; i++) {
        struct mr_kafka_partition *p = source->positions.items[i];
        p->submitted = p->assigned && p->next != MR_KAFKA_NONE ? p->next : MR_KAFKA_NONE;
    }
    if (write_cursor(source, source->filling) != MR_OK) {
        mr__kafka_show(source, "no memory for the position");
        for (uint32_t i = 0; i < source->positions.count; i++) {
            source->positions.items[i]->submitted = MR_KAFKA_NONE;
        }
        return;
    }
    source->moved = false;
    mr__intake_submit(&source->intake, MR_TAKE(source->filling));
}

/* --- records ---------------------------------------------------------------------------------- */

static void take_record(struct mr_source *source, const rd_kafka_message_t *message)
{
    struct mr_kafka_partition *p = mr__kafka_positions_find(
        &source->positions, rd_kafka_topic_name(message->rkt), message->partition);
    if (p == NULL || !p->assigned || p->stuck || message->offset < p->next) {
        return; /* no longer ours, or seen */
    }
    if (source->filling == NULL) {
        source->filling = mr__intake_batch(&source->intake, BATCH_FIRST_COUNT);
    }
    enum mr_status r = MR_E_NOMEM;
    struct mr_problem problem = {.text = ""};
    if (source->filling != NULL) {
        uint32_t before = source->filling->count;
        r = mr__kafka_take_record(&source->maker, message, source->filling, &problem);
        if (r == MR_OK && !owners_reach(source, source->filling->capacity)) {
            mr__kafka_cut_batch(source->filling, before);
            r = MR_E_NOMEM;
        }
        for (uint32_t i = before; r == MR_OK && i < source->filling->count; i++) {
            source->owners[i] = p;
        }
    }
    if (r != MR_OK) { /* read it again, when there may be memory */
        p->stuck = true;
        source->lost_place = true;
        source->restart_at_ns = mr_clock_mono_ns() + HOLD_MIN_NS;
        mr__kafka_show(source, "out of memory");
        return;
    }
    p->next = message->offset + 1;
    source->moved = true;
    atomic_fetch_add_explicit(&source->intake.life.messages, 1, memory_order_relaxed);
    if (problem.text[0] != '\0') {
        mr__kafka_show(source, problem.text);
    }
}

static void take_error(struct mr_source *source, const rd_kafka_message_t *message)
{
    struct mr_kafka_partition *p =
        message->rkt == NULL ? NULL
                             : mr__kafka_positions_find(&source->positions,
                                                        rd_kafka_topic_name(message->rkt),
                                                        message->partition);
    if ((message->err == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET ||
         message->err == RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE) &&
        p != NULL) {
        if (p->assigned) {
            mr__kafka_out_of_range(source, p);
        }
        return;
    }
    const char *text = rd_kafka_message_errstr(message);
    MR_WARN("kafka", "source=%s err=\"%s\"", source->intake.life.name, text);
    source->probe_at_ns = 0; /* which topic is it? */
    source->topics_bad = source->topics_bad || message->rkt != NULL ||
                         message->err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    mr__kafka_show(source, text);
}

/* One thing from the client's queue: callbacks run within. @return false: it is empty */
static bool take_one(struct mr_source *source)
{
    rd_kafka_message_t *message = rd_kafka_consumer_poll(source->rk, 0);
    if (message == NULL) {
        return false;
    }
    if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
        take_record(source, message);
    } else {
        take_error(source, message);
    }
    rd_kafka_message_destroy(message);
    return true;
}

static void clear_wake(const struct mr_source *source)
{
    uint64_t count;
    while (read(source->wake_fd, &count, sizeof(count)) > 0) {
    }
}

/* After its queue was full, librdkafka 2.0.2 looks again only after a second, however soon we have
 * emptied it (librdkafka#2879). Any question to the broker's thread makes it look at once. */
static void watch_starving(struct mr_source *source)
{
    if (source->more || mr__kafka_lag(source) == 0) {
        source->starving_since_ns = 0;
    } else if (source->starving_since_ns == 0) {
        source->starving_since_ns = mr_clock_mono_ns();
    }
}

static void nudge(struct mr_source *source, uint64_t now_ns)
{
    if (source->starving_since_ns == 0 || now_ns - source->starving_since_ns < STARVE_NS ||
        !source->up || source->held) {
        return;
    }
    source->starving_since_ns = 0;
    for (uint32_t i = 0; i < source->positions.count; i++) { /* brokers take turns */
        uint32_t at = (source->nudged + 1 + i) % source->positions.count;
        const struct mr_kafka_partition *p = source->positions.items[at];
        int64_t low;
        int64_t high;
        if (p->assigned && !p->stuck &&
            rd_kafka_get_watermark_offsets(source->rk, p->topic, p->number, &low, &high) ==
                RD_KAFKA_RESP_ERR_NO_ERROR &&
            high > p->next) {
            source->nudged = at;
            (void)rd_kafka_query_watermark_offsets(source->rk, p->topic, p->number, &low, &high,
                                                   NUDGE_MS);
            break;
        }
    }
    source->more = true; /* look at once */
}

/* Reads until the client has nothing more, or the batch is full and another is out. */
static void take_records(struct mr_source *source)
{
    clear_wake(source); /* first: what comes from now on wakes us again */
    source->more = true;
    for (uint32_t i = 0; i < READS_MAX; i++) {
        if (is_full(source)) {
            submit_filling(source);
            if (is_full(source)) {
                return;
            }
        }
        if (!take_one(source)) {
            source->more = false;
            break;
        }
    }
    submit_filling(source);
    watch_starving(source);
}

/* --- flow ------------------------------------------------------------------------------------- */

static bool may_read(const struct mr_source *source)
{
    return mr__intake_wants(&source->intake) &&
           !(is_full(source) && mr__intake_is_out(&source->intake));
}

static void read_or_hold(struct mr_source *source, uint64_t now_ns)
{
    if (may_read(source)) {
        source->blocked_at_ns = 0;
        if (source->held && now_ns - source->held_at_ns >= HOLD_MIN_NS) {
            mr__kafka_hold(source, false);
            mr__kafka_show(source, NULL);
        }
        take_records(source);
        return;
    }
    if (source->blocked_at_ns == 0) {
        source->blocked_at_ns = now_ns;
    }
    if (!source->held && now_ns - source->blocked_at_ns >= HOLD_NS) {
        mr__kafka_hold(source, true);
        mr__kafka_show(source, NULL);
    }
    if (source->held) {
        /* Paused partitions give nothing: this is for rebalances and errors. */
        clear_wake(source);
        for (uint32_t i = 0; i < READS_MAX && take_one(source); i++) {
        }
        source->more = false;
    }
}

/* --- the thread ------------------------------------------------------------------------------- */

static void tick(struct mr_source *source, uint64_t now_ns)
{
    if (now_ns < source->tick_at_ns) {
        return;
    }
    source->tick_at_ns = now_ns + TICK_NS;
    mr__kafka_commit(source);
    uint64_t lag = mr__kafka_lag(source);
    mr__lifecycle_set_lag(&source->intake.life, lag);
}

static void step(struct mr_source *source, uint64_t now_ns)
{
    if (source->rk == NULL) {
        struct mr_problem problem = {.text = ""};
        if (now_ns >= source->open_at_ns && !mr__lifecycle_is_stopping(&source->intake.life) &&
            mr__kafka_open(source, &problem) != MR_OK) {
            mr__kafka_reopen(source, now_ns, problem.text);
        }
        return;
    }
    mr__kafka_resolve(source, now_ns);
    mr__kafka_restart(source, now_ns);
    submit_filling(source);
    nudge(source, now_ns);
    read_or_hold(source, now_ns);
    if (source->broken) {
        mr__kafka_reopen(source, now_ns, "the client cannot go on");
        return;
    }
    mr__kafka_look(source, now_ns);
    tick(source, now_ns);
}

static int timeout_ms(const struct mr_source *source, uint64_t now_ns)
{
    uint64_t until = source->rk == NULL ? source->open_at_ns : source->tick_at_ns;
    if (source->assigning != NULL && !mr__intake_is_out(&source->intake) &&
        source->assign_at_ns < until) {
        until = source->assign_at_ns;
    }
    if (source->blocked_at_ns != 0 && !source->held && source->blocked_at_ns + HOLD_NS < until) {
        until = source->blocked_at_ns + HOLD_NS;
    }
    if (source->starving_since_ns != 0 && source->starving_since_ns + STARVE_NS < until) {
        until = source->starving_since_ns + STARVE_NS;
    }
    if (source->lost_place && source->restart_at_ns < until) {
        until = source->restart_at_ns;
    }
    if (until <= now_ns) {
        return 0;
    }
    return mr__intake_timeout_ms(&source->intake, now_ns, (int)((until - now_ns) / MR_MS) + 1);
}

static void wait_more(struct mr_source *source)
{
    uint64_t now_ns = mr_clock_mono_ns();
    bool reads = source->rk != NULL && (may_read(source) || source->held);
    struct pollfd fds[2] = {{.fd = mr_opq_fd(&source->intake.life.queue), .events = POLLIN},
                            {.fd = reads ? source->wake_fd : -1, .events = POLLIN}};
    int wait = reads && source->more ? 0 : timeout_ms(source, now_ns);
    if (wait != 0 && poll(fds, 2, wait) < 0 && errno != EINTR) {
        MR_ERROR("kafka", "source=%s poll: %s", source->intake.life.name, strerror(errno));
    }
}

static void *run(void *context)
{
    struct mr_source *source = context;
    mr__kafka_show(source, NULL);
    for (;;) {
        mr__kafka_take_replies(source);
        uint64_t now_ns = mr_clock_mono_ns();
        if (mr__intake_is_finished(&source->intake, now_ns)) {
            break;
        }
        mr__intake_resubmit(&source->intake, now_ns);
        if (!mr__lifecycle_is_stopping(&source->intake.life)) {
            step(source, now_ns);
        }
        atomic_store_explicit(&source->intake.life.bytes_held,
                              source->filling == NULL ? 0 : source->filling->size,
                              memory_order_relaxed);
        wait_more(source);
    }
    mr__kafka_forget(source, NULL);
    mr__kafka_close(source,
                    atomic_load_explicit(&source->intake.life.deadline_ns, memory_order_relaxed));
    mr__lifecycle_set_health(&source->intake.life, MR_HEALTH_DOWN, "stopped", NULL);
    return NULL;
}

/* --- the connector's calls -------------------------------------------------------------------- */

static_assert(offsetof(struct mr_source, intake) == 0, "its contract calls stand in the table");
static const struct mr_lifecycle_shape shape =
    MR_LIFECYCLE_SHAPE(struct mr_source, mr_connector_kafka.source_kind, run);

static void destroy_source(struct mr_source *source)
{
    if (source == NULL || !mr__intake_release(&source->intake)) {
        return;
    }
    MR_ASSERT(source->rk == NULL);
    mr_batch_destroy(source->filling);
    mr__kafka_positions_release(&source->positions);
    if (source->wake_fd >= 0) {
        (void)close(source->wake_fd);
    }
    mr_free(source->owners);
    mr_free(source->cursor);
    mr_free(source->group);
    mr__lifecycle_free(&shape, source);
}

static enum mr_status fill_source(struct mr_source *source, const struct mr_source_args *args,
                                  struct mr_problem *problem)
{
    source->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (source->wake_fd < 0) {
        return mr_problem_set(problem, MR_E_UNAVAILABLE, "no eventfd: %s", strerror(errno));
    }
    char group[MR_NAME_SIZE_MAX + 16];
    (void)snprintf(group, sizeof(group), "millrace-%.64s", args->name);
    source->group = mr_strdup(source->options.group == NULL ? group : source->options.group);
    source->cursor = mr_strdup(args->cursor);
    if (source->group == NULL || (source->cursor == NULL && args->cursor != NULL)) {
        return mr_problem_set(problem, MR_E_NOMEM, "no memory for the source");
    }
    source->batch_size = BATCH_SIZE;
    mr__kafka_brokers_text(&source->options.peer, source->brokers, sizeof(source->brokers));
    mr__backoff_init(&source->backoff);
    source->maker = (struct mr_kafka_maker){.source_name = source->intake.life.name,
                                            .adapter = source->options.adapter,
                                            .content_type = source->options.content_type,
                                            .event_size_max = source->intake.event_size_max};
    return MR_OK;
}

static enum mr_status create_source(const struct mr_source_args *args,
                                    struct mr_source **ret_source, struct mr_problem *problem)
{
    struct mr_source *source = NULL;
    enum mr_status r = mr__intake_create(&shape, args, &source, problem);
    if (r != MR_OK) {
        return r;
    }
    source->wake_fd = -1;
    r = fill_source(source, args, problem);
    if (r != MR_OK) {
        destroy_source(source);
        return r;
    }
    *ret_source = source;
    return MR_OK;
}

const struct mr_source_ops mr__kafka_source_ops = {
    .create = create_source,
    .start = mr__intake_start,
    .pause = mr__intake_pause,
    .resume = mr__intake_resume,
    .stop = mr__intake_stop,
    .destroy = destroy_source,
    .health = mr__intake_health,
    .reindex = mr__intake_reindex,
};
