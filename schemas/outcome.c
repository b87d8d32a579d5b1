/* The outcome of a delivery as an event. */
#include "core/clock.h"
#include "core/limits.h"
#include "schemas/adapter.h"
#include "schemas/json_format.h"
#include "schemas/own_event.h"
#include "schemas/text.h"

#define CAUSE_SIZE_MAX 1024u /* of an id that is repeated as an attribute; the data has it anyway */

/* What mr_adapt_outcome() was asked, kept together for the helpers. */
struct outcome {
    struct mr_bytes record;
    const char *delivery;
    const char *subscription;
    const char *state;
    const char *reason;
    const struct mr_outcome_attempt *attempts;
    uint32_t attempt_count;
    struct mr_bytes result;
};

/* How much of the parts that may be large goes in. */
enum detail {
    DETAIL_ALL = 0,
    DETAIL_NO_DATA,   /* the original without its data */
    DETAIL_NO_RESULT, /* and without what the target answered */
    DETAIL_MAX,
};

/* Appends key (with its punctuation) and a JSON string, or null. */
static enum mr_status append_text(struct mr_buf *out, const char *key, const char *text)
{
    enum mr_status r = mr_buf_append_text(out, key);
    if (r != MR_OK) {
        return r;
    }
    return text == NULL ? mr_buf_append_text(out, "null")
                        : mr_buf_append_json(out, mr_bytes_of(text));
}

static enum mr_status append_time(struct mr_buf *out, const char *key, uint64_t wall_ns)
{
    char text[MR_TIME_TEXT_SIZE];
    return append_text(out, key, mr_time_format(wall_ns, text));
}

static enum mr_status append_attempt(struct mr_buf *out, const struct mr_outcome_attempt *attempt)
{
    enum mr_status r = mr_buf_printf(out, "{\"n\":%u", attempt->n);
    if (r == MR_OK) {
        r = append_time(out, ",\"started\":", attempt->started_wall_ns);
    }
    if (r == MR_OK) {
        r = append_time(out, ",\"ended\":", attempt->ended_wall_ns);
    }
    if (r == MR_OK) {
        r = append_text(out, ",\"verdict\":", attempt->verdict);
    }
    if (r == MR_OK) {
        r = append_text(out, ",\"error\":", attempt->error);
    }
    return r == MR_OK ? mr_buf_append_byte(out, '}') : r;
}

static enum mr_status append_attempts(struct mr_buf *out, const struct outcome *o)
{
    const struct mr_outcome_attempt *last =
        o->attempt_count == 0 ? NULL : &o->attempts[o->attempt_count - 1];
    enum mr_status r = append_text(out, ",\"verdict\":", last == NULL ? NULL : last->verdict);
    if (r == MR_OK) {
        r = append_text(out, ",\"error\":", last == NULL ? NULL : last->error);
    }
    if (r == MR_OK) {
        r = mr_buf_append_text(out, ",\"attempts\":[");
    }
    for (uint32_t i = 0; r == MR_OK && i < o->attempt_count; i++) {
        if (i > 0) {
            r = mr_buf_append_byte(out, ',');
        }
        if (r == MR_OK) {
            r = append_attempt(out, &o->attempts[i]);
        }
    }
    return r == MR_OK ? mr_buf_append_byte(out, ']') : r;
}

/* The original event, without its data when @p bare. */
static enum mr_status append_original(struct mr_buf *out, struct mr_bytes record, bool bare)
{
    if (!bare) {
        return mr_json_encode_event(record, out);
    }
    struct mr_buf head;
    size_t data_at = mr_get_u32(record.data + 8);
    mr_buf_init(&head, data_at);
    enum mr_status r = mr_buf_append(&head, record.data, data_at);
    if (r == MR_OK) {
        mr_put_u32(head.data, (uint32_t)data_at);
        mr_put_u16(head.data + 6, 0);
        mr_put_u32(head.data + 12, 0);
        r = mr_json_encode_event(mr_buf_bytes(&head), out);
    }
    mr_buf_release(&head);
    return r;
}

static enum mr_status append_document(struct mr_buf *out, const struct outcome *o,
                                      enum detail detail)
{
    enum mr_status r = append_text(out, "{\"delivery\":", o->delivery);
    if (r == MR_OK) {
        r = append_text(out, ",\"subscription\":", o->subscription);
    }
    if (r == MR_OK) {
        r = append_text(out, ",\"state\":", o->state);
    }
    if (r == MR_OK) {
        r = append_text(out, ",\"reason\":", o->reason);
    }
    if (r == MR_OK) {
        r = append_attempts(out, o);
    }
    if (r == MR_OK) {
        r = mr_buf_append_text(out, ",\"result\":");
    }
    if (r == MR_OK) {
        bool shown = detail < DETAIL_NO_RESULT && mr_json_is_value(o->result);
        r = mr_buf_append_bytes(out, shown ? o->result : MR_BYTES_LITERAL("null"));
    }
    if (r == MR_OK) {
        r = mr_buf_append_text(out, ",\"event\":");
    }
    if (r == MR_OK) {
        r = append_original(out, o->record, detail >= DETAIL_NO_DATA);
    }
    return r == MR_OK ? mr_buf_append_byte(out, '}') : r;
}

