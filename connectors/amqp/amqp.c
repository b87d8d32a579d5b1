#include "connectors/amqp/amqp.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "connectors/adapting.h"
#include "connectors/tls.h"
#include "schemas/template.h"

static const char *const queue_words[] = {"passive", "classic", "quorum", NULL};
const char *const mr__amqp_exchange_words[] = {"existing", "direct", "fanout", "topic",
                                               "headers",  NULL};
static const char *const mechanism_words[] = {"plain", "external", NULL};
static const char *const mode_words[] = {"binary", "structured", NULL};
static const char *const habit_words[] = {"cloudEvents:", "cloudEvents_", "ce-", "bare", NULL};

/* clang-format off */
#define PEER(S, field) offsetof(struct S, peer.field)
#define PEER_ROWS(S)                                                                               \
    {.name = "url", .type = MR_OPTION_URL, .at = PEER(S, url), .flags = MR_OPTION_REQUIRED,        \
     .help = "Broker: amqp://[user:password@]host[:5672][/vhost], or amqps://host[:5671] with "    \
             "TLS; a / within the virtual host is %2F."},                                          \
    {.name = "vhost", .type = MR_OPTION_STRING, .at = PEER(S, vhost),                              \
     .help = "Virtual host, instead of the url's; / when neither says one."},                      \
    {.name = "user", .type = MR_OPTION_STRING, .at = PEER(S, user),                                \
     .help = "User, instead of the url's; guest when neither says one."},                          \
    {.name = "password", .type = MR_OPTION_SECRET, .at = PEER(S, password),                        \
     .help = "Password, instead of the url's; guest when neither says one."},                      \
    {.name = "sasl_mechanism", .type = MR_OPTION_ENUM, .at = PEER(S, sasl_mechanism),              \
     .default_text = "plain", .words = mechanism_words,                                            \
     .help = "plain: user and password; external: the client certificate says who it is."},        \
    {.name = "heartbeat", .type = MR_OPTION_DURATION, .at = PEER(S, heartbeat_ns),                 \
     .default_text = "20s", .min = (int64_t)MR_SECOND, .max = 600ll * (int64_t)MR_SECOND,          \
     .help = "Longest silence on the connection, in whole seconds; a peer silent for two of them " \
             "is given up. The broker may ask for a shorter one."},                                \
    MR_TLS_ROWS(S, peer)

#define DECLARE(field) offsetof(struct mr_amqp_declare_options, field)
const struct mr_option mr__amqp_declare_table[] = {
    {.name = "type", .type = MR_OPTION_ENUM, .at = DECLARE(type), .default_text = "passive",
     .words = queue_words,
     .help = "passive: the queue has to be there; classic, quorum: it is made when it is not."},
    {.name = "durable", .type = MR_OPTION_BOOL, .at = DECLARE(durable), .default_text = "true",
     .help = "Whether the queue survives a restart of the broker; a quorum queue always does."},
    {.name = "arguments", .type = MR_OPTION_JSON, .at = DECLARE(arguments),
     .help = "Arguments of the queue, for example {x-max-length: 100000}: texts, numbers and "
             "true or false."},
    {.name = "exchange", .type = MR_OPTION_STRING, .at = DECLARE(exchange),
     .help = "Exchange to bind the queue to."},
    {.name = "exchange_type", .type = MR_OPTION_ENUM, .at = DECLARE(exchange_type),
     .default_text = "existing", .words = mr__amqp_exchange_words,
     .help = "existing: the exchange has to be there; else a durable one of this type is made."},
    {.name = "bindings", .type = MR_OPTION_STRINGS, .at = DECLARE(bindings),
     .help = "Routing keys to bind with; by default the empty one."},
    MR_OPTION_END,
};

