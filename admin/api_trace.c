/* trace: the story of one event. why: what one subscription did with it. */
#include <stdio.h>
#include <time.h>

#include "admin/internal.h"
#include "admin/past.h"
#include "admin/timeline.h"
#include "core/alloc.h"
#include "core/clock.h"

#define UNMATCHED_MAX 100u
#define TRIES_MAX 50u
#define TRY_WAIT_NS (2 * MR_MS) /* a settle under way is durable within a few of these */

/* Everything known about one event. */
struct story {
    struct mr_buf event_body; /* the event's record */
    struct mr_history_record event;
    char source[MR_NAME_SIZE_MAX + 1];
    struct mr_timeline timeline;
    struct mr_delivery_info *live; /* owned: one per delivery of the timeline */
    bool *is_live;                 /* owned */
    bool *is_behind;               /* owned: on disk behind the window of its subscription */
    bool unsettled;                /* the log was read before something the bus knows */
    uint32_t whole;                /* segments that were read whole for it */
};

static void story_release(struct story *story)
{
    mr_buf_release(&story->event_body);
    mr_timeline_release(&story->timeline);
    mr_free(story->live);
    mr_free(story->is_live);
    mr_free(story->is_behind);
}

static void ask_live(void *argument, struct mr_bus *bus, struct mr_now now)
{
    struct story *story = argument;
    for (uint32_t i = 0; i < story->timeline.delivery_count; i++) {
        const struct mr_timeline_delivery *delivery = &story->timeline.deliveries[i];
        struct mr_delivery_info *live = &story->live[i];
        story->is_live[i] = mr_bus_delivery_info(bus, now, delivery->subscription,
                                                 story->timeline.offset, live) == MR_OK &&
                            (live->state == MR_STATE_WAITING || live->state == MR_STATE_IN_FLIGHT ||
                             live->state == MR_STATE_HELD);
        if (story->is_live[i] && live->state == MR_STATE_IN_FLIGHT && !story->timeline.truncated &&
            (delivery->attempt_count == 0 ||
             delivery->attempts[delivery->attempt_count - 1].fence < live->fence)) {
            story->unsettled = true; /* handed out since the log was read */
        }
        if (story->is_live[i] || delivery->state != MR_STATE_NONE) {
            continue;
        }
        struct mr_subscription_info info;
        mr_bus_subscription_info(bus, now, delivery->subscription, &info);
        story->is_behind[i] = info.behind > 0;
        live->blocked_on = info.behind_on;
        story->unsettled = story->unsettled || info.behind == 0;
    }
}

/* Whether what came of one may be in a survivor file alone. */
static bool lacks_end(const struct mr_timeline *timeline)
{
    bool lacks = false;
    for (uint32_t i = 0; i < timeline->delivery_count; i++) {
        const struct mr_timeline_delivery *d = &timeline->deliveries[i];
        lacks = lacks || (d->state == MR_STATE_NONE && d->attempt_count == 0);
    }
    return lacks;
}

/* Reads what followed the event, then asks the bus about what has not ended. */
static enum mr_status follow(struct mr_admin *admin, struct mr_history *history,
                             struct story *story)
{
    mr_timeline_release(&story->timeline);
    mr_timeline_init(&story->timeline, story->event.record.offset);
    bool kept = mr_history_is_kept(history, story->event.position);
    uint64_t from = kept ? 0 : mr_position_segment(story->event.position);
    enum mr_status r = mr_history_follow(history, from, story->timeline.offset,
                                         mr_timeline_visit, &story->timeline);
    if (r == MR_OK && (kept || lacks_end(&story->timeline))) {
        r = mr_history_kept(history, mr_timeline_visit_kept, &story->timeline);
    }
    if (r == MR_OK) {
        r = story->timeline.status;
    }
    uint32_t count = story->timeline.delivery_count;
    mr_free(story->live);
    mr_free(story->is_live);
    mr_free(story->is_behind);
    story->live = mr_calloc(count + 1, sizeof(*story->live));
    story->is_live = mr_calloc(count + 1, sizeof(*story->is_live));
    story->is_behind = mr_calloc(count + 1, sizeof(*story->is_behind));
    if (story->live == NULL || story->is_live == NULL || story->is_behind == NULL) {
        r = MR_E_NOMEM;
    }
    story->unsettled = false;
    return r == MR_OK ? admin->host->ops->call(admin->host, ask_live, story) : r;
}

