/* The oracle's own fold: how an attempt begins, and what may become of it. */
#include "oracle_internal.h"

#include "core/hash.h"

/* --- ATTEMPT ---------------------------------------------------------------------------------- */

static void check_lane_head(struct fold *f, const struct oracle_delivery *d)
{
    const struct oracle *o = f->o;
    uint32_t before = 0;
    uint32_t width = d->lane == 0 ? 1 : oracle_lane_width(o, d->sub);
    for (uint32_t i = 0; i < o->delivery_count && d->lane != 0; i++) {
        const struct oracle_delivery *other = &o->deliveries[i];
        if (other == d || other->sub != d->sub || other->lane != d->lane) {
            continue;
        }
        bool open = other->state == MR_STATE_WAITING || other->state == MR_STATE_HELD;
        before += other->state == MR_STATE_IN_FLIGHT ||
                  (open && other->offset < d->offset && !other->redriven);
        if (before == width) {
            FAIL(f, "%u:%llu begins, %llu of its lane is %s", d->sub, LLU(d->offset),
                 LLU(other->offset), mr_state_text(other->state));
        }
    }
    sim_fired[SIM_SIDE_BY_SIDE] += before > 0;
}

static enum sim_order order_of(uint64_t lane)
{
    for (char k = '0'; k < '3'; k++) {
        char text[] = {'k', k};
        if (lane == mr_hash(text, sizeof(text))) {
            return SIM_BY_LANE;
        }
    }
    return lane == 0 ? SIM_UNORDERED : SIM_BY_ZONE;
}

/* What tells of a fan-out or of shedding has neither key, and so no lane in any order. */
static bool has_no_key(const struct oracle *o, const struct oracle_delivery *d)
{
    enum oracle_kind kind = o->events[d->offset - 1].kind;
    return kind == ORACLE_JOINED || kind == ORACLE_SHED;
}

/* What was ordered by another key goes before: lanes of two keys cannot be compared. */
static void check_order_barrier(struct fold *f, const struct oracle_delivery *d)
{
    const struct oracle *o = f->o;
    for (uint32_t i = 0; i < o->delivery_count && !has_no_key(o, d); i++) {
        const struct oracle_delivery *other = &o->deliveries[i];
        if (has_no_key(o, other)) {
            continue;
        }
        bool open = other->state == MR_STATE_WAITING || other->state == MR_STATE_HELD ||
                    other->state == MR_STATE_IN_FLIGHT;
        if (other->sub == d->sub && open && other->offset < d->offset && !other->redriven &&
            order_of(other->lane) != order_of(d->lane)) {
            FAIL(f, "%u:%llu begins, %llu of the order before is %s", d->sub, LLU(d->offset),
                 LLU(other->offset), mr_state_text(other->state));
        }
    }
}

void oracle_begin(struct fold *f, struct oracle_delivery *d, uint32_t fence)
{
    check_order_barrier(f, d);
    if (fence <= d->fence) {
        FAIL(f, "%u:%llu begins with fence %u after %u", d->sub, LLU(d->offset), fence, d->fence);
    }
    check_lane_head(f, d);
    if (d->only_cancels) {
        FAIL(f, "%u:%llu begins, and is there to cancel only", d->sub, LLU(d->offset));
    }
    d->fence = fence;
    d->fence_sequence = f->sequence;
    d->timed_out = false;
    oracle_set_state(f->o, d, MR_STATE_IN_FLIGHT);
}

void oracle_fold_attempt(struct fold *f, const struct mr_record *r)
{
    struct oracle_delivery *d = oracle_find(f, r);
    if (d->state != MR_STATE_WAITING) {
        FAIL(f, "%u:%llu begins while %s", d->sub, LLU(d->offset), mr_state_text(d->state));
    }
    if (r->c != d->lane || r->extra != d->attempts + 1) {
        FAIL(f, "%u:%llu begins as attempt %u after %u", d->sub, LLU(d->offset), r->extra,
             d->attempts);
    }
    oracle_begin(f, d, r->b);
}

/* --- SETTLE, RETRY, DEAD ---------------------------------------------------------------------- */

static void check_open(struct fold *f, const struct mr_record *r, const struct oracle_delivery *d,
                       bool by_itself)
{
    bool late = d->timed_out && (d->state == MR_STATE_WAITING || d->state == MR_STATE_HELD);
    bool open = d->state == MR_STATE_IN_FLIGHT || late ||
                (by_itself && (d->state == MR_STATE_WAITING || d->state == MR_STATE_HELD));
    if (!open || r->b != d->fence) {
        FAIL(f, "a %s of %u:%llu with fence %u, which is %s with fence %u",
             mr_record_kind_text(r->kind), d->sub, LLU(d->offset), r->b, mr_state_text(d->state),
             d->fence);
    }
}

