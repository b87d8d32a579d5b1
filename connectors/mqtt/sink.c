/* MQTT sink: one thread between two queues, hand-outs from the bus and reports from paho.
 *
 * Connected, it publishes what it is handed (never more than the capacity told) and answers each
 * when the broker has it. Not connected, its capacity is 0 and what still arrives is refused. What
 * was with the broker when a connection went, or longer than its deadline, is unknown: `retry`. */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "connectors/backoff.h"
#include "connectors/mqtt/publisher.h"
#include "connectors/outlet.h"
#include "core/alloc.h"
#include "core/assert.h"
#include "core/logger.h"

#define TIMEOUT_DEFAULT_NS (30 * MR_SECOND)
#define OPEN_TIMEOUT_NS (20 * MR_SECOND) /* paho's own is 10 s */
#define STEADY_NS (5 * MR_SECOND)
#define LOOK_MS 1000 /* how often deadlines are looked at */
#define SENT_SIZE_MAX MR_BATCH_SIZE_MAX /* bytes of events with the library; the last may exceed */

struct mr_target {
    struct mr_outlet outlet;
    struct mr_mqtt_sink_options options; /* owned copy */
    enum mr_mode mode;
    char client_id[MR_MQTT_CLIENT_ID_SIZE_MAX];
    struct mr_opq events; /* from paho's callbacks */

    /* The thread's own. */
    struct mr_mqtt_publisher *publisher; /* owned; NULL between connections */
    bool connected;
    uint64_t opened_ns;
    uint64_t open_at_ns;
    uint64_t connects;
    struct mr_backoff backoff;
    struct mr_mqtt_send *sends; /* owned: with the library */
    uint64_t sent_size;         /* of their events */
    struct mr_handout *waiting; /* owned chain, oldest first: for room in the library */
    struct mr_handout *waiting_last;
    uint64_t looked_ns;
};

static void set_health(struct mr_target *target, enum mr_health_state state, const char *error)
{
    char detail[128];
    (void)snprintf(detail, sizeof(detail), "%s %.50s:%u as %.40s",
                   state == MR_HEALTH_OK ? "connected to" : "not connected to",
                   target->options.peer.url->host, mr__mqtt_port(&target->options.peer),
                   target->client_id);
    mr__lifecycle_set_health(&target->outlet.life, state, detail, error);
}

/* --- answers ---------------------------------------------------------------------------------- */

static void unlink_send(struct mr_target *target, struct mr_mqtt_send *send)
{
    if (send->previous != NULL) {
        send->previous->next = send->next;
    } else {
        target->sends = send->next;
    }
    if (send->next != NULL) {
        send->next->previous = send->previous;
    }
}

/* Answers the send's hand-out and frees it. The library must be done with it. */
static void end_send(struct mr_target *target, struct mr_mqtt_send *send, enum mr_verdict verdict,
                     const char *error)
{
    unlink_send(target, send);
    target->sent_size -= send->handout->event->size;
    mr__outlet_answer(&target->outlet, send->handout, verdict, error, send->started_wall_ns);
    mr_free(send);
}

/* --- publishing ------------------------------------------------------------------------------- */

static enum mr_status encode(struct mr_target *target, const struct mr_handout *handout,
                             struct mr_buf *topic, struct mr_message *message,
                             struct mr_problem *problem)
{
    struct mr_bytes record = mr_event_record(handout->event);
    enum mr_status r = mr__mqtt_topic(target->options.topic, record, topic, problem);
    if (r == MR_OK) {
        r = mr_buf_append_byte(topic, '\0');
    }
    if (r == MR_OK) {
        r = mr_mqtt_encode(record, mr__mqtt_version(&target->options.peer), target->mode, message);
    }
    if (r != MR_OK && problem->text[0] == '\0') {
        (void)mr_problem_set(problem, r, "the event cannot be encoded: %s", mr_status_text(r));
    }
    return r;
}

static void hand_over(struct mr_target *target, struct mr_handout *handout, const char *topic,
                      const struct mr_message *message)
{
    struct mr_mqtt_send *send = mr_calloc(1, sizeof(*send));
    if (send == NULL) {
        mr__outlet_answer(&target->outlet, handout, MR_VERDICT_RETRY, "out of memory", 0);
        return;
    }
    uint64_t timeout_ns = handout->timeout_ns == 0 ? TIMEOUT_DEFAULT_NS : handout->timeout_ns;
    send->events = &target->events;
    send->handout = handout;
    send->deadline_ns = mr_clock_mono_ns() + timeout_ns;
    send->started_wall_ns = mr_clock_now().wall_ns;
    send->next = target->sends;
    if (send->next != NULL) {
        send->next->previous = send;
    }
    target->sends = send;
    target->sent_size += handout->event->size;
    int code = mr__mqtt_publisher_send(target->publisher, topic, message, (int)target->options.qos,
                                       target->options.retain, send);
    if (code != 0) {
        end_send(target, send, mr__mqtt_send_verdict(code), mr__mqtt_send_text(code));
    }
}

