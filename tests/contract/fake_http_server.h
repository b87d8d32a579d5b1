/* An HTTP server for the client's tests that does as it is told, which may be nothing good: each
 * request is met with the next step of a script (the last step repeats). One thread a connection. */
#ifndef MR_TESTS_CONTRACT_FAKE_HTTP_SERVER_H
#define MR_TESTS_CONTRACT_FAKE_HTTP_SERVER_H

#include <pthread.h>
#include <stdbool.h>

#include "tests/contract/http_wire.h"

enum fake_action {
    FAKE_SEND = 0,   /* the text as it is, then go on */
    FAKE_SEND_CLOSE, /* the text, then close */
    FAKE_RESET,      /* answer with a reset */
    FAKE_STALL,      /* the text (or nothing), then silence until the test ends */
    FAKE_BIG,        /* 200 with a body of `size` bytes */
    FAKE_BYTEWISE,   /* the text, one byte a segment */
};

struct fake_step {
    enum fake_action action;
    const char *text;
    size_t size;
};

enum { FAKE_CONNECTIONS_MAX = 512 };

struct fake_server {
    int listen_fd;
    uint16_t port;
    pthread_t thread;
    pthread_mutex_t mu; /* protects all below */
    pthread_cond_t changed;
    const struct fake_step *steps;
    uint32_t step_count;
    uint32_t requests;
    uint32_t connections;
    bool stopping;
    char last[16384]; /* the last request, NUL-terminated */
    int fds[FAKE_CONNECTIONS_MAX];
    pthread_t threads[FAKE_CONNECTIONS_MAX];
};

struct fake_connection {
    struct fake_server *server;
    uint32_t index;
    int fd;
};

/* The step for a request that has come, recorded. */
static inline struct fake_step fake_take_step(struct fake_server *s, const struct wire *w,
                                              size_t size)
{
    pthread_mutex_lock(&s->mu);
    size_t kept = size < sizeof(s->last) - 1 ? size : sizeof(s->last) - 1;
    memcpy(s->last, w->in, kept);
    s->last[kept] = '\0';
    uint32_t at = s->requests < s->step_count ? s->requests : s->step_count - 1;
    struct fake_step step = s->steps[at];
    s->requests++;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->mu);
    return step;
}

/* @return whether the connection goes on */
static inline bool fake_do_step(struct fake_server *s, struct wire *w, const struct fake_step *step)
{
    const char *text = step->text == NULL ? "" : step->text;
    char head[128];
    switch (step->action) {
    case FAKE_SEND:
        return wire_send(w, text);
    case FAKE_SEND_CLOSE:
        (void)wire_send(w, text);
        return false;
    case FAKE_RESET: {
        const struct linger reset = {.l_onoff = 1};
        setsockopt(w->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
        return false;
    }
    case FAKE_STALL:
        (void)wire_send(w, text);
        pthread_mutex_lock(&s->mu);
        while (!s->stopping) {
            pthread_cond_wait(&s->changed, &s->mu);
        }
        pthread_mutex_unlock(&s->mu);
        return false;
    case FAKE_BIG: {
        static const char filler[65536] = {0};
        snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", step->size);
        bool ok = wire_send(w, head);
        for (size_t sent = 0; ok && sent < step->size; sent += sizeof(filler)) {
            size_t n = step->size - sent < sizeof(filler) ? step->size - sent : sizeof(filler);
            ok = wire_send_bytes(w, filler, n);
        }
        return ok;
    }
    case FAKE_BYTEWISE: {
        int on = 1;
        setsockopt(w->fd, IPPROTO_TCP, 1 /* TCP_NODELAY */, &on, sizeof(on));
        bool ok = true;
        for (const char *c = text; ok && *c != '\0'; c++) {
            ok = wire_send_bytes(w, c, 1);
        }
        return ok;
    }
    }
    return false;
}

static inline void *fake_serve(void *context)
{
    struct fake_connection *c = context;
    struct fake_server *s = c->server;
    struct wire w = wire_of(c->fd);
    for (;;) {
        const char *end;
        while ((end = strstr(w.in, "\r\n\r\n")) == NULL && wire_fill(&w, -1)) {
        }
        if (end == NULL) {
            break;
        }
        size_t size = (size_t)(end - w.in) + 4;
        const char *length = strcasestr(w.in, "\r\ncontent-length:");
        size += length == NULL || length > end ? 0 : strtoul(length + 17, NULL, 10);
        while (w.size < size && wire_fill(&w, -1)) {
        }
        if (w.size < size) {
            break;
        }
        struct fake_step step = fake_take_step(s, &w, size);
        wire_drop(&w, size);
        if (!fake_do_step(s, &w, &step)) {
            break;
        }
    }
    pthread_mutex_lock(&s->mu);
    s->fds[c->index] = -1;
    wire_close(&w);
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->mu);
    free(c);
    return NULL;
}

