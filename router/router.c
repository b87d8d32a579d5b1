#include "router/router.h"

#include "core/alloc.h"
#include "core/assert.h"
#include "router/internal.h"
#include "router/lane.h"

#define FIRST_MATCHES 16u
#define SORT_SMALL 24u

void mr_matches_release(struct mr_matches *matches)
{
    if (matches != NULL) {
        mr_free(matches->items);
        *matches = (struct mr_matches){0};
    }
}

/* --- life ---------------------------------------------------------------------------------- */

static enum mr_status check_order(const struct mr_subscription_config *subscription,
                                  struct mr_problem *problem)
{
    struct mr_bytes key = mr_bytes_of(subscription->order_key);
    if (subscription->order == MR_ORDER_ATTRIBUTE && !mr__name_is_legal(key)) {
        return mr_problem_set(problem, MR_E_INVALID, "order_by \"%.*s\" names no attribute",
                              (int)(key.size > 100 ? 100 : key.size), (const char *)key.data);
    }
    if (subscription->order == MR_ORDER_DATA && key.size == 0) {
        return mr_problem_set(problem, MR_E_INVALID, "order_by has an empty path behind data.");
    }
    return MR_OK;
}

static enum mr_status make_rule(struct mr__rule *rule,
                                const struct mr_subscription_config *subscription,
                                const char *filter_json, struct mr__compiler *compiler,
                                struct mr_problem *problem)
{
    enum mr_status r = check_order(subscription, problem);
    if (r != MR_OK) {
        return r;
    }
    if (subscription->source_count > 0) {
        rule->sources = subscription->sources;
        rule->source_count = subscription->source_count;
    }
    rule->order = subscription->order;
    rule->order_key = mr_bytes_of(subscription->order_key);
    rule->priority = subscription->priority;
    rule->batch_by = subscription->batch_by;
    rule->batch_key = mr_bytes_of(subscription->batch_key);
    return mr__compile(compiler, mr_bytes_of(filter_json == NULL ? "[]" : filter_json),
                       &rule->program, problem);
}

static enum mr_status fill_router(struct mr_router *router, uint32_t *ret_subscription,
                                  struct mr_problem *problem)
{
    const struct mr_config *config = router->config;
    struct mr__compiler *compiler = NULL;
    enum mr_status r = mr__compiler_create(&router->names, &compiler);
    uint32_t cancelling = config->subscription_count;
    for (uint32_t i = 0; i < config->subscription_count && r == MR_OK; i++) {
        const struct mr_subscription_config *subscription = &config->subscriptions[i];
        struct mr__rule *rule = &router->rules[i];
        rule->subscription = i;
        if (subscription->hidden) {
            continue;
        }
        rule->is_default = subscription->is_default;
        if (rule->is_default) {
            router->defaults[router->default_count++] = i;
        }
        r = make_rule(rule, subscription, subscription->filter_json, compiler, problem);
        if (r == MR_OK && subscription->cancel_on != NULL) {
            rule = &router->rules[cancelling++];
            rule->subscription = i;
            rule->cancels = true;
            r = make_rule(rule, subscription, subscription->cancel_on, compiler, problem);
        }
        if (r != MR_OK && r != MR_E_NOMEM) {
            *ret_subscription = i;
        }
    }
    mr__compiler_destroy(compiler);
    if (r == MR_OK) {
        r = mr__index_build(&router->index, router->rules, router->rule_count,
                            &router->names, config->source_count);
    }
    return r;
}

