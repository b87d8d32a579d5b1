/* The `process` runtime: long-lived worker processes that speak the worker protocol on descriptor
 * 3 (docs/worker-protocol.md). One thread per target drives all its instances. */
#ifndef MR_WORKERS_PROCESS_PROCESS_H
#define MR_WORKERS_PROCESS_PROCESS_H

#include "connectors/connector.h"
#include "workers/limits.h"

struct mr_process_options {
    struct mr_strings command;
    struct mr_pairs env;
    char *cwd;             /* NULL: the configuration's folder */
    int64_t max_events;    /* 0 = no limit */
    uint64_t max_life_ns;  /* 0 = no limit */
    uint64_t max_rss;      /* bytes; 0 = no limit */
    struct mr_limits limits;
};

#endif
