/* The bus: the deterministic core. It sequences events, keeps the state of every delivery and
 * decides; it makes no system call, starts no thread and reads no clock.
 *
 * Whoever drives it (millrace/engine.c, tests/sim/) gives it inputs with the time they came, and
 * performs its outputs through struct mr_bus_ports:
 *
 *     mr_bus_ingest(), mr_bus_answer(), mr_bus_io_done(), …   any number of inputs, then
 *     mr_bus_step()                                           dispatches, starts the next write
 *     mr_bus_next_timer()                                     when it wants to be stepped again
 *
 * All calls from one thread. Ports are called inside inputs and steps and must not call back.
 *
 * Time. struct mr_now is data. Ages and due times run on the log clock: it moves with monotonic
 * progress within a boot and by the wall clock between boots; a wall-clock jump beyond an hour
 * against it freezes expiry until mr_bus_clock_accept(). Log clock values read like wall time. */
#ifndef MR_BUS_BUS_H
#define MR_BUS_BUS_H

#include "bus/logread.h"
#include "core/clock.h"
#include "core/rng.h"

struct mr_bus;

struct mr_bus_ports {
    void *context;
    /* Perform with mr_log_perform(), then give back with mr_bus_io_done(). */
    void (*io)(void *context, struct mr_log_request *request);
    /* Ownership moves; comes back through mr_bus_answer(). handout->target is a target id. */
    void (*handout)(void *context, struct mr_handout *handout);
    void (*cancel)(void *context, uint32_t target, uint32_t subscription, uint64_t offset,
                   uint32_t fence);
    /* The batch is durable or refused: ownership goes back to its source. */
    void (*batch_done)(void *context, struct mr_batch *batch);
    /* What waits for a target, told once a step when it changed. */
    void (*demand)(void *context, uint32_t target, uint64_t queued, uint64_t oldest_age_ns);
    /* Sources should hold back (true) or go on: log or disk is short. Batches are refused
     * meanwhile with MR_E_DISK_LOW. */
    void (*slow)(void *context, bool slow);
    /* Something a person must know: lost events, faulty log, clock jump. */
    void (*alarm)(void *context, const char *text);
};

struct mr_bus_options {
    struct mr_log_options log;
    uint64_t memory_state;   /* bytes of all delivery state */
    uint64_t seed;           /* jitter, salts */
    uint32_t first_segment_size; /* bytes of the first segment after a start: small, so that the
                                    start is quick; 0 = segment_size */
    uint32_t group_size_soft; /* bytes at which a group takes no more batches; 0 = 1 MiB */
    uint32_t ahead;          /* attempts logged beyond a target's capacity, so that a freed slot
                                is refilled without waiting for the disk; 0 = 32 */
    uint64_t mark_after_ns;  /* idle spell after which a mark is written; 0 = 200 ms */
    uint32_t walk_max;       /* records that one step reads for who is behind; 0: what the traffic
                                leaves time for */
    uint64_t read_memory;    /* bytes of memory for what is read from files; 0 = MR_READ_MEMORY */
    uint64_t fanouts_open_max; /* more give way, the oldest first; 0 = MR_FANOUTS_OPEN_MAX */
    uint32_t checkpoint_chunk; /* bytes of a checkpoint in one write; 0 = 256 KiB */
    uint32_t scrub_piece;    /* bytes that are scrubbed at once; 0 = 1 MiB */
    bool footers_off;        /* sealed segments get no footers: to measure what these cost */
    uint64_t linger_ns;      /* how long a group of nothing but settles waits for company: nobody
                                waits for them, and a write each would cost more than they do;
                                0 = 1 ms */
    /* While mr_bus_open() takes the checkpoint, then reads the log: about so many of so many bytes
     * @p of that ("checkpoint", "log"; static) are behind it. May be NULL. @return false: give up,
     * with MR_E_CLOSED */
    bool (*progress)(void *context, const char *of, uint64_t done, uint64_t total);
    void *progress_context;
};

/* What opening found. */
struct mr_bus_opened {
    uint64_t events;         /* next offset - 1 */
    uint64_t groups_folded;
    uint64_t interrupted;    /* deliveries that were in flight */
    uint64_t lost_events;    /* offsets named lost by rot, at this start */
    uint64_t rotten;         /* places where something acknowledged is damaged */
    uint64_t mended;         /* headers one bit of which was wrong: nothing is lost by them */
    uint32_t salvaged;       /* files read though their headers are unreadable */
    uint32_t doubtful;       /* left alone: segments of which nothing says what they hold; survivor
                                files, of which records are read one by one */
    uint32_t bad_slots;      /* checkpoints that could not be used; the older one is looked at when
                                the newer is not whole */
    bool torn;               /* a torn tail was cut */
    bool from_checkpoint;
    uint64_t tail_bytes;     /* read behind the checkpoint */
    uint32_t sections_damaged; /* of the newest checkpoint: taken from the one before, */
    uint32_t sections_lost;    /* or, of these, from the log alone */
};

