#include "workers/child.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/assert.h"
#include "core/clock.h"
#include "core/io.h"
#include "workers/cgroup.h"
#include "workers/guardian.h"
#include "workers/spawn.h"

#define STANDARD_PATH "/usr/local/bin:/usr/bin:/bin"

static const char *const inherited[] = {"PATH", "HOME",   "USER",     "LOGNAME", "SHELL",
                                        "LANG", "LC_ALL", "LC_CTYPE", "TZ",      "TMPDIR"};

static char *join_entry(const char *name, const char *value)
{
    size_t size = strlen(name) + 1 + strlen(value) + 1;
    char *entry = mr_alloc(size);
    if (entry != NULL) {
        (void)snprintf(entry, size, "%s=%s", name, value); /* size is exact */
    }
    return entry;
}

/* Takes @p entry, also on failure; a later entry of the same name replaces the earlier. */
static enum mr_status add_env(struct mr_command *command, char *entry)
{
    if (entry == NULL) {
        return MR_E_NOMEM;
    }
    size_t name_size = (size_t)(strchr(entry, '=') - entry) + 1;
    for (uint32_t i = 0; i < command->env_count; i++) {
        if (strncmp(command->env[i], entry, name_size) == 0) {
            mr_free(command->env[i]);
            command->env[i] = entry;
            return MR_OK;
        }
    }
    command->env[command->env_count++] = entry;
    return MR_OK;
}

static enum mr_status fill_env(struct mr_command *command, const struct mr_pairs *env,
                               struct mr_problem *problem)
{
    size_t room = MR_ARRAY_COUNT(inherited) + env->keys.count + 1;
    command->env = mr_calloc(room, sizeof(*command->env));
    if (command->env == NULL) {
        return MR_E_NOMEM;
    }
    for (size_t i = 0; i < MR_ARRAY_COUNT(inherited); i++) {
        const char *value = getenv(inherited[i]);
        if (value != NULL && add_env(command, join_entry(inherited[i], value)) != MR_OK) {
            return MR_E_NOMEM;
        }
    }
    for (uint32_t i = 0; i < env->keys.count; i++) {
        const char *name = env->keys.items[i];
        if (name[0] == '\0' || strchr(name, '=') != NULL) {
            return mr_problem_set(problem, MR_E_INVALID, "env: \"%s\" is no variable name", name);
        }
        if (add_env(command, join_entry(name, env->values.items[i])) != MR_OK) {
            return MR_E_NOMEM;
        }
    }
    for (uint32_t i = 0; i < command->env_count; i++) {
        if (strncmp(command->env[i], "PATH=", 5) == 0) {
            command->path = command->env[i] + 5;
        }
    }
    return MR_OK;
}

enum mr_status mr_command_init(struct mr_command *command, const struct mr_strings *words,
                               const struct mr_pairs *env, const char *folder,
                               struct mr_problem *problem)
{
    *command = (struct mr_command){0};
    if (words->count == 0 || words->items[0][0] == '\0') {
        return mr_problem_set(problem, MR_E_INVALID, "command is empty");
    }
    command->argv = mr_calloc(words->count + 1, sizeof(*command->argv));
    command->folder = mr_strdup(folder);
    enum mr_status r = command->argv == NULL || (folder != NULL && command->folder == NULL)
                           ? MR_E_NOMEM
                           : MR_OK;
    for (uint32_t i = 0; r == MR_OK && i < words->count; i++) {
        command->argv[i] = mr_strdup(words->items[i]);
        r = command->argv[i] == NULL ? MR_E_NOMEM : MR_OK;
    }
    if (r == MR_OK) {
        r = fill_env(command, env, problem);
    }
    if (r == MR_E_NOMEM) {
        (void)mr_problem_set(problem, r, "out of memory");
    }
    if (r != MR_OK) {
        mr_command_release(command);
    }
    return r;
}

static void free_list(char **list)
{
    for (size_t i = 0; list != NULL && list[i] != NULL; i++) {
        mr_free(list[i]);
    }
    mr_free(list);
}

void mr_command_release(struct mr_command *command)
{
    free_list(command->argv);
    free_list(command->env);
    mr_free(command->folder);
    *command = (struct mr_command){0};
}

/* What execve gets: the command itself when it has a slash (then relative to the folder it runs
 * in), else the first executable file of that name in PATH. Looked up at each start: programs come
 * and go. */
