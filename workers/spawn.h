/* Starting a process from a program with many threads: vfork, then only calls that are safe there,
 * then execve. The child gets a session and process group of its own, every signal at its default
 * and none blocked, no new privileges, no core dumps, exactly the descriptors it is given, and
 * SIGKILL when the thread that started it ends. */
#ifndef MR_WORKERS_SPAWN_H
#define MR_WORKERS_SPAWN_H

#include <stdbool.h>
#include <sys/types.h>

#include "core/problem.h"
#include "workers/limits.h"

#define MR_SPAWN_FDS 4

struct mr_spawn {
    const char *path; /* what execve gets */
    char *const *argv;
    char *const *envp;
    const struct mr_limits *limits; /* NULL: none */
    const char *folder; /* becomes the working directory; NULL: ours */
    int fds[MR_SPAWN_FDS]; /* what 0..3 become; -1: /dev/null for 0..2, closed for 3 */
    int group;          /* to enter before anything else: mr_cgroup_make(); 0: none */
    bool outlives;      /* the guardian alone: is not killed when its starter ends, and
                           ignores every signal that can be */
};

/** Starts the process. @p spawn and what it points to are borrowed for the call.
 * @return MR_E_NOT_FOUND, MR_E_DENIED, MR_E_INVALID (no program), MR_E_UNAVAILABLE (no process),
 * with the problem saying which file and why
 * @thread any; the child dies with this thread  @blocks until the child runs the new program */
MR_MUST_USE enum mr_status mr_spawn(const struct mr_spawn *spawn, pid_t *ret_pid,
                                    struct mr_problem *problem);

/** Starts our own program once more, under the name argv[0] that one of its constructors knows,
 * with nothing of our environment but where libraries are. Its descriptor 0 is the other end of
 * *ret_fd: a socket pair, as writing to one who was killed then raises no signal.
 * @param what for the problem  @return as mr_spawn() */
MR_MUST_USE enum mr_status mr_spawn_self(char *const *argv, const char *what, bool outlives,
                                         pid_t *ret_pid, int *ret_fd, struct mr_problem *problem);

#endif
