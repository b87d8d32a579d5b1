/* A raw HTTP client for tests: a socket, bytes out, bytes in, every wait with a deadline. */
#ifndef MR_TESTS_CONTRACT_HTTP_WIRE_H
#define MR_TESTS_CONTRACT_HTTP_WIRE_H

#include "tests/support/test.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/clock.h"

enum { WIRE_SIZE_MAX = 4 * 1024 * 1024, WIRE_WAIT_MS = 20000 };

struct wire {
    int fd;
    char *in; /* all that came and was not consumed, NUL-terminated */
    size_t size;
    bool eof;
    bool reset;
};

static inline struct wire wire_of(int fd)
{
    struct wire w = {.fd = fd, .in = malloc(WIRE_SIZE_MAX + 1)};
    assert_true(fd >= 0);
    assert_non_null(w.in);
    w.in[0] = '\0';
    return w;
}

static inline struct wire wire_connect(uint16_t port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    return wire_of(fd);
}

static inline void wire_close(struct wire *w)
{
    if (w->fd >= 0) {
        close(w->fd);
    }
    free(w->in);
    *w = (struct wire){.fd = -1};
}

/* @return false when the peer closed before all was sent */
static inline bool wire_send_bytes(struct wire *w, const void *data, size_t size)
{
    const char *at = data;
    while (size > 0) {
        ssize_t n = send(w->fd, at, size, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        at += n;
        size -= (size_t)n;
    }
    return true;
}

static inline bool wire_send(struct wire *w, const char *text)
{
    return wire_send_bytes(w, text, strlen(text));
}

/* Reads what comes next. @return false at the end, on a reset, or when nothing came in time */
static inline bool wire_fill(struct wire *w, int wait_ms)
{
    struct pollfd p = {.fd = w->fd, .events = POLLIN};
    if (w->eof || w->size >= WIRE_SIZE_MAX || poll(&p, 1, wait_ms) <= 0) {
        return false;
    }
    ssize_t n = recv(w->fd, w->in + w->size, WIRE_SIZE_MAX - w->size, 0);
    if (n <= 0) {
        w->eof = true;
        w->reset = n < 0;
        return false;
    }
    w->size += (size_t)n;
    w->in[w->size] = '\0';
    return true;
}

/* @return whether @p text came */
static inline bool wire_wait(struct wire *w, const char *text)
{
    while (strstr(w->in, text) == NULL) {
        if (!wire_fill(w, WIRE_WAIT_MS)) {
            return false;
        }
    }
    return true;
}

/* Whether the peer closes in time. */
static inline bool wire_wait_end(struct wire *w)
{
    while (wire_fill(w, WIRE_WAIT_MS)) {
    }
    return w->eof;
}

static inline void wire_drop(struct wire *w, size_t size)
{
    memmove(w->in, w->in + size, w->size - size + 1);
    w->size -= size;
}

struct wire_response {
    int status; /* 0: none came */
    char head[8192];
    char *body; /* owned: wire_response_release() */
    size_t body_size;
};

static inline void wire_response_release(struct wire_response *r)
{
    free(r->body);
    r->body = NULL;
}

/* The next response with a Content-Length (or none), consumed from the buffer. */
static inline struct wire_response wire_response(struct wire *w)
{
    struct wire_response r = {0};
    if (!wire_wait(w, "\r\n\r\n")) {
        return r;
    }
    size_t head = (size_t)(strstr(w->in, "\r\n\r\n") - w->in) + 4;
    assert_true(head < sizeof(r.head));
    memcpy(r.head, w->in, head);
    const char *length = strcasestr(r.head, "\r\ncontent-length:");
    size_t size = length == NULL ? 0 : strtoul(length + 17, NULL, 10);
    while (w->size < head + size) {
        if (!wire_fill(w, WIRE_WAIT_MS)) {
            return r;
        }
    }
    r.status = (int)strtol(r.head + 9, NULL, 10);
    r.body = malloc(size + 1);
    assert_non_null(r.body);
    memcpy(r.body, w->in + head, size);
    r.body[size] = '\0';
    r.body_size = size;
    wire_drop(w, head + size);
    return r;
}

/* Asks and checks the status; what the body must hold may be NULL. */
static inline void wire_expect(struct wire *w, int status, const char *in_body)
{
    struct wire_response r = wire_response(w);
    assert_int_equal(r.status, status);
    if (in_body != NULL) {
        assert_non_null(strstr(r.body, in_body));
    }
    wire_response_release(&r);
}

#endif
