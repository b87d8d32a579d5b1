#include "connectors/objectstore/objectstore.h"

#include <stdio.h>
#include <stdlib.h>

#include "connectors/adapting.h"
#include "connectors/objectstore/upload.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "schemas/template.h"

static const char *const via_words[] = {"sqs", "list", "webhook", "kafka", "amqp", "mqtt", NULL};
static const char *const content_words[] = {"event", "data", NULL};

/* clang-format off */
#define PEER(S, field) offsetof(struct S, peer.field)
#define PEER_ROWS(S)                                                                               \
    {.name = "region", .type = MR_OPTION_STRING, .at = PEER(S, region),                            \
     .help = "Region that requests are signed for; by default that of an AWS host name, of "       \
             "AWS_REGION, or us-east-1."},                                                         \
    {.name = "access_key", .type = MR_OPTION_STRING, .at = PEER(S, access_key),                    \
     .help = "Access key; by default AWS_ACCESS_KEY_ID with its fellows. Without one requests "    \
             "are not signed."},                                                                   \
    {.name = "secret_key", .type = MR_OPTION_SECRET, .at = PEER(S, secret_key),                    \
     .help = "Secret key of the access key."},                                                     \
    {.name = "session_token", .type = MR_OPTION_SECRET, .at = PEER(S, session_token),              \
     .help = "Session token of temporary credentials."},                                           \
    {.name = "tls_ca", .type = MR_OPTION_PATH, .at = PEER(S, tls_ca),                              \
     .help = "PEM file of the authorities trusted; by default those of the system."},              \
    {.name = "connect_timeout", .type = MR_OPTION_DURATION, .at = PEER(S, connect_timeout_ns),     \
     .default_text = "10s", .min = (int64_t)(100 * MR_MS), .max = (int64_t)(5 * MR_MINUTE),        \
     .help = "Longest wait for a connection."},                                                    \
    {.name = "egress", .type = MR_OPTION_ENUM, .at = PEER(S, egress), .default_text = "any",       \
     .words = mr__egress_words,                                                                    \
     .help = "`public`: only addresses of the public internet are connected to, whatever a name "  \
             "stands for."}

