/* S3 notifications (digest 13.1, 13.4): AWS, MinIO, Ceph and what is shaped like them, bare or in
 * the envelopes of SQS, SNS and EventBridge, which are taken off by their shape. */
#include "core/limits.h"
#include "schemas/adapt.h"

/* An envelope that is being emptied: a list of documents, or one. */
struct layer {
    struct mr_buf text;     /* of the string it was in; empty when it was no string */
    struct mr__scan rest;   /* of the list */
    struct mr_bytes single; /* no list: the one document, empty once it was taken */
    bool is_list;
    bool is_envelope; /* it came out of one */
    const char *name; /* of the list */
    uint32_t index;   /* of the next element */
};

struct unwrap {
    struct mr__adapt *run; /* borrowed */
    struct layer layers[MR__UNWRAP_MAX + 2]; /* envelopes, the lists in them, the notification */
    unsigned depth;
    unsigned envelopes;
};

/* "id.id2"; MinIO and others leave out one or both (digest 13.1). */
static void draft_id(struct mr__draft *draft, struct mr_bytes record, struct mr_bytes s3)
{
    bool request =
        mr__draft_get(draft, MR__ID, record, "responseElements.x-amz-request-id");
    if (request) {
        mr__draft_text(draft, MR__ID, ".");
        if (!mr__draft_get(draft, MR__ID, record, "responseElements.x-amz-id-2") &&
            !mr__draft_get(draft, MR__ID, s3, "object.sequencer")) {
            (void)mr__draft_get(draft, MR__ID, s3, "object.key"); /* a lone dot is left else */
        }
        return;
    }
    (void)mr__draft_get(draft, MR__ID, s3, "bucket.name"); /* the source asks for it */
    mr__draft_text(draft, MR__ID, "/");
    (void)mr__draft_get(draft, MR__ID, s3, "object.key"); /* empty for events of buckets */
    mr__draft_text(draft, MR__ID, "#");
    if (!mr__draft_get(draft, MR__ID, s3, "object.sequencer") &&
        !mr__draft_get(draft, MR__ID, record, "eventTime")) {
        mr__draft_digest(draft, MR__ID, record);
    }
}

/* One of Records[]. Huawei's own form says "obs" where the others say "s3". */
static void adapt_record(struct mr__adapt *run, struct mr_bytes record, struct mr_bytes s3,
                         bool obs)
{
    struct mr__draft draft;
    struct mr_bytes value;
    mr__draft_begin(&draft, run, record);
    draft_id(&draft, record, s3);
    if (!mr__draft_get(&draft, MR__SOURCE, record, "eventSource")) {
        mr__draft_text(&draft, MR__SOURCE, obs ? "obs" : "aws:s3");
    }
    mr__draft_text(&draft, MR__SOURCE, ".");
    if (!mr__draft_get(&draft, MR__SOURCE, record, "awsRegion")) {
        (void)mr__draft_get(&draft, MR__SOURCE, record, "eventRegion"); /* MinIO: two dots */
    }
    mr__draft_text(&draft, MR__SOURCE, ".");
    mr__draft_need(&draft, MR__SOURCE, s3, "bucket.name");
    mr__draft_text(&draft, MR__TYPE, obs ? "com.huawei.obs." : "com.amazonaws.s3.");
    size_t kept = draft.parts[MR__TYPE].size;
    mr__draft_need(&draft, MR__TYPE, record, "eventName");
    mr__draft_cut(&draft, MR__TYPE, kept, "s3:"); /* MinIO, and Ceph before it stopped */
    if (!mr__adapt_get(run, s3, "object.key", &value)) {
        mr__adapt_fail(run, MR_E_INVALID, "the member object.key is missing");
    } else if (mr__draft_value(&draft, MR__SUBJECT, value)) {
        (void)mr__draft_get(&draft, MR__KEY, s3, "bucket.name"); /* was found above */
        mr__draft_text(&draft, MR__KEY, "/");
        mr__draft_bytes(&draft, MR__KEY, mr_buf_bytes(&draft.parts[MR__SUBJECT]));
    }
    (void)mr__draft_time(&draft, record, "eventTime"); /* else the receive time */
    mr__draft_end(&draft);
}

