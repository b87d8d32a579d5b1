#include <stdio.h>

#include "core/limits.h"
#include "schemas/builder.h"
#include "schemas/json_format.h"
#include "schemas/message.h"

/* How the attributes of a message are named, in the order of recognition (digest 5.2). */
enum naming {
    NAMING_CE_DASH = 0,
    NAMING_BARE,
    NAMING_COLON,
    NAMING_UNDERSCORE,
    NAMING_MAX,
};

static const char *const prefixes[NAMING_MAX] = {"ce-", "", "cloudEvents:", "cloudEvents_"};

/* What RabbitMQ's own and its Knative publisher put beside bare names: the trace of the transport,
 * which is not the event's (digest 5.2). */
static bool is_transport(struct mr_bytes name)
{
    return mr_bytes_equal(name, MR_BYTES_LITERAL("traceparent")) ||
           mr_bytes_equal(name, MR_BYTES_LITERAL("tracestate"));
}

/* The attribute a header stands for under @p naming, in @p to. @return its size; 0 when it stands
 * for none. The prefixes of AMQP 1.0 are as written; in the habits of 0-9-1 case means nothing. */
static size_t attr_name(const struct mr_amqp_header *header, enum naming naming,
                        uint8_t to[MR_ATTR_NAME_SIZE_MAX + 1])
{
    struct mr_bytes prefix = mr_bytes_of(prefixes[naming]);
    bool any_case = naming == NAMING_CE_DASH || naming == NAMING_BARE;
    if (any_case ? !mr__text_starts_nocase(header->name, prefix)
                 : !mr_bytes_starts(header->name, prefix)) {
        return 0;
    }
    /* One byte over the limit is kept, so that the builder refuses the name. */
    size_t size = header->name.size - prefix.size;
    size = size > MR_ATTR_NAME_SIZE_MAX ? MR_ATTR_NAME_SIZE_MAX + 1 : size;
    for (size_t i = 0; i < size; i++) {
        uint8_t c = header->name.data[prefix.size + i];
        to[i] = any_case && c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
    }
    struct mr_bytes name = mr_bytes(to, size);
    return mr__text_is_name(name) && !(naming == NAMING_BARE && is_transport(name)) ? size : 0;
}

/* What the headers say under one naming. */
struct seen {
    unsigned required; /* bits of mr__required_bit() */
    bool any;          /* an attribute at all */
};

static struct seen look(const struct mr_amqp_message *message, enum naming naming)
{
    struct seen seen = {0};
    for (uint32_t i = 0; i < message->header_count; i++) {
        const struct mr_amqp_header *header = &message->headers[i];
        uint8_t text[MR_ATTR_NAME_SIZE_MAX + 1];
        size_t size = attr_name(header, naming, text);
        unsigned bit = mr__required_bit(mr_bytes(text, size));
        /* Bare headers are anybody's: only one that says specversion 1.0 is a CloudEvent's. */
        if (naming == NAMING_BARE && bit == mr__required_bit(MR_BYTES_LITERAL("specversion")) &&
            !mr_bytes_equal(header->text, MR_BYTES_LITERAL("1.0"))) {
            bit = 0;
        }
        seen.any = seen.any || size > 0;
        seen.required |= header->type == MR_AMQP_OTHER ? 0 : bit;
    }
    return seen;
}

static enum mr_status add_integer(struct mr_event_builder *builder, struct mr_bytes name,
                                  int64_t number, bool strict, struct mr_problem *problem)
{
    char text[24];
    (void)snprintf(text, sizeof(text), "%lld", (long long)number); /* always fits */
    bool fits = number >= INT32_MIN && number <= INT32_MAX;
    /* 0-9-1 has no binding that would forbid it, so a long number is carried as its digits. */
    return mr_event_builder_attr(builder, name,
                                 fits || strict ? MR_ATTR_INTEGER : MR_ATTR_STRING,
                                 mr_bytes_of(text), problem);
}

static enum mr_status add_binary(struct mr_event_builder *builder, struct mr_bytes name,
                                 struct mr_bytes value, struct mr_problem *problem)
{
    struct mr_buf base64;
    mr_buf_init(&base64, MR_EVENT_ATTRS_SIZE_MAX);
    enum mr_status r = mr_buf_append_base64(&base64, value);
    r = r == MR_OK ? mr_event_builder_attr(builder, name, MR_ATTR_BINARY, mr_buf_bytes(&base64),
                                           problem)
                   : mr_problem_set(problem, r, "a binary header: %s", mr_status_text(r));
    mr_buf_release(&base64);
    return r;
}