static void find_program(const struct mr_command *command, char path[PATH_MAX])
{
    const char *name = command->argv[0];
    const char *from = command->path == NULL ? STANDARD_PATH : command->path;
    (void)snprintf(path, PATH_MAX, "%s", name); /* what execve shall complain about */
    while (strchr(name, '/') == NULL && *from != '\0') {
        size_t size = strcspn(from, ":");
        char candidate[PATH_MAX];
        int n = snprintf(candidate, sizeof(candidate), "%.*s/%s", (int)size, from, name);
        if (size > 0 && n > 0 && (size_t)n < sizeof(candidate) && access(candidate, X_OK) == 0) {
            memcpy(path, candidate, (size_t)n + 1);
            return;
        }
        from += size + (from[size] == ':');
    }
}

struct ends {
    int child[MR_SPAWN_FDS];
};

static bool open_pipe(int *ret_read, int *ret_write)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return false;
    }
    *ret_read = ends[0];
    *ret_write = ends[1];
    return true;
}

static bool open_ends(struct mr_child *child, unsigned flags, struct ends *ends)
{
    if (!open_pipe(&child->out, &ends->child[1]) || !open_pipe(&child->err, &ends->child[2])) {
        return false;
    }
    if ((flags & MR_CHILD_STDIN) != 0 && !open_pipe(&ends->child[0], &child->in)) {
        return false;
    }
    if ((flags & MR_CHILD_SOCKET) != 0) {
        int pair[2];
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
            return false;
        }
        child->io = pair[0];
        ends->child[3] = pair[1];
    }
    /* Our ends only: the flag belongs to the open file, and children expect blocking ones. */
    int ours[] = {child->io, child->in, child->out, child->err};
    for (size_t i = 0; i < MR_ARRAY_COUNT(ours); i++) {
        if (ours[i] >= 0 && fcntl(ours[i], F_SETFL, O_NONBLOCK) != 0) {
            return false;
        }
    }
    return true;
}

