/* Transforms and data from anywhere: the first line is a transform, the rest the data it is applied
 * to, or what its program gave. Refused with a reason, or an event that is one, with JSON data if
 * data was changed. */
#include "core/alloc.h"
#include "core/assert.h"
#include "core/limits.h"
#include "router/transform.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct mr_event *make_event(struct mr_bytes data)
{
    static const char *const attrs[] = {"id", "source", "type", "subject", "a"};
    struct mr_event_builder builder;
    mr_event_builder_init(&builder, MR_EVENT_SIZE_MAX);
    for (size_t i = 0; i < MR_ARRAY_COUNT(attrs); i++) {
        enum mr_status r = mr_event_builder_attr(&builder, mr_bytes_of(attrs[i]), MR_ATTR_STRING,
                                                 MR_BYTES_LITERAL("x"), NULL);
        MR_ASSERT(r == MR_OK);
    }
    mr_event_builder_data(&builder, data, false);
    struct mr_event *event = NULL;
    enum mr_status r = mr_event_builder_finish(&builder, true, &event, NULL);
    MR_ASSERT(r == MR_OK);
    mr_event_builder_release(&builder);
    return event;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *line = size == 0 ? NULL : memchr(data, '\n', size);
    size_t first = line == NULL ? size : (size_t)(line - data);
    struct mr_transform *transform = NULL;
    struct mr_problem problem = {""};
    if (size > 65536 ||
        mr_transform_create(mr_bytes(data, first), &transform, &problem) != MR_OK) {
        MR_ASSERT(size > 65536 || problem.text[0] != '\0');
        return 0;
    }
    struct mr_event *event =
        make_event(line == NULL ? mr_bytes("{}", 2) : mr_bytes(line + 1, size - first - 1));
    struct mr_event *changed = NULL;
    uint64_t timeout_ns;
    enum mr_status r =
        mr_transform_program(transform, &timeout_ns) == NULL
            ? mr_transform_apply(transform, mr_event_record(event), MR_EVENT_SIZE_MAX, &changed,
                                 &problem)
            : mr_transform_accept(mr_event_record(event), mr_event_data(mr_event_record(event)),
                                  MR_EVENT_SIZE_MAX, &changed, &problem);
    if (r == MR_OK) {
        MR_ASSERT(mr_event_check(mr_event_record(changed)) == MR_OK);
    } else {
        MR_ASSERT(problem.text[0] != '\0');
    }
    mr_event_unref(changed);
    mr_event_unref(event);
    mr_transform_destroy(transform);
    return 0;
}
