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
};

/* One run over one input. */
struct run {
    const struct mr_normalise_options *options; /* borrowed */
    const struct protocol *adapter;             /* borrowed */
    struct mr_bytes name;                       /* of the source */
    struct mr__recorded recorded;               /* the input, taken apart */
    struct mr_buf *out;                         /* borrowed */
    struct mr_problem *problem;                 /* borrowed */
    char id[MR__UUID_SIZE];
};

static struct mr_bytes make_id(struct run *run)
{
    mr__adapt_uuid(run->options->unique, run->id);
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

static enum mr_status read_json(struct mr_bytes text, struct mr_events *ret_events,
                                struct mr_problem *problem)
{
    struct mr_field json = {MR_BYTES_LITERAL("content-type"),
                            MR_BYTES_LITERAL("application/cloudevents+json")};
    struct mr__scan s;
    mr__scan_init(&s, text);
    mr__scan_space(&s);
    if (mr__scan_peek(&s) == '[') {
        json.value = MR_BYTES_LITERAL("application/cloudevents-batch+json");
    }
    bool unknown;
    return mr_http_decode(&json, 1, text, MR_EVENT_SIZE_MAX, ret_events, &unknown, problem);
}

/* The adapters of schemas/adapter.h; what a control message wants is said on no line. */
static enum mr_status run_adapter(struct run *run)
{
    const struct mr__recorded *recorded = &run->recorded;
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
    const struct mr__recorded *recorded = &run->recorded;
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

static enum mr_status run_auto(struct run *run)
{
    return run->recorded.has_topic ? run_mqtt(run) : run_adapter(run);
}

static const struct protocol protocols[] = {
    {"mqtt", run_mqtt, MR_ADAPTER_MAX},
    {"auto", run_auto, MR_ADAPTER_AUTO},
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
            *ret_adapter = (struct protocol){name, run_adapter, (enum mr_adapter)i};
            return true;
        }
    }
    return false;
}

/* A file that holds a recorded message is read as one even when nobody said so: an MQTT message,
 * or a request that is a CloudEvent in binary mode. */
static bool is_recorded(const struct run *run, struct mr_bytes input)
{
    struct mr_bytes value;
    if (run->adapter->run == run_mqtt) {
        return run->options->topic == NULL && mr__json_find(input, "topic", &value) &&
               value.data[0] == '"' &&
               (mr__json_find(input, "payload", &value) ||
                mr__json_find(input, "payload_base64", &value));
    }
    return run->adapter->number != MR_ADAPTER_GENERIC && run->options->headers_text == NULL &&
           mr__json_find(input, "headers", &value) &&
           mr__json_find(value, "ce-specversion", &value);
}

/* Takes the input apart by the options. */
static enum mr_status read_input(struct run *run, struct mr_bytes input)
{
    const struct mr_normalise_options *options = run->options;
    struct mr__recorded *recorded = &run->recorded;
    enum mr_status r = MR_OK;
    if (options->message || is_recorded(run, input)) {
        r = mr__recorded_message(recorded, input, run->problem);
    } else {
        recorded->body = input;
    }
    if (r == MR_OK && options->headers_text != NULL) {
        r = mr__recorded_headers(recorded, options->headers_text, run->problem);
    }
    if (options->topic != NULL && recorded->topic.size == 0) {
        recorded->topic = mr_bytes_of(options->topic);
        recorded->has_topic = true;
    }
    return r;
}

enum mr_status mr_normalise_in(const struct mr_normalise_options *options, struct mr_bytes input,
                               struct mr_buf *out, struct mr_problem *problem)
{
    struct protocol adapter;
    if (!find_adapter(options->as, &adapter)) {
        return mr_problem_set(problem, MR_E_UNSUPPORTED, "there is no adapter \"%s\"",
                              options->as);
    }
    struct run run = {
        .options = options,
        .adapter = &adapter,
        .name = mr_bytes_of(options->source_name == NULL ? "normalise" : options->source_name),
        .out = out,
        .problem = problem,
    };
    mr__recorded_init(&run.recorded);
    enum mr_status r = read_input(&run, input);
    if (r == MR_OK) {
        r = adapter.run(&run);
    }
    if (r == MR_OK && problem != NULL) {
        problem->text[0] = '\0'; /* left by an attempt that another adapter made good */
    }
    mr__recorded_release(&run.recorded);
    return r;
}

/* ,"key":"value", or with _base64 behind the key when @p bytes is no text. */
static enum mr_status append_body(struct mr_buf *out, const char *key, struct mr_bytes bytes)
{
    bool text = mr_bytes_is_utf8(bytes);
    enum mr_status r = mr_buf_printf(out, ",\"%s%s\":", key, text ? "" : "_base64");
    if (r != MR_OK || text) {
        return r == MR_OK ? mr_buf_append_json(out, bytes) : r;
    }
    r = mr_buf_append_byte(out, '"');
    if (r == MR_OK) {
        r = mr_buf_append_base64(out, bytes);
    }
    return r == MR_OK ? mr_buf_append_byte(out, '"') : r;
}