/** Opens the log in @p io (exclusively: the caller holds its lock), recovers, and leaves the bus
 * ready. Blocks on @p io, for this call alone; a new log is begun when the directory is empty.
 * Appending goes to a new segment: what was torn is never written over.
 * @param ports borrowed; copied
 * @return MR_E_UNSUPPORTED (later version), MR_E_CORRUPT (names what and `log verify`), MR_E_IO,
 * MR_E_NOMEM, MR_E_CLOSED (options.progress said so); nothing was changed on disk then */
MR_MUST_USE enum mr_status mr_bus_open(struct mr_io *io, const struct mr_bus_options *options,
                                       const struct mr_bus_ports *ports, struct mr_now now,
                                       struct mr_bus **ret_bus, struct mr_bus_opened *ret_opened,
                                       struct mr_problem *problem);

/** Frees everything. Requests, batches and hand-outs outside are the driver's to give back first
 * (or to free, in a simulated crash). */
void mr_bus_destroy(struct mr_bus *bus);

/** Takes a new configuration: subscriptions keep their state by name; removed ones keep theirs for
 * 7 days; names and the snapshot are logged with the next group.
 * @param config, router borrowed: outlive the next configure (or destroy)
 * @return MR_E_NOMEM: the old one stays */
MR_MUST_USE enum mr_status mr_bus_configure(struct mr_bus *bus, struct mr_now now,
                                            const struct mr_config *config,
                                            const struct mr_router *router, uint64_t generation);

/* The source that is always there: what `millrace send` uses when the file names none. */
#define MR_SOURCE_SEND_NAME "send"

/* Another that is always there, and makes no events: its cursor is what the Subscriptions API
 * holds. */
#define MR_SOURCE_API_NAME "/subscriptions"

/* Stable ids, given by name, for ever the same in one log. UINT32_MAX: not known. */
uint32_t mr_bus_source_id(const struct mr_bus *bus, const char *name);
uint32_t mr_bus_target_id(const struct mr_bus *bus, const char *name);
uint32_t mr_bus_subscription_id(const struct mr_bus *bus, const char *name);

/* --- inputs ----------------------------------------------------------------------------------- */

/** A batch of events; matched by the generation it names, else matched again here. Comes back
 * through ports.batch_done, at once when it is refused. batch->source is a source id. */
void mr_bus_ingest(struct mr_bus *bus, struct mr_now now, struct mr_batch *batch);

/** A hand-out with its answer; freed here. Stale ones (fence) are recorded, not applied. */
void mr_bus_answer(struct mr_bus *bus, struct mr_now now, struct mr_handout *handout);

/** Extends a lease. Unknown ones are ignored. */
void mr_bus_heartbeat(struct mr_bus *bus, struct mr_now now, uint32_t subscription,
                      uint64_t offset, uint32_t fence);

/** @p target takes up to @p slots hand-outs at once. */
void mr_bus_capacity(struct mr_bus *bus, struct mr_now now, uint32_t target, uint32_t slots);

/** A request was performed; freed (or kept for reuse) here. */
void mr_bus_io_done(struct mr_bus *bus, struct mr_now now, struct mr_log_request *request);

/** Free and total bytes of the log's disk, told now and then. */
void mr_bus_disk(struct mr_bus *bus, struct mr_now now, uint64_t free_bytes, uint64_t total_bytes);

/** Timers, dispatch, next write. To be called after inputs and when mr_bus_next_timer() is due. */
void mr_bus_step(struct mr_bus *bus, struct mr_now now);

/** The monotonic time at which a step is wanted even without input; UINT64_MAX: none. */
uint64_t mr_bus_next_timer(const struct mr_bus *bus);

/** Whether the last step left work for the next: that is wanted at once, whatever the time, behind
 * the inputs that have come meanwhile. */
bool mr_bus_has_more(const struct mr_bus *bus);

/** No new hand-outs; answers and settles go on, and attempts that are logged and not handed out are
 * taken back. For a clean stop: the next start finds nothing interrupted. */
