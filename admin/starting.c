#include "admin/starting.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "admin/metrics.h"
#include "core/alloc.h"
#include "core/clock.h"

#define STUCK_NS MR_MINUTE /* without a byte for so long: it hangs in the disk */
#define TEXT_SIZE 96u

struct mr_starting {
    struct mr_http_listener *listeners[2]; /* borrowed; may be NULL */
    /* Relaxed, as they are shown to people and nothing hangs on them: */
    const char *_Atomic of; /* static */
    _Atomic uint64_t done;
    _Atomic uint64_t total; /* 0: nothing to say */
    _Atomic uint64_t moved_mono_ns; /* when there was progress last */
};

static void say_how_far(struct mr_starting *s, char text[TEXT_SIZE])
{
    uint64_t total = atomic_load_explicit(&s->total, memory_order_relaxed);
    uint64_t done = atomic_load_explicit(&s->done, memory_order_relaxed);
    if (total == 0) {
        (void)snprintf(text, TEXT_SIZE, "starting"); /* fits, as the next */
        return;
    }
    bool is_large = total >= 1024 * MR_MIB;
    (void)snprintf(text, TEXT_SIZE, "starting: %s %u %% of %.1f %s read",
                   atomic_load_explicit(&s->of, memory_order_relaxed),
                   (unsigned)(done >= total ? 100 : done * 100 / total),
                   (double)total / (double)(is_large ? 1024 * MR_MIB : MR_MIB),
                   is_large ? "GiB" : "MiB");
}

static void answer(struct mr_http_request *request, unsigned status, const char *content_type,
                   const char *body)
{
    const struct mr_field retry = {MR_BYTES_LITERAL("Retry-After"), MR_BYTES_LITERAL("1")};
    mr_http_answer(request, &(struct mr_http_answer){.status = status,
                                                     .content_type = content_type,
                                                     .body = mr_bytes_of(body),
                                                     .headers = &retry,
                                                     .header_count = status == 503 ? 1 : 0});
}

static void answer_metrics(struct mr_http_request *request)
{
    const struct mr__family *ready = &mr__families[MR__M_READY];
    char text[256];
    (void)snprintf(text, sizeof(text), "# TYPE %s %s\n# HELP %s %s\n%s 0\n# EOF\n", ready->name,
                   ready->type, ready->name, ready->help, ready->name); /* fits */
    answer(request, 200, "application/openmetrics-text; version=1.0.0; charset=utf-8", text);
}

/* At once, from the header alone. */
static bool admit(void *context, struct mr_http_request *request)
{
    struct mr_starting *s = context;
    const char *path = mr_http_request_path(request);
    char why[TEXT_SIZE];
    char body[TEXT_SIZE + 32];
    say_how_far(s, why);
    if (strcmp(path, "/livez") == 0) {
        uint64_t moved = atomic_load_explicit(&s->moved_mono_ns, memory_order_relaxed);
        uint64_t now = mr_clock_mono_ns();
        bool is_alive = now < moved || now - moved <= STUCK_NS;
        answer(request, is_alive ? 200 : 503, "text/plain; charset=utf-8",
               is_alive ? "ok\n" : "the start has read nothing for more than a minute\n");
    } else if (strcmp(path, "/metrics") == 0) {
        answer_metrics(request);
    } else if (strcmp(path, "/readyz") == 0) {
        (void)snprintf(body, sizeof(body), "%s\n", why); /* fits, as the next */
        answer(request, 503, "text/plain; charset=utf-8", body);
    } else {
        (void)snprintf(body, sizeof(body), "{\"error\":\"%s\"}\n", why);
        answer(request, 503, "application/json", body);
    }
    return false;
}

static void handle(void *context, struct mr_http_request *request)
{
    (void)admit(context, request); /* never asked: admit() has answered */
}

enum mr_status mr_starting_create(struct mr_http_listener *socket, struct mr_http_listener *ingest,
                                  struct mr_starting **ret_starting, struct mr_problem *problem)
{
    struct mr_starting *s = mr_calloc(1, sizeof(*s));
    if (s == NULL) {
        return mr_problem_set(problem, MR_E_NOMEM, "%s", mr_status_text(MR_E_NOMEM));
    }
    s->listeners[0] = socket;
    s->listeners[1] = ingest;
    atomic_init(&s->of, "log");
    atomic_init(&s->moved_mono_ns, mr_clock_mono_ns());
    const struct mr_http_route route = {
        .methods = MR_HTTP_GET | MR_HTTP_POST | MR_HTTP_PUT | MR_HTTP_DELETE | MR_HTTP_OPTIONS,
        .path = "/*",
        .body_max = MR_KIB,
        .handle = handle,
        .admit = admit,
        .context = s};
    enum mr_status r = MR_OK;
    for (size_t i = 0; i < MR_ARRAY_COUNT(s->listeners) && r == MR_OK; i++) {
        r = s->listeners[i] == NULL ? MR_OK
                                    : mr_http_listener_route(s->listeners[i], &route, false);
    }
    if (r != MR_OK) {
        mr_starting_destroy(s);
        return mr_problem_set(problem, r, "the listeners: %s", mr_status_text(r));
    }
    *ret_starting = s;
    return MR_OK;
}

void mr_starting_progress(struct mr_starting *starting, const char *of, uint64_t done,
                          uint64_t total)
{
    atomic_store_explicit(&starting->of, of, memory_order_relaxed);
    atomic_store_explicit(&starting->total, total, memory_order_relaxed);
    atomic_store_explicit(&starting->done, done, memory_order_relaxed);
    atomic_store_explicit(&starting->moved_mono_ns, mr_clock_mono_ns(), memory_order_relaxed);
}

void mr_starting_destroy(struct mr_starting *starting)
{
    if (starting == NULL) {
        return;
    }
    for (size_t i = 0; i < MR_ARRAY_COUNT(starting->listeners); i++) {
        if (starting->listeners[i] != NULL) {
            mr_http_listener_unroute(starting->listeners[i], starting);
        }
    }
    mr_free(starting);
}
