/* The nth allocation fails, once or from then on, while a whole engine starts, takes an event over
 * HTTP, delivers it to a file and stops. Each n is a process of its own: it must end by itself, with
 * success or a clean error, give back its memory, and never lose an event it acknowledged.
 *
 * `test_alloc_torture N [ever]` does one run in its own process, for a debugger. */
#include "tests/support/test.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "core/logger.h"
#include "millrace/engine.h"
#include "tests/support/folder.h"

#define EVENT "{\"specversion\":\"1.0\",\"id\":\"torture\",\"source\":\"/t\",\"type\":\"t\",\"data\":7}"

enum {
    JOBS = 12,          /* they mostly wait */
    RUNS_MAX = 500,     /* with more allocations only every second, third, … fails */
    CHILD_SECONDS = 60, /* a run takes 30 ms */
    ANSWER_MS = 3000,
    ANSWER_FOR_EVER_MS = 200,
};

/* How a child ends; anything else is a failure. */
enum verdict {
    DELIVERED = 0,
    REFUSED_START = 40, /* a clean error before it ran */
    NOT_TAKEN,          /* it ran; the event was not acknowledged */
    UNDELIVERED,        /* acknowledged, not delivered while no allocation succeeds */
    LOST = 60,          /* acknowledged, not delivered, though memory was there again */
    NEVER_TAKEN,        /* not acknowledged, though memory was there again */
    LEAKED,
    NO_PROBLEM_TEXT,
    BROKEN,
};

static const char CONFIG[] =
    "data_dir: ./data\n"
    "listen: 127.0.0.1:0\n"
    "drain: 300ms\n"
    "log: {segment_size: 1MiB, cache_size: 1MiB, disk_low: 0}\n"
    "sources:\n"
    "  in: {http: {path: /events}}\n"
    "sinks:\n"
    "  out: {file: {path: out.jsonl}}\n"
    "fanouts: {all: {of: all}}\n"
    "subscriptions:\n"
    "  all: {to: out, filter: {exact: {type: t}}, order_by: subject,\n"
    "        retry: {schedule: [10ms, 10ms, 10ms, 10ms], jitter: none}}\n";

/* --- in the child ----------------------------------------------------------------------------- */

struct run {
    struct mr_engine *engine;
    const char *folder;
    bool for_ever;
    atomic_int verdict;
};

static void breathe(void)
{
    (void)poll(NULL, 0, 2);
}

/* The status of the answer; 0 when there was none. */
static int post(uint16_t port, int wait_ms)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char text[512];
    int size = snprintf(text, sizeof(text),
                        "POST /events HTTP/1.1\r\nHost: x\r\nContent-Type: "
                        "application/cloudevents+json\r\nContent-Length: %zu\r\n\r\n%s",
                        strlen(EVENT), EVENT);
    int status = 0;
    if (connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0 &&
        send(fd, text, (size_t)size, MSG_NOSIGNAL) == size) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        ssize_t n = poll(&wait, 1, wait_ms) == 1 ? recv(fd, text, sizeof(text) - 1, 0) : 0;
        text[n > 0 ? n : 0] = '\0';
        if (strncmp(text, "HTTP/1.1 ", 9) == 0) {
            status = (int)strtol(text + 9, NULL, 10);
        }
    }
    close(fd);
    return status;
}

static bool is_delivered(const char *folder)
{
    char path[256];
    char text[4096];
    (void)snprintf(path, sizeof(path), "%s/out.jsonl", folder);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
    if (fd >= 0) {
        close(fd);
    }
    text[n > 0 ? n : 0] = '\0';
    return strstr(text, "\"torture\"") != NULL && strchr(text, '\n') != NULL;
}

static int deliver(const struct run *run)
{
    uint64_t deadline = mr_clock_mono_ns() + (run->for_ever ? MR_SECOND / 5 : 5 * MR_SECOND);
    int wait_ms = run->for_ever ? ANSWER_FOR_EVER_MS : ANSWER_MS;
    while (post(mr_engine_port(run->engine), wait_ms) != 202) {
        if (mr_clock_mono_ns() > deadline) {
            return run->for_ever ? NOT_TAKEN : NEVER_TAKEN;
        }
        breathe();
    }
    while (!is_delivered(run->folder)) {
        if (mr_clock_mono_ns() > deadline) {
            return run->for_ever ? UNDELIVERED : LOST;
        }
        breathe();
    }
    return DELIVERED;
}

