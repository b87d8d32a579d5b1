/* The simulation: one bus over a disk, a clock, workers, sources and an operator that a seed
 * makes up. Every run is a pure function of its seed.
 *
 *   sim_disk.c    the disk
 *   sim_mirror.c  two of them
 *   sim_spec.c    configurations, made by hand
 *   sim_world.c   the loop, the ports, the clock
 *   sim_actors.c  sources, workers, the operator
 *   sim_crash.c   crash points and restarts
 *   oracle.c      the model: its own fold over every group written, and the promises
 *   sim.c         seeds, counting, the command line
 *
 * A failed check prints the seed and how to replay it, and exits with 1. */
#ifndef MR_TESTS_SIM_H
#define MR_TESTS_SIM_H

#include "bus/bus.h"
#include "oracle.h"
#include "sim_disk.h"

/* What was made to happen; each must have happened in a run of enough seeds. */
#define SIM_FAULT_LIST(X)                                                                          \
    X(TORN_WRITE, "torn write")                                                                    \
    X(UNSYNCED_LOST, "unsynced sectors lost")                                                      \
    X(NAME_LOST, "name change lost")                                                               \
    X(POWER_CUT, "power cut")                                                                      \
    X(KILLED, "process killed")                                                                    \
    X(CRASH_IN_RECOVERY, "crash during recovery")                                                  \
    X(CRASH_LOOP, "crash loop of the bus")                                                         \
    X(WRITE_ERROR, "write error, part of it written")                                              \
    X(SYNC_ERROR, "sync error, pages called clean")                                                \
    X(READ_ERROR, "read error")                                                                    \
    X(DISK_FULL, "no space")                                                                       \
    X(DISK_LOW, "disk low")                                                                        \
    X(ROT, "bit rot")                                                                              \
    X(ROT_MIRRORED, "bit rot in one of two copies")                                                \
    X(ROT_KEEP, "of a survivor file")                                                              \
    X(REPAIRED, "a place repaired from the other copy")                                            \
    X(MIRROR_ALONE, "one of two copies failed or was not there")                                   \
    X(MIRROR_BACK, "a copy that was left behind made equal")                                       \
    X(GHOST, "recycled segment")                                                                   \
    X(CLOCK_FORWARD, "wall clock forward by years")                                                \
    X(CLOCK_BACK, "wall clock back by years")                                                      \
    X(REBOOT, "new boot")                                                                          \
    X(RELOAD, "reload")                                                                            \
    X(SUB_REMOVED, "subscription removed")                                                         \
    X(SUB_BACK, "subscription back")                                                               \
    X(PAUSE, "pause")                                                                              \
    X(REDRIVE, "redrive")                                                                          \
    X(PURGE, "purge")                                                                              \
    X(RETRY, "retry")                                                                              \
    X(RETRY_AFTER, "retry after")                                                                  \
    X(DROP, "drop")                                                                                \
    X(DEAD, "dead")                                                                                \
    X(REFUSED, "refused")                                                                          \
    X(SKETCHED, "a group found by what its records concern")                                       \
    X(CRASH_ALONE, "worker crash, alone")                                                          \
    X(SUSPECTS, "worker crash, suspects")                                                          \
    X(TIMEOUT, "timeout")                                                                          \
    X(LATE_OK, "ok after the timeout")                                                             \
    X(STALE, "answer of an old attempt")                                                           \
    X(HEARTBEAT, "heartbeat")                                                                      \
    X(EMITTED, "events emitted")                                                                   \
    X(OUTCOME, "outcome to a destination")                                                         \
    X(SHED, "shed, too many waited")                                                               \
    X(SHED_NEWEST, "the same, the newest")                                                         \
    X(SHED_ON, "the same, more than a group may hold or memory had")                               \
    X(SHED_TOLD, "what tells of it delivered")                                                     \
    X(SHED_LOOPED, "what tells of it past the hop limit")                                          \
    X(SHED_AGAIN, "what tells of it shed")                                                         \
    X(EXPIRED, "expired")                                                                          \
    X(HELD, "held")                                                                                \
    X(LANE_HELD, "held where it would be dead, for its lane")                                      \
    X(EXHAUSTED, "attempts used up")                                                               \
    X(INTERRUPTED, "interrupted by a crash")                                                       \
    X(BEHIND, "cursor stopped, caught up")                                                         \
    X(POSTED, "caught up by what a footer says")                                                   \
    X(SCRUBBED, "piece of the log scrubbed")                                                       \
    X(ROT_FOUND, "rot found by the scrubber")                                                      \
    X(ROT_JUDGED, "records at a rotten place looked at")                                           \
    X(FOOTER_SPOILED, "footer rotten or gone")                                                     \
    X(MEMORY_SHORT, "no memory for more of a subscription")                                        \
    X(READ_AT_START, "start refused for a read that failed")                                       \
    X(SKIPPED, "skipped by an operator")                                                           \
    X(DRAINED, "stop begun")                                                                       \
    X(RATED, "held back by a rate")                                                                \
    X(LIMITED, "held back by a shared limit")                                                      \
    X(DELAYED, "not before its time")                                                              \
    X(OVERTAKEN, "dropped for a later event of the lane")                                          \
    X(REPLACED, "running, replaced or cancelled by a later event")                                 \
    X(CANCELLED, "an event that only cancels")                                                     \
    X(GIVEN_UP, "a delivery dropped with its attempts used up")                                    \
    X(REORDERED, "order_by changed by a reload")                                                   \
    X(BATCHED, "several handed out as a batch")                                                    \
    X(BATCH_FULL, "batch of as many as it may have")                                               \
    X(BATCH_PARTS, "answer before others of its batch")                                            \
    X(BATCH_CRASHED, "worker crash, a whole batch")                                                \
    X(BATCH_FAILED, "batch that failed as a whole")                                                \
    X(BATCH_HALVED, "part of a batch that had failed")                                             \
    X(SIDE_BY_SIDE, "begun beside another of its lane")                                            \
    X(SHARED_OUT, "handed to one of several targets")                                              \
    X(RETURNED, "a weight that went to the others")                                                \
    X(RETURNED_KEPT, "the same, in force after it was logged")                                     \
    X(EDITED, "a held delivery given another event")                                               \
    X(EDITED_ANEW, "the same, handed out by a process after")                                      \
    X(CHECKPOINT, "checkpoint")                                                                    \
    X(FROM_CHECKPOINT, "recovered from a checkpoint")                                              \
    X(FOOTED, "segment with a footer")                                                             \
    X(IDS_MADE, "ids of a group of segments")                                                      \
    X(FOOTER_FAILED, "footer that could not be written")                                           \
    X(FOOTED_AGAIN, "footer refused at a start, made again")                                       \
    X(RETIRED, "segment retired")                                                                  \
    X(COPIED, "a record that outlived its segment copied")                                         \
    X(COPIED_LETTER, "the same, of a dead letter")                                                 \
    X(COPIED_TWICE, "the same, copied before")                                                     \
    X(MOVED, "the record that says so")                                                            \
    X(MOVED_ANEW, "a delivery handed out from a survivor file")                                    \
    X(KEEP_RETIRED, "survivor file retired")                                                       \
    X(RESENT, "resent by its source")                                                              \
    X(REJECTED, "rejected at the door")                                                            \
    X(REPEATED, "a repeat answered with the first offset")                                         \
    X(REPEAT_WAITED, "the same, its first not yet durable")                                        \
    X(REPEATED_LATER, "the same, of a process before")                                             \
    X(AGAIN, "an event again after its window")                                                    \
    X(KEY_EARLY, "a key that went early for want of room")                                         \
    X(RESULT, "an answer with a result")                                                           \
    X(RESULT_LARGE, "a result too large for the log")                                              \
    X(FANOUT, "an event that fans out")                                                            \
    X(JOINED, "a fan-out that ended")                                                              \
    X(JOINED_RESULT, "a result told with it")                                                      \
    X(JOIN_DUE, "a fan-out whose time was over")                                                   \
    X(JOIN_GAVE_WAY, "a fan-out that gave way to others")                                          \
    X(JOINED_ANEW, "what tells of a fan-out delivered")