static struct mr_result read_result(struct fold *f, const struct mr_record *r)
{
    struct mr_result result;
    if (mr_result_decode(r->body, &result, NULL) != MR_OK) {
        FAIL(f, "the result of %u:%llu cannot be read", r->a, LLU(r->offset));
    }
    return result;
}

static bool is_of_all(const struct oracle_answer *a, enum mr_verdict verdict)
{
    bool several = verdict == MR_VERDICT_CRASH || verdict == MR_VERDICT_RETRY;
    return a->batch != 0 &&
           (verdict == MR_VERDICT_TIMEOUT || (several && a->answered && a->suspects > 1));
}

/* How many of the batch of @p a have no result yet; @p sure: and no answer of their own that waits
 * for room or for its event. */
static uint32_t count_open(struct oracle *o, const struct oracle_answer *a, bool sure)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < o->delivery_count; i++) {
        const struct oracle_delivery *d = &o->deliveries[i];
        if (d->sub != a->sub || d->state != MR_STATE_IN_FLIGHT) {
            continue;
        }
        const struct oracle_answer *other = oracle_answer_of(o, d->sub, d->offset, d->fence);
        bool own = other->answered && !is_of_all(other, other->verdict);
        count += other->batch == a->batch && !(sure && own && other->offset != a->offset);
    }
    return count;
}

static uint16_t *share_of(struct oracle *o, uint64_t batch)
{
    uint32_t before = o->share_capacity;
    o->shares = oracle_grow(o->shares, sizeof(*o->shares), (uint32_t)batch + 1, &o->share_capacity);
    for (uint32_t i = before; i < o->share_capacity; i++) {
        o->shares[i] = 0;
    }
    return &o->shares[batch];
}

/* A result that is about a whole batch costs nothing, as long as there is another in it without one;
 * from then on its deliveries go in parts. @p pays: whether this one cost an attempt */
static bool takes_part(struct fold *f, struct oracle_delivery *d, const struct mr_result *result,
                       bool pays)
{
    struct oracle *o = f->o;
    struct oracle_answer a = *oracle_answer_of(o, d->sub, d->offset, d->fence);
    enum mr_verdict verdict = (enum mr_verdict)result->verdict;
    if (verdict == MR_VERDICT_NONE || verdict == MR_VERDICT_REFUSED) {
        return false; /* whatever it was before */
    }
    uint16_t *share = NULL;
    if (is_of_all(&a, verdict)) {
        uint32_t most = count_open(o, &a, false);
        bool alone = most == 1 || (pays && count_open(o, &a, true) == 1);
        share = share_of(o, a.batch);
        *share = *share != 0 || alone ? *share : (uint16_t)((most + 1) / 2);
    }
    d->together = share == NULL ? 0 : *share;
    return d->together != 0;
}

/* What a counted answer adds, from what the worker truly said. */
static void check_counters(struct fold *f, struct oracle_delivery *d,
                           const struct mr_result *result)
{
    bool part = takes_part(f, d, result, result->attempts > d->attempts);
    struct oracle_answer *a = oracle_answer_of(f->o, d->sub, d->offset, d->fence);
    uint32_t attempts = d->attempts;
    uint32_t refusals = d->refusals;
    switch ((enum mr_verdict)result->verdict) {
    case MR_VERDICT_OK:
    case MR_VERDICT_RETRY:
    case MR_VERDICT_DROP:
    case MR_VERDICT_DEAD:
        attempts += !part;
        break;
    case MR_VERDICT_TIMEOUT:
        attempts += !part;
        sim_fired[SIM_TIMEOUT]++;
        break;
    case MR_VERDICT_CRASH:
        attempts += a->suspects == 1 && !part;
        break;
    case MR_VERDICT_REFUSED:
        refusals++;
        break;
    case MR_VERDICT_NONE:
    case MR_VERDICT_INTERRUPTED:
    case MR_VERDICT_MAX:
        break;
    }
    if (result->verdict != MR_VERDICT_NONE && result->verdict != MR_VERDICT_TIMEOUT &&
        (!a->answered || a->verdict != result->verdict)) {
        FAIL(f, "%u:%llu fence %u is logged as %s, the worker said %s", d->sub, LLU(d->offset),
             d->fence, mr_verdict_text(result->verdict), mr_verdict_text(a->verdict));
    }
    if (result->attempts != attempts || result->refusals != refusals ||
        result->interruptions != d->interruptions) {
        FAIL(f,
             "%u:%llu after %s counts %u attempts, %u refusals, %u interruptions; should be %u, "
             "%u, %u",
             d->sub, LLU(d->offset), mr_verdict_text(result->verdict), result->attempts,
             result->refusals, result->interruptions, attempts, refusals, d->interruptions);
    }
}

