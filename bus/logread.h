/* Reading a log: group by group, with every checksum verified, and the recovery decision.
 *
 * One reader serves recovery, `log verify`, `log dump`, `trace` and the simulation's oracle. */
#ifndef MR_BUS_LOGREAD_H
#define MR_BUS_LOGREAD_H

#include "bus/logdisk.h"

/* What stands at a place where a group should be, and what to do about it. The predicates: */
enum mr_place {
    MR_PLACE_GROUP = 0, /* header good, in sequence, chained; all records good */
    MR_PLACE_EMPTY,     /* zeros, another salt, or the end of the file */
    MR_PLACE_DAMAGED,   /* ours, but header or a record is bad, or out of sequence */
    MR_PLACE_MAX,
};
enum mr_later {
    MR_LATER_NONE = 0, /* no good group follows anywhere */
    MR_LATER_PROOF,    /* a good group follows that knew this sequence durable */
    MR_LATER_UNSYNCED, /* a good group follows, but none that knew this one durable */
    MR_LATER_MAX,
};
enum mr_recovery {
    MR_RECOVERY_TAKE = 0,   /* fold it, go on behind it */
    MR_RECOVERY_END,        /* the clean end of the log */
    MR_RECOVERY_CUT_TORN,   /* never acknowledged: the end of the log, the rest is cut */
    MR_RECOVERY_ROTTEN,     /* acknowledged and damaged: take what is good, name the rest lost, go
                               on at the next good group */
    MR_RECOVERY_CUT_UNSYNCED, /* sync was interval or never: groups reached the disk out of order;
                                 nothing behind here was promised: the end of the log */
    MR_RECOVERY_MAX,
};
/** The decision table. @param covered a checkpoint or the header of a good group elsewhere says
 * that this sequence was durable. Total: every combination has an answer. */
enum mr_recovery mr_recovery_decide(enum mr_place place, enum mr_later later, bool covered);

struct mr_log_segment {
    uint64_t number;
    struct mr_segment_header header;
    uint64_t file_size;
    uint64_t first_sequence; /* of the group it begins with; 0: none stands there */
    uint64_t later_sequence; /* the lowest that a later segment begins with: what stands here of
                                that or above was left behind by a start; UINT64_MAX: none */
    uint64_t used;   /* so many bytes of it a checkpoint knows to be written; 0: it says nothing */
    bool usable;    /* header good and of this number, or salvaged */
    bool salvaged;  /* header unreadable: the first group's salt stands in for it; log_id 0 */
    enum mr_log_file of;
    bool blank;  /* not usable and never was: a file whose preparation was cut off */
};

struct mr_log_index {
    struct mr_log_segment *segments; /* owned, ascending */
    uint32_t segment_count;
    struct mr_log_segment *keeps; /* owned, ascending: survivor files */
    uint32_t keep_count;
    uint64_t *spares; /* owned: numbers of free- files */
    uint32_t spare_count;
    uint64_t *footers; /* owned, ascending: numbers of foot- files */
    uint32_t footer_count;
    uint64_t *ids; /* owned, ascending: groups of ids- files */
    uint32_t ids_count;
    bool has_checkpoint[2];
    uint64_t given_up; /* one of a lower number that is missing may have been given up in good
                          order; 0: whatever is missing is lost. mr_missing_heed() sets it */
};

/** Lists a log directory and reads the segment headers.
 * @return MR_E_UNSUPPORTED: made by a later version, named in @p problem */
MR_MUST_USE enum mr_status mr_log_index(struct mr_io *io, struct mr_log_index *ret_index,
                                        struct mr_problem *problem);
/** Its steps, for whoever knows most of the headers: only the numbers are filled in, */
MR_MUST_USE enum mr_status mr_log_index_names(struct mr_io *io, struct mr_log_index *ret_index);
/** and the rest of one segment, whose number is set. @return MR_E_NOT_FOUND: it is gone; as
 * mr_log_index() */
MR_MUST_USE enum mr_status mr_log_segment_read(struct mr_io *io, struct mr_log_segment *segment,
                                               struct mr_problem *problem);
/** Last, over all of them: which unreadable headers the other segments stand in for, and what a
 * start left behind. */
void mr_log_index_judge(struct mr_log_index *index);
void mr_log_index_release(struct mr_log_index *index);
/** The one with @p number among @p count files, which are in the order of their numbers; or NULL.
 * Borrowed. */
struct mr_log_segment *mr_log_file_find(struct mr_log_segment *files, uint32_t count,
                                        uint64_t number);
/** Its survivor file number @p i as a log of its own, for a reader that begins with group 1 behind
 * checksum 0. Borrows: not to be released. */
struct mr_log_index mr_log_index_of_keep(const struct mr_log_index *index, uint32_t i);

/* One place of the log as the reader found it. */
struct mr_log_group {
    uint64_t position;
    enum mr_recovery decision;
    struct mr_group_header header; /* valid when header_good */
    bool header_good;
    const uint8_t *data; /* borrowed until the next call: header and records; NULL if unreadable */
    uint32_t size;       /* of data: less than the header says when the file ends before */
    uint32_t mended;      /* headers of which one bit was wrong: nothing is lost by it */
    uint32_t bad_records; /* ROTTEN: how many records were unreadable */
    bool verified;        /* every record of `data` was found good: walked without another look */
    uint64_t lost_first;  /* ROTTEN: event offsets that are gone: first … */
    uint64_t lost_end;    /* … and past the last; equal when none */
};

struct mr_log_reader;

/** Starts at @p position, which must be the start of a group (or of a segment), expecting group
 * @p sequence behind the header checksum @p previous_crc; 0, 0 to begin at the oldest segment with
 * whatever stands there.
 * @param durable_floor a sequence known durable from elsewhere (checkpoint), or 0 */
MR_MUST_USE enum mr_status mr_log_reader_create(struct mr_io *io, const struct mr_log_index *index,
                                                uint64_t position, uint64_t sequence,
                                                uint32_t previous_crc, uint64_t durable_floor,
                                                struct mr_log_reader **ret_reader);
/** The next place. @return MR_OK; MR_E_NOT_FOUND after END or a CUT was returned;
 * MR_E_IO, MR_E_NOMEM */
MR_MUST_USE enum mr_status mr_log_reader_next(struct mr_log_reader *reader,
                                              struct mr_log_group *ret_group);
void mr_log_reader_destroy(struct mr_log_reader *reader);

/** Whether at @p data stands a group of the segment with @p salt all of whose checksums hold.
 * @param left  bytes there are @param[out] ret_header  set when its own checksum holds */
bool mr_log_group_is_whole(const uint8_t *data, size_t left, uint64_t salt,
                           struct mr_group_header *ret_header);

/** Walks the records of a group: set *@p at to 0 first. Unreadable records are skipped.
 * @return false after the last */
bool mr_log_next_record(const struct mr_log_group *group, uint32_t *at, uint64_t *ret_position,
                        struct mr_record *ret_record);

#endif
