/* What the kernel lets a worker process use: processor time, memory, open files. Set between fork
 * and exec, inherited by whatever the worker starts (each process counts for itself). */
#ifndef MR_WORKERS_LIMITS_H
#define MR_WORKERS_LIMITS_H

#include <sys/types.h>

#include "config/option.h"

struct mr_child_end;

/* 0: no limit. */
struct mr_limits {
    uint64_t cpu_ns;
    uint64_t memory_size; /* private writable memory, bytes */
    int64_t files;        /* open descriptors */
};

/* The rows of a runtime whose options struct @p owner has them in `limits`. */
#define MR_LIMIT_OPTIONS(owner, cpu_help)                                                          \
    {.name = "max_cpu", .type = MR_OPTION_DURATION, .at = offsetof(owner, limits.cpu_ns),          \
     .default_text = "0", .min = 0, .help = (cpu_help)},                                           \
    {.name = "max_memory", .type = MR_OPTION_SIZE, .at = offsetof(owner, limits.memory_size),      \
     .default_text = "0",                                                                          \
     .help = "Private writable memory a process may have; beyond it allocations fail. 0 = no "     \
             "limit."},                                                                            \
    {.name = "max_files", .type = MR_OPTION_INT, .at = offsetof(owner, limits.files),              \
     .default_text = "0", .min = 0, .max = 1048576, .unit = "descriptors",                         \
     .help = "Descriptors a process may have open; 0 = as Millrace itself."}

/** For the options' check: what no program could start with is refused. */
MR_MUST_USE enum mr_status mr_limits_check(const struct mr_limits *limits,
                                           struct mr_problem *problem);

/** Sets @p limits for the calling process. @thread between vfork and execve: async-signal-safe */
void mr_limits_apply(const struct mr_limits *limits);

/** Sets the processor time at which process @p pid is ended; 0: none. */
void mr_limits_set_cpu(pid_t pid, uint64_t cpu_ns);
/** Processor time that process @p pid has used, in ns; 0 unknown. */
uint64_t mr_limits_cpu_used(pid_t pid);

/** What @p limits have to do with the @p end of a process: " (it used up max_cpu, 2s)", or "".
 * Which limit a failed allocation or open led to the kernel does not tell: those are named as
 * what was in force. @return @p text */
const char *mr_limits_note(const struct mr_limits *limits, const struct mr_child_end *end,
                           char text[160]);

#endif
