/* What the listener's files and the HTTP source share and nobody else sees: the request, the
 * connection, and the hooks into the listener's loop.
 *
 * Fields are of the loop thread unless a comment says otherwise. */
#ifndef MR_CONNECTORS_HTTP_INTERNAL_H
#define MR_CONNECTORS_HTTP_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#include <microhttpd.h>

#include "connectors/http/listener.h"

/* --- hooks into the loop ---------------------------------------------------------------------- */

/* What an entry of the loop's epoll set is; first member of everything registered there. */
enum mr__http_poll {
    MR__HTTP_POLL_DAEMON = 1, /* libmicrohttpd's own epoll descriptor */
    MR__HTTP_POLL_OPS,        /* answers from other threads */
    MR__HTTP_POLL_WATCH,
    MR__HTTP_POLL_LINGER,
};

/* Connections stand in the loop's epoll set beside libmicrohttpd's, for the end of the peer's data
 * alone: their entry is the connection's address with this bit. libmicrohttpd is edge-triggered and
 * stops reading at a short read, so that an end which came together with the last bytes is never
 * seen by it. */
#define MR__HTTP_CONN_BIT 1u

/* A queue drained on the listener's thread, so that its owner needs no thread. Embedded in the
 * owner; `queue`, the callbacks and `context` are set before mr__http_watch(). */
struct mr__http_watch {
    enum mr__http_poll poll;
    struct mr_opq *queue; /* borrowed */
    /* Takes from the queue. Returns true when it stopped before mr_opq_take() gave NULL. */
    bool (*ready)(void *context);
    /* Called at the end of the loop pass in which mr__http_watch_end_of_pass() was called: the
     * place to hand on together what the requests of one pass brought. */
    void (*end_of_pass)(void *context);
    void *context;
    bool is_ready;
    bool wants_end;
    struct mr__http_watch *next; /* under the listener's mu */
};

/** Registers @p watch; its ready() is called soon, and then whenever the queue wakes its consumer.
 * @thread any but the listener's own */
MR_MUST_USE enum mr_status mr__http_watch(struct mr_http_listener *listener,
                                          struct mr__http_watch *watch);
/** Takes @p watch out; when it returns no callback of it runs, and the caller is the consumer of
 * the queue. No-op when it is not registered. @thread any but the listener's own */
void mr__http_unwatch(struct mr_http_listener *listener, struct mr__http_watch *watch);
/** Asks for end_of_pass() once in this pass. @thread the listener's */
void mr__http_watch_end_of_pass(struct mr__http_watch *watch);

/* --- requests --------------------------------------------------------------------------------- */

enum mr__http_phase {
    MR__HTTP_READING = 1, /* the body arrives */
    MR__HTTP_HANDLING,    /* the handler runs */
    MR__HTTP_KEPT,        /* connection suspended; the owner has the request */
    MR__HTTP_ANSWERED,    /* response set, to be given to libmicrohttpd at its next call */
    MR__HTTP_SENDING,     /* libmicrohttpd has the response */
};

/* One connection; libmicrohttpd's socket context. */
struct mr__http_conn {
    struct MHD_Connection *mhd;
    int fd;               /* borrowed from libmicrohttpd */
    uint64_t deadline_ns; /* progress time at which it is shut down; 0: none */
    bool denied;          /* peer of another user */
    bool detached;        /* its request was taken away: 503, see mr__http_detach_all() */
    bool linger;          /* answered before the body was read: read on a little after the close */
    bool half_closed;     /* the peer sends no more */
    bool is_listed;       /* among the hangups */
    bool is_fresh;        /* its request ended in this pass: looked at in the next */
    struct mr_http_request *request; /* under way, or NULL */
    struct mr__http_conn *next_hangup;
    struct mr__http_conn *prev;
    struct mr__http_conn *next;
};

struct mr__http_stream {
    pthread_mutex_t mu; /* protects all below */
    struct mr_buf buffer;
    size_t at;     /* what lies before it was sent */
    bool ended;    /* the owner is done */
    bool gone;     /* the connection is */
    bool dropped;  /* the reader was too slow */
    bool notified; /* op is in the listener's queue */
};

