#include "schemas/adapter.h"

#include "core/alloc.h"
#include "core/assert.h"
#include "core/clock.h"
#include "core/limits.h"
#include "core/logger.h"
#include "schemas/adapt.h"
#include "schemas/builder.h"
#include "schemas/text.h"

const char *const mr_adapter_words[] = {
    [MR_ADAPTER_CLOUDEVENTS] = "cloudevents",
    [MR_ADAPTER_HTTP] = "http",
    [MR_ADAPTER_S3] = "s3",
    [MR_ADAPTER_OSS] = "oss",
    [MR_ADAPTER_COS] = "cos",
    [MR_ADAPTER_OBS] = "obs",
    [MR_ADAPTER_GCS] = "gcs",
    [MR_ADAPTER_AZURE_BLOB] = "azure-blob",
    [MR_ADAPTER_GCF] = "gcf",
    [MR_ADAPTER_SNS] = "sns",
    [MR_ADAPTER_EVENTBRIDGE] = "eventbridge",
    [MR_ADAPTER_ALERTMANAGER] = "alertmanager",
    [MR_ADAPTER_GRAFANA] = "grafana",
    [MR_ADAPTER_GITHUB] = "github",
    [MR_ADAPTER_GITLAB] = "gitlab",
    [MR_ADAPTER_STRIPE] = "stripe",
    [MR_ADAPTER_SHOPIFY] = "shopify",
    [MR_ADAPTER_K8S] = "k8s",
    [MR_ADAPTER_CDEVENTS] = "cdevents",
    [MR_ADAPTER_GENERIC] = "generic",
    [MR_ADAPTER_AUTO] = "auto",
    [MR_ADAPTER_MAX] = NULL,
};

static void adapt_cloudevents(struct mr__adapt *run)
{
    mr__adapt_cloudevents(run, run->body);
}

/* What the HTTP binding takes for a CloudEvent. @return false: it is none */
static bool adapt_bound(struct mr__adapt *run)
{
    struct mr_problem inner = {0};
    struct mr_events events = {0};
    bool unknown;
    enum mr_status r =
        mr_http_decode(run->input->headers, run->input->header_count, run->input->body,
                       run->input->size_max, &events, &unknown, &inner);
    if (r == MR_E_NOT_CLOUDEVENT) {
        (void)mr_problem_set(run->problem, r, "%s", inner.text);
        return false;
    }
    if (r != MR_OK) {
        mr__adapt_fail(run, r, "%s", inner.text);
    } else {
        run->adapted->events = events;
        run->capacity = events.count;
    }
    return true;
}

static void adapt_http(struct mr__adapt *run)
{
    if (!adapt_bound(run)) {
        run->status = MR_E_NOT_CLOUDEVENT;
    }
}

void mr__adapt_run(struct mr__adapt *run, enum mr_adapter adapter)
{
    static void (*const adapters[MR_ADAPTER_MAX])(struct mr__adapt *) = {
        [MR_ADAPTER_CLOUDEVENTS] = adapt_cloudevents,
        [MR_ADAPTER_HTTP] = adapt_http,
        [MR_ADAPTER_S3] = mr__adapt_s3,
        [MR_ADAPTER_OSS] = mr__adapt_oss,
        [MR_ADAPTER_COS] = mr__adapt_cos,
        [MR_ADAPTER_OBS] = mr__adapt_obs,
        [MR_ADAPTER_GCS] = mr__adapt_gcs,
        [MR_ADAPTER_AZURE_BLOB] = mr__adapt_azure_blob,
        [MR_ADAPTER_GCF] = mr__adapt_gcf,
        [MR_ADAPTER_SNS] = mr__adapt_sns,
        [MR_ADAPTER_EVENTBRIDGE] = mr__adapt_eventbridge,
        [MR_ADAPTER_ALERTMANAGER] = mr__adapt_alertmanager,
        [MR_ADAPTER_GRAFANA] = mr__adapt_grafana,
        [MR_ADAPTER_GITHUB] = mr__adapt_github,
        [MR_ADAPTER_GITLAB] = mr__adapt_gitlab,
        [MR_ADAPTER_STRIPE] = mr__adapt_stripe,
        [MR_ADAPTER_SHOPIFY] = mr__adapt_shopify,
        [MR_ADAPTER_K8S] = mr__adapt_k8s,
        [MR_ADAPTER_CDEVENTS] = mr__adapt_cdevents,
        [MR_ADAPTER_GENERIC] = mr__adapt_generic,
        [MR_ADAPTER_AUTO] = mr__adapt_auto,
    };
    MR_ASSERT(adapter < MR_ADAPTER_MAX);
    adapters[adapter](run);
}

