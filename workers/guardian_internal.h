/* Shared by the two halves of the guardian: the bus's side and the process's. */
#ifndef MR_WORKERS_GUARDIAN_INTERNAL_H
#define MR_WORKERS_GUARDIAN_INTERNAL_H

#include <stdbool.h>

#include "workers/guardian.h"

#define MR__BUS_NAME_SIZE 40u

/* What the guardian is told: the number of a process group to kill, minus one it need not any
 * more, or this, with the tree behind it. */
#define MR__GUARDIAN_TREE 1
struct mr__guardian_tree {
    int32_t message; /* MR__GUARDIAN_TREE */
    struct mr_cgroup_tree tree;
};

/** The number in the mark of process @p pid, when the mark is one of @p bus. */
bool mr__guardian_read_mark(pid_t pid, const char *bus, uint64_t *ret_number);

/** Pulls guardian_main.c, which nothing calls by name, out of the static library. */
extern const char mr__guardian_name[];

#endif
