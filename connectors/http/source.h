/* The http source: CloudEvents over HTTP in all three modes, or raw bodies wrapped. A request is
 * answered 202 only when its events are durable, all of them together or none.
 *
 * It has no thread: decoding, submitting and answering happen on the listener's, in groups, one
 * batch for what one pass of the listener's loop brought. */
#ifndef MR_CONNECTORS_HTTP_SOURCE_H
#define MR_CONNECTORS_HTTP_SOURCE_H

#include "connectors/connector.h"

enum mr_http_adapter {
    MR_HTTP_ADAPTER_AUTO = 0, /* today the same as cloudevents */
    MR_HTTP_ADAPTER_CLOUDEVENTS,
    MR_HTTP_ADAPTER_GENERIC, /* a body that is no CloudEvent becomes the data of one */
};

/* Options of `sources: x: {http: …}`. */
struct mr_http_source_options {
    char *path;
    int adapter;             /* enum mr_http_adapter */
    char *type;              /* of generic events */
    struct mr_secret *token; /* wanted as Authorization: Bearer; NULL: none */
    uint64_t pending_max;    /* bytes of events that wait to become durable */
};

extern const struct mr_option mr_http_source_option_table[];

/** The check of the source kind: what the table cannot say about the path. */
enum mr_status mr_http_source_check(const void *options, struct mr_problem *problem);

extern const struct mr_source_ops mr_http_source_ops;

#endif
