/* A message as it comes in frames: a method (basic.deliver, basic.return), a header, and bodies.
 *
 * The method, the properties and a body of one frame lie in the library's memory and hold until
 * mr__amqp_link_recycle(); a body of several frames is put together here. */
#ifndef MR_CONNECTORS_AMQP_CONTENT_H
#define MR_CONNECTORS_AMQP_CONTENT_H

#include <amqp.h>
#include <amqp_framing.h>

#include "core/bytes.h"
#include "core/limits.h"

enum mr_amqp_content_state {
    MR_AMQP_CONTENT_NONE = 0,
    MR_AMQP_CONTENT_HEADER, /* the method came: a header is next */
    MR_AMQP_CONTENT_BODY,
};

enum mr_amqp_content_result {
    MR_AMQP_CONTENT_MORE = 0,
    MR_AMQP_CONTENT_WHOLE,  /* all of it is here */
    MR_AMQP_CONTENT_BROKEN, /* the peer breaks the protocol */
    MR_AMQP_CONTENT_NOMEM,
};

struct mr_amqp_content {
    enum mr_amqp_content_state state;
    size_t body_max;   /* a longer body is not kept… */
    size_t prefix_max; /* …but for so many bytes of it */
    /* Of the message: */
    amqp_frame_t method;                        /* valid until recycled, and if not too_big */
    const amqp_basic_properties_t *properties; /* likewise; NULL when too_big */
    uint64_t tag;                               /* of a basic.deliver */
    bool too_big;
    char id[256];            /* property message_id; "" when absent */
    uint64_t body_size;      /* as announced */
    uint64_t body_got;
    struct mr_bytes body;    /* once whole; the prefix when too_big */
    struct mr_buf buf;       /* owned */
};

void mr__amqp_content_init(struct mr_amqp_content *content, size_t body_max, size_t prefix_max);
void mr__amqp_content_release(struct mr_amqp_content *content);
/** Ready for the next message, or forgets one half come. */
void mr__amqp_content_clear(struct mr_amqp_content *content);
/** Takes a frame: a method with content, a header or a body. */
enum mr_amqp_content_result mr__amqp_content_feed(struct mr_amqp_content *content,
                                                  const amqp_frame_t *frame);

#endif
