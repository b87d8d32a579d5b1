/* Kubernetes events and CDEvents (digest 13.4). */
#include "core/limits.h"
#include "schemas/adapt.h"

/* --- Kubernetes ------------------------------------------------------------------------------- */

static uint8_t lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
}

static void lower_part(struct mr__draft *draft, enum mr__part part, size_t at)
{
    struct mr_buf *text = &draft->parts[part];
    for (size_t i = at; i < text->size; i++) {
        text->data[i] = lower(text->data[i]);
    }
}

/* The resource a kind is served under, guessed as Kubernetes itself does where it has to. */
static void draft_plural(struct mr__draft *draft, struct mr_bytes object)
{
    size_t at = draft->parts[MR__SUBJECT].size;
    mr__draft_need(draft, MR__SUBJECT, object, "kind");
    lower_part(draft, MR__SUBJECT, at);
    struct mr_buf *text = &draft->parts[MR__SUBJECT];
    struct mr_bytes kind = mr_buf_bytes(text);
    if (draft->run->status != MR_OK || mr_bytes_ends(kind, MR_BYTES_LITERAL("endpoints"))) {
        return;
    }
    uint8_t last = text->data[text->size - 1];
    text->size -= last == 'y';
    mr__draft_text(draft, MR__SUBJECT, last == 's' ? "es" : last == 'y' ? "ies" : "s");
}

/* /apis/<version>/namespaces/<namespace>/<resource>/<name>; without a namespace for what lies in
 * none. @p names holds name and namespace, which is @p object or its metadata. */
static void draft_self_link(struct mr__draft *draft, struct mr_bytes object, struct mr_bytes names)
{
    mr__draft_text(draft, MR__SUBJECT, "/apis/");
    if (!mr__draft_get(draft, MR__SUBJECT, object, "apiVersion")) {
        mr__draft_text(draft, MR__SUBJECT, "v1"); /* of nodes it is often left out */
    }
    mr__draft_text(draft, MR__SUBJECT, "/");
    size_t before = draft->parts[MR__SUBJECT].size;
    mr__draft_text(draft, MR__SUBJECT, "namespaces/");
    if (mr__draft_get(draft, MR__SUBJECT, names, "namespace")) {
        mr__draft_text(draft, MR__SUBJECT, "/");
    } else if (draft->run->status == MR_OK) {
        draft->parts[MR__SUBJECT].size = before;
    }
    draft_plural(draft, object);
    mr__draft_text(draft, MR__SUBJECT, "/");
    mr__draft_need(draft, MR__SUBJECT, names, "name");
}

static void draft_object(struct mr__draft *draft, struct mr_bytes object)
{
    mr__draft_need(draft, MR__ID, object, "metadata.uid");
    mr__draft_text(draft, MR__ID, ".");
    if (!mr__draft_get(draft, MR__ID, object, "metadata.resourceVersion")) {
        draft->parts[MR__ID].size -= draft->parts[MR__ID].size > 0;
    }
    mr__draft_source_name(draft, "/k8s/");
    size_t before = draft->parts[MR__SOURCE].size;
    mr__draft_text(draft, MR__SOURCE, "/namespaces/");
    if (!mr__draft_get(draft, MR__SOURCE, object, "metadata.namespace") &&
        draft->run->status == MR_OK) {
        draft->parts[MR__SOURCE].size = before;
    }
}

/* What happened to any other object, as Knative's source for API servers says it. */
static void adapt_resource(struct mr__adapt *run, struct mr_bytes object, struct mr_bytes data,
                           const char *verb)
{
    struct mr__draft draft;
    struct mr_bytes metadata;
    if (!mr__adapt_get_kind(run, object, "metadata", '{', &metadata)) {
        mr__adapt_fail(run, MR_E_INVALID, "no object of Kubernetes: the member metadata is "
                                          "missing");
        return;
    }
    mr__draft_begin(&draft, run, data);
    draft_object(&draft, object);
    mr__draft_text(&draft, MR__TYPE, "dev.knative.apiserver.resource.");
    mr__draft_text(&draft, MR__TYPE, verb);
    draft_self_link(&draft, object, metadata);
    (void)mr__draft_get(&draft, MR__KEY, object, "metadata.uid"); /* was found */
    mr__draft_end(&draft);
}

