#include "workers/guardian.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/assert.h"
#include "core/io.h"
#include "core/logger.h"
#include "core/rng.h"
#include "workers/guardian_internal.h"
#include "workers/spawn.h"

#define END_WAIT_MS 2000
#define SWEEP_PAUSE_MS 2
#define SWEEP_ROUNDS_MAX 250 /* with the pause: 500 ms */
#define ENVIRON_SIZE_MAX (256u * 1024u)
#define CHILDREN_SIZE_MAX (256u * 1024u)

struct marked {
    uint64_t number;
    pid_t group; /* 0 until it is known */
};

/* Why this is static: see guardian.h. */
static struct {
    pthread_mutex_t mu; /* protects all below */
    unsigned refs;
    pid_t pid;     /* of the guardian; 0: none */
    int link;      /* to its standard input; -1: none */
    int reaper_before;
    uint64_t next_number;
    struct marked *live; /* owned */
    size_t live_count;
    size_t live_capacity;
    char bus[MR__BUS_NAME_SIZE];
    struct mr_cgroup_tree tree; /* folder "": none */
} self = {.mu = PTHREAD_MUTEX_INITIALIZER, .link = -1};

static bool send_locked(const void *message, size_t size)
{
    ssize_t n;
    do {
        n = send(self.link, message, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    return n == (ssize_t)size;
}

static bool tell_locked(int32_t message)
{
    return send_locked(&message, sizeof(message));
}

static bool tell_tree_locked(void)
{
    struct mr__guardian_tree message = {MR__GUARDIAN_TREE, self.tree};
    return send_locked(&message, sizeof(message));
}

static void end_locked(void)
{
    if (self.pid == 0) {
        return;
    }
    close(self.link);
    self.link = -1;
    int pidfd = pidfd_open(self.pid, 0);
    struct pollfd wait_for = {.fd = pidfd, .events = POLLIN};
    if (pidfd < 0 || poll(&wait_for, 1, END_WAIT_MS) != 1) {
        kill(self.pid, SIGKILL);
    }
    if (pidfd >= 0) {
        close(pidfd);
    }
    while (waitpid(self.pid, NULL, 0) < 0 && errno == EINTR) {
    }
    self.pid = 0;
}

static enum mr_status begin_locked(struct mr_problem *problem)
{
    char name[] = MR_GUARDIAN_NAME;
    char *argv[] = {name, self.bus, NULL};
    enum mr_status r = mr_spawn_self(argv, "guardian", true, &self.pid, &self.link, problem);
    if (r != MR_OK) {
        return r;
    }
    if (self.tree.folder[0] != '\0') {
        (void)tell_tree_locked(); /* it is gone again: the next message finds out */
    }
    for (size_t i = 0; i < self.live_count; i++) {
        if (self.live[i].group != 0 && !tell_locked(self.live[i].group)) {
            break; /* it is gone again: the next message finds out */
        }
    }
    return MR_OK;
}

enum mr_status mr_guardian_ref(struct mr_problem *problem)
{
    MR_ASSERT(mr__guardian_name[0] != '\0');
    enum mr_status r = MR_OK;
    pthread_mutex_lock(&self.mu);
    if (self.refs == 0) {
        (void)snprintf(self.bus, sizeof(self.bus), "%d-%016" PRIx64, (int)getpid(),
                       mr_rng_entropy()); /* fits: 10 + 1 + 16 */
        r = begin_locked(problem);
        self.reaper_before = 0;
        (void)prctl(PR_GET_CHILD_SUBREAPER, &self.reaper_before, 0, 0, 0);
        (void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); /* refused: orphans go to init */
    }
    if (r == MR_OK) {
        self.refs++;
    }
    pthread_mutex_unlock(&self.mu);
    return r;
}

void mr_guardian_unref(void)
{
    pthread_mutex_lock(&self.mu);
    MR_ASSERT(self.refs > 0);
    self.refs--;
    if (self.refs == 0) {
        MR_ASSERT(self.live_count == 0);
        mr_cgroup_leave();
        end_locked();
        self.tree.folder[0] = '\0';
        (void)prctl(PR_SET_CHILD_SUBREAPER, (unsigned long)self.reaper_before, 0, 0, 0);
        mr_free(self.live);
        self.live = NULL;
        self.live_capacity = 0;
    }
    pthread_mutex_unlock(&self.mu);
}

uint64_t mr_guardian_mark(char mark[MR_MARK_SIZE])
{
    uint64_t number = 0;
    pthread_mutex_lock(&self.mu);
    if (self.live_count == self.live_capacity) {
        size_t capacity = self.live_capacity == 0 ? 16 : self.live_capacity * 2;
        struct marked *live = mr_realloc(self.live, capacity * sizeof(*live));
        if (live != NULL) {
            self.live = live;
            self.live_capacity = capacity;
        }
    }
    if (self.live_count < self.live_capacity) {
        number = ++self.next_number;
        self.live[self.live_count++] = (struct marked){.number = number};
        (void)snprintf(mark, MR_MARK_SIZE, MR_MARK_NAME "%s.%" PRIu64, self.bus, number);
    }
    pthread_mutex_unlock(&self.mu);
    return number;
}

/* One that was killed is replaced, and the new one is told everything. */
static void replace_locked(void)
{
    struct mr_problem problem = {.text = "it does not answer"};
    end_locked();
    if (begin_locked(&problem) != MR_OK) {
        MR_WARN("workers", "no guardian, workers may outlive a killed bus: %s", problem.text);
    }
}

static void tell_or_replace_locked(int32_t message)
{
    if (self.pid == 0 || !tell_locked(message)) {
        replace_locked();
    }
}

void mr_guardian_set_tree(const struct mr_cgroup_tree *tree)
{
    pthread_mutex_lock(&self.mu);
    self.tree = *tree;
    if (self.pid == 0 || !tell_tree_locked()) {
        replace_locked();
    }
    pthread_mutex_unlock(&self.mu);
}

static struct marked *find_locked(uint64_t number)
{
    for (size_t i = 0; i < self.live_count; i++) {
        if (self.live[i].number == number) {
            return &self.live[i];
        }
    }
    return NULL;
}

void mr_guardian_add(uint64_t number, pid_t group)
{
    pthread_mutex_lock(&self.mu);
    struct marked *marked = find_locked(number);
    MR_ASSERT(marked != NULL);
    marked->group = group;
    tell_or_replace_locked(group);
    pthread_mutex_unlock(&self.mu);
}

void mr_guardian_forget(uint64_t number)
{
    pthread_mutex_lock(&self.mu);
    struct marked *marked = find_locked(number);
    if (marked != NULL) {
        pid_t group = marked->group;
        *marked = self.live[--self.live_count];
        if (group != 0) {
            tell_or_replace_locked(-group);
        }
    }
    pthread_mutex_unlock(&self.mu);
}

static bool read_proc(pid_t pid, const char *what, size_t size_max, struct mr_buf *buf)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, what); /* fits */
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    mr_buf_init(buf, size_max);
    bool ok = true;
    for (;;) {
        if (mr_buf_reserve(buf, 4096) != MR_OK) {
            break; /* what was read is enough to decide */
        }
        int64_t n = mr_fd_read_full(fd, buf->data + buf->size, 4096);
        ok = n >= 0;
        buf->size += n > 0 ? (size_t)n : 0;
        if (n < 4096) {
            break;
        }
    }
    close(fd);
    if (!ok) {
        mr_buf_release(buf);
    }
    return ok;
}

