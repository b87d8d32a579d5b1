/* MQTT source: one thread, one connection, batches to the bus, PUBACKs when they are durable.
 *
 * 1. Read messages while fewer than `inflight` are un-acknowledged; each becomes an event in the
 *    batch being filled (on_message).
 * 2. Submit the batch when the socket is empty, or at BATCH_COUNT messages. Reading goes on while
 *    it is under way.
 * 3. When nothing is under way and nothing unsubmitted, all that was read is durable: flush. The
 *    library cannot send single PUBACKs, so the watermark is all or nothing; not to put it off for
 *    ever under a steady stream, reading pauses FLUSH_NS after the first un-acknowledged message.
 *
 * A batch the bus refuses (disk low, full) is kept and submitted again; until it is durable the
 * socket is not read. When that lasts longer than the keepalive allows, the connection is dropped
 * and the broker delivers those messages again, which makes duplicates and loses nothing. */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "connectors/adapting.h"
#include "connectors/backoff.h"
#include "connectors/intake.h"
#include "connectors/mqtt/link.h"
#include "connectors/mqtt/message.h"
#include "core/assert.h"
#include "core/hash.h"
#include "core/logger.h"

#define BATCH_COUNT 500u
#define BATCH_SIZE (2u * MR_MIB)
#define UNACKED_SIZE_MAX MR_BATCH_SIZE_MAX /* bytes of events read and not acknowledged */
#define FLUSH_NS (5 * MR_MS)
#define STEADY_NS (5 * MR_SECOND) /* a connection that lived so long ends the backoff */
#define READS_MAX 2000u /* packets per pass, so that replies are not left lying */
#define LOOK_MS 1000    /* the keepalive's resolution */

struct mr_source {
    struct mr_intake intake;
    struct mr_mqtt_source_options options; /* owned copy */
    char client_id[MR_MQTT_CLIENT_ID_SIZE_MAX];

    /* The thread's own. */
    struct mr_mqtt_link link;
    struct mr_backoff backoff;
    uint64_t open_at_ns;
    uint64_t connects;
    struct mr_batch *filling; /* owned; NULL when empty */
    uint64_t unacked;         /* messages read since the last flush */
    uint64_t unacked_size;
    uint64_t unacked_since_ns;
    uint64_t read_ns; /* when reading was last allowed */
    bool more;        /* reading stopped before the socket was empty */
    bool flushing;    /* a flush met a full socket: nothing is read before it is through */
    bool broken;      /* a message could not even be kept: drop the connection */
    struct mr_mqtt_maker maker;
};

/* --- health ----------------------------------------------------------------------------------- */

static void set_health(struct mr_source *source, enum mr_health_state state, const char *error)
{
    char detail[128];
    bool up = state == MR_HEALTH_OK || state == MR_HEALTH_DEGRADED;
    (void)snprintf(detail, sizeof(detail), "%s %.50s:%u as %.40s",
                   up ? "connected to" : "not connected to", source->options.peer.url->host,
                   mr__mqtt_port(&source->options.peer), source->client_id);
    mr__lifecycle_set_health(&source->intake.life, state, detail, error);
}

/* --- batches ---------------------------------------------------------------------------------- */

static enum mr_status add_event(struct mr_source *source, struct mr_event *event,
                                const char *rejected)
{
    if (source->filling == NULL) {
        source->filling = mr__intake_batch(&source->intake, BATCH_COUNT);
        if (source->filling == NULL) {
            mr_event_unref(event);
            return MR_E_NOMEM;
        }
    }
    return mr_batch_add(source->filling, event, rejected);
}

