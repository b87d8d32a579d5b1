#include "workers/limits.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "core/clock.h"
#include "core/limits.h"
#include "core/logger.h"
#include "workers/cgroup.h"
#include "workers/child.h"

#define CPU_MIN_NS MR_SECOND             /* the kernel counts this limit in seconds */
#define MEMORY_MIN_SIZE (4u * MR_MIB)    /* less and not even a shell starts */
#define FILES_MIN 16
#define CPU_LAST_S 2u                    /* between SIGXCPU and SIGKILL */

#define CPUS_MIN_MILLI 10u               /* the kernel's least quota is 1 ms */
#define CPUS_MAX 4096u

const char *const mr_limits_cgroup_words[] = {"auto", "require", "off", NULL};

/* "2", "0.5", "1.25": at most three places. */
static bool read_cpus(const char *text, uint32_t *ret_milli)
{
    size_t whole_size = strcspn(text, ".");
    const char *part = text[whole_size] == '.' ? text + whole_size + 1 : "";
    size_t part_size = strlen(part);
    uint64_t whole;
    uint64_t milli = 0;
    if (!mr_parse_u64(mr_bytes(text, whole_size), &whole) || whole > CPUS_MAX || part_size > 3 ||
        (text[whole_size] == '.' && !mr_parse_u64(mr_bytes(part, part_size), &milli))) {
        return false;
    }
    for (size_t i = part_size; i < 3; i++) {
        milli *= 10;
    }
    *ret_milli = (uint32_t)(whole * 1000 + milli);
    return *ret_milli >= CPUS_MIN_MILLI;
}

static enum mr_status check_group(const struct mr_limits *limits, struct mr_problem *problem)
{
    uint32_t milli;
    if (limits->cpus != NULL && !read_cpus(limits->cpus, &milli)) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "cpus: `%.40s` is no number of processors from 0.01 to %u, such as "
                              "0.5", limits->cpus, CPUS_MAX);
    }
    if (limits->cgroup == MR_LIMITS_OFF && (limits->cpus != NULL || limits->processes != 0)) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "%s takes a control group, which `cgroup: off` forbids",
                              limits->cpus != NULL ? "cpus" : "max_processes");
    }
    return MR_OK;
}

enum mr_status mr_limits_check(const struct mr_limits *limits, struct mr_problem *problem)
{
    if (limits->cpu_ns != 0 && limits->cpu_ns < CPU_MIN_NS) {
        return mr_problem_set(problem, MR_E_INVALID, "max_cpu is less than 1s, or 0 for no limit");
    }
    if (limits->memory_size != 0 && limits->memory_size < MEMORY_MIN_SIZE) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "max_memory is less than 4MiB, or 0 for no limit");
    }
    if (limits->files != 0 && limits->files < FILES_MIN) {
        return mr_problem_set(problem, MR_E_INVALID, "max_files is less than %d, or 0", FILES_MIN);
    }
    return check_group(limits, problem);
}

static unsigned controllers_of(const struct mr_limits *limits)
{
    return (limits->memory_size != 0 ? MR_CGROUP_MEMORY : 0u) |
           (limits->processes != 0 ? MR_CGROUP_PIDS : 0u) |
           (limits->cpus_milli != 0 ? MR_CGROUP_CPU : 0u);
}

static enum mr_status refuse(const struct mr_problem *why, struct mr_problem *problem)
{
    return mr_problem_set(problem, MR_E_UNAVAILABLE, "cgroup: require: %s", why->text);
}

enum mr_status mr_limits_take(struct mr_limits *limits, struct mr_problem *problem)
{
    if (limits->cpus != NULL && !read_cpus(limits->cpus, &limits->cpus_milli)) {
        return mr_problem_set(problem, MR_E_INVALID, "cpus is no number"); /* not when checked */
    }
    limits->cpus = NULL;
    struct mr_problem why;
    return limits->cgroup != MR_LIMITS_REQUIRE ||
                   mr_cgroup_check(controllers_of(limits), &why) == MR_OK
               ? MR_OK
               : refuse(&why, problem);
}