struct mr_http_request {
    struct mr_op op; /* enum request_op; in the listener's queue: owned by it until taken */
    struct mr_http_listener *listener; /* shared: outlives the request */
    struct mr__http_conn *conn;        /* borrowed; NULL once detached or completed */
    enum mr__http_phase phase;
    enum mr_http_method method;
    bool has_body;
    bool is_detached;  /* see mr__http_detach_all() */
    bool is_completed; /* libmicrohttpd is done with it */
    bool is_suspended;
    bool is_streaming;  /* libmicrohttpd asks for the stream's content */
    bool is_discarding; /* answered at its header: the body is dropped as it comes */
    bool is_stream;     /* of whoever has the request */
    const char *path;
    size_t size_max;    /* of the body */
    struct mr_buf body;
    size_t body_counted; /* of its capacity, in the listener's body_size */
    struct mr_buf text; /* copies of path, fields and arguments while kept */
    struct mr_field *fields; /* owned: header_capacity entries */
    uint32_t header_count;
    uint32_t field_capacity;
    bool headers_known;
    struct mr_field *args; /* owned */
    uint32_t arg_count;
    uint32_t arg_capacity;
    bool args_known;
    void *context;
    /* Set by whoever answers, read by the loop once the op arrived. */
    struct MHD_Response *response; /* owned */
    unsigned status;
    struct mr__http_stream stream;
    struct mr_http_request *prev; /* among the held, or next alone in the pool */
    struct mr_http_request *next;
};

enum mr__http_op {
    MR__HTTP_OP_ANSWER = 1,
    MR__HTTP_OP_STREAM, /* begun, written, ended or dropped */
};

/** A request with @p listener set and everything else empty; NULL when memory is short. */
struct mr_http_request *mr__http_request_create(struct mr_http_listener *listener);
/** Makes @p request new for the next one; memory of ordinary size stays. */
void mr__http_request_clear(struct mr_http_request *request);
void mr__http_request_destroy(struct mr_http_request *request);
/** Copies path, headers and arguments out of the connection, for a request that is kept. */
MR_MUST_USE enum mr_status mr__http_request_own_fields(struct mr_http_request *request);
/** The owner needs neither body nor fields any more: frees what is large. @thread the listener's,
 * from the handler */
void mr__http_request_forget(struct mr_http_request *request);
/** Another limit for the body of this request; from admit(). */
void mr__http_request_limit(struct mr_http_request *request, size_t size_max);
/** A response made of @p answer, or NULL when memory is short. @thread any */
struct MHD_Response *mr__http_response(const struct mr_http_answer *answer);
/** Answers with {"error": @p text} and, unless 0, Retry-After. @thread any */
void mr__http_answer_error(struct mr_http_request *request, unsigned status, const char *text,
                           unsigned retry_after_s);
/** The content reader of a stream (libmicrohttpd's callback). */
ssize_t mr__http_stream_read(void *request, uint64_t position, char *to, size_t size_max);

/* --- lingering close -------------------------------------------------------------------------- */

/* Sockets that were answered before their request was read to its end. Closed at once, the kernel
 * would answer the rest of the request with a reset, which may overtake the answer; so they are
 * read and dropped until the peer closes, for a moment and within bounds. */
struct mr__http_lingers {
    struct mr__http_linger *first; /* owned */
    uint32_t count;
    int epoll_fd; /* borrowed */
};

/** The entry of @p poll among @p lingers, or NULL when it is none of them. */
struct mr__http_linger *mr__http_linger_find(struct mr__http_lingers *lingers,
                                             const enum mr__http_poll *poll);
/** Takes a duplicate of @p fd and reads it off. Does nothing when there are too many. */
void mr__http_linger_add(struct mr__http_lingers *lingers, int fd, uint64_t now_ns);
/** Something arrived. */
void mr__http_linger_read(struct mr__http_lingers *lingers, struct mr__http_linger *linger);
/** Closes those whose time is over, or all when @p now_ns is UINT64_MAX. */
void mr__http_linger_sweep(struct mr__http_lingers *lingers, uint64_t now_ns);

/* --- the listener ----------------------------------------------------------------------------- */

