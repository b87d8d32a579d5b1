/* Filter JSON from anywhere: compiled or refused with a reason, and what is accepted can be
 * evaluated and explained; both agree. */
#include "tests/fuzz/routed.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char EVENT[] =
    "{\"specversion\":\"1.0\",\"id\":\"A-1\",\"source\":\"/s\","
    "\"type\":\"com.example.order.created\",\"subject\":\"a/b\",\"a\":\"aaaa\","
    "\"tenant\":\"a\\\"b\\\\\",\"data\":{\"order\":{\"shop\":7},\"a\":[\"x\",{\"b\":null}],"
    "\"t\":12.50,\"s\":\"\\u00e4b\",\"ip\":\"10.0.0.1\",\"t\":true,\"e\":1e400}}";

/* The input twice: as a filter of a given event, and as the data of an event that given filters
 * look into. */
static void check_data(const uint8_t *data, size_t size)
{
    static struct mr_filter *filter;
    if (filter == NULL) {
        enum mr_status made = mr_filter_create(
            MR_BYTES_LITERAL("[{\"data\":{\"any\":[{\"exact\":{\"a.b\":\"1\"}},"
                             "{\"suffix\":{\"a.0.c\":\"x\"}},{\"range\":{\"n\":{\"gt\":1}}},"
                             "{\"cidr\":{\"ip\":\"::/0\"}},{\"exists\":{\"\u00e4\":true}}]}}]"),
            &filter, NULL);
        MR_ASSERT(made == MR_OK);
    }
    static const char *const attrs[] = {"id", "source", "type"};
    struct mr_event_builder builder;
    mr_event_builder_init(&builder, MR_EVENT_SIZE_MAX);
    enum mr_status r = MR_OK;
    for (size_t i = 0; i < MR_ARRAY_COUNT(attrs) && r == MR_OK; i++) {
        r = mr_event_builder_attr(&builder, mr_bytes_of(attrs[i]), MR_ATTR_STRING,
                                  MR_BYTES_LITERAL("x"), NULL);
    }
    MR_ASSERT(r == MR_OK);
    mr_event_builder_data(&builder, mr_bytes(data, size), false);
    struct mr_event *event = NULL;
    if (mr_event_builder_finish(&builder, true, &event, NULL) == MR_OK) {
        (void)mr_filter_test(filter, mr_event_record(event)); /* any answer, but one */
        mr_event_unref(event);
    }
    mr_event_builder_release(&builder);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct mr_event *event;
    if (event == NULL) {
        event = event_of(EVENT);
    }
    check_data(data, size);
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
    check_routed(mr_strndup((const char *)data, size), mr_event_record(event), holds);
    return 0;
}
