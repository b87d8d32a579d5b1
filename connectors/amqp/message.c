#include "connectors/amqp/message.h"

#include <stdio.h>

#include "connectors/adapting.h"
#include "core/clock.h"
#include "schemas/adapter.h"

#define HEADERS_MAX 128u

struct headers {
    struct mr_amqp_header items[HEADERS_MAX];
    uint32_t count;
    bool too_many;
    bool stream;
};

static struct mr_bytes bytes_of(amqp_bytes_t bytes)
{
    return mr_bytes(bytes.bytes, bytes.len);
}

static bool seconds_to_ms(uint64_t seconds, int64_t *ret_ms)
{
    if (seconds > INT64_MAX / 1000) {
        return false;
    }
    *ret_ms = (int64_t)seconds * 1000;
    return true;
}

static struct mr_amqp_header make_header(const amqp_table_entry_t *entry)
{
    const amqp_field_value_t *v = &entry->value;
    struct mr_amqp_header h = {.name = bytes_of(entry->key), .type = MR_AMQP_INTEGER};
    switch (v->kind) {
    case AMQP_FIELD_KIND_UTF8:
        h.type = MR_AMQP_STRING;
        h.text = bytes_of(v->value.bytes);
        break;
    case AMQP_FIELD_KIND_BYTES:
        h.type = MR_AMQP_BINARY;
        h.text = bytes_of(v->value.bytes);
        break;
    case AMQP_FIELD_KIND_BOOLEAN:
        h.type = MR_AMQP_BOOL;
        h.number = v->value.boolean != 0;
        break;
    case AMQP_FIELD_KIND_I8:
        h.number = v->value.i8;
        break;
    case AMQP_FIELD_KIND_U8:
        h.number = v->value.u8;
        break;
    case AMQP_FIELD_KIND_I16:
        h.number = v->value.i16;
        break;
    case AMQP_FIELD_KIND_U16:
        h.number = v->value.u16;
        break;
    case AMQP_FIELD_KIND_I32:
        h.number = v->value.i32;
        break;
    case AMQP_FIELD_KIND_U32:
        h.number = v->value.u32;
        break;
    case AMQP_FIELD_KIND_I64:
        h.number = v->value.i64;
        break;
    case AMQP_FIELD_KIND_U64:
        h.type = v->value.u64 > INT64_MAX ? MR_AMQP_OTHER : MR_AMQP_INTEGER;
        h.number = (int64_t)v->value.u64;
        break;
    case AMQP_FIELD_KIND_TIMESTAMP:
        h.type = seconds_to_ms(v->value.u64, &h.number) ? MR_AMQP_TIMESTAMP : MR_AMQP_OTHER;
        break;
    default:
        h.type = MR_AMQP_OTHER;
        break;
    }
    return h;
}

static void read_headers(const amqp_basic_properties_t *p, struct headers *ret)
{
    ret->count = 0;
    ret->too_many = false;
    ret->stream = false;
    if ((p->_flags & AMQP_BASIC_HEADERS_FLAG) == 0) {
        return;
    }
    for (int i = 0; i < p->headers.num_entries; i++) {
        if (ret->count == HEADERS_MAX) {
            ret->too_many = true;
            return;
        }
        struct mr_amqp_header *h = &ret->items[ret->count++];
        *h = make_header(&p->headers.entries[i]);
        ret->stream |= mr_bytes_equal(h->name, MR_BYTES_LITERAL("x-stream-offset"));
    }
}

static enum mr_status add_all(struct mr_batch *batch, const struct mr_events *events)
{
    enum mr_status r = MR_OK;
    for (uint32_t i = 0; r == MR_OK && i < events->count; i++) {
        r = mr_batch_add(batch, mr_event_ref(events->events[i]), NULL);
    }
    return r;
}

