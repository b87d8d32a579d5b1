#include "workers/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/assert.h"
#include "core/io.h"
#include "core/rng.h"
#include "workers/cgroup_internal.h"
#include "workers/guardian.h"
#include "workers/limits.h"

#define PROC_SIZE_MAX (1024u * 1024u)
#define ANCESTORS_MAX 64
#define SWITCH_ROUNDS 100
#define SWITCH_PAUSE_MS 2
#define NAME_SIZE 32
#define HIDDEN UINT64_MAX /* a process that has no number in our process namespace */

#define REMEDY                                                                                     \
    "; run Millrace as a unit of its own with Delegate=yes, or in a container that may write its " \
    "control group"

/* Why this is static: see cgroup.h. */
static struct {
    pthread_mutex_t mu; /* protects all below; `dir` stays while there are instances */
    int dir;            /* the tree, locked; -1: none */
    unsigned controllers; /* that its groups have */
    struct mr_cgroup_tree shared;
    uint64_t *left; /* owned; groups that are to be removed */
    size_t left_count;
    size_t left_capacity;
} tree = {.mu = PTHREAD_MUTEX_INITIALIZER, .dir = -1};

/* --- our own group ---------------------------------------------------------------------------- */

static enum mr_status read_proc(const char *path, char **ret_text, struct mr_bytes *ret_bytes)
{
    size_t size;
    enum mr_status r = mr_file_read(path, PROC_SIZE_MAX, ret_text, &size);
    if (r == MR_OK) {
        *ret_bytes = mr_bytes(*ret_text, size);
    }
    return r;
}

/* Our folder in cgroupfs, and whether v1 has @p controller. */
static enum mr_status find_home(char folder[PATH_MAX], const char *controller, bool *ret_v1)
{
    char *groups = NULL;
    char *mounts = NULL;
    struct mr_bytes group_text;
    struct mr_bytes mount_text;
    struct mr_bytes own;
    enum mr_status r = read_proc("/proc/self/cgroup", &groups, &group_text);
    if (r == MR_OK) {
        *ret_v1 = mr__cgroup_is_v1(group_text, controller);
        r = mr__cgroup_own(group_text, &own) ? MR_OK : MR_E_NOT_FOUND;
    }
    if (r == MR_OK) {
        r = read_proc("/proc/self/mountinfo", &mounts, &mount_text);
    }
    if (r == MR_OK) {
        r = mr__cgroup_folder(mount_text, own, folder);
    }
    mr_free(groups);
    mr_free(mounts);
    return r;
}

/* This process or a descendant of it. */
static bool is_ours(uint64_t pid)
{
    for (int n = 0; n < ANCESTORS_MAX && pid > 1; n++) {
        if (pid == (uint64_t)getpid()) {
            return true;
        }
        char path[64];
        char text[MR__CGROUP_TEXT_MAX];
        (void)snprintf(path, sizeof(path), "/proc/%" PRIu64 "/stat", pid); /* fits */
        const char *behind = mr__cgroup_read(AT_FDCWD, path, text) < 0 ? NULL : strrchr(text, ')');
        int parent;
        if (behind == NULL) {
            return true; /* it is gone: in nobody's way */
        }
        if (sscanf(behind, ") %*c %d", &parent) != 1) {
            return false;
        }
        pid = (uint64_t)(parent > 0 ? parent : 0);
    }
    return pid == (uint64_t)getpid(); /* as the first process of a container */
}

/* A process in our own group that is not ours; 0: none. */
static uint64_t find_stranger(int home)
{
    char text[MR__CGROUP_TEXT_MAX];
    if (mr__cgroup_read(home, "cgroup.type", text) < 0) {
        return 0; /* the root of all: everybody's, and it may have processes */
    }
    int64_t size = mr__cgroup_read(home, "cgroup.procs", text);
    for (int64_t at = 0; at < size;) {
        size_t length = strcspn(text + at, "\n");
        uint64_t pid;
        if (mr_parse_u64(mr_bytes(text + at, length), &pid) && !is_ours(pid)) {
            return pid == 0 ? HIDDEN : pid;
        }
        at += (int64_t)length + 1;
    }
    return 0;
}