#define SIM_FAULT_ENUM(name, text) SIM_##name,
enum sim_fault { SIM_FAULT_LIST(SIM_FAULT_ENUM) SIM_FAULT_MAX };
#undef SIM_FAULT_ENUM

extern uint64_t sim_fired[SIM_FAULT_MAX];
extern bool sim_verbose;
extern const char *sim_export; /* a folder: the disk is copied there in the middle of the run */
extern uint64_t sim_points_made;

/* --- configurations --------------------------------------------------------------------------- */

#define SIM_HOPS_MAX 6u /* what tells of fan-outs may double with each round */
#define SIM_SUBS_MAX 8u /* visible ones */
#define SIM_ALL_SUBS_MAX (SIM_SUBS_MAX * 3u)
/* What a subscription orders by; the keys of the two attributes never have the same text, so that a
 * lane tells which of them made it. */
enum sim_order {
    SIM_UNORDERED = 0,
    SIM_BY_LANE,
    SIM_BY_ZONE,
    SIM_ORDERS,
};

#define SIM_WALL_START_NS (1760000000ull * MR_SECOND)
#define SIM_TIME_START_NS MR_HOUR /* of the monotonic clock */
#define SIM_SOURCES 3u /* 0 and 1 resend what was not acknowledged; 2 keeps a cursor */
#define SIM_CURSOR_SOURCE 2u
#define SIM_WORKERS 2u
#define SIM_TARGETS 4u /* then two sinks */
#define SIM_TYPES 6u   /* t.0 … t.3 from sources, e.0 and e.1 emitted */

