/* Reading what `millrace normalise` is given beside a payload: header lines, and recorded messages
 * as JSON. Inside schemas/; cold. */
#ifndef MR_SCHEMAS_NORMALISE_MESSAGE_H
#define MR_SCHEMAS_NORMALISE_MESSAGE_H

#include "schemas/binding.h"

/* What kind of message a recording is by its members. */
enum mr__recorded_kind {
    MR__RECORDED_PAYLOAD = 0, /* no message: a payload, and perhaps header lines */
    MR__RECORDED_HTTP,        /* headers or a body */
    MR__RECORDED_MQTT,        /* a topic, a payload or user properties */
    MR__RECORDED_KAFKA,       /* a value, or a partition and offset */
    MR__RECORDED_AMQP,        /* a protocol, or (application) properties */
    MR__RECORDED_JMS,         /* only inside an envelope of AWS */
};

/* A message from files. All slices point into the texts it was read from, or into memory. */
struct mr__recorded {
    enum mr__recorded_kind kind;
    struct mr_field *fields; /* owned: headers, or (application or user) properties, as text */
    struct mr_amqp_header *typed; /* owned: the same with their types */
    uint32_t field_count;
    uint32_t field_capacity;
    struct mr_bytes content_type;
    struct mr_bytes body; /* or payload, or value */
    bool has_body;        /* and it is not null */
    /* MQTT */
    int version;
    bool retained;
    struct mr_bytes topic; /* of Kafka too; or the queue */
    /* Kafka */
    struct mr_bytes key;
    bool has_key;
    int32_t partition;
    int64_t offset;
    /* AMQP */
    bool is_1_0;
    struct mr_bytes message_id;
    int64_t timestamp_ms; /* of Kafka too; -1: none */

    struct mr_buf memory; /* unescaped and decoded texts; never grows once reading has begun */
};

void mr__recorded_init(struct mr__recorded *recorded);
void mr__recorded_release(struct mr__recorded *recorded);

/** Adds the `Name: value` lines of @p text (borrowed). @return MR_E_INVALID with the line */
MR_MUST_USE enum mr_status mr__recorded_headers(struct mr__recorded *recorded, const char *text,
                                                struct mr_problem *problem);

/** Reads a recorded message, a JSON object as the `message` and `request` members of
 * conformance/vectors are; what a message may hold:
 * - http: headers, body;
 * - mqtt: version (4 or 5), topic, content_type, user_properties, payload, retain;
 * - kafka: topic, partition, offset, timestamp_ms, key, headers, value (null: a tombstone);
 * - amqp: protocol ("0-9-1" or "1.0"), queue, content_type, message_id, timestamp (seconds in
 *   0-9-1, milliseconds in 1.0; or timestamp_ms), headers or properties, body.
 * Bytes that are no text have _base64 behind the member's name. Headers and properties are an
 * object, or a list of pairs where names repeat (or an object whose values are lists). A value may
 * be typed: a JSON boolean or number, or {"$long": 5}, {"$timestamp": …}, {"$binary": base64},
 * {"$bool": true}; other types (float, table, array) are kept as such. @p text is borrowed; what
 * recorded->kind says before is what the message is unless its members say more.
 * @return MR_E_INVALID with what is wrong; MR_E_TOO_BIG, MR_E_NOMEM */
MR_MUST_USE enum mr_status mr__recorded_message(struct mr__recorded *recorded,
                                                struct mr_bytes text,
                                                struct mr_problem *problem);

/** Whether @p text is an event of AWS Lambda that holds messages of MSK or Amazon MQ. */
bool mr__recorded_is_aws(struct mr_bytes text);
/** Hands each message of such an event to @p run. @return what @p run returned first that was not
 * MR_OK; MR_E_INVALID for an event that is not formed as AWS forms them */
MR_MUST_USE enum mr_status
mr__recorded_aws(struct mr_bytes text,
                 enum mr_status (*run)(void *context, struct mr__recorded *recorded), void *context,
                 struct mr_problem *problem);

/** A message of JMS wrapped: type org.jms.message, source /jms/<destination>, subject the
 * destination, id the message's, else @p id; time the message's, else the receive time. */
MR_MUST_USE enum mr_status mr__recorded_jms(const struct mr__recorded *recorded,
                                            struct mr_bytes id, uint64_t received_wall_ns,
                                            struct mr_event **ret_event,
                                            struct mr_problem *problem);

/* For readers of other recordings. */

/** Room for all texts of @p size bytes of JSON; once, before anything is read. */
MR_MUST_USE enum mr_status mr__recorded_reserve(struct mr__recorded *recorded, size_t size);
/** The text a JSON value stands for: a string's characters, anything else as it is written. */
MR_MUST_USE enum mr_status mr__recorded_text(struct mr__recorded *recorded, struct mr_bytes value,
                                             struct mr_bytes *ret_text,
                                             struct mr_problem *problem);
/** The bytes that a JSON string holds in base64. */
MR_MUST_USE enum mr_status mr__recorded_base64(struct mr__recorded *recorded,
                                               struct mr_bytes value, struct mr_bytes *ret_bytes,
                                               struct mr_problem *problem);
/** The bytes of a JSON array of numbers from -128 to 255. */
MR_MUST_USE enum mr_status mr__recorded_octets(struct mr__recorded *recorded,
                                               struct mr_bytes value, struct mr_bytes *ret_bytes,
                                               struct mr_problem *problem);
/** Adds one header or property; @p header->text as the field's value where it has one. */
MR_MUST_USE enum mr_status mr__recorded_add(struct mr__recorded *recorded,
                                            struct mr_amqp_header header,
                                            struct mr_problem *problem);
/** A JSON integer, in quotes or not. @return false: something else, or beyond 64 bits */
bool mr__recorded_integer(struct mr_bytes value, int64_t *ret_number);

#endif
