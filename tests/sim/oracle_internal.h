/* What oracle.c (promises, checks), oracle_fold.c (records) and oracle_ends.c (attempts and what
 * becomes of them) share. */
#ifndef MR_TESTS_SIM_ORACLE_INTERNAL_H
#define MR_TESTS_SIM_ORACLE_INTERNAL_H

#include <string.h>

#include "sim.h"

#define ORACLE_SUBS 64u
#define ORACLE_SPECS 32u

enum oracle_kind {
    ORACLE_FROM_SOURCE = 0,
    ORACLE_EMITTED,
    ORACLE_OUTCOME,
    ORACLE_EDITED, /* given a held delivery by an operator */
    ORACLE_JOINED, /* tells how a fan-out ended */
    ORACLE_SHED, /* tells of it */
};

struct oracle_event {
    uint64_t offset;
    uint64_t sequence; /* of its group */
    uint64_t segment;
    uint64_t time_ns; /* log clock, at its arrival */
    enum oracle_kind kind;
    uint32_t crc;
    uint32_t source;
    uint32_t n;     /* message or emitted number, or id of the fan-out */
    uint32_t first; /* its deliveries */
    uint32_t count;
    uint8_t type;    /* index of its type, for the expected matches */
    bool rejected;   /* dead at once, matched by nothing */
    uint32_t cause_sub;
    uint64_t cause_offset;
};

struct oracle_delivery {
    uint64_t offset;
    uint64_t lane;
    uint64_t fence_sequence; /* group that logged the present attempt */
    uint32_t sub;
    uint32_t fence;
    uint16_t attempts;
    uint16_t refusals;
    uint16_t interruptions;
    uint8_t state; /* enum mr_state */
    uint64_t edited; /* offset of the event it was given; 0: it has its own */
    bool timed_out;
    bool redriven;
    uint16_t together; /* after a batch that failed as a whole: so many at most; 0: any */
    uint8_t first_end; /* enum mr_state: how it ended first; NONE: it has not */
    uint16_t first_attempts;
    uint32_t first_fence;
    bool letter;  /* in the dead-letter queue */
    bool outside; /* handed out, not answered */
    uint64_t moved_to;       /* number of the file its event is in; 0: where it was logged */
    uint64_t record_segment; /* of a dead letter: of the one its record is in */
    uint64_t moved_from;     /* the last one that something of it has left */
    uint64_t moved_sequence; /* of the group that says so */
    bool cancels;
    bool only_cancels;
    uint16_t handed;
};

struct oracle_undo {
    uint32_t index;
    struct oracle_delivery before;
};

struct oracle_group {
    uint64_t sequence;
    uint32_t event_count; /* all: before the group */
    uint32_t delivery_count;
    uint32_t journal_at;
    uint32_t cursor;
    struct mr_counts counts[ORACLE_SUBS];
};

struct oracle_answer {
    uint64_t offset;
    uint32_t sub;
    uint32_t fence; /* 0: free slot */
    bool handed;
    bool answered;
    enum mr_verdict verdict;
    uint32_t suspects;
    uint32_t emitted;
    uint32_t result_size; /* 0: none */
    uint32_t result_crc;
    uint64_t batch; /* it was handed out in; 0: none */
};

struct oracle_batch {
    uint64_t number; /* 0: none yet */
    uint32_t count;  /* handed out */
    uint32_t want;   /* to be handed out */
    uint64_t size;
    uint64_t values[SIM_ORDERS]; /* of the first, by enum sim_order */
    bool same[SIM_ORDERS];       /* all have that */
};

struct oracle_weight { /* as a WEIGHT record says */
    uint64_t sequence; /* of its group */
    uint64_t hash;
    uint32_t sub;
    uint32_t target;
};

struct oracle_message {
    struct mr_dedupe_key keys[MR_DEDUPE_BY_MAX]; /* as it was sent last */
    uint32_t crc;
    uint32_t sent;
    uint32_t logged;
};

struct oracle_join { /* an event whose members of a fan-out end together */
    uint64_t offset;
    uint64_t due_ns;
    uint64_t opened; /* sequences of the groups */
    uint64_t joined; /* 0: it is open */
    uint32_t fanout;
    uint32_t count;
    uint32_t subs[SIM_SUBS_MAX];
};