static void publish(struct mr_target *target, struct mr_handout *handout)
{
    if (!target->connected || mr__lifecycle_is_stopping(&target->outlet.life)) {
        mr__outlet_answer(&target->outlet, handout, MR_VERDICT_REFUSED,
                          target->connected ? "stopped" : "not connected to the broker", 0);
        return;
    }
    struct mr_problem problem = {.text = ""};
    struct mr_message message;
    struct mr_buf topic;
    mr_message_init(&message);
    mr_buf_init(&topic, 65536);
    enum mr_status r = encode(target, handout, &topic, &message, &problem);
    if (r == MR_OK) {
        hand_over(target, handout, (const char *)topic.data, &message);
    } else {
        mr__outlet_answer(&target->outlet, handout,
                          r == MR_E_NOMEM ? MR_VERDICT_RETRY : MR_VERDICT_DEAD, problem.text, 0);
    }
    mr_buf_release(&topic);
    mr_message_release(&message);
}

/* --- the connection --------------------------------------------------------------------------- */

static void take_sent(struct mr_target *target, struct mr_mqtt_send *send)
{
    enum mr_verdict verdict = mr__mqtt_send_verdict(send->code);
    end_send(target, send, verdict,
             verdict == MR_VERDICT_OK ? NULL : mr__mqtt_send_text(send->code));
}

/* Ends the connection. Reports that came before are believed, the rest is unknown. */
static void close_link(struct mr_target *target, enum mr_verdict verdict, const char *error)
{
    if (target->connected) {
        mr__outlet_tell(&target->outlet, false);
    }
    target->connected = false;
    mr__mqtt_publisher_close(target->publisher);
    for (struct mr_op *op; (op = mr_opq_take(&target->events)) != NULL;) {
        while (op != NULL) {
            struct mr_op *next = op->next;
            struct mr_mqtt_send *send = (struct mr_mqtt_send *)(void *)op;
            if (op->type == MR_MQTT_SENT && send->code == 0) {
                take_sent(target, send); /* a failure is no more than "unknown" by now */
            }
            op = next;
        }
    }
    mr__mqtt_publisher_destroy(MR_TAKE(target->publisher)); /* its operations are taken */
    while (target->sends != NULL) {
        end_send(target, target->sends, verdict, error);
    }
}

static void lose_link(struct mr_target *target, const char *error)
{
    char text[200];
    (void)snprintf(text, sizeof(text), "%s", error); /* the publisher's, which goes now */
    uint64_t now_ns = mr_clock_mono_ns();
    if (target->connected && now_ns - target->opened_ns > STEADY_NS) {
        mr__backoff_reset(&target->backoff);
    }
    close_link(target, MR_VERDICT_RETRY, text);
    target->open_at_ns = now_ns + mr__backoff_next(&target->backoff);
    set_health(target, MR_HEALTH_DOWN, text);
    MR_WARN("mqtt", "sink=%s err=\"%s\" retry_ms=%llu", target->outlet.life.name, text,
            (unsigned long long)((target->open_at_ns - now_ns) / MR_MS));
}

static void open_link(struct mr_target *target, uint64_t now_ns)
{
    struct mr_problem problem = {.text = ""};
    target->opened_ns = now_ns;
    if (mr__mqtt_publisher_create(&target->options.peer, target->client_id, &target->events,
                                  &target->publisher, &problem) != MR_OK) {
        lose_link(target, problem.text);
    }
}

static void take_connected(struct mr_target *target)
{
    target->connected = true;
    target->opened_ns = mr_clock_mono_ns();
    set_health(target, MR_HEALTH_OK, NULL);
    if (target->connects++ > 0) {
        mr__lifecycle_count_reconnect(&target->outlet.life);
    }
    MR_INFO("mqtt", "sink=%s connected client=%s", target->outlet.life.name, target->client_id);
    mr__outlet_tell(&target->outlet, true);
}

static bool take_events(struct mr_target *target)
{
    struct mr_op *op = mr_opq_take(&target->events);
    bool any = op != NULL;
    bool lost = false;
    while (op != NULL) {
        struct mr_op *next = op->next; /* the operation may be freed or pushed again */
        if (op->type == MR_MQTT_SENT) {
            take_sent(target, (struct mr_mqtt_send *)(void *)op);
        } else if (op->type == MR_MQTT_CONNECTED) {
            take_connected(target);
        } else {
            lost = true;
        }
        op = next;
    }
    if (lost) {
        lose_link(target, mr__mqtt_publisher_error(target->publisher));
    }
    return any;
}

static void check_deadlines(struct mr_target *target, uint64_t now_ns)
{
    if (target->publisher == NULL || now_ns - target->looked_ns < LOOK_MS * MR_MS) {
        return;
    }
    target->looked_ns = now_ns;
    if (!target->connected && now_ns - target->opened_ns > OPEN_TIMEOUT_NS) {
        lose_link(target, "cannot connect: no answer within 20 s");
        return;
    }
    for (const struct mr_mqtt_send *send = target->sends; send != NULL; send = send->next) {
        if (now_ns > send->deadline_ns) {
            /* paho may still hold it: only a handle that is gone calls back no more. */
            lose_link(target, "no answer from the broker in time");
            return;
        }
    }
}

