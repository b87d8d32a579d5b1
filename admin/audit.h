/* The proof for one source: every event of it that the log holds, and what became of each of its
 * deliveries, folded from the records alone. What has not ended in the log the bus must know; what
 * it does not know either is a gap. A pure fold: no I/O, one thread at a time. */
#ifndef MR_ADMIN_AUDIT_H
#define MR_ADMIN_AUDIT_H

#include "admin/history.h"
#include "bus/ports.h"
#include "bus/bus.h"

#define MR_AUDIT_DELIVERIES_MAX 250000u /* of one page: 4 MB */
#define MR_AUDIT_POSITIONS_MAX 10000u   /* of one page */
#define MR_AUDIT_GAPS_MAX 100u          /* told; more are counted */

struct mr_audit_delivery {
    uint64_t offset;
    uint32_t subscription;
    uint8_t state;   /* enum mr_state; NONE: not ended */
    bool known;      /* not ended, and the bus knows it */
};

/* A position of the source: what it had sent when it said so. */
struct mr_audit_position {
    char *cursor;         /* owned, JSON; NULL: the source has none */
    uint64_t last_offset; /* of the events up to it */
    uint64_t events;
};

struct mr_audit_gap {
    uint64_t offset;
    uint64_t end;          /* past the last offset of the gap */
    uint32_t subscription; /* UINT32_MAX: of the event itself */
    const char *why;       /* static */
};

struct mr_audit {
    uint32_t source;
    uint64_t after; /* events up to it are not ours */
    struct mr_audit_delivery *deliveries; /* owned, ascending by offset */
    uint32_t delivery_count;
    uint32_t delivery_capacity;
    struct mr_audit_position *positions; /* owned */
    uint32_t position_count;
    uint32_t position_capacity;
    struct mr_audit_gap gaps[MR_AUDIT_GAPS_MAX];
    uint64_t gap_count;
    uint64_t events;
    uint64_t rejected;  /* of them: never became an event */
    uint64_t unmatched; /* of them: nobody wanted them */
    uint64_t lost_events; /* offsets the log names lost, of whatever source */
    uint64_t first_offset;
    uint64_t last_offset;
    uint64_t next_segment; /* in which last_offset lies */
    bool full;             /* later events go to the next page */

    uint64_t position;     /* records before it were folded */
    uint64_t next_offset;  /* that the next group begins with; 0: not known */
    uint64_t segment;      /* of the last group */
    uint64_t unmatched_yet; /* offset of an event whose MATCH has not come; 0: none */
    uint64_t events_yet;   /* since the last position */
    enum mr_status status; /* sticks */
};

void mr_audit_init(struct mr_audit *audit, uint32_t source, uint64_t after);
void mr_audit_release(struct mr_audit *audit);

/** A visitor for mr_history_groups(); @p context is the audit. Groups before audit->position are
 * passed over, so that the fold can go on where it ended. */
bool mr_audit_group(void *context, const struct mr_log_group *group);

/** Adds a gap; @p end past the last offset. */
void mr_audit_add_gap(struct mr_audit *audit, uint64_t offset, uint64_t end,
                      uint32_t subscription, const char *why);

/** The events behind the last position become one without a cursor. Once, at the end. */
void mr_audit_close(struct mr_audit *audit);

/* The equation: matched = all the others + gaps. */
struct mr_audit_tally {
    uint64_t in;
    uint64_t by_state[MR_STATE_MAX]; /* NONE: gaps */
};

/** Adds the deliveries with offsets in (@p after, @p last] to @p tally. @p at: set to 0 first, then
 * left alone between ascending ranges. */
void mr_audit_count(const struct mr_audit *audit, uint64_t after, uint64_t last, uint32_t *at,
                    struct mr_audit_tally *tally);

#endif
