/* One page of ListObjectsV2 (keys URL-encoded, as we ask for). Pure. */
#ifndef MR_CONNECTORS_OBJECTSTORE_LISTING_H
#define MR_CONNECTORS_OBJECTSTORE_LISTING_H

#include "connectors/objectstore/xml.h"
#include "core/problem.h"

#define MR_OBJECT_KEY_SIZE_MAX 1024u /* of S3 */
#define MR_OBJECT_ETAG_SIZE_MAX 128u /* without its quotes; ours, stores use up to 40 */

/* What is known of an object. */
struct mr_object {
    struct mr_buf key;  /* decoded */
    struct mr_buf etag; /* without quotes */
    uint64_t size;
    int64_t modified_ns; /* since 1970 */
};
void mr__object_init(struct mr_object *object);
void mr__object_release(struct mr_object *object);
/** Copies @p from into the initialised @p to. @return MR_E_NOMEM */
MR_MUST_USE enum mr_status mr__object_copy(struct mr_object *to, const struct mr_object *from);

struct mr_listing {
    struct mr_xml xml;
    bool is_truncated;
    bool is_encoded;     /* the keys of this page are URL-encoded */
    struct mr_buf scratch;
};

void mr__listing_init(struct mr_listing *listing);
void mr__listing_release(struct mr_listing *listing);
/** Reads the whole page over: that it is one and is whole.
 * @param page borrowed until the next open
 * @return MR_E_INVALID with the reason, MR_E_NOMEM */
MR_MUST_USE enum mr_status mr__listing_open(struct mr_listing *listing, struct mr_bytes page,
                                            struct mr_problem *problem);
/** The next object of the page, in the order of the page.
 * @return MR_E_NOT_FOUND behind the last; MR_E_INVALID with the reason, MR_E_NOMEM */
MR_MUST_USE enum mr_status mr__listing_next(struct mr_listing *listing, struct mr_object *object,
                                            struct mr_problem *problem);

#endif