#define SOURCE(field) offsetof(struct mr_objectstore_source_options, field)
const struct mr_option mr__objectstore_source_table[] = {
    {.name = "via", .type = MR_OPTION_ENUM, .at = SOURCE(via), .words = via_words,
     .flags = MR_OPTION_REQUIRED,
     .help = "How notifications come: from a queue, by listing the bucket, or by another "
             "connector."},
    {.name = "url", .type = MR_OPTION_URL, .at = SOURCE(peer.url),
     .help = "sqs: the queue's; list: the bucket's, http(s)://host/bucket or "
             "https://bucket.host; amqp, mqtt: the broker's."},
    PEER_ROWS(mr_objectstore_source_options),
    {.name = "adapter", .type = MR_OPTION_ENUM, .at = SOURCE(adapter), .default_text = "s3",
     .words = mr__adapting_words,
     .help = "What a notification is; s3 knows AWS, MinIO and Ceph, bare or wrapped by SNS or "
             "EventBridge. Not for list."},
    {.name = "wait", .type = MR_OPTION_DURATION, .at = SOURCE(wait_ns), .default_text = "20s",
     .min = 0, .max = (int64_t)(20 * MR_SECOND),
     .help = "sqs: how long the queue may let a poll wait for a message; whole seconds."},
    {.name = "visibility", .type = MR_OPTION_DURATION, .at = SOURCE(visibility_ns),
     .default_text = "60s", .min = (int64_t)(2 * MR_SECOND), .max = (int64_t)(12 * MR_HOUR),
     .help = "sqs: how long nobody else gets a message that was received; extended while it is "
             "needed."},
    {.name = "polls", .type = MR_OPTION_INT, .at = SOURCE(polls), .default_text = "2", .min = 1,
     .max = 16, .help = "sqs: polls that wait at the queue at once."},
    {.name = "inflight", .type = MR_OPTION_INT, .at = SOURCE(inflight), .default_text = "500",
     .min = 10, .max = 100000, .help = "sqs: messages received and not yet deleted, at most."},
    {.name = "prefix", .type = MR_OPTION_STRING, .at = SOURCE(prefix),
     .help = "list: only keys that begin with it."},
    {.name = "bucket", .type = MR_OPTION_STRING, .at = SOURCE(bucket),
     .help = "list: the bucket's name in the events; by default what the url says."},
    {.name = "interval", .type = MR_OPTION_DURATION, .at = SOURCE(interval_ns),
     .default_text = "60s", .min = (int64_t)(100 * MR_MS), .max = (int64_t)(7 * MR_DAY),
     .help = "list: wait between two listings."},
    {.name = "once", .type = MR_OPTION_BOOL, .at = SOURCE(once), .default_text = "false",
     .help = "list: list once and stop, for a back-fill."},
    {.name = "existing", .type = MR_OPTION_BOOL, .at = SOURCE(existing), .default_text = "true",
     .help = "list: whether the objects found by the very first listing are events."},
    {.name = "path", .type = MR_OPTION_STRING, .at = SOURCE(path),
     .help = "webhook: path on the ingest listener."},
    {.name = "token", .type = MR_OPTION_SECRET, .at = SOURCE(token),
     .help = "webhook: requests must carry it as `Authorization: Bearer`; others get 401."},
    {.name = "verify", .type = MR_OPTION_BLOCK, .at = SOURCE(verify),
     .block = mr_http_verify_option_table,
     .help = "webhook: how the sender proves itself, as with the http source."},
    {.name = "confirm", .type = MR_OPTION_BOOL, .at = SOURCE(confirm), .default_text = "false",
     .help = "webhook: confirm subscriptions to SNS topics; needs `verify: {scheme: sns}`."},
    {.name = "brokers", .type = MR_OPTION_STRINGS, .at = SOURCE(brokers),
     .help = "kafka: host:port of one or more brokers."},
    {.name = "topics", .type = MR_OPTION_STRINGS, .at = SOURCE(topics),
     .help = "kafka: topics; mqtt: topic filters."},
    {.name = "topic", .type = MR_OPTION_STRING, .at = SOURCE(topic),
     .help = "mqtt: one topic filter."},
    {.name = "group", .type = MR_OPTION_STRING, .at = SOURCE(group),
     .help = "kafka: consumer group."},
    {.name = "librdkafka", .type = MR_OPTION_PAIRS, .at = SOURCE(librdkafka),
     .help = "kafka: any property of librdkafka."},
    {.name = "queue", .type = MR_OPTION_STRING, .at = SOURCE(queue), .help = "amqp: the queue."},
    {.name = "declare", .type = MR_OPTION_BLOCK, .at = SOURCE(declare),
     .block = mr__amqp_declare_table,
     .help = "amqp: what to make at the broker before consuming."},
    {.name = "client_id", .type = MR_OPTION_STRING, .at = SOURCE(client_id),
     .help = "mqtt: client identifier."},
    {.name = "tls_cert", .type = MR_OPTION_PATH, .at = SOURCE(tls_cert),
     .help = "kafka, amqp, mqtt: PEM file of the client certificate."},
    {.name = "tls_key", .type = MR_OPTION_PATH, .at = SOURCE(tls_key),
     .help = "kafka, amqp, mqtt: PEM file of the client certificate's key."},
    MR_OPTION_END,
};

#define SINK(field) offsetof(struct mr_objectstore_sink_options, field)
const struct mr_option mr__objectstore_sink_table[] = {
    {.name = "url", .type = MR_OPTION_URL, .at = SINK(peer.url), .flags = MR_OPTION_REQUIRED,
     .help = "The bucket: http(s)://host/bucket or https://bucket.host."},
    PEER_ROWS(mr_objectstore_sink_options),
    {.name = "key", .type = MR_OPTION_STRING, .at = SINK(key), .default_text = "{{id}}.json",
     .help = "Key of the object; {{subject}}, {{data.name}} and the like are filled in from the "
             "event."},
    {.name = "content", .type = MR_OPTION_ENUM, .at = SINK(content), .default_text = "event",
     .words = content_words,
     .help = "What the object holds: the CloudEvent as JSON, or its data alone."},
    {.name = "content_type", .type = MR_OPTION_STRING, .at = SINK(content_type),
     .help = "Content type of the object; by default that of what it holds."},
    {.name = "part_size", .type = MR_OPTION_SIZE, .at = SINK(part_size), .default_text = "8MiB",
     .min = MR_UPLOAD_PART_SIZE_MIN, .max = 1024 * (int64_t)MR_MIB,
     .help = "Larger objects go up in parts of this size."},
    MR_OPTION_END,
};
/* clang-format on */

/* --- checks ----------------------------------------------------------------------------------- */

static enum mr_status check_text(const char *name, const char *text, struct mr_problem *problem)
{
    for (const char *c = text; c != NULL && *c != '\0'; c++) {
        if (*c <= ' ' || *c > '~' || *c == '/') {
            return mr_problem_set(problem, MR_E_INVALID, "%s: holds a character it cannot have",
                                  name);
        }
    }
    return MR_OK;
}

