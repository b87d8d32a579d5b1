/* The inside of source `via: sqs`, shared by sqs.c (receives, submits, the thread) and
 * sqs_errands.c (deletes, gives back, extends). All on the source's thread. */
#ifndef MR_CONNECTORS_OBJECTSTORE_SQS_H
#define MR_CONNECTORS_OBJECTSTORE_SQS_H

#include "connectors/backoff.h"
#include "connectors/intake.h"
#include "connectors/objectstore/objectstore.h"
#include "connectors/objectstore/sqs_wire.h"

#define MR_SQS_POLLS_MAX 16u
#define MR_SQS_ERRANDS 3u

enum mr_sqs_state {
    MR_SQS_HELD = 0, /* its events are with the bus */
    MR_SQS_DONE,     /* durable, or nothing in it: to be deleted */
    MR_SQS_BACK,     /* to be given back */
};

/* A message that was received and not yet deleted or given back. */
struct mr_sqs_held {
    struct mr_sqs_held *next;
    struct mr_buf id;
    char *handle; /* owned */
    enum mr_sqs_state state;
    const struct mr_batch *batch; /* HELD: the one with its events; never followed */
    bool is_busy;                 /* in an errand */
    bool is_stale;                /* its handle is no more; a new one may come */
    uint32_t tries;
    uint64_t not_before_ns;
    uint64_t hidden_until_ns;
    size_t size;
};

/* One long poll. */
struct mr_sqs_receive {
    struct mr_call call;
    struct mr_buf body;
    bool is_running;
    struct mr_source *source;
};

enum mr_sqs_errand_kind {
    MR_SQS_DELETE = 0,
    MR_SQS_GIVE_BACK,
    MR_SQS_EXTEND,
};

/* One call about up to ten messages. */
struct mr_sqs_errand {
    struct mr_call call;
    struct mr_buf body;
    enum mr_sqs_errand_kind kind;
    bool is_running;
    uint32_t count;
    struct mr_sqs_held *messages[MR_SQS_BATCH_MAX]; /* borrowed: in the source's list, busy */
    struct mr_source *source;
};

struct mr_source {
    struct mr_intake intake;
    struct mr_objectstore_source_options options; /* owned copy */
    struct mr_service service;
    bool has_service;

    /* The thread's own. */
    struct mr_sqs_receive receives[MR_SQS_POLLS_MAX];
    struct mr_sqs_errand errands[MR_SQS_ERRANDS];
    struct mr_call lag;
    struct mr_buf lag_body;
    bool lag_is_running;
    uint64_t lag_at_ns;
    struct mr_sqs_held *messages; /* owned */
    uint32_t message_count;
    size_t message_size;
    struct mr_buf body; /* of the message at hand, decoded */
    uint32_t receive_max; /* messages asked for at once; fewer after an answer that was too big */
    struct mr_backoff backoff;
    uint64_t retry_at_ns;
    bool is_failing;
};

/** Starts the errands that are due: deletes before returns before extensions. */
void mr__sqs_errands(struct mr_source *s, uint64_t now_ns);
/** `done` of an errand's call. */
void mr__sqs_errand_done(void *context, struct mr_call *call);

void mr__sqs_free(struct mr_sqs_held *m);
/** Takes it out of the list and frees it. */
void mr__sqs_drop(struct mr_source *s, struct mr_sqs_held *m);
/** Until when a message that is received or extended now stays hidden, monotonic. */
uint64_t mr__sqs_hidden_until(const struct mr_source *s);
/** Tells a failed call's reason and puts the next poll off. @param what "cannot delete", … */
void mr__sqs_note_failure(struct mr_source *s, const struct mr_call *call, const char *what);
/** Starts a call of the queue's protocol. @param target "AmazonSQS.ReceiveMessage", …
 * @param wait_ns how long the queue was asked to wait. @return false: not now */
bool mr__sqs_call(struct mr_source *s, struct mr_call *call, struct mr_buf *body,
                  const char *target, uint64_t wait_ns);

#endif