static enum mr_status open_history(struct mr_admin *admin, struct mr_history *ret_history,
                                   struct mr_problem *problem)
{
    struct mr_bus_status status;
    enum mr_status r = mr__bus_status(admin, &status);
    if (r != MR_OK) {
        return r;
    }
    r = mr_history_open(admin->history, status.durable_position, ret_history, problem);
    if (r == MR_OK) {
        ret_history->sketched = mr__sketched;
        ret_history->sketch_context = admin;
    }
    return r;
}

static enum mr_status tell(struct mr_admin *admin, const char *id, struct story *ret_story,
                           struct mr_problem *problem)
{
    struct story story = {0};
    mr_buf_init(&story.event_body, MR_EVENT_SIZE_MAX + MR_KIB);
    mr_timeline_init(&story.timeline, 0);
    enum mr_status r = MR_E_NOT_FOUND;
    bool found = false;
    for (uint32_t tries = 0; tries < TRIES_MAX; tries++) {
        struct mr_history history;
        r = open_history(admin, &history, problem);
        if (r != MR_OK) {
            break;
        }
        if (!found) {
            r = mr_history_find(&history, mr_bytes_of(id), 0, &story.event_body, &story.event);
            found = r == MR_OK;
        }
        if (r == MR_OK) {
            r = follow(admin, &history, &story);
        }
        story.whole = history.whole; /* of the last try */
        mr_history_release(&history);
        if (r != MR_OK || !story.unsettled) {
            break;
        }
        /* It ended between the read and the question: its record is on its way to the disk. */
        struct timespec wait = {.tv_nsec = (long)TRY_WAIT_NS};
        (void)nanosleep(&wait, NULL); /* an early return only means one more try */
    }
    if (r != MR_OK) {
        story_release(&story);
        return r;
    }
    mr__source_name(admin, story.event.record.a, story.source, sizeof(story.source));
    *ret_story = story;
    return MR_OK;
}

static void write_blocked(struct mr_json_out *out, const struct story *story, uint32_t i)
{
    const struct mr_delivery_info *live = &story->live[i];
    bool waits = story->is_live[i] ? live->state != MR_STATE_IN_FLIGHT &&
                                         live->blocked_on != MR_BLOCKED_NOTHING
                                   : story->is_behind[i];
    mr_json_out_text(out, "blocked_on", waits ? mr_blocked_text(live->blocked_on) : NULL);
    bool has_due =
        live->blocked_on == MR_BLOCKED_BACKOFF || live->blocked_on == MR_BLOCKED_NOT_BEFORE;
    mr_json_out_time(out, "blocked_until", waits && has_due ? live->due_log_ns : 0);
}

static enum mr_state state_of(const struct story *story, uint32_t i)
{
    if (story->is_live[i]) {
        return story->live[i].state;
    }
    enum mr_state state = story->timeline.deliveries[i].state;
    return state == MR_STATE_NONE ? MR_STATE_WAITING : state;
}

/* Which instance has it, for how long, and how far it says it is. */
static void write_running(struct mr_admin *admin, struct mr_json_out *out, const char *delivery)
{
    struct mr_buf running;
    mr_buf_init(&running, MR__RUNNING_SIZE_MAX);
    admin->host->ops->running(admin->host, UINT32_MAX, delivery, &running);
    if (running.size > 2) { /* an array of one */
        mr_json_out_raw(out, "running", mr_bytes(running.data + 1, running.size - 2));
    }
    mr_buf_release(&running);
}