static enum mr_status add_header(struct mr_event_builder *builder, struct mr_bytes name,
                                 const struct mr_amqp_header *header, bool is_1_0,
                                 struct mr_problem *problem)
{
    char time[MR_TIME_TEXT_SIZE];
    switch (header->type) {
    case MR_AMQP_STRING:
        return mr_event_builder_attr(builder, name, MR_ATTR_STRING, header->text, problem);
    case MR_AMQP_BOOL:
        return mr_event_builder_attr(builder, name, MR_ATTR_BOOLEAN,
                                     mr_bytes_of(header->number != 0 ? "true" : "false"),
                                     problem);
    case MR_AMQP_INTEGER:
        return add_integer(builder, name, header->number, is_1_0, problem);
    case MR_AMQP_TIMESTAMP:
        if (!mr__time_of_ms(header->number, time)) {
            break;
        }
        return mr_event_builder_attr(builder, name, MR_ATTR_TIMESTAMP, mr_bytes_of(time),
                                     problem);
    case MR_AMQP_BINARY:
        return add_binary(builder, name, header->text, problem);
    case MR_AMQP_OTHER:
        if (!is_1_0) {
            return MR_OK; /* tables, arrays and floats are no attributes */
        }
        break;
    }
    return mr_problem_set(problem, MR_E_INVALID,
                          "the property of %.*s has a type or value no attribute can have",
                          (int)name.size, (const char *)name.data);
}

static enum mr_status decode_binary(const struct mr_amqp_message *message, enum naming naming,
                                    struct mr_bytes content_type, size_t size_max,
                                    struct mr_event **ret_event, struct mr_problem *problem)
{
    struct mr_event_builder builder;
    mr_event_builder_init(&builder, size_max);
    enum mr_status r = MR_OK;
    for (uint32_t i = 0; r == MR_OK && i < message->header_count; i++) {
        uint8_t text[MR_ATTR_NAME_SIZE_MAX + 1];
        struct mr_bytes name = mr_bytes(text, attr_name(&message->headers[i], naming, text));
        if (name.size == 0 || (content_type.size > 0 &&
                               mr_bytes_equal(name, MR_BYTES_LITERAL("datacontenttype")))) {
            continue; /* foreign, or repeated although content-type is the authority */
        }
        r = add_header(&builder, name, &message->headers[i], message->is_1_0, problem);
    }
    return mr__binary_end(&builder, r, content_type, message->body, message->body.size > 0,
                          ret_event, problem);
}

/* The property, else (0-9-1) the header of that name, which one publisher writes instead. */
static struct mr_bytes content_type_of(const struct mr_amqp_message *message)
{
    struct mr_bytes value = mr_bytes_trim(message->content_type);
    for (uint32_t i = 0; value.size == 0 && !message->is_1_0 && i < message->header_count; i++) {
        const struct mr_amqp_header *header = &message->headers[i];
        if (header->type == MR_AMQP_STRING &&
            mr_bytes_equal_nocase(header->name, MR_BYTES_LITERAL("content-type"))) {
            value = mr_bytes_trim(header->text);
        }
    }
    return value;
}

/* The naming under which the message is a CloudEvent; NAMING_MAX when under none. */
static enum mr_status find_naming(const struct mr_amqp_message *message, enum naming *ret_naming,
                                  struct mr_problem *problem)
{
    *ret_naming = NAMING_MAX;
    for (enum naming n = NAMING_CE_DASH; !message->is_1_0 && n <= NAMING_BARE; n++) {
        if (look(message, n).required == MR__REQUIRED_ALL) {
            *ret_naming = n;
            return MR_OK;
        }
    }
    struct seen colon = look(message, NAMING_COLON);
    struct seen underscore = look(message, NAMING_UNDERSCORE);
    if ((colon.required | underscore.required) != MR__REQUIRED_ALL) {
        return mr_problem_set(problem, MR_E_NOT_CLOUDEVENT,
                              "not a CloudEvent: the %s of %s is missing",
                              message->is_1_0 ? "application property" : "header",
                              mr__required_missing(colon.required | underscore.required));
    }
    if (colon.any && underscore.any) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "cloudEvents: and cloudEvents_ are mixed in one message");
    }
    *ret_naming = colon.any ? NAMING_COLON : NAMING_UNDERSCORE;
    return MR_OK;
}

