/* Configurations, made by hand: the simulation does not depend on the YAML loader. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/assert.h"
#include "core/hash.h"
#include "schemas/adapter.h"
#include "sim.h"

static uint64_t pick(struct mr_rng *rng, const uint64_t *values, size_t count)
{
    return values[mr_rng_below(rng, count)];
}

/* Drawn from numbers of its own, so that the rest of a seed stays what it is without. */
static void random_batch(struct sim_sub_spec *s)
{
    static const uint64_t windows[] = {0, 10 * MR_MS, 300 * MR_MS, 2 * MR_SECOND};
    struct mr_rng rng;
    mr_rng_init(&rng, s->window_size + s->step_ns + s->types * 977u + s->steps * 31u +
                          s->sources * 7u + s->concurrency + s->rate_per_ns + s->debounce_ns);
    if (!mr_rng_chance(&rng, 1, 3)) {
        return;
    }
    s->batch_max = (uint32_t)(1 + mr_rng_below(&rng, mr_rng_chance(&rng, 1, 2) ? 4 : 12));
    s->batch_size = mr_rng_chance(&rng, 1, 3) ? 400 + mr_rng_below(&rng, 800) : MR_MIB;
    s->batch_window_ns = pick(&rng, windows, MR_ARRAY_COUNT(windows));
    s->batch_by = (uint8_t)mr_rng_below(&rng, SIM_ORDERS);
}

/* From numbers of its own, too. */
static void random_lane_end(struct sim_sub_spec *s)
{
    struct mr_rng rng;
    mr_rng_init(&rng, s->window_size + s->step_ns * 5u + s->types * 613u + s->steps * 17u +
                          s->sources * 3u + s->target);
    s->dead_holds = s->order != SIM_UNORDERED && mr_rng_chance(&rng, 1, 3);
}

/* Likewise: how many of a lane side by side, which of two targets, and what goes first. */
static void random_flow(struct sim_sub_spec *s)
{
    static const uint64_t level_steps[] = {50 * MR_MS, MR_SECOND, 20 * MR_SECOND};
    struct mr_rng rng;
    mr_rng_init(&rng, 31 + s->window_size * 3 + s->step_ns + s->types * 577u + s->steps * 13u +
                          s->sources * 11u + s->concurrency + s->rate_per_ns + s->debounce_ns);
    bool one_by_one = s->keep_latest || s->when_busy != MR_BUSY_QUEUE || s->debounce_ns > 0 ||
                      s->cancels != 0 || s->batch_max > 0;
    if (s->order != SIM_UNORDERED && !one_by_one && mr_rng_chance(&rng, 1, 2)) {
        s->lane_concurrency = (uint32_t)(2 + mr_rng_below(&rng, 3));
    }
    if (s->target < SIM_WORKERS && mr_rng_chance(&rng, 1, 3)) {
        for (uint32_t i = 0; i < SIM_WORKERS; i++) {
            s->weights[i] = (uint32_t)mr_rng_below(&rng, 4);
        }
        s->weights[s->target] += 1;
        s->return_percent = mr_rng_chance(&rng, 1, 2) ? 30 : 0;
    }
    if (mr_rng_chance(&rng, 1, 3)) {
        s->level_by = (uint8_t)(1 + mr_rng_below(&rng, SIM_ORDERS - 1));
        s->level_step_ns = pick(&rng, level_steps, MR_ARRAY_COUNT(level_steps));
    }
}

uint64_t sim_share_hash(const struct sim_sub_spec *s, uint32_t i)
{
    return mr_hash_u64(s->weights[i] * 100u + s->return_percent + i * 7u) | 1;
}

uint32_t sim_share_of(const struct sim_sub_spec *s, uint64_t key)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < SIM_WORKERS; i++) {
        sum += s->weights[i];
    }
    uint64_t point = mr_hash_u64(key) % sum;
    for (uint32_t i = 0; i + 1 < SIM_WORKERS; i++) {
        if (point < s->weights[i]) {
            return i;
        }
        point -= s->weights[i];
    }
    return SIM_WORKERS - 1;
}