/* All events of a message for option `adapter`, or none for one that only controls. */
static enum mr_status adapt_message(struct mr_source *source,
                                    const struct mosquitto_message *message, uint64_t *ret_size)
{
    struct mr_bytes body = mr_bytes(message->payload, (size_t)message->payloadlen);
    const struct mr_adapt_input input = {
        .body = body,
        .source_name = mr_bytes_of(source->intake.life.name),
        .received_wall_ns = mr_clock_now().wall_ns,
        .unique = mr_hash(body.data, body.size), /* the same when it is delivered again */
        .size_max = source->intake.event_size_max,
    };
    if (source->filling == NULL) {
        source->filling = mr__intake_batch(&source->intake, BATCH_COUNT);
    }
    if (source->filling == NULL) {
        return MR_E_NOMEM;
    }
    size_t before = source->filling->size;
    enum mr_status r = mr__adapting_add(source->options.adapter, &input,
                                        mr_bytes_of(message->topic), source->filling, NULL);
    *ret_size = source->filling->size - before;
    if (source->filling->count == 0) {
        mr_batch_destroy(MR_TAKE(source->filling));
    }
    return r;
}

/* Called by the library within mr__mqtt_link_read(); the PUBACK is queued when this returns. */
static void on_message(void *context, const struct mosquitto_message *message,
                       const mosquitto_property *properties)
{
    struct mr_source *source = context;
    struct mr_problem problem = {.text = ""};
    struct mr_event *event = NULL;
    bool rejected = false;
    enum mr_status r = mr__mqtt_make_event(&source->maker, message, properties, &event, &rejected,
                                           &problem);
    uint64_t size = event == NULL ? 0 : event->size;
    if (r == MR_OK) {
        r = add_event(source, event, rejected ? problem.text : NULL);
    } else if (r == MR_E_NOT_CLOUDEVENT) {
        r = adapt_message(source, message, &size);
    }
    if (r != MR_OK) {
        source->broken = true; /* never acknowledged: the broker has it still */
        return;
    }
    if (source->unacked++ == 0) {
        source->unacked_since_ns = mr_clock_mono_ns();
    }
    source->unacked_size += size;
    atomic_fetch_add_explicit(&source->intake.life.messages, 1, memory_order_relaxed);
}

static void submit_filling(struct mr_source *source)
{
    if (source->filling != NULL) {
        mr__intake_submit(&source->intake, MR_TAKE(source->filling));
    }
}

/* --- the connection --------------------------------------------------------------------------- */

static bool is_durable(const struct mr_source *source)
{
    return !mr__intake_is_out(&source->intake) && source->filling == NULL && !source->broken;
}

static bool may_read(const struct mr_source *source, uint64_t now_ns)
{
    return source->link.state == MR_MQTT_LINK_UP && !source->flushing && !source->broken &&
           mr__intake_wants(&source->intake) &&
           source->unacked < (uint64_t)source->options.inflight &&
           source->unacked_size < UNACKED_SIZE_MAX &&
           (source->unacked == 0 || now_ns - source->unacked_since_ns < FLUSH_NS);
}

static void lose_link(struct mr_source *source, uint64_t now_ns)
{
    MR_ASSERT(source->link.state == MR_MQTT_LINK_DOWN);
    uint64_t lived_ns = now_ns - source->link.opened_ns;
    if (lived_ns > STEADY_NS) {
        mr__backoff_reset(&source->backoff);
    }
    source->flushing = false;
    source->broken = false;
    source->more = false;
    /* Their PUBACKs are gone with the connection. The events go on to the bus all the same: those
     * of quality 0 come only once. */
    source->unacked = 0;
    source->unacked_size = 0;
    set_health(source, MR_HEALTH_DOWN, source->link.error);
    if (source->link.error[0] == '\0') { /* we wanted it */
        source->open_at_ns = now_ns;
        return;
    }
    source->open_at_ns = now_ns + mr__backoff_next(&source->backoff);
    MR_WARN("mqtt", "source=%s err=\"%s\" retry_ms=%llu", source->intake.life.name,
            source->link.error, (unsigned long long)((source->open_at_ns - now_ns) / MR_MS));
}

/* Closes the link where it cannot or need not be kept. A paused connection cannot be kept alive
 * without reading, so it is given up in time, politely if all is durable. */
