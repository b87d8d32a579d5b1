/* Shares: what of a subscription goes to which of its targets. Each stands on the ring of its
 * target while something of it is ready, so that a target that is slow, full or broken holds up its
 * own share only. */
#include "bus/internal.h"

#include <stdio.h>

#include "core/alloc.h"
#include "core/hash.h"

#define TURN_LOOK_MAX 64u /* shares whose next is compared when levels count */
#define RETURNED_MAX (2 * MR_SHARES_MAX)

/* --- turns ------------------------------------------------------------------------------------ */

void mr__turn_add(struct mr__share *share)
{
    struct mr__target *target = share->target;
    if (share->on_turn || target == NULL || share->ready_count == 0) {
        return;
    }
    share->on_turn = true;
    share->turn_next = NULL;
    if (target->turn_last != NULL) {
        target->turn_last->turn_next = share;
    } else {
        target->turn_first = share;
    }
    target->turn_last = share;
}

void mr__turn_add_all(struct mr__sub *sub)
{
    for (uint32_t i = 0; i < sub->share_count; i++) {
        mr__turn_add(&sub->shares[i]);
    }
}

void mr__turn_leave(struct mr__share *share)
{
    struct mr__target *target = share->target;
    if (target == NULL || !share->on_turn) {
        return;
    }
    struct mr__share *before = NULL;
    for (struct mr__share *s = target->turn_first; s != share; s = s->turn_next) {
        MR_ASSERT(s != NULL);
        before = s;
    }
    if (before == NULL) {
        target->turn_first = share->turn_next;
    } else {
        before->turn_next = share->turn_next;
    }
    if (target->turn_last == share) {
        target->turn_last = before;
    }
    share->turn_next = NULL;
    share->on_turn = false;
}

/* As if it had been ready so much earlier for each of its levels. */
static uint64_t ready_at(const struct mr__share *share, const struct mr__delivery *d)
{
    const struct mr_subscription_config *conf = share->sub->conf;
    bool shifted = conf != NULL && conf->priority != NULL;
    uint64_t shift = shifted ? d->level * conf->priority->step_ns : 0;
    return d->started_ns > shift ? d->started_ns - shift : 0;
}

struct mr__share *mr__turn_take(struct mr__target *target)
{
    struct mr__share *best = target->turn_first;
    if (best == NULL || !target->has_levels) {
        if (best != NULL) {
            mr__turn_leave(best);
        }
        return best;
    }
    uint64_t best_at = UINT64_MAX;
    struct mr__share *share = best;
    for (uint32_t i = 0; i < TURN_LOOK_MAX && share != NULL; i++, share = share->turn_next) {
        const struct mr__delivery *d = share->sub->paused ? NULL : mr__ready_next(share);
        uint64_t at = d == NULL ? UINT64_MAX : ready_at(share, d);
        if (at < best_at) {
            best = share;
            best_at = at;
        }
    }
    mr__turn_leave(best);
    return best;
}

/* --- what is ready ---------------------------------------------------------------------------- */

static uint64_t weight_now(const struct mr__share *share)
{
    return share->returned ? 0 : share->weight;
}

/* Which share @p d goes to: by its lane, so that one target has all of it; else by its event. */
static uint8_t choose(const struct mr__delivery *d)
{
    const struct mr__sub *sub = d->sub;
    uint64_t sum = 0;
    if (sub->share_count == 1) {
        return 0;
    }
    for (uint32_t i = 0; i < sub->share_count; i++) {
        sum += weight_now(&sub->shares[i]);
    }
    if (sum == 0) {
        return 0; /* what had weight was given back under other weights: the first has it all */
    }
    bool by_lane = d->lane != NULL && !MR_PLANTED(SHARE_UNSTICKY);
    uint64_t point = mr_hash_u64(by_lane ? d->lane->key : d->offset) % sum;
    uint8_t at = 0;
    while (point >= weight_now(&sub->shares[at])) {
        point -= weight_now(&sub->shares[at]);
        at++;
    }
    return at;
}

