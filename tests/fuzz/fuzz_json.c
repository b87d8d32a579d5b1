/* Fuzz target: the JSON format. Whatever is accepted, as one event or as a batch, goes out and
 * comes back as the same record. */
#include "core/alloc.h"
#include "core/assert.h"
#include "core/limits.h"
#include "schemas/json_format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_round_trip(const struct mr_event *event)
{
    struct mr_bytes record = mr_event_record(event);
    MR_ASSERT(mr_event_check(record) == MR_OK);
    struct mr_buf text;
    mr_buf_init(&text, 32 * MR_MIB);
    enum mr_status r = mr_json_encode_exact(record, &text);
    MR_ASSERT(r == MR_OK);
    MR_ASSERT(mr_json_is_value(mr_buf_bytes(&text)));
    struct mr_event *again = NULL;
    r = mr_json_decode_event(mr_buf_bytes(&text), MR_EVENT_SIZE_MAX, &again, NULL);
    MR_ASSERT(r == MR_OK);
    MR_ASSERT(mr_bytes_equal(record, mr_event_record(again)));
    mr_event_unref(again);
    mr_buf_clear(&text);
    r = mr_json_encode_event(record, &text);
    MR_ASSERT(r == MR_OK);
    MR_ASSERT(memchr(text.data, '\n', text.size) == NULL);
    MR_ASSERT(mr_json_is_value(mr_buf_bytes(&text)));
    mr_buf_release(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mr_bytes text = mr_bytes(data, size);
    struct mr_problem problem = {0};
    struct mr_event *event = NULL;
    if (mr_json_decode_event(text, MR_EVENT_SIZE_MAX, &event, &problem) == MR_OK) {
        MR_ASSERT(mr_json_is_value(text));
        check_round_trip(event);
        mr_event_unref(event);
    } else {
        MR_ASSERT(event == NULL);
        MR_ASSERT(problem.text[0] != '\0');
    }
    struct mr_event **events = NULL;
    uint32_t count = 0;
    if (mr_json_decode_batch(text, MR_EVENT_SIZE_MAX, MR_BATCH_EVENTS_MAX, &events, &count,
                             &problem) == MR_OK) {
        for (uint32_t i = 0; i < count; i++) {
            check_round_trip(events[i]);
            mr_event_unref(events[i]);
        }
        mr_free(events);
    }
    return 0;
}
