#include "connectors/http/listener.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "connectors/http/internal.h"
#include "connectors/http/socket.h"
#include "core/alloc.h"
#include "core/assert.h"
#include "core/clock.h"
#include "core/limits.h"
#include "core/logger.h"

enum {
    EVENTS_PER_PASS = 64,
    WAIT_MS_MAX = 1000,
    FLUSH_PASSES_MAX = 50, /* of FLUSH_WAIT_MS: what a stop gives the last answers to get out */
    FLUSH_WAIT_MS = 10,
};
static const uint64_t IDLE_NS_DEFAULT = 60 * MR_SECOND;
static const uint64_t SWEEP_NS_MAX = MR_SECOND;

void mr__http_listener_ref(struct mr_http_listener *l)
{
    atomic_fetch_add_explicit(&l->refs, 1, memory_order_relaxed);
}

static void free_listener(struct mr_http_listener *l)
{
    if (l->epoll_fd >= 0) {
        close(l->epoll_fd);
    }
    if (l->listen_fd >= 0) {
        close(l->listen_fd);
    }
    while (l->pool != NULL) {
        struct mr_http_request *next = l->pool->next;
        mr__http_request_destroy(l->pool);
        l->pool = next;
    }
    for (uint32_t i = 0; i < l->route_count; i++) {
        char *path;
        memcpy(&path, &l->routes[i].path, sizeof(path)); /* const only for its readers */
        mr_free(path);
    }
    mr_free(l->routes);
    if (l->has_ops) {
        mr_opq_release(&l->ops);
    }
    if (l->has_locks) {
        (void)pthread_cond_destroy(&l->idle); /* nobody waits */
        (void)pthread_mutex_destroy(&l->mu);  /* nobody holds it */
    }
    mr_free(l->host);
    mr_free(l->socket_path);
    mr_free(l);
}

void mr__http_listener_unref(struct mr_http_listener *l)
{
    if (atomic_fetch_sub_explicit(&l->refs, 1, memory_order_acq_rel) == 1) {
        free_listener(l);
    }
}

/* The listener whose loop this thread runs. */
static _Thread_local const struct mr_http_listener *own_loop;

bool mr__http_on_loop(const struct mr_http_listener *l)
{
    return own_loop == l;
}

enum mr_status mr_http_listener_create(const struct mr_http_listener_options *options,
                                       struct mr_http_listener **ret_listener,
                                       struct mr_problem *problem)
{
    MR_ASSERT((options->host == NULL) != (options->socket_path == NULL));
    struct mr_http_listener *l = mr_calloc(1, sizeof(*l));
    if (l == NULL) {
        return mr_problem_set(problem, MR_E_NOMEM, "out of memory");
    }
    atomic_init(&l->refs, 1);
    l->epoll_fd = -1;
    l->listen_fd = -1;
    l->daemon_poll = MR__HTTP_POLL_DAEMON;
    l->ops_poll = MR__HTTP_POLL_OPS;
    l->port = options->port;
    l->connections_max =
        options->connections_max == 0 ? MR_HTTP_CONNECTIONS_MAX : options->connections_max;
    l->idle_timeout_ns = options->idle_timeout_ns == 0 ? IDLE_NS_DEFAULT : options->idle_timeout_ns;
    l->host = mr_strdup(options->host);
    l->socket_path = mr_strdup(options->socket_path);
    if (l->host == NULL && l->socket_path == NULL) {
        mr__http_listener_unref(l);
        return mr_problem_set(problem, MR_E_NOMEM, "out of memory");
    }
    if (pthread_mutex_init(&l->mu, NULL) == 0) {
        if (pthread_cond_init(&l->idle, NULL) == 0) {
            l->has_locks = true;
        } else {
            (void)pthread_mutex_destroy(&l->mu);
        }
    }
    enum mr_status r = l->has_locks ? mr_opq_init(&l->ops, UINT64_MAX) : MR_E_NOMEM;
    if (r != MR_OK) {
        mr__http_listener_unref(l);
        return mr_problem_set(problem, r, "cannot make the listener: %s", mr_status_text(r));
    }
    l->has_ops = true;
    *ret_listener = l;
    return MR_OK;
}

