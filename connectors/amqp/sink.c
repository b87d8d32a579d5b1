/* AMQP sink: one thread, one connection of its own (a broker short of memory stops reading from
 * those that publish), publisher confirms.
 *
 * A hand-out goes: waiting (taken from the bus, at most the slots told) → published, with the
 * sequence number its confirm will carry → answered: ok when confirmed, dead when the broker gave
 * it back as unroutable (basic.return comes before the confirm), retry when it was refused, when
 * its time is over, or when the connection went first.
 *
 * An error of the channel (a message the broker does not accept) ends it for all that are with the
 * broker and does not say whose it was: several become suspects, which the bus hands out again one
 * at a time (`alone`); the lone one is the one. */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "connectors/amqp/content.h"
#include "connectors/amqp/link.h"
#include "connectors/amqp/publish.h"
#include "connectors/amqp/topology.h"
#include "connectors/backoff.h"
#include "connectors/outlet.h"
#include "core/alloc.h"
#include "core/assert.h"
#include "core/logger.h"

#define TIMEOUT_DEFAULT_NS (30 * MR_SECOND)
#define STEADY_NS (5 * MR_SECOND)
#define LOOK_NS (250 * MR_MS)  /* how often deadlines are looked at */
#define READS_MAX 3000u
#define BURST_SIZE (16u * MR_KIB) /* published before looking whether the socket takes more */

enum {
    NOT_FOUND = 404, /* channel errors */
    PRECONDITION_FAILED = 406,
};

/* A message with the broker, oldest first. */
struct send {
    struct send *next;
    struct send *previous;
    struct mr_handout *handout; /* owned */
    uint64_t number;            /* of its confirm */
    uint64_t deadline_ns;
    uint64_t started_wall_ns;
    char *returned; /* owned; why it was given back, NULL: it was not */
    char key[];     /* routing key */
};

struct mr_target {
    struct mr_outlet outlet;
    struct mr_amqp_sink_options options; /* owned copy */

    /* The thread's own. */
    struct mr_amqp_link link;
    struct mr_amqp_content returned; /* a message being given back */
    struct mr_backoff backoff;
    bool connected;
    bool told; /* capacity told last: whether the slots or 0 */
    uint64_t open_at_ns;
    uint64_t connects;
    uint64_t looked_ns;
    uint64_t number;           /* of the last message published on this channel */
    size_t burst;              /* bytes published since the socket was last looked at */
    bool full;                 /* it took no more then */
    struct mr_op *waiting;     /* owned hand-outs, oldest first */
    struct mr_op **waiting_end;
    struct send *sends;
    struct send *sends_last;
    uint32_t send_count;
};

static void set_health(struct mr_target *target, enum mr_health_state state, const char *error)
{
    char detail[200]; /* cut there */
    const char *exchange = target->options.exchange;
    (void)snprintf(detail, sizeof(detail), "%s %.40s:%u, exchange %.40s%s",
                   target->connected ? "connected to" : "not connected to",
                   target->options.peer.url->host, mr__amqp_port(&target->options.peer),
                   exchange == NULL || exchange[0] == '\0' ? "(default)" : exchange,
                   target->link.blocked ? ", blocked by the broker" : "");
    mr__lifecycle_set_health(&target->outlet.life, state, detail, error);
}

/* --- messages with the broker ----------------------------------------------------------------- */

static void end_send(struct mr_target *target, struct send *send, enum mr_verdict verdict,
                     const char *error)
{
    if (send->previous != NULL) {
        send->previous->next = send->next;
    } else {
        target->sends = send->next;
    }
    if (send->next != NULL) {
        send->next->previous = send->previous;
    } else {
        target->sends_last = send->previous;
    }
    target->send_count--;
    mr__outlet_answer(&target->outlet, send->handout, verdict, error, send->started_wall_ns);
    mr_free(send->returned);
    mr_free(send);
}

static void confirm_send(struct mr_target *target, struct send *send, bool taken)
{
    if (send->returned != NULL) {
        end_send(target, send, MR_VERDICT_DEAD, send->returned);
    } else if (taken) {
        end_send(target, send, MR_VERDICT_OK, NULL);
    } else {
        end_send(target, send, MR_VERDICT_RETRY,
                 "the broker refused the message (basic.nack): a queue is full or not available");
    }
}

