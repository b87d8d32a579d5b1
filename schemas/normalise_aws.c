/* Messages of Kafka (MSK), RabbitMQ and ActiveMQ (Amazon MQ) as AWS hands them to a function: whole
 * batches in one JSON event, bodies in base64, header bytes as lists of numbers. */
#include <stdio.h>

#include "core/limits.h"
#include "schemas/json_scan.h"
#include "schemas/message.h"
#include "schemas/normalise_message.h"

static bool is_from(struct mr_bytes text, const char *source)
{
    struct mr_bytes value;
    return mr__json_find(text, "eventSource", &value) && value.size > 2 &&
           mr_bytes_equal(mr_bytes(value.data + 1, value.size - 2), mr_bytes_of(source));
}

bool mr__recorded_is_aws(struct mr_bytes text)
{
    return is_from(text, "aws:kafka") || is_from(text, "aws:rmq") || is_from(text, "aws:amq");
}

static bool find(struct mr_bytes object, const char *name, struct mr_bytes *ret_value)
{
    return mr__json_find(object, name, ret_value) &&
           !mr_bytes_equal(*ret_value, MR_BYTES_LITERAL("null"));
}

/* A member's text; stays empty when there is none. */
static enum mr_status take_text(struct mr__recorded *recorded, struct mr_bytes object,
                                const char *name, struct mr_bytes *ret_text,
                                struct mr_problem *problem)
{
    struct mr_bytes value;
    return find(object, name, &value) ? mr__recorded_text(recorded, value, ret_text, problem)
                                      : MR_OK;
}

/* Likewise of a member in base64. */
static enum mr_status take_base64(struct mr__recorded *recorded, struct mr_bytes object,
                                  const char *name, struct mr_bytes *ret_bytes, bool *ret_there,
                                  struct mr_problem *problem)
{
    struct mr_bytes value;
    *ret_there = find(object, name, &value);
    return *ret_there ? mr__recorded_base64(recorded, value, ret_bytes, problem) : MR_OK;
}

static int64_t take_integer(struct mr_bytes object, const char *name, int64_t otherwise)
{
    struct mr_bytes value;
    int64_t number;
    return find(object, name, &value) && mr__recorded_integer(value, &number) ? number : otherwise;
}

/* [{"name": [118, -36, …]}, …] */
static enum mr_status take_kafka_headers(struct mr__recorded *recorded, struct mr_bytes headers,
                                         struct mr_problem *problem)
{
    struct mr__scan list;
    struct mr__scan object;
    struct mr_bytes item;
    struct mr__json_string name;
    struct mr_bytes value;
    enum mr_status r = MR_OK;
    bool opened = mr__json_open(&list, headers, '[');
    while (r == MR_OK && opened && mr__json_next(&list, NULL, &item)) {
        bool inside = mr__json_open(&object, item, '{');
        while (r == MR_OK && inside && mr__json_next(&object, &name, &value)) {
            struct mr_amqp_header header = {.type = MR_AMQP_BINARY};
            r = mr__recorded_text(recorded, mr_bytes(name.raw.data - 1, name.raw.size + 2),
                                  &header.name, problem);
            if (r == MR_OK) {
                r = mr__recorded_octets(recorded, value, &header.text, problem);
            }
            if (r == MR_OK) {
                r = mr__recorded_add(recorded, header, problem);
            }
        }
    }
    return r;
}

static enum mr_status read_kafka(struct mr__recorded *recorded, struct mr_bytes place,
                                 struct mr_bytes record, struct mr_problem *problem)
{
    (void)place; /* "topic-partition"; the record says it better */
    struct mr_bytes headers;
    recorded->kind = MR__RECORDED_KAFKA;
    recorded->partition = (int32_t)take_integer(record, "partition", 0);
    recorded->offset = take_integer(record, "offset", 0);
    recorded->timestamp_ms = take_integer(record, "timestamp", -1);
    enum mr_status r = take_text(recorded, record, "topic", &recorded->topic, problem);
    if (r == MR_OK) {
        r = take_base64(recorded, record, "key", &recorded->key, &recorded->has_key, problem);
    }
    if (r == MR_OK) {
        r = take_base64(recorded, record, "value", &recorded->body, &recorded->has_body, problem);
    }
    return r == MR_OK && find(record, "headers", &headers)
               ? take_kafka_headers(recorded, headers, problem)
               : r;
}

