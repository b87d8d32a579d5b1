#include "connectors/mqtt/message.h"

#include <mqtt_protocol.h>
#include <stdio.h>
#include <stdlib.h>

#include "connectors/adapting.h"

#define USER_PROPERTIES_MAX 128u

struct properties {
    struct mr_field fields[USER_PROPERTIES_MAX];
    char *texts[2 * USER_PROPERTIES_MAX]; /* owned, of the library's allocator */
    uint32_t count;
    char *content_type; /* owned likewise */
    bool too_many;
    bool no_memory;
};

static void read_properties(const mosquitto_property *list, struct properties *ret)
{
    ret->count = 0;
    ret->content_type = NULL;
    ret->too_many = false;
    ret->no_memory = false;
    for (const mosquitto_property *at = list; at != NULL; at = mosquitto_property_next(at)) {
        int id = mosquitto_property_identifier(at);
        if (id == MQTT_PROP_CONTENT_TYPE && ret->content_type == NULL) {
            ret->no_memory |=
                mosquitto_property_read_string(at, id, &ret->content_type, false) == NULL;
        }
        if (id != MQTT_PROP_USER_PROPERTY) {
            continue;
        }
        if (ret->count == USER_PROPERTIES_MAX) {
            ret->too_many = true;
            return;
        }
        char *name = NULL;
        char *value = NULL;
        if (mosquitto_property_read_string_pair(at, id, &name, &value, false) == NULL) {
            ret->no_memory = true;
            return;
        }
        ret->texts[2 * ret->count] = name;
        ret->texts[2 * ret->count + 1] = value;
        ret->fields[ret->count++] = (struct mr_field){mr_bytes_of(name), mr_bytes_of(value)};
    }
}

static void release_properties(struct properties *properties)
{
    for (uint32_t i = 0; i < 2 * properties->count; i++) {
        free(properties->texts[i]);
    }
    free(properties->content_type);
}

static enum mr_status decode(struct mr_mqtt_maker *maker, const struct mr_mqtt_message *message,
                             bool too_many, struct mr_event **ret_event, bool *ret_rejected,
                             struct mr_problem *problem)
{
    enum mr_status r;
    if (too_many) {
        r = mr_problem_set(problem, MR_E_TOO_BIG, "more than %u user properties",
                           USER_PROPERTIES_MAX);
    } else {
        r = mr_mqtt_decode(message, maker->event_size_max, ret_event, problem);
    }
    if (r == MR_OK || (r == MR_E_NOT_CLOUDEVENT && maker->adapter != MR_ADAPTING_NONE)) {
        return r;
    }
    char text[MR_MQTT_CLIENT_ID_SIZE_MAX + 48];
    int size = snprintf(text, sizeof(text), "%.128s-%016llx-%llu", maker->client_id,
                        (unsigned long long)maker->boot, (unsigned long long)maker->counter++);
    struct mr_bytes id = mr_bytes(text, size < 0 ? 0 : (size_t)size);
    uint64_t wall_ns = mr_clock_now().wall_ns;
    if (r == MR_E_NOT_CLOUDEVENT) {
        r = mr_mqtt_wrap(message, mr_bytes_of(maker->source_name), id, wall_ns,
                         maker->event_size_max, ret_event, problem);
    }
    if (r == MR_OK || r == MR_E_NOMEM) {
        return r;
    }
    *ret_rejected = true;
    return mr_adapt_rejected(mr_bytes_of(maker->source_name), id, message->payload, problem->text,
                             wall_ns, maker->event_size_max, ret_event);
}

enum mr_status mr__mqtt_make_event(struct mr_mqtt_maker *maker,
                                   const struct mosquitto_message *message,
                                   const mosquitto_property *list, struct mr_event **ret_event,
                                   bool *ret_rejected, struct mr_problem *problem)
{
    struct properties properties;
    read_properties(list, &properties);
    struct mr_mqtt_message m = {
        .version = maker->version,
        .topic = mr_bytes_of(message->topic),
        .content_type = mr_bytes_of(properties.content_type),
        .user_properties = properties.fields,
        .user_property_count = properties.count,
        .payload = mr_bytes(message->payload, (size_t)message->payloadlen),
        .retained = message->retain,
    };
    *ret_rejected = false;
    enum mr_status r = properties.no_memory ? MR_E_NOMEM
                                            : decode(maker, &m, properties.too_many, ret_event,
                                                     ret_rejected, problem);
    release_properties(&properties);
    return r;
}
