#include "workers/registry.h"

const struct mr_connector *const mr_workers[] = {&mr_worker_process, &mr_worker_exec,
                                                &mr_worker_native, NULL};
