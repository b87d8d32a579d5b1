/* Google (digest 13.3): Cloud Storage through Pub/Sub, and the legacy events of Cloud Functions. */
#include "core/limits.h"
#include "schemas/adapt.h"
#include "schemas/json_format.h"
#include "schemas/text.h"

/* --- Cloud Storage ---------------------------------------------------------------------------- */

/* An attribute of a Pub/Sub message: a member of its attributes, or a header where Pub/Sub pushes
 * without its envelope. */
static bool draft_attribute(struct mr__draft *draft, enum mr__part part, struct mr_bytes message,
                            const char *path)
{
    struct mr_bytes value;
    if (message.size > 0) {
        return mr__draft_get(draft, part, message, path);
    }
    const char *dot = strchr(path, '.');
    if (!mr__adapt_header(draft->run, dot == NULL ? path : dot + 1, &value)) {
        return false;
    }
    mr__draft_bytes(draft, part, value);
    return true;
}

static void draft_object_type(struct mr__draft *draft, struct mr_bytes message)
{
    static const struct {
        const char *event;
        const char *type;
    } rows[] = {
        {"OBJECT_FINALIZE", "finalized"},
        {"OBJECT_DELETE", "deleted"},
        {"OBJECT_ARCHIVE", "archived"},
        {"OBJECT_METADATA_UPDATE", "metadataUpdated"},
    };
    if (!draft_attribute(draft, MR__TYPE, message, "attributes.eventType")) {
        mr__adapt_fail(draft->run, MR_E_INVALID, "the attribute eventType is missing");
    }
    for (size_t i = 0; i < MR_ARRAY_COUNT(rows); i++) {
        if (mr_bytes_equal(mr_buf_bytes(&draft->parts[MR__TYPE]), mr_bytes_of(rows[i].event))) {
            mr_buf_clear(&draft->parts[MR__TYPE]);
            mr__draft_text(draft, MR__TYPE, "google.cloud.storage.object.v1.");
            mr__draft_text(draft, MR__TYPE, rows[i].type);
            return;
        }
    }
    mr__adapt_fail(draft->run, MR_E_INVALID, "the attribute eventType is \"%.*s\", which is no "
                   "event of Cloud Storage",
                   draft->parts[MR__TYPE].size < 64 ? (int)draft->parts[MR__TYPE].size : 64,
                   (const char *)draft->parts[MR__TYPE].data);
}

static void draft_bucket(struct mr__draft *draft, struct mr_bytes json, const char *bucket,
                         const char *object)
{
    mr__draft_text(draft, MR__SOURCE, "//storage.googleapis.com/projects/_/buckets/");
    mr__draft_text(draft, MR__SUBJECT, "objects/");
    if (!draft_attribute(draft, MR__SOURCE, json, bucket) ||
        !draft_attribute(draft, MR__SUBJECT, json, object)) {
        mr__adapt_fail(draft->run, MR_E_INVALID, "%s or %s is missing", bucket, object);
    }
    (void)draft_attribute(draft, MR__KEY, json, bucket); /* was found */
    mr__draft_text(draft, MR__KEY, "/");
    (void)draft_attribute(draft, MR__KEY, json, object);
}

/* A notification of Cloud Storage. @p message empty: the attributes are headers */
static void adapt_object(struct mr__adapt *run, struct mr_bytes message, struct mr_bytes data)
{
    struct mr__draft draft;
    mr__draft_begin(&draft, run, data);
    if (!mr_json_is_value(data)) {
        draft.content_type = MR_BYTES_LITERAL("application/octet-stream");
    }
    draft_object_type(&draft, message);
    draft_bucket(&draft, message, "attributes.bucketId", "attributes.objectId");
    if (!draft_attribute(&draft, MR__ID, message, "messageId") &&
        !draft_attribute(&draft, MR__ID, message, "message_id") &&
        !draft_attribute(&draft, MR__ID, message, "x-goog-pubsub-message-id")) {
        mr__draft_bytes(&draft, MR__ID, mr_buf_bytes(&draft.parts[MR__KEY]));
        mr__draft_text(&draft, MR__ID, "#");
        (void)draft_attribute(&draft, MR__ID, message, "attributes.objectGeneration");
    }
    struct mr_bytes time;
    if (message.size == 0) {
        (void)(mr__adapt_header(run, "eventTime", &time) && mr__draft_time_text(&draft, time));
    } else if (!mr__draft_time(&draft, message, "attributes.eventTime") &&
               !mr__draft_time(&draft, message, "publishTime")) {
        (void)mr__draft_time(&draft, message, "publish_time"); /* else the receive time */
    }
    mr__draft_end(&draft);
}

