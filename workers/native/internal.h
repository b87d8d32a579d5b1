/* The native runtime: a plugin in this process, called on threads of its own. target.c is the
 * connector with its queue and threads, call.c one delivery as the plugin sees it, plugin.c the
 * shared library.
 *
 * A handler that does not return cannot be stopped. When the target's stop is due, its hand-out is
 * answered and its thread left behind: the call then holds all it uses, and the target is leaked
 * with the library, for that thread may still use both. */
#ifndef MR_WORKERS_NATIVE_INTERNAL_H
#define MR_WORKERS_NATIVE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "connectors/connector.h"
#include "core/clock.h"
#include "workers/sdk/native/millrace_native.h"

#define MR__NATIVE_THREADS_MAX 256u

struct mr_native_options {
    char *path;
    char *settings; /* JSON text */
};

/* --- plugin.c --- */
struct mr__plugin {
    void *library; /* owned: dlopen's */
    const struct millrace_native_plugin *ops; /* borrowed from it */
    void *state;   /* the plugin's own */
};
/** Loads and opens. @return MR_E_INVALID, MR_E_NOT_FOUND, MR_E_UNSUPPORTED with the reason */
MR_MUST_USE enum mr_status mr__plugin_load(struct mr__plugin *plugin, const char *path,
                                           const char *settings, struct mr_problem *problem);
void mr__plugin_unload(struct mr__plugin *plugin);

/* --- call.c --- */
struct mr__native_call {
    struct millrace_native_call native; /* first: cast back in the plugin's calls */
    struct mr_host *host;       /* borrowed */
    /* Both NULL once left behind; under the target's lock. */
    struct mr_handout *handout; /* owned */
    pthread_mutex_t *mu;        /* borrowed: the target's */
    struct mr_event *event;     /* a reference of its own: the hand-out may go first */
    struct mr_handout *said;    /* owned; its answer gathers what the handler says */
    struct mr_buf text;         /* attributes: name NUL value NUL … */
    struct mr_buf json;
    char delivery[sizeof(((struct mr_handout *)0)->delivery)];
    char *progress;             /* owned; under the target's lock */
    uint64_t began_ns;
    uint64_t beat_ns;
    _Atomic bool cancelled;     /* relaxed: a flag of its own */
};
MR_MUST_USE struct mr__native_call *mr__native_call_create(struct mr_host *host,
                                                           pthread_mutex_t *mu,
                                                           struct mr_handout *handout);
void mr__native_call_destroy(struct mr__native_call *call);
/** Moves what the handler said, with its @p verdict, into the hand-out's answer. */
void mr__native_call_finish(struct mr__native_call *call, int verdict);

#endif
