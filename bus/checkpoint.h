/* What the writer and the reader of checkpoints share. Internal to bus/. */
#ifndef MR_BUS_CHECKPOINT_H
#define MR_BUS_CHECKPOINT_H

#define MR__CHECKPOINT_HEAD_SIZE 64u
/* 1 had no order of a subscription, 2 no keys, 3 no fan-outs and no weights; they are read still,
 * and the lowest that holds what there is is written, which a release before can read. */
#define MR__CHECKPOINT_VERSION 4u
#define MR__CHECKPOINT_MAGIC "MRCKPT01"

/* Where a delivery stands in a checkpoint. */
enum mr__saved {
    MR__SAVED_READY = 0,
    MR__SAVED_WAITING,
    MR__SAVED_BEGUN,
    MR__SAVED_HELD,
};

#endif