static const struct mr_option source_options[] = {
    PEER_ROWS(mr_amqp_source_options),
    {.name = "queue", .type = MR_OPTION_STRING,
     .at = offsetof(struct mr_amqp_source_options, queue),
     .flags = MR_OPTION_REQUIRED, .help = "Queue consumed from; streams are not supported."},
    {.name = "prefetch", .type = MR_OPTION_INT,
     .at = offsetof(struct mr_amqp_source_options, prefetch), .default_text = "1000", .min = 1,
     .max = 65535, .help = "Messages delivered and not yet acknowledged, at most."},
    MR_ADAPTER_ROW(mr_amqp_source_options, adapter),
    {.name = "declare", .type = MR_OPTION_BLOCK,
     .at = offsetof(struct mr_amqp_source_options, declare), .block = mr__amqp_declare_table,
     .help = "What to make at the broker before consuming."},
    MR_OPTION_END,
};

static const struct mr_option sink_options[] = {
    PEER_ROWS(mr_amqp_sink_options),
    {.name = "exchange", .type = MR_OPTION_STRING,
     .at = offsetof(struct mr_amqp_sink_options, exchange),
     .help = "Exchange published to; by default the one that routes to the queue named by the "
             "routing key."},
    {.name = "exchange_type", .type = MR_OPTION_ENUM,
     .at = offsetof(struct mr_amqp_sink_options, exchange_type), .default_text = "existing",
     .words = mr__amqp_exchange_words,
     .help = "existing: the exchange has to be there; else a durable one of this type is made."},
    {.name = "routing_key", .type = MR_OPTION_STRING,
     .at = offsetof(struct mr_amqp_sink_options, routing_key),
     .help = "Routing key; {{subject}}, {{type}}, {{data.path}} and the like are filled in."},
    {.name = "mode", .type = MR_OPTION_ENUM, .at = offsetof(struct mr_amqp_sink_options, mode),
     .default_text = "binary", .words = mode_words, .help = "CloudEvents content mode."},
    {.name = "headers", .type = MR_OPTION_ENUM,
     .at = offsetof(struct mr_amqp_sink_options, headers), .default_text = "cloudEvents:",
     .words = habit_words, .help = "What stands before an attribute's name in a header; bare: "
     "nothing, as Knative has it."},
    {.name = "persistent", .type = MR_OPTION_BOOL,
     .at = offsetof(struct mr_amqp_sink_options, persistent), .default_text = "true",
     .help = "Whether durable queues keep the message over a restart of the broker."},
    MR_OPTION_END,
};
/* clang-format on */

bool mr__amqp_is_tls(const struct mr_amqp_peer_options *peer)
{
    return strcmp(peer->url->scheme, "amqps") == 0;
}

uint16_t mr__amqp_port(const struct mr_amqp_peer_options *peer)
{
    if (peer->url->port != 0) {
        return peer->url->port;
    }
    return mr__amqp_is_tls(peer) ? 5671 : 5672;
}

static int hex_digit(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *at = c == '\0' ? NULL : strchr(digits, c >= 'A' && c <= 'F' ? c + 32 : c);
    return at == NULL ? -1 : (int)(at - digits);
}

/* @return false: a bad escape, a NUL, or too long */
static bool decode_percent(const char *from, char *to, size_t size)
{
    size_t at = 0;
    for (; *from != '\0'; from++) {
        int c = (unsigned char)*from;
        if (*from == '%') {
            int high = hex_digit(from[1]);
            int low = high < 0 ? -1 : hex_digit(from[2]);
            if (low < 0 || (high == 0 && low == 0)) {
                return false;
            }
            c = high * 16 + low;
            from += 2;
        }
        if (at + 1 >= size) {
            return false;
        }
        to[at++] = (char)c;
    }
    to[at] = '\0';
    return true;
}