static void write_delivery(struct mr_admin *admin, struct mr_json_out *out,
                           const struct story *story, uint32_t i)
{
    const struct mr_timeline_delivery *delivery = &story->timeline.deliveries[i];
    const char *name = mr__subscription_name(admin, delivery->subscription);
    char id[MR__SUBSCRIPTION_NAME_SIZE + 24];
    (void)snprintf(id, sizeof(id), "%s:%llu", name == NULL ? "?" : name, /* names are bounded */
                   (unsigned long long)story->timeline.offset);
    mr_json_out_object(out, NULL);
    mr_json_out_text(out, "delivery", id);
    mr_json_out_text(out, "subscription", name);
    mr_json_out_text(out, "state", mr_state_text(state_of(story, i)));
    write_blocked(out, story, i);
    mr_timeline_write_attempts(out, delivery, story->is_live[i] ? &story->live[i] : NULL, name);
    if (state_of(story, i) == MR_STATE_IN_FLIGHT) {
        write_running(admin, out, id);
    }
    mr_json_out_bytes_or_null(out, "reason", mr_buf_bytes(&delivery->reason));
    mr_timeline_write_children(out, &delivery->children);
    mr_json_out_end(out);
}

static bool is_matched(struct mr_admin *admin, const struct story *story, const char *name)
{
    for (uint32_t i = 0; i < story->timeline.delivery_count; i++) {
        const char *of = mr__subscription_name(admin, story->timeline.deliveries[i].subscription);
        if (of != NULL && strcmp(of, name) == 0) {
            return true;
        }
    }
    return false;
}

/* Why subscription @p index did not match: one sentence into @p why. */
static enum mr_status explain(const struct mr_past *past, uint32_t index,
                              const struct story *story, struct mr_buf *why)
{
    int64_t source = mr_config_find_source(past->config, story->source);
    mr_buf_clear(why);
    if (story->timeline.replaces) {
        return mr_buf_append_text(why, "an operator gave the event to one held delivery alone");
    }
    bool holds = mr_router_explain(past->router, index, source < 0 ? UINT32_MAX : (uint32_t)source,
                                 story->event.record.body, why);
    if (!holds) {
        return past->is_guess
                   ? mr_buf_append_text(why, "; so says its present filter: that of the time is no "
                                             "longer in the log")
                   : MR_OK;
    }
    mr_buf_clear(why);
    return mr_buf_append_text(why, past->is_guess
                                       ? "its present filter matches, but when the event arrived "
                                         "the subscription was not there or had another one"
                                       : "the event was addressed to other subscriptions alone");
}

/* Which configuration the reasons are taken from. */
static const char *past_text(const struct mr_past *past)
{
    return past->is_guess ? "missing" : past->is_present ? "present" : "past";
}

static void write_unmatched(struct mr_admin *admin, struct mr_json_out *out,
                            const struct story *story, const struct mr_past *past)
{
    const struct mr_config *config = past->config;
    struct mr_buf why;
    mr_buf_init(&why, 64 * MR_KIB);
    uint32_t listed = 0;
    uint32_t more = 0;
    mr_json_out_array(out, "unmatched");
    for (uint32_t i = 0; config != NULL && i < config->subscription_count; i++) {
        const struct mr_subscription_config *subscription = &config->subscriptions[i];
        if (subscription->hidden || is_matched(admin, story, subscription->name)) {
            continue;
        }
        if (listed >= UNMATCHED_MAX) {
            more++;
            continue;
        }
        listed++;
        enum mr_status r = explain(past, i, story, &why);
        mr_json_out_object(out, NULL);
        mr_json_out_text(out, "subscription", subscription->name);
        mr_json_out_bytes(out, "why", r == MR_OK ? mr_buf_bytes(&why) : (struct mr_bytes){0});
        mr_json_out_end(out);
    }
    mr_json_out_end(out);
    if (more > 0) {
        mr_json_out_u64(out, "unmatched_more", more);
    }
    mr_buf_release(&why);
}

static void answer_missing(struct mr__call *call, enum mr_status r, const char *id,
                           const struct mr_problem *problem)
{
    if (r == MR_E_NOT_FOUND) {
        mr__answer_error(call, 404, "no event with the id %s is in the log", id);
    } else {
        mr__answer_status(call, r, problem);
    }
}

