/* Content-Encoding of a request's body: gzip and zstd, each only where the options take it. What
 * comes out is bounded in size and in its ratio to what came in. Pure, but for memory. */
#ifndef MR_CONNECTORS_HTTP_CONTENT_H
#define MR_CONNECTORS_HTTP_CONTENT_H

#include "core/bytes.h"
#include "core/problem.h"

enum mr_http_coding {
    MR_HTTP_CODING_GZIP = 1,
    MR_HTTP_CODING_ZSTD = 2,
};

/** Takes @p body out of @p encoding (the header's value; empty or "identity": it is returned as it
 * is).
 * @param taken enum mr_http_coding, or-ed
 * @param size_max of the decoded body
 * @param plain an empty buffer with a maximum of at least @p size_max; holds what was decoded
 * @param[out] ret_body @p body or a slice of @p plain
 * @return MR_E_UNSUPPORTED: an encoding we do not take (415); MR_E_INVALID: the body is not what it
 * claims to be; MR_E_TOO_BIG; MR_E_NOMEM */
MR_MUST_USE enum mr_status mr_http_content_decode(unsigned taken, struct mr_bytes encoding,
                                                  struct mr_bytes body, size_t size_max,
                                                  struct mr_buf *plain, struct mr_bytes *ret_body,
                                                  struct mr_problem *problem);

#endif
