#include "schemas/normalise.h"

#include "core/assert.h"
#include "core/limits.h"
#include "schemas/adapt.h"
#include "schemas/json_format.h"
#include "schemas/json_scan.h"
#include "schemas/normalise_message.h"
#include "schemas/text.h"

struct run;

/* A protocol with a binding of its own; what else --as may say are the adapters of adapter.h. */
struct protocol {
    const char *name;
    enum mr_status (*run)(struct run *run);
    enum mr_adapter number;
    enum mr__recorded_kind kind; /* of its messages */
};

/* One run over one input. */
struct run {
    const struct mr_normalise_options *options; /* borrowed */
    const struct protocol *adapter;             /* borrowed */
    struct mr_bytes name;                       /* of the source */
    struct mr__recorded *recorded;              /* borrowed: the message in work */
    struct mr_buf *out;                         /* borrowed */
    struct mr_problem *problem;                 /* borrowed */
    uint64_t unique;                            /* of the next id */
    char id[MR__UUID_SIZE];
};

static struct mr_bytes make_id(struct run *run)
{
    mr__adapt_uuid(run->unique++, run->id);
    return mr_bytes(run->id, sizeof(run->id) - 1);
}

static enum mr_status emit(struct run *run, const struct mr_event *event)
{
    enum mr_status r = mr_json_encode_event(mr_event_record(event), run->out);
    if (r == MR_OK) {
        r = mr_buf_append_byte(run->out, '\n');
    }
    return r == MR_OK ? r : mr_problem_set(run->problem, r, "the output: %s", mr_status_text(r));
}

static enum mr_status emit_all(struct run *run, struct mr_events *events)
{
    enum mr_status r = MR_OK;
    for (uint32_t i = 0; r == MR_OK && i < events->count; i++) {
        r = emit(run, events->events[i]);
    }
    mr_events_release(events);
    return r;
}

static enum mr_status emit_one(struct run *run, struct mr_event *event)
{
    enum mr_status r = emit(run, event);
    mr_event_unref(event);
    return r;
}

/* The adapters of schemas/adapter.h; what a control message wants is said on no line. */
static enum mr_status run_adapter(struct run *run)
{
    const struct mr__recorded *recorded = run->recorded;
    struct mr_adapt_input input = {
        .body = recorded->body,
        .headers = recorded->fields,
        .header_count = recorded->field_count,
        .source_name = run->name,
        .received_wall_ns = run->options->wall_ns,
        .unique = run->options->unique,
        .size_max = MR_EVENT_SIZE_MAX,
    };
    struct mr_adapted adapted;
    enum mr_status r = mr_adapt(run->adapter->number, &input, &adapted, run->problem);
    if (r != MR_OK) {
        return r;
    }
    r = emit_all(run, &adapted.events);
    mr_adapted_release(&adapted);
    return r;
}

static enum mr_status run_mqtt(struct run *run)
{
    const struct mr__recorded *recorded = run->recorded;
    struct mr_mqtt_message message = {
        .version = recorded->version,
        .topic = recorded->topic,
        .content_type = recorded->content_type,
        .user_properties = recorded->fields,
        .user_property_count = recorded->field_count,
        .payload = recorded->body,
        .retained = recorded->retained,
    };
    struct mr_event *event;
    enum mr_status r = mr_mqtt_decode(&message, MR_EVENT_SIZE_MAX, &event, run->problem);
    if (r == MR_E_NOT_CLOUDEVENT) {
        r = mr_mqtt_wrap(&message, run->name, make_id(run), run->options->wall_ns,
                         MR_EVENT_SIZE_MAX, &event, run->problem);
    }
    return r == MR_OK ? emit_one(run, event) : r;
}

static enum mr_status run_kafka(struct run *run)
{
    const struct mr__recorded *recorded = run->recorded;
    struct mr_kafka_record record = {
        .topic = recorded->topic,
        .partition = recorded->partition,
        .offset = recorded->offset,
        .key = recorded->key,
        .has_key = recorded->has_key,
        .value = recorded->body,
        .has_value = recorded->has_body,
        .headers = recorded->fields,
        .header_count = recorded->field_count,
        .timestamp_ms = recorded->timestamp_ms,
    };
    struct mr_events events = {0};
    enum mr_status r = mr_kafka_decode(&record, MR_EVENT_SIZE_MAX, &events, run->problem);
    if (r == MR_OK) {
        return emit_all(run, &events);
    }
    struct mr_event *event;
    if (r == MR_E_NOT_CLOUDEVENT) {
        r = mr_kafka_wrap(&record, run->name, run->options->wall_ns, MR_EVENT_SIZE_MAX, &event,
                          run->problem);
    }
    return r == MR_OK ? emit_one(run, event) : r;
}