struct oracle_emitted {
    uint64_t offset;
    uint32_t sub;
    uint32_t fence;
    uint32_t crc;
    uint32_t logged;
};

struct oracle {
    const struct sim_world *world; /* borrowed */
    bool always;
    bool rotten;
    bool write_failed;
    uint64_t submitted; /* sequences: handed to the disk, */
    uint64_t written;   /* written, */
    uint64_t floor;     /* safe from a power cut */
    uint64_t submitted_before; /* events before the group that was submitted last, */
    uint64_t written_before;   /* and written last */
    uint64_t acknowledged; /* highest offset */
    uint64_t started_ns;   /* log clock when this process began */
    uint32_t cursor;
    char names[ORACLE_SUBS][64];
    char fanouts[SIM_FANOUTS][8]; /* names, by id */
    struct oracle_join *joins;    /* as they were opened */
    uint32_t join_count;
    uint32_t join_capacity;
    struct mr_counts counts[ORACLE_SUBS];
    struct sim_spec specs[ORACLE_SPECS]; /* the last ones */
    uint64_t spec_count;
    struct oracle_event *events; /* by offset - 1 */
    uint32_t event_count;
    uint32_t event_capacity;
    struct oracle_delivery *deliveries; /* by event */
    uint32_t delivery_count;
    uint32_t delivery_capacity;
    struct oracle_undo *journal;
    uint32_t journal_count;
    uint32_t journal_capacity;
    struct oracle_group *groups; /* not safe yet, ascending */
    uint32_t group_count;
    uint32_t group_capacity;
    struct oracle_message *messages[SIM_SOURCES];
    uint32_t message_count[SIM_SOURCES];
    uint32_t message_capacity[SIM_SOURCES];
    struct oracle_emitted *emitted;
    uint32_t emitted_count;
    uint32_t emitted_capacity;
    struct oracle_emitted *edited; /* by number */
    uint32_t edited_count;
    uint32_t edited_capacity;
    struct oracle_answer *answers; /* hash table */
    uint32_t answer_count;
    uint32_t answer_capacity;
    struct oracle_batch batch; /* the last one handed out */
    struct oracle_weight *weights; /* as they were logged */
    uint32_t weight_count;
    uint32_t weight_capacity;
    uint16_t *shares;          /* by number of batch: its parts after it failed; 0: it did not */
    uint32_t share_capacity;
    struct mr_log_copy *copies; /* that came back durable */
    uint32_t copy_count;
    uint32_t copy_capacity;
    bool shedding[ORACLE_SUBS];          /* the last group has left more of them than are to stay */
    uint64_t in_window[ORACLE_SUBS];     /* all up to this group's were in memory; 0: not known */
};

#define ORACLE_OPERATOR UINT32_MAX /* in place of a fence: what an operator said */

/* The event that a repeat of message @p n must be taken for at @p log_ns, among the first @p count
 * events; NULL: it is an event of its own. */
const struct oracle_event *oracle_first_of(const struct oracle *oracle, uint32_t s, uint32_t n,
                                           uint32_t count, uint64_t log_ns);
void *oracle_grow(void *array, size_t item, uint32_t need, uint32_t *capacity);
struct oracle_answer *oracle_answer_of(struct oracle *oracle, uint32_t sub, uint64_t offset,
                                       uint32_t fence);
/* The last that was logged of a share; NULL: none was. @p target: UINT32_MAX: of any of @p sub */
const struct oracle_weight *oracle_weight_of(const struct oracle *oracle, uint32_t sub,
                                             uint32_t target);
/* How many of a lane of @p sub may run side by side, by any of the last configurations. */
uint32_t oracle_lane_width(const struct oracle *oracle, uint32_t sub);
/* @p id is one of the subscriptions of the configuration, not a hidden one. */
bool oracle_visible_index(const struct oracle *o, uint32_t id, uint32_t *ret_index);
struct oracle_event *oracle_event_of(struct oracle *oracle, uint64_t offset);
struct oracle_delivery *oracle_delivery_of(struct oracle *oracle, uint32_t sub, uint64_t offset);
/* The event that @p d has now. */
const struct oracle_event *oracle_payload_of(const struct oracle *oracle,
                                             const struct oracle_delivery *d);

