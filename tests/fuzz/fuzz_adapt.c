/* Fuzz target: the adapters and the signature of SNS. The input is a byte that names the adapter,
 * header lines up to an empty line, then the body. Whatever comes out is a well-formed event that
 * survives the JSON format; whatever is refused has a reason. */
#include "core/alloc.h"
#include "core/limits.h"
#include "schemas/adapter.h"
#include "schemas/json_format.h"
#include "schemas/sns.h"
#include "tests/fuzz/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_event(const struct mr_event *event)
{
    struct mr_bytes record = mr_event_record(event);
    enum mr_status r = mr_event_check(record);
    MR_ASSERT(r == MR_OK);
    struct mr_buf text;
    mr_buf_init(&text, 32 * MR_MIB);
    r = mr_json_encode_event(record, &text);
    MR_ASSERT(r == MR_OK);
    struct mr_event *again = NULL;
    r = mr_json_decode_event(mr_buf_bytes(&text), MR_EVENT_SIZE_MAX, &again, NULL);
    MR_ASSERT(r == MR_OK);
    MR_ASSERT(mr_bytes_equal(mr_event_id(record), mr_event_id(mr_event_record(again))));
    MR_ASSERT(mr_event_value(record, "time").size > 0 ||
              mr_event_value(record, "recordedtime").size == 0);
    mr_event_unref(again);
    mr_buf_release(&text);
}

static void check_sns(struct mr_bytes body)
{
    struct mr_problem problem = {0};
    char *url = NULL;
    enum mr_status r = mr_sns_certificate_url(body, &url, &problem);
    MR_ASSERT((r == MR_OK) == (url != NULL));
    MR_ASSERT(r == MR_OK || problem.text[0] != '\0');
    mr_free(url);
    r = mr_sns_verify(body, MR_BYTES_LITERAL("no certificate"), &problem);
    MR_ASSERT(r != MR_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    enum mr_adapter adapter = (enum mr_adapter)(data[0] % MR_ADAPTER_MAX);
    struct mr_field headers[FIELDS_MAX];
    struct mr_bytes body = mr_bytes(data + 1, size - 1);
    uint32_t count = take_http_headers(&body, headers, FIELDS_MAX);
    static const struct mr_generic_paths paths = {"a.id", "type", "list.0", "time"};
    struct mr_adapt_input input = {
        .body = body,
        .headers = headers,
        .header_count = count,
        .source_name = MR_BYTES_LITERAL("fuzz"),
        .paths = &paths,
        .received_wall_ns = 1700000000000000000ull,
        .unique = 1,
        .size_max = MR_EVENT_SIZE_DEFAULT,
    };
    struct mr_adapted adapted = {0};
    struct mr_problem problem = {0};
    enum mr_status r = mr_adapt(adapter, &input, &adapted, &problem);
    if (r == MR_OK) {
        for (uint32_t i = 0; i < adapted.events.count; i++) {
            check_event(adapted.events.events[i]);
        }
        MR_ASSERT(adapted.answer == NULL ||
                  mr_json_is_value(mr_bytes_of(adapted.answer)));
    } else {
        MR_ASSERT(mr_status_class(r) == MR_CLASS_PERMANENT);
        MR_ASSERT(problem.text[0] != '\0');
        MR_ASSERT(adapted.events.count == 0 && adapted.answer == NULL);
    }
    mr_adapted_release(&adapted);
    check_sns(body);
    return 0;
}