/* A number nobody has any more is that of a message whose time was over. */
static void take_confirm(struct mr_target *target, uint64_t number, bool multiple, bool taken)
{
    struct send *send = target->sends;
    while (send != NULL && send->number <= number) {
        struct send *next = send->next;
        if (multiple || send->number == number) {
            confirm_send(target, send, taken);
        }
        send = next;
    }
    if (multiple && number == 0) { /* all there are */
        while (target->sends != NULL) {
            confirm_send(target, target->sends, taken);
        }
    }
}

/* Returns come in the order of publishing, before the confirm of theirs; two messages of one id
 * and key, both with the broker, fare alike. */
static void take_return(struct mr_target *target)
{
    const amqp_basic_return_t *m = target->returned.method.payload.method.decoded;
    for (struct send *send = target->sends; send != NULL; send = send->next) {
        struct mr_bytes id = mr_event_id(mr_event_record(send->handout->event));
        bool same_id = target->returned.id[0] == '\0'
                           ? id.size > MR_AMQP_NAME_SIZE_MAX
                           : mr_bytes_equal(id, mr_bytes_of(target->returned.id));
        if (send->returned == NULL && same_id &&
            mr_bytes_equal(mr_bytes(m->routing_key.bytes, m->routing_key.len),
                           mr_bytes_of(send->key))) {
            char text[MR_ERROR_TEXT_MAX];
            (void)snprintf(text, sizeof(text),
                           "unroutable: %u %.*s: exchange \"%.*s\" has no queue for routing key "
                           "\"%.200s\"", m->reply_code, (int)m->reply_text.len,
                           (const char *)m->reply_text.bytes, (int)m->exchange.len,
                           (const char *)m->exchange.bytes, send->key);
            send->returned = mr_strdup(text);
            if (send->returned == NULL) {
                mr__amqp_link_fail(&target->link, "out of memory");
            }
            return;
        }
    }
}

/* After this the link may be closed. */
static void take_frame(struct mr_target *target, const amqp_frame_t *frame)
{
    amqp_method_number_t id =
        frame->frame_type == AMQP_FRAME_METHOD ? frame->payload.method.id : 0;
    if (id == AMQP_BASIC_ACK_METHOD) {
        const amqp_basic_ack_t *m = frame->payload.method.decoded;
        take_confirm(target, m->delivery_tag, m->multiple != 0, true);
    } else if (id == AMQP_BASIC_NACK_METHOD) {
        const amqp_basic_nack_t *m = frame->payload.method.decoded;
        take_confirm(target, m->delivery_tag, m->multiple != 0, false);
    } else if (id != 0 && id != AMQP_BASIC_RETURN_METHOD) {
        mr__amqp_link_fail(&target->link, "the broker broke the protocol: method %08x", id);
        return;
    } else {
        enum mr_amqp_content_result r = mr__amqp_content_feed(&target->returned, frame);
        if (r == MR_AMQP_CONTENT_BROKEN || r == MR_AMQP_CONTENT_NOMEM) {
            mr__amqp_link_fail(&target->link, "%s",
                               r == MR_AMQP_CONTENT_NOMEM
                                   ? "out of memory"
                                   : "the broker broke the protocol: a frame out of order");
            return;
        }
        if (target->returned.state == MR_AMQP_CONTENT_BODY &&
            target->returned.body_size > MR_BATCH_SIZE_MAX) {
            mr__amqp_link_fail(&target->link, "the broker gave back what it never got");
            return;
        }
        if (r == MR_AMQP_CONTENT_MORE) {
            return; /* its method lies in the library's memory still */
        }
        take_return(target);
        mr__amqp_content_clear(&target->returned);
    }
    if (target->link.conn != NULL && target->returned.state == MR_AMQP_CONTENT_NONE) {
        mr__amqp_link_recycle(&target->link);
    }
}

/* --- publishing ------------------------------------------------------------------------------- */