static void random_shed(struct sim_sub_spec *s, bool calm)
{
    static const uint64_t most[] = {1, 2, 3, 6, 12};
    struct mr_rng rng;
    mr_rng_init(&rng, s->window_size * 3u + s->step_ns * 7u + s->types * 211u + s->steps * 41u +
                          s->sources * 11u + s->target + s->rate_per_ns);
    if (calm) {
        return;
    }
    s->takes_shed = mr_rng_chance(&rng, 1, 3);
    if (mr_rng_chance(&rng, 1, 5)) {
        s->shed_max = (uint32_t)pick(&rng, most, MR_ARRAY_COUNT(most));
        s->shed_to = (uint32_t)mr_rng_below(&rng, s->shed_max);
        s->shed_newest = mr_rng_chance(&rng, 1, 3);
    }
}

static void random_sub(struct mr_rng *rng, bool calm, struct sim_sub_spec *s)
{
    static const uint64_t steps[] = {10 * MR_MS, 200 * MR_MS, MR_SECOND, 30 * MR_SECOND};
    static const uint64_t windows[] = {1024, 1536, 2048, 4096, 65536};
    static const uint64_t ages[] = {0, 0, 0, 2 * MR_SECOND, MR_MINUTE, MR_HOUR};
    *s = (struct sim_sub_spec){
        .present = true,
        .types = (uint8_t)(1u + mr_rng_below(rng, (1u << SIM_TYPES) - 1)),
        .sources = mr_rng_chance(rng, 1, 3) ? (uint8_t)(1 + mr_rng_below(rng, 7)) : 0,
        .target = (uint32_t)mr_rng_below(rng, SIM_WORKERS),
        .order = (uint8_t)mr_rng_below(rng, SIM_ORDERS),
        .steps = (uint32_t)mr_rng_below(rng, 5),
        .step_ns = pick(rng, steps, MR_ARRAY_COUNT(steps)),
        .jitter = (int)mr_rng_below(rng, 3),
        .hold = mr_rng_chance(rng, 1, 4),
        .max_age_ns = calm ? 0 : pick(rng, ages, MR_ARRAY_COUNT(ages)),
        .concurrency = mr_rng_chance(rng, 1, 3) ? (uint32_t)mr_rng_below(rng, 4) : 0,
        .window_size = pick(rng, windows, MR_ARRAY_COUNT(windows)),
        .timeout_ns = mr_rng_chance(rng, 1, 4) ? 2 * MR_SECOND : 0,
        .success_to = mr_rng_chance(rng, 1, 6) ? (int)(2 + mr_rng_below(rng, 2)) : -1,
        .failure_to = -1,
    };
    if (mr_rng_chance(rng, 1, 5)) {
        static const uint64_t spans[] = {20 * MR_MS, 500 * MR_MS, 5 * MR_SECOND};
        s->rate_count = (uint32_t)(1 + mr_rng_below(rng, 4));
        s->rate_per_ns = pick(rng, spans, MR_ARRAY_COUNT(spans));
    }
    if (s->order != SIM_UNORDERED && mr_rng_chance(rng, 1, 2)) {
        s->when_busy = (int)mr_rng_below(rng, 3);
        s->keep_latest = s->when_busy == MR_BUSY_REPLACE ||
                         (s->when_busy == MR_BUSY_QUEUE && mr_rng_chance(rng, 1, 2));
        s->debounce_ns = s->keep_latest && mr_rng_chance(rng, 1, 3) ? 300 * MR_MS : 0;
        s->cancels = mr_rng_chance(rng, 1, 2)
                         ? (uint8_t)(1u + mr_rng_below(rng, (1u << SIM_TYPES) - 1))
                         : 0;
    }
    if (mr_rng_chance(rng, 1, 3)) {
        s->limits = (uint8_t)(1 + mr_rng_below(rng, (1u << SIM_LIMITS) - 1));
    }
    if (mr_rng_chance(rng, 1, 4)) {
        s->failure_to = mr_rng_chance(rng, 1, 4) ? -2 : (int)(2 + mr_rng_below(rng, 2));
    }
    if (mr_rng_chance(rng, 1, 8)) {
        s->target = (uint32_t)(SIM_WORKERS + mr_rng_below(rng, SIM_TARGETS - SIM_WORKERS));
    }
    random_batch(s);
    random_lane_end(s);
    random_flow(s);
    random_shed(s, calm);
}

