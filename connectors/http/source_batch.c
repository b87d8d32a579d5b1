/* From requests to batches, and from what the bus says of a batch to the answers. */
#include <stdio.h>

#include "connectors/http/source_internal.h"
#include "core/alloc.h"
#include "core/assert.h"
#include "core/limits.h"

enum {
    ANSWER_KEPT_SIZE = 64 * 1024,
    BATCH_FIRST = 64,
};

/* One request whose events lie in a batch. */
struct entry {
    struct mr_http_request *request; /* ours until answered */
    uint32_t first;                  /* index in the batch */
    uint32_t count;
    bool is_array; /* came as a batch and is answered as one */
    struct mr__http_wait *wait; /* borrowed: comes back later; it answers. NULL: nobody waits */
};

/* All requests of one batch; its context. */
struct group {
    struct entry *entries; /* owned */
    uint32_t count;
    uint32_t capacity;
};

/* --- answers ---------------------------------------------------------------------------------- */

static enum mr_status append_result(struct mr_buf *out, const struct mr_batch_item *item,
                                    const char *durable)
{
    char offset[32];
    (void)snprintf(offset, sizeof(offset), "%llu", (unsigned long long)item->offset); /* fits */
    enum mr_status r = mr_buf_append_text(out, "{\"id\":");
    if (r == MR_OK) {
        r = mr_buf_append_json(out, mr_event_id(mr_event_record(item->event)));
    }
    const char *const parts[] = {",\"offset\":", offset, ",\"durable\":\"", durable, "\""};
    for (size_t i = 0; r == MR_OK && i < MR_ARRAY_COUNT(parts); i++) {
        r = mr_buf_append_text(out, parts[i]);
    }
    if (r == MR_OK && item->duplicate) {
        r = mr_buf_append_text(out, ",\"duplicate\":true");
    }
    if (r == MR_OK && item->rejected != NULL) {
        r = mr_buf_append_text(out, ",\"rejected\":");
        r = r == MR_OK ? mr_buf_append_json(out, mr_bytes_of(item->rejected)) : r;
    }
    return r == MR_OK ? mr_buf_append_byte(out, '}') : r;
}

static void answer_accepted(struct mr_source *s, const struct entry *entry,
                            const struct mr_batch *batch)
{
    const struct mr_field repeat = {MR_BYTES_LITERAL("Millrace-Duplicate"),
                                    MR_BYTES_LITERAL("true")};
    const char *durable = mr_durability_text(batch->durable);
    uint32_t duplicates = 0;
    struct mr_buf *out = &s->answer;
    mr_buf_clear(out);
    enum mr_status r = entry->is_array ? mr_buf_append_byte(out, '[') : MR_OK;
    for (uint32_t i = 0; r == MR_OK && i < entry->count; i++) {
        if (i > 0) {
            r = mr_buf_append_byte(out, ',');
        }
        if (r == MR_OK) {
            r = append_result(out, &batch->items[entry->first + i], durable);
        }
        duplicates += batch->items[entry->first + i].duplicate;
    }
    if (r == MR_OK) {
        r = mr_buf_append_text(out, entry->is_array ? "]\n" : "\n");
    }
    if (r != MR_OK) {
        mr_buf_clear(out); /* the events are durable, and the status says so */
    }
    if (entry->wait != NULL) {
        entry->wait->accepted = mr_strndup((const char *)out->data, out->size); /* NULL: no body */
    } else {
        mr_http_answer(entry->request,
                       &(struct mr_http_answer){
                           .status = 202,
                           .content_type = "application/json",
                           .headers = &repeat,
                           .header_count = duplicates == entry->count ? 1 : 0, /* all are */
                           .body = mr_buf_bytes(out),
                       });
    }
    if (out->capacity > ANSWER_KEPT_SIZE) {
        mr_buf_release(out);
    }
}

/* --- batches ---------------------------------------------------------------------------------- */

static void destroy_batch(struct mr_batch *batch)
{
    struct group *group = batch->context;
    if (group != NULL) {
        mr_free(group->entries);
        mr_free(group);
    }
    mr_batch_destroy(batch);
}

static struct mr_batch *create_batch(struct mr_source *s)
{
    struct mr_batch *batch =
        mr_batch_create(atomic_load_explicit(&s->index, memory_order_relaxed), BATCH_FIRST);
    if (batch == NULL) {
        return NULL;
    }
    struct group *group = mr_calloc(1, sizeof(*group));
    batch->context = group;
    batch->reply = &s->queue;
    batch->op.type = MR_SOURCE_OP_BATCH_DONE;
    if (group != NULL) {
        group->entries = mr_calloc(BATCH_FIRST, sizeof(*group->entries));
        group->capacity = BATCH_FIRST;
    }
    if (group == NULL || group->entries == NULL) {
        destroy_batch(batch);
        return NULL;
    }
    return batch;
}

