/* One connection to a broker with one channel, on rabbitmq-c. Owned by one thread, but for
 * mr__amqp_link_await().
 *
 * The library's own consume call has a time limit for the first frame of a message only, so frames
 * are read one by one (mr__amqp_link_read) and the socket is polled by whoever owns the loop.
 * Opening blocks, with a limit for each step. Sending blocks while the peer takes nothing: the
 * kernel gives such a connection up after two heartbeats (TCP_USER_TIMEOUT), the stop of its owner
 * at its deadline. Any error ends the connection; there is no half-working one. */
#ifndef MR_CONNECTORS_AMQP_LINK_H
#define MR_CONNECTORS_AMQP_LINK_H

#include <poll.h>
#include <pthread.h>
#include <amqp.h>
#include <amqp_framing.h>

#include "connectors/amqp/amqp.h"

#define MR_AMQP_CHANNEL 1

struct mr_amqp_link {
    const struct mr_amqp_peer_options *options; /* borrowed: outlives the link */
    char name[2 * MR_NAME_SIZE_MAX];            /* shown by the broker as the connection's name */
    char vhost[MR_AMQP_VHOST_SIZE_MAX];
    amqp_connection_state_t conn; /* owned; NULL while down */
    int fd;                       /* conn's */
    uint64_t opened_ns;
    uint64_t beat_ns;             /* when we last made sure that the peer hears of us */
    uint64_t heartbeat_ns;        /* as agreed; 0: none */
    uint32_t frame_max;
    bool blocked;                 /* the broker takes no messages now */
    uint16_t close_code;          /* of the broker's channel.close, else 0 */
    char error[MR_ERROR_TEXT_MAX]; /* why it went down; "" when we wanted it */

    pthread_mutex_t mu; /* protects all below */
    pthread_cond_t over_changed;
    int cut_fd; /* owned duplicate of the socket, -1 while down */
    bool cut;   /* no connection is wanted any more */
    bool over;  /* the owner's loop has ended */
};

MR_MUST_USE enum mr_status mr__amqp_link_init(struct mr_amqp_link *link,
                                              const struct mr_amqp_peer_options *options,
                                              const char *kind, const char *name,
                                              struct mr_problem *problem);
void mr__amqp_link_release(struct mr_amqp_link *link); /* after the close */

/** Connects, logs in, opens the channel. @return false: link->error says why; it is down
 * @blocks 20 s at most, without the resolver's time */
MR_MUST_USE bool mr__amqp_link_open(struct mr_amqp_link *link);
/** @param polite with a connection.close; nothing may be on its way to us any more then
 * @blocks 2 s at most */
void mr__amqp_link_close(struct mr_amqp_link *link, bool polite);
/** Closes with @p format as the error. */
void mr__amqp_link_fail(struct mr_amqp_link *link, const char *format, ...) MR_PRINTF(2, 3);

/** After one of the library's blocking calls. @return false: @p what failed, the link is closed */
MR_MUST_USE bool mr__amqp_link_check(struct mr_amqp_link *link, amqp_rpc_reply_t reply,
                                     const char *what);

/** One frame of the channel. What concerns the connection is dealt with inside.
 * @return 1; 0 when there is none now; -1: the link is closed, link->error says why */
MR_MUST_USE int mr__amqp_link_read(struct mr_amqp_link *link, amqp_frame_t *ret_frame);
/** The memory of the frames read so far may go. */
void mr__amqp_link_recycle(struct mr_amqp_link *link);
/** Sends a method. @return false: the link is closed */
MR_MUST_USE bool mr__amqp_link_send(struct mr_amqp_link *link, amqp_method_number_t id,
                                    void *method);
/** While the socket is not read the library sends no heartbeats: this does, when it is time.
 * @return false: the link is closed */
MR_MUST_USE bool mr__amqp_link_beat(struct mr_amqp_link *link, uint64_t now_ns);
/** For poll, so that heartbeats are sent and missed in time. */
int mr__amqp_link_timeout_ms(const struct mr_amqp_link *link);

/** The owner's loop has ended. */
void mr__amqp_link_over(struct mr_amqp_link *link);
/** Waits for that until shortly after @p deadline_mono_ns, then ends the connection under its
 * owner, who gets an error from whatever it is in; later connections are refused.
 * @thread any but the owner's */
void mr__amqp_link_await(struct mr_amqp_link *link, uint64_t deadline_mono_ns);

#endif
