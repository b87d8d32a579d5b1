/* Control groups (cgroup v2): what bounds an instance as a whole, with everything it starts.
 *
 * Below our own group lies one tree per Millrace, and in it one group per instance:
 *
 *     OWN/                      where Millrace was started; not ours to limit
 *     OWN/millrace-PID-RANDOM/  the tree, locked (flock) as long as its Millrace lives
 *         bus/                  the processes that were in OWN (see below)
 *         w7/                   an instance: memory.max, pids.max, cpu.max
 *
 * A group that has processes cannot hand controllers down, but for the root of all. So the
 * processes of OWN, which must all be ours (this one and its descendants), move to `bus` first.
 * Nothing outside OWN is touched, and in OWN nothing but cgroup.subtree_control.
 *
 * The guardian takes the tree apart when Millrace has ended, in whatever way, and puts OWN back as
 * it was. Should it be killed too, the next start in OWN removes every tree that nobody locks.
 *
 * One tree per process, as there is one guardian: static, behind a mutex. It exists between
 * mr_cgroup_begin() and mr_cgroup_leave(). */
#ifndef MR_WORKERS_CGROUP_H
#define MR_WORKERS_CGROUP_H

#include <stdbool.h>
#include <stdint.h>

#include "core/problem.h"

struct mr_limits;

enum mr_cgroup_controllers {
    MR_CGROUP_MEMORY = 1,
    MR_CGROUP_PIDS = 2,
    MR_CGROUP_CPU = 4,
};

/** Whether mr_cgroup_begin() could succeed, with the reason and a remedy when not. Changes
 * nothing. @return MR_E_UNAVAILABLE @thread any */
MR_MUST_USE enum mr_status mr_cgroup_check(unsigned controllers, struct mr_problem *problem);
/** Makes the tree unless there is one, with @p controllers for its groups. The guardian is held.
 * @return MR_E_UNAVAILABLE with the reason and a remedy; then all is as before
 * @thread any  @blocks milliseconds; seconds when trees of killed Millraces are to be removed */
MR_MUST_USE enum mr_status mr_cgroup_begin(unsigned controllers, struct mr_problem *problem);
/** The last instance is gone: gives up the tree, which the guardian removes when it ends. */
void mr_cgroup_leave(void);

/** Makes the group of an instance and sets its limits.
 * @param number no other living instance has it
 * @param[out] ret_entry a process that writes "0" to it is in the group; the caller closes it
 * @return MR_E_UNAVAILABLE with the file and the reason @thread any */
MR_MUST_USE enum mr_status mr_cgroup_make(uint64_t number, const struct mr_limits *limits,
                                          int *ret_entry, struct mr_problem *problem);
/** Kills everything in group @p number. @thread any */
void mr_cgroup_kill(uint64_t number);

struct mr_cgroup_end {
    bool killed;           /* for want of memory */
    bool at_limit;         /* its own; else the host or a group above had none */
    uint64_t memory_peak;  /* bytes; 0 unknown */
    uint64_t forks_failed; /* at max_processes */
};

/** Everything in group @p number was killed: says how it ended, and removes it as soon as it is
 * empty (mr_cgroup_sweep() goes on with it). @thread any */
struct mr_cgroup_end mr_cgroup_finish(uint64_t number);
/** Removes groups that were not empty yet. @return how many are left @thread any */
uint32_t mr_cgroup_sweep(void);

/* --- for the guardian ------------------------------------------------------------------------- */

/** A tree as another process needs to know it to take it apart. */
struct mr_cgroup_tree {
    uint32_t switched_on; /* controllers that we switched on in OWN */
    char folder[4096];    /* absolute; "" none */
};

/** Kills what is in the groups of a tree whose Millrace is gone.
 * @return its folder, locked, for mr_cgroup_remove(); -1: there is none, or others see to it */
int mr_cgroup_take_over(const struct mr_cgroup_tree *tree);
/** Removes the tree and puts OWN back as it was, whose processes go back to it. Closes @p dir.
 * @blocks 1 s at most, when a killed process does not go */
void mr_cgroup_remove(const struct mr_cgroup_tree *tree, int dir);

#endif
