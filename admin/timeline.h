/* The story of one event, folded from the records of the log that carry its offset: which
 * subscriptions matched, every attempt of every delivery, and how each ended. What has not ended
 * is for the bus to say; the log alone cannot tell a waiting delivery from one under way. */
#ifndef MR_ADMIN_TIMELINE_H
#define MR_ADMIN_TIMELINE_H

#include "admin/history.h"
#include "admin/json_out.h"
#include "bus/bus.h"

#define MR_TIMELINE_ATTEMPTS_MAX 10000u /* of one event, all deliveries together */
#define MR_TIMELINE_REDRIVES_MAX 1000u  /* of one delivery; more are counted */
#define MR_TIMELINE_RESULTS_SIZE_MAX (16u * MR_MIB) /* of all deliveries; more are told by size */

struct mr_timeline_attempt {
    uint32_t fence;
    uint32_t n;
    uint64_t started_wall_ns;
    uint64_t ended_wall_ns; /* 0: not answered */
    bool answered;
    bool counted; /* not a refusal, an interruption, or one of several suspects */
    bool late;
    bool interrupted; /* Millrace ended while it was under way */
    uint8_t *body; /* owned: the encoded result, NULL when not answered */
    size_t body_size;
};

/* A dead letter, or what was held, was put back. */
struct mr_timeline_redrive {
    uint64_t wall_ns;
    char *action; /* owned: the operator's record before it (JSON); NULL: none was seen */
};

struct mr_timeline_delivery {
    uint32_t subscription; /* id */
    enum mr_state state;   /* how it ended; NONE: it has not */
    bool purged;
    uint64_t purged_wall_ns;
    char *edited; /* owned: the operator's edit (JSON) that its event gave way to; NULL: none */
    uint64_t edited_wall_ns; /* when it went on with another event, the last time; 0: never */
    uint32_t attempts_counted; /* of the present budget */
    uint32_t refusals;
    uint32_t interruptions;
    uint32_t redrives;
    struct mr_timeline_redrive *redriven; /* owned: the first MR_TIMELINE_REDRIVES_MAX */
    uint64_t due_log_ns;
    struct mr_timeline_attempt *attempts; /* owned */
    uint32_t attempt_count;
    uint64_t result_size; /* of what the handler answered; 0: nothing, or it is not in the log */
    char *result;         /* owned: that, JSON text; NULL: none, or no room for it here */
    struct mr_buf reason;   /* of where it stands: why it ended or is held; may be empty */
    struct mr_buf children; /* ids, a NUL behind each */
};

struct mr_timeline {
    uint64_t offset;
    struct mr_timeline_delivery *deliveries; /* owned */
    uint32_t delivery_count;
    uint32_t attempt_count;
    uint64_t results_size;
    struct mr_buf children; /* ids of events that tell of all of it, a NUL behind each */
    bool truncated; /* more attempts than MR_TIMELINE_ATTEMPTS_MAX */
    bool matched;   /* its MATCH record was seen */
    uint64_t config_hash; /* of the configuration it was matched by; 0: not yet */
    struct mr_buf action; /* the last redrive an operator asked for, as JSON */
    struct mr_buf edit;   /* the last edit of this event an operator asked for, as JSON */
    uint64_t child_offset; /* of the last child, and */
    size_t child_at;       /* how long the list was before it */
    bool replaces;        /* it was given a held delivery of another offset: this one */
    uint32_t replaces_subscription;
    uint64_t replaces_offset;
    enum mr_status status; /* sticks */
};

void mr_timeline_init(struct mr_timeline *timeline, uint64_t offset);
void mr_timeline_release(struct mr_timeline *timeline);
/** A visitor for mr_history_scan(); @p context is the timeline. */
bool mr_timeline_visit(void *context, const struct mr_history_record *seen);

/** A visitor for mr_history_kept(), behind that: how a delivery died, when the segments left know
 * nothing of it. */
bool mr_timeline_visit_kept(void *context, const struct mr_history_record *seen);

/** Writes ids with a NUL behind each as the array `children`. */
void mr_timeline_write_children(struct mr_json_out *out, const struct mr_buf *children);
/** Writes one attempt as an object of an array. @p result NULL: it is under way. */
void mr_timeline_write_attempt(struct mr_json_out *out, uint32_t n, uint64_t started_wall_ns,
                               uint64_t ended_wall_ns, const struct mr_result *result);
/** Writes attempts, other hand-outs, result and counters of @p delivery into the present object.
 * @param live what the bus says, NULL when it does not know the delivery
 * @param subscription its name; NULL when it is not known */
void mr_timeline_write_attempts(struct mr_json_out *out,
                                const struct mr_timeline_delivery *delivery,
                                const struct mr_delivery_info *live, const char *subscription);

#endif