static void give_up_link(struct mr_source *source, uint64_t now_ns)
{
    if (source->broken) {
        mr__mqtt_link_close(&source->link, false, "out of memory");
        return;
    }
    if (source->link.state != MR_MQTT_LINK_UP) {
        return;
    }
    if (now_ns - source->read_ns < source->options.peer.keepalive_ns / 2) {
        return;
    }
    bool durable = is_durable(source);
    source->link.error[0] = '\0';
    mr__mqtt_link_close(&source->link, durable,
                        durable ? NULL : "the log is slower than the keepalive allows");
}

static void read_messages(struct mr_source *source)
{
    uint64_t now_ns = mr_clock_mono_ns();
    source->more = true;
    for (uint32_t i = 0; i < READS_MAX && may_read(source, now_ns); i++) {
        source->more = mr__mqtt_link_read(&source->link);
        struct mr_batch *batch = source->filling;
        if (batch != NULL && (batch->count >= BATCH_COUNT || batch->size >= BATCH_SIZE)) {
            submit_filling(source);
            now_ns = mr_clock_mono_ns();
        }
        if (!source->more || source->link.resubscribe) {
            break; /* after CONNACK the SUBSCRIBE goes first */
        }
    }
    submit_filling(source);
}

static void flush_if_durable(struct mr_source *source, uint64_t now_ns)
{
    if (source->link.state != MR_MQTT_LINK_UP || !is_durable(source)) {
        return;
    }
    /* Messages of quality 0 leave nothing to flush, and are done with all the same. */
    source->flushing = mr__mqtt_link_wants_flush(&source->link) &&
                       !mr__mqtt_link_flush(&source->link, now_ns);
    if (!source->flushing) {
        source->unacked = 0;
        source->unacked_size = 0;
    }
}

static void show_link(struct mr_source *source, enum mr_mqtt_link_state before)
{
    if (source->link.state != MR_MQTT_LINK_UP) {
        return;
    }
    if (before != MR_MQTT_LINK_UP) {
        source->more = true; /* what TLS has decrypted already, no poll tells */
        if (source->connects++ > 0) {
            mr__lifecycle_count_reconnect(&source->intake.life);
        }
        MR_INFO("mqtt", "source=%s connected client=%s session=%s", source->intake.life.name,
                source->client_id, source->link.session_present ? "resumed" : "new");
    }
    if (!source->link.subscribed) {
        return; /* what is published by now may never reach us: that is not well yet */
    }
    bool bad = source->link.error[0] != '\0' || source->intake.refused != NULL;
    enum mr_health_state state = bad ? MR_HEALTH_DEGRADED : MR_HEALTH_OK;
    if (state != source->intake.life.health.state) { /* written by this thread only */
        set_health(source, state, source->link.error);
    }
}

static void step_link(struct mr_source *source, short revents)
{
    uint64_t now_ns = mr_clock_mono_ns();
    enum mr_mqtt_link_state before = source->link.state;
    if (before == MR_MQTT_LINK_DOWN) {
        if (mr__intake_wants(&source->intake) && now_ns >= source->open_at_ns &&
            !mr__mqtt_link_open(&source->link, now_ns)) {
            lose_link(source, now_ns);
        }
        return;
    }
    if (before == MR_MQTT_LINK_OPENING) {
        mr__mqtt_link_handshake(&source->link, revents, now_ns);
        source->read_ns = now_ns;
    } else {
        if ((revents & (POLLIN | POLLHUP | POLLERR)) != 0 || source->more) {
            read_messages(source);
        }
        mr__mqtt_link_tick(&source->link, now_ns);
    }
    flush_if_durable(source, now_ns);
    give_up_link(source, now_ns);
    if (source->link.state == MR_MQTT_LINK_DOWN) {
        lose_link(source, now_ns);
    }
    show_link(source, before);
}

/* --- the thread ------------------------------------------------------------------------------- */

