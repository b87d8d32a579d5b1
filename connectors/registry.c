#include <stddef.h>

#include "connectors/connector.h"

const struct mr_connector *const mr_connectors[] = {
    &mr_connector_amqp,
    &mr_connector_file,
    &mr_connector_http,
    &mr_connector_kafka,
    &mr_connector_mqtt,
    &mr_connector_objectstore,
    &mr_connector_smtp,
    &mr_connector_timer,
    NULL,
};
