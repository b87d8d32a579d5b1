/* What a later event of its lane makes pointless: `keep`, `when_busy`, `cancel_on`. The rule is a
 * question to the present state, asked by the timers, so that a start and a reload need nothing of
 * their own; the end itself is logged like any other. */
#include "bus/internal.h"

/* What an event that cancels does to those before it waits for the last of them: whatever happens
 * in between, the lane still shows it. */
static bool cancels_others(const struct mr__delivery *d)
{
    return d->cancels && d->lane->first != d;
}

const char *mr__overtaken(const struct mr__delivery *d)
{
    const struct mr_subscription_config *conf = d->sub->conf;
    if (conf == NULL || d->where == MR__ENDING) {
        return NULL;
    }
    if (d->only_cancels && (d->lane == NULL || d->lane->first == d)) {
        return "it cancelled what was before it in its lane";
    }
    if (d->lane == NULL) {
        return NULL;
    }
    if (d->offset < d->lane->cancelled_before) {
        return "cancelled by a later event of its lane";
    }
    if (cancels_others(d) || d->where == MR__HELD || d->where == MR__ARMED ||
        d->where == MR__QUEUED) {
        return NULL;
    }
    const struct mr__delivery *other = MR_PLANTED(KEEP_OLDEST) ? d->lane_prev : d->lane_next;
    /* A redriven one stands behind what was begun, and is older. */
    bool later = other != NULL && (other->offset > d->offset || MR_PLANTED(KEEP_OLDEST));
    if (d->where == MR__FLIGHT) {
        bool replaced = conf->when_busy == MR_BUSY_REPLACE && later;
        return replaced ? "replaced by a later event of its lane" : NULL;
    }
    if (conf->keep_latest && later) {
        return "a later event of its lane came";
    }
    if (conf->when_busy == MR_BUSY_SKIP && d->lane_prev != NULL && d->fence == 0) {
        return "its lane was busy";
    }
    return NULL;
}

void mr__overtaken_enter(struct mr_bus *bus, struct mr__delivery *d)
{
    struct mr__lane *lane = d->lane;
    if (lane == NULL) {
        return;
    }
    if (d->cancels && d->offset > lane->cancelled_before) {
        lane->cancelled_before = d->offset;
        for (struct mr__delivery *other = lane->first; other != NULL; other = other->lane_next) {
            mr__timer_set(bus, other);
        }
    } else if (d->lane_prev != NULL) {
        mr__timer_set(bus, d->lane_prev);
    }
}

uint64_t mr__debounced_ns(const struct mr_bus *bus, const struct mr__delivery *d)
{
    const struct mr_subscription_config *conf = d->sub->conf;
    uint64_t until;
    if (conf == NULL || conf->debounce_ns == 0 || d->fence > 0 || d->lane == NULL) {
        return d->due_ns;
    }
    if (__builtin_add_overflow(d->arrival_ns, conf->debounce_ns, &until)) {
        until = UINT64_MAX;
    }
    return until > d->due_ns && until > bus->log_ns ? until : d->due_ns;
}
