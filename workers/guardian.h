/* The guardian: cleans up after workers whatever happens, the bus's own death included.
 *
 * Three nets, each for what the one before cannot hold:
 *   1. PR_SET_PDEATHSIG on each child kills the worker itself when the bus dies.
 *   2. A small process of its own session holds one end of a socket pair with the bus and knows
 *      every process group of ours. End of file means that the bus is gone, in whatever way: it
 *      kills all groups, then whoever still carries the bus's mark in its environment, removes
 *      the bus's control groups (cgroup.h), and ends.
 *   3. While the bus lives it is the reaper of its descendants (PR_SET_CHILD_SUBREAPER), so that
 *      a process that forked twice out of its group comes back to us: mr_guardian_sweep() kills
 *      it once its worker is gone, and reaps what died.
 *
 * The guardian is our own program run again under the name "millrace-guardian" (a constructor in
 * guardian_main.c recognises it), not a fork: it must not keep a copy of the bus's memory alive.
 *
 * One per process and shared by all targets: reference-counted state behind one mutex, because a
 * process can have only one reaper. If the guardian is killed, the next call starts another. */
#ifndef MR_WORKERS_GUARDIAN_H
#define MR_WORKERS_GUARDIAN_H

#include <stdint.h>
#include <sys/types.h>

#include "core/problem.h"
#include "workers/cgroup.h"

#define MR_GUARDIAN_NAME "millrace-guardian"
#define MR_MARK_NAME "MILLRACE_BUS="
#define MR_MARK_SIZE 80u /* "MILLRACE_BUS=<bus>.<number>" with its NUL */

/** Starts the guardian, or shares it.
 * @return MR_E_UNAVAILABLE when no process can be started, MR_E_NOMEM
 * @thread any  @blocks a few milliseconds at most */
MR_MUST_USE enum mr_status mr_guardian_ref(struct mr_problem *problem);
/** With the last reference the guardian ends. @blocks until it has, at most 2 s */
void mr_guardian_unref(void);

/** A new mark for one child, alive from now until mr_guardian_forget().
 * @param[out] mark the environment entry the child gets
 * @return its number; 0 when memory is short @thread any */
uint64_t mr_guardian_mark(char mark[MR_MARK_SIZE]);
/** Ties process group @p group to mark @p number. @thread any */
void mr_guardian_add(uint64_t number, pid_t group);
/** The group has been killed; call it before its leader is reaped. @thread any */
void mr_guardian_forget(uint64_t number);

/** Names the control groups the guardian shall take apart when it ends. @thread any */
void mr_guardian_set_tree(const struct mr_cgroup_tree *tree);

/** Reaps orphans that died and kills those whose mark is no longer alive.
 * Removes control groups that were not empty yet.
 * @return how many of both are still there @thread any  @blocks on /proc, microseconds */
uint32_t mr_guardian_sweep(void);
/** Sweeps until nothing is left of marks no longer alive, at most 500 ms. */
void mr_guardian_sweep_all(void);

#endif
