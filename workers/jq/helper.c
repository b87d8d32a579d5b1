#include "workers/jq/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/assert.h"
#include "core/clock.h"
#include "core/hash.h"
#include "core/limits.h"
#include "workers/child.h"
#include "workers/jq/internal.h"
#include "workers/spawn.h"

#define COMPILE_LIMIT_MS 5000u
/* The timer counts the helper's own time. One that does not come to use it (stopped, or the machine
 * has none to give) is waited for so much longer. */
#define PATIENCE_FACTOR 10u
#define PATIENCE_NS (5 * MR_SECOND)
#define LOOK_MS 100 /* how often whoever waits looks whether he is to stop */
#define READ_SIZE (64u * MR_KIB)
#define KEPT_SIZE (256u * MR_KIB) /* of a buffer, from one event to the next */
#define CHECKED_MAX 4096u

struct pending { /* a request without an answer */
    enum mr__jq_request_kind kind;
    uint32_t limit_ms;
};

struct slot {
    uint64_t number; /* of the program in it; 0: none */
    uint64_t used;   /* when it was last used, in sends */
};

struct mr_jq_helper {
    const _Atomic bool *stop; /* borrowed; seq_cst, stored by the pool; or NULL */
    pid_t pid; /* 0: none runs */
    int fd;
    struct mr_buf out; /* to be written from out_at on */
    struct mr_buf in;  /* to be looked at from in_at on */
    size_t out_at;
    size_t in_at;
    struct pending pending[2 * MR_JQ_SENT_MAX]; /* oldest first: a program and an event each */
    uint32_t pending_count;
    uint64_t sends;
    struct slot slots[MR__JQ_SLOTS];
};

/* --- programs --------------------------------------------------------------------------------- */

struct mr_jq_program *mr_jq_program_create(const char *text, uint64_t timeout_ns)
{
    static _Atomic uint64_t last; /* relaxed: a number, ordered by nothing */
    size_t size = strlen(text) + 1;
    struct mr_jq_program *program = mr_alloc(sizeof(*program) + size);
    if (program != NULL) {
        atomic_init(&program->refs, 1);
        program->number = atomic_fetch_add_explicit(&last, 1, memory_order_relaxed) + 1;
        program->timeout_ns = timeout_ns;
        memcpy(program->text, text, size);
    }
    return program;
}

struct mr_jq_program *mr_jq_program_ref(struct mr_jq_program *program)
{
    atomic_fetch_add_explicit(&program->refs, 1, memory_order_relaxed);
    return program;
}

void mr_jq_program_unref(struct mr_jq_program *program)
{
    if (program != NULL &&
        atomic_fetch_sub_explicit(&program->refs, 1, memory_order_acq_rel) == 1) {
        mr_free(program);
    }
}

/* --- the process ------------------------------------------------------------------------------ */

struct mr_jq_helper *mr_jq_helper_create(const _Atomic bool *stop)
{
    MR_ASSERT(mr__jq_name[0] != '\0');
    struct mr_jq_helper *h = mr_calloc(1, sizeof(*h));
    if (h != NULL) {
        h->stop = stop;
        h->fd = -1;
        mr_buf_init(&h->out, 2 * (MR__JQ_INPUT_MAX + READ_SIZE));
        mr_buf_init(&h->in, MR__JQ_OUTPUT_MAX + 2 * READ_SIZE);
    }
    return h;
}

static void clear(struct mr_buf *buf, size_t *at)
{
    *at = 0;
    mr_buf_clear(buf);
    if (buf->capacity > KEPT_SIZE) {
        size_t size_max = buf->size_max;
        mr_buf_release(buf);
        mr_buf_init(buf, size_max);
    }
}

/* @return the status of waitpid, 0 when none ran */
static int end_process(struct mr_jq_helper *h)
{
    int status = 0;
    if (h->pid != 0) {
        close(h->fd);
        h->fd = -1;
        kill(h->pid, SIGKILL); /* one that is ending already keeps the cause it had */
        while (waitpid(h->pid, &status, 0) < 0 && errno == EINTR) {
        }
        h->pid = 0;
    }
    clear(&h->out, &h->out_at);
    clear(&h->in, &h->in_at);
    h->pending_count = 0;
    memset(h->slots, 0, sizeof(h->slots));
    return status;
}

