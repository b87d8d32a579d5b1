/* A file read line by line into batches, with its position: what a file source does without its
 * thread. Knows nothing of hosts or queues; one thread makes every call. */
#ifndef MR_CONNECTORS_FILE_READER_H
#define MR_CONNECTORS_FILE_READER_H

#include "connectors/file/file.h"

struct mr_file_reader {
    const char *name;   /* borrowed: of the source */
    const char *folder; /* borrowed; may be NULL */
    const struct mr_file_source_options *options; /* borrowed */
    size_t event_size_max;
    size_t line_size_max; /* a longer line is rejected, cut */
    bool is_stdin;
    int file;  /* owned; -1; 0 is standard input and not ours */
    int watch; /* owned inotify; -1 */
    struct mr_file_position position; /* of the first byte of `buf` */
    bool resumes;      /* position came from the log */
    bool from_end;
    bool is_old;       /* the file was rotated away and is read to its end */
    struct mr_buf buf; /* read, not yet in a batch */
    size_t scanned;    /* bytes of buf known to hold no line end */
    bool skipping;     /* within a line that was too long */
    bool at_end;
    bool ended;        /* nothing will ever come again */
    uint64_t boot;     /* random, in the ids of what standard input brings */
};

/** @param cursor of the log, or NULL */
void mr__file_reader_init(struct mr_file_reader *reader, const char *name, const char *folder,
                          const struct mr_file_source_options *options, size_t event_size_max,
                          const char *cursor);
void mr__file_reader_release(struct mr_file_reader *reader);

/** Opens the file if it is not open, where the position says. @return MR_E_NOT_FOUND and its kin
 * with the problem: try again later */
MR_MUST_USE enum mr_status mr__file_reader_open(struct mr_file_reader *reader,
                                                struct mr_problem *problem);

/** Appends lines to @p batch until it is full or the file is at its end, and sets its cursor. What
 * fails can be called again with the same batch; no line is lost or doubled. */
MR_MUST_USE enum mr_status mr__file_reader_read(struct mr_file_reader *reader,
                                                struct mr_batch *batch,
                                                struct mr_problem *problem);

/** Whether everything was read and nothing will follow. */
bool mr__file_reader_is_done(const struct mr_file_reader *reader);

#endif