static enum mr_status run_amqp(struct run *run)
{
    const struct mr__recorded *recorded = run->recorded;
    struct mr_amqp_message message = {
        .is_1_0 = recorded->is_1_0,
        .content_type = recorded->content_type,
        .message_id = recorded->message_id,
        .timestamp_ms = recorded->timestamp_ms,
        .headers = recorded->typed,
        .header_count = recorded->field_count,
        .body = recorded->body,
    };
    struct mr_events events = {0};
    enum mr_status r = mr_amqp_decode(&message, MR_EVENT_SIZE_MAX, &events, run->problem);
    if (r == MR_OK) {
        return emit_all(run, &events);
    }
    struct mr_event *event;
    if (r == MR_E_NOT_CLOUDEVENT) {
        r = mr_amqp_wrap(&message, run->name, recorded->topic, make_id(run),
                         run->options->wall_ns, MR_EVENT_SIZE_MAX, &event, run->problem);
    }
    return r == MR_OK ? emit_one(run, event) : r;
}

static enum mr_status run_nats(struct run *run)
{
    struct mr_events events = {0};
    enum mr_status r =
        mr_nats_decode(run->recorded->fields, run->recorded->field_count, run->recorded->body,
                       MR_EVENT_SIZE_MAX, &events, run->problem);
    return r == MR_OK ? emit_all(run, &events) : r;
}

static enum mr_status run_jms(struct run *run)
{
    struct mr_event *event;
    enum mr_status r = mr__recorded_jms(run->recorded, make_id(run), run->options->wall_ns, &event,
                                        run->problem);
    return r == MR_OK ? emit_one(run, event) : r;
}

/* By what the message is. */
static enum mr_status run_auto(struct run *run)
{
    switch (run->recorded->kind) {
    case MR__RECORDED_MQTT:
        return run_mqtt(run);
    case MR__RECORDED_KAFKA:
        return run_kafka(run);
    case MR__RECORDED_AMQP:
        return run_amqp(run);
    case MR__RECORDED_JMS:
        return run_jms(run);
    case MR__RECORDED_PAYLOAD:
    case MR__RECORDED_HTTP:
        break;
    }
    return run_adapter(run);
}

static enum mr_status run_recorded(void *context, struct mr__recorded *recorded)
{
    struct run *run = context;
    run->recorded = recorded;
    return run_auto(run);
}

static const struct protocol protocols[] = {
    {"kafka", run_kafka, MR_ADAPTER_MAX, MR__RECORDED_KAFKA},
    {"amqp", run_amqp, MR_ADAPTER_MAX, MR__RECORDED_AMQP},
    {"mqtt", run_mqtt, MR_ADAPTER_MAX, MR__RECORDED_MQTT},
    {"nats", run_nats, MR_ADAPTER_MAX, MR__RECORDED_PAYLOAD},
    {"auto", run_auto, MR_ADAPTER_AUTO, MR__RECORDED_PAYLOAD},
};

/* @return false: there is none of that name */
static bool find_adapter(const char *name, struct protocol *ret_adapter)
{
    for (size_t i = 0; i < MR_ARRAY_COUNT(protocols); i++) {
        if (strcmp(protocols[i].name, name) == 0) {
            *ret_adapter = protocols[i];
            return true;
        }
    }
    for (int i = 0; mr_adapter_words[i] != NULL; i++) {
        if (strcmp(mr_adapter_words[i], name) == 0) {
            *ret_adapter = (struct protocol){name, run_adapter, (enum mr_adapter)i,
                                             MR__RECORDED_PAYLOAD};
            return true;
        }
    }
    return false;
}

