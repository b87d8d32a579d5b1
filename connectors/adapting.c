#include "connectors/adapting.h"

#include "core/alloc.h"
#include "core/assert.h"

const char *const mr__adapting_words[] = {"none",       "s3",          "oss",          "cos",
                                          "obs",        "gcs",         "azure-blob",   "gcf",
                                          "sns",        "eventbridge", "alertmanager", "k8s",
                                          "cdevents",   "cloudevents", "auto",         NULL};

static const enum mr_adapter adapters[] = {
    MR_ADAPTER_AUTO, /* not used: none */
    MR_ADAPTER_S3,
    MR_ADAPTER_OSS,
    MR_ADAPTER_COS,
    MR_ADAPTER_OBS,
    MR_ADAPTER_GCS,
    MR_ADAPTER_AZURE_BLOB,
    MR_ADAPTER_GCF,
    MR_ADAPTER_SNS,
    MR_ADAPTER_EVENTBRIDGE,
    MR_ADAPTER_ALERTMANAGER,
    MR_ADAPTER_K8S,
    MR_ADAPTER_CDEVENTS,
    MR_ADAPTER_CLOUDEVENTS,
    MR_ADAPTER_AUTO,
};
_Static_assert(MR_ARRAY_COUNT(adapters) + 1 == MR_ARRAY_COUNT(mr__adapting_words), "one each");

enum mr_adapter mr__adapting_adapter(int word)
{
    MR_ASSERT(word > MR_ADAPTING_NONE && (size_t)word < MR_ARRAY_COUNT(adapters));
    return adapters[word];
}

static void cut_batch(struct mr_batch *batch, uint32_t count)
{
    while (batch->count > count) {
        struct mr_batch_item *item = &batch->items[--batch->count];
        batch->size -= item->event->size;
        mr_event_unref(item->event);
        mr_free(item->rejected);
        *item = (struct mr_batch_item){0};
    }
}

static enum mr_status add_rejected(const struct mr_adapt_input *input, struct mr_bytes id,
                                   const char *reason, struct mr_batch *batch)
{
    struct mr_event *event = NULL;
    enum mr_status r = mr_adapt_rejected(input->source_name, id, input->body, reason,
                                         input->received_wall_ns, input->size_max, &event);
    return r == MR_OK ? mr_batch_add(batch, event, reason) : MR_E_NOMEM;
}

enum mr_status mr__adapting_add(int word, const struct mr_adapt_input *input, struct mr_bytes id,
                                struct mr_batch *batch, bool *ret_rejected)
{
    struct mr_problem problem = {.text = ""};
    struct mr_adapted adapted = {0};
    uint32_t before = batch->count;
    enum mr_status r = mr_adapt(mr__adapting_adapter(word), input, &adapted, &problem);
    bool rejected = r != MR_OK && r != MR_E_NOMEM;
    if (rejected) {
        r = add_rejected(input, id, problem.text[0] == '\0' ? mr_status_text(r) : problem.text,
                         batch);
    }
    for (uint32_t i = 0; r == MR_OK && i < adapted.events.count; i++) {
        r = mr_batch_add(batch, mr_event_ref(adapted.events.events[i]), NULL);
    }
    mr_adapted_release(&adapted);
    if (r != MR_OK) {
        cut_batch(batch, before);
        return MR_E_NOMEM;
    }
    if (ret_rejected != NULL) {
        *ret_rejected = rejected;
    }
    return MR_OK;
}
