/* The file connector's inside: options, and how a path becomes a file without leaving its folder.
 *
 * A relative path lies below the configuration's folder: `..` and symbolic links that lead out of
 * it are refused by the kernel (openat2, RESOLVE_BENEATH). An absolute path is the operator's own
 * decision. Only regular files are opened, never a device, a pipe or a directory. */
#ifndef MR_CONNECTORS_FILE_FILE_H
#define MR_CONNECTORS_FILE_FILE_H

#include "connectors/connector.h"

enum mr_file_from {
    MR_FILE_FROM_START = 0,
    MR_FILE_FROM_END,
};

enum mr_file_adapter {
    MR_FILE_AUTO = 0, /* as cloudevents */
    MR_FILE_CLOUDEVENTS,
    MR_FILE_GENERIC, /* each line is the data of an event of ours */
};

struct mr_file_source_options {
    char *path; /* "-": standard input */
    bool follow;
    int from;    /* enum mr_file_from: where a file never read before begins */
    int adapter; /* enum mr_file_adapter */
};

struct mr_file_sink_options {
    char *path;
    uint64_t rotate_size; /* 0: never */
    int64_t keep;
};

MR_MUST_USE enum mr_status mr__file_check_source(const void *options, struct mr_problem *problem);
MR_MUST_USE enum mr_status mr__file_check_sink(const void *options, struct mr_problem *problem);

/** Opens the directory that holds @p path, and says the name in it.
 * @param[out] ret_dir the caller closes it
 * @param[out] ret_name borrowed from @p path */
MR_MUST_USE enum mr_status mr__file_open_dir(const char *folder, const char *path, int *ret_dir,
                                             const char **ret_name, struct mr_problem *problem);

/** Opens @p name in @p dir to read; symbolic links are followed within the folder only.
 * @return MR_E_NOT_FOUND, MR_E_DENIED (also: no regular file) */
MR_MUST_USE enum mr_status mr__file_open_read(const char *folder, const char *path, int *ret_file,
                                              struct mr_problem *problem);

/** Opens @p name in @p dir to append, made when missing (mode 0640); no symbolic link. */
MR_MUST_USE enum mr_status mr__file_open_append(int dir, const char *name, int *ret_file,
                                                struct mr_problem *problem);

/* Where a source is in a file: logged with the events, read back after a restart. */
struct mr_file_position {
    uint64_t device;
    uint64_t inode;
    uint64_t at;
    uint32_t head; /* CRC-32C of the first min(at, MR_FILE_HEAD_SIZE) bytes: an inode number is
                      used again, a file may be cut and written anew */
};
#define MR_FILE_HEAD_SIZE 256u

MR_MUST_USE char *mr__file_cursor(const struct mr_file_position *position);
bool mr__file_read_cursor(const char *cursor, struct mr_file_position *ret_position);

extern const struct mr_source_ops mr__file_source_ops;
extern const struct mr_target_ops mr__file_sink_ops;

#endif