static int poll_timeout_ms(const struct mr_source *source, uint64_t now_ns)
{
    uint64_t wait_ms = LOOK_MS;
    if (source->link.state == MR_MQTT_LINK_DOWN && mr__intake_wants(&source->intake)) {
        uint64_t at_ns = source->open_at_ns;
        uint64_t until_ms = at_ns <= now_ns ? 0 : (at_ns - now_ns + MR_MS - 1) / MR_MS;
        wait_ms = until_ms < wait_ms ? until_ms : wait_ms;
    }
    return mr__intake_timeout_ms(&source->intake, now_ns, (int)wait_ms);
}

static void finish(struct mr_source *source)
{
    if (source->link.state != MR_MQTT_LINK_DOWN) {
        mr__mqtt_link_close(&source->link, is_durable(source), "stopped");
    }
    set_health(source, MR_HEALTH_DOWN, NULL);
}

static void *run(void *context)
{
    struct mr_source *source = context;
    for (;;) {
        uint64_t now_ns = mr_clock_mono_ns();
        mr__intake_take(&source->intake, now_ns, NULL, NULL);
        if (mr__lifecycle_is_stopping(&source->intake.life)) {
            submit_filling(source);
        }
        if (mr__intake_is_finished(&source->intake, now_ns)) {
            break;
        }
        mr__intake_resubmit(&source->intake, now_ns);
        flush_if_durable(source, now_ns);
        atomic_store_explicit(&source->intake.life.bytes_held, source->unacked_size,
                              memory_order_relaxed);
        bool read = source->link.state == MR_MQTT_LINK_OPENING || may_read(source, now_ns);
        bool write = source->flushing || (source->link.state == MR_MQTT_LINK_OPENING &&
                                          mosquitto_want_write(source->link.mosq));
        struct pollfd fds[2] = {{.fd = mr_opq_fd(&source->intake.life.queue), .events = POLLIN},
                                mr__mqtt_link_poll(&source->link, read, write)};
        if (read) {
            source->read_ns = now_ns;
        }
        if (!read && !write) {
            fds[1].fd = -1; /* a hang-up would wake us again and again */
        }
        int timeout_ms = read && source->more ? 0 : poll_timeout_ms(source, now_ns);
        if (poll(fds, 2, timeout_ms) < 0 && errno != EINTR) {
            MR_ERROR("mqtt", "source=%s poll: %s", source->intake.life.name, strerror(errno));
        }
        step_link(source, fds[1].revents);
    }
    finish(source);
    return NULL;
}

/* --- the connector's calls -------------------------------------------------------------------- */

static_assert(offsetof(struct mr_source, intake) == 0, "its contract calls stand in the table");
static const struct mr_lifecycle_shape shape =
    MR_LIFECYCLE_SHAPE(struct mr_source, mr_connector_mqtt.source_kind, run);

static void destroy_source(struct mr_source *source)
{
    if (source == NULL || !mr__intake_release(&source->intake)) {
        return;
    }
    mr__mqtt_link_release(&source->link);
    mr_batch_destroy(source->filling);
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
    mr__backoff_init(&source->backoff);
    mr__mqtt_choose_client_id(&source->options.peer, args->name, args->folder, source->client_id);
    source->maker = (struct mr_mqtt_maker){
        .source_name = source->intake.life.name,
        .client_id = source->client_id,
        .version = mr__mqtt_version(&source->options.peer),
        .event_size_max = source->intake.event_size_max,
        .adapter = source->options.adapter,
        .boot = mr_rng_entropy(),
    };
    r = mr__mqtt_link_init(&source->link, &source->options, source->client_id, on_message, source,
                           problem);
    if (r != MR_OK) {
        destroy_source(source);
        return r;
    }
    set_health(source, MR_HEALTH_STARTING, NULL);
    *ret_source = source;
    return MR_OK;
}

const struct mr_source_ops mr__mqtt_source_ops = {
    .create = create_source,
    .start = mr__intake_start,
    .pause = mr__intake_pause,
    .resume = mr__intake_resume,
    .stop = mr__intake_stop,
    .destroy = destroy_source,
    .health = mr__intake_health,
    .reindex = mr__intake_reindex,
};
