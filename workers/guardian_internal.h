/* Shared by the two halves of the guardian: the bus's side and the process's. */
#ifndef MR_WORKERS_GUARDIAN_INTERNAL_H
#define MR_WORKERS_GUARDIAN_INTERNAL_H

#include <stdbool.h>

#include "workers/guardian.h"

#define MR__BUS_NAME_SIZE 40u

/** The number in the mark of process @p pid, when the mark is one of @p bus. */
bool mr__guardian_read_mark(pid_t pid, const char *bus, uint64_t *ret_number);

/** Pulls guardian_main.c, which nothing calls by name, out of the static library. */
extern const char mr__guardian_name[];

#endif