static inline void *fake_accept(void *context)
{
    struct fake_server *s = context;
    for (;;) {
        int fd = accept(s->listen_fd, NULL, NULL);
        if (fd < 0) {
            return NULL;
        }
        pthread_mutex_lock(&s->mu);
        if (s->stopping || s->connections == FAKE_CONNECTIONS_MAX) {
            close(fd);
        } else {
            struct fake_connection *c = malloc(sizeof(*c));
            *c = (struct fake_connection){s, s->connections, fd};
            s->fds[s->connections] = fd;
            pthread_create(&s->threads[s->connections], NULL, fake_serve, c);
            s->connections++;
        }
        pthread_mutex_unlock(&s->mu);
    }
}

static inline void fake_server_start(struct fake_server *s)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(at);
    memset(s, 0, sizeof(*s));
    pthread_mutex_init(&s->mu, NULL);
    pthread_cond_init(&s->changed, NULL);
    s->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(s->listen_fd, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(s->listen_fd, 512), 0);
    assert_int_equal(getsockname(s->listen_fd, (struct sockaddr *)&at, &size), 0);
    s->port = ntohs(at.sin_port);
    assert_int_equal(pthread_create(&s->thread, NULL, fake_accept, s), 0);
}

static inline void fake_server_script(struct fake_server *s, const struct fake_step *steps,
                                      uint32_t count)
{
    pthread_mutex_lock(&s->mu);
    s->steps = steps;
    s->step_count = count;
    s->requests = 0;
    pthread_mutex_unlock(&s->mu);
}

static inline void fake_server_wait(struct fake_server *s, uint32_t requests)
{
    pthread_mutex_lock(&s->mu);
    while (s->requests < requests) {
        pthread_cond_wait(&s->changed, &s->mu);
    }
    pthread_mutex_unlock(&s->mu);
}

/* Waits until the server has closed every connection. */
static inline void fake_server_wait_closed(struct fake_server *s)
{
    pthread_mutex_lock(&s->mu);
    for (uint32_t i = 0; i < s->connections; i++) {
        while (s->fds[i] >= 0) {
            pthread_cond_wait(&s->changed, &s->mu);
        }
    }
    pthread_mutex_unlock(&s->mu);
}

static inline void fake_server_stop(struct fake_server *s)
{
    pthread_mutex_lock(&s->mu);
    s->stopping = true;
    pthread_cond_broadcast(&s->changed);
    for (uint32_t i = 0; i < s->connections; i++) {
        if (s->fds[i] >= 0) {
            shutdown(s->fds[i], SHUT_RDWR);
        }
    }
    pthread_mutex_unlock(&s->mu);
    shutdown(s->listen_fd, SHUT_RDWR);
    pthread_join(s->thread, NULL);
    close(s->listen_fd);
    for (uint32_t i = 0; i < s->connections; i++) {
        pthread_join(s->threads[i], NULL);
    }
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->mu);
}

#endif