/* An Event of v1 or events.k8s.io; @p data is it, or the watch notification around it. */
static void adapt_event(struct mr__adapt *run, struct mr_bytes event, struct mr_bytes data)
{
    static const char *const times[] = {
        "eventTime",
        "lastTimestamp",
        "firstTimestamp",
        "deprecatedLastTimestamp",
        "deprecatedFirstTimestamp",
        "metadata.creationTimestamp",
    };
    struct mr__draft draft;
    struct mr_bytes involved = {0};
    if (!mr__adapt_get_kind(run, event, "involvedObject", '{', &involved) &&
        !mr__adapt_get_kind(run, event, "regarding", '{', &involved)) {
        mr__adapt_fail(run, MR_E_INVALID, "no event of Kubernetes: it has neither involvedObject "
                                          "nor regarding");
        return;
    }
    mr__draft_begin(&draft, run, data);
    draft_object(&draft, event);
    mr__draft_text(&draft, MR__TYPE, "io.k8s.event.");
    size_t at = draft.parts[MR__TYPE].size;
    if (!mr__draft_get(&draft, MR__TYPE, event, "type")) {
        mr__draft_text(&draft, MR__TYPE, "normal");
    }
    lower_part(&draft, MR__TYPE, at);
    mr__draft_text(&draft, MR__TYPE, ".");
    mr__draft_need(&draft, MR__TYPE, event, "reason");
    draft_self_link(&draft, involved, involved);
    if (!mr__draft_get(&draft, MR__KEY, involved, "uid")) {
        mr__draft_bytes(&draft, MR__KEY, mr_buf_bytes(&draft.parts[MR__SUBJECT]));
    }
    bool set = false;
    for (size_t i = 0; !set && i < MR_ARRAY_COUNT(times); i++) {
        set = mr__draft_time(&draft, event, times[i]);
    }
    mr__draft_end(&draft);
}

static bool is_event(struct mr__adapt *run, struct mr_bytes object)
{
    struct mr_bytes involved;
    return mr__adapt_is(run, object, "kind", "Event") ||
           mr__adapt_get_kind(run, object, "involvedObject", '{', &involved);
}

/* A line of a watch: {"type": "ADDED", "object": {…}}. */
static void adapt_watch(struct mr__adapt *run, struct mr_bytes line, struct mr_bytes object)
{
    static const char *const verbs[][2] = {
        {"ADDED", "add"}, {"MODIFIED", "update"}, {"DELETED", "delete"}};
    if (mr__adapt_is(run, line, "type", "BOOKMARK")) {
        return; /* only a position */
    }
    if (mr__adapt_is(run, line, "type", "ERROR")) {
        mr__adapt_fail(run, MR_E_INVALID, "the API server ended the watch with an error");
        return;
    }
    struct mr_bytes data = run->list == NULL ? run->body : line;
    if (is_event(run, object)) {
        adapt_event(run, object, data);
        return;
    }
    for (size_t i = 0; i < MR_ARRAY_COUNT(verbs); i++) {
        if (mr__adapt_is(run, line, "type", verbs[i][0])) {
            adapt_resource(run, object, data, verbs[i][1]);
            return;
        }
    }
    mr__adapt_fail(run, MR_E_INVALID, "the type of the watch notification is none of ADDED, "
                                      "MODIFIED, DELETED and BOOKMARK");
}

static void adapt_item(struct mr__adapt *run, struct mr_bytes item)
{
    struct mr_bytes object;
    if (mr__adapt_get_kind(run, item, "object", '{', &object)) {
        adapt_watch(run, item, object);
    } else {
        adapt_event(run, item, run->list == NULL ? run->body : item);
    }
}

void mr__adapt_k8s(struct mr__adapt *run)
{
    struct mr_bytes json;
    struct mr_bytes items;
    if (!mr__adapt_parse(run, run->body, &json)) {
        return;
    }
    if (json.data[0] == '[') {
        mr__adapt_each(run, "element", json, adapt_item);
    } else if (mr__adapt_get_kind(run, json, "items", '[', &items)) {
        mr__adapt_each(run, "items", items, adapt_item);
    } else {
        adapt_item(run, json);
    }
}

/* --- CDEvents --------------------------------------------------------------------------------- */

/* The published binding: the context becomes attributes, the whole document is the data. */
static void adapt_cdevent(struct mr__adapt *run, struct mr_bytes event)
{
    struct mr__draft draft;
    mr__draft_begin(&draft, run, run->list == NULL ? run->body : event);
    mr__draft_need(&draft, MR__ID, event, "context.id");
    mr__draft_need(&draft, MR__SOURCE, event, "context.source");
    mr__draft_need(&draft, MR__TYPE, event, "context.type");
    (void)mr__draft_get(&draft, MR__SUBJECT, event, "subject.id"); /* optional */
    (void)mr__draft_time(&draft, event, "context.timestamp");      /* else the receive time */
    mr__draft_end(&draft);
}

void mr__adapt_cdevents(struct mr__adapt *run)
{
    mr__adapt_one_or_each(run, adapt_cdevent);
}
