#include "bus/ports.h"

#include "core/alloc.h"
#include "core/assert.h"
#include "core/logger.h"

const char *mr_durability_text(enum mr_durability d)
{
    switch (d) {
    case MR_DURABLE_DISK:
        return "disk";
    case MR_DURABLE_INTERVAL:
        return "interval";
    case MR_DURABLE_NEVER:
        return "never";
    }
    return "unknown";
}

const char *mr_verdict_text(enum mr_verdict v)
{
    static const char *const names[MR_VERDICT_MAX] = {
        [MR_VERDICT_NONE] = "none",       [MR_VERDICT_OK] = "ok",
        [MR_VERDICT_RETRY] = "retry",     [MR_VERDICT_DROP] = "drop",
        [MR_VERDICT_DEAD] = "dead",       [MR_VERDICT_REFUSED] = "refused",
        [MR_VERDICT_TIMEOUT] = "timeout", [MR_VERDICT_CRASH] = "crash",
        [MR_VERDICT_INTERRUPTED] = "interrupted",
    };
    return (unsigned)v < MR_VERDICT_MAX ? names[v] : "unknown";
}

struct mr_batch *mr_batch_create(uint32_t source, uint32_t capacity)
{
    struct mr_batch *batch = mr_calloc(1, sizeof(*batch));
    if (batch == NULL) {
        return NULL;
    }
    batch->source = source;
    batch->capacity = capacity == 0 ? 1 : capacity;
    batch->items = mr_calloc(batch->capacity, sizeof(*batch->items));
    if (batch->items == NULL) {
        mr_free(batch);
        return NULL;
    }
    return batch;
}

static void release_item(struct mr_batch_item *item)
{
    mr_event_unref(item->event);
    mr_free(item->rejected);
    mr_matches_release(&item->matches);
}

enum mr_status mr_batch_add(struct mr_batch *batch, struct mr_event *event, const char *rejected)
{
    MR_ASSERT(event != NULL);
    struct mr_batch_item item = {.event = event, .rejected = mr_strdup(rejected)};
    if (rejected != NULL && item.rejected == NULL) {
        release_item(&item);
        return MR_E_NOMEM;
    }
    if (batch->count == batch->capacity) {
        uint32_t capacity = batch->capacity * 2;
        struct mr_batch_item *items = mr_realloc(batch->items, capacity * sizeof(*items));
        if (items == NULL) {
            release_item(&item);
            return MR_E_NOMEM;
        }
        batch->items = items;
        batch->capacity = capacity;
    }
    batch->items[batch->count++] = item;
    batch->size += event->size;
    return MR_OK;
}

void mr_batch_destroy(struct mr_batch *batch)
{
    if (batch == NULL) {
        return;
    }
    for (uint32_t i = 0; i < batch->count; i++) {
        release_item(&batch->items[i]);
    }
    mr_free(batch->items);
    mr_free(batch->cursor);
    mr_free(batch);
}

struct mr_handout *mr_handout_create(void)
{
    struct mr_handout *handout = mr_calloc(1, sizeof(*handout));
    if (handout != NULL) {
        handout->answer.exit_code = -1;
    }
    return handout;
}

void mr_handout_destroy(struct mr_handout *handout)
{
    if (handout == NULL) {
        return;
    }
    mr_event_unref(handout->event);
    mr_event_unref(handout->original);
    mr_free(handout->answer.error);
    mr_free(handout->answer.stderr_tail);
    mr_free(handout->answer.result);
    for (uint32_t i = 0; i < handout->answer.emitted_count; i++) {
        release_item(&handout->answer.emitted[i]);
    }
    mr_free(handout->answer.emitted);
    mr_free(handout);
}

void mr_handout_set_error(struct mr_handout *handout, struct mr_bytes text)
{
    char clean[MR_ERROR_TEXT_MAX];
    mr_text_clean(clean, sizeof(clean), text);
    mr_free(handout->answer.error);
    handout->answer.error = mr_strdup(clean);
}

enum mr_status mr_handout_emit(struct mr_handout *handout, struct mr_event *event)
{
    struct mr_answer *answer = &handout->answer;
    if (answer->emitted_count >= MR_EMITTED_MAX) {
        mr_event_unref(event);
        return MR_E_TOO_BIG;
    }
    struct mr_batch_item *items =
        mr_realloc(answer->emitted, (answer->emitted_count + 1) * sizeof(*items));
    if (items == NULL) {
        mr_event_unref(event);
        return MR_E_NOMEM;
    }
    answer->emitted = items;
    items[answer->emitted_count++] = (struct mr_batch_item){.event = event};
    return MR_OK;
}