/* Attempts the schedule allows, when it never changed; 0: it did. */
static uint32_t budget_of(const struct oracle *o, uint32_t sub)
{
    uint32_t index;
    if (o->spec_count != 1 || !oracle_visible_index(o, sub, &index)) {
        return 0;
    }
    return o->specs[0].subs[index].steps + 1;
}

static void check_budget(struct fold *f, const struct oracle_delivery *d,
                         const struct mr_result *result, bool ends)
{
    uint32_t budget = budget_of(f->o, d->sub);
    bool counted = (result->verdict == MR_VERDICT_RETRY || result->verdict == MR_VERDICT_TIMEOUT) &&
                   result->attempts > d->attempts;
    if (budget != 0 && counted && (result->attempts >= budget) != ends) {
        FAIL(f, "%u:%llu %s after %u of %u attempts", d->sub, LLU(d->offset),
             ends ? "ends" : "goes on", result->attempts, budget);
    }
}

struct lane_view { /* others of its lane */
    bool later;
    bool earlier;
    bool earlier_open;
    bool cancelled; /* by a later one */
};

static struct lane_view look_at_lane(const struct oracle *o, const struct oracle_delivery *d)
{
    struct lane_view view = {0};
    for (uint32_t i = 0; i < o->delivery_count && d->lane != 0; i++) {
        const struct oracle_delivery *other = &o->deliveries[i];
        if (other->sub != d->sub || other->lane != d->lane || other == d) {
            continue;
        }
        bool open = other->state == MR_STATE_WAITING || other->state == MR_STATE_HELD ||
                    other->state == MR_STATE_IN_FLIGHT;
        if (other->offset > d->offset) {
            view.later = true;
            view.cancelled = view.cancelled || other->cancels;
        } else {
            view.earlier = true;
            view.earlier_open = view.earlier_open || (open && !other->redriven);
        }
    }
    return view;
}

/* Whether one of the last configurations drops @p d for another event of its lane. */
static bool is_overtaken(const struct oracle *o, const struct oracle_delivery *d)
{
    uint32_t index;
    if (!oracle_visible_index(o, d->sub, &index)) {
        return false;
    }
    struct lane_view lane = look_at_lane(o, d);
    bool fits = lane.cancelled || (d->only_cancels && !lane.earlier_open);
    for (uint64_t i = 0; i < ORACLE_SPECS && i < o->spec_count && !fits; i++) {
        const struct sim_sub_spec *s = &o->specs[i].subs[index];
        fits = (s->keep_latest && lane.later &&
                (d->state != MR_STATE_IN_FLIGHT || s->when_busy == MR_BUSY_REPLACE)) ||
               (s->when_busy == MR_BUSY_SKIP && lane.earlier && d->fence == 0);
    }
    sim_fired[SIM_OVERTAKEN] += fits;
    sim_fired[SIM_REPLACED] += fits && d->state == MR_STATE_IN_FLIGHT;
    sim_fired[SIM_CANCELLED] += fits && d->only_cancels;
    return fits;
}

/* Whether some policy of its subscription drops what has used up so many attempts. */
static bool is_given_up(const struct oracle *o, const struct oracle_delivery *d,
                        const struct mr_result *result)
{
    uint32_t index;
    bool fits = false;
    bool fails = result->verdict == MR_VERDICT_RETRY || result->verdict == MR_VERDICT_TIMEOUT ||
                 result->verdict == MR_VERDICT_CRASH;
    if (!fails || !oracle_visible_index(o, d->sub, &index)) {
        return false;
    }
    for (uint64_t i = 0; i < ORACLE_SPECS && i < o->spec_count && !fits; i++) {
        const struct sim_sub_spec *s = &o->specs[i].subs[index];
        fits = sim_sub_drops(s) && result->attempts > s->steps;
    }
    sim_fired[SIM_GIVEN_UP] += fits;
    return fits;
}

/* Whether all of the last configurations (@p all; else any of them) hold what has a lane and would
 * be dead. */
