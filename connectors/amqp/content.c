#include "connectors/amqp/content.h"

#include <string.h>

#define BUFFER_KEPT (1u * MR_MIB) /* a larger buffer goes with the message that needed it */

void mr__amqp_content_init(struct mr_amqp_content *content, size_t body_max, size_t prefix_max)
{
    *content = (struct mr_amqp_content){.body_max = body_max, .prefix_max = prefix_max};
    mr_buf_init(&content->buf, body_max > prefix_max ? body_max : prefix_max);
}

void mr__amqp_content_release(struct mr_amqp_content *content)
{
    mr_buf_release(&content->buf);
}

void mr__amqp_content_clear(struct mr_amqp_content *content)
{
    content->state = MR_AMQP_CONTENT_NONE;
    content->properties = NULL;
    content->body = mr_bytes(NULL, 0);
    if (content->buf.capacity > BUFFER_KEPT) {
        mr_buf_release(&content->buf);
    } else {
        mr_buf_clear(&content->buf);
    }
}

static enum mr_amqp_content_result take_method(struct mr_amqp_content *content,
                                               const amqp_frame_t *frame)
{
    if (content->state != MR_AMQP_CONTENT_NONE) {
        return MR_AMQP_CONTENT_BROKEN;
    }
    content->method = *frame;
    content->tag = 0;
    if (frame->payload.method.id == AMQP_BASIC_DELIVER_METHOD) {
        const amqp_basic_deliver_t *m = frame->payload.method.decoded;
        content->tag = m->delivery_tag;
    }
    content->state = MR_AMQP_CONTENT_HEADER;
    return MR_AMQP_CONTENT_MORE;
}

static enum mr_amqp_content_result take_header(struct mr_amqp_content *content,
                                               const amqp_frame_t *frame)
{
    if (content->state != MR_AMQP_CONTENT_HEADER ||
        frame->payload.properties.class_id != AMQP_BASIC_CLASS) {
        return MR_AMQP_CONTENT_BROKEN;
    }
    const amqp_basic_properties_t *p = frame->payload.properties.decoded;
    content->id[0] = '\0';
    if ((p->_flags & AMQP_BASIC_MESSAGE_ID_FLAG) != 0 &&
        p->message_id.len < sizeof(content->id)) {
        memcpy(content->id, p->message_id.bytes, p->message_id.len);
        content->id[p->message_id.len] = '\0';
    }
    content->body_size = frame->payload.properties.body_size;
    content->body_got = 0;
    content->too_big = content->body_size > content->body_max;
    content->properties = content->too_big ? NULL : p;
    content->state = MR_AMQP_CONTENT_BODY;
    return content->body_size == 0 ? MR_AMQP_CONTENT_WHOLE : MR_AMQP_CONTENT_MORE;
}

static enum mr_amqp_content_result take_body(struct mr_amqp_content *content,
                                             const amqp_frame_t *frame)
{
    struct mr_bytes part =
        mr_bytes(frame->payload.body_fragment.bytes, frame->payload.body_fragment.len);
    if (content->state != MR_AMQP_CONTENT_BODY || part.size == 0 ||
        part.size > content->body_size - content->body_got) {
        return MR_AMQP_CONTENT_BROKEN;
    }
    bool whole = content->body_got + part.size == content->body_size;
    if (whole && content->body_got == 0 && !content->too_big) {
        content->body_got = part.size;
        content->body = part;
        return MR_AMQP_CONTENT_WHOLE;
    }
    content->body_got += part.size;
    size_t keep_max = content->too_big ? content->prefix_max : content->body_max;
    size_t room = keep_max - content->buf.size;
    part.size = part.size < room ? part.size : room;
    if (mr_buf_append_bytes(&content->buf, part) != MR_OK) {
        return MR_AMQP_CONTENT_NOMEM;
    }
    content->body = mr_buf_bytes(&content->buf);
    return whole ? MR_AMQP_CONTENT_WHOLE : MR_AMQP_CONTENT_MORE;
}

enum mr_amqp_content_result mr__amqp_content_feed(struct mr_amqp_content *content,
                                                  const amqp_frame_t *frame)
{
    switch (frame->frame_type) {
    case AMQP_FRAME_METHOD:
        return take_method(content, frame);
    case AMQP_FRAME_HEADER:
        return take_header(content, frame);
    case AMQP_FRAME_BODY:
        return take_body(content, frame);
    default:
        return MR_AMQP_CONTENT_BROKEN;
    }
}
