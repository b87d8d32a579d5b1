/* Object storage that is not shaped like S3 (digest 13.2, 13.4): Alibaba OSS, Tencent COS, Huawei
 * OBS, Azure Blob. Each of them also sends CloudEvents, which stay what they are. */
#include "core/alloc.h"
#include "core/limits.h"
#include "schemas/adapt.h"
#include "schemas/json_format.h"
#include "schemas/text.h"

/* --- OSS -------------------------------------------------------------------------------------- */

/* The vendor's own page has these members once beside "oss" and once in it. */
static bool draft_either(struct mr__draft *draft, enum mr__part part, struct mr_bytes event,
                         const char *inside, const char *beside)
{
    return mr__draft_get(draft, part, event, beside) || mr__draft_get(draft, part, event, inside);
}

/* "acs:oss:<region>:<account>:<bucket>" */
static void draft_arn_region(struct mr__draft *draft, struct mr_bytes event)
{
    struct mr_buf arn;
    struct mr_bytes value;
    mr_buf_init(&arn, MR_EVENT_ATTRS_SIZE_MAX);
    if (mr__adapt_get_kind(draft->run, event, "oss.bucket.arn", '"', &value) &&
        mr__adapt_text(draft->run, value, &arn) &&
        mr_bytes_starts(mr_buf_bytes(&arn), MR_BYTES_LITERAL("acs:oss:"))) {
        const uint8_t *end = memchr(arn.data + 8, ':', arn.size - 8);
        size_t size = end == NULL ? arn.size - 8 : (size_t)(end - arn.data) - 8;
        mr__draft_bytes(draft, MR__SOURCE, mr_bytes(arn.data + 8, size));
    }
    mr_buf_release(&arn);
}

static void draft_object_key(struct mr__draft *draft, struct mr_bytes json, const char *bucket)
{
    if (draft->parts[MR__SUBJECT].size > 0 && mr__draft_get(draft, MR__KEY, json, bucket)) {
        mr__draft_text(draft, MR__KEY, "/");
        mr__draft_bytes(draft, MR__KEY, mr_buf_bytes(&draft->parts[MR__SUBJECT]));
    }
}

static void adapt_oss_event(struct mr__adapt *run, struct mr_bytes event)
{
    struct mr__draft draft;
    mr__draft_begin(&draft, run, event);
    if (!mr__draft_get(&draft, MR__SOURCE, event, "eventSource")) {
        mr__draft_text(&draft, MR__SOURCE, "acs:oss");
    }
    mr__draft_text(&draft, MR__SOURCE, ".");
    if (!draft_either(&draft, MR__SOURCE, event, "oss.region", "region")) {
        draft_arn_region(&draft, event);
    }
    mr__draft_text(&draft, MR__SOURCE, ".");
    mr__draft_need(&draft, MR__SOURCE, event, "oss.bucket.name");
    mr__draft_text(&draft, MR__TYPE, "com.aliyun.oss.");
    mr__draft_need(&draft, MR__TYPE, event, "eventName");
    mr__draft_need(&draft, MR__SUBJECT, event, "oss.object.key");
    draft_object_key(&draft, event, "oss.bucket.name");
    (void)mr__draft_time(&draft, event, "eventTime"); /* else the receive time */
    if (!draft_either(&draft, MR__ID, event, "oss.responseElements.requestId",
                      "responseElements.requestId")) {
        mr__draft_digest(&draft, MR__ID, event);
    }
    mr__draft_end(&draft);
}

/* The document in a body of MNS: base64 of it, or a message whose member holds that.
 * @param[out] text the decoded text; @return false: the body is no base64 */
static bool open_base64(struct mr__adapt *run, struct mr_bytes text, struct mr_buf *out)
{
    while (text.size > 0 && text.data[text.size - 1] <= ' ') {
        text.size--;
    }
    enum mr_status r = mr_buf_append_unbase64(out, text);
    if (r == MR_E_NOMEM) {
        mr__adapt_fail(run, r, "out of memory");
    }
    return r == MR_OK && text.size > 0;
}

