/* Payments and orders: Stripe and Shopify (digest 13.4). Their ids exceed 2^53 and are copied as
 * text. Shopify signs only the body: its topic, shop and id are headers, claims and no facts. */
#include "core/limits.h"
#include "schemas/adapt.h"

static void adapt_stripe(struct mr__adapt *run, struct mr_bytes event)
{
    struct mr__draft draft;
    mr__draft_begin(&draft, run, run->list == NULL ? run->body : event);
    mr__draft_need(&draft, MR__ID, event, "id");
    mr__draft_text(&draft, MR__SOURCE, "https://api.stripe.com/v1/events");
    mr__draft_text(&draft, MR__TYPE, "com.stripe.");
    mr__draft_need(&draft, MR__TYPE, event, "type");
    if (mr__draft_get(&draft, MR__SUBJECT, event, "data.object.id") ||
        mr__draft_get(&draft, MR__SUBJECT, event, "related_object.id")) {
        mr__draft_bytes(&draft, MR__KEY, mr_buf_bytes(&draft.parts[MR__SUBJECT]));
    }
    if (!mr__draft_time_epoch(&draft, event, "created")) {
        (void)mr__draft_time(&draft, event, "created"); /* the second version writes it so */
    }
    mr__draft_end(&draft);
}

void mr__adapt_stripe(struct mr__adapt *run)
{
    mr__adapt_one_or_each(run, adapt_stripe);
}

static void draft_topic(struct mr__draft *draft)
{
    struct mr_bytes topic;
    mr__draft_text(draft, MR__TYPE, "com.shopify.");
    if (!mr__adapt_header(draft->run, "x-shopify-topic", &topic)) {
        mr__adapt_fail(draft->run, MR_E_INVALID,
                       "the header X-Shopify-Topic is missing, so there is no type");
        return;
    }
    size_t at = draft->parts[MR__TYPE].size;
    mr__draft_bytes(draft, MR__TYPE, topic);
    struct mr_buf *type = &draft->parts[MR__TYPE];
    for (size_t i = at; i < type->size; i++) {
        type->data[i] = type->data[i] == '/' ? '.' : type->data[i];
    }
}

void mr__adapt_shopify(struct mr__adapt *run)
{
    struct mr__draft draft;
    struct mr_bytes json;
    struct mr_bytes value;
    if (!mr__adapt_parse(run, run->body, &json)) {
        return;
    }
    if (json.data[0] != '{') {
        mr__adapt_fail(run, MR_E_INVALID, "the body is no JSON object");
        return;
    }
    mr__draft_begin(&draft, run, run->body);
    draft_topic(&draft);
    if (mr__adapt_header(run, "x-shopify-shop-domain", &value)) {
        mr__draft_text(&draft, MR__SOURCE, "https://");
        mr__draft_bytes(&draft, MR__SOURCE, value);
    } else {
        mr__draft_source_name(&draft, "/shopify/");
    }
    (void)mr__draft_get(&draft, MR__SUBJECT, json, "id"); /* not every topic has one */
    if (!mr__draft_get(&draft, MR__KEY, json, "order_id")) {
        mr__draft_bytes(&draft, MR__KEY, mr_buf_bytes(&draft.parts[MR__SUBJECT]));
    }
    if (mr__adapt_header(run, "x-shopify-webhook-id", &value)) {
        mr__draft_bytes(&draft, MR__ID, value);
    } else {
        /* The body and its topic are the same in each repetition. */
        mr__draft_bytes(&draft, MR__ID, mr_buf_bytes(&draft.parts[MR__TYPE]));
        mr__draft_text(&draft, MR__ID, "/");
        mr__draft_digest(&draft, MR__ID, run->body);
    }
    if (!mr__draft_time(&draft, json, "updated_at") &&
        mr__adapt_header(run, "x-shopify-triggered-at", &value)) {
        (void)mr__draft_time_text(&draft, value); /* else the receive time */
    }
    mr__draft_end(&draft);
}
