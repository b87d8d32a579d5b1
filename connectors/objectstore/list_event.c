#include "connectors/objectstore/list_event.h"

#include <inttypes.h>
#include <stdio.h>

#include "connectors/objectstore/sign.h"
#include "core/clock.h"
#include "core/hash.h"
#include "schemas/adapter.h"

#define RECORD_SIZE_MAX (16u * MR_KIB)

/* --- events ----------------------------------------------------------------------------------- */

static const char *const change_names[] = {
    [MR_CHANGE_CREATED] = "ObjectCreated:Listed",
    [MR_CHANGE_CHANGED] = "ObjectCreated:Changed",
    [MR_CHANGE_REMOVED] = "ObjectRemoved:Missing",
};

struct words {
    char id[64 + MR_OBJECT_ETAG_SIZE_MAX];
    char type[64];
    char time[MR_TIME_TEXT_SIZE];
    struct mr_buf source;
    struct mr_buf subject; /* the key as S3 writes it: URL-encoded, "+" for a blank */
    struct mr_buf partition;
    struct mr_buf record;
};

/* The key as it stands in S3's own notifications. */
static enum mr_status append_key(struct mr_buf *out, struct mr_bytes key)
{
    enum mr_status r = MR_OK;
    while (r == MR_OK && key.size > 0) {
        const uint8_t *blank = memchr(key.data, ' ', key.size);
        size_t plain = blank == NULL ? key.size : (size_t)(blank - key.data);
        r = mr__uri_encode(out, mr_bytes(key.data, plain), true);
        if (r == MR_OK && blank != NULL) {
            r = mr_buf_append_byte(out, '+');
            plain++;
        }
        key = mr_bytes(key.data + plain, key.size - plain);
    }
    return r;
}

static enum mr_status append_record(const struct mr_list_origin *from, enum mr_change change,
                                    const struct mr_object *object, struct words *w)
{
    struct mr_buf *out = &w->record;
    enum mr_status r = mr_buf_printf(
        out,
        "{\"eventVersion\":\"2.1\",\"eventSource\":\"millrace:s3\",\"awsRegion\":\"%s\","
        "\"eventTime\":\"%s\",\"eventName\":\"%s\",\"s3\":{\"s3SchemaVersion\":\"1.0\","
        "\"configurationId\":",
        from->region, w->time, change_names[change]);
    r = r == MR_OK ? mr_buf_append_json(out, mr_bytes_of(from->source_name)) : r;
    r = r == MR_OK ? mr_buf_append_text(out, ",\"bucket\":{\"name\":") : r;
    r = r == MR_OK ? mr_buf_append_json(out, mr_bytes_of(from->bucket)) : r;
    r = r == MR_OK ? mr_buf_append_text(out, "},\"object\":{\"key\":") : r;
    r = r == MR_OK ? mr_buf_append_json(out, mr_buf_bytes(&w->subject)) : r;
    if (r == MR_OK && change != MR_CHANGE_REMOVED) {
        r = mr_buf_printf(out, ",\"size\":%" PRIu64 ",\"eTag\":", object->size);
        r = r == MR_OK ? mr_buf_append_json(out, mr_buf_bytes(&object->etag)) : r;
    }
    return r == MR_OK ? mr_buf_append_text(out, "}}}") : r;
}