enum mr_status mr__amqp_vhost(const struct mr_amqp_peer_options *peer,
                              char ret_vhost[MR_AMQP_VHOST_SIZE_MAX], struct mr_problem *problem)
{
    const char *path = peer->url->path == NULL ? "" : peer->url->path;
    if (peer->vhost != NULL && peer->vhost[0] != '\0') {
        if (strlen(peer->vhost) >= MR_AMQP_VHOST_SIZE_MAX) {
            return mr_problem_set(problem, MR_E_INVALID, "vhost: longer than %u bytes",
                                  MR_AMQP_VHOST_SIZE_MAX - 1);
        }
        (void)snprintf(ret_vhost, MR_AMQP_VHOST_SIZE_MAX, "%s", peer->vhost);
        return MR_OK;
    }
    if (path[0] == '/') {
        path++;
    }
    if (path[0] == '\0') {
        path = "/"; /* with or without the slash: what is meant is the default one */
    } else if (strpbrk(path, "/?#") != NULL) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "url: wants one virtual host behind the host, its / written as %%2F, "
                              "and no parameters");
    }
    if (!decode_percent(path, ret_vhost, MR_AMQP_VHOST_SIZE_MAX)) {
        return mr_problem_set(problem, MR_E_INVALID, "url: the virtual host is no text of at most "
                                                     "%u bytes", MR_AMQP_VHOST_SIZE_MAX - 1);
    }
    return MR_OK;
}

/* --- checks ----------------------------------------------------------------------------------- */

static enum mr_status check_peer(const struct mr_amqp_peer_options *peer,
                                 struct mr_problem *problem)
{
    char vhost[MR_AMQP_VHOST_SIZE_MAX];
    const char *scheme = peer->url == NULL ? "" : peer->url->scheme;
    if (strcmp(scheme, "amqp") != 0 && strcmp(scheme, "amqps") != 0) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "url: wants amqp://host[:port][/vhost] or amqps://…, not \"%s://\"",
                              scheme);
    }
    if (peer->url->host == NULL || peer->url->host[0] == '\0') {
        return mr_problem_set(problem, MR_E_INVALID, "url: names no host");
    }
    if (peer->heartbeat_ns % MR_SECOND != 0) {
        return mr_problem_set(problem, MR_E_INVALID, "heartbeat: wants whole seconds");
    }
    enum mr_status r = mr__tls_check(peer->tls_ca, peer->tls_cert, peer->tls_key,
                         mr__amqp_is_tls(peer) ? NULL : "amqps", problem);
    if (r == MR_OK && peer->sasl_mechanism == MR_AMQP_SASL_EXTERNAL) {
        if (peer->tls_cert == NULL) {
            return mr_problem_set(problem, MR_E_INVALID,
                                  "sasl_mechanism: external wants amqps:// and tls_cert");
        }
        if (peer->user != NULL || peer->url->user != NULL || peer->password != NULL) {
            return mr_problem_set(problem, MR_E_INVALID,
                                  "sasl_mechanism: external takes no user and no password");
        }
    }
    return r == MR_OK ? mr__amqp_vhost(peer, vhost, problem) : r;
}

static enum mr_status check_name(const char *option, const char *name, struct mr_problem *problem)
{
    if (name != NULL && (strlen(name) > MR_AMQP_NAME_SIZE_MAX ||
                         !mr_bytes_is_utf8(mr_bytes_of(name)))) {
        return mr_problem_set(problem, MR_E_INVALID, "%s: is no UTF-8 text of at most %u bytes",
                              option, MR_AMQP_NAME_SIZE_MAX);
    }
    return MR_OK;
}

static enum mr_status check_arguments(const char *json, struct mr_problem *problem)
{
    cJSON *root = json == NULL ? NULL : cJSON_Parse(json);
    if (json != NULL && !cJSON_IsObject(root)) {
        cJSON_Delete(root);
        return mr_problem_set(problem, MR_E_INVALID, "declare.arguments: wants a mapping");
    }
    enum mr_status r = MR_OK;
    for (const cJSON *at = root == NULL ? NULL : root->child; at != NULL; at = at->next) {
        bool number = cJSON_IsNumber(at) && at->valuedouble == floor(at->valuedouble) &&
                      fabs(at->valuedouble) < 9e15;
        if ((!number && !cJSON_IsString(at) && !cJSON_IsBool(at)) ||
            strlen(at->string) > MR_AMQP_NAME_SIZE_MAX) {
            r = mr_problem_set(problem, MR_E_INVALID,
                               "declare.arguments: %.100s wants a text, a whole number, true or "
                               "false", at->string);
            break;
        }
        if (strcmp(at->string, "x-queue-type") == 0) {
            r = mr_problem_set(problem, MR_E_INVALID,
                               "declare.arguments: x-queue-type is said by declare.type");
            break;
        }
    }
    cJSON_Delete(root);
    return r;
}

