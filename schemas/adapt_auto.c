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

/* The members by which documents are told apart, found in one walk: bodies may be large. */
static const char *const names[] = {
    "Body",        "Event",        "Messages", "Records",     "TopicArn", "Type",
    "alerts",      "attributes",   "context",  "data",        "detail",   "detail-type",
    "eventId",     "eventTime",    "eventType", "events",     "groupKey", "id",
    "involvedObject", "items",     "kind",     "message",     "metadata", "object",
    "object_kind", "orgId",        "reason",   "receiver",    "regarding", "resource",
    "source",      "specversion",  "status",   "subject",     "subscription", "type",
    "version",
};

struct shape {
    struct mr_bytes values[MR_ARRAY_COUNT(names)]; /* empty: absent or null */
    bool is_list;                                  /* they are of its first element */
};

static void read_shape(struct mr_bytes json, struct shape *shape)
{
    struct mr__scan s;
    struct mr__json_string name;
    struct mr_bytes value;
    *shape = (struct shape){.is_list = json.data[0] == '['};
    if (shape->is_list) {
        mr__adapt_walk(&s, json);
        if (!mr__json_next(&s, NULL, &json)) {
            return;
        }
    }
    if (json.data[0] != '{') {
        return;
    }
    mr__adapt_walk(&s, json);
    while (mr__json_next(&s, &name, &value)) {
        for (size_t i = 0; i < MR_ARRAY_COUNT(names); i++) {
            if (name.raw.size == strlen(names[i]) && value.data[0] != 'n' &&
                memcmp(name.raw.data, names[i], name.raw.size) == 0) {
                shape->values[i] = value;
            }
        }
    }
}

/* The value at @p path, whose first part is one of the names. */
static bool shape_get(struct mr__adapt *run, const struct shape *shape, const char *path,
                      struct mr_bytes *ret_value)
{
    size_t size = strcspn(path, ".");
    for (size_t i = 0; i < MR_ARRAY_COUNT(names); i++) {
        if (strlen(names[i]) == size && memcmp(names[i], path, size) == 0) {
            *ret_value = shape->values[i];
            return shape->values[i].size > 0 &&
                   (path[size] == '\0' ||
                    mr__adapt_get(run, shape->values[i], path + size + 1, ret_value));
        }
    }
    MR_ASSERT(false); /* each path begins with one of the names */
    return false;
}

static bool shape_is(struct mr__adapt *run, const struct shape *shape, const char *path,
                     const char *text)
{
    struct mr_bytes value;
    struct mr_bytes wanted = mr_bytes_of(text);
    return shape_get(run, shape, path, &value) && value.size == wanted.size + 2 &&
           value.data[0] == '"' &&
           mr_bytes_equal(mr_bytes(value.data + 1, wanted.size), wanted);
}

/* By members that have to be there, and what they begin with: '"', '{', '[', or anything. More than
 * a form needs, so that the form of somebody else is not taken for it and refused. */
enum { MEMBERS_MAX = 4 };
static const struct form {
    enum mr_adapter adapter;
    char where; /* 'o' an object, 'l' a list of objects */
    const char *members[MEMBERS_MAX];
} forms[] = {
    {MR_ADAPTER_CDEVENTS, 'o', {"\"context.id", "\"context.source", "\"context.type", "{subject"}},
    {MR_ADAPTER_CDEVENTS, 'l', {"\"context.id", "\"context.source", "\"context.type", "{subject"}},
    {MR_ADAPTER_S3, 'o', {"{Records.0.s3"}},
    {MR_ADAPTER_OBS, 'o', {"{Records.0.obs"}},
    {MR_ADAPTER_COS, 'o', {"{Records.0.cos", "{Records.0.event"}},
    {MR_ADAPTER_OSS, 'o', {"{events.0.oss"}},
    {MR_ADAPTER_OBS, 'o', {"\"events.0.specversion", "\"events.0.id"}},
    {MR_ADAPTER_EVENTBRIDGE, 'o', {"\"detail-type", "?detail", "\"source", "\"id"}},
    {MR_ADAPTER_EVENTBRIDGE, 'l', {"\"detail-type", "?detail", "\"source", "\"id"}},
    {MR_ADAPTER_GRAFANA, 'o', {"[alerts", "?orgId", "\"status"}},
    {MR_ADAPTER_ALERTMANAGER, 'o', {"[alerts", "\"groupKey", "\"status"}},
    {MR_ADAPTER_ALERTMANAGER, 'o', {"[alerts", "\"receiver", "\"status"}},
    {MR_ADAPTER_GCS, 'o', {"\"message.messageId", "\"subscription"}},
    {MR_ADAPTER_GCS, 'o', {"\"message.message_id", "\"subscription"}},
    {MR_ADAPTER_GCS, 'o', {"\"attributes.bucketId", "\"attributes.eventType"}},
    {MR_ADAPTER_GCF, 'o', {"\"context.eventType", "\"context.eventId", "?context.resource"}},
    {MR_ADAPTER_GCF, 'o', {"\"eventType", "\"eventId", "?resource"}},
    {MR_ADAPTER_AZURE_BLOB, 'l', {"\"eventType", "\"eventTime", "\"id", "?data"}},
    {MR_ADAPTER_AZURE_BLOB, 'o', {"\"eventType", "\"eventTime", "\"id", "?data"}},
    {MR_ADAPTER_K8S, 'o', {"{involvedObject", "{metadata", "\"reason"}},
    {MR_ADAPTER_K8S, 'o', {"{regarding", "{metadata", "\"reason"}},
    {MR_ADAPTER_K8S, 'o', {"\"type", "{object.metadata", "\"object.kind"}},
    {MR_ADAPTER_K8S, 'o', {"{items.0.involvedObject", "{items.0.metadata"}},
    {MR_ADAPTER_K8S, 'o', {"{items.0.regarding", "{items.0.metadata"}},
    {MR_ADAPTER_GITLAB, 'o', {"\"object_kind"}},
};

