/* The router: which subscriptions an event matches, and in which lane. A pure function of an
 * immutable table and an event: no sockets, no threads, no clock; any thread may match.
 *
 * Filters are the CloudEvents Subscriptions dialects exact, prefix, suffix, all, any, not and sql
 * (digest sections 11.2 and 12), and `data`, which looks into JSON data. All are compiled once into
 * a match index so that the cost follows the matches, not the subscriptions: subscriptions are
 * found by one of their necessary conditions (an exact type or source, else a prefix), and only
 * those found run their program. Programs are flat arrays, bounded in size; nothing recurses on
 * input.
 *
 * A subscription that is the default takes what no other one matched, as far as its own filter and
 * sources let it. An evaluation of sql that fails is no match, and counted per subscription. */
#ifndef MR_ROUTER_ROUTER_H
#define MR_ROUTER_ROUTER_H

#include "config/config.h"
#include "schemas/event.h"

struct mr_router;

struct mr_match {
    uint32_t subscription; /* index in the configuration */
    bool cancels;          /* its event cancels what is before it in the lane, */
    bool only_cancels;     /* and is not delivered itself */
    uint8_t level;         /* of priority */
    uint64_t lane;         /* hash of the ordering key; 0 = unordered */
};

struct mr_matches {
    struct mr_match *items; /* owned */
    uint32_t count;
    uint32_t capacity;
};

void mr_matches_release(struct mr_matches *matches);

/** Compiles every filter of @p config (hidden subscriptions are left out: they match nothing).
 * @param config borrowed: outlives the router
 * @param[out] ret_subscription index of the subscription that was refused
 * @return MR_E_INVALID with the reason (unknown dialect, empty value, empty all/any, two members,
 * too deep, too large), MR_E_UNSUPPORTED (dialects of a later release), MR_E_NOMEM */
MR_MUST_USE enum mr_status mr_router_create(const struct mr_config *config,
                                            struct mr_router **ret_router,
                                            uint32_t *ret_subscription,
                                            struct mr_problem *problem);
void mr_router_destroy(struct mr_router *router);

/** Fills @p matches (cleared first) in ascending order of subscription.
 * @param source index of the source, or UINT32_MAX for events made by the bus itself
 * @return MR_OK (also with no match), MR_E_NOMEM
 * @thread any, concurrently; @p matches belongs to the caller */
MR_MUST_USE enum mr_status mr_router_match(const struct mr_router *router, uint32_t source,
                                           struct mr_bytes record, struct mr_matches *matches);

/** How many evaluations of the sql of @p subscription failed in matching. @thread any */
uint64_t mr_router_failures(const struct mr_router *router, uint32_t subscription);

/** Adds what was counted before a reload. @thread any */
void mr_router_add_failures(struct mr_router *router, uint32_t subscription, uint64_t count);

/** Why @p record does or does not match @p subscription: appends one sentence, "matches", or the
 * first clause that failed with the actual value: `filter.all[1].suffix.subject wants ".jpg", the
 * event has "photo.png"`. @return true when it matches */
bool mr_router_explain(const struct mr_router *router, uint32_t subscription, uint32_t source,
                       struct mr_bytes record, struct mr_buf *out);

/** The lane of @p record for @p subscription, as matching computes it. */
uint64_t mr_router_lane(const struct mr_router *router, uint32_t subscription,
                        struct mr_bytes record);

/** Its level of priority, likewise. */
uint8_t mr_router_level(const struct mr_router *router, uint32_t subscription,
                        struct mr_bytes record);

/** The hash of what the batches of @p subscription go by; 0: @p record has no such value, or they
 * go by nothing. */
uint64_t mr_router_batch_key(const struct mr_router *router, uint32_t subscription,
                             struct mr_bytes record);

/* --- one filter alone (`millrace filter test`, `dlq list --filter`) ------------------------ */

struct mr_filter;

/** Compiles a filters array, or one filter object. @return as mr_router_create() */
MR_MUST_USE enum mr_status mr_filter_create(struct mr_bytes json, struct mr_filter **ret_filter,
                                            struct mr_problem *problem);
void mr_filter_destroy(struct mr_filter *filter);
/** @return false also when memory is too short to read the data of @p record */
bool mr_filter_test(const struct mr_filter *filter, struct mr_bytes record);
/** What @p attribute must be, for @p filter to hold, when the filter says so itself: `exact` that
 * no alternative and no `not` stands around, in sql `=` likewise. Borrowed from the filter.
 * @return empty: it says nothing so simple */
struct mr_bytes mr_filter_exact(const struct mr_filter *filter, const char *attribute);

/** Evaluates one CESQL expression (`millrace filter eval`): appends the value as JSON.
 * @param[out] ret_error what failed, as the CloudEvents test kit names it, or NULL; the value is
 * there with an error too
 * @return MR_OK also with an error of the evaluation; MR_E_INVALID or MR_E_TOO_BIG with the
 * problem: @p expression is none ("parse"); MR_E_NOMEM */
MR_MUST_USE enum mr_status mr_sql_eval(struct mr_bytes expression, struct mr_bytes record,
                                       struct mr_buf *out, const char **ret_error,
                                       struct mr_problem *problem);

#endif
