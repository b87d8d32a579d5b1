/* Owns the retry schedule: every form of it becomes a list of waits. */
#include <string.h>

#include "config/builder.h"
#include "core/alloc.h"

#define SHARE_SEARCH 16u /* newest schedules looked at for an equal one */

static const struct mr_node *given(const struct mr_node *node, const char *key)
{
    return node == NULL || node->kind != MR_NODE_MAPPING ? NULL : mr__node_child(node, key);
}

static enum mr_status build_schedule(struct mr_loader *loader, const struct mr_node *node,
                                     const struct mr_strings *schedule, uint64_t *step_ns)
{
    if (schedule->count > MR_RETRY_STEPS_MAX) {
        return mr__report(loader, node, "schedule: %u waits are too many, at most %u",
                          schedule->count, MR_RETRY_STEPS_MAX);
    }
    enum mr_status r = MR_OK;
    for (uint32_t i = 0; i < schedule->count && r == MR_OK; i++) {
        const struct mr_node *item = node == NULL ? NULL : mr__node_item(node, i);
        if (!mr_parse_duration(schedule->items[i], &step_ns[i])) {
            r = mr__report(loader, item,
                           "schedule: `%.64s` is no duration: write waits as 1s, 30s, 5m",
                           mr__shown(item, schedule->items[i]));
        }
    }
    return r;
}

static uint64_t multiply(uint64_t a, uint64_t b)
{
    uint64_t product;
    return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}

static void build_steps(const struct mr_retry_options *options, uint64_t *step_ns)
{
    uint64_t step = options->initial_ns;
    for (uint32_t i = 0; i < (uint32_t)options->attempts - 1; i++) {
        if (options->backoff == MR_BACKOFF_LINEAR) {
            step = multiply(options->initial_ns, i + 1);
        }
        step_ns[i] = step < options->max_ns ? step : options->max_ns;
        if (options->backoff == MR_BACKOFF_EXPONENTIAL) {
            step = multiply(step, (uint64_t)options->factor);
        }
    }
}

/* Ten thousand subscriptions have few schedules between them. */
static enum mr_status keep_steps(struct mr_config *config, const uint64_t *step_ns,
                                 struct mr_retry *retry)
{
    if (retry->step_count == 0) {
        return MR_OK;
    }
    size_t size = retry->step_count * sizeof(*step_ns);
    uint32_t searched = 0;
    struct mr_schedule *schedule = config->schedules;
    for (; schedule != NULL && searched < SHARE_SEARCH; schedule = schedule->next, searched++) {
        if (schedule->count == retry->step_count &&
            memcmp(schedule->step_ns, step_ns, size) == 0) {
            retry->step_ns = schedule->step_ns;
            return MR_OK;
        }
    }
    schedule = mr_alloc(sizeof(*schedule) + size);
    if (schedule == NULL) {
        return MR_E_NOMEM;
    }
    schedule->count = retry->step_count;
    memcpy(schedule->step_ns, step_ns, size);
    schedule->next = config->schedules;
    config->schedules = schedule;
    retry->step_ns = schedule->step_ns;
    return MR_OK;
}

static bool parse_jitter(const char *text, struct mr_retry *retry)
{
    if (strcmp(text, "none") == 0) {
        retry->jitter = MR_JITTER_NONE;
        return true;
    }
    if (strcmp(text, "full") == 0) {
        retry->jitter = MR_JITTER_FULL;
        return true;
    }
    size_t size = strlen(text);
    uint64_t percent;
    if (size < 2 || text[size - 1] != '%' || !mr_parse_u64(mr_bytes(text, size - 1), &percent) ||
        percent > 100) {
        return false;
    }
    retry->jitter = percent == 0 ? MR_JITTER_NONE : MR_JITTER_PERCENT;
    retry->jitter_percent = (uint32_t)percent;
    return true;
}

/* A schedule and a computed back-off are two answers to one question. */
static enum mr_status check_forms(struct mr_loader *loader, const struct mr_node *node,
                                  const struct mr_retry_options *options)
{
    static const char *const computed[] = {"attempts", "backoff", "initial", "factor", "max"};
    if (given(node, "schedule") != NULL) {
        for (size_t i = 0; i < MR_ARRAY_COUNT(computed); i++) {
            const struct mr_node *other = given(node, computed[i]);
            if (other != NULL) {
                return mr__report(loader, other,
                                  "`%s` contradicts `schedule`, which spells every wait out: give "
                                  "one of the two",
                                  computed[i]);
            }
        }
        return MR_OK;
    }
    const struct mr_node *factor = given(node, "factor");
    if (factor != NULL && options->backoff == MR_BACKOFF_LINEAR) {
        return mr__report(loader, factor, "`factor` has no meaning with a linear backoff");
    }
    if (options->initial_ns > options->max_ns) {
        const struct mr_node *place = given(node, "initial");
        return mr__report(loader, place == NULL ? given(node, "max") : place,
                          "the first wait (`initial`) is longer than the longest (`max`)");
    }
    return MR_OK;
}

enum mr_status mr__build_retry(struct mr_loader *loader, struct mr_config *config,
                               const struct mr_node *node, const struct mr_retry_options *options,
                               struct mr_retry *ret_retry)
{
    struct mr_retry retry = {0};
    uint64_t step_ns[MR_RETRY_STEPS_MAX];
    bool is_computed = given(node, "attempts") != NULL || given(node, "backoff") != NULL ||
                       given(node, "initial") != NULL || given(node, "factor") != NULL ||
                       given(node, "max") != NULL;
    enum mr_status r = check_forms(loader, node, options);
    if (r != MR_OK) {
        return r;
    }
    if (given(node, "schedule") != NULL || !is_computed) {
        r = build_schedule(loader, given(node, "schedule"), &options->schedule, step_ns);
        retry.step_count = options->schedule.count; /* with too many, r says so */
    } else if (options->attempts >= 1) {
        build_steps(options, step_ns);
        retry.step_count = (uint32_t)options->attempts - 1;
    }
    if (r == MR_OK && options->jitter != NULL && !parse_jitter(options->jitter, &retry)) {
        const struct mr_node *place = given(node, "jitter");
        r = mr__report(loader, place,
                       "jitter: `%.64s` is neither none, full nor a percentage from 0%% to 100%%",
                       mr__shown(place, options->jitter));
    }
    if (r == MR_OK && loader->errors->count == 0) { /* else there will be no configuration */
        r = keep_steps(config, step_ns, &retry);
    }
    if (r == MR_OK) {
        *ret_retry = retry;
    }
    return r;
}