/* A message of something else than Cloud Storage: the whole body is the data. */
static void adapt_message(struct mr__adapt *run, struct mr_bytes json, struct mr_bytes message)
{
    struct mr__draft draft;
    mr__draft_begin(&draft, run, run->body);
    if (!mr__draft_get(&draft, MR__ID, message, "messageId")) {
        mr__draft_need(&draft, MR__ID, message, "message_id");
    }
    mr__draft_text(&draft, MR__SOURCE, "//pubsub.googleapis.com/");
    mr__draft_need(&draft, MR__SOURCE, json, "subscription");
    mr__draft_text(&draft, MR__TYPE, "google.cloud.pubsub.topic.v1.messagePublished");
    if (!mr__draft_get(&draft, MR__KEY, message, "orderingKey")) {
        (void)mr__draft_get(&draft, MR__KEY, message, "ordering_key"); /* optional */
    }
    if (!mr__draft_time(&draft, message, "publishTime")) {
        (void)mr__draft_time(&draft, message, "publish_time"); /* else the receive time */
    }
    mr__draft_end(&draft);
}

/* The object itself: pushed without envelope and attributes, or by the older change notification,
 * whose header says whether the object is still there. */
static void adapt_resource(struct mr__adapt *run, struct mr_bytes json)
{
    struct mr__draft draft;
    struct mr_bytes state;
    struct mr_bytes deleted;
    mr__draft_begin(&draft, run, run->body);
    bool gone = mr__adapt_header(run, "x-goog-resource-state", &state)
                    ? mr_bytes_equal(state, MR_BYTES_LITERAL("not_exists"))
                    : mr__adapt_get(run, json, "timeDeleted", &deleted);
    mr__draft_text(&draft, MR__TYPE, "google.cloud.storage.object.v1.");
    mr__draft_text(&draft, MR__TYPE, gone ? "deleted" : "finalized");
    draft_bucket(&draft, json, "bucket", "name");
    mr__draft_bytes(&draft, MR__ID, mr_buf_bytes(&draft.parts[MR__KEY]));
    mr__draft_text(&draft, MR__ID, "/");
    (void)mr__draft_get(&draft, MR__ID, json, "generation"); /* a lone slash without */
    mr__draft_text(&draft, MR__ID, "/");
    (void)mr__draft_get(&draft, MR__ID, json, "metageneration");
    mr__draft_text(&draft, MR__ID, gone ? "/deleted" : "");
    if ((!gone || !mr__draft_time(&draft, json, "timeDeleted")) &&
        !mr__draft_time(&draft, json, "updated")) {
        (void)mr__draft_time(&draft, json, "timeCreated"); /* else the receive time */
    }
    mr__draft_end(&draft);
}

