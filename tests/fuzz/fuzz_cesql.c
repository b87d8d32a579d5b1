/* Text as an expression: refused with a place, or evaluated to a value that is JSON, whatever it
 * is, the same by itself and as a filter; what the index leaves out does not hold. */
#include "core/alloc.h"
#include "core/assert.h"
#include "core/limits.h"
#include "router/router.h"
#include "schemas/json_format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct mr_event *make_event(void)
{
    static const char text[] =
        "{\"specversion\":\"1.0\",\"id\":\"A-1\",\"source\":\"/s\",\"type\":\"com.example.a\","
        "\"subject\":\"a/b\\u00e9\",\"n\":5,\"b\":true,\"s\":\"-7\",\"a\":\"aaaa\"}";
    struct mr_event *event = NULL;
    enum mr_status r =
        mr_json_decode_event(mr_bytes_of(text), MR_EVENT_SIZE_MAX, &event, NULL);
    MR_ASSERT(r == MR_OK);
    return event;
}

/* The expression as the only filter of a subscription, index and all. */
static void check_filter(struct mr_bytes expression, struct mr_bytes record, bool holds)
{
    struct mr_buf json;
    mr_buf_init(&json, 64 * MR_KIB);
    enum mr_status r = mr_buf_append_text(&json, "[{\"sql\":");
    r = r == MR_OK ? mr_buf_append_json(&json, expression) : r;
    r = r == MR_OK ? mr_buf_append_text(&json, "}]") : r;
    MR_ASSERT(r == MR_OK);
    struct mr_subscription_config subscription = {.filter_json = mr_buf_take_text(&json)};
    struct mr_config config = {.subscriptions = &subscription, .subscription_count = 1};
    struct mr_router *router = NULL;
    uint32_t refused;
    r = mr_router_create(&config, &router, &refused, NULL);
    MR_ASSERT(r == MR_OK);
    struct mr_matches matches = {0};
    r = mr_router_match(router, 0, record, &matches);
    MR_ASSERT(r == MR_OK && matches.count == (holds ? 1u : 0u));
    struct mr_buf why;
    mr_buf_init(&why, 64 * MR_KIB);
    MR_ASSERT(mr_router_explain(router, 0, 0, record, &why) == holds);
    MR_ASSERT(mr_bytes_is_utf8(mr_buf_bytes(&why)));
    mr_buf_release(&why);
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
    struct mr_bytes expression = mr_bytes(data, size);
    struct mr_bytes record = mr_event_record(event);
    struct mr_buf out;
    mr_buf_init(&out, MR_MIB);
    const char *error = NULL;
    struct mr_problem problem = {""};
    enum mr_status r = mr_sql_eval(expression, record, &out, &error, &problem);
    if (r == MR_OK) {
        MR_ASSERT(mr_json_is_value(mr_buf_bytes(&out)));
        /* JSON cannot carry NUL into a filter. */
        if (size == 0 || memchr(data, 0, size) == NULL) {
            check_filter(expression, record, error == NULL &&
                         mr_bytes_equal(mr_buf_bytes(&out), MR_BYTES_LITERAL("true")));
        }
    } else {
        MR_ASSERT(problem.text[0] != '\0' && error != NULL);
    }
    mr_buf_release(&out);
    return 0;
}
