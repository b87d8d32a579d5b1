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
    MR_LOG_READ,       /* up to `size` bytes of segment `number` at `at` into buf; result_size */
    MR_LOG_CHECKPOINT, /* buf to slot `number` (0 or 1), synced */
    MR_LOG_SEAL,       /* close file, synced before unless its writes were durable; cut segment
                          `number` to `size` when size > 0 */
    MR_LOG_RETIRE,     /* segment `number` is not needed: to the spare file `from` when keep, else
                          removed; directory synced */
};

struct mr_log_request {
    struct mr_op op;
    enum mr_log_io kind;
    bool durable;     /* PREPARE: open for durable writes (sync: always); SEAL: they were */
    bool keep;        /* RETIRE */
    bool has_from;    /* PREPARE: a spare file is to be used */
    int file;         /* WRITE, SYNC, SEAL in; PREPARE out */
    uint64_t number;  /* segment or slot */
    uint64_t from;    /* spare file's number */
    uint64_t at;
    uint8_t *buf;     /* owned by the core; aligned to MR_LOG_BLOCK for WRITE and CHECKPOINT */
    size_t size;
    struct mr_segment_header header; /* PREPARE */
    void *context;    /* the core's own */
    enum mr_status result;
    size_t result_size;
};

/** Performs @p request on @p io; sets result. @blocks on the disk  @thread any; never two requests
 * for one file at once */
void mr_log_perform(struct mr_io *io, struct mr_log_request *request);

#endif