void mr_child_close(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

static void close_all(struct mr_child *child)
{
    mr_child_close(&child->pidfd);
    mr_child_close(&child->io);
    mr_child_close(&child->in);
    mr_child_close(&child->out);
    mr_child_close(&child->err);
}

static enum mr_status run(const struct mr_command *command, const char *const *extra,
                          struct mr_child *child, const struct ends *ends,
                          struct mr_problem *problem)
{
    char path[PATH_MAX];
    char mark[MR_MARK_SIZE];
    size_t extra_count = 0;
    while (extra != NULL && extra[extra_count] != NULL) {
        extra_count++;
    }
    char **envp = mr_calloc(command->env_count + extra_count + 2, sizeof(*envp));
    child->mark = envp == NULL ? 0 : mr_guardian_mark(mark);
    if (child->mark == 0) {
        mr_free(envp);
        return mr_problem_set(problem, MR_E_NOMEM, "out of memory");
    }
    memcpy(envp, command->env, command->env_count * sizeof(*envp));
    if (extra_count > 0) {
        /* execve's type is not const for historical reasons; it writes nothing. */
        memcpy(envp + command->env_count, extra, extra_count * sizeof(*envp));
    }
    envp[command->env_count + extra_count] = mark;
    find_program(command, path);
    struct rusage usage = {0};
    (void)getrusage(RUSAGE_SELF, &usage); /* unknown: 0 */
    child->rss_floor = (uint64_t)usage.ru_maxrss * 1024u;
    int group = 0;
    enum mr_status r = MR_OK;
    if (command->limits.grouped) {
        r = mr_cgroup_make(child->mark, &command->limits, &group, problem);
        child->grouped = r == MR_OK;
        child->memory_max = command->limits.memory_size;
    }
    struct mr_spawn spawn = {.path = path, .argv = command->argv, .envp = envp,
                             .folder = command->folder,
                             .group = group,
                             .limits = &command->limits,
                             .fds = {ends->child[0], ends->child[1], ends->child[2],
                                     ends->child[3]}};
    r = r == MR_OK ? mr_spawn(&spawn, &child->pid, problem) : r;
    mr_free(envp);
    if (group > 0) {
        close(group);
    }
    if (r != MR_OK) {
        if (child->grouped) {
            (void)mr_cgroup_finish(child->mark); /* nobody ever was in it */
        }
        mr_guardian_forget(child->mark);
        return r;
    }
    mr_guardian_add(child->mark, child->pid);
    child->pidfd = pidfd_open(child->pid, 0); /* always close-on-exec */
    if (child->pidfd < 0) {
        r = mr_problem_set(problem, MR_E_UNAVAILABLE, "no descriptor for a process: %s",
                           strerrordesc_np(errno));
        struct mr_child_end end;
        mr_child_signal(child, SIGKILL);
        mr_child_finish(child, &end);
    }
    return r;
}

enum mr_status mr_child_start(const struct mr_command *command, const char *const *extra,
                              unsigned flags, struct mr_child *ret_child,
                              struct mr_problem *problem)
{
    struct mr_child child = {.pidfd = -1, .io = -1, .in = -1, .out = -1, .err = -1};
    struct ends ends = {{-1, -1, -1, -1}};
    enum mr_status r;
    if (open_ends(&child, flags, &ends)) {
        r = run(command, extra, &child, &ends, problem);
    } else {
        r = mr_problem_set(problem, MR_E_UNAVAILABLE, "no descriptors for a worker: %s",
                           strerrordesc_np(errno));
    }
    for (int i = 0; i < MR_SPAWN_FDS; i++) {
        mr_child_close(&ends.child[i]);
    }
    if (r != MR_OK) {
        close_all(&child);
        return r;
    }
    *ret_child = child;
    return MR_OK;
}

void mr_child_signal(const struct mr_child *child, int sig)
{
    MR_ASSERT(child->pid > 1);
    /* Until it is reaped its number cannot be given to anybody else. */
    if (kill(-child->pid, sig) != 0) {
        (void)kill(child->pid, sig); /* the group is not made yet, or empty */
    }
    if (sig == SIGKILL && child->grouped) {
        mr_cgroup_kill(child->mark);
    }
}

static void finish_group(struct mr_child *child, struct mr_child_end *end)
{
    struct mr_cgroup_end group = mr_cgroup_finish(child->mark);
    end->out_of_memory = group.killed && end->signal == SIGKILL;
    end->memory_max = group.at_limit ? child->memory_max : 0;
    end->forks_failed = group.forks_failed;
    end->rss_peak = group.memory_peak != 0 ? group.memory_peak : end->rss_peak;
    child->grouped = false;
}

void mr_child_finish(struct mr_child *child, struct mr_child_end *ret_end)
{
    int status = 0;
    struct rusage usage = {0};
    struct mr_child_end end = {.code = -1};
    /* The leader is dead but not reaped, so the group's number is still its own. */
    (void)kill(-child->pid, SIGKILL); /* ESRCH: nobody is left */
    if (child->grouped) {
        mr_cgroup_kill(child->mark);
    }
    mr_guardian_forget(child->mark);
    pid_t got;
    do {
        got = wait4(child->pid, &status, 0, &usage);
    } while (got < 0 && errno == EINTR);
    if (got == child->pid) {
        end.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
        end.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
        /* execve carries the peak of the memory it replaces along, and that was ours: a value
         * that is not above it says nothing. */
        uint64_t peak = (uint64_t)usage.ru_maxrss * 1024u;
        end.rss_peak = peak > child->rss_floor ? peak : 0;
        end.cpu_ns = (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * MR_SECOND +
                     (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000u;
    }
    if (child->grouped) {
        finish_group(child, &end);
    }
    close_all(child);
    child->pid = 0;
    (void)mr_guardian_sweep();
    *ret_end = end;
}

static uint64_t read_kib(const char *status, const char *name)
{
    const char *at = strstr(status, name);
    return at == NULL ? 0 : strtoull(at + strlen(name), NULL, 10) * 1024u;
}

struct mr_child_memory mr_child_memory(const struct mr_child *child)
{
    struct mr_child_memory memory = {0};
    char path[64];
    char text[4096];
    (void)snprintf(path, sizeof(path), "/proc/%d/status", (int)child->pid); /* fits */
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return memory;
    }
    int64_t size = mr_fd_read_full(fd, text, sizeof(text) - 1);
    close(fd);
    text[size < 0 ? 0 : size] = '\0';
    memory.rss = read_kib(text, "\nVmRSS:");
    memory.rss_peak = read_kib(text, "\nVmHWM:");
    return memory;
}

const char *mr_child_end_text(const struct mr_child_end *end, char text[128])
{
    if (end->out_of_memory && end->memory_max != 0) {
        (void)snprintf(text, 128, "was killed: out of memory (limit %" PRIu64 " MiB)",
                       end->memory_max / (1024u * 1024u)); /* fits */
    } else if (end->out_of_memory) {
        (void)snprintf(text, 128, "was killed: the host, or a control group above, was out of "
                                  "memory"); /* fits */
    } else if (end->signal != 0) {
        const char *name = sigdescr_np(end->signal);
        (void)snprintf(text, 128, "was killed by signal %d (%s)", (int)end->signal,
                       name == NULL ? "unknown" : name); /* cut is fine */
    } else if (end->code >= 0) {
        (void)snprintf(text, 128, "exited with code %d", (int)end->code);
    } else {
        (void)snprintf(text, 128, "ended in an unknown way");
    }
    return text;
}