void mr_jq_helper_end(struct mr_jq_helper *helper)
{
    (void)end_process(helper); /* why it ended does not matter */
}

void mr_jq_helper_destroy(struct mr_jq_helper *helper)
{
    if (helper != NULL) {
        mr_jq_helper_end(helper);
        mr_buf_release(&helper->out);
        mr_buf_release(&helper->in);
        mr_free(helper);
    }
}

static enum mr_status start(struct mr_jq_helper *h, struct mr_problem *problem)
{
    char name[] = MR__JQ_NAME;
    char *argv[] = {name, NULL};
    enum mr_status r = mr_spawn_self(argv, "jq helper", false, &h->pid, &h->fd, problem);
    if (r != MR_OK) {
        return mr_status_class(r) == MR_CLASS_RETRY ? r : MR_E_UNAVAILABLE;
    }
    if (fcntl(h->fd, F_SETFL, O_NONBLOCK) != 0) {
        mr_jq_helper_end(h);
        return mr_problem_set(problem, MR_E_UNAVAILABLE, "no jq helper");
    }
    return MR_OK;
}

void mr__jq_helper_adopt(struct mr_jq_helper *helper, int pid, int fd)
{
    mr_jq_helper_end(helper);
    helper->pid = pid;
    helper->fd = fd;
}

/* --- sending ---------------------------------------------------------------------------------- */

static enum mr_status push(struct mr_jq_helper *h, enum mr__jq_request_kind kind, uint32_t slot,
                           uint32_t limit_ms, struct mr_bytes body)
{
    struct mr__jq_request header = {
        .kind = (uint32_t)kind, .slot = slot, .limit_ms = limit_ms, .size = (uint32_t)body.size};
    MR_ASSERT(h->pending_count < MR_ARRAY_COUNT(h->pending));
    if (body.size > MR__JQ_INPUT_MAX) {
        return MR_E_TOO_BIG;
    }
    size_t before = h->out.size;
    enum mr_status r = mr_buf_append(&h->out, &header, sizeof(header));
    r = r == MR_OK ? mr_buf_append_bytes(&h->out, body) : r;
    if (r != MR_OK) {
        h->out.size = before;
        return r;
    }
    h->pending[h->pending_count++] = (struct pending){.kind = kind, .limit_ms = limit_ms};
    return MR_OK;
}

/* The slot of @p program, or the one to put it into. */
static uint32_t find_slot(const struct mr_jq_helper *h, uint64_t number)
{
    uint32_t oldest = 0;
    for (uint32_t i = 0; i < MR__JQ_SLOTS; i++) {
        if (h->slots[i].number == number) {
            return i;
        }
        oldest = h->slots[i].used < h->slots[oldest].used ? i : oldest;
    }
    return oldest;
}

enum mr_status mr_jq_helper_send(struct mr_jq_helper *helper, const struct mr_jq_program *program,
                                 struct mr_bytes event, struct mr_problem *problem)
{
    enum mr_status r = helper->pid == 0 ? start(helper, problem) : MR_OK;
    if (r != MR_OK) {
        return r;
    }
    uint32_t slot = find_slot(helper, program->number);
    if (helper->slots[slot].number != program->number) {
        r = push(helper, MR__JQ_COMPILE, slot, COMPILE_LIMIT_MS, mr_bytes_of(program->text));
        helper->slots[slot].number = r == MR_OK ? program->number : helper->slots[slot].number;
    }
    if (r == MR_OK) {
        helper->slots[slot].used = ++helper->sends;
        r = push(helper, MR__JQ_RUN, slot, (uint32_t)(program->timeout_ns / MR_MS), event);
    }
    return r == MR_OK ? r : mr_problem_set(problem, r, "the event cannot be given to jq: %s",
                                           mr_status_text(r));
}

/* --- receiving -------------------------------------------------------------------------------- */

