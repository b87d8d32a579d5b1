#include "workers/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* Descriptors are moved here and above first, so that none lies where another is to go: the
 * parent's ends may be 0..3 themselves. */
#define FD_SAFE_FIRST 10

enum step {
    STEP_NONE = 0,
    STEP_GROUP,
    STEP_FOLDER,
    STEP_EXEC,
    STEP_FDS,
};

/* What parent and child share while the parent is suspended. */
struct shared {
    const struct mr_spawn *spawn;
    int fds[MR_SPAWN_FDS];
    pid_t parent;
    volatile int error; /* errno of the step that failed */
    volatile int step;
};

/* What is ignored stays so through execve: the guardian is deaf from its first instruction. */
static void reset_signals(bool ignore)
{
    struct sigaction standard = {.sa_handler = ignore ? SIG_IGN : SIG_DFL};
    for (int sig = 1; sig < NSIG; sig++) {
        (void)sigaction(sig, &standard, NULL); /* KILL, STOP and libc's own refuse */
    }
    sigset_t none;
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/* In the child: only async-signal-safe calls, no return. It runs in the parent's memory. */
static _Noreturn void become_program(struct shared *shared)
{
    const struct mr_spawn *spawn = shared->spawn;
    (void)setsid();
    if (!spawn->outlives) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        if (getppid() != shared->parent) {
            _exit(127); /* the bus died before the line above */
        }
    }
    shared->step = STEP_GROUP;
    if (spawn->group > 0 && write(spawn->group, "0", 1) != 1) {
        shared->error = errno;
        _exit(127);
    }
    (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    struct rlimit no_core = {0, 0};
    (void)setrlimit(RLIMIT_CORE, &no_core);
    if (spawn->limits != NULL) {
        mr_limits_apply(spawn->limits);
    }
    shared->step = STEP_FDS;
    for (int i = 0; i < MR_SPAWN_FDS; i++) {
        if (shared->fds[i] >= 0 && dup2(shared->fds[i], i) < 0) {
            shared->error = errno;
            _exit(127);
        }
    }
    (void)close_range(shared->fds[MR_SPAWN_FDS - 1] >= 0 ? MR_SPAWN_FDS : MR_SPAWN_FDS - 1, ~0u, 0);
    if (spawn->folder != NULL && chdir(spawn->folder) != 0) {
        shared->error = errno;
        shared->step = STEP_FOLDER;
        _exit(127);
    }
    reset_signals(spawn->outlives);
    shared->step = STEP_EXEC;
    (void)execve(spawn->path, spawn->argv, spawn->envp);
    shared->error = errno;
    _exit(127);
}

/* Own function: nothing but the pid may live across vfork's two returns. */
static __attribute__((noinline)) pid_t split(struct shared *shared)
{
    pid_t pid = vfork();
    if (pid == 0) {
        become_program(shared);
    }
    return pid;
}

static bool move_fds(const struct mr_spawn *spawn, struct shared *shared)
{
    for (int i = 0; i < MR_SPAWN_FDS; i++) {
        int fd = spawn->fds[i];
        if (fd < 0 && i < 3) {
            int null = open("/dev/null", O_RDWR | O_CLOEXEC);
            shared->fds[i] = null < 0 ? -1 : fcntl(null, F_DUPFD_CLOEXEC, FD_SAFE_FIRST);
            if (null >= 0) {
                close(null);
            }
        } else if (fd >= 0) {
            shared->fds[i] = fcntl(fd, F_DUPFD_CLOEXEC, FD_SAFE_FIRST);
        } else {
            continue;
        }
        if (shared->fds[i] < 0) {
            return false;
        }
    }
    return true;
}

static enum mr_status failure(const struct shared *shared, struct mr_problem *problem)
{
    const struct mr_spawn *spawn = shared->spawn;
    const char *why = strerrordesc_np(shared->error);
    if (shared->step == STEP_GROUP) {
        return mr_problem_set(problem, MR_E_UNAVAILABLE, "cannot enter its control group: %s", why);
    }
    if (shared->step == STEP_FOLDER) {
        return mr_problem_set(problem, MR_E_NOT_FOUND, "cannot enter the folder \"%s\": %s",
                              spawn->folder, why);
    }
    if (shared->step == STEP_FDS) {
        return mr_problem_set(problem, MR_E_UNAVAILABLE, "cannot hand over descriptors: %s", why);
    }
    switch (shared->error) {
    case ENOENT:
        return mr_problem_set(problem, MR_E_NOT_FOUND,
                              "cannot run \"%s\": no such file (or the program of its first line "
                              "is missing)", spawn->path);
    case ENOEXEC:
        return mr_problem_set(problem, MR_E_INVALID,
                              "cannot run \"%s\": no program (does its first line begin with #!?)",
                              spawn->path);
    case EACCES:
    case EPERM:
        return mr_problem_set(problem, MR_E_DENIED, "cannot run \"%s\": %s (is it executable?)",
                              spawn->path, why);
    default:
        return mr_problem_set(problem, MR_E_UNAVAILABLE, "cannot run \"%s\": %s", spawn->path, why);
    }
}

enum mr_status mr_spawn(const struct mr_spawn *spawn, pid_t *ret_pid, struct mr_problem *problem)
{
    struct shared shared = {.spawn = spawn, .fds = {-1, -1, -1, -1}, .parent = getpid()};
    enum mr_status r = MR_OK;
    pid_t pid = -1;
    if (move_fds(spawn, &shared)) {
        /* No handler of ours may run in the child while it shares our memory. */
        sigset_t all;
        sigset_t before;
        sigfillset(&all);
        (void)pthread_sigmask(SIG_SETMASK, &all, &before);
        pid = split(&shared);
        int split_error = errno;
        (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
        errno = split_error;
    }
    if (pid < 0) {
        r = mr_problem_set(problem, MR_E_UNAVAILABLE, "cannot start a process: %s",
                           strerrordesc_np(errno));
    } else if (shared.error != 0) {
        r = failure(&shared, problem);
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
        }
    }
    for (int i = 0; i < MR_SPAWN_FDS; i++) {
        if (shared.fds[i] >= 0) {
            close(shared.fds[i]);
        }
    }
    if (r == MR_OK) {
        *ret_pid = pid;
    }
    return r;
}

enum mr_status mr_spawn_self(char *const *argv, const char *what, bool outlives, pid_t *ret_pid,
                             int *ret_fd, struct mr_problem *problem)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
        return mr_problem_set(problem, MR_E_UNAVAILABLE, "no socket for the %s: %s", what,
                              strerrordesc_np(errno));
    }
    char libraries[1024];
    const char *path = getenv("LD_LIBRARY_PATH"); /* our program may need it to start */
    int size = snprintf(libraries, sizeof(libraries), "LD_LIBRARY_PATH=%s",
                        path == NULL ? "" : path);
    char *envp[] = {path != NULL && (size_t)size < sizeof(libraries) ? libraries : NULL, NULL};
    struct mr_spawn spawn = {.path = "/proc/self/exe", .argv = argv, .envp = envp, .folder = "/",
                             .fds = {ends[0], -1, -1, -1}, .outlives = outlives};
    enum mr_status r = mr_spawn(&spawn, ret_pid, problem);
    close(ends[0]);
    if (r != MR_OK) {
        close(ends[1]);
        return r;
    }
    *ret_fd = ends[1];
    return MR_OK;
}
