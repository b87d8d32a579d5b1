#include <stdio.h>

#include "core/limits.h"
#include "schemas/builder.h"
#include "schemas/json_format.h"
#include "schemas/json_scan.h"
#include "schemas/message.h"

#define HEADER_PREFIX "kafkaheader"

/* The attribute a header stands for; an empty slice when it names none (no ce_, a name that is none
 * as in ce_my-ext, or a null value, which leaves the attribute unset). Header names are
 * case-sensitive in Kafka. */
static struct mr_bytes attr_name(const struct mr_field *header)
{
    struct mr_bytes prefix = MR_BYTES_LITERAL("ce_");
    if (header->value.data == NULL || !mr_bytes_starts(header->name, prefix)) {
        return (struct mr_bytes){0};
    }
    struct mr_bytes name = mr_bytes(header->name.data + prefix.size,
                                    header->name.size - prefix.size);
    return mr__text_is_name(name) ? name : (struct mr_bytes){0};
}

/* The last content-type, trimmed; empty when there is none. @return how often it is there */
static unsigned find_content_type(const struct mr_kafka_record *record, struct mr_bytes *ret_value)
{
    unsigned count = 0;
    *ret_value = (struct mr_bytes){0};
    for (uint32_t i = 0; i < record->header_count; i++) {
        const struct mr_field *header = &record->headers[i];
        if (header->value.data != NULL &&
            mr_bytes_equal_nocase(header->name, MR_BYTES_LITERAL("content-type"))) {
            count++;
            *ret_value = mr_bytes_trim(header->value);
        }
    }
    return count;
}

static unsigned required_seen(const struct mr_kafka_record *record)
{
    unsigned seen = 0;
    for (uint32_t i = 0; i < record->header_count; i++) {
        seen |= mr__required_bit(attr_name(&record->headers[i]));
    }
    return seen;
}

static enum mr_status decode_binary(const struct mr_kafka_record *record,
                                    struct mr_bytes content_type, size_t size_max,
                                    struct mr_event **ret_event, struct mr_problem *problem)
{
    struct mr_event_builder builder;
    mr_event_builder_init(&builder, size_max);
    enum mr_status r = MR_OK;
    for (uint32_t i = 0; r == MR_OK && i < record->header_count; i++) {
        struct mr_bytes name = attr_name(&record->headers[i]);
        if (name.size == 0 || (content_type.size > 0 &&
                               mr_bytes_equal(name, MR_BYTES_LITERAL("datacontenttype")))) {
            continue; /* foreign, or repeated although content-type is the authority */
        }
        r = mr_event_builder_attr(&builder, name, MR_ATTR_STRING, record->headers[i].value,
                                  problem);
    }
    return mr__binary_end(&builder, r, content_type, record->value, record->has_value, ret_event,
                          problem);
}

/* A record without any header may come from before Kafka 0.11, where a CloudEvent had no other way
 * than structured JSON; what says it is one has to be a valid one. */
static bool claims_event(const struct mr_kafka_record *record)
{
    struct mr_bytes version;
    return record->header_count == 0 && mr__may_be_event(record->value) &&
           mr__json_find(record->value, "specversion", &version);
}

enum mr_status mr_kafka_decode(const struct mr_kafka_record *record, size_t size_max,
                               struct mr_events *ret_events, struct mr_problem *problem)
{
    struct mr_bytes content_type;
    unsigned count = find_content_type(record, &content_type);
    enum mr__format format = mr__format_of(content_type);
    if (format == MR__FORMAT_NONE && claims_event(record)) {
        format = MR__FORMAT_EVENT;
    }
    bool structured = format == MR__FORMAT_EVENT || format == MR__FORMAT_BATCH;
    unsigned seen = required_seen(record);
    if (count > 1 && (structured || seen == MR__REQUIRED_ALL)) {
        return mr_problem_set(problem, MR_E_INVALID, "the header content-type is there twice");
    }
    if (structured) {
        return record->has_value
                   ? mr__events_of_json(format, record->value, size_max, ret_events, problem)
                   : mr_problem_set(problem, MR_E_INVALID, "the content-type promises an event "
                                                           "but the value is null");
    }
    if (seen == MR__REQUIRED_ALL) {
        struct mr_event *event;
        enum mr_status r = decode_binary(record, content_type, size_max, &event, problem);
        return r == MR_OK ? mr__events_of_one(event, ret_events, problem) : r;
    }
    if (format == MR__FORMAT_UNKNOWN) {
        return mr__format_refused(content_type, problem);
    }
    return mr_problem_set(problem, MR_E_NOT_CLOUDEVENT,
                          "not a CloudEvent: the header ce_%s is missing",
                          mr__required_missing(seen));
}

/* Bytes as an attribute: text as it is, anything else in base64. */
static enum mr_status add_bytes(struct mr_event_builder *builder, struct mr_bytes name,
                                struct mr_bytes value, struct mr_problem *problem)
{
    if (mr__text_is_string(value)) {
        return mr_event_builder_attr(builder, name, MR_ATTR_STRING, value, problem);
    }
    struct mr_buf base64;
    mr_buf_init(&base64, MR_EVENT_ATTRS_SIZE_MAX);
    enum mr_status r = mr_buf_append_base64(&base64, value);
    r = r == MR_OK ? mr_event_builder_attr(builder, name, MR_ATTR_BINARY, mr_buf_bytes(&base64),
                                           problem)
                   : mr_problem_set(problem, r, "the key or a header of the record: %s",
                                    mr_status_text(r));
    mr_buf_release(&base64);
    return r;
}

