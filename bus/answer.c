/* What an answer, or a lease that runs out, makes of a delivery: it ends, waits for its next
 * attempt, or is held. */
#include "bus/internal.h"

#include <inttypes.h>
#include <stdio.h>

#include "core/alloc.h"

/* --- verdicts --------------------------------------------------------------------------------- */

struct decision {
    enum mr_state state;  /* WAITING: again at due; else the end, or HELD */
    uint64_t due_ns;      /* log clock; 0: at once */
    bool counts;          /* the attempt counts against the budget */
    bool refusal;
    bool suspect;
    uint32_t together; /* its batch failed as a whole: at most so many in the next; 0: any */
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

/* The wait that @p answer asks for, as far as the subscription lets it; 0: none. */
static uint64_t wanted_wait(const struct mr__delivery *d, const struct mr_answer *answer)
{
    const struct mr_subscription_config *conf = d->sub->conf;
    if (!answer->has_after || conf == NULL) {
        return 0;
    }
    return answer->after_ns < conf->retry_after_max_ns ? answer->after_ns
                                                       : conf->retry_after_max_ns;
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
        static const enum mr_state ends[] = {[MR_EXHAUSTED_DEAD] = MR_STATE_DEAD,
                                             [MR_EXHAUSTED_HOLD] = MR_STATE_HELD,
                                             [MR_EXHAUSTED_DROP] = MR_STATE_DROPPED};
        decision->state = ends[conf->on_exhausted];
        decision->reason = "attempts used up";
        return;
    }
    uint64_t wait = jittered(bus, &conf->retry, conf->retry.step_ns[attempts - 1]);
    uint64_t after = wanted_wait(d, answer);
    wait = after > wait ? after : wait;
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
    uint64_t after = wanted_wait(d, answer);
    wait = after > wait ? after : wait;
    return add_saturated(bus->log_ns, wait);
}

static struct decision decide(struct mr_bus *bus, const struct mr__delivery *d,
                              const struct mr_answer *answer)
{
    struct decision decision = {.reason = ""};
    uint32_t share = mr__bundle_share(d, answer);
    if (share > 0) { /* no attempt of its own: again in halves, at last by itself */
        decision.state = MR_STATE_WAITING;
        uint64_t wait = wanted_wait(d, answer);
        decision.due_ns = wait == 0 ? 0 : add_saturated(bus->log_ns, wait);
        decision.together = share;
        decision.suspect = share == 1;
        return decision;
    }
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
        decision.together = d->together;
        break;
    case MR_VERDICT_CRASH:
        if ((answer->suspects == 0 || answer->suspects > 1) && !MR_PLANTED(SUSPECT_PAYS)) {
            /* Stopped by us, or one of several on the instance: no attempt of its own. */
            decision.state = MR_STATE_WAITING;
            decision.suspect = answer->suspects > 1;
            decision.together = d->together;
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
    const struct mr_subscription_config *conf = d->sub->conf;
    bool holds = conf != NULL && conf->dead_holds && d->lane != NULL;
    if (decision.state == MR_STATE_DEAD && holds && !MR_PLANTED(LANE_LET_GO)) {
        decision.state = MR_STATE_HELD;
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
    result.children = 0; /* what it emitted counts when it ends */
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
        mr__snap_touch(d);
        mr__note_add(bus, d, d->fence, answer->started_wall_ns, answer->ended_wall_ns, &result);
        saturate_u16(&d->attempts, result.attempts);
        saturate_u16(&d->refusals, result.refusals);
        d->alone = result.alone;
        saturate_u16(&d->together, decision->together);
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
        mr__snap_touch(d);
        uint16_t attempts_before = d->attempts;
        saturate_u16(&d->attempts, result.attempts);
        r = mr__finish_or_wait(bus, d, end, h);
        if (r != MR_OK) {
            d->attempts = attempts_before;
        }
    }
    if (r != MR_OK) {
        mr__ending_release(end);
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

/* Of a version on trial, as against of a target that is up. */
static bool is_good(enum mr_verdict v)
{
    return v == MR_VERDICT_OK || v == MR_VERDICT_DROP;
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
        bytes += mr_record_size(item->event->size) + mr__fanout_size(bus, item->matches.count) +
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
    mr__count_verdict(bus->subs[h->subscription], h->answer.verdict);
    mr_handout_destroy(h);
}

void mr_bus_answer(struct mr_bus *bus, struct mr_now now, struct mr_handout *h)
{
    mr__clock_advance(bus, now);
    MR_ASSERT(h->subscription < bus->sub_count && h->target < bus->target_count);
    MR_ASSERT(h->answer.verdict != MR_VERDICT_NONE);
    struct mr__target *target = bus->targets[h->target];
    MR_ASSERT(target->in_flight > 0);
    bool tells = mr__bundle_tells(h);
    target->in_flight -= mr__bundle_back(bus, h);
    bool stopped = h->answer.verdict == MR_VERDICT_CRASH && h->answer.suspects == 0;
    if (!stopped && tells) {
        mr__breaker_count(bus, target, breaker_ok(h->answer.verdict));
        mr__share_judge(bus, bus->subs[h->subscription], target, is_good(h->answer.verdict));
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
    if (d == NULL || d->fence != fence || d->where != MR__FLIGHT || sub->conf == NULL) {
        return;
    }
    const struct mr__target *target = mr__share_of(d)->target;
    if (target == NULL || target->conf == NULL) {
        return;
    }
    uint64_t own_ns = sub->conf->timeout_ns;
    uint64_t timeout = own_ns != 0 ? own_ns : target->conf->timeout_ns;
    uint64_t lease = add_saturated(bus->log_ns, timeout);
    uint64_t end = add_saturated(d->started_ns, target->conf->max_run_ns);
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
    const struct mr__target *target = mr__share_of(d)->target;
    uint32_t sub = d->sub->id;
    uint64_t offset = d->offset;
    uint32_t fence = d->fence;
    if (apply(bus, d, NULL, &answer) != MR_OK) {
        return false;
    }
    mr__count_verdict(bus->subs[sub], MR_VERDICT_TIMEOUT);
    struct mr__delivery *still = mr__delivery_find(bus->subs[sub], offset);
    if (still != NULL && still->where != MR__ENDING) {
        still->timed_out = true;
    }
    if (target != NULL) {
        bus->ports.cancel(bus->ports.context, target->id, sub, offset, fence);
    }
    return true;
}

void mr__timers_run(struct mr_bus *bus)
{
    while (bus->heap_count > 0 && (*mr__heap_at(bus, 0))->timer_ns <= bus->log_ns && !bus->faulty) {
        struct mr__delivery *d = *mr__heap_at(bus, 0);
        const char *overtaken = mr__overtaken(d);
        if (overtaken != NULL) {
            if (!mr__drop(bus, d, overtaken)) {
                return;
            }
            continue;
        }
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
        bool waits = d->where == MR__WAITING || d->where == MR__DELAYED;
        if (waits && d->due_ns <= bus->log_ns) {
            mr__state_wait(bus, d, 0);
        } else {
            mr__timer_set(bus, d); /* its expiry has moved */
        }
    }
}
