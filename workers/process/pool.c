#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/assert.h"
#include "workers/process/internal.h"

#define STARTING_MAX 4u                /* instances that start at the same time … */
#define STARTING_BURST_MAX 16u         /* … and in a burst */
#define BURST_FACTOR 2u                /* so much more work than the ready can hold is a burst */
#define BURST_NS (6 * MR_SECOND)       /* and for so long nobody is sent away after it */
#define GROW_AGE_NS (20 * MR_MS)       /* how long work waits before another instance is worth it */
#define SAMPLE_NS MR_SECOND

/* Instances that take work, or will, and stay; and those whose socket just ended by itself:
 * whether to replace one is decided when its process has ended too, as a crash or not. */
static uint32_t count_live(const struct mr_target *t, uint32_t *ret_starting)
{
    uint32_t live = 0;
    *ret_starting = 0;
    for (uint32_t i = 0; i < t->count; i++) {
        const struct mr__instance *instance = t->instances[i];
        enum mr__state state = instance->state;
        *ret_starting += state == MR__STARTING;
        live += state == MR__STARTING || (state == MR__READY && !instance->retiring) ||
                (state == MR__DRAINING && instance->socket_ended && !instance->stop_sent);
    }
    return live;
}

static uint64_t count_held(const struct mr_target *t)
{
    uint64_t held = 0;
    for (uint32_t i = 0; i < t->count; i++) {
        held += t->instances[i]->places;
    }
    return held + mr__dispatch_places(t);
}

static uint64_t load_of(const struct mr_target *t)
{
    return atomic_load_explicit(&t->base.demand_queued, memory_order_relaxed) + count_held(t);
}

static uint32_t wanted(const struct mr_target *t)
{
    uint64_t load = load_of(t);
    uint64_t want = load / t->scale_target + (load % t->scale_target != 0);
    want = want < t->scale_min ? t->scale_min : want;
    return want > t->scale_max ? t->scale_max : (uint32_t)want;
}

static bool any_unproven(const struct mr_target *t)
{
    for (uint32_t i = 0; i < t->count; i++) {
        if (t->instances[i]->answered == 0) {
            return true;
        }
    }
    return false;
}

/* Whether one more instance is due now; else notes when to look again. */
static bool may_start(struct mr_target *t, uint32_t live, uint32_t starting)
{
    uint64_t now = t->base.now.mono_ns;
    bool burst = now < t->burst_until_ns;
    if (starting >= (burst ? STARTING_BURST_MAX : STARTING_MAX) ||
        (t->base.streak > 0 && any_unproven(t))) {
        return false; /* in a crash loop one is enough to find out */
    }
    if (now < t->base.start_not_before_ns) {
        mr_station_wake_at(&t->base, t->base.start_not_before_ns);
        return false;
    }
    if (burst || live == 0 || live < t->scale_min) {
        return true;
    }
    /* A short burst is done sooner by those that run than by one that must start first. */
    uint64_t due =
        atomic_load_explicit(&t->base.demand_born_ns, memory_order_relaxed) + GROW_AGE_NS;
    if (now < due) {
        mr_station_wake_at(&t->base, due);
        return false;
    }
    return true;
}

/* More than twice what the ready ones are meant to hold: waiting to see whether it passes, and
 * starting a few at a time, would only make it worse. One instance or none is no measure. */
static void look_for_burst(struct mr_target *t, uint32_t live, uint32_t starting)
{
    uint64_t ready = live - starting;
    if (ready > 0 && load_of(t) >= BURST_FACTOR * ready * t->scale_target &&
        ready < t->scale_max) {
        t->burst_until_ns = t->base.now.mono_ns + BURST_NS;
    }
}

