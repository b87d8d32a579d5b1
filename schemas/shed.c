/* What a subscription shed, as an event. */
#include <inttypes.h>
#include <stdio.h>

#include "core/clock.h"
#include "core/limits.h"
#include "schemas/adapter.h"
#include "schemas/own_event.h"
#include "schemas/text.h"

#define DATA_SIZE_MAX 2048u /* names are bounded, and so is all of it */

static enum mr_status append_data(struct mr_buf *out, const struct mr_shed *shed)
{
    char first[MR_TIME_TEXT_SIZE];
    char last[MR_TIME_TEXT_SIZE];
    enum mr_status r = mr_buf_append_text(out, "{\"subscription\":");
    if (r == MR_OK) {
        r = mr_buf_append_json(out, mr_bytes_of(shed->subscription));
    }
    if (r == MR_OK) {
        r = mr_buf_printf(out,
                          ",\"dropped\":%u,\"drop\":\"%s\",\"max\":%u,\"to\":%u,"
                          "\"waiting\":%" PRIu64 ",\"first\":{\"offset\":%" PRIu64
                          ",\"arrival\":\"%s\"},\"last\":{\"offset\":%" PRIu64
                          ",\"arrival\":\"%s\"}}",
                          shed->dropped, shed->newest ? "newest" : "oldest", shed->max, shed->to,
                          shed->waiting, shed->first_offset,
                          mr_time_format(shed->first_wall_ns, first), shed->last_offset,
                          mr_time_format(shed->last_wall_ns, last));
    }
    return r;
}

static enum mr_status build_event(const struct mr_shed *shed, const char *id,
                                  struct mr_bytes source, const char *time, const char *hops,
                                  struct mr_event **ret_event)
{
    const struct mr__own_attr attrs[] = {
        {"id", MR_ATTR_STRING, mr_bytes_of(id)},
        {"source", MR_ATTR_URI_REF, source},
        {"type", MR_ATTR_STRING, MR_BYTES_LITERAL(MR_SHED_TYPE)},
        {"subject", MR_ATTR_STRING, mr_bytes_of(shed->subscription)},
        {"time", MR_ATTR_TIMESTAMP, mr_bytes_of(time)},
        {"datacontenttype", MR_ATTR_STRING, MR_BYTES_LITERAL("application/json")},
        {"mrhops", MR_ATTR_INTEGER, mr_bytes_of(hops)},
    };
    struct mr_buf data;
    mr_buf_init(&data, DATA_SIZE_MAX);
    enum mr_status r = append_data(&data, shed);
    if (r == MR_OK) {
        r = mr__own_event(attrs, MR_ARRAY_COUNT(attrs), mr_buf_bytes(&data), MR_EVENT_SIZE_MAX,
                          ret_event);
    }
    mr_buf_release(&data);
    return r;
}

enum mr_status mr_adapt_shed(const struct mr_shed *shed, uint64_t wall_ns,
                             struct mr_event **ret_event)
{
    char time[MR_TIME_TEXT_SIZE];
    char id[MR_NAME_SIZE_MAX * 4 + 64];
    char hops[16];
    mr_time_format(wall_ns, time);
    (void)snprintf(id, sizeof(id), "%s:%" PRIu64 ":shed", shed->subscription, shed->first_offset);
    (void)snprintf(hops, sizeof(hops), "%u", shed->hops); /* names are bounded: both fit */
    struct mr_buf source;
    mr_buf_init(&source, MR_EVENT_ATTRS_SIZE_MAX);
    enum mr_status r = mr_buf_append_text(&source, "/millrace/subscription/");
    if (r == MR_OK) {
        r = mr__text_append_path(&source, mr_bytes_of(shed->subscription));
    }
    if (r == MR_OK) {
        r = build_event(shed, id, mr_buf_bytes(&source), time, hops, ret_event);
    }
    mr_buf_release(&source);
    return r;
}
