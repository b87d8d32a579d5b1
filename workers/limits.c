#include "workers/limits.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>

#include "core/clock.h"
#include "core/limits.h"
#include "workers/child.h"

#define CPU_MIN_NS MR_SECOND             /* the kernel counts this limit in seconds */
#define MEMORY_MIN_SIZE (4u * MR_MIB)    /* less and not even a shell starts */
#define FILES_MIN 16
#define CPU_LAST_S 2u                    /* between SIGXCPU and SIGKILL */

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
    if (limits->memory_size != 0) {
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
    uint64_t memory_mib = limits->memory_size / MR_MIB;
    bool full = limits->memory_size != 0 && end->rss_peak >= limits->memory_size / 4 * 3;
    if (full) {
        (void)snprintf(text, 160, " (it was at its max_memory of %" PRIu64 " MiB)", memory_mib);
    } else if (limits->memory_size != 0 && limits->files != 0) {
        (void)snprintf(text, 160, " (under max_memory %" PRIu64 " MiB, max_files %" PRId64 ")",
                       memory_mib, limits->files);
    } else if (limits->memory_size != 0) {
        (void)snprintf(text, 160, " (under max_memory %" PRIu64 " MiB)", memory_mib);
    } else if (limits->files != 0) {
        (void)snprintf(text, 160, " (under max_files %" PRId64 ")", limits->files);
    }
    return text;
}
