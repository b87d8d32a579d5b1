/* AMQP source: one thread, one connection, batches to the bus, acknowledgements when durable.
 *
 * 1. Read messages into the batch being filled, until the socket is empty or the batch full.
 * 2. Submit it when none is with the bus; one at a time, so that what came back durable is always
 *    all up to some delivery tag: one basic.ack(multiple) acknowledges it.
 * 3. While the bus has one and the next is full, or log or disk is short, the socket is not read:
 *    the prefetch and the kernel's buffers hold the rest at the broker. Heartbeats go out all the
 *    same.
 *
 * Leaving (pause, stop, a log that is short for long): cancel the consumer, drop unread what still
 * comes, wait for the batch that is out, acknowledge it, wait QUIET_NS (a quorum queue forgets an
 * ack that comes right before the close), close. The broker puts everything not acknowledged back
 * in its place. */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "connectors/amqp/link.h"
#include "connectors/amqp/message.h"
#include "connectors/amqp/topology.h"
#include "connectors/backoff.h"
#include "connectors/intake.h"
#include "core/assert.h"
#include "core/logger.h"

#define BATCH_COUNT 500u
#define BATCH_SIZE (2u * MR_MIB)
#define MESSAGE_SIZE_MAX MR_BATCH_SIZE_MAX /* of a body: a batch of events, in JSON */
#define READS_MAX 3000u              /* frames per pass, so that replies are not left lying */
#define STEADY_NS (5 * MR_SECOND)    /* a connection that lived so long ends the backoff */
#define WAITING_NS (5 * MR_SECOND)   /* how often the length of the queue is asked for */
#define QUIET_NS (300 * MR_MS)
#define LEAVE_NS (5 * MR_SECOND)     /* a broker that does not answer is left without goodbye */
#define SHORT_NS (60 * MR_SECOND)    /* what is delivered is given back then, for others to take */

enum phase {
    DOWN = 0,
    CONSUMING,
    LEAVING,
};

struct mr_source {
    struct mr_intake intake;
    struct mr_amqp_source_options options; /* owned copy */

    /* The thread's own. */
    struct mr_amqp_link link;
    struct mr_amqp_content content;
    struct mr_amqp_maker maker;
    struct mr_backoff backoff;
    enum phase phase;
    uint64_t open_at_ns;
    uint64_t connects;
    uint64_t wanted_ns;  /* when reading was last wanted */
    uint64_t asked_ns;   /* when the length of the queue was last asked for */
    uint64_t leave_by_ns;
    bool cancelled;      /* basic.cancel-ok came: nothing is delivered any more */
    bool more;           /* reading stopped before the socket was empty */
    struct mr_batch *filling; /* owned; NULL when empty */
    uint64_t epoch;      /* of the connection: tags are its own */
    uint64_t out_epoch;  /* of the batch with the bus */
    uint64_t out_tag;    /* its last one */
    uint64_t read_tag;   /* last one whose events are in `filling` or beyond */
    uint64_t acked_tag;
    uint64_t acked_ns;
};

static void set_health(struct mr_source *source, enum mr_health_state state, const char *error)
{
    char detail[200]; /* cut there */
    (void)snprintf(detail, sizeof(detail), "%s %.40s:%u, queue %.50s",
                   source->phase == DOWN ? "not connected to" : "connected to",
                   source->options.peer.url->host, mr__amqp_port(&source->options.peer),
                   source->options.queue);
    mr__lifecycle_set_health(&source->intake.life, state, detail, error);
}

/* --- the connection goes ---------------------------------------------------------------------- */

/* The link is closed. What was read and is not durable comes again. */
static void forget_link(struct mr_source *source, uint64_t now_ns)
{
    MR_ASSERT(source->link.conn == NULL);
    source->phase = DOWN;
    source->epoch++;
    source->more = false;
    source->read_tag = 0;
    source->acked_tag = 0;
    mr_batch_destroy(MR_TAKE(source->filling));
    mr__intake_forget(&source->intake);
    mr__amqp_content_clear(&source->content);
    if (source->link.error[0] == '\0') { /* we wanted it */
        source->open_at_ns = now_ns;
        set_health(source, MR_HEALTH_DOWN, NULL);
        return;
    }
    if (now_ns - source->link.opened_ns > STEADY_NS) {
        mr__backoff_reset(&source->backoff);
    }
    source->open_at_ns = now_ns + mr__backoff_next(&source->backoff);
    set_health(source, MR_HEALTH_DOWN, source->link.error);
    MR_WARN("amqp", "source=%s err=\"%s\" retry_ms=%llu", source->intake.life.name,
            source->link.error, (unsigned long long)((source->open_at_ns - now_ns) / MR_MS));
}

/* --- acknowledging ---------------------------------------------------------------------------- */

