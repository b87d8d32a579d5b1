/* What tests/integration/test_sdk.py asks a worker of batches in C for: the event's type says. */
#include <stdio.h>
#include <string.h>

#include "millrace.h"

static int note(const char *name, const struct millrace_delivery *batch, size_t count)
{
    FILE *file = fopen(name, "a");
    if (file == NULL) {
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        fprintf(file, "%s%c", batch[i].id, i + 1 < count ? ' ' : '\n');
    }
    return fclose(file);
}

static enum millrace_verdict answer(struct millrace_delivery *d, enum millrace_verdict verdict,
                                    const char *error)
{
    if (millrace_error(d, error) != 0) {
        return MILLRACE_RETRY;
    }
    millrace_answer(d, verdict);
    return MILLRACE_OK;
}

static enum millrace_verdict fail(struct millrace_delivery *d, const char *error)
{
    (void)millrace_error(d, error); /* memory short: no reason */
    return MILLRACE_RETRY;
}

/* What of the batch it says: MILLRACE_RETRY, it fails as a whole. */
static enum millrace_verdict handle_one(struct millrace_delivery *d)
{
    if (strcmp(d->type, "fail") == 0) {
        return fail(d, "the batch is no good");
    }
    if (strcmp(d->type, "hang") == 0) {
        FILE *told;
        while (!millrace_cancelled(d)) {
        }
        told = fopen("told", "w");
        if (told == NULL || fputs("cancelled", told) < 0 || fclose(told) != 0) {
            return fail(d, "cannot write");
        }
        return fail(d, "given up");
    }
    if (strcmp(d->type, "result") == 0) {
        return millrace_result(d, "{\"n\":1}") == 0 ? MILLRACE_OK : MILLRACE_RETRY;
    }
    if (strcmp(d->type, "retry") == 0) {
        (void)millrace_after(d, 3600);
        return answer(d, MILLRACE_RETRY, "busy");
    }
    if (strcmp(d->type, "dead") == 0) {
        return answer(d, MILLRACE_DEAD, "never");
    }
    if (strcmp(d->type, "emit") == 0) {
        static const char child[] = "{\"specversion\":\"1.0\",\"id\":\"child of emit\","
                                    "\"source\":\"/worker\",\"type\":\"child\"}";
        return millrace_emit(d, child) == 0 ? MILLRACE_OK : MILLRACE_RETRY;
    }
    return MILLRACE_OK;
}

static enum millrace_verdict handle(struct millrace_delivery *batch, size_t count, void *context)
{
    int noted = note("batches", batch, count) == 0;
    enum millrace_verdict verdict = noted ? MILLRACE_OK : MILLRACE_RETRY;
    (void)context;
    for (size_t i = 0; i < count && verdict == MILLRACE_OK; i++) {
        verdict = handle_one(&batch[i]);
    }
    return verdict;
}

int main(void)
{
    struct millrace_options options = {.max = 4};
    return millrace_run_batch_with(handle, NULL, &options);
}
