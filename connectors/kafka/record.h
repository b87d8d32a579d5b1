/* One Kafka record into a batch: the events it holds, a raw one wrapped or through the adapter,
 * what is neither as an ingest dead letter. */
#ifndef MR_CONNECTORS_KAFKA_RECORD_H
#define MR_CONNECTORS_KAFKA_RECORD_H

#include "connectors/kafka/kafka.h"

struct mr_kafka_maker {
    const char *source_name; /* borrowed */
    int adapter;             /* word of connectors/adapting.h */
    const char *content_type; /* borrowed; of raw records that tell none; may be NULL */
    size_t event_size_max;
};

/** Adds the record's events (0..n) to @p batch: all of them or none.
 * @param[out] ret_error why it became a dead letter; "" when it did not
 * @return MR_E_NOMEM only: @p batch is as before, the record must be read again */
MR_MUST_USE enum mr_status mr__kafka_take_record(const struct mr_kafka_maker *maker,
                                                 const rd_kafka_message_t *message,
                                                 struct mr_batch *batch,
                                                 struct mr_problem *ret_error);

/** Takes the last items out of @p batch until @p count are left. */
void mr__kafka_cut_batch(struct mr_batch *batch, uint32_t count);

#endif