static void adapt_oss_document(struct mr__adapt *run, struct mr_bytes json)
{
    struct mr_bytes events;
    if (mr__adapt_says_cloudevent(run, json)) {
        mr__adapt_cloudevents(run, json);
        return;
    }
    if (!mr__adapt_get_kind(run, json, "events", '[', &events)) {
        mr__adapt_fail(run, MR_E_INVALID, "no OSS notification: it has no list \"events\"");
        return;
    }
    mr__adapt_each(run, "events", events, adapt_oss_event);
}

void mr__adapt_oss(struct mr__adapt *run)
{
    struct mr_bytes json;
    struct mr_bytes message;
    struct mr_buf text;
    struct mr_buf decoded;
    mr_buf_init(&text, run->body.size + 1);
    mr_buf_init(&decoded, run->body.size + 1);
    struct mr_bytes document = run->body;
    bool wrapped = false;
    if (mr_json_is_value(run->body)) {
        if (!mr__adapt_parse(run, run->body, &json)) {
            return;
        }
        const char *const members[] = {"Message", "MessageBody"};
        for (size_t i = 0; !wrapped && i < MR_ARRAY_COUNT(members); i++) {
            wrapped = mr__adapt_get_kind(run, json, members[i], '"', &message);
        }
        if (json.data[0] == '"') {
            message = json;
            wrapped = true;
        }
        if (wrapped && mr__adapt_text(run, message, &text)) {
            document = mr_buf_bytes(&text);
        }
    }
    if (run->status == MR_OK && open_base64(run, document, &decoded)) {
        document = mr_buf_bytes(&decoded);
    }
    if (mr__adapt_parse(run, document, &json)) {
        adapt_oss_document(run, json);
    }
    mr_buf_release(&decoded);
    mr_buf_release(&text);
}

/* --- COS -------------------------------------------------------------------------------------- */

static bool is_zero(struct mr_bytes text)
{
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] != '0') {
            return false;
        }
    }
    return true;
}

/* The bucket with its owner behind it: name-appid. */
static void draft_cos_bucket(struct mr__draft *draft, enum mr__part part, struct mr_bytes cos)
{
    struct mr_buf *out = &draft->parts[part];
    mr__draft_need(draft, part, cos, "cosBucket.name");
    struct mr_buf appid;
    struct mr_bytes value;
    mr_buf_init(&appid, MR_EVENT_ATTRS_SIZE_MAX);
    if (mr__adapt_put(draft->run, &appid, MR_BYTES_LITERAL("-")) &&
        mr__adapt_get(draft->run, cos, "cosBucket.appid", &value) &&
        mr__adapt_text(draft->run, value, &appid) && appid.size > 1 &&
        !mr_bytes_ends(mr_buf_bytes(out), mr_buf_bytes(&appid))) {
        mr__draft_bytes(draft, part, mr_buf_bytes(&appid));
    }
    mr_buf_release(&appid);
}

/* The key without the "/<appid>/<bucket>/" before it. */
static void draft_cos_key(struct mr__draft *draft, struct mr_bytes cos)
{
    mr__draft_need(draft, MR__SUBJECT, cos, "cosObject.key");
    const struct mr_bytes slash = MR_BYTES_LITERAL("/");
    struct mr__adapt *run = draft->run;
    struct mr_buf prefix;
    mr_buf_init(&prefix, 3 * MR_EVENT_ATTRS_SIZE_MAX);
    struct mr_bytes appid;
    struct mr_bytes name;
    struct mr_buf *key = &draft->parts[MR__SUBJECT];
    if (mr__adapt_get(run, cos, "cosBucket.appid", &appid) &&
        mr__adapt_get(run, cos, "cosBucket.name", &name) && mr__adapt_put(run, &prefix, slash) &&
        mr__adapt_text(run, appid, &prefix) && mr__adapt_put(run, &prefix, slash) &&
        mr__adapt_text(run, name, &prefix) && mr__adapt_put(run, &prefix, slash) &&
        key->size > prefix.size &&
        mr_bytes_starts(mr_buf_bytes(key), mr_buf_bytes(&prefix))) {
        memmove(key->data, key->data + prefix.size, key->size - prefix.size);
        key->size -= prefix.size;
    }
    mr_buf_release(&prefix);
}