/* What stands at the front of the input. @return false: not whole yet; *@p ret_bad: nonsense */
static bool peek_reply(const struct mr_jq_helper *h, struct mr__jq_reply *ret_header,
                       struct mr_bytes *ret_body, bool *ret_bad)
{
    size_t have = h->in.size - h->in_at;
    if (have < sizeof(*ret_header)) {
        return false;
    }
    memcpy(ret_header, h->in.data + h->in_at, sizeof(*ret_header));
    uint32_t size_max = ret_header->kind == MR__JQ_OUTPUT ? MR__JQ_OUTPUT_MAX : MR__JQ_ERROR_MAX;
    if (ret_header->kind < MR__JQ_OUTPUT || ret_header->kind > MR__JQ_UNAVAILABLE ||
        ret_header->size > size_max || h->pending_count == 0) {
        *ret_bad = true;
        return false;
    }
    if (have - sizeof(*ret_header) < ret_header->size) {
        return false;
    }
    *ret_body = mr_bytes(h->in.data + h->in_at + sizeof(*ret_header), ret_header->size);
    return true;
}

bool mr_jq_helper_is_ready(const struct mr_jq_helper *helper)
{
    struct mr__jq_reply header;
    struct mr_bytes body;
    bool bad = false;
    return peek_reply(helper, &header, &body, &bad) || bad;
}

/* @return false: the other end is gone */
static bool write_some(struct mr_jq_helper *h)
{
    ssize_t n = send(h->fd, h->out.data + h->out_at, h->out.size - h->out_at, MSG_NOSIGNAL);
    if (n < 0) {
        return errno == EAGAIN || errno == EINTR;
    }
    h->out_at += (size_t)n;
    if (h->out_at == h->out.size) {
        clear(&h->out, &h->out_at);
    }
    return true;
}

static enum mr_status read_some(struct mr_jq_helper *h)
{
    if (h->in_at == h->in.size) {
        clear(&h->in, &h->in_at);
    } else if (h->in_at > 0 && h->in.size - h->in_at < READ_SIZE) {
        memmove(h->in.data, h->in.data + h->in_at, h->in.size - h->in_at);
        h->in.size -= h->in_at;
        h->in_at = 0;
    }
    enum mr_status r = mr_buf_reserve(&h->in, READ_SIZE);
    if (r != MR_OK) {
        return r;
    }
    ssize_t n = recv(h->fd, h->in.data + h->in.size, READ_SIZE, 0);
    if (n < 0) {
        return errno == EAGAIN || errno == EINTR ? MR_OK : MR_E_CLOSED;
    }
    h->in.size += (size_t)n;
    return n == 0 ? MR_E_CLOSED : MR_OK;
}

/* Moves bytes until a whole reply is there.
 * @return MR_E_CLOSED: the process ends; MR_E_TIMEOUT; MR_E_UNAVAILABLE: we are to stop;
 * MR_E_INVALID: nonsense; MR_E_NOMEM */
static enum mr_status pump(struct mr_jq_helper *h, uint64_t deadline_ns,
                           struct mr__jq_reply *ret_header, struct mr_bytes *ret_body)
{
    for (;;) {
        bool bad = false;
        if (peek_reply(h, ret_header, ret_body, &bad)) {
            return MR_OK;
        }
        if (bad) {
            return MR_E_INVALID;
        }
        bool has_out = h->out_at < h->out.size;
        if (has_out && !write_some(h)) {
            has_out = false; /* its last words may still be read */
            clear(&h->out, &h->out_at);
        }
        uint64_t now_ns = mr_clock_mono_ns();
        if (now_ns >= deadline_ns || (h->stop != NULL && atomic_load(h->stop))) {
            return now_ns >= deadline_ns ? MR_E_TIMEOUT : MR_E_UNAVAILABLE;
        }
        has_out = has_out && h->out_at < h->out.size;
        struct pollfd fd = {.fd = h->fd, .events = (short)(POLLIN | (has_out ? POLLOUT : 0))};
        uint64_t wait_ms = (deadline_ns - now_ns) / MR_MS + 1;
        int n = poll(&fd, 1, wait_ms < LOOK_MS ? (int)wait_ms : LOOK_MS);
        enum mr_status r = n > 0 && (fd.revents & (POLLIN | POLLHUP | POLLERR)) != 0
                               ? read_some(h)
                               : MR_OK;
        if (r != MR_OK) {
            return r;
        }
    }
}

