/* SMTP sink: one thread, one connection, one mail after the other; several events in one mail when
 * a digest is configured.
 *
 * Connected means: TLS, log-in and a NOOP went well. Until then, and after the connection broke,
 * the capacity is 0 and what still arrives is refused at no cost. While hand-outs wait here (for
 * their turn, or for the digest's window) their leases are extended, so that a slow server shows as
 * a queue and not as timeouts. */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "connectors/backoff.h"
#include "connectors/outlet.h"
#include "connectors/smtp/link.h"
#include "connectors/smtp/mail.h"
#include "core/assert.h"
#include "core/clock.h"
#include "core/logger.h"

#define SLOTS_DEFAULT 16u
#define TIMEOUT_DEFAULT_NS (30 * MR_SECOND)
#define BEAT_MIN_NS (200 * MR_MS)
#define DIGEST_SIZE_MAX (2u * MR_MIB) /* of the events in one mail; one event may be larger */

struct mr_target {
    struct mr_outlet outlet;
    struct mr_smtp_options options; /* owned copy */

    /* The thread's own. */
    struct mr_smtp_link *link; /* owned */
    bool connected;
    uint64_t connect_at_ns;
    struct mr_backoff backoff;
    struct mr_handout *waiting; /* owned, oldest first, linked by op.next */
    struct mr_handout *waiting_last;
    uint32_t waiting_count;
    uint64_t waiting_since_ns; /* of the oldest, at least */
    uint64_t beat_at_ns;
    struct mr_handout *under_way[MR_SMTP_DIGEST_MAX]; /* owned: in the mail being sent */
    uint32_t under_way_count;
    struct mr_buf mail;
};

/* --- leases ----------------------------------------------------------------------------------- */

static uint64_t timeout_of(const struct mr_handout *handout)
{
    return handout->timeout_ns == 0 ? TIMEOUT_DEFAULT_NS : handout->timeout_ns;
}

/* Extends the leases of all that wait, three times within the shortest of them. */
static void beat(struct mr_target *target, uint64_t now_ns)
{
    struct mr_host *host = target->outlet.life.host;
    if (target->waiting == NULL || now_ns < target->beat_at_ns) {
        return;
    }
    uint64_t pause_ns = MR_MINUTE;
    for (struct mr_handout *h = target->waiting; h != NULL; h = mr__outlet_next(h)) {
        host->ops->heartbeat(host, h);
        pause_ns = timeout_of(h) / 3 < pause_ns ? timeout_of(h) / 3 : pause_ns;
    }
    target->beat_at_ns = now_ns + (pause_ns < BEAT_MIN_NS ? BEAT_MIN_NS : pause_ns);
}

/* --- what waits ------------------------------------------------------------------------------- */

static void take_handouts(struct mr_target *target)
{
    struct mr_handout *first;
    while ((first = mr__outlet_take(&target->outlet)) != NULL) { /* until empty: then it wakes */
        if (target->waiting == NULL) {
            target->waiting = first;
            target->waiting_since_ns = mr_clock_mono_ns();
        } else {
            target->waiting_last->op.next = &first->op;
        }
        for (struct mr_handout *h = first; h != NULL; h = mr__outlet_next(h)) {
            target->waiting_last = h;
            target->waiting_count++;
        }
    }
}

static struct mr_handout *shift(struct mr_target *target)
{
    struct mr_handout *handout = target->waiting;
    target->waiting = mr__outlet_next(handout);
    target->waiting_count--;
    handout->op.next = NULL;
    return handout;
}

static void refuse_waiting(struct mr_target *target, const char *error)
{
    while (target->waiting != NULL) {
        mr__outlet_answer(&target->outlet, shift(target), MR_VERDICT_REFUSED, error, 0);
    }
}

/* How long until a mail goes; 0: now. */
static uint64_t due_in(const struct mr_target *target, uint64_t now_ns)
{
    const struct mr_smtp_digest_options *digest = &target->options.digest;
    uint64_t full = digest->max < (int64_t)target->outlet.slots ? (uint64_t)digest->max
                                                                : target->outlet.slots;
    uint64_t due_ns = target->waiting_since_ns + digest->window_ns;
    if (digest->max <= 1 || target->waiting_count >= full || now_ns >= due_ns) {
        return 0;
    }
    return due_ns - now_ns;
}

/* --- the connection --------------------------------------------------------------------------- */

/* libcurl asks about once a second whether to go on. */
static bool tick(void *context)
{
    struct mr_target *target = context;
    uint64_t now_ns = mr_clock_mono_ns();
    take_handouts(target);
    beat(target, now_ns);
    return !mr__lifecycle_is_late(&target->outlet.life, now_ns) &&
           (target->connected || !mr__lifecycle_is_stopping(&target->outlet.life));
}

