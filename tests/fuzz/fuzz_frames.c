/* What a worker sends: lines of the worker protocol, with everything the process runtime does to
 * their slices. Input: any bytes, split at newlines. */
#include "core/assert.h"
#include "schemas/json_format.h"
#include "workers/process/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use_text(struct mr_bytes raw)
{
    char to[64];
    struct mr_bytes text = mr_frame_text(raw, to, sizeof(to));
    MR_ASSERT(text.data == raw.data || text.size <= sizeof(to));
}

static void use_events(struct mr_bytes events)
{
    size_t position = 0;
    size_t before = 0;
    struct mr_bytes item;
    while (mr_frame_next_item(events, &position, &item)) {
        MR_ASSERT(position > before && position <= events.size); /* gets on, stays inside */
        before = position;
        struct mr_event *event;
        if (mr_json_decode_event(item, 1u << 20, &event, NULL) == MR_OK) {
            mr_event_unref(event);
        }
    }
}

static void use_line(struct mr_bytes line)
{
    struct mr_frame frame;
    struct mr_problem problem;
    if (mr_frame_parse(line, &frame, &problem) != MR_OK) {
        return;
    }
    use_text(frame.delivery);
    use_text(frame.verdict);
    use_text(frame.error);
    use_text(frame.version);
    use_events(frame.events);
    (void)mr_json_is_value(frame.data); /* only that it holds */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    while (size > 0) {
        const uint8_t *newline = memchr(data, '\n', size);
        size_t line = newline == NULL ? size : (size_t)(newline - data);
        use_line(mr_bytes(data, line));
        size_t used = line + (newline != NULL);
        data += used;
        size -= used;
    }
    return 0;
}