static void *drive(void *argument)
{
    struct run *run = argument;
    atomic_store(&run->verdict, deliver(run));
    mr_engine_request_stop(run->engine);
    return NULL;
}

static int run_engine(const char *folder, bool for_ever)
{
    struct mr_config *config = NULL;
    struct mr_config_errors errors = {.items = NULL};
    struct mr_problem problem = {.text = ""};
    enum mr_status r =
        mr_config_load_text("torture.yaml", folder, mr_bytes_of(CONFIG), mr_engine_kinds(), &config,
                            &errors);
    mr_config_errors_release(&errors);
    if (r != MR_OK) {
        return REFUSED_START;
    }
    struct run run = {.folder = folder, .for_ever = for_ever};
    r = mr_engine_create(config, folder, &run.engine, &problem);
    if (r != MR_OK) {
        return problem.text[0] == '\0' ? NO_PROBLEM_TEXT : REFUSED_START;
    }
    r = mr_engine_start(run.engine, &problem);
    if (r != MR_OK) {
        mr_engine_destroy(run.engine);
        return problem.text[0] == '\0' ? NO_PROBLEM_TEXT : REFUSED_START;
    }
    pthread_t driver;
    if (pthread_create(&driver, NULL, drive, &run) != 0) {
        return BROKEN;
    }
    (void)mr_engine_run(run.engine); /* 1 when it called the log faulty: that is clean */
    (void)pthread_join(driver, NULL);
    mr_engine_destroy(run.engine);
    return atomic_load(&run.verdict);
}

static int run_child(const char *folder, uint64_t nth, bool for_ever)
{
    (void)signal(SIGPIPE, SIG_IGN);
    mr_logger_set_level(MR_LEVEL_WARN);
    int64_t before = mr_alloc_live();
    (void)mr_alloc_fail_at(nth, for_ever);
    int verdict = run_engine(folder, for_ever);
    uint64_t made = mr_alloc_fail_at(0, 0);
    /* For ever: a source that must stop before its batch came back leaves itself to it, and says so. */
    if (!for_ever && verdict < LOST && mr_alloc_live() != before) {
        fprintf(stderr, "%lld allocations were not given back\n",
                (long long)(mr_alloc_live() - before));
        return LEAKED;
    }
    fprintf(stderr, "made %llu\n", (unsigned long long)made);
    return verdict;
}

/* --- in the parent ---------------------------------------------------------------------------- */

struct job {
    pid_t pid;
    uint64_t nth;
    uint64_t deadline_ns;
    char folder[FOLDER_PATH_SIZE];
};

static uint32_t tallies[256];

static void begin(struct job *job, uint64_t nth, bool for_ever)
{
    folder_make(job->folder, "torture");
    job->nth = nth;
    job->deadline_ns = mr_clock_mono_ns() + CHILD_SECONDS * MR_SECOND;
    fflush(NULL);
    job->pid = fork();
    assert_true(job->pid >= 0);
    if (job->pid == 0) {
        struct rlimit no_core = {0, 0};
        (void)setrlimit(RLIMIT_CORE, &no_core);
        char path[128];
        (void)snprintf(path, sizeof(path), "%s/stderr", job->folder);
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        (void)dup2(fd, STDERR_FILENO);
        _exit(run_child(job->folder, nth, for_ever));
    }
}

static void show_output(const struct job *job)
{
    char path[128];
    char line[512];
    (void)snprintf(path, sizeof(path), "%s/stderr", job->folder);
    FILE *file = fopen(path, "r");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        print_message("    %s", line);
    }
    if (file != NULL) {
        (void)fclose(file);
    }
}