bool mr__guardian_read_mark(pid_t pid, const char *bus, uint64_t *ret_number)
{
    struct mr_buf buf;
    if (!read_proc(pid, "environ", ENVIRON_SIZE_MAX, &buf)) {
        return false;
    }
    bool found = false;
    struct mr_bytes name = MR_BYTES_LITERAL(MR_MARK_NAME);
    size_t i = 0;
    while (i < buf.size && !found) {
        size_t size = strnlen((const char *)buf.data + i, buf.size - i);
        struct mr_bytes entry = mr_bytes(buf.data + i, size);
        if (mr_bytes_starts(entry, name)) {
            struct mr_bytes mark = mr_bytes(entry.data + name.size, entry.size - name.size);
            size_t bus_size = strlen(bus);
            found = mr_bytes_starts(mark, mr_bytes_of(bus)) && mark.size > bus_size + 1 &&
                    mr_parse_u64(mr_bytes(mark.data + bus_size + 1, mark.size - bus_size - 1),
                                 ret_number);
        }
        i += size + 1;
    }
    mr_buf_release(&buf);
    return found;
}

/* State letter and session of @p pid, from /proc/PID/stat: "12 (name) S ppid pgrp session …".
 * The name may hold anything, so the fields are counted from its last parenthesis. */
static bool read_stat(pid_t pid, char *ret_state, int *ret_session)
{
    struct mr_buf buf;
    if (!read_proc(pid, "stat", 8192, &buf)) {
        return false;
    }
    char text[256] = "";
    const uint8_t *behind = memrchr(buf.data, ')', buf.size);
    if (behind != NULL) {
        size_t size = (size_t)(buf.data + buf.size - behind);
        size = size < sizeof(text) - 1 ? size : sizeof(text) - 1;
        memcpy(text, behind, size);
        text[size] = '\0';
    }
    mr_buf_release(&buf);
    return sscanf(text, ") %c %*d %*d %d", ret_state, ret_session) == 2;
}

