#include "core/limits.h"
#include "schemas/json_format.h"
#include "schemas/json_scan.h"
#include "schemas/message.h"
#include "schemas/normalise.h"

static enum mr_status read_json(struct mr_bytes text, struct mr_events *ret_events,
                                struct mr_problem *problem)
{
    struct mr_field json = {MR_BYTES_LITERAL("content-type"),
                            MR_BYTES_LITERAL("application/cloudevents+json")};
    struct mr__scan s;
    mr__scan_init(&s, text);
    mr__scan_space(&s);
    if (mr__scan_peek(&s) == '[') {
        json.value = MR_BYTES_LITERAL("application/cloudevents-batch+json");
    }
    bool unknown;
    return mr_http_decode(&json, 1, text, MR_EVENT_SIZE_MAX, ret_events, &unknown, problem);
}

/* ,"key":"value", or with _base64 behind the key when @p bytes is no text. */
static enum mr_status append_body(struct mr_buf *out, const char *key, struct mr_bytes bytes)
{
    bool text = mr_bytes_is_utf8(bytes);
    enum mr_status r = mr_buf_printf(out, ",\"%s%s\":", key, text ? "" : "_base64");
    if (r != MR_OK || text) {
        return r == MR_OK ? mr_buf_append_json(out, bytes) : r;
    }
    r = mr_buf_append_byte(out, '"');
    if (r == MR_OK) {
        r = mr_buf_append_base64(out, bytes);
    }
    return r == MR_OK ? mr_buf_append_byte(out, '"') : r;
}

/* Two strings with @p between them, a comma before them unless they are the first. */
static enum mr_status append_pair(struct mr_buf *out, bool first, struct mr_bytes name,
                                  char between, struct mr_bytes value)
{
    enum mr_status r = first ? MR_OK : mr_buf_append_byte(out, ',');
    if (r == MR_OK && between == ',') {
        r = mr_buf_append_byte(out, '[');
    }
    if (r == MR_OK) {
        r = mr_buf_append_json(out, name);
    }
    if (r == MR_OK) {
        r = mr_buf_append_byte(out, (uint8_t)between);
    }
    if (r == MR_OK) {
        r = mr_buf_append_json(out, value);
    }
    return r == MR_OK && between == ',' ? mr_buf_append_byte(out, ']') : r;
}

/* The fields as the members of an object, the content type first when @p typed names it. */
static enum mr_status append_headers(struct mr_buf *out, const struct mr_message *message,
                                     const char *typed)
{
    enum mr_status r = mr_buf_append_text(out, "\"headers\":{");
    bool first = true;
    if (r == MR_OK && typed != NULL && message->content_type.size > 0) {
        r = append_pair(out, true, mr_bytes_of(typed), ':', message->content_type);
        first = false;
    }
    for (uint32_t i = 0; r == MR_OK && i < message->field_count; i++) {
        r = append_pair(out, first && i == 0, message->fields[i].name, ':',
                        message->fields[i].value);
    }
    return r == MR_OK ? mr_buf_append_byte(out, '}') : r;
}

static enum mr_status append_content_type(struct mr_buf *out, const struct mr_message *message)
{
    return message->content_type.size == 0
               ? MR_OK
               : append_pair(out, false, MR_BYTES_LITERAL("content_type"), ':',
                             message->content_type);
}

static enum mr_status print_http(struct mr_buf *out, const struct mr_message *message,
                                 struct mr_bytes key)
{
    (void)key; /* Kafka's */
    enum mr_status r = mr_buf_append_byte(out, '{');
    if (r == MR_OK) {
        r = append_headers(out, message, "Content-Type");
    }
    if (r == MR_OK) {
        r = append_body(out, "body", mr_buf_bytes(&message->body));
    }
    return r == MR_OK ? mr_buf_append_text(out, "}\n") : r;
}

static enum mr_status print_kafka(struct mr_buf *out, const struct mr_message *message,
                                  struct mr_bytes key)
{
    enum mr_status r = mr_buf_append_text(out, "{\"key\":");
    if (r == MR_OK) {
        r = mr_buf_append_bytes(out, key);
    }
    if (r == MR_OK) {
        r = mr_buf_append_byte(out, ',');
    }
    if (r == MR_OK) {
        r = append_headers(out, message, "content-type");
    }
    if (r == MR_OK) {
        r = message->has_body ? append_body(out, "value", mr_buf_bytes(&message->body))
                              : mr_buf_append_text(out, ",\"value\":null");
    }
    return r == MR_OK ? mr_buf_append_text(out, "}\n") : r;
}

static enum mr_status print_amqp(struct mr_buf *out, const struct mr_message *message,
                                 struct mr_bytes key)
{
    (void)key; /* Kafka's */
    enum mr_status r = mr_buf_append_text(out, "{\"protocol\":\"0-9-1\"");
    if (r == MR_OK) {
        r = append_content_type(out, message);
    }
    if (r == MR_OK) {
        r = mr_buf_append_byte(out, ',');
    }
    if (r == MR_OK) {
        r = append_headers(out, message, NULL);
    }
    if (r == MR_OK) {
        r = append_body(out, "body", mr_buf_bytes(&message->body));
    }
    return r == MR_OK ? mr_buf_append_text(out, "}\n") : r;
}

static enum mr_status print_mqtt(struct mr_buf *out, const struct mr_message *message,
                                 struct mr_bytes key)
{
    (void)key; /* Kafka's */
    enum mr_status r = mr_buf_append_text(out, "{\"version\":5");
    if (r == MR_OK) {
        r = append_content_type(out, message);
    }
    if (r == MR_OK) {
        r = mr_buf_append_text(out, ",\"user_properties\":[");
    }
    for (uint32_t i = 0; r == MR_OK && i < message->field_count; i++) {
        r = append_pair(out, i == 0, message->fields[i].name, ',', message->fields[i].value);
    }
    if (r == MR_OK) {
        r = mr_buf_append_byte(out, ']');
    }
    if (r == MR_OK) {
        r = append_body(out, "payload", mr_buf_bytes(&message->body));
    }
    return r == MR_OK ? mr_buf_append_text(out, "}\n") : r;
}

