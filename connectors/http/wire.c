/* The transport of our own: plain HTTP/1.1 with keep-alive to a numeric address or localhost.
 * One connection carries one exchange at a time; connections are as many as exchanges at once. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "connectors/http/reply.h"
#include "connectors/http/transport.h"
#include "core/alloc.h"
#include "core/assert.h"
#include "core/clock.h"

enum {
    EVENTS_PER_RUN = 128,
    READS_PER_EVENT = 8, /* of the scratch buffer, before the others get their turn */
    SCRATCH_SIZE = 64 * 1024,
    HEAD_SIZE_MAX = 512 * 1024,
    HEAD_KEPT_SIZE = 16 * 1024,
};

static const uint64_t CONNECT_NS_DEFAULT = 10 * MR_SECOND;

enum link_state {
    LINK_CLOSED = 0,
    LINK_CONNECTING,
    LINK_BUSY, /* request going out, response coming in */
    LINK_IDLE,
};

/* A connection, or room for one. */
struct link {
    enum link_state state;
    int fd; /* owned; -1 while closed */
    struct mr_http_exchange *x;
    bool is_reused;   /* it carried an exchange before */
    bool is_due;      /* run() looks at it before it waits */
    int open_error;   /* errno of a connection that could not even be tried; 0: none */
    uint32_t address; /* index of the address tried */
    struct mr_buf head;
    size_t sent; /* of head and body together */
    uint64_t deadline_ns;         /* of the exchange */
    uint64_t connect_deadline_ns; /* of the connection; 0 once it is up */
    struct mr_http_reply reply;
    struct link *next; /* among the idle, or the closed */
};

struct wire_transport {
    struct mr_http_transport transport;
    struct mr_http_transport_options options;
    int epoll_fd;                          /* owned */
    bool has_wake;                         /* the caller's descriptor is in the set */
    struct sockaddr_storage addresses[MR__HTTP_ADDRESSES_MAX];
    uint32_t address_count;
    uint32_t address; /* the one that worked last */
    uint64_t connect_timeout_ns;
    struct mr_buf prefix; /* request line, Host, credentials */
    struct link *links;   /* owned; options.capacity of them */
    struct link *idle;    /* last used first */
    struct link *closed;
    uint32_t due_count;
    uint64_t check_ns; /* when the next deadline may be over */
    uint8_t *scratch;  /* owned */
};

static struct wire_transport *own(struct mr_http_transport *transport)
{
    _Static_assert(offsetof(struct wire_transport, transport) == 0, "found by its first member");
    return (struct wire_transport *)(void *)transport;
}

/* --- links ------------------------------------------------------------------------------------ */

static void set_due(struct wire_transport *t, struct link *link, bool due)
{
    if (link->is_due != due) {
        link->is_due = due;
        t->due_count = due ? t->due_count + 1 : t->due_count - 1;
    }
}

static void close_socket(struct link *link)
{
    if (link->fd >= 0) {
        close(link->fd); /* leaves the epoll set with it */
        link->fd = -1;
    }
}

/* The link has no exchange any more; its socket lives on when @p keep. */
static void put_back(struct wire_transport *t, struct link *link, bool keep)
{
    MR_ASSERT(link->x == NULL);
    set_due(t, link, false);
    if (link->head.capacity > HEAD_KEPT_SIZE) {
        mr_buf_release(&link->head);
    }
    if (keep) {
        link->state = LINK_IDLE;
        link->is_reused = true;
        link->next = t->idle;
        t->idle = link;
        return;
    }
    close_socket(link);
    link->state = LINK_CLOSED;
    link->next = t->closed;
    t->closed = link;
}

static void close_idle(struct wire_transport *t, struct link *link)
{
    struct link **at = &t->idle;
    while (*at != link) {
        MR_ASSERT(*at != NULL);
        at = &(*at)->next;
    }
    *at = link->next;
    put_back(t, link, false);
}