/* Waits for the child; true when it ended as it may. */
static bool end(struct job *job, bool for_ever)
{
    int status = 0;
    bool hangs = false;
    while (waitpid(job->pid, &status, WNOHANG) == 0) {
        if (mr_clock_mono_ns() > job->deadline_ns) {
            hangs = true;
            (void)kill(job->pid, SIGKILL);
            (void)waitpid(job->pid, &status, 0);
            break;
        }
        breathe();
    }
    job->pid = 0;
    bool good = !hangs && WIFEXITED(status) && WEXITSTATUS(status) < LOST &&
                (WEXITSTATUS(status) == DELIVERED || WEXITSTATUS(status) == REFUSED_START ||
                 (for_ever && WEXITSTATUS(status) < LOST));
    /* A stop without any memory cannot give a waiting batch back to its source, which then keeps
     * both on purpose (and says so) rather than free what the core may still hold. */
    bool kept = for_ever && !hangs && WIFEXITED(status) && WEXITSTATUS(status) == LEAKED;
    if (good) {
        tallies[WEXITSTATUS(status)]++;
    } else if (!kept) {
        print_message("allocation %llu%s: %s %d\n", (unsigned long long)job->nth,
                      for_ever ? " and all after it" : "",
                      hangs                  ? "hangs, killed"
                      : WIFSIGNALED(status)  ? "died by signal"
                                             : "verdict",
                      hangs ? 0 : WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
        show_output(job);
    }
    folder_remove(job->folder);
    return good || kept;
}

/* How many allocations a run without failures makes. */
static uint64_t count_allocations(void)
{
    struct job job;
    begin(&job, UINT64_MAX, false);
    int status = 0;
    (void)waitpid(job.pid, &status, 0);
    char path[128];
    char text[256] = "";
    (void)snprintf(path, sizeof(path), "%s/stderr", job.folder);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    unsigned long long made = 0;
    while (fgets(text, sizeof(text), file) != NULL) {
        (void)sscanf(text, "made %llu", &made);
    }
    (void)fclose(file);
    folder_remove(job.folder);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), DELIVERED);
    assert_true(made > 100);
    return made;
}

static void torture(bool for_ever)
{
    uint64_t total = count_allocations();
    uint64_t step = total < RUNS_MAX ? 1 : total / RUNS_MAX;
    struct job jobs[JOBS] = {{0}};
    uint32_t runs = 0;
    uint32_t bad = 0;
    memset(tallies, 0, sizeof(tallies));
    for (uint64_t n = 1; n <= total; n += step) {
        struct job *job = &jobs[runs % JOBS];
        if (job->pid != 0) {
            bad += !end(job, for_ever);
        }
        begin(job, n, for_ever);
        runs++;
    }
    for (uint32_t i = 0; i < JOBS; i++) {
        if (jobs[i].pid != 0) {
            bad += !end(&jobs[i], for_ever);
        }
    }
    print_message("%u of %llu allocations failed%s: %u delivered, %u refused to start, "
                  "%u not taken, %u not yet delivered, %u wrong\n",
                  runs, (unsigned long long)total,
                  for_ever ? " for ever" : "", tallies[DELIVERED], tallies[REFUSED_START],
                  tallies[NOT_TAKEN], tallies[UNDELIVERED], bad);
    assert_true(tallies[REFUSED_START] > 0); /* the fault fires */
    assert_int_equal(bad, 0);
}

static void test_engine_one_allocation_fails_goes_on(void **state)
{
    (void)state;
    torture(false);
}

static void test_engine_all_allocations_fail_ends_cleanly(void **state)
{
    (void)state;
    torture(true);
}

/* Arguments: N [ever], one run in this process, for a debugger. */
static int replay(int argc, char **argv)
{
    char folder[FOLDER_PATH_SIZE];
    folder_make(folder, "torture");
    int verdict = run_child(folder, strtoull(argv[1], NULL, 10), argc > 2);
    folder_remove(folder);
    return verdict;
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        return replay(argc, argv);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_engine_one_allocation_fails_goes_on),
        cmocka_unit_test(test_engine_all_allocations_fail_ends_cleanly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