/* --- routes and watches ----------------------------------------------------------------------- */

static struct mr_http_route *find_route(struct mr_http_listener *l, const char *path)
{
    for (uint32_t i = 0; i < l->route_count; i++) {
        if (strcmp(l->routes[i].path, path) == 0) {
            return &l->routes[i];
        }
    }
    return NULL;
}

static enum mr_status add_route_locked(struct mr_http_listener *l,
                                       const struct mr_http_route *route, bool replace)
{
    struct mr_http_route *old = find_route(l, route->path);
    if (old != NULL) {
        if (old->context != route->context && !replace) {
            return MR_E_EXISTS;
        }
        const char *path = old->path;
        *old = *route;
        old->path = path;
        return MR_OK;
    }
    if (l->route_count == l->route_capacity) {
        uint32_t capacity = l->route_capacity == 0 ? 16 : l->route_capacity * 2;
        struct mr_http_route *routes = mr_realloc(l->routes, capacity * sizeof(*routes));
        if (routes == NULL) {
            return MR_E_NOMEM;
        }
        l->routes = routes;
        l->route_capacity = capacity;
    }
    char *path = mr_strdup(route->path);
    if (path == NULL) {
        return MR_E_NOMEM;
    }
    l->routes[l->route_count] = *route;
    l->routes[l->route_count++].path = path;
    return MR_OK;
}

enum mr_status mr_http_listener_route(struct mr_http_listener *listener,
                                      const struct mr_http_route *route, bool replace)
{
    MR_ASSERT(route->path != NULL && route->path[0] == '/');
    MR_ASSERT(route->handle != NULL);
    pthread_mutex_lock(&listener->mu);
    enum mr_status r = add_route_locked(listener, route, replace);
    pthread_mutex_unlock(&listener->mu);
    return r;
}

void mr_http_listener_unroute(struct mr_http_listener *listener, void *context)
{
    MR_ASSERT(!listener->is_started || !mr__http_on_loop(listener));
    pthread_mutex_lock(&listener->mu);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < listener->route_count; i++) {
        if (listener->routes[i].context != context) {
            listener->routes[kept++] = listener->routes[i];
            continue;
        }
        char *path;
        memcpy(&path, &listener->routes[i].path, sizeof(path)); /* const only for its readers */
        mr_free(path);
    }
    listener->route_count = kept;
    while (listener->running == context) {
        pthread_cond_wait(&listener->idle, &listener->mu);
    }
    pthread_mutex_unlock(&listener->mu);
}

static enum mr_status add_to_epoll(struct mr_http_listener *l, int fd, enum mr__http_poll *poll)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = poll};
    return epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0 ? MR_OK : MR_E_UNAVAILABLE;
}

enum mr_status mr__http_watch(struct mr_http_listener *listener, struct mr__http_watch *watch)
{
    _Static_assert(offsetof(struct mr__http_watch, poll) == 0, "found by its first member");
    MR_ASSERT(watch->queue != NULL && watch->ready != NULL);
    enum mr_status r = MR_OK;
    watch->poll = MR__HTTP_POLL_WATCH;
    watch->is_ready = true; /* a queue that was never taken from wakes nobody */
    watch->wants_end = false;
    pthread_mutex_lock(&listener->mu);
    if (listener->epoll_fd >= 0) {
        r = add_to_epoll(listener, mr_opq_fd(watch->queue), &watch->poll);
    }
    if (r == MR_OK) {
        watch->next = listener->watches;
        listener->watches = watch;
    }
    pthread_mutex_unlock(&listener->mu);
    mr_opq_wake(&listener->ops);
    return r;
}

void mr__http_unwatch(struct mr_http_listener *listener, struct mr__http_watch *watch)
{
    MR_ASSERT(!listener->is_started || !mr__http_on_loop(listener));
    pthread_mutex_lock(&listener->mu);
    struct mr__http_watch **at = &listener->watches;
    while (*at != NULL && *at != watch) {
        at = &(*at)->next;
    }
    if (*at != NULL) {
        *at = watch->next;
        watch->next = NULL;
        if (listener->epoll_fd >= 0) {
            (void)epoll_ctl(listener->epoll_fd, EPOLL_CTL_DEL, mr_opq_fd(watch->queue), NULL);
        }
    }
    while (listener->running == watch) {
        pthread_cond_wait(&listener->idle, &listener->mu);
    }
    pthread_mutex_unlock(&listener->mu);
}