static void adapt_pubsub(struct mr__adapt *run, struct mr_bytes json, struct mr_bytes message)
{
    struct mr_bytes bucket;
    struct mr_bytes data;
    struct mr_buf text;
    struct mr_buf decoded;
    if (!mr__adapt_get(run, message, "attributes.bucketId", &bucket)) {
        adapt_message(run, json, message);
        return;
    }
    mr_buf_init(&text, message.size + 1);
    mr_buf_init(&decoded, message.size + 1);
    if (mr__adapt_get_kind(run, message, "data", '"', &data) && data.size > 2 &&
        mr__adapt_text(run, data, &text)) {
        enum mr_status r = mr_buf_append_unbase64(&decoded, mr_buf_bytes(&text));
        if (r != MR_OK) {
            mr__adapt_fail(run, r, r == MR_E_INVALID ? "message.data is no base64"
                                                     : "out of memory");
        }
        data = mr_buf_bytes(&decoded);
    } else if (!mr__adapt_get(run, message, "attributes", &data)) {
        data.size = 0;
    }
    adapt_object(run, message, data);
    mr_buf_release(&decoded);
    mr_buf_release(&text);
}

void mr__adapt_gcs(struct mr__adapt *run)
{
    struct mr_bytes json = {0};
    struct mr_bytes message;
    struct mr_bytes state;
    if (mr__adapt_header(run, "x-goog-resource-state", &state) &&
        mr_bytes_equal(state, MR_BYTES_LITERAL("sync"))) {
        return; /* the channel was opened: no object changed */
    }
    if (mr__adapt_header(run, "bucketId", &message) &&
        mr__adapt_header(run, "objectId", &message)) {
        adapt_object(run, (struct mr_bytes){0}, run->body);
        return;
    }
    if (!mr__adapt_parse(run, run->body, &json)) {
        return;
    }
    if (mr__adapt_says_cloudevent(run, json)) {
        mr__adapt_cloudevents(run, json);
    } else if (mr__adapt_get_kind(run, json, "message", '{', &message)) {
        adapt_pubsub(run, json, message);
    } else if (mr__adapt_get_kind(run, json, "attributes", '{', &message)) {
        adapt_pubsub(run, json, json);
    } else {
        adapt_resource(run, json);
    }
}

/* --- Cloud Functions -------------------------------------------------------------------------- */

enum gcf_kind {
    GCF_PLAIN = 0,
    GCF_PUBSUB,
    GCF_STORAGE,
    GCF_FIRESTORE,
    GCF_AUTH,
    GCF_ANALYTICS,
    GCF_DATABASE,
};

#define STORAGE "storage.googleapis.com"
#define PUBSUB "pubsub.googleapis.com"
#define FIRESTORE "firestore.googleapis.com"
#define AUTH "firebaseauth.googleapis.com"
#define DATABASE "firebasedatabase.googleapis.com"
static const struct gcf_row {
    const char *legacy;
    const char *type;
    const char *service;
    enum gcf_kind kind;
} gcf_rows[] = {
    {"google.pubsub.topic.publish", "google.cloud.pubsub.topic.v1.messagePublished", PUBSUB,
     GCF_PUBSUB},
    {"providers/cloud.pubsub/eventTypes/topic.publish",
     "google.cloud.pubsub.topic.v1.messagePublished", PUBSUB, GCF_PUBSUB},
    {"google.storage.object.finalize", "google.cloud.storage.object.v1.finalized", STORAGE,
     GCF_STORAGE},
    {"google.storage.object.delete", "google.cloud.storage.object.v1.deleted", STORAGE,
     GCF_STORAGE},
    {"google.storage.object.archive", "google.cloud.storage.object.v1.archived", STORAGE,
     GCF_STORAGE},
    {"google.storage.object.metadataUpdate", "google.cloud.storage.object.v1.metadataUpdated",
     STORAGE, GCF_STORAGE},
    {"providers/cloud.firestore/eventTypes/document.write",
     "google.cloud.firestore.document.v1.written", FIRESTORE, GCF_FIRESTORE},
    {"providers/cloud.firestore/eventTypes/document.create",
     "google.cloud.firestore.document.v1.created", FIRESTORE, GCF_FIRESTORE},
    {"providers/cloud.firestore/eventTypes/document.update",
     "google.cloud.firestore.document.v1.updated", FIRESTORE, GCF_FIRESTORE},
    {"providers/cloud.firestore/eventTypes/document.delete",
     "google.cloud.firestore.document.v1.deleted", FIRESTORE, GCF_FIRESTORE},
    {"providers/firebase.auth/eventTypes/user.create", "google.firebase.auth.user.v1.created",
     AUTH, GCF_AUTH},
    {"providers/firebase.auth/eventTypes/user.delete", "google.firebase.auth.user.v1.deleted",
     AUTH, GCF_AUTH},
    {"providers/google.firebase.analytics/eventTypes/event.log",
     "google.firebase.analytics.log.v1.written", "firebaseanalytics.googleapis.com",
     GCF_ANALYTICS},
    {"providers/google.firebase.database/eventTypes/ref.create",
     "google.firebase.database.ref.v1.created", DATABASE, GCF_DATABASE},
    {"providers/google.firebase.database/eventTypes/ref.write",
     "google.firebase.database.ref.v1.written", DATABASE, GCF_DATABASE},
    {"providers/google.firebase.database/eventTypes/ref.update",
     "google.firebase.database.ref.v1.updated", DATABASE, GCF_DATABASE},
    {"providers/google.firebase.database/eventTypes/ref.delete",
     "google.firebase.database.ref.v1.deleted", DATABASE, GCF_DATABASE},
    {"providers/firebase.remoteConfig/remoteconfig.update",
     "google.firebase.remoteconfig.remoteConfig.v1.updated",
     "firebaseremoteconfig.googleapis.com", GCF_PLAIN},
};