static enum mr_status add_raw(struct mr_amqp_maker *maker, const struct mr_amqp_message *m,
                              struct mr_bytes id, uint64_t wall_ns, struct mr_batch *batch,
                              struct mr_problem *problem)
{
    struct mr_bytes name = mr_bytes_of(maker->source_name);
    if (maker->adapter != MR_ADAPTING_NONE) {
        const struct mr_field type = {MR_BYTES_LITERAL("content-type"), m->content_type};
        const struct mr_adapt_input input = {.body = m->body,
                                             .headers = &type,
                                             .header_count = m->content_type.size > 0 ? 1 : 0,
                                             .source_name = name,
                                             .received_wall_ns = wall_ns,
                                             .unique = maker->boot ^ maker->counter,
                                             .size_max = maker->event_size_max};
        return mr__adapting_add(maker->adapter, &input, id, batch, NULL);
    }
    struct mr_event *event = NULL;
    enum mr_status r = mr_amqp_wrap(m, name, mr_bytes_of(maker->queue), id, wall_ns,
                                    maker->event_size_max, &event, problem);
    return r == MR_OK ? mr_batch_add(batch, event, NULL) : r;
}

static enum mr_status add_whole(struct mr_amqp_maker *maker, const struct mr_amqp_content *content,
                                struct mr_bytes id, uint64_t wall_ns, struct mr_batch *batch,
                                struct mr_problem *problem)
{
    const amqp_basic_properties_t *p = content->properties;
    struct headers headers;
    read_headers(p, &headers);
    if (headers.stream) {
        return MR_E_UNSUPPORTED;
    }
    if (headers.too_many) {
        return mr_problem_set(problem, MR_E_TOO_BIG, "more than %u headers", HEADERS_MAX);
    }
    struct mr_amqp_message m = {.message_id = mr_bytes_of(content->id),
                                .timestamp_ms = -1,
                                .headers = headers.items,
                                .header_count = headers.count,
                                .body = content->body};
    if ((p->_flags & AMQP_BASIC_CONTENT_TYPE_FLAG) != 0) {
        m.content_type = bytes_of(p->content_type);
    }
    if ((p->_flags & AMQP_BASIC_TIMESTAMP_FLAG) != 0 &&
        !seconds_to_ms(p->timestamp, &m.timestamp_ms)) {
        m.timestamp_ms = -1;
    }
    struct mr_events events = {0};
    enum mr_status r = mr_amqp_decode(&m, maker->event_size_max, &events, problem);
    if (r == MR_E_NOT_CLOUDEVENT) {
        return add_raw(maker, &m, id, wall_ns, batch, problem);
    }
    if (r == MR_OK) {
        r = add_all(batch, &events);
        mr_events_release(&events);
    } else if (r == MR_E_UNSUPPORTED) {
        r = MR_E_INVALID; /* a message like others that cannot be taken */
    }
    return r;
}

enum mr_status mr__amqp_add(struct mr_amqp_maker *maker, const struct mr_amqp_content *content,
                            struct mr_batch *batch)
{
    struct mr_problem problem = {.text = ""};
    uint64_t wall_ns = mr_clock_now().wall_ns;
    char text[MR_NAME_SIZE_MAX + 48];
    int size = snprintf(text, sizeof(text), "%.64s-%016llx-%llu", maker->source_name,
                        (unsigned long long)maker->boot, (unsigned long long)maker->counter++);
    struct mr_bytes id = mr_bytes(text, size < 0 ? 0 : (size_t)size);
    enum mr_status r;
    if (content->too_big) {
        r = mr_problem_set(&problem, MR_E_TOO_BIG, "a message of %llu bytes; at most %zu are taken",
                           (unsigned long long)content->body_size, content->body_max);
    } else {
        r = add_whole(maker, content, id, wall_ns, batch, &problem);
    }
    if (r == MR_OK || r == MR_E_NOMEM || r == MR_E_UNSUPPORTED) {
        return r;
    }
    struct mr_event *event = NULL;
    const char *reason = problem.text[0] == '\0' ? mr_status_text(r) : problem.text;
    r = mr_adapt_rejected(mr_bytes_of(maker->source_name), id, content->body, reason, wall_ns,
                          maker->event_size_max, &event);
    return r == MR_OK ? mr_batch_add(batch, event, reason) : MR_E_NOMEM;
}
