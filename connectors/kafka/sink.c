/* Kafka sink: one thread, one idempotent producer; a record's delivery report is its verdict.
 *
 * Hand-outs become records at once, never more than the capacity told, and wait in the client's
 * queue (bounded by `buffer`), which groups them. While no broker answers, the capacity is 0 and
 * what still comes is refused; what was in the client's queue by then keeps trying until the
 * sink's timeout, and is refused, not failed, when it never left. */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "connectors/backoff.h"
#include "connectors/kafka/kafka.h"
#include "connectors/outlet.h"
#include "core/assert.h"
#include "core/logger.h"
#include "schemas/binding.h"
#include "schemas/template.h"

#define SLOTS_DEFAULT 4000u /* many ride in one request: the more wait, the fewer requests */
#define TIMEOUT_DEFAULT_NS (30 * MR_SECOND)
#define PROBE_NS (1 * MR_SECOND)
#define PURGE_NS (2 * MR_SECOND)
#define WAIT_MS 1000
#define KEY_SIZE_MAX (64u * MR_KIB)

struct mr_target {
    struct mr_outlet outlet;
    struct mr_kafka_sink_options options; /* owned copy */
    uint64_t timeout_ns;
    char brokers[80];
    int wake_fd; /* owned eventfd: the client has something */

    /* The thread's own. */
    rd_kafka_t *rk;          /* owned; NULL between two tries */
    rd_kafka_queue_t *queue; /* owned, with rk */
    struct mr_backoff backoff;
    uint64_t open_at_ns;
    uint64_t probe_at_ns;
    bool connected;
    bool broken;   /* the client had a fatal error */
    uint64_t connects;
    struct mr_handout *waiting; /* owned: found the client's queue full */
    struct mr_handout *sent;    /* owned: with the client; context points back */
    uint32_t sent_count;
    struct mr_buf topic; /* of the record being made */
    struct mr_buf key;
};

static void show(struct mr_target *target, const char *error)
{
    char detail[128];
    bool up = target->connected;
    (void)snprintf(detail, sizeof(detail), "%s %s", up ? "connected to" : "not connected to",
                   target->brokers);
    bool fresh = error == NULL && target->outlet.life.health.last_error[0] == '\0';
    mr__lifecycle_set_health(&target->outlet.life,
                             up      ? MR_HEALTH_OK
                             : fresh ? MR_HEALTH_STARTING
                                     : MR_HEALTH_DOWN,
                             detail, error);
}

/* --- with the client -------------------------------------------------------------------------- */

/* The list of what is sent runs through op.next; back through context. */
static void link_sent(struct mr_target *target, struct mr_handout *handout)
{
    handout->context = NULL;
    handout->op.next = target->sent == NULL ? NULL : &target->sent->op;
    if (target->sent != NULL) {
        target->sent->context = handout;
    }
    target->sent = handout;
    target->sent_count++;
}

static void unlink_sent(struct mr_target *target, struct mr_handout *handout)
{
    struct mr_handout *previous = handout->context;
    struct mr_handout *next = mr__outlet_next(handout);
    if (previous == NULL) {
        target->sent = next;
    } else {
        previous->op.next = handout->op.next;
    }
    if (next != NULL) {
        next->context = previous;
    }
    handout->context = NULL;
    handout->op.next = NULL;
    MR_ASSERT(target->sent_count > 0);
    target->sent_count--;
}

/* What an error says of this one record. */
static enum mr_verdict verdict_of(rd_kafka_resp_err_t error, bool left)
{
    switch ((int)error) {
    case RD_KAFKA_RESP_ERR_NO_ERROR:
        return MR_VERDICT_OK;
    /* No later attempt can do better. */
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_INVALID_MSG:
    case RD_KAFKA_RESP_ERR_INVALID_RECORD:
    case RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP:
    case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
    case RD_KAFKA_RESP_ERR_POLICY_VIOLATION:
    case RD_KAFKA_RESP_ERR__INVALID_ARG:
        return MR_VERDICT_DEAD;
    case RD_KAFKA_RESP_ERR__PURGE_QUEUE:
        return MR_VERDICT_REFUSED;
    case RD_KAFKA_RESP_ERR__MSG_TIMED_OUT:
        return left ? MR_VERDICT_RETRY : MR_VERDICT_REFUSED;
    default: /* also what an operator must mend: an unknown topic, a missing right */
        return MR_VERDICT_RETRY;
    }
}

