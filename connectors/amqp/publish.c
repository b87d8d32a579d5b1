#include "connectors/amqp/publish.h"

#include <string.h>

#include "core/alloc.h"
#include "schemas/template.h"

#define FRAME_ROOM 512u /* of the header frame, for all but the headers */

/* The library takes no const. */
static amqp_bytes_t slice(struct mr_bytes bytes)
{
    return (amqp_bytes_t){bytes.size, (void *)(uintptr_t)bytes.data};
}

enum mr_status mr__amqp_encode(const struct mr_amqp_link *link,
                               const struct mr_amqp_sink_options *options, struct mr_bytes record,
                               struct mr_buf *key, struct mr_message *message,
                               struct mr_problem *problem)
{
    const char *template = options->routing_key;
    enum mr_status r = mr_template_fill(template == NULL ? "" : template, record, key);
    if (r == MR_E_TOO_BIG || (r == MR_OK && (key->size > MR_AMQP_NAME_SIZE_MAX ||
                                             (key->size > 0 &&
                                              memchr(key->data, '\0', key->size) != NULL)))) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "the routing key is longer than %u bytes or holds a NUL",
                              MR_AMQP_NAME_SIZE_MAX);
    }
    if (r == MR_OK) {
        r = mr_amqp_encode(record, (enum mr_amqp_habit)options->headers,
                           (enum mr_mode)options->mode, message);
    }
    if (r != MR_OK) {
        return mr_problem_set(problem, r, "the event cannot be encoded: %s", mr_status_text(r));
    }
    size_t size = message->content_type.size + FRAME_ROOM;
    for (uint32_t i = 0; i < message->field_count; i++) {
        size += message->fields[i].name.size + message->fields[i].value.size + 6;
        if (message->fields[i].name.size > MR_AMQP_NAME_SIZE_MAX) {
            size = SIZE_MAX / 2;
        }
    }
    if (size > link->frame_max || message->content_type.size > MR_AMQP_NAME_SIZE_MAX) {
        return mr_problem_set(problem, MR_E_TOO_BIG,
                              "the attributes do not fit the headers of a message (%u bytes); mode "
                              "structured has no such limit", link->frame_max);
    }
    return MR_OK;
}

bool mr__amqp_publish(struct mr_amqp_link *link, const struct mr_amqp_sink_options *options,
                      struct mr_bytes record, const char *key, const struct mr_message *message)
{
    struct mr_bytes id = mr_event_id(record);
    amqp_table_entry_t *entries = mr_calloc((size_t)message->field_count + 1, sizeof(*entries));
    if (entries == NULL) {
        mr__amqp_link_fail(link, "out of memory");
        return false;
    }
    amqp_basic_properties_t p = {._flags = AMQP_BASIC_DELIVERY_MODE_FLAG,
                                 .delivery_mode = options->persistent ? 2 : 1};
    for (uint32_t i = 0; i < message->field_count; i++) {
        entries[i].key = slice(message->fields[i].name);
        entries[i].value.kind = AMQP_FIELD_KIND_UTF8;
        entries[i].value.value.bytes = slice(message->fields[i].value);
    }
    if (message->field_count > 0) {
        p._flags |= AMQP_BASIC_HEADERS_FLAG;
        p.headers = (amqp_table_t){(int)message->field_count, entries};
    }
    if (message->content_type.size > 0) {
        p._flags |= AMQP_BASIC_CONTENT_TYPE_FLAG;
        p.content_type = slice(message->content_type);
    }
    if (id.size <= MR_AMQP_NAME_SIZE_MAX) {
        p._flags |= AMQP_BASIC_MESSAGE_ID_FLAG;
        p.message_id = slice(id);
    }
    const char *exchange = options->exchange == NULL ? "" : options->exchange;
    int status = amqp_basic_publish(link->conn, MR_AMQP_CHANNEL, amqp_cstring_bytes(exchange),
                                    amqp_cstring_bytes(key), 1, 0, &p,
                                    slice(mr_buf_bytes(&message->body)));
    mr_free(entries);
    if (status != AMQP_STATUS_OK) {
        mr__amqp_link_fail(link, "connection lost: %s", amqp_error_string2(status));
        return false;
    }
    return true;
}
