#include <stddef.h>

#include "connectors/connector.h"
#include "connectors/http/client.h"
#include "connectors/http/source.h"

static const char *const ADAPTERS[] = {"auto", "cloudevents", "generic", NULL};
static const char *const MODES[] = {"binary", "structured", NULL};

const struct mr_option mr_http_source_option_table[] = {
    {.name = "path",
     .type = MR_OPTION_STRING,
     .at = offsetof(struct mr_http_source_options, path),
     .flags = MR_OPTION_REQUIRED,
     .help = "The path that takes events, on the `listen` address; begins with a slash."},
    {.name = "adapter",
     .type = MR_OPTION_ENUM,
     .at = offsetof(struct mr_http_source_options, adapter),
     .default_text = "auto",
     .words = ADAPTERS,
     .help = "What requests hold: CloudEvents in any mode (`auto`, `cloudevents`), or any body, "
             "which becomes the data of an event unless it is a CloudEvent (`generic`)."},
    {.name = "type",
     .type = MR_OPTION_STRING,
     .at = offsetof(struct mr_http_source_options, type),
     .default_text = "io.millrace.http.message",
     .help = "The `type` attribute of events made by the adapter `generic`."},
    {.name = "token",
     .type = MR_OPTION_SECRET,
     .at = offsetof(struct mr_http_source_options, token),
     .help = "Requests must carry it as `Authorization: Bearer`; others get 401."},
    {.name = "pending_max",
     .type = MR_OPTION_SIZE,
     .at = offsetof(struct mr_http_source_options, pending_max),
     .default_text = "64MiB",
     .min = 1024 * 1024,
     .max = 4ll * 1024 * 1024 * 1024,
     .help = "Events that wait to become durable; above it requests get 503."},
    MR_OPTION_END,
};

const struct mr_option mr_http_client_option_table[] = {
    {.name = "url",
     .type = MR_OPTION_URL,
     .at = offsetof(struct mr_http_client_options, url),
     .flags = MR_OPTION_REQUIRED,
     .help = "Where events are posted: http:// or https://."},
    {.name = "mode",
     .type = MR_OPTION_ENUM,
     .at = offsetof(struct mr_http_client_options, mode),
     .default_text = "binary",
     .words = MODES,
     .help = "The CloudEvents content mode of the requests."},
    {.name = "headers",
     .type = MR_OPTION_PAIRS,
     .at = offsetof(struct mr_http_client_options, headers),
     .help = "Further request headers."},
    {.name = "token",
     .type = MR_OPTION_SECRET,
     .at = offsetof(struct mr_http_client_options, token),
     .help = "Sent as `Authorization: Bearer`."},
    {.name = "tls_ca",
     .type = MR_OPTION_PATH,
     .at = offsetof(struct mr_http_client_options, tls_ca),
     .help = "PEM file of the authorities to trust instead of the system's."},
    {.name = "connect_timeout",
     .type = MR_OPTION_DURATION,
     .at = offsetof(struct mr_http_client_options, connect_timeout_ns),
     .default_text = "10s",
     .min = 1000000,
     .max = 300ll * 1000000000,
     .help = "How long a connection may take to come up, TLS included."},
    MR_OPTION_END,
};

const struct mr_connector mr_connector_http = {
    .abi = MR_CONNECTOR_ABI,
    .name = "http",
    .source_kind = {.name = "http",
                    .options = mr_http_source_option_table,
                    .options_size = sizeof(struct mr_http_source_options),
                    .check = mr_http_source_check},
    .source = &mr_http_source_ops,
    .sink_kind = {.name = "http",
                  .options = mr_http_client_option_table,
                  .options_size = sizeof(struct mr_http_client_options),
                  .check = mr_http_client_check},
    .sink = &mr_http_target_ops,
    .worker_kind = {.name = "http",
                    .options = mr_http_client_option_table,
                    .options_size = sizeof(struct mr_http_client_options),
                    .check = mr_http_client_check},
    .worker = &mr_http_target_ops,
};
