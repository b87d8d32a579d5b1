/* The source between its files: source.c reads and submits, group.c is a member of the group
 * (partitions come and go, positions are asked for and committed), consumer.c has the client. All
 * on the source's thread. */
#ifndef MR_CONNECTORS_KAFKA_SOURCE_H
#define MR_CONNECTORS_KAFKA_SOURCE_H

#include "connectors/backoff.h"
#include "connectors/intake.h"
#include "connectors/kafka/positions.h"
#include "connectors/kafka/record.h"

struct mr_source {
    struct mr_intake intake;
    struct mr_kafka_source_options options; /* owned copy */
    char *group;                            /* owned */
    char *cursor;  /* owned; as the log gave it, until the cluster is known. May be NULL */
    char brokers[80]; /* for people */
    int wake_fd;   /* owned eventfd: the client has something */

    /* The thread's own from here. */
    rd_kafka_t *rk;          /* owned; NULL between two tries */
    rd_kafka_queue_t *queue; /* owned, with rk */
    char *cluster;           /* owned by librdkafka; NULL: not known, or it tells none */
    struct mr_backoff backoff;
    uint64_t open_at_ns;
    bool broken;    /* the client had a fatal error */
    bool up;        /* some broker answers */
    bool closing;
    struct mr_kafka_positions positions;
    uint32_t assigned; /* partitions */
    bool joined;       /* the group gave us our share, maybe none */
    rd_kafka_topic_partition_list_t *assigning; /* owned; given, positions not yet known */
    uint64_t assign_at_ns;
    bool lost_place; /* a partition is `stuck` */
    uint64_t restart_at_ns;
    bool committing; /* a commit is on its way */
    uint64_t commit_at_ns; /* not before: a cooperative group is changing */
    bool committed_last; /* the one before partitions go was answered */
    uint64_t tick_at_ns;
    bool topics_bad; /* a topic of the options is not there, or not ours to read */
    uint64_t probe_at_ns;

    struct mr_kafka_maker maker;
    size_t batch_size;                    /* bytes at which it is full */
    struct mr_batch *filling;             /* owned; NULL when empty */
    struct mr_kafka_partition **owners;   /* owned; of the items of `filling` */
    uint32_t owners_capacity;
    bool moved;             /* `filling` moves a position, maybe without an event */
    bool more;              /* reading stopped before the client's queue was empty */
    uint64_t starving_since_ns; /* the client gave nothing, the broker has more; 0: not so */
    uint32_t nudged;        /* the partition whose broker was asked last */
    bool held;              /* the client's partitions are paused */
    uint64_t held_at_ns;
    uint64_t blocked_at_ns; /* reading stopped then; 0: it did not */
};

/* --- group.c ---------------------------------------------------------------------------------- */

/** The group gave or takes partitions. Called by the client within a poll. */
void mr__kafka_on_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t error,
                            rd_kafka_topic_partition_list_t *list, void *context);
void mr__kafka_on_committed(rd_kafka_t *rk, rd_kafka_resp_err_t error,
                            rd_kafka_topic_partition_list_t *list, void *context);
/** Goes on with partitions that were given: positions from log and broker, then fetching.
 * @blocks some seconds when the broker does not answer */
void mr__kafka_resolve(struct mr_source *source, uint64_t now_ns);
/** Commits what became durable since the last time; the answer comes with a later poll. */
void mr__kafka_commit(struct mr_source *source);
/** The broker has no record at the partition's position: decides on another and says so. */
void mr__kafka_out_of_range(struct mr_source *source, struct mr_kafka_partition *p);
/** Sends the client back to `next` where a partition is stuck. */
void mr__kafka_restart(struct mr_source *source, uint64_t now_ns);
/** Pauses or resumes the client's fetching of all partitions. */
void mr__kafka_hold(struct mr_source *source, bool hold);
/** Records the broker has beyond our place, of all our partitions. */
uint64_t mr__kafka_lag(struct mr_source *source);

/* --- consumer.c ------------------------------------------------------------------------------- */

/** Makes the client and subscribes. @return the problem; mr__kafka_reopen() then */
MR_MUST_USE enum mr_status mr__kafka_open(struct mr_source *source, struct mr_problem *problem);
/** Leaves the group, which commits what is durable, and ends the client. NULL-safe.
 * @blocks until @p deadline_ns, and a little longer */
void mr__kafka_close(struct mr_source *source, uint64_t deadline_ns);
/** Ends the client; another is made after the backoff. */
void mr__kafka_reopen(struct mr_source *source, uint64_t now_ns, const char *error);
/** While no broker answered, or a topic is not there: asks again. */
void mr__kafka_look(struct mr_source *source, uint64_t now_ns);

/* --- source.c --------------------------------------------------------------------------------- */

/** Takes what is not yet submitted of @p p (NULL: of all) out of the batch. */
void mr__kafka_forget(struct mr_source *source, const struct mr_kafka_partition *p);
/** Shows @p error (NULL: none is new) and what state the source is in. */
void mr__kafka_show(struct mr_source *source, const char *error);
/** Takes batches that came back. */
void mr__kafka_take_replies(struct mr_source *source);

#endif