static void random_limits(struct mr_rng *rng, struct sim_spec *spec)
{
    static const uint64_t spans[] = {20 * MR_MS, 500 * MR_MS, 2 * MR_SECOND};
    for (uint32_t i = 0; i < SIM_LIMITS; i++) {
        bool rated = mr_rng_chance(rng, 1, 2);
        spec->limits[i] = (struct sim_limit_spec){
            .concurrency = rated ? 0 : (uint32_t)(1 + mr_rng_below(rng, 3)),
            .rate_count = rated ? (uint32_t)(1 + mr_rng_below(rng, 4)) : 0,
            .rate_per_ns = pick(rng, spans, MR_ARRAY_COUNT(spans)),
        };
    }
}

static void random_dedupe(struct mr_rng *rng, struct sim_spec *spec)
{
    static const uint64_t windows[] = {30 * MR_MS, 400 * MR_MS, 5 * MR_SECOND, MR_HOUR};
    static const uint64_t keys[] = {1, 3, 8, 1000};
    for (uint32_t i = 0; i < SIM_SOURCES; i++) {
        uint64_t by = 1 + mr_rng_below(rng, 3);
        bool on = mr_rng_chance(rng, 2, 3);
        spec->dedupe[i] = (struct sim_dedupe_spec){
            .window_ns = on ? pick(rng, windows, MR_ARRAY_COUNT(windows)) : 0,
            .keys = (uint32_t)pick(rng, keys, MR_ARRAY_COUNT(keys)),
            .by_id = (by & 1) != 0,
            .by_request = (by & 2) != 0,
        };
    }
}

/* From numbers of its own: half of the seeds have none and stay what they are without. */
static void random_fanouts(uint64_t number, struct sim_spec *spec)
{
    static const uint64_t withins[] = {50 * MR_MS, 2 * MR_SECOND, MR_MINUTE, MR_DAY};
    struct mr_rng rng;
    mr_rng_init(&rng, number * 2654435761u + 77);
    for (uint32_t i = 0; i < SIM_SUBS_MAX; i++) {
        spec->fanout_of[i] = (uint8_t)mr_rng_below(&rng, SIM_FANOUTS + 1);
        spec->subs[i].joined = mr_rng_chance(&rng, 1, 6);
    }
    for (uint32_t i = 0; i < SIM_FANOUTS; i++) {
        spec->within_ns[i] = pick(&rng, withins, MR_ARRAY_COUNT(withins));
    }
}

static bool has_fanouts(const struct sim_spec *spec)
{
    return spec->within_ns[0] > 0;
}

void sim_spec_random(struct mr_rng *rng, bool calm, struct sim_spec *ret_spec)
{
    *ret_spec = (struct sim_spec){
        .sub_count = (uint32_t)(1 + mr_rng_below(rng, SIM_SUBS_MAX / 2)),
        .breaker_percent = mr_rng_chance(rng, 1, 3) ? 70 : 0,
        .hash = mr_rng_next(rng) | 1,
    };
    random_limits(rng, ret_spec);
    random_dedupe(rng, ret_spec);
    for (uint32_t i = 0; i < SIM_SUBS_MAX; i++) {
        random_sub(rng, calm, &ret_spec->subs[i]);
        ret_spec->subs[i].present = i < ret_spec->sub_count;
    }
    if (ret_spec->hash % 16 < 8) {
        random_fanouts(ret_spec->hash, ret_spec);
    }
}