void mr__http_watch_end_of_pass(struct mr__http_watch *watch)
{
    watch->wants_end = true;
}

static void leave_watch_locked(struct mr_http_listener *l)
{
    pthread_mutex_lock(&l->mu);
    l->running = NULL;
    pthread_cond_broadcast(&l->idle);
}

/* Runs what is due of every watch. The list may change while the mutex is released, so each round
 * starts over; what was run is no longer due.
 * @return whether a queue still has something */
static bool run_watches(struct mr_http_listener *l, bool at_end)
{
    bool more = false;
    pthread_mutex_lock(&l->mu);
    struct mr__http_watch *w = l->watches;
    while (w != NULL) {
        bool due = at_end ? w->wants_end : w->is_ready;
        if (!due) {
            w = w->next;
            continue;
        }
        l->running = w;
        w->is_ready = at_end ? w->is_ready : false;
        w->wants_end = at_end ? false : w->wants_end;
        pthread_mutex_unlock(&l->mu);
        bool again = false;
        if (at_end) {
            w->end_of_pass(w->context);
        } else {
            again = w->ready(w->context);
        }
        more = more || again;
        leave_watch_locked(l);
        w = l->watches;
    }
    pthread_mutex_unlock(&l->mu);
    return more;
}

static void mark_watch(struct mr_http_listener *l, const enum mr__http_poll *poll)
{
    pthread_mutex_lock(&l->mu);
    for (struct mr__http_watch *w = l->watches; w != NULL; w = w->next) {
        if (&w->poll == poll) { /* else: taken out since the wait returned */
            w->is_ready = true;
        }
    }
    pthread_mutex_unlock(&l->mu);
}

/* --- the loop --------------------------------------------------------------------------------- */

static void take_ops(struct mr_http_listener *l)
{
    for (struct mr_op *op = mr_opq_take(&l->ops); op != NULL;) {
        while (op != NULL) {
            struct mr_op *next = op->next;
            op->next = NULL;
            mr__http_op(l, op);
            op = next;
        }
        op = mr_opq_take(&l->ops); /* NULL arms the wake-up */
    }
}

static int wait_ms(struct mr_http_listener *l, int ms)
{
    MHD_UNSIGNED_LONG_LONG wanted;
    if (MHD_get_timeout(l->daemon, &wanted) == MHD_YES && wanted < (unsigned)ms) {
        ms = (int)wanted;
    }
    uint64_t sweep_ms = l->sweep_ns <= l->now_ns ? 0 : (l->sweep_ns - l->now_ns) / MR_MS + 1;
    return sweep_ms < (uint64_t)ms ? (int)sweep_ms : ms;
}

/* One pass: wait, take answers, let the library read and write, hand on what came. */
static bool run_pass(struct mr_http_listener *l, int ms)
{
    struct epoll_event events[EVENTS_PER_PASS];
    int count = epoll_wait(l->epoll_fd, events, EVENTS_PER_PASS, wait_ms(l, ms));
    MR_ASSERT(count >= 0 || errno == EINTR);
    l->now_ns = mr_clock_mono_ns();
    bool has_ops = false;
    for (int i = 0; i < count; i++) {
        if ((events[i].data.u64 & MR__HTTP_CONN_BIT) != 0) {
            uintptr_t conn = (uintptr_t)events[i].data.u64 & ~(uintptr_t)MR__HTTP_CONN_BIT;
            mr__http_hangup(l, (struct mr__http_conn *)conn); /* freed only by MHD_run() */
            continue;
        }
        enum mr__http_poll *poll = events[i].data.ptr;
        /* An entry may be gone since the wait returned: it is looked up before it is touched. */
        struct mr__http_linger *linger = mr__http_linger_find(&l->lingers, poll);
        if (poll == &l->ops_poll) {
            has_ops = true;
        } else if (linger != NULL) {
            mr__http_linger_read(&l->lingers, linger);
        } else if (poll != &l->daemon_poll) {
            mark_watch(l, poll);
        }
    }
    if (has_ops) {
        take_ops(l);
    }
    bool more = run_watches(l, false);
    (void)MHD_run(l->daemon); /* fails only for daemons with a thread of their own */
    (void)run_watches(l, true);
    if (l->hangups != NULL) {
        mr__http_check_hangups(l);
    }
    if (l->now_ns >= l->sweep_ns) {
        uint64_t quarter = l->idle_timeout_ns / 4;
        l->sweep_ns = l->now_ns + (quarter < SWEEP_NS_MAX ? quarter : SWEEP_NS_MAX);
        mr__http_sweep(l);
        mr__http_linger_sweep(&l->lingers, l->now_ns);
    }
    return more;
}