/* All up to @p tag. @return false: the link is closed */
static bool acknowledge(struct mr_source *source, uint64_t tag, uint64_t now_ns)
{
    amqp_basic_ack_t ack = {.delivery_tag = tag, .multiple = 1};
    if (tag <= source->acked_tag) {
        return true;
    }
    source->acked_tag = tag;
    source->acked_ns = now_ns;
    return mr__amqp_link_send(&source->link, AMQP_BASIC_ACK_METHOD, &ack);
}

static void on_durable(void *context, struct mr_batch *batch)
{
    struct mr_source *source = context;
    uint64_t now_ns = mr_clock_mono_ns();
    (void)batch;
    if (source->phase == DOWN || source->out_epoch != source->epoch) {
        return; /* the broker gives them again: a repetition, not a loss */
    }
    if (!acknowledge(source, source->out_tag, now_ns)) {
        forget_link(source, now_ns);
    } else if (source->intake.life.health.state == MR_HEALTH_DEGRADED) { /* written by us only */
        set_health(source, MR_HEALTH_OK, NULL);
    }
}

static void submit_filling(struct mr_source *source, uint64_t now_ns)
{
    if (source->phase == DOWN || mr__intake_is_out(&source->intake)) {
        return;
    }
    if (source->filling != NULL && source->filling->count > 0) {
        source->out_epoch = source->epoch;
        source->out_tag = source->read_tag;
        mr__intake_submit(&source->intake, MR_TAKE(source->filling));
    } else if (!acknowledge(source, source->read_tag, now_ns)) { /* messages without events */
        forget_link(source, now_ns);
    }
}

/* --- messages --------------------------------------------------------------------------------- */

static void take_message(struct mr_source *source)
{
    struct mr_amqp_content *content = &source->content;
    if (source->filling == NULL) {
        source->filling = mr__intake_batch(&source->intake, BATCH_COUNT);
    }
    enum mr_status r = source->filling == NULL
                           ? MR_E_NOMEM
                           : mr__amqp_add(&source->maker, content, source->filling);
    if (r == MR_E_UNSUPPORTED) {
        mr__amqp_link_fail(&source->link,
                           "queue %s is a stream; what a stream delivers is not given again, so "
                           "it cannot be taken safely", source->options.queue);
        return;
    }
    if (r != MR_OK) {
        mr__amqp_link_fail(&source->link, "out of memory");
        return;
    }
    source->read_tag = content->tag;
    atomic_fetch_add_explicit(&source->intake.life.messages, 1, memory_order_relaxed);
    mr__amqp_content_clear(content);
    mr__amqp_link_recycle(&source->link);
}

static void take_content(struct mr_source *source, const amqp_frame_t *frame)
{
    switch (mr__amqp_content_feed(&source->content, frame)) {
    case MR_AMQP_CONTENT_MORE:
        if (source->content.too_big && source->content.state == MR_AMQP_CONTENT_BODY) {
            mr__amqp_link_recycle(&source->link); /* nothing of it is looked at any more */
        }
        break;
    case MR_AMQP_CONTENT_WHOLE:
        take_message(source);
        break;
    case MR_AMQP_CONTENT_BROKEN:
        mr__amqp_link_fail(&source->link, "the broker broke the protocol: a frame out of order");
        break;
    case MR_AMQP_CONTENT_NOMEM:
        mr__amqp_link_fail(&source->link, "out of memory");
        break;
    }
}

/* After this the link may be closed. */
static void take_frame(struct mr_source *source, const amqp_frame_t *frame)
{
    amqp_method_number_t id =
        frame->frame_type == AMQP_FRAME_METHOD ? frame->payload.method.id : 0;
    if (id == AMQP_BASIC_CANCEL_METHOD) {
        mr__amqp_link_fail(&source->link,
                           "the broker cancelled the consumer: queue %s was deleted, or is not "
                           "available", source->options.queue);
    } else if (id == AMQP_QUEUE_DECLARE_OK_METHOD) {
        const amqp_queue_declare_ok_t *m = frame->payload.method.decoded;
        mr__lifecycle_set_lag(&source->intake.life, m->message_count);
    } else if (id == AMQP_BASIC_CANCEL_OK_METHOD) {
        source->cancelled = true;
    } else if (source->phase == LEAVING) {
        mr__amqp_link_recycle(&source->link); /* goes back to the queue with the close */
    } else if (id != 0 && id != AMQP_BASIC_DELIVER_METHOD) {
        mr__amqp_link_fail(&source->link, "the broker broke the protocol: method %08x", id);
    } else {
        take_content(source, frame);
    }
}