void sim_spec_mutate(struct mr_rng *rng, struct sim_spec *spec)
{
    uint64_t changes = 1 + mr_rng_below(rng, 3);
    if (mr_rng_chance(rng, 1, 4)) {
        random_limits(rng, spec);
    }
    while (changes-- > 0) {
        uint32_t i = (uint32_t)mr_rng_below(rng, SIM_SUBS_MAX);
        struct sim_sub_spec *s = &spec->subs[i];
        if (i >= spec->sub_count) {
            if (spec->sub_count < SIM_SUBS_MAX && mr_rng_chance(rng, 1, 2)) {
                spec->subs[spec->sub_count++].present = true;
            }
        } else if (mr_rng_chance(rng, 1, 3)) {
            s->present = !s->present;
            sim_fired[s->present ? SIM_SUB_BACK : SIM_SUB_REMOVED]++;
        } else {
            bool present = s->present;
            struct sim_sub_spec old = *s;
            random_sub(rng, false, s);
            s->present = present;
            s->joined = old.joined;
            if (s->order != SIM_UNORDERED && old.order != SIM_UNORDERED &&
                mr_rng_chance(rng, 1, 2)) {
                s->order = old.order;
            }
            sim_fired[SIM_REORDERED] += s->order != old.order;
            s->success_to = old.success_to; /* outcomes on their way to a sink that is taken out of */
            s->failure_to = old.failure_to; /* the configuration wait seven days for it */
        }
    }
    spec->hash = mr_rng_next(rng) | 1;
    if (has_fanouts(spec) && spec->hash % 16 < 4) {
        random_fanouts(spec->hash, spec);
    }
}

void sim_spec_calm(struct sim_spec *spec)
{
    for (uint32_t i = 0; i < spec->sub_count; i++) {
        spec->subs[i].present = true;
        spec->subs[i].concurrency = 0;
        spec->subs[i].rate_count = 0;
        spec->subs[i].limits = 0;
    }
    spec->breaker_percent = 0;
    spec->hash = mr_hash_u64(spec->hash) | 1;
}

static char *copy_of(const char *text)
{
    char *copy = strdup(text);
    MR_ASSERT(copy != NULL);
    return copy;
}

static char *numbered(const char *prefix, unsigned n)
{
    char text[64];
    (void)snprintf(text, sizeof(text), "%s%u", prefix, n); /* short prefixes */
    return copy_of(text);
}

static char *filter_of(uint8_t types, bool joined, bool takes_shed)
{
    static const char *const names[SIM_TYPES] = {"t.0", "t.1", "t.2", "t.3", "e.0", "e.1"};
    char text[512] = "[{\"any\":[";
    size_t n = strlen(text);
    bool first = true;
    for (unsigned i = 0; i < SIM_TYPES; i++) {
        if (((unsigned)types >> i & 1u) != 0) {
            int more = snprintf(text + n, sizeof(text) - n, "%s{\"exact\":{\"type\":\"%s\"}}",
                                first ? "" : ",", names[i]);
            MR_ASSERT(more > 0);
            n += (size_t)more;
            first = false;
        }
    }
    (void)snprintf(text + n, sizeof(text) - n, "%s%s]}]", /* fits: a few short names */
                   joined ? ",{\"exact\":{\"type\":\"io.millrace.fanout.completed\"}}" : "",
                   takes_shed ? ",{\"exact\":{\"type\":\"" MR_SHED_TYPE "\"}}" : "");
    return copy_of(text);
}

static void *cleared(size_t count, size_t size)
{
    void *p = calloc(count, size);
    MR_ASSERT(p != NULL);
    return p;
}

static const char *const target_names[SIM_TARGETS] = {"fast", "slow", "mail", "archive"};

static void fill_targets(struct mr_config *config, const struct sim_spec *spec)
{
    config->target_count = SIM_TARGETS;
    config->worker_count = SIM_WORKERS;
    config->targets = cleared(SIM_TARGETS, sizeof(*config->targets));
    for (uint32_t i = 0; i < SIM_TARGETS; i++) {
        config->targets[i] = (struct mr_target_config){
            .name = copy_of(target_names[i]),
            .is_worker = i < SIM_WORKERS,
            .concurrency = 4,
            .timeout_ns = 30 * MR_SECOND,
            .max_run_ns = 5 * MR_MINUTE,
            .grace_ns = 5 * MR_SECOND,
            .scale_max = 1,
            .breaker_percent = spec->breaker_percent,
            .breaker_calls = 10,
            .breaker_window_ns = 5 * MR_MINUTE,
            .breaker_open_ns = 30 * MR_SECOND,
        };
    }
}

