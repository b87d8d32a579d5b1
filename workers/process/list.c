#include <inttypes.h>

#include "workers/process/internal.h"

static const char *const state_words[] = {
    [MR__STARTING] = "starting", [MR__READY] = "idle",     [MR__DRAINING] = "draining",
    [MR__STOPPING] = "stopping", [MR__KILLED] = "killed",
};

static const char *state_word(const struct mr__instance *i)
{
    return i->state == MR__READY && i->cancelling > 0 ? "cancelling"
           : i->state == MR__READY && i->held > 0     ? "busy"
                                                      : state_words[i->state];
}

static enum mr_status append_seconds(struct mr_buf *json, const char *name, uint64_t ns)
{
    return mr_buf_printf(json, ",\"%s\":%" PRIu64 ".%03" PRIu64, name,
                         (uint64_t)(ns / MR_SECOND), (uint64_t)(ns % MR_SECOND / MR_MS));
}

static enum mr_status append_delivery(struct mr_buf *json, const struct mr__slot *slot,
                                      uint64_t now)
{
    const struct mr_handout *h = slot->handout;
    enum mr_status r = mr_buf_append_text(json, "{\"delivery\":");
    if (r == MR_OK) {
        r = mr_buf_append_json(json, mr_bytes_of(h->delivery));
    }
    if (r == MR_OK) {
        r = mr_buf_printf(json, ",\"attempt\":%" PRIu32, h->attempt);
    }
    if (r == MR_OK) {
        r = append_seconds(json, "running_seconds", now - slot->handed_ns);
    }
    if (r == MR_OK && slot->beat_ns != 0) {
        r = append_seconds(json, "heartbeat_seconds_ago", now - slot->beat_ns);
    }
    if (r == MR_OK) {
        r = mr_buf_printf(json, ",\"cancelled\":%s,\"progress\":%s}",
                          slot->cancel_at_ns == 0 ? "false" : "true",
                          slot->progress == NULL ? "null" : slot->progress);
    }
    return r;
}

static enum mr_status append_instance(struct mr_buf *json, const struct mr__instance *i,
                                      uint64_t now)
{
    enum mr_status r = mr_buf_printf(json, "{\"instance\":\"%s\",\"pid\":%d,\"state\":\"%s\","
                                     "\"version\":",
                                     i->who, (int)i->child.pid, state_word(i));
    if (r == MR_OK) {
        r = mr_buf_append_json(json, mr_bytes_of(i->version));
    }
    if (r == MR_OK) {
        r = append_seconds(json, "age_seconds", now - i->born_ns);
    }
    if (r == MR_OK) {
        r = mr_buf_printf(json, ",\"rss\":%" PRIu64 ",\"handed\":%" PRIu64 ",\"answered\":%" PRIu64
                          ",\"deliveries\":[", i->rss, i->handed, i->answered);
    }
    return r;
}

enum mr_status mr__instance_list(struct mr_target *t, uint32_t n, const char *delivery,
                                 struct mr_buf *json)
{
    const struct mr__instance *i = t->instances[n];
    uint64_t now = t->base.now.mono_ns;
    bool any = delivery == NULL;
    bool first = true;
    enum mr_status r = append_instance(json, i, now);
    for (uint32_t k = 0; k < i->held && r == MR_OK; k++) {
        if (delivery != NULL && strcmp(delivery, i->slots[k].handout->delivery) != 0) {
            continue;
        }
        any = true;
        r = first ? MR_OK : mr_buf_append_byte(json, ',');
        first = false;
        if (r == MR_OK) {
            r = append_delivery(json, &i->slots[k], now);
        }
    }
    r = r == MR_OK && !any ? MR_E_NOT_FOUND : r;
    return r == MR_OK ? mr_buf_append_text(json, "]}") : r;
}