/* The members that describe the event lie in `context`, or beside the data. */
static bool get_context(struct mr__adapt *run, struct mr_bytes json, const char *name,
                        struct mr_bytes *ret_value)
{
    struct mr_bytes context;
    return (mr__adapt_get_kind(run, json, "context", '{', &context) &&
            mr__adapt_get(run, context, name, ret_value)) ||
           mr__adapt_get(run, json, name, ret_value);
}

static const struct gcf_row *find_row(struct mr__adapt *run, struct mr_bytes json)
{
    struct mr_bytes value;
    struct mr_buf text;
    const struct gcf_row *found = NULL;
    mr_buf_init(&text, MR_EVENT_ATTRS_SIZE_MAX);
    if (!get_context(run, json, "eventType", &value) || !mr__adapt_text(run, value, &text)) {
        mr__adapt_fail(run, MR_E_INVALID, "the member eventType is missing");
    }
    for (size_t i = 0; i < MR_ARRAY_COUNT(gcf_rows); i++) {
        if (mr_bytes_equal(mr_buf_bytes(&text), mr_bytes_of(gcf_rows[i].legacy))) {
            found = &gcf_rows[i];
        }
    }
    if (found == NULL) {
        mr__adapt_fail(run, MR_E_INVALID, "there is no CloudEvents type for the event type %.*s",
                       text.size < 100 ? (int)text.size : 100,
                       text.data == NULL ? "" : (const char *)text.data);
    }
    mr_buf_release(&text);
    return found;
}

/* Where @p text begins in @p resource. @return its size: nowhere */
static size_t find_in(struct mr_bytes resource, const char *text)
{
    const void *at = resource.size == 0
                         ? NULL
                         : memmem(resource.data, resource.size, text, strlen(text));
    return at == NULL ? resource.size : (size_t)((const uint8_t *)at - resource.data);
}

/* The resource up to @p split goes to the source, what is behind its slash to the subject. */
static void split_resource(struct mr__draft *draft, struct mr_bytes resource, const char *split)
{
    size_t at = find_in(resource, split);
    mr__draft_bytes(draft, MR__SOURCE, mr_bytes(resource.data, at));
    if (at < resource.size) {
        mr__draft_bytes(draft, MR__SUBJECT,
                        mr_bytes(resource.data + at + 1, resource.size - at - 1));
    }
}