static struct mr_rates *rates_of(uint32_t count, uint64_t per_ns)
{
    struct mr_rates *rates = count == 0 ? NULL : cleared(1, sizeof(*rates));
    if (rates != NULL) {
        rates->items[0] = (struct mr_rate){.count = count, .per_ns = per_ns};
        rates->count = 1;
    }
    return rates;
}

static void fill_limits(struct mr_config *config, const struct sim_spec *spec)
{
    config->limit_count = SIM_LIMITS;
    config->limits = cleared(SIM_LIMITS, sizeof(*config->limits));
    for (uint32_t i = 0; i < SIM_LIMITS; i++) {
        const struct sim_limit_spec *limit = &spec->limits[i];
        config->limits[i] = (struct mr_limit_config){
            .name = numbered("limit", i),
            .concurrency = limit->concurrency,
            .rates = rates_of(limit->rate_count, limit->rate_per_ns),
        };
    }
}

/* @p count waits that begin with @p first_ns, kept by the configuration. */
static const uint64_t *steps_of(struct mr_config *config, uint32_t count, uint64_t first_ns,
                                bool doubling)
{
    struct mr_schedule *schedule =
        cleared(1, sizeof(*schedule) + count * sizeof(*schedule->step_ns));
    schedule->count = count;
    for (uint32_t k = 0; k < count; k++) {
        schedule->step_ns[k] = doubling ? first_ns << k : first_ns;
    }
    schedule->next = config->schedules;
    config->schedules = schedule;
    return schedule->step_ns;
}

bool sim_sub_drops(const struct sim_sub_spec *s)
{
    return !s->hold && s->types % 3 == 0; /* not drawn: what older seeds do stays */
}

static void fill_flow(struct mr_subscription_config *c, const struct sim_sub_spec *s)
{
    static const char *const values[SIM_ORDERS][3] = {
        [SIM_BY_LANE] = {"k0", "k1", "k2"}, [SIM_BY_ZONE] = {"z0", "z1", "z2"}};
    c->lane_concurrency = s->lane_concurrency;
    bool several = s->weights[0] + s->weights[1] > 0;
    if (several) {
        c->shares = cleared(SIM_WORKERS, sizeof(*c->shares));
        c->share_count = SIM_WORKERS;
        c->target = 0;
    }
    for (uint32_t i = 0; i < SIM_WORKERS && several; i++) {
        c->shares[i] = (struct mr_share_config){
            .target = i,
            .weight = s->weights[i],
            .return_percent = s->return_percent,
            .return_calls = 5,
            .return_window_ns = MR_HOUR,
            .hash = sim_share_hash(s, i),
        };
    }
    if (s->level_by != SIM_UNORDERED) {
        c->priority = cleared(1, sizeof(*c->priority) + 3 * sizeof(c->priority->values[0]));
        c->priority->by = MR_ORDER_ATTRIBUTE;
        c->priority->key = copy_of(s->level_by == SIM_BY_LANE ? "lane" : "zone");
        c->priority->step_ns = s->level_step_ns;
        c->priority->value_count = 3;
        for (uint32_t i = 0; i < 3; i++) {
            c->priority->values[i].hash = mr_hash(values[s->level_by][i], 2);
            c->priority->values[i].level = (uint8_t)(i * 4);
        }
    }
}