static struct mr__list *list_of(struct mr__share *share, uint8_t level)
{
    return level == 0 || share->levels == NULL ? &share->ready : &share->levels[level - 1];
}

void mr__ready_push(struct mr__delivery *d)
{
    d->share = choose(d) & 0xfu;
    struct mr__share *share = mr__share_of(d);
    mr__list_push(list_of(share, d->level), d);
    mr__turn_add(share);
}

struct mr__delivery *mr__ready_next(const struct mr__share *share)
{
    struct mr__delivery *best = share->ready.first;
    uint64_t best_at = best == NULL ? UINT64_MAX : ready_at(share, best);
    for (uint32_t i = 0; share->levels != NULL && i < MR_PRIORITY_MAX; i++) {
        struct mr__delivery *d = share->levels[i].first;
        uint64_t at = d == NULL ? UINT64_MAX : ready_at(share, d);
        if (d != NULL && at <= best_at) {
            best = d;
            best_at = at;
        }
    }
    return best;
}

struct mr__delivery *mr__ready_after(const struct mr__share *share, uint8_t first_level,
                                     const struct mr__delivery *d)
{
    if (d->next != NULL || share->levels == NULL) {
        return d->next;
    }
    uint32_t level = d->level == first_level ? MR_PRIORITY_MAX + 1 : d->level;
    while (level-- > 0) {
        struct mr__delivery *next =
            level == 0 ? share->ready.first : share->levels[level - 1].first;
        if (level != first_level && next != NULL) {
            return next;
        }
    }
    return NULL;
}

/* --- life ------------------------------------------------------------------------------------- */

struct mr__share *mr__shares_create(struct mr__sub *sub, uint32_t count)
{
    struct mr__share *shares = mr_calloc(count, sizeof(*shares));
    for (uint32_t i = 0; shares != NULL && i < count; i++) {
        shares[i].sub = sub;
        shares[i].weight = 1;
        shares[i].ready.share = &shares[i];
    }
    return shares;
}

void mr__shares_destroy(struct mr__share *shares, uint32_t count)
{
    for (uint32_t i = 0; shares != NULL && i < count; i++) {
        mr_free(shares[i].levels);
        mr_free(shares[i].window);
    }
    mr_free(shares);
}

static bool was_returned(const struct mr__sub *sub, const struct mr__share *share)
{
    for (uint32_t i = 0; i < sub->returned_count; i++) {
        if (sub->returned[i].target == share->target->id &&
            sub->returned[i].hash == share->hash) {
            return true;
        }
    }
    return false;
}

static bool is_as_wanted(const struct mr__sub *sub, const struct mr__share *next, uint32_t count)
{
    bool same = sub->share_count == count;
    for (uint32_t i = 0; i < count && same; i++) {
        const struct mr__share *old = &sub->shares[i];
        same = old->target == next[i].target && old->hash == next[i].hash &&
               (old->levels == NULL) == (next[i].levels == NULL);
    }
    return same;
}

static bool add_levels(struct mr__share *share)
{
    share->levels = mr_calloc(MR_PRIORITY_MAX, sizeof(*share->levels));
    for (uint32_t i = 0; share->levels != NULL && i < MR_PRIORITY_MAX; i++) {
        share->levels[i].share = share;
    }
    return share->levels != NULL;
}

enum mr_status mr__shares_prepare(struct mr_bus *bus, struct mr__sub *sub,
                                  const struct mr_subscription_config *conf,
                                  const struct mr_config *config, size_t *bytes)
{
    uint32_t count = conf->share_count == 0 ? 1 : conf->share_count;
    struct mr__share *next = mr__shares_create(sub, count);
    bool good = next != NULL;
    for (uint32_t i = 0; i < count && good; i++) {
        const struct mr_share_config *share = conf->share_count == 0 ? NULL : &conf->shares[i];
        uint32_t index = share == NULL ? conf->target : share->target;
        uint32_t id = mr__name_find(bus, MR_NAME_TARGET, config->targets[index].name);
        next[i].target = bus->targets[id];
        if (share != NULL) {
            next[i].weight = share->weight;
            next[i].hash = share->hash;
            next[i].returned = was_returned(sub, &next[i]);
        }
        if (share != NULL && share->return_percent > 0) {
            next[i].window = mr_calloc(1, sizeof(*next[i].window));
            good = next[i].window != NULL;
        }
        good = good && (conf->priority == NULL || add_levels(&next[i]));
    }
    if (!good || is_as_wanted(sub, next, count)) {
        mr__shares_destroy(next, count);
        next = NULL;
    }
    mr__shares_destroy(sub->shares_next, sub->share_next_count); /* of one that was refused */
    sub->shares_next = next;
    sub->share_next_count = count;
    *bytes += mr__shares_restore_size(sub);
    return good ? MR_OK : MR_E_NOMEM;
}

