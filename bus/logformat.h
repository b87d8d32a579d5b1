/* The bytes of the log, version 1. docs/log-format.md says the same for readers; this file is the
 * authority. All integers little-endian, all checksums CRC-32C, nothing is ever a C struct.
 *
 * A log is a directory of segments `seg-<number, 16 hex digits>`, survivor files `keep-<number>` of
 * the same form (magic "MRKEEP01"; survive.c), spare files `free-<number>`, two checkpoint slots
 * `checkpoint-0` and `checkpoint-1`, and the file `lock`. A position is
 * segment number << 26 | byte in the segment, so finding a file is arithmetic.
 *
 * SEGMENT  a header block of 4096 bytes, then groups, each starting on a multiple of 4096:
 *
 *      0  u64 magic "MRSEG001"        32  u64 size of the file in bytes
 *      8  u32 version 1               40  u64 salt: random, new each time the file is reused
 *     12  u32 compatible flags        48  u64 log id: random, one per log
 *     16  u32 incompatible flags      56  u64 wall time of making, ns
 *     20  u32 0                       64  u32 checksum of bytes 0..63
 *     24  u64 segment number
 *
 * GROUP  one durable write: a header of 128 bytes, records, zeros up to a multiple of 4096:
 *
 *      0  u32 magic "MRGP"            64  u64 boot id
 *      4  u16 version 1               72  u64 log clock, ns (see bus/bus.h)
 *      6  u16 header size 128         80  u32 size: header and records, without padding
 *      8  u64 salt of the segment     84  u32 size with padding
 *     16  u64 sequence, from 1        88  u32 records
 *     24  u64 last sequence known     92  u32 header checksum of the group before (chain)
 *             durable when written    96  u32 checksum over the record headers' checksums
 *     32  u64 first event offset     100  u32 flags: sync mode (0 always, 1 interval, 2 never)
 *     40  u64 next event offset      104  u64 checkpoint position last completed (information)
 *     48  u64 wall time, ns          112  12 bytes 0
 *     56  u64 monotonic time, ns     124  u32 checksum of bytes 0..123
 *
 * RECORD  a header of 48 bytes, a body, zeros up to a multiple of 8:
 *
 *      0  u32 body size               24  u64 c   by kind
 *      4  u8  kind                    32  u64 d   by kind
 *      5  u8  flags (1 = a reader     40  u32 checksum of the body
 *             that does not know the  44  u32 checksum of bytes 0..43
 *             kind may skip it)       48  body
 *      6  u16 extra   by kind
 *      8  u64 offset of the event
 *     16  u32 a   by kind
 *     20  u32 b   by kind
 *
 * A kind that is unknown and not skippable makes the reader refuse the log by name. Kinds: enum
 * mr_record_kind. A group is atomic: records of one group take effect together or not at all. */
#ifndef MR_BUS_LOGFORMAT_H
#define MR_BUS_LOGFORMAT_H

#include "bus/ports.h"

#define MR_LOG_VERSION 1u
#define MR_LOG_BLOCK 4096u
#define MR_SEGMENT_SIZE_MAX (64u * MR_MIB)
#ifndef MR_SEGMENT_SHIFT /* the simulation has small segments that lie as close as large ones do */
#define MR_SEGMENT_SHIFT 26
#endif
#define MR_SEGMENT_HEADER_SIZE 68u
#define MR_GROUP_HEADER_SIZE 128u
#define MR_RECORD_HEADER_SIZE 48u
#define MR_LOG_NAME_SIZE 32u
#define MR_SOURCE_BUS UINT32_MAX /* source id of events the bus itself makes */