/* The texts that are put together for the attributes. */
struct outcome_texts {
    struct mr_buf id;
    struct mr_buf source;
    struct mr_buf type;
    struct mr_buf hops;
};

static enum mr_status make_texts(struct outcome_texts *t, const struct outcome *o)
{
    mr_buf_init(&t->id, MR_EVENT_ATTRS_SIZE_MAX);
    mr_buf_init(&t->source, MR_EVENT_ATTRS_SIZE_MAX);
    mr_buf_init(&t->type, MR_EVENT_ATTRS_SIZE_MAX);
    mr_buf_init(&t->hops, 32);
    enum mr_status r = mr_buf_printf(&t->id, "%s:outcome", o->delivery);
    if (r == MR_OK) {
        r = mr_buf_append_text(&t->source, "/millrace/subscription/");
    }
    if (r == MR_OK) {
        r = mr__text_append_path(&t->source, mr_bytes_of(o->subscription));
    }
    if (r == MR_OK) {
        r = mr_buf_printf(&t->type, "io.millrace.delivery.%s", o->state);
    }
    if (r == MR_OK) {
        uint32_t hops = mr_event_hops(o->record);
        r = mr_buf_printf(&t->hops, "%u", hops >= INT32_MAX ? INT32_MAX : hops + 1);
    }
    return r;
}

static void release_texts(struct outcome_texts *t)
{
    mr_buf_release(&t->id);
    mr_buf_release(&t->source);
    mr_buf_release(&t->type);
    mr_buf_release(&t->hops);
}

/* Attributes have 64 KiB together, which one of the original alone may fill. */
static struct mr_bytes if_short(struct mr_bytes text)
{
    return text.size <= CAUSE_SIZE_MAX ? text : mr_bytes(NULL, 0);
}

static enum mr_status build_event(const struct outcome *o, const struct outcome_texts *t,
                                  const char *time, enum detail detail, size_t size_max,
                                  struct mr_event **ret_event)
{
    const struct mr__own_attr attrs[] = {
        {"id", MR_ATTR_STRING, mr_buf_bytes(&t->id)},
        {"source", MR_ATTR_URI_REF, mr_buf_bytes(&t->source)},
        {"type", MR_ATTR_STRING, mr_buf_bytes(&t->type)},
        {"subject", MR_ATTR_STRING, if_short(mr_event_id(o->record))},
        {"time", MR_ATTR_TIMESTAMP, mr_bytes_of(time)},
        {"datacontenttype", MR_ATTR_STRING, MR_BYTES_LITERAL("application/json")},
        {"causationid", MR_ATTR_STRING, if_short(mr_event_id(o->record))},
        {"correlationid", MR_ATTR_STRING, if_short(mr_event_value(o->record, "correlationid"))},
        {"mrhops", MR_ATTR_INTEGER, mr_buf_bytes(&t->hops)},
        {"truncated", MR_ATTR_BOOLEAN, mr_bytes_of(detail == DETAIL_ALL ? "" : "true")},
    };
    struct mr_buf document;
    mr_buf_init(&document, size_max);
    enum mr_status r = append_document(&document, o, detail);
    if (r == MR_OK) {
        r = mr__own_event(attrs, MR_ARRAY_COUNT(attrs), mr_buf_bytes(&document), size_max,
                          ret_event);
    }
    mr_buf_release(&document);
    return r;
}

enum mr_status mr_adapt_outcome(struct mr_bytes record, const char *delivery,
                                const char *subscription, const char *state, const char *reason,
                                const struct mr_outcome_attempt *attempts, uint32_t attempt_count,
                                struct mr_bytes result, uint64_t wall_ns, size_t size_max,
                                struct mr_event **ret_event)
{
    const struct outcome o = {record,   delivery,      subscription, state, reason,
                              attempts, attempt_count, result};
    struct outcome_texts texts;
    char time[MR_TIME_TEXT_SIZE];
    mr_time_format(wall_ns, time);
    enum mr_status r = make_texts(&texts, &o);
    /* An outcome that does not fit says less rather than nothing. */
    for (enum detail detail = DETAIL_ALL; r == MR_OK && detail < DETAIL_MAX; detail++) {
        enum mr_status built = build_event(&o, &texts, time, detail, size_max, ret_event);
        if (built != MR_E_TOO_BIG || detail + 1 == DETAIL_MAX) {
            r = built;
            break;
        }
    }
    release_texts(&texts);
    return r;
}