/* The held delivery that goes on with this event. */
static void write_replaces(struct mr_admin *admin, struct mr_json_out *out,
                           const struct mr_timeline *timeline)
{
    if (timeline->replaces) {
        mr_json_out_object(out, "replaces");
        mr_json_out_text(out, "subscription",
                         mr__subscription_name(admin, timeline->replaces_subscription));
        mr_json_out_u64(out, "offset", timeline->replaces_offset);
        mr_json_out_end(out);
    }
}

void mr__get_trace(struct mr_admin *admin, struct mr__call *call)
{
    struct story story;
    struct mr_past past;
    struct mr_problem problem = {.text = ""};
    enum mr_status r = tell(admin, call->name, &story, &problem);
    if (r != MR_OK) {
        answer_missing(call, r, call->name, &problem);
        return;
    }
    r = mr_past_open(admin, story.timeline.config_hash, story.event.position, &past);
    if (r != MR_OK) {
        story_release(&story);
        mr__answer_status(call, r, NULL);
        return;
    }
    struct mr_json_out out;
    mr_json_out_init(&out, MR__ANSWER_SIZE_MAX);
    mr_json_out_object(&out, NULL);
    mr_json_out_event(&out, "event", story.event.record.body);
    mr_json_out_text(&out, "source", story.source);
    mr_json_out_u64(&out, "offset", story.timeline.offset);
    mr_json_out_time(&out, "arrived", story.event.wall_ns);
    mr_json_out_array(&out, "matched");
    for (uint32_t i = 0; i < story.timeline.delivery_count; i++) {
        mr_json_out_text(&out, NULL,
                         mr__subscription_name(admin, story.timeline.deliveries[i].subscription));
    }
    mr_json_out_end(&out);
    write_unmatched(admin, &out, &story, &past);
    mr_json_out_text(&out, "configuration", past_text(&past));
    mr_json_out_array(&out, "deliveries");
    for (uint32_t i = 0; i < story.timeline.delivery_count; i++) {
        write_delivery(admin, &out, &story, i);
    }
    mr_json_out_end(&out);
    mr_timeline_write_children(&out, &story.timeline.children);
    write_replaces(admin, &out, &story.timeline);
    if (story.timeline.truncated) {
        mr_json_out_bool(&out, "truncated", true);
    }
    mr_json_out_u64(&out, "segments_read", story.whole);
    mr_json_out_end(&out);
    mr_past_release(&past);
    story_release(&story);
    mr__answer_json(call, 200, &out);
}

/* --- why -------------------------------------------------------------------------------------- */

/* One sentence about a delivery that was matched. */
static enum mr_status say_state(const struct story *story, uint32_t i, struct mr_buf *out)
{
    const struct mr_delivery_info *live = &story->live[i];
    enum mr_state state = state_of(story, i);
    char time[MR_TIME_TEXT_SIZE];
    if (state == MR_STATE_IN_FLIGHT) {
        return mr_buf_printf(out, "matched; attempt %u is with the handler since %s",
                             live->attempts + 1, mr_time_format(live->started_wall_ns, time));
    }
    if (state == MR_STATE_WAITING || state == MR_STATE_HELD) {
        enum mr_blocked_on reason = live->blocked_on;
        if (reason == MR_BLOCKED_BACKOFF) {
            return mr_buf_printf(out,
                                 "matched; %u attempts failed, waits for the back-off until %s",
                                 live->attempts, mr_time_format(live->due_log_ns, time));
        }
        if (reason == MR_BLOCKED_NOT_BEFORE) {
            return mr_buf_printf(out, "matched; not before %s, as its mrnotbefore says",
                                 mr_time_format(live->due_log_ns, time));
        }
        return mr_buf_printf(out, "matched; waits: %s",
                             reason == MR_BLOCKED_NOTHING ? "it is about to be handed out"
                                                          : mr_blocked_text(reason));
    }
    const struct mr_timeline_delivery *delivery = &story->timeline.deliveries[i];
    enum mr_status r = mr_buf_printf(out, "matched; %s after %u attempts", mr_state_text(state),
                                     delivery->attempts_counted);
    if (r == MR_OK && delivery->reason.size > 0) {
        r = mr_buf_append_text(out, ": ");
        r = r == MR_OK ? mr_buf_append_bytes(out, mr_buf_bytes(&delivery->reason)) : r;
    }
    return r;
}