/* "kafkaheader" and the header's name in lower case without what a name cannot hold; cut to the
 * longest name there may be. @return its size */
static size_t header_name(struct mr_bytes header, uint8_t to[MR_ATTR_NAME_SIZE_MAX])
{
    size_t size = sizeof(HEADER_PREFIX) - 1;
    memcpy(to, HEADER_PREFIX, size);
    for (size_t i = 0; i < header.size && size < MR_ATTR_NAME_SIZE_MAX; i++) {
        uint8_t c = header.data[i];
        c = c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
        if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')) {
            to[size++] = c;
        }
    }
    return size;
}

/* Backwards, because the last of several headers with one name wins. */
static enum mr_status add_headers(struct mr_event_builder *builder,
                                  const struct mr_kafka_record *record, struct mr_problem *problem)
{
    enum mr_status r = MR_OK;
    for (uint32_t i = record->header_count; r == MR_OK && i-- > 0;) {
        const struct mr_field *header = &record->headers[i];
        uint8_t text[MR_ATTR_NAME_SIZE_MAX];
        struct mr_bytes name = mr_bytes(text, header_name(header->name, text));
        if (header->value.data == NULL || mr__builder_has(builder, name) ||
            mr_bytes_equal_nocase(header->name, MR_BYTES_LITERAL("content-type"))) {
            continue;
        }
        r = add_bytes(builder, name, header->value, problem);
    }
    return r;
}

/* The content-type in lower case, when it is one. */
static enum mr_status add_content_type(struct mr_event_builder *builder,
                                       const struct mr_kafka_record *record,
                                       struct mr_problem *problem)
{
    struct mr_bytes type;
    uint8_t text[256];
    (void)find_content_type(record, &type); /* the last one counts */
    if (type.size > sizeof(text) || !mr__text_is_media_type(type) || !mr__text_is_string(type)) {
        return MR_OK;
    }
    for (size_t i = 0; i < type.size; i++) {
        uint8_t c = type.data[i];
        text[i] = c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
    }
    return mr_event_builder_attr(builder, MR_BYTES_LITERAL("datacontenttype"), MR_ATTR_STRING,
                                 mr_bytes(text, type.size), problem);
}

/* Everything but the headers, in the order it gets in the record. */
static enum mr_status add_attrs(struct mr_event_builder *builder,
                                const struct mr_kafka_record *record, struct mr_bytes source,
                                uint64_t received_wall_ns, struct mr_problem *problem)
{
    char id[64];
    char subject[64];
    char time[MR_TIME_TEXT_SIZE];
    (void)snprintf(id, sizeof(id), "partition:%d/offset:%lld", (int)record->partition,
                   (long long)record->offset); /* two numbers always fit */
    (void)snprintf(subject, sizeof(subject), "partition:%d#%lld", (int)record->partition,
                   (long long)record->offset); /* likewise */
    if (!mr__time_of_ms(record->timestamp_ms, time)) {
        (void)mr_time_format(received_wall_ns, time); /* returns its argument */
    }
    const struct {
        const char *name;
        enum mr_attr_type type;
        struct mr_bytes value;
    } attrs[] = {
        {"id", MR_ATTR_STRING, mr_bytes_of(id)},
        {"source", MR_ATTR_URI_REF, source},
        {"type", MR_ATTR_STRING, MR_BYTES_LITERAL("dev.knative.kafka.event")},
        {"subject", MR_ATTR_STRING, mr_bytes_of(subject)},
        {"time", MR_ATTR_TIMESTAMP, mr_bytes_of(time)},
    };
    enum mr_status r = MR_OK;
    for (size_t i = 0; r == MR_OK && i < MR_ARRAY_COUNT(attrs); i++) {
        r = mr_event_builder_attr(builder, mr_bytes_of(attrs[i].name), attrs[i].type,
                                  attrs[i].value, problem);
    }
    if (r == MR_OK) {
        r = add_content_type(builder, record, problem);
    }
    if (r == MR_OK && record->has_key && record->key.size > 0) {
        r = add_bytes(builder, MR_BYTES_LITERAL("key"), record->key, problem);
        if (r == MR_OK) {
            r = add_bytes(builder, MR_BYTES_LITERAL("partitionkey"), record->key, problem);
        }
    }
    return r;
}

enum mr_status mr_kafka_wrap(const struct mr_kafka_record *record, struct mr_bytes source_name,
                             uint64_t received_wall_ns, size_t size_max,
                             struct mr_event **ret_event, struct mr_problem *problem)
{
    struct mr_buf source;
    mr_buf_init(&source, MR_EVENT_ATTRS_SIZE_MAX * 4);
    struct mr_event_builder builder;
    mr_event_builder_init(&builder, size_max);
    enum mr_status r =
        mr__raw_source(&source, "kafkasources", source_name, record->topic, problem);
    if (r == MR_OK) {
        r = add_attrs(&builder, record, mr_buf_bytes(&source), received_wall_ns, problem);
    }
    if (r == MR_OK) {
        r = add_headers(&builder, record, problem);
    }
    r = mr__raw_end(&builder, r, record->value, record->has_value, ret_event, problem);
    mr_buf_release(&source);
    return r;
}

enum mr_status mr_kafka_encode(struct mr_bytes record, enum mr_mode mode,
                               struct mr_message *message)
{
    if (mode == MR_MODE_BATCH) {
        return MR_E_UNSUPPORTED;
    }
    return mode == MR_MODE_BINARY ? mr__message_binary(message, record, "ce_", false)
                                  : mr__message_structured(message, record, false);
}