enum mr_status mr_adapt(enum mr_adapter adapter, const struct mr_adapt_input *input,
                        struct mr_adapted *ret_adapted, struct mr_problem *problem)
{
    struct mr_adapted adapted = {0};
    struct mr__adapt run = {
        .input = input, .body = input->body, .problem = problem, .adapted = &adapted};
    mr_time_format(input->received_wall_ns, run.received);
    if (mr_bytes_starts(run.body, MR_BYTES_LITERAL("\xEF\xBB\xBF"))) {
        run.body = mr_bytes(run.body.data + 3, run.body.size - 3);
    }
    /* What is a CloudEvent already stays one (digest 16.2), whoever was expected to send it. */
    bool bound = input->header_count > 0 && adapter != MR_ADAPTER_GENERIC &&
                 adapter != MR_ADAPTER_HTTP && adapter != MR_ADAPTER_CLOUDEVENTS &&
                 adapt_bound(&run);
    if (!bound) {
        mr__adapt_run(&run, adapter);
    }
    if (run.status != MR_OK) {
        mr_adapted_release(&adapted);
        return run.status;
    }
    if (problem != NULL) {
        problem->text[0] = '\0'; /* of an attempt that another adapter made good */
    }
    *ret_adapted = adapted;
    return MR_OK;
}

void mr_adapted_release(struct mr_adapted *adapted)
{
    mr_events_release(&adapted->events);
    mr_free(adapted->answer);
    mr_free(adapted->confirm_url);
    *adapted = (struct mr_adapted){0};
}

/* The Content-Type when it is a media type, else the one that promises nothing. */
static struct mr_bytes content_type_of(const struct mr_field *headers, uint32_t header_count)
{
    for (uint32_t i = 0; i < header_count; i++) {
        if (mr_bytes_equal_nocase(headers[i].name, MR_BYTES_LITERAL("content-type"))) {
            struct mr_bytes value = mr_bytes_trim(headers[i].value);
            if (mr__text_is_media_type(value) && mr__text_is_string(value)) {
                return value;
            }
        }
    }
    return MR_BYTES_LITERAL("application/octet-stream");
}

enum mr_status mr_adapt_generic(const struct mr_field *headers, uint32_t header_count,
                                struct mr_bytes body, struct mr_bytes id, struct mr_bytes source,
                                struct mr_bytes type, uint64_t received_wall_ns, size_t size_max,
                                struct mr_event **ret_event, struct mr_problem *problem)
{
    char time[MR_TIME_TEXT_SIZE];
    const struct {
        const char *name;
        enum mr_attr_type type;
        struct mr_bytes value;
    } attrs[] = {
        {"id", MR_ATTR_STRING, id},
        {"source", MR_ATTR_URI_REF, source},
        {"type", MR_ATTR_STRING, type},
        {"time", MR_ATTR_TIMESTAMP, mr_bytes_of(mr_time_format(received_wall_ns, time))},
        {"datacontenttype", MR_ATTR_STRING, content_type_of(headers, header_count)},
    };
    size_t count = MR_ARRAY_COUNT(attrs) - (body.size == 0); /* no data, no type of it */
    struct mr_event_builder builder;
    mr_event_builder_init(&builder, size_max);
    enum mr_status r = MR_OK;
    for (size_t i = 0; r == MR_OK && i < count; i++) {
        r = mr_event_builder_attr(&builder, mr_bytes_of(attrs[i].name), attrs[i].type,
                                  attrs[i].value, problem);
    }
    if (r != MR_OK) {
        mr_event_builder_release(&builder);
        return r;
    }
    if (body.size > 0) {
        mr_event_builder_data(&builder, body, false);
    }
    return mr_event_builder_finish(&builder, true, ret_event, problem);
}