static enum mr_status refuse_adapter(const char *name, struct mr_problem *problem)
{
    struct mr_buf list;
    mr_buf_init(&list, 1024);
    enum mr_status r = mr_buf_append_text(&list, "kafka amqp mqtt nats");
    for (int i = 0; r == MR_OK && mr_adapter_words[i] != NULL; i++) {
        r = mr_buf_printf(&list, " %s", mr_adapter_words[i]);
    }
    (void)mr_problem_set(problem, MR_E_UNSUPPORTED, "there is no adapter \"%s\", only %.*s", name,
                         (int)list.size, list.data == NULL ? "" : (const char *)list.data);
    mr_buf_release(&list);
    return MR_E_UNSUPPORTED;
}

static bool has(struct mr_bytes object, const char *name)
{
    struct mr_bytes value;
    return mr__json_find(object, name, &value);
}

/* A file that holds a recorded message is read as one even when nobody said so: a message of the
 * broker asked for, or a request that is a CloudEvent in binary mode. */
static bool is_recorded(const struct run *run, struct mr_bytes input)
{
    struct mr_bytes value;
    switch (run->adapter->kind) {
    case MR__RECORDED_MQTT:
        return run->options->topic == NULL && mr__json_find(input, "topic", &value) &&
               value.data[0] == '"' && (has(input, "payload") || has(input, "payload_base64"));
    case MR__RECORDED_KAFKA:
        return run->options->headers_text == NULL &&
               (has(input, "value") || has(input, "value_base64")) &&
               (has(input, "headers") || (has(input, "partition") && has(input, "offset")));
    case MR__RECORDED_AMQP:
        return run->options->headers_text == NULL && has(input, "protocol") &&
               (has(input, "headers") || has(input, "properties"));
    case MR__RECORDED_PAYLOAD:
    case MR__RECORDED_HTTP:
    case MR__RECORDED_JMS:
        break;
    }
    return run->adapter->number != MR_ADAPTER_GENERIC && run->options->headers_text == NULL &&
           mr__json_find(input, "headers", &value) && has(value, "ce-specversion");
}

/* Takes the input apart by the options. */
static enum mr_status read_input(const struct run *run, struct mr_bytes input,
                                 struct mr__recorded *recorded)
{
    const struct mr_normalise_options *options = run->options;
    enum mr_status r = MR_OK;
    recorded->kind = run->adapter->kind;
    if (options->message || is_recorded(run, input)) {
        r = mr__recorded_message(recorded, input, run->problem);
    } else {
        recorded->body = input;
        recorded->has_body = true;
        if (options->topic != NULL && recorded->kind == MR__RECORDED_PAYLOAD) {
            recorded->kind = MR__RECORDED_MQTT;
        }
    }
    if (r == MR_OK && options->headers_text != NULL) {
        r = mr__recorded_headers(recorded, options->headers_text, run->problem);
    }
    if (options->topic != NULL && recorded->topic.size == 0) {
        recorded->topic = mr_bytes_of(options->topic);
    }
    return r;
}

enum mr_status mr_normalise_in(const struct mr_normalise_options *options, struct mr_bytes input,
                               struct mr_buf *out, struct mr_problem *problem)
{
    struct protocol adapter;
    if (!find_adapter(options->as, &adapter)) {
        return refuse_adapter(options->as, problem);
    }
    struct run run = {
        .options = options,
        .adapter = &adapter,
        .name = mr_bytes_of(options->source_name == NULL ? "normalise" : options->source_name),
        .out = out,
        .problem = problem,
        .unique = options->unique,
    };
    struct mr__recorded recorded;
    mr__recorded_init(&recorded);
    enum mr_status r;
    bool broker = adapter.kind == MR__RECORDED_KAFKA || adapter.kind == MR__RECORDED_AMQP ||
                  adapter.number == MR_ADAPTER_AUTO;
    if (broker && mr__recorded_is_aws(input)) {
        r = mr__recorded_aws(input, run_recorded, &run, problem);
    } else {
        r = read_input(&run, input, &recorded);
        run.recorded = &recorded;
        r = r == MR_OK ? adapter.run(&run) : r;
    }
    if (r == MR_OK && problem != NULL) {
        problem->text[0] = '\0'; /* left by an attempt that another adapter made good */
    }
    mr__recorded_release(&recorded);
    return r;
}
