/* What the bindings share: telling event formats apart, reading the end of a message, writing one,
 * and what raw messages are called when they are wrapped. Inside schemas/. */
#ifndef MR_SCHEMAS_MESSAGE_H
#define MR_SCHEMAS_MESSAGE_H

#include "core/clock.h"
#include "schemas/binding.h"
#include "schemas/text.h"

enum mr__format {
    MR__FORMAT_NONE = 0, /* no event format: binary mode, or no CloudEvent */
    MR__FORMAT_EVENT,    /* application/cloudevents+json */
    MR__FORMAT_BATCH,    /* application/cloudevents-batch+json */
    MR__FORMAT_UNKNOWN,  /* application/cloudevents… and something else */
};

/** What a Content-Type says, ASCII case-insensitive, parameters ignored. */
enum mr__format mr__format_of(struct mr_bytes content_type);

/** "The event format … is not supported": MR_E_UNSUPPORTED. */
enum mr_status mr__format_refused(struct mr_bytes content_type, struct mr_problem *problem);

/* The four attributes that make a message in binary mode a CloudEvent. */
#define MR__REQUIRED_ALL 15u
/** The bit of the required attribute @p name, 0 for any other. */
unsigned mr__required_bit(struct mr_bytes name);
/** The first required attribute whose bit is not in @p seen; "" when all are. */
const char *mr__required_missing(unsigned seen);

/** The events of a structured message (MR__FORMAT_EVENT: one) or batch (MR__FORMAT_BATCH). */
MR_MUST_USE enum mr_status mr__events_of_json(enum mr__format format, struct mr_bytes body,
                                              size_t size_max, struct mr_events *ret_events,
                                              struct mr_problem *problem);
/** Ends a message in binary mode whose attributes are in @p builder, which is released: the
 * datacontenttype from @p content_type unless that is empty, the data from @p body if there is one.
 * @param so_far what reading the attributes returned; passed on when it failed */
MR_MUST_USE enum mr_status mr__binary_end(struct mr_event_builder *builder, enum mr_status so_far,
                                          struct mr_bytes content_type, struct mr_bytes body,
                                          bool has_body, struct mr_event **ret_event,
                                          struct mr_problem *problem);

/** The `source` of a raw broker message (digest 13.5): /apis/v1/namespaces/NS/KIND/NAME#PLACE.
 * Millrace has no namespaces: @p source_name stands in the place of NS and "src" in that of NAME;
 * a name of the form NS/NAME fills both. What a URI cannot hold is percent-encoded.
 * @return MR_E_TOO_BIG, MR_E_NOMEM with the problem */
MR_MUST_USE enum mr_status mr__raw_source(struct mr_buf *out, const char *kind,
                                          struct mr_bytes source_name, struct mr_bytes place,
                                          struct mr_problem *problem);
/** Whether @p text may be an event in JSON: a cheap look, for most messages are none. False is
 * certain, true is not. */
bool mr__may_be_event(struct mr_bytes text);

/** Ends a raw broker message whose attributes are in @p builder, which is released: its data from
 * @p body if there is one. Without a datacontenttype an object or array in JSON is JSON data, for
 * which the JSON format implies the type; anything else is bytes.
 * @param so_far what setting the attributes returned; passed on when it failed */
MR_MUST_USE enum mr_status mr__raw_end(struct mr_event_builder *builder, enum mr_status so_far,
                                       struct mr_bytes body, bool has_body,
                                       struct mr_event **ret_event, struct mr_problem *problem);
/** Milliseconds since 1970 as RFC 3339. @return false: none (negative), or beyond what the clock of
 * Millrace can hold; @p text untouched */
bool mr__time_of_ms(int64_t ms, char text[MR_TIME_TEXT_SIZE]);

/** Wraps @p event, taking the reference also on failure (MR_E_NOMEM). */
MR_MUST_USE enum mr_status mr__events_of_one(struct mr_event *event, struct mr_events *ret_events,
                                             struct mr_problem *problem);

/** Makes room for all attributes of @p record, each percent-encoded and prefixed, and for one
 * content type more, so that slices into the text stay valid. Once per message. */
MR_MUST_USE enum mr_status mr__message_reserve(struct mr_message *message, struct mr_bytes record,
                                               size_t prefix_size);
/** Adds a field; the room was reserved. @p percent: encode the value for an HTTP header. */
void mr__message_add(struct mr_message *message, const char *prefix, struct mr_bytes name,
                     struct mr_bytes value, bool percent);
/** Sets the content type; last, or it moves the text of the fields. */
MR_MUST_USE enum mr_status mr__message_content_type(struct mr_message *message,
                                                    struct mr_bytes value);
/** The whole event in binary mode, field names prefixed; but in structured mode when its data is an
 * event itself, which a receiver would take for the message. */
MR_MUST_USE enum mr_status mr__message_binary(struct mr_message *message, struct mr_bytes record,
                                              const char *prefix, bool percent);
/** The whole event in structured mode, or as a batch of one. */
MR_MUST_USE enum mr_status mr__message_structured(struct mr_message *message,
                                                  struct mr_bytes record, bool batch);

#endif
