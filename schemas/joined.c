/* What became of a fan-out, as an event. */
#include <inttypes.h>

#include "core/clock.h"
#include "core/limits.h"
#include "schemas/adapter.h"
#include "schemas/json_format.h"
#include "schemas/own_event.h"
#include "schemas/text.h"

#define CAUSE_SIZE_MAX 1024u /* of an id that is repeated as an attribute */

/* How much of the parts that may be large goes in. */
enum detail {
    DETAIL_ALL = 0,
    DETAIL_NO_RESULTS,
    DETAIL_NO_REASONS,
    DETAIL_MAX,
};

/* --- the original, as far as it is kept ------------------------------------------------------- */

enum mr_status mr_adapt_joined_head(struct mr_bytes record, struct mr_event **ret_event)
{
    static const char *const kept[] = {"id",           "source",        "type",
                                       "partitionkey", "correlationid", "mrhops"};
    struct mr_event_builder builder;
    mr_event_builder_init(&builder, 2 * MR_EVENT_ATTRS_SIZE_MAX);
    enum mr_status r = MR_OK;
    for (size_t i = 0; i < MR_ARRAY_COUNT(kept) && r == MR_OK; i++) {
        struct mr_bytes value = mr_event_value(record, kept[i]);
        bool wanted = i < 3 || (value.size > 0 && value.size <= CAUSE_SIZE_MAX);
        enum mr_attr_type type = i == 1 ? MR_ATTR_URI_REF : MR_ATTR_STRING;
        if (wanted) {
            r = mr_event_builder_attr(&builder, mr_bytes_of(kept[i]), type, value, NULL);
        }
    }
    if (r == MR_OK) {
        r = mr_event_builder_finish(&builder, true, ret_event, NULL);
    }
    mr_event_builder_release(&builder);
    return r;
}

/* --- the event -------------------------------------------------------------------------------- */

static enum mr_status append_key(struct mr_buf *out, const char *key, struct mr_bytes text)
{
    enum mr_status r = mr_buf_append_text(out, key);
    return r == MR_OK ? mr_buf_append_json(out, text) : r;
}

static enum mr_status append_member(struct mr_buf *out, const struct mr_joined_member *member,
                                    enum detail detail)
{
    bool shown = detail < DETAIL_NO_RESULTS && mr_json_is_value(member->result);
    bool cut = member->truncated || (member->result.size > 0 && !shown);
    enum mr_status r = mr_buf_append_json(out, mr_bytes_of(member->subscription));
    if (r == MR_OK) {
        r = append_key(out, ":{\"state\":", mr_bytes_of(member->state));
    }
    if (r == MR_OK) {
        r = mr_buf_printf(out, ",\"attempts\":%u", member->attempts);
    }
    if (r == MR_OK && member->reason.size > 0 && detail < DETAIL_NO_REASONS) {
        r = append_key(out, ",\"reason\":", member->reason);
    }
    if (r == MR_OK && shown) {
        r = mr_buf_append_text(out, ",\"result\":");
        r = r == MR_OK ? mr_buf_append_bytes(out, member->result) : r;
    }
    if (r == MR_OK && cut) {
        r = mr_buf_append_text(out, ",\"truncated\":true");
    }
    return r == MR_OK ? mr_buf_append_byte(out, '}') : r;
}

static enum mr_status append_document(struct mr_buf *out, const struct mr_joined *joined,
                                      enum detail detail)
{
    enum mr_status r = append_key(out, "{\"fanout\":", mr_bytes_of(joined->fanout));
    if (r == MR_OK) {
        r = append_key(out, ",\"event\":{\"id\":", mr_event_id(joined->head));
    }
    if (r == MR_OK) {
        r = append_key(out, ",\"source\":", mr_event_source(joined->head));
    }
    if (r == MR_OK) {
        r = append_key(out, ",\"type\":", mr_event_type(joined->head));
    }
    if (r == MR_OK) {
        r = mr_buf_printf(out, ",\"offset\":%" PRIu64 "},\"complete\":%s", joined->offset,
                          joined->reason == NULL ? "true" : "false");
    }
    if (r == MR_OK && joined->reason != NULL) {
        r = append_key(out, ",\"reason\":", mr_bytes_of(joined->reason));
    }
    if (r == MR_OK) {
        r = mr_buf_append_text(out, ",\"results\":{");
    }
    for (uint32_t i = 0; i < joined->member_count && r == MR_OK; i++) {
        r = i == 0 ? MR_OK : mr_buf_append_byte(out, ',');
        r = r == MR_OK ? append_member(out, &joined->members[i], detail) : r;
    }
    return r == MR_OK ? mr_buf_append_text(out, "}}") : r;
}

