/* A peer on the loopback that the test plays by hand: it accepts, writes and reads as it likes. */
#ifndef MR_TESTS_CONTRACT_PEER_H
#define MR_TESTS_CONTRACT_PEER_H

#include "tests/support/test.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/wait.h"

struct peer {
    int listener;
    int conn;
    unsigned port;
};

static inline void peer_open(struct peer *p)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(a);
    p->conn = -1;
    p->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(p->listener >= 0);
    assert_int_equal(bind(p->listener, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(p->listener, 16), 0);
    assert_int_equal(getsockname(p->listener, (struct sockaddr *)&a, &size), 0);
    p->port = ntohs(a.sin_port);
}

static inline bool peer_readable(int fd, int ms)
{
    struct pollfd f = {.fd = fd, .events = POLLIN};
    return poll(&f, 1, ms) == 1;
}

static inline void peer_drop(struct peer *p, bool reset)
{
    const struct linger l = {.l_onoff = 1, .l_linger = 0};
    if (p->conn < 0) {
        return;
    }
    if (reset) {
        setsockopt(p->conn, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
    }
    close(p->conn);
    p->conn = -1;
}

static inline void peer_close(struct peer *p)
{
    peer_drop(p, false);
    close(p->listener);
}

static inline void peer_accept(struct peer *p)
{
    peer_drop(p, false);
    if (!peer_readable(p->listener, DEADLINE_MS)) {
        fail_msg("nobody connected");
    }
    p->conn = accept(p->listener, NULL, NULL);
    assert_true(p->conn >= 0);
}

static inline void peer_write(struct peer *p, const void *bytes, size_t size)
{
    assert_int_equal(send(p->conn, bytes, size, MSG_NOSIGNAL), (ssize_t)size);
}

/* false: the connection ended, or nothing came. */
static inline bool peer_take(struct peer *p, void *to, size_t size)
{
    size_t got = 0;
    while (got < size) {
        ssize_t n = peer_readable(p->conn, DEADLINE_MS)
                        ? recv(p->conn, (uint8_t *)to + got, size - got, 0)
                        : 0;
        if (n <= 0) {
            return false;
        }
        got += (size_t)n;
    }
    return true;
}

#endif