static void publish_message(struct mr_target *target, struct mr_handout *handout,
                            const struct mr_buf *key, const struct mr_message *message)
{
    struct send *send = mr_calloc(1, sizeof(*send) + key->size + 1);
    if (send == NULL) {
        mr__outlet_answer(&target->outlet, handout, MR_VERDICT_RETRY, "out of memory", 0);
        return;
    }
    uint64_t timeout_ns = handout->timeout_ns == 0 ? TIMEOUT_DEFAULT_NS : handout->timeout_ns;
    if (key->size > 0) {
        memcpy(send->key, key->data, key->size);
    }
    send->handout = handout;
    send->number = ++target->number;
    send->deadline_ns = mr_clock_mono_ns() + timeout_ns;
    send->started_wall_ns = mr_clock_now().wall_ns;
    send->previous = target->sends_last;
    if (send->previous != NULL) {
        send->previous->next = send;
    } else {
        target->sends = send;
    }
    target->sends_last = send;
    target->send_count++;
    target->burst += message->body.size + message->text.size;
    (void)!mr__amqp_publish(&target->link, &target->options, mr_event_record(handout->event),
                            send->key, message); /* else closed: it is answered there */
}

static void publish(struct mr_target *target, struct mr_handout *handout)
{
    struct mr_problem problem = {.text = ""};
    struct mr_message message;
    struct mr_buf key;
    mr_message_init(&message);
    mr_buf_init(&key, 4 * MR_AMQP_NAME_SIZE_MAX);
    enum mr_status r = mr__amqp_encode(&target->link, &target->options,
                                       mr_event_record(handout->event), &key, &message, &problem);
    if (r == MR_OK) {
        publish_message(target, handout, &key, &message);
    } else {
        mr__outlet_answer(&target->outlet, handout,
                          r == MR_E_NOMEM ? MR_VERDICT_RETRY : MR_VERDICT_DEAD, problem.text, 0);
    }
    mr_buf_release(&key);
    mr_message_release(&message);
}

/* Whether the socket takes more now and nothing lies there to be read first: a broker that takes no
 * more messages says so before it stops reading. */
static bool may_publish(struct mr_target *target)
{
    if (!target->connected || target->link.blocked) {
        return false;
    }
    if (target->burst < BURST_SIZE && !target->full) {
        return true;
    }
    struct pollfd fd = {.fd = target->link.fd, .events = POLLIN | POLLOUT};
    target->full = poll(&fd, 1, 0) != 1 || (fd.revents & POLLOUT) == 0;
    if (target->full || (fd.revents & POLLIN) != 0) {
        return false;
    }
    target->burst = 0;
    return true;
}

/* @return whether some wait that could go at once after reading */
static bool publish_waiting(struct mr_target *target)
{
    while (target->waiting != NULL && may_publish(target)) {
        struct mr_handout *handout = (struct mr_handout *)(void *)target->waiting;
        bool lone = target->send_count == 1 && target->sends->handout->alone;
        if (lone || (handout->alone && target->send_count > 0)) {
            return false; /* a suspect is with the broker all by itself */
        }
        target->waiting = handout->op.next;
        if (target->waiting == NULL) {
            target->waiting_end = &target->waiting;
        }
        publish(target, handout);
        if (target->link.conn == NULL) {
            return false;
        }
    }
    return target->waiting != NULL && target->connected && !target->link.blocked && !target->full;
}

/* --- the connection --------------------------------------------------------------------------- */

static void tell_capacity(struct mr_target *target)
{
    bool open = target->connected && !target->link.blocked;
    if (open != target->told) {
        target->told = open;
        mr__outlet_tell(&target->outlet, open);
        set_health(target, open ? MR_HEALTH_OK : MR_HEALTH_DOWN,
                   target->connected && !open ? "the broker takes no messages: it is short of "
                                                "memory or disk"
                                              : NULL);
    }
}

static void refuse_waiting(struct mr_target *target, const char *error)
{
    struct mr_handout *h = (struct mr_handout *)(void *)MR_TAKE(target->waiting);
    target->waiting_end = &target->waiting;
    while (h != NULL) {
        struct mr_handout *next = mr__outlet_next(h);
        mr__outlet_answer(&target->outlet, h, MR_VERDICT_REFUSED, error, 0);
        h = next;
    }
}

