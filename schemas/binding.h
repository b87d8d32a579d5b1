/* Protocol bindings: HTTP (digest section 3), Kafka (4), AMQP (5) and MQTT (6), both ways, pure
 * functions.
 *
 * A message is protocol-neutral here: named text fields plus a body. The connectors fill it from
 * their library and send what comes back; `millrace normalise` does the same with files. */
#ifndef MR_SCHEMAS_BINDING_H
#define MR_SCHEMAS_BINDING_H

#include "schemas/event.h"

enum mr_mode {
    MR_MODE_BINARY = 0,
    MR_MODE_STRUCTURED,
    MR_MODE_BATCH,
};

struct mr_field {
    struct mr_bytes name;
    struct mr_bytes value;
};

/* A decoded message's events. Release with mr_events_release(). */
struct mr_events {
    struct mr_event **events; /* owned, one reference each; NULL when count is 0 */
    uint32_t count;
};
void mr_events_release(struct mr_events *events);

/* An encoded message; all memory lies in the buffers. */
struct mr_message {
    struct mr_buf text;      /* names and values of the fields, NUL-terminated each */
    struct mr_field *fields; /* owned array; slices into text (valid once encoding is done) */
    uint32_t field_count;
    struct mr_bytes content_type; /* empty when none; slice into text; not among the fields */
    struct mr_buf body;
    bool has_body; /* false: the event has no data (Kafka: a null value) */
};
void mr_message_init(struct mr_message *message);
void mr_message_release(struct mr_message *message);

/** HTTP headers (names in any case; may repeat; content-type among them) and body to events.
 * @return MR_OK (binary and structured: one event; batch: 0..n);
 * MR_E_NOT_CLOUDEVENT: binary mode without the four required headers;
 * MR_E_UNSUPPORTED: an event format we do not know (HTTP 415) or another specversion (HTTP 400:
 * the problem says which; *ret_format_unknown tells them apart);
 * MR_E_INVALID, MR_E_TOO_BIG, MR_E_NOMEM */
MR_MUST_USE enum mr_status mr_http_decode(const struct mr_field *headers, uint32_t header_count,
                                          struct mr_bytes body, size_t size_max,
                                          struct mr_events *ret_events, bool *ret_format_unknown,
                                          struct mr_problem *problem);

/** One event to HTTP headers (ce-… percent-encoded) and body, or structured JSON. */
MR_MUST_USE enum mr_status mr_http_encode(struct mr_bytes record, enum mr_mode mode,
                                          struct mr_message *message);
/** Adds another event to a message made with MR_MODE_BATCH.
 * @return MR_E_TOO_BIG, MR_E_NOMEM: the message is no good any more */
MR_MUST_USE enum mr_status mr_http_encode_more(struct mr_bytes record,
                                               struct mr_message *message);

/** A NATS message that is a CloudEvent (digest 7): as HTTP, but datacontenttype is a ce- header too
 * and Content-Type only names an event format; without ce- headers the payload may be one in JSON.
 * @return as mr_http_decode() */
MR_MUST_USE enum mr_status mr_nats_decode(const struct mr_field *headers, uint32_t header_count,
                                          struct mr_bytes payload, size_t size_max,
                                          struct mr_events *ret_events,
                                          struct mr_problem *problem);

struct mr_mqtt_message {
    int version; /* 4 = 3.1.1, 5 = 5.0 */
    struct mr_bytes topic;
    struct mr_bytes content_type; /* MQTT 5 property; empty when absent */
    const struct mr_field *user_properties;
    uint32_t user_property_count;
    struct mr_bytes payload;
    bool retained;
};

/** An MQTT message that is a CloudEvent. @return MR_E_NOT_CLOUDEVENT for plain telemetry */
MR_MUST_USE enum mr_status mr_mqtt_decode(const struct mr_mqtt_message *message, size_t size_max,
                                          struct mr_event **ret_event, struct mr_problem *problem);

/** Plain telemetry wrapped (digest 13.4 and 13.10): type org.mqtt.message, source
 * /mqtt/<broker>/<topic>, subject the topic, id as given, time the receive time, data the payload
 * (datacontenttype from the property, else application/json when it is one JSON value, else
 * text/plain; charset=utf-8 when UTF-8, else application/octet-stream), extension retained=true.
 * @param broker the source's name; @param id unique per message */
MR_MUST_USE enum mr_status mr_mqtt_wrap(const struct mr_mqtt_message *message,
                                        struct mr_bytes broker, struct mr_bytes id,
                                        uint64_t received_wall_ns, size_t size_max,
                                        struct mr_event **ret_event, struct mr_problem *problem);

/** One event to MQTT: user properties with bare names (version 5 binary), else structured JSON. */
MR_MUST_USE enum mr_status mr_mqtt_encode(struct mr_bytes record, int version, enum mr_mode mode,
                                          struct mr_message *message);

/* --- Kafka ------------------------------------------------------------------------------------ */

struct mr_kafka_record {
    struct mr_bytes topic;
    int32_t partition;
    int64_t offset;
    struct mr_bytes key;
    bool has_key;
    struct mr_bytes value;
    bool has_value; /* false: null, a tombstone; an empty value is another thing */
    const struct mr_field *headers; /* as they came, repeats included; value.data NULL: null */
    uint32_t header_count;
    int64_t timestamp_ms; /* since 1970; -1: none */
};