enum mr_record_kind {
    MR_RECORD_EVENT = 1,    /* offset; a source id, b cause's subscription id, c arrival (log
                               clock), d cause's offset (0: none); body: the event record */
    MR_RECORD_MATCH = 2,    /* offset; a entries, b event's size, c configuration hash; body:
                               entries of 16 bytes: u32 subscription id, u8 flags, u8 level of
                               priority, u16 order epoch, u64 lane */
    MR_RECORD_ATTEMPT = 3,  /* offset; a subscription id, b fence, c lane, d position of the event
                               record; extra: attempt number; body: u32 event size, u32 level, u64
                               arrival (log clock) */
    MR_RECORD_SETTLE = 4,   /* offset; a subscription id, b fence, c started, d ended (wall);
                               extra: final state; body: result */
    MR_RECORD_RETRY = 5,    /* as SETTLE; extra: waiting; body: result with the due time */
    MR_RECORD_DEAD = 6,     /* as SETTLE; body: result, then the attempts before */
    MR_RECORD_REDRIVE = 7,  /* offset; a subscription id: a dead letter or held delivery is ready */
    MR_RECORD_PURGE = 8,    /* offset; a subscription id: a dead letter leaves its queue */
    MR_RECORD_CURSOR = 9,   /* a source id; body: the source's position, JSON text */
    MR_RECORD_CONFIG = 10,  /* c configuration hash; body: canonical JSON */
    MR_RECORD_OPERATOR = 11, /* body: JSON of the action, written before its effect */
    MR_RECORD_NAME = 12,    /* a id, b kind (enum mr_name_kind); body: name; of a subscription: c
                               hash of its order_by (0: not known), d its order epoch */
    MR_RECORD_START = 13,   /* a process opened the log: whatever was in flight was interrupted */
    MR_RECORD_PAUSE = 14,   /* a subscription id, b 1 paused / 0 not */
    MR_RECORD_MARK = 15,    /* nothing; carries the header's durable sequence after an idle spell */
    MR_RECORD_CLOCK = 16,   /* a 1 frozen / 0 accepted; c log clock before */
    MR_RECORD_LATE = 17,    /* as SETTLE: an answer that came when it no longer counted */
    MR_RECORD_LOST = 18,    /* a 0; c first offset, d past the last: found rotten at a start */
    MR_RECORD_REMOVED = 19, /* a subscription id, b 1 removed / 0 back, c log clock */
    MR_RECORD_KEY = 20,     /* offset of an event in this group; a source id, b dedupe window in ms,
                               c, d its key (bus/dedupe.h); extra: thousands of keys the source
                               may keep, rounded up */
    MR_RECORD_RESULT = 21,  /* of a delivery that ends done, before its SETTLE in the same group:
                               offset; a subscription id, b fence; body: what the handler answered,
                               JSON text */
    MR_RECORD_FANOUT = 22,  /* offset of an event in this group; a fan-out's id, c log clock at
                               which its time is over; body: u32 each, ids of the subscriptions
                               whose ends it waits for */
    MR_RECORD_JOINED = 23,  /* offset of a FANOUT before; a fan-out's id: the event that tells how
                               it ended is in this group */
    MR_RECORD_WEIGHT = 24,  /* a subscription id, b target id: its weight went to the others, c hash
                               of the share; 0: it came back */
    MR_RECORD_EDIT = 25,    /* offset; a subscription id: a held delivery is ready, and its event is
                               another from now on: b its size, c its offset, d its position (a
                               byte in this group) */
    MR_RECORD_MOVED = 26,   /* body: entries of 28 bytes: u32 subscription id, u64 offset, u64 from,
                               u64 to: what is alive of it at one position is at another now */
    MR_RECORD_MAX,
};
const char *mr_record_kind_text(uint8_t kind); /* "event", …; "unknown" */

#define MR_RECORD_SKIPPABLE 1u
#define MR_MATCH_ENTRY_SIZE 16u
#define MR_MOVED_ENTRY_SIZE 28u
#define MR_MATCH_BEGUN 1u /* attempt 1 is logged by this entry: fence 1 */
#define MR_MATCH_CANCELS 2u /* what is before it in its lane is cancelled, */
#define MR_MATCH_ONLY_CANCELS 4u /* and it is not delivered itself */
#define MR_MATCH_LEVEL_SHIFT 8
#define MR_MATCH_EPOCH_SHIFT 16

enum mr_name_kind {
    MR_NAME_SUBSCRIPTION = 0,
    MR_NAME_SOURCE = 1,
    MR_NAME_TARGET = 2,
    MR_NAME_FANOUT = 3,
};

/* States of a delivery as they stand in `extra` and in every output (design section 2). */
enum mr_state {
    MR_STATE_NONE = 0,
    MR_STATE_WAITING = 1,
    MR_STATE_IN_FLIGHT = 2,
    MR_STATE_HELD = 3,
    MR_STATE_DONE = 4,
    MR_STATE_DEAD = 5,
    MR_STATE_DROPPED = 6,
    MR_STATE_EXPIRED = 7,
    MR_STATE_LOST = 8,
    MR_STATE_MAX,
};
const char *mr_state_text(enum mr_state state); /* "waiting", "in flight", … */

/* What a number in a name or a request is the number of; segments and survivor files share one
 * counter, and a position may have the number of either. */
enum mr_log_file {
    MR_LOG_OF_SEGMENT = 0,
    MR_LOG_OF_FOOTER, /* of the segment with that number; footer.h */
    MR_LOG_OF_SURVIVORS, /* records that outlived their segments, copied as they were */
};

struct mr_segment_header {
    enum mr_log_file file; /* which magic */
    uint64_t number;
    uint64_t size;
    uint64_t salt;
    uint64_t log_id;
    uint64_t wall_ns;
    bool mended; /* out of decode: one bit on the disk is wrong, and not here */
};

struct mr_group_header {
    uint64_t salt;
    uint64_t sequence;
    uint64_t durable;
    uint64_t first_offset;
    uint64_t next_offset;
    uint64_t wall_ns;
    uint64_t mono_ns;
    uint64_t boot_id;
    uint64_t log_ns;
    uint64_t checkpoint;
    uint32_t size;
    uint32_t padded;
    uint32_t records;
    uint32_t previous_crc;
    uint32_t records_crc;
    uint32_t flags;
    uint32_t crc; /* out of decode; of the header's bytes 0..123 */
    uint32_t mended; /* out of decode: 1 as the segment's, 0 */
};