struct sim_sub_spec {
    bool present;
    uint8_t types;   /* bits */
    uint8_t sources; /* bits; 0 = all */
    uint32_t target;
    uint8_t order; /* enum sim_order */
    uint32_t steps;
    uint64_t step_ns;
    int jitter;
    bool hold;
    uint32_t shed_max; /* 0: any number may wait */
    uint32_t shed_to;
    bool shed_newest;
    bool takes_shed; /* the events that tell of it */
    bool dead_holds; /* what has a lane and would be dead */
    uint64_t max_age_ns;
    uint32_t concurrency;
    bool keep_latest;
    int when_busy;       /* enum mr_when_busy */
    uint64_t debounce_ns;
    uint8_t cancels;     /* bits: the types that cancel; 0: none */
    uint8_t limits; /* bits: those it shares */
    uint32_t rate_count; /* 0: no rate */
    uint64_t rate_per_ns;
    uint64_t window_size;
    uint32_t batch_max; /* 0: one by one */
    uint64_t batch_size;
    uint64_t batch_window_ns;
    uint8_t batch_by; /* enum sim_order */
    uint64_t timeout_ns;
    uint32_t lane_concurrency; /* 0: 1 */
    uint32_t weights[SIM_WORKERS]; /* all 0: everything goes to target */
    uint32_t return_percent;
    uint8_t level_by; /* enum sim_order: says the level; unordered: none has one */
    uint64_t level_step_ns;
    int success_to; /* sink 2 or 3, or -1 */
    int failure_to; /* likewise; -2: the bus */
    bool joined;    /* it takes what tells of fan-outs */
};

#define SIM_LIMITS 2u /* shared by subscriptions */
struct sim_limit_spec {
    uint32_t concurrency;
    uint32_t rate_count;
    uint64_t rate_per_ns;
};

/* What a source's repeats are known by; the same for all of a run. */
struct sim_dedupe_spec {
    uint64_t window_ns; /* 0: repeats are events */
    uint32_t keys;
    bool by_id;
    bool by_request;
};

#define SIM_FANOUTS 2u
struct sim_spec {
    uint8_t fanout_of[SIM_SUBS_MAX]; /* 1, 2; 0: none */
    uint64_t within_ns[SIM_FANOUTS];
    struct sim_limit_spec limits[SIM_LIMITS];
    struct sim_dedupe_spec dedupe[SIM_SOURCES];
    struct sim_sub_spec subs[SIM_SUBS_MAX];
    uint32_t sub_count;
    uint32_t breaker_percent;
    uint64_t hash;
    bool windows_wide; /* memory is what is short */
};

void sim_spec_random(struct mr_rng *rng, bool calm, struct sim_spec *ret_spec);
/* Changes policies, filters and which subscriptions there are. */
void sim_spec_mutate(struct mr_rng *rng, struct sim_spec *spec);
/* All subscriptions there, nothing that waits long. */
void sim_spec_calm(struct sim_spec *spec);
/* Which worker has so much of a key (or of an event, without one); with weights. */
uint32_t sim_share_of(const struct sim_sub_spec *s, uint64_t key);
/* What the share of worker @p i is known by. */
uint64_t sim_share_hash(const struct sim_sub_spec *s, uint32_t i);
/* Whether it drops what has used up its attempts. */
bool sim_sub_drops(const struct sim_sub_spec *s);
struct mr_config *sim_config_create(const struct sim_spec *spec,
                                    const struct mr_log_options *log);
void sim_config_destroy(struct mr_config *config);

/* --- the world -------------------------------------------------------------------------------- */