static enum mr_status check_home(int home, const char *folder, unsigned controllers, bool v1,
                                 struct mr_problem *problem)
{
    char text[MR__CGROUP_TEXT_MAX];
    char type[MR__CGROUP_TEXT_MAX];
    int64_t size = mr__cgroup_read(home, "cgroup.controllers", text);
    unsigned missing = mr__cgroup_missing(controllers, mr_bytes(text, size < 0 ? 0 : (size_t)size));
    if (missing != 0) {
        return mr_problem_set(problem, MR_E_UNAVAILABLE,
                              "the control group %.200s has no controller %s%s", folder,
                              mr__cgroup_name(missing),
                              v1 ? ": cgroup v1 holds it; only cgroup v2 is used here" : REMEDY);
    }
    if (faccessat(home, ".", W_OK, AT_EACCESS) != 0 ||
        faccessat(home, "cgroup.procs", W_OK, AT_EACCESS) != 0 ||
        (controllers != 0 && faccessat(home, "cgroup.subtree_control", W_OK, AT_EACCESS) != 0)) {
        return mr_problem_set(problem, MR_E_UNAVAILABLE,
                              "the control group %.200s cannot be changed: %s" REMEDY, folder,
                              strerrordesc_np(errno));
    }
    if (controllers == 0 || mr__cgroup_read(home, "cgroup.type", type) < 0) {
        return MR_OK; /* the root of all has no type */
    }
    if (strcmp(type, "domain\n") != 0) {
        return mr_problem_set(problem, MR_E_UNAVAILABLE,
                              "the control group %.200s is of type %.*s" REMEDY, folder,
                              (int)strcspn(type, "\n"), type);
    }
    uint64_t stranger = find_stranger(home);
    if (stranger != 0) {
        char which[64];
        (void)snprintf(which, sizeof(which), "as number %" PRIu64, stranger); /* fits */
        return mr_problem_set(problem, MR_E_UNAVAILABLE,
                              "the control group %.200s has processes that are not Millrace's, "
                              "%s" REMEDY, folder,
                              stranger == HIDDEN ? "in another process namespace" : which);
    }
    return MR_OK;
}

static enum mr_status open_home(unsigned controllers, char folder[PATH_MAX], int *ret_home,
                                struct mr_problem *problem)
{
    bool v1 = false;
    enum mr_status r = find_home(folder, mr__cgroup_name(controllers), &v1);
    if (r != MR_OK) {
        return mr_problem_set(problem, MR_E_UNAVAILABLE,
                              "no cgroup v2 is mounted that shows Millrace's own control "
                              "group" REMEDY);
    }
    int home = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (home < 0) {
        return mr_problem_set(problem, MR_E_UNAVAILABLE, "cannot open the control group %.200s: %s",
                              folder, strerrordesc_np(errno));
    }
    r = check_home(home, folder, controllers, v1, problem);
    if (r != MR_OK) {
        close(home);
        return r;
    }
    *ret_home = home;
    return MR_OK;
}