/* projects/_/instances/I/refs/… : the location comes from the domain. */
static void split_database(struct mr__draft *draft, struct mr_bytes json, struct mr_bytes resource)
{
    struct mr_bytes value;
    struct mr_buf domain;
    mr_buf_init(&domain, MR_EVENT_ATTRS_SIZE_MAX);
    if (!mr__adapt_get_kind(draft->run, json, "domain", '"', &value) ||
        !mr__adapt_text(draft->run, value, &domain) || domain.size == 0) {
        mr__adapt_fail(draft->run, MR_E_INVALID,
                       "the member domain is missing, so there is no location");
    }
    size_t instances = find_in(resource, "/instances/");
    struct mr_bytes location = mr_buf_bytes(&domain);
    location.size = find_in(location, ".");
    if (mr_bytes_equal(mr_buf_bytes(&domain), MR_BYTES_LITERAL("firebaseio.com"))) {
        location = MR_BYTES_LITERAL("us-central1");
    }
    mr__draft_bytes(draft, MR__SOURCE, mr_bytes(resource.data, instances));
    mr__draft_text(draft, MR__SOURCE, "/locations/");
    mr__draft_bytes(draft, MR__SOURCE, location);
    split_resource(draft, mr_bytes(resource.data + instances, resource.size - instances),
                   "/refs/");
    mr_buf_release(&domain);
}

static void draft_names(struct mr__draft *draft, const struct gcf_row *row, struct mr_bytes json,
                        struct mr_bytes resource)
{
    struct mr_buf *subject = &draft->parts[MR__SUBJECT];
    if (draft->run->status != MR_OK) {
        return; /* there may be no resource */
    }
    switch (row->kind) {
    case GCF_STORAGE:
        split_resource(draft, resource, "/objects/");
        subject->size = subject->size == 0 ? 0 : find_in(mr_buf_bytes(subject), "#");
        break;
    case GCF_FIRESTORE:
        split_resource(draft, resource, "/documents/");
        break;
    case GCF_DATABASE:
        split_database(draft, json, resource);
        break;
    case GCF_ANALYTICS:
        split_resource(draft, resource, "/events/");
        mr__draft_text(draft, MR__SOURCE, "/apps/");
        mr__draft_need(draft, MR__SOURCE, json, "data.userDim.appInfo.appId");
        break;
    case GCF_AUTH:
        mr__draft_bytes(draft, MR__SOURCE, resource);
        mr__draft_text(draft, MR__SUBJECT, "users/");
        mr__draft_need(draft, MR__SUBJECT, json, "data.uid");
        break;
    case GCF_PUBSUB:
    case GCF_PLAIN:
        mr__draft_bytes(draft, MR__SOURCE, resource);
        break;
    }
}

static enum mr_status append_member(struct mr_buf *out, const char *name, struct mr_bytes value,
                                    bool first)
{
    enum mr_status r = mr_buf_printf(out, "%s\"%s\":", first ? "" : ",", name);
    return r == MR_OK ? mr_buf_append_bytes(out, value) : r;
}

/* {"message": the data, with the id and the time of the context} */
static void wrap_message(struct mr__adapt *run, struct mr_bytes json, struct mr_bytes data,
                         struct mr_buf *out)
{
    static const char *const names[][2] = {{"messageId", "eventId"}, {"publishTime", "timestamp"}};
    if (data.size == 0 || data.data[0] != '{') {
        mr__adapt_fail(run, MR_E_INVALID, "the member data is no object");
        return;
    }
    struct mr__scan s;
    mr__adapt_walk(&s, data);
    bool empty = mr__scan_peek(&s) == '}';
    enum mr_status r = mr_buf_append_text(out, "{\"message\":");
    if (r == MR_OK) {
        r = mr_buf_append(out, data.data, data.size - 1);
    }
    for (size_t i = 0; r == MR_OK && i < MR_ARRAY_COUNT(names); i++) {
        struct mr_bytes value;
        if (!mr__adapt_get(run, data, names[i][0], &value) &&
            get_context(run, json, names[i][1], &value) && value.data[0] == '"') {
            r = append_member(out, names[i][0], value, empty);
            empty = false;
        }
    }
    if (r == MR_OK) {
        r = mr_buf_append_text(out, "}}");
    }
    if (r != MR_OK) {
        mr__adapt_fail(run, r, "out of memory");
    }
}