static void set_health(struct mr_target *target, enum mr_health_state state, const char *error)
{
    char detail[128];
    (void)snprintf(detail, sizeof(detail), "%s %.80s:%u",
                   state == MR_HEALTH_DOWN ? "not connected to" : "connected to",
                   target->options.url->host, mr__smtp_port(&target->options));
    mr__lifecycle_set_health(&target->outlet.life, state, detail, error);
}

static void lose(struct mr_target *target, const char *error)
{
    uint64_t wait_ns = mr__backoff_next(&target->backoff);
    if (target->connected) {
        mr__outlet_tell(&target->outlet, false);
    }
    target->connected = false;
    target->connect_at_ns = mr_clock_mono_ns() + wait_ns;
    set_health(target, MR_HEALTH_DOWN, error);
    MR_WARN("smtp", "sink=%s err=\"%s\" retry_ms=%llu", target->outlet.life.name, error,
            (unsigned long long)(wait_ns / MR_MS));
}

static void connect_link(struct mr_target *target)
{
    if (mr__smtp_link_probe(target->link) != MR_SMTP_SENT) {
        if (!mr__lifecycle_is_stopping(&target->outlet.life)) {
            lose(target, mr__smtp_link_text(target->link));
        }
        return;
    }
    target->connected = true;
    set_health(target, MR_HEALTH_OK, NULL);
    MR_INFO("smtp", "sink=%s connected server=%s:%u", target->outlet.life.name,
            target->options.url->host, mr__smtp_port(&target->options));
    mr__outlet_tell(&target->outlet, true);
}

/* --- sending ---------------------------------------------------------------------------------- */

static void answer_all(struct mr_target *target, enum mr_verdict verdict, const char *error,
                       uint64_t started_wall_ns)
{
    for (uint32_t i = 0; i < target->under_way_count; i++) {
        mr__outlet_answer(&target->outlet, target->under_way[i], verdict, error, started_wall_ns);
    }
    target->under_way_count = 0;
}

static void settle(struct mr_target *target, enum mr_smtp_result result, uint64_t started_wall_ns)
{
    const char *text = mr__smtp_link_text(target->link);
    if (result == MR_SMTP_SENT) {
        mr__backoff_reset(&target->backoff);
        if (target->outlet.life.health.state != MR_HEALTH_OK) { /* written by this thread alone */
            set_health(target, MR_HEALTH_OK, NULL);
        }
        answer_all(target, MR_VERDICT_OK, NULL, started_wall_ns);
    } else if (mr__lifecycle_is_stopping(&target->outlet.life) && result != MR_SMTP_PERMANENT &&
               result != MR_SMTP_REJECTED) {
        bool unknown = result == MR_SMTP_UNKNOWN;
        answer_all(target, unknown ? MR_VERDICT_CRASH : MR_VERDICT_REFUSED, "stopped",
                   unknown ? started_wall_ns : 0);
    } else if (result == MR_SMTP_NOT_REACHED) {
        lose(target, text);
        answer_all(target, MR_VERDICT_REFUSED, text, 0);
    } else {
        bool dead = result == MR_SMTP_PERMANENT || result == MR_SMTP_REJECTED;
        set_health(target, MR_HEALTH_DEGRADED, text);
        answer_all(target, dead ? MR_VERDICT_DEAD : MR_VERDICT_RETRY, text, started_wall_ns);
    }
}

/* @p count of what is under way, from @p from on, in one mail. */
static enum mr_smtp_result send_mail(struct mr_target *target, uint32_t from, uint32_t count,
                                     enum mr_status *ret_composed)
{
    uint64_t timeout_ns = UINT64_MAX;
    struct mr_host *host = target->outlet.life.host;
    for (uint32_t i = from; i < from + count; i++) {
        uint64_t own_ns = timeout_of(target->under_way[i]);
        timeout_ns = own_ns < timeout_ns ? own_ns : timeout_ns;
        host->ops->heartbeat(host, target->under_way[i]); /* its time counts from here */
    }
    mr_buf_clear(&target->mail);
    *ret_composed = mr__smtp_compose(&target->options, target->under_way + from, count,
                                     mr_clock_now().wall_ns, &target->mail);
    if (*ret_composed != MR_OK) {
        return MR_SMTP_TEMPORARY;
    }
    return mr__smtp_link_send(target->link, mr_buf_bytes(&target->mail), timeout_ns);
}

static void send_and_settle(struct mr_target *target)
{
    uint64_t started_wall_ns = mr_clock_now().wall_ns;
    enum mr_status composed;
    enum mr_smtp_result result = send_mail(target, 0, target->under_way_count, &composed);
    if (composed != MR_OK) {
        bool large = composed == MR_E_TOO_BIG;
        answer_all(target, large ? MR_VERDICT_DEAD : MR_VERDICT_RETRY,
                   large ? "the mail would be larger than 16 MiB" : mr_status_text(composed), 0);
        return;
    }
    settle(target, result, started_wall_ns);
}