static enum mr_jq_end explain_death(struct mr_jq_helper *h, uint32_t limit_ms,
                                    struct mr_problem *problem)
{
    int status = end_process(h);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGPROF) {
        (void)mr_problem_set(problem, MR_E_TIMEOUT,
                             "the program took more than %" PRIu32 " ms of processor time",
                             limit_ms);
        return MR_JQ_TIME;
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == MR__JQ_EXIT_MEMORY) {
        (void)mr_problem_set(problem, MR_E_TOO_BIG, "the program wanted more than %u MiB of memory",
                             (unsigned)(MR_JQ_MEMORY_MAX / MR_MIB));
        return MR_JQ_DEATH;
    }
    char text[128];
    struct mr_child_end end = {.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1,
                               .signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0};
    (void)mr_problem_set(problem, MR_E_UNAVAILABLE, "the jq process it ran in %s",
                         mr_child_end_text(&end, text));
    return MR_JQ_DEATH;
}

/* The next reply, and which request it answers. On failure the helper has ended. */
static enum mr_jq_end take_reply(struct mr_jq_helper *h, struct pending *ret_request,
                                 struct mr_bytes *ret_body, struct mr_problem *problem)
{
    MR_ASSERT(h->pending_count > 0);
    struct mr__jq_reply header;
    uint32_t limit_ms = h->pending[0].limit_ms;
    uint64_t deadline_ns = mr_clock_mono_ns() + PATIENCE_NS;
    for (uint32_t i = 0; i < h->pending_count; i++) { /* it may tell of all in one piece */
        deadline_ns += h->pending[i].limit_ms * PATIENCE_FACTOR * MR_MS;
    }
    enum mr_status r = pump(h, deadline_ns, &header, ret_body);
    if (r == MR_E_CLOSED) {
        return explain_death(h, limit_ms, problem);
    }
    if (r != MR_OK) {
        mr_jq_helper_end(h);
        (void)mr_problem_set(problem, r, "%s",
                             r == MR_E_TIMEOUT   ? "the jq process did not answer in time"
                             : r == MR_E_INVALID ? "the jq process answered nonsense"
                                                 : mr_status_text(r));
        return r == MR_E_TIMEOUT || r == MR_E_INVALID ? MR_JQ_DEATH : MR_JQ_UNAVAILABLE;
    }
    h->in_at += sizeof(header) + header.size; /* the bytes stay until the next read */
    *ret_request = h->pending[0];
    memmove(h->pending, h->pending + 1, --h->pending_count * sizeof(h->pending[0]));
    if (header.kind == MR__JQ_UNAVAILABLE) {
        (void)mr_problem_set(problem, MR_E_UNAVAILABLE, "jq is not available: %.*s",
                             (int)ret_body->size, (const char *)ret_body->data);
        mr_jq_helper_end(h);
        return MR_JQ_UNAVAILABLE;
    }
    return header.kind == MR__JQ_OUTPUT    ? MR_JQ_OUTPUT
           : header.kind == MR__JQ_NOTHING ? MR_JQ_NOTHING
                                           : MR_JQ_ERROR;
}

/* "jq: error: syntax error, unexpected '}' (Unix shell quoting issues?) at <top-level>, line 2:",
 * then the line itself: of that what helps in a file. */
static enum mr_status refuse(struct mr_bytes text, struct mr_problem *problem)
{
    char line[MR__JQ_ERROR_MAX + 1];
    (void)snprintf(line, sizeof(line), "%.*s", (int)text.size,
                   text.size == 0 ? "" : (const char *)text.data); /* fits */
    line[strcspn(line, "\n")] = '\0';
    const char *what = strncmp(line, "jq: error: ", 11) == 0 ? line + 11
                       : strncmp(line, "jq: ", 4) == 0       ? line + 4
                                                             : line;
    char *advice = strstr(line, " (Unix shell quoting issues?)");
    if (advice != NULL) {
        size_t size = strlen(" (Unix shell quoting issues?)");
        memmove(advice, advice + size, strlen(advice + size) + 1);
    }
    if (*what == '\0') {
        return mr_problem_set(problem, MR_E_INVALID, "it cannot be compiled");
    }
    char *place = strstr(line, " at <top-level>, line ");
    size_t end = strlen(line);
    if (place != NULL && line[end - 1] == ':') {
        line[end - 1] = '\0';
        *place = '\0';
        place += strlen(" at <top-level>, ");
    }
    bool is_module = strncmp(what, "module not found", 16) == 0 ||
                     strncmp(what, "error loading", 13) == 0;
    return mr_problem_set(problem, MR_E_INVALID, "%s%s%s%s",
                          is_module ? "a program stands alone, there are no modules: " : "", what,
                          place == NULL ? "" : " in ", place == NULL ? "" : place);
}