/* @return whether @p pid is an orphan of a mark that is gone and still has to be reaped */
static bool sweep_one_locked(pid_t pid)
{
    char state;
    int session;
    uint64_t number;
    if (pid == self.pid || !read_stat(pid, &state, &session) || session == getsid(0)) {
        return false; /* all workers have sessions of their own: this is somebody else's child */
    }
    for (size_t i = 0; i < self.live_count; i++) {
        if (self.live[i].group == pid) {
            return false;
        }
    }
    if (state == 'Z' || state == 'X') {
        (void)waitpid(pid, NULL, WNOHANG); /* its end interests nobody */
        return false;
    }
    bool marked = mr__guardian_read_mark(pid, self.bus, &number);
    if (marked ? find_locked(number) != NULL : self.live_count > 0) {
        return false; /* its worker lives, or might be any */
    }
    kill(pid, SIGKILL);
    return waitpid(pid, NULL, WNOHANG) == 0;
}

uint32_t mr_guardian_sweep(void)
{
    struct mr_buf buf;
    char path[64];
    uint32_t left = mr_cgroup_sweep();
    pid_t main_thread = getpid();
    /* Orphans come to the main thread, which starts no worker itself (its thread would have to
     * live as long: PR_SET_PDEATHSIG). */
    (void)snprintf(path, sizeof(path), "task/%d/children", (int)main_thread); /* fits */
    pthread_mutex_lock(&self.mu);
    if (self.refs > 0 && read_proc(main_thread, path, CHILDREN_SIZE_MAX, &buf)) {
        size_t i = 0;
        while (i < buf.size) {
            size_t from = i;
            while (i < buf.size && buf.data[i] != ' ') {
                i++;
            }
            uint64_t pid;
            if (mr_parse_u64(mr_bytes(buf.data + from, i - from), &pid) &&
                sweep_one_locked((pid_t)pid)) {
                left++;
            }
            i++;
        }
        mr_buf_release(&buf);
    }
    pthread_mutex_unlock(&self.mu);
    return left;
}

void mr_guardian_sweep_all(void)
{
    for (int round = 0; round < SWEEP_ROUNDS_MAX && mr_guardian_sweep() > 0; round++) {
        (void)poll(NULL, 0, SWEEP_PAUSE_MS);
    }
}