static void send_due(struct mr_target *target)
{
    uint64_t size = 0;
    uint64_t max = target->options.digest.max <= 1 ? 1 : (uint64_t)target->options.digest.max;
    MR_ASSERT(target->under_way_count == 0);
    while (target->waiting != NULL && target->under_way_count < max) {
        size += target->waiting->event->size;
        if (target->under_way_count > 0 && size > DIGEST_SIZE_MAX) {
            break;
        }
        target->under_way[target->under_way_count++] = shift(target);
    }
    uint32_t count = target->under_way_count;
    if (count == 1) {
        send_and_settle(target);
        return;
    }
    uint64_t started_wall_ns = mr_clock_now().wall_ns;
    enum mr_status composed;
    enum mr_smtp_result result = send_mail(target, 0, count, &composed);
    if (composed == MR_OK && result != MR_SMTP_REJECTED) {
        settle(target, result, started_wall_ns);
        return;
    }
    /* Something in it is not to the server's taste, or it is too large: each event by itself. */
    struct mr_handout *all[MR_SMTP_DIGEST_MAX];
    memcpy(all, target->under_way, count * sizeof(all[0]));
    for (uint32_t i = 0; i < count; i++) {
        target->under_way[0] = all[i];
        target->under_way_count = 1;
        send_and_settle(target);
    }
}

/* --- the thread ------------------------------------------------------------------------------- */

static int wait_ms(const struct mr_target *target, uint64_t now_ns)
{
    uint64_t until_ns = UINT64_MAX;
    if (!target->connected) {
        until_ns = target->connect_at_ns;
    } else if (target->waiting != NULL) {
        until_ns = now_ns + due_in(target, now_ns);
        until_ns = target->beat_at_ns < until_ns ? target->beat_at_ns : until_ns;
    }
    if (until_ns == UINT64_MAX) {
        return -1;
    }
    return until_ns <= now_ns ? 0 : (int)((until_ns - now_ns + MR_MS - 1) / MR_MS);
}

static void *run(void *context)
{
    struct mr_target *target = context;
    for (;;) {
        take_handouts(target);
        uint64_t now_ns = mr_clock_mono_ns();
        if (mr__lifecycle_is_stopping(&target->outlet.life)) {
            break;
        }
        if (!target->connected && now_ns >= target->connect_at_ns) {
            connect_link(target);
            now_ns = mr_clock_mono_ns();
        }
        if (!target->connected) {
            refuse_waiting(target, "not connected to the mail server");
        }
        beat(target, now_ns);
        if (target->waiting != NULL && due_in(target, now_ns) == 0) {
            send_due(target);
            mr__outlet_flush(&target->outlet);
            if (target->waiting != NULL && target->options.digest.max > 1) {
                target->waiting_since_ns = mr_clock_mono_ns(); /* a window of their own */
            }
            continue;
        }
        mr__outlet_flush(&target->outlet);
        struct pollfd p = {.fd = mr_opq_fd(&target->outlet.life.queue), .events = POLLIN};
        if (poll(&p, 1, wait_ms(target, now_ns)) < 0 && errno != EINTR) {
            MR_ERROR("smtp", "sink=%s poll: %s", target->outlet.life.name, strerror(errno));
        }
    }
    refuse_waiting(target, "stopped");
    mr__outlet_flush(&target->outlet);
    mr__smtp_link_destroy(MR_TAKE(target->link));
    set_health(target, MR_HEALTH_DOWN, NULL);
    return NULL;
}

/* --- the connector's calls -------------------------------------------------------------------- */

static_assert(offsetof(struct mr_target, outlet) == 0, "its contract calls stand in the table");
static const struct mr_lifecycle_shape shape =
    MR_LIFECYCLE_SHAPE(struct mr_target, mr_connector_smtp.sink_kind, run);

static void destroy_target(struct mr_target *target)
{
    if (target == NULL) {
        return;
    }
    MR_ASSERT(target->waiting == NULL);
    mr__smtp_link_destroy(target->link);
    mr_buf_release(&target->mail);
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
    mr_buf_init(&target->mail, MR_SMTP_MAIL_SIZE_MAX);
    mr__backoff_init(&target->backoff);
    r = mr__smtp_link_create(&target->options, tick, target, &target->link, problem);
    if (r != MR_OK) {
        destroy_target(target);
        return r;
    }
    if (args->config == NULL || args->config->concurrency == 0) {
        uint32_t digest = (uint32_t)target->options.digest.max;
        target->outlet.slots = digest > SLOTS_DEFAULT ? digest : SLOTS_DEFAULT;
    }
    *ret_target = target;
    return MR_OK;
}

const struct mr_target_ops mr__smtp_sink_ops = {
    .create = create_target,
    .start = mr__outlet_start,
    .submit = mr__outlet_submit,
    .stop = mr__outlet_stop,
    .destroy = destroy_target,
    .health = mr__outlet_health,
    .reindex = mr__outlet_reindex,
};