enum sim_event_kind {
    SIM_IO_DONE = 0,
    SIM_ANSWER,
    SIM_HEARTBEAT_DUE,
    SIM_SOURCE_SENDS,
    SIM_OPERATOR,
    SIM_CAPACITY,
    SIM_CLOCK,
    SIM_DISK_TOLD,
    SIM_CRASH,
    SIM_TICK,
};

struct sim_event {
    uint64_t at_ns; /* simulated progress, never reset */
    uint64_t order;
    enum sim_event_kind kind;
    uint64_t number; /* source, target, … */
    void *object;    /* request or hand-out */
};

struct sim_source {
    char name[8];
    uint32_t id;
    uint32_t total;    /* messages it will send */
    uint32_t sent_max; /* first never sent */
    uint8_t *state;    /* by message: 0 unsent, 1 outside, 2 acknowledged */
    uint32_t *crc;
    bool busy;      /* the cursor source has one batch out at a time */
    bool scheduled; /* it will send: once is enough */
};

/* What one seed turns on. Chances are per 1024. */
struct sim_swarm {
    uint32_t steps_max;
    uint32_t messages;
    uint32_t batch_max;
    uint32_t crash_point_chance; /* per request */
    uint32_t crash_points_each;
    uint32_t crash_chance; /* per request: the run itself crashes */
    uint32_t kill_share;   /* of them killed, not cut, per 1024 */
    uint32_t loop_chance;
    uint64_t io_ns;
    uint64_t work_ns;
    uint32_t v_retry, v_after, v_drop, v_dead, v_refused, v_crash, v_suspects, v_slow, v_emit;
    uint32_t operator_every_ms;
    uint32_t reload_chance;
    uint32_t clock_chance;
    uint32_t write_error_chance, sync_error_chance, read_error_chance, full_chance;
    uint32_t low_chance;
    uint32_t reject_chance;
    uint32_t repeat_chance; /* a source sends once more what it sent before */
    uint32_t capacity_chance;
    bool rubbish;
    bool rot;
    bool calm; /* no fault at all: every delivery runs exactly once */
};

/* When the last hand-outs of a subscription were, since its rate was set. */
struct sim_rate {
    uint32_t count;
    uint64_t per_ns;
    uint64_t handed;
    uint64_t at_ns[8];
};

/* One disk, or two that hold the log both. */
#define SIM_SINGLE_MAX 1024u

struct sim_disks {
    const struct sim_world *world;
    struct sim_disk *first;
    struct sim_disk *second; /* NULL: one */
    struct mr_io *io;        /* what the log is on: the first disk, or a mirror */
    uint64_t seed;
    uint64_t drawn;
    bool rots;    /* a file is damaged in one copy, at times */
    bool alone;   /* the process before ended with one of them */
    bool swapped; /* reads come from the second */
    bool was_open;
    uint64_t single[SIM_SINGLE_MAX / 64]; /* a bit a segment: one copy was missing, see below */
};

struct sim_world {
    uint64_t seed;
    struct mr_rng rng;
    struct sim_swarm swarm;
    struct sim_disk *disk; /* the first of */
    struct sim_disks disks;
    struct mr_bus *bus;
    struct mr_bus_options options;
    struct sim_spec spec;
    struct mr_config *config;
    struct mr_router *router;
    uint64_t generation;
    struct oracle *oracle;
    struct sim_source sources[SIM_SOURCES];
    uint32_t capacity[SIM_TARGETS];

    struct sim_rate rates[SIM_SUBS_MAX];
    struct sim_rate limit_rates[SIM_LIMITS];
    uint64_t counted_batch; /* rates have seen it */
    bool reloaded; /* since the process began: limits may have shrunk below what has begun */

    uint64_t time_ns; /* simulated progress */
    uint64_t boot_at_ns;
    uint64_t boot_id;
    uint64_t wall_base_ns;

    struct sim_event *heap;
    uint32_t heap_count;
    uint32_t heap_capacity;
    uint64_t order;
    uint64_t file_free_ns[SIM_HANDLES_MAX]; /* requests of one file keep their order */

    struct mr_log_request *requests[256]; /* outside */
    uint32_t request_count;
    struct mr_handout *handouts[4096];
    uint32_t handout_count;
    struct mr_batch *batches[256];
    uint64_t asked_ns[256]; /* log clock at which each came */
    uint32_t batch_count;

