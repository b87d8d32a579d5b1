/* What the core is made of: deliveries, lanes, subscriptions and their shares, targets, sources,
 * groups, segments, and the bus that holds them. Nothing outside bus/ includes this. */
#ifndef MR_BUS_STRUCTS_H
#define MR_BUS_STRUCTS_H

#include "bus/bus.h"
#include "bus/map.h"
#include "bus/mend.h"
#include "bus/numbers.h"
#include "bus/planted.h"
#include "core/assert.h"

#define REMOVED_KEEP_NS (7 * MR_DAY)
#define CLOCK_JUMP_NS MR_HOUR
#define OFFLINE_BELIEVED_NS (7 * MR_DAY) /* a machine that was off so long is believed */
#define REFUSED_BACKOFF_NS (100 * MR_MS)
#define REFUSED_BACKOFF_MAX_NS (30 * MR_SECOND)
#define INTERRUPTIONS_ALONE 3u
#define NOTES_SIZE_MAX (8u * MR_KIB)
#define MR__PROGRESS_STEP (1u * MR_MIB) /* of a start: told for so many bytes */
#define COLD_CHUNK (256u * MR_KIB)
#define COLD_CHUNKS_MAX 256u
#define READS_MAX 48u     /* outside at once */
#define COLD_EVENTS 4u    /* sixteenths of the memory for reads: for single events, */
#define COLD_READY 1u     /* for events that were read before they begin, */
#define COLD_BEHIND 11u   /* for who is behind */
#define RAMP_FIRST_PER_S 200u
#define NO_HEAP UINT32_MAX
#define HEAP_CHUNK 64u /* places of the heap of timers */

enum mr__where {
    MR__READY = 0,  /* head of its lane or unordered: on the subscription's ready list */
    MR__BLOCKED,    /* behind another of its lane */
    MR__WAITING,    /* back-off, until due */
    MR__DELAYED,    /* never handed out: its event says not before due */
    MR__ARMED,      /* attempt logged, its group not yet durable */
    MR__QUEUED,     /* attempt durable: on the target's queue */
    MR__FLIGHT,     /* handed out */
    MR__HELD,
    MR__ENDING,     /* decided; waits for the event's bytes to tell the outcome */
    MR__WHERE_MAX,
};

struct mr__notes { /* earlier attempts, in the form a DEAD record ends with */
    uint32_t size;
    uint32_t capacity;
    uint8_t data[];
};

struct mr__ending { /* what to do once the event's bytes are there */
    enum mr_state state;
    uint8_t where; /* enum mr__where, before: what the log says until the end is logged */
    uint64_t started_wall_ns;
    uint64_t ended_wall_ns;
    struct mr_buf result;  /* encoded result */
    char *result_json;     /* owned */
};

struct mr__bundle { /* a batch for a handler: counts as one wherever places are counted; bundle.c */
    struct mr__bundle *next; /* of all in the bus */
    struct mr__bundle *prev;
    uint64_t number;
    uint32_t begun;   /* of its deliveries: armed, queued or in flight, all of them or none */
    uint32_t outside; /* hand-outs that have not come back */
    uint32_t share;   /* it failed as a whole: so many together the next time; 0: it did not */
    bool counted;     /* the breaker knows that */
};

struct mr__posted;
struct slab;

struct mr__pool { /* pool.c */
    struct slab *slabs; /* owned; with something free */
    struct slab *full;  /* owned */
    uint64_t free_count;
    uint64_t reserved; /* of these, at the last reservation, and not taken since */
};