enum mr_status mr_limits_settle(struct mr_limits *limits, const char *who,
                                char said[MR_LIMITS_SAID_SIZE], struct mr_problem *problem)
{
    unsigned controllers = controllers_of(limits);
    struct mr_problem why = {.text = "cgroup: off"};
    bool wanted = controllers != 0 || limits->cgroup == MR_LIMITS_REQUIRE;
    bool any = controllers != 0 || limits->cpu_ns != 0 || limits->cpu_apart || limits->files != 0;
    (void)snprintf(said, MR_LIMITS_SAID_SIZE, "%s", any ? "rlimits" : "");
    if (!wanted) {
        return MR_OK;
    }
    enum mr_status r = limits->cgroup == MR_LIMITS_OFF ? MR_E_UNAVAILABLE
                                                       : mr_cgroup_begin(controllers, &why);
    if (r == MR_OK) {
        limits->grouped = true;
        (void)snprintf(said, MR_LIMITS_SAID_SIZE, "cgroup"); /* fits */
        return MR_OK;
    }
    if (limits->cgroup == MR_LIMITS_REQUIRE) {
        return refuse(&why, problem);
    }
    bool lost = limits->processes != 0 || limits->cpus_milli != 0;
    const char *what = limits->cpus_milli == 0  ? "max_processes"
                       : limits->processes == 0 ? "cpus"
                                                : "max_processes and cpus";
    (void)snprintf(said, MR_LIMITS_SAID_SIZE, "rlimits%s%s (%.260s)", lost ? ", without " : "",
                   lost ? what : "", why.text); /* fits: the end of the reason is cut */
    if (lost) {
        MR_WARN("workers", "%s: %s cannot be had: %s", who, what, why.text);
    }
    return MR_OK;
}

static rlim_t whole_seconds(uint64_t ns)
{
    return (rlim_t)(ns / MR_SECOND + (ns % MR_SECOND != 0));
}

void mr_limits_apply(const struct mr_limits *limits)
{
    /* A limit above our own cannot be had and need not: ours holds then. */
    if (limits->cpu_ns != 0) {
        rlim_t seconds = whole_seconds(limits->cpu_ns);
        (void)setrlimit(RLIMIT_CPU, &(struct rlimit){seconds, seconds + CPU_LAST_S});
    }
    if (limits->memory_size != 0 && !limits->grouped) {
        /* Not RLIMIT_AS: Go, Java and JavaScript reserve address space by the gigabyte and use
         * little of it. */
        rlim_t size = (rlim_t)limits->memory_size;
        (void)setrlimit(RLIMIT_DATA, &(struct rlimit){size, size});
    }
    if (limits->files != 0) {
        rlim_t files = (rlim_t)limits->files;
        (void)setrlimit(RLIMIT_NOFILE, &(struct rlimit){files, files});
    }
}

void mr_limits_set_cpu(pid_t pid, uint64_t cpu_ns)
{
    struct rlimit limit;
    if (prlimit(pid, RLIMIT_CPU, NULL, &limit) == 0) {
        limit.rlim_cur = cpu_ns == 0 ? limit.rlim_max : whole_seconds(cpu_ns);
        (void)prlimit(pid, RLIMIT_CPU, &limit, NULL); /* it just ended: nothing to limit */
    }
}

uint64_t mr_limits_cpu_used(pid_t pid)
{
    clockid_t clock;
    struct timespec used;
    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &used) != 0) {
        return 0;
    }
    return (uint64_t)used.tv_sec * MR_SECOND + (uint64_t)used.tv_nsec;
}

const char *mr_limits_note(const struct mr_limits *limits, const struct mr_child_end *end,
                           char text[160])
{
    text[0] = '\0';
    bool spent = limits->cpu_ns != 0 && end->cpu_ns >= limits->cpu_ns;
    if (end->signal == SIGXCPU || (end->signal == SIGKILL && spent)) {
        (void)snprintf(text, 160, " (it used up max_cpu)"); /* fits */
        return text;
    }
    if (end->out_of_memory) {
        return text; /* its end says so already */
    }
    if (end->forks_failed > 0) {
        (void)snprintf(text, 160, " (it was at its max_processes of %" PRId64 ")",
                       limits->processes); /* fits */
        return text;
    }
    /* In a control group no allocation fails for max_memory. */
    uint64_t memory_size = limits->grouped ? 0 : limits->memory_size;
    uint64_t memory_mib = memory_size / MR_MIB;
    bool full = memory_size != 0 && end->rss_peak >= memory_size / 4 * 3;
    if (full) {
        (void)snprintf(text, 160, " (it was at its max_memory of %" PRIu64 " MiB)", memory_mib);
    } else if (memory_size != 0 && limits->files != 0) {
        (void)snprintf(text, 160, " (under max_memory %" PRIu64 " MiB, max_files %" PRId64 ")",
                       memory_mib, limits->files);
    } else if (memory_size != 0) {
        (void)snprintf(text, 160, " (under max_memory %" PRIu64 " MiB)", memory_mib);
    } else if (limits->files != 0) {
        (void)snprintf(text, 160, " (under max_files %" PRId64 ")", limits->files);
    }
    return text;
}
