/* What becomes of a delivery: verdicts, leases that run out, expiry, the end with its outcome.
 *
 * An end is one step: the events the handler emitted, the outcome for the destinations and the
 * SETTLE (or DEAD) record go into the same group. When there is no room for all of it, or the
 * event's bytes are not at hand, nothing is done yet and it is tried again. */
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

/* The outcome event of d, or NULL when memory is short. */
static struct mr_event *make_outcome(struct mr_bus *bus, const struct mr__delivery *d,
                                     const struct mr__ending *end)
{
    struct mr_result last;
    if (mr_result_decode(mr_buf_bytes(&end->result), &last, NULL) != MR_OK) {
        return NULL;
    }
    struct mr_outcome_attempt *attempts =
        mr_calloc(OUTCOME_ATTEMPTS_MAX, sizeof(*attempts));
    struct attempt_texts *texts = mr_calloc(1, sizeof(*texts));
    struct mr_event *outcome = NULL;
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
        enum mr_status r = mr_adapt_outcome(
            mr_event_record(d->event), delivery, d->sub->name, mr_state_text(end->state), reason,
            attempts, n, mr_bytes_of(end->result_json), bus->now.wall_ns, MR_EVENT_SIZE_MAX,
            &outcome);
        if (r == MR_E_TOO_BIG || r == MR_E_INVALID) {
            /* The original does not fit beside its outcome: without the result. */
            r = mr_adapt_outcome(mr_event_record(d->event), delivery, d->sub->name,
                                 mr_state_text(end->state), reason, attempts, n,
                                 mr_bytes(NULL, 0), bus->now.wall_ns, MR_EVENT_SIZE_MAX * 2,
                                 &outcome);
        }
        if (r != MR_OK) {
            outcome = NULL;
        }
    }
    mr_free(texts);
    mr_free(attempts);
    return outcome;
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
        };
        mr__state_add_dead(bus, sub, &letter);
        mr__stage_dead(bus, sub->id, offset);
    }
    mr__state_end(bus, d, state);
}