static void adapt_eventbridge(struct mr__adapt *run, struct mr_bytes event)
{
    struct mr__draft draft;
    struct mr_bytes detail = {0};
    (void)mr__adapt_get(run, event, "detail", &detail); /* none: no data */
    mr__draft_begin(&draft, run, detail);
    mr__draft_need(&draft, MR__ID, event, "id");
    mr__draft_need(&draft, MR__SOURCE, event, "source");
    mr__draft_text(&draft, MR__TYPE, "com.amazonaws.");
    struct mr_bytes service = mr_buf_bytes(&draft.parts[MR__SOURCE]);
    if (mr_bytes_starts(service, MR_BYTES_LITERAL("aws."))) {
        service = mr_bytes(service.data + 4, service.size - 4);
    }
    bool s3 = mr_bytes_equal(service, MR_BYTES_LITERAL("s3"));
    mr__draft_bytes(&draft, MR__TYPE, service);
    mr__draft_text(&draft, MR__TYPE, ".");
    size_t kept = draft.parts[MR__TYPE].size;
    mr__draft_need(&draft, MR__TYPE, event, "detail-type");
    struct mr_buf *type = &draft.parts[MR__TYPE];
    for (size_t i = kept; i < type->size; i++) {
        uint8_t c = type->data[i];
        if (c != ' ' && c != '-' && c != '\t') {
            type->data[kept++] = c;
        }
    }
    type->size = kept;
    mr__draft_text(&draft, MR__SOURCE, ".");
    (void)mr__draft_get(&draft, MR__SOURCE, event, "region"); /* partners may have none */
    mr__draft_text(&draft, MR__SOURCE, ".");
    if (!s3 || !mr__draft_get(&draft, MR__SOURCE, detail, "bucket.name")) {
        (void)mr__draft_get(&draft, MR__SOURCE, event, "account");
    }
    if (s3 && mr__draft_get(&draft, MR__SUBJECT, detail, "object.key")) {
        (void)mr__draft_get(&draft, MR__KEY, detail, "bucket.name"); /* key without: the same */
        mr__draft_text(&draft, MR__KEY, "/");
        mr__draft_bytes(&draft, MR__KEY, mr_buf_bytes(&draft.parts[MR__SUBJECT]));
    } else {
        (void)mr__draft_get(&draft, MR__SUBJECT, event, "resources.0"); /* optional */
    }
    (void)mr__draft_time(&draft, event, "time"); /* else the receive time */
    mr__draft_end(&draft);
}

/* Opens @p value, the text of a document, as the next layer. Takes @p text over. */
static void push(struct unwrap *u, struct mr_bytes value, struct mr_buf text, bool is_envelope)
{
    static const char *const lists[] = {"Records", "Messages"};
    if (u->run->status != MR_OK || u->depth == MR_ARRAY_COUNT(u->layers)) {
        mr__adapt_fail(u->run, MR_E_INVALID, "more than %u envelopes around the notification",
                       MR__UNWRAP_MAX);
        mr_buf_release(&text);
        return;
    }
    struct layer *layer = &u->layers[u->depth++];
    *layer = (struct layer){.text = text, .single = value, .is_envelope = is_envelope};
    u->envelopes += is_envelope;
    struct mr_bytes list = value;
    layer->is_list = value.data[0] == '[';
    layer->name = layer->is_list ? "element" : NULL;
    for (size_t i = 0; !layer->is_list && i < MR_ARRAY_COUNT(lists); i++) {
        if (mr__adapt_get_kind(u->run, value, lists[i], '[', &list)) {
            layer->is_list = true;
            layer->name = lists[i];
        }
    }
    if (layer->is_list) {
        mr__adapt_walk(&layer->rest, list);
    }
}