/* The data with two members of metadata called as the newer events call them. */
static void rename_times(struct mr__adapt *run, struct mr_bytes data, struct mr_buf *out)
{
    struct mr_bytes metadata;
    struct mr__scan s;
    struct mr__json_string name;
    struct mr_bytes value;
    const uint8_t *copied = data.data;
    enum mr_status r = MR_OK;
    if (mr__adapt_get_kind(run, data, "metadata", '{', &metadata)) {
        mr__adapt_walk(&s, metadata);
        while (r == MR_OK && mr__json_next(&s, &name, &value)) {
            bool created = mr_bytes_equal(name.raw, MR_BYTES_LITERAL("createdAt"));
            if (!created && !mr_bytes_equal(name.raw, MR_BYTES_LITERAL("lastSignedInAt"))) {
                continue;
            }
            r = mr_buf_append(out, copied, (size_t)(name.raw.data - copied));
            if (r == MR_OK) {
                r = mr_buf_append_text(out, created ? "createTime" : "lastSignInTime");
            }
            copied = name.raw.data + name.raw.size;
        }
    }
    if (r == MR_OK) {
        r = mr_buf_append(out, copied, (size_t)(data.data + data.size - copied));
    }
    if (r != MR_OK) {
        mr__adapt_fail(run, r, "out of memory");
    }
}

static void adapt_function(struct mr__adapt *run, struct mr_bytes json)
{
    struct mr__draft draft;
    struct mr_buf resource;
    struct mr_buf data;
    struct mr_bytes value = {0};
    struct mr_bytes text;
    const struct gcf_row *row = find_row(run, json);
    if (row == NULL) {
        return;
    }
    mr_buf_init(&resource, MR_EVENT_ATTRS_SIZE_MAX);
    mr_buf_init(&data, json.size + 1024);
    (void)mr__adapt_get(run, json, "data", &value); /* may have none */
    if (row->kind == GCF_PUBSUB) {
        wrap_message(run, json, value, &data);
    } else if (row->kind == GCF_AUTH && value.size > 0) {
        rename_times(run, value, &data);
    }
    mr__draft_begin(&draft, run, data.size > 0 ? mr_buf_bytes(&data) : value);
    if (!get_context(run, json, "eventId", &text) || !mr__draft_value(&draft, MR__ID, text)) {
        mr__adapt_fail(run, MR_E_INVALID, "the member eventId is missing");
    }
    mr__draft_text(&draft, MR__TYPE, row->type);
    mr__draft_text(&draft, MR__SOURCE, "//");
    if (!mr__draft_get(&draft, MR__SOURCE, json, "context.resource.service")) {
        mr__draft_text(&draft, MR__SOURCE, row->service);
    }
    mr__draft_text(&draft, MR__SOURCE, "/");
    if ((!mr__adapt_get(run, json, "context.resource.name", &value) &&
         !get_context(run, json, "resource", &value)) ||
        !mr__adapt_text(run, value, &resource)) {
        mr__adapt_fail(run, MR_E_INVALID, "the name of the resource is missing");
    }
    draft_names(&draft, row, json, mr_buf_bytes(&resource));
    if (!mr__draft_time(&draft, json, "context.timestamp")) {
        (void)mr__draft_time(&draft, json, "timestamp"); /* else the receive time */
    }
    mr__draft_end(&draft);
    mr_buf_release(&data);
    mr_buf_release(&resource);
}

void mr__adapt_gcf(struct mr__adapt *run)
{
    struct mr_bytes json;
    if (!mr__adapt_parse(run, run->body, &json)) {
        return;
    }
    if (mr__adapt_says_cloudevent(run, json)) {
        mr__adapt_cloudevents(run, json);
    } else {
        adapt_function(run, json);
    }
}
