/* The `exec` runtime: one process per event. The event is JSON on its standard input, its
 * attributes are in its environment, its exit code is the verdict, its output the result
 * (docs/worker-protocol.md). One thread per target drives all processes. */
#ifndef MR_WORKERS_EXEC_EXEC_H
#define MR_WORKERS_EXEC_EXEC_H

#include "connectors/connector.h"
#include "workers/limits.h"

struct mr_exec_options {
    struct mr_strings command;
    struct mr_pairs env;
    char *cwd; /* NULL: the configuration's folder */
    struct mr_limits limits;
};

#endif
