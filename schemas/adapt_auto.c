/* What is no event yet and says nothing of itself: "generic" takes any body, "auto" first looks
 * for a form it knows, by the headers and by the shape. */
#include "core/assert.h"
#include "core/limits.h"
#include "core/rng.h"
#include "schemas/adapt.h"
#include "schemas/json_format.h"
#include "schemas/text.h"

#include <stdio.h>

/* A random UUID (RFC 9562 version 4) that the number `unique` decides. */
void mr__adapt_uuid(uint64_t unique, char to[MR__UUID_SIZE])
{
    struct mr_rng rng;
    mr_rng_init(&rng, unique);
    uint64_t high = (mr_rng_next(&rng) & ~0xF000ull) | 0x4000ull;
    uint64_t low = (mr_rng_next(&rng) & ~(3ull << 62)) | (2ull << 62);
    int n = snprintf(to, MR__UUID_SIZE, "%08x-%04x-%04x-%04x-%012llx", (unsigned)(high >> 32),
                     (unsigned)(high >> 16 & 0xFFFF), (unsigned)(high & 0xFFFF),
                     (unsigned)(low >> 48), (unsigned long long)(low & 0xFFFFFFFFFFFFull));
    MR_ASSERT(n == MR__UUID_SIZE - 1);
}

static void draft_path(struct mr__draft *draft, enum mr__part part, struct mr_bytes json,
                       const char *path)
{
    if (json.size > 0 && path != NULL) {
        (void)mr__draft_get(draft, part, json, path); /* what is not there keeps its default */
    }
}

void mr__adapt_generic(struct mr__adapt *run)
{
    static const struct mr_generic_paths none = {0};
    const struct mr_generic_paths *paths = run->input->paths == NULL ? &none : run->input->paths;
    struct mr_bytes json = {0};
    struct mr__draft draft;
    struct mr_bytes type;
    mr__draft_begin(&draft, run, run->input->body);
    bool is_json = mr_json_is_value(run->body);
    if (is_json && !mr__adapt_parse(run, run->body, &json)) {
        MR_ASSERT(run->status != MR_OK);
    }
    if (mr__adapt_header(run, "content-type", &type)) {
        bool usable = mr__text_is_media_type(type) && mr__text_is_string(type);
        draft.content_type = usable ? type : MR_BYTES_LITERAL("application/octet-stream");
    } else if (!is_json) {
        draft.content_type = MR_BYTES_LITERAL("application/octet-stream");
    }
    draft_path(&draft, MR__ID, json, paths->id);
    draft_path(&draft, MR__TYPE, json, paths->type);
    draft_path(&draft, MR__SUBJECT, json, paths->subject);
    if (json.size > 0 && paths->time != NULL) {
        if (!mr__draft_time(&draft, json, paths->time)) {
            (void)mr__draft_time_epoch(&draft, json, paths->time); /* else the receive time */
        }
    }
    if (draft.parts[MR__ID].size == 0 && run->input->id.size > 0) {
        mr__draft_bytes(&draft, MR__ID, run->input->id);
    }
    if (draft.parts[MR__ID].size == 0) {
        mr__draft_bytes(&draft, MR__ID, run->input->id);
    }
    if (draft.parts[MR__ID].size == 0) {
        char id[MR__UUID_SIZE];
        mr__adapt_uuid(run->input->unique, id);
        mr__draft_text(&draft, MR__ID, id);
    }
    if (draft.parts[MR__TYPE].size == 0) {
        mr__draft_text(&draft, MR__TYPE,
                       run->input->type == NULL ? "io.millrace.http.message" : run->input->type);
    }
    mr__draft_source_name(&draft, "/millrace/source/");
    mr__draft_end(&draft);
}