static bool dead_holds(const struct oracle *o, const struct oracle_delivery *d, bool all)
{
    uint32_t index;
    uint64_t count = o->spec_count < ORACLE_SPECS ? o->spec_count : ORACLE_SPECS;
    uint64_t holding = 0;
    if (d->lane == 0 || !oracle_visible_index(o, d->sub, &index)) {
        return false;
    }
    for (uint64_t i = 0; i < count; i++) {
        const struct sim_sub_spec *s = &o->specs[i].subs[index];
        holding += s->dead_holds && (s->present || !all);
    }
    return all ? holding == count : holding > 0;
}

/* Whether some policy of its subscription holds it after such a result. */
static bool may_be_held(const struct oracle *o, const struct oracle_delivery *d,
                        const struct mr_result *result)
{
    uint32_t index;
    bool fails = result->verdict == MR_VERDICT_RETRY || result->verdict == MR_VERDICT_TIMEOUT ||
                 result->verdict == MR_VERDICT_CRASH;
    bool fits = (fails || result->verdict == MR_VERDICT_DEAD) && dead_holds(o, d, false);
    sim_fired[SIM_LANE_HELD] += fits && result->verdict == MR_VERDICT_DEAD;
    if (!fails || !oracle_visible_index(o, d->sub, &index)) {
        return fits;
    }
    for (uint64_t i = 0; i < ORACLE_SPECS && i < o->spec_count; i++) {
        fits = fits || o->specs[i].subs[index].hold;
    }
    return fits;
}

static void check_end_state(struct fold *f, const struct oracle_delivery *d,
                            const struct mr_result *result, uint16_t state)
{
    bool fits = false;
    switch ((enum mr_state)state) {
    case MR_STATE_DONE:
        fits = result->verdict == MR_VERDICT_OK;
        break;
    case MR_STATE_DROPPED:
        fits = result->verdict == MR_VERDICT_DROP || is_given_up(f->o, d, result) ||
               (result->verdict == MR_VERDICT_NONE &&
                (oracle_is_shed(f, d, result) ||
                 oracle_answer_of(f->o, d->sub, d->offset, ORACLE_OPERATOR)->answered ||
                 is_overtaken(f->o, d)));
        break;
    case MR_STATE_DEAD:
        fits = result->verdict != MR_VERDICT_OK && result->verdict != MR_VERDICT_DROP &&
               result->verdict != MR_VERDICT_REFUSED && !dead_holds(f->o, d, true);
        break;
    case MR_STATE_EXPIRED:
        fits = !f->o->world->swarm.calm;
        sim_fired[SIM_EXPIRED]++;
        break;
    case MR_STATE_LOST:
        fits = f->o->rotten || sim_reads_failed(f->o->world);
        break;
    case MR_STATE_NONE:
    case MR_STATE_WAITING:
    case MR_STATE_IN_FLIGHT:
    case MR_STATE_HELD:
    case MR_STATE_MAX:
        break;
    }
    if (!fits) {
        FAIL(f, "%u:%llu ends %s after %s", d->sub, LLU(d->offset),
             mr_state_text((enum mr_state)state), mr_verdict_text(result->verdict));
    }
}

/* Something a source sent that nobody could read: no match, dead at once. */
static bool fold_rejected(struct fold *f, const struct mr_record *r)
{
    struct oracle *o = f->o;
    struct oracle_event *event = oracle_event_of(o, r->offset);
    if (r->kind != MR_RECORD_DEAD || r->a >= ORACLE_SUBS || event == NULL || event->count > 0 ||
        strncmp(o->names[r->a], "ingest:", 7) != 0) {
        return false;
    }
    struct oracle_delivery *d = oracle_delivery_add(o, event, r->a, 0, MR_STATE_DEAD);
    d->letter = true;
    d->record_segment = mr_position_segment(f->position);
    event->rejected = true;
    sim_fired[SIM_REJECTED]++;
    return true;
}

/* Whether this end goes to a destination, while there was one configuration only. */
static bool has_outcome(const struct oracle *o, uint32_t sub, uint16_t state)
{
    uint32_t index;
    if (o->spec_count != 1 || !oracle_visible_index(o, sub, &index)) {
        return false;
    }
    const struct sim_sub_spec *s = &o->specs[0].subs[index];
    bool failed = state == MR_STATE_DEAD || state == MR_STATE_EXPIRED;
    return (state == MR_STATE_DONE && s->success_to >= 0) || (failed && s->failure_to != -1);
}

/* --- RESULT ----------------------------------------------------------------------------------- */