enum mr_status mr_amqp_decode(const struct mr_amqp_message *message, size_t size_max,
                              struct mr_events *ret_events, struct mr_problem *problem)
{
    struct mr_bytes content_type = content_type_of(message);
    enum mr__format format = mr__format_of(content_type);
    if (format == MR__FORMAT_EVENT || format == MR__FORMAT_BATCH) {
        return mr__events_of_json(format, message->body, size_max, ret_events, problem);
    }
    enum naming naming;
    enum mr_status r = find_naming(message, &naming, problem);
    if (r == MR_E_NOT_CLOUDEVENT && format == MR__FORMAT_UNKNOWN) {
        return mr__format_refused(content_type, problem);
    }
    if (r != MR_OK) {
        return r;
    }
    struct mr_event *event;
    r = decode_binary(message, naming, content_type, size_max, &event, problem);
    return r == MR_OK ? mr__events_of_one(event, ret_events, problem) : r;
}

enum mr_status mr_amqp_wrap(const struct mr_amqp_message *message, struct mr_bytes source_name,
                            struct mr_bytes queue, struct mr_bytes id, uint64_t received_wall_ns,
                            size_t size_max, struct mr_event **ret_event,
                            struct mr_problem *problem)
{
    char time[MR_TIME_TEXT_SIZE];
    if (!mr__time_of_ms(message->timestamp_ms, time)) {
        (void)mr_time_format(received_wall_ns, time); /* returns its argument */
    }
    if (message->message_id.size > 0 && mr__text_is_string(message->message_id)) {
        id = message->message_id;
    }
    struct mr_bytes type = content_type_of(message);
    if (!mr__text_is_media_type(type) || !mr__text_is_string(type)) {
        type = (struct mr_bytes){0};
    }
    struct mr_buf source;
    mr_buf_init(&source, MR_EVENT_ATTRS_SIZE_MAX * 4);
    struct mr_event_builder builder;
    mr_event_builder_init(&builder, size_max);
    enum mr_status r = mr__raw_source(&source, "rabbitmqsources", source_name, queue, problem);
    const struct {
        const char *name;
        enum mr_attr_type type;
        struct mr_bytes value;
    } attrs[] = {
        {"id", MR_ATTR_STRING, id},
        {"source", MR_ATTR_URI_REF, mr_buf_bytes(&source)},
        {"type", MR_ATTR_STRING, MR_BYTES_LITERAL("dev.knative.rabbitmq.event")},
        {"subject", MR_ATTR_STRING, id},
        {"time", MR_ATTR_TIMESTAMP, mr_bytes_of(time)},
        {"datacontenttype", MR_ATTR_STRING, type},
    };
    for (size_t i = 0; r == MR_OK && i < MR_ARRAY_COUNT(attrs); i++) {
        if (attrs[i].value.size > 0) {
            r = mr_event_builder_attr(&builder, mr_bytes_of(attrs[i].name), attrs[i].type,
                                      attrs[i].value, problem);
        }
    }
    r = mr__raw_end(&builder, r, message->body, message->body.size > 0, ret_event, problem);
    mr_buf_release(&source);
    return r;
}

enum mr_status mr_amqp_encode(struct mr_bytes record, enum mr_amqp_habit habit, enum mr_mode mode,
                              struct mr_message *message)
{
    static const enum naming namings[] = {
        [MR_AMQP_CLOUDEVENTS_COLON] = NAMING_COLON,
        [MR_AMQP_CLOUDEVENTS_UNDERSCORE] = NAMING_UNDERSCORE,
        [MR_AMQP_CE_DASH] = NAMING_CE_DASH,
        [MR_AMQP_BARE] = NAMING_BARE,
    };
    if (mode == MR_MODE_BATCH) {
        return MR_E_UNSUPPORTED;
    }
    return mode == MR_MODE_BINARY
               ? mr__message_binary(message, record, prefixes[namings[habit]], false)
               : mr__message_structured(message, record, false);
}