/* A reason as an attribute may hold it: on top of what cleaning does, no noncharacters. */
static void clean_reason(const char *reason, char to[MR_ERROR_TEXT_MAX])
{
    mr_text_clean(to, MR_ERROR_TEXT_MAX, mr_bytes_of(reason));
    if (to[0] == '\0') {
        memcpy(to, "rejected", sizeof("rejected"));
    }
    if (mr__text_is_string(mr_bytes_of(to))) {
        return;
    }
    for (char *p = to; *p != '\0'; p++) {
        *p = (uint8_t)*p >= 0x80 ? '?' : *p; /* rare enough not to look for the one culprit */
    }
}

enum mr_status mr_adapt_rejected(struct mr_bytes source_name, struct mr_bytes id,
                                 struct mr_bytes raw, const char *reason,
                                 uint64_t received_wall_ns, size_t size_max,
                                 struct mr_event **ret_event)
{
    char time[MR_TIME_TEXT_SIZE];
    char clean[MR_ERROR_TEXT_MAX];
    clean_reason(reason, clean);
    struct mr_buf source;
    mr_buf_init(&source, MR_EVENT_ATTRS_SIZE_MAX);
    enum mr_status r = mr_buf_append_text(&source, "/millrace/source/");
    if (r == MR_OK) {
        r = mr__text_append_path(&source, source_name);
    }
    const struct {
        const char *name;
        struct mr_bytes value;
    } attrs[] = {
        {"id", id},
        {"source", mr_buf_bytes(&source)},
        {"type", MR_BYTES_LITERAL("io.millrace.ingest.rejected")},
        {"time", mr_bytes_of(mr_time_format(received_wall_ns, time))},
        {"datacontenttype", MR_BYTES_LITERAL("application/octet-stream")},
        {"reason", mr_bytes_of(clean)},
    };
    struct mr_event_builder builder;
    mr_event_builder_init(&builder, size_max);
    for (size_t i = 0; r == MR_OK && i < MR_ARRAY_COUNT(attrs); i++) {
        r = mr_event_builder_attr(&builder, mr_bytes_of(attrs[i].name), MR_ATTR_STRING,
                                  attrs[i].value, NULL);
    }
    size_t overhead = mr__builder_overhead(&builder);
    if (r == MR_OK && (overhead > builder.size_max || raw.size > builder.size_max - overhead)) {
        r = mr_event_builder_attr(&builder, MR_BYTES_LITERAL("truncated"), MR_ATTR_BOOLEAN,
                                  MR_BYTES_LITERAL("true"), NULL);
        overhead = mr__builder_overhead(&builder);
        raw.size = overhead < builder.size_max ? builder.size_max - overhead : 0;
    }
    if (r == MR_OK) {
        mr_event_builder_data(&builder, raw, false);
        r = mr_event_builder_finish(&builder, true, ret_event, NULL);
    }
    mr_event_builder_release(&builder);
    mr_buf_release(&source);
    return r;
}

uint32_t mr_event_hops(struct mr_bytes record)
{
    uint64_t hops;
    if (!mr_parse_u64(mr_event_value(record, "mrhops"), &hops)) {
        return 0;
    }
    return hops < UINT32_MAX ? (uint32_t)hops : UINT32_MAX;
}
