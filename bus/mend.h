/* One segment or survivor file read through, in every copy there is: what is damaged is repaired
 * from a copy whose checksums hold, and what is good nowhere is named. Serves the scrubber, whoever
 * found damage, and the start, which makes two copies equal. */
#ifndef MR_BUS_MEND_H
#define MR_BUS_MEND_H

#include "bus/logread.h"

struct mr_log_mend {
    enum mr_log_file of; /* a segment, or survivors */
    uint64_t number;
    uint64_t from;   /* 0 (with the segment's header), or the start of a group */
    uint64_t until;  /* where its groups end; 0: not known, whatever stands there */
    uint64_t salt;  /* for one whose header is damaged in every copy, which counts as a bad place;
                       0: not known */
    bool first_bad; /* goes no further than the first bad place */
    bool quiet;      /* what is made equal is no damage: a start after a crash */
    bool stale;      /* copy 1 is to become what copy 0 is: it is right only where copy 0 itself
                        proves it */
    uint64_t next_offset; /* of events, at `from`, 0: not known; out: at `end` */
    /* out: */
    uint64_t end;       /* read up to here: the start of a group, or `until` */
    uint64_t groups;    /* whole ones, in one copy at least */
    uint64_t repaired;  /* groups written over a damaged copy */
    uint64_t bad;       /* places without a whole group in any copy, before `until` or a group */
    uint64_t bad_from;  /* the first of them; */
    uint64_t bad_end;   /* past the last */
    uint64_t lost_first; /* offsets of events at the first bad place: first … */
    uint64_t lost_end;   /* … and past the last; 0: not known */
};

/** Reads at most @p size_max bytes (0: all of it), but one group at least.
 * @return MR_OK however bad it looks; MR_E_NOMEM; MR_E_NOT_FOUND: no copy has a header of it; of a
 * repair that could not be written the status, where `end` stands @blocks on the disk */
MR_MUST_USE enum mr_status mr_log_mend(struct mr_io *io, struct mr_log_mend *mend,
                                       uint64_t size_max);

/** Whether what was read of a segment from byte @p at on, the start of a group or of a record, is
 * groups, records and zeros, with no checksum that does not hold. What is cut at the end is not
 * looked at. */
bool mr_log_bytes_are_whole(const uint8_t *data, size_t size, uint64_t at, uint64_t salt);

/** Repairs the one group at @p at that a reader found damaged: when the other copy has it whole
 * and @p sequence and @p previous_crc fit (0: any), it is written over the damaged one.
 * @return whether the place is whole now */
bool mr_log_mend_group(struct mr_io *io, const struct mr_log_segment *segment, uint64_t at,
                       uint64_t sequence, uint32_t previous_crc);

#endif