static void answer_why(struct mr__call *call, const struct story *story, const char *name,
                       int64_t delivery, const struct mr_past *past, const struct mr_buf *why)
{
    struct mr_json_out out;
    mr_json_out_init(&out, MR_MIB);
    mr_json_out_object(&out, NULL);
    mr_json_out_bytes(&out, "event", mr_event_id(story->event.record.body));
    mr_json_out_u64(&out, "offset", story->timeline.offset);
    mr_json_out_text(&out, "subscription", name);
    mr_json_out_bool(&out, "matched", delivery >= 0);
    mr_json_out_bytes(&out, "why", mr_buf_bytes(why));
    if (delivery >= 0) {
        mr_json_out_text(&out, "state", mr_state_text(state_of(story, (uint32_t)delivery)));
        write_blocked(&out, story, (uint32_t)delivery);
    } else {
        mr_json_out_text(&out, "configuration", past_text(past));
    }
    mr_json_out_end(&out);
    mr__answer_json(call, 200, &out);
}

/* Whether @p name is a subscription that came after the event. */
static bool is_newer(struct mr_admin *admin, const struct mr_past *past, const char *name)
{
    const struct mr_router *router;
    const struct mr_config *config =
        past->own_config == NULL ? NULL : admin->host->ops->config(admin->host, &router);
    bool there = config != NULL && mr_config_find_subscription(config, name) >= 0;
    if (config != NULL) {
        admin->host->ops->config_release(admin->host, config);
    }
    return there;
}

static enum mr_status say_why(struct mr_admin *admin, const struct story *story,
                              const struct mr_past *past, const char *name, int64_t *ret_delivery,
                              struct mr_buf *why)
{
    *ret_delivery = -1;
    for (uint32_t i = 0; i < story->timeline.delivery_count; i++) {
        const char *of = mr__subscription_name(admin, story->timeline.deliveries[i].subscription);
        if (of != NULL && strcmp(of, name) == 0) {
            *ret_delivery = i;
            return say_state(story, i, why);
        }
    }
    const struct mr_config *config = past->config;
    int64_t index = config == NULL ? -1 : mr_config_find_subscription(config, name);
    if (index < 0) {
        return is_newer(admin, past, name)
                   ? mr_buf_append_text(why, "it was not there when the event arrived")
                   : MR_E_NOT_FOUND;
    }
    return config->subscriptions[index].hidden
               ? mr_buf_append_text(why, "it carries outcomes of its subscription, not events")
               : explain(past, (uint32_t)index, story, why);
}

void mr__get_why(struct mr_admin *admin, struct mr__call *call)
{
    const char *id = mr_http_request_query(call->http, "event");
    const char *name = mr_http_request_query(call->http, "subscription");
    if (id == NULL || name == NULL || *id == '\0' || *name == '\0') {
        mr__answer_error(call, 400, "why wants event=ID and subscription=NAME");
        return;
    }
    struct story story;
    struct mr_problem problem = {.text = ""};
    enum mr_status r = tell(admin, id, &story, &problem);
    if (r != MR_OK) {
        answer_missing(call, r, id, &problem);
        return;
    }
    int64_t delivery;
    struct mr_past past;
    struct mr_buf why;
    mr_buf_init(&why, 64 * MR_KIB);
    r = mr_past_open(admin, story.timeline.config_hash, story.event.position, &past);
    if (r == MR_OK) {
        r = say_why(admin, &story, &past, name, &delivery, &why);
    } else {
        past = (struct mr_past){.admin = admin};
    }
    if (r == MR_E_NOT_FOUND) {
        mr__answer_error(call, 404, "no subscription is called %s", name);
    } else if (r != MR_OK) {
        mr__answer_status(call, r, NULL);
    } else {
        answer_why(call, &story, name, delivery, &past, &why);
    }
    mr_past_release(&past);
    mr_buf_release(&why);
    story_release(&story);
}
