#include "core/assert.h"
#include "core/clock.h"
#include "core/limits.h"
#include "schemas/builder.h"
#include "schemas/json_format.h"
#include "schemas/json_scan.h"
#include "schemas/message.h"

/* The attribute a user property stands for: bare as the binding says, or with the ce- that one SDK
 * writes. An empty slice when it cannot name an attribute. */
static struct mr_bytes attr_name(struct mr_bytes property)
{
    if (mr_bytes_starts(property, MR_BYTES_LITERAL("ce-"))) {
        property = mr_bytes(property.data + 3, property.size - 3);
    }
    return mr__text_is_name(property) ? property : (struct mr_bytes){0};
}

static unsigned required_seen(const struct mr_mqtt_message *message)
{
    unsigned seen = 0;
    for (uint32_t i = 0; i < message->user_property_count; i++) {
        seen |= mr__required_bit(attr_name(message->user_properties[i].name));
    }
    return seen;
}

static enum mr_status decode_binary(const struct mr_mqtt_message *message, size_t size_max,
                                    struct mr_event **ret_event, struct mr_problem *problem)
{
    struct mr_bytes datacontenttype = MR_BYTES_LITERAL("datacontenttype");
    struct mr_bytes content_type = mr_bytes_trim(message->content_type);
    struct mr_event_builder builder;
    mr_event_builder_init(&builder, size_max);
    enum mr_status r = MR_OK;
    for (uint32_t i = 0; r == MR_OK && i < message->user_property_count; i++) {
        struct mr_bytes name = attr_name(message->user_properties[i].name);
        if (name.size == 0 || (content_type.size > 0 && mr_bytes_equal(name, datacontenttype))) {
            continue; /* foreign, or repeated although Content Type is the authority */
        }
        r = mr_event_builder_attr(&builder, name, MR_ATTR_STRING,
                                  message->user_properties[i].value, problem);
    }
    return mr__binary_end(&builder, r, content_type, message->payload, message->payload.size > 0,
                          ret_event, problem);
}

/* A message that does not say what it is: a CloudEvent in JSON, as version 3.1.1 always has it (and
 * a broker hands on to version 5 without a Content Type), or telemetry. What says it is a
 * CloudEvent has to be a valid one. */
static enum mr_status decode_implied(struct mr_bytes payload, size_t size_max,
                                     struct mr_event **ret_event, struct mr_problem *problem)
{
    if (mr__may_be_event(payload)) {
        struct mr_problem inner = {0};
        enum mr_status r = mr_json_decode_event(payload, size_max, ret_event, &inner);
        if (r == MR_OK) {
            return MR_OK;
        }
        struct mr_bytes version;
        if (r == MR_E_NOMEM || mr__json_find(payload, "specversion", &version)) {
            return mr_problem_set(problem, r, "%s", inner.text);
        }
    }
    return mr_problem_set(problem, MR_E_NOT_CLOUDEVENT,
                          "not a CloudEvent: the payload is no JSON object with specversion");
}

enum mr_status mr_mqtt_decode(const struct mr_mqtt_message *message, size_t size_max,
                              struct mr_event **ret_event, struct mr_problem *problem)
{
    if (message->version < 5) {
        return decode_implied(message->payload, size_max, ret_event, problem);
    }
    enum mr__format format = mr__format_of(message->content_type);
    if (format == MR__FORMAT_EVENT) {
        return mr_json_decode_event(message->payload, size_max, ret_event, problem);
    }
    unsigned seen = required_seen(message);
    if (seen == MR__REQUIRED_ALL) {
        return decode_binary(message, size_max, ret_event, problem);
    }
    if (format == MR__FORMAT_BATCH) {
        return mr_problem_set(problem, MR_E_UNSUPPORTED, "MQTT knows no batches of CloudEvents");
    }
    if (format == MR__FORMAT_UNKNOWN) {
        return mr__format_refused(message->content_type, problem);
    }
    if (seen == 0 && message->content_type.size == 0) {
        return decode_implied(message->payload, size_max, ret_event, problem);
    }
    return mr_problem_set(problem, MR_E_NOT_CLOUDEVENT,
                          "not a CloudEvent: the user property %s is missing",
                          mr__required_missing(seen));
}

/* What a known kind of telemetry says about itself; empty slices where the defaults hold. */
struct telemetry {
    struct mr_buf type;
    struct mr_buf id;
    char time[MR_TIME_TEXT_SIZE + 24];
    struct mr_bytes datacontenttype;
    bool json; /* the payload was found to be one JSON value */
};

