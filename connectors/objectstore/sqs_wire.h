/* What is said between the sqs source and a queue, in the AWS JSON protocol 1.0. Pure. */
#ifndef MR_CONNECTORS_OBJECTSTORE_SQS_WIRE_H
#define MR_CONNECTORS_OBJECTSTORE_SQS_WIRE_H

#include "core/bytes.h"
#include "core/problem.h"
#include "schemas/json_scan.h"

#define MR_SQS_BATCH_MAX 10u /* messages in one call, of SQS */

/* A received message, borrowed from the answer; texts as they stand between their quotes, to be
 * decoded with mr__json_unescape(). */
struct mr_sqs_message {
    struct mr_bytes id;
    struct mr_bytes handle;
    struct mr_bytes body;
};

/** Begins to walk the answer of ReceiveMessage. @return MR_E_INVALID: it is none */
MR_MUST_USE enum mr_status mr__sqs_open(struct mr__scan *scan, struct mr_bytes answer,
                                        bool *ret_any, struct mr_problem *problem);
/** The next message. @return MR_E_NOT_FOUND at the end; MR_E_INVALID: the answer is none, nothing
 * more comes of it */
MR_MUST_USE enum mr_status mr__sqs_next(struct mr__scan *scan, struct mr_sqs_message *ret_message,
                                        struct mr_problem *problem);

/* How one entry of a batch call went. */
struct mr_sqs_failure {
    uint32_t index; /* of the entry */
    bool is_final;  /* the caller's fault: a handle that is no more */
    char code[64];
};
/** The entries that failed, from the answer of a batch call.
 * @param[out] failures MR_SQS_BATCH_MAX of them @return how many, or UINT32_MAX: unreadable */
uint32_t mr__sqs_failures(struct mr_bytes answer, struct mr_sqs_failure *failures);

/** Appends the body of ReceiveMessage. */
MR_MUST_USE enum mr_status mr__sqs_receive(struct mr_buf *out, const char *queue, uint32_t count,
                                           uint64_t wait_s, uint64_t visibility_s);
/** Appends the body of DeleteMessageBatch, or ChangeMessageVisibilityBatch with @p visibility_s
 * not UINT64_MAX, of @p count handles. */
MR_MUST_USE enum mr_status mr__sqs_batch(struct mr_buf *out, const char *queue,
                                         const char *const *handles, uint32_t count,
                                         uint64_t visibility_s);
/** The number of waiting messages in the answer of GetQueueAttributes; 0 when it is not told. */
uint64_t mr__sqs_waiting(struct mr_bytes answer);

#endif