static enum mr_status encode_amqp(struct mr_bytes record, enum mr_mode mode,
                                  struct mr_message *message)
{
    return mr_amqp_encode(record, MR_AMQP_CLOUDEVENTS_COLON, mode, message);
}

static enum mr_status encode_mqtt(struct mr_bytes record, enum mr_mode mode,
                                  struct mr_message *message)
{
    return mr_mqtt_encode(record, 5, mode, message);
}

static const struct protocol {
    const char *name;
    const char *title;
    enum mr_status (*encode)(struct mr_bytes record, enum mr_mode mode,
                             struct mr_message *message);
    enum mr_status (*print)(struct mr_buf *out, const struct mr_message *message,
                            struct mr_bytes key);
    bool batches;
} protocols[] = {
    {"http", "HTTP", mr_http_encode, print_http, true},
    {"kafka", "Kafka", mr_kafka_encode, print_kafka, false},
    {"amqp", "AMQP", encode_amqp, print_amqp, false},
    {"mqtt", "MQTT", encode_mqtt, print_mqtt, false},
};

/* All events of a batch in one body. */
static enum mr_status encode_batch(const struct mr_events *events, struct mr_message *message)
{
    message->content_type = MR_BYTES_LITERAL("application/cloudevents-batch+json");
    message->has_body = true;
    enum mr_status r = mr_buf_append_byte(&message->body, '[');
    for (uint32_t i = 0; r == MR_OK && i < events->count; i++) {
        if (i > 0) {
            r = mr_buf_append_byte(&message->body, ',');
        }
        if (r == MR_OK) {
            r = mr_json_encode_exact(mr_event_record(events->events[i]), &message->body);
        }
    }
    return r == MR_OK ? mr_buf_append_byte(&message->body, ']') : r;
}

/* The key of a Kafka record as JSON text: the user's when there is one, else the partitionkey. */
static enum mr_status append_key(struct mr_buf *out, struct mr_bytes user_key,
                                 struct mr_bytes record)
{
    struct mr_bytes partition = mr_event_value(record, "partitionkey");
    if (user_key.size > 0) {
        return mr_buf_append_bytes(out, user_key);
    }
    return partition.size > 0 ? mr_buf_append_json(out, partition)
                              : mr_buf_append_text(out, "null");
}

static enum mr_status print_events(const struct protocol *protocol, enum mr_mode mode,
                                   const struct mr_events *events, struct mr_bytes user_key,
                                   struct mr_buf *out, struct mr_problem *problem)
{
    struct mr_message message;
    struct mr_buf key;
    mr_message_init(&message);
    mr_buf_init(&key, 8 * MR_EVENT_ATTRS_SIZE_MAX);
    size_t before = out->size;
    enum mr_status r = MR_OK;
    if (mode == MR_MODE_BATCH) {
        r = encode_batch(events, &message);
    } else {
        struct mr_bytes record = mr_event_record(events->events[0]);
        r = append_key(&key, user_key, record);
        r = r == MR_OK ? protocol->encode(record, mode, &message) : r;
    }
    if (r == MR_OK) {
        r = protocol->print(out, &message, mr_buf_bytes(&key));
    }
    mr_buf_release(&key);
    mr_message_release(&message);
    if (r != MR_OK) {
        out->size = before;
        return mr_problem_set(problem, r, "the output: %s", mr_status_text(r));
    }
    return MR_OK;
}

/* A vector of an encoder holds the event beside the key of its user. */
static struct mr_bytes take_event(struct mr_bytes input, struct mr_bytes *ret_user_key)
{
    struct mr_bytes message = input;
    struct mr_bytes event;
    struct mr_bytes key;
    (void)mr__json_find(input, "message", &message); /* a whole vector */
    if (!mr__json_find(message, "encode", &event)) {
        return input;
    }
    if (mr__json_find(message, "user_key", &key) && key.data[0] == '"') {
        *ret_user_key = key;
    }
    return event;
}

enum mr_status mr_normalise_out(const char *name, enum mr_mode mode, struct mr_bytes input,
                                struct mr_buf *out, struct mr_problem *problem)
{
    const struct protocol *protocol = NULL;
    for (size_t i = 0; i < MR_ARRAY_COUNT(protocols); i++) {
        protocol = strcmp(protocols[i].name, name) == 0 ? &protocols[i] : protocol;
    }
    if (protocol == NULL) {
        return mr_problem_set(problem, MR_E_UNSUPPORTED,
                              "--to wants http, kafka, amqp or mqtt, not \"%s\"", name);
    }
    if (mode == MR_MODE_BATCH && !protocol->batches) {
        return mr_problem_set(problem, MR_E_UNSUPPORTED, "%s knows no batches of CloudEvents",
                              protocol->title);
    }
    struct mr_bytes user_key = {0};
    struct mr_events events = {0};
    enum mr_status r = read_json(take_event(input, &user_key), &events, problem);
    if (r != MR_OK) {
        return r;
    }
    if (mode != MR_MODE_BATCH && events.count != 1) {
        r = mr_problem_set(problem, MR_E_INVALID,
                           "%u events do not fit one message; use --mode batch", events.count);
    } else {
        r = print_events(protocol, mode, &events, user_key, out, problem);
    }
    mr_events_release(&events);
    return r;
}