static void draft_cos_id(struct mr__draft *draft, struct mr_bytes record, struct mr_bytes cos)
{
    struct mr_bytes reqid;
    if (mr__draft_get(draft, MR__ID, cos, "cosObject.meta.x-cos-request-id")) {
        return;
    }
    if (mr__adapt_get(draft->run, record, "event.reqid", &reqid) && !is_zero(reqid) &&
        mr__draft_value(draft, MR__ID, reqid)) {
        return;
    }
    mr__draft_digest(draft, MR__ID, record);
}

static void adapt_cos_record(struct mr__adapt *run, struct mr_bytes record)
{
    struct mr__draft draft;
    struct mr_bytes cos;
    if (!mr__adapt_get_kind(run, record, "cos", '{', &cos)) {
        mr__adapt_fail(run, MR_E_INVALID, "no COS notification: the member cos is missing");
        return;
    }
    mr__draft_begin(&draft, run, record);
    draft_cos_id(&draft, record, cos);
    if (!mr__draft_get(&draft, MR__SOURCE, record, "event.eventSource")) {
        mr__draft_text(&draft, MR__SOURCE, "qcs::cos");
    }
    mr__draft_text(&draft, MR__SOURCE, ".");
    (void)mr__draft_get(&draft, MR__SOURCE, cos, "cosBucket.region"); /* then two dots */
    mr__draft_text(&draft, MR__SOURCE, ".");
    draft_cos_bucket(&draft, MR__SOURCE, cos);
    mr__draft_text(&draft, MR__TYPE, "com.tencent.cos.");
    size_t kept = draft.parts[MR__TYPE].size;
    mr__draft_need(&draft, MR__TYPE, record, "event.eventName");
    mr__draft_cut(&draft, MR__TYPE, kept, "cos:");
    draft_cos_key(&draft, cos);
    draft_object_key(&draft, cos, "cosBucket.name");
    if (!mr__draft_time_epoch(&draft, record, "event.eventTime")) {
        (void)mr__draft_time(&draft, record, "event.eventTime"); /* else the receive time */
    }
    mr__draft_end(&draft);
}

void mr__adapt_cos(struct mr__adapt *run)
{
    struct mr_bytes json;
    struct mr_bytes records;
    if (!mr__adapt_parse(run, run->body, &json)) {
        return;
    }
    if (mr__adapt_says_cloudevent(run, json)) {
        mr__adapt_cloudevents(run, json);
        return;
    }
    if (!mr__adapt_get_kind(run, json, "Records", '[', &records)) {
        mr__adapt_fail(run, MR_E_INVALID, "no COS notification: it has no list \"Records\"");
        return;
    }
    mr__adapt_each(run, "Records", records, adapt_cos_record);
}

/* --- OBS -------------------------------------------------------------------------------------- */

/* A CloudEvent of EventGrid. They come with dataschema "", which is dropped: the one fault. */
static void adapt_obs_event(struct mr__adapt *run, struct mr_bytes event)
{
    struct mr_bytes schema;
    if (!mr__adapt_says_cloudevent(run, event)) {
        mr__adapt_fail(run, MR_E_INVALID, "no CloudEvent: the member specversion is missing");
        return;
    }
    if (!mr__adapt_get_kind(run, event, "dataschema", '"', &schema) || schema.size != 2) {
        mr__adapt_cloudevents(run, event);
        return;
    }
    struct mr_buf mended;
    mr_buf_init(&mended, event.size + 4);
    size_t before = (size_t)(schema.data - event.data);
    enum mr_status r = mr_buf_append(&mended, event.data, before);
    if (r == MR_OK) {
        r = mr_buf_append_text(&mended, "null"); /* an attribute that is null is absent */
    }
    if (r == MR_OK) {
        r = mr_buf_append(&mended, schema.data + 2, event.size - before - 2);
    }
    if (r != MR_OK) {
        mr__adapt_fail(run, r, "out of memory");
    }
    mr__adapt_cloudevents(run, mr_buf_bytes(&mended));
    mr_buf_release(&mended);
}

