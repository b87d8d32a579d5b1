/* The guardian process itself: what runs when our program is started as "millrace-guardian BUS"
 * with a socket on descriptor 0. See guardian.h. */
#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/io.h"
#include "workers/guardian_internal.h"

#define SCAN_ROUNDS_MAX 50
#define SCAN_PAUSE_MS 10

/* The groups to kill; a plain list, a few thousand at most. */
struct groups {
    int32_t *items;
    size_t count;
    size_t capacity;
};

static void add_group(struct groups *groups, int32_t group)
{
    if (groups->count == groups->capacity) {
        size_t capacity = groups->capacity == 0 ? 64 : groups->capacity * 2;
        int32_t *items = reallocarray(groups->items, capacity, sizeof(*items));
        if (items == NULL) {
            return; /* the scan for marks still finds it */
        }
        groups->items = items;
        groups->capacity = capacity;
    }
    groups->items[groups->count++] = group;
}

static void remove_group(struct groups *groups, int32_t group)
{
    for (size_t i = 0; i < groups->count; i++) {
        if (groups->items[i] == group) {
            groups->items[i] = groups->items[--groups->count];
            return;
        }
    }
}

/* Kills every process that carries the mark of @p bus. @return how many there were */
static unsigned kill_marked(const char *bus)
{
    unsigned found = 0;
    DIR *proc = opendir("/proc");
    if (proc == NULL) {
        return 0;
    }
    for (struct dirent *entry = readdir(proc); entry != NULL; entry = readdir(proc)) {
        uint64_t pid;
        uint64_t number;
        if (mr_parse_u64(mr_bytes_of(entry->d_name), &pid) && (pid_t)pid != getpid() &&
            mr__guardian_read_mark((pid_t)pid, bus, &number)) {
            kill((pid_t)pid, SIGKILL);
            found++;
        }
    }
    closedir(proc);
    return found;
}

static void guard(const char *bus)
{
    struct groups groups = {0};
    struct mr_cgroup_tree tree = {0};
    int32_t message;
    while (mr_fd_read_full(STDIN_FILENO, &message, sizeof(message)) == sizeof(message)) {
        if (message > 1) {
            add_group(&groups, message);
        } else if (message < -1) {
            remove_group(&groups, -message);
        } else if (message == MR__GUARDIAN_TREE &&
                   mr_fd_read_full(STDIN_FILENO, &tree, sizeof(tree)) != sizeof(tree)) {
            tree.folder[0] = '\0'; /* cut off by the end: the next start removes it */
        }
    }
    for (size_t i = 0; i < groups.count; i++) {
        kill(-groups.items[i], SIGKILL);
    }
    int dir = mr_cgroup_take_over(&tree);
    for (int round = 0; round < SCAN_ROUNDS_MAX && kill_marked(bus) > 0; round++) {
        (void)poll(NULL, 0, SCAN_PAUSE_MS); /* killed processes take a moment to go */
    }
    if (dir >= 0) {
        mr_cgroup_remove(&tree, dir);
    }
}

/* glibc hands main's arguments to constructors. Runs before main() of whatever program this is,
 * so that the bus and every test program can be their own guardian. */
__attribute__((constructor)) static void become_guardian(int argc, char **argv)
{
    struct stat st;
    if (argc != 2 || strcmp(argv[0], MR_GUARDIAN_NAME) != 0 || fstat(STDIN_FILENO, &st) != 0 ||
        !S_ISSOCK(st.st_mode)) {
        return;
    }
    guard(argv[1]); /* with all signals ignored (spawn.c): only the end of the bus ends us */
    _exit(0);
}

const char mr__guardian_name[] = MR_GUARDIAN_NAME;