/* The nth part of @p topic between slashes. */
static struct mr_bytes topic_level(struct mr_bytes topic, unsigned n)
{
    for (;;) {
        const uint8_t *slash = topic.size == 0 ? NULL : memchr(topic.data, '/', topic.size);
        size_t size = slash == NULL ? topic.size : (size_t)(slash - topic.data);
        if (n-- == 0) {
            return mr_bytes(topic.data, size);
        }
        if (slash == NULL) {
            return (struct mr_bytes){0};
        }
        topic = mr_bytes(slash + 1, topic.size - size - 1);
    }
}

/* Sparkplug B: the type is in the topic, the time in the payload (epoch milliseconds) when that is
 * the JSON rendering and not protobuf. */
static enum mr_status read_sparkplug(const struct mr_mqtt_message *message, struct telemetry *t)
{
    static const char *const kinds[] = {"NBIRTH", "NDEATH", "DBIRTH", "DDEATH", "NDATA",
                                        "DDATA",  "NCMD",   "DCMD",   "STATE"};
    if (!mr_bytes_equal(topic_level(message->topic, 0), MR_BYTES_LITERAL("spBv1.0"))) {
        return MR_OK;
    }
    /* namespace/group/KIND/node[/device]; but that of a host is namespace/STATE/host */
    struct mr_bytes kind = topic_level(message->topic, 1);
    if (!mr_bytes_equal(kind, MR_BYTES_LITERAL("STATE"))) {
        kind = topic_level(message->topic, 2);
    }
    for (size_t i = 0; i < MR_ARRAY_COUNT(kinds); i++) {
        if (!mr_bytes_equal(kind, mr_bytes_of(kinds[i]))) {
            continue;
        }
        struct mr_bytes value;
        uint64_t ms;
        if (mr__json_find(message->payload, "timestamp", &value) && mr_parse_u64(value, &ms) &&
            ms < INT64_MAX) {
            (void)mr__time_of_ms((int64_t)ms, t->time); /* else the receive time holds */
        }
        return mr_buf_printf(&t->type, "org.sparkplug.%s", kinds[i]);
    }
    return MR_OK;
}

/* A member that is a string without escapes, or a number, as its text. */
static bool find_plain(struct mr_bytes object, const char *name, struct mr_bytes *ret_text)
{
    struct mr_bytes value;
    if (!mr__json_find(object, name, &value)) {
        return false;
    }
    if (value.data[0] == '"') {
        value = mr_bytes(value.data + 1, value.size - 2);
    }
    *ret_text = value;
    return value.size > 0 && value.size < 256 && memchr(value.data, '\\', value.size) == NULL &&
           strchr("{[", value.data[0]) == NULL;
}

/* The Things Stack: device, session and frame counter name an uplink for ever. */
static enum mr_status read_lorawan(const struct mr_mqtt_message *message, struct telemetry *t)
{
    struct mr_bytes ids;
    struct mr_bytes uplink;
    struct mr_bytes device;
    struct mr_bytes session;
    struct mr_bytes counter;
    struct mr_bytes time;
    if (!mr_bytes_ends(message->topic, MR_BYTES_LITERAL("/up")) ||
        !mr__json_find(message->payload, "end_device_ids", &ids) ||
        !mr__json_find(message->payload, "uplink_message", &uplink) ||
        (!find_plain(ids, "dev_eui", &device) && !find_plain(ids, "device_id", &device))) {
        return MR_OK;
    }
    if (find_plain(message->payload, "received_at", &time) && mr_time_parse(time, NULL) &&
        time.size < sizeof(t->time)) {
        memcpy(t->time, time.data, time.size);
        t->time[time.size] = '\0';
    }
    enum mr_status r = mr_buf_append_text(&t->type, "org.thethings.lorawan.uplink");
    if (r == MR_OK && find_plain(uplink, "session_key_id", &session) &&
        find_plain(uplink, "f_cnt", &counter)) {
        r = mr_buf_printf(&t->id, "%.*s/%.*s/%.*s", (int)device.size, (const char *)device.data,
                          (int)session.size, (const char *)session.data, (int)counter.size,
                          (const char *)counter.data);
    }
    return r;
}

static enum mr_status make_source(const struct mr_mqtt_message *message, struct mr_bytes broker,
                                  struct mr_buf *out)
{
    enum mr_status r = mr_buf_append_text(out, "/mqtt/");
    if (r == MR_OK) {
        r = mr__text_append_path(out, broker);
    }
    if (r == MR_OK && message->topic.size > 0) {
        r = mr_buf_append_byte(out, '/');
    }
    return r == MR_OK ? mr__text_append_path(out, message->topic) : r;
}

