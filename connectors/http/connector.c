#include <stddef.h>

#include "connectors/connector.h"
#include "connectors/egress.h"
#include "connectors/http/client.h"
#include "connectors/http/source.h"
#include "schemas/adapter.h"

static const char *const MODES[] = {"binary", "structured", "batch", NULL}; /* enum mr_mode */

#define AT(field) offsetof(struct mr_http_source_paths, field)
static const struct mr_option PATHS_TABLE[] = {
    {.name = "id", .type = MR_OPTION_STRING, .at = AT(id), .help = "The `id`."},
    {.name = "type",
     .type = MR_OPTION_STRING,
     .at = AT(type),
     .help = "The `type`, else what `type` of the source says."},
    {.name = "subject", .type = MR_OPTION_STRING, .at = AT(subject), .help = "The `subject`."},
    {.name = "time",
     .type = MR_OPTION_STRING,
     .at = AT(time),
     .help = "The `time`: RFC 3339, or seconds or milliseconds since 1970."},
    MR_OPTION_END,
};
#undef AT

#define AT(field) offsetof(struct mr_http_source_options, field)
const struct mr_option mr_http_source_option_table[] = {
    {.name = "path",
     .type = MR_OPTION_STRING,
     .at = AT(path),
     .flags = MR_OPTION_REQUIRED,
     .help = "The path that takes events, on the `listen` address; begins with a slash."},
    {.name = "adapter",
     .type = MR_OPTION_ENUM,
     .at = AT(adapter),
     .default_text = "cloudevents",
     .words = mr_adapter_words,
     .help = "What requests hold: CloudEvents in any mode (`cloudevents`, `http`), the messages of "
             "a service, any body (`generic`), or whichever of these it looks like (`auto`)."},
    {.name = "type",
     .type = MR_OPTION_STRING,
     .at = AT(type),
     .default_text = "io.millrace.http.message",
     .help = "The `type` attribute of events made by the adapter `generic`."},
    {.name = "paths",
     .type = MR_OPTION_BLOCK,
     .at = AT(paths),
     .block = PATHS_TABLE,
     .help = "Where the adapter `generic` finds attributes in a JSON body, as `order.id`."},
    {.name = "token",
     .type = MR_OPTION_SECRET,
     .at = AT(token),
     .help = "Requests must carry it as `Authorization: Bearer`; others get 401."},
    {.name = "verify",
     .type = MR_OPTION_BLOCK,
     .at = AT(verify),
     .block = mr_http_verify_option_table,
     .help = "How the sender proves itself. A sender that did gets 202 also for what cannot be "
             "understood: it becomes a dead letter of `ingest:` and the source's name."},
    {.name = "handshake",
     .type = MR_OPTION_BLOCK,
     .at = AT(handshake),
     .block = mr_http_handshake_option_table,
     .help = "The handshake of CloudEvents webhooks: who may deliver, and how much."},
    {.name = "decode",
     .type = MR_OPTION_STRINGS,
     .at = AT(decode),
     .help = "The values of Content-Encoding that are taken: `gzip`, `zstd`; others get 415."},
    {.name = "confirm",
     .type = MR_OPTION_BOOL,
     .at = AT(confirm),
     .default_text = "false",
     .help = "Confirm subscriptions to SNS topics; needs `verify: {scheme: sns}`."},
    {.name = "pending_max",
     .type = MR_OPTION_SIZE,
     .at = AT(pending_max),
     .default_text = "64MiB",
     .min = 1024 * 1024,
     .max = 4ll * 1024 * 1024 * 1024,
     .help = "Events that wait to become durable; above it requests get 503."},
    MR_OPTION_END,
};
#undef AT

#define AT(field) offsetof(struct mr_http_health_options, field)
static const struct mr_option HEALTH_TABLE[] = {
    {.name = "path",
     .type = MR_OPTION_STRING,
     .at = AT(path),
     .help = "What is asked by GET, at the host of `url`; any 2xx is well. Turns the check on."},
    {.name = "interval",
     .type = MR_OPTION_DURATION,
     .at = AT(interval_ns),
     .default_text = "10s",
     .min = 10 * 1000000,
     .max = 3600ll * 1000000000,
     .help = "The time from one check to the next."},
    {.name = "failures",
     .type = MR_OPTION_INT,
     .at = AT(failures),
     .default_text = "3",
     .min = 1,
     .max = 1000,
     .help = "How many in a row take the receiver out; one that is well takes it in again."},
    MR_OPTION_END,
};
#undef AT

#define AT(field) offsetof(struct mr_http_sign_options, field)
static const struct mr_option SIGN_TABLE[] = {
    {.name = "secret",
     .type = MR_OPTION_SECRET,
     .at = AT(secret),
     .help = "The key: `whsec_` and base64, base64 alone, or any text."},
    {.name = "previous_secret",
     .type = MR_OPTION_SECRET,
     .at = AT(previous_secret),
     .help = "Signs as well, while the receivers change from it to `secret`."},
    MR_OPTION_END,
};
#undef AT

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
     .help = "The CloudEvents content mode of the requests; `batch` is a list, of one event unless "
             "the subscription has `batch`, whose requests are lists in every mode."},
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
    {.name = "sign",
     .type = MR_OPTION_BLOCK,
     .at = offsetof(struct mr_http_client_options, sign),
     .block = SIGN_TABLE,
     .help = "Signs every request as Standard Webhooks says (HMAC-SHA256)."},
    {.name = "health",
     .type = MR_OPTION_BLOCK,
     .at = offsetof(struct mr_http_client_options, health),
     .block = HEALTH_TABLE,
     .help = "Checks now and then whether the receiver is well; while it is not, deliveries wait."},
    {.name = "handshake",
     .type = MR_OPTION_BOOL,
     .at = offsetof(struct mr_http_client_options, handshake),
     .default_text = "false",
     .help = "Ask the receiver for its consent by OPTIONS first, and keep to the rate it grants; "
             "until it consents deliveries wait."},
    {.name = "origin",
     .type = MR_OPTION_STRING,
     .at = offsetof(struct mr_http_client_options, origin),
     .help = "The DNS name by which `handshake` asks; without it this machine's name."},
    {.name = "egress",
     .type = MR_OPTION_ENUM,
     .at = offsetof(struct mr_http_client_options, egress),
     .default_text = "any",
     .words = mr__egress_words,
     .help = "`public`: only addresses of the public internet are connected to, whatever a name "
             "resolves to."},
    MR_OPTION_END,
};

/* What waits to become durable, and the request that goes beyond it, three times: decoded, parsed,
 * as events. Bodies that are still coming are the listener's. */
static uint64_t source_bytes_max(const void *options)
{
    const struct mr_http_source_options *o = options;
    return o->pending_max + 3ull * MR_BATCH_SIZE_MAX;
}

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
                  .check = mr_http_client_check,
                  .takes_batches = true},
    .sink = &mr_http_target_ops,
    .worker_kind = {.name = "http",
                    .options = mr_http_client_option_table,
                    .options_size = sizeof(struct mr_http_client_options),
                    .check = mr_http_client_check,
                    .takes_batches = true},
    .worker = &mr_http_target_ops,
    .source_bytes_max = source_bytes_max,
};