struct mr__delivery {
    struct mr__delivery *next; /* of the one list it is on (ready, queue, stage, loading) */
    struct mr__delivery *prev;
    struct mr__list *list;     /* that list, or NULL */
    struct mr__delivery *lane_next;
    struct mr__delivery *lane_prev;
    struct mr__delivery *older; /* of its subscription, as they came into the window */
    struct mr__delivery *newer;
    struct mr__lane *lane;     /* NULL: unordered */
    struct mr__sub *sub;
    struct mr_event *event;    /* one reference while armed, queued or ending; may be NULL */
    struct mr__notes *notes;   /* owned; NULL until a first attempt failed */
    struct mr__ending *ending; /* owned */
    struct mr__bundle *bundle; /* the batch it has begun in, or NULL */
    uint64_t bundle_key; /* hash of what its batch goes by; 0: not looked at */
    uint64_t offset;
    uint64_t position;   /* of the EVENT record; while in_stage: byte in the stage */
    uint64_t arrival_ns; /* log clock */
    uint64_t expires_ns; /* the event's expirytime; 0 none */
    uint64_t due_ns;     /* log clock; WAITING, DELAYED: until then; BLOCKED: not before, once it is
                            the head; 0: at once */
    uint64_t started_ns; /* FLIGHT, READY: since; log clock */
    uint64_t started_wall_ns;
    uint64_t lease_ns;   /* FLIGHT: log clock at which it times out */
    uint32_t size;       /* of the event record's body */
    uint32_t fence;
    uint32_t heap_at;    /* NO_HEAP: no timer */
    uint8_t where;       /* enum mr__where; changed by mr__set_where() only */
    uint8_t share : 4;   /* of its subscription's; chosen when it becomes ready */
    uint8_t level : 4;   /* of priority */
    uint8_t hops;        /* of its event, known where its subscription sheds; as `tells`, not after
                            a start */
    bool alone : 1;
    bool cancels : 1;      /* its event cancels what is before it in its lane, */
    bool only_cancels : 1; /* and is not delivered itself */
    bool in_stage : 1;
    bool loading : 1;   /* its bytes were asked for */
    bool ramp : 1;      /* WAITING: its due time comes from the restart ramp */
    bool timed_out : 1; /* WAITING, and the hand-out of `fence` has not come back */
    bool tells : 1;     /* its event tells of what was shed */
    bool snapped : 1;   /* see struct mr__sub */
    uint64_t timer_ns;
    uint16_t attempts;
    uint16_t refusals;
    uint16_t interruptions;
    uint16_t together; /* its batch failed as a whole: in the next, so many at most; 0: any. Not
                          logged: a start tries the whole again */
};

/* What `window` takes a delivery for; what it really takes says memory.c. */
#define DELIVERY_COST (sizeof(struct mr__delivery) + 64u)

struct mr__arrival { /* what a delivery is made of */
    uint64_t offset;
    uint64_t lane;       /* key; 0: unordered */
    uint64_t position;   /* of the EVENT record */
    uint64_t arrival_ns; /* log clock */
    uint64_t expires_ns; /* 0: never */
    uint64_t due_ns;     /* log clock: not before; 0: at once */
    uint32_t size;       /* of the event record's body */
    uint32_t fence;      /* of its last attempt; 0: none yet */
    uint8_t cancels;     /* MR_MATCH_CANCELS, MR_MATCH_ONLY_CANCELS */
    uint8_t level;       /* of priority */
};

struct mr__list {
    struct mr__delivery *first;
    struct mr__delivery *last;
    uint64_t count;
    struct mr__share *share; /* whose ready list it is; NULL: another list */
};

struct mr__lane {
    uint64_t key;
    uint64_t cancelled_before; /* offset of the latest in it that cancels; 0: none does */
    struct mr__delivery *first;
    struct mr__delivery *last;
};

struct mr__dead {
    struct mr_dead_letter letter;
    uint64_t later_before; /* of its lane's counter, when it died */
};

struct mr__limit { /* how often something may be handed out; limit.c */
    struct mr__rate *rates[MR_RATES_MAX]; /* owned */
    uint32_t count; /* 0: no limit */
};

struct mr__shared { /* a limit that several subscriptions keep together; limit.c */
    const struct mr_limit_config *conf;
    struct mr__limit *limit; /* owned; NULL: no rate */
    uint64_t begun;     /* places of all that share it */
    uint64_t in_flight; /* of these, with a target */
};

struct mr__times {
    struct mr_histogram delivery;
    struct mr_histogram attempt;
    uint64_t verdicts[MR_VERDICT_MAX]; /* answers, by what they said */
    uint64_t shed;
};

#define WINDOW_BUCKETS 30u

struct mr__window { /* what came of attempts of late */
    uint32_t ok[WINDOW_BUCKETS];
    uint32_t failed[WINDOW_BUCKETS];
    uint64_t bucket_ns; /* start of the newest bucket, log clock */
    uint32_t bucket;
};

struct mr__returned { /* a weight that went to the others of its subscription */
    uint32_t target;
    uint64_t hash; /* of the share then: another one begins anew */
};

