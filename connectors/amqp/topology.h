/* What is made or looked for at the broker before messages flow. */
#ifndef MR_CONNECTORS_AMQP_TOPOLOGY_H
#define MR_CONNECTORS_AMQP_TOPOLOGY_H

#include "connectors/amqp/link.h"

/** The queue, its exchange and bindings, the prefetch and the consumer. @p ret_waiting: messages
 * in the queue. @return false: the link is closed, its error says why @blocks as opening */
MR_MUST_USE bool mr__amqp_consume(struct mr_amqp_link *link,
                                  const struct mr_amqp_source_options *options,
                                  uint64_t *ret_waiting);
/** The exchange, and the channel in confirm mode. @return false: as above */
MR_MUST_USE bool mr__amqp_confirm(struct mr_amqp_link *link,
                                  const struct mr_amqp_sink_options *options);

#define MR_AMQP_CONSUMER_TAG "millrace"

#endif