void oracle_fold_result(struct fold *f, const struct mr_record *r)
{
    const struct oracle_answer *a = oracle_answer_of(f->o, r->a, r->offset, r->b);
    if (f->result.kind != 0 || r->body.size == 0 || r->body.size != a->result_size ||
        r->body_crc != a->result_crc) {
        FAIL(f, "a result of %u:%llu that was not answered", r->a, LLU(r->offset));
    }
    f->result = *r;
}

/* A delivery that ends done has what was answered right before it, if a group has room for that;
 * no other has. */
static void check_result(struct fold *f, const struct mr_record *r)
{
    const struct oracle *o = f->o;
    const struct oracle_answer *a = oracle_answer_of(f->o, r->a, r->offset, r->b);
    uint32_t wanted = r->extra == MR_STATE_DONE ? a->result_size : 0;
    bool large = wanted > o->world->options.log.segment_size / 16;
    bool there = f->result.kind != 0;
    bool ours = f->result.a == r->a && f->result.offset == r->offset && f->result.b == r->b;
    if ((there && (!ours || wanted == 0)) || (!there && wanted > 0 && !large)) {
        FAIL(f, "%u:%llu ends %s, answered %u bytes, and its result is %s", r->a, LLU(r->offset),
             mr_state_text((enum mr_state)r->extra), wanted,
             !there ? "missing" : ours ? "there" : "that of another");
    }
    sim_fired[SIM_RESULT] += there;
    sim_fired[SIM_RESULT_LARGE] += !there && large;
    f->result = (struct mr_record){0};
}

void oracle_fold_end(struct fold *f, const struct mr_record *r)
{
    struct oracle *o = f->o;
    if (fold_rejected(f, r)) {
        return;
    }
    struct oracle_delivery *d = oracle_find(f, r);
    struct mr_result result = read_result(f, r);
    bool skipped = r->extra == MR_STATE_DROPPED && result.verdict == MR_VERDICT_NONE;
    bool by_itself = r->extra == MR_STATE_EXPIRED || r->extra == MR_STATE_LOST || skipped;
    check_open(f, r, d, by_itself);
    if ((r->kind == MR_RECORD_DEAD) != (r->extra == MR_STATE_DEAD)) {
        FAIL(f, "a %s record ends %s", mr_record_kind_text(r->kind),
             mr_state_text((enum mr_state)r->extra));
    }
    check_end_state(f, d, &result, r->extra);
    check_result(f, r);
    check_counters(f, d, &result);
    if (r->extra == MR_STATE_DEAD && result.verdict != MR_VERDICT_DEAD) {
        check_budget(f, d, &result, true);
        sim_fired[SIM_EXHAUSTED]++;
    }
    if (d->timed_out) {
        sim_fired[SIM_LATE_OK]++;
    }
    const struct oracle_answer *a = oracle_answer_of(o, d->sub, d->offset, d->fence);
    if (result.verdict == MR_VERDICT_OK && result.children != a->emitted) {
        FAIL(f, "%u:%llu emitted %u events, its settle says %u", d->sub, LLU(d->offset),
             a->emitted, result.children);
    }
    f->children += result.verdict == MR_VERDICT_NONE ? 0 : result.children;
    f->settled++;
    f->outcomes_wanted += has_outcome(o, r->a, r->extra);
    d->letter = r->extra == MR_STATE_DEAD;
    d->record_segment = mr_position_segment(f->position);
    if (d->first_end == MR_STATE_NONE) {
        d->first_end = (uint8_t)r->extra;
        d->first_attempts = (uint16_t)result.attempts;
        d->first_fence = d->fence;
    }
    d->attempts = (uint16_t)result.attempts;
    d->refusals = (uint16_t)result.refusals;
    d->outside = false;
    oracle_set_state(o, d, (enum mr_state)r->extra);
}

void oracle_fold_retry(struct fold *f, const struct mr_record *r)
{
    struct oracle_delivery *d = oracle_find(f, r);
    check_open(f, r, d, false);
    struct mr_result result = read_result(f, r);
    check_counters(f, d, &result);
    check_budget(f, d, &result, r->extra == MR_STATE_HELD);
    d->attempts = (uint16_t)result.attempts;
    d->refusals = (uint16_t)result.refusals;
    d->timed_out = result.verdict == MR_VERDICT_TIMEOUT;
    d->outside = false;
    if (r->extra == MR_STATE_HELD) {
        sim_fired[SIM_HELD]++;
        if (!may_be_held(f->o, d, &result)) {
            FAIL(f, "%u:%llu is held after %s", d->sub, LLU(d->offset),
                 mr_verdict_text(result.verdict));
        }
    }
    oracle_set_state(f->o, d, (enum mr_state)r->extra);
}