enum mr_status mr_router_create(const struct mr_config *config, struct mr_router **ret_router,
                                uint32_t *ret_subscription, struct mr_problem *problem)
{
    struct mr_router *router = mr_calloc(1, sizeof(*router));
    if (router == NULL) {
        return mr_problem_set(problem, MR_E_NOMEM, "out of memory");
    }
    router->config = config;
    router->rule_count = config->subscription_count;
    mr__names_init(&router->names);
    uint32_t defaults = 0;
    for (uint32_t i = 0; i < config->subscription_count; i++) {
        defaults += config->subscriptions[i].is_default;
        router->rule_count += config->subscriptions[i].cancel_on != NULL;
    }
    router->rules = mr_calloc(router->rule_count, sizeof(*router->rules));
    router->defaults = mr_calloc(defaults, sizeof(*router->defaults));
    enum mr_status r = router->rules == NULL || router->defaults == NULL
                           ? MR_E_NOMEM
                           : fill_router(router, ret_subscription, problem);
    if (r != MR_OK) {
        mr_router_destroy(router);
        return r == MR_E_NOMEM ? mr_problem_set(problem, r, "out of memory") : r;
    }
    *ret_router = router;
    return MR_OK;
}

void mr_router_destroy(struct mr_router *router)
{
    if (router == NULL) {
        return;
    }
    for (uint32_t i = 0; router->rules != NULL && i < router->rule_count; i++) {
        mr_free(router->rules[i].program);
    }
    mr_free(router->rules);
    mr_free(router->defaults);
    mr__index_release(&router->index);
    mr__names_release(&router->names);
    mr_free(router);
}

/* --- matching ------------------------------------------------------------------------------ */

bool mr__rule_takes_source(const struct mr__rule *rule, uint32_t source)
{
    if (rule->sources == NULL) {
        return true;
    }
    for (uint32_t i = 0; i < rule->source_count; i++) {
        if (rule->sources[i] == source) {
            return true;
        }
    }
    return false;
}

struct matching {
    const struct mr_router *router;
    const struct mr__view *view;
    struct mr_bytes record;
    uint32_t source;
    struct mr_matches *matches;
};

static enum mr_status add_match(struct mr_matches *matches, struct mr_match match)
{
    if (matches->count == matches->capacity) {
        uint32_t capacity = matches->capacity == 0 ? FIRST_MATCHES : matches->capacity * 2;
        struct mr_match *items =
            mr_realloc(matches->items, (size_t)capacity * sizeof(*matches->items));
        if (items == NULL) {
            return MR_E_NOMEM;
        }
        matches->items = items;
        matches->capacity = capacity;
    }
    matches->items[matches->count++] = match;
    return MR_OK;
}

static uint8_t level_of(const struct mr_priority_config *priority, struct mr_bytes record)
{
    if (priority == NULL) {
        return 0;
    }
    uint64_t value = mr__lane(priority->by, mr_bytes_of(priority->key), record);
    for (uint32_t i = 0; i < priority->value_count && value != 0; i++) {
        if (priority->values[i].hash == value) {
            return priority->values[i].level;
        }
    }
    return priority->level;
}

static enum mr_status test_candidates(void *context, const uint32_t *rules, uint32_t count)
{
    const struct matching *m = context;
    struct mr__reading *reading = m->view->reading;
    for (uint32_t i = 0; i < count; i++) {
        struct mr__rule *rule = &m->router->rules[rules[i]];
        if (!mr__rule_takes_source(rule, m->source)) {
            continue;
        }
        bool holds = mr__program_holds(rule->program, m->view);
        if (reading->failures > 0) {
            (void)__atomic_fetch_add(&m->router->rules[rule->subscription].failures,
                                     reading->failures, __ATOMIC_RELAXED);
            reading->failures = 0;
        }
        if (!holds) {
            continue;
        }
        struct mr_match match = {
            .subscription = rule->subscription,
            .cancels = rule->cancels,
            .only_cancels = rule->cancels,
            .level = level_of(rule->priority, m->record),
            .lane = mr__lane(rule->order, rule->order_key, m->record),
        };
        enum mr_status r = add_match(m->matches, match);
        if (r != MR_OK) {
            return r;
        }
    }
    return reading->status;
}

static void sift_down(struct mr_match *items, uint32_t at, uint32_t count)
{
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= count) {
            return;
        }
        if (child + 1 < count && items[child].subscription < items[child + 1].subscription) {
            child++;
        }
        if (items[at].subscription >= items[child].subscription) {
            return;
        }
        struct mr_match swapped = items[at];
        items[at] = items[child];
        items[child] = swapped;
        at = child;
    }
}

