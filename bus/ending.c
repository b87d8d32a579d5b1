/* How a delivery ends, in one step: the events the handler emitted, the outcome for the
 * destinations and the SETTLE (or DEAD) record go into the same group. When there is no room for
 * all of it, or the event's bytes are not at hand, nothing is done yet and it is tried again. */
#include "bus/internal.h"

#include <inttypes.h>
#include <stdio.h>

#include "core/alloc.h"
#include "core/logger.h"
#include "schemas/adapter.h"

/* --- outcomes --------------------------------------------------------------------------------- */

#define OUTCOME_ATTEMPTS_MAX 64u

static const struct mr_destination *destinations_of(const struct mr__sub *sub,
                                                    enum mr_state state, uint32_t *ret_count,
                                                    const uint32_t **ret_hidden)
{
    const struct mr_subscription_config *conf = sub->conf;
    *ret_count = 0;
    if (conf == NULL) {
        return NULL;
    }
    if (state == MR_STATE_DONE) {
        *ret_count = conf->on_success_count;
        *ret_hidden = conf->on_success_hidden;
        return conf->on_success;
    }
    if (state == MR_STATE_DEAD || state == MR_STATE_EXPIRED || state == MR_STATE_LOST) {
        *ret_count = conf->on_failure_count;
        *ret_hidden = conf->on_failure_hidden;
        return conf->on_failure;
    }
    return NULL;
}

/* Text of a note, kept while the outcome is made. */
struct attempt_texts {
    char error[OUTCOME_ATTEMPTS_MAX][128];
};

static uint32_t read_notes(const struct mr__delivery *d, struct mr_outcome_attempt *attempts,
                           struct attempt_texts *texts)
{
    uint32_t n = 0;
    uint32_t at = 0;
    const struct mr__notes *notes = d->notes;
    while (notes != NULL && at + 24 <= notes->size && n + 1 < OUTCOME_ATTEMPTS_MAX) {
        uint32_t size = mr_get_u32(notes->data + at);
        struct mr_result result;
        if (mr_result_decode(mr_bytes(notes->data + at + 24, size - 20), &result, NULL) == MR_OK) {
            mr_text_clean(texts->error[n], sizeof(texts->error[n]), result.error);
            attempts[n] = (struct mr_outcome_attempt){
                .n = result.attempts,
                .started_wall_ns = mr_get_u64(notes->data + at + 8),
                .ended_wall_ns = mr_get_u64(notes->data + at + 16),
                .verdict = mr_verdict_text(result.verdict),
                .error = texts->error[n][0] == '\0' ? NULL : texts->error[n],
            };
            n++;
        }
        at += size + 4;
    }
    return n;
}

/* Of an outcome with its result: with all that ends together with it, it must fit a group. */
static size_t outcome_size_max(const struct mr_bus *bus)
{
    size_t most = mr__group_size_max(bus) / 4;
    return most < MR_EVENT_SIZE_MAX ? most : MR_EVENT_SIZE_MAX;
}

/* The outcome event of d. One that cannot be made is left out, told to the log of the process: d
 * ends all the same, and so does what waits behind it. @return MR_OK, MR_E_NOMEM */
static enum mr_status make_outcome(struct mr_bus *bus, const struct mr__delivery *d,
                                   const struct mr__ending *end, struct mr_event **ret_event)
{
    struct mr_result last;
    if (mr_result_decode(mr_buf_bytes(&end->result), &last, NULL) != MR_OK) {
        return MR_E_NOMEM; /* it was encoded a moment ago */
    }
    enum mr_status r = MR_E_NOMEM;
    struct mr_outcome_attempt *attempts =
        mr_calloc(OUTCOME_ATTEMPTS_MAX, sizeof(*attempts));
    struct attempt_texts *texts = mr_calloc(1, sizeof(*texts));
    if (attempts != NULL && texts != NULL) {
        uint32_t n = read_notes(d, attempts, texts);
        if (last.verdict != MR_VERDICT_NONE) {
            mr_text_clean(texts->error[n], sizeof(texts->error[n]), last.error);
            attempts[n] = (struct mr_outcome_attempt){
                .n = last.attempts,
                .started_wall_ns = end->started_wall_ns,
                .ended_wall_ns = end->ended_wall_ns,
                .verdict = mr_verdict_text(last.verdict),
                .error = texts->error[n][0] == '\0' ? NULL : texts->error[n],
            };
            n++;
        }
        char delivery[MR_NAME_SIZE_MAX * 3 + 40];
        (void)snprintf(delivery, sizeof(delivery), "%s:%" PRIu64, d->sub->name, d->offset);
        char reason[256];
        mr_text_clean(reason, sizeof(reason), last.reason);
        r = mr_adapt_outcome(mr_event_record(d->event), delivery, d->sub->name,
                             mr_state_text(end->state), reason, attempts, n,
                             mr_bytes_of(end->result_json), bus->now.wall_ns,
                             outcome_size_max(bus), ret_event);
        if (r != MR_OK && r != MR_E_NOMEM) {
            bus->ports.alarm(bus->ports.context, "the outcome of a delivery cannot be made an "
                                                 "event: it is left out");
            r = MR_OK;
        }
    }
    mr_free(texts);
    mr_free(attempts);
    return r;
}