static void add_pending(struct mr_source *s, uint64_t size, bool add)
{
    uint64_t pending = atomic_load_explicit(&s->pending, memory_order_relaxed);
    MR_ASSERT(add || pending >= size);
    pending = add ? pending + size : pending - size;
    atomic_store_explicit(&s->pending, pending, memory_order_relaxed);
}

void mr__http_source_submit(struct mr_source *s)
{
    struct mr_batch *batch = s->open;
    if (batch == NULL) {
        return;
    }
    s->open = NULL;
    MR_ASSERT(batch->count > 0);
    s->in_flight++;
    s->host->ops->submit(s->host, batch);
}

static bool add_entry(struct mr_batch *batch, const struct entry *entry)
{
    struct group *group = batch->context;
    if (group->count == group->capacity) {
        struct entry *entries =
            mr_realloc(group->entries, (size_t)group->capacity * 2 * sizeof(*entries));
        if (entries == NULL) {
            return false;
        }
        group->entries = entries;
        group->capacity *= 2;
    }
    group->entries[group->count++] = *entry;
    return true;
}

/* Takes the events behind @p count back out. */
static void trim_batch(struct mr_batch *batch, uint32_t count)
{
    while (batch->count > count) {
        struct mr_batch_item *item = &batch->items[--batch->count];
        batch->size -= item->event->size;
        mr_event_unref(item->event);
        mr_free(item->rejected);
        *item = (struct mr_batch_item){0};
    }
}

/* By what the sender calls its request, with the place of each event in it. */
static void set_keys(const struct mr_source *s, const struct mr_http_request *request,
                     struct mr_batch *batch, uint32_t first)
{
    struct mr_bytes name = mr__http_source_repeats(request);
    for (uint32_t i = first; i < batch->count; i++) {
        struct mr_batch_item *item = &batch->items[i];
        item->id_is_claim = s->has_body_signature;
        if (name.size > 0) {
            item->keys[MR_DEDUPE_BY_REQUEST] = mr_dedupe_key_of_request(
                s->salt, name, i - first, mr_event_record(item->event));
        }
    }
}

enum mr_status mr__http_source_add(struct mr_source *s, struct mr_http_request *request,
                                   struct mr_events *events, bool is_array, const char *rejected,
                                   struct mr__http_wait *wait)
{
    size_t size = 0;
    for (uint32_t i = 0; i < events->count; i++) {
        size += events->events[i]->size;
    }
    if (s->open != NULL && (s->open->count + events->count > MR_BATCH_EVENTS_MAX ||
                            s->open->size + size > MR_BATCH_SIZE_MAX)) {
        mr__http_source_submit(s);
    }
    if (s->open == NULL) {
        s->open = create_batch(s);
        if (s->open == NULL) {
            return MR_E_NOMEM;
        }
    }
    struct mr_batch *batch = s->open;
    const struct entry entry = {request, batch->count, events->count, is_array, wait};
    enum mr_status r = MR_OK;
    for (uint32_t i = 0; r == MR_OK && i < events->count; i++) {
        r = mr_batch_add(batch, MR_TAKE(events->events[i]), rejected);
    }
    if (r != MR_OK || !add_entry(batch, &entry)) {
        trim_batch(batch, entry.first);
        if (batch->count == 0) {
            destroy_batch(batch);
            s->open = NULL;
        }
        return MR_E_NOMEM;
    }
    set_keys(s, request, batch, entry.first);
    add_pending(s, size, true);
    if (wait != NULL) {
        mr__http_wait_begin(s, wait, request, batch, entry.first);
    }
    return MR_OK;
}

void mr__http_source_finish(struct mr_source *s, struct mr_batch *batch)
{
    struct group *group = batch->context;
    MR_ASSERT(s->in_flight > 0);
    s->in_flight--;
    add_pending(s, batch->size, false);
    if (batch->result == MR_OK) {
        atomic_fetch_add_explicit(&s->messages, batch->count, memory_order_relaxed);
    } else {
        mr__http_source_note(s, mr_status_text(batch->result));
    }
    for (uint32_t i = 0; i < group->count; i++) {
        if (batch->result == MR_OK) {
            answer_accepted(s, &group->entries[i], batch);
        } else {
            if (group->entries[i].wait != NULL) {
                group->entries[i].wait->request = NULL; /* answered here */
            }
            mr__http_answer_error(group->entries[i].request,
                                  batch->result == MR_E_TOO_BIG && group->count == 1 ? 413 : 503,
                                  mr_status_text(batch->result), MR__HTTP_RETRY_AFTER_S);
        }
    }
    destroy_batch(batch);
}