struct mr__share { /* what of a subscription goes to one of its targets; share.c */
    struct mr__sub *sub;
    struct mr__target *target;   /* NULL when removed */
    struct mr__share *turn_next; /* ring of shares with something ready, per target */
    struct mr__list ready;       /* of level 0; as it became ready, like the next */
    struct mr__list *levels;     /* owned; of 1..MR_PRIORITY_MAX; NULL: there is but one level */
    uint64_t ready_count;        /* of all levels, */
    uint64_t ready_size;         /* and bytes of their events */
    struct mr__window *window;   /* owned; how it fared of late; NULL: its weight stays */
    uint64_t hash;               /* of its configuration; 0: it is the only one */
    uint32_t weight;             /* of those of its subscription */
    uint32_t ahead;              /* its deliveries that are armed or queued */
    bool returned;               /* its weight went to the others */
    bool on_turn;
    bool gathering; /* what is ready has a place and waits for others of its batch */
};

struct mr__join_member { /* one subscription of a fan-out, for one event */
    char *texts; /* owned: reason, then result; NULL: neither */
    uint32_t sub;
    uint32_t reason_size;
    uint32_t result_size;
    uint16_t attempts;
    uint8_t state;  /* enum mr_state: of its first end; NONE: it has not ended */
    bool truncated; /* it had a result, which is not kept */
};

struct mr__join { /* an event whose fan-out is not over; fanout.c */
    struct mr__join *next; /* of those open, by offset */
    struct mr__join *prev;
    struct mr__join *same;       /* others of the same event */
    struct mr__join *ended_next; /* of those all of whose members have ended */
    const struct mr_event *of;   /* only while it is prepared: whose it will be */
    struct mr_event *head;       /* owned: what is told of the event */
    uint64_t offset;
    uint64_t due_ns; /* log clock */
    uint64_t bytes;  /* of state */
    uint64_t results_size;
    uint32_t fanout; /* id */
    uint32_t heap_at;
    uint32_t count;
    uint32_t left;  /* members that have not ended */
    bool ended;     /* it is on that list */
    bool snapped;   /* as the bus says of all of them: it is saved, or came since */
    struct mr__join_member members[]; /* by subscription */
};

struct mr__join_saved { /* as a checkpoint has it */
    uint64_t offset;
    uint64_t due_ns;
    uint32_t fanout;
    uint32_t count;
    struct mr_bytes head;
};

struct mr__fanout {
    char *name; /* owned */
    const struct mr_fanout_config *conf; /* NULL: not configured now */
    uint64_t open;
    uint64_t complete; /* since the process started, as the next */
    uint64_t incomplete;
};

struct mr__end { /* how a delivery ended, for the fan-outs it belongs to */
    enum mr_state state;
    uint32_t attempts;
    struct mr_bytes reason;
    struct mr_bytes result; /* JSON text; empty: none */
};