static void grow(struct mr_target *t)
{
    uint32_t want = wanted(t);
    uint32_t starting;
    uint32_t live = count_live(t, &starting);
    look_for_burst(t, live, starting);
    /* Those that are ending count: never more processes than scale.max. */
    while (live < want && t->count < t->scale_max && may_start(t, live, starting)) {
        struct mr_problem problem = {.text = ""};
        if (mr__instance_start(t, &problem) != MR_OK) {
            MR_WARN("workers", "%s: no instance started: %s", t->base.name, problem.text);
            mr_station_failed(&t->base, problem.text);
            mr_station_wake_at(&t->base, t->base.start_not_before_ns);
            return;
        }
        live++;
        starting++;
    }
}

static void shrink(struct mr_target *t)
{
    uint32_t starting;
    uint32_t live = count_live(t, &starting);
    uint32_t want = wanted(t);
    /* From the end: the oldest, which get work first, stay. */
    for (uint32_t n = t->count; n > 0; n--) {
        struct mr__instance *i = t->instances[n - 1];
        if (i->state != MR__READY || i->retiring || i->held > 0 || i->reserved || live <= want) {
            continue;
        }
        uint64_t due = i->idle_since_ns + t->scale_idle_ns;
        due = due < t->burst_until_ns ? t->burst_until_ns : due;
        if (t->base.now.mono_ns >= due) {
            mr__instance_drain(i);
            live--;
        } else {
            mr_station_wake_at(&t->base, due);
        }
    }
}

/* The kernel's peak value at the end includes ours (child.h), so it is looked at meanwhile. */
static void sample(struct mr_target *t)
{
    if (t->base.now.mono_ns >= t->sample_at_ns) {
        t->sample_at_ns = t->base.now.mono_ns + SAMPLE_NS;
        for (uint32_t n = 0; n < t->count; n++) {
            struct mr__instance *i = t->instances[n];
            struct mr_child_memory memory = mr_child_memory(&i->child);
            i->rss = memory.rss;
            mr__instance_check_cpu(i);
            i->rss_peak = memory.rss_peak > i->rss_peak ? memory.rss_peak : i->rss_peak;
            if (memory.rss_peak > t->base.now_health.rss_peak) {
                t->base.now_health.rss_peak = memory.rss_peak;
            }
        }
    }
    if (t->count > 0) {
        mr_station_wake_at(&t->base, t->sample_at_ns);
    }
}

bool mr__pool_can_spare(const struct mr_target *t)
{
    uint32_t starting;
    uint32_t live = count_live(t, &starting);
    return t->count >= t->scale_max || live > starting || wanted(t) == 0;
}

void mr__pool_update(struct mr_target *t)
{
    sample(t);
    /* Backwards: an instance that ends is replaced by the last. */
    for (uint32_t n = t->count; n > 0; n--) {
        mr__instance_update(t->instances[n - 1]);
    }
    if (!t->base.stopping) {
        grow(t);
        shrink(t);
    }
}

uint32_t mr__pool_capacity(struct mr_target *t)
{
    uint32_t capacity = 0;
    bool reserve = mr__dispatch_needs_reserved(t);
    for (uint32_t n = 0; n < t->count; n++) {
        const struct mr__instance *i = t->instances[n];
        bool open = i->state == MR__READY && i->cancelling == 0 && !i->alone && !i->reserved;
        uint32_t slots = open ? i->slot_max : i->places;
        if (open && t->max_events != 0 && t->max_events - i->handed < slots - i->places) {
            slots = i->places + (uint32_t)(t->max_events - i->handed);
        }
        capacity += slots;
    }
    /* What waits for an empty instance is held too. */
    return capacity + (reserve ? mr__dispatch_places(t) : 0);
}

void mr__pool_stop(struct mr_target *t)
{
    t->replacing = false;
    for (uint32_t n = t->count; n > 0; n--) {
        struct mr__instance *i = t->instances[n - 1];
        if (i->state == MR__STARTING) {
            i->expected = true;
            mr__instance_kill(i, ""); /* it has nothing to finish */
        } else {
            mr__instance_drain(i);
        }
    }
}
