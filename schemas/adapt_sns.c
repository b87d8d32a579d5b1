/* AWS SNS (digest 13.1): posted by SNS itself, a stored body, or the records a Lambda function
 * gets. The body is signed and the headers are not (schemas/sns.h): where both say something, the
 * body is believed. */
#include "core/alloc.h"
#include "core/limits.h"
#include "schemas/adapt.h"
#include "schemas/text.h"

void mr__adapt_sns_confirmation(struct mr__adapt *run, struct mr_bytes message)
{
    struct mr_bytes url;
    if (!mr__adapt_is(run, message, "Type", "SubscriptionConfirmation") ||
        run->adapted->confirm_url != NULL ||
        !mr__adapt_get_kind(run, message, "SubscribeURL", '"', &url)) {
        return;
    }
    struct mr_buf text;
    mr_buf_init(&text, MR_EVENT_ATTRS_SIZE_MAX);
    if (mr__adapt_text(run, url, &text) && memchr(text.data, '\0', text.size) == NULL) {
        run->adapted->confirm_url = mr_buf_take_text(&text);
        if (run->adapted->confirm_url == NULL) {
            mr__adapt_fail(run, MR_E_NOMEM, "out of memory");
        }
    }
    mr_buf_release(&text);
}

static void draft_header(struct mr__draft *draft, enum mr__part part, const char *name)
{
    struct mr_bytes value;
    if (draft->parts[part].size == 0 && mr__adapt_header(draft->run, name, &value)) {
        mr__draft_bytes(draft, part, value);
    }
}

/* @p message an envelope (empty: raw delivery), @p record what holds it, the data. */
static void adapt_message(struct mr__adapt *run, struct mr_bytes message, struct mr_bytes record)
{
    struct mr__draft draft;
    mr__draft_begin(&draft, run, record);
    (void)mr__draft_get(&draft, MR__ID, message, "MessageId"); /* or the header */
    draft_header(&draft, MR__ID, "x-amz-sns-message-id");
    mr__draft_text(&draft, MR__TYPE, "com.amazonaws.sns.");
    struct mr_bytes kind;
    if (!mr__draft_get(&draft, MR__TYPE, message, "Type")) {
        mr__draft_bytes(&draft, MR__TYPE,
                        mr__adapt_header(run, "x-amz-sns-message-type", &kind)
                            ? kind
                            : MR_BYTES_LITERAL("Notification"));
    }
    if (!mr_bytes_ends(mr_buf_bytes(&draft.parts[MR__TYPE]),
                       MR_BYTES_LITERAL(".SubscriptionConfirmation")) &&
        !mr__draft_get(&draft, MR__SOURCE, record, "EventSubscriptionArn")) {
        draft_header(&draft, MR__SOURCE, "x-amz-sns-subscription-arn");
    }
    if (draft.parts[MR__SOURCE].size == 0 &&
        !mr__draft_get(&draft, MR__SOURCE, message, "TopicArn")) {
        draft_header(&draft, MR__SOURCE, "x-amz-sns-topic-arn");
    }
    if (draft.parts[MR__ID].size == 0 || draft.parts[MR__SOURCE].size == 0) {
        mr__adapt_fail(run, MR_E_INVALID,
                       "no SNS message: neither the members MessageId and TopicArn nor the "
                       "headers x-amz-sns-…");
    }
    (void)mr__draft_get(&draft, MR__SUBJECT, message, "Subject"); /* optional */
    (void)mr__draft_time(&draft, message, "Timestamp");           /* else the receive time */
    if (message.size == 0) {
        struct mr_bytes type;
        bool typed = mr__adapt_header(run, "content-type", &type) && mr__text_is_media_type(type);
        draft.content_type = typed ? type : MR_BYTES_LITERAL("application/octet-stream");
    }
    mr__draft_end(&draft);
}

/* A message in a message of SQS: the whole of it is the data. */
static void adapt_queued(struct mr__adapt *run, struct mr_bytes body)
{
    struct mr_buf text;
    struct mr_bytes message;
    mr_buf_init(&text, body.size);
    if (mr__adapt_text(run, body, &text) && mr__adapt_parse(run, mr_buf_bytes(&text), &message)) {
        mr__adapt_sns_confirmation(run, message);
        adapt_message(run, message, message);
    }
    mr_buf_release(&text);
}

/* What a function gets of SNS, or of a queue between. */
static void adapt_record(struct mr__adapt *run, struct mr_bytes record)
{
    struct mr_bytes message;
    if (mr__adapt_get_kind(run, record, "Sns", '{', &message)) {
        adapt_message(run, message, record);
    } else if (mr__adapt_get_kind(run, record, "body", '"', &message) ||
               mr__adapt_get_kind(run, record, "Body", '"', &message)) {
        adapt_queued(run, message);
    } else {
        mr__adapt_fail(run, MR_E_INVALID, "it has neither of the members Sns and body");
    }
}

void mr__adapt_sns(struct mr__adapt *run)
{
    struct mr_bytes raw;
    struct mr_bytes value;
    struct mr_bytes records;
    if (mr__adapt_header(run, "x-amz-sns-rawdelivery", &raw) &&
        mr_bytes_equal_nocase(raw, MR_BYTES_LITERAL("true"))) {
        adapt_message(run, (struct mr_bytes){0}, run->body);
    } else if (mr__adapt_parse(run, run->body, &value)) {
        if (mr__adapt_get_kind(run, value, "Records", '[', &records)) {
            mr__adapt_each(run, "Records", records, adapt_record);
        } else if (mr__adapt_get_kind(run, value, "Messages", '[', &records)) {
            mr__adapt_each(run, "Messages", records, adapt_record);
        } else if (mr__adapt_get_kind(run, value, "Body", '"', &records)) {
            adapt_record(run, value);
        } else {
            mr__adapt_sns_confirmation(run, value);
            adapt_message(run, value, run->body);
        }
    }
}