static enum mr_status check_declare(const struct mr_amqp_declare_options *d,
                                    struct mr_problem *problem)
{
    bool has_exchange = d->exchange != NULL && d->exchange[0] != '\0';
    enum mr_status r = check_name("declare.exchange", d->exchange, problem);
    for (uint32_t i = 0; r == MR_OK && i < d->bindings.count; i++) {
        r = check_name("declare.bindings", d->bindings.items[i], problem);
    }
    if (r != MR_OK) {
        return r;
    }
    if (!has_exchange &&
        (d->bindings.count > 0 || d->exchange_type != MR_AMQP_EXCHANGE_EXISTING)) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "declare.bindings and declare.exchange_type want declare.exchange");
    }
    if (d->type == MR_AMQP_QUEUE_PASSIVE && d->arguments != NULL) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "declare.arguments wants declare.type classic or quorum");
    }
    if (d->type == MR_AMQP_QUEUE_QUORUM && !d->durable) {
        return mr_problem_set(problem, MR_E_INVALID, "declare.durable: a quorum queue is durable");
    }
    return check_arguments(d->arguments, problem);
}

enum mr_status mr__amqp_check_source(const void *options, struct mr_problem *problem)
{
    const struct mr_amqp_source_options *o = options;
    enum mr_status r = check_peer(&o->peer, problem);
    if (r != MR_OK) {
        return r;
    }
    if (o->queue == NULL || o->queue[0] == '\0') {
        return mr_problem_set(problem, MR_E_INVALID, "queue: is empty");
    }
    r = check_name("queue", o->queue, problem);
    return r == MR_OK ? check_declare(&o->declare, problem) : r;
}

enum mr_status mr__amqp_check_sink(const void *options, struct mr_problem *problem)
{
    const struct mr_amqp_sink_options *o = options;
    bool has_exchange = o->exchange != NULL && o->exchange[0] != '\0';
    bool has_key = o->routing_key != NULL && o->routing_key[0] != '\0';
    enum mr_status r = check_peer(&o->peer, problem);
    if (r == MR_OK) {
        r = check_name("exchange", o->exchange, problem);
    }
    if (r != MR_OK) {
        return r;
    }
    if (!has_exchange && !has_key) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "wants `exchange`, or `routing_key` with the name of a queue");
    }
    if (!has_exchange && o->exchange_type != MR_AMQP_EXCHANGE_EXISTING) {
        return mr_problem_set(problem, MR_E_INVALID, "exchange_type wants `exchange`");
    }
    if (has_key && !mr_template_is_valid(o->routing_key)) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "routing_key: \"%s\" wants {{attribute}} with the name of a "
                              "CloudEvents attribute, {{data}} or {{data.path}}", o->routing_key);
    }
    return MR_OK;
}

/* Source: a batch with the bus, one being filled, a message being put together in the library's
 * memory and in ours. */
static uint64_t bytes_max(const void *options)
{
    (void)options;
    return 4ull * MR_BATCH_SIZE_MAX;
}

const struct mr_connector mr_connector_amqp = {
    .abi = MR_CONNECTOR_ABI,
    .name = "amqp",
    .source_kind = {.name = "amqp",
                    .options = source_options,
                    .options_size = sizeof(struct mr_amqp_source_options),
                    .check = mr__amqp_check_source},
    .source = &mr__amqp_source_ops,
    .sink_kind = {.name = "amqp",
                  .options = sink_options,
                  .options_size = sizeof(struct mr_amqp_sink_options),
                  .check = mr__amqp_check_sink},
    .sink = &mr__amqp_sink_ops,
    .source_bytes_max = bytes_max,
    .bytes_max = bytes_max,
};
