/* The bytes of a log as its reader goes through them: read in large pieces, and where the driver
 * can, the next piece while the present one is used, across segments. */
#ifndef MR_BUS_LOGWINDOW_H
#define MR_BUS_LOGWINDOW_H

#include "bus/logread.h"

#define MR__WINDOW_AHEAD 2u /* pieces that are read at once */

struct mr__log_piece { /* goes on being read */
    struct mr_io_read *read;
    uint32_t segment;
    int file; /* shared by the pieces of a segment, and with the window */
    uint64_t at;
};

struct mr__log_window {
    struct mr_io *io;                 /* borrowed */
    const struct mr_log_index *index; /* borrowed */
    uint32_t segment;                 /* of `file`; index in index->segments */
    int file;                         /* owned; -1: none is open */
    const uint8_t *data;              /* bytes [at, at + size) of the segment, in one of the next */
    uint64_t at;
    size_t size;
    uint8_t *large; /* owned: what fits no chunk, or stands alone */
    size_t large_capacity;
    uint8_t *chunks[MR__WINDOW_AHEAD + 1]; /* owned; a ring; NULL until needed */
    unsigned chunk; /* of them: the one that is used; into the next ones is read */
    bool flows;     /* pieces were wanted one behind another */
    struct mr__log_piece ahead[MR__WINDOW_AHEAD]; /* as they follow */
    uint32_t ahead_count;
};

void mr__window_init(struct mr__log_window *window, struct mr_io *io,
                     const struct mr_log_index *index);
void mr__window_release(struct mr__log_window *window);

/** Makes [at, at + size) of a segment available until the next call. Bytes past the end of the file
 * are missing: *ret_data is NULL then. A read that fails is an error, never a torn tail: what could
 * not be read may have been acknowledged, and the next try may read it. */
MR_MUST_USE enum mr_status mr__window_fetch(struct mr__log_window *window, uint32_t segment,
                                            uint64_t at, size_t size, const uint8_t **ret_data);

#endif