struct mr__sub {
    struct mr__snap *snap; /* the checkpoint that it is being saved to; NULL: it is not */
    uint32_t id;
    bool known;        /* its NAME record is logged */
    bool paused;
    bool ingest;       /* pseudo-subscription of a source: dead letters only */
    uint32_t fanout;   /* id of the one it belongs to now, + 1; 0: none */
    bool snapped; /* what of it says the same is saved, or came since */
    bool on_turn;
    char *name;                               /* owned */
    const struct mr_subscription_config *conf; /* borrowed from the configuration; NULL: removed */
    struct mr__share *shares;      /* owned; one, or one for each of several targets */
    struct mr__share *shares_next; /* owned; of the configuration to come; NULL: as they are */
    uint32_t share_count;
    uint32_t share_next_count;
    struct mr__returned *returned; /* owned */
    uint32_t returned_count;
    uint32_t lane_width; /* of one lane so many side by side */
    uint32_t lane_widest; /* the most that was: what began then may stand beyond it */
    uint64_t folded_to; /* recovery: what stands before this position is in its state already */
    uint64_t removed_log_ns;                  /* since; 0: there */
    struct mr_counts counts;
    uint64_t behind;   /* matched, waiting, not in the window */
    /* A changed order_by is a barrier: lanes of two orders cannot be compared, so what matched
     * under the new one enters the window when all of the old one has left it. */
    uint64_t order_hash;   /* of the present order_by; 0: not known */
    uint16_t order_epoch;  /* counts its changes; each match is logged with it */
    uint16_t window_epoch; /* of what is in the window */
    bool barred;           /* the cursor stands at such a barrier */
    bool live;             /* nothing is left to read behind the cursor */
    bool cursor_in_stage;  /* cursor_position is a byte in the stage */
    bool shed_listed; /* on the bus's list: more wait than may */
    bool shedding;    /* more than may did, and more than are to still do */
    struct mr_map deliveries; /* offset -> struct mr__delivery * */
    uint64_t loaded_to;       /* none there was ever as high */
    struct mr_map lanes;      /* key -> struct mr__lane * */
    struct mr_map skip;       /* offsets beyond the cursor that are settled already */
    struct mr_map dead_lanes; /* lane -> settles counted since its first dead letter */
    struct mr__delivery *oldest; /* by age in the window */
    struct mr__delivery *newest;
    uint32_t where_count[MR__WHERE_MAX];
    uint32_t ramp_count; /* WAITING because of the restart ramp */
    uint64_t begun;    /* armed + queued + in flight */
    uint64_t in_flight; /* of these, with the target */
    uint64_t places;    /* that the begun take: a batch takes one */
    uint64_t places_in_flight;
    uint64_t shed_sequence;   /* of the group that tells of the last ones that were shed */
    struct mr__sub *shed_next; /* on the list */
    struct mr__dead *dead; /* owned; ascending offset */
    uint64_t dead_count;
    uint64_t dead_staged; /* of these, whose record is in the group being gathered */
    uint64_t dead_capacity;
    uint64_t window_bytes;
    uint64_t memory; /* all that is kept for it, as memory.c counts; changed there only */
    uint64_t memory_wished;       /* deliveries about to arrive, while they are counted, */
    uint64_t memory_wished_lanes; /* and those of them in lanes */
    /* The cursor: everything matched below cursor_offset is in the window or settled; the rest is
     * read from cursor_position on. */
    uint64_t cursor_position;
    uint64_t cursor_offset;
    uint32_t walk_at;     /* byte in the group at the cursor where reading goes on; 0: its begin */
    uint32_t cursor_size; /* bytes it wants there; 0: not known yet */
    uint8_t unread;       /* reads of them that failed */
    uint64_t walks;       /* number of the segment that is walked in spite of its footer */
    struct mr__posted *posted; /* owned; in a segment whose postings it follows, else NULL */
    bool turn_over;       /* in this step, */
    bool full;            /* for want of room, */
    bool walking;         /* in this group */
    struct mr__times *times; /* owned; NULL until something was answered or ended */
    struct mr__limit *limit; /* owned; NULL: none */
    struct mr__limit *limit_next; /* owned unless it is `limit`: of the configuration to come */
    struct mr__shared *shared; /* all of them; conf->limits says which are ours */
};

struct mr__breaker {
    struct mr__window window;
    uint64_t open_until_ns; /* log clock; 0: closed */
    bool half_open;
};

struct mr__target {
    uint32_t id;
    char *name; /* owned */
    const struct mr_target_config *conf; /* NULL: not configured now */
    uint32_t slots;
    uint32_t in_flight; /* places of hand-outs not yet given back: a batch takes one */
    uint32_t armed;     /* places of what is armed or queued */
    struct mr__list queue;
    struct mr__share *turn_first; /* shares with something ready, in turn */
    struct mr__share *turn_last;
    struct mr__breaker breaker;
    bool has_levels; /* a subscription with priorities goes to it */
    struct mr__limit *limit; /* as a subscription's */
    struct mr__limit *limit_next;
    uint64_t told_queued; /* last demand told */
    bool told;
};

struct mr__seen_key {
    struct mr_dedupe_key key;
    uint64_t offset; /* of the first event that had it */
    uint64_t log_ns; /* when that came */
};

struct mr__seen { /* what a source has sent within its window; dedupe.c */
    struct mr__seen_key *ring; /* owned; as they came; NULL until the first */
    uint32_t *index;           /* owned; place in the ring + 1, 0: free; linear probing */
    uint64_t index_size;       /* a power of two, at least twice `limit` */
    uint64_t limit;            /* places in the ring */
    uint64_t wanted;           /* places it is to have from the next key on */
    uint64_t first;            /* place of the oldest */
    uint64_t count;
    uint64_t dropped;          /* so many were older than the oldest */
    uint64_t window_ns;        /* 0: repeats are events */
};

