/* The log on a disk: requests the core emits and whoever drives it performs.
 *
 * The core makes no system call. It fills a struct mr_log_request, the driver performs it with
 * mr_log_perform() (production: on the writer, reader or background thread; simulation: at a
 * moment the seed chooses) and gives it back with mr_bus_io_done(). A request is owned by whoever
 * holds it. Steps of one request are ordered so that a crash between any two of them is safe. */
#ifndef MR_BUS_LOGDISK_H
#define MR_BUS_LOGDISK_H

#include "bus/logformat.h"
#include "core/io.h"

enum mr_log_io {
    MR_LOG_WRITE = 1,  /* buf to file at `at`; durable when it returns (sync: always) */
    MR_LOG_SYNC,       /* file */
    MR_LOG_PREPARE,    /* make segment `number` ready for writing: from the spare file `from`, or a
                          new one; zero-filled to `size`, header written, file and directory synced;
                          result: file */
    MR_LOG_SPARE,      /* make the spare file `from`, zero-filled to header.size, synced */
    MR_LOG_READ,       /* up to `size` bytes of `of` `number` at `at` into buf; result_size */
    MR_LOG_CHECKPOINT, /* a chunk: buf to slot `number` (0 or 1) at `at`; with file_size: all are
                          there, the file is cut to that and synced, then buf is its head, synced */
    MR_LOG_SEAL,       /* close file, synced before unless its writes were durable; cut segment
                          `number` to `size` when size > 0 */
    MR_LOG_COPY,       /* records of `copies` to survivor file `number` at `at` (0: a new file,
                          which begins with `header`), as one group of at most `size` bytes,
                          synced; result_size: what it takes; logcopy.c */
    MR_LOG_RETIRE,     /* segment `number` is not needed: its footer, when it may have one
                          (`footed`), is removed, and the file of its group when it is the last
                          one of that (`last`); then the segment becomes the spare file `from`
                          when keep, else is removed; directory synced */
    MR_LOG_FOOTER,     /* segment `number` (header.salt, `size` bytes used) gets its footer
                          (bus/footer.h), unless it has a good one; file and directory synced */
    MR_LOG_IDS,        /* group `number` of 64 segments (header.log_id): the file that says where an
                          id may be (bus/footer_ids.h) of those in `from`, a bit each; buf: their
                          salts, 64 u64 */
    MR_LOG_SCRUB,      /* of `of` `number`. spans 0: buf is a struct mr_log_mend, which is done, of
                          `size` bytes at most; no place counts as bad that is whole when it is
                          read again. Else buf is so many struct mr_log_span, the place of a
                          record: the size of one that cannot be read is 0 then, else as it was */
};

struct mr_log_copy { /* one record that somebody needs */
    uint64_t offset;       /* the delivery that does, */
    uint32_t subscription;
    uint8_t kind;          /* MR_RECORD_EVENT: its event; MR_RECORD_DEAD: how it died */
    uint8_t file;          /* enum mr_log_file: where it is, */
    uint64_t from;         /* position, */
    uint64_t to;           /* and where it is as well now; 0: it could not be read */
};

/* One of several pieces that a READ brings. */
struct mr_log_span {
    uint64_t at;
    uint64_t size;
};

struct mr_log_request {
    struct mr_op op;
    enum mr_log_io kind;
    bool durable;     /* PREPARE: open for durable writes (sync: always); SEAL: they were */
    bool keep;        /* RETIRE */
    bool footed;      /* RETIRE */
    bool last;        /* RETIRE */
    enum mr_log_file of; /* READ, RETIRE, SCRUB */
    uint32_t spans;   /* READ: buf begins with so many struct mr_log_span, and brings their bytes
                         behind them, one after another; `size` is that of all; 0: there is one
                         piece, at `at`; SCRUB: records to be looked at */
    bool has_from;    /* PREPARE: a spare file is to be used */
    bool sorted;      /* COPY: copies are in the order of their places; out: they are */
    int file;         /* WRITE, SYNC, SEAL in; PREPARE out */
    uint64_t number;  /* segment or slot */
    uint64_t from;    /* spare file's number */
    uint64_t at;
    uint8_t *buf;     /* owned by the core; aligned to MR_LOG_BLOCK for WRITE */
    size_t size;
    uint64_t file_size; /* CHECKPOINT; 0: a chunk */
    struct mr_segment_header header; /* PREPARE, COPY; FOOTER: salt; IDS: log id; READ of a
                                        segment: its salt, and as size where its groups end */
    struct mr_log_copy *copies; /* COPY: owned by the core */
    uint32_t copy_count;        /* COPY: of them; out: dealt with, 0: the next does not fit */
    uint32_t copy_max;          /* COPY: of them at once */
    uint64_t sequence;          /* COPY: of the group in its file */
    uint32_t chain;             /* COPY: checksum of the group before; out: of this one */
    void *context;    /* the core's own */
    enum mr_status result;
    size_t result_size;
};

/** Performs @p request on @p io; sets result. @blocks on the disk  @thread any; never two requests
 * for one file at once, but for reads */
void mr_log_perform(struct mr_io *io, struct mr_log_request *request);

/* MR_LOG_COPY; logcopy.c */
MR_MUST_USE enum mr_status mr__log_copy(struct mr_io *io, struct mr_log_request *request);

#endif