static void guess_type(const struct mr_mqtt_message *message, struct telemetry *t)
{
    struct mr_bytes given = mr_bytes_trim(message->content_type);
    if (mr__text_is_media_type(given) && mr__text_is_string(given)) {
        t->datacontenttype = given;
    } else if (message->payload.size > 0) {
        t->json = mr_json_is_value(message->payload);
        t->datacontenttype = t->json ? MR_BYTES_LITERAL("application/json")
                                     : MR_BYTES_LITERAL("application/octet-stream");
    }
}

/* The attributes in the order they get in the record. */
static enum mr_status add_attrs(struct mr_event_builder *builder,
                                const struct mr_mqtt_message *message, struct mr_bytes source,
                                struct mr_bytes id, const struct telemetry *t,
                                const char *received, struct mr_problem *problem)
{
    bool own_time = t->time[0] != '\0';
    const struct {
        const char *name;
        enum mr_attr_type type;
        struct mr_bytes value;
    } attrs[] = {
        {"id", MR_ATTR_STRING, t->id.size > 0 ? mr_buf_bytes(&t->id) : id},
        {"source", MR_ATTR_URI_REF, source},
        {"type", MR_ATTR_STRING,
         t->type.size > 0 ? mr_buf_bytes(&t->type) : MR_BYTES_LITERAL("org.mqtt.message")},
        {"subject", MR_ATTR_STRING, message->topic},
        {"time", MR_ATTR_TIMESTAMP, mr_bytes_of(own_time ? t->time : received)},
        {"datacontenttype", MR_ATTR_STRING, t->datacontenttype},
        {"recordedtime", MR_ATTR_TIMESTAMP, mr_bytes_of(own_time ? received : "")},
        {"retained", MR_ATTR_BOOLEAN, mr_bytes_of(message->retained ? "true" : "")},
    };
    enum mr_status r = MR_OK;
    for (size_t i = 0; r == MR_OK && i < MR_ARRAY_COUNT(attrs); i++) {
        if (attrs[i].value.size > 0 || i < 3) {
            r = mr_event_builder_attr(builder, mr_bytes_of(attrs[i].name), attrs[i].type,
                                      attrs[i].value, problem);
        }
    }
    return r;
}

enum mr_status mr_mqtt_wrap(const struct mr_mqtt_message *message, struct mr_bytes broker,
                            struct mr_bytes id, uint64_t received_wall_ns, size_t size_max,
                            struct mr_event **ret_event, struct mr_problem *problem)
{
    char received[MR_TIME_TEXT_SIZE];
    mr_time_format(received_wall_ns, received);
    struct telemetry t = {0};
    guess_type(message, &t);
    struct mr_buf source;
    mr_buf_init(&t.type, 256);
    mr_buf_init(&t.id, 1024);
    mr_buf_init(&source, MR_EVENT_ATTRS_SIZE_MAX * 4);
    struct mr_event_builder builder;
    mr_event_builder_init(&builder, size_max);
    enum mr_status r = make_source(message, broker, &source);
    if (r == MR_OK) {
        r = read_sparkplug(message, &t);
    }
    if (r == MR_OK) {
        r = read_lorawan(message, &t);
    }
    if (r == MR_OK) {
        r = add_attrs(&builder, message, mr_buf_bytes(&source), id, &t, received, problem);
    } else {
        (void)mr_problem_set(problem, r, "the topic is too long, or memory is short");
    }
    if (r == MR_OK && message->payload.size > 0) {
        mr_event_builder_data(&builder, message->payload, false);
        builder.flags |= t.json ? MR_EVENT_DATA_JSON : 0; /* so that nobody looks again */
    }
    if (r == MR_OK) {
        r = mr_event_builder_finish(&builder, true, ret_event, problem);
    }
    mr_event_builder_release(&builder);
    mr_buf_release(&source);
    mr_buf_release(&t.id);
    mr_buf_release(&t.type);
    return r;
}

enum mr_status mr_mqtt_encode(struct mr_bytes record, int version, enum mr_mode mode,
                              struct mr_message *message)
{
    if (mode == MR_MODE_BATCH) {
        return MR_E_UNSUPPORTED;
    }
    if (version >= 5 && mode == MR_MODE_BINARY) {
        return mr__message_binary(message, record, "", false);
    }
    enum mr_status r = mr__message_structured(message, record, false);
    if (version < 5) {
        message->content_type = (struct mr_bytes){0}; /* implied: 3.1.1 has no place for it */
    }
    return r;
}