/* What is in flight stays with its target, as far as that is one of the new. */
static uint8_t share_like(const struct mr__share *next, uint32_t count,
                          const struct mr__target *target)
{
    uint8_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
        at = next[i].target == target ? (uint8_t)i : at;
    }
    return at;
}

static void install(struct mr_bus *bus, struct mr__sub *sub, struct mr__share *next,
                    uint32_t count)
{
    struct mr__share *old = sub->shares;
    uint32_t old_count = sub->share_count;
    if (sub->begun > sub->in_flight) {
        mr__unarm(bus, sub, NULL);
    }
    sub->shares = next;
    sub->share_count = count;
    for (struct mr__delivery *d = sub->oldest; d != NULL; d = d->newer) { /* once: may be many */
        if (d->where == MR__READY) {
            mr__list_remove(d);
            mr__ready_push(d);
        } else {
            d->share = share_like(next, count, old[d->share].target) & 0xfu;
        }
    }
    for (uint32_t i = 0; i < old_count; i++) {
        MR_ASSERT(old[i].ahead == 0 && old[i].ready_count == 0);
        mr__turn_leave(&old[i]);
    }
    mr__shares_destroy(old, old_count);
}

/* --- weights that go to the others ------------------------------------------------------------ */

size_t mr__shares_restore_size(const struct mr__sub *sub)
{
    return sub->returned_count * mr_record_size(0);
}

static void log_weight(struct mr_bus *bus, const struct mr__sub *sub, uint32_t target,
                       uint64_t hash)
{
    struct mr_record record = {
        .kind = MR_RECORD_WEIGHT, .a = sub->id, .b = target, .c = hash};
    (void)mr__stage_record(bus, &record); /* the last one of a target counts */
}

enum mr_status mr__state_weight(struct mr__sub *sub, uint32_t target, uint64_t hash)
{
    uint32_t at = 0;
    while (at < sub->returned_count && sub->returned[at].target != target) {
        at++;
    }
    if (hash == 0) {
        if (at < sub->returned_count) {
            sub->returned[at] = sub->returned[--sub->returned_count];
        }
        return MR_OK;
    }
    if (at == sub->returned_count) {
        struct mr__returned *grown =
            at >= RETURNED_MAX ? NULL : mr_realloc(sub->returned, (at + 1u) * sizeof(*grown));
        if (grown == NULL) {
            return at >= RETURNED_MAX ? MR_E_CORRUPT : MR_E_NOMEM;
        }
        sub->returned = grown;
        sub->returned_count++;
    }
    sub->returned[at] = (struct mr__returned){.target = target, .hash = hash};
    return MR_OK;
}

/* What is ready goes where the weights say now. */
static void spread(struct mr__sub *sub)
{
    for (struct mr__delivery *d = sub->oldest; d != NULL; d = d->newer) {
        if (d->where == MR__READY) {
            mr__list_remove(d);
            mr__ready_push(d);
        }
    }
}