static enum mr_status check_peer(const struct mr_objectstore_peer *peer,
                                 struct mr_problem *problem)
{
    const char *scheme = peer->url == NULL ? "" : peer->url->scheme;
    if ((strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0) ||
        peer->url->host[0] == '\0') {
        return mr_problem_set(problem, MR_E_INVALID, "url: wants http:// or https:// with a host");
    }
    if (peer->url->user != NULL) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "url: holds a user; write it as access_key and secret_key");
    }
    if (strpbrk(peer->url->path, "?#") != NULL) {
        return mr_problem_set(problem, MR_E_INVALID, "url: has a query or fragment");
    }
    if ((peer->access_key == NULL) != (peer->secret_key == NULL)) {
        return mr_problem_set(problem, MR_E_INVALID, "access_key and secret_key go together");
    }
    if (peer->tls_ca != NULL && strcmp(scheme, "https") != 0) {
        return mr_problem_set(problem, MR_E_INVALID, "tls_ca wants an https:// url");
    }
    enum mr_status r = check_text("access_key", peer->access_key, problem);
    if (r == MR_OK && peer->region != NULL && strlen(peer->region) > 39) {
        r = mr_problem_set(problem, MR_E_INVALID, "region: is longer than 39 characters");
    }
    return r == MR_OK ? check_text("region", peer->region, problem) : r;
}

static enum mr_status check_queue(const struct mr_objectstore_source_options *o,
                                  struct mr_problem *problem)
{
    if (mr__objectstore_path(o->peer.url).size < 2) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "url: wants that of the queue, https://host/account/queue");
    }
    if (o->wait_ns % MR_SECOND != 0 || o->visibility_ns % MR_SECOND != 0) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "wait and visibility are whole seconds with SQS");
    }
    return MR_OK;
}

enum mr_status mr__objectstore_check_source(const void *options, struct mr_problem *problem)
{
    const struct mr_objectstore_source_options *o = options;
    if (o->via != MR_VIA_LIST && o->adapter == MR_ADAPTING_NONE) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "adapter: none is for other connectors; notifications need one");
    }
    if (mr__via_connector(o->via) != NULL) {
        return mr__via_check(o, problem);
    }
    enum mr_status r = check_peer(&o->peer, problem);
    return r == MR_OK && o->via == MR_VIA_SQS ? check_queue(o, problem) : r;
}

enum mr_status mr__objectstore_check_sink(const void *options, struct mr_problem *problem)
{
    const struct mr_objectstore_sink_options *o = options;
    enum mr_status r = check_peer(&o->peer, problem);
    if (r != MR_OK) {
        return r;
    }
    if (o->key == NULL || o->key[0] == '\0' || !mr_template_is_valid(o->key)) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "key: \"%s\" wants {{attribute}} with a CloudEvents attribute name",
                              o->key == NULL ? "" : o->key);
    }
    for (const char *c = o->content_type; c != NULL && *c != '\0'; c++) {
        if (*c < ' ' || *c > '~' || c - o->content_type > 120) {
            return mr_problem_set(problem, MR_E_INVALID, "content_type: is no media type");
        }
    }
    return MR_OK;
}

/* --- a service -------------------------------------------------------------------------------- */

struct mr_bytes mr__objectstore_path(const struct mr_url *url)
{
    struct mr_bytes path = mr_bytes(url->path, strcspn(url->path, "?"));
    while (path.size > 0 && path.data[path.size - 1] == '/') {
        path.size--;
    }
    return path;
}

/* The part of an AWS host name that is a region: sqs.eu-central-1.amazonaws.com,
 * bucket.s3.eu-central-1.amazonaws.com. */
static bool region_of_host(const char *host, char region[40])
{
    const char *end = strstr(host, ".amazonaws.com");
    if (end == NULL) {
        return false;
    }
    const char *start = end;
    while (start > host && start[-1] != '.') {
        start--;
    }
    size_t size = (size_t)(end - start);
    if (size == 0 || size >= 40 || memchr(start, '-', size) == NULL) {
        return false; /* s3.amazonaws.com */
    }
    memcpy(region, start, size);
    region[size] = '\0';
    return true;
}

static void find_region(const struct mr_objectstore_peer *peer, char region[40])
{
    if (peer->region != NULL && peer->region[0] != '\0') {
        (void)snprintf(region, 40, "%.39s", peer->region);
        return;
    }
    if (region_of_host(peer->url->host, region)) {
        return;
    }
    const char *found = getenv("AWS_REGION");
    found = found == NULL || found[0] == '\0' ? getenv("AWS_DEFAULT_REGION") : found;
    bool is_good = found != NULL && found[0] != '\0' && check_text("", found, NULL) == MR_OK;
    (void)snprintf(region, 40, "%.39s", is_good ? found : "us-east-1");
}