static bool may_read(const struct mr_source *source)
{
    if (source->phase == LEAVING) {
        return true;
    }
    return source->phase == CONSUMING && mr__intake_wants(&source->intake) &&
           (source->filling == NULL ||
            (source->filling->count < BATCH_COUNT && source->filling->size < BATCH_SIZE));
}

static void read_messages(struct mr_source *source)
{
    amqp_frame_t frame;
    source->more = true;
    for (uint32_t i = 0; i < READS_MAX && may_read(source); i++) {
        int got = mr__amqp_link_read(&source->link, &frame);
        if (got == 0) {
            source->more = false;
        }
        if (got != 1) {
            break;
        }
        take_frame(source, &frame);
        if (source->link.conn == NULL) {
            break;
        }
    }
}

/* --- phases ----------------------------------------------------------------------------------- */

static void open_link(struct mr_source *source)
{
    uint64_t waiting = 0;
    source->cancelled = false;
    if (!mr__amqp_link_open(&source->link) ||
        !mr__amqp_consume(&source->link, &source->options, &waiting)) {
        forget_link(source, mr_clock_mono_ns());
        return;
    }
    source->phase = CONSUMING;
    source->more = true;
    source->wanted_ns = mr_clock_mono_ns();
    source->asked_ns = source->wanted_ns;
    mr__lifecycle_set_lag(&source->intake.life, waiting);
    set_health(source, MR_HEALTH_OK, NULL);
    if (source->connects++ > 0) {
        mr__lifecycle_count_reconnect(&source->intake.life);
    }
    MR_INFO("amqp", "source=%s consuming queue=%s waiting=%llu", source->intake.life.name,
            source->options.queue, (unsigned long long)waiting);
}

static void begin_leaving(struct mr_source *source, uint64_t now_ns)
{
    amqp_basic_cancel_t cancel = {.consumer_tag = amqp_cstring_bytes(MR_AMQP_CONSUMER_TAG)};
    source->phase = LEAVING;
    source->leave_by_ns = now_ns + LEAVE_NS;
    mr__amqp_content_clear(&source->content);
    (void)!mr__amqp_link_send(&source->link, AMQP_BASIC_CANCEL_METHOD, &cancel); /* else closed */
}

static void go_on_leaving(struct mr_source *source, uint64_t now_ns)
{
    bool late = now_ns >= source->leave_by_ns;
    bool back = !mr__intake_is_out(&source->intake) && source->acked_tag == source->read_tag;
    if (source->intake.submitted > 0 || (!late && !(back && source->cancelled))) {
        return;
    }
    if (source->cancelled && now_ns - source->acked_ns < QUIET_NS) {
        return;
    }
    source->link.error[0] = '\0';
    mr__amqp_link_close(&source->link, source->cancelled);
    forget_link(source, now_ns);
}

static void ask_waiting(struct mr_source *source, uint64_t now_ns)
{
    if (now_ns - source->asked_ns < WAITING_NS) {
        return;
    }
    amqp_queue_declare_t ask = {.queue = amqp_cstring_bytes(source->options.queue), .passive = 1};
    source->asked_ns = now_ns;
    (void)!mr__amqp_link_send(&source->link, AMQP_QUEUE_DECLARE_METHOD, &ask); /* else closed */
}

static bool wants_to_leave(const struct mr_source *source, uint64_t now_ns)
{
    return mr__lifecycle_is_stopping(&source->intake.life) ||
           atomic_load_explicit(&source->intake.paused, memory_order_acquire) ||
           now_ns - source->wanted_ns > SHORT_NS;
}

static void step_link(struct mr_source *source)
{
    uint64_t now_ns = mr_clock_mono_ns();
    if (mr__intake_wants(&source->intake)) {
        source->wanted_ns = now_ns;
    }
    if (source->phase == DOWN) {
        if (mr__intake_wants(&source->intake) && now_ns >= source->open_at_ns) {
            open_link(source);
        }
        return;
    }
    if (source->phase == CONSUMING && wants_to_leave(source, now_ns)) {
        begin_leaving(source, now_ns);
    }
    if (source->link.conn != NULL) {
        if (!may_read(source)) {
            (void)!mr__amqp_link_beat(&source->link, now_ns); /* else closed */
        } else {
            read_messages(source); /* without a frame, too: it looks after the heartbeats */
        }
    }
    if (source->link.conn != NULL && source->phase == CONSUMING) {
        ask_waiting(source, now_ns);
    }
    if (source->link.conn == NULL) {
        forget_link(source, now_ns);
    } else if (source->phase == LEAVING) {
        go_on_leaving(source, now_ns);
    }
}

/* --- the thread ------------------------------------------------------------------------------- */

