/* `millrace normalise`: files in, files out, through the same bindings and adapters as the
 * connectors (design 10.2 and 10.4 fix the forms). Pure: text in, text out. */
#ifndef MR_SCHEMAS_NORMALISE_H
#define MR_SCHEMAS_NORMALISE_H

#include "schemas/binding.h"

struct mr_normalise_options {
    const char *as;           /* kafka, amqp, mqtt, nats, or a word of mr_adapter_words */
    const char *source_name;  /* --name, default "normalise" */
    const char *topic;        /* --topic, or the queue; may be NULL */
    const char *headers_text; /* `Name: value` lines, may be NULL */
    bool message;             /* the input is a recorded message: JSON as the `message` and
                                 `request` objects of conformance/vectors */
    uint64_t wall_ns;         /* receive time */
    uint64_t unique;          /* seeds generated ids */
};

/** Appends one CloudEvents JSON per line. Control messages give nothing.
 * @return MR_E_INVALID and its kin: exit 65 with the problem */
MR_MUST_USE enum mr_status mr_normalise_in(const struct mr_normalise_options *options,
                                           struct mr_bytes input, struct mr_buf *out,
                                           struct mr_problem *problem);

/** A CloudEvents JSON event (or array, for batch) to the protocol message as JSON text:
 * - http {"headers":{…},"body":"…"};
 * - kafka {"key":…,"headers":{…},"value":"…"}: the key is the event's partitionkey, else null, and
 *   no data is a null value; {"encode":EVENT,"user_key":KEY} as input gives the key;
 * - amqp {"protocol":"0-9-1","content_type":…,"headers":{…},"body":"…"}, names with cloudEvents:;
 * - mqtt {"version":5,"content_type":…,"user_properties":[[n,v]…],"payload":"…"}.
 * A body that is not UTF-8 goes out as body_base64, value_base64, payload_base64. */
MR_MUST_USE enum mr_status mr_normalise_out(const char *protocol, enum mr_mode mode,
                                            struct mr_bytes input, struct mr_buf *out,
                                            struct mr_problem *problem);

#endif