enum mr_status mr_cgroup_check(unsigned controllers, struct mr_problem *problem)
{
    char folder[PATH_MAX];
    int home = -1;
    enum mr_status r = MR_OK;
    pthread_mutex_lock(&tree.mu);
    if (tree.dir < 0 || (controllers & ~tree.controllers) != 0) {
        if (tree.dir < 0) {
            r = open_home(controllers, folder, &home, problem);
        } else {
            home = openat(tree.dir, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            r = check_home(home, tree.shared.folder, controllers, false, problem);
        }
    }
    pthread_mutex_unlock(&tree.mu);
    if (home >= 0) {
        close(home);
    }
    return r;
}

/* --- the tree --------------------------------------------------------------------------------- */

static enum mr_status failed(const char *what, const char *folder, struct mr_problem *problem)
{
    return mr_problem_set(problem, MR_E_UNAVAILABLE, "control group %.200s: cannot %s: %s", folder,
                          what, strerrordesc_np(errno));
}

/* Moves our processes out of our own group. @return whether none is left: they may have children
 * meanwhile */
static bool empty_home(int home, int dir)
{
    char text[MR__CGROUP_TEXT_MAX];
    char leaf[PATH_MAX + 8];
    if (mr__cgroup_read(home, "cgroup.type", text) < 0 ||
        mr__cgroup_read(home, "cgroup.procs", text) == 0) {
        return true; /* the root of all may keep them */
    }
    if (mkdirat(dir, MR__CGROUP_LEAF, 0755) != 0 && errno != EEXIST) {
        return false;
    }
    (void)snprintf(leaf, sizeof(leaf), "%s/" MR__CGROUP_LEAF,
                   strrchr(tree.shared.folder, '/') + 1); /* fits */
    mr__cgroup_move(home, ".", leaf);
    return mr__cgroup_read(home, "cgroup.procs", text) == 0;
}

/* pids and cpu can be switched on in a group with processes too, but then groups below it are for
 * threads alone and take no process: the type of ours tells. */
static bool switch_on(int home, int dir, unsigned controllers)
{
    char on[48];
    char off[48];
    char type[MR__CGROUP_TEXT_MAX];
    mr__cgroup_switch_text(controllers, '+', on);
    mr__cgroup_switch_text(controllers, '-', off);
    for (int round = 0; round < SWITCH_ROUNDS && find_stranger(home) == 0; round++) {
        if (round > 0) {
            (void)poll(NULL, 0, SWITCH_PAUSE_MS);
        }
        if (!empty_home(home, dir)) {
            continue;
        }
        if (!mr__cgroup_write(home, "cgroup.subtree_control", on)) {
            if (errno != EBUSY) {
                return false;
            }
        } else if (mr__cgroup_read(dir, "cgroup.type", type) > 0 && strcmp(type, "domain\n") == 0) {
            return true;
        } else {
            (void)mr__cgroup_write(home, "cgroup.subtree_control", off); /* and once more */
        }
    }
    errno = EBUSY;
    return false;
}

/* Those that OWN does not hand down yet. */
static unsigned missing_in(int home, unsigned controllers)
{
    char text[MR__CGROUP_TEXT_MAX];
    int64_t size = mr__cgroup_read(home, "cgroup.subtree_control", text);
    return mr__cgroup_missing(controllers, mr_bytes(text, size < 0 ? 0 : (size_t)size));
}

static enum mr_status give_controllers(int home, unsigned controllers, struct mr_problem *problem)
{
    char words[48];
    unsigned missing = missing_in(home, controllers);
    if (missing != 0 && !switch_on(home, tree.dir, missing)) {
        return failed("hand controllers down from its parent", tree.shared.folder, problem);
    }
    if (controllers != 0 && !mr__cgroup_write(tree.dir, "cgroup.subtree_control",
                                              mr__cgroup_switch_text(controllers, '+', words))) {
        return failed("hand controllers down", tree.shared.folder, problem);
    }
    tree.controllers |= controllers;
    return MR_OK;
}

static void drop_tree(int home)
{
    mr__cgroup_put_back(home, tree.dir, tree.shared.switched_on);
    close(tree.dir);
    tree.dir = -1;
    tree.controllers = 0;
    tree.shared = (struct mr_cgroup_tree){0};
}

static enum mr_status make_tree(int home, const char *folder, struct mr_problem *problem)
{
    char name[NAME_SIZE];
    mr__cgroup_remove_left(home);
    (void)snprintf(name, sizeof(name), MR__CGROUP_PREFIX "%d-%08" PRIx32, (int)getpid(),
                   (uint32_t)mr_rng_entropy()); /* fits */
    if (snprintf(tree.shared.folder, sizeof(tree.shared.folder), "%s/%s", folder, name) >=
        (int)sizeof(tree.shared.folder)) {
        errno = ENAMETOOLONG;
        return failed("make it", folder, problem);
    }
    if (mkdirat(home, name, 0755) != 0) {
        return failed("make it", tree.shared.folder, problem);
    }
    tree.dir = openat(home, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (tree.dir < 0 || flock(tree.dir, LOCK_EX | LOCK_NB) != 0) {
        enum mr_status r = failed("lock it", tree.shared.folder, problem);
        (void)unlinkat(home, name, AT_REMOVEDIR); /* the next start removes it too */
        if (tree.dir >= 0) {
            close(tree.dir);
            tree.dir = -1;
        }
        return r;
    }
    return MR_OK;
}

/* OWN, locked, so that Millraces that begin and end there do so one after another; and the tree. */
static enum mr_status open_locked(unsigned controllers, int *ret_home, struct mr_problem *problem)
{
    char folder[PATH_MAX];
    bool first = tree.dir < 0;
    int home = -1;
    enum mr_status r = MR_OK;
    if (first) {
        r = open_home(controllers, folder, &home, problem);
        if (r != MR_OK) {
            return r;
        }
    } else {
        home = openat(tree.dir, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    if (home < 0 || !mr__cgroup_lock(home)) {
        r = failed("lock what it lies in", first ? folder : tree.shared.folder, problem);
    } else if (first) {
        r = make_tree(home, folder, problem);
    }
    if (r == MR_OK) {
        tree.shared.switched_on |= missing_in(home, controllers);
        *ret_home = home;
    } else if (home >= 0) {
        close(home);
    }
    return r;
}

enum mr_status mr_cgroup_begin(unsigned controllers, struct mr_problem *problem)
{
    pthread_mutex_lock(&tree.mu);
    bool first = tree.dir < 0;
    bool enough = !first && (controllers & ~tree.controllers) == 0;
    int home = -1;
    enum mr_status r = enough ? MR_OK : open_locked(controllers, &home, problem);
    struct mr_cgroup_tree shared = tree.shared;
    pthread_mutex_unlock(&tree.mu);
    if (enough || r != MR_OK) {
        return r;
    }
    /* Before any process moves: whenever we are killed, the guardian knows what to put back. */
    mr_guardian_set_tree(&shared);
    pthread_mutex_lock(&tree.mu);
    r = give_controllers(home, controllers, problem);
    if (r != MR_OK && first) {
        drop_tree(home);
    }
    shared = tree.shared;
    pthread_mutex_unlock(&tree.mu);
    if (r != MR_OK) {
        mr_guardian_set_tree(&shared);
    }
    close(home);
    return r;
}

void mr_cgroup_leave(void)
{
    (void)mr_cgroup_sweep(); /* the guardian goes on with what is left */
    pthread_mutex_lock(&tree.mu);
    if (tree.dir >= 0) {
        close(tree.dir); /* unlocks it */
        tree.dir = -1;
    }
    tree.controllers = 0;
    tree.shared = (struct mr_cgroup_tree){0};
    mr_free(tree.left);
    tree.left = NULL;
    tree.left_count = 0;
    tree.left_capacity = 0;
    pthread_mutex_unlock(&tree.mu);
}

/* --- groups of instances ---------------------------------------------------------------------- */

static const char *group_name(uint64_t number, char name[NAME_SIZE])
{
    (void)snprintf(name, NAME_SIZE, "w%" PRIu64, number); /* fits */
    return name;
}

struct setting {
    const char *file;
    char value[48];
    bool wanted;
    bool optional; /* older kernels, or those without swap, do not have it */
};

enum mr_status mr_cgroup_make(uint64_t number, const struct mr_limits *limits, int *ret_entry,
                              struct mr_problem *problem)
{
    char name[NAME_SIZE];
    char path[128];
    bool memory = limits->memory_size != 0;
    struct setting settings[] = {
        {.file = "memory.max", .wanted = memory},
        {.file = "memory.swap.max", .value = "0", .wanted = memory, .optional = true},
        {.file = "memory.oom.group", .value = "1", .wanted = memory, .optional = true},
        {.file = "pids.max", .wanted = limits->processes != 0},
        {.file = "cpu.max", .wanted = limits->cpus_milli != 0},
    };
    (void)snprintf(settings[0].value, 48, "%" PRIu64, limits->memory_size); /* fits */
    (void)snprintf(settings[3].value, 48, "%" PRId64, limits->processes);   /* fits */
    mr__cgroup_cpu_text(limits->cpus_milli, settings[4].value);
    MR_ASSERT(tree.dir >= 0);
    group_name(number, name);
    if (mkdirat(tree.dir, name, 0755) != 0) {
        return failed("make a group in it", tree.shared.folder, problem);
    }
    for (size_t i = 0; i < MR_ARRAY_COUNT(settings); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", name, settings[i].file); /* fits */
        if (settings[i].wanted && !mr__cgroup_write(tree.dir, path, settings[i].value) &&
            !(settings[i].optional && errno == ENOENT)) {
            enum mr_status r = mr_problem_set(problem, MR_E_UNAVAILABLE,
                                              "control group: cannot write %s to %s: %s",
                                              settings[i].value, path, strerrordesc_np(errno));
            (void)unlinkat(tree.dir, name, AT_REMOVEDIR); /* empty, nothing can hold it */
            return r;
        }
    }
    (void)snprintf(path, sizeof(path), "%s/cgroup.procs", name); /* fits */
    int entry = openat(tree.dir, path, O_WRONLY | O_CLOEXEC);
    if (entry < 0) {
        enum mr_status r = failed("open a group in it", tree.shared.folder, problem);
        (void)unlinkat(tree.dir, name, AT_REMOVEDIR); /* as above */
        return r;
    }
    *ret_entry = entry;
    return MR_OK;
}

void mr_cgroup_kill(uint64_t number)
{
    char name[NAME_SIZE];
    MR_ASSERT(tree.dir >= 0);
    mr__cgroup_kill(tree.dir, group_name(number, name));
}

static uint64_t read_value(const char *name, const char *file, const char *key)
{
    char path[128];
    char text[MR__CGROUP_TEXT_MAX];
    (void)snprintf(path, sizeof(path), "%s/%s", name, file); /* fits */
    int64_t size = mr__cgroup_read(tree.dir, path, text);
    uint64_t value = 0;
    if (size <= 0) {
        return 0;
    }
    if (key == NULL) {
        return mr_parse_u64(mr_bytes(text, strcspn(text, "\n")), &value) ? value : 0;
    }
    return mr__cgroup_value(mr_bytes(text, (size_t)size), key);
}

static void remove_later(uint64_t number)
{
    pthread_mutex_lock(&tree.mu);
    if (tree.left_count == tree.left_capacity) {
        size_t capacity = tree.left_capacity == 0 ? 16 : tree.left_capacity * 2;
        uint64_t *left = mr_realloc(tree.left, capacity * sizeof(*left));
        if (left != NULL) {
            tree.left = left;
            tree.left_capacity = capacity;
        }
    }
    if (tree.left_count < tree.left_capacity) {
        tree.left[tree.left_count++] = number; /* no memory: the guardian finds it at the end */
    }
    pthread_mutex_unlock(&tree.mu);
}

struct mr_cgroup_end mr_cgroup_finish(uint64_t number)
{
    char name[NAME_SIZE];
    MR_ASSERT(tree.dir >= 0);
    group_name(number, name);
    struct mr_cgroup_end end = {
        .killed = read_value(name, "memory.events", "oom_kill") > 0,
        .at_limit = read_value(name, "memory.events", "oom") > 0,
        .memory_peak = read_value(name, "memory.peak", NULL),
        .forks_failed = read_value(name, "pids.events", "max"),
    };
    if (!mr__cgroup_remove(tree.dir, name)) {
        remove_later(number);
    }
    return end;
}

uint32_t mr_cgroup_sweep(void)
{
    char name[NAME_SIZE];
    pthread_mutex_lock(&tree.mu);
    for (size_t i = 0; i < tree.left_count;) {
        if (mr__cgroup_remove(tree.dir, group_name(tree.left[i], name))) {
            tree.left[i] = tree.left[--tree.left_count];
        } else {
            mr__cgroup_kill(tree.dir, name);
            i++;
        }
    }
    uint32_t left = (uint32_t)tree.left_count;
    pthread_mutex_unlock(&tree.mu);
    return left;
}