/* --- the thread ------------------------------------------------------------------------------- */

static int poll_timeout_ms(const struct mr_target *target, uint64_t now_ns)
{
    if (target->publisher == NULL) {
        return target->open_at_ns <= now_ns
                   ? 0
                   : (int)((target->open_at_ns - now_ns + MR_MS - 1) / MR_MS);
    }
    return target->sends == NULL && target->connected ? -1 : LOOK_MS;
}

static bool take_handouts(struct mr_target *target)
{
    struct mr_handout *first = mr__outlet_take(&target->outlet);
    if (first == NULL) {
        return false;
    }
    if (target->waiting == NULL) {
        target->waiting = first;
    } else {
        target->waiting_last->op.next = &first->op;
    }
    target->waiting_last = first;
    while (mr__outlet_next(target->waiting_last) != NULL) {
        target->waiting_last = mr__outlet_next(target->waiting_last);
    }
    return true;
}

/* As many as there is room for; without a connection all are refused. */
static void publish_waiting(struct mr_target *target)
{
    while (target->waiting != NULL && (target->sent_size < SENT_SIZE_MAX || !target->connected ||
                                       mr__lifecycle_is_stopping(&target->outlet.life))) {
        struct mr_handout *handout = target->waiting;
        target->waiting = mr__outlet_next(handout);
        publish(target, handout);
    }
}

static bool is_finished(const struct mr_target *target, uint64_t now_ns)
{
    return mr__lifecycle_is_stopping(&target->outlet.life) &&
           (target->sends == NULL || mr__lifecycle_is_late(&target->outlet.life, now_ns));
}

static void *run(void *context)
{
    struct mr_target *target = context;
    for (;;) {
        bool more = take_events(target);
        more = take_handouts(target) || more;
        uint64_t now_ns = mr_clock_mono_ns();
        check_deadlines(target, now_ns);
        publish_waiting(target);
        mr__outlet_flush(&target->outlet);
        if (is_finished(target, now_ns)) {
            break;
        }
        bool stopping = mr__lifecycle_is_stopping(&target->outlet.life);
        if (target->publisher == NULL && !stopping && now_ns >= target->open_at_ns) {
            open_link(target, now_ns);
        }
        if (more) {
            continue; /* a queue wakes us only after it was seen empty */
        }
        struct pollfd fds[2] = {{.fd = mr_opq_fd(&target->outlet.life.queue), .events = POLLIN},
                                {.fd = mr_opq_fd(&target->events), .events = POLLIN}};
        int timeout_ms = stopping ? 100 : poll_timeout_ms(target, now_ns);
        if (poll(fds, 2, timeout_ms) < 0 && errno != EINTR) {
            MR_ERROR("mqtt", "sink=%s poll: %s", target->outlet.life.name, strerror(errno));
        }
    }
    close_link(target, MR_VERDICT_CRASH, "stopped");
    publish_waiting(target); /* refuses them */
    mr__outlet_flush(&target->outlet);
    set_health(target, MR_HEALTH_DOWN, NULL);
    return NULL;
}

/* --- the connector's calls -------------------------------------------------------------------- */

static_assert(offsetof(struct mr_target, outlet) == 0, "its contract calls stand in the table");
static const struct mr_lifecycle_shape shape =
    MR_LIFECYCLE_SHAPE(struct mr_target, mr_connector_mqtt.sink_kind, run);

static void destroy_target(struct mr_target *target)
{
    if (target == NULL) {
        return;
    }
    MR_ASSERT(target->sends == NULL && target->waiting == NULL);
    mr_opq_release(&target->events);
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
    r = mr_opq_init(&target->events, UINT64_MAX);
    if (r != MR_OK) {
        mr__outlet_release(&target->outlet);
        mr__lifecycle_free(&shape, target);
        return mr_problem_set(problem, r, "no queue for the sink");
    }
    mr__backoff_init(&target->backoff);
    bool structured = target->options.mode == MR_MQTT_MODE_STRUCTURED ||
                      mr__mqtt_version(&target->options.peer) == 4;
    target->mode = structured ? MR_MODE_STRUCTURED : MR_MODE_BINARY;
    char name[MR_NAME_SIZE_MAX + 8]; /* a source of the same name is another client */
    (void)snprintf(name, sizeof(name), "sink:%.64s", args->name);
    mr__mqtt_choose_client_id(&target->options.peer, name, args->folder, target->client_id);
    set_health(target, MR_HEALTH_STARTING, NULL);
    *ret_target = target;
    return MR_OK;
}

const struct mr_target_ops mr__mqtt_sink_ops = {
    .create = create_target,
    .start = mr__outlet_start,
    .submit = mr__outlet_submit,
    .stop = mr__outlet_stop,
    .destroy = destroy_target,
    .health = mr__outlet_health,
    .reindex = mr__outlet_reindex,
};