struct mr_record {
    uint8_t kind;
    uint8_t flags;
    uint16_t extra;
    uint32_t a;
    uint32_t b;
    uint64_t offset;
    uint64_t c;
    uint64_t d;
    uint32_t body_crc; /* encode: taken as given when has_crc, else computed */
    struct mr_bytes body;
    bool mended; /* out of decode: of its header, as the segment's */
};

void mr_segment_header_encode(const struct mr_segment_header *header, uint8_t block[MR_LOG_BLOCK]);
/** One wrong bit is put right, here and in the two below: `mended` says so.
 * @return MR_E_CORRUPT (magic, checksum), MR_E_UNSUPPORTED (version, incompatible flags) */
MR_MUST_USE enum mr_status mr_segment_header_decode(const uint8_t *block,
                                                    struct mr_segment_header *ret_header);

/** Writes the header to @p at; sets header->crc. */
void mr_group_header_encode(struct mr_group_header *header, uint8_t at[MR_GROUP_HEADER_SIZE]);
/** Checks magic, version, salt, sizes, checksum.
 * @return MR_E_NOT_FOUND: no group of this segment stands here (zeros, or another salt: what a
 * recycled file still holds); MR_E_CORRUPT: something of ours, damaged */
MR_MUST_USE enum mr_status mr_group_header_decode(const uint8_t *at, uint64_t salt,
                                                  struct mr_group_header *ret_header);

/** Whether it is the event of delivery @p subscription:@p offset: the one with its offset, or one
 * that an operator gave it in its place. */
static inline bool mr_record_is_event_of(const struct mr_record *record, uint32_t subscription,
                                         uint64_t offset)
{
    return record->kind == MR_RECORD_EVENT &&
           (record->offset == offset || (record->a == MR_SOURCE_BUS && record->b == subscription &&
                                         record->d == offset));
}

/** Bytes of a record with its padding. */
static inline size_t mr_record_size(size_t body_size)
{
    return MR_RECORD_HEADER_SIZE + (size_t)mr_round_up(body_size, 8);
}
/** Writes header, body and padding to @p at (mr_record_size() bytes; the body may already lie in
 * its place). @return the checksum of the header */
uint32_t mr_record_encode(const struct mr_record *record, uint8_t *at);
/** Bytes of the record whose header is at @p at, one wrong bit of which does not count; 0: there is
 * none. */
size_t mr_record_size_at(const uint8_t at[MR_RECORD_HEADER_SIZE]);
/** A record that mr_record_decode() has found good where it lies: not checked again. */
void mr_record_view(const uint8_t *at, struct mr_record *ret_record);
/** @return MR_E_CORRUPT: header or body checksum, or sizes past @p left.
 * @param[out] ret_head_crc may be NULL. On a bad body alone the record is set and MR_E_IO is
 * returned: the caller can go on behind it. */
MR_MUST_USE enum mr_status mr_record_decode(const uint8_t *at, size_t left,
                                            struct mr_record *ret_record, uint32_t *ret_head_crc);

/* --- the body of SETTLE, RETRY, DEAD and LATE ------------------------------------------------- */

struct mr_result {
    uint8_t verdict;       /* enum mr_verdict */
    uint32_t attempts;     /* counted so far, this one included if it counts */
    uint32_t refusals;
    uint32_t interruptions;
    int32_t exit_code;     /* -1 none */
    int32_t exit_signal;
    uint64_t rss_peak;
    uint64_t due_ns;       /* log clock; RETRY: when it is ready again */
    uint64_t policy;       /* version (hash) of the policy that decided */
    uint32_t children;     /* events emitted in the same group */
    bool alone;
    struct mr_bytes instance;
    struct mr_bytes version;
    struct mr_bytes error;
    struct mr_bytes stderr_tail;
    struct mr_bytes reason; /* why it ended: "worker said dead", "attempts used up", … */
};

MR_MUST_USE enum mr_status mr_result_encode(const struct mr_result *result, struct mr_buf *out);
/** @param[out] ret_size bytes read of @p body; what follows in a DEAD record are the attempts
 * before, each a u32 size and as many bytes: u32 fence, u64 started, u64 ended, then a result */
MR_MUST_USE enum mr_status mr_result_decode(struct mr_bytes body, struct mr_result *ret_result,
                                            size_t *ret_size);

/* --- names ------------------------------------------------------------------------------------ */

void mr_segment_name(uint64_t number, char name[MR_LOG_NAME_SIZE]);
void mr_log_file_name(enum mr_log_file file, uint64_t number, char name[MR_LOG_NAME_SIZE]);
void mr_free_name(uint64_t number, char name[MR_LOG_NAME_SIZE]);
/** @return false when @p name is no name of that form */
bool mr_log_name_parse(const char *name, const char *prefix, uint64_t *ret_number);

static inline uint64_t mr_position(uint64_t segment, uint64_t at)
{
    return segment << MR_SEGMENT_SHIFT | at;
}
static inline uint64_t mr_position_segment(uint64_t position)
{
    return position >> MR_SEGMENT_SHIFT;
}
static inline uint64_t mr_position_at(uint64_t position)
{
    return position & ((1ull << MR_SEGMENT_SHIFT) - 1);
}

#endif