/* Two strings with @p between them, a comma before them unless they are the first. */
static enum mr_status append_pair(struct mr_buf *out, bool first, struct mr_bytes name,
                                  char between, struct mr_bytes value)
{
    enum mr_status r = first ? MR_OK : mr_buf_append_byte(out, ',');
    if (r == MR_OK && between == ',') {
        r = mr_buf_append_byte(out, '[');
    }
    if (r == MR_OK) {
        r = mr_buf_append_json(out, name);
    }
    if (r == MR_OK) {
        r = mr_buf_append_byte(out, (uint8_t)between);
    }
    if (r == MR_OK) {
        r = mr_buf_append_json(out, value);
    }
    return r == MR_OK && between == ',' ? mr_buf_append_byte(out, ']') : r;
}

static enum mr_status print_http(struct mr_buf *out, const struct mr_message *message)
{
    enum mr_status r = mr_buf_append_text(out, "{\"headers\":{");
    bool typed = message->content_type.size > 0;
    if (r == MR_OK && typed) {
        r = append_pair(out, true, MR_BYTES_LITERAL("Content-Type"), ':', message->content_type);
    }
    for (uint32_t i = 0; r == MR_OK && i < message->field_count; i++) {
        r = append_pair(out, i == 0 && !typed, message->fields[i].name, ':',
                        message->fields[i].value);
    }
    if (r == MR_OK) {
        r = mr_buf_append_byte(out, '}');
    }
    if (r == MR_OK) {
        r = append_body(out, "body", mr_buf_bytes(&message->body));
    }
    return r == MR_OK ? mr_buf_append_text(out, "}\n") : r;
}

static enum mr_status print_mqtt(struct mr_buf *out, const struct mr_message *message)
{
    enum mr_status r = mr_buf_append_text(out, "{\"version\":5");
    if (r == MR_OK && message->content_type.size > 0) {
        r = append_pair(out, false, MR_BYTES_LITERAL("content_type"), ':', message->content_type);
    }
    if (r == MR_OK) {
        r = mr_buf_append_text(out, ",\"user_properties\":[");
    }
    for (uint32_t i = 0; r == MR_OK && i < message->field_count; i++) {
        r = append_pair(out, i == 0, message->fields[i].name, ',', message->fields[i].value);
    }
    if (r == MR_OK) {
        r = mr_buf_append_byte(out, ']');
    }
    if (r == MR_OK) {
        r = append_body(out, "payload", mr_buf_bytes(&message->body));
    }
    return r == MR_OK ? mr_buf_append_text(out, "}\n") : r;
}

/* All events of a batch in one body. */
static enum mr_status encode_batch(const struct mr_events *events, struct mr_message *message)
{
    message->content_type = MR_BYTES_LITERAL("application/cloudevents-batch+json");
    message->has_body = true;
    enum mr_status r = mr_buf_append_byte(&message->body, '[');
    for (uint32_t i = 0; r == MR_OK && i < events->count; i++) {
        if (i > 0) {
            r = mr_buf_append_byte(&message->body, ',');
        }
        if (r == MR_OK) {
            r = mr_json_encode_exact(mr_event_record(events->events[i]), &message->body);
        }
    }
    return r == MR_OK ? mr_buf_append_byte(&message->body, ']') : r;
}

static enum mr_status print_events(bool http, enum mr_mode mode, const struct mr_events *events,
                                   struct mr_buf *out, struct mr_problem *problem)
{
    struct mr_message message;
    mr_message_init(&message);
    size_t before = out->size;
    enum mr_status r =
        mode == MR_MODE_BATCH ? encode_batch(events, &message)
        : http ? mr_http_encode(mr_event_record(events->events[0]), mode, &message)
               : mr_mqtt_encode(mr_event_record(events->events[0]), 5, mode, &message);
    if (r == MR_OK) {
        r = http ? print_http(out, &message) : print_mqtt(out, &message);
    }
    mr_message_release(&message);
    if (r != MR_OK) {
        out->size = before;
        return mr_problem_set(problem, r, "the output: %s", mr_status_text(r));
    }
    return MR_OK;
}

enum mr_status mr_normalise_out(const char *protocol, enum mr_mode mode, struct mr_bytes input,
                                struct mr_buf *out, struct mr_problem *problem)
{
    bool http = strcmp(protocol, "http") == 0;
    if (!http && strcmp(protocol, "mqtt") != 0) {
        return mr_problem_set(problem, MR_E_UNSUPPORTED,
                              "--to %s is not in this release, which has http and mqtt", protocol);
    }
    if (!http && mode == MR_MODE_BATCH) {
        return mr_problem_set(problem, MR_E_UNSUPPORTED, "MQTT knows no batches of CloudEvents");
    }
    struct mr_events events = {0};
    enum mr_status r = read_json(input, &events, problem);
    if (r != MR_OK) {
        return r;
    }
    if (mode != MR_MODE_BATCH && events.count != 1) {
        r = mr_problem_set(problem, MR_E_INVALID,
                           "%u events do not fit one message; use --mode batch", events.count);
    } else {
        r = print_events(http, mode, &events, out, problem);
    }
    mr_events_release(&events);
    return r;
}
