/* The listener's connections: what is known of each beside libmicrohttpd, and which have to end. */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "connectors/http/internal.h"
#include "connectors/http/socket.h"
#include "core/alloc.h"
#include "core/assert.h"

struct mr__http_conn *mr__http_conn_of(struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info == NULL ? NULL : info->socket_context;
}

static void open_conn(struct mr_http_listener *l, struct MHD_Connection *mhd, void **ret_conn)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct mr__http_conn *conn = info == NULL ? NULL : mr_calloc(1, sizeof(*conn));
    if (conn == NULL) {
        return; /* serve() refuses a connection without one */
    }
    conn->mhd = mhd;
    conn->fd = info->connect_fd;
    conn->deadline_ns = l->now_ns + l->idle_timeout_ns;
    if (l->socket_path != NULL && !mr_http_socket_peer_allowed(conn->fd)) {
        conn->denied = true;
        (void)shutdown(conn->fd, SHUT_RDWR); /* the library sees the end and closes */
    }
    /* Fails for want of memory only: then the idle timeout ends what hangs. */
    struct epoll_event event = {.events = EPOLLRDHUP | EPOLLET,
                                .data.u64 = (uintptr_t)conn | MR__HTTP_CONN_BIT};
    (void)epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, conn->fd, &event);
    conn->next = l->conns;
    if (l->conns != NULL) {
        l->conns->prev = conn;
    }
    l->conns = conn;
    *ret_conn = conn;
}

static void unlist_hangup(struct mr_http_listener *l, struct mr__http_conn *conn)
{
    struct mr__http_conn **at = &l->hangups;
    while (conn->is_listed && *at != conn) {
        MR_ASSERT(*at != NULL);
        at = &(*at)->next_hangup;
    }
    if (conn->is_listed) {
        *at = conn->next_hangup;
        conn->is_listed = false;
    }
}

static void close_conn(struct mr_http_listener *l, struct mr__http_conn *conn)
{
    unlist_hangup(l, conn);
    /* Explicitly: a lingering duplicate would keep the entry in the set. */
    (void)epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, conn->fd, NULL);
    if (conn->linger) {
        mr__http_linger_add(&l->lingers, conn->fd, l->now_ns);
    }
    if (conn->prev != NULL) {
        conn->prev->next = conn->next;
    } else {
        l->conns = conn->next;
    }
    if (conn->next != NULL) {
        conn->next->prev = conn->prev;
    }
    mr_free(conn);
}

void mr__http_connection(void *listener, struct MHD_Connection *mhd, void **conn,
                         enum MHD_ConnectionNotificationCode what)
{
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        open_conn(listener, mhd, conn);
    } else if (*conn != NULL) {
        close_conn(listener, *conn);
        *conn = NULL;
    }
}

void mr__http_sweep(struct mr_http_listener *l)
{
    for (struct mr__http_conn *conn = l->conns; conn != NULL; conn = conn->next) {
        if (conn->deadline_ns != 0 && conn->deadline_ns <= l->now_ns) {
            (void)shutdown(conn->fd, SHUT_RDWR); /* fails only when it is shut already */
            conn->deadline_ns = 0;
        }
    }
}

void mr__http_hangup(struct mr_http_listener *l, struct mr__http_conn *conn)
{
    conn->half_closed = true;
    if (!conn->is_listed) {
        conn->is_listed = true;
        conn->next_hangup = l->hangups;
        l->hangups = conn;
    }
}

/* Whether nothing happens on @p conn before more bytes come. A peer that closed its side behind a
 * whole request waits for the answer, and gets it. */
static bool waits_for_bytes(const struct mr__http_conn *conn)
{
    const struct mr_http_request *request = conn->request;
    return !conn->detached &&
           (request == NULL || request->phase == MR__HTTP_READING ||
            (request->phase == MR__HTTP_ANSWERED && request->is_discarding));
}

void mr__http_check_hangups(struct mr_http_listener *l)
{
    struct mr__http_conn *conn = MR_TAKE(l->hangups);
    while (conn != NULL) {
        struct mr__http_conn *next = conn->next_hangup;
        conn->is_listed = false;
        if (conn->is_fresh) { /* the library may hold a further request */
            conn->is_fresh = false;
            mr__http_hangup(l, conn);
        } else if (waits_for_bytes(conn)) {
            uint8_t byte;
            ssize_t n = recv(conn->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
            if (n > 0) {
                mr__http_hangup(l, conn); /* there is something to read before the end */
            } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
                (void)shutdown(conn->fd, SHUT_RDWR); /* the library sees this edge, and closes */
            }
        }
        conn = next;
    }
}
