/* One AMQP message to its events. */
#ifndef MR_CONNECTORS_AMQP_MESSAGE_H
#define MR_CONNECTORS_AMQP_MESSAGE_H

#include "bus/ports.h"
#include "connectors/amqp/content.h"

/* What the messages of one source have in common. */
struct mr_amqp_maker {
    const char *source_name; /* borrowed */
    const char *queue;       /* borrowed */
    size_t event_size_max;
    int adapter;      /* of connectors/adapting.h */
    uint64_t boot;    /* random: ids of messages without one are unique over restarts */
    uint64_t counter;
};

/** Adds the events of a whole message to @p batch: those it holds, itself wrapped, or an ingest
 * dead letter when it makes no sense.
 * @return MR_E_NOMEM: some may have been added; MR_E_UNSUPPORTED: it comes from a stream, whose
 * messages are not given again when they are not acknowledged */
MR_MUST_USE enum mr_status mr__amqp_add(struct mr_amqp_maker *maker,
                                        const struct mr_amqp_content *content,
                                        struct mr_batch *batch);

#endif
