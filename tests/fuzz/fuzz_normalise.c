/* Fuzz target: recorded messages as `millrace normalise` reads them. First byte: the adapter, and
 * whether --message is given; the rest is the input. What comes out are events. */
#include "core/assert.h"
#include "core/limits.h"
#include "schemas/json_format.h"
#include "schemas/normalise.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_lines(struct mr_bytes text)
{
    while (text.size > 0) {
        const uint8_t *end = memchr(text.data, '\n', text.size);
        MR_ASSERT(end != NULL);
        size_t line_size = (size_t)(end - text.data);
        struct mr_event *event = NULL;
        struct mr_problem problem;
        enum mr_status r = mr_json_decode_event(mr_bytes(text.data, line_size), MR_EVENT_SIZE_MAX,
                                                &event, &problem);
        MR_ASSERT(r == MR_OK);
        mr_event_unref(event);
        text = mr_bytes(end + 1, text.size - line_size - 1);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const adapters[] = {"kafka", "amqp", "mqtt", "nats", "http", "auto"};
    if (size == 0) {
        return 0;
    }
    struct mr_normalise_options options = {
        .as = adapters[(data[0] >> 1) % MR_ARRAY_COUNT(adapters)],
        .source_name = "test",
        .message = (data[0] & 1) != 0,
        .wall_ns = 1700000000000000000ull,
        .unique = 1,
    };
    struct mr_buf out;
    struct mr_problem problem = {0};
    mr_buf_init(&out, 16 * MR_MIB);
    enum mr_status r = mr_normalise_in(&options, mr_bytes(data + 1, size - 1), &out, &problem);
    MR_ASSERT((r == MR_OK) == (problem.text[0] == '\0'));
    if (r == MR_OK) {
        check_lines(mr_buf_bytes(&out));
    }
    mr_buf_release(&out);
    return 0;
}