/* What was with the broker when the channel or connection went. */
static void answer_lost(struct mr_target *target, enum mr_verdict verdict, const char *error)
{
    uint16_t code = target->link.close_code;
    uint32_t count = target->send_count;
    bool guilty = code != 0 && code != NOT_FOUND; /* one of them; without exchange: none */
    while (target->sends != NULL) {
        struct send *send = target->sends;
        if (send->returned != NULL) {
            end_send(target, send, MR_VERDICT_DEAD, send->returned);
        } else if (guilty && count > 1) {
            send->handout->answer.suspects = count;
            end_send(target, send, MR_VERDICT_CRASH, error);
        } else if (guilty && code == PRECONDITION_FAILED) {
            end_send(target, send, MR_VERDICT_DEAD, error);
        } else {
            end_send(target, send, verdict, error);
        }
    }
}

/* The link is closed. */
static void forget_link(struct mr_target *target, uint64_t now_ns)
{
    MR_ASSERT(target->link.conn == NULL);
    target->connected = false;
    target->full = false;
    target->burst = 0;
    mr__amqp_content_clear(&target->returned);
    answer_lost(target, MR_VERDICT_RETRY, target->link.error);
    refuse_waiting(target, "not connected to the broker");
    if (now_ns - target->link.opened_ns > STEADY_NS) {
        mr__backoff_reset(&target->backoff);
    }
    target->open_at_ns = now_ns + mr__backoff_next(&target->backoff);
    tell_capacity(target);
    set_health(target, MR_HEALTH_DOWN, target->link.error);
    MR_WARN("amqp", "sink=%s err=\"%s\" retry_ms=%llu", target->outlet.life.name,
            target->link.error, (unsigned long long)((target->open_at_ns - now_ns) / MR_MS));
}

static void open_link(struct mr_target *target)
{
    if (!mr__amqp_link_open(&target->link) ||
        !mr__amqp_confirm(&target->link, &target->options)) {
        forget_link(target, mr_clock_mono_ns());
        return;
    }
    target->connected = true;
    target->number = 0;
    if (target->connects++ > 0) {
        mr__lifecycle_count_reconnect(&target->outlet.life);
    }
    MR_INFO("amqp", "sink=%s connected", target->outlet.life.name);
}

static bool read_frames(struct mr_target *target)
{
    amqp_frame_t frame;
    for (uint32_t i = 0; i < READS_MAX && target->link.conn != NULL; i++) {
        if (mr__amqp_link_read(&target->link, &frame) != 1) {
            return false;
        }
        take_frame(target, &frame);
    }
    return true;
}

static void check_deadlines(struct mr_target *target, uint64_t now_ns)
{
    if (now_ns - target->looked_ns < LOOK_NS) {
        return;
    }
    target->looked_ns = now_ns;
    for (struct send *send = target->sends; send != NULL;) {
        struct send *next = send->next;
        if (now_ns > send->deadline_ns) {
            end_send(target, send, MR_VERDICT_RETRY,
                     target->link.blocked ? "not confirmed in time: the broker is short of memory "
                                            "or disk"
                                          : "not confirmed by the broker in time");
        }
        send = next;
    }
    if (target->link.blocked) {
        refuse_waiting(target, "the broker takes no messages: it is short of memory or disk");
    }
}

static void step_link(struct mr_target *target, uint64_t now_ns, bool *ret_more)
{
    bool stopping = mr__lifecycle_is_stopping(&target->outlet.life);
    if (target->link.conn == NULL && !stopping && now_ns >= target->open_at_ns) {
        open_link(target);
    }
    if (target->link.conn != NULL) {
        *ret_more = read_frames(target);
    }
    if (target->link.conn != NULL) {
        *ret_more = publish_waiting(target) || *ret_more;
    }
    if (target->link.conn == NULL && target->connected) {
        forget_link(target, mr_clock_mono_ns());
    }
    tell_capacity(target);
}

/* --- the thread ------------------------------------------------------------------------------- */

static void take_handouts(struct mr_target *target)
{
    struct mr_handout *first;
    while ((first = mr__outlet_take(&target->outlet)) != NULL) { /* until empty: then it wakes us */
        *target->waiting_end = &first->op;
        while (*target->waiting_end != NULL) {
            target->waiting_end = &(*target->waiting_end)->next;
        }
    }
    if (mr__lifecycle_is_stopping(&target->outlet.life)) {
        refuse_waiting(target, "stopped");
    } else if (!target->connected) {
        refuse_waiting(target, "not connected to the broker");
    }
}

