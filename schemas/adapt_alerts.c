/* Alerts of Prometheus Alertmanager and of Grafana, which sends the same shape (digest 13.4): one
 * event for each alert. */
#include <stdio.h>
#include <stdlib.h>

#include "core/alloc.h"
#include "core/assert.h"
#include "core/hash.h"
#include "core/limits.h"
#include "schemas/adapt.h"

/* What the alerts of a message share; absent values are empty. */
struct group {
    const char *type;   /* before the status */
    const char *source; /* before the source's name, where the message has no URL */
    struct mr_bytes url;
    struct mr_bytes status;
    struct mr_bytes name;
};

struct label {
    struct mr_bytes name;
    struct mr_bytes value;
};

static int compare_labels(const void *a, const void *b)
{
    const struct label *x = a;
    const struct label *y = b;
    return mr_bytes_compare(x->name, y->name);
}

static uint64_t hash_text(uint64_t h, struct mr_bytes text)
{
    for (size_t i = 0; i < text.size; i++) {
        h = mr_hash_step(h, text.data[i]);
    }
    return mr_hash_step(h, 0xFF);
}

/* The labels of @p json as text; @p out has room for all of it. @return how many, at most @p max */
static size_t read_labels(struct mr__adapt *run, struct mr_bytes json, struct mr_buf *out,
                          struct label *labels, size_t max)
{
    struct mr__scan s;
    struct mr__json_string name;
    struct mr_bytes value;
    size_t count = 0;
    mr__adapt_walk(&s, json);
    while (count < max && run->status == MR_OK && mr__json_next(&s, &name, &value)) {
        size_t at = out->size;
        struct mr_bytes quoted = mr_bytes(name.raw.data - 1, name.raw.size + 2);
        if (!mr__adapt_text(run, quoted, out)) {
            break;
        }
        size_t middle = out->size;
        (void)mr__adapt_text(run, value, out); /* what is no scalar counts as empty */
        labels[count++] = (struct label){mr_bytes(out->data + at, middle - at),
                                         mr_bytes(out->data + middle, out->size - middle)};
    }
    return count;
}

/* Alertmanager's own fingerprint: FNV-1a over the labels in order of their names, a byte 255 behind
 * each name and each value. */
static void draft_fingerprint(struct mr__draft *draft, struct mr_bytes alert)
{
    struct mr__adapt *run = draft->run;
    struct mr_bytes json;
    if (!mr__adapt_get_kind(run, alert, "labels", '{', &json)) {
        mr__draft_digest(draft, MR__ID, alert);
        return;
    }
    size_t max = json.size / 4 + 1; /* a label is at least "":0 and a comma */
    struct mr_buf text;
    mr_buf_init(&text, json.size);
    struct label *labels = mr_alloc(max * sizeof(*labels));
    if (labels == NULL || mr_buf_reserve(&text, json.size) != MR_OK) {
        mr__adapt_fail(run, MR_E_NOMEM, "out of memory");
    } else {
        size_t count = read_labels(run, json, &text, labels, max);
        qsort(labels, count, sizeof(*labels), compare_labels);
        uint64_t h = MR_HASH_BEGIN;
        for (size_t i = 0; i < count; i++) {
            h = hash_text(hash_text(h, labels[i].name), labels[i].value);
        }
        char hex[17];
        int n = snprintf(hex, sizeof(hex), "%016llx", (unsigned long long)h);
        MR_ASSERT(n == 16);
        mr__draft_text(draft, MR__ID, hex);
    }
    mr_free(labels);
    mr_buf_release(&text);
}

static void adapt_alert(struct mr__adapt *run, struct mr_bytes alert)
{
    const struct group *group = run->context;
    struct mr__draft draft;
    struct mr_buf status;
    struct mr_bytes value;
    mr_buf_init(&status, 1024);
    if ((!mr__adapt_get(run, alert, "status", &value) || !mr__adapt_text(run, value, &status)) &&
        !mr__adapt_text(run, group->status, &status)) {
        mr__adapt_fail(run, MR_E_INVALID, "the member status is missing");
    }
    bool resolved = mr_bytes_equal(mr_buf_bytes(&status), MR_BYTES_LITERAL("resolved"));
    mr__draft_begin(&draft, run, alert);
    if (!mr__draft_get(&draft, MR__ID, alert, "fingerprint")) {
        draft_fingerprint(&draft, alert);
    }
    mr__draft_bytes(&draft, MR__KEY, mr_buf_bytes(&draft.parts[MR__ID]));
    mr__draft_text(&draft, MR__ID, "/");
    (void)mr__draft_get(&draft, MR__ID, alert, "startsAt"); /* every alert has it */
    mr__draft_text(&draft, MR__ID, "/");
    mr__draft_bytes(&draft, MR__ID, mr_buf_bytes(&status));
    if (!mr__draft_value(&draft, MR__SOURCE, group->url)) {
        mr__draft_source_name(&draft, group->source);
    }
    mr__draft_text(&draft, MR__TYPE, group->type);
    mr__draft_bytes(&draft, MR__TYPE, mr_buf_bytes(&status));
    if (!mr__draft_get(&draft, MR__SUBJECT, alert, "labels.alertname")) {
        (void)mr__draft_value(&draft, MR__SUBJECT, group->name); /* an alert may have no name */
    }
    const char *when = resolved ? "endsAt" : "startsAt";
    /* The zero time of Go stands for "not yet". */
    if (!mr__adapt_get_kind(run, alert, when, '"', &value) ||
        !mr_bytes_starts(value, MR_BYTES_LITERAL("\"0001-01-01"))) {
        (void)mr__draft_time(&draft, alert, when); /* else the receive time */
    }
    mr__draft_end(&draft);
    mr_buf_release(&status);
}

static void adapt_group(struct mr__adapt *run, struct group *group)
{
    struct mr_bytes json;
    struct mr_bytes alerts;
    if (!mr__adapt_parse(run, run->body, &json)) {
        return;
    }
    if (!mr__adapt_get_kind(run, json, "alerts", '[', &alerts)) {
        mr__adapt_fail(run, MR_E_INVALID, "no alerts: it has no list \"alerts\"");
        return;
    }
    (void)mr__adapt_get(run, json, "externalURL", &group->url);
    (void)mr__adapt_get(run, json, "status", &group->status);
    if (!mr__adapt_get(run, json, "commonLabels.alertname", &group->name)) {
        (void)mr__adapt_get(run, json, "groupLabels.alertname", &group->name);
    }
    run->context = group;
    mr__adapt_each(run, "alerts", alerts, adapt_alert);
    run->context = NULL;
}

void mr__adapt_alertmanager(struct mr__adapt *run)
{
    struct group group = {.type = "io.prometheus.alert.", .source = "/alertmanager/"};
    adapt_group(run, &group);
}

void mr__adapt_grafana(struct mr__adapt *run)
{
    struct group group = {.type = "com.grafana.alert.", .source = "/grafana/"};
    adapt_group(run, &group);
}