static enum mr_status make_words(const struct mr_list_origin *from, enum mr_change change,
                                 const struct mr_object *object, struct words *w)
{
    uint64_t modified_ns = object->modified_ns > 0 ? (uint64_t)object->modified_ns : 0;
    uint64_t time_ns = change == MR_CHANGE_REMOVED ? mr_clock_now().wall_ns : modified_ns;
    /* The same change has the same id, whoever finds it and when. */
    (void)snprintf(w->id, sizeof(w->id), "%016" PRIx64 "-%.*s-%" PRIu64 "%s",
                   mr_hash(object->key.data, object->key.size), (int)object->etag.size,
                   (const char *)object->etag.data, (uint64_t)(modified_ns / MR_MS),
                   change == MR_CHANGE_REMOVED ? "-removed" : "");
    (void)snprintf(w->type, sizeof(w->type), "com.amazonaws.s3.%s", change_names[change]);
    (void)mr_time_format(time_ns, w->time);
    mr_buf_init(&w->source, 1024);
    mr_buf_init(&w->subject, 3 * MR_OBJECT_KEY_SIZE_MAX);
    mr_buf_init(&w->partition, 4 * MR_OBJECT_KEY_SIZE_MAX);
    mr_buf_init(&w->record, RECORD_SIZE_MAX);
    enum mr_status r = mr_buf_printf(&w->source, "millrace:s3.%s.", from->region);
    r = r == MR_OK ? mr__uri_encode(&w->source, mr_bytes_of(from->bucket), false) : r;
    r = r == MR_OK ? append_key(&w->subject, mr_buf_bytes(&object->key)) : r;
    r = r == MR_OK ? mr_buf_printf(&w->partition, "%s/", from->bucket) : r;
    r = r == MR_OK ? mr_buf_append_bytes(&w->partition, mr_buf_bytes(&w->subject)) : r;
    return r == MR_OK ? append_record(from, change, object, w) : r;
}

static enum mr_status build(const struct mr_list_origin *from, const struct words *w,
                            struct mr_event **ret_event, struct mr_problem *problem)
{
    char received[MR_TIME_TEXT_SIZE];
    const struct {
        const char *name;
        enum mr_attr_type type;
        struct mr_bytes value;
    } attrs[] = {
        {"id", MR_ATTR_STRING, mr_bytes_of(w->id)},
        {"source", MR_ATTR_URI_REF, mr_buf_bytes(&w->source)},
        {"type", MR_ATTR_STRING, mr_bytes_of(w->type)},
        {"subject", MR_ATTR_STRING, mr_buf_bytes(&w->subject)},
        {"time", MR_ATTR_TIMESTAMP, mr_bytes_of(w->time)},
        {"datacontenttype", MR_ATTR_STRING, MR_BYTES_LITERAL("application/json")},
        {"partitionkey", MR_ATTR_STRING, mr_buf_bytes(&w->partition)},
        {"recordedtime", MR_ATTR_TIMESTAMP,
         mr_bytes_of(mr_time_format(mr_clock_now().wall_ns, received))},
    };
    struct mr_event_builder builder;
    mr_event_builder_init(&builder, from->event_size_max);
    enum mr_status r = MR_OK;
    for (size_t i = 0; r == MR_OK && i < MR_ARRAY_COUNT(attrs); i++) {
        r = mr_event_builder_attr(&builder, mr_bytes_of(attrs[i].name), attrs[i].type,
                                  attrs[i].value, problem);
    }
    if (r != MR_OK) {
        mr_event_builder_release(&builder);
        return r;
    }
    mr_event_builder_data(&builder, mr_buf_bytes(&w->record), false);
    return mr_event_builder_finish(&builder, true, ret_event, problem);
}

enum mr_status mr__list_event(const struct mr_list_origin *from, enum mr_change change,
                              const struct mr_object *object, struct mr_event **ret_event,
                              bool *ret_rejected, struct mr_problem *problem)
{
    struct words w = {.id = ""};
    enum mr_status r = make_words(from, change, object, &w);
    r = r == MR_OK ? build(from, &w, ret_event, problem) : r;
    *ret_rejected = r != MR_OK && r != MR_E_NOMEM;
    if (*ret_rejected) {
        r = mr_adapt_rejected(mr_bytes_of(from->source_name), mr_bytes_of(w.id),
                              mr_buf_bytes(&w.record), problem->text, mr_clock_now().wall_ns,
                              from->event_size_max, ret_event);
    }
    mr_buf_release(&w.source);
    mr_buf_release(&w.subject);
    mr_buf_release(&w.partition);
    mr_buf_release(&w.record);
    return r == MR_OK ? MR_OK : MR_E_NOMEM;
}
