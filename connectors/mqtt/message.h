/* One received MQTT message to one event: a CloudEvent as it is, plain telemetry wrapped, what is
 * neither as the event of an ingest dead letter. */
#ifndef MR_CONNECTORS_MQTT_MESSAGE_H
#define MR_CONNECTORS_MQTT_MESSAGE_H

#include <mosquitto.h>

#include "connectors/mqtt/mqtt.h"

struct mr_mqtt_maker {
    const char *source_name; /* borrowed */
    const char *client_id;   /* borrowed */
    int version;
    size_t event_size_max;
    int adapter;      /* index into mr__adapting_words: what is no CloudEvent is left to it */
    uint64_t boot;    /* random; with the counter in the ids of what brings none */
    uint64_t counter;
};

/** @param[out] ret_event one reference, the caller's
 * @param[out] ret_rejected the event is that of a dead letter, @p problem says why
 * @return MR_E_NOT_CLOUDEVENT: it is the adapter's, when there is one; MR_E_NOMEM: the message must
 * not be acknowledged */
MR_MUST_USE enum mr_status mr__mqtt_make_event(struct mr_mqtt_maker *maker,
                                               const struct mosquitto_message *message,
                                               const mosquitto_property *properties,
                                               struct mr_event **ret_event, bool *ret_rejected,
                                               struct mr_problem *problem);

#endif