/* The texts that are put together for the attributes. */
struct texts {
    struct mr_buf id;
    struct mr_buf source;
    struct mr_buf hops;
};

static enum mr_status make_texts(struct texts *t, const struct mr_joined *joined)
{
    mr_buf_init(&t->id, MR_KIB);
    mr_buf_init(&t->source, MR_KIB);
    mr_buf_init(&t->hops, 32);
    enum mr_status r =
        mr_buf_printf(&t->id, "%s:%" PRIu64 ":completed", joined->fanout, joined->offset);
    if (r == MR_OK) {
        r = mr_buf_append_text(&t->source, "/millrace/fanout/");
    }
    if (r == MR_OK) {
        r = mr__text_append_path(&t->source, mr_bytes_of(joined->fanout));
    }
    if (r == MR_OK) {
        uint32_t hops = mr_event_hops(joined->head);
        r = mr_buf_printf(&t->hops, "%u", hops >= INT32_MAX ? INT32_MAX : hops + 1);
    }
    return r;
}

static enum mr_status build_event(const struct mr_joined *joined, const struct texts *t,
                                  enum detail detail, size_t size_max,
                                  struct mr_event **ret_event)
{
    char time[MR_TIME_TEXT_SIZE];
    struct mr_bytes cause = mr_event_id(joined->head);
    const struct mr__own_attr attrs[] = {
        {"id", MR_ATTR_STRING, mr_buf_bytes(&t->id)},
        {"source", MR_ATTR_URI_REF, mr_buf_bytes(&t->source)},
        {"type", MR_ATTR_STRING, MR_BYTES_LITERAL("io.millrace.fanout.completed")},
        {"subject", MR_ATTR_STRING, mr_bytes_of(joined->fanout)},
        {"time", MR_ATTR_TIMESTAMP, mr_bytes_of(mr_time_format(joined->wall_ns, time))},
        {"datacontenttype", MR_ATTR_STRING, MR_BYTES_LITERAL("application/json")},
        {"causationid", MR_ATTR_STRING, cause.size <= CAUSE_SIZE_MAX ? cause : mr_bytes(NULL, 0)},
        {"correlationid", MR_ATTR_STRING, mr_event_value(joined->head, "correlationid")},
        {"partitionkey", MR_ATTR_STRING, mr_event_value(joined->head, "partitionkey")},
        {"mrhops", MR_ATTR_INTEGER, mr_buf_bytes(&t->hops)},
    };
    struct mr_buf document;
    mr_buf_init(&document, size_max);
    enum mr_status r = append_document(&document, joined, detail);
    if (r == MR_OK) {
        r = mr__own_event(attrs, MR_ARRAY_COUNT(attrs), mr_buf_bytes(&document), size_max,
                          ret_event);
    }
    mr_buf_release(&document);
    return r;
}

enum mr_status mr_adapt_joined(const struct mr_joined *joined, size_t size_max,
                               struct mr_event **ret_event)
{
    struct texts texts;
    enum mr_status r = make_texts(&texts, joined);
    /* One that does not fit says less rather than nothing. */
    for (enum detail detail = DETAIL_ALL; r == MR_OK && detail < DETAIL_MAX; detail++) {
        enum mr_status built = build_event(joined, &texts, detail, size_max, ret_event);
        if (built != MR_E_TOO_BIG || detail + 1 == DETAIL_MAX) {
            r = built;
            break;
        }
    }
    mr_buf_release(&texts.id);
    mr_buf_release(&texts.source);
    mr_buf_release(&texts.hops);
    return r;
}