/* By a header that only its sender sets. */
static enum mr_adapter by_header(struct mr__adapt *run)
{
    static const struct {
        const char *header;
        enum mr_adapter adapter;
    } rows[] = {
        {"x-github-event", MR_ADAPTER_GITHUB},       {"x-gitlab-event", MR_ADAPTER_GITLAB},
        {"stripe-signature", MR_ADAPTER_STRIPE},     {"x-shopify-topic", MR_ADAPTER_SHOPIFY},
        {"aeg-event-type", MR_ADAPTER_AZURE_BLOB},   {"x-goog-resource-state", MR_ADAPTER_GCS},
    };
    struct mr_bytes value;
    for (size_t i = 0; i < MR_ARRAY_COUNT(rows); i++) {
        if (mr__adapt_header(run, rows[i].header, &value)) {
            return rows[i].adapter;
        }
    }
    return MR_ADAPTER_AUTO;
}

/* By members that have to be there, and what they begin with. */
static enum mr_adapter by_shape(struct mr__adapt *run, struct mr_bytes json)
{
    static const struct {
        struct {
            const char *path;
            char kind;
        } members[2];
        enum mr_adapter adapter;
    } rows[] = {
        {{{"context.specversion", '"'}, {"context.type", '"'}}, MR_ADAPTER_CDEVENTS},
        {{{"context.version", '"'}, {"context.type", '"'}}, MR_ADAPTER_CDEVENTS},
        {{{"0.context.source", '"'}, {"0.context.type", '"'}}, MR_ADAPTER_CDEVENTS},
        {{{"Records.0.s3", '{'}}, MR_ADAPTER_S3},
        {{{"Records.0.obs", '{'}}, MR_ADAPTER_OBS},
        {{{"Records.0.cos", '{'}}, MR_ADAPTER_COS},
        {{{"events.0.oss", '{'}}, MR_ADAPTER_OSS},
        {{{"events.0.specversion", '"'}}, MR_ADAPTER_OBS},
        {{{"detail-type", '"'}, {"detail", '{'}}, MR_ADAPTER_EVENTBRIDGE},
        {{{"alerts", '['}, {"orgId", '1'}}, MR_ADAPTER_GRAFANA},
        {{{"alerts", '['}, {"groupKey", '"'}}, MR_ADAPTER_ALERTMANAGER},
        {{{"alerts", '['}, {"receiver", '"'}}, MR_ADAPTER_ALERTMANAGER},
        {{{"message.messageId", '"'}, {"subscription", '"'}}, MR_ADAPTER_GCS},
        {{{"message.message_id", '"'}, {"subscription", '"'}}, MR_ADAPTER_GCS},
        {{{"attributes.bucketId", '"'}, {"attributes.eventType", '"'}}, MR_ADAPTER_GCS},
        {{{"context.eventType", '"'}, {"context.eventId", '"'}}, MR_ADAPTER_GCF},
        {{{"eventType", '"'}, {"eventId", '"'}}, MR_ADAPTER_GCF},
        {{{"0.eventType", '"'}, {"0.eventTime", '"'}}, MR_ADAPTER_AZURE_BLOB},
        {{{"eventType", '"'}, {"eventTime", '"'}}, MR_ADAPTER_AZURE_BLOB},
        {{{"involvedObject", '{'}, {"metadata", '{'}}, MR_ADAPTER_K8S},
        {{{"regarding", '{'}, {"metadata", '{'}}, MR_ADAPTER_K8S},
        {{{"type", '"'}, {"object.metadata", '{'}}, MR_ADAPTER_K8S},
        {{{"items.0.involvedObject", '{'}}, MR_ADAPTER_K8S},
        {{{"items.0.regarding", '{'}}, MR_ADAPTER_K8S},
        {{{"object_kind", '"'}}, MR_ADAPTER_GITLAB},
    };
    struct mr_bytes value;
    for (size_t i = 0; i < MR_ARRAY_COUNT(rows); i++) {
        bool fits = true;
        for (size_t k = 0; fits && k < 2 && rows[i].members[k].path != NULL; k++) {
            fits = mr__adapt_get(run, json, rows[i].members[k].path, &value) &&
                   (rows[i].members[k].kind == '1' ||
                    value.data[0] == (uint8_t)rows[i].members[k].kind);
        }
        if (fits) {
            return rows[i].adapter;
        }
    }
    return MR_ADAPTER_AUTO;
}