enum mr_jq_end mr_jq_helper_receive(struct mr_jq_helper *helper, struct mr_bytes *ret_output,
                                    struct mr_problem *problem)
{
    struct pending request = {.kind = MR__JQ_RUN};
    struct mr_bytes body = {NULL, 0};
    enum mr_jq_end end = take_reply(helper, &request, &body, problem);
    if (request.kind == MR__JQ_COMPILE && end == MR_JQ_OUTPUT) {
        end = take_reply(helper, &request, &body, problem);
    } else if (request.kind == MR__JQ_COMPILE && end != MR_JQ_UNAVAILABLE) {
        (void)refuse(body, problem); /* although it was sound when it was loaded */
        mr_jq_helper_end(helper);
        return MR_JQ_DEATH;
    }
    if (end == MR_JQ_OUTPUT) {
        *ret_output = body;
    } else if (end == MR_JQ_NOTHING) {
        (void)mr_problem_set(problem, MR_E_NOT_FOUND, "the program gave no output");
    } else if (end == MR_JQ_ERROR) {
        bool is_silent = body.size == 0 || body.data[0] == '\0';
        (void)mr_problem_set(problem, MR_E_INVALID, "%.*s", is_silent ? 64 : (int)body.size,
                             is_silent ? "an error without a message" : (const char *)body.data);
    }
    return end;
}

/* --- checking --------------------------------------------------------------------------------- */

/* Texts that were found good: a reload of a thousand programs compiles those that are new. Only
 * hashes, the oldest goes first; a wrong guess is found by the first event. */
static struct {
    pthread_mutex_t mu; /* protects all below */
    uint64_t hashes[CHECKED_MAX];
    uint64_t count;
} checked = {.mu = PTHREAD_MUTEX_INITIALIZER};

static bool was_checked(uint64_t hash)
{
    bool found = false;
    pthread_mutex_lock(&checked.mu);
    uint64_t count = checked.count < CHECKED_MAX ? checked.count : CHECKED_MAX;
    for (uint64_t i = 0; i < count && !found; i++) {
        found = checked.hashes[i] == hash;
    }
    pthread_mutex_unlock(&checked.mu);
    return found;
}

static void note_checked(uint64_t hash)
{
    pthread_mutex_lock(&checked.mu);
    checked.hashes[checked.count++ % CHECKED_MAX] = hash;
    pthread_mutex_unlock(&checked.mu);
}

enum mr_status mr_jq_check(const char *text, struct mr_problem *problem)
{
    uint64_t hash = mr_hash(text, strlen(text));
    if (was_checked(hash)) {
        return MR_OK;
    }
    struct mr_jq_helper *h = mr_jq_helper_create(NULL);
    if (h == NULL) {
        return mr_problem_set(problem, MR_E_NOMEM, "out of memory");
    }
    struct pending request;
    struct mr_bytes body = {NULL, 0};
    struct mr_problem why = {.text = ""};
    enum mr_status r = start(h, problem);
    if (r == MR_OK && push(h, MR__JQ_COMPILE, 0, COMPILE_LIMIT_MS, mr_bytes_of(text)) != MR_OK) {
        r = mr_problem_set(problem, MR_E_NOMEM, "out of memory");
    }
    enum mr_jq_end end = r == MR_OK ? take_reply(h, &request, &body, &why) : MR_JQ_OUTPUT;
    if (end == MR_JQ_ERROR) {
        r = refuse(body, problem);
    } else if (end == MR_JQ_UNAVAILABLE) {
        r = mr_problem_set(problem, MR_E_UNAVAILABLE, "%s", why.text);
    } else if (end != MR_JQ_OUTPUT) {
        r = mr_problem_set(problem, MR_E_INVALID, "it cannot be compiled: %s", why.text);
    } else if (r == MR_OK) {
        note_checked(hash);
    }
    mr_jq_helper_destroy(h);
    return r;
}