enum mr_status mr__service_init(struct mr_service *service, const struct mr_objectstore_peer *peer,
                                const char *name, uint32_t capacity, struct mr_problem *problem)
{
    *service = (struct mr_service){0};
    find_region(peer, service->region);
    enum mr_status r = mr__credentials_init(&service->credentials, peer->access_key,
                                            peer->secret_key, peer->session_token, problem);
    if (r != MR_OK) {
        return r;
    }
    service->client_options = (struct mr_client_options){
        .url = peer->url,
        .credentials = &service->credentials,
        .region = service->region,
        .service = name,
        .tls_ca = peer->tls_ca,
        .connect_timeout_ns = peer->connect_timeout_ns,
        .egress = (enum mr_egress)peer->egress,
        .capacity = capacity,
    };
    r = mr__client_create(&service->client_options, &service->client, problem);
    if (r != MR_OK) {
        mr__service_release(service);
    }
    return r;
}

void mr__service_release(struct mr_service *service)
{
    mr__client_destroy(MR_TAKE(service->client));
    mr__credentials_release(&service->credentials);
}

void mr__service_explain(const struct mr_service *service, const struct mr_call *call, char *text,
                         size_t size, char code[MR_CALL_CODE_SIZE])
{
    mr__call_explain(call, &service->client_options, text, size, code);
}

/* --- the source, whichever way ---------------------------------------------------------------- */

/* Each way is a source of its own; this one only hands on. */
struct mr_source {
    const struct mr_source_ops *ops;
    struct mr_source *inner; /* owned; made by ops->create */
};

static enum mr_status create_source(const struct mr_source_args *args,
                                    struct mr_source **ret_source, struct mr_problem *problem)
{
    const struct mr_objectstore_source_options *o = args->options;
    const struct mr_connector *other = mr__via_connector(o->via);
    enum mr_status r = mr__objectstore_check_source(o, problem);
    if (r != MR_OK) {
        return r;
    }
    struct mr_source *source = mr_calloc(1, sizeof(*source));
    if (source == NULL) {
        return mr_problem_set(problem, MR_E_NOMEM, "no memory for the source");
    }
    source->ops = other != NULL          ? other->source
                  : o->via == MR_VIA_SQS ? &mr__objectstore_sqs_ops
                                         : &mr__objectstore_list_ops;
    r = other != NULL ? mr__via_create(args, &source->inner, problem)
                      : source->ops->create(args, &source->inner, problem);
    if (r != MR_OK) {
        mr_free(source);
        return r;
    }
    *ret_source = source;
    return MR_OK;
}

static enum mr_status start_source(struct mr_source *source, struct mr_problem *problem)
{
    return source->ops->start(source->inner, problem);
}

static void pause_source(struct mr_source *source)
{
    source->ops->pause(source->inner);
}

static void resume_source(struct mr_source *source)
{
    source->ops->resume(source->inner);
}

static void stop_source(struct mr_source *source, uint64_t deadline_mono_ns)
{
    source->ops->stop(source->inner, deadline_mono_ns);
}

static void destroy_source(struct mr_source *source)
{
    if (source != NULL) {
        source->ops->destroy(source->inner);
        mr_free(source);
    }
}

static void read_health(struct mr_source *source, struct mr_health *ret_health)
{
    source->ops->health(source->inner, ret_health);
}

static void reindex_source(struct mr_source *source, uint32_t index)
{
    source->ops->reindex(source->inner, index);
}

static const struct mr_source_ops source_ops = {
    .create = create_source,
    .start = start_source,
    .pause = pause_source,
    .resume = resume_source,
    .stop = stop_source,
    .destroy = destroy_source,
    .health = read_health,
    .reindex = reindex_source,
};

/* --- the connector ---------------------------------------------------------------------------- */

/* One page or one answer, decoded once, and batches of events; or objects on their way. */
static uint64_t bytes_max(const void *options)
{
    (void)options;
    return 6ull * MR_BATCH_SIZE_MAX;
}

static uint64_t source_bytes_max(const void *options)
{
    const struct mr_objectstore_source_options *o = options;
    return mr__via_connector(o->via) != NULL ? mr__via_bytes_max(o) : bytes_max(o);
}

const struct mr_connector mr_connector_objectstore = {
    .abi = MR_CONNECTOR_ABI,
    .name = "objectstore",
    .source_kind = {.name = "objectstore",
                    .options = mr__objectstore_source_table,
                    .options_size = sizeof(struct mr_objectstore_source_options),
                    .check = mr__objectstore_check_source},
    .source = &source_ops,
    .sink_kind = {.name = "objectstore",
                  .options = mr__objectstore_sink_table,
                  .options_size = sizeof(struct mr_objectstore_sink_options),
                  .check = mr__objectstore_check_sink},
    .sink = &mr__objectstore_sink_ops,
    .source_bytes_max = source_bytes_max,
    .bytes_max = bytes_max,
};
