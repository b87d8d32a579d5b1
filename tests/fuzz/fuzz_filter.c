/* Filter JSON from anywhere: compiled or refused with a reason, and what is accepted can be
 * evaluated and explained; both agree. */
#include "core/alloc.h"
#include "core/assert.h"
#include "core/limits.h"
#include "router/router.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct mr_event *make_event(void)
{
    static const char *const attrs[][2] = {
        {"id", "A-1"},      {"source", "/s"},     {"type", "com.example.order.created"},
        {"subject", "a/b"}, {"tenant", "a\"b\\"}, {"a", "aaaa"},
    };
    struct mr_event_builder builder;
    mr_event_builder_init(&builder, MR_EVENT_SIZE_MAX);
    for (size_t i = 0; i < MR_ARRAY_COUNT(attrs); i++) {
        enum mr_status r = mr_event_builder_attr(&builder, mr_bytes_of(attrs[i][0]), MR_ATTR_STRING,
                                                 mr_bytes_of(attrs[i][1]), NULL);
        MR_ASSERT(r == MR_OK);
    }
    struct mr_event *event = NULL;
    enum mr_status r = mr_event_builder_finish(&builder, true, &event, NULL);
    MR_ASSERT(r == MR_OK);
    return event;
}

/* The same filter in a router: index, naive evaluation and explanation must agree. */
static void check_router(const uint8_t *data, size_t size, struct mr_bytes record, bool holds)
{
    struct mr_subscription_config subscription = {0};
    subscription.filter_json = mr_strndup((const char *)data, size);
    MR_ASSERT(subscription.filter_json != NULL);
    struct mr_config config = {.subscriptions = &subscription, .subscription_count = 1};
    struct mr_router *router = NULL;
    uint32_t refused;
    enum mr_status r = mr_router_create(&config, &router, &refused, NULL);
    MR_ASSERT(r == MR_OK);
    struct mr_matches matches = {0};
    r = mr_router_match(router, 0, record, &matches);
    MR_ASSERT(r == MR_OK);
    MR_ASSERT(matches.count == (holds ? 1u : 0u));
    struct mr_buf out;
    mr_buf_init(&out, 64 * MR_KIB);
    bool explained = mr_router_explain(router, 0, 0, record, &out);
    MR_ASSERT(explained == holds);
    MR_ASSERT(mr_bytes_is_utf8(mr_buf_bytes(&out)));
    mr_buf_release(&out);
    mr_matches_release(&matches);
    mr_router_destroy(router);
    mr_free(subscription.filter_json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct mr_event *event;
    if (event == NULL) {
        event = make_event();
    }
    struct mr_filter *filter = NULL;
    struct mr_problem problem = {""};
    enum mr_status r = mr_filter_create(mr_bytes(data, size), &filter, &problem);
    if (r != MR_OK) {
        MR_ASSERT(filter == NULL);
        MR_ASSERT(problem.text[0] != '\0');
        return 0;
    }
    bool holds = mr_filter_test(filter, mr_event_record(event));
    mr_filter_destroy(filter);
    check_router(data, size, mr_event_record(event), holds);
    return 0;
}