static void fill_sub(struct mr_config *config, struct mr_subscription_config *c,
                     const struct sim_sub_spec *s)
{
    c->target = s->target;
    c->order = s->order == SIM_UNORDERED ? MR_ORDER_NONE : MR_ORDER_ATTRIBUTE;
    c->order_key = s->order == SIM_UNORDERED ? NULL
                                             : copy_of(s->order == SIM_BY_LANE ? "lane" : "zone");
    c->retry.step_count = s->steps;
    c->retry.step_ns = steps_of(config, s->steps, s->step_ns, true);
    c->retry.jitter = s->jitter;
    c->retry.jitter_percent = 20;
    c->on_exhausted = s->hold            ? MR_EXHAUSTED_HOLD
                      : sim_sub_drops(s) ? MR_EXHAUSTED_DROP
                                         : MR_EXHAUSTED_DEAD;
    c->dead_holds = s->dead_holds;
    c->shed_max = s->shed_max;
    c->shed_to = s->shed_to;
    c->shed_newest = s->shed_newest;
    c->retry_after_max_ns = MR_HOUR;
    c->timeout_ns = s->timeout_ns;
    c->max_age_ns = s->max_age_ns;
    c->keep_latest = s->keep_latest;
    c->when_busy = s->when_busy;
    c->debounce_ns = s->debounce_ns;
    c->cancel_on = s->cancels == 0 ? NULL : filter_of(s->cancels, false, false);
    c->concurrency = s->concurrency;
    c->rates = rates_of(s->rate_count, s->rate_per_ns);
    c->limits = cleared(SIM_LIMITS, sizeof(*c->limits));
    for (uint32_t k = 0; k < SIM_LIMITS; k++) {
        if (((unsigned)s->limits >> k & 1u) != 0) {
            c->limits[c->limit_count++] = k;
        }
    }
    c->window_size = s->window_size;
    c->batch_max = s->batch_max;
    c->batch_size = s->batch_size;
    c->batch_window_ns = s->batch_window_ns;
    c->batch_by = s->batch_by == SIM_UNORDERED ? MR_ORDER_NONE : MR_ORDER_ATTRIBUTE;
    c->batch_key = s->batch_by == SIM_UNORDERED
                       ? NULL
                       : copy_of(s->batch_by == SIM_BY_LANE ? "lane" : "zone");
    fill_flow(c, s);
    c->hash = mr_hash(s, sizeof(*s));
    if (s->sources != 0) {
        c->sources = cleared(SIM_SOURCES, sizeof(*c->sources));
        for (uint32_t k = 0; k < SIM_SOURCES; k++) {
            if (((unsigned)s->sources >> k & 1u) != 0) {
                c->sources[c->source_count++] = k;
            }
        }
    }
}

/* A destination of @p parent that is a sink: a hidden subscription of its own. */
static uint32_t add_hidden(struct mr_config *config, const struct mr_subscription_config *parent,
                           const char *kind, uint32_t sink)
{
    char name[128];
    (void)snprintf(name, sizeof(name), "%s/%s/%s", parent->name, kind,
                   target_names[sink]); /* short names */
    uint32_t index = config->subscription_count++;
    struct mr_subscription_config *c = &config->subscriptions[index];
    *c = (struct mr_subscription_config){
        .name = copy_of(name),
        .hidden = true,
        .filter_json = copy_of("[]"),
        .target = sink,
        .retry = {.step_ns = steps_of(config, 2, MR_SECOND, false), .step_count = 2},
        .retry_after_max_ns = MR_HOUR,
        .window_size = 4096,
        .hash = 7,
    };
    return index;
}

static void add_destinations(struct mr_config *config, uint32_t index,
                             const struct sim_sub_spec *s)
{
    struct mr_subscription_config *c = &config->subscriptions[index];
    if (s->success_to >= 0) {
        c->on_success_count = 1;
        c->on_success = cleared(1, sizeof(*c->on_success));
        c->on_success_hidden = cleared(1, sizeof(uint32_t));
        c->on_success[0].target = (uint32_t)s->success_to;
        c->on_success_hidden[0] =
            add_hidden(config, c, "on_success", (uint32_t)s->success_to);
    }
    if (s->failure_to != -1) {
        c->on_failure_count = 1;
        c->on_failure = cleared(1, sizeof(*c->on_failure));
        c->on_failure_hidden = cleared(1, sizeof(uint32_t));
        c->on_failure[0].is_bus = s->failure_to == -2;
        c->on_failure_hidden[0] = UINT32_MAX;
        if (s->failure_to >= 0) {
            c->on_failure[0].target = (uint32_t)s->failure_to;
            c->on_failure_hidden[0] =
                add_hidden(config, c, "on_failure", (uint32_t)s->failure_to);
        }
    }
}