/* --- the fold ------------------------------------------------------------------------------- */

struct oracle_shed { /* of one subscription in one group */
    uint64_t told;  /* offset of the event that tells of it; 0: none */
    uint32_t told_dropped;
    uint32_t told_to;
    uint64_t told_waiting;
    uint64_t told_first;
    uint64_t told_last;
    bool looped;                 /* that event is past the hop limit */
    uint8_t flags[SIM_SUBS_MAX]; /* who has that event */
    uint32_t dropped;
    bool again; /* among them was an event that tells of shedding */
    uint64_t first;
    uint64_t last;
    uint64_t left;     /* one that ought to have gone first; 0: none */
    uint64_t instead;  /* the one that went */
};

/* One group while it is folded. */
struct fold {
    struct oracle *o;
    uint64_t sequence;
    uint64_t position;
    uint32_t emitted_first; /* events of this group begin here */
    uint32_t settled;       /* SETTLE and DEAD records in it */
    uint32_t children;      /* emitted events their results speak of */
    uint32_t emitted;       /* emitted events found */
    uint32_t outcomes;
    uint32_t outcomes_wanted;
    uint64_t log_ns;         /* log clock when it was written */
    struct oracle_shed sheds[ORACLE_SUBS];
    struct mr_record result; /* whose settle comes next; of no kind: none */
    struct mr_record edited_event; /* whose EDIT comes next; of no kind: none */
    struct mr_record joined_event; /* whose JOINED comes next; of no kind: none */
};

#define FAIL(f, ...) sim_fail((f)->o->world, __VA_ARGS__)
#define LLU(x) ((unsigned long long)(x))

/* Sets the state of a delivery and counts it so, under its subscription. */
void oracle_set_state(struct oracle *o, struct oracle_delivery *d, enum mr_state state);

/* Adds a delivery of @p event, the newest that has any; what was given out before is invalid. */
struct oracle_delivery *oracle_delivery_add(struct oracle *o, struct oracle_event *event,
                                            uint32_t sub, uint64_t lane, enum mr_state state);

/* The number of the subscription in a configuration; false: none ever had it. */
bool oracle_visible_index(const struct oracle *o, uint32_t id, uint32_t *ret_index);

/* The delivery that @p r speaks of, kept in the journal as it was; there must be one. */
struct oracle_delivery *oracle_find(struct fold *f, const struct mr_record *r);

/* An attempt at @p d begins, in an ATTEMPT record or in its event's MATCH. */
void oracle_begin(struct fold *f, struct oracle_delivery *d, uint32_t fence);

void oracle_fold_attempt(struct fold *f, const struct mr_record *r);
void oracle_fold_end(struct fold *f, const struct mr_record *r); /* SETTLE, DEAD */
void oracle_fold_result(struct fold *f, const struct mr_record *r);
/* Whether @p d, which ends dropped, may be shed. */
bool oracle_is_shed(struct fold *f, const struct oracle_delivery *d,
                    const struct mr_result *result);
/* An event @p r of the bus itself that tells of what was shed; false: it does not. */
bool oracle_fold_shed(struct fold *f, struct oracle_event *event, const struct mr_record *r);
/* Who has that event: judged at the end of the group. */
void oracle_match_shed(struct fold *f, const struct oracle_event *event,
                       const uint8_t flags[SIM_SUBS_MAX]);
void oracle_check_shed(struct fold *f); /* at the end of a group */
void oracle_fold_moved(struct fold *f, const struct mr_record *r);
void oracle_fold_retry(struct fold *f, const struct mr_record *r);

/* Fan-outs that are open at the end of group @p sequence. */
uint64_t oracle_open_joins(const struct oracle *o, uint64_t sequence);
void oracle_undo_joins(struct oracle *o, uint64_t sequence);
void oracle_fold_fanout(struct fold *f, const struct mr_record *r);
void oracle_joined_event(struct fold *f, const struct mr_record *r); /* an EVENT that tells of one */
void oracle_fold_joined(struct fold *f, const struct mr_record *r);
void oracle_check_fanouts(struct fold *f); /* once the group is folded */

#endif
