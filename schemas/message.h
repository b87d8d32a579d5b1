/* What the bindings share: writing a message, and telling event formats apart. Inside schemas/. */
#ifndef MR_SCHEMAS_MESSAGE_H
#define MR_SCHEMAS_MESSAGE_H

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

/** Wraps @p event, taking the reference also on failure (MR_E_NOMEM). */
MR_MUST_USE enum mr_status mr__events_of_one(struct mr_event *event,
                                             struct mr_events *ret_events);

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
/** The whole event in binary mode, field names prefixed. */
MR_MUST_USE enum mr_status mr__message_binary(struct mr_message *message, struct mr_bytes record,
                                              const char *prefix, bool percent);
/** The whole event in structured mode, or as a batch of one. */
MR_MUST_USE enum mr_status mr__message_structured(struct mr_message *message,
                                                  struct mr_bytes record, bool batch);

#endif
