/* Fuzz target: AMQP messages from frames. The input is a list of frames (type, size in two bytes,
 * payload); a header's payload is body size in eight bytes and then properties as they lie on the
 * wire, decoded by the library. Each whole message becomes events. */
#include "connectors/amqp/content.h"
#include "connectors/amqp/message.h"
#include "core/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t take_number(struct mr_bytes *rest, size_t bytes)
{
    uint64_t number = 0;
    for (size_t i = 0; i < bytes; i++) {
        uint8_t byte = rest->size > 0 ? *rest->data : 0;
        number = number << 8 | byte;
        rest->data += rest->size > 0;
        rest->size -= rest->size > 0;
    }
    return number;
}

/* @return false: the library refuses it */
static bool make_frame(struct mr_bytes *rest, amqp_pool_t *pool, amqp_frame_t *frame)
{
    static amqp_basic_deliver_t deliver;
    *frame = (amqp_frame_t){.frame_type = (uint8_t)(take_number(rest, 1) % 5), .channel = 1};
    size_t size = take_number(rest, 2);
    struct mr_bytes payload = mr_bytes(rest->data, size < rest->size ? size : rest->size);
    rest->data += payload.size;
    rest->size -= payload.size;
    switch (frame->frame_type) {
    case AMQP_FRAME_METHOD:
        deliver.delivery_tag++;
        frame->payload.method.id = AMQP_BASIC_DELIVER_METHOD;
        frame->payload.method.decoded = &deliver;
        return true;
    case AMQP_FRAME_HEADER:
        frame->payload.properties.class_id = AMQP_BASIC_CLASS;
        frame->payload.properties.body_size = take_number(&payload, 8);
        return amqp_decode_properties(AMQP_BASIC_CLASS, pool,
                                      (amqp_bytes_t){payload.size, (void *)(uintptr_t)payload.data},
                                      &frame->payload.properties.decoded) >= 0;
    default:
        frame->payload.body_fragment =
            (amqp_bytes_t){payload.size, (void *)(uintptr_t)payload.data};
        return true;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mr_bytes rest = mr_bytes(data, size);
    struct mr_amqp_maker maker = {.source_name = "jobs",
                                  .queue = "q",
                                  .event_size_max = 64 * MR_KIB,
                                  .adapter = size > 0 ? data[0] >> 7 : 0};
    struct mr_amqp_content content;
    amqp_pool_t pool;
    init_amqp_pool(&pool, 4096);
    mr__amqp_content_init(&content, 2000, 100);
    for (uint32_t frames = 0; rest.size > 0 && frames < 100; frames++) {
        amqp_frame_t frame;
        if (!make_frame(&rest, &pool, &frame)) {
            break; /* the connection would be dropped */
        }
        enum mr_amqp_content_result r = mr__amqp_content_feed(&content, &frame);
        if (r == MR_AMQP_CONTENT_BROKEN) {
            break;
        }
        MR_ASSERT(content.buf.size <= 2000);
        if (r == MR_AMQP_CONTENT_WHOLE) {
            struct mr_batch *batch = mr_batch_create(0, 1);
            MR_ASSERT(content.too_big ? content.body.size <= 100
                                      : content.body.size == content.body_size);
            enum mr_status status = mr__amqp_add(&maker, &content, batch);
            MR_ASSERT(status == MR_OK || status == MR_E_UNSUPPORTED);
            for (uint32_t i = 0; i < batch->count; i++) {
                MR_ASSERT(mr_event_check(mr_event_record(batch->items[i].event)) == MR_OK);
            }
            mr_batch_destroy(batch);
            mr__amqp_content_clear(&content);
        }
    }
    mr__amqp_content_release(&content);
    empty_amqp_pool(&pool);
    return 0;
}