static struct mr_http_exchange *take_exchange(struct link *link)
{
    struct mr_http_exchange *x = MR_TAKE(link->x);
    MR_ASSERT(x != NULL);
    x->transfer = NULL;
    return x;
}

static void fail_link(struct wire_transport *t, struct link *link, enum mr_http_failure failure,
                      const char *what, int error)
{
    char text[256];
    struct mr_http_exchange *x = take_exchange(link);
    (void)snprintf(text, sizeof(text), "%s%s%s", what, error != 0 ? ": " : "",
                   error != 0 ? strerror(error) : ""); /* cut is harmless */
    put_back(t, link, false);
    t->options.done(t->options.context, x, &failure, text);
}

static void finish_link(struct wire_transport *t, struct link *link, bool is_clean)
{
    struct mr_http_exchange *x = take_exchange(link);
    bool is_sent = link->sent == link->head.size + x->request_body.size;
    put_back(t, link, link->reply.keep_alive && is_clean && is_sent);
    t->options.done(t->options.context, x, NULL, NULL);
}

/* --- connecting ------------------------------------------------------------------------------- */

/* @return 0, or an errno */
static int open_link(struct wire_transport *t, struct link *link)
{
    const struct sockaddr_storage *to = &t->addresses[link->address];
    link->is_reused = false;
    link->state = LINK_CONNECTING;
    link->fd = socket(to->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (link->fd < 0) {
        return errno;
    }
    int on = 1;
    socklen_t size = to->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                               : sizeof(struct sockaddr_in);
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                .data.ptr = link};
    if (setsockopt(link->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0) {
        return errno;
    }
    if (connect(link->fd, (const struct sockaddr *)to, size) != 0 && errno != EINPROGRESS) {
        return errno;
    }
    /* After the connect: before it the socket counts as hung up. */
    return epoll_ctl(t->epoll_fd, EPOLL_CTL_ADD, link->fd, &event) == 0 ? 0 : errno;
}

/* The connection did not come up: the next address, or the end of it. */
static void fail_connect(struct wire_transport *t, struct link *link, int error)
{
    while (link->address + 1 < t->address_count) {
        link->address++;
        close_socket(link);
        if (open_link(t, link) == 0) {
            return;
        }
    }
    fail_link(t, link, MR_HTTP_NOT_REACHED, "cannot connect", error);
}

static void write_request(struct wire_transport *t, struct link *link);

static void check_connected(struct wire_transport *t, struct link *link)
{
    int error = 0;
    socklen_t size = sizeof(error);
    if (getsockopt(link->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) {
        error = errno;
    }
    if (error != 0) {
        fail_connect(t, link, error);
        return;
    }
    struct sockaddr_storage peer;
    size = sizeof(peer);
    if (getpeername(link->fd, (struct sockaddr *)&peer, &size) != 0) {
        return; /* not yet */
    }
    t->address = link->address;
    link->connect_deadline_ns = 0;
    link->state = LINK_BUSY;
    write_request(t, link);
}

/* --- sending and receiving -------------------------------------------------------------------- */

/* Opens a connection for the link's exchange. */
static void connect_link(struct wire_transport *t, struct link *link, uint64_t now_ns)
{
    link->address = t->address;
    link->connect_deadline_ns = now_ns + t->connect_timeout_ns;
    t->check_ns = link->connect_deadline_ns < t->check_ns ? link->connect_deadline_ns : t->check_ns;
    link->open_error = open_link(t, link);
    set_due(t, link, link->open_error != 0); /* told by run() */
}

/* The connection broke. One that was idle before and gave no answer at all was most likely closed
 * by the peer while we took it. Other clients send the request once more by themselves; here an
 * attempt is handed out at most once, so the bus is told (a crash without suspects costs nothing)
 * and hands out another one at once. */
static void break_link(struct wire_transport *t, struct link *link, const char *what, int error)
{
    bool stale = link->is_reused && !link->reply.any;
    fail_link(t, link, stale ? MR_HTTP_STALE : MR_HTTP_BROKEN, what, error);
}

static void write_request(struct wire_transport *t, struct link *link)
{
    struct mr_bytes body = link->x->request_body;
    size_t size = link->head.size + body.size;
    while (link->sent < size) {
        struct iovec parts[2];
        int count = 0;
        size_t in_body = 0;
        if (link->sent < link->head.size) {
            parts[count++] = (struct iovec){link->head.data + link->sent,
                                            link->head.size - link->sent};
        } else {
            in_body = link->sent - link->head.size;
        }
        if (in_body < body.size) {
            void *from; /* iovec serves reading too, hence not const */
            const uint8_t *at = body.data + in_body;
            memcpy(&from, &at, sizeof(from));
            parts[count++] = (struct iovec){from, body.size - in_body};
        }
        const struct msghdr message = {.msg_iov = parts, .msg_iovlen = (size_t)count};
        ssize_t n = sendmsg(link->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno == EAGAIN) {
            return; /* the next edge of EPOLLOUT comes */
        }
        if (n < 0) {
            /* The peer may have answered before it closed (413 and its like): look first. */
            set_due(t, link, true);
            return;
        }
        link->sent += (size_t)n;
    }
}

/* @return how much was read while the response goes on; 0: nothing now, or the exchange is over */
static size_t read_once(struct wire_transport *t, struct link *link)
{
    ssize_t n;
    do {
        n = recv(link->fd, t->scratch, SCRATCH_SIZE, MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        if (errno != EAGAIN) {
            break_link(t, link, "the connection broke", errno);
        }
        return 0;
    }
    if (n == 0) {
        if (mr_http_reply_end(&link->reply) == MR_HTTP_REPLY_DONE) {
            finish_link(t, link, false);
        } else {
            break_link(t, link, link->reply.broken, 0);
        }
        return 0;
    }
    size_t used = 0;
    switch (mr_http_reply_feed(&link->reply, mr_bytes(t->scratch, (size_t)n), &used)) {
    case MR_HTTP_REPLY_DONE:
        finish_link(t, link, used == (size_t)n);
        return 0;
    case MR_HTTP_REPLY_BROKEN:
        fail_link(t, link, MR_HTTP_BROKEN, link->reply.broken, 0);
        return 0;
    case MR_HTTP_REPLY_MORE:
        break;
    }
    return (size_t)n;
}

/* Reads what there is. @p to_end: the peer is known to have closed, so there will be no further
 * event, and the end itself has to be read. */
static void read_response(struct wire_transport *t, struct link *link, bool to_end)
{
    for (int i = 0; i < READS_PER_EVENT; i++) {
        size_t size = read_once(t, link);
        if (size == 0 || (size < SCRATCH_SIZE && !to_end)) {
            return;
        }
    }
    set_due(t, link, true); /* edge-triggered: nobody calls us back */
}

static void handle_link(struct wire_transport *t, struct link *link, uint32_t events)
{
    const uint32_t to_read = EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR;
    switch (link->state) {
    case LINK_CLOSED:
        return; /* an event from before */
    case LINK_IDLE:
        if ((events & to_read) != 0) {
            close_idle(t, link); /* the peer closed, or speaks unasked */
        }
        return;
    case LINK_CONNECTING:
        check_connected(t, link);
        return;
    case LINK_BUSY:
        break;
    }
    if ((events & EPOLLOUT) != 0 && link->sent < link->head.size + link->x->request_body.size) {
        write_request(t, link);
    }
    if ((events & to_read) != 0) {
        read_response(t, link, (events & (to_read & ~(uint32_t)EPOLLIN)) != 0);
    }
}

/* --- the transport ---------------------------------------------------------------------------- */

static enum mr_status make_head(struct wire_transport *t, struct link *link,
                                const struct mr_http_exchange *x)
{
    struct mr_buf *head = &link->head;
    char length[48];
    (void)snprintf(length, sizeof(length), "Content-Length: %zu\r\n\r\n",
                   x->request_body.size); /* 20 digits at most */
    mr_buf_clear(head);
    enum mr_status r = mr_buf_append_bytes(head, mr_buf_bytes(&t->prefix));
    for (uint32_t i = 0; r == MR_OK && i < x->line_count; i++) {
        size_t end = i + 1 < x->line_count ? x->line_at[i + 1] : x->lines.size;
        r = mr_buf_append(head, x->lines.data + x->line_at[i], end - x->line_at[i] - 1);
        r = r == MR_OK ? mr_buf_append(head, "\r\n", 2) : r;
    }
    return r == MR_OK ? mr_buf_append_text(head, length) : r;
}

/* An idle connection that is still one, or NULL. The look costs a system call for each request, and
 * pays: servers that close behind an answer without saying so are common. */
static struct link *take_idle(struct wire_transport *t)
{
    while (t->idle != NULL) {
        struct link *link = t->idle;
        uint8_t byte;
        t->idle = link->next;
        link->next = NULL;
        ssize_t n = recv(link->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            return link;
        }
        put_back(t, link, false); /* closed, or speaks unasked */
    }
    return NULL;
}

static enum mr_status start_exchange(struct mr_http_transport *transport,
                                     struct mr_http_exchange *x)
{
    struct wire_transport *t = own(transport);
    struct link *link = take_idle(t);
    bool is_new = link == NULL;
    if (is_new) {
        link = t->closed;
        MR_ASSERT(link != NULL);
        t->closed = link->next;
        link->next = NULL;
    }
    enum mr_status r = make_head(t, link, x);
    if (r != MR_OK) {
        put_back(t, link, !is_new);
        return r;
    }
    link->x = x;
    x->transfer = link;
    link->sent = 0;
    uint64_t now_ns = mr_clock_mono_ns();
    link->deadline_ns = now_ns + x->handout->timeout_ns;
    link->connect_deadline_ns = 0;
    mr_http_reply_begin(&link->reply, x);
    t->check_ns = link->deadline_ns < t->check_ns ? link->deadline_ns : t->check_ns;
    if (is_new) {
        connect_link(t, link, now_ns);
    } else {
        link->state = LINK_BUSY;
        write_request(t, link);
    }
    return MR_OK;
}

static void abort_exchange(struct mr_http_transport *transport, struct mr_http_exchange *x)
{
    struct wire_transport *t = own(transport);
    struct link *link = x->transfer;
    (void)take_exchange(link);
    put_back(t, link, false);
}

static void check_deadlines(struct wire_transport *t, uint64_t now_ns)
{
    t->check_ns = UINT64_MAX;
    for (uint32_t i = 0; i < t->options.capacity; i++) {
        struct link *link = &t->links[i];
        if (link->x == NULL) {
            continue;
        }
        if (link->deadline_ns <= now_ns) {
            bool up = link->state == LINK_BUSY;
            fail_link(t, link, up ? MR_HTTP_TIMED_OUT : MR_HTTP_NOT_REACHED,
                      up ? "timed out" : "timed out while connecting", 0);
            continue;
        }
        if (link->connect_deadline_ns != 0 && link->connect_deadline_ns <= now_ns) {
            fail_link(t, link, MR_HTTP_NOT_REACHED, "timed out while connecting", 0);
            continue;
        }
        uint64_t next_ns = link->connect_deadline_ns != 0 &&
                                   link->connect_deadline_ns < link->deadline_ns
                               ? link->connect_deadline_ns
                               : link->deadline_ns;
        t->check_ns = next_ns < t->check_ns ? next_ns : t->check_ns;
    }
}

static void handle_due(struct wire_transport *t)
{
    for (uint32_t i = 0; i < t->options.capacity && t->due_count > 0; i++) {
        struct link *link = &t->links[i];
        if (!link->is_due) {
            continue;
        }
        set_due(t, link, false);
        if (link->state == LINK_CONNECTING) {
            fail_connect(t, link, link->open_error);
        } else if (link->state == LINK_BUSY) {
            read_response(t, link, true);
        }
    }
}

static void run_transport(struct mr_http_transport *transport, int fd, int wait_ms)
{
    struct wire_transport *t = own(transport);
    if (!t->has_wake) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
        t->has_wake = epoll_ctl(t->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
        MR_ASSERT(t->has_wake);
    }
    uint64_t now_ns = mr_clock_mono_ns();
    if (t->due_count > 0 || t->check_ns <= now_ns) {
        wait_ms = 0;
    } else if (t->check_ns != UINT64_MAX && (t->check_ns - now_ns) / MR_MS < (uint64_t)wait_ms) {
        wait_ms = (int)((t->check_ns - now_ns) / MR_MS) + 1;
    }
    struct epoll_event events[EVENTS_PER_RUN];
    int count = epoll_wait(t->epoll_fd, events, EVENTS_PER_RUN, wait_ms);
    MR_ASSERT(count >= 0 || errno == EINTR);
    if (t->due_count > 0) {
        handle_due(t);
    }
    for (int i = 0; i < count; i++) {
        if (events[i].data.ptr != NULL) {
            handle_link(t, events[i].data.ptr, events[i].events);
        }
    }
    now_ns = mr_clock_mono_ns();
    if (t->check_ns <= now_ns) {
        check_deadlines(t, now_ns);
    }
}

static void destroy_transport(struct mr_http_transport *transport)
{
    struct wire_transport *t = own(transport);
    for (uint32_t i = 0; t->links != NULL && i < t->options.capacity; i++) {
        struct link *link = &t->links[i];
        MR_ASSERT(link->x == NULL);
        close_socket(link);
        mr_buf_release(&link->head);
        mr_http_reply_release(&link->reply);
    }
    mr_free(t->links);
    if (t->epoll_fd >= 0) {
        close(t->epoll_fd);
    }
    if (t->prefix.data != NULL) {
        explicit_bzero(t->prefix.data, t->prefix.capacity); /* credentials */
    }
    mr_buf_release(&t->prefix);
    mr_free(t->scratch);
    mr_free(t);
}

/* --- making one ------------------------------------------------------------------------------- */

enum mr_status mr_http_wire_create(const struct mr_http_transport_options *options,
                                   struct mr_http_transport **ret_transport,
                                   struct mr_problem *problem)
{
    static const struct mr_http_transport_ops ops = {.start = start_exchange,
                                                     .abort = abort_exchange,
                                                     .run = run_transport,
                                                     .destroy = destroy_transport};
    MR_ASSERT(mr_http_wire_fits(options->options));
    struct wire_transport *t = mr_calloc(1, sizeof(*t));
    if (t == NULL) {
        return mr_problem_set(problem, MR_E_NOMEM, "out of memory");
    }
    t->transport.ops = &ops;
    t->options = *options;
    t->check_ns = UINT64_MAX;
    t->connect_timeout_ns = options->options->connect_timeout_ns == 0
                                ? CONNECT_NS_DEFAULT
                                : options->options->connect_timeout_ns;
    t->address_count = mr__http_wire_addresses(options->options->url, t->addresses);
    mr_buf_init(&t->prefix, HEAD_SIZE_MAX);
    t->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    t->scratch = mr_alloc(SCRATCH_SIZE);
    t->links = mr_calloc(options->capacity, sizeof(*t->links));
    for (uint32_t i = 0; t->links != NULL && i < options->capacity; i++) {
        struct link *link = &t->links[i];
        link->fd = -1;
        mr_buf_init(&link->head, HEAD_SIZE_MAX);
        mr_http_reply_init(&link->reply);
        link->next = t->closed;
        t->closed = link;
    }
    if (t->epoll_fd < 0 || t->scratch == NULL || t->links == NULL ||
        mr__http_wire_prefix(options->options->url, &t->prefix) != MR_OK) {
        destroy_transport(&t->transport);
        return mr_problem_set(problem, MR_E_NOMEM, "the HTTP client did not start");
    }
    *ret_transport = &t->transport;
    return MR_OK;
}