struct mr_config *sim_config_create(const struct sim_spec *spec, const struct mr_log_options *log)
{
    struct mr_config *config = cleared(1, sizeof(*config));
    config->log = *log;
    config->memory_state = 64 * MR_MIB;
    config->event_size_max = 64 * MR_KIB;
    config->hops_max = SIM_HOPS_MAX;
    config->hash = spec->hash;
    config->canonical_json = numbered("", (unsigned)(spec->hash & 0xffff));
    config->source_count = SIM_SOURCES;
    config->sources = cleared(SIM_SOURCES, sizeof(*config->sources));
    for (uint32_t i = 0; i < SIM_SOURCES; i++) {
        config->sources[i].name = numbered("src", i);
        config->sources[i].event_size_max = 64 * MR_KIB;
        config->sources[i].hops_max = SIM_HOPS_MAX;
        config->sources[i].dedupe_window_ns = spec->dedupe[i].window_ns;
        config->sources[i].dedupe_keys = spec->dedupe[i].keys;
        config->sources[i].dedupe_ids = spec->dedupe[i].by_id;
    }
    fill_targets(config, spec);
    fill_limits(config, spec);
    config->fanouts = cleared(SIM_FANOUTS, sizeof(*config->fanouts));
    for (uint32_t i = 0; i < SIM_FANOUTS && has_fanouts(spec); i++) {
        config->fanouts[config->fanout_count++] = (struct mr_fanout_config){
            .name = numbered("fan", i), .within_ns = spec->within_ns[i]};
    }
    config->subscriptions = cleared(SIM_ALL_SUBS_MAX, sizeof(*config->subscriptions));
    uint32_t visible[SIM_SUBS_MAX];
    for (uint32_t i = 0; i < spec->sub_count; i++) {
        if (spec->subs[i].present) {
            uint32_t index = config->subscription_count++;
            visible[index] = i;
            struct mr_subscription_config *c = &config->subscriptions[index];
            c->name = numbered("sub", i);
            c->filter_json = filter_of(spec->subs[i].types, spec->subs[i].joined,
                                       spec->subs[i].takes_shed);
            c->fanout = has_fanouts(spec) ? spec->fanout_of[i] : 0;
            fill_sub(config, c, &spec->subs[i]);
            c->window_size = spec->windows_wide ? MR_MIB : c->window_size;
        }
    }
    uint32_t count = config->subscription_count;
    for (uint32_t i = 0; i < count; i++) {
        add_destinations(config, i, &spec->subs[visible[i]]);
    }
    return config;
}

void sim_config_destroy(struct mr_config *config)
{
    if (config == NULL) {
        return;
    }
    for (uint32_t i = 0; i < config->source_count; i++) {
        free(config->sources[i].name);
    }
    for (uint32_t i = 0; i < config->target_count; i++) {
        free(config->targets[i].name);
    }
    for (uint32_t i = 0; i < config->limit_count; i++) {
        free(config->limits[i].name);
        free(config->limits[i].rates);
    }
    free(config->limits);
    for (uint32_t i = 0; i < config->fanout_count; i++) {
        free(config->fanouts[i].name);
    }
    free(config->fanouts);
    for (uint32_t i = 0; i < config->subscription_count; i++) {
        struct mr_subscription_config *c = &config->subscriptions[i];
        free(c->name);
        free(c->filter_json);
        free(c->sources);
        free(c->order_key);
        free(c->batch_key);
        free(c->cancel_on);
        free(c->shares);
        if (c->priority != NULL) {
            free(c->priority->key);
            free(c->priority);
        }
        free(c->rates);
        free(c->limits);
        free(c->on_success);
        free(c->on_failure);
        free(c->on_success_hidden);
        free(c->on_failure_hidden);
    }
    for (struct mr_schedule *schedule = config->schedules; schedule != NULL;) {
        struct mr_schedule *next = schedule->next;
        free(schedule);
        schedule = next;
    }
    free(config->sources);
    free(config->targets);
    free(config->subscriptions);
    free(config->canonical_json);
    free(config);
}