/* {"name": {"bytes": [118, …]}, "other": 10} */
static enum mr_status take_rabbitmq_headers(struct mr__recorded *recorded,
                                            struct mr_bytes headers, struct mr_problem *problem)
{
    struct mr__scan s;
    struct mr__json_string name;
    struct mr_bytes value;
    struct mr_bytes octets;
    enum mr_status r = MR_OK;
    bool opened = mr__json_open(&s, headers, '{');
    while (r == MR_OK && opened && mr__json_next(&s, &name, &value)) {
        struct mr_amqp_header header = {.type = MR_AMQP_OTHER, .text = value};
        r = mr__recorded_text(recorded, mr_bytes(name.raw.data - 1, name.raw.size + 2),
                              &header.name, problem);
        if (r == MR_OK && mr__json_find(value, "bytes", &octets)) {
            header.type = MR_AMQP_STRING;
            r = mr__recorded_octets(recorded, octets, &header.text, problem);
        } else if (value.data[0] == '"') {
            header.type = MR_AMQP_STRING;
            r = r == MR_OK ? mr__recorded_text(recorded, value, &header.text, problem) : r;
        } else if (value.data[0] == 't' || value.data[0] == 'f') {
            header.type = MR_AMQP_BOOL;
            header.number = value.data[0] == 't';
        } else if (mr__recorded_integer(value, &header.number)) {
            header.type = MR_AMQP_INTEGER;
        }
        if (r == MR_OK && !mr_bytes_equal(value, MR_BYTES_LITERAL("null"))) {
            r = mr__recorded_add(recorded, header, problem);
        }
    }
    return r;
}

/* "Jan 1, 1970, 12:33:41 AM", which is how AWS prints the timestamp property (in UTC).
 * @return -1: another text */
static int64_t parse_printed_time(struct mr_bytes text)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    char copy[40];
    char month[4];
    char half[3];
    unsigned day;
    unsigned year;
    unsigned hour;
    unsigned minute;
    unsigned second;
    int end = 0;
    if (text.size == 0 || text.size >= sizeof(copy)) {
        return -1;
    }
    memcpy(copy, text.data, text.size);
    copy[text.size] = '\0';
    if (sscanf(copy, "%3[A-Za-z] %2u, %4u, %2u:%2u:%2u %2[AMP]%n", month, &day, &year, &hour,
               &minute, &second, half, &end) != 7 ||
        (size_t)end != text.size) {
        return -1;
    }
    const char *at = strstr(months, month);
    if (at == NULL || (at - months) % 3 != 0 || half[1] != 'M' || day < 1 || day > 31 ||
        year < 1970 || hour < 1 || hour > 12 || minute > 59 || second > 59) {
        return -1;
    }
    int64_t days = mr_days_from_civil(year, (unsigned)(at - months) / 3 + 1, day);
    hour = hour % 12 + (half[0] == 'P' ? 12 : 0);
    return (((days * 24 + hour) * 60 + minute) * 60 + second) * 1000;
}

static enum mr_status read_rabbitmq(struct mr__recorded *recorded, struct mr_bytes place,
                                    struct mr_bytes message, struct mr_problem *problem)
{
    struct mr_bytes properties = {0};
    struct mr_bytes headers;
    struct mr_bytes time = {0};
    recorded->kind = MR__RECORDED_AMQP;
    recorded->topic = place;
    enum mr_status r = take_base64(recorded, message, "data", &recorded->body,
                                   &recorded->has_body, problem);
    if (r != MR_OK || !find(message, "basicProperties", &properties)) {
        return r;
    }
    r = take_text(recorded, properties, "contentType", &recorded->content_type, problem);
    if (r == MR_OK) {
        r = take_text(recorded, properties, "messageId", &recorded->message_id, problem);
    }
    if (r == MR_OK) {
        r = take_text(recorded, properties, "timestamp", &time, problem);
        recorded->timestamp_ms = parse_printed_time(time);
    }
    return r == MR_OK && find(properties, "headers", &headers)
               ? take_rabbitmq_headers(recorded, headers, problem)
               : r;
}

static enum mr_status read_activemq(struct mr__recorded *recorded, struct mr_bytes place,
                                    struct mr_bytes message, struct mr_problem *problem)
{
    (void)place; /* there is one list for all */
    struct mr_bytes destination;
    struct mr_bytes type = {0};
    recorded->kind = MR__RECORDED_JMS;
    recorded->timestamp_ms = take_integer(message, "timestamp", -1);
    enum mr_status r = take_text(recorded, message, "messageID", &recorded->message_id, problem);
    if (r == MR_OK && find(message, "destination", &destination)) {
        r = take_text(recorded, destination, "physicalName", &recorded->topic, problem);
    }
    if (r == MR_OK) {
        r = take_text(recorded, message, "messageType", &type, problem);
        recorded->content_type = mr_bytes_equal(type, MR_BYTES_LITERAL("jms/text-message"))
                                     ? MR_BYTES_LITERAL("text/plain")
                                     : MR_BYTES_LITERAL("application/octet-stream");
    }
    return r == MR_OK ? take_base64(recorded, message, "data", &recorded->body,
                                    &recorded->has_body, problem)
                      : r;
}

struct walk {
    enum mr_status (*read)(struct mr__recorded *recorded, struct mr_bytes place,
                           struct mr_bytes message, struct mr_problem *problem);
    enum mr_status (*run)(void *context, struct mr__recorded *recorded);
    void *context;
    struct mr_problem *problem;
};

