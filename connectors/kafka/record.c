#include "connectors/kafka/record.h"

#include <stdio.h>
#include <string.h>

#include "connectors/adapting.h"
#include "core/alloc.h"
#include "schemas/adapter.h"

#define HEADERS_MAX 256u

void mr__kafka_cut_batch(struct mr_batch *batch, uint32_t count)
{
    while (batch->count > count) {
        struct mr_batch_item *item = &batch->items[--batch->count];
        batch->size -= item->event->size;
        mr_event_unref(item->event);
        mr_free(item->rejected);
        *item = (struct mr_batch_item){0};
    }
}

/* @return false: there are more than HEADERS_MAX */
static bool read_headers(const rd_kafka_message_t *message, struct mr_field *fields,
                         uint32_t *ret_count)
{
    *ret_count = 0;
    rd_kafka_headers_t *headers;
    if (rd_kafka_message_headers(message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR) {
        return true; /* it has none */
    }
    const char *name;
    const void *value;
    size_t size;
    while (rd_kafka_header_get_all(headers, *ret_count, &name, &value, &size) ==
           RD_KAFKA_RESP_ERR_NO_ERROR) {
        if (*ret_count == HEADERS_MAX) {
            return false;
        }
        fields[(*ret_count)++] = (struct mr_field){mr_bytes_of(name), mr_bytes(value, size)};
    }
    return true;
}

static enum mr_status add_events(struct mr_batch *batch, struct mr_events *events)
{
    uint32_t before = batch->count;
    enum mr_status r = MR_OK;
    for (uint32_t i = 0; i < events->count && r == MR_OK; i++) {
        r = mr_batch_add(batch, mr_event_ref(events->events[i]), NULL);
    }
    if (r != MR_OK) {
        mr__kafka_cut_batch(batch, before);
    }
    return r;
}

static size_t size_of(const struct mr_events *events)
{
    size_t size = 0;
    for (uint32_t i = 0; i < events->count; i++) {
        size += events->events[i]->size;
    }
    return size;
}

static bool has_content_type(const struct mr_kafka_record *record)
{
    for (uint32_t i = 0; i < record->header_count; i++) {
        if (mr_bytes_equal_nocase(record->headers[i].name, MR_BYTES_LITERAL("content-type"))) {
            return true;
        }
    }
    return false;
}

/* A record that is no CloudEvent. */
static enum mr_status add_raw(const struct mr_kafka_maker *maker, struct mr_kafka_record *record,
                              struct mr_bytes id, uint64_t wall_ns, struct mr_batch *batch,
                              struct mr_problem *problem)
{
    problem->text[0] = '\0'; /* why it is no CloudEvent */
    struct mr_field fields[HEADERS_MAX + 1];
    if (maker->content_type != NULL && record->has_value && !has_content_type(record)) {
        memcpy(fields, record->headers, record->header_count * sizeof(fields[0]));
        fields[record->header_count++] = (struct mr_field){
            MR_BYTES_LITERAL("content-type"), mr_bytes_of(maker->content_type)};
        record->headers = fields;
    }
    if (maker->adapter != MR_ADAPTING_NONE) {
        struct mr_adapt_input input = {.body = record->value,
                                       .headers = record->headers,
                                       .header_count = record->header_count,
                                       .source_name = mr_bytes_of(maker->source_name),
                                       .received_wall_ns = wall_ns,
                                       .unique = (uint64_t)record->offset,
                                       .size_max = maker->event_size_max};
        bool rejected = false;
        enum mr_status r = mr__adapting_add(maker->adapter, &input, id, batch, &rejected);
        if (r == MR_OK && rejected) {
            (void)mr_problem_set(problem, MR_OK, "%s", batch->items[batch->count - 1].rejected);
        }
        return r;
    }
    struct mr_event *event = NULL;
    enum mr_status r = mr_kafka_wrap(record, mr_bytes_of(maker->source_name), wall_ns,
                                     maker->event_size_max, &event, problem);
    return r == MR_OK ? mr_batch_add(batch, event, NULL) : r;
}

static enum mr_status add_record(const struct mr_kafka_maker *maker,
                                 struct mr_kafka_record *record, struct mr_bytes id,
                                 uint64_t wall_ns, struct mr_batch *batch,
                                 struct mr_problem *problem)
{
    struct mr_events events = {0};
    enum mr_status r = mr_kafka_decode(record, maker->event_size_max, &events, problem);
    if (r == MR_E_NOT_CLOUDEVENT) {
        return add_raw(maker, record, id, wall_ns, batch, problem);
    }
    if (r == MR_OK) {
        /* All of a record go into one group of the log, or it could enter by halves. */
        if (events.count > MR_BATCH_EVENTS_MAX || size_of(&events) > MR_BATCH_SIZE_MAX / 2) {
            r = mr_problem_set(problem, MR_E_TOO_BIG, "more than %u events or %u MiB in one record",
                               MR_BATCH_EVENTS_MAX, MR_BATCH_SIZE_MAX / 2 / MR_MIB);
        } else {
            r = add_events(batch, &events);
        }
        mr_events_release(&events);
    }
    return r;
}

static enum mr_status add_rejected(const struct mr_kafka_maker *maker, struct mr_bytes id,
                                   struct mr_bytes raw, uint64_t wall_ns, struct mr_batch *batch,
                                   const char *reason)
{
    struct mr_event *event = NULL;
    enum mr_status r = mr_adapt_rejected(mr_bytes_of(maker->source_name), id, raw, reason, wall_ns,
                                         maker->event_size_max, &event);
    return r == MR_OK ? mr_batch_add(batch, event, reason) : r;
}

enum mr_status mr__kafka_take_record(const struct mr_kafka_maker *maker,
                                     const rd_kafka_message_t *message, struct mr_batch *batch,
                                     struct mr_problem *ret_error)
{
    struct mr_field fields[HEADERS_MAX];
    uint32_t field_count;
    rd_kafka_timestamp_type_t kind;
    struct mr_kafka_record record = {
        .topic = mr_bytes_of(rd_kafka_topic_name(message->rkt)),
        .partition = message->partition,
        .offset = message->offset,
        .key = mr_bytes(message->key, message->key_len),
        .has_key = message->key != NULL,
        .value = mr_bytes(message->payload, message->len),
        .has_value = message->payload != NULL,
        .headers = fields,
        .timestamp_ms = rd_kafka_message_timestamp(message, &kind),
    };
    char text[MR_KAFKA_TOPIC_SIZE_MAX + 48];
    int size = snprintf(text, sizeof(text), "%.249s/%d/%lld", rd_kafka_topic_name(message->rkt),
                        (int)message->partition, (long long)message->offset);
    struct mr_bytes id = mr_bytes(text, size < 0 ? 0 : (size_t)size);
    uint64_t wall_ns = mr_clock_now().wall_ns;
    ret_error->text[0] = '\0';
    enum mr_status r;
    if (read_headers(message, fields, &field_count)) {
        record.header_count = field_count;
        r = add_record(maker, &record, id, wall_ns, batch, ret_error);
    } else {
        r = mr_problem_set(ret_error, MR_E_TOO_BIG, "more than %u headers", HEADERS_MAX);
    }
    if (r == MR_OK || r == MR_E_NOMEM) {
        return r;
    }
    if (ret_error->text[0] == '\0') {
        (void)mr_problem_set(ret_error, r, "%s", mr_status_text(r));
    }
    return add_rejected(maker, id, record.value, wall_ns, batch, ret_error->text);
}
