/* A worker of Millrace in C: this header and millrace.c, nothing else. C99 and POSIX.
 *
 *     static enum millrace_verdict handle(struct millrace_delivery *d, void *context)
 *     {
 *         printf("%s: %.*s\n", d->type, (int)d->data_size, d->data);
 *         if (busy()) {
 *             millrace_error(d, "busy");
 *             millrace_after(d, 5.0);
 *             return MILLRACE_RETRY;
 *         }
 *         return MILLRACE_OK;
 *     }
 *
 *     int main(void)
 *     {
 *         return millrace_run(handle, NULL);
 *     }
 *
 * Deliveries are handled one after the other in the calling thread. Everything in a delivery is
 * valid until the handler returns. For a subscription with `batch` the handler gets an array:
 *
 *     static enum millrace_verdict handle(struct millrace_delivery *batch, size_t n, void *context)
 *     {
 *         for (size_t i = 0; i < n; i++) {
 *             millrace_answer(&batch[i], store(&batch[i], context));
 *         }
 *         return MILLRACE_OK;
 *     }
 *
 *     int main(void)
 *     {
 *         return millrace_run_batch(handle, NULL);
 *     }
 *
 * The protocol below this is docs/worker-protocol.md. */
#ifndef MILLRACE_H
#define MILLRACE_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum millrace_verdict {
    MILLRACE_OK = 0,
    MILLRACE_RETRY, /* try again: after the subscription's schedule, or millrace_after() */
    MILLRACE_DROP,  /* handled by doing nothing */
    MILLRACE_DEAD   /* no attempt will ever help */
};

struct millrace_delivery {
    const char *delivery; /* the same for all attempts: use it to be idempotent */
    unsigned attempt;     /* from 1 */
    int last;             /* a retry now ends it */
    const char *deadline; /* RFC 3339 */
    /* The event. Absent attributes are "". */
    const char *id;
    const char *source;
    const char *type;
    const char *subject;
    const char *datacontenttype;
    const char *data; /* JSON text for JSON data, else the bytes; a NUL follows; NULL: no data */
    size_t data_size;
    const char *json; /* the whole event as CloudEvents JSON; a NUL follows */
    size_t json_size;
    void *internal; /* the library's own */
};

typedef enum millrace_verdict (*millrace_handler)(struct millrace_delivery *delivery,
                                                  void *context);

/* Handles @p count deliveries, one or more, at once. What it returns is the verdict of those it
 * did not millrace_answer(): MILLRACE_OK, they are done, MILLRACE_DROP or _DEAD, they end so.
 * MILLRACE_RETRY: the batch failed as a whole, they are tried again in halves, at no cost, until
 * one is alone; what millrace_error() and millrace_after() said of one of them is said of all. */
typedef enum millrace_verdict (*millrace_batch_handler)(struct millrace_delivery *batch,
                                                        size_t count, void *context);

/* Taking over several is for handlers that are short: an answer may wait for the handler after. */
struct millrace_options {
    int fd;              /* descriptor of the socket; 0 means 3 */
    unsigned max;        /* deliveries, batches taken over at once, handled in turn; 0 means 1 */
    const char *version; /* shown with each attempt; NULL: none */
};

/* Serves deliveries until Millrace says stop. Returns 0, or 1 when descriptor 3 is no socket or
 * memory is short (with a line on standard error): what main() should return. What was not answered
 * then is tried again. */
int millrace_run(millrace_handler handler, void *context);
int millrace_run_with(millrace_handler handler, void *context,
                      const struct millrace_options *options);

/* The same for batches; a delivery that comes by itself is a batch of one. */
int millrace_run_batch(millrace_batch_handler handler, void *context);
int millrace_run_batch_with(millrace_batch_handler handler, void *context,
                            const struct millrace_options *options);

/* What becomes of one delivery of a batch; it costs the others nothing. The last word counts. */
void millrace_answer(struct millrace_delivery *delivery, enum millrace_verdict verdict);

/* What a handler may say; texts are copied. 0: done; -1: memory is short, nothing changed. */
int millrace_error(struct millrace_delivery *delivery, const char *text);
int millrace_after(struct millrace_delivery *delivery, double seconds);
int millrace_result(struct millrace_delivery *delivery, const char *json);
int millrace_emit(struct millrace_delivery *delivery, const char *event_json);
/* Extends the time of a handler that runs long; progress is JSON or NULL. */
int millrace_heartbeat(struct millrace_delivery *delivery, const char *progress_json);
/* Whether Millrace gave the delivery up: a long handler looks now and then and returns. */
int millrace_cancelled(struct millrace_delivery *delivery);

/* The attribute of the event, decoded, or NULL. Valid until the handler returns. */
const char *millrace_attribute(struct millrace_delivery *delivery, const char *name);

#ifdef __cplusplus
}
#endif

#endif