static void end_sent(struct mr_target *target, struct mr_handout *handout,
                     rd_kafka_resp_err_t error, const char *text, bool left)
{
    uint64_t started_wall_ns = handout->answer.started_wall_ns;
    enum mr_verdict verdict = verdict_of(error, left);
    bool stopped =
        mr__lifecycle_is_stopping(&target->outlet.life) &&
        (error == RD_KAFKA_RESP_ERR__PURGE_QUEUE || error == RD_KAFKA_RESP_ERR__PURGE_INFLIGHT);
    if (stopped) {
        text = "stopped";
        verdict = error == RD_KAFKA_RESP_ERR__PURGE_QUEUE ? MR_VERDICT_REFUSED : MR_VERDICT_CRASH;
    }
    unlink_sent(target, handout);
    mr__outlet_answer(&target->outlet, handout, verdict, verdict == MR_VERDICT_OK ? NULL : text,
                      verdict == MR_VERDICT_REFUSED ? 0 : started_wall_ns);
    if (verdict != MR_VERDICT_OK && !stopped) {
        show(target, text);
    }
}

/* Called by the client within a poll. */
static void on_report(rd_kafka_t *rk, const rd_kafka_message_t *message, void *context)
{
    (void)rk;
    struct mr_target *target = context;
    bool left = rd_kafka_message_status(message) != RD_KAFKA_MSG_STATUS_NOT_PERSISTED;
    end_sent(target, message->_private, message->err, rd_kafka_err2str(message->err), left);
}

static rd_kafka_headers_t *make_headers(const struct mr_message *message)
{
    rd_kafka_headers_t *headers = rd_kafka_headers_new(message->field_count + 1);
    if (message->content_type.size > 0) {
        (void)rd_kafka_header_add(headers, "content-type", -1, message->content_type.data,
                                  (ssize_t)message->content_type.size);
    }
    for (uint32_t i = 0; i < message->field_count; i++) {
        const struct mr_field *field = &message->fields[i];
        (void)rd_kafka_header_add(headers, (const char *)field->name.data,
                                  (ssize_t)field->name.size, field->value.data,
                                  (ssize_t)field->value.size);
    }
    return headers;
}

/* @return the client's error; ERR__QUEUE_FULL: later */
static rd_kafka_resp_err_t produce(struct mr_target *target, struct mr_handout *handout,
                                   const struct mr_message *message)
{
    bool has_key = target->key.size > 0;
    rd_kafka_headers_t *headers = make_headers(message);
    rd_kafka_vu_t args[] = {
        {.vtype = RD_KAFKA_VTYPE_TOPIC, .u.cstr = (const char *)target->topic.data},
        {.vtype = RD_KAFKA_VTYPE_VALUE,
         .u.mem = {.ptr = message->has_body ? (message->body.size > 0 ? (void *)message->body.data
                                                                      : (void *)&target->rk)
                                            : NULL,
                   .size = message->has_body ? message->body.size : 0}},
        {.vtype = RD_KAFKA_VTYPE_KEY,
         .u.mem = {.ptr = has_key ? target->key.data : NULL, .size = target->key.size}},
        {.vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = headers},
        {.vtype = RD_KAFKA_VTYPE_MSGFLAGS, .u.i = RD_KAFKA_MSG_F_COPY},
        {.vtype = RD_KAFKA_VTYPE_OPAQUE, .u.ptr = handout},
    };
    handout->answer.started_wall_ns = mr_clock_now().wall_ns;
    rd_kafka_error_t *error = rd_kafka_produceva(target->rk, args, sizeof(args) / sizeof(args[0]));
    if (error == NULL) {
        return RD_KAFKA_RESP_ERR_NO_ERROR;
    }
    rd_kafka_resp_err_t code = rd_kafka_error_code(error);
    rd_kafka_error_destroy(error);
    rd_kafka_headers_destroy(headers);
    return code;
}

