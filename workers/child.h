/* A worker process as its target holds it: the configured command with its environment, the
 * descriptors that lead to the process, its end. Used by the process and the exec runtime; each
 * child belongs to the thread that started it. */
#ifndef MR_WORKERS_CHILD_H
#define MR_WORKERS_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "config/option.h"
#include "core/problem.h"
#include "workers/limits.h"

/* --- what to run ------------------------------------------------------------------------------ */

struct mr_command {
    char **argv; /* owned, NULL-terminated */
    char **env;  /* owned, NULL-terminated; the allow-list of ours, then the configured ones */
    uint32_t env_count;
    char *folder; /* owned */
    char *path;   /* borrowed from env: the value of its PATH, or a standard one */
    struct mr_limits limits; /* none after init: set by the runtime */
};

/** Copies a configured command. Of our own environment only PATH HOME USER LOGNAME SHELL LANG
 * LC_ALL LC_CTYPE TZ TMPDIR are passed on; @p env adds and overrides.
 * @param folder the working directory @return MR_E_INVALID for an empty command or a variable
 * with an illegal name, MR_E_NOMEM */
MR_MUST_USE enum mr_status mr_command_init(struct mr_command *command,
                                           const struct mr_strings *words,
                                           const struct mr_pairs *env, const char *folder,
                                           struct mr_problem *problem);
void mr_command_release(struct mr_command *command);

/* --- a running one ---------------------------------------------------------------------------- */

enum mr_child_flags {
    MR_CHILD_SOCKET = 1, /* descriptor 3 is one end of a socket pair, `io` the other */
    MR_CHILD_STDIN = 2,  /* descriptor 0 is a pipe, `in` writes to it; else /dev/null */
};

struct mr_child {
    pid_t pid; /* its process group and session too; 0: none */
    int pidfd; /* readable once it ended; all descriptors -1 when closed */
    int io;
    int in;
    int out; /* its standard output, reading */
    int err;
    uint64_t mark;      /* of the guardian */
    bool grouped;       /* it has a control group, of number `mark` */
    uint64_t memory_max; /* of that group; 0 none */
    uint64_t rss_floor; /* bytes: the kernel's peak value starts here (see mr_child_end.rss_peak) */
};

struct mr_child_end {
    int32_t code;   /* -1: ended by a signal, or unknown */
    int32_t signal; /* 0: exited */
    uint64_t rss_peak; /* bytes; 0 unknown; of its whole control group, if it had one */
    uint64_t cpu_ns;   /* processor time it used, with the children it waited for */
    bool out_of_memory; /* killed for that */
    uint64_t memory_max; /* the limit that it reached; 0: others left it none */
    uint64_t forks_failed; /* at max_processes */
};

/** Starts @p command with @p extra ("NAME=value", NULL-terminated) added to its environment. All
 * descriptors are non-blocking. The guardian must be held (mr_guardian_ref).
 * @return as mr_spawn(); MR_E_NOMEM @thread the child ends with this thread */
MR_MUST_USE enum mr_status mr_child_start(const struct mr_command *command,
                                          const char *const *extra, unsigned flags,
                                          struct mr_child *ret_child, struct mr_problem *problem);
/** Signals the whole process group; SIGKILL the whole control group too. */
void mr_child_signal(const struct mr_child *child, int sig);
/** After the pidfd became readable: kills what is left of the group, reaps, closes everything.
 * Nothing of the child is left afterwards. */
void mr_child_finish(struct mr_child *child, struct mr_child_end *ret_end);
void mr_child_close(int *fd);
/** Resident set of the running process, now and at most; bytes, 0 when unknown. */
struct mr_child_memory {
    uint64_t rss;
    uint64_t rss_peak;
};
struct mr_child_memory mr_child_memory(const struct mr_child *child);

/** One sentence about @p end: "exited with code 3", "was killed by signal 11 (Segmentation
 * fault)", "was killed: out of memory (limit 256 MiB)". Written to @p text, which is returned. */
const char *mr_child_end_text(const struct mr_child_end *end, char text[128]);

#endif