void mr_bus_drain(struct mr_bus *bus, bool drain);
/** No request is made any more: whoever performed them has ended. Before the last io_done calls. */
void mr_bus_close(struct mr_bus *bus);
/** Nothing in flight with a target and nothing un-durable. */
bool mr_bus_is_quiet(const struct mr_bus *bus);

/* --- operator actions (each is a record, written with its effect) ----------------------------- */

/** Logs @p json as who did what; call before the action. */
MR_MUST_USE enum mr_status mr_bus_log_action(struct mr_bus *bus, const char *json);
MR_MUST_USE enum mr_status mr_bus_pause(struct mr_bus *bus, uint32_t subscription, bool paused);
/** A dead letter or held delivery becomes ready again with a fresh budget of attempts.
 * @return MR_E_NOT_FOUND; MR_E_CONFLICT: later events of its lane were handled already and
 * @p out_of_order is false (@p ret_later says how many at least) */
MR_MUST_USE enum mr_status mr_bus_redrive(struct mr_bus *bus, struct mr_now now,
                                          uint32_t subscription, uint64_t offset,
                                          bool out_of_order, uint64_t *ret_later);
/** A delivery that is not settled ends as dropped, wherever it stands; the next of its lane goes. A
 * handler that has it is told, and its answer is recorded as late.
 * @return MR_E_NOT_FOUND: settled, or not in the window; MR_E_AGAIN: its end is being written */
MR_MUST_USE enum mr_status mr_bus_skip(struct mr_bus *bus, struct mr_now now,
                                       uint32_t subscription, uint64_t offset);
/** A held delivery is ready again with a fresh budget of attempts, and its event is @p event from
 * now on; its number and its place in its lane stay.
 * @param event borrowed
 * @param[out] ret_offset of @p event
 * @return MR_E_NOT_FOUND: settled, or not in the window; MR_E_CONFLICT: not held; MR_E_AGAIN: no
 * room in this group; MR_E_FULL: more than a group holds; MR_E_FAULTY; MR_E_NOMEM. Nothing was
 * changed then */
MR_MUST_USE enum mr_status mr_bus_edit(struct mr_bus *bus, struct mr_now now,
                                       uint32_t subscription, uint64_t offset,
                                       struct mr_event *event, uint64_t *ret_offset);
/** A dead letter leaves the queue; it stays counted as dead. */
MR_MUST_USE enum mr_status mr_bus_purge(struct mr_bus *bus, uint32_t subscription,
                                        uint64_t offset);
void mr_bus_clock_accept(struct mr_bus *bus, struct mr_now now);

/* --- questions -------------------------------------------------------------------------------- */

enum mr_blocked_on {
    MR_BLOCKED_NOTHING = 0,
    MR_BLOCKED_LANE,
    MR_BLOCKED_CONCURRENCY,
    MR_BLOCKED_BREAKER,
    MR_BLOCKED_NO_INSTANCE,
    MR_BLOCKED_BACKOFF,
    MR_BLOCKED_PAUSED,
    MR_BLOCKED_HELD,
    MR_BLOCKED_MEMORY,
    MR_BLOCKED_DISK,
    MR_BLOCKED_RAMP,    /* after a start, released through the ramp */
    MR_BLOCKED_REMOVED, /* the subscription or its target is not configured now */
    MR_BLOCKED_ORDER,   /* order_by changed: what matched before it goes first */
    MR_BLOCKED_RATE,
    MR_BLOCKED_LIMIT, /* one that it shares */
    MR_BLOCKED_NOT_BEFORE, /* its event says so: mrnotbefore */
    MR_BLOCKED_BATCH, /* others that go with it are awaited */
    MR_BLOCKED_MAX,
};
const char *mr_blocked_text(enum mr_blocked_on b); /* "lane head", "concurrency", … */

/* The conservation equation, per subscription: matched = the sum of all the others. */
struct mr_counts {
    uint64_t matched;
    uint64_t done;
    uint64_t dead;
    uint64_t dropped;
    uint64_t expired;
    uint64_t lost;
    uint64_t held;
    uint64_t waiting; /* ready, waiting, logged ahead, and on disk behind the window */
    uint64_t in_flight; /* handed to a target */
};

/* Upper bounds of a histogram's buckets; what is longer counts in the last one. */
#define MR_HISTOGRAM_BOUNDS 12u
extern const uint64_t mr_histogram_bounds_ns[MR_HISTOGRAM_BOUNDS];

