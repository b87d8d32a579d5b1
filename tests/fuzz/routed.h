/* What the fuzz targets of filters share: an event, and a filter in a router, index and all. */
#ifndef MR_TESTS_FUZZ_ROUTED_H
#define MR_TESTS_FUZZ_ROUTED_H

#include "core/alloc.h"
#include "core/assert.h"
#include "core/limits.h"
#include "router/router.h"
#include "schemas/json_format.h"

static inline struct mr_event *event_of(const char *json)
{
    struct mr_event *event = NULL;
    enum mr_status r = mr_json_decode_event(mr_bytes_of(json), MR_EVENT_SIZE_MAX, &event, NULL);
    MR_ASSERT(r == MR_OK);
    return event;
}

/* As the only filter of a subscription: the router and its explanation find what @p holds says.
 * @param filter_json taken; a good filter */
static inline void check_routed(char *filter_json, struct mr_bytes record, bool holds)
{
    MR_ASSERT(filter_json != NULL);
    struct mr_subscription_config subscription = {.filter_json = filter_json};
    struct mr_config config = {.subscriptions = &subscription, .subscription_count = 1};
    struct mr_router *router = NULL;
    uint32_t refused;
    enum mr_status r = mr_router_create(&config, &router, &refused, NULL);
    MR_ASSERT(r == MR_OK);
    struct mr_matches matches = {0};
    r = mr_router_match(router, 0, record, &matches);
    MR_ASSERT(r == MR_OK);
    MR_ASSERT(matches.count == (holds ? 1u : 0u));
    struct mr_buf why;
    mr_buf_init(&why, 64 * MR_KIB);
    bool explained = mr_router_explain(router, 0, 0, record, &why);
    MR_ASSERT(explained == holds);
    MR_ASSERT(mr_bytes_is_utf8(mr_buf_bytes(&why)));
    mr_buf_release(&why);
    mr_matches_release(&matches);
    mr_router_destroy(router);
    mr_free(filter_json);
}

#endif
