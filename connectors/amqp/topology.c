#include "connectors/amqp/topology.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

#include "core/alloc.h"

#define CHANNEL MR_AMQP_CHANNEL

static bool succeeded(struct mr_amqp_link *link, const char *what, const char *name)
{
    char text[MR_AMQP_NAME_SIZE_MAX + 40];
    (void)snprintf(text, sizeof(text), "%s %s", what, name);
    bool ok = mr__amqp_link_check(link, amqp_get_rpc_reply(link->conn), text);
    if (ok) {
        amqp_maybe_release_buffers(link->conn);
    }
    return ok;
}

static bool find_exchange(struct mr_amqp_link *link, const char *name, int type)
{
    bool passive = type == MR_AMQP_EXCHANGE_EXISTING;
    amqp_exchange_declare(link->conn, CHANNEL, amqp_cstring_bytes(name),
                          amqp_cstring_bytes(passive ? "direct" : mr__amqp_exchange_words[type]),
                          passive, 1, 0, 0, amqp_empty_table);
    return succeeded(link, "exchange", name);
}

/* Numbers go out as 64 bits, which the broker compares by value. */
static void fill_argument(const cJSON *from, amqp_table_entry_t *to)
{
    to->key = amqp_cstring_bytes(from->string);
    if (cJSON_IsString(from)) {
        to->value.kind = AMQP_FIELD_KIND_UTF8;
        to->value.value.bytes = amqp_cstring_bytes(from->valuestring);
    } else if (cJSON_IsBool(from)) {
        to->value.kind = AMQP_FIELD_KIND_BOOLEAN;
        to->value.value.boolean = cJSON_IsTrue(from);
    } else {
        to->value.kind = AMQP_FIELD_KIND_I64;
        to->value.value.i64 = (int64_t)from->valuedouble;
    }
}

static bool declare_queue(struct mr_amqp_link *link, const struct mr_amqp_source_options *o,
                          uint64_t *ret_waiting)
{
    const struct mr_amqp_declare_options *d = &o->declare;
    bool passive = d->type == MR_AMQP_QUEUE_PASSIVE;
    cJSON *root = d->arguments == NULL ? NULL : cJSON_Parse(d->arguments);
    int count = cJSON_GetArraySize(root);
    amqp_table_entry_t *entries = mr_calloc((size_t)count + 1, sizeof(*entries));
    if (entries == NULL || (root == NULL && d->arguments != NULL)) {
        cJSON_Delete(root);
        mr_free(entries);
        mr__amqp_link_fail(link, "out of memory");
        return false;
    }
    amqp_table_t table = {.entries = entries};
    if (!passive) {
        entries[0].key = amqp_cstring_bytes("x-queue-type");
        entries[0].value.kind = AMQP_FIELD_KIND_UTF8;
        entries[0].value.value.bytes =
            amqp_cstring_bytes(d->type == MR_AMQP_QUEUE_QUORUM ? "quorum" : "classic");
        table.num_entries = 1;
    }
    for (const cJSON *at = root == NULL ? NULL : root->child; at != NULL; at = at->next) {
        fill_argument(at, &entries[table.num_entries++]);
    }
    const amqp_queue_declare_ok_t *ok =
        amqp_queue_declare(link->conn, CHANNEL, amqp_cstring_bytes(o->queue), passive, d->durable,
                           0, 0, table);
    *ret_waiting = ok == NULL ? 0 : ok->message_count;
    cJSON_Delete(root);
    mr_free(entries);
    return succeeded(link, "queue", o->queue);
}

static bool bind_queue(struct mr_amqp_link *link, const struct mr_amqp_source_options *o)
{
    const struct mr_amqp_declare_options *d = &o->declare;
    uint32_t count = d->bindings.count == 0 ? 1 : d->bindings.count;
    for (uint32_t i = 0; i < count; i++) {
        const char *key = d->bindings.count == 0 ? "" : d->bindings.items[i];
        amqp_queue_bind(link->conn, CHANNEL, amqp_cstring_bytes(o->queue),
                        amqp_cstring_bytes(d->exchange), amqp_cstring_bytes(key),
                        amqp_empty_table);
        if (!succeeded(link, "binding to exchange", d->exchange)) {
            return false;
        }
    }
    return true;
}

bool mr__amqp_consume(struct mr_amqp_link *link, const struct mr_amqp_source_options *options,
                      uint64_t *ret_waiting)
{
    const struct mr_amqp_declare_options *d = &options->declare;
    bool bound = d->exchange != NULL && d->exchange[0] != '\0';
    if (!declare_queue(link, options, ret_waiting) ||
        (bound && !find_exchange(link, d->exchange, d->exchange_type)) ||
        (bound && !bind_queue(link, options))) {
        return false;
    }
    amqp_basic_qos(link->conn, CHANNEL, 0, (uint16_t)options->prefetch, 0);
    if (!succeeded(link, "prefetch of queue", options->queue)) {
        return false;
    }
    amqp_basic_consume(link->conn, CHANNEL, amqp_cstring_bytes(options->queue),
                       amqp_cstring_bytes(MR_AMQP_CONSUMER_TAG), 0, 0, 0, amqp_empty_table);
    return succeeded(link, "consuming from queue", options->queue);
}

bool mr__amqp_confirm(struct mr_amqp_link *link, const struct mr_amqp_sink_options *options)
{
    const char *exchange = options->exchange;
    if (exchange != NULL && exchange[0] != '\0' &&
        !find_exchange(link, exchange, options->exchange_type)) {
        return false;
    }
    amqp_confirm_select(link->conn, CHANNEL);
    return succeeded(link, "publisher confirms of exchange",
                     exchange == NULL || exchange[0] == '\0' ? "(default)" : exchange);
}