/* qsort() of the C library allocates, and matching must not; most results are in order already,
 * because a run of candidates is. */
static void sort_matches(struct mr_match *items, uint32_t count)
{
    uint32_t ordered = 1;
    while (ordered < count && items[ordered - 1].subscription <= items[ordered].subscription) {
        ordered++;
    }
    if (ordered >= count) {
        return;
    }
    if (count <= SORT_SMALL) {
        for (uint32_t i = ordered; i < count; i++) {
            struct mr_match item = items[i];
            uint32_t to = i;
            for (; to > 0 && items[to - 1].subscription > item.subscription; to--) {
                items[to] = items[to - 1];
            }
            items[to] = item;
        }
        return;
    }
    for (uint32_t i = count / 2; i > 0; i--) {
        sift_down(items, i - 1, count);
    }
    for (uint32_t i = count - 1; i > 0; i--) {
        struct mr_match greatest = items[0];
        items[0] = items[i];
        items[i] = greatest;
        sift_down(items, 0, i);
    }
}

/* A subscription entered under two branches of an `any` may have been found by both; and an event
 * may be one to deliver and one that cancels. */
static void merge_repeated(struct mr_matches *matches)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < matches->count; i++) {
        const struct mr_match *match = &matches->items[i];
        struct mr_match *last = kept == 0 ? NULL : &matches->items[kept - 1];
        if (last != NULL && last->subscription == match->subscription) {
            last->cancels = last->cancels || match->cancels;
            last->only_cancels = last->only_cancels && match->only_cancels;
        } else {
            matches->items[kept++] = *match;
        }
    }
    matches->count = kept;
}

static bool delivers(const struct mr_matches *matches)
{
    for (uint32_t i = 0; i < matches->count; i++) {
        if (!matches->items[i].only_cancels) {
            return true;
        }
    }
    return false;
}

enum mr_status mr_router_match(const struct mr_router *router, uint32_t source,
                               struct mr_bytes record, struct mr_matches *matches)
{
    struct mr__view view;
    struct mr__reading reading;
    mr__view_init(&view, &router->names, record, &reading);
    matches->count = 0;
    struct matching m = {
        .router = router,
        .view = &view,
        .record = record,
        .source = source,
        .matches = matches,
    };
    enum mr_status r = mr__index_find(&router->index, &view, source, test_candidates, &m);
    if (r == MR_OK && router->default_count > 0 && !delivers(matches)) {
        r = test_candidates(&m, router->defaults, router->default_count);
    }
    mr__view_release(&view);
    if (r != MR_OK) {
        matches->count = 0;
        return r;
    }
    sort_matches(matches->items, matches->count);
    merge_repeated(matches);
    return MR_OK;
}

uint64_t mr_router_failures(const struct mr_router *router, uint32_t subscription)
{
    MR_ASSERT(subscription < router->rule_count);
    return __atomic_load_n(&router->rules[subscription].failures, __ATOMIC_RELAXED);
}

void mr_router_add_failures(struct mr_router *router, uint32_t subscription, uint64_t count)
{
    MR_ASSERT(subscription < router->rule_count);
    (void)__atomic_fetch_add(&router->rules[subscription].failures, count, __ATOMIC_RELAXED);
}

uint64_t mr_router_lane(const struct mr_router *router, uint32_t subscription,
                        struct mr_bytes record)
{
    MR_ASSERT(subscription < router->rule_count);
    const struct mr__rule *rule = &router->rules[subscription];
    return mr__lane(rule->order, rule->order_key, record);
}

uint8_t mr_router_level(const struct mr_router *router, uint32_t subscription,
                        struct mr_bytes record)
{
    MR_ASSERT(subscription < router->rule_count);
    return level_of(router->rules[subscription].priority, record);
}

uint64_t mr_router_batch_key(const struct mr_router *router, uint32_t subscription,
                             struct mr_bytes record)
{
    MR_ASSERT(subscription < router->rule_count);
    const struct mr__rule *rule = &router->rules[subscription];
    return mr__lane(rule->batch_by, rule->batch_key, record);
}