    bool dying;   /* the process is gone; ports swallow */
    bool in_fork; /* a recovery beside the run */
    bool healing; /* liveness: no more faults */
    bool damaged; /* its files were, on purpose */
    bool failed;  /* the log is faulty: a restart is due */
    bool slow;
    uint64_t steps;
    uint64_t scrubbed;    /* the file that was scrubbed last, */
    uint64_t scrubbed_to; /* and how far; 0: all of it */
    bool scrub_anew;      /* by another process, or that file went */
    uint32_t spoiled; /* footers */
    uint32_t unread;      /* reads that failed for who is behind */
    uint64_t trace;
    uint64_t serial;  /* of the last hand-out */
    uint64_t emitted; /* ids handed out so far */
    uint32_t edited;  /* likewise, of events that an operator gave held deliveries */
    uint64_t points;
    uint64_t syncs_failed; /* when this process began */
};

void sim_fail(const struct sim_world *world, const char *format, ...) MR_PRINTF(2, 3) MR_NORETURN;
void sim_trace(struct sim_world *world, uint64_t value);
void sim_say(const struct sim_world *world, const char *format, ...) MR_PRINTF(2, 3);

struct mr_now sim_now(const struct sim_world *world);
void sim_schedule(struct sim_world *world, uint64_t after_ns, enum sim_event_kind kind,
                  uint64_t number, void *object);
struct mr_bus_ports sim_ports(struct sim_world *world);
bool sim_chance(struct sim_world *world, uint32_t per_1024);
uint64_t sim_log_ns(const struct sim_world *world);
bool sim_is_rejected(const struct sim_world *world, uint32_t n);

void sim_world_run(struct sim_world *world); /* safety, then liveness */
void sim_world_step(struct sim_world *world); /* one moment of it */
void sim_world_rest(struct sim_world *world); /* the second half: no more faults */
struct sim_world *sim_world_create(uint64_t seed);
void sim_world_destroy(struct sim_world *world);
void sim_configure(struct sim_world *world);

/* actors */
void sim_source_init(struct sim_world *world);
void sim_source_wake(struct sim_world *world, uint64_t source, uint64_t after_ns);
void sim_source_send(struct sim_world *world, uint64_t source);
void sim_source_batch_done(struct sim_world *world, struct mr_batch *batch);
void sim_source_restart(struct sim_world *world);
bool sim_sources_finished(const struct sim_world *world);
void sim_worker_take(struct sim_world *world, struct mr_handout *handout);
void sim_worker_answer(struct sim_world *world, uint64_t serial, struct mr_handout *handout);
void sim_worker_heartbeat(struct sim_world *world, uint64_t serial, struct mr_handout *handout);
void sim_worker_cancel(struct sim_world *world, uint32_t subscription, uint64_t offset,
                       uint32_t fence);
void sim_operator_act(struct sim_world *world);
void sim_operator_release(struct sim_world *world); /* redrive what is held, resume all */

/* damage */
/* Damages the log that @p seed has after @p groups: each @p stride th bit, and more. */
void sim_damage(uint64_t seed, uint64_t groups, uint64_t stride);
extern uint64_t sim_damage_kinds; /* bits: the records that were there to be damaged */

/* crash */
void sim_disks_choose(struct sim_world *world);
void sim_disks_fork(const struct sim_disks *disks, uint64_t seed, struct sim_disks *ret_fork);
void sim_disks_crash(struct sim_disks *d, bool power_cut);
void sim_disks_destroy(struct sim_disks *d);
enum mr_status sim_disks_open(struct sim_disks *d, struct mr_problem *problem);
/* Whether one of two disks is not there, or has failed. */
bool sim_disks_are_alone(const struct sim_disks *d);
/* A crash undid in one copy that the segment went, and a start made two of the one that is there:
 * what had rotted in it is in both now. Nobody needs it. */
bool sim_disks_were_single(const struct sim_disks *disks, uint64_t segment);
void sim_disks_rot(struct sim_disks *d);
/* The same of what @p request is about to move. */
void sim_disks_rot_moving(struct sim_disks *d, const struct mr_log_request *request);
struct sim_disk *sim_disks_faulty(struct sim_disks *d); /* the one that fails next */
uint64_t sim_syncs_failed(const struct sim_disks *d);
bool sim_reads_failed(const struct sim_world *world);
void sim_crash_points(struct sim_world *world, const struct mr_log_request *request);
void sim_crash(struct sim_world *world, struct mr_log_request *running);
/* Opens the bus on the disk; the first start of a run. */
void sim_start(struct sim_world *world);
void sim_restart(struct sim_world *world); /* the process is gone */
void sim_process_gone(struct sim_world *world);

#endif
