#include <stdio.h>

#include "connectors/objectstore/sqs.h"
#include "core/clock.h"

#define STALE_NS (10 * MR_MINUTE) /* how long a refused delete waits for its message's return */

static void end_failed(struct mr_source *s, struct mr_sqs_held *m, enum mr_sqs_errand_kind kind,
                       bool is_final)
{
    uint64_t now_ns = mr_clock_mono_ns();
    if (kind == MR_SQS_GIVE_BACK ||
        (kind == MR_SQS_DELETE && mr__lifecycle_is_stopping(&s->intake.life))) {
        mr__sqs_drop(s, m); /* it comes again by itself */
        return;
    }
    m->tries = m->tries < 30 ? m->tries + 1 : m->tries;
    m->not_before_ns = now_ns + m->tries * MR_SECOND;
    if (kind == MR_SQS_DELETE && is_final) {
        m->is_stale = true;
        m->not_before_ns = now_ns + STALE_NS;
    }
}

static void end_good(struct mr_source *s, struct mr_sqs_held *m, enum mr_sqs_errand_kind kind)
{
    if (kind == MR_SQS_EXTEND) {
        m->hidden_until_ns = mr__sqs_hidden_until(s);
    } else {
        mr__sqs_drop(s, m);
    }
}

void mr__sqs_errand_done(void *context, struct mr_call *call)
{
    static const char *const words[] = {"cannot delete", "cannot give back", "cannot extend"};
    struct mr_sqs_errand *e = context;
    struct mr_source *s = e->source;
    struct mr_sqs_failure failures[MR_SQS_BATCH_MAX];
    uint32_t count = UINT32_MAX;
    e->is_running = false;
    if (call->status == 200) {
        count = mr__sqs_failures(mr_buf_bytes(&call->answer), failures);
    } else {
        mr__sqs_note_failure(s, call, words[e->kind]);
    }
    for (uint32_t i = 0; i < e->count; i++) {
        struct mr_sqs_held *m = e->messages[i];
        const struct mr_sqs_failure *failure = NULL;
        for (uint32_t k = 0; count != UINT32_MAX && k < count; k++) {
            failure = failures[k].index == i ? &failures[k] : failure;
        }
        m->is_busy = false;
        if (count != UINT32_MAX && failure == NULL) {
            end_good(s, m, e->kind);
            continue;
        }
        if (failure != NULL) {
            char text[120];
            (void)snprintf(text, sizeof(text), "%s a message: %s", words[e->kind], failure->code);
            mr__lifecycle_set_health(&s->intake.life, MR_HEALTH_DEGRADED, NULL, text);
        }
        end_failed(s, m, e->kind, failure != NULL && failure->is_final);
    }
}

static bool wants_errand(const struct mr_source *s, const struct mr_sqs_held *m,
                         enum mr_sqs_errand_kind kind, uint64_t now_ns)
{
    if (m->is_busy || now_ns < m->not_before_ns) {
        return false;
    }
    switch (kind) {
    case MR_SQS_DELETE:
        return m->state == MR_SQS_DONE;
    case MR_SQS_GIVE_BACK:
        return m->state == MR_SQS_BACK;
    case MR_SQS_EXTEND:
        return m->state == MR_SQS_HELD &&
               now_ns + s->options.visibility_ns / 2 > m->hidden_until_ns;
    }
    return false;
}

static void collect(struct mr_source *s, struct mr_sqs_errand *e, enum mr_sqs_errand_kind kind,
                    uint64_t now_ns)
{
    e->count = 0;
    e->kind = kind;
    for (struct mr_sqs_held *m = s->messages, *next; m != NULL && e->count < MR_SQS_BATCH_MAX;
         m = next) {
        next = m->next;
        if (!wants_errand(s, m, kind, now_ns)) {
            continue;
        }
        if (m->is_stale) {
            mr__sqs_drop(s, m); /* it never came again: somebody else deleted it */
            continue;
        }
        e->messages[e->count++] = m;
    }
}

static bool start_errand(struct mr_source *s, struct mr_sqs_errand *e)
{
    const char *handles[MR_SQS_BATCH_MAX];
    uint64_t visibility_s = e->kind == MR_SQS_DELETE ? UINT64_MAX
                            : e->kind == MR_SQS_GIVE_BACK ? 0
                                                     : s->options.visibility_ns / MR_SECOND;
    for (uint32_t i = 0; i < e->count; i++) {
        handles[i] = e->messages[i]->handle;
    }
    mr_buf_clear(&e->body);
    if (mr__sqs_batch(&e->body, s->options.peer.url->text, handles, e->count, visibility_s) !=
            MR_OK ||
        !mr__sqs_call(s, &e->call, &e->body,
                    e->kind == MR_SQS_DELETE ? "AmazonSQS.DeleteMessageBatch"
                                             : "AmazonSQS.ChangeMessageVisibilityBatch",
                    0)) {
        return false;
    }
    for (uint32_t i = 0; i < e->count; i++) {
        e->messages[i]->is_busy = true;
    }
    e->is_running = true;
    return true;
}

void mr__sqs_errands(struct mr_source *s, uint64_t now_ns)
{
    enum mr_sqs_errand_kind kind = MR_SQS_DELETE;
    for (uint32_t i = 0; i < MR_SQS_ERRANDS; i++) {
        struct mr_sqs_errand *e = &s->errands[i];
        if (e->is_running) {
            continue;
        }
        for (e->count = 0; kind <= MR_SQS_EXTEND; kind++) {
            collect(s, e, kind, now_ns);
            if (e->count > 0) {
                break;
            }
        }
        if (e->count == 0 || !start_errand(s, e)) {
            return;
        }
    }
}