struct mr__source {
    uint32_t id;
    char *name;   /* owned */
    char *cursor; /* owned; JSON text or NULL */
    struct mr__seen seen;
    uint64_t duplicates; /* since the process started, as the next */
    uint64_t keys_early; /* that went before their window was over, for want of room */
    int64_t index; /* in the configuration, -1 */
    bool known;
    uint64_t keys_to; /* recovery: its keys before this position are known */
    uint32_t ingest_sub; /* id of "ingest:<name>", UINT32_MAX until needed */
};

struct mr__dead_ref {
    uint64_t offset;
    uint32_t sub;
};

struct mr__group { /* a group in memory: being gathered, or being written */
    uint8_t *data; /* owned; aligned */
    size_t capacity;
    size_t size; /* header included; 0: empty */
    uint32_t records;
    uint32_t records_crc;
    uint64_t first_offset;
    uint64_t since_ns; /* monotonic: when gathering began */
    bool urgent;       /* somebody waits for what is in it */
    struct mr_batch *batches; /* chain through op.next; answered when durable */
    struct mr_batch *batches_last;
    struct mr__list armed;
    struct mr__delivery **created; /* owned; deliveries whose position is a byte in here */
    uint32_t created_count;
    uint32_t created_capacity;
    struct mr__dead_ref *dead; /* owned; dead letters with a position that is a byte in here */
    uint32_t dead_count;
    uint32_t dead_capacity;
    /* once submitted: */
    uint64_t position;
    uint64_t sequence;
    uint32_t padded;
};

struct mr__segment {
    uint64_t number;
    uint64_t size;
    uint64_t used;   /* bytes, header block included */
    uint64_t salt;
    uint64_t live;   /* deliveries in the window and dead letters that need it */
    uint64_t freed_sequence; /* the group whose records end the last need for it */
    uint64_t first_offset; /* of its first group */
    uint64_t wall_ns;      /* of its last group */
    int file;        /* open for writing, -1 when sealed */
    bool sealed;
    bool retiring;
    bool has_footer; /* a file that may be its footer is there */
    bool footed;     /* and it is known to be a good one */
    bool footing;    /* it is being made, or looked at */
    struct mr__numbers sketch; /* until then: what its groups may concern; sketch.c */
    /* survive.c: */
    enum mr_log_file of;     /* survivors, or a segment */
    bool chosen;             /* what is alive in it is looked for, */
    uint64_t found;          /* bytes of it so far */
    uint64_t left_live;      /* alive when that was left in it, as too much; 0: never */
    uint64_t moved_sequence; /* the last group that says where some of it went; 0: none does */
};

struct mr__moving { /* what the walk found, of one kind */
    struct mr_log_copy *items; /* owned */
    uint32_t count;
    uint32_t capacity;
    uint32_t next;   /* the first that is not copied */
    bool sorted;     /* by place */
    uint64_t number; /* of the survivor file they go to; 0: none yet */
    uint64_t groups; /* in that */
    uint32_t chain;  /* checksum of the last of them */
};

struct mr__walk { /* walk.c */
    uint32_t sub;                  /* of the subscription it is at */
    struct mr__delivery *delivery; /* the next of that; kept right by mr__walk_forget() */
    uint64_t letter_offset;        /* all are seen: the dead letters at or past that */
};

#define MR__MOVING_KINDS 2u /* what waits, and dead letters */

struct mr__survive {
    enum mr__survive_phase {
        MR__SURVIVE_IDLE = 0,
        MR__SURVIVE_WALK, /* over all deliveries and dead letters, a slice each step */
        MR__SURVIVE_COPY, /* group by group */
        MR__SURVIVE_LOG,  /* a copy is durable, its record wants room */
    } phase;
    struct mr__moving moving[MR__MOVING_KINDS];
    struct mr__walk walk;
    uint32_t kind;           /* of `moving`, that is copied */
    uint64_t after_mono_ns;  /* not again before */
    struct mr_log_request *request; /* COPY: outside; LOG: done; owned then */
    uint64_t copied_bytes; /* since the start */
};