struct mr_http_listener {
    char *host;        /* owned; NULL: Unix socket */
    char *socket_path; /* owned; NULL: TCP */
    uint16_t port;     /* wanted, then bound */
    uint32_t connections_max;
    uint64_t idle_timeout_ns;
    _Atomic uint32_t refs; /* the owner's, one per detached request, one per call in flight */
    bool has_ops;          /* `ops` is initialised */
    bool has_locks;
    int epoll_fd;  /* owned */
    int listen_fd; /* owned; libmicrohttpd uses it, we close it */
    struct MHD_Daemon *daemon;
    pthread_t thread;
    bool is_started; /* control thread */
    struct mr_opq ops;
    enum mr__http_poll daemon_poll;
    enum mr__http_poll ops_poll;
    _Atomic bool draining;             /* relaxed; set once */
    _Atomic bool stopping;             /* release/acquire; set once */
    _Atomic uint64_t stop_deadline_ns; /* set before `stopping` */

    pthread_mutex_t mu; /* protects routes, watches, running */
    pthread_cond_t idle; /* `running` became NULL */
    struct mr_http_route *routes; /* owned, each path owned */
    uint32_t route_count;
    uint32_t route_capacity;
    struct mr__http_watch *watches;
    const void *running; /* the context whose callback runs now */

    /* The loop's own. */
    uint64_t now_ns;
    uint64_t sweep_ns; /* when connections are next looked over */
    struct mr__http_conn *conns;
    struct mr__http_conn *hangups; /* half-closed, to be looked at; linked by next_hangup */
    struct mr_http_request *held; /* with their owners: suspended or streaming */
    uint32_t held_count;          /* those among them that are no streams */
    uint32_t sending_count;       /* responses libmicrohttpd has and has not finished */
    struct mr_http_request *pool; /* owned; linked by next */
    uint32_t pool_count;
    size_t body_size; /* capacity of all body buffers */
    struct mr__http_lingers lingers;
};

void mr__http_listener_ref(struct mr_http_listener *listener);
void mr__http_listener_unref(struct mr_http_listener *listener);
bool mr__http_on_loop(const struct mr_http_listener *listener);

/* conn.c */
/** What is known of @p mhd; NULL when there was no memory for it. */
struct mr__http_conn *mr__http_conn_of(struct MHD_Connection *mhd);
void mr__http_connection(void *listener, struct MHD_Connection *mhd, void **conn,
                         enum MHD_ConnectionNotificationCode what);
/** Shuts down connections whose time is over. */
void mr__http_sweep(struct mr_http_listener *listener);
/** The peer of @p conn closed its side. */
void mr__http_hangup(struct mr_http_listener *listener, struct mr__http_conn *conn);
/** Shuts down connections from which the rest of a request will never come. */
void mr__http_check_hangups(struct mr_http_listener *listener);

/* serve.c: libmicrohttpd's callbacks, and what the loop does with requests. */
enum MHD_Result mr__http_serve(void *listener, struct MHD_Connection *mhd, const char *path,
                               const char *method, const char *version, const char *data,
                               size_t *data_size, void **request);
void mr__http_completed(void *listener, struct MHD_Connection *mhd, void **request,
                        enum MHD_RequestTerminationCode how);
/** An answer or news of a stream arrived. */
void mr__http_op(struct mr_http_listener *listener, struct mr_op *op);
/** Tells every stream that it is over. */
void mr__http_end_streams(struct mr_http_listener *listener);
/** Takes every held request from its connection, which gets 503; the owners keep the rest and free
 * it with their last call. Before the queue is closed: what they push until then still comes to
 * mr__http_op(), and what they push afterwards finds a request the loop never touches again. */
void mr__http_detach_all(struct mr_http_listener *listener);

/** The response of @p request is set: sends it on its way. @thread any; the request is gone */
void mr__http_answered(struct mr_http_request *request);
/** Tells the loop about a stream. The caller set `notified`. @return MR_E_CLOSED: the loop is gone
 * and the op was not queued. @thread any */
MR_MUST_USE enum mr_status mr__http_stream_notify(struct mr_http_request *request);
/** The owner's last act on a stream whose loop is gone. @thread any */
void mr__http_stream_abandon(struct mr_http_request *request);
/** Suspends the connection of @p request. */
void mr__http_suspend(struct mr_http_request *request);

#endif