static int poll_timeout_ms(const struct mr_target *target, uint64_t now_ns, bool more)
{
    if (more) {
        return 0;
    }
    if (target->link.conn == NULL) {
        uint64_t wait_ns = target->open_at_ns > now_ns ? target->open_at_ns - now_ns : 0;
        bool stopping = mr__lifecycle_is_stopping(&target->outlet.life);
        return stopping || wait_ns > MR_SECOND ? 1000 : (int)((wait_ns + MR_MS - 1) / MR_MS);
    }
    int beat_ms = mr__amqp_link_timeout_ms(&target->link);
    bool waits = target->sends != NULL || mr__lifecycle_is_stopping(&target->outlet.life);
    return waits && beat_ms > 100 ? 100 : beat_ms;
}

static void *run(void *context)
{
    struct mr_target *target = context;
    for (;;) {
        uint64_t now_ns = mr_clock_mono_ns();
        bool more = false;
        take_handouts(target);
        step_link(target, now_ns, &more);
        check_deadlines(target, now_ns);
        mr__outlet_flush(&target->outlet);
        if (mr__lifecycle_is_stopping(&target->outlet.life) &&
            (target->sends == NULL || mr__lifecycle_is_late(&target->outlet.life, now_ns))) {
            break;
        }
        struct pollfd fds[2] = {
            {.fd = mr_opq_fd(&target->outlet.life.queue), .events = POLLIN},
            {.fd = target->link.fd, .events = (short)(target->full ? POLLIN | POLLOUT : POLLIN)},
        };
        if (poll(fds, 2, poll_timeout_ms(target, now_ns, more)) < 0 && errno != EINTR) {
            MR_ERROR("amqp", "sink=%s poll: %s", target->outlet.life.name, strerror(errno));
        }
    }
    bool polite = target->sends == NULL;
    target->link.close_code = 0;
    answer_lost(target, MR_VERDICT_CRASH, "stopped");
    refuse_waiting(target, "stopped");
    mr__outlet_flush(&target->outlet);
    mr__amqp_link_close(&target->link, polite && !target->link.blocked);
    target->connected = false;
    set_health(target, MR_HEALTH_DOWN, NULL);
    mr__amqp_link_over(&target->link);
    return NULL;
}

/* --- the connector's calls -------------------------------------------------------------------- */

static_assert(offsetof(struct mr_target, outlet) == 0, "its contract calls stand in the table");
static const struct mr_lifecycle_shape shape =
    MR_LIFECYCLE_SHAPE(struct mr_target, mr_connector_amqp.sink_kind, run);

static void destroy_target(struct mr_target *target)
{
    if (target == NULL) {
        return;
    }
    MR_ASSERT(target->sends == NULL && target->waiting == NULL);
    mr__amqp_content_release(&target->returned);
    mr__amqp_link_release(&target->link);
    mr__outlet_release(&target->outlet);
    mr__lifecycle_free(&shape, target);
}

static enum mr_status create_target(const struct mr_target_args *args,
                                    struct mr_target **ret_target, struct mr_problem *problem)
{
    struct mr_target *target = NULL;
    enum mr_status r = mr__outlet_create(&shape, args, &target, problem);
    if (r != MR_OK) {
        return r;
    }
    r = mr__amqp_link_init(&target->link, &target->options.peer, "sink", args->name, problem);
    if (r != MR_OK) {
        mr__outlet_release(&target->outlet);
        mr__lifecycle_free(&shape, target);
        return r;
    }
    mr__backoff_init(&target->backoff);
    mr__amqp_content_init(&target->returned, 0, 0); /* nobody looks at the body */
    target->waiting_end = &target->waiting;
    *ret_target = target;
    return MR_OK;
}

static void stop_target(struct mr_target *target, uint64_t deadline_mono_ns)
{
    if (target->outlet.life.started) {
        mr__outlet_tell_stop(target, deadline_mono_ns);
        mr__amqp_link_await(&target->link, deadline_mono_ns);
        mr__outlet_stop(target, deadline_mono_ns);
    }
}

const struct mr_target_ops mr__amqp_sink_ops = {
    .create = create_target,
    .start = mr__outlet_start,
    .submit = mr__outlet_submit,
    .stop = stop_target,
    .destroy = destroy_target,
    .health = mr__outlet_health,
    .reindex = mr__outlet_reindex,
};