struct mr__rot { /* a place that is rotten */
    uint64_t number; /* of the segment or survivor file */
    uint64_t from;
    uint64_t end;
};

struct mr__suspect { /* whoever needs a record at a rotten place */
    uint64_t offset;
    uint32_t sub;
    bool letter;
};

struct mr__scrub { /* scrub.c */
    enum mr__scrub_phase {
        MR__SCRUB_READ = 0, /* one piece after another */
        MR__SCRUB_FIND,     /* who needs what is at the rotten place, a slice each step */
        MR__SCRUB_JUDGE,    /* whether their records are damaged: a request is outside, or done */
    } phase;
    uint64_t number;  /* of the file that is read; 0: the next is to be chosen */
    uint64_t last;    /* the one before */
    uint64_t at;      /* where its next piece begins; 0: with its header */
    uint64_t next_offset;
    bool begun;       /* since the start */
    bool wrapped;     /* the pass has come to the newest, and goes on with the oldest */
    uint64_t pass_from; /* number of its first file */
    uint64_t pass_bytes;
    uint64_t total;   /* bytes of all that is to be read */
    bool idle;        /* there was nothing to be read when this was the next number: */
    uint64_t idle_at;
    uint64_t due_mono_ns;
    uint64_t sent_mono_ns;
    struct mr_log_request *request; /* outside, or */
    bool judged;                    /* done; owned then */
    uint32_t judged_to;
    struct mr__rot *rots; /* owned; those that stand */
    uint32_t rot_count;
    struct mr__rot rot;   /* FIND: the one at hand, */
    bool fresh;           /* which was not known, */
    bool survivors;       /* of which only what is needed counts: a copy may have been cut off, */
    struct mr_log_mend mend; /* as it was found, */
    uint64_t rot_deliveries; /* and what it was needed for */
    uint64_t rot_letters;
    struct mr__walk walk;
    struct mr__suspect *suspects; /* owned; JUDGE */
    uint64_t ended_wall_ns;
    uint64_t ended_bytes;
    uint64_t found;
    uint64_t deliveries;
    uint64_t letters;
};

struct mr__chunk { /* bytes of the log kept in memory */
    uint64_t position;
    size_t size;
    uint8_t *data; /* owned */
    size_t capacity;
    /* of those read from files: */
    uint64_t used;    /* when; a count */
    bool walked;      /* read for who is behind, not for one event */
    bool fresh;       /* came since the last step */
    bool seen;        /* somebody has looked at it */
    bool awaited;     /* who is behind goes on with it */
    bool ahead_asked; /* for what is behind it */
};

struct mr__cold { /* what was read from files for one purpose */
    uint64_t bytes;  /* with what the reads outside will bring */
    uint32_t chunks; /* in memory */
    uint32_t reads;  /* outside */
};

enum mr__snap_turn { /* what of a checkpoint is being saved */
    MR__SNAP_SUBS = 0,
    MR__SNAP_KEYS,
    MR__SNAP_JOINS,
    MR__SNAP_DONE,
};

enum mr__snap_phase { /* and of a subscription */
    MR__SNAP_SKIP = 0,
    MR__SNAP_DEAD,
    MR__SNAP_DELIVERIES,
};

struct mr__snap { /* a checkpoint on its way; checkpoint.c */
    bool active;
    bool failed; /* memory was short: it is given up */
    uint64_t generation;
    uint64_t stamp; /* of its chunks */
    uint32_t slot;
    uint64_t position; /* where its base is true; every other section is true there or behind */
    uint64_t sequence;
    uint32_t previous_crc;
    uint64_t last_sequence; /* that the last section is true at */
    unsigned turn;          /* enum mr__snap_turn */
    uint32_t next;          /* subscription, or source */
    uint32_t saved_subs;
    bool in_section;
    struct mr__sub *sub; /* being saved */
    unsigned phase;      /* enum mr__snap_phase */
    uint64_t skip_at;    /* slot of the map, which had this capacity */
    uint64_t skip_capacity;
    uint64_t dead_at;              /* index */
    struct mr_map settled;         /* lane -> settles since the section began */
    struct mr__delivery *delivery; /* the next by age */
    uint64_t key_at;               /* of all that a source ever kept */
    uint64_t key_end;
    bool joins;                    /* they are being saved */
    struct mr__join *join;         /* the next */
    struct mr_buf buf;             /* owned: the chunk being filled */
    bool continues;                /* it began within a section */
    size_t chunk_size;
    uint32_t chunks;    /* sent */
    uint64_t content;   /* bytes of them */
    uint64_t at;        /* where in the file the next goes */
    uint64_t last_size; /* of the checkpoint before */
    struct mr_log_request *request; /* outside */
};

