#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "core/io.h"
#include "workers/cgroup_internal.h"

#define WAIT_PAUSE_MS 10
#define LOCK_ROUNDS 50    /* a child that has not run its program yet may hold a copy */
#define EMPTY_ROUNDS 100  /* killed processes take a moment to go */
#define LEFT_ROUNDS 200

int64_t mr__cgroup_read(int dir, const char *path, char text[MR__CGROUP_TEXT_MAX])
{
    text[0] = '\0';
    int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    int64_t size = mr_fd_read_full(fd, text, MR__CGROUP_TEXT_MAX - 1);
    int error = errno;
    close(fd);
    errno = error;
    text[size < 0 ? 0 : size] = '\0';
    return size;
}

bool mr__cgroup_write(int dir, const char *path, const char *text)
{
    int fd = openat(dir, path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    bool ok = mr_fd_write_full(fd, text, strlen(text));
    int error = errno;
    close(fd);
    errno = error;
    return ok;
}

/* Goes through the numbers of @p group's processes: moves each to @p to, or kills it when that is
 * NULL. */
static void each_process(int dir, const char *group, const char *to)
{
    char path[PATH_MAX];
    char text[MR__CGROUP_TEXT_MAX];
    (void)snprintf(path, sizeof(path), "%.4000s/cgroup.procs", group);
    int64_t size = mr__cgroup_read(dir, path, text);
    (void)snprintf(path, sizeof(path), "%.4000s/cgroup.procs", to == NULL ? "" : to);
    for (int64_t at = 0; at < size;) {
        char *line = text + at;
        char *end = strchr(line, '\n');
        uint64_t pid;
        if (end == NULL) {
            return; /* cut: the next round sees it whole */
        }
        *end = '\0';
        at = end + 1 - text;
        if (to != NULL) {
            (void)mr__cgroup_write(dir, path, line); /* it ended, or stays: the caller looks */
        } else if (mr_parse_u64(mr_bytes_of(line), &pid) && pid > 1) {
            (void)kill((pid_t)pid, SIGKILL);
        }
    }
}

void mr__cgroup_move(int dir, const char *from, const char *to)
{
    each_process(dir, from, to);
}

void mr__cgroup_kill(int dir, const char *name)
{
    char path[PATH_MAX];
    (void)snprintf(path, sizeof(path), "%.4000s/cgroup.kill", name);
    if (!mr__cgroup_write(dir, path, "1") && errno == ENOENT &&
        faccessat(dir, name, F_OK, 0) == 0) {
        each_process(dir, name, NULL); /* before Linux 5.14 */
    }
}

/* Calls @p fn for each group right below @p path, with its name, until it returns false. */
static void each_group(int dir, const char *path, bool (*fn)(int dir, const char *name, void *to),
                       void *to)
{
    int fd = openat(dir, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = fd < 0 ? NULL : fdopendir(fd);
    if (list == NULL) {
        if (fd >= 0) {
            close(fd);
        }
        return;
    }
    for (struct dirent *entry = readdir(list); entry != NULL; entry = readdir(list)) {
        if (entry->d_type == DT_DIR && entry->d_name[0] != '.' && !fn(dir, entry->d_name, to)) {
            break;
        }
    }
    closedir(list);
}

static bool take_name(int dir, const char *name, void *to)
{
    (void)dir;
    (void)snprintf(to, NAME_MAX + 1, "%s", name); /* a name fits */
    return false;
}

/* A worker may have made groups of its own in its group: the deepest goes first. */
bool mr__cgroup_remove(int dir, const char *name)
{
    for (;;) {
        char path[PATH_MAX];
        char child[NAME_MAX + 1] = "";
        int size = snprintf(path, sizeof(path), "%s", name);
        for (;;) {
            each_group(dir, path, take_name, child);
            if (child[0] == '\0') {
                break;
            }
            size += snprintf(path + size, sizeof(path) - (size_t)size, "/%s", child);
            if ((size_t)size >= sizeof(path)) {
                return false;
            }
            child[0] = '\0';
        }
        bool gone = unlinkat(dir, path, AT_REMOVEDIR) == 0 || errno == ENOENT;
        if (!gone || strcmp(path, name) == 0) {
            return gone;
        }
    }
}

static bool kill_one(int dir, const char *name, void *to)
{
    (void)to;
    if (strcmp(name, MR__CGROUP_LEAF) != 0) {
        mr__cgroup_kill(dir, name);
    }
    return true;
}

static bool remove_one(int dir, const char *name, void *to)
{
    unsigned *left = to;
    if (strcmp(name, MR__CGROUP_LEAF) != 0 && !mr__cgroup_remove(dir, name)) {
        mr__cgroup_kill(dir, name);
        (*left)++;
    }
    return true;
}

static void remove_instances(int dir, int rounds)
{
    unsigned left = 1;
    for (int round = 0; round < rounds && left > 0; round++) {
        left = 0;
        each_group(dir, ".", remove_one, &left);
        if (left > 0) {
            (void)poll(NULL, 0, WAIT_PAUSE_MS);
        }
    }
}

bool mr__cgroup_lock(int dir)
{
    for (int round = 0; round < LOCK_ROUNDS; round++) {
        if (flock(dir, LOCK_EX | LOCK_NB) == 0) {
            return true;
        }
        (void)poll(NULL, 0, WAIT_PAUSE_MS);
    }
    return false;
}

/* The folder's own name: what OWN knows it by. */
static bool tree_name(int dir, char name[NAME_MAX + 1])
{
    char link[64];
    char path[PATH_MAX];
    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", dir); /* fits */
    ssize_t size = readlink(link, path, sizeof(path) - 1);
    if (size <= 0) {
        return false;
    }
    path[size] = '\0';
    const char *last = strrchr(path, '/');
    return last != NULL && snprintf(name, NAME_MAX + 1, "%s", last + 1) <= NAME_MAX;
}

void mr__cgroup_put_back(int home, int dir, unsigned switched_on)
{
    char text[48];
    char name[NAME_MAX + 1];
    char leaf[NAME_MAX + 8];
    if (!tree_name(dir, name)) {
        return;
    }
    (void)snprintf(leaf, sizeof(leaf), "%s/" MR__CGROUP_LEAF, name); /* fits */
    /* 1. A controller can be switched off above only when it is off below. */
    for (unsigned bit = MR_CGROUP_MEMORY; bit <= MR_CGROUP_CPU; bit *= 2) {
        (void)mr__cgroup_write(dir, "cgroup.subtree_control",
                               mr__cgroup_switch_text(bit, '-', text)); /* it was not on */
        if ((switched_on & bit) != 0) {
            (void)mr__cgroup_write(home, "cgroup.subtree_control", text); /* others need it */
        }
    }
    /* 2. Only then may processes be in OWN itself. */
    for (int round = 0; round < EMPTY_ROUNDS; round++) {
        mr__cgroup_move(home, leaf, ".");
        if (unlinkat(home, leaf, AT_REMOVEDIR) == 0 || errno != EBUSY) {
            break;
        }
        (void)poll(NULL, 0, WAIT_PAUSE_MS);
    }
    (void)unlinkat(home, name, AT_REMOVEDIR); /* what stays the next start removes */
}

int mr_cgroup_take_over(const struct mr_cgroup_tree *tree)
{
    int dir = tree->folder[0] == '\0'
                  ? -1
                  : open(tree->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir >= 0 && !mr__cgroup_lock(dir)) {
        close(dir);
        dir = -1;
    }
    if (dir >= 0) {
        each_group(dir, ".", kill_one, NULL);
    }
    return dir;
}

void mr_cgroup_remove(const struct mr_cgroup_tree *tree, int dir)
{
    int home = openat(dir, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    remove_instances(dir, EMPTY_ROUNDS);
    if (home >= 0 && mr__cgroup_lock(home)) {
        mr__cgroup_put_back(home, dir, tree->switched_on);
    }
    if (home >= 0) {
        close(home);
    }
    close(dir);
}

static bool remove_tree(int home, const char *name, void *to)
{
    (void)to;
    if (strncmp(name, MR__CGROUP_PREFIX, strlen(MR__CGROUP_PREFIX)) != 0) {
        return true;
    }
    int dir = openat(home, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) {
        return true;
    }
    if (flock(dir, LOCK_EX | LOCK_NB) == 0) {
        each_group(dir, ".", kill_one, NULL);
        remove_instances(dir, LEFT_ROUNDS);
        /* In `bus` its guardian may be about to end; what was no worker is not ours to kill. */
        for (int round = 0; round < EMPTY_ROUNDS; round++) {
            if (unlinkat(dir, MR__CGROUP_LEAF, AT_REMOVEDIR) == 0 || errno != EBUSY) {
                break;
            }
            (void)poll(NULL, 0, WAIT_PAUSE_MS);
        }
        (void)unlinkat(home, name, AT_REMOVEDIR); /* what cannot go stays for another time */
    }
    close(dir);
    return true;
}

void mr__cgroup_remove_left(int home)
{
    each_group(home, ".", remove_tree, NULL);
}