/* The subscriptions an outcome goes to: the hidden ones of its sinks, and for `bus` whatever the
 * router matches. */
static enum mr_status outcome_matches(struct mr_bus *bus, const struct mr__sub *sub,
                                      enum mr_state state, const struct mr_event *outcome,
                                      struct mr_matches *matches, bool *ret_loop)
{
    uint32_t count;
    const uint32_t *hidden = NULL;
    const struct mr_destination *to = destinations_of(sub, state, &count, &hidden);
    bool to_bus = false;
    *ret_loop = false;
    for (uint32_t i = 0; i < count; i++) {
        to_bus = to_bus || to[i].is_bus;
    }
    matches->count = 0;
    uint32_t hops_max = bus->config->hops_max;
    if (to_bus && mr_event_hops(mr_event_record(outcome)) > hops_max) {
        *ret_loop = true;
        to_bus = false;
    }
    if (to_bus) {
        enum mr_status r =
            mr_router_match(bus->router, UINT32_MAX, mr_event_record(outcome), matches);
        if (r != MR_OK) {
            return r;
        }
        for (uint32_t i = 0; i < matches->count; i++) {
            matches->items[i].subscription = bus->sub_of_index[matches->items[i].subscription];
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        if (to[i].is_bus) {
            continue;
        }
        if (matches->count == matches->capacity) {
            uint32_t capacity = matches->capacity * 2 + 4;
            struct mr_match *grown = mr_realloc(matches->items, capacity * sizeof(*grown));
            if (grown == NULL) {
                return MR_E_NOMEM;
            }
            matches->items = grown;
            matches->capacity = capacity;
        }
        matches->items[matches->count++] =
            (struct mr_match){.subscription = bus->sub_of_index[hidden[i]]};
    }
    return MR_OK;
}

/* --- the end ---------------------------------------------------------------------------------- */

static struct mr_bytes result_data(const struct mr__ending *end)
{
    bool kept = end->state == MR_STATE_DONE || MR_PLANTED(RESULT_OF_ANY);
    return mr_bytes_of(kept ? end->result_json : NULL);
}

static size_t end_record_size(const struct mr__delivery *d, const struct mr__ending *end)
{
    return mr_record_size(end->result.size + (d->notes == NULL ? 0 : d->notes->size));
}

static uint64_t log_end(struct mr_bus *bus, const struct mr__delivery *d,
                        const struct mr__ending *end)
{
    struct mr_record record = {
        .kind = end->state == MR_STATE_DEAD ? MR_RECORD_DEAD : MR_RECORD_SETTLE,
        .extra = (uint16_t)end->state,
        .offset = d->offset,
        .a = d->sub->id,
        .b = d->fence,
        .c = end->started_wall_ns,
        .d = end->ended_wall_ns,
    };
    if (end->state == MR_STATE_DEAD && d->notes != NULL) {
        /* Written in place: result, then the attempts before. */
        struct mr__group *stage = &bus->stage;
        size_t have = stage->size == 0 ? MR_GROUP_HEADER_SIZE : stage->size;
        uint8_t *body = stage->data + have + MR_RECORD_HEADER_SIZE;
        memcpy(body, end->result.data, end->result.size);
        memcpy(body + end->result.size, d->notes->data, d->notes->size);
        record.body = mr_bytes(body, end->result.size + d->notes->size);
    } else {
        record.body = mr_buf_bytes(&end->result);
    }
    return mr__stage_record(bus, &record);
}

/* Before its end, so that who reads the one knows the other. */
static void log_result(struct mr_bus *bus, const struct mr__delivery *d,
                       const struct mr__ending *end)
{
    if (MR_PLANTED(RESULT_LOST) && d->offset % 8 == 0) {
        return;
    }
    struct mr_record record = {
        .kind = MR_RECORD_RESULT,
        .flags = MR_RECORD_SKIPPABLE,
        .offset = d->offset,
        .a = d->sub->id,
        .b = d->fence,
        .body = result_data(end),
    };
    (void)mr__stage_record(bus, &record); /* where it lies does not matter */
}

/* @param result what is in the log of what the handler answered; may be empty */
static void tell_fanouts(struct mr_bus *bus, const struct mr__delivery *d,
                         const struct mr__ending *ending, struct mr_bytes result)
{
    struct mr_result last = {0};
    if (bus->join_count == 0 ||
        mr_result_decode(mr_buf_bytes(&ending->result), &last, NULL) != MR_OK) {
        last = (struct mr_result){.attempts = d->attempts};
    }
    const struct mr__end end = {.state = ending->state,
                                .attempts = last.attempts,
                                .reason = last.reason,
                                .result = result};
    mr__fanout_ended(bus, d->sub->id, d->offset, &end);
}

static void apply_end(struct mr_bus *bus, struct mr__delivery *d, enum mr_state state,
                      uint64_t record_at)
{
    struct mr__sub *sub = d->sub;
    uint64_t offset = d->offset;
    mr__time_delivery(sub, bus->log_ns > d->arrival_ns ? bus->log_ns - d->arrival_ns : 0);
    if (state == MR_STATE_DEAD) {
        struct mr_dead_letter letter = {
            .offset = offset,
            .event_position = d->position, /* absolute, or a byte in the stage */
            .record_position = record_at,
            .died_log_ns = bus->log_ns,
            .attempts = d->attempts,
            .fence = d->fence,
            .event_size = d->size,
            .lane = d->lane == NULL ? 0 : d->lane->key,
            .level = d->level,
        };
        mr__state_add_dead(bus, sub, &letter);
        mr__stage_dead(bus, sub->id, offset);
    }
    mr__state_end(bus, d, state);
}

/* @param ret_keeps whether the result data goes into the log: not when it and all the
 * rest are more than half a group, for the end itself must never wait for room that cannot be */
static enum mr_status reserve_end(struct mr_bus *bus, struct mr__delivery *d,
                                  const struct mr__ending *end, const struct mr_event *outcome,
                                  const struct mr_matches *matches,
                                  const struct mr_handout *answer, bool *ret_keeps)
{
    size_t bytes = end_record_size(d, end);
    uint32_t deliveries = matches->count;
    uint32_t rejected = end->state == MR_STATE_DEAD;
    if (outcome != NULL) {
        bytes += mr_record_size(outcome->size) + mr__fanout_size(bus, matches->count) +
                 mr_record_size((size_t)matches->count * MR_MATCH_ENTRY_SIZE) + 1024;
        rejected++;
    }
    for (uint32_t i = 0; answer != NULL && i < answer->answer.emitted_count; i++) {
        const struct mr_batch_item *item = &answer->answer.emitted[i];
        bytes += mr_record_size(item->event->size) + mr__fanout_size(bus, item->matches.count) +
                 mr_record_size((size_t)item->matches.count * MR_MATCH_ENTRY_SIZE) + 1024;
        deliveries += item->matches.count;
        rejected++;
    }
    size_t result_size = mr_record_size(result_data(end).size);
    *ret_keeps = result_data(end).size > 0 &&
                 bytes + result_size <= mr__group_size_max(bus) / 2;
    bytes += *ret_keeps ? result_size : 0;
    enum mr_status r = mr__stage_reserve(bus, bytes);
    r = r == MR_OK ? mr__state_reserve_dead(bus, d->sub) : r;
    r = r == MR_OK ? mr__stage_reserve_dead(bus, rejected) : r;
    r = r == MR_OK ? mr__stage_reserve_created(bus, deliveries) : r;
    uint32_t emitted = answer == NULL ? 0 : answer->answer.emitted_count;
    mr__arrivals_begin(bus);
    mr__arrivals_wish(bus, matches);
    for (uint32_t i = 0; i < emitted; i++) {
        mr__arrivals_wish(bus, &answer->answer.emitted[i].matches);
    }
    mr__arrivals_reserve(bus, matches);
    for (uint32_t i = 0; i < emitted; i++) {
        mr__arrivals_reserve(bus, &answer->answer.emitted[i].matches);
    }
    mr__fanout_forget(bus);
    if (r == MR_OK && outcome != NULL) {
        r = mr__fanout_prepare(bus, outcome, matches->items, matches->count, 0);
    }
    for (uint32_t i = 0; answer != NULL && i < answer->answer.emitted_count && r == MR_OK; i++) {
        const struct mr_batch_item *item = &answer->answer.emitted[i];
        r = mr__fanout_prepare(bus, item->event, item->matches.items, item->matches.count, 0);
    }
    if (r == MR_OK && rejected > (end->state == MR_STATE_DEAD)) {
        struct mr__sub *ingest = mr__ingest_sub(bus, MR_SOURCE_BUS);
        r = ingest == NULL ? MR_E_FULL : mr__state_reserve_dead_more(bus, ingest, rejected);
    }
    return r;
}

/* Events emitted by the bus or a handler: past the hop limit they are dead letters, not a loop. */
static void append_child(struct mr_bus *bus, struct mr_event *event, uint32_t cause_sub,
                         uint64_t cause_offset, const struct mr_matches *matches)
{
    if (mr_event_hops(mr_event_record(event)) > bus->config->hops_max) {
        (void)mr__event_append_rejected(bus, event, MR_SOURCE_BUS,
                                        mr__ingest_sub(bus, MR_SOURCE_BUS)->id,
                                        "hop limit reached: this event has come round too often");
        return;
    }
    (void)mr__event_append(bus, event, MR_SOURCE_BUS, cause_sub, cause_offset, matches->items,
                           matches->count);
}

/* Does all of it, or nothing. @return MR_OK: d is gone */
static enum mr_status finish(struct mr_bus *bus, struct mr__delivery *d,
                             const struct mr__ending *end, const struct mr_handout *answer)
{
    uint32_t count;
    const uint32_t *hidden;
    (void)destinations_of(d->sub, end->state, &count, &hidden); /* only the number is wanted */
    struct mr_event *outcome = NULL;
    struct mr_matches matches = {0};
    enum mr_status r = MR_OK;
    bool loop = false;
    bool keeps_result = false;
    if (count > 0 && d->event != NULL) {
        r = make_outcome(bus, d, end, &outcome);
    }
    if (r == MR_OK && outcome != NULL) {
        r = outcome_matches(bus, d->sub, end->state, outcome, &matches, &loop);
    }
    if (r == MR_OK) {
        r = reserve_end(bus, d, end, outcome, &matches, answer, &keeps_result);
    }
    if (r == MR_OK) {
        uint32_t sub = d->sub->id;
        uint64_t offset = d->offset;
        for (uint32_t i = 0; answer != NULL && i < answer->answer.emitted_count; i++) {
            if (MR_PLANTED(SETTLE_ALONE)) {
                break;
            }
            const struct mr_batch_item *item = &answer->answer.emitted[i];
            append_child(bus, item->event, sub, offset, &item->matches);
        }
        if (outcome != NULL && !MR_PLANTED(OUTCOME_LOST) && (matches.count > 0 || !loop)) {
            (void)mr__event_append(bus, outcome, MR_SOURCE_BUS, sub, offset, matches.items,
                                   matches.count);
        }
        if (loop) {
            (void)mr__event_append_rejected(bus, outcome, MR_SOURCE_BUS,
                                            mr__ingest_sub(bus, MR_SOURCE_BUS)->id,
                                            "hop limit reached: outcomes go round in a loop");
        }
        if (keeps_result) {
            log_result(bus, d, end);
        }
        bool unlogged = MR_PLANTED(DEAD_UNLOGGED) && end->state == MR_STATE_DEAD;
        uint64_t at = unlogged ? MR_GROUP_HEADER_SIZE : log_end(bus, d, end);
        tell_fanouts(bus, d, end, keeps_result ? result_data(end) : mr_bytes(NULL, 0));
        apply_end(bus, d, end->state, at);
    }
    mr_event_unref(outcome);
    mr_matches_release(&matches);
    return r;
}

void mr__ending_release(struct mr__ending *end)
{
    if (end != NULL) {
        mr_buf_release(&end->result);
        mr_free(end->result_json);
        mr_free(end);
    }
}

/* Whether the end of d must wait for the event's bytes. */
static bool needs_event(const struct mr__delivery *d, enum mr_state state)
{
    uint32_t count;
    const uint32_t *hidden;
    (void)destinations_of(d->sub, state, &count, &hidden); /* only the number is wanted */
    return count > 0 && d->event == NULL && state != MR_STATE_LOST;
}

/* Ends d now, or leaves it ENDING until its bytes are there. @p end: ownership moves on MR_OK. */
enum mr_status mr__finish_or_wait(struct mr_bus *bus, struct mr__delivery *d,
                                  struct mr__ending *end, const struct mr_handout *answer)
{
    bool emits = answer != NULL && answer->answer.emitted_count > 0;
    if (!needs_event(d, end->state) || emits) {
        enum mr_status r = finish(bus, d, end, answer);
        if (r == MR_OK) {
            mr__ending_release(end);
        }
        return r;
    }
    mr__state_ending(bus, d, end);
    mr__load_event(bus, d);
    return MR_OK;
}

void mr__ending_ready(struct mr_bus *bus, struct mr__delivery *d)
{
    struct mr__ending *end = d->ending;
    MR_ASSERT(end != NULL && d->event != NULL);
    d->ending = NULL;
    if (finish(bus, d, end, NULL) == MR_OK) {
        mr__ending_release(end);
    } else {
        d->ending = end; /* no room in this group: the next step tries again */
        mr__list_push(&bus->loading, d);
    }
}

struct mr__ending *mr__ending_plain(const struct mr_bus *bus, const struct mr__delivery *d,
                                    enum mr_state state, const char *reason)
{
    struct mr__ending *end = mr_calloc(1, sizeof(*end));
    if (end == NULL) {
        return NULL;
    }
    *end = (struct mr__ending){
        .state = state, .started_wall_ns = 0, .ended_wall_ns = bus->now.wall_ns};
    mr_buf_init(&end->result, 4096);
    struct mr_result result = {
        .verdict = MR_VERDICT_NONE,
        .attempts = d->attempts,
        .refusals = d->refusals,
        .interruptions = d->interruptions,
        .exit_code = -1,
        .policy = d->sub->conf == NULL ? 0 : d->sub->conf->hash,
        .reason = mr_bytes_of(reason),
    };
    if (mr_result_encode(&result, &end->result) != MR_OK) {
        mr__ending_release(end);
        return NULL;
    }
    return end;
}

/* What its worker answered, if it did, goes into the end. */
static enum mr_status take_answer(struct mr__ending *end, const struct mr__ending *answered,
                                  const char *reason)
{
    struct mr_result result;
    enum mr_status r = mr_result_decode(mr_buf_bytes(&answered->result), &result, NULL);
    if (r != MR_OK) {
        return r;
    }
    result.reason = mr_bytes_of(reason);
    end->started_wall_ns = answered->started_wall_ns;
    end->ended_wall_ns = answered->ended_wall_ns;
    mr_buf_clear(&end->result);
    return mr_result_encode(&result, &end->result);
}

bool mr__finish_lost(struct mr_bus *bus, struct mr__delivery *d)
{
    static const char reason[] = "the log gave back damaged bytes";
    struct mr__ending *answered = MR_TAKE(d->ending);
    struct mr__ending *end = mr__ending_plain(bus, d, MR_STATE_LOST, reason);
    enum mr_status r = end == NULL ? MR_E_NOMEM : MR_OK;
    r = r == MR_OK && answered != NULL ? take_answer(end, answered, reason) : r;
    r = r == MR_OK ? mr__finish_or_wait(bus, d, end, NULL) : r;
    if (r != MR_OK) {
        mr__ending_release(end);
        d->ending = answered;
        return false;
    }
    mr__ending_release(answered);
    return true;
}

bool mr__finish_plain(struct mr_bus *bus, struct mr__delivery *d, enum mr_state state,
                      const char *reason)
{
    struct mr__ending *end = mr__ending_plain(bus, d, state, reason);
    if (end == NULL || mr__finish_or_wait(bus, d, end, NULL) != MR_OK) {
        mr__ending_release(end);
        return false;
    }
    return true;
}
