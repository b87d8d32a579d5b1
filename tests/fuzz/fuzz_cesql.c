/* Text as an expression: refused with a place, or evaluated to a value that is JSON, whatever it
 * is, the same by itself and as a filter; what the index leaves out does not hold. */
#include "tests/fuzz/routed.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char EVENT[] =
    "{\"specversion\":\"1.0\",\"id\":\"A-1\",\"source\":\"/s\",\"type\":\"com.example.a\","
    "\"subject\":\"a/b\\u00e9\",\"n\":5,\"b\":true,\"s\":\"-7\",\"a\":\"aaaa\"}";

static void check_filter(struct mr_bytes expression, struct mr_bytes record, bool holds)
{
    struct mr_buf json;
    mr_buf_init(&json, 64 * MR_KIB);
    enum mr_status r = mr_buf_append_text(&json, "[{\"sql\":");
    r = r == MR_OK ? mr_buf_append_json(&json, expression) : r;
    r = r == MR_OK ? mr_buf_append_text(&json, "}]") : r;
    MR_ASSERT(r == MR_OK);
    check_routed(mr_buf_take_text(&json), record, holds);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct mr_event *event;
    if (event == NULL) {
        event = event_of(EVENT);
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