static enum mr_adapter recognise(struct mr__adapt *run, struct mr_bytes json)
{
    if (mr__adapt_says_cloudevent(run, json)) {
        return MR_ADAPTER_CLOUDEVENTS;
    }
    if (mr__adapt_is(run, json, "Event", "s3:TestEvent")) {
        return MR_ADAPTER_S3;
    }
    return by_shape(run, json);
}

/* A body of MNS: a document of OSS in base64, which begins with {"events" or a blank more. */
static bool is_mns(struct mr__adapt *run)
{
    struct mr_buf decoded;
    struct mr_bytes text = run->body;
    struct mr_bytes json;
    struct mr_bytes oss;
    while (text.size > 0 && text.data[text.size - 1] <= ' ') {
        text.size--;
    }
    mr_buf_init(&decoded, text.size + 1);
    enum mr_status r = mr_buf_append_unbase64(&decoded, text);
    if (r == MR_E_NOMEM) {
        mr__adapt_fail(run, r, "out of memory");
    }
    bool is = r == MR_OK && mr_json_is_value(mr_buf_bytes(&decoded)) &&
              mr__adapt_parse(run, mr_buf_bytes(&decoded), &json) &&
              mr__adapt_get_kind(run, json, "events.0.oss", '{', &oss);
    mr_buf_release(&decoded);
    return is;
}

/* A message of SNS or SQS that may have a notification of S3 in it. */
static bool is_envelope(struct mr__adapt *run, struct mr_bytes json, bool *ret_sns)
{
    static const char *const bodies[] = {"Records.0.body", "Messages.0.Body", "Body"};
    struct mr_bytes value;
    *ret_sns = mr__adapt_get_kind(run, json, "TopicArn", '"', &value) ||
               mr__adapt_get_kind(run, json, "Records.0.Sns", '{', &value);
    if (*ret_sns) {
        return mr__adapt_is(run, json, "Type", "Notification") || json.data[0] != '{' ||
               !mr__adapt_get(run, json, "Type", &value);
    }
    for (size_t i = 0; i < MR_ARRAY_COUNT(bodies); i++) {
        if (mr__adapt_get_kind(run, json, bodies[i], '"', &value)) {
            return true;
        }
    }
    return false;
}

/* @return false: what is in the envelope is nothing of S3, and the run is as before */
static bool try_s3(struct mr__adapt *run)
{
    mr__adapt_s3(run);
    if (run->status != MR_E_INVALID) {
        return true;
    }
    mr_adapted_release(run->adapted);
    run->capacity = 0;
    run->size = 0;
    run->status = MR_OK;
    return false;
}

void mr__adapt_auto(struct mr__adapt *run)
{
    enum mr_adapter adapter = by_header(run);
    struct mr_bytes json;
    struct mr_bytes kind;
    bool is_json = mr_json_is_value(run->body);
    if (adapter == MR_ADAPTER_AUTO && is_json && mr__adapt_parse(run, run->body, &json)) {
        bool sns;
        if (is_envelope(run, json, &sns) && try_s3(run)) {
            return;
        }
        adapter = sns ? MR_ADAPTER_SNS : recognise(run, json);
    }
    if (adapter == MR_ADAPTER_AUTO && mr__adapt_header(run, "x-amz-sns-message-type", &kind)) {
        adapter = MR_ADAPTER_SNS; /* raw delivery of something else */
    }
    if (adapter == MR_ADAPTER_AUTO && !is_json && is_mns(run)) {
        adapter = MR_ADAPTER_OSS;
    }
    mr__adapt_run(run, adapter == MR_ADAPTER_AUTO ? MR_ADAPTER_GENERIC : adapter);
}
