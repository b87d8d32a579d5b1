/* A worker as a plugin inside Millrace: a shared library with one exported function. C99, C++.
 *
 *     static int handle(void *state, struct millrace_native_call *call)
 *     {
 *         return call->data_size > 1000 ? MILLRACE_NATIVE_DEAD : MILLRACE_NATIVE_OK;
 *     }
 *
 *     static const struct millrace_native_plugin plugin = {
 *         MILLRACE_NATIVE_ABI, sizeof(plugin), "1.0", NULL, handle, NULL};
 *
 *     const struct millrace_native_plugin *millrace_native_plugin(void) { return &plugin; }
 *
 *     cc -shared -fPIC -o size.so size.c        workers: {size: {native: {path: size.so}}}
 *
 * It runs in Millrace's own process: what crashes or corrupts it crashes or corrupts Millrace. The
 * reference is docs/native.md.
 *
 * Versions: `abi` must be MILLRACE_NATIVE_ABI. Within one abi members are only added at the end of
 * the structs, and `size` says how much of one there is: look before you use a later one. */
#ifndef MILLRACE_NATIVE_H
#define MILLRACE_NATIVE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MILLRACE_NATIVE_ABI 1u

enum millrace_native_verdict {
    MILLRACE_NATIVE_OK = 0,
    MILLRACE_NATIVE_RETRY = 1,
    MILLRACE_NATIVE_DROP = 2,
    MILLRACE_NATIVE_DEAD = 3
};

/* One delivery. Everything in it is valid until the handler returns, and for the thread alone that
 * the handler was called on. */
struct millrace_native_call {
    uint32_t size; /* bytes of this struct */
    uint32_t attempt;         /* from 1 */
    uint32_t last;            /* 1: a retry now ends it */
    uint32_t reserved;
    uint64_t deadline_unix_ns;
    const char *delivery;     /* the same for all attempts: use it to be idempotent */
    const char *id;           /* of the event; absent attributes are "" */
    const char *source;
    const char *type;
    const char *subject;
    const char *datacontenttype;
    const void *data; /* as it is; no NUL follows; NULL: no data */
    size_t data_size;

    /* The attribute of the event as text, or NULL. */
    const char *(*attribute)(struct millrace_native_call *call, const char *name);
    /* The whole event as CloudEvents JSON; a NUL follows. NULL: memory is short. */
    const char *(*json)(struct millrace_native_call *call, size_t *ret_size);
    /* What the handler may say beside its verdict; copied. 0: done; -1: not (no JSON, no
     * CloudEvent, too much, memory is short), nothing changed. */
    int (*set_error)(struct millrace_native_call *call, const char *text);
    int (*set_after)(struct millrace_native_call *call, double seconds); /* with RETRY */
    int (*set_result)(struct millrace_native_call *call, const char *json, size_t size);
    int (*emit)(struct millrace_native_call *call, const char *event_json, size_t size);
    /* Extends the time of a handler that runs long; progress is JSON or NULL. */
    int (*heartbeat)(struct millrace_native_call *call, const char *progress_json);
    /* 1: Millrace gave the delivery up; a long handler looks now and then and returns. */
    int (*cancelled)(struct millrace_native_call *call);
};

struct millrace_native_plugin {
    uint32_t abi;        /* MILLRACE_NATIVE_ABI */
    uint32_t size;       /* bytes of this struct */
    const char *version; /* shown with each attempt; NULL: the configuration's generation */
    /* Once before the first delivery, on Millrace's thread. `settings` is the JSON text of the
     * worker's `settings`, "{}" when there are none. Not 0: the configuration is refused, with
     * what was written to `error`. May be NULL. */
    int (*open)(const char *settings, void **ret_state, char *error, size_t error_size);
    /* A delivery; an enum millrace_native_verdict, anything else is a retry. On up to
     * `concurrency` threads at once, none of them the main one. Required. */
    int (*handle)(void *state, struct millrace_native_call *call);
    /* Once after the last delivery. May be NULL. */
    void (*close)(void *state);
};

/* The one function a plugin exports. */
const struct millrace_native_plugin *millrace_native_plugin(void);

#ifdef __cplusplus
}
#endif

#endif
