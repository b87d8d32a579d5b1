/* Where a source stands in each partition it ever had: in the log, at the broker, and in between.
 *
 * The text form is the source's cursor, logged in the same group as the events it counts:
 *
 *     {"cluster":"ID","group":"millrace","topics":{"orders":{"0":124,"1":7}}}
 *
 * The numbers are the offsets to be read next. It is good for one group of one cluster: offsets of
 * another cluster mean other records, and a new group is how a user reads from the start again.
 * Not thread-safe. */
#ifndef MR_CONNECTORS_KAFKA_POSITIONS_H
#define MR_CONNECTORS_KAFKA_POSITIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/bytes.h"
#include "core/problem.h"

#define MR_KAFKA_NONE (-1ll)

/* All offsets are those to be read next; MR_KAFKA_NONE: there is none. */
struct mr_kafka_partition {
    char *topic; /* owned */
    int32_t number;
    int64_t next;      /* to be taken from the client */
    int64_t submitted; /* after the batch that is out */
    int64_t logged;    /* durable in the log, or known to be done with */
    int64_t committed; /* at the broker */
    bool assigned;
    bool stuck; /* nothing more is taken until the client was sent back to `next` */
    uint64_t beyond_since_ns; /* stuck: says its broker since then, it ends before `next`; 0: no */
};

static inline void mr__kafka_unstick(struct mr_kafka_partition *p)
{
    p->stuck = false;
    p->beyond_since_ns = 0;
}

struct mr_kafka_positions {
    struct mr_kafka_partition **items; /* owned, by topic and number; they do not move */
    uint32_t count;
    uint32_t capacity;
    struct mr_kafka_partition *last; /* borrowed: found last */
};

void mr__kafka_positions_release(struct mr_kafka_positions *positions);

/** NULL when it is not known. */
struct mr_kafka_partition *mr__kafka_positions_find(struct mr_kafka_positions *positions,
                                                    const char *topic, int32_t number);
/** Finds or adds. NULL when memory is short. */
MR_MUST_USE struct mr_kafka_partition *
mr__kafka_positions_add(struct mr_kafka_positions *positions, const char *topic, int32_t number);

/** Takes `logged` from @p cursor where it is larger than what is known.
 * @param cluster NULL when the cluster tells none: any will do
 * @return MR_E_CONFLICT: it is of another cluster or group, nothing was taken; MR_E_INVALID with
 * the reason; MR_E_NOMEM */
MR_MUST_USE enum mr_status mr__kafka_positions_load(struct mr_kafka_positions *positions,
                                                    const char *cursor, const char *cluster,
                                                    const char *group,
                                                    struct mr_problem *problem);

/** The cursor as it is when the batch that goes out is durable. */
MR_MUST_USE enum mr_status mr__kafka_positions_write(const struct mr_kafka_positions *positions,
                                                     const char *cluster, const char *group,
                                                     struct mr_buf *out);

#endif