struct mr_histogram {
    uint64_t counts[MR_HISTOGRAM_BOUNDS + 1]; /* each bucket by itself, not cumulative */
    uint64_t sum_ns;
};

struct mr_subscription_info {
    uint32_t id;
    const char *name;   /* borrowed until the next configure */
    int64_t index;      /* in the present configuration; -1: removed */
    struct mr_counts counts;
    uint64_t behind;    /* of waiting: not in the window */
    enum mr_blocked_on behind_on; /* what these wait for */
    uint64_t window_bytes;
    uint64_t dead_letters; /* in the queue now, as mr_bus_dead_letters() shows them */
    uint64_t attempts[MR_VERDICT_MAX]; /* answers since the start of the process, by verdict */
    uint64_t shed;      /* dropped because too many waited, since the start of the process */
    uint64_t oldest_age_ns; /* of what is not settled and in the window; 0: nothing */
    uint64_t lanes;
    bool paused;
    bool live; /* its cursor is at the end of the log */
    uint32_t returned; /* of its targets: those whose weight went to the others */
    uint64_t blocked[MR_BLOCKED_MAX]; /* how many wait for what */
    struct mr_histogram delivery_time; /* from arrival to the end; since the process started */
    struct mr_histogram attempt_time;  /* with a handler */
};

/* One of several targets of a subscription. */
struct mr_share_info {
    char target[MR_NAME_SIZE_MAX + 1];
    uint32_t weight;
    bool returned; /* it went to the others */
    uint64_t ready;
};

struct mr_target_info {
    uint32_t id;
    const char *name;
    uint32_t slots;
    uint32_t in_flight;
    uint64_t queued;
    bool breaker_open;
    uint64_t breaker_until_mono_ns;
};

struct mr_delivery_info {
    enum mr_state state;
    enum mr_blocked_on blocked_on;
    uint64_t due_log_ns;  /* back-off, not before: until; 0 none */
    uint32_t attempts;
    uint32_t refusals;
    uint32_t interruptions;
    uint32_t fence;
    uint64_t started_wall_ns; /* in flight: since */
    uint64_t lane;
    uint64_t event_position; /* of the EVENT record; 0: within the group being gathered */
};

struct mr_dead_letter {
    uint64_t offset;
    uint64_t event_position;  /* of the EVENT record */
    uint64_t record_position; /* of the DEAD record */
    uint64_t died_log_ns;
    uint32_t attempts;
    uint32_t fence;           /* of its last hand-out */
    uint32_t event_size;      /* body of the EVENT record */
    uint64_t lane;
    uint8_t level; /* of priority */
    bool snapped;  /* the bus's own */
};

struct mr_bus_status {
    uint64_t next_offset;
    uint64_t next_sequence;
    uint64_t durable_sequence;
    uint64_t log_bytes;      /* of all segments */
    uint64_t segments;
    uint64_t spare_segments;
    uint64_t survivor_files;   /* what outlived its segment */
    uint64_t survivor_bytes;
    uint64_t survivors_copied; /* bytes, since the start */
    uint64_t oldest_position;
    uint64_t durable_position; /* everything before it can be read from the files */
    uint64_t memory_used[MR_BUDGET_MAX]; /* bytes; 0 of what is not counted (mr_budgets) */
    uint64_t lost_events;    /* since the log began */
    uint64_t groups_written; /* since start */
    uint64_t bytes_written;
    uint64_t late_answers;
    uint64_t unmatched;      /* events that matched nothing, since start */
    uint64_t checkpoints;
    uint64_t footers;         /* segments that have a good one */
    uint64_t footers_pending; /* sealed segments that are to get one */
    uint64_t footer_failures; /* since start: tried again later */
    uint64_t scrub_ended_wall_ns; /* when all of the log had been scrubbed last; 0: not yet, */
    uint64_t scrub_bytes;         /* how much that was */
    uint64_t rotten;              /* places that are rotten, as far as is known, and */
    uint64_t rotten_found;        /* how many were found by the scrubber since start */
    uint64_t rotten_deliveries;   /* deliveries that ended lost by that, */
    uint64_t rotten_letters;      /* and dead letters that cannot be read by it */
    bool faulty;
    bool slow;
    bool clock_frozen;
    uint64_t log_ns;
};

/** Whether a write or sync failed: nothing is acknowledged any more. */
bool mr_bus_is_faulty(const struct mr_bus *bus);
uint32_t mr_bus_subscription_count(const struct mr_bus *bus);
/** @param id 0..count-1 */
void mr_bus_subscription_info(const struct mr_bus *bus, struct mr_now now, uint32_t id,
                              struct mr_subscription_info *ret_info);