static enum mr_status reserve_end(struct mr_bus *bus, struct mr__delivery *d,
                                  const struct mr__ending *end, const struct mr_event *outcome,
                                  const struct mr_matches *matches,
                                  const struct mr_handout *answer)
{
    size_t bytes = end_record_size(d, end);
    uint32_t deliveries = matches->count;
    uint32_t rejected = end->state == MR_STATE_DEAD;
    if (outcome != NULL) {
        bytes += mr_record_size(outcome->size) +
                 mr_record_size((size_t)matches->count * MR_MATCH_ENTRY_SIZE) + 1024;
        rejected++;
    }
    for (uint32_t i = 0; answer != NULL && i < answer->answer.emitted_count; i++) {
        const struct mr_batch_item *item = &answer->answer.emitted[i];
        bytes += mr_record_size(item->event->size) +
                 mr_record_size((size_t)item->matches.count * MR_MATCH_ENTRY_SIZE) + 1024;
        deliveries += item->matches.count;
        rejected++;
    }
    enum mr_status r = mr__stage_reserve(bus, bytes);
    r = r == MR_OK ? mr__state_reserve_dead(d->sub) : r;
    r = r == MR_OK ? mr__stage_reserve_dead(bus, rejected) : r;
    r = r == MR_OK ? mr__stage_reserve_created(bus, deliveries) : r;
    r = r == MR_OK ? mr__state_reserve_total(bus, deliveries) : r;
    for (uint32_t i = 0; i < matches->count && r == MR_OK; i++) {
        struct mr__sub *to = bus->subs[matches->items[i].subscription];
        r = mr__state_reserve(bus, to, deliveries);
    }
    for (uint32_t i = 0; answer != NULL && i < answer->answer.emitted_count; i++) {
        const struct mr_matches *m = &answer->answer.emitted[i].matches;
        for (uint32_t k = 0; k < m->count && r == MR_OK; k++) {
            r = mr__state_reserve(bus, bus->subs[m->items[k].subscription], deliveries);
        }
    }
    if (r == MR_OK && rejected > (end->state == MR_STATE_DEAD)) {
        struct mr__sub *ingest = mr__ingest_sub(bus, MR_SOURCE_BUS);
        r = ingest == NULL ? MR_E_FULL : mr__state_reserve_dead_more(ingest, rejected);
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
    if (count > 0 && d->event != NULL) {
        outcome = make_outcome(bus, d, end);
        r = outcome == NULL
                ? MR_E_NOMEM
                : outcome_matches(bus, d->sub, end->state, outcome, &matches, &loop);
    }
    if (r == MR_OK) {
        r = reserve_end(bus, d, end, outcome, &matches, answer);
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
        bool unlogged = MR_PLANTED(DEAD_UNLOGGED) && end->state == MR_STATE_DEAD;
        uint64_t at = unlogged ? MR_GROUP_HEADER_SIZE : log_end(bus, d, end);
        apply_end(bus, d, end->state, at);
    }
    mr_event_unref(outcome);
    mr_matches_release(&matches);
    return r;
}

static void ending_release(struct mr__ending *end)
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
static enum mr_status finish_or_wait(struct mr_bus *bus, struct mr__delivery *d,
                                     struct mr__ending *end, const struct mr_handout *answer)
{
    bool emits = answer != NULL && answer->answer.emitted_count > 0;
    if (!needs_event(d, end->state) || emits) {
        enum mr_status r = finish(bus, d, end, answer);
        if (r == MR_OK) {
            ending_release(end);
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
        ending_release(end);
    } else {
        d->ending = end; /* no room in this group: the next step tries again */
        mr__list_push(&bus->loading, d);
    }
}

bool mr__finish_plain(struct mr_bus *bus, struct mr__delivery *d, enum mr_state state,
                      const char *reason)
{
    struct mr__ending *end = mr_calloc(1, sizeof(*end));
    if (end == NULL) {
        return false;
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
    if (mr_result_encode(&result, &end->result) != MR_OK ||
        finish_or_wait(bus, d, end, NULL) != MR_OK) {
        ending_release(end);
        return false;
    }
    return true;
}

/* --- verdicts --------------------------------------------------------------------------------- */

struct decision {
    enum mr_state state;  /* WAITING: again at due; else the end, or HELD */
    uint64_t due_ns;      /* log clock; 0: at once */
    bool counts;          /* the attempt counts against the budget */
    bool refusal;
    bool suspect;
    const char *reason;
};

static uint64_t jittered(struct mr_bus *bus, const struct mr_retry *retry, uint64_t step)
{
    if (retry->jitter == MR_JITTER_FULL) {
        return step == 0 ? 0 : mr_rng_below(&bus->rng, step) + 1;
    }
    uint64_t spread = retry->jitter == MR_JITTER_PERCENT ? step / 100 * retry->jitter_percent : 0;
    if (spread == 0) {
        return step;
    }
    return step - spread + mr_rng_below(&bus->rng, 2 * spread + 1);
}

static uint64_t add_saturated(uint64_t a, uint64_t b)
{
    uint64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX - 1 : sum;
}

static void decide_retry(struct mr_bus *bus, const struct mr__delivery *d,
                         const struct mr_answer *answer, struct decision *decision)
{
    const struct mr_subscription_config *conf = d->sub->conf;
    decision->counts = true;
    if (conf == NULL) { /* removed meanwhile: it waits for its expiry, or to come back */
        decision->state = MR_STATE_WAITING;
        decision->due_ns = add_saturated(bus->log_ns, MR_MINUTE);
        return;
    }
    uint32_t attempts = d->attempts + 1u;
    if (attempts > conf->retry.step_count) {
        bool hold = conf->on_exhausted == MR_EXHAUSTED_HOLD;
        decision->state = hold ? MR_STATE_HELD : MR_STATE_DEAD;
        decision->reason = "attempts used up";
        return;
    }
    uint64_t wait = jittered(bus, &conf->retry, conf->retry.step_ns[attempts - 1]);
    if (answer->has_after) {
        uint64_t after = answer->after_ns < conf->retry_after_max_ns ? answer->after_ns
                                                                     : conf->retry_after_max_ns;
        wait = after > wait ? after : wait;
    }
    decision->state = MR_STATE_WAITING;
    decision->due_ns = add_saturated(bus->log_ns, wait);
}

static uint64_t refused_wait(struct mr_bus *bus, const struct mr__delivery *d,
                             const struct mr_answer *answer)
{
    uint32_t shift = d->refusals > 9 ? 9 : d->refusals;
    uint64_t wait = REFUSED_BACKOFF_NS << shift;
    wait = wait > REFUSED_BACKOFF_MAX_NS ? REFUSED_BACKOFF_MAX_NS : wait;
    wait = wait / 2 + mr_rng_below(&bus->rng, wait / 2 + 1);
    const struct mr_subscription_config *conf = d->sub->conf;
    if (answer->has_after && conf != NULL) {
        uint64_t after = answer->after_ns < conf->retry_after_max_ns ? answer->after_ns
                                                                     : conf->retry_after_max_ns;
        wait = after > wait ? after : wait;
    }
    return add_saturated(bus->log_ns, wait);
}

static struct decision decide(struct mr_bus *bus, const struct mr__delivery *d,
                              const struct mr_answer *answer)
{
    struct decision decision = {.reason = ""};
    switch (answer->verdict) {
    case MR_VERDICT_OK:
        decision.state = MR_STATE_DONE;
        decision.counts = true;
        break;
    case MR_VERDICT_DROP:
        decision.state = MR_STATE_DROPPED;
        decision.counts = true;
        decision.reason = "the handler said drop";
        break;
    case MR_VERDICT_DEAD:
        decision.state = MR_STATE_DEAD;
        decision.counts = true;
        decision.reason = "the handler said dead";
        break;
    case MR_VERDICT_REFUSED:
        decision.state = MR_STATE_WAITING;
        decision.refusal = true;
        decision.counts = MR_PLANTED(REFUSAL_COUNTED);
        decision.due_ns = refused_wait(bus, d, answer);
        break;
    case MR_VERDICT_CRASH:
        if ((answer->suspects == 0 || answer->suspects > 1) && !MR_PLANTED(SUSPECT_PAYS)) {
            /* Stopped by us, or one of several on the instance: no attempt of its own. */
            decision.state = MR_STATE_WAITING;
            decision.suspect = answer->suspects > 1;
            break;
        }
        decide_retry(bus, d, answer, &decision);
        break;
    case MR_VERDICT_RETRY:
    case MR_VERDICT_TIMEOUT:
    case MR_VERDICT_NONE:
    case MR_VERDICT_INTERRUPTED:
    case MR_VERDICT_MAX:
        decide_retry(bus, d, answer, &decision);
        break;
    }
    return decision;
}

static void fill_result(const struct mr__delivery *d, const struct mr_answer *answer,
                        const struct decision *decision, struct mr_result *ret_result)
{
    *ret_result = (struct mr_result){
        .verdict = (uint8_t)answer->verdict,
        .attempts = d->attempts + (decision->counts ? 1u : 0u),
        .refusals = d->refusals + (decision->refusal ? 1u : 0u),
        .interruptions = d->interruptions,
        .exit_code = answer->exit_code,
        .exit_signal = answer->exit_signal,
        .rss_peak = answer->rss_peak,
        .due_ns = decision->due_ns,
        .policy = d->sub->conf == NULL ? 0 : d->sub->conf->hash,
        .children = answer->emitted_count,
        .alone = d->alone || decision->suspect,
        .instance = mr_bytes_of(answer->instance),
        .version = mr_bytes_of(answer->version),
        .error = mr_bytes_of(answer->error),
        .stderr_tail = mr_bytes_of(answer->stderr_tail),
        .reason = mr_bytes_of(decision->reason),
    };
}

static void saturate_u16(uint16_t *counter, uint32_t value)
{
    *counter = value > UINT16_MAX ? UINT16_MAX : (uint16_t)value;
}

/* Back to waiting, or held: logged with what the attempt said. */
static enum mr_status go_on(struct mr_bus *bus, struct mr__delivery *d,
                            const struct mr_answer *answer, const struct decision *decision)
{
    struct mr_result result;
    fill_result(d, answer, decision, &result);
    struct mr_buf body;
    mr_buf_init(&body, 16 * MR_KIB);
    enum mr_status r = mr_result_encode(&result, &body);
    if (r == MR_OK) {
        r = mr__stage_reserve(bus, mr_record_size(body.size));
    }
    if (r == MR_OK) {
        struct mr_record record = {
            .kind = MR_RECORD_RETRY,
            .extra = (uint16_t)decision->state,
            .offset = d->offset,
            .a = d->sub->id,
            .b = d->fence,
            .c = answer->started_wall_ns,
            .d = answer->ended_wall_ns,
            .body = mr_buf_bytes(&body),
        };
        (void)mr__stage_record(bus, &record);
        mr__note_add(bus, d, d->fence, answer->started_wall_ns, answer->ended_wall_ns, &result);
        saturate_u16(&d->attempts, result.attempts);
        saturate_u16(&d->refusals, result.refusals);
        d->alone = result.alone;
        if (decision->state == MR_STATE_HELD) {
            mr__state_hold(bus, d);
        } else {
            mr__state_wait(bus, d, decision->due_ns);
        }
    }
    mr_buf_release(&body);
    return r;
}

static enum mr_status end_with(struct mr_bus *bus, struct mr__delivery *d,
                               const struct mr_handout *h, const struct mr_answer *answer,
                               const struct decision *decision)
{
    struct mr__ending *end = mr_calloc(1, sizeof(*end));
    if (end == NULL) {
        return MR_E_NOMEM;
    }
    *end = (struct mr__ending){
        .state = decision->state,
        .started_wall_ns = answer->started_wall_ns,
        .ended_wall_ns = answer->ended_wall_ns,
    };
    mr_buf_init(&end->result, 16 * MR_KIB);
    struct mr_result result;
    fill_result(d, answer, decision, &result);
    enum mr_status r = mr_result_encode(&result, &end->result);
    if (r == MR_OK && answer->result != NULL) {
        end->result_json = mr_strdup(answer->result);
        r = end->result_json == NULL ? MR_E_NOMEM : MR_OK;
    }
    if (r == MR_OK) {
        if (d->event == NULL && h != NULL && h->event != NULL) {
            d->event = mr_event_ref(h->event); /* the outcome needs it */
        }
        uint16_t attempts_before = d->attempts;
        saturate_u16(&d->attempts, result.attempts);
        r = finish_or_wait(bus, d, end, h);
        if (r != MR_OK) {
            d->attempts = attempts_before;
        }
    }
    if (r != MR_OK) {
        ending_release(end);
    }
    return r;
}

/* Applies an answer to d. @return MR_E_FULL, MR_E_NOMEM: nothing happened, try again */
static enum mr_status apply(struct mr_bus *bus, struct mr__delivery *d,
                            const struct mr_handout *h, const struct mr_answer *answer)
{
    struct decision decision = decide(bus, d, answer);
    bool ends = decision.state != MR_STATE_WAITING && decision.state != MR_STATE_HELD;
    return ends ? end_with(bus, d, h, answer, &decision) : go_on(bus, d, answer, &decision);
}

static bool breaker_ok(enum mr_verdict v)
{
    return v == MR_VERDICT_OK || v == MR_VERDICT_DROP || v == MR_VERDICT_DEAD;
}

static enum mr_status log_late(struct mr_bus *bus, const struct mr_handout *h)
{
    const struct mr_answer *answer = &h->answer;
    struct mr_result result = {
        .verdict = (uint8_t)answer->verdict,
        .exit_code = answer->exit_code,
        .exit_signal = answer->exit_signal,
        .instance = mr_bytes_of(answer->instance),
        .version = mr_bytes_of(answer->version),
        .error = mr_bytes_of(answer->error),
        .reason = MR_BYTES_LITERAL("came when it no longer counted"),
    };
    struct mr_buf body;
    mr_buf_init(&body, 16 * MR_KIB);
    enum mr_status r = mr_result_encode(&result, &body);
    if (r == MR_OK) {
        r = mr__stage_reserve(bus, mr_record_size(body.size));
    }
    if (r == MR_OK) {
        struct mr_record record = {
            .kind = MR_RECORD_LATE,
            .flags = MR_RECORD_SKIPPABLE,
            .offset = h->offset,
            .a = h->subscription,
            .b = h->fence,
            .c = answer->started_wall_ns,
            .d = answer->ended_wall_ns,
            .body = mr_buf_bytes(&body),
        };
        (void)mr__stage_record(bus, &record); /* for the timeline only */
        bus->late_answers++;
    }
    mr_buf_release(&body);
    return r;
}

/* Emitted events carry matches of a configuration; they become subscription ids once. */
static enum mr_status settle_emitted(struct mr_bus *bus, struct mr_handout *h)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < h->answer.emitted_count; i++) {
        struct mr_batch_item *item = &h->answer.emitted[i];
        enum mr_status r = mr_router_match(bus->router, UINT32_MAX, mr_event_record(item->event),
                                           &item->matches);
        if (r != MR_OK) {
            return r;
        }
        for (uint32_t k = 0; k < item->matches.count; k++) {
            uint32_t index = item->matches.items[k].subscription;
            item->matches.items[k].subscription = bus->sub_of_index[index];
        }
        bytes += mr_record_size(item->event->size) +
                 mr_record_size((size_t)item->matches.count * MR_MATCH_ENTRY_SIZE);
    }
    if (bytes > mr__group_size_max(bus) / 2) {
        /* More than one group can hold: the handler must emit less. */
        for (uint32_t i = 0; i < h->answer.emitted_count; i++) {
            mr_event_unref(h->answer.emitted[i].event);
            mr_matches_release(&h->answer.emitted[i].matches);
        }
        h->answer.emitted_count = 0;
        h->answer.verdict = MR_VERDICT_DEAD;
        mr_handout_set_error(h, MR_BYTES_LITERAL("the emitted events exceed a group of the log"));
    }
    return MR_OK;
}

/* @return false: no room now */
static bool take_answer(struct mr_bus *bus, struct mr_handout *h)
{
    struct mr__sub *sub = bus->subs[h->subscription];
    struct mr__delivery *d = mr__delivery_find(sub, h->offset);
    bool current = d != NULL && (d->fence == h->fence || MR_PLANTED(STALE_FENCE)) &&
                   d->where == MR__FLIGHT;
    bool late_end = d != NULL && d->fence == h->fence && d->timed_out &&
                    (d->where == MR__WAITING || d->where == MR__READY ||
                     d->where == MR__BLOCKED || d->where == MR__HELD) &&
                    breaker_ok(h->answer.verdict);
    enum mr_status r = MR_OK;
    if ((current || late_end) && h->answer.emitted_count > 0) {
        r = settle_emitted(bus, h);
    }
    if (r == MR_OK) {
        r = current || late_end ? apply(bus, d, h, &h->answer) : log_late(bus, h);
    }
    return r == MR_OK;
}

static void free_answer(struct mr_bus *bus, struct mr_handout *h)
{
    const struct mr_answer *answer = &h->answer;
    if (answer->started_wall_ns != 0 && answer->ended_wall_ns >= answer->started_wall_ns) {
        mr__time_attempt(bus->subs[h->subscription],
                         answer->ended_wall_ns - answer->started_wall_ns);
    }
    bus->subs[h->subscription]->attempts_by_verdict[h->answer.verdict]++;
    mr_handout_destroy(h);
}

void mr_bus_answer(struct mr_bus *bus, struct mr_now now, struct mr_handout *h)
{
    mr__clock_advance(bus, now);
    MR_ASSERT(h->subscription < bus->sub_count && h->target < bus->target_count);
    MR_ASSERT(h->answer.verdict != MR_VERDICT_NONE);
    struct mr__target *target = bus->targets[h->target];
    MR_ASSERT(target->in_flight > 0);
    target->in_flight--;
    bool stopped = h->answer.verdict == MR_VERDICT_CRASH && h->answer.suspects == 0;
    if (!stopped) {
        mr__breaker_count(bus, target, breaker_ok(h->answer.verdict));
    }
    if (bus->deferred == NULL && !bus->faulty && take_answer(bus, h)) {
        free_answer(bus, h);
        return;
    }
    if (bus->faulty) {
        mr_handout_destroy(h); /* nothing can be recorded any more; a restart tells it again */
        return;
    }
    h->op.next = NULL;
    if (bus->deferred_last != NULL) {
        bus->deferred_last->op.next = &h->op;
    } else {
        bus->deferred = h;
    }
    bus->deferred_last = h;
}

void mr__deferred_run(struct mr_bus *bus)
{
    while (bus->deferred != NULL) {
        struct mr_handout *h = bus->deferred;
        struct mr_handout *next = (struct mr_handout *)h->op.next;
        if (!bus->faulty && !take_answer(bus, h)) {
            return;
        }
        bus->deferred = next;
        if (next == NULL) {
            bus->deferred_last = NULL;
        }
        free_answer(bus, h);
    }
}

/* --- leases and timers ------------------------------------------------------------------------ */

void mr_bus_heartbeat(struct mr_bus *bus, struct mr_now now, uint32_t subscription,
                      uint64_t offset, uint32_t fence)
{
    mr__clock_advance(bus, now);
    if (subscription >= bus->sub_count) {
        return;
    }
    struct mr__sub *sub = bus->subs[subscription];
    struct mr__delivery *d = mr__delivery_find(sub, offset);
    if (d == NULL || d->fence != fence || d->where != MR__FLIGHT || sub->conf == NULL ||
        sub->target == NULL || sub->target->conf == NULL) {
        return;
    }
    uint64_t timeout =
        sub->conf->timeout_ns != 0 ? sub->conf->timeout_ns : sub->target->conf->timeout_ns;
    uint64_t lease = add_saturated(bus->log_ns, timeout);
    uint64_t end = add_saturated(d->started_ns, sub->target->conf->max_run_ns);
    d->lease_ns = lease < end ? lease : end;
    mr__timer_set(bus, d);
}

/* The lease ran out: the target is told, and the attempt is over as far as the bus is concerned.
 * @return false: no room now */
static bool time_out(struct mr_bus *bus, struct mr__delivery *d)
{
    char error[80];
    uint64_t ran_ms = (bus->log_ns - d->started_ns) / MR_MS;
    (void)snprintf(error, sizeof(error), "no answer within %" PRIu64 " ms", ran_ms);
    struct mr_answer answer = {
        .verdict = MR_VERDICT_TIMEOUT,
        .exit_code = -1,
        .started_wall_ns = d->started_wall_ns,
        .ended_wall_ns = bus->now.wall_ns,
        .error = error,
    };
    uint32_t target = d->sub->target == NULL ? UINT32_MAX : d->sub->target->id;
    uint32_t sub = d->sub->id;
    uint64_t offset = d->offset;
    uint32_t fence = d->fence;
    if (apply(bus, d, NULL, &answer) != MR_OK) {
        return false;
    }
    bus->subs[sub]->attempts_by_verdict[MR_VERDICT_TIMEOUT]++;
    struct mr__delivery *still = mr__delivery_find(bus->subs[sub], offset);
    if (still != NULL && still->where != MR__ENDING) {
        still->timed_out = true;
    }
    if (target != UINT32_MAX) {
        bus->ports.cancel(bus->ports.context, target, sub, offset, fence);
    }
    return true;
}

void mr__timers_run(struct mr_bus *bus)
{
    while (bus->heap_count > 0 && bus->heap[0]->timer_ns <= bus->log_ns && !bus->faulty) {
        struct mr__delivery *d = bus->heap[0];
        if (d->where == MR__FLIGHT) {
            if (!time_out(bus, d)) {
                return;
            }
            continue;
        }
        if (mr__expiry(bus, d) <= bus->log_ns) {
            bool removed = d->sub->removed_log_ns != 0;
            if (!mr__finish_plain(bus, d, MR_STATE_EXPIRED,
                                  removed ? "subscription removed" : "older than max_age")) {
                return;
            }
            continue;
        }
        if (d->where == MR__WAITING && d->due_ns <= bus->log_ns) {
            mr__state_wait(bus, d, 0);
        } else {
            mr__timer_set(bus, d); /* its expiry has moved */
        }
    }
}