/** A record that is a CloudEvent, binary or structured (digest section 4), or a JSON batch; or,
 * without any header, in JSON. Header names are case-sensitive but for content-type; a null header
 * leaves its attribute unset, a repeated one makes the event invalid; a null value is no data, an
 * empty one is. The key changes nothing in the event.
 * @return MR_E_NOT_CLOUDEVENT for a raw record; MR_E_INVALID, MR_E_UNSUPPORTED (an event format or
 * specversion we do not know), MR_E_TOO_BIG with the reason; MR_E_NOMEM */
MR_MUST_USE enum mr_status mr_kafka_decode(const struct mr_kafka_record *record, size_t size_max,
                                           struct mr_events *ret_events,
                                           struct mr_problem *problem);

/** A raw record wrapped as Knative does it (digest 13.5), so that its users keep their filters:
 * - type dev.knative.kafka.event, id "partition:P/offset:O", subject "partition:P#O";
 * - source /apis/v1/namespaces/NS/kafkasources/NAME#TOPIC. Millrace has no namespaces: the source's
 *   name stands for NS and "src" for NAME; a name of the form NS/NAME fills both;
 * - time the record's timestamp, else the receive time;
 * - datacontenttype the header content-type in lower case; without one it stays unset, and an
 *   object or array in JSON is JSON data, anything else bytes;
 * - extensions key and partitionkey, and each other header as kafkaheader and its name in lower
 *   case without what a name cannot hold, the last of several; base64 where bytes are no text.
 * @param source_name the source's name, stands in `source`
 * @return MR_E_TOO_BIG: more headers or bytes than an event may have; MR_E_INVALID, MR_E_NOMEM */
MR_MUST_USE enum mr_status mr_kafka_wrap(const struct mr_kafka_record *record,
                                         struct mr_bytes source_name, uint64_t received_wall_ns,
                                         size_t size_max, struct mr_event **ret_event,
                                         struct mr_problem *problem);

/** One event to Kafka: headers ce_… and content-type (message->content_type), or structured. The
 * key is the sink's business. message->has_body false: a null value. */
MR_MUST_USE enum mr_status mr_kafka_encode(struct mr_bytes record, enum mr_mode mode,
                                           struct mr_message *message);

/* --- AMQP ------------------------------------------------------------------------------------- */

enum mr_amqp_type {
    MR_AMQP_STRING = 0,
    MR_AMQP_BOOL,
    MR_AMQP_INTEGER,
    MR_AMQP_TIMESTAMP, /* number: ms since 1970 */
    MR_AMQP_BINARY,
    MR_AMQP_OTHER, /* tables, arrays, floats: not mapped */
};

struct mr_amqp_header {
    struct mr_bytes name;
    enum mr_amqp_type type;
    struct mr_bytes text; /* STRING, BINARY */
    int64_t number;       /* BOOL, INTEGER, TIMESTAMP */
};

struct mr_amqp_message {
    bool is_1_0; /* else 0-9-1 */
    struct mr_bytes content_type; /* property; empty when absent */
    struct mr_bytes message_id;   /* property; empty when absent */
    int64_t timestamp_ms;         /* property; -1 when absent */
    const struct mr_amqp_header *headers; /* 1.0: application-properties */
    uint32_t header_count;
    struct mr_bytes body;
};

/** A message that is a CloudEvent: 0-9-1 by all four habits of digest 5.2, in its order, 1.0 by 5.1
 * (cloudEvents_ or cloudEvents:, not both in one message); structured by its content type, and a
 * JSON batch. An empty body is no data. 1.0 refuses what no attribute can be (a number beyond 32
 * bits, a float, a map); 0-9-1, which has no binding, carries long numbers as text and drops
 * tables, arrays and floats.
 * @return MR_E_NOT_CLOUDEVENT for a raw message; else as mr_kafka_decode() */
MR_MUST_USE enum mr_status mr_amqp_decode(const struct mr_amqp_message *message, size_t size_max,
                                          struct mr_events *ret_events,
                                          struct mr_problem *problem);

/** A raw message wrapped as Knative does it (digest 5.2): type dev.knative.rabbitmq.event, id the
 * message_id, else @p id, subject the same; time its timestamp, else the receive time; data the
 * body under its content type, without one as mr_kafka_wrap() has it; its headers are not carried
 * over. Source is /apis/v1/namespaces/NS/rabbitmqsources/NAME#QUEUE, NS and NAME as there.
 * @param source_name the source's name; @param queue stands in `source` beside it
 * @param id unique per message, the same when it comes again if possible */
MR_MUST_USE enum mr_status mr_amqp_wrap(const struct mr_amqp_message *message,
                                        struct mr_bytes source_name, struct mr_bytes queue,
                                        struct mr_bytes id, uint64_t received_wall_ns,
                                        size_t size_max, struct mr_event **ret_event,
                                        struct mr_problem *problem);

/* How attributes are named in the headers of a 0-9-1 message (digest 5.2). */
enum mr_amqp_habit {
    MR_AMQP_CLOUDEVENTS_COLON = 0, /* cloudEvents:id */
    MR_AMQP_CLOUDEVENTS_UNDERSCORE, /* cloudEvents_id */
    MR_AMQP_CE_DASH,                /* ce-id */
    MR_AMQP_BARE,                   /* id */
};

/** One event to AMQP: all values as strings in message->fields, body, content type. */
MR_MUST_USE enum mr_status mr_amqp_encode(struct mr_bytes record, enum mr_amqp_habit habit,
                                          enum mr_mode mode, struct mr_message *message);

#endif
