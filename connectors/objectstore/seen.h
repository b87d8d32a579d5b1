/* What a bucket held when it was listed last, in a file, sorted by key: the memory of source
 * `via: list`. Written once from front to back, read once from front to back; never more than a
 * buffer of it in memory.
 *
 *     0   8 bytes  "MRSEEN1\n"
 *     8   u64      pass: which listing this is, from 1
 *    16   u64      of: hash of bucket and prefix
 *    24   records, each:
 *         u32 crc        CRC-32C of the rest of the record
 *         u16 key_size   0 in the last record
 *         u8  etag_size
 *         u8  kind       1 an object, 2 the end
 *         u64 size       of the object; in the last record how many objects there are
 *         i64 modified   ns since 1970
 *         key, etag
 *
 * Little-endian. A file with its end record is whole: everything it lists had become durable events
 * when it was written. One without was being written. */
#ifndef MR_CONNECTORS_OBJECTSTORE_SEEN_H
#define MR_CONNECTORS_OBJECTSTORE_SEEN_H

#include "connectors/objectstore/listing.h"
#include "core/io.h"

#define MR_SEEN_HEADER_SIZE 24u
#define MR_SEEN_RECORD_SIZE 24u /* and key and etag */
#define MR_SEEN_BUFFER_SIZE (64u * MR_KIB)

struct mr_seen_head {
    uint64_t pass;
    uint64_t of;
    uint64_t count; /* objects; only of a whole file */
    bool is_whole;
};

/** Reads head and end of a file. @return MR_E_CORRUPT: it is none of ours; what opening gives */
MR_MUST_USE enum mr_status mr__seen_probe(struct mr_io *io, const char *name,
                                          struct mr_seen_head *ret_head);

struct mr_seen_reader {
    struct mr_io *io; /* borrowed */
    int file;         /* -1: not open */
    uint64_t at;      /* of the next record */
    uint64_t buffer_at;
    struct mr_buf buffer;
};

void mr__seen_reader_init(struct mr_seen_reader *reader);
void mr__seen_reader_release(struct mr_seen_reader *reader);
/** @param at of a record; MR_SEEN_HEADER_SIZE for the first */
MR_MUST_USE enum mr_status mr__seen_reader_open(struct mr_seen_reader *reader, struct mr_io *io,
                                                const char *name, uint64_t at);
/** @return MR_E_NOT_FOUND at the end record; MR_E_CORRUPT, MR_E_IO, MR_E_NOMEM */
MR_MUST_USE enum mr_status mr__seen_reader_next(struct mr_seen_reader *reader,
                                                struct mr_object *object);

struct mr_seen_writer {
    struct mr_io *io; /* borrowed */
    int file;         /* -1: not open */
    uint64_t at;      /* behind the last record, written or buffered */
    struct mr_buf buffer;
};

void mr__seen_writer_init(struct mr_seen_writer *writer);
void mr__seen_writer_release(struct mr_seen_writer *writer);
/** Opens or makes the file. @param at 0: from the start, with this head; else go on behind what
 * was written up to there, the rest is cut off. @return MR_E_NOT_FOUND: it is shorter than @p at */
MR_MUST_USE enum mr_status mr__seen_writer_open(struct mr_seen_writer *writer, struct mr_io *io,
                                                const char *name, uint64_t at, uint64_t pass,
                                                uint64_t of);
MR_MUST_USE enum mr_status mr__seen_writer_add(struct mr_seen_writer *writer,
                                               const struct mr_object *object);
/** What was added so far is on stable storage when it returns. */
MR_MUST_USE enum mr_status mr__seen_writer_sync(struct mr_seen_writer *writer);
/** Writes the end record, syncs, closes. */
MR_MUST_USE enum mr_status mr__seen_writer_finish(struct mr_seen_writer *writer, uint64_t count);

#endif
