#include "schemas/own_event.h"

enum mr_status mr__own_event(const struct mr__own_attr *attrs, size_t count, struct mr_bytes data,
                             size_t size_max, struct mr_event **ret_event)
{
    struct mr_event_builder builder;
    mr_event_builder_init(&builder, size_max);
    enum mr_status r = MR_OK;
    for (size_t i = 0; r == MR_OK && i < count; i++) {
        if (attrs[i].value.size > 0) {
            r = mr_event_builder_attr(&builder, mr_bytes_of(attrs[i].name), attrs[i].type,
                                      attrs[i].value, NULL);
        }
    }
    if (r == MR_OK) {
        mr_event_builder_data(&builder, data, false);
        r = mr_event_builder_finish(&builder, true, ret_event, NULL);
    }
    mr_event_builder_release(&builder);
    return r;
}
