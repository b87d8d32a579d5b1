/* The worker that ../conformance.py asks for, with this library. Arguments: how many deliveries are
 * taken over at once (1), then perhaps `batch`. */
#include "millrace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static enum millrace_verdict end_with(struct millrace_delivery *d, enum millrace_verdict verdict,
                                      const char *error)
{
    (void)millrace_error(d, error); /* memory short: the verdict alone */
    return verdict;
}

static enum millrace_verdict handle(struct millrace_delivery *d, void *context)
{
    const char *kind = strrchr(d->type, '.');
    (void)context;
    kind = kind == NULL ? "" : kind + 1;
    if (strcmp(kind, "retry") == 0) {
        (void)millrace_after(d, 2.5);
        return end_with(d, MILLRACE_RETRY, "busy");
    }
    if (strcmp(kind, "drop") == 0) {
        return end_with(d, MILLRACE_DROP, "not for us");
    }
    if (strcmp(kind, "dead") == 0) {
        return end_with(d, MILLRACE_DEAD, "never");
    }
    if (strcmp(kind, "emit") == 0) {
        static const char *const children[] = {
            "{\"specversion\":\"1.0\",\"id\":\"child-1\",\"source\":\"/w\","
            "\"type\":\"conformance.child\"}",
            "{\"specversion\":\"1.0\",\"id\":\"child-2\",\"source\":\"/w\","
            "\"type\":\"conformance.child\"}"};
        if (millrace_emit(d, children[0]) != 0 || millrace_emit(d, children[1]) != 0) {
            return MILLRACE_RETRY;
        }
    } else if (strcmp(kind, "echo") == 0) {
        const char *data = d->data == NULL ? "null" : d->data;
        return millrace_result(d, data) == 0 ? MILLRACE_OK : MILLRACE_RETRY;
    } else if (strcmp(kind, "size") == 0) {
        char size[32];
        snprintf(size, sizeof(size), "%zu", d->data_size);
        return millrace_result(d, size) == 0 ? MILLRACE_OK : MILLRACE_RETRY;
    } else if (strcmp(kind, "heartbeat") == 0) {
        (void)millrace_heartbeat(d, "{\"done\":0.5}"); /* one less does no harm */
    } else if (strcmp(kind, "wait") == 0) {
        while (!millrace_cancelled(d)) {
        }
        return end_with(d, MILLRACE_RETRY, "cancelled");
    }
    return MILLRACE_OK;
}

static enum millrace_verdict handle_batch(struct millrace_delivery *batch, size_t count,
                                          void *context)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(batch[i].type, "conformance.fail") == 0) {
            return end_with(&batch[i], MILLRACE_RETRY, "all of it");
        }
        enum millrace_verdict verdict = handle(&batch[i], context);
        if (verdict != MILLRACE_OK) {
            millrace_answer(&batch[i], verdict);
        }
    }
    return MILLRACE_OK;
}

int main(int argc, char **argv)
{
    struct millrace_options options = {.version = "1.0"};
    options.max = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 1;
    return argc > 2 && strcmp(argv[2], "batch") == 0
               ? millrace_run_batch_with(handle_batch, NULL, &options)
               : millrace_run_with(handle, NULL, &options);
}
