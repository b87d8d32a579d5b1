/* The worker runtimes of this folder; the http workers are in connectors/http. */
#ifndef MR_WORKERS_REGISTRY_H
#define MR_WORKERS_REGISTRY_H

#include "connectors/connector.h"

extern const struct mr_connector mr_worker_process;
extern const struct mr_connector mr_worker_exec;
extern const struct mr_connector mr_worker_native;

/** All runtimes, NULL-terminated: connectors with only worker_kind and worker set. */
extern const struct mr_connector *const mr_workers[];

#endif