/* Topic, key, headers and value of the hand-out's record. */
static enum mr_status make_record(struct mr_target *target, const struct mr_handout *handout,
                                  struct mr_message *message, struct mr_problem *problem)
{
    struct mr_bytes record = mr_event_record(handout->event);
    mr_buf_clear(&target->topic);
    mr_buf_clear(&target->key);
    enum mr_status r = mr_template_fill(target->options.topic, record, &target->topic);
    bool named = r == MR_OK && mr__kafka_topic_is_valid(mr_buf_bytes(&target->topic));
    if (!named && r != MR_E_NOMEM) {
        return mr_problem_set(problem, MR_E_INVALID, "\"%.*s\" is no topic name",
                              (int)target->topic.size, (const char *)target->topic.data);
    }
    if (r == MR_OK) {
        r = mr_buf_append_byte(&target->topic, '\0');
    }
    if (r == MR_OK && target->options.key != NULL) {
        r = mr_template_fill(target->options.key, record, &target->key);
        if (r == MR_E_TOO_BIG) {
            return mr_problem_set(problem, r, "the key is longer than %u bytes", KEY_SIZE_MAX);
        }
    }
    if (r == MR_OK) {
        r = mr_kafka_encode(record, target->options.mode == 1 ? MR_MODE_STRUCTURED : MR_MODE_BINARY,
                            message);
    }
    if (r != MR_OK && problem->text[0] == '\0') {
        (void)mr_problem_set(problem, r, "the event cannot be encoded: %s", mr_status_text(r));
    }
    return r;
}

/* @return false: the client's queue is full, the hand-out still ours */
static bool send_one(struct mr_target *target, struct mr_handout *handout)
{
    struct mr_problem problem = {.text = ""};
    struct mr_message message;
    mr_message_init(&message);
    enum mr_status r = make_record(target, handout, &message, &problem);
    rd_kafka_resp_err_t error = RD_KAFKA_RESP_ERR_NO_ERROR;
    if (r == MR_OK) {
        error = produce(target, handout, &message);
    }
    mr_message_release(&message);
    if (r != MR_OK) {
        mr__outlet_answer(&target->outlet, handout,
                          r == MR_E_NOMEM ? MR_VERDICT_RETRY : MR_VERDICT_DEAD, problem.text, 0);
    } else if (error == RD_KAFKA_RESP_ERR__QUEUE_FULL && target->sent_count > 0) {
        return false;
    } else if (error != RD_KAFKA_RESP_ERR_NO_ERROR) {
        enum mr_verdict verdict = verdict_of(error, false);
        mr__outlet_answer(&target->outlet, handout, verdict, rd_kafka_err2str(error), 0);
        target->broken = target->broken || error == RD_KAFKA_RESP_ERR__FATAL;
    } else {
        link_sent(target, handout);
    }
    return true;
}

static void send_waiting(struct mr_target *target)
{
    while (target->waiting != NULL) {
        struct mr_handout *handout = target->waiting;
        struct mr_handout *next = mr__outlet_next(handout);
        bool stopping = mr__lifecycle_is_stopping(&target->outlet.life);
        if (stopping || !target->connected) {
            mr__outlet_answer(&target->outlet, handout, MR_VERDICT_REFUSED,
                              stopping ? "stopped" : "not connected to a broker", 0);
        } else if (!send_one(target, handout)) {
            return;
        }
        target->waiting = next;
    }
}

/* @return whether any came: then there may be more */
static bool take_handouts(struct mr_target *target)
{
    struct mr_handout *first = mr__outlet_take(&target->outlet);
    if (first == NULL) {
        return false;
    }
    struct mr_op **end = NULL;
    if (target->waiting == NULL) {
        target->waiting = first;
        return true;
    }
    for (end = &target->waiting->op.next; *end != NULL; end = &(*end)->next) {
    }
    *end = &first->op;
    return true;
}

/* --- the client ------------------------------------------------------------------------------- */

static void lose(struct mr_target *target, const char *error)
{
    bool was = target->connected;
    target->connected = false;
    target->probe_at_ns = 0;
    show(target, error);
    if (was) {
        mr__outlet_tell(&target->outlet, false);
    }
}

