/* Bugs planted on purpose, to prove that the simulation would catch them (tests/sim/). They exist
 * only in a build with MR_PLANTED_BUGS, which the tests make for themselves; everywhere else
 * MR_PLANTED() is 0 and the compiler removes them. */
#ifndef MR_BUS_PLANTED_H
#define MR_BUS_PLANTED_H

/* name, what it does */
#define MR_PLANTED_LIST(X)                                                                         \
    X(ACK_EARLY, "batches are acknowledged before the write returns")                              \
    X(HAND_OUT_EARLY, "attempts are handed out before they are durable")                           \
    X(NO_BODY_CHECKSUM, "the checksum of a record's body is not verified")                         \
    X(NO_CHAIN, "sequence and chain of a group are not verified")                                  \
    X(UNMENDED, "one wrong bit spoils a header")                                                   \
    X(UNSALVAGED, "a segment whose header is unreadable is left out")                              \
    X(ROT_UNTOLD, "what a start finds rotten is not told of")                                      \
    X(NO_SALT, "neither salt nor chain of a group are verified")                                   \
    X(WRITE_AGAIN, "a failed write is tried again")                                                \
    X(STALE_FENCE, "an answer of an old attempt is accepted")                                      \
    X(ONE_SLOT, "one checkpoint slot is written over and over")                                    \
    X(CHECKPOINT_EARLY, "a checkpoint is written before its group is durable")                     \
    X(DEAD_UNLOGGED, "a dead letter is made without its record")                                   \
    X(LANE_OVERTAKES, "a delivery is ready though another of its lane is before it")               \
    X(ATTEMPTS_FORGOTTEN, "recovery forgets the attempts that were counted")                       \
    X(LANE_LET_GO, "what is to be held with its lane is dead")                                     \
    X(SHED_UNTOLD, "what is shed is not told of")                                                  \
    X(SHED_RUNNING, "what has begun is shed as well")                                              \
    X(SHED_WRONG_END, "the newest are shed instead of the oldest, and the other way round")        \
    X(SHED_EARLY, "a subscription sheds when as many wait as may")                                 \
    X(SHED_DEEP, "one more is shed than should be")                                                \
    X(SHED_ROUND, "what tells of shedding goes round")                                             \
    X(EXPIRED_TWICE, "an expiry is counted twice")                                                 \
    X(SETTLE_ALONE, "a settle is logged without the events it emitted")                            \
    X(CURSOR_AHEAD, "a source's cursor is logged before its events")                               \
    X(TRIM_LIVE, "a segment is retired while deliveries need it")                                  \
    X(TRIM_EARLY, "a segment is retired before the settles that free it are durable")              \
    X(FENCE_REUSED, "after a start the fences begin again")                                        \
    X(INTERRUPTION_COUNTED, "an interruption costs an attempt")                                    \
    X(REFUSAL_COUNTED, "a refusal costs an attempt")                                               \
    X(HELD_FORGOTTEN, "recovery lets held deliveries go")                                          \
    X(READ_AHEAD, "bytes behind the end of the log are cached")                                    \
    X(ONE_TORN_TAIL, "recovery goes past one torn tail, not two")                                  \
    X(SLOT_UNSYNCED, "a checkpoint is trusted from the page cache")                                \
    X(NAME_UNSYNCED, "a new segment's name is not synced")                                         \
    X(MEND_UNCHECKED, "a copy is repaired from one that was not checked")                          \
    X(MIRROR_UNEQUAL, "two copies are not made equal after a crash")                               \
    X(MIRROR_STALE, "a copy that was left behind is taken for good")                               \
    X(LOST_UNASKED, "what is damaged in one copy is lost before the other is asked")               \
    X(SUSPECT_PAYS, "a crash with others on the instance costs an attempt")                        \
    X(OUTCOME_LOST, "an outcome is not logged")                                                    \
    X(START_UNLOGGED, "a start is not logged")                                                     \
    X(NO_BARRIER, "lanes of two orders run side by side")                                          \
    X(DELAY_IGNORED, "an event that is to wait for its time goes at once")                         \
    X(LIMIT_IGNORED, "a limit that subscriptions share is not kept")                               \
    X(KEEP_OLDEST, "of a lane the oldest delivery is kept, not the latest")                        \
    X(CANCEL_FORGOTTEN, "what is read from the log does not know that it cancels")                 \
    X(RATE_IGNORED, "a rate is not kept")                                                          \
    X(READ_ACROSS, "a read that ends with its segment loses what the next one begins with")        \
    X(BATCH_PAYS, "a batch that failed as a whole costs each delivery in it an attempt")           \
    X(BATCH_WHOLE, "a batch that failed as a whole is handed out whole again")                     \
    X(BATCH_LARGE, "a batch has one delivery more than it may have")                               \
    X(BATCH_MIXED, "a batch holds deliveries of different values of what it goes by")              \
    X(REPEAT_EARLY, "a repeat is acknowledged before its first is durable")                        \
    X(KEYS_UNREAD, "recovery does not read the keys of events behind the checkpoint")              \
    X(KEYS_UNSAVED, "checkpoints are read without the keys")                                       \
    X(KEY_CUT, "a few bits of a key stand for all of it")                                          \
    X(KEY_KEPT, "a key counts beyond the window")                                                  \
    X(RESULT_LOST, "a settle is logged without its result at times")                               \
    X(RESULT_OF_ANY, "results of deliveries that do not end done are logged")                      \
    X(JOINED_UNLOGGED, "the event of a fan-out is logged without the record that ends it")         \
    X(JOIN_EARLY, "a fan-out is over with one of it not ended")                                    \
    X(JOIN_FORGETS, "recovery forgets the ends that a fan-out waits for")                          \
    X(JOINS_UNSAVED, "checkpoints are read without the fan-outs that are open")                    \
    X(LANE_WIDE, "one more of a lane runs side by side than may")                                  \
    X(SHARE_UNSTICKY, "events of one key go to any of the targets")                                \
    X(WEIGHT_FORGOTTEN, "recovery forgets that a weight went to the others")                       \
    X(EDIT_FORGOTTEN, "recovery gives an edited delivery the event it had")                        \
    X(READ_EVICTED, "bytes that were read give way before who wanted them has seen them")          \
    X(TURN_FORGOTTEN, "who is behind and whose turn is over goes on behind the group it was in")   \
    X(POSTING_SKIPPED, "of what a footer says a subscription matched one is passed over")          \
    X(POSTING_LATE, "who reads postings ahead begins the next segment as far in as the last")      \
    X(SNAP_UNTOUCHED, "what changes while a checkpoint is written is saved as it is then")         \
    X(EDIT_MOVES, "what is edited loses its place in its lane")                                    \
    X(FOOTER_BELIEVED, "pages of a footer are believed without their checksums")                   \
    X(FOOTER_SHORT, "a footer leaves out the last group of its segment")                           \
    X(FOOTER_ENDLESS, "a footer leaves out how deliveries of earlier events ended")                \
    X(FOOTER_OUTLIVES, "a footer outlives its segment")                                            \
    X(IDS_SHORT, "the ids of a group leave out its last segment")                                  \
    X(SCRUB_SKIPS, "the scrubber leaves a piece out now and then")                                 \
    X(SCRUB_LOSES, "what the scrubber finds damaged in one copy is lost")                          \
    X(MEMORY_UNBOUND, "deliveries enter memory beyond its bound")                                  \
    X(MEMORY_UNFAIR, "a subscription takes the memory of others' shares")                          \
    X(COPY_UNSYNCED, "the copy of a survivor counts before it is durable")                         \
    X(MOVED_EARLY, "a segment goes before the record that moved its survivors is durable")         \
    X(MOVED_UNCOUNTED, "a survivor is not counted where it has moved to")                          \
    X(MOVED_UNREAD, "recovery leaves survivors where they were")                                   \
    X(COPY_ALONE, "a survivor is copied to one of two disks")                                      \
    X(JUDGED_UNMENDED, "where something is rotten one wrong bit in its header loses a record")     \
    X(GAPS_LOST, "a segment that was given up between others counts as lost")                      \
    X(SKETCH_SHORT, "what a group may concern is not noted as it is written")

#define MR_PLANTED_ENUM(name, text) MR_PLANTED_##name,
enum mr_planted { MR_PLANTED_NONE = 0, MR_PLANTED_LIST(MR_PLANTED_ENUM) MR_PLANTED_MAX };
#undef MR_PLANTED_ENUM

#ifdef MR_PLANTED_BUGS
extern int mr_planted_bug; /* defined by the test */
#define MR_PLANTED(name) (mr_planted_bug == MR_PLANTED_##name)
#else
#define MR_PLANTED(name) 0
#endif

#endif