/* Mends the flags after a pass that left something in a queue. */
static void mark_all_watches(struct mr_http_listener *l)
{
    pthread_mutex_lock(&l->mu);
    for (struct mr__http_watch *w = l->watches; w != NULL; w = w->next) {
        w->is_ready = true;
    }
    pthread_mutex_unlock(&l->mu);
}

static void close_listening(struct mr_http_listener *l)
{
    (void)MHD_quiesce_daemon(l->daemon); /* returns the descriptor that is ours anyway */
    close(l->listen_fd);
    l->listen_fd = -1;
    if (l->socket_path != NULL) {
        (void)unlink(l->socket_path); /* a stale one is replaced by the next start */
    }
}

static bool has_unsent(const struct mr_http_listener *l)
{
    if (l->sending_count > 0) {
        return true;
    }
    for (const struct mr__http_conn *conn = l->conns; conn != NULL; conn = conn->next) {
        if (conn->detached) {
            return true;
        }
    }
    return false;
}

static void finish(struct mr_http_listener *l)
{
    close_listening(l);
    mr__http_end_streams(l);
    uint64_t deadline_ns = atomic_load_explicit(&l->stop_deadline_ns, memory_order_relaxed);
    while (l->held_count > 0 && l->now_ns < deadline_ns) {
        uint64_t left_ms = (deadline_ns - l->now_ns) / MR_MS + 1;
        if (run_pass(l, left_ms < WAIT_MS_MAX ? (int)left_ms : WAIT_MS_MAX)) {
            mark_all_watches(l);
        }
        mr__http_end_streams(l);
    }
    if (l->held_count > 0) {
        MR_WARN("http", "stopping with %u requests not answered, they get 503", l->held_count);
    }
    mr__http_detach_all(l);
    mr_opq_close(&l->ops);
    take_ops(l);
    for (int i = 0; i < FLUSH_PASSES_MAX && (i < 2 || has_unsent(l)); i++) {
        (void)run_pass(l, FLUSH_WAIT_MS);
    }
    MHD_stop_daemon(l->daemon);
    l->daemon = NULL;
    mr__http_linger_sweep(&l->lingers, UINT64_MAX);
}

static void *run_loop(void *context)
{
    struct mr_http_listener *l = context;
    own_loop = l;
    take_ops(l);
    /* Acquire: pairs with the release in mr_http_listener_stop(). */
    while (!atomic_load_explicit(&l->stopping, memory_order_acquire)) {
        if (run_pass(l, WAIT_MS_MAX)) {
            mark_all_watches(l);
            mr_opq_wake(&l->ops); /* so that the next pass does not wait */
        }
    }
    finish(l);
    return NULL;
}

/* --- start and stop --------------------------------------------------------------------------- */