void mr__shares_apply(struct mr_bus *bus, struct mr__sub *sub)
{
    if (sub->shares_next != NULL) {
        struct mr__share *next = MR_TAKE(sub->shares_next);
        install(bus, sub, next, sub->share_next_count);
    }
    for (uint32_t i = 0; i < sub->share_count; i++) {
        struct mr__target *target = sub->shares[i].target;
        target->has_levels = target->has_levels || sub->shares[i].levels != NULL;
    }
    for (uint32_t i = sub->returned_count; i-- > 0;) {
        struct mr__returned returned = sub->returned[i];
        bool there = false;
        for (uint32_t k = 0; k < sub->share_count; k++) {
            there = there || (sub->shares[k].returned &&
                              sub->shares[k].target->id == returned.target);
        }
        if (!there) {
            log_weight(bus, sub, returned.target, 0);
            (void)mr__state_weight(sub, returned.target, 0); /* taking one out cannot fail */
        }
    }
}

void mr__shares_restore(struct mr_bus *bus, struct mr__sub *sub)
{
    bool any = sub->returned_count > 0;
    while (sub->returned_count > 0) {
        uint32_t target = sub->returned[sub->returned_count - 1].target;
        log_weight(bus, sub, target, 0);
        (void)mr__state_weight(sub, target, 0); /* taking one out cannot fail */
    }
    for (uint32_t i = 0; i < sub->share_count && any; i++) {
        struct mr__share *share = &sub->shares[i];
        share->returned = false;
        if (share->window != NULL) {
            *share->window = (struct mr__window){.bucket_ns = bus->log_ns};
        }
    }
    if (any) {
        spread(sub);
    }
}

static void tell_returned(struct mr_bus *bus, const struct mr__share *share)
{
    char text[512];
    (void)snprintf(text, sizeof(text),
                   "subscription %s: %s fails too often; its weight goes to the others until "
                   "`millrace sub resume %s`, or until its targets are changed",
                   share->sub->name, share->target->name, share->sub->name); /* cut at worst */
    bus->ports.alarm(bus->ports.context, text);
}

void mr__share_judge(struct mr_bus *bus, struct mr__sub *sub, const struct mr__target *target,
                     bool ok)
{
    const struct mr_subscription_config *conf = sub->conf;
    uint64_t others = 0;
    struct mr__share *share = NULL;
    uint32_t at = 0;
    for (uint32_t i = 0; i < sub->share_count; i++) {
        if (sub->shares[i].target == target) {
            share = &sub->shares[i];
            at = i;
        } else {
            others += weight_now(&sub->shares[i]);
        }
    }
    if (share == NULL || share->window == NULL || share->returned || conf == NULL) {
        return;
    }
    const struct mr_share_config *rule = &conf->shares[at];
    mr__window_count(share->window, rule->return_window_ns, bus->log_ns, ok);
    if (ok || others == 0 || bus->faulty ||
        !mr__window_is_over(share->window, rule->return_calls, rule->return_percent) ||
        mr__stage_reserve(bus, mr_record_size(0) + mr__unarm_size(sub)) != MR_OK ||
        mr__state_weight(sub, target->id, share->hash) != MR_OK) {
        return; /* without room or memory now the next failure asks again */
    }
    log_weight(bus, sub, target->id, share->hash);
    share->returned = true;
    tell_returned(bus, share);
    mr__unarm(bus, sub, share);
    spread(sub);
}

/* --- how attempts fared ----------------------------------------------------------------------- */

void mr__window_count(struct mr__window *w, uint64_t width_ns, uint64_t log_ns, bool ok)
{
    uint64_t width = width_ns / WINDOW_BUCKETS;
    width = width == 0 ? 1 : width;
    uint64_t steps = (log_ns - w->bucket_ns) / width;
    for (uint64_t i = 0; i < steps && i < WINDOW_BUCKETS; i++) {
        w->bucket = (w->bucket + 1) % WINDOW_BUCKETS;
        w->ok[w->bucket] = 0;
        w->failed[w->bucket] = 0;
    }
    w->bucket_ns += steps * width;
    w->ok[w->bucket] += ok;
    w->failed[w->bucket] += !ok;
}

bool mr__window_is_over(const struct mr__window *w, uint32_t calls, uint32_t percent)
{
    uint64_t failed = 0;
    uint64_t all = 0;
    for (uint32_t i = 0; i < WINDOW_BUCKETS; i++) {
        failed += w->failed[i];
        all += w->failed[i] + w->ok[i];
    }
    return all >= calls && failed * 100 >= all * percent;
}
