/* One event as a message of the channel. */
#ifndef MR_CONNECTORS_AMQP_PUBLISH_H
#define MR_CONNECTORS_AMQP_PUBLISH_H

#include "connectors/amqp/link.h"
#include "schemas/event.h"

/** The routing key and the message of the event @p record, into empty buffers.
 * @return MR_E_NOMEM; else it can never be one (the key too long, the attributes too many) */
MR_MUST_USE enum mr_status mr__amqp_encode(const struct mr_amqp_link *link,
                                           const struct mr_amqp_sink_options *options,
                                           struct mr_bytes record, struct mr_buf *key,
                                           struct mr_message *message,
                                           struct mr_problem *problem);
/** Hands it to the broker, mandatory. @param key NUL-terminated
 * @return false: the link is closed @blocks while the peer takes nothing: see link.h */
MR_MUST_USE bool mr__amqp_publish(struct mr_amqp_link *link,
                                  const struct mr_amqp_sink_options *options,
                                  struct mr_bytes record, const char *key,
                                  const struct mr_message *message);

#endif