static enum mr_status start_daemon(struct mr_http_listener *l, struct mr_problem *problem)
{
    unsigned idle_s = (unsigned)(l->idle_timeout_ns / MR_SECOND) + 2; /* behind our own sweep */
    l->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_TURBO, l->port, NULL, NULL,
        mr__http_serve, l, MHD_OPTION_LISTEN_SOCKET, l->listen_fd, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)l->connections_max, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)MR_HTTP_HEADER_SIZE_MAX, MHD_OPTION_CONNECTION_TIMEOUT, idle_s,
        MHD_OPTION_NOTIFY_COMPLETED, mr__http_completed, l, MHD_OPTION_NOTIFY_CONNECTION,
        mr__http_connection, l, MHD_OPTION_STRICT_FOR_CLIENT, 1,
        MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_END);
    if (l->daemon == NULL) {
        return mr_problem_set(problem, MR_E_UNAVAILABLE, "the HTTP library did not start");
    }
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(l->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    if (info == NULL || add_to_epoll(l, info->epoll_fd, &l->daemon_poll) != MR_OK ||
        add_to_epoll(l, mr_opq_fd(&l->ops), &l->ops_poll) != MR_OK) {
        return mr_problem_set(problem, MR_E_UNAVAILABLE, "no epoll for the HTTP listener");
    }
    return MR_OK;
}

static enum mr_status start_thread(struct mr_http_listener *l, struct mr_problem *problem)
{
    /* The thread inherits the mask: no signal is handled there, and a peer that leaves while we
     * write is an error of the write. */
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&l->thread, NULL, run_loop, l);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) {
        return mr_problem_set(problem, MR_E_UNAVAILABLE, "no thread for the HTTP listener: %s",
                              strerror(error));
    }
    /* Only for those who look. */
    (void)pthread_setname_np(l->thread, l->socket_path != NULL ? "http-socket" : "http-listener");
    l->is_started = true;
    return MR_OK;
}

enum mr_status mr_http_listener_start(struct mr_http_listener *listener,
                                      struct mr_problem *problem)
{
    MR_ASSERT(!listener->is_started);
    struct mr_http_listener *l = listener;
    enum mr_status r =
        l->socket_path != NULL
            ? mr_http_socket_listen_unix(l->socket_path, &l->listen_fd, problem)
            : mr_http_socket_listen_tcp(l->host, l->port, &l->listen_fd, &l->port, problem);
    if (r != MR_OK) {
        return r;
    }
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0) {
        r = mr_problem_set(problem, MR_E_UNAVAILABLE, "no epoll for the HTTP listener");
        goto fail;
    }
    l->now_ns = mr_clock_mono_ns();
    l->lingers.epoll_fd = epoll_fd;
    pthread_mutex_lock(&l->mu);
    l->epoll_fd = epoll_fd;
    for (struct mr__http_watch *w = l->watches; w != NULL && r == MR_OK; w = w->next) {
        r = add_to_epoll(l, mr_opq_fd(w->queue), &w->poll);
    }
    pthread_mutex_unlock(&l->mu);
    if (r == MR_OK) {
        r = start_daemon(l, problem);
    }
    if (r == MR_OK) {
        r = start_thread(l, problem);
    }
    if (r == MR_OK) {
        return MR_OK;
    }
fail:
    if (l->daemon != NULL) {
        MHD_stop_daemon(l->daemon);
        l->daemon = NULL;
    }
    close(l->listen_fd);
    l->listen_fd = -1;
    if (l->socket_path != NULL) {
        (void)unlink(l->socket_path); /* ours: it was bound above */
    }
    return r;
}

uint16_t mr_http_listener_port(const struct mr_http_listener *listener)
{
    return listener->port;
}

void mr_http_listener_drain(struct mr_http_listener *listener)
{
    atomic_store_explicit(&listener->draining, true, memory_order_relaxed);
}

void mr_http_listener_stop(struct mr_http_listener *listener, uint64_t deadline_mono_ns)
{
    if (!listener->is_started) {
        return;
    }
    MR_ASSERT(!mr__http_on_loop(listener));
    atomic_store_explicit(&listener->stop_deadline_ns, deadline_mono_ns, memory_order_relaxed);
    atomic_store_explicit(&listener->stopping, true, memory_order_release);
    mr_opq_wake(&listener->ops);
    pthread_join(listener->thread, NULL);
    listener->is_started = false;
}

void mr_http_listener_destroy(struct mr_http_listener *listener)
{
    if (listener == NULL) {
        return;
    }
    mr_http_listener_stop(listener, 0);
    mr__http_listener_unref(listener);
}
