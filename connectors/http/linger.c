#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "connectors/http/internal.h"
#include "core/alloc.h"
#include "core/assert.h"
#include "core/clock.h"
#include "core/limits.h"

enum {
    LINGERS_MAX = 64,
    LINGER_READS_PER_PASS = 16,
    LINGER_CHUNK = 16 * 1024,
};
static const uint64_t LINGER_NS = 2 * MR_SECOND;
static const size_t LINGER_SIZE_MAX = 64u * MR_MIB; /* what a peer on a fast line sends in 2 s */

struct mr__http_linger {
    enum mr__http_poll poll;
    int fd; /* owned */
    uint64_t deadline_ns;
    size_t size;
    struct mr__http_linger *next;
};

void mr__http_linger_add(struct mr__http_lingers *lingers, int fd, uint64_t now_ns)
{
    if (lingers->count >= LINGERS_MAX) {
        return;
    }
    struct mr__http_linger *linger = mr_calloc(1, sizeof(*linger));
    if (linger == NULL) {
        return;
    }
    linger->poll = MR__HTTP_POLL_LINGER;
    linger->deadline_ns = now_ns + LINGER_NS;
    linger->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.ptr = linger};
    if (linger->fd < 0 || shutdown(linger->fd, SHUT_WR) != 0 ||
        epoll_ctl(lingers->epoll_fd, EPOLL_CTL_ADD, linger->fd, &event) != 0) {
        if (linger->fd >= 0) {
            close(linger->fd);
        }
        mr_free(linger);
        return;
    }
    linger->next = lingers->first;
    lingers->first = linger;
    lingers->count++;
}

static void close_linger(struct mr__http_lingers *lingers, struct mr__http_linger *linger)
{
    struct mr__http_linger **at = &lingers->first;
    while (*at != NULL && *at != linger) {
        at = &(*at)->next;
    }
    MR_ASSERT(*at == linger);
    *at = linger->next;
    lingers->count--;
    /* Out of the set explicitly: libmicrohttpd's own descriptor of the socket may still be open,
     * and the entry would live as long as that. */
    (void)epoll_ctl(lingers->epoll_fd, EPOLL_CTL_DEL, linger->fd, NULL);
    close(linger->fd);
    mr_free(linger);
}

struct mr__http_linger *mr__http_linger_find(struct mr__http_lingers *lingers,
                                             const enum mr__http_poll *poll)
{
    struct mr__http_linger *linger = lingers->first;
    while (linger != NULL && &linger->poll != poll) {
        linger = linger->next;
    }
    return linger;
}

void mr__http_linger_read(struct mr__http_lingers *lingers, struct mr__http_linger *linger)
{
    char dropped[LINGER_CHUNK];
    for (int i = 0; i < LINGER_READS_PER_PASS; i++) {
        ssize_t n = recv(linger->fd, dropped, sizeof(dropped), MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            return;
        }
        linger->size += n > 0 ? (size_t)n : 0;
        if (n <= 0 || linger->size > LINGER_SIZE_MAX) {
            close_linger(lingers, linger);
            return;
        }
    }
}

void mr__http_linger_sweep(struct mr__http_lingers *lingers, uint64_t now_ns)
{
    for (struct mr__http_linger *linger = lingers->first; linger != NULL;) {
        struct mr__http_linger *next = linger->next;
        if (linger->deadline_ns <= now_ns) {
            close_linger(lingers, linger);
        }
        linger = next;
    }
}