/* All messages of one place: a partition, a queue. */
static enum mr_status walk_list(const struct walk *walk, struct mr_bytes place,
                                struct mr_bytes list)
{
    struct mr__scan s;
    struct mr_bytes message;
    if (!mr__json_open(&s, list, '[')) {
        return mr_problem_set(walk->problem, MR_E_INVALID,
                              "the messages in the event of AWS are no list");
    }
    enum mr_status r = MR_OK;
    while (r == MR_OK && mr__json_next(&s, NULL, &message)) {
        struct mr__recorded recorded;
        mr__recorded_init(&recorded);
        r = mr__recorded_reserve(&recorded, message.size);
        r = r == MR_OK ? walk->read(&recorded, place, message, walk->problem)
                       : mr_problem_set(walk->problem, r, "a message: %s", mr_status_text(r));
        if (r == MR_OK) {
            r = walk->run(walk->context, &recorded);
        }
        mr__recorded_release(&recorded);
    }
    return r;
}

/* The messages by place: {"place": [message, …], …} */
static enum mr_status walk_places(const struct walk *walk, struct mr_bytes places)
{
    struct mr__scan s;
    struct mr__json_string name;
    struct mr_bytes list;
    enum mr_status r = MR_OK;
    if (!mr__json_open(&s, places, '{')) {
        return mr_problem_set(walk->problem, MR_E_INVALID,
                              "the messages in the event of AWS are no object");
    }
    while (r == MR_OK && mr__json_next(&s, &name, &list)) {
        struct mr__recorded place; /* for its name alone */
        struct mr_bytes text = {0};
        mr__recorded_init(&place);
        r = mr__recorded_reserve(&place, name.raw.size + 2);
        r = r == MR_OK ? mr__recorded_text(&place,
                                           mr_bytes(name.raw.data - 1, name.raw.size + 2), &text,
                                           walk->problem)
                       : mr_problem_set(walk->problem, r, "a name: %s", mr_status_text(r));
        if (r == MR_OK) {
            r = walk_list(walk, text, list);
        }
        mr__recorded_release(&place);
    }
    return r;
}

enum mr_status mr__recorded_aws(struct mr_bytes text,
                                enum mr_status (*run)(void *context, struct mr__recorded *recorded),
                                void *context, struct mr_problem *problem)
{
    struct mr_bytes messages;
    bool kafka = is_from(text, "aws:kafka");
    bool rabbitmq = is_from(text, "aws:rmq");
    struct walk walk = {kafka ? read_kafka : rabbitmq ? read_rabbitmq : read_activemq, run,
                        context, problem};
    if (!mr__json_find(text, kafka ? "records" : rabbitmq ? "rmqMessagesByQueue" : "messages",
                       &messages)) {
        return mr_problem_set(problem, MR_E_INVALID, "the event of AWS holds no messages");
    }
    return kafka || rabbitmq ? walk_places(&walk, messages)
                             : walk_list(&walk, (struct mr_bytes){0}, messages);
}

enum mr_status mr__recorded_jms(const struct mr__recorded *recorded, struct mr_bytes id,
                                uint64_t received_wall_ns, struct mr_event **ret_event,
                                struct mr_problem *problem)
{
    char time[MR_TIME_TEXT_SIZE];
    if (!mr__time_of_ms(recorded->timestamp_ms, time)) {
        (void)mr_time_format(received_wall_ns, time); /* returns its argument */
    }
    struct mr_buf source;
    mr_buf_init(&source, MR_EVENT_ATTRS_SIZE_MAX);
    enum mr_status r = mr_buf_append_text(&source, "/jms/");
    if (r == MR_OK) {
        r = mr__text_append_path(&source, recorded->topic);
    }
    if (r != MR_OK) {
        (void)mr_problem_set(problem, r, "the destination: %s", mr_status_text(r));
    }
    const struct {
        const char *name;
        enum mr_attr_type type;
        struct mr_bytes value;
    } attrs[] = {
        {"id", MR_ATTR_STRING, recorded->message_id.size > 0 ? recorded->message_id : id},
        {"source", MR_ATTR_URI_REF, mr_buf_bytes(&source)},
        {"type", MR_ATTR_STRING, MR_BYTES_LITERAL("org.jms.message")},
        {"subject", MR_ATTR_STRING, recorded->topic},
        {"time", MR_ATTR_TIMESTAMP, mr_bytes_of(time)},
        {"datacontenttype", MR_ATTR_STRING, recorded->content_type},
    };
    struct mr_event_builder builder;
    mr_event_builder_init(&builder, MR_EVENT_SIZE_MAX);
    for (size_t i = 0; r == MR_OK && i < MR_ARRAY_COUNT(attrs); i++) {
        if (attrs[i].value.size > 0) {
            r = mr_event_builder_attr(&builder, mr_bytes_of(attrs[i].name), attrs[i].type,
                                      attrs[i].value, problem);
        }
    }
    if (r == MR_OK && recorded->has_body) {
        mr_event_builder_data(&builder, recorded->body, false);
    }
    if (r == MR_OK) {
        r = mr_event_builder_finish(&builder, true, ret_event, problem);
    }
    mr_event_builder_release(&builder);
    mr_buf_release(&source);
    return r;
}