struct mr_bus {
    struct mr_bus_ports ports;
    struct mr_bus_options options;
    struct mr_rng rng;
    uint64_t log_id;
    struct mr__bundle *bundles; /* owned */
    uint64_t bundle_number;     /* of the last one */
    struct mr__delivery **gathered; /* owned; what the next batch would be made of */
    uint32_t gathered_capacity;

    struct mr_now now;
    uint64_t log_ns;
    bool clock_frozen;
    uint64_t limit_due_ns; /* monotonic: when a rate grants what it refused, or a batch waits no
                              longer; UINT64_MAX: nothing */

    const struct mr_config *config;
    const struct mr_router *router;
    uint64_t generation;
    uint64_t config_hash_logged;
    uint32_t *sub_of_index; /* owned; configuration index -> subscription id */
    uint32_t sub_of_index_count;
    struct mr_matches rematch;

    struct mr__sub **subs; /* owned; by id */
    uint32_t sub_count;
    struct mr__target **targets;
    uint32_t target_count;
    uint32_t target_turn; /* who is served first in the next step: shared limits want it fair */
    struct mr__shared *shared; /* owned; as the configuration's limits */
    uint32_t shared_count;
    struct mr__source **sources;
    uint32_t source_count;
    struct mr_map names; /* hash of kind and name -> id + 1 */

    struct mr__fanout *fanouts; /* owned; by id */
    uint32_t fanout_count;
    struct mr_map joins;           /* offset -> the first struct mr__join of that event */
    struct mr__join *join_first;   /* owned; all that are open */
    struct mr__join *join_last;
    struct mr__join **join_heap;   /* owned; by due time */
    uint64_t join_heap_capacity;
    uint64_t join_count;
    uint64_t join_bytes;           /* of state_bytes */
    struct mr__join *join_ended;   /* wait for their event */
    struct mr__join *join_ended_last;
    struct mr__join *join_prepared; /* owned; for events about to be appended */
    struct mr__join *join_prepared_last;
    uint64_t join_prepared_count;
    struct mr_record result_read;   /* recovery: whose settle comes next; kind 0: none */

    uint64_t next_offset;
    uint64_t next_sequence;
    uint64_t durable_sequence;
    uint64_t synced_sequence; /* interval, never: what a sync covered */
    uint32_t previous_crc;
    struct mr__group stage;
    struct mr__group flight;
    bool writing;
    struct mr_log_request write_request;
    uint64_t last_write_mono_ns;
    bool mark_wanted;
    uint32_t not_live;         /* subscriptions that are behind */
    uint32_t cursors_in_stage; /* subscriptions whose cursor is a byte in the stage */
    uint64_t prepare_after_mono_ns; /* after a PREPARE that found no space */
    bool syncing;
    uint64_t next_sync_mono_ns;
    struct mr_batch *pending; /* batches that found no room, chain through op.next */
    struct mr_batch *pending_last;
    struct mr_handout *deferred; /* answers that found no room */
    struct mr_handout *deferred_last;

    struct mr__segment *segments; /* owned; ascending; the last ones may be prepared only */
    uint32_t segment_count;
    int64_t current; /* index of the segment written to, -1: none yet */
    uint64_t next_segment_number;
    struct mr__scrub scrub;
    struct mr__segment *keeps; /* owned; survivor files, ascending, numbered with the segments */
    uint32_t keep_count;
    uint64_t keep_bytes; /* used, of all */
    struct mr__survive survive;
    uint64_t *spares; /* owned */
    uint32_t spare_count;
    uint64_t next_spare_number;
    bool preparing;
    bool sparing;    /* a spare file is being made */
    bool sealed_one; /* in this process, and since then no spare has failed */
    uint32_t sealing; /* SEAL requests outside: under `interval` they sync what came before */
    bool footing;              /* a FOOTER or IDS request is outside */
    uint64_t ids_due;          /* group of segments whose file of ids is to be made, + 1; 0: none */
    uint64_t ids_making;       /* the same, of the request that is outside */
    bool footers_idle;         /* nothing is left to be footed */
    uint64_t footer_last;      /* number of the segment looked at last */
    uint64_t footer_failures;
    uint64_t footer_sent_mono_ns;
    uint64_t footers_due_mono_ns;      /* the pause after the last is over, */
    uint64_t footers_busy_due_mono_ns; /* and while something is being written */
    struct mr__numbers noted; /* hashes of what the stage's records concern; sketch.c */
    uint64_t noted_about;   /* the last one */
    bool noted_all;         /* some concern every event */
    bool noted_lost;        /* memory was short */
    uint64_t sketch_bytes;  /* of all segments */
    bool names_due; /* the next group begins with all names */
    bool config_due; /* a segment has begun without the configuration's snapshot */