static int poll_timeout_ms(const struct mr_source *source, uint64_t now_ns)
{
    int max_ms = 1000;
    if (source->phase == LEAVING) {
        max_ms = source->more ? 0 : 50; /* QUIET_NS has no wake-up of its own */
    } else if (source->phase == CONSUMING) {
        max_ms = source->more && may_read(source) ? 0 : mr__amqp_link_timeout_ms(&source->link);
    } else if (mr__intake_wants(&source->intake)) {
        uint64_t wait_ns = source->open_at_ns > now_ns ? source->open_at_ns - now_ns : 0;
        max_ms = wait_ns > MR_SECOND ? 1000 : (int)((wait_ns + MR_MS - 1) / MR_MS);
    }
    return mr__intake_timeout_ms(&source->intake, now_ns, max_ms);
}

static bool is_finished(struct mr_source *source, uint64_t now_ns)
{
    if (!mr__intake_is_finished(&source->intake, now_ns)) {
        return false;
    }
    return source->phase == DOWN || mr__lifecycle_is_late(&source->intake.life, now_ns);
}

static void *run(void *context)
{
    struct mr_source *source = context;
    for (;;) {
        uint64_t now_ns = mr_clock_mono_ns();
        mr__intake_take(&source->intake, now_ns, on_durable, source);
        if (source->intake.refused != NULL && source->out_epoch != source->epoch) {
            mr__intake_forget(&source->intake); /* of a connection that is gone: it comes again */
        }
        if (is_finished(source, now_ns)) {
            break;
        }
        mr__intake_resubmit(&source->intake, now_ns);
        submit_filling(source, now_ns);
        atomic_store_explicit(&source->intake.life.bytes_held,
                              (source->filling == NULL ? 0 : source->filling->size) +
                                  source->content.buf.capacity,
                              memory_order_relaxed);
        struct pollfd fds[2] = {
            {.fd = mr_opq_fd(&source->intake.life.queue), .events = POLLIN},
            {.fd = source->phase != DOWN && may_read(source) ? source->link.fd : -1,
             .events = POLLIN},
        };
        if (poll(fds, 2, poll_timeout_ms(source, now_ns)) < 0 && errno != EINTR) {
            MR_ERROR("amqp", "source=%s poll: %s", source->intake.life.name, strerror(errno));
        }
        step_link(source);
        submit_filling(source, mr_clock_mono_ns());
    }
    source->link.error[0] = '\0';
    mr__amqp_link_close(&source->link, false); /* open only when the deadline is over */
    forget_link(source, mr_clock_mono_ns());
    mr__amqp_link_over(&source->link);
    return NULL;
}

/* --- the connector's calls -------------------------------------------------------------------- */

static_assert(offsetof(struct mr_source, intake) == 0, "its contract calls stand in the table");
static const struct mr_lifecycle_shape shape =
    MR_LIFECYCLE_SHAPE(struct mr_source, mr_connector_amqp.source_kind, run);

static void destroy_source(struct mr_source *source)
{
    if (source == NULL || !mr__intake_release(&source->intake)) {
        return;
    }
    mr_batch_destroy(source->filling);
    mr__amqp_content_release(&source->content);
    mr__amqp_link_release(&source->link);
    mr__lifecycle_free(&shape, source);
}

static enum mr_status create_source(const struct mr_source_args *args,
                                    struct mr_source **ret_source, struct mr_problem *problem)
{
    struct mr_source *source = NULL;
    enum mr_status r = mr__intake_create(&shape, args, &source, problem);
    if (r != MR_OK) {
        return r;
    }
    r = mr__amqp_link_init(&source->link, &source->options.peer, "source", args->name, problem);
    if (r != MR_OK) {
        (void)!mr__intake_release(&source->intake);
        mr__lifecycle_free(&shape, source);
        return r;
    }
    mr__backoff_init(&source->backoff);
    mr__amqp_content_init(&source->content, MESSAGE_SIZE_MAX, source->intake.event_size_max);
    source->maker = (struct mr_amqp_maker){
        .source_name = source->intake.life.name,
        .queue = source->options.queue,
        .event_size_max = source->intake.event_size_max,
        .adapter = source->options.adapter,
        .boot = mr_rng_entropy(),
    };
    source->epoch = 1;
    *ret_source = source;
    return MR_OK;
}

static void stop_source(struct mr_source *source, uint64_t deadline_mono_ns)
{
    if (source->intake.life.started) {
        mr__intake_tell_stop(source, deadline_mono_ns);
        mr__amqp_link_await(&source->link, deadline_mono_ns);
        mr__intake_stop(source, deadline_mono_ns);
    }
}

const struct mr_source_ops mr__amqp_source_ops = {
    .create = create_source,
    .start = mr__intake_start,
    .pause = mr__intake_pause,
    .resume = mr__intake_resume,
    .stop = stop_source,
    .destroy = destroy_source,
    .health = mr__intake_health,
    .reindex = mr__intake_reindex,
};