/* Opens what an envelope holds: a document, as a rule in a string. */
static void descend(struct unwrap *u, struct mr_bytes inner)
{
    struct mr_buf text;
    mr_buf_init(&text, inner.size + 1);
    if (u->envelopes == MR__UNWRAP_MAX) {
        mr__adapt_fail(u->run, MR_E_INVALID, "more than %u envelopes around the notification",
                       MR__UNWRAP_MAX);
        return;
    }
    if (inner.data[0] == '"') {
        struct mr_bytes value;
        if (!mr__adapt_text(u->run, inner, &text) ||
            !mr__adapt_parse(u->run, mr_buf_bytes(&text), &value)) {
            mr_buf_release(&text);
            return;
        }
        inner = value;
    }
    push(u, inner, text, true);
}

/* SNS: a notification is opened; handshakes are no events of the bucket. */
static void adapt_sns(struct unwrap *u, struct mr_bytes message)
{
    struct mr_bytes inner;
    if (mr__adapt_is(u->run, message, "Type", "Notification")) {
        if (mr__adapt_get(u->run, message, "Message", &inner)) {
            descend(u, inner);
        } else {
            mr__adapt_fail(u->run, MR_E_INVALID, "the member Message is missing");
        }
        return;
    }
    mr__adapt_sns_confirmation(u->run, message);
}

static void adapt_item(struct unwrap *u, struct mr_bytes item)
{
    struct mr__adapt *run = u->run;
    struct mr_bytes inner;
    if (mr__adapt_get_kind(run, item, "s3", '{', &inner)) {
        adapt_record(run, item, inner, false);
    } else if (mr__adapt_get_kind(run, item, "obs", '{', &inner)) {
        adapt_record(run, item, inner, true);
    } else if (mr__adapt_get_kind(run, item, "Sns", '{', &inner)) {
        adapt_sns(u, inner);
    } else if (mr__adapt_get_kind(run, item, "TopicArn", '"', &inner)) {
        adapt_sns(u, item);
    } else if (mr__adapt_get_kind(run, item, "body", '"', &inner) ||
               mr__adapt_get_kind(run, item, "Body", '"', &inner)) {
        descend(u, inner);
    } else if (mr__adapt_get_kind(run, item, "detail-type", '"', &inner)) {
        adapt_eventbridge(run, item);
    } else if (mr__adapt_get_kind(run, item, "Records", '[', &inner)) {
        struct mr_buf none;
        mr_buf_init(&none, 0);
        push(u, item, none, false);
    } else if (!mr__adapt_is(run, item, "Event", "s3:TestEvent")) {
        mr__adapt_fail(run, MR_E_INVALID,
                       "no S3 notification: it has none of the members s3, Message, body and "
                       "detail-type");
    }
}

void mr__adapt_s3(struct mr__adapt *run)
{
    struct unwrap u = {.run = run};
    struct mr_bytes value;
    struct mr_buf none;
    mr_buf_init(&none, 0);
    if (mr__adapt_parse(run, run->body, &value)) {
        push(&u, value, none, false);
    }
    while (u.depth > 0) {
        struct layer *layer = &u.layers[u.depth - 1];
        struct mr_bytes item = layer->single;
        bool more = layer->is_list ? mr__json_next(&layer->rest, NULL, &item) : item.size > 0;
        if (run->status != MR_OK || !more) {
            u.envelopes -= layer->is_envelope;
            mr_buf_release(&layer->text);
            u.depth--;
            continue;
        }
        layer->single.size = 0;
        run->list = layer->name;
        run->index = layer->index++;
        adapt_item(&u, item);
    }
    run->list = NULL;
}

/* Events come bare, in a list, or in envelopes like those of S3. */
void mr__adapt_eventbridge(struct mr__adapt *run)
{
    static const char *const envelopes[] = {"Records", "Messages", "TopicArn", "body", "Body"};
    struct mr_bytes json;
    struct mr_bytes value;
    if (!mr__adapt_parse(run, run->body, &json)) {
        return;
    }
    for (size_t i = 0; json.data[0] == '{' && i < MR_ARRAY_COUNT(envelopes); i++) {
        if (mr__adapt_get(run, json, envelopes[i], &value)) {
            mr__adapt_s3(run);
            return;
        }
    }
    mr__adapt_one_or_each(run, adapt_eventbridge);
}
