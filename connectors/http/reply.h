/* An HTTP/1.1 response, read as it arrives: a parser without input or output of its own. What it
 * reads goes into an exchange. Bounded: the header to MR_HTTP_HEADER_SIZE_MAX, a chunk line and
 * the trailer likewise; the body by the exchange. Interim (1xx) responses are skipped.
 *
 * Strict where lenience is how requests get mixed up: lengths are digits, differing lengths or an
 * unknown transfer coding break the connection, a length beside chunks ends it afterwards. */
#ifndef MR_CONNECTORS_HTTP_REPLY_H
#define MR_CONNECTORS_HTTP_REPLY_H

#include "connectors/http/exchange.h"

enum mr_http_reply_result {
    MR_HTTP_REPLY_MORE = 1,
    MR_HTTP_REPLY_DONE,
    MR_HTTP_REPLY_BROKEN, /* `broken` says why */
};

enum mr_http_reply_state {
    MR_HTTP_REPLY_STATUS_LINE = 1,
    MR_HTTP_REPLY_FIELDS,
    MR_HTTP_REPLY_BODY_SIZED,
    MR_HTTP_REPLY_BODY_TO_END, /* until the connection closes */
    MR_HTTP_REPLY_CHUNK_LINE,
    MR_HTTP_REPLY_CHUNK_DATA,
    MR_HTTP_REPLY_CHUNK_END,
    MR_HTTP_REPLY_TRAILER,
    MR_HTTP_REPLY_OVER,
};

struct mr_http_reply {
    struct mr_http_exchange *x; /* borrowed */
    enum mr_http_reply_state state;
    struct mr_buf line;  /* the beginning of a line whose end is not there yet */
    size_t head_size;    /* of header lines so far */
    uint64_t left;       /* of a sized body or a chunk */
    uint64_t length;     /* Content-Length */
    unsigned status;
    bool has_length;
    bool is_chunked;
    bool keep_alive;     /* the connection may be used again, once DONE */
    bool any;            /* a byte came */
    const char *broken;  /* static */
};

/** Once in the life of @p reply. */
void mr_http_reply_init(struct mr_http_reply *reply);
void mr_http_reply_release(struct mr_http_reply *reply);
/** Ready for the response to @p x. */
void mr_http_reply_begin(struct mr_http_reply *reply, struct mr_http_exchange *x);
/** Takes what came. When DONE, *ret_used tells how much of it was the response's; what is behind
 * was not asked for. */
enum mr_http_reply_result mr_http_reply_feed(struct mr_http_reply *reply, struct mr_bytes data,
                                             size_t *ret_used);
/** The connection closed. @return DONE or BROKEN */
enum mr_http_reply_result mr_http_reply_end(struct mr_http_reply *reply);

#endif