static bool fits(struct mr__adapt *run, const struct shape *shape, const struct form *form)
{
    struct mr_bytes value;
    if (shape->is_list != (form->where == 'l')) {
        return false;
    }
    for (size_t i = 0; i < MEMBERS_MAX && form->members[i] != NULL; i++) {
        char kind = form->members[i][0];
        if (!shape_get(run, shape, form->members[i] + 1, &value) ||
            (kind != '?' && value.data[0] != (uint8_t)kind)) {
            return false;
        }
    }
    return true;
}

/* CloudEvents of two senders that are mended by their adapters. */
static enum mr_adapter by_sender(struct mr__adapt *run, const struct shape *shape)
{
    struct mr_bytes value;
    if (shape_get(run, shape, "type", &value) &&
        mr_bytes_starts(value, MR_BYTES_LITERAL("\"Microsoft."))) {
        return MR_ADAPTER_AZURE_BLOB;
    }
    if (shape_get(run, shape, "source", &value) &&
        mr_bytes_starts(value, MR_BYTES_LITERAL("\"HC.OBS"))) {
        return MR_ADAPTER_OBS;
    }
    return MR_ADAPTER_CLOUDEVENTS;
}

static enum mr_adapter recognise(struct mr__adapt *run, const struct shape *shape)
{
    struct mr_bytes value;
    if (shape_get(run, shape, "specversion", &value)) {
        return by_sender(run, shape);
    }
    if (shape_is(run, shape, "Event", "s3:TestEvent")) {
        return MR_ADAPTER_S3;
    }
    if (shape_is(run, shape, "kind", "storage#object")) {
        return MR_ADAPTER_GCS;
    }
    if (shape_is(run, shape, "object", "event") && shape_get(run, shape, "data.object", &value)) {
        return MR_ADAPTER_STRIPE;
    }
    if (shape_is(run, shape, "version", "1") && shape_get(run, shape, "alerts.0.labels", &value)) {
        return MR_ADAPTER_GRAFANA;
    }
    for (size_t i = 0; i < MR_ARRAY_COUNT(forms); i++) {
        if (fits(run, shape, &forms[i])) {
            return forms[i].adapter;
        }
    }
    return MR_ADAPTER_AUTO;
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
static bool is_envelope(struct mr__adapt *run, const struct shape *shape, bool *ret_sns)
{
    struct mr_bytes value;
    bool bare = shape_get(run, shape, "TopicArn", &value) && value.data[0] == '"';
    *ret_sns = bare || (shape_get(run, shape, "Records.0.Sns", &value) && value.data[0] == '{');
    if (bare) {
        return shape_is(run, shape, "Type", "Notification");
    }
    return *ret_sns ||
           (shape_get(run, shape, "Records.0.body", &value) && value.data[0] == '"') ||
           (shape_get(run, shape, "Messages.0.Body", &value) && value.data[0] == '"') ||
           (shape_get(run, shape, "Body", &value) && value.data[0] == '"');
}

/* @return false: what is in the envelope is nothing for @p adapter, and the run is as before */
static bool try(struct mr__adapt *run, enum mr_adapter adapter)
{
    mr__adapt_run(run, adapter);
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
        struct shape shape;
        bool sns;
        read_shape(json, &shape);
        if (is_envelope(run, &shape, &sns) &&
            (try(run, MR_ADAPTER_S3) || (!sns && try(run, MR_ADAPTER_SNS)))) {
            return;
        }
        adapter = sns ? MR_ADAPTER_SNS : recognise(run, &shape);
    }
    if (adapter == MR_ADAPTER_AUTO && mr__adapt_header(run, "x-amz-sns-message-type", &kind)) {
        adapter = MR_ADAPTER_SNS; /* raw delivery of something else */
    }
    if (adapter == MR_ADAPTER_AUTO && !is_json && is_mns(run)) {
        adapter = MR_ADAPTER_OSS;
    }
    mr__adapt_run(run, adapter == MR_ADAPTER_AUTO ? MR_ADAPTER_GENERIC : adapter);
}