static void on_error(rd_kafka_t *rk, int code, const char *reason, void *context)
{
    struct mr_target *target = context;
    char fatal[256];
    if (code == RD_KAFKA_RESP_ERR__FATAL) {
        (void)rd_kafka_fatal_error(rk, fatal, sizeof(fatal));
        reason = fatal;
        target->broken = true;
    }
    if (code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN) {
        if (target->connected) { /* why, was said before as a rule */
            lose(target, target->outlet.life.health.last_error[0] == '\0' ? reason : NULL);
        }
        return;
    }
    MR_WARN("kafka", "sink=%s err=\"%s\"", target->outlet.life.name, reason);
    show(target, reason);
}

static enum mr_status open_client(struct mr_target *target, struct mr_problem *problem)
{
    rd_kafka_conf_t *conf = NULL;
    enum mr_status r =
        mr__kafka_producer_conf(&target->options, target->timeout_ns, &conf, problem);
    if (r != MR_OK) {
        return r;
    }
    rd_kafka_conf_set_opaque(conf, target);
    rd_kafka_conf_set_error_cb(conf, on_error);
    rd_kafka_conf_set_dr_msg_cb(conf, on_report);
    char error[256] = "";
    target->rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof(error));
    if (target->rk == NULL) {
        rd_kafka_conf_destroy(conf);
        return mr_problem_set(problem, MR_E_UNAVAILABLE, "%s", error);
    }
    target->queue = rd_kafka_queue_get_main(target->rk);
    static const uint64_t one = 1;
    rd_kafka_queue_io_event_enable(target->queue, target->wake_fd, &one, sizeof(one));
    return MR_OK;
}

