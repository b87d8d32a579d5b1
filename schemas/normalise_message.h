/* Reading what `millrace normalise` is given beside a payload: header lines, and recorded messages
 * as JSON. Inside schemas/; cold. */
#ifndef MR_SCHEMAS_NORMALISE_MESSAGE_H
#define MR_SCHEMAS_NORMALISE_MESSAGE_H

#include "schemas/binding.h"

/* A message from files. All slices point into the texts it was read from, or into memory. */
struct mr__recorded {
    struct mr_field *fields; /* owned: HTTP headers, or MQTT user properties */
    uint32_t field_count;
    uint32_t field_capacity;
    bool has_headers; /* it is a request: it has headers or a body */
    bool has_topic;   /* it is an MQTT message: a topic, a payload or user properties */
    int version;
    bool retained;
    struct mr_bytes topic;
    struct mr_bytes content_type;
    struct mr_bytes body; /* or payload */
    struct mr_buf memory; /* unescaped and decoded texts; never grows once reading has begun */
};

void mr__recorded_init(struct mr__recorded *recorded);
void mr__recorded_release(struct mr__recorded *recorded);

/** Adds the `Name: value` lines of @p text (borrowed). @return MR_E_INVALID with the line */
MR_MUST_USE enum mr_status mr__recorded_headers(struct mr__recorded *recorded, const char *text,
                                                struct mr_problem *problem);
/** Reads a recorded message: the members headers and body of a request, or version, topic,
 * content_type, user_properties, payload and retain of an MQTT message; body_base64 and
 * payload_base64 for bytes. @p text is borrowed.
 * @return MR_E_INVALID with what is wrong */
MR_MUST_USE enum mr_status mr__recorded_message(struct mr__recorded *recorded,
                                                struct mr_bytes text,
                                                struct mr_problem *problem);

#endif
