#include "schemas/adapter.h"

#include "core/clock.h"
#include "core/limits.h"
#include "core/logger.h"
#include "schemas/builder.h"
#include "schemas/text.h"

/* The Content-Type when it is a media type, else the one that promises nothing. */
static struct mr_bytes content_type_of(const struct mr_field *headers, uint32_t header_count)
{
    for (uint32_t i = 0; i < header_count; i++) {
        if (mr_bytes_equal_nocase(headers[i].name, MR_BYTES_LITERAL("content-type"))) {
            struct mr_bytes value = mr__text_trim(headers[i].value);
            if (mr__text_is_media_type(value) && mr__text_is_string(value)) {
                return value;
            }
        }
    }
    return MR_BYTES_LITERAL("application/octet-stream");
}

enum mr_status mr_adapt_generic(const struct mr_field *headers, uint32_t header_count,
                                struct mr_bytes body, struct mr_bytes id, struct mr_bytes source,
                                struct mr_bytes type, uint64_t received_wall_ns, size_t size_max,
                                struct mr_event **ret_event, struct mr_problem *problem)
{
    char time[MR_TIME_TEXT_SIZE];
    const struct {
        const char *name;
        enum mr_attr_type type;
        struct mr_bytes value;
    } attrs[] = {
        {"id", MR_ATTR_STRING, id},
        {"source", MR_ATTR_URI_REF, source},
        {"type", MR_ATTR_STRING, type},
        {"time", MR_ATTR_TIMESTAMP, mr_bytes_of(mr_time_format(received_wall_ns, time))},
        {"datacontenttype", MR_ATTR_STRING, content_type_of(headers, header_count)},
    };
    size_t count = MR_ARRAY_COUNT(attrs) - (body.size == 0); /* no data, no type of it */
    struct mr_event_builder builder;
    mr_event_builder_init(&builder, size_max);
    enum mr_status r = MR_OK;
    for (size_t i = 0; r == MR_OK && i < count; i++) {
        r = mr_event_builder_attr(&builder, mr_bytes_of(attrs[i].name), attrs[i].type,
                                  attrs[i].value, problem);
    }
    if (r != MR_OK) {
        mr_event_builder_release(&builder);
        return r;
    }
    if (body.size > 0) {
        mr_event_builder_data(&builder, body, false);
    }
    return mr_event_builder_finish(&builder, true, ret_event, problem);
}

/* A reason as an attribute may hold it: on top of what cleaning does, no noncharacters. */
static void clean_reason(const char *reason, char to[MR_ERROR_TEXT_MAX])
{
    mr_text_clean(to, MR_ERROR_TEXT_MAX, mr_bytes_of(reason));
    if (to[0] == '\0') {
        memcpy(to, "rejected", sizeof("rejected"));
    }
    if (mr__text_is_string(mr_bytes_of(to))) {
        return;
    }
    for (char *p = to; *p != '\0'; p++) {
        *p = (uint8_t)*p >= 0x80 ? '?' : *p; /* rare enough not to look for the one culprit */
    }
}

enum mr_status mr_adapt_rejected(struct mr_bytes source_name, struct mr_bytes id,
                                 struct mr_bytes raw, const char *reason,
                                 uint64_t received_wall_ns, size_t size_max,
                                 struct mr_event **ret_event)
{
    char time[MR_TIME_TEXT_SIZE];
    char clean[MR_ERROR_TEXT_MAX];
    clean_reason(reason, clean);
    struct mr_buf source;
    mr_buf_init(&source, MR_EVENT_ATTRS_SIZE_MAX);
    enum mr_status r = mr_buf_append_text(&source, "/millrace/source/");
    if (r == MR_OK) {
        r = mr__text_append_path(&source, source_name);
    }
    const struct {
        const char *name;
        struct mr_bytes value;
    } attrs[] = {
        {"id", id},
        {"source", mr_buf_bytes(&source)},
        {"type", MR_BYTES_LITERAL("io.millrace.ingest.rejected")},
        {"time", mr_bytes_of(mr_time_format(received_wall_ns, time))},
        {"datacontenttype", MR_BYTES_LITERAL("application/octet-stream")},
        {"reason", mr_bytes_of(clean)},
    };
    struct mr_event_builder builder;
    mr_event_builder_init(&builder, size_max);
    for (size_t i = 0; r == MR_OK && i < MR_ARRAY_COUNT(attrs); i++) {
        r = mr_event_builder_attr(&builder, mr_bytes_of(attrs[i].name), MR_ATTR_STRING,
                                  attrs[i].value, NULL);
    }
    size_t overhead = mr__builder_overhead(&builder);
    if (r == MR_OK && (overhead > builder.size_max || raw.size > builder.size_max - overhead)) {
        r = mr_event_builder_attr(&builder, MR_BYTES_LITERAL("truncated"), MR_ATTR_BOOLEAN,
                                  MR_BYTES_LITERAL("true"), NULL);
        overhead = mr__builder_overhead(&builder);
        raw.size = overhead < builder.size_max ? builder.size_max - overhead : 0;
    }
    if (r == MR_OK) {
        mr_event_builder_data(&builder, raw, false);
        r = mr_event_builder_finish(&builder, true, ret_event, NULL);
    }
    mr_event_builder_release(&builder);
    mr_buf_release(&source);
    return r;
}

uint32_t mr_event_hops(struct mr_bytes record)
{
    uint64_t hops;
    if (!mr_parse_u64(mr_event_value(record, "mrhops"), &hops)) {
        return 0;
    }
    return hops < UINT32_MAX ? (uint32_t)hops : UINT32_MAX;
}