/** @return how many were filled; 0: everything goes to one target */
uint32_t mr_bus_subscription_shares(const struct mr_bus *bus, uint32_t id,
                                    struct mr_share_info ret_shares[MR_SHARES_MAX]);
uint32_t mr_bus_target_count(const struct mr_bus *bus);
void mr_bus_target_info(const struct mr_bus *bus, uint32_t id, struct mr_target_info *ret_info);
uint32_t mr_bus_source_count(const struct mr_bus *bus);
const char *mr_bus_source_name(const struct mr_bus *bus, uint32_t id);
struct mr_source_info {
    const char *name;    /* borrowed until the next configure */
    uint64_t duplicates; /* repeats answered with the first offset, since the process started */
    uint64_t keys;       /* kept for its dedupe window now */
    uint64_t keys_early; /* of them that went for want of room, since the process started */
};
void mr_bus_source_info(const struct mr_bus *bus, uint32_t id, struct mr_source_info *ret_info);
struct mr_fanout_info {
    const char *name;    /* borrowed until the next configure */
    bool configured;     /* not: of a configuration before */
    uint64_t open;       /* events whose fan-out is not over */
    uint64_t complete;   /* told with complete: true, since the process started */
    uint64_t incomplete; /* told with complete: false, likewise */
};
uint32_t mr_bus_fanout_count(const struct mr_bus *bus);
void mr_bus_fanout_info(const struct mr_bus *bus, uint32_t id, struct mr_fanout_info *ret_info);
/** The last cursor logged for a source, or NULL; borrowed until the next input. */
const char *mr_bus_source_cursor(const struct mr_bus *bus, uint32_t id);
void mr_bus_status(const struct mr_bus *bus, struct mr_bus_status *ret_status);
/** What the keys of this log are made with (bus/dedupe.h); the same for as long as the log. */
uint64_t mr_bus_salt(const struct mr_bus *bus);
/** The offset of the event that @p source sent with @p key within its dedupe window; 0: none. */
uint64_t mr_bus_first_offset(const struct mr_bus *bus, uint32_t source,
                             const struct mr_dedupe_key *key);
/** @return MR_E_NOT_FOUND when it is not in the window (settled, or behind) */
MR_MUST_USE enum mr_status mr_bus_delivery_info(const struct mr_bus *bus, struct mr_now now,
                                                uint32_t subscription, uint64_t offset,
                                                struct mr_delivery_info *ret_info);
/* One delivery that is not settled. */
struct mr_open_delivery {
    uint64_t offset;
    uint64_t arrival_log_ns;
    struct mr_delivery_info info;
};
/** Calls @p fn for the deliveries in the window of @p subscription, oldest first, behind offset
 * @p after (0: from the oldest), until it returns false or a few thousand were seen.
 * @return where to go on behind; UINT64_MAX: there are no more */
uint64_t mr_bus_open_deliveries(const struct mr_bus *bus, struct mr_now now, uint32_t subscription,
                                uint64_t after,
                                bool (*fn)(void *context, const struct mr_open_delivery *delivery),
                                void *context);
/** Calls @p fn for each dead letter of @p subscription by offset until it returns false. */
void mr_bus_dead_letters(const struct mr_bus *bus, uint32_t subscription,
                         bool (*fn)(void *context, const struct mr_dead_letter *letter),
                         void *context);
/** Aborts with the reason when an invariant does not hold: counts against structures, lists,
 * heap, lanes, conservation. For the simulation (each step) and debug builds. */
void mr_bus_check(const struct mr_bus *bus);
/** Whether matched = done + dead + … holds for every subscription, from the counters alone: what
 * a scrape checks. @param[out] ret_subscription the first that does not */
bool mr_bus_conserves(const struct mr_bus *bus, uint32_t *ret_subscription);
/** Calls @p fn with the place of each group of segment @p number that may concern something,
 * ascending, until it returns false: as it was written by this process, while the segment has no
 * footer. What is being written may be among them.
 * @param hash of mr_footer_id_hash() or, with @p is_about, of mr_footer_about_hash()
 * @return false: nothing is known, the segment is to be read */
bool mr_bus_sketched(struct mr_bus *bus, uint64_t number, uint64_t hash, bool is_about,
                     bool (*fn)(void *context, uint64_t place), void *context);
/** A hash of the whole delivery state, for the determinism check. */
uint64_t mr_bus_state_hash(const struct mr_bus *bus);

#endif