    struct mr__chunk *cache; /* owned; ring of recent groups, ascending position */
    uint32_t cache_first;
    uint32_t cache_count;
    uint32_t cache_capacity;
    uint64_t cache_bytes;
    struct mr__chunk cold[COLD_CHUNKS_MAX]; /* read from files; ascending position */
    uint32_t cold_count;
    struct mr__cold cold_events; /* of them for single events, */
    struct mr__cold cold_behind; /* and for who is behind */
    uint64_t cold_clock; /* counts uses */
    struct mr_log_request *reads[READS_MAX];
    uint32_t read_count;
    const struct mr__sub *reads_next; /* was refused a read: nobody else who is behind asks */
    struct mr__sub **behind; /* owned; those that catch up in this step, in turn */
    bool ahead_refused; /* for want of memory, more was not read ahead of who is behind */
    uint32_t behind_count;
    uint32_t behind_capacity;
    uint32_t catch_turn;     /* id of the subscription that is first in the next step */
    int64_t catch_units;     /* of work, left in this step */
    uint64_t catch_offset;   /* next_offset when the last step began to catch up */
    bool step_again;         /* work was left for the next step */
    struct mr__list loading;
    struct mr__sub *shed_first; /* where more wait than may */
    struct mr__sub *shed_last;

    struct mr__delivery ***heap; /* owned; in chunks: growing copies none of them */
    uint32_t heap_count;
    uint32_t heap_capacity;
    uint64_t state_bytes; /* of subscriptions, keys and joins; idle places come on top */
    uint64_t seen_bytes;  /* of them: keys of all sources */
    uint64_t memory_share; /* what each configured subscription may always have */
    uint64_t memory_free;  /* for those that have more, all together */
    uint64_t memory_above; /* what these have above their share */
    uint64_t memory_recovered; /* was used when recovery was over: what was begun comes on top */
    uint64_t arrivals;      /* deliveries that room was made for, and that are still to come, */
    uint64_t arrival_lanes; /* and those of them in lanes */
    uint64_t delivery_count;
    struct mr__pool deliveries; /* the memory of all, and of what will be */
    struct mr__pool lanes;

    uint64_t checkpoint_generation;
    uint64_t checkpoint_slot_position[2]; /* each slot is true at; 0: not usable, or a start did
                                           not look */
    uint64_t checkpoint_slot_sequence[2]; /* the last group that is in it; 0: not usable */
    uint64_t pinned_bytes; /* of settled segments past the window that a checkpoint slot needs */
    uint64_t bytes_since_checkpoint;
    uint64_t checkpoint_ended_mono_ns; /* the last one, well or not */
    uint64_t checkpoint_position; /* of the newest */
    uint32_t checkpoint_slot;     /* that the next goes to */
    struct mr__snap snap;         /* the one being written */
    bool joins_snapped;
    uint64_t base_to;  /* recovery: names, cursors, clock and counts before it are known, */
    uint64_t joins_to; /* and what fan-outs wait for */

    uint64_t disk_free;
    bool disk_low;
    uint64_t disk_short; /* bytes to be freed before it is low no more */
    bool slow_told;
    bool faulty;
    bool draining;
    bool closing; /* nobody performs requests any more */
    bool recovering;
    uint64_t io_pending; /* requests outside */

    uint64_t lost_events;
    uint64_t groups_written;
    uint64_t bytes_written;
    uint64_t late_answers;
    uint64_t unmatched;
    uint64_t checkpoints;
};

#endif
