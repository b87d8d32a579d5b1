/* What the kernel lets a worker use: processor time, memory, open files, processes, processors.
 *
 * Two things bound it. Resource limits, set between fork and exec and inherited by whatever the
 * worker starts, each process counting for itself: max_cpu, max_files, and max_memory unless there
 * is better. A control group (cgroup.h), for an instance as a whole: max_memory, max_processes and
 * cpus. Which of the two is in force is settled once, when the target starts. */
#ifndef MR_WORKERS_LIMITS_H
#define MR_WORKERS_LIMITS_H

#include <stdbool.h>
#include <sys/types.h>

#include "config/option.h"

struct mr_child_end;

/* 0: no limit. */
struct mr_limits {
    uint64_t cpu_ns;
    uint64_t memory_size; /* private writable memory, bytes */
    int64_t files;        /* open descriptors */
    int64_t processes;    /* of an instance */
    char *cpus;           /* processors an instance may keep busy, "0.5"; owned by the options */
    int cgroup;           /* enum mr_limits_cgroup */
    /* What follows is no option. */
    uint32_t cpus_milli;
    bool cpu_apart; /* max_cpu is set for each delivery, not for the process */
    bool grouped;   /* each instance has a control group */
};

enum mr_limits_cgroup {
    MR_LIMITS_AUTO = 0,
    MR_LIMITS_REQUIRE,
    MR_LIMITS_OFF,
};
extern const char *const mr_limits_cgroup_words[];

#define MR_LIMITS_SAID_SIZE 320u

/* The rows of a runtime whose options struct @p owner has them in `limits`. */
#define MR_LIMIT_OPTIONS(owner, cpu_help)                                                          \
    {.name = "max_cpu", .type = MR_OPTION_DURATION, .at = offsetof(owner, limits.cpu_ns),          \
     .default_text = "0", .min = 0, .help = (cpu_help)},                                           \
    {.name = "max_memory", .type = MR_OPTION_SIZE, .at = offsetof(owner, limits.memory_size),      \
     .default_text = "0",                                                                          \
     .help = "Memory an instance may have. In a control group: all of its processes together; "    \
             "beyond it they are killed. Else: private writable memory of each; beyond it "        \
             "allocations fail. 0 = no limit."},                                                   \
    {.name = "max_files", .type = MR_OPTION_INT, .at = offsetof(owner, limits.files),              \
     .default_text = "0", .min = 0, .max = 1048576, .unit = "descriptors",                         \
     .help = "Descriptors a process may have open; 0 = as Millrace itself."},                      \
    {.name = "max_processes", .type = MR_OPTION_INT, .at = offsetof(owner, limits.processes),      \
     .default_text = "0", .min = 0, .max = 4194304, .unit = "processes",                           \
     .help = "Processes and threads an instance may have; takes a control group. 0 = no limit."},  \
    {.name = "cpus", .type = MR_OPTION_STRING, .at = offsetof(owner, limits.cpus),                 \
     .unit = "processors",                                                                         \
     .help = "Processors an instance may keep busy, such as 0.5; it is slowed down, not ended. "   \
             "Takes a control group."},                                                            \
    {.name = "cgroup", .type = MR_OPTION_ENUM, .at = offsetof(owner, limits.cgroup),               \
     .default_text = "auto", .words = mr_limits_cgroup_words,                                      \
     .help = "Whether instances with max_memory, max_processes or cpus get a control group: if "   \
             "there can be one, or the worker does not start without (then every instance gets "   \
             "one), or never."}

/** For the options' check: what no program could start with is refused. */
MR_MUST_USE enum mr_status mr_limits_check(const struct mr_limits *limits,
                                           struct mr_problem *problem);

/** When the target is made, of its own copy of the checked options: no pointer of theirs stays. A
 * group that is required must be possible.
 * @return MR_E_UNAVAILABLE with the reason and a remedy */
MR_MUST_USE enum mr_status mr_limits_take(struct mr_limits *limits, struct mr_problem *problem);
/** When the target starts: decides what is in force and prepares it. The guardian is held.
 * @param who for the log: what cannot be had is warned of
 * @param[out] said "cgroup", "rlimits (why not)", "" when there is nothing to limit
 * @return MR_E_UNAVAILABLE when a group is required and there can be none */
MR_MUST_USE enum mr_status mr_limits_settle(struct mr_limits *limits, const char *who,
                                            char said[MR_LIMITS_SAID_SIZE],
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