/* Ends the client; everything it held is answered. */
static void close_client(struct mr_target *target)
{
    if (target->connected) {
        target->connected = false;
        mr__outlet_tell(&target->outlet, false);
    }
    if (target->rk == NULL) {
        return;
    }
    uint64_t until_ns = mr_clock_mono_ns() + PURGE_NS;
    (void)rd_kafka_purge(target->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
    while (target->sent != NULL && mr_clock_mono_ns() < until_ns) {
        (void)rd_kafka_poll(target->rk, 50);
    }
    rd_kafka_queue_io_event_enable(target->queue, -1, NULL, 0);
    rd_kafka_queue_destroy(MR_TAKE(target->queue));
    while (target->sent != NULL) { /* no report will come from a client that is gone */
        end_sent(target, target->sent, RD_KAFKA_RESP_ERR__PURGE_INFLIGHT, "the client broke", true);
    }
    rd_kafka_destroy(MR_TAKE(target->rk));
    target->broken = false;
}

static void reopen(struct mr_target *target, const char *error)
{
    close_client(target);
    uint64_t now_ns = mr_clock_mono_ns();
    target->open_at_ns = now_ns + mr__backoff_next(&target->backoff);
    MR_WARN("kafka", "sink=%s err=\"%s\" retry_ms=%llu", target->outlet.life.name, error,
            (unsigned long long)((target->open_at_ns - now_ns) / MR_MS));
    show(target, error);
}

static void probe(struct mr_target *target, uint64_t now_ns)
{
    rd_kafka_resp_err_t error;
    if (target->connected || now_ns < target->probe_at_ns) {
        return;
    }
    if (!mr__kafka_probe(target->rk, NULL, &error)) {
        target->probe_at_ns = mr_clock_mono_ns() + PROBE_NS;
        return;
    }
    target->connected = true;
    mr__backoff_reset(&target->backoff);
    MR_INFO("kafka", "sink=%s connected brokers=%s", target->outlet.life.name, target->brokers);
    if (target->connects++ > 0) {
        mr__lifecycle_count_reconnect(&target->outlet.life);
    }
    show(target, NULL);
    mr__outlet_tell(&target->outlet, true);
}

static void step_client(struct mr_target *target, uint64_t now_ns)
{
    if (target->broken) {
        reopen(target, "the client cannot go on");
    } else if (target->rk != NULL) {
        probe(target, now_ns);
    } else if (now_ns >= target->open_at_ns) {
        struct mr_problem problem = {.text = ""};
        if (open_client(target, &problem) != MR_OK) {
            reopen(target, problem.text);
        }
    }
}

/* --- the thread ------------------------------------------------------------------------------- */

static void serve_client(struct mr_target *target)
{
    uint64_t count;
    while (read(target->wake_fd, &count, sizeof(count)) > 0) {
    }
    if (target->rk != NULL) {
        (void)rd_kafka_poll(target->rk, 0);
    }
}

static int timeout_ms(const struct mr_target *target)
{
    uint64_t until = target->rk == NULL ? target->open_at_ns : target->probe_at_ns;
    if (target->rk != NULL && target->connected) {
        return WAIT_MS;
    }
    uint64_t now_ns = mr_clock_mono_ns();
    uint64_t wait = until <= now_ns ? 0 : (until - now_ns) / MR_MS + 1;
    return wait > WAIT_MS ? WAIT_MS : (int)wait;
}

static void wait_more(struct mr_target *target)
{
    struct pollfd fds[2] = {{.fd = mr_opq_fd(&target->outlet.life.queue), .events = POLLIN},
                            {.fd = target->wake_fd, .events = POLLIN}};
    if (poll(fds, 2, timeout_ms(target)) < 0 && errno != EINTR) {
        MR_ERROR("kafka", "sink=%s poll: %s", target->outlet.life.name, strerror(errno));
    }
}

/* Stopping: what has not left is refused, what is with a broker has until the deadline. */
static void finish(struct mr_target *target)
{
    if (target->rk != NULL && target->sent != NULL) {
        (void)rd_kafka_purge(target->rk, RD_KAFKA_PURGE_F_QUEUE);
    }
    while (target->rk != NULL && target->sent != NULL && !target->broken &&
           !mr__lifecycle_is_late(&target->outlet.life, mr_clock_mono_ns())) {
        (void)rd_kafka_poll(target->rk, 50);
        mr__outlet_flush(&target->outlet);
    }
    send_waiting(target);
    close_client(target);
    mr__outlet_flush(&target->outlet);
    mr__lifecycle_set_health(&target->outlet.life, MR_HEALTH_DOWN, "stopped", NULL);
}

static void *run(void *context)
{
    struct mr_target *target = context;
    show(target, NULL);
    while (!mr__lifecycle_is_stopping(&target->outlet.life)) {
        serve_client(target);
        bool more = take_handouts(target);
        send_waiting(target);
        mr__outlet_flush(&target->outlet);
        step_client(target, mr_clock_mono_ns());
        if (!more) { /* the queue wakes us only after it was seen empty */
            wait_more(target);
        }
    }
    finish(target);
    return NULL;
}

/* --- the connector's calls -------------------------------------------------------------------- */

static_assert(offsetof(struct mr_target, outlet) == 0, "its contract calls stand in the table");
static const struct mr_lifecycle_shape shape =
    MR_LIFECYCLE_SHAPE(struct mr_target, mr_connector_kafka.sink_kind, run);

static void destroy_target(struct mr_target *target)
{
    if (target == NULL) {
        return;
    }
    MR_ASSERT(target->sent == NULL && target->waiting == NULL);
    mr__outlet_release(&target->outlet);
    if (target->wake_fd >= 0) {
        (void)close(target->wake_fd);
    }
    mr_buf_release(&target->topic);
    mr_buf_release(&target->key);
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
    if (args->config == NULL || args->config->concurrency == 0) {
        target->outlet.slots = SLOTS_DEFAULT;
    }
    mr_buf_init(&target->topic, MR_KAFKA_TOPIC_SIZE_MAX + 2);
    mr_buf_init(&target->key, KEY_SIZE_MAX);
    mr__backoff_init(&target->backoff);
    target->timeout_ns = args->config == NULL || args->config->timeout_ns == 0
                             ? TIMEOUT_DEFAULT_NS
                             : args->config->timeout_ns;
    target->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (target->wake_fd < 0) {
        destroy_target(target);
        return mr_problem_set(problem, MR_E_UNAVAILABLE, "no eventfd: %s", strerror(errno));
    }
    mr__kafka_brokers_text(&target->options.peer, target->brokers, sizeof(target->brokers));
    *ret_target = target;
    return MR_OK;
}

const struct mr_target_ops mr__kafka_sink_ops = {
    .create = create_target,
    .start = mr__outlet_start,
    .submit = mr__outlet_submit,
    .stop = mr__outlet_stop,
    .destroy = destroy_target,
    .health = mr__outlet_health,
    .reindex = mr__outlet_reindex,
};