void mr__adapt_obs(struct mr__adapt *run)
{
    struct mr_bytes json;
    struct mr_bytes events;
    if (!mr__adapt_parse(run, run->body, &json)) {
        return;
    }
    if (json.data[0] == '[') {
        mr__adapt_each(run, "element", json, adapt_obs_event);
    } else if (mr__adapt_get_kind(run, json, "events", '[', &events)) {
        mr__adapt_each(run, "events", events, adapt_obs_event);
    } else if (mr__adapt_says_cloudevent(run, json)) {
        adapt_obs_event(run, json);
    } else {
        mr__adapt_s3(run); /* the older notifications are shaped like those of S3 */
    }
}

/* --- Azure ------------------------------------------------------------------------------------ */

/* {"validationResponse": data.validationCode} */
static void answer_validation(struct mr__adapt *run, struct mr_bytes event)
{
    struct mr_bytes code;
    struct mr_buf answer;
    struct mr_buf text;
    if (!mr__adapt_get_kind(run, event, "data.validationCode", '"', &code)) {
        mr__adapt_fail(run, MR_E_INVALID, "the member data.validationCode is missing");
        return;
    }
    mr_buf_init(&answer, 64 * MR_KIB);
    mr_buf_init(&text, 8 * MR_KIB);
    if (mr__adapt_text(run, code, &text) && run->adapted->answer == NULL) {
        enum mr_status r = mr_buf_append_text(&answer, "{\"validationResponse\":");
        if (r == MR_OK) {
            r = mr_buf_append_json(&answer, mr_buf_bytes(&text));
        }
        if (r == MR_OK) {
            r = mr_buf_append_text(&answer, "}");
        }
        run->adapted->answer = r == MR_OK ? mr_buf_take_text(&answer) : NULL;
        if (run->adapted->answer == NULL) {
            mr__adapt_fail(run, MR_E_NOMEM, "out of memory");
        }
    }
    mr_buf_release(&text);
    mr_buf_release(&answer);
}

static void adapt_grid_event(struct mr__adapt *run, struct mr_bytes event)
{
    struct mr__draft draft;
    struct mr_bytes data = {0};
    if (mr__adapt_is(run, event, "eventType", "Microsoft.EventGrid.SubscriptionValidationEvent")) {
        answer_validation(run, event);
        return;
    }
    (void)mr__adapt_get(run, event, "data", &data); /* may have none */
    mr__draft_begin(&draft, run, data);
    mr__draft_need(&draft, MR__ID, event, "id");
    mr__draft_need(&draft, MR__TYPE, event, "eventType");
    if (!mr__draft_get(&draft, MR__SOURCE, event, "topic")) {
        mr__draft_source_name(&draft, "/millrace/source/");
    }
    if (mr__draft_get(&draft, MR__SUBJECT, event, "subject")) {
        mr__draft_bytes(&draft, MR__KEY, mr_buf_bytes(&draft.parts[MR__SUBJECT]));
    }
    (void)mr__draft_time(&draft, event, "eventTime"); /* else the receive time */
    mr__draft_end(&draft);
}

/* A CloudEvent, with the type of its data said: Event Grid implies JSON. */
static void adapt_grid_cloudevent(struct mr__adapt *run, struct mr_bytes event)
{
    uint32_t before = run->adapted->events.count;
    mr__adapt_cloudevents(run, event);
    for (uint32_t i = before; run->status == MR_OK && i < run->adapted->events.count; i++) {
        struct mr_event **at = &run->adapted->events.events[i];
        struct mr_bytes record = mr_event_record(*at);
        struct mr_event *typed = NULL;
        if (!mr_event_data_is_json(record) || mr_event_value(record, "datacontenttype").size > 0) {
            continue;
        }
        enum mr_status r = mr_event_with_attr(record, MR_BYTES_LITERAL("datacontenttype"),
                                              MR_BYTES_LITERAL("application/json"), &typed, NULL);
        if (r != MR_OK) {
            mr__adapt_fail(run, r, "%s", mr_status_text(r));
            return;
        }
        mr_event_unref(*at);
        *at = typed;
    }
}

static void adapt_azure_event(struct mr__adapt *run, struct mr_bytes event)
{
    if (mr__adapt_says_cloudevent(run, event)) {
        adapt_grid_cloudevent(run, event);
    } else {
        adapt_grid_event(run, event);
    }
}

void mr__adapt_azure_blob(struct mr__adapt *run)
{
    mr__adapt_one_or_each(run, adapt_azure_event);
}
